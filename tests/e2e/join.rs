//! `--join`: TAPs on a bridge that exists, as container engines and hypervisors make them, with somebody on it. The bridge,
//! its other ports and its tables are the same before, during and after the run, however that ends.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Finished, Lab, Running};
use crate::report::Report;
use crate::vlan::kernel_filters;

/// Addresses that nobody has, on the bridge's network.
const ADDRESSES: &str = "--subnet 10.88.0.0/16 --first 10.88.3.1";
const CONTAINER: &str = "10.88.0.5";

/// A bridge with somebody on it.
struct Host {
    lab: Lab,
    container: Lab,
}

impl Host {
    /// Makes the bridge `cni0` with these arguments of `ip link add`, and a container on it; `then` are more commands, `;`
    /// between them, of `ip` or, where they begin with that word, of `bridge`.
    fn new(bridge: &str, container_mtu: u32, then: &str) -> Host {
        let (lab, container) = (Lab::new(), Lab::new());
        // IPv6 would send something of its own accord.
        for lab in [&lab, &container] {
            let off = "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6";
            lab.run(&["sh", "-c", off]).expect_status(0);
        }
        lab.ip(&format!("link add cni0 {bridge}"));
        lab.ip("address add 10.88.0.1/16 dev cni0");
        lab.ip(&format!(
            "link add veth0 mtu {container_mtu} type veth peer name eth0 mtu {container_mtu} netns {}",
            container.name()
        ));
        lab.ip("link set veth0 master cni0 up");
        lab.ip("link set cni0 up");
        container.ip(&format!("address add {CONTAINER}/16 dev eth0"));
        container.ip("link set eth0 up");
        let host = Host { lab, container };
        for command in then.split(';').map(str::trim).filter(|c| !c.is_empty()) {
            let words: Vec<&str> = match command.split_once(' ') {
                Some(("bridge", _)) => command.split_whitespace().collect(),
                _ => ["ip"]
                    .into_iter()
                    .chain(command.split_whitespace())
                    .collect(),
            };
            host.lab.run(&words).expect_status(0);
        }
        host.wait_for_container();
        host
    }

    /// Waits until the bridge carries frames of the container, and has learned its address, as a bridge in use has.
    fn wait_for_container(&self) {
        crate::lab::wait_until("the container on the bridge", || {
            let ping = ["ping", "-c1", "-W1", "10.88.0.1"];
            (self.container.run(&ping).status == 0).then_some(())
        });
    }

    /// All that the run must not change, by what it was asked with. Timers run, and the carrier of a bridge is its ports'.
    fn snapshot(&self) -> BTreeMap<String, Value> {
        const VOLATILE: [&str; 9] = [
            "hello_timer",
            "tcn_timer",
            "topology_change_timer",
            "topology_change",
            "topology_change_detected",
            "gc_timer",
            "message_age_timer",
            "forward_delay_timer",
            "hold_timer",
        ];
        let lab = &self.lab;
        let mut all = BTreeMap::new();
        for (question, mut answer) in [
            ("ip link", lab.ip_json("link show")),
            ("ip address", lab.ip_json("address show")),
            ("ip route", lab.ip_json("route show table all")),
            ("bridge link", lab.bridge_json("-details link show")),
            ("bridge vlan", lab.bridge_json("vlan show")),
            ("bridge fdb", lab.bridge_json("fdb show")),
            ("bridge mdb", lab.bridge_json("mdb show")),
        ] {
            answer.retain(|entry| !is_of_a_tap(entry));
            for entry in &mut answer {
                let Some(info) = entry.get_mut("linkinfo") else {
                    continue;
                };
                for data in ["info_data", "info_slave_data"] {
                    if let Some(Value::Object(data)) = info.get_mut(data) {
                        data.retain(|name, _| !VOLATILE.contains(&name.as_str()));
                    }
                }
            }
            answer.sort_by_key(Value::to_string);
            all.insert(question.to_owned(), Value::from(answer));
        }
        let settings = "cd /proc/sys/net && grep -r . bridge ipv4/conf/cni0 ipv4/conf/veth0 ipv4/conf/default \
                        ipv4/conf/all ipv6/conf/cni0 ipv6/conf/veth0 ipv6/conf/default ipv6/conf/all ipv4/ip_forward";
        let settings = lab.run(&["sh", "-c", settings]);
        // Some may not be read.
        assert!(settings.stdout.contains("ipv4/conf/cni0/arp_filter:0"));
        all.insert("sysctls".to_owned(), settings.stdout.into());
        all
    }

