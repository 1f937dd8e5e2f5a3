//! Echo requests of which many are alike: their headers are built and summed up once.

use etherparse::IpNumber;

use super::checksum::{self, Filled};
use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::icmp::{ECHO_FRAME_OVERHEAD, EchoRequest, ICMP_ECHO_HEADER_LENGTH, TYPE_ECHO_REQUEST};
use super::ipv4::{IPV4_HEADER_LENGTH, Ipv4Envelope};

/// Where the headers have what differs from request to request.
const IDENTIFICATION: usize = ETHERNET_HEADER_LENGTH + 4;
const HEADER_CHECKSUM: usize = ETHERNET_HEADER_LENGTH + 10;
const ICMP: usize = ETHERNET_HEADER_LENGTH + IPV4_HEADER_LENGTH;

/// An ICMP echo request over IPv4 that differs from the next one in identification, sequence number and payload only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EchoTemplate {
    /// The headers, with 0 for identification, sequence number and the checksum of the message.
    headers: [u8; ECHO_FRAME_OVERHEAD],
    payload_length: usize,
}

impl EchoTemplate {
    /// The template of `request` and those like it, with `payload_length` bytes of payload. `None` when the datagram would be
    /// over 65,535 bytes.
    pub fn new(request: &EchoRequest, payload_length: usize) -> Option<EchoTemplate> {
        let envelope = Ipv4Envelope {
            identification: 0,
            ..request.envelope
        };
        let mut headers = [0; ECHO_FRAME_OVERHEAD];
        let (around, icmp) = headers.split_first_chunk_mut()?;
        let length = ICMP_ECHO_HEADER_LENGTH.checked_add(payload_length)?;
        envelope.fill(IpNumber::ICMP, length, around)?;
        let [i0, i1] = request.identifier.to_be_bytes();
        icmp.copy_from_slice(&[TYPE_ECHO_REQUEST, 0, 0, 0, i0, i1, 0, 0]);
        Some(EchoTemplate {
            headers,
            payload_length,
        })
    }

    /// Builds the frame of one request at the start of `buffer`; `fill` writes its payload, and may tell the sum of that.
    ///
    /// Returns the frame's length, or `None` when the buffer is too short.
    #[inline]
    pub fn write<P: Filled>(
        &self,
        identification: u16,
        sequence: u16,
        fill: impl FnOnce(&mut [u8]) -> P,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let length = ECHO_FRAME_OVERHEAD + self.payload_length;
        let frame = buffer.get_mut(..length)?;
        let (headers, payload) = frame.split_first_chunk_mut::<ECHO_FRAME_OVERHEAD>()?;
        let payload = fill(payload).sum(payload);
        let &[.., kind, code, _, _, i0, i1, _, _] = &self.headers;
        let [s0, s1] = sequence.to_be_bytes();
        let message = checksum::of_message(&[kind, code, 0, 0, i0, i1, s0, s1], payload);
        let header = u16::from_be_bytes([
            self.headers[HEADER_CHECKSUM],
            self.headers[HEADER_CHECKSUM + 1],
        ]);
        *headers = self.headers;
        for (at, word) in [
            (IDENTIFICATION, identification),
            (HEADER_CHECKSUM, checksum::update(header, 0, identification)),
            (ICMP + 2, message),
            (ICMP + 6, sequence),
        ] {
            [headers[at], headers[at + 1]] = word.to_be_bytes();
        }
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{IpHeaders, Ipv4Extensions, Ipv4Header, PacketBuilder};

    use super::*;
    use crate::wire::tests::{A, B};

    #[test]
    fn the_requests_of_a_template_are_those_that_etherparse_builds() {
        let payload = [0xff, 0, 0x12, 0x80, 7];
        let request = EchoRequest {
            envelope: Ipv4Envelope {
                source_mac: A,
                destination_mac: B,
                source: [10, 77, 0, 2].into(),
                destination: [10, 77, 0, 3].into(),
                time_to_live: 64,
                dscp: 0,
                dont_fragment: false,
                identification: 9,
            },
            identifier: 0xfff7,
            sequence: 3,
        };
        let template = EchoTemplate::new(&request, payload.len()).unwrap();
        for number in (0..=u16::MAX).step_by(85) {
            let (identification, sequence) = (number, u16::MAX - number);
            let mut header = Ipv4Header {
                identification,
                source: request.envelope.source.octets(),
                destination: request.envelope.destination.octets(),
                time_to_live: 64,
                ..Ipv4Header::default()
            };
            header.dont_fragment = false;
            let ip = IpHeaders::Ipv4(header, Ipv4Extensions::default());
            let mut theirs = Vec::new();
            PacketBuilder::ethernet2(A.0, B.0)
                .ip(ip)
                .icmpv4_echo_request(request.identifier, sequence)
                .write(&mut theirs, &payload)
                .unwrap();
            let mut ours = [0xaa; 100];
            let fill = |space: &mut [u8]| space.copy_from_slice(&payload);
            let length = template.write(identification, sequence, fill, &mut ours);
            assert_eq!(ours[..length.unwrap()], theirs, "{number}");
        }
        assert_eq!(template.write(1, 1, |_| {}, &mut [0; 46]), None);
        assert_eq!(EchoTemplate::new(&request, 65_508), None);
    }
}
