//! Frames of streams that do not come: the report puts every one down to what it was lost to.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::lab::{Lab, number};

/// The rows of losses, in words: `cause place frames reason`.
fn words(rows: &Value) -> Vec<String> {
    let rows = rows.as_array().into_iter().flatten();
    let rows = rows.map(|row| {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let (cause, place, reason) = (text("cause"), text("place"), text("reason"));
        format!("{cause} {place} {} {reason}", number(row, "/count"))
    });
    rows.collect()
}

/// Checks that the rows of each stream, and those of all, are as many as the lost frames.
fn expect_sums(report: &Value) {
    let sum = |rows: &Value| -> u64 {
        let rows = rows.as_array().into_iter().flatten();
        rows.map(|row| number(row, "/count")).sum()
    };
    let lost = number(report, "/stream_counts/lost");
    assert_eq!(sum(&report["stream_losses"]), lost, "{report}");
    for stream in report["streams"].as_array().expect("streams") {
        let lost = number(stream, "/counts/lost");
        assert_eq!(sum(&stream["losses"]), lost, "{stream}");
    }
}

#[test]
fn what_is_done_to_streams_on_purpose_is_what_their_losses_are_put_down_to() {
    let lab = Lab::new();
    for fabric in ["sim", "bridge", "xdp", "bridge --cores 2"] {
        let report = lab.tap_reactor(&format!(
            "--fabric {fabric} --vms 4 --stream vm0:vm3 --stream vm2:vm1 --stream vm1:broadcast --rate 1k --count 140 \
             --resolve static --impair vm3:in:every=10 --impair vm2:out:every=7 --json"
        ));
        let report = report.expect_status(1).json();
        expect_sums(&report);
        let streams = report["streams"].as_array().expect("streams");
        let of = |number: usize| words(&streams[number]["losses"]);
        // What comes to vm3 are two streams in turn.
        let [to_vm3, from_vm2, to_all] = [of(0), of(1), of(2)];
        assert_eq!(from_vm2, ["impaired vm2 20 lost"], "{fabric}");
        let all = words(&report["stream_losses"]);
        assert_eq!(
            all,
            ["impaired vm3 28 lost", "impaired vm2 20 lost"],
            "{fabric}"
        );
        for rows in [to_vm3, to_all] {
            assert!(
                rows.iter().all(|row| row.starts_with("impaired vm3")),
                "{rows:?}"
            );
        }
    }
    let silent = "--vms 3 --stream vm0:vm1 --rate 500 --count 200 --misbehave vm1:silent@100ms+100ms --resolve static --json";
    let report = lab.tap_reactor(silent).expect_status(1).json();
    expect_sums(&report);
    let lost = number(&report, "/stream_counts/lost");
    let expected = format!("impaired vm1 {lost} silent");
    assert_eq!(words(&report["stream_losses"]), [expected]);
    let held = "--fabric sim --stream vm0:vm1 --rate 500 --count 200 --impair vm1:in:delay=9s --resolve static --json";
    let report = lab.tap_reactor(held).expect_status(1).json();
    assert_eq!(
        words(&report["stream_losses"]),
        ["impaired vm1 200 delayed"]
    );
    let command = "--fabric sim --stream vm0:vm1 --rate 500 --count 200 --impair vm1:in:every=10 --resolve static";
    for (expected, status) in [
        ("losses.impaired=20", 0),
        ("losses.unknown>0", 1),
        ("streams.losses.impaired=20 --expect streams.loss<=10%", 0),
        ("streams.losses.impaired<20 --expect streams.loss<=10%", 1),
    ] {
        let loss = match expected.contains("streams.loss<") {
            true => "",
            false => "--expect loss<=10%",
        };
        lab.tap_reactor(&format!("{command} --expect {expected} {loss}"))
            .expect_status(status);
    }
    let off = "--stream vm0:vm1 --rate 500 --count 40 --impair vm1:in:every=2 --attribute-loss off --json";
    let report = lab.tap_reactor(off).expect_status(1).json();
    assert_eq!(words(&report["stream_losses"]), ["unknown unknown 20 "]);
}

/// Changes a bridge with all TAPs, and what each frame is put down to.
const OF_KERNEL: [(&str, &str); 4] = [
    (
        "for tap in $TAP_REACTOR_TAPS; do bridge link set dev $tap isolated on; done",
        "in_bridge vm0 60 both ports are isolated",
    ),
    (
        "nft add table bridge t; nft add chain bridge t c '{ type filter hook forward priority 0; }'; nft add rule bridge t c drop",
        "behind_bridge vm1 60 NETFILTER_DROP in nft_do_chain",
    ),
    (
        "bridge link set dev $1 state 0",
        "in_bridge vm0 60 its port is disabled",
    ),
    (
        "nft add table netdev t; nft add chain netdev t c \"{ type filter hook ingress device $1 priority 0; }\"; nft add rule netdev t c drop",
        "before_bridge vm0 60 NETFILTER_DROP in nft_do_chain",
    ),
];

