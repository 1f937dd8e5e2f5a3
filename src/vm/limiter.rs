//! How many ICMP errors a VM sends: as many as Linux does (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 f).
//!
//! One bucket for each destination (`icmp_ratelimit`, `inet_peer_xrlim_allow` in `net/ipv4/inetpeer.c`) and one for all
//! of them (`icmp_msgs_per_sec`, `icmp_msgs_burst`, `icmp_global_allow` in `net/ipv4/icmp.c`). IPv6 has the same.

use std::net::IpAddr;
use std::time::Duration;

use crate::time::Instant;

/// Errors to one destination: one a second, and six at once.
const PEER: Rate = Rate {
    interval: Duration::from_secs(1),
    burst: 6,
};
/// Errors to all destinations together: a thousand a second, and fifty at once.
const GLOBAL: Rate = Rate {
    interval: Duration::from_millis(1),
    burst: 50,
};
/// Destinations that are remembered; above that the least recently used is forgotten, and has a full bucket again. The
/// bucket for all of them holds nevertheless.
const PEERS: usize = 64;

#[derive(Clone, Copy)]
struct Rate {
    /// One token comes in this time.
    interval: Duration,
    /// Tokens that a bucket holds.
    burst: u32,
}

/// A bucket of tokens, as the time at which it will be full again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Bucket {
    full_at: Instant,
}

impl Bucket {
    fn has_token(&self, now: Instant, rate: Rate) -> bool {
        self.full_at.max(now) + rate.interval <= now + rate.interval * rate.burst
    }

    fn take(&mut self, now: Instant, rate: Rate) {
        self.full_at = self.full_at.max(now) + rate.interval;
    }
}

/// The buckets of one VM. Takes no memory before the first error.
#[derive(Debug, Default)]
pub(super) struct ErrorLimiter {
    global: Bucket,
    /// The most recently used last.
    peers: Vec<(IpAddr, Bucket)>,
}

impl ErrorLimiter {
    /// Tells if an error may go to `destination` at `now`. If so, it counts as sent.
    pub(super) fn allow(&mut self, now: Instant, destination: IpAddr) -> bool {
        let known = self.peers.iter().position(|(peer, _)| *peer == destination);
        let (_, mut peer) = match known {
            Some(index) => self.peers.remove(index),
            None => (destination, Bucket::default()),
        };
        let is_allowed = peer.has_token(now, PEER) && self.global.has_token(now, GLOBAL);
        if is_allowed {
            peer.take(now, PEER);
            self.global.take(now, GLOBAL);
        }
        if self.peers.len() >= PEERS {
            self.peers.remove(0);
        }
        self.peers.push((destination, peer));
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a4d_0000 + number).into()
    }

    fn allowed(limiter: &mut ErrorLimiter, now: u64, peers: impl Iterator<Item = u32>) -> usize {
        let now = Instant::from_nanos(now * 1_000_000);
        peers.filter(|&n| limiter.allow(now, peer(n))).count()
    }

    #[test]
    fn one_destination_gets_six_at_once_and_then_one_a_second() {
        let mut limiter = ErrorLimiter::default();
        let many = || std::iter::repeat_n(1, 100);
        for (now, expected) in [(5_000, 6), (5_999, 0), (6_000, 1), (9_000, 3), (99_000, 6)] {
            assert_eq!(allowed(&mut limiter, now, many()), expected, "at {now} ms");
        }
    }

    #[test]
    fn all_destinations_together_get_fifty_at_once_and_then_a_thousand_a_second() {
        let mut limiter = ErrorLimiter::default();
        for (now, expected) in [(5_000, 50), (5_001, 1), (5_011, 10), (9_000, 50)] {
            let peers = (now as u32)..(now as u32 + 1_000);
            assert_eq!(allowed(&mut limiter, now, peers), expected, "at {now} ms");
        }
        assert_eq!(limiter.peers.len(), PEERS);
    }
}
