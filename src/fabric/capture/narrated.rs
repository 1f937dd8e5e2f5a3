//! Frames with comments, kept until it is known what they mean.

use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::file::{File, Frame};
use super::pings::{Key, Pings, Slot};
use super::queue::Queue;
use super::words::{Fate, Part, push, push_fate, push_lot, push_malformed, push_name, push_piece};
use super::{END, MAX_KEPT};
use crate::fabric::fragments::Fragments;
use crate::fabric::{Direction, EventWords, Explained, Observed};
use crate::load::Target;
use crate::time::{Instant, Span};
use crate::vm::{Event, Ignored, MAX_REQUESTS, PingOutcome, SessionId, VmId};
use crate::wire::{Describe, MacAddr, NeighbourRequest, ProbeHead};

/// The ping of a frame, the part of it that the frame is, and the number of the fragment if it is a later one of that.
type OfPing = Option<(Slot, Part, Option<u16>)>;

/// Keeps frames, and writes each with its comment.
#[derive(Debug)]
pub(super) struct Narrated {
    queue: Queue<OfPing>,
    pings: Pings,
    fragments: Fragments<(Slot, Part)>,
    /// The longest time that a frame is kept.
    longest: Duration,
    /// Requests for a neighbour since it last answered.
    requests: FxHashMap<(VmId, IpAddr), u8>,
    /// The receiver of the last frame and its time, until an event was told that it caused.
    last: Option<(VmId, Instant)>,
    comment: Vec<u8>,
    /// Frames that were written before it was known what they mean.
    unknown: u64,
}

impl Narrated {
    pub(super) fn new(longest: Duration) -> Narrated {
        Narrated {
            queue: Queue::new(),
            pings: Pings::default(),
            fragments: Fragments::default(),
            longest,
            requests: FxHashMap::default(),
            last: None,
            comment: Vec::new(),
            unknown: 0,
        }
    }

    pub(super) const fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Adds a flow of `vm`.
    pub(super) fn flow(&mut self, vm: VmId, session: SessionId, target: Target) {
        self.pings.add_flow(vm, session.0, target);
    }

    /// Keeps a frame, `snap` bytes of it; `None` if it is not captured, but may belong to a ping of which other frames are.
    #[inline]
    pub(super) fn frame(
        &mut self,
        at: Instant,
        seen: &Observed<'_>,
        snap: Option<usize>,
        stations: &FxHashMap<MacAddr, VmId>,
    ) {
        let echo = ProbeHead::parse(seen.frame);
        let ping = echo.and_then(|echo| echo_of(seen, &echo, stations));
        let followed = ping.and_then(|(key, part, target)| match part {
            Part::Sent | Part::Repeat => {
                let (slot, is_repeat) = self.pings.open(key, target);
                let part = if is_repeat { Part::Repeat } else { part };
                Some((slot, part, None))
            }
            Part::Request | Part::Reply => self.pings.find(key).map(|slot| (slot, part, None)),
        });
        let followed = match (echo, followed) {
            (None, _) => self.later_fragment(seen),
            (_, Some((slot, part, _))) => {
                self.fragments.begin(seen.place(), seen.frame, (slot, part));
                followed
            }
            _ => None,
        };
        self.last = None;
        let Some(snap) = snap else {
            return;
        };
        if seen.direction == Direction::In && !seen.impaired.is_dropped() {
            self.last = Some((seen.vm, at));
        }
        if let Some((slot, ..)) = followed {
            self.pings.keep(slot);
        }
        self.queue.push(at, seen, snap, followed);
        match ping {
            _ if followed.is_some() => {}
            // Its frames were written before.
            Some((key, part, target)) => {
                let name = self.pings.name(key, target);
                self.queue.note(|text| push_name(text, part, &name));
                // Of a reply that the VM takes, an event follows that tells.
                let is_told =
                    part == Part::Reply && self.last.is_some_and(|(vm, _)| vm == key.source());
                if let Some(fate) = self.pings.failed(key).filter(|_| !is_told) {
                    self.queue.note(|text| push_fate(text, part, fate));
                }
            }
            None => self.describe(seen),
        }
    }

    /// The ping of a later fragment.
    #[cold]
    fn later_fragment(&mut self, seen: &Observed<'_>) -> OfPing {
        let ((slot, part), piece) = self.fragments.find(seen.place(), seen.frame)?;
        if piece.is_last {
            self.pings.cut(slot, part, piece.number);
        }
        Some((slot, part, Some(piece.number)))
    }

