//! ARP (RFC 826): a VM answers requests for its address, and learns from replies to its own.

use std::net::Ipv4Addr;

use super::ipv4::is_host;
use super::{Event, Ignored, Reaction, Transmit, Vm};
use crate::time::Instant;
use crate::wire::{ArpPacket, MacAddr};

impl Vm {
    pub(super) fn receive_arp(
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
        if arp.target != self.config.ipv4.address {
            return Err(Ignored::OtherTarget);
        }
        if !arp.sender_mac.is_unicast()
            || arp.sender_mac == self.config.mac
            || arp.sender == self.config.ipv4.address
        {
            return Err(Ignored::ArpSender);
        }
        let is_probe = is_request && arp.sender.is_unspecified();
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
            self.resolved.extend(pings);
            Event::Resolved {
                address: arp.sender.into(),
                mac: arp.sender_mac,
                elapsed,
            }
        });
        if is_request {
            let reply = ArpPacket {
                operation: ArpPacket::REPLY,
                sender_mac: self.config.mac,
                sender: self.config.ipv4.address,
                target_mac: arp.sender_mac,
                target: arp.sender,
            };
            let transmit = reply
                .write(arp.sender_mac, buffer)
                .map(|length| Transmit { length, ping: None });
            return Ok(Reaction { transmit, event });
        }
        if event.is_none() && !known {
            return Err(Ignored::UnexpectedArpReply);
        }
        Ok(Reaction {
            transmit: self.next_resolved(buffer),
            event,
        })
    }

    pub(super) fn arp_request(&self, target: Ipv4Addr, buffer: &mut [u8]) -> Option<Transmit> {
        let request = ArpPacket {
            operation: ArpPacket::REQUEST,
            sender_mac: self.config.mac,
            sender: self.config.ipv4.address,
            target_mac: MacAddr::ZERO,
            target,
        };
        let length = request.write(MacAddr::BROADCAST, buffer)?;
        Some(Transmit { length, ping: None })
    }
}
