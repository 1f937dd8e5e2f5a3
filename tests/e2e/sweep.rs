//! `--sweep`: one run for each value of a setting, side by side.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::Lab;

/// At so many bits per second into each VM, requests of 80 VMs are repeated until all are answered, and of 200 VMs not all
/// are.
const SLOW_LINKS: &str = "--fabric sim --ping ring --resolve at-once --count 1 --filter=off \
                          --impair all:in:rate=100kbit,queue=30";

#[test]
fn a_ramp_over_vms_tells_at_how_many_resolution_breaks() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::new();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let run = lab
        .tap_reactor(&format!(
            "{SLOW_LINKS} --sweep vms=20,80,200 -o {} -o {}",
            path("run-{}.json"),
            path("ramp.json")
        ))
        .expect_status(1);
    assert!(
        run.stdout
            .ends_with("\nHolds at vms=80, breaks at vms=200: 98 of 200 pings unresolved.\n"),
        "{run:?}"
    );
    let document = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(path(name)).unwrap()).unwrap()
    };
    for (vms, unresolved) in [(20, 0), (80, 0), (200, 98)] {
        let report = document(&format!("run-{vms}.json"));
        assert_eq!(report["totals"]["unresolved"], unresolved, "{vms}");
        assert_eq!(report["plan"]["settings"]["vms"], vms.to_string());
        let row = run
            .stdout
            .lines()
            .find(|line| line.starts_with(&format!("vms={vms} ")));
        let row: Vec<_> = row.expect("a row").split_whitespace().collect();
        assert_eq!(row[1..4][2], unresolved.to_string(), "{row:?}");
    }
    let ramp = document("ramp.json");
    let faults: Vec<_> = ramp
        .as_array()
        .unwrap()
        .iter()
        .map(|each| &each["after"]["fault"])
        .collect();
    assert_eq!(
        faults,
        [&Value::Null, &Value::from("98 of 200 pings unresolved")]
    );
}

#[test]
fn any_setting_of_one_value_is_swept_and_expectations_say_what_breaks() {
    let lab = Lab::new();
    for (words, status, told) in [
        (
            "--sweep size=56,1400 --vms 2 --ping vm0:vm1 --count 5 --interval 1ms",
            0,
            "Holds at all 2 values: every neighbour is found, and every expectation holds.",
        ),
        (
            "--fabric sim --sweep interval=1ms,100us --vms 2 --ping vm0:vm1 --count 5 --expect rate<2000",
            1,
            "Holds at interval=1ms, breaks at interval=100us: expected rate<2000: FAILS, found 10,000/s.",
        ),
        (
            "--fabric sim --sweep timeout=1s,1ms --vms 2 --ping vm0:vm1 --count 3 --impair delay=2ms --expect loss=0",
            1,
            "breaks at timeout=1ms",
        ),
        // Frames, lost, one-way p50 and p99, and what came in a second.
        (
            "--fabric sim --sweep rate=1k,10k --vms 2 --stream vm0:vm1 --count 1000 --impair delay=2ms,every=4",
            1,
            "rate=10k   1,000   250      2.01 ms  2.01 ms  7,497/s",
        ),
    ] {
        let run = lab.tap_reactor(words).expect_status(status);
        assert!(run.stdout.contains(told), "{run:?}");
        assert_eq!(lab.link_names(), [""; 0], "{words}");
    }
}

#[test]
fn a_sweep_that_cannot_be_right_is_refused_before_anything_is_made() {
    let lab = Lab::new();
    for (words, told) in [
        (
            "--vms 3 --sweep vms=1,2",
            "--vms 3: cannot be used with --sweep vms",
        ),
        (
            "--sweep vm=1,2",
            "there is no setting vm; did you mean vms?",
        ),
        ("--sweep json=on,off", "json is no setting of an experiment"),
        (
            "--sweep vms",
            "expected a setting and its values, such as vms=10,100,1000",
        ),
        ("--sweep vms=2,2", "2 is given twice"),
        ("--sweep vms=2", "expected 2 to 100 values"),
        ("--sweep ping=a,b", "ping can't be swept"),
        (
            "--sweep vms=2,0",
            "--sweep vms=2,0: --vms 0: expected 1 or more",
        ),
        (
            "--sweep vms=2,3 --capture x.pcapng",
            "expected {} in the name",
        ),
        (
            "--sweep vms=2,3 -o x.csv",
            "expected .json or .html for a comparison",
        ),
        (
            "--sweep vms=2,3 -o r-2.json -o r-{}.json",
            "expected another file",
        ),
    ] {
        let run = lab
            .tap_reactor(&format!("--ping ring {words}"))
            .expect_status(2);
        assert!(run.stderr.contains(told), "{run:?}");
        assert!(run.stdout.is_empty(), "{run:?}");
    }
    let plan = lab
        .tap_reactor("--sweep vms=2,3 --ping ring --dry-run")
        .expect_status(0);
    for part in ["vms=2\n\n", "vms=3\n\n"] {
        assert!(plan.stdout.contains(part), "{plan:?}");
    }
}

#[test]
fn a_signal_ends_the_run_that_it_comes_in_and_what_was_measured_is_told() {
    let lab = Lab::new();
    let words = "--netns host --sweep duration=200ms,1h,2h --vms 2 --ping vm0:vm1 -i 10ms";
    let mut run = lab.start_tap_reactor(words);
    run.wait_until_it_says("duration=1h");
    lab.wait_until_vm_sent(&mut run, "tap0", 50);
    run.signal(Signal::SIGINT);
    let run = run.wait().expect_status(1);
    for part in ["\nduration=200ms ", "\nduration=1h "] {
        assert!(run.stdout.contains(part), "{run:?}");
    }
    assert!(run.stderr.contains("not run: duration=2h"), "{run:?}");
    assert!(
        run.stdout.ends_with(
            "\nHolds at duration=200ms: every neighbour is found, and every expectation holds.\n"
        ),
        "{run:?}"
    );
    assert_eq!(lab.link_names(), [""; 0]);
}
