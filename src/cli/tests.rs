//! Command lines, good and bad.

use tap_reactor::experiment::Target;
use tap_reactor::load::Pacing;
use tap_reactor::vm::VmId;
use tap_reactor::wire::MacAddr;

use super::*;

fn read(line: &str) -> Result<Request, UsageError> {
    parse(
        format!("tap-reactor {line}")
            .split_whitespace()
            .map(std::ffi::OsString::from),
    )
}

fn experiment(line: &str) -> Experiment {
    match read(line) {
        Ok(Request::Run(experiment, _)) => *experiment,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_main_command_is_two_vms_and_one_flow() {
    let experiment = experiment("--vms 2 --ping vm0:vm1 --count 100");
    assert_eq!(experiment.vms.len(), 2);
    assert_eq!(experiment.flows.len(), 1);
    assert_eq!(experiment.flows[0].target, Target::Vm(VmId(1)));
    assert_eq!(experiment.planned_pings(), Some(100));
    assert_eq!(
        experiment.pacing,
        Pacing::Interval(Duration::from_millis(10))
    );
    assert_eq!((experiment.payload_length, experiment.lab.mtu), (56, 1500));
}

#[test]
fn an_address_that_belongs_to_a_vm_means_that_vm() {
    let experiment = experiment("--ping vm0:10.77.0.3 --ping vm1:10.77.0.1");
    assert_eq!(experiment.flows[0].target, Target::Vm(VmId(1)));
    assert_eq!(
        experiment.flows[1].target,
        Target::Address(Ipv4Addr::new(10, 77, 0, 1))
    );
}

#[test]
fn a_vm_can_have_a_hardware_address_of_its_own() {
    let experiment = experiment("--mac vm1=02:00:00:00:00:01");
    assert_eq!(experiment.vms[1].mac, MacAddr([2, 0, 0, 0, 0, 1]));
}

#[test]
fn help_and_version_are_printed() {
    for line in ["--help", "--version", "clean --help"] {
        assert!(matches!(read(line), Ok(Request::Print(_))), "{line}");
    }
    assert!(matches!(read("clean"), Ok(Request::Clean)));
}

#[test]
fn bad_input_is_one_line_that_names_it_and_what_is_allowed() {
    let cases = [
        ("--vms 0", "--vms 0: allowed is 1 to 1023"),
        ("--vms 1024", "--vms 1024: allowed is 1 to 1023"),
        ("--vms many", "Invalid value for '--vms <N>'"),
        ("--vms -1", "'-1'"),
        (
            "--ping vm0:vm7",
            "there is no \"vm7\"; allowed are vm0 to vm1, or an IPv4 address",
        ),
        (
            "--ping vm7:vm0",
            "there is no \"vm7\"; allowed are vm0 to vm1",
        ),
        ("--ping vm0:vm0", "vm0 can't ping itself"),
        ("--ping vm0:10.77.0.2", "vm0 can't ping itself"),
        ("--ping vm0", "allowed is SRC:DST"),
        ("--ping vm0:vm+1", "there is no \"vm+1\""),
        ("--ping :", "there is no \"\""),
        (
            "--ping vm0:10.99.0.1",
            "10.99.0.1 is not a host of 10.77.0.0/16",
        ),
        (
            "--ping vm0:10.77.255.255",
            "10.77.255.255 is not a host of 10.77.0.0/16",
        ),
        ("--ping vm0:10.77.0.0", "10.77.0.0 is not a host of"),
        (
            "--gateway 10.99.0.1",
            "10.99.0.1: not a host of 10.77.0.0/16, where the VMs could reach it; allowed is one such as 10.77.0.1",
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
            "--gateway 10.77.0.1 --ping vm0:224.0.0.1",
            "224.0.0.1 is not a host of",
        ),
        ("--count 0", "--count 0: allowed is 1 or more"),
        ("--count -5", "'-5'"),
        ("--interval 10", "time unit needed"),
        ("--interval 0s", "more than 0"),
        ("--timeout fast", "expected number"),
        ("--duration 0ms", "more than 0"),
        (
            "--size 1473",
            "--size 1473: with --mtu 1500 allowed is 0 to 1472",
        ),
        ("--size 100 --mtu 100", "allowed is 0 to 72"),
        ("--mtu 67", "--mtu 67: allowed is 68 to 65521"),
        ("--mtu 65522", "--mtu 65522: allowed is 68 to 65521"),
        ("--vms 6 --subnet 10.0.0.0/29", "room for 5 VMs"),
        ("--subnet 10.77.3.0/16", "allowed is 10.77.0.0/16"),
        ("--subnet 224.0.0.0/8", "allowed is a network of hosts"),
        ("--subnet 10.77.0.0", "Invalid value for '--subnet <CIDR>'"),
        (
            "--subnet 10.77.0.0/33",
            "Invalid value for '--subnet <CIDR>'",
        ),
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
        ("--netns a/b", "--netns"),
        ("--attach", "add --netns host or --netns NAME"),
        (
            "--netns host --attach --host-addr 10.77.0.1/16",
            "left as it is",
        ),
        ("--host-addr 10.77.0.2/16", "that is the address of vm0"),
        ("--host-addr 10.77.0.0/16", "not the address of a host"),
        (
            "--host-addr 10.77.0.1",
            "Invalid value for '--host-addr <CIDR>'",
        ),
        ("--mac vm0", "allowed is vmI=MAC"),
        ("--mac vm0=02:00:00:00:00", "expected six hexadecimal bytes"),
        (
            "--mac vm0=ff:ff:ff:ff:ff:ff",
            "allowed is a unicast address",
        ),
        ("--mac vm0=02:00:0a:4d:00:03", "vm0 and vm1 both have"),
        ("--mac vm9=02:00:00:00:00:01", "there is no \"vm9\""),
        ("-q -v", "cannot be used with"),
        ("--frobnicate", "--frobnicate"),
        ("stray", "stray"),
    ];
    for (line, expected) in cases {
        match read(line) {
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains(expected), "{line}: {error}");
                assert_eq!(error.lines().count(), 1, "{line}: {error}");
            }
            Ok(request) => panic!("{line}: {request:?}"),
        }
    }
}
