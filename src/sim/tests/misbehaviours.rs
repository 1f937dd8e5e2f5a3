//! Misbehaviours in virtual time, where what they do to others is known exactly.

use std::time::Duration;

use super::{MS, Switch, WIRE_DELAY};
use crate::experiment::{self, Scenario};
use crate::fabric::{Direction, Instrument, Observed};
use crate::hypervisor::Command;
use crate::lab::{Lab, SimulatedLab};
use crate::record::Cause;
use crate::report::{CauseReport, LossReport, MisbehaviourReport, Report, ResponseReport};
use crate::time::Instant;
use crate::vm::{Flood, Misbehaviour, Misdeed, VmId};
use crate::wire::{EthernetFrame, Payload};

/// A frame takes 10 µs each way.
const RTT: u64 = 20_000;

/// The report of a run of four VMs, of which vm0 pings vm1 and vm2 pings vm3 each millisecond.
fn run(scenario: &str) -> Report {
    let text = format!(
        "fabric = 'sim'\nvms = 4\nping = ['vm0:vm1', 'vm2:vm3']\ninterval = '1ms'\nstagger = '0s'\n\
         timeout = '100ms'\nresolve = 'before'\n{scenario}"
    );
    report_of(&text)
}

/// The lab of a scenario.
fn lab_of(scenario: &str) -> Lab<'static> {
    let parsed = Scenario::parse("test.toml", scenario).unwrap();
    let plan = experiment::plan(&parsed).unwrap_or_else(|error| panic!("{scenario}: {error}"));
    Lab::build(plan, &mut ()).unwrap()
}

/// The report of a scenario's run.
fn report_of(scenario: &str) -> Report {
    let mut lab = lab_of(scenario);
    lab.run(&mut ());
    lab.report("test")
}

fn printed_of(report: &Report) -> String {
    let mut printed = Vec::new();
    crate::report::text(report, &mut printed, 80).unwrap();
    String::from_utf8(printed).unwrap()
}

fn only(report: &Report) -> &MisbehaviourReport {
    let [one] = report.misbehaviours.as_slice() else {
        panic!("{:?}", report.misbehaviours);
    };
    one
}

/// Answered, unanswered, and the median of response.
fn figures(of: &ResponseReport) -> (u64, u64, Option<u64>) {
    (of.answered, of.unanswered, of.response_ns.p50)
}

#[test]
fn response_and_losses_are_told_before_during_and_after_of_those_it_hits_and_of_the_others() {
    let calm = |pings| (pings, 0, Some(RTT));
    let silent = (0, 300, None);
    let slow = (300, 0, Some(5_000_000 + RTT));
    for (what, own, done) in [
        ("silent", silent, &[(Misdeed::Ignored, 300)][..]),
        ("slow 5ms", slow, &[(Misdeed::Delayed, 300)]),
        // The link is down for 30 of 100 ms.
        (
            "flap 100ms/30ms",
            (210, 90, Some(RTT)),
            &[(Misdeed::LinkDown, 3)],
        ),
        ("arp-flood 1000/s", calm(300), &[(Misdeed::Sent, 300)]),
        ("broadcast 2000/s", calm(300), &[(Misdeed::Sent, 600)]),
        ("mac-flood 10000/s", calm(300), &[(Misdeed::Sent, 3000)]),
        ("dhcp-starve 100/s", calm(300), &[(Misdeed::Sent, 30)]),
        ("ra-rogue 10/s", calm(300), &[(Misdeed::Sent, 3)]),
        ("nd-flood 100/s", calm(300), &[(Misdeed::Sent, 30)]),
    ] {
        let report = run(&format!(
            "duration = '1s'\nmisbehave = 'vm3:{what}@200ms+300ms'"
        ));
        let told = only(&report);
        assert_eq!(
            (told.summary.vm, told.summary.what.as_str()),
            (VmId(3), what)
        );
        // The neighbours were asked for first.
        let times = (
            told.summary.began_ns - RTT,
            told.summary.ended_ns.map(|end| end - RTT),
        );
        assert_eq!(times, (200_000_000, Some(500_000_000)));
        let counts: Vec<_> = told
            .summary
            .counts
            .iter()
            .map(|(kind, n)| (*kind, *n))
            .collect();
        assert_eq!(counts, done, "{what}");
        for (flows, during) in [(&told.others, calm(300)), (&told.misbehaving, own)] {
            let (before, after) = (figures(&flows.before), figures(&flows.after));
            assert_eq!((before, after), (calm(200), calm(500)), "{what}");
            assert_eq!(figures(&flows.during), during, "{what}");
            let causes: &[CauseReport] = &flows.during.causes;
            let (lost, by_cause) = (during.1, causes.iter().map(|of| of.count).sum::<u64>());
            assert_eq!(by_cause, lost, "{what}: {causes:?}");
            assert!(
                causes.iter().all(|of| of.cause == Cause::Impaired),
                "{what}: {causes:?}"
            );
            assert!(flows.before.causes.is_empty() && flows.after.causes.is_empty());
        }
        let totals = report.totals;
        assert_eq!(totals.received + totals.failed(), 2000, "{what}");
        let names: Vec<&str> = report.marks.iter().map(|mark| mark.name.as_str()).collect();
        let kind = &told.summary.kind;
        assert_eq!(names, [format!("vm3-{kind}"), format!("vm3-{kind}-over")]);
        let sentence = &report.verdict.sentence;
        assert!(sentence.contains(&format!("vm3 {what}")), "{sentence}");
    }
}

