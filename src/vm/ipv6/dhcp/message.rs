//! The messages of the client to servers (RFC 8415 section 18.2).

use std::net::Ipv6Addr;
use std::time::Duration;

use super::exchange::Exchange;
use crate::wire::{Dhcpv6Kind, Dhcpv6Request, MacAddr};

/// A message to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::vm) struct Outgoing {
    kind: Dhcpv6Kind,
    transaction: u32,
    elapsed: Duration,
    /// The identifier of the only server that it is for.
    server: Option<Box<[u8]>>,
    addresses: Box<[Ipv6Addr]>,
}

impl Outgoing {
    pub(super) fn new(
        exchange: &Exchange,
        elapsed: Duration,
        server: Option<&[u8]>,
        addresses: Box<[Ipv6Addr]>,
    ) -> Outgoing {
        Outgoing {
            kind: exchange.kind,
            transaction: exchange.transaction,
            elapsed,
            server: server.map(Box::from),
            addresses,
        }
    }

    /// The message as a client with that hardware address sends it.
    pub(super) fn request(&self, mac: MacAddr) -> Dhcpv6Request<'_> {
        Dhcpv6Request {
            kind: self.kind,
            transaction: self.transaction,
            client_mac: mac,
            server: self.server.as_deref(),
            elapsed: self.elapsed,
            association: association(mac),
            addresses: &self.addresses,
        }
    }
}

/// The only identity association of a client: what is peculiar to its hardware address, so that it is always the same.
pub(super) const fn association(mac: MacAddr) -> u32 {
    let [_, _, a, b, c, d] = mac.0;
    u32::from_be_bytes([a, b, c, d])
}
