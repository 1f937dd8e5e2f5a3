//! Address resolution for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use etherparse::{ArpEthIpv4Packet, ArpHardwareId, ArpOperation, ArpPacketSlice, EtherType};

use super::error::{Layer, ParseError};
use super::ethernet::{self, ETHERNET_HEADER_LENGTH};
use super::mac::MacAddr;

/// Bytes of a frame that carries one ARP packet.
pub const ARP_FRAME_LENGTH: usize = ETHERNET_HEADER_LENGTH + ArpEthIpv4Packet::LEN;

/// A packet's fields, in the words of RFC 826.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArpPacket {
    /// 1 is a request ("who has"), 2 a reply ("is at"); others exist (RFC 903, 2390).
    pub operation: u16,
    /// The sender's hardware address.
    pub sender_mac: MacAddr,
    /// The sender's protocol address; `0.0.0.0` in a probe (RFC 5227).
    pub sender: Ipv4Addr,
    /// The target's hardware address; zero in a request.
    pub target_mac: MacAddr,
    /// The target's protocol address.
    pub target: Ipv4Addr,
}

impl ArpPacket {
    /// `ares_op$REQUEST`
    pub const REQUEST: u16 = ArpOperation::REQUEST.0;
    /// `ares_op$REPLY`
    pub const REPLY: u16 = ArpOperation::REPLY.0;
    /// The request of reverse ARP (RFC 903), which asks for the address of the target's hardware address.
    pub const REVERSE_REQUEST: u16 = 3;

    /// A request of `sender`, which is at `mac`, for `target`: with an unspecified sender a probe, for the sender itself an
    /// announcement (RFC 5227).
    pub const fn request(mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> ArpPacket {
        ArpPacket {
            operation: ArpPacket::REQUEST,
            sender_mac: mac,
            sender,
            target_mac: MacAddr::ZERO,
            target,
        }
    }

    /// Tells if it announces where its sender is: a request for the sender's own address (RFC 5227 section 2.3), or a reply
    /// about it that is for nobody else, as other systems send it.
    pub fn is_gratuitous(&self) -> bool {
        self.sender == self.target
            && (self.operation == Self::REQUEST || self.target_mac == self.sender_mac)
    }

    /// Reads the packet at the start of `bytes`, which lie `offset` bytes into the frame. Padding after it is ignored.
    ///
    /// # Errors
    /// When bytes are missing, or the packet is not about IPv4 on Ethernet.
    pub fn parse(bytes: &[u8], offset: usize) -> Result<Self, ParseError> {
        let field = |name| ParseError::field(Layer::Arp, offset, name);
        let packet = ArpPacketSlice::from_slice(bytes)
            .map_err(|e| ParseError::truncated(Layer::Arp, offset, e.required_len, e.len))?;
        if packet.hw_addr_type() != ArpHardwareId::ETHERNET {
            return Err(field("hardware type"));
        }
        if packet.proto_addr_type() != EtherType::IPV4 {
            return Err(field("protocol type"));
        }
        let mac = |bytes: &[u8]| {
            bytes
                .try_into()
                .map(MacAddr)
                .map_err(|_| field("hardware address length"))
        };
        let ip = |bytes: &[u8]| {
            <[u8; 4]>::try_from(bytes)
                .map(Ipv4Addr::from)
                .map_err(|_| field("protocol address length"))
        };
        Ok(ArpPacket {
            operation: packet.operation().0,
            sender_mac: mac(packet.sender_hw_addr())?,
            sender: ip(packet.sender_protocol_addr())?,
            target_mac: mac(packet.target_hw_addr())?,
            target: ip(packet.target_protocol_addr())?,
        })
    }

    /// Builds the frame that carries this packet, from `sender_mac` to `destination`, at the start of `buffer`.
    ///
    /// Returns the frame's length, [`ARP_FRAME_LENGTH`], or `None` when the buffer is shorter.
    pub fn write(&self, destination: MacAddr, buffer: &mut [u8]) -> Option<usize> {
        self.write_as(EtherType::ARP, destination, buffer)
    }

    fn write_as(
        &self,
        ether_type: EtherType,
        destination: MacAddr,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let rest = ethernet::write_header(buffer, destination, self.sender_mac, ether_type)?;
        let packet = ArpEthIpv4Packet {
            operation: ArpOperation(self.operation),
            sender_mac: self.sender_mac.0,
            sender_ipv4: self.sender.octets(),
            target_mac: self.target_mac.0,
            target_ipv4: self.target.octets(),
        };
        rest.get_mut(..ArpEthIpv4Packet::LEN)?
            .copy_from_slice(&packet.to_bytes());
        Some(ARP_FRAME_LENGTH)
    }
}

/// Builds the broadcast frame that carries `packet` as reverse ARP (RFC 903), at the start of `buffer`. Returns its length, 60
/// bytes as QEMU sends it, or `None` when the buffer is shorter.
pub fn rarp_frame(packet: &ArpPacket, buffer: &mut [u8]) -> Option<usize> {
    let frame = buffer.get_mut(..RARP_FRAME_LENGTH)?;
    frame.fill(0);
    packet.write_as(EtherType(0x8035), MacAddr::BROADCAST, frame)?;
    Some(RARP_FRAME_LENGTH)
}

/// Bytes of a frame with a reverse ARP packet, padded to the least that Ethernet takes, the check sequence left out.
const RARP_FRAME_LENGTH: usize = 60;
