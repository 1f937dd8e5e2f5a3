//! A lab as the program makes it, and pings in it: what benchmarks and tests of whole runs share.

use std::ops::Range;
use std::time::Duration;

use tap_reactor::experiment::AddressPlan;
use tap_reactor::hypervisor::{FlowConfig, Hypervisor, Phase};
use tap_reactor::load::{Arrivals, FlowId, Pacing, PhaseLoad, Start};
use tap_reactor::reactor::{End, Reactor};
use tap_reactor::record::{Limits, Recorder};
use tap_reactor::system::{LabConfig, StopSignals, TapFabric, raise_descriptor_limit};
use tap_reactor::time::{Clock, MonotonicClock};
use tap_reactor::vm::{PingOptions, SessionConfig, VmConfig, VmId};

/// Anything that went wrong: these programs have nobody to tell but their user.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How long a ping is waited for: long enough for the flood of a thousand requests.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A reactor, and as many descriptors for it as there may be.
pub fn reactor() -> Result<Reactor> {
    raise_descriptor_limit()?;
    Ok(Reactor::new(StopSignals::new()?)?)
}

/// A recorder as a run has it.
pub fn recorder() -> Recorder {
    Recorder::new(Limits::default())
}

/// VMs on TAPs, and the reactor that drives them.
pub struct PingLab {
    pub reactor: Reactor,
    pub hypervisor: Hypervisor<TapFabric>,
    pub plan: AddressPlan,
    vms: u32,
    flows: u32,
}

impl PingLab {
    /// What `lab` says, in the namespace that it names, without a VM as yet.
    pub fn new(reactor: Reactor, recorder: Recorder, lab: LabConfig) -> Result<PingLab> {
        let vms = lab.vms;
        let fabric = TapFabric::new(reactor.registry()?, lab)?;
        Ok(PingLab {
            reactor,
            hypervisor: Hypervisor::new(fabric, recorder, 0),
            plan: AddressPlan::new("10.77.0.0/16".parse()?, vms.into())?,
            vms,
            flows: 0,
        })
    }

    /// Makes the VMs.
    pub fn populate(&mut self) -> Result<()> {
        for vm in (0..self.vms).map(VmId) {
            let vm = self.plan.vm(vm);
            let config = VmConfig::new(vm.mac, vm.address);
            self.hypervisor.create_vm(MonotonicClock.now(), config)?;
        }
        Ok(())
    }

    /// Adds a flow from one VM to another.
    pub fn flow(&mut self, source: VmId, target: VmId) -> Result<FlowId> {
        let session = SessionConfig {
            destination: self.plan.vm(target).address.into(),
            payload_length: 56,
            timeout: TIMEOUT,
            options: PingOptions::default(),
        };
        self.flows += 1;
        let flow = self.hypervisor.add_flow(FlowConfig {
            source,
            session,
            target: Some(target),
        });
        flow.ok_or_else(|| "a VM has no session left".into())
    }

    /// All flows that there are.
    pub fn flows(&self) -> Range<u32> {
        0..self.flows
    }

    /// Has each of `flows` send `count` pings, all of them answered or else an error. How long that took.
    pub fn ping(&mut self, flows: Range<u32>, pacing: Pacing, count: u64) -> Result<Duration> {
        let wanted = flows.len() as u64 * count;
        let before = self.hypervisor.recorder().totals().received;
        let start = MonotonicClock.now();
        self.begin(flows, pacing, count);
        let end = self.run()?;
        let elapsed = MonotonicClock.now() - start;
        let received = self.hypervisor.recorder().totals().received - before;
        if end != End::Done || received != wanted {
            return Err(format!(
                "the reactor got {received} of {wanted} pings answered, and ended by {end:?}"
            )
            .into());
        }
        Ok(elapsed)
    }

    /// Runs the reactor until all pings are over.
    pub fn run(&mut self) -> Result<End> {
        Ok(self.reactor.run(&mut self.hypervisor, None)?)
    }

    /// Begins a phase in which each of `flows` sends `count` pings.
    pub fn begin(&mut self, flows: Range<u32>, pacing: Pacing, count: u64) {
        let phase = Phase {
            name: String::new(),
            is_counted: true,
            load: PhaseLoad {
                flows,
                pacing,
                arrivals: Arrivals::Uniform,
                count: Some(count),
                start: Start::Spread,
            },
            duration: None,
            moves: Vec::new(),
        };
        self.hypervisor.start(MonotonicClock.now(), vec![phase]);
    }
}