#[test]
fn a_stolen_address_is_lost_to_its_owner_once_that_has_defended_it() {
    // An owner defends an address once in ten seconds (RFC 5227), so the second announcement, a second later, wins.
    let report = run("duration = '4s'\nmisbehave = 'vm3:steal 10.77.0.3@500ms+2s'");
    let told = only(&report);
    assert_eq!(told.summary.counts.get(&Misdeed::Sent), Some(&2));
    assert_eq!(figures(&told.others.before), (500, 0, Some(RTT)));
    let during = &told.others.during;
    // The ping of the same instant is ahead of it.
    assert_eq!((during.answered, during.unanswered), (1001, 999));
    // Whoever was told keeps it: the neighbour is not asked for until it fails to answer.
    assert_eq!(told.others.after.answered, 0);
    assert_eq!(figures(&told.misbehaving.during), (2000, 0, Some(RTT)));
    assert!(!report.addresses.conflicts.is_empty());
}

#[test]
fn what_begins_with_its_phase_begins_before_the_first_ping() {
    let report = run("duration = '100ms'\nmisbehave = 'vm3:silent+50ms'");
    let told = only(&report);
    assert_eq!(figures(&told.misbehaving.before), (0, 0, None));
    assert_eq!(figures(&told.misbehaving.during), (0, 50, None));
}

#[test]
fn who_learns_a_wrong_address_pings_in_vain_until_it_asks_again() {
    // vm2 does not know vm3 yet, and asks meanwhile.
    let text = "resolve = 'at-once'\nduration = '400ms'\nmisbehave = 'vm3:wrong-mac+200ms'";
    let report = run(&text.replace("resolve = 'at-once'\n", ""));
    let told = only(&report);
    // Asked before: nobody has to ask for it again.
    assert_eq!(figures(&told.misbehaving.during), (200, 0, Some(RTT)));
    assert!(told.summary.counts[&Misdeed::Changed] >= 200);
}

#[test]
fn a_looped_port_draws_the_frames_of_others_that_are_flooded() {
    // Requests for unknown neighbours go to all ports, and what comes back from the loop makes the switch believe that whoever
    // asks is behind it.
    let report = run("duration = '400ms'\nmisbehave = 'vm3:loop 1000/s@100ms+200ms'");
    let told = only(&report);
    let reflected = told.summary.counts[&Misdeed::Reflected];
    assert!((200..=210).contains(&reflected), "{reflected}");
    // vm2's request comes back from vm3, so that vm2 is behind vm3's port as the switch sees it: the answer gets nowhere.
    assert_eq!(told.misbehaving.during.answered, 0);
    assert_eq!(figures(&told.others.during), (200, 0, Some(RTT)));
    assert_eq!(figures(&told.misbehaving.after).1, 0);
}

