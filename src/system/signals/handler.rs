//! Signals that nothing reads: the handler of a run's last stage, and when the first signal came.
//!
//! All that the handler does is async-signal-safe (`signal-safety(7)`): atomics, `clock_gettime`, `poll`, `write`,
//! `sigaction`, `raise`, `_exit`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

use super::ECHO;
use crate::time::{Clock, Instant, MonotonicClock};

/// When the first signal arrived; 0 before it has.
static FIRST: AtomicU64 = AtomicU64::new(0);
/// A signal has come since a program began to make labs.
static CAME: AtomicBool = AtomicBool::new(false);
/// The first signal came to the handler.
static CAME_LATE: AtomicBool = AtomicBool::new(false);
/// The lab's links stay if the process ends now.
static LEAVES_LINKS: AtomicBool = AtomicBool::new(false);

/// The place of a signal among those that have arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    First,
    /// Came with the first one, or so soon after it that it asks for nothing else.
    Echo,
    /// Somebody does not want to wait.
    Later,
}

/// Takes note that a signal arrived at `now`.
pub(super) fn arrived(now: Instant) -> Arrival {
    CAME.store(true, Ordering::Relaxed);
    arrived_after(&FIRST, now)
}

fn arrived_after(first: &AtomicU64, now: Instant) -> Arrival {
    let nanos = now.as_nanos().max(1);
    match first.compare_exchange(0, nanos, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => Arrival::First,
        Err(first) if now - Instant::from_nanos(first) <= ECHO => Arrival::Echo,
        Err(_) => Arrival::Later,
    }
}

/// Begins anew: no signal has arrived.
pub(super) fn forget_arrivals() {
    FIRST.store(0, Ordering::Relaxed);
    CAME_LATE.store(false, Ordering::Relaxed);
}

/// Begins anew, for labs that follow each other.
pub(super) fn forget_all() {
    forget_arrivals();
    CAME.store(false, Ordering::Relaxed);
}

/// Returns true if a signal has arrived since all were [forgotten](forget_all), whatever labs were built meanwhile.
pub(super) fn has_come() -> bool {
    CAME.load(Ordering::Relaxed)
}

/// Returns true if the first signal came in the last stage, so that what is still being done is to end.
pub(in super::super) fn has_come_late() -> bool {
    CAME_LATE.load(Ordering::Relaxed)
}

/// Returns true if the process ignores `signal`.
pub(super) fn is_ignored(signal: Signal) -> Result<bool, Errno> {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    #[allow(unsafe_code)]
    // SAFETY: without a new action the call only writes the present one to where it is told, which is large enough.
    let action = unsafe {
        Errno::result(libc::sigaction(
            signal as libc::c_int,
            std::ptr::null(),
            action.as_mut_ptr(),
        ))?;
        action.assume_init()
    };
    Ok(action.sa_sigaction == libc::SIG_IGN)
}

/// A signal, and its action before it was [taken over](install).
pub(super) type Before = (Signal, SigAction);

/// Installs the handler for each of `signals` that is not blocked. Returns the action of each before.
pub(super) fn install(signals: &SigSet, leaves_links: bool) -> Result<Vec<Before>, Errno> {
    LEAVES_LINKS.store(leaves_links, Ordering::Relaxed);
    install_handler(signals, on_signal)
}

/// Makes each of `signals` end the process with status 1 and a message that nothing was made. Returns the action of each
/// before.
pub(super) fn install_early(signals: &SigSet) -> Result<Vec<Before>, Errno> {
    install_handler(signals, on_early_signal)
}

fn install_handler(
    signals: &SigSet,
    handler: extern "C" fn(libc::c_int),
) -> Result<Vec<Before>, Errno> {
    // SA_RESTART, so that no system call is left half done; the whole set, so that the handler is not called within itself.
    let action = SigAction::new(SigHandler::Handler(handler), SaFlags::SA_RESTART, *signals);
    let mut before = Vec::new();
    for signal in signals.iter() {
        #[allow(unsafe_code)]
        // SAFETY: the handlers of this file do nothing that is not async-signal-safe.
        before.push((signal, unsafe { sigaction(signal, &action) }?));
    }
    Ok(before)
}

/// Has a write beyond the process's limit of file sizes fail with `EFBIG`, as one to a full disk fails, instead of ending the
/// process (`setrlimit(2)`). A hook does not inherit that, since a handler ends with `execve(2)`.
pub(super) fn outlive_file_size_limit() -> Result<(), Errno> {
    if is_ignored(Signal::SIGXFSZ)? {
        return Ok(());
    }
    let handler = SigHandler::Handler(on_file_size_limit);
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    #[allow(unsafe_code)]
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGXFSZ, &action) }.map(|_| ())
}

extern "C" fn on_file_size_limit(_: libc::c_int) {}

/// Restores the action that each signal had before.
pub(super) fn restore(before: &[Before]) -> Result<(), Errno> {
    for (signal, action) in before {
        #[allow(unsafe_code)]
        // SAFETY: whoever set that action before had reason to think it sound.
        unsafe { sigaction(*signal, action) }?;
    }
    Ok(())
}

extern "C" fn on_signal(number: libc::c_int) {
    let before = Errno::last();
    match arrived(MonotonicClock.now()) {
        Arrival::First => CAME_LATE.store(true, Ordering::Relaxed),
        Arrival::Echo => {}
        Arrival::Later => {
            if let Ok(signal) = Signal::try_from(number) {
                end_by(signal);
            }
        }
    }
    before.set();
}

extern "C" fn on_early_signal(number: libc::c_int) {
    let words: &[u8] = match number {
        libc::SIGINT => b"tap-reactor: SIGINT came before the lab was built; nothing was made\n",
        libc::SIGHUP => b"tap-reactor: SIGHUP came before the lab was built; nothing was made\n",
        _ => b"tap-reactor: SIGTERM came before the lab was built; nothing was made\n",
    };
    say(words);
    #[allow(unsafe_code)]
    // SAFETY: runs nothing of this process any more.
    unsafe {
        libc::_exit(1)
    }
}

/// Says what is left behind, and has the kernel end the process as soon as the handler returns.
fn end_by(signal: Signal) {
    let words: &[u8] = match LEAVES_LINKS.load(Ordering::Relaxed) {
        true => b"\ntap-reactor: ended at once; links are left behind, for tap-reactor clean\n",
        false => b"\ntap-reactor: ended at once, before it was done\n",
    };
    say(words);
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    #[allow(unsafe_code)]
    // SAFETY: the default action runs no code of ours.
    let _ = unsafe { sigaction(signal, &default) };
    let _ = raise(signal);
}

/// Writes to standard error, unless nobody reads what is written: a write would hold up the end.
fn say(words: &[u8]) {
    let stderr = std::io::stderr();
    let stderr = std::os::fd::AsFd::as_fd(&stderr);
    let mut room = [PollFd::new(stderr, PollFlags::POLLOUT)];
    if poll(&mut room, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
        let _ = nix::unistd::write(stderr, words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_within_two_seconds_after_the_first_signal_is_its_echo() {
        let second = 1_000_000_000;
        let first = AtomicU64::new(0);
        for (at, expected) in [
            (5 * second, Arrival::First),
            (5 * second, Arrival::Echo),
            (6 * second, Arrival::Echo),
            (7 * second, Arrival::Echo),
            (7 * second + 1, Arrival::Later),
            (8 * second, Arrival::Later),
        ] {
            assert_eq!(
                arrived_after(&first, Instant::from_nanos(at)),
                expected,
                "{at}"
            );
        }
    }
}
