//! A VM that gets its IPv6 addresses from a server, keeps them, and loses them.

use std::net::Ipv6Addr;

use super::*;
use crate::vm::ipv6::dhcp::REFUSED_WAIT;
use crate::wire::{
    ALL_DHCPV6_SERVERS, ALL_NODES, DHCPV6_CLIENT_PORT, DHCPV6_SERVER_PORT, Dhcpv6Kind, Dhcpv6Reply,
    Dhcpv6Status, EthernetFrame, Ipv6Envelope, NeighbourAdvertisement, Payload, UdpDatagram,
    dhcpv6_identifier, link_local, multicast_mac, write_ipv6_udp,
};

const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
/// The identity association of the VM: what is peculiar to its hardware address.
const OWN: u32 = 0x0a4d_0002;
const FIRST: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
const SECOND: &[u8] = &[0, 2, 0, 0, 0x13, 0x88, 9];
const LEASED: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x149);
const LATER: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x150);

fn client(probe: bool) -> Bench {
    let mut config = VmConfig::new(MAC, IP);
    config.ipv6 = Some(Ipv6Config {
        interface: None,
        probe,
        slaac: false,
        dhcp: true,
        report: Duration::ZERO,
        gateway: None,
        announce: None,
    });
    let mut bench = Bench::with(config);
    let session = SessionConfig {
        destination: "fd77::9".parse().unwrap(),
        probe: Probe::ICMP_ECHO,
        payload_length: 16,
        timeout: TIMEOUT,
        options: PingOptions::default(),
    };
    bench.session = bench.vm.open_session(session).unwrap();
    bench
}

/// A message to servers.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Said {
    kind: Dhcpv6Kind,
    transaction: u32,
    server: Option<Vec<u8>>,
    addresses: Vec<Ipv6Addr>,
    /// In hundredths of a second.
    elapsed: u16,
}

fn said(frame: &[u8]) -> Option<Said> {
    let frame = EthernetFrame::parse(frame).unwrap();
    let Ok(Payload::Ipv6(packet)) = frame.payload() else {
        return None;
    };
    let offset = 54;
    if packet.next_header != 17 {
        return None;
    }
    let datagram = UdpDatagram::parse_ipv6(&packet, packet.payload, offset).unwrap();
    let ports = (datagram.source_port, datagram.destination_port);
    assert_eq!(ports, (DHCPV6_CLIENT_PORT, DHCPV6_SERVER_PORT));
    assert_eq!(frame.destination, multicast_mac(ALL_DHCPV6_SERVERS));
    assert_eq!(
        (packet.source, packet.destination),
        (link_local(MAC), ALL_DHCPV6_SERVERS)
    );
    let message = Dhcpv6Reply::parse(datagram.payload, 0).unwrap();
    assert_eq!(message.client, Some(&dhcpv6_identifier(MAC)[..]));
    let [association] = &message.associations[..] else {
        panic!("{message:?}");
    };
    assert_eq!(association.id, OWN);
    let elapsed = datagram.payload.windows(4).position(|w| w == [0, 8, 0, 2]);
    let at = elapsed.unwrap() + 4;
    Some(Said {
        kind: message.kind,
        transaction: message.transaction,
        server: message.server.map(Vec::from),
        addresses: association.addresses.iter().map(|a| a.address).collect(),
        elapsed: u16::from_be_bytes([datagram.payload[at], datagram.payload[at + 1]]),
    })
}

fn option(code: u16, content: &[u8]) -> Vec<u8> {
    let length = content.len() as u16;
    [&code.to_be_bytes()[..], &length.to_be_bytes(), content].concat()
}

fn status(code: u16) -> Vec<u8> {
    option(13, &code.to_be_bytes())
}

fn address(address: Ipv6Addr, preferred: u32, valid: u32) -> Vec<u8> {
    let lifetimes = [preferred.to_be_bytes(), valid.to_be_bytes()].concat();
    option(5, &[&address.octets()[..], &lifetimes].concat())
}

fn association(id: u32, t1: u32, t2: u32, options: &[Vec<u8>]) -> Vec<u8> {
    let times = [id.to_be_bytes(), t1.to_be_bytes(), t2.to_be_bytes()].concat();
    option(3, &[times, options.concat()].concat())
}

/// The association of a lease of 1,000 s.
fn usual() -> Vec<u8> {
    association(OWN, 0, 0, &[address(LEASED, 1_000, 2_000)])
}

