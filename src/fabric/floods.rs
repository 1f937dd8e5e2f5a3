//! Counts the copies of frames that a network floods (`--count-floods`): broadcasts, frames to groups, and frames to one station
//! that come to others as well.
//!
//! A frame that a VM sends is remembered by its bytes for a second, and every frame that a VM receives is looked up. Of frames
//! with the same bytes, the first copy that a VM gets is one of the first. Copies can only be counted that come so far: filters
//! before the VMs are off in such a run.

use std::collections::VecDeque;
use std::hash::Hasher as _;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHasher};

use super::output::Form;
use super::{Direction, Instrument, InstrumentKind, Observed};
use crate::record::{FloodKind, Floods};
use crate::time::Instant;
use crate::vm::{RxFilter, VmId};
use crate::wire::{ArpPacket, EthernetFrame, MacAddr, Payload};

/// The instrument of `--count-floods`. It writes nothing: its figures are part of the report.
pub(super) const COUNT_FLOODS: InstrumentKind = InstrumentKind {
    form: Form::Nothing,
    ..InstrumentKind::new("count-floods", "frame", |_, _, _| {
        Ok(Box::new(FloodCounter::default()))
    })
};

/// Copies that come later than this are taken for other frames.
const LIFETIME: Duration = Duration::from_secs(1);
/// Frames that are remembered at most; then the oldest is forgotten.
const MOST_REMEMBERED: usize = 1 << 16;

/// A frame that was sent.
#[derive(Debug)]
struct Sent {
    at: Instant,
    kind: FloodKind,
    copies: u64,
    unwanted: u64,
    takers: Takers,
    repeated: u64,
    last: Instant,
}

/// The VMs that got a copy of a frame.
#[derive(Debug)]
enum Takers {
    None,
    /// As of most frames to one station.
    One(VmId),
    /// A bit for each.
    Many(Vec<u64>),
}

impl Takers {
    /// Adds `vm`. Returns false if it was there before.
    fn add(&mut self, vm: VmId) -> bool {
        let set = |bits: &mut Vec<u64>, vm: VmId| {
            let (word, bit) = (vm.index() / 64, 1 << (vm.index() % 64));
            if bits.len() <= word {
                bits.resize(word + 1, 0);
            }
            bits.get_mut(word).is_some_and(|word| {
                let is_new = *word & bit == 0;
                *word |= bit;
                is_new
            })
        };
        match self {
            Takers::None => {
                *self = Takers::One(vm);
                true
            }
            Takers::One(one) if *one == vm => false,
            Takers::One(one) => {
                let mut bits = Vec::new();
                set(&mut bits, *one);
                set(&mut bits, vm);
                *self = Takers::Many(bits);
                true
            }
            Takers::Many(bits) => set(bits, vm),
        }
    }

    fn contains(&self, vm: VmId) -> bool {
        match self {
            Takers::None => false,
            Takers::One(one) => *one == vm,
            Takers::Many(bits) => {
                let word = bits.get(vm.index() / 64);
                word.is_some_and(|word| word & (1 << (vm.index() % 64)) != 0)
            }
        }
    }

    fn count(&self) -> u64 {
        match self {
            Takers::None => 0,
            Takers::One(_) => 1,
            Takers::Many(bits) => bits.iter().map(|word| u64::from(word.count_ones())).sum(),
        }
    }
}

/// Frames with the same bytes, at least one.
#[derive(Debug, Default)]
struct Same {
    /// The number of the first of them, counted from those that were forgotten.
    first: u64,
    sent: VecDeque<Sent>,
    /// The number of the first one that the VM may not have got yet, where there were several.
    next: FxHashMap<VmId, u64>,
}

impl Same {
    /// The one of which `vm` gets a copy now: the first that it has not got, or else the last.
    fn of(&mut self, vm: VmId) -> Option<&mut Sent> {
        let known = self.next.get(&vm).copied().unwrap_or_default();
        let mut at = usize::try_from(known.saturating_sub(self.first)).ok()?;
        while self
            .sent
            .get(at)
            .is_some_and(|sent| sent.takers.contains(vm))
        {
            at += 1;
        }
        if self.sent.len() > 1 {
            self.next.insert(vm, self.first + at as u64);
        }
        match at < self.sent.len() {
            true => self.sent.get_mut(at),
            false => self.sent.back_mut(),
        }
    }
}

