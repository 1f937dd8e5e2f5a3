//! One VM against whatever the network, the clock and its user do to it.
//!
//! The input is a byte that says what VM it is, then steps. Each is a byte that says what happens, two bytes for a length
//! or a time, and, if it is a frame, the frame.

use std::time::Duration;

use tap_reactor::time::Instant;
use tap_reactor::vm::{
    Addressing, ArpRequest, Ipv6Config, Ipv6Interface, MAX_OUTGOING, MAX_REASSEMBLY_BYTES,
    PingOptions, PingStart, Probe, ProbeKind, Reaction, SessionConfig, SessionId, StampMode,
    TcpClose, Vm, VmConfig,
};
use tap_reactor::wire::{Describe, LARGEST_FRAME, MacAddr, Vlan, VlanId};

use super::seal::{dhcp_transaction, dhcpv6_transaction, seal, tcp_answer, tcp_syn};

/// The VM is vm0 of a lab with default addresses.
const MAC: MacAddr = MacAddr([2, 0, 10, 77, 0, 2]);
/// Bytes that an answer may have more than its question: headers, a quotation's, and those of fragments.
const GROWTH: usize = 128;
/// Bytes that a VM may send of its own accord at its start and each time that it is left alone: requests that are
/// repeated, probes, reports.
const OWN_BYTES: usize = 8192;
/// A VM that has that much to do at once never stops.
const POLLS: usize = 100_000;

/// The steps of one input.
struct Steps<'a>(&'a [u8]);

enum Step<'a> {
    /// Frame as it is.
    Frame(&'a [u8]),
    /// Frame sent to this VM, and with sound checksums; if it is a DHCP server's, it answers what was asked last, and if it is of
    /// the port that TCP pings go to, it is of the connection that was opened last.
    Sealed(&'a [u8]),
    /// So much time passes.
    Wait(Duration),
    /// The VM's user starts a ping to one of the sessions' destinations.
    Ping(usize),
}

impl<'a> Iterator for Steps<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        let (&[what, high, low], rest) = self.0.split_first_chunk::<3>()?;
        let number = u16::from_be_bytes([high, low]);
        self.0 = rest;
        let mut frame = || {
            let (frame, rest) = self.0.split_at(usize::from(number).min(self.0.len()));
            self.0 = rest;
            frame
        };
        Some(match what % 8 {
            0 => Step::Frame(frame()),
            1..=4 => Step::Sealed(frame()),
            5 => Step::Wait(Duration::from_micros(number.into())),
            6 => Step::Wait(Duration::from_millis(number.into())),
            _ => Step::Ping(usize::from(number)),
        })
    }
}

/// The kinds of VMs, by the bits of `kind`.
fn config(kind: u8) -> VmConfig {
    let mut config = VmConfig::new(MAC, [10, 77, 0, 2].into());
    let bit = |n: u8| kind & (1 << n) != 0;
    config.ipv4.probe = bit(0);
    config.ipv4.announce = bit(1).then_some(Duration::from_millis(10));
    config.ipv4.udp_echo = true;
    config.stamp_reflector = Some(StampMode::Stateful);
    config.tcp_listen = Some(8080);
    if bit(7) {
        config.ipv4.addressing = Addressing::Dhcp;
    }
    config.ipv6 = (!bit(2)).then(|| Ipv6Config {
        interface: Some(Ipv6Interface {
            address: "fd77::2".parse().expect("an address"),
            prefix_length: 64,
        }),
        probe: bit(3),
        slaac: bit(4),
        dhcp: !bit(5) && bit(6),
        report: Duration::ZERO,
        gateway: bit(1).then(|| "fd77::1".parse().expect("an address")),
        announce: bit(1).then_some(Duration::from_millis(10)),
    });
    let id = |number| VlanId::new(number).expect("allowed");
    config.vlan = match (bit(5), bit(6)) {
        (false, _) => None,
        (true, false) => Some(Vlan::Single(id(100))),
        (true, true) => Some(Vlan::Double {
            outer: id(100),
            inner: id(200),
        }),
    };
    config
}

