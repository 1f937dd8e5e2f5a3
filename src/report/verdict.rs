//! Verdicts: the figures describe the network, or the tool's own limit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Report;
use super::units::{counted, percent, span};
use crate::record::{DropReason, Latency, Metric, Phase};

/// A reactor that works for more than this share of the time has no room left: what it measures is itself.
pub const BUSY_SHARE: f64 = 0.9;

/// Lag is the tool's own part of an rtt. Where its p99 is more than this share of the rtt's p99, the tool shapes the
/// figures.
pub const LAG_SHARE: f64 = 0.25;

/// Lag below this many nanoseconds is never held against the tool: a frame can't be handled in no time.
pub const LAG_TOLERATED: u64 = 20_000;

/// Lateness is the tool's own part of a response. Where its p99 is more than this share of the response's p99, the tool
/// shapes the figures.
pub const LATENESS_SHARE: f64 = 0.25;

/// Lateness below this many nanoseconds is never held against the tool: waking up takes some 50 to 100 µs on a machine at
/// rest.
pub const LATENESS_TOLERATED: u64 = 200_000;

/// The same where no ping was answered, so that nobody knows what part of a response it would have been.
pub const LATENESS_UNANSWERED: u64 = 1_000_000;

/// A process that did not run for more than this share of the time was not the one to decide how late its pings were.
pub const PAUSED_SHARE: f64 = 0.01;

/// A run shorter than this says nothing about how busy the reactor was, in nanoseconds.
pub const TELLING_TIME: u64 = 100_000_000;

/// Verdict on a run or a part of it: limited by the tool or not, and the evidence.
///
/// It was when any of these holds: the reactor was busy for more than [`BUSY_SHARE`] of [`TELLING_TIME`] or more; the p99 of
/// lag is above [`LAG_TOLERATED`] and above [`LAG_SHARE`] of the rtt's p99, if there is one; the p99 of lateness is above
/// [`LATENESS_TOLERATED`] and above [`LATENESS_SHARE`] of the response's p99, or, if there is none, above
/// [`LATENESS_UNANSWERED`] (of streams without pings, one-way times stand for both rtt and response); the p99 of the release of delayed frames is above [`LATENESS_TOLERATED`] and above
/// [`LATENESS_SHARE`] of the rtt's p99; the kernel dropped frames because a TAP was not read fast enough; pings that were due were never
/// sent, be it because their flow had as many on their way as it can. But where the process did not run for more than [`PAUSED_SHARE`] of the time, that explains all of it but a reactor
/// that was busy in the rest of the time, too: the run was disturbed.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The share of the time that the reactor worked rather than waited, from 0 to 1.
    pub busy_share: f64,
    /// 99 % of all frames waited at most this long for the tool, in nanoseconds; absent if there were none.
    pub lag_p99_ns: Option<u64>,
    /// 99 % of the pings were sent at most this long after they were due, in nanoseconds; absent if none was sent.
    pub lateness_p99_ns: Option<u64>,
    /// Frames that the kernel dropped because a TAP's queue was full.
    pub tap_queue_drops: u64,
    /// True if the figures describe the tool rather than the network.
    pub limited_by_tool: bool,
    /// True if they describe neither: the process did not run for long, because others had the processor, or it was stopped.
    #[serde(default)]
    pub disturbed: bool,
    /// All of that for a person.
    pub sentence: String,
}

/// The evidence for a verdict.
#[derive(Clone, Copy, Default)]
pub(super) struct Evidence {
    pub elapsed_ns: u64,
    pub busy_ns: u64,
    pub rtt_p99_ns: Option<u64>,
    pub lag_p99_ns: Option<u64>,
    pub response_p99_ns: Option<u64>,
    /// The p99 of the one-way times of frames of streams.
    pub stream_p99_ns: Option<u64>,
    /// Frames of streams were sent.
    pub has_streams: bool,
    pub lateness_p99_ns: Option<u64>,
    pub tap_queue_drops: u64,
    pub unsent: u64,
    /// Pings that were due and not sent because their flow had as many on their way as can be.
    pub refused: u64,
    /// The p99 of the time by which held frames were released too late, if any were held.
    pub release_p99_ns: Option<u64>,
    /// Frames were impaired.
    pub is_impaired: bool,
    /// For how long the process did not run although it had something to do, …
    pub paused_ns: u64,
    /// … and for how long of that others had the processor.
    pub run_delay_ns: u64,
    /// The part of `paused_ns` during which the tool wrote a file.
    pub writing_ns: u64,
    /// The part of `paused_ns` during which the tool answered clients of its control socket.
    pub answering_ns: u64,
    /// The p99 of the response after the first second, the greatest of any second, if neighbours were looked for in the first
    /// and no warm-up went before.
    pub response_after_first_ns: Option<u64>,
}

