//! DHCPv6 messages: which options count, where they may lie, and what is wrong with those that can't be read.

use std::net::Ipv6Addr;
use std::time::Duration;

use proptest::prelude::*;

use super::A;
use crate::wire::{
    Describe, Dhcpv6Address, Dhcpv6Association, Dhcpv6Kind, Dhcpv6Reply, Dhcpv6Request,
    Dhcpv6Status, Fault, Ipv6Envelope, Layer, MAX_ASSOCIATIONS, ParseError, dhcpv6_identifier,
    write_ipv6_udp,
};

/// What dnsmasq 2.90 answered to a request.
const DNSMASQ: &str = "07 24e5f3 0001 000a 00030001 02000a4d0002 0002 000a 00030001 060000001b18 \
    0003 0028 0a4d0002 0000003c 00000069 0005 0018 fd770000000000000000000000000149 00000078 00000078 \
    000d 0009 0000 73756363657373";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn option(code: u16, content: &[u8]) -> Vec<u8> {
    let length = content.len() as u16;
    [&code.to_be_bytes()[..], &length.to_be_bytes(), content].concat()
}

fn leased(address: &str, lifetime: u32) -> Dhcpv6Address {
    Dhcpv6Address {
        address: address.parse().unwrap(),
        preferred_lifetime: lifetime,
        valid_lifetime: lifetime,
        status: Dhcpv6Status::SUCCESS,
    }
}

/// A reply with these options, and no others.
fn reply(options: &[Vec<u8>]) -> Vec<u8> {
    [&[7, 1, 2, 3][..], &options.concat()].concat()
}

/// An identity association of 9, with these options in it.
fn association(options: &[u8]) -> Vec<u8> {
    option(
        3,
        &[&[0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2][..], options].concat(),
    )
}

fn address(options: &[u8]) -> Vec<u8> {
    option(
        5,
        &[&[0xfd; 16][..], &[0, 0, 0, 3, 0, 0, 0, 4], options].concat(),
    )
}

#[test]
fn the_reply_of_a_real_server_is_read_and_shown() {
    let message = bytes(DNSMASQ);
    let reply = Dhcpv6Reply::parse(&message, 0).unwrap();
    let expected = Dhcpv6Reply {
        kind: Dhcpv6Kind::Reply,
        transaction: 0x24_e5f3,
        client: Some(&dhcpv6_identifier(A)),
        server: Some(&[0, 3, 0, 1, 6, 0, 0, 0, 0x1b, 0x18]),
        preference: 0,
        status: Dhcpv6Status::SUCCESS,
        is_rapid: false,
        solicit_max: None,
        associations: vec![Dhcpv6Association {
            id: 0x0a4d_0002,
            renewal_time: 60,
            rebinding_time: 105,
            status: Dhcpv6Status::SUCCESS,
            addresses: vec![leased("fd77::149", 120)],
        }],
    };
    let client = [0, 3, 0, 1, 2, 0, 0x0a, 0x4d, 0, 2];
    assert_eq!(
        reply,
        Dhcpv6Reply {
            client: Some(&client),
            ..expected
        }
    );
    let mut frame = vec![0; 500];
    let envelope = Ipv6Envelope {
        source_mac: A,
        destination_mac: A,
        source: "fe80::1".parse().unwrap(),
        destination: "fe80::2".parse().unwrap(),
        traffic_class: 0,
        hop_limit: 64,
    };
    for (port, told) in [
        (546, "DHCPv6 reply, fd77::149 for 120 s"),
        (547, "DHCPv6 reply, fd77::149 for 120 s"),
        (548, "UDP port 547 > 548 (89 bytes)"),
    ] {
        let fill = |space: &mut [u8]| {
            space[..message.len()].copy_from_slice(&message);
            Some(message.len())
        };
        let length = write_ipv6_udp(&envelope, (547, port), fill, &mut frame).unwrap();
        let shown = Describe(&frame[..length]).to_string();
        assert!(shown.ends_with(told), "{shown}");
    }
}

