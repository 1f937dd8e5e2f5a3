//! The same pings between smoltcp's interfaces, to measure tap-reactor against.
//!
//!     cargo run --release --example peer_smoltcp -- PAIRS WINDOW COUNT
//!
//! Endpoints in pairs on tap0, tap1, ..., which exist, as `benches/peers.sh` makes them. In each pair one sends COUNT
//! pings, WINDOW of them on their way at any time. Prints pings/s, and mean and p99 round trip in microseconds. With a
//! COUNT of 0 the endpoints only answer, until the process is killed.
//!
//! One thread, one edge-triggered `mio::Poll`; only the interface whose TAP is ready is polled. The buffers for frames are
//! shared, and nothing is allocated for a frame.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::socket::icmp::{Endpoint, PacketBuffer, PacketMetadata, Socket};
use smoltcp::wire::{EthernetAddress, Icmpv4Packet, Icmpv4Repr, IpAddress, IpCidr};
use tap_reactor::experiment::AddressPlan;
use tap_reactor::fabric::Read;
use tap_reactor::system::{Tap, raise_descriptor_limit};
use tap_reactor::time::{Clock, Instant, MonotonicClock};
use tap_reactor::vm::VmId;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const LARGEST_FRAME: usize = 1514;
const PAYLOAD: usize = 56;
/// An echo message: header and payload.
const MESSAGE: usize = 8 + PAYLOAD;
/// A frame lost ends the run, after this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// After so long without a frame the interfaces are polled all the same.
const IDLE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer_smoltcp: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [pairs, window, count] = words.as_slice() else {
        return Err("what is needed is PAIRS WINDOW COUNT".into());
    };
    let (pairs, window, count) = (pairs.parse()?, window.parse()?, count.parse()?);
    raise_descriptor_limit()?;
    let mut lab = Lab::new(pairs, window)?;
    if count == 0 {
        return lab.serve();
    }
    // The neighbours are resolved before anything is measured.
    lab.ping(1, 1)?;
    let (seconds, rtt) = lab.ping(window, count)?;
    println!(
        "{:.0} {:.2} {:.2}",
        rtt.len() as f64 / seconds,
        rtt.mean() / 1e3,
        rtt.value_at_quantile(0.99) as f64 / 1e3
    );
    Ok(())
}

/// A network interface for smoltcp: a TAP, and buffers that all of them share.
struct Card<'a> {
    tap: &'a Tap,
    received: &'a mut [u8; LARGEST_FRAME],
    sent: &'a mut [u8; LARGEST_FRAME],
}

struct ReceivedFrame<'a>(&'a [u8]);

struct FrameToSend<'a> {
    tap: &'a Tap,
    buffer: &'a mut [u8; LARGEST_FRAME],
}

impl Device for Card<'_> {
    type RxToken<'a>
        = ReceivedFrame<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = FrameToSend<'a>
    where
        Self: 'a;

    fn receive(
        &mut self,
        _now: smoltcp::time::Instant,
    ) -> Option<(ReceivedFrame<'_>, FrameToSend<'_>)> {
        let Read::Frame(length) = self.tap.read(self.received) else {
            return None;
        };
        let frame = ReceivedFrame(self.received.get(..length)?);
        let buffer = &mut *self.sent;
        let tap = self.tap;
        Some((frame, FrameToSend { tap, buffer }))
    }

    fn transmit(&mut self, _now: smoltcp::time::Instant) -> Option<FrameToSend<'_>> {
        Some(FrameToSend {
            tap: self.tap,
            buffer: self.sent,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = LARGEST_FRAME;
        capabilities
    }
}

impl phy::RxToken for ReceivedFrame<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl phy::TxToken for FrameToSend<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let frame = &mut self.buffer[..length];
        let result = write(frame);
        // What a full queue drops shows as a ping that nobody answers.
        self.tap.write(frame);
        result
    }
}

/// One endpoint. Those with even numbers ping, those with odd ones answer.
struct Station {
    tap: Tap,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    peer: Ipv4Addr,
    unsent: u64,
    unanswered: u64,
}

struct Lab {
    poll: Poll,
    stations: Vec<Station>,
    received: [u8; LARGEST_FRAME],
    sent: [u8; LARGEST_FRAME],
}

impl Lab {
    fn new(pairs: u32, window: usize) -> Result<Lab> {
        let poll = Poll::new()?;
        let mut buffers = ([0; LARGEST_FRAME], [0; LARGEST_FRAME]);
        let plan = AddressPlan::new("10.77.0.0/16".parse()?, (2 * pairs).into())?;
        let mut stations = Vec::new();
        for number in 0..2 * pairs {
            let tap = Tap::attach(&format!("tap{number}"))?;
            poll.registry().register(
                &mut SourceFd(&tap.as_raw_fd()),
                Token(stations.len()),
                Interest::READABLE,
            )?;
            let mut card = Card {
                tap: &tap,
                received: &mut buffers.0,
                sent: &mut buffers.1,
            };
            let vm = plan.vm(VmId(number));
            let config = Config::new(EthernetAddress(vm.mac.0).into());
            let mut interface = Interface::new(config, &mut card, stack_time());
            let mut is_taken = false;
            interface.update_ip_addrs(|addresses| {
                is_taken = addresses
                    .push(IpCidr::new(IpAddress::Ipv4(vm.address), 16))
                    .is_ok();
            });
            if !is_taken {
                return Err("smoltcp has no room for an address".into());
            }
            let mut sockets = SocketSet::new(Vec::with_capacity(1));
            let mut socket = Socket::new(buffer(window), buffer(window));
            socket.bind(Endpoint::Ident(1))?;
            stations.push(Station {
                socket: sockets.add(socket),
                sockets,
                interface,
                tap,
                peer: plan.vm(VmId(number ^ 1)).address,
                unsent: 0,
                unanswered: 0,
            });
        }
        let (received, sent) = buffers;
        Ok(Lab {
            poll,
            stations,
            received,
            sent,
        })
    }