/// Counts floods.
#[derive(Debug, Default)]
struct FloodCounter {
    filters: Vec<Option<RxFilter>>,
    sent: FxHashMap<u64, Same>,
    /// In the order of sending.
    order: VecDeque<(Instant, u64)>,
    floods: Floods,
}

impl FloodCounter {
    fn sends(&mut self, now: Instant, frame: &[u8]) {
        let Some(kind) = kind_of(frame) else {
            return;
        };
        while let Some(&(at, key)) = self.order.front()
            && (now - at > LIFETIME || self.order.len() >= MOST_REMEMBERED)
        {
            self.order.pop_front();
            let Some(same) = self.sent.get_mut(&key) else {
                continue;
            };
            same.first += 1;
            if let Some(sent) = same.sent.pop_front() {
                add(&mut self.floods, &sent);
            }
            if same.sent.is_empty() {
                self.sent.remove(&key);
            }
        }
        let key = key_of(frame);
        self.order.push_back((now, key));
        self.sent.entry(key).or_default().sent.push_back(Sent {
            at: now,
            kind,
            copies: 0,
            unwanted: 0,
            takers: Takers::None,
            repeated: 0,
            last: now,
        });
    }

    fn receives(&mut self, now: Instant, vm: VmId, frame: &[u8]) {
        let same = self.sent.get_mut(&key_of(frame));
        let Some(sent) = same.and_then(|same| same.of(vm)) else {
            return;
        };
        sent.copies += 1;
        sent.last = sent.last.max(now);
        sent.repeated += u64::from(!sent.takers.add(vm));
        let filter = self.filters.get(vm.index()).and_then(Option::as_ref);
        if let (Some(filter), Ok(parsed)) = (filter, EthernetFrame::parse_untagged(frame))
            && !filter.accepts(&parsed)
        {
            sent.unwanted += 1;
        }
    }
}

/// Counts a frame of which no further copy is expected. One to a single station that came to nobody else was not flooded.
fn add(floods: &mut Floods, sent: &Sent) {
    if sent.kind == FloodKind::UnknownUnicast && sent.unwanted == 0 {
        return;
    }
    let Some(counts) = floods.get_mut(sent.kind) else {
        return;
    };
    counts.frames += 1;
    counts.copies += sent.copies;
    counts.most_vms = counts.most_vms.max(sent.takers.count());
    counts.repeated += sent.repeated;
    counts.unwanted += sent.unwanted;
    if sent.copies > 0 {
        counts.last_copy.record(sent.last.nanos_since(sent.at));
    }
}

/// The kind of flood that a frame may be.
fn kind_of(frame: &[u8]) -> Option<FloodKind> {
    let destination = MacAddr(*frame.first_chunk()?);
    if destination == MacAddr::BROADCAST {
        let parsed = EthernetFrame::parse_untagged(frame).ok()?;
        return Some(match parsed.payload() {
            Ok(Payload::Arp(arp)) if arp.operation == ArpPacket::REQUEST => FloodKind::ArpRequest,
            _ => FloodKind::Broadcast,
        });
    }
    Some(match destination.is_multicast() {
        true => FloodKind::Multicast,
        false => FloodKind::UnknownUnicast,
    })
}

/// A number by which copies of a frame are known, with VLAN tags or without: a bridge puts them on and takes them off.
fn key_of(frame: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    match EthernetFrame::parse_untagged(frame) {
        Ok(parsed) => {
            hasher.write(&parsed.destination.0);
            hasher.write(&parsed.source.0);
            hasher.write_u16(parsed.ether_type);
            hasher.write(parsed.payload);
        }
        Err(_) => hasher.write(frame),
    }
    hasher.finish()
}

