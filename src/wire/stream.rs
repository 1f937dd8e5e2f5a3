//! Frames of streams: UDP datagrams (RFC 768) to the port of those that are thrown away (RFC 863), numbered and stamped with
//! the time.
//!
//! Their payload begins with 18 bytes, which the shortest IPv4 frame of Ethernet has room for: four that tell the run, three of
//! the stream's number, five of the frame's, and six of the time, in nanoseconds. The rest is 0.

use std::net::IpAddr;

use etherparse::{EtherType, IpNumber};

use super::checksum;
use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::flow_label::set_flow_label;
use super::ipv4::{IPV4_HEADER_LENGTH, Ipv4Envelope, PROTOCOL_UDP};
use super::ipv6::{IPV6_HEADER_LENGTH, Ipv6Envelope};
use super::mac::MacAddr;
use super::udp::UDP_HEADER_LENGTH;
use super::vlan::{VLAN_TAG_LENGTH, tags_of};
use crate::time::Instant;

/// The port that streams go to: that of the discard service (RFC 863).
pub const STREAM_PORT: u16 = 9;
/// The fewest bytes of payload.
pub const STREAM_PAYLOAD: usize = 18;
/// Bytes of the frame check sequence, which a frame on a wire has behind it and one in memory has not.
pub const FRAME_CHECK_SEQUENCE: usize = 4;
/// The most streams of a run: their numbers have 24 bits.
pub const MAX_STREAMS: usize = 1 << 24;

/// The most bytes of headers in front of the payload, VLAN tags not counted.
const MOST_HEADERS: usize = ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH + UDP_HEADER_LENGTH;
/// Where the time is in the payload.
const TIME: usize = 12;
const SEQUENCE_BITS: u32 = 40;
const TIME_BITS: u32 = 48;

/// What tells a frame of a stream from others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamTag {
    /// The run.
    pub run: u32,
    /// The number of the stream, of which 24 bits travel.
    pub stream: u32,
    /// The number of the frame in its stream, of which 40 bits travel.
    pub sequence: u64,
}

impl StreamTag {
    /// The numbers of stream and frame as they travel.
    const fn numbers(self) -> u64 {
        (self.stream as u64) << SEQUENCE_BITS | self.sequence & ((1 << SEQUENCE_BITS) - 1)
    }
}

impl StreamTag {
    /// That of a frame with such a payload.
    #[inline]
    pub(super) const fn read(payload: &[u8; STREAM_PAYLOAD]) -> StreamTag {
        let [a, b, c, d, numbers @ .., _, _, _, _, _, _] = *payload;
        let numbers = u64::from_be_bytes(numbers);
        StreamTag {
            run: u32::from_be_bytes([a, b, c, d]),
            stream: (numbers >> SEQUENCE_BITS) as u32,
            sequence: numbers & ((1 << SEQUENCE_BITS) - 1),
        }
    }
}

/// The headers of a stream's frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamEnvelope {
    /// Over IPv4.
    V4(Ipv4Envelope),
    /// Over IPv6.
    V6(Ipv6Envelope),
}

/// The frames of one stream, which differ in length, number and time only: their headers are built and summed up once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamTemplate {
    envelope: StreamEnvelope,
    headers: [u8; MOST_HEADERS],
    /// Where the UDP header is.
    udp: usize,
    /// The sum of the IPv4 header's words that are always the same.
    header_sum: u32,
    /// The sum of the words that are always the same and that the checksum of UDP covers.
    sum: u32,
}

impl StreamTemplate {
    /// The template of frames with these headers, from that port.
    pub fn new(envelope: StreamEnvelope, source_port: u16) -> Option<StreamTemplate> {
        let mut headers = [0; MOST_HEADERS];
        let udp = match &envelope {
            StreamEnvelope::V4(ipv4) => {
                let ipv4 = Ipv4Envelope {
                    identification: 0,
                    ..*ipv4
                };
                ipv4.fill(IpNumber::UDP, 0, headers.first_chunk_mut()?)?;
                ETHERNET_HEADER_LENGTH + IPV4_HEADER_LENGTH
            }
            StreamEnvelope::V6(ipv6) => {
                ipv6.write(IpNumber::UDP, UDP_HEADER_LENGTH, &mut headers)?;
                ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH
            }
        };
        let ports = headers.get_mut(udp..udp + 4)?;
        let (source, destination) = ports.split_at_mut_checked(2)?;
        source.copy_from_slice(&source_port.to_be_bytes());
        destination.copy_from_slice(&STREAM_PORT.to_be_bytes());
        let ip = ETHERNET_HEADER_LENGTH;
        let (header_sum, addresses) = match &envelope {
            StreamEnvelope::V4(_) => {
                // Without length, identification and checksum.
                let fixed = [ip, ip + 6, ip + 8, ip + 12, ip + 14, ip + 16, ip + 18];
                let sum = fixed.map(|at| word(&headers, at)).iter().sum();
                (sum, ip + 12..udp)
            }
            StreamEnvelope::V6(_) => {
                set_flow_label(&mut headers)?;
                (0, ip + 8..udp)
            }
        };
        let words = addresses.step_by(2).chain([udp, udp + 2]);
        let sum = words.map(|at| word(&headers, at)).sum::<u32>() + u32::from(PROTOCOL_UDP);
        Some(StreamTemplate {
            envelope,
            headers,
            udp,
            header_sum,
            sum,
        })
    }

