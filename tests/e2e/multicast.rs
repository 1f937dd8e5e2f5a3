//! Multicast groups: the members' replies to pings, and a bridge that snoops and believes what VMs report.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Lab, wait_until};

const GROUP: &str = "239.1.2.3";

fn report(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

#[test]
fn pings_to_groups_are_counted_for_each_member_on_every_fabric() {
    // The two IPv4 groups have one hardware address.
    let groups = [GROUP, "239.129.2.3", "ff05::1:3"];
    let joined: String = groups
        .iter()
        .map(|group| format!("--join {group} "))
        .collect();
    for fabric in [
        "bridge",
        "bridge --filter",
        "bridge --filter=off",
        "xdp",
        "sim",
    ] {
        let lab = Lab::new();
        let run = lab.tap_reactor(&format!(
            "--fabric {fabric} --vms 4 {joined} --ping multicast --count 20 --timeout 5s --json"
        ));
        let report = report(&run.expect_status(0).stdout);
        assert_eq!(report["totals"]["sent"], 60, "{fabric}");
        assert_eq!(report["totals"]["received"], 60, "{fabric}");
        assert_eq!(report["totals"]["duplicate"], 0, "{fabric}");
        assert_eq!(report["rtt_ns"]["count"], 180, "{fabric}");
        assert_eq!(report["response_ns"]["count"], 60, "{fabric}");
        // Reports go to a group of routers, in which no VM is.
        if ["bridge --filter", "xdp"].contains(&fabric) {
            let dropped = report["drops"].get("not_for_our_mac");
            assert_eq!(dropped, None, "{fabric}");
        }
        for (flow, group) in report["flows"].as_array().unwrap().iter().zip(groups) {
            assert_eq!((&flow["src"], &flow["dst"]), (&"vm0".into(), &group.into()));
            let members: Vec<_> = flow["members"]
                .as_array()
                .unwrap()
                .iter()
                .map(|member| (member["vm"].as_str().unwrap(), member["received"].as_u64()))
                .collect();
            let all = ["vm1", "vm2", "vm3"].map(|vm| (vm, Some(20)));
            assert_eq!(members, all, "{fabric} {group}");
        }
    }
}

#[test]
fn a_run_waits_for_the_slowest_member_and_its_status_tells_of_a_dead_one() {
    for fabric in ["bridge", "xdp"] {
        let lab = Lab::new();
        let options =
            format!("--fabric {fabric} --vms 3 --join {GROUP} --ping multicast --count 3 --json");
        let slow = "--timeout 5s --impair vm1:delay=50ms --impair vm2:duplicate=100%";
        let run = lab.tap_reactor(&format!("{options} {slow}"));
        let whole = report(&run.expect_status(0).stdout);
        assert_eq!(whole["rtt_ns"]["count"], 6, "{fabric}");
        let dead = "--timeout 1s --impair vm2:loss=100% --expect lost=0";
        let run = lab.tap_reactor(&format!("{options} {dead}"));
        let run = run.expect_status(1);
        let told = format!("vm2 answered 0 of 3 pings to {GROUP}");
        assert!(run.stderr.contains(&told), "{}", run.stderr);
        assert_eq!(report(&run.stdout)["totals"]["member_lost"], 3, "{fabric}");
    }
}

#[test]
fn a_member_that_is_none_of_the_runs_vms_is_told_by_its_address() {
    let lab = Lab::new();
    let host = Lab::new();
    lab.ip("link add br0 type bridge mcast_snooping 0");
    lab.ip("link set br0 up");
    let peer = host.name();
    lab.ip(&format!(
        "link add port0 type veth peer name eth0 netns {peer}"
    ));
    lab.ip("link set port0 master br0 up");
    host.ip("link set eth0 up");
    host.ip("address add 10.77.0.9/16 dev eth0");
    let answer = "echo 0 > /proc/sys/net/ipv4/icmp_echo_ignore_broadcasts";
    host.run(&["sh", "-c", answer]).expect_status(0);
    host.ip(&format!("address add {GROUP} dev eth0 autojoin"));
    let netns = lab.name();
    let run = lab.tap_reactor(&format!(
        "--netns {netns} --join br0 --subnet 10.77.0.0/16 --first 10.77.0.2 --dad=off --join {GROUP} \
         --vms 2 --ping vm0:{GROUP} --count 10 --timeout 5s --json"
    ));
    let report = report(&run.expect_status(0).stdout);
    let members = &report["flows"][0]["members"];
    let expected = serde_json::json!([
        {"vm": "vm1", "address": "10.77.0.3", "received": 10, "lost": 0},
        {"address": "10.77.0.9", "received": 10, "lost": 0},
    ]);
    assert_eq!(members, &expected);
}

#[test]
fn a_bridge_that_snoops_steers_to_the_members_that_report_and_hears_them_leave() {
    let version_2 = [
        format!("igmp v2 report {GROUP}"),
        format!("igmp leave {GROUP}"),
    ];
    let version_3 = [
        format!("gaddr {GROUP} is_ex"),
        format!("gaddr {GROUP} to_in"),
    ];
    // The bridge asks when a port comes up, before the member behind it has reported. In version 2 a member that has heard
    // of another one leaves without a word.
    for (version, members, leavers, [joins, leaves]) in [
        (2, 1, 1, &version_2),
        (2, 2, 0, &version_2),
        (3, 2, 2, &version_3),
    ] {
        let lab = Lab::new();
        // A response interval of a second, after which it steers; and no second query soon.
        lab.ip(&format!(
            "link add br0 type bridge mcast_snooping 1 mcast_igmp_version {version} \
             mcast_query_response_interval 100"
        ));
        lab.ip("link set br0 type bridge mcast_querier 1");
        lab.ip("link set br0 up");
        let mut capture = lab.start(&[
            "tcpdump",
            "-n",
            "-v",
            "-l",
            "--immediate-mode",
            "-i",
            "br0",
            "igmp",
        ]);
        capture.wait_until_it_says("listening on");
        let scenario = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        let text = format!(
            "timeout = '5s'\n[[group]]\nname = 'others'\nvms = 2\n[[group]]\nname = 'members'\nvms = {members}\n\
             join = ['{GROUP}']\n[[phase]]\nname = 'all'\nping = ['vm0:{GROUP}']\ninterval = '20ms'\n\
             duration = '1000s'\n"
        );
        std::fs::write(scenario.path(), text).unwrap();
        let netns = lab.name().to_owned();
        let mut run = lab.start_tap_reactor(&format!(
            "--scenario {} --netns {netns} --join br0 --subnet 10.77.0.0/16 --first 10.77.0.2 --dad=off --json",
            scenario.path().display()
        ));
        wait_until("the bridge to steer to members only", || {
            run.expect_alive();
            let frames = |tap| Some(lab.frames(tap)?.queued_for_vm);
            let (other, member) = (frames("tap1")?, frames("tap2")?);
            wait_until("more pings", || {
                (frames("tap2")? >= member + 20).then_some(())
            });
            (frames("tap1")? == other).then_some(())
        });
        let entries = lab.bridge_json("mdb show");
        let mut ports: Vec<&str> = entries
            .iter()
            .flat_map(|bridge| bridge["mdb"].as_array().into_iter().flatten())
            .filter(|entry| entry["grp"] == GROUP)
            .map(|entry| entry["port"].as_str().unwrap())
            .collect();
        ports.sort_unstable();
        assert_eq!(ports, &["tap2", "tap3"][..members], "{entries:?}");
        run.signal(Signal::SIGINT);
        let report = report(&run.wait().stdout);
        let sent = report["totals"]["sent"].as_u64().unwrap();
        for member in report["flows"][0]["members"].as_array().unwrap() {
            assert_eq!(member["received"].as_u64(), Some(sent), "{member}");
        }
        let told_by = |what: &str| {
            let text = capture.stdout();
            let of_members = ["10.77.0.4 > ", "10.77.0.5 > "].into_iter();
            let told = of_members.filter(|from| {
                let mut lines = text.lines();
                lines.any(|line| line.contains(from) && line.contains(what))
            });
            told.count()
        };
        wait_until("the members to leave", || {
            (told_by(leaves) >= leavers).then_some(())
        });
        assert_eq!(told_by(joins), members, "{}", capture.stdout());
        assert!(!capture.stdout().contains("10.77.0.2 >"), "vm0 has joined");
    }
}
