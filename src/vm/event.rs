//! The events that a VM returns to its owner. The VM itself neither logs nor counts.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MemberId;
use crate::time::Instant;
use crate::wire::{Dhcpv6Status, MacAddr, ParseError, WIDE_FLOWS, sequence_mask};

/// The outcome of one frame or one deadline: at most one frame to send, at most one event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reaction {
    /// A frame at the start of the buffer that the caller passed in, to be sent.
    pub transmit: Option<Transmit>,
    /// Something the owner may want to record.
    pub event: Option<Event>,
}

/// A frame to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// Bytes of the frame, from the start of the buffer.
    pub length: usize,
    /// The ping that the frame starts; its sender stamps it with [`super::Vm::stamp_sent`] right before the write.
    pub ping: Option<PingId>,
}

/// The pings of one VM to one destination, numbered within the VM: also the number by which its frames tell the flow
/// ([`crate::wire::NARROW_FLOWS`] and others say which it may be).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u32);

impl SessionId {
    /// The place of the session among those that 16 bits do not tell apart; `None` if it is none of these.
    pub(crate) const fn wide_place(self) -> Option<usize> {
        match self.0.checked_sub(WIDE_FLOWS) {
            None => None,
            Some(number) => Some((number & (WIDE_FLOWS - 1)) as usize),
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0 & (WIDE_FLOWS - 1)).fmt(f)
    }
}

/// One ping of one VM.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PingId {
    /// The session that it belongs to.
    pub session: SessionId,
    /// Its number in that session, from 0; the low 16 bits, or fewer, travel with it.
    pub sequence: u64,
}

impl PingId {
    /// What of its number travels with it, as [`ProbeHead`](crate::wire::ProbeHead) has it.
    #[inline]
    pub const fn wire_sequence(self) -> u16 {
        self.sequence as u16 & sequence_mask(self.session.0)
    }
}

/// Something that happened to a VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A neighbour answered the ARP request that was sent for it.
    Resolved {
        /// The neighbour's address.
        address: IpAddr,
        /// Its hardware address.
        mac: MacAddr,
        /// From the first request to the answer.
        elapsed: Duration,
    },
    /// A router has given an address, which is tried first (RFC 4862 section 5.4).
    AddressTried {
        /// The address.
        address: IpAddr,
    },
    /// An address that had to be tried first may be used from now on.
    AddressReady {
        /// The address.
        address: IpAddr,
    },
    /// An address may be used no longer: the router that gave it does not say so any more (RFC 4862).
    AddressLost {
        /// The address.
        address: IpAddr,
    },
    /// A DHCP server has granted an address.
    Leased {
        /// The address; of several the first.
        address: IpAddr,
        /// From the first message of the search to the grant.
        elapsed: Duration,
    },
    /// A DHCP server has granted the address for longer, or another one instead of it.
    Renewed {
        /// The address; of several the first.
        address: IpAddr,
        /// The address so far.
        previous: IpAddr,
    },
    /// The address may not be used any longer: its lease has run out, or the server has taken it back.
    LeaseLost {
        /// The address; of several the first.
        address: IpAddr,
    },
    /// Another station claims the VM's address, or the one it tries (RFC 5227, RFC 4862).
    Conflict {
        /// The address.
        address: IpAddr,
        /// The hardware address of the other station.
        mac: MacAddr,
    },
    /// Something happened to a ping.
    Ping(PingId, PingOutcome),
    /// A frame was not for this VM to act on.
    Ignored(Ignored),
}

/// The outcome of a ping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PingOutcome {
    /// The reply came in time and holds what was sent.
    Answered {
        /// When the schedule wanted the ping sent.
        due: Instant,
        /// When it was sent.
        sent: Instant,
        /// When the reply was read.
        received: Instant,
    },
    /// The reply of a member of the multicast group that is pinged came in time and holds what was sent.
    Member {
        /// Who has replied.
        member: MemberId,
        /// It is the first reply, with which the ping is received.
        is_first: bool,
        /// No other member is expected to answer: the ping is over.
        is_last: bool,
        /// When the schedule wanted the ping sent.
        due: Instant,
        /// When it was sent.
        sent: Instant,
        /// When the reply was read.
        received: Instant,
    },
    /// The reply came in time, but its payload is not what was sent. The ping is over.
    Corrupt {
        /// When the schedule wanted the ping sent.
        due: Instant,
    },
    /// No reply within the timeout. The ping is over.
    Lost {
        /// When the schedule wanted the ping sent.
        due: Instant,
    },
    /// Its VM stopped before a reply came. The ping is over.
    Abandoned {
        /// When the schedule wanted the ping sent.
        due: Instant,
    },
    /// A ping to a multicast group was answered, but not by every member expected to within the timeout. It is over.
    MembersLost {
        /// When the schedule wanted the ping sent.
        due: Instant,
    },
    /// It was never sent: nobody answered for its neighbour, or too many were waiting for that answer. It is over.
    Unresolved {
        /// When the schedule wanted the ping sent.
        due: Instant,
    },
    /// Somebody reports that the ping, or its reply, can't get where it is to go. The ping is over.
    Errored {
        /// When the schedule wanted the ping sent.
        due: Instant,
        /// When it was sent.
        sent: Instant,
        /// The error that was reported.
        error: PingError,
    },
    /// A further reply to a ping that was answered; of a multicast group, of the same member.
    Duplicate,
    /// A reply after the timeout.
    Late {
        /// When the schedule wanted the ping sent, if it had not been given up yet: it is lost, and over.
        lost: Option<Instant>,
    },
}

