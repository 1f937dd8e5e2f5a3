//! JUnit's XML, which CI systems show as test cases: one for each expectation.

use std::io::{self, Write};
use std::time::Duration;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::pieces::Next;
use super::search::SearchReport;
use super::units::{count, percent};
use super::{Outcome, Report};
use crate::escape::is_hidden;

/// What the test cases are of.
const CLASS: &str = "tap-reactor";

/// The test case of a run without expectations.
const ANSWERED: &str = "every ping is answered";

/// Writes the document: a suite, with a test case for each expectation of the run, and the verdict.
pub(super) fn junit_piece(report: &Report, _: usize, out: &mut Vec<u8>) -> io::Result<Next> {
    let mut cases: Vec<_> = report.expectations.iter().map(expectation).collect();
    if cases.is_empty() {
        let failed = report.totals.failed() + report.totals.unsent;
        let why = format!(
            "{} pings were not ({})",
            count(failed),
            percent(report.totals.loss())
        );
        cases.push(case(ANSWERED, failed == 0, &why));
    }
    let suite = (report.run.as_str(), report.elapsed_ns);
    write(suite, cases, &report.verdict.sentence, out)?;
    Ok(None)
}

/// Writes what a search has found: a test case for each goal, which holds if a lower bound was found, and for each expectation.
///
/// # Errors
/// When `out` can't be written to.
pub fn search_junit(report: &SearchReport, out: &mut dyn Write) -> io::Result<()> {
    let goals = report.goals.iter();
    let goals = goals.map(|goal| case(&goal.goal, goal.lower.is_some(), &goal.sentence));
    let cases = goals.chain(report.expectations.iter().map(expectation));
    let found: Vec<_> = report
        .goals
        .iter()
        .map(|goal| format!("{}: {}", goal.goal, goal.sentence))
        .collect();
    let suite = (report.run.as_str(), report.elapsed_ns);
    write(suite, cases.collect(), &found.join("\n"), out)
}

fn expectation(outcome: &Outcome) -> TestCase {
    case(&outcome.expectation, outcome.holds, &outcome.to_string())
}

fn case(name: &str, holds: bool, found: &str) -> TestCase {
    let status = match holds {
        true => TestCaseStatus::success(),
        false => {
            let mut failure = TestCaseStatus::non_success(NonSuccessKind::Failure);
            failure.set_message(shown(found));
            failure
        }
    };
    let mut case = TestCase::new(shown(name), status);
    case.set_classname(CLASS);
    if holds {
        case.set_system_out(shown(found));
    }
    case
}

fn write(
    (name, elapsed_ns): (&str, u64),
    cases: Vec<TestCase>,
    verdict: &str,
    mut out: impl Write,
) -> io::Result<()> {
    let mut suite = TestSuite::new(shown(name));
    suite.set_time(Duration::from_nanos(elapsed_ns));
    suite.set_system_out(shown(verdict));
    suite.add_test_cases(cases);
    let mut document = quick_junit::Report::new(CLASS);
    document.add_test_suite(suite);
    document.serialize(&mut out).map_err(io::Error::other)
}

/// Without what XML can't hold.
fn shown(text: &str) -> String {
    let visible = text.chars().map(|each| match each {
        '\n' => ' ',
        each if is_hidden(each) => char::REPLACEMENT_CHARACTER,
        each => each,
    });
    visible.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    fn written(report: &Report) -> String {
        let mut out = Vec::new();
        assert_eq!(junit_piece(report, 0, &mut out).unwrap(), None);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_expectation_is_a_test_case_and_those_that_do_not_hold_fail() {
        let mut report = fixtures::report();
        report.expect(&["p99<1ns".parse().unwrap(), "loss<1%".parse().unwrap()]);
        let xml = written(&report);
        assert!(
            xml.contains("tests=\"2\" skipped=\"0\" failures=\"1\" errors=\"0\">"),
            "{xml}"
        );
        assert!(
            xml.contains("<testcase name=\"p99&lt;1ns\" classname=\"tap-reactor\">"),
            "{xml}"
        );
        assert!(
            xml.contains("<failure message=\"expected p99&lt;1ns: FAILS, found "),
            "{xml}"
        );
        let verdict = report.verdict.sentence.split('\'').next().unwrap();
        assert!(xml.contains(verdict), "{xml}");
    }

    #[test]
    fn a_run_without_expectations_has_one_test_case() {
        let mut report = fixtures::report();
        let xml = written(&report);
        assert!(xml.contains("name=\"every ping is answered\""), "{xml}");
        assert!(
            xml.contains("<failure message=\"5 pings were not (0.125 %)\""),
            "{xml}"
        );
        report.totals.sent -= report.totals.failed();
        report.totals.lost = 0;
        report.totals.unresolved = 0;
        report.totals.corrupt = 0;
        report.totals.errored = 0;
        report.run = "a\u{1b}b".to_owned();
        let xml = written(&report);
        assert!(
            xml.contains("skipped=\"0\" failures=\"0\" errors=\"0\">"),
            "{xml}"
        );
        assert!(xml.contains("a\u{fffd}b"), "{xml}");
    }
}
