//! Announcements of a VM that was moved: broadcasts by which switches, and neighbours, learn where it is, without a change of
//! what the VM itself knows.
//!
//! Hypervisors do it in three ways: QEMU sends a RARP request, because it knows the guest's hardware address only
//! (`qemu_announce_self()`); a guest that is told of the move, or its host, sends a gratuitous ARP (RFC 5227 section 2.3) or
//! an unsolicited neighbour advertisement (RFC 4861 section 7.2.6, RFC 9131).

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::ipv4::Shortcuts;
use super::{Transmit, Vm};
use crate::wire::{ArpPacket, MacAddr, rarp_frame};

/// How a VM announces itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Announcement {
    /// A gratuitous ARP request: sender and target are the VM's IPv4 address.
    #[default]
    Garp,
    /// A reverse ARP request (RFC 903) for its own hardware address, as QEMU sends it.
    Rarp,
    /// An unsolicited neighbour advertisement to all nodes for each of its IPv6 addresses.
    Na,
    /// Nothing: the network finds out by itself.
    None,
}

impl Announcement {
    /// All of them.
    pub const ALL: [Announcement; 4] = [
        Announcement::Garp,
        Announcement::Rarp,
        Announcement::Na,
        Announcement::None,
    ];

    /// The word for it, in options and reports.
    pub const fn word(self) -> &'static str {
        match self {
            Announcement::Garp => "garp",
            Announcement::Rarp => "rarp",
            Announcement::Na => "na",
            Announcement::None => "none",
        }
    }
}

impl fmt::Display for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why a text is no announcement.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no announcement; expected garp, rarp, na or none")]
pub struct NoAnnouncement(String);

impl FromStr for Announcement {
    type Err = NoAnnouncement;

    fn from_str(text: &str) -> Result<Announcement, NoAnnouncement> {
        let mut all = Announcement::ALL.into_iter();
        all.find(|each| each.word() == text)
            .ok_or_else(|| NoAnnouncement(text.to_owned()))
    }
}

impl Vm {
    /// Builds the frame with number `index` of an announcement. `None` once there are no more: a VM without an address of the
    /// protocol has none at all.
    pub fn announce(
        &mut self,
        announcement: Announcement,
        index: usize,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        self.ipv4.shortcuts = Shortcuts::default();
        let untagged = self.behind_tags(buffer);
        let length = match (announcement, index) {
            (Announcement::Garp, 0) => {
                let address = self.address()?;
                let packet = ArpPacket::request(self.mac, address, address);
                packet.write(MacAddr::BROADCAST, untagged)
            }
            (Announcement::Rarp, 0) => {
                let packet = ArpPacket {
                    operation: ArpPacket::REVERSE_REQUEST,
                    sender_mac: self.mac,
                    sender: Ipv4Addr::UNSPECIFIED,
                    target_mac: self.mac,
                    target: Ipv4Addr::UNSPECIFIED,
                };
                rarp_frame(&packet, untagged)
            }
            (Announcement::Na, index) => self.unsolicited_advertisement(index, untagged),
            (Announcement::Garp | Announcement::Rarp, _) | (Announcement::None, _) => None,
        }?;
        Some(self.tag(Transmit { length, ping: None }, buffer))
    }
}
