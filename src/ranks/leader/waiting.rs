//! What rank 0 does when a time is up.

use super::super::deadlines::{ALIVE, SILENCE};
use super::super::message::{Gate, Message};
use super::{Leader, Other, Peer, PeerId, State, WaitsFor};
use crate::time::{Instant, earliest};

impl Leader {
    /// The time of the next call of [`Leader::handle_timeout`].
    pub fn timeout(&self) -> Option<Instant> {
        let strangers = self.peers.values().filter_map(|peer| match peer.state {
            State::Stranger(_, until, _) => Some(until),
            State::Rank(..) | State::Closing => None,
        });
        let alive = self.has_met.then_some(self.alive_at);
        earliest(strangers.min(), earliest(alive, self.until))
    }

    /// Does what is due at `now`. What has arrived by then was taken in.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_late =
            |peer: &Peer| matches!(peer.state, State::Stranger(_, until, _) if until <= now);
        let late: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| is_late(peer))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.refuse(id, "it did not say in time who it is");
        }
        if self.has_met && self.alive_at <= now {
            self.alive_at = now + ALIVE;
            let phase = String::new();
            self.say_all(&Message::Alive { phase });
            self.look_for_silent(now);
        }
        if self.until.is_some_and(|until| until <= now) {
            self.until = None;
            self.too_late();
        }
        // It may have waited for one that is gone.
        self.open(now);
    }

    /// In a run, who says nothing for long is gone.
    fn look_for_silent(&mut self, now: Instant) {
        if self.opened.is_none_or(|opened| opened < Gate::Labs) {
            return;
        }
        let silent = |other: &Other| other.heard_at + SILENCE <= now && !other.is_whole;
        let silent: Vec<usize> = (0..self.ranks.len())
            .filter(|index| self.ranks.get(*index).is_some_and(silent))
            .collect();
        for index in silent {
            let words = humantime::format_duration(SILENCE);
            self.lost(index, &format!("it has said nothing for {words}"));
        }
        self.look_for_documents();
    }

    /// What was waited for did not come in time.
    fn too_late(&mut self) {
        let (waits_for, own) = (self.waits_for, self.own);
        let is_behind = |other: &Other| match waits_for {
            WaitsFor::Meeting => other.clock.is_none(),
            WaitsFor::Labs => other.gate != own,
            WaitsFor::Documents => !other.is_whole && !other.is_gone,
        };
        let behind: Vec<usize> = (0..self.ranks.len())
            .filter(|index| self.ranks.get(*index).is_some_and(is_behind))
            .collect();
        let names: Vec<String> = behind.iter().map(|index| (index + 1).to_string()).collect();
        for index in &behind {
            if let Some(other) = self.ranks.get_mut(*index) {
                other.is_gone = true;
            }
        }
        let who = match names.as_slice() {
            [] => return,
            [one] => format!("rank {one}"),
            several => format!("ranks {}", several.join(", ")),
        };
        let what = match waits_for {
            WaitsFor::Meeting => "come to the meeting point",
            WaitsFor::Labs => "make its lab",
            WaitsFor::Documents => "tell what it has measured",
        };
        self.fail(format!("{who} did not {what} in time"));
        self.look_for_documents();
    }
}
