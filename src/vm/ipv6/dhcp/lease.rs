//! A lease: addresses, until when each of them, and who granted them (RFC 8415 section 18.2.10.1).

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::time::Instant;
use crate::vm::Ignored;
use crate::vm::ipv6::address::Lifetime;
use crate::vm::ipv6::route::{lifetime, may_be_sender};
use crate::wire::{Dhcpv6Address, Dhcpv6Association, Dhcpv6Status};

/// The time that stands for ever, or never.
const FOR_EVER: u32 = u32::MAX;

/// One address of a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::vm::ipv6) struct LeasedAddress {
    pub(in crate::vm::ipv6) address: Ipv6Addr,
    pub(in crate::vm::ipv6) lifetime: Lifetime,
}

impl LeasedAddress {
    fn is_valid(&self, now: Instant) -> bool {
        self.lifetime.valid_until > now
    }
}

/// Addresses for a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lease {
    /// At least one while it is in use, the one to be told first.
    pub(super) addresses: Vec<LeasedAddress>,
    /// The identifier of the server that granted them.
    pub(super) server: Box<[u8]>,
    /// When to ask this server for longer; `None` for never.
    pub(super) renew_at: Option<Instant>,
    /// When to ask any server for longer; `None` for never.
    pub(super) rebind_at: Option<Instant>,
}

/// The addresses and times that an association brings, as far as they make sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Granted {
    /// Those that a host may have, at least one; those for no time are taken back.
    addresses: Vec<Dhcpv6Address>,
    times: Times,
}

impl Granted {
    /// The part of `association` that makes sense.
    ///
    /// # Errors
    /// When it brings no address, or none that a host may have.
    pub(super) fn of(association: &Dhcpv6Association) -> Result<Granted, Ignored> {
        succeeded(association.status)?;
        let mut addresses: Vec<Dhcpv6Address> = Vec::new();
        let mut fault = None;
        for address in &association.addresses {
            let is_new = |known: &Dhcpv6Address| known.address != address.address;
            match usable(address) {
                Ok(()) if addresses.iter().all(is_new) => addresses.push(*address),
                Ok(()) => {}
                Err(ignored) => fault = fault.or(Some(ignored)),
            }
        }
        if addresses.is_empty() {
            return Err(fault.unwrap_or(Ignored::DhcpNoAddress));
        }
        let times = Times::new(
            association.renewal_time,
            association.rebinding_time,
            &addresses,
        )?;
        Ok(Granted { addresses, times })
    }

    /// The same for a client that has no address yet.
    ///
    /// # Errors
    /// When all are for no time as well.
    pub(super) fn new(association: &Dhcpv6Association) -> Result<Granted, Ignored> {
        let granted = Granted::of(association)?;
        if granted.wanted().is_empty() {
            return Err(Ignored::DhcpNoLeaseTime);
        }
        Ok(granted)
    }

    /// The addresses to ask for.
    pub(super) fn wanted(&self) -> Box<[Ipv6Addr]> {
        let granted = self.addresses.iter().filter(|a| a.valid_lifetime > 0);
        granted.map(|address| address.address).collect()
    }

    /// The lease that this is at `now`, when `server` grants it to one that has `known`, if anything. Addresses that the
    /// server does not speak of stay as they are, until their time is over. There may be none at all.
    pub(super) fn lease(&self, now: Instant, server: &[u8], known: Option<&Lease>) -> Lease {
        let granted = self.addresses.iter().filter(|a| a.valid_lifetime > 0);
        let mut addresses: Vec<_> = granted.map(|address| leased(now, address)).collect();
        let is_told = |address| self.addresses.iter().any(|told| told.address == address);
        let others = known.into_iter().flat_map(|known| &known.addresses);
        let others = others.filter(|kept| !is_told(kept.address) && kept.is_valid(now));
        addresses.extend(others);
        let Times { renew, rebind } = self.times;
        Lease {
            addresses,
            server: server.into(),
            renew_at: renew.map(|after| now + after),
            rebind_at: rebind.map(|after| now + after),
        }
    }
}

