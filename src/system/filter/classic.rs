//! A program for each TAP, which the kernel runs when a frame has come to the TAP's queue (`TUNATTACHFILTER`).
//!
//! It is classic BPF (`Documentation/networking/filter.rst`), generated from a [`RxFilter`]. Whoever may make a TAP may give
//! it one. What it drops counts as `tx_dropped` of the TAP, as does what its full queue did not take.

use nix::libc::{self, sock_filter};

use crate::vm::RxFilter;
use crate::wire::{DHCP_SERVER_PORT, MacAddr, PROTOCOL_UDP};

/// More groups than this are not told apart: every multicast frame passes. Keeps the program well below the kernel's
/// bound of 4096 instructions.
const MOST_GROUPS: usize = 64;
/// The same for addresses in the ARP rule: every request passes.
const MOST_ADDRESSES: usize = 64;

const ACCEPT: u32 = u32::MAX;
const DROP: u32 = 0;

const DESTINATION: u32 = 0;
const ETHER_TYPE: u32 = 12;
const ETHER_TYPE_ARP: u32 = 0x0806;
const ETHER_TYPE_IPV4: u32 = 0x0800;
const IPV4_START: u32 = 14;
/// Version 4, five words: a header without options.
const PLAIN_HEADER: u32 = 0x45;
const IPV4_FRAGMENT: u32 = 20;
/// The bits of flags and offset that tell a fragment.
const FRAGMENT_BITS: u32 = 0x3fff;
const IPV4_PROTOCOL: u32 = 23;
const UDP_DESTINATION: u32 = 36;
const ARP_OPERATION: u32 = 20;
const ARP_REQUEST: u32 = 1;
const ARP_SENDER: u32 = 28;
const ARP_TARGET: u32 = 38;

/// The frame's protocol, which the kernel knows without looking into it (`linux/filter.h`).
const PROTOCOL: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32;
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
const PACKET_BROADCAST: u32 = libc::PACKET_BROADCAST as u32;

/// The program for `rx_filter`: accepts a frame with all of its bytes, or drops it.
pub(in super::super) fn program(rx_filter: &RxFilter) -> Vec<sock_filter> {
    let mut program = Program::default();
    if rx_filter.is_promiscuous {
        program.finish(ACCEPT);
        return program.0;
    }
    if let [address] = rx_filter.addresses.as_slice() {
        program.drop_requests_for_others((*address).into());
    }
    program.accept_destination(rx_filter.mac);
    if rx_filter.groups.len() > MOST_GROUPS {
        program.accept_multicast();
    } else {
        for group in &rx_filter.groups {
            program.accept_destination(*group);
        }
    }
    program.drop_unless_broadcast();
    program.load(libc::BPF_H, ETHER_TYPE);
    program.drop_if_for_dhcp_servers();
    program.load(libc::BPF_H, ETHER_TYPE);
    program.accept_unless(ETHER_TYPE_ARP);
    program.load(libc::BPF_H, ARP_OPERATION);
    program.accept_unless(ARP_REQUEST);
    if rx_filter.addresses.is_empty() || rx_filter.addresses.len() > MOST_ADDRESSES {
        program.finish(ACCEPT);
        return program.0;
    }
    for field in [ARP_TARGET, ARP_SENDER] {
        program.load(libc::BPF_W, field);
        for address in &rx_filter.addresses {
            program.accept_if((*address).into());
        }
    }
    // The accumulator holds the sender.
    program.push(libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0);
    program.load(libc::BPF_W, ARP_TARGET);
    program.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_X, 0, 0, 1);
    program.finish(ACCEPT);
    program.finish(DROP);
    program.0
}

#[derive(Default)]
struct Program(Vec<sock_filter>);

impl Program {
    fn push(&mut self, code: u32, operand: u32, if_true: u8, if_false: u8) {
        self.0.push(sock_filter {
            code: code as u16,
            jt: if_true,
            jf: if_false,
            k: operand,
        });
    }

    /// Loads bytes of the frame, big-endian. A frame that ends before them is dropped.
    fn load(&mut self, size: u32, offset: u32) {
        self.push(libc::BPF_LD | size | libc::BPF_ABS, offset, 0, 0);
    }

