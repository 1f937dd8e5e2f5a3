//! IPv4 (RFC 791, RFC 1122): the datagrams that a VM takes, and the state that it keeps.

pub(super) mod arp;
mod conflict_detection;
pub(super) mod dhcp;
pub(super) mod fragment;
pub(super) mod icmp;
mod icmp_error;
pub(super) mod igmp;
mod responder;
mod route;
pub(super) mod tcp;
pub(super) mod udp;

use std::net::Ipv4Addr;
use std::time::Duration;

use self::conflict_detection::Acd;
pub use self::conflict_detection::{
    ANNOUNCE_INTERVAL, ANNOUNCE_WAIT, ANNOUNCEMENTS, DEFEND_INTERVAL, PROBE_MAX, PROBE_MIN,
    PROBE_WAIT, PROBES,
};
use self::dhcp::DhcpClient;
pub use self::fragment::REASSEMBLY_TIMEOUT;
use self::igmp::Igmp;
use super::fragment::Reassembly;
use super::ip::{Disposition, ErrorMessage, Input, Received, is_shared};
use super::limiter::ErrorLimiter;
use super::path_mtu::{IPV4_MINIMUM_PATH_MTU, PathMtus};
use super::redirects::Redirects;
use super::{Addressing, Ignored, Ipv4Interface, PROTOCOLS, SessionId, Vm, VmConfig};
use crate::time::Instant;
use crate::wire::{
    ALL_HOSTS, EchoTemplate, IcmpErrorKind, Ipv4Packet, MacAddr, OptionsFault, PROTOCOL_IGMP,
    check_options,
};

/// Bytes of what a VM in a group has more, beside the groups.
#[cfg(test)]
pub(super) const IGMP_BYTES: usize = size_of::<Igmp>();

/// What was found out for the last plain echo of each kind, and is so until a time at least: nothing but a frame out of the
/// ordinary, a deadline, or the program changes it, and each of these forgets it.
#[derive(Default, Debug)]
pub(super) struct Shortcuts {
    /// An asker and its MAC address, to which answers go straight back.
    asker: Option<(Ipv4Addr, MacAddr)>,
    /// The requests of the session that was the last to send one. Boxed: most VMs of a large lab only answer.
    pub(super) requests: Option<Box<Requests>>,
}

/// The requests of one session, which get to their destination in one piece.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) session: SessionId,
    /// The neighbour to which they are handed is taken for reachable until then.
    pub(super) until: Instant,
    pub(super) template: EchoTemplate,
    /// One who has replied to requests of the VM, and its MAC address: another station, which may be who it says.
    pub(super) replier: Option<(Ipv4Addr, MacAddr)>,
}

/// The state of a VM on IPv4.
#[derive(Debug)]
pub(super) struct Ipv4 {
    acd: Acd,
    /// Boxed: most VMs have none.
    dhcp: Option<Box<DhcpClient>>,
    /// It asks if somebody else has an address before it uses it.
    probe: bool,
    /// How long after it has its address it announces it, if at all.
    announce: Option<Duration>,
    /// It sends back what comes to UDP port 7.
    pub(super) udp_echo: bool,
    /// Nothing before the first fragment.
    pub(super) fragments: Option<Box<Reassembly>>,
    /// Boxed: most VMs join no group.
    igmp: Option<Box<Igmp>>,
    redirects: Redirects<Ipv4Addr>,
    path_mtus: PathMtus<Ipv4Addr>,
    pub(super) shortcuts: Shortcuts,
    limiter: ErrorLimiter,
    /// The largest datagram that the link carries, as a server has it, if the interface takes more.
    link_mtu: Option<u16>,
    /// Of the next datagram.
    identification: u16,
}

impl Ipv4 {
    /// The state of a VM that starts at `now`.
    pub(super) fn new(now: Instant, vm: &VmConfig, random: &mut fastrand::Rng) -> Ipv4 {
        let config = &vm.ipv4;
        let mut acd = Acd::none();
        if let Addressing::Static(interface) = config.addressing {
            if config.probe {
                acd.probe(interface, now + PROBE_WAIT.mul_f64(random.f64()));
            } else {
                acd.take(interface, config.announce.map(|delay| now + delay));
            }
        }
        let dhcp = match config.addressing {
            Addressing::Static(_) => None,
            Addressing::Dhcp => Some(Box::new(DhcpClient::new(now, vm.mac, vm.mtu, random))),
        };
        Ipv4 {
            acd,
            dhcp,
            probe: config.probe,
            announce: config.announce,
            udp_echo: config.udp_echo,
            fragments: None,
            igmp: None,
            redirects: Redirects::new(),
            path_mtus: PathMtus::new(),
            shortcuts: Shortcuts::default(),
            limiter: ErrorLimiter::default(),
            link_mtu: None,
            identification: 0,
        }
    }

