//! IP of either family: the way of a datagram to the protocol that it is for, and of the answer out of the VM.
//!
//! [`Protocol`] is one row of the VM's list of protocols: what it takes, what it does unasked, and the groups that it
//! is in. A protocol looks at a datagram and returns a [`Disposition`], since the datagram still lies in the buffer that
//! an answer is built in; [`Vm::apply`] then carries it out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::fragment::{Datagram, Taken};
use super::service::StampSession;
use super::{Event, Ignored, PROTOCOLS, Reaction, Transmit, Vm};
use crate::time::Instant;
use crate::wire::{
    EthernetFrame, IcmpErrorKind, Ipv4Packet, Ipv6Envelope, Ipv6Packet, MacAddr,
    NeighbourAdvertisement, Payload, STAMP_REPLY_FRAME, TCP_LONGEST_FRAME, TcpSegment,
    seal_reassembled, seal_reassembled_ipv6,
};

/// Time to live, or hop limit, of datagrams for which nothing else is asked (RFC 1700).
pub const DEFAULT_TIME_TO_LIVE: u8 = 64;

/// Does one thing that is due, with a frame built in the buffer if it takes one. `None` when nothing is due.
pub(super) type Poll = fn(&mut Vm, Instant, &mut [u8]) -> Option<Reaction>;

/// One protocol that VMs speak.
#[derive(Clone, Copy)]
pub(super) struct Protocol {
    /// The datagrams that it takes.
    pub(super) input: Input,
    /// Does one thing that is due.
    pub(super) poll: Poll,
    /// The time at which `poll` has something to do.
    pub(super) deadline: fn(&Vm) -> Option<Instant>,
    /// Tells of each group that the VM is in for this protocol's sake; of some twice.
    pub(super) groups: fn(&Vm, &mut dyn FnMut(IpAddr)),
    /// Builds a frame that is still to be sent when the VM stops. `None` when there is none, or no other.
    pub(super) leave: fn(&mut Vm, Instant, &mut [u8]) -> Option<Transmit>,
}

impl Protocol {
    /// A protocol that takes nothing, does nothing and is in no group: what a row does not say.
    pub(super) const NONE: Protocol = Protocol {
        input: Input::None,
        poll: |_, _, _| None,
        deadline: |_| None,
        groups: |_, _| (),
        leave: |_, _, _| None,
    };
}

/// The datagrams that a protocol takes: those that the first function accepts, with the second. The first row that accepts
/// a datagram has it.
#[derive(Clone, Copy)]
pub(super) enum Input {
    /// None.
    None,
    /// Whole IPv4 datagrams to the VM.
    Ipv4(
        fn(&Vm, &Received<'_, Ipv4Packet<'_>>) -> bool,
        fn(&mut Vm, Instant, &Received<'_, Ipv4Packet<'_>>) -> Result<Disposition, Ignored>,
    ),
    /// Whole IPv4 datagrams to any address, since the VM may have none yet.
    AnyIpv4(
        fn(&Vm, &Received<'_, Ipv4Packet<'_>>) -> bool,
        fn(&mut Vm, Instant, &Received<'_, Ipv4Packet<'_>>) -> Result<Disposition, Ignored>,
    ),
    /// Whole IPv6 packets to the VM, or to a group that it is in.
    Ipv6(
        fn(&Vm, &Received<'_, Ipv6Packet<'_>>) -> bool,
        fn(&mut Vm, Instant, &Received<'_, Ipv6Packet<'_>>) -> Result<Disposition, Ignored>,
    ),
}

/// A whole datagram that came to the VM.
pub(super) struct Received<'a, P> {
    /// The hardware address that it came from: the sender's, or a router's.
    pub(super) source_mac: MacAddr,
    /// Its frame went to more than one station.
    pub(super) is_shared: bool,
    /// Its IP header.
    pub(super) packet: &'a P,
    /// The protocol behind the IP headers (`IPPROTO_*`).
    pub(super) protocol: u8,
    /// Where the protocol's part starts in the frame.
    pub(super) offset: usize,
    /// The protocol's part.
    pub(super) payload: &'a [u8],
}

/// Tells if a frame goes to more than one station.
pub(super) fn is_shared(frame: &[u8]) -> bool {
    EthernetFrame::parse(frame).is_ok_and(|frame| frame.destination.is_multicast())
}

