//! What the ring writes of a frame: its bytes, and in words of which ping it is and what came of that.

use rustc_hash::FxHashMap;

use super::{AroundLoss, OfPing, is_open};
use crate::fabric::Observed;
use crate::fabric::capture::file::{File, Frame};
use crate::fabric::capture::narrated::echo_of;
use crate::fabric::capture::pings::Key;
use crate::fabric::capture::queue::Kept;
use crate::fabric::capture::words::{
    Part, PingName, push, push_fate, push_lot, push_name, push_piece,
};
use crate::time::Instant;
use crate::vm::VmId;
use crate::wire::{Describe, FragmentHead, MacAddr, ProbeHead};

/// Frames behind a fragment among which the last one of its datagram is looked for.
const MAX_PIECES: usize = 256;

impl AroundLoss {
    /// Writes a frame of the queue.
    #[cold]
    pub(super) fn write(
        &mut self,
        now: Instant,
        front: &Kept<OfPing>,
        stations: &FxHashMap<MacAddr, VmId>,
        file: &mut File,
    ) {
        let mut comment = std::mem::take(&mut self.comment);
        comment.clear();
        let mut is_known = !is_open(front);
        if self.has_comments {
            is_known = self.describe(front, stations, &mut comment);
            push_lot(&mut comment, front, now);
        }
        self.unknown += u64::from(!is_known);
        let (bytes, _) = self.queue.bytes(front);
        file.write(&Frame {
            at: front.at,
            vm: front.vm,
            direction: front.direction,
            bytes: bytes.get(..self.snap).unwrap_or(bytes),
            length: front.length,
            comment: &comment,
        });
        self.comment = comment;
    }

    /// Writes what the first frame is. Returns false if it is of a ping of which it is not known what came of it.
    fn describe(
        &mut self,
        front: &Kept<OfPing>,
        stations: &FxHashMap<MacAddr, VmId>,
        comment: &mut Vec<u8>,
    ) -> bool {
        let (bytes, malformed) = self.queue.bytes(front);
        if !malformed.is_empty() {
            comment.extend_from_slice(malformed);
            return true;
        }
        let seen = Observed {
            vm: front.vm,
            direction: front.direction,
            frame: bytes,
            impaired: front.impaired,
            refused: front.refused,
        };
        let echo = ProbeHead::parse(bytes);
        let ping = echo.and_then(|echo| echo_of(&seen, &echo, stations));
        let piece = match (echo, ping) {
            (None, _) => self.fragments.find(seen.place(), bytes),
            (_, Some(ping)) => {
                self.fragments.begin(seen.place(), bytes, ping);
                None
            }
            _ => None,
        };
        let Some((key, part, target)) = ping.or(piece.map(|(ping, _)| ping)) else {
            push(comment, format_args!("{}", Describe(bytes)));
            return true;
        };
        if let Some((_, piece)) = piece {
            let of = piece.is_last.then_some(piece.number);
            let of = of.or_else(|| self.last_piece(&seen));
            push_piece(comment, piece.number, of);
        }
        let name = PingName {
            source: key.source(),
            sequence: self.sequence(key),
            target,
        };
        let part = match part {
            Part::Sent if front.what.is_none() && piece.is_none() => Part::Repeat,
            part => part,
        };
        push_name(comment, part, &name);
        let failed = self.failed.get(&key).map(|(_, fate)| *fate);
        if let Some(fate) = front.what {
            self.told.insert(key, fate);
        }
        // Of other frames, the request says it. It may not be in the file.
        let Some(fate) = failed.or_else(|| self.told.get(&key).copied()) else {
            return true;
        };
        push_fate(comment, part, fate);
        !fate.is_open()
    }

    /// The number of the last fragment of the datagram of which the first frame has one, if it follows soon.
    fn last_piece(&self, first: &Observed<'_>) -> Option<u16> {
        let head = FragmentHead::parse(first.frame)?;
        let mut later = (1..MAX_PIECES).map_while(|index| self.queue.get(index));
        later.find_map(|kept| {
            let frame = self.queue.bytes(kept).0;
            let other = FragmentHead::parse(frame)?;
            let seen = Observed {
                vm: kept.vm,
                direction: kept.direction,
                frame,
                ..*first
            };
            let is_it = other.identification == head.identification;
            let (_, piece) = self.fragments.find(seen.place(), frame).filter(|_| is_it)?;
            piece.is_last.then_some(piece.number)
        })
    }

    /// The sequence number in full, near that of a failed ping of the same flow.
    fn sequence(&self, key: Key) -> u64 {
        let mut of_flow = self
            .failed
            .iter()
            .filter(|(other, _)| other.flow() == key.flow());
        let Some((near, (sequence, _))) = of_flow.next() else {
            return key.sequence().into();
        };
        let apart = key.sequence().wrapping_sub(near.sequence()) as i16;
        sequence.saturating_add_signed(apart.into())
    }
}
