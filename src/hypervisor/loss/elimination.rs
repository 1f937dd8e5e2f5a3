//! What counters tell of lost pings of which nothing else does.
//!
//! Every request that a VM answers is counted there, and what is dropped at the port of a VM by the kernel. When the pings of
//! a run have ended, the requests that were sent to a VM and not answered are those that did not arrive; the replies to the
//! others are lost. What was dropped at a port in that direction accounts for some of these; of the rest only the direction is
//! known, and that they were lost between the ports.

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
    /// Pings of which nobody knows what became of them, because their VM or flow left.
    pub(super) abandoned: u64,
    /// Pings that were lost and are not explained.
    pub(super) open: u64,
    /// Frames that the kernel dropped at its port, if that is counted, those that are explained left out.
    pub(super) dropped: Option<u64>,
}

/// The open pings of one flow to that VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OpenFlow {
    /// The source.
    pub(super) source: VmId,
    /// Pings that were lost and are not explained.
    pub(super) open: u64,
    /// Frames that the kernel dropped at the source's port, as those of [`Balance`].
    pub(super) dropped: Option<u64>,
}

/// What the open pings of each flow to `target` are put down to, as many as there are of each. What is ambiguous is unknown.
pub(super) fn eliminate(
    target: VmId,
    balance: Balance,
    flows: &[OpenFlow],
) -> Vec<Vec<(Attribution, u64)>> {
    let requests = requests_lost(balance);
    let mut dropped = balance.dropped;
    let of_flow = |flow: &OpenFlow| {
        let (requests, replies) = match requests {
            Some(0) => (0, flow.open),
            Some(requests) if requests == balance.open => (flow.open, 0),
            Some(requests) if flow.open == balance.open => (requests, flow.open - requests),
            _ => return vec![(Attribution::UNKNOWN, flow.open)],
        };
        let mut found = at_ports(Way::Request, target, requests, &mut dropped);
        found.extend(at_ports(
            Way::Reply,
            flow.source,
            replies,
            &mut flow.dropped.clone(),
        ));
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
        abandoned: 0,
        open,
        ..
    } = balance
    else {
        return None;
    };
    let missing = sent.checked_sub(answered)?.checked_sub(explained)?;
    (missing <= open).then_some(missing)
}

