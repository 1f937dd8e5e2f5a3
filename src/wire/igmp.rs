//! Group management on IPv4 (IGMP: RFC 1112 appendix I, RFC 2236, RFC 3376): which groups a VM listens to.

use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::IpNumber;

use super::checksum;
use super::error::{Layer, ParseError};
use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::ipv4::{self, IPV4_HEADER_LENGTH, Ipv4Envelope, Ipv4Packet, ipv4_multicast_mac};
use super::mac::MacAddr;
use super::membership::{GroupRecord, of_code, query_interval};

/// The group of all hosts, which nobody reports (`IGMP_ALL_HOSTS`).
pub const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// The group of all routers, which hear of it when a host leaves a group (`IGMP_ALL_ROUTER`).
const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
/// The group that reports of version 3 go to (`IGMPV3_ALL_MCR`).
const ALL_IGMPV3_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);

/// `IGMP_HOST_MEMBERSHIP_QUERY`
const QUERY: u8 = 0x11;
/// `IGMP_HOST_MEMBERSHIP_REPORT`
const VERSION_1_REPORT: u8 = 0x12;
/// `IGMPV2_HOST_MEMBERSHIP_REPORT`
const VERSION_2_REPORT: u8 = 0x16;
/// `IGMP_HOST_LEAVE_MESSAGE`
pub(super) const LEAVE: u8 = 0x17;
/// `IGMPV3_HOST_MEMBERSHIP_REPORT`
pub(super) const VERSION_3_REPORT: u8 = 0x22;

/// Bytes of a message of version 1 or 2, which a query of version 3 starts with too.
const MESSAGE_LENGTH: usize = 8;
/// Bytes of a query of version 3 without sources.
const QUERY_V3_LENGTH: usize = 12;
/// Bytes of each source in it.
const SOURCE_LENGTH: usize = 4;
/// Bytes of a report of version 3 before its records.
const REPORT_LENGTH: usize = 8;
/// Bytes of a record without sources.
const RECORD_LENGTH: usize = 8;

/// The router alert option (RFC 2113), without which no router would look.
const ROUTER_ALERT: [u8; 4] = [148, 4, 0, 0];
/// Internetwork control (RFC 3376 section 4: type of service 0xc0), as Linux has it in messages of all versions.
const DSCP: u8 = 48;

/// The time that hosts have to answer a router of version 1, which does not say one (RFC 2236 section 4).
pub const VERSION_1_RESPONSE_TIME: Duration = Duration::from_secs(10);

/// A version of IGMP, which a query is told by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum IgmpVersion {
    /// RFC 1112.
    V1,
    /// RFC 2236.
    V2,
    /// RFC 3376.
    V3,
}

/// A message whose checksum has been verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IgmpMessage {
    /// A router asks who listens.
    Query(IgmpQuery),
    /// Another host listens to this group, and says so by version 1 or 2.
    Report(Ipv4Addr),
    /// Another message.
    Other(u8),
}

/// A router asks who listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IgmpQuery {
    /// The router's version.
    pub version: IgmpVersion,
    /// Within which time the answer is to come.
    pub maximum_response_time: Duration,
    /// The group asked for; unspecified for all groups.
    pub group: Ipv4Addr,
    /// How often a change is to be reported (`QRV`); 0 if the router does not say.
    pub robustness: u8,
    /// How often the router asks (`QQIC`); zero if it does not say.
    pub query_interval: Duration,
}

impl IgmpMessage {
    /// Reads the message in `packet`, whose protocol is IGMP. As in Linux (`igmp_rcv` in `net/ipv4/igmp.c`), neither its
    /// time to live nor a router alert is asked for, and a general query may go to any group.
    ///
    /// # Errors
    /// When bytes are missing, the checksum is wrong, or a query for all groups names sources.
    pub fn parse(packet: &Ipv4Packet<'_>) -> Result<Self, ParseError> {
        let (message, offset) = (packet.payload, packet.payload_offset);
        let truncated = |needed| ParseError::truncated(Layer::Igmp, offset, needed, message.len());
        let &[kind, code, _, _, a, b, c, d, ref rest @ ..] = message else {
            return Err(truncated(MESSAGE_LENGTH));
        };
        if checksum::of(message) != 0 {
            return Err(ParseError::checksum(Layer::Igmp, offset));
        }
        let group = Ipv4Addr::new(a, b, c, d);
        match kind {
            VERSION_1_REPORT | VERSION_2_REPORT => return Ok(IgmpMessage::Report(group)),
            QUERY => {}
            other => return Ok(IgmpMessage::Other(other)),
        }
        // Section 7.1: the length and the code tell the version.
        let query = match (rest, code) {
            ([], 0) => IgmpQuery {
                version: IgmpVersion::V1,
                maximum_response_time: VERSION_1_RESPONSE_TIME,
                // It has no such field.
                group: Ipv4Addr::UNSPECIFIED,
                robustness: 0,
                query_interval: Duration::ZERO,
            },
            ([], _) => IgmpQuery {
                version: IgmpVersion::V2,
                maximum_response_time: tenths(code.into()),
                group,
                robustness: 0,
                query_interval: Duration::ZERO,
            },
            (&[flags, interval, n0, n1, ref sources @ ..], _) => {
                let number = usize::from(u16::from_be_bytes([n0, n1]));
                let needed = number * SOURCE_LENGTH;
                if group.is_unspecified() && number > 0 {
                    return Err(ParseError::field(Layer::Igmp, offset, "sources"));
                }
                if sources.len() < needed {
                    return Err(truncated(QUERY_V3_LENGTH + needed));
                }
                IgmpQuery {
                    version: IgmpVersion::V3,
                    maximum_response_time: tenths(of_code(code)),
                    group,
                    robustness: flags & 7,
                    query_interval: query_interval(interval),
                }
            }
            (_, _) => return Err(truncated(QUERY_V3_LENGTH)),
        };
        Ok(IgmpMessage::Query(query))
    }
}

