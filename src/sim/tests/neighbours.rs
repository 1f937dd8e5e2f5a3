//! Neighbours that are found before anything is sent to them.

use super::*;
use crate::hypervisor::{ANSWER_WAIT, Change, FindNeighbours, Transition};
use crate::record::NeighbourSearch;

/// The delay of a frame.
const WIRE: Duration = MS;

fn find(outstanding: u32, at_most: Duration) -> FindNeighbours {
    FindNeighbours {
        outstanding,
        at_most,
    }
}

fn ipv6(vm: u32) -> Ipv6Config {
    Ipv6Config {
        probe: false,
        report: Duration::MAX,
        ..probing(vm)
    }
}

/// A mesh of so many VMs whose ports have room for so many frames; over IPv6 if that is wanted. Returns also how many
/// flows there are.
fn mesh(vms: u32, room: u32, over_ipv6: bool) -> (Lab, u32) {
    let mut lab = changed_lab(vms, WIRE, |vm, config| {
        config.ipv6 = over_ipv6.then(|| ipv6(vm));
    });
    let fabric = lab.hypervisor().fabric().inner();
    *fabric = std::mem::replace(fabric, Switch::new(WIRE)).with_queue(room);
    for source in 0..vms {
        for target in (0..vms).filter(|target| *target != source) {
            match over_ipv6 {
                true => flow_to(&mut lab, source, ipv6_address(target).into()),
                false => flow(&mut lab, source, target),
            }
        }
    }
    (lab, vms * (vms - 1))
}

fn searched(lab: &mut Lab) -> NeighbourSearch {
    *lab.hypervisor().recorder().neighbours().unwrap()
}

#[test]
fn a_mesh_knows_its_neighbours_before_the_first_ping_and_no_queue_overflows() {
    for over_ipv6 in [false, true] {
        for (first, is_calm) in [(Some(find(2, ANSWER_WAIT)), true), (None, false)] {
            let (mut lab, flows) = mesh(12, 8, over_ipv6);
            if let Some(first) = first {
                lab.hypervisor().find_neighbours_first(first);
            }
            let case = format!("IPv6 {over_ipv6}, {first:?}");
            let mut only = phase("", flows, Pacing::Interval(500 * MS), Some(3), None);
            if first.is_none() {
                only.load.start = Start::Within(Duration::ZERO);
            }
            carry(&mut lab, vec![only]);
            let Ok(drops) = lab.hypervisor().fabric().drops();
            let recorder = lab.hypervisor().recorder();
            let run = recorder.run();
            let response = run.response().summary().max;
            assert_eq!(drops == 0, is_calm, "{case}: {drops}");
            assert_eq!(response == Some(2_000_000), is_calm, "{case}: {response:?}");
            if !is_calm {
                continue;
            }
            assert_eq!(recorder.totals().received, u64::from(flows) * 3, "{case}");
            assert_eq!(run.lateness().summary().max, Some(0), "{case}");
            let resolutions = [Metric::Resolution, Metric::Resolution6]
                .map(|metric| recorder.latency(metric).count())
                .iter()
                .sum::<u64>();
            let search = searched(&mut lab);
            // Who is asked learns the address of the one who asks.
            let pairs = u64::from(flows) / 2;
            assert_eq!(
                (search.asked, search.found, search.missing),
                (pairs, pairs, 0),
                "{case}"
            );
            assert_eq!(resolutions, pairs, "{case}");
            // A round trip for each two questions.
            assert_eq!(search.elapsed_ns, pairs / 2 * 2_000_000, "{case}");
        }
    }
}

#[test]
fn a_neighbour_that_does_not_answer_is_waited_for_no_longer_than_for_its_second_answer() {
    let mut lab = new_lab(3, WIRE);
    lab.hypervisor()
        .find_neighbours_first(find(1, END - Instant::ZERO));
    flow_to(&mut lab, 0, "10.99.0.1".parse().unwrap());
    flow(&mut lab, 1, 2);
    carry(
        &mut lab,
        vec![phase("", 2, Pacing::Interval(10 * MS), Some(5), None)],
    );
    let search = searched(&mut lab);
    assert_eq!((search.asked, search.found, search.missing), (2, 1, 1));
    // The second question waits for the first, which is taken for lost after a tenth of a second.
    let waited = ANSWER_WAIT + 100 * MS;
    assert_eq!(search.elapsed_ns, waited.as_nanos() as u64);
    let recorder = lab.hypervisor().recorder();
    let totals = recorder.totals();
    assert_eq!((totals.received, totals.unresolved), (5, 5));
    assert_eq!(recorder.latency(Metric::Resolution).count(), 1);
}

