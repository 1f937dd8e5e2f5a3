//! Writing to a descriptor that somebody else reads: a terminal, a pipe, a FIFO. Who does not read makes a write wait, and
//! stop signals, which are blocked or handled in a run, would not end that wait. These writes ask for room first.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll, ppoll};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;

use super::signals::{Blocked, has_come_late, stop_signals};
use crate::time::{Clock, MonotonicClock};

/// A pipe that `poll(2)` says has room takes that much without waiting (`PIPE_BUF`, `pipe(7)`).
pub(super) const ROOM: usize = 4096;

/// Writes that wait for their reader: as long as it takes, or so long, and no longer than until a stop signal has come.
#[derive(Debug)]
pub struct Stream<W> {
    out: W,
    patience: Option<Duration>,
}

impl<W: Write + AsFd> Stream<W> {
    /// Writes to `out`, which should not buffer, and waits up to `patience` each time; `None` for without end.
    pub fn new(out: W, patience: Option<Duration>) -> Stream<W> {
        Stream { out, patience }
    }

    /// Waits for room: in a pipe that holds one page, until all was read.
    ///
    /// # Errors
    /// When there is none in time, or a stop signal has come.
    pub fn wait_for_room(&self) -> io::Result<()> {
        match room(self.out.as_fd(), self.patience)? {
            Room::There => Ok(()),
            Room::NotYet => Err(ErrorKind::TimedOut.into()),
            Room::Signal => Err(io::Error::other("a signal came, and nobody reads it")),
        }
    }
}

impl<W: Write + AsFd> Write for Stream<W> {
    /// # Errors
    /// As [`Stream::wait_for_room`], or as the descriptor has it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.wait_for_room()?;
            match self.out.write(bytes.get(..ROOM).unwrap_or(bytes)) {
                // Another writer was quicker.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Returns true if a write of up to `ROOM` bytes to `out` will not wait, now or within `patience`. It may fail, though.
///
/// # Errors
/// When the kernel can't tell.
pub fn has_room(out: BorrowedFd<'_>, patience: Duration) -> io::Result<bool> {
    Ok(room(out, Some(patience))? == Room::There)
}

/// The outcome of a wait for room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Room {
    There,
    NotYet,
    /// A stop signal has come. If it is blocked, it stays where it is for whoever takes it.
    Signal,
}

fn room(out: BorrowedFd<'_>, patience: Option<Duration>) -> io::Result<Room> {
    let mut now = [PollFd::new(out, PollFlags::POLLOUT)];
    if poll(&mut now, PollTimeout::ZERO) == Ok(1) {
        return Ok(Room::There);
    }
    let stop = stop_signals()?;
    // Tells of signals that are blocked. One that has a handler interrupts the wait, and only that: it stays blocked until
    // then, so that none comes between the question and the wait.
    let signals = SignalFd::with_flags(&stop, SfdFlags::SFD_CLOEXEC)?;
    let blocked = Blocked::begin(&stop)?;
    let deadline = patience.map(|patience| MonotonicClock.now() + patience);
    loop {
        if has_come_late() {
            return Ok(Room::Signal);
        }
        let left = deadline.map(|deadline| deadline - MonotonicClock.now());
        let mut either = [
            PollFd::new(out, PollFlags::POLLOUT),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        let timeout = left.map(TimeSpec::from_duration);
        match ppoll(&mut either, timeout, Some(blocked.before())) {
            Ok(0) => return Ok(Room::NotYet),
            Ok(_) if either[0].any() == Some(false) => return Ok(Room::Signal),
            Ok(_) => return Ok(Room::There),
            // An echo of a signal, perhaps, which asks for nothing new.
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

    use std::os::fd::OwnedFd;

    use super::*;
    use crate::system::StopSignals;
    use crate::system::signals::ONE_TEST_AT_A_TIME;

    /// A pipe without room for anything more.
    fn full_pipe() -> (File, File) {
        let (reader, writer) = std::io::pipe().unwrap();
        let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
        let mut writer = File::from(writer);
        while has_room(writer.as_fd(), Duration::ZERO).unwrap() {
            writer.write_all(&[0; ROOM]).unwrap();
        }
        (reader.into(), writer)
    }

    #[test]
    fn a_write_that_nobody_reads_ends_with_a_signal_which_is_left_to_others() {
        let _alone = ONE_TEST_AT_A_TIME.lock();
        let signals = StopSignals::new().unwrap();
        let (_reader, writer) = full_pipe();
        raise(Signal::SIGINT).unwrap(); // to this thread alone
        let error = Stream::new(writer, None).write(b"report").unwrap_err();
        assert_eq!(error.to_string(), "a signal came, and nobody reads it");
        assert_eq!(signals.take().unwrap(), Some(Signal::SIGINT));
    }

    #[test]
    fn a_signal_that_the_process_ignores_ends_no_write() {
        let _alone = ONE_TEST_AT_A_TIME.lock();
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        #[allow(unsafe_code)]
        // SAFETY: to ignore a signal runs no code.
        let before = unsafe { sigaction(Signal::SIGHUP, &ignore) }.unwrap();
        // Blocked, an ignored signal waits all the same, and a descriptor that asks for it has it.
        let blocked = Blocked::begin(&Signal::SIGHUP.into()).unwrap();
        raise(Signal::SIGHUP).unwrap();
        let (_reader, writer) = full_pipe();
        let patience = Some(Duration::from_millis(1));
        let error = Stream::new(writer, patience).write(b"report").unwrap_err();
        drop(blocked);
        #[allow(unsafe_code)]
        // SAFETY: it was the action before.
        unsafe { sigaction(Signal::SIGHUP, &before) }.unwrap();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn in_the_last_stage_the_first_signal_ends_a_write_and_its_echo_does_not() {
        let _alone = ONE_TEST_AT_A_TIME.lock();
        let (_reader, writer) = full_pipe();
        let mut stream = Stream::new(writer, Some(Duration::from_millis(1)));
        for had_come in [true, false] {
            let mut signals = StopSignals::new().unwrap();
            if had_come {
                raise(Signal::SIGTERM).unwrap();
            }
            signals.guard_end(false).unwrap();
            raise(Signal::SIGTERM).unwrap();
            // Once more, as a buffer does that could not be emptied.
            for _ in 0..2 {
                let error = stream.write(b"report").unwrap_err();
                let is_timeout = error.kind() == ErrorKind::TimedOut;
                assert_eq!(is_timeout, had_come, "{error}");
            }
        }
    }

    #[test]
    fn a_reader_that_does_not_read_is_waited_for_no_longer_than_patience_has_it() {
        let (_reader, writer) = full_pipe();
        let patience = Some(Duration::from_millis(1));
        let error = Stream::new(writer, patience).write(b"report").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn there_is_room_where_nothing_waits_and_where_a_write_will_fail_at_once() {
        let (mut reader, writer) = full_pipe();
        assert!(!has_room(writer.as_fd(), Duration::ZERO).unwrap());
        reader.read_exact(&mut [0; ROOM]).unwrap();
        assert!(has_room(writer.as_fd(), Duration::ZERO).unwrap());
        drop(reader);
        assert!(has_room(writer.as_fd(), Duration::ZERO).unwrap());
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert!(has_room(full.as_fd(), Duration::ZERO).unwrap());
    }
}