    /// The headers that it was made of.
    pub const fn envelope(&self) -> &StreamEnvelope {
        &self.envelope
    }

    /// Bytes of a frame before its payload.
    pub const fn header_length(&self) -> usize {
        self.udp + UDP_HEADER_LENGTH
    }

    /// Builds a frame of `length` bytes at the start of `buffer`, whose time is still to be [stamped](stamp_stream).
    ///
    /// Returns the length, or `None` if the buffer is too short for the frame, or the frame for what it carries.
    #[inline]
    pub fn write(&self, tag: StreamTag, length: usize, buffer: &mut [u8]) -> Option<usize> {
        let frame = buffer.get_mut(..length)?;
        let udp_length = u16::try_from(length.checked_sub(self.udp)?).ok()?;
        match self.envelope {
            StreamEnvelope::V4(_) => {
                const LENGTH: usize = ETHERNET_HEADER_LENGTH + IPV4_HEADER_LENGTH;
                let headers = frame.first_chunk_mut::<LENGTH>()?;
                headers.copy_from_slice(self.headers.get(..LENGTH)?);
                let total = udp_length.checked_add(IPV4_HEADER_LENGTH as u16)?;
                let identification = tag.sequence as u16;
                let sum = [self.header_sum, total.into(), identification.into()];
                let ip = ETHERNET_HEADER_LENGTH;
                for (at, value) in [
                    (ip + 2, total),
                    (ip + 4, identification),
                    (ip + 10, checksum::of_words(sum)),
                ] {
                    [headers[at], headers[at + 1]] = value.to_be_bytes();
                }
            }
            StreamEnvelope::V6(_) => {
                const LENGTH: usize = ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH;
                let headers = frame.first_chunk_mut::<LENGTH>()?;
                headers.copy_from_slice(self.headers.get(..LENGTH)?);
                let at = ETHERNET_HEADER_LENGTH + 4;
                [headers[at], headers[at + 1]] = udp_length.to_be_bytes();
            }
        }
        let (udp, rest) = frame
            .get_mut(self.udp..)?
            .split_first_chunk_mut::<UDP_HEADER_LENGTH>()?;
        let (payload, rest) = rest.split_first_chunk_mut::<STREAM_PAYLOAD>()?;
        rest.fill(0);
        let numbers = tag.numbers();
        let (length, numbers_high) = (u32::from(udp_length), (numbers >> 32) as u32);
        // The length is in the pseudo-header, too.
        let sum = [
            self.sum,
            length,
            length,
            tag.run,
            numbers_high,
            numbers as u32,
        ];
        let ports = self.headers.get(self.udp..)?.first_chunk::<4>()?;
        *udp.first_chunk_mut()? = *ports;
        [udp[4], udp[5]] = udp_length.to_be_bytes();
        [udp[6], udp[7]] = field(checksum::of_words(sum)).to_be_bytes();
        *payload.first_chunk_mut()? = tag.run.to_be_bytes();
        payload[4..TIME].copy_from_slice(&numbers.to_be_bytes());
        payload[TIME..].fill(0);
        Some(self.udp + UDP_HEADER_LENGTH + STREAM_PAYLOAD + rest.len())
    }
}

/// Stamps a frame that [`StreamTemplate::write`] has built, and whose payload begins `payload` bytes into it, with the time at
/// which it is sent.
#[inline]
pub fn stamp_stream(frame: &mut [u8], payload: usize, sent: Instant) -> Option<()> {
    let from = payload.checked_sub(2)?;
    let bytes = frame
        .get_mut(from..)?
        .first_chunk_mut::<{ 2 + STREAM_PAYLOAD }>()?;
    let [_, _, time @ ..] = sent.as_nanos().to_be_bytes();
    let time: [u8; 6] = time;
    let old = !u16::from_be_bytes([bytes[0], bytes[1]]);
    let [a, b, c, d, e, f] = time;
    let sum = checksum::of_words([
        old.into(),
        u32::from_be_bytes([a, b, c, d]),
        u16::from_be_bytes([e, f]).into(),
    ]);
    [bytes[0], bytes[1]] = field(sum).to_be_bytes();
    *bytes.last_chunk_mut()? = time;
    Some(())
}

