//! An invalid command line gives one line of error and status 2, before anything is touched.

use crate::lab::{Lab, TAP_REACTOR};

/// Arguments that are wrong; what the message must name; a word of what it must say is expected.
const WRONG: &[(&str, &[&str], &str)] = &[
    ("--vms 0", &["vms", "0"], "1"),
    ("--vms=-1", &["vms", "-1"], ""),
    ("--vms many", &["vms", "many"], ""),
    ("--vms 99999999999", &["vms", "99999999999"], ""),
    ("--vms", &["--vms"], ""),
    ("--vms --count 3", &["--vms"], ""),
    ("--interval", &["--interval"], ""),
    ("--netns", &["--netns"], ""),
    ("--bridge", &["--bridge"], ""),
    ("--subnet", &["--subnet"], ""),
    ("--ping", &["--ping"], ""),
    ("--count", &["--count"], ""),
    // Endpoints.
    ("--vms 2 --ping vm7:vm0", &["vm7"], "vm1"),
    ("--vms 2 --ping vm0:vm7", &["vm7"], "vm1"),
    ("--vms 2 --ping vm0:vm2", &["vm2"], "vm1"),
    ("--vms 1 --ping vm0:vm1", &["vm1"], "vm0"),
    ("--ping vm0:vm0", &["vm0"], "itself"),
    ("--ping vm0:10.77.0.2", &["10.77.0.2"], "vm0"),
    ("--ping vm0", &["vm0"], "SRC:DST"),
    ("--ping vm0:", &["vm0:"], ""),
    ("--ping :vm1", &[":vm1"], ""),
    ("--ping vm0:vm1:vm2", &["vm1:vm2"], ""),
    ("--ping vm:vm1", &["vm"], "vm"),
    ("--ping vm-1:vm1", &["vm-1"], "vm"),
    ("--ping vmx:vm1", &["vmx"], "vm"),
    ("--ping vm0:10.77.0.300", &["10.77.0.300"], ""),
    ("--ping vm0:example.org", &["example.org"], ""),
    ("--ping 10.77.0.1:vm0", &["10.77.0.1"], "vm"),
    ("--ping vm0:10.77.255.255", &["10.77.255.255"], ""),
    ("--ping vm0:10.77.0.0", &["10.77.0.0"], ""),
    ("--ping vm0:255.255.255.255", &["255.255.255.255"], ""),
    ("--ping vm0:224.0.0.1", &["224.0.0.1"], ""),
    ("--ping vm0:0.0.0.0", &["0.0.0.0"], ""),
    ("--ping vm0:192.0.2.1", &["192.0.2.1"], "10.77.0.0/16"),
    // Numbers.
    ("--ping vm0:vm1 --count 0", &["count", "0"], "1"),
    ("--ping vm0:vm1 --count=-5", &["--count -5"], "1"),
    ("--ping vm0:vm1 --count -5", &["--count -5"], "1"),
    ("--ping vm0:vm1 -c 0", &["-c 0"], "1"),
    ("-6", &["-6: "], "ping"),
    ("--pnig vm0:vm1", &["--pnig"], "--ping"),
    ("--fabric brige", &["brige"], "did you mean bridge?"),
    ("--ping vm0:vm1 --count ten", &["count", "ten"], ""),
    ("--ping vm0:vm1 --size 1473", &["size", "1473"], "1472"),
    (
        "--ping vm0:vm1 --size 65508 --allow-fragmentation",
        &["size", "65508"],
        "65507",
    ),
    ("--ping vm0:vm1 --size=-1", &["size", "-1"], ""),
    ("--ttl 0", &["ttl", "0"], "255"),
    ("--dscp 64", &["dscp", "64"], "63"),
    (
        "--gateway 10.77.255.255",
        &["gateway", "10.77.255.255"],
        "10.77.0.1",
    ),
    ("--dhcp --gateway 10.77.0.1", &["gateway"], ""),
    (
        "--ping vm0:vm1 --mtu 1000 --size 1000",
        &["size", "1000"],
        "972",
    ),
    ("--mtu 67", &["mtu", "67"], "68"),
    ("--mtu 70000", &["mtu", "70000"], ""),
    (
        "--vms 65000 --ping mesh",
        &["65000", "4224935000"],
        "GB that are free",
    ),
    (
        "--vms 65533 --ping random:65532 --dry-run",
        &["65533", "4294508556"],
        "GB that are free",
    ),
    ("--vms 2M --dry-run", &["--vms 2M"], "1048576"),
    // Durations.
    (
        "--ping vm0:vm1 --interval 10x",
        &["interval", "10x"],
        "10ms",
    ),
    ("--ping vm0:vm1 --interval=-1ms", &["interval", "-1ms"], ""),
    (
        "--ping vm0:vm1 --interval soon",
        &["interval", "soon"],
        "10ms",
    ),
    ("--ping vm0:vm1 -W 5q", &["-W 5q"], "2s"),
    ("--ping vm0:vm1 --timeout 0s", &["timeout", "0s"], ""),
    ("--duration 0", &["duration", "0"], "s"),
    ("--duration 0s", &["duration", "0s"], ""),
    // Addresses.
    ("--subnet nonsense", &["subnet", "nonsense"], "10.77.0.0/16"),
    ("--subnet 10.77.0.0", &["subnet", "10.77.0.0"], "/"),
    ("--subnet 10.77.0.0/33", &["subnet", "10.77.0.0/33"], ""),
    ("--subnet 10.77.0.0/32", &["10.77.0.0/32", "2"], ""),
    ("--subnet 10.77.0.0/31", &["10.77.0.0/31", "2"], ""),
    ("--subnet 10.77.0.0/30", &["10.77.0.0/30", "2"], "1"),
    (
        "--subnet 10.77.0.0/24 --vms 254",
        &["10.77.0.0/24", "254"],
        "253",
    ),
    ("--subnet fd77::/64", &["fd77::/64"], ""),
    ("--subnet 224.0.0.0/16", &["224.0.0.0/16"], ""),
    ("--subnet 127.0.0.0/16", &["127.0.0.0/16"], ""),
    ("--subnet 0.0.0.0/8", &["0.0.0.0/8"], "10.77.0.0/16"),
    ("--host-address garbage", &["host-address", "garbage"], "/"),
    (
        "--host-address 10.77.0.1",
        &["host-address", "10.77.0.1"],
        "/",
    ),
    ("--host-address 10.77.0.2/16", &["10.77.0.2", "vm0"], ""),
    (
        "--host-address 192.0.2.1/24",
        &["192.0.2.1/24"],
        "10.77.0.0/16",
    ),
    ("--host-address 10.77.0.0/16", &["10.77.0.0"], ""),
    ("--host-address 10.77.255.255/16", &["10.77.255.255"], ""),
    // Names.
    ("--bridge a23456789012345x", &["a23456789012345x"], "15"),
    ("--bridge a/b", &["a/b"], ""),
    ("--bridge a:b", &["a:b"], ""),
    ("--bridge .", &["."], ""),
    ("--bridge ..", &[".."], ""),
    ("--bridge=", &["bridge"], "1"),
    ("--tap-prefix a2345678901234x", &["a2345678901234x"], "15"),
    ("--tap-prefix a23456789012345x", &["a23456789012345x"], "15"),
    (
        "--tap-prefix a2345678901234 --vms 11",
        &["a2345678901234"],
        "15",
    ),
    ("--tap-prefix a/b", &["a/b"], ""),
    ("--bridge tap1", &["tap1"], ""),
    ("--netns ../escape", &["netns", "../escape"], ""),
    ("--netns a/b", &["netns", "a/b"], ""),
    ("--netns ..", &["netns", ".."], ""),
    ("--netns=", &["netns"], "private"),
    // Things that don't go together.
    ("--attach --netns private", &["attach", "private"], "host"),
    (
        "--attach --netns host --host-address 10.77.0.1/16",
        &["attach", "host-address"],
        "",
    ),
    ("--ping vm0:vm1 -q -v", &["-q", "-v"], ""),
    // Things that don't exist.
    ("--mac vm0", &["--mac", "vm0"], "vmI=MAC"),
    ("--mac vm0=nonsense", &["--mac", "vm0"], ""),
    ("--mac vm0=02:00:00:00:00", &["--mac", "vm0"], ""),
    ("--mac vm0=02:00:00:00:00:00:01", &["--mac", "vm0"], ""),
    ("--mac vm0=0g:00:00:00:00:01", &["--mac", "vm0"], ""),
    (
        "--mac vm0=01:00:00:00:00:01",
        &["01:00:00:00:00:01"],
        "unicast",
    ),
    (
        "--mac vm0=ff:ff:ff:ff:ff:ff",
        &["ff:ff:ff:ff:ff:ff"],
        "unicast",
    ),
    (
        "--mac vm0=00:00:00:00:00:00",
        &["00:00:00:00:00:00"],
        "unicast",
    ),
    ("--mac vm7=02:00:00:00:00:01", &["vm7"], "vm1"),
    ("--mac vm0=02:00:0a:4d:00:03", &["vm0", "vm1"], "different"),
    ("--frobnicate", &["--frobnicate"], ""),
    ("frobnicate", &["frobnicate"], ""),
    ("-x", &["-x"], ""),
    ("--vms 2 --vms 3", &["vms"], ""),
];

