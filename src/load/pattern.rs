//! Traffic patterns, which expand to flows: `vm0:vm1`, `all:vm0`, `vm[0-49]:vm[50-99]`, `mesh`, `ring`, `pairs`,
//! `multicast`, `random:K`.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use rustc_hash::FxHashSet;

use crate::number::whole_number;
use crate::vm::VmId;

/// The destination of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// A VM of this run.
    Vm(VmId),
    /// An address outside the run's VMs.
    Address(IpAddr),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Vm(vm) => vm.fmt(f),
            Target::Address(address) => address.fmt(f),
        }
    }
}

/// A set of VMs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selection {
    /// Every VM of the run.
    All,
    /// The VMs from the first to the last, both included.
    Range(u32, u32),
}

/// A traffic pattern: a set of flows, independent of the number of VMs until it is expanded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// Sources and destinations: one to one if both sides have the same number of VMs, else every combination.
    Between(Selection, Selection),
    /// Sources that all ping one address.
    To(Selection, IpAddr),
    /// Every VM pings every other.
    Mesh,
    /// Every VM pings the next, and the last the first.
    Ring,
    /// vm0 pings vm1, vm2 pings vm3, and so on.
    Pairs,
    /// Every VM pings this many others, drawn at random from the run's seed.
    Random(u32),
    /// vm0 pings each multicast group that VMs have joined.
    Multicast,
}

/// The VMs of a run, as far as patterns depend on them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Population {
    /// The number of VMs.
    pub vms: u32,
    /// The multicast groups that VMs have joined, each once.
    pub multicast_groups: Vec<IpAddr>,
}

impl From<u32> for Population {
    /// So many VMs that are in no multicast group.
    fn from(vms: u32) -> Population {
        Population {
            vms,
            ..Population::default()
        }
    }
}

/// A text that is not a pattern, or a pattern that does not fit the number of VMs. The message says what was wrong and
/// what is expected.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

/// The forms of a pattern, for errors.
const EXPECTED: &str = "expected SRC:DST with vmI, vm[I-J] or all on each side (or an address as DST), mesh, ring, \
                        pairs, multicast or random:K";

fn error(why: impl fmt::Display) -> PatternError {
    PatternError(why.to_string())
}

impl Pattern {
    /// The patterns that are one word.
    pub const WORDS: [&str; 4] = ["mesh", "ring", "pairs", "multicast"];
}

