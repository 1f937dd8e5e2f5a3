//! Hears from the kernel which frames of the lab it drops, where and why: a program at the tracepoint `skb:kfree_skb` writes
//! each into a ring that this process reads.
//!
//! The program is `drops.c` beside this file, built to `drops.o` by whoever changes it. It sees what all namespaces drop,
//! and lets pass into the ring what is of the lab's, may be of a ping, and is not one more copy of a flooded frame. It can be
//! loaded by root only (`CAP_BPF` and `CAP_PERFMON` outside of user namespaces), and goes with the descriptors of this
//! process, however it ends.
//!
//! XDP has tracepoints of its own for frames that it can't redirect (`xdp_redirect_err`) and that a TAP does not take
//! (`xdp_devmap_xmit`). Neither has the frame, so that they say no more than states and counters of the ports do, and the
//! second is passed by each frame that arrives: a program there costs a twentieth of the rate.
//!
//! Reasons are numbered differently by each kernel, whose own description has their names (`kernel_types`). Functions are
//! named by the program itself when one first drops a frame: to look a name up in `/proc/kallsyms` takes 40 ms.

use std::ffi::CStr;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use aya::include_bytes_aligned;
use aya::maps::{Array, HashMap, MapData, RingBuf};
use rustc_hash::FxHashMap;

use super::bpf::{
    LoadError, Loaded, ProgramKind, attach_to_tracepoint, chain, delete_element, mac_key,
    set_elements, untraced,
};
use super::error::SystemError;
use super::kernel_types::KernelTypes;
use super::limits::SPARE_VMS;
use crate::fabric::{DropPlace, FrameDrop, FrameDrops, FrameHead, KernelName};
use crate::time::Instant;
use crate::wire::MacAddr;

const OBJECT: &[u8] = include_bytes_aligned!("drops.o");
const PROGRAM: &str = "frame_dropped";
const TRACEPOINT: &str = "btf_trace_kfree_skb";
/// The members whose places the program wants, in the order of its `struct offsets`.
const MEMBERS: [(&str, &str); 11] = [
    ("sk_buff", "dev"),
    ("sk_buff", "head"),
    ("sk_buff", "data"),
    ("sk_buff", "tail"),
    ("sk_buff", "mac_header"),
    ("sk_buff", "vlan_proto"),
    ("sk_buff", "vlan_tci"),
    ("net_device", "name"),
    ("net_device", "ifindex"),
    ("net_device", "nd_net"),
    ("net", "ns"),
];
/// Their structures, the enumeration of reasons, and the tracepoint.
const TYPES: &[&str] = &[
    "sk_buff",
    "net_device",
    "net",
    "ns_common",
    "skb_drop_reason",
    TRACEPOINT,
];
const REASON_PREFIX: &str = "SKB_DROP_REASON_";
/// Events read at a time: more than the ring holds. It is filled meanwhile, and the kernel wakes nobody as long as there is
/// something in it: what comes after so many is read with the next ping that is given up, which happened later.
const MOST_READ: usize = 4_096;
const FUNCTION_BYTES: usize = 48;
/// Descriptors that the watch takes while it loads: eight maps, the program and a link.
pub(crate) const DESCRIPTORS_OF_A_DROP_WATCH: u64 = 10;
const OPERATION: &str = "watch dropped frames";

/// Checks that dropped frames can be watched, without watching any.
///
/// # Errors
/// If the kernel does not let us, or can't tell; the error says what is missing.
pub(crate) fn check_drop_watch() -> Result<(), SystemError> {
    load((0, 1), 1).map(drop)
}

/// The names of the kernel's reasons.
type Reasons = FxHashMap<u32, KernelName>;

/// Listens for dropped frames. The descriptor is readable when there are some.
pub(super) struct DropWatch {
    /// What keeps the program at its tracepoint.
    _attached: OwnedFd,
    events: RingBuf<MapData>,
    missed: Array<MapData, u64>,
    functions: HashMap<MapData, u64, [u8; FUNCTION_BYTES]>,
    stations: MapData,
    namespaces: HashMap<MapData, u32, u32>,
    reasons: Reasons,
    /// Functions by their addresses, as far as they were asked for.
    named: FxHashMap<u64, KernelName>,
    /// Of those that were missed, how many were told of.
    missed_before: u64,
}

impl DropWatch {
    /// Listens for frames that are dropped in the network namespace with that inode number from now on, and in up to that many
    /// [others](DropWatch::add_namespace), in a lab of that many VMs.
    ///
    /// # Errors
    /// If the kernel does not let us, or can't tell; the error says what is missing.
    pub(super) fn open(
        (namespace, others): (u64, u32),
        vms: u32,
    ) -> Result<DropWatch, SystemError> {
        let (mut loaded, reasons) = load((namespace, others), vms)?;
        let program = loaded.program(PROGRAM).map_err(refused)?;
        let attached =
            attach_to_tracepoint(&program).map_err(|errno| untraced(OPERATION, errno))?;
        Ok(DropWatch {
            _attached: attached,
            events: loaded.map("events").map_err(refused)?,
            missed: loaded.map("missed").map_err(refused)?,
            functions: loaded.map("functions").map_err(refused)?,
            stations: loaded.plain_map("stations").map_err(refused)?,
            namespaces: loaded.map("namespaces").map_err(refused)?,
            reasons,
            named: FxHashMap::default(),
            missed_before: 0,
        })
    }

    /// Listens for what is dropped in the network namespace with that inode number, too.
    ///
    /// # Errors
    /// If there is no room for it.
    pub(super) fn add_namespace(&mut self, inode: u64) -> Result<(), SystemError> {
        // The kernel's own number of a namespace has 32 bits.
        let added = self.namespaces.insert(inode as u32, 0, 0);
        added.map_err(|error| {
            SystemError::refused("watch dropped frames in a namespace", chain(&error))
        })
    }

