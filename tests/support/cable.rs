//! VMs in pairs, each pair on a cable in memory, in virtual time: what is left of a ping when the kernel is taken away.
//! Nothing here allocates once the first frames have been carried.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use tap_reactor::experiment::AddressPlan;
use tap_reactor::fabric::{Fabric, Read, Write};
use tap_reactor::hypervisor::{FlowConfig, Hypervisor, Phase, Step};
use tap_reactor::load::{Arrivals, Pacing, PhaseLoad, Start};
use tap_reactor::record::{Limits, Recorder};
use tap_reactor::time::Instant;
use tap_reactor::vm::{PingOptions, RxFilter, SessionConfig, VmConfig, VmId};

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

    fn tune(&mut self, _: VmId, _: &RxFilter) -> Result<(), Infallible> {
        Ok(())
    }

    fn unplug(&mut self, _: &[VmId]) -> Result<(), Infallible> {
        Ok(())
    }

    fn read(&mut self, vm: VmId, buffer: &mut [u8]) -> Read {
        let (frame, length) = &mut self.ends[vm.index()];
        match std::mem::take(length) {
            0 => Read::Empty,
            length => {
                buffer[..length].copy_from_slice(&frame[..length]);
                Read::Frame(length)
            }
        }
    }

    fn write(&mut self, vm: VmId, frame: &[u8]) -> Write {
        let peer = VmId(vm.0 ^ 1);
        let (to, length) = &mut self.ends[peer.index()];
        assert_eq!(*length, 0, "a cable holds one frame");
        to[..frame.len()].copy_from_slice(frame);
        *length = frame.len();
        self.arrived.push_back(peer);
        Write::Sent
    }
}

/// So many pairs that ping by so many cables.
pub struct Pairs {
    hypervisor: Hypervisor<Cables>,
    buffer: Vec<u8>,
    now: Instant,
}

impl Pairs {
    pub fn new(pairs: u32) -> Pairs {
        let recorder = Recorder::new(Limits::default());
        let mut hypervisor = Hypervisor::new(Cables::default(), recorder, 0);
        let vms = 2 * pairs;
        let subnet = "10.77.0.0/16".parse().expect("a network");
        let plan = AddressPlan::new(subnet, vms.into()).expect("addresses enough");
        for vm in (0..vms).map(VmId) {
            let vm = plan.vm(vm);
            let config = VmConfig::new(vm.mac, vm.address);
            hypervisor
                .create_vm(Instant::ZERO, config)
                .expect("cables enough");
        }
        for pair in 0..pairs {
            let session = SessionConfig {
                destination: plan.vm(VmId(2 * pair + 1)).address.into(),
                payload_length: 56,
                timeout: Duration::from_secs(1),
                options: PingOptions::default(),
            };
            let source = VmId(2 * pair);
            hypervisor
                .add_flow(FlowConfig {
                    source,
                    session,
                    target: None,
                })
                .expect("one session each");
        }
        Pairs {
            hypervisor,
            buffer: vec![0; 2048],
            now: Instant::from_nanos(1_000_000_000),
        }
    }

    /// Sends `count` pings in each pair, one after the other, and gets each answered.
    pub fn ping(&mut self, pairs: u32, count: u64) {
        let load = PhaseLoad {
            flows: 0..pairs,
            pacing: Pacing::Window(1),
            arrivals: Arrivals::Uniform,
            count: Some(count),
            start: Start::Spread,
        };
        let phase = Phase {
            name: String::new(),
            is_counted: true,
            load,
            duration: None,
            moves: Vec::new(),
        };
        let before = self.hypervisor.recorder().totals().received;
        self.hypervisor.start(self.now, vec![phase]);
        while !self.hypervisor.is_done() {
            self.turn();
        }
        let received = self.hypervisor.recorder().totals().received - before;
        assert_eq!(received, u64::from(pairs) * count);
    }

    /// Sends one frame that is due, and carries it and what comes of it to the end.
    fn turn(&mut self) {
        let Some(step) = self.hypervisor.next_step(self.now, &mut self.buffer) else {
            let next = self
                .hypervisor
                .next_deadline()
                .expect("something to wait for");
            self.now = self.now.max(next);
            return;
        };
        self.send(step);
        while let Some(vm) = self.hypervisor.fabric().arrived.pop_front() {
            self.now = self.now + Duration::from_nanos(500);
            let Read::Frame(length) = self.hypervisor.fabric().read(vm, &mut self.buffer) else {
                continue;
            };
            // As the reactor does: only what is no request takes a look at the clock.
            let frame = &mut self.buffer[..length];
            let reply = self.hypervisor.answer(vm, frame).or_else(|| {
                self.hypervisor
                    .receive(self.now, vm, &mut self.buffer, length)
            });
            self.send(reply.into());
        }
    }

    fn send(&mut self, step: Step) {
        let Step::Send(outgoing) = step else {
            return;
        };
        if let Some(ping) = outgoing.ping {
            self.hypervisor.stamp_sent(outgoing.vm, ping, self.now);
        }
        let frame = &self.buffer[..outgoing.length];
        let written = self.hypervisor.fabric().write(outgoing.vm, frame);
        self.hypervisor.frame_written(written);
    }
}
