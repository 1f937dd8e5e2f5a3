//! The table of what is measured as a histogram: one row for each metric.
//!
//! Everything that lists metrics reads this table: the recorder and its phases, the JSON document, the text, the page, the
//! table of values, the files of HdrHistogram, merged and compared runs, `--expect` and its help. A metric more is one row
//! more, and one call that records it.

use std::fmt;
use std::ops::{Index, IndexMut};
use std::str::FromStr;

/// Declares [`Metric`]. A row is its doc, its variant, its scope, its unit, its name, and the name of its summary in the
/// JSON document. Rows of [`Scope::Run`] come last.
macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $metric:ident: $scope:ident, $unit:literal, $name:literal => $summary:literal;)*) => {
        /// A latency that is recorded as a histogram. The names are stable: reports, files and expectations have them.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Metric {
            $($(#[doc = $doc])+ $metric,)*
        }

        impl Metric {
            /// Every metric, in the order in which reports list them.
            pub const ALL: &'static [Metric] = &[$(Metric::$metric,)*];

            /// The one word for it, everywhere: `rtt`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Metric::$metric => $name,)*
                }
            }

            /// The name of its summary in the JSON document: `rtt_ns`.
            pub const fn summary_name(self) -> &'static str {
                match self {
                    $(Metric::$metric => $summary,)*
                }
            }

            /// Its description, in a sentence.
            pub fn doc(self) -> &'static str {
                match self {
                    $(Metric::$metric => concat!($($doc,)+).trim(),)*
                }
            }

            /// Its scope.
            pub const fn scope(self) -> Scope {
                match self {
                    $(Metric::$metric => Scope::$scope,)*
                }
            }

            /// The unit of its values: `ns`.
            pub const fn unit(self) -> &'static str {
                match self {
                    $(Metric::$metric => $unit,)*
                }
            }
        }
    };
}

metrics! {
    /// received − sent: what the network did to the ping.
    Rtt: Second, "ns", "rtt" => "rtt_ns";
    /// received − due: what a user would have felt, free of coordinated omission.
    Response: Second, "ns", "response" => "response_ns";
    /// sent − due: the tool's own fault, of pings and of frames of streams.
    Lateness: Phase, "ns", "lateness" => "lateness_ns";
    /// How long a frame that had come waited for the tool itself.
    Lag: Phase, "ns", "lag" => "lag_ns";
    /// From the sending of a ping until the VM of the run that it is for has read it; with `--one-way`.
    Forward: Run, "ns", "forward" => "forward_ns";
    /// From then until its reply is read; with `--one-way`.
    Backward: Run, "ns", "backward" => "backward_ns";
    /// From the sending of a frame of a stream until a VM of the run that it is for has read it.
    Stream: Run, "ns", "stream" => "stream_ns";
    /// The rtt between VMs of the same leaf of a tree of bridges.
    WithinLeaf: Run, "ns", "within_leaf" => "rtt_within_leaf_ns";
    /// The rtt between VMs of different leaves.
    AcrossLeaves: Run, "ns", "across_leaves" => "rtt_across_leaves_ns";
    /// The part of rtt that was measured across a pause of the process, and is not the network's.
    Paused: Run, "ns", "paused" => "rtt_paused_ns";
    /// How long a neighbour's address took to find over IPv4, from the first request to the reply.
    Resolution: Run, "ns", "resolution" => "resolution_ns";
    /// How long a neighbour's address took to find over IPv6, from the first request to the reply.
    Resolution6: Run, "ns", "resolution6" => "resolution6_ns";
    /// How long a VM took to get its address by DHCP, from the first message to the grant.
    Lease: Run, "ns", "lease" => "lease_ns";
    /// The rtt of the first ping of each flow.
    First: Run, "ns", "first" => "first_ns";
    /// How long it took until a ping was refused, because nobody listens at the port that it is for.
    Refused: Run, "ns", "refused" => "refused_ns";
    /// By how much a frame that `--impair` held was released too late.
    Release: Run, "ns", "release" => "release_ns";
    /// From the making of a VM to the first answer to a ping of its own.
    Boot: Run, "ns", "boot" => "boot_ns";
    /// From the last answer before a move of a VM to the first after it, of each move and flow of the VM.
    Outage: Run, "ns", "outage" => "outage_ns";
}

