//! A VM that gets its address from a server, keeps it, and loses it.

use smoltcp::wire::{DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};

use super::*;
use crate::vm::ipv4::dhcp::{DECLINED_WAIT, REFUSED_WAIT};
use crate::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpKind, DhcpReply, EthernetFrame, Payload, UdpDatagram,
    write_udp,
};

const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const LEASED: Ipv4Addr = Ipv4Addr::new(10, 77, 5, 5);
const LEASE: u32 = 1_000;

fn client(probe: bool) -> Bench {
    let mut config = VmConfig::new(MAC, IP);
    config.ipv4.addressing = Addressing::Dhcp;
    config.ipv4.probe = probe;
    Bench::with(config)
}

/// The message to servers in the frame of `length` bytes: the message, and whether it was broadcast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Said {
    kind: DhcpKind,
    transaction: u32,
    source: Ipv4Addr,
    is_broadcast: bool,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    client: Ipv4Addr,
}

fn said(bench: &Bench, transmit: Option<Transmit>) -> Option<Said> {
    let frame = EthernetFrame::parse(&bench.buffer[..transmit?.length]).unwrap();
    let Payload::Ipv4(packet) = frame.payload().ok()? else {
        return None;
    };
    let datagram = UdpDatagram::parse(&packet).unwrap();
    assert_eq!(
        (datagram.source_port, datagram.destination_port),
        (DHCP_CLIENT_PORT, DHCP_SERVER_PORT)
    );
    let message = DhcpPacket::new_checked(datagram.payload).unwrap();
    let repr = DhcpRepr::parse(&message).unwrap();
    assert_eq!(repr.client_hardware_address, EthernetAddress(MAC.0));
    assert_eq!(repr.client_identifier, Some(EthernetAddress(MAC.0)));
    assert_eq!(
        frame.destination.is_multicast(),
        packet.destination.is_broadcast()
    );
    Some(Said {
        kind: repr.message_type,
        transaction: repr.transaction_id,
        source: packet.source,
        is_broadcast: packet.destination.is_broadcast(),
        requested: repr.requested_ip,
        server: repr.server_identifier,
        client: repr.client_ip,
    })
}

