//! Neighbour resolution (ARP, IPv6 Neighbor Discovery) before flows begin.
//!
//! If all VMs resolved their neighbours when their first pings are due, they would do so at once. Each request is a
//! broadcast (with IPv6, a multicast), which costs the kernel time for every port; together they fill queues and delay
//! the first pings by something that is not a property of the network. So neighbours are resolved in advance, a few at a
//! time: before the first phase begins, and for VMs that start later before their flows begin.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::Hypervisor;
use crate::fabric::Fabric;
use crate::load::FlowId;
use crate::record::{NeighbourSearch, StreamId};
use crate::time::{Instant, earliest};
use crate::vm::{Neighbour, RETRY_INTERVAL, VmId};

/// The time to wait for an answer after the last request: enough for one retransmission.
pub const ANSWER_WAIT: Duration = RETRY_INTERVAL.saturating_add(Duration::from_millis(200));

/// The time after which a request no longer counts as outstanding: every copy of the broadcast has been read by then.
const SLOT: Duration = Duration::from_millis(100);

/// Parameters of neighbour resolution before the flows begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FindNeighbours {
    /// Maximum number of outstanding requests. Each may take a slot in the queue of every port.
    pub outstanding: u32,
    /// Maximum time to wait before the first phase begins without the remaining neighbours.
    pub at_most: Duration,
}

/// State of the neighbour resolution in advance.
#[derive(Default, Debug)]
pub(super) struct Resolution {
    /// `None` if VMs resolve their neighbours when a ping is due.
    plan: Option<FindNeighbours>,
    /// Those whose neighbour has not been looked for yet.
    queue: VecDeque<Seeker>,
    /// Outstanding requests and the time at which each stops counting, the earliest first.
    outstanding: VecDeque<(Instant, (VmId, IpAddr))>,
    /// Progress of the resolution before the first phase, while it lasts.
    stage: Option<Stage>,
    /// Flows of VMs that started later, by the neighbour that they wait for, and the end of that wait.
    late: FxHashMap<(VmId, IpAddr), (Instant, Vec<FlowId>)>,
    /// The ends of these waits, the earliest first; entries of neighbours found meanwhile are stale.
    late_until: VecDeque<(Instant, (VmId, IpAddr))>,
}

/// Who needs a neighbour.
#[derive(Clone, Copy, Debug)]
enum Seeker {
    Flow(FlowId),
    Stream(StreamId),
}

#[derive(Debug)]
struct Stage {
    since: Instant,
    until: Instant,
    /// Time of the last request.
    last: Instant,
    asked: u64,
    found: u64,
}

impl Resolution {
    /// Returns true if there is anything to resolve or to wait for.
    #[inline]
    pub(super) fn is_active(&self) -> bool {
        !self.queue.is_empty() || self.stage.is_some() || !self.late.is_empty()
    }

    /// Returns true while the first phase waits for neighbours.
    pub(super) fn is_before_phases(&self) -> bool {
        self.stage.is_some()
    }

    /// Returns the time at which [`Hypervisor::find_neighbours`] has something to do.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let is_full = self.plan.is_some_and(|plan| self.is_full(plan));
        let ask = match (self.queue.is_empty(), is_full) {
            (true, _) => None,
            (false, true) => self.outstanding.front().map(|(at, _)| *at),
            (false, false) => Some(Instant::ZERO),
        };
        let stage = self.stage.as_ref().map(|stage| {
            let answered = match self.outstanding.front() {
                _ if !self.queue.is_empty() => stage.until,
                _ if stage.found < stage.asked => stage.last + ANSWER_WAIT,
                Some((at, _)) => *at,
                None => Instant::ZERO,
            };
            answered.min(stage.until)
        });
        let late = self.late_until.front().map(|(at, _)| *at);
        earliest(ask, earliest(stage, late))
    }

    /// Removes and returns the flows that wait for a neighbour.
    fn take_late(&mut self, key: (VmId, IpAddr)) -> Vec<FlowId> {
        let flows = self.late.remove(&key).map(|(_, flows)| flows);
        if self.late.is_empty() {
            self.late_until.clear();
        }
        flows.unwrap_or_default()
    }

    fn is_full(&self, plan: FindNeighbours) -> bool {
        self.outstanding.len() >= plan.outstanding.max(1) as usize
    }

    /// Queues a flow that joins later for resolution of its neighbour. Returns false if it is to begin at once instead.
    pub(super) fn admit(&mut self, flow: FlowId) -> bool {
        let waits = self.plan.is_some();
        if waits {
            self.queue.push_back(Seeker::Flow(flow));
        }
        waits
    }
}

impl<F: Fabric> Hypervisor<F> {
    /// Enables resolution of the flows' neighbours before the flows begin.
    pub fn find_neighbours_first(&mut self, plan: FindNeighbours) {
        self.resolution.plan = Some(plan);
    }

