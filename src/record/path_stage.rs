//! The parts of the way of a ping's frames.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A part of the way of a frame.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PathStage {
    /// `write()` is called until the frame is in the kernel's network stack: copied from this process, as a packet of its own.
    CopyIn,
    /// Until it is handed to the port by which it leaves: the bridge, or all bridges and links between two leaves.
    Bridge,
    /// Until the queueing discipline of that port lets it go.
    Qdisc,
    /// Until it is in the queue of the TAP.
    TapQueue,
    /// Until this process runs again: the way back out of `write()`. If the frame came later than that, until `read()` is
    /// called for it.
    WakeUp,
    /// `read()` is called until it returns: copied to this process.
    CopyOut,
    /// All else, which is this process: building, parsing and answering frames, and its event loop.
    Ours,
}

/// The frame of a ping.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PathWay {
    /// The request.
    Request,
    /// The reply.
    Reply,
}

impl PathStage {
    /// All of them, in the order of a frame's way.
    pub const ALL: [PathStage; 7] = [
        PathStage::CopyIn,
        PathStage::Bridge,
        PathStage::Qdisc,
        PathStage::TapQueue,
        PathStage::WakeUp,
        PathStage::CopyOut,
        PathStage::Ours,
    ];

    /// Its name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            PathStage::CopyIn => "copy_in",
            PathStage::Bridge => "bridge",
            PathStage::Qdisc => "qdisc",
            PathStage::TapQueue => "tap_queue",
            PathStage::WakeUp => "wake_up",
            PathStage::CopyOut => "copy_out",
            PathStage::Ours => "ours",
        }
    }

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            PathStage::CopyIn => "copy-in",
            PathStage::Bridge => "bridge",
            PathStage::Qdisc => "qdisc",
            PathStage::TapQueue => "TAP queue",
            PathStage::WakeUp => "wake-up",
            PathStage::CopyOut => "copy-out",
            PathStage::Ours => "ours",
        }
    }
}

impl PathWay {
    /// Both.
    pub const ALL: [PathWay; 2] = [PathWay::Request, PathWay::Reply];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            PathWay::Request => "request",
            PathWay::Reply => "reply",
        }
    }
}