    /// Goes on with the next instruction if the accumulator is `value`, else skips `skip` of them.
    fn test(&mut self, value: u32, skip: u8) {
        let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        self.push(code, value, 0, skip);
    }

    /// Drops what a storm consists of: broadcast requests between others, judged by as little code as can be, because each
    /// TAP has a program of its own, which has to come from memory for each frame. Everything else goes on behind it. A
    /// load from within the frame takes a cache line of machine code, one of what the kernel knows a quarter of that.
    fn drop_requests_for_others(&mut self, address: u32) {
        const LENGTH: usize = 13;
        let end = self.0.len() + LENGTH;
        let onward = |program: &Program| (end - program.0.len() - 1) as u8;
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        for (size, offset, value) in [
            (libc::BPF_W, PROTOCOL, ETHER_TYPE_ARP),
            (libc::BPF_W, PACKET_TYPE, PACKET_BROADCAST),
            (libc::BPF_H, ARP_OPERATION, ARP_REQUEST),
        ] {
            self.load(size, offset);
            self.push(equal, value, 0, onward(self));
        }
        self.load(libc::BPF_W, ARP_SENDER);
        self.push(equal, address, onward(self), 0);
        self.push(libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0);
        self.load(libc::BPF_W, ARP_TARGET);
        self.push(equal, address, onward(self), 0);
        let equal_sender = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_X;
        self.push(equal_sender, 0, onward(self), 0);
        self.finish(DROP);
    }

    fn finish(&mut self, verdict: u32) {
        self.push(libc::BPF_RET | libc::BPF_K, verdict, 0, 0);
    }

    fn accept_if(&mut self, value: u32) {
        self.test(value, 1);
        self.finish(ACCEPT);
    }

    fn accept_unless(&mut self, value: u32) {
        let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        self.push(code, value, 1, 0);
        self.finish(ACCEPT);
    }

    fn accept_destination(&mut self, mac: MacAddr) {
        let (high, low) = halves(mac);
        self.load(libc::BPF_W, DESTINATION);
        self.test(high, 3);
        self.load(libc::BPF_H, DESTINATION + 4);
        self.accept_if(low);
    }

    fn accept_multicast(&mut self) {
        // Broadcast is left to the rules that follow: it is the only group whose address starts with four times 0xff
        // that anybody uses.
        self.load(libc::BPF_W, DESTINATION);
        let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        self.push(code, u32::MAX, 2, 0);
        let code = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
        self.push(code, 0x0100_0000, 0, 1);
        self.finish(ACCEPT);
    }

    /// The accumulator holds the EtherType.
    fn drop_if_for_dhcp_servers(&mut self) {
        let mut rule = Program::default();
        rule.load(libc::BPF_B, IPV4_START);
        rule.accept_unless(PLAIN_HEADER);
        rule.load(libc::BPF_B, IPV4_PROTOCOL);
        rule.accept_unless(PROTOCOL_UDP.into());
        rule.load(libc::BPF_H, IPV4_FRAGMENT);
        let code = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
        rule.push(code, FRAGMENT_BITS, 0, 1);
        rule.finish(ACCEPT);
        rule.load(libc::BPF_H, UDP_DESTINATION);
        rule.accept_unless(DHCP_SERVER_PORT.into());
        rule.finish(DROP);
        // A handful of instructions.
        self.test(ETHER_TYPE_IPV4, rule.0.len() as u8);
        self.0.extend(rule.0);
    }

    fn drop_unless_broadcast(&mut self) {
        let (high, low) = halves(MacAddr::BROADCAST);
        self.load(libc::BPF_W, DESTINATION);
        self.test(high, 2);
        self.load(libc::BPF_H, DESTINATION + 4);
        let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        self.push(code, low, 1, 0);
        self.finish(DROP);
    }
}

