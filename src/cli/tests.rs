//! Command lines, good and bad.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::time::Duration;

use tap_reactor::experiment::options::{Kind, option};
use tap_reactor::fabric::{Form, INSTRUMENTS};
use tap_reactor::load::Pacing;

use super::*;
use tap_reactor::report::Format;

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
fn every_option_has_a_flag_of_its_name_and_tells_how_it_was_typed() {
    for option in tap_reactor::experiment::options::settings() {
        let name = option.name;
        let text = option.choices().first().copied();
        let text = text.unwrap_or(if option.needs_value() { "x" } else { "off" });
        let mut forms = vec![(format!("--{name}={text}"), text, false)];
        if option.needs_value() {
            forms.push((format!("--{name} {text}"), text, false));
            forms.extend(
                option
                    .short
                    .map(|short| (format!("-{short} {text}"), text, true)),
            );
        } else {
            let implied = option.implied.unwrap_or("on");
            forms.push((format!("--{name}"), implied, false));
            forms.extend(
                option
                    .short
                    .map(|short| (format!("-{short}"), implied, true)),
            );
        }
        for (line, text, is_short) in forms {
            for before in ["", "run "] {
                let line = format!("{before}{line}");
                let words = Words::new(&line.split(' ').collect::<Vec<_>>());
                let typed = [NAME]
                    .into_iter()
                    .chain(words.words.iter().map(String::as_str));
                let matches = app::app().get_matches_from_safe(typed).expect(&line);
                let own = matches.subcommand().1.unwrap_or(&matches);
                let expected = Setting {
                    name,
                    text: text.to_owned(),
                    origin: Origin::Flag { is_short },
                };
                assert_eq!(settings(&words, own).get(name), Some(&expected), "{line}");
            }
        }
    }
}