    /// Notes what a frame is that belongs to no ping of the run.
    #[cold]
    fn describe(&mut self, seen: &Observed<'_>) {
        let request = match seen.direction {
            Direction::Out => NeighbourRequest::parse(seen.frame),
            Direction::In => None,
        };
        let Some(request) = request else {
            let words = Describe(seen.frame);
            return self.queue.note(|text| push(text, format_args!("{words}")));
        };
        let count = self.requests.entry((seen.vm, request.target)).or_default();
        *count = *count % MAX_REQUESTS + 1;
        let (name, target) = (request.name(), request.target);
        let words = format_args!("{name} {count} of {MAX_REQUESTS} for {target}");
        self.queue.note(|text| push(text, words));
    }

    /// Takes an event of `vm`.
    #[inline]
    pub(super) fn event(&mut self, now: Instant, vm: VmId, event: &Event) {
        let is_caused = self.last.take() == Some((vm, now));
        let Event::Ping(ping, outcome) = event else {
            return self.rare_event(vm, event, is_caused);
        };
        let key = Key::new(vm, ping.session.0, ping.wire_sequence());
        let slot = self.pings.find(key);
        if let (Some(slot), Some(fate)) = (slot, fate(*outcome)) {
            self.pings.settle(slot, fate);
        } else if let PingOutcome::Unresolved { .. } = outcome {
            self.pings.unsent(key, ping.sequence);
        }
        let is_plain = matches!(outcome, PingOutcome::Answered { .. }) && slot.is_some();
        if is_caused && !is_plain {
            self.note_outcome(*outcome, slot);
        }
    }

    /// Notes with the last frame what it means for a ping.
    #[cold]
    fn note_outcome(&mut self, outcome: PingOutcome, slot: Option<Slot>) {
        let of_frame = self.queue.back().and_then(|kept| kept.what);
        let is_told = of_frame.is_some_and(|(of_frame, ..)| Some(of_frame) == slot);
        match outcome {
            PingOutcome::Duplicate => self
                .queue
                .note(|text| text.extend_from_slice(b"; a further reply")),
            PingOutcome::Member {
                is_first: false,
                sent,
                received,
                ..
            } => self.queue.note(|text| {
                let elapsed = Span::from(received - sent);
                push(text, format_args!("; a further member's after {elapsed}"));
            }),
            // Its ping tells.
            _ if is_told => {}
            PingOutcome::Errored { error, .. } => self.queue.note(|text| {
                push(text, format_args!("; the ping ends: {}", error.name()));
            }),
            PingOutcome::Late { .. } => self
                .queue
                .note(|text| push_fate(text, Part::Reply, Fate::Late)),
            PingOutcome::Corrupt { .. } => self
                .queue
                .note(|text| push_fate(text, Part::Reply, Fate::Corrupt)),
            PingOutcome::Answered { sent, received, .. }
            | PingOutcome::Member { sent, received, .. } => self.queue.note(|text| {
                push_fate(
                    text,
                    Part::Reply,
                    Fate::Answered(received.nanos_since(sent)),
                );
            }),
            // Of a deadline.
            PingOutcome::Lost { .. }
            | PingOutcome::Abandoned { .. }
            | PingOutcome::MembersLost { .. }
            | PingOutcome::Unresolved { .. } => {}
        }
    }

    #[cold]
    fn rare_event(&mut self, vm: VmId, event: &Event, is_caused: bool) {
        if let Event::Resolved { address, .. } = event {
            self.requests.remove(&(vm, *address));
        }
        if !is_caused {
            return;
        }
        if let Event::Ignored(Ignored::Malformed(error)) = event
            && self.forget_ping()
        {
            return self.queue.note(|text| push_malformed(text, error));
        }
        self.queue.note(|text| match event {
            Event::Ignored(ignored) => push(text, format_args!("; ignored: {ignored}")),
            event => push(text, format_args!("; {vm} {}", EventWords(event))),
        });
    }

    /// Takes from the last frame the ping that the numbers in it name. Returns false if they name none.
    fn forget_ping(&mut self) -> bool {
        let Some(last) = self.queue.back() else {
            return false;
        };
        let of_ping = last.what;
        if of_ping.is_none() && ProbeHead::parse(self.queue.bytes(last).0).is_none() {
            return false;
        }
        if let Some(what) = self.queue.clear_note() {
            *what = None;
        }
        if let Some((slot, ..)) = of_ping {
            self.pings.release(slot);
        }
        true
    }

    /// Takes why a ping failed.
    pub(super) fn explained(&mut self, found: &Explained<'_>) {
        let (session, sequence) = (found.ping.session.0, found.ping.wire_sequence());
        let key = Key::new(found.vm, session, sequence);
        let lost = Fate::Lost(Some((found.direction, found.words)));
        self.pings.explain(key, lost);
    }

