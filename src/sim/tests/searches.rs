//! Known truth: a ping that fails for want of its neighbour, or because of what it takes for its neighbour, says what became of
//! the search.

use super::*;
use crate::record::Recorder;

/// What lost pings were put down to in a run of a scenario: each row with its place, reason and number.
fn losses_of(scenario: &str) -> Vec<(String, u64)> {
    let text = format!("fabric = 'sim'\nping = 'vm0:vm1'\ntimeout = '50ms'\n{scenario}");
    let plan = experiment::plan(&Scenario::parse("t.toml", &text).unwrap()).unwrap();
    let mut lab = SimulatedLab::on_switch(plan).unwrap();
    lab.populate(&mut ()).unwrap();
    lab.run(&mut ());
    let recorder: &Recorder = lab.hypervisor().recorder();
    let (losses, totals) = (recorder.losses(), recorder.totals());
    assert_eq!(
        losses.total(),
        totals.failed() + totals.unsent,
        "{scenario}"
    );
    let rows = losses.rows();
    rows.map(|(row, pings)| (row.to_string(), pings)).collect()
}

#[test]
fn a_ping_whose_neighbour_is_not_found_tells_what_became_of_the_search() {
    let never = "request never sent: no neighbour, route or port";
    for (done, place, what) in [
        (
            "impair = 'vm0:out:loss=100%'",
            "vm0",
            "request impaired on purpose: lost",
        ),
        (
            "impair = 'vm1:in:loss=100%'",
            "vm1",
            "request impaired on purpose: lost",
        ),
        (
            "impair = 'vm1:out:loss=100%'",
            "vm1",
            "reply impaired on purpose: lost",
        ),
        (
            "impair = 'vm0:in:loss=100%'",
            "vm0",
            "reply impaired on purpose: lost",
        ),
        (
            "impair = 'vm1:in:delay=60s'",
            "vm1",
            "request impaired on purpose: delayed",
        ),
        (
            "misbehave = 'vm1:silent'",
            "vm1",
            "request impaired on purpose: silent",
        ),
    ] {
        for family in ["", "ipv6 = true\nping-ipv6 = true\n"] {
            // What is found before a VM misbehaves is known then.
            for resolve in ["before", "at-once"] {
                if resolve == "before" && done.starts_with("misbehave") {
                    continue;
                }
                let scenario = format!(
                    "vms = 3\ninterval = '100ms'\ncount = 20\nresolve = '{resolve}'\n{family}{done}"
                );
                let expected = format!("{never} at {place} (neighbour {what})");
                assert_eq!(losses_of(&scenario), [(expected, 20)], "{scenario}");
            }
        }
    }
}

#[test]
fn a_search_of_which_one_request_was_not_harmed_is_put_down_to_nothing() {
    // Nobody has the address, and of three questions for it two are lost.
    let scenario = "vms = 2\ncount = 1\nresolve = 'at-once'\nping = 'vm0:absent'\n";
    let never = "request never sent: no neighbour, route or port";
    for (impair, known) in [
        ("vm0:out:every=2", None),
        (
            "vm0:out:every=1",
            Some("at vm0 (neighbour request impaired on purpose: lost)"),
        ),
        // Copies that do not come to others.
        ("vm1:in:every=1", None),
    ] {
        let scenario = scenario.replace("count", &format!("impair = '{impair}'\ncount"));
        let text = format!("fabric = 'sim'\n{scenario}");
        let plan = experiment::plan(&Scenario::parse("t.toml", &text).unwrap()).unwrap();
        let mut lab = SimulatedLab::on_switch(plan).unwrap();
        lab.populate(&mut ()).unwrap();
        lab.run(&mut ());
        let losses = lab.hypervisor().recorder().losses().rows();
        let rows: Vec<String> = losses.map(|(row, _)| row.to_string()).collect();
        let known = known.map_or(String::new(), |known| format!(" {known}"));
        assert_eq!(rows, [format!("{never}{known}")], "{impair}");
    }
}

#[test]
fn pings_that_are_questions_for_an_address_are_put_down_to_what_impairs_them() {
    for (done, what) in [
        (
            "impair = 'vm0:out:every=2'",
            "request impaired on purpose at vm0 (lost)",
        ),
        (
            "impair = 'vm1:in:every=2'",
            "request impaired on purpose at vm1 (lost)",
        ),
        (
            "impair = 'vm1:out:every=2'",
            "reply impaired on purpose at vm1 (lost)",
        ),
        (
            "impair = 'vm0:in:every=2'",
            "reply impaired on purpose at vm0 (lost)",
        ),
        (
            "impair = 'vm0:out:corrupt=100%'",
            "request impaired on purpose at vm0 (corrupted)",
        ),
        (
            "impair = 'vm1:in:delay=1s'",
            "request impaired on purpose at vm1 (delayed)",
        ),
        (
            "misbehave = 'vm1:silent'",
            "request impaired on purpose at vm1 (silent)",
        ),
        (
            "vlan = ['vm1=100']",
            "request ignored by the VM at vm1 (other_vlan)",
        ),
    ] {
        for family in ["", "ipv6 = true\nping-ipv6 = true\n"] {
            let scenario =
                format!("vms = 3\nprobe = 'arp'\ninterval = '100ms'\ncount = 20\n{family}{done}");
            let found = losses_of(&scenario);
            let [(row, pings)] = found.as_slice() else {
                panic!("{scenario}: {found:?}");
            };
            assert_eq!(row, what, "{scenario}");
            // A bit that is changed may be one that nobody looks at.
            assert!(*pings >= 9, "{scenario}: {pings}");
        }
    }
}

#[test]
fn pings_to_an_address_that_corruption_has_made_are_put_down_to_that() {
    let mut misled = 0;
    for seed in 0..60 {
        for filter in ["", "filter = 'on'\n"] {
            let found = losses_of(&format!(
                "vms = 3\nseed = {seed}\ninterval = '5ms'\ncount = 10\nresolve = 'at-once'\nimpair = 'vm1:out:corrupt=100%'\n{filter}"
            ));
            let is_known = |(row, _): &(String, u64)| row.contains("impaired on purpose");
            assert!(found.iter().all(is_known), "{seed} {found:?}");
            let made = "request impaired on purpose at vm1 (sent to a hardware address that was corrupted)";
            misled += found.iter().filter(|(row, _)| row == made).count();
        }
    }
    assert!(misled > 4, "{misled}");
}
