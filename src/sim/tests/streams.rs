//! What is done to the frames of a stream comes out as it was put in.

use std::collections::BTreeMap;

use super::*;
use crate::fabric::Impairment;
use crate::record::{Reordering, StreamRecord};
use crate::report::{Change, compare};

/// A lab on the simulated switch that has run this scenario.
fn ran(text: &str) -> SimulatedLab<'_> {
    let scenario = Scenario::parse("lab.toml", text).unwrap();
    let plan = experiment::plan(&scenario).unwrap();
    let mut lab = SimulatedLab::on_switch(plan).unwrap();
    lab.populate(&mut ()).unwrap();
    lab.run(&mut ());
    lab
}

fn reported(text: &str) -> crate::report::Report {
    ran(text).report("")
}

/// The records of the streams of a run of this scenario on the simulated switch.
fn records(text: &str) -> Vec<StreamRecord> {
    let mut lab = ran(text);
    let streams = lab.hypervisor().recorder().streams().unwrap();
    assert_eq!(streams.unsent(), 0, "{text}");
    streams.records().to_vec()
}

/// The one stream of a run of two VMs, with that much more in the scenario.
fn record(more: &str) -> StreamRecord {
    let text = format!(
        "fabric = 'sim'\nvms = 2\nstream = 'vm0:vm1'\ninterval = '1ms'\ncount = 1000\nresolve = 'static'\n{more}"
    );
    let mut records = records(&text);
    assert_eq!(records.len(), 1);
    records.remove(0)
}

#[test]
fn a_stream_comes_whole_in_order_and_at_its_pace() {
    for more in [
        "",
        "size = 1518",
        "ipv6 = true\nping-ipv6 = true",
        "vlan = '7'\nsize = 100",
        "vlan = '7.9'\nresolve = 'static'",
        "resolve = 'static'\nwarmup = '10ms'",
    ] {
        let text = format!(
            "fabric = 'sim'\nvms = 2\nstream = 'vm0:vm1'\ninterval = '1ms'\ncount = 1000\n{more}"
        );
        let records = records(&text);
        let record = records.last().unwrap();
        let [receiver] = record.receivers() else {
            panic!("{more}");
        };
        assert_eq!(record.sent.frames, 1000, "{more}");
        assert_eq!(receiver.received.frames, 1000, "{more}");
        assert_eq!(receiver.received.octets, record.sent.octets, "{more}");
        assert_eq!(record.sent.elapsed(), 999_000_000, "{more}");
        assert_eq!(receiver.received.elapsed(), 999_000_000, "{more}");
        assert_eq!(record.sent.rates().0, 1000.0, "{more}");
        let wire = WIRE_DELAY.as_nanos() as u64;
        let moments = record.moments();
        assert_eq!((moments.min(), moments.max()), (Some(wire), Some(wire)));
        assert_eq!(receiver.jitter(), Some(0.0), "{more}");
        assert_eq!(receiver.longest_gap, 1_000_000, "{more}");
        let nothing = (receiver.duplicate, receiver.stale, record.leaked);
        assert_eq!(nothing, (0, 0, 0), "{more}");
        assert_eq!(receiver.reordering().reordered, 0, "{more}");
        assert_eq!(receiver.longest_loss(1000), 0, "{more}");
        let octets = |size: u64| 1000 * size;
        let expected = match more {
            "size = 1518" => octets(1518),
            "" => octets(64),
            "vlan = '7'\nsize = 100" => octets(104),
            "vlan = '7.9'\nresolve = 'static'" => octets(72),
            _ if more.contains("ipv6") => octets(84),
            _ => octets(64),
        };
        assert_eq!(record.sent.octets, expected, "{more}");
        if more.contains("warmup") {
            let warmup = &records[0];
            assert!(!warmup.is_counted() && warmup.sent.frames == 10);
        }
    }
}

