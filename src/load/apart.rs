//! Flows with a pace of their own: they send beside the flows of the phase, whatever the pace of those is, and go on from
//! one phase to the next.
//!
//! Flows that were set apart together are a load of their own, in which they are numbered from 0. The phase's load asks it
//! when pings are due, and passes on what is said of its flows.

use std::ops::Range;

use super::{Due, FlowId, Load, Pacing, PhaseLoad, Start};
use crate::time::{Instant, earliest};

/// The pace of flows that have one of their own.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pace {
    /// The pacing of their pings; of a rate, of all flows together that were added with it.
    pub pacing: Pacing,
    /// Pings of each flow; `None` for as many as the run has time for.
    pub count: Option<u64>,
}

/// The load of the flows that were set apart together.
#[derive(Debug)]
pub(super) struct Apart {
    flows: Range<u32>,
    pace: Pace,
    load: Load,
    /// They have begun, with a phase or during one; they do so once.
    has_begun: bool,
}

impl Apart {
    /// Returns the number that a flow has here.
    fn own(&self, FlowId(flow): FlowId) -> Option<FlowId> {
        let is_here = self.flows.contains(&flow);
        is_here.then(|| FlowId(flow - self.flows.start))
    }

    fn begin(&mut self, now: Instant, arrivals: super::Arrivals) {
        let phase = PhaseLoad {
            flows: (0..self.flows.len() as u32).into(),
            pacing: self.pace.pacing,
            arrivals,
            count: self.pace.count,
            start: Start::Spread,
        };
        self.load.begin(now, &phase);
        self.has_begun = true;
    }
}

impl Load {
    /// Sets flows apart that were just added, with a pace of their own. They begin with the present phase, or with the first
    /// one: [`Load::begin_apart`].
    pub fn set_apart(&mut self, flows: Range<u32>, pace: Pace) {
        let mut load = Load::new(self.random.u64(..));
        for id in flows.clone().map(FlowId) {
            let Some(flow) = self.flows.get_mut(id.index()) else {
                return;
            };
            load.flows.push(*flow);
            flow.retire();
        }
        self.apart.push(Apart {
            flows,
            pace,
            load,
            has_begun: false,
        });
    }

    /// Lets the flows that were set apart begin at `now`, unless they have, or no phase has begun.
    pub fn begin_apart(&mut self, now: Instant) {
        if self.is_between_phases() {
            return;
        }
        for apart in self.apart.iter_mut().filter(|apart| !apart.has_begun) {
            apart.begin(now, self.arrivals);
        }
    }

    /// Returns true if flows that were set apart have pings to send, or wait for some.
    pub fn has_apart(&self) -> bool {
        self.apart.iter().any(|apart| !apart.load.is_over())
    }

    /// Returns true if flows that were set apart have pings to send.
    pub fn sends_apart(&self) -> bool {
        let mut apart = self.apart.iter();
        apart.any(|apart| apart.has_begun && !apart.load.is_handed_out())
    }

    /// Returns true if flows that were set apart have a number of pings to send, and have not ended all of them.
    pub fn has_counted_apart(&self) -> bool {
        let mut apart = self.apart.iter();
        apart.any(|apart| apart.pace.count.is_some() && apart.has_begun && !apart.load.is_over())
    }

    /// Ends the schedules of flows that were set apart at `end`. Returns the number of their pings that were due before and
    /// not handed out.
    pub(super) fn end_apart(&mut self, end: Instant) -> u64 {
        let loads = self.apart.iter_mut().map(|apart| &mut apart.load);
        let unsent = loads.map(|load| load.end_phase(end)).sum();
        self.drop_apart();
        unsent
    }

    /// Hands out the ping of a flow that was set apart which is due at `now` before any of the phase.
    #[cold]
    pub(super) fn next_apart(&mut self, now: Instant) -> Option<Due> {
        let phase = self.phase_next_at();
        let first = self
            .apart
            .iter_mut()
            .filter_map(|apart| Some((apart.load.next_at()?, apart)))
            .filter(|(at, _)| *at <= now && phase.is_none_or(|phase| *at < phase))
            .min_by_key(|(at, _)| *at);
        let (_, apart) = first?;
        let due = apart.load.next(now)?;
        Some(Due {
            flow: FlowId(apart.flows.start + due.flow.0),
            ..due
        })
    }

    /// Returns the time of the first ping of the phase or of flows that were set apart.
    #[cold]
    pub(super) fn next_at_of_all(&self) -> Option<Instant> {
        let apart = self.apart.iter().map(|apart| apart.load.next_at());
        apart.fold(self.phase_next_at(), earliest)
    }

    /// Tells the load of a flow that was set apart of it: `tell` gets the flow's number there. Returns `None` if it was not.
    #[inline]
    pub(super) fn tell_apart<T>(
        &mut self,
        id: FlowId,
        tell: impl FnOnce(&mut Load, FlowId) -> T,
    ) -> Option<T> {
        if self.apart.is_empty() {
            return None;
        }
        self.find_apart(id).map(|(load, id)| tell(load, id))
    }

    /// Returns the load of a flow that was set apart, and the flow's number there. `None` if it was not.
    pub(super) fn apart_of(&self, id: FlowId) -> Option<(&Load, FlowId)> {
        let mut apart = self.apart.iter();
        apart.find_map(|apart| Some((&apart.load, apart.own(id)?)))
    }

    #[cold]
    fn find_apart(&mut self, id: FlowId) -> Option<(&mut Load, FlowId)> {
        let mut apart = self.apart.iter_mut();
        apart.find_map(|apart| {
            let own = apart.own(id)?;
            Some((&mut apart.load, own))
        })
    }

    /// Ends those of the flows that were set apart for good.
    pub(super) fn retire_apart(&mut self, ids: &[FlowId]) {
        for apart in &mut self.apart {
            let own: Vec<FlowId> = ids.iter().filter_map(|id| apart.own(*id)).collect();
            apart.load.retire(&own);
        }
        self.drop_apart();
    }

    /// Forgets flows that were set apart and are over.
    pub(super) fn drop_apart(&mut self) {
        self.apart
            .retain(|apart| !apart.has_begun || !apart.load.is_over());
    }
}
