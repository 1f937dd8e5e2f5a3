//! Why frames were dropped, and how many.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fabric::WriteDrop;

/// Declares [`DropReason`]; a reason more is one entry more.
macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $reason:ident => $name:literal,)*) => {
        /// Why a frame was dropped. The names are stable: reports are compared by them.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum DropReason {
            $($(#[$doc])* $reason,)*
        }

        impl DropReason {
            /// Every reason, in the order in which reports list them.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$reason,)*];

            /// The name in reports, such as `bad_ip_checksum`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(DropReason::$reason => $name,)*
                }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than its headers say.
    Truncated => "truncated",
    /// The Ethernet header makes no sense.
    BadEthernet => "bad_ethernet",
    /// An ARP packet that isn't one for IPv4 on Ethernet (RFC 826), or that claims an address nobody may have.
    BadArp => "bad_arp",
    /// The IP header contradicts itself (RFC 791, RFC 8200).
    BadIpHeader => "bad_ip_header",
    /// The IPv4 header checksum is wrong.
    BadIpChecksum => "bad_ip_checksum",
    /// The ICMP or IGMP checksum is wrong (RFC 792, RFC 4443, RFC 3376).
    BadIcmpChecksum => "bad_icmp_checksum",
    /// An ICMP or IGMP message that makes no sense, or comes from where none may (RFC 4861, RFC 3810, RFC 3376).
    BadIcmp => "bad_icmp",
    /// The UDP checksum is wrong (RFC 768).
    BadUdpChecksum => "bad_udp_checksum",
    /// The TCP checksum is wrong, or the header makes no sense (RFC 9293).
    BadTcpChecksum => "bad_tcp_checksum",
    /// A DHCP message that makes no sense (RFC 2131, RFC 8415).
    BadDhcp => "bad_dhcp",
    /// A DHCP offer that names no server.
    DhcpNoServer => "dhcp_no_server",
    /// A DHCP offer or acknowledgement that does not say for how long, or says for no time.
    DhcpNoLeaseTime => "dhcp_no_lease_time",
    /// A DHCP offer or acknowledgement of an address that can't be one host's.
    DhcpAddress => "dhcp_address",
    /// A DHCPv6 advertisement or reply that brings no address.
    DhcpNoAddress => "dhcp_no_address",
    /// A DHCPv6 advertisement or reply whose times contradict each other.
    DhcpLifetimes => "dhcp_lifetimes",
    /// A DHCPv6 advertisement or reply by which the server says that it fails.
    DhcpStatus => "dhcp_status",
    /// A DHCP message of another server than the one that was chosen.
    DhcpOtherServer => "dhcp_other_server",
    /// Addressed to another MAC address: the bridge flooded it.
    NotForOurMac => "not_for_our_mac",
    /// Addressed to another IP address.
    NotForOurIp => "not_for_our_ip",
    /// From an IP address that can't be one host's: a group's, unspecified, or the VM's own.
    BadSource => "bad_source",
    /// Neither ARP nor IP: LLDP, spanning tree and the like.
    UnknownEthertype => "unknown_ethertype",
    /// IPv6, where the VM speaks IPv4 only.
    Ipv6Ignored => "ipv6_ignored",
    /// In another VLAN than the VM, or in one at all where the VM is in none.
    OtherVlan => "other_vlan",
    /// IPv4 options that make no sense, or are a source route, which hosts don't take (RFC 791 section 3.1).
    Ipv4Options => "ipv4_options",
    /// IPv6 extension headers that are too many, or ask for what a host does not do (RFC 8200 section 4).
    ExtensionHeaders => "extension_headers",
    /// IP that carries a protocol the VM does not speak.
    UnknownIpProtocol => "unknown_ip_protocol",
    /// UDP or TCP to a port at which nobody listens; the sender was told, unless too many were.
    ClosedPort => "closed_port",
    /// Fragments of an IP packet that overlap (RFC 5722).
    FragmentOverlap => "fragment_overlap",
    /// Fragments of an IP packet that are empty or contradict each other about its length.
    BadFragment => "bad_fragment",
    /// IP packets of which not all fragments came in time.
    ReassemblyTimeout => "reassembly_timeout",
    /// IP packets whose fragments had to make room for others.
    ReassemblyFull => "reassembly_full",
    /// IP packets larger than the link carries, when too many of them were on their way out in fragments.
    FragmentQueueFull => "fragment_queue_full",
    /// IP packets larger than their path carries, as a router has told, which must not be cut (`EMSGSIZE` of a kernel).
    FragmentationNeeded => "fragmentation_needed",
    /// An ICMP or IGMP message other than those a VM acts upon.
    UnknownIcmpType => "unknown_icmp_type",
    /// An echo reply that belongs to no ping.
    UnexpectedReply => "unexpected_reply",
    /// An ARP packet that concerns neither the VM's address nor a neighbour it knows or looks for.
    ArpNotForUs => "arp_not_for_us",
    /// Another station claims the VM's own address (RFC 5227, RFC 4862).
    ArpConflict => "arp_conflict",
    /// A ping, or an answer to another network, that had to wait for a neighbour's address found the queue full.
    NeighbourQueueFull => "neighbour_queue_full",
    /// A ping, or an answer, had no way to its destination: there is no gateway, or the VM has no address (`ENETUNREACH` of
    /// a kernel).
    NoRoute => "no_route",
    /// An answer to another network: the gateway did not say where it is (`EHOSTUNREACH` of a kernel).
    NoNeighbour => "no_neighbour",
    /// A ping that was due found as many of its flow on their way as sequence numbers can tell apart; it was not sent.
    TooManyOutstanding => "too_many_outstanding",
    /// A ping by TCP or UDP that was due found every ephemeral port of its VM in use for others to the same port of the same address
    /// (`EADDRNOTAVAIL` of a kernel); it was not sent.
    PortsInUse => "ports_in_use",
    /// The TAP took no more frames (`EAGAIN`, `ENOBUFS`).
    QueueFull => "queue_full",
    /// The interface is down (`EIO`).
    LinkDown => "link_down",
    /// The kernel refused to send the frame for another reason.
    Refused => "refused",
    /// Reading a TAP failed.
    ReadFailed => "read_failed",
    /// The kernel's queue towards a TAP overflowed (`tx_dropped` of the interface): the tool did not read fast enough.
    TapQueue => "tap_queue",
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Advice about it, where the name does not explain it.
    pub const fn hint(self) -> Option<&'static str> {
        Some(match self {
            DropReason::NoRoute => {
                "a VM had no address, or no gateway to the other network (--gateway)"
            }
            DropReason::NeighbourQueueFull => {
                "more pings than wait for one neighbour's address; it may not be there"
            }
            DropReason::DhcpNoServer => {
                "an offer that does not name its server (option 54) can't be asked for"
            }
            DropReason::DhcpNoLeaseTime => {
                "an address is taken only when the server says for how long (option 51)"
            }
            DropReason::DhcpNoAddress => "the server may have run out of addresses",
            DropReason::DhcpLifetimes => {
                "an address is taken only if T1 is not later than T2, nor the preferred lifetime longer than the valid one"
            }
            DropReason::DhcpStatus => "-v shows which status code the server gave",
            DropReason::FragmentationNeeded => {
                "a router has told how much the path carries, and --dont-fragment forbids to cut"
            }
            DropReason::FragmentQueueFull => "fewer or smaller pings at once would fit",
            _ => return None,
        })
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<WriteDrop> for DropReason {
    fn from(drop: WriteDrop) -> DropReason {
        match drop {
            WriteDrop::QueueFull => DropReason::QueueFull,
            WriteDrop::LinkDown => DropReason::LinkDown,
            WriteDrop::Refused => DropReason::Refused,
        }
    }
}

/// No drop reason has this name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not a drop reason that this version knows")]
pub struct UnknownDropReason(pub String);

impl std::str::FromStr for DropReason {
    type Err = UnknownDropReason;

    fn from_str(name: &str) -> Result<DropReason, UnknownDropReason> {
        let found = Self::ALL.iter().find(|reason| reason.name() == name);
        found
            .copied()
            .ok_or_else(|| UnknownDropReason(name.to_owned()))
    }
}

/// Dropped frames by reason. Serialized as a map of the reasons that occurred, in the order of [`DropReason::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drops([u64; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Drops {
        Drops([0; DropReason::COUNT])
    }
}

