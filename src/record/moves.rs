//! Moves of VMs: how long each was gone for those who ping it, and what ended that.
//!
//! # What is measured
//!
//! A *peer* of a moved VM is a flow that pings it, or by which it pings. Its *gap* is the time from the receipt of the last
//! answer before the move to the receipt of the first one after it. The last answer to a ping that was sent before the change of
//! the VM's link began is before it, and the first to one that was sent when the link was ready is after it. Where the run goes
//! on while the link is changed, pings of that time are answered from the old place at first, and may be from the new one at the
//! end: the gap is then the longest time between two answers in which pings were not answered, and if there is none, the last.
//! Marks measure gaps within their windows, by when pings
//! were due; a gap of a move reaches from before to after. It is too long by what passed without pings: at most the time
//! between two pings of the flow at its beginning, and as much and one rtt at its end. That *resolution* is told beside it.
//! Where the kernel changes the link of the VM within a system call of the run's own thread, nothing is sent meanwhile: that time
//! is part of every gap.
//!
//! Pings under way when the move began, and those due later up to the end of the gap or the next move, belong to it: *lost* are
//! those that were given up. Replies that came after their ping was given up are *late*.
//!
//! # How
//!
//! What a move learns of tables of bridges and of first frames are instants. What ended a gap follows from their order when it
//! is asked for.

use std::time::Duration;

use rustc_hash::FxHashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Cause;
use crate::fabric::Sightings;
use crate::load::FlowId;
use crate::time::Instant;
use crate::vm::{Announcement, VmId};

/// Peers of all moves together whose gaps are measured, the first ones: 128 bytes each.
pub const MAX_GAPS: usize = 1 << 16;

/// Lost pings whose causes may change in the figures of moves, the first ones.
const MAX_GIVEN_UP: usize = 1 << 16;

/// Moves that are kept, the first ones.
pub const MAX_MOVES: usize = 1 << 16;

/// All moves of a run.
#[derive(Clone, Debug, Default)]
pub struct Moves {
    moves: Vec<Move>,
    /// The gaps of each flow by the numbers of move and peer; the last is the present one.
    of_flow: FxHashMap<FlowId, Vec<(u32, u32)>>,
    gaps: usize,
    /// The first ping of each flow that belongs to a gap that is not measured.
    unmeasured_from: FxHashMap<FlowId, u64>,
    /// The gaps that are not measured, and the moves without peers that are not kept.
    unmeasured: u64,
    /// The moves that are not kept.
    moves_left_out: usize,
    /// What the lost pings of gaps are put down to, by the numbers of move and peer.
    causes: FxHashMap<(u32, u32), Vec<(Cause, u64)>>,
    /// The gaps of lost pings, by when they were due: what they are put down to may change.
    given_up: FxHashMap<(FlowId, Instant), (u32, u32)>,
}

/// A move that was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    /// The VM.
    pub vm: VmId,
    /// Where it was, as an option has it: `leaf0`.
    pub from: String,
    /// Where it is.
    pub to: String,
    /// How it announced itself.
    pub announcement: Announcement,
    /// When the change of its link began.
    pub began: Instant,
    /// When its link was ready again; `None` as long as it is not.
    pub ready: Option<Instant>,
    /// When a bridge had learned from a frame where it is.
    pub learned: Option<Instant>,
    /// When one had learned that from an announcement.
    pub learned_from_announcement: Option<Instant>,
    /// It pings others itself, or frames of it were held when it began: it sends without having been asked anew.
    pub sends_unasked: bool,
    /// The lab itself has told its bridges where it is.
    pub is_told: bool,
    /// The earliest time at which somebody else may have told a bridge where it is. What a bridge was told is heard later than
    /// frames come that go by it.
    pub told_since: Option<Instant>,
    /// The earliest time at which a bridge may have known no longer where it had been, because the entry was too old.
    pub forgotten_since: Option<Instant>,
    /// The first frames each way, and the first announcement.
    pub seen: Sightings,
    /// A gap for each peer.
    pub gaps: Vec<Gap>,
}

