//! What is seen of a run while it is set up and while it goes on: one line on the terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tap_reactor::experiment::Experiment;
use tap_reactor::record::Recorder;
use tap_reactor::report::span_or_dash;
use tap_reactor::time::Instant;

use crate::console::Terminal;

/// How often the line is drawn.
pub const PERIOD: Duration = Duration::from_millis(250);

/// Parts that the bar is divided into.
const PARTS: u64 = 1_000;

/// A set-up that is done sooner shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);

fn line(length: u64, template: &str) -> ProgressBar {
    let target = ProgressDrawTarget::term_like_with_hz(Box::new(Terminal), 10);
    let bar = ProgressBar::with_draw_target(Some(length), target);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// The line while VMs are made.
pub struct Setup {
    vms: u64,
    start: Instant,
    /// `None` until it is clear that it takes a while.
    bar: Option<ProgressBar>,
}

impl Setup {
    /// A line for a set-up of so many VMs that begins at `start`.
    pub fn new(vms: u64, start: Instant) -> Setup {
        Setup {
            vms,
            start,
            bar: None,
        }
    }

    /// Takes note that `made` VMs are there at `now`.
    pub fn show(&mut self, now: Instant, made: u64) {
        if self.bar.is_none() && now - self.start < PATIENCE {
            return;
        }
        let template = "{bar:20} {pos} of {len} VMs set up, {eta} left";
        let bar = self
            .bar
            .get_or_insert_with(|| line(self.vms, template).with_elapsed(now - self.start));
        bar.set_position(made);
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The line, and what it is drawn from.
pub struct Progress {
    bar: ProgressBar,
    start: Instant,
    /// How long all phases take together, if they all have a duration.
    time: Option<Duration>,
    /// How many pings there will be, if that is known.
    pings: Option<u64>,
}

impl Progress {
    /// A line for a run of `experiment` that starts at `start`.
    pub fn new(experiment: &Experiment, start: Instant) -> Progress {
        let bar = line(PARTS, "{bar:20} {msg}");
        let phases = experiment.phases.iter();
        let time = phases.map(|phase| phase.duration).sum();
        Progress {
            bar,
            start,
            time,
            pings: experiment.planned_pings(),
        }
    }

    /// Draws the line as it is at `now`.
    pub fn show(&mut self, now: Instant, recorder: &Recorder) {
        let elapsed = now - self.start;
        let Some(phase) = recorder.phases().last() else {
            return;
        };
        let totals = phase.totals();
        let done = match (self.time, self.pings) {
            (Some(time), _) => elapsed.as_secs_f64() / time.as_secs_f64(),
            (None, Some(pings)) => totals.ended() as f64 / pings as f64,
            (None, None) => 0.0,
        };
        let left = match (self.time, done) {
            (Some(time), _) => Some(time.saturating_sub(elapsed)),
            (None, done) => {
                let left = elapsed.as_secs_f64() * (1.0 / done - 1.0).max(0.0);
                Duration::try_from_secs_f64(left).ok()
            }
        };
        let rtt = phase.rtt().summary();
        let name = phase.name();
        let phase_name = if name.is_empty() {
            String::new()
        } else {
            format!("{name}: ")
        };
        let left = left.map_or(String::new(), |left| {
            format!(", {:.0?} left", Duration::from_secs(left.as_secs()))
        });
        self.bar
            .set_position((done.clamp(0.0, 1.0) * PARTS as f64) as u64);
        self.bar.set_message(format!(
            "{phase_name}{} sent, {} received, {} lost, p50 {}, p99 {}{left}",
            totals.sent,
            totals.received,
            totals.failed(),
            span_or_dash(rtt.p50),
            span_or_dash(rtt.p99),
        ));
        self.bar.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
