//! The simulation: the same hypervisor on a fabric in memory, in virtual time, without privileges, TAPs or waiting.
//!
//! [`run`] is the driver: it advances the clock to the next event, a frame's arrival or a deadline. VMs, flows and figures
//! are those of a real run; only the wire is simulated. Every random choice is seeded, so that a run is reproducible.
//! [`Switch`] is the fabric of `--fabric sim`. The driver takes any other [`Fabric`] too whose operations can't fail and
//! which reports its [arrivals](Fabric::next_at).

mod rx_index;
mod switch;

pub use switch::{DEFAULT_DELAY, Impairments, Stall, Switch};

use std::convert::Infallible;

use crate::fabric::{Fabric, Read};
use crate::hypervisor::{Hypervisor, Outgoing, Step};
use crate::time::{Instant, earliest};
use crate::wire::LARGEST_FRAME;

/// The wires and queues of a simulated lab.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Simulation {
    /// Delay, loss and the like of each wire.
    pub impairments: Impairments,
    /// The maximum number of frames in flight to one VM; `None` for no limit.
    pub queue_length: Option<u32>,
}

impl Simulation {
    /// Creates the switch; its random choices follow from `seed`. `has_rx_filters`: see [`Switch::with_rx_filters`].
    pub fn switch(&self, seed: u64, has_rx_filters: bool) -> Switch {
        let mut switch = Switch::new(self.impairments, seed);
        if has_rx_filters {
            switch = switch.with_rx_filters();
        }
        match self.queue_length {
            Some(frames) => switch.with_queue(frames),
            None => switch,
        }
    }
}

/// Runs from `start` until every ping is over, no event is left, or `until`. Returns the time of the end.
pub fn run(
    hypervisor: &mut Hypervisor<impl Fabric<Error = Infallible>>,
    start: Instant,
    until: Instant,
) -> Instant {
    run_unless(hypervisor, start, until, || false).0
}

/// As [`run`], but ends early if `is_to_stop` returns true; it is called every 1,024 events. Returns the time of the end,
/// and true if it ended early.
pub fn run_unless(
    hypervisor: &mut Hypervisor<impl Fabric<Error = Infallible>>,
    start: Instant,
    until: Instant,
    mut is_to_stop: impl FnMut() -> bool,
) -> (Instant, bool) {
    let mut driver = Driver {
        now: start,
        buffer: vec![0; LARGEST_FRAME],
    };
    let mut rounds = 0u32;
    loop {
        if rounds.is_multiple_of(ROUNDS) && is_to_stop() {
            return (driver.now, true);
        }
        rounds = rounds.wrapping_add(1);
        while let Ok(Some(_)) = hypervisor.make_move(driver.now) {}
        while let Some(step) = hypervisor.next_step(driver.now, &mut driver.buffer) {
            driver.send(hypervisor, step);
        }
        if hypervisor.has_flows() && hypervisor.is_done() {
            return (driver.now, false);
        }
        let next = earliest(hypervisor.next_deadline(), hypervisor.fabric().next_at());
        match next {
            Some(at) if at <= until => driver.now = driver.now.max(at),
            _ => return (until.max(driver.now), false),
        }
        driver.deliver(hypervisor);
        hypervisor.fabric().flush(driver.now, false);
    }
}

/// The number of events between two calls of `is_to_stop`.
const ROUNDS: u32 = 1024;

struct Driver {
    now: Instant,
    buffer: Vec<u8>,
}

impl Driver {
    /// Delivers every frame that has arrived by now.
    fn deliver(&mut self, hypervisor: &mut Hypervisor<impl Fabric>) {
        while let Some(vm) = hypervisor.fabric().next_receiver(self.now) {
            while let Read::Frame(length) = hypervisor.fabric().read(self.now, vm, &mut self.buffer)
            {
                let reply = hypervisor.receive(self.now, vm, &mut self.buffer, length);
                self.send(hypervisor, reply.into());
            }
        }
    }

    fn send(&mut self, hypervisor: &mut Hypervisor<impl Fabric>, step: Step) {
        let Step::Send(Outgoing {
            vm, length, ping, ..
        }) = step
        else {
            return;
        };
        if let Some(ping) = ping {
            hypervisor.stamp_sent(vm, ping, self.now);
        }
        let frame = self.buffer.get(..length).unwrap_or_default();
        let written = hypervisor.fabric().write(self.now, vm, frame);
        hypervisor.frame_written(written);
    }
}

#[cfg(test)]
mod tests;
