//! VMs in pairs, each pair on a cable in memory, in virtual time: a ping without the kernel.
//! Nothing here allocates once the first frames have been carried.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use tap_reactor::experiment::{Experiment, FlowPlan};
use tap_reactor::fabric::{Environment, Fabric, Read, Write};
use tap_reactor::hypervisor::{Phase, Step};
use tap_reactor::lab::SimulatedLab;
use tap_reactor::load::Pacing;
use tap_reactor::time::{Instant, Now};
use tap_reactor::vm::{RxFilter, VmId};

/// Bytes of a frame that a cable carries.
const FRAME: usize = 128;

/// Cables between vm0 and vm1, vm2 and vm3, and so on. Each direction holds one frame.
#[derive(Debug, Default)]
pub struct Cables {
    ends: Vec<([u8; FRAME], usize)>,
    /// The ends at which a frame has arrived.
    arrived: VecDeque<VmId>,
}

impl Fabric for Cables {
    type Error = Infallible;

    fn plug(&mut self, vm: VmId, _: &RxFilter) -> Result<(), Infallible> {
        self.ends.resize(vm.index() + 1, ([0; FRAME], 0));
        Ok(())
    }

    fn set_rx_filter(&mut self, _: VmId, _: &RxFilter) -> Result<(), Infallible> {
        Ok(())
    }

    fn unplug(&mut self, _: &[VmId]) -> Result<(), Infallible> {
        Ok(())
    }

    fn read(&mut self, _: impl Now, vm: VmId, buffer: &mut [u8]) -> Read {
        let (frame, length) = &mut self.ends[vm.index()];
        match std::mem::take(length) {
            0 => Read::Empty,
            length => {
                buffer[..length].copy_from_slice(&frame[..length]);
                Read::Frame(length)
            }
        }
    }

    fn write(&mut self, _: impl Now, vm: VmId, frame: &[u8]) -> Write {
        let peer = VmId(vm.0 ^ 1);
        let (to, length) = &mut self.ends[peer.index()];
        assert_eq!(*length, 0, "a cable holds one frame");
        to[..frame.len()].copy_from_slice(frame);
        *length = frame.len();
        self.arrived.push_back(peer);
        Write::Sent
    }

    fn next_at(&self) -> Option<Instant> {
        (!self.arrived.is_empty()).then_some(Instant::ZERO)
    }

    fn next_receiver(&mut self, _: Instant) -> Option<VmId> {
        self.arrived.pop_front()
    }

    fn environment(&self) -> Environment {
        Environment::simulated("cables")
    }
}

/// So many pairs that ping by so many cables.
///
/// The lab is made as any other; it is driven here, frame by frame, as the reactor does it, because that is what is counted.
pub struct Pairs {
    lab: SimulatedLab<'static, Cables>,
    buffer: Vec<u8>,
    now: Instant,
}

impl Pairs {
    pub fn new(pairs: u32) -> Pairs {
        let mut plan = Experiment::of_vms(2 * pairs).expect("a plan");
        let pair = |pair| FlowPlan::between(VmId(2 * pair), VmId(2 * pair + 1));
        plan.flows = (0..pairs).map(pair).collect();
        let mut lab = SimulatedLab::new(Cables::default(), plan).expect("a lab");
        lab.populate(&mut ()).expect("one session each");
        Pairs {
            lab,
            buffer: vec![0; 2048],
            now: Instant::from_nanos(1_000_000_000),
        }
    }

    /// Sends `count` pings in each pair, one after the other, and gets each answered.
    pub fn ping(&mut self, pairs: u32, count: u64) {
        let hypervisor = self.lab.hypervisor();
        let before = hypervisor.recorder().totals().received;
        let phase = Phase::counted(0..pairs, Pacing::Window(1), count);
        hypervisor.start(self.now, vec![phase]);
        while !self.lab.hypervisor().is_done() {
            self.turn();
        }
        let received = self.lab.hypervisor().recorder().totals().received - before;
        assert_eq!(received, u64::from(pairs) * count);
    }

    /// Sends one frame that is due, and carries it and what comes of it to the end.
    fn turn(&mut self) {
        let hypervisor = self.lab.hypervisor();
        let Some(step) = hypervisor.next_step(self.now, &mut self.buffer) else {
            let next = hypervisor.next_deadline().expect("something to wait for");
            self.now = self.now.max(next);
            return;
        };
        self.send(step);
        while let Some(vm) = self.lab.hypervisor().fabric().next_receiver(self.now) {
            self.now = self.now + Duration::from_nanos(500);
            self.receive(vm);
        }
    }

    fn receive(&mut self, vm: VmId) {
        let hypervisor = self.lab.hypervisor();
        let Read::Frame(length) = hypervisor.fabric().read(self.now, vm, &mut self.buffer) else {
            return;
        };
        let reply = hypervisor.receive(self.now, vm, &mut self.buffer, length);
        self.send(reply.into());
    }

    fn send(&mut self, step: Step) {
        let Step::Send(outgoing) = step else {
            return;
        };
        let hypervisor = self.lab.hypervisor();
        if outgoing.is_stamped() {
            hypervisor.stamp(&outgoing, self.now, &mut self.buffer);
        }
        let frame = &self.buffer[..outgoing.length];
        let written = hypervisor.fabric().write(self.now, outgoing.vm, frame);
        hypervisor.frame_written(written, || {
            (self.now, outgoing.vm, &self.buffer[..outgoing.length])
        });
    }
}
