//! Neighbours that move: an address goes from one host to another, as in a failover, and the kernel's `ping` is asked
//! beside the VM's.

use nix::sys::signal::Signal;

use crate::lab::{Lab, Running, wait_until};

/// A host on the lab's bridge, in a namespace of its own.
pub fn host(lab: &Lab, port: &str) -> Lab {
    let host = Lab::new();
    let inside = host.name();
    lab.ip(&format!(
        "link add {port} type veth peer name eth0 netns {inside}"
    ));
    lab.ip(&format!("link set {port} master br0 up"));
    host.ip("link set eth0 up");
    host
}

/// Echo requests over IPv4 that the host has received.
fn echo_requests(host: &Lab) -> u64 {
    count(host, "IcmpInEchos")
}

/// A counter of the host's kernel.
fn count(host: &Lab, name: &str) -> u64 {
    let counters = host.run(&["nstat", "-asz", name]).expect_status(0);
    let line = counters.stdout.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or_else(|| panic!("no count: {counters:?}"))
}

#[test]
fn pings_follow_an_address_that_moves_to_another_host_and_announces_itself() {
    // Requests and replies, as keepalived, MetalLB, Pacemaker and hypervisors announce.
    for announcement in ["-U", "-A"] {
        let lab = Lab::new();
        lab.make_by_hand();
        lab.ip("address add 10.77.0.1/16 dev br0");
        let (old, new) = (host(&lab, "old"), host(&lab, "new"));
        old.ip("address add 10.77.0.60/16 dev eth0");
        let mut run = lab.start_tap_reactor(
            "--netns host --attach --ping vm0:10.77.0.60 --interval 20ms --timeout 500ms --duration 60s --json",
        );
        let control = "ping -n -q -i 0.02 -W 1 -w 60 10.77.0.60";
        let control = lab.start(&control.split(' ').collect::<Vec<_>>());
        wait_until("both to ping the old host", || {
            run.expect_alive();
            (echo_requests(&old) >= 100).then_some(())
        });

        new.ip("address add 10.77.0.60/16 dev eth0");
        let words = format!("arping {announcement} -c 1 -w 2 -I eth0 10.77.0.60");
        new.run(&words.split(' ').collect::<Vec<_>>());
        wait_until("nobody to ping the old host any more", || {
            run.expect_alive();
            let (at_the_old, at_the_new) = (echo_requests(&old), echo_requests(&new));
            wait_until("pings of the new host", || {
                (echo_requests(&new) >= at_the_new + 20).then_some(())
            });
            (echo_requests(&old) == at_the_old).then_some(())
        });
        old.ip("link set eth0 down");
        let at_the_new = echo_requests(&new);
        wait_until("pings without the old host", || {
            (echo_requests(&new) >= at_the_new + 100).then_some(())
        });

        run.signal(Signal::SIGINT);
        control.signal(Signal::SIGINT);
        let report: serde_json::Value =
            serde_json::from_str(&run.wait().stdout).expect("a report in JSON");
        let of = |name: &str| report["totals"][name].as_u64().expect("a count");
        let control = control.wait();
        let lost = of("lost") + of("unresolved");
        assert!(of("received") >= 100, "{report}");
        assert!(lost <= 5, "arping {announcement}: lost {lost}; {control:?}");
    }
}

#[test]
fn pings_follow_an_ipv6_address_that_moves_to_another_host_and_announces_itself() {
    let lab = Lab::new();
    lab.make_by_hand();
    let [old, new, control] = ["old", "new", "control"].map(|port| host(&lab, port));
    old.ip("address add fd77::60/64 dev eth0 nodad");
    control.ip("address add fd77::100/64 dev eth0 nodad");
    let mut run = lab.start_tap_reactor(
        "--netns host --attach --ipv6 --ping vm0:fd77::60 --interval 20ms --timeout 500ms --duration 60s --json",
    );
    let ping = "ping -n -q -i 0.02 -W 1 -w 60 fd77::60";
    let ping = control.start(&ping.split(' ').collect::<Vec<_>>());
    wait_until("both to ping the old host", || {
        run.expect_alive();
        (count(&old, "Icmp6InEchos") >= 100).then_some(())
    });

    // The new host asks if it may have the address, and then announces it.
    old.ip("address del fd77::60/64 dev eth0");
    let setting = "net.ipv6.conf.eth0.ndisc_notify=1";
    new.run(&["sysctl", "-qw", setting]).expect_status(0);
    new.ip("address add fd77::60/64 dev eth0");
    wait_until("both to ping the new host", || {
        run.expect_alive();
        (count(&new, "Icmp6InEchos") >= 200).then_some(())
    });

    run.signal(Signal::SIGINT);
    ping.signal(Signal::SIGINT);
    let report: serde_json::Value =
        serde_json::from_str(&run.wait().stdout).expect("a report in JSON");
    let of = |name: &str| report["totals"][name].as_u64().expect("a count");
    let lost = of("lost") + of("unresolved") + of("errored");
    let ping = ping.wait();
    let words: Vec<u64> = ping
        .stdout
        .lines()
        .find(|line| line.contains("packets transmitted"))
        .map(|line| {
            let numbers = line.split(' ').filter_map(|word| word.parse().ok());
            numbers.collect()
        })
        .unwrap_or_default();
    let [transmitted, received, ..] = words[..] else {
        panic!("no summary: {ping:?}");
    };
    let kernels = transmitted - received;
    assert!(of("received") >= 100, "{report}");
    assert!(lost <= kernels + 50, "lost {lost}, the kernel {kernels}");
}

