//! Frames built and read back, damaged, and made of noise.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

mod dhcp;
mod dhcpv6;
mod ipv6;

pub(super) const A: MacAddr = MacAddr([2, 0, 10, 77, 0, 2]);
pub(super) const B: MacAddr = MacAddr([2, 0, 10, 77, 0, 3]);
const IP_A: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const IP_B: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

fn envelope() -> Ipv4Envelope {
    Ipv4Envelope {
        source_mac: A,
        destination_mac: B,
        source: IP_A,
        destination: IP_B,
        time_to_live: 64,
        dscp: 0,
        dont_fragment: false,
        identification: 1,
    }
}

fn request() -> EchoRequest {
    EchoRequest {
        envelope: envelope(),
        identifier: 7,
        sequence: 9,
    }
}

/// The identifier and the sequence number of [`write_echo4`] and [`write_echo6`].
pub(super) const ECHO: (u16, u16) = (5, 65_535);
/// The identification of the datagram of [`write_echo4`].
pub(super) const IDENTIFICATION: u16 = 9;

/// Writes an echo request from [`A`] to [`B`] with `payload` bytes of zeros, and returns its length.
pub(super) fn write_echo4(payload: usize, buffer: &mut [u8]) -> usize {
    let request = EchoRequest {
        envelope: Ipv4Envelope {
            identification: IDENTIFICATION,
            ..envelope()
        },
        identifier: ECHO.0,
        sequence: ECHO.1,
    };
    request.write(payload, |_| {}, buffer).unwrap()
}

/// The same over IPv6, from `fd77::2` to `fd77::3`.
pub(super) fn write_echo6(payload: usize, buffer: &mut [u8]) -> usize {
    let request = Icmpv6EchoRequest {
        envelope: Ipv6Envelope {
            source_mac: A,
            destination_mac: B,
            source: "fd77::2".parse().unwrap(),
            destination: "fd77::3".parse().unwrap(),
            traffic_class: 0,
            hop_limit: 64,
        },
        identifier: ECHO.0,
        sequence: ECHO.1,
    };
    request.write(payload, |_| {}, buffer).unwrap()
}

fn echo_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ECHO_FRAME_OVERHEAD + payload.len()];
    let length = request().write(payload.len(), |p| p.copy_from_slice(payload), &mut frame);
    assert_eq!(length, Some(frame.len()));
    frame
}

/// The error that a whole walk down the layers ends in.
fn walk(frame: &[u8]) -> Result<(), ParseError> {
    if let Payload::Ipv4(packet) = EthernetFrame::parse(frame)?.payload()?
        && packet.protocol == PROTOCOL_ICMP
    {
        IcmpMessage::parse(&packet)?;
    }
    Ok(())
}

/// The echo in `frame`: whether it is a request, the datagram, the message.
fn read_echo(frame: &[u8]) -> (bool, Ipv4Packet<'_>, Echo<'_>) {
    let Ok(Payload::Ipv4(packet)) = EthernetFrame::parse(frame).unwrap().payload() else {
        panic!("not IPv4: {}", Describe(frame))
    };
    match IcmpMessage::parse(&packet).unwrap() {
        IcmpMessage::EchoRequest(echo) => (true, packet, echo),
        IcmpMessage::EchoReply(echo) => (false, packet, echo),
        IcmpMessage::TimestampRequest
        | IcmpMessage::Error(_)
        | IcmpMessage::Redirect(_)
        | IcmpMessage::Other { .. } => {
            panic!("not an echo: {}", Describe(frame))
        }
    }
}

#[test]
fn a_request_becomes_its_reply_in_place() {
    let mut frame = echo_frame(b"payload of odd length");
    frame.extend_from_slice(&[0; 3]); // padding, as a short frame on a wire has
    let length = turn_into_echo_reply(&mut frame, IPV4_HEADER_LENGTH, B, 64, 1).unwrap();
    let ethernet = EthernetFrame::parse(&frame[..length]).unwrap();
    assert_eq!((ethernet.source, ethernet.destination), (B, A));
    let (is_request, packet, echo) = read_echo(&frame[..length]);
    assert!(!is_request);
    assert_eq!((packet.source, packet.destination), (IP_B, IP_A));
    assert_eq!(
        echo,
        Echo {
            identifier: 7,
            sequence: 9,
            payload: b"payload of odd length"
        }
    );
    assert_eq!(length, frame.len() - 3);
}