impl FromStr for Selection {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Selection, PatternError> {
        let number = |digits: &str| {
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<u32>().ok().filter(|_| is_number)
        };
        let bad = || error(format!("{text:?} is not a VM; {EXPECTED}"));
        if text == "all" {
            return Ok(Selection::All);
        }
        let index = text.strip_prefix("vm").ok_or_else(bad)?;
        match index
            .strip_prefix('[')
            .and_then(|range| range.strip_suffix(']'))
        {
            None => number(index)
                .map(|i| Selection::Range(i, i))
                .ok_or_else(bad),
            Some(range) => {
                let (first, last) = range.split_once('-').ok_or_else(bad)?;
                match (number(first), number(last)) {
                    (Some(first), Some(last)) if first <= last => Ok(Selection::Range(first, last)),
                    (Some(first), Some(last)) => Err(error(format!(
                        "{text}: {first} is greater than {last}; expected the lower number first"
                    ))),
                    _ => Err(bad()),
                }
            }
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        match text {
            "mesh" => return Ok(Pattern::Mesh),
            "ring" => return Ok(Pattern::Ring),
            "pairs" => return Ok(Pattern::Pairs),
            "multicast" => return Ok(Pattern::Multicast),
            _ => {}
        }
        let (source, target) = text.split_once(':').ok_or_else(|| error(EXPECTED))?;
        if source == "random" {
            return match whole_number(target).map(u32::try_from) {
                Some(Ok(peers)) if peers > 0 => Ok(Pattern::Random(peers)),
                _ => Err(error("expected a number of peers after random:, 1 or more")),
            };
        }
        let source = source.parse()?;
        let literal = target
            .strip_prefix('[')
            .and_then(|t| t.strip_suffix(']'))
            .unwrap_or(target);
        match literal.parse() {
            Ok(address) => Ok(Pattern::To(source, address)),
            Err(_) => Ok(Pattern::Between(source, target.parse()?)),
        }
    }
}

impl Selection {
    /// Returns the indices of the selected VMs in a run of `vms` VMs.
    ///
    /// # Errors
    /// If a selected VM does not exist.
    pub fn range(self, vms: u32) -> Result<RangeInclusive<u32>, PatternError> {
        match self {
            Selection::All => Ok(0..=vms.saturating_sub(1)),
            Selection::Range(first, last) if last < vms => Ok(first..=last),
            Selection::Range(_, last) => {
                let expected = match vms {
                    1 => "expected vm0".to_owned(),
                    n => format!("expected vm0 to vm{}", n - 1),
                };
                Err(error(format!("there is no vm{last}; {expected}")))
            }
        }
    }
}

impl Pattern {
    /// Counts the flows among the VMs of `population` without listing them.
    ///
    /// # Errors
    /// If the pattern names a VM that does not exist, or needs more VMs or a multicast group.
    pub fn count(self, population: impl Into<Population>) -> Result<u64, PatternError> {
        let Population {
            vms,
            multicast_groups,
        } = population.into();
        if vms < 2 && !matches!(self, Pattern::To(..)) {
            self.check_names(vms)?;
            return Err(error(
                "there is one VM, and it can't ping itself; expected --vms 2 or more",
            ));
        }
        let all = u64::from(vms);
        let number = |of: &RangeInclusive<u32>| u64::from(of.end() - of.start()) + 1;
        Ok(match self {
            Pattern::To(sources, _) => number(&sources.range(vms)?),
            Pattern::Between(sources, targets) => {
                let (from, to) = (sources.range(vms)?, targets.range(vms)?);
                let same =
                    (*from.end().min(to.end()) as i64) - (*from.start().max(to.start()) as i64);
                let flows = match self.is_one_to_one(&from, &to) {
                    true if from == to => 0,
                    true => number(&from),
                    false => number(&from) * number(&to) - (same + 1).max(0) as u64,
                };
                if flows == 0 {
                    let vm = VmId(*from.start());
                    return Err(error(format!(
                        "{vm} can't ping itself; expected another VM or an address"
                    )));
                }
                flows
            }
            Pattern::Mesh => all * (all - 1),
            Pattern::Ring => all,
            Pattern::Pairs => all / 2,
            Pattern::Random(peers) if peers >= vms => {
                return Err(error(format!(
                    "each VM has {} others; expected random:1 to random:{0}",
                    vms - 1
                )));
            }
            Pattern::Random(peers) => all * u64::from(peers),
            Pattern::Multicast if multicast_groups.is_empty() => {
                return Err(error(
                    "no VM is in a multicast group; expected --join with one, such as 239.1.2.3",
                ));
            }
            Pattern::Multicast => multicast_groups.len() as u64,
        })
    }

    /// Returns true if each source pings one target: the sides have the same number of VMs and are not both `all`.
    fn is_one_to_one(self, from: &RangeInclusive<u32>, to: &RangeInclusive<u32>) -> bool {
        let is_mesh = self == Pattern::Between(Selection::All, Selection::All);
        from.end() - from.start() == to.end() - to.start() && !is_mesh
    }

