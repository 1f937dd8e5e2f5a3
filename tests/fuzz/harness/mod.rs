//! Invariants that hold for any input: the bodies of the fuzz targets, which `tests/invariants.rs` runs as well, with
//! fewer and duller inputs, in every `cargo test`.

mod control;
mod ranks;
mod seal;
mod vm;

#[allow(unused_imports)] // Each target uses one.
pub use control::converse;
#[allow(unused_imports)]
pub use ranks::meet;
#[allow(unused_imports)]
pub use vm::vm;

use std::net::IpAddr;

use tap_reactor::experiment::{Processes, Scenario, describe, draft};
use tap_reactor::wire::{
    Describe, DhcpReply, Dhcpv6Reply, EthernetFrame, IcmpMessage, LARGEST_FRAME, LinkHead,
    MAX_ASSOCIATIONS, MAX_CLASSLESS_ROUTES, Payload, ProbeHead, StreamFrame, TcpSegment,
    UdpDatagram, UpperLayer, Vlan, VlanId, check_options, take_off,
};

/// Reads a frame in every way in which a VM may read it, as it is and with its checksums put right.
pub fn parse(data: &[u8]) {
    let mut frame = data
        .get(..data.len().min(LARGEST_FRAME))
        .unwrap_or(data)
        .to_vec();
    read(&frame);
    seal::seal(&mut frame);
    read(&frame);
    let vlans = [1, 4094].map(|number| VlanId::new(number).expect("allowed"));
    for vlan in [
        None,
        Some(Vlan::Single(vlans[0])),
        Some(Vlan::Double {
            outer: vlans[0],
            inner: vlans[1],
        }),
    ] {
        let mut tagged = frame.clone();
        if let Some(start) = take_off(vlan, &mut tagged) {
            read(&tagged[start..]);
        }
    }
}

fn read(frame: &[u8]) {
    let told = Describe(frame).to_string();
    assert!(!told.is_empty() && !told.contains('\n'), "{told:?}");
    let head = ProbeHead::parse(frame);
    assert_eq!(
        ProbeHead::is_request(frame),
        head.is_some_and(|head| head.is_request)
    );
    let _ = LinkHead::parse(frame);
    let _ = StreamFrame::parse(frame, 0);
    let Ok(Ok(payload)) = EthernetFrame::parse(frame).map(|frame| frame.payload()) else {
        return;
    };
    match payload {
        Payload::Ipv4(packet) => {
            assert!(packet.payload_offset + packet.payload.len() <= frame.len());
            let _ = IcmpMessage::parse(&packet);
            if let Ok(datagram) = UdpDatagram::parse(&packet)
                && let Ok(reply) = DhcpReply::parse(datagram.payload, packet.payload_offset + 8)
            {
                let routes = reply.routes.unwrap_or_default();
                assert!(routes.len() <= MAX_CLASSLESS_ROUTES);
                assert!(routes.iter().all(|route| route.prefix_length <= 32));
                assert!(reply.prefix_length.is_none_or(|length| length <= 32));
            }
            if let Ok(datagram) = UdpDatagram::parse(&packet)
                && let Some(run) = datagram.payload.first_chunk()
                && let Some(stream) = StreamFrame::parse(frame, u32::from_be_bytes(*run))
            {
                assert_eq!(stream.destination, IpAddr::from(packet.destination));
                assert_eq!(stream.tags, 0);
            }
            let _ = TcpSegment::parse(&packet);
            let _ = check_options(packet.options);
        }
        Payload::Ipv6(packet) => {
            if let Ok(UpperLayer::Whole {
                payload, offset, ..
            }) = packet.upper_layer()
                && let Ok(datagram) = UdpDatagram::parse_ipv6(&packet, payload, offset)
                && let Ok(reply) = Dhcpv6Reply::parse(datagram.payload, offset + 8)
            {
                let associations = reply.associations;
                let bounded = |found: usize| assert!(found <= MAX_ASSOCIATIONS);
                bounded(associations.len());
                associations
                    .iter()
                    .for_each(|each| bounded(each.addresses.len()));
            }
        }
        Payload::Arp(arp) => {
            let mut buffer = [0; 64];
            let written = arp
                .write(arp.target_mac, &mut buffer)
                .expect("64 bytes are enough");
            let read = EthernetFrame::parse(&buffer[..written]).and_then(|frame| frame.payload());
            assert!(
                matches!(read, Ok(Payload::Arp(again)) if again == arp),
                "{read:?}"
            );
        }
        Payload::Other(_) => {}
    }
}

/// Reads a scenario file, plans the run, and tells the plan. Nothing but an error of one line may come of nonsense.
pub fn scenario(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Scenario::parse("fuzz.toml", text).and_then(|scenario| draft(&scenario, Processes::One)) {
        Ok(experiment) => assert!(!describe(&experiment).is_empty()),
        Err(error) => {
            let error = error.to_string();
            assert!(
                !error.is_empty() && !error.contains(char::is_control),
                "{error:?}"
            );
        }
    }
}
