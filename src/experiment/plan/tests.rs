//! Scenarios and flags, right and wrong.

use super::*;
use crate::experiment::options::option;
use crate::load::{Arrivals, Pacing};
use crate::system::{Neighbours, Outside};
use crate::wire::MacAddr;

/// No memory to fill, and some bridges.
const NO_MACHINE: Surroundings = Surroundings {
    free_memory: None,
    processes: Processes::One,
    find_bridge: |_, name| {
        Ok(match name {
            "bare0" => ExistingBridge::example(name, 1500, 1, &[], None),
            "full0" => ExistingBridge::example(name, 1500, 1022, &["10.88.0.1/16"], None),
            "vlan0" => ExistingBridge::example(name, 1500, 1, &[], Some(1)),
            "tagged0" => ExistingBridge::example(name, 1500, 1, &[], Some(0)),
            _ => ExistingBridge::example(name, 1450, 3, &["fd88::1/64", "10.88.0.1/16"], None),
        })
    },
    find_link: |name| {
        Ok(match name {
            "eth0" => ExistingLink::example(name, 1500, &["192.0.2.7/24"]),
            "wg0" => ExistingLink::example(name, 1420, &[]),
            _ => ExistingLink::example(name, 9000, &["fe80::1/64"]),
        })
    },
    find_port: |_, name| {
        Ok(match name {
            "wg0" => ExistingLink::example(name, 1420, &[]),
            _ => ExistingLink::example(name, 9000, &["192.0.2.7/24"]),
        })
    },
    underlay_mtu: |_| Ok(1450),
};

/// The plan that these flags make, `--name value` or `--switch`.
fn flags(line: &str) -> Result<Experiment, String> {
    flags_on(&Surroundings::of_this_machine(Processes::One), line)
}

/// The same on a machine that has the bridges of [`NO_MACHINE`].
fn joined(line: &str) -> Result<Experiment, String> {
    flags_on(&NO_MACHINE, line)
}

fn flags_on(surroundings: &Surroundings, line: &str) -> Result<Experiment, String> {
    let mut settings = Settings::default();
    let mut words = line.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let name = word.trim_start_matches("--");
        let (name, text) = match name.split_once('=') {
            Some((name, text)) => (name, Some(text)),
            None => (name, None),
        };
        let option = option(name).unwrap_or_else(|| panic!("{name}"));
        let text = text.or_else(|| words.next_if(|next| !next.starts_with("--")));
        settings.add_flag(option.name, text.or(option.implied).unwrap_or("on"));
    }
    let scenario = Scenario::default().overlaid(&settings);
    plan_flows(&scenario, usize::MAX, surroundings).map_err(|error| error.to_string())
}

#[test]
fn a_machine_has_room_for_the_processes_that_it_has() {
    let on = |processes| {
        let machine = Surroundings {
            free_memory: Some(200_000_000),
            processes,
            ..NO_MACHINE
        };
        flags_on(&machine, "--vms 10000 --ping pairs --count 1").map(|_| ())
    };
    let rank = crate::ranks::Rank::new(3, 10).unwrap();
    assert_eq!(on(Processes::Rank(rank)), Ok(()));
    for all in [Processes::One, Processes::All(10)] {
        let error = on(all).unwrap_err();
        assert!(error.starts_with("10000 VMs take 1.0 GB"), "{error}");
    }
}

fn file(text: &str) -> Result<Experiment, String> {
    let scenario = Scenario::parse("lab.toml", text).map_err(|error| error.to_string())?;
    plan(&scenario).map_err(|error| error.to_string())
}

fn names(experiment: &Experiment) -> Vec<(&str, bool, u32, u32)> {
    let phase = |p: &'_ crate::hypervisor::Phase| {
        let first = p.load.flows.iter().next().map_or(0, |first| first.0);
        (p.is_counted, first, p.load.flows.end())
    };
    let phases = experiment.phases.iter();
    phases
        .map(|p| (p.name.as_str(), phase(p).0, phase(p).1, phase(p).2))
        .collect()
}

#[test]
fn without_any_word_two_vms_serve() {
    let experiment = flags("").unwrap();
    assert_eq!((experiment.vms.len(), experiment.flows.len()), (2, 0));
    assert!(experiment.phases.is_empty() && experiment.serve.is_none());
    assert_eq!(
        flags("--duration 3s").unwrap().serve,
        Some(Duration::from_secs(3))
    );
}

#[test]
fn the_defaults_of_options_are_those_of_the_library() {
    let plan = flags("").unwrap();
    let (lab, default) = (&plan.lab, LabConfig::default());
    let shared = |lab: &LabConfig| {
        format!(
            "{} {:?} {} {} {} {} {}",
            lab.vms,
            lab.netns,
            lab.fabric,
            lab.bridge,
            lab.tap_prefix,
            lab.mtu,
            lab.ports_per_bridge
        )
    };
    assert_eq!(shared(lab), shared(&default));
    assert_eq!(plan.vm_defaults.ping, crate::vm::PingOptions::default());
    assert_eq!(plan.address_wait, crate::hypervisor::ADDRESS_WAIT);
    assert_eq!(flags("--fabric sim").unwrap().impairments, []);
}

#[test]
fn a_flow_has_the_defaults_of_ping() {
    let experiment = flags("--ping vm0:vm1 --count 100").unwrap();
    let [phase] = experiment.phases.as_slice() else {
        panic!("{:?}", experiment.phases)
    };
    assert_eq!(
        phase.load.pacing,
        Pacing::Interval(Duration::from_millis(10))
    );
    assert_eq!(
        (phase.load.count, phase.duration, phase.name.as_str()),
        (Some(100), None, "")
    );
    assert_eq!(experiment.flows[0].payload_length, 56);
    assert_eq!(experiment.timeout, Duration::from_secs(1));
    assert_eq!(experiment.planned_pings(), Some(100));
}

#[test]
fn an_address_that_belongs_to_a_vm_means_that_vm() {
    let experiment = flags("--ping vm0:10.77.0.3 --ping vm1:10.77.0.1").unwrap();
    assert_eq!(experiment.flows[0].target, Target::Vm(VmId(1)));
    assert_eq!(
        experiment.flows[1].target,
        Target::Address("10.77.0.1".parse().unwrap())
    );
}

#[test]
fn a_vm_can_have_a_hardware_address_of_its_own() {
    let experiment = flags("--mac vm1=02:00:00:00:00:01").unwrap();
    assert_eq!(experiment.vms[1].mac, MacAddr([2, 0, 0, 0, 0, 1]));
}

#[test]
fn a_ramp_is_a_phase_for_each_step_after_the_warm_up_all_with_the_same_flows() {
    let line = "--vms 3 --ping ring --ramp 100:300:3 --duration 3s --warmup 1s --arrivals poisson";
    let experiment = flags(line).unwrap();
    let expected = [
        ("warm-up", false, 0, 3),
        ("100 pings/s", true, 0, 3),
        ("200 pings/s", true, 0, 3),
        ("300 pings/s", true, 0, 3),
    ];
    assert_eq!(names(&experiment), expected);
    assert!(
        experiment
            .phases
            .iter()
            .all(|p| p.duration == Some(Duration::from_secs(1)))
    );
    assert!(
        experiment
            .phases
            .iter()
            .all(|p| p.load.arrivals == Arrivals::Poisson)
    );
}

