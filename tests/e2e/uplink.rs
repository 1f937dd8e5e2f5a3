//! `--uplink`: what is behind an interface reaches the VMs and is reached by them, and the interface stays as it is, whatever
//! becomes of the run.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cable::Cable;
use crate::lab::{Finished, Lab, RemovedName, Running, TAP_REACTOR, number, wait_until};
use crate::vlan::kernel_filters;

/// A cable to an interface with an alias, which is a port of the lab's bridge.
fn cable() -> Cable {
    let cable = Cable::new("up0", "--uplink up0");
    cable.host.ip("link set up0 alias rack-7");
    cable
}

/// Waits until the interface is as it was: the kernel removes a namespace some time after its last process.
#[track_caller]
fn wait_until_as_before(cable: &Cable, before: &[Value]) {
    wait_until("the interface as it was", || {
        (cable.interface() == before).then_some(())
    });
}

#[test]
fn what_is_behind_an_interface_and_the_vms_ping_each_other_and_it_stays_as_it_is() {
    let name = format!("trt-uplink-{}", std::process::id());
    let _removed = RemovedName(name.clone());
    for more in [
        String::new(),
        "--ports-per-bridge 1".to_owned(),
        "--netns host".to_owned(),
        format!("--netns {name}"),
        "--cores 2".to_owned(),
    ] {
        let cable = cable();
        let before = cable.interface();
        let run = cable.start(&more);
        let ping = ["ping", "-c20", "-i0.01", "-W5", "-q", "10.77.0.4"];
        cable.other.run(&ping).expect_status(0);
        run.signal(Signal::SIGINT);
        let report = run.wait().expect_status(0).json();
        let totals = &report["totals"];
        assert!(number(totals, "/received") > 0, "{more}: {report}");
        assert_eq!(number(totals, "/lost"), 0, "{more}: {report}");
        // At once, so that the next run finds it free.
        assert_eq!(cable.interface(), before, "{more}");
        assert_eq!(cable.host.link_names(), ["up0"], "{more}");

        let run = cable.start(&more);
        run.signal(Signal::SIGKILL);
        run.wait();
        if more.starts_with("--netns") {
            cable.host.tap_reactor("clean").expect_status(0);
        }
        wait_until_as_before(&cable, &before);
        assert_eq!(cable.host.link_names(), ["up0"], "{more}");
    }
}

#[test]
fn checksums_and_sizes_of_what_comes_from_outside_are_right() {
    let cable = cable();
    let mut run = cable.start("--udp-echo");
    // A kernel leaves checksums to the card, and large datagrams to be cut by it, unless something on the way does that.
    let send = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect(('10.77.0.2', 7))
for size in (1, 100, 1472):
    s.send(bytes(size))
    assert len(s.recv(65535)) == size, size
s.setsockopt(socket.SOL_UDP, 103, 500)  # UDP_SEGMENT: four datagrams as one
s.send(bytes(2000))
for _ in range(4):
    assert len(s.recv(65535)) == 500
";
    cable.other.run(&["python3", "-c", send]).expect_status(0);
    run.expect_alive();
    run.signal(Signal::SIGINT);
    run.wait().expect_status(0);
}

#[test]
fn tags_pass_an_uplink_of_a_bridge_that_filters_vlans() {
    let (one, two) = (Lab::new(), Lab::new());
    connect(&one, &two);
    let filtering = kernel_filters(&one).then_some("--vlan-filtering");
    for filtering in [""].into_iter().chain(filtering) {
        let words = format!("--vlan 9 --vms 4 --ping vm0:vm3 --ping vm2:vm1 {filtering}");
        let report = run_both(&one, &two, &words);
        assert_eq!(number(&report, "/totals/received"), 100, "{filtering}");
    }
}

/// Connects two namespaces by interfaces `up0`.
fn connect(one: &Lab, two: &Lab) {
    one.ip(&format!(
        "link add up0 type veth peer name up0 netns {}",
        two.name()
    ));
    for lab in [one, two] {
        lab.ip("link set up0 up");
    }
}

