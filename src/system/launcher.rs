//! Starts ranks on the cores of one machine, and waits for them (`--cores`).
//!
//! They are children in the process group of their launcher, so that a key at the terminal signals all of them at once: such a
//! signal (`SI_KERNEL`) is not passed on, any other is. A child ends with its launcher (`PR_SET_PDEATHSIG`).

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::unistd::{Pid, getppid};

use super::error::SystemError;
use super::namespace::enter_private;
use super::signals::stop_signals;
use crate::time::{Clock, Instant, MonotonicClock, earliest};

/// The environment variable by which a launcher tells a rank its place: rank, process of the launcher, meeting point. Hooks do
/// not get it.
pub const RANK_VARIABLE: &str = "TAP_REACTOR_CORES_RANK";
/// The one that has the secret of ranks. Hooks do not get it.
pub const SECRET_VARIABLE: &str = "TAP_REACTOR_MEET_SECRET";
/// Why ranks can't meet at an address that others reach without a secret, …
pub const NO_SECRET: &str = "others of the network reach it, and there is no secret";
/// … and what is expected.
pub const SECRET_EXPECTED: &str = "expected --meet-secret-file FILE, or a secret in the environment variable \
                                   TAP_REACTOR_MEET_SECRET";

/// How long ranks have to notice that one of them is gone. They do so at once where they have met; else nobody comes any more for
/// whom they wait.
const NOTICE: Duration = Duration::from_secs(1);
/// How long ranks have to end by themselves after the first has ended before its time.
const GRACE: Duration = Duration::from_secs(45);
/// How long they have after they were told to.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// Returns the processors that this process may use, by their numbers.
///
/// # Errors
/// If the kernel does not tell.
pub fn processors() -> Result<Vec<usize>, SystemError> {
    let set = sched_getaffinity(Pid::from_raw(0))
        .map_err(|errno| SystemError::kernel("ask for the processors of this process", errno))?;
    let numbers = 0..CpuSet::count();
    Ok(numbers
        .filter(|number| set.is_set(*number).unwrap_or(false))
        .collect())
}

/// Enters a network namespace for ranks that share a lab, which they inherit. It ends with the last of them.
///
/// # Errors
/// If none can be made.
pub fn enter_shared_namespace() -> Result<(), SystemError> {
    enter_private()
}

/// To be called first by a process that a launcher has started: it ends with that one, `parent`, and its signals are its own.
///
/// # Errors
/// If the kernel refuses, or the launcher is gone already.
pub fn begin_rank(parent: u32) -> Result<(), SystemError> {
    let refused =
        |errno| SystemError::kernel("end with the process that has started this rank", errno);
    set_pdeathsig(Signal::SIGTERM).map_err(refused)?;
    if getppid().as_raw() as u32 != parent {
        let operation = "begin as a rank";
        return Err(SystemError::refused(
            operation,
            "the process that has started it is gone",
        ));
    }
    let mut signals = stop_signals().map_err(refused)?;
    signals.add(Signal::SIGCHLD);
    signals.thread_unblock().map_err(refused)
}

/// Ranks that were started.
#[derive(Debug)]
pub struct Crew {
    signals: SignalFd,
    ranks: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    child: Child,
    status: Option<ExitStatus>,
}

impl Crew {
    /// Starts this program with the same words and `variables` beside the environment, once for each of `places`: the
    /// processor, and the value of [`RANK_VARIABLE`]. Signals are this value's from now on.
    ///
    /// # Errors
    /// If one of them can't be started; the others are killed then.
    pub fn start(
        words: &[OsString],
        places: &[(usize, String)],
        secret: &str,
    ) -> Result<Crew, SystemError> {
        let refused = |errno| SystemError::kernel("wait for ranks and signals", errno);
        let mut signals = stop_signals().map_err(refused)?;
        signals.add(Signal::SIGCHLD);
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let descriptor = SignalFd::with_flags(&signals, flags).map_err(refused)?;
        signals.thread_block().map_err(refused)?;
        let program = std::env::current_exe()
            .map_err(|error| SystemError::io("find this program", &error))?;
        let mut crew = Crew {
            signals: descriptor,
            ranks: Vec::new(),
        };
        let own = Pid::from_raw(0);
        let affinity = |errno| SystemError::kernel("choose the processor of a rank", errno);
        let before = sched_getaffinity(own).map_err(affinity)?;
        for (processor, rank) in places {
            let mut only = CpuSet::new();
            only.set(*processor).map_err(affinity)?;
            // It is inherited.
            sched_setaffinity(own, &only).map_err(affinity)?;
            let child = Command::new(&program)
                .args(words)
                .env(RANK_VARIABLE, rank)
                .env(SECRET_VARIABLE, secret)
                .spawn();
            sched_setaffinity(own, &before).map_err(affinity)?;
            let child = child.map_err(|error| SystemError::io("start a rank", &error))?;
            crew.ranks.push(Member {
                child,
                status: None,
            });
        }
        Ok(crew)
    }