/// The scope of a metric: each second, each phase, or the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Each second, each phase, and the run as the sum of those phases that count.
    Second,
    /// Each phase, and the run as the sum of those that count.
    Phase,
    /// The run as a whole, a warm-up included.
    Run,
}

impl Metric {
    /// How many metrics there are.
    pub const COUNT: usize = Self::ALL.len();

    /// How many of them each phase keeps.
    pub(super) const OF_A_PHASE: usize = {
        let mut phase = 0;
        while phase < Self::COUNT && !matches!(Self::ALL[phase].scope(), Scope::Run) {
            phase += 1;
        }
        phase
    };

    /// How many of them the run keeps.
    pub(super) const OF_A_RUN: usize = Self::COUNT - Self::OF_A_PHASE;

    /// Its place among the metrics of its scope. Where the metric is known when the program is compiled, so is this.
    pub(super) const fn slot(self) -> usize {
        match self.scope() {
            Scope::Second | Scope::Phase => self as usize,
            Scope::Run => self as usize - Self::OF_A_PHASE,
        }
    }

    /// The names of all metrics with a comma between them, for messages and help.
    pub fn names() -> String {
        let names: Vec<_> = Self::ALL.iter().map(|metric| metric.name()).collect();
        names.join(", ")
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No metric has this name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no metric is named {name:?}; expected one of {}", Metric::names())]
pub struct UnknownMetric {
    /// The name.
    pub name: String,
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Metric, UnknownMetric> {
        let found = Self::ALL.iter().find(|metric| metric.name() == name);
        found.copied().ok_or_else(|| UnknownMetric {
            name: name.to_owned(),
        })
    }
}

/// One of something for each metric.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PerMetric<T>([T; Metric::COUNT]);

impl<T> PerMetric<T> {
    /// The result of `of` for each metric.
    pub fn from_fn(of: impl FnMut(Metric) -> T) -> PerMetric<T> {
        let mut of = of;
        PerMetric(std::array::from_fn(|index| of(Metric::ALL[index])))
    }

    /// Each metric with what there is of it.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, &T)> {
        Metric::ALL.iter().copied().zip(&self.0)
    }
}

impl<T> Index<Metric> for PerMetric<T> {
    type Output = T;

    fn index(&self, metric: Metric) -> &T {
        &self.0[metric as usize]
    }
}

impl<T> IndexMut<Metric> for PerMetric<T> {
    fn index_mut(&mut self, metric: Metric) -> &mut T {
        &mut self.0[metric as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_complete_and_its_names_are_its_own() {
        let mut names = Vec::new();
        for (index, metric) in Metric::ALL.iter().enumerate() {
            assert_eq!(*metric as usize, index);
            assert_eq!(metric.name().parse(), Ok(*metric));
            let summary = metric.summary_name().strip_suffix(metric.unit()).unwrap();
            let summary = summary.strip_suffix('_').unwrap();
            assert!(summary.ends_with(metric.name()), "{metric}");
            assert!(
                metric.name().len() <= 13,
                "the tables of text have 80 columns"
            );
            assert!(metric.doc().len() > 10 && metric.doc().ends_with('.'));
            names.extend([metric.name(), metric.summary_name()]);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 2 * Metric::COUNT);
    }

    #[test]
    fn metrics_of_phases_come_first_and_every_slot_is_taken_once() {
        for (is_run, slots) in [(false, Metric::OF_A_PHASE), (true, Metric::OF_A_RUN)] {
            let of_scope = Metric::ALL.iter();
            let of_scope = of_scope.filter(|metric| (metric.scope() == Scope::Run) == is_run);
            let taken: Vec<_> = of_scope.map(|metric| metric.slot()).collect();
            assert_eq!(taken, (0..slots).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_those_that_are_expected() {
        let error = "boto".parse::<Metric>().unwrap_err().to_string();
        let names = Metric::names();
        assert!(names.starts_with("rtt, response, lateness, "), "{names}");
        assert_eq!(
            error,
            format!("no metric is named \"boto\"; expected one of {names}")
        );
    }
}
