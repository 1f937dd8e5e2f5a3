//! What another implementation, dhcproto, makes of DHCP messages: we read what it writes, and it reads what we write. Its
//! reader is lenient (it stops at what it can't read, and sorts options), so that messages which make no sense are left to
//! the invariants of `harness`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use dhcproto::{Decodable, Encodable, v4, v6};
use tap_reactor::wire::{
    DhcpKind, DhcpReply, DhcpRequest, Dhcpv6Address, Dhcpv6Association, Dhcpv6Kind, Dhcpv6Reply,
    Dhcpv6Request, Dhcpv6Status, MacAddr, dhcpv6_identifier,
};

const MAC: MacAddr = MacAddr([2, 0, 10, 77, 0, 2]);

/// Choices made by the input; zeros when it is at its end.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
            (*byte, self.0) = (*first, rest);
        }
        bytes
    }

    fn u8(&mut self) -> u8 {
        let [byte] = self.bytes();
        byte
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.bytes())
    }

    fn is_so(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// Between `least` and `most` bytes.
    fn vec(&mut self, least: usize, most: usize) -> Vec<u8> {
        let length = least + usize::from(self.u8()) % (most - least + 1);
        (0..length).map(|_| self.u8()).collect()
    }
}

/// Compares both, on messages that `data` describes.
pub fn compare(data: &[u8]) {
    let mut choices = Choices(data);
    match choices.u8() % 4 {
        0 => reads_ipv6(&mut choices),
        1 => writes_ipv6(&mut choices),
        2 => reads_ipv4(&mut choices),
        _ => writes_ipv4(&mut choices),
    }
}

/// A status among `options`, as we are to read it.
fn status(choices: &mut Choices<'_>, options: &mut v6::DhcpOptions) -> Dhcpv6Status {
    if !choices.is_so() {
        return Dhcpv6Status::SUCCESS;
    }
    // Only codes that both know; the other gives names to more of them.
    let code = choices.u16() % 6;
    options.insert(v6::DhcpOption::StatusCode(v6::StatusCode {
        status: code.into(),
        msg: "why".repeat(usize::from(choices.u8() % 5)),
    }));
    Dhcpv6Status(code)
}

fn reads_ipv6(choices: &mut Choices<'_>) {
    let kinds = [
        (v6::MessageType::Advertise, Dhcpv6Kind::Advertise),
        (v6::MessageType::Reply, Dhcpv6Kind::Reply),
        (v6::MessageType::Reconfigure, Dhcpv6Kind::Reconfigure),
        (v6::MessageType::Solicit, Dhcpv6Kind::Solicit),
    ];
    let (theirs, kind) = kinds[usize::from(choices.u8()) % kinds.len()];
    let transaction: [u8; 3] = choices.bytes();
    let mut message = v6::Message::new_with_id(theirs, transaction);
    let options = message.opts_mut();
    let mut identifier = |is_client: bool| {
        choices.is_so().then(|| {
            let identifier = choices.vec(3, 130);
            options.insert(match is_client {
                true => v6::DhcpOption::ClientId(identifier.clone()),
                false => v6::DhcpOption::ServerId(identifier.clone()),
            });
            identifier
        })
    };
    let (client, server) = (identifier(true), identifier(false));
    let preference = choices.u8();
    if preference > 0 {
        options.insert(v6::DhcpOption::Preference(preference));
    }
    let is_rapid = choices.is_so();
    if is_rapid {
        options.insert(v6::DhcpOption::RapidCommit);
    }
    if choices.is_so() {
        options.insert(v6::DhcpOption::DomainNameServers(vec![
            Ipv6Addr::LOCALHOST;
            3
        ]));
    }
    let mut associations = Vec::new();
    // Each has an id of its own, in the order in which the other sorts them.
    for id in 0..u32::from(choices.u8() % 4) {
        let (association, theirs) = association(choices, id);
        options.insert(v6::DhcpOption::IANA(theirs));
        associations.push(association);
    }
    let whole = status(choices, options);
    let bytes = message.to_vec().expect("a message");
    let read = Dhcpv6Reply::parse(&bytes, 0).unwrap_or_else(|error| panic!("{error}: {message}"));
    let [a, b, c] = transaction;
    let mut sorted = read.associations.clone();
    sorted.sort_by_key(|association| association.id);
    for association in &mut sorted {
        association.addresses.sort_by_key(|address| address.address);
    }
    let expected = Dhcpv6Reply {
        kind,
        transaction: u32::from_be_bytes([0, a, b, c]),
        client: client.as_deref(),
        server: server.as_deref(),
        preference,
        status: whole,
        is_rapid,
        solicit_max: None,
        associations,
    };
    let read = Dhcpv6Reply {
        associations: sorted,
        ..read
    };
    assert_eq!(read, expected);
}

