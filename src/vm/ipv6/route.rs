//! The ways of IPv6 packets: to neighbours, and by a router to others (RFC 4861 section 5.2 and 6.3).
//!
//! The longest prefix wins: a host that a router has [redirected](Redirects), then the prefixes that are on the link, and
//! a default router for all the rest. Of several, those that were asked for in vain come last (RFC 4861 section 6.3.6),
//! and of the others the one with the highest preference comes first (RFC 4191 section 3.2).

use std::cmp::Reverse;
use std::net::Ipv6Addr;
use std::num::NonZeroU8;
use std::time::Duration;

use super::Ipv6;
use super::address::share_prefix;
use crate::time::Instant;
use crate::vm::redirects::Redirects;
use crate::vm::{Ipv6Interface, Vm};
use crate::wire::{AdvertisedPrefix, Redirect, RouterPreference};

/// How often a VM asks for routers (`MAX_RTR_SOLICITATIONS`, RFC 4861 section 10).
pub const ROUTER_SOLICITATIONS: u8 = 3;
/// Time between two such questions (`RTR_SOLICITATION_INTERVAL`).
pub const ROUTER_SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
/// On-link prefixes that a VM remembers; routers that tell of more are not believed.
pub const MAX_PREFIXES: usize = 8;
/// Default routers that a VM remembers; further ones are not believed.
pub const MAX_ROUTERS: usize = 8;

/// A router for packets to other networks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Router {
    address: Ipv6Addr,
    preference: RouterPreference,
    /// Of one that advertised itself; one that was configured stays.
    until: Option<Instant>,
}

/// A prefix whose addresses are neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct OnLink {
    prefix: Ipv6Addr,
    length: u8,
    until: Instant,
}

/// Where packets go that are not for a neighbour, and who is a neighbour, as far as routers have told.
#[derive(Debug)]
pub(super) struct Routes {
    /// Default routers, in the order in which they were heard of.
    routers: Vec<Router>,
    on_link: Vec<OnLink>,
    redirects: Redirects<Ipv6Addr>,
    /// When the next router solicitation is due, and how many are to be sent.
    soliciting: Option<(Instant, NonZeroU8)>,
}

impl Routes {
    /// By `gateway`, for good, if there is one.
    pub(super) fn by(gateway: Option<Ipv6Addr>) -> Routes {
        let router = |address| Router {
            address,
            preference: RouterPreference::Medium,
            until: None,
        };
        Routes {
            routers: gateway.map(router).into_iter().collect(),
            on_link: Vec::new(),
            redirects: Redirects::new(),
            soliciting: None,
        }
    }

    /// Asks for routers from `at` on.
    pub(super) fn solicit(&mut self, at: Instant) {
        self.soliciting = NonZeroU8::new(ROUTER_SOLICITATIONS).map(|left| (at, left));
    }

    /// Tells if a router is still looked for: it may answer the last question, too.
    pub(super) fn is_soliciting(&self) -> bool {
        self.soliciting.is_some()
    }

    /// Takes `address` for a default router for `lifetime`; none at all ends that.
    pub(super) fn advertised(
        &mut self,
        now: Instant,
        address: Ipv6Addr,
        preference: RouterPreference,
        lifetime: Duration,
    ) {
        self.soliciting = None;
        if lifetime.is_zero() {
            self.leave(address);
            return;
        }
        let told = Router {
            address,
            preference,
            until: Some(now + lifetime),
        };
        self.routers.retain(|known| known.is_valid(now));
        let known = self.routers.iter_mut().find(|r| r.address == address);
        if let Some(known) = known {
            // One that was configured stays as it is.
            if known.until.is_some() {
                *known = told;
            }
        } else if self.routers.len() < MAX_ROUTERS {
            self.routers.push(told);
        }
    }

    /// Takes `address` for a router no longer, unless it was configured.
    pub(super) fn leave(&mut self, address: Ipv6Addr) {
        self.routers
            .retain(|known| known.address != address || known.until.is_none());
    }

    /// Hands nothing for other networks to `address` any longer: it has turned into a host.
    pub(super) fn forget_router(&mut self, address: Ipv6Addr) {
        self.leave(address);
        self.redirects.leave(address);
    }

    /// Takes the addresses of `advertised` for neighbours, for as long as it says.
    pub(super) fn add_on_link(&mut self, now: Instant, advertised: &AdvertisedPrefix) {
        let AdvertisedPrefix { prefix, length, .. } = *advertised;
        let is_same = |known: &OnLink| known.length == length && known.prefix == prefix;
        self.on_link
            .retain(|known| known.until > now && !is_same(known));
        if advertised.valid_lifetime > 0 && self.on_link.len() < MAX_PREFIXES {
            let until = now + lifetime(advertised.valid_lifetime);
            self.on_link.push(OnLink {
                prefix,
                length,
                until,
            });
        }
    }

