//! TCP to a host that listens at no port. The segments are made, and the resets read, by etherparse.

use etherparse::{NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TcpHeader, ip_number};

use super::*;

const IP6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);

fn header(change: impl FnOnce(&mut TcpHeader)) -> TcpHeader {
    let mut header = TcpHeader::new(40_000, 80, 1_000, 1_024);
    change(&mut header);
    header
}

/// A frame to `destination`, over IPv6 or IPv4.
fn segment(destination: MacAddr, over_ipv6: bool, header: TcpHeader, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2(PEER_MAC.0, destination.0);
    let mut peer6 = IP6.octets();
    peer6[15] = 3;
    let step: PacketBuilderStep<TcpHeader> = if over_ipv6 {
        ethernet.ipv6(peer6, IP6.octets(), 64).tcp_header(header)
    } else {
        let ipv4 = ethernet.ipv4(PEER.octets(), IP.octets(), 64);
        ipv4.tcp_header(header)
    };
    step.write(&mut frame, payload).unwrap();
    frame
}

fn bench() -> Bench {
    Bench::with(ipv6::config())
}

#[test]
fn a_segment_to_a_closed_port_is_reset_as_rfc_9293_says() {
    // What the reset acknowledges, or with what sequence number it comes.
    let syn = header(|h| h.syn = true);
    let fin = header(|h| h.fin = true);
    let ack = header(|h| {
        h.ack = true;
        h.acknowledgment_number = 77;
    });
    let wrap = header(|h| {
        h.syn = true;
        h.sequence_number = u32::MAX;
    });
    for over_ipv6 in [false, true] {
        for (name, header, payload, expected) in [
            ("SYN", syn.clone(), &b""[..], (0, Some(1_001))),
            ("SYN with data", syn.clone(), b"abc", (0, Some(1_004))),
            ("FIN", fin.clone(), b"a", (0, Some(1_002))),
            ("nothing", header(|_| ()), b"", (0, Some(1_000))),
            ("ACK", ack.clone(), b"abc", (77, None)),
            ("SYN at the wrap", wrap.clone(), b"", (0, Some(0))),
        ] {
            let mut bench = bench();
            let frame = segment(MAC, over_ipv6, header, payload);
            bench.buffer[..frame.len()].copy_from_slice(&frame);
            let reaction = bench.vm.receive(ms(0), &mut bench.buffer, frame.len());
            assert_eq!(ignored(reaction.event), Ignored::ClosedPort(80), "{name}");
            let reply = &bench.buffer[..reaction.transmit.unwrap().length];
            let packet = SlicedPacket::from_ethernet(reply).unwrap();
            let tcp = match packet.transport {
                Some(etherparse::TransportSlice::Tcp(tcp)) => tcp,
                other => panic!("{name}: {other:?}"),
            };
            let sum = match packet.net {
                Some(NetSlice::Ipv4(ip)) => {
                    let (from, to) = (ip.header().source(), ip.header().destination());
                    tcp.calc_checksum_ipv4(from, to)
                }
                Some(NetSlice::Ipv6(ip)) => {
                    let (from, to) = (ip.header().source(), ip.header().destination());
                    tcp.calc_checksum_ipv6(from, to)
                }
                other => panic!("{name}: {other:?}"),
            };
            assert_eq!(sum, Ok(tcp.checksum()), "{name}");
            assert!(tcp.rst() && !tcp.syn() && !tcp.fin(), "{name}");
            let acknowledged = tcp.ack().then(|| tcp.acknowledgment_number());
            assert_eq!((tcp.sequence_number(), acknowledged), expected, "{name}");
            assert_eq!((tcp.source_port(), tcp.destination_port()), (80, 40_000));
        }
    }
}

#[test]
fn resets_are_not_counted_out_but_never_answer_a_reset_a_bad_segment_or_one_that_many_got() {
    let syn = || header(|h| h.syn = true);
    for over_ipv6 in [false, true] {
        let mut bench = bench();
        let frame = segment(MAC, over_ipv6, syn(), b"");
        let resets = (0..100).filter(|_| bench.receive(ms(0), &frame).0.is_some());
        assert_eq!(resets.count(), 100);

        let reset = segment(MAC, over_ipv6, header(|h| h.rst = true), b"");
        let everybody = segment(MacAddr::BROADCAST, over_ipv6, syn(), b"");
        for (name, frame) in [("a reset", reset), ("a broadcast", everybody)] {
            let (sent, event) = bench.receive(ms(0), &frame);
            assert_eq!(
                (sent, ignored(event)),
                (None, Ignored::ClosedPort(80)),
                "{name}"
            );
        }
        let upper = if over_ipv6 { 54 } else { 34 };
        for (name, at) in [("the checksum", 16), ("the header's length", 12)] {
            let mut bad = frame.clone();
            bad[upper + at] ^= 0x80;
            let (sent, event) = bench.receive(ms(0), &bad);
            assert_eq!(sent, None, "{name}");
            let Ignored::Malformed(error) = ignored(event) else {
                panic!("{name}: {event:?}")
            };
            assert_eq!((error.layer, error.offset), (Layer::Tcp, upper), "{name}");
        }
    }
    // IGMP, of a host that is in no group, is silent; a protocol that it does not have is not.
    let mut bench = bench();
    for (protocol, is_told) in [(ip_number::IGMP.0, false), (ip_number::SCTP.0, true)] {
        let mut frame = segment(MAC, false, syn(), b"");
        frame[23] = protocol;
        seal(&mut frame);
        let (sent, event) = bench.receive(ms(0), &frame);
        assert_eq!(sent.is_some(), is_told, "{protocol}");
        assert_eq!(ignored(event), Ignored::Protocol(protocol));
    }
}
