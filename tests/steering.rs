//! A lab on real TAPs that a program changes while it runs.

mod support;

use std::time::Duration;

use support::{enter_own_network, run};
use tap_reactor::experiment::{Experiment, FlowPlan};
use tap_reactor::fabric::Place;
use tap_reactor::hypervisor::{Command, Outcome, Phase, PlannedMove, Relocation};
use tap_reactor::lab::TapLab;
use tap_reactor::load::{FlowId, Pacing};
use tap_reactor::reactor::End;
use tap_reactor::vm::VmId;

/// The most steps of 10 ms that something is waited for.
const PATIENCE: u32 = 3_000;

struct Steered(TapLab<'static>);

impl Steered {
    /// Drives the lab until each of `flows` has had another 10 pings answered.
    fn wait_for(&mut self, flows: &[u32]) {
        let received = |lab: &mut TapLab<'_>, flow: u32| {
            let flow = &lab.hypervisor().recorder().flows()[flow as usize];
            flow.totals().received
        };
        let before: Vec<u64> = flows
            .iter()
            .map(|flow| received(&mut self.0, *flow))
            .collect();
        for _ in 0..PATIENCE {
            let until = self.0.now() + Duration::from_millis(10);
            self.0.drive(Some(until)).unwrap();
            let now = flows.iter().map(|flow| received(&mut self.0, *flow));
            if now.zip(&before).all(|(now, before)| now >= before + 10) {
                return;
            }
        }
        panic!("{flows:?} ping no more");
    }

    fn start(&mut self, pattern: &str) -> Vec<u32> {
        let flows = self.0.flows_of(pattern, None).unwrap();
        match self.0.carry_out(Command::StartFlows(flows, None)).unwrap() {
            Outcome::Flows(ids) => ids.collect(),
            outcome => panic!("{outcome:?}"),
        }
    }

    fn carry_out(&mut self, command: Command) {
        self.0.carry_out(command).unwrap();
    }

    fn sent(&mut self, flow: u32) -> u64 {
        let flow = &self.0.hypervisor().recorder().flows()[flow as usize];
        flow.totals().sent
    }
}

fn lab(vms: u32, flows: Vec<FlowPlan>, phases: Vec<Phase>) -> Steered {
    let mut plan = Experiment::of_vms(vms).unwrap();
    plan.flows = flows;
    plan.phases = phases;
    let mut lab = TapLab::new(plan).unwrap();
    lab.populate(&mut ()).unwrap();
    lab.begin(&mut ());
    Steered(lab)
}

/// One test: signals belong to the whole process, and so to one lab at a time.
#[test]
fn flows_and_vms_come_and_go_on_real_taps() {
    enter_own_network();
    flows_come_and_go_in_a_phase();
    a_lab_without_flows_gets_some();
    a_move_that_the_system_refuses_is_told_of_and_ends_nothing();
}

fn flows_come_and_go_in_a_phase() {
    let interval = Pacing::Interval(Duration::from_millis(2));
    let phase = Phase::timed(0..1, interval, Duration::from_secs(600));
    let mut lab = lab(4, vec![FlowPlan::between(VmId(0), VmId(1))], vec![phase]);
    lab.wait_for(&[0]);
    assert_eq!(lab.start("vm2:vm3"), [1]);
    lab.wait_for(&[0, 1]);
    // VMs that start one a turn, and flows that wait for them.
    let added = lab.0.expect_vms(20).unwrap();
    let flows = lab.start("vm[4-23]:vm0");
    lab.carry_out(Command::StartVms(added));
    lab.wait_for(&flows);
    lab.carry_out(Command::SetPacing(Pacing::Rate(2_000.0)));
    lab.wait_for(&[0, 1, 21]);
    lab.carry_out(Command::SetPacing(Pacing::Window(2)));
    lab.wait_for(&[0, 1, 21]);
    lab.carry_out(Command::StopFlows(vec![FlowId(1)]));
    let of_stopped = lab.sent(1);
    let gone = lab.0.vms_named("vm[4-13]").unwrap();
    lab.carry_out(Command::StopVms(gone));
    lab.wait_for(&[0, 12, 21]);
    assert_eq!(lab.sent(1), of_stopped);
    let rules = lab.0.rules_of(&["vm0>vm1:loss=100%"]).unwrap();
    lab.carry_out(Command::Impair(rules));
    lab.wait_for(&[12]);
    lab.carry_out(Command::Impair(Vec::new()));
    lab.carry_out(Command::Stop);
    let mut lab = lab.0;
    assert_eq!(lab.drive(None).unwrap(), End::Stopped);
    lab.finish(&mut ());
    let report = lab.report("steered");
    let totals = report.totals;
    let ended = totals.received + totals.failed() + totals.abandoned;
    assert_eq!(totals.attempted(), ended, "{totals:?}");
    assert_eq!((report.flows.len(), totals.unresolved), (22, 0));
    assert!(report.interrupted);
    let last = report.flows.last().map(|flow| flow.src.as_str());
    assert_eq!(last, Some("vm23"));
    lab.close().unwrap();
}

fn a_lab_without_flows_gets_some() {
    let mut lab = lab(2, Vec::new(), Vec::new());
    let until = lab.0.now() + Duration::from_millis(20);
    assert_eq!(lab.0.drive(Some(until)).unwrap(), End::Done);
    lab.carry_out(Command::SetPacing(Pacing::Window(1)));
    assert_eq!(lab.start("vm0:vm1"), [0]);
    lab.wait_for(&[0]);
    lab.carry_out(Command::Stop);
    let mut lab = lab.0;
    assert_eq!(lab.drive(None).unwrap(), End::Stopped);
    lab.finish(&mut ());
    let totals = lab.report("served").totals;
    assert!(totals.received >= 10 && totals.failed() == 0, "{totals:?}");
    lab.close().unwrap();
}

fn a_move_that_the_system_refuses_is_told_of_and_ends_nothing() {
    let interval = Pacing::Interval(Duration::from_millis(2));
    let mut phase = Phase::timed(0..1, interval, Duration::from_secs(600));
    phase.moves = vec![PlannedMove {
        after: Duration::from_millis(1),
        vm: VmId(2),
        relocation: Relocation::to(Place::Port),
    }];
    let mut lab = lab(3, vec![FlowPlan::between(VmId(0), VmId(1))], vec![phase]);
    run("ip link delete tap2");
    lab.wait_for(&[0]);
    let refused = lab.0.hypervisor().refused_moves().cloned();
    let refused = refused.expect("the move of a VM without a TAP");
    assert_eq!((refused.first, refused.count), (VmId(2), 1));
    assert!(refused.why.contains("tap2"), "{refused:?}");
    lab.0.close().unwrap();
}
