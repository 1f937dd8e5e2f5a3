//! A run made up for tests: eight seconds, two flows, a slow tail, some loss, and
//! something of every metric.

use super::path_split::stages;
use super::{
    CauseReport, ChangesSummary, ConnectionReport, Context, DisturbedReport, FabricReport,
    FloodReport, FlowName, ImpairedFrames, MachineReport, MarkFlowReport, MarkHistograms,
    MarkReport, MemoryReport, MergedReport, MisbehaviourReport, MisbehaviourSummary, MoveReport,
    PathSplitReport, PhaseReport, PlanReport, RankReport, Report, SettingsReport, StreamName,
    Unlike, Values,
};
use crate::fabric::{Direction, INSTRUMENTS, Impairment, LinkFate, Recording};
use crate::load::FlowId;
use crate::record::{
    Cause, DropReason, EndedBy, FloodKind, Gap, Latency, LatencySummary, Limits, LinkChanged,
    Metric, Move, NeighbourSearch, PathSample, PathSplit, Pause, Recorder, SparseLatency, StreamId,
};
use crate::time::Instant;
use crate::vm::{Announcement, Misdeed, PingError, VmId};
use crate::wire::MacAddr;

/// Has a VM move, and be missed for 221 µs.
fn moved(recorder: &mut Recorder) {
    let at = |micros: u64| Instant::from_nanos(micros * 1_000);
    let flow = FlowId(0);
    let places = ("leaf0".to_owned(), "leaf1".to_owned());
    let times = (at(1_007), Some(at(1_197)));
    recorder.moved(Move {
        gaps: vec![Gap {
            flow,
            last: Some(at(1_000)),
            first: None,
            first_sent: None,
            longest: None,
            from: 0,
            next: 0,
            lost: 0,
            late: 0,
            interval: None,
        }],
        ..Move::new(VmId(1), places, Announcement::Garp, times)
    });
    recorder.answered_in_detail(flow, 0, at(1_200), at(1_200), at(1_221));
}

const PINGS: u64 = 2_000;
const INTERVAL: u64 = 4_000_000;

/// The run, every rtt `slower` times what it is in [`report`].
pub fn slower(slower: u64) -> Report {
    let mut recorder = Recorder::new(Limits::default());
    recorder.add_flow();
    recorder.add_flow();
    recorder.set_flow_path(FlowId(0), false);
    recorder.set_flow_path(FlowId(1), true);
    let mut random = 1_u64;
    for sequence in 0..PINGS {
        for flow in [FlowId(0), FlowId(1)] {
            // Numbers without a pattern, the same every time (Knuth's MMIX generator).
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let noise = random >> 33;
            let tail = if noise % 100 < 3 { 150_000 } else { 0 };
            let rtt = slower * (9_000 + noise % 4_000 + tail);
            let at = |nanos| Instant::from_nanos(sequence * INTERVAL + nanos);
            let late = 20_000 + noise % 50_000;
            recorder.echo_sent(flow, at(0), at(0), at(late));
            if sequence == 10 && flow == FlowId(0) {
                recorder.paused(Pause {
                    from: at(late + 1),
                    to: at(late + 2),
                    nanos: 1,
                    run_delay: 0,
                    writing: 0,
                    answering: 0,
                });
            }
            if noise % 1_000 == 7 {
                recorder.lost(flow, sequence, at(0), at(late + 2_000_000));
            } else {
                recorder.answered(flow, sequence, at(0), at(late), at(late + rtt));
            }
            recorder.lag(noise % 3_000);
            recorder.busy(30_000);
            recorder.turn();
            recorder.frame_in();
            recorder.frame_out();
        }
    }
    recorder.resolved(31_000);
    recorder.resolved(29_000);
    recorder.resolved6(33_000);
    recorder.leased(5_000_000);
    recorder.booted(7_000_000);
    recorder.refused(45_000);
    recorder.one_way(Instant::from_nanos(0), (4_000, 5_000));
    recorder.add_stream(true, vec![VmId(1)]);
    let of = (StreamId(0), VmId(1));
    let (sent, received) = (Instant::from_nanos(0), Instant::from_nanos(slower * 6_000));
    recorder.stream_received(of, (0, 64), (sent, received));
    recorder.released(9_000);
    moved(&mut recorder);
    recorder.dropped_many(DropReason::UnknownEthertype, 3);
    let name = |dst: &str, address: Option<&str>| FlowName {
        src: "vm0".to_owned(),
        dst: dst.to_owned(),
        address: address.map(str::to_owned),
        ..FlowName::default()
    };
    let flows = [name("vm1", Some("10.77.0.3")), name("10.77.0.1", None)];
    let context = Context {
        run: "--vms 2 --ping vm0:vm1 --ping vm0:10.77.0.1",
        started_unix_ms: Some(1_760_000_000_000),
        setup_ns: 23_000_000,
        interrupted: false,
        flows: &|index| flows.get(index).cloned(),
        ..Context::default()
    };
    Report::new(&recorder, &context)
}

