//! The TCP connections that pings have opened.

use crate::vm::ConnectionCounts;

/// TCP connections that pings have opened, in the phases that count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Connections {
    /// What has happened to them.
    pub counts: ConnectionCounts,
    /// The most that were open at once, between all VMs and their peers.
    pub open_at_once: u64,
    /// Those that are open now, whatever phase has opened them.
    pub open: u64,
}

impl Connections {
    /// Takes what has happened since, which counts or does not.
    pub(super) fn add(&mut self, counts: ConnectionCounts, is_counted: bool) {
        self.open = (self.open + counts.opened).saturating_sub(counts.closed);
        if is_counted {
            self.counts += counts;
            self.open_at_once = self.open_at_once.max(self.open);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_were_open_at_once_is_told_of_the_phases_that_count() {
        let mut connections = Connections::default();
        let of = |opened, closed| ConnectionCounts {
            opened,
            closed,
            ..ConnectionCounts::default()
        };
        connections.add(of(9, 0), false);
        connections.add(of(0, 6), true);
        connections.add(of(4, 1), true);
        connections.add(of(0, 6), true);
        let expected = Connections {
            counts: of(4, 13),
            open_at_once: 6,
            open: 0,
        };
        assert_eq!(connections, expected);
    }
}
