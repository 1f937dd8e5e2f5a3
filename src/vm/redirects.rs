//! The ways that routers name by redirects (RFC 792, RFC 4861 section 8): for one host each, and for a time.

use std::time::Duration;

use crate::time::Instant;

/// Redirected hosts that a VM remembers in each family; with one more, the oldest is forgotten.
pub const MAX_REDIRECTS: usize = 16;
/// How long a redirect holds, as in Linux (`ip_rt_gc_timeout`).
pub const REDIRECT_LIFETIME: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Redirect<A> {
    destination: A,
    next_hop: A,
    until: Instant,
}

/// The redirected hosts of one family, the oldest first. Nothing is on the heap before the first.
#[derive(Debug)]
pub(super) struct Redirects<A>(Vec<Redirect<A>>);

impl<A: Copy + Eq> Redirects<A> {
    /// None.
    pub(super) const fn new() -> Redirects<A> {
        Redirects(Vec::new())
    }

    /// Tells if there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The neighbour to which datagrams for `destination` go, if a router has named one.
    pub(super) fn get(&self, now: Instant, destination: A) -> Option<A> {
        let mut valid = self.0.iter().filter(|known| known.until > now);
        let found = valid.find(|known| known.destination == destination)?;
        Some(found.next_hop)
    }

    /// Hands datagrams for `destination` to `next_hop` from `now` on.
    pub(super) fn set(&mut self, now: Instant, destination: A, next_hop: A) {
        self.0
            .retain(|known| known.until > now && known.destination != destination);
        if self.0.len() >= MAX_REDIRECTS {
            self.0.remove(0);
        }
        self.0.push(Redirect {
            destination,
            next_hop,
            until: now + REDIRECT_LIFETIME,
        });
    }

    /// Hands nothing to `next_hop` any longer.
    pub(super) fn leave(&mut self, next_hop: A) {
        self.0.retain(|known| known.next_hop != next_hop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_bounded_and_end() {
        let mut redirects = Redirects::new();
        for host in 0..40 {
            redirects.set(Instant::from_nanos(host), host, 1_000 + host);
        }
        let now = Instant::from_nanos(40);
        let known = (0..40).filter(|host| redirects.get(now, *host).is_some());
        assert_eq!(known.collect::<Vec<_>>(), (24..40).collect::<Vec<_>>());
        redirects.set(now, 39, 7);
        assert_eq!(redirects.get(now, 39), Some(7));
        redirects.leave(7);
        assert_eq!(redirects.get(now, 39), None);
        let over = Instant::from_nanos(38) + REDIRECT_LIFETIME;
        assert_eq!(redirects.get(over, 38), None);
        redirects.set(over, 1, 2);
        assert_eq!(redirects.0.len(), 1, "what has ended is forgotten");
    }
}
