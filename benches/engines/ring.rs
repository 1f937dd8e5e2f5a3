//! Reads where it has just written, several frames at a time, by io_uring.

use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types};
use tap_reactor::time::{Clock, MonotonicClock};

use crate::bare_loop::Port;
use crate::{FRAME, Result};

/// Bytes of a buffer that is read into.
const BUFFER: usize = 2048;
/// Pings of the largest batch.
const MOST: usize = 64;

/// A ring over the TAPs of a bare loop.
pub struct RingLoop {
    ring: IoUring,
    /// The frame of each TAP, registered or not; behind them the buffers for reads. Never resized: the kernel holds
    /// addresses in it.
    memory: Vec<u8>,
    is_registered: bool,
    pairs: u32,
    window: u32,
    batch: u32,
}

impl RingLoop {
    /// A ring that gets `batch` pings at a time.
    pub fn new(ports: &[Port], window: u32, batch: u32, is_registered: bool) -> Result<RingLoop> {
        // The fastest set-up: completions are only looked for when they are asked for, by this thread.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(4 * MOST as u32)?;
        let taps: Vec<i32> = ports.iter().map(|port| port.tap.as_raw_fd()).collect();
        ring.submitter().register_files(&taps)?;
        let mut memory: Vec<u8> = ports.iter().flat_map(|port| port.frames.concat()).collect();
        memory.resize(memory.len() + MOST * BUFFER, 0);
        if is_registered {
            let all = nix::libc::iovec {
                iov_base: memory.as_mut_ptr().cast(),
                iov_len: memory.len(),
            };
            // SAFETY: the memory lives as long as the ring, whose end releases it, and stays where it is.
            unsafe { ring.submitter().register_buffers(&[all])? };
        }
        Ok(RingLoop {
            ring,
            memory,
            is_registered,
            pairs: ports.len() as u32 / 2,
            window,
            batch,
        })
    }

    /// `count` round trips in each pair, `window` on their way; round trips a second.
    pub fn rate(&mut self, ports: &[Port], count: u64) -> Result<f64> {
        // Pings of a pair that are in one batch; the others of its window lie in the queue meanwhile.
        let share = self.window.min(self.batch);
        let pairs_at_once = (self.batch / share).min(self.pairs);
        let start = MonotonicClock.now();
        let ahead = self.window - share;
        crate::ceiling::fill(ports, ahead.into())?;
        let (mut unsent, mut left) = (count - u64::from(ahead), count);
        while left > 0 {
            let asked = unsent.min(share.into()) as u32;
            let answered = left.min(share.into()) as u32;
            for first in (0..self.pairs).step_by(pairs_at_once as usize) {
                let pairs = first..(first + pairs_at_once).min(self.pairs);
                for port in pairs.clone().map(|pair| 2 * pair) {
                    self.push(port, asked, answered)?;
                }
                self.wait()?;
                for port in pairs.map(|pair| 2 * pair + 1) {
                    self.push(port, answered, answered)?;
                }
                self.wait()?;
            }
            unsent -= u64::from(asked);
            left -= u64::from(answered);
        }
        let elapsed = MonotonicClock.now() - start;
        let pings = u64::from(self.pairs) * count;
        Ok(pings as f64 / elapsed.as_secs_f64())
    }

    /// Queues `writes` of `port`'s frame, and `reads` of the other end of its pair.
    fn push(&mut self, port: u32, writes: u32, reads: u32) -> Result<()> {
        let frame = self.memory[port as usize * FRAME..].as_ptr();
        for _ in 0..writes {
            let fd = types::Fixed(port);
            let write = if self.is_registered {
                opcode::WriteFixed::new(fd, frame, FRAME as u32, 0).build()
            } else {
                opcode::Write::new(fd, frame, FRAME as u32).build()
            };
            self.submit(&write)?;
        }
        let buffers = 2 * self.pairs as usize * FRAME;
        for read in 0..reads as usize {
            let fd = types::Fixed(port ^ 1);
            let buffer = self.memory[buffers + read * BUFFER..].as_mut_ptr();
            let read = if self.is_registered {
                opcode::ReadFixed::new(fd, buffer, BUFFER as u32, 0).build()
            } else {
                opcode::Read::new(fd, buffer, BUFFER as u32).build()
            };
            self.submit(&read)?;
        }
        Ok(())
    }

    fn submit(&mut self, entry: &squeue::Entry) -> Result<()> {
        // SAFETY: the buffer is part of `memory`, which outlives the ring's use of it.
        unsafe { self.ring.submission().push(entry)? };
        Ok(())
    }

    /// Submits the queued operations, and waits for all of them.
    fn wait(&mut self) -> Result<()> {
        let wanted = self.ring.submission().len();
        self.ring.submit_and_wait(wanted)?;
        let mut got = 0;
        for done in self.ring.completion() {
            if done.result() != FRAME as i32 {
                return Err(format!("the ring lost a frame: {}", done.result()).into());
            }
            got += 1;
        }
        if got != wanted {
            return Err(format!("{got} of {wanted} reads and writes were done").into());
        }
        Ok(())
    }
}