/// A message of a server.
#[derive(Clone)]
struct Spoken {
    kind: u8,
    transaction: u32,
    client: Option<Vec<u8>>,
    server: Option<Vec<u8>>,
    options: Vec<u8>,
}

const ADVERTISE: u8 = 2;
const REPLY: u8 = 7;

impl Spoken {
    /// The answer of the first server to `said`, with these options.
    fn to(said: &Said, kind: u8, options: &[Vec<u8>]) -> Spoken {
        Spoken {
            kind,
            transaction: said.transaction,
            client: Some(dhcpv6_identifier(MAC).to_vec()),
            server: Some(FIRST.to_vec()),
            options: options.concat(),
        }
    }

    fn by(self, server: &[u8]) -> Spoken {
        let server = Some(server.to_vec());
        Spoken { server, ..self }
    }

    fn message(&self) -> Vec<u8> {
        let [_, a, b, c] = self.transaction.to_be_bytes();
        let mut message = vec![self.kind, a, b, c];
        for (code, identifier) in [(1, &self.client), (2, &self.server)] {
            if let Some(identifier) = identifier {
                message.extend(option(code, identifier));
            }
        }
        message.extend(&self.options);
        message
    }

    fn frame(&self) -> Vec<u8> {
        let message = self.message();
        let envelope = Ipv6Envelope {
            source_mac: SERVER_MAC,
            destination_mac: MAC,
            source: link_local(SERVER_MAC),
            destination: link_local(MAC),
            traffic_class: 0,
            hop_limit: 64,
        };
        let fill = |space: &mut [u8]| {
            space[..message.len()].copy_from_slice(&message);
            Some(message.len())
        };
        let ports = (DHCPV6_SERVER_PORT, DHCPV6_CLIENT_PORT);
        let mut frame = vec![0; 3000];
        let length = write_ipv6_udp(&envelope, ports, fill, &mut frame).unwrap();
        frame.truncate(length);
        frame
    }
}

/// Something that a VM does about its addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Did {
    Said(Said),
    Told(Event),
}

impl Bench {
    fn hear6(&mut self, now: Instant, spoken: &Spoken) -> (Option<Said>, Option<Event>) {
        let frame = spoken.frame();
        self.buffer[..frame.len()].copy_from_slice(&frame);
        let reaction = self.vm.receive(now, &mut self.buffer, frame.len());
        let sent = reaction.transmit;
        (
            sent.and_then(|transmit| said(&self.buffer[..transmit.length])),
            reaction.event,
        )
    }

    /// Lets the VM do what is due until it sends a message to servers or tells of something; returns when that was.
    fn next6(&mut self) -> (Instant, Did) {
        for _ in 0..100 {
            let now = self.vm.poll_at().unwrap();
            let Some(reaction) = self.vm.poll(now, &mut self.buffer) else {
                continue;
            };
            if let Some(event) = reaction.event {
                return (now, Did::Told(event));
            }
            let sent = reaction.transmit;
            if let Some(said) = sent.and_then(|sent| said(&self.buffer[..sent.length])) {
                return (now, Did::Said(said));
            }
        }
        panic!("it says nothing");
    }

    fn says(&mut self) -> (Instant, Said) {
        match self.next6() {
            (now, Did::Said(said)) => (now, said),
            (now, Did::Told(event)) => panic!("{event:?} at {now:?}"),
        }
    }

    /// Solicits, and takes the advertisement of the first server, which is to be asked at once. Returns the request.
    fn requests(&mut self) -> (Instant, Said) {
        let (now, solicit) = self.says();
        let spoken = Spoken::to(&solicit, ADVERTISE, &[usual(), option(7, &[255])]);
        let (request, event) = self.hear6(now, &spoken);
        assert_eq!(event, None);
        (now, request.unwrap())
    }

    /// Gets that lease; returns when.
    fn leases(&mut self, options: &[Vec<u8>]) -> Instant {
        let (now, request) = self.requests();
        let (_, event) = self.hear6(now, &Spoken::to(&request, REPLY, options));
        assert!(matches!(event, Some(Event::Leased { .. })), "{event:?}");
        now
    }

    /// Gets a usual lease and asks for longer; returns when, and the question.
    fn renews(&mut self) -> (Instant, Said) {
        self.leases(&[usual()]);
        self.says()
    }

    fn global(&self) -> Vec<Ipv6Addr> {
        let addresses = self.vm.ipv6_addresses();
        addresses.filter(|a| !a.is_unicast_link_local()).collect()
    }
}

fn seconds(from: Instant, to: Instant) -> f64 {
    (to - from).as_secs_f64()
}