/// The run.
pub fn report() -> Report {
    slower(1)
}

/// Two pings whose stages take 100 ns and 200 ns each, without stamps 1.6 µs.
fn path_split() -> PathSplit {
    let samples = [100, 200].map(|span| {
        let stamps = std::array::from_fn(|at| Instant::from_nanos(at as u64 * span));
        PathSample::of(&stamps, [4, 4]).unwrap()
    });
    let mut unstamped = Latency::new();
    unstamped.record(1_600);
    PathSplit::of(&samples, &unstamped, 0.0, 3)
}

/// The run, with something in every field that a report can have.
pub fn whole() -> Report {
    let settings = |list: &[(&str, Values)]| -> SettingsReport {
        let own = |(name, values): &(&str, Values)| ((*name).to_owned(), values.clone());
        list.iter().map(own).collect()
    };
    let one = |value: &str| Values::One(value.to_owned());
    let pings = Values::Several(vec!["ring".to_owned(), "vm0:all".to_owned()]);
    let link = |vm: Option<&str>, change| LinkChanged {
        at_ns: 7,
        link: "tap1".to_owned(),
        vm: vm.map(str::to_owned),
        change,
    };
    let bridge = || "br0".to_owned();
    let mut whole = Report {
        plan: Some(PlanReport {
            settings: settings(&[("vms", one("2")), ("ping", pings)]),
            groups: vec![settings(&[("mtu", one("1500"))])],
            phases: vec![settings(&[("rate", one("5"))])],
        }),
        machine: Some(MachineReport {
            kernel: "6.1.0".to_owned(),
            processor: Some("Some CPU".to_owned()),
            processors: 2,
        }),
        ranks: vec![RankReport {
            rank: 1,
            host: "host1".to_owned(),
            rate_per_s: 5.0,
            lateness_ns: report().summaries[Metric::Lateness],
            verdict: report().verdict,
            clock_offset_ns: -3,
            clock_error_ns: 7,
        }],
        merged: Some(MergedReport {
            runs: 2,
            unlike: vec![Unlike {
                what: "seed".to_owned(),
                values: vec![Some("0".to_owned()), None],
                is_other_experiment: false,
            }],
        }),
        fabric: Some(FabricReport {
            kind: "bridge".to_owned(),
            leaves: 2,
            ports_per_bridge: Some(1_000),
            flows_across: 1,
            neighbours: "proxy".to_owned(),
            spared_deliveries: Some(3),
            simulated: false,
        }),
        shortcomings: Some(vec!["pings not answered: 5".to_owned()]),
        memory: Some(MemoryReport {
            rss_bytes: 1 << 20,
            peak_bytes: Some(1 << 21),
            per_vm_bytes: 700,
        }),
        errors: PingError::ALL.iter().map(|error| (*error, 1)).collect(),
        neighbours: Some(NeighbourSearch {
            asked: 3,
            found: 2,
            missing: 1,
            elapsed_ns: 4,
        }),
        impairments: vec![ImpairedFrames {
            vm: VmId(1),
            direction: Direction::Out,
            kind: Impairment::Delayed,
            frames: 3,
        }],
        misbehaviours: vec![MisbehaviourReport {
            summary: MisbehaviourSummary {
                vm: VmId(1),
                kind: "silent".to_owned(),
                what: "silent".to_owned(),
                began_ns: 1,
                to_come: false,
                ended_ns: Some(2),
                refused: Some("why".to_owned()),
                counts: [(Misdeed::Sent, 3)].into(),
            },
            others: DisturbedReport::default(),
            misbehaving: DisturbedReport::default(),
        }],
        floods_counted: true,
        floods: vec![FloodReport {
            kind: FloodKind::ArpRequest,
            frames: 1,
            copies: 2,
            amplification: 2.0,
            most_vms: 3,
            repeated: 4,
            unwanted: 5,
            last_copy_ns: LatencySummary::default(),
            last_copy: SparseLatency::default(),
        }],
        path_split: Some(PathSplitReport::from(&path_split())),
        path_stages: stages(Some(&path_split())),
        recordings: vec![Recording {
            kind: INSTRUMENTS[0],
            file: "run.pcapng".to_owned(),
            records: 5,
            dropped: 4,
            unknown: 3,
            missed: 2,
            files: 1,
            bytes: 1_000,
            has_failed: true,
            ended: Some("why".to_owned()),
        }],
        links: vec![
            link(Some("vm1"), LinkFate::Left { bridge: bridge() }),
            link(None, LinkFate::Joined { bridge: bridge() }),
            link(Some("vm1"), LinkFate::Deleted),
        ],
        links_untold: 4,
        marks: vec![MarkReport {
            name: "policy".to_owned(),
            detail: Some("why".to_owned()),
            at_ns: 1,
            end_ns: Some(2),
            flow_count: 1,
            passed: 1,
            first_pass_ns: LatencySummary::default(),
            last_pass_ns: LatencySummary::default(),
            longest_gap_ns: LatencySummary::default(),
            changes: ChangesSummary::default(),
            flows: vec![MarkFlowReport {
                src: "vm0".to_owned(),
                dst: "vm1".to_owned(),
                answered: 2,
                unanswered: 3,
                began_ns: Some(8),
                first_pass_ns: Some(4),
                last_pass_ns: Some(5),
                longest_gap_ns: Some(6),
                changes: 7,
            }],
            histograms: MarkHistograms::default(),
        }],
        marks_untold: 5,
        moves: vec![MoveReport {
            number: 0,
            vm: "vm1".to_owned(),
            from: "leaf0".to_owned(),
            to: "leaf1".to_owned(),
            announcement: "garp".to_owned(),
            at_ns: 500_000_000,
            netlink_ns: 190_000,
            announced_ns: Some(195_000),
            fdb_ns: Some(195_500),
            first_out_ns: Some(210_000),
            first_in_ns: Some(208_000),
            src: Some("vm0".to_owned()),
            dst: Some("vm1".to_owned()),
            peer: Some("vm0".to_owned()),
            last_answer_ns: Some(7_000),
            first_answer_ns: Some(214_000),
            gap_ns: Some(221_000),
            resolution_ns: Some(10_000),
            lost: 1,
            causes: vec![CauseReport {
                cause: Cause::InBridge,
                count: 1,
            }],
            late: 0,
            ended_by: EndedBy::FdbByAnnouncement,
        }],
        moves_untold: 3,
        connections: Some(ConnectionReport {
            opened: 90,
            opened_per_s: 45.0,
            open_at_once: 30,
            ended_by_peer: 2,
            syns_repeated: 4,
        }),
        phases: vec![PhaseReport {
            nothing_sent: Some("why".to_owned()),
            connections: Some(ConnectionReport {
                opened: 7,
                opened_per_s: 3.5,
                open_at_once: 6,
                ended_by_peer: 1,
                syns_repeated: 2,
            }),
            ..phase()
        }],
        ..report()
    };
    whole
        .addresses
        .conflict(VmId(0), [10, 77, 0, 2].into(), MacAddr([2; 6]));
    whole.expect(&["p99<1s", "errored=1"].map(|text| text.parse().unwrap()));
    whole
}

