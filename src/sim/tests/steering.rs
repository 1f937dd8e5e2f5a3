//! Commands while a lab runs: flows and VMs that come and go, a load and impairments that change.

use super::*;
use crate::hypervisor::{ANSWER_WAIT, FindNeighbours, Outcome};
use crate::load::{FlowId, Pace};
use crate::record::Totals;

const PACINGS: [Pacing; 3] = [
    Pacing::Interval(MS),
    Pacing::Rate(2_000.0),
    Pacing::Window(2),
];

/// Every ping that was attempted has ended in one way.
fn assert_sums(totals: Totals, what: &str) {
    let ended = totals.received + totals.failed() + totals.abandoned;
    assert_eq!(totals.attempted(), ended, "{what}: {totals:?}");
}

/// Runs `lab` up to `at`.
fn until(lab: &mut Lab, at: Duration) {
    lab.drive(Some(Instant::ZERO + at)).unwrap();
}

fn sent(lab: &mut Lab) -> Vec<u64> {
    let flows = lab.hypervisor().recorder().flows().iter();
    flows.map(|flow| flow.totals().sent).collect()
}

/// Starts flows of that pattern now, and returns their numbers.
fn start(lab: &mut Lab, pattern: &str) -> std::ops::Range<u32> {
    let flows = lab.flows_of(pattern, None).unwrap();
    match lab.carry_out(Command::StartFlows(flows, None)).unwrap() {
        Outcome::Flows(ids) => ids,
        outcome => panic!("{outcome:?}"),
    }
}

/// A lab of four VMs, of which vm0 pings vm1 for 200 ms; it has run for 100 ms.
fn running(pacing: Pacing) -> Lab {
    let mut lab = new_lab(4, MS / 10);
    flow(&mut lab, 0, 1);
    let phases = vec![phase("", 1, pacing, None, Some(MS * 200))];
    lab.hypervisor().start(Instant::ZERO, phases);
    until(&mut lab, MS * 100);
    lab
}

#[test]
fn a_flow_that_is_added_pings_from_then_on_and_one_that_is_stopped_no_more() {
    for pacing in PACINGS {
        let mut lab = running(pacing);
        let before = sent(&mut lab);
        let ids = start(&mut lab, "vm2:vm3");
        assert_eq!((ids.clone(), before.len()), (1..2, 1), "{pacing:?}");
        until(&mut lab, MS * 150);
        let [first, added] = sent(&mut lab)[..] else {
            panic!("two flows");
        };
        assert!(first > before[0] && added > 0, "{pacing:?}");
        lab.carry_out(Command::StopFlows(vec![FlowId(0)])).unwrap();
        until(&mut lab, MS * 400);
        let after = sent(&mut lab);
        assert_eq!(after[0], first, "{pacing:?}");
        assert!(after[1] > added, "{pacing:?}");
        let totals = lab.hypervisor().recorder().totals();
        assert_sums(totals, "added and stopped");
        assert_eq!(totals.unsent, 0, "{pacing:?}");
        assert!(totals.abandoned <= 2, "{pacing:?}: {totals:?}");
        assert_eq!(totals.failed(), 0, "{totals:?}");
        assert_eq!(lab.plan().flows.len(), 2);
    }
}

#[test]
fn flows_with_a_pace_of_their_own_go_on_from_phase_to_phase_until_the_run_ends() {
    for (stays, pacing) in [(false, PACINGS[0]), (false, PACINGS[2]), (true, PACINGS[1])] {
        let mut lab = new_lab(4, MS / 10);
        flow(&mut lab, 0, 1);
        let phases = vec![
            phase("one", 1, pacing, Some(20), None),
            phase("two", 1, pacing, None, Some(MS * 200)),
        ];
        if stays {
            lab.hypervisor().stay();
        }
        lab.hypervisor().start(Instant::ZERO, phases);
        until(&mut lab, MS / 2);
        let flows = lab.flows_of("vm[2-3]:vm0", None).unwrap();
        let pace = Pace {
            pacing: Pacing::Rate(1_000.0),
            count: None,
        };
        lab.carry_out(Command::StartFlows(flows, Some(pace)))
            .unwrap();
        until(&mut lab, MS * 900);
        let (first, apart) = match sent(&mut lab)[..] {
            [first, second, third] => (first, [second, third]),
            _ => panic!("three flows"),
        };
        let names: Vec<_> = {
            let phases = lab.hypervisor().recorder().phases().iter();
            phases.map(|phase| phase.name().to_owned()).collect()
        };
        let totals = lab.hypervisor().recorder().totals();
        match stays {
            false => {
                assert_eq!(names, ["one", "two"]);
                assert!(lab.hypervisor().is_done(), "{pacing:?}");
                let all = apart.iter().sum::<u64>();
                assert!((200..=250).contains(&all), "{pacing:?}: {apart:?}");
                assert_sums(totals, "set apart");
            }
            true => {
                assert_eq!(names, ["one", "two", "stay"]);
                assert!(!lab.hypervisor().is_done());
                assert_eq!(apart, [450, 450]);
                assert_eq!(first, 20 + 400);
                lab.carry_out(Command::Stop).unwrap();
                until(&mut lab, MS * 1_000);
                assert!(lab.hypervisor().is_done());
                assert_sums(lab.hypervisor().recorder().totals(), "stopped");
            }
        }
        assert_eq!((totals.failed(), totals.unsent), (0, 0), "{totals:?}");
    }
}

