//! Has the kernel stamp the echo messages of a lab on their way from TAP to TAP: programs at tracepoints note in a map when each
//! entered the network stack, left the bridge, left the queueing discipline, and was put into the queue of a TAP.
//!
//! The programs are `path.c` beside this file, built to `path.o` by whoever changes it. They are at their tracepoints, which
//! all frames of the machine pass, only while stamps are wanted. They can be loaded by root only (`CAP_BPF` and `CAP_PERFMON`
//! outside of user namespaces), and go with the descriptors of this process, however it ends.

use std::fmt;
use std::os::fd::OwnedFd;

use aya::Pod;
use aya::include_bytes_aligned;
use aya::maps::{Array, MapData};

use super::bpf::{LoadError, Loaded, ProgramKind, attach_to_tracepoint, untraced};
use super::error::SystemError;
use super::kernel_types::KernelTypes;
use crate::fabric::{PathKey, PathStamps};
use crate::time::Instant;

const OBJECT: &[u8] = include_bytes_aligned!("path.o");
/// The programs, each with the type of its tracepoint.
const PROGRAMS: [(&str, &str); 4] = [
    ("entered", "btf_trace_netif_receive_skb_entry"),
    ("bridged", "btf_trace_net_dev_queue"),
    ("dequeued", "btf_trace_net_dev_start_xmit"),
    ("queued", "btf_trace_net_dev_xmit"),
];
/// The members whose places the programs want, in the order of their `struct offsets`.
const MEMBERS: [(&str, &str); 5] = [
    ("sk_buff", "dev"),
    ("sk_buff", "head"),
    ("sk_buff", "mac_header"),
    ("net_device", "nd_net"),
    ("net", "ns"),
];
const TYPES: &[&str] = &[
    "sk_buff",
    "net_device",
    "net",
    "ns_common",
    PROGRAMS[0].1,
    PROGRAMS[1].1,
    PROGRAMS[2].1,
    PROGRAMS[3].1,
];
/// Programs and what keeps each at its tracepoint, and the maps.
pub(crate) const DESCRIPTORS_OF_PATH_STAMPS: u64 = 2 * PROGRAMS.len() as u64 + 4;
const OPERATION: &str = "stamp frames on their way";

/// Checks that the kernel can stamp frames, without having it do so.
///
/// # Errors
/// If the kernel does not let us, or can't tell; the error says what is missing.
pub(crate) fn check_path_stamps() -> Result<(), SystemError> {
    PathStamper::load(0).map(drop)
}

/// Has frames stamped, as long as it lives.
pub(super) struct PathStamper {
    /// What keeps the programs at their tracepoints.
    attached: Vec<OwnedFd>,
    slots: Array<MapData, Slot>,
}

/// `struct passage` of the programs.
#[repr(C)]
#[derive(Clone, Copy)]
struct Passage {
    key: u64,
    at: [u64; PROGRAMS.len()],
    passed: u64,
}

/// `struct slot` of the programs.
#[repr(C)]
#[derive(Clone, Copy)]
struct Slot([Passage; 2]);

#[allow(unsafe_code)]
// SAFETY: it consists of whole numbers without gaps between them, of which every value is one.
unsafe impl Pod for Slot {}

impl PathStamper {
    /// Has echo messages stamped in the network namespace with that inode number from now on.
    ///
    /// # Errors
    /// If the kernel does not let us, or can't tell; the error says what is missing.
    pub(super) fn open(namespace: u64) -> Result<PathStamper, SystemError> {
        let (mut stamper, mut loaded) = PathStamper::load(namespace)?;
        for (name, _) in PROGRAMS {
            let program = loaded.program(name).map_err(refused)?;
            let attached =
                attach_to_tracepoint(&program).map_err(|errno| untraced(OPERATION, errno))?;
            stamper.attached.push(attached);
        }
        Ok(stamper)
    }

    /// Loads the programs; none of them runs yet.
    fn load(namespace: u64) -> Result<(PathStamper, Loaded), SystemError> {
        let types = KernelTypes::read(TYPES)?;
        let offsets = types.offsets(&MEMBERS)?;
        let mut programs = Vec::with_capacity(PROGRAMS.len());
        for (name, tracepoint) in PROGRAMS {
            programs.push((name, ProgramKind::Typed(types.tracepoint(tracepoint)?)));
        }
        drop(types);
        // The kernel's own number of a namespace has 32 bits.
        let namespace = namespace as u32;
        let mut loaded = Loaded::new(
            OBJECT,
            &programs,
            &[],
            &[
                ("offsets", &offsets),
                ("network_namespace", &namespace.to_ne_bytes()),
            ],
        )
        .map_err(refused)?;
        let stamper = PathStamper {
            attached: Vec::new(),
            slots: loaded.map("slots").map_err(refused)?,
        };
        Ok((stamper, loaded))
    }

    /// The stamps of the request and of the reply of a ping, of each if there are all.
    pub(super) fn stamps(&self, ping: PathKey) -> [Option<PathStamps>; 2] {
        match self.slots.get(&(ping.slot() as u32), 0) {
            Ok(Slot(ways)) => ways.map(|way| way.stamps(ping)),
            Err(_) => [None, None],
        }
    }
}

impl Passage {
    fn stamps(&self, ping: PathKey) -> Option<PathStamps> {
        if self.key != ping.number() || self.at.contains(&0) {
            return None;
        }
        let [entered, bridged, dequeued, queued] = self.at.map(Instant::from_nanos);
        Some(PathStamps {
            entered,
            bridged,
            dequeued,
            queued,
            made: u32::try_from(self.passed).unwrap_or(u32::MAX),
        })
    }
}

impl fmt::Debug for PathStamper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PathStamper")
            .field("attached", &self.attached)
            .finish_non_exhaustive()
    }
}

fn refused(error: LoadError) -> SystemError {
    error.of_tracing(OPERATION)
}
