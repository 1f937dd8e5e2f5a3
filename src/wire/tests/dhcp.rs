//! DHCP messages: where options may lie, which of them count, and what another codec makes of ours.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress};

use super::A;
use crate::wire::{
    ClasslessRoute, DhcpKind, DhcpReply, DhcpRequest, Fault, Layer, MAX_CLASSLESS_ROUTES,
    ParseError,
};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The options that a reply has at least: an acknowledgement by [`SERVER`] for 1,000 s.
const LEAST: &[u8] = b"\x35\x01\x05\x36\x04\x0a\x4d\x00\x01\x33\x04\x00\x00\x03\xe8";

/// A server's message whose three fields hold these options, each padded to its length.
fn message(options: &[u8], file: &[u8], sname: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..3].copy_from_slice(&[2, 1, 6]);
    message[28..34].copy_from_slice(&A.0);
    message[44..44 + sname.len()].copy_from_slice(sname);
    message[108..108 + file.len()].copy_from_slice(file);
    message[236..].copy_from_slice(&[99, 130, 83, 99]);
    message.extend(options);
    message
}

/// A reply with these options behind [`LEAST`].
fn reply(options: &[u8]) -> DhcpReply {
    DhcpReply::parse(&message(&[LEAST, options].concat(), &[], &[]), 42).unwrap()
}

fn fault(message: &[u8]) -> Fault {
    let error = DhcpReply::parse(message, 42).unwrap_err();
    let ParseError {
        layer,
        offset,
        fault,
    } = error;
    assert_eq!((layer, offset), (Layer::Dhcp, 42));
    fault
}

fn route(destination: [u8; 4], prefix_length: u8, gateway: Option<[u8; 4]>) -> ClasslessRoute {
    ClasslessRoute {
        destination: destination.into(),
        prefix_length,
        gateway: gateway.map(Ipv4Addr::from),
    }
}

#[test]
fn every_option_is_read_wherever_it_lies() {
    let expected = DhcpReply {
        kind: DhcpKind::Ack,
        transaction: 0,
        client_mac: A,
        your_address: Ipv4Addr::UNSPECIFIED,
        server: Some(SERVER),
        prefix_length: Some(16),
        router: Some(SERVER),
        routes: Some(vec![route([192, 0, 2, 0], 24, Some([10, 77, 0, 9]))]),
        mtu: Some(1400),
        lease_time: Some(1_000),
        renewal_time: Some(10),
        rebinding_time: Some(20),
    };
    let rest: [&[u8]; 6] = [
        b"\x01\x04\xff\xff\x00\x00",
        b"\x03\x08\x0a\x4d\x00\x01\x0a\x4d\x00\x02",
        b"\x1a\x02\x05\x78",
        b"\x3a\x04\x00\x00\x00\x0a",
        b"\x3b\x04\x00\x00\x00\x14",
        b"\x79\x08\x18\xc0\x00\x02\x0a\x4d\x00\x09",
    ];
    let rest = rest.concat();
    let parse = |options: &[&[u8]], file: &[u8], sname: &[u8]| {
        DhcpReply::parse(&message(&options.concat(), file, sname), 0)
    };
    let end: &[u8] = b"\xff";
    let all = [LEAST, &rest].concat();
    for (name, parsed) in [
        ("in the field of options", parse(&[&all, end], &[], &[])),
        ("without an end", parse(&[&all], &[], &[])),
        (
            "with padding before and behind",
            parse(&[&[0; 3], &all, &[0, 0, 255, 1, 9]], &[], &[]),
        ),
        (
            "unknown ones among them",
            parse(&[b"\xe0\x02ab\x0c\x00", &all], &[], &[]),
        ),
        (
            "in file",
            parse(&[LEAST, b"\x34\x01\x01\xff"], &[&rest, end].concat(), &[]),
        ),
        (
            "in sname",
            parse(&[LEAST, b"\x34\x01\x02"], &[], &[&rest, end].concat()),
        ),
        ("all in file", parse(&[b"\x34\x01\x01"], &all, &[])),
        ("in both", parse(&[b"\x34\x01\x03"], LEAST, &rest)),
    ] {
        assert_eq!(parsed.as_ref(), Ok(&expected), "{name}");
    }
}