#[test]
fn what_the_kernel_drops_of_streams_it_tells_of() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("hook");
    for (change, expected) in OF_KERNEL {
        let hook = format!(
            "#!/bin/sh\n[ $TAP_REACTOR_EVENT = up ] || exit 0\nip link add br0 type bridge\nip link set br0 up\n\
             for tap in $TAP_REACTOR_TAPS; do ip link set $tap master br0; done\nset -- $TAP_REACTOR_TAPS\n{change}\n"
        );
        std::fs::write(&file, hook).expect("a hook");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&file, executable).expect("an executable hook");
        let run = lab.tap_reactor(&format!(
            "--vms 2 --stream vm0:vm1 --count 60 --rate 500 --resolve static --fabric none --hook {} --json",
            file.display()
        ));
        let report = run.expect_status(1).json();
        expect_sums(&report);
        assert_eq!(words(&report["stream_losses"]), [expected], "{change}");
    }
}

#[test]
fn a_port_that_somebody_sets_down_is_what_frames_for_it_are_put_down_to() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("hook");
    let hook = "#!/bin/sh\n[ $TAP_REACTOR_EVENT = up ] || exit 0\nip link add br0 type bridge\nip link set br0 up\n\
                for tap in $TAP_REACTOR_TAPS; do ip link set $tap master br0; done\nset -- $TAP_REACTOR_TAPS\n\
                ip link set $2 down\n";
    std::fs::write(&file, hook).expect("a hook");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&file, executable).expect("an executable hook");
    // The bridge floods them to the others: filters drop those copies, or who is to see leaks reads them.
    for more in ["", "--stream vm0:absent"] {
        let run = lab.tap_reactor(&format!(
            "--vms 4 --stream vm0:vm1 --stream vm2:vm1 {more} --count 60 --rate 500 --resolve static --fabric none --hook {} --json",
            file.display()
        ));
        let report = run.expect_status(1).json();
        expect_sums(&report);
        let expected = ["absent vm1 120 its link is down"];
        assert_eq!(words(&report["stream_losses"]), expected, "{more}");
    }
}

#[test]
fn a_queue_that_is_full_is_told_exactly_where_ranks_send_more_than_is_read() {
    let lab = Lab::new();
    let words_of = "--cores 2 --vms 2 --stream vm0:vm1 --rate 20k --count 8000 --size 1518 --txqueuelen 8 --json";
    let report = lab.tap_reactor(words_of).json();
    expect_sums(&report);
    // As many as the TAP has counted.
    let full = report
        .pointer("/drops/tap_queue")
        .map_or(0, |_| number(&report, "/drops/tap_queue"));
    let lost = number(&report, "/stream_counts/lost");
    let missed = report.pointer("/loss_attribution/missed");
    if missed.is_none() && lost == full && lost > 0 {
        let expected = format!("queue_full vm1 {lost} FULL_RING in tun_net_xmit");
        assert_eq!(words(&report["stream_losses"]), [expected]);
    }
}

#[test]
fn lost_frames_are_told_in_every_form_of_a_report() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (csv, markdown, page, json) = (path("x.csv"), path("x.md"), path("x.html"), path("x.json"));
    let command = format!(
        "--fabric sim --stream vm0:vm1 --count 100 --interval 1ms --resolve static --impair vm1:in:every=10 -o {csv} -o {markdown} \
         -o {page} -o {json}"
    );
    let text = lab.tap_reactor(&command).expect_status(1).stdout;
    assert!(text.contains("\nlost frames"), "{text}");
    assert!(
        text.contains("impaired on purpose  request    vm1        10  lost"),
        "{text}"
    );
    let read = |path: &str| std::fs::read_to_string(path).expect("a report");
    let rows = read(&csv);
    for kind in ["streams_loss,", "stream_loss,"] {
        let row = rows
            .lines()
            .find(|row| row.starts_with(kind))
            .unwrap_or_default();
        assert!(
            row.contains(",impaired,request,vm1,10,lost,"),
            "{kind}: {row}"
        );
    }
    let row = "| impaired on purpose | request | vm1 | lost | 10 |";
    assert!(read(&markdown).contains(row), "{}", read(&markdown));
    assert!(read(&page).contains("<h2>Lost frames</h2>"));
    let compared = lab.tap_reactor(&format!("report --compare {json} {json} --json"));
    let compared = compared.expect_status(0).stdout;
    assert!(compared.contains("streams.losses.impaired"), "{compared}");
    let other = path("y.json");
    std::fs::copy(&json, &other).expect("a copy");
    let merged = lab
        .tap_reactor(&format!("report --merge {json} {other} --json"))
        .json();
    expect_sums(&merged);
    assert_eq!(words(&merged["stream_losses"]), ["impaired vm1 20 lost"]);
}