#[test]
fn groups_have_their_own_addresses_and_sizes_and_phases_follow_each_other() {
    let experiment = file(
        r#"
        subnet = "10.5.0.0/24"
        count = 3
        [[group]]
        name = "server"
        address = "10.5.0.100"
        mac = "02:00:00:00:00:ff"
        [[group]]
        name = "client"
        vms = 2
        size = 1000
        [[phase]]
        name = "calm"
        ping = ["client:server"]
        interval = "1ms"
        [[phase]]
        ping = ["client:server"]
        window = 2
        [[phase]]
        ping = ["server:vm2"]
        size = 8
        rate = 2e3
        duration = "1s"
        "#,
    )
    .unwrap();
    assert_eq!(experiment.vms[0].address.to_string(), "10.5.0.100");
    assert_eq!(experiment.vms[0].mac.to_string(), "02:00:00:00:00:ff");
    assert_eq!(experiment.vms[1].address.to_string(), "10.5.0.3");
    let expected = [
        ("calm", true, 0, 2),
        ("phase 1", true, 0, 2),
        ("phase 2", true, 2, 3),
    ];
    assert_eq!(names(&experiment), expected);
    let flows: Vec<_> = experiment
        .flows
        .iter()
        .map(|f| (f.source.0, f.payload_length))
        .collect();
    assert_eq!(flows, [(1, 1000), (2, 1000), (0, 8)]);
    assert_eq!(experiment.phases[2].load.pacing, Pacing::Rate(2_000.0));
}

#[test]
fn vms_ask_before_the_first_ping_or_get_help_where_that_would_take_more_than_a_second() {
    use crate::system::Neighbours::{AtOnce, Before, Proxy, Static};
    let ring = |vms: u32| u64::from(vms) * u64::from(vms - 1);
    let cases = [
        ("--vms 2 --ping vm0:vm1", Before, None),
        ("--vms 1000 --ping ring", Before, None),
        ("--vms 1002 --ping ring", Proxy, Some(ring(1002))),
        // Without a filter each VM has to read the requests to others.
        ("--vms 600 --ping ring --filter=off", Before, None),
        ("--vms 700 --ping ring --filter=off", Proxy, Some(ring(700))),
        ("--vms 700 --ping ring", Before, None),
        (
            "--vms 10000 --ping random:1 --rate 20000 --duration 30s",
            Proxy,
            None,
        ),
        // Whoever is asked knows the other: half as many requests as flows.
        ("--vms 100 --ping mesh", Before, None),
        ("--vms 200 --ping mesh", Proxy, Some(200 * 199 / 2 * 199)),
        ("--vms 4000 --ping ring --resolve before", Before, None),
        ("--vms 4000 --ping ring --resolve at-once", AtOnce, None),
        ("--vms 4000 --ping ring --resolve static", Static, None),
        (
            "--vms 4000 --ping ring --ping-ipv6",
            Static,
            Some(ring(4000)),
        ),
        ("--vms 4000 --ping ring --vlan 7", Static, Some(ring(4000))),
        ("--vms 4000 --ping ring --dad", Static, Some(ring(4000))),
        (
            "--vms 4000 --ping ring --netns host --attach",
            Static,
            Some(ring(4000)),
        ),
        ("--vms 4000 --ping ring --dhcp", Before, None),
        ("--vms 4000 --ping ring --fabric none", Before, None),
        ("--vms 4000 --ping ring --fabric xdp", Before, None),
        (
            "--vms 4000 --ping ring --fabric xdp --ping-ipv6",
            Before,
            None,
        ),
        ("--vms 4000 --ping ring --fabric sim", Before, None),
        // Nobody can answer for somebody outside.
        ("--vms 4000 --ping all:10.77.0.1", Before, None),
        ("--vms 3 --resolve proxy --ping ring", Proxy, None),
    ];
    for (line, neighbours, spared) in cases {
        let experiment = flags(line).expect(line);
        assert_eq!(experiment.lab.neighbours, neighbours, "{line}");
        if spared.is_some() || neighbours == Before {
            assert_eq!(experiment.resolution.spared, spared, "{line}");
        }
    }
}

#[test]
fn neighbours_are_asked_for_so_many_at_once_and_not_for_ever() {
    type First = Option<(u32, u64)>;
    let cases: [(&str, u64, First); 12] = [
        // Requests, and of those at once, and how long at most, in milliseconds.
        ("--vms 2 --ping vm0:vm1", 1, Some((64, 1_200))),
        (
            "--vms 2 --ping vm0:vm1 --txqueuelen 10",
            1,
            Some((2, 1_200)),
        ),
        ("--vms 2 --ping vm0:vm1 --txqueuelen 1", 1, Some((1, 1_200))),
        ("--vms 1000 --ping ring", 1_000, Some((32, 3_200))),
        ("--vms 100 --ping mesh", 4_950, Some((64, 2_279))),
        (
            "--vms 1500 --ping ring --resolve before",
            1_500,
            Some((21, 5_727)),
        ),
        // All go outside: nobody is spared, but it takes no longer for that.
        ("--vms 4000 --ping all:10.77.0.1", 4_000, Some((8, 3_200))),
        (
            "--vms 3 --ping vm0:10.9.9.9 --ping vm0:10.8.8.8 --gateway 10.77.0.1",
            1,
            Some((64, 1_200)),
        ),
        ("--vms 4 --ping mesh --resolve static", 0, None),
        ("--vms 4 --ping mesh --resolve at-once", 6, None),
        ("--vms 4 --ping mesh --resolve proxy", 12, Some((64, 1_200))),
        ("--vms 2000 --ping mesh --resolve proxy", 3_998_000, None),
    ];
    for (line, requests, first) in cases {
        let resolution = flags(line).expect(line).resolution;
        assert_eq!(resolution.requests, requests, "{line}");
        let found = resolution
            .first
            .map(|first| (first.outstanding, first.at_most.as_millis() as u64));
        assert_eq!(found, first, "{line}");
    }
}

#[test]
fn a_filter_is_chosen_by_what_it_saves() {
    for (line, filter) in [
        ("--vms 2 --ping vm0:vm1 --count 100", false),
        ("--vms 2 --ping vm0:vm1 --filter", true),
        ("--vms 100 --ping mesh", true),
        ("--vms 100 --ping mesh --filter=off", false),
        ("--vms 100 --ping mesh --resolve static", false),
        ("--vms 100 --ping mesh --rate 20000 --duration 10m", true),
        ("--vms 100 --ping pairs --window 16", false),
        ("--vms 100 --ping pairs --count 10", false),
        ("--vms 200 --ping pairs --count 10", true),
        ("--vms 300 --ping mesh", false),
        ("--vms 1000 --ping ring --interval 100ms", true),
        ("--vms 1000", false),
        ("--vms 1000 --announce", true),
        ("--vms 100 --join 239.1.2.3", true),
        ("--vms 20 --join 239.1.2.3", false),
        (
            "--vms 1000 --join 239.1.2.3 --join 239.1.2.4 --ping multicast --count 2",
            true,
        ),
        ("--vms 1000 --join 239.1.2.3 --fabric xdp", false),
    ] {
        assert_eq!(flags(line).expect(line).lab.filter, filter, "{line}");
    }
}