impl Move {
    /// A move of `vm` that took from `began` until `ready`, of which nothing has been seen yet.
    pub fn new(
        vm: VmId,
        (from, to): (String, String),
        announcement: Announcement,
        (began, ready): (Instant, Option<Instant>),
    ) -> Move {
        Move {
            vm,
            from,
            to,
            announcement,
            began,
            ready,
            learned: None,
            learned_from_announcement: None,
            sends_unasked: false,
            is_told: false,
            told_since: None,
            forgotten_since: None,
            seen: Sightings::default(),
            gaps: Vec::new(),
        }
    }
}

/// The time in which a moved VM did not answer a peer, or got no answer from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The flow.
    pub flow: FlowId,
    /// The receipt of the last answer before; `None` if there was none.
    pub last: Option<Instant>,
    /// The receipt of the first answer after; `None` as long as there is none.
    pub first: Option<Instant>,
    /// When the ping was sent that this is the answer to, if that was behind the change of the link.
    pub first_sent: Option<Instant>,
    /// The longest time between two answers so far in which pings were not answered, as long as it is not known which is the gap;
    /// and the number of the first ping behind its beginning.
    pub longest: Option<(Option<Instant>, Instant, u64)>,
    /// The number of the first ping that belongs to the move: the oldest that was under way when it began.
    pub from: u64,
    /// The number of the first ping behind the last answer before the gap.
    pub next: u64,
    /// Pings of it that were given up.
    pub lost: u64,
    /// Replies that came after their ping was given up.
    pub late: u64,
    /// The time between two pings of the flow, as planned; `None` for a closed loop, which goes by its answers.
    pub interval: Option<Duration>,
}

/// What ended a gap.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// Bridges learned from its announcement where the VM is.
    FdbByAnnouncement,
    /// Bridges learned that from another frame of the VM.
    FdbByOwnFrame,
    /// The lab filled the tables of its bridges itself.
    FdbByLab,
    /// Somebody else told a bridge where the VM is, such as a daemon of a routing protocol.
    FdbByController,
    /// The entries of bridges became too old, and frames to the VM were flooded.
    Ageing,
    /// A peer looked for the VM anew, and its answer told bridges where it is.
    NeighbourTable,
    /// Frames to the VM were flooded, as no bridge had known it elsewhere.
    Flooded,
    /// Nothing was seen that could be it.
    Unknown,
    /// It has not ended.
    NotEnded,
}

impl EndedBy {
    /// The word for it, in reports.
    pub const fn word(self) -> &'static str {
        match self {
            EndedBy::FdbByAnnouncement => "fdb_by_announcement",
            EndedBy::FdbByOwnFrame => "fdb_by_own_frame",
            EndedBy::FdbByLab => "fdb_by_lab",
            EndedBy::FdbByController => "fdb_by_controller",
            EndedBy::Ageing => "ageing",
            EndedBy::NeighbourTable => "neighbour_table",
            EndedBy::Flooded => "flooded",
            EndedBy::Unknown => "unknown",
            EndedBy::NotEnded => "not_ended",
        }
    }
}

impl Moves {
    /// Takes in a move. The gaps of its peers are measured as far as there is room. Returns its number.
    pub(super) fn add(&mut self, mut made: Move) -> usize {
        let is_kept = self.moves.len() < MAX_MOVES;
        let room = MAX_GAPS.saturating_sub(self.gaps);
        let room = if is_kept { room } else { 0 };
        let number = self.moves.len() + self.moves_left_out;
        let unmeasured = self.unmeasured;
        for gap in made.gaps.drain(room.min(made.gaps.len())..) {
            self.unmeasured_from.entry(gap.flow).or_insert(gap.from);
            self.unmeasured = self.unmeasured.saturating_add(1);
        }
        if !is_kept {
            self.moves_left_out += 1;
            let is_without_peers = self.unmeasured == unmeasured;
            self.unmeasured = self.unmeasured.saturating_add(is_without_peers.into());
            return number;
        }
        self.gaps += made.gaps.len();
        for (peer, gap) in (0u32..).zip(&made.gaps) {
            let of_flow = self.of_flow.entry(gap.flow).or_default();
            of_flow.push((number as u32, peer));
        }
        self.moves.push(made);
        number
    }

