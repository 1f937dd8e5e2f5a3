//! A link, which is what rtnetlink calls a network interface, as it is read from the kernel's reply.

use std::fmt;

use netlink_packet_core::NlasIterator;
use netlink_packet_route::link::{LinkFlags, LinkHeader};

use super::text;
use crate::wire::MacAddr;

/// `struct ifinfomsg`.
pub(in crate::system) const LINK_HEADER_BYTES: usize = 16;

/// The kind of a link, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkKind {
    /// A Linux bridge.
    Bridge,
    /// A TAP: a tun device that carries Ethernet frames.
    Tap,
    /// A device on another one that receives nothing for other hardware addresses than its own (macvlan, but in the mode
    /// `passthru`, and ipvlan).
    OwnFramesOnly,
    /// Anything else.
    Other,
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LinkKind::Bridge => "a bridge",
            LinkKind::Tap => "a TAP",
            LinkKind::OwnFramesOnly | LinkKind::Other => "neither a bridge nor a TAP",
        })
    }
}

/// One link, as it was when it was looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The number by which the kernel knows it; never used again in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address; all zeros for a link without one, such as a bridge that has lost its last port.
    pub mac: MacAddr,
    /// The free text put on it (`ip link set … alias`).
    pub alias: Option<String>,
    /// Its group; 0 unless somebody set one.
    pub group: u32,
    /// Its kind.
    pub kind: LinkKind,
    /// The index of the bridge (or other master) that it is a port of.
    pub master: Option<u32>,
    /// It was brought up (`IFF_UP`), carrier or not.
    pub up: bool,
    /// It has a carrier, up or not: a TAP has one while a process is attached to it.
    pub carrier: bool,
    /// Its MTU in bytes, without the Ethernet header.
    pub mtu: u32,
    /// How many frames its queue takes.
    pub tx_queue_length: u32,
    /// Frames that the kernel dropped instead of sending them; for a TAP, those that its full queue did not take and
    /// those that a program of its own did not let through.
    pub tx_dropped: u64,
}

#[cfg(test)]
impl Link {
    /// A link that does not exist, and that is up.
    pub(in crate::system) fn example(name: &str, kind: LinkKind) -> Link {
        Link {
            index: 7,
            name: name.to_owned(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            alias: None,
            group: 0,
            kind,
            master: None,
            up: true,
            carrier: true,
            mtu: 1500,
            tx_queue_length: 1000,
            tx_dropped: 0,
        }
    }
}

/// Attribute numbers of `linux/if_link.h`.
mod attribute {
    pub(in crate::system) const ADDRESS: u16 = 1;
    pub(in crate::system) const IFNAME: u16 = 3;
    pub(in crate::system) const MTU: u16 = 4;
    pub(in crate::system) const MASTER: u16 = 10;
    pub(in crate::system) const TXQLEN: u16 = 13;
    pub(in crate::system) const LINKINFO: u16 = 18;
    pub(in crate::system) const IFALIAS: u16 = 20;
    pub(in crate::system) const STATS64: u16 = 23;
    pub(in crate::system) const GROUP: u16 = 27;
    pub(in crate::system) const CARRIER: u16 = 33;
    pub(in crate::system) const INFO_KIND: u16 = 1;
    pub(in crate::system) const INFO_DATA: u16 = 2;
    pub(in crate::system) const TUN_TYPE: u16 = 3;
    /// `IFF_TAP` of `linux/if_tun.h`.
    pub(in crate::system) const TUN_TYPE_TAP: u8 = 2;
    /// `IFLA_MACVLAN_MODE` of `linux/if_link.h`.
    pub(in crate::system) const MACVLAN_MODE: u16 = 1;
    pub(in crate::system) const MACVLAN_MODE_PASSTHRU: u32 = 8;
    /// Where `tx_dropped` is in `struct rtnl_link_stats64`.
    pub(in crate::system) const TX_DROPPED: std::ops::Range<usize> = 56..64;
}

/// Reads the payload of an `RTM_NEWLINK`; `None` if it is none.
pub(in crate::system) fn parse_link(payload: &[u8]) -> Option<Link> {
    let header = LinkHeader::parse(payload).ok()?;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        mac: MacAddr::ZERO,
        alias: None,
        group: 0,
        kind: LinkKind::Other,
        master: None,
        up: header.flags.contains(LinkFlags::Up),
        carrier: false,
        mtu: 0,
        tx_queue_length: 0,
        tx_dropped: 0,
    };
    for (kind, value) in attributes(payload.get(LINK_HEADER_BYTES..)?) {
        let number = || value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        match kind {
            attribute::IFNAME => link.name = text(value),
            attribute::ADDRESS => {
                link.mac = value
                    .first_chunk()
                    .map_or(MacAddr::ZERO, |&mac| MacAddr(mac));
            }
            attribute::IFALIAS => link.alias = Some(text(value)),
            attribute::MTU => link.mtu = number()?,
            attribute::GROUP => link.group = number()?,
            attribute::TXQLEN => link.tx_queue_length = number()?,
            attribute::MASTER => link.master = number(),
            attribute::CARRIER => link.carrier = value.first().is_some_and(|&on| on != 0),
            attribute::LINKINFO => link.kind = parse_kind(value),
            attribute::STATS64 => {
                let bytes = value.get(attribute::TX_DROPPED)?;
                link.tx_dropped = u64::from_ne_bytes(bytes.try_into().ok()?);
            }
            _ => {}
        }
    }
    Some(link)
}

