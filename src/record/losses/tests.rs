use super::*;
use crate::fabric::KernelName;
use crate::load::FlowId;
use crate::record::{DropReason, Limits, Recorder, Totals};
use crate::time::Instant;
use crate::vm::{PingError, VmId};

fn at(cause: Cause, vm: u32) -> Attribution {
    Attribution::of(cause, Way::Request, Place::Vm(VmId(vm)))
}

#[test]
fn every_cause_has_a_snake_case_name_of_its_own_and_reads_it_back() {
    for (index, cause) in Cause::ALL.iter().enumerate() {
        let json = serde_json::to_string(cause).unwrap();
        assert_eq!(json, format!("{:?}", cause.name()));
        assert_eq!(serde_json::from_str::<Cause>(&json).unwrap(), *cause);
        assert_eq!(*cause as usize, index);
        let others = &Cause::ALL[index + 1..];
        assert!(others.iter().all(|other| other.words() != cause.words()));
    }
}

#[test]
fn an_attribution_reads_as_a_clause() {
    let kernel = |reason, function| Why::Kernel(KernelName::new(reason), KernelName::new(function));
    let table = [
        (Attribution::UNKNOWN, "unknown"),
        (
            at(Cause::QueueFull, 3),
            "request queue of the destination full at vm3",
        ),
        (
            Attribution {
                why: Some(kernel("NO_TX_TARGET", "br_flood")),
                ..at(Cause::InBridge, 1)
            },
            "request dropped in the bridge at vm1 (NO_TX_TARGET in br_flood)",
        ),
        (
            Attribution {
                why: Some(kernel("ENETDOWN", "")),
                way: Way::Reply,
                ..at(Cause::Absent, 1)
            },
            "reply destination stopped or absent at vm1 (ENETDOWN)",
        ),
        (
            Attribution::reported(PingError::HostUnreachable),
            "reported undeliverable (host_unreachable)",
        ),
    ];
    for (attribution, words) in table {
        assert_eq!(attribution.to_string(), words);
    }
}

#[test]
fn more_places_than_there_are_rows_are_counted_by_cause_and_direction() {
    let mut losses = Losses::default();
    for vm in 0..1_000 {
        losses.add(Some(FlowId(0)), 1, at(Cause::QueueFull, vm));
        losses.add(Some(FlowId(vm)), 2, at(Cause::Ignored, vm));
    }
    assert_eq!(losses.total(), 3_000);
    // Some more rows than places have: one for each cause and direction.
    assert!(losses.rows().count() <= MAX_LOSS_ROWS + 2);
    for (cause, pings) in [(Cause::QueueFull, 1_000), (Cause::Ignored, 2_000)] {
        let rows = losses.rows().filter(|(row, _)| row.cause == cause);
        assert_eq!(rows.map(|(_, pings)| pings).sum::<u64>(), pings);
    }
    let of_flow = losses.of_flow(FlowId(0));
    assert!(of_flow.len() <= MAX_FLOW_ROWS + 2, "{of_flow:?}");
    assert_eq!(of_flow.iter().map(|(_, pings)| pings).sum::<u64>(), 1_002);
    assert_eq!(of_flow[0].0, at(Cause::QueueFull, 0).without_place());
}

#[test]
fn what_has_no_place_has_a_row_of_its_own_however_many_places_there_are() {
    let mut losses = Losses::default();
    let flow = Some(FlowId(0));
    for vm in 0..MAX_LOSS_ROWS as u32 {
        losses.add(flow, 1, at(Cause::QueueFull, vm));
    }
    let plain = [
        Attribution::UNKNOWN,
        Attribution::LATE,
        Attribution::CORRUPT,
        Attribution::UNSENT,
        Attribution::reported(PingError::HostUnreachable),
        Attribution {
            why: Some(Why::Drop(DropReason::NoRoute)),
            ..Attribution::UNRESOLVED
        },
        Attribution::of(Cause::BetweenPorts, Way::Reply, Place::Unknown),
    ];
    for what in plain {
        losses.add(flow, 2, what);
        assert!(losses.rows().any(|row| row == (&what, 2)), "{what}");
        let of_flow = losses.of_flow(FlowId(0));
        assert!(of_flow.contains(&(what, 2)), "{what}: {of_flow:?}");
    }
}

#[test]
fn flows_beyond_the_limit_are_counted_in_the_table_of_the_run() {
    let mut losses = Losses::default();
    let flows = 2 * MAX_LOSSY_FLOWS as u32;
    for flow in 0..flows {
        losses.add(Some(FlowId(flow)), 1, Attribution::UNKNOWN);
    }
    for flow in 0..flows {
        losses.transfer(FlowId(flow), 1, Attribution::UNKNOWN, Attribution::LATE);
    }
    let rows: Vec<_> = losses.rows().collect();
    assert_eq!(rows, [(&Attribution::LATE, u64::from(flows))]);
    assert_eq!(losses.of_flow(FlowId(7)), [(Attribution::LATE, 1)]);
    assert_eq!(losses.of_flow(FlowId(flows - 1)), []);
}

#[test]
fn the_losses_are_as_many_as_the_failed_pings_whatever_happens_to_them() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut recorder = Recorder::new(Limits::default());
        (0..3).for_each(|_| recorder.add_flow());
        let mut now = Instant::ZERO;
        recorder.begin_phase("first", now);
        // Pings that failed, with what they are put down to at present.
        let mut failed = Vec::new();
        for step in 0..1_000 {
            now = now + std::time::Duration::from_millis(1);
            let flow = FlowId(random.u32(..3));
            let due = now;
            match random.u32(..12) {
                0 if random.bool() => recorder.begin_warmup(now),
                0 => recorder.begin_phase("next", now),
                1 => recorder.unsent(random.u64(..5)),
                2 => recorder.unresolved(flow, step, due, now),
                3 => recorder.corrupt(flow, step, due, now),
                4 => {
                    let error = PingError::HostUnreachable;
                    recorder.errored(flow, step, due, error, now);
                    failed.push((flow, due, Attribution::reported(error)));
                }
                5 => recorder.abandoned(flow, step, due),
                6 => recorder.late(flow, now),
                7 | 8 => {
                    recorder.lost(flow, step, due, now);
                    failed.push((flow, due, Attribution::UNKNOWN));
                }
                _ if failed.is_empty() => {}
                _ => {
                    let index = random.usize(..failed.len());
                    let (flow, due, from) = failed[index];
                    let cause = *random.choice(Cause::ALL).unwrap();
                    let to = at(cause, random.u32(..400));
                    recorder.attribute(flow, due, from, to);
                    failed[index].2 = to;
                }
            }
            let totals: Totals = recorder.totals();
            let losses = recorder.losses();
            assert_eq!(
                losses.total(),
                totals.failed() + totals.unsent,
                "{seed} {step}"
            );
            for index in 0..3 {
                let of_flow = losses.of_flow(FlowId(index));
                let sum: u64 = of_flow.iter().map(|(_, pings)| pings).sum();
                assert_eq!(sum, recorder.flows()[index as usize].totals().failed());
            }
        }
        assert!(recorder.losses().total() > 0);
    }
}
