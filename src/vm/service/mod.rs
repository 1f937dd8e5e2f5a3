//! Services that a VM has only if it is told to, and whose state lasts longer than a frame.

mod stamp_reflector;
mod tcp_listener;

use std::net::IpAddr;

pub use self::stamp_reflector::{MAX_STAMP_SESSIONS, StampMode};
pub(super) use self::stamp_reflector::{StampReflector, StampSession};

use self::tcp_listener::TcpListener;
use super::ip::Service;
use super::{Vm, VmConfig};
use crate::wire::{STAMP_PORT, UDP_ECHO_PORT, UdpDatagram};

/// The services of one VM.
#[derive(Default, Debug)]
pub(super) struct Services {
    stamp: Option<StampReflector>,
    tcp: Option<TcpListener>,
}

impl Services {
    /// `None` for a VM without any, as most are.
    pub(super) fn new(config: &VmConfig) -> Option<Services> {
        let stamp = config.stamp_reflector.map(StampReflector::new);
        let listener = |port| TcpListener::new(port, fastrand::Rng::with_seed(config.seed).u64(..));
        let tcp = config.tcp_listen.map(listener);
        (stamp.is_some() || tcp.is_some()).then_some(Services { stamp, tcp })
    }
}

impl Vm {
    /// The service that a datagram from `source` asks for; `None` if nobody listens at its port.
    pub(super) fn udp_service(
        &self,
        source: IpAddr,
        datagram: &UdpDatagram<'_>,
    ) -> Option<Service> {
        match datagram.destination_port {
            UDP_ECHO_PORT => self.ipv4.udp_echo.then_some(Service::UdpEcho),
            STAMP_PORT => self.stamp_service(source, datagram),
            _ => None,
        }
    }
}

/// Tells if what comes from `port` may be the answer of a service, which is never answered: two services would send one datagram to
/// and fro for ever, if somebody forged the first.
pub(super) const fn is_of_service(port: u16) -> bool {
    matches!(port, UDP_ECHO_PORT | STAMP_PORT)
}
