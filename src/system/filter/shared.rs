//! One program for all TAPs, which the kernel runs before a frame comes to a TAP's queue (`tc-bpf(8)`).
//!
//! The program is `shared.c` beside this file, built to `shared.o` by whoever changes it. It hangs in traffic control
//! blocks that TAPs share (`egress_block` of `tc(8)`), so that a TAP takes one netlink message and no descriptor, and a
//! block goes with its last TAP. (`tcx` would be a little nearer to the frame, but the kernel waits 12 ms each time
//! that it puts a program on a link or takes one off.)
//!
//! The program's drops come neither to a packet socket on the TAP nor into its counters, `tx_dropped` among them.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use aya::include_bytes_aligned;
use aya::maps::{Array, MapData};
use aya_obj::generated::bpf_prog_type;
use nix::errno::Errno;

use super::super::bpf::{Claims, LoadError, Loaded, address_key, chain, errno_of, mac_key};
use super::super::error::SystemError;
use super::super::netlink::requests::Requests;
use super::super::netlink::{Netlink, Refusal};
use super::super::traffic_control::in_block;
use crate::system::limits::SPARE_VMS;
use crate::vm::{RxFilter, VmId};

const OBJECT: &[u8] = include_bytes_aligned!("shared.o");
const PROGRAM: &str = "network_cards";
/// Hardware addresses that there is room for, for each VM: its own, and groups. A VM without room hears everything.
const DESTINATIONS_OF_A_VM: u32 = 4;
/// Links that share a block: the kernel looks through all of them for each that comes or goes.
const LINKS_OF_A_BLOCK: u32 = 500;
/// Blocks of ours are numbered from here on; whoever numbers theirs by hand begins with 1.
const FIRST_BLOCK: u32 = 0x4000_0000;

/// The loaded program, its maps, and what they have of each VM.
pub(in super::super) struct SharedFilter {
    program: OwnedFd,
    destinations: Claims<u64>,
    owners: Claims<u32>,
    seekers: Claims<u32>,
    state: Array<MapData, u64>,
    /// How often the maps were changed.
    edition: u32,
    /// The program is to be told that they were.
    is_unpublished: bool,
    blocks: Vec<Block>,
    /// The program is in the blocks.
    has_begun: bool,
    entries: HashMap<VmId, Entry>,
}

/// A block that TAPs share.
#[derive(Clone, Copy)]
struct Block {
    number: u32,
    links: u32,
}

