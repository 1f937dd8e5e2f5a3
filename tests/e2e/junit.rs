//! The documents that CI systems show: a run that fails by its exit status fails there too, for every reason.

use std::collections::BTreeMap;
use std::fmt;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{Lab, Socket, TAP_REACTOR};
use crate::ranks::wait_for_ranks;

/// Reads a document with Python's parser, makes sure that its sums are those of its cases, and prints the cases.
const READ: &str = r#"
import json, sys
import xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
assert root.tag == "testsuites", root.tag
(suite,) = root
cases = suite.findall("testcase")
kinds = {"failures": "failure", "errors": "error", "skipped": "skipped"}
for element in (root, suite):
    assert int(element.get("tests")) == len(cases), element.attrib
    for name, kind in kinds.items():
        found = sum(case.find(kind) is not None for case in cases)
        assert int(element.get(name)) == found, (name, found, element.attrib)
told = {}
for case in cases:
    assert case.get("name") not in told, case.attrib
    of = [(kind, case.find(kind)) for kind in kinds.values() if case.find(kind) is not None]
    told[case.get("name")] = [[kind, each.get("message"), each.text] for kind, each in of]
print(json.dumps(told))
"#;

/// The case of every run.
const COMPLETE: &str = "the run is complete";

/// What became of a test case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Case {
    Passed,
    /// For these reasons.
    Failed(Vec<String>),
    Skipped,
}

impl Case {
    pub fn failed(why: &str) -> Case {
        Case::Failed(vec![why.to_owned()])
    }
}

/// A report for test cases and one for a job page; it displays as the options that have them written.
pub struct Files(TempDir);

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "-o {} -o {}",
            self.path("x.junit.xml"),
            self.path("x.md")
        )
    }
}

