//! What the fabric can be asked about the way of a frame: what ports count, and what stands between two of them.

use super::{DropPlace, KernelName};

/// What the kernel has counted at the port of a VM since the link was made, by whomever. Directions are the kernel's: it *receives* what the
/// VM sends.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PortCounters {
    /// Frames that the VM has sent.
    pub rx_packets: u64,
    /// Frames of the VM that the kernel refused: its link is down; or where frames pass by XDP, that could not be redirected.
    pub rx_dropped: u64,
    /// Frames that were read from the VM's queue; what is in it is not counted yet.
    pub tx_packets: u64,
    /// Frames for the VM that were dropped at its port: the queue is full, a filter, nobody has the TAP open.
    pub tx_dropped: u64,
}

/// What stands between a VM and a hardware address, at the time of asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathState {
    /// Frames pass bridges, and not by XDP.
    pub is_bridged: bool,
    /// The port of the source. `None` if there is none.
    pub source: Option<PortState>,
    /// The port of the VM that has the address. `None` if no VM has it, or that VM has no port.
    pub destination: Option<PortState>,
    /// Where the forwarding tables send the frame, from the source's bridge on and through the links between bridges: the
    /// port or link at which it leaves the last bridge. `None` if a bridge on its way does not know the address, and floods.
    pub forwarding: Option<DropPlace>,
    /// The port of a bridge on its way whose forwarding table has the address at the port that the frame comes by, so that
    /// it goes no further there.
    pub returned_at: Option<KernelName>,
    /// What the ports do to it that connect the bridges of the run's own on its way.
    pub between: Between,
}

/// The ports that connect bridges, on the way of a frame: the first at which something stops it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Between {
    /// The bridge that they are ports of, other than those of source and destination, is down.
    pub bridge: Option<KernelName>,
    /// Its link is down.
    pub down: Option<KernelName>,
    /// It carries nothing.
    pub stopped: Option<(KernelName, StpState)>,
    /// It is isolated, as is the one by which the frame comes to the same bridge.
    pub isolated: Option<KernelName>,
    /// The one that carries the smallest frames, and how large these are in bytes, without the Ethernet header.
    pub narrowest: Option<(KernelName, u32)>,
}

/// A port of a bridge, or a link that could be one (`ip-link(8)`, `bridge(8)`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortState {
    /// It was set up.
    pub is_up: bool,
    /// The other end of its link is up; of a TAP: a process has it open.
    pub has_carrier: bool,
    /// The largest frame in bytes, without the Ethernet header.
    pub mtu: u32,
    /// The bridge that it is a port of. `None`: of none.
    pub bridge: Option<BridgeState>,
}

/// The bridge of a port, and how it is a port of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BridgeState {
    /// The bridge's name.
    pub name: KernelName,
    /// The bridge was set up.
    pub is_up: bool,
    /// The port's state.
    pub state: StpState,
    /// Carries frames neither from nor to other isolated ports.
    pub is_isolated: bool,
    /// Takes frames only of hardware addresses that the forwarding table has at this port.
    pub is_locked: bool,
    /// Learns hardware addresses.
    pub learns: bool,
    /// Unicast frames to unknown hardware addresses are flooded to it.
    pub floods_unknown: bool,
    /// Multicast frames for groups that the bridge does not know are flooded to it.
    pub floods_multicast: bool,
    /// Broadcast frames are flooded to it.
    pub floods_broadcast: bool,
    /// Frames may leave by the port that they came by.
    pub is_hairpin: bool,
}

/// The state of a port of a bridge (IEEE 802.1D, `linux/if_bridge.h`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StpState {
    /// Carries nothing: the port or its bridge is down or has no carrier, or somebody set it so.
    Disabled,
    /// Carries nothing, on its way to forwarding.
    Listening,
    /// Learns addresses and carries nothing, on its way to forwarding.
    Learning,
    /// Carries frames.
    Forwarding,
    /// Carries nothing: the frames have another way.
    Blocking,
}