    /// Answers until the process is killed.
    fn serve(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut nothing = Histogram::new(3)?;
        loop {
            self.poll.poll(&mut events, None)?;
            for event in &events {
                self.turn(event.token().0, &mut nothing)?;
            }
        }
    }

    /// Sends `count` pings in each pair, `window` at a time. Returns the seconds that it took, and the nanoseconds of each
    /// round trip.
    fn ping(&mut self, window: usize, count: u64) -> Result<(f64, Histogram<u64>)> {
        let mut rtt = Histogram::new(3)?;
        let mut events = Events::with_capacity(1024);
        let pairs = self.stations.len() as u64 / 2;
        let start = MonotonicClock.now();
        for number in (0..self.stations.len()).step_by(2) {
            let station = &mut self.stations[number];
            (station.unsent, station.unanswered) = (count, count);
            for _ in 0..count.min(window as u64) {
                station.send_next()?;
            }
            self.turn(number, &mut rtt)?;
        }
        let mut silent = Duration::ZERO;
        while rtt.len() < pairs * count {
            self.poll.poll(&mut events, Some(IDLE))?;
            silent = if events.is_empty() {
                silent + IDLE
            } else {
                Duration::ZERO
            };
            if silent > PATIENCE {
                return Err(format!("{} of {} pings answered", rtt.len(), pairs * count).into());
            }
            // Who asks for a neighbour asks again: a bridge may take a moment to see that its port has a carrier.
            if !silent.is_zero() {
                for number in (0..self.stations.len()).step_by(2) {
                    self.turn(number, &mut rtt)?;
                }
            }
            for event in &events {
                self.turn(event.token().0, &mut rtt)?;
            }
        }
        Ok(((MonotonicClock.now() - start).as_secs_f64(), rtt))
    }

    /// Lets one interface do what there is to do, and sends a ping for each that has been answered.
    fn turn(&mut self, number: usize, rtt: &mut Histogram<u64>) -> Result<()> {
        let station = &mut self.stations[number];
        let mut card = Card {
            tap: &station.tap,
            received: &mut self.received,
            sent: &mut self.sent,
        };
        let now = stack_time();
        station.interface.poll(now, &mut card, &mut station.sockets);
        if station.unanswered == 0 || !station.take_replies(rtt)? {
            return Ok(());
        }
        let mut card = Card {
            tap: &station.tap,
            received: &mut self.received,
            sent: &mut self.sent,
        };
        while station
            .interface
            .poll_egress(now, &mut card, &mut station.sockets)
            != smoltcp::iface::PollResult::None
        {}
        Ok(())
    }
}

impl Station {
    /// Records the replies that the socket holds, and puts a new ping into it for each. Whether there is one to send.
    fn take_replies(&mut self, rtt: &mut Histogram<u64>) -> Result<bool> {
        let now = MonotonicClock.now();
        let mut has_sent = false;
        loop {
            let socket = self.sockets.get_mut::<Socket>(self.socket);
            let Ok((message, _)) = socket.recv() else {
                return Ok(has_sent);
            };
            let packet = Icmpv4Packet::new_checked(message)?;
            let reply = Icmpv4Repr::parse(&packet, &ChecksumCapabilities::default())?;
            if let Icmpv4Repr::EchoReply { data, .. } = reply
                && let Some(stamp) = data.first_chunk()
            {
                rtt.record(now.nanos_since(Instant::from_nanos(u64::from_be_bytes(*stamp))))?;
                self.unanswered -= 1;
                if self.unsent > 0 {
                    self.send_next()?;
                    has_sent = true;
                }
            }
        }
    }

    /// Puts an echo request into the socket, with the time in it, as ping(8) does.
    fn send_next(&mut self) -> Result<()> {
        let mut data = [0x55; PAYLOAD];
        data[..8].copy_from_slice(&MonotonicClock.now().as_nanos().to_be_bytes());
        let request = Icmpv4Repr::EchoRequest {
            ident: 1,
            seq_no: self.unsent as u16,
            data: &data,
        };
        self.unsent -= 1;
        let socket = self.sockets.get_mut::<Socket>(self.socket);
        let message = socket.send(request.buffer_len(), IpAddress::Ipv4(self.peer))?;
        request.emit(
            &mut Icmpv4Packet::new_unchecked(message),
            &ChecksumCapabilities::default(),
        );
        Ok(())
    }
}

fn buffer(packets: usize) -> PacketBuffer<'static> {
    PacketBuffer::new(
        vec![PacketMetadata::EMPTY; packets],
        vec![0; packets * MESSAGE],
    )
}

/// The present time in smoltcp's form.
fn stack_time() -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros((MonotonicClock.now().as_nanos() / 1000) as i64)
}