#[test]
fn a_run_ends_when_flows_with_a_number_of_pings_of_their_own_have_sent_them() {
    for stays in [false, true] {
        let mut lab = new_lab(4, MS / 10);
        flow(&mut lab, 0, 1);
        if stays {
            lab.hypervisor().stay();
        }
        let phases = vec![phase("", 1, PACINGS[0], Some(20), None)];
        lab.hypervisor().start(Instant::ZERO, phases);
        until(&mut lab, MS / 2);
        let flows = lab.flows_of("vm2:vm3", None).unwrap();
        let pace = Pace {
            pacing: Pacing::Interval(MS * 10),
            count: Some(50),
        };
        lab.carry_out(Command::StartFlows(flows, Some(pace)))
            .unwrap();
        let flows = lab.flows_of("vm3:vm2", None).unwrap();
        let endless = Pace {
            count: None,
            ..pace
        };
        lab.carry_out(Command::StartFlows(flows, Some(endless)))
            .unwrap();
        until(&mut lab, MS * 400);
        assert!(!lab.hypervisor().is_done());
        until(&mut lab, MS * 1_000);
        assert_eq!(lab.hypervisor().is_done(), !stays);
        let [first, counted, endless] = sent(&mut lab)[..] else {
            panic!("three flows");
        };
        assert_eq!((first, counted), (20, 50));
        assert_eq!(endless, if stays { 100 } else { 50 });
        let totals = lab.hypervisor().recorder().totals();
        assert_eq!((totals.failed(), totals.unsent), (0, 0), "{totals:?}");
    }
}

#[test]
fn outstanding_pings_of_a_flow_that_is_stopped_are_abandoned_and_their_replies_late() {
    let mut lab = new_lab(2, MS * 20);
    flow(&mut lab, 0, 1);
    let phases = vec![phase(
        "",
        1,
        Pacing::Interval(MS * 10),
        None,
        Some(MS * 500),
    )];
    lab.hypervisor().start(Instant::ZERO, phases);
    until(&mut lab, MS * 205);
    lab.carry_out(Command::StopFlows(vec![FlowId(0), FlowId(7)]))
        .unwrap();
    until(&mut lab, MS * 900);
    let totals = lab.hypervisor().recorder().totals();
    // A round trip takes 40 ms.
    assert_eq!((totals.abandoned, totals.late), (4, 4), "{totals:?}");
    assert_sums(totals, "abandoned");
    assert!(lab.hypervisor().is_done());
}

#[test]
fn due_times_before_and_after_a_change_of_the_load_are_those_of_either_load() {
    // 100 ms of a ping each millisecond, and 100 ms of one each 4 ms, the other way round, and other kinds.
    for (from, to, pings) in [
        (Pacing::Interval(MS), Pacing::Interval(MS * 4), 101 + 24),
        (Pacing::Interval(MS * 4), Pacing::Interval(MS), 26 + 99),
        (Pacing::Rate(1000.0), Pacing::Rate(250.0), 101 + 24),
        (Pacing::Rate(250.0), Pacing::Rate(1000.0), 26 + 99),
        (Pacing::Rate(1000.0), Pacing::Interval(MS * 4), 101 + 25),
        (Pacing::Interval(MS * 4), Pacing::Rate(1000.0), 26 + 100),
    ] {
        let mut lab = running(from);
        lab.carry_out(Command::SetPacing(to)).unwrap();
        until(&mut lab, MS * 400);
        let recorder = lab.hypervisor().recorder();
        let totals = recorder.totals();
        assert_eq!(
            (totals.sent, totals.received),
            (pings, pings),
            "{from:?} {to:?}"
        );
        assert_eq!(totals.unsent, 0);
        // Nothing in virtual time is late, so a ping's response is its round trip and what it waited for its neighbour.
        let (response, lateness) = (Metric::Response, Metric::Lateness);
        let lateness = recorder.latency(lateness).summary();
        assert_eq!(lateness.max, Some(0), "{from:?} {to:?}");
        let response = recorder.latency(response).summary();
        assert_eq!(response.count, pings);
        assert!(
            response.p99 <= Some(201_000),
            "{from:?} {to:?}: {response:?}"
        );
    }
}

