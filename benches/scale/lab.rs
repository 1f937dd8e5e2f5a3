//! One lab, as the program makes it: how long it takes to make, what it takes, and how fast it is.

use std::io::Write;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use tap_reactor::experiment::AddressPlan;
use tap_reactor::hypervisor::{FlowConfig, Hypervisor, Phase};
use tap_reactor::load::{Arrivals, FlowId, Pacing, PhaseLoad};
use tap_reactor::reactor::{End, Reactor};
use tap_reactor::record::{Limits, Recorder};
use tap_reactor::system::{
    LabConfig, NetnsChoice, StopSignals, Switching, TapFabric, raise_descriptor_limit,
    resident_bytes,
};
use tap_reactor::time::{Clock, MonotonicClock};
use tap_reactor::vm::{PingOptions, SessionConfig, VmConfig, VmId};

use crate::{Result, cpu_seconds};

/// Pings between two VMs: a good third of a second.
const PINGS: u64 = 50_000;

pub struct Options {
    pub vms: u32,
    pub xdp: bool,
    pub filter: bool,
    /// Whether every VM resolves its neighbour.
    pub storm: bool,
    /// Whether the links are removed one group after the other, as on a host, and not with the namespace.
    pub host: bool,
}

pub fn run(options: &Options) -> Result<()> {
    raise_descriptor_limit()?;
    if options.host {
        unshare(CloneFlags::CLONE_NEWNET)?;
    }
    let vms = options.vms;
    let lab = LabConfig {
        vms,
        netns: if options.host {
            NetnsChoice::Host
        } else {
            NetnsChoice::Private
        },
        switching: if options.xdp {
            Switching::Xdp
        } else {
            Switching::Bridge
        },
        filter: options.filter,
        ..LabConfig::default()
    };
    let mut reactor = Reactor::new(StopSignals::new()?)?;
    let plan = AddressPlan::new("10.77.0.0/16".parse()?, vms.into())?;

    let (started, cpu) = (MonotonicClock.now(), cpu_seconds()?);
    let fabric = TapFabric::new(reactor.registry()?, lab)?;
    let mut hypervisor = Hypervisor::new(fabric, Recorder::new(Limits::default()), 0);
    let before = resident_bytes().ok_or("no figure for memory")?;
    for vm in (0..vms).map(VmId) {
        let vm = plan.vm(vm);
        hypervisor.create_vm(MonotonicClock.now(), VmConfig::new(vm.mac, vm.address))?;
    }
    tell("setup", (MonotonicClock.now() - started).as_secs_f64());
    tell("setup cpu", cpu_seconds()? - cpu);
    let after = resident_bytes().ok_or("no figure for memory")?;
    tell(
        "per vm",
        after.saturating_sub(before) as f64 / f64::from(vms),
    );

    let mut runner = Runner {
        reactor: &mut reactor,
        hypervisor: &mut hypervisor,
        plan,
    };
    if options.storm {
        let flows = (0..vms).map(|vm| (VmId(vm), VmId((vm + 1) % vms)));
        let cpu = cpu_seconds()?;
        let seconds = runner.run(flows.collect(), 1)?;
        tell("storm", seconds);
        tell("storm cpu", cpu_seconds()? - cpu);
    }
    for (vm, neighbour) in [(0, 1), (1, 0)] {
        let neighbour = plan.vm(VmId(neighbour));
        let vm = runner.hypervisor.vm_mut(VmId(vm)).ok_or("no such VM")?;
        vm.add_neighbour(neighbour.address.into(), neighbour.mac);
    }
    let turns = runner.hypervisor.recorder().work().turns;
    let seconds = runner.run(vec![(VmId(0), VmId(1))], PINGS)?;
    tell("rate", PINGS as f64 / seconds);
    let turns = runner.hypervisor.recorder().work().turns - turns;
    tell("turns", turns as f64 / seconds);

    let (fabric, _) = hypervisor.into_parts();
    let started = MonotonicClock.now();
    fabric.remove_all()?;
    if options.host {
        tell("removal", (MonotonicClock.now() - started).as_secs_f64());
    }
    Ok(())
}

struct Runner<'a> {
    reactor: &'a mut Reactor,
    hypervisor: &'a mut Hypervisor<TapFabric>,
    plan: AddressPlan,
}

impl Runner<'_> {
    /// Sends `count` pings by each of these flows, one after the other, and returns the seconds that it took.
    fn run(&mut self, flows: Vec<(VmId, VmId)>, count: u64) -> Result<f64> {
        let mut ids: Vec<FlowId> = Vec::new();
        for (source, target) in flows {
            let session = SessionConfig {
                destination: self.plan.vm(target).address.into(),
                payload_length: 56,
                timeout: Duration::from_secs(20),
                options: PingOptions::default(),
            };
            let flow = self.hypervisor.add_flow(FlowConfig {
                source,
                session,
                target: Some(target),
            });
            ids.push(flow.ok_or("a VM has no session left")?);
        }
        let (first, last) = ids.first().zip(ids.last()).ok_or("no flows")?;
        let before = self.hypervisor.recorder().totals().received;
        let load = PhaseLoad {
            flows: first.0..last.0 + 1,
            pacing: Pacing::Window(1),
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
        let started = MonotonicClock.now();
        self.hypervisor.start(started, vec![phase]);
        let end = self.reactor.run(self.hypervisor, None)?;
        let elapsed = MonotonicClock.now() - started;
        let received = self.hypervisor.recorder().totals().received - before;
        let wanted = ids.len() as u64 * count;
        if end != End::Done || received != wanted {
            return Err(format!("{received} of {wanted} pings were answered; {end:?}").into());
        }
        Ok(elapsed.as_secs_f64())
    }
}

fn tell(name: &str, value: f64) {
    println!("{name} {value}");
    // The parent takes the time of the last line.
    let _ = std::io::stdout().flush();
}
