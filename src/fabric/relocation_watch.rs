//! What is seen of the frames of a VM that was moved: the first each way, as long as it has not been, its announcements, and
//! what bridges learn from those.
//!
//! A frame is sent when the port has taken it, which may be long after the VM has: an impairment may hold it or lose it, and
//! so may a misbehaviour. So announcements are known by their bytes. One that was corrupted while it was held tells nobody.

use rustc_hash::FxHashMap;

use super::{Fabric, FdbChange, FdbEvent};
use crate::time::Instant;
use crate::vm::VmId;
use crate::wire::{EthernetFrame, MacAddr};

/// EtherType and operation of an ARP reply, in a frame without tags, and the type of a neighbour advertisement.
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ARP_OPERATION: std::ops::Range<usize> = 20..22;
const ICMPV6_TYPE: usize = 54;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// The first frames of a VM after a move.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sightings {
    /// The first frame that it has received, a broadcast or one to itself.
    pub first_in: Option<Instant>,
    /// The first frame to its own address that it has received.
    pub first_to_itself: Option<Instant>,
    /// When its first announcement of the move had been written to its port.
    pub announced: Option<Instant>,
    /// When the first frame was written to its port that is no announcement.
    pub first_out: Option<Instant>,
    /// That one answered who looked for its hardware address.
    pub first_out_is_answer: bool,
}

impl Sightings {
    /// Returns true if there is nothing left to see.
    const fn is_complete(&self) -> bool {
        self.first_to_itself.is_some() && self.first_out.is_some()
    }
}

/// The VMs that are watched after their moves.
#[derive(Debug, Default)]
pub(super) struct RelocationWatch {
    watched: FxHashMap<VmId, Watched>,
    /// The number of those of which there is something left to see.
    left: usize,
    /// What was heard of tables of bridges around announcements.
    heard: Vec<FdbEvent>,
}

#[derive(Debug)]
struct Watched {
    mac: MacAddr,
    since: Instant,
    seen: Sightings,
    /// Its announcements, as it and what misbehaves in it make them.
    announcements: Vec<Box<[u8]>>,
    /// All that tables have told from before its announcement was heard: it has written nothing since.
    is_heard: bool,
    /// There is nothing left to see but announcements.
    is_over: bool,
}

impl RelocationWatch {
    /// Begins to watch `vm`, which has this address, at `since`. What tables had learned from its own frames until then was heard.
    pub(super) fn begin(&mut self, vm: VmId, mac: MacAddr, since: Instant) {
        self.end(vm);
        let watched = Watched {
            mac,
            since,
            seen: Sightings::default(),
            announcements: Vec::new(),
            is_heard: true,
            is_over: false,
        };
        self.watched.insert(vm, watched);
        self.left += 1;
    }

    /// Forgets what was seen of `vm`, and ends to watch it.
    pub(super) fn end(&mut self, vm: VmId) {
        self.stop(vm);
        self.watched.remove(&vm);
    }

    /// Ends to watch `vm`, which stops.
    pub(super) fn stop(&mut self, vm: VmId) {
        if let Some(watched) = self.watched.get_mut(&vm) {
            self.left -= usize::from(!watched.is_over);
            watched.is_over = true;
        }
    }

    /// Returns what was seen of `vm` so far, if it is watched or was.
    pub(super) fn of(&self, vm: VmId) -> Option<Sightings> {
        self.watched.get(&vm).map(|watched| watched.seen)
    }

    /// Returns true if there is something left to see.
    pub(super) const fn goes_on(&self) -> bool {
        self.left > 0
    }

    /// `vm` has received `frame` at `now`.
    pub(super) fn received(&mut self, now: Instant, vm: VmId, frame: &[u8]) {
        self.see(now, vm, |mac, seen| {
            seen.first_in.get_or_insert(now);
            if frame.first_chunk() == Some(&mac.0) {
                seen.first_to_itself.get_or_insert(now);
            }
        });
    }

    /// From now on `frame` is one of the announcements of `vm`.
    pub(super) fn announces(&mut self, vm: VmId, frame: &[u8]) {
        if let Some(watched) = self.watched.get_mut(&vm)
            && !watched.is_announcement(frame)
        {
            watched.announcements.push(frame.into());
        }
    }

    /// Returns true if `frame` is an announcement of `vm`.
    pub(super) fn is_announcement(&self, vm: VmId, frame: &[u8]) -> bool {
        let watched = self.watched.get(&vm);
        watched.is_some_and(|watched| watched.is_announcement(frame))
    }

