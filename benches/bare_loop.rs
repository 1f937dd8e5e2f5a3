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
use tap_reactor::wire::{ETHERNET_HEADER_LENGTH, write_fragment};

use crate::Result;

/// A frame lost ends the benchmark, after this long.
const PATIENCE: Duration = Duration::from_secs(5);

/// The size of a ping.
#[derive(Clone, Copy)]
pub struct Size {
    /// Bytes of payload.
    pub payload: usize,
    /// Bytes of the largest datagram that is not cut into fragments.
    pub mtu: u16,
}

/// The size that `ping` has by default.
pub const USUAL: Size = Size {
    payload: 56,
    mtu: 1500,
};

/// Where a port is: hardware address and IPv4 address.
pub type Place = ([u8; 6], [u8; 4]);

/// One end of a pair. Even numbers ask, odd numbers answer.
pub struct Port {
    pub tap: File,
    /// A ping to the other end of its pair: one frame, or its fragments.
    pub frames: Vec<Vec<u8>>,
    /// Frames of the ping that is arriving.
    arrived: usize,
    /// Answers that it has got in this round.
    received: u64,
    /// Requests that it has still to send in this round.
    unsent: u64,
}

impl Port {
    /// The end at `from` of a pair whose other end is at `to`.
    pub fn new(tap: File, size: Size, from: Place, to: Place) -> Result<Port> {
        Ok(Port {
            tap,
            frames: frames(size, from, to)?,
            arrived: 0,
            received: 0,
            unsent: 0,
        })
    }

    fn ping(&mut self) -> Result<()> {
        for frame in &self.frames {
            self.tap.write_all(frame)?;
        }
        Ok(())
    }
}

pub struct BareLoop {
    pub poll: Poll,
    pub ports: Vec<Port>,
    window: u64,
    /// For frames that are read.
    buffer: Vec<u8>,
}

impl BareLoop {
    /// A bridge with two TAPs for each pair, in the namespace of the calling thread. TAPs have a queueing discipline as
    /// the kernel makes them, and none in a lab.
    pub fn new(pairs: u32, window: u32, size: Size, have_disciplines: bool) -> Result<BareLoop> {
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
            let (name, mtu) = (name(port), size.mtu);
            batch.push_str(&format!("link set {name} mtu {mtu} master {bridge} up\n"));
            taps.push(file);
        }
        batch_of("tc", &disciplines)?;
        batch_of("ip", &batch)?;
        let ports = (0..).zip(taps);
        let ports = ports.map(|(port, tap)| Port::new(tap, size, place(port), place(port ^ 1)));
        let mut ports: Vec<Port> = ports.collect::<Result<_>>()?;
        // The bridge learns who lives where from a frame that it does not flood: one to the group that no bridge
        // forwards (IEEE 802.1D, 7.12.6). Else the first pings would go to every port.
        for (number, port) in (0..).zip(&mut ports) {
            let mut to = place(number);
            to.0 = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
            for hello in frames(USUAL, place(number), to)? {
                port.tap.write_all(&hello)?;
            }
        }
        Ok(BareLoop::of(poll, ports, window, size))
    }

    /// Ports that `poll` watches by their numbers, which something joins.
    pub fn of(poll: Poll, ports: Vec<Port>, window: u32, size: Size) -> BareLoop {
        BareLoop {
            poll,
            ports,
            window: window.into(),
            buffer: vec![0; ETHERNET_HEADER_LENGTH + usize::from(size.mtu)],
        }
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
        let mut open = self.ports.len() / 2;
        for port in self.ports.iter_mut().step_by(2) {
            let at_once = self.window.min(count);
            port.received = 0;
            port.unsent = count - at_once;
            for _ in 0..at_once {
                port.ping()?;
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
                    match port.tap.read(&mut self.buffer) {
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.into()),
                    }
                    port.arrived += 1;
                    if port.arrived < port.frames.len() {
                        continue;
                    }
                    port.arrived = 0;
                    if number % 2 == 0 {
                        port.received += 1;
                        open -= usize::from(port.received == count);
                        if port.unsent == 0 {
                            continue;
                        }
                        port.unsent -= 1;
                    }
                    port.ping()?;
                }
            }
        }
        Ok(())
    }
}

/// Where the TAP of that number is.
pub fn place(port: u32) -> Place {
    let [a, b, c, d] = port.to_be_bytes();
    ([0x06, 0, a, b, c, d], (0x0a63_0002 + port).to_be_bytes())
}

/// A ping from one place to another, as many frames as its path has it cut into.
fn frames(size: Size, from: Place, to: Place) -> Result<Vec<Vec<u8>>> {
    let builder = PacketBuilder::ethernet2(from.0, to.0).ipv4(from.1, to.1, 64);
    let mut whole = Vec::new();
    builder
        .icmpv4_echo_request(1, 1)
        .write(&mut whole, &vec![0x55; size.payload])?;
    let mut frames = Vec::new();
    let mut next = Some(0);
    while let Some(offset) = next {
        let mut frame = vec![0; whole.len()];
        let length;
        (length, next) = write_fragment(&whole, offset, size.mtu.into(), &mut frame)
            .ok_or("an MTU that carries nothing")?;
        frame.truncate(length);
        frames.push(frame);
    }
    Ok(frames)
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
