//! When the processor was taken away: the time of such a pause is neither the network's nor the tool's.
//!
//! Between two readings of the clock the reactor either works or waits in the poll. Where working took longer than
//! [`BOUND`], the thread's processor time tells whether it worked: what is missing in it, others had, or the process was
//! stopped. Where it waited, the kernel woke it later than it was asked to, or interrupted the wait (which only a stop of
//! the process does, because its signals are blocked: `signal(7)`). Nothing is read before a gap is that long.

use crate::record::Pause;
use crate::system::RunDelay;
use crate::time::{Instant, thread_cpu_nanos};

/// The shortest pause that is looked for, in nanoseconds. The scheduler's slices are a few times that.
const BOUND: u64 = 500_000;

/// Looks for pauses.
#[derive(Debug)]
pub(super) struct PauseWatch {
    /// The last reading of the clock.
    seen: Instant,
    /// Processor time and run delay when they were read last, and how long the reactor has worked since by the clock.
    cpu: u64,
    run_delay: u64,
    worked: u64,
    /// Since when it works: the end of the last wait, or the last look at the processor time.
    works_since: Instant,
    /// Whether the last wait was so long that others may have kept the reactor from ending it.
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

    /// The clock was read at `now`, and the reactor has worked since it was read before. Whether that was so long that it
    /// is worth a [look](PauseWatch::look).
    #[inline]
    pub(super) fn is_gap(&mut self, now: Instant) -> bool {
        let gap = now.nanos_since(self.seen);
        if gap < BOUND {
            self.seen = now;
        }
        gap >= BOUND
    }

    /// Whether the reactor was paused since the clock was read before `now`.
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
        })
    }

    /// The reactor begins to wait at `now`.
    pub(super) fn waits(&mut self, now: Instant) {
        self.worked += now.nanos_since(self.works_since);
        self.seen = now;
    }

    /// It waits no longer at `now`. It was to be woken at `deadline`, if there was one, and `was_interrupted` without any
    /// event. Whether it was paused.
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
        })
    }

    /// Whether others kept the reactor from ending the wait before this turn. Asked at the end of the turn, so that its
    /// frames do not wait for the answer.
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
        // The processor time is read as well, so that short pauses of hours do not add up to one.
        let (_, nanos) = self.read(self.seen);
        (nanos >= BOUND).then_some(Pause {
            from: Instant::from_nanos(woken.as_nanos().saturating_sub(nanos)),
            to: woken,
            nanos,
            run_delay: nanos,
        })
    }

    /// What the reactor did in a time that it spent otherwise, such as making a VM, is not looked into.
    pub(super) fn skip(&mut self, now: Instant) {
        self.seen = now;
        self.read(now);
    }

    /// Processor time and run delay since they were read last.
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
