//! One lab, built as the program does: the time of its set-up, its memory, and its speed.

use std::io::Write;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use tap_reactor::experiment::{Experiment, FlowPlan, VmPlan};
use tap_reactor::fabric::Fabric;
use tap_reactor::lab::TapLab;
use tap_reactor::load::Pacing;
use tap_reactor::system::{FabricKind, Neighbours, NetnsChoice, allocated_bytes};
use tap_reactor::time::{Clock, MonotonicClock};
use tap_reactor::topology::Callers;
use tap_reactor::vm::VmId;

use crate::cpu_seconds;
use crate::ping_lab::{Result, ping, plan};

/// Pings between two VMs: two seconds.
const PINGS: u64 = 400_000;
/// Pings before them: for a second after a large set-up the kernel has still to clean up behind it.
const WARM_UP: u64 = 200_000;
/// The time in which VMs have nothing to do.
const IDLE: Duration = Duration::from_secs(10);

pub struct Options {
    pub vms: u32,
    pub xdp: bool,
    pub filter: bool,
    /// The bridge answers ARP requests.
    pub proxy: bool,
    /// Every VM resolves its neighbour.
    pub storm: bool,
    /// VMs have nothing to do for a while.
    pub idle: bool,
    /// The links are removed one group after the other, as on a host, and not with the namespace.
    pub host: bool,
}

impl Options {
    fn plan(&self) -> Result<Experiment> {
        let mut plan = plan(self.vms)?;
        let lab = &mut plan.lab;
        lab.filter = self.filter;
        if self.host {
            lab.netns = NetnsChoice::Host;
        }
        if self.xdp {
            lab.fabric = FabricKind::Xdp;
        }
        if self.proxy {
            lab.neighbours = Neighbours::Proxy;
            let topology = lab.topology().ok_or("no bridges")??;
            lab.callers = Callers::new(&topology, self.ring());
        }
        Ok(plan)
    }

    /// Every VM and its neighbour.
    fn ring(&self) -> impl Iterator<Item = (VmId, VmId)> {
        let vms = self.vms;
        (0..vms).map(move |vm| (VmId(vm), VmId((vm + 1) % vms)))
    }
}

pub fn run(options: &Options) -> Result<()> {
    if options.host {
        unshare(CloneFlags::CLONE_NEWNET)?;
    }
    let plan = options.plan()?;
    let (started, cpu) = (MonotonicClock.now(), cpu_seconds()?);
    let mut lab = TapLab::new(plan)?;
    let before = allocated_bytes().ok_or("no figure for memory")?;
    lab.populate(&mut ())?;
    tell("setup", (MonotonicClock.now() - started).as_secs_f64());
    tell("setup cpu", cpu_seconds()? - cpu);
    let after = allocated_bytes().ok_or("no figure for memory")?;
    let per_vm = after.saturating_sub(before) as f64 / f64::from(options.vms);
    tell("per vm", per_vm);

    if options.idle {
        let turns = turns(&mut lab);
        lab.drive(Some(MonotonicClock.now() + IDLE))?;
        // The end of the time is one turn.
        let turns = self::turns(&mut lab) - turns;
        tell("wakes", turns.saturating_sub(1) as f64);
    }
    if options.storm {
        for (source, target) in options.ring() {
            lab.add_flow(FlowPlan::between(source, target))?;
        }
        let cpu = cpu_seconds()?;
        let elapsed = ping(&mut lab, 0..options.vms, Pacing::Window(1), 1)?;
        tell("storm", elapsed.as_secs_f64());
        tell("storm cpu", cpu_seconds()? - cpu);
    }
    let [one, other] = [VmId(0), VmId(1)];
    for (vm, neighbour) in [(one, other), (other, one)] {
        let VmPlan { address, mac, .. } = lab.plan().vms[neighbour.index()];
        lab.hypervisor().tell_neighbour(vm, address.into(), mac);
    }
    let pair = lab.add_flow(FlowPlan::between(one, other))?.0;
    let pair = pair..pair + 1;
    ping(&mut lab, pair.clone(), Pacing::Window(1), WARM_UP)?;
    let turns = turns(&mut lab);
    let elapsed = ping(&mut lab, pair, Pacing::Window(1), PINGS)?;
    tell("rate", PINGS as f64 / elapsed.as_secs_f64());
    let turns = self::turns(&mut lab) - turns;
    tell("turns", turns as f64 / elapsed.as_secs_f64());

    let started = MonotonicClock.now();
    lab.hypervisor().fabric().close()?;
    if options.host {
        tell("removal", (MonotonicClock.now() - started).as_secs_f64());
    }
    Ok(lab.close()?)
}

fn turns(lab: &mut TapLab<'_>) -> u64 {
    lab.hypervisor().recorder().work().turns
}

fn tell(name: &str, value: f64) {
    println!("{name} {value}");
    // The parent takes the time of the last line.
    let _ = std::io::stdout().flush();
}