#[test]
fn help_and_version_are_printed() {
    for line in [
        "--help",
        "-h",
        "--version",
        "-V",
        "clean --help",
        "report -h",
        "run --help",
        "--vms 3 -h",
    ] {
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
fn words_that_make_no_sense_are_answered_in_one_line_that_names_them_as_typed() {
    let cases = [
        ("--vms", "--vms: expected a value after it: --vms N"),
        ("-c", "-c: expected a value after it: -c N"),
        ("-q -v", "-v: cannot be used with -q"),
        ("--quiet -v", "-v: cannot be used with --quiet"),
        ("--frobnicate", "--frobnicate: no such option (see"),
        (
            "--pnig vm0:vm1",
            "--pnig: no such option; did you mean --ping?",
        ),
        (
            "--intervall=3",
            "--intervall: no such option; did you mean --interval?",
        ),
        (
            "--sim-delay 5ms",
            "--sim-delay: no such option; did you mean --impair?",
        ),
        (
            "--sim-loss=0.1",
            "--sim-loss: no such option; did you mean --impair?",
        ),
        ("-x", "-x: no such option"),
        ("-6x", "-x: no such option"),
        ("stray", "stray: expected an option or a subcommand (see"),
        (
            "raport a.json",
            "raport: expected an option or a subcommand; did you mean report?",
        ),
        ("run stray", "stray: expected an option"),
        (
            "--spin 50us",
            "50us: unexpected after --spin; expected --spin=50us if it is the value",
        ),
        (
            "-6 off",
            "off: unexpected after -6; expected -6=off if it is the value",
        ),
        (
            "--vms 2 --vms 3",
            "--vms: given more than once; expected once",
        ),
        (
            "--seed 1 --vms 2 -c 1 --vms 3 --interval 1ms -c 2 --interval 2ms --seed 2",
            "--seed: given more than once; expected once",
        ),
        (
            "-q --interval 1ms -c 1 --vms 2 --vms 3 -c 2 --interval 2ms",
            "--interval: given more than once; expected once",
        ),
        ("-c 2 --count 3", "given more than once; expected once"),
        ("--vms 0", "--vms 0: expected 1 or more"),
        (
            "-c 0 --ping ring",
            "-c 0: expected a whole number from 1 on",
        ),
        (
            "--count -5 --ping ring",
            "--count -5: expected a whole number from 1 on",
        ),
        ("-c -5 --ping ring", "-c -5: expected"),
        (
            "-i soon --ping ring",
            "-i soon: expected a time such as 200us",
        ),
        ("-6", "-6: nothing is pinged; expected"),
        ("--ping-ipv6", "--ping-ipv6: nothing is pinged; expected"),
        (
            "--fabric brige",
            "--fabric brige: expected bridge, xdp, none, interface or sim; did you mean bridge?",
        ),
        ("-6=", "-6: expected nothing or -6=on|off"),
        (
            "--filter=",
            "--filter: expected nothing or --filter=auto|on|off",
        ),
        ("--vms=", "--vms '': expected a number of VMs"),
        ("-i= --ping ring", "-i '': expected a time such as"),
        ("--ipv6=maybe", "--ipv6=maybe: expected on or off"),
        (
            "--fabric none --attach",
            "--attach: needs --fabric bridge, and the fabric is none",
        ),
        (
            "--fabric sim --spin",
            "--spin: needs --fabric bridge, xdp, none or interface, and",
        ),
        ("--fabric sim --spin=1ms", "--spin=1ms: needs"),
        (
            "--expect p99<1s",
            "--expect p99<1s: nothing is pinged; expected",
        ),
        (
            "--ping ring --expect p99",
            "--expect p99: expected one of < <= > >= = between",
        ),
        (
            "--ping vm0:vm1 -o run.pdf",
            "-o run.pdf: the ending says the format; expected",
        ),
        (
            "--ping vm0:vm1 --output run.boto.hgrm",
            "no metric is named \"boto\"; expected a name without a further dot, for the rtt, or before .hgrm one of rtt,",
        ),
        (
            "--scenario /nonexistent.toml",
            "--scenario /nonexistent.toml: No such file",
        ),
        ("report", "report: expected the files of saved runs"),
        (
            "report a.json --compare",
            "--compare: expected two files or more, the first of them the baseline",
        ),
        (
            "report a.json b.json -o c.html",
            "-o: a document holds one run; expected",
        ),
        (
            "report a.json b.json --json",
            "--json: a document holds one run; expected",
        ),
        (
            "report a.json b.json --compare -o c.csv",
            "-o c.csv: the ending says the format; expected .json or .html",
        ),
        (
            "report a.json --fail-on-change",
            "--fail-on-change: needs --compare",
        ),
        (
            "report a.json --merge --compare",
            "--merge: cannot be used with --compare",
        ),
        (
            "-q report a.json",
            "report: a subcommand after options; expected it as the first word",
        ),
        ("--ipv6=", "--ipv6: expected nothing or --ipv6=on|off"),
        ("--spin=", "--spin: expected nothing or --spin=TIME|off"),
        ("-q stray", "stray: expected an option or a subcommand"),
        (
            "completions",
            "completions: expected bash, zsh or fish after it",
        ),
        (
            "completions bsh",
            "completions bsh: expected bash, zsh or fish; did you mean bash?",
        ),
        (
            "completions powershell",
            "completions powershell: expected bash, zsh or fish",
        ),
        ("completions bash zsh", "zsh: expected an option"),
        (
            "schema senario",
            "schema senario: expected scenario, report, comparison, search, control or trace; did you mean scenario?",
        ),
        ("man bash", "bash: expected an option"),
        ("report a.json --vms 3", "--vms: no such option"),
    ];
    for (line, expected) in cases {
        let error = read(line).expect_err(line).to_string();
        assert!(error.contains(expected), "{line}: {error}");
        assert_eq!(error.lines().count(), 1, "{line}: {error}");
    }
}

#[test]
fn a_flag_turns_off_what_a_scenario_turns_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lab.toml");
    std::fs::write(&path, "ipv6 = true\nping = \"ring\"\ncount = 1\n").unwrap();
    for (flag, is_on) in [("", true), (" --ipv6=off", false), (" --ipv6", true)] {
        let Ok(Request::Run(experiment, _)) = read(&format!("--scenario {}{flag}", path.display()))
        else {
            panic!("{flag}");
        };
        assert_eq!(experiment.vm_defaults.ipv6.is_some(), is_on, "{flag}");
    }
}

#[test]
fn a_time_without_a_unit_is_seconds_as_with_ping() {
    let Ok(Request::Run(run, _)) = read("--ping vm0:vm1 -c 3 -i 0.2 -s 100 -W 1 -t 9") else {
        panic!("no run");
    };
    let load = &run.phases[0].load;
    let interval = Pacing::Interval(Duration::from_millis(200));
    assert_eq!((load.pacing, load.count), (interval, Some(3)));
    assert_eq!(run.flows[0].payload_length, 100);
    assert_eq!(run.timeout, Duration::from_secs(1));
    assert_eq!(run.vm_defaults.ping.time_to_live, 9);
}

/// Values: right ones, nearly right ones, and nonsense.
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
    let names = tap_reactor::experiment::options::settings().map(|option| option.name);
    // What is reported is tried, and that would be tried anywhere.
    let names: Vec<_> = names.filter(|name| *name != "output").collect();
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
        ("--output=", ".json"),
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

/// The flags of the instruments that write something: to a file, or where a switch says.
fn instruments(is_switch: bool) -> impl Iterator<Item = String> {
    let write = INSTRUMENTS.iter().filter(|kind| kind.form != Form::Nothing);
    let kinds = write.map(|kind| option(kind.name).unwrap());
    let kinds = kinds.filter(move |option| (option.kind == Kind::Switch) == is_switch);
    kinds.map(|option| format!("--{}", option.name))
}

#[test]
fn a_socket_is_made_where_nothing_else_is_read_or_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let twice = "the lab listens there already; expected another path";
    let taken = "something else is read or written there; expected another path";
    for (line, expected) in [
        ("--control F/a --control F/a", Some(twice)),
        ("--control F/a --control F/./a", Some(twice)),
        (
            "--control F/a --control tcp:127.0.0.1:0 --control F/a",
            Some(twice),
        ),
        ("--control F/a.json -o F/a.json", Some(taken)),
        ("--control F/./a.json -o F/a.json", Some(taken)),
        ("--control F/a --capture F/a", Some(taken)),
        ("--control F/a --trace F/a", Some(taken)),
        ("--control F/a --control F/b -o F/c.json --trace F/d", None),
    ] {
        let line = format!("--ping vm0:vm1 {line}");
        let found = read(&line.replace("F/", &format!("{folder}/")));
        match (found, expected) {
            (Ok(_), None) => {}
            (Err(error), Some(words)) => {
                let error = error.to_string();
                assert!(
                    error.contains("--control ") && error.contains(words),
                    "{line}: {error}"
                );
            }
            (found, _) => panic!("{line}: {:?}", found.map(drop).map_err(|e| e.to_string())),
        }
    }
}