    /// Lets the container's kernel ping an address.
    fn ping_from_container(&self, address: &str) {
        let ping = ["ping", "-c3", "-i0.2", "-W5", address];
        self.container.run(&ping).expect_status(0);
    }

    /// Starts a run on the bridge in which vm0 pings the container, and waits until it does.
    fn start(&self, more: &str) -> Running {
        let mut run = self.lab.start_tap_reactor(&format!(
            "--netns host --join cni0 {ADDRESSES} --ping vm0:{CONTAINER} --interval 20ms --json {more}"
        ));
        self.lab.wait_until_vm_sent(&mut run, "tap0", 20);
        run
    }

    /// Runs on the bridge, is pinged and ended, and once more, and killed: what is not ours stays as it was.
    #[track_caller]
    fn stays_as_it_was(&self, more: &str) {
        let before = self.snapshot();
        let mut run = self.start(more);
        self.ping_from_container("10.88.3.1");
        let while_joined = without_offloads(before.clone());
        let now = without_offloads(self.snapshot());
        assert_same(&now, &while_joined, "during the run");
        run.expect_alive();
        run.signal(Signal::SIGINT);
        let run = run.wait().expect_status(0);
        let report = run.json();
        let totals = &report["totals"];
        assert!(totals["received"].as_u64() > Some(10), "{report}");
        assert_same(&self.snapshot(), &before, "after the run");
        assert_eq!(self.lab.link_names(), ["cni0", "veth0"]);

        let run = self.start(more);
        run.signal(Signal::SIGKILL);
        run.wait();
        let taps = self.lab.links();
        let taps = taps.iter().filter(|(name, _)| name.starts_with("tap"));
        for (name, tap) in taps {
            let alias = tap["ifalias"].as_str().unwrap_or_default();
            assert!(alias.starts_with("tap-reactor pid="), "{name}: {alias}");
        }
        assert_eq!(self.lab.link_names(), ["cni0", "tap0", "tap1", "veth0"]);
        let now = without_offloads(self.snapshot());
        assert_same(&now, &while_joined, "after kill -9");
        let clean = self.lab.tap_reactor("clean").expect_status(0);
        assert!(!clean.stdout.contains("cni0"), "{}", clean.stdout);
        assert_eq!(self.lab.link_names(), ["cni0", "veth0"]);
        assert_same(&self.snapshot(), &before, "after clean");
    }
}

/// Returns true for an entry of a TAP of the run.
fn is_of_a_tap(entry: &Value) -> bool {
    ["ifname", "dev"].iter().any(|key| {
        let name = entry[*key].as_str().unwrap_or_default();
        name.starts_with("tap")
    })
}

/// A snapshot without what is the least of all ports' while they are there: how much a packet may hold that is cut by a card.
fn without_offloads(mut snapshot: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let links = snapshot.values_mut().filter_map(Value::as_array_mut);
    for link in links.flatten().filter_map(Value::as_object_mut) {
        link.remove("tso_max_size");
        link.remove("tso_max_segs");
    }
    snapshot
}

#[track_caller]
fn assert_same(now: &BTreeMap<String, Value>, before: &BTreeMap<String, Value>, when: &str) {
    for (question, answer) in before {
        assert_eq!(now.get(question), Some(answer), "{question} {when}");
    }
}

