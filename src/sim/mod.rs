//! The simulation: the same hypervisor on a fabric in memory, in virtual time, without privileges, TAPs or waiting.
//!
//! [`run`] is the driver: it advances the clock to the next event, a frame's arrival or a deadline. VMs, flows and figures
//! are those of a real run; only the wire is simulated. Every random choice is seeded, so that a run is reproducible.
//! [`Switch`] is the fabric of `--fabric sim`. The driver takes any other [`Fabric`] too whose operations can't fail and
//! which reports its [arrivals](Fabric::next_at).

mod switch;

pub(crate) use switch::check_place;
pub use switch::{Stall, Switch, WIRE_DELAY};

use std::convert::Infallible;

use crate::fabric::{Fabric, Read};
use crate::hypervisor::{Arrival, Hypervisor, Outgoing, Step};
use crate::time::Instant;
use crate::vm::VmId;
use crate::wire::LARGEST_FRAME;

/// Runs from `start` until every ping is over, no event is left, or `until`. Returns the time of the end.
pub fn run(
    hypervisor: &mut Hypervisor<impl Fabric<Error = Infallible>>,
    start: Instant,
    until: Instant,
) -> Instant {
    run_unless(hypervisor, start, until, || false).0
}

/// As [`run`], but ends early if `is_to_stop` returns true; it is called first of all, and every 1,024 times that something
/// is sent or has arrived, of which there may be many at one instant. Returns the time of the end, and true if it ended
/// early.
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
    let mut events = 0u32;
    let mut is_to_stop = || {
        let asks = events.is_multiple_of(EVENTS);
        events = events.wrapping_add(1);
        asks && is_to_stop()
    };
    loop {
        if is_to_stop() {
            return (driver.now, true);
        }
        while let Ok(true) = hypervisor.carry_out_due(driver.now) {}
        while let Some(step) = hypervisor.next_step(driver.now, &mut driver.buffer) {
            driver.send(hypervisor, step);
            if is_to_stop() {
                return (driver.now, true);
            }
        }
        if (hypervisor.has_flows() || hypervisor.is_stopping()) && hypervisor.is_done() {
            return (driver.now, false);
        }
        match hypervisor.next_deadline() {
            Some(at) if at <= until => driver.now = driver.now.max(at),
            _ => return (until.max(driver.now), false),
        }
        if driver.deliver(hypervisor, &mut is_to_stop) {
            return (driver.now, true);
        }
        hypervisor.fabric().flush(driver.now, false);
    }
}

/// The number of events between two calls of `is_to_stop`.
const EVENTS: u32 = 1024;

struct Driver {
    now: Instant,
    buffer: Vec<u8>,
}

impl Driver {
    /// Delivers every frame that has arrived by now, unless `is_to_stop` returns true. Returns true if it did.
    fn deliver(
        &mut self,
        hypervisor: &mut Hypervisor<impl Fabric>,
        mut is_to_stop: impl FnMut() -> bool,
    ) -> bool {
        while let Some(arrival) = hypervisor.next_arrival(self.now) {
            if let Arrival::Frame(vm) = arrival {
                self.drain(hypervisor, vm);
            }
            if is_to_stop() {
                return true;
            }
        }
        false
    }

    fn drain(&mut self, hypervisor: &mut Hypervisor<impl Fabric>, vm: VmId) {
        loop {
            match hypervisor.fabric().read(self.now, vm, &mut self.buffer) {
                Read::Frame(length) => {
                    let reply = hypervisor.receive(self.now, vm, &mut self.buffer, length);
                    self.send(hypervisor, reply.into());
                }
                Read::Consumed(_) => {}
                Read::Empty | Read::Failed => return,
            }
        }
    }

    fn send(&mut self, hypervisor: &mut Hypervisor<impl Fabric>, step: Step) {
        let Step::Send(outgoing) = step else {
            return;
        };
        let Outgoing { vm, length, .. } = outgoing;
        if outgoing.is_stamped() {
            hypervisor.stamp(&outgoing, self.now, &mut self.buffer);
        }
        let frame = self.buffer.get(..length).unwrap_or_default();
        let written = hypervisor.fabric().write(self.now, vm, frame);
        hypervisor.frame_written(written, || (self.now, vm, frame));
    }
}

#[cfg(test)]
mod tests;
