//! Impairments on real TAPs: every frame that was delayed, lost or changed is counted, and what is left is the network's.
//! Counts are exact; of times only lower bounds are held, for the machine may be busy.

use serde_json::Value;

use crate::lab::{Lab, number};

/// The number of frames of `kind`, of all VMs and both directions.
fn frames(report: &Value, kind: &str) -> u64 {
    let rows = report["impairments"].as_array();
    let rows = rows.map(Vec::as_slice).unwrap_or_default();
    let of_kind = rows.iter().filter(|row| row["kind"] == kind);
    of_kind.map(|row| row["frames"].as_u64().unwrap()).sum()
}

/// Without ARP or anything else there are no frames but those of the pings.
const CALM: &str = "--resolve static --ping vm0:vm1 --timeout 3s --json";

#[test]
fn the_same_impairments_do_the_same_on_every_fabric_and_nothing_else_is_lost() {
    let run = |fabric: &str| {
        let lab = Lab::new();
        let impairments = "--impair vm0:every=10 \
                           --impair vm1:loss=5%,delay=2ms±1ms,duplicate=5%,reorder=1% \
                           --impair vm1:in:corrupt=2%,delay=1ms";
        lab.tap_reactor(&format!(
            "--fabric {fabric} {CALM} --interval 1ms --count 600 {impairments}"
        ))
        .json()
    };
    let simulated = run("sim");
    for fabric in ["bridge", "xdp"] {
        let report = run(fabric);
        assert_eq!(report["impairments"], simulated["impairments"], "{fabric}");
        let [sent, received, lost, duplicate] = ["sent", "received", "lost", "duplicate"]
            .map(|count| number(&report, &format!("/totals/{count}")));
        let impaired = frames(&report, "lost") + frames(&report, "corrupted");
        assert_eq!(sent, received + impaired, "{fabric}: {report}");
        assert_eq!((sent, lost), (600, impaired), "{fabric}");
        assert_eq!(duplicate, frames(&report, "duplicated"), "{fabric}");
        // Of a frame that is held twice each copy is released.
        let released = number(&report, "/release_ns/count");
        let delayed = frames(&report, "delayed");
        let copies = delayed..=delayed + frames(&report, "duplicated");
        assert!(
            copies.contains(&released),
            "{fabric}: {released} {copies:?}"
        );
        // What is reordered is held on its way in only.
        assert!(number(&report, "/rtt_ns/min") >= 1_000_000, "{fabric}");
        assert!(number(&report, "/rtt_ns/p50") >= 2_000_000, "{fabric}");
        let verdict = report["verdict"]["sentence"].as_str().unwrap();
        let told = "Frames were impaired as asked (--impair): ";
        assert!(verdict.contains(told), "{verdict}");
    }
}

#[test]
fn a_simulated_and_a_real_run_of_one_scenario_differ_by_what_the_kernel_adds() {
    let lab = Lab::new();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let impairments = "--impair vm1:delay=5ms,every=50";
    for (fabric, name) in [("sim", "sim.json"), ("bridge", "bridge.json")] {
        let arguments =
            format!("--fabric {fabric} {CALM} --interval 1ms --count 500 {impairments}");
        let file = path(name);
        lab.tap_reactor(&format!("{arguments} -o {file}"))
            .expect_status(1);
    }
    let [simulated, real] = ["sim.json", "bridge.json"].map(|name| {
        let text = std::fs::read_to_string(path(name)).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    });
    for same in ["/totals", "/impairments"] {
        assert_eq!(simulated.pointer(same), real.pointer(same), "{same}");
    }
    let least = |report: &Value| number(report, "/rtt_ns/min");
    // HDR histograms keep three digits.
    assert!((5_015_000..=5_025_000).contains(&least(&simulated)));
    assert!(least(&real) >= 5_000_000, "{real}");
    let (sim, bridge) = (path("sim.json"), path("bridge.json"));
    let compared = lab
        .tap_reactor(&format!("report {sim} {bridge} --compare"))
        .expect_status(0);
    let loss = compared
        .stdout
        .lines()
        .find(|line| line.starts_with("loss"));
    let loss = loss.unwrap_or_else(|| panic!("{compared:?}"));
    assert!(loss.contains("2.00 %"), "{loss}");
    assert!(loss.contains("× 1.00"), "{loss}");
}