#[test]
fn a_bridge_with_an_address_of_its_own_stays_as_it_was() {
    let host = Host::new(
        "address 02:42:aa:bb:cc:dd type bridge mcast_snooping 1 mcast_querier 1 nf_call_iptables 1",
        1500,
        "bridge link set dev veth0 isolated off hairpin on; link set cni0 mtu 1500",
    );
    host.stays_as_it_was("");
}

#[test]
fn a_bridge_whose_address_and_mtu_are_its_ports_stays_as_it_was() {
    let host = Host::new("type bridge", 1450, "");
    let bridge = &host.lab.links()["cni0"];
    assert_eq!(bridge["mtu"], 1450);
    assert_eq!(bridge["address"], host.lab.links()["veth0"]["address"]);
    host.stays_as_it_was("");
}

#[test]
fn a_bridge_with_a_larger_mtu_set_by_hand_stays_as_it_was_with_smaller_vms() {
    let host = Host::new("type bridge", 9000, "link set cni0 mtu 9000");
    host.stays_as_it_was("--mtu 1500");
}

/// A bridge that filters VLANs, with `more` beside, where the kernel's bridges can; one that passes all tags where not.
fn vlan_host(more: &str) -> Host {
    match kernel_filters(&Lab::new()) {
        true => Host::new(
            &format!("type bridge vlan_filtering 1 {more}"),
            1500,
            "bridge vlan add dev veth0 vid 100; bridge vlan add dev cni0 vid 100 self",
        ),
        false => Host::new("type bridge", 1500, ""),
    }
}

#[test]
fn a_bridge_that_filters_vlans_stays_as_it_was_and_vms_are_in_its_default_vlan() {
    vlan_host("vlan_default_pvid 7").stays_as_it_was("--vlan vm1=100");
}

#[test]
fn vms_with_a_tag_meet_in_their_vlan_of_the_bridge_and_in_no_other() {
    let host = vlan_host("");
    let other = "--netns host --join cni0 --subnet 10.88.0.0/16 --first 10.88.9.1 --vms 1 --tap-prefix other --vlan 100";
    let mut other = host.lab.start_tap_reactor(other);
    host.lab.wait_until_vm_sent(&mut other, "other0", 3);
    for (vlan, status) in [(100, 0), (101, 1)] {
        let run = host.lab.tap_reactor(&format!(
            "--netns host --join cni0 {ADDRESSES} --vlan vm0={vlan} --ping vm0:10.88.9.1 --count 5 --timeout 500ms"
        ));
        run.expect_status(status);
    }
}

#[test]
fn a_bridge_with_spanning_tree_stays_as_it_was_and_its_new_ports_are_waited_for() {
    let host = Host::new("type bridge stp_state 1 forward_delay 200", 1500, "");
    host.stays_as_it_was("");
    // Pings that are due at once are due when they can pass.
    let run = host.lab.tap_reactor(&format!(
        "--netns host --join cni0 {ADDRESSES} --dad=off --ping vm0:{CONTAINER} --count 5 --json"
    ));
    let told = "cni0 runs the spanning tree protocol: its new ports forward after 4s";
    assert!(run.stderr.contains(told), "{}", run.stderr);
    Report::of_success(run, 5);
}

#[test]
fn a_port_that_does_not_come_to_forward_is_named_with_its_state() {
    let host = Host::new("type bridge stp_state 1 forward_delay 200", 1500, "");
    let mut run = host.lab.start_tap_reactor(&format!(
        "--netns host --join cni0 {ADDRESSES} --ping vm0:{CONTAINER} --count 5"
    ));
    run.wait_until_it_says("forward after 4s");
    host.lab.ip("link set cni0 down");
    let run = run.wait().expect_status(3);
    let told = "wait until port tap1 forwards: its state is Disabled after 9s; expected Forwarding";
    assert!(run.stderr.contains(told), "{}", run.stderr);
    assert_eq!(host.lab.link_names(), ["cni0", "veth0"]);
}

