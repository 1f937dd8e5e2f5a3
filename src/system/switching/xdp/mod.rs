//! A switch without a bridge: a program on each TAP that sends a frame on to the TAP of its destination.
//!
//! The program is `switch.c` beside this file, built to `switch.o` by whoever changes it. It finds the destination by
//! hardware address, hands an ARP request to the VM that has the address asked for, keeps what goes to a group that no VM
//! is in from all, and floods the rest. It can be loaded by root only (`CAP_BPF` and `CAP_NET_ADMIN` outside of user
//! namespaces).
//!
//! Frames that go this way pass no bridge table, no filter and no packet socket: tcpdump on a TAP does not see them.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use aya::Pod;
use aya::maps::{Array, DevMap, HashMap as BpfHashMap, Map, MapData, MapError};

use crate::system::bpf::{LoadError, address_key, chain, mac_key};
use crate::system::error::SystemError;
use crate::system::netlink::link_requests::LinkChange;
use crate::system::switching::Switching;
use crate::system::tap::Tap;
use crate::vm::{RxFilter, VmId};
use crate::wire::MacAddr;

mod parts;

use self::parts::{Groups, Parts};
pub use self::parts::{SharedSwitch, SwitchDescriptors};

/// The loaded program and its maps.
pub(in crate::system) struct XdpSwitch {
    program: OwnedFd,
    ports: DevMap<MapData>,
    stations: BpfHashMap<MapData, u64, PortOfSwitch>,
    owners: BpfHashMap<MapData, u32, PortOfSwitch>,
    endings: Array<MapData, StationOfSwitch>,
    groups: Groups,
    /// Other processes put TAPs on it, too. The place of each is the number of its VM.
    is_shared: bool,
    /// The entries of each VM in the maps.
    entries: HashMap<VmId, Entry>,
    /// Places among the ports that were given up.
    free: Vec<u32>,
    /// Places that were ever taken.
    taken: u32,
}

/// `struct port` of the program.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct PortOfSwitch {
    place: u32,
    ifindex: u32,
}

/// `struct station` of the program.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct StationOfSwitch {
    key: u64,
    port: PortOfSwitch,
}

#[allow(unsafe_code)]
// SAFETY: plain numbers, without padding between them.
unsafe impl Pod for PortOfSwitch {}
#[allow(unsafe_code)]
// SAFETY: plain numbers, without padding between them.
unsafe impl Pod for StationOfSwitch {}

struct Entry {
    place: u32,
    mac: MacAddr,
    addresses: Vec<Ipv4Addr>,
    groups: Vec<u64>,
}

