//! Passes events of VMs to the recorder, the load and the fabric.

use std::net::IpAddr;
use std::time::Duration;

use super::Hypervisor;
use super::drop_reason::drop_reason;
use super::record_buffer::Entry;
use crate::fabric::Fabric;
use crate::load::FlowId;
use crate::record::{Attribution, DropReason, Member};
use crate::time::Instant;
use crate::vm::{Event, PingError, PingId, PingOutcome, VmId};

impl<F: Fabric> Hypervisor<F> {
    #[inline(always)]
    pub(super) fn record(&mut self, now: Instant, vm: VmId, event: &Event) {
        match *event {
            Event::Ping(ping, outcome) => self.record_ping(now, vm, ping, outcome),
            _ => self.record_rare(now, vm, event),
        }
    }

    /// Records an event other than a ping's; these are rare.
    #[cold]
    fn record_rare(&mut self, now: Instant, vm: VmId, event: &Event) {
        match *event {
            // Handled by the caller.
            Event::Ping(..) => {}
            Event::Resolved {
                address, elapsed, ..
            } => {
                match address {
                    IpAddr::V4(_) => self.recorder.resolved(nanos(elapsed)),
                    IpAddr::V6(_) => self.recorder.resolved6(nanos(elapsed)),
                }
                self.neighbour_found(now, vm, address);
            }
            Event::AddressTried { .. } | Event::AddressReady { .. } | Event::AddressLost { .. } => {
                self.set_rx_filter(vm);
            }
            Event::Conflict { address, mac } => {
                self.recorder.dropped(DropReason::ArpConflict);
                self.recorder.conflict(vm, address, mac);
                self.set_rx_filter(vm);
            }
            Event::Leased { address, elapsed } => {
                self.recorder.leased(nanos(elapsed));
                self.redirect_flows(vm, address);
                self.set_rx_filter(vm);
            }
            Event::Renewed { address, previous } => {
                self.recorder.renewed();
                if address != previous {
                    self.redirect_flows(vm, address);
                    self.set_rx_filter(vm);
                }
            }
            Event::LeaseLost { .. } => {
                self.recorder.lease_lost();
                self.set_rx_filter(vm);
            }
            Event::Ignored(ignored) => {
                self.recorder.dropped(drop_reason(ignored));
                self.note_ignored(now, vm, ignored);
            }
        }
    }

    #[inline(always)]
    pub(super) fn record_ping(
        &mut self,
        now: Instant,
        vm: VmId,
        ping: PingId,
        outcome: PingOutcome,
    ) {
        let Some(Some(slot)) = self.slots.get_mut(vm.index()) else {
            return;
        };
        let Some(&flow) = slot.flows.get(ping.session) else {
            return;
        };
        match outcome {
            PingOutcome::Answered {
                due,
                sent,
                received,
            } => {
                if let Some(since) = slot.booting_since.take() {
                    self.recorder.booted(received.nanos_since(since));
                }
                // The reply is the last entry: a pause that shows behind it was before it.
                if self.one_way.is_some() {
                    self.record_one_way((vm, ping), due, (sent, received));
                }
                self.push_record(Entry::Answered {
                    flow,
                    sequence: ping.sequence,
                    due,
                    sent,
                    received,
                });
            }
            PingOutcome::Unresolved { .. } => {
                self.record_rare_ping(now, (vm, ping), flow, outcome);
                return self.load.not_sent(now, flow);
            }
            _ => self.record_rare_ping(now, (vm, ping), flow, outcome),
        }
        if outcome.is_final() {
            self.load.finished(now, flow);
        }
    }

    /// Records an outcome of a ping other than an answer of one host; these are rare, but for those of groups.
    #[cold]
    fn record_rare_ping(
        &mut self,
        now: Instant,
        (vm, ping): (VmId, PingId),
        flow: FlowId,
        outcome: PingOutcome,
    ) {
        let sequence = ping.sequence;
        match outcome {
            // Handled by the caller.
            PingOutcome::Answered { .. } => {}
            PingOutcome::Member {
                member,
                is_first,
                is_last: _,
                due,
                sent,
                received,
            } => {
                let Some(Some(slot)) = self.slots.get_mut(vm.index()) else {
                    return;
                };
                if let Some(since) = slot.booting_since.take() {
                    self.recorder.booted(received.nanos_since(since));
                }
                let address = slot.vm.member(ping.session, member);
                let member = self.groups.get(flow, member).map(Member::Vm);
                let recorder = self.recorder();
                if let Some(member) = member.or(address.map(Member::Other)) {
                    recorder.member_answered(flow, member, due);
                }
                if !is_first {
                    return recorder.answered_again(flow, due, sent, received);
                }
                if recorder.has_details() {
                    recorder.answered_in_detail(flow, sequence, due, sent, received);
                }
                recorder.answered(flow, sequence, due, sent, received);
            }
            PingOutcome::Corrupt { due } => {
                self.recorder().corrupt(flow, sequence, due, now);
                self.explain(now, (vm, ping), (flow, due), Attribution::CORRUPT);
            }
            PingOutcome::Lost { due } => {
                self.recorder().lost(flow, sequence, due, now);
                self.explain(now, (vm, ping), (flow, due), Attribution::UNKNOWN);
                self.record_unanswered(vm, ping.session, flow);
            }
            PingOutcome::Abandoned { due } => {
                self.recorder().abandoned(flow, sequence, due);
                self.abandoned(flow);
            }
            PingOutcome::MembersLost { .. } => self.record_unanswered(vm, ping.session, flow),
            PingOutcome::Unresolved { due } => {
                self.recorder().unresolved(flow, sequence, due, now);
                self.explain(now, (vm, ping), (flow, due), Attribution::UNRESOLVED);
            }
            PingOutcome::Errored { due, sent, error } => {
                let recorder = self.recorder();
                recorder.errored(flow, sequence, due, error, now);
                if error == PingError::Refused {
                    recorder.refused(now.nanos_since(sent));
                }
                let reported = Attribution::reported(error);
                self.explain(now, (vm, ping), (flow, due), reported);
            }
            PingOutcome::Duplicate => self.recorder().duplicate(flow, now),
            PingOutcome::Late { lost } => {
                self.recorder().late(flow, now);
                match lost {
                    Some(due) => self.recorder().lost_late(flow, sequence, due, now),
                    None => self.answered_late(vm, ping, flow),
                }
            }
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