    /// Tells if `address` is a neighbour.
    pub(super) fn is_on_link(&self, now: Instant, address: Ipv6Addr) -> bool {
        let mut valid = self.on_link.iter().filter(|known| known.until > now);
        valid.any(|known| share_prefix(known.prefix, address, known.length))
    }

    /// The router for packets to other networks. `failed_at` tells when a router was asked for in vain: if all were, they
    /// are tried in turn.
    fn default_router(
        &self,
        now: Instant,
        failed_at: impl Fn(Ipv6Addr) -> Option<Instant>,
    ) -> Option<Ipv6Addr> {
        let valid = self.routers.iter().filter(|router| router.is_valid(now));
        let best = valid.min_by_key(|router| match failed_at(router.address) {
            None => (None, Reverse(router.preference)),
            // The lowest for all of them, so that the time decides.
            Some(at) => (Some(at), Reverse(RouterPreference::Low)),
        });
        best.map(|router| router.address)
    }

    /// When [`Routes::overdue`] has something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.soliciting.map(|(at, _)| at)
    }

    /// Tells if a router solicitation is to be sent at `now`, and counts it as sent.
    pub(super) fn overdue(&mut self, now: Instant) -> bool {
        let Some((at, left)) = self.soliciting.filter(|(at, _)| *at <= now) else {
            return false;
        };
        let next = at.max(now) + ROUTER_SOLICITATION_INTERVAL;
        self.soliciting = NonZeroU8::new(left.get() - 1).map(|left| (next, left));
        true
    }
}

