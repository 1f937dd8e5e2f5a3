//! The head of a frame that pings are made of: a probe or its reply, or a question for a hardware address or its answer.

use super::mac::MacAddr;
use super::probe_head::{LinkHead, ProbeHead};

/// What a frame says of the ping that it is of, or of the neighbour that a ping needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PingHead {
    /// A probe or its reply: it has the number of its ping.
    Probe(ProbeHead),
    /// A question for a hardware address or its answer: a ping itself, or what has to come before one.
    Link(LinkHead),
}

impl PingHead {
    /// Reads `frame`, of a probe that is sent in fragments the first. `None` if it is neither.
    pub fn parse(frame: &[u8]) -> Option<PingHead> {
        let probe = ProbeHead::parse(frame).map(PingHead::Probe);
        probe.or_else(|| LinkHead::parse(frame).map(PingHead::Link))
    }

    /// The hardware address that the frame was sent from.
    pub const fn source_mac(&self) -> MacAddr {
        match self {
            PingHead::Probe(head) => head.source_mac,
            PingHead::Link(head) => head.source_mac,
        }
    }

    /// The hardware address that it was sent to.
    pub const fn destination_mac(&self) -> MacAddr {
        match self {
            PingHead::Probe(head) => head.destination_mac,
            PingHead::Link(head) => head.destination_mac,
        }
    }
}
