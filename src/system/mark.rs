//! The mark on every link that a run creates, by which it is known as ours and its run as alive or gone.
//!
//! A link may be removed only when its run is gone. A process number does not tell: it means something only in its PID
//! namespace, is given anew, and the time at which its process started is another in each time namespace
//! (`time_namespaces(7)`). What does tell must be the kernel's, end with the process even by SIGKILL, and be seen by
//! everybody who sees the link. An abstract Unix socket is all of that (`unix(7)`): its name is known throughout the network
//! namespace in which it was bound, which is the lab's, and goes with the last descriptor. So a run binds a socket whose name
//! nobody else has ([`Presence`]), before it makes the first link, and the name stands in the mark.
//!
//! Earlier versions marked their links with process number and start. Those marks are still read.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::error::SystemError;

/// Which run made a link. Written into the link's alias: `tap-reactor pid=1234 run=0123456789abcdef`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    pid: u32,
    witness: Witness,
}

/// The evidence that a run is still going.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Witness {
    /// A socket that the run holds, by a number that stands in its name.
    Socket(u64),
    /// The process itself: its start (field 22 of `/proc/PID/stat`, in clock ticks since boot) and its PID namespace.
    Process {
        start: u64,
        pid_namespace: Option<u64>,
    },
}

/// The state of the run that made a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// The run is still going.
    Alive,
    /// The run is gone; its process number may be somebody else's by now.
    Gone,
    /// From here it can't be told.
    Unknown,
}

/// Shows that the run is going, to all who look from the network namespace in which this was made, until it is dropped or
/// the process ends.
#[derive(Debug)]
pub struct Presence {
    _socket: UnixDatagram,
}

impl Mark {
    /// A mark for a run of the calling process, unlike all others.
    pub fn new() -> Mark {
        Mark {
            pid: std::process::id(),
            witness: Witness::Socket(fastrand::u64(..)),
        }
    }

    /// Shows, in the network namespace of the calling thread, that the run of this mark is going.
    ///
    /// # Errors
    /// When there is no descriptor left, or the mark is not of a run of ours.
    pub fn show_presence(&self) -> Result<Presence, SystemError> {
        let operation = "show that the run is going (bind a Unix socket)";
        let Witness::Socket(number) = self.witness else {
            return Err(SystemError::refused(
                operation,
                "the mark is of another version's",
            ));
        };
        let bind = || UnixDatagram::bind_addr(&socket_name(number)?);
        let socket = bind().map_err(|error| SystemError::io(operation, &error))?;
        Ok(Presence { _socket: socket })
    }

    /// Reads a link's alias; `None` if it is no mark of ours.
    pub fn parse(alias: &str) -> Option<Mark> {
        let mut words = alias.strip_prefix("tap-reactor ")?.split(' ');
        let pid = decimal(words.next()?.strip_prefix("pid=")?)?;
        let word = words.next()?;
        let witness = match word.strip_prefix("run=") {
            Some(number) => Witness::Socket(hexadecimal(number)?),
            None => Witness::Process {
                start: decimal(word.strip_prefix("start=")?)?,
                pid_namespace: match words.next() {
                    Some(word) => Some(decimal(word.strip_prefix("pidns=")?)?),
                    None => None,
                },
            },
        };
        if words.next().is_some() {
            return None;
        }
        Some(Mark {
            pid: u32::try_from(pid).ok()?,
            witness,
        })
    }

    /// The alias that carries this mark.
    pub fn alias(&self) -> String {
        let pid = self.pid;
        match self.witness {
            Witness::Socket(number) => format!("tap-reactor pid={pid} run={number:016x}"),
            Witness::Process {
                start,
                pid_namespace: Some(inode),
            } => format!("tap-reactor pid={pid} start={start} pidns={inode}"),
            Witness::Process { start, .. } => format!("tap-reactor pid={pid} start={start}"),
        }
    }

