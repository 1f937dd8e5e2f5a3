//! Finds out, before the first ping, whether frames of the other ranks come through a VXLAN: a tunnel whose peer is wrong, or whose
//! datagrams somebody drops, looks like any other.
//!
//! Each rank sends frames of its own to a group that bridges keep to the link (IEEE 802.1Q table 8-1), so that no VM gets them,
//! until all have heard all. A packet socket at the end of the tunnel sends and hears them.

use std::time::Duration;

use super::super::error::SystemError;
use super::super::lab_config::LabConfig;
use super::super::netlink::Netlink;
use super::super::packet_socket::PacketSocket;
use super::{OtherRanks, Outside, Peers};
use crate::time::Instant;
use crate::topology::outside_name;

/// The first and the longest time between two frames.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// The time that all have.
const PATIENCE: Duration = Duration::from_secs(20);
/// Frames that are looked at in a row.
const BUDGET: usize = 4096;

/// The group of LLDP, which no bridge forwards.
const GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e];
/// For experiments on a link (IEEE 802, local experimental EtherType 1).
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];
const WORD: &[u8; 12] = b"tap-reactor1";

/// Frames of other ranks that are waited for.
#[derive(Debug)]
pub struct UnderlayProbe {
    socket: PacketSocket,
    frame: Vec<u8>,
    /// By rank, from which a frame has come.
    heard: Vec<bool>,
    /// The peers, if they are those of the ranks.
    peers: Vec<String>,
    next_at: Instant,
    pause: Duration,
    until: Instant,
}

/// What a probe has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probed {
    /// Frames of all others have come.
    pub is_whole: bool,
    /// When to look again.
    pub next_at: Instant,
}

impl UnderlayProbe {
    /// Begins at `now` in the namespace of `lab`, in which the calling thread is. `None` if it has no VXLAN to other ranks.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn begin(now: Instant, lab: &LabConfig) -> Result<Option<UnderlayProbe>, SystemError> {
        let Some(Outside::Underlay(underlay)) = &lab.outside else {
            return Ok(None);
        };
        let Some(ranks) = &underlay.ranks else {
            return Ok(None);
        };
        let name = outside_name(&lab.bridge);
        let Some(link) = Netlink::open()?.link(&name)? else {
            let operation = format!("probe {name}");
            return Err(SystemError::refused(operation, "it is gone"));
        };
        let peers = match &underlay.peers {
            Peers::Addresses(peers) if peers.len() == ranks.count as usize => {
                peers.iter().map(|peer| format!(" ({peer})")).collect()
            }
            _ => Vec::new(),
        };
        let mut heard = vec![false; ranks.count as usize];
        if let Some(own) = heard.get_mut(ranks.own as usize) {
            *own = true;
        }
        Ok(Some(UnderlayProbe {
            socket: PacketSocket::open(link.index)?,
            frame: frame(link.mac.0, ranks),
            heard,
            peers,
            next_at: now,
            pause: FIRST_PAUSE,
            until: now + PATIENCE,
        }))
    }

    /// Sends what is due and hears what has come, at `now`.
    ///
    /// # Errors
    /// If nothing has come from a rank in time.
    pub fn look(&mut self, now: Instant) -> Result<Probed, SystemError> {
        let mut buffer = [0; 64];
        for _ in 0..BUDGET {
            match self.socket.receive(&mut buffer) {
                Ok(Some(length)) => self.hear(buffer.get(..length).unwrap_or_default()),
                // A port that is down for a moment is up again, or the time is over.
                Ok(None) | Err(_) => break,
            }
        }
        if now >= self.next_at {
            // The same.
            let _ = self.socket.send(&self.frame);
            self.next_at = now + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        let missing = self.heard.iter().position(|is_heard| !is_heard);
        if let Some(rank) = missing
            && now >= self.until
        {
            let peer = self.peers.get(rank).map_or("", String::as_str);
            let operation = format!("reach the lab of rank {rank}{peer} by the VXLAN");
            let why = format!("no frame of it has come within {PATIENCE:?}");
            return Err(SystemError::refused(operation, why).advise(
                "expected the same --underlay at all ranks, and UDP port 4789 open between their hosts",
            ));
        }
        Ok(Probed {
            is_whole: missing.is_none(),
            next_at: self.next_at,
        })
    }

    fn hear(&mut self, frame: &[u8]) {
        // All but the sender and the rank is as in the own frame.
        let (Some(told), Some(own)) = (frame.get(12..58), self.frame.get(12..58)) else {
            return;
        };
        let Some(rank) = frame.get(58..62).and_then(|rank| rank.first_chunk()) else {
            return;
        };
        if told == own
            && let Some(heard) = self.heard.get_mut(u32::from_be_bytes(*rank) as usize)
        {
            *heard = true;
        }
    }
}

/// The frame of a rank: 62 bytes.
fn frame(mac: [u8; 6], ranks: &OtherRanks) -> Vec<u8> {
    let mut frame = Vec::with_capacity(62);
    frame.extend(GROUP);
    frame.extend(mac);
    frame.extend(ETHER_TYPE);
    frame.extend(WORD);
    frame.extend(ranks.plan);
    frame.extend(ranks.own.to_be_bytes());
    frame
}
