//! A histogram's buckets gathered into a few classes that a person can look at.

use super::units::{Unit, span, tick};
use crate::record::Latency;

/// A class: the values from `low` (inclusive) to `high` (exclusive, but for the last class), in nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Class {
    pub low: f64,
    pub high: f64,
    pub count: u64,
}

/// Classes over a latency, and how their edges are written.
#[derive(Clone, PartialEq, Debug)]
pub struct Classes {
    pub classes: Vec<Class>,
    /// The width of the classes and the unit of their edges where they are all of one width.
    step: Option<(f64, Unit)>,
}

/// Classes of one width reach to this quantile at least; what is far beyond it shares the last class.
const BODY: f64 = 0.95;

/// A latency whose body ends at more than this many times its least value is shown in classes that grow.
const LINEAR_RATIO: f64 = 4.0;

impl Classes {
    /// Gathers `latency` into at most `rows` classes (at least 4).
    ///
    /// Classes of one width show the body of the values, the least 95 %; what lies far beyond is one last class. Where
    /// the body itself is wide, classes grow by a constant factor instead. Their edges are round numbers.
    pub fn new(latency: &Latency, rows: usize) -> Classes {
        // More classes than twice the square root of the number of values show noise.
        let shown = (2.0 * (latency.count() as f64).sqrt()).ceil() as usize;
        let rows = shown.min(rows).max(4) as f64;
        let (Some(min), Some(max)) = (latency.moments().min(), latency.moments().max()) else {
            return Classes {
                classes: Vec::new(),
                step: None,
            };
        };
        let (min, max) = (min as f64, max as f64);
        let body = latency.quantile(BODY).map_or(max, |end| end as f64);
        let mut classes = if body / min.max(1.0) <= LINEAR_RATIO {
            Self::linear(latency, min, body, max, rows)
        } else {
            Self::growing(min, max, rows)
        };
        for bucket in latency.iter() {
            let middle = (bucket.low as f64 / 2.0 + bucket.high as f64 / 2.0).clamp(min, max);
            let classes = &mut classes.classes;
            let index = classes.partition_point(|class| class.high <= middle);
            let last = classes.len() - 1;
            classes[index.min(last)].count += bucket.count;
        }
        classes
    }

    fn linear(latency: &Latency, min: f64, body: f64, max: f64, rows: f64) -> Classes {
        // No finer than the buckets, which would leave gaps.
        let finest = latency.iter().find(|bucket| bucket.high as f64 >= body);
        let finest = finest.map_or(1, |bucket| bucket.high - bucket.low + 1);
        let mut step = nice_step(((body - min) / (rows - 2.0)).max(finest as f64).max(1.0));
        let from = loop {
            let from = (min / step).floor() * step;
            if (body - from) / step < rows - 1.0 {
                break from;
            }
            step = nice_step(step * 1.01);
        };
        let until = |value: f64| ((value - from) / step).floor() as usize + 1;
        let all = until(max);
        let shown = if all as f64 <= rows { all } else { until(body) };
        let edge = |index: usize| from + index as f64 * step;
        let class = |low, high| Class {
            low,
            high,
            count: 0,
        };
        let mut classes: Vec<_> = (0..shown)
            .map(|index| class(edge(index), edge(index + 1)))
            .collect();
        if shown < all {
            classes.push(class(edge(shown), max));
        }
        Classes {
            classes,
            step: Some((step, Unit::of(edge(shown)))),
        }
    }

    fn growing(min: f64, max: f64, rows: f64) -> Classes {
        /// Round edges within a decade, from the finest grain to the coarsest.
        const GRAINS: [&[f64]; 5] = [
            &[
                1.0, 1.1, 1.25, 1.4, 1.6, 1.8, 2.0, 2.2, 2.5, 2.8, 3.2, 3.6, 4.0, 4.5, 5.0, 5.6,
                6.3, 7.1, 8.0, 9.0,
            ],
            &[1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0],
            &[1.0, 1.6, 2.5, 4.0, 6.3],
            &[1.0, 2.0, 5.0],
            &[1.0],
        ];
        let min = min.max(1.0);
        let edges_of = |grain: &[f64]| {
            let decades = min.log10().floor() as i32..=max.log10().floor() as i32 + 1;
            let edges: Vec<f64> = decades
                .flat_map(|decade| grain.iter().map(move |edge| edge * 10_f64.powi(decade)))
                .collect();
            let first = edges.partition_point(|edge| *edge <= min).saturating_sub(1);
            let last = edges.partition_point(|edge| *edge <= max);
            edges[first..=last.min(edges.len() - 1)].to_vec()
        };
        let fits = |edges: &Vec<f64>| edges.len() as f64 - 1.0 <= rows;
        let edges = GRAINS.iter().map(|grain| edges_of(grain)).find(fits);
        let edges = edges.unwrap_or_else(|| vec![min, max]);
        let classes = edges.windows(2).map(|pair| Class {
            low: pair[0],
            high: pair[1],
            count: 0,
        });
        Classes {
            classes: classes.collect(),
            step: None,
        }
    }

