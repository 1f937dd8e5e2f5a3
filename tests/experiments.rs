//! Every experiment under `scripts/experiments/` does what its comments say: held by its plan, and by a simulated run of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tap_reactor::experiment::{self, Experiment, Scenario, Settings};
use tap_reactor::lab::Lab;
use tap_reactor::record::{DropReason, Metric};
use tap_reactor::report::{PhaseReport, Report};

/// A phase: its name, how many flows it has, and how many pings it is to send; `None` for as many as replies let it.
type Phase = (&'static str, u32, Option<u64>);

struct Case {
    file: &'static str,
    vms: usize,
    phases: &'static [Phase],
    /// The simulation: with durations as in the file, shortened, or none if it would differ.
    simulated: Simulated,
    check: fn(&Report),
}

enum Simulated {
    Whole,
    Shortened(&'static str),
    No,
}

const CASES: &[Case] = &[
    Case {
        file: "arp-storm.toml",
        vms: 200,
        phases: &[("storm", 200, Some(200)), ("afterwards", 200, Some(4_000))],
        simulated: Simulated::Whole,
        check: |report| {
            // All ask at the same moment, everybody hears every request, and nobody asked beforehand.
            assert_eq!(report.neighbours, None);
            assert_eq!(report.summaries[Metric::Resolution].count, 200);
            // The VM before the sender has just asked for it, and learns it from its request, as a kernel does: after one
            // delivery, and not after two.
            assert_eq!(report.drops.get(DropReason::ArpNotForUs), 200 * 197);
            let waited = |phase: &PhaseReport| {
                let longest = |metric| phase.summaries[metric].max.unwrap();
                longest(Metric::Response) - longest(Metric::Rtt)
            };
            assert_eq!(waited(&report.phases[0]), 10_000);
            assert_eq!(waited(&report.phases[1]), 0);
        },
    },
    Case {
        file: "boot-storm.toml",
        vms: 211,
        phases: &[
            ("warm-up", 10, Some(5_000)),
            ("calm", 10, Some(20_000)),
            // Ten residents for two seconds, and client k from k hundredths of a second on.
            ("boot storm", 210, Some(2_000 + 20_100)),
            // Ten residents and a hundred clients for two seconds; of the others one leaves every fiftieth of a second.
            ("half of them stop", 210, Some(22_000 + 9_900)),
        ],
        simulated: Simulated::Whole,
        check: |report| {
            assert_eq!(report.summaries[Metric::Boot].count, 210);
            assert_eq!(report.totals.failed(), 0);
        },
    },
    Case {
        file: "dhcp-storm.toml",
        vms: 500,
        phases: &[("", 500, Some(1_500))],
        // It takes a server.
        simulated: Simulated::No,
        check: |_| {},
    },
    Case {
        file: "incast.toml",
        vms: 51,
        phases: &[
            ("warm-up", 50, Some(2_500)),
            ("calm", 50, Some(25_000)),
            ("all at once", 50, None),
        ],
        simulated: Simulated::Shortened("10ms"),
        check: |report| {
            assert_eq!(report.totals.failed(), 0);
            // Fifty clients with four pings each on their way, and a round trip takes 20 µs.
            assert_eq!(report.phases[2].totals.sent, 50 * 4 * 500);
        },
    },
    Case {
        file: "mesh.toml",
        vms: 100,
        phases: &[("warm-up", 9_900, Some(10_000)), ("", 9_900, Some(200_000))],
        simulated: Simulated::Shortened("1s"),
        check: |report| {
            assert_eq!(report.totals.failed(), 0);
            assert_eq!(report.neighbours.unwrap().missing, 0);
            assert_eq!(report.drops.total(), 0);
        },
    },
    Case {
        file: "saturation.toml",
        vms: 20,
        phases: &[
            ("warm-up", 10, Some(10_000)),
            ("20000 pings/s", 10, Some(20_000)),
            ("62222 pings/s", 10, Some(62_223)),
            ("104444 pings/s", 10, Some(104_445)),
            ("146667 pings/s", 10, Some(146_667)),
            ("188889 pings/s", 10, Some(188_889)),
            ("231111 pings/s", 10, Some(231_112)),
            ("273333 pings/s", 10, Some(273_334)),
            ("315556 pings/s", 10, Some(315_556)),
            ("357778 pings/s", 10, Some(357_778)),
            ("400000 pings/s", 10, Some(400_000)),
        ],
        simulated: Simulated::Shortened("500ms"),
        check: |report| assert_eq!(report.totals.failed(), 0),
    },
    Case {
        file: "soak.toml",
        vms: 10,
        // It has no end.
        phases: &[("", 90, None)],
        simulated: Simulated::Shortened("5s"),
        check: |report| {
            assert_eq!(report.totals.sent, 5 * 90);
            assert_eq!(report.totals.failed(), 0);
        },
    },
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/experiments")
}

fn plan(file: &str, flags: &[(&'static str, &str)]) -> Experiment {
    let text = std::fs::read_to_string(folder().join(file)).unwrap();
    let mut settings = Settings::default();
    for (name, value) in flags {
        settings.add_flag(name, value);
    }
    let scenario = Scenario::parse(file, &text).unwrap().overlaid(&settings);
    experiment::plan(&scenario).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_experiment_is_held_here() {
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    let held = CASES.iter().map(|case| case.file.to_owned()).collect();
    assert_eq!(files, held);
}

#[test]
fn each_experiment_plans_the_phases_flows_and_pings_that_its_comments_say() {
    for case in CASES {
        let experiment = plan(case.file, &[]);
        assert_eq!(experiment.vms.len(), case.vms, "{}", case.file);
        let pings = experiment.expected_pings();
        let found: Vec<(&str, u32, Option<u64>)> = experiment
            .phases
            .iter()
            .zip(pings)
            .map(|(phase, expected)| {
                let flows = phase.load.flows.len() as u32;
                (&*phase.name, flows, expected.pings)
            })
            .collect();
        assert_eq!(found, case.phases, "{}", case.file);
    }
}

#[test]
fn each_experiment_does_what_its_plan_foresees() {
    for case in CASES {
        let mut flags = vec![("fabric", "sim")];
        match case.simulated {
            Simulated::Whole => {}
            Simulated::Shortened(duration) => flags.push(("duration", duration)),
            Simulated::No => continue,
        }
        let experiment = plan(case.file, &flags);
        let mut lab = Lab::build(&experiment, &mut ()).unwrap();
        lab.run(&mut ());
        let report = lab.report(case.file);
        lab.close().unwrap();
        let pings: Vec<_> = experiment
            .expected_pings()
            .iter()
            .map(|expected| expected.pings)
            .collect();
        // A run that is not divided has no phases in its report.
        let reported = if pings.len() == 1 { 0 } else { pings.len() };
        assert_eq!(report.phases.len(), reported, "{}", case.file);
        for (foreseen, (plan, phase)) in pings
            .iter()
            .zip(experiment.phases.iter().zip(&report.phases))
        {
            assert_eq!(phase.name, plan.name, "{}", case.file);
            let Some(foreseen) = foreseen else {
                continue;
            };
            // Poisson arrivals come as chance will have it: within five deviations.
            let chance = match plan.load.arrivals {
                tap_reactor::load::Arrivals::Uniform => 0.0,
                tap_reactor::load::Arrivals::Poisson => 5.0 * (*foreseen as f64).sqrt(),
            };
            let off = phase.totals.sent.abs_diff(*foreseen) as f64;
            assert!(
                off <= chance,
                "{}, {}: {foreseen} foreseen, {} sent",
                case.file,
                phase.name,
                phase.totals.sent
            );
        }
        (case.check)(&report);
    }
}
