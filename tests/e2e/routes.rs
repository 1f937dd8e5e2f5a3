//! Ways to other networks, with a kernel that routes between the VMs' network and another one.

use crate::ipv4::start;
use crate::lab::{Lab, Running, wait_until};
use crate::neighbours::host;

/// A router between the lab's bridge and another network with one host: 10.77.0.1 and fd77::1 on this side, 192.0.2.1 and
/// 2001:db8::1 on the other, where the host is 192.0.2.9 and 2001:db8::9.
struct Networks {
    router: Lab,
    far: Lab,
}

impl Networks {
    /// Makes them, and connects the router to the bridge of `lab`, which is there.
    fn new(lab: &Lab) -> Networks {
        let (router, far) = (Lab::new(), Lab::new());
        router.ip(&format!(
            "link add near type veth peer name router netns {}",
            lab.name()
        ));
        lab.ip("link set router master br0 up");
        router.ip(&format!(
            "link add away type veth peer name eth0 netns {}",
            far.name()
        ));
        for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
            router.run(&["sysctl", "-qw", setting]).expect_status(0);
        }
        for (device, ipv4, ipv6) in [
            ("near", "10.77.0.1/16", "fd77::1/64"),
            ("away", "192.0.2.1/24", "2001:db8::1/64"),
        ] {
            router.ip(&format!("link set {device} up"));
            router.ip(&format!("address add {ipv4} dev {device}"));
            router.ip(&format!("address add {ipv6} dev {device} nodad"));
        }
        far.ip("link set eth0 up");
        far.ip("address add 192.0.2.9/24 dev eth0");
        far.ip("address add 2001:db8::9/64 dev eth0 nodad");
        far.ip("route add default via 192.0.2.1");
        far.ip("-6 route add default via 2001:db8::1");
        Networks { router, far }
    }

    /// Waits until the router reaches `address`.
    fn wait_until_near(&self, running: &mut Running, address: &str) {
        wait_until("an answer to the router", || {
            running.expect_alive();
            let ping = self.router.run(&["ping", "-c", "1", "-W", "1", address]);
            (ping.status == 0).then_some(())
        });
    }

    /// How many of three pings from the other network `address` answers.
    fn answers(&self, address: &str) -> usize {
        let ping = ["ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", address];
        let text = self.far.run(&ping).stdout;
        text.lines()
            .filter(|line| line.contains("bytes from"))
            .count()
    }
}

#[test]
fn a_host_of_another_network_is_answered_by_the_gateway_and_not_at_all_without_one() {
    for (options, expected) in [("", 0), ("--gateway 10.77.0.1 --gateway fd77::1", 3)] {
        let lab = Lab::new();
        let mut vms = start(&lab, &format!("--vms 2 --ipv6 {options}"));
        lab.wait_until_ports_forward(&mut vms, &["tap0", "tap1"]);
        let networks = Networks::new(&lab);
        for address in ["10.77.0.2", "fd77::2"] {
            networks.wait_until_near(&mut vms, address);
            assert_eq!(networks.answers(address), expected, "{address} {options:?}");
        }
        vms.expect_alive();
    }
}

#[test]
fn a_gateway_outside_the_network_works_as_with_a_host_route_to_it() {
    let lab = Lab::new();
    let options = "--vms 1 --subnet 10.77.0.2/32 --gateway 169.254.1.1";
    let mut vms = start(&lab, options);
    lab.wait_until_ports_forward(&mut vms, &["tap0"]);
    let networks = Networks::new(&lab);
    networks.router.ip("address add 169.254.1.1/32 dev near");
    // 10.77.0.1 is no neighbour of the VM either.
    networks.wait_until_near(&mut vms, "10.77.0.2");
    assert_eq!(networks.answers("10.77.0.2"), 3);
    vms.expect_alive();
}

#[test]
fn a_ping_that_is_too_big_for_the_path_ends_and_the_next_ones_go_as_the_kernels_do() {
    let lab = Lab::new();
    lab.make_by_hand();
    let networks = Networks::new(&lab);
    let kernel = host(&lab, "kernel");
    kernel.ip("address add 10.77.0.100/16 dev eth0");
    kernel.ip("address add fd77::100/64 dev eth0 nodad");
    kernel.ip("route add default via 10.77.0.1");
    kernel.ip("-6 route add default via fd77::1");
    networks.router.ip("link set away mtu 1280");
    networks.far.ip("link set eth0 mtu 1280");
    for (destination, options, control, is_answered) in [
        ("2001:db8::9", "--ipv6", "", true),
        ("192.0.2.9", "--dont-fragment", "-M do", false),
        ("2001:db8::9", "--ipv6 --dont-fragment", "-M do", false),
    ] {
        wait_until("the other network", || {
            let ping = kernel.run(&["ping", "-n", "-c", "1", "-W", "1", destination]);
            (ping.status == 0).then_some(())
        });
        let control = format!("ping -n -c 20 -i 0.05 -W 1 -s 1400 {control} {destination}");
        let control = kernel.run(&control.split_whitespace().collect::<Vec<_>>());
        let run = lab.tap_reactor(&format!(
            "--netns host --attach --gateway 10.77.0.1 --gateway fd77::1 --ping vm0:{destination} --size 1400 --count 20 \
             --interval 50ms --json {options}"
        ));
        let report = run.json();
        let of = |name: &str| report["totals"][name].as_u64().expect("a count");
        assert!(of("errored") >= 1, "{options}: {report}");
        assert_eq!(report["errors"]["fragmentation_needed"], of("errored"));
        let rest = if is_answered {
            "received"
        } else {
            "unresolved"
        };
        assert_eq!(of(rest) + of("errored"), 20, "{options}: {report}");
        assert!(of(rest) >= 10, "{options}: {report}");
        let dropped = report["drops"]["fragmentation_needed"].as_u64();
        assert_eq!(
            dropped,
            (!is_answered).then(|| of("unresolved")),
            "{report}"
        );
        let is_like_ours = if is_answered {
            !control.stdout.contains(" 0 received")
        } else {
            control.stdout.contains(" 0 received")
        };
        assert!(is_like_ours, "{control:?}");
    }
}
