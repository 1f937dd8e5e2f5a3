//! The ways of IPv4 datagrams: to neighbours, and by a gateway to others (RFC 1122 section 3.3.1).
//!
//! The longest prefix wins: a host that a router has redirected, then the routes of a lease and the
//! interface's own network, and the gateway for all the rest. A gateway is a neighbour whatever its address, so that one
//! outside the network works as with a host route to it (`onlink`).

use std::cmp::Reverse;
use std::net::Ipv4Addr;

use super::Ipv4;
use crate::time::Instant;
use crate::vm::ip::{Disposition, is_host};
use crate::vm::{Ignored, Ipv4Interface, Vm};
use crate::wire::{ClasslessRoute, IcmpRedirect};

impl Ipv4 {
    /// The neighbour to which a datagram for `destination` is handed. `None` when there is no way there. A redirect holds for
    /// its time though its router turns out to be dead, as in Linux, where the exception outlives the neighbour entry.
    pub(in crate::vm) fn next_hop(&self, now: Instant, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        let told = self.told_next_hop(destination)?;
        Some(self.redirects.get(now, destination).unwrap_or(told))
    }

    /// The same if it does not depend on the time.
    pub(in crate::vm) fn lasting_next_hop(&self, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        let told = self.told_next_hop(destination);
        told.filter(|_| self.redirects.is_empty())
    }

    /// Hands datagrams for `destination` to `gateway` for a time.
    pub(in crate::vm) fn redirect(
        &mut self,
        now: Instant,
        destination: Ipv4Addr,
        gateway: Ipv4Addr,
    ) {
        self.redirects.set(now, destination, gateway);
    }

    /// The same without a look at redirects.
    fn told_next_hop(&self, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        let interface = self.interface()?;
        let routes = self.dhcp.as_ref().map_or(&[][..], |dhcp| dhcp.routes());
        if destination.is_unspecified() {
            return None;
        }
        if destination.is_multicast() {
            // A group is on the link, whatever the routes say.
            return Some(destination);
        }
        interface.next_hop(routes, destination)
    }
}

impl Ipv4Interface {
    /// The neighbour to which a datagram for `destination` is handed, with `routes` beside the interface's own network and
    /// its gateway. `None` when there is no way there.
    fn next_hop(&self, routes: &[ClasslessRoute], destination: Ipv4Addr) -> Option<Ipv4Addr> {
        let is_neighbour = self.is_neighbour(destination);
        let least = match is_neighbour {
            true => self.prefix_length + 1,
            false => 0,
        };
        match longest(routes, least, destination) {
            Some(route) => Some(route.gateway.unwrap_or(destination)),
            None if is_neighbour => Some(destination),
            None => self.gateway,
        }
    }

    /// Tells if another host can have sent a datagram from `source`.
    pub(super) fn may_be_sender(&self, source: Ipv4Addr) -> bool {
        is_host(source) && source != self.address && !self.is_edge(source)
    }

    /// Tells if `address` is no host's of this network: the network's own, or everybody's.
    fn is_edge(&self, address: Ipv4Addr) -> bool {
        let host = u32::from(address) & !mask(self.prefix_length);
        self.prefix_length < 31
            && (host == 0 || host == !mask(self.prefix_length))
            && self.is_neighbour(address)
    }

    fn is_neighbour(&self, address: Ipv4Addr) -> bool {
        is_in_network(self.address, self.prefix_length, address)
    }
}

impl Vm {
    /// Takes a router's word that another one is nearer, as Linux does (`__ip_do_redirect`): about a datagram of ours, from
    /// the router that it went by (`secure_redirects`), and only to a neighbour that is known to be there.
    pub(super) fn receive_redirect(
        &mut self,
        now: Instant,
        router: Ipv4Addr,
        redirect: &IcmpRedirect,
    ) -> Result<Disposition, Ignored> {
        let interface = self.ipv4.interface().ok_or(Ignored::OtherAddress)?;
        let IcmpRedirect {
            gateway,
            source,
            destination,
        } = *redirect;
        let is_sound = source == interface.address
            && destination != router
            && gateway != router
            && interface.is_neighbour(gateway)
            && interface.may_be_sender(gateway)
            && self.ipv4.next_hop(now, destination) == Some(router);
        if !is_sound {
            return Err(Ignored::UnexpectedIcmpError);
        }
        // One that is not known yet is asked for. The router will tell again.
        self.neighbours.find(now, gateway.into());
        if self.neighbours.get(gateway.into()).is_some() {
            self.ipv4.redirect(now, destination, gateway);
        }
        Ok(Disposition::Taken(None))
    }
}

