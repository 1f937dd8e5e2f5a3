//! Axes of latency: which range they show, whether it grows by steps or by factors, and where they are marked.

use super::bins::nice_step;
use super::units::tick;

/// From this ratio of greatest to least on, an axis is logarithmic.
const LOG_RATIO: f64 = 12.0;

/// An axis of nanoseconds.
#[derive(Clone, PartialEq, Debug)]
pub struct Axis {
    log: bool,
    /// The range shown, in nanoseconds.
    from: f64,
    to: f64,
    /// The marks, in nanoseconds.
    ticks: Vec<f64>,
}

impl Axis {
    /// An axis that shows everything from `least` to `greatest` nanoseconds, with about `ticks` marks.
    pub fn new(least: f64, greatest: f64, ticks: usize) -> Axis {
        let greatest = greatest.max(1.0);
        if greatest / least.max(1.0) > LOG_RATIO {
            return Self::logarithmic(least.max(1.0), greatest, ticks);
        }
        let step = nice_step(greatest / ticks.max(1) as f64).max(1.0);
        let marks = (greatest / step).ceil();
        Axis {
            log: false,
            from: 0.0,
            to: marks * step,
            ticks: (0..=marks as u32)
                .map(|mark| f64::from(mark) * step)
                .collect(),
        }
    }

    fn logarithmic(least: f64, greatest: f64, ticks: usize) -> Axis {
        const GRAINS: [&[f64]; 2] = [&[1.0, 2.0, 5.0], &[1.0]];
        let marks_of = |grain: &[f64]| -> Vec<f64> {
            let decades = least.log10().floor() as i32..=greatest.log10().ceil() as i32;
            decades
                .flat_map(|decade| grain.iter().map(move |mark| mark * 10_f64.powi(decade)))
                .collect()
        };
        // The finest grain sets the range, a grain with few enough marks in it the marks.
        let fine = marks_of(GRAINS[0]);
        let below = fine.iter().rev().find(|mark| **mark <= least);
        let above = fine.iter().find(|mark| **mark >= greatest);
        let (from, to) = (*below.unwrap_or(&least), *above.unwrap_or(&greatest));
        let shown = GRAINS.map(|grain| {
            let mut marks = marks_of(grain);
            marks.retain(|mark| (from..=to).contains(mark));
            marks
        });
        let [fine, coarse] = shown;
        Axis {
            log: true,
            from,
            to,
            ticks: if fine.len() <= ticks { fine } else { coarse },
        }
    }

    /// Where `nanos` lies on the axis, in the axis' own coordinates.
    pub fn position(&self, nanos: f64) -> f64 {
        if self.log {
            nanos.max(self.from).log10()
        } else {
            nanos
        }
    }

    /// The label of the mark at `position`.
    pub fn label(&self, position: f64) -> String {
        tick(if self.log {
            10_f64.powf(position)
        } else {
            position
        })
    }

    /// The range in the axis' own coordinates.
    pub fn range(&self) -> std::ops::Range<f64> {
        self.position(self.from)..self.position(self.to)
    }

    /// Where the marks lie, in the axis' own coordinates.
    pub fn ticks(&self) -> Vec<f64> {
        self.ticks.iter().map(|mark| self.position(*mark)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_the_range_covers_the_values() {
        for (least, greatest, labels) in [
            (
                8_000.0,
                12_000.0,
                "0 | 2 µs | 4 µs | 6 µs | 8 µs | 10 µs | 12 µs",
            ),
            (
                8_000.0,
                160_000.0,
                "5 µs | 10 µs | 20 µs | 50 µs | 100 µs | 200 µs",
            ),
            (
                1_000.0,
                5e9,
                "1 µs | 10 µs | 100 µs | 1 ms | 10 ms | 100 ms | 1 s",
            ),
            (0.0, 0.0, "0 | 1 ns"),
        ] {
            let axis = Axis::new(least, greatest, 6);
            let told: Vec<_> = axis.ticks().into_iter().map(|at| axis.label(at)).collect();
            assert_eq!(told.join(" | "), labels);
            let range = axis.range();
            assert!(range.start <= axis.position(least) && axis.position(greatest) <= range.end);
            assert!(range.start < range.end);
        }
    }
}
