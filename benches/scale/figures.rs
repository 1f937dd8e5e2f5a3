//! The values of each figure, one for each round, and how they are written.

use std::collections::BTreeMap;

#[derive(Default)]
pub struct Figures(BTreeMap<&'static str, Vec<f64>>);

impl Figures {
    pub fn add(&mut self, name: &'static str, value: f64) {
        self.0.entry(name).or_default().push(value);
    }

    fn median(&self, name: &str) -> Option<f64> {
        let mut values = self.0.get(name)?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    fn tell(&self, name: &str, write: impl Fn(f64) -> String) -> String {
        self.median(name).map_or("–".to_owned(), write)
    }

    pub fn seconds(&self, name: &str) -> String {
        self.tell(name, |value| {
            if value < 0.1 {
                format!("{:.1} ms", value * 1e3)
            } else {
                format!("{value:.2} s")
            }
        })
    }

    pub fn ratio(&self, name: &str) -> String {
        self.tell(name, |value| format!("{value:.2}"))
    }

    pub fn whole(&self, name: &str) -> String {
        self.tell(name, |value| {
            let digits = format!("{value:.0}");
            let split = digits.len().saturating_sub(3);
            match digits.split_at_checked(split) {
                Some((thousands, rest)) if split > 0 => format!("{thousands},{rest}"),
                _ => digits,
            }
        })
    }
}
