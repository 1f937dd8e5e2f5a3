//! The messages of the client to servers (RFC 2131 section 4.4.1 and table 5).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::DhcpClient;
use crate::time::Instant;
use crate::wire::{DhcpKind, DhcpRequest, MacAddr};

/// A message to be sent, and its destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::vm) struct Outgoing {
    pub(in crate::vm) request: DhcpRequest,
    /// The server that it goes to by unicast; `None` to broadcast it.
    pub(in crate::vm) to: Option<(MacAddr, Ipv4Addr)>,
}

impl DhcpClient {
    pub(super) const fn message(&self, kind: DhcpKind, transaction: u32) -> DhcpRequest {
        DhcpRequest {
            kind,
            transaction,
            client_mac: self.mac,
            seconds: 0,
            client_address: Ipv4Addr::UNSPECIFIED,
            requested: None,
            server: None,
            maximum_size: self.maximum_size,
        }
    }

    pub(super) fn discover(&self, now: Instant, since: Instant, transaction: u32) -> Outgoing {
        let request = DhcpRequest {
            seconds: seconds(now - since),
            ..self.message(DhcpKind::Discover, transaction)
        };
        Outgoing { request, to: None }
    }

    pub(super) fn request(
        &self,
        now: Instant,
        since: Instant,
        transaction: u32,
        address: Ipv4Addr,
        server: Ipv4Addr,
    ) -> Outgoing {
        let request = DhcpRequest {
            seconds: seconds(now - since),
            requested: Some(address),
            server: Some(server),
            ..self.message(DhcpKind::Request, transaction)
        };
        Outgoing { request, to: None }
    }

    pub(super) fn renewal(
        &self,
        now: Instant,
        since: Instant,
        transaction: u32,
        is_rebinding: bool,
    ) -> Option<Outgoing> {
        let lease = self.lease()?;
        let request = DhcpRequest {
            seconds: seconds(now - since),
            client_address: lease.address,
            ..self.message(DhcpKind::Request, transaction)
        };
        let to = (!is_rebinding).then_some((lease.server_mac, lease.server));
        Some(Outgoing { request, to })
    }
}

fn seconds(span: Duration) -> u16 {
    u16::try_from(span.as_secs()).unwrap_or(u16::MAX)
}