fn parse_kind(link_info: &[u8]) -> LinkKind {
    let kind = find_attribute(link_info, attribute::INFO_KIND).map(text);
    match kind.as_deref() {
        Some("bridge") => LinkKind::Bridge,
        Some("tun") => {
            let data = find_attribute(link_info, attribute::INFO_DATA).unwrap_or_default();
            match find_attribute(data, attribute::TUN_TYPE) {
                Some([attribute::TUN_TYPE_TAP, ..]) => LinkKind::Tap,
                _ => LinkKind::Other,
            }
        }
        Some("macvlan") => {
            let data = find_attribute(link_info, attribute::INFO_DATA).unwrap_or_default();
            let mode = find_attribute(data, attribute::MACVLAN_MODE);
            match mode.and_then(<[u8]>::first_chunk).copied() {
                Some(mode) if u32::from_ne_bytes(mode) == attribute::MACVLAN_MODE_PASSTHRU => {
                    LinkKind::Other
                }
                _ => LinkKind::OwnFramesOnly,
            }
        }
        Some("ipvlan") => LinkKind::OwnFramesOnly,
        _ => LinkKind::Other,
    }
}

/// The value of the first attribute of that kind.
pub(in crate::system) fn find_attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(kind, value)| (kind == wanted).then_some(value))
}

/// The attributes in an `RTM_NEWLINK` that depend on the kinds of the link and of its master.
pub(in crate::system) fn link_info(payload: &[u8]) -> Option<&[u8]> {
    find_attribute(payload.get(LINK_HEADER_BYTES..)?, attribute::LINKINFO)
}

/// The attributes in `link_info` that a link of this kind has.
pub(in crate::system) fn link_data<'a>(link_info: &'a [u8], kind: &str) -> Option<&'a [u8]> {
    let found = find_attribute(link_info, attribute::INFO_KIND).map(text)?;
    find_attribute(link_info, attribute::INFO_DATA).filter(|_| found == kind)
}

/// Kind and value of each attribute; ends at the first malformed one.
pub(in crate::system) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes)
        .map_while(Result::ok)
        .map(|attribute| {
            let (kind, end) = (attribute.kind(), usize::from(attribute.length()));
            (kind, attribute.into_inner().get(4..end).unwrap_or_default())
        })
}