impl Drops {
    /// Counts `frames` more for `reason`.
    pub fn add(&mut self, reason: DropReason, frames: u64) {
        let count = &mut self.0[reason as usize];
        *count = count.saturating_add(frames);
    }

    /// Frames dropped for `reason`.
    pub const fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Frames dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, count| u64::saturating_add(sum, *count))
    }

    /// The reasons that occurred, each with its number of frames.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.get(reason)))
            .filter(|(_, frames)| *frames > 0)
    }

    /// Counts all of `other` as well.
    pub fn merge(&mut self, other: &Drops) {
        for (reason, frames) in other.iter() {
            self.add(reason, frames);
        }
    }
}

impl Serialize for Drops {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.iter().count()))?;
        for (reason, frames) in self.iter() {
            map.serialize_entry(reason.name(), &frames)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Drops {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Drops, D::Error> {
        let mut drops = Drops::default();
        for (name, frames) in BTreeMap::<String, u64>::deserialize(deserializer)? {
            drops.add(name.parse().map_err(D::Error::custom)?, frames);
        }
        Ok(drops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_snake_case_name_of_its_own() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        for name in &names {
            assert!(
                name.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{name}"
            );
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
    }

    #[test]
    fn name_and_reason_are_inverse() {
        for &reason in DropReason::ALL {
            assert_eq!(reason.name().parse(), Ok(reason));
        }
        assert!("no_such_reason".parse::<DropReason>().is_err());
    }

    #[test]
    fn only_reasons_that_occurred_are_written_and_in_a_fixed_order() {
        let mut drops = Drops::default();
        drops.add(DropReason::LinkDown, 3);
        drops.add(DropReason::Truncated, 1);
        drops.add(DropReason::LinkDown, 1);
        let json = serde_json::to_string(&drops).unwrap();
        assert_eq!(json, r#"{"truncated":1,"link_down":4}"#);
        assert_eq!(serde_json::from_str::<Drops>(&json).unwrap(), drops);
        assert_eq!(drops.total(), 5);
    }

    #[test]
    fn an_unknown_reason_in_a_saved_report_is_named() {
        let error = serde_json::from_str::<Drops>(r#"{"gremlins":1}"#).unwrap_err();
        assert!(error.to_string().contains("\"gremlins\""), "{error}");
    }
}