#[test]
fn a_search_that_takes_too_long_ends_and_the_rest_is_found_when_pings_are_due() {
    let (mut lab, flows) = mesh(6, 1_000, false);
    lab.hypervisor().find_neighbours_first(find(1, 9 * MS));
    carry(
        &mut lab,
        vec![phase("", flows, Pacing::Interval(300 * MS), Some(2), None)],
    );
    let search = searched(&mut lab);
    assert_eq!(
        (search.asked, search.missing, search.elapsed_ns),
        (5, 1, 9_000_000)
    );
    let recorder = lab.hypervisor().recorder();
    assert_eq!(recorder.totals().received, u64::from(flows) * 2);
    assert_eq!(recorder.latency(Metric::Resolution).count(), 15);
}

#[test]
fn a_run_that_is_stopped_in_its_search_sends_nothing() {
    let (mut lab, flows) = mesh(6, 1_000, false);
    lab.hypervisor().find_neighbours_first(find(1, ANSWER_WAIT));
    let phases = vec![phase("", flows, Pacing::Interval(MS), Some(2), None)];
    lab.hypervisor().start(Instant::ZERO, phases);
    let now = run(lab.hypervisor(), Instant::ZERO, Instant::ZERO + 5 * MS);
    assert!(!lab.hypervisor().is_done());
    lab.hypervisor().stop(now);
    assert!(lab.hypervisor().is_done());
    run(lab.hypervisor(), now, END);
    let search = searched(&mut lab);
    assert_eq!((search.asked, search.found), (3, 2));
    assert_eq!(lab.hypervisor().recorder().totals().sent, 0);
}

/// VMs that come up in a run ping one that is there, and an address that is nobody's.
fn pending_vms(first: Option<FindNeighbours>) -> Lab {
    let mut lab = lab_with_pending_vms(9, 1, WIRE);
    if let Some(first) = first {
        lab.hypervisor().find_neighbours_first(first);
    }
    (1..9).for_each(|vm| flow(&mut lab, vm, 0));
    lab
}

#[test]
fn flows_of_vms_that_come_up_later_begin_when_their_neighbour_is_known() {
    for (first, response, boot) in [
        (Some(find(2, ANSWER_WAIT)), 2_000_000, 4_000_000),
        (None, 4_000_000, 4_000_000),
    ] {
        let mut lab = pending_vms(first);
        let mut coming = phase("", 8, Pacing::Interval(10 * MS), Some(3), None);
        let start = |vm| Transition {
            after: MS * 50 * vm,
            vm: VmId(vm),
            change: Change::Start,
        };
        coming.transitions = (1..9).map(start).collect();
        carry(&mut lab, vec![coming]);
        let recorder = lab.hypervisor().recorder();
        assert_eq!(recorder.totals().received, 24, "{first:?}");
        assert_eq!(
            recorder.run().response().summary().max,
            Some(response),
            "{first:?}"
        );
        assert_eq!(
            recorder.latency(Metric::Boot).summary().max,
            Some(boot),
            "{first:?}"
        );
        assert_eq!(recorder.latency(Metric::Resolution).count(), 8, "{first:?}");
    }
}

#[test]
fn a_run_goes_on_when_late_flows_have_waited_for_their_neighbours() {
    let mut lab = pending_vms(Some(find(2, ANSWER_WAIT)));
    let count = 2 * ANSWER_WAIT.as_millis() as u64 / 10;
    let mut coming = phase("", 8, Pacing::Interval(10 * MS), Some(count), None);
    coming.transitions = vec![
        Transition {
            after: MS,
            vm: VmId(1),
            change: Change::Start,
        },
        Transition {
            after: 50 * MS,
            vm: VmId(2),
            change: Change::Start,
        },
    ];
    carry(&mut lab, vec![coming]);
    assert_eq!(lab.hypervisor().recorder().totals().received, 2 * count);
}

#[test]
fn a_flow_whose_neighbour_does_not_answer_begins_nevertheless() {
    let mut lab = pending_vms(Some(find(2, ANSWER_WAIT)));
    flow_to(&mut lab, 8, "10.99.0.1".parse().unwrap());
    let mut coming = phase("", 9, Pacing::Interval(10 * MS), Some(3), None);
    coming.transitions = (1..9)
        .map(|vm| Transition {
            after: MS * 50,
            vm: VmId(vm),
            change: Change::Start,
        })
        .collect();
    carry(&mut lab, vec![coming]);
    let totals = lab.hypervisor().recorder().totals();
    assert_eq!((totals.received, totals.unresolved), (24, 3));
}
