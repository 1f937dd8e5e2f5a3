//! Command lines of `ctl`, good and bad, and the words for what a lab answers.

use std::collections::HashSet;
use std::ffi::OsString;

use super::text;
use super::*;
use crate::cli::{Request, options, parse};

fn read(line: &str) -> Result<CtlRequest, String> {
    let words = format!("tap-reactor ctl {line}");
    match parse(words.split_whitespace().map(OsString::from)) {
        Ok(Request::Ctl(request)) => Ok(request),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn every_command_is_read_with_its_operands_and_options() {
    for (line, name, operands) in [
        ("s status", "status", ["", ""]),
        ("s watch --interval 100ms", "watch", ["", ""]),
        ("s vms", "vms", ["", ""]),
        ("s vms vm3 --json", "vms", ["vm3", ""]),
        ("s add-vms 10", "add-vms", ["10", ""]),
        ("s remove vm[0-3]", "remove", ["vm[0-3]", ""]),
        ("s flows --worst=3", "flows", ["", ""]),
        ("s flow vm0:vm1 --rate 100 -s 9", "flow", ["vm0:vm1", ""]),
        ("--json s flow --window 4 mesh", "flow", ["mesh", ""]),
        ("s end-flow 3", "end-flow", ["3", ""]),
        ("s rate 5k", "rate", ["5k", ""]),
        ("s interval 10ms", "interval", ["10ms", ""]),
        ("s window 4", "window", ["4", ""]),
        (
            "s impair vm3:delay=5ms,loss=1%",
            "impair",
            ["vm3:delay=5ms,loss=1%", ""],
        ),
        ("s impairments", "impairments", ["", ""]),
        ("s end-impairments", "end-impairments", ["", ""]),
        (
            "s capture f --capture-on-loss 20 --capture-vms vm3",
            "capture",
            ["f", ""],
        ),
        ("s captures", "captures", ["", ""]),
        ("s end-capture 0", "end-capture", ["0", ""]),
        ("s mark policy", "mark", ["policy", ""]),
        ("s report", "report", ["", ""]),
        ("s report html", "report", ["html", ""]),
        ("s report -o /tmp/a.html -o /tmp/b.json", "report", ["", ""]),
        ("s events --json", "events", ["", ""]),
        (
            "tcp:127.0.0.1:1 metrics --control-token-file f",
            "metrics",
            ["", ""],
        ),
        ("s stop", "stop", ["", ""]),
        ("s help flow", "help", ["flow", ""]),
    ] {
        let request = read(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let call = request.call.unwrap();
        assert_eq!(call.command.name, name);
        assert_eq!([0, 1].map(|at| call.operand(at)), operands, "{line}");
        assert_eq!(request.json, line.contains("--json"));
    }
    assert!(read("lab.sock").unwrap().call.is_none());
}

#[test]
fn a_wrong_line_says_what_is_wrong_and_what_is_expected() {
    for (line, words) in [
        ("", "expected the address of a lab"),
        ("-", "expected the path of a Unix socket"),
        ("tcp:1 status", "expected tcp: and an address"),
        (
            "s statsu",
            "statsu: no such command; expected status, watch",
        ),
        ("s statsu", "did you mean status?"),
        ("s status now", "status: a word after it; expected status"),
        ("s mark", "mark: nothing after it; expected mark NAME"),
        ("s mark a b", "mark: 2 words after it; expected mark NAME"),
        (
            "s mark a --rate 5",
            "--rate: no option of mark; expected mark NAME",
        ),
        ("s --rate 5", "--rate: expected a command with it"),
        ("s report --worst 5", "--worst: no option of report"),
        ("s add-vms ten", "add-vms ten: expected a whole number"),
        ("s add-vms 99999999999", "expected a whole number"),
        ("s rate fast", "fast: expected pings per second"),
        ("s rate 0", "0: expected pings per second"),
        ("s rate 1e9", "above 0 and up to 10000000"),
        ("s flow mesh --rate 1e9", "above 0 and up to 10000000"),
        (
            "s flows --worst 0",
            "--worst 0: expected a whole number, 1 or more",
        ),
        ("s interval 0", "0: expected more than 0"),
        ("s window 1.5", "window 1.5: expected a whole number"),
        ("s end-flow vm0", "end-flow vm0: expected a whole number"),
        (
            "s flow mesh --rate x",
            "--rate x: expected pings per second",
        ),
        ("s flow mesh --size x", "--size x: expected a whole number"),
        ("s watch --interval x", "--interval x: expected a time"),
        (
            "s capture f --capture-on-loss x",
            "--capture-on-loss x: expected a whole number",
        ),
        ("s report -o x", "-o x: "),
        ("s report html -o x.html", "expected a format or --output"),
        ("s status --nope", "--nope: no such option"),
        ("s status --json --json", "--json: given more than once"),
        ("s flow mesh --rate", "--rate: expected a value after it"),
    ] {
        let error = read(line).map(|_| ()).unwrap_err();
        assert!(error.contains(words), "{line}: {error}");
        assert!(
            error.contains("expected") || line.contains("nope"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn the_table_of_commands_is_whole() {
    let mut names = HashSet::new();
    let mut used: HashSet<&str> = HashSet::new();
    for command in COMMANDS {
        assert!(names.insert(command.name), "{}", command.name);
        assert!(!command.about.is_empty() && !command.about.ends_with('.'));
        assert_eq!(
            command.options().count(),
            command.options.len(),
            "{}",
            command.name
        );
        used.extend(command.options);
        let is_needed = |operand: &&command::Operand| !operand.is_optional;
        let needed = command.operands.iter().take_while(is_needed).count();
        assert_eq!(command.operands.iter().filter(is_needed).count(), needed);
    }
    for option in options::ctl() {
        let is_of_all = ["json", TOKEN, "help", "version"].contains(&option.name);
        assert!(is_of_all != used.contains(&option.name), "{}", option.name);
    }
}

#[test]
fn what_has_changed_is_told_in_a_line() {
    let changed = |vms, first: &str, last: &str| {
        let document = serde_json::json!({ "vms": vms, "first": first, "last": last });
        text::changed(&serde_json::from_value(document).unwrap(), "start")
    };
    let impaired = |frames: &[serde_json::Value]| {
        let document = serde_json::json!({ "rules": [], "frames": frames });
        text::impairments(&serde_json::from_value(document).unwrap())
    };
    let window = |window: u32| {
        let document = serde_json::json!({ "window": window });
        text::load(&serde_json::from_value(document).unwrap())
    };
    let added = |flows, first| {
        let document = serde_json::json!({ "flows": flows, "first": first });
        text::added(&serde_json::from_value(document).unwrap())
    };
    for (told, words) in [
        (changed(0, "", ""), "no VMs start\n"),
        (changed(1, "vm3", "vm3"), "vm3 starts\n"),
        (changed(2, "vm3", "vm4"), "vm3 and vm4 start\n"),
        (changed(90, "vm10", "vm99"), "90 VMs start: vm10 to vm99\n"),
        (
            changed(1000, "vm0", "vm999"),
            "1,000 VMs start: vm0 to vm999\n",
        ),
        (impaired(&[]), "no impairments\n"),
        (
            impaired(&[serde_json::json!({
                "vm": "vm3", "direction": "out", "kind": "queue_full", "frames": 1200,
            })]),
            "no impairments\n\n\
             VM   direction  kind                     frames\n\
             vm3  out        dropped by a full queue   1,200\n",
        ),
        (window(1), "1 ping of each flow outstanding\n"),
        (window(64), "64 pings of each flow outstanding\n"),
        (added(1, 7), "flow 7 begins\n"),
        (added(9900, 0), "9,900 flows begin: 0 to 9899\n"),
    ] {
        assert_eq!(told, words);
    }
    for (line, words) in [
        (
            r#"{"time_ns":1500000,"vm":"vm0","kind":"ping_answered","dst":"vm1","ping":3,"rtt_ns":70}"#,
            "      0.001500  vm0       ping answered  dst vm1  ping 3  rtt_ns 70\n",
        ),
        ("{\"kind\":\"a\u{1b}b\"}", "{\"kind\":\"a\\u{1b}b\"}\n"),
        ("nonsense\n", "nonsense\n"),
    ] {
        assert_eq!(text::event(line.as_bytes()), words);
    }
}
