//! Ranks: processes that run one plan together, each with its part of the VMs, on as many cores or machines.
//!
//! A [`Rank`] is the number of such a process and how many there are. Who places, starts and ends them is a launcher: Slurm,
//! MPI's, Kubernetes, GNU parallel, or this program's own `--cores`. [`Surroundings`] tells what they say to a process.

//!
//! They meet at rank 0. [`Leader`] is the state machine of rank 0 and [`Member`] that of each other rank: they are fed with bytes
//! and instants, and give bytes and [`Event`]s. The protocol: rank 0 greets, the other says who it is and proves that it knows
//! the secret, rank 0 proves the same; from then on each message is a line that is numbered and authenticated ([`seal`]). Then
//! clocks are compared, and the run goes from [`Gate`] to gate: no rank passes one before all have come to it. Ranks on one
//! machine tell each other [`Turns`] of pings meanwhile.

mod clock;
pub mod deadlines;
mod leader;
mod lines;
mod member;
mod message;
pub mod seal;
mod surroundings;
mod turns;

use std::fmt;
use std::str::FromStr;

pub use self::clock::ClockOffset;
pub use self::leader::{Delivery, Leader, PeerId};
pub use self::member::Member;
pub use self::message::{Gate, VERSION};
pub use self::surroundings::{DEFAULT_PORT, NoRank, Surroundings};
pub use self::turns::{Turn, TurnedPing, Turns, Words};
use crate::time::Instant;

/// Who a rank is, for the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its rank.
    pub rank: Rank,
    /// The hash of the whole plan.
    pub plan: [u8; 32],
    /// The version of the program.
    pub program: String,
    /// The name of its host.
    pub host: String,
}

impl Identity {
    /// The words of a hello that its proof is about.
    fn words(&self) -> String {
        let Identity {
            rank,
            plan,
            program,
            ..
        } = self;
        format!("{VERSION} {program} {rank} {}", seal::hex(plan))
    }
}

/// What happens at a meeting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// All have met.
    Met,
    /// All have come to a gate, and go on at this time of this rank's clock.
    Open {
        /// The gate.
        gate: Gate,
        /// The time.
        at: Instant,
    },
    /// The run is to end now; `why` says what failed, if something did.
    Stop {
        /// The reason.
        why: Option<String>,
    },
    /// A rank is gone, or the meeting could not be: the run ends.
    Failed(String),
    /// Somebody was refused at the meeting point.
    Refused(String),
    /// What was measured is where it belongs.
    Delivered,
}

/// Most ranks of one plan.
pub const MAX_RANKS: u32 = 4096;

/// The number of a process among those that run one plan together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rank {
    number: u32,
    count: u32,
}

impl Rank {
    /// Rank `number` of `count`, counted from 0. `None` if there is none of that number, or `count` is above [`MAX_RANKS`].
    pub fn new(number: u32, count: u32) -> Option<Rank> {
        (number < count && count <= MAX_RANKS).then_some(Rank { number, count })
    }

    /// Its number, from 0 on.
    pub const fn number(self) -> u32 {
        self.number
    }

    /// How many ranks there are.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// Returns true of the rank at which the others meet.
    pub const fn is_first(self) -> bool {
        self.number == 0
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

impl FromStr for Rank {
    type Err = NoRank;

    /// Two numbers, such as `0/2` for the first of two.
    fn from_str(text: &str) -> Result<Rank, NoRank> {
        let (number, count) = text.split_once('/').ok_or(NoRank::Form)?;
        let parse = |text: &str| text.parse::<u32>().map_err(|_| NoRank::Form);
        let (number, count) = (parse(number)?, parse(count)?);
        Rank::new(number, count).ok_or(NoRank::OutOf { number, count })
    }
}

#[cfg(test)]
mod tests;
