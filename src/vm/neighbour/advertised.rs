//! Updates of the table by neighbour discovery (RFC 4861 section 7.2.3 and 7.2.5). It tells more than ARP does: whether an
//! answer was asked for, and whether it shall replace what is known.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use super::{NeighbourTable, State};
use crate::time::Instant;
use crate::vm::PingId;
use crate::wire::MacAddr;

/// Pings that waited for a neighbour, and for how long.
pub(in crate::vm) type Waited = (Duration, VecDeque<PingId>);

impl NeighbourTable {
    /// Takes the source of a solicitation, or of a router's message. It says where it is, not that packets get there:
    /// the entry is checked when it is used.
    pub(in crate::vm) fn hear(
        &mut self,
        now: Instant,
        address: IpAddr,
        mac: MacAddr,
    ) -> Option<Waited> {
        let stale = State::Reachable {
            mac,
            confirmed: None,
            used: now,
        };
        match self.entries.get_mut(&address) {
            Some(entry) if is_set(now, entry) => None,
            Some(State::Reachable { mac: known, .. } | State::Checked { mac: known, .. })
                if *known == mac =>
            {
                None
            }
            Some(entry) => match std::mem::replace(entry, stale) {
                State::Incomplete { since, waiting, .. } => Some((now - since, waiting)),
                State::Reachable { .. } | State::Checked { .. } => None,
            },
            None => {
                self.make_room();
                self.entries.insert(address, stale);
                None
            }
        }
    }

    /// Takes an advertisement that `address` is at `mac`, or where it was. `None` if the address is none that this VM
    /// knows or looks for.
    pub(in crate::vm) fn advertised(
        &mut self,
        now: Instant,
        address: IpAddr,
        mac: Option<MacAddr>,
        solicited: bool,
        overrides: bool,
    ) -> Option<Option<Waited>> {
        let entry = self.entries.get_mut(&address)?;
        if is_set(now, entry) {
            return Some(None);
        }
        let (known, used) = match entry {
            State::Incomplete { .. } => (mac?, now),
            State::Reachable { mac, used, .. } | State::Checked { mac, used, .. } => (*mac, *used),
        };
        let is_other = mac.is_some_and(|mac| mac != known);
        if is_other && !overrides {
            if let State::Reachable { confirmed, .. } = entry {
                *confirmed = None;
            }
            return Some(None);
        }
        if !solicited && !is_other && !matches!(entry, State::Incomplete { .. }) {
            return Some(None);
        }
        let reachable = State::Reachable {
            mac: mac.unwrap_or(known),
            confirmed: solicited.then_some(now),
            used,
        };
        Some(match std::mem::replace(entry, reachable) {
            State::Incomplete { since, waiting, .. } => Some((now - since, waiting)),
            State::Reachable { .. } | State::Checked { .. } => None,
        })
    }
}

/// Tells if the entry was filled in for ever, so that nobody's word changes it.
fn is_set(now: Instant, entry: &State) -> bool {
    matches!(entry, State::Reachable { confirmed: Some(at), .. } if *at > now)
}

#[cfg(test)]
mod tests {
    use super::super::{Lookup, Overdue, REACHABLE_TIME};
    use super::*;
    use crate::vm::SessionId;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const PING: PingId = PingId {
        session: SessionId(0),
        sequence: 0,
    };

    fn address() -> IpAddr {
        "fd77::3".parse().unwrap()
    }

    /// A table that knows the neighbour at A, reachable or stale.
    fn table(reachable: bool) -> NeighbourTable {
        let mut table = NeighbourTable::default();
        table.hear(Instant::ZERO, address(), A);
        if reachable {
            table.advertised(Instant::ZERO, address(), None, true, false);
        }
        table
    }

    /// Where the neighbour is taken to be, and whether that is checked when it is used.
    fn state(table: &mut NeighbourTable) -> (MacAddr, bool) {
        let now = Instant::from_nanos(1);
        let Lookup::Found(mac) = table.lookup(now, address(), PING) else {
            panic!("not known");
        };
        let checked = matches!(table.overdue(now), Some(Overdue::Ask(_, Some(_))));
        (mac, checked)
    }

    #[test]
    fn each_advertisement_does_to_an_entry_what_rfc_4861_says() {
        // Appendix C: reachable before, address, solicited, override, then: where, and whether it is to be checked.
        for (reachable, mac, solicited, overrides, expected) in [
            (true, None, false, false, (A, false)),
            (true, Some(A), false, false, (A, false)),
            (true, Some(B), false, false, (A, true)),
            (true, Some(B), true, false, (A, true)),
            (true, Some(B), false, true, (B, true)),
            (true, Some(B), true, true, (B, false)),
            (false, None, true, false, (A, false)),
            (false, Some(A), true, false, (A, false)),
            (false, Some(A), false, true, (A, true)),
            (false, Some(B), true, false, (A, true)),
            (false, Some(B), false, true, (B, true)),
            (false, Some(B), true, true, (B, false)),
        ] {
            let mut table = table(reachable);
            let known = table.advertised(Instant::ZERO, address(), mac, solicited, overrides);
            assert!(known.is_some());
            let what = format!("{reachable} {mac:?} solicited {solicited} override {overrides}");
            assert_eq!(state(&mut table), expected, "{what}");
        }
    }

    #[test]
    fn an_entry_that_was_filled_in_stays() {
        let mut table = NeighbourTable::default();
        table.set(address(), A);
        table.hear(Instant::ZERO, address(), B);
        table.advertised(Instant::ZERO, address(), Some(B), true, true);
        assert_eq!(state(&mut table), (A, false));
    }

    #[test]
    fn an_answer_ends_the_wait_and_nobody_is_added_unasked() {
        let mut table = NeighbourTable::default();
        assert_eq!(
            table.advertised(Instant::ZERO, address(), Some(A), true, true),
            None
        );
        assert_eq!(table.lookup(Instant::ZERO, address(), PING), Lookup::Ask);
        let later = Instant::from_nanos(5);
        assert_eq!(table.advertised(later, address(), None, true, true), None);
        let waited = table.advertised(later, address(), Some(A), true, true);
        let expected = (Duration::from_nanos(5), VecDeque::from([PING]));
        assert_eq!(waited, Some(Some(expected)));
        assert_eq!(state(&mut table), (A, false));
        let much_later = later + REACHABLE_TIME;
        assert_eq!(table.lookup(much_later, address(), PING), Lookup::Found(A));
        assert!(matches!(
            table.overdue(much_later),
            Some(Overdue::Ask(_, Some(A)))
        ));
    }
}
