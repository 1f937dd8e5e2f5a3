//! Frames that `--impair` delayed, lost or changed, for readers who would hold the network responsible for them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Report;
use super::units::count;
use crate::fabric::{Direction, Impairment, ImpairmentCount};
use crate::vm::VmId;

/// Up to this many rows are told by VM and direction; more only as their sums.
const ROWS_SHOWN: usize = 20;

/// Frames of one VM and one direction to which the same was done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ImpairedFrames {
    /// The VM, such as `vm3`.
    #[serde(with = "crate::vm::named")]
    #[schemars(with = "String", regex(pattern = crate::vm::named::PATTERN))]
    pub vm: VmId,
    /// `out` from the VM, or `in` to it.
    pub direction: Direction,
    /// What was done to them.
    pub kind: Impairment,
    /// Their number.
    pub frames: u64,
}

impl From<&ImpairmentCount> for ImpairedFrames {
    fn from(count: &ImpairmentCount) -> ImpairedFrames {
        ImpairedFrames {
            vm: count.vm,
            direction: count.direction,
            kind: count.kind,
            frames: count.frames,
        }
    }
}

/// The numbers of impaired frames in words, with what they are of: by VM and direction where there are few, else by kind.
pub(super) fn rows(impaired: &[ImpairedFrames]) -> Vec<(String, String)> {
    let row = |whose: String, kind: Impairment, frames| {
        (format!("{whose}{}", kind.words()), count(frames))
    };
    if impaired.len() > ROWS_SHOWN {
        let sums = sums(impaired).into_iter();
        return sums
            .map(|(kind, frames)| row(String::new(), kind, frames))
            .collect();
    }
    let whose = |frames: &ImpairedFrames| format!("{} {}: ", frames.vm, frames.direction.word());
    let told = impaired.iter();
    told.map(|each| row(whose(each), each.kind, each.frames))
        .collect()
}

/// The addition to a verdict where frames were impaired.
pub(super) fn sentence(impaired: &[ImpairedFrames]) -> Option<String> {
    let sums = sums(impaired);
    let told = sums.iter();
    let told = told.map(|(kind, frames)| format!("{} {}", count(*frames), kind.words()));
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| {
        format!(
            " Frames were impaired as asked (--impair): {}.",
            told.join(", ")
        )
    })
}

fn sums(impaired: &[ImpairedFrames]) -> BTreeMap<Impairment, u64> {
    let mut sums = BTreeMap::new();
    for each in impaired {
        let sum: &mut u64 = sums.entry(each.kind).or_default();
        *sum = sum.saturating_add(each.frames);
    }
    sums
}

impl Report {
    /// Takes in the impaired frames of another run.
    pub(super) fn merge_impairments(&mut self, other: &Report) {
        let mut all = BTreeMap::new();
        for each in self.impairments.drain(..).chain(other.impairments.clone()) {
            let sum: &mut u64 = all.entry((each.vm, each.direction, each.kind)).or_default();
            *sum = sum.saturating_add(each.frames);
        }
        let rows = all.into_iter();
        self.impairments = rows
            .map(|((vm, direction, kind), frames)| ImpairedFrames {
                vm,
                direction,
                kind,
                frames,
            })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{fixtures, html, merge, text};

    fn impaired(vms: u32) -> Report {
        let row = |vm, kind, frames| ImpairedFrames {
            vm: VmId(vm),
            direction: Direction::In,
            kind,
            frames,
        };
        let mut report = fixtures::report();
        report.impairments = (0..vms)
            .flat_map(|vm| {
                [
                    row(vm, Impairment::Delayed, 1000),
                    row(vm, Impairment::Lost, 7),
                ]
            })
            .collect();
        report.judge(0, 0);
        report
    }

    #[test]
    fn impaired_frames_are_told_by_vm_or_if_there_are_many_by_their_sums() {
        for (vms, expected, unexpected) in [
            (2, "\n  vm1 in: lost", "\n  lost"),
            (100, "\n  lost", "vm1 in"),
        ] {
            let report = impaired(vms);
            let mut out = Vec::new();
            text(&report, &mut out, 80).unwrap();
            let out = String::from_utf8(out).unwrap();
            let (table, _) = out.split_once("Frames were impaired").unwrap();
            assert!(table.contains(expected), "{out}");
            assert!(!table.contains(unexpected), "{out}");
            let mut page = Vec::new();
            html(&report, &mut page).unwrap();
            let page = String::from_utf8(page).unwrap();
            assert!(page.contains("Impaired frames"), "{page}");
        }
    }

    #[test]
    fn a_verdict_does_not_hold_the_network_responsible_for_them() {
        let sentence = impaired(2).verdict.sentence;
        assert!(
            sentence.starts_with("The figures describe the network as it was impaired"),
            "{sentence}"
        );
        let told = "Frames were impaired as asked (--impair): 2,000 delayed, 14 lost.";
        assert!(sentence.ends_with(told), "{sentence}");
        let plain = fixtures::report().verdict.sentence;
        assert!(!plain.contains("impaired"), "{plain}");
    }

    #[test]
    fn merged_runs_have_the_sums_of_theirs() {
        let merged = merge(&[impaired(2), impaired(3)]).unwrap();
        let frames: Vec<u64> = merged.impairments.iter().map(|each| each.frames).collect();
        assert_eq!(frames, [2000, 14, 2000, 14, 1000, 7]);
    }
}
