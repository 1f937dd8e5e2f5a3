//! One line of text for a frame, in the words of `tcpdump`.

use std::fmt;

use super::arp::ArpPacket;
use super::describe_ipv6::describe_ipv6;
use super::dhcp::{DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpSummary};
use super::error::ParseError;
use super::ethernet::{EthernetFrame, Payload};
use super::icmp::IcmpMessage;
use super::icmp_error::IcmpErrorKind;
use super::igmp::{IgmpMessage, LEAVE, VERSION_3_REPORT};
use super::ipv4::{Ipv4Packet, PROTOCOL_ICMP, PROTOCOL_IGMP, PROTOCOL_UDP};
use super::mac::MacAddr;
use super::probe_head::QuotedProbe;
use super::tcp::{PROTOCOL_TCP, TcpSegment};
use super::udp::UdpDatagram;
use super::vlan::{VLAN_TAG_LENGTH, tags_of};

/// Displays a frame: `02:… > ff:…, ARP request who-has 10.77.0.3 tell 10.77.0.2`.
#[derive(Clone, Copy, Debug)]
pub struct Describe<'a>(pub &'a [u8]);

impl fmt::Display for Describe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = match EthernetFrame::parse(self.0) {
            Ok(frame) => frame,
            Err(error) => return write!(f, "malformed frame of {} bytes ({error})", self.0.len()),
        };
        write!(f, "{} > ", frame.source)?;
        match frame.destination {
            MacAddr::BROADCAST => f.write_str("broadcast, ")?,
            destination => write!(f, "{destination}, ")?,
        }
        let mut tags_length = 0;
        for id in tags_of(self.0) {
            f.write_str(if tags_length == 0 { "VLAN " } else { "." })?;
            write!(f, "{id}")?;
            tags_length += VLAN_TAG_LENGTH;
        }
        if tags_length > 0 {
            f.write_str(", ")?;
        }
        let payload = frame.behind_tags(self.0, tags_length).and_then(|frame| {
            frame.payload().map_err(|error| ParseError {
                offset: error.offset + tags_length,
                ..error
            })
        });
        match payload {
            Ok(Payload::Ipv6(packet)) => describe_ipv6(f, &packet),
            Ok(Payload::Arp(arp)) => describe_arp(f, &arp),
            Ok(Payload::Ipv4(packet)) => describe_ipv4(f, &packet),
            Ok(Payload::Other(ether_type)) => {
                write!(f, "EtherType {ether_type:#06x}, {} bytes", self.0.len())
            }
            Err(error) => write!(f, "malformed: {error}"),
        }
    }
}

fn describe_arp(f: &mut fmt::Formatter<'_>, arp: &ArpPacket) -> fmt::Result {
    match arp.operation {
        ArpPacket::REQUEST => write!(f, "ARP request who-has {} tell {}", arp.target, arp.sender),
        ArpPacket::REPLY => write!(f, "ARP reply {} is-at {}", arp.sender, arp.sender_mac),
        other => write!(f, "ARP operation {other}"),
    }
}

fn describe_ipv4(f: &mut fmt::Formatter<'_>, packet: &Ipv4Packet<'_>) -> fmt::Result {
    write!(f, "IPv4 {} > {}, ", packet.source, packet.destination)?;
    let bytes = packet.payload.len();
    if packet.is_fragment {
        return write!(
            f,
            "fragment of {} at {}{}, {bytes} bytes",
            packet.identification,
            packet.fragment_offset,
            if packet.more_fragments { "+" } else { "" }
        );
    }
    match packet.protocol {
        PROTOCOL_ICMP => describe_icmp(f, packet),
        PROTOCOL_UDP => match UdpDatagram::parse(packet) {
            Ok(udp) => {
                let ports = [DHCP_CLIENT_PORT, DHCP_SERVER_PORT];
                let is_dhcp = ports.contains(&udp.destination_port);
                let dhcp = is_dhcp.then(|| DhcpSummary::of(udp.payload)).flatten();
                describe_udp(f, &udp, dhcp)
            }
            Err(error) => write!(f, "malformed: {error}"),
        },
        PROTOCOL_TCP => describe_tcp(f, TcpSegment::parse(packet)),
        PROTOCOL_IGMP => match IgmpMessage::parse(packet) {
            Ok(message) => describe_igmp(f, &message),
            Err(error) => write!(f, "malformed: {error}"),
        },
        protocol => write!(f, "protocol {protocol}, {bytes} bytes"),
    }
}