#[test]
fn options_are_read_in_any_order_and_unknown_ones_are_skipped() {
    let status = |code: u16| option(13, &[&code.to_be_bytes()[..], b"why"].concat());
    let known = [
        option(1, &[0, 3, 0, 1, 1]),
        option(2, &[0, 2, 9]),
        option(7, &[77]),
        option(14, &[]),
        option(82, &[0, 0, 0, 60]),
        association(&[address(&status(4)), status(2), option(99, &[1])].concat()),
        status(65_535),
        option(23, &[0xfe; 32]),
        option(25, &[0; 12]),
        option(4, &[0; 4]),
    ];
    let expected = Dhcpv6Reply {
        kind: Dhcpv6Kind::Reply,
        transaction: 0x01_0203,
        client: Some(&[0, 3, 0, 1, 1]),
        server: Some(&[0, 2, 9]),
        preference: 77,
        status: Dhcpv6Status(65_535),
        is_rapid: true,
        solicit_max: Some(Duration::from_secs(60)),
        associations: vec![Dhcpv6Association {
            id: 9,
            renewal_time: 1,
            rebinding_time: 2,
            status: Dhcpv6Status::NO_ADDRESSES,
            addresses: vec![Dhcpv6Address {
                address: Ipv6Addr::from([0xfd; 16]),
                preferred_lifetime: 3,
                valid_lifetime: 4,
                status: Dhcpv6Status::NOT_ON_LINK,
            }],
        }],
    };
    let mut reversed = known.clone();
    reversed.reverse();
    for options in [&known, &reversed] {
        let message = reply(options);
        assert_eq!(Dhcpv6Reply::parse(&message, 0).unwrap(), expected);
    }
}

#[test]
fn a_message_that_cannot_be_read_says_which_part_of_it() {
    let whole = [option(1, &[0, 3, 1]), association(&address(&[]))];
    assert!(Dhcpv6Reply::parse(&reply(&whole), 0).is_ok());
    let cut = |mut bytes: Vec<u8>, off: usize| {
        bytes.truncate(bytes.len() - off);
        bytes
    };
    // The length says more than there is.
    let overrun = |code: u16| [&code.to_be_bytes()[..], &[0, 9, 1]].concat();
    for (message, field) in [
        (vec![0, 1, 2, 3], "message type"),
        // Those of relays have other headers.
        (vec![12, 1, 2, 3], "message type"),
        (vec![13, 1, 2, 3], "message type"),
        (vec![255, 1, 2, 3], "message type"),
        (cut(reply(&whole), 1), "options"),
        (reply(&[overrun(99)]), "options"),
        (reply(&[vec![0, 1, 0]]), "options"),
        (reply(&[vec![0]]), "options"),
        (reply(&[option(1, &[])]), "client identifier"),
        (reply(&[option(1, &[0, 1])]), "client identifier"),
        (reply(&[option(1, &[1; 131])]), "client identifier"),
        (reply(&[option(2, &[0, 1])]), "server identifier"),
        (reply(&[option(2, &[1; 131])]), "server identifier"),
        (reply(&[option(13, &[0])]), "status code"),
        (reply(&[option(3, &[0; 11])]), "IA_NA option"),
        (reply(&[association(&overrun(5))]), "options in IA_NA"),
        (reply(&[association(&[0, 5])]), "options in IA_NA"),
        (reply(&[association(&option(13, &[]))]), "status code"),
        (
            reply(&[association(&option(5, &[0; 23]))]),
            "IA address option",
        ),
        (
            reply(&[association(&address(&overrun(13)))]),
            "options in IA address",
        ),
        (
            reply(&[association(&address(&option(13, &[7])))]),
            "status code",
        ),
    ] {
        let error = Dhcpv6Reply::parse(&message, 62).unwrap_err();
        let ParseError {
            layer,
            offset,
            fault,
        } = error;
        assert_eq!((layer, offset), (Layer::Dhcp, 62), "{message:02x?}");
        assert_eq!(fault, Fault::Field(field), "{message:02x?}");
    }
    let fault = Dhcpv6Reply::parse(&[7, 1, 2], 62).unwrap_err().fault;
    let (needed, present) = (4, 3);
    assert_eq!(fault, Fault::Truncated { needed, present });
}

