//! Neighbours that move: an address goes from one host to another, as in a failover, and the kernel's `ping` is asked
//! beside the VM's.

use nix::sys::signal::Signal;

use crate::lab::{Lab, wait_until};

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

/// Echo requests that the host has received.
fn echo_requests(host: &Lab) -> u64 {
    let counters = host.run(&["nstat", "-asz", "IcmpInEchos"]).expect_status(0);
    let line = counters
        .stdout
        .lines()
        .find(|line| line.starts_with("IcmpInEchos"));
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
        let report: serde_json::Value =
            serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
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