#[test]
fn an_address_is_solicited_advertised_requested_and_granted() {
    let mut bench = client(false);
    assert!(bench.vm.is_configuring() && bench.vm.lacks_address());
    assert_eq!(bench.ping(ms(0)), "unresolved", "it has no address");
    let (began, solicit) = bench.says();
    assert!(began <= ms(1_000));
    let expected = Said {
        kind: Dhcpv6Kind::Solicit,
        transaction: solicit.transaction,
        server: None,
        addresses: Vec::new(),
        elapsed: 0,
    };
    assert_eq!(solicit, expected);
    let advertise = Spoken::to(&solicit, ADVERTISE, &[usual()]);
    // Others may be better.
    assert_eq!(
        bench.hear6(began + REFUSED_WAIT / 2, &advertise),
        (None, None)
    );
    let (asked, request) = bench.says();
    assert!((1.0..=1.1).contains(&seconds(began, asked)));
    let expected = Said {
        kind: Dhcpv6Kind::Request,
        transaction: request.transaction,
        server: Some(FIRST.to_vec()),
        addresses: vec![LEASED],
        elapsed: 0,
    };
    assert_eq!(request, expected);
    assert_ne!(request.transaction, solicit.transaction);
    let granted = asked + Duration::from_millis(100);
    let (nothing, event) = bench.hear6(granted, &Spoken::to(&request, REPLY, &[usual()]));
    let leased = Event::Leased {
        address: LEASED.into(),
        elapsed: granted - began,
    };
    assert_eq!((nothing, event), (None, Some(leased)));
    assert_eq!(bench.global(), [LEASED]);
    assert_eq!(bench.vm.leased_address(LATER.into()), Some(LEASED.into()));
    assert!(!bench.vm.lacks_address());
    // The server says nothing of who is on the link.
    assert_eq!(bench.ping(granted), "unresolved");
}

#[test]
fn solicitations_go_on_with_waits_that_double_up_to_what_servers_say() {
    for (limit, most) in [(None, 3600.0), (Some(60u32), 60.0)] {
        let mut bench = client(false);
        let (mut before, solicit) = bench.says();
        if let Some(limit) = limit {
            // It counts although the server has no address.
            let options = [status(2), option(82, &limit.to_be_bytes())];
            let (_, event) = bench.hear6(before, &Spoken::to(&solicit, ADVERTISE, &options));
            let status = Dhcpv6Status::NO_ADDRESSES;
            let ignored = Event::Ignored(Ignored::DhcpStatus(status));
            assert_eq!(event, Some(ignored));
        }
        let first = before;
        for round in 0..16 {
            let (now, said) = bench.says();
            assert_eq!(said.kind, Dhcpv6Kind::Solicit);
            assert_eq!(said.transaction, solicit.transaction);
            let elapsed = (seconds(first, now) * 100.0).min(65_535.0) as u16;
            assert!(said.elapsed.abs_diff(elapsed) <= 1);
            let wait = seconds(before, now);
            let around = 2f64.powi(round);
            // Each wait strays by a tenth of the one before.
            let is_doubled = (around * 0.5..=around * 2.0).contains(&wait) && wait <= most * 1.1;
            assert!(
                is_doubled || (most * 0.9..=most * 1.1).contains(&wait),
                "{wait}"
            );
            before = now;
        }
    }
}

#[test]
fn the_server_that_is_preferred_most_is_asked_and_later_the_first_that_answers() {
    let advertised = |solicit: &Said, server: &[u8], preference: Option<u8>| {
        let mut options = vec![usual()];
        options.extend(preference.map(|preference| option(7, &[preference])));
        Spoken::to(solicit, ADVERTISE, &options).by(server)
    };
    for (first, second, chosen, at_once) in [
        (None, None, FIRST, false),
        (None, Some(1), SECOND, false),
        (Some(2), Some(1), FIRST, false),
        (Some(1), Some(1), FIRST, false),
        (Some(254), Some(255), SECOND, true),
        (Some(255), Some(255), FIRST, true),
    ] {
        let mut bench = client(false);
        let (now, solicit) = bench.says();
        let mut request = None;
        for (server, preference) in [(FIRST, first), (SECOND, second)] {
            let (sent, _) = bench.hear6(now, &advertised(&solicit, server, preference));
            request = request.or(sent);
        }
        assert_eq!(request.is_some(), at_once, "{first:?} {second:?}");
        let request = request.unwrap_or_else(|| bench.says().1);
        assert_eq!(request.kind, Dhcpv6Kind::Request);
        assert_eq!(
            request.server.as_deref(),
            Some(chosen),
            "{first:?} {second:?}"
        );
    }
    // Once the first wait is over, nobody is waited for.
    let mut bench = client(false);
    bench.says();
    let (now, solicit) = bench.says();
    let (request, _) = bench.hear6(now, &advertised(&solicit, SECOND, None));
    assert_eq!(request.unwrap().server.as_deref(), Some(SECOND));
}

