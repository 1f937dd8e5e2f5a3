//! Multicast listener discovery, version 2 (RFC 3810): which groups a VM listens to.

use std::net::Ipv6Addr;
use std::time::Duration;

use etherparse::{IpNumber, icmpv6};

use super::error::{Layer, ParseError};
use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::icmpv6::seal;
use super::ipv6::{ALL_MLDV2_ROUTERS, IPV6_HEADER_LENGTH, Ipv6Envelope, Ipv6Packet, multicast_mac};
use super::mac::MacAddr;

/// `ICMPV6_MLD2_REPORT`
pub(super) const VERSION_2_REPORT: u8 = 143;
/// Bytes of a query of version 1, which version 2 starts with too.
const QUERY_LENGTH: usize = 24;
/// Bytes of a query of version 2 without sources.
const QUERY_V2_LENGTH: usize = 28;
/// Bytes of a report before its records.
const REPORT_LENGTH: usize = 8;
/// Bytes of a record without sources.
const RECORD_LENGTH: usize = 20;
/// A hop-by-hop header with the router alert option (RFC 2711), without which no router would look.
const ROUTER_ALERT: [u8; 8] = [IpNumber::IPV6_ICMP.0, 0, 5, 2, 0, 0, 1, 0];

/// A router asks who listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MldQuery {
    /// Within which time the answer is to come.
    pub maximum_response_delay: Duration,
    /// The group asked for; unspecified for all groups.
    pub group: Ipv6Addr,
}

impl MldQuery {
    /// `ICMPV6_MGM_QUERY`
    pub const TYPE: u8 = icmpv6::TYPE_MULTICAST_LISTENER_QUERY;

    /// Reads the query `payload`, an ICMPv6 message.
    ///
    /// # Errors
    /// When it is cut short, or comes from farther than the link (RFC 3810 section 6.2).
    pub(super) fn parse(
        packet: &Ipv6Packet<'_>,
        payload: &[u8],
        offset: usize,
    ) -> Result<Self, ParseError> {
        let truncated =
            || ParseError::truncated(Layer::Icmpv6, offset, QUERY_LENGTH, payload.len());
        let &[_, _, _, _, d0, d1, _, _, ref rest @ ..] = payload else {
            return Err(truncated());
        };
        let group: &[u8; 16] = rest.first_chunk().ok_or_else(truncated)?;
        if packet.hop_limit != 1 {
            return Err(ParseError::field(Layer::Icmpv6, offset, "hop limit"));
        }
        if !packet.source.is_unicast_link_local() {
            return Err(ParseError::field(Layer::Icmpv6, offset, "source"));
        }
        let code = u16::from_be_bytes([d0, d1]);
        let milliseconds = match (payload.len(), code) {
            // Section 5.1.3: a floating-point number.
            (QUERY_V2_LENGTH.., 0x8000..) => {
                let (exponent, mantissa) = (code >> 12 & 7, code & 0xfff);
                u64::from(mantissa | 0x1000) << (exponent + 3)
            }
            _ => u64::from(code),
        };
        Ok(MldQuery {
            maximum_response_delay: Duration::from_millis(milliseconds),
            group: Ipv6Addr::from(*group),
        })
    }
}

/// How a report's records are meant (RFC 3810 section 5.2.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MldRecord {
    /// The answer to a query: listens to all sources.
    ModeIsExclude,
    /// Nobody asked: listens to all sources from now on.
    ChangeToExclude,
}

/// Builds a report that says that `source` listens to each of `groups`, at the start of `buffer`.
///
/// `source` is link-local, or unspecified while there is no address yet (RFC 3590). Returns the frame's length, or
/// `None` when the buffer is too short.
pub fn write_mld_report(
    source_mac: MacAddr,
    source: Ipv6Addr,
    record: MldRecord,
    groups: &[Ipv6Addr],
    buffer: &mut [u8],
) -> Option<usize> {
    let envelope = Ipv6Envelope {
        source_mac,
        destination_mac: multicast_mac(ALL_MLDV2_ROUTERS),
        source,
        destination: ALL_MLDV2_ROUTERS,
        traffic_class: 0,
        hop_limit: 1,
    };
    let length = ROUTER_ALERT.len() + REPORT_LENGTH + groups.len() * RECORD_LENGTH;
    let payload = envelope.write(IpNumber::IPV6_HEADER_HOP_BY_HOP, length, buffer)?;
    let (alert, report) = payload.split_at_mut_checked(ROUTER_ALERT.len())?;
    alert.copy_from_slice(&ROUTER_ALERT);
    let (header, records) = report.split_at_mut_checked(REPORT_LENGTH)?;
    let [n0, n1] = u16::try_from(groups.len()).ok()?.to_be_bytes();
    let kind = VERSION_2_REPORT;
    header.copy_from_slice(&[kind, 0, 0, 0, 0, 0, n0, n1]);
    let kind = match record {
        MldRecord::ModeIsExclude => 2,
        MldRecord::ChangeToExclude => 4,
    };
    for (bytes, group) in records.chunks_exact_mut(RECORD_LENGTH).zip(groups) {
        let (head, address) = bytes.split_at_mut_checked(4)?;
        head.copy_from_slice(&[kind, 0, 0, 0]);
        address.copy_from_slice(&group.octets());
    }
    seal(source, ALL_MLDV2_ROUTERS, report)?;
    Some(ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH + length)
}
