//! A hypervisor driven by hand on a switch in memory.

use super::*;
use crate::fabric::{Write, WriteDrop};
use crate::record::{DropReason, Limits};
use crate::sim::{Impairments, Switch};

#[test]
fn every_frame_that_was_written_or_not_is_counted_as_what_it_was() {
    let switch = Switch::new(Impairments::default(), 1);
    let mut hypervisor = Hypervisor::new(switch, Recorder::new(Limits::default()), 1);
    for (written, times) in [
        (Write::Sent, 4),
        (Write::Dropped(WriteDrop::QueueFull), 1),
        (Write::Dropped(WriteDrop::LinkDown), 2),
        (Write::Dropped(WriteDrop::Refused), 3),
    ] {
        (0..times).for_each(|_| hypervisor.frame_written(written));
    }
    let recorder = hypervisor.recorder();
    let dropped: Vec<_> = recorder.drops().iter().collect();
    assert_eq!(
        dropped,
        [
            (DropReason::QueueFull, 1),
            (DropReason::LinkDown, 2),
            (DropReason::Refused, 3)
        ]
    );
    assert_eq!(recorder.setup().frames_out + recorder.work().frames_out, 4);
}

#[test]
fn a_plain_echo_request_is_answered_without_a_clock_and_nothing_else_is() {
    let switch = Switch::new(Impairments::default(), 1);
    let mut hypervisor = Hypervisor::new(switch, Recorder::new(Limits::default()), 1);
    let addresses =
        crate::experiment::AddressPlan::new("10.77.0.0/16".parse().unwrap(), 2).unwrap();
    let [asker, asked] = [0, 1].map(|vm| addresses.vm(VmId(vm)));
    for plan in [asker, asked] {
        let Ok(_) = hypervisor.create_vm(Instant::ZERO, VmConfig::new(plan.mac, plan.address));
    }
    for (vm, other) in [(0, asked), (1, asker)] {
        hypervisor.tell_neighbour(VmId(vm), other.address.into(), other.mac);
    }
    let session = SessionConfig {
        destination: asked.address.into(),
        payload_length: 56,
        timeout: Duration::from_secs(1),
        options: crate::vm::PingOptions::default(),
    };
    let flow = FlowConfig {
        source: VmId(0),
        session,
        target: Some(VmId(1)),
    };
    hypervisor.add_flow(flow).unwrap();
    let load = crate::load::PhaseLoad {
        flows: 0..1,
        pacing: crate::load::Pacing::Interval(Duration::from_secs(1)),
        arrivals: crate::load::Arrivals::Uniform,
        count: Some(1),
        start: crate::load::Start::Spread,
    };
    let phase = Phase {
        name: String::new(),
        is_counted: true,
        load,
        duration: None,
        moves: Vec::new(),
    };
    hypervisor.start(Instant::ZERO, vec![phase]);
    let mut buffer = vec![0; 2048];
    let request = std::iter::from_fn(|| hypervisor.next_step(Instant::ZERO, &mut buffer));
    let request = request.filter_map(|step| match step {
        Step::Send(outgoing) => Some(outgoing),
        Step::Quiet => None,
    });
    let request = request.last().expect("a ping is due");
    let answer = hypervisor.answer(VmId(1), &mut buffer[..request.length]);
    let answer = answer.expect("an answer to a plain request");
    assert_eq!((answer.vm, answer.length), (VmId(1), request.length));
    // The reply is for the one who asked, and needs the time.
    assert_eq!(
        hypervisor.answer(VmId(0), &mut buffer[..answer.length]),
        None
    );
}
