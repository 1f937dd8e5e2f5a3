//! What belongs to each session of a VM.

use crate::vm::SessionId;

/// Values by session. Those of the sessions that 16 bits tell apart come first, as they are most of all.
#[derive(Debug)]
pub(super) struct BySession<T> {
    narrow: Vec<T>,
    wide: Vec<T>,
}

impl<T> BySession<T> {
    /// No values; nothing is on the heap.
    pub(super) const fn new() -> BySession<T> {
        BySession {
            narrow: Vec::new(),
            wide: Vec::new(),
        }
    }

    /// The value of `session`.
    #[inline(always)]
    pub(super) fn get(&self, session: SessionId) -> Option<&T> {
        match self.narrow.get(session.0 as usize) {
            Some(value) => Some(value),
            None => self.get_wide(session),
        }
    }

    #[cold]
    fn get_wide(&self, session: SessionId) -> Option<&T> {
        self.wide.get(session.wide_place()?)
    }

    /// Adds the value of a session that was opened.
    pub(super) fn push(&mut self, session: SessionId, value: T) {
        match session.wide_place() {
            None => self.narrow.push(value),
            Some(_) => self.wide.push(value),
        }
    }

    /// Returns true if there is none.
    pub(super) const fn is_empty(&self) -> bool {
        self.narrow.is_empty() && self.wide.is_empty()
    }

    /// All values.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.narrow.iter().chain(&self.wide)
    }
}
