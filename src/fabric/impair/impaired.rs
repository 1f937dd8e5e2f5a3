//! What was done to a frame.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Span;

/// A kind of impairment, as it is counted.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Impairment {
    /// Held for a time, by a delay or a rate.
    Delayed,
    /// Lost.
    Lost,
    /// Sent twice.
    Duplicated,
    /// Not held, so that it overtook others.
    Reordered,
    /// Changed in one bit.
    Corrupted,
    /// Dropped because the queue before the rate was full.
    QueueFull,
    /// Dropped because so many frames were held that there was no memory for another.
    NoMemory,
    /// Held when its VM stopped or the run ended, and never released.
    Unreleased,
}

impl Impairment {
    /// All kinds.
    pub const ALL: [Impairment; 8] = [
        Impairment::Delayed,
        Impairment::Lost,
        Impairment::Duplicated,
        Impairment::Reordered,
        Impairment::Corrupted,
        Impairment::QueueFull,
        Impairment::NoMemory,
        Impairment::Unreleased,
    ];

    /// A word or two for it.
    pub const fn words(self) -> &'static str {
        match self {
            Impairment::Delayed => "delayed",
            Impairment::Lost => "lost",
            Impairment::Duplicated => "duplicated",
            Impairment::Reordered => "reordered",
            Impairment::Corrupted => "corrupted",
            Impairment::QueueFull => "dropped by a full queue",
            Impairment::NoMemory => "dropped for want of memory",
            Impairment::Unreleased => "never released",
        }
    }
}

/// All that was done to one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Impaired {
    kinds: u8,
    /// The time that it is held; the longest, if it is sent twice.
    pub delay: Duration,
}

impl Impaired {
    pub(in crate::fabric) fn add(&mut self, kind: Impairment) {
        self.kinds |= 1 << kind as u8;
    }

    /// Returns true if `kind` was done to it.
    pub const fn has(self, kind: Impairment) -> bool {
        self.kinds & 1 << kind as u8 != 0
    }

    /// Returns true if it was dropped, and no copy of it is held or released.
    pub const fn is_dropped(self) -> bool {
        let drops = 1 << Impairment::Lost as u8
            | 1 << Impairment::QueueFull as u8
            | 1 << Impairment::NoMemory as u8;
        self.has(Impairment::Unreleased)
            || self.kinds & drops != 0 && !self.has(Impairment::Delayed)
    }

    /// Returns true if nothing was done to it.
    pub const fn is_unharmed(self) -> bool {
        self.kinds == 0
    }
}

impl fmt::Display for Impaired {
    /// Formats it as participles with a comma between them: `delayed 5.00 ms, corrupted`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The delay of a frame that was never released has not passed.
        let is_said = |kind: &Impairment| {
            self.has(*kind) && !(*kind == Impairment::Delayed && self.has(Impairment::Unreleased))
        };
        let mut comma = "";
        for kind in Impairment::ALL.into_iter().filter(is_said) {
            write!(f, "{comma}{}", kind.words())?;
            if kind == Impairment::Delayed {
                write!(f, " {}", Span::from(self.delay))?;
            }
            comma = ", ";
        }
        Ok(())
    }
}
