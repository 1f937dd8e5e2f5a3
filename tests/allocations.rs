//! In the steady state a ping allocates nothing: not in the VMs, the schedule and the record, and not in the reactor on
//! real TAPs either.
//!
//! Only the end of a second allocates, for its line in the report, whatever the number of pings in it.

mod support;

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use support::cable::Pairs;
use support::enter_own_network;
use tap_reactor::experiment::{
    BYTES_PER_FLOW, BYTES_PER_PHASE, BYTES_PER_VM, Experiment, FlowPlan, Scenario, Settings, plan,
};
use tap_reactor::hypervisor::{Command, Outcome, Phase};
use tap_reactor::lab::{Lab, TapLab};
use tap_reactor::load::{FlowId, Pacing};
use tap_reactor::reactor::End;
use tap_reactor::system::NetnsChoice;
use tap_reactor::time::{Clock, Instant, MonotonicClock};
use tap_reactor::vm::{Event, Vm, VmConfig, VmId};
use tap_reactor::wire::MacAddr;

/// Until every number that goes round has gone round once: the history of a session has 2^16 bits.
const WARM_UP: u64 = (1 << 16) + 1000;
/// The maximum number of allocations at the end of a second: the buckets of two histograms, sometimes room for more
/// seconds.
const OF_A_SECOND: u64 = 8;

#[test]
fn a_ping_between_vms_in_memory_allocates_nothing() {
    let mut lab = Pairs::new(2);
    lab.ping(2, WARM_UP);
    // A phase allocates when it begins, and nothing more however many pings it has.
    let few = measure(|| lab.ping(2, 10));
    let many = measure(|| lab.ping(2, 1010));
    assert!(many.count_total <= few.count_total, "{few:?} then {many:?}");
}

#[test]
fn a_ping_between_taps_allocates_nothing_in_the_reactor() {
    enter_own_network();
    let mut plan = Experiment::of_vms(2).unwrap();
    plan.lab.netns = NetnsChoice::Host;
    plan.timeout = Duration::from_secs(20);
    plan.flows = vec![FlowPlan::between(VmId(0), VmId(1))];
    let mut lab = TapLab::new(plan).unwrap();
    lab.populate(&mut ()).unwrap();
    let mut run = |pacing: Pacing, count: u64| -> (AllocationInfo, u64) {
        let start = MonotonicClock.now();
        let phase = Phase::counted(0..1, pacing, count);
        lab.hypervisor().start(start, vec![phase]);
        let info = measure(|| assert_eq!(lab.drive(None).unwrap(), End::Done));
        (info, (MonotonicClock.now() - start).as_secs() + 1)
    };
    run(Pacing::Window(16), WARM_UP);
    for pacing in [
        Pacing::Window(1),
        Pacing::Window(16),
        Pacing::Interval(Duration::from_micros(100)),
    ] {
        let (info, seconds) = run(pacing, 5000);
        assert!(
            info.count_total <= seconds * OF_A_SECOND,
            "{pacing:?}: {info:?} in {seconds} s"
        );
    }
}

#[test]
fn a_frame_of_a_stream_between_taps_allocates_nothing() {
    enter_own_network();
    let text = "netns = 'host'\nstream = 'vm0:vm1'\nsize = 'imix'\ncount = 1";
    let scenario = Scenario::parse("stream.toml", text).unwrap();
    let plan = plan(&scenario).unwrap();
    let mut lab = TapLab::new(plan).unwrap();
    lab.populate(&mut ()).unwrap();
    let mut run = |frames: u64| -> (AllocationInfo, u64) {
        let start = MonotonicClock.now();
        let pacing = Pacing::Interval(Duration::from_micros(100));
        let streams = Phase::counted(0..1, pacing, frames);
        let phase = Phase {
            streams: vec![streams.load],
            ..Phase::counted(0..0, pacing, frames)
        };
        lab.hypervisor().start(start, vec![phase]);
        let info = measure(|| assert_eq!(lab.drive(None).unwrap(), End::Done));
        (info, (MonotonicClock.now() - start).as_secs() + 1)
    };
    run(1000);
    // A phase allocates when it begins; what is more would be of frames.
    let ((few, _), (many, seconds)) = (run(1000), run(6000));
    let more = many.count_total.saturating_sub(few.count_total);
    assert!(more <= seconds * OF_A_SECOND, "{few:?} then {many:?}");
    let streams = lab.hypervisor().recorder().streams().unwrap();
    assert_eq!(streams.records()[0].sent.frames, 8000);
}

#[test]
fn a_vm_allocates_nothing_for_frames_that_it_ignores_and_once_if_they_are_asked_for() {
    let own = MacAddr([2, 0, 10, 77, 0, 2]);
    let mut vm = Vm::new(Instant::ZERO, VmConfig::new(own, [10, 77, 0, 2].into()));
    // An echo request for another station, which came here because it was flooded.
    let mut frame = [0; 60];
    frame[5] = 9;
    frame[11] = 8;
    frame[12] = 8;
    frame[14] = 0x45;
    frame[23] = 1;
    frame[34] = 8;
    let mut ignore = |vm: &mut Vm| {
        let reaction = vm.receive(Instant::ZERO, &mut frame, 60);
        assert!(matches!(reaction.event, Some(Event::Ignored(_))));
        vm.take_ignored_probe().is_some()
    };
    let mut times = |vm: &mut Vm, is_kept: bool| {
        let info = measure(|| (0..100).for_each(|_| assert_eq!(ignore(vm), is_kept)));
        info.count_total
    };
    assert_eq!(times(&mut vm, false), 0);
    vm.keep_ignored_probes();
    assert_eq!(times(&mut vm, true), 1);
    assert_eq!(times(&mut vm, true), 0);
}

