//! The frames of a warm-up, which are not counted: its pings are not either.

use rustc_hash::FxHashMap;

use crate::wire::{MacAddr, ProbeHead, sequence_mask};

/// Half of all sequence numbers of a flow: of two numbers that are further apart nobody knows which is the later one.
const fn half(identifier: u32) -> u16 {
    sequence_mask(identifier) / 2 + 1
}

/// How far the number of a ping is behind `last`.
const fn behind(echo: &ProbeHead, last: u16) -> u16 {
    echo.sequence.wrapping_sub(last) & sequence_mask(echo.identifier)
}

/// Knows the frames of a warm-up. Those of a ping belong to it if its request was sent during the warm-up, and others if they
/// are sent or arrive in it.
#[derive(Debug, Default)]
pub(super) struct WarmUp {
    is_on: bool,
    /// By the station that pings and the identifier.
    flows: FxHashMap<(MacAddr, u32), Flow>,
}

/// The pings of a flow during a warm-up.
#[derive(Clone, Copy, Debug)]
struct Flow {
    /// The sequence number of the last one.
    last: u16,
    /// Their number, half of all sequence numbers at most.
    pings: u16,
}

impl WarmUp {
    /// A warm-up begins, or ends.
    pub(super) fn set(&mut self, is_on: bool) {
        if is_on && !self.is_on {
            self.flows.clear();
        }
        self.is_on = is_on;
    }

    /// Returns true during a warm-up.
    pub(super) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// A VM sends `frame`. Returns true if that is of a warm-up.
    pub(super) fn sends(&mut self, frame: &[u8]) -> bool {
        if !self.is_on && self.flows.is_empty() {
            return false;
        }
        let request = ProbeHead::parse(frame).filter(|echo| echo.is_request);
        let Some(echo) = request else {
            return self.has(frame);
        };
        let key = (echo.source_mac, echo.identifier);
        let flow = self.flows.get(&key).copied();
        if self.is_on {
            let pings = flow.map_or(0, |flow| flow.pings);
            let flow = Flow {
                last: echo.sequence,
                pings: (pings + 1).min(half(echo.identifier)),
            };
            self.flows.insert(key, flow);
        } else if flow.is_some_and(|flow| behind(&echo, flow.last) >= half(echo.identifier) / 2) {
            // None of the warm-up is on its way any more, and its numbers will come again.
            self.flows.remove(&key);
        }
        self.is_on
    }

    /// Returns true if `frame`, which was sent before, is of a warm-up.
    pub(super) fn has(&self, frame: &[u8]) -> bool {
        if !self.is_on && self.flows.is_empty() {
            return false;
        }
        let Some(echo) = ProbeHead::parse(frame) else {
            return self.is_on;
        };
        let source = match echo.is_request {
            true => echo.source_mac,
            false => echo.destination_mac,
        };
        let flow = self.flows.get(&(source, echo.identifier));
        flow.is_some_and(|flow| {
            let before = flow.last.wrapping_sub(echo.sequence);
            before & sequence_mask(echo.identifier) < flow.pings
        })
    }
}