    /// Returns the moves, in the order of their times; those that are [not ready](Move::ready) are under way, or were not made.
    pub fn all(&self) -> &[Move] {
        &self.moves
    }

    /// Returns the number of gaps that are not measured.
    pub const fn unmeasured(&self) -> u64 {
        self.unmeasured
    }

    /// Returns true if there is a gap of `flow` that is not measured: the present one, or one before it.
    fn is_unmeasured(&self, flow: FlowId) -> bool {
        self.unmeasured_from.contains_key(&flow)
    }

    /// Returns a move for changes of what is known of it.
    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Move> {
        self.moves.get_mut(number)
    }

    /// The ping `sequence` of `flow`, sent at `sent`, was answered at `received`. Returns the gaps that end with that: of the VM that
    /// moved last, and of the flow's other end if that had moved before.
    pub(super) fn passed(
        &mut self,
        (flow, sequence): (FlowId, u64),
        sent: Instant,
        received: Instant,
    ) -> [Option<u64>; 2] {
        if self.is_unmeasured(flow) {
            return [None; 2];
        }
        let of_flow = self.of_flow.get(&flow).map_or(&[][..], Vec::as_slice);
        let Some(&last) = of_flow.last() else {
            return [None; 2];
        };
        let vm_of = |(number, _): (u32, u32)| self.moves.get(number as usize).map(|made| made.vm);
        let mover = vm_of(last);
        let mut before = of_flow.iter().rev().copied();
        let other = before.find(|gap| vm_of(*gap) != mover);
        [Some(last), other].map(|gap| {
            let (number, peer) = gap?;
            let made = self.moves.get_mut(number as usize)?;
            made.passed(peer as usize, sequence, (sent, received))
        })
    }

    /// The move with that number, which was begun, was not made.
    pub(super) fn withdraw(&mut self, number: usize) {
        if let Some(made) = self.moves.get_mut(number) {
            made.ready = None;
            for gap in std::mem::take(&mut made.gaps) {
                self.gaps -= 1;
                if let Some(of_flow) = self.of_flow.get_mut(&gap.flow) {
                    of_flow.retain(|(of, _)| *of as usize != number);
                }
            }
        }
    }

    /// Returns what the lost pings of the gap of `peer` at the move with that number are put down to.
    pub fn causes(&self, number: u64, peer: usize) -> &[(Cause, u64)] {
        let key = u32::try_from(number).ok().zip(u32::try_from(peer).ok());
        let causes = key.and_then(|key| self.causes.get(&key));
        causes.map_or(&[], Vec::as_slice)
    }

    /// The ping of `flow` due at `due`, which was given up, is put down to `to` in place of `from`.
    pub(super) fn attribute(&mut self, flow: FlowId, due: Instant, from: Cause, to: Cause) {
        let Some(gap) = self.given_up.get(&(flow, due)) else {
            return;
        };
        let causes = self.causes.entry(*gap).or_default();
        if let Some((_, count)) = causes.iter_mut().find(|(cause, _)| *cause == from) {
            *count = count.saturating_sub(1);
        }
        add_to(causes, to);
        causes.retain(|(_, count)| *count > 0);
    }

    /// All given up pings of `flow` that are put down to `from` are put down to `to`.
    pub(super) fn attribute_all(&mut self, flow: FlowId, from: Cause, to: Cause) {
        for gap in self.of_flow.get(&flow).into_iter().flatten() {
            let Some(causes) = self.causes.get_mut(gap) else {
                continue;
            };
            let place = causes.iter().position(|(cause, _)| *cause == from);
            let pings = place.map_or(0, |place| causes.remove(place).1);
            (0..pings).for_each(|_| add_to(causes, to));
        }
    }

