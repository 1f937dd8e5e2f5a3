//! The kinds of probes: one row for each, from which options, plans and reports have its name and limits, and a VM its way to
//! build a request. Replies come in by the protocols that carry them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arp::ArpRequest;
use super::datagram::Datagram;
use super::tcp::TcpClose;
use super::{SessionConfig, arp, icmp_echo, stamp, tcp, udp};
use crate::time::Instant;
use crate::vm::{PingId, Transmit, Vm};
use crate::wire::{MacAddr, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP};

/// A ping whose request is to be built.
#[derive(Clone, Copy)]
pub(super) struct ToBuild<'a> {
    pub(super) now: Instant,
    pub(super) ping: PingId,
    pub(super) config: &'a SessionConfig,
    /// Where the frame goes.
    pub(super) mac: MacAddr,
}

/// Builds the request of a ping, which may be larger than the link carries. `None` when the VM has no address, or the buffer is too
/// short.
type Build = fn(&mut Vm, ToBuild<'_>, &mut [u8]) -> Option<Transmit>;

/// One kind of probe.
pub(super) struct Row {
    /// Its name in options and reports.
    pub(super) name: &'static str,
    pub(super) protocol: Over,
    /// The port that is probed where none is chosen; `None` of a kind without ports.
    pub(super) default_port: Option<u16>,
    /// Bytes between the IP header and the payload.
    pub(super) header_length: usize,
    pub(super) has_payload: bool,
    /// The fewest bytes of payload.
    pub(super) least_payload: usize,
    /// Members of a multicast group answer.
    pub(super) is_to_groups: bool,
    /// Where the numbers of its flows begin: 0 of a kind whose frames have 16 bits to tell them apart.
    pub(super) first_flow: u32,
    /// Frames say which session and ping they are of; else it takes the VM to know. Requests that are not numbered ask for the
    /// destination's hardware address themselves.
    pub(super) is_numbered: bool,
    /// Pings of a session that may be on their way at once.
    pub(super) most_outstanding: usize,
    pub(super) build: Build,
}

/// The protocol that a kind is carried by.
#[derive(Clone, Copy)]
pub(super) enum Over {
    /// ICMP, and ICMPv6.
    Icmp,
    /// Ethernet, without IP; neighbour discovery is told by what it asks for all the same.
    Link,
    Udp(Datagram),
    Tcp,
}

impl Over {
    const fn name(self) -> &'static str {
        match self {
            Over::Icmp => "ICMP",
            Over::Link => "ARP",
            Over::Udp(_) => "UDP",
            Over::Tcp => "TCP",
        }
    }

    /// Its number (`IPPROTO_*`) between hosts that have addresses like `address`.
    pub(super) const fn of(self, address: IpAddr) -> Option<u8> {
        match (self, address) {
            (Over::Icmp, IpAddr::V4(_)) => Some(PROTOCOL_ICMP),
            (Over::Icmp, IpAddr::V6(_)) => Some(PROTOCOL_ICMPV6),
            (Over::Link, _) => None,
            (Over::Udp(_), _) => Some(PROTOCOL_UDP),
            (Over::Tcp, _) => Some(PROTOCOL_TCP),
        }
    }
}