#[test]
fn a_run_is_over_when_all_has_come_and_waits_only_for_what_is_missing() {
    for (more, waits) in [
        ("duration = '100ms'", false),
        ("count = 100", false),
        ("duration = '100ms'\nimpair = 'vm0:out:every=10'", true),
    ] {
        let text = format!(
            "fabric = 'sim'\nvms = 2\nstream = 'vm0:vm1'\ninterval = '1ms'\nresolve = 'static'\n{more}"
        );
        let plan = experiment::plan(&Scenario::parse("lab.toml", &text).unwrap()).unwrap();
        let phases = plan.phases.clone();
        let mut lab = SimulatedLab::on_switch(plan).unwrap();
        lab.populate(&mut ()).unwrap();
        lab.hypervisor().start(Instant::ZERO, phases);
        let end = run(lab.hypervisor(), Instant::ZERO, Instant::ZERO + 10_000 * MS);
        let (least, most) = if waits { (1_000, 1_200) } else { (99, 101) };
        let took = end - Instant::ZERO;
        assert!((least * MS..=most * MS).contains(&took), "{more}: {took:?}");
    }
}

#[test]
fn unequal_delays_and_what_is_lost_copied_or_late_come_out_exactly() {
    let wire = WIRE_DELAY.as_nanos() as u64;
    let delayed = record("impair = 'vm0:out:delay=5ms'");
    assert_eq!(delayed.moments().min(), Some(wire + 5_000_000));
    assert_eq!(delayed.moments().max(), Some(wire + 5_000_000));
    // The other way is another one.
    let back = record("impair = 'vm0:in:delay=5ms'");
    assert_eq!(back.moments().max(), Some(wire));

    let lost = record("impair = 'vm0:out:every=10'");
    let receiver = &lost.receivers()[0];
    assert_eq!(receiver.received.frames, 900);
    assert_eq!(receiver.longest_loss(1000), 1);
    assert_eq!(receiver.longest_gap, 2_000_000);
    assert_eq!(
        (receiver.duplicate, receiver.reordering().reordered),
        (0, 0)
    );

    let copied = record("impair = 'vm0:out:duplicate=100%'");
    let receiver = &copied.receivers()[0];
    assert_eq!((receiver.received.frames, receiver.duplicate), (1000, 1000));
    assert_eq!(copied.moments().count(), 1000, "copies are not measured");

    let corrupt = record("impair = 'vm0:out:corrupt=100%'");
    let receiver = &corrupt.receivers()[0];
    assert_eq!(receiver.received.frames, 0);
    assert!(receiver.corrupt > 500, "{}", receiver.corrupt);
}

#[test]
fn what_an_impairment_counts_is_what_a_stream_has_lost_doubled_and_out_of_order() {
    let text = |impair: &str| {
        format!(
            "fabric = 'sim'\nvms = 2\nstream = 'vm0:vm1'\ninterval = '1ms'\ncount = 5000\nresolve = 'static'\n\
             impair = 'vm0:out:{impair}'"
        )
    };
    for impair in [
        "loss=7%",
        "loss=gemodel 1% 10%",
        "duplicate=13%",
        "loss=20%,duplicate=30%",
        "delay=5ms±4ms,loss=3%,duplicate=3%",
    ] {
        let (record, put_in) = impaired(&text(impair));
        let receiver = &record.receivers()[0];
        let lost = record.sent.frames - receiver.received.frames;
        let of = |kind| put_in.get(&kind).copied().unwrap_or(0);
        assert_eq!(lost, of(Impairment::Lost), "{impair}");
        assert_eq!(receiver.duplicate, of(Impairment::Duplicated), "{impair}");
        assert_eq!(receiver.reordering().reordered, 0, "{impair}");
        assert!(lost + receiver.duplicate > 100, "{impair}");
    }
    // A frame that is not held overtakes the five before it, which come half a millisecond to four and a half later.
    let (record, put_in) = impaired(&text("delay=5500us,reorder=0.4%"));
    let overtaking = put_in[&Impairment::Reordered];
    assert!(overtaking > 10, "{overtaking}");
    let expected = Reordering {
        reordered: 5 * overtaking,
        most_extent: 5,
        extents: (1 + 2 + 3 + 4 + 5) * overtaking,
    };
    let receiver = &record.receivers()[0];
    assert_eq!(*receiver.reordering(), expected);
    assert_eq!(receiver.received.frames, 5000);
    assert_eq!(receiver.duplicate, 0);
}

/// The record of the only stream, and the frames that were impaired, by kind.
fn impaired(text: &str) -> (StreamRecord, BTreeMap<Impairment, u64>) {
    let mut lab = ran(text);
    let mut put_in = BTreeMap::new();
    for counted in lab.report("").impairments {
        *put_in.entry(counted.kind).or_default() += counted.frames;
    }
    let streams = lab.hypervisor().recorder().streams().unwrap();
    (streams.records()[0].clone(), put_in)
}

