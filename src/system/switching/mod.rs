//! The switches that carry frames from TAP to TAP, one kind a file.

pub(super) mod attached;
pub(super) mod bridges;
pub(super) mod joined;
pub(super) mod xdp;

use bridges::Bridges;
use joined::ExistingBridge;
use xdp::XdpSwitch;

/// The switch of one lab: the state of its [`FabricKind`](super::FabricKind).
#[derive(Debug)]
pub(super) enum Switching {
    /// The bridge with that index, which was there before.
    Attached(u32),
    /// The bridge that our TAPs join, which was there before.
    Joined(Box<ExistingBridge>),
    /// Bridges of ours.
    Bridges(Bridges),
    /// A program on each TAP.
    Xdp(Box<XdpSwitch>),
    /// A switch of somebody else, or none at all.
    None,
}
