//! Where the pings of a run were lost, and why.
//!
//! Every ping that fails, and every ping that was due and could not be sent, is in exactly one row, from the moment on when it
//! fails: [`Totals::failed`](super::Totals::failed) and `unsent` of all phases that count are the sum of the rows, always.
//! What was put down to one cause at first can be put down to another one later, when more is known: that moves a ping from
//! row to row, and changes no sum. What nothing tells of is a row like the others.

mod cause;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::cause::{Attribution, Cause, Place, Way, Why};
use crate::load::FlowId;

/// Rows that tell places and reasons; what does not fit is counted by cause and direction alone.
pub const MAX_LOSS_ROWS: usize = 200;
/// Flows of which it is kept what their losses were put down to.
pub const MAX_LOSSY_FLOWS: usize = 10_000;
/// Rows of one flow.
const MAX_FLOW_ROWS: usize = 8;

/// How it was found out where pings were lost.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossMethod {
    /// The kernel told of each frame that it dropped.
    Tracepoints,
    /// By elimination, from what the kernel counts at the ports and the states of ports and forwarding tables.
    Counters,
    /// What the kernel does was not asked for.
    #[default]
    None,
}

impl LossMethod {
    /// The word for it in reports.
    pub const fn word(self) -> &'static str {
        match self {
            LossMethod::Tracepoints => "tracepoints",
            LossMethod::Counters => "counters",
            LossMethod::None => "none",
        }
    }
}

/// The losses of a run, by what they are put down to.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    /// How it was found out, and why not better.
    method: (LossMethod, String),
    rows: Rows,
    flows: BTreeMap<FlowId, Rows>,
    /// Drops that the kernel told of and that were not looked at, because there were too many of them.
    missed: u64,
}

/// Numbers of pings by attribution, some of them 0.
#[derive(Clone, Debug, Default)]
struct Rows {
    /// In the order of the attributions.
    rows: Vec<(Attribution, u64)>,
    /// Where the last two were that were looked for: many pings in a row fail alike.
    recent: [usize; 2],
    /// How many of them are 0.
    empty: usize,
}

impl Rows {
    fn add(&mut self, pings: u64, to: Attribution, limit: usize) {
        // There are a few of these for each cause.
        let is_plain = matches!(to.place, Place::Tool | Place::Unknown)
            && to.search.is_none()
            && !matches!(
                to.why,
                Some(Why::Kernel(..) | Why::ForwardedTo(_) | Why::Moving(_))
            );
        let place = self.place(&to).or_else(|_| {
            if self.rows.len() >= limit && self.empty > 0 {
                self.rows.retain(|(_, count)| *count > 0);
                self.empty = 0;
            }
            let row = match self.rows.len() < limit || is_plain {
                true => to,
                false => to.without_place(),
            };
            let place = self.place(&row);
            place.inspect_err(|place| {
                self.rows.insert(*place, (row, 0));
                self.empty += 1;
            })
        });
        let (Ok(place) | Err(place)) = place;
        if let Some((_, count)) = self.rows.get_mut(place) {
            self.empty -= usize::from(*count == 0);
            *count = count.saturating_add(pings);
        }
    }

    /// Takes `pings` pings out of the rows that they were added to. Returns how many of them were there.
    fn take(&mut self, pings: u64, from: Attribution) -> u64 {
        let mut left = pings;
        let mut take_of = |row: &Attribution| {
            if let Ok(place) = self.place(row)
                && let Some((_, count)) = self.rows.get_mut(place)
            {
                let taken = left.min(*count);
                left -= taken;
                *count -= taken;
                self.empty += usize::from(taken > 0 && *count == 0);
            }
            left > 0
        };
        let _ = take_of(&from) && take_of(&from.without_place());
        pings - left
    }

    /// Where a row is, or where it would be.
    fn place(&mut self, row: &Attribution) -> Result<usize, usize> {
        let is_at = |place: &&usize| self.rows.get(**place).is_some_and(|(at, _)| at == row);
        if let Some(place) = self.recent.iter().find(is_at) {
            return Ok(*place);
        }
        let place = self.rows.binary_search_by(|(at, _)| at.cmp(row))?;
        self.recent = [place, self.recent[0]];
        Ok(place)
    }

    fn iter(&self) -> impl Iterator<Item = (&Attribution, u64)> {
        let rows = self.rows.iter().map(|(row, pings)| (row, *pings));
        rows.filter(|(_, pings)| *pings > 0)
    }
}

impl Losses {
    /// Puts `pings` pings down to `to`: those of `flow`, or of no flow in particular.
    pub(super) fn add(&mut self, flow: Option<FlowId>, pings: u64, to: Attribution) {
        if pings == 0 {
            return;
        }
        self.rows.add(pings, to, MAX_LOSS_ROWS);
        if let Some(flow) = flow
            && (self.flows.len() < MAX_LOSSY_FLOWS || self.flows.contains_key(&flow))
        {
            let rows = self.flows.entry(flow).or_default();
            rows.add(pings, to, MAX_FLOW_ROWS);
        }
    }

    /// Puts `pings` pings of `flow` down to `to`, which were put down to `from` so far.
    pub(super) fn transfer(
        &mut self,
        flow: FlowId,
        pings: u64,
        from: Attribution,
        to: Attribution,
    ) {
        let taken = self.rows.take(pings, from);
        if taken > 0 {
            self.rows.add(taken, to, MAX_LOSS_ROWS);
        }
        if let Some(rows) = self.flows.get_mut(&flow) {
            let taken = rows.take(taken, from);
            if taken > 0 {
                rows.add(taken, to, MAX_FLOW_ROWS);
            }
        }
    }

    /// The pings that failed so far, by cause; those that were not sent in time are left out.
    pub(super) fn failed_by_cause(&self) -> BTreeMap<Cause, u64> {
        let mut causes = BTreeMap::new();
        for (to, pings) in self.rows.iter() {
            if to.cause != Attribution::UNSENT.cause {
                *causes.entry(to.cause).or_default() += pings;
            }
        }
        causes
    }

    pub(super) fn set_method(&mut self, method: LossMethod, why: String) {
        self.method = (method, why);
    }

    pub(super) fn miss(&mut self, drops: u64) {
        self.missed = self.missed.saturating_add(drops);
    }

    /// How it was found out where pings were lost, and why not better; empty if there is nothing to say.
    pub fn method(&self) -> (LossMethod, &str) {
        (self.method.0, &self.method.1)
    }

    /// How many drops the kernel told of and that were not looked at.
    pub const fn missed(&self) -> u64 {
        self.missed
    }

    /// How many pings there are in all rows.
    pub fn total(&self) -> u64 {
        let counts = self.rows.iter().map(|(_, count)| count);
        counts.fold(0, u64::saturating_add)
    }

    /// The rows, in the order of their causes.
    pub fn rows(&self) -> impl Iterator<Item = (&Attribution, u64)> {
        self.rows.iter()
    }

    /// The rows of `flow`, if it has lost pings: the one with the most pings first.
    pub fn of_flow(&self, flow: FlowId) -> Vec<(Attribution, u64)> {
        let rows = self.flows.get(&flow);
        let rows = rows.into_iter().flat_map(Rows::iter);
        let mut rows: Vec<_> = rows.map(|(row, pings)| (*row, pings)).collect();
        rows.sort_by_key(|(_, pings)| std::cmp::Reverse(*pings));
        rows
    }
}

#[cfg(test)]
mod tests;