/// Checks that the server reports no failure.
pub(super) fn succeeded(status: Dhcpv6Status) -> Result<(), Ignored> {
    match status {
        Dhcpv6Status::SUCCESS => Ok(()),
        status => Err(Ignored::DhcpStatus(status)),
    }
}

impl Lease {
    /// The first address.
    pub(super) fn address(&self) -> Ipv6Addr {
        let first = self.addresses.first();
        first.map_or(Ipv6Addr::UNSPECIFIED, |leased| leased.address)
    }

    /// The addresses that may still be used at `now`.
    pub(super) fn valid(&self, now: Instant) -> Box<[Ipv6Addr]> {
        let valid = self.addresses.iter().filter(|leased| leased.is_valid(now));
        valid.map(|leased| leased.address).collect()
    }

    /// When the last of its addresses is lost.
    pub(super) fn expires_at(&self) -> Instant {
        let ends = self.addresses.iter().map(|a| a.lifetime.valid_until);
        ends.max().unwrap_or(Instant::ZERO)
    }
}

fn leased(now: Instant, address: &Dhcpv6Address) -> LeasedAddress {
    LeasedAddress {
        address: address.address,
        lifetime: Lifetime {
            preferred_until: now + lifetime(address.preferred_lifetime),
            valid_until: now + lifetime(address.valid_lifetime),
        },
    }
}

/// Checks that the server gives the address, that a host may have it, and that its lifetimes make sense (RFC 8415 section
/// 21.6).
fn usable(address: &Dhcpv6Address) -> Result<(), Ignored> {
    succeeded(address.status)?;
    let ip = address.address;
    if ip.is_unspecified() || ip.is_unicast_link_local() || !may_be_sender(ip) {
        return Err(Ignored::DhcpAddress);
    }
    if address.preferred_lifetime > address.valid_lifetime {
        return Err(Ignored::DhcpLifetimes);
    }
    Ok(())
}

/// How long after a grant something is due; `None` for never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Times {
    renew: Option<Duration>,
    rebind: Option<Duration>,
}

impl Times {
    /// T1 and T2 as the server gives them for `addresses`. One of 0 is the client's choice (RFC 8415 section 14.2): a half
    /// and eight tenths of the shortest preferred lifetime, as servers choose themselves (section 21.4). So are both when
    /// the shortest lifetime is over before T2, since the address would be lost. At least half a second, half of the
    /// shortest lifetime, lies between a grant and the next request, whatever the server says.
    ///
    /// # Errors
    /// When T1 is later than T2 (section 21.4).
    fn new(t1: u32, t2: u32, addresses: &[Dhcpv6Address]) -> Result<Times, Ignored> {
        if t1 > t2 && t2 > 0 {
            return Err(Ignored::DhcpLifetimes);
        }
        let given = addresses.iter().filter(|a| a.valid_lifetime > 0);
        let valid = given.clone().map(|a| a.valid_lifetime).min();
        let valid = valid.unwrap_or(FOR_EVER);
        // One that may not be used for anything new is renewed by the time that it may be used at all.
        let preferred = given.map(|a| a.preferred_lifetime).filter(|p| *p > 0);
        let preferred = span(preferred.min().unwrap_or(valid));
        let default = Times {
            renew: preferred.map(|preferred| preferred / 2),
            rebind: preferred.map(|preferred| preferred * 4 / 5),
        };
        let is_late = |at: Option<Duration>, end: Option<Duration>| {
            at.is_some_and(|at| end.is_some_and(|end| at > end))
        };
        // The client's own choice fits what the server says of the other.
        let told = match (t1, t2) {
            (0, t2) if t2 > 0 && is_late(default.renew, span(t2)) => Times {
                renew: span(t2).map(|rebind| rebind * 5 / 8),
                rebind: span(t2),
            },
            (t1, 0) if t1 > 0 && is_late(span(t1), default.rebind) => Times {
                renew: span(t1),
                rebind: span(t1).map(|renew| renew * 8 / 5),
            },
            _ => Times {
                renew: if t1 == 0 { default.renew } else { span(t1) },
                rebind: if t2 == 0 { default.rebind } else { span(t2) },
            },
        };
        let end = span(valid);
        let is_kept = told.rebind.is_none() && told.renew.is_none();
        let is_lost = !is_kept && (is_late(told.rebind, end) || is_late(told.renew, end));
        Ok(if is_lost { default } else { told })
    }
}