#[test]
fn phases_have_misbehaviours_of_their_own_which_end_with_them_and_those_that_can_not_be_are_told() {
    let report = run(
        "duration = '100ms'\n[[phase]]\nname = 'calm'\n[[phase]]\nname = 'storm'\n\
         misbehave = ['vm3:silent', 'vm1:slow 1ms@50ms']\n[[phase]]\nname = 'calm again'\n\
         stop = 'vm1'\nmisbehave = 'vm1:silent@50ms'",
    );
    let told: Vec<_> = report
        .misbehaviours
        .iter()
        .map(|each| {
            (
                each.summary.vm.0,
                each.summary.began_ns / 1_000_000,
                each.summary.ended_ns.unwrap() / 1_000_000,
            )
        })
        .collect();
    assert_eq!(told, [(3, 100, 200), (1, 150, 200), (1, 250, 250)]);
    let refused: Vec<_> = report
        .misbehaviours
        .iter()
        .map(|each| each.summary.refused.clone())
        .collect();
    let why = "vm1 is not up; expected a VM that is".to_owned();
    assert_eq!(refused, [None, None, Some(why)]);
    let silent = &report.misbehaviours[0];
    // Both flows have an end that misbehaves at some time.
    assert_eq!(silent.others.during, ResponseReport::default());
    assert_eq!(
        (
            silent.misbehaving.before.answered,
            silent.misbehaving.before.unanswered
        ),
        (200, 0)
    );
    assert_eq!(
        (
            silent.misbehaving.during.answered,
            silent.misbehaving.during.unanswered
        ),
        // The last answer of vm1 was held when that stopped.
        (99, 101)
    );
}

#[test]
fn a_misbehaviour_that_is_asked_for_while_the_lab_runs_is_told_as_a_planned_one() {
    let text = "fabric = 'sim'\nvms = 4\nping = ['vm0:vm1', 'vm2:vm3']\ninterval = '1ms'\nstagger = '0s'\n\
                timeout = '10ms'\nduration = '1s'";
    let mut lab = lab_of(text);
    lab.begin(&mut ());
    let at = |millis: u64| Some(Instant::ZERO + Duration::from_micros(millis * 1000 + 500));
    lab.drive(at(200)).unwrap();
    let misbehave = |vm, misbehaviour| Command::Misbehave {
        vm: VmId(vm),
        misbehaviour,
        lasts: None,
    };
    lab.carry_out(misbehave(3, Misbehaviour::Silent)).unwrap();
    let again = lab.carry_out(misbehave(3, Misbehaviour::WrongMac));
    let why = again.unwrap_err().to_string();
    assert!(
        why.contains("vm3 misbehaves already: silent; expected"),
        "{why}"
    );
    let nobody = lab.carry_out(misbehave(9, Misbehaviour::Silent));
    assert!(nobody.unwrap_err().to_string().contains("vm9 is not up"));
    lab.drive(at(500)).unwrap();
    lab.carry_out(Command::Behave(vec![VmId(1), VmId(3)]))
        .unwrap();
    lab.drive(None).unwrap();
    lab.finish(&mut ());
    let report = lab.report("test");
    let told = only(&report);
    // Before it was known who would misbehave, all flows are told as one.
    assert_eq!(
        (
            told.others.before.answered,
            told.misbehaving.before.answered
        ),
        (402, 0)
    );
    assert_eq!(
        (
            told.others.during.answered,
            told.misbehaving.during.unanswered
        ),
        (300, 300)
    );
    assert_eq!(
        (told.others.after.answered, told.misbehaving.after.answered),
        (499, 499)
    );
}

#[test]
fn the_examples_of_the_guide_are_what_the_program_prints() {
    let report = run("duration = '1s'\nmisbehave = 'vm3:silent@200ms+300ms'");
    let printed = printed_of(&report);
    let guide = include_str!("../../guide/misbehaving.md");
    let mut examples = guide.split("```text\n").skip(1);
    let mut example = || examples.next().unwrap().split_once("```").unwrap().0;
    assert!(printed.contains(example()), "{printed}");
    let text = "fabric = 'sim'\nvms = 5\nping = 'vm0:absent'\ninterval = '100ms'\nduration = '1s'\ntimeout = '10ms'\n\
                count-floods = true";
    let printed = printed_of(&report_of(text));
    assert!(printed.contains(example()), "{printed}");
}

