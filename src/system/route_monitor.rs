//! Hears from the kernel what becomes of the routes in the lab's namespace (`rtnetlink(7)`, `RTNLGRP_IPV4_ROUTE` and
//! `RTNLGRP_IPV6_ROUTE`).
//!
//! A run changes no route while it pings, so that all that is heard is somebody else's doing; but for the routes that the
//! kernel makes and removes by itself (`RTPROT_KERNEL`), with addresses and links, those of the run among them. They are
//! passed over, and so are clones of routes in the cache, and the table of local addresses. That a link goes down takes its
//! IPv4 routes with it silently.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, RawFd};

use ipnet::IpNet;
use mio::Interest;
use nix::libc;

use super::error::SystemError;
use super::netlink::link::attributes;
use super::netlink::monitor::{Monitor, messages};
use super::poll_handle::PollHandle;
use crate::fabric::RouteEvent;

/// Bytes of `struct rtmsg`, which the attributes follow.
const HEADER: usize = 12;
/// `RTM_F_CLONED` of `linux/rtnetlink.h`: a route of the cache.
const CLONED: u32 = 0x200;

/// Listens for changes of routes. The descriptor is readable when there are some.
#[derive(Debug)]
pub(super) struct RouteMonitor(Monitor);

impl RouteMonitor {
    /// Listens in the network namespace of the calling thread. The poll of `links` reports changes as it does those of links.
    ///
    /// # Errors
    /// When the kernel has no descriptor left.
    pub(super) fn listen(links: &PollHandle) -> Result<RouteMonitor, SystemError> {
        let monitor = RouteMonitor::open()?;
        links
            .register(&monitor, 0, Interest::READABLE)
            .map_err(|error| SystemError::io("have the poll tell of changes of routes", &error))?;
        Ok(monitor)
    }

    fn open() -> Result<RouteMonitor, SystemError> {
        let groups = [libc::RTNLGRP_IPV4_ROUTE, libc::RTNLGRP_IPV6_ROUTE];
        Monitor::open("routes", &groups).map(RouteMonitor)
    }

    /// The changes since the last call.
    pub(super) fn drain(&mut self) -> Vec<RouteEvent> {
        let mut events = Vec::new();
        if !self.0.hear(|told| read(told, &mut events)) {
            events.push(RouteEvent::Missed);
        }
        events
    }
}

impl AsRawFd for RouteMonitor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Reads one datagram.
fn read(told: &[u8], events: &mut Vec<RouteEvent>) {
    events.extend(messages(told).filter_map(|(kind, payload)| {
        let route = destination(payload)?;
        match kind {
            libc::RTM_NEWROUTE => Some(RouteEvent::Added(route)),
            libc::RTM_DELROUTE => Some(RouteEvent::Removed(route)),
            _ => None,
        }
    }));
}

/// The destination of the route that `payload`, a `struct rtmsg` with attributes, is about; `None` if the kernel made it.
fn destination(payload: &[u8]) -> Option<IpNet> {
    let &[
        family,
        prefix_length,
        _source_length,
        _tos,
        table,
        protocol,
        _scope,
        _type,
        a,
        b,
        c,
        d,
    ] = payload.first_chunk::<HEADER>()?;
    let flags = u32::from_ne_bytes([a, b, c, d]);
    if protocol == libc::RTPROT_KERNEL || table == libc::RT_TABLE_LOCAL || flags & CLONED != 0 {
        return None;
    }
    let mut attributes = attributes(payload.get(HEADER..)?);
    let address = attributes.find(|(kind, _)| *kind == libc::RTA_DST);
    let address = address.map(|(_, bytes)| bytes);
    let address = match i32::from(family) {
        libc::AF_INET => match address {
            None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Some(bytes) => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        },
        libc::AF_INET6 => match address {
            None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            Some(bytes) => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        },
        _ => return None,
    };
    IpNet::new(address, prefix_length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message about a route, as the kernel writes it.
    fn message(
        kind: u16,
        (family, prefix): (i32, u8),
        (table, protocol, flags): (u8, u8, u32),
        to: &[u8],
    ) -> Vec<u8> {
        let mut payload = vec![family as u8, prefix, 0, 0, table, protocol, 0, 1];
        payload.extend(flags.to_ne_bytes());
        if !to.is_empty() {
            payload.extend((4 + to.len() as u16).to_ne_bytes());
            payload.extend(libc::RTA_DST.to_ne_bytes());
            payload.extend(to);
        }
        let mut message = (16 + payload.len() as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; 10]);
        message.extend(payload);
        message
    }

    #[test]
    fn routes_of_others_are_told_and_those_of_the_kernel_are_not() {
        const BOOT: u8 = libc::RTPROT_BOOT;
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let (four, six) = (libc::AF_INET, libc::AF_INET6);
        let mut all = Vec::new();
        let mut six_address = [0; 16];
        six_address[..2].copy_from_slice(&[0xfd, 0x77]);
        for part in [
            message(
                libc::RTM_NEWROUTE,
                (four, 8),
                (254, BOOT, 0),
                &[10, 0, 0, 0],
            ),
            message(libc::RTM_DELROUTE, (six, 16), (254, BOOT, 0), &six_address),
            message(libc::RTM_NEWROUTE, (four, 0), (254, BOOT, 0), &[]),
            // Those of the kernel, of local addresses, of the cache, of another family, and cut off.
            message(
                libc::RTM_NEWROUTE,
                (four, 8),
                (254, libc::RTPROT_KERNEL, 0),
                &[10, 0, 0, 0],
            ),
            message(
                libc::RTM_NEWROUTE,
                (four, 8),
                (255, BOOT, 0),
                &[10, 0, 0, 0],
            ),
            message(
                libc::RTM_NEWROUTE,
                (four, 8),
                (254, BOOT, CLONED),
                &[10, 0, 0, 0],
            ),
            message(libc::RTM_NEWROUTE, (7, 8), (254, BOOT, 0), &[10, 0, 0, 0]),
            message(libc::RTM_NEWROUTE, (four, 8), (254, BOOT, 0), &[10, 0, 0]),
            message(
                libc::RTM_NEWROUTE,
                (four, 33),
                (254, BOOT, 0),
                &[10, 0, 0, 0],
            ),
            message(
                libc::RTM_NEWNEIGH,
                (four, 8),
                (254, BOOT, 0),
                &[10, 0, 0, 0],
            ),
        ] {
            all.extend(part);
            all.resize(all.len().next_multiple_of(4), 0);
        }
        let mut events = Vec::new();
        read(&all, &mut events);
        let expected = [
            RouteEvent::Added(net("10.0.0.0/8")),
            RouteEvent::Removed(net("fd77::/16")),
            RouteEvent::Added(net("0.0.0.0/0")),
        ];
        assert_eq!(events, expected);
        // However it is cut, nothing panics.
        for length in 0..all.len() {
            read(&all[..length], &mut Vec::new());
        }
    }
}
