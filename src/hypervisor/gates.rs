//! Gates between the phases of a run that several ranks make together: none begins its next phase before all have come to it.
//!
//! A phase that takes its whole duration needs none: it begins at one instant everywhere, and so it ends. Behind any other
//! phase, before the first and behind the last the hypervisor sends no pings, answers others, and goes on at the agreed time.
//! Until then misbehaviours of the phase go on and begin, for others may still be in it.
//!
//! A run that is stopped has the last gate left: each rank comes to it when its own pings are over, and answers those of others
//! until all have.

use super::Hypervisor;
use crate::fabric::Fabric;
use crate::time::Instant;

/// Where a run stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// In a phase, or before all of them.
    Under,
    /// At a gate, of which nobody has been told yet.
    Come,
    /// At a gate.
    Waits,
    /// At a gate that opens at this time.
    Opens(Instant),
    /// Behind the last gate.
    Past,
}

/// The gates of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gates {
    place: Place,
    /// The number of the next phase.
    next: u32,
    /// Another gate is behind the present phase.
    is_gated: bool,
}

impl Gates {
    /// Returns true while the run stands at a gate.
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.place, Place::Come | Place::Waits | Place::Opens(_))
    }

    /// The time at which it goes on, if it is known.
    pub(super) const fn opens_at(&self) -> Option<Instant> {
        match self.place {
            Place::Opens(at) => Some(at),
            _ => None,
        }
    }

    /// Returns true if the last gate is not passed yet.
    pub(super) const fn is_before_end(&self) -> bool {
        !matches!(self.place, Place::Past)
    }

    /// A phase has begun, which ends at a gate if it `is_gated`.
    pub(super) const fn begin(&mut self, is_gated: bool) {
        self.next += 1;
        self.is_gated = is_gated;
        self.place = Place::Under;
    }
}

impl<F: Fabric> Hypervisor<F> {
    /// Has the run stop at gates; to be called before it is started.
    pub fn stop_at_gates(&mut self) {
        self.gates = Some(Gates {
            place: Place::Under,
            next: 0,
            is_gated: true,
        });
    }

    /// Returns true if the run stops at gates, those that it has passed included: it ends behind the last, even without flows.
    pub fn stops_at_gates(&self) -> bool {
        self.gates.is_some()
    }

    /// Returns true if the run stops at gates and has not passed the last one.
    pub fn has_gates(&self) -> bool {
        self.gates.is_some_and(|gates| gates.is_before_end())
    }

    /// Returns true if the run has come to a gate of which [`Hypervisor::take_gate`] has not told.
    #[inline]
    pub fn is_at_new_gate(&self) -> bool {
        self.gates.is_some_and(|gates| gates.place == Place::Come)
    }

    /// Returns the number of the phase that begins behind the gate to which the run has come, and whether there is one. `None` if
    /// it has come to none since the last call.
    pub fn take_gate(&mut self) -> Option<(u32, bool)> {
        let is_last = self.phases.is_empty();
        let gates = self.gates.as_mut()?;
        if gates.place != Place::Come {
            return None;
        }
        gates.place = Place::Waits;
        Some((gates.next, !is_last))
    }

    /// Returns how many phases have begun, if the run stops at gates.
    pub fn phases_begun(&self) -> usize {
        self.gates.map_or(0, |gates| gates.next as usize)
    }

    /// Has the run go on at `at`.
    pub fn open_gate(&mut self, at: Instant) {
        if let Some(gates) = &mut self.gates
            && gates.is_closed()
        {
            gates.place = Place::Opens(at);
        }
    }

    /// Stops at a gate if there is one here. Returns false if there is none.
    pub(super) fn come_to_gate(&mut self) -> bool {
        match &mut self.gates {
            Some(gates) if gates.is_before_end() && (gates.is_gated || self.phases.is_empty()) => {
                gates.place = Place::Come;
                true
            }
            _ => false,
        }
    }

    /// Goes on behind a gate that is open at `now`, or stops at the last one if all is done. Returns true while the run stands at
    /// one.
    #[cold]
    pub(super) fn look_at_gate(&mut self, now: Instant) -> bool {
        let Some(gates) = self.gates else {
            return false;
        };
        match gates.place {
            Place::Opens(at) if at <= now => {
                if self.phases.is_empty() {
                    self.pass_last_gate();
                } else {
                    if gates.next == 0 {
                        self.recorder().end_setup();
                    }
                    self.begin_next_phase(at);
                }
                false
            }
            Place::Come | Place::Waits | Place::Opens(_) => true,
            Place::Past => false,
            Place::Under => {
                let is_begun = gates.next > 0 || self.is_stopping;
                let is_over = is_begun && self.phases.is_empty() && self.is_quiet();
                if is_over {
                    self.phase_end = None;
                }
                is_over && self.come_to_gate()
            }
        }
    }

    /// No phase begins any more: the next gate is the last, if the run does not stand at that already. To be called while the phases
    /// that are to come are known.
    pub(super) fn come_to_last_gate_next(&mut self) {
        let is_there = self.phases.is_empty();
        if let Some(gates) = &mut self.gates
            && gates.is_before_end()
            && !(is_there && gates.is_closed())
        {
            gates.place = Place::Under;
        }
    }

    /// Stops at the last gate although not all is over.
    pub(super) fn come_to_gate_at_once(&mut self) {
        if let Some(gates) = &mut self.gates
            && gates.place == Place::Under
        {
            gates.place = Place::Come;
        }
    }

    /// The run stops at no gate any more.
    pub(super) fn pass_last_gate(&mut self) {
        if let Some(gates) = &mut self.gates {
            gates.place = Place::Past;
        }
    }
}