#[test]
fn flags_that_cannot_be_are_named_with_what_is_expected() {
    let cases = [
        (
            "--fabric token-ring",
            "--fabric token-ring: expected bridge, ",
        ),
        (
            "--fabric sim --filter=on --host-address 10.77.0.1/16",
            "--host-address 10.77.0.1/16: needs --fabric",
        ),
        (
            "--impair vm1:loss=101%",
            "--impair vm1:loss=101%: loss=101%: expected a share from 0% to 100%",
        ),
        (
            "--fabric sim --netns host",
            "--netns host: needs --fabric bridge, xdp, none or interface, and the fabric is sim",
        ),
        (
            "--fabric none --attach",
            "--attach: needs --fabric bridge, and the fabric is none",
        ),
        (
            "--resolve proxy --vlan 7",
            "--resolve proxy: expected before, at-once or static with VLANs",
        ),
        (
            "--resolve proxy --ping vm0:vm1 --ping-ipv6",
            "--resolve proxy: expected before, at-once or static with pings over IPv6",
        ),
        (
            "--ipv6=off --ping vm0:vm1 --ping-ipv6",
            "--ping-ipv6: cannot be used with --ipv6=off",
        ),
        (
            "--ipv6=off --subnet6 fd00::/64",
            "--subnet6 fd00::/64: cannot be used with --ipv6=off",
        ),
        (
            "--ipv6=off --ping vm0:fd77::9",
            "--ping vm0:fd77::9: cannot be used with --ipv6=off",
        ),
        (
            "--subnet 10.77.0.0/31",
            "--subnet 10.77.0.0/31: has room for 0 VMs (network, host side and broadcast address taken off), not for 2; \
             expected a prefix of 29 bits or fewer",
        ),
        (
            "--vms 99999999",
            "--vms 99999999: expected no more than 1048576",
        ),
        (
            "--interval 3 --rate 5",
            "--interval 3: cannot be used with --rate; expected one of them",
        ),
        (
            "--rate 5 --window 3",
            "--rate 5: cannot be used with --window; expected one of them",
        ),
        (
            "--ping mehs",
            "--ping mehs: expected SRC:DST with vmI, vm[I-J] or all on each side (or an address as DST), mesh, ring, \
             pairs, multicast or random:K; did you mean mesh?",
        ),
        (
            "--ping random:9",
            "--ping random:9: each VM has 1 others; expected random:1 to random:1",
        ),
        (
            "--ping random:x",
            "--ping random:x: expected a number of peers after random:, 1 or more",
        ),
        (
            "--mac vm0=02:00:00:00:00:01 --mac vm1=02:00:00:00:00:01",
            "--mac vm1=02:00:00:00:00:01: vm0 and vm1 both have 02:00:00:00:00:01; expected a different one for each",
        ),
        (
            "--mac vm0=02:00:00:00:00:01 --mac vm0=02:00:00:00:00:02",
            "--mac vm0=02:00:00:00:00:02: vm0 has one already; expected one for each VM",
        ),
        (
            "--vlan 5 --vlan 6",
            "--vlan 6: given more than once for all VMs; expected one",
        ),
        (
            "--vms 4 --vlan vm[0-1]=5 --vlan vm[1-2]=6",
            "--vlan vm[1-2]=6: vm1 is in a VLAN already; expected each VM once",
        ),
        ("--fabric none --hook=", "--hook '': expected a command"),
        (
            "--interval 99999999h",
            "--interval 99999999h: expected no more than 100 years",
        ),
        (
            "--ports-per-bridge 5000",
            "--ports-per-bridge 5000: 5000 ports for a bridge; expected 1 to 1023",
        ),
        (
            "--netns host --attach --txqueuelen 5",
            "--txqueuelen 5: cannot be used with --attach, which leaves the TAPs as they are",
        ),
        (
            "--resolve befor",
            "--resolve befor: expected before, at-once, static or proxy; did you mean before?",
        ),
        (
            "--resolve proxy --netns host --attach",
            "--resolve proxy: expected before, at-once or static with --attach",
        ),
        (
            "--resolve proxy --fabric sim",
            "--resolve proxy: expected before, at-once or static with another fabric",
        ),
        (
            "--resolve maybe",
            "--resolve maybe: expected before, at-once, static or proxy",
        ),
        (
            "--hook true",
            "--hook true: needs --fabric none, and the fabric is bridge",
        ),
        ("--vms 0", "--vms 0: expected 1 or more"),
        (
            "--vms 70000 --subnet 10.77.0.0/16",
            "--subnet 10.77.0.0/16: has room for 65533 VMs",
        ),
        (
            "--vms 5 --ports-per-bridge 0",
            "--ports-per-bridge 0: 0 ports for a bridge; expected 1 to 1022",
        ),
        (
            "--vms 1024 --ports-per-bridge 1023",
            "--ports-per-bridge 1023: 1023 ports for a bridge; expected 1 to 1022",
        ),
        (
            "--spin soon",
            "--spin=soon: expected a time such as 200us, 10ms or 2s, or a number of seconds, or always or off",
        ),
        (
            "--fabric sim --spin always",
            "--spin: needs --fabric bridge, xdp, none or interface, and the fabric is sim",
        ),
        (
            "--txqueuelen 0",
            "--txqueuelen 0: expected a number of frames, 1 or more",
        ),
        ("--vms many", "--vms many: expected a number of VMs"),
        (
            "--ping vm0:vm7",
            "--ping vm0:vm7: there is no vm7; expected vm0 to vm1",
        ),
        ("--ping vm0:vm0", "vm0 can't ping itself"),
        ("--ping vm0:10.77.0.2", "vm0 can't ping itself"),
        ("--ping vm0", "expected SRC:DST"),
        (
            "--ping vm0:10.99.0.1",
            "10.99.0.1 is not a host of 10.77.0.0/16",
        ),
        (
            "--ping vm0:10.77.255.255",
            "10.77.255.255 is not a host of 10.77.0.0/16",
        ),
        ("--ping vm0:10.77.0.0", "10.77.0.0 is not a host of"),
        ("--gateway router", "expected an address, such as 10.77.0.1"),
        (
            "--gateway 10.77.255.255",
            "no host has that address; expected one such as 10.77.0.1",
        ),
        (
            "--gateway 240.0.0.1",
            "no host has that address; expected one such as 10.77.0.1",
        ),
        (
            "--gateway 10.77.0.1 --gateway 10.77.0.9",
            "--gateway 10.77.0.9: expected one IPv4 and one IPv6 address",
        ),
        (
            "--gateway fd77::",
            "no host has that address; expected one such as fd77::1",
        ),
        (
            "--gateway ff02::2",
            "no host has that address; expected one such as fd77::1",
        ),
        (
            "--vms 1 --gateway fd77::2",
            "that is the address of vm0, the only VM",
        ),
        (
            "--slaac --gateway fd77::1",
            "--gateway fd77::1: cannot be used with --slaac",
        ),
        (
            "--dhcp6 --gateway fd77::1",
            "--gateway fd77::1: cannot be used with --dhcp6: routers name themselves",
        ),
        (
            "--dhcp6 --ipv6=off",
            "--dhcp6: cannot be used with --ipv6=off",
        ),
        (
            "--dhcp6 --ping vm0:ff02::1",
            "ff02::1 is not the address of one host",
        ),
        (
            "--dhcp6 --resolve static",
            "--resolve static: expected before or at-once with --dhcp6",
        ),
        ("--dhcp6 --mtu 1279", "IPv6 needs an MTU of 1280 or more"),
        (
            "--gateway 10.77.0.1 --ping-ipv6 --ping vm0:2001:db8::1",
            "2001:db8::1 is not a host of fd77::/64, and without --gateway, --slaac or --dhcp6 VMs",
        ),
        (
            "--vms 1 --gateway 10.77.0.2",
            "that is the address of vm0, the only VM",
        ),
        (
            "--gateway 10.77.0.1 --ping vm0:10.77.255.255",
            "10.77.255.255 is not a host of",
        ),
        (
            "--gateway 10.77.0.1 --ping vm0:127.0.0.1",
            "127.0.0.1 is not a host of",
        ),
        (
            "--ping vm0:vm1 --count 0",
            "--count 0: expected a whole number from 1 on",
        ),
        ("--count 0", "--count 0: expected a whole number from 1 on"),
        ("--count 5", "--count 5: nothing is pinged"),
        (
            "--ping vm0:vm1 --interval 0s",
            "--interval 0s: expected more than 0",
        ),
        ("--timeout fast", "--timeout fast: expected a time such as"),
        ("--duration 0ms", "more than 0"),
        (
            "--size 1473",
            "--size 1473: expected 0 to 1472 with an MTU of 1500 (IPv4 and ICMP headers take 28 bytes), or up to 65507",
        ),
        (
            "--ping vm0:vm1 --size 65508 --allow-fragmentation",
            "--size 65508: expected 0 to 65507 in fragments",
        ),
        ("--ping vm0:vm1 --size 100 --mtu 100", "expected 0 to 72"),
        (
            "--allow-fragmentation --dont-fragment",
            "cannot be used with --allow-fragmentation",
        ),
        ("--ttl 0", "--ttl 0: expected 1 to 255"),
        ("--ttl 256", "--ttl 256: expected 1 to 255"),
        ("--dscp 64", "--dscp 64: expected 0 to 63"),
        (
            "--dhcp --gateway 10.77.0.1",
            "--gateway 10.77.0.1: cannot be used with --dhcp",
        ),
        (
            "--address-wait 5s",
            "--address-wait 5s: nothing to wait for; needs --dhcp, --dhcp6, --dad or --slaac",
        ),
        (
            "--dhcp --address-wait soon",
            "--address-wait soon: expected a time such as",
        ),
        (
            "--dhcp --resolve static",
            "--resolve static: expected before or at-once with --dhcp",
        ),
        (
            "--dhcp --ping vm0:224.0.0.1",
            "224.0.0.1 can't be the address of a host",
        ),
        ("--udp-echo maybe", "expected on or off"),
        ("--mtu 67", "--mtu 67: expected 68 to 65521"),
        ("--mtu 65522", "--mtu 65522: expected 68 to 65521"),
        ("--vms 6 --subnet 10.0.0.0/29", "room for 5 VMs"),
        ("--vms 2 --subnet 10.0.0.9/32", "room for 1 VMs"),
        (
            "--vms 1 --subnet 10.0.0.9/32 --gateway 10.0.0.9",
            "that is the address of vm0, the only VM",
        ),
        ("--subnet 10.77.3.0/16", "expected 10.77.0.0/16"),
        ("--subnet 224.0.0.0/8", "expected a network of hosts"),
        (
            "--subnet 10.77.0.0",
            "--subnet 10.77.0.0: expected a network",
        ),
        ("--subnet 10.77.0.0/33", "expected a network"),
        (
            "--bridge abcdefghijklmnop",
            "must not be longer than 15 bytes",
        ),
        ("--bridge a/b", "must not contain"),
        ("--bridge tap1", "same name"),
        (
            "--tap-prefix abcdefghijklmno",
            "must not be longer than 15 bytes",
        ),
        ("--netns a/b", "--netns a/b: "),
        ("--attach", "expected --netns host, or --netns NAME"),
        (
            "--first 10.78.0.1",
            "--first 10.78.0.1: expected a host of 10.77.0.0/16",
        ),
        ("--first 10.77.0.0", "expected a host of 10.77.0.0/16"),
        (
            "--first 10.77.255.254",
            "from there on 10.77.0.0/16 has no room for 2 VMs",
        ),
        ("--first ten", "expected an address, such as 10.77.3.1"),
        (
            "--first 10.77.3.1 --first 10.77.3.2",
            "--first 10.77.3.2: expected one IPv4 and one IPv6 address",
        ),
        (
            "--first fd78::1",
            "--first fd78::1: expected a host of fd77::/64",
        ),
        (
            "--first fd77::ffff:ffff:ffff:ffff",
            "from there on fd77::/64 has no room for 2 VMs",
        ),
        (
            "--netns host --attach --host-address 10.77.0.1/16",
            "cannot be used with --attach",
        ),
        ("--host-address 10.77.0.2/16", "that is the address of vm0"),
        ("--host-address 10.77.0.0/16", "not a host of 10.77.0.0/16"),
        (
            "--host-address 10.77.0.1",
            "expected an address and its prefix length",
        ),
        ("--filter=maybe", "--filter=maybe: expected auto, on or off"),
        (
            "--fabric sim --vlan 7 --vlan-filtering",
            "--vlan-filtering: needs --fabric bridge, and the fabric is sim",
        ),
        ("--mac vm0", "expected vmI=MAC"),
        ("--mac vm0=02:00:00:00:00", "expected six hexadecimal bytes"),
        ("--mac vm0=ff:ff:ff:ff:ff:ff", "expected a unicast address"),
        ("--mac vm0=02:00:0a:4d:00:03", "vm0 and vm1 both have"),
        ("--mac vm9=02:00:00:00:00:01", "there is no \"vm9\""),
        (
            "--ping vm0:vm1 --rate 0",
            "--rate 0: expected pings per second, above 0",
        ),
        ("--ping vm0:vm1 --rate nan", "expected pings per second"),
        ("--ping vm0:vm1 --rate 1e9", "up to 10000000"),
        (
            "--ping vm0:vm1 --window 0",
            "--window 0: expected 1 to 32768",
        ),
        ("--ping vm0:vm1 --rate 5 --window 1", "cannot be used with"),
        (
            "--ping vm0:vm1 --window 1 --arrivals poisson",
            "a window has no arrivals",
        ),
        (
            "--ping vm0:vm1 --arrivals often",
            "expected uniform or poisson",
        ),
        ("--ping vm0:vm1 --ramp 1:2", "expected FROM:TO:STEPS"),
        ("--ping vm0:vm1 --ramp 1:2:1", "with 2 to 100 steps"),
        (
            "--ping vm0:vm1 --ramp 1:2:3",
            "a ramp is spread over a duration",
        ),
        (
            "--ping vm0:vm1 --ramp 1:2:3 --duration 1s --count 1",
            "--ramp 1:2:3: cannot be used with --count; a ramp",
        ),
        ("--ping vm0:vm1 --stagger no", "expected a time such as"),
        ("--seed -1", "--seed -1: expected a whole number"),
        ("--announce maybe", "expected on or off"),
        // Times and rates that nobody means, and that nothing could count.
        (
            "--timeout 584y",
            "--timeout 584y: expected no more than 100 years",
        ),
        (
            "--duration 18446744073709551615s",
            "expected no more than 100 years",
        ),
        (
            "--ping vm0:vm1 --rate 1e-20",
            "--rate 1e-20: expected pings per second",
        ),
        (
            "--ping vm0:vm1 --rate 1e308",
            "--rate 1e308: expected pings per second",
        ),
        ("--ping vm0:vm1 --rate inf", "expected pings per second"),
        ("--ping vm0:vm1 --count 1.5", "expected a whole number"),
        ("--ping vm0:vm1 --size 1G", "with an MTU of 1500"),
        // Addresses that nobody has.
        (
            "--subnet 0.0.0.0/16",
            "--subnet 0.0.0.0/16: expected a network of hosts",
        ),
        ("--subnet 64.0.0.0/2", "expected a network of hosts"),
        ("--subnet 127.1.0.0/16", "expected a network of hosts"),
        ("--subnet 240.0.0.0/16", "expected a network of hosts"),
        (
            "--subnet6 ::/64 --ipv6",
            "--subnet6 ::/64: expected a network of hosts",
        ),
        ("--subnet6 fe80::/64", "expected a network of hosts"),
        (
            "--gateway 10.77.0.1 --ping vm0:0.1.2.3",
            "0.1.2.3 is not a host of",
        ),
        (
            "--gateway 10.77.0.1 --ping vm0:240.0.0.1",
            "240.0.0.1 is not a host of",
        ),
        (
            "--dhcp --ping vm0:0.1.2.3",
            "0.1.2.3 can't be the address of a host",
        ),
        (
            "--slaac --ping vm0:::ffff:10.0.0.1",
            "is not the address of one host",
        ),
        // More than there is room for.
        (
            "--vms 2M --subnet 10.0.0.0/8",
            "--vms 2M: expected no more than 1048576",
        ),
        (
            "--vms 65000 --ping mesh",
            "65000 VMs with 4224935000 flows take ",
        ),
    ];
    for (line, expected) in cases {
        let error = flags(line).expect_err(line);
        assert!(error.contains(expected), "{line}: {error}");
        assert_eq!(error.lines().count(), 1, "{line}: {error}");
    }
}

