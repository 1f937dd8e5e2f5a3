//! DHCP messages as a client reads and sends them (RFC 2131, RFC 2132).

use std::fmt;
use std::net::Ipv4Addr;

use super::dhcp_options::{BadLength, COOKIE, ClasslessRoute, DhcpOptions};
use super::error::{Layer, ParseError};
use super::mac::MacAddr;

/// The port that clients listen at.
pub const DHCP_CLIENT_PORT: u16 = 68;
/// The port that servers listen at.
pub const DHCP_SERVER_PORT: u16 = 67;
/// Routes of one message that are read; what a server gives beyond them is left.
pub const MAX_CLASSLESS_ROUTES: usize = 256;

/// Bytes before the options, with the cookie.
const HEADER_LENGTH: usize = 240;
const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;
const HARDWARE_ETHERNET: u8 = 1;
const MAC_LENGTH: u8 = 6;

const SUBNET_MASK: u8 = 1;
const ROUTER: u8 = 3;
const INTERFACE_MTU: u8 = 26;
const REQUESTED_ADDRESS: u8 = 50;
const LEASE_TIME: u8 = 51;
const MESSAGE_TYPE: u8 = 53;
const SERVER_IDENTIFIER: u8 = 54;
const PARAMETER_REQUEST_LIST: u8 = 55;
const MAXIMUM_MESSAGE_SIZE: u8 = 57;
const RENEWAL_TIME: u8 = 58;
const REBINDING_TIME: u8 = 59;
const CLIENT_IDENTIFIER: u8 = 61;
const CLASSLESS_ROUTES: u8 = 121;
const END: u8 = 255;

/// The options that a client asks for. The classless routes stand before the router (RFC 3442): a server without room for
/// both gives the first.
const WANTED: [u8; 6] = [
    SUBNET_MASK,
    CLASSLESS_ROUTES,
    ROUTER,
    INTERFACE_MTU,
    RENEWAL_TIME,
    REBINDING_TIME,
];

/// The type of a message (RFC 2132 section 9.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DhcpKind {
    /// A client looks for servers.
    Discover = 1,
    /// A server offers an address.
    Offer,
    /// A client asks for an address, or to keep the one that it has.
    Request,
    /// A client says that somebody else has the address.
    Decline,
    /// A server grants an address.
    Ack,
    /// A server refuses an address.
    Nak,
    /// A client gives its address back.
    Release,
    /// A client that has an address asks for everything else.
    Inform,
}

impl DhcpKind {
    const ALL: [DhcpKind; 8] = [
        DhcpKind::Discover,
        DhcpKind::Offer,
        DhcpKind::Request,
        DhcpKind::Decline,
        DhcpKind::Ack,
        DhcpKind::Nak,
        DhcpKind::Release,
        DhcpKind::Inform,
    ];
}

impl fmt::Display for DhcpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DhcpKind::Discover => "discover",
            DhcpKind::Offer => "offer",
            DhcpKind::Request => "request",
            DhcpKind::Decline => "decline",
            DhcpKind::Ack => "ack",
            DhcpKind::Nak => "nak",
            DhcpKind::Release => "release",
            DhcpKind::Inform => "inform",
        })
    }
}

/// A message of a server.
#[derive(Clone, PartialEq, Eq, Debug)]
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
    /// Classless static routes, at most [`MAX_CLASSLESS_ROUTES`]. They stand instead of the router (RFC 3442).
    pub routes: Option<Vec<ClasslessRoute>>,
    /// The largest IP datagram that the link carries, in bytes.
    pub mtu: Option<u16>,
    /// For how long, in seconds; all ones for ever.
    pub lease_time: Option<u32>,
    /// After how many seconds to ask the same server for longer (T1).
    pub renewal_time: Option<u32>,
    /// After how many seconds to ask any server for longer (T2).
    pub rebinding_time: Option<u32>,
}

impl DhcpReply {
    /// Reads a message, which lies `offset` bytes into the frame. An option that the client can do without counts as not
    /// given when its length is wrong.
    ///
    /// # Errors
    /// When it is none, not a server's, or not about Ethernet; when its options run over the end; when its type, its
    /// server identifier or its lease time is not as long as it has to be; when its mask is none.
    pub fn parse(message: &[u8], offset: usize) -> Result<DhcpReply, ParseError> {
        let field = |name| ParseError::field(Layer::Dhcp, offset, name);
        let header = message.first_chunk::<HEADER_LENGTH>().ok_or_else(|| {
            ParseError::truncated(Layer::Dhcp, offset, HEADER_LENGTH, message.len())
        })?;
        let [operation, hardware, mac_length, ..] = *header;
        if operation != BOOT_REPLY {
            return Err(field("operation"));
        }
        if (hardware, mac_length) != (HARDWARE_ETHERNET, MAC_LENGTH) {
            return Err(field("hardware type"));
        }
        let options = DhcpOptions::find(message).ok_or_else(|| field("cookie"))?;
        let options = options.map_err(|_| field("options"))?;
        let number = |code| {
            options
                .fixed(code)
                .map(|value| value.map(u32::from_be_bytes))
        };
        let address = |code| {
            options
                .fixed::<4>(code)
                .map(|value| value.map(Ipv4Addr::from))
        };
        let or_none = |value: Result<Option<u32>, BadLength>| value.ok().flatten();
        let prefix_length = match or_none(number(SUBNET_MASK)) {
            Some(mask) if mask.leading_ones() + mask.trailing_zeros() == 32 => {
                Some(mask.leading_ones() as u8)
            }
            Some(_) => return Err(field("subnet mask")),
            None => None,
        };
        Ok(DhcpReply {
            kind: kind_of(&options).ok_or_else(|| field("message type"))?,
            transaction: u32::from_be_bytes(part(header, 4)),
            client_mac: MacAddr(part(header, 28)),
            your_address: part(header, 16).into(),
            server: address(SERVER_IDENTIFIER).map_err(|_| field("server identifier"))?,
            prefix_length,
            router: address(ROUTER).ok().flatten(),
            routes: options.routes(CLASSLESS_ROUTES, MAX_CLASSLESS_ROUTES),
            mtu: options
                .fixed(INTERFACE_MTU)
                .ok()
                .flatten()
                .map(u16::from_be_bytes),
            lease_time: number(LEASE_TIME).map_err(|_| field("lease time"))?,
            renewal_time: or_none(number(RENEWAL_TIME)),
            rebinding_time: or_none(number(REBINDING_TIME)),
        })
    }
}