#[test]
fn copies_of_floods_are_counted_with_those_that_are_for_nobody_and_the_last_of_them() {
    use crate::record::FloodKind;

    let text = |more: &str| {
        format!(
            "fabric = 'sim'\nvms = 5\nduration = '1s'\ninterval = '10ms'\ntimeout = '10ms'\ncount-floods = true\n{more}"
        )
    };
    let run = |more: &str| report_of(&text(more)).floods;
    // One request for vm1, which vm1 alone is asked by, and ten broadcasts for all.
    let [arp, broadcast] = run("ping = 'vm0:vm1'\nmisbehave = 'vm4:broadcast 10/s'")
        .try_into()
        .unwrap();
    assert_eq!(
        (arp.kind, arp.frames, arp.copies, arp.unwanted),
        (FloodKind::ArpRequest, 1, 4, 3)
    );
    assert_eq!(arp.last_copy_ns.max, Some(10_000));
    assert_eq!(
        (
            broadcast.kind,
            broadcast.frames,
            broadcast.copies,
            broadcast.unwanted
        ),
        (FloodKind::Broadcast, 10, 40, 0)
    );
    assert_eq!((broadcast.amplification, broadcast.most_vms), (4.0, 4));
    // Nobody has that address, and whoever is asked for it did not want to be.
    let [arp] = run("ping = 'vm0:absent'").try_into().unwrap();
    assert!(
        arp.frames >= 3 && arp.copies == 4 * arp.frames && arp.unwanted == arp.copies,
        "{arp:?}"
    );
    // Frames to random stations, and to a group that nobody is in.
    let [multicast, unicast] = run(
        "ping = 'vm0:vm1'\nresolve = 'static'\nmisbehave = ['vm4:mac-flood 10/s', 'vm3:ra-rogue 10/s']",
    )
    .try_into()
    .unwrap();
    let counts = |of: crate::report::FloodReport| (of.frames, of.copies, of.unwanted, of.repeated);
    assert_eq!(
        (multicast.kind, unicast.kind),
        (FloodKind::Multicast, FloodKind::UnknownUnicast)
    );
    assert_eq!(counts(multicast), (10, 40, 40, 0));
    // The first ping does not: the switch is told where vm1 is, as its neighbours are.
    assert_eq!(counts(unicast), (10, 40, 40, 0));
    let error = Scenario::parse("t.toml", &text("ping = 'vm0:vm1'\nfilter = 'on'")).unwrap();
    let error = experiment::plan(&error).unwrap_err().to_string();
    assert!(
        error.contains("cannot be used with --count-floods"),
        "{error}"
    );
}

#[test]
fn a_vm_may_misbehave_in_another_way_from_the_instant_on_at_which_it_ceases_to_in_one() {
    let report = run(
        "duration = '400ms'\nmisbehave = ['vm3:silent@100ms+100ms', 'vm3:arp-flood 100/s@200ms+100ms']",
    );
    let told = report.misbehaviours.iter();
    let told: Vec<_> = told
        .map(|each| (each.summary.kind.as_str(), each.summary.refused.is_none()))
        .collect();
    assert_eq!(told, [("silent", true), ("arp-flood", true)]);
    assert_eq!(
        report.misbehaviours[1].summary.counts.get(&Misdeed::Sent),
        Some(&10)
    );
    let during: Vec<_> = report
        .misbehaviours
        .iter()
        .map(|each| each.misbehaving.during.answered)
        .collect();
    assert_eq!(during, [0, 100]);
}

#[test]
fn each_of_many_misbehaviours_is_told_however_many_marks_there_are() {
    let each = (0..100).map(|number| format!("'vm3:silent@{}ms+5ms'", 10 + 10 * number));
    let each: Vec<String> = each.collect();
    let report = run(&format!(
        "duration = '1200ms'\nmisbehave = [{}]",
        each.join(", ")
    ));
    assert!(report.marks_untold > 0);
    assert_eq!(report.misbehaviours.len(), 100);
    for told in &report.misbehaviours {
        let [others, misbehaving] = [&told.others, &told.misbehaving];
        assert_eq!(
            figures(&others.before).0,
            5 + 5 * u64::from(told.summary.began_ns < 15_000_000)
        );
        assert_eq!(figures(&others.during), (5, 0, Some(RTT)));
        assert_eq!(figures(&misbehaving.during), (0, 5, None));
        assert!(others.after.answered >= 5);
    }
}

