//! The way there and the way back come out as they were put in, and are the rtt together.

use super::*;

/// Histograms of the run: their numbers, least and greatest values.
fn ways(text: &str) -> [(u64, u64, u64); 3] {
    let scenario = Scenario::parse("lab.toml", text).unwrap();
    let plan = experiment::plan(&scenario).unwrap();
    let mut lab = SimulatedLab::on_switch(plan).unwrap();
    lab.populate(&mut ()).unwrap();
    lab.run(&mut ());
    let report = lab.report("");
    [Metric::Forward, Metric::Backward, Metric::Rtt].map(|metric| {
        let summary = &report.summaries[metric];
        let of = |value: Option<u64>| value.unwrap_or(0);
        (summary.count, of(summary.min), of(summary.max))
    })
}

#[test]
fn unequal_delays_come_out_of_the_way_that_they_were_put_in() {
    for probe in ["icmp", "udp", "arp"] {
        let text = format!(
            "fabric = 'sim'\nvms = 2\nping = 'vm0:vm1'\ninterval = '10ms'\ncount = 100\nresolve = 'static'\nprobe = '{probe}'\n"
        );
        let plain = ways(&format!("{text}one-way = true"));
        let impaired = ways(&format!(
            "{text}one-way = true\nimpair = ['vm0:in:delay=5ms', 'vm0:out:delay=2ms,duplicate=100%']"
        ));
        let [forward, backward, rtt] = plain;
        assert_eq!((forward.0, backward.0, rtt.0), (100, 100, 100), "{probe}");
        assert_eq!(forward.2 + backward.2, rtt.2, "{probe}");
        for (before, after, more) in [
            (forward, impaired[0], 2_000_000),
            (backward, impaired[1], 5_000_000),
            (rtt, impaired[2], 7_000_000),
        ] {
            let expected = (before.0, before.1 + more, before.2 + more);
            assert_eq!(after, expected, "{probe}");
        }
        let [forward, backward, rtt] = ways(&text);
        assert_eq!((forward.0, backward.0, rtt.0), (0, 0, 100), "{probe}");
    }
}

#[test]
fn what_is_kept_of_a_lost_reply_is_not_taken_for_another_ping() {
    // The numbers of the pings whose replies are lost come again.
    let text = "fabric = 'sim'\nvms = 2\nping = 'vm0:vm1'\ninterval = '10us'\ncount = 150_000\nresolve = 'static'\n\
                timeout = '1ms'\none-way = true\nimpair = 'vm0:in:loss=10%'";
    let [forward, backward, rtt] = ways(text);
    assert_eq!(forward.0, backward.0);
    // The next ping of such a number is answered, and not measured.
    assert!(
        (rtt.0 * 85 / 100..rtt.0).contains(&forward.0),
        "{forward:?}"
    );
    assert!(
        forward.2 < 1_000_000 && backward.2 < 1_000_000,
        "{forward:?} {backward:?}"
    );
}