    /// The ping `sequence` of `flow`, due at `due`, was given up, and is put down to `cause`.
    pub(super) fn failed(&mut self, flow: FlowId, (sequence, due): (u64, Instant), cause: Cause) {
        let unmeasured_from = self.unmeasured_from.get(&flow);
        if unmeasured_from.is_some_and(|from| sequence >= *from) {
            return;
        }
        let of_flow = self.of_flow.get(&flow);
        // It is of the last gap that it can be of; one due before that move, of the gap before if that lasted when it was due.
        let mut of = None;
        for &(number, peer) in of_flow.into_iter().flatten().rev() {
            let made = self.moves.get(number as usize);
            let Some((made, gap)) =
                made.and_then(|made| Some((made, made.gaps.get(peer as usize)?)))
            else {
                break;
            };
            let lasts = gap.first.is_none_or(|first| due <= first);
            if sequence >= gap.from && (of.is_none() || lasts) {
                of = Some((number, peer, lasts));
                if due >= made.began {
                    break;
                }
            } else if of.is_some() {
                break;
            }
        }
        if let Some((number, peer, true)) = of
            && let Some(made) = self.moves.get_mut(number as usize)
            && let Some(gap) = made.gaps.get_mut(peer as usize)
        {
            gap.lost += 1;
            add_to(self.causes.entry((number, peer)).or_default(), cause);
            if self.given_up.len() < MAX_GIVEN_UP {
                self.given_up.insert((flow, due), (number, peer));
            }
        }
    }

    /// A reply came to a ping of `flow` that was given up already.
    pub(super) fn late(&mut self, flow: FlowId) {
        if self.is_unmeasured(flow) {
            return;
        }
        let last = self.of_flow.get(&flow).and_then(|of_flow| of_flow.last());
        let Some(&(number, peer)) = last else {
            return;
        };
        let made = self.moves.get_mut(number as usize);
        if let Some(gap) = made.and_then(|made| made.gaps.get_mut(peer as usize)) {
            gap.late += 1;
        }
    }
}

fn add_to(causes: &mut Vec<(Cause, u64)>, to: Cause) {
    match causes.iter_mut().find(|(cause, _)| *cause == to) {
        Some((_, count)) => *count += 1,
        None => causes.push((to, 1)),
    }
}

impl Move {
    /// A ping of the peer with that number was answered. Returns the gap, if it ends with that.
    fn passed(
        &mut self,
        peer: usize,
        sequence: u64,
        (sent, received): (Instant, Instant),
    ) -> Option<u64> {
        let gap = self.gaps.get_mut(peer)?;
        if gap.first.is_some() {
            return None;
        }
        let next = gap.next.max(sequence.saturating_add(1));
        if sent < self.began {
            // It had been on its way.
            gap.last = gap.last.max(Some(received));
            gap.next = next;
            return None;
        }
        let length =
            |last: Option<Instant>, first: Instant| last.map_or(0, |last| first.nanos_since(last));
        let is_longest = gap
            .longest
            .is_none_or(|(last, first, _)| length(gap.last, received) > length(last, first));
        if sequence > gap.next && is_longest {
            gap.longest = Some((gap.last, received, gap.next));
        }
        if self.ready.is_none_or(|ready| sent < ready) {
            gap.last = gap.last.max(Some(received));
            gap.next = next;
            return None;
        }
        (gap.first, gap.first_sent) = (Some(received), Some(sent));
        if let Some((last, first, next)) = gap.longest.take() {
            (gap.last, gap.first, gap.next) = (last, Some(first), next);
            gap.first_sent = None;
        }
        gap.nanos()
    }

