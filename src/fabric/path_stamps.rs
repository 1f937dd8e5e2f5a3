//! Stamps by the kernel on the way of a ping from TAP to TAP.

use std::net::IpAddr;

use crate::time::Instant;
use crate::wire::ProbeHead;

/// Tells a ping from others: of its request and of its reply it is the same. The programs in the kernel make it, too
/// (`system/path_stamps/path.c`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathKey(u64);

/// Places for pings that are on their way at a time.
pub const PATH_SLOTS: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 10;

impl PathKey {
    /// The key of the ping of an ICMP echo message: the end of the address that asks, identifier and sequence number.
    pub fn of(echo: &ProbeHead) -> PathKey {
        let asker = match echo.is_request {
            true => echo.source,
            false => echo.destination,
        };
        let asker = match asker {
            IpAddr::V4(address) => address.octets(),
            IpAddr::V6(address) => address.octets().last_chunk().copied().unwrap_or_default(),
        };
        let [_, _, i0, i1] = echo.identifier.to_be_bytes();
        let [n0, n1] = echo.sequence.to_be_bytes();
        let number = u32::from_ne_bytes([i0, i1, n0, n1]);
        PathKey(u64::from(u32::from_ne_bytes(asker)) << 32 | u64::from(number))
    }

    /// Its place among [`PATH_SLOTS`]; pings may have the same.
    pub const fn slot(self) -> usize {
        (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOT_BITS)) as usize
    }

    /// The number in memory.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// When a frame was where in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathStamps {
    /// It entered the network stack, where it did so first.
    pub entered: Instant,
    /// It was handed to a port by which it left a bridge, the last one.
    pub bridged: Instant,
    /// The queueing discipline of that port let it go.
    pub dequeued: Instant,
    /// The TAP had it in its queue.
    pub queued: Instant,
    /// Stamps that were made on the way: these four, and those at other devices between the first two.
    pub made: u32,
}
