//! The minimum of a round trip: nonblocking `read` and `write` on TAPs of one bridge, an edge-triggered epoll, and
//! frames that were built before. No protocol, no state but counters, no clock inside the loop.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use etherparse::PacketBuilder;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use tap_reactor::system::Tap;
use tap_reactor::time::{Clock, MonotonicClock};

use crate::{FRAME, Result};

/// A frame lost ends the benchmark, after this long.
const PATIENCE: Duration = Duration::from_secs(5);

/// One end of a pair. Even numbers ask, odd numbers answer.
pub struct Port {
    pub tap: File,
    /// The frame that it sends to the other end of its pair.
    pub frame: Vec<u8>,
    /// Answers that it has got in this round.
    received: u64,
    /// Requests that it has still to send in this round.
    unsent: u64,
}

pub struct BareLoop {
    pub poll: Poll,
    pub ports: Vec<Port>,
    window: u64,
}

impl BareLoop {
    /// A bridge with two TAPs for each pair, in the namespace of the calling thread. TAPs have a queueing discipline as
    /// the kernel makes them, and none in a lab.
    pub fn new(pairs: u32, window: u32, have_disciplines: bool) -> Result<BareLoop> {
        let poll = Poll::new()?;
        let ports = 2 * pairs;
        let bridge = if have_disciplines { "plain" } else { "bare" };
        let name = |port: u32| format!("{bridge}{port}");
        let mut batch =
            format!("link add {bridge} type bridge mcast_snooping 0\nlink set {bridge} up\n");
        let mut disciplines = String::new();
        let mut taps = Vec::new();
        for port in 0..ports {
            let tap = Tap::create(&name(port))?;
            tap.set_persistent(true)?;
            let file = File::from(tap.as_fd().try_clone_to_owned()?);
            poll.registry().register(
                &mut SourceFd(&file.as_raw_fd()),
                Token(port as usize),
                Interest::READABLE,
            )?;
            if !have_disciplines {
                disciplines.push_str(&format!("qdisc add dev {} root noqueue\n", name(port)));
            }
            batch.push_str(&format!("link set {} master {bridge} up\n", name(port)));
            taps.push(file);
        }
        batch_of("tc", &disciplines)?;
        batch_of("ip", &batch)?;
        let ports = (0..).zip(taps).map(|(port, tap)| Port {
            tap,
            frame: frame(port, port ^ 1),
            received: 0,
            unsent: 0,
        });
        let mut ports: Vec<Port> = ports.collect();
        // The bridge learns who lives where from a frame that it does not flood: one to the group that no bridge
        // forwards (IEEE 802.1D, 7.12.6). Else the first pings would go to every port.
        for (number, port) in (0..).zip(&mut ports) {
            let mut hello = frame(number, number);
            hello[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0x0e]);
            port.tap.write_all(&hello)?;
        }
        Ok(BareLoop {
            poll,
            ports,
            window: window.into(),
        })
    }

    /// Sends `count` requests in each pair and reads as many answers; round trips a second.
    pub fn rate(&mut self, count: u64) -> Result<f64> {
        let start = MonotonicClock.now();
        let pairs = self.ports.len() as u64 / 2;
        self.run(count)?;
        let elapsed = MonotonicClock.now() - start;
        Ok((pairs * count) as f64 / elapsed.as_secs_f64())
    }

    fn run(&mut self, count: u64) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = [0; 2048];
        let mut open = self.ports.len() / 2;
        for port in self.ports.iter_mut().step_by(2) {
            let at_once = self.window.min(count);
            port.received = 0;
            port.unsent = count - at_once;
            for _ in 0..at_once {
                port.tap.write_all(&port.frame)?;
            }
        }
        while open > 0 {
            self.poll.poll(&mut events, Some(PATIENCE))?;
            if events.is_empty() {
                return Err(
                    format!("the bare loop lost a frame; {open} pairs are not done").into(),
                );
            }
            for event in &events {
                let Token(number) = event.token();
                let port = &mut self.ports[number];
                loop {
                    match port.tap.read(&mut buffer) {
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.into()),
                    }
                    if number % 2 == 0 {
                        port.received += 1;
                        open -= usize::from(port.received == count);
                        if port.unsent == 0 {
                            continue;
                        }
                        port.unsent -= 1;
                    }
                    port.tap.write_all(&port.frame)?;
                }
            }
        }
        Ok(())
    }
}

/// A ping from one port to another, as large as the reactor's.
fn frame(from: u32, to: u32) -> Vec<u8> {
    let mac = |port: u32| {
        [&[0x06, 0][..], &port.to_be_bytes()]
            .concat()
            .try_into()
            .unwrap_or_default()
    };
    let address = |port: u32| (0x0a63_0002 + port).to_be_bytes();
    let builder = PacketBuilder::ethernet2(mac(from), mac(to)).ipv4(address(from), address(to), 64);
    let mut frame = Vec::with_capacity(FRAME);
    let built = builder
        .icmpv4_echo_request(1, 1)
        .write(&mut frame, &[0x55; 56]);
    assert!(
        built.is_ok() && frame.len() == FRAME,
        "a frame of {FRAME} bytes"
    );
    frame
}

fn batch_of(program: &str, lines: &str) -> Result<()> {
    let mut child = Command::new(program)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes())?;
    }
    if !child.wait()?.success() {
        return Err(format!("{program} -batch has failed").into());
    }
    Ok(())
}
