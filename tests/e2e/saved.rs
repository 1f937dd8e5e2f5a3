//! Saved runs: what they say of where their figures come from, and what `report` makes of several.

use serde_json::Value;
use tap_reactor::report::schema_json;

use crate::lab::{Finished, Lab};

/// A folder with saved runs in it, simulated but for `bridge.json`.
struct Saved {
    lab: Lab,
    folder: tempfile::TempDir,
}

impl Saved {
    fn new(runs: &[(&str, &str)]) -> Saved {
        let saved = Saved {
            lab: Lab::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        for (name, flags) in runs {
            let path = saved.path(name);
            let run = saved
                .lab
                .tap_reactor(&format!("{flags} -q --output {path}"));
            assert!([0, 1].contains(&run.status), "{run:?}");
        }
        saved
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn document(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }

    /// `report` with names of saved runs in place of their paths.
    fn report(&self, words: &str) -> Finished {
        let words = words
            .split_whitespace()
            .map(|word| match word.ends_with(".json") {
                true => self.path(word),
                false => word.to_owned(),
            });
        let words: Vec<_> = words.collect();
        self.lab.tap_reactor(&format!("report {}", words.join(" ")))
    }
}

const CALM: &str = "--fabric sim --ping vm0:vm1 --count 600 --interval 10ms";

#[test]
fn a_saved_run_says_what_was_planned_and_on_which_machine() {
    let saved = Saved::new(&[
        ("bridge.json", "--ping vm0:vm1 --count 3 --seed 7"),
        ("sim.json", CALM),
    ]);
    let (bridge, sim) = (saved.document("bridge.json"), saved.document("sim.json"));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    for (document, pointer, value) in [
        (&bridge, "/plan/settings/seed", Value::from("7")),
        (&bridge, "/plan/settings/ping", Value::from("vm0:vm1")),
        (&bridge, "/plan/settings/mtu", Value::from("1500")),
        (&bridge, "/plan/settings/interval", Value::from("10ms")),
        (&bridge, "/machine/kernel", Value::from(kernel.trim())),
        (&sim, "/plan/settings/fabric", Value::from("sim")),
        (&sim, "/plan/settings/timeout", Value::from("1s")),
    ] {
        assert_eq!(document.pointer(pointer), Some(&value), "{pointer}");
    }
    // A simulation is the same on every machine.
    assert_eq!(sim.get("machine"), None);
    let memory = |figure: &str| bridge["memory"][figure].as_u64().unwrap();
    assert!(
        memory("peak_bytes") >= 1 << 20 && memory("rss_bytes") >= 1 << 20,
        "{bridge}"
    );
}

/// A simulated load in which much happens: leases, IPv6, VLANs, phases, lost, late and doubled pings, errors.
const EVENTFUL: &str = r#"
fabric = "sim"
impair = "in:delay=2ms±1ms,loss=2%,duplicate=1%,reorder=5%"
txqueuelen = 20
timeout = "5ms"
ipv6 = true
announce = true
gateway = "10.77.0.7"
expect = ["p99<1s", "errored=5"]

[[group]]
vms = 3
vlan = 100

[[group]]
vms = 3
size = 200

[[phase]]
name = "warm-up"
duration = "1s"
ping = "ring"
rate = 200

[[phase]]
name = "nowhere"
ping = ["vm0:10.77.0.99", "vm1:192.0.2.1"]
duration = "1s"

[[phase]]
name = "storm"
ping = "mesh"
duration = "2s"
"#;

#[test]
fn reports_of_runs_are_as_their_schema_says() {
    let saved = Saved::new(&[]);
    std::fs::write(saved.path("eventful.toml"), EVENTFUL).unwrap();
    let eventful = format!("--scenario {}", saved.path("eventful.toml"));
    let tree = "--vms 5 --ping mesh --count 3 --ports-per-bridge 2 --ipv6 --dscp 5";
    for (name, flags) in [
        ("eventful.json", eventful.as_str()),
        ("calm.json", CALM),
        ("tree.json", tree),
        (
            "ttl.json",
            "--ping vm0:192.0.2.1 --gateway 10.77.0.3 --count 2",
        ),
        (
            "window.json",
            "--ping vm0:vm1 --window 1 --count 3 --fabric sim --expect loss=0",
        ),
        ("served.json", "--vms 2 --duration 10ms --fabric sim"),
    ] {
        let path = saved.path(name);
        let run = saved.lab.tap_reactor(&format!("{flags} -q -o {path}"));
        assert!([0, 1].contains(&run.status), "{run:?}");
    }
    let merged = saved.report("calm.json tree.json eventful.json --merge --allow-different --json");
    std::fs::write(saved.path("merged.json"), merged.expect_status(0).stdout).unwrap();
    let schema = serde_json::from_str(&schema_json()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for name in [
        "eventful", "calm", "tree", "ttl", "window", "served", "merged",
    ] {
        let document = saved.document(&format!("{name}.json"));
        if let Err(error) = validator.validate(&document) {
            panic!("{name}: {}: {error}", error.instance_path());
        }
    }
}

#[test]
fn a_report_never_takes_the_place_of_a_file_that_is_read() {
    let saved = Saved::new(&[("a.json", CALM), ("b.json", CALM)]);
    std::os::unix::fs::symlink(saved.path("a.json"), saved.path("link.json")).unwrap();
    let before = std::fs::read(saved.path("a.json")).unwrap();
    for words in [
        "a.json -o a.json",
        "a.json -o link.json",
        "link.json --output a.json",
        "b.json a.json --merge --allow-different -o a.json",
        "b.json a.json --compare -o a.json",
    ] {
        let refused = saved.report(words).expect_status(2);
        let said = "a.json: would overwrite a file that is read; expected another one";
        let said = said.replace("a.json", words.rsplit(' ').next().unwrap());
        assert!(refused.stderr.contains(&said), "{}", refused.stderr);
        assert_eq!(
            std::fs::read(saved.path("a.json")).unwrap(),
            before,
            "{words}"
        );
    }
    let (scenario, runs) = (saved.path("a.json"), saved.path("c.json"));
    std::fs::write(&scenario, "ping = 'ring'\ncount = 1\nfabric = 'sim'\n").unwrap();
    for (output, status) in [(&scenario, 2), (&runs, 0)] {
        let run = saved
            .lab
            .tap_reactor(&format!("--scenario {scenario} -q -o {output}"));
        run.expect_status(status);
    }
}

#[test]
fn a_run_that_is_named_twice_is_not_merged_with_itself() {
    let saved = Saved::new(&[("a.json", CALM), ("b.json", &format!("{CALM} --seed 3"))]);
    let link = saved.path("c.json");
    std::os::unix::fs::symlink(saved.path("a.json"), link).unwrap();
    for files in ["a.json b.json a.json", "a.json c.json"] {
        let refused = saved.report(&format!("{files} --merge")).expect_status(2);
        assert!(
            refused
                .stderr
                .contains(": given twice; expected each run once"),
            "{refused:?}"
        );
    }
}

#[test]
fn what_is_not_one_experiment_is_merged_only_when_asked_for_and_says_so() {
    let saved = Saved::new(&[
        ("a.json", CALM),
        ("seed.json", &format!("{CALM} --seed 3")),
        ("mtu.json", &format!("{CALM} --mtu 9000")),
        ("bridge.json", "--ping vm0:vm1 --count 600 --interval 1ms"),
    ]);
    let merged = saved
        .report("a.json seed.json --merge --json")
        .expect_status(0);
    let merged: Value = serde_json::from_str(&merged.stdout).unwrap();
    assert_eq!(merged["merged"]["runs"], 2);
    assert_eq!(merged["merged"]["unlike"][0]["what"], "seed");
    assert_eq!(merged["totals"]["received"], 1_200);
    for (files, told) in [
        ("a.json mtu.json", "mtu: 1500 / 9000"),
        ("a.json seed.json bridge.json", "fabric: sim / bridge"),
    ] {
        let refused = saved.report(&format!("{files} --merge")).expect_status(2);
        assert!(
            refused.stderr.contains(told) && refused.stdout.is_empty(),
            "{refused:?}"
        );
        assert!(refused.stderr.contains("--allow-different"), "{refused:?}");
        let merged = saved
            .report(&format!("{files} --merge --allow-different"))
            .expect_status(0);
        let line = merged
            .stdout
            .lines()
            .find(|line| line.starts_with("Merged from"));
        assert!(line.is_some_and(|line| line.contains(told)), "{merged:?}");
    }
}

#[test]
fn compared_runs_differ_by_their_plans_first_and_a_change_can_make_the_status_1() {
    let saved = Saved::new(&[
        ("a.json", CALM),
        ("slow.json", &format!("{CALM} --impair delay=20us")),
        ("short.json", "--fabric sim --ping vm0:vm1 --count 5"),
        (
            "outage.json",
            "--fabric sim --ping vm0:10.77.0.99 --count 600 --interval 10ms",
        ),
    ]);
    for (words, status, stdout, stderr) in [
        ("a.json a.json --fail-on-change", 0, "No figure differs", ""),
        ("a.json slow.json", 0, "differ  impair: ", ""),
        (
            "a.json slow.json --fail-on-change",
            1,
            "rtt.p50",
            "figures differ by more",
        ),
        (
            "a.json short.json --fail-on-change",
            1,
            "differ  count: 600 / 5",
            "can't be said",
        ),
        ("a.json outage.json", 0, "An outage: of ", ""),
        (
            "a.json outage.json --fail-on-change",
            1,
            "no ping was answered (600 unresolved)",
            "An outage",
        ),
        (
            "outage.json a.json --fail-on-change",
            1,
            "An outage has ended",
            "An outage has ended",
        ),
        (
            "outage.json outage.json --fail-on-change",
            1,
            "Neither run",
            "Neither run",
        ),
        // The second is judged.
        (
            "outage.json a.json --expect loss=0 --expect p99<21us",
            0,
            "rtt.p50",
            "",
        ),
        (
            "a.json slow.json --expect p99<21us",
            1,
            "rtt.p50",
            "slow.json: expected p99<21us: FAILS, found 60.0 µs",
        ),
    ] {
        let run = saved
            .report(&format!("{words} --compare"))
            .expect_status(status);
        assert!(run.stdout.contains(stdout), "{words}: {run:?}");
        assert!(
            run.stderr.contains(stderr) && run.stderr.is_empty() == stderr.is_empty(),
            "{words}: {run:?}"
        );
    }
}

#[test]
fn any_number_of_runs_is_compared_with_the_first_and_every_other_is_judged() {
    let saved = Saved::new(&[
        ("a.json", CALM),
        ("seed.json", &format!("{CALM} --seed 3")),
        ("slow.json", &format!("{CALM} --impair delay=20us")),
    ]);
    std::fs::create_dir(saved.path("x")).unwrap();
    std::fs::copy(saved.path("slow.json"), saved.path("x/a.json")).unwrap();
    let slow = "slow.json: expected p99<21us: FAILS, found 60.0 µs";
    for (words, status, stdout, stderr) in [
        (
            "a.json seed.json a.json --fail-on-change",
            0,
            vec!["run 3 ", "differs in seed: 0 / 3"],
            vec![],
        ),
        (
            "a.json seed.json slow.json x/a.json --fail-on-change",
            1,
            vec!["differs in impair: ", "× 3.00   worse", "\nx/a.json: "],
            vec![
                "/slow.json: 12 of 14 figures differ",
                "/x/a.json: 12 of 14 figures differ",
            ],
        ),
        (
            "slow.json a.json seed.json --expect p99<21us",
            0,
            vec!["better"],
            vec![],
        ),
        (
            "a.json slow.json seed.json --expect p99<21us",
            1,
            vec!["worse", "same"],
            vec![slow],
        ),
        (
            "slow.json a.json slow.json --expect p99<21us",
            1,
            vec!["better"],
            vec![slow],
        ),
    ] {
        let run = saved
            .report(&format!("{words} --compare"))
            .expect_status(status);
        for told in stdout {
            assert!(run.stdout.contains(told), "{words}: {told}: {run:?}");
        }
        assert_eq!(run.stderr.lines().count(), stderr.len(), "{words}: {run:?}");
        for (line, told) in run.stderr.lines().zip(stderr) {
            assert!(line.contains(told), "{words}: {told}: {run:?}");
        }
    }
    let json = |words: &str| -> Value {
        let run = saved.report(&format!("{words} --compare --json"));
        serde_json::from_str(&run.expect_status(0).stdout).unwrap()
    };
    let several = json("a.json slow.json seed.json");
    assert_eq!(several[0], json("a.json slow.json"));
    assert_eq!(several[1], json("a.json seed.json"));
    assert_eq!(several.as_array().map(Vec::len), Some(2));
}

#[test]
fn a_page_takes_as_many_runs_as_it_has_colours() {
    let saved = Saved::new(&[("a.json", CALM)]);
    let page = saved.path("page.html");
    let report = |runs: usize| {
        let files = vec!["a.json"; runs].join(" ");
        saved.report(&format!("{files} --compare -q -o {page}"))
    };
    let refused = report(7).expect_status(2);
    assert!(
        refused.stderr.contains("expected at most 6 runs") && refused.stderr.contains("found 7"),
        "{refused:?}"
    );
    assert!(!std::path::Path::new(&page).exists());
    let written = report(6).expect_status(0);
    assert_eq!(written.stdout, "");
    assert!(
        std::fs::read_to_string(&page)
            .unwrap()
            .contains("a.json (6)")
    );
    let alone = saved.report("a.json --compare").expect_status(2);
    assert!(
        alone.stderr.contains("expected two files or more"),
        "{alone:?}"
    );
}

#[test]
fn saved_runs_are_held_to_expectations() {
    let saved = Saved::new(&[("a.json", CALM), ("b.json", &format!("{CALM} --seed 3"))]);
    let met = saved
        .report("a.json b.json --expect received=600")
        .expect_status(0);
    assert_eq!(met.stderr, "");
    assert_eq!(
        met.stdout.matches("expected received=600: holds").count(),
        2,
        "{met:?}"
    );
    let unmet = saved
        .report("a.json b.json --merge --expect received=600 --expect loss=0")
        .expect_status(1);
    assert_eq!(
        unmet.stderr,
        "tap-reactor: merged: expected received=600: FAILS, found 1,200\n"
    );
    let wrong = saved.report("a.json --expect boto.p99<1s").expect_status(2);
    assert!(
        wrong.stderr.contains("no figure is named \"boto.p99\""),
        "{wrong:?}"
    );
}