    /// Returns what ended the gap of one of its peers.
    pub fn ended_by(&self, gap: &Gap) -> EndedBy {
        let Some(end) = gap.first else {
            return EndedBy::NotEnded;
        };
        let before = |at: Option<Instant>| at.filter(|at| *at <= end);
        let own = before(self.seen.first_out);
        // An answer that is sent at once has the time of what it answers.
        let is_reached_first = before(self.seen.first_to_itself)
            .is_some_and(|reached| own.is_none_or(|own| reached <= own));
        // An announcement that is held comes after what the VM was reached by.
        let is_before_announced = |at: Option<Instant>| {
            at.zip(self.seen.announced)
                .is_some_and(|(at, announced)| at < announced)
        };
        let is_announced_later =
            is_before_announced(gap.first_sent) && is_before_announced(self.seen.first_to_itself);
        if self.is_told {
            EndedBy::FdbByLab
        } else if before(self.told_since).is_some() {
            EndedBy::FdbByController
        } else if before(self.learned_from_announcement).is_some() && !is_announced_later {
            EndedBy::FdbByAnnouncement
        } else if before(self.learned).is_some_and(|learned| Some(learned) <= self.ready) {
            // Nobody was looking for first frames yet, and it had announced nothing: what is heard when the link is ready was learned
            // before.
            match self.sends_unasked {
                true => EndedBy::FdbByOwnFrame,
                // It has answered what was flooded.
                false => EndedBy::Flooded,
            }
        } else if self.ready.is_some_and(|ready| end < ready) {
            EndedBy::Flooded
        } else if is_reached_first && before(self.forgotten_since).is_some() {
            EndedBy::Ageing
        } else if is_reached_first {
            EndedBy::Flooded
        } else if own.is_some() && self.seen.first_out_is_answer {
            EndedBy::NeighbourTable
        } else if own.is_some() {
            EndedBy::FdbByOwnFrame
        } else {
            EndedBy::Unknown
        }
    }
}

