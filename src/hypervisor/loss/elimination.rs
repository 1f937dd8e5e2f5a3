//! What counters tell of lost pings of which nothing else does.
//!
//! Every request that a VM answers is counted there, and what is dropped at the port of a VM by the kernel. When the pings of
//! a run have ended, the requests that were sent to a VM and not answered are those that did not arrive; the replies to the
//! others are lost. What was dropped at a port in that direction accounts for some of these; of the rest only the direction is
//! known, and that they were lost between the ports.

use rustc_hash::FxHashMap;

use crate::load::FlowId;
use crate::record::{Attribution, Cause, Place, Way, Why};
use crate::vm::VmId;

/// The pings to one VM, counted when none of them is on its way. Those of a warm-up are among them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Balance {
    /// Requests that were sent to it.
    pub(super) sent: u64,
    /// Requests that it answered.
    pub(super) answered: u64,
    /// Lost requests that are explained.
    pub(super) explained: u64,
    /// Pings that were lost and are not explained.
    pub(super) open: u64,
    /// The counts say nothing: of some pings nobody knows what became of them, because their VM or flow left, or there are
    /// requests of others.
    pub(super) is_ambiguous: bool,
}

/// The open pings of one flow to that VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OpenFlow {
    /// The flow.
    pub(super) id: FlowId,
    /// The source.
    pub(super) source: VmId,
    /// Pings of phases that count that were lost and are not explained.
    pub(super) counted: u64,
    /// Those of other phases.
    pub(super) uncounted: u64,
}

impl OpenFlow {
    /// Returns the number of its open pings.
    pub(super) const fn open(&self) -> u64 {
        self.counted.saturating_add(self.uncounted)
    }
}

/// What the open pings of each flow to `target` are put down to, as many as there are of each. What is ambiguous is unknown.
/// `dropped` are the frames that the kernel dropped at the port of each VM where that is counted, and that nothing is put down to
/// yet.
pub(super) fn eliminate(
    target: VmId,
    balance: Balance,
    flows: &[OpenFlow],
    dropped: &mut FxHashMap<VmId, u64>,
) -> Vec<Vec<(Attribution, u64)>> {
    let requests = requests_lost(balance);
    let of_flow = |flow: &OpenFlow| {
        let open = flow.open();
        let (requests, replies) = match requests {
            Some(0) => (0, open),
            Some(requests) if requests == balance.open => (open, 0),
            Some(requests) if open == balance.open => (requests, open - requests),
            _ => return vec![(Attribution::UNKNOWN, open)],
        };
        let mut found = at_ports(Way::Request, target, requests, dropped);
        found.extend(at_ports(Way::Reply, flow.source, replies, dropped));
        found
    };
    flows.iter().map(of_flow).collect()
}

/// The open pings whose request did not arrive; `None` if the counts contradict each other, as where requests were duplicated.
fn requests_lost(balance: Balance) -> Option<u64> {
    let Balance {
        sent,
        answered,
        explained,
        open,
        is_ambiguous: false,
    } = balance
    else {
        return None;
    };
    let missing = sent.checked_sub(answered)?.checked_sub(explained)?;
    (missing <= open).then_some(missing)
}

