//! Frames to typed views and back. Pure: bytes in, values out.
//!
//! Parsing goes layer by layer, so that a VM can turn a frame away before it pays for the checksums of what is inside:
//! [`EthernetFrame::parse`], then [`EthernetFrame::payload`], then [`IcmpMessage::parse`]. The codecs are etherparse's;
//! what is here narrows them to what a VM acts on, verifies every checksum, and says where and why a frame is bad.
//!
//! Read RFC 826 (ARP), RFC 791 (IPv4) and RFC 792 (ICMP) first.

mod arp;
mod checksum;
mod describe;
mod error;
mod ethernet;
mod icmp;
mod ipv4;
mod mac;

pub use arp::{ARP_FRAME_LENGTH, ArpPacket};
pub use describe::Describe;
pub use error::{Fault, Layer, ParseError};
pub use ethernet::{ETHERNET_HEADER_LENGTH, EthernetFrame, Payload};
pub use icmp::{
    ECHO_FRAME_OVERHEAD, Echo, EchoRequest, ICMP_ECHO_HEADER_LENGTH, IcmpMessage,
    turn_into_echo_reply,
};
pub use ipv4::{IPV4_HEADER_LENGTH, Ipv4Packet, PROTOCOL_ICMP};
pub use mac::{MacAddr, ParseMacError};

#[cfg(test)]
mod tests;