#[test]
fn advertisements_that_cannot_be_taken_are_told_and_the_search_goes_on() {
    let refused = |status: u16| Ignored::DhcpStatus(Dhcpv6Status(status));
    let with = |options: &[Vec<u8>]| options.concat();
    let of = |options: &[Vec<u8>]| association(OWN, 0, 0, options);
    let good = address(LEASED, 1_000, 2_000);
    let cases: Vec<(&str, Vec<u8>, Ignored)> = vec![
        (
            "no addresses at all",
            with(&[status(2), usual()]),
            refused(2),
        ),
        ("failure", with(&[status(1), usual()]), refused(1)),
        (
            "an unknown status",
            with(&[status(999), usual()]),
            refused(999),
        ),
        ("no addresses", of(&[status(2)]), refused(2)),
        ("no association", with(&[]), Ignored::DhcpNoAddress),
        (
            "another association",
            association(OWN + 1, 0, 0, std::slice::from_ref(&good)),
            Ignored::DhcpNoAddress,
        ),
        ("no address in it", of(&[]), Ignored::DhcpNoAddress),
        (
            "T1 later than T2",
            association(OWN, 9, 8, std::slice::from_ref(&good)),
            Ignored::DhcpLifetimes,
        ),
        (
            "preferred for longer than valid",
            of(&[address(LEASED, 2_001, 2_000)]),
            Ignored::DhcpLifetimes,
        ),
        (
            "for no time",
            of(&[address(LEASED, 0, 0)]),
            Ignored::DhcpNoLeaseTime,
        ),
        (
            "a group",
            of(&[address("ff02::1".parse().unwrap(), 9, 9)]),
            Ignored::DhcpAddress,
        ),
        (
            "nobody's address",
            of(&[address(Ipv6Addr::UNSPECIFIED, 9, 9)]),
            Ignored::DhcpAddress,
        ),
        (
            "a link-local address",
            of(&[address("fe80::9".parse().unwrap(), 9, 9)]),
            Ignored::DhcpAddress,
        ),
        (
            "loopback",
            of(&[address(Ipv6Addr::LOCALHOST, 9, 9)]),
            Ignored::DhcpAddress,
        ),
    ];
    for (name, options, expected) in cases {
        let mut bench = client(false);
        let (now, solicit) = bench.says();
        let spoken = Spoken::to(&solicit, ADVERTISE, &[option(7, &[255]), options]);
        let (sent, event) = bench.hear6(now, &spoken);
        assert_eq!(
            (sent, event),
            (None, Some(Event::Ignored(expected))),
            "{name}"
        );
        let (_, again) = bench.says();
        assert_eq!(again.kind, Dhcpv6Kind::Solicit, "{name}");
    }
}

