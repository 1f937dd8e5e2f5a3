//! ICMP errors (RFC 792, RFC 1122 section 3.2.2): read with the ping that they quote, and built in place around the
//! datagram that they are about.

use std::net::Ipv4Addr;

use etherparse::{Icmpv4Header, Icmpv4Type, IpNumber, Ipv4HeaderSlice};

use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::icmp::{ECHO_FRAME_OVERHEAD, ICMP_ECHO_HEADER_LENGTH};
use super::ipv4::{IPV4_HEADER_LENGTH, Ipv4Envelope};
use super::mac::MacAddr;
use super::probe_head::QuotedProbe;

const TYPE_UNREACHABLE: u8 = 3;
const TYPE_REDIRECT: u8 = 5;
/// The codes of a redirect: for a network, a host, and both for one type of service.
const LAST_REDIRECT_CODE: u8 = 3;
const TYPE_TIME_EXCEEDED: u8 = 11;
const TYPE_PARAMETER_PROBLEM: u8 = 12;

/// Class selector 6: what Linux gives ICMP errors (`IPTOS_PREC_INTERNETCONTROL`, `net/ipv4/icmp.c`; RFC 1812 section
/// 4.3.2.5), beside what of the code point of the datagram once was its type of service.
const INTERNETWORK_CONTROL: u8 = 48;
/// The bits of a code point that once were the type of service (RFC 1349; `IPTOS_TOS_MASK`).
const TYPE_OF_SERVICE: u8 = 0x07;

/// Bytes of a datagram that an error quotes at most, so that its own datagram has no more than 576 (RFC 1812 section
/// 4.3.2.3; `__icmp_send` in `net/ipv4/icmp.c`).
const QUOTE: usize = 576 - IPV4_HEADER_LENGTH - ICMP_ECHO_HEADER_LENGTH;

/// Type and code of an ICMP error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IcmpErrorKind {
    /// `type` of RFC 792.
    pub kind: u8,
    /// `code` of RFC 792.
    pub code: u8,
}

impl IcmpErrorKind {
    /// The host does not speak the protocol (RFC 1122 section 3.2.2.1).
    pub const PROTOCOL_UNREACHABLE: IcmpErrorKind = IcmpErrorKind::new(TYPE_UNREACHABLE, 2);
    /// The datagram is larger than the next link carries, and must not be cut (RFC 1191).
    pub const FRAGMENTATION_NEEDED: IcmpErrorKind = IcmpErrorKind::new(TYPE_UNREACHABLE, 4);
    /// Nobody listens at the port.
    pub const PORT_UNREACHABLE: IcmpErrorKind = IcmpErrorKind::new(TYPE_UNREACHABLE, 3);
    /// A header makes no sense; where is told apart (RFC 1122 section 3.2.2.5).
    pub const PARAMETER_PROBLEM: IcmpErrorKind = IcmpErrorKind::new(TYPE_PARAMETER_PROBLEM, 0);
    /// Not all fragments came in time.
    pub const REASSEMBLY_TIME_EXCEEDED: IcmpErrorKind = IcmpErrorKind::new(TYPE_TIME_EXCEEDED, 1);

    const fn new(kind: u8, code: u8) -> IcmpErrorKind {
        IcmpErrorKind { kind, code }
    }
}

/// An error that somebody sent about a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpError {
    /// Type and code.
    pub kind: IcmpErrorKind,
    /// The largest datagram that the next hop takes, of an error that says that this one is too large (RFC 1191); 0 if
    /// it does not say.
    pub next_hop_mtu: u16,
    /// The probe, or the reply, that it is about; `None` if it is about something else.
    pub quoted: Option<QuotedProbe>,
}

/// Tells if messages of this type are errors about a datagram that they quote. Source quench is none any more (RFC
/// 6633).
pub(super) const fn is_error(kind: u8) -> bool {
    matches!(
        kind,
        TYPE_UNREACHABLE | TYPE_TIME_EXCEEDED | TYPE_PARAMETER_PROBLEM
    )
}

