//! An index of receive filters, which finds the VMs that accept a flooded frame without a look at every VM: 100,000 VMs
//! that resolve one neighbour each would take ten thousand million looks.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use crate::vm::{RxFilter, VmId, is_for_dhcp_servers};
use crate::wire::{ArpPacket, EthernetFrame, MacAddr, Payload};

/// The receive filters of all VMs, by what they accept. Gives the same answers as [`RxFilter::accepts`] of each.
#[derive(Debug, Default)]
pub(crate) struct RxIndex {
    filters: HashMap<VmId, RxFilter>,
    by_mac: HashMap<MacAddr, BTreeSet<VmId>>,
    by_address: HashMap<Ipv4Addr, BTreeSet<VmId>>,
    /// VMs without an address.
    without: BTreeSet<VmId>,
    /// VMs that take every frame.
    promiscuous: BTreeSet<VmId>,
}

impl RxIndex {
    pub(crate) fn add(&mut self, vm: VmId, rx_filter: &RxFilter) {
        for mac in rx_filter.groups.iter().chain([&rx_filter.mac]) {
            self.by_mac.entry(*mac).or_default().insert(vm);
        }
        for address in &rx_filter.addresses {
            self.by_address.entry(*address).or_default().insert(vm);
        }
        if rx_filter.addresses.is_empty() {
            self.without.insert(vm);
        }
        if rx_filter.is_promiscuous {
            self.promiscuous.insert(vm);
        }
        self.filters.insert(vm, rx_filter.clone());
    }

    pub(crate) fn remove(&mut self, vm: VmId) {
        let Some(rx_filter) = self.filters.remove(&vm) else {
            return;
        };
        for mac in rx_filter.groups.iter().chain([&rx_filter.mac]) {
            if let Some(vms) = self.by_mac.get_mut(mac) {
                vms.remove(&vm);
            }
        }
        for address in &rx_filter.addresses {
            if let Some(vms) = self.by_address.get_mut(address) {
                vms.remove(&vm);
            }
        }
        self.without.remove(&vm);
        self.promiscuous.remove(&vm);
    }

    /// Returns the VMs that accept a flooded frame, in order; `None` for all of them.
    pub(crate) fn listeners(&self, frame: &EthernetFrame<'_>) -> Option<BTreeSet<VmId>> {
        let mut listeners = self.choosy(frame)?;
        listeners.extend(&self.promiscuous);
        Some(listeners)
    }

    /// Returns those of them that do not take every frame, and perhaps others.
    fn choosy(&self, frame: &EthernetFrame<'_>) -> Option<BTreeSet<VmId>> {
        if frame.destination != MacAddr::BROADCAST {
            return Some(
                self.by_mac
                    .get(&frame.destination)
                    .cloned()
                    .unwrap_or_default(),
            );
        }
        let arp = match frame.payload() {
            Ok(Payload::Arp(arp)) => arp,
            Ok(Payload::Ipv4(packet)) if is_for_dhcp_servers(&packet) => {
                return Some(BTreeSet::new());
            }
            _ => return None,
        };
        if arp.operation != ArpPacket::REQUEST || arp.sender == arp.target {
            return None;
        }
        let concerned = [arp.target, arp.sender];
        let concerned = concerned
            .iter()
            .filter_map(|address| self.by_address.get(address));
        Some(
            concerned
                .chain([&self.without])
                .flatten()
                .copied()
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rx_filter(i: u8) -> RxFilter {
        RxFilter {
            mac: MacAddr([2, 0, 0, 0, 0, i]),
            addresses: (!i.is_multiple_of(3))
                .then_some(Ipv4Addr::new(10, 0, 0, i))
                .into_iter()
                .collect(),
            groups: i
                .is_multiple_of(2)
                .then_some(MacAddr([0x33, 0x33, 0, 0, 0, 1]))
                .into_iter()
                .collect(),
            is_promiscuous: i.is_multiple_of(7),
        }
    }

    fn arp(operation: u16, sender: u8, target: u8) -> Vec<u8> {
        let packet = ArpPacket {
            operation,
            sender_mac: rx_filter(sender).mac,
            sender: Ipv4Addr::new(10, 0, 0, sender),
            target_mac: MacAddr::ZERO,
            target: Ipv4Addr::new(10, 0, 0, target),
        };
        let mut frame = vec![0; 64];
        let length = packet.write(MacAddr::BROADCAST, &mut frame).unwrap();
        frame.truncate(length);
        frame
    }

    #[test]
    fn the_index_finds_those_that_would_say_yes_if_all_were_asked() {
        let mut rx_index = RxIndex::default();
        for i in 0..10 {
            rx_index.add(VmId(i.into()), &rx_filter(i));
        }
        rx_index.remove(VmId(4));
        rx_index.add(VmId(4), &rx_filter(5));
        rx_index.remove(VmId(7));
        let mut frames = vec![[&[0xff; 6][..], &[2; 6], &[8, 0], &[0; 40]].concat()];
        for operation in [1, 2] {
            for (sender, target) in [(1, 2), (1, 5), (4, 7), (2, 2), (1, 9)] {
                frames.push(arp(operation, sender, target));
            }
        }
        for mac in [
            [0x33, 0x33, 0, 0, 0, 1],
            [2, 0, 0, 0, 0, 5],
            [2, 0, 0, 0, 0, 7],
        ] {
            frames.push([&mac[..], &[2; 6], &[8, 0], &[0; 40]].concat());
        }
        for bytes in frames {
            let frame = EthernetFrame::parse(&bytes).unwrap();
            let asked: BTreeSet<VmId> = rx_index
                .filters
                .iter()
                .filter(|(_, rx_filter)| rx_filter.accepts(&frame))
                .map(|(vm, _)| *vm)
                .collect();
            let found = rx_index.listeners(&frame);
            let found = found.unwrap_or_else(|| rx_index.filters.keys().copied().collect());
            assert_eq!(found, asked, "{bytes:x?}");
        }
    }
}
