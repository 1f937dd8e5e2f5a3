//! The files that a run was recorded in, for readers who look for what is, and is not, in them.

use super::Report;
use super::units::{count, counted};
use crate::fabric::Recording;

/// What was written, as a sentence: `Recorded: capture run.pcapng, 400 frames.`
pub(super) fn sentence(recording: &Recording) -> String {
    let Recording { kind, file, .. } = recording;
    let noun = kind.record;
    let records = counted(recording.records, noun);
    let notes = recording_notes(recording);
    format!("Recorded: {kind} {file}, {records}{notes}.")
}

/// What is to be known of a recording besides the number of records; empty if it is whole: `; 9 frames dropped`.
pub fn recording_notes(recording: &Recording) -> String {
    let noun = recording.kind.record;
    let mut told = String::new();
    if recording.files > 1 {
        let files = count(recording.files);
        told += &format!(" in {files} files, of which the last are kept");
    }
    if recording.dropped > 0 {
        told += &format!("; {} dropped", counted(recording.dropped, noun));
    }
    if recording.unknown > 0 {
        let unknown = counted(recording.unknown, noun);
        told += &format!("; {unknown} written before it was known what came of the ping");
    }
    if recording.missed > 0 {
        let missed = counted(recording.missed, "failed ping");
        told += &format!("; {missed} without frames, which were in memory no more");
    }
    if let Some(why) = &recording.ended {
        told += &format!("; ended early: {why}");
    }
    told
}

impl Report {
    /// Takes in the files of another run.
    pub(super) fn merge_recordings(&mut self, other: &Report) {
        self.recordings.extend(other.recordings.iter().cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::InstrumentKind;
    use crate::report::{fixtures, html, merge, text};

    /// Files of all kinds and fates, and what is said of them.
    fn cases() -> [(Recording, &'static str); 3] {
        let whole = Recording {
            kind: InstrumentKind::named("capture").unwrap(),
            file: "run.pcapng".into(),
            records: 1_200,
            dropped: 0,
            unknown: 0,
            missed: 0,
            files: 1,
            bytes: 100_000,
            has_failed: false,
            ended: None,
        };
        let ring = Recording {
            files: 7,
            unknown: 1,
            missed: 2,
            ..whole.clone()
        };
        let cut = Recording {
            kind: InstrumentKind::named("trace").unwrap(),
            file: "a&b".into(),
            dropped: 9,
            ended: Some("its reader has gone".into()),
            ..whole.clone()
        };
        [
            (whole, "Recorded: capture run.pcapng, 1,200 frames."),
            (
                ring,
                "Recorded: capture run.pcapng, 1,200 frames in 7 files, of which the last are kept; 1 frame written \
                 before it was known what came of the ping; 2 failed pings without frames, which were in memory no more.",
            ),
            (
                cut,
                "Recorded: trace a&b, 1,200 events; 9 events dropped; ended early: its reader has gone.",
            ),
        ]
    }

    #[test]
    fn text_and_page_tell_files_with_what_is_not_in_them() {
        for (recording, expected) in cases() {
            let mut report = fixtures::report();
            report.recordings = vec![recording];
            let (mut told, mut page) = (Vec::new(), Vec::new());
            text(&report, &mut told, 80).unwrap();
            html(&report, &mut page).unwrap();
            let told = String::from_utf8(told).unwrap();
            assert!(told.lines().any(|line| line == expected), "{told}");
            let page = String::from_utf8(page).unwrap();
            let expected = expected.replace('&', "&amp;");
            assert!(page.contains(&format!("<p>{expected}</p>")), "{expected}");
        }
    }

    #[test]
    fn a_merged_report_has_the_files_of_all_runs() {
        let runs = cases().map(|(recording, _)| Report {
            recordings: vec![recording],
            ..fixtures::report()
        });
        let merged = merge(&runs).unwrap();
        assert_eq!(merged.recordings, cases().map(|(recording, _)| recording));
    }
}