impl fmt::Debug for SharedFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedFilter")
            .field("vms", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl SharedFilter {
    /// Loads the program, with maps for that many VMs.
    ///
    /// # Errors
    /// When the kernel does not let us, or does not know such programs.
    pub(super) fn load(vms: u32) -> Result<SharedFilter, SystemError> {
        let vms = vms.saturating_add(SPARE_VMS);
        let destinations = vms.saturating_mul(DESTINATIONS_OF_A_VM);
        let mut loaded = Loaded::new(
            OBJECT,
            &[(PROGRAM, bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS)],
            &[
                ("destinations", destinations),
                ("owners", vms),
                ("seekers", vms),
            ],
            &[],
        )
        .map_err(refused)?;
        Ok(SharedFilter {
            destinations: Claims::new(
                loaded.plain_map("destinations").map_err(refused)?,
                destinations,
            ),
            owners: Claims::new(loaded.plain_map("owners").map_err(refused)?, vms),
            seekers: Claims::new(loaded.plain_map("seekers").map_err(refused)?, vms),
            state: loaded.map("state").map_err(refused)?,
            edition: 0,
            is_unpublished: false,
            program: loaded.program(PROGRAM).map_err(refused)?,
            blocks: Vec::new(),
            has_begun: false,
            entries: HashMap::new(),
        })
    }

    /// Limits the TAP with that index to what `rx_filter` says, from [`SharedFilter::begin`] on: once the maps are
    /// [written](SharedFilter::write) and then `requests` carried out, before which it is [removed](SharedFilter::remove) if
    /// one of these fails. Fast while the TAP is down still. One for which there is no room in the maps hears everything.
    ///
    /// # Errors
    /// When the kernel refuses; the TAP hears everything then.
    pub(super) fn add(
        &mut self,
        netlink: &mut Netlink,
        requests: &mut Requests,
        (vm, index): (VmId, u32),
        rx_filter: &RxFilter,
    ) -> Result<(), SystemError> {
        self.remove(vm);
        let Some(mut entry) = self.claim(index, rx_filter) else {
            return Ok(());
        };
        let operation = || format!("put the link with index {index} behind the shared filter");
        let has_room = |block: &&mut Block| block.links < LINKS_OF_A_BLOCK;
        if let Some(block) = self.blocks.iter_mut().find(has_room) {
            requests.add(in_block(index, block.number), operation());
            block.links += 1;
            entry.block = block.number;
        } else {
            match self.make_block(netlink, index) {
                Ok(number) => entry.block = number,
                Err(refusal) => {
                    self.release(&entry);
                    return Err(refusal.of(operation()));
                }
            }
        }
        self.entries.insert(vm, entry);
        Ok(())
    }

    /// Writes into the maps what TAPs want that were added.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn write(&mut self) -> Result<(), SystemError> {
        let written = self.destinations.write();
        let written = written.and_then(|()| self.owners.write());
        let written = written.and_then(|()| self.seekers.write());
        let written = written.and_then(|()| match std::mem::take(&mut self.is_unpublished) {
            true => self.publish(),
            false => Ok(()),
        });
        written.map_err(|errno| SystemError::kernel("fill the maps of the shared filter", errno))
    }

    /// Makes a block with the link of that index in it. An index is nobody else's as long as the block is there. Returns
    /// its number.
    fn make_block(&mut self, netlink: &mut Netlink, index: u32) -> Result<u32, Refusal> {
        let number = FIRST_BLOCK | index;
        netlink.join_block(index, number)?;
        let mut filled = Ok(());
        if self.has_begun {
            filled = self.fill(netlink, number);
        } else if self.blocks.is_empty() {
            // Whether the kernel takes the program shows now, or not at all.
            filled = self.fill(netlink, number);
            filled = filled.and_then(|()| netlink.empty_block(number));
        }
        if let Err(refusal) = filled {
            let _ = netlink.leave_block(index);
            return Err(refusal);
        }
        self.blocks.push(Block { number, links: 1 });
        Ok(number)
    }

    fn fill(&self, netlink: &mut Netlink, block: u32) -> Result<(), Refusal> {
        netlink.fill_block(block, self.program.as_fd())
    }

    /// Returns true if [`SharedFilter::begin`] has something to do.
    #[inline]
    pub(super) fn waits(&self) -> bool {
        !self.has_begun && !self.blocks.is_empty()
    }

    /// Limits TAPs from now on to what they want. To be called when the first frame is about to go: a TAP that
    /// joins after that has the kernel wait for whoever reads its tables, some 80 µs each.
    ///
    /// # Errors
    /// When the kernel refuses, having taken the same program before. TAPs hear everything then.
    pub(super) fn begin(&mut self, netlink: &mut Netlink) -> Result<(), SystemError> {
        self.has_begun = true;
        for block in &self.blocks {
            let filled = self.fill(netlink, block.number);
            filled.map_err(|refusal| refusal.of("begin to filter"))?;
        }
        Ok(())
    }

    /// Limits the TAP of `vm`, with that index, to what `rx_filter` says from now on; it hears everything if there is no room
    /// for that.
    ///
    /// # Errors
    /// When there is no room, and the TAP can't be taken from behind the filter either: it hears what it did before.
    pub(super) fn set_rx_filter(
        &mut self,
        netlink: &mut Netlink,
        (vm, index): (VmId, u32),
        rx_filter: &RxFilter,
    ) -> Result<(), SystemError> {
        let Some(&Entry { block, .. }) = self.entries.get(&vm) else {
            // It hears everything, and need not if it is to no longer, or there is room again.
            let mut requests = Requests::default();
            self.add(netlink, &mut requests, (vm, index), rx_filter)?;
            let added = self.write().and_then(|()| netlink.carry_out(requests));
            return added.inspect_err(|_| self.remove(vm));
        };
        // The new before the old goes: a frame in between passes.
        if let Some(mut new) = self.claim(index, rx_filter) {
            new.block = block;
            if let Err(error) = self.write() {
                self.release(&new);
                return Err(error);
            }
            if let Some(old) = self.entries.insert(vm, new) {
                self.release(&old);
            }
            return Ok(());
        }
        netlink
            .leave_block(index)
            .map_err(|refusal| refusal.of(format!("take the filter from {vm}")))?;
        self.remove(vm);
        Ok(())
    }

    /// Forgets `vm`, whose TAP is no longer behind the filter, or about to go.
    pub(super) fn remove(&mut self, vm: VmId) {
        let Some(entry) = self.entries.remove(&vm) else {
            return;
        };
        self.release(&entry);
        self.blocks.retain_mut(|block| {
            block.links -= u32::from(block.number == entry.block);
            // It goes with its last link.
            block.links > 0
        });
        if self.blocks.is_empty() {
            self.has_begun = false;
        }
    }

    /// Fills the maps for a TAP. `None`, and nothing is changed, if there is no room, or it is to hear everything.
    fn claim(&mut self, index: u32, rx_filter: &RxFilter) -> Option<Entry> {
        if rx_filter.is_promiscuous {
            return None;
        }
        let destinations = rx_filter.groups.iter().copied().chain([rx_filter.mac]);
        let mut wanted: Vec<Claim> = destinations
            .map(|mac| Claim::Destination(mac_key(mac)))
            .chain(
                rx_filter
                    .addresses
                    .iter()
                    .map(|address| Claim::Owner(address_key(*address))),
            )
            .collect();
        if rx_filter.addresses.is_empty() {
            wanted.push(Claim::Seeker);
        }
        // Of IPv6 addresses, several may have the same group.
        wanted.sort_unstable();
        wanted.dedup();
        let room = wanted
            .iter()
            .take_while(|claim| self.enter(**claim, index))
            .count();
        let is_complete = room == wanted.len();
        wanted.truncate(room);
        let entry = Entry {
            index,
            block: 0,
            claims: wanted.into_boxed_slice(),
        };
        if is_complete {
            self.is_unpublished = true;
            return Some(entry);
        }
        self.release(&entry);
        None
    }

    fn release(&mut self, entry: &Entry) {
        for claim in &entry.claims {
            self.leave(*claim, entry.index);
        }
        // It has told the program before.
        let _ = self.publish();
    }

    /// Returns true if there was room.
    fn enter(&mut self, claim: Claim, index: u32) -> bool {
        match claim {
            Claim::Destination(key) => self.destinations.add(key, index),
            Claim::Owner(key) => self.owners.add(key, index),
            Claim::Seeker => self.seekers.add(index, index),
        }
    }

    fn leave(&mut self, claim: Claim, index: u32) {
        match claim {
            Claim::Destination(key) => self.destinations.remove(key, index),
            Claim::Owner(key) => self.owners.remove(key, index),
            Claim::Seeker => self.seekers.remove(index, index),
        }
    }

    /// Makes the program look at the maps anew.
    fn publish(&mut self) -> Result<(), Errno> {
        self.edition = self.edition.wrapping_add(1);
        let seekers = u32::try_from(self.seekers.len()).unwrap_or(u32::MAX);
        // `struct state` of the program, as a little-endian processor has it.
        let state = u64::from(seekers) << 32 | u64::from(self.edition);
        self.state.set(0, state, 0).map_err(errno_of)
    }
}

/// The entries of a VM in the maps.
struct Entry {
    index: u32,
    /// The number of the block that its TAP is in.
    block: u32,
    claims: Box<[Claim]>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// Frames for a hardware address.
    Destination(u64),
    /// ARP requests that name an IPv4 address.
    Owner(u32),
    /// All ARP requests.
    Seeker,
}

fn refused(error: LoadError) -> SystemError {
    SystemError::refused("load the shared filter", chain(&error))
}