#[test]
fn messages_that_are_not_the_answer_to_what_was_asked_are_ignored() {
    let unexpected = Ignored::UnexpectedDhcp;
    /// What is wrong with a message.
    type Change = fn(&mut Spoken);
    let wrong: [(&str, Change, Ignored); 8] = [
        ("another transaction", |s| s.transaction ^= 1, unexpected),
        ("no client", |s| s.client = None, unexpected),
        (
            "another client",
            |s| s.client.as_mut().unwrap()[9] ^= 1,
            unexpected,
        ),
        (
            "a longer client",
            |s| s.client.as_mut().unwrap().push(0),
            unexpected,
        ),
        ("no server", |s| s.server = None, Ignored::DhcpNoServer),
        ("a solicitation", |s| s.kind = 1, unexpected),
        ("a reconfiguration", |s| s.kind = 10, unexpected),
        (
            "the other kind of answer",
            |s| s.kind ^= ADVERTISE ^ REPLY,
            unexpected,
        ),
    ];
    let another = (
        "another server",
        (|s| s.server = Some(SECOND.to_vec())) as Change,
        Ignored::DhcpOtherServer,
    );
    for (name, change, expected) in wrong.into_iter().chain([another]) {
        for step in [Dhcpv6Kind::Solicit, Dhcpv6Kind::Request, Dhcpv6Kind::Renew] {
            let mut bench = client(false);
            let (now, asked) = match step {
                Dhcpv6Kind::Solicit => bench.says(),
                Dhcpv6Kind::Request => bench.requests(),
                _ => bench.renews(),
            };
            let kind = if step == Dhcpv6Kind::Solicit {
                // Any server's advertisement counts.
                if expected == Ignored::DhcpOtherServer {
                    continue;
                }
                ADVERTISE
            } else {
                REPLY
            };
            let options = [usual(), option(7, &[255]), option(14, &[])];
            let good = Spoken::to(&asked, kind, &options);
            let mut bad = good.clone();
            change(&mut bad);
            let before = bench.global();
            let (sent, event) = bench.hear6(now, &bad);
            let ignored = Some(Event::Ignored(expected));
            assert_eq!((sent, event), (None, ignored), "{name} to {step}");
            assert_eq!(bench.global(), before, "{name} to {step}");
            let (sent, event) = bench.hear6(now, &good);
            let is_taken = sent.is_some() || !matches!(event, None | Some(Event::Ignored(_)));
            assert!(is_taken, "{name} to {step}: {event:?}");
        }
    }
    // One of an exchange that is over, and one that nobody asked for.
    let mut bench = client(false);
    let (now, request) = bench.requests();
    let reply = Spoken::to(&request, REPLY, &[usual()]);
    bench.hear6(now, &reply);
    let (_, event) = bench.hear6(now, &reply);
    assert_eq!(event, Some(Event::Ignored(unexpected)));
    // A relay's, which is built otherwise.
    let mut relayed = reply;
    relayed.kind = 13;
    let (_, event) = bench.hear6(now, &relayed);
    assert!(matches!(event, Some(Event::Ignored(Ignored::Malformed(_)))));
}

#[test]
fn a_request_without_an_answer_is_given_up_after_ten_times() {
    let mut bench = client(false);
    let (began, request) = bench.requests();
    let mut sent = vec![(began, request)];
    let again = loop {
        let (now, said) = bench.says();
        if said.kind == Dhcpv6Kind::Solicit {
            break (now, said);
        }
        sent.push((now, said));
    };
    assert_eq!(sent.len(), 10);
    for (pair, expected) in sent.windows(2).zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]) {
        let wait = seconds(pair[0].0, pair[1].0);
        assert!((expected * 0.7..=expected * 1.3).contains(&wait), "{wait}");
        assert_eq!(pair[0].1.transaction, pair[1].1.transaction);
    }
    assert_ne!(again.1.transaction, sent[0].1.transaction);
    assert!(bench.vm.is_configuring());
}

#[test]
fn refused_requests_begin_the_search_anew_after_a_wait_and_failures_are_asked_again() {
    let of = |code: u16| association(OWN, 0, 0, &[status(code)]);
    let (solicit, request_again) = (Dhcpv6Kind::Solicit, Dhcpv6Kind::Request);
    for (name, options, code, kind) in [
        ("not on link", status(4), 4, solicit),
        ("not on link", of(4), 4, solicit),
        ("no addresses", status(2), 2, solicit),
        ("no addresses", of(2), 2, solicit),
        ("no binding", of(3), 3, solicit),
        ("failure", status(1), 1, request_again),
        ("failure", of(1), 1, request_again),
        ("use multicast", status(5), 5, request_again),
        ("an unknown status", of(77), 77, request_again),
    ] {
        let mut bench = client(false);
        let (now, request) = bench.requests();
        let (sent, event) = bench.hear6(now, &Spoken::to(&request, REPLY, &[options]));
        let ignored = Event::Ignored(Ignored::DhcpStatus(Dhcpv6Status(code)));
        assert_eq!((sent, event), (None, Some(ignored)), "{name}");
        let (at, again) = bench.says();
        assert_eq!(again.kind, kind, "{name}");
        assert!(at >= now + Duration::from_millis(900), "{name}: {at:?}");
    }
}

