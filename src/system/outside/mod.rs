//! What leads out of a lab: the port of its bridge behind which others are.
//!
//! The port is a link that the run makes, and that the kernel removes with the namespace of the lab. What it stands on, a network
//! card (`--uplink`) or the addresses of the host (`--underlay`), stays where it is and as it is, whatever ends the run: a card
//! that is moved to a namespace comes out down and without its addresses, and is lost with it if it is no hardware.

mod probe;
mod underlay;
mod uplink;

use std::fs::File;
use std::os::fd::AsRawFd;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkInfo, LinkMessage};

pub use self::probe::{Probed, UnderlayProbe};
pub use self::underlay::{OtherRanks, Peers, Underlay};
pub use self::uplink::ExistingLink;
use super::error::SystemError;
use super::namespace_file::{CURRENT_NAMESPACE, is_same};
use super::netlink::Netlink;
use super::netlink::link_requests::LinkChange;

/// What is outside of a lab.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outside {
    /// What an interface of the namespace that the program was started in is connected to; by its name.
    Uplink(String),
    /// Other labs, at the ends of a VXLAN.
    Underlay(Underlay),
}

/// What to do where the kernel lets this user make no such port.
const NEEDS_ROOT: &str = "what leads out of the lab needs root";

/// A port to be made.
pub(super) struct PortPlan<'a> {
    pub(super) name: &'a str,
    pub(super) mtu: u32,
    pub(super) group: u32,
    pub(super) alias: &'a str,
}

/// The network namespace that the program was started in, on which a port of the lab is to stand.
#[derive(Debug)]
pub(super) struct Home {
    file: File,
    netlink: Netlink,
}

impl Home {
    /// That of the calling thread, which has not entered the lab's yet.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn open() -> Result<Home, SystemError> {
        Ok(Home {
            file: current()?,
            netlink: Netlink::open()?,
        })
    }

    /// Makes the port of `plan` in the namespace of the calling thread, which `lab` sees, to what is `outside`. It is still down.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn make_port(
        &mut self,
        lab: &mut Netlink,
        plan: &PortPlan<'_>,
        outside: &Outside,
    ) -> Result<(), SystemError> {
        match outside {
            Outside::Uplink(name) => self.make_macvlan(lab, plan, name),
            Outside::Underlay(underlay) => self.make_vxlan(lab, plan, underlay),
        }
    }

    /// Makes a link in the namespace of the calling thread that stands on one of this namespace, and marks it.
    fn make(
        &mut self,
        lab: &mut Netlink,
        plan: &PortPlan<'_>,
        info: Vec<LinkInfo>,
        below: Option<u32>,
    ) -> Result<(), super::netlink::Refusal> {
        let here = current().map_err(|_| nix::errno::Errno::ENOENT)?;
        let mut attributes = vec![
            LinkAttribute::IfName(plan.name.to_owned()),
            LinkAttribute::Mtu(plan.mtu),
            LinkAttribute::Group(plan.group),
        ];
        attributes.extend(below.map(LinkAttribute::Link));
        let is_apart = !is_same(&here, &self.file);
        if is_apart {
            attributes.push(LinkAttribute::NetNsFd(here.as_raw_fd()));
        }
        attributes.push(LinkAttribute::LinkInfo(info));
        let mut message = LinkMessage::default();
        message.attributes = attributes;
        let create = (
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        );
        let mark = LinkChange {
            alias: Some(plan.alias),
            ..LinkChange::default()
        };
        let mark = mark.request(super::netlink::port::LinkKey::Name(plan.name));
        match is_apart {
            true => {
                self.netlink.request(vec![create], |_| ())?;
                lab.request(vec![mark], |_| ())
            }
            // By one datagram: who is killed leaves no link without a mark.
            false => self.netlink.request(vec![create, mark], |_| ()),
        }
    }
}

fn current() -> Result<File, SystemError> {
    File::open(CURRENT_NAMESPACE)
        .map_err(|error| SystemError::io("open the current namespace", &error))
}