impl Gap {
    /// Returns its length in nanoseconds, if it has both ends.
    pub fn nanos(&self) -> Option<u64> {
        Some(self.first?.nanos_since(self.last?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::ZERO + Duration::from_micros(micros)
    }

    fn gap(flow: u32, last: u64, next: u64) -> Gap {
        Gap {
            flow: FlowId(flow),
            last: Some(at(last)),
            first: None,
            first_sent: None,
            longest: None,
            from: next,
            next,
            lost: 0,
            late: 0,
            interval: None,
        }
    }

    fn made(began: u64, gaps: Vec<Gap>) -> Move {
        let places = ("leaf0".to_owned(), "leaf1".to_owned());
        let times = (at(began), Some(at(began + 200)));
        Move {
            gaps,
            ..Move::new(VmId(3), places, Announcement::Garp, times)
        }
    }

    #[test]
    fn a_gap_lasts_from_the_last_answer_before_to_the_first_after() {
        let mut moves = Moves::default();
        moves.add(made(1_000, vec![gap(0, 990, 7), gap(1, 400, 2)]));
        let mut passed =
            |flow, sent, received| moves.passed((FlowId(flow), 7), at(sent), at(received))[0];
        assert_eq!(passed(0, 995, 1_010), None, "it was on its way");
        assert_eq!(passed(0, 1_230, 1_240), Some(230_000));
        assert_eq!(passed(0, 1_290, 1_300), None, "it has ended");
        assert_eq!(passed(9, 1_290, 1_300), None, "it is no peer");
        assert_eq!(moves.all()[0].gaps[1].nanos(), None);
    }

    #[test]
    fn while_the_link_is_changed_the_gap_is_the_longest_time_in_which_pings_are_not_answered() {
        // Which pings are answered, each 10 µs after it was sent; the last answer before was at 990 µs, and the change lasts until
        // 1,300.
        for (sent, last, first, next) in [
            (
                &[(7, 1_010), (8, 1_020), (30, 1_310), (31, 1_320)][..],
                1_030,
                1_320,
                9,
            ),
            // It was answered from the new place before the kernel had said so.
            (
                &[
                    (7, 1_010),
                    (8, 1_020),
                    (29, 1_280),
                    (30, 1_290),
                    (31, 1_310),
                ],
                1_030,
                1_290,
                9,
            ),
            (&[(30, 1_310), (31, 1_700)], 990, 1_320, 7),
            (&[(9, 1_290), (10, 1_310)], 990, 1_300, 7),
            // Other processes had the processor: no ping was sent.
            (&[(7, 1_190), (12, 1_250), (13, 1_310)], 1_200, 1_260, 8),
            // None was sent while the VM was gone.
            (&[(7, 1_010), (8, 1_280), (9, 1_310)], 1_290, 1_320, 9),
        ] {
            let mut moves = Moves::default();
            let mut under_way = made(1_000, vec![gap(0, 990, 7)]);
            under_way.ready = None;
            moves.add(under_way);
            let mut ended = Vec::new();
            for (sequence, sent) in sent {
                if *sent >= 1_300 {
                    moves.get_mut(0).unwrap().ready = Some(at(1_300));
                }
                ended.extend(moves.passed((FlowId(0), *sequence), at(*sent), at(sent + 10))[0]);
            }
            assert_eq!(ended, [(first - last) * 1_000], "{sent:?}");
            let gap = moves.all()[0].gaps[0];
            let figures = (gap.last, gap.first, gap.next);
            assert_eq!(figures, (Some(at(last)), Some(at(first)), next), "{sent:?}");
        }
    }

    #[test]
    fn an_answer_ends_the_gaps_of_both_ends_of_a_flow_that_have_moved() {
        let mut moves = Moves::default();
        moves.add(made(1_000, vec![gap(0, 990, 7)]));
        let other = Move {
            vm: VmId(4),
            ..made(1_100, vec![gap(0, 990, 7)])
        };
        moves.add(other);
        let ended = moves.passed((FlowId(0), 9), at(1_330), at(1_340));
        assert_eq!(ended, [Some(350_000); 2]);
        assert_eq!(
            moves.passed((FlowId(0), 10), at(1_350), at(1_360)),
            [None; 2]
        );
    }

    #[test]
    fn a_move_that_was_not_made_leaves_the_gap_before_as_it_was() {
        let mut moves = Moves::default();
        moves.add(made(1_000, vec![gap(0, 990, 7)]));
        moves.add(Move {
            ready: None,
            ..made(2_000, vec![gap(0, 990, 7)])
        });
        moves.withdraw(1);
        let [ended, _] = moves.passed((FlowId(0), 8), at(2_310), at(2_320));
        assert_eq!(ended, Some(1_330_000));
        assert!(moves.all()[1].ready.is_none() && moves.all()[1].gaps.is_empty());
    }

    #[test]
    fn a_lost_ping_belongs_to_the_move_that_it_was_lost_in() {
        let mut moves = Moves::default();
        moves.add(made(1_000, vec![gap(0, 990, 7)]));
        moves.passed((FlowId(0), 9), at(1_230), at(1_240));
        moves.add(made(5_000, vec![gap(0, 4_990, 40)]));
        // Those of the first move are given up after the second.
        for (sequence, due) in [(6, 970), (7, 1_100), (8, 1_200), (9, 1_300), (41, 5_100)] {
            moves.failed(FlowId(0), (sequence, at(due)), Cause::Unknown);
        }
        moves.late(FlowId(0));
        let figures: Vec<_> = moves.all().iter().map(|made| made.gaps[0]).collect();
        let lost: Vec<_> = figures.iter().map(|gap| (gap.lost, gap.late)).collect();
        assert_eq!(lost, [(2, 0), (1, 1)]);
    }

    #[test]
    fn a_ping_is_lost_in_a_move_also_if_one_sent_after_it_and_before_the_move_is_answered() {
        let mut moves = Moves::default();
        moves.add(made(1_000, vec![gap(0, 990, 7)]));
        // Replies were held while the VM moved: that to 7 was sent while it was gone, that to 8 later.
        moves.passed((FlowId(0), 8), at(995), at(1_500));
        moves.passed((FlowId(0), 9), at(1_400), at(1_900));
        moves.failed(FlowId(0), (6, at(970)), Cause::Unknown);
        moves.failed(FlowId(0), (7, at(985)), Cause::Unknown);
        assert_eq!(moves.all()[0].gaps[0].lost, 1);
    }

    #[test]
    fn causes_of_lost_pings_belong_to_the_move_that_they_were_lost_in() {
        let mut moves = Moves::default();
        moves.add(made(1_000, vec![gap(3, 990, 7), gap(0, 990, 7)]));
        for (sequence, due) in [(7, 1_100), (8, 1_200), (9, 1_300)] {
            moves.failed(FlowId(0), (sequence, at(due)), Cause::Unknown);
        }
        // One before the move, and one that was not sent.
        moves.failed(FlowId(0), (6, at(970)), Cause::Unknown);
        moves.failed(FlowId(0), (10, at(1_400)), Cause::Unresolved);
        let (unknown, in_bridge) = (Cause::Unknown, Cause::InBridge);
        for (due, from, to) in [
            (970, unknown, in_bridge),
            (1_100, unknown, in_bridge),
            (1_200, unknown, in_bridge),
            (1_300, unknown, unknown),
            (1_200, in_bridge, Cause::Late),
        ] {
            moves.attribute(FlowId(0), at(due), from, to);
        }
        let mut causes = moves.causes(0, 1).to_vec();
        causes.sort();
        let expected = [in_bridge, Cause::Late, Cause::Unresolved, unknown];
        let mut expected = expected.map(|cause| (cause, 1));
        expected.sort();
        assert_eq!(causes, expected);
        assert_eq!(moves.all()[0].gaps[1].lost, 4);
        moves.attribute_all(FlowId(0), unknown, in_bridge);
        moves.attribute_all(FlowId(3), unknown, in_bridge);
        let mut causes = moves.causes(0, 1).to_vec();
        causes.sort();
        let mut expected = vec![(in_bridge, 2), (Cause::Late, 1), (Cause::Unresolved, 1)];
        expected.sort();
        assert_eq!(causes, expected);
        assert!(moves.causes(0, 0).is_empty() && moves.causes(1, 0).is_empty());
    }

    #[test]
    fn figures_are_bounded_and_what_is_beyond_is_counted() {
        let mut moves = Moves::default();
        let many = (0..MAX_GAPS as u32 - 1).map(|flow| gap(flow, 0, 0));
        moves.add(made(1_000, many.collect()));
        moves.add(made(2_000, vec![gap(0, 0, 0), gap(1, 0, 0)]));
        moves.add(made(3_000, vec![gap(0, 0, 0)]));
        let kept: Vec<_> = moves.all().iter().map(|made| made.gaps.len()).collect();
        assert_eq!(kept, [MAX_GAPS - 1, 1, 0]);
        assert_eq!(moves.unmeasured(), 2);
    }

    #[test]
    fn what_follows_a_move_beyond_the_limit_is_not_taken_for_an_older_one() {
        let mut moves = Moves::default();
        let many = (0..MAX_GAPS as u32).map(|flow| gap(flow, 0, 7));
        moves.add(made(1_000, many.collect()));
        moves.add(made(2_000, vec![gap(0, 0, 8), gap(1, 0, 8)]));
        for flow in [0, 2] {
            moves.passed((FlowId(flow), 9), at(2_230), at(2_240));
            moves.failed(FlowId(flow), (8, at(2_210)), Cause::Unknown);
            moves.late(FlowId(flow));
        }
        let gaps = &moves.all()[0].gaps;
        let figures = |flow: usize| (gaps[flow].first, gaps[flow].lost, gaps[flow].late);
        assert_eq!(figures(0), (None, 0, 0), "it was still open");
        assert_eq!(figures(2), (Some(at(2_240)), 1, 1), "it is not concerned");
    }

    #[test]
    fn moves_are_bounded_and_those_beyond_are_counted() {
        let mut moves = Moves::default();
        for _ in 0..MAX_MOVES {
            moves.add(made(1_000, Vec::new()));
        }
        let beyond = moves.add(made(2_000, Vec::new()));
        let next = moves.add(made(3_000, vec![gap(0, 0, 0), gap(1, 0, 0)]));
        assert_eq!((moves.all().len(), moves.unmeasured()), (MAX_MOVES, 3));
        assert!(beyond != next && moves.get_mut(next).is_none());
    }

    #[test]
    fn what_ended_a_gap_is_what_came_first() {
        let seen = |out: Option<u64>, to_itself: Option<u64>, is_answer| Sightings {
            first_in: None,
            first_to_itself: to_itself.map(at),
            first_out: out.map(at),
            announced: None,
            first_out_is_answer: is_answer,
        };
        let announced_at = |made: &mut Move, micros| {
            made.learned = Some(at(micros));
            made.learned_from_announcement = made.learned;
        };
        let announced = |made: &mut Move| announced_at(made, 1_205);
        type Change<'a> = &'a dyn Fn(&mut Move);
        let table: &[(Change<'_>, EndedBy)] = &[
            (&|_| (), EndedBy::Unknown),
            (&announced, EndedBy::FdbByAnnouncement),
            (
                &|made| {
                    announced(made);
                    made.is_told = true;
                },
                EndedBy::FdbByLab,
            ),
            // A controller tells others what one has learned from the announcement.
            (
                &|made| {
                    announced(made);
                    made.told_since = Some(at(1_390));
                },
                EndedBy::FdbByController,
            ),
            (
                &|made| {
                    announced(made);
                    made.told_since = Some(at(1_410));
                },
                EndedBy::FdbByAnnouncement,
            ),
            (
                &|made| {
                    made.learned = Some(at(1_300));
                    made.seen = seen(Some(1_290), Some(1_310), false);
                },
                EndedBy::FdbByOwnFrame,
            ),
            (&|made| made.ready = Some(at(1_500)), EndedBy::Flooded),
            (
                &|made| {
                    made.ready = Some(at(1_500));
                    made.learned = Some(at(1_300));
                },
                EndedBy::Flooded,
            ),
            (
                &|made| made.seen = seen(Some(1_290), Some(1_310), true),
                EndedBy::NeighbourTable,
            ),
            (
                &|made| made.seen = seen(Some(1_290), Some(1_280), false),
                EndedBy::Flooded,
            ),
            (
                &|made| made.seen = seen(Some(1_280), Some(1_280), false),
                EndedBy::Flooded,
            ),
            // The announcement is held, and so is the answer to a ping that was sent before it left.
            (
                &|made| {
                    announced_at(made, 1_350);
                    made.learned = Some(at(1_290));
                    made.seen = seen(Some(1_280), Some(1_310), false);
                    made.seen.announced = Some(at(1_345));
                },
                EndedBy::FdbByOwnFrame,
            ),
            (
                &|made| {
                    announced_at(made, 1_350);
                    made.seen = seen(Some(1_360), Some(1_310), false);
                    made.seen.announced = Some(at(1_345));
                },
                EndedBy::Flooded,
            ),
            // The ping was held on its way to the VM.
            (
                &|made| {
                    announced_at(made, 1_350);
                    made.learned = Some(at(1_290));
                    made.seen = seen(Some(1_280), Some(1_355), false);
                    made.seen.announced = Some(at(1_345));
                },
                EndedBy::FdbByAnnouncement,
            ),
            // Its frame went out while its link changed, before anybody looked for one.
            (
                &|made| {
                    made.ready = Some(at(1_250));
                    made.learned = Some(at(1_240));
                    made.sends_unasked = true;
                    made.seen = seen(Some(1_280), Some(1_280), false);
                },
                EndedBy::FdbByOwnFrame,
            ),
            (
                &|made| {
                    made.seen = seen(Some(1_290), Some(1_280), false);
                    made.forgotten_since = Some(at(1_270));
                },
                EndedBy::Ageing,
            ),
            // What came after the end has not ended it.
            (
                &|made| made.seen = seen(Some(1_500), Some(1_500), false),
                EndedBy::Unknown,
            ),
        ];
        for (change, expected) in table {
            let mut made = made(1_000, Vec::new());
            change(&mut made);
            let mut gap = gap(0, 990, 7);
            assert_eq!(made.ended_by(&gap), EndedBy::NotEnded);
            (gap.first, gap.first_sent) = (Some(at(1_400)), Some(at(1_300)));
            assert_eq!(made.ended_by(&gap), *expected);
        }
    }
}