fn association(choices: &mut Choices<'_>, id: u32) -> (Dhcpv6Association, v6::IANA) {
    let (t1, t2) = (choices.u32(), choices.u32());
    let mut options = v6::DhcpOptions::new();
    let mut addresses = Vec::new();
    for number in 0..choices.u8() % 4 {
        let mut octets: [u8; 16] = choices.bytes();
        octets[0] = number;
        let (preferred_lifetime, valid_lifetime) = (choices.u32(), choices.u32());
        let mut inside = v6::DhcpOptions::new();
        let status = status(choices, &mut inside);
        let address = Dhcpv6Address {
            address: octets.into(),
            preferred_lifetime,
            valid_lifetime,
            status,
        };
        options.insert(v6::DhcpOption::IAAddr(v6::IAAddr {
            addr: address.address,
            preferred_life: preferred_lifetime,
            valid_life: valid_lifetime,
            opts: inside,
        }));
        addresses.push(address);
    }
    let status = status(choices, &mut options);
    // The other keeps several of a kind in an order of its own.
    addresses.sort_by_key(|address| address.address);
    let theirs = v6::IANA {
        id,
        t1,
        t2,
        opts: options,
    };
    let association = Dhcpv6Association {
        id,
        renewal_time: t1,
        rebinding_time: t2,
        status,
        addresses,
    };
    (association, theirs)
}

fn writes_ipv6(choices: &mut Choices<'_>) {
    let kinds = [
        (v6::MessageType::Solicit, Dhcpv6Kind::Solicit),
        (v6::MessageType::Request, Dhcpv6Kind::Request),
        (v6::MessageType::Renew, Dhcpv6Kind::Renew),
        (v6::MessageType::Rebind, Dhcpv6Kind::Rebind),
        (v6::MessageType::Release, Dhcpv6Kind::Release),
        (v6::MessageType::Decline, Dhcpv6Kind::Decline),
    ];
    let (theirs, kind) = kinds[usize::from(choices.u8()) % kinds.len()];
    let server = choices.is_so().then(|| choices.vec(3, 130));
    let hundredths = choices.u16();
    let addresses: Vec<Ipv6Addr> = (0..choices.u8() % 8)
        .map(|_| choices.bytes::<16>().into())
        .collect();
    let [_, a, b, c] = choices.bytes();
    let request = Dhcpv6Request {
        kind,
        transaction: u32::from_be_bytes([0, a, b, c]),
        client_mac: MAC,
        server: server.as_deref(),
        elapsed: Duration::from_millis(u64::from(hundredths) * 10),
        association: choices.u32(),
        addresses: &addresses,
    };
    let mut buffer = [0; 1000];
    let length = request.write(&mut buffer).expect("there is room");
    let read = v6::Message::from_bytes(&buffer[..length]).expect("a message");
    assert_eq!((read.msg_type(), read.xid()), (theirs, [a, b, c]));
    let options = read.opts();
    let mut count = 3;
    let client = v6::DhcpOption::ClientId(dhcpv6_identifier(MAC).to_vec());
    assert_eq!(options.get(v6::OptionCode::ClientId), Some(&client));
    let elapsed = v6::DhcpOption::ElapsedTime(hundredths);
    assert_eq!(options.get(v6::OptionCode::ElapsedTime), Some(&elapsed));
    if let Some(server) = &server {
        count += 1;
        let server = v6::DhcpOption::ServerId(server.clone());
        assert_eq!(options.get(v6::OptionCode::ServerId), Some(&server));
    }
    let Some(v6::DhcpOption::IANA(association)) = options.get(v6::OptionCode::IANA) else {
        panic!("{read}");
    };
    assert_eq!(
        (association.id, association.t1, association.t2),
        (request.association, 0, 0)
    );
    let found = association.opts.iter().map(|option| match option {
        v6::DhcpOption::IAAddr(address) => address.addr,
        other => panic!("{other:?}"),
    });
    let (mut found, mut expected) = (found.collect::<Vec<_>>(), addresses.clone());
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    if let Some(wanted) = options.get(v6::OptionCode::ORO) {
        count += 1;
        let limits = vec![v6::OptionCode::SolMaxRt];
        assert_eq!(wanted, &v6::DhcpOption::ORO(v6::ORO { opts: limits }));
    }
    assert_eq!(options.iter().count(), count, "{read}");
}