#[test]
fn what_is_over_or_did_not_begin_costs_no_later_frame_anything() {
    for (scenario, goes_on) in [
        ("misbehave = 'vm3:slow 5ms@200ms'", true),
        ("misbehave = 'vm3:slow 5ms@200ms+300ms'", false),
        ("misbehave = 'vm3:flap 100ms/30ms@200ms+300ms'", false),
        // It is not up.
        ("stop = 'vm3'\nmisbehave = 'vm3:silent@200ms+300ms'", false),
        ("move = 'vm3:leaf1@200ms'", false),
        ("move = 'vm4:leaf1@200ms,announce=none'", true),
        // Nobody talks to it before it stops.
        (
            "duration = '300ms'\nmove = 'vm4:leaf1@200ms,announce=none'\n[[phase]]\nstop = 'vm4'",
            false,
        ),
    ] {
        let parsed = Scenario::parse(
            "test.toml",
            &format!(
                "fabric = 'sim'\nvms = 5\nping = ['vm0:vm1', 'vm2:vm3']\ninterval = '1ms'\nduration = '1s'\n[[phase]]\n{scenario}"
            ),
        );
        let plan = experiment::plan(&parsed.unwrap());
        let plan = plan.unwrap_or_else(|error| panic!("{scenario}: {error}"));
        let mut lab = SimulatedLab::new(Switch::new(WIRE_DELAY), plan).unwrap();
        lab.populate(&mut ()).unwrap();
        lab.begin(&mut ());
        assert!(!lab.hypervisor().fabric().is_watched(), "{scenario}");
        lab.drive(Some(lab.now() + MS * 800)).unwrap();
        let is_watched = lab.hypervisor().fabric().is_watched();
        assert_eq!(is_watched, goes_on, "{scenario}");
    }
}

#[test]
fn pings_of_a_warm_up_are_in_none_of_the_times() {
    let report = run("warmup = '500ms'\nduration = '500ms'\nmisbehave = 'vm3:silent@100ms+100ms'");
    let told = only(&report);
    for flows in [&told.others, &told.misbehaving] {
        let pings = |of: &ResponseReport| of.answered + of.unanswered;
        let pings = [&flows.before, &flows.during, &flows.after].map(pings);
        assert_eq!(
            pings.iter().sum::<u64>(),
            report.totals.ended() / 2,
            "{pings:?}"
        );
    }
}

#[test]
fn what_is_done_to_frames_goes_on_when_the_first_frames_of_a_moved_vm_were_seen() {
    for (what, lost) in [
        ("impair = 'vm0:in:every=10'", 20),
        ("misbehave = 'vm0:silent'", 200),
    ] {
        let report = report_of(&format!(
            "fabric = 'sim'\nvms = 2\nping = 'vm0:vm1'\ninterval = '1ms'\ncount = 200\nresolve = 'static'\n\
             timeout = '100ms'\nmove = 'vm1:leaf1@50ms'\n{what}"
        ));
        assert_eq!(report.totals.lost, lost, "{what}");
    }
}

/// A lab of so many VMs that has begun, and in which nobody misbehaves yet.
fn begun(vms: u32) -> Lab<'static> {
    let mut lab = lab_of(&format!(
        "fabric = 'sim'\nvms = {vms}\nping = 'vm0:vm1'\ninterval = '1ms'\nduration = '10ms'\ntimeout = '1ms'"
    ));
    lab.begin(&mut ());
    lab
}

const fn by_command(vm: u32, misbehaviour: Misbehaviour) -> Command {
    Command::Misbehave {
        vm: VmId(vm),
        misbehaviour,
        lasts: None,
    }
}