#[test]
fn a_signal_ends_the_wait_for_a_port() {
    let host = Host::new("type bridge", 1500, "");
    // From now on new ports take a minute.
    host.lab
        .ip("link set cni0 type bridge stp_state 1 forward_delay 3000");
    let mut run = host.lab.start_tap_reactor(&format!(
        "--netns host --join cni0 {ADDRESSES} --ping vm0:{CONTAINER} --count 5"
    ));
    run.wait_until_it_says("forward after 1m");
    run.signal(Signal::SIGINT);
    let run = run.wait();
    assert_ne!(run.status, 3, "{run:?}");
    assert_eq!(host.lab.link_names(), ["cni0", "veth0"]);
}

#[test]
fn a_bridge_without_ports_keeps_its_address_and_mtu() {
    let lab = Lab::new();
    lab.ip("link add cni0 mtu 1400 type bridge");
    lab.ip("address add 10.88.0.1/16 dev cni0");
    lab.ip("link set cni0 up");
    let own = || {
        let bridge = &lab.links()["cni0"];
        (bridge["address"].clone(), bridge["mtu"].clone())
    };
    let before = own();
    assert_eq!(before.1, 1400);
    let serve = format!("--netns host --join cni0 {ADDRESSES}");
    for end in [Signal::SIGINT, Signal::SIGKILL] {
        let mut run = lab.start_tap_reactor(&serve);
        lab.wait_until_vm_sent(&mut run, "tap1", 5);
        assert_eq!(own(), before);
        lab.run(&["ping", "-c1", "-W5", "10.88.3.2"])
            .expect_status(0);
        run.signal(end);
        run.wait();
        if end == Signal::SIGKILL {
            assert_eq!(own(), before);
            lab.tap_reactor("clean").expect_status(0);
        }
        assert_eq!(lab.link_names(), ["cni0"]);
        assert_eq!(own(), before, "after {end}");
    }
}

#[test]
fn vms_take_addresses_from_a_dhcp_server_on_the_bridge() {
    let host = Host::new("type bridge", 1500, "");
    let leases = tempfile::TempDir::new().expect("a temporary directory");
    let leases = format!(
        "--dhcp-leasefile={}",
        leases.path().join("leases").display()
    );
    let mut server = host.container.start(&[
        "dnsmasq",
        "--no-daemon",
        "--port=0",
        "--interface=eth0",
        "--bind-interfaces",
        "--conf-file=/dev/null",
        "--no-ping",
        "--dhcp-range=10.88.7.10,10.88.7.99,255.255.0.0,1h",
        &leases,
    ]);
    server.wait_until_it_says("IP range 10.88.7.10");
    let before = host.snapshot();
    let run = host.lab.tap_reactor(&format!(
        "--netns host --join cni0 --dhcp --vms 3 --ping vm0:vm2 --ping vm1:{CONTAINER} --count 5 --json"
    ));
    assert!(run.stdout.contains("10.88.7."), "{}", run.stdout);
    Report::of_success(run, 10);
    assert_same(&host.snapshot(), &before, "after the run");
}

#[test]
fn an_address_that_somebody_on_the_bridge_has_is_told_and_not_used() {
    let host = Host::new("type bridge", 1500, "");
    // vm1 would have the container's.
    let run = host.lab.tap_reactor(
        "--netns host --join cni0 --subnet 10.88.0.0/16 --first 10.88.0.4 --ping vm0:10.88.0.5 --ping vm1:vm0 --count 5",
    );
    let run = run.expect_status(1);
    let why = "tap-reactor: pings not sent, when 1 VM had no address: 5";
    assert!(run.stderr.contains(why), "{}", run.stderr);
    let waited = "when 1 VM had no address";
    assert!(run.stdout.contains(waited), "{}", run.stdout);
    let mac = &host.container.links()["eth0"]["address"];
    let told = format!(
        "vm1: {} claims 10.88.0.5 as well",
        mac.as_str().expect("a MAC")
    );
    assert!(run.stdout.contains(&told), "{}", run.stdout);
    let counted = run.stdout.contains("5 sent, 5 received, 0 % lost");
    assert!(counted, "the container answered: {}", run.stdout);
}