struct Bench {
    vm: Vm,
    config: VmConfig,
    sessions: Vec<SessionId>,
    now: Instant,
    buffer: Vec<u8>,
    /// Of the last message to a DHCP server.
    transaction: Option<[u8; 4]>,
    /// The same of DHCPv6.
    transaction6: Option<[u8; 3]>,
    /// Port and sequence number of the last SYN.
    syn: Option<(u16, u32)>,
    /// Bytes that the VM may have sent by now, and those that it has.
    allowed: usize,
    sent: usize,
}

impl Bench {
    fn new(config: VmConfig) -> Bench {
        let now = Instant::from_nanos(1_000_000_000);
        let mut vm = Vm::new(now, config);
        let [udp, stamp, arp, tcp] = [
            ProbeKind::Udp,
            ProbeKind::Stamp,
            ProbeKind::Arp,
            ProbeKind::Tcp,
        ]
        .map(Probe::of);
        let sessions = [
            ("10.77.0.3", 16, Probe::ICMP_ECHO),
            ("192.0.2.1", 3000, Probe::ICMP_ECHO),
            ("fd77::3", 16, Probe::ICMP_ECHO),
            ("fe80::1", 3000, Probe::ICMP_ECHO),
            ("2001:db8::1", 0, Probe::ICMP_ECHO),
            ("10.77.0.3", 3000, udp),
            ("fd77::3", 8, udp),
            ("10.77.0.3", 3000, stamp),
            ("fd77::3", 44, stamp),
            ("10.77.0.3", 0, tcp),
            (
                "fd77::3",
                0,
                Probe {
                    close: TcpClose::Fin,
                    ..tcp
                },
            ),
            (
                "10.77.0.3",
                0,
                Probe {
                    close: TcpClose::Fin,
                    hold_millis: 100,
                    ..tcp
                },
            ),
            ("10.77.0.3", 0, arp),
            ("fd77::3", 0, arp),
            (
                "10.77.0.3",
                0,
                Probe {
                    arp_request: ArpRequest::Unicast,
                    ..arp
                },
            ),
            (
                "fd77::3",
                0,
                Probe {
                    arp_request: ArpRequest::Unicast,
                    ..arp
                },
            ),
            // These come from ports that others have to other peers.
            ("10.77.0.9", 8, udp),
            ("10.77.0.9", 44, stamp),
        ];
        let sessions = sessions
            .into_iter()
            .map(|(destination, payload_length, probe)| {
                let config = SessionConfig {
                    destination: destination.parse().expect("an address"),
                    probe,
                    payload_length,
                    timeout: Duration::from_millis(500),
                    options: PingOptions::default(),
                };
                vm.open_session(config).expect("there is room")
            })
            .collect();
        Bench {
            vm,
            config,
            sessions,
            now,
            buffer: vec![0; LARGEST_FRAME + 64],
            transaction: None,
            transaction6: None,
            syn: None,
            allowed: OWN_BYTES,
            sent: 0,
        }
    }