#[test]
fn every_instrument_refuses_a_place_that_it_can_not_write_to() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.json");
    let file = file.to_str().unwrap();
    let [first, second] = ["a.json", "b.json"].map(|name| folder.path().join(name));
    std::fs::write(&first, "").unwrap();
    std::fs::hard_link(&first, &second).unwrap();
    let [first, second] = [&first, &second].map(|path| path.to_str().unwrap());
    let mut cases = Vec::new();
    for flag in instruments(false) {
        cases.push((
            format!("{flag} {second} -o {first}"),
            format!("{flag} {second}: something else is written there"),
        ));
        let taken = format!("{flag} {file}: something else is written there");
        cases.extend([
            (
                format!("{flag} /nowhere/f"),
                format!("{flag} /nowhere/f: the folder /nowhere does not exist"),
            ),
            (
                format!("{flag} /tmp"),
                format!("{flag} /tmp: that is a folder"),
            ),
            (
                format!("{flag} - --json"),
                format!("{flag} -: cannot be used with --json"),
            ),
            (format!("{flag} {file} -o {file}"), taken.clone()),
        ]);
        // Those that stand before it in the table are looked at first.
        for other in instruments(false).take_while(|other| *other != flag) {
            cases.push((format!("{other} {file} {flag} {file}"), taken.clone()));
        }
    }
    cases.extend(instruments(true).map(|flag| {
        let expected = "cannot be used with --quiet".to_owned();
        (format!("{flag} --quiet"), expected)
    }));
    for (line, expected) in cases {
        let error = read(&line).expect_err(&line).to_string();
        assert!(error.contains(&expected), "{line}: {error}");
    }
}