#[test]
fn a_command_for_a_misbehaviour_beyond_its_bounds_is_refused_with_what_is_expected() {
    let ms = Duration::from_millis;
    let flap = |period, down| Misbehaviour::Flap { period, down };
    let flood = |rate| Misbehaviour::Flood(Flood::Arp, rate);
    let mut lab = begun(2);
    for (misbehaviour, expected) in [
        (flap(ms(0), ms(0)), "expected a period of 10ms or more"),
        (flap(ms(10), ms(20)), "expected a period of 10ms or more"),
        (flap(ms(10), ms(10)), "expected a period of 10ms or more"),
        (flap(Duration::MAX, ms(10)), "expected a period of 10ms"),
        (flood(0), "expected a rate of frames from 1/s to 100000/s"),
        (flood(u32::MAX), "expected a rate of frames from 1/s"),
        (Misbehaviour::Loop(0), "expected a rate of frames from 1/s"),
        (Misbehaviour::Loop(100_001), "expected a rate of frames"),
        (Misbehaviour::Slow(ms(0)), "expected a time up to an hour"),
        (Misbehaviour::Slow(Duration::MAX), "expected a time up to"),
        (
            Misbehaviour::Steal("255.255.255.255".parse().unwrap()),
            "expected the address of one host",
        ),
        (
            Misbehaviour::Steal("ff02::1".parse().unwrap()),
            "expected the address of one host",
        ),
        (
            Misbehaviour::Steal("10.77.0.3".parse().unwrap()),
            "10.77.0.3 is vm1's own address; expected another's",
        ),
    ] {
        let refused = lab.carry_out(by_command(1, misbehaviour));
        let refused = refused.expect_err(expected).to_string();
        assert!(refused.contains(expected), "{misbehaviour:?}: {refused}");
    }
    lab.carry_out(by_command(1, flap(ms(10), ms(9)))).unwrap();
    lab.carry_out(by_command(0, flood(100_000))).unwrap();
    lab.drive(None).unwrap();
    lab.finish(&mut ());
    let report = lab.report("test");
    assert_eq!(report.misbehaviours.len(), 2);
}

#[test]
fn floods_that_are_asked_for_one_after_the_other_make_no_more_copies_together_than_one_may() {
    let flood = |rate| Misbehaviour::Flood(Flood::Mac, rate);
    let mut lab = begun(6);
    lab.carry_out(by_command(1, flood(30_000))).unwrap();
    lab.carry_out(by_command(2, Misbehaviour::Silent)).unwrap();
    let beyond = lab.carry_out(by_command(3, flood(20_001))).unwrap_err();
    let why = "vm3 can't do mac-flood 20001/s: 50001 frames/s, each to 5 others, are 250005 copies a second; expected 50000";
    assert!(beyond.to_string().contains(why), "{beyond}");
    lab.carry_out(by_command(3, flood(20_000))).unwrap();
    let looped = lab.carry_out(by_command(4, Misbehaviour::Loop(1)));
    looped.unwrap_err();
    // Who behaves again makes room, and who stops does.
    lab.carry_out(Command::Behave(vec![VmId(1)])).unwrap();
    lab.carry_out(by_command(4, flood(30_000))).unwrap();
    lab.carry_out(Command::StopVms(vec![VmId(4)])).unwrap();
    lab.carry_out(by_command(5, flood(42_500))).unwrap();
}

#[test]
fn a_planned_misbehaviour_for_which_there_is_no_room_is_told() {
    let mut lab = lab_of(
        "fabric = 'sim'\nvms = 3\nping = 'vm0:vm1'\ninterval = '1ms'\nduration = '10ms'\ntimeout = '1ms'\n\
         misbehave = ['vm1:silent@5ms', 'vm2:silent@6ms']",
    );
    lab.begin(&mut ());
    for _ in 0..256 {
        lab.carry_out(by_command(0, Misbehaviour::Silent)).unwrap();
        lab.carry_out(Command::Behave(vec![VmId(0)])).unwrap();
    }
    lab.carry_out(by_command(0, Misbehaviour::Silent))
        .unwrap_err();
    lab.drive(None).unwrap();
    lab.finish(&mut ());
    let report = lab.report("test");
    let refused = report.misbehaviours.iter();
    let refused: Vec<_> = refused
        .filter_map(|each| each.summary.refused.as_deref())
        .collect();
    assert_eq!(
        refused,
        ["there were 256 misbehaviours already; expected no more in a run"; 2]
    );
}

