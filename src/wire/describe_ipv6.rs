//! One line of text for an IPv6 packet, in the words of `tcpdump`.

use std::fmt;

use etherparse::icmpv6;

use super::describe::{describe_tcp, describe_udp};
use super::dhcpv6::{DHCPV6_CLIENT_PORT, DHCPV6_SERVER_PORT, Dhcpv6Summary};
use super::icmp::Echo;
use super::icmpv6::{Icmpv6Error, Icmpv6Message};
use super::ipv4::PROTOCOL_UDP;
use super::ipv6::{Ipv6Packet, PROTOCOL_ICMPV6};
use super::ipv6_extension::UpperLayer;
use super::mld::VERSION_2_REPORT;
use super::neighbour_discovery::NeighbourDiscovery;
use super::tcp::{PROTOCOL_TCP, TcpSegment};
use super::udp::UdpDatagram;

pub(super) fn describe_ipv6(f: &mut fmt::Formatter<'_>, packet: &Ipv6Packet<'_>) -> fmt::Result {
    write!(f, "IPv6 {} > {}, ", packet.source, packet.destination)?;
    let (protocol, payload, offset) = match packet.upper_layer() {
        Ok(UpperLayer::Whole {
            protocol,
            payload,
            offset,
            ..
        }) => (protocol, payload, offset),
        Ok(UpperLayer::Fragment(fragment)) => {
            let more = if fragment.more_fragments { "+" } else { "" };
            return write!(
                f,
                "fragment {:#010x} of protocol {}, {} bytes at {}{more}",
                fragment.identification,
                fragment.next_header,
                fragment.payload.len(),
                fragment.fragment_offset
            );
        }
        Err(fault) => return write!(f, "extension headers: {fault}"),
    };
    if protocol == PROTOCOL_TCP {
        return describe_tcp(f, TcpSegment::parse_ipv6(packet, payload, offset));
    }
    if protocol == PROTOCOL_UDP {
        return match UdpDatagram::parse_ipv6(packet, payload, offset) {
            Ok(udp) => {
                let ports = [DHCPV6_CLIENT_PORT, DHCPV6_SERVER_PORT];
                let is_dhcp = ports.contains(&udp.destination_port);
                let dhcp = is_dhcp.then(|| Dhcpv6Summary::of(udp.payload)).flatten();
                describe_udp(f, &udp, dhcp)
            }
            Err(error) => write!(f, "malformed: {error}"),
        };
    }
    if protocol != PROTOCOL_ICMPV6 {
        return write!(f, "protocol {protocol}, {} bytes", payload.len());
    }
    match Icmpv6Message::parse(packet, payload, offset) {
        Ok(message) => describe_icmpv6(f, &message),
        Err(error) => write!(f, "malformed: {error}"),
    }
}

fn describe_icmpv6(f: &mut fmt::Formatter<'_>, message: &Icmpv6Message<'_>) -> fmt::Result {
    match message {
        Icmpv6Message::EchoRequest(echo) => describe_echo(f, "request", echo),
        Icmpv6Message::EchoReply(echo) => describe_echo(f, "reply", echo),
        Icmpv6Message::Error(error) => describe_error(f, error),
        Icmpv6Message::NeighbourDiscovery(message) => describe_discovery(f, message),
        Icmpv6Message::MldQuery(query) if query.group.is_unspecified() => {
            f.write_str("multicast listener query for all groups")
        }
        Icmpv6Message::MldQuery(query) => {
            write!(f, "multicast listener query for {}", query.group)
        }
        Icmpv6Message::MldReport(report) => {
            write!(f, "multicast listener report for {}", report.group)
        }
        Icmpv6Message::Other {
            kind: icmpv6::TYPE_MULTICAST_LISTENER_REDUCTION,
            ..
        } => f.write_str("multicast listener done"),
        Icmpv6Message::Other {
            kind: VERSION_2_REPORT,
            ..
        } => f.write_str("multicast listener report v2"),
        Icmpv6Message::Other { kind, code } => write!(f, "ICMPv6 type {kind} code {code}"),
    }
}

fn describe_echo(f: &mut fmt::Formatter<'_>, what: &str, echo: &Echo<'_>) -> fmt::Result {
    write!(
        f,
        "ICMPv6 echo {what} id {} seq {} ({} bytes)",
        echo.identifier,
        echo.sequence,
        echo.payload.len()
    )
}

fn describe_error(f: &mut fmt::Formatter<'_>, error: &Icmpv6Error<'_>) -> fmt::Result {
    let Icmpv6Error {
        kind,
        code,
        parameter,
        ..
    } = *error;
    match kind {
        Icmpv6Error::DESTINATION_UNREACHABLE => {
            write!(f, "ICMPv6 destination unreachable, code {code}")
        }
        Icmpv6Error::PACKET_TOO_BIG => write!(f, "ICMPv6 packet too big, mtu {parameter}"),
        Icmpv6Error::TIME_EXCEEDED => write!(f, "ICMPv6 time exceeded, code {code}"),
        Icmpv6Error::PARAMETER_PROBLEM => write!(
            f,
            "ICMPv6 parameter problem, code {code}, at byte {parameter}"
        ),
        _ => write!(f, "ICMPv6 error type {kind} code {code}"),
    }
}

fn describe_discovery(f: &mut fmt::Formatter<'_>, message: &NeighbourDiscovery<'_>) -> fmt::Result {
    match message {
        NeighbourDiscovery::Redirect(redirect) => {
            let (to, target) = (redirect.destination, redirect.target);
            write!(f, "redirect of {to} to {target}")
        }
        NeighbourDiscovery::RouterSolicitation => f.write_str("router solicitation"),
        NeighbourDiscovery::RouterAdvertisement(router) => {
            write!(f, "router advertisement for {}s", router.router_lifetime)?;
            for prefix in router.prefixes() {
                write!(f, ", prefix {}/{}", prefix.prefix, prefix.length)?;
            }
            Ok(())
        }
        NeighbourDiscovery::Solicitation(solicitation) => {
            write!(f, "neighbour solicitation, who has {}", solicitation.target)
        }
        NeighbourDiscovery::Advertisement(advertisement) => {
            write!(f, "neighbour advertisement, {} is", advertisement.target)?;
            match advertisement.target_link {
                Some(mac) => write!(f, " at {mac}")?,
                None => f.write_str(" where it was")?,
            }
            let flags = [
                (advertisement.router, " router"),
                (advertisement.solicited, " solicited"),
                (advertisement.overrides, " override"),
            ];
            for (_, name) in flags.into_iter().filter(|(set, _)| *set) {
                f.write_str(name)?;
            }
            Ok(())
        }
    }
}
