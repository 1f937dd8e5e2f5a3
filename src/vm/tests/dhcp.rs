//! A VM that gets its address from a server, keeps it, and loses it.

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};

use super::*;
use crate::vm::ipv4::dhcp::{DECLINED_WAIT, REFUSED_WAIT};
use crate::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, EthernetFrame, Payload, UdpDatagram, write_udp,
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
    kind: DhcpMessageType,
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

/// A message of the server, which a test may change.
fn spoken<'a>(kind: DhcpMessageType, transaction: u32, address: Ipv4Addr) -> DhcpRepr<'a> {
    DhcpRepr {
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
        lease_duration: Some(LEASE),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &ROUTERS,
    }
}

/// Two routers, the server and another.
const ROUTERS: [DhcpOption<'static>; 1] = [DhcpOption {
    kind: 3,
    data: &[10, 77, 0, 1, 10, 77, 0, 254],
}];

/// A server's message as a frame.
fn framed(repr: &DhcpRepr<'_>) -> Vec<u8> {
    let mut frame = vec![0; 1500];
    let envelope = envelope((SERVER_MAC, SERVER), (MAC, repr.your_ip));
    let fill = |space: &mut [u8]| {
        let length = repr.buffer_len();
        repr.emit(&mut DhcpPacket::new_unchecked(&mut space[..length]))
            .ok()?;
        Some(length)
    };
    let ports = (DHCP_SERVER_PORT, DHCP_CLIENT_PORT);
    let length = write_udp(&envelope, ports, 1400, fill, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

fn reply(kind: DhcpMessageType, transaction: u32, address: Ipv4Addr, lease: u32) -> Vec<u8> {
    framed(&DhcpRepr {
        lease_duration: Some(lease),
        ..spoken(kind, transaction, address)
    })
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

    /// Lets the server say something, which the VM does not act on.
    fn ignores(&mut self, now: Instant, repr: &DhcpRepr<'_>) -> Ignored {
        let (said, event) = self.hear(now, &framed(repr));
        assert_eq!(said, None);
        ignored(event)
    }

    /// Looks for an address, and returns its transaction.
    fn discover(&mut self) -> u32 {
        self.speak(ms(0)).unwrap().0.unwrap().transaction
    }

    /// Asks for the address that the server offers, and returns its transaction.
    fn request(&mut self) -> u32 {
        let transaction = self.discover();
        let offer = spoken(DhcpMessageType::Offer, transaction, LEASED);
        self.hear(ms(0), &framed(&offer)).0.unwrap();
        transaction
    }

    /// Gets an address, then asks for longer at `seconds`, and returns the transaction of that.
    fn renew(&mut self, seconds: u64) -> u32 {
        self.lease(ms(0));
        loop {
            let now = self.vm.poll_at().unwrap();
            let (said, _) = self.speak(now).unwrap();
            if let Some(said) = said
                && now >= ms(seconds * 1_000)
            {
                return said.transaction;
            }
        }
    }

    /// Goes through offer and acknowledgement; the search begins at 0 and ends at `now`.
    fn lease(&mut self, now: Instant) -> Option<Event> {
        let (discover, _) = self.speak(ms(0)).unwrap();
        let transaction = discover.unwrap().transaction;
        self.hear(
            now,
            &reply(DhcpMessageType::Offer, transaction, LEASED, LEASE),
        );
        self.hear(
            now,
            &reply(DhcpMessageType::Ack, transaction, LEASED, LEASE),
        )
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
        kind: DhcpMessageType::Discover,
        transaction: discover.transaction,
        source: Ipv4Addr::UNSPECIFIED,
        is_broadcast: true,
        requested: None,
        server: None,
        client: Ipv4Addr::UNSPECIFIED,
    };
    assert_eq!((discover, event), (expected, None));
    let offer = reply(DhcpMessageType::Offer, discover.transaction, LEASED, LEASE);
    let (request, event) = bench.hear(ms(100), &offer);
    let expected = Said {
        kind: DhcpMessageType::Request,
        requested: Some(LEASED),
        server: Some(SERVER),
        ..expected
    };
    assert_eq!((request, event), (Some(expected), None));
    let (nothing, event) = bench.hear(
        ms(200),
        &reply(DhcpMessageType::Ack, discover.transaction, LEASED, LEASE),
    );
    let elapsed = Duration::from_millis(200);
    let leased = Event::Leased {
        address: LEASED.into(),
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
    assert!(
        sent.iter()
            .all(|(_, said)| said.kind == DhcpMessageType::Discover)
    );
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
    bench.hear(
        now,
        &reply(DhcpMessageType::Offer, transaction, LEASED, LEASE),
    );
    let mut kinds = Vec::new();
    for _ in 0..4 {
        now = now.max(bench.vm.poll_at().unwrap());
        kinds.push(bench.speak(now).unwrap().0.unwrap());
    }
    let expected = [
        DhcpMessageType::Request,
        DhcpMessageType::Request,
        DhcpMessageType::Request,
        DhcpMessageType::Discover,
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
                    (
                        at(1_000),
                        Event::LeaseLost {
                            address: LEASED.into()
                        }
                    )
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
        assert_eq!(request.kind, DhcpMessageType::Request);
        assert_eq!((request.source, request.client), (LEASED, LEASED));
        assert_eq!((request.requested, request.server), (None, None));
    }
    assert_eq!(
        (bench.vm.address(), bench.vm.is_configuring()),
        (None, true)
    );
    let (again, _) = bench.speak(at(1_000)).unwrap();
    assert_eq!(again.map(|said| said.kind), Some(DhcpMessageType::Discover));
}

#[test]
fn a_renewal_that_is_granted_starts_the_lease_anew() {
    let mut bench = client(false);
    bench.lease(ms(0));
    let (request, _) = bench.speak(ms(500_000)).unwrap();
    let transaction = request.unwrap().transaction;
    let stray = reply(DhcpMessageType::Ack, transaction ^ 1, LEASED, LEASE);
    assert_eq!(
        ignored(bench.hear(ms(500_001), &stray).1),
        Ignored::UnexpectedDhcp
    );
    let ack = reply(DhcpMessageType::Ack, transaction, LEASED, LEASE);
    let renewed = Event::Renewed {
        address: LEASED.into(),
        previous: LEASED.into(),
    };
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
    bench.hear(
        ms(1),
        &reply(DhcpMessageType::Offer, transaction, LEASED, LEASE),
    );
    let nak = reply(
        DhcpMessageType::Nak,
        transaction,
        Ipv4Addr::UNSPECIFIED,
        LEASE,
    );
    assert_eq!(bench.hear(ms(2), &nak), (None, None));
    assert_eq!(bench.vm.poll_at(), Some(ms(2) + REFUSED_WAIT));

    let mut bench = client(false);
    bench.lease(ms(0));
    let (request, _) = bench.speak(ms(500_000)).unwrap();
    let transaction = request.unwrap().transaction;
    let nak = reply(
        DhcpMessageType::Nak,
        transaction,
        Ipv4Addr::UNSPECIFIED,
        LEASE,
    );
    let lost = Event::LeaseLost {
        address: LEASED.into(),
    };
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
        (DhcpMessageType::Decline, Some(LEASED), Some(SERVER), true)
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
    let transaction = bench.discover();
    let offer = reply(DhcpMessageType::Offer, transaction, LEASED, LEASE);
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
        ("another kind of network", changed(message + 1, 6)),
        ("a longer hardware address", changed(message + 2, 8)),
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
    assert!(bench.hear(ms(2), &offer).0.is_some());
}

#[test]
fn an_offer_or_a_grant_that_can_not_be_taken_is_told_by_its_reason() {
    use DhcpMessageType::{Ack, Offer};
    let address = |octets: [u8; 4]| Ipv4Addr::from(octets);
    let change = |kind, change: fn(&mut DhcpRepr<'static>)| {
        move |transaction| {
            let mut repr = spoken(kind, transaction, LEASED);
            change(&mut repr);
            repr
        }
    };
    for kind in [Offer, Ack] {
        for (repr, why) in [
            (
                change(kind, |repr| repr.lease_duration = None),
                Ignored::DhcpNoLeaseTime,
            ),
            (
                change(kind, |repr| repr.lease_duration = Some(0)),
                Ignored::DhcpNoLeaseTime,
            ),
            (
                change(kind, |repr| repr.your_ip = Ipv4Addr::UNSPECIFIED),
                Ignored::DhcpAddress,
            ),
            (
                change(kind, |repr| repr.your_ip = Ipv4Addr::LOCALHOST),
                Ignored::DhcpAddress,
            ),
            (
                change(kind, |repr| repr.your_ip = [239, 1, 2, 3].into()),
                Ignored::DhcpAddress,
            ),
            (
                change(kind, |repr| repr.your_ip = Ipv4Addr::BROADCAST),
                Ignored::DhcpAddress,
            ),
        ] {
            let mut bench = client(false);
            let transaction = match kind {
                Offer => bench.discover(),
                _ => bench.request(),
            };
            let repr = repr(transaction);
            assert_eq!(bench.ignores(ms(1), &repr), why, "{repr:?}");
            let sound = spoken(kind, transaction, LEASED);
            let (said, event) = bench.hear(ms(2), &framed(&sound));
            assert!(
                said.is_some() || event.is_some(),
                "then a sound one: {repr:?}"
            );
        }
    }
    for server in [None, Some(Ipv4Addr::UNSPECIFIED), Some(address([255; 4]))] {
        let mut bench = client(false);
        let transaction = bench.discover();
        let offer = DhcpRepr {
            server_identifier: server,
            ..spoken(Offer, transaction, LEASED)
        };
        assert_eq!(
            bench.ignores(ms(1), &offer),
            Ignored::DhcpNoServer,
            "{server:?}"
        );
    }
}

#[test]
fn only_the_chosen_server_counts_until_any_may_answer() {
    use DhcpMessageType::{Ack, Nak, Offer};
    let other = Some(Ipv4Addr::new(10, 77, 0, 99));
    type Ask = fn(&mut Bench) -> u32;
    let requesting: Ask = |bench| bench.request();
    let renewing: Ask = |bench| bench.renew(500);
    let rebinding: Ask = |bench| bench.renew(875);
    let leased = Event::Leased {
        address: LEASED.into(),
        elapsed: Duration::ZERO,
    };
    let renewed = Event::Renewed {
        address: LEASED.into(),
        previous: LEASED.into(),
    };
    let lost = Some(Event::LeaseLost {
        address: LEASED.into(),
    });
    let not_chosen = Some(Event::Ignored(Ignored::DhcpOtherServer));
    let unexpected = Some(Event::Ignored(Ignored::UnexpectedDhcp));
    for (state, ask, kind, server, expected) in [
        ("requesting", requesting, Ack, Some(SERVER), Some(leased)),
        ("requesting", requesting, Ack, None, Some(leased)),
        ("requesting", requesting, Ack, other, not_chosen),
        ("requesting", requesting, Nak, Some(SERVER), None),
        ("requesting", requesting, Nak, None, None),
        ("requesting", requesting, Nak, other, not_chosen),
        ("requesting", requesting, Offer, Some(SERVER), unexpected),
        ("requesting", requesting, Offer, other, not_chosen),
        ("renewing", renewing, Ack, Some(SERVER), Some(renewed)),
        ("renewing", renewing, Ack, None, Some(renewed)),
        ("renewing", renewing, Ack, other, not_chosen),
        ("renewing", renewing, Nak, Some(SERVER), lost),
        ("renewing", renewing, Nak, None, lost),
        ("renewing", renewing, Nak, other, not_chosen),
        ("renewing", renewing, Offer, Some(SERVER), unexpected),
        ("renewing", renewing, Offer, other, not_chosen),
        ("rebinding", rebinding, Ack, Some(SERVER), Some(renewed)),
        ("rebinding", rebinding, Ack, None, Some(renewed)),
        ("rebinding", rebinding, Ack, other, Some(renewed)),
        ("rebinding", rebinding, Nak, None, lost),
        ("rebinding", rebinding, Nak, other, lost),
        ("rebinding", rebinding, Offer, other, unexpected),
    ] {
        let mut bench = client(false);
        let transaction = ask(&mut bench);
        let now = match state {
            "requesting" => ms(0),
            "renewing" => ms(500_001),
            _ => ms(875_001),
        };
        let address = match kind {
            Nak => Ipv4Addr::UNSPECIFIED,
            _ => LEASED,
        };
        let repr = DhcpRepr {
            server_identifier: server,
            ..spoken(kind, transaction, address)
        };
        let heard = bench.hear(now, &framed(&repr));
        assert_eq!(heard, (None, expected), "{state}: {kind:?} of {server:?}");
    }
}

#[test]
fn a_vm_that_is_asking_nothing_minds_no_message() {
    use DhcpMessageType::{Ack, Nak, Offer};
    for kind in [Ack, Nak, Offer] {
        let mut bench = client(false);
        let early = spoken(kind, 0, LEASED);
        assert_eq!(bench.ignores(ms(0), &early), Ignored::UnexpectedDhcp);
        let transaction = bench.request();
        let ack = spoken(Ack, transaction, LEASED);
        assert!(bench.hear(ms(0), &framed(&ack)).1.is_some());
        for transaction in [0, transaction] {
            let late = spoken(kind, transaction, LEASED);
            assert_eq!(bench.ignores(ms(1), &late), Ignored::UnexpectedDhcp);
        }
        assert_eq!(bench.vm.address(), Some(LEASED));
    }
}

#[test]
fn however_short_the_times_of_a_server_requests_do_not_come_in_floods() {
    const SECONDS: u64 = 100;
    for (lease, t1, t2, most) in [
        (LEASE, Some(0), None, 0),
        (LEASE, None, Some(0), 0),
        (LEASE, Some(0), Some(0), 0),
        (LEASE, Some(0), Some(1), 0),
        (LEASE, Some(1), Some(1), 0),
        (LEASE, Some(1), Some(2), 100),
        (LEASE, Some(LEASE), Some(LEASE), 0),
        (1, None, None, 200),
        (1, Some(0), Some(0), 200),
        (1, Some(1), Some(1), 200),
        (2, Some(1), Some(1), 200),
        (u32::MAX, Some(0), Some(0), 0),
        (u32::MAX, Some(1), Some(2), 0),
        (u32::MAX - 1, Some(u32::MAX), Some(u32::MAX), 0),
    ] {
        let grant = |transaction| {
            let times = [(58, t1), (59, t2)]
                .map(|(kind, time): (u8, Option<u32>)| (kind, time.map(u32::to_be_bytes)));
            let options: Vec<_> = times
                .iter()
                .filter_map(|(kind, time)| Some(option(*kind, time.as_ref()?)))
                .collect();
            framed(&DhcpRepr {
                lease_duration: Some(lease),
                additional_options: &options,
                ..spoken(DhcpMessageType::Ack, transaction, LEASED)
            })
        };
        let mut bench = client(false);
        let transaction = bench.request();
        bench.hear(ms(0), &grant(transaction));
        let mut requests = 0;
        while let Some(now) = bench.vm.poll_at()
            && now <= ms(SECONDS * 1_000)
        {
            let (said, event) = bench.speak(now).unwrap();
            assert_eq!(event, None, "lost: {lease} {t1:?} {t2:?}");
            requests += 1;
            let (_, event) = bench.hear(now, &grant(said.unwrap().transaction));
            assert!(matches!(event, Some(Event::Renewed { .. })), "{event:?}");
        }
        assert!(
            requests <= most && (most == 0 || requests >= SECONDS / 2),
            "{requests} requests in {SECONDS} s: lease {lease} T1 {t1:?} T2 {t2:?}"
        );
    }
}

/// An option of a server's message.
const fn option(kind: u8, data: &[u8]) -> DhcpOption<'_> {
    DhcpOption { kind, data }
}

/// The neighbour that is asked for by ARP when the VM pings 192.0.2.1.
fn next_hop(bench: &mut Bench, now: Instant) -> String {
    bench
        .vm
        .redirect(bench.session, IpAddr::from([192, 0, 2, 1]));
    let said = bench.ping(now);
    let asked = said.strip_prefix("ARP request who-has ");
    asked
        .and_then(|rest| rest.split(' ').next())
        .unwrap_or(&said)
        .to_owned()
}

#[test]
fn a_way_to_other_networks_is_the_default_route_of_the_routes_or_else_the_router() {
    let router = option(3, &[10, 77, 0, 1]);
    for (name, options, expected) in [
        ("none", &[] as &[_], "unresolved"),
        ("a router", &[router], "10.77.0.1"),
        ("two routers", &ROUTERS, "10.77.0.1"),
        (
            "a default route beats a router",
            &[router, option(121, &[0, 10, 77, 0, 7])],
            "10.77.0.7",
        ),
        (
            "routes beat a router, and have no default one",
            &[router, option(121, &[24, 198, 51, 100, 10, 77, 0, 7])],
            "unresolved",
        ),
        (
            "the first of two default routes",
            &[option(121, &[0, 10, 77, 0, 7, 0, 10, 77, 0, 8])],
            "10.77.0.7",
        ),
        (
            "routes that make no sense count as none",
            &[router, option(121, &[33, 1, 1, 1, 1, 10, 77, 0, 7])],
            "10.77.0.1",
        ),
        (
            "a router outside the mask is asked for nevertheless",
            &[option(3, &[169, 254, 1, 1])],
            "169.254.1.1",
        ),
        (
            "a default route by somebody outside the mask",
            &[option(
                121,
                &[32, 169, 254, 1, 1, 0, 0, 0, 0, 0, 169, 254, 1, 1],
            )],
            "169.254.1.1",
        ),
        (
            "no host is a router",
            &[option(3, &[224, 0, 0, 1])],
            "unresolved",
        ),
        (
            "nor is the VM its own",
            &[option(3, &[10, 77, 5, 5])],
            "unresolved",
        ),
        (
            "one who can't be passed over",
            &[option(121, &[0, 127, 0, 0, 1, 0, 10, 77, 0, 8])],
            "10.77.0.8",
        ),
    ] {
        let mut bench = client(false);
        let transaction = bench.request();
        let ack = DhcpRepr {
            additional_options: options,
            ..spoken(DhcpMessageType::Ack, transaction, LEASED)
        };
        assert!(bench.hear(ms(1), &framed(&ack)).1.is_some(), "{name}");
        assert_eq!(next_hop(&mut bench, ms(1)), expected, "{name}");
    }
}

#[test]
fn the_link_carries_what_the_server_says_within_bounds() {
    for (mtu, expected) in [
        (None, 1500),
        (Some(0), 1500),
        (Some(67), 1500),
        (Some(68), 68),
        (Some(576), 576),
        (Some(1499), 1499),
        (Some(1500), 1500),
        (Some(1501), 1500),
        (Some(u16::MAX), 1500),
    ] {
        let mut bench = client(false);
        let transaction = bench.request();
        let data = mtu.unwrap_or(0).to_be_bytes();
        let options = [option(26, &data)];
        let ack = DhcpRepr {
            additional_options: if mtu.is_some() { &options } else { &[] },
            ..spoken(DhcpMessageType::Ack, transaction, LEASED)
        };
        bench.hear(ms(1), &framed(&ack));
        assert_eq!(bench.vm.ipv4.mtu(bench.vm.mtu), expected, "{mtu:?}");
        assert!(bench.vm.carries(14 + usize::from(expected)));
        assert!(!bench.vm.carries(15 + usize::from(expected)));
    }
}

#[test]
fn a_renewal_applies_all_that_it_brings() {
    let mut bench = client(false);
    let transaction = bench.renew(500);
    let later = Ipv4Addr::new(10, 88, 5, 6);
    let options = [option(3, &[10, 88, 0, 7]), option(26, &[5, 0x78])];
    let ack = DhcpRepr {
        subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        additional_options: &options,
        ..spoken(DhcpMessageType::Ack, transaction, later)
    };
    let renewed = Event::Renewed {
        address: later.into(),
        previous: LEASED.into(),
    };
    assert_eq!(
        bench.hear(ms(500_001), &framed(&ack)),
        (None, Some(renewed))
    );
    assert_eq!(
        (bench.vm.address(), bench.vm.ipv4.mtu(bench.vm.mtu)),
        (Some(later), 1400)
    );
    assert_eq!(
        bench.vm.ipv4.interface().map(|it| it.prefix_length),
        Some(24)
    );
    assert_eq!(next_hop(&mut bench, ms(500_001)), "10.88.0.7");

    // The next one brings no MTU, no router, and the mask of before.
    let now = ms(1_000_001);
    let said = loop {
        let at = bench.vm.poll_at().unwrap().max(ms(500_002));
        if let (Some(said), _) = bench.speak(at).unwrap_or_default() {
            break said;
        }
    };
    assert_eq!((said.client, said.source), (later, later));
    let ack = DhcpRepr {
        additional_options: &[],
        ..spoken(DhcpMessageType::Ack, said.transaction, later)
    };
    let renewed = Event::Renewed {
        address: later.into(),
        previous: later.into(),
    };
    assert_eq!(bench.hear(now, &framed(&ack)), (None, Some(renewed)));
    assert_eq!(
        (bench.vm.address(), bench.vm.ipv4.mtu(bench.vm.mtu)),
        (Some(later), 1500)
    );
    assert_eq!(
        bench.vm.ipv4.interface().map(|it| it.prefix_length),
        Some(16)
    );
    assert_eq!(next_hop(&mut bench, now), "unresolved");
}

#[test]
fn what_a_lease_brought_goes_with_it() {
    let options = [option(26, &[2, 0x40])];
    let mut bench = client(false);
    let transaction = bench.request();
    let ack = DhcpRepr {
        additional_options: &options,
        ..spoken(DhcpMessageType::Ack, transaction, LEASED)
    };
    bench.hear(ms(0), &framed(&ack));
    assert_eq!(bench.vm.ipv4.mtu(bench.vm.mtu), 576);
    loop {
        let now = bench.vm.poll_at().unwrap();
        if let (_, Some(event)) = bench.speak(now).unwrap() {
            assert_eq!(
                event,
                Event::LeaseLost {
                    address: LEASED.into()
                }
            );
            break;
        }
    }
    assert_eq!(bench.vm.ipv4.mtu(bench.vm.mtu), 1500);
}

#[test]
fn an_acknowledgement_of_another_address_than_the_offered_one_is_the_servers_last_word() {
    let mut bench = client(false);
    let transaction = bench.request();
    let ack = spoken(DhcpMessageType::Ack, transaction, IP);
    let leased = Event::Leased {
        address: IP.into(),
        elapsed: Duration::from_millis(1),
    };
    assert_eq!(bench.hear(ms(1), &framed(&ack)), (None, Some(leased)));
    assert_eq!(bench.vm.address(), Some(IP));
}

#[test]
fn a_lease_for_ever_is_not_renewed() {
    let mut bench = client(false);
    let transaction = bench.request();
    let for_ever = reply(DhcpMessageType::Ack, transaction, LEASED, u32::MAX);
    assert!(bench.hear(ms(4), &for_ever).1.is_some());
    assert_eq!(bench.vm.poll_at(), None);
}

#[test]
fn a_vm_without_a_client_says_that_nobody_listens() {
    let mut bench = Bench::new();
    let (sent, event) = bench.receive(ms(0), &reply(DhcpMessageType::Offer, 1, IP, LEASE));
    assert_eq!(ignored(event), Ignored::ClosedPort(DHCP_CLIENT_PORT));
    assert!(sent.is_some_and(|sent| sent.contains("ICMP type 3 code 3")));
}

#[test]
fn a_vm_that_stops_gives_its_address_back_once() {
    let mut bench = client(false);
    assert_eq!(bench.vm.leave(ms(0), &mut bench.buffer), None);
    bench.lease(ms(0));
    let transmit = bench.vm.leave(ms(1), &mut bench.buffer);
    let release = said(&bench, transmit).unwrap();
    let expected = Said {
        kind: DhcpMessageType::Release,
        transaction: release.transaction,
        source: LEASED,
        is_broadcast: false,
        requested: None,
        server: Some(SERVER),
        client: LEASED,
    };
    assert_eq!(release, expected);
    assert_eq!(bench.vm.leave(ms(1), &mut bench.buffer), None);
}
