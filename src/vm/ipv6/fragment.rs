//! Fragments of IPv6 packets (RFC 8200 section 4.5): what of them is refused at once, and the rest put together.

use std::net::IpAddr;

use super::icmp_error::{Refusal, UNRECOGNISED_NEXT_HEADER};
use super::{IPV6_REASSEMBLY_TIMEOUT, Received, Vm};
use crate::time::Instant;
use crate::vm::fragment::{Datagram, Fragment, FragmentKey, Reassembly, Taken};
use crate::vm::{Event, Ignored, Reaction, Transmit};
use crate::wire::{
    EthernetFrame, Icmpv6Error, Ipv6Fragment, Ipv6Packet, Payload, write_first_fragment,
    write_reassembled_ipv6,
};

/// The largest payload that an IPv6 header can tell of.
const MAX_PAYLOAD: usize = 65_535;
/// Where the payload's length stands in the fixed header.
const PAYLOAD_LENGTH: usize = 4;
/// Where the offset stands in the fragment header.
const FRAGMENT_OFFSET: usize = 2;
/// First fragment with an incomplete header chain, a code of parameter problem (RFC 7112).
const INCOMPLETE_HEADERS: u8 = 3;
/// `IPPROTO_HOPOPTS`, allowed only right behind the fixed header.
const HOP_BY_HOP: u8 = 0;
/// Reassembly time exceeded, a code of time exceeded.
const REASSEMBLY_TIME_EXCEEDED: u8 = 1;

impl Vm {
    pub(super) fn receive_ipv6_fragment(
        &mut self,
        now: Instant,
        headers: &[u8],
        packet: &Ipv6Packet<'_>,
        fragment: &Ipv6Fragment<'_>,
    ) -> Result<Received, Ignored> {
        let end = fragment.fragment_offset + fragment.payload.len();
        let problem = if fragment.more_fragments && !fragment.payload.len().is_multiple_of(8) {
            Some((0, PAYLOAD_LENGTH))
        } else if end > MAX_PAYLOAD {
            Some((0, fragment.unfragmentable_length + FRAGMENT_OFFSET))
        } else if fragment.fragment_offset == 0 && fragment.next_header == HOP_BY_HOP {
            // It would come first once the packet is whole.
            Some((UNRECOGNISED_NEXT_HEADER, fragment.unfragmentable_length))
        } else if fragment.fragment_offset == 0 && !fragment.has_all_headers() {
            Some((INCOMPLETE_HEADERS, 0))
        } else {
            None
        };
        if let Some((code, pointer)) = problem {
            let error = (Icmpv6Error::PARAMETER_PROBLEM, code, pointer as u32);
            return self.refuse_ipv6(packet, Ignored::FragmentLength, error, false);
        }
        let ipv6 = self.ipv6.as_mut().ok_or(Ignored::OtherAddress)?;
        let fragment = Fragment {
            key: FragmentKey {
                source: packet.source.into(),
                destination: packet.destination.into(),
                // Fragments of one packet may differ in what they say follows (RFC 8200 section 4.5).
                protocol: 0,
                identification: fragment.identification,
            },
            offset: fragment.fragment_offset,
            has_more: fragment.more_fragments,
            headers,
            payload: fragment.payload,
        };
        let fragments = ipv6
            .fragments
            .get_or_insert_with(|| Box::new(Reassembly::new(IPV6_REASSEMBLY_TIMEOUT)));
        let taken = fragments.take(now, &fragment);
        ipv6.find_deadline();
        match taken? {
            Taken::Held => Ok(Received::Wait),
            Taken::HeldInsteadOfOldest => Err(Ignored::ReassemblyFull),
            Taken::Whole(datagram) => Ok(Received::Whole(datagram)),
        }
    }

    /// Takes a packet that was put together as if it had come in one frame.
    pub(super) fn receive_ipv6_whole(
        &mut self,
        now: Instant,
        datagram: Datagram,
        buffer: &mut [u8],
    ) -> Result<Reaction, Ignored> {
        let length = write_reassembled_ipv6(&datagram.headers, &datagram.payload, buffer);
        if let Some(fragments) = self.ipv6.as_mut().and_then(|ipv6| ipv6.fragments.as_mut()) {
            fragments.recycle(datagram);
        }
        let length = length.ok_or(Ignored::FragmentLength)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        let frame = EthernetFrame::parse(bytes).map_err(Ignored::Malformed)?;
        let Payload::Ipv6(packet) = frame.payload().map_err(Ignored::Malformed)? else {
            return Err(Ignored::FragmentLength);
        };
        match self.receive_ipv6(now, bytes, &packet, frame.source)? {
            // A packet that was a fragment of another: nobody sends that.
            Received::Whole(_) => Err(Ignored::FragmentLength),
            received => self.settle_ipv6(now, received, buffer, length),
        }
    }

    /// Gives up fragments that have waited long enough, and tells the sender if the first has come.
    pub(super) fn poll_ipv6_fragments(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
    ) -> Option<Reaction> {
        let fragments = self.ipv6.as_mut()?.fragments.as_mut()?;
        let datagram = fragments.expire(now)?;
        let length = write_first_fragment(&datagram.headers, &datagram.payload, buffer);
        let source = datagram.source();
        fragments.recycle(datagram);
        let error = (Icmpv6Error::TIME_EXCEEDED, REASSEMBLY_TIME_EXCEEDED, 0);
        let told = length.and_then(|length| {
            let IpAddr::V6(source) = source else {
                return None;
            };
            let refusal = Refusal::to(
                source,
                self.ipv6.as_ref()?.addresses.source_for(now, source)?,
                Ignored::ReassemblyTimeout,
                error,
            );
            self.write_refusal(now, &refusal, buffer, length)
        });
        Some(Reaction {
            transmit: told.map(|length| Transmit { length, ping: None }),
            event: Some(Event::Ignored(Ignored::ReassemblyTimeout)),
        })
    }
}
