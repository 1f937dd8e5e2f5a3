//! Why bytes are not the frame they claim to be.

use std::fmt;

/// The protocol layer a parser was in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Layer {
    /// Ethernet II.
    Ethernet,
    /// ARP (RFC 826).
    Arp,
    /// IPv4 (RFC 791).
    Ipv4,
    /// ICMP (RFC 792).
    Icmp,
    /// IGMP (RFC 3376).
    Igmp,
    /// UDP (RFC 768).
    Udp,
    /// TCP (RFC 9293).
    Tcp,
    /// DHCP (RFC 2131, RFC 8415).
    Dhcp,
    /// IPv6 and its extension headers (RFC 8200).
    Ipv6,
    /// ICMPv6 (RFC 4443), with neighbour discovery (RFC 4861) and listener discovery (RFC 3810).
    Icmpv6,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layer::Ethernet => "Ethernet",
            Layer::Arp => "ARP",
            Layer::Ipv4 => "IPv4",
            Layer::Icmp => "ICMP",
            Layer::Igmp => "IGMP",
            Layer::Udp => "UDP",
            Layer::Tcp => "TCP",
            Layer::Dhcp => "DHCP",
            Layer::Ipv6 => "IPv6",
            Layer::Icmpv6 => "ICMPv6",
        })
    }
}

/// The fault at that layer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// The layer needs `needed` bytes from its start; `present` are there.
    Truncated {
        /// Bytes that the layer or its own length field asks for.
        needed: usize,
        /// Bytes that the frame holds from the start of the layer.
        present: usize,
    },
    /// The checksum does not match the content.
    Checksum,
    /// A field has a value that the protocol does not allow; the field's name.
    Field(&'static str),
}

/// A frame that can't be understood: the layer, where that layer starts in the frame, and the fault.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ParseError {
    /// The layer that is at fault.
    pub layer: Layer,
    /// Where the layer starts, in bytes from the start of the frame.
    pub offset: usize,
    /// The fault there.
    pub fault: Fault,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: ", self.layer, self.offset)?;
        match self.fault {
            Fault::Truncated { needed, present } => {
                write!(f, "{needed} bytes needed, {present} present")
            }
            Fault::Checksum => f.write_str("bad checksum"),
            Fault::Field(field) => write!(f, "bad {field}"),
        }
    }
}

impl std::error::Error for ParseError {}

impl ParseError {
    pub(super) fn truncated(layer: Layer, offset: usize, needed: usize, present: usize) -> Self {
        ParseError {
            layer,
            offset,
            fault: Fault::Truncated { needed, present },
        }
    }

    pub(super) fn field(layer: Layer, offset: usize, field: &'static str) -> Self {
        ParseError {
            layer,
            offset,
            fault: Fault::Field(field),
        }
    }

    pub(super) fn checksum(layer: Layer, offset: usize) -> Self {
        ParseError {
            layer,
            offset,
            fault: Fault::Checksum,
        }
    }
}
