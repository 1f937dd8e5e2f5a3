//! VLANs on a real bridge, with `tcpdump` and `bridge` as witnesses.

use serde_json::Value;

use crate::lab::{Finished, Lab};

fn report(run: &Finished) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

#[test]
fn two_vlans_on_one_bridge_do_not_hear_each_other() {
    let lab = Lab::new();
    for version in ["", "-6"] {
        for (vlans, note) in [
            ("--vlan vm[0-1]=100 --vlan vm[2-3]=200", "two VLANs"),
            ("--vlan vm[0-1]=100", "one VLAN and none"),
            (
                "--vlan vm[0-1]=100.7 --vlan vm[2-3]=100.8",
                "two VLANs in one",
            ),
            (
                "--vlan vm[0-1]=100 --vlan vm[2-3]=100.8",
                "one in the other",
            ),
        ] {
            let arguments =
                format!("--vms 4 {vlans} {version} --count 5 --interval 1ms --json --no-filter");
            let within = lab.tap_reactor(&format!(
                "{arguments} --ping vm0:vm1 --ping vm2:vm3 --size 1400"
            ));
            let within = report(&within.expect_status(0));
            assert_eq!(within["totals"]["received"], 10, "{note}: {within}");
            let across = lab.tap_reactor(&format!("{arguments} --ping vm0:vm2 --ping vm3:vm1"));
            let across = report(&across.expect_status(1));
            assert_eq!(across["totals"]["unresolved"], 10, "{note}: {across}");
            let ignored = across["drops"]["other_vlan"].as_u64();
            assert!(ignored >= Some(6), "{note}: {across}");
        }
    }
}

#[test]
fn full_frames_pass_with_one_tag_and_with_two() {
    let lab = Lab::new();
    for vlan in ["100", "100.200"] {
        for arguments in [
            "--size 1472",
            "--size 1452 -6",
            "--fragment --size 9000",
            "--fragment --size 9000 -6",
        ] {
            let run = lab.tap_reactor(&format!(
                "--vlan {vlan} --ping vm0:vm1 {arguments} --count 5 --interval 1ms --json"
            ));
            let report = report(&run.expect_status(0));
            assert_eq!(report["totals"]["received"], 5, "{vlan} {arguments}");
        }
    }
}

#[test]
fn tcpdump_sees_the_tags() {
    let lab = Lab::new();
    lab.make_by_hand();
    for (vlan, tags) in [
        ("100", "vlan 100, p 0, ethertype IPv4"),
        (
            "100.200",
            "vlan 100, p 0, ethertype 802.1Q (0x8100), vlan 200, p 0, ethertype IPv4",
        ),
    ] {
        let mut dump = lab.start(&[
            "tcpdump",
            "-e",
            "-n",
            "-l",
            "-i",
            "tap1",
            "-c",
            "40",
            "--immediate-mode",
        ]);
        dump.wait_until_it_says("listening on");
        lab.tap_reactor(&format!(
            "--netns host --attach --vlan {vlan} --ping vm0:vm1 --count 20 --interval 1ms --json"
        ))
        .expect_status(0);
        let seen = dump.wait().expect_status(0).stdout;
        for direction in [
            "10.77.0.2 > 10.77.0.3: ICMP echo request",
            "10.77.0.3 > 10.77.0.2: ICMP echo reply",
        ] {
            let line = seen.lines().find(|line| line.contains(direction));
            assert!(
                line.is_some_and(|line| line.contains(tags)),
                "{direction} with {tags}:\n{seen}"
            );
        }
    }
}

#[test]
fn vlan_filtering_puts_each_port_in_its_vlan_or_says_that_the_kernel_cannot() {
    let lab = Lab::new();
    let filters = lab.run(&[
        "ip",
        "link",
        "add",
        "probe",
        "type",
        "bridge",
        "vlan_filtering",
        "1",
    ]);
    let run = lab.tap_reactor(
        "--netns host --vms 4 --vlan vm[0-1]=100 --vlan vm[2-2]=200 --vlan-filtering --ping vm0:vm1 --count 5 --interval \
         1ms --json",
    );
    if filters.status != 0 {
        let refused = run.expect_status(3);
        assert!(
            refused.stderr.contains("CONFIG_BRIDGE_VLAN_FILTERING"),
            "{refused:?}"
        );
        return;
    }
    assert_eq!(report(&run.expect_status(0))["totals"]["received"], 5);
    let mut serving = lab.start_tap_reactor(
        "--netns host --vms 4 --vlan vm[0-1]=100 --vlan vm[2-2]=200 --vlan-filtering",
    );
    serving.wait_until_it_says("serving");
    let table = lab.bridge_json("vlan show");
    for (port, vlan) in [("tap0", 100), ("tap1", 100), ("tap2", 200), ("tap3", 1)] {
        let entry = table.iter().find(|entry| entry["ifname"] == port);
        let vlans = entry.and_then(|entry| entry["vlans"].as_array());
        let vlans: Vec<i64> = vlans
            .into_iter()
            .flatten()
            .filter_map(|entry| entry["vlan"].as_i64())
            .collect();
        assert_eq!(vlans, [vlan], "{port}");
    }
}
