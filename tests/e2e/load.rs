//! Load experiments as a user runs them: patterns, rates, phases, scenario files, reports, expectations.

use std::path::Path;

use serde_json::Value;

use crate::lab::{Lab, number, repository_file};

#[test]
fn every_experiment_of_the_repository_runs_when_it_is_shortened() {
    let lab = Lab::new();
    let mut files: Vec<_> = std::fs::read_dir(repository_file("scripts/experiments"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        // It takes a server, and has a test of its own.
        .filter(|path| !path.ends_with("dhcp-storm.toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    for path in files {
        let file = path.display();
        let plan = lab
            .tap_reactor(&format!("--scenario {file} --dry-run"))
            .expect_status(0);
        assert!(plan.stdout.contains("in all: "), "{file}: {plan:?}");
        if std::fs::read_to_string(&path)
            .unwrap()
            .contains("dhcp = true")
        {
            // It takes a server; its script is tested where those are.
            continue;
        }
        let short = "--duration 300ms --json";
        let run = lab.tap_reactor(&format!("--scenario {file} {short}"));
        let report = run.json();
        // A slow machine may leave pings of a steep ramp unsent, and then says so with status 1.
        let unsent = number(&report, "/totals/unsent");
        assert_eq!(run.status, i32::from(unsent > 0), "{file}: {run:?}");
        assert!(number(&report, "/totals/sent") > 0, "{file}");
        assert_eq!(
            number(&report, "/totals/sent"),
            number(&report, "/totals/received"),
            "{file}"
        );
    }
    assert!(lab.link_names().is_empty(), "the labs were private");
}

#[test]
fn what_one_flow_has_on_its_way_is_over_before_another_flow_has_its_turn() {
    let lab = Lab::new();
    // So that pings of one flow wait for those of 19 others before they are sent, and not after.
    let run =
        lab.tap_reactor("--vms 40 --ping pairs --window 16 --count 1600 --resolve static --json");
    let report = run.expect_status(0).json();
    let median = |metric: &str| number(&report, &format!("/{metric}/p50"));
    assert!(median("lateness_ns") > 4 * median("rtt_ns"), "{report}");
}

#[test]
fn a_mesh_at_a_rate_sends_what_was_asked_for_and_every_ping_is_answered() {
    let lab = Lab::new();
    let run = lab.tap_reactor(
        "--vms 20 --ping mesh --rate 2000 --duration 1s --warmup 200ms --resolve static --json",
    );
    let report = run.json();
    // A machine that stands still for a while leaves pings unsent, and the status tells.
    let (sent, unsent) = (
        number(&report, "/totals/sent"),
        number(&report, "/totals/unsent"),
    );
    assert_eq!(run.status, i32::from(unsent > 0), "{run:?}");
    assert_eq!(sent + unsent, 2_000);
    assert_eq!(number(&report, "/totals/received"), sent);
    assert_eq!(number(&report, "/flow_count"), 380);
    assert_eq!(
        number(&report, "/resolution_ns/count"),
        0,
        "neighbours were known"
    );
    let phases = report
        .pointer("/phases")
        .and_then(Value::as_array)
        .expect("phases");
    let sent = phases
        .iter()
        .map(|phase| (phase["counted"].clone(), number(phase, "/totals/sent")));
    assert_eq!(
        sent.collect::<Vec<_>>(),
        [(false.into(), 400), (true.into(), 2_000)]
    );
}

#[test]
fn a_window_counts_per_flow_and_patterns_add_up() {
    let lab = Lab::new();
    let run = lab.tap_reactor("--vms 6 --ping ring --ping vm0:all --window 3 --count 50 --json");
    let report = run.expect_status(0).json();
    assert_eq!(number(&report, "/flow_count"), 11);
    assert_eq!(number(&report, "/totals/received"), 550);
}

#[test]
fn reports_are_written_in_every_format_read_back_and_compared() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut flags = String::from("--ping vm0:vm1 --count 200 --interval 1ms --json");
    for ending in ["json", "csv", "hgrm", "hlog", "html"] {
        flags += &format!(" --output {}", path(&format!("run.{ending}")));
    }
    let run = lab.tap_reactor(&flags).expect_status(0);
    let saved: Value =
        serde_json::from_str(&std::fs::read_to_string(path("run.json")).unwrap()).unwrap();
    assert_eq!(saved, run.json(), "the file is what --json prints");
    for (ending, start) in [
        ("csv", "kind,"),
        ("hgrm", "       Value"),
        ("hlog", "#"),
        ("html", "<!"),
    ] {
        let text = std::fs::read_to_string(path(&format!("run.{ending}"))).unwrap();
        assert!(
            text.to_lowercase().starts_with(&start.to_lowercase()),
            "{ending}: {text:.80}"
        );
    }
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 5, "no temporary file is left: {names:?}");

    let (one, other) = (path("run.json"), path("again.json"));
    std::fs::copy(&one, &other).unwrap();
    let merged = lab
        .tap_reactor(&format!("report {one} {other} --merge --json"))
        .expect_status(0);
    assert_eq!(number(&merged.json(), "/totals/received"), 400);
    let page = path("compare.html");
    let compared = lab.tap_reactor(&format!("report {one} {other} --compare --output {page}"));
    compared.expect_status(0);
    assert!(Path::new(&page).exists());
    std::fs::write(path("no.json"), "{}").unwrap();
    let refused = lab
        .tap_reactor(&format!("report {}", path("no.json")))
        .expect_status(2);
    assert!(refused.stderr.contains("no.json"), "{refused:?}");
}

#[test]
fn an_expectation_that_fails_makes_the_status_1_and_each_is_told() {
    let lab = Lab::new();
    let line = "--ping vm0:vm1 --count 20 --interval 1ms --expect received>=20 --expect loss<0.1%";
    let met = lab.tap_reactor(line).expect_status(0);
    assert!(
        met.stdout
            .contains("expected received>=20: holds, found 20"),
        "{met:?}"
    );
    let failed = lab
        .tap_reactor(&format!("{line} --expect sent>20"))
        .expect_status(1);
    assert!(
        failed.stdout.contains("expected sent>20: FAILS, found 20"),
        "{failed:?}"
    );
}

#[test]
fn a_scenario_that_cannot_be_is_named_by_file_line_and_field() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lab.toml");
    std::fs::write(&file, "vms = 2\nping = \"ring\"\n\nrate = \"fast\"\n").unwrap();
    let run = lab.tap_reactor(&format!("--netns host --scenario {}", file.display()));
    let run = run.expect_status(2);
    assert!(
        run.stderr
            .contains("lab.toml, line 4: rate = fast: expected pings per second"),
        "{run:?}"
    );
    assert!(lab.link_names().is_empty());
}

