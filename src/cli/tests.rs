//! Command lines, good and bad.

use tap_reactor::experiment::{Origin, Setting};

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
    use tap_reactor::experiment::{LAB, LOAD, OUTPUT};
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
            "static-neighbours",
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
    assert!(help.contains(&report::Format::help()), "{help}");
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