#[test]
fn a_bridge_in_a_named_namespace_is_joined_from_elsewhere() {
    let host = Host::new("type bridge", 1450, "");
    let before = host.snapshot();
    let elsewhere = Lab::new();
    let arguments = format!(
        "--netns {} --join cni0 {ADDRESSES} --ping vm0:{CONTAINER} --count 5 --json",
        host.lab.name()
    );
    Report::of_success(elsewhere.tap_reactor(&arguments), 5);
    assert_same(&host.snapshot(), &before, "after the run");
    let plan = elsewhere.tap_reactor(&format!("{arguments} --dry-run"));
    let plan = plan.expect_status(0).stdout;
    assert!(
        plan.contains("joins bridge cni0 by 2 TAPs, MTU 1450"),
        "{plan}"
    );
}

#[test]
fn what_can_not_be_joined_is_refused_before_anything_is_made() {
    let host = Host::new(
        "type bridge",
        1500,
        "link add down0 type bridge; tuntap add dev mine1 mode tap",
    );
    let before = host.lab.identities();
    let refused = |arguments: &str, status: i32, words: &[&str]| {
        let run: Finished = host.lab.tap_reactor(arguments).expect_status(status);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        for word in words {
            assert!(
                run.stderr.contains(word),
                "{arguments}: {word:?} is missing in: {}",
                run.stderr
            );
        }
        assert_eq!(host.lab.identities(), before, "{arguments}");
    };
    for (join, status, words) in [
        (
            "absent --netns host",
            2,
            &[
                "join bridge absent: there is no such link",
                "expected one of cni0, down0",
            ][..],
        ),
        (
            "veth0 --netns host",
            2,
            &[
                "join bridge veth0: it is neither a bridge nor a TAP; expected a Linux bridge",
                "--fabric none",
            ],
        ),
        (
            "mine1 --netns host",
            2,
            &["join bridge mine1: it is a TAP; expected a Linux bridge"],
        ),
        (
            "down0 --netns host",
            2,
            &["join bridge down0: it is down; ip link set down0 up"],
        ),
        (
            "cni0 --netns absent",
            2,
            &["enter namespace absent: there is none of that name"],
        ),
        (
            "cni0",
            2,
            &["--join cni0: expected with --netns host, or with --netns NAME"],
        ),
        (
            "cni0 --netns host --vms 1023",
            2,
            &["it has 1 of 1023 ports, and 1023 VMs need one each; --vms 1022 or less"],
        ),
        (
            "cni0 --netns host --tap-prefix mine",
            3,
            &["create TAP mine1: a link of that name exists, a TAP; choose another --tap-prefix"],
        ),
        (
            "cni0 --netns host --mac vm1=BRIDGE",
            3,
            &["is the address of bridge cni0 itself"],
        ),
    ] {
        let address = host.lab.links()["cni0"]["address"].clone();
        let join = join.replace("BRIDGE", address.as_str().expect("a MAC"));
        refused(
            &format!("{ADDRESSES} --ping vm0:vm1 --count 1 --join {join}"),
            status,
            words,
        );
    }
    refused(
        "--join cni0 --netns host --ping vm0:vm1 --count 1",
        2,
        &[
            "expected with --dhcp, or with --subnet and --first",
            "cni0 itself has 10.88.0.1/16, so --subnet 10.88.0.0/16",
        ],
    );
    refused(
        "--bridge cni0 --netns host --ping vm0:vm1 --count 1",
        3,
        &[
            "create bridge cni0: a link of that name exists, a bridge; choose another --bridge, or add TAPs to that one: --join cni0",
        ],
    );
}