#[test]
fn neighbours_are_found_before_the_first_ping_and_nothing_of_that_is_in_the_figures() {
    let lab = Lab::new();
    // Flags, and how many neighbours are asked for at least: with a proxy each VM asks for itself.
    for (flags, asked) in [("", 60), ("-6 --filter=off", 60), ("--resolve proxy", 240)] {
        let run = lab.tap_reactor(&format!(
            "--vms 16 --ping mesh --txqueuelen 24 --count 2 --interval 200ms {flags} --json"
        ));
        let report = run.expect_status(0).json();
        let search = &report["neighbours"];
        assert!(number(search, "/asked") >= asked, "{flags}: {search}");
        assert_eq!(number(search, "/missing"), 0, "{flags}: {search}");
        assert_eq!(report["drops"].get("tap_queue"), None, "{flags}: {report}");
        let found =
            number(&report, "/resolution_ns/count") + number(&report, "/resolution6_ns/count");
        assert_eq!(found, number(search, "/found"), "{flags}: {search}");
    }
    for (flags, resolved) in [("--resolve static", 0), ("--resolve at-once", 1)] {
        let run = lab.tap_reactor(&format!("--ping vm0:vm1 --count 2 {flags} --json"));
        let report = run.expect_status(0).json();
        assert_eq!(report.get("neighbours"), None, "{flags}");
        assert_eq!(number(&report, "/resolution_ns/count"), resolved, "{flags}");
    }
}

#[test]
fn a_neighbour_that_nobody_is_does_not_hold_up_the_others() {
    let lab = Lab::new();
    let run = lab.tap_reactor("--ping vm0:vm1 --ping vm0:10.77.0.99 --count 3 --json");
    let report = run.expect_status(1).json();
    let search = &report["neighbours"];
    assert_eq!(
        (number(search, "/asked"), number(search, "/missing")),
        (2, 1),
        "{search}"
    );
    assert_eq!(number(&report, "/totals/received"), 3);
    assert_eq!(number(&report, "/totals/unresolved"), 3);
}
