//! What became of the frames that a network copies to all ports, where that is counted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Latency;

/// A kind of frame that is flooded.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FloodKind {
    /// An ARP request that is broadcast.
    ArpRequest,
    /// Another broadcast.
    Broadcast,
    /// A frame to a group.
    Multicast,
    /// A frame to one station that came to others.
    UnknownUnicast,
}

impl FloodKind {
    /// All kinds.
    pub const ALL: [FloodKind; 4] = [
        FloodKind::ArpRequest,
        FloodKind::Broadcast,
        FloodKind::Multicast,
        FloodKind::UnknownUnicast,
    ];

    /// The name, as in reports: `arp_request`.
    pub const fn name(self) -> &'static str {
        match self {
            FloodKind::ArpRequest => "arp_request",
            FloodKind::Broadcast => "broadcast",
            FloodKind::Multicast => "multicast",
            FloodKind::UnknownUnicast => "unknown_unicast",
        }
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<FloodKind> {
        FloodKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The words for it.
    pub const fn words(self) -> &'static str {
        match self {
            FloodKind::ArpRequest => "ARP request",
            FloodKind::Broadcast => "broadcast",
            FloodKind::Multicast => "multicast",
            FloodKind::UnknownUnicast => "unknown unicast",
        }
    }
}

/// The frames of one kind, and their copies.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct FloodCounts {
    /// Frames that VMs sent.
    pub frames: u64,
    /// Copies that VMs got, all together.
    pub copies: u64,
    /// The most VMs that one frame came to.
    pub most_vms: u64,
    /// Copies beyond the first that one VM got of one frame.
    pub repeated: u64,
    /// Copies that came to VMs which they are not for, as their network cards tell.
    pub unwanted: u64,
    /// From the sending of each frame to the receipt of its last copy.
    pub last_copy: Latency,
}

/// The frames of each kind.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Floods([FloodCounts; FloodKind::ALL.len()]);

impl Floods {
    /// The frames of `kind`.
    pub fn get(&self, kind: FloodKind) -> Option<&FloodCounts> {
        self.0.get(kind as usize)
    }

    /// The frames of `kind`, for changes.
    pub(crate) fn get_mut(&mut self, kind: FloodKind) -> Option<&mut FloodCounts> {
        self.0.get_mut(kind as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_name_that_reports_have() {
        for kind in FloodKind::ALL {
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("{:?}", kind.name()));
        }
    }
}
