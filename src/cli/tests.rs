//! Command lines, good and bad.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tap_reactor::experiment::{LAB, LOAD, OUTPUT, Origin, Setting};

use super::*;

fn read(line: &str) -> Result<Request, UsageError> {
    parse(
        format!("tap-reactor {line}")
            .split_whitespace()
            .map(std::ffi::OsString::from),
    )
}

#[test]
fn the_main_command_is_two_vms_and_one_flow() {
    match read("--vms 2 --ping vm0:vm1 --count 100") {
        Ok(Request::Run(experiment, output)) => {
            assert_eq!((experiment.vms.len(), experiment.flows.len()), (2, 1));
            assert_eq!(experiment.planned_pings(), Some(100));
            assert_eq!(
                output.command,
                "tap-reactor --vms 2 --ping vm0:vm1 --count 100"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_setting_has_a_flag_of_its_name() {
    for name in LAB.iter().chain(LOAD).chain(OUTPUT) {
        let switch = [
            "announce",
            "attach",
            "filter",
            "no-filter",
            "dhcp",
            "fragment",
            "dont-fragment",
            "ipv6",
            "over-ipv6",
            "probe",
            "slaac",
            "udp-echo",
            "vlan-filtering",
        ]
        .contains(name);
        let line = if switch {
            format!("tap-reactor --{name}")
        } else {
            format!("tap-reactor --{name}=x")
        };
        let arguments = Arguments::from_iter_safe(line.split(' ')).expect(name);
        let text = if switch { "true" } else { "x" }.to_owned();
        let expected = Setting {
            name,
            text,
            origin: Origin::Flag,
        };
        assert_eq!(settings(&arguments).get(name), Some(&expected));
    }
}

#[test]
fn help_and_version_are_printed() {
    for line in ["--help", "--version", "clean --help"] {
        assert!(matches!(read(line), Ok(Request::Print(_))), "{line}");
    }
    assert!(matches!(read("clean"), Ok(Request::Clean)));
}

#[test]
fn help_tells_every_metric_and_every_format() {
    let Ok(Request::Print(help)) = read("--help") else {
        panic!("no help");
    };
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let metrics = tap_reactor::record::Metric::names();
    assert!(
        help.contains(&format!("with one of {metrics} and a dot")),
        "{help}"
    );
    assert!(help.contains(&Format::help()), "{help}");
}

#[test]
fn words_that_make_no_sense_are_answered_in_one_line() {
    let cases = [
        ("--vms", "requires a value"),
        ("-q -v", "cannot be used with"),
        ("--frobnicate", "--frobnicate"),
        ("stray", "stray"),
        ("--vms 0", "--vms 0: allowed is 1 or more"),
        (
            "--ping vm0:vm1 --report run.boto.hgrm",
            "no metric is named \"boto\"; expected a name without a further dot, for the rtt, or before .hgrm one of rtt,",
        ),
        (
            "--scenario /nonexistent.toml",
            "--scenario /nonexistent.toml: No such file",
        ),
    ];
    for (line, expected) in cases {
        let error = read(line).expect_err(line).to_string();
        assert!(error.contains(expected), "{line}: {error}");
        assert_eq!(error.lines().count(), 1, "{line}: {error}");
    }
}

/// What may stand for a value: what is one, what is nearly one, and what is nothing at all.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "vm0:vm1",
        "mesh",
        "ring",
        "random:3",
        "random:4294967295",
        "all:10.77.0.1",
        "vm[0-9]:vm[5-99999]",
        "0",
        "-1",
        "2",
        "65533",
        "4294967296",
        "18446744073709551616",
        "1e-20",
        "1e308",
        "inf",
        "nan",
        "0.5",
        "10k",
        "9999999G",
        "1_000",
        "1ns",
        "200us",
        "10ms",
        "584y",
        "18446744073709551615y",
        "9999999999999999999s",
        "0s",
        "1:1e7:100",
        "1e-9:2:2",
        "poisson",
        "always",
        "on",
        "sim",
        "bridge",
        "xdp",
        "none",
        "host",
        "10.77.0.0/16",
        "0.0.0.0/0",
        "fd77::/64",
        "::/0",
        "10.77.0.1/16",
        "fd77::1",
        "vm0=02:00:00:00:00:01",
        "vm0=100.200",
        "p99<200us",
        "loss<=1e-30%",
        "rate>1e400",
        "",
    ];
    prop_oneof![
        4 => select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => "[0-9]{1,25}(\\.[0-9]{1,5})?(e-?[0-9]{1,3})?(ns|us|ms|s|y|k|M|G|%)?".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..12),
    ]
}

fn word() -> impl Strategy<Value = OsString> {
    let names = LAB.iter().chain(LOAD).chain(OUTPUT).copied();
    // What is reported is tried, and that would be tried anywhere.
    let names: Vec<_> = names.filter(|name| *name != "report").collect();
    let flag = (select(names), proptest::option::of(value())).prop_map(|(name, value)| {
        let mut word = format!("--{name}").into_bytes();
        if let Some(value) = value {
            word.push(b'=');
            word.extend(value);
        }
        word
    });
    prop_oneof![6 => flag, 2 => value()].prop_map(OsString::from_vec)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_words_are_understood_or_refused_in_one_line(words in vec(word(), 0..6)) {
        let line = ["tap-reactor", "--dry-run"].map(OsString::from);
        match parse(line.into_iter().chain(words)) {
            Ok(Request::Print(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                let error = error.to_string();
                assert!(!error.is_empty() && !error.contains(char::is_control), "{error:?}");
            }
        }
    }
}

#[test]
fn a_value_that_is_no_text_is_refused() {
    for (before, after) in [
        ("--vms=", ""),
        ("--ping=vm0:", ""),
        ("--scenario=", ".toml"),
        ("--report=", ".json"),
        ("--expect=", ""),
        ("--", ""),
        ("", ""),
    ] {
        let word = [before.as_bytes(), b"\xff", after.as_bytes()].concat();
        let words = ["tap-reactor".into(), OsString::from_vec(word)];
        let error = parse(words).expect_err(before).to_string();
        assert_eq!(error.lines().count(), 1, "{error:?}");
    }
}
