//! Named namespaces, and what is removed from where, each test in namespaces of its own.

mod support;

use support::{enter_own_network, fabric, host_lab, link_names, run};
use tap_reactor::fabric::{Fabric, Station};
use tap_reactor::system::{LabConfig, LinkChange, Mark, Namespace, Netlink, NetnsChoice, clean};
use tap_reactor::vm::VmId;
use tap_reactor::wire::MacAddr;

/// The alias of a run that is gone: no kernel can be set to give process numbers as large.
const GONE: &str = "tap-reactor pid=8388608 start=1";

fn own_mark() -> Mark {
    Mark::of_this_process().unwrap()
}

/// A link that looks as if the run with that alias had made it.
fn forge_link(name: &str, alias: &str, group: u32) {
    run(&format!("ip link add {name} type bridge"));
    let change = LinkChange {
        alias: Some(alias),
        group: Some(group),
        ..LinkChange::default()
    };
    Netlink::open().unwrap().change_link(name, &change).unwrap();
}

fn named_lab() -> LabConfig {
    LabConfig {
        netns: NetnsChoice::Named("lab".to_owned()),
        ..LabConfig::default()
    }
}

fn plug(fabric: &mut impl Fabric<Error = tap_reactor::system::SystemError>, vm: u32) {
    let mac = MacAddr([2, 0, 0, 0, 1, vm as u8]);
    fabric.plug(VmId(vm), &Station::new(mac)).unwrap();
}

#[test]
fn cleaning_removes_the_links_of_runs_that_are_gone_and_no_others() {
    enter_own_network();
    let ours = own_mark();
    // The same process number, but another start: the number was given anew.
    let recycled = ours.alias().replace("start=", "start=1");
    let elsewhere = "tap-reactor pid=8388608 start=1 pidns=1";
    let group = Mark::parse(GONE).unwrap().group(0);
    forge_link("gone0", GONE, group);
    forge_link("gone1", GONE, group);
    forge_link("gone2", GONE, 0);
    forge_link("recycled0", &recycled, ours.group(0));
    forge_link("alive0", &ours.alias(), ours.group(0));
    forge_link("elsewhere0", elsewhere, 7);
    forge_link("unmarked0", "uplink", ours.group(0));
    forge_link("similar0", "tap-reactor pid=8388608", group + 1);

    let mut cleaned = clean().unwrap();
    cleaned.removed.sort();
    assert_eq!(cleaned.removed, ["gone0", "gone1", "gone2", "recycled0"]);
    let kept: Vec<_> = cleaned.kept.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(kept, ["alive0", "elsewhere0"]);
    assert!(
        cleaned.kept[0].1.contains(&ours.pid().to_string()),
        "{:?}",
        cleaned.kept
    );
    assert!(cleaned.failed.is_empty(), "{:?}", cleaned.failed);
    assert_eq!(
        link_names(),
        ["lo", "alive0", "elsewhere0", "unmarked0", "similar0"]
    );

    let again = clean().unwrap();
    assert_eq!((again.removed.len(), again.kept.len()), (0, 2));
}

#[test]
fn a_group_that_a_stranger_has_joined_is_not_removed_as_a_whole() {
    enter_own_network();
    let group = Mark::parse(GONE).unwrap().group(0);
    forge_link("gone0", GONE, group);
    forge_link("stranger", "", group);
    forge_link("gone1", GONE, group);
    assert_eq!(clean().unwrap().removed, ["gone0", "gone1"]);
    assert_eq!(link_names(), ["lo", "stranger"]);
}

#[test]
fn a_link_left_by_a_killed_run_is_told_from_one_of_somebody_else() {
    enter_own_network();
    forge_link("tap1", GONE, 5);
    let error = fabric(host_lab()).map(drop).unwrap_err().to_string();
    assert!(
        error.ends_with("a run that was killed has left it behind: tap-reactor clean"),
        "{error}"
    );
}