/// Runs a rank in each of two namespaces, and returns the report.
fn run_both(one: &Lab, two: &Lab, words: &str) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let words = format!(
        "--meet {} --uplink up0 --count 50 --interval 5ms --json {words}",
        folder.path().join("meet").display()
    );
    let start = |lab: &Lab, rank| lab.start_tap_reactor(&format!("--rank {rank}/2 {words}"));
    let runs = [start(one, 0), start(two, 1)];
    let [first, other] = runs.map(Running::wait);
    other.expect_status(0);
    first.expect_status(0).json()
}

#[test]
fn ranks_whose_labs_a_cable_connects_ping_each_other() {
    let (one, two) = (Lab::new(), Lab::new());
    connect(&one, &two);
    for more in [
        "",
        "--resolve static",
        "--resolve proxy",
        "--ports-per-bridge 3",
    ] {
        let report = run_both(&one, &two, &format!("--vms 10 --ping ring {more}"));
        assert_eq!(number(&report, "/totals/received"), 500, "{more}");
    }
}

#[test]
fn what_can_not_be_an_uplink_is_refused_before_anything_is_touched() {
    let cable = cable();
    let host = &cable.host;
    host.ip("link add br9 type bridge");
    host.ip("link add p0 type veth peer name p1");
    host.ip("link set p0 master br9 up");
    host.ip("link add down0 type veth peer name down1");
    host.ip("link add small0 mtu 1400 type veth peer name small1");
    host.ip("link set small0 up");
    host.ip("link set p1 up");
    host.ip("address add 192.0.2.1/24 dev p1");
    let before = host.identities();
    host.expect_refusals(&[
        (
            "--uplink eth7",
            "there is no such interface where the program was started; expected one such as ",
        ),
        ("--uplink a/b", "--uplink a/b: must not contain"),
        ("--uplink lo", "it carries no Ethernet frames"),
        (
            "--uplink br9",
            "it is a bridge; expected a network card, a veth or a VXLAN device; --join br9 adds",
        ),
        (
            "--uplink p0",
            "it is a port of another bridge, or a part of another device; expected one that is free: ip link set p0 nomaster",
        ),
        (
            "--uplink p1",
            "it has the address 192.0.2.1/24, and the host would not hear what comes for that; expected an interface without",
        ),
        ("--uplink down0", "it is down; ip link set down0 up"),
        (
            "--uplink small0",
            "its MTU is 1400, which is less than the VMs' 1500; --mtu 1400 or less",
        ),
        (
            "--uplink up0 --fabric xdp",
            "--uplink up0: needs --fabric bridge, and the fabric is xdp",
        ),
        (
            "--uplink up0 --attach --netns host",
            "--uplink up0: cannot be used with --attach",
        ),
        (
            "--uplink up0 --join br9 --netns host --dhcp",
            "--join br9: expected without --uplink up0, which changes the bridge",
        ),
        (
            "--uplink up0 --misbehave vm1:silent",
            "a port of the bridge leads to others; expected no --uplink",
        ),
        (
            "--uplink up0 --bridge a-long-name0",
            "choose a shorter --bridge",
        ),
        (
            "--rank 0/2 --meet /tmp/m --uplink up0 --host-address 10.77.0.1/16",
            "--host-address on joined labs cannot be used with several ranks: the bridge of each rank would have it",
        ),
    ]);
    assert_eq!(host.identities(), before);
}

#[test]
fn an_interface_has_one_run_and_its_user_needs_rights() {
    let cable = cable();
    let run = cable.start("");
    let words = "--uplink up0 --duration 1s";
    let second = cable.host.tap_reactor(words).expect_status(3);
    assert!(
        second
            .stderr
            .contains("another run, or another macvlan device, has it"),
        "{}",
        second.stderr
    );
    run.signal(Signal::SIGINT);
    run.wait().expect_status(0);
    let command: Vec<&str> = [TAP_REACTOR].into_iter().chain(words.split(' ')).collect();
    let refused: Finished = cable.host.run_as(65_534, &command).expect_status(3);
    assert!(refused.stderr.contains("needs root"), "{}", refused.stderr);
}

#[test]
fn a_dry_run_tells_what_leads_out_of_the_lab() {
    let cable = cable();
    let run = cable
        .host
        .tap_reactor("--uplink up0 --dry-run")
        .expect_status(0);
    assert!(
        run.stdout
            .contains("br0-out of bridge br0 leads out by up0, which stays as it is"),
        "{}",
        run.stdout
    );
}
