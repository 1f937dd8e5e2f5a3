//! What a VM is, before it has done anything.

use std::net::Ipv4Addr;

use crate::wire::MacAddr;

/// What a VM is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VmConfig {
    /// The hardware address of its interface.
    pub mac: MacAddr,
    /// What it is on IPv4.
    pub ipv4: Ipv4Config,
}

/// What a VM is on IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Config {
    /// Its address.
    pub address: Ipv4Addr,
}