#[test]
fn streams_and_pings_share_a_run_and_each_has_its_own_figures() {
    let text = "fabric = 'sim'\nvms = 3\nping = 'vm0:vm1'\ninterval = '10ms'\ncount = 50\nwarmup = '100ms'\n\
                stream = ['vm2:vm1,rate=1000', 'vm1:vm0,interval=5ms,size=imix']\nimpair = 'vm2:out:every=2'";
    let mut lab = ran(text);
    let totals = lab.report("").totals;
    assert_eq!((totals.sent, totals.received, totals.lost), (50, 50, 0));
    let streams = lab.hypervisor().recorder().streams().unwrap();
    let told = streams.records().iter().map(|record| {
        let received = record.receivers()[0].received.frames;
        (record.is_counted(), record.sent.frames, received)
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            (false, 100, 50),
            (false, 20, 20),
            (true, 50, 25),
            (true, 50, 50)
        ]
    );
}

#[test]
fn who_a_stream_is_not_for_is_counted_where_frames_leak() {
    // The switch floods what it does not know, and groups: one of three is a member.
    let text = "fabric = 'sim'\nstream = ['vm0:absent', 'vm0:broadcast', 'vm0:239.1.2.3']\ncount = 10\n\
                [[group]]\nvms = 3\n[[group]]\nvms = 1\njoin = '239.1.2.3'";
    let records = records(text);
    let told = records.iter().map(|record| {
        let received = record.receivers().iter();
        let received = received.map(|one| one.received.frames).sum::<u64>();
        (
            record.sent.frames,
            record.receivers().len(),
            received,
            record.leaked,
        )
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [(10, 0, 0, 30), (10, 3, 30, 0), (10, 1, 10, 20)]
    );
}

#[test]
fn a_frame_that_was_damaged_is_corrupt_whatever_it_says_whom_it_is_for() {
    for family in ["", "ipv6 = true\nping-ipv6 = true\n"] {
        let record = record(&format!("{family}impair = 'vm1:in:corrupt=100%'"));
        let receiver = &record.receivers()[0];
        assert_eq!(record.leaked, 0, "{family}");
        // It is not told whose are those whose run, ports or protocol is damaged; and no checksum covers the hardware addresses.
        let (corrupt, received) = (receiver.corrupt, receiver.received.frames);
        assert!(
            corrupt > 500 && corrupt + received < 1000,
            "{corrupt} {received}"
        );
    }
}

#[test]
fn what_a_misbehaving_vm_costs_a_stream_is_put_down_to_it() {
    let flap = |vm| ("impaired", vm, Some("flap"));
    for (misbehave, expected) in [
        ("vm1:flap 200ms/50ms", flap("vm1")),
        ("vm0:flap 200ms/50ms", flap("vm0")),
        (
            "vm2:steal 10.77.0.3@100ms+2s",
            ("delivered_elsewhere", "vm2", None),
        ),
    ] {
        let text = format!(
            "fabric = 'sim'\nvms = 3\nstream = 'vm0:vm1'\ninterval = '1ms'\ncount = 3000\nmisbehave = '{misbehave}'"
        );
        let report = reported(&text);
        let rows = report.stream_losses.iter();
        let told: Vec<_> = rows
            .map(|row| (row.cause.name(), row.place.as_str(), row.reason.as_deref()))
            .collect();
        assert_eq!(told, [expected], "{misbehave}");
        let lost = report.stream_counts.unwrap().lost;
        assert!(lost > 100, "{misbehave}: {lost}");
    }
}

#[test]
fn frames_for_a_vm_that_has_stopped_or_not_begun_are_put_down_to_that() {
    // At that rate one is on its way when it stops.
    let head = "fabric = 'sim'\nrate = 100000\nresolve = 'static'\nstream = ['vm0:vm1', 'vm3:broadcast']\n";
    for (second, lost) in [("stop = 'vm1'", 2000), ("stop = 'vm[1-2]'", 4000)] {
        let text = format!(
            "{head}vms = 6\n[[phase]]\nname = 'a'\nduration = '20ms'\n[[phase]]\nname = 'b'\nduration = '20ms'\n{second}"
        );
        let report = reported(&text);
        let told = report.streams[2..].iter().flat_map(|stream| {
            let rows = stream.losses.iter();
            rows.map(|row| {
                (
                    row.cause.name(),
                    row.place.as_str(),
                    row.count,
                    row.reason.as_deref(),
                )
            })
        });
        let absent = |vm, count| ("absent", vm, count, None);
        let mut expected = vec![absent("vm1", 1000), absent("vm1", 1000)];
        if lost > 2000 {
            expected.push(absent("vm2", 1000));
        }
        assert_eq!(told.collect::<Vec<_>>(), expected, "{second}");
    }
    let text = format!(
        "{head}\n[[group]]\nvms = 5\n[[group]]\nname = 'late'\nvms = 1\n[[phase]]\nname = 'a'\nduration = '20ms'\n\
         [[phase]]\nname = 'b'\nstart = 'late'\nduration = '20ms'"
    );
    let report = reported(&text);
    let rows = report.stream_losses.iter();
    let rows: Vec<_> = rows
        .map(|row| (row.cause.name(), row.place.as_str(), row.count))
        .collect();
    assert_eq!(rows, [("absent", "vm5", 1000)]);
}

#[test]
fn all_that_is_held_longer_than_anybody_waits_is_put_down_to_that() {
    let text = "fabric = 'sim'\nvms = 2\nstream = 'vm0:vm1,interval=1ms'\nping = 'vm0:vm1'\ninterval = '1ms'\ncount = 3000\n\
                resolve = 'static'\ntimeout = '100ms'\nimpair = 'vm1:in:delay=10s'";
    let report = reported(text);
    for rows in [&report.losses, &report.stream_losses] {
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.cause.name(), row.count))
            .collect();
        assert_eq!(told, [("impaired", 3000)]);
    }
}