    /// Has `write` write `frame` of `vm` to its port at `now`, which returns true if that was done. What bridges learn
    /// meanwhile they learn from it.
    pub(super) fn writing<F: Fabric>(
        &mut self,
        fabric: &mut F,
        now: Instant,
        (vm, frame): (VmId, &[u8]),
        write: impl FnOnce(&mut F) -> bool,
    ) {
        let is_announcement = self.is_announcement(vm, frame);
        let watched = self.watched.get_mut(&vm);
        let is_heard =
            watched.is_some_and(|watched| std::mem::replace(&mut watched.is_heard, false));
        if !is_announcement {
            if write(fabric) {
                self.sent(now, vm, frame);
            }
            return;
        }
        // What was learned before was not learned from this one. The first one behind a move does not wait for that.
        if !is_heard {
            self.heard.extend(fabric.fdb_events(now));
        }
        let is_written = write(fabric);
        let now = fabric.time_after(now);
        if is_written && let Some(watched) = self.watched.get_mut(&vm) {
            watched.seen.announced.get_or_insert(now);
        }
        let heard = fabric.fdb_events(now).into_iter();
        self.heard.extend(heard.map(|event| {
            let is_learned = event.vm == vm && event.change == FdbChange::Learned;
            let change = match is_written && is_learned {
                true => FdbChange::LearnedFromAnnouncement,
                false => event.change,
            };
            FdbEvent { change, ..event }
        }));
    }

    /// Takes what was heard of tables of bridges around announcements.
    pub(super) fn take_heard(&mut self) -> Vec<FdbEvent> {
        std::mem::take(&mut self.heard)
    }

    /// `frame` of `vm`, which is no announcement, was written to its port at `now`.
    fn sent(&mut self, now: Instant, vm: VmId, frame: &[u8]) {
        self.see(now, vm, |_, seen| {
            if seen.first_out.is_none() {
                seen.first_out = Some(now);
                seen.first_out_is_answer = is_answer(frame);
            }
        });
    }

    fn see(&mut self, now: Instant, vm: VmId, look: impl FnOnce(MacAddr, &mut Sightings)) {
        let watched = self.watched.get_mut(&vm);
        let Some(watched) = watched.filter(|of| !of.is_over && of.since <= now) else {
            return;
        };
        look(watched.mac, &mut watched.seen);
        watched.is_over = watched.seen.is_complete();
        self.left -= usize::from(watched.is_over);
    }
}

impl Watched {
    fn is_announcement(&self, frame: &[u8]) -> bool {
        self.announcements.iter().any(|known| **known == *frame)
    }
}

/// Returns true for an ARP reply and a neighbour advertisement, tags left out.
fn is_answer(frame: &[u8]) -> bool {
    let Ok(header) = EthernetFrame::parse(frame) else {
        return false;
    };
    match header.ether_type {
        ARP => frame.get(ARP_OPERATION) == Some(&[0, 2]),
        IPV6 => frame.get(ICMPV6_TYPE) == Some(&NEIGHBOUR_ADVERTISEMENT),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ArpPacket;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    fn arp(operation: u16, from: MacAddr, to: MacAddr) -> Vec<u8> {
        let packet = ArpPacket {
            operation,
            sender_mac: from,
            sender: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: MacAddr::ZERO,
            target: Ipv4Addr::new(10, 0, 0, 2),
        };
        let mut frame = vec![0; 60];
        packet.write(to, &mut frame).expect("there is room");
        frame
    }

    #[test]
    fn the_first_frame_of_each_kind_is_kept_and_no_later_one() {
        let (own, other) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let at = |micros| Instant::ZERO + Duration::from_micros(micros);
        let (vm, stranger) = (VmId(3), VmId(4));
        let mut watch = RelocationWatch::default();
        watch.begin(vm, own, at(1));
        let request = arp(ArpPacket::REQUEST, other, MacAddr::BROADCAST);
        watch.received(at(0), vm, &request);
        assert_eq!(watch.of(vm), Some(Sightings::default()), "it is to come");
        watch.received(at(1), stranger, &request);
        watch.received(at(2), vm, &request);
        watch.sent(at(3), vm, &arp(ArpPacket::REPLY, own, other));
        assert!(watch.goes_on());
        watch.received(at(4), vm, &arp(ArpPacket::REPLY, other, own));
        assert!(!watch.goes_on());
        watch.sent(at(5), vm, &request);
        watch.received(at(6), vm, &request);
        let seen = Sightings {
            first_in: Some(at(2)),
            first_to_itself: Some(at(4)),
            announced: None,
            first_out: Some(at(3)),
            first_out_is_answer: true,
        };
        assert_eq!(watch.of(vm), Some(seen));
        watch.end(vm);
        assert_eq!(watch.of(vm), None);
    }

    #[test]
    fn a_vm_is_watched_until_it_has_sent_and_received_or_stops() {
        let own = MacAddr([2, 0, 0, 0, 0, 1]);
        let (vm, silent, now) = (VmId(3), VmId(4), Instant::ZERO);
        let frame = arp(ArpPacket::REPLY, own, own);
        let mut watch = RelocationWatch::default();
        for vm in [vm, silent, silent] {
            watch.begin(vm, own, now);
        }
        watch.received(now, vm, &frame);
        watch.sent(now, vm, &frame);
        assert!(watch.goes_on());
        watch.sent(now, silent, &frame);
        watch.stop(silent);
        assert!(!watch.goes_on());
        assert_eq!(watch.of(silent).and_then(|seen| seen.first_out), Some(now));
        watch.end(silent);
        watch.end(vm);
        assert!(!watch.goes_on());
    }
}