#[test]
fn wrong_arguments_are_named_in_one_line_and_nothing_is_touched() {
    let lab = Lab::new();
    let before = lab.identities();
    let mut complaints = Vec::new();
    for (arguments, wrong, expected) in WRONG {
        // Where a mistake got as far as the kernel, it would show in the namespace that the test can see.
        let netns = if arguments.contains("--netns") {
            ""
        } else {
            "--netns host"
        };
        // What is not refused would serve until it is told to end.
        let command = format!("timeout 3 {TAP_REACTOR} {netns} {arguments}");
        let run = lab.run(&command.split_whitespace().collect::<Vec<_>>());
        let lines = run.stderr.lines().count();
        let named = wrong
            .iter()
            .chain([expected])
            .all(|word| run.stderr.contains(word));
        if run.status != 2 || lines != 1 || !run.stdout.is_empty() || !named {
            complaints.push(format!(
                "`{arguments}`: status {}, {lines} lines, stdout {:?}, wants {wrong:?} and {expected:?} in: {}",
                run.status, run.stdout, run.stderr
            ));
        }
        assert_eq!(
            lab.identities(),
            before,
            "`{arguments}` has touched the links"
        );
    }
    assert!(
        complaints.is_empty(),
        "{} of {}:\n{}",
        complaints.len(),
        WRONG.len(),
        complaints.join("\n")
    );
}

#[test]
fn words_that_are_no_text_are_refused_in_one_line() {
    let lab = Lab::new();
    for word in ["--vms=", "--ping=vm0:", "--output=/tmp/", "--", "-", ""] {
        let script = format!("exec {TAP_REACTOR} --netns host \"$(printf '%s\\377' '{word}')\"");
        let run = lab.run(&["bash", "-c", &script]).expect_status(2);
        assert_eq!(run.stderr.lines().count(), 1, "{word}: {}", run.stderr);
        assert!(
            run.stderr.contains("expected text in UTF-8"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn a_dry_run_of_many_flows_takes_little_memory() {
    let lab = Lab::new();
    let arguments = "--fabric sim --vms 1200 --ping mesh --count 3 --dry-run";
    // A list of them would be 58 MB, and has to grow.
    let command = format!("prlimit --data=80000000 {TAP_REACTOR} {arguments}");
    let command: Vec<_> = command.split_whitespace().collect();
    let run = lab.run(&command).expect_status(0);
    assert!(
        run.stdout.contains("in all: 1438800 flows, 4316400 pings"),
        "{}",
        run.stdout
    );
}