impl Evidence {
    /// The evidence of a whole run, in which the reactor worked for `busy_ns` of the time that counts and read `frames_in` frames.
    pub fn of_run(report: &Report, busy_ns: u64, frames_in: u64) -> Evidence {
        let p99 = |metric| report.summaries[metric].p99;
        let found = |metric| report.summaries[metric].count;
        let looked_for = found(Metric::Resolution) + found(Metric::Resolution6) > 0;
        let is_warm = report.phases.iter().any(|phase| !phase.counted);
        let later = report.seconds.iter().skip(1);
        Evidence {
            elapsed_ns: report.elapsed_ns,
            busy_ns,
            rtt_p99_ns: p99(Metric::Rtt),
            lag_p99_ns: lag_p99(&report.histograms[Metric::Lag], frames_in),
            response_p99_ns: p99(Metric::Response),
            stream_p99_ns: p99(Metric::Stream),
            has_streams: report.stream_counts.is_some(),
            lateness_p99_ns: p99(Metric::Lateness),
            // The queues of a simulated switch are part of the network that was asked for.
            tap_queue_drops: match report
                .fabric
                .as_ref()
                .is_some_and(|fabric| fabric.simulated)
            {
                true => 0,
                false => report.drops.get(DropReason::TapQueue),
            },
            unsent: report.totals.unsent + report.stream_counts.map_or(0, |counts| counts.unsent),
            refused: report.drops.get(DropReason::TooManyOutstanding),
            release_p99_ns: p99(Metric::Release),
            is_impaired: !report.impairments.is_empty(),
            paused_ns: report.pauses.total_ns,
            run_delay_ns: report.pauses.run_delay_ns,
            writing_ns: report.pauses.writing_ns,
            answering_ns: report.pauses.answering_ns,
            response_after_first_ns: match looked_for && !is_warm {
                true => later.filter_map(|second| second.response_ns.p99).max(),
                false => None,
            },
        }
    }

    /// The evidence of one phase. Overflow of queues and pauses are known for the run as a whole only.
    pub fn of_phase(phase: &Phase) -> Evidence {
        Evidence {
            elapsed_ns: phase.elapsed(),
            busy_ns: phase.work().busy,
            rtt_p99_ns: phase.rtt().quantile(0.99),
            lag_p99_ns: lag_p99(phase.lag(), phase.work().frames_in),
            response_p99_ns: phase.response().quantile(0.99),
            lateness_p99_ns: phase.lateness().quantile(0.99),
            has_streams: phase.has_streams(),
            unsent: phase.totals().unsent,
            ..Evidence::default()
        }
    }

    /// The lateness that is not held against the tool.
    fn lateness_tolerated(&self) -> u64 {
        match self.response_p99_ns.or(self.stream_p99_ns) {
            Some(response) => LATENESS_TOLERATED.max((LATENESS_SHARE * response as f64) as u64),
            None => LATENESS_UNANSWERED,
        }
    }

    /// What lag is a part of, with its name: the rtt, or without pings the one-way time of streams.
    fn measured(&self) -> Option<(&'static str, u64)> {
        let rtt = self.rtt_p99_ns.map(|p99| ("rtt", p99));
        rtt.or(self.stream_p99_ns.map(|p99| ("stream", p99)))
    }

    /// What was sent.
    const fn what(&self) -> &'static str {
        match (self.has_streams, self.response_p99_ns) {
            (true, None) => "frame",
            _ => "ping",
        }
    }

    /// Describes the pauses of the process, if they were long.
    fn pause(&self) -> Option<String> {
        let is_long = self.paused_ns as f64 > PAUSED_SHARE * self.elapsed_ns as f64;
        let is_most = |part: u64| part.saturating_mul(2) >= self.paused_ns;
        is_long.then(|| {
            if is_most(self.writing_ns) {
                let writing = span(self.writing_ns);
                return format!("writing what was recorded of the run took {writing}");
            }
            if is_most(self.answering_ns) {
                let answering = span(self.answering_ns);
                return format!("answering clients of the control socket took {answering}");
            }
            match is_most(self.run_delay_ns) {
                true => format!(
                    "other processes had the processor for {}",
                    span(self.run_delay_ns)
                ),
                false => format!("the process was stopped for {}", span(self.paused_ns)),
            }
        })
    }
}

