//! Writing to a descriptor that somebody else reads: a terminal, a pipe, a FIFO. Who does not read makes a write wait, and
//! stop signals, which are blocked or handled in a run, would not end that wait. These writes ask for room first.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// A pipe that `poll(2)` says has room takes that much without waiting (`PIPE_BUF`, `pipe(7)`).
pub const ROOM: usize = 4096;

/// Writes that wait for their reader as long as it takes, and no longer than until a stop signal has come.
#[derive(Debug)]
pub struct Stream<W> {
    out: W,
}

impl<W: Write + AsFd> Stream<W> {
    /// Writes to `out`, which should not buffer.
    pub fn new(out: W) -> Stream<W> {
        Stream { out }
    }
}

impl<W: Write + AsFd> Write for Stream<W> {
    /// # Errors
    /// When a stop signal came while the reader did not read, or as the descriptor has it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !has_room(self.out.as_fd(), Duration::ZERO)? {
            wait_for_room_or_signal(self.out.as_fd())?;
        }
        self.out.write(bytes.get(..ROOM).unwrap_or(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Whether a write of up to [`ROOM`] bytes to `out` will not wait, now or within `patience`. It may fail, though.
///
/// # Errors
/// When the kernel can't tell.
pub fn has_room(out: BorrowedFd<'_>, patience: Duration) -> io::Result<bool> {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    loop {
        return match poll(&mut [PollFd::new(out, PollFlags::POLLOUT)], timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => continue,
            Err(errno) => Err(errno.into()),
        };
    }
}

/// Waits without end for room, or for a stop signal, which stays where it is for whoever takes it.
fn wait_for_room_or_signal(out: BorrowedFd<'_>) -> io::Result<()> {
    let stopped = || io::Error::other("a signal came, and nobody reads it");
    let stop: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    // Tells of signals that are blocked; one that has a handler interrupts the wait.
    let signals = SignalFd::with_flags(&stop, SfdFlags::SFD_CLOEXEC)?;
    let mut either = [
        PollFd::new(out, PollFlags::POLLOUT),
        PollFd::new(signals.as_fd(), PollFlags::POLLIN),
    ];
    match poll(&mut either, PollTimeout::NONE) {
        Ok(_) if either[0].any() == Some(false) => Err(stopped()),
        Ok(_) => Ok(()),
        Err(Errno::EINTR) => Err(stopped()),
        Err(errno) => Err(errno.into()),
    }
}

/// Columns of the terminal that `out` is; `None` if it is none, or does not tell.
pub fn terminal_width(out: BorrowedFd<'_>) -> Option<u16> {
    use std::os::fd::AsRawFd;
    nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);
    let mut size = nix::libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    #[allow(unsafe_code)]
    // SAFETY: the kernel writes one `winsize` to that address (ioctl_tty(2)).
    unsafe { window_size(out.as_raw_fd(), &mut size) }.ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use nix::sys::signal::{Signal, raise};

    use super::*;
    use crate::system::StopSignals;

    /// A pipe without room for anything more.
    fn full_pipe() -> (File, File) {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let mut writer = File::from(writer);
        while has_room(writer.as_fd(), Duration::ZERO).unwrap() {
            writer.write_all(&[0; ROOM]).unwrap();
        }
        (reader.into(), writer)
    }

    #[test]
    fn a_write_that_nobody_reads_ends_with_a_signal_which_is_left_to_others() {
        let signals = StopSignals::new().unwrap();
        let (_reader, writer) = full_pipe();
        raise(Signal::SIGINT).unwrap(); // to this thread alone
        let error = Stream::new(writer).write(b"report").unwrap_err();
        assert_eq!(error.to_string(), "a signal came, and nobody reads it");
        assert_eq!(signals.take().unwrap(), Some(Signal::SIGINT));
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