#[test]
fn a_named_lab_can_be_looked_into_and_vanishes_at_its_end() {
    for by_drop in [false, true] {
        enter_own_network();
        let (mut fabric, _poll) = fabric(named_lab()).unwrap();
        plug(&mut fabric, 0);
        plug(&mut fabric, 1);
        assert!(run("ip netns list").starts_with("lab"));
        let seen = run("ip netns exec lab ip link show master br0");
        assert!(seen.contains("tap0") && seen.contains("tap1"), "{seen}");
        // All of it is ours, so IPv6 is off altogether.
        assert_eq!(run("ip netns exec lab ip -6 address"), "");
        assert!(run("ip netns exec lab ip link show lo").contains(&own_mark().alias()));
        if by_drop {
            drop(fabric);
        } else {
            fabric.remove_all().unwrap();
        }
        assert_eq!(run("ip netns list"), "");
        assert_eq!(link_names(), ["lo"]);
    }
}

#[test]
fn a_named_namespace_of_somebody_else_is_left_as_it_was() {
    enter_own_network();
    run("ip netns add lab");
    let (mut fabric, _poll) = fabric(named_lab()).unwrap();
    plug(&mut fabric, 0);
    assert!(run("ip netns exec lab ip link show tap0").contains("master br0"));
    assert_eq!(
        run("ip netns exec lab cat /proc/sys/net/ipv6/conf/default/disable_ipv6"),
        "0\n"
    );
    fabric.remove_all().unwrap();
    let left = run("ip netns exec lab ip -oneline link");
    assert_eq!(left.lines().count(), 1, "{left}");
    assert!(
        left.contains("lo:") && left.contains("state DOWN") && !left.contains("alias"),
        "{left}"
    );
}

#[test]
fn a_name_that_is_no_namespace_is_refused_and_stays() {
    enter_own_network();
    std::fs::create_dir_all("/run/netns").unwrap();
    std::fs::write("/run/netns/lab", "").unwrap();
    let error = fabric(named_lab()).map(drop).unwrap_err().to_string();
    assert!(
        error.contains("is no network namespace: ip netns delete lab"),
        "{error}"
    );
    assert!(clean().unwrap().failed.is_empty());
    assert!(std::fs::exists("/run/netns/lab").unwrap());
    let missing = LabConfig {
        attach: true,
        netns: NetnsChoice::Named("absent".to_owned()),
        ..LabConfig::default()
    };
    let error = fabric(missing).map(drop).unwrap_err().to_string();
    assert!(
        error.contains("enter namespace absent: there is none of that name"),
        "{error}"
    );
    assert!(!std::fs::exists("/run/netns/absent").unwrap());
}

#[test]
fn cleaning_removes_the_named_namespace_of_a_run_that_is_gone() {
    enter_own_network();
    run("ip netns add stranger");
    run("ip -n stranger link add gone0 type bridge");
    run("ip netns exec stranger ip link add uplink type bridge");
    // As a killed run leaves them: nothing of it ends in an orderly way.
    let choice = |name: &str| NetnsChoice::Named(name.to_owned());
    let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
    for (name, mark) in [("dead", Mark::parse(GONE).unwrap()), ("living", own_mark())] {
        std::mem::forget(Namespace::enter(&choice(name), &mark, false).unwrap());
        forge_link("tap0", &mark.alias(), mark.group(0));
        nix::sched::setns(&here, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    }
    nix::sched::setns(
        std::fs::File::open("/run/netns/stranger").unwrap(),
        nix::sched::CloneFlags::CLONE_NEWNET,
    )
    .unwrap();
    let change = LinkChange {
        alias: Some(GONE),
        ..LinkChange::default()
    };
    Netlink::open()
        .unwrap()
        .change_link("gone0", &change)
        .unwrap();
    nix::sched::setns(&here, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();

    let cleaned = clean().unwrap();
    assert_eq!(
        cleaned.removed,
        [
            "tap0 in namespace dead",
            "namespace dead",
            "gone0 in namespace stranger"
        ]
    );
    let kept: Vec<_> = cleaned.kept.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(kept, ["tap0 in namespace living", "namespace living"]);
    assert!(cleaned.failed.is_empty(), "{:?}", cleaned.failed);
    let mut names: Vec<_> = std::fs::read_dir("/run/netns")
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["living", "stranger"]);
    assert!(run("ip -n stranger link").contains("uplink"));
    // We are back where we were.
    assert_eq!(link_names(), ["lo"]);
}
