//! What a misbehaving VM has done, counted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of thing that a misbehaving VM does. The names are stable: reports have them.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Misdeed {
    /// A frame was made up and sent.
    Sent,
    /// A question for a stolen address was answered.
    Answered,
    /// A frame of the VM was not sent.
    Withheld,
    /// A frame for the VM was not taken.
    Ignored,
    /// A frame of the VM was sent too late.
    Delayed,
    /// A frame of the VM was sent from another hardware address.
    Changed,
    /// A frame was sent back.
    Reflected,
    /// The VM's link was set down.
    LinkDown,
    /// A frame was not sent because that would have been too many, or too late.
    Missed,
    /// A frame was not taken by the VM's port.
    Refused,
}

impl Misdeed {
    /// All kinds.
    pub const ALL: [Misdeed; 10] = [
        Misdeed::Sent,
        Misdeed::Answered,
        Misdeed::Withheld,
        Misdeed::Ignored,
        Misdeed::Delayed,
        Misdeed::Changed,
        Misdeed::Reflected,
        Misdeed::LinkDown,
        Misdeed::Missed,
        Misdeed::Refused,
    ];

    /// A word or two for it.
    pub const fn words(self) -> &'static str {
        match self {
            Misdeed::Sent => "sent",
            Misdeed::Answered => "answered",
            Misdeed::Withheld => "withheld",
            Misdeed::Ignored => "ignored",
            Misdeed::Delayed => "delayed",
            Misdeed::Changed => "changed",
            Misdeed::Reflected => "reflected",
            Misdeed::LinkDown => "link down",
            Misdeed::Missed => "left out",
            Misdeed::Refused => "refused by the port",
        }
    }

    /// The name in metrics, such as `link_down`.
    pub const fn name(self) -> &'static str {
        match self {
            Misdeed::LinkDown => "link_down",
            Misdeed::Missed => "missed",
            Misdeed::Refused => "refused",
            _ => self.words(),
        }
    }
}

/// How often each was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Misdeeds([u64; Misdeed::ALL.len()]);

impl Misdeeds {
    pub(super) fn add(&mut self, kind: Misdeed) {
        self.add_many(kind, 1);
    }

    pub(super) fn add_many(&mut self, kind: Misdeed, number: u64) {
        if let Some(count) = self.0.get_mut(kind as usize) {
            *count = count.saturating_add(number);
        }
    }

    /// How often `kind` was done.
    pub fn get(&self, kind: Misdeed) -> u64 {
        self.0.get(kind as usize).copied().unwrap_or(0)
    }

    /// What was done, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (Misdeed, u64)> {
        let all = Misdeed::ALL.into_iter().map(|kind| (kind, self.get(kind)));
        all.filter(|(_, count)| *count > 0)
    }
}