/// Puts `lost` frames to `vm` down to what was dropped at its port, as far as that was counted, and the rest to the way there.
fn at_ports(
    way: Way,
    vm: VmId,
    lost: u64,
    dropped: &mut FxHashMap<VmId, u64>,
) -> Vec<(Attribution, u64)> {
    let mut found = Vec::new();
    let Some(counted) = dropped.get_mut(&vm) else {
        if lost > 0 {
            found.push((Attribution::of(Cause::Unknown, way, Place::Unknown), lost));
        }
        return found;
    };
    let at_port = lost.min(*counted);
    *counted -= at_port;
    let rest = lost - at_port;
    if at_port > 0 {
        let what = Attribution {
            why: Some(Why::State("counted as dropped at its TAP")),
            ..Attribution::of(Cause::QueueFull, way, Place::Vm(vm))
        };
        found.push((what, at_port));
    }
    if rest > 0 {
        let what = Attribution {
            ..Attribution::of(Cause::BetweenPorts, way, Place::Unknown)
        };
        found.push((what, rest));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: VmId = VmId(1);

    fn flow(source: u32, open: u64) -> OpenFlow {
        OpenFlow {
            id: FlowId(0),
            source: VmId(source),
            counted: open,
            uncounted: 0,
        }
    }

    /// The frames dropped at the port of each VM.
    type Dropped = &'static [(u32, u64)];

    fn account(dropped: &[(u32, u64)]) -> FxHashMap<VmId, u64> {
        let vms = dropped.iter();
        vms.map(|(vm, frames)| (VmId(*vm), *frames)).collect()
    }

    /// A cause with its direction, its VM if there is one, and a number of pings.
    type Row = (Cause, Way, Option<u32>, u64);

    /// What was counted, the frames dropped at ports, the open pings of flows, and the rows of each of these.
    type Case = (Balance, Dropped, Vec<OpenFlow>, Vec<Vec<Row>>);

    #[test]
    fn counters_in_causes_out() {
        use Cause::{BetweenPorts, QueueFull, Unknown};
        use Way::{Reply, Request};
        let balance = |sent, answered, open| Balance {
            sent,
            answered,
            open,
            ..Balance::default()
        };
        let some = |open| vec![flow(0, open)];
        let table: Vec<Case> = vec![
            // Nothing arrived.
            (
                balance(10, 0, 10),
                &[(0, 0), (1, 0)],
                some(10),
                vec![vec![(BetweenPorts, Request, None, 10)]],
            ),
            // All arrived, and nothing came back.
            (
                balance(10, 10, 10),
                &[(0, 0), (1, 0)],
                some(10),
                vec![vec![(BetweenPorts, Reply, None, 10)]],
            ),
            // The queue of the destination, of the source, of both.
            (
                balance(100, 90, 10),
                &[(0, 0), (1, 10)],
                some(10),
                vec![vec![(QueueFull, Request, Some(1), 10)]],
            ),
            (
                balance(100, 100, 10),
                &[(0, 10), (1, 0)],
                some(10),
                vec![vec![(QueueFull, Reply, Some(0), 10)]],
            ),
            (
                balance(100, 96, 10),
                &[(0, 5), (1, 4)],
                some(10),
                vec![vec![
                    (QueueFull, Request, Some(1), 4),
                    (QueueFull, Reply, Some(0), 5),
                    (BetweenPorts, Reply, None, 1),
                ]],
            ),
            // The queue dropped some, and the bridge others.
            (
                balance(100, 90, 10),
                &[(0, 0), (1, 7)],
                some(10),
                vec![vec![
                    (QueueFull, Request, Some(1), 7),
                    (BetweenPorts, Request, None, 3),
                ]],
            ),
            // More was dropped there than pings are lost: broadcasts, for instance.
            (
                balance(100, 90, 10),
                &[(0, 0), (1, 70)],
                some(10),
                vec![vec![(QueueFull, Request, Some(1), 10)]],
            ),
            // A fabric that counts nothing: the direction is known.
            (
                balance(10, 3, 10),
                &[],
                some(10),
                vec![vec![(Unknown, Request, None, 7), (Unknown, Reply, None, 3)]],
            ),
            // Several flows, all lost in one direction; the queue's drops are not counted twice.
            (
                balance(100, 90, 10),
                &[(0, 0), (1, 6), (2, 0)],
                vec![flow(0, 4), flow(2, 6)],
                vec![
                    vec![(QueueFull, Request, Some(1), 4)],
                    vec![
                        (QueueFull, Request, Some(1), 2),
                        (BetweenPorts, Request, None, 4),
                    ],
                ],
            ),
            // Nor are those of a source's queue, of which several flows come.
            (
                balance(100, 100, 10),
                &[(0, 5), (1, 0)],
                vec![flow(0, 4), flow(0, 6)],
                vec![
                    vec![(QueueFull, Reply, Some(0), 4)],
                    vec![
                        (QueueFull, Reply, Some(0), 1),
                        (BetweenPorts, Reply, None, 5),
                    ],
                ],
            ),
            // Several flows, lost in both directions: nobody knows which.
            (
                balance(100, 95, 10),
                &[(0, 0), (1, 6), (2, 0)],
                vec![flow(0, 4), flow(2, 6)],
                vec![
                    vec![(Unknown, Way::Unknown, None, 4)],
                    vec![(Unknown, Way::Unknown, None, 6)],
                ],
            ),
            // Lost requests that are explained are not missed again.
            (
                Balance {
                    explained: 5,
                    ..balance(100, 90, 10)
                },
                &[(0, 0), (1, 5)],
                some(10),
                vec![vec![
                    (QueueFull, Request, Some(1), 5),
                    (BetweenPorts, Reply, None, 5),
                ]],
            ),
            // Requests came twice, more are missing than lost, or pings were abandoned: the counts say nothing.
            (
                balance(10, 12, 3),
                &[(0, 0), (1, 0)],
                some(3),
                vec![vec![(Unknown, Way::Unknown, None, 3)]],
            ),
            (
                balance(10, 2, 3),
                &[(0, 0), (1, 0)],
                some(3),
                vec![vec![(Unknown, Way::Unknown, None, 3)]],
            ),
            (
                Balance {
                    is_ambiguous: true,
                    ..balance(10, 7, 3)
                },
                &[(0, 0), (1, 0)],
                some(3),
                vec![vec![(Unknown, Way::Unknown, None, 3)]],
            ),
        ];
        for (balance, dropped, flows, expected) in table {
            let found = eliminate(TARGET, balance, &flows, &mut account(dropped));
            let row = |(what, pings): &(Attribution, u64)| {
                let place = match what.place {
                    Place::Vm(vm) => Some(vm.0),
                    _ => None,
                };
                (what.cause, what.way, place, *pings)
            };
            let rows: Vec<Vec<Row>> = found
                .iter()
                .map(|rows| rows.iter().map(row).collect())
                .collect();
            assert_eq!(rows, expected, "{balance:?} {flows:?}");
        }
    }

    #[test]
    fn drops_at_a_port_account_for_one_loss_each_whoever_asks() {
        let balance = |sent, answered, open| Balance {
            sent,
            answered,
            open,
            ..Balance::default()
        };
        // 999 flows from a VM that dropped five frames, and one flow to it.
        let mut dropped = account(&[(0, 5)]);
        let mut at_port = 0;
        let mut count = |found: Vec<Vec<(Attribution, u64)>>| {
            let rows = found.into_iter().flatten();
            let rows = rows.filter(|(what, _)| what.cause == Cause::QueueFull);
            at_port += rows.map(|(_, pings)| pings).sum::<u64>();
        };
        for target in 1..1_000 {
            let flows = [flow(0, 5)];
            let replies_lost = balance(10, 10, 5);
            count(eliminate(VmId(target), replies_lost, &flows, &mut dropped));
        }
        let flows = [flow(1, 5)];
        let requests_lost = balance(10, 5, 5);
        count(eliminate(VmId(0), requests_lost, &flows, &mut dropped));
        assert_eq!(at_port, 5);
    }

    #[test]
    fn every_open_ping_is_put_down_to_something_whatever_the_counters_say() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let mut few = || random.u64(..12);
            let opens = [few(), few(), few()];
            let balance = Balance {
                sent: few() + few(),
                answered: few(),
                explained: few() / 4,
                open: opens.iter().sum(),
                is_ambiguous: few() == 11,
            };
            let mut flows = Vec::new();
            for (open, source) in opens.into_iter().zip([0, 2, 0]) {
                flows.push(flow(source, open));
            }
            let mut dropped = account(&[]);
            for vm in (0..3).map(VmId) {
                if let Some(frames) = few().checked_sub(3) {
                    dropped.insert(vm, frames);
                }
            }
            let found = eliminate(TARGET, balance, &flows, &mut dropped);
            for (flow, rows) in flows.iter().zip(found) {
                let sum: u64 = rows.iter().map(|(_, pings)| pings).sum();
                assert_eq!(sum, flow.open(), "{balance:?} {flows:?}");
            }
        }
    }
}