/// The outcome of a datagram.
pub(super) enum Disposition {
    /// It is over with it, but pings that waited may be sent now.
    Taken(Option<Event>),
    /// It is a fragment that waits for others.
    Held,
    /// It is a fragment that waits with others, and nothing else has changed.
    Joined,
    /// It was the last fragment of this one.
    Whole(Datagram),
    /// The frame is to be turned into its answer.
    Answer(Answer),
    /// Its sender is to be told of an error.
    Error(ErrorMessage),
    /// A neighbour solicitation is to be answered.
    Advertise {
        /// The answer.
        advertisement: NeighbourAdvertisement,
        /// Its headers.
        envelope: Ipv6Envelope,
        /// The event that the question brought.
        event: Option<Event>,
    },
    /// The protocol has something to send at once: this does.
    Send(Poll),
}

impl Disposition {
    /// The outcome of a fragment that was put to the others of its datagram.
    pub(super) fn of_fragment(taken: Taken) -> Result<Disposition, Ignored> {
        match taken {
            Taken::Held => Ok(Disposition::Held),
            Taken::Joined => Ok(Disposition::Joined),
            Taken::HeldInsteadOfOldest => Err(Ignored::ReassemblyFull),
            Taken::Whole(datagram) => Ok(Disposition::Whole(datagram)),
        }
    }
}

/// A datagram that is turned into its answer in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) service: Service,
    /// Where the question starts in the frame, behind the IP headers.
    pub(super) offset: usize,
    /// The asker.
    pub(super) destination: IpAddr,
    /// The address that answers.
    pub(super) source: IpAddr,
}

/// A service that answers a datagram with one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Service {
    /// ICMP echo (RFC 792, RFC 4443).
    Echo,
    /// ICMP timestamp (RFC 792).
    Timestamp,
    /// UDP echo (RFC 862).
    UdpEcho,
    /// STAMP (RFC 8762).
    Stamp(StampSession),
    /// The segment that answers one (RFC 9293), and the event that this one brings.
    Tcp(TcpSegment, Option<Event>),
}

/// An ICMP error that answers a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct ErrorMessage {
    /// How the datagram is counted.
    pub(super) ignored: Ignored,
    /// The sender of the datagram, who is told.
    pub(super) destination: IpAddr,
    /// The address that tells.
    pub(super) source: IpAddr,
    pub(super) kind: IcmpErrorKind,
    /// The byte at fault of a parameter problem, or 0.
    pub(super) parameter: u32,
}

impl Vm {
    /// Looks at the datagram that `frame`, which is all of `bytes`, carries.
    pub(super) fn receive_ip(
        &mut self,
        now: Instant,
        bytes: &[u8],
        source_mac: MacAddr,
        payload: &Payload<'_>,
    ) -> Result<Disposition, Ignored> {
        match payload {
            Payload::Ipv4(packet) => self.receive_ipv4(now, bytes, source_mac, packet),
            Payload::Ipv6(packet) => self.receive_ipv6(now, bytes, source_mac, packet),
            // Not IP: its packets go another way.
            Payload::Arp(_) => Err(Ignored::ArpOperation),
            Payload::Other(ether_type) => Err(Ignored::EtherType(*ether_type)),
        }
    }