    /// A group of the run's links, so that they can be removed by one message. Two runs may share one: the mark counts.
    ///
    /// A run has several, because removing a group holds up the network work of the whole host: half a second for 1,000
    /// links. A process number has at most 22 bits (`PID_MAX_LIMIT`), so that each run has 256 groups of its own; with
    /// more chunks than that they are used again.
    pub fn group(&self, chunk: u32) -> u32 {
        0x4000_0000 | (self.pid & 0x003f_ffff) << 8 | chunk & 0xff
    }

    /// The number of the run's process, in its PID namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The state of the run, for a mark found in the network namespace of the calling thread.
    pub fn owner(&self) -> Owner {
        match self.witness {
            Witness::Socket(number) => {
                let look = || UnixDatagram::unbound()?.connect_addr(&socket_name(number)?);
                match look().map_err(|error| error.raw_os_error().map(Errno::from_raw)) {
                    Ok(()) => Owner::Alive,
                    Err(Some(Errno::ECONNREFUSED)) => Owner::Gone,
                    Err(_) => Owner::Unknown,
                }
            }
            Witness::Process {
                start,
                pid_namespace,
            } => self.owner_by_process(start, pid_namespace),
        }
    }

    fn owner_by_process(&self, start: u64, pid_namespace: Option<u64>) -> Owner {
        if pid_namespace.is_some() && pid_namespace != own_pid_namespace() {
            return Owner::Unknown;
        }
        match Process::read(self.pid) {
            Some(process) if process.has_ended => Owner::Gone,
            Some(process) if process.start == start => Owner::Alive,
            // Of whoever has the number now, or of the run itself on another clock.
            Some(_) if is_boot_time_shifted() => Owner::Unknown,
            Some(_) => Owner::Gone,
            None => match i32::try_from(self.pid).map(|pid| kill(Pid::from_raw(pid), None)) {
                // Hidden from us by the mount option hidepid, or no /proc at all.
                Ok(Ok(()) | Err(Errno::EPERM)) => Owner::Unknown,
                _ => Owner::Gone,
            },
        }
    }
}

impl Default for Mark {
    fn default() -> Mark {
        Mark::new()
    }
}

fn socket_name(number: u64) -> std::io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("tap-reactor/{number:016x}"))
}

/// Returns true if a time namespace shifts this process's times since boot.
fn is_boot_time_shifted() -> bool {
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    offsets
        .lines()
        .filter_map(|line| line.strip_prefix("boottime"))
        .any(|offset| offset.split_ascii_whitespace().any(|number| number != "0"))
}

/// A number as we write it: 16 digits.
fn hexadecimal(text: &str) -> Option<u64> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    if text.len() != 16 || !text.bytes().all(is_digit) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

/// A number as we write it: no sign, no leading blank.
fn decimal(text: &str) -> Option<u64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

struct Process {
    start: u64,
    /// Ended, but its parent has not asked for its exit status yet.
    has_ended: bool,
}

impl Process {
    fn read(pid: u32) -> Option<Process> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        Process::parse(&String::from_utf8_lossy(&stat))
    }

    /// `proc_pid_stat(5)`. The second field, the name in parentheses, may contain blanks and parentheses itself.
    fn parse(stat: &str) -> Option<Process> {
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?; // field 3
        let start = fields.nth(22 - 3 - 1)?;
        Some(Process {
            start: start.parse().ok()?,
            has_ended: matches!(state, "Z" | "X"),
        })
    }
}

/// The inode of the PID namespace that we are in: `/proc/self/ns/pid` is a link to `pid:[4026531836]`.
fn own_pid_namespace() -> Option<u64> {
    let target = std::fs::read_link("/proc/self/ns/pid").ok()?;
    decimal(target.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?)
}

#[cfg(test)]
mod tests {
    use super::super::wait_until_closed;
    use super::*;

    fn of_process(pid: u32, start: u64) -> Mark {
        let witness = Witness::Process {
            start,
            pid_namespace: own_pid_namespace(),
        };
        Mark { pid, witness }
    }

