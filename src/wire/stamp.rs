//! STAMP (RFC 8762) in unauthenticated mode: test packets built, read, and turned into those that reflect them. Those of
//! TWAMP-Test and TWAMP Light (RFC 5357) have the same fields in the same places, and padding where STAMP has zeros.
//!
//! Read RFC 8762 section 4.2.1 and 4.3.1 first: "Session-Sender Packet Format", "Session-Reflector Packet Format".

use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::ipv4::{IPV4_HEADER_LENGTH, Ipv4Envelope};
use super::ipv6::{IPV6_HEADER_LENGTH, Ipv6Envelope};
use super::mac::MacAddr;
use super::udp::{UDP_HEADER_LENGTH, write_ipv6_udp, write_udp};

/// The port of reflectors (RFC 8762 section 4.1).
pub const STAMP_PORT: u16 = 862;

/// Bytes of a test packet without padding, in either direction.
pub const STAMP_LENGTH: usize = 44;

/// Bytes of the longest frame that reflects a test packet without padding.
pub const STAMP_REPLY_FRAME: usize =
    ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH + UDP_HEADER_LENGTH + STAMP_LENGTH;

/// Bytes of the shortest reflected packet, of TWAMP Light (RFC 5357 section 4.2.1).
const SHORTEST_REPLY: usize = SENDER_TTL + 1;

// Where the fields are.
const SEQUENCE: usize = 0;
const TIMESTAMP: usize = 4;
const ERROR_ESTIMATE: usize = 12;
const SESSION: usize = 14;
const RECEIVED: usize = 16;
const SENDER: usize = 24;
const SENDER_TTL: usize = 40;

/// Of timestamps by a clock of which nobody knows that it is synchronised (S is 0), in NTP's format (Z is 0): 2⁻¹⁰ s (scale 22,
/// multiplier 1; RFC 4656 section 4.1.2). A packet leaves within that time after it has been stamped, if nothing delays the program.
const ESTIMATE: [u8; 2] = [22, 1];

/// Padding as a field of its own (RFC 8972 section 4.1): flag U, type 1.
const EXTRA_PADDING: [u8; 2] = [0x80, 1];

/// A point in time in NTP's 64-bit format: seconds and fractions of 2⁻³² s (RFC 5905 section 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NtpTimestamp(pub u64);

impl NtpTimestamp {
    /// The time so many nanoseconds after 1970 (UTC). NTP's seconds begin anew in 2036.
    pub const fn of_unix(nanos: u64) -> NtpTimestamp {
        /// Seconds from 1900 to 1970.
        const TO_1970: u64 = 2_208_988_800;
        const SECOND: u64 = 1_000_000_000;
        let seconds = nanos / SECOND + TO_1970;
        let fraction = ((nanos % SECOND) << 32) / SECOND;
        NtpTimestamp(seconds << 32 | fraction)
    }
}

/// The number of a test packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StampNumber {
    /// The session's identifier (RFC 8972 section 3), less 1; `None` if the packet has none.
    pub session: Option<u16>,
    /// The packet's number in its session.
    pub sequence: u32,
}

impl StampNumber {
    /// Reads that of a test packet, which may be cut off behind it.
    pub fn of_request(payload: &[u8]) -> Option<StampNumber> {
        StampNumber::read(payload, SEQUENCE)
    }

    /// Reads that of the test packet which another reflects. Reflectors that know nothing of RFC 8972 leave the session out.
    pub fn of_reply(payload: &[u8]) -> Option<StampNumber> {
        StampNumber::read(payload, SENDER)
    }

    fn read(payload: &[u8], at: usize) -> Option<StampNumber> {
        let session = u16::from_be_bytes(*payload.get(SESSION..)?.first_chunk()?);
        Some(StampNumber {
            session: session.checked_sub(1),
            sequence: u32::from_be_bytes(*payload.get(at..)?.first_chunk()?),
        })
    }

    /// Tells if `payload` is what a reflector sends back for the packet with this number, if [`StampNumber::fill`] made that.
    pub fn is_reflected_by(&self, payload: &[u8]) -> bool {
        let sequence = StampNumber::of_reply(payload).map(|number| number.sequence);
        let estimate = payload.get(SENDER + ERROR_ESTIMATE..).unwrap_or_default();
        payload.len() >= SHORTEST_REPLY
            && sequence == Some(self.sequence)
            && estimate.first_chunk() == Some(&ESTIMATE)
    }

