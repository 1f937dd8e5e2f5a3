//! One VM in a VLAN, frame by frame.

use super::*;
use crate::wire::Vlan;

/// A VM in `vlan`, with the same as peer.
fn bench(vlan: Option<&str>) -> Bench {
    let mut bench = Bench::with(VmConfig {
        vlan: vlan.map(|vlan| vlan.parse().unwrap()),
        ..VmConfig::new(MAC, IP)
    });
    bench.vm.add_neighbour(PEER.into(), PEER_MAC);
    bench
}

/// `frame` with the tags of `vlan`.
fn tagged(vlan: &str, frame: &[u8]) -> Vec<u8> {
    let vlan: Vlan = vlan.parse().unwrap();
    let mut bytes = vec![0; vlan.length()];
    bytes.extend(frame);
    vlan.put_on(&mut bytes).unwrap();
    bytes
}

#[test]
fn requests_and_replies_have_the_tags_of_its_vlan() {
    for vlan in ["100", "100.200"] {
        let mut bench = bench(Some(vlan));
        let sent = bench.ping(ms(0));
        let expected = format!(
            "VLAN {vlan}, IPv4 10.77.0.2 > 10.77.0.3, ICMP echo request id 0 seq 0 (16 bytes)"
        );
        assert_eq!(sent, expected);
        let reply = tagged(vlan, &bench.reply_to(0));
        let (_, event) = bench.receive(ms(1), &reply);
        assert!(matches!(
            outcome(event),
            Some((0, PingOutcome::Answered { .. }))
        ));

        let request = arp(ArpPacket::REQUEST, PEER_MAC, PEER, IP, MacAddr::BROADCAST);
        let (sent, _) = bench.receive(ms(2), &tagged(vlan, &request));
        let expected = format!("VLAN {vlan}, ARP reply 10.77.0.2 is-at 02:00:0a:4d:00:02");
        assert_eq!(sent, Some(expected));
    }
}

#[test]
fn frames_of_other_vlans_are_ignored_and_named() {
    let request = arp(ArpPacket::REQUEST, PEER_MAC, PEER, IP, MacAddr::BROADCAST);
    for (own, frame) in [
        (None, tagged("100", &request)),
        (Some("100"), request.clone()),
        (Some("100"), tagged("101", &request)),
        (Some("100"), tagged("100.200", &request)),
        (Some("100.200"), tagged("100", &request)),
        (Some("100.200"), tagged("100.201", &request)),
    ] {
        let (sent, event) = bench(own).receive(ms(0), &frame);
        assert_eq!((sent, ignored(event)), (None, Ignored::OtherVlan));
    }
}

#[test]
fn a_tag_that_tells_a_priority_only_is_no_vlan() {
    let request = arp(ArpPacket::REQUEST, PEER_MAC, PEER, IP, MacAddr::BROADCAST);
    let mut frame = tagged("1", &request);
    frame[14..16].copy_from_slice(&[0xe0, 0]);
    let (sent, _) = bench(None).receive(ms(0), &frame);
    let reply = "ARP reply 10.77.0.2 is-at 02:00:0a:4d:00:02";
    assert_eq!(sent.as_deref(), Some(reply), "untagged");
}

#[test]
fn faults_are_named_with_their_place_in_the_whole_frame() {
    let mut frame = tagged("100", &bench(None).reply_to(0));
    *frame.last_mut().unwrap() ^= 1;
    let (_, event) = bench(Some("100")).receive(ms(0), &frame);
    let Ignored::Malformed(error) = ignored(event) else {
        panic!("{event:?}");
    };
    assert_eq!(error.to_string(), "ICMP at byte 38: bad checksum");
}

#[test]
fn fragments_have_the_tags_too() {
    let mut bench = bench(Some("7"));
    let session = SessionConfig {
        destination: PEER.into(),
        probe: Probe::ICMP_ECHO,
        payload_length: 2000,
        timeout: TIMEOUT,
        options: PingOptions::default(),
    };
    bench.session = bench.vm.open_session(session).unwrap();
    assert!(bench.ping(ms(0)).starts_with("VLAN 7, IPv4"));
    let (sent, _) = bench.poll(ms(0)).unwrap();
    assert!(sent.unwrap().starts_with("VLAN 7, IPv4"));
}

#[test]
fn the_echo_message_in_a_frame_of_another_vlan_is_kept() {
    for (own, vlan) in [
        (None, "100"),
        (Some("100"), "101"),
        (Some("100"), "100.200"),
    ] {
        let mut bench = bench(own);
        bench.vm.keep_ignored_probes();
        let request = bench.echo(false, 7, 1, PEER, |payload| payload.fill(0x5a));
        for frame in [tagged(vlan, &request), request] {
            let expected = PingHead::parse(&frame);
            assert!(expected.is_some());
            let (_, event) = bench.receive(ms(0), &frame);
            // An untagged VM answers the untagged one.
            let kept = bench.vm.take_ignored_probe();
            assert_eq!(kept, event.and(expected), "{own:?} {vlan}");
        }
    }
}