    /// How the edge before class `index` is written, or the last one's end.
    pub fn edge_label(&self, index: usize) -> String {
        let edges = self.classes.iter().map(|class| class.low);
        let last = self.classes.last().map(|class| class.high);
        edges.chain(last).nth(index).map_or_else(String::new, tick)
    }

    /// How the edges of `class` are written, such as `8.0 – 8.5 µs`.
    pub fn label(&self, class: &Class) -> String {
        match self.step {
            Some((step, unit)) => {
                let decimals = (-(step / unit.nanos()).log10()).ceil().max(0.0) as usize;
                let number = |nanos: f64| format!("{:.decimals$}", nanos / unit.nanos());
                let (low, high) = (number(class.low), number(class.high));
                format!("{low} – {high} {}", unit.symbol())
            }
            None => format!("{} – {}", span(class.low as u64), span(class.high as u64)),
        }
    }
}

/// The least of 1, 2, 5, 10, 20, … that is not below `least`.
pub fn nice_step(least: f64) -> f64 {
    let decade = 10_f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().map(|step| step * decade);
    step.into_iter()
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(10.0 * decade)
}

/// A horizontal bar of `share` (0 to 1) of `width` columns, drawn to an eighth of one. What is not zero is visible.
pub fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let eighths = eighths.max(usize::from(share > 0.0));
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Latency {
        let mut latency = Latency::new();
        values.into_iter().for_each(|value| latency.record(value));
        latency
    }

    fn series() -> Vec<(&'static str, Latency)> {
        vec![
            ("one value", of([8_400])),
            ("zero", of([0, 0, 0])),
            ("zero and one", of([0, 1])),
            ("narrow", of((0..1_000).map(|i| 1_000_000 + i))),
            ("linear", of((0..1_000).map(|i| 8_000 + i * 7))),
            (
                "one far outlier",
                of((0..1_000).map(|i| 8_000 + i * 7).chain([4_000_000])),
            ),
            ("five decades", of((0..1_000).map(|i| 1_000 + i * i * i))),
            ("everything", of((0..64).map(|bit| 1 << bit))),
        ]
    }

    #[test]
    fn every_value_is_in_one_class_and_no_more_classes_than_rows() {
        for (name, latency) in series() {
            for rows in [4, 10, 20] {
                let classes = Classes::new(&latency, rows).classes;
                assert!(classes.len() <= rows, "{name}: {} rows", classes.len());
                let counted: u64 = classes.iter().map(|class| class.count).sum();
                assert_eq!(counted, latency.count(), "{name}");
                let joined = classes.windows(2).all(|pair| pair[0].high == pair[1].low);
                assert!(joined, "{name}: {classes:?}");
            }
        }
    }

    #[test]
    fn edges_are_round_numbers_in_a_fitting_unit() {
        let classes = Classes::new(&of((0..100).map(|i| 8_000 + i * 70)), 20);
        assert_eq!(classes.label(&classes.classes[0]), "8.0 – 8.5 µs");
        assert_eq!(classes.classes.len(), 14);
    }

    #[test]
    fn a_far_outlier_does_not_squeeze_the_others_into_one_class() {
        let classes = Classes::new(
            &of((0..1_000).map(|i| 8_000 + i * 7).chain([4_000_000])),
            20,
        );
        let filled = classes.classes.iter().filter(|class| class.count > 0);
        assert!(filled.count() >= 10, "{classes:?}");
        assert_eq!(classes.classes.last().map(|class| class.high), Some(4e6));
    }

    #[test]
    fn no_values_make_no_classes() {
        assert!(Classes::new(&Latency::new(), 20).classes.is_empty());
    }

    #[test]
    fn bars_are_drawn_to_an_eighth_of_a_column() {
        for (share, text) in [
            (0.0, ""),
            (1e-9, "▏"),
            (0.5, "██"),
            (0.53125, "██▏"),
            (1.0, "████"),
            (7.0, "████"),
        ] {
            assert_eq!(bar(share, 4), text, "{share}");
        }
    }
}
