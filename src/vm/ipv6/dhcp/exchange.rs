//! One message that is sent until it is answered (RFC 8415 section 15).

use std::time::Duration;

use crate::time::Instant;
use crate::wire::Dhcpv6Kind;

/// The longest wait between two solicitations, unless a server says otherwise (`SOL_MAX_RT`, RFC 8415 section 7.6).
pub const SOLICIT_MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// How often a message is sent, and how long its answer is waited for (RFC 8415 section 7.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    /// Wait after the first message (`IRT`).
    first: Duration,
    /// The longest wait (`MRT`), if there is one.
    most: Option<Duration>,
    /// How often it is sent at most (`MRC`).
    count: Option<u32>,
}

impl Limits {
    /// The limits of that message; solicitations are `solicit_max` apart at most.
    pub(super) const fn of(kind: Dhcpv6Kind, solicit_max: Duration) -> Limits {
        let (first, most, count) = match kind {
            Dhcpv6Kind::Solicit => (1, Some(solicit_max), None),
            Dhcpv6Kind::Request => (1, Some(Duration::from_secs(30)), Some(10)),
            Dhcpv6Kind::Renew | Dhcpv6Kind::Rebind => (10, Some(Duration::from_secs(600)), None),
            // Those that end something: releases and refusals.
            _ => (1, None, Some(4)),
        };
        Limits {
            first: Duration::from_secs(first),
            most,
            count,
        }
    }
}

/// A message that is sent until it is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Exchange {
    pub(super) kind: Dhcpv6Kind,
    pub(super) transaction: u32,
    /// When it was sent first; `None` before that.
    pub(super) since: Option<Instant>,
    /// How often it was sent.
    pub(super) sent: u32,
    /// The last wait (`RT`).
    timeout: Duration,
    /// When it is to be sent next, or given up.
    pub(super) at: Instant,
}

impl Exchange {
    /// A message that is first sent at `at`.
    pub(super) fn new(kind: Dhcpv6Kind, at: Instant, random: &mut fastrand::Rng) -> Exchange {
        Exchange {
            kind,
            transaction: random.u32(..1 << 24),
            since: None,
            sent: 0,
            timeout: Duration::ZERO,
            at,
        }
    }

    /// Tells if it was sent as often as `limits` let it.
    pub(super) fn is_over(&self, limits: Limits) -> bool {
        limits.count.is_some_and(|count| self.sent >= count)
    }

    /// Counts it as sent at `now`. Returns the time since it was sent first.
    pub(super) fn sends(
        &mut self,
        now: Instant,
        limits: Limits,
        random: &mut fastrand::Rng,
    ) -> Duration {
        let is_first = self.sent == 0;
        let spread = if is_first && self.kind == Dhcpv6Kind::Solicit {
            // Longer than the time in which every server may answer, never shorter (section 18.2.1).
            1.0 + random.f64() / 10.0
        } else {
            0.9 + random.f64() / 5.0
        };
        self.timeout = if is_first {
            limits.first.mul_f64(spread)
        } else {
            // RT = 2 * RTprev + RAND * RTprev
            self.timeout.mul_f64(1.0 + spread)
        };
        if let Some(most) = limits.most.filter(|most| self.timeout > *most) {
            self.timeout = most.mul_f64(spread);
        }
        self.sent = self.sent.saturating_add(1);
        self.at = now + self.timeout;
        now - *self.since.get_or_insert(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits after each message until it is given up, at most `count` of them, in tenths of the first wait.
    fn waits(kind: Dhcpv6Kind, solicit_max: Duration, count: usize) -> Vec<Duration> {
        let mut random = fastrand::Rng::with_seed(7);
        let limits = Limits::of(kind, solicit_max);
        let mut exchange = Exchange::new(kind, Instant::ZERO, &mut random);
        let mut waits = Vec::new();
        while waits.len() < count && !exchange.is_over(limits) {
            let now = exchange.at;
            let elapsed = exchange.sends(now, limits, &mut random);
            assert_eq!(elapsed, now - Instant::ZERO);
            waits.push(exchange.at - now);
        }
        waits
    }

    #[test]
    fn waits_double_up_to_a_limit_and_some_messages_are_given_up() {
        use Dhcpv6Kind::{Decline, Rebind, Release, Renew, Request, Solicit};
        for (kind, solicit_max, expected_count, first, most) in [
            (Solicit, 3600, 40, 1, 3600),
            (Solicit, 60, 40, 1, 60),
            (Request, 3600, 10, 1, 30),
            (Renew, 3600, 40, 10, 600),
            (Rebind, 3600, 40, 10, 600),
            (Release, 3600, 4, 1, 9),
            (Decline, 3600, 4, 1, 9),
        ] {
            let waits = waits(kind, Duration::from_secs(solicit_max), 40);
            assert_eq!(waits.len(), expected_count, "{kind}");
            let around = |wait: Duration, seconds: f64| {
                let ratio = wait.as_secs_f64() / seconds;
                assert!((0.9..=1.1).contains(&ratio), "{kind}: {waits:?}");
            };
            around(waits[0], f64::from(first));
            for (before, wait) in waits.iter().zip(&waits[1..]) {
                let ratio = wait.as_secs_f64() / before.as_secs_f64();
                let is_capped = wait.as_secs_f64() >= 0.9 * f64::from(most);
                assert!(
                    (1.9..=2.1).contains(&ratio) || is_capped,
                    "{kind}: {waits:?}"
                );
                assert!(
                    wait.as_secs_f64() <= 1.1 * f64::from(most),
                    "{kind}: {waits:?}"
                );
            }
            if kind == Solicit {
                assert!(waits[0] >= Duration::from_secs(1), "{waits:?}");
            }
        }
    }
}
