//! The same work done by the library as a user would have it done: VMs, sessions, neighbour tables, histograms.

use std::ops::Range;
use std::time::Duration;

use tap_reactor::experiment::AddressPlan;
use tap_reactor::hypervisor::{FlowConfig, Hypervisor, Phase};
use tap_reactor::load::{Arrivals, Pacing, PhaseLoad};
use tap_reactor::reactor::{End, Reactor};
use tap_reactor::record::{Limits, Recorder};
use tap_reactor::system::{LabConfig, NetnsChoice, StopSignals, TapFabric, raise_descriptor_limit};
use tap_reactor::time::{Clock, MonotonicClock};
use tap_reactor::vm::{PingOptions, SessionConfig, VmConfig, VmId};

use crate::Result;

pub struct ReactorLoop {
    pub reactor: Reactor,
    pub hypervisor: Hypervisor<TapFabric>,
    flows: Range<u32>,
}

impl ReactorLoop {
    /// A lab with two VMs for each pair, in a private namespace that the calling thread enters.
    pub fn new(pairs: u32) -> Result<ReactorLoop> {
        raise_descriptor_limit()?;
        let reactor = Reactor::new(StopSignals::new()?)?;
        let vms = 2 * pairs;
        let lab = LabConfig {
            vms,
            netns: NetnsChoice::Private,
            // The bare loop's TAPs have none: both labs are to be of the same kind.
            filter: false,
            ..LabConfig::default()
        };
        let fabric = TapFabric::new(reactor.registry()?, lab)?;
        let mut hypervisor = Hypervisor::new(fabric, Recorder::new(Limits::default()), 0);
        let subnet = "10.77.0.0/16".parse()?;
        let plan = AddressPlan::new(subnet, vms.into())?;
        for vm in (0..vms).map(VmId) {
            let vm = plan.vm(vm);
            hypervisor.create_vm(MonotonicClock.now(), VmConfig::new(vm.mac, vm.address))?;
        }
        for pair in 0..pairs {
            let (source, target) = (VmId(2 * pair), VmId(2 * pair + 1));
            let session = SessionConfig {
                destination: plan.vm(target).address.into(),
                payload_length: 56,
                timeout: Duration::from_secs(5),
                options: PingOptions::default(),
            };
            let flow = FlowConfig {
                source,
                session,
                target: Some(target),
            };
            hypervisor
                .add_flow(flow)
                .ok_or("a VM has no session left")?;
        }
        Ok(ReactorLoop {
            reactor,
            hypervisor,
            flows: 0..pairs,
        })
    }

    /// Sends `count` pings in each pair, all of them answered or else an error. How long that took.
    pub fn ping(&mut self, pacing: Pacing, count: u64) -> Result<Duration> {
        let before = self.hypervisor.recorder().totals().received;
        let load = PhaseLoad {
            flows: self.flows.clone(),
            pacing,
            arrivals: Arrivals::Uniform,
            count: Some(count),
            start_jitter: Duration::ZERO,
        };
        let phase = Phase {
            name: String::new(),
            is_counted: true,
            load,
            duration: None,
            moves: Vec::new(),
        };
        let start = MonotonicClock.now();
        self.hypervisor.start(start, vec![phase]);
        let end = self.reactor.run(&mut self.hypervisor, None)?;
        let elapsed = MonotonicClock.now() - start;
        let pings = u64::from(self.flows.end) * count;
        let received = self.hypervisor.recorder().totals().received - before;
        if end != End::Done || received != pings {
            return Err(format!(
                "the reactor got {received} of {pings} pings answered, and ended by {end:?}"
            )
            .into());
        }
        Ok(elapsed)
    }

    /// Sends `count` pings in each pair, `window` of them on their way at any time; round trips a second.
    pub fn rate(&mut self, window: u32, count: u64) -> Result<f64> {
        let pings = u64::from(self.flows.end) * count;
        Ok(pings as f64 / self.ping(Pacing::Window(window), count)?.as_secs_f64())
    }
}