    /// Forgets the pings of a VM that stopped.
    pub(super) fn stopped(&mut self, vm: VmId) {
        self.pings.stop(vm);
        self.requests.retain(|(asker, _), _| *asker != vm);
    }

    /// Writes the frames of which it is known what they mean, and those that were kept too long: a piece at a time, so that
    /// the many frames behind one that was lost neither hold up the run nor overflow the buffer.
    #[inline]
    pub(super) fn release(&mut self, now: Instant, file: &mut File) {
        while let Some(front) = self.queue.front() {
            let is_settled = match front.what {
                None => true,
                Some((slot, ..)) => self.pings.is_settled(slot),
            };
            let is_settled = is_settled && !front.is_held(now);
            let is_over = || is_settled || front.at + self.longest <= now;
            if self.queue.size() <= MAX_KEPT && (file.is_behind() || !is_over()) {
                return;
            }
            self.write_front(now, file);
        }
    }

    /// Writes all that is kept, at the end of the run.
    pub(super) fn release_all(&mut self, file: &mut File) {
        while self.queue.front().is_some() {
            self.write_front(END, file);
        }
    }

    /// Notes that a frame that was sent at `at` was never released.
    pub(super) fn unreleased(&mut self, at: Instant, seen: &Observed<'_>) {
        self.queue.unreleased(at, seen);
    }

    fn write_front(&mut self, now: Instant, file: &mut File) {
        let Some(&front) = self.queue.front() else {
            return;
        };
        self.comment.clear();
        if let Some((slot, part, number)) = front.what
            && let Some((name, fate)) = self.pings.get(slot)
        {
            if let Some(number) = number {
                let of = self.pings.fragments(slot, part);
                push_piece(&mut self.comment, number, of);
            }
            push_name(&mut self.comment, part, &name);
            push_fate(&mut self.comment, part, fate);
            self.unknown += u64::from(fate == Fate::Open);
            self.pings.release(slot);
        }
        let (bytes, note) = self.queue.bytes(&front);
        self.comment.extend_from_slice(note);
        push_lot(&mut self.comment, &front, now);
        file.write(&Frame {
            at: front.at,
            vm: front.vm,
            direction: front.direction,
            bytes,
            length: front.length,
            comment: &self.comment,
        });
        self.queue.pop(1);
    }
}

/// The ping that an echo message belongs to, if it is one of the run's.
#[inline]
pub(super) fn echo_of(
    seen: &Observed<'_>,
    echo: &ProbeHead,
    stations: &FxHashMap<MacAddr, VmId>,
) -> Option<(Key, Part, Target)> {
    let is_sent = seen.direction == Direction::Out;
    let part = match (echo.is_request, is_sent) {
        (true, true) => Part::Sent,
        (true, false) => Part::Request,
        (false, _) => Part::Reply,
    };
    let source = match part {
        Part::Sent | Part::Repeat => seen.vm,
        Part::Request => *stations.get(&echo.source_mac)?,
        Part::Reply => *stations.get(&echo.destination_mac)?,
    };
    let target = match part {
        Part::Reply if is_sent => Target::Vm(seen.vm),
        Part::Sent | Part::Repeat | Part::Request => {
            named(stations.get(&echo.destination_mac), echo.destination)
        }
        Part::Reply => named(stations.get(&echo.source_mac), echo.source),
    };
    Some((
        Key::new(source, echo.identifier, echo.sequence),
        part,
        target,
    ))
}

fn named(vm: Option<&VmId>, address: IpAddr) -> Target {
    vm.map_or(Target::Address(address), |vm| Target::Vm(*vm))
}

/// What an outcome means for the frames of its ping; `None` if it says nothing new.
pub(super) fn fate(outcome: PingOutcome) -> Option<Fate> {
    Some(match outcome {
        PingOutcome::Answered { sent, received, .. }
        | PingOutcome::Member {
            is_first: true,
            sent,
            received,
            ..
        } => Fate::Answered(received.nanos_since(sent)),
        PingOutcome::Corrupt { .. } => Fate::Corrupt,
        PingOutcome::Lost { .. } => Fate::Lost(None),
        PingOutcome::Abandoned { .. } => Fate::Abandoned,
        PingOutcome::Errored { error, .. } => Fate::Errored(error),
        PingOutcome::Late { .. } => Fate::Late,
        // Members of a group beyond the first.
        PingOutcome::Member { .. }
        | PingOutcome::MembersLost { .. }
        | PingOutcome::Duplicate
        | PingOutcome::Unresolved { .. } => return None,
    })
}