#[test]
fn pings_leave_a_router_that_dies_for_another_one() {
    let lab = Lab::new();
    lab.make_by_hand();
    let folder = tempfile::TempDir::new().expect("make a temporary directory");
    // Both lead to the same address, and tell times in which a neighbour that is gone is missed soon.
    let routers = ["one", "two"].map(|name| {
        let router = host(&lab, name);
        let setting = "net.ipv6.conf.all.forwarding=1";
        router.run(&["sysctl", "-qw", setting]).expect_status(0);
        router.ip("link set lo up");
        router.ip("-6 address add 2001:db8::9/128 dev lo nodad");
        let preference = if name == "one" { "high" } else { "low" };
        let config = folder.path().join(name);
        let text = format!(
            "interface eth0 {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvReachableTime 500; \
             AdvRetransTimer 100; AdvDefaultPreference {preference}; prefix fd99::/64 {{ }}; }};\n"
        );
        std::fs::write(&config, text).expect("write radvd's configuration");
        router.ip("-6 address add fd99::1/64 dev lo nodad");
        router
    });
    let mut run = lab.start_tap_reactor(
        "--netns host --attach --slaac --ping vm0:2001:db8::9 --interval 20ms --timeout 500ms --duration 60s --json",
    );
    let mut daemons: Vec<Running> = Vec::new();
    for (router, name) in routers.iter().zip(["one", "two"]) {
        wait_until("a link-local address of the router", || {
            let addresses = router.ip("-6 -oneline address show dev eth0 scope link");
            (addresses.contains("fe80:") && !addresses.contains("tentative")).then_some(())
        });
        let config = folder.path().join(name);
        let pid_file = folder.path().join(format!("{name}.pid"));
        let words = ["radvd", "--nodaemon", "--logmethod", "stderr", "--config"];
        let mut words: Vec<&str> = words.to_vec();
        words.push(config.to_str().expect("a path in UTF-8"));
        words.extend(["--pidfile", pid_file.to_str().expect("a path in UTF-8")]);
        daemons.push(router.start(&words));
    }
    let [one, two] = &routers;
    wait_until("pings by the router to prefer", || {
        run.expect_alive();
        (count(one, "Icmp6InEchos") >= 100).then_some(())
    });

    one.ip("link set eth0 down");
    let before = count(two, "Icmp6InEchos");
    wait_until("pings by the other router", || {
        run.expect_alive();
        (count(two, "Icmp6InEchos") >= before + 100).then_some(())
    });
    run.signal(Signal::SIGINT);
    let report: serde_json::Value =
        serde_json::from_str(&run.wait().stdout).expect("a report in JSON");
    // Half a second to three quarters until it is in doubt, five until it is asked, and three questions: at 50 pings a second.
    let lost = report["totals"]["lost"].as_u64().expect("a count");
    assert!(lost <= 50 * 10, "{report}");
}

#[test]
fn addresses_of_vms_behind_ports_that_return_frames_are_in_no_conflict_with_themselves() {
    let lab = Lab::new();
    lab.make_by_hand();
    for tap in ["tap0", "tap1"] {
        let words = ["bridge", "link", "set", "dev", tap, "hairpin", "on"];
        lab.run(&words).expect_status(0);
    }
    for arguments in ["--announce", "--dad"] {
        let run = lab.tap_reactor(&format!(
            "--netns host --attach --ipv6 {arguments} --json --ping vm0:vm1 --ping vm1:vm0 -6 --count 3 --interval 10ms \
             --duration 8s"
        ));
        let report = run.json();
        assert_eq!(
            report["addresses"]["conflicts"]
                .as_array()
                .map_or(0, Vec::len),
            0,
            "{arguments}: {report}"
        );
        assert_eq!(report["totals"]["received"], 6, "{arguments}: {report}");
    }
}
