//! Address slaac (RFC 4862): what a VM makes of what routers tell.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::address::{Ipv6Interface, Lifetime, START_WAIT};
use super::route::lifetime;
use super::{Ipv6, Received, Vm};
use crate::time::Instant;
use crate::vm::{Event, Ignored};
use crate::wire::{
    AdvertisedPrefix, IPV6_MINIMUM_MTU, MacAddr, RouterAdvertisement, eui64_address,
};

/// A router can't cut the life of an address shorter than this, unless it authenticates itself, which none does (RFC
/// 4862 section 5.5.3 e).
const TWO_HOURS: Duration = Duration::from_secs(7200);
/// Bits of the interface identifier of an address that a VM makes.
const INTERFACE_IDENTIFIER_BITS: u8 = 64;
/// `type` of a router advertisement.
const ROUTER_ADVERTISEMENT: u8 = 134;

impl Vm {
    pub(super) fn receive_router(
        &mut self,
        now: Instant,
        router: Ipv6Addr,
        message: &RouterAdvertisement<'_>,
    ) -> Result<Received, Ignored> {
        let mac = self.mac;
        let ipv6 = self.ipv6.as_mut().filter(|ipv6| ipv6.slaac);
        let ipv6 = ipv6.ok_or(Ignored::IcmpType(ROUTER_ADVERTISEMENT))?;
        let seconds = Duration::from_secs(message.router_lifetime.into());
        ipv6.routes.advertised(now, router, seconds);
        if message.hop_limit != 0 {
            ipv6.hop_limit = message.hop_limit;
        }
        // One that the interface could not send, or IPv6 not work with, is no news (RFC 4861 section 6.3.4).
        let told = message.mtu.and_then(|mtu| u16::try_from(mtu).ok());
        let allowed = IPV6_MINIMUM_MTU..=usize::from(self.mtu);
        if let Some(mtu) = told.filter(|mtu| allowed.contains(&usize::from(*mtu))) {
            ipv6.link_mtu = Some(mtu);
        }
        let mut event = None;
        for prefix in message.prefixes() {
            // The link-local prefix is everybody's, and no router's business (RFC 4861 section 6.3.4).
            if prefix.prefix.is_unicast_link_local() || prefix.prefix.is_multicast() {
                continue;
            }
            if prefix.on_link && prefix.length <= 128 {
                ipv6.routes.add_on_link(now, &prefix);
            }
            if prefix.autonomous
                && let Some(made) = ipv6.autoconfigure(now, mac, &prefix, &mut self.random)
            {
                event = event.or(Some(made));
            }
        }
        ipv6.find_deadline();
        if let Some(link) = message.source_link.filter(|mac| mac.is_unicast()) {
            let waited = self.neighbours.hear(now, router.into(), link);
            event = self.neighbour_found(now, router, link, waited).or(event);
        }
        Ok(Received::Taken(event))
    }
}

impl Ipv6 {
    /// Makes an address in `prefix`, or lets the one that is there live longer (RFC 4862 section 5.5.3). Tells if
    /// there is one more.
    fn autoconfigure(
        &mut self,
        now: Instant,
        mac: MacAddr,
        prefix: &AdvertisedPrefix,
        random: &mut fastrand::Rng,
    ) -> Option<Event> {
        if prefix.preferred_lifetime > prefix.valid_lifetime
            || prefix.length != 128 - INTERFACE_IDENTIFIER_BITS
        {
            return None;
        }
        let told = Lifetime {
            preferred_until: now + lifetime(prefix.preferred_lifetime),
            valid_until: now + lifetime(prefix.valid_lifetime),
        };
        let address = eui64_address(prefix.prefix, mac);
        if let Some(known) = self.addresses.find_mut(address) {
            // An address that the VM was told stays as it is.
            if let Some(known) = &mut known.lifetime {
                let least = known.valid_until.min(now + TWO_HOURS);
                *known = Lifetime {
                    valid_until: told.valid_until.max(least),
                    ..told
                };
            }
            return None;
        }
        if prefix.valid_lifetime == 0 {
            return None;
        }
        let interface = Ipv6Interface {
            address,
            prefix_length: prefix.length,
        };
        let probe = self.probe.then(|| now + START_WAIT.mul_f64(random.f64()));
        if !self
            .addresses
            .add(now, interface, Some(told), probe, random)
        {
            return None;
        }
        self.mld.changed(now);
        let address = address.into();
        Some(match probe {
            Some(_) => Event::AddressTried { address },
            None => Event::AddressReady { address },
        })
    }
}
