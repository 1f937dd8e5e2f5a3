//! Fragments of IPv4 datagrams (RFC 791 section 3.2).

use std::time::Duration;

use crate::time::Instant;
use crate::vm::fragment::{Fragment, FragmentKey, Reassembly};
use crate::vm::ip::{Disposition, Protocol};
use crate::vm::{Ignored, Reaction, Vm};
use crate::wire::{IcmpErrorKind, Ipv4Packet, PlainFragment, write_first_fragment};

/// How long fragments wait for each other, as in Linux (`ipfrag_time`).
pub const REASSEMBLY_TIMEOUT: Duration = Duration::from_secs(30);

/// The row of fragments, which wait for a time.
pub(in crate::vm) const FRAGMENT: Protocol = Protocol {
    poll: Vm::poll_ipv4_fragments,
    deadline: |vm| vm.ipv4.fragments.as_ref()?.deadline(),
    ..Protocol::NONE
};

impl Vm {
    /// Takes a fragment that came in the plainest of frames, and goes on where the datagram that began to come last ends so far:
    /// nothing else changes by it, at any time. False, and nothing has happened, if there is anything out of the ordinary about
    /// it, or it is something else: the long way tells what.
    #[inline]
    pub(in crate::vm) fn join_plain_fragment(&mut self, frame: &[u8]) -> bool {
        if self.ipv4.fragments.is_none() || self.vlan.is_some() {
            return false;
        }
        PlainFragment::parse(frame).is_some_and(|fragment| self.join_fragment(&fragment))
    }

    fn join_fragment(&mut self, fragment: &PlainFragment<'_>) -> bool {
        let Some(interface) = self.ipv4.interface() else {
            return false;
        };
        let is_for_us = fragment.destination_mac == self.mac
            && fragment.destination == interface.address
            && interface.may_be_sender(fragment.source)
            && self.is_other_station(fragment.source_mac);
        let key = FragmentKey {
            source: fragment.source.into(),
            destination: fragment.destination.into(),
            protocol: fragment.protocol,
            identification: fragment.identification.into(),
        };
        let fragments = self.ipv4.fragments.as_mut().filter(|_| is_for_us);
        fragments.is_some_and(|all| all.join(&key, fragment.offset, fragment.payload))
    }

    pub(super) fn receive_ipv4_fragment(
        &mut self,
        now: Instant,
        frame: &[u8],
        packet: &Ipv4Packet<'_>,
    ) -> Result<Disposition, Ignored> {
        let fragment = Fragment {
            key: FragmentKey {
                source: packet.source.into(),
                destination: packet.destination.into(),
                protocol: packet.protocol,
                identification: packet.identification.into(),
            },
            offset: packet.fragment_offset,
            has_more: packet.more_fragments,
            headers: frame.get(..packet.payload_offset).unwrap_or_default(),
            payload: packet.payload,
        };
        let fragments = self
            .ipv4
            .fragments
            .get_or_insert_with(|| Box::new(Reassembly::new(REASSEMBLY_TIMEOUT)));
        Disposition::of_fragment(fragments.take(now, &fragment)?)
    }

    /// Gives up fragments that have waited long enough, and tells the sender if the first has come.
    fn poll_ipv4_fragments(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let fragments = self.ipv4.fragments.as_mut()?;
        let datagram = fragments.expire(now)?;
        let length = write_first_fragment(datagram.headers(), datagram.payload(), buffer);
        let destination = datagram.source();
        fragments.recycle(datagram);
        let first = length.zip(self.address().map(Into::into));
        let kind = IcmpErrorKind::REASSEMBLY_TIME_EXCEEDED;
        Some(self.send_reassembly_error(now, destination, first, kind, buffer))
    }
}