/// The most memory that a simulated run of these settings has at once.
fn most_bytes(settings: &[(&'static str, String)], phases: usize) -> u64 {
    let mut scenario = Scenario::default();
    scenario.settings.add_flag("fabric", "sim");
    scenario.settings.add_flag("ping", "ring");
    scenario.settings.add_flag("count", 1);
    for (name, text) in settings {
        scenario.settings.add_flag(name, text);
    }
    scenario.phases = vec![Settings::default(); phases];
    let info = measure(|| {
        let experiment = plan(&scenario).unwrap();
        let mut lab = Lab::build(&experiment, &mut ()).unwrap();
        lab.run(&mut ());
        assert!(lab.report("").totals.sent > 0);
        assert!(lab.close().is_ok());
    });
    info.bytes_max
}

#[test]
fn flows_vms_and_phases_take_as_much_memory_as_a_plan_is_refused_for() {
    let mesh = |vms: u32| [("vms", vms.to_string()), ("ping", "mesh".to_owned())];
    let ring = |vms: u32| [("vms", vms.to_string())];
    let flows = |vms: u64| vms * (vms - 1);
    for (what, told, few, many, more) in [
        (
            "flow",
            BYTES_PER_FLOW,
            // More than a report tells one by one.
            most_bytes(&mesh(150), 0),
            most_bytes(&mesh(250), 0),
            flows(250) - flows(150),
        ),
        (
            "VM with a flow",
            BYTES_PER_VM + BYTES_PER_FLOW,
            most_bytes(&ring(500), 0),
            most_bytes(&ring(1_500), 0),
            1_000,
        ),
        (
            "phase",
            BYTES_PER_PHASE,
            most_bytes(&ring(2), 2),
            most_bytes(&ring(2), 12),
            10,
        ),
    ] {
        let each = (many - few) / more;
        assert!(
            (told / 2..=told).contains(&each),
            "a {what} takes {each} bytes, not {told}"
        );
    }
}

/// Bytes that a simulated lab keeps more after each of so many changes, from the thousandth on.
fn bytes_kept(changes: u64, mut change: impl FnMut(&mut Lab<'_>)) -> u64 {
    let text = "fabric = 'sim'\nvms = 4\nping = 'vm0:vm1'\nrate = 10\nduration = '1000h'\nseed = 1";
    let experiment = plan(&Scenario::parse("churn.toml", text).unwrap()).unwrap();
    let mut lab = Lab::build(&experiment, &mut ()).unwrap();
    lab.begin(&mut ());
    (0..1_000).for_each(|_| change(&mut lab));
    let info = measure(|| (0..changes).for_each(|_| change(&mut lab)));
    let phases = lab.report("").phases.len();
    assert!(phases <= 2, "{phases} phases");
    info.bytes_current.max(0) as u64 / changes
}

fn pass(lab: &mut Lab<'_>, time: Duration) {
    let until = lab.now() + time;
    lab.drive(Some(until)).unwrap();
}

#[test]
fn flows_and_vms_that_come_and_go_leave_little_more_than_their_lines_in_the_report() {
    let flow = bytes_kept(10_000, |lab| {
        let flows = lab.flows_of("vm0:vm2", None).unwrap();
        let Outcome::Flows(ids) = lab.carry_out(Command::StartFlows(flows, None)).unwrap() else {
            panic!("no flows were added");
        };
        pass(lab, Duration::from_millis(200));
        let ids = ids.map(FlowId).collect();
        lab.carry_out(Command::StopFlows(ids)).unwrap();
        pass(lab, Duration::from_millis(10));
    });
    assert!(flow <= BYTES_PER_FLOW, "{flow} bytes a flow that has ended");
    let vm = bytes_kept(3_000, |lab| {
        let vms = lab.expect_vms(1).unwrap();
        lab.carry_out(Command::StartVms(vms.clone())).unwrap();
        pass(lab, Duration::from_millis(100));
        lab.carry_out(Command::StopVms(vms)).unwrap();
        pass(lab, Duration::from_millis(10));
    });
    assert!(vm <= BYTES_PER_VM, "{vm} bytes a VM that has left");
}

#[test]
fn a_run_of_days_keeps_little_more_than_one_of_hours() {
    // A ping every ten seconds, in virtual time.
    let text = "fabric = 'sim'\nvms = 2\nping = 'vm0:vm1'\ninterval = '10s'\nduration = '10000h'\nseed = 1";
    let experiment = plan(&Scenario::parse("days.toml", text).unwrap()).unwrap();
    let mut lab = Lab::build(&experiment, &mut ()).unwrap();
    lab.begin(&mut ());
    let day = Duration::from_secs(86_400);
    let mut kept = |days: u32| measure(|| pass(&mut lab, day * days)).bytes_current;
    let first = kept(1);
    let (second, others) = (kept(1), kept(30));
    // Intervals grow longer, so that a month takes less than some days did at first.
    assert!(
        second < first && others < 5 * first,
        "{first}, {second}, {others} bytes"
    );
    assert!(others < 4 << 20, "{others} bytes");
}
