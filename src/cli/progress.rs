//! The progress line on the terminal, while a lab is set up and while a run goes on.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use tap_reactor::experiment::Experiment;
use tap_reactor::record::Recorder;
use tap_reactor::report::span_or_dash;
use tap_reactor::time::Instant;

use super::console::Terminal;

/// The time between two drawings of the line.
pub const PERIOD: Duration = Duration::from_millis(250);

/// Parts that the bar is divided into.
const PARTS: u64 = 1_000;

/// A set-up that is done sooner shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Fewest columns of a terminal that has room for a bar before the words.
const BAR_FROM: u16 = 60;

/// A line on `terminal`, which never takes more than one of its lines.
fn line(length: u64, terminal: Box<dyn TermLike>) -> ProgressBar {
    let template = match terminal.width() {
        ..BAR_FROM => "{wide_msg}",
        _ => "{bar:20} {wide_msg}",
    };
    let target = ProgressDrawTarget::term_like_with_hz(terminal, 10);
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
        let vms = self.vms;
        let new = || line(vms, Box::new(Terminal)).with_elapsed(now - self.start);
        let bar = self.bar.get_or_insert_with(new);
        bar.set_position(made);
        let left = Duration::from_secs(bar.eta().as_secs());
        bar.set_message(format!("{made} of {vms} VMs set up, {left:?} left"));
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
    /// The duration of all phases together, if they all have one.
    time: Option<Duration>,
    /// The number of pings that will be sent, if it is known.
    pings: Option<u64>,
}

impl Progress {
    /// A line for a run of `experiment` that starts at `start`.
    pub fn new(experiment: &Experiment, start: Instant) -> Progress {
        Progress::on(Box::new(Terminal), experiment, start)
    }

    fn on(terminal: Box<dyn TermLike>, experiment: &Experiment, start: Instant) -> Progress {
        let bar = line(PARTS, terminal);
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use tap_reactor::experiment::{Scenario, plan};
    use tap_reactor::load::FlowId;
    use tap_reactor::record::Limits;

    /// A terminal of so many columns, and what stood on each line of it.
    #[derive(Clone, Debug)]
    struct Paper {
        width: u16,
        lines: Arc<Mutex<Vec<String>>>,
    }

    impl Paper {
        fn begin_line(&self) -> io::Result<()> {
            self.lines.lock().unwrap().push(String::new());
            Ok(())
        }
    }

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            self.width
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            self.begin_line()
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            self.begin_line()
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            panic!("not on this line");
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            self.begin_line()
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)?;
            self.begin_line()
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            let mut lines = self.lines.lock().unwrap();
            if let Some(line) = lines.last_mut() {
                line.push_str(text);
            }
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.begin_line()
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_line_of_a_run_fits_every_terminal() {
        let text = "[[phase]]\nname = \"a phase with a name that is rather long, as names can be\"\n\
                    ping = \"vm0:vm1\"\ncount = 123456789\n";
        let experiment = plan(&Scenario::parse("run.toml", text).unwrap()).unwrap();
        let start = Instant::from_nanos(1_000_000_000);
        let mut recorder = Recorder::new(Limits::default());
        recorder.add_flow();
        recorder.begin_phase(&experiment.phases[0].name, start);
        (0..100).for_each(|_| recorder.lost(FlowId(0), 0, start, start));
        for width in [1, 10, 20, 40, 59, 60, 80, 132, 200] {
            let paper = Paper {
                width,
                lines: Arc::new(Mutex::new(vec![String::new()])),
            };
            let mut progress = Progress::on(Box::new(paper.clone()), &experiment, start);
            for second in 1..5 {
                progress.show(start + Duration::from_secs(second), &recorder);
            }
            let lines = paper.lines.lock().unwrap();
            let longest = lines.iter().map(|line| line.chars().count()).max();
            assert!(longest > Some(0), "{width}: nothing is drawn");
            assert!(longest <= Some(width.into()), "{width}: {lines:?}");
        }
    }
}
