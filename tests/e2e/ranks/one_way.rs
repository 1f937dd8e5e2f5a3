//! Both ways of pings between VMs of different ranks on one machine.

use serde_json::Value;

use crate::lab::{Lab, number};

/// Numbers of values, and the least ones, of the way there, the way back and both.
fn ways(report: &Value) -> [(u64, u64); 3] {
    ["forward_ns", "backward_ns", "rtt_ns"].map(|metric| {
        let of = |figure: &str| number(report, &format!("/{metric}/{figure}"));
        (of("count"), of("min"))
    })
}

#[test]
fn a_delay_put_into_one_way_between_ranks_is_in_that_way_alone() {
    const DELAY: u64 = 20_000_000;
    let lab = Lab::new();
    for more in [
        "",
        "--probe udp",
        "--probe tcp --tcp-listen 80",
        "--probe arp",
        "--probe arp --ipv6 -6",
        "--ipv6 -6 --size 4000 --allow-fragmentation",
        "--fabric xdp",
    ] {
        let words = format!(
            "--cores 2 --vms 4 --ping vm0:vm2 --ping vm3:vm1 --count 10 --interval 100ms --one-way --json {more}"
        );
        for (impaired, is_there) in [
            ("vm2:in vm1:in", true),
            ("vm2:out vm1:out", false),
            ("vm0:in vm3:in", false),
        ] {
            let impair = impaired
                .split(' ')
                .map(|of| format!(" --impair {of}:delay=20ms"));
            // What is asked for a hardware address is held as well.
            let words = format!("{words} --timeout 5s{}", impair.collect::<String>());
            let report = lab.tap_reactor(&words).expect_status(0).json();
            let [forward, backward, rtt] = ways(&report);
            assert_eq!((forward.0, backward.0, rtt.0), (20, 20, 20), "{words}");
            let is_delayed = [forward.1, backward.1].map(|least| least >= DELAY);
            assert_eq!(is_delayed, [is_there, !is_there], "{words}: {report}");
        }
    }
}

#[test]
fn ranks_of_which_nobody_knows_one_clock_measure_no_single_ways_between_them() {
    let lab = Lab::new();
    lab.expect_refusals(&[(
        "--rank 0/2 --meet ./meet --vms 4 --ping vm0:vm2 --fabric none --hook true --one-way",
        "vm0 of rank 0 pings vm2 of rank 1: both ways of a ping can't be told apart by two clocks (--one-way)",
    )]);
}