impl Router {
    fn is_valid(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

impl Ipv6 {
    /// The neighbour to which a packet for `destination` is handed. `None` when there is no way there. `failed_at` tells
    /// when a neighbour was asked for in vain.
    pub(in crate::vm) fn next_hop(
        &self,
        now: Instant,
        destination: Ipv6Addr,
        failed_at: impl Fn(Ipv6Addr) -> Option<Instant>,
    ) -> Option<Ipv6Addr> {
        if destination.is_unspecified() {
            // A VM's that has no address yet.
            return None;
        }
        let source = self.source_for(now, destination)?;
        let is_here = source.is_unicast_link_local() || destination.is_multicast();
        if is_here || self.is_on_link(now, destination) {
            return Some(destination);
        }
        let redirected = self.routes.redirects.get(now, destination);
        redirected
            .filter(|next_hop| failed_at(*next_hop).is_none())
            .or_else(|| self.routes.default_router(now, failed_at))
    }

    fn is_on_link(&self, now: Instant, destination: Ipv6Addr) -> bool {
        // The prefix of an address from a router says nothing about who is on the link; the router does.
        let mut told = self.addresses.iter().filter(|a| a.lifetime.is_none());
        let is_told = told.any(|a| {
            let Ipv6Interface {
                address,
                prefix_length,
            } = a.interface;
            share_prefix(address, destination, prefix_length)
        });
        is_told || self.routes.is_on_link(now, destination)
    }
}

impl Vm {
    /// Takes the word of `router` that another neighbour is nearer (RFC 4861 section 8.3): only from the router that packets
    /// to that host go by. Tells if it is taken.
    pub(super) fn redirected(
        &mut self,
        now: Instant,
        router: Ipv6Addr,
        redirect: &Redirect,
    ) -> bool {
        let Redirect {
            target,
            destination,
            ..
        } = *redirect;
        let is_by_router = self.next_hop(now, destination.into()) == Some(router.into());
        let Some(ipv6) = self.ipv6.as_mut() else {
            return false;
        };
        let is_taken = is_by_router
            && destination != router
            && target != router
            && may_be_sender(target)
            && ipv6.addresses.find(target).is_none();
        if is_taken {
            ipv6.routes.redirects.set(now, destination, target);
        }
        is_taken
    }
}

/// Tells if a host can have sent a packet from `source`, or one that has no address yet.
pub(super) fn may_be_sender(source: Ipv6Addr) -> bool {
    !source.is_multicast() && !source.is_loopback() && source.to_ipv4_mapped().is_none()
}

/// A lifetime in seconds as routers tell it; all ones are for ever.
pub(super) fn lifetime(seconds: u32) -> Duration {
    match seconds {
        u32::MAX => Duration::from_nanos(u64::MAX),
        seconds => Duration::from_secs(seconds.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RouterPreference::{High, Low, Medium};

    fn router(number: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number)
    }

    const fn seconds(n: u64) -> Instant {
        Instant::from_nanos(n * 1_000_000_000)
    }

    /// Routes by the routers that advertise themselves in turn with that preference and lifetime.
    fn routes(advertised: &[(u16, RouterPreference, u64)]) -> Routes {
        let mut routes = Routes::by(None);
        for &(number, preference, lifetime) in advertised {
            let lifetime = Duration::from_secs(lifetime);
            routes.advertised(Instant::ZERO, router(number), preference, lifetime);
        }
        routes
    }

    #[test]
    fn of_several_routers_the_one_to_prefer_is_taken() {
        // Routers in turn, those that were asked for in vain with the time, the second, and the router then.
        for (advertised, failed, now, expected) in [
            (&[][..], &[][..], 0, None),
            (&[(1, Medium, 1800)], &[], 0, Some(1)),
            (&[(1, Medium, 1800)], &[], 1800, None),
            (&[(1, Medium, 1800), (2, Medium, 1800)], &[], 0, Some(1)),
            // The input that was seen: the second leaves, the first stays.
            (
                &[(1, Medium, 1800), (2, Medium, 1800), (2, Medium, 0)],
                &[],
                0,
                Some(1),
            ),
            (&[(1, Medium, 1800), (2, Medium, 0)], &[], 0, Some(1)),
            (
                &[(1, Medium, 1800), (2, Medium, 1800), (1, Medium, 0)],
                &[],
                0,
                Some(2),
            ),
            (&[(1, Medium, 10), (2, Medium, 1800)], &[], 10, Some(2)),
            (
                &[(1, Medium, 10), (2, Medium, 1800), (1, Medium, 20)],
                &[],
                15,
                Some(1),
            ),
            (&[(1, Low, 1800), (2, Medium, 1800)], &[], 0, Some(2)),
            (
                &[(1, Low, 1800), (2, Medium, 1800), (3, High, 1800)],
                &[],
                0,
                Some(3),
            ),
            (
                &[(1, High, 1800), (2, Medium, 1800), (1, Low, 1800)],
                &[],
                0,
                Some(2),
            ),
            (&[(1, High, 1800), (2, Low, 1800)], &[(1, 5)], 9, Some(2)),
            (
                &[(1, Low, 1800), (2, Medium, 1800), (3, High, 1800)],
                &[(3, 5)],
                9,
                Some(2),
            ),
            // All were asked for in vain: the one for which that is longest ago.
            (
                &[(1, High, 1800), (2, Low, 1800)],
                &[(1, 5), (2, 2)],
                9,
                Some(2),
            ),
            (
                &[(1, High, 1800), (2, Low, 1800)],
                &[(1, 5), (2, 8)],
                9,
                Some(1),
            ),
        ] {
            let failed_at = |address| {
                let mut failed = failed.iter();
                let found = failed.find(|(number, _)| router(*number) == address);
                found.map(|(_, at)| seconds(*at))
            };
            let found = routes(advertised).default_router(seconds(now), failed_at);
            assert_eq!(
                found,
                expected.map(router),
                "{advertised:?} {failed:?} {now}"
            );
        }
    }

    #[test]
    fn routers_are_bounded_and_the_first_stay() {
        let many: Vec<_> = (0..40).map(|number| (number, Low, 100)).collect();
        let mut routes = routes(&many);
        assert_eq!(routes.routers.len(), MAX_ROUTERS);
        let lifetime = Duration::from_secs(100);
        routes.advertised(seconds(99), router(99), High, lifetime);
        let first = |routes: &Routes, now| routes.default_router(seconds(now), |_| None);
        assert_eq!(first(&routes, 99), Some(router(0)));
        routes.advertised(seconds(100), router(99), High, lifetime);
        assert_eq!(first(&routes, 100), Some(router(99)));
        assert_eq!(
            routes.routers.len(),
            1,
            "those whose time is over are forgotten"
        );
    }

    #[test]
    fn a_configured_router_stays_whatever_it_says() {
        let mut routes = Routes::by(Some(router(1)));
        routes.forget_router(router(1));
        routes.advertised(Instant::ZERO, router(1), Low, Duration::from_secs(1));
        routes.advertised(Instant::ZERO, router(1), Low, Duration::ZERO);
        assert_eq!(routes.default_router(seconds(9), |_| None), Some(router(1)));
    }
}