#[test]
fn a_lease_is_renewed_with_its_server_then_with_any_and_then_lost() {
    let mut bench = client(false);
    let since = bench.leases(&[usual()]);
    let mut said = Vec::new();
    let lost = loop {
        match bench.next6() {
            (now, Did::Said(each)) => said.push((seconds(since, now), each)),
            (now, Did::Told(event)) => break (seconds(since, now), event),
        }
        assert!(said.len() < 40);
    };
    let address = LEASED.into();
    assert_eq!(lost, (2_000.0, Event::LeaseLost { address }));
    assert!(bench.global().is_empty() && bench.vm.is_configuring());
    assert_eq!(bench.ping(since + Duration::from_secs(2_000)), "unresolved");
    let of = |kind| said.iter().filter(move |(_, said)| said.kind == kind);
    let (renew, rebind) = (Dhcpv6Kind::Renew, Dhcpv6Kind::Rebind);
    assert_eq!(of(renew).count() + of(rebind).count(), said.len());
    for (kind, start, server) in [(renew, 500.0, Some(FIRST)), (rebind, 800.0, None)] {
        let (first, _) = of(kind).next().unwrap();
        assert_eq!(*first, start, "{kind}");
        let second = of(kind).nth(1).unwrap().0 - start;
        assert!((9.0..=11.0).contains(&second), "{kind}: {second}");
        for (at, each) in of(kind) {
            assert_eq!(each.server.as_deref(), server);
            assert_eq!(each.addresses, [LEASED]);
            assert_eq!(each.transaction, of(kind).next().unwrap().1.transaction);
            let elapsed = ((at - start) * 100.0).min(65_535.0) as u16;
            assert!(each.elapsed.abs_diff(elapsed) <= 1, "{kind} at {at}");
        }
    }
    assert_ne!(said[0].1.transaction, said.last().unwrap().1.transaction);
    let (_, again) = bench.says();
    assert_eq!(again.kind, Dhcpv6Kind::Solicit);
}

#[test]
fn a_renewal_may_change_the_addresses_and_the_server() {
    let later = |lifetime: u32| address(LATER, lifetime, lifetime);
    let of = |options: &[Vec<u8>]| association(OWN, 0, 0, options);
    let renewed = |to: Ipv6Addr| Event::Renewed {
        address: to.into(),
        previous: LEASED.into(),
    };
    let lost = Event::LeaseLost {
        address: LEASED.into(),
    };
    let ignored = Event::Ignored;
    let gone = address(LEASED, 0, 0);
    let cases: Vec<(&str, Vec<u8>, Event, Vec<Ipv6Addr>)> = vec![
        ("the same", usual(), renewed(LEASED), vec![LEASED]),
        (
            "another instead",
            of(&[gone.clone(), later(900)]),
            renewed(LATER),
            vec![LATER],
        ),
        (
            "another instead, in the other order",
            of(&[later(900), gone.clone()]),
            renewed(LATER),
            vec![LATER],
        ),
        // The one so far may be used until its time is over.
        (
            "another",
            of(&[later(900)]),
            renewed(LATER),
            vec![LEASED, LATER],
        ),
        (
            "two",
            of(&[address(LEASED, 9, 9), later(900)]),
            renewed(LEASED),
            vec![LEASED, LATER],
        ),
        ("taken back", of(&[gone]), lost, vec![]),
        ("not on the link", of(&[status(4)]), lost, vec![]),
        ("not on the link at all", status(4), lost, vec![]),
        (
            "failure",
            status(1),
            ignored(Ignored::DhcpStatus(Dhcpv6Status(1))),
            vec![LEASED],
        ),
        (
            "nothing",
            of(&[]),
            ignored(Ignored::DhcpNoAddress),
            vec![LEASED],
        ),
        (
            "T1 after T2",
            association(OWN, 9, 8, &[later(900)]),
            ignored(Ignored::DhcpLifetimes),
            vec![LEASED],
        ),
        (
            "another preferred for too long",
            of(&[address(LEASED, 50, 60), address(LATER, 9, 8)]),
            renewed(LEASED),
            vec![LEASED],
        ),
    ];
    for (name, options, expected, left) in cases {
        let mut bench = client(false);
        let (now, renew) = bench.renews();
        let (_, event) = bench.hear6(now, &Spoken::to(&renew, REPLY, &[options]));
        assert_eq!(event, Some(expected), "{name}");
        let mut global = bench.global();
        global.sort();
        assert_eq!(global, left, "{name}");
    }
    // While it asks anybody, anybody may answer, and is asked from then on.
    let mut bench = client(false);
    bench.leases(&[usual()]);
    let (now, rebind) = loop {
        let (now, said) = bench.says();
        if said.kind == Dhcpv6Kind::Rebind {
            break (now, said);
        }
    };
    let (_, event) = bench.hear6(now, &Spoken::to(&rebind, REPLY, &[usual()]).by(SECOND));
    assert_eq!(event, Some(renewed(LEASED)));
    let (at, renew) = bench.says();
    assert_eq!(seconds(now, at), 500.0);
    assert_eq!(renew.server.as_deref(), Some(SECOND));
}

