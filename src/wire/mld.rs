//! Multicast listener discovery (RFC 2710, version 2: RFC 3810): which groups a VM listens to.

use std::net::Ipv6Addr;
use std::time::Duration;

use etherparse::{IpNumber, icmpv6};

use super::error::{Layer, ParseError};
use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::icmpv6::seal;
use super::ipv6::{
    ALL_MLDV2_ROUTERS, ALL_ROUTERS, IPV6_HEADER_LENGTH, Ipv6Envelope, Ipv6Packet, multicast_mac,
};
use super::mac::MacAddr;
use super::membership::{GroupRecord, query_interval};

/// `ICMPV6_MLD2_REPORT`
pub(super) const VERSION_2_REPORT: u8 = 143;
/// Bytes of a message of version 1, and of the start of a query of version 2.
const MESSAGE_LENGTH: usize = 24;
/// Bytes of a query of version 2 before its sources.
const QUERY_V2_LENGTH: usize = 28;
/// Bytes of a source.
const SOURCE_LENGTH: usize = 16;
/// Bytes of a report of version 2 before its records.
const REPORT_LENGTH: usize = 8;
/// Bytes of a record without sources.
const RECORD_LENGTH: usize = 20;
/// The value of the router alert option (RFC 2711 section 2.1).
const ROUTER_ALERT_MLD: u16 = 0;
/// A hop-by-hop header with the router alert option (RFC 2711), without which no router would look.
const ROUTER_ALERT: [u8; 8] = [IpNumber::IPV6_ICMP.0, 0, 5, 2, 0, 0, 1, 0];

/// Records that a report of version 2 has room for in a packet of `mtu` bytes; one at least.
pub const fn mld_records_in(mtu: u16) -> usize {
    let headers = IPV6_HEADER_LENGTH + ROUTER_ALERT.len() + REPORT_LENGTH;
    let room = (mtu as usize).saturating_sub(headers) / RECORD_LENGTH;
    if room == 0 { 1 } else { room }
}

/// A router asks who listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MldQuery {
    /// The version that it is of, and what that one tells.
    pub version: MldVersion,
    /// The code of the time within which the answer is to come: see [`MldQuery::maximum_response_delay`].
    pub maximum_response_code: u16,
    /// The group asked for; unspecified for all groups.
    pub group: Ipv6Addr,
}

/// The version of a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MldVersion {
    /// Version 1.
    One,
    /// Version 2.
    Two {
        /// The robustness variable of the router; 0 if it does not tell.
        robustness: u8,
        /// The time between its queries for all groups.
        query_interval: Duration,
    },
}

impl MldQuery {
    /// `ICMPV6_MGM_QUERY`
    pub const TYPE: u8 = icmpv6::TYPE_MULTICAST_LISTENER_QUERY;

    /// Reads the query `payload`, an ICMPv6 message.
    ///
    /// # Errors
    /// When it is cut short, its length is none that a version has (RFC 3810 section 8.1), it comes from farther than the
    /// link or without router alert (section 6.2), or it asks for what is no group.
    pub(super) fn parse(
        packet: &Ipv6Packet<'_>,
        payload: &[u8],
        offset: usize,
    ) -> Result<Self, ParseError> {
        let bad = |what| ParseError::field(Layer::Icmpv6, offset, what);
        let (maximum_response_code, group) = read(payload, offset)?;
        if packet.hop_limit != 1 {
            return Err(bad("hop limit"));
        }
        if !packet.source.is_unicast_link_local() {
            return Err(bad("source"));
        }
        if packet.router_alert() != Some(ROUTER_ALERT_MLD) {
            return Err(bad("router alert"));
        }
        if !group.is_unspecified() && !group.is_multicast() {
            return Err(bad("group"));
        }
        let version = match payload.get(MESSAGE_LENGTH..).unwrap_or_default() {
            [] => MldVersion::One,
            &[flags, interval, n0, n1, ref sources @ ..] => {
                let count = usize::from(u16::from_be_bytes([n0, n1]));
                if group.is_unspecified() && count > 0 {
                    return Err(bad("sources"));
                }
                if sources.len() < count * SOURCE_LENGTH {
                    let needed = QUERY_V2_LENGTH + count * SOURCE_LENGTH;
                    let truncated =
                        ParseError::truncated(Layer::Icmpv6, offset, needed, payload.len());
                    return Err(truncated);
                }
                MldVersion::Two {
                    robustness: flags & 7,
                    query_interval: query_interval(interval),
                }
            }
            _ => return Err(bad("length")),
        };
        Ok(MldQuery {
            version,
            maximum_response_code,
            group,
        })
    }

    /// Within which time the answer is to come. A host in version 1 mode takes the code of a query of version 2 for
    /// milliseconds, too (`mld_process_v1` in `net/ipv6/mcast.c`).
    pub fn maximum_response_delay(&self, version_1_mode: bool) -> Duration {
        const FLOATING_POINT: u16 = 0x8000;
        let code = self.maximum_response_code;
        let milliseconds = match self.version {
            MldVersion::One => u64::from(code),
            MldVersion::Two { .. } if version_1_mode => code.min(FLOATING_POINT - 1).into(),
            // Section 5.1.3.
            MldVersion::Two { .. } if code >= FLOATING_POINT => {
                let (exponent, mantissa) = (code >> 12 & 7, code & 0xfff);
                u64::from(mantissa | 0x1000) << (exponent + 3)
            }
            MldVersion::Two { .. } => code.into(),
        };
        Duration::from_millis(milliseconds)
    }
}