/// The time that 99 % of `frames` frames waited at most for the tool, in nanoseconds.
///
/// `lag` has the frames that a poll announced. A frame that was read at once, because the tool knew that it would be
/// there, waited for no poll and is not in it.
pub(super) fn lag_p99(lag: &Latency, frames: u64) -> Option<u64> {
    let frames = frames.max(lag.count());
    if frames == 0 {
        return None;
    }
    let tolerated = 0.01 * frames as f64;
    match lag.count() as f64 {
        waited if waited <= tolerated => Some(0),
        waited => lag.quantile(1.0 - tolerated / waited),
    }
}

/// How the sentence of figures begins that describe the network.
pub(super) const OF_NETWORK: &str = "The figures describe the network";
/// How it begins where frames were impaired.
pub(super) const OF_IMPAIRED_NETWORK: &str = "The figures describe the network as it was impaired";

impl Verdict {
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
        let pause = evidence.pause();
        let is_busy = verdict.is_busy(evidence);
        verdict.disturbed = !reasons.is_empty() && pause.is_some() && !is_busy;
        verdict.limited_by_tool = !reasons.is_empty() && !verdict.disturbed;
        let reasons = reasons.join("; ");
        verdict.sentence = if verdict.disturbed {
            let pause = pause.unwrap_or_default();
            format!("The figures show neither the network nor the tool, for {pause}: {reasons}.")
        } else if verdict.limited_by_tool {
            let pause = pause.map_or(String::new(), |pause| format!("; {pause}"));
            format!("The figures show the tool's own limit, not the network's: {reasons}{pause}.")
        } else if evidence.lateness_p99_ns.is_none() && evidence.measured().is_none() {
            format!("Nothing was measured: no {} was sent.", evidence.what())
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
            let what = match evidence.measured() {
                None if evidence.has_streams => "Frames were sent",
                Some(_) if evidence.is_impaired => OF_IMPAIRED_NETWORK,
                Some(_) => OF_NETWORK,
                None => "No ping was answered, and not for want of the tool",
            };
            format!("{what}: the reactor was busy {busy} of the time{waited}.")
        };
        verdict
    }

    /// Returns true if the figures, so far as there are any, describe the network.
    pub const fn is_of_network(&self) -> bool {
        !self.limited_by_tool && !self.disturbed
    }

    /// Returns true if the reactor worked nearly all of the time that it had. Pauses of the process do not count as either.
    fn is_busy(&self, evidence: &Evidence) -> bool {
        let own = |nanos: u64| nanos.saturating_sub(evidence.paused_ns) as f64;
        evidence.elapsed_ns >= TELLING_TIME
            && own(evidence.busy_ns) > BUSY_SHARE * own(evidence.elapsed_ns)
    }

    /// Why the figures are not the network's; empty if they are.
    fn reasons(&self, evidence: &Evidence) -> Vec<String> {
        let mut reasons = Vec::new();
        if evidence.unsent > 0 {
            let pings = counted(evidence.unsent, &format!("due {}", evidence.what()));
            reasons.push(format!("{pings} could not be sent in time"));
        }
        if evidence.refused > 0 {
            let pings = counted(evidence.refused, "due ping");
            reasons.push(format!(
                "{pings} could not be sent, as their flow had as many on their way as it can"
            ));
        }
        if self.is_busy(evidence) {
            let share = percent(self.busy_share);
            reasons.push(format!("the reactor was busy {share} of the time"));
        }
        // Where nothing was answered, nobody knows what part of an rtt the lag would have been.
        if let Some((lag, (name, rtt))) = self.lag_p99_ns.zip(evidence.measured())
            && lag > LAG_TOLERATED
            && lag as f64 > LAG_SHARE * rtt as f64
        {
            reasons.push(format!(
                "one frame in a hundred waited {} or more for it ({name} p99 {})",
                span(lag),
                span(rtt)
            ));
        }
        if let Some(late) = self.lateness_p99_ns
            && late > evidence.lateness_tolerated()
        {
            reasons.push(lateness(late, evidence));
        }
        if let Some((late, (name, rtt))) = evidence.release_p99_ns.zip(evidence.measured())
            && late > LATENESS_TOLERATED
            && late as f64 > LATENESS_SHARE * rtt as f64
        {
            reasons.push(format!(
                "one delayed frame in a hundred was held {} too long or more ({name} p99 {})",
                span(late),
                span(rtt)
            ));
        }
        if self.tap_queue_drops > 0 {
            let frames = counted(self.tap_queue_drops, "frame");
            reasons.push(format!(
                "{frames} overflowed the queue of a port before being read"
            ));
        }
        reasons
    }
}