/// A phase that is all of the run.
pub fn phase() -> PhaseReport {
    let report = report();
    PhaseReport {
        name: "calm".to_owned(),
        counted: true,
        nothing_sent: None,
        elapsed_ns: report.elapsed_ns,
        waited_ns: report.waited_ns,
        sent_per_s: report.rate_per_s,
        rate_per_s: report.rate_per_s,
        totals: report.totals,
        connections: None,
        summaries: report.summaries,
        verdict: report.verdict,
    }
}

/// The report of a stream of 20 frames, one every 100 µs, of which number 5 is lost, number 9 comes twice, and number 12 comes
/// after number 13.
pub fn stream() -> Report {
    let mut recorder = Recorder::new(Limits::default());
    recorder.add_stream(true, vec![VmId(1)]);
    let of = (StreamId(0), VmId(1));
    let at = |number: u64, more: u64| Instant::from_nanos(number * 100_000 + more);
    let mut order: Vec<u64> = (0..20).filter(|number| *number != 5).collect();
    order.swap(11, 12);
    order.push(9);
    for number in 0..20 {
        recorder.stream_sent(of.0, 125, at(number, 0), at(number, 0));
    }
    for number in order {
        let took = if number == 12 { 150_000 } else { 10_000 };
        recorder.stream_received(of, (number, 125), (at(number, 0), at(number, took)));
    }
    let name = StreamName {
        src: "vm0".to_owned(),
        dst: "vm1".to_owned(),
        ..StreamName::default()
    };
    let context = Context {
        streams: &[name],
        ..Context::default()
    };
    Report::new(&recorder, &context)
}
