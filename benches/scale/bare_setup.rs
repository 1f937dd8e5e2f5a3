//! The system calls of a set-up and nothing else: open, `TUNSETIFF`, `SIOCGIFINDEX`, two `RTM_NEWQDISC` and one `RTM_NEWLINK`
//! that were built beforehand and their acknowledgements, `EPOLL_CTL_ADD`, `TUNSETPERSIST`.

use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tap_reactor::fabric::Fabric;
use tap_reactor::reactor::Sources;
use tap_reactor::system::{LabConfig, Tap, TapFabric, raise_descriptor_limit};
use tap_reactor::time::{Clock, MonotonicClock};
use tap_reactor::vm::{RxFilter, VmId};
use tap_reactor::wire::MacAddr;

use crate::ping_lab::Result;
use crate::{FILTERED_FROM, cpu_seconds};

/// The first block of traffic control that TAPs share.
const BLOCK: u32 = 1;
/// Links that share a block.
const LINKS_OF_A_BLOCK: usize = 500;

pub fn run(vms: u32) -> Result<()> {
    raise_descriptor_limit()?;
    let poll = Poll::new()?;
    let mut sources = Sources::new(poll.registry())?;
    // The library makes the bridges, which are not measured here, and one TAP on each to tell their indices by.
    let lab = LabConfig {
        vms,
        tap_prefix: "probe".to_owned(),
        filter: vms >= FILTERED_FROM,
        ..LabConfig::default()
    };
    let (started, cpu) = (MonotonicClock.now(), cpu_seconds()?);
    let mut fabric = TapFabric::new(sources.of_fabric()?, lab)?;
    let bridges = MonotonicClock.now() - started;
    let bridges_cpu = cpu_seconds()? - cpu;
    let topology = fabric.environment().topology.ok_or("no bridges")?;
    let mut masters = Vec::new();
    for leaf in 0..topology.leaves().max(1) {
        let probe = VmId(leaf * topology.ports_per_bridge());
        fabric.plug(probe, &RxFilter::new(MacAddr([2, 1, 0, 0, 0, leaf as u8])))?;
        let name = match topology.leaves() {
            0 => "br0".to_owned(),
            _ => tap_reactor::topology::leaf_name("br0", leaf),
        };
        masters.push(nix::net::if_::if_nametoindex(name.as_str())?);
        fabric.unplug(&[probe])?;
    }
    let mut netlink = Socket::new(NETLINK_ROUTE)?;
    netlink.bind_auto()?;
    netlink.connect(&SocketAddr::new(0, 0))?;
    let messages: Vec<(String, Vec<u8>)> = (0..vms)
        .map(|vm| {
            let name = format!("tap{vm}");
            let master = masters[topology.leaf_of(VmId(vm)) as usize];
            let message = new_link(&name, master, 0x5000_0000 + vm / 1000);
            (name, message)
        })
        .collect();
    let mut share = share_block();
    let mut discipline = no_discipline();
    let mut taps = Vec::with_capacity(vms as usize);
    let mut answer = vec![0; 4096];

    let (started, cpu) = (MonotonicClock.now(), cpu_seconds()?);
    for (token, (name, message)) in messages.iter().enumerate() {
        let tap = Tap::create(name)?;
        let index = nix::net::if_::if_nametoindex(name.as_str())?;
        if let Some(block) = share.last_chunk_mut() {
            *block = (BLOCK + (token / LINKS_OF_A_BLOCK) as u32).to_ne_bytes();
        }
        for message in [&mut share, &mut discipline] {
            message[20..24].copy_from_slice(&index.to_ne_bytes());
        }
        let share = (vms >= FILTERED_FROM).then_some(&share);
        for message in share.into_iter().chain([&discipline, message]) {
            netlink.send(message, 0)?;
            let length = netlink.recv(&mut &mut answer[..], 0)?;
            // An `NLMSG_ERROR` that says 0.
            if length < 20 || answer[16..20] != [0; 4] {
                return Err(format!("{name}: refused").into());
            }
        }
        let source = &mut SourceFd(&tap.as_raw_fd());
        poll.registry()
            .register(source, Token(token), Interest::READABLE)?;
        tap.set_persistent(true)?;
        taps.push(tap);
    }
    let elapsed = bridges + (MonotonicClock.now() - started);
    println!("setup {}", elapsed.as_secs_f64());
    println!("setup cpu {}", bridges_cpu + cpu_seconds()? - cpu);
    std::process::exit(0);
}

/// A request to take the queueing discipline from the link whose index is put into bytes 20 to 23: `linux/rtnetlink.h`.
fn no_discipline() -> Vec<u8> {
    const NLM_F_REPLACE: u16 = 0x100;
    const TC_H_ROOT: u32 = u32::MAX;
    new_discipline(NLM_F_REPLACE, (0, TC_H_ROOT), b"noqueue\0", &[])
}

/// A request to put it behind the program in the block.
fn share_block() -> Vec<u8> {
    const NLM_F_EXCL: u16 = 0x200;
    const HANDLE: u32 = 0xffff_0000;
    const TC_H_CLSACT: u32 = 0xffff_fff1;
    // TCA_EGRESS_BLOCK
    let mut block = vec![8, 0, 14, 0];
    block.extend(BLOCK.to_ne_bytes());
    new_discipline(NLM_F_EXCL, (HANDLE, TC_H_CLSACT), b"clsact\0\0", &block)
}

/// `RTM_NEWQDISC`, with a name of eight bytes.
fn new_discipline(flags: u16, place: (u32, u32), name: &[u8; 8], attributes: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    // struct nlmsghdr: NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE
    message.extend((48 + attributes.len() as u32).to_ne_bytes());
    message.extend(36u16.to_ne_bytes());
    message.extend((0x405 | flags).to_ne_bytes());
    message.extend([0; 8]);
    // struct tcmsg
    message.extend([0; 8]);
    message.extend(place.0.to_ne_bytes());
    message.extend(place.1.to_ne_bytes());
    message.extend([0; 4]);
    // TCA_KIND
    message.extend(12u16.to_ne_bytes());
    message.extend(1u16.to_ne_bytes());
    message.extend(name);
    message.extend(attributes);
    message
}

/// A request to put the TAP `name` on a bridge, up, with MTU, group and alias: `linux/rtnetlink.h`, `linux/if_link.h`.
fn new_link(name: &str, master: u32, group: u32) -> Vec<u8> {
    const UP: u32 = 1;
    let mut message = Vec::new();
    // struct nlmsghdr: RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK
    message.extend(0u32.to_ne_bytes());
    message.extend(16u16.to_ne_bytes());
    message.extend(5u16.to_ne_bytes());
    message.extend([0; 8]);
    // struct ifinfomsg
    message.extend([0; 8]);
    message.extend(UP.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    let mut attribute = |kind: u16, value: &[u8]| {
        message.extend((4 + value.len() as u16).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(value);
        message.resize(message.len().next_multiple_of(4), 0);
    };
    attribute(3, &[name.as_bytes(), &[0]].concat());
    attribute(4, &1500u32.to_ne_bytes());
    attribute(27, &group.to_ne_bytes());
    attribute(
        20,
        b"tap-reactor pid=123456 start=12345678 pidns=4026531836",
    );
    attribute(10, &master.to_ne_bytes());
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}
