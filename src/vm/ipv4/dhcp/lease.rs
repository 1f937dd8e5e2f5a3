//! A lease: an address, and until when (RFC 2131 section 4.4.5).

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::time::Instant;
use crate::vm::Ipv4Interface;
use crate::vm::ip::is_host;
use crate::wire::{DhcpReply, MacAddr};

/// The lease time that stands for ever.
const FOR_EVER: u32 = u32::MAX;

/// An address for a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lease {
    pub(super) interface: Ipv4Interface,
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
    /// The lease that an acknowledgement grants at `now`. `None` if it is for no time, or the address can't be a host's.
    pub(super) fn new(
        now: Instant,
        mac: MacAddr,
        server: Ipv4Addr,
        reply: &DhcpReply,
    ) -> Option<Lease> {
        let seconds = reply.lease_time.filter(|seconds| *seconds > 0)?;
        if !is_host(reply.your_address) {
            return None;
        }
        let whole = Duration::from_secs(seconds.into());
        let given = |time: Option<u32>| time.map(|t| Duration::from_secs(t.into()));
        // RFC 2131 section 4.4.5: a half and seven eighths, unless the server says otherwise and it makes sense.
        let rebind = given(reply.rebinding_time)
            .filter(|time| *time <= whole)
            .unwrap_or(whole * 7 / 8);
        let renew = given(reply.renewal_time)
            .filter(|time| *time <= rebind)
            .unwrap_or((whole / 2).min(rebind));
        Some(Lease {
            interface: Ipv4Interface {
                address: reply.your_address,
                prefix_length: reply.prefix_length.unwrap_or(24),
                gateway: reply.router,
            },
            server,
            server_mac: mac,
            renew_at: (seconds != FOR_EVER).then_some(now + renew),
            rebind_at: now + rebind,
            expires_at: now + whole,
        })
    }
}