fn reads_ipv4(choices: &mut Choices<'_>) {
    let kinds = [
        (v4::MessageType::Offer, DhcpKind::Offer),
        (v4::MessageType::Ack, DhcpKind::Ack),
        (v4::MessageType::Nak, DhcpKind::Nak),
    ];
    let (theirs, kind) = kinds[usize::from(choices.u8()) % kinds.len()];
    let transaction = choices.u32();
    let your_address = Ipv4Addr::from(choices.bytes::<4>());
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = v4::Message::new_with_id(transaction, none, your_address, none, none, &MAC.0);
    message.set_opcode(v4::Opcode::BootReply);
    let options = message.opts_mut();
    options.insert(v4::DhcpOption::MessageType(theirs));
    let mut address = || {
        choices
            .is_so()
            .then(|| Ipv4Addr::from(choices.bytes::<4>()))
    };
    let (server, router) = (address(), address());
    let prefix_length = choices.is_so().then(|| choices.u8() % 33);
    let mut number = || choices.is_so().then(|| choices.u32());
    let (lease_time, renewal_time, rebinding_time) = (number(), number(), number());
    let mtu = choices.is_so().then(|| choices.u16());
    let mask =
        |length: u8| Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0));
    let told = [
        server.map(v4::DhcpOption::ServerIdentifier),
        router.map(|router| v4::DhcpOption::Router(vec![router, Ipv4Addr::LOCALHOST])),
        prefix_length.map(|length| v4::DhcpOption::SubnetMask(mask(length))),
        lease_time.map(v4::DhcpOption::AddressLeaseTime),
        renewal_time.map(v4::DhcpOption::Renewal),
        rebinding_time.map(v4::DhcpOption::Rebinding),
        mtu.map(v4::DhcpOption::InterfaceMtu),
    ];
    for option in told.into_iter().flatten() {
        options.insert(option);
    }
    let bytes = message.to_vec().expect("a message");
    let expected = DhcpReply {
        kind,
        transaction,
        client_mac: MAC,
        your_address,
        server,
        prefix_length,
        router,
        routes: None,
        mtu,
        lease_time,
        renewal_time,
        rebinding_time,
    };
    assert_eq!(DhcpReply::parse(&bytes, 0), Ok(expected), "{message}");
}

fn writes_ipv4(choices: &mut Choices<'_>) {
    let kinds = [
        (v4::MessageType::Discover, DhcpKind::Discover),
        (v4::MessageType::Request, DhcpKind::Request),
        (v4::MessageType::Decline, DhcpKind::Decline),
        (v4::MessageType::Release, DhcpKind::Release),
    ];
    let (theirs, kind) = kinds[usize::from(choices.u8()) % kinds.len()];
    let request = DhcpRequest {
        kind,
        transaction: choices.u32(),
        client_mac: MAC,
        seconds: choices.u16(),
        client_address: choices.bytes::<4>().into(),
        requested: choices.is_so().then(|| choices.bytes::<4>().into()),
        server: choices.is_so().then(|| choices.bytes::<4>().into()),
        maximum_size: choices.u16(),
    };
    let mut buffer = [0; DhcpRequest::LENGTH];
    let length = request.write(&mut buffer).expect("there is room");
    let read = v4::Message::from_bytes(&buffer[..length]).expect("a message");
    assert_eq!(read.opcode(), v4::Opcode::BootRequest);
    let header = (read.xid(), read.secs(), read.ciaddr(), read.chaddr());
    let expected = (
        request.transaction,
        request.seconds,
        request.client_address,
        &MAC.0[..],
    );
    assert_eq!(header, expected);
    let options = read.opts();
    assert!(options.has_msg_type(theirs), "{read}");
    let requested = request.requested.map(v4::DhcpOption::RequestedIpAddress);
    assert_eq!(
        options.get(v4::OptionCode::RequestedIpAddress),
        requested.as_ref()
    );
    let server = request.server.map(v4::DhcpOption::ServerIdentifier);
    assert_eq!(
        options.get(v4::OptionCode::ServerIdentifier),
        server.as_ref()
    );
}
