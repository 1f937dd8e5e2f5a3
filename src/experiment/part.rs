//! The part of a plan that one of several ranks runs: its VMs with the addresses and names that they have in one process, and
//! the flows that they send. Pure: no clock, no socket.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::{Experiment, FlowPlan, SettingError};
use crate::fabric::WriteTo;
use crate::hypervisor::FindNeighbours;
use crate::load::{FlowId, FlowSet, Pacing, PhaseLoad, Start, Target};
use crate::ranks::Rank;
use crate::system::{
    FabricKind, MeetingAddress, MemoryDescriptor, OtherRanks, Outside, Prepared, Sharing,
};
use crate::vm::VmId;

/// VMs that a scenario gives to a rank of its choice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pin {
    /// Their numbers.
    pub vms: Range<u32>,
    /// The number of the rank.
    pub rank: u32,
}

/// The assignment of VMs to ranks: [pins](Pin), and of the others rank R of N has those from R·n/N to before (R+1)·n/N of all n.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owners {
    vms: u32,
    ranks: u32,
    pins: Vec<Pin>,
}

impl Owners {
    /// The assignment of `vms` VMs to `ranks` ranks, but for those that are pinned.
    pub fn new(vms: u32, ranks: u32, pins: Vec<Pin>) -> Owners {
        Owners { vms, ranks, pins }
    }

    /// Returns the number of the rank that has `vm`.
    pub fn of(&self, vm: VmId) -> u32 {
        if let Some(pin) = self.pins.iter().find(|pin| pin.vms.contains(&vm.0)) {
            return pin.rank;
        }
        // The greatest R for which R·n/N, rounded down, is not above the number of the VM.
        let (vm, vms, ranks) = (u64::from(vm.0), u64::from(self.vms.max(1)), self.ranks);
        let rank = ((vm + 1) * u64::from(ranks)).saturating_sub(1) / vms;
        u32::try_from(rank)
            .unwrap_or(ranks)
            .min(ranks.saturating_sub(1))
    }

    /// Returns the VMs of `rank`, in ascending ranges.
    fn vms_of(&self, rank: u32) -> Vec<Range<u32>> {
        let mut ranges: Vec<Range<u32>> = Vec::new();
        for vm in (0..self.vms).filter(|vm| self.of(VmId(*vm)) == rank) {
            match ranges.last_mut() {
                Some(last) if last.end == vm => last.end += 1,
                _ => ranges.push(vm..vm + 1),
            }
        }
        ranges
    }
}

/// The processes of a plan that are on this machine, which has to have room for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Processes {
    /// The only one.
    #[default]
    One,
    /// All, so many ranks.
    All(u32),
    /// One rank of several.
    Rank(Rank),
}

impl Processes {
    /// Returns how many of so many VMs, of which some are pinned, are on this machine.
    pub(super) fn vms_of(self, vms: u32, pins: &[Pin]) -> u32 {
        match self {
            Processes::One | Processes::All(_) => vms,
            Processes::Rank(rank) => {
                let owners = Owners::new(vms, rank.count(), pins.to_vec());
                let own = owners.vms_of(rank.number());
                own.iter().map(|range| range.end - range.start).sum()
            }
        }
    }
}

/// The part of a plan that one rank runs, beside what its fields say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// The rank.
    pub rank: Rank,
    /// The ranks of all VMs.
    pub owners: Owners,
    /// Flows of other ranks to VMs of this one.
    pub incoming: Vec<FlowPlan>,
    /// How many flows all ranks have.
    pub all_flows: usize,
    /// How many pings all ranks send; `None` if that depends on the time.
    pub all_pings: Option<u64>,
    /// The hash of the whole plan.
    pub hash: PlanHash,
    /// Where the ranks meet; `None` of a single one.
    pub meeting: Option<Meet>,
    /// The memory in which ranks on one machine tell each other of pings, if they do.
    pub turns: Option<MemoryDescriptor>,
}

impl Part {
    /// What tells frames of streams of this run from those of others, for all of its ranks.
    pub fn run(&self) -> u32 {
        let mut hasher = Hasher(Sha256::new());
        // Ranks on one machine are told a name that no other run has.
        let name = match self.meeting.as_ref().map(|meet| &meet.address) {
            Some(MeetingAddress::Name(name)) => name.as_str(),
            _ => "",
        };
        let _ = write!(hasher, "{} {name}", self.hash);
        let [a, b, c, d, ..] = <[u8; 32]>::from(hasher.0.finalize());
        u32::from_be_bytes([a, b, c, d])
    }
}

