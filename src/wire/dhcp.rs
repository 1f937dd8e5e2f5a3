//! DHCP messages as a client reads and sends them (RFC 2131, RFC 2132).

use std::net::Ipv4Addr;

pub use smoltcp::wire::DhcpMessageType as DhcpKind;
use smoltcp::wire::{DhcpPacket, DhcpRepr, EthernetAddress};

use super::error::{Layer, ParseError};
use super::mac::MacAddr;

/// The port that clients listen at.
pub const DHCP_CLIENT_PORT: u16 = smoltcp::wire::DHCP_CLIENT_PORT;
/// The port that servers listen at.
pub const DHCP_SERVER_PORT: u16 = smoltcp::wire::DHCP_SERVER_PORT;

/// Bytes of the smallest message that every server takes: BOOTP has that many (RFC 1542 section 2.1).
const LEAST: usize = 300;

const OPTION_SUBNET_MASK: u8 = 1;
const OPTION_ROUTER: u8 = 3;
const OPTION_RENEWAL_TIME: u8 = 58;
const OPTION_REBINDING_TIME: u8 = 59;

/// A message of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DhcpReply {
    /// Offer, acknowledgement, refusal, …
    pub kind: DhcpKind,
    /// Which of the client's transactions it answers.
    pub transaction: u32,
    /// The client that it is for.
    pub client_mac: MacAddr,
    /// The address that the client may have.
    pub your_address: Ipv4Addr,
    /// The server that says it.
    pub server: Option<Ipv4Addr>,
    /// How many bits of the address name the network.
    pub prefix_length: Option<u8>,
    /// The first router.
    pub router: Option<Ipv4Addr>,
    /// For how long, in seconds; all ones for ever.
    pub lease_time: Option<u32>,
    /// After how many seconds to ask the same server for longer (T1).
    pub renewal_time: Option<u32>,
    /// After how many seconds to ask any server for longer (T2).
    pub rebinding_time: Option<u32>,
}

impl DhcpReply {
    /// Reads a message, which lies `offset` bytes into the frame.
    ///
    /// # Errors
    /// When it is none, or not about Ethernet, or its mask is none.
    pub fn parse(message: &[u8], offset: usize) -> Result<DhcpReply, ParseError> {
        let field = |name| ParseError::field(Layer::Dhcp, offset, name);
        let packet = DhcpPacket::new_checked(message).map_err(|_| field("length"))?;
        let message = DhcpRepr::parse(&packet).map_err(|_| field("message"))?;
        // The codec takes a router only if there is no second one.
        let router = packet
            .options()
            .find(|option| option.kind == OPTION_ROUTER)
            .and_then(|option| option.data.first_chunk::<4>().copied());
        let prefix_length = match message.subnet_mask {
            Some(mask)
                if u32::from(mask).leading_ones() + u32::from(mask).trailing_zeros() == 32 =>
            {
                Some(u32::from(mask).leading_ones() as u8)
            }
            Some(_) => return Err(field("subnet mask")),
            None => None,
        };
        Ok(DhcpReply {
            kind: message.message_type,
            transaction: message.transaction_id,
            client_mac: MacAddr(message.client_hardware_address.0),
            your_address: message.your_ip,
            server: message.server_identifier,
            prefix_length,
            router: router.map(Ipv4Addr::from),
            lease_time: message.lease_duration,
            renewal_time: message.renew_duration,
            rebinding_time: message.rebind_duration,
        })
    }
}

/// A message of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DhcpRequest {
    /// Discovery, request, refusal, …
    pub kind: DhcpKind,
    /// Chosen by the client, to tell the answers to it.
    pub transaction: u32,
    /// The client.
    pub client_mac: MacAddr,
    /// Seconds since it began to look for an address.
    pub seconds: u16,
    /// The address that the client uses, or unspecified.
    pub client_address: Ipv4Addr,
    /// The address that it wants.
    pub requested: Option<Ipv4Addr>,
    /// The server that it has chosen.
    pub server: Option<Ipv4Addr>,
}

impl DhcpRequest {
    /// Bytes that a message takes at most.
    pub const MAX_LENGTH: usize = 320;

    /// Writes the message at the start of `buffer`, and returns its length. `None` when the buffer is too short.
    pub fn write(&self, buffer: &mut [u8]) -> Option<usize> {
        let asks = matches!(self.kind, DhcpKind::Discover | DhcpKind::Request);
        let wanted = [
            OPTION_SUBNET_MASK,
            OPTION_ROUTER,
            OPTION_RENEWAL_TIME,
            OPTION_REBINDING_TIME,
        ];
        let mac = EthernetAddress(self.client_mac.0);
        let message = DhcpRepr {
            message_type: self.kind,
            transaction_id: self.transaction,
            secs: self.seconds,
            client_hardware_address: mac,
            client_ip: self.client_address,
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            // A VM takes what comes to its hardware address, whatever the IP address: nobody else need hear the answer.
            broadcast: false,
            requested_ip: self.requested,
            client_identifier: Some(mac),
            server_identifier: self.server,
            parameter_request_list: asks.then_some(&wanted),
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        let length = message.buffer_len().max(LEAST);
        let space = buffer.get_mut(..length)?;
        space.fill(0);
        message.emit(&mut DhcpPacket::new_unchecked(space)).ok()?;
        Some(length)
    }
}