/// Describes a datagram, which may be a message of DHCP.
pub(super) fn describe_udp(
    f: &mut fmt::Formatter<'_>,
    udp: &UdpDatagram<'_>,
    dhcp: Option<impl fmt::Display>,
) -> fmt::Result {
    if let Some(dhcp) = dhcp {
        return write!(f, "{dhcp}");
    }
    let (source, destination) = (udp.source_port, udp.destination_port);
    let bytes = udp.payload.len();
    write!(f, "UDP port {source} > {destination} ({bytes} bytes)")
}

fn describe_igmp(f: &mut fmt::Formatter<'_>, message: &IgmpMessage) -> fmt::Result {
    match message {
        IgmpMessage::Query(query) => {
            let version = query.version as u8 + 1;
            write!(f, "IGMPv{version} query")?;
            match query.group.is_unspecified() {
                true => Ok(()),
                false => write!(f, " for {}", query.group),
            }
        }
        IgmpMessage::Report(group) => write!(f, "IGMP report of {group}"),
        IgmpMessage::Other(VERSION_3_REPORT) => f.write_str("IGMPv3 report"),
        IgmpMessage::Other(LEAVE) => f.write_str("IGMP leave"),
        IgmpMessage::Other(kind) => write!(f, "IGMP type {kind:#04x}"),
    }
}

pub(super) fn describe_tcp(
    f: &mut fmt::Formatter<'_>,
    segment: Result<TcpSegment, ParseError>,
) -> fmt::Result {
    match segment {
        Ok(tcp) => {
            f.write_str("TCP ")?;
            let flags = [
                (tcp.is_reset, "reset "),
                (tcp.is_syn, "SYN "),
                (tcp.is_fin, "FIN "),
                (tcp.acknowledgement.is_some() && !tcp.is_reset, "ACK "),
            ];
            for (_, name) in flags.into_iter().filter(|(set, _)| *set) {
                f.write_str(name)?;
            }
            let (source, destination) = (tcp.source_port, tcp.destination_port);
            write!(f, "port {source} > {destination}")
        }
        Err(error) => write!(f, "malformed: {error}"),
    }
}

/// Describes what an error is about.
fn describe_quoted(f: &mut fmt::Formatter<'_>, quoted: &QuotedProbe) -> fmt::Result {
    match (quoted.ports, quoted.number) {
        ((0, 0), Some((identifier, sequence))) => {
            write!(f, " about echo request id {identifier} seq {sequence}")?;
        }
        ((source, destination), _) => write!(f, " about port {source} > {destination}")?,
    }
    write!(f, " to {}", quoted.destination)
}

fn describe_icmp(f: &mut fmt::Formatter<'_>, packet: &Ipv4Packet<'_>) -> fmt::Result {
    let (what, echo) = match IcmpMessage::parse(packet) {
        Ok(IcmpMessage::EchoRequest(echo)) => ("request", echo),
        Ok(IcmpMessage::EchoReply(echo)) => ("reply", echo),
        Ok(IcmpMessage::Error(error)) => {
            let IcmpErrorKind { kind, code } = error.kind;
            write!(f, "ICMP type {kind} code {code}")?;
            return match error.quoted {
                Some(quoted) => describe_quoted(f, &quoted),
                None => Ok(()),
            };
        }
        Ok(IcmpMessage::TimestampRequest) => return f.write_str("ICMP timestamp request"),
        Ok(IcmpMessage::Redirect(redirect)) => {
            let (to, gateway) = (redirect.destination, redirect.gateway);
            return write!(f, "ICMP redirect of {to} to {gateway}");
        }
        Ok(IcmpMessage::Other { kind, code }) => {
            return write!(f, "ICMP type {kind} code {code}");
        }
        Err(error) => return write!(f, "malformed: {error}"),
    };
    write!(
        f,
        "ICMP echo {what} id {} seq {} ({} bytes)",
        echo.identifier,
        echo.sequence,
        echo.payload.len()
    )
}
