//! Whether the figures describe the network or the tool's own limit.

use serde::{Deserialize, Serialize};

use super::units::{counted, percent, span};
use crate::record::{DropReason, Drops, Latency, Phase};

/// A reactor that works for more than this share of the time has no room left: what it measures is itself.
pub const BUSY_SHARE: f64 = 0.9;

/// Lag is the tool's own part of an rtt. Where its p99 is more than this share of the rtt's p99, the tool shapes the
/// figures.
pub const LAG_SHARE: f64 = 0.25;

/// Lag below this many nanoseconds is never held against the tool: a frame can't be handled in no time.
pub const LAG_ALLOWED: u64 = 20_000;

/// A generator whose p99 of lateness is above this many nanoseconds did not send what the schedule asked for. Waking
/// up takes some 50 to 100 µs on a machine at rest.
pub const LATENESS_ALLOWED: u64 = 1_000_000;

/// A run shorter than this says nothing about how busy the reactor was, in nanoseconds.
pub const TELLING_TIME: u64 = 100_000_000;

/// Whether a run, or a part of it, was limited by the tool, and what that is judged by.
///
/// It was when any of these holds: the reactor was busy for more than [`BUSY_SHARE`] of
/// [`TELLING_TIME`] or more; the p99 of lag is above
/// [`LAG_ALLOWED`] and above [`LAG_SHARE`] of the rtt's p99, if there is one; the p99 of lateness is above [`LATENESS_ALLOWED`]; the
/// kernel dropped frames because a TAP was not read fast enough; pings that were due were never sent.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// The share of the time that the reactor worked rather than waited, from 0 to 1.
    pub busy_share: f64,
    /// 99 % of all frames waited at most this long for the tool, in nanoseconds; absent if there were none.
    pub lag_p99_ns: Option<u64>,
    /// 99 % of the pings were sent at most this long after they were due, in nanoseconds; absent if none was sent.
    pub lateness_p99_ns: Option<u64>,
    /// Frames that the kernel dropped because a TAP's queue was full.
    pub tap_queue_drops: u64,
    /// Whether the figures describe the tool rather than the network.
    pub limited_by_tool: bool,
    /// All of that for a person.
    pub sentence: String,
}

/// What a verdict is made of.
pub(super) struct Evidence {
    pub elapsed_ns: u64,
    pub busy_ns: u64,
    pub rtt_p99_ns: Option<u64>,
    pub lag_p99_ns: Option<u64>,
    pub lateness_p99_ns: Option<u64>,
    pub tap_queue_drops: u64,
    pub unsent: u64,
}

/// What 99 % of `frames` frames waited at most for the tool, in nanoseconds.
///
/// `lag` has the frames that a poll announced. A frame that was read at once, because the tool knew that it would be
/// there, waited for no poll and is not in it.
pub(super) fn lag_p99(lag: &Latency, frames: u64) -> Option<u64> {
    let frames = frames.max(lag.count());
    if frames == 0 {
        return None;
    }
    let allowed = 0.01 * frames as f64;
    match lag.count() as f64 {
        waited if waited <= allowed => Some(0),
        waited => lag.quantile(1.0 - allowed / waited),
    }
}

impl Verdict {
    /// Judges a phase, or a run as one.
    pub fn new(phase: &Phase, drops: &Drops) -> Verdict {
        Verdict::of(&Evidence {
            elapsed_ns: phase.elapsed(),
            busy_ns: phase.work().busy,
            rtt_p99_ns: phase.rtt().quantile(0.99),
            lag_p99_ns: lag_p99(phase.lag(), phase.work().frames_in),
            lateness_p99_ns: phase.lateness().quantile(0.99),
            tap_queue_drops: drops.get(DropReason::TapQueue),
            unsent: phase.totals().unsent,
        })
    }

    pub(super) fn of(evidence: &Evidence) -> Verdict {
        let mut verdict = Verdict {
            busy_share: match evidence.elapsed_ns {
                0 => 0.0,
                elapsed => (evidence.busy_ns as f64 / elapsed as f64).min(1.0),
            },
            lag_p99_ns: evidence.lag_p99_ns,
            lateness_p99_ns: evidence.lateness_p99_ns,
            tap_queue_drops: evidence.tap_queue_drops,
            ..Verdict::default()
        };
        let reasons = match evidence.lateness_p99_ns {
            Some(_) => verdict.reasons(evidence),
            None => Vec::new(),
        };
        verdict.limited_by_tool = !reasons.is_empty();
        verdict.sentence = if verdict.limited_by_tool {
            format!(
                "The figures show the tool's own limit, not the network's: {}.",
                reasons.join("; ")
            )
        } else if evidence.lateness_p99_ns.is_none() {
            "Nothing was measured: no ping was sent.".to_owned()
        } else {
            let waited = match verdict.lag_p99_ns {
                None => String::new(),
                Some(0) => ", and 99 % of the frames did not wait for it".to_owned(),
                Some(lag) => format!(
                    ", and 99 % of the frames waited at most {} for it",
                    span(lag)
                ),
            };
            let busy = percent(verdict.busy_share);
            let what = match evidence.rtt_p99_ns {
                Some(_) => "The figures describe the network",
                None => "No ping was answered, and not for want of the tool",
            };
            format!("{what}: the reactor was busy {busy} of the time{waited}.")
        };
        verdict
    }

