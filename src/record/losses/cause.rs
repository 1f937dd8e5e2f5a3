//! What a failed ping can be put down to.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::DropReason;
use crate::fabric::{DropPlace, Impairment, KernelName, WriteDrop};
use crate::vm::{PingError, VmId};

/// Declares [`Cause`]; a cause more is one entry more: its doc, its name, and how a report for people says it.
macro_rules! causes {
    ($($(#[$doc:meta])* $cause:ident => $name:literal, $words:literal;)*) => {
        /// Why a ping failed. The names are stable: reports are compared by them.
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum Cause {
            $($(#[$doc])* $cause,)*
        }

        impl Cause {
            /// Every cause, in the order in which reports list them.
            pub const ALL: &'static [Cause] = &[$(Cause::$cause,)*];

            /// The name in documents and expectations, such as `queue_full`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Cause::$cause => $name,)*
                }
            }

            /// How a report for people says it.
            pub const fn words(self) -> &'static str {
                match self {
                    $(Cause::$cause => $words,)*
                }
            }
        }
    };
}

causes! {
    /// It was due in a phase that ended before the tool, which was behind, could send it.
    Unsent => "unsent", "never sent: the tool was behind";
    /// It was given up before it was sent: its neighbour's address was not found, or there was no way to send it, such as a free port.
    Unresolved => "unresolved", "never sent: no neighbour, route or port";
    /// `--impair` dropped it, changed it, or still held it when its VM stopped or the run ended.
    Impaired => "impaired", "impaired on purpose";
    /// The port of the VM that sends, a TAP or an interface, did not take the frame: its link is down, or the kernel refuses it.
    Refused => "refused", "refused by the port";
    /// The kernel dropped it between the TAP that it came by and the bridge.
    BeforeBridge => "before_bridge", "dropped before the bridge";
    /// The port of its source took it, and the queue of its destination did not get it: more the counters do not tell.
    BetweenPorts => "between_ports", "dropped between the ports";
    /// The bridge dropped it, or where frames pass by XDP, the redirect.
    InBridge => "in_bridge", "dropped in the bridge";
    /// The kernel dropped it on its way from the bridge on: at a queueing discipline, a filter of egress, or where it was routed.
    BehindBridge => "behind_bridge", "dropped behind the bridge";
    /// It came to other VMs, not to the one that it was for: it was flooded, or the forwarding table has a wrong port.
    DeliveredElsewhere => "delivered_elsewhere", "delivered to somebody else";
    /// The queue of the port that it was for was full: its reader is too slow.
    QueueFull => "queue_full", "queue of the destination full";
    /// A filter at the port that it was for dropped it.
    Filtered => "filtered", "filtered at the destination";
    /// The VM that it was for read it, and did not act on it.
    Ignored => "ignored", "ignored by the VM";
    /// The VM that it was for had stopped, was not there yet, or does not have its TAP open or set up.
    Absent => "absent", "destination stopped or absent";
    /// Somebody reported by an ICMP error that it can't be delivered.
    Reported => "reported", "reported undeliverable";
    /// The reply came with another payload than was sent.
    Corrupt => "corrupt", "answered with other data";
    /// The reply came after the timeout.
    Late => "late", "answered too late";
    /// Nothing tells what became of it, or what tells is ambiguous.
    Unknown => "unknown", "unknown";
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The part of a ping that did not arrive.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The request, from the source to the destination.
    Request,
    /// The reply, from the destination back to the source.
    Reply,
    /// It is not known which.
    Unknown,
}

impl Way {
    /// Every one.
    pub const ALL: [Way; 3] = [Way::Request, Way::Reply, Way::Unknown];

    /// The word for it in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Way::Request => "request",
            Way::Reply => "reply",
            Way::Unknown => "unknown",
        }
    }
}

/// Where a ping was lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// It did not leave this process.
    Tool,
    /// At this VM, or at its port.
    Vm(VmId),
    /// At a link that is no VM's port.
    Link(KernelName),
    /// At one of the places for which a table has no rows of their own, or at several.
    Others,
    /// Nothing tells where.
    Unknown,
}

impl From<DropPlace> for Place {
    fn from(place: DropPlace) -> Place {
        match place {
            DropPlace::Port(vm) => Place::Vm(vm),
            DropPlace::Link(name) => Place::Link(name),
            DropPlace::Nowhere => Place::Unknown,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tool => f.pad("tool"),
            Place::Vm(vm) => f.pad(&vm.to_string()),
            Place::Link(name) => name.fmt(f),
            Place::Others => f.pad("others"),
            Place::Unknown => f.pad("unknown"),
        }
    }
}

