//! ARP (RFC 826): a VM answers requests for its address, learns from replies to its own, and tells by other people's
//! packets whether it has its address alone (RFC 5227).

use std::net::Ipv4Addr;

use super::conflict_detection::{Broadcast, Verdict};
use crate::time::Instant;
use crate::vm::ip::{Protocol, is_host};
use crate::vm::{Event, Ignored, Reaction, Transmit, Vm};
use crate::wire::{ArpPacket, MacAddr};

/// The row of ARP: probes and announcements of the VM's own address. Neighbours are asked for by [`crate::vm::neighbour`].
pub(in crate::vm) const ARP: Protocol = Protocol {
    poll: Vm::poll_acd,
    deadline: |vm| vm.ipv4.acd.deadline(),
    ..Protocol::NONE
};

impl Vm {
    pub(in crate::vm) fn receive_arp(
        &mut self,
        now: Instant,
        arp: ArpPacket,
        buffer: &mut [u8],
    ) -> Result<Reaction, Ignored> {
        let is_request = match arp.operation {
            ArpPacket::REQUEST => true,
            ArpPacket::REPLY => false,
            _ => return Err(Ignored::ArpOperation),
        };
        if !arp.sender_mac.is_unicast() || arp.sender_mac == self.mac {
            return Err(Ignored::ArpSender);
        }
        let is_probe = is_request && arp.sender.is_unspecified();
        if let Some(tentative) = self.ipv4.acd.tentative()
            && (arp.sender == tentative || (is_probe && arp.target == tentative))
        {
            return Ok(self.conflict(now, tentative, arp.sender_mac, buffer));
        }
        let Some(own) = self.address() else {
            return Err(Ignored::OtherTarget);
        };
        if arp.sender == own {
            return Ok(self.conflict(now, own, arp.sender_mac, buffer));
        }
        if arp.target != own {
            return Err(Ignored::OtherTarget);
        }
        if !is_probe && !is_host(arp.sender) {
            return Err(Ignored::ArpSender);
        }
        let known = self.neighbours.get(arp.sender.into()).is_some();
        let waiting = if is_probe {
            None
        } else {
            self.neighbours
                .learn(now, arp.sender.into(), arp.sender_mac, is_request)
        };
        let event = waiting.map(|(elapsed, pings)| {
            self.resolve(now, pings);
            Event::Resolved {
                address: arp.sender.into(),
                mac: arp.sender_mac,
                elapsed,
            }
        });
        if is_request {
            let reply = ArpPacket {
                operation: ArpPacket::REPLY,
                sender_mac: self.mac,
                sender: own,
                target_mac: arp.sender_mac,
                target: arp.sender,
            };
            return Ok(Reaction {
                transmit: transmit(&reply, arp.sender_mac, buffer),
                event,
            });
        }
        if event.is_none() && !known {
            return Err(Ignored::UnexpectedArpReply);
        }
        Ok(Reaction {
            transmit: self.next_resolved(now, buffer),
            event,
        })
    }

    /// Asks who has `target`: everybody, or the one who had it last.
    pub(in crate::vm) fn arp_request(
        &self,
        target: Ipv4Addr,
        last: Option<MacAddr>,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let request = self.request(self.address()?, target);
        transmit(&request, last.unwrap_or(MacAddr::BROADCAST), buffer)
    }

    /// Sends the probe or the announcement that is due at `now`.
    fn poll_acd(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let (request, event) = match self.ipv4.acd.overdue(now, &mut self.random)? {
            Broadcast::Probe(address) => (self.request(Ipv4Addr::UNSPECIFIED, address), None),
            Broadcast::Announce { address, is_first } => {
                let event = is_first.then_some(Event::AddressReady {
                    address: address.into(),
                });
                (self.request(address, address), event)
            }
        };
        Some(Reaction {
            transmit: transmit(&request, MacAddr::BROADCAST, buffer),
            event,
        })
    }

    /// Another station claims `address`, which is ours or which we try.
    fn conflict(
        &mut self,
        now: Instant,
        address: Ipv4Addr,
        mac: MacAddr,
        buffer: &mut [u8],
    ) -> Reaction {
        let transmit = match self.ipv4.acd.conflict(now) {
            Verdict::Ignore => None,
            Verdict::GivenUp => self.decline_lease(now, buffer),
            Verdict::Defend => {
                let announcement = self.request(address, address);
                transmit(&announcement, MacAddr::BROADCAST, buffer)
            }
        };
        Reaction {
            transmit,
            event: Some(Event::Conflict {
                address: address.into(),
                mac,
            }),
        }
    }

    fn request(&self, sender: Ipv4Addr, target: Ipv4Addr) -> ArpPacket {
        ArpPacket {
            operation: ArpPacket::REQUEST,
            sender_mac: self.mac,
            sender,
            target_mac: MacAddr::ZERO,
            target,
        }
    }
}

fn transmit(packet: &ArpPacket, destination: MacAddr, buffer: &mut [u8]) -> Option<Transmit> {
    let length = packet.write(destination, buffer)?;
    Some(Transmit { length, ping: None })
}
