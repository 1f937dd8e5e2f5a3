//! The scenarios of `scripts/experiments/rfc2889`, on switches whose limits are known.

use serde_json::Value;

use crate::lab::{Lab, TAP_REACTOR, number};

/// The words that name a scenario of that folder.
fn scenario(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/experiments/rfc2889");
    format!("{folder}/{name}.toml")
}

/// What a search with one goal has found.
fn bounds(report: &Value) -> (f64, f64) {
    let bound = |name: &str| report["goals"][0][name].as_f64().expect(name);
    (bound("lower"), bound("upper"))
}

/// Frames of 1,514 bytes that a port of 20 Mbit/s carries in the two seconds of a run, and those that wait then.
const CARRIED: u64 = 20_000_000 * 2 / (1514 * 8);
const QUEUE: u64 = 50;

/// A port carries 1,651 frames in a second, and gets 2,439.
const CONGESTED: &str = "--rate 3252 --duration 2s --json";

/// The begin of a hook that makes switches and gives their ports.
const SWITCHES: &str = r#"[ "$TAP_REACTOR_EVENT" = up ] || exit 0
slow() { tc qdisc add dev "$1" root tbf rate 20mbit burst 3028 limit 75700; }
join() { ip link set "$2" master "$1"; }
set -- $TAP_REACTOR_TAPS
ip link add sw0 type bridge mcast_snooping 0
ip link set sw0 up
"#;

/// A bridge with slow ports.
const SLOW_PORTS: &str = r#"for tap do join sw0 "$tap"; slow "$tap"; done"#;

/// Both destinations are behind one slow link, in whose queue the frames for one wait behind those for the other.
const SLOW_LINK: &str = "
ip link add sw1 type bridge mcast_snooping 0
ip link add up0 type veth peer name up1
join sw0 $1; join sw0 $2; join sw0 up0; join sw1 up1; join sw1 $3; join sw1 $4
for link in sw1 up0 up1; do ip link set $link up; done
slow up0";

/// The frames that were sent to the congested port, and lost on the way there; the same of the other.
fn lost(report: &Value) -> [(u64, u64); 2] {
    assert_eq!(number(report, "/stream_counts/unsent"), 0, "{report}");
    let streams = report["streams"].as_array().expect("streams").iter();
    ["vm2", "vm3"].map(|dst| {
        let those = streams.clone().filter(|stream| stream["dst"] == dst);
        those.fold((0, 0), |(sent, lost), stream| {
            let count = |name: &str| number(stream, &format!("/counts/{name}"));
            (sent + count("sent"), lost + count("lost"))
        })
    })
}

#[test]
fn a_congested_port_loses_what_does_not_fit_and_another_loses_none() {
    let lab = Lab::new();
    let file = scenario("congestion-control");
    let simulated =
        format!("--scenario {file} {CONGESTED} --fabric sim --impair in:rate=20Mbit,queue={QUEUE}");
    let [congested, uncongested] = lost(&lab.tap_reactor(&simulated).expect_status(1).json());
    // In turn the four streams have 6,504 frames.
    assert_eq!([congested.0, uncongested.0], [4_878, 1_626]);
    let expected = 4_878 - CARRIED - QUEUE;
    assert!(congested.1.abs_diff(expected) <= 2, "{congested:?}");
    assert_eq!(uncongested.1, 0);
    let on_taps = |ports: &str| {
        let hook = format!("{SWITCHES}{ports}");
        let words = format!("--scenario {file} {CONGESTED} --fabric none --hook");
        let words = words.split_whitespace().chain([hook.as_str()]);
        let command: Vec<&str> = [TAP_REACTOR].into_iter().chain(words).collect();
        lost(&lab.run(&command).expect_status(1).json())
    };
    let [congested, uncongested] = on_taps(SLOW_PORTS);
    assert_eq!(uncongested, (1_626, 0));
    // A bucket that fills by the kernel's clock is a little more or less than it is asked for.
    assert!(
        congested.1.abs_diff(expected) <= CARRIED / 20,
        "{congested:?}"
    );
    // Of two ports with one queue both lose.
    let [congested, uncongested] = on_taps(SLOW_LINK);
    let share = |(sent, lost): (u64, u64)| lost as f64 / sent as f64;
    for port in [congested, uncongested] {
        assert!((0.35..0.65).contains(&share(port)), "{port:?}");
    }
}

#[test]
fn broadcasts_are_forwarded_at_the_rate_of_a_port() {
    let file = scenario("broadcast-forwarding");
    let goal = "rate:loss=0,final=500ms,sum=500ms,width=5%";
    // Frames of 98 bytes, the frame check sequence not counted.
    let words = format!(
        "search {file} --fabric sim --size 102 --impair in:rate=10Mbit,queue=10 --range 5k..50k --json --goal {goal}"
    );
    let report = Lab::new().tap_reactor(&words).expect_status(0).json();
    let (lower, upper) = bounds(&report);
    let port = 10e6 / (98.0 * 8.0);
    assert!(lower <= port * 1.01 && upper >= port, "{report}");
}

/// Makes the bridge br0, whose table holds so many addresses (`IFLA_BR_FDB_MAX_LEARNED`, which older `ip` does not know).
const BRIDGE_OF_CAPACITY: &str = "
import socket, struct, sys
def attribute(kind, data):
    return struct.pack('HH', 4 + len(data), kind) + data + bytes(-len(data) % 4)
data = attribute(1, struct.pack('I', 0)) + attribute(49, struct.pack('I', int(sys.argv[1])))
info = attribute(1, b'bridge\\0') + attribute(2 | 0x8000, data)
body = struct.pack('BxHiII', 0, 0, 0, 1, 1) + attribute(3, b'br0\\0') + attribute(18, info)
kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
kernel.send(struct.pack('IHHII', 16 + len(body), 16, 0x605, 1, 0) + body)
sys.exit(-struct.unpack_from('i', kernel.recv(4096), 16)[0])
";

#[test]
fn a_bridge_caches_as_many_addresses_as_it_was_given_room_for() {
    let file = scenario("address-caching-capacity");
    let goal = "vms:floods.unknown_unicast.frames=0,final=100ms,sum=100ms";
    for capacity in [7, 33] {
        let lab = Lab::new();
        lab.run(&["python3", "-c", BRIDGE_OF_CAPACITY, &capacity.to_string()])
            .expect_status(0);
        lab.ip("link set br0 up");
        let words = format!(
            "search {file} --goal {goal} --range 2..64 --netns host --join br0 --subnet 10.77.0.0/16 --json"
        );
        let run = lab.tap_reactor(&words).expect_status(0);
        let report = run.json();
        let expected = (f64::from(capacity), f64::from(capacity + 1));
        assert_eq!(bounds(&report), expected, "{report}");
    }
}