#[test]
fn what_is_in_file_and_sname_are_options_only_if_the_message_says_so() {
    let mtu: &[u8] = b"\x1a\x02\x05\x78";
    for (overload, in_file, in_sname) in [
        (b"".as_slice(), false, false),
        (b"\x34\x01\x00", false, false),
        (b"\x34\x01\x01", true, false),
        (b"\x34\x01\x02", false, true),
        (b"\x34\x01\x03", true, true),
        (b"\x34\x01\x04", false, false),
        (b"\x34\x02\x01\x01", true, false),
        (b"\x34\x00", false, false),
        (b"\xff\x34\x01\x03", false, false),
    ] {
        let options = [LEAST, overload].concat();
        let read = |file, sname| {
            DhcpReply::parse(&message(&options, file, sname), 0)
                .unwrap()
                .mtu
        };
        assert_eq!(read(mtu, &[]).is_some(), in_file, "{overload:?} file");
        assert_eq!(read(&[], mtu).is_some(), in_sname, "{overload:?} sname");
    }
    // A field that holds options does not say that another one does.
    let options = [LEAST, b"\x34\x01\x01"].concat();
    let nested = message(&options, b"\x34\x01\x03", mtu);
    assert_eq!(DhcpReply::parse(&nested, 0).unwrap().mtu, None);
}

#[test]
fn pieces_of_an_option_are_joined_in_the_order_options_file_sname() {
    let split: [&[u8]; 3] = [
        b"\x35\x01\x05\x33\x04\x00\x00\x03\xe8\x34\x01\x03\x36\x02\x0a\x4d\x79\x03\x18\xc0\x00",
        b"\x36\x01\x00\x79\x02\x02\x0a\xff",
        b"\x36\x01\x01\x79\x03\x4d\x00\x09",
    ];
    let parsed = DhcpReply::parse(&message(split[0], split[1], split[2]), 0).unwrap();
    assert_eq!(parsed.server, Some(SERVER));
    let expected = route([192, 0, 2, 0], 24, Some([10, 77, 0, 9]));
    assert_eq!(parsed.routes, Some(vec![expected]));
    let swapped = DhcpReply::parse(&message(split[0], split[2], split[1]), 0).unwrap();
    assert_eq!(swapped.server, Some(Ipv4Addr::new(10, 77, 1, 0)));
}