    #[test]
    fn a_mark_is_read_back_from_the_alias() {
        let mark = Mark::new();
        assert_eq!(Mark::parse(&mark.alias()), Some(mark));
        assert_eq!(mark.pid(), std::process::id());
        for alias in [
            "tap-reactor pid=1234 run=00000000000000ff",
            "tap-reactor pid=1234 start=567890",
            "tap-reactor pid=1234 start=567890 pidns=4026531836",
        ] {
            let mark = Mark::parse(alias).unwrap();
            assert_eq!(mark.alias(), alias);
            assert_eq!(mark.group(0), 0x4004_d200);
            assert_eq!(mark.group(257), 0x4004_d201);
        }
    }

    #[test]
    fn what_only_looks_like_a_mark_is_none() {
        for alias in [
            "",
            "uplink",
            "tap-reactor",
            "tap-reactor ",
            "tap-reactor pid=1",
            "tap-reactor pid= start=1",
            "tap-reactor pid=+1 start=1",
            "tap-reactor pid=1 start=1 ",
            "tap-reactor pid=1 start=1 pidns=",
            "tap-reactor pid=1 start=1 pidns=2 more",
            "tap-reactor pid=4294967296 start=1",
            "tap-reactor pid=1 run=",
            "tap-reactor pid=1 run=ff",
            "tap-reactor pid=1 run=00000000000000FF",
            "tap-reactor pid=1 run=+0000000000000ff",
            "tap-reactor pid=1 run=00000000000000ff more",
            "my tap-reactor pid=1 start=1",
        ] {
            assert_eq!(Mark::parse(alias), None, "{alias:?}");
        }
    }

    #[test]
    fn a_run_is_alive_while_its_presence_is_shown() {
        let (mark, other) = (Mark::new(), Mark::new());
        assert_eq!(mark.owner(), Owner::Gone);
        let presence = mark.show_presence().unwrap();
        assert_eq!((mark.owner(), other.owner()), (Owner::Alive, Owner::Gone));
        // Looking at it does not use it up.
        assert_eq!(mark.owner(), Owner::Alive);
        assert!(mark.show_presence().is_err(), "its name is taken");
        drop(presence);
        wait_until_closed(|| mark.owner() == Owner::Gone);
        assert!(of_process(1, 1).show_presence().is_err());
    }

    #[test]
    fn a_run_of_an_earlier_version_is_alive_only_while_the_same_process_is_there() {
        let pid = std::process::id();
        let start = Process::read(pid).unwrap().start;
        assert_eq!(of_process(pid, start).owner(), Owner::Alive);
        assert_eq!(of_process(pid, start - 1).owner(), Owner::Gone);
        // Beyond the largest process number that a kernel can be set to give.
        assert_eq!(of_process(1 << 23, start).owner(), Owner::Gone);
        let elsewhere = Witness::Process {
            start,
            pid_namespace: Some(1),
        };
        let elsewhere = Mark {
            pid,
            witness: elsewhere,
        };
        assert_eq!(elsewhere.owner(), Owner::Unknown);
    }

    #[test]
    fn a_process_that_waits_for_its_parent_counts_as_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        let mark = of_process(pid, Process::read(pid).unwrap().start);
        // Waits for the end of the child, but leaves it where it is.
        let flags = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(nix::sys::wait::Id::Pid(Pid::from_raw(pid as i32)), flags).unwrap();
        assert_eq!(mark.owner(), Owner::Gone);
        child.wait().unwrap();
        assert_eq!(mark.owner(), Owner::Gone);
    }

    #[test]
    fn a_process_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) Z (b c) S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 567890 1000 2";
        let process = Process::parse(stat).unwrap();
        assert_eq!(process.start, 567_890);
        assert!(!process.has_ended);
        assert!(Process::parse("42 (short) S 1 2").is_none());
    }
}
