//! ARP (RFC 826): a VM answers requests for its address, learns from replies to its own, and tells by other people's
//! packets whether it has its address alone (RFC 5227).

use std::net::Ipv4Addr;

use super::conflict_detection::{Broadcast, Verdict};
use crate::time::Instant;
use crate::vm::ip::{Protocol, is_host};
use crate::vm::neighbour::{Claim, Heard};
use crate::vm::{Event, Ignored, Reaction, Transmit, Vm};
use crate::wire::{ArpPacket, MacAddr};

/// The row of ARP: probes and announcements of the VM's own address. Neighbours are asked for by [`crate::vm::neighbour`].
pub(in crate::vm) const ARP: Protocol = Protocol {
    poll: Vm::poll_acd,
    deadline: |vm| vm.ipv4.acd.deadline(),
    ..Protocol::NONE
};

impl Vm {
    /// Takes an ARP packet whose frame was for `destination`, as Linux does (`arp_process`): a question for our address is
    /// answered, and its sender remembered; every packet updates what is known of its sender.
    pub(in crate::vm) fn receive_arp(
        &mut self,
        now: Instant,
        destination: MacAddr,
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
        let own = self.address();
        if let Some(own) = own.filter(|own| arp.sender == *own) {
            return Ok(self.conflict(now, own, arp.sender_mac, buffer));
        }
        let asked = own.filter(|own| is_request && arp.target == *own);
        if is_probe {
            let own = asked.ok_or(Ignored::OtherTarget)?;
            return Ok(Reaction {
                transmit: self.arp_reply(own, &arp, buffer),
                event: None,
            });
        }
        if !is_host(arp.sender) {
            return Err(Ignored::ArpSender);
        }
        if arp.target.is_multicast() || arp.target.is_loopback() {
            return Err(Ignored::OtherTarget);
        }
        let claim = match asked {
            Some(_) => Claim::of_sender(arp.sender_mac),
            None => Claim::of_arp(&arp, destination == self.mac),
        };
        let heard = self.hear_of(now, arp.sender.into(), claim);
        if let Some(own) = asked {
            return Ok(Reaction {
                transmit: self.arp_reply(own, &arp, buffer),
                event: heard.event(),
            });
        }
        let is_reply = !is_request && own == Some(arp.target);
        let answered = is_reply
            .then(|| self.receive_link_reply(now, arp.sender.into()))
            .flatten();
        match self.heard_and_answered(heard, answered) {
            Heard::Unknown if !is_request && own == Some(arp.target) => {
                Err(Ignored::UnexpectedArpReply)
            }
            Heard::Unknown => Err(Ignored::OtherTarget),
            Heard::Known(event) => Ok(Reaction {
                transmit: self.next_resolved(now, buffer),
                event,
            }),
        }
    }

    /// Answers a question for `own`.
    fn arp_reply(
        &self,
        own: Ipv4Addr,
        question: &ArpPacket,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let reply = ArpPacket {
            operation: ArpPacket::REPLY,
            sender_mac: self.mac,
            sender: own,
            target_mac: question.sender_mac,
            target: question.sender,
        };
        transmit(&reply, question.sender_mac, buffer)
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
        ArpPacket::request(self.mac, sender, target)
    }
}

fn transmit(packet: &ArpPacket, destination: MacAddr, buffer: &mut [u8]) -> Option<Transmit> {
    let length = packet.write(destination, buffer)?;
    Some(Transmit { length, ping: None })
}