    /// Begins the first phase at `now`, or resolution in advance if it is enabled.
    pub(super) fn begin_run(&mut self, now: Instant) {
        let Some(plan) = self.resolution.plan else {
            return self.begin_first_phase(now);
        };
        if self.phases.is_empty() {
            return;
        }
        let flows = (0..self.flows.len() as u32).map(FlowId);
        let here = |flow: &FlowId| {
            let state = self.flows.get(flow.index());
            state.is_some_and(|flow| flow.ping.is_some())
        };
        let flows = flows.filter(here).map(Seeker::Flow);
        let streams = self.stream_ids().map(Seeker::Stream);
        self.resolution.queue = flows.chain(streams).collect();
        self.resolution.stage = Some(Stage {
            since: now,
            until: now + plan.at_most,
            last: now,
            asked: 0,
            found: 0,
        });
    }

    fn begin_first_phase(&mut self, now: Instant) {
        if self.come_to_gate() {
            return;
        }
        self.recorder().end_setup();
        self.begin_next_phase(now);
    }

    /// Sends requests up to the limit, starts flows whose neighbour has not answered in time, and begins the first phase
    /// when resolution is complete. Returns true while the first phase still has to wait.
    #[cold]
    pub(super) fn find_neighbours(&mut self, now: Instant) -> bool {
        while let Some(&(at, (vm, address))) = self.resolution.outstanding.front()
            && (at <= now || !self.vm(vm).is_some_and(|vm| vm.is_asking(address)))
        {
            self.resolution.outstanding.pop_front();
        }
        let resolution = &mut self.resolution;
        while let Some(&(_, key)) = resolution.late_until.front().filter(|late| late.0 <= now) {
            resolution.late_until.pop_front();
            if resolution.late.get(&key).is_some_and(|late| late.0 <= now) {
                for flow in resolution.take_late(key) {
                    self.load.wake(now, flow);
                }
            }
        }
        while let Some(plan) = self.resolution.plan
            && !self.resolution.is_full(plan)
            && let Some(seeker) = self.resolution.queue.pop_front()
        {
            match seeker {
                Seeker::Flow(flow) => self.find_neighbour_of(now, flow),
                Seeker::Stream(stream) => self.find_neighbour_of_stream(now, stream),
            }
        }
        let Some(stage) = &self.resolution.stage else {
            return false;
        };
        let is_answered = stage.found >= stage.asked && self.resolution.outstanding.is_empty();
        let is_over =
            self.resolution.queue.is_empty() && (is_answered || stage.last + ANSWER_WAIT <= now);
        if !is_over && now < stage.until {
            return true;
        }
        self.end_search(now);
        self.begin_first_phase(now);
        false
    }

    /// Ends resolution in advance, and records its result.
    pub(super) fn end_search(&mut self, now: Instant) {
        self.resolution.queue.clear();
        self.resolution.late.clear();
        self.resolution.late_until.clear();
        if let Some(stage) = self.resolution.stage.take()
            && stage.asked > 0
        {
            self.recorder.searched_neighbours(NeighbourSearch {
                asked: stage.asked,
                found: stage.found,
                missing: stage.asked.saturating_sub(stage.found),
                elapsed_ns: now.nanos_since(stage.since),
            });
        }
    }

    fn find_neighbour_of(&mut self, now: Instant, flow: FlowId) {
        let Some(owner) = self.flows.get(flow.index()).and_then(|flow| flow.ping) else {
            return;
        };
        let Some(vm) = self.vm_mut(owner.vm) else {
            return;
        };
        let neighbour = vm.find_neighbour(now, owner.session);
        self.note_search(now, owner.vm, neighbour);
        let resolution = &mut self.resolution;
        if resolution.stage.is_some() {
            return;
        }
        match neighbour {
            Neighbour::Known | Neighbour::NoRoute => {
                self.load.wake(now, flow);
            }
            Neighbour::Unknown(address) | Neighbour::Asking(address) => {
                let (key, until) = ((owner.vm, address), now + ANSWER_WAIT);
                let (_, flows) = resolution.late.entry(key).or_insert_with(|| {
                    resolution.late_until.push_back((until, key));
                    (until, Vec::new())
                });
                flows.push(flow);
            }
        }
    }

    fn find_neighbour_of_stream(&mut self, now: Instant, stream: StreamId) {
        if let Some((id, place)) = self.open_stream(stream)
            && let Some(vm) = self.vm_mut(id)
        {
            let neighbour = vm.find_neighbour_of_stream(now, place);
            self.note_search(now, id, neighbour);
        }
    }

    /// `vm` has looked for a neighbour, and asks for it now if it has to.
    fn note_search(&mut self, now: Instant, vm: VmId, neighbour: Neighbour) {
        self.schedule(vm);
        let Neighbour::Unknown(address) = neighbour else {
            return;
        };
        let resolution = &mut self.resolution;
        let slot = (now + SLOT, (vm, address));
        resolution.outstanding.push_back(slot);
        if let Some(stage) = &mut resolution.stage {
            stage.asked += 1;
            stage.last = now;
        }
    }

    /// Handles the answer of the neighbour `address` to `vm`.
    pub(super) fn neighbour_found(&mut self, now: Instant, vm: VmId, address: IpAddr) {
        let resolution = &mut self.resolution;
        if !resolution.is_active() {
            return;
        }
        if let Some(stage) = &mut resolution.stage {
            stage.found += 1;
        }
        for flow in resolution.take_late((vm, address)) {
            self.load.wake(now, flow);
        }
    }
}
