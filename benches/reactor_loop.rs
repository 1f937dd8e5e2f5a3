//! The same work done by the library as a user would have it done: VMs, sessions, neighbour tables, histograms.

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
    reactor: Reactor,
    hypervisor: Hypervisor<TapFabric>,
    plan: AddressPlan,
    pairs: u32,
    window: u32,
}

impl ReactorLoop {
    /// A lab with two VMs for each pair, in a private namespace that the calling thread enters.
    pub fn new(pairs: u32, window: u32) -> Result<ReactorLoop> {
        raise_descriptor_limit()?;
        let reactor = Reactor::new(StopSignals::new()?)?;
        let vms = 2 * pairs;
        let lab = LabConfig {
            vms,
            netns: NetnsChoice::Private,
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
        Ok(ReactorLoop {
            reactor,
            hypervisor,
            plan,
            pairs,
            window,
        })
    }

    /// Sends `count` pings in each pair and reads as many answers; round trips a second.
    pub fn rate(&mut self, count: u64) -> Result<f64> {
        let mut flows = Vec::new();
        for pair in 0..self.pairs {
            let (source, target) = (VmId(2 * pair), VmId(2 * pair + 1));
            let destination = self.plan.vm(target).address;
            let session = SessionConfig {
                destination: destination.into(),
                payload_length: 56,
                timeout: Duration::from_secs(5),
                options: PingOptions::default(),
            };
            let flow = self.hypervisor.add_flow(FlowConfig {
                source,
                session,
                target: Some(target),
            });
            flows.push(flow.ok_or("a VM has no session left")?.0);
        }
        let before = self.hypervisor.recorder().totals().received;
        let load = PhaseLoad {
            flows: flows.first().copied().unwrap_or(0)..flows.last().map_or(0, |last| last + 1),
            pacing: Pacing::Window(self.window),
            arrivals: Arrivals::Uniform,
            count: Some(count),
            start_jitter: Duration::ZERO,
        };
        let phase = Phase {
            name: String::new(),
            is_counted: true,
            load,
            duration: None,
        };
        let start = MonotonicClock.now();
        self.hypervisor.start(start, vec![phase]);
        let end = self.reactor.run(&mut self.hypervisor, None)?;
        let elapsed = MonotonicClock.now() - start;
        let pings = u64::from(self.pairs) * count;
        let received = self.hypervisor.recorder().totals().received - before;
        if end != End::Done || received != pings {
            return Err(format!(
                "the reactor got {received} of {pings} pings answered, and ended by {end:?}"
            )
            .into());
        }
        Ok(pings as f64 / elapsed.as_secs_f64())
    }
}