fn tenths(number: u32) -> Duration {
    Duration::from_millis(u64::from(number) * 100)
}

/// A message of version 1 or 2 that a host sends about one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OlderIgmpMessage {
    /// It is in the group: goes to the group, so that other members need not say so too.
    Version1Report,
    /// The same in version 2.
    Version2Report,
    /// It is in the group no longer (version 2): goes to all routers.
    Leave,
}

impl OlderIgmpMessage {
    const fn kind(self) -> u8 {
        match self {
            OlderIgmpMessage::Version1Report => VERSION_1_REPORT,
            OlderIgmpMessage::Version2Report => VERSION_2_REPORT,
            OlderIgmpMessage::Leave => LEAVE,
        }
    }
}

/// Builds the message of version 1 or 2 about `group` at the start of `buffer`. Returns the frame's length, or `None` when
/// the buffer is too short.
pub fn write_older_igmp_message(
    source_mac: MacAddr,
    source: Ipv4Addr,
    message: OlderIgmpMessage,
    group: Ipv4Addr,
    buffer: &mut [u8],
) -> Option<usize> {
    let destination = match message {
        OlderIgmpMessage::Version1Report | OlderIgmpMessage::Version2Report => group,
        OlderIgmpMessage::Leave => ALL_ROUTERS,
    };
    let [a, b, c, d] = group.octets();
    let fill = |body: &mut [u8]| {
        body.copy_from_slice(&[message.kind(), 0, 0, 0, a, b, c, d]);
        Some(())
    };
    write(
        source_mac,
        source,
        destination,
        MESSAGE_LENGTH,
        fill,
        buffer,
    )
}

/// Records that a report of version 3 has room for in a datagram of `mtu` bytes; one at least.
pub const fn igmp_records_in(mtu: u16) -> usize {
    let headers = IPV4_HEADER_LENGTH + ROUTER_ALERT.len() + REPORT_LENGTH;
    let room = (mtu as usize).saturating_sub(headers) / RECORD_LENGTH;
    if room == 0 { 1 } else { room }
}

/// Builds a report of version 3 of `records`, each with its group, from `source`, at the start of `buffer`. Returns the
/// frame's length, or `None` when the buffer is too short.
pub fn write_igmp_report(
    source_mac: MacAddr,
    source: Ipv4Addr,
    records: &[(GroupRecord, Ipv4Addr)],
    buffer: &mut [u8],
) -> Option<usize> {
    let [n0, n1] = u16::try_from(records.len()).ok()?.to_be_bytes();
    let fill = |report: &mut [u8]| {
        let (header, rest) = report.split_first_chunk_mut::<REPORT_LENGTH>()?;
        *header = [VERSION_3_REPORT, 0, 0, 0, 0, 0, n0, n1];
        for (bytes, (record, group)) in rest.chunks_exact_mut(RECORD_LENGTH).zip(records) {
            let [a, b, c, d] = group.octets();
            bytes.copy_from_slice(&[*record as u8, 0, 0, 0, a, b, c, d]);
        }
        Some(())
    };
    let length = REPORT_LENGTH + records.len() * RECORD_LENGTH;
    write(source_mac, source, ALL_IGMPV3_ROUTERS, length, fill, buffer)
}

/// Builds the frame of a message of `length` bytes, all but whose checksum `fill` writes.
fn write(
    source_mac: MacAddr,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    length: usize,
    fill: impl FnOnce(&mut [u8]) -> Option<()>,
    buffer: &mut [u8],
) -> Option<usize> {
    let envelope = Ipv4Envelope {
        source_mac,
        destination_mac: ipv4_multicast_mac(destination),
        source,
        destination,
        time_to_live: 1,
        dscp: DSCP,
        dont_fragment: true,
        identification: 0,
    };
    let behind = ROUTER_ALERT.len() + length;
    let payload = envelope.write(IpNumber::IGMP, behind, buffer)?;
    let (options, message) = payload.split_first_chunk_mut::<{ ROUTER_ALERT.len() }>()?;
    *options = ROUTER_ALERT;
    fill(message)?;
    let sum = checksum::of(message).to_be_bytes();
    message.get_mut(2..4)?.copy_from_slice(&sum);
    // The option is part of the header.
    let end = ETHERNET_HEADER_LENGTH + IPV4_HEADER_LENGTH + ROUTER_ALERT.len();
    let header = buffer.get_mut(ETHERNET_HEADER_LENGTH..end)?;
    *header.first_mut()? = 0x40 | (header.len() / 4) as u8;
    ipv4::seal(header)?;
    Some(end + length)
}