#[test]
fn the_reply_to_a_request_that_is_all_zeros_has_a_sound_checksum() {
    for payload in [&[][..], &[0], &[0; 56]] {
        let mut frame = vec![0; 200];
        let request = EchoRequest {
            identifier: 0,
            sequence: 0,
            ..request()
        };
        let length = request.write(payload.len(), |p| p.copy_from_slice(payload), &mut frame);
        let reply =
            turn_into_echo_reply(&mut frame[..length.unwrap()], IPV4_HEADER_LENGTH, B, 64, 1);
        let (is_request, _, echo) = read_echo(&frame[..reply.unwrap()]);
        assert!(!is_request);
        assert_eq!(
            echo,
            Echo {
                identifier: 0,
                sequence: 0,
                payload
            }
        );
    }
}

#[test]
fn each_kind_of_damage_is_named_with_its_layer() {
    let good = echo_frame(&[0x55; 8]);
    let damaged = |change: fn(&mut Vec<u8>)| {
        let mut frame = good.clone();
        change(&mut frame);
        walk(&frame).map_err(|e| e.to_string())
    };
    type Change = fn(&mut Vec<u8>);
    let cases: [(Change, &str); 9] = [
        (
            |f| f.truncate(13),
            "Ethernet at byte 0: 14 bytes needed, 13 present",
        ),
        (
            |f| f.truncate(33),
            "IPv4 at byte 14: 20 bytes needed, 19 present",
        ),
        (
            |f| f.truncate(40),
            "IPv4 at byte 14: 36 bytes needed, 26 present",
        ),
        (
            |f| f[14] = 0x65,
            "IPv4 at byte 14: bad version or header length",
        ),
        (
            |f| f[14] = 0x44,
            "IPv4 at byte 14: bad version or header length",
        ),
        (|f| f[17] = 19, "IPv4 at byte 14: bad total length"),
        (|f| f[22] ^= 1, "IPv4 at byte 14: bad checksum"),
        (|f| f[36] ^= 1, "ICMP at byte 34: bad checksum"),
        (
            |f| *f.last_mut().unwrap() ^= 1,
            "ICMP at byte 34: bad checksum",
        ),
    ];
    for (change, message) in cases {
        assert_eq!(damaged(change), Err(message.to_owned()));
    }
    assert_eq!(walk(&good), Ok(()));
}

#[test]
fn arp_for_other_networks_is_refused() {
    let mut good = [0; ARP_FRAME_LENGTH];
    let packet = ArpPacket {
        operation: ArpPacket::REQUEST,
        sender_mac: A,
        sender: IP_A,
        target_mac: MacAddr::ZERO,
        target: IP_B,
    };
    packet.write(MacAddr::BROADCAST, &mut good);
    for (byte, value, message) in [
        (15, 6, "ARP at byte 14: bad hardware type"),
        (16, 0x86, "ARP at byte 14: bad protocol type"),
        (18, 5, "ARP at byte 14: bad hardware address length"),
        (19, 3, "ARP at byte 14: bad protocol address length"),
    ] {
        let mut frame = good;
        frame[byte] = value;
        assert_eq!(walk(&frame).unwrap_err().to_string(), message);
    }
    assert_eq!(
        walk(&good[..41]).unwrap_err().to_string(),
        "ARP at byte 14: 28 bytes needed, 27 present"
    );
}

#[test]
fn frames_are_described_as_tcpdump_would() {
    let mut arp = [0; ARP_FRAME_LENGTH];
    let request = ArpPacket {
        operation: ArpPacket::REQUEST,
        sender_mac: A,
        sender: IP_A,
        target_mac: MacAddr::ZERO,
        target: IP_B,
    };
    request.write(MacAddr::BROADCAST, &mut arp);
    assert_eq!(
        Describe(&arp).to_string(),
        "02:00:0a:4d:00:02 > broadcast, ARP request who-has 10.77.0.3 tell 10.77.0.2"
    );
    assert_eq!(
        Describe(&echo_frame(&[0; 56])).to_string(),
        "02:00:0a:4d:00:02 > 02:00:0a:4d:00:03, IPv4 10.77.0.2 > 10.77.0.3, ICMP echo request id 7 seq 9 (56 bytes)"
    );
    assert_eq!(
        Describe(&[1]).to_string(),
        "malformed frame of 1 bytes (Ethernet at byte 0: 14 bytes needed, 1 present)"
    );
}

