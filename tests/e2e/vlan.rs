//! VLANs on a real bridge, with `tcpdump` and `bridge` as witnesses.

use crate::lab::Lab;

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
                format!("--vms 4 {vlans} {version} --count 5 --interval 1ms --json --filter=off");
            let within = lab.tap_reactor(&format!(
                "{arguments} --ping vm0:vm1 --ping vm2:vm3 --size 1400"
            ));
            let within = within.expect_status(0).json();
            assert_eq!(within["totals"]["received"], 10, "{note}: {within}");
            let across = lab.tap_reactor(&format!("{arguments} --ping vm0:vm2 --ping vm3:vm1"));
            let across = across.expect_status(1).json();
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
            "--allow-fragmentation --size 9000",
            "--allow-fragmentation --size 9000 -6",
        ] {
            let run = lab.tap_reactor(&format!(
                "--vlan {vlan} --ping vm0:vm1 {arguments} --count 5 --interval 1ms --json"
            ));
            let report = run.expect_status(0).json();
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

/// Returns true if the kernel's bridges know VLANs (`CONFIG_BRIDGE_VLAN_FILTERING`).
pub fn kernel_filters(lab: &Lab) -> bool {
    let words = "ip link add probe type bridge vlan_filtering 1";
    let words: Vec<&str> = words.split_whitespace().collect();
    let is_made = lab.run(&words).status == 0;
    if is_made {
        lab.ip("link del probe");
    }
    is_made
}

#[test]
fn vlan_filtering_puts_each_port_in_its_vlan_or_says_that_the_kernel_cannot() {
    let lab = Lab::new();
    let run = lab.tap_reactor(
        "--netns host --vms 4 --vlan vm[0-1]=100 --vlan vm[2-2]=200 --vlan-filtering --ping vm0:vm1 --count 5 --interval \
         1ms --json",
    );
    if !kernel_filters(&lab) {
        assert!(lab.links().is_empty(), "nothing is left behind");
        let refused = run.expect_status(3);
        assert!(
            refused.stderr.contains("CONFIG_BRIDGE_VLAN_FILTERING"),
            "{refused:?}"
        );
        return;
    }
    assert_eq!(run.expect_status(0).json()["totals"]["received"], 5);
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

#[test]
fn where_the_bridges_filter_vlans_meet_across_the_spine_and_at_the_host_and_no_others_do() {
    let lab = Lab::new();
    if !kernel_filters(&lab) {
        return;
    }
    // Two ports a bridge: each VLAN has VMs on both leaves. One of them has a tag of its own inside.
    let layouts = [
        "--vlan vm[0-0]=100 --vlan vm[2-2]=100",
        "--vlan vm[0-0]=100.7 --vlan vm[2-2]=100.7 --vlan vm[1-1]=200.7 --vlan vm[3-3]=200.7",
    ];
    for layout in layouts {
        let line = format!(
            "--netns host --vms 4 --ports-per-bridge 2 {layout} --vlan-filtering --ping vm0:vm2 --ping vm1:vm3 --count 3 --json"
        );
        let run = lab.tap_reactor(&line).expect_status(0).json();
        assert_eq!(run["totals"]["received"], 6, "{layout}: {run}");
        assert_eq!(run["drops"]["other_vlan"], serde_json::Value::Null, "{run}");
        let apart = line
            .replace("vm0:vm2", "vm0:vm1")
            .replace("vm1:vm3", "vm2:vm3");
        let run = lab.tap_reactor(&apart).expect_status(1).json();
        assert_eq!(run["totals"]["received"], 0, "{layout}: {run}");
        assert_eq!(
            run["drops"]["other_vlan"],
            serde_json::Value::Null,
            "the bridge keeps them apart, before a VM could: {run}"
        );
    }
    // The host's side is in every VLAN, by an interface for each.
    let mut serving =
        lab.start_tap_reactor("--netns host --vms 2 --vlan vm[0-0]=100 --vlan-filtering");
    serving.wait_until_it_says("serving");
    lab.ip("link add link br0 name br0.100 type vlan id 100");
    lab.ip("link set br0.100 up");
    lab.ip("address add 10.77.0.1/16 dev br0.100");
    let ping = |address| lab.run(&["ping", "-n", "-c", "2", "-i", "0.1", "-W", "1", address]);
    ping("10.77.0.2").expect_status(0);
    ping("10.77.0.3").expect_status(1);
}
