//! A command of the user's that joins the TAPs to a switch of theirs, and takes them off it again.
//!
//! It may take as long as it likes, so a signal ends it: it is waited for by a descriptor of its process
//! (`pidfd_open(2)`), beside the one of the signals. What it leaves in the background is not waited for.

use std::io::ErrorKind;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::error::SystemError;
use super::lab_config::{LabConfig, NetnsChoice};
use super::launcher::{RANK_VARIABLE, SECRET_VARIABLE};
use super::signals::{Collecting, StopSignals, Waited};
use crate::control::TOKEN_VARIABLE;
use crate::time::{Clock, MonotonicClock};

/// How long a hook that is to end has for it.
const GRACE: Duration = Duration::from_secs(1);

/// The kernel takes no longer string in an environment (`MAX_ARG_STRLEN`, `include/uapi/linux/binfmts.h`).
const LONGEST_VARIABLE: usize = 128 * 1024 - 32;

/// The moment in the life of a lab at which a hook runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HookEvent {
    /// All TAPs are there and up; no frame has been sent.
    Up,
    /// The run is over; the TAPs are about to be removed.
    Down,
}

/// How a hook ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HookEnd {
    /// By itself, with status 0.
    Done,
    /// It was told to end, because this signal asks for the end of the run.
    Interrupted(Signal),
}

/// Runs `command` by the shell, in the lab's namespace and a process group of its own, and waits for its end. One of
/// `signals` that is no echo ends it earlier: its group gets SIGTERM, and SIGKILL a second later. It finds in its
/// environment:
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
/// The token of control over TCP and the secret of ranks are not in it. Its output goes to standard error, where it does not get into a report.
///
/// # Errors
/// When it can't be run, or does not end with status 0.
pub fn run_hook(
    command: &str,
    event: HookEvent,
    lab: &LabConfig,
    signals: &StopSignals,
) -> Result<HookEnd, SystemError> {
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
        .process_group(0)
        // Whoever has it controls the lab.
        .env_remove(TOKEN_VARIABLE)
        .env_remove(SECRET_VARIABLE)
        .env_remove(RANK_VARIABLE)
        .env("TAP_REACTOR_EVENT", event)
        .env("TAP_REACTOR_TAP_PREFIX", &lab.tap_prefix)
        .env("TAP_REACTOR_VMS", lab.own_count().to_string())
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
    let names: Vec<String> = lab.own().map(|vm| lab.tap_name(vm)).collect();
    let names = names.join(" ");
    if names.len() <= LONGEST_VARIABLE {
        shell.env("TAP_REACTOR_TAPS", names);
    } else {
        shell.env_remove("TAP_REACTOR_TAPS");
    }
    // From before it begins, so that no signal that comes while it runs goes elsewhere.
    let signals = signals.collect()?;
    let mut child = shell.spawn().map_err(|error| match error.kind() {
        // The shell, not the command: that one the shell looks for.
        ErrorKind::NotFound => SystemError::refused(operation(), "no sh in PATH")
            .advise("a hook is a shell command: expected a shell, such as /bin/sh"),
        _ => SystemError::io(operation(), &error),
    })?;
    let interrupted = match wait(&child, &signals) {
        Ok(interrupted) => interrupted,
        Err(error) => {
            signal_group(&child, Signal::SIGKILL);
            let _ = child.wait();
            return Err(error);
        }
    };
    let status = child
        .wait()
        .map_err(|error| SystemError::io(operation(), &error))?;
    match interrupted {
        Some(signal) => Ok(HookEnd::Interrupted(signal)),
        None if status.success() => Ok(HookEnd::Done),
        None => Err(SystemError::refused(operation(), status.to_string())),
    }
}

/// Waits until `child` has ended, and returns the signal that it was made to end by, if it was.
fn wait(child: &Child, signals: &Collecting<'_>) -> Result<Option<Signal>, SystemError> {
    let process = pidfd(child)?;
    let (mut interrupted, mut kill_at) = (None, None);
    loop {
        match signals.wait_for(process.as_fd(), kill_at)? {
            Waited::Ready => return Ok(interrupted),
            Waited::Signal(signal) if interrupted.is_none() => {
                interrupted = Some(signal);
                kill_at = Some(MonotonicClock.now() + GRACE);
                signal_group(child, Signal::SIGTERM);
            }
            Waited::Signal(_) | Waited::TimeOut => {
                kill_at = None;
                signal_group(child, Signal::SIGKILL);
            }
        }
    }
}

/// A descriptor that is readable once `child` has ended (`pidfd_open(2)`, Linux 5.3).
fn pidfd(child: &Child) -> Result<OwnedFd, SystemError> {
    #[allow(unsafe_code)]
    // SAFETY: the call takes two plain numbers and returns a descriptor, closed on exec, that nobody else owns.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let descriptor = Errno::result(opened)
        .map_err(|errno| SystemError::kernel("watch the process of the hook", errno))?;
    #[allow(unsafe_code)]
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

/// Signals the group of `child`, which has not been waited for, so that nobody else can have its number.
fn signal_group(child: &Child, signal: Signal) {
    // Fails only where no process is left that could get it.
    let _ = killpg(Pid::from_raw(child.id() as i32), signal);
}
