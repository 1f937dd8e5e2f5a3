//! DHCPv6 messages as a client reads and sends them (RFC 8415 section 8 and 21).

use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use super::dhcpv6_options::{
    CLIENT_IDENTIFIER, Dhcpv6Options, ELAPSED_TIME, IA_ADDRESS, IA_ADDRESS_LENGTH, IA_NA,
    IA_NA_LENGTH, OPTION_REQUEST, OptionWriter, PREFERENCE, RAPID_COMMIT, SERVER_IDENTIFIER,
    SOLICIT_MAX, STATUS_CODE, write_association,
};
use super::error::{Layer, ParseError};
use super::mac::MacAddr;

/// The port that clients listen at.
pub const DHCPV6_CLIENT_PORT: u16 = 546;
/// The port that servers and relays listen at.
pub const DHCPV6_SERVER_PORT: u16 = 547;
/// All servers and relays of the link: `ff02::1:2` (`All_DHCP_Relay_Agents_and_Servers`).
pub const ALL_DHCPV6_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// Identity associations of one message that are read, and addresses of one of them; what a server gives beyond that is
/// left.
pub const MAX_ASSOCIATIONS: usize = 8;

/// Bytes before the options: type and transaction.
const HEADER_LENGTH: usize = 4;
/// Lengths of an identifier of a client or server: two bytes of type, and 1 to 128 more (RFC 8415 section 11.1).
const DUID_LENGTHS: std::ops::RangeInclusive<usize> = 3..=130;
/// Type of an identifier that is a hardware address (DUID-LL, section 11.4), and the type of Ethernet in it.
const DUID_LL_ETHERNET: [u8; 4] = [0, 3, 0, 1];
/// Limits of the longest wait between solicitations that a server may set, in seconds (section 21.24).
const SOLICIT_MAX_LIMITS: std::ops::RangeInclusive<u32> = 60..=86_400;

/// The type of a message between a client and a server (RFC 8415 section 7.3). Those of relays are built otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dhcpv6Kind {
    /// A client looks for servers.
    Solicit = 1,
    /// A server offers addresses.
    Advertise,
    /// A client asks a server for addresses.
    Request,
    /// A client asks if its addresses fit the link.
    Confirm,
    /// A client asks the server that granted its addresses for longer.
    Renew,
    /// A client asks any server for longer.
    Rebind,
    /// A server answers: it grants addresses, or refuses them.
    Reply,
    /// A client gives its addresses back.
    Release,
    /// A client says that somebody else has an address.
    Decline,
    /// A server would have the client ask again.
    Reconfigure,
    /// A client that needs no address asks for everything else.
    InformationRequest,
}

impl Dhcpv6Kind {
    const ALL: [Dhcpv6Kind; 11] = [
        Dhcpv6Kind::Solicit,
        Dhcpv6Kind::Advertise,
        Dhcpv6Kind::Request,
        Dhcpv6Kind::Confirm,
        Dhcpv6Kind::Renew,
        Dhcpv6Kind::Rebind,
        Dhcpv6Kind::Reply,
        Dhcpv6Kind::Release,
        Dhcpv6Kind::Decline,
        Dhcpv6Kind::Reconfigure,
        Dhcpv6Kind::InformationRequest,
    ];

    fn of(number: u8) -> Option<Dhcpv6Kind> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

impl fmt::Display for Dhcpv6Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dhcpv6Kind::Solicit => "solicit",
            Dhcpv6Kind::Advertise => "advertise",
            Dhcpv6Kind::Request => "request",
            Dhcpv6Kind::Confirm => "confirm",
            Dhcpv6Kind::Renew => "renew",
            Dhcpv6Kind::Rebind => "rebind",
            Dhcpv6Kind::Reply => "reply",
            Dhcpv6Kind::Release => "release",
            Dhcpv6Kind::Decline => "decline",
            Dhcpv6Kind::Reconfigure => "reconfigure",
            Dhcpv6Kind::InformationRequest => "information-request",
        })
    }
}

/// The outcome of a request as a server has it (RFC 8415 section 21.13): of all of it, of an identity association, or of
/// an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Dhcpv6Status(pub u16);

impl Dhcpv6Status {
    /// Success, or no status code at all.
    pub const SUCCESS: Dhcpv6Status = Dhcpv6Status(0);
    /// The server has no address to give.
    pub const NO_ADDRESSES: Dhcpv6Status = Dhcpv6Status(2);
    /// The server knows nothing of what the client has.
    pub const NO_BINDING: Dhcpv6Status = Dhcpv6Status(3);
    /// The addresses do not fit the link.
    pub const NOT_ON_LINK: Dhcpv6Status = Dhcpv6Status(4);
}

impl fmt::Display for Dhcpv6Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "Success",
            1 => "UnspecFail",
            2 => "NoAddrsAvail",
            3 => "NoBinding",
            4 => "NotOnLink",
            5 => "UseMulticast",
            other => return write!(f, "status {other}"),
        })
    }
}

