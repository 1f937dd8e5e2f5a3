//! A histogram's buckets gathered into a few classes that a person can look at.

use super::units::{Unit, span, tick};
use crate::record::Latency;

/// A class: the values from `low` (inclusive) to `high` (exclusive, but for the last class), in nanoseconds.
#[derive(Clone, PartialEq, Debug)]
pub struct Class {
    pub low: f64,
    pub high: f64,
    pub count: u64,
    /// How its range is written, such as `8.0 – 8.5 µs` or `≥ 12.0 µs`.
    pub label: String,
}

/// Classes over a latency, each of which begins where the one before it ends.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Classes {
    pub classes: Vec<Class>,
}

/// Classes of one width reach from the first of these quantiles to the second at least. What lies far outside shares
/// the first or the last class.
const BODY: [f64; 2] = [0.05, 0.95];

/// A latency whose body ends at more than this many times its begin is shown in classes that grow.
const LINEAR_RATIO: f64 = 4.0;

/// The extent of a latency, in nanoseconds.
struct Extent {
    min: f64,
    /// Begin and end of the body.
    body: [f64; 2],
    max: f64,
    /// The width of a bucket at the end of the body.
    bucket: f64,
}

impl Extent {
    /// That of `latency`, if it has any values.
    fn of(latency: &Latency) -> Option<Extent> {
        let [begin, end] = BODY.map(|quantile| latency.quantile(quantile));
        let (begin, end) = (begin?, end?);
        let last = latency.iter().find(|bucket| bucket.high >= end);
        Some(Extent {
            min: latency.moments().min()? as f64,
            body: [begin as f64, end as f64],
            max: latency.moments().max()? as f64,
            bucket: last.map_or(1.0, |bucket| (bucket.high - bucket.low) as f64 + 1.0),
        })
    }
}

impl Classes {
    /// Gathers `latency` into at most `rows` classes (at least 5).
    ///
    /// Classes of one width show the body of the values, the middle 90 %; what lies far outside is one class more on
    /// that side. Where the body itself is wide, classes grow by a constant factor instead. Their edges are round
    /// numbers.
    pub fn new(latency: &Latency, rows: usize) -> Classes {
        // More classes than twice the square root of the number of values show noise.
        let shown = (2.0 * (latency.count() as f64).sqrt()).ceil() as usize;
        let rows = shown.min(rows).max(5) as f64;
        let Some(extent) = Extent::of(latency) else {
            return Classes::default();
        };
        let [begin, end] = extent.body;
        let mut classes = if end / begin.max(1.0) <= LINEAR_RATIO {
            Self::linear(&extent, rows)
        } else {
            Self::growing(&extent, rows)
        };
        for bucket in latency.iter() {
            let middle = bucket.low as f64 / 2.0 + bucket.high as f64 / 2.0;
            let middle = middle.clamp(extent.min, extent.max);
            let index = classes.partition_point(|class| class.high <= middle);
            let last = classes.len() - 1;
            classes[index.min(last)].count += bucket.count;
        }
        Classes { classes }
    }

    fn linear(extent: &Extent, rows: f64) -> Vec<Class> {
        let Extent {
            min,
            body: [begin, end],
            max,
            bucket,
        } = *extent;
        /// How much wider than the body its classes reach, so that what trails off beside it is seen.
        const ROOM: f64 = 1.25;
        // Two rows are for what lies outside. No finer than the buckets, which would leave gaps.
        let mut step = nice_step((ROOM * (end - begin) / (rows - 3.0)).max(bucket));
        let needed =
            |from: f64, to: f64, step: f64| (to / step).floor() - (from / step).floor() + 1.0;
        while needed(begin, end, step) > rows - 2.0 {
            step = nice_step(step * 1.01);
        }
        // What fits is shown; the body always does.
        let mut from = begin;
        let mut to = end;
        let mut left = rows - needed(begin, end, step);
        if needed(min, end, step) + f64::from(u8::from(max > end)) <= rows {
            from = min;
            left = rows - needed(min, end, step);
        } else {
            left -= 1.0;
        }
        if needed(end, max, step) - 1.0 <= left {
            to = max;
        }
        let first = (from / step).floor();
        let number = needed(from, to, step) as usize;
        let edge = |index: usize| (first + index as f64) * step;
        let unit = Unit::of(edge(number));
        let decimals = (-(step / unit.nanos()).log10()).ceil().max(0.0) as usize;
        let written = |nanos: f64| format!("{:.decimals$}", nanos / unit.nanos());
        let symbol = unit.symbol();
        let class = |low: f64, high: f64, label: String| Class {
            low,
            high,
            count: 0,
            label,
        };
        let mut classes = Vec::with_capacity(number + 2);
        if edge(0) > min {
            classes.push(class(
                min,
                edge(0),
                format!("< {} {symbol}", written(edge(0))),
            ));
        }
        classes.extend((0..number).map(|index| {
            let (low, high) = (edge(index), edge(index + 1));
            class(
                low,
                high,
                format!("{} – {} {symbol}", written(low), written(high)),
            )
        }));
        if edge(number) <= max {
            classes.push(class(
                edge(number),
                max,
                format!("≥ {} {symbol}", written(edge(number))),
            ));
        }
        classes
    }

    fn growing(extent: &Extent, rows: f64) -> Vec<Class> {
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
        let (min, max) = (extent.min.max(1.0), extent.max);
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
            label: format!("{} – {}", span(pair[0] as u64), span(pair[1] as u64)),
        });
        classes.collect()
    }

    /// How the edge before class `index` is written, or the last one's end.
    pub fn edge_label(&self, index: usize) -> String {
        let edges = self.classes.iter().map(|class| class.low);
        let last = self.classes.last().map(|class| class.high);
        edges.chain(last).nth(index).map_or_else(String::new, tick)
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
            for rows in [5, 10, 20] {
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
        assert_eq!(classes.classes[0].label, "8.0 – 8.5 µs");
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
    fn outliers_on_both_sides_share_a_class_each() {
        let values = (0..1_000)
            .map(|i| 60_000 + i * 15)
            .chain([8_870, 9_000, 900_000]);
        let classes = Classes::new(&of(values), 20).classes;
        let told = |class: &Class| (class.label.clone(), class.count);
        assert_eq!(told(&classes[0]), ("< 60 µs".to_owned(), 2));
        assert_eq!(told(&classes[1]), ("60 – 61 µs".to_owned(), 67));
        assert_eq!(told(&classes[classes.len() - 1]), ("≥ 75 µs".to_owned(), 1));
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