#[test]
fn numbers_are_read_as_people_write_them() {
    let run = "--vms 1_0 --ping random:0.002k --count 10k --size 1k --mtu 9_000 --seed 1M --txqueuelen 2k";
    let run = flags(run).unwrap();
    assert_eq!((run.vms.len(), run.flows.len()), (10, 20));
    assert_eq!(run.planned_pings(), Some(200_000));
    assert_eq!(run.flows[0].payload_length, 1_000);
    assert_eq!(
        (run.lab.mtu, run.seed, run.lab.tx_queue_length),
        (9_000, 1_000_000, Some(2_000))
    );
    for (rate, expected) in [("10k", 1e4), ("1.5M", 1.5e6), ("1_000", 1e3), ("2e3", 2e3)] {
        let run = flags(&format!("--ping vm0:vm1 --rate {rate}")).expect(rate);
        assert_eq!(run.phases[0].load.pacing, Pacing::Rate(expected), "{rate}");
    }
    let ramp = flags("--ping vm0:vm1 --ramp 1k:2k:3 --duration 3s").unwrap();
    assert_eq!(ramp.phases[1].load.pacing, Pacing::Rate(1_500.0));
}

#[test]
fn text_that_would_do_something_to_a_terminal_is_refused_but_in_commands() {
    let phase = "ping = \"vm0:vm1\"\ncount = 1\n";
    for (text, told) in [
        (
            format!("[[phase]]\nname = \"\\u001b[2J\"\n{phase}"),
            "lab.toml, line 2: name = \\u{1b}[2J: expected text without control characters",
        ),
        (
            format!("[[phase]]\nname = \"a\\nb\"\n{phase}"),
            "lab.toml, line 2: name = a\\nb: expected",
        ),
        (
            "[[group]]\nname = \"\\u009b1m\"\n".to_owned(),
            "lab.toml, line 2: name = \\u{9b}1m: expected",
        ),
        (
            "name = \"a\\tb\"\n".to_owned(),
            "lab.toml, line 1: name = a\\tb: expected",
        ),
    ] {
        let error = file(&text).expect_err(&text);
        assert!(error.starts_with(told), "{error}");
    }
    assert!(file("fabric = \"none\"\nhook = \"one\\ntwo\"\n").is_ok());
}