/// A message of a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dhcpv6Reply<'a> {
    /// Advertisement, reply, …
    pub kind: Dhcpv6Kind,
    /// Which of the client's transactions it answers; 24 bits.
    pub transaction: u32,
    /// The client that it is for, as that names itself.
    pub client: Option<&'a [u8]>,
    /// The server that says it.
    pub server: Option<&'a [u8]>,
    /// How much the server wants to be chosen: 255 for at once.
    pub preference: u8,
    /// The outcome of all of it.
    pub status: Dhcpv6Status,
    /// The server has granted the addresses that it was solicited for, without a request.
    pub is_rapid: bool,
    /// The longest wait between two solicitations, if the server sets one.
    pub solicit_max: Option<Duration>,
    /// The identity associations for addresses that are not temporary, at most [`MAX_ASSOCIATIONS`].
    pub associations: Vec<Dhcpv6Association>,
}

/// Addresses that are given together (`IA_NA`, RFC 8415 section 21.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dhcpv6Association {
    /// By which the client tells it from others (`IAID`).
    pub id: u32,
    /// After how many seconds to ask the same server for longer (T1); 0 for as the client likes, all ones for never.
    pub renewal_time: u32,
    /// After how many seconds to ask any server for longer (T2).
    pub rebinding_time: u32,
    /// The outcome of it.
    pub status: Dhcpv6Status,
    /// Its addresses, at most [`MAX_ASSOCIATIONS`].
    pub addresses: Vec<Dhcpv6Address>,
}

/// An address and its lifetimes in seconds, all ones for ever (RFC 8415 section 21.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dhcpv6Address {
    /// The address.
    pub address: Ipv6Addr,
    /// For how long it may be the source of something new.
    pub preferred_lifetime: u32,
    /// For how long it may be used at all; 0 for no longer.
    pub valid_lifetime: u32,
    /// The outcome of it.
    pub status: Dhcpv6Status,
}

impl<'a> Dhcpv6Reply<'a> {
    /// Reads a message, which lies `offset` bytes into the frame. An option that the client can do without counts as not
    /// given when its length is wrong.
    ///
    /// # Errors
    /// When it is too short, or of no type that clients and servers exchange; when options run over the end of what they
    /// lie in; when an identifier, an identity association, an address or a status code is not as long as it has to be.
    pub fn parse(message: &'a [u8], offset: usize) -> Result<Dhcpv6Reply<'a>, ParseError> {
        let field = |name| ParseError::field(Layer::Dhcp, offset, name);
        let (header, options) = message.split_first_chunk().ok_or_else(|| {
            ParseError::truncated(Layer::Dhcp, offset, HEADER_LENGTH, message.len())
        })?;
        let [kind, a, b, c]: [u8; HEADER_LENGTH] = *header;
        let kind = Dhcpv6Kind::of(kind).ok_or_else(|| field("message type"))?;
        let options = Dhcpv6Options::find(options).map_err(|_| field("options"))?;
        let identifier = |code, name| match options.first(code) {
            Some(duid) if !DUID_LENGTHS.contains(&duid.len()) => Err(field(name)),
            duid => Ok(duid),
        };
        let associations = options.all(IA_NA).take(MAX_ASSOCIATIONS);
        let associations = associations.map(|content| association(content).map_err(field));
        let solicit_max = options.fixed(SOLICIT_MAX).map(u32::from_be_bytes);
        Ok(Dhcpv6Reply {
            kind,
            transaction: u32::from_be_bytes([0, a, b, c]),
            client: identifier(CLIENT_IDENTIFIER, "client identifier")?,
            server: identifier(SERVER_IDENTIFIER, "server identifier")?,
            preference: options.fixed(PREFERENCE).map_or(0, |[value]| value),
            status: status(&options).map_err(field)?,
            is_rapid: options.fixed::<0>(RAPID_COMMIT).is_some(),
            solicit_max: solicit_max
                .filter(|seconds| SOLICIT_MAX_LIMITS.contains(seconds))
                .map(|seconds| Duration::from_secs(seconds.into())),
            associations: associations.collect::<Result<_, _>>()?,
        })
    }
}

/// Reads an identity association. The error is the field at fault.
fn association(content: &[u8]) -> Result<Dhcpv6Association, &'static str> {
    let (header, options) = content
        .split_first_chunk::<IA_NA_LENGTH>()
        .ok_or("IA_NA option")?;
    let options = Dhcpv6Options::find(options).map_err(|_| "options in IA_NA")?;
    let addresses = options.all(IA_ADDRESS).take(MAX_ASSOCIATIONS);
    Ok(Dhcpv6Association {
        id: number(header, 0),
        renewal_time: number(header, 4),
        rebinding_time: number(header, 8),
        status: status(&options)?,
        addresses: addresses.map(address).collect::<Result<_, _>>()?,
    })
}

