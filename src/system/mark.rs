//! The mark on every link that a run creates, by which it is known as ours and its run as alive or gone.

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::error::SystemError;

/// Which run made a link. Written into the link's alias: `tap-reactor pid=1234 start=567890 pidns=4026531836`.
///
/// A process number alone may have been given to another process since, so the time at which the process started
/// stands beside it (field 22 of `/proc/PID/stat`, in clock ticks since boot); and a number means something only in
/// its PID namespace, such as a container's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    pid: u32,
    start: u64,
    pid_namespace: Option<u64>,
}

/// What became of the run that made a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// The run is still going.
    Alive,
    /// The run is gone; its process number may be somebody else's by now.
    Gone,
    /// The run belongs to another PID namespace: from here it can't be told.
    Unknown,
}

impl Mark {
    /// The mark of the process that calls.
    ///
    /// # Errors
    /// When `/proc` is not there to tell when the process started.
    pub fn of_this_process() -> Result<Mark, SystemError> {
        let pid = std::process::id();
        let cause = "/proc/self/stat does not say when this process started";
        let process = Process::read(pid).ok_or_else(|| {
            SystemError::refused("mark the lab as ours", cause).advise("mount -t proc proc /proc")
        })?;
        Ok(Mark {
            pid,
            start: process.start,
            pid_namespace: own_pid_namespace(),
        })
    }

    /// Reads a link's alias; `None` if it is no mark of ours.
    pub fn parse(alias: &str) -> Option<Mark> {
        let mut words = alias.strip_prefix("tap-reactor ")?.split(' ');
        let pid = decimal(words.next()?.strip_prefix("pid=")?)?;
        let start = decimal(words.next()?.strip_prefix("start=")?)?;
        let pid_namespace = match words.next() {
            Some(word) => Some(decimal(word.strip_prefix("pidns=")?)?),
            None => None,
        };
        if words.next().is_some() {
            return None;
        }
        Some(Mark {
            pid: u32::try_from(pid).ok()?,
            start,
            pid_namespace,
        })
    }

    /// The alias that carries this mark.
    pub fn alias(&self) -> String {
        let Mark { pid, start, .. } = self;
        match self.pid_namespace {
            Some(inode) => format!("tap-reactor pid={pid} start={start} pidns={inode}"),
            None => format!("tap-reactor pid={pid} start={start}"),
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

    /// The number of the run's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What became of the run.
    pub fn owner(&self) -> Owner {
        if self.pid_namespace.is_some() && self.pid_namespace != own_pid_namespace() {
            return Owner::Unknown;
        }
        match Process::read(self.pid) {
            Some(process) if process.start == self.start && !process.has_ended => Owner::Alive,
            Some(_) => Owner::Gone,
            None => match i32::try_from(self.pid).map(|pid| kill(Pid::from_raw(pid), None)) {
                // Hidden from us by the mount option hidepid, or no /proc at all.
                Ok(Ok(()) | Err(Errno::EPERM)) => Owner::Unknown,
                _ => Owner::Gone,
            },
        }
    }
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
    use super::*;

    #[test]
    fn a_mark_is_read_back_from_the_alias() {
        let mark = Mark::of_this_process().unwrap();
        assert_eq!(Mark::parse(&mark.alias()), Some(mark));
        assert_eq!(mark.pid(), std::process::id());
        let without_namespace = Mark::parse("tap-reactor pid=1234 start=567890").unwrap();
        assert_eq!(
            without_namespace.alias(),
            "tap-reactor pid=1234 start=567890"
        );
        assert_eq!(without_namespace.group(0), 0x4004_d200);
        assert_eq!(without_namespace.group(257), 0x4004_d201);
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
            "my tap-reactor pid=1 start=1",
        ] {
            assert_eq!(Mark::parse(alias), None, "{alias:?}");
        }
    }

    #[test]
    fn a_run_is_alive_only_while_the_same_process_is_there() {
        let ours = Mark::of_this_process().unwrap();
        assert_eq!(ours.owner(), Owner::Alive);
        let recycled = Mark {
            start: ours.start - 1,
            ..ours
        };
        assert_eq!(recycled.owner(), Owner::Gone);
        // Beyond the largest process number that a kernel can be set to give.
        let never = Mark {
            pid: 1 << 23,
            ..ours
        };
        assert_eq!(never.owner(), Owner::Gone);
        let elsewhere = Mark {
            pid_namespace: Some(1),
            ..ours
        };
        assert_eq!(elsewhere.owner(), Owner::Unknown);
    }

    #[test]
    fn a_process_that_waits_for_its_parent_counts_as_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        let start = Process::read(pid).unwrap().start;
        let mark = Mark {
            pid,
            start,
            pid_namespace: own_pid_namespace(),
        };
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
