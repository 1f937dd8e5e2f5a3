//! A command of the user's that joins the TAPs to a switch of theirs, and takes them off it again.

use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use super::error::SystemError;
use super::lab::{LabConfig, NetnsChoice};

/// The kernel takes no longer string in an environment (`MAX_ARG_STRLEN`, `include/uapi/linux/binfmts.h`).
const LONGEST_VARIABLE: usize = 128 * 1024 - 32;

/// What has happened, or is about to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HookEvent {
    /// All TAPs are there and up; no frame has been sent.
    Up,
    /// The run is over; the TAPs are about to be removed.
    Down,
}

/// Runs `command` by the shell, in the lab's namespace, and waits for its end. It finds in its environment:
///
/// | variable | is |
/// |---|---|
/// | `TAP_REACTOR_EVENT` | `up` or `down` |
/// | `TAP_REACTOR_TAPS` | the names of all TAPs, with blanks between them; absent where they are longer than the kernel allows (128 KiB) |
/// | `TAP_REACTOR_TAP_PREFIX`, `TAP_REACTOR_VMS` | what the names are made from, and how many there are |
/// | `TAP_REACTOR_MTU` | the MTU of the TAPs |
/// | `TAP_REACTOR_NETNS` | `private`, `host`, or the namespace's name |
/// | `TAP_REACTOR_PID` | the process whose namespace it is, for `nsenter` |
///
/// What it prints goes to standard error, where it does not get into a report.
///
/// # Errors
/// When it can't be run, or does not end with status 0.
pub fn run_hook(command: &str, event: HookEvent, lab: &LabConfig) -> Result<(), SystemError> {
    let event = match event {
        HookEvent::Up => "up",
        HookEvent::Down => "down",
    };
    let operation = || format!("run the hook ({event}) {command:?}");
    let stderr = std::io::stderr().as_fd().try_clone_to_owned();
    let stderr = stderr.map_err(|error| SystemError::io(operation(), &error))?;
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(stderr)
        .env("TAP_REACTOR_EVENT", event)
        .env("TAP_REACTOR_TAP_PREFIX", &lab.tap_prefix)
        .env("TAP_REACTOR_VMS", lab.vms.to_string())
        .env("TAP_REACTOR_MTU", lab.mtu.to_string())
        .env("TAP_REACTOR_PID", std::process::id().to_string())
        .env(
            "TAP_REACTOR_NETNS",
            match &lab.netns {
                NetnsChoice::Private => "private",
                NetnsChoice::Host => "host",
                NetnsChoice::Named(name) => name,
            },
        );
    let names: Vec<String> = (0..lab.vms).map(|vm| lab.tap_name(vm)).collect();
    let names = names.join(" ");
    if names.len() <= LONGEST_VARIABLE {
        shell.env("TAP_REACTOR_TAPS", names);
    } else {
        shell.env_remove("TAP_REACTOR_TAPS");
    }
    let status = shell
        .status()
        .map_err(|error| SystemError::io(operation(), &error))?;
    if status.success() {
        return Ok(());
    }
    Err(SystemError::refused(operation(), status.to_string()))
}