fn any_ip() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(mut frame in prop::collection::vec(any::<u8>(), 0..200), header_length in 0usize..70) {
        let _ = walk(&frame);
        let _ = Describe(&frame).to_string();
        let _ = turn_into_echo_reply(&mut frame, header_length, A, 64, 1);
    }

    #[test]
    fn noise_behind_a_good_start_is_read_without_a_panic(
        start in 0usize..50, noise in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        let mut frame = echo_frame(&[1; 8]);
        frame.truncate(start);
        frame.extend(noise);
        let _ = walk(&frame);
        let _ = Describe(&frame).to_string();
    }

    #[test]
    fn an_echo_built_is_the_echo_read(
        source in any_ip(), destination in any_ip(), identifier: u16, sequence: u16, time_to_live: u8,
        payload in prop::collection::vec(any::<u8>(), 0..1473)
    ) {
        let envelope = Ipv4Envelope { source, destination, time_to_live, ..envelope() };
        let request = EchoRequest { envelope, identifier, sequence };
        let mut frame = vec![0; 1600];
        let length = request.write(payload.len(), |p| p.copy_from_slice(&payload), &mut frame).unwrap();
        let (is_request, packet, echo) = read_echo(&frame[..length]);
        prop_assert!(is_request);
        prop_assert_eq!((packet.source, packet.destination, packet.time_to_live), (source, destination, time_to_live));
        prop_assert_eq!(echo, Echo { identifier, sequence, payload: &payload });
        let reply = turn_into_echo_reply(&mut frame[..length], IPV4_HEADER_LENGTH, B, 64, 1).unwrap();
        let (is_request, packet, echo) = read_echo(&frame[..reply]);
        prop_assert!(!is_request);
        prop_assert_eq!((packet.source, packet.destination), (destination, source));
        prop_assert_eq!(echo, Echo { identifier, sequence, payload: &payload });
    }

    #[test]
    fn an_arp_packet_built_is_the_one_read(
        operation: u16, sender_mac: [u8; 6], sender in any_ip(), target_mac: [u8; 6], target in any_ip()
    ) {
        let packet = ArpPacket {
            operation, sender_mac: MacAddr(sender_mac), sender, target_mac: MacAddr(target_mac), target
        };
        let mut frame = [0xaa; 60];
        prop_assert_eq!(packet.write(MacAddr::BROADCAST, &mut frame), Some(ARP_FRAME_LENGTH));
        let frame = EthernetFrame::parse(&frame).unwrap();
        let Ok(Payload::Arp(read)) = frame.payload() else { panic!("not ARP") };
        prop_assert_eq!(read, packet);
        prop_assert_eq!((frame.destination, frame.source), (MacAddr::BROADCAST, packet.sender_mac));
    }
}

#[test]
fn the_length_of_a_packet_is_known_from_its_head_whatever_tags_are_before_it() {
    let vlan: Vlan = "100.200".parse().unwrap();
    type Write = fn(usize, &mut [u8]) -> usize;
    for (write, heads) in [(write_echo4 as Write, 28), (write_echo6, 48)] {
        for vlan in [None, Some(vlan)] {
            let mut buffer = [0; 600];
            write(300, behind_tags(vlan, &mut buffer));
            put_on(vlan, &mut buffer, 0);
            assert_eq!(packet_length(&buffer[..64]), Some(300 + heads));
            for end in 0..30 {
                // Whatever is there of it.
                let _ = packet_length(&buffer[..end]);
            }
        }
    }
    let mut arp = [0; 60];
    let request = ArpPacket::request(A, [10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    request.write(B, &mut arp).unwrap();
    assert_eq!(packet_length(&arp), None);
}
