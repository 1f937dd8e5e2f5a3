//! One lab, as the program makes it: how long it takes to make, what it takes, and how fast it is.

use std::io::Write;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use tap_reactor::load::Pacing;
use tap_reactor::system::{FabricKind, LabConfig, Neighbours, NetnsChoice, resident_bytes};
use tap_reactor::time::{Clock, MonotonicClock};
use tap_reactor::topology::Callers;
use tap_reactor::vm::VmId;

use crate::cpu_seconds;
use crate::ping_lab::{PingLab, Result, reactor, recorder};

/// Pings between two VMs: two seconds.
const PINGS: u64 = 400_000;
/// Pings before them: for a second after a large set-up the kernel has still to clean up behind it.
const WARM_UP: u64 = 200_000;
/// How long VMs have nothing to do.
const IDLE: Duration = Duration::from_secs(10);

pub struct Options {
    pub vms: u32,
    pub xdp: bool,
    pub filter: bool,
    /// Whether the bridge answers ARP requests.
    pub proxy: bool,
    /// Whether every VM resolves its neighbour.
    pub storm: bool,
    /// Whether VMs have nothing to do for a while.
    pub idle: bool,
    /// Whether the links are removed one group after the other, as on a host, and not with the namespace.
    pub host: bool,
}

impl Options {
    fn lab(&self) -> Result<LabConfig> {
        let mut lab = LabConfig {
            vms: self.vms,
            filter: self.filter,
            ..LabConfig::default()
        };
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
        Ok(lab)
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
    let (reactor, recorder) = (reactor()?, recorder());
    let (started, cpu) = (MonotonicClock.now(), cpu_seconds()?);
    let mut lab = PingLab::new(reactor, recorder, options.lab()?)?;
    let before = resident_bytes().ok_or("no figure for memory")?;
    lab.populate()?;
    tell("setup", (MonotonicClock.now() - started).as_secs_f64());
    tell("setup cpu", cpu_seconds()? - cpu);
    let after = resident_bytes().ok_or("no figure for memory")?;
    let per_vm = after.saturating_sub(before) as f64 / f64::from(options.vms);
    tell("per vm", per_vm);

    if options.idle {
        let turns = lab.hypervisor.recorder().work().turns;
        let until = MonotonicClock.now() + IDLE;
        lab.reactor.run(&mut lab.hypervisor, Some(until))?;
        // The end of the time is one turn.
        let turns = lab.hypervisor.recorder().work().turns - turns;
        tell("wakes", turns.saturating_sub(1) as f64);
    }
    if options.storm {
        for (source, target) in options.ring() {
            lab.flow(source, target)?;
        }
        let cpu = cpu_seconds()?;
        let elapsed = lab.ping(lab.flows(), Pacing::Window(1), 1)?;
        tell("storm", elapsed.as_secs_f64());
        tell("storm cpu", cpu_seconds()? - cpu);
    }
    for (vm, neighbour) in [(0, 1), (1, 0)] {
        let neighbour = lab.plan.vm(VmId(neighbour));
        let vm = lab.hypervisor.vm_mut(VmId(vm)).ok_or("no such VM")?;
        vm.add_neighbour(neighbour.address.into(), neighbour.mac);
    }
    let pair = lab.flow(VmId(0), VmId(1))?.0;
    lab.ping(pair..pair + 1, Pacing::Window(1), WARM_UP)?;
    let turns = lab.hypervisor.recorder().work().turns;
    let elapsed = lab.ping(pair..pair + 1, Pacing::Window(1), PINGS)?;
    tell("rate", PINGS as f64 / elapsed.as_secs_f64());
    let turns = lab.hypervisor.recorder().work().turns - turns;
    tell("turns", turns as f64 / elapsed.as_secs_f64());

    let (mut fabric, _) = lab.hypervisor.into_parts();
    let started = MonotonicClock.now();
    fabric.remove_all()?;
    if options.host {
        tell("removal", (MonotonicClock.now() - started).as_secs_f64());
    }
    Ok(())
}

fn tell(name: &str, value: f64) {
    println!("{name} {value}");
    // The parent takes the time of the last line.
    let _ = std::io::stdout().flush();
}