/// `N` bytes of the header.
fn part<const N: usize>(header: &[u8; HEADER_LENGTH], start: usize) -> [u8; N] {
    let part = header.get(start..).and_then(|part| part.first_chunk());
    part.copied().unwrap_or([0; N])
}

fn kind_of(options: &DhcpOptions<'_>) -> Option<DhcpKind> {
    let [number] = options.fixed(MESSAGE_TYPE).ok()??;
    DhcpKind::ALL.into_iter().find(|kind| *kind as u8 == number)
}

/// The subject of a message, a client's or a server's, to be shown.
pub(super) struct DhcpSummary {
    kind: DhcpKind,
    address: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    lease_time: Option<u32>,
}

impl DhcpSummary {
    /// Reads `message`. `None` if it is none.
    pub(super) fn of(message: &[u8]) -> Option<DhcpSummary> {
        let header = message.first_chunk::<HEADER_LENGTH>()?;
        let options = DhcpOptions::find(message)?.ok()?;
        let address = |code| options.fixed::<4>(code).ok().flatten().map(Ipv4Addr::from);
        let named = [part(header, 16), part(header, 12)].map(Ipv4Addr::from);
        let mut addresses = address(REQUESTED_ADDRESS).into_iter().chain(named);
        let lease_time = options.fixed(LEASE_TIME).ok().flatten();
        Some(DhcpSummary {
            kind: kind_of(&options)?,
            address: addresses.find(|address| !address.is_unspecified()),
            server: address(SERVER_IDENTIFIER),
            lease_time: lease_time.map(u32::from_be_bytes),
        })
    }
}

impl fmt::Display for DhcpSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DHCP {}", self.kind)?;
        if let Some(address) = self.address {
            write!(f, " {address}")?;
        }
        if let Some(server) = self.server {
            write!(f, ", server {server}")?;
        }
        if let Some(seconds) = self.lease_time {
            write!(f, ", lease {seconds} s")?;
        }
        Ok(())
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
    /// The largest message that it takes, in bytes. Less than [`DhcpRequest::LEAST_MAXIMUM`] is not said: everybody takes
    /// that much, and servers give no more to those who say nothing.
    pub maximum_size: u16,
}

impl DhcpRequest {
    /// The largest message that every client takes (RFC 2132 section 9.10).
    pub const LEAST_MAXIMUM: u16 = 576;
    /// Bytes that a message takes: BOOTP has that many, and every server takes them (RFC 1542 section 2.1).
    pub const LENGTH: usize = 300;

    /// Writes the message at the start of `buffer`, and returns its length. `None` when the buffer is too short.
    pub fn write(&self, buffer: &mut [u8]) -> Option<usize> {
        let message = buffer.get_mut(..Self::LENGTH)?;
        message.fill(0);
        let mac = self.client_mac.0;
        let mut put = |at: usize, bytes: &[u8]| {
            message
                .get_mut(at..at + bytes.len())?
                .copy_from_slice(bytes);
            Some(at + bytes.len())
        };
        put(0, &[BOOT_REQUEST, HARDWARE_ETHERNET, MAC_LENGTH])?;
        put(4, &self.transaction.to_be_bytes())?;
        // The flags behind it stay 0. A VM takes what comes to its hardware address, whatever the IP address: nobody else
        // need hear the answer.
        put(8, &self.seconds.to_be_bytes())?;
        put(12, &self.client_address.octets())?;
        put(28, &mac)?;
        let mut end = put(236, &COOKIE)?;
        let mut option = |code: u8, content: &[u8]| {
            end = put(end, &[code, content.len() as u8])?;
            end = put(end, content)?;
            Some(())
        };
        option(MESSAGE_TYPE, &[self.kind as u8])?;
        let [a, b, c, d, e, f] = mac;
        option(CLIENT_IDENTIFIER, &[HARDWARE_ETHERNET, a, b, c, d, e, f])?;
        if let Some(address) = self.requested {
            option(REQUESTED_ADDRESS, &address.octets())?;
        }
        if let Some(server) = self.server {
            option(SERVER_IDENTIFIER, &server.octets())?;
        }
        if matches!(self.kind, DhcpKind::Discover | DhcpKind::Request) {
            option(PARAMETER_REQUEST_LIST, &WANTED)?;
            if self.maximum_size >= Self::LEAST_MAXIMUM {
                option(MAXIMUM_MESSAGE_SIZE, &self.maximum_size.to_be_bytes())?;
            }
        }
        put(end, &[END])?;
        Some(Self::LENGTH)
    }
}
