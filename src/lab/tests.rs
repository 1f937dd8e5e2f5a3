//! Whole runs in virtual time, from the words of a scenario to what is amiss with them.

use super::*;
use crate::experiment::{self, FlowPlan, Scenario};
use crate::fabric::{INSTRUMENTS, InstrumentConfig, WriteTo};
use crate::hypervisor::Phase;
use crate::load::Pacing;
use crate::reactor::End;
use crate::record::{DropReason, Metric};
use crate::report::Expectation;
use crate::system::SystemError;
use crate::time::{Instant, unix_nanos};

/// Runs a simulated scenario. Returns what was measured, and what is amiss where `expectations` judge.
fn run_expecting(scenario: &str, expectations: &[&str]) -> (Report, Vec<String>) {
    let text = format!("fabric = \"sim\"\n{scenario}");
    let scenario = Scenario::parse("test.toml", &text).unwrap();
    let experiment = experiment::plan(&scenario).unwrap();
    let expectations: Vec<Expectation> = expectations
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    let mut lab = Lab::build(&experiment, &mut ()).unwrap();
    lab.run(&mut ());
    let mut report = lab.report("test");
    lab.judge(&mut report, &expectations);
    lab.close().unwrap();
    let amiss = report.shortcomings.clone().unwrap();
    (report, amiss)
}

fn run_of(scenario: &str) -> Report {
    run_expecting(scenario, &[]).0
}

#[test]
fn waiting_for_a_neighbour_is_resolution_and_not_lateness() {
    let report = run_of(
        "ping = \"vm0:vm1\"\nimpair = \"delay=9990us\"\ninterval = \"50ms\"\ncount = 50\nstagger = \"0s\"",
    );
    let max = |metric| report.summaries[metric].max;
    assert_eq!(max(Metric::Lateness), Some(0));
    assert_eq!(max(Metric::Resolution), Some(20_000_000));
    assert!(
        !report.verdict.limited_by_tool,
        "{}",
        report.verdict.sentence
    );
}

#[test]
fn rates_are_those_of_the_schedule_whatever_becomes_of_the_last_ping() {
    // What the plan says, and what the run is to have: seconds, pings sent a second, and whether the last ping may be lost.
    for (plan, seconds, rate) in [
        (
            "rate = 1000\nduration = \"2s\"\nimpair = \"in:loss=1%\"",
            2.0,
            1000.0,
        ),
        (
            "rate = 1000\nduration = \"2s\"\nimpair = \"loss=100%\"\ntimeout = \"5s\"",
            2.0,
            1000.0,
        ),
        ("rate = 0.5\nduration = \"4s\"", 4.0, 0.5),
        ("rate = 100\nduration = \"1s\"", 1.0, 100.0),
        ("rate = 100\ncount = 7", 0.07, 100.0),
        ("interval = \"10ms\"\ncount = 1", 0.01, 100.0),
        ("interval = \"10ms\"\ncount = 100", 1.0, 100.0),
        (
            "interval = \"10ms\"\ncount = 100\nduration = \"9s\"",
            1.0,
            100.0,
        ),
        (
            "interval = \"10ms\"\ncount = 100\nduration = \"500ms\"",
            0.5,
            100.0,
        ),
    ] {
        let report = run_of(&format!("resolve = \"static\"\nping = \"vm0:vm1\"\n{plan}"));
        assert_eq!(report.elapsed_ns as f64 / 1e9, seconds, "{plan}");
        let sent = report.totals.sent as f64 / seconds;
        assert!((sent - rate).abs() < 1e-9, "{plan}: {sent}");
        let answered = report.totals.received as f64 / seconds;
        assert!((report.rate_per_s - answered).abs() < 1e-3, "{plan}");
    }
}

#[test]
fn each_step_of_a_ramp_is_offered_what_it_says_and_their_times_sum_to_the_runs() {
    let report = run_of(
        "resolve = \"static\"\nping = \"vm0:vm1\"\nramp = \"1000:5000:5\"\nduration = \"5s\"\nimpair = \"in:loss=1%\"",
    );
    let offered: Vec<f64> = report.phases.iter().map(|phase| phase.sent_per_s).collect();
    assert_eq!(offered, [1000.0, 2000.0, 3000.0, 4000.0, 5000.0]);
    let times: u64 = report.phases.iter().map(|phase| phase.elapsed_ns).sum();
    assert_eq!((times, report.elapsed_ns), (5_000_000_000, 5_000_000_000));
}

