//! Reads where it has just written, by a system call each.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Token};
use tap_reactor::time::{Clock, MonotonicClock};

use crate::bare_loop::{BareLoop, Port};
use crate::{FRAME, Result};

/// Registers the TAPs of the bare loop with its poll, or deregisters them.
pub fn poll(bare: &BareLoop, told: bool) -> Result<()> {
    for (number, port) in bare.ports.iter().enumerate() {
        let fd = port.tap.as_raw_fd();
        let registry = bare.poll.registry();
        if told {
            registry.register(&mut SourceFd(&fd), Token(number), Interest::READABLE)?;
        } else {
            registry.deregister(&mut SourceFd(&fd))?;
        }
    }
    Ok(())
}

/// `count` round trips in each pair, `window` on their way; round trips a second.
pub fn rate(ports: &mut [Port], window: u32, count: u64) -> Result<f64> {
    let pairs = ports.len() as u64 / 2;
    let start = MonotonicClock.now();
    let ahead = u64::from(window) - 1;
    fill(ports, ahead)?;
    for round in 0..count {
        for pair in ports.chunks_exact_mut(2) {
            let [asks, answers] = pair else { continue };
            if round < count - ahead {
                asks.tap.write_all(&asks.frame)?;
            }
            read(answers)?;
            answers.tap.write_all(&answers.frame)?;
            read(asks)?;
        }
    }
    let elapsed = MonotonicClock.now() - start;
    Ok((pairs * count) as f64 / elapsed.as_secs_f64())
}

fn read(port: &mut Port) -> Result<()> {
    let mut buffer = [0; 2048];
    match port.tap.read(&mut buffer)? {
        FRAME => Ok(()),
        other => Err(format!("read {other} bytes of a frame of {FRAME}").into()),
    }
}

/// Puts `ahead` requests into the queue of each pair.
pub fn fill(ports: &mut [Port], ahead: u64) -> Result<()> {
    for port in ports.iter_mut().step_by(2) {
        for _ in 0..ahead {
            port.tap.write_all(&port.frame)?;
        }
    }
    Ok(())
}
