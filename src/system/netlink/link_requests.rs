//! Requests about links: look them up, make, change and remove them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkHeader,
    LinkInfo, LinkMessage, LinkXdp,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::{ioctl_readwrite_bad, libc};

use super::super::error::SystemError;
use super::super::vlan_table::VlanFiltering;
use super::link::{Link, parse_link};
use super::port::LinkKey;
use super::requests::Request;
use super::{Netlink, Refusal};
use crate::wire::MacAddr;

/// `linux/if_link.h`: in the driver, not behind it, which is hardly faster than a bridge.
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// A bridge to be made: no spanning tree, no forward delay, no multicast snooping.
#[derive(Clone, Debug)]
pub struct BridgePlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address, given so that it does not change with its ports.
    pub mac: MacAddr,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its group.
    pub group: u32,
    /// Its alias.
    pub alias: &'a str,
    /// Which of its ports is in which VLAN, if it looks at tags.
    pub vlan_filtering: Option<&'a VlanFiltering>,
}

/// Changes of a link, all of them by one message; `None` stays as it is.
#[derive(Clone, Copy, Default, Debug)]
pub struct LinkChange<'a> {
    /// The bridge to join, by index.
    pub master: Option<u32>,
    /// Up or down.
    pub up: Option<bool>,
    /// Hardware address.
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Group.
    pub group: Option<u32>,
    /// Alias.
    pub alias: Option<&'a str>,
    /// The XDP program to run on each frame that a TAP's reader writes, in the driver itself.
    pub xdp: Option<BorrowedFd<'a>>,
    /// How many frames wait for a reader before the kernel drops more (`txqueuelen`).
    pub tx_queue_length: Option<u32>,
    /// The network namespace to go to. The link comes out down, and without the bridge that it was a port of.
    pub netns: Option<BorrowedFd<'a>>,
}

impl<'a> LinkChange<'a> {
    /// The change that moves a link to a network namespace.
    pub(in crate::system) fn away_to(namespace: &'a impl AsFd) -> LinkChange<'a> {
        LinkChange {
            netns: Some(namespace.as_fd()),
            ..LinkChange::default()
        }
    }

    /// The request that changes `link`.
    pub(in crate::system) fn request(&self, link: LinkKey<'_>) -> Request {
        let mut header = LinkHeader::default();
        let name = match link {
            LinkKey::Name(name) => Some(LinkAttribute::IfName(name.to_owned())),
            LinkKey::Index(index) => {
                header.index = index;
                None
            }
        };
        if let Some(up) = self.up {
            header.change_mask = LinkFlags::Up;
            header.flags = if up {
                LinkFlags::Up
            } else {
                LinkFlags::empty()
            };
        }
        let attributes = [
            name,
            self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())),
            self.mtu.map(LinkAttribute::Mtu),
            self.group.map(LinkAttribute::Group),
            self.alias
                .map(|alias| LinkAttribute::IfAlias(alias.to_owned())),
            self.tx_queue_length.map(LinkAttribute::TxQueueLen),
            self.master.map(LinkAttribute::Controller),
            self.netns
                .map(|namespace| LinkAttribute::NetNsFd(namespace.as_raw_fd())),
            self.xdp.map(|program| {
                LinkAttribute::Xdp(vec![
                    LinkXdp::Fd(program.as_raw_fd()),
                    LinkXdp::Flags(XDP_FLAGS_DRV_MODE),
                ])
            }),
        ];
        let message = link_message(header, attributes.into_iter().flatten().collect());
        (RouteNetlinkMessage::NewLink(message), 0)
    }
}

/// `struct ifreq` of `linux/if.h` with `ifr_ifindex` as the member of its union.
#[repr(C)]
#[derive(Default)]
struct IndexRequest {
    name: [u8; libc::IFNAMSIZ],
    index: u32,
    rest_of_union: [u8; 20],
}

// Any socket takes it, and answers for its own namespace (`sock_do_ioctl()` of `net/socket.c`).
ioctl_readwrite_bad!(get_index, libc::SIOCGIFINDEX as libc::c_ulong, IndexRequest);