/// A time in seconds; `None` for ever, or for never.
fn span(seconds: u32) -> Option<Duration> {
    (seconds != FOR_EVER).then(|| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(preferred_lifetime: u32, valid_lifetime: u32) -> Dhcpv6Address {
        Dhcpv6Address {
            address: "fd77::9".parse().unwrap(),
            preferred_lifetime,
            valid_lifetime,
            status: Dhcpv6Status::SUCCESS,
        }
    }

    #[test]
    fn times_that_make_no_sense_are_chosen_by_the_client() {
        const MAX: u32 = u32::MAX;
        for (t1, t2, lifetimes, expected) in [
            (
                0,
                0,
                &[(1_000, 2_000)][..],
                Some((Some(500_000), Some(800_000))),
            ),
            (
                100,
                200,
                &[(1_000, 2_000)],
                Some((Some(100_000), Some(200_000))),
            ),
            (
                100,
                100,
                &[(1_000, 2_000)],
                Some((Some(100_000), Some(100_000))),
            ),
            (
                100,
                0,
                &[(1_000, 2_000)],
                Some((Some(100_000), Some(800_000))),
            ),
            (
                0,
                600,
                &[(1_000, 2_000)],
                Some((Some(500_000), Some(600_000))),
            ),
            (
                0,
                100,
                &[(1_000, 2_000)],
                Some((Some(62_500), Some(100_000))),
            ),
            (
                900,
                0,
                &[(1_000, 2_000)],
                Some((Some(900_000), Some(1_440_000))),
            ),
            (
                1_300,
                0,
                &[(1_000, 2_000)],
                Some((Some(500_000), Some(800_000))),
            ),
            (0, 1, &[(1_000, 2_000)], Some((Some(625), Some(1_000)))),
            (200, 100, &[(1_000, 2_000)], None),
            (MAX, 100, &[(1_000, 2_000)], None),
            (1, 2, &[(1_000, 2_000)], Some((Some(1_000), Some(2_000)))),
            // Later than the end.
            (
                1_000,
                2_001,
                &[(1_000, 2_000)],
                Some((Some(500_000), Some(800_000))),
            ),
            (
                3_000,
                MAX,
                &[(1_000, 2_000)],
                Some((Some(500_000), Some(800_000))),
            ),
            (
                1_000,
                2_000,
                &[(1_000, 2_000)],
                Some((Some(1_000_000), Some(2_000_000))),
            ),
            // Never, as the server would have it.
            (MAX, MAX, &[(1_000, 2_000)], Some((None, None))),
            (0, 0, &[(MAX, MAX)], Some((None, None))),
            (10, 20, &[(MAX, MAX)], Some((Some(10_000), Some(20_000)))),
            (0, 0, &[(1_000, MAX)], Some((Some(500_000), Some(800_000)))),
            // Deprecated from the start.
            (
                0,
                0,
                &[(0, 2_000)],
                Some((Some(1_000_000), Some(1_600_000))),
            ),
            (0, 0, &[(1, 1)], Some((Some(500), Some(800)))),
            // The shortest counts, and not what is taken back.
            (
                0,
                0,
                &[(1_000, 2_000), (100, 200)],
                Some((Some(50_000), Some(80_000))),
            ),
            (
                0,
                0,
                &[(1_000, 2_000), (0, 0)],
                Some((Some(500_000), Some(800_000))),
            ),
        ] {
            let addresses: Vec<_> = lifetimes.iter().map(|(p, v)| address(*p, *v)).collect();
            let millis = |time: Option<Duration>| time.map(|time| time.as_millis());
            let times = Times::new(t1, t2, &addresses).ok();
            let times = times.map(|times| (millis(times.renew), millis(times.rebind)));
            assert_eq!(times, expected, "T1 {t1} T2 {t2} {lifetimes:?}");
        }
    }
}