#[test]
fn streams_that_are_not_told_one_by_one_are_in_all_figures_of_all() {
    let text = "fabric = 'sim'\nvms = 1100\nstream = 'ring'\ninterval = '1ms'\ncount = 11\nresolve = 'static'";
    let report = reported(text);
    let totals = report.stream_totals.unwrap();
    assert_eq!((report.streams.len(), totals.streams), (1000, 1100));
    let rates = [report.stream_load(), report.stream_rate().unwrap()];
    assert!(
        rates.iter().all(|rate| (rate - 1_100_000.0).abs() < 1.0),
        "{rates:?}"
    );
    let mut text = Vec::new();
    crate::report::text(&report, &mut text, 40).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("… and 1,080 more"), "{text}");
}

#[test]
fn a_frame_for_whom_nobody_answers_is_not_sent() {
    let text = "fabric = 'sim'\nvms = 2\nstream = 'vm0:10.77.9.9'\ncount = 10";
    let record = &records(text)[0];
    assert_eq!((record.sent.frames, record.unresolved), (0, 10));
}

#[test]
fn runs_of_streams_alone_are_compared_by_what_was_lost_of_them() {
    let run = |more: &str| {
        let text = format!(
            "fabric = 'sim'\nvms = 2\nstream = 'vm0:vm1'\ninterval = '1ms'\nduration = '6s'\nresolve = 'static'\n{more}"
        );
        reported(&text)
    };
    let (one, two, none) = (
        run("impair = 'vm1:in:every=100'"),
        run("impair = 'vm1:in:every=50'"),
        run("impair = 'vm1:in:loss=100%'"),
    );
    for (before, after, change, sentence) in [
        (&one, &one, Change::No, "No figure differs"),
        (&one, &two, Change::Yes, "2 of 5 figures differ"),
        (
            &one,
            &none,
            Change::Yes,
            "An outage: of b, no frame came (6,000 lost)",
        ),
        (
            &none,
            &none,
            Change::Unknown,
            "Neither run can be compared: of a, no frame came",
        ),
    ] {
        let compared = compare(&[("a", before), ("b", after)]);
        assert_eq!(compared[0].change(), change, "{sentence}");
        let told = compared[0].sentence();
        assert!(told.starts_with(sentence), "{told}");
        let rate = compared[0]
            .differences
            .iter()
            .find(|each| each.figure == "rate");
        assert_eq!(rate.and_then(|rate| rate.before), None);
    }
}