#[test]
fn a_lab_without_flows_gets_some_and_they_ping_until_it_is_stopped() {
    let mut lab = new_lab(2, MS / 10);
    lab.hypervisor().start(Instant::ZERO, Vec::new());
    until(&mut lab, MS * 100);
    lab.carry_out(Command::SetPacing(Pacing::Interval(MS * 10)))
        .unwrap();
    start(&mut lab, "vm0:vm1");
    until(&mut lab, MS * 195);
    assert_eq!(sent(&mut lab), [10]);
    start(&mut lab, "vm1:vm0");
    until(&mut lab, MS * 290);
    assert_eq!(sent(&mut lab), [20, 10]);
    lab.carry_out(Command::Stop).unwrap();
    until(&mut lab, MS * 500);
    let totals = lab.hypervisor().recorder().totals();
    assert_eq!((totals.sent, totals.received), (30, 30));
    assert!(lab.hypervisor().is_done() && lab.hypervisor().is_stopping());
    let late = lab.flows_of("vm0:vm1", None).unwrap();
    let error = lab.carry_out(Command::StartFlows(late, None)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the run is ending; expected flows before that"
    );
}

#[test]
fn vms_that_are_added_have_the_addresses_of_the_plan_and_take_part() {
    for first in [
        None,
        Some(FindNeighbours {
            outstanding: 4,
            at_most: ANSWER_WAIT,
        }),
    ] {
        let mut lab = running(Pacing::Interval(MS * 10));
        if let Some(first) = first {
            lab.hypervisor().find_neighbours_first(first);
        }
        let added = lab.expect_vms(3).unwrap();
        assert_eq!(added, [VmId(4), VmId(5), VmId(6)]);
        assert_eq!(lab.plan().vms[6].address.to_string(), "10.0.0.8");
        // They are not there yet, and neither are their flows.
        start(&mut lab, "vm[4-6]:vm0");
        lab.carry_out(Command::StartVms(added)).unwrap();
        until(&mut lab, MS * 150);
        let pings = sent(&mut lab);
        assert!(
            pings[1..].iter().all(|sent| *sent >= 4),
            "{first:?}: {pings:?}"
        );
        lab.carry_out(Command::StopVms(vec![VmId(5), VmId(9)]))
            .unwrap();
        until(&mut lab, MS * 400);
        let totals = lab.hypervisor().recorder().totals();
        assert_sums(totals, "added VMs");
        assert_eq!(totals.failed(), 0, "{totals:?}");
        let boot = lab.hypervisor().recorder().latency(Metric::Boot).summary();
        assert_eq!(boot.count, 4);
        let gone = lab.vms_named("vm5").unwrap_err().to_string();
        assert_eq!(gone, "vm5 has stopped; expected VMs that are up");
    }
}

#[test]
fn a_vm_that_is_stopped_before_it_has_started_takes_its_flows_along() {
    let mut lab = running(Pacing::Interval(MS * 10));
    let added = lab.expect_vms(2).unwrap();
    start(&mut lab, "vm4:vm0");
    start(&mut lab, "vm0:vm5");
    lab.carry_out(Command::StopVms(added.clone())).unwrap();
    lab.carry_out(Command::StartVms(added)).unwrap();
    until(&mut lab, MS * 400);
    assert_eq!(sent(&mut lab)[1..], [0, 0]);
    assert!(lab.hypervisor().is_done());
    assert_eq!(lab.hypervisor().recorder().totals().failed(), 0);
}

#[test]
fn impairments_change_while_it_runs() {
    let mut lab = running(Pacing::Interval(MS * 10));
    let rules = lab.rules_of(&["vm0:loss=100%"]).unwrap();
    lab.carry_out(Command::Impair(rules)).unwrap();
    until(&mut lab, MS * 145);
    lab.carry_out(Command::Impair(Vec::new())).unwrap();
    until(&mut lab, MS * 2_000);
    let totals = lab.hypervisor().recorder().totals();
    assert_eq!((totals.sent, totals.lost), (20, 4), "{totals:?}");
}