impl PingOutcome {
    /// Tells if the ping ends with this, so that its flow may send another in its place.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Answered { .. }
                | Self::Member { is_last: true, .. }
                | Self::MembersLost { .. }
                | Self::Corrupt { .. }
                | Self::Lost { .. }
                | Self::Abandoned { .. }
                | Self::Unresolved { .. }
                | Self::Errored { .. }
                | Self::Late { lost: Some(_) }
        )
    }
}

/// Declares [`PingError`]; a kind more is one entry more.
macro_rules! ping_errors {
    ($($(#[$doc:meta])* $error:ident => $name:literal,)*) => {
        /// The meaning of an ICMP error for the ping that it quotes. The names are stable: reports are compared by them.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum PingError {
            $($(#[$doc])* $error,)*
        }

        impl PingError {
            /// Every kind, in the order in which reports list them.
            pub const ALL: &'static [PingError] = &[$(PingError::$error,)*];

            /// The name in reports, such as `host_unreachable`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(PingError::$error => $name,)*
                }
            }
        }
    };
}

ping_errors! {
    /// There is no way to the network.
    NetworkUnreachable => "network_unreachable",
    /// There is no way to the host.
    HostUnreachable => "host_unreachable",
    /// The host does not speak ICMP.
    ProtocolUnreachable => "protocol_unreachable",
    /// Nobody listens at the port, says somebody of a ping that is for none.
    PortUnreachable => "port_unreachable",
    /// The host refuses it: nobody listens at the port that it is for.
    Refused => "refused",
    /// The ping is larger than a link carries, and may not be cut (IPv6: "packet too big").
    FragmentationNeeded => "fragmentation_needed",
    /// Somebody forbids it.
    Prohibited => "prohibited",
    /// It can't get there for another reason.
    Unreachable => "unreachable",
    /// Its time to live has run out, or its hop limit.
    TimeExceeded => "time_exceeded",
    /// Not all of its fragments came in time.
    ReassemblyTimeExceeded => "reassembly_time_exceeded",
    /// A header makes no sense to somebody.
    ParameterProblem => "parameter_problem",
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ignored::Malformed(error) => error.fmt(f),
            Ignored::OtherStation => f.write_str("it is for another station"),
            Ignored::OtherTarget => f.write_str("it asks for another host"),
            Ignored::ArpOperation => f.write_str("it is neither an ARP request nor a reply"),
            Ignored::ArpSender => f.write_str("its ARP sender can't be another host"),
            Ignored::UnexpectedArpReply => f.write_str("an ARP reply that nobody asked for"),
            Ignored::UnexpectedAdvertisement => {
                f.write_str("a neighbour advertisement that nobody asked for")
            }
            Ignored::EtherType(number) => write!(f, "EtherType {number:#06x} is not spoken"),
            Ignored::OtherAddress => f.write_str("it is for another address"),
            Ignored::BadSource => f.write_str("its source address can't be one host's"),
            Ignored::ExtensionHeaders => {
                f.write_str("its extension headers are too many, or ask for what can't be done")
            }
            Ignored::OtherVlan => f.write_str("it is in another VLAN"),
            Ignored::FragmentOverlap => f.write_str("a fragment that overlaps another"),
            Ignored::FragmentLength => {
                f.write_str("a fragment that is empty, or contradicts another about the length")
            }
            Ignored::ReassemblyFull => f.write_str("its fragments make room for others"),
            Ignored::ReassemblyTimeout => f.write_str("not all of its fragments came in time"),
            Ignored::NoRoute => f.write_str("there is no route for the answer"),
            Ignored::NoNeighbour => f.write_str("the router for the answer is not found"),
            Ignored::AnswerQueueFull => {
                f.write_str("too many answers wait for the router that is looked for")
            }
            Ignored::FragmentQueueFull => f.write_str("too many answers wait in fragments"),
            Ignored::FragmentationNeeded => {
                f.write_str("the answer is too large, and may not be sent in fragments")
            }
            Ignored::Ipv4Options => {
                f.write_str("its IPv4 options make no sense, or are a source route")
            }
            Ignored::ClosedPort(port) => write!(f, "nobody listens at port {port}"),
            Ignored::Protocol(number) => write!(f, "IP protocol {number} is not spoken"),
            Ignored::IcmpType(number) => write!(f, "ICMP type {number} is not spoken"),
            Ignored::UnexpectedEchoReply => f.write_str("a reply to no ping of the VM"),
            Ignored::UnexpectedIcmpError => {
                f.write_str("an ICMP error about nothing that the VM has under way")
            }
            Ignored::UnexpectedDhcp => f.write_str("a DHCP message that nobody asked for"),
            Ignored::DhcpNoServer => f.write_str("an offer without a server identifier"),
            Ignored::DhcpNoLeaseTime => f.write_str("an offer or grant without a lease time"),
            Ignored::DhcpAddress => f.write_str("an offer or grant of no host's address"),
            Ignored::DhcpNoAddress => f.write_str("an offer or grant without an address"),
            Ignored::DhcpLifetimes => {
                f.write_str("an offer or grant whose times contradict each other")
            }
            Ignored::IgmpType(number) => write!(f, "IGMP type {number} is not acted upon"),
            Ignored::DhcpStatus(status) => write!(f, "the DHCP server says {status}"),
            Ignored::DhcpOtherServer => f.write_str("another DHCP server was chosen"),
        }
    }
}