#[test]
fn an_option_of_a_wrong_length_counts_as_not_given_unless_the_message_is_nothing_without_it() {
    for (option, read) in [
        (b"\x1a\x01\x05".as_slice(), None),
        (b"\x1a\x00", None),
        (b"\x1a\x03\x05\x78\x00", None),
        (b"\x1a\x02\x05\x78", Some(1400)),
        (b"\x1a\x02\x05\x78\x1a\x02\x00\x44", Some(1400)),
    ] {
        assert_eq!(reply(option).mtu, read, "{option:?}");
    }
    let odd = reply(b"\x01\x03\xff\xff\x00\x03\x05\x0a\x4d\x00\x01\x0a\x3a\x02\x00\x05\x3b\x05\x00\x00\x00\x05\x00");
    let DhcpReply {
        prefix_length,
        router,
        renewal_time,
        rebinding_time,
        ..
    } = odd;
    assert_eq!(
        (prefix_length, router, renewal_time, rebinding_time),
        (None, None, None, None)
    );

    let sound: &[u8] = b"\x35\x01\x05";
    for (options, name) in [
        (b"".as_slice(), "message type"),
        (b"\x35\x00", "message type"),
        (b"\x35\x01\x00", "message type"),
        (b"\x35\x01\x09", "message type"),
        (
            &[sound, b"\x36\x03\x0a\x4d\x00"].concat(),
            "server identifier",
        ),
        (&[sound, b"\x36\x00"].concat(), "server identifier"),
        (&[sound, b"\x33\x02\x03\xe8"].concat(), "lease time"),
        (
            &[sound, b"\x01\x04\xff\x00\xff\x00"].concat(),
            "subnet mask",
        ),
        (
            &[sound, b"\x01\x04\x00\x00\xff\xff"].concat(),
            "subnet mask",
        ),
        (&[sound, b"\x0c"].concat(), "options"),
        (&[sound, b"\x0c\x05ab"].concat(), "options"),
    ] {
        assert_eq!(
            fault(&message(options, &[], &[])),
            Fault::Field(name),
            "{options:?}"
        );
    }
    let overrun = [&[0; 126], b"\x0c\x05".as_slice()].concat();
    let overloaded = message(&[sound, b"\x34\x01\x01"].concat(), &overrun, &[]);
    assert_eq!(fault(&overloaded), Fault::Field("options"));
    assert_eq!(
        DhcpReply::parse(&message(sound, &overrun, &[]), 0).map(|reply| reply.kind),
        Ok(DhcpKind::Ack)
    );
}

#[test]
fn a_message_that_is_no_servers_or_not_about_ethernet_is_turned_away() {
    let sound = message(LEAST, &[], &[]);
    for (at, value, name) in [
        (0, 1, "operation"),
        (0, 0, "operation"),
        (1, 6, "hardware type"),
        (2, 16, "hardware type"),
        (236, 0, "cookie"),
    ] {
        let mut changed = sound.clone();
        changed[at] = value;
        assert_eq!(fault(&changed), Fault::Field(name), "byte {at}");
    }
    for length in [0, 1, 239] {
        let expected = Fault::Truncated {
            needed: 240,
            present: length,
        };
        assert_eq!(fault(&sound[..length]), expected);
    }
    assert_eq!(fault(&sound[..240]), Fault::Field("message type"));
}

#[test]
fn classless_routes_are_read_whole_or_not_at_all() {
    let one = route([192, 0, 2, 0], 24, Some([10, 77, 0, 9]));
    for (option, expected) in [
        (b"".as_slice(), None),
        (b"\x79\x00", None),
        (b"\x79\x08\x18\xc0\x00\x02\x0a\x4d\x00\x09", Some(vec![one])),
        (
            b"\x79\x0d\x00\x0a\x4d\x00\x01\x18\xc0\x00\x02\x0a\x4d\x00\x09",
            Some(vec![route([0; 4], 0, Some([10, 77, 0, 1])), one]),
        ),
        // On the link (RFC 3442): the router is 0.0.0.0.
        (
            b"\x79\x09\x20\xa9\xfe\x01\x01\x00\x00\x00\x00",
            Some(vec![route([169, 254, 1, 1], 32, None)]),
        ),
        // Bits behind the prefix are none of the network's.
        (
            b"\x79\x07\x09\x0a\xff\x0a\x4d\x00\x09",
            Some(vec![route([10, 128, 0, 0], 9, Some([10, 77, 0, 9]))]),
        ),
        (b"\x79\x09\x21\xc0\x00\x02\x01\x0a\x4d\x00\x09", None),
        (b"\x79\x01\x00", None),
        (b"\x79\x04\x00\x0a\x4d\x00", None),
        (b"\x79\x03\x18\xc0\x00", None),
        (b"\x79\x09\x18\xc0\x00\x02\x0a\x4d\x00\x09\x18", None),
    ] {
        assert_eq!(reply(option).routes, expected, "{option:?}");
    }
    let many = b"\x00\x0a\x4d\x00\x01".repeat(51);
    let option = [&[121, 255], many.as_slice()].concat().repeat(6);
    assert_eq!(reply(&option).routes.unwrap().len(), MAX_CLASSLESS_ROUTES);
}