    /// Waits until all ranks have ended, and returns how. `early` is told of each that ends in another way than by exiting with
    /// 0 or 1; the others are told to end then, if they do not notice it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn wait(
        mut self,
        mut early: impl FnMut(usize, ExitStatus),
    ) -> Result<Vec<ExitStatus>, SystemError> {
        let refused = |errno| SystemError::kernel("wait for ranks", errno);
        // The next thing to do to those that do not end.
        let mut deadline: Option<(Instant, Signal)> = None;
        let mut is_cut_off = false;
        // When the others are told to end that do not by themselves.
        let mut told_at: Option<Instant> = None;
        loop {
            for (rank, member) in self.ranks.iter_mut().enumerate() {
                if member.status.is_none()
                    && let Some(status) = member
                        .child
                        .try_wait()
                        .map_err(|error| SystemError::io("wait for ranks", &error))?
                {
                    member.status = Some(status);
                    if !matches!(status.code(), Some(0 | 1)) {
                        early(rank, status);
                        is_cut_off = true;
                    }
                    if !status.success() {
                        deadline.get_or_insert((MonotonicClock.now() + GRACE, Signal::SIGTERM));
                    }
                }
            }
            if std::mem::take(&mut is_cut_off) {
                let now = MonotonicClock.now();
                told_at.get_or_insert(now + NOTICE);
                deadline = Some((now + GRACE, Signal::SIGKILL));
            }
            let statuses: Option<Vec<ExitStatus>> =
                self.ranks.iter().map(|member| member.status).collect();
            if let Some(statuses) = statuses {
                return Ok(statuses);
            }
            let now = MonotonicClock.now();
            if told_at.take_if(|at| *at <= now).is_some() {
                // They may wait for it at the meeting point.
                self.signal(Signal::SIGTERM);
            }
            if let Some((_, signal)) = deadline.filter(|(at, _)| *at <= now) {
                self.signal(signal);
                deadline = Some((now + LAST_GRACE, Signal::SIGKILL));
            }
            let next = earliest(told_at, deadline.map(|(at, _)| at));
            let left = next.map(|at| TimeSpec::from_duration(at - now));
            let mut ready = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            match ppoll(&mut ready, left, None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(refused(errno)),
            }
            while let Some(info) = self.signals.read_signal().map_err(refused)? {
                let signal = Signal::try_from(info.ssi_signo as i32);
                // One that the terminal has sent went to all processes of the group.
                if let Ok(signal) = signal
                    && signal != Signal::SIGCHLD
                    && info.ssi_code != libc::SI_KERNEL
                {
                    self.signal(signal);
                }
            }
        }
    }

    /// Signals the ranks that have not ended. None of them was waited for, so that nobody else can have its number.
    fn signal(&self, signal: Signal) {
        for member in self.ranks.iter().filter(|member| member.status.is_none()) {
            // Fails where it has just ended.
            let _ = kill(Pid::from_raw(member.child.id() as i32), signal);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // After an error, of which the user is told.
        self.signal(Signal::SIGKILL);
        for member in self
            .ranks
            .iter_mut()
            .filter(|member| member.status.is_none())
        {
            let _ = member.child.wait();
        }
        let signals = stop_signals().map(|mut signals| {
            signals.add(Signal::SIGCHLD);
            signals
        });
        let _ = signals.and_then(|signals: SigSet| signals.thread_unblock());
    }
}