/// Another host is in a group (RFC 2710 section 3, type 131).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MldReport {
    /// The group.
    pub group: Ipv6Addr,
}

impl MldReport {
    /// `ICMPV6_MGM_REPORT`
    pub const TYPE: u8 = icmpv6::TYPE_MULTICAST_LISTENER_REPORT;

    /// Reads the report `payload`, an ICMPv6 message.
    ///
    /// # Errors
    /// When it is cut short, comes from farther than the link, or not to a group (`__mld_report_work` in
    /// `net/ipv6/mcast.c`). A host without an address yet sends it from the unspecified one.
    pub(super) fn parse(
        packet: &Ipv6Packet<'_>,
        payload: &[u8],
        offset: usize,
    ) -> Result<Self, ParseError> {
        let bad = |what| ParseError::field(Layer::Icmpv6, offset, what);
        let (_, group) = read(payload, offset)?;
        let source = packet.source;
        if !source.is_unspecified() && !source.is_unicast_link_local() {
            return Err(bad("source"));
        }
        if !packet.destination.is_multicast() {
            return Err(bad("destination"));
        }
        Ok(MldReport { group })
    }
}

/// Reads what all messages of version 1 start with: the maximum response code, and the group.
fn read(payload: &[u8], offset: usize) -> Result<(u16, Ipv6Addr), ParseError> {
    let truncated = || ParseError::truncated(Layer::Icmpv6, offset, MESSAGE_LENGTH, payload.len());
    let &[_, _, _, _, d0, d1, _, _, ref rest @ ..] = payload else {
        return Err(truncated());
    };
    let group: &[u8; 16] = rest.first_chunk().ok_or_else(truncated)?;
    Ok((u16::from_be_bytes([d0, d1]), Ipv6Addr::from(*group)))
}

/// A message of version 1 that a host sends about one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MldMessage {
    /// It is in the group: goes to the group, so that other members need not say so too.
    Report,
    /// It is in the group no longer: goes to all routers.
    Done,
}

impl MldMessage {
    /// `ICMPV6_MGM_REPORT`, `ICMPV6_MGM_REDUCTION`
    const fn kind(self) -> u8 {
        match self {
            MldMessage::Report => MldReport::TYPE,
            MldMessage::Done => icmpv6::TYPE_MULTICAST_LISTENER_REDUCTION,
        }
    }
}

/// Builds the message of version 1 about `group` at the start of `buffer`.
///
/// `source` is link-local, or unspecified while there is no address yet (RFC 3590). Returns the frame's length, or
/// `None` when the buffer is too short.
pub fn write_mld_message(
    source_mac: MacAddr,
    source: Ipv6Addr,
    message: MldMessage,
    group: Ipv6Addr,
    buffer: &mut [u8],
) -> Option<usize> {
    let destination = match message {
        MldMessage::Report => group,
        MldMessage::Done => ALL_ROUTERS,
    };
    let fill = |body: &mut [u8]| {
        let (head, address) = body.split_at_mut_checked(8)?;
        head.copy_from_slice(&[message.kind(), 0, 0, 0, 0, 0, 0, 0]);
        address.copy_from_slice(&group.octets());
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

/// Builds a report of version 2 of `records`, each with its group, from `source`, at the start of `buffer`.
///
/// `source` is link-local, or unspecified while there is no address yet (RFC 3590). Returns the frame's length, or
/// `None` when the buffer is too short.
pub fn write_mld_report(
    source_mac: MacAddr,
    source: Ipv6Addr,
    records: &[(GroupRecord, Ipv6Addr)],
    buffer: &mut [u8],
) -> Option<usize> {
    let [n0, n1] = u16::try_from(records.len()).ok()?.to_be_bytes();
    let fill = |report: &mut [u8]| {
        let (header, rest) = report.split_at_mut_checked(REPORT_LENGTH)?;
        header.copy_from_slice(&[VERSION_2_REPORT, 0, 0, 0, 0, 0, n0, n1]);
        for (bytes, (record, group)) in rest.chunks_exact_mut(RECORD_LENGTH).zip(records) {
            let (head, address) = bytes.split_at_mut_checked(4)?;
            head.copy_from_slice(&[*record as u8, 0, 0, 0]);
            address.copy_from_slice(&group.octets());
        }
        Some(())
    };
    let length = REPORT_LENGTH + records.len() * RECORD_LENGTH;
    write(source_mac, source, ALL_MLDV2_ROUTERS, length, fill, buffer)
}

/// Builds a packet to the group `destination` with router alert, and an ICMPv6 message of `length` bytes that `fill` writes.
fn write(
    source_mac: MacAddr,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    length: usize,
    fill: impl FnOnce(&mut [u8]) -> Option<()>,
    buffer: &mut [u8],
) -> Option<usize> {
    let envelope = Ipv6Envelope {
        source_mac,
        destination_mac: multicast_mac(destination),
        source,
        destination,
        traffic_class: 0,
        hop_limit: 1,
    };
    let length = ROUTER_ALERT.len() + length;
    let payload = envelope.write(IpNumber::IPV6_HEADER_HOP_BY_HOP, length, buffer)?;
    let (alert, message) = payload.split_at_mut_checked(ROUTER_ALERT.len())?;
    alert.copy_from_slice(&ROUTER_ALERT);
    fill(message)?;
    seal(source, destination, message)?;
    Some(ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH + length)
}
