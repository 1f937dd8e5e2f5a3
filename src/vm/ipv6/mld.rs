//! When a VM reports the groups that it listens to (RFC 3810 section 5 and 6).

use std::time::Duration;

use crate::time::Instant;
use crate::wire::MldRecord;

/// How often a change is reported (`Robustness Variable`, RFC 3810 section 9.1).
pub const MLD_REPORTS: u8 = 2;
/// Time between two such reports (`Unsolicited Report Interval`).
pub const MLD_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The reports that are to be sent.
#[derive(Debug, Default)]
pub(super) struct Mld {
    /// When the next report of a change is due, and how many follow it.
    change: Option<(Instant, u8)>,
    /// When the answer to a query is due.
    answer: Option<Instant>,
}

impl Mld {
    /// The groups have changed: reports it from `at` on.
    pub(super) fn changed(&mut self, at: Instant) {
        self.change = Some((at, MLD_REPORTS - 1));
    }

    /// A router asks; an answer that is to come earlier anyway answers this query too (section 6.2).
    pub(super) fn queried(&mut self, at: Instant) {
        self.answer = Some(self.answer.map_or(at, |earlier| earlier.min(at)));
    }

    /// When [`Mld::overdue`] has something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let change = self.change.map(|(at, _)| at);
        [change, self.answer].into_iter().flatten().min()
    }

    /// The report that is to be sent at `now`.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<MldRecord> {
        if let Some((at, left)) = self.change
            && at <= now
        {
            self.change = left
                .checked_sub(1)
                .map(|left| (now + MLD_REPORT_INTERVAL, left));
            return Some(MldRecord::ChangeToExclude);
        }
        self.answer.take_if(|at| *at <= now)?;
        Some(MldRecord::ModeIsExclude)
    }
}
