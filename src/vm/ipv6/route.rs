//! The ways of IPv6 packets: to neighbours, and by a router to others (RFC 4861 section 5.2 and 6.3).

use std::net::Ipv6Addr;
use std::time::Duration;

use super::Ipv6;
use super::address::share_prefix;
use crate::time::Instant;
use crate::vm::Ipv6Interface;
use crate::wire::AdvertisedPrefix;

/// How often a VM asks for routers (`MAX_RTR_SOLICITATIONS`, RFC 4861 section 10).
pub const ROUTER_SOLICITATIONS: u8 = 3;
/// Time between two such questions (`RTR_SOLICITATION_INTERVAL`).
pub const ROUTER_SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
/// On-link prefixes that a VM remembers; routers that tell of more are not believed.
pub const MAX_PREFIXES: usize = 8;

/// A prefix whose addresses are neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct OnLink {
    prefix: Ipv6Addr,
    length: u8,
    until: Instant,
}

/// Where packets go that are not for a neighbour, and who is a neighbour, as far as routers have told.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// The default router, and until when it is one. The last that advertised itself.
    default: Option<(Ipv6Addr, Instant)>,
    on_link: Vec<OnLink>,
    /// When the next router solicitation is due, and how many were sent.
    soliciting: Option<(Instant, u8)>,
}

impl Routes {
    /// By `gateway`, for good, if there is one.
    pub(super) fn by(gateway: Option<Ipv6Addr>) -> Routes {
        let for_good = Instant::from_nanos(u64::MAX);
        Routes {
            default: gateway.map(|gateway| (gateway, for_good)),
            ..Routes::default()
        }
    }

    /// Asks for routers from `at` on.
    pub(super) fn solicit(&mut self, at: Instant) {
        self.soliciting = Some((at, 0));
    }

    /// Tells if a router is still looked for: it may answer the last question, too.
    pub(super) fn is_soliciting(&self) -> bool {
        self.soliciting.is_some()
    }

    /// Uses `router` by default for `lifetime`; none at all ends that.
    pub(super) fn advertised(&mut self, now: Instant, router: Ipv6Addr, lifetime: Duration) {
        self.soliciting = None;
        if !lifetime.is_zero() {
            self.default = Some((router, now + lifetime));
        } else if self.default.is_some_and(|(known, _)| known == router) {
            self.default = None;
        }
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

    /// The router for packets to other networks.
    pub(super) fn default_router(&self, now: Instant) -> Option<Ipv6Addr> {
        let (router, until) = self.default?;
        (until > now).then_some(router)
    }

    /// When [`Routes::overdue`] has something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.soliciting.map(|(at, _)| at)
    }

    /// Tells if a router solicitation is to be sent at `now`, and counts it as sent.
    pub(super) fn overdue(&mut self, now: Instant) -> bool {
        let Some((at, sent)) = self.soliciting.filter(|(at, _)| *at <= now) else {
            return false;
        };
        self.soliciting = (sent + 1 < ROUTER_SOLICITATIONS)
            .then_some((at.max(now) + ROUTER_SOLICITATION_INTERVAL, sent + 1));
        true
    }
}

impl Ipv6 {
    /// The neighbour to which a packet for `destination` is handed. `None` when there is no way there.
    pub(in crate::vm) fn next_hop(&self, now: Instant, destination: Ipv6Addr) -> Option<Ipv6Addr> {
        let source = self.source_for(now, destination)?;
        if source.is_unicast_link_local() || self.is_on_link(now, destination) {
            return Some(destination);
        }
        self.routes.default_router(now)
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