#[test]
fn a_server_that_has_lost_its_notes_is_asked_for_the_same_addresses_anew() {
    let of = |code: u16| association(OWN, 0, 0, &[status(code)]);
    let mut bench = client(false);
    let (now, renew) = bench.renews();
    let (request, event) = bench.hear6(now, &Spoken::to(&renew, REPLY, &[of(3)]));
    let request = request.unwrap();
    assert_eq!(event, None);
    assert_eq!(request.kind, Dhcpv6Kind::Request);
    assert_eq!(request.server.as_deref(), Some(FIRST));
    assert_eq!(request.addresses, [LEASED]);
    assert_eq!(bench.global(), [LEASED], "it is used on");
    let (_, event) = bench.hear6(now, &Spoken::to(&request, REPLY, &[usual()]));
    let address = LEASED.into();
    let previous = LEASED.into();
    assert_eq!(event, Some(Event::Renewed { address, previous }));
    // Refused once more, it is lost.
    let (now, renew) = bench.says();
    let (request, _) = bench.hear6(now, &Spoken::to(&renew, REPLY, &[of(3)]));
    let (_, event) = bench.hear6(now, &Spoken::to(&request.unwrap(), REPLY, &[of(3)]));
    assert_eq!(event, Some(Event::LeaseLost { address }));
    assert!(bench.global().is_empty());
    let (at, solicit) = bench.says();
    assert_eq!(solicit.kind, Dhcpv6Kind::Solicit);
    assert!(at >= now + REFUSED_WAIT);
}

#[test]
fn a_server_cannot_make_a_client_renew_without_a_pause() {
    for (name, options) in [
        (
            "T1 and T2 of 0",
            association(OWN, 0, 0, &[address(LEASED, 10, 10)]),
        ),
        (
            "T1 of 1 s",
            association(OWN, 1, 1, &[address(LEASED, 10, 10)]),
        ),
        (
            "a lifetime of 1 s",
            association(OWN, 0, 0, &[address(LEASED, 1, 1)]),
        ),
        (
            "preferred for no time",
            association(OWN, 0, 0, &[address(LEASED, 0, 1)]),
        ),
        (
            "T1 after the end",
            association(OWN, 90, 90, &[address(LEASED, 1, 1)]),
        ),
        ("no binding each time", association(OWN, 0, 0, &[status(3)])),
        (
            "not on link each time",
            association(OWN, 0, 0, &[status(4)]),
        ),
        ("nothing each time", association(OWN, 0, 0, &[])),
    ] {
        let mut bench = client(false);
        let mut sent = 0;
        let end = ms(60_000);
        while bench.vm.poll_at().unwrap() < end {
            let (now, did) = bench.next6();
            let Did::Said(mut asked) = did else { continue };
            // It is answered until it says nothing more.
            for _ in 0..100 {
                sent += 1;
                let spoken = match asked.kind {
                    Dhcpv6Kind::Solicit => {
                        Spoken::to(&asked, ADVERTISE, &[usual(), option(7, &[255])])
                    }
                    _ => Spoken::to(&asked, REPLY, std::slice::from_ref(&options)),
                };
                match bench.hear6(now, &spoken) {
                    (Some(said), _) => asked = said,
                    (None, _) => break,
                }
            }
        }
        assert!(sent <= 2 * 120 + 10, "{name}: {sent} messages in a minute");
    }
}

#[test]
fn all_addresses_of_the_association_are_used_each_for_its_own_time() {
    let mut bench = client(false);
    let options = association(
        OWN,
        u32::MAX,
        u32::MAX,
        &[
            address(LEASED, 100, 200),
            address(LATER, 50, 100),
            address(LATER, 70, 70),
        ],
    );
    let since = bench.leases(&[options]);
    assert_eq!(bench.global(), [LEASED, LATER]);
    let (now, did) = bench.next6();
    let address = LATER.into();
    assert_eq!(did, Did::Told(Event::AddressLost { address }));
    assert_eq!(seconds(since, now), 100.0);
    let (now, did) = bench.next6();
    let address = LEASED.into();
    assert_eq!(did, Did::Told(Event::LeaseLost { address }));
    assert_eq!(seconds(since, now), 200.0);
}

