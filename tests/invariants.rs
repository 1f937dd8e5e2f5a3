//! What the fuzz targets (`tests/fuzz`) hold to account, with generated and recorded input instead of a fuzzer's.

#[path = "fuzz/harness/mod.rs"]
mod harness;

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

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

#[test]
fn the_recorded_frames_and_files_hold_all_invariants() {
    seeds("parse").iter().for_each(|seed| harness::parse(seed));
    seeds("vm").iter().for_each(|seed| harness::vm(seed));
    seeds("scenario")
        .iter()
        .for_each(|seed| harness::scenario(seed));
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
    fn a_damaged_scenario_is_understood_or_refused(bytes in damaged("scenario")) {
        harness::scenario(&bytes);
    }
}
