//! Kernel settings under `/proc/sys/net`, which shows the network namespace of whoever opens a file in it: enter the
//! namespace first.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::error::SystemError;
use super::kernel_wait::Asking;

/// Settings that make a namespace of our own quiet and fast, to be written before its first link is made.
///
/// With IPv6 on, each new link sends neighbour discovery, and setting up and tearing down thousands of them takes many
/// times as long. Bridge netfilter is on in a new namespace and costs each frame a sixth of its time.
const QUIET: [(&str, &str); 5] = [
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-arptables", "0"),
];

/// Makes the namespace quiet that the calling thread is in. Only for a namespace of our own.
///
/// A setting that this kernel does not have is no error. Nothing depends on the others either, so the rest is still
/// tried when one is refused: what is returned is for the user to know.
pub(super) fn quieten_namespace() -> Vec<SystemError> {
    QUIET
        .iter()
        .filter_map(|(setting, value)| set(setting, value).err())
        .collect()
}

/// Switches IPv6 off on one link of ours, before it comes up. `link` is a valid interface name.
pub(super) fn disable_ipv6(link: &str) -> Result<(), SystemError> {
    set(&format!("ipv6/conf/{link}/disable_ipv6"), "1")
}

/// Switches IPv6 on for one link of ours. `link` is a valid interface name.
pub(super) fn enable_ipv6(link: &str) -> Result<(), SystemError> {
    set(&format!("ipv6/conf/{link}/disable_ipv6"), "0")
}

fn set(setting: &str, value: &str) -> Result<(), SystemError> {
    let path = PathBuf::from("/proc/sys/net").join(setting);
    let _asking = Asking::begin();
    match std::fs::write(&path, value) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(SystemError::io(
            format!("write {value} to {}", path.display()),
            &error,
        )),
    }
}