    /// Returns an iterator over the flows among the VMs of `population`, in the order of their sources. `random` draws the peers of
    /// [`Pattern::Random`].
    ///
    /// # Errors
    /// As [`Pattern::count`].
    pub fn flows(
        self,
        population: impl Into<Population>,
        mut random: fastrand::Rng,
    ) -> Result<Box<dyn Iterator<Item = (VmId, Target)>>, PatternError> {
        let population = population.into();
        self.count(population.clone())?;
        let Population {
            vms,
            multicast_groups,
        } = population;
        let to_vm = |source: u32, target: u32| (VmId(source), Target::Vm(VmId(target)));
        let others = move |source: u32, targets: RangeInclusive<u32>| {
            targets
                .filter(move |&target| target != source)
                .map(move |target| to_vm(source, target))
        };
        Ok(match self {
            Pattern::To(sources, address) => {
                let sources = sources.range(vms)?;
                Box::new(sources.map(move |vm| (VmId(vm), Target::Address(address))))
            }
            Pattern::Between(sources, targets) => {
                let (from, to) = (sources.range(vms)?, targets.range(vms)?);
                match self.is_one_to_one(&from, &to) {
                    true => Box::new(from.zip(to).map(move |(a, b)| to_vm(a, b))),
                    false => Box::new(from.flat_map(move |source| others(source, to.clone()))),
                }
            }
            Pattern::Mesh => Box::new((0..vms).flat_map(move |source| others(source, 0..=vms - 1))),
            Pattern::Ring => {
                Box::new((0..vms).map(move |source| to_vm(source, (source + 1) % vms)))
            }
            Pattern::Multicast => {
                let groups = multicast_groups.into_iter();
                Box::new(groups.map(|group| (VmId(0), Target::Address(group))))
            }
            Pattern::Pairs => Box::new((0..vms / 2).map(move |i| to_vm(2 * i, 2 * i + 1))),
            Pattern::Random(peers) => Box::new((0..vms).flat_map(move |source| {
                // Peers are drawn from the other VMs: numbers from the source's on stand for the next higher VM.
                let drawn = draw(vms - 1, peers, &mut random);
                drawn
                    .into_iter()
                    .map(move |i| to_vm(source, i + u32::from(i >= source)))
            })),
        })
    }

