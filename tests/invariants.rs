//! The invariants of the fuzz targets (`tests/fuzz`), with generated and recorded input instead of a fuzzer's.

#[path = "fuzz/harness/mod.rs"]
mod harness;

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use tap_reactor::experiment::options::{OPTIONS, OptionSpec, Scope};

/// The seeds of one target: a frame or an input each, recorded from real programs.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/seeds")
        .join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}: empty", folder.display());
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

/// A seed with some bytes changed and its end cut off.
fn damaged(target: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>());
    let seed = prop::sample::select(seeds(target));
    (
        seed,
        vec(change, 0..8),
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(mut bytes, changes, end, cut)| {
            for (at, value) in changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
            }
            if cut {
                bytes.truncate(end.index(bytes.len() + 1));
            }
            bytes
        })
}

/// A line of a scenario: one of `keys`, and a value that it may have.
fn line(keys: &[&'static str]) -> impl Strategy<Value = String> + use<> {
    let texts = [
        "vm0:vm1",
        "c:s",
        "mesh",
        "ring",
        "pairs",
        "random:2",
        "vm[0-1]:10.77.0.1",
        "vm1:vm[0-9]",
        "all:fd77::1",
        "c",
        "s",
        "vm3",
        "vm[0-9]",
        "all",
        "1",
        "10 per second",
        "c at 1e-20 per second",
        "3 at 1e308 per second",
        "c at -1 per second",
        "vm1 at 9999999G per second",
        "1e-9 per second",
        "1ns",
        "10ms",
        "2s",
        "1000y",
        "99999999999999999999s",
        "1s 1s",
        "1:1e7:100",
        "1e-9:1e-9:2",
        "10.77.0.9",
        "10.0.0.0/8",
        "fd77::/64",
        "02:00:00:00:00:01",
        "vm0=02:ff:ff:ff:ff:fe",
        "100.200",
        "vm0=7",
        "sim",
        "poisson",
        "0.5%",
        "p99<1s",
        "\\u001b[31m",
        "two\\nlines",
        "",
    ];
    let value = prop_oneof![
        6 => prop::sample::select(texts.to_vec()).prop_map(|text| format!("\"{text}\"")),
        2 => any::<i64>().prop_map(|number| number.to_string()),
        2 => (0u64..20).prop_map(|number| number.to_string()),
        1 => any::<f64>().prop_map(|number| format!("{number:e}").replace("NaN", "nan")),
        1 => any::<bool>().prop_map(|is_on| is_on.to_string()),
    ];
    (prop::sample::select(keys.to_vec()), value)
        .prop_map(|(key, value)| format!("{key} = {value}\n"))
}

/// A scenario of which each line may be right.
fn scenario() -> impl Strategy<Value = String> {
    let keys = |is_there: fn(Scope) -> bool| {
        let options = OPTIONS.iter().filter(move |option| is_there(option.scope));
        options
            .map(|OptionSpec { name, .. }| *name)
            .collect::<Vec<_>>()
    };
    let of_phases = [keys(Scope::is_phase), vec!["start", "stop", "start"]].concat();
    let of_runs = keys(Scope::is_top);
    let phase = vec(line(&of_phases), 0..3).prop_map(|lines| {
        format!(
            "[[phase]]\nping = [\"vm0:vm1\"]\nduration = \"1s\"\n{}",
            lines.concat()
        )
    });
    (vec(line(&of_runs), 0..2), any::<bool>(), vec(phase, 0..3)).prop_map(
        |(lines, groups, phases)| {
            let groups = match groups {
                true => "[[group]]\nname = \"s\"\nvms = 5\n[[group]]\nname = \"c\"\nvms = 3\n",
                false => "",
            };
            format!("{}{groups}{}", lines.concat(), phases.concat())
        },
    )
}

#[test]
fn the_recorded_frames_and_files_hold_all_invariants() {
    seeds("parse").iter().for_each(|seed| harness::parse(seed));
    seeds("vm").iter().for_each(|seed| harness::vm(seed));
    seeds("scenario")
        .iter()
        .for_each(|seed| harness::scenario(seed));
    seeds("control")
        .iter()
        .for_each(|seed| harness::converse(seed));
    seeds("ranks").iter().for_each(|seed| harness::meet(seed));
}

proptest! {
    #[test]
    fn any_bytes_can_be_read_as_a_frame(bytes in vec(any::<u8>(), 0..200)) {
        harness::parse(&bytes);
    }

    #[test]
    fn a_damaged_frame_can_be_read(bytes in damaged("parse")) {
        harness::parse(&bytes);
    }

    #[test]
    fn a_vm_withstands_any_steps(bytes in vec(any::<u8>(), 0..600)) {
        harness::vm(&bytes);
    }

    #[test]
    fn a_vm_withstands_damaged_traffic(bytes in damaged("vm")) {
        harness::vm(&bytes);
    }

    #[test]
    fn a_damaged_conversation_is_the_same_however_it_is_cut(bytes in damaged("control")) {
        harness::converse(&bytes);
    }

    #[test]
    fn a_damaged_word_of_a_rank_makes_nobody_one(bytes in damaged("ranks")) {
        harness::meet(&bytes);
    }

    #[test]
    fn a_damaged_scenario_is_understood_or_refused(bytes in damaged("scenario")) {
        harness::scenario(&bytes);
    }
}

proptest! {
    // Few values are right for a key, and a plan takes next to no time.
    #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]

    #[test]
    fn any_values_in_a_scenario_are_understood_or_refused_in_one_line(text in scenario()) {
        harness::scenario(text.as_bytes());
    }
}
