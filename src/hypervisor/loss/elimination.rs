//! What counters tell of lost pings of which nothing else does.
//!
//! Every request that a VM answers is counted there, and what is dropped at the port of a VM by the kernel. When the pings of
//! a run have ended, the requests that were sent to a VM and not answered are those that did not arrive; the replies to the
//! others are lost. Where others got copies of a request, that is taken for lost unless too many were answered. What was dropped at a port in that direction accounts for some of these; of the rest only the direction is
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
    /// Pings that were lost, and of whose requests others got copies.
    pub(super) stray: u64,
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
    /// Pings of whose requests others got copies.
    pub(super) stray: u64,
}

impl OpenFlow {
    /// Returns the number of its open pings.
    pub(super) const fn open(&self) -> u64 {
        self.counted.saturating_add(self.uncounted)
    }
}

/// What became of the pings of a flow, with the number of each.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Found {
    /// As many as are open.
    pub(super) open: Vec<(Attribution, u64)>,
    /// Of the stray ones those that were answered.
    pub(super) stray: Vec<(Attribution, u64)>,
}

/// Requests that did not arrive, among the pings to a VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Missing {
    /// Among the open ones.
    open: u64,
    /// Among the stray ones.
    stray: u64,
}

/// What the pings of each flow to `target` are put down to. What is ambiguous is unknown.
/// `dropped` are the frames that the kernel dropped at the port of each VM where that is counted, and that nothing is put down to
/// yet.
pub(super) fn eliminate(
    target: VmId,
    balance: Balance,
    flows: &[OpenFlow],
    dropped: &mut FxHashMap<VmId, u64>,
) -> Vec<Found> {
    let missing = requests_lost(balance);
    let of_flow = |flow: &OpenFlow| {
        let mut found = Found::default();
        let open = flow.open();
        let (requests, replies) = match missing.map(|missing| missing.open) {
            Some(0) => (0, open),
            Some(requests) if requests == balance.open => (open, 0),
            Some(requests) if open == balance.open => (requests, open - requests),
            _ if open == 0 => (0, 0),
            _ => {
                found.open.push((Attribution::UNKNOWN, open));
                (0, 0)
            }
        };
        found
            .open
            .extend(at_ports(Way::Request, target, requests, dropped));
        found
            .open
            .extend(at_ports(Way::Reply, flow.source, replies, dropped));
        let answered = match missing.map(|missing| missing.stray) {
            Some(0) => flow.stray,
            // Which of them, only one flow tells.
            Some(stray) if flow.stray == balance.stray => flow.stray - stray,
            _ => 0,
        };
        found.stray = at_ports(Way::Reply, flow.source, answered, dropped);
        found
    };
    flows.iter().map(of_flow).collect()
}

/// The pings whose requests did not arrive; `None` if the counts contradict each other, as where requests were duplicated.
fn requests_lost(balance: Balance) -> Option<Missing> {
    let Balance {
        sent,
        answered,
        explained,
        open,
        stray,
        is_ambiguous: false,
    } = balance
    else {
        return None;
    };
    let missing = sent.checked_sub(answered)?.checked_sub(explained)?;
    match missing.checked_sub(stray) {
        Some(others) => (others <= open).then_some(Missing {
            open: others,
            stray,
        }),
        // Copies came to others although some of the requests arrived: then they say nothing of which.
        None => (missing == 0 || open == 0).then_some(Missing {
            open: 0,
            stray: missing,
        }),
    }
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
            stray: 0,
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
            assert!(found.iter().all(|found| found.stray.is_empty()));
            let row = |(what, pings): &(Attribution, u64)| {
                let place = match what.place {
                    Place::Vm(vm) => Some(vm.0),
                    _ => None,
                };
                (what.cause, what.way, place, *pings)
            };
            let rows: Vec<Vec<Row>> = found
                .iter()
                .map(|found| found.open.iter().map(row).collect())
                .collect();
            assert_eq!(rows, expected, "{balance:?} {flows:?}");
        }
    }

    #[test]
    fn requests_of_which_others_got_copies_are_lost_unless_more_were_answered() {
        // Missing requests, the open pings and the stray ones of two flows; the directions of the open ones, and the stray ones that
        // were answered.
        type Case = (u64, [(u64, u64); 2], [&'static [Way]; 2], [u64; 2]);
        let (request, reply, unknown): (&[Way], &[Way], &[Way]) =
            (&[Way::Request], &[Way::Reply], &[Way::Unknown]);
        let table: [Case; 8] = [
            (10, [(0, 10), (0, 0)], [&[], &[]], [0, 0]),
            (0, [(0, 10), (0, 0)], [&[], &[]], [10, 0]),
            (0, [(49, 1), (0, 0)], [reply, &[]], [1, 0]),
            (4, [(0, 10), (0, 0)], [&[], &[]], [6, 0]),
            // Which of them, nobody knows.
            (4, [(5, 10), (0, 0)], [unknown, &[]], [0, 0]),
            (4, [(0, 10), (0, 3)], [&[], &[]], [0, 0]),
            (10, [(0, 10), (5, 0)], [&[], reply], [0, 0]),
            (15, [(0, 10), (5, 0)], [&[], request], [0, 0]),
        ];
        for (missing, of_flows, ways, answered) in table {
            let flows = of_flows.map(|(open, stray)| OpenFlow {
                stray,
                ..flow(0, open)
            });
            let balance = Balance {
                sent: 100,
                answered: 100 - missing,
                open: of_flows.iter().map(|(open, _)| open).sum(),
                stray: of_flows.iter().map(|(_, stray)| stray).sum(),
                ..Balance::default()
            };
            let mut dropped = account(&[(0, 0), (1, 0)]);
            let found = eliminate(TARGET, balance, &flows, &mut dropped);
            let case = format!("{missing} missing of {of_flows:?}");
            for ((found, ways), answered) in found.iter().zip(ways).zip(answered) {
                let told: Vec<Way> = found.open.iter().map(|(what, _)| what.way).collect();
                assert_eq!(told, ways, "{case}");
                let replies = Attribution::of(Cause::BetweenPorts, Way::Reply, Place::Unknown);
                let expected: &[_] = match answered {
                    0 => &[],
                    _ => &[(replies, answered)],
                };
                assert_eq!(found.stray, expected, "{case}");
            }
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
        let mut count = |found: Vec<Found>| {
            let rows = found.into_iter().flat_map(|found| found.open);
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
            let strays = [few(), few(), few()];
            let balance = Balance {
                sent: few() + few(),
                answered: few(),
                explained: few() / 4,
                open: opens.iter().sum(),
                stray: strays.iter().sum(),
                is_ambiguous: few() == 11,
            };
            let mut flows = Vec::new();
            for ((open, stray), source) in opens.into_iter().zip(strays).zip([0, 2, 0]) {
                flows.push(OpenFlow {
                    stray,
                    ..flow(source, open)
                });
            }
            let mut dropped = account(&[]);
            for vm in (0..3).map(VmId) {
                if let Some(frames) = few().checked_sub(3) {
                    dropped.insert(vm, frames);
                }
            }
            let found = eliminate(TARGET, balance, &flows, &mut dropped);
            for (flow, found) in flows.iter().zip(found) {
                let sum = |rows: &[(Attribution, u64)]| -> u64 {
                    rows.iter().map(|(_, pings)| pings).sum()
                };
                assert_eq!(sum(&found.open), flow.open(), "{balance:?} {flows:?}");
                assert!(sum(&found.stray) <= flow.stray, "{balance:?} {flows:?}");
            }
        }
    }
}