#[test]
fn a_misbehaviour_that_begins_late_ends_in_time_for_the_next_one() {
    use super::{MS, Pacing, empty_lab, phase};
    use crate::hypervisor::PlannedMisbehaviour;
    use crate::sim::{Switch, WIRE_DELAY};

    let mut lab = empty_lab(2, Switch::new(WIRE_DELAY));
    lab.populate(&mut ()).unwrap();
    let planned = |after, misbehaviour| PlannedMisbehaviour {
        after,
        vm: VmId(1),
        misbehaviour,
        lasts: Some(100 * MS),
    };
    let mut only = phase("", 0, Pacing::Interval(MS), None, Some(MS * 400));
    only.misbehaviours = vec![
        planned(100 * MS, Misbehaviour::Silent),
        planned(200 * MS, Misbehaviour::WrongMac),
        planned(300 * MS, Misbehaviour::Silent),
    ];
    let hypervisor = lab.hypervisor();
    hypervisor.start(Instant::ZERO, vec![only]);
    // The driver comes to them late, as a real one does; once so late that there is one of them between.
    for micros in [100_060, 200_040, 400_500] {
        let now = Instant::ZERO + Duration::from_micros(micros);
        while hypervisor.carry_out_due(now).unwrap() {}
    }
    let told: Vec<_> = hypervisor
        .fabric()
        .misbehaviours()
        .into_iter()
        .map(|each| (each.began.as_nanos() / 1000, each.refused))
        .collect();
    assert_eq!(told, [(100_060, None), (200_040, None), (400_500, None)]);
}

/// Keeps the ARP senders of the frames that VMs send.
#[derive(Debug)]
struct Senders(std::sync::mpsc::Sender<(VmId, std::net::Ipv4Addr)>);

impl Instrument for Senders {
    fn frame(&mut self, _: Instant, observed: &Observed<'_>) {
        let frame = EthernetFrame::parse(observed.frame).unwrap();
        if let (Direction::Out, Ok(Payload::Arp(arp))) = (observed.direction, frame.payload()) {
            self.0.send((observed.vm, arp.sender)).unwrap();
        }
    }
}

#[test]
fn a_vm_that_floods_before_it_has_an_address_asks_in_its_own_name_once_it_has() {
    // It makes sure that nobody else has the address first, which takes seconds.
    let probing = |_, config: &mut crate::vm::VmConfig| config.ipv4.probe = true;
    let mut lab = super::changed_lab(3, super::MS, probing);
    let (sender, senders) = std::sync::mpsc::channel();
    lab.hypervisor().fabric().add(Box::new(Senders(sender)));
    let flood = by_command(2, Misbehaviour::Flood(Flood::Arp, 10));
    lab.carry_out(flood).unwrap();
    super::run(
        lab.hypervisor(),
        Instant::ZERO,
        Instant::ZERO + Duration::from_secs(20),
    );
    let flooded: Vec<_> = senders
        .try_iter()
        .filter(|(vm, _)| *vm == VmId(2))
        .collect();
    assert!(flooded.first().unwrap().1.is_unspecified());
    assert_eq!(
        flooded.last().unwrap().1,
        std::net::Ipv4Addr::new(10, 0, 0, 4)
    );
}

/// What pings of a report were lost to: cause, part, place and reason, and their number.
fn losses(report: &Report) -> Vec<(String, u64)> {
    let words = |row: &LossReport| {
        let reason = row.reason.as_deref().unwrap_or("");
        let (cause, part) = (row.cause.name(), row.direction.word());
        format!("{cause} {part} {} {reason}", row.place)
    };
    let rows = report.losses.iter();
    rows.map(|row| (words(row), row.count)).collect()
}