#[test]
fn another_codec_reads_what_a_client_sends() {
    let request = DhcpRequest {
        kind: DhcpKind::Request,
        transaction: 0x0102_0304,
        client_mac: A,
        seconds: 7,
        client_address: Ipv4Addr::UNSPECIFIED,
        requested: Some(Ipv4Addr::new(10, 77, 5, 5)),
        server: Some(SERVER),
        maximum_size: 1472,
    };
    let mut buffer = [0xaa; DhcpRequest::LENGTH + 1];
    assert_eq!(request.write(&mut buffer), Some(DhcpRequest::LENGTH));
    assert_eq!(buffer[DhcpRequest::LENGTH], 0xaa);
    let packet = DhcpPacket::new_checked(&buffer[..DhcpRequest::LENGTH]).unwrap();
    let read = DhcpRepr::parse(&packet).unwrap();
    let expected = DhcpRepr {
        message_type: DhcpMessageType::Request,
        transaction_id: 0x0102_0304,
        secs: 7,
        client_hardware_address: EthernetAddress(A.0),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: Some(Ipv4Addr::new(10, 77, 5, 5)),
        client_identifier: Some(EthernetAddress(A.0)),
        server_identifier: Some(SERVER),
        parameter_request_list: Some(&[1, 121, 3, 26, 58, 59]),
        dns_servers: None,
        max_size: Some(1472),
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    assert_eq!(read, expected);
    let decline = DhcpRequest {
        kind: DhcpKind::Decline,
        ..request
    };
    decline.write(&mut buffer).unwrap();
    let packet = DhcpPacket::new_checked(&buffer[..DhcpRequest::LENGTH]).unwrap();
    let read = DhcpRepr::parse(&packet).unwrap();
    assert_eq!(
        (read.parameter_request_list, read.max_size),
        (None, None),
        "a decline asks for nothing"
    );
    for (maximum_size, told) in [(0, None), (575, None), (576, Some(576))] {
        let request = DhcpRequest {
            maximum_size,
            ..request
        };
        request.write(&mut buffer).unwrap();
        let packet = DhcpPacket::new_checked(&buffer[..DhcpRequest::LENGTH]).unwrap();
        assert_eq!(DhcpRepr::parse(&packet).unwrap().max_size, told);
    }
    assert_eq!(request.write(&mut buffer[..DhcpRequest::LENGTH - 1]), None);
}

proptest! {
    #[test]
    fn any_options_are_read_without_a_panic(
        options in proptest::collection::vec(any::<u8>(), 0..100),
        file in proptest::collection::vec(any::<u8>(), 0..128),
        sname in proptest::collection::vec(any::<u8>(), 0..64),
        overload in 0u8..5,
    ) {
        let options = [LEAST, &[52, 1, overload], &options].concat();
        let _ = DhcpReply::parse(&message(&options, &file, &sname), 0);
    }

    #[test]
    fn routes_are_the_same_in_however_many_pieces_they_come(
        routes in proptest::collection::vec((any::<[u8; 4]>(), 0u8..=32, any::<[u8; 4]>()), 1..8),
        cut in any::<proptest::sample::Index>(),
    ) {
        let content: Vec<u8> = routes
            .iter()
            .flat_map(|(network, prefix, gateway)| {
                let significant = &network[..usize::from(*prefix).div_ceil(8)];
                [&[*prefix], significant, gateway].concat()
            })
            .collect();
        let piece = |content: &[u8]| [&[121, content.len() as u8], content].concat();
        let (front, back) = content.split_at(cut.index(content.len()));
        let whole = reply(&piece(&content)).routes.unwrap();
        prop_assert_eq!(whole.len(), routes.len());
        prop_assert_eq!(reply(&[piece(front), piece(back)].concat()).routes.unwrap(), whole);
    }
}