/// The route to `destination` with the longest prefix, of at least `least` bits.
fn longest(routes: &[ClasslessRoute], least: u8, destination: Ipv4Addr) -> Option<&ClasslessRoute> {
    let fits = |route: &&ClasslessRoute| {
        let (network, length) = (route.destination, route.prefix_length);
        length >= least && is_in_network(network, length, destination)
    };
    let fitting = routes.iter().filter(fits);
    fitting.min_by_key(|route| Reverse(route.prefix_length))
}

/// Tells if `address` has the first `length` bits of `network`.
fn is_in_network(network: Ipv4Addr, length: u8, address: Ipv4Addr) -> bool {
    (u32::from(address) ^ u32::from(network)) & mask(length) == 0
}

fn mask(length: u8) -> u32 {
    let host_bits = 32 - length.min(32);
    // Of 64 bits, so that all 32 can be shifted out.
    (u64::from(u32::MAX) << host_bits) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn interface(prefix_length: u8, gateway: Option<&str>) -> Ipv4Interface {
        Ipv4Interface {
            address: ip("10.77.0.2"),
            prefix_length,
            gateway: gateway.map(ip),
        }
    }

    #[test]
    fn what_is_outside_the_network_goes_to_the_gateway() {
        for (prefix_length, gateway, destination, next_hop) in [
            (16, Some("10.77.0.1"), "10.77.9.9", Some("10.77.9.9")),
            (16, Some("10.77.0.1"), "10.78.0.1", Some("10.77.0.1")),
            (16, None, "10.78.0.1", None),
            (24, Some("10.77.1.1"), "10.78.0.1", Some("10.77.1.1")),
            (32, Some("169.254.1.1"), "10.77.0.3", Some("169.254.1.1")),
            (0, None, "192.0.2.1", Some("192.0.2.1")),
            (32, None, "10.77.0.3", None),
        ] {
            assert_eq!(
                interface(prefix_length, gateway).next_hop(&[], ip(destination)),
                next_hop.map(ip),
                "/{prefix_length} {gateway:?} {destination}"
            );
        }
    }

    #[test]
    fn of_several_routes_the_one_with_the_longest_prefix_is_taken() {
        let route = |(destination, prefix_length, gateway): (&str, u8, Option<&str>)| {
            let destination = ip(destination);
            ClasslessRoute {
                destination,
                prefix_length,
                gateway: gateway.map(ip),
            }
        };
        let routes = [
            ("0.0.0.0", 0, Some("10.77.0.1")),
            ("10.0.0.0", 8, Some("10.77.0.8")),
            ("10.88.0.0", 16, None),
            ("10.88.1.0", 24, Some("10.77.0.24")),
            ("10.77.0.0", 16, Some("10.77.0.99")),
            ("10.77.3.0", 24, Some("10.77.0.24")),
        ]
        .map(route);
        for (destination, next_hop) in [
            ("192.0.2.1", "10.77.0.1"),
            ("10.1.2.3", "10.77.0.8"),
            ("10.88.2.3", "10.88.2.3"),
            ("10.88.1.3", "10.77.0.24"),
            // As long as the network's own, which goes first.
            ("10.77.9.9", "10.77.9.9"),
            ("10.77.3.9", "10.77.0.24"),
        ] {
            let found = interface(16, Some("10.77.0.254")).next_hop(&routes, ip(destination));
            assert_eq!(found, Some(ip(next_hop)), "{destination}");
        }
    }

    #[test]
    fn addresses_that_are_no_other_hosts_are_told_from_those_that_are() {
        for (prefix_length, address, expected) in [
            (16, "10.77.255.255", false),
            (16, "10.77.0.0", false),
            (16, "10.77.0.2", false),
            (16, "10.77.0.255", true),
            (16, "10.78.0.0", true),
            (16, "10.78.255.255", true),
            (24, "10.77.0.255", false),
            (31, "10.77.0.3", true),
            (32, "10.77.0.2", false),
            (32, "10.77.0.3", true),
            (16, "0.0.0.0", false),
            (16, "0.1.2.3", false),
            (16, "127.0.0.1", false),
            (16, "127.255.255.254", false),
            (16, "126.0.0.1", true),
            (16, "223.255.255.254", true),
            (16, "224.0.0.1", false),
            (16, "239.255.255.255", false),
            (16, "240.0.0.1", false),
            (16, "255.255.255.255", false),
        ] {
            let found = interface(prefix_length, None).may_be_sender(ip(address));
            assert_eq!(found, expected, "{address}/{prefix_length}");
        }
    }
}