#[test]
fn options_that_the_client_can_do_without_count_as_not_given_when_they_make_no_sense() {
    let read = |options: &[Vec<u8>]| {
        let message = reply(options);
        let reply = Dhcpv6Reply::parse(&message, 0).unwrap();
        (reply.preference, reply.is_rapid, reply.solicit_max)
    };
    for options in [
        option(7, &[]),
        option(7, &[255, 0]),
        option(14, &[1]),
        option(82, &[0, 0, 60]),
        option(82, &[0, 0, 0, 59]),
        option(82, &[0, 1, 0x51, 0x81]),
        option(82, &[255; 4]),
    ] {
        assert_eq!(
            read(std::slice::from_ref(&options)),
            (0, false, None),
            "{options:02x?}"
        );
    }
    // The first counts where there are several.
    assert_eq!(read(&[option(7, &[1]), option(7, &[2])]).0, 1);
    let day = Some(Duration::from_secs(86_400));
    assert_eq!(read(&[option(82, &[0, 1, 0x51, 0x80])]).2, day);
}

#[test]
fn associations_and_addresses_are_bounded() {
    let addresses = vec![address(&[]); 40].concat();
    let message = reply(&vec![association(&addresses); 40]);
    let associations = Dhcpv6Reply::parse(&message, 0).unwrap().associations;
    assert_eq!(associations.len(), MAX_ASSOCIATIONS);
    let bounded = |each: &Dhcpv6Association| each.addresses.len() == MAX_ASSOCIATIONS;
    assert!(associations.iter().all(bounded));
}

fn kind() -> impl Strategy<Value = Dhcpv6Kind> {
    prop::sample::select(vec![
        Dhcpv6Kind::Solicit,
        Dhcpv6Kind::Request,
        Dhcpv6Kind::Renew,
        Dhcpv6Kind::Rebind,
        Dhcpv6Kind::Release,
        Dhcpv6Kind::Decline,
    ])
}

proptest! {
    #[test]
    fn what_a_client_says_is_read_as_it_was_written(
        kind in kind(),
        transaction in 0..1u32 << 24,
        server in prop::option::of(prop::collection::vec(any::<u8>(), 3..=130)),
        hundredths in 0u64..100_000,
        id: u32,
        addresses in prop::collection::vec(any::<[u8; 16]>().prop_map(Ipv6Addr::from), 0..8),
        room in 0usize..600,
    ) {
        let request = Dhcpv6Request {
            kind,
            transaction,
            client_mac: A,
            server: server.as_deref(),
            elapsed: Duration::from_millis(hundredths * 10),
            association: id,
            addresses: &addresses,
        };
        let mut buffer = vec![0; 600];
        let length = request.write(&mut buffer).unwrap();
        let mut short = vec![0; room];
        prop_assert_eq!(request.write(&mut short).is_some(), room >= length);
        let read = Dhcpv6Reply::parse(&buffer[..length], 0).unwrap();
        prop_assert_eq!((read.kind, read.transaction), (kind, transaction));
        let identifier = dhcpv6_identifier(A);
        prop_assert_eq!((read.client, read.server), (Some(&identifier[..]), server.as_deref()));
        let [association] = &read.associations[..] else { panic!("{read:?}") };
        prop_assert_eq!((association.id, association.renewal_time), (id, 0));
        let found: Vec<_> = association.addresses.iter().map(|each| each.address).collect();
        prop_assert_eq!(found, addresses);
        let told = hundredths.min(65_535) as u16;
        let elapsed = option(8, &told.to_be_bytes());
        prop_assert!(buffer[..length].windows(6).any(|window| window == elapsed));
    }

    #[test]
    fn no_message_makes_the_reader_panic(kind in 0..16u8, rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Dhcpv6Reply::parse(&[&[kind], &rest[..]].concat(), 0);
    }
}
