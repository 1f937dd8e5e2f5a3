//! Fragments of IPv6 packets (RFC 8200 section 4.5): some are refused at once, the others put together.

use std::net::IpAddr;
use std::time::Duration;

use crate::time::Instant;
use crate::vm::fragment::{Fragment, FragmentKey, Reassembly};
use crate::vm::ip::{Disposition, Protocol};
use crate::vm::{Ignored, Reaction, Vm};
use crate::wire::{
    IPV6_FRAGMENT_OFFSET_OFFSET, IPV6_HOP_BY_HOP, IPV6_PAYLOAD_LENGTH_OFFSET, Icmpv6Error,
    Ipv6Fragment, Ipv6Packet, write_first_fragment,
};

/// How long fragments wait for each other (RFC 8200 section 4.5).
pub const IPV6_REASSEMBLY_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest payload that an IPv6 header can tell of.
const MAX_PAYLOAD: usize = 65_535;

/// The row of fragments, which wait for a time.
pub(in crate::vm) const FRAGMENT: Protocol = Protocol {
    poll: Vm::poll_ipv6_fragments,
    deadline: |vm| vm.ipv6.as_ref()?.fragments.as_ref()?.deadline(),
    ..Protocol::NONE
};

impl Vm {
    pub(super) fn receive_ipv6_fragment(
        &mut self,
        now: Instant,
        headers: &[u8],
        packet: &Ipv6Packet<'_>,
        fragment: &Ipv6Fragment<'_>,
    ) -> Result<Disposition, Ignored> {
        let end = fragment.fragment_offset + fragment.payload.len();
        let problem = if fragment.more_fragments && !fragment.payload.len().is_multiple_of(8) {
            Some((Icmpv6Error::ERRONEOUS_HEADER, IPV6_PAYLOAD_LENGTH_OFFSET))
        } else if end > MAX_PAYLOAD {
            let offset = fragment.unfragmentable_length + IPV6_FRAGMENT_OFFSET_OFFSET;
            Some((Icmpv6Error::ERRONEOUS_HEADER, offset))
        } else if fragment.fragment_offset == 0 && fragment.next_header == IPV6_HOP_BY_HOP {
            // It would come first once the packet is whole.
            let offset = fragment.unfragmentable_length;
            Some((Icmpv6Error::UNRECOGNISED_NEXT_HEADER, offset))
        } else if fragment.fragment_offset == 0 && !fragment.has_all_headers() {
            Some((Icmpv6Error::INCOMPLETE_HEADERS, 0))
        } else {
            None
        };
        if let Some((kind, pointer)) = problem {
            let error = (kind, pointer as u32);
            return self.refuse_ipv6(packet, Ignored::FragmentLength, error, None);
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
        Disposition::of_fragment(fragments.take(now, &fragment)?)
    }

    /// Gives up fragments that have waited long enough, and tells the sender if the first has come.
    fn poll_ipv6_fragments(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let ipv6 = self.ipv6.as_mut()?;
        let fragments = ipv6.fragments.as_mut()?;
        let datagram = fragments.expire(now)?;
        let length = write_first_fragment(datagram.headers(), datagram.payload(), buffer);
        let destination = datagram.source();
        fragments.recycle(datagram);
        let source = match destination {
            IpAddr::V4(_) => None,
            IpAddr::V6(destination) => ipv6.source_for(now, destination),
        };
        let first = length.zip(source.map(Into::into));
        let kind = Icmpv6Error::REASSEMBLY_TIME_EXCEEDED;
        Some(self.send_reassembly_error(now, destination, first, kind, buffer))
    }
}
