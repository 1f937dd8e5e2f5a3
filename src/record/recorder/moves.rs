//! What a recorder is told of moves.

use super::Recorder;
use crate::load::FlowId;
use crate::record::{Cause, Metric, Move, Moves};
use crate::time::Instant;

impl Recorder {
    /// A VM was moved, or is from now on. From now on the answers of its peers are looked at for the ends of their gaps. Returns the number of the
    /// move.
    pub fn moved(&mut self, made: Move) -> usize {
        let details = self.details.get_or_insert_default();
        details.moves.get_or_insert_default().add(made)
    }

    /// More is known of the move with that number.
    pub fn change_move(&mut self, number: usize, change: impl FnOnce(&mut Move)) {
        let details = self.details.as_mut();
        let moves = details.and_then(|details| details.moves.as_mut());
        if let Some(made) = moves.and_then(|moves| moves.get_mut(number)) {
            change(made);
        }
    }

    /// The move with that number, which was under way, was not made.
    pub fn withdraw_move(&mut self, number: usize) {
        let details = self.details.as_mut();
        if let Some(moves) = details.and_then(|details| details.moves.as_mut()) {
            moves.withdraw(number);
        }
    }

    /// Returns the moves, if there are any.
    pub fn moves(&self) -> Option<&Moves> {
        self.details.as_ref()?.moves.as_ref()
    }

    /// Returns when the last answer to a ping of `flow` was received, and the number of the first ping behind the last one that
    /// was answered; those of a warm-up left out.
    pub fn last_answer(&self, flow: FlowId) -> Option<(Instant, u64)> {
        let (last, next) = self.flows.get(flow.index())?.last_answer();
        (last > Instant::ZERO).then_some((last, next))
    }

    pub(super) fn passed_after_move(
        &mut self,
        (flow, sequence): (FlowId, u64),
        sent: Instant,
        received: Instant,
    ) {
        let details = self.details.as_mut();
        let moves = details.and_then(|details| details.moves.as_mut());
        let ended = moves.map(|moves| moves.passed((flow, sequence), sent, received));
        for gap in ended.into_iter().flatten().flatten() {
            self.record(Metric::Outage, gap);
        }
    }

    pub(super) fn failed_after_move(&mut self, flow: FlowId, ping: (u64, Instant), cause: Cause) {
        let details = self.details.as_mut();
        if let Some(moves) = details.and_then(|details| details.moves.as_mut()) {
            moves.failed(flow, ping, cause);
        }
    }

    pub(super) fn attribute_after_move(
        &mut self,
        flow: FlowId,
        due: Instant,
        from: Cause,
        to: Cause,
    ) {
        let details = self.details.as_mut();
        if let Some(moves) = details.and_then(|details| details.moves.as_mut()) {
            moves.attribute(flow, due, from, to);
        }
    }

    pub(super) fn late_after_move(&mut self, flow: FlowId) {
        let details = self.details.as_mut();
        if let Some(moves) = details.and_then(|details| details.moves.as_mut()) {
            moves.late(flow);
        }
    }
}