/// The word that begins at that byte.
fn word(bytes: &[u8], at: usize) -> u32 {
    let pair = bytes.get(at..).and_then(<[u8]>::first_chunk);
    pair.map_or(0, |pair| u16::from_be_bytes(*pair)).into()
}

/// A checksum as UDP has it: 0 stands for none.
const fn field(checksum: u16) -> u16 {
    match checksum {
        0 => 0xffff,
        checksum => checksum,
    }
}

/// A frame of a stream that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamFrame {
    /// The address the frame was sent to.
    pub destination_mac: MacAddr,
    /// The address that the datagram was sent to.
    pub destination: IpAddr,
    /// Bytes of the VLAN tags that it has.
    pub tags: usize,
    /// Which it is.
    pub tag: StreamTag,
    /// When it was sent, of which 48 bits travel.
    sent: u64,
    /// The checksums are right: what it carries is what was sent.
    pub is_sound: bool,
}

impl StreamFrame {
    /// Reads `frame`, if it is one of a stream of `run`, without IPv4 options and IPv6 extension headers. `None` if it is another.
    #[inline]
    pub fn parse(frame: &[u8], run: u32) -> Option<StreamFrame> {
        let tags = tags_of(frame).count() * VLAN_TAG_LENGTH;
        let (destination_mac, _) = frame.split_first_chunk()?;
        let packet = frame.get(tags + ETHERNET_HEADER_LENGTH - 2..)?;
        let (ether_type, packet) = packet.split_first_chunk()?;
        let (destination, udp, is_head_sound) = match EtherType(u16::from_be_bytes(*ether_type)) {
            EtherType::IPV4 => {
                let (head, rest) = packet.split_first_chunk::<IPV4_HEADER_LENGTH>()?;
                let is_whole = head[6] & 0x3f == 0 && head[7] == 0;
                if head[0] != 0x45 || head[9] != PROTOCOL_UDP || !is_whole {
                    return None;
                }
                let total = usize::from(u16::from_be_bytes([head[2], head[3]]));
                let udp = rest.get(..total.checked_sub(IPV4_HEADER_LENGTH)?)?;
                let destination: [u8; 4] = *head.last_chunk()?;
                (IpAddr::from(destination), udp, checksum::of(head) == 0)
            }
            EtherType::IPV6 => {
                let (head, rest) = packet.split_first_chunk::<IPV6_HEADER_LENGTH>()?;
                if head[0] >> 4 != 6 || head[6] != PROTOCOL_UDP {
                    return None;
                }
                let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
                let destination: [u8; 16] = *head.last_chunk()?;
                (IpAddr::from(destination), rest.get(..length)?, true)
            }
            _ => return None,
        };
        let (header, payload) = udp.split_first_chunk::<UDP_HEADER_LENGTH>()?;
        let payload = payload.first_chunk::<STREAM_PAYLOAD>()?;
        let [s0, s1, s2, s3, s4, s5] = *payload.last_chunk()?;
        let tag = StreamTag::read(payload);
        if [header[2], header[3]] != STREAM_PORT.to_be_bytes() || tag.run != run {
            return None;
        }
        let is_sound = usize::from(u16::from_be_bytes([header[4], header[5]])) == udp.len() && {
            let addresses = packet.get(match destination {
                IpAddr::V4(_) => 12..IPV4_HEADER_LENGTH,
                IpAddr::V6(_) => 8..IPV6_HEADER_LENGTH,
            })?;
            checksum::of_parts(addresses, PROTOCOL_UDP, udp) == 0
        };
        Some(StreamFrame {
            destination_mac: MacAddr(*destination_mac),
            destination,
            tags,
            tag,
            sent: u64::from_be_bytes([0, 0, s0, s1, s2, s3, s4, s5]),
            is_sound: is_head_sound && is_sound,
        })
    }