    /// Writes the test packet with this number into `payload`, all of it; what is behind the packet itself is padding. `None` if
    /// there is no room.
    pub fn fill(&self, timestamp: NtpTimestamp, payload: &mut [u8]) -> Option<()> {
        let (packet, padding) = payload.split_first_chunk_mut::<STAMP_LENGTH>()?;
        let session = self.session.map_or(0, |session| session.wrapping_add(1));
        *packet = [0; STAMP_LENGTH];
        put(packet, SEQUENCE, &self.sequence.to_be_bytes());
        put(packet, TIMESTAMP, &timestamp.0.to_be_bytes());
        put(packet, ERROR_ESTIMATE, &ESTIMATE);
        put(packet, SESSION, &session.to_be_bytes());
        // Zeros, whatever becomes of them.
        padding.fill(0);
        if let Some((head, value)) = padding.split_first_chunk_mut::<4>() {
            let [l0, l1] = (value.len() as u16).to_be_bytes();
            let [flags, kind] = EXTRA_PADDING;
            *head = [flags, kind, l0, l1];
        }
        Some(())
    }
}

/// What a reflector adds to a test packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reflection {
    /// The number of the reflected packet; `None` for that of the test packet.
    pub sequence: Option<u32>,
    /// When the test packet came.
    pub received: NtpTimestamp,
    /// When it is sent back.
    pub sent: NtpTimestamp,
}

impl Reflection {
    /// The packet that reflects `request`, which came with `time_to_live`, but for what is behind its fields. What the request
    /// lacks is 0.
    fn of(&self, request: &[u8], time_to_live: u8) -> [u8; STAMP_LENGTH] {
        let mut whole = [0; SESSION + 2];
        let length = request.len().min(whole.len());
        whole[..length].copy_from_slice(&request[..length]);
        let [s0, s1, s2, s3, .., i0, i1] = whole;
        let (sender, _) = whole.split_at(SESSION);
        let sequence = match self.sequence {
            Some(sequence) => sequence.to_be_bytes(),
            None => [s0, s1, s2, s3],
        };
        let mut packet = [0; STAMP_LENGTH];
        put(&mut packet, SEQUENCE, &sequence);
        put(&mut packet, TIMESTAMP, &self.sent.0.to_be_bytes());
        put(&mut packet, ERROR_ESTIMATE, &ESTIMATE);
        // Of TWAMP Light it is padding, which comes back as well.
        put(&mut packet, SESSION, &[i0, i1]);
        put(&mut packet, RECEIVED, &self.received.0.to_be_bytes());
        put(&mut packet, SENDER, sender);
        put(&mut packet, SENDER_TTL, &[time_to_live]);
        packet
    }
}

fn put(packet: &mut [u8; STAMP_LENGTH], at: usize, bytes: &[u8]) {
    if let Some(space) = packet.get_mut(at..at + bytes.len()) {
        space.copy_from_slice(bytes);
    }
}

/// Turns the test packet in the frame at the start of `buffer`, whose IPv4 header has no options, into the one that reflects it,
/// sent from `source_mac` with `time_to_live` and `identification`.
///
/// It is as long as the test packet, what is behind its fields copied, but [`STAMP_LENGTH`] bytes at least (RFC 8762 section 4.6).
/// Returns the frame's length, or `None` when there is no room, or no such frame.
pub fn turn_into_stamp_reply(
    buffer: &mut [u8],
    reflection: &Reflection,
    source_mac: MacAddr,
    time_to_live: u8,
    identification: u16,
) -> Option<usize> {
    const START: usize = ETHERNET_HEADER_LENGTH + IPV4_HEADER_LENGTH;
    const TIME_TO_LIVE: usize = ETHERNET_HEADER_LENGTH + 8;
    let received_with = *buffer.get(TIME_TO_LIVE)?;
    let envelope = Ipv4Envelope {
        identification,
        ..Ipv4Envelope::answering(buffer, source_mac, time_to_live)?
    };
    let (ports, payload) = datagram(buffer.get(START..)?)?;
    let packet = reflection.of(payload, received_with);
    let room = payload.len().max(STAMP_LENGTH);
    let fill = |space: &mut [u8]| {
        *space.first_chunk_mut()? = packet;
        Some(room)
    };
    write_udp(&envelope, ports, room, fill, buffer)
}