/// Puts `lost` frames to `vm` down to what was dropped at its port, as far as that was counted, and the rest to the way there.
fn at_ports(way: Way, vm: VmId, lost: u64, dropped: &mut Option<u64>) -> Vec<(Attribution, u64)> {
    let mut found = Vec::new();
    let Some(counted) = dropped else {
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

    fn flow(source: u32, open: u64, dropped: Option<u64>) -> OpenFlow {
        OpenFlow {
            source: VmId(source),
            open,
            dropped,
        }
    }

    /// A cause with its direction, its VM if there is one, and a number of pings.
    type Row = (Cause, Way, Option<u32>, u64);

    #[test]
    fn counters_in_causes_out() {
        use Cause::{BetweenPorts, QueueFull, Unknown};
        use Way::{Reply, Request};
        let balance = |sent, answered, open, dropped| Balance {
            sent,
            answered,
            explained: 0,
            abandoned: 0,
            open,
            dropped,
        };
        let some = |open| vec![flow(0, open, Some(0))];
        let table: Vec<(Balance, Vec<OpenFlow>, Vec<Vec<Row>>)> = vec![
            // Nothing arrived.
            (
                balance(10, 0, 10, Some(0)),
                some(10),
                vec![vec![(BetweenPorts, Request, None, 10)]],
            ),
            // All arrived, and nothing came back.
            (
                balance(10, 10, 10, Some(0)),
                some(10),
                vec![vec![(BetweenPorts, Reply, None, 10)]],
            ),
            // The queue of the destination, of the source, of both.
            (
                balance(100, 90, 10, Some(10)),
                some(10),
                vec![vec![(QueueFull, Request, Some(1), 10)]],
            ),
            (
                balance(100, 100, 10, Some(0)),
                vec![flow(0, 10, Some(10))],
                vec![vec![(QueueFull, Reply, Some(0), 10)]],
            ),
            (
                balance(100, 96, 10, Some(4)),
                vec![flow(0, 10, Some(5))],
                vec![vec![
                    (QueueFull, Request, Some(1), 4),
                    (QueueFull, Reply, Some(0), 5),
                    (BetweenPorts, Reply, None, 1),
                ]],
            ),
            // The queue dropped some, and the bridge others.
            (
                balance(100, 90, 10, Some(7)),
                some(10),
                vec![vec![
                    (QueueFull, Request, Some(1), 7),
                    (BetweenPorts, Request, None, 3),
                ]],
            ),
            // More was dropped there than pings are lost: broadcasts, for instance.
            (
                balance(100, 90, 10, Some(70)),
                some(10),
                vec![vec![(QueueFull, Request, Some(1), 10)]],
            ),
            // A fabric that counts nothing: the direction is known.
            (
                balance(10, 3, 10, None),
                vec![flow(0, 10, None)],
                vec![vec![(Unknown, Request, None, 7), (Unknown, Reply, None, 3)]],
            ),
            // Several flows, all lost in one direction; the queue's drops are not counted twice.
            (
                balance(100, 90, 10, Some(6)),
                vec![flow(0, 4, Some(0)), flow(2, 6, Some(0))],
                vec![
                    vec![(QueueFull, Request, Some(1), 4)],
                    vec![
                        (QueueFull, Request, Some(1), 2),
                        (BetweenPorts, Request, None, 4),
                    ],
                ],
            ),
            // Several flows, lost in both directions: nobody knows which.
            (
                balance(100, 95, 10, Some(6)),
                vec![flow(0, 4, Some(0)), flow(2, 6, Some(0))],
                vec![
                    vec![(Unknown, Way::Unknown, None, 4)],
                    vec![(Unknown, Way::Unknown, None, 6)],
                ],
            ),
            // Lost requests that are explained are not missed again.
            (
                Balance {
                    explained: 5,
                    ..balance(100, 90, 10, Some(5))
                },
                some(10),
                vec![vec![
                    (QueueFull, Request, Some(1), 5),
                    (BetweenPorts, Reply, None, 5),
                ]],
            ),
            // Requests came twice, more are missing than lost, or pings were abandoned: the counts say nothing.
            (
                balance(10, 12, 3, Some(0)),
                some(3),
                vec![vec![(Unknown, Way::Unknown, None, 3)]],
            ),
            (
                balance(10, 2, 3, Some(0)),
                some(3),
                vec![vec![(Unknown, Way::Unknown, None, 3)]],
            ),
            (
                Balance {
                    abandoned: 1,
                    ..balance(10, 7, 3, Some(0))
                },
                some(3),
                vec![vec![(Unknown, Way::Unknown, None, 3)]],
            ),
        ];
        for (balance, flows, expected) in table {
            let found = eliminate(TARGET, balance, &flows);
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
    fn every_open_ping_is_put_down_to_something_whatever_the_counters_say() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let mut few = || random.u64(..12);
            let opens = [few(), few(), few()];
            let balance = Balance {
                sent: few() + few(),
                answered: few(),
                explained: few() / 4,
                abandoned: few() / 11,
                open: opens.iter().sum(),
                dropped: few().checked_sub(3),
            };
            let mut flows = Vec::new();
            for (index, open) in opens.into_iter().enumerate() {
                flows.push(flow(index as u32, open, few().checked_sub(2)));
            }
            let found = eliminate(TARGET, balance, &flows);
            for (flow, rows) in flows.iter().zip(found) {
                let sum: u64 = rows.iter().map(|(_, pings)| pings).sum();
                assert_eq!(sum, flow.open, "{balance:?} {flows:?}");
            }
        }
    }
}
