//! The trace of a run (`-v`): a line for each frame and event.

use super::output::Sink;
use super::{Direction, EventWords, Instrument, InstrumentKind, Notice, Observed};
use crate::time::Instant;
use crate::vm::{Event, VmId};
use crate::wire::Describe;

/// The instrument of `-v`.
pub(super) const VERBOSE: InstrumentKind =
    InstrumentKind::new("verbose", "line", |_, run, sink| {
        Ok(Box::new(Trace::new(sink, run.start)))
    });

/// Writes one line for each frame and each event, with the time since the start.
#[derive(Debug)]
struct Trace {
    sink: Box<dyn Sink>,
    start: Instant,
}

impl Trace {
    /// Creates a trace that is written to `sink`, with times relative to `start`.
    fn new(sink: Box<dyn Sink>, start: Instant) -> Trace {
        Trace { sink, start }
    }

    /// Writes a line with the time `now` and the text `what`.
    fn say(&mut self, now: Instant, what: std::fmt::Arguments<'_>) {
        let seconds = now.nanos_since(self.start) as f64 / 1e9;
        // A trace that can no longer be written, to a closed pipe for example, does not end the run.
        let line = format!("{seconds:11.6}  {what}\n");
        let _ = self.sink.write(line.as_bytes());
    }
}

impl Instrument for Trace {
    fn frame(&mut self, now: Instant, observed: &Observed<'_>) {
        let Observed {
            vm,
            frame,
            impaired,
            refused,
            ..
        } = *observed;
        let arrow = match observed.direction {
            Direction::Out => '→',
            Direction::In => '←',
        };
        let frame = Describe(frame);
        if let Some(reason) = refused {
            self.say(
                now,
                format_args!("{vm} {arrow} {frame} [not sent: {reason}]"),
            );
        } else if impaired.is_unharmed() {
            self.say(now, format_args!("{vm} {arrow} {frame}"));
        } else {
            self.say(now, format_args!("{vm} {arrow} {frame} [{impaired}]"));
        }
    }

    fn event(&mut self, now: Instant, vm: VmId, event: &Event) {
        self.say(now, format_args!("{vm}   {}", EventWords(event)));
    }

    fn notice(&mut self, now: Instant, notice: &Notice<'_>) {
        self.say(now, format_args!("{notice}"));
    }

    /// Its lines go to a terminal or a pipe.
    fn waits_for_reader(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::experiment::{Experiment, FlowPlan};
    use crate::fabric::output::cup::Cup;
    use crate::fabric::{Delay, Loss, Profile, Rule};
    use crate::hypervisor::Phase;
    use crate::lab::SimulatedLab;
    use crate::load::Pacing;
    use crate::system::Neighbours;

    /// The trace of `plan`, on a switch in memory.
    fn traced(plan: Experiment) -> String {
        let cup = Cup::new(usize::MAX);
        let mut lab = SimulatedLab::on_switch(plan).unwrap();
        let trace = Trace::new(Box::new(cup.clone()), Instant::ZERO);
        lab.hypervisor().fabric().add(Box::new(trace));
        lab.populate(&mut ()).unwrap();
        lab.run(&mut ());
        lab.close().unwrap();
        let written = cup.0.borrow().files[0].clone();
        String::from_utf8(written).unwrap()
    }

    #[test]
    fn a_simulated_run_is_traced_frame_by_frame() {
        let mut plan = Experiment::of_vms(2).unwrap();
        plan.flows = vec![FlowPlan::between(VmId(0), VmId(1))];
        plan.phases = vec![Phase::counted(0..1, Pacing::Window(1), 1)];
        let text = traced(plan);
        let (there, back) = (
            "02:00:0a:4d:00:02 > 02:00:0a:4d:00:03",
            "02:00:0a:4d:00:03 > 02:00:0a:4d:00:02",
        );
        let request =
            format!("{there}, IPv4 10.77.0.2 > 10.77.0.3, ICMP echo request id 0 seq 0 (56 bytes)");
        let reply =
            format!("{back}, IPv4 10.77.0.3 > 10.77.0.2, ICMP echo reply id 0 seq 0 (56 bytes)");
        let who_has = "02:00:0a:4d:00:02 > broadcast, ARP request who-has 10.77.0.3 tell 10.77.0.2";
        let is_at = format!("{back}, ARP reply 10.77.0.3 is-at 02:00:0a:4d:00:03");
        let expected = [
            (
                0,
                "vm0 starts: 10.77.0.2 at 02:00:0a:4d:00:02 on tap0".to_owned(),
            ),
            (
                0,
                "vm1 starts: 10.77.0.3 at 02:00:0a:4d:00:03 on tap1".to_owned(),
            ),
            (0, format!("vm0 → {who_has}")),
            (10, format!("vm1 ← {who_has}")),
            (10, format!("vm1 → {is_at}")),
            (20, format!("vm0 ← {is_at}")),
            (
                20,
                "vm0   resolved 10.77.0.3 to 02:00:0a:4d:00:03 in 20.0 µs".to_owned(),
            ),
            (20, format!("vm0 → {request}")),
            (30, format!("vm1 ← {request}")),
            (30, format!("vm1 → {reply}")),
            (40, format!("vm0 ← {reply}")),
            (40, "vm0   ping id 0 seq 0 answered in 20.0 µs".to_owned()),
        ];
        let expected = expected.map(|(micros, what)| format!("   0.{micros:06}  {what}"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn an_impaired_frame_says_what_was_done_to_it_and_stands_there_once() {
        let at = |direction, loss| Rule {
            words: String::new(),
            vms: 1..=1,
            direction,
            to: None,
            profile: Profile {
                delay: Some(Delay::constant(Duration::from_millis(5))),
                loss,
                ..Profile::default()
            },
        };
        let mut plan = Experiment::of_vms(2).unwrap();
        plan.lab.neighbours = Neighbours::Static;
        plan.flows = vec![FlowPlan::between(VmId(0), VmId(1))];
        plan.phases = vec![Phase::counted(0..1, Pacing::Window(1), 2)];
        plan.impairments = vec![
            at(Direction::In, Loss::Every(2)),
            at(Direction::Out, Loss::None),
        ];
        let text = traced(plan);
        let ends = text.lines().filter(|line| line.contains("ICMP"));
        let ends = ends.map(|line| {
            let (when, line) = line.trim_start().split_at(8);
            let (who, _) = line.trim_start().split_at("vm0 →".len());
            let (_, end) = line.split_once("(56 bytes)").unwrap();
            format!("{when} {who}{end}")
        });
        let expected = [
            "0.000000 vm0 →",
            "0.005010 vm1 ← [delayed 5.00 ms]",
            "0.005010 vm1 → [delayed 5.00 ms]",
            "0.010020 vm0 ←",
            "0.010020 vm0 →",
            "0.010030 vm1 ← [lost]",
        ];
        assert_eq!(ends.collect::<Vec<_>>(), expected);
    }
}
