//! Detects pauses: times in which the thread did not get the processor. They are charged neither to the network nor to
//! the tool.
//!
//! Between two clock readings the reactor either works or waits in the poll. If work took longer than [`BOUND`], the
//! difference to the thread's processor time is a pause: other threads had the processor, or the process was stopped. A
//! wait contains a pause if it ended later than its deadline or was interrupted (its signals are blocked, so only a stop
//! of the process interrupts it: `signal(7)`). A file that takes long to be written is a pause as well,
//! and so is a request to the control socket that takes long. Processor time is not read for gaps shorter than [`BOUND`].

use crate::record::Pause;
use crate::system::RunDelay;
use crate::time::{Instant, thread_cpu_nanos};

/// The shortest pause that is detected, in nanoseconds. The scheduler's time slices are a few times longer.
const BOUND: u64 = 500_000;

/// Detects pauses of the reactor's thread.
#[derive(Debug)]
pub(super) struct PauseWatch {
    /// The last clock reading.
    seen: Instant,
    /// Processor time, in nanoseconds, at its last reading.
    cpu: u64,
    /// Run delay, in nanoseconds, at its last reading.
    run_delay: u64,
    /// Nanoseconds of work, by the clock, between that reading and `works_since`.
    worked: u64,
    /// Start of the present work: the end of the last wait, or the last reading of the processor time.
    works_since: Instant,
    /// The last wait was long enough to contain a pause.
    has_waited: bool,
    source: RunDelay,
}

impl PauseWatch {
    pub(super) fn new(now: Instant) -> PauseWatch {
        let source = RunDelay::new();
        PauseWatch {
            seen: now,
            cpu: thread_cpu_nanos().unwrap_or(0),
            run_delay: source.nanos().unwrap_or(0),
            worked: 0,
            works_since: now,
            has_waited: false,
            source,
        }
    }

    /// Records a clock reading after work. Returns true if the time since the last one may contain a pause: then call
    /// [`PauseWatch::look`].
    #[inline]
    pub(super) fn is_gap(&mut self, now: Instant) -> bool {
        let gap = now.nanos_since(self.seen);
        if gap < BOUND {
            self.seen = now;
        }
        gap >= BOUND
    }

    /// Returns the pause between the last clock reading and `now`, if there was one.
    #[cold]
    pub(super) fn look(&mut self, now: Instant) -> Option<Pause> {
        let from = std::mem::replace(&mut self.seen, now);
        let worked = self.worked + now.nanos_since(self.works_since);
        let (cpu, run_delay) = self.read(now);
        let missing = worked.saturating_sub(cpu).min(now.nanos_since(from));
        (missing >= BOUND).then_some(Pause {
            from,
            to: now,
            nanos: missing,
            run_delay: run_delay.min(missing),
            writing: 0,
            answering: 0,
        })
    }

    /// Records that the reactor begins to wait at `now`.
    pub(super) fn waits(&mut self, now: Instant) {
        self.worked += now.nanos_since(self.works_since);
        self.seen = now;
    }

    /// Records that a wait ended at `now`. Its timer was set for `deadline`, if any; `was_interrupted` means that it ended
    /// with `EINTR`. Returns the pause that it contained, if any.
    pub(super) fn woke(
        &mut self,
        now: Instant,
        deadline: Option<Instant>,
        was_interrupted: bool,
    ) -> Option<Pause> {
        let began = std::mem::replace(&mut self.seen, now);
        self.works_since = now;
        self.has_waited = now.nanos_since(began) >= BOUND;
        let late = deadline.filter(|deadline| now.nanos_since(*deadline) >= BOUND);
        let from = match late {
            Some(deadline) => deadline.max(began),
            None if was_interrupted => began,
            None => return None,
        };
        let (_, run_delay) = self.read(now);
        self.has_waited = false;
        let nanos = now.nanos_since(from);
        (nanos >= BOUND).then_some(Pause {
            from,
            to: now,
            nanos,
            run_delay: run_delay.min(nanos),
            writing: 0,
            answering: 0,
        })
    }

    /// Returns the pause at the end of the wait before this turn, if there was one. To be called at the end of the turn, so
    /// that its frames do not wait for the reading of the run delay.
    #[inline]
    pub(super) fn look_back(&mut self) -> Option<Pause> {
        match self.has_waited {
            true => self.look_at_wait(),
            false => None,
        }
    }