#[test]
fn an_unanswered_ping_is_waited_for_and_that_is_told_apart() {
    let report = run_of(
        "resolve = \"static\"\nping = \"vm0:vm1\"\nimpair = \"loss=100%\"\ninterval = \"10ms\"\ncount = 10\ntimeout = \"3s\"",
    );
    assert_eq!((report.totals.sent, report.totals.lost), (10, 10));
    assert_eq!(
        (report.elapsed_ns, report.waited_ns),
        (100_000_000, 2_990_000_000)
    );
}

#[test]
fn a_closed_loop_takes_as_long_as_its_replies() {
    let report = run_of(
        "resolve = \"static\"\nping = \"vm0:vm1\"\nimpair = \"delay=990us\"\nwindow = 1\ncount = 50\ntimeout = \"5s\"",
    );
    assert_eq!((report.elapsed_ns, report.waited_ns), (100_000_000, 0));
    assert_eq!(report.rate_per_s, 500.0);
}

#[test]
fn a_simulation_ends_where_its_plan_does_however_long_that_takes() {
    let report = run_of("ping = \"vm0:vm1\"\ninterval = \"1h\"\ncount = 100");
    assert_eq!((report.totals.sent, report.totals.received), (100, 100));
}

#[test]
fn what_is_amiss_is_said_and_an_expectation_about_loss_decides_alone_about_it() {
    let fine: &[&str] = &[];
    let lossy = "ping = \"vm0:vm1\"\nresolve = \"static\"\nimpair = \"loss=100%\"\ncount = 3\ninterval = \"1ms\"";
    let absent = "ping = \"vm0:10.77.0.99\"\ncount = 3\ninterval = \"1ms\"";
    let unsent = "ping = \"vm0:vm1\"\nduration = \"100ms\"\nstagger = \"100s\"\nseed = 3";
    let absent_says = "pings not sent because their neighbour did not answer: 3";
    let astray = "slaac = true\nping = \"vm0:2001:db8::1\"\ncount = 3\ninterval = \"1ms\"";
    let astray_says = "pings not sent because no route led to their target: 3";
    let crowded =
        "ping = \"vm0:vm1\"\nprobe = \"tcp\"\nrate = 50000\ncount = 30000\ntcp-hold = \"10s\"";
    let crowded_says = "pings not sent because all ports were in use: 1768";
    let table: [(&str, &[&str], &[&str]); 14] = [
        (crowded, &[], &[crowded_says]),
        (astray, &[], &[astray_says]),
        ("ping = \"vm0:vm1\"\ncount = 3", &[], fine),
        (lossy, &[], &["pings not answered: 3"]),
        (lossy, &["loss<=100%"], fine),
        // Whether it holds is another matter.
        (lossy, &["loss<1%"], fine),
        (lossy, &["lost<5"], fine),
        (lossy, &["p99<1s", "corrupt=0"], &["pings not answered: 3"]),
        (absent, &[], &[absent_says]),
        (absent, &["lost=0"], &[absent_says]),
        (absent, &["unresolved=3"], fine),
        (unsent, &[], &["no ping was sent"]),
        (unsent, &["loss<1%"], &["no ping was sent"]),
        ("duration = \"1s\"", &[], fine),
    ];
    for (plan, expectations, expected) in table {
        let (_, amiss) = run_expecting(plan, expectations);
        assert_eq!(amiss, expected, "{plan} {expectations:?}");
    }
}

#[test]
fn frames_that_were_not_carried_are_amiss_but_for_the_queues_of_a_simulated_switch() {
    let text = "ping = \"vm0:vm1\"\ncount = 1";
    let plan = experiment::plan(&Scenario::parse("test.toml", text).unwrap()).unwrap();
    let answered = run_of("ping = \"vm0:vm1\"\ncount = 1");
    for reason in DropReason::ALL {
        let mut report = answered.clone();
        report.drops.add(*reason, 7);
        let mut amiss = |simulated| {
            report.fabric.as_mut().unwrap().simulated = simulated;
            completeness::shortcomings(&plan, &report, Some(End::Done), &[])
        };
        let counts = matches!(
            reason,
            DropReason::TooManyOutstanding
                | DropReason::QueueFull
                | DropReason::LinkDown
                | DropReason::Refused
                | DropReason::ReadFailed
                | DropReason::TapQueue
        );
        let of_taps = amiss(false);
        assert_eq!(of_taps.len(), usize::from(counts), "{reason}: {of_taps:?}");
        let counts = counts && *reason != DropReason::TapQueue;
        assert_eq!(amiss(true).len(), usize::from(counts), "{reason}");
    }
    let mut report = answered.clone();
    report.totals.unsent = 2;
    let amiss = completeness::shortcomings(&plan, &report, Some(End::Done), &[]);
    assert_eq!(amiss, ["pings that were due and not sent in time: 2"]);
}

