//! What belongs to each session of a VM.

use crate::vm::SessionId;

/// Values by session. Those of the sessions that 16 bits tell apart come first, as they are most of all.
#[derive(Debug)]
pub(super) struct BySession<T> {
    narrow: Vec<T>,
    /// Most VMs have none.
    wide: Option<Box<Wide<T>>>,
}

#[derive(Debug)]
struct Wide<T> {
    values: Vec<T>,
}

impl<T> BySession<T> {
    /// No values; nothing is on the heap.
    pub(super) const fn new() -> BySession<T> {
        BySession {
            narrow: Vec::new(),
            wide: None,
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
        self.wide.as_ref()?.values.get(session.wide_place()?)
    }

    /// Adds the value of a session that was opened.
    pub(super) fn push(&mut self, session: SessionId, value: T) {
        match session.wide_place() {
            None => self.narrow.push(value),
            Some(_) => {
                let wide = self
                    .wide
                    .get_or_insert_with(|| Box::new(Wide { values: Vec::new() }));
                wide.values.push(value);
            }
        }
    }

    /// Returns true if there is none.
    pub(super) const fn is_empty(&self) -> bool {
        self.narrow.is_empty() && self.wide.is_none()
    }

    /// All values.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let wide = self.wide.iter().flat_map(|wide| &wide.values);
        self.narrow.iter().chain(wide)
    }
}