#[test]
fn a_rate_is_never_exceeded_and_its_queue_drops_the_rest() {
    let lab = Lab::new();
    // 98 bytes of a ping take 784 µs at 1 Mbit/s.
    let run = lab.tap_reactor(&format!(
        "{CALM} --interval 200us --count 1000 --impair vm0:rate=1Mbit,queue=10"
    ));
    let report = run.json();
    let (received, dropped) = (
        number(&report, "/totals/received"),
        frames(&report, "queue_full"),
    );
    assert!(dropped > 0, "{report}");
    assert_eq!(received + dropped, 1000, "{report}");
    let taken = number(&report, "/elapsed_ns") + number(&report, "/waited_ns");
    assert!(received * 784_000 <= taken + 1_000_000, "{report}");
}

#[test]
fn a_pair_is_impaired_and_a_phase_may_change_it() {
    let lab = Lab::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lossy.toml");
    std::fs::write(
        &file,
        "resolve = \"static\"\nping = [\"client:server\"]\ncount = 20\ninterval = \"1ms\"\n\
         impair = \"vm0>server:every=4\"\n\
         [[group]]\nname = \"client\"\nvms = 2\n[[group]]\nname = \"server\"\n\
         [[phase]]\nname = \"lossy\"\n[[phase]]\nname = \"calm\"\nimpair = \"none\"\n",
    )
    .unwrap();
    let run = lab.tap_reactor(&format!("--scenario {} --json", file.display()));
    let report = run.json();
    let lost = |flow| number(&report, &format!("/flows/{flow}/totals/lost"));
    assert_eq!((lost(0), lost(1)), (5, 0), "{report}");
    assert_eq!(number(&report, "/phases/0/totals/lost"), 5);
    assert_eq!(number(&report, "/phases/1/totals/lost"), 0);
}

#[test]
fn many_vms_may_have_a_delay_each() {
    let lab = Lab::new();
    let run = lab.tap_reactor(
        "--vms 300 --ping ring --rate 3000 --duration 1s --resolve static --timeout 5s \
         --impair delay=5ms --json",
    );
    let report = run.json();
    let sent = number(&report, "/totals/sent");
    assert_eq!(number(&report, "/totals/received"), sent);
    assert_eq!(frames(&report, "delayed"), 2 * sent);
    assert!(number(&report, "/rtt_ns/min") >= 10_000_000, "{report}");
}

#[test]
fn impairments_that_can_not_be_are_refused_in_one_line() {
    let lab = Lab::new();
    for (impairment, expected) in [
        ("vm0:loss=101%", "loss=101%: expected a share"),
        ("delay=-1ms", "delay=-1ms: expected a time"),
        ("vm99:delay=1ms", "there is no vm99; expected vm0 to vm1"),
        ("rate=0", "rate=0: expected a rate above 0"),
    ] {
        let run = lab
            .tap_reactor(&format!("--ping vm0:vm1 --impair {impairment}"))
            .expect_status(2);
        assert!(run.stderr.contains(expected), "{run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    }
    assert!(lab.link_names().is_empty());
}

#[test]
fn the_way_there_and_the_way_back_are_measured_apart() {
    let report = Lab::new()
        .tap_reactor(
            "--vms 2 --ping vm0:vm1 --count 50 --interval 2ms --one-way --impair vm1:in:delay=20ms --json \
             --expect forward.min>=20ms --expect backward.min<20ms",
        )
        .expect_status(0)
        .json();
    for way in ["forward_ns", "backward_ns"] {
        assert_eq!(number(&report, &format!("/{way}/count")), 50, "{way}");
    }
}