impl IcmpError {
    pub(super) fn parse(kind: u8, code: u8, mtu: [u8; 2], quote: &[u8]) -> IcmpError {
        IcmpError {
            kind: IcmpErrorKind { kind, code },
            next_hop_mtu: u16::from_be_bytes(mtu),
            quoted: QuotedProbe::of_ipv4(quote),
        }
    }
}

/// A router's word that datagrams to one host are better handed to another router (RFC 792). Those for a network hold for
/// the host as well (RFC 1122 section 3.2.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpRedirect {
    /// The better router.
    pub gateway: Ipv4Addr,
    /// The source of the datagram that it is about.
    pub source: Ipv4Addr,
    /// Where that was to go.
    pub destination: Ipv4Addr,
}

impl IcmpRedirect {
    /// Reads the message; `None` if it is another, or quotes no datagram.
    pub(super) fn parse(kind: u8, code: u8, message: &[u8]) -> Option<IcmpRedirect> {
        if kind != TYPE_REDIRECT || code > LAST_REDIRECT_CODE {
            return None;
        }
        let header = Ipv4HeaderSlice::from_slice(message.get(ICMP_ECHO_HEADER_LENGTH..)?).ok()?;
        Some(IcmpRedirect {
            gateway: Ipv4Addr::from(*message.get(4..)?.first_chunk::<4>()?),
            source: header.source_addr(),
            destination: header.destination_addr(),
        })
    }
}

/// Turns the datagram in the frame at the start of `buffer` into an error about it, sent from `source_mac` and `source`
/// to where it came from.
///
/// The caller has parsed the frame. `pointer` is the byte of its header at fault, of a parameter problem. `identification`
/// is that of the error's own datagram. The datagram is quoted from its header on, as much as fits. Returns the frame's
/// length, or `None` when the buffer is too short.
pub fn turn_into_icmp_error(
    buffer: &mut [u8],
    (kind, pointer): (IcmpErrorKind, u8),
    source_mac: MacAddr,
    source: Ipv4Addr,
    time_to_live: u8,
    identification: u16,
) -> Option<usize> {
    let (ethernet, ip) = buffer.split_at_checked(ETHERNET_HEADER_LENGTH)?;
    let destination_mac = MacAddr(*ethernet.get(6..)?.first_chunk()?);
    let service = *ip.get(1)? >> 2 & TYPE_OF_SERVICE;
    let destination = Ipv4Addr::from(*ip.get(12..)?.first_chunk::<4>()?);
    let total_length = usize::from(u16::from_be_bytes(*ip.get(2..)?.first_chunk()?));
    let quoted = total_length.min(QUOTE);
    buffer.get(..ECHO_FRAME_OVERHEAD + quoted)?;
    buffer.copy_within(
        ETHERNET_HEADER_LENGTH..ETHERNET_HEADER_LENGTH + quoted,
        ECHO_FRAME_OVERHEAD,
    );
    let envelope = Ipv4Envelope {
        source_mac,
        destination_mac,
        source,
        destination,
        time_to_live,
        dscp: INTERNETWORK_CONTROL | service,
        dont_fragment: false,
        identification,
    };
    let icmp = envelope.write(IpNumber::ICMP, ICMP_ECHO_HEADER_LENGTH + quoted, buffer)?;
    let (header, quote) = icmp.split_at_mut_checked(ICMP_ECHO_HEADER_LENGTH)?;
    let message = Icmpv4Type::Unknown {
        type_u8: kind.kind,
        code_u8: kind.code,
        bytes5to8: [pointer, 0, 0, 0],
    };
    let message = Icmpv4Header::with_checksum(message, quote);
    header.copy_from_slice(message.to_bytes().get(..ICMP_ECHO_HEADER_LENGTH)?);
    Some(ECHO_FRAME_OVERHEAD + quoted)
}
