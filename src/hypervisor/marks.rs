//! Marks: set by commands, and where links or routes change if that is wanted.

use std::fmt::Display;

use super::{Command, FlowState, Hypervisor, Slot};
use crate::fabric::{Fabric, Notice};
use crate::record::MarkName;
use crate::time::Instant;

/// The changes by others of which each is a mark, named `link` or `route`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MarkOn {
    /// Changes of the run's links.
    pub link: bool,
    /// Changes of routes in the lab's network namespace.
    pub route: bool,
}

impl<F: Fabric> Hypervisor<F> {
    /// Sets a mark for each change of `changes` from now on.
    pub fn mark_on(&mut self, changes: MarkOn) {
        self.marked_changes = changes;
        if changes.route {
            self.fabric.watch_routes();
        }
    }

    /// Gives `now` a name, from which on the pings of each flow are followed.
    pub(super) fn mark(&mut self, now: Instant, name: MarkName, detail: String) {
        let notice = Notice::Marked {
            name: name.as_str(),
            detail: &detail,
        };
        self.fabric.tell(now, &notice);
        // Those that have ended by now are known to have.
        self.buffer.flush(&mut self.recorder);
        let (flows, slots) = (&self.flows, &self.slots);
        let next = || flows.iter().map(|flow| next_ping(flow, slots));
        self.recorder.mark(now, name, detail, next);
    }

    /// Records the changes that other processes have made to the fabric's links, and tells the instruments. The changes of
    /// links that are found at `now` are one mark, if they are to be one, and so are those of routes. The kernel does not say
    /// when they happened: their time is that of the reading.
    #[cold]
    pub fn look_at_links(&mut self, now: Instant) {
        let MarkOn { link, route } = self.marked_changes;
        let events = self.fabric.link_events();
        if link {
            let words = events
                .iter()
                .map(|event| format!("{} {}", event.link, event.change));
            self.mark_changes(now, "link", words);
        }
        for event in events {
            self.fabric.tell(now, &Notice::Link(&event));
            self.recorder().link_changed(now, event);
        }
        if route {
            let events = self.fabric.route_events();
            self.mark_changes(now, "route", events.into_iter());
        }
    }

    /// Sets a mark of that name about `changes`, if there are some.
    fn mark_changes(
        &mut self,
        now: Instant,
        name: &str,
        mut changes: impl ExactSizeIterator<Item = impl Display>,
    ) {
        if let (Some(first), Ok(name)) = (changes.next(), name.parse()) {
            let detail = match changes.len() {
                0 => first.to_string(),
                others => format!("{first}, and {others} more"),
            };
            // Nothing of that can fail.
            let _ = self.carry_out(now, Command::Mark { name, detail });
        }
    }
}

/// The number of the first ping of `flow` that has not ended.
pub(super) fn next_ping(flow: &FlowState, slots: &[Option<Slot>]) -> u64 {
    let oldest = || {
        let ping = flow.ping?;
        let slot = slots.get(ping.vm.index())?.as_ref()?;
        slot.vm.oldest_ping(ping.session)
    };
    oldest().unwrap_or(0)
}
