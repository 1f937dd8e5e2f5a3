//! Standard error as a record of what happens, for a person.

use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use super::stream::{ROOM, has_room};
use crate::fabric::output::Sink;

/// The longest wait for a reader of standard error. The clock of the run goes on meanwhile.
const PATIENCE: Duration = Duration::from_millis(200);

/// Standard error, line by line, without an end that could be reached: a line that can't be written is left out, and how
/// many were is said with the next one that can.
///
/// A reader who does not read is waited for once. Until there is room again, lines are left out without a wait.
#[derive(Debug, Default)]
pub struct Transcript {
    left_out: u64,
}

impl Transcript {
    /// Prints whole lines.
    pub fn print(&mut self, lines: &[u8]) {
        if self.try_to_write(lines).is_err() {
            let ends = lines.iter().filter(|&&byte| byte == b'\n').count() as u64;
            self.left_out = self.left_out.saturating_add(ends.max(1));
        }
    }

    fn try_to_write(&mut self, lines: &[u8]) -> io::Result<()> {
        let patience = match self.left_out {
            0 => PATIENCE,
            _ => Duration::ZERO,
        };
        for piece in lines.chunks(ROOM) {
            if !has_room(io::stderr().as_fd(), patience)? {
                return Err(ErrorKind::WouldBlock.into());
            }
            if self.left_out > 0 {
                writeln!(io::stderr(), "… {} lines left out", self.left_out)?;
                self.left_out = 0;
            }
            io::stderr().write_all(piece)?;
        }
        Ok(())
    }
}

impl Sink for Transcript {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.print(bytes);
        Ok(bytes.len())
    }

    fn is_read_live(&self) -> bool {
        true
    }
}