/// The same over IPv6, for a datagram that starts `offset` bytes into the frame. Extension headers are left out.
pub fn turn_into_ipv6_stamp_reply(
    buffer: &mut [u8],
    offset: usize,
    reflection: &Reflection,
    source_mac: MacAddr,
    hop_limit: u8,
) -> Option<usize> {
    const START: usize = ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH + UDP_HEADER_LENGTH;
    let (envelope, received_with) = Ipv6Envelope::answering(buffer, source_mac, hop_limit)?;
    let (ports, payload) = datagram(buffer.get(offset..)?)?;
    let reply = reflection.of(payload, received_with);
    let length = payload.len();
    let room = length.max(STAMP_LENGTH);
    let from = offset + UDP_HEADER_LENGTH;
    buffer.copy_within(from..from + length, START);
    let fill = |space: &mut [u8]| {
        *space.get_mut(..room)?.first_chunk_mut()? = reply;
        Some(room)
    };
    write_ipv6_udp(&envelope, ports, fill, buffer)
}

/// The ports of the answer to the datagram at the start of `bytes`, which has been verified, and the datagram's payload.
fn datagram(bytes: &[u8]) -> Option<((u16, u16), &[u8])> {
    let &[s0, s1, d0, d1, l0, l1, ..] = bytes else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let ports = (u16::from_be_bytes([d0, d1]), u16::from_be_bytes([s0, s1]));
    Some((ports, bytes.get(UDP_HEADER_LENGTH..length)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_counts_from_1900_and_anew_from_2036() {
        for (nanos, expected) in [
            (0, 0x83aa_7e80_0000_0000),
            // RFC 5905 figure 4.
            (946_684_799_500_000_000, 0xbc17_c1ff_8000_0000),
            (2_085_978_495_999_999_999, 0xffff_ffff_ffff_fffb),
            (2_085_978_496_000_000_000, 0),
        ] {
            assert_eq!(NtpTimestamp::of_unix(nanos), NtpTimestamp(expected));
        }
    }

    #[test]
    fn a_reflected_packet_has_the_fields_of_the_test_packet_and_of_the_reflector() {
        let number = StampNumber {
            session: Some(6),
            sequence: 0x0102_0304,
        };
        let mut payload = [0xff; 60];
        number.fill(NtpTimestamp(0x11 << 56), &mut payload).unwrap();
        assert_eq!(StampNumber::of_request(&payload), Some(number));
        let (head, padding) = payload.split_at(STAMP_LENGTH);
        assert_eq!(head[..4], [1, 2, 3, 4]);
        assert_eq!(head[12..16], [22, 1, 0, 7]);
        assert_eq!(head[16..], [0; 28]);
        assert_eq!(padding[..4], [0x80, 1, 0, 12]);
        for (sequence, expected) in [(None, number.sequence), (Some(9), 9)] {
            let reflection = Reflection {
                sequence,
                received: NtpTimestamp(0x22 << 56),
                sent: NtpTimestamp(0x33 << 56),
            };
            let packet = reflection.of(&payload, 61);
            assert_eq!(packet[..4], expected.to_be_bytes());
            assert_eq!((packet[4], packet[16], packet[28]), (0x33, 0x22, 0x11));
            assert_eq!(packet[14..16], [0, 7]);
            assert_eq!(packet[24..28], [1, 2, 3, 4]);
            assert_eq!(packet[36..], [22, 1, 0, 0, 61, 0, 0, 0]);
            assert_eq!(StampNumber::of_reply(&packet), Some(number));
            assert!(number.is_reflected_by(&packet));
            // As long as TWAMP Light's.
            assert!(number.is_reflected_by(&packet[..41]));
            assert!(!number.is_reflected_by(&packet[..40]));
            for at in [24, 27, 36, 37] {
                let mut damaged = packet;
                damaged[at] ^= 1;
                assert!(!number.is_reflected_by(&damaged), "{at}");
            }
        }
    }
}
