//! JUnit's XML, which CI systems show as test cases: one for each expectation, and one that the run is complete.
//!
//! All that does not hold is a failure, none an error: what the network did and what the tool could not do are mixed in one
//! case. The reasons are the text of the element, which GitLab's pages show, and its message, which others do.

use std::io::{self, Write};
use std::time::Duration;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::pieces::Next;
use super::search::{SEARCH_COMPLETE, SearchReport};
use super::shortcomings::{COMPLETE, NOT_JUDGED};
use super::{Outcome, Report};
use crate::escape::is_hidden;

/// What the test cases are of.
const CLASS: &str = "tap-reactor";

/// Writes the document: a suite, with a test case for each expectation of the run and one that it is complete, and the verdict.
pub(super) fn junit_piece(report: &Report, _: usize, out: &mut Vec<u8>) -> io::Result<Next> {
    let cases = report.expectations.iter().map(expectation);
    let complete = match &report.shortcomings {
        Some(shortcomings) => complete(COMPLETE, shortcomings),
        None => skipped(COMPLETE, NOT_JUDGED),
    };
    let suite = (report.run.as_str(), report.elapsed_ns);
    let cases = cases.chain([complete]).collect();
    write(suite, cases, &report.verdict.sentence, out)?;
    Ok(None)
}

/// Writes what a search has found: a test case for each goal, which holds if a lower bound was found, for each expectation, and
/// one that the search is complete.
///
/// # Errors
/// When `out` can't be written to.
pub fn search_junit(report: &SearchReport, out: &mut dyn Write) -> io::Result<()> {
    let goals = report.goals.iter();
    let goals = goals.map(|goal| case(&goal.goal, goal.lower.is_some(), &goal.sentence));
    let cases = goals.chain(report.expectations.iter().map(expectation));
    let cases = cases.chain([complete(SEARCH_COMPLETE, &report.shortcomings)]);
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

/// A case that holds if there are no `shortcomings`, and else names them all.
fn complete(name: &str, shortcomings: &[String]) -> TestCase {
    match shortcomings {
        [] => named(name, TestCaseStatus::success()),
        all => failed(name, all),
    }
}

fn case(name: &str, holds: bool, found: &str) -> TestCase {
    if !holds {
        return failed(name, &[found]);
    }
    let mut case = named(name, TestCaseStatus::success());
    case.set_system_out(shown(found));
    case
}

/// A case that does not hold for these reasons.
fn failed(name: &str, why: &[impl AsRef<str>]) -> TestCase {
    let why: Vec<_> = why.iter().map(|each| shown(each.as_ref())).collect();
    let mut failure = TestCaseStatus::non_success(NonSuccessKind::Failure);
    failure.set_message(why.join("; "));
    failure.set_description(why.join("\n"));
    named(name, failure)
}

fn skipped(name: &str, why: &str) -> TestCase {
    let mut skipped = TestCaseStatus::skipped();
    skipped.set_message(why).set_description(why);
    named(name, skipped)
}

fn named(name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(shown(name), status);
    case.set_classname(CLASS);
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

    /// The status of the case that a run with these shortcomings is complete.
    fn completeness(shortcomings: Option<&[&str]>) -> TestCaseStatus {
        let own = |all: &[&str]| all.iter().map(|what| (*what).to_owned()).collect();
        let report = Report {
            shortcomings: shortcomings.map(own),
            ..fixtures::report()
        };
        let read = quick_junit::Report::deserialize_from_str(&written(&report)).unwrap();
        let [suite] = read.test_suites.as_slice() else {
            panic!("{read:?}");
        };
        let [case] = suite.test_cases.as_slice() else {
            panic!("{read:?}");
        };
        assert_eq!(case.name.as_str(), "the run is complete");
        case.status.clone()
    }

    #[test]
    fn every_expectation_is_a_test_case_and_those_that_do_not_hold_fail() {
        let mut report = fixtures::report();
        report.shortcomings = Some(Vec::new());
        report.expect(&["p99<1ns".parse().unwrap(), "loss<1%".parse().unwrap()]);
        let xml = written(&report);
        assert!(
            xml.contains("tests=\"3\" skipped=\"0\" failures=\"1\" errors=\"0\">"),
            "{xml}"
        );
        assert!(
            xml.contains("<testcase name=\"p99&lt;1ns\" classname=\"tap-reactor\">"),
            "{xml}"
        );
        let message = "<failure message=\"expected p99&lt;1ns: FAILS, found ";
        assert!(xml.contains(message), "{xml}");
        // The text too: some pages show only that.
        assert!(
            xml.contains("\">expected p99&lt;1ns: FAILS, found "),
            "{xml}"
        );
        let verdict = report.verdict.sentence.split('\'').next().unwrap();
        assert!(xml.contains(verdict), "{xml}");
    }

    #[test]
    fn a_run_that_is_not_complete_fails_in_a_case_of_its_own_for_all_reasons_though_every_expectation_holds()
     {
        let mut report = fixtures::report();
        report.expect(&["p99<9s".parse().unwrap()]);
        report.shortcomings = Some(vec!["pings not answered: 5".into(), "a\u{1b}\nb".into()]);
        report.run = "a\u{1b}b".to_owned();
        let xml = written(&report);
        assert!(
            xml.contains("tests=\"2\" skipped=\"0\" failures=\"1\" errors=\"0\">"),
            "{xml}"
        );
        let failure = "<failure message=\"pings not answered: 5; a\u{fffd} b\">pings not answered: 5\na\u{fffd} b</failure>";
        assert!(xml.contains(failure), "{xml}");
        assert!(xml.contains("a\u{fffd}b"), "{xml}");
    }

    #[test]
    fn a_run_is_complete_incomplete_or_not_judged() {
        assert!(matches!(
            completeness(Some(&[])),
            TestCaseStatus::Success { .. }
        ));
        assert!(matches!(
            completeness(Some(&["SIGINT came"])),
            TestCaseStatus::NonSuccess {
                kind: NonSuccessKind::Failure,
                message: Some(message),
                ..
            } if message.as_str() == "SIGINT came"
        ));
        assert!(matches!(
            completeness(None),
            TestCaseStatus::Skipped {
                message: Some(_),
                ..
            }
        ));
    }
}
