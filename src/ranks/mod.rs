//! Ranks: processes that run one plan together, each with its part of the VMs, on as many cores or machines.
//!
//! A [`Rank`] is the number of such a process and how many there are. Who places, starts and ends them is a launcher: Slurm,
//! MPI's, Kubernetes, GNU parallel, or this program's own `--cores`. [`Surroundings`] tells what they say to a process.

mod surroundings;

use std::fmt;
use std::str::FromStr;

pub use self::surroundings::{NoRank, Surroundings};

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
