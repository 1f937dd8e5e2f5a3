//! The table of what is measured from a mark on: one row for each figure of a flow.

use std::fmt;
use std::str::FromStr;

/// A figure of each flow since a mark, recorded as a histogram over the flows. The names are stable: reports, files and
/// expectations have them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MarkMetric {
    /// See [`MarkMetric::doc`].
    FirstPass,
    /// See [`MarkMetric::doc`].
    LastPass,
    /// See [`MarkMetric::doc`].
    LongestGap,
    /// See [`MarkMetric::doc`].
    Changes,
}

impl MarkMetric {
    /// Every figure, in the order in which reports list them.
    pub const ALL: &'static [MarkMetric] = &[
        MarkMetric::FirstPass,
        MarkMetric::LastPass,
        MarkMetric::LongestGap,
        MarkMetric::Changes,
    ];

    /// Returns the one word for it, everywhere: `first_pass`.
    pub const fn name(self) -> &'static str {
        match self {
            MarkMetric::FirstPass => "first_pass",
            MarkMetric::LastPass => "last_pass",
            MarkMetric::LongestGap => "longest_gap",
            MarkMetric::Changes => "changes",
        }
    }

    /// Returns its description, in a sentence.
    pub const fn doc(self) -> &'static str {
        match self {
            MarkMetric::FirstPass => {
                "From the mark to the receipt of the first answer to a ping that was due after it, of each flow that got one."
            }
            MarkMetric::LastPass => {
                "From the mark to the receipt of the last answer to a ping that was due after it, of each flow that got one."
            }
            MarkMetric::LongestGap => {
                "The longest time between the receipts of two answers that follow one another, of each flow that got two."
            }
            MarkMetric::Changes => {
                "How often a ping was answered and the next one was not, or the reverse, of each flow."
            }
        }
    }

    /// Returns true if its values are nanoseconds; else they are counts.
    pub const fn is_time(self) -> bool {
        !matches!(self, MarkMetric::Changes)
    }

    /// Returns the names of all figures with a comma between them, for messages and help.
    pub fn names() -> String {
        let names: Vec<_> = Self::ALL.iter().map(|metric| metric.name()).collect();
        names.join(", ")
    }
}

impl fmt::Display for MarkMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No figure of a mark has this name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "no figure of a mark is named {name:?}; expected one of {}",
    MarkMetric::names()
)]
pub struct UnknownMarkMetric {
    /// The name.
    pub name: String,
}

impl FromStr for MarkMetric {
    type Err = UnknownMarkMetric;

    fn from_str(name: &str) -> Result<MarkMetric, UnknownMarkMetric> {
        let found = Self::ALL.iter().find(|metric| metric.name() == name);
        found.copied().ok_or_else(|| UnknownMarkMetric {
            name: name.to_owned(),
        })
    }
}
