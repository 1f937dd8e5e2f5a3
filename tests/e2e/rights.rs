//! Runs with fewer rights than root has, and the world that a test prepares for them.

use crate::lab::{Finished, Lab, TAP_REACTOR, as_user};
use crate::report::Report;

/// Puts a TAP device node that everybody may open in the place of the machine's.
const OPEN_TUN: &str =
    "mknod /mnt/tun c 10 200; chmod 0666 /mnt/tun; mount --bind /mnt/tun /dev/net/tun";

/// Puts a TAP device node that only root may open in the place of the machine's.
pub const CLOSED_TUN: &str =
    "mknod /mnt/tun c 10 200; chmod 0600 /mnt/tun; mount --bind /mnt/tun /dev/net/tun";

/// No TAP device node at all.
pub const NO_TUN: &str = "mount -t tmpfs tmpfs /dev/net";

/// A user that owns nothing.
pub const NOBODY: u32 = 65534;

/// Runs `tap-reactor` in a mount namespace of its own, where `prepare` has been done as root, by way of the command
/// `through`. The binary lies where every user can reach it, which its build directory need not be.
pub fn tap_reactor_after(lab: &Lab, prepare: &str, through: &str, arguments: &str) -> Finished {
    let script = format!(
        "set -e
        mount -t tmpfs -o mode=0755 tmpfs /mnt
        touch /mnt/tap-reactor
        mount --bind {TAP_REACTOR} /mnt/tap-reactor
        {prepare}
        exec {through} /mnt/tap-reactor {arguments}"
    );
    lab.run(&["unshare", "--mount", "sh", "-c", &script])
}

/// Runs `tap-reactor` as nobody, who may open the TAP device.
pub fn as_nobody(lab: &Lab, arguments: &str) -> Finished {
    as_nobody_after(lab, OPEN_TUN, arguments)
}

/// Runs `tap-reactor` as nobody, after `prepare`.
pub fn as_nobody_after(lab: &Lab, prepare: &str, arguments: &str) -> Finished {
    tap_reactor_after(lab, prepare, &as_user(NOBODY), arguments)
}

/// Runs `tap-reactor` as nobody, who may open the TAP device, through one more command.
pub fn as_nobody_through(lab: &Lab, through: &str, arguments: &str) -> Finished {
    let through = format!("{} {through}", as_user(NOBODY));
    tap_reactor_after(lab, OPEN_TUN, &through, arguments)
}

/// Runs `tap-reactor` in a user namespace that allows no further user namespaces, without any capability there.
pub fn without_user_namespaces(lab: &Lab, arguments: &str) -> Finished {
    let limit = "echo 0 > /proc/sys/user/max_user_namespaces";
    let through = format!(
        "unshare --user --map-root-user sh -c '{limit}; exec setpriv --bounding-set -all --inh-caps -all \"$@\"' sh"
    );
    tap_reactor_after(lab, OPEN_TUN, &through, arguments)
}

#[test]
fn the_main_job_needs_no_root_where_user_namespaces_are_expected() {
    let lab = Lab::new();
    let run = as_nobody(
        &lab,
        "--vms 2 --ping vm0:vm1 --count 100 --interval 1ms --json",
    );
    assert_eq!(run.stderr, "");
    Report::of_success(run, 100);
}

#[test]
fn the_hosts_address_needs_no_root_in_a_private_lab() {
    let lab = Lab::new();
    let arguments =
        "--vms 1 --host-address 10.77.0.1/16 --ping vm0:10.77.0.1 --count 10 --interval 1ms --json";
    Report::of_success(as_nobody(&lab, arguments), 10);
}

#[test]
fn a_user_namespace_that_grants_the_network_is_enough_for_its_host_mode() {
    let lab = Lab::new();
    let through = "unshare --user --map-root-user --net";
    let run = as_nobody_through(
        &lab,
        through,
        "--netns host --ping vm0:vm1 --count 10 --interval 1ms --json",
    );
    Report::of_success(run, 10);
}
