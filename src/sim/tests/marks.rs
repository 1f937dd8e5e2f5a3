//! Marks in virtual time, where every figure is exact.

use super::*;
use crate::fabric::Loss;
use crate::record::{FlowMark, Mark, MarkMetric};

/// Every frame on its way to a VM is lost, or none.
fn set_lost(lab: &mut Lab, is_lost: bool) {
    let rule = Rule {
        words: String::new(),
        vms: 0..=u32::MAX,
        direction: Direction::In,
        to: None,
        profile: Profile {
            loss: Loss::Random(1.0),
            ..Profile::default()
        },
    };
    let rules = if is_lost { vec![rule] } else { Vec::new() };
    lab.carry_out(Command::Impair(rules)).unwrap();
}

fn set_mark(lab: &mut Lab, name: &str) {
    let (name, detail) = (name.parse().unwrap(), String::new());
    lab.carry_out(Command::Mark { name, detail }).unwrap();
}

fn until(lab: &mut Lab, micros: u64) {
    let at = Instant::ZERO + Duration::from_micros(micros);
    lab.drive(Some(at)).unwrap();
}

/// A figure in microseconds; of a pass, since the beginning of time.
fn micros(mark: &Mark, figures: &FlowMark, metric: MarkMetric) -> Option<u64> {
    let since = match metric {
        MarkMetric::FirstPass | MarkMetric::LastPass => mark.at().as_nanos(),
        MarkMetric::LongestGap | MarkMetric::Changes => 0,
    };
    let nanos = figures.get(metric)? + since;
    Some(if metric.is_time() {
        nanos / 1000
    } else {
        nanos
    })
}

#[test]
fn a_network_that_stops_and_starts_again_is_measured_to_the_microsecond() {
    let mut lab = new_lab(2, MS / 10);
    flow(&mut lab, 0, 1);
    let phases = vec![phase("", 1, Pacing::Interval(MS), None, Some(MS * 60))];
    lab.hypervisor().start(Instant::ZERO, phases);
    until(&mut lab, 9_500);
    set_mark(&mut lab, "policy");
    until(&mut lab, 15_500);
    set_lost(&mut lab, true);
    until(&mut lab, 25_500);
    set_lost(&mut lab, false);
    until(&mut lab, 40_500);
    set_mark(&mut lab, "stop");
    set_lost(&mut lab, true);
    until(&mut lab, 10_000_000);
    let marks = lab.hypervisor().recorder().marks().expect("marks").clone();
    let told: Vec<_> = marks
        .all()
        .iter()
        .map(|mark| {
            let (_, figures) = mark.flows().next().expect("a flow");
            let all = MarkMetric::ALL.iter();
            let all: Vec<_> = all.map(|metric| micros(mark, figures, *metric)).collect();
            (
                mark.name().as_str(),
                figures.answered,
                figures.unanswered,
                all,
            )
        })
        .collect();
    // A ping is due each millisecond, and answered 200 µs later.
    let policy = vec![Some(10_200), Some(40_200), Some(11_000), Some(2)];
    let stop = vec![None, None, None, Some(0)];
    assert_eq!(told, [("policy", 21, 10, policy), ("stop", 0, 19, stop)]);
}

#[test]
fn pings_that_are_on_their_way_and_flows_that_come_and_go_do_not_disturb_the_figures() {
    for pacing in [Pacing::Interval(MS), Pacing::Window(4)] {
        let mut lab = new_lab(4, MS * 3);
        flow(&mut lab, 0, 1);
        let phases = vec![phase("", 1, pacing, None, Some(MS * 60))];
        lab.hypervisor().start(Instant::ZERO, phases);
        until(&mut lab, 20_500);
        set_mark(&mut lab, "one");
        let flows = lab.flows_of("vm2:vm3", None).unwrap();
        lab.carry_out(Command::StartFlows(flows, None)).unwrap();
        until(&mut lab, 40_500);
        set_mark(&mut lab, "two");
        let first = crate::load::FlowId(0);
        lab.carry_out(Command::StopFlows(vec![first])).unwrap();
        until(&mut lab, 10_000_000);
        let recorder = lab.hypervisor().recorder();
        let totals = recorder.totals();
        assert!(totals.abandoned > 0, "{pacing:?}");
        let marks = recorder.marks().expect("marks");
        let [one, two] = marks.all() else {
            panic!("two marks");
        };
        assert_eq!(
            (one.flows().count(), two.flows().count()),
            (2, 1),
            "{pacing:?}"
        );
        for (_, figures) in one.flows().chain(two.flows()) {
            assert_eq!(
                (figures.unanswered, figures.get(MarkMetric::Changes)),
                (0, Some(0))
            );
        }
        // The flow that was added after the mark is told from its own first ping on; its neighbour takes an rtt
        // to be found.
        let added = one.flows().nth(1).map(|(_, figures)| figures);
        let rtt = added.and_then(|figures| figures.get(MarkMetric::FirstPass));
        assert_eq!(rtt, Some(12_000_000), "{pacing:?}");
        assert!(added.and_then(FlowMark::began_ns).is_some(), "{pacing:?}");
        // An rtt is six milliseconds: what is answered within them was sent before the mark.
        let earliest = |mark: &Mark| mark.latency(MarkMetric::FirstPass).moments().min();
        assert!(earliest(one) >= Some(6_000_000), "{pacing:?}");
    }
}

#[test]
fn a_phase_can_be_a_mark() {
    let scenario = "
        fabric = 'sim'
        vms = 2
        ping = 'vm0:vm1'
        interval = '1ms'
        resolve = 'static'
        warmup = '5ms'
        [[phase]]
        name = 'closed'
        duration = '20ms'
        mark = true
        impair = 'all:loss=100%'
        [[phase]]
        name = 'between'
        duration = '10ms'
        [[phase]]
        name = 'open'
        duration = '20ms'
        warmup = '0.1ms'
        mark = true
    ";
    let scenario = Scenario::parse("test.toml", scenario).unwrap();
    let mut lab = SimulatedLab::on_switch(experiment::plan(&scenario).unwrap()).unwrap();
    lab.populate(&mut ()).unwrap();
    lab.run(&mut ());
    let report = lab.report("");
    let [closed, open] = report.marks.as_slice() else {
        panic!("two marks: {:?}", report.marks);
    };
    assert_eq!(
        (closed.name.as_str(), open.name.as_str()),
        ("closed", "open")
    );
    // The next phase is no mark: its pings belong to the last one. Both of its warm-ups are over before.
    assert_eq!(closed.at_ns, 5_000_000);
    let rtt = 2 * WIRE_DELAY.as_nanos() as u64;
    let first = 5_000_000 + 15_000_000 + 5_000_000;
    assert_eq!(closed.first_pass_ns.max, Some(first - closed.at_ns + rtt));
    assert_eq!(open.first_pass_ns.max, Some(rtt));
    assert_eq!((closed.changes.max, open.changes.max), (Some(1), Some(0)));
    assert!(report.phases.iter().any(|phase| phase.name == "closed"));
    lab.close().unwrap();
}