    /// Why the tool was the limit; empty if it was not.
    fn reasons(&self, evidence: &Evidence) -> Vec<String> {
        let mut reasons = Vec::new();
        if evidence.unsent > 0 {
            let pings = counted(evidence.unsent, "ping");
            reasons.push(format!("{pings} that were due could not be sent in time"));
        }
        if self.busy_share > BUSY_SHARE && evidence.elapsed_ns >= TELLING_TIME {
            let share = percent(self.busy_share);
            reasons.push(format!("the reactor was busy {share} of the time"));
        }
        // Where nothing was answered, nobody knows what part of an rtt the lag would have been.
        if let Some((lag, rtt)) = self.lag_p99_ns.zip(evidence.rtt_p99_ns)
            && lag > LAG_ALLOWED
            && lag as f64 > LAG_SHARE * rtt as f64
        {
            reasons.push(format!(
                "one frame in a hundred waited {} or more for it (rtt p99 {})",
                span(lag),
                span(rtt)
            ));
        }
        if let Some(late) = self.lateness_p99_ns
            && late > LATENESS_ALLOWED
        {
            let late = span(late);
            reasons.push(format!(
                "one ping in a hundred was sent {late} or more after it was due"
            ));
        }
        if self.tap_queue_drops > 0 {
            let frames = counted(self.tap_queue_drops, "frame");
            reasons.push(format!(
                "{frames} overflowed the queue of a TAP before being read"
            ));
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::FlowId;
    use crate::record::{Limits, Recorder};
    use crate::time::Instant;

    const MS: u64 = 1_000_000;

    fn verdict(lateness: u64, rtt: u64, lag: u64, busy: u64, overflow: u64) -> Verdict {
        let mut recorder = Recorder::new(Limits::default());
        recorder.add_flow();
        for i in 0..1_000 {
            let at = |nanos| Instant::from_nanos(i * MS + nanos);
            recorder.echo_sent(FlowId(0), at(0), at(0), at(lateness));
            recorder.answered(FlowId(0), i, at(0), at(lateness), at(lateness + rtt));
            recorder.lag(lag);
            recorder.busy(busy);
        }
        recorder.dropped_many(DropReason::TapQueue, overflow);
        Verdict::new(&recorder.run(), recorder.drops())
    }

    #[test]
    fn each_limit_is_named_and_nothing_else_is_held_against_the_tool() {
        let table = [
            ("at rest", verdict(60_000, 10_000, 2_000, 100_000, 0), None),
            (
                "busy",
                verdict(0, 10_000, 2_000, 950_000, 0),
                Some("was busy 95"),
            ),
            (
                "lagging",
                verdict(0, 100_000, 30_000, 0, 0),
                Some("waited 30.0 µs"),
            ),
            ("a slow network", verdict(0, 500_000, 30_000, 0, 0), None),
            (
                "late",
                verdict(2 * MS, 10_000, 0, 0, 0),
                Some("sent 2.00 ms"),
            ),
            (
                "overflowing",
                verdict(0, 10_000, 0, 0, 7),
                Some("7 frames overflowed"),
            ),
        ];
        for (name, verdict, reason) in table {
            assert_eq!(
                verdict.limited_by_tool,
                reason.is_some(),
                "{name}: {verdict:?}"
            );
            let told = reason.unwrap_or("describe the network");
            assert!(
                verdict.sentence.contains(told),
                "{name}: {}",
                verdict.sentence
            );
        }
    }

    #[test]
    fn where_nothing_was_answered_lag_is_not_held_against_the_tool() {
        let mut recorder = Recorder::new(Limits::default());
        recorder.add_flow();
        for i in 0..1_000 {
            let due = Instant::from_nanos(i * MS);
            recorder.echo_sent(FlowId(0), due, due, due);
            recorder.lag(400_000);
        }
        let verdict = Verdict::new(&recorder.run(), recorder.drops());
        assert!(!verdict.limited_by_tool, "{verdict:?}");
        let told = "No ping was answered, and not for want of the tool: the reactor was busy 0 % of the time, and 99 % \
                    of the frames waited at most 400 µs for it.";
        assert_eq!(verdict.sentence, told);
    }

    #[test]
    fn frames_that_no_poll_announced_did_not_wait_for_one() {
        let mut lag = Latency::new();
        (1..=100).for_each(|microseconds| lag.record(microseconds * 1_000));
        for (frames, p99) in [
            // All frames were announced; one in two; one in fifty; one in a hundred, and fewer.
            (0, 99_000),
            (100, 99_000),
            (200, 98_000),
            (5_000, 50_000),
            (10_000, 0),
            (1_000_000, 0),
        ] {
            let found = lag_p99(&lag, frames).unwrap();
            assert!(found.abs_diff(p99) <= p99 / 1_000, "{frames}: {found}");
        }
        assert_eq!(lag_p99(&Latency::new(), 0), None);
        assert_eq!(lag_p99(&Latency::new(), 10), Some(0));
    }

    #[test]
    fn a_run_without_pings_is_not_judged() {
        let recorder = Recorder::new(Limits::default());
        let verdict = Verdict::new(&recorder.run(), recorder.drops());
        assert!(!verdict.limited_by_tool);
        assert_eq!(verdict.sentence, "Nothing was measured: no ping was sent.");
    }
}