#[test]
fn pings_that_a_misbehaviour_costs_are_put_down_to_what_became_of_their_frames() {
    let before = "resolve = 'before'\nduration = '2s'";
    let at_once = "resolve = 'at-once'\nduration = '100ms'";
    /// What is done, with the rest of the scenario, and the losses that it costs.
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, u64)]);
    let told = |(what, when, _): &Case<'_>| {
        let report = report_of(&format!(
            "fabric = 'sim'\nvms = 4\nping = ['vm0:vm1', 'vm2:vm3']\ninterval = '1ms'\nstagger = '0s'\n\
             timeout = '20ms'\n{when}\nmisbehave = ['{what}']"
        ));
        losses(&report)
    };
    let cases: [Case<'_>; 10] = [
        (
            "vm1:silent@100ms+100ms",
            before,
            &[("impaired request vm1 silent", 100)],
        ),
        // What it holds still when a ping is given up; what it has sent by then, and what it drops as it begins to do something else.
        (
            "vm1:slow 10s@100ms+100ms",
            before,
            &[("impaired reply vm1 slow", 100)],
        ),
        (
            "vm0:slow 10s@100ms+100ms",
            before,
            &[("impaired request vm0 slow", 100)],
        ),
        (
            "vm1:slow 15ms@100ms+100ms', 'vm1:silent@200ms+100ms",
            before,
            &[
                ("impaired request vm1 silent", 100),
                ("impaired reply vm1 slow", 15),
            ],
        ),
        // The switch forgets where it is and floods requests for it: that others get them is not why it does not.
        (
            "vm1:flap 100ms/30ms@100ms+200ms",
            before,
            &[("impaired request vm1 flap", 60)],
        ),
        (
            "vm0:flap 100ms/30ms@100ms+200ms",
            before,
            &[
                ("impaired request vm0 flap", 59),
                // The ping of the instant at which it goes down.
                ("impaired reply vm0 flap", 1),
            ],
        ),
        // The thief gets what is for the owner: requests, or the replies to the owner's own.
        (
            "vm3:steal 10.77.0.3@100ms",
            before,
            &[("delivered_elsewhere request vm3 not_for_our_ip", 899)],
        ),
        (
            "vm3:steal 10.77.0.2@100ms",
            before,
            &[("delivered_elsewhere reply vm3 not_for_our_ip", 900)],
        ),
        (
            "vm3:loop@100ms+200ms",
            before,
            &[("in_bridge reply vm3 SAME_PORT", 200)],
        ),
        // Who is asked under a wrong address does not listen to that.
        (
            "vm1:wrong-mac",
            at_once,
            &[("ignored request vm1 not_for_our_mac", 100)],
        ),
    ];
    let found = cases.each_ref().map(told);
    let expected = cases.map(|(.., rows)| {
        let rows = rows
            .iter()
            .map(|(words, count)| ((*words).to_owned(), *count));
        rows.collect::<Vec<_>>()
    });
    assert_eq!(found, expected);
}

#[test]
fn frames_of_streams_that_a_slow_vm_holds_at_the_end_are_put_down_to_it() {
    let report = report_of(
        "fabric = 'sim'\nvms = 2\nstream = ['vm0:vm1']\nrate = '500'\ncount = 20\nmisbehave = 'vm0:slow 9s'",
    );
    let rows = report.stream_losses.iter();
    let words = |row: &LossReport| {
        (
            row.cause.name(),
            row.place.clone(),
            row.reason.clone(),
            row.count,
        )
    };
    let found: Vec<_> = rows.map(words).collect();
    let slow = ("impaired", "vm0".to_owned(), Some("slow".to_owned()), 20);
    assert_eq!(found, [slow]);
}

#[test]
fn pings_for_no_vm_of_the_run_go_to_who_has_stolen_the_address_of_the_one_or_of_the_router() {
    for (target, router) in [("10.77.0.99", ""), ("192.0.2.7", "gateway = '10.77.0.99'")] {
        let report = report_of(&format!(
            "fabric = 'sim'\nvms = 3\nping = ['vm0:{target}']\ninterval = '10ms'\ncount = 20\ntimeout = '20ms'\n{router}\n\
             misbehave = 'vm2:steal 10.77.0.99'"
        ));
        let what = "delivered_elsewhere request vm2 not_for_our_ip".to_owned();
        assert_eq!(losses(&report), [(what, 20)], "{target}");
    }
}