fn address(content: &[u8]) -> Result<Dhcpv6Address, &'static str> {
    let (header, options) = content
        .split_first_chunk::<IA_ADDRESS_LENGTH>()
        .ok_or("IA address option")?;
    let options = Dhcpv6Options::find(options).map_err(|_| "options in IA address")?;
    Ok(Dhcpv6Address {
        address: header.first_chunk().copied().unwrap_or([0; 16]).into(),
        preferred_lifetime: number(header, 16),
        valid_lifetime: number(header, 20),
        status: status(&options)?,
    })
}

/// The status among `options`: success if there is none.
fn status(options: &Dhcpv6Options<'_>) -> Result<Dhcpv6Status, &'static str> {
    match options.first(STATUS_CODE) {
        None => Ok(Dhcpv6Status::SUCCESS),
        Some(content) => {
            let code = content.first_chunk().ok_or("status code")?;
            Ok(Dhcpv6Status(u16::from_be_bytes(*code)))
        }
    }
}

/// The 32 bits of `header` that start at byte `at`.
fn number(header: &[u8], at: usize) -> u32 {
    let bytes = header.get(at..).and_then(|rest| rest.first_chunk());
    bytes.copied().map_or(0, u32::from_be_bytes)
}

/// The identifier of a client: its hardware address (DUID-LL, RFC 8415 section 11.4), which outlives every run.
pub fn dhcpv6_identifier(mac: MacAddr) -> [u8; 10] {
    let [t, u, h, i] = DUID_LL_ETHERNET;
    let [a, b, c, d, e, f] = mac.0;
    [t, u, h, i, a, b, c, d, e, f]
}

/// A message of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dhcpv6Request<'a> {
    /// Solicitation, request, renewal, …
    pub kind: Dhcpv6Kind,
    /// Chosen by the client, to tell the answers to it; 24 bits.
    pub transaction: u32,
    /// The client, which is identified by its hardware address.
    pub client_mac: MacAddr,
    /// The server that it has chosen.
    pub server: Option<&'a [u8]>,
    /// The time since the first message of the transaction.
    pub elapsed: Duration,
    /// The identity association that it is about.
    pub association: u32,
    /// The addresses in it: those that it has, or wants.
    pub addresses: &'a [Ipv6Addr],
}

impl Dhcpv6Request<'_> {
    /// Writes the message at the start of `buffer`, and returns its length. `None` when the buffer is too short.
    pub fn write(&self, buffer: &mut [u8]) -> Option<usize> {
        let [_, a, b, c] = self.transaction.to_be_bytes();
        let header = buffer.first_chunk_mut::<HEADER_LENGTH>()?;
        *header = [self.kind as u8, a, b, c];
        let mut writer = OptionWriter::new(buffer, HEADER_LENGTH);
        writer.option(CLIENT_IDENTIFIER, &[&dhcpv6_identifier(self.client_mac)])?;
        if let Some(server) = self.server {
            writer.option(SERVER_IDENTIFIER, &[server])?;
        }
        let hundredths = u16::try_from(self.elapsed.as_millis() / 10).unwrap_or(u16::MAX);
        writer.option(ELAPSED_TIME, &[&hundredths.to_be_bytes()])?;
        write_association(&mut writer, self.association, self.addresses)?;
        // A message that may be answered by one with a limit for solicitations asks for it (RFC 8415 section 21.24).
        if !matches!(self.kind, Dhcpv6Kind::Release | Dhcpv6Kind::Decline) {
            writer.option(OPTION_REQUEST, &[&SOLICIT_MAX.to_be_bytes()])?;
        }
        Some(writer.length())
    }
}

/// The subject of a message, a client's or a server's, to be shown.
pub(super) struct Dhcpv6Summary<'a>(Dhcpv6Reply<'a>);

impl<'a> Dhcpv6Summary<'a> {
    /// Reads `message`. `None` if it is none.
    pub(super) fn of(message: &'a [u8]) -> Option<Dhcpv6Summary<'a>> {
        Dhcpv6Reply::parse(message, 0).ok().map(Dhcpv6Summary)
    }
}

impl fmt::Display for Dhcpv6Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Dhcpv6Reply {
            kind,
            status,
            associations,
            ..
        } = &self.0;
        write!(f, "DHCPv6 {kind}")?;
        let told = |f: &mut fmt::Formatter<'_>, status: &Dhcpv6Status| match *status {
            Dhcpv6Status::SUCCESS => Ok(()),
            status => write!(f, ", {status}"),
        };
        told(f, status)?;
        for association in associations {
            told(f, &association.status)?;
            for address in &association.addresses {
                write!(f, ", {}", address.address)?;
                if address.valid_lifetime > 0 {
                    write!(f, " for {} s", address.valid_lifetime)?;
                }
                told(f, &address.status)?;
            }
        }
        Ok(())
    }
}
