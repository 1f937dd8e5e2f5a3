//! The ceiling of a round trip: the system calls of the reactor, which reads a frame where it has just been written to, with
//! prebuilt frames, no protocol and no clock inside the loop.

use std::fs::File;
use std::io::{Read, Write};

use tap_reactor::time::{Clock, MonotonicClock};

use crate::Result;
use crate::bare_loop::Port;

/// `count` round trips in each pair, `window` on their way; round trips a second. The TAPs should be in no epoll set.
pub fn rate(ports: &[Port], window: u32, count: u64) -> Result<f64> {
    let frames = ports.iter().flat_map(|port| &port.frames);
    let mut buffer = vec![0; frames.map(Vec::len).max().unwrap_or_default()];
    let start = MonotonicClock.now();
    let ahead = u64::from(window) - 1;
    fill(ports, ahead)?;
    for round in 0..count {
        for pair in ports.chunks_exact(2) {
            let [asks, answers] = pair else { continue };
            if round < count - ahead {
                carry(asks, &answers.tap, &mut buffer)?;
            } else {
                read(&asks.frames, &answers.tap, &mut buffer)?;
            }
            carry(answers, &asks.tap, &mut buffer)?;
        }
    }
    let elapsed = MonotonicClock.now() - start;
    let pairs = ports.len() as u64 / 2;
    Ok((pairs * count) as f64 / elapsed.as_secs_f64())
}

/// Puts `ahead` requests into the queue of each pair.
pub fn fill(ports: &[Port], ahead: u64) -> Result<()> {
    for port in ports.iter().step_by(2) {
        for frame in (0..ahead).flat_map(|_| &port.frames) {
            (&port.tap).write_all(frame)?;
        }
    }
    Ok(())
}

/// Writes each frame of a message, and reads one where it went.
fn carry(from: &Port, to: &File, buffer: &mut [u8]) -> Result<()> {
    for frame in &from.frames {
        (&from.tap).write_all(frame)?;
        read(std::slice::from_ref(frame), to, buffer)?;
    }
    Ok(())
}

/// Reads as many frames as were written, and as long ones.
fn read(frames: &[Vec<u8>], mut tap: &File, buffer: &mut [u8]) -> Result<()> {
    for frame in frames {
        let length = tap.read(buffer)?;
        if length != frame.len() {
            return Err(format!("read {length} bytes of a frame of {}", frame.len()).into());
        }
    }
    Ok(())
}
