//! The question for a neighbour in a frame, of either family: for what looks at frames and does not act on them.

use std::fmt;
use std::net::IpAddr;

use super::arp::ArpPacket;
use super::ethernet::{EthernetFrame, Payload};
use super::icmpv6::Icmpv6Message;
use super::ipv6_extension::UpperLayer;
use super::neighbour_discovery::NeighbourDiscovery;

/// An ARP request or a neighbour solicitation that asks for a neighbour. Probes for one's own address and announcements
/// are none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NeighbourRequest {
    /// The address that is asked for.
    pub target: IpAddr,
}

impl NeighbourRequest {
    /// Reads `frame`. `None` if it asks for no neighbour.
    pub fn parse(frame: &[u8]) -> Option<NeighbourRequest> {
        let untagged = EthernetFrame::parse_untagged(frame).ok()?;
        let target = match untagged.payload().ok()? {
            Payload::Arp(arp) => {
                let is_request = arp.operation == ArpPacket::REQUEST
                    && !arp.is_gratuitous()
                    && !arp.sender.is_unspecified();
                is_request.then_some(arp.target.into())
            }
            Payload::Ipv6(packet) => {
                let Ok(UpperLayer::Whole {
                    payload, offset, ..
                }) = packet.upper_layer()
                else {
                    return None;
                };
                match Icmpv6Message::parse(&packet, payload, offset).ok()? {
                    Icmpv6Message::NeighbourDiscovery(NeighbourDiscovery::Solicitation(
                        solicitation,
                    )) if !packet.source.is_unspecified() => Some(solicitation.target.into()),
                    _ => None,
                }
            }
            Payload::Ipv4(_) | Payload::Other(_) => None,
        };
        target.map(|target| NeighbourRequest { target })
    }

    /// The name of such a message.
    pub const fn name(&self) -> &'static str {
        match self.target {
            IpAddr::V4(_) => "ARP request",
            IpAddr::V6(_) => "neighbour solicitation",
        }
    }
}

impl fmt::Display for NeighbourRequest {
    /// Formats it as `ARP request for 10.77.0.9`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.name(), self.target)
    }
}