    fn look_at_wait(&mut self) -> Option<Pause> {
        self.has_waited = false;
        let woken = self.works_since;
        // The processor time is read as well, so that many short pauses do not add up to one long pause.
        let (_, nanos) = self.read(self.seen);
        (nanos >= BOUND).then_some(Pause {
            from: Instant::from_nanos(woken.as_nanos().saturating_sub(nanos)),
            to: woken,
            nanos,
            run_delay: nanos,
            writing: 0,
            answering: 0,
        })
    }

    /// Records that the reactor wrote a file from `from` to `now`. Returns the pause that this is, if it took long.
    pub(super) fn wrote(&mut self, from: Instant, now: Instant) -> Option<Pause> {
        let pause = self.was_busy(from, now)?;
        Some(Pause {
            writing: pause.nanos,
            ..pause
        })
    }

    /// Records that a client of the control socket was answered from `from` to `now`. Returns the pause that this is, if it took
    /// long.
    pub(super) fn answered(&mut self, from: Instant, now: Instant) -> Option<Pause> {
        let pause = self.was_busy(from, now)?;
        Some(Pause {
            answering: pause.nanos,
            ..pause
        })
    }

    /// Records that the reactor did something else than its turns from `from` to `now`. Returns the pause that this is, if it
    /// took long.
    fn was_busy(&mut self, from: Instant, now: Instant) -> Option<Pause> {
        let nanos = now.nanos_since(from);
        if nanos < BOUND {
            return None;
        }
        self.skip(now);
        Some(Pause {
            from,
            to: now,
            nanos,
            run_delay: 0,
            writing: 0,
            answering: 0,
        })
    }

    /// Excludes the time until `now`, which the reactor spent on other work such as creating a VM.
    pub(super) fn skip(&mut self, now: Instant) {
        self.seen = now;
        self.read(now);
    }

    /// Returns processor time and run delay, in nanoseconds, since their last reading.
    fn read(&mut self, now: Instant) -> (u64, u64) {
        self.worked = 0;
        self.works_since = now;
        let cpu = thread_cpu_nanos().unwrap_or(u64::MAX);
        let run_delay = self.source.nanos().unwrap_or(self.run_delay);
        let used = cpu.saturating_sub(std::mem::replace(&mut self.cpu, cpu));
        let delay = run_delay.saturating_sub(std::mem::replace(&mut self.run_delay, run_delay));
        (used, delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MS: u64 = 1_000_000;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn a_gap_without_work_is_a_pause_and_one_with_work_is_none() {
        let mut watch = PauseWatch::new(at(0));
        assert!(!watch.is_gap(at(BOUND - 1)));
        assert!(watch.is_gap(at(BOUND - 1 + 10 * MS)));
        // This thread has had next to nothing of these ten milliseconds.
        let pause = watch.look(at(BOUND - 1 + 10 * MS)).expect("a pause");
        assert_eq!(
            (pause.from, pause.to),
            (at(BOUND - 1), at(BOUND - 1 + 10 * MS))
        );
        assert!((9 * MS..=10 * MS).contains(&pause.nanos), "{pause:?}");
        // And has all of these.
        let now = pause.to;
        let begin = thread_cpu_nanos().expect("a clock");
        while thread_cpu_nanos().expect("a clock") < begin + 5 * MS {}
        assert!(watch.is_gap(now + Duration::from_millis(5)));
        assert_eq!(watch.look(now + Duration::from_millis(5)), None);
    }

    #[test]
    fn a_wait_that_ends_late_or_is_interrupted_is_a_pause_and_any_other_is_none() {
        for (deadline, was_interrupted, from) in [
            (None, false, None),
            (Some(at(100 * MS)), false, None),
            (Some(at(100 * MS - BOUND + 1)), false, None),
            (Some(at(60 * MS)), false, Some(at(60 * MS))),
            (Some(at(5 * MS)), false, Some(at(10 * MS))),
            (None, true, Some(at(10 * MS))),
        ] {
            let mut watch = PauseWatch::new(at(0));
            watch.waits(at(10 * MS));
            let pause = watch.woke(at(100 * MS), deadline, was_interrupted);
            assert_eq!(
                pause.map(|pause| pause.from),
                from,
                "{deadline:?} {was_interrupted}"
            );
            assert!(pause.is_none_or(|pause| pause.nanos == pause.to.nanos_since(pause.from)));
        }
    }
}
