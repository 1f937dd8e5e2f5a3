//! A lease: an address, until when, and what comes with it (RFC 2131 section 4.4.5).

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::time::Instant;
use crate::vm::ip::is_host;
use crate::vm::{Ignored, Ipv4Interface};
use crate::wire::{ClasslessRoute, DhcpReply, MacAddr};

/// The lease time that stands for ever.
const FOR_EVER: u32 = u32::MAX;
/// The smallest MTU that a server may give (RFC 2132 section 5.1): what IPv4 needs.
const LEAST_MTU: u16 = 68;

/// An address for a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lease {
    pub(super) address: Ipv4Addr,
    prefix_length: u8,
    /// The ways out of the network: the classless routes, or else the default route by the router.
    pub(super) routes: Box<[ClasslessRoute]>,
    /// The largest datagram that the link carries, as the server has it.
    mtu: Option<u16>,
    pub(super) server: Ipv4Addr,
    /// Where the server's messages come from: the server, or the router between.
    pub(super) server_mac: MacAddr,
    /// When to ask this server for longer; `None` if the lease is for ever.
    pub(super) renew_at: Option<Instant>,
    /// When to ask any server for longer.
    pub(super) rebind_at: Instant,
    /// When the address is lost.
    pub(super) expires_at: Instant,
}

impl Lease {
    /// The lease that `reply` offers or grants at `now`.
    ///
    /// # Errors
    /// When it is for no time, or the address can't be a host's.
    pub(super) fn new(
        now: Instant,
        mac: MacAddr,
        server: Ipv4Addr,
        reply: DhcpReply,
    ) -> Result<Lease, Ignored> {
        let seconds = reply.lease_time.filter(|seconds| *seconds > 0);
        let seconds = seconds.ok_or(Ignored::DhcpNoLeaseTime)?;
        let address = reply.your_address;
        if !is_host(address) {
            return Err(Ignored::DhcpAddress);
        }
        let times = Times::new(seconds, reply.renewal_time, reply.rebinding_time);
        let default = |gateway| ClasslessRoute {
            destination: Ipv4Addr::UNSPECIFIED,
            prefix_length: 0,
            gateway: Some(gateway),
        };
        let routes = reply.routes;
        let mut routes = routes.unwrap_or_else(|| reply.router.map(default).into_iter().collect());
        let may_be_gateway = |gateway: Ipv4Addr| is_host(gateway) && gateway != address;
        routes.retain(|route| route.gateway.is_none_or(may_be_gateway));
        Ok(Lease {
            address,
            prefix_length: reply.prefix_length.unwrap_or(class_prefix(address)),
            routes: routes.into(),
            mtu: reply.mtu.filter(|mtu| *mtu >= LEAST_MTU),
            server,
            server_mac: mac,
            renew_at: (seconds != FOR_EVER).then_some(now + times.renew),
            rebind_at: now + times.rebind,
            expires_at: now + times.whole,
        })
    }

    /// The address with its network. The gateway is one of the routes.
    pub(super) fn interface(&self) -> Ipv4Interface {
        Ipv4Interface {
            address: self.address,
            prefix_length: self.prefix_length,
            gateway: None,
        }
    }

    /// The largest datagram that the link carries, if that is less than the `interface` takes.
    pub(super) fn mtu(&self, interface: u16) -> Option<u16> {
        self.mtu.filter(|mtu| *mtu < interface)
    }
}

/// How long after a grant something is due: 0 < `renew` < `rebind` < `whole`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Times {
    renew: Duration,
    rebind: Duration,
    whole: Duration,
}

impl Times {
    /// A half and seven eighths of `lease` seconds (RFC 2131 section 4.4.5), unless the server gives T1 and T2 and they make
    /// sense: one of 0, and a T2 that is not before the end, count as not given; a T1 that is not before T2 has neither
    /// count. So at least half a second, half of the shortest lease, lies between a grant and the next request, whatever
    /// the server says.
    fn new(lease: u32, t1: Option<u32>, t2: Option<u32>) -> Times {
        let span = |seconds: u32| Duration::from_secs(seconds.into());
        let given = |time: Option<u32>| time.filter(|seconds| *seconds > 0).map(span);
        let whole = span(lease);
        let default = Times {
            renew: whole / 2,
            rebind: whole * 7 / 8,
            whole,
        };
        let rebind = given(t2).filter(|rebind| *rebind < whole);
        let told = Times {
            renew: given(t1).unwrap_or(default.renew),
            rebind: rebind.unwrap_or(default.rebind),
            whole,
        };
        if told.renew < told.rebind {
            told
        } else {
            default
        }
    }
}

/// The prefix of an address whose mask nobody tells: that of its class (RFC 1122 section 3.3.1.1), as Linux has it.
fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets() {
        [0..128, ..] => 8,
        [128..192, ..] => 16,
        [192..224, ..] => 24,
        _ => 32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_make_no_sense_count_as_not_given() {
        let last = u32::MAX;
        for (lease, t1, t2, renew, rebind) in [
            (1_000, None, None, 500_000, 875_000),
            (1_000, Some(100), Some(200), 100_000, 200_000),
            (1_000, Some(100), None, 100_000, 875_000),
            (1_000, Some(0), None, 500_000, 875_000),
            (1_000, None, Some(0), 500_000, 875_000),
            (1_000, Some(0), Some(0), 500_000, 875_000),
            (1_000, Some(0), Some(700), 500_000, 700_000),
            (1_000, Some(0), Some(1), 500_000, 875_000),
            (1_000, None, Some(500), 500_000, 875_000),
            (1_000, None, Some(501), 500_000, 501_000),
            (1_000, Some(200), Some(200), 500_000, 875_000),
            (1_000, Some(300), Some(200), 500_000, 875_000),
            (1_000, Some(999), None, 500_000, 875_000),
            (1_000, Some(100), Some(1_000), 100_000, 875_000),
            (1_000, Some(100), Some(2_000), 100_000, 875_000),
            (1_000, Some(2_000), Some(3_000), 500_000, 875_000),
            (1_000, Some(last), Some(last), 500_000, 875_000),
            (1_000, Some(1), Some(2), 1_000, 2_000),
            (1, None, None, 500, 875),
            (1, Some(1), Some(1), 500, 875),
            (2, Some(0), Some(1), 1_000, 1_750),
            (3, Some(1), Some(2), 1_000, 2_000),
            (last - 1, None, None, 2_147_483_647_000, 3_758_096_382_250),
        ] {
            let times = Times::new(lease, t1, t2);
            let millis = [times.renew, times.rebind].map(|time| time.as_millis());
            assert_eq!(millis, [renew, rebind], "lease {lease} T1 {t1:?} T2 {t2:?}");
            let Times {
                renew,
                rebind,
                whole,
            } = times;
            assert!(Duration::from_millis(500) <= renew && renew < rebind && rebind < whole);
        }
    }

    #[test]
    fn an_address_without_a_mask_is_in_the_network_of_its_class() {
        for (address, prefix) in [
            ([10, 1, 2, 3], 8),
            ([127, 255, 255, 255], 8),
            ([128, 0, 0, 1], 16),
            ([191, 255, 0, 1], 16),
            ([192, 0, 2, 1], 24),
            ([223, 0, 2, 1], 24),
            ([240, 0, 0, 1], 32),
        ] {
            assert_eq!(class_prefix(address.into()), prefix, "{address:?}");
        }
    }
}