impl fmt::Debug for XdpSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XdpSwitch")
            .field("vms", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl XdpSwitch {
    /// Loads the program, with maps for that many VMs, or takes those that `inherited` are.
    ///
    /// # Errors
    /// When the kernel does not let us, or does not know such programs.
    pub(in crate::system) fn load(
        vms: u32,
        inherited: Option<SwitchDescriptors>,
    ) -> Result<XdpSwitch, SystemError> {
        let parts = match inherited {
            Some(descriptors) => Parts::inherited(descriptors)?,
            None => Parts::load(vms)?,
        };
        let is_shared = inherited.is_some();
        let [ports, stations, owners, endings, groups] = parts.maps;
        let unfit = |error: MapError| refused(error.into());
        Ok(XdpSwitch {
            ports: Map::DevMap(ports).try_into().map_err(unfit)?,
            stations: Map::HashMap(stations).try_into().map_err(unfit)?,
            owners: Map::HashMap(owners).try_into().map_err(unfit)?,
            endings: Map::Array(endings).try_into().map_err(unfit)?,
            groups: Groups::new(groups, vms, is_shared).map_err(unfit)?,
            program: parts.program,
            is_shared,
            entries: HashMap::new(),
            free: Vec::new(),
            taken: 0,
        })
    }

    /// Puts the TAP of `vm` on the switch.
    fn put(
        &mut self,
        (vm, tap, ifindex): (VmId, &Tap, u32),
        rx_filter: &RxFilter,
    ) -> Result<(), SystemError> {
        let operation = || format!("put {} on the XDP switch", tap.name());
        let refused = |error: &dyn Error| SystemError::refused(operation(), chain(error));
        let place = match self.is_shared {
            true => vm.0,
            false => self.free.pop().unwrap_or_else(|| {
                self.taken += 1;
                self.taken - 1
            }),
        };
        let port = PortOfSwitch { place, ifindex };
        let key = mac_key(rx_filter.mac);
        self.ports
            .set(place, ifindex, None, 0)
            .map_err(|error| refused(&error))?;
        self.stations
            .insert(key, port, 0)
            .map_err(|error| refused(&error))?;
        let ending = ending_of(rx_filter.mac);
        if self
            .endings
            .get(&ending, 0)
            .is_ok_and(|other| other.key == 0)
        {
            self.endings
                .set(ending, StationOfSwitch { key, port }, 0)
                .map_err(|error| refused(&error))?;
        }
        for address in &rx_filter.addresses {
            self.owners
                .insert(address_key(*address), port, 0)
                .map_err(|error| refused(&error))?;
        }
        let entry = Entry {
            place,
            mac: rx_filter.mac,
            addresses: rx_filter.addresses.clone(),
            groups: group_keys(rx_filter),
        };
        let added = self.groups.add(&entry.groups, place);
        self.entries.insert(vm, entry);
        match added {
            Ok(true) => Ok(()),
            Ok(false) => Err(SystemError::refused(operation(), "too many groups")),
            Err(errno) => Err(SystemError::kernel(operation(), errno)),
        }
    }
}

impl Switching for XdpSwitch {
    fn add<'a>(
        &'a mut self,
        port: (VmId, &Tap, u32),
        rx_filter: &RxFilter,
        change: &mut LinkChange<'a>,
    ) -> Result<Option<String>, SystemError> {
        self.put(port, rx_filter)?;
        change.xdp = Some(self.program.as_fd());
        let (_, tap, _) = port;
        Ok(Some(format!("put the XDP switch on {}", tap.name())))
    }

    fn set_rx_filter(
        &mut self,
        port: (VmId, &Tap, u32),
        rx_filter: &RxFilter,
    ) -> Result<(), SystemError> {
        self.remove(port.0);
        self.put(port, rx_filter)
    }

    /// The port itself is taken away by the kernel when its TAP goes.
    fn remove(&mut self, vm: VmId) {
        let Some(entry) = self.entries.remove(&vm) else {
            return;
        };
        let key = mac_key(entry.mac);
        let _ = self.stations.remove(&key);
        let ending = ending_of(entry.mac);
        if self.endings.get(&ending, 0).is_ok_and(|of| of.key == key) {
            let _ = self.endings.set(ending, StationOfSwitch::default(), 0);
        }
        self.groups.remove(&entry.groups, entry.place);
        if !self.is_shared {
            self.free.push(entry.place);
        }
        for address in entry.addresses {
            let _ = self.owners.remove(&address_key(address));
        }
    }
}

/// The keys of the groups, each once: of IPv6 addresses, several may have the same.
fn group_keys(rx_filter: &RxFilter) -> Vec<u64> {
    let mut keys: Vec<u64> = rx_filter.groups.iter().map(|mac| mac_key(*mac)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The last two bytes of the address.
fn ending_of(mac: MacAddr) -> u32 {
    let [.., e, f] = mac.0;
    u16::from_be_bytes([e, f]).into()
}

fn refused(error: LoadError) -> SystemError {
    let advice = "it needs root outside of containers, and a kernel with CONFIG_BPF_SYSCALL; or take --fabric bridge";
    SystemError::refused("load the XDP switch", chain(&error)).advise(advice)
}