impl Netlink {
    /// All links of the namespace.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn links(&mut self) -> Result<Vec<Link>, SystemError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.dump(&request, parse_link)
            .map_err(|refusal| refusal.of("list the links"))
    }

    /// The link called `name`, if there is one.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, SystemError> {
        let mut found = None;
        self.look_up(name, |payload| found = parse_link(payload))?;
        Ok(found)
    }

    /// The index of the link called `name`, in the namespace of the socket.
    ///
    /// # Errors
    /// When there is none, or the kernel does not tell.
    pub(in crate::system) fn index(&self, name: &str) -> Result<u32, SystemError> {
        let mut request = IndexRequest::default();
        for (slot, byte) in request.name.iter_mut().zip(name.bytes()) {
            *slot = byte;
        }
        #[allow(unsafe_code)]
        // SAFETY: the descriptor is open, and the request is as large as the kernel's `struct ifreq` and outlives the call.
        unsafe { get_index(self.socket.as_raw_fd(), &mut request) }
            .map_err(|errno| SystemError::kernel(format!("look up link {name}"), errno))?;
        Ok(request.index)
    }

    /// Hands the kernel's answer about the link called `name` to `on_reply`, if there is one.
    pub(super) fn look_up(
        &mut self,
        name: &str,
        on_reply: impl FnMut(&[u8]),
    ) -> Result<(), SystemError> {
        let request = RouteNetlinkMessage::GetLink(link_message(
            LinkHeader::default(),
            vec![LinkAttribute::IfName(name.to_owned())],
        ));
        match self.request(vec![(request, 0)], on_reply) {
            Err(refusal) if refusal.errno != Errno::ENODEV => {
                Err(refusal.of(format!("look up link {name}")))
            }
            _ => Ok(()),
        }
    }

    /// Makes a bridge, still down, and returns its index.
    ///
    /// The kernel takes an alias only for a link that exists already, so a second message follows in the same
    /// datagram: not even SIGKILL comes in between and leaves a bridge without its mark.
    ///
    /// # Errors
    /// When the name is taken (`EEXIST`), or the kernel does not let us.
    pub fn create_bridge(&mut self, plan: &BridgePlan<'_>) -> Result<u32, SystemError> {
        let BridgePlan { name, mac, mtu, .. } = *plan;
        let mut bridge = vec![
            InfoBridge::StpState(BridgeStpState::Disabled),
            InfoBridge::ForwardDelay(0),
            InfoBridge::MulticastSnooping(false),
        ];
        bridge.extend(
            plan.vlan_filtering
                .into_iter()
                .flat_map(VlanFiltering::attributes),
        );
        let create = LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(bridge)),
        ]);
        let create = link_message(
            LinkHeader::default(),
            vec![
                LinkAttribute::IfName(name.to_owned()),
                LinkAttribute::Address(mac.0.to_vec()),
                LinkAttribute::Mtu(mtu),
                LinkAttribute::Group(plan.group),
                create,
            ],
        );
        let mark = link_message(
            LinkHeader::default(),
            vec![
                LinkAttribute::IfName(name.to_owned()),
                LinkAttribute::IfAlias(plan.alias.to_owned()),
            ],
        );
        let requests = vec![
            (
                RouteNetlinkMessage::NewLink(create),
                NLM_F_CREATE | NLM_F_EXCL,
            ),
            (RouteNetlinkMessage::SetLink(mark), 0),
        ];
        let operation = || format!("create bridge {name}");
        self.request(requests, |_| ()).map_err(|refusal| {
            let errno = refusal.errno;
            let error = refusal.of(operation());
            match errno {
                Errno::EEXIST => {
                    error.advise(format!("the name {name} is taken: choose another --bridge"))
                }
                Errno::EOPNOTSUPP if plan.vlan_filtering.is_some() => error.advise(
                    "this kernel's bridges know no VLANs (CONFIG_BRIDGE_VLAN_FILTERING): leave out --vlan-filtering",
                ),
                Errno::EOPNOTSUPP => {
                    error.advise("this kernel has no bridge driver: modprobe bridge")
                }
                _ => error,
            }
        })?;
        match self.link(name)? {
            Some(link) => Ok(link.index),
            None => Err(SystemError::refused(operation(), "it is gone again")),
        }
    }

    /// Makes a pair of veth devices, still down, of which what goes into one comes out of the other. Both get `mtu`,
    /// `group` and `alias`.
    ///
    /// # Errors
    /// When a name is taken (`EEXIST`), or the kernel does not let us.
    pub fn create_veth(
        &mut self,
        names: (&str, &str),
        mtu: u32,
        group: u32,
        alias: &str,
    ) -> Result<(), SystemError> {
        let end = |name: &str| {
            vec![
                LinkAttribute::IfName(name.to_owned()),
                LinkAttribute::Mtu(mtu),
                LinkAttribute::Group(group),
            ]
        };
        let mut attributes = end(names.0);
        attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(link_message(
                LinkHeader::default(),
                end(names.1),
            )))),
        ]));
        let create = link_message(LinkHeader::default(), attributes);
        let mark = |name: &str| {
            let attributes = vec![
                LinkAttribute::IfName(name.to_owned()),
                LinkAttribute::IfAlias(alias.to_owned()),
            ];
            let message = link_message(LinkHeader::default(), attributes);
            (RouteNetlinkMessage::SetLink(message), 0)
        };
        let requests = vec![
            (
                RouteNetlinkMessage::NewLink(create),
                NLM_F_CREATE | NLM_F_EXCL,
            ),
            mark(names.0),
            mark(names.1),
        ];
        self.request(requests, |_| ()).map_err(|refusal| {
            let errno = refusal.errno;
            let error = refusal.of(format!("create veth pair {} and {}", names.0, names.1));
            match errno {
                Errno::EOPNOTSUPP => error.advise("this kernel has no veth driver: modprobe veth"),
                _ => error,
            }
        })
    }

    /// Changes the link called `name` by one message.
    ///
    /// # Errors
    /// When the kernel refuses any part of it.
    pub fn change_link(&mut self, name: &str, change: &LinkChange<'_>) -> Result<(), SystemError> {
        self.try_change_link(name, change)
            .map_err(|refusal| refusal.of(format!("configure link {name}")))
    }

    pub(in crate::system) fn try_change_link(
        &mut self,
        name: &str,
        change: &LinkChange<'_>,
    ) -> Result<(), Refusal> {
        self.request(vec![change.request(LinkKey::Name(name))], |_| ())
    }

    /// Puts an address, with the route to its subnet, on the link with that index; `name` is for the error. An IPv6
    /// address is used at once, without asking whether somebody has it.
    ///
    /// # Errors
    /// When the kernel refuses, for instance because the link has that address (`EEXIST`).
    pub fn add_address(
        &mut self,
        name: &str,
        index: u32,
        address: IpNet,
    ) -> Result<(), SystemError> {
        let mut message = AddressMessage::default();
        message.header.prefix_len = address.prefix_len();
        message.header.scope = AddressScope::Universe;
        message.header.index = index;
        message.attributes = vec![
            AddressAttribute::Local(address.addr()),
            AddressAttribute::Address(address.addr()),
        ];
        match address {
            IpNet::V4(address) => {
                message.header.family = AddressFamily::Inet;
                if address.prefix_len() < 31 {
                    let broadcast = AddressAttribute::Broadcast(address.broadcast());
                    message.attributes.push(broadcast);
                }
            }
            IpNet::V6(_) => {
                message.header.family = AddressFamily::Inet6;
                let flags = AddressAttribute::Flags(AddressFlags::Nodad);
                message.attributes.push(flags);
            }
        }
        let request = (
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
        );
        self.request(vec![request], |_| ())
            .map_err(|refusal| refusal.of(format!("add address {address} to {name}")))
    }

    /// Removes one link, by its index, so that a new link of the same name is safe. One that is gone is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete_link(&mut self, link: &Link) -> Result<(), SystemError> {
        let header = LinkHeader {
            index: link.index,
            ..LinkHeader::default()
        };
        self.delete(header, Vec::new(), || format!("remove link {}", link.name))
    }

    /// Removes all links of a group in one go, which is a hundred times faster than one by one. A group without links
    /// is no error. Group 0, where every unmarked link is, is refused.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete_group(&mut self, group: u32) -> Result<(), SystemError> {
        let operation = || format!("remove the links of group {group}");
        if group == 0 {
            return Err(SystemError::refused(operation(), "it is everybody's group"));
        }
        self.delete(
            LinkHeader::default(),
            vec![LinkAttribute::Group(group)],
            operation,
        )
    }

    fn delete(
        &mut self,
        header: LinkHeader,
        attributes: Vec<LinkAttribute>,
        operation: impl Fn() -> String,
    ) -> Result<(), SystemError> {
        let request = RouteNetlinkMessage::DelLink(link_message(header, attributes));
        match self.request(vec![(request, 0)], |_| ()) {
            Err(refusal) if refusal.errno != Errno::ENODEV => Err(refusal.of(operation())),
            _ => Ok(()),
        }
    }
}

fn link_message(header: LinkHeader, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header = header;
    message.attributes = attributes;
    message
}
