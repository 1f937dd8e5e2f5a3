//! VMs that come up and leave in the course of a phase.

use super::*;
use crate::hypervisor::{Change, Transition};

const PACINGS: [Pacing; 3] = [
    Pacing::Interval(MS),
    Pacing::Rate(2_000.0),
    Pacing::Window(2),
];

fn transitions(change: Change, vms: std::ops::Range<u32>, gap: Duration) -> Vec<Transition> {
    let at = |(i, vm)| Transition {
        after: gap * i,
        vm: VmId(vm),
        change,
    };
    (0..).zip(vms).map(at).collect()
}

/// A lab of so many VMs, of which those from `first` on come up later, with a flow from each to the one before it.
fn lab(vms: u32, first: u32) -> Lab {
    let delay = MS / 10;
    let mut lab = lab_with_pending_vms(vms, first, delay);
    (1..vms).for_each(|vm| flow(&mut lab, vm, vm - 1));
    lab
}

#[test]
fn flows_begin_when_both_of_their_ends_are_up_and_the_boot_of_each_vm_is_timed() {
    for pacing in PACINGS {
        let mut lab = lab(10, 2);
        let mut coming = phase("coming", 9, pacing, None, Some(MS * 200));
        coming.transitions = transitions(Change::Start, 2..10, MS * 20);
        let after = phase("after", 9, pacing, None, Some(MS * 100));
        let end = carry(&mut lab, vec![coming, after]);
        assert!(end < Instant::ZERO + MS * 400, "{pacing:?}: {end:?}");
        let recorder = lab.hypervisor().recorder();
        assert_eq!(recorder.totals().failed(), 0, "{pacing:?}");
        assert_eq!(recorder.totals().unsent, 0, "{pacing:?}");
        // vm0 pings nobody; each of the others took a resolution and a round trip.
        let boot = recorder.latency(Metric::Boot).summary();
        assert_eq!(boot.count, 9, "{pacing:?}");
        assert!(boot.max < Some(20_000_000), "{pacing:?}: {boot:?}");
        let sent: Vec<u64> = recorder.flows().iter().map(|f| f.totals().sent).collect();
        // vm1 asks for its neighbour, and vm2, which asks for vm1 just then, finds it by that question.
        assert!(sent[0] > sent[2], "{pacing:?}: {sent:?}");
        let later = &sent[1..];
        assert!(later.is_sorted_by(|a, b| a >= b), "{pacing:?}: {sent:?}");
        assert!(sent[8] > 0, "{pacing:?}: {sent:?}");
    }
}

#[test]
fn a_phase_with_a_count_ends_when_those_who_came_late_have_sent_theirs() {
    for pacing in PACINGS {
        let mut lab = lab(6, 1);
        let mut only = phase("", 5, pacing, Some(7), None);
        only.transitions = transitions(Change::Start, 1..6, MS * 50);
        let end = carry(&mut lab, vec![only]);
        assert!(end >= Instant::ZERO + MS * 200, "{pacing:?}");
        assert!(end < Instant::ZERO + MS * 400, "{pacing:?}: {end:?}");
        let totals = lab.hypervisor().recorder().totals();
        assert_eq!((totals.sent, totals.received), (35, 35), "{pacing:?}");
    }
}

#[test]
fn vms_that_leave_take_their_flows_along_and_leave_those_of_others_untouched() {
    for pacing in PACINGS {
        let mut lab = lab(10, 10);
        let before = phase("before", 9, pacing, None, Some(MS * 100));
        let mut leaving = phase("leaving", 9, pacing, None, Some(MS * 100));
        // From the last one down, so that nobody is pinged who is gone.
        leaving.transitions = transitions(Change::Stop, 5..10, MS * 10);
        leaving
            .transitions
            .iter_mut()
            .for_each(|m| m.vm = VmId(14 - m.vm.0));
        let after = phase("after", 9, pacing, None, Some(MS * 100));
        carry(&mut lab, vec![before, leaving, after]);
        let mut is_gone = |vm: u32| lab.hypervisor().vm(VmId(vm)).is_none();
        assert!((5..10).all(&mut is_gone), "{pacing:?}");
        assert!(!(0..5).any(is_gone), "{pacing:?}");
        let recorder = lab.hypervisor().recorder();
        assert_eq!(recorder.totals().failed(), 0, "{pacing:?}");
        let flows = recorder.flows();
        for (vm, flow) in (1..).zip(flows) {
            let totals = flow.totals();
            let under_way = totals.sent - totals.received;
            assert!(
                under_way <= if vm < 5 { 0 } else { 2 },
                "{pacing:?}: vm{vm}"
            );
        }
        assert!(
            flows[0].totals().sent > flows[8].totals().sent,
            "{pacing:?}"
        );
    }
}

#[test]
fn a_flow_of_which_an_end_never_comes_holds_nothing_up() {
    for pacing in PACINGS {
        let mut lab = lab(3, 2);
        let end = carry(&mut lab, vec![phase("", 2, pacing, Some(5), None)]);
        assert!(end < Instant::ZERO + MS * 50, "{pacing:?}: {end:?}");
        let totals = lab.hypervisor().recorder().totals();
        assert_eq!((totals.sent, totals.received), (5, 5), "{pacing:?}");
    }
}

#[test]
fn whether_to_stop_is_asked_within_an_instant_at_which_much_is_flooded() {
    // All ask for a neighbour at once: 100 × 99 frames arrive at one time.
    let mut lab = new_lab(100, MS);
    (0..100).for_each(|vm| flow(&mut lab, vm, (vm + 1) % 100));
    let only = phase("", 100, Pacing::Window(1), Some(1), None);
    lab.hypervisor().start(Instant::ZERO, vec![only]);
    let mut asked = 0;
    let (end, is_early) = run_unless(lab.hypervisor(), Instant::ZERO, END, || {
        asked += 1;
        asked == 5
    });
    assert_eq!((end, is_early), (Instant::ZERO + MS, true));
}

#[test]
fn a_closed_loop_whose_pings_can_not_be_sent_tries_again_in_a_while() {
    for (load, sent, unresolved) in [
        // A port of its own for each connection that is held, and then none.
        (
            "ping = 'vm0:vm1'\nprobe = 'tcp'\ntcp-hold = '10s'",
            28_232,
            8 * 50..=8 * 100,
        ),
        // Addresses that nobody has: eight wait for the answer for three seconds.
        ("ping = 'vm0:absent'\ntimeout = '5s'", 0, 8..=8),
    ] {
        let text = format!("fabric = 'sim'\nvms = 2\nwindow = 8\nduration = '1s'\n{load}");
        let scenario = Scenario::parse("lab.toml", &text).unwrap();
        let mut lab = SimulatedLab::on_switch(experiment::plan(&scenario).unwrap()).unwrap();
        lab.populate(&mut ()).unwrap();
        lab.run(&mut ());
        let totals = lab.report("").totals;
        assert_eq!(totals.sent, sent, "{load}");
        assert!(
            unresolved.contains(&totals.unresolved),
            "{load}: {}",
            totals.unresolved
        );
    }
}