#[test]
fn what_cannot_be_is_refused_with_what_is_expected_and_changes_nothing() {
    let mut lab = running(Pacing::Interval(MS * 10));
    let error = |error: crate::lab::LabError| error.to_string();
    let pacing = |name, value| {
        let pacing = experiment::Experiment::pacing_of(name, value);
        pacing.map(drop).map_err(|error| error.to_string())
    };
    let refused = [
        (
            lab.flows_of("vm0:vm9", None).map(drop).map_err(error),
            "--ping vm0:vm9: there is no vm9; expected vm0 to vm3",
        ),
        (
            lab.vms_named("servers").map(drop).map_err(error),
            "\"servers\" names no VMs; expected vmI, vm[I-J], all or the name of a group",
        ),
        (
            lab.vms_named("vm[0-99]").map(drop).map_err(error),
            "there is no vm99; expected vm0 to vm3",
        ),
        (
            lab.rules_of(&["vm9:loss=1%"]).map(drop).map_err(error),
            "--impair vm9:loss=1%: there is no vm9; expected vm0 to vm3",
        ),
        (
            pacing("rate", "0"),
            "--rate 0: expected pings per second, above 0 and up to 10000000",
        ),
        (
            pacing("ramp", "1:2:3"),
            "ramp: expected rate, interval or window",
        ),
        (
            lab.expect_vms(70_000).map(drop).map_err(error),
            "70000 more VMs: expected 1 to 1018, of 1022 in all, those that have left included",
        ),
        (
            lab.expect_vms(0).map(drop).map_err(error),
            "0 more VMs: expected 1 to 1018, of 1022 in all, those that have left included",
        ),
    ];
    for (refused, words) in refused {
        assert_eq!(refused.unwrap_err(), words);
    }
    let mut flows = lab.flows_of("mesh", None).unwrap();
    flows[1].source = VmId(17);
    let refused = lab.carry_out(Command::StartFlows(flows, None)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "vm17 does not exist; expected a VM that is up"
    );
    assert_eq!((lab.plan().vms.len(), lab.plan().flows.len()), (4, 1));
    assert_eq!(sent(&mut lab).len(), 1);
}

/// Keeps the words of all notices.
#[derive(Debug, Default)]
struct Notices(std::rc::Rc<std::cell::RefCell<Vec<String>>>);

impl crate::fabric::Instrument for Notices {
    fn frame(&mut self, _: Instant, _: &crate::fabric::Observed<'_>) {}

    fn notice(&mut self, now: Instant, notice: &crate::fabric::Notice<'_>) {
        let millis = now.as_nanos() / 1_000_000;
        self.0.borrow_mut().push(format!("{millis} {notice}"));
    }
}

#[test]
fn every_command_that_changes_the_lab_is_told_to_its_observers() {
    let mut lab = running(PACINGS[0]);
    let notices = Notices::default();
    let told = notices.0.clone();
    lab.carry_out(Command::Observe(Box::new(notices))).unwrap();
    let rule = |loss| Rule {
        words: String::new(),
        vms: 0..=0,
        direction: Direction::Out,
        to: None,
        profile: Profile {
            loss,
            ..Profile::default()
        },
    };
    start(&mut lab, "vm2:vm3");
    for command in [
        Command::SetPacing(Pacing::Rate(2_000.0)),
        Command::SetPacing(Pacing::Interval(MS)),
        Command::SetPacing(Pacing::Window(2)),
        Command::Impair(vec![rule(Loss::Every(2))]),
        // These are the same.
        Command::Impair(vec![rule(Loss::Every(2))]),
        Command::Impair(Vec::new()),
        Command::Mark {
            name: "policy".parse().unwrap(),
            detail: "why".to_owned(),
        },
        Command::StopFlows(vec![FlowId(0)]),
        Command::StopVms(vec![VmId(2), VmId(3)]),
        Command::Stop,
    ] {
        lab.carry_out(command).unwrap();
    }
    let now = lab.now().as_nanos() / 1_000_000;
    let expected = [
        "flow 1 is added",
        "pacing: all flows together send 2000 pings a second",
        "pacing: each flow sends a ping every 1.00 ms",
        "pacing: each flow keeps 2 outstanding",
        "impairments: 1 rule",
        "impairments: none",
        "mark policy: why",
        "flow 0 has ended",
        "vm2 stops",
        "vm3 stops",
        "the run ends",
    ];
    let expected = expected.map(|words| format!("{now} {words}"));
    assert_eq!(*told.borrow(), expected);
}