/// That pings were sent late, and what would help if it was only because nobody knew their neighbours yet.
fn lateness(late: u64, evidence: &Evidence) -> String {
    let response = evidence.response_p99_ns.map(|p99| ("response", p99));
    let response = response.or(evidence.stream_p99_ns.map(|p99| ("stream", p99)));
    let response = response.map_or_else(String::new, |(name, p99)| {
        format!(" ({name} p99 {})", span(p99))
    });
    let (late, what) = (span(late), evidence.what());
    let reason =
        format!("one {what} in a hundred was sent {late} or more after it was due{response}");
    match evidence.response_after_first_ns {
        Some(later) if later <= LATENESS_TOLERATED => format!(
            "{reason}, but in the first second only, when neighbours were looked for (--resolve=before or --warmup keeps that out of the figures)"
        ),
        _ => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Recorder;
    use crate::report::{Context, PhaseReport, fixtures};

    const US: u64 = 1_000;
    const MS: u64 = 1_000_000;

    /// Ten seconds at rest: a quick network, a tool that wakes up as a tool does.
    const AT_REST: Evidence = Evidence {
        elapsed_ns: 10_000 * MS,
        busy_ns: 100 * MS,
        rtt_p99_ns: Some(10 * US),
        lag_p99_ns: Some(2 * US),
        response_p99_ns: Some(120 * US),
        stream_p99_ns: None,
        has_streams: false,
        lateness_p99_ns: Some(60 * US),
        tap_queue_drops: 0,
        unsent: 0,
        refused: 0,
        release_p99_ns: None,
        is_impaired: false,
        paused_ns: 0,
        run_delay_ns: 0,
        writing_ns: 0,
        answering_ns: 0,
        response_after_first_ns: None,
    };

    #[test]
    fn each_bound_has_a_case_on_both_sides_and_what_is_beyond_it_is_named() {
        type Change = fn(&mut Evidence);
        let table: [(&str, Change, Option<&str>); 32] = [
            (
                "more on their way than can be",
                |e| e.refused = 7,
                Some("7 due pings could not be sent, as their flow had"),
            ),
            ("at rest", |_| {}, None),
            ("busy to the bound", |e| e.busy_ns = 9_000 * MS, None),
            (
                "busier",
                |e| e.busy_ns = 9_010 * MS,
                Some("busy 90.1 % of the time"),
            ),
            (
                "busy, and too short to tell",
                |e| (e.elapsed_ns, e.busy_ns) = (99 * MS, 99 * MS),
                None,
            ),
            (
                "busy for long enough",
                |e| (e.elapsed_ns, e.busy_ns) = (100 * MS, 99 * MS),
                Some("busy 99.0"),
            ),
            (
                "lag as large as the rtt, and tolerated",
                |e| e.lag_p99_ns = Some(20 * US),
                None,
            ),
            (
                "lag beyond that",
                |e| e.lag_p99_ns = Some(21 * US),
                Some("waited 21.0 µs or more for it (rtt p99 10.0 µs)"),
            ),
            (
                "a quarter of a slow rtt",
                |e| (e.lag_p99_ns, e.rtt_p99_ns) = (Some(100 * US), Some(400 * US)),
                None,
            ),
            (
                "more than that",
                |e| (e.lag_p99_ns, e.rtt_p99_ns) = (Some(101 * US), Some(400 * US)),
                Some("waited 101 µs"),
            ),
            (
                "lag, and nothing answered",
                |e| (e.lag_p99_ns, e.rtt_p99_ns) = (Some(900 * US), None),
                None,
            ),
            (
                "all of a quick response is a wake-up",
                |e| (e.lateness_p99_ns, e.response_p99_ns) = (Some(200 * US), Some(203 * US)),
                None,
            ),
            (
                "more than a wake-up",
                |e| (e.lateness_p99_ns, e.response_p99_ns) = (Some(592 * US), Some(595 * US)),
                Some(
                    "one ping in a hundred was sent 592 µs or more after it was due (response p99 595 µs)",
                ),
            ),
            (
                "just more than a wake-up",
                |e| (e.lateness_p99_ns, e.response_p99_ns) = (Some(201 * US), Some(203 * US)),
                Some("sent 201 µs"),
            ),
            (
                "a quarter of a slow response",
                |e| (e.lateness_p99_ns, e.response_p99_ns) = (Some(5 * MS), Some(20 * MS)),
                None,
            ),
            (
                "more than a quarter",
                |e| (e.lateness_p99_ns, e.response_p99_ns) = (Some(5_001 * US), Some(20 * MS)),
                Some("sent 5.00 ms"),
            ),
            (
                "late, and nothing answered",
                |e| (e.lateness_p99_ns, e.response_p99_ns) = (Some(MS), None),
                None,
            ),
            (
                "later, and nothing answered",
                |e| (e.lateness_p99_ns, e.response_p99_ns) = (Some(MS + 1), None),
                Some("sent 1.00 ms or more after it was due."),
            ),
            (
                "delayed frames that were released late, and tolerated",
                |e| e.release_p99_ns = Some(200 * US),
                None,
            ),
            (
                "later",
                |e| e.release_p99_ns = Some(201 * US),
                Some("was held 201 µs too long or more (rtt p99 10.0 µs)"),
            ),
            (
                "a quarter of a slow rtt too late",
                |e| (e.release_p99_ns, e.rtt_p99_ns) = (Some(MS), Some(4 * MS)),
                None,
            ),
            (
                "an overflow",
                |e| e.tap_queue_drops = 7,
                Some("7 frames overflowed"),
            ),
            (
                "a ping left",
                |e| e.unsent = 1,
                Some("1 due ping could not"),
            ),
            (
                "pauses, and nothing the worse for them",
                |e| e.paused_ns = 5_000 * MS,
                None,
            ),
            (
                "short pauses beside a limit",
                |e| (e.unsent, e.paused_ns, e.run_delay_ns) = (3, 100 * MS, 100 * MS),
                Some("the tool's own limit"),
            ),
            (
                "others had the processor",
                |e| (e.unsent, e.paused_ns, e.run_delay_ns) = (3, 102 * MS, 101 * MS),
                Some(
                    "neither the network nor the tool, for other processes had the processor for 101 ms: 3 due pings",
                ),
            ),
            (
                "a file took long to be written",
                |e| (e.unsent, e.paused_ns, e.writing_ns) = (3, 150 * MS, 120 * MS),
                Some(
                    "neither the network nor the tool, for writing what was recorded of the run took 120 ms: 3 due pings",
                ),
            ),
            (
                "a client took long to be answered",
                |e| (e.unsent, e.paused_ns, e.answering_ns) = (3, 150 * MS, 120 * MS),
                Some(
                    "neither the network nor the tool, for answering clients of the control socket took 120 ms: 3 due pings",
                ),
            ),
            (
                "others had the processor, and the rest was work",
                |e| (e.busy_ns, e.paused_ns, e.run_delay_ns) = (9_990 * MS, 500 * MS, 500 * MS),
                Some(
                    "the tool's own limit, not the network's: the reactor was busy 99.90 % of the time",
                ),
            ),
            (
                "busy only by what others took",
                |e| (e.busy_ns, e.paused_ns, e.run_delay_ns) = (9_500 * MS, 6_000 * MS, 6_000 * MS),
                None,
            ),
            (
                "the process was stopped",
                |e| (e.unsent, e.paused_ns, e.run_delay_ns) = (3, 1_500 * MS, 17 * US),
                Some(
                    "neither the network nor the tool, for the process was stopped for 1.50 s: 3 due pings",
                ),
            ),
            (
                "nothing was sent",
                |e| (e.lateness_p99_ns, e.tap_queue_drops) = (None, 7),
                None,
            ),
        ];
        for (name, change, reason) in table {
            let mut evidence = AT_REST;
            change(&mut evidence);
            let verdict = Verdict::of(&evidence);
            let sentence = &verdict.sentence;
            assert_eq!(
                verdict.is_of_network(),
                reason.is_none(),
                "{name}: {sentence}"
            );
            assert_eq!(
                verdict.disturbed,
                sentence.contains("neither the network nor the tool"),
                "{name}: {sentence}"
            );
            assert!(
                !(verdict.disturbed && verdict.limited_by_tool),
                "{name}: {sentence}"
            );
            if let Some(reason) = reason {
                assert!(sentence.contains(reason), "{name}: {sentence}");
                let others = usize::from(sentence.contains("; other processes had"));
                assert_eq!(sentence.matches("; ").count(), others, "{name}: {sentence}");
            }
        }
    }

    #[test]
    fn what_the_tool_was_not_the_limit_of_is_told_with_its_own_part() {
        let of = |rtt, lag, lateness| {
            let evidence = Evidence {
                rtt_p99_ns: rtt,
                lag_p99_ns: lag,
                lateness_p99_ns: lateness,
                ..AT_REST
            };
            Verdict::of(&evidence).sentence
        };
        let busy = "the reactor was busy 1.00 % of the time";
        for (found, told) in [
            (
                of(Some(9), Some(400), Some(0)),
                format!(
                    "The figures describe the network: {busy}, and 99 % of the frames waited at most 400 ns for it."
                ),
            ),
            (
                of(Some(9), Some(0), Some(0)),
                format!(
                    "The figures describe the network: {busy}, and 99 % of the frames did not wait for it."
                ),
            ),
            (
                of(None, None, Some(0)),
                format!("No ping was answered, and not for want of the tool: {busy}."),
            ),
            (
                of(None, None, None),
                "Nothing was measured: no ping was sent.".to_owned(),
            ),
        ] {
            assert_eq!(found, told);
        }
        for (stream, told) in [
            (None, "Nothing was measured: no frame was sent."),
            // A rank that only receives.
            (Some(9_000), "The figures describe the network: "),
        ] {
            let evidence = Evidence {
                has_streams: true,
                stream_p99_ns: stream,
                rtt_p99_ns: None,
                response_p99_ns: None,
                lateness_p99_ns: None,
                ..AT_REST
            };
            let sentence = Verdict::of(&evidence).sentence;
            assert!(sentence.starts_with(told), "{sentence}");
        }
    }

    #[test]
    fn a_run_that_is_late_only_while_neighbours_are_looked_for_says_what_helps() {
        let late = Evidence {
            lateness_p99_ns: Some(30 * MS),
            response_p99_ns: Some(31 * MS),
            ..AT_REST
        };
        for (later, is_told) in [
            (None, false),
            (Some(200 * US), true),
            (Some(201 * US), false),
        ] {
            let evidence = Evidence {
                response_after_first_ns: later,
                ..late
            };
            let sentence = Verdict::of(&evidence).sentence;
            assert_eq!(
                sentence.contains("--warmup"),
                is_told,
                "{later:?}: {sentence}"
            );
        }
        let mut report = fixtures::report();
        let later = |report: &Report| Evidence::of_run(report, 0, 0).response_after_first_ns;
        let greatest = report.seconds[1..]
            .iter()
            .filter_map(|second| second.response_ns.p99)
            .max();
        assert_eq!(later(&report), greatest);
        report.phases = vec![PhaseReport {
            counted: true,
            ..fixtures::phase()
        }];
        assert_eq!(later(&report), greatest);
        report.phases[0].counted = false;
        assert_eq!(later(&report), None);
        report.phases.clear();
        report.summaries[Metric::Resolution].count = 0;
        assert_eq!(
            later(&report),
            greatest,
            "IPv6 neighbours are looked for, too"
        );
        report.summaries[Metric::Resolution6].count = 0;
        assert_eq!(later(&report), None);
    }

    #[test]
    fn all_of_the_evidence_comes_from_the_run() {
        let mut report = fixtures::report();
        report.drops.add(DropReason::TapQueue, 7);
        report.totals.unsent = 5;
        (report.pauses.total_ns, report.pauses.run_delay_ns) = (11, 3);
        let of = Evidence::of_run(&report, 13, 8_000);
        let p99 = |metric| report.summaries[metric].p99;
        assert_eq!((of.elapsed_ns, of.busy_ns), (report.elapsed_ns, 13));
        assert_eq!(
            (of.rtt_p99_ns, of.response_p99_ns),
            (p99(Metric::Rtt), p99(Metric::Response))
        );
        assert_eq!(
            (of.lateness_p99_ns, of.lag_p99_ns),
            (
                p99(Metric::Lateness),
                lag_p99(&report.histograms[Metric::Lag], 8_000)
            )
        );
        assert_eq!(
            (of.tap_queue_drops, of.unsent, of.paused_ns, of.run_delay_ns),
            (7, 5, 11, 3)
        );
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
        let recorder = Recorder::new(Default::default());
        let verdict = Report::new(&recorder, &Context::default()).verdict;
        assert!(!verdict.limited_by_tool);
        assert_eq!(verdict.sentence, "Nothing was measured: no ping was sent.");
    }
}
