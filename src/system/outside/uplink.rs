//! An interface that exists and through which the lab's bridge reaches what is outside (`--uplink`).
//!
//! The port of the bridge is a macvlan device on it in the mode "passthru": what the interface receives goes to the port, and what
//! the port sends leaves by the interface, with any MAC address (`drivers/net/macvlan.c`). The interface itself hears broadcasts
//! and multicasts only from then on, so that it may have no addresses.

use ipnet::IpNet;
use netlink_packet_route::link::{InfoData, InfoKind, InfoMacVlan, LinkInfo, MacVlanMode};
use nix::errno::Errno;

use super::super::error::SystemError;
use super::super::lab_config::{LabConfig, NetnsChoice};
use super::super::namespace::netlink_in;
use super::super::netlink::Netlink;
use super::super::netlink::link::{Link, LinkKind};
use super::{Home, NEEDS_ROOT, PortPlan};

/// Broadcasts that wait for the worker by which a macvlan device takes them in (`bc_queue_len_req`, 1000 by default, which a
/// large lab that resolves its neighbours exceeds).
const BROADCASTS: u32 = 20_000;

/// An interface that exists, as it was when it was looked up.
#[derive(Clone, Debug)]
pub struct ExistingLink {
    link: Link,
    addresses: Vec<IpNet>,
}

impl ExistingLink {
    /// Looks up the interface `name` in the namespace of the calling thread, and changes nothing.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(name: &str) -> Result<ExistingLink, SystemError> {
        let why = "there is no such interface where the program was started";
        ExistingLink::look_up(&mut Netlink::open()?, name, (taking(name), why))
    }

    /// Looks up the interface `name` in a namespace, to put VMs behind it, and changes nothing.
    ///
    /// # Errors
    /// When there is none.
    pub fn find_in(netns: &NetnsChoice, name: &str) -> Result<ExistingLink, SystemError> {
        let why = match netns {
            NetnsChoice::Named(_) => "there is no such interface in that namespace",
            _ => "there is no such interface where the program was started",
        };
        ExistingLink::look_up(&mut netlink_in(netns)?, name, (using(name), why))
    }

    fn look_up(
        netlink: &mut Netlink,
        name: &str,
        (operation, why): (String, &str),
    ) -> Result<ExistingLink, SystemError> {
        let Some(link) = netlink.link(name)? else {
            let refused = SystemError::refused(operation, why);
            let links = netlink.links()?;
            let names = links.iter().filter(|link| is_fit(link));
            let names: Vec<&str> = names.map(|link| link.name.as_str()).take(8).collect();
            return Err(match names.is_empty() {
                true => refused.advise("ip link shows those that there are"),
                false => refused.advise(format!("expected one such as {}", names.join(", "))),
            });
        };
        let addresses = netlink.addresses(link.index)?;
        Ok(ExistingLink { link, addresses })
    }

    /// The interface.
    pub(in crate::system) fn link(&self) -> &Link {
        &self.link
    }

    /// Checks that a port of the bridge of `lab` can stand on it.
    ///
    /// # Errors
    /// The first thing that speaks against it, and what is expected.
    pub fn check(&self, lab: &LabConfig) -> Result<(), SystemError> {
        let name = &self.link.name;
        self.check_use(taking(name), lab)?;
        // One of the link itself is the kernel's own.
        if let Some(address) = self.addresses.iter().find(|of| !is_link_local(of)) {
            let why = format!(
                "it has the address {address}, and the host would not hear what comes for that"
            );
            return Err(SystemError::refused(taking(name), why).advise(format!(
                "expected an interface without addresses: ip address flush dev {name}"
            )));
        }
        Ok(())
    }

    /// Checks that VMs of `lab` can be behind it. Its addresses are the host's, and stay in use.
    ///
    /// # Errors
    /// The first thing that speaks against it, and what is expected.
    pub fn check_port(&self, lab: &LabConfig) -> Result<(), SystemError> {
        self.check_use(using(&self.link.name), lab)
    }

    fn check_use(&self, operation: String, lab: &LabConfig) -> Result<(), SystemError> {
        let Link { name, mtu, .. } = &self.link;
        let refused = |why: String| SystemError::refused(operation.clone(), why);
        if self.link.kind == LinkKind::Bridge {
            let why = "it is a bridge".to_owned();
            return Err(refused(why).advise(format!(
                "expected a network card, a veth or a VXLAN device; --join {name} adds the TAPs to that bridge"
            )));
        }
        if self.link.kind == LinkKind::OwnFramesOnly {
            let why = "it receives no frames for other hardware addresses than its own".to_owned();
            return Err(refused(why)
                .advise("expected a network card, a veth, or a macvlan of mode passthru"));
        }
        if !is_fit(&self.link) {
            let why = "it carries no Ethernet frames".to_owned();
            return Err(refused(why).advise("expected a network card, a veth or a VXLAN device"));
        }
        if self.link.master.is_some() {
            let why = "it is a port of another bridge, or a part of another device".to_owned();
            return Err(refused(why).advise(format!(
                "expected one that is free: ip link set {name} nomaster, or --join for that bridge"
            )));
        }
        if !self.link.up {
            let why = "it is down".to_owned();
            return Err(refused(why).advise(format!("ip link set {name} up")));
        }
        if *mtu < u32::from(lab.mtu) {
            let why = format!("its MTU is {mtu}, which is less than the VMs' {}", lab.mtu);
            return Err(refused(why).advise(format!("--mtu {mtu} or less")));
        }
        Ok(())
    }
}

fn using(name: &str) -> String {
    format!("put VMs behind {name}")
}

fn taking(name: &str) -> String {
    format!("connect the lab's bridge to {name}")
}

/// Returns true of a link with a hardware address, as Ethernet has them.
fn is_fit(link: &Link) -> bool {
    link.kind != LinkKind::Bridge && link.mac.is_unicast()
}

fn is_link_local(address: &IpNet) -> bool {
    match address {
        IpNet::V4(_) => false,
        IpNet::V6(address) => address.addr().is_unicast_link_local(),
    }
}

impl Home {
    /// Makes a port that stands on the interface called `name`.
    pub(super) fn make_macvlan(
        &mut self,
        lab: &mut Netlink,
        plan: &PortPlan<'_>,
        name: &str,
    ) -> Result<(), SystemError> {
        let below = self.netlink.index(name)?;
        let info = vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![
                InfoMacVlan::Mode(MacVlanMode::Passthrough),
                InfoMacVlan::BcQueueLen(BROADCASTS),
            ])),
        ];
        self.make(lab, plan, info, Some(below)).map_err(|refusal| {
            let errno = refusal.errno;
            let error = refusal.of(taking(name));
            match errno {
                Errno::EBUSY | Errno::EINVAL => {
                    error.advise("another run, or another macvlan device, has it")
                }
                Errno::EOPNOTSUPP => {
                    error.advise("this kernel has no macvlan driver: modprobe macvlan")
                }
                Errno::EPERM => error.advise(NEEDS_ROOT),
                _ => error,
            }
        })
    }
}

#[cfg(test)]
impl ExistingLink {
    /// An interface that does not exist.
    pub fn example(name: &str, mtu: u32, addresses: &[&str]) -> ExistingLink {
        ExistingLink {
            link: Link {
                mtu,
                ..Link::example(name, LinkKind::Other)
            },
            addresses: addresses.iter().map(|of| of.parse().unwrap()).collect(),
        }
    }
}