#[test]
fn a_draft_counts_all_flows_and_lists_the_first() {
    let draft = |vms: u32, phases: usize| {
        let mut scenario = Scenario::default();
        scenario.settings.add_flag("vms", vms);
        scenario.settings.add_flag("ping", "mesh");
        scenario.settings.add_flag("count", 2);
        scenario.phases = vec![Settings::default(); phases];
        plan_flows(&scenario, TOLD_FLOWS, &NO_MACHINE).unwrap()
    };
    let large = draft(1_500, 0);
    assert_eq!(large.flow_count(), 1_500 * 1_499);
    assert_eq!(large.flows.len(), TOLD_FLOWS);
    let told = super::super::describe(&large);
    for words in [
        "the run: 2248500 flows, ",
        " 4497000 pings",
        "… and 2248490 more flows",
        "neighbours: the kind of resolution depends on all flows, of which a dry run lists 500000",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let small = draft(10, 8_000);
    assert_eq!((small.flow_count(), small.flows.len()), (90, 90));
    assert_eq!(small.phases.len(), 8_000);
}

#[test]
fn phases_say_who_comes_up_and_who_leaves() {
    let plan = |phases: &str| {
        let head = "[[group]]\nname = \"old\"\nvms = 4\n[[group]]\nname = \"new\"\nvms = 8\n";
        file(&format!("{head}{phases}"))
    };
    let transitions = |phases: &str| -> Vec<Vec<(u64, u32)>> {
        let experiment = plan(phases).expect(phases);
        let of = |phase: &crate::hypervisor::Phase| {
            let at = |m: &crate::hypervisor::Transition| (m.after.as_millis() as u64, m.vm.0);
            phase.transitions.iter().map(at).collect()
        };
        experiment.phases.iter().map(of).collect()
    };
    let phase =
        |lines: &str| format!("[[phase]]\nping = \"vm1:vm0\"\nduration = \"200ms\"\n{lines}\n");
    // As many as there is time for, and it is the last ones.
    assert_eq!(
        transitions(&phase("start = \"10 per second\"")),
        [vec![(0, 10), (100, 11)]]
    );
    assert_eq!(
        transitions(&format!(
            "{}{}",
            phase("start = \"new at 50 per second\""),
            phase("stop = [\"vm0\", \"2 at 10 per second\"]\nwarmup = \"1s\"")
        )),
        [
            (0..8).map(|i| (u64::from(i) * 20, 4 + i)).collect(),
            vec![],
            vec![(0, 0), (0, 11), (100, 10)]
        ]
    );
    assert_eq!(
        transitions(&format!(
            "{}{}",
            phase("start = 2"),
            phase("start = \"vm3\"")
        )),
        [vec![(0, 10), (0, 11)], vec![(0, 3)]]
    );
    let cases = [
        (
            phase("start = \"soon\""),
            "line 10: start = soon: \"soon\" names no VMs; expected VMs",
        ),
        (phase("start = \"0 per second\""), "expected VMs"),
        (phase("start = 0"), "expected VMs"),
        (phase("start = \"vm12\""), "there is no vm12"),
        (phase("start = 13"), "there are only 12 left"),
        (
            phase("start = \"new at 10 per second\""),
            "the last comes after 700ms, and the phase ends after 200ms",
        ),
        (phase("start = [\"vm3\", \"old\"]"), "started already"),
        (
            phase("start = \"vm3\"\nstop = \"vm3\""),
            "vm3 is not up at the beginning",
        ),
        (phase("stop = [\"vm3\", \"vm3\"]"), "vm3 is not up"),
        (
            "[[phase]]\nping = \"vm1:vm0\"\ncount = 1\nstart = \"9 per second\"\n".to_owned(),
            "expected a duration beside it, or a number of VMs",
        ),
        (
            phase("start = \"vm3\"\nramp = \"1:2:2\""),
            "ramp = 1:2:2: cannot be used in a phase with start, because each of its steps is a phase of its own; expected a rate",
        ),
        ("start = \"vm3\"\n".to_owned(), "unknown key \"start\""),
    ];
    for (phases, expected) in cases {
        let error = plan(&phases).expect_err(&phases);
        assert!(error.contains(expected), "{phases}: {error}");
        assert_eq!(error.lines().count(), 1);
    }
    let error = file(&format!("fabric = \"none\"\n{}", phase("start = 1"))).expect_err("no");
    assert!(
        error.contains("start = 1: needs --fabric bridge, xdp or sim, and the fabric is none"),
        "{error}"
    );
}

#[test]
fn lines_of_a_file_that_cannot_be_are_named_with_file_line_and_field() {
    let two = "[[group]]\nname = \"a\"\n[[group]]\n";
    let cases = [
        (
            "\nvms = 0\n".to_owned(),
            "lab.toml, line 2: vms = 0: expected 1 or more",
        ),
        (
            "vms = -3\n".to_owned(),
            "lab.toml, line 1: vms = -3: expected a number of VMs",
        ),
        (
            format!("vms = 2\n{two}"),
            "lab.toml, line 1: vms = 2: cannot be used with groups",
        ),
        (
            format!("{two}name = \"a\"\n"),
            "lab.toml, line 4: name = a: expected a name that no other",
        ),
        (
            format!("{two}name = \"vm9\"\n"),
            "lab.toml, line 4: name = vm9: expected a name",
        ),
        (
            // Between two names of --impair it means from one to the other.
            format!("{two}name = \"a>b\"\n"),
            "lab.toml, line 4: name = a>b: expected a name that no other group has, without : > [ ]",
        ),
        (
            format!("{two}mac = \"x\"\n"),
            "lab.toml, line 4: mac = x: MAC address",
        ),
        (
            format!("{two}address = \"10.1.1.1\"\n"),
            "line 4: address = 10.1.1.1: 10.1.1.1 is not a host",
        ),
        (
            format!("{two}address = \"10.77.0.2\"\n"),
            "lab.toml, line 4: address = 10.77.0.2: vm0 and vm1 both have 10.77.0.2",
        ),
        (
            "[[phase]]\nname = \"x\"\n".to_owned(),
            "lab.toml, line 2: phase \"x\": no ping",
        ),
        (
            "[[phase]]\nping = \"ring\"\n[[phase]]\nping = \"ring\"\n".to_owned(),
            "lab.toml, line 2: phase 0: never ends",
        ),
        (
            "name = \"x\"\n[[phase]]\nping = \"ring\"\n[[phase]]\nping = \"ring\"\n".to_owned(),
            "lab.toml, line 3: phase 0: never ends",
        ),
        (
            "spin = true\nping = \"ring\"\nrate = 3\nwindow = 2\n".to_owned(),
            "lab.toml, line 3: rate = 3: cannot be used with window in lab.toml, line 4",
        ),
        (
            "ping = [\"ring\", \"b:a\"]\n".to_owned(),
            "lab.toml, line 1: ping = b:a: \"b\" is not a VM",
        ),
    ];
    for (text, expected) in cases {
        let error = file(&text).expect_err(&text);
        assert!(error.contains(expected), "{text:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{text:?}: {error}");
    }
}

#[test]
fn the_plan_is_told_in_words() {
    let experiment =
        flags("--vms 100 --ping mesh --rate 20000 --duration 10s --warmup 1s").unwrap();
    let text = super::super::describe(&experiment);
    for part in [
        "lab: in a private network namespace, which ends with the process; creates bridge br0 and 100 TAPs",
        "vm0: 10.77.0.2 at 02:00:0a:4d:00:02 on tap0",
        "… and 90 more VMs",
        "warm-up: 9900 flows, 20000 pings/s in all, for 1s, 20000 pings, not counted",
        "the run: 9900 flows, 20000 pings/s in all, for 10s, 200000 pings",
        "  vm0 → vm1, 56 bytes",
        "… and 9890 more flows",
        "in all: 9900 flows, 220000 pings",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn streams_are_told_beside_pings_and_alone() {
    let alone = "--vms 3 --stream vm0:all --size imix --rate 20000 --duration 10s --warmup 1s";
    let beside = "--vms 3 --ping vm0:vm1 --count 5 --interval 1s --stream vm0:vm1,interval=1ms \
                  --stream vm1:broadcast,rate=7,size=64-128";
    for (line, parts) in [
        (
            alone,
            &[
                "warm-up: 2 streams, 20000 frames/s in all, for 1s, 20000 frames, not counted\n  vm0 → vm1, imix bytes\n",
                "the run: 2 streams, 20000 frames/s in all, for 10s, 200000 frames\n",
                "  vm0 → vm2, imix bytes\nin all: 220000 frames of streams\n",
            ][..],
        ),
        (
            beside,
            &[
                "the run: 1 flow, one ping each every 1s (1 pings/s in all), 5 pings\n  vm0 → vm1, 56 bytes\n",
                "the run: 1 stream, one frame each every 1ms (1000 frames/s in all), 5 frames\n  vm0 → vm1, 64 bytes\n",
                "the run: 1 stream, 7 frames/s in all, 5 frames\n  vm1 → broadcast, 64-128 bytes\n",
                "in all: 1 flow, 5 pings, 10 frames of streams\n",
            ],
        ),
        (
            "--stream vm0:absent",
            &["  vm0 → absent, 64 bytes\nin all: frames of streams, until SIGINT or SIGTERM\n"],
        ),
    ] {
        let text = super::super::describe(&flags(line).unwrap());
        for part in parts {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert_eq!(text.contains("flow"), line == beside, "{text}");
    }
}

#[test]
fn a_simulated_vm_is_on_no_tap() {
    let text = super::super::describe(&flags("--fabric sim --ping vm0:vm1").unwrap());
    assert!(
        text.contains("vm0: 10.77.0.2 at 02:00:0a:4d:00:02\n"),
        "{text}"
    );
}

#[test]
fn what_the_vms_do_unasked_is_told_too() {
    let line =
        "--gateway 10.77.0.1 --gateway fd77::1 --announce --dad --udp-echo --address-wait 3s";
    let text = super::super::describe(&flags(line).unwrap());
    for part in [
        "datagrams for other networks go to 10.77.0.1\n",
        "datagrams for other networks go to fd77::1\n",
        "the VMs probe for duplicates of their addresses\n",
        "the VMs announce their addresses\n",
        "the VMs echo datagrams to UDP port 7\n",
        "pings wait 3s at most for VMs without an address\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let plain = super::super::describe(&flags("").unwrap());
    assert!(
        !plain.contains("the VMs ") && !plain.contains("wait"),
        "{plain}"
    );
}

#[test]
fn a_dry_run_says_how_first_pings_lie_and_which_flows_have_none() {
    for (line, expected) in [
        (
            "--ping vm0:vm1 --interval 10ms --duration 1s",
            "1 flow, one ping each every 10ms (100 pings/s in all), for 1s, 100 pings\n",
        ),
        (
            "--vms 4 --ping ring --interval 10ms --duration 1s",
            "every 10ms (400 pings/s in all), spread over it, for 1s, 400 pings\n",
        ),
        (
            "--vms 4 --ping ring --stagger 0 --count 3",
            "every 10ms (400 pings/s in all), all at once, 12 pings\n",
        ),
        (
            "--vms 4 --ping ring --stagger 1s --count 3",
            "(400 pings/s in all), the first within 1s at random, 12 pings\n",
        ),
        (
            "--vms 8 --ping ring --interval 8s --duration 3s",
            "(1 pings/s in all), spread over it, for 3s, 3 pings, none of 5 flows\n",
        ),
        (
            "--vms 4 --ping ring --interval 10ms --arrivals poisson --duration 1s",
            "(400 pings/s in all), Poisson arrivals per flow, for 1s, about 400 pings\n",
        ),
        (
            "--vms 4 --ping ring --rate 400 --arrivals poisson --duration 1s",
            "400 pings/s in all, Poisson arrivals in total, for 1s, about 400 pings\n",
        ),
        (
            "--vms 4 --ping ring --window 2 --stagger 10ms",
            "as fast as replies come, the first within 10ms at random, pings without end\n",
        ),
    ] {
        let text = super::super::describe(&flags(line).unwrap());
        assert!(text.contains(expected), "{line}: {text}");
    }
}

#[test]
fn the_first_address_is_chosen_and_the_others_follow() {
    let lab = flags("--vms 3 --first 10.77.3.1 --first fd77::100").unwrap();
    let addresses: Vec<String> = (0..3)
        .map(|vm| {
            let ipv4 = lab.vms[vm as usize].address;
            format!("{ipv4} {}", lab.ipv6_address(VmId(vm)).unwrap())
        })
        .collect();
    assert_eq!(
        addresses,
        [
            "10.77.3.1 fd77::100",
            "10.77.3.2 fd77::101",
            "10.77.3.3 fd77::102"
        ]
    );
    assert_eq!(lab.vms[0].mac.to_string(), "02:00:0a:4d:03:01");
    let lab = flags("--first 10.77.3.1").unwrap();
    assert_eq!(lab.ipv6_address(VmId(0)), None);
}

#[test]
fn a_bridge_that_exists_decides_the_mtu_and_has_addresses_asked_for() {
    let lab = joined("--join cni0 --netns host --subnet 10.88.0.0/16 --first 10.88.3.1").unwrap();
    assert_eq!((lab.lab.bridge.as_str(), lab.lab.mtu), ("cni0", 1450));
    assert_eq!(lab.lab.prepared, Prepared::Bridge);
    assert!(lab.vm_defaults.dad);
    assert!(lab.lab.topology().is_none());
    let lab = joined("--join cni0 --netns lab --dhcp --mtu 1400 --dad off").unwrap();
    assert_eq!((lab.lab.mtu, lab.vm_defaults.dad), (1400, false));
    // However long it takes to ask all others.
    let lab =
        joined("--join bare0 --netns lab --subnet 10.88.0.0/16 --vms 1000 --ping mesh --count 1");
    assert_eq!(lab.unwrap().lab.neighbours, Neighbours::Before);
    let lab = joined("--join vlan0 --netns lab --dhcp --vms 3 --vlan vm1=7 --vlan vm2=7.8");
    let ports = lab.unwrap().lab.vlan_filtering.unwrap().ports;
    assert_eq!(ports, [None, crate::wire::VlanId::new(7), None]);
    // What a report keeps of it, planned again.
    for line in [
        "--join cni0 --netns host --subnet 10.88.0.0/16 --first 10.88.3.1 --ping ring",
        "--join vlan0 --netns lab --dhcp --vlan vm1=7 --dad off",
    ] {
        let once = joined(line).unwrap();
        let again = plan_flows(&once.effective, usize::MAX, &NO_MACHINE).unwrap();
        let lab = |plan: &Experiment| format!("{:?} {:?}", plan.lab, plan.vm_defaults);
        assert_eq!(lab(&again), lab(&once), "{line}");
    }
}

#[test]
fn what_contradicts_a_bridge_that_exists_is_refused_by_both_names() {
    const JOIN: &str = "--join cni0 --netns host --subnet 10.88.0.0/16 --first 10.88.3.1";
    for (more, expected) in [
        (
            "--bridge br1",
            "--join cni0: expected without --bridge br1, ",
        ),
        ("--attach", "--join cni0: expected without --attach, "),
        (
            "--fabric xdp",
            "--join cni0: needs --fabric bridge, and the fabric is xdp",
        ),
        (
            "--fabric none",
            "--join cni0: needs --fabric bridge, and the fabric is none",
        ),
        (
            "--fabric sim",
            "--netns host: needs --fabric bridge, xdp, none or interface, and the fabric is sim",
        ),
        (
            "--hook true",
            "needs --fabric none, and the fabric is bridge",
        ),
        (
            "--host-address 10.88.0.9/16",
            "--join cni0: expected without --host-address 10.88.0.9/16, ",
        ),
        (
            "--ports-per-bridge 9",
            "--join cni0: expected without --ports-per-bridge 9, ",
        ),
        (
            "--vlan-filtering",
            "--join cni0: expected without --vlan-filtering, ",
        ),
        (
            "--resolve proxy",
            "--resolve proxy: expected before or at-once with --join",
        ),
        (
            "--resolve static",
            "--resolve static: expected before or at-once with --join",
        ),
        (
            "--mtu 1500",
            "its MTU is 1450, which is less than the VMs' 1500; --mtu 1450 or less",
        ),
    ] {
        let error = joined(&format!("{JOIN} {more}")).expect_err(more);
        assert!(error.contains(expected), "{more}: {error}");
    }
    for (line, expected) in [
        (
            "--join cni0",
            "expected with --netns host, or with --netns NAME",
        ),
        ("--join a/b --netns host", "--join a/b: must not contain"),
        (
            "--join cni0 --netns host",
            "--join cni0: expected with --dhcp, or with --subnet and --first for the VMs' addresses: cni0 itself has \
             10.88.0.1/16, so --subnet 10.88.0.0/16 is likely",
        ),
        (
            "--join bare0 --netns host",
            "bare0 itself has no IPv4 address",
        ),
        (
            "--join cni0 --netns host --subnet 10.88.0.0/16 --first 10.88.0.1",
            "10.88.0.1, which would be vm0's, is the address of the bridge itself; expected another --first",
        ),
        (
            "--join full0 --netns host --dhcp",
            "it has 1022 of 1023 ports, and 2 VMs need one each; --vms 1 or less",
        ),
        (
            "--join tagged0 --netns host --dhcp --vlan vm0=7",
            "(vlan_default_pvid 0), as those of vm1 are to it; expected --vlan",
        ),
    ] {
        let error = joined(line).expect_err(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn an_uplink_is_told_in_the_plan_and_in_what_a_report_keeps_of_it() {
    let once = joined("--uplink up0 --ping ring --mtu 9000").unwrap();
    assert_eq!(once.lab.outside, Some(Outside::Uplink("up0".to_owned())));
    let again = plan_flows(&once.effective, usize::MAX, &NO_MACHINE).unwrap();
    assert_eq!(format!("{:?}", again.lab), format!("{:?}", once.lab));
    for (line, expected) in [
        (
            "--uplink eth0",
            "--uplink: connect the lab's bridge to eth0: it has the address 192.0.2.7/24",
        ),
        (
            "--uplink wg0",
            "its MTU is 1420, which is less than the VMs' 1500; --mtu 1420 or less",
        ),
        (
            "--uplink up0 --fabric sim",
            "--uplink up0: needs --fabric bridge, and the fabric is sim",
        ),
        (
            "--uplink up0 --misbehave vm1:silent",
            "--misbehave vm1:silent: a port of the bridge leads to others",
        ),
    ] {
        let error = joined(line).expect_err(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn join_takes_multicast_groups_of_all_vms_or_of_a_group_of_them_on_every_fabric() {
    let shown = |plan: Experiment| -> Vec<String> {
        let joined = plan.memberships.iter();
        joined
            .map(|joined| format!("{} {:?}", joined.group, joined.vms))
            .collect()
    };
    for fabric in ["bridge", "xdp", "none", "sim"] {
        let line = format!("--vms 3 --join 239.1.2.3 --join=224.0.0.251 --fabric {fabric}");
        let plan = flags(&line).unwrap();
        assert_eq!(plan.lab.prepared, Prepared::Nothing);
        assert_eq!(shown(plan), ["239.1.2.3 0..3", "224.0.0.251 0..3"]);
    }
    let plan = flags("--join ff05::1:3 --join [ff02::fb]").unwrap();
    assert!(plan.vm_defaults.ipv6.is_some(), "IPv6 is asked for");
    assert_eq!(shown(plan), ["ff05::1:3 0..2", "ff02::fb 0..2"]);
    let plan = file(
        "join = \"239.0.0.9\"\n[[group]]\nname = \"a\"\n[[group]]\nname = \"b\"\nvms = 3\n\
         join = [\"239.1.2.3\", \"239.129.2.3\"]\n[[group]]\njoin = \"239.1.2.3\"\n",
    );
    let plan = plan.unwrap();
    let b = VmId(2);
    let of_b: Vec<String> = plan.groups_of(b).map(|group| group.to_string()).collect();
    assert_eq!(of_b, ["239.0.0.9", "239.1.2.3", "239.129.2.3"]);
    let members = plan.members("239.1.2.3".parse().unwrap());
    assert_eq!(members.map(|vm| vm.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    // Beside a bridge that exists, in whatever order.
    const AT: &str = "--netns host --subnet 10.88.0.0/16 --first 10.88.3.1";
    for line in [
        "--join cni0 --join 239.1.2.3",
        "--join 239.1.2.3 --join cni0",
    ] {
        let once = joined(&format!("{line} {AT}")).unwrap();
        assert_eq!(
            (once.lab.bridge.as_str(), once.lab.prepared),
            ("cni0", Prepared::Bridge)
        );
        let again = plan_flows(&once.effective, usize::MAX, &NO_MACHINE).unwrap();
        assert_eq!(again.memberships, once.memberships);
        assert_eq!(shown(once), ["239.1.2.3 0..2"]);
    }
    let plan = flags("--vms 3 --join 239.1.2.3 --join ff05::1:3 --ping multicast").unwrap();
    let targets = plan.flows.iter().map(|flow| flow.target.to_string());
    assert_eq!(targets.collect::<Vec<_>>(), ["239.1.2.3", "ff05::1:3"]);
    let plan = flags("--ping vm1:239.1.2.3").unwrap();
    assert_eq!(plan.flows[0].source, VmId(1), "members may be others");
}

#[test]
fn what_is_no_multicast_group_is_refused_with_what_is_expected() {
    let twenty_one: String = (0..21).map(|i| format!("--join 239.0.0.{i} ")).collect();
    for (line, expected) in [
        (
            "--join 10.0.0.1",
            "--join 10.0.0.1: not a multicast group, nor the name of a bridge",
        ),
        ("--join 240.0.0.1", "not a multicast group"),
        ("--join 255.255.255.255", "not a multicast group"),
        ("--join fd77::1", "not a multicast group"),
        ("--join 224.0.0.1", "each host is in 224.0.0.1 anyway"),
        ("--join 224.0.0.0", "224.0.0.0 is reserved"),
        ("--join ff02::1", "each host is in ff02::1 anyway"),
        ("--join ff01::7", "that group does not leave the host"),
        ("--join ff00::7", "that group does not leave the host"),
        (
            "--join 239.1.2",
            "--join 239.1.2: expected a multicast group, such as 239.1.2.3",
        ),
        (
            "--join 239.1.2.300",
            "expected a multicast group, such as 239.1.2.3",
        ),
        ("--join ff05::zz", "expected a multicast group"),
        (
            "--join 239.1.2.3 --join 239.1.2.3",
            "joined already; expected each group once",
        ),
        (
            "--join ff05::1 --ipv6=off",
            "--join ff05::1: cannot be used with --ipv6=off",
        ),
        ("--join br0 --join br1", "--join br1: expected one bridge"),
        ("--join br0 --join br0", "--join br0: expected one bridge"),
        (
            "--join br0 --join 239.1.2.3 --fabric sim",
            "--join br0: needs --fabric bridge",
        ),
        (
            "--join=off",
            "--join off: expected the name of a bridge or a multicast group; without the option none",
        ),
        (
            "--ping vm0:224.0.0.1",
            "--ping vm0:224.0.0.1: each host is in 224.0.0.1 anyway; expected a multicast group",
        ),
        (&twenty_one, "expected 20 groups at most for each VM"),
        (
            "--vms 1 --join 239.1.2.3 --ping multicast",
            "there is one VM",
        ),
        (
            "--ping multicast",
            "no VM is in a multicast group; expected --join with one",
        ),
    ] {
        let error = flags(line).expect_err(line);
        assert!(error.contains(expected), "{line}: {error}");
        assert_eq!(error.lines().count(), 1, "{line}: {error}");
    }
    for (text, expected) in [
        (
            "[[group]]\njoin = \"br0\"\n",
            "lab.toml, line 2: join = br0: expected a multicast group",
        ),
        (
            "join = \"239.1.2.3\"\n[[group]]\njoin = \"239.1.2.3\"\n",
            "lab.toml, line 3: join = 239.1.2.3: joined already",
        ),
    ] {
        let error = file(text).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_gateway_may_be_outside_the_network() {
    for (line, gateway, gateway6, first) in [
        (
            "--vms 1 --subnet 10.77.0.2/32 --gateway 169.254.1.1",
            Some("169.254.1.1"),
            None,
            "10.77.0.2",
        ),
        (
            "--vms 2 --gateway 10.99.0.1",
            Some("10.99.0.1"),
            None,
            "10.77.0.2",
        ),
        (
            "--vms 2 --gateway fd99::1",
            None,
            Some("fd99::1"),
            "10.77.0.2",
        ),
    ] {
        let experiment = flags(line).expect(line);
        let vm_defaults = &experiment.vm_defaults;
        let found = vm_defaults.gateway.map(|address| address.to_string());
        assert_eq!(found.as_deref(), gateway, "{line}");
        let found = vm_defaults.ipv6.and_then(|plan| plan.gateway);
        let found = found.map(|address| address.to_string());
        assert_eq!(found.as_deref(), gateway6, "{line}");
        assert_eq!(experiment.vms[0].address.to_string(), first, "{line}");
    }
}

#[test]
fn an_absent_target_is_an_address_that_nobody_has_or_is_refused() {
    let planned = |line: &str| flags(&format!("--ping vm0:absent {line}"));
    for (line, expected) in [
        ("--vms 2", "10.77.255.254"),
        ("--vms 2 --gateway 10.77.255.254", "10.77.255.253"),
        ("--vms 2 --host-address 10.77.255.254/16", "10.77.255.253"),
        (
            "--vms 2 --gateway 10.77.255.254 --host-address 10.77.255.253/16",
            "10.77.255.252",
        ),
        (
            "--vms 2 --subnet 10.77.0.0/29 --first 10.77.0.5",
            "10.77.0.4",
        ),
    ] {
        let plan = planned(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let target = Target::Address(expected.parse().unwrap());
        assert_eq!(plan.flows[0].target, target, "{line}");
    }
    for (line, expected) in [
        (
            "--vms 5 --subnet 10.77.0.0/29",
            "every address of 10.77.0.0/29 is somebody's",
        ),
        (
            "--vms 2 --dhcp",
            "the DHCP server chooses who has which address; expected one",
        ),
        (
            "--vms 2 --ping-ipv6",
            "that is an IPv4 address; expected an IPv6 address",
        ),
    ] {
        let error = planned(line).expect_err(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}
