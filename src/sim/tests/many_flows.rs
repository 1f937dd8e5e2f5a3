//! A VM with more flows than 16 bits can tell apart.

use super::*;

#[test]
fn a_vm_with_more_flows_than_16_bits_tell_apart_is_answered_in_all() {
    for (probe, done) in [
        ("udp", ""),
        ("tcp", "attribute-loss = true\none-way = true"),
    ] {
        let flows = format!("'vm0:vm[1-100],probe={probe}',").repeat(700);
        let text = format!(
            "fabric = 'sim'\nvms = 101\ncount = 2\ninterval = '1s'\ntimeout = '1s'\n{done}\nping = [{flows}]"
        );
        let scenario = Scenario::parse("lab.toml", &text).unwrap();
        let plan = experiment::plan(&scenario).unwrap();
        let mut lab = SimulatedLab::on_switch(plan).unwrap();
        lab.populate(&mut ()).unwrap();
        lab.run(&mut ());
        let totals = lab.report("").totals;
        let expected = (140_000, 140_000, 0);
        let found = (totals.sent, totals.received, totals.duplicate);
        assert_eq!(found, expected, "{probe}: {totals:?}");
    }
}