/// Why a frame was not acted on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ignored {
    /// It can't be understood.
    Malformed(ParseError),
    /// Its hardware address is another station's: the bridge flooded it.
    OtherStation,
    /// ARP about somebody else's address.
    OtherTarget,
    /// An ARP operation other than request and reply.
    ArpOperation,
    /// An ARP packet whose sender can't be another host: a group's address, or our own hardware address.
    ArpSender,
    /// An ARP reply to a request that nobody sent.
    UnexpectedArpReply,
    /// A neighbour advertisement of an address that nobody looks for.
    UnexpectedAdvertisement,
    /// An EtherType that VMs don't speak.
    EtherType(u16),
    /// An IPv4 datagram to another address.
    OtherAddress,
    /// An IPv4 datagram from an address that can't be one host.
    BadSource,
    /// IPv6 extension headers that are too many, or ask for what can't be done.
    ExtensionHeaders,
    /// A frame in another VLAN, or in one where the VM is in none, or the reverse.
    OtherVlan,
    /// A fragment that overlaps another (RFC 5722). What has come of its datagram is dropped as well.
    FragmentOverlap,
    /// A fragment without content, or one that contradicts others about the length. What has come of its datagram is
    /// dropped as well.
    FragmentLength,
    /// The fragments of one datagram, to make room for others.
    ReassemblyFull,
    /// The fragments of one datagram, of which not all came in time.
    ReassemblyTimeout,
    /// A question from another network, to which there is no way back.
    NoRoute,
    /// An answer whose way out leads by a router that nobody can find.
    NoNeighbour,
    /// An answer whose way out leads by a router that is looked for, when too many wait for it.
    AnswerQueueFull,
    /// A reply that is larger than the link carries, when too many of them are on their way out.
    FragmentQueueFull,
    /// A datagram that is larger than its path carries, and must not be cut.
    FragmentationNeeded,
    /// An IPv4 datagram with options that make no sense, or with a source route.
    Ipv4Options,
    /// A UDP datagram, or a TCP segment, to a port at which nobody listens.
    ClosedPort(u16),
    /// An IP protocol that VMs don't speak.
    Protocol(u8),
    /// An ICMP message other than echo.
    IcmpType(u8),
    /// An IGMP message that a host does not act upon, such as another host's report.
    IgmpType(u8),
    /// An echo reply that belongs to no ping of this VM.
    UnexpectedEchoReply,
    /// A DHCP message that answers nothing that was asked.
    UnexpectedDhcp,
    /// A DHCP offer that does not say which server makes it (option 54): it can't be asked for (RFC 2131 section 4.3.1).
    DhcpNoServer,
    /// A DHCP offer or acknowledgement without a lease time (option 51), or with one of 0.
    DhcpNoLeaseTime,
    /// A DHCP offer or acknowledgement of an address that one host can't have.
    DhcpAddress,
    /// A DHCPv6 advertisement or reply without an address in the association that was asked for.
    DhcpNoAddress,
    /// A DHCPv6 advertisement or reply whose T1 is later than T2, or whose preferred lifetime is longer than the valid one
    /// (RFC 8415 section 21.4 and 21.6).
    DhcpLifetimes,
    /// A DHCPv6 advertisement or reply by which the server says that it fails.
    DhcpStatus(Dhcpv6Status),
    /// A DHCP message of another server than the one that was chosen.
    DhcpOtherServer,
    /// An ICMP error about something that this VM has not sent, or that is over.
    UnexpectedIcmpError,
}