    fn step(&mut self, step: Step<'_>) {
        match step {
            Step::Frame(frame) => self.receive(frame.to_vec()),
            Step::Sealed(frame) => {
                let mut frame = frame.to_vec();
                if let [destination @ .., _] = frame.get_mut(..7).unwrap_or_default()
                    && destination[0] & 1 == 0
                {
                    destination.copy_from_slice(&MAC.0);
                }
                if let Some(transaction) = self.transaction
                    && let Some((place, client)) = dhcp_transaction(&mut frame, 68)
                {
                    place.copy_from_slice(&transaction);
                    client.copy_from_slice(&MAC.0);
                }
                if let Some(transaction) = self.transaction6
                    && let Some(place) = dhcpv6_transaction(&mut frame, 546)
                {
                    place.copy_from_slice(&transaction);
                }
                if let Some((port, sequence)) = self.syn {
                    tcp_answer(&mut frame, port, sequence);
                }
                seal(&mut frame);
                if let Some(vlan) = self.config.vlan {
                    frame.splice(0..0, vec![0; vlan.length()]);
                    let _ = vlan.put_on(&mut frame);
                }
                self.receive(frame);
            }
            Step::Wait(time) => {
                self.allowed += OWN_BYTES;
                self.now = self.now + time;
                for session in self.sessions.clone() {
                    while self.vm.expire(self.now, session).is_some() {}
                }
            }
            Step::Ping(which) => {
                let session = self.sessions[which % self.sessions.len()];
                self.allowed += 3000 + 3 * GROWTH;
                if let PingStart::Transmit(transmit) =
                    self.vm.ping(self.now, session, self.now, &mut self.buffer)
                {
                    self.transmitted(Reaction {
                        transmit: Some(transmit),
                        event: None,
                    });
                }
            }
        }
        self.settle();
        assert!(
            self.sent <= self.allowed,
            "{} bytes sent, {} can be accounted for",
            self.sent,
            self.allowed
        );
        let bound = 2 * MAX_REASSEMBLY_BYTES + MAX_OUTGOING * LARGEST_FRAME;
        assert!(self.vm.fragment_bytes() <= bound);
        let counts = self.vm.connections();
        assert!(counts.closed <= counts.opened, "{counts:?}");
    }

    fn receive(&mut self, frame: Vec<u8>) {
        let length = frame.len().min(LARGEST_FRAME);
        self.buffer[..length].copy_from_slice(&frame[..length]);
        self.allowed += length + GROWTH;
        let reaction = self.vm.receive(self.now, &mut self.buffer, length);
        self.transmitted(reaction);
    }

    /// Checks that a frame of the VM is valid, has its source address, and fits the link.
    fn transmitted(&mut self, reaction: Reaction) {
        let Some(transmit) = reaction.transmit else {
            return;
        };
        let frame = &self.buffer[..transmit.length];
        let tags = self.config.vlan.map_or(0, Vlan::length);
        let told = Describe(frame).to_string();
        assert!(
            transmit.length <= 14 + tags + usize::from(self.config.mtu),
            "{told}"
        );
        assert!(
            !told.contains("malformed") && !told.contains("checksum"),
            "{told}: {frame:02x?}"
        );
        assert_eq!(frame[6..12], MAC.0, "{told}");
        self.sent += transmit.length;
        if let Some((transaction, _)) = dhcp_transaction(&mut frame[tags..].to_vec(), 67) {
            self.transaction = transaction.try_into().ok();
        }
        if let Some(transaction) = dhcpv6_transaction(&mut frame[tags..].to_vec(), 547) {
            self.transaction6 = (*transaction).try_into().ok();
        }
        if let Some(syn) = tcp_syn(&frame[tags..]) {
            self.syn = Some(syn);
        }
        if let Some(ping) = transmit.ping {
            self.vm.stamp_sent(ping, self.now);
        }
    }

    /// Lets the VM do all that is due. It comes to an end, and does not ask to be called again at once.
    fn settle(&mut self) {
        for _ in 0..POLLS {
            match self.vm.poll(self.now, &mut self.buffer) {
                Some(reaction) => self.transmitted(reaction),
                None => {
                    let next = self.vm.poll_at();
                    assert!(
                        next.is_none_or(|at| at > self.now),
                        "nothing to do at {:?}, but called for {next:?}",
                        self.now
                    );
                    return;
                }
            }
        }
        panic!("a VM that never rests");
    }
}

/// Lets the steps in `data` happen to a VM.
pub fn vm(data: &[u8]) {
    let Some((&kind, steps)) = data.split_first() else {
        return;
    };
    let mut bench = Bench::new(config(kind));
    bench.settle();
    for step in Steps(steps) {
        bench.step(step);
    }
}
