//! Address slaac (RFC 4862): what a VM makes of what routers tell.

use std::time::Duration;

use super::Ipv6;
use super::address::{Lifetime, START_WAIT};
use super::route::lifetime;
use crate::time::Instant;
use crate::vm::{Event, Ipv6Interface};
use crate::wire::{AdvertisedPrefix, INTERFACE_IDENTIFIER_BITS, MacAddr, eui64_address};

/// A router can't cut the life of an address shorter than this, unless it authenticates itself, which none does (RFC
/// 4862 section 5.5.3 e).
const TWO_HOURS: Duration = Duration::from_secs(7200);

impl Ipv6 {
    /// Makes an address in `prefix`, or lets the one that is there live longer (RFC 4862 section 5.5.3). Tells if
    /// there is one more.
    pub(super) fn autoconfigure(
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