    /// When it was sent, if it was received at `received`, 78 hours later at most.
    pub const fn sent(&self, received: Instant) -> Instant {
        let elapsed = received.as_nanos().wrapping_sub(self.sent) & ((1 << TIME_BITS) - 1);
        Instant::from_nanos(received.as_nanos().saturating_sub(elapsed))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::wire::tests::{A, B};
    use crate::wire::{EthernetFrame, Payload, UdpDatagram, Vlan, put_on};

    const SENT: Instant = Instant::from_nanos(0x0123_4567_89ab_cdef);

    /// One of IPv4, and one of IPv6.
    pub(in crate::wire) fn envelopes() -> [StreamEnvelope; 2] {
        let (source_mac, destination_mac) = (A, B);
        [
            StreamEnvelope::V4(Ipv4Envelope {
                source_mac,
                destination_mac,
                source: [10, 77, 0, 2].into(),
                destination: [10, 77, 0, 3].into(),
                time_to_live: 64,
                dscp: 46,
                dont_fragment: true,
                identification: 0,
            }),
            StreamEnvelope::V6(Ipv6Envelope {
                source_mac,
                destination_mac,
                source: "fd77::2".parse().unwrap(),
                destination: "fd77::3".parse().unwrap(),
                traffic_class: 46 << 2,
                hop_limit: 64,
            }),
        ]
    }

    fn tag(sequence: u64) -> StreamTag {
        StreamTag {
            run: 0xfedc_ba98,
            stream: 0x00c0_ffee,
            sequence,
        }
    }

    #[test]
    fn what_is_written_is_a_datagram_with_right_checksums_and_is_read_again() {
        for envelope in envelopes() {
            let template = StreamTemplate::new(envelope, 61_007).unwrap();
            let shortest = template.header_length() + STREAM_PAYLOAD;
            for length in [shortest, shortest + 1, 100, 313, 1514] {
                for sequence in [0, 1, 65_535, 65_536, (1 << 40) - 1] {
                    let mut buffer = [0xaa; 1600];
                    assert_eq!(
                        template.write(tag(sequence), length, &mut buffer),
                        Some(length)
                    );
                    stamp_stream(&mut buffer, template.header_length(), SENT).unwrap();
                    let frame = &buffer[..length];
                    let ethernet = EthernetFrame::parse(frame).unwrap();
                    let datagram = match ethernet.payload().unwrap() {
                        Payload::Ipv4(packet) => UdpDatagram::parse(&packet).unwrap(),
                        Payload::Ipv6(packet) => {
                            let offset = ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH;
                            UdpDatagram::parse_ipv6(&packet, &frame[offset..], offset).unwrap()
                        }
                        other => panic!("{other:?}"),
                    };
                    assert_eq!(
                        (datagram.source_port, datagram.destination_port),
                        (61_007, 9)
                    );
                    assert_eq!(datagram.payload.len(), length - template.header_length());
                    let read = StreamFrame::parse(frame, tag(0).run).unwrap();
                    assert!(read.is_sound);
                    assert_eq!((read.tag, read.tags), (tag(sequence), 0));
                    let later = Instant::from_nanos(SENT.as_nanos() + 1_234_567);
                    assert_eq!(read.sent(later), SENT);
                    assert_eq!(read.destination_mac, B);
                    assert_eq!(StreamFrame::parse(frame, 1), None);
                    let vlan: Vlan = "7.9".parse().unwrap();
                    buffer.copy_within(..length, vlan.length());
                    let tagged = put_on(Some(vlan), &mut buffer, length);
                    let read = StreamFrame::parse(&buffer[..tagged], tag(0).run).unwrap();
                    assert!(read.is_sound && read.tags == 8, "{read:?}");
                }
            }
            let mut buffer = [0; 1600];
            assert_eq!(template.write(tag(0), shortest - 1, &mut buffer), None);
            assert_eq!(template.write(tag(0), 1601, &mut buffer), None);
        }
    }

    #[test]
    fn a_byte_that_was_changed_shows_and_no_prefix_panics() {
        for envelope in envelopes() {
            let template = StreamTemplate::new(envelope, 61_000).unwrap();
            let mut buffer = [0; 200];
            let length = template.write(tag(9), 120, &mut buffer).unwrap();
            stamp_stream(&mut buffer, template.header_length(), SENT).unwrap();
            // Behind the Ethernet header, of IPv6 behind what no checksum covers.
            let from = match envelope {
                StreamEnvelope::V4(_) => ETHERNET_HEADER_LENGTH,
                StreamEnvelope::V6(_) => ETHERNET_HEADER_LENGTH + 8,
            };
            for at in from..length {
                buffer[at] ^= 0x10;
                let read = StreamFrame::parse(&buffer[..length], tag(0).run);
                assert!(read.is_none_or(|read| !read.is_sound), "byte {at}");
                buffer[at] ^= 0x10;
            }
            for cut in 0..length {
                let read = StreamFrame::parse(&buffer[..cut], tag(0).run);
                assert!(read.is_none(), "{cut}");
            }
        }
    }
}
