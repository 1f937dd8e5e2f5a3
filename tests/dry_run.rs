//! A run sends the pings that a dry run announces: in virtual time, where nothing is late, and on the switch in
//! memory, which loses nothing.

use std::path::Path;

use tap_reactor::experiment::{Experiment, Scenario, Settings, describe, plan};
use tap_reactor::lab::Lab;

/// The plan of a scenario on the switch in memory.
fn simulated(scenario: Scenario) -> Experiment {
    let mut flags = Settings::default();
    flags.add_flag("fabric", "sim");
    plan(&scenario.overlaid(&flags)).unwrap()
}

/// Returns the announced pings of each phase and of all: `Some` for a number, and true if it is exact.
fn promised(experiment: &Experiment) -> Vec<(Option<u64>, bool)> {
    let expected = experiment.expected_pings();
    let expected: Vec<_> = expected.iter().map(|e| (e.pings, e.is_exact)).collect();
    // The text says the same.
    let told = describe(experiment);
    for (pings, is_exact) in &expected {
        if let Some(pings) = pings {
            let about = if *is_exact { "" } else { "about " };
            let unit = if *pings == 1 { "ping" } else { "pings" };
            assert!(told.contains(&format!("{about}{pings} {unit}")), "{told}");
        }
    }
    expected
}

/// Returns the pings that a run of it sends in each phase.
fn sent(experiment: &Experiment) -> Vec<u64> {
    let mut lab = Lab::build(experiment, &mut ()).unwrap();
    lab.run(&mut ());
    let report = lab.report("");
    if experiment.phases.len() == 1 && report.phases.is_empty() {
        // A run that is not divided has no parts in its report.
        return vec![report.totals.sent];
    }
    let mut reported = report.phases.iter().peekable();
    let phases = experiment.phases.iter();
    let sent = phases.map(|phase| {
        let reported = reported.next_if(|reported| reported.name == phase.name);
        reported.map_or(0, |phase| phase.totals.sent)
    });
    let sent = sent.collect();
    assert_eq!(reported.next().map(|phase| &phase.name), None);
    sent
}

#[track_caller]
fn check(what: &str, experiment: &Experiment) {
    let promised = promised(experiment);
    let sent = sent(experiment);
    assert_eq!(promised.len(), sent.len(), "{what}");
    for (i, ((promised, is_exact), sent)) in promised.into_iter().zip(sent).enumerate() {
        match (promised, is_exact) {
            (None, _) => assert!(sent > 0, "{what}, phase {i}"),
            (Some(promised), true) => assert_eq!(promised, sent, "{what}, phase {i}"),
            // Chance is off by no more than a tenth where there are thousands.
            (Some(promised), false) => {
                let off = promised.abs_diff(sent);
                assert!(
                    off <= 20 + promised / 10,
                    "{what}, phase {i}: about {promised}, sent {sent}"
                );
            }
        }
    }
}

#[test]
fn every_load_sends_what_its_dry_run_says() {
    for line in [
        "ping=vm0:vm1 count=100",
        "ping=vm0:vm1 duration=1s",
        "ping=vm0:vm1 count=10 duration=1s",
        "ping=vm0:vm1 count=1000 duration=1s",
        "ping=vm0:vm1 interval=3ms duration=1s",
        "vms=7 ping=ring interval=10ms duration=105ms",
        "vms=7 ping=ring interval=1s duration=500ms",
        "vms=7 ping=ring interval=10ms duration=105ms stagger=0",
        "vms=50 ping=mesh interval=100ms duration=1s stagger=500ms",
        "vms=50 ping=mesh interval=100ms duration=1s arrivals=poisson",
        "vms=10 ping=mesh rate=777 duration=1s",
        "vms=10 ping=mesh rate=777 duration=1s count=2",
        "vms=10 ping=mesh rate=777 count=2",
        "vms=10 ping=mesh rate=0.5 duration=4s",
        "vms=10 ping=mesh rate=5k duration=1s arrivals=poisson",
        "vms=4 ping=pairs ramp=1000:5000:5 duration=1s",
        "vms=4 ping=pairs ramp=1000:5000:3 duration=1s warmup=100ms",
        "vms=4 ping=ring rate=1k duration=1s warmup=300ms",
        "vms=4 ping=ring count=5 warmup=300ms",
        "vms=4 ping=ring window=4 count=50",
        "vms=4 ping=ring window=4 count=50 duration=10s",
        "vms=4 ping=ring window=4 duration=10ms",
        "ping=vm0:vm1 duration=100ms stagger=10s",
        "vms=4 ping=ring duration=10ms interval=10s",
    ] {
        let mut scenario = Scenario::default();
        for word in line.split(' ') {
            let (name, text) = word.split_once('=').unwrap();
            let known = [
                "vms", "ping", "count", "duration", "interval", "stagger", "arrivals", "rate",
                "ramp", "warmup", "window",
            ];
            let name = known.into_iter().find(|known| *known == name).unwrap();
            scenario.settings.add_flag(name, text);
        }
        check(line, &simulated(scenario));
    }
}