impl Instrument for FloodCounter {
    fn frame(&mut self, now: Instant, observed: &Observed<'_>) {
        let is_gone = observed.refused.is_some() || observed.impaired.is_dropped();
        match observed.direction {
            Direction::Out if !is_gone => self.sends(now, observed.frame),
            Direction::In if !is_gone => self.receives(now, observed.vm, observed.frame),
            Direction::Out | Direction::In => {}
        }
    }

    fn rx_filter(&mut self, vm: VmId, rx_filter: &RxFilter) {
        if self.filters.len() <= vm.index() {
            self.filters.resize_with(vm.index() + 1, || None);
        }
        if let Some(filter) = self.filters.get_mut(vm.index()) {
            *filter = Some(rx_filter.clone());
        }
    }

    fn floods(&self) -> Option<Floods> {
        let mut floods = self.floods.clone();
        let left = self.sent.values().flat_map(|same| &same.sent);
        left.for_each(|sent| add(&mut floods, sent));
        Some(floods)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::fabric::Impaired;

    fn mac(number: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, number])
    }

    fn request(target: u8) -> Vec<u8> {
        let mut frame = vec![0; 42];
        let packet = ArpPacket {
            operation: ArpPacket::REQUEST,
            sender_mac: mac(0),
            sender: Ipv4Addr::new(10, 0, 0, 10),
            target_mac: MacAddr::ZERO,
            target: Ipv4Addr::new(10, 0, 0, 10 + target),
        };
        packet.write(MacAddr::BROADCAST, &mut frame).unwrap();
        frame
    }

    fn to(destination: MacAddr) -> Vec<u8> {
        let mut frame = [destination.0, mac(0).0].concat();
        frame.extend([0x88, 0xb5]);
        frame.resize(60, 7);
        frame
    }

    fn counter() -> FloodCounter {
        let mut counter = FloodCounter::default();
        for vm in 0..4 {
            let mut filter = RxFilter::new(mac(vm));
            filter.addresses.push(Ipv4Addr::new(10, 0, 0, 10 + vm));
            if vm == 2 {
                filter.groups.push(MacAddr([0x33, 0x33, 0, 0, 0, 1]));
            }
            counter.rx_filter(VmId(vm.into()), &filter);
        }
        counter
    }

    fn show(counter: &mut FloodCounter, micros: u64, vm: u32, direction: Direction, frame: &[u8]) {
        let observed = Observed {
            vm: VmId(vm),
            direction,
            frame,
            impaired: Impaired::default(),
            refused: None,
        };
        counter.frame(Instant::from_nanos(micros * 1000), &observed);
    }

    /// Frames, copies, the most VMs, copies that are repeated, those that nobody wants, and when the last came.
    fn counts(floods: &Floods, kind: FloodKind) -> (u64, u64, u64, u64, u64, Option<u64>) {
        let counts = floods.get(kind).unwrap();
        let last = counts.last_copy.summary().max.map(|nanos| nanos / 1000);
        (
            counts.frames,
            counts.copies,
            counts.most_vms,
            counts.repeated,
            counts.unwanted,
            last,
        )
    }

    #[test]
    fn copies_are_counted_with_those_that_are_for_somebody_else_and_the_last_of_them() {
        let group = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
        let nothing = (0, 0, 0, 0, 0, None);
        for (kind, frame, unwanted) in [
            // Two of three hosts are not asked.
            (FloodKind::ArpRequest, request(1), 2),
            (FloodKind::Broadcast, to(MacAddr::BROADCAST), 0),
            // Two of three hosts are not in the group.
            (FloodKind::Multicast, to(group), 2),
            (FloodKind::UnknownUnicast, to(mac(3)), 2),
            (FloodKind::UnknownUnicast, to(mac(9)), 3),
        ] {
            let mut counter = counter();
            show(&mut counter, 10, 0, Direction::Out, &frame);
            for (vm, at) in [(1, 15), (3, 40), (2, 30)] {
                let mut tagged = frame[..12].to_vec();
                tagged.extend([0x81, 0, 0, 7]);
                tagged.extend(&frame[12..]);
                // With a tag or without: it is the same frame.
                let copy = if vm == 2 { &tagged } else { &frame };
                show(&mut counter, at, vm, Direction::In, copy);
            }
            let floods = counter.floods().unwrap();
            let all = FloodKind::ALL.map(|each| counts(&floods, each));
            let mut expected = [nothing; 4];
            expected[kind as usize] = (1, 3, 3, 0, unwanted, Some(30));
            assert_eq!(all, expected, "{kind:?}");
        }
    }

    #[test]
    fn a_frame_that_is_sent_again_is_another_one_and_what_comes_twice_is_told() {
        let mut counter = counter();
        let frame = to(MacAddr::BROADCAST);
        for at in [0, 100, 2_000_000] {
            show(&mut counter, at, 0, Direction::Out, &frame);
            for vm in [1, 1, 2] {
                show(&mut counter, at + 5, vm, Direction::In, &frame);
            }
        }
        // A frame to one station that came there alone.
        show(&mut counter, 2_000_010, 0, Direction::Out, &to(mac(3)));
        show(&mut counter, 2_000_015, 3, Direction::In, &to(mac(3)));
        // One that nobody got.
        show(&mut counter, 2_000_020, 1, Direction::Out, &request(3));
        let floods = counter.floods().unwrap();
        let all = FloodKind::ALL.map(|kind| counts(&floods, kind));
        let nothing = (0, 0, 0, 0, 0, None);
        let silent = (1, 0, 0, 0, 0, None);
        assert_eq!(all, [silent, (3, 9, 2, 3, 0, Some(5)), nothing, nothing]);
    }

    #[test]
    fn equal_frames_that_are_on_their_way_together_are_no_loop() {
        let mut counter = counter();
        let frame = to(MacAddr::BROADCAST);
        (0..50).for_each(|at| show(&mut counter, at, 0, Direction::Out, &frame));
        // One VM after the other, as a backlog is read.
        for (vm, at) in [(1, 100), (2, 200), (3, 300)] {
            (0..50).for_each(|each| show(&mut counter, at + each, vm, Direction::In, &frame));
        }
        let told = |counter: &FloodCounter| {
            let floods = counter.floods().unwrap();
            counts(&floods, FloodKind::Broadcast)
        };
        assert_eq!(told(&counter), (50, 150, 3, 0, 0, Some(300)));
        show(&mut counter, 400, 2, Direction::In, &frame);
        assert_eq!(told(&counter).3, 1);
        // Those are forgotten: what is sent later is another frame.
        for at in [1_100_000, 1_100_001] {
            show(&mut counter, at, 0, Direction::Out, &frame);
        }
        for vm in [1, 1, 2, 2, 2] {
            show(&mut counter, 1_100_005, vm, Direction::In, &frame);
        }
        assert_eq!(told(&counter), (52, 156, 3, 2, 0, Some(351)));
    }

    #[test]
    fn a_frame_that_one_vm_got_takes_no_room_for_all_that_there_are() {
        let mut takers = Takers::None;
        let (first, second) = (VmId(60_000), VmId(3));
        assert_eq!((takers.add(first), takers.add(first)), (true, false));
        assert!(matches!(takers, Takers::One(_)));
        assert_eq!(takers.count(), 1);
        for (vm, is_new) in [(second, true), (first, false), (second, false)] {
            assert_eq!(takers.add(vm), is_new, "{vm}");
        }
        assert_eq!(takers.count(), 2);
    }

    #[test]
    fn no_more_frames_are_remembered_than_there_is_room_for() {
        let mut counter = counter();
        for number in 0..MOST_REMEMBERED as u32 + 10 {
            let mut frame = to(MacAddr::BROADCAST);
            frame[20..24].copy_from_slice(&number.to_be_bytes());
            show(&mut counter, 1, 0, Direction::Out, &frame);
        }
        assert!(counter.sent.len() <= MOST_REMEMBERED && counter.order.len() <= MOST_REMEMBERED);
        let floods = counter.floods().unwrap();
        assert_eq!(
            counts(&floods, FloodKind::Broadcast).0,
            MOST_REMEMBERED as u64 + 10
        );
    }
}