/// The first four and the last two bytes, as the program compares them.
fn halves(mac: MacAddr) -> (u32, u32) {
    let [a, b, c, d, e, f] = mac.0;
    (
        u32::from_be_bytes([a, b, c, d]),
        u32::from(u16::from_be_bytes([e, f])),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;
    use crate::vm::{Event, Vm, VmConfig};
    use crate::wire::{ArpPacket, EchoRequest, EthernetFrame, Ipv4Envelope, write_udp};
    use std::net::Ipv4Addr;

    const MAC: MacAddr = MacAddr([2, 0, 10, 77, 0, 2]);
    const OTHER: MacAddr = MacAddr([2, 0, 10, 77, 0, 3]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
    const GROUP: MacAddr = MacAddr([0x33, 0x33, 0xff, 0, 0, 2]);

    fn rx_filter() -> RxFilter {
        RxFilter {
            mac: MAC,
            addresses: vec![ADDRESS],
            groups: vec![GROUP],
            is_promiscuous: false,
        }
    }

    /// Ancillary data that the kernel has of a frame that came in by a bridge's port.
    fn known(frame: &[u8], offset: u32) -> Option<u32> {
        match offset {
            PROTOCOL => Some(u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?).into()),
            // The others are told apart by where the frame came in, not by whose program looks at it.
            PACKET_TYPE => Some(if frame.get(..6)? == [0xff; 6] { 1 } else { 0 }),
            _ => None,
        }
    }

    /// Runs a program as the kernel does (`kernel/bpf/core.c`); a load beyond the end returns 0.
    fn passes(program: &[sock_filter], frame: &[u8]) -> bool {
        let (mut a, mut x, mut next) = (0u32, 0u32, 0usize);
        loop {
            let instruction = program[next];
            next += 1;
            let at = instruction.k as usize;
            let code = u32::from(instruction.code);
            let mut jump = |is_true| {
                next += usize::from(if is_true {
                    instruction.jt
                } else {
                    instruction.jf
                });
            };
            if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS {
                let Some(value) = known(frame, instruction.k).or_else(|| {
                    let bytes = frame.get(at..at.checked_add(4)?)?;
                    Some(u32::from_be_bytes(bytes.try_into().unwrap()))
                }) else {
                    return false;
                };
                a = value;
            } else if code == libc::BPF_LD | libc::BPF_H | libc::BPF_ABS {
                let Some(bytes) = frame.get(at..at + 2) else {
                    return false;
                };
                a = u16::from_be_bytes(bytes.try_into().unwrap()).into();
            } else if code == libc::BPF_LD | libc::BPF_B | libc::BPF_ABS {
                let Some(byte) = frame.get(at) else {
                    return false;
                };
                a = u32::from(*byte);
            } else if code == libc::BPF_MISC | libc::BPF_TAX {
                x = a;
            } else if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K {
                jump(a == instruction.k);
            } else if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_X {
                jump(a == x);
            } else if code == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K {
                jump(a & instruction.k != 0);
            } else if code == libc::BPF_RET | libc::BPF_K {
                return instruction.k != 0;
            } else {
                panic!("{code:#x} is no instruction that the generator uses");
            }
        }
    }

    fn arp(operation: u16, sender: [u8; 4], target: [u8; 4], destination: MacAddr) -> Vec<u8> {
        let packet = ArpPacket {
            operation,
            sender_mac: OTHER,
            sender: sender.into(),
            target_mac: MacAddr::ZERO,
            target: target.into(),
        };
        let mut frame = vec![0; 64];
        let length = packet.write(destination, &mut frame).expect("64 bytes do");
        frame.truncate(length);
        frame
    }

    fn echo(destination_mac: MacAddr) -> Vec<u8> {
        let request = EchoRequest {
            envelope: Ipv4Envelope {
                source_mac: OTHER,
                destination_mac,
                source: Ipv4Addr::new(10, 77, 0, 3),
                destination: ADDRESS,
                time_to_live: 64,
                dscp: 0,
                dont_fragment: false,
                identification: 0,
            },
            identifier: 1,
            sequence: 1,
        };
        let mut frame = vec![0; 128];
        let length = request.write(56, |_| (), &mut frame).expect("128 bytes do");
        frame.truncate(length);
        frame
    }

    /// UDP to `port` of everybody, with its IPv4 header changed.
    fn udp(port: u16, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let envelope = Ipv4Envelope {
            source_mac: OTHER,
            destination_mac: MacAddr::BROADCAST,
            source: Ipv4Addr::UNSPECIFIED,
            destination: Ipv4Addr::BROADCAST,
            time_to_live: 64,
            dscp: 0,
            dont_fragment: false,
            identification: 0,
        };
        let mut frame = vec![0; 128];
        let length = write_udp(&envelope, (68, port), 40, |_| Some(40), &mut frame);
        frame.truncate(length.expect("128 bytes do"));
        change(&mut frame[14..]);
        let sum = etherparse::Ipv4HeaderSlice::from_slice(&frame[14..]).expect("sound");
        let sum = sum.to_header().calc_header_checksum().to_be_bytes();
        frame[24..26].copy_from_slice(&sum);
        frame
    }

    #[test]
    fn only_what_a_network_card_would_take_passes() {
        let (us, them, third) = ([10, 77, 0, 2], [10, 77, 0, 3], [10, 77, 0, 4]);
        let all = MacAddr::BROADCAST;
        let tagged = |tag: [u8; 4]| {
            let mut frame = arp(1, them, third, all);
            frame.splice(12..12, tag);
            frame
        };
        let table = [
            ("an echo request to us", echo(MAC), true),
            ("another's echo request, flooded", echo(OTHER), false),
            ("a group that we are in", echo(GROUP), true),
            (
                "a group that we are not in",
                echo(MacAddr([0x33, 0x33, 0, 0, 0, 1])),
                false,
            ),
            ("a broadcast that is not ARP", echo(all), true),
            ("for DHCP servers", udp(67, |_| ()), false),
            ("for DHCP clients", udp(68, |_| ()), true),
            ("for another port", udp(9, |_| ()), true),
            ("a fragment", udp(67, |ip| ip[6] = 0x20), true),
            ("not UDP", udp(67, |ip| ip[9] = 6), true),
            ("a request for our address", arp(1, them, us, all), true),
            ("a probe of our address", arp(1, [0; 4], us, all), true),
            (
                "a request for another address",
                arp(1, them, third, all),
                false,
            ),
            ("an announcement", arp(1, them, them, all), true),
            ("a conflict with our address", arp(1, us, third, all), true),
            ("a reply to everybody", arp(2, them, third, all), true),
            ("a reply to us", arp(2, them, us, MAC), true),
            (
                "a request that still has a tag",
                tagged([0x81, 0, 0, 7]),
                true,
            ),
            ("a broadcast without a type", vec![0xff; 12], false),
            ("no frame", vec![], false),
        ];
        let program = program(&rx_filter());
        for (what, frame, expected) in table {
            assert_eq!(passes(&program, &frame), expected, "{what}");
            if let Ok(frame) = EthernetFrame::parse(&frame) {
                assert_eq!(rx_filter().accepts(&frame), expected, "{what}");
            }
        }
    }

    #[test]
    fn a_vm_never_acts_on_a_frame_that_the_filter_drops() {
        let mut vm = Vm::new(Instant::ZERO, VmConfig::new(MAC, ADDRESS));
        let program = program(&vm.rx_filter());
        let addresses = [[10, 77, 0, 2], [10, 77, 0, 3], [10, 77, 0, 4], [0; 4]];
        let mut dropped = 0;
        for destination in [MAC, OTHER, MacAddr::BROADCAST, GROUP] {
            for operation in [0, 1, 2, 3] {
                for sender in addresses {
                    for target in addresses {
                        let mut frame = arp(operation, sender, target, destination);
                        if passes(&program, &frame) {
                            continue;
                        }
                        dropped += 1;
                        let length = frame.len();
                        let reaction = vm.receive(Instant::ZERO, &mut frame, length);
                        assert_eq!(reaction.transmit, None);
                        assert!(matches!(reaction.event, Some(Event::Ignored(_))));
                    }
                }
            }
        }
        assert!(dropped > 0);
    }

    #[test]
    fn very_many_groups_or_addresses_make_the_rule_wider_not_the_program_longer() {
        let many = RxFilter {
            mac: MAC,
            addresses: vec![ADDRESS; MOST_ADDRESSES + 1],
            groups: vec![GROUP; MOST_GROUPS + 1],
            is_promiscuous: false,
        };
        let program = program(&many);
        assert!(program.len() < 64);
        let (them, third) = ([10, 77, 0, 3], [10, 77, 0, 4]);
        assert!(passes(&program, &echo(MacAddr([1, 0, 0x5e, 0, 0, 1]))));
        assert!(passes(&program, &arp(1, them, third, MacAddr::BROADCAST)));
        assert!(!passes(&program, &echo(OTHER)));
    }
}
