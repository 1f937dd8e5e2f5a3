//! Why a run fails: expectations that do not hold, and why it is incomplete.

use std::collections::HashSet;

use super::Report;

/// What holds of a run without shortcomings.
pub(super) const COMPLETE: &str = "the run is complete";

/// What is said of a run that was not judged.
pub(super) const NOT_JUDGED: &str =
    "not known: the run was not over yet, or an earlier version wrote its report";

/// A shortcoming, for a person who reads it between other sentences.
pub(super) fn sentence(shortcoming: &str) -> String {
    format!("The run is not complete: {shortcoming}")
}

impl Report {
    /// Returns why the run fails, one sentence each: what was [expected](Report::expectations) and does not hold, and why the run
    /// is [incomplete](Report::shortcomings). Empty of a run that ends with exit status 0.
    pub fn why_failed(&self) -> Vec<String> {
        let unmet = self.expectations.iter().filter(|outcome| !outcome.holds);
        let unmet = unmet.map(ToString::to_string);
        unmet
            .chain(self.shortcomings.iter().flatten().cloned())
            .collect()
    }
}

/// The shortcomings of all `reports`, each once. Not known if there are none and not all of them were judged.
pub(super) fn of_all(reports: &[Report]) -> Option<Vec<String>> {
    let mut seen = HashSet::new();
    let each = reports.iter().flat_map(|report| &report.shortcomings);
    let each = each.flatten().filter(|what| seen.insert(what.as_str()));
    let all: Vec<String> = each.cloned().collect();
    let is_known = !all.is_empty() || reports.iter().all(|report| report.shortcomings.is_some());
    is_known.then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{fixtures, merge};

    fn run(shortcomings: Option<&[&str]>) -> Report {
        let own = |all: &[&str]| all.iter().map(|what| (*what).to_owned()).collect();
        Report {
            shortcomings: shortcomings.map(own),
            ..fixtures::report()
        }
    }

    #[test]
    fn merged_runs_have_the_shortcomings_of_each_once_and_are_complete_only_if_all_are() {
        type Known = Option<&'static [&'static str]>;
        let cases: [([Known; 2], Known); 5] = [
            ([Some(&[]), Some(&[])], Some(&[])),
            ([Some(&["lost"]), Some(&[])], Some(&["lost"])),
            (
                [Some(&["ended", "lost"]), Some(&["late", "ended"])],
                Some(&["ended", "lost", "late"]),
            ),
            ([None, Some(&[])], None),
            ([Some(&["lost"]), None], Some(&["lost"])),
        ];
        for (runs, expected) in cases {
            let merged = merge(&runs.map(run)).unwrap();
            assert_eq!(merged.shortcomings, run(expected).shortcomings, "{runs:?}");
        }
    }

    #[test]
    fn a_run_fails_by_expectations_and_by_shortcomings() {
        let mut report = run(Some(&["SIGINT came"]));
        report.expect(&["p99<1ns".parse().unwrap(), "p99<9s".parse().unwrap()]);
        let [unmet, ended] = report.why_failed().try_into().unwrap();
        assert!(
            unmet.starts_with("expected p99<1ns: FAILS, found "),
            "{unmet}"
        );
        assert_eq!(ended, "SIGINT came");
        let unjudged = run(None);
        assert_eq!(unjudged.why_failed(), [""; 0]);
    }
}