    /// Does what a datagram asks for, in the buffer that its frame of `length` bytes lies in.
    ///
    /// # Errors
    /// When there is no room for an answer.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        disposition: Disposition,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<Reaction, Ignored> {
        let (transmit, event) = match disposition {
            Disposition::Held | Disposition::Joined => return Ok(Reaction::default()),
            Disposition::Whole(datagram) => return self.receive_whole(now, datagram, buffer),
            Disposition::Taken(event) => {
                return Ok(Reaction {
                    transmit: self.next_resolved(now, buffer),
                    event,
                });
            }
            Disposition::Send(poll) => return Ok(poll(self, now, buffer).unwrap_or_default()),
            Disposition::Advertise {
                advertisement,
                envelope,
                event,
            } => {
                let length = advertisement.write(envelope, buffer);
                (length.map(|length| Transmit { length, ping: None }), event)
            }
            Disposition::Error(error_message) => {
                self.keep_ignored(buffer.get(..length).unwrap_or_default());
                return Ok(self.send_error(now, &error_message, buffer, length));
            }
            Disposition::Answer(answer) => {
                let to = answer.destination;
                let next_hop = self.next_hop(now, to).ok_or(Ignored::NoRoute)?;
                let length = length.max(answer.service.least_room());
                let frame = buffer.get_mut(..length).unwrap_or_default();
                let length = self.turn_into_answer(now, &answer, frame);
                let transmit = self.hand_to(now, next_hop, to, length, buffer)?;
                (transmit, answer.service.event())
            }
        };
        Ok(Reaction { transmit, event })
    }

    /// Tells the sender of the datagram in the first `length` bytes of `buffer` of an error, if there is a way to it.
    pub(super) fn send_error(
        &mut self,
        now: Instant,
        error_message: &ErrorMessage,
        buffer: &mut [u8],
        length: usize,
    ) -> Reaction {
        let to = error_message.destination;
        let transmit = self.next_hop(now, to).and_then(|next_hop| {
            let length = match error_message.source {
                IpAddr::V4(source) => self.write_icmp_error(now, error_message, source, buffer),
                IpAddr::V6(source) => {
                    self.write_icmpv6_error(now, error_message, source, buffer, length)
                }
            };
            self.hand_to(now, next_hop, to, length, buffer).ok()?
        });
        Reaction {
            transmit,
            event: Some(Event::Ignored(error_message.ignored)),
        }
    }

    /// Reports fragments that have waited too long to their sender, as Linux does (`ip_expire` in
    /// `net/ipv4/ip_fragment.c`), if the first of them has come and the VM has an address: `first` is the length of the
    /// first in `buffer`, and that address.
    pub(super) fn send_reassembly_error(
        &mut self,
        now: Instant,
        destination: IpAddr,
        first: Option<(usize, IpAddr)>,
        kind: IcmpErrorKind,
        buffer: &mut [u8],
    ) -> Reaction {
        let ignored = Ignored::ReassemblyTimeout;
        let Some((length, source)) = first else {
            return Reaction {
                transmit: None,
                event: Some(Event::Ignored(ignored)),
            };
        };
        let error_message = ErrorMessage {
            ignored,
            destination,
            source,
            kind,
            parameter: 0,
        };
        self.send_error(now, &error_message, buffer, length)
    }

    /// Takes a datagram that was put together as if it had come in one frame.
    fn receive_whole(
        &mut self,
        now: Instant,
        mut datagram: Datagram,
        buffer: &mut [u8],
    ) -> Result<Reaction, Ignored> {
        let source = datagram.source();
        let (memory, start, headers) = datagram.frame();
        let frame = memory.get_mut(start..).unwrap_or_default();
        let sealed = match source {
            IpAddr::V4(_) => seal_reassembled(frame, headers),
            IpAddr::V6(_) => seal_reassembled_ipv6(frame, headers),
        };
        let reaction = match sealed {
            Some(offset) => self.receive_sealed(now, memory, start + offset, buffer),
            None => Err(Ignored::FragmentLength),
        };
        let ipv6 = self.ipv6.as_mut();
        let fragments = match source {
            IpAddr::V4(_) => self.ipv4.fragments.as_mut(),
            IpAddr::V6(_) => ipv6.and_then(|ipv6| ipv6.fragments.as_mut()),
        };
        if let Some(fragments) = fragments {
            fragments.recycle(datagram);
        }
        reaction
    }

    /// Takes the datagram whose frame starts at `start` in `memory`. Its answer goes out of there if it is cut again, and other
    /// memory is there then.
    fn receive_sealed(
        &mut self,
        now: Instant,
        memory: &mut Vec<u8>,
        start: usize,
        buffer: &mut [u8],
    ) -> Result<Reaction, Ignored> {
        let bytes = memory.get(start..).unwrap_or_default();
        let frame = EthernetFrame::parse(bytes).map_err(Ignored::Malformed)?;
        let payload = frame.payload().map_err(Ignored::Malformed)?;
        let outcome = match self.receive_ip(now, bytes, frame.source, &payload) {
            Ok(taken @ Disposition::Taken(_)) => return self.apply(now, taken, buffer, 0),
            Ok(Disposition::Answer(answer)) => {
                self.answer_sealed(now, &answer, memory, start, buffer)
            }
            // A datagram that was a fragment of another: nobody sends that.
            Ok(Disposition::Whole(_)) => Err(Ignored::FragmentLength),
            Ok(disposition) => {
                let length = put(bytes, buffer);
                return self.apply(now, disposition, buffer, length);
            }
            Err(ignored) => Err(ignored),
        };
        if outcome.is_err() {
            // What is kept of it is read there.
            put(memory.get(start..).unwrap_or_default(), buffer);
        }
        outcome
    }

    /// Turns the datagram whose frame starts at `start` in `memory` into its answer.
    ///
    /// # Errors
    /// When there is no room for it.
    fn answer_sealed(
        &mut self,
        now: Instant,
        answer: &Answer,
        memory: &mut Vec<u8>,
        start: usize,
        buffer: &mut [u8],
    ) -> Result<Reaction, Ignored> {
        let to = answer.destination;
        let next_hop = self.next_hop(now, to).ok_or(Ignored::NoRoute)?;
        let frame = memory.get_mut(start..).unwrap_or_default();
        let mut reaction = Reaction {
            transmit: None,
            event: answer.service.event(),
        };
        if let Some(length) = self.turn_into_answer(now, answer, frame)
            && let Some(frame) = frame.get_mut(..length)
            && self.lead_to(now, next_hop, to, frame)?
        {
            reaction.transmit = self.fit_from(now, memory, (start, length), buffer)?;
        }
        Ok(reaction)
    }

    /// Turns the question in `frame` into its answer. Returns the answer's length, if there is one.
    fn turn_into_answer(
        &mut self,
        now: Instant,
        answer: &Answer,
        frame: &mut [u8],
    ) -> Option<usize> {
        match answer.source {
            IpAddr::V4(_) => self.answer_ipv4(now, answer, frame),
            IpAddr::V6(source) => self.answer_ipv6(now, answer, source, frame),
        }
    }

    /// The neighbour to which a datagram for `destination` is handed: every datagram, answers included, asks here. `None`
    /// when there is no way there.
    pub(super) fn next_hop(&self, now: Instant, destination: IpAddr) -> Option<IpAddr> {
        match destination {
            IpAddr::V4(destination) => self.ipv4.next_hop(now, destination).map(IpAddr::V4),
            IpAddr::V6(destination) => {
                let failed_at = |router: Ipv6Addr| self.neighbours.failed_at(router.into());
                let ipv6 = self.ipv6.as_ref()?;
                let next_hop = ipv6.next_hop(now, destination, failed_at)?;
                Some(next_hop.into())
            }
        }
    }

    /// Tells if `mac` can be the hardware address of another station.
    pub(super) fn is_other_station(&self, mac: MacAddr) -> bool {
        mac.is_unicast() && mac != self.mac
    }

    /// Does one thing that is due at `now` for one of the protocols.
    pub(super) fn poll_protocols(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let mut protocols = PROTOCOLS.iter();
        protocols.find_map(|protocol| (protocol.poll)(self, now, buffer))
    }

    /// The time at which [`Vm::poll_protocols`] has something to do.
    pub(super) fn protocols_deadline(&self) -> Option<Instant> {
        let deadlines = PROTOCOLS.iter().map(|protocol| (protocol.deadline)(self));
        deadlines.flatten().min()
    }
}

impl Service {
    /// Bytes of a frame that its answer may take, however short the question is.
    const fn least_room(&self) -> usize {
        match self {
            Service::Stamp(_) => STAMP_REPLY_FRAME,
            Service::Tcp(..) => TCP_LONGEST_FRAME,
            Service::Echo | Service::Timestamp | Service::UdpEcho => 0,
        }
    }

    /// The event that the question brings, beside its answer.
    fn event(&self) -> Option<Event> {
        match self {
            Service::Tcp(_, event) => *event,
            Service::Echo | Service::Timestamp | Service::UdpEcho | Service::Stamp(_) => None,
        }
    }
}

/// Puts `frame` at the start of `buffer`, as far as there is room. Returns its length there.
fn put(frame: &[u8], buffer: &mut [u8]) -> usize {
    let length = frame.len().min(buffer.len());
    if let (Some(to), Some(from)) = (buffer.get_mut(..length), frame.get(..length)) {
        to.copy_from_slice(from);
    }
    length
}

/// Tells if one host can have this address: not in "this network", loopback, multicast, or what is reserved, with the
/// broadcast address in it (RFC 6890).
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    matches!(first, 1..=126 | 128..=223)
}
