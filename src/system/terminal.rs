//! The terminal of a display that is drawn again and again: its keys, its size, and the signals meanwhile (`termios(3)`,
//! `signalfd(2)`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use nix::sys::time::TimeSpec;

use super::signals::{Blocked, stop_signals};
use crate::time::{Clock, Instant, MonotonicClock};

/// No character: the value of a special one that is switched off (`_POSIX_VDISABLE`).
const NO_CHARACTER: u8 = 0;

/// A terminal whose keys come one by one and are not shown. Dropped, it is as it was before. Keys that send signals still do,
/// but for the one that stops the process, which would leave the display where others write.
#[derive(Debug)]
pub struct Keys<T: AsFd> {
    terminal: T,
    before: Termios,
}

impl<T: AsFd> Keys<T> {
    /// Reads the keys of `terminal` from now on.
    ///
    /// # Errors
    /// If it is none.
    pub fn of(terminal: T) -> io::Result<Keys<T>> {
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.local_flags &= !(LocalFlags::ICANON | LocalFlags::ECHO);
        for (index, character) in [
            (SpecialCharacterIndices::VSUSP, NO_CHARACTER),
            // A read waits for nothing.
            (SpecialCharacterIndices::VMIN, 0),
            (SpecialCharacterIndices::VTIME, 0),
        ] {
            if let Some(place) = raw.control_chars.get_mut(index as usize) {
                *place = character;
            }
        }
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &raw)?;
        Ok(Keys { terminal, before })
    }
}

impl<T: AsFd> AsFd for Keys<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}

impl<T: AsFd> Drop for Keys<T> {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

/// What a display waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    /// The time is up.
    Time,
    /// What was waited for can be read.
    Ready,
    /// A key was pressed: a byte of what it sends.
    Key(u8),
    /// The size of the terminal has changed.
    Resized,
    /// SIGINT, SIGTERM or SIGHUP has come.
    Stopped(Signal),
}

/// The signals that end a display or change its size: collected from its creation until it is dropped, and then what they
/// were before.
pub struct DisplaySignals {
    descriptor: SignalFd,
    _blocked: Blocked,
}

impl DisplaySignals {
    /// Collects signals from now on.
    ///
    /// # Errors
    /// If the kernel has no descriptor left.
    pub fn new() -> io::Result<DisplaySignals> {
        let mut signals: SigSet = stop_signals()?;
        signals.add(Signal::SIGWINCH);
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(DisplaySignals {
            descriptor: SignalFd::with_flags(&signals, flags)?,
            _blocked: Blocked::begin(&signals)?,
        })
    }

    /// Waits until a signal has come, a key of `keys` was pressed, `other` can be read, or it is `until`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn wait<T: AsFd>(
        &self,
        keys: &mut Option<Keys<T>>,
        other: Option<BorrowedFd<'_>>,
        until: Option<Instant>,
    ) -> io::Result<Woken> {
        loop {
            if let Some(info) = self.descriptor.read_signal()? {
                match Signal::try_from(info.ssi_signo as i32) {
                    Ok(Signal::SIGWINCH) => return Ok(Woken::Resized),
                    Ok(signal) => return Ok(Woken::Stopped(signal)),
                    Err(_) => continue,
                }
            }
            let left = until.map(|until| until - MonotonicClock.now());
            if left == Some(Duration::ZERO) {
                return Ok(Woken::Time);
            }
            let mut all = vec![PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
            let keys_at = keys.as_ref().map(|keys| {
                all.push(PollFd::new(keys.as_fd(), PollFlags::POLLIN));
                all.len() - 1
            });
            let other_at = other.map(|other| {
                all.push(PollFd::new(other, PollFlags::POLLIN));
                all.len() - 1
            });
            match ppoll(&mut all, left.map(TimeSpec::from_duration), None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let is_ready = |at: Option<usize>| {
                let descriptor = at.and_then(|at| all.get(at));
                descriptor.and_then(PollFd::any).unwrap_or(false)
            };
            let (has_key, is_other_ready) = (is_ready(keys_at), is_ready(other_at));
            drop(all);
            if has_key && let Some(pressed) = keys {
                let mut byte = [0];
                match nix::unistd::read(pressed.as_fd(), &mut byte) {
                    Ok(1..) => return Ok(Woken::Key(byte[0])),
                    // The terminal has gone; a signal tells of it, too.
                    Ok(0) | Err(_) => *keys = None,
                }
            }
            if is_other_ready {
                return Ok(Woken::Ready);
            }
        }
    }
}

/// Ends the process by `signal`, as it would have without anybody who collects it; if that does not, returns.
pub fn end_by(signal: Signal) {
    let _ = raise(signal);
}

/// Columns and lines of the terminal that `out` is; `None` if it is none, or does not tell.
pub fn terminal_size(out: BorrowedFd<'_>) -> Option<(u16, u16)> {
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
    (size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use nix::pty::openpty;

    use super::*;
    use crate::system::signals::ONE_TEST_AT_A_TIME;

    /// A terminal, and what is behind it.
    fn terminal() -> (File, File) {
        let pty = openpty(None, None).unwrap();
        (pty.slave.into(), pty.master.into())
    }

    #[test]
    fn a_terminal_is_as_it_was_after_keys_were_read_even_if_that_ends_in_a_panic() {
        let (terminal, _master) = terminal();
        let before = tcgetattr(&terminal).unwrap();
        let keys = Keys::of(&terminal).unwrap();
        assert_ne!(tcgetattr(&terminal).unwrap(), before);
        drop(keys);
        assert_eq!(tcgetattr(&terminal).unwrap(), before);
        let end = std::panic::catch_unwind(|| {
            let _keys = Keys::of(&terminal).unwrap();
            std::panic::resume_unwind(Box::new("a fault"));
        });
        assert!(end.is_err());
        assert_eq!(tcgetattr(&terminal).unwrap(), before);
        assert!(Keys::of(File::open("/dev/null").unwrap()).is_err());
    }

    #[test]
    fn a_display_is_woken_by_keys_signals_the_time_and_what_it_waits_for() {
        let _alone = ONE_TEST_AT_A_TIME.lock();
        let (terminal, mut master) = terminal();
        let signals = DisplaySignals::new().unwrap();
        let mut keys = Some(Keys::of(&terminal).unwrap());
        let (reader, mut writer) = std::io::pipe().unwrap();
        let now = Some(MonotonicClock.now());
        let other = || Some(reader.as_fd());
        assert_eq!(signals.wait(&mut keys, other(), now).unwrap(), Woken::Time);
        master.write_all(b"q").unwrap();
        let woken = signals.wait(&mut keys, other(), None).unwrap();
        assert_eq!(woken, Woken::Key(b'q'));
        for (signal, woken) in [
            (Signal::SIGWINCH, Woken::Resized),
            (Signal::SIGINT, Woken::Stopped(Signal::SIGINT)),
            (Signal::SIGTERM, Woken::Stopped(Signal::SIGTERM)),
        ] {
            raise(signal).unwrap(); // to this thread alone
            assert_eq!(signals.wait(&mut keys, other(), None).unwrap(), woken);
        }
        writer.write_all(b"x").unwrap();
        let woken = signals.wait(&mut keys, other(), None).unwrap();
        assert_eq!(woken, Woken::Ready);
    }

    #[test]
    fn a_terminal_tells_its_size_and_a_file_does_not() {
        let size = nix::pty::Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).unwrap();
        assert_eq!(terminal_size(pty.slave.as_fd()), Some((80, 24)));
        assert_eq!(
            terminal_size(File::open("/dev/null").unwrap().as_fd()),
            None
        );
    }
}