#[test]
fn vms_that_come_and_go_send_what_the_dry_run_says() {
    let groups = "[[group]]\nname = \"s\"\nvms = 2\n[[group]]\nname = \"c\"\nvms = 20\n";
    for phases in [
        "[[phase]]\nping = \"c:vm0\"\nduration = \"1s\"\nstart = \"c\"\n",
        "[[phase]]\nping = \"c:vm0\"\nduration = \"1s\"\nstart = \"c at 40 per second\"\n",
        "[[phase]]\nping = \"c:vm0\"\nduration = \"1s\"\nstop = \"c at 40 per second\"\n",
        "[[phase]]\nping = \"c:vm0\"\nduration = \"1s\"\nstart = \"5\"\n[[phase]]\nping = \"c:vm0\"\nduration = \"1s\"\nstop = \"15\"\n\
         [[phase]]\nping = \"c:vm0\"\nduration = \"1s\"\n",
        // Nobody who pings is there before the second phase, or after it.
        "[[phase]]\nping = \"c:vm0\"\nduration = \"1s\"\n[[phase]]\nping = \"c:vm0\"\nduration = \"1s\"\nstart = \"c\"\n\
         [[phase]]\nping = \"s:vm0\"\nduration = \"100ms\"\nstop = \"c\"\n[[phase]]\nping = \"c:vm0\"\nduration = \"1s\"\n",
        "[[phase]]\nping = \"c:vm0\"\nrate = 1000\nduration = \"1s\"\nstart = \"c at 40 per second\"\n",
        "[[phase]]\nping = \"c:vm0\"\nrate = 1000\nduration = \"1s\"\n[[phase]]\nping = \"vm1:vm0\"\nduration = \"1s\"\nstart = \"c\"\n",
    ] {
        let text = format!("{groups}{}", phases.replace("\"s:vm0\"", "\"vm1:vm0\""));
        let scenario = Scenario::parse("moves.toml", &text).unwrap();
        check(phases, &simulated(scenario));
    }
}

#[test]
fn every_experiment_of_the_repository_sends_what_its_dry_run_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/experiments");
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let scenarios: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        // The switch in memory has no DHCP server.
        .filter(|path| !path.ends_with("dhcp-storm.toml"))
        .collect();
    assert!(scenarios.len() >= 5, "{scenarios:?}");
    for path in scenarios {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut scenario = Scenario::parse(&name, &text).unwrap();
        // What goes by replies is not to send millions of pings.
        scenario.settings.add_flag("impair", "delay=5ms");
        // A tenth of the rate is the same plan, and takes a tenth of the time.
        if name.ends_with("saturation.toml") {
            scenario.settings.add_flag("ramp", "2000:40000:10");
        }
        // Without an end nothing of it is done.
        if name.ends_with("soak.toml") {
            scenario.settings.add_flag("duration", "20s");
        }
        check(&name, &simulated(scenario));
    }
}
