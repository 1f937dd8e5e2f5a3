//! The head of a frame of a stream, of which only the first bytes may be there, with nothing verified: for what looks at frames
//! that did not arrive.

use etherparse::EtherType;

use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::ipv4::{IPV4_HEADER_LENGTH, PROTOCOL_UDP};
use super::ipv6::IPV6_HEADER_LENGTH;
use super::mac::MacAddr;
use super::stream::{STREAM_PAYLOAD, STREAM_PORT, StreamTag};
use super::udp::UDP_HEADER_LENGTH;
use super::vlan::{VLAN_TAG_LENGTH, tags_of};

/// To whom a frame of a stream was sent, and which it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamHead {
    /// The address the frame was sent to.
    pub destination_mac: MacAddr,
    /// Which it is.
    pub tag: StreamTag,
}

impl StreamHead {
    /// Reads the first bytes of a frame, as [`StreamFrame::parse`](super::StreamFrame::parse) does. `None` if it is no such frame.
    pub fn parse(frame: &[u8]) -> Option<StreamHead> {
        let tags = tags_of(frame).count() * VLAN_TAG_LENGTH;
        let packet = frame.get(tags + ETHERNET_HEADER_LENGTH - 2..)?;
        let (ether_type, packet) = packet.split_first_chunk()?;
        let (protocol, header) = match EtherType(u16::from_be_bytes(*ether_type)) {
            EtherType::IPV4 if packet.first() == Some(&0x45) => {
                (*packet.get(9)?, IPV4_HEADER_LENGTH)
            }
            EtherType::IPV6 => (*packet.get(6)?, IPV6_HEADER_LENGTH),
            _ => return None,
        };
        let (udp, payload) = packet
            .get(header..)?
            .split_first_chunk::<UDP_HEADER_LENGTH>()?;
        let is_of_stream =
            protocol == PROTOCOL_UDP && [udp[2], udp[3]] == STREAM_PORT.to_be_bytes();
        let payload = payload.first_chunk::<STREAM_PAYLOAD>()?;
        is_of_stream.then_some(StreamHead {
            destination_mac: MacAddr(*frame.first_chunk()?),
            tag: StreamTag::read(payload),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::stream::tests::envelopes;
    use crate::wire::tests::B;
    use crate::wire::{StreamTemplate, Vlan, put_on};

    const TAG: StreamTag = StreamTag {
        run: 0xfedc_ba98,
        stream: 0x00c0_ffee,
        sequence: 0x12_3456_789a,
    };

    #[test]
    fn the_first_bytes_tell_which_frame_it_is_and_less_tell_nothing() {
        let expected = StreamHead {
            destination_mac: B,
            tag: TAG,
        };
        for envelope in envelopes() {
            let template = StreamTemplate::new(envelope, 61_000).unwrap();
            let mut frame = [0; 1600];
            template.write(TAG, 1500, &mut frame).unwrap();
            let needed = template.header_length() + STREAM_PAYLOAD;
            assert_eq!(StreamHead::parse(&frame[..needed]), Some(expected));
            for short in 0..needed {
                assert_eq!(StreamHead::parse(&frame[..short]), None, "{short} bytes");
            }
            let port = template.header_length() - 5;
            frame[port] = 7;
            assert_eq!(StreamHead::parse(&frame[..1500]), None, "another port");
            frame[port] = 9;
            let vlan: Vlan = "7.9".parse().unwrap();
            frame.copy_within(..1500, vlan.length());
            let tagged = put_on(Some(vlan), &mut frame, 1500);
            assert_eq!(StreamHead::parse(&frame[..tagged]), Some(expected));
        }
    }
}
