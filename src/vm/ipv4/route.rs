//! The ways of IPv4 datagrams: to neighbours, and by the gateway to others (RFC 1122 section 3.3.1).

use std::net::Ipv4Addr;

use super::Ipv4;
use crate::vm::Ipv4Interface;
use crate::vm::ip::is_host;

impl Ipv4 {
    /// The neighbour to which a datagram for `destination` is handed. `None` when there is no way there.
    pub(in crate::vm) fn next_hop(&self, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        if destination.is_unspecified() {
            return None;
        }
        self.interface()?.next_hop(destination)
    }
}

impl Ipv4Interface {
    /// The neighbour to which a datagram for `destination` is handed. `None` when there is no way there. The gateway is a
    /// neighbour even outside the network, as clouds have it that lease a /32 to each VM.
    pub fn next_hop(&self, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        if self.is_neighbour(destination) {
            Some(destination)
        } else {
            self.gateway
        }
    }

    /// Tells if another host can have sent a datagram from `source`.
    pub(super) fn may_be_sender(&self, source: Ipv4Addr) -> bool {
        is_host(source) && source != self.address && !self.is_broadcast(source)
    }

    /// Tells if `address` is everybody's on this network: all ones behind the prefix, or everywhere.
    pub fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        let directed = u32::from(self.address) | !self.mask();
        address.is_broadcast() || (self.prefix_length < 31 && u32::from(address) == directed)
    }

    fn is_neighbour(&self, address: Ipv4Addr) -> bool {
        (u32::from(address) ^ u32::from(self.address)) & self.mask() == 0
    }

    fn mask(&self) -> u32 {
        let host_bits = 32 - u32::from(self.prefix_length.min(32));
        u32::MAX.checked_shl(host_bits).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_the_network_goes_to_the_gateway() {
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let table = [
            (16, Some("10.77.0.1"), "10.77.9.9", Some("10.77.9.9")),
            (16, Some("10.77.0.1"), "10.78.0.1", Some("10.77.0.1")),
            (16, None, "10.78.0.1", None),
            (24, Some("10.77.1.1"), "10.78.0.1", Some("10.77.1.1")),
            (32, Some("169.254.1.1"), "10.77.0.3", Some("169.254.1.1")),
            (0, None, "192.0.2.1", Some("192.0.2.1")),
            (32, None, "10.77.0.3", None),
        ];
        for (prefix_length, gateway, destination, next_hop) in table {
            let interface = Ipv4Interface {
                address: ip("10.77.0.2"),
                prefix_length,
                gateway: gateway.map(ip),
            };
            assert_eq!(
                interface.next_hop(ip(destination)),
                next_hop.map(ip),
                "/{prefix_length} {gateway:?} {destination}"
            );
        }
    }

    #[test]
    fn a_broadcast_address_is_told_from_a_hosts() {
        for (prefix_length, address, expected) in [
            (16, [10, 77, 255, 255], true),
            (16, [255; 4], true),
            (16, [10, 77, 0, 255], false),
            (31, [10, 77, 0, 3], false),
            (32, [10, 77, 0, 2], false),
        ] {
            let interface = Ipv4Interface {
                address: Ipv4Addr::new(10, 77, 0, 2),
                prefix_length,
                gateway: None,
            };
            assert_eq!(
                interface.is_broadcast(address.into()),
                expected,
                "{address:?}/{prefix_length}"
            );
        }
    }
}