/// A server's message as a frame.
fn reply(kind: DhcpKind, transaction: u32, address: Ipv4Addr, lease: u32) -> Vec<u8> {
    let routers = [SERVER.octets(), [10, 77, 0, 254]].concat();
    let options = [DhcpOption {
        kind: 3,
        data: &routers,
    }];
    let repr = DhcpRepr {
        message_type: kind,
        transaction_id: transaction,
        secs: 0,
        client_hardware_address: EthernetAddress(MAC.0),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: address,
        server_ip: SERVER,
        router: None,
        subnet_mask: Some(Ipv4Addr::new(255, 255, 0, 0)),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(SERVER),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: Some(lease),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &options,
    };
    let mut frame = vec![0; 700];
    let envelope = envelope((SERVER_MAC, SERVER), (MAC, address));
    let fill = |space: &mut [u8]| {
        let length = repr.buffer_len();
        repr.emit(&mut DhcpPacket::new_unchecked(&mut space[..length]))
            .ok()?;
        Some(length)
    };
    let ports = (DHCP_SERVER_PORT, DHCP_CLIENT_PORT);
    let length = write_udp(&envelope, ports, 600, fill, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

impl Bench {
    fn hear(&mut self, now: Instant, frame: &[u8]) -> (Option<Said>, Option<Event>) {
        self.buffer[..frame.len()].copy_from_slice(frame);
        let reaction = self.vm.receive(now, &mut self.buffer, frame.len());
        (said(self, reaction.transmit), reaction.event)
    }

    fn speak(&mut self, now: Instant) -> Option<(Option<Said>, Option<Event>)> {
        let reaction = self.vm.poll(now, &mut self.buffer)?;
        Some((said(self, reaction.transmit), reaction.event))
    }

    /// Goes through offer and acknowledgement; the search begins at 0 and ends at `now`.
    fn lease(&mut self, now: Instant) -> Option<Event> {
        let (discover, _) = self.speak(ms(0)).unwrap();
        let transaction = discover.unwrap().transaction;
        self.hear(now, &reply(DhcpKind::Offer, transaction, LEASED, LEASE));
        self.hear(now, &reply(DhcpKind::Ack, transaction, LEASED, LEASE))
            .1
    }
}

#[test]
fn an_address_is_discovered_offered_requested_and_granted() {
    let mut bench = client(false);
    assert_eq!(
        (bench.vm.address(), bench.vm.is_configuring()),
        (None, true)
    );
    assert_eq!(
        bench.ping(ms(0)),
        "unresolved",
        "it has no address to ping from"
    );
    let (discover, event) = bench.speak(ms(0)).unwrap();
    let discover = discover.unwrap();
    let expected = Said {
        kind: DhcpKind::Discover,
        transaction: discover.transaction,
        source: Ipv4Addr::UNSPECIFIED,
        is_broadcast: true,
        requested: None,
        server: None,
        client: Ipv4Addr::UNSPECIFIED,
    };
    assert_eq!((discover, event), (expected, None));
    let offer = reply(DhcpKind::Offer, discover.transaction, LEASED, LEASE);
    let (request, event) = bench.hear(ms(100), &offer);
    let expected = Said {
        kind: DhcpKind::Request,
        requested: Some(LEASED),
        server: Some(SERVER),
        ..expected
    };
    assert_eq!((request, event), (Some(expected), None));
    let (nothing, event) = bench.hear(
        ms(200),
        &reply(DhcpKind::Ack, discover.transaction, LEASED, LEASE),
    );
    let elapsed = Duration::from_millis(200);
    let leased = Event::Leased {
        address: LEASED,
        elapsed,
    };
    assert_eq!((nothing, event), (None, Some(leased)));
    assert_eq!(
        (bench.vm.address(), bench.vm.is_configuring()),
        (Some(LEASED), false)
    );
    let asks = bench.ping(ms(300));
    assert_eq!(asks, "ARP request who-has 10.77.0.3 tell 10.77.5.5");
    bench
        .vm
        .redirect(bench.session, IpAddr::from([192, 0, 2, 1]));
    assert_eq!(
        bench.ping(ms(301)),
        "ARP request who-has 10.77.0.1 tell 10.77.5.5",
        "by the router"
    );
}

#[test]
fn silence_is_met_with_waits_that_double_and_a_request_without_an_answer_with_a_new_search() {
    let mut bench = client(false);
    let mut sent = Vec::new();
    let mut now = ms(0);
    for _ in 0..8 {
        now = now.max(bench.vm.poll_at().unwrap());
        let (said, _) = bench.speak(now).unwrap();
        sent.push((now.as_nanos() / 1_000_000, said.unwrap()));
    }
    assert!(sent.iter().all(|(_, said)| said.kind == DhcpKind::Discover));
    assert!(
        sent.iter()
            .all(|(_, said)| said.transaction == sent[0].1.transaction)
    );
    for (pair, seconds) in sent.windows(2).zip([4, 8, 16, 32, 64, 64, 64]) {
        let wait = pair[1].0 - pair[0].0;
        assert!(
            wait.abs_diff(seconds * 1_000) <= 1_000,
            "{wait} ms, not {seconds} s"
        );
    }
    let transaction = sent[0].1.transaction;
    bench.hear(now, &reply(DhcpKind::Offer, transaction, LEASED, LEASE));
    let mut kinds = Vec::new();
    for _ in 0..4 {
        now = now.max(bench.vm.poll_at().unwrap());
        kinds.push(bench.speak(now).unwrap().0.unwrap());
    }
    let expected = [
        DhcpKind::Request,
        DhcpKind::Request,
        DhcpKind::Request,
        DhcpKind::Discover,
    ];
    assert_eq!(
        kinds.iter().map(|said| said.kind).collect::<Vec<_>>(),
        expected
    );
    assert_ne!(kinds[3].transaction, transaction);
}

#[test]
fn a_lease_is_renewed_by_unicast_at_half_time_by_broadcast_at_seven_eighths_and_then_lost() {
    let mut bench = client(false);
    bench.lease(ms(0));
    let at = |seconds: u64| ms(seconds * 1_000);
    let mut said = Vec::new();
    loop {
        let now = bench.vm.poll_at().unwrap();
        match bench.speak(now).unwrap() {
            (Some(request), None) => said.push((now.as_nanos() / 1_000_000_000, request)),
            (None, Some(event)) => {
                assert_eq!(
                    (now, event),
                    (at(1_000), Event::LeaseLost { address: LEASED })
                );
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let times: Vec<_> = said
        .iter()
        .map(|(at, request)| (*at, request.is_broadcast))
        .collect();
    let unicast = [500, 687, 781, 841].map(|at| (at, false));
    let broadcast = [875, 937, 997].map(|at| (at, true));
    assert_eq!(times, [unicast.as_slice(), &broadcast].concat());
    for (_, request) in &said {
        assert_eq!(request.kind, DhcpKind::Request);
        assert_eq!((request.source, request.client), (LEASED, LEASED));
        assert_eq!((request.requested, request.server), (None, None));
    }
    assert_eq!(
        (bench.vm.address(), bench.vm.is_configuring()),
        (None, true)
    );
    let (again, _) = bench.speak(at(1_000)).unwrap();
    assert_eq!(again.map(|said| said.kind), Some(DhcpKind::Discover));
}

#[test]
fn a_renewal_that_is_granted_starts_the_lease_anew() {
    let mut bench = client(false);
    bench.lease(ms(0));
    let (request, _) = bench.speak(ms(500_000)).unwrap();
    let transaction = request.unwrap().transaction;
    let stray = reply(DhcpKind::Ack, transaction ^ 1, LEASED, LEASE);
    assert_eq!(
        ignored(bench.hear(ms(500_001), &stray).1),
        Ignored::UnexpectedDhcp
    );
    let ack = reply(DhcpKind::Ack, transaction, LEASED, LEASE);
    let renewed = Event::Renewed { address: LEASED };
    assert_eq!(bench.hear(ms(500_001), &ack), (None, Some(renewed)));
    assert_eq!(bench.vm.poll_at(), Some(ms(1_000_001)));
    assert_eq!(
        ignored(bench.hear(ms(500_002), &ack).1),
        Ignored::UnexpectedDhcp,
        "once only"
    );
}

#[test]
fn a_refusal_ends_what_it_refuses_and_the_search_begins_anew_after_a_moment() {
    let mut bench = client(false);
    let (discover, _) = bench.speak(ms(0)).unwrap();
    let transaction = discover.unwrap().transaction;
    bench.hear(ms(1), &reply(DhcpKind::Offer, transaction, LEASED, LEASE));
    let nak = reply(DhcpKind::Nak, transaction, Ipv4Addr::UNSPECIFIED, LEASE);
    assert_eq!(bench.hear(ms(2), &nak), (None, None));
    assert_eq!(bench.vm.poll_at(), Some(ms(2) + REFUSED_WAIT));

    let mut bench = client(false);
    bench.lease(ms(0));
    let (request, _) = bench.speak(ms(500_000)).unwrap();
    let transaction = request.unwrap().transaction;
    let nak = reply(DhcpKind::Nak, transaction, Ipv4Addr::UNSPECIFIED, LEASE);
    let lost = Event::LeaseLost { address: LEASED };
    assert_eq!(bench.hear(ms(500_001), &nak), (None, Some(lost)));
    assert_eq!(bench.vm.address(), None);
}

#[test]
fn an_address_that_turns_out_to_be_somebody_elses_is_declined() {
    let mut bench = client(true);
    assert!(matches!(bench.lease(ms(0)), Some(Event::Leased { .. })));
    assert_eq!(
        (bench.vm.address(), bench.vm.is_configuring()),
        (None, true),
        "it is probed for"
    );
    let (_, event) = bench.speak(ms(0)).unwrap();
    assert_eq!(event, None);
    assert!(
        bench
            .describe(42)
            .ends_with("who-has 10.77.5.5 tell 0.0.0.0")
    );
    let owner = arp(
        ArpPacket::REPLY,
        PEER_MAC,
        LEASED,
        Ipv4Addr::UNSPECIFIED,
        MAC,
    );
    let (decline, event) = bench.hear(ms(10), &owner);
    let conflict = Event::Conflict {
        address: LEASED.into(),
        mac: PEER_MAC,
    };
    assert_eq!(event, Some(conflict));
    let decline = decline.unwrap();
    assert_eq!(
        (
            decline.kind,
            decline.requested,
            decline.server,
            decline.is_broadcast
        ),
        (DhcpKind::Decline, Some(LEASED), Some(SERVER), true)
    );
    assert_eq!(bench.vm.poll_at(), Some(ms(10) + DECLINED_WAIT));
    assert!(bench.vm.is_configuring());

    let mut bench = client(true);
    bench.lease(ms(0));
    while bench.vm.address().is_none() {
        let now = bench.vm.poll_at().unwrap();
        bench.speak(now.max(ms(0)));
    }
    assert_eq!(bench.vm.address(), Some(LEASED), "nobody objected");
}

#[test]
fn messages_that_make_no_sense_are_counted_and_change_nothing() {
    let mut bench = client(false);
    let (discover, _) = bench.speak(ms(0)).unwrap();
    let transaction = discover.unwrap().transaction;
    let offer = reply(DhcpKind::Offer, transaction, LEASED, LEASE);
    let changed = |at: usize, value: u8| {
        let mut frame = offer.clone();
        frame[at] = value;
        frame[40..42].fill(0); // no UDP checksum
        frame
    };
    let message = 42;
    for (name, frame) in [
        (
            "another transaction",
            changed(message + 7, offer[message + 7] ^ 1),
        ),
        ("another client", changed(message + 33, 0xff)),
        ("no cookie", changed(message + 236, 0)),
        ("a request", changed(message, 1)),
        ("no host", changed(message + 16, 127)),
        ("a mask with holes", changed(message + 254, 1)),
    ] {
        let (said, event) = bench.hear(ms(1), &frame);
        let event = ignored(event);
        assert!(
            matches!(event, Ignored::UnexpectedDhcp | Ignored::Malformed(_)),
            "{name}: {event:?}"
        );
        assert_eq!(said, None, "{name}");
    }
    let (request, _) = bench.hear(ms(2), &offer);
    assert!(request.is_some());
    for (name, kind, address, lease) in [
        ("no time", DhcpKind::Ack, LEASED, 0),
        ("another address", DhcpKind::Ack, IP, LEASE),
        ("a second offer", DhcpKind::Offer, LEASED, LEASE),
    ] {
        let (said, event) = bench.hear(ms(3), &reply(kind, transaction, address, lease));
        assert_eq!(
            (said, ignored(event)),
            (None, Ignored::UnexpectedDhcp),
            "{name}"
        );
    }
    let for_ever = reply(DhcpKind::Ack, transaction, LEASED, u32::MAX);
    assert!(matches!(
        bench.hear(ms(4), &for_ever).1,
        Some(Event::Leased { .. })
    ));
    assert_eq!(bench.vm.poll_at(), None, "a lease for ever is not renewed");
}

#[test]
fn a_vm_without_a_client_says_that_nobody_listens() {
    let mut bench = Bench::new();
    let (sent, event) = bench.receive(ms(0), &reply(DhcpKind::Offer, 1, IP, LEASE));
    assert_eq!(ignored(event), Ignored::ClosedPort(DHCP_CLIENT_PORT));
    assert!(sent.is_some_and(|sent| sent.contains("ICMP type 3 code 3")));
}

proptest::proptest! {
    #[test]
    fn any_message_is_read_without_a_panic(
        noise in proptest::collection::vec(proptest::num::u8::ANY, 0..400), keep in 0usize..300
    ) {
        let mut frame = reply(DhcpKind::Ack, 1, LEASED, LEASE);
        let start = 42 + keep.min(frame.len() - 42);
        frame.truncate(start);
        frame.extend(noise);
        let _ = DhcpReply::parse(&frame[42..], 42);
    }
}