/// What more is known of a cause.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Why {
    /// The reason by the kernel's name, and the function of the kernel that gave it, if it is known.
    Kernel(KernelName, KernelName),
    /// Why a VM, or this process, did not act on the frame.
    Drop(DropReason),
    /// Why the TAP did not take the frame.
    Write(WriteDrop),
    /// What was reported about the ping.
    Error(PingError),
    /// What was done to the frame on purpose.
    Impairment(Impairment),
    /// What stands in its way, in the words for it.
    State(&'static str),
    /// The forwarding table has the destination at the port of this VM.
    ForwardedTo(VmId),
    /// This VM was moving: ports and forwarding tables were not what they were before or are now.
    Moving(VmId),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Kernel(reason, function) if function.as_str().is_empty() => reason.fmt(f),
            Why::Kernel(reason, function) => write!(f, "{reason} in {function}"),
            Why::Drop(reason) => f.write_str(reason.name()),
            Why::Write(WriteDrop::LinkDown) => f.write_str("EIO"),
            Why::Write(drop) => f.write_str(DropReason::from(*drop).name()),
            Why::Error(error) => f.write_str(error.name()),
            Why::Impairment(impairment) => f.write_str(impairment.words()),
            Why::State(words) => f.write_str(words),
            Why::ForwardedTo(vm) => write!(f, "the forwarding table has it at {vm}"),
            Why::Moving(vm) => write!(f, "{vm} was moving"),
        }
    }
}

/// What a failed ping is put down to: a row of the table of losses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Attribution {
    /// The cause.
    pub cause: Cause,
    /// The part of the ping that did not arrive.
    pub way: Way,
    /// Where it was lost.
    pub place: Place,
    /// What more is known.
    pub why: Option<Why>,
    /// Of a ping that was never sent, what became of the search for its neighbour: which part of it did not arrive, and why. Place
    /// and `why` are those of that.
    pub search: Option<(Cause, Way)>,
}

impl Attribution {
    /// Nothing is known of a ping that was sent.
    pub const UNKNOWN: Attribution = Attribution::of(Cause::Unknown, Way::Unknown, Place::Unknown);
    /// A ping that was due and not sent in time.
    pub const UNSENT: Attribution = Attribution::of(Cause::Unsent, Way::Request, Place::Tool);
    /// A ping that was given up before it was sent.
    pub const UNRESOLVED: Attribution =
        Attribution::of(Cause::Unresolved, Way::Request, Place::Tool);
    /// A ping whose reply carried other data than was sent.
    pub const CORRUPT: Attribution = Attribution::of(Cause::Corrupt, Way::Unknown, Place::Unknown);
    /// A ping whose reply came after the timeout.
    pub const LATE: Attribution = Attribution::of(Cause::Late, Way::Unknown, Place::Unknown);

    /// An attribution of which no more is known.
    pub const fn of(cause: Cause, way: Way, place: Place) -> Attribution {
        Attribution {
            cause,
            way,
            place,
            why: None,
            search: None,
        }
    }

    /// A ping that was never sent because of what became of the search for its neighbour.
    pub const fn unfound(what: Attribution) -> Attribution {
        Attribution {
            place: what.place,
            why: what.why,
            search: Some((what.cause, what.way)),
            ..Attribution::UNRESOLVED
        }
    }

    /// What more is known, in words.
    pub fn reason(&self) -> Option<String> {
        let Some((cause, way)) = self.search else {
            return self.why.map(|why| why.to_string());
        };
        let what = format!("neighbour {} {}", way.word(), cause.words());
        Some(match self.why {
            Some(why) => format!("{what}: {why}"),
            None => what,
        })
    }

    /// A ping that somebody reported undeliverable.
    pub const fn reported(error: PingError) -> Attribution {
        Attribution {
            why: Some(Why::Error(error)),
            ..Attribution::of(Cause::Reported, Way::Unknown, Place::Unknown)
        }
    }

    /// The row that it is counted in where it can't have one of its own.
    pub(super) const fn without_place(self) -> Attribution {
        Attribution::of(self.cause, self.way, Place::Others)
    }
}

impl fmt::Display for Attribution {
    /// Formats it as a clause: `request dropped in the bridge at vm3 (NO_TX_TARGET in br_flood)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.way {
            Way::Unknown => f.write_str(self.cause.words())?,
            way => write!(f, "{} {}", way.word(), self.cause.words())?,
        }
        match self.place {
            Place::Tool | Place::Unknown => {}
            place => write!(f, " at {place}")?,
        }
        match self.reason() {
            Some(why) => write!(f, " ({why})"),
            None => Ok(()),
        }
    }
}