#[test]
fn a_lease_for_ever_is_neither_renewed_nor_lost() {
    let mut bench = client(false);
    let for_ever = [address(LEASED, u32::MAX, u32::MAX)];
    let since = bench.leases(&[association(OWN, 0, 0, &for_ever)]);
    let end = since + Duration::from_secs(10 * 365 * 86_400);
    while let Some(now) = bench.vm.poll_at().filter(|at| *at < end) {
        let reaction = bench.vm.poll(now, &mut bench.buffer).unwrap_or_default();
        assert_eq!(reaction.event, None);
        if let Some(transmit) = reaction.transmit {
            assert_eq!(said(&bench.buffer[..transmit.length]), None);
        }
    }
    assert_eq!(bench.global(), [LEASED]);
}

#[test]
fn an_address_that_another_station_has_is_declined_and_others_are_looked_for() {
    let mut bench = client(true);
    // The link-local address is made sure of first: messages come from it.
    let (_, did) = bench.next6();
    let own = link_local(MAC).into();
    assert_eq!(did, Did::Told(Event::AddressReady { address: own }));
    let (now, request) = bench.requests();
    let (_, event) = bench.hear6(now, &Spoken::to(&request, REPLY, &[usual()]));
    assert!(matches!(event, Some(Event::Leased { .. })));
    assert!(
        bench.global().is_empty() && bench.vm.is_configuring(),
        "it is tried first"
    );
    let message = NeighbourAdvertisement {
        target: LEASED,
        target_link: Some(PEER_MAC),
        router: false,
        solicited: false,
        overrides: true,
    };
    let envelope = Ipv6Envelope {
        source_mac: PEER_MAC,
        destination_mac: multicast_mac(ALL_NODES),
        source: LEASED,
        destination: ALL_NODES,
        traffic_class: 0,
        hop_limit: 64,
    };
    let length = message.write(envelope, &mut bench.buffer).unwrap();
    let event = bench.vm.receive(now, &mut bench.buffer, length).event;
    let (address, mac) = (LEASED.into(), PEER_MAC);
    assert_eq!(event, Some(Event::Conflict { address, mac }));
    let mut declines = Vec::new();
    for _ in 0..3 {
        let (_, said) = bench.says();
        assert_eq!(said.kind, Dhcpv6Kind::Decline);
        assert_eq!(said.server.as_deref(), Some(FIRST));
        assert_eq!(said.addresses, [LEASED]);
        declines.push(said);
    }
    let (at, _) = bench.says();
    // The fourth and last has an answer.
    let reply = Spoken::to(&declines[0], REPLY, &[status(0)]);
    assert_eq!(bench.hear6(at, &reply), (None, None));
    let (again, solicit) = bench.says();
    assert_eq!(solicit.kind, Dhcpv6Kind::Solicit);
    assert!(again >= at + REFUSED_WAIT);
}

#[test]
fn a_decline_without_an_answer_is_given_up() {
    let mut bench = client(false);
    let now = bench.leases(&[usual()]);
    let mut random = fastrand::Rng::with_seed(1);
    let ipv6 = bench.vm.ipv6.as_mut().unwrap();
    ipv6.decline(now, LEASED, &mut random);
    assert!(bench.global().is_empty());
    let kinds: Vec<_> = (0..5).map(|_| bench.says().1.kind).collect();
    assert_eq!(kinds[..4], [Dhcpv6Kind::Decline; 4]);
    assert_eq!(kinds[4], Dhcpv6Kind::Solicit);
}

#[test]
fn a_vm_that_stops_gives_its_addresses_back_once() {
    let mut bench = client(false);
    assert_eq!(bench.vm.leave(ms(0), &mut bench.buffer), None);
    let now = bench.leases(&[usual()]);
    let transmit = bench.vm.leave(now, &mut bench.buffer).unwrap();
    let said = said(&bench.buffer[..transmit.length]).unwrap();
    assert_eq!(said.kind, Dhcpv6Kind::Release);
    assert_eq!(said.server.as_deref(), Some(FIRST));
    assert_eq!(said.addresses, [LEASED]);
    assert_eq!(bench.vm.leave(now, &mut bench.buffer), None);
}

#[test]
fn a_vm_without_dhcp_takes_no_notice_of_servers() {
    let mut bench = client(false);
    let (now, solicit) = bench.says();
    let mut config = VmConfig::new(MAC, IP);
    config.ipv6 = Some(Ipv6Config {
        interface: None,
        probe: false,
        slaac: true,
        dhcp: false,
        report: Duration::ZERO,
        gateway: None,
        announce: None,
    });
    let mut other = Bench::with(config);
    let (_, event) = other.hear6(now, &Spoken::to(&solicit, ADVERTISE, &[usual()]));
    let closed = Ignored::ClosedPort(DHCPV6_CLIENT_PORT);
    assert_eq!(event, Some(Event::Ignored(closed)));
}