    /// The address and network in use.
    pub(super) fn interface(&self) -> Option<&Ipv4Interface> {
        self.acd.interface()
    }

    /// The address that is tried.
    pub(super) fn tentative(&self) -> Option<Ipv4Addr> {
        self.acd.tentative()
    }

    /// The largest datagram that the link carries, when the interface takes up to `interface` bytes.
    pub(super) fn mtu(&self, interface: u16) -> u16 {
        self.link_mtu.unwrap_or(interface)
    }

    /// The largest datagram that the link and every path carry.
    pub(super) fn least_mtu(&self, interface: u16) -> u16 {
        self.mtu(interface).min(self.path_mtus.least())
    }

    /// The largest datagram that the path to `destination` carries.
    pub(super) fn path_mtu(&self, now: Instant, destination: Ipv4Addr, interface: u16) -> u16 {
        self.path_mtus.get(now, destination, self.mtu(interface))
    }

    /// Takes a router's word that the path to `destination` carries `mtu` bytes only.
    fn lower_path_mtu(&mut self, now: Instant, destination: Ipv4Addr, mtu: u16, interface: u16) {
        let (mtu, link) = (mtu.max(IPV4_MINIMUM_PATH_MTU), self.mtu(interface));
        self.path_mtus.lower(now, destination, mtu, link);
    }

    /// Tells if it lacks an address that it may come by: it tries one, or looks for a DHCP server.
    pub(super) fn is_configuring(&self) -> bool {
        self.interface().is_none() && (self.dhcp.is_some() || self.tentative().is_some())
    }

    /// The identification of the next datagram that this VM makes.
    pub(super) fn next_identification(&mut self) -> u16 {
        self.identification = self.identification.wrapping_add(1);
        self.identification
    }
}

impl Vm {
    /// Looks at a datagram, whose frame is `frame`.
    pub(super) fn receive_ipv4(
        &mut self,
        now: Instant,
        frame: &[u8],
        source_mac: MacAddr,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Disposition, Ignored> {
        let datagram = Received {
            source_mac,
            is_shared: is_shared(frame),
            packet,
            protocol: packet.protocol,
            offset: packet.payload_offset,
            payload: packet.payload,
        };
        if !packet.is_fragment {
            for protocol in PROTOCOLS {
                if let Input::AnyIpv4(accepts, receive) = protocol.input
                    && accepts(self, &datagram)
                {
                    return receive(self, now, &datagram);
                }
            }
        }
        let interface = self.ipv4.interface().ok_or(Ignored::OtherAddress)?;
        // Broadcasts are nobody's business here: echo requests to all are not answered, as in Linux
        // (`icmp_echo_ignore_broadcasts`), and no service listens to all.
        if packet.destination != interface.address && !self.is_for_group(packet) {
            return Err(Ignored::OtherAddress);
        }
        // A switch that asks for members may have no address (RFC 4541 section 2.1.1).
        let is_from_switch = packet.source.is_unspecified()
            && packet.protocol == PROTOCOL_IGMP
            && packet.destination.is_multicast();
        let may_be_sender = is_from_switch || interface.may_be_sender(packet.source);
        if !may_be_sender || !self.is_other_station(source_mac) {
            return Err(Ignored::BadSource);
        }
        let refuse = |ignored, kind, pointer: u8| {
            Disposition::Error(ErrorMessage {
                ignored,
                destination: packet.source.into(),
                source: packet.destination.into(),
                kind,
                parameter: pointer.into(),
            })
        };
        match check_options(packet.options) {
            Ok(()) => {}
            Err(OptionsFault::SourceRoute) => return Err(Ignored::Ipv4Options),
            Err(OptionsFault::Problem(pointer)) => {
                let kind = IcmpErrorKind::PARAMETER_PROBLEM;
                return Ok(refuse(Ignored::Ipv4Options, kind, pointer));
            }
        }
        if packet.is_fragment {
            return self.receive_ipv4_fragment(now, frame, packet);
        }
        for protocol in PROTOCOLS {
            if let Input::Ipv4(accepts, receive) = protocol.input
                && accepts(self, &datagram)
            {
                return receive(self, now, &datagram);
            }
        }
        let ignored = Ignored::Protocol(packet.protocol);
        Ok(refuse(ignored, IcmpErrorKind::PROTOCOL_UNREACHABLE, 0))
    }

    /// Tells if a datagram goes to a group that the VM has joined, or is for IGMP's sake alone to that of all hosts.
    fn is_for_group(&self, packet: &Ipv4Packet<'_>) -> bool {
        let Some(igmp) = &self.ipv4.igmp else {
            return false;
        };
        igmp.is_member(packet.destination)
            || packet.destination == ALL_HOSTS && packet.protocol == PROTOCOL_IGMP
    }
}