#[test]
fn a_run_that_is_ended_before_all_was_sent_says_so() {
    let report = run_of("ping = \"vm0:vm1\"\ncount = 3");
    let planned = |count: &str| {
        let text = format!("fabric = \"sim\"\nping = \"vm0:vm1\"\n{count}");
        experiment::plan(&Scenario::parse("test.toml", &text).unwrap()).unwrap()
    };
    let end = Some(End::Signal(nix::sys::signal::Signal::SIGTERM));
    for (plan, expected) in [
        ("count = 3", None),
        (
            "count = 4",
            Some("SIGTERM came when 3 of 4 pings had been sent"),
        ),
        ("", None),
        (
            "duration = \"9s\"",
            Some("SIGTERM came before the run was over, when 3 pings had been sent"),
        ),
        (
            "[[phase]]\ncount = 1\n[[phase]]\nduration = \"9s\"\ncount = 9",
            Some("SIGTERM came before the run was over, when 3 pings had been sent"),
        ),
        // The last phase has no end.
        ("[[phase]]\nduration = \"9s\"\n[[phase]]", None),
    ] {
        let amiss = completeness::shortcomings(&planned(plan), &report, end, &[]);
        assert_eq!(amiss.first().map(String::as_str), expected, "{plan}");
    }
}

#[test]
fn what_queues_did_not_take_is_in_the_report() {
    let report =
        run_of("ping = \"vm0:vm1\"\ntxqueuelen = 3\nwindow = 10\ncount = 10\ntimeout = \"50ms\"");
    assert_eq!(report.totals.lost, 7, "three of ten fit");
    assert_eq!(report.drops.get(DropReason::TapQueue), 7);
    // They are the network's that was asked for.
    assert!(
        report.verdict.is_of_network(),
        "{}",
        report.verdict.sentence
    );
}