/// Where ranks meet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meet {
    /// The address at which rank 0 listens.
    pub address: MeetingAddress,
    /// The file that has the secret; without one the environment may.
    pub secret_file: Option<PathBuf>,
}

/// The SHA-256 of what all ranks of a plan must agree on. Of use within one version of the program only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlanHash(pub [u8; 32]);

impl fmt::Display for PlanHash {
    /// In hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Takes text in.
struct Hasher(Sha256);

impl fmt::Write for Hasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

impl Experiment {
    /// Returns true if this process has `vm`: each, unless it is one of several ranks.
    pub fn is_own(&self, vm: VmId) -> bool {
        let has = |part: &Part| part.owners.of(vm) == part.rank.number();
        self.part.as_ref().is_none_or(has)
    }

    /// Returns how many VMs this process has.
    pub fn own_vms(&self) -> usize {
        match &self.lab.own_vms {
            None => self.vms.len(),
            Some(ranges) => ranges.iter().map(ExactSizeIterator::len).sum(),
        }
    }

    /// Returns the seed of the random choices of the load and of impairments, another one in each rank.
    pub fn load_seed(&self) -> u64 {
        let rank = self.part.as_ref().map_or(0, |part| part.rank.number());
        self.seed
            .wrapping_add(u64::from(rank).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Returns the hash of what all ranks must agree on: VMs, addresses, flows, phases and the form of the fabric; not where
    /// each finds its lab, nor what it writes.
    pub fn hash(&self) -> PlanHash {
        let Experiment {
            lab,
            is_simulated,
            impairments,
            vms,
            vm_defaults,
            memberships,
            flows,
            streams,
            phases,
            timeout,
            stays,
            serve,
            address_wait,
            resolution: _,
            seed,
            effective: _,
            instruments: _,
            mark_on: _,
            attribute_loss: _,
            splits_path,
            is_one_way,
            listen: _,
            spin: _,
            pins,
            part: _,
        } = self;
        let mut hasher = Hasher(Sha256::new());
        let of_lab = (
            lab.vms,
            lab.fabric,
            lab.ports_per_bridge,
            lab.mtu,
            lab.neighbours,
            &lab.vlan_filtering,
        );
        let interfaces = lab.interfaces.iter().map(|of| (&of.vms, of.bridges));
        let interfaces: Vec<_> = interfaces.collect();
        let of_run = (
            timeout,
            stays,
            serve,
            address_wait,
            seed,
            splits_path,
            is_one_way,
        );
        // The form of the values is that of this version of the program, which all ranks have.
        let _ = write!(
            hasher,
            "{of_lab:?} {interfaces:?} {is_simulated} {impairments:?} {vms:?} {vm_defaults:?} {memberships:?} {flows:?} {streams:?} \
             {phases:?} \
             {of_run:?} {pins:?}"
        );
        PlanHash(hasher.0.finalize().into())
    }

    /// Returns the part of this plan that `rank` runs. Its lab is `sharing`: `None` for a lab of its own. The ranks meet at
    /// `meeting`.
    ///
    /// A flow is in the part that has its source. One to a VM of another rank keeps its name, and is one to an address.
    ///
    /// # Errors
    /// If the plan can't be divided so.
    pub fn of_rank(
        mut self,
        rank: Rank,
        sharing: Option<Sharing>,
        meeting: Option<Meet>,
    ) -> Result<Experiment, SettingError> {
        let owners = Owners::new(self.vms.len() as u32, rank.count(), self.pins.clone());
        self.check_ranks(&owners, sharing.is_some())?;
        let hash = self.hash();
        let (all_flows, all_pings) = (self.flow_count(), self.planned_pings());
        let is_own = |vm: VmId| owners.of(vm) == rank.number();
        let mut incoming = Vec::new();
        // The new number of each flow that is kept.
        let mut numbers: Vec<Option<u32>> = Vec::with_capacity(self.flows.len());
        let mut kept = Vec::new();
        for flow in std::mem::take(&mut self.flows) {
            let is_kept = is_own(flow.source);
            numbers.push(is_kept.then_some(kept.len() as u32));
            match flow.target {
                _ if is_kept => kept.push(flow),
                Target::Vm(target) if is_own(target) => incoming.push(flow),
                Target::Vm(_) | Target::Address(_) => {}
            }
        }
        self.flows = kept;
        for phase in &mut self.phases {
            let kept = |flow: FlowId| numbers.get(flow.index()).copied().flatten().map(FlowId);
            divide(&mut phase.load, kept);
            for load in &mut phase.streams {
                // All ranks number streams alike: those who receive them have to know which it is.
                divide(load, |id| {
                    let stream = self.streams.get(id.index());
                    stream.filter(|it| is_own(it.source)).map(|_| id)
                });
            }
            phase.streams.retain(|load| !load.flows.is_empty());
            phase.transitions.retain(|each| is_own(each.vm));
            let planned = std::mem::take(&mut phase.misbehaviours);
            let (own, elsewhere) = planned.into_iter().partition(|each| is_own(each.vm));
            (phase.misbehaviours, phase.misbehaviours_elsewhere) = (own, elsewhere);
            phase.moves.retain(|each| is_own(each.vm));
        }
        let instruments = std::mem::take(&mut self.instruments).into_iter();
        self.instruments = match rank.count() {
            1 => instruments.collect(),
            _ => instruments
                .filter_map(|instrument| instrument.numbered(rank.number()))
                .collect(),
        };
        // All together have no more requests under way than one process has.
        self.resolution.first = self.resolution.first.map(|first| FindNeighbours {
            outstanding: (first.outstanding / rank.count()).max(1),
            ..first
        });
        if let (Some(Outside::Underlay(underlay)), None) = (&mut self.lab.outside, sharing) {
            let vms = (0..).map(VmId).zip(&self.vms);
            let others = vms.filter(|(vm, _)| !is_own(*vm));
            underlay.ranks = Some(OtherRanks {
                own: rank.number(),
                count: rank.count(),
                plan: hash.0,
                stations: others.map(|(vm, plan)| (plan.mac, owners.of(vm))).collect(),
            });
        }
        self.lab.own_vms = Some(owners.vms_of(rank.number()));
        self.lab.sharing = sharing;
        self.part = Some(Part {
            rank,
            owners,
            incoming,
            all_flows,
            all_pings,
            hash,
            meeting,
            turns: None,
        });
        Ok(self)
    }

    /// Checks that ranks can divide the plan, whose labs are one if that `is_shared`.
    fn check_ranks(&self, owners: &Owners, is_shared: bool) -> Result<(), SettingError> {
        let ranks = owners.ranks;
        if let Some(pin) = self.pins.iter().find(|pin| pin.rank >= ranks) {
            return Err(SettingError::new(format_args!(
                "rank = {} of the group that begins with vm{}: there are {ranks} ranks; expected 0 to {}",
                pin.rank,
                pin.vms.start,
                ranks.saturating_sub(1)
            )));
        }
        if ranks == 1 {
            return Ok(());
        }
        let refused = |what: &str, why: &str| {
            SettingError::new(format_args!(
                "{what} cannot be used with several ranks: {why}"
            ))
        };
        if self.is_simulated {
            return Err(refused("--fabric sim", "a simulation is one process"));
        }
        let is_divided = |vms: &Range<u32>| {
            let first = owners.of(VmId(vms.start));
            vms.clone().any(|vm| owners.of(VmId(vm)) != first)
        };
        if is_shared
            && let Some(port) = (self.lab.interfaces.iter())
                .find(|port| port.bridges && is_divided(&self.lab.behind(&port.name)))
        {
            let what = format!("--interface {},bridge in one lab", port.name);
            let why = "no process has all VMs behind it, to bridge them; expected it without ,bridge, or one core";
            return Err(refused(&what, why));
        }
        let has_address = self.lab.host_address.is_some() || self.lab.host_address6.is_some();
        if !is_shared && self.lab.outside.is_some() && has_address {
            let why = "the bridge of each rank would have it";
            return Err(refused("--host-address on joined labs", why));
        }
        if self.splits_path {
            return Err(refused(
                "--path-split",
                "it follows the pings of one process",
            ));
        }
        if self.stays {
            let why = "all ranks end together; expected --duration";
            return Err(refused("--stay", why));
        }
        if !self.listen.is_empty() {
            let why = "each rank would listen there";
            return Err(refused("--control and --metrics", why));
        }
        if self.counts_floods() {
            let why = "a flooded frame has copies in all of them, and each sees those of its own VMs; expected one core, or \
                       no count";
            return Err(refused("--count-floods", why));
        }
        if let Some(shared) =
            (self.instruments.iter()).find(|one| (*one).clone().numbered(0).is_none())
        {
            let what = format!("--{}", shared.kind());
            let why = match shared.to() {
                WriteTo::StandardError => {
                    "each rank would write to standard error; expected --trace and a file with {} in its name"
                }
                _ => {
                    "each rank would write there; expected a file with {} in its name, for the number of the rank"
                }
            };
            return Err(refused(&what, why));
        }
        if self.lab.prepared == Prepared::Nothing
            && self.phases.iter().any(|phase| !phase.moves.is_empty())
        {
            return Err(refused(
                "--move",
                "bridges and tables of several ranks would have to change",
            ));
        }
        self.check_crossing(owners, is_shared)
    }

    /// Checks the streams from one rank to another, whose labs are connected if that `meets`.
    fn check_crossing_streams(&self, owners: &Owners, meets: bool) -> Result<(), SettingError> {
        for stream in &self.streams {
            let own = owners.of(stream.source);
            let receivers = stream.receivers.iter().copied();
            let Some(elsewhere) = receivers.into_iter().find(|vm| owners.of(*vm) != own) else {
                continue;
            };
            let is_leased =
                stream.target == Target::Vm(elsewhere) && self.vm_defaults.leases(stream.version);
            let why = if !meets {
                LABS_APART
            } else if is_leased {
                "whose address a DHCP server chooses; expected streams within one rank"
            } else {
                continue;
            };
            return Err(SettingError::new(format_args!(
                "{} of rank {own} sends a stream to {elsewhere} of rank {}: {why}",
                stream.source,
                owners.of(elsewhere)
            )));
        }
        Ok(())
    }

    /// Checks the flows from one rank to another.
    fn check_crossing(&self, owners: &Owners, is_shared: bool) -> Result<(), SettingError> {
        let transitions = self.phases.iter().flat_map(|phase| &phase.transitions);
        let changing: std::collections::HashSet<VmId> = transitions.map(|each| each.vm).collect();
        let meets = is_shared
            || self.lab.outside.is_some()
            || self.lab.prepared != Prepared::Nothing
            || matches!(self.lab.fabric, FabricKind::None | FabricKind::Interface);
        self.check_crossing_streams(owners, meets)?;
        for flow in &self.flows {
            let own = owners.of(flow.source);
            if let Target::Address(group) = flow.target
                && group.is_multicast()
                && self
                    .others(group, flow.source)
                    .any(|vm| owners.of(vm) != own)
            {
                return Err(SettingError::new(format_args!(
                    "{} of rank {own} pings the group {group}, which VMs of other ranks join; expected members of the same \
                     rank (rank = {own} in a group of a scenario)",
                    flow.source
                )));
            }
            let Target::Vm(target) = flow.target else {
                continue;
            };
            let other = owners.of(target);
            if own == other {
                continue;
            }
            let (source, who) = (flow.source, format!("{target} of rank {other}"));
            let why = if !meets {
                LABS_APART
            } else if self.vm_defaults.leases(flow.version) {
                "whose address a DHCP server chooses; expected pings within one rank"
            } else if changing.contains(&target) {
                "which starts or stops in the run; expected pings within one rank"
            } else if self.is_one_way && !is_shared {
                "both ways of a ping can't be told apart by two clocks (--one-way); expected --cores, whose ranks have one, or pings \
                 within one rank"
            } else {
                continue;
            };
            return Err(SettingError::new(format_args!(
                "{source} of rank {own} pings {who}: {why}"
            )));
        }
        Ok(())
    }
}

/// Why what one rank sends does not come to another.
const LABS_APART: &str = "each rank has a lab of its own; expected --cores for one lab, or --uplink, --underlay, --join, --fabric \
                          interface or none for a network that connects them";

/// Leaves of the load of a phase the flows that are kept, by their new numbers.
fn divide(load: &mut PhaseLoad, kept: impl Fn(FlowId) -> Option<FlowId>) {
    let all = load.flows.len();
    let mut flows = FlowSet::default();
    // In the phase, flows of other ranks that are before the first one of this rank.
    let mut first = None;
    for (number, flow) in (0u32..).zip(load.flows.iter()) {
        if let Some(kept) = kept(flow) {
            first.get_or_insert(number);
            flows.insert(kept);
        }
    }
    let own = flows.len();
    load.flows = flows;
    if let (Pacing::Rate(rate), 1..) = (load.pacing, own) {
        // Each flow sends as many as it would in one process.
        load.pacing = Pacing::Rate(rate * own as f64 / all.max(1) as f64);
    }
    if load.start == Start::Spread {
        load.start = Start::Share {
            first: first.unwrap_or(0),
            all: all as u32,
        };
    }
}

#[cfg(test)]
mod tests;