    /// Fails if a VM that the pattern names does not exist.
    fn check_names(self, vms: u32) -> Result<(), PatternError> {
        if let Pattern::Between(sources, targets) = self {
            sources.range(vms)?;
            targets.range(vms)?;
        }
        Ok(())
    }
}

/// Draws `number` distinct numbers below `bound` in time proportional to `number` (Floyd's algorithm; J. Bentley,
/// "Programming Pearls: A sample of brilliance", CACM 30 (9), 1987).
fn draw(bound: u32, number: u32, random: &mut fastrand::Rng) -> Vec<u32> {
    let mut is_drawn = FxHashSet::default();
    let last = bound.saturating_sub(number)..bound;
    last.map(|last| {
        let one = random.u32(0..=last);
        match is_drawn.insert(one) {
            true => one,
            false => {
                is_drawn.insert(last);
                last
            }
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flows(pattern: &str, vms: u32) -> Result<Vec<(u32, String)>, String> {
        let pattern: Pattern = pattern.parse().map_err(|e: PatternError| e.to_string())?;
        let flows = pattern
            .flows(vms, fastrand::Rng::with_seed(1))
            .map_err(|e| e.to_string())?;
        let flows: Vec<_> = flows
            .map(|(source, target)| (source.0, target.to_string()))
            .collect();
        assert_eq!(pattern.count(vms), Ok(flows.len() as u64), "{pattern:?}");
        Ok(flows)
    }

    fn text(pattern: &str, vms: u32) -> String {
        let flows = flows(pattern, vms).unwrap();
        flows
            .iter()
            .map(|(s, t)| format!("{s}>{}", t.trim_start_matches("vm")))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn each_pattern_has_its_flows() {
        let cases = [
            ("vm0:vm1", 2, "0>1"),
            ("vm0:all", 4, "0>1 0>2 0>3"),
            ("all:vm0", 4, "1>0 2>0 3>0"),
            ("vm[0-1]:vm[2-3]", 4, "0>2 1>3"),
            ("vm[0-1]:vm[1-3]", 4, "0>1 0>2 0>3 1>2 1>3"),
            (
                "vm[0-3]:vm[2-4]",
                5,
                "0>2 0>3 0>4 1>2 1>3 1>4 2>3 2>4 3>2 3>4",
            ),
            ("mesh", 3, "0>1 0>2 1>0 1>2 2>0 2>1"),
            ("all:all", 3, "0>1 0>2 1>0 1>2 2>0 2>1"),
            ("ring", 3, "0>1 1>2 2>0"),
            ("pairs", 5, "0>1 2>3"),
            ("vm[0-1]:10.77.0.1", 2, "0>10.77.0.1 1>10.77.0.1"),
            ("vm0:fd77::1", 1, "0>fd77::1"),
            ("vm0:[fd77::1]", 1, "0>fd77::1"),
        ];
        for (pattern, vms, expected) in cases {
            assert_eq!(text(pattern, vms), expected, "{pattern} of {vms}");
        }
    }

    #[test]
    fn multicast_is_one_flow_to_each_group_from_the_first_vm() {
        let population = Population {
            vms: 3,
            multicast_groups: ["239.1.2.3", "ff05::1:3"]
                .map(|group| group.parse().unwrap())
                .into(),
        };
        assert_eq!(Pattern::Multicast.count(population.clone()), Ok(2));
        let flows = Pattern::Multicast.flows(population, fastrand::Rng::with_seed(1));
        let flows: Vec<_> = flows
            .unwrap()
            .map(|(source, target)| format!("{source}>{target}"))
            .collect();
        assert_eq!(flows, ["vm0>239.1.2.3", "vm0>ff05::1:3"]);
    }

    #[test]
    fn random_peers_are_distinct_others_and_follow_from_the_seed() {
        for (vms, peers) in [(2, 1), (10, 3), (10, 9), (1000, 2)] {
            let pattern = format!("random:{peers}");
            let drawn = flows(&pattern, vms).unwrap();
            assert_eq!(drawn.len(), (vms * peers) as usize);
            let distinct: std::collections::HashSet<_> = drawn.iter().collect();
            assert_eq!(distinct.len(), drawn.len());
            assert!(drawn.iter().all(|(s, t)| format!("vm{s}") != *t));
            assert_eq!(drawn, flows(&pattern, vms).unwrap());
        }
    }

    #[test]
    fn flows_are_counted_without_being_listed() {
        for (pattern, vms, flows) in [
            ("mesh", 65_000, 65_000 * 64_999),
            ("random:65532", 65_533, 65_533 * 65_532),
            ("all:vm0", 1_000_000, 999_999),
            ("vm[0-9]:vm[5-99999]", 100_000, 10 * 99_995 - 5),
            ("pairs", 4_000_001, 2_000_000),
        ] {
            let parsed: Pattern = pattern.parse().unwrap();
            assert_eq!(parsed.count(vms), Ok(flows), "{pattern}");
            let first = parsed.flows(vms, fastrand::Rng::with_seed(1)).unwrap();
            assert_eq!(first.take(3).count(), 3, "{pattern}");
        }
    }

    #[test]
    fn an_error_names_the_wrong_text_and_what_is_expected() {
        let cases = [
            ("vm0", 2, "expected SRC:DST"),
            ("meshes", 2, "expected SRC:DST"),
            ("vm0:vm7", 2, "there is no vm7; expected vm0 to vm1"),
            ("vm7:vm0", 2, "there is no vm7; expected vm0 to vm1"),
            ("vm0:vm1", 1, "there is no vm1; expected vm0"),
            ("vm0:vm0", 2, "vm0 can't ping itself"),
            ("vm[0-1]:vm[0-1]", 2, "vm0 can't ping itself"),
            ("vm[1-0]:vm0", 2, "expected the lower number first"),
            ("vm[1]:vm0", 2, "is not a VM"),
            ("vm+1:vm0", 2, "is not a VM"),
            ("vm:vm0", 2, "is not a VM"),
            (":", 2, "is not a VM"),
            ("vm0:10.77.0.300", 2, "is not a VM"),
            ("random:0", 5, "1 or more"),
            ("random:5", 5, "expected random:1 to random:4"),
            ("random:x", 5, "1 or more"),
            ("mesh", 1, "there is one VM"),
            ("multicast", 1, "there is one VM"),
            (
                "multicast",
                2,
                "expected --join with one, such as 239.1.2.3",
            ),
            ("vm4294967296:vm0", 2, "is not a VM"),
        ];
        for (pattern, vms, expected) in cases {
            let message = flows(pattern, vms).expect_err(pattern);
            assert!(message.contains(expected), "{pattern}: {message}");
        }
    }
}
