//! The IPv6 addresses of a VM: [tried](Dad) first if so told, and given up when their time is over.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::conflict_detection::{Dad, DadDue};
use crate::time::Instant;
use crate::vm::Ipv6Interface;
use crate::wire::Nonce;

/// Addresses that a VM has at most; router advertisements make no more of them.
pub const MAX_IPV6_ADDRESSES: usize = 8;
/// The random wait before the first probe, or the first router solicitation, is at most this long
/// (`MAX_RTR_SOLICITATION_DELAY`).
pub const START_WAIT: Duration = Duration::from_secs(1);

/// Tells if `a` and `b` have their first `length` bits in common.
pub(super) fn share_prefix(a: Ipv6Addr, b: Ipv6Addr, length: u8) -> bool {
    common_bits(a, b) >= u32::from(length)
}

fn common_bits(a: Ipv6Addr, b: Ipv6Addr) -> u32 {
    (a.to_bits() ^ b.to_bits()).leading_zeros()
}

/// Until when an address from a router may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lifetime {
    /// Not as the source of anything new from then on.
    pub(super) preferred_until: Instant,
    /// Not at all from then on.
    pub(super) valid_until: Instant,
}

/// One address of a VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Address {
    pub(super) interface: Ipv6Interface,
    dad: Dad,
    /// Of an address that a router has given; others stay.
    pub(super) lifetime: Option<Lifetime>,
}

/// The step that is due for an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AddressDue {
    /// Its conflict detection has something.
    Dad(DadDue),
    /// Its time is over; it is gone.
    Expired,
}

/// The addresses of a VM, its link-local one first.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    list: Vec<Address>,
    /// How long after they are taken into use they are announced, if at all.
    announce: Option<Duration>,
}

impl Addresses {
    /// None yet, with room for `count`, each to be announced so long after it is taken into use.
    pub(super) fn with_room(count: usize, announce: Option<Duration>) -> Addresses {
        Addresses {
            list: Vec::with_capacity(count),
            announce,
        }
    }

    /// Takes an address into use at once, or, with a time for the first probe, tries it first. Does nothing when there
    /// is no room, or it is there already.
    pub(super) fn add(
        &mut self,
        now: Instant,
        interface: Ipv6Interface,
        lifetime: Option<Lifetime>,
        probe: Option<Instant>,
        random: &mut fastrand::Rng,
    ) -> bool {
        if self.list.len() >= MAX_IPV6_ADDRESSES || self.find(interface.address).is_some() {
            return false;
        }
        let dad = match probe {
            None => Dad::used(now, self.announce),
            Some(at) => Dad::tentative(at, random),
        };
        self.list.push(Address {
            interface,
            dad,
            lifetime,
        });
        true
    }

    /// The address `address`, used or tentative.
    pub(super) fn find(&self, address: Ipv6Addr) -> Option<&Address> {
        self.list.iter().find(|a| a.interface.address == address)
    }

    /// The same, to be changed.
    pub(super) fn find_mut(&mut self, address: Ipv6Addr) -> Option<&mut Address> {
        self.list
            .iter_mut()
            .find(|a| a.interface.address == address)
    }

    /// Gives an address up.
    pub(super) fn remove(&mut self, address: Ipv6Addr) {
        self.list.retain(|a| a.interface.address != address);
    }

    /// Tells if `address` is used.
    pub(super) fn is_assigned(&self, address: Ipv6Addr) -> bool {
        self.find(address).is_some_and(Address::is_assigned)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Address> {
        self.list.iter()
    }

    /// The address from which packets to `destination` are sent: of those in the same scope the one that is not
    /// deprecated and has most bits in common with it (RFC 6724 section 5, rules 2, 3 and 8).
    pub(super) fn source_for(&self, now: Instant, destination: Ipv6Addr) -> Option<Ipv6Addr> {
        let is_local = is_link_scope(destination);
        let candidates = self.list.iter().filter(|a| a.is_assigned());
        candidates
            .filter(|a| a.interface.address.is_unicast_link_local() == is_local)
            .max_by_key(|a| {
                let preferred = a.lifetime.is_none_or(|l| l.preferred_until > now);
                (preferred, common_bits(a.interface.address, destination))
            })
            .map(|a| a.interface.address)
    }

    /// When [`Addresses::overdue`] has something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.list.iter().filter_map(Address::deadline).min()
    }

    /// Does one thing that is due at `now`.
    pub(super) fn overdue(
        &mut self,
        now: Instant,
        interval: Duration,
    ) -> Option<(Ipv6Addr, AddressDue)> {
        let index = self
            .list
            .iter()
            .position(|a| a.deadline().is_some_and(|at| at <= now))?;
        let entry = self.list.get_mut(index)?;
        let address = entry.interface.address;
        if entry.lifetime.is_some_and(|l| l.valid_until <= now) {
            self.list.remove(index);
            return Some((address, AddressDue::Expired));
        }
        let due = entry.dad.overdue(now, interval, self.announce)?;
        Some((address, AddressDue::Dad(due)))
    }
}

impl Address {
    /// Tells if it is used.
    pub(super) fn is_assigned(&self) -> bool {
        self.dad.is_assigned()
    }

    /// Tells if a probe with `nonce` is this address's own, come back.
    pub(super) fn is_own_probe(&self, nonce: Option<Nonce>) -> bool {
        self.dad.is_own_probe(nonce)
    }

    fn deadline(&self) -> Option<Instant> {
        let over = self.lifetime.map(|l| l.valid_until);
        [self.dad.deadline(), over].into_iter().flatten().min()
    }
}

/// Tells if `address` means something on its own link only.
pub fn is_link_scope(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.octets();
    address.is_unicast_link_local() || (first == 0xff && second & 0x0f <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn packets_are_sent_from_the_address_nearest_to_their_destination() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut addresses = Addresses::default();
        let far = Instant::from_nanos(u64::MAX);
        let near = Instant::from_nanos(5);
        for (text, preferred_until) in [
            ("fe80::2", far),
            ("fd77::2", far),
            ("fd99::2", far),
            ("2001:db8::2", near),
            ("2001:db8:0:1::2", far),
        ] {
            let interface = Ipv6Interface {
                address: ip(text),
                prefix_length: 64,
            };
            let lifetime = Lifetime {
                preferred_until,
                valid_until: far,
            };
            let start = Instant::ZERO;
            assert!(addresses.add(start, interface, Some(lifetime), None, &mut random));
        }
        for (destination, source) in [
            ("fe80::9", "fe80::2"),
            ("ff02::1", "fe80::2"),
            ("fd77::9", "fd77::2"),
            ("fd99::9", "fd99::2"),
            // The one with more bits in common is deprecated.
            ("2001:db8::9", "2001:db8:0:1::2"),
        ] {
            let now = Instant::from_nanos(10);
            let found = addresses.source_for(now, ip(destination));
            assert_eq!(found, Some(ip(source)), "{destination}");
        }
    }

    #[test]
    fn addresses_are_bounded_and_not_taken_twice() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut addresses = Addresses::default();
        for i in 0..20u16 {
            let interface = Ipv6Interface {
                address: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, i),
                prefix_length: 64,
            };
            let start = Instant::ZERO;
            let added = addresses.add(start, interface, None, None, &mut random);
            assert_eq!(added, usize::from(i) < MAX_IPV6_ADDRESSES);
            assert!(!addresses.add(start, interface, None, None, &mut random));
        }
    }
}