#[test]
fn a_phase_lasts_its_duration_even_if_nothing_is_due_in_it() {
    let report = run_of(
        "vms = 4\n\
         [[phase]]\nname = \"first\"\nping = [\"vm0:vm1\"]\nduration = \"300ms\"\n\
         [[phase]]\nname = \"gap\"\nping = [\"vm2:vm3\"]\nduration = \"1s\"\n\
         [[phase]]\nname = \"last\"\nping = [\"vm2:vm3\"]\nduration = \"300ms\"\nstart = [\"vm2\"]\n\
         [[phase]]\nname = \"counted\"\nping = [\"vm0:vm1\"]\nduration = \"9s\"\ncount = 5\n",
    );
    let told: Vec<_> = report
        .phases
        .iter()
        .map(|phase| {
            (
                phase.name.as_str(),
                phase.elapsed_ns / 1_000_000,
                phase.totals.sent > 0,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("first", 300, true),
            ("gap", 1_000, false),
            ("last", 300, true),
            // A count is over when it is reached.
            ("counted", 50, true)
        ]
    );
}

#[test]
fn a_signal_that_came_while_a_simulation_was_made_ends_it_with_a_report() {
    let text = "fabric = \"sim\"\nping = \"vm0:vm1\"";
    let plan = experiment::plan(&Scenario::parse("test.toml", text).unwrap()).unwrap();
    let mut lab = Lab::build(&plan, &mut ()).unwrap();
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap(); // to this thread alone
    lab.run(&mut ());
    let mut report = lab.report("test");
    assert!(report.interrupted);
    assert_eq!(report.totals.sent, 0);
    assert!(!lab.judge(&mut report, &[]));
    assert_eq!(report.why_failed(), ["no ping was sent"]);
    lab.close().unwrap();
}

#[test]
fn a_run_that_the_system_has_ended_is_not_complete_though_every_ping_was_answered() {
    let text = "fabric = \"sim\"\nping = \"vm0:vm1\"\ncount = 3";
    let plan = experiment::plan(&Scenario::parse("test.toml", text).unwrap()).unwrap();
    let mut lab = SimulatedLab::on_switch(Cow::Borrowed(&plan)).unwrap();
    lab.populate(&mut ()).unwrap();
    lab.run(&mut ());
    let mut report = lab.report("test");
    assert!(lab.judge(&mut report, &[]));
    lab.failed = Some(SystemError::refused("poll", "no reason"));
    assert!(!lab.judge(&mut report, &[]));
    let [why] = report.why_failed().try_into().unwrap();
    assert!(why.starts_with("the run has failed: poll"), "{why}");
    assert!(lab.close().is_err());
}

#[test]
fn flows_and_vms_are_told_by_name_and_address() {
    let report = run_of("vms = 3\nping = [\"vm0:vm2\", \"vm1:10.77.0.99\"]\ncount = 1");
    let told: Vec<_> = report
        .flows
        .iter()
        .map(|flow| {
            (
                flow.src.as_str(),
                flow.dst.as_str(),
                flow.address.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("vm0", "vm2", Some("10.77.0.4")),
            ("vm1", "10.77.0.99", None)
        ]
    );
    let serving = |text: &str| {
        let scenario = Scenario::parse("test.toml", text).unwrap();
        names::serving(&experiment::plan(&scenario).unwrap())
    };
    assert_eq!(
        serving("vms = 3\nduration = \"5s\""),
        "serving vm0 to vm2 at 10.77.0.2 to 10.77.0.4 for 5s"
    );
    assert_eq!(
        serving("vms = 1\ndhcp = true"),
        "serving vm0, its address by DHCP, until SIGINT or SIGTERM"
    );
}

#[test]
fn phases_that_are_planned_are_known_by_name_before_they_begin() {
    let text = "ping = \"vm0:vm1\"\n[[phase]]\nname = \"a\"\nwarmup = \"1s\"\nduration = \"1s\"\n[[phase]]\nname = \"b\"";
    let plan = experiment::plan(&Scenario::parse("test.toml", text).unwrap()).unwrap();
    let names = build::phase_names(&plan);
    let told: Vec<_> = names
        .iter()
        .map(|(name, counted)| (name.as_str(), *counted))
        .collect();
    assert_eq!(told, [("warm-up", false), ("a", true), ("b", true)]);
}

#[test]
fn the_time_at_zero_follows_from_that_of_the_start() {
    // It was an hour earlier when time began, an hour ago.
    const HOUR: u64 = 3_600_000_000_000;
    let before = unix_nanos().unwrap() - HOUR;
    let at_zero = build::unix_nanos_at_zero(Instant::from_nanos(HOUR));
    let after = unix_nanos().unwrap() - HOUR;
    assert!(
        (before..=after).contains(&at_zero),
        "{before} {at_zero} {after}"
    );
}

/// The VM or else the address of each member of the first flow, with the pings that it answered and those it did not.
fn members(report: &Report) -> Vec<(&str, u64, u64)> {
    let members = report.flows[0].members.iter();
    let members = members.map(|member| {
        let name = member.vm.as_ref().unwrap_or(&member.address);
        (name.as_str(), member.received, member.lost)
    });
    members.collect()
}

#[test]
fn a_run_waits_for_every_member_of_a_group_and_says_which_have_not_answered() {
    for (name, plan, expectations, vm1, vm2, sentences) in [
        (
            "all answer",
            "",
            &[] as &[&str],
            (10, 0),
            (10, 0),
            &[] as &[&str],
        ),
        (
            "a duplicate is not another member's",
            "impair = [\"vm1:delay=5ms\", \"vm2:duplicate=100%\"]",
            &[],
            (10, 0),
            (10, 0),
            &[],
        ),
        (
            "a dead member",
            "impair = \"vm2:loss=100%\"",
            &["lost=0", "loss<1%"],
            (10, 0),
            (0, 10),
            &["vm2 answered 0 of 10 pings to 239.1.2.3"],
        ),
        (
            "a dead member that is expected",
            "impair = \"vm2:loss=100%\"",
            &["member_lost=10"],
            (10, 0),
            (0, 10),
            &[],
        ),
        (
            "a late member",
            "impair = \"vm2:delay=300ms\"\ntimeout = \"100ms\"",
            &[],
            (10, 0),
            (0, 10),
            &["vm2 answered 0 of 10 pings to 239.1.2.3"],
        ),
        (
            "nobody answers",
            "impair = \"vm0:loss=100%\"",
            &[],
            (0, 10),
            (0, 10),
            &[
                "pings not answered: 10",
                "vm1 answered 0 of 10 pings to 239.1.2.3",
                "vm2 answered 0 of 10 pings to 239.1.2.3",
            ],
        ),
        (
            "a closed loop",
            "impair = \"vm2:loss=100%\"\nwindow = 2",
            &["member_lost>0"],
            (10, 0),
            (0, 10),
            &[],
        ),
    ] {
        let interval = if plan.contains("window") {
            ""
        } else {
            "interval = \"50ms\"\n"
        };
        let scenario = format!(
            "vms = 3\njoin = [\"239.1.2.3\"]\nping = \"multicast\"\ncount = 10\n{interval}{plan}"
        );
        let (report, amiss) = run_expecting(&scenario, expectations);
        let expected = [("vm1", vm1.0, vm1.1), ("vm2", vm2.0, vm2.1)];
        assert_eq!(members(&report), expected, "{name}");
        assert_eq!(report.totals.member_lost, vm1.1 + vm2.1, "{name}");
        assert_eq!(amiss, sentences, "{name}");
        assert_eq!(report.totals.late > 0, name == "a late member", "{name}");
    }
}

#[test]
fn members_of_link_local_groups_are_told_once() {
    for group in ["ff02::fb", "ff02::1:3", "ff05::1:3"] {
        let scenario = format!("vms = 3\njoin = [\"{group}\"]\nping = \"multicast\"\ncount = 2");
        let (report, amiss) = run_expecting(&scenario, &[]);
        assert_eq!(members(&report), [("vm1", 2, 0), ("vm2", 2, 0)], "{group}");
        assert_eq!(amiss, [""; 0], "{group}");
        for member in &report.flows[0].members {
            let is_local = member.address.starts_with("fe80::");
            assert_eq!(is_local, group.starts_with("ff02"), "{}", member.address);
        }
    }
}

#[test]
fn members_are_expected_to_answer_while_they_are_there() {
    let phase = |name: &str, transitions: &str| {
        format!(
            "[[phase]]\nname = \"{name}\"\nping = \"multicast\"\ninterval = \"50ms\"\nduration = \"1s\"\n{transitions}\n"
        )
    };
    let scenario = format!(
        "join = [\"239.1.2.3\"]\n[[group]]\nname = \"residents\"\nvms = 2\n[[group]]\nname = \"guests\"\nvms = 1\n{}{}",
        phase("one comes", "start = \"guests at 2 per second\""),
        phase("one goes", "stop = \"guests at 2 per second\"")
    );
    let (report, amiss) = run_expecting(&scenario, &[]);
    assert_eq!(amiss, [""; 0]);
    let [(_, first, 0), (_, second, 0)] = members(&report)[..] else {
        panic!("{:?}", report.flows[0].members);
    };
    assert_eq!((first, (1..40).contains(&second)), (40, true), "{second}");
}

#[test]
fn every_instrument_writes_of_a_run_and_is_in_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let configs = INSTRUMENTS.iter().map(|kind| {
        let file = WriteTo::File(folder.path().join(kind.name));
        InstrumentConfig::new(kind, file, []).unwrap()
    });
    let mut plan = Experiment::of_vms(2).unwrap();
    plan.flows = vec![FlowPlan::between(VmId(0), VmId(1))];
    plan.phases = vec![Phase::counted(0..1, Pacing::Window(1), 3)];
    plan.instruments = configs.collect();
    let mut lab = SimulatedLab::on_switch(plan).unwrap();
    lab.populate(&mut ()).unwrap();
    lab.run(&mut ());
    let report = lab.report("");
    lab.close().unwrap();
    // One kind counts for the report, and writes nothing.
    assert_eq!(report.floods.len(), 1);
    for kind in INSTRUMENTS
        .iter()
        .filter(|kind| kind.name != "count-floods")
    {
        let written = std::fs::read(folder.path().join(kind.name)).unwrap();
        assert!(!written.is_empty(), "{kind}");
        let recordings = report.recordings.iter();
        let recordings: Vec<_> = recordings.filter(|one| one.kind == *kind).collect();
        // The trace for people goes to where the program's messages go, and is in no report.
        let [recording] = recordings[..] else {
            assert_eq!(kind.name, "verbose");
            continue;
        };
        assert!(recording.records > 0, "{recording:?}");
        assert_eq!(recording.bytes, written.len() as u64, "{recording:?}");
    }
}