/// Declares [`ProbeKind`]; a kind more is one entry more, and a file that has its row.
macro_rules! probe_kinds {
    ($($(#[$doc:meta])* $kind:ident => $module:ident,)*) => {
        /// What a flow sends, and what answers it. The names are stable: options, scenarios and reports have them.
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(rename_all = "lowercase")]
        pub enum ProbeKind {
            $($(#[$doc])* $kind,)*
        }

        impl ProbeKind {
            /// Every kind.
            pub const ALL: &'static [ProbeKind] = &[$(ProbeKind::$kind,)*];
            /// Their names.
            pub const NAMES: &'static [&'static str] = &[$($module::ROW.name,)*];

            pub(super) const fn row(self) -> &'static Row {
                match self {
                    $(ProbeKind::$kind => &$module::ROW,)*
                }
            }
        }
    };
}

probe_kinds! {
    /// ICMP echo (RFC 792, RFC 4443).
    #[default]
    Icmp => icmp_echo,
    /// UDP to a port where whatever is sent comes back (RFC 862).
    Udp => udp,
    /// STAMP test packets, which a reflector sends back (RFC 8762).
    Stamp => stamp,
    /// TCP connections that are opened and closed (RFC 9293).
    Tcp => tcp,
    /// ARP requests, over IPv6 neighbour solicitations (RFC 826, RFC 4861).
    Arp => arp,
}

impl ProbeKind {
    /// The name in options and reports, such as `icmp`.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The port that is probed where none is chosen; `None` of a kind without ports.
    pub const fn default_port(self) -> Option<u16> {
        self.row().default_port
    }

    /// Returns true if probes come from a port and go to one.
    pub const fn has_ports(self) -> bool {
        self.default_port().is_some()
    }

    /// Returns how many pings of a flow may be on their way at once.
    pub const fn most_outstanding(self) -> usize {
        self.row().most_outstanding
    }

    /// Returns true if probes carry a payload.
    pub const fn has_payload(self) -> bool {
        self.row().has_payload
    }

    /// Returns true if frames say which session and ping they are of. Requests that do not ask for the destination's hardware
    /// address themselves.
    pub const fn is_numbered(self) -> bool {
        self.row().is_numbered
    }

    /// Returns true if frames have 16 bits to tell apart the flows of one VM.
    pub const fn is_narrow(self) -> bool {
        self.row().first_flow == 0
    }

    /// Returns true if each flow of a VM to one peer (address and port) has a port of its own.
    pub const fn has_port_by_flow(self) -> bool {
        matches!(self.row().protocol, Over::Udp(_))
    }

    /// The fewest bytes of payload.
    pub const fn least_payload(self) -> usize {
        self.row().least_payload
    }

    /// Returns true if members of a multicast group answer.
    pub const fn is_to_groups(self) -> bool {
        self.row().is_to_groups
    }

    /// The protocol of the headers between the IP header and the payload, such as `UDP`.
    pub const fn protocol_name(self) -> &'static str {
        self.row().protocol.name()
    }

    /// Bytes of the headers between the IP header and the payload.
    pub const fn header_length(self) -> usize {
        self.row().header_length
    }
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ProbeKind {
    type Err = ();

    fn from_str(name: &str) -> Result<ProbeKind, ()> {
        let mut all = ProbeKind::ALL.iter();
        all.find(|kind| kind.name() == name).copied().ok_or(())
    }
}

/// The kind of a session's probes, and its settings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Probe {
    /// The kind.
    pub kind: ProbeKind,
    /// The port that is probed; 0 of a kind without ports.
    pub port: u16,
    /// How a TCP connection is ended.
    pub close: TcpClose,
    /// How long a TCP connection is held before, in milliseconds.
    pub hold_millis: u32,
    /// Who is asked by ARP.
    pub arp_request: ArpRequest,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            0 if self.arp_request == ArpRequest::Unicast => {
                return write!(f, "{}, unicast", self.kind);
            }
            0 => return self.kind.fmt(f),
            port => write!(f, "{} to port {port}", self.kind)?,
        }
        if self.hold_millis > 0 {
            write!(f, ", held for {:?}", self.hold())?;
        }
        match self.close {
            TcpClose::Rst => Ok(()),
            TcpClose::Fin => f.write_str(", closed by FIN"),
        }
    }
}

impl Probe {
    /// ICMP echo.
    pub const ICMP_ECHO: Probe = Probe {
        kind: ProbeKind::Icmp,
        port: 0,
        close: TcpClose::Rst,
        hold_millis: 0,
        arp_request: ArpRequest::Broadcast,
    };

    /// Returns true if probes need no neighbour that is known: they ask everybody.
    pub(super) fn asks_everybody(self) -> bool {
        !self.kind.is_numbered() && self.arp_request == ArpRequest::Broadcast
    }

    /// How long a TCP connection is held before it is ended.
    pub const fn hold(self) -> Duration {
        Duration::from_millis(self.hold_millis as u64)
    }

    /// Probes of `kind` to its usual port.
    pub const fn of(kind: ProbeKind) -> Probe {
        let port = match kind.default_port() {
            Some(port) => port,
            None => 0,
        };
        Probe {
            kind,
            port,
            ..Probe::ICMP_ECHO
        }
    }
}