impl Files {
    pub fn new() -> Files {
        Files(TempDir::new().expect("a folder"))
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    pub fn markdown(&self) -> String {
        std::fs::read_to_string(self.path("x.md")).expect("a summary")
    }

    /// The test cases by their names.
    pub fn cases(&self, lab: &Lab) -> BTreeMap<String, Case> {
        self.cases_of(lab, "x.junit.xml")
    }

    fn cases_of(&self, lab: &Lab, name: &str) -> BTreeMap<String, Case> {
        let run = lab.run(&["python3", "-c", READ, &self.path(name)]);
        let read: BTreeMap<String, Vec<[String; 3]>> =
            serde_json::from_value(run.expect_status(0).json()).expect("test cases");
        let cases = read.into_iter().map(|(name, of)| {
            let case = match of.as_slice() {
                [] => Case::Passed,
                [[kind, _, _]] if kind == "skipped" => Case::Skipped,
                [[kind, message, text]] => {
                    assert_eq!(kind, "failure");
                    let why: Vec<String> = text.lines().map(str::to_owned).collect();
                    assert_eq!(*message, why.join("; "));
                    Case::Failed(why)
                }
                several => panic!("{name}: {several:?}"),
            };
            (name, case)
        });
        cases.collect()
    }

    /// Makes sure that the documents tell the reasons that `stderr` does, and returns those.
    #[track_caller]
    fn expect_reasons(&self, lab: &Lab, stderr: &str) -> Vec<String> {
        let reasons = stderr
            .lines()
            .filter_map(|line| line.strip_prefix("tap-reactor: "));
        let reasons: Vec<String> = reasons.map(str::to_owned).collect();
        let mut told = Vec::new();
        for case in self.cases(lab).into_values() {
            if let Case::Failed(why) = case {
                told.extend(why);
            }
        }
        assert_eq!(told, reasons, "{stderr}");
        let page = self.markdown();
        assert_eq!(page.matches("\n- ❌ ").count(), reasons.len(), "{page}");
        reasons
    }
}

#[test]
fn whatever_makes_a_run_fail_fails_a_test_case_that_names_it() {
    let lab = Lab::new();
    let lossy = "--vms 2 --ping vm0:vm1 --count 100 --interval 1ms --impair vm1:in:every=10";
    let lossy_stream = "--vms 2 --stream vm0:vm1 --rate 1k --count 100 --impair vm1:in:every=10";
    // Every other frame is a ping.
    let both = "--vms 2 --stream vm0:vm1,rate=1k --ping vm0:vm1 --interval 1ms --count 100 --impair vm1:in:every=9";
    let crowded = "--ping vm0:vm1 --probe arp --count 10 --interval 1ms --impair vm1:in:delay=5ms";
    let unsent = "pings not sent because their flow had too many on their way: 8";
    let frames = "frames of streams not received: 10";
    let cases: [(&str, &str, &[&str]); 9] = [
        ("", "--vms 2 --ping vm0:vm1 --count 3", &[]),
        ("", "--vms 2 --duration 1s", &[]),
        ("", lossy_stream, &[frames]),
        (
            "",
            both,
            &["pings not answered: ", "frames of streams not received: "],
        ),
        ("", crowded, &[unsent]),
        ("", lossy, &["pings not answered: 10"]),
        ("--expect p99<1ms", lossy, &["pings not answered: 10"]),
        ("--expect loss<20%", lossy, &[]),
        (
            "--expect p99<1ns",
            crowded,
            &["expected p99<1ns: FAILS, found ", unsent],
        ),
    ];
    for (more, words, expected) in cases {
        let files = Files::new();
        let words = format!("--fabric sim {words} {more} -q {files}");
        let run = lab.tap_reactor(&words);
        let run = run.expect_status(i32::from(!expected.is_empty()));
        let reasons = files.expect_reasons(&lab, &run.stderr);
        assert_eq!(reasons.len(), expected.len(), "{words}: {run:?}");
        for (reason, expected) in reasons.iter().zip(expected) {
            assert!(reason.starts_with(expected), "{words}: {reason}");
        }
        let cases = files.cases(&lab);
        assert_eq!(
            cases.len(),
            1 + more.matches("--expect").count(),
            "{cases:?}"
        );
        let is_complete = cases[COMPLETE] == Case::Passed;
        let line = files.markdown().contains(&format!("\n- ✅ {COMPLETE}\n"));
        assert_eq!(
            (is_complete, line),
            (expected.is_empty(), is_complete),
            "{words}"
        );
    }
}

#[test]
fn a_signal_in_the_middle_of_a_run_fails_its_test_case() {
    let lab = Lab::new();
    for (signal, words, expected) in [
        (
            Signal::SIGINT,
            "--ping vm0:vm1 --interval 10ms --duration 60s",
            "SIGINT came before the run was over, when ",
        ),
        (
            Signal::SIGTERM,
            "--ping vm0:vm1 --interval 10ms --count 9999 --expect p99<9s",
            "SIGTERM came when ",
        ),
        (
            Signal::SIGTERM,
            "--stream vm0:vm1 --rate 100 --duration 60s",
            "SIGTERM came before the run was over",
        ),
    ] {
        let files = Files::new();
        let words = format!("--netns host --vms 2 {words} -q {files}");
        let mut run = lab.start_tap_reactor(&words);
        lab.wait_until_vm_sent(&mut run, "tap0", 20);
        run.signal(signal);
        let run = run.wait().expect_status(1);
        let reasons = files.expect_reasons(&lab, &run.stderr);
        let came = reasons.iter().any(|why| why.starts_with(expected));
        assert!(came, "{reasons:?}");
    }
}

#[test]
fn saved_runs_keep_why_they_failed_and_merged_ones_have_it_of_all_each_once() {
    let lab = Lab::new();
    let files = Files::new();
    let run = |name: &str, impair: &str| {
        let path = files.path(name);
        let words = format!(
            "--fabric sim --vms 2 --ping vm0:vm1 --count 100 --seed 7 {impair} -q -o {path}"
        );
        lab.tap_reactor(&words)
    };
    let lossy = "--impair vm1:in:every=10";
    run("a.json", lossy).expect_status(1);
    run("b.json", lossy).expect_status(1);
    run("whole.json", "").expect_status(0);
    let [first, second, whole] = ["a.json", "b.json", "whole.json"].map(|name| files.path(name));
    let lost = Case::failed("pings not answered: 10");
    for (words, expected) in [
        (first.clone(), lost.clone()),
        (format!("{first} {second} --merge"), lost.clone()),
        (format!("{whole} {first} --merge --allow-different"), lost),
        (whole, Case::Passed),
    ] {
        // What is expected of `report` is said by its own options.
        lab.tap_reactor(&format!("report {words} -q {files}"))
            .expect_status(0);
        let cases = files.cases(&lab);
        assert_eq!(
            cases,
            BTreeMap::from([(COMPLETE.to_owned(), expected)]),
            "{words}"
        );
    }
    let told = lab
        .tap_reactor(&format!("report {first}"))
        .expect_status(0)
        .stdout;
    let line = "\nThe run is not complete: pings not answered: 10\n";
    assert!(told.ends_with(line), "{told}");
    // One of an earlier version.
    let mut old: Value = serde_json::from_slice(&std::fs::read(&first).unwrap()).unwrap();
    let known = old.as_object_mut().unwrap().remove("shortcomings");
    assert!(known.is_some());
    std::fs::write(&first, old.to_string()).unwrap();
    lab.tap_reactor(&format!("report {first} -q {files}"))
        .expect_status(0);
    assert_eq!(files.cases(&lab)[COMPLETE], Case::Skipped);
}

#[test]
fn a_lab_that_runs_is_not_judged_yet() {
    let lab = Lab::new();
    let (files, socket) = (Files::new(), Socket::new());
    let words = "--vms 2 --ping vm0:vm1 --interval 10ms --duration 60s --json";
    let run = socket.start(&lab, words);
    let asked = files.path("x.junit.xml");
    let path = socket.path().display().to_string();
    let words = [TAP_REACTOR, "ctl", &path, "report", "-o", &asked];
    lab.run(&words).expect_status(0);
    assert_eq!(files.cases(&lab)[COMPLETE], Case::Skipped);
    run.signal(Signal::SIGINT);
    let told = run.wait().expect_status(1).json();
    let reasons = told["shortcomings"].as_array().expect("reasons");
    let is_signal = |why: &Value| {
        why.as_str()
            .is_some_and(|why| why.starts_with("SIGINT came"))
    };
    assert!(reasons.iter().any(is_signal), "{reasons:?}");
}

#[test]
fn each_run_of_a_sweep_has_a_document_of_its_own() {
    let lab = Lab::new();
    let files = Files::new();
    let path = files.path("run-{}.junit.xml");
    let words = "--fabric sim --ping vm0:vm1 --count 20 --probe arp --impair vm1:in:delay=5ms";
    let words = format!("{words} --sweep interval=1ms,50ms -q -o {path}");
    let run = lab.tap_reactor(&words).expect_status(1);
    let case =
        |value: &str| files.cases_of(&lab, &format!("run-{value}.junit.xml"))[COMPLETE].clone();
    let why = run.stderr.trim_end().strip_prefix("tap-reactor: ");
    assert_eq!(case("1ms"), Case::failed(why.expect("a reason")), "{run:?}");
    assert_eq!(case("50ms"), Case::Passed);
}

#[test]
fn of_ranks_the_document_tells_what_is_amiss_in_any() {
    let lab = Lab::new();
    let files = Files::new();
    let words =
        format!("--cores 2 --netns host --vms 4 --ping ring --interval 5ms --duration 60s {files}");
    let mut run = lab.start_tap_reactor(&words);
    lab.wait_until_vm_sent(&mut run, "tap3", 20);
    let ranks = wait_for_ranks(&mut run, 2);
    kill(ranks[1], Signal::SIGKILL).expect("a rank");
    let run = run.wait().expect_status(1);
    let Case::Failed(why) = &files.cases(&lab)[COMPLETE] else {
        panic!("{run:?}");
    };
    let is_gone = |why: &String| why.starts_with("rank 1 on ") && why.contains(" is gone in ");
    assert!(why.iter().any(is_gone), "{why:?}");
}

#[test]
fn a_vm_that_could_not_start_is_told_once_whichever_rank_has_it() {
    let lab = Lab::new();
    let files = Files::new();
    let scenario = files.path("lab.toml");
    let phases = "[[phase]]\nping = [\"vm0:vm2\"]\nduration = \"5s\"\n\
                  [[phase]]\nping = [\"vm0:vm1\", \"vm2:vm3\"]\nduration = \"200ms\"\nstart = [\"vm1\", \"vm3\"]\n";
    let text =
        format!("vms = 4\nnetns = \"host\"\nresolve = \"static\"\ninterval = \"10ms\"\n{phases}");
    std::fs::write(&scenario, text).expect("a scenario");
    let words = format!("--scenario {scenario} --cores 2 -q {files}");
    let mut run = lab.start_tap_reactor(&words);
    lab.wait_until_vm_sent(&mut run, "tap0", 20);
    for taken in ["tap1", "tap3"] {
        lab.ip(&format!("link add {taken} type bridge"));
    }
    let run = run.wait().expect_status(1);
    let reasons = files.expect_reasons(&lab, &run.stderr);
    let mut refused: Vec<&str> = reasons
        .iter()
        .filter_map(|why| Some(why.split_once(" could not start: ")?.0))
        .collect();
    refused.sort_unstable();
    assert_eq!(refused, ["rank 1: vm3", "vm1"], "{reasons:?}");
}