    /// Has the drops of flooded frames for each of these hardware addresses told of at the port with the index beside it, too,
    /// beside the first.
    pub(super) fn add_stations(&mut self, ports: impl IntoIterator<Item = (MacAddr, u32)>) {
        let ports = ports.into_iter().map(|(mac, index)| (mac_key(mac), index));
        let (keys, indices): (Vec<u64>, Vec<u32>) = ports.unzip();
        // One for which there is no room is told of at the first port alone.
        let _ = set_elements(self.stations.fd().as_fd(), &keys, &indices);
    }

    /// Forgets a station.
    pub(super) fn remove_station(&mut self, mac: MacAddr) {
        // It may have found no room.
        let _ = delete_element(self.stations.fd().as_fd(), &mac_key(mac));
    }

    /// The drops since the last call. `place_of` finds the port of a device.
    pub(super) fn take(&mut self, place_of: impl Fn(&str) -> DropPlace) -> FrameDrops {
        let mut drops = Vec::new();
        for _ in 0..MOST_READ {
            let Some(item) = self.events.next() else {
                break;
            };
            let Some(event) = Event::read(&item, &place_of) else {
                continue;
            };
            drop(item);
            drops.push(FrameDrop {
                at: event.at,
                place: event.place,
                reason: self.reason(event.reason),
                function: self.function(event.location),
                frame: event.frame,
            });
        }
        if drops.is_empty() {
            return FrameDrops::default();
        }
        // The ring was full at some time only if there was something in it.
        let missed = self.missed.get(&0, 0).unwrap_or(self.missed_before);
        let before = std::mem::replace(&mut self.missed_before, missed);
        FrameDrops {
            drops,
            missed: missed.saturating_sub(before),
        }
    }

    /// The name of a reason. One of a part of the kernel with reasons of its own has none.
    fn reason(&self, number: u32) -> KernelName {
        let named = self.reasons.get(&number).copied();
        named.unwrap_or_else(|| KernelName::new(&format!("reason {number}")))
    }

    fn function(&mut self, location: u64) -> KernelName {
        let functions = &self.functions;
        let look_up = || {
            let name = functions.get(&location, 0).unwrap_or([0; FUNCTION_BYTES]);
            let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
            // Behind the name, the compiler tells of what it made of the function, and the kernel of its module.
            let name = name.to_string_lossy();
            KernelName::new(name.split(['.', ' ']).next().unwrap_or_default())
        };
        *self.named.entry(location).or_insert_with(look_up)
    }
}

impl fmt::Debug for DropWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DropWatch")
            .field("functions", &self.named)
            .finish_non_exhaustive()
    }
}

impl AsRawFd for DropWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.events.as_raw_fd()
    }
}

/// Loads the program, which does not run yet, for the namespace with that inode number, so many others, and so many VMs.
/// Returns the names of the kernel's reasons, too.
fn load((namespace, others): (u64, u32), vms: u32) -> Result<(Loaded, Reasons), SystemError> {
    let types = KernelTypes::read(TYPES)?;
    let offsets = types.offsets(&MEMBERS)?;
    let reasons = types.values_of("skb_drop_reason");
    if reasons.is_empty() {
        let why = "the kernel gives no reasons; expected Linux 5.17 or later";
        return Err(SystemError::refused(OPERATION, why));
    }
    let tracepoint = ProgramKind::Typed(types.tracepoint(TRACEPOINT)?);
    drop(types);
    // The kernel's own number of a namespace has 32 bits.
    let namespace = namespace as u32;
    let loaded = Loaded::new(
        OBJECT,
        &[(PROGRAM, tracepoint)],
        &[
            ("stations", vms.saturating_add(SPARE_VMS)),
            ("namespaces", others),
        ],
        &[
            ("offsets", &offsets),
            ("network_namespace", &namespace.to_ne_bytes()),
        ],
    )
    .map_err(refused)?;
    let name_of = |name: &str| KernelName::new(name.trim_start_matches(REASON_PREFIX));
    let reasons = reasons.iter();
    let reasons = reasons.map(|(number, name)| (*number, name_of(name)));
    Ok((loaded, reasons.collect()))
}

/// `struct event` of the program.
struct Event {
    at: Instant,
    location: u64,
    reason: u32,
    place: DropPlace,
    frame: FrameHead,
}

impl Event {
    fn read(bytes: &[u8], place_of: impl Fn(&str) -> DropPlace) -> Option<Event> {
        let u16_at = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let u32_at = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let frame = bytes.get(48..)?;
        let frame = frame.get(..u16_at(20)?.into())?;
        let device = CStr::from_bytes_until_nul(bytes.get(32..48)?).ok()?;
        Some(Event {
            at: Instant::from_nanos(u64_at(0)?),
            location: u64_at(8)?,
            reason: u32_at(16)?,
            place: match device.to_str() {
                Ok("") => DropPlace::Nowhere,
                Ok(name) => place_of(name),
                Err(_) => place_of(&device.to_string_lossy()),
            },
            frame: match u32_at(24)? as u16 {
                0 => FrameHead::new(frame),
                protocol => tagged(frame, protocol.to_ne_bytes(), u16_at(22)?.to_be_bytes()),
            },
        })
    }
}

/// The start of a frame with the tag that was taken off it.
fn tagged(frame: &[u8], protocol: [u8; 2], control: [u8; 2]) -> FrameHead {
    let (addresses, rest) = frame.split_at(frame.len().min(12));
    FrameHead::new(&[addresses, &protocol, &control, rest].concat())
}

fn refused(error: LoadError) -> SystemError {
    error.of_tracing(OPERATION)
}
