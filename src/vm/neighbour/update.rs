//! The change that a message makes to an entry: `neigh_update` of Linux, for ARP (`arp_process` in `net/ipv4/arp.c`) and
//! neighbour discovery (`net/ipv6/ndisc.c`; RFC 4861 section 7.2.3, 7.2.5 and appendix C).

use std::net::IpAddr;

use super::LOCK_TIME;
use super::table::{Entry, NeighbourTable, State, Waited, delay};
use crate::time::Instant;
use crate::wire::{ArpPacket, MacAddr};

/// A message's word on a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::vm) struct Claim {
    /// Where it is; `None`: where it was.
    mac: Option<MacAddr>,
    /// It is an answer to us, so that packets get there. Others leave it open: the neighbour is stale if that is news.
    confirms: bool,
    /// If it is believed against what is known.
    overrides: Override,
    /// If it is believed when nothing is known.
    absent: Absent,
}

impl Claim {
    /// The word of a question to us, or of a router's message: its sender is at `mac`.
    pub(in crate::vm) const fn of_sender(mac: MacAddr) -> Claim {
        Claim {
            mac: Some(mac),
            confirms: false,
            overrides: Override::Always,
            absent: Absent::Add,
        }
    }

    /// The word of a neighbour advertisement, with its flags S and O.
    pub(in crate::vm) fn of_advertisement(
        mac: Option<MacAddr>,
        solicited: bool,
        overrides: bool,
    ) -> Claim {
        Claim {
            mac,
            confirms: solicited,
            overrides: if overrides {
                Override::Always
            } else {
                Override::Never
            },
            absent: Absent::Ignore,
        }
    }

    /// The word of an ARP packet that is no question to us; a reply is one `to_us` if its frame was.
    pub(in crate::vm) fn of_arp(arp: &ArpPacket, to_us: bool) -> Claim {
        Claim {
            mac: Some(arp.sender_mac),
            confirms: arp.operation == ArpPacket::REPLY && to_us,
            overrides: if arp.is_gratuitous() {
                Override::Always
            } else {
                Override::Unlocked
            },
            absent: Absent::Revive,
        }
    }
}

/// The weight of a hardware address other than the known one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Override {
    /// It replaces it.
    Always,
    /// It replaces it unless the entry has changed within [`LOCK_TIME`].
    Unlocked,
    /// It only makes a reachable neighbour stale.
    Never,
}

/// The consequence of a message about a neighbour that is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Absent {
    /// It is added: an answer is likely to be needed (RFC 826).
    Add,
    /// Nothing, but one that was asked for in vain is known again.
    Revive,
    /// Nothing.
    Ignore,
}

/// The fate of the entry.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Update {
    /// There is none.
    Unknown,
    /// It is there.
    Known,
    /// It is there, and was looked for.
    Resolved { mac: MacAddr, waited: Waited },
}

impl NeighbourTable {
    /// Takes a message's word on the neighbour `address`.
    pub(super) fn update(&mut self, now: Instant, address: IpAddr, claim: Claim) -> Update {
        let known = match self.entries.get(&address).map(|entry| &entry.state) {
            None => claim.absent == Absent::Add && self.make_room(now),
            Some(State::Failed) => claim.absent != Absent::Ignore,
            Some(_) => true,
        };
        if !known {
            return Update::Unknown;
        }
        let reachable_time = self.reachable_time(address);
        let entry = self.entries.entry(address).or_insert(Entry {
            mac: MacAddr::ZERO,
            used: now,
            updated: now,
            state: State::Failed,
        });
        let is_stale = entry.is_stale(now, reachable_time);
        let told = if claim.confirms {
            State::Reachable { confirmed: now }
        } else {
            State::Stale
        };
        match &mut entry.state {
            State::Permanent => Update::Known,
            State::Incomplete(search) => {
                let Some(mac) = claim.mac else {
                    return Update::Known;
                };
                let waited = search.end(now);
                let is_used = !claim.confirms && !waited.pings.is_empty();
                let state = if is_used { delay(now) } else { told };
                entry.mac = mac;
                entry.enter(now, address, state, &mut self.timers);
                Update::Resolved { mac, waited }
            }
            State::Failed => {
                if let Some(mac) = claim.mac {
                    entry.mac = mac;
                    entry.enter(now, address, told, &mut self.timers);
                }
                Update::Known
            }
            State::Reachable { .. } | State::Stale | State::Delay { .. } | State::Probe { .. } => {
                let mac = claim.mac.unwrap_or(entry.mac);
                let is_other = mac != entry.mac;
                let is_believed = match claim.overrides {
                    Override::Always => true,
                    Override::Unlocked => now > entry.updated + LOCK_TIME,
                    Override::Never => false,
                };
                match &mut entry.state {
                    State::Reachable { .. }
                        if is_other && claim.overrides == Override::Never && !is_stale =>
                    {
                        entry.enter(now, address, State::Stale, &mut self.timers);
                    }
                    _ if is_other && !is_believed => {}
                    State::Reachable { confirmed } if !is_other && claim.confirms && !is_stale => {
                        *confirmed = now;
                    }
                    _ if is_other || claim.confirms => {
                        entry.mac = mac;
                        entry.enter(now, address, told, &mut self.timers);
                    }
                    _ => {}
                }
                Update::Known
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use super::super::table::{Lookup, Overdue};
    use super::super::{BASE_REACHABLE_TIME, DELAY_FIRST_PROBE_TIME, MAX_REQUESTS, RETRY_INTERVAL};
    use super::*;
    use crate::vm::{PingId, SessionId};

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const PING: PingId = PingId {
        session: SessionId(0),
        sequence: 0,
    };
    const SECOND: Duration = Duration::from_secs(1);

    fn address() -> IpAddr {
        "fd77::3".parse().unwrap()
    }

    fn new() -> NeighbourTable {
        NeighbourTable::new(&mut fastrand::Rng::with_seed(1))
    }

    fn advertisement(mac: Option<MacAddr>, solicited: bool, overrides: bool) -> Claim {
        Claim::of_advertisement(mac, solicited, overrides)
    }

    fn state(table: &NeighbourTable) -> &'static str {
        match table.entries.get(&address()).map(|entry| &entry.state) {
            None => "none",
            Some(State::Incomplete(_)) => "incomplete",
            Some(State::Reachable { .. }) => "reachable",
            Some(State::Stale) => "stale",
            Some(State::Delay { .. }) => "delay",
            Some(State::Probe { .. }) => "probe",
            Some(State::Failed) => "failed",
            Some(State::Permanent) => "permanent",
        }
    }

    /// A table that has the neighbour at A in that state, and the time at which it got there.
    fn table(wanted: &str) -> (NeighbourTable, Instant) {
        let (mut table, mut now) = (new(), Instant::ZERO);
        match wanted {
            "incomplete" | "failed" => {
                table.lookup(now, address(), PING);
            }
            "permanent" => table.set(address(), A),
            _ => {
                table.update(now, address(), Claim::of_sender(A));
            }
        }
        match wanted {
            "reachable" => {
                table.update(now, address(), advertisement(None, true, false));
            }
            "delay" | "probe" => {
                table.lookup(now, address(), PING);
            }
            _ => {}
        }
        while matches!(wanted, "failed" | "probe") && state(&table) != wanted {
            now = table.deadline().unwrap();
            table.overdue(now);
        }
        assert_eq!(state(&table), wanted);
        (table, now)
    }

    #[test]
    fn each_advertisement_does_to_an_entry_what_rfc_4861_says() {
        // Appendix C: before, address, solicited, override, then: where, and the state after.
        for (before, mac, solicited, overrides, expected) in [
            ("reachable", None, false, false, (A, "reachable")),
            ("reachable", Some(A), false, false, (A, "reachable")),
            ("reachable", Some(A), false, true, (A, "reachable")),
            ("reachable", Some(B), false, false, (A, "stale")),
            ("reachable", Some(B), true, false, (A, "stale")),
            ("reachable", Some(B), false, true, (B, "stale")),
            ("reachable", Some(B), true, true, (B, "reachable")),
            ("stale", None, true, false, (A, "reachable")),
            ("stale", Some(A), true, false, (A, "reachable")),
            ("stale", Some(A), false, true, (A, "stale")),
            ("stale", Some(B), true, false, (A, "stale")),
            ("stale", Some(B), false, true, (B, "stale")),
            ("stale", Some(B), true, true, (B, "reachable")),
            ("delay", Some(A), false, true, (A, "delay")),
            ("delay", Some(B), true, false, (A, "delay")),
            ("delay", Some(B), false, true, (B, "stale")),
            ("delay", None, true, false, (A, "reachable")),
            ("probe", Some(A), false, true, (A, "probe")),
            ("probe", Some(B), false, false, (A, "probe")),
            ("probe", Some(B), false, true, (B, "stale")),
            ("probe", Some(A), true, false, (A, "reachable")),
            ("permanent", Some(B), true, true, (A, "permanent")),
        ] {
            let (mut table, now) = table(before);
            let update = table.update(now, address(), advertisement(mac, solicited, overrides));
            let what = format!("{before} {mac:?} solicited {solicited} override {overrides}");
            assert_eq!(update, Update::Known, "{what}");
            let known = table.get(address()).unwrap();
            assert_eq!((known, state(&table)), expected, "{what}");
            let has_timer = matches!(expected.1, "delay" | "probe");
            assert_eq!(table.deadline().is_some(), has_timer, "{what}");
        }
    }

    #[test]
    fn an_advertisement_tells_nothing_of_who_is_unknown_or_was_given_up() {
        for before in ["none", "failed"] {
            let mut table = if before == "none" {
                new()
            } else {
                table(before).0
            };
            let update = table.update(Instant::ZERO, address(), advertisement(Some(A), true, true));
            assert_eq!((update, state(&table)), (Update::Unknown, before));
        }
    }

    #[test]
    fn who_asks_is_remembered_and_believed_but_not_taken_for_reachable() {
        for (before, mac, expected) in [
            ("none", A, (A, "stale")),
            ("failed", A, (A, "stale")),
            ("incomplete", A, (A, "delay")),
            ("reachable", A, (A, "reachable")),
            ("reachable", B, (B, "stale")),
            ("stale", B, (B, "stale")),
            ("delay", A, (A, "delay")),
            ("delay", B, (B, "stale")),
            ("probe", A, (A, "probe")),
            ("probe", B, (B, "stale")),
            ("permanent", B, (A, "permanent")),
        ] {
            let (mut table, now) = match before {
                "none" => (new(), Instant::ZERO),
                before => table(before),
            };
            let update = table.update(now, address(), Claim::of_sender(mac));
            assert_eq!(
                matches!(update, Update::Resolved { .. }),
                before == "incomplete"
            );
            let known = table.get(address()).unwrap();
            assert_eq!((known, state(&table)), expected, "{before} {mac}");
        }
    }

    #[test]
    fn an_entry_is_locked_for_a_second_after_a_change_and_not_after_what_changed_nothing() {
        let claim = |mac, overrides| Claim {
            mac: Some(mac),
            confirms: true,
            overrides,
            absent: Absent::Ignore,
        };
        let at = |millis: u64| Instant::ZERO + Duration::from_millis(millis);
        let mut table = table("reachable").0;
        for (millis, mac, overrides, expected) in [
            (900, A, Override::Unlocked, A),
            (1_000, B, Override::Unlocked, A),
            (1_001, B, Override::Unlocked, B),
            (2_001, A, Override::Unlocked, B),
            (2_001, A, Override::Always, A),
            (3_001, B, Override::Unlocked, A),
            (3_002, B, Override::Unlocked, B),
        ] {
            table.update(at(millis), address(), claim(mac, overrides));
            assert_eq!(table.get(address()), Some(expected), "at {millis} ms");
        }
    }

    #[test]
    fn an_entry_takes_no_more_than_64_bytes() {
        assert!(size_of::<(IpAddr, Entry)>() <= 64);
    }

    #[test]
    fn an_answer_ends_the_wait() {
        let (mut table, _) = table("incomplete");
        let later = Instant::from_nanos(5);
        let update = table.update(later, address(), advertisement(None, true, true));
        assert_eq!(update, Update::Known, "it does not say where");
        let update = table.update(later, address(), advertisement(Some(A), true, true));
        let waited = Waited {
            elapsed: Duration::from_nanos(5),
            pings: VecDeque::from([PING]),
        };
        assert_eq!(update, Update::Resolved { mac: A, waited });
        assert_eq!((state(&table), table.deadline()), ("reachable", None));
    }

    /// The steps of the table until it has nothing left to do: second, and kind of question.
    fn run(table: &mut NeighbourTable) -> Vec<(u64, &'static str)> {
        let mut done = Vec::new();
        while let Some(at) = table.deadline() {
            let second = at.as_nanos() / 1_000_000_000;
            done.push(match table.overdue(at) {
                Some(Overdue::Ask(_, Some(A))) => (second, "unicast"),
                Some(Overdue::Ask(_, None)) => (second, "broadcast"),
                Some(Overdue::GiveUp(pings)) if pings == [PING] => (second, "gives up"),
                None => (second, state(table)),
                other => panic!("{other:?}"),
            });
        }
        done
    }

    #[test]
    fn a_neighbour_is_asked_three_times_by_broadcast_or_by_unicast_and_given_up() {
        for (before, expected) in [
            (
                "incomplete",
                vec![(1, "broadcast"), (2, "broadcast"), (3, "gives up")],
            ),
            (
                "delay",
                vec![
                    (5, "unicast"),
                    (6, "unicast"),
                    (7, "unicast"),
                    (8, "failed"),
                ],
            ),
            ("stale", vec![]),
            ("reachable", vec![]),
            ("permanent", vec![]),
        ] {
            let mut table = table(before).0;
            assert_eq!(run(&mut table), expected, "{before}");
        }
        assert_eq!(
            (MAX_REQUESTS, RETRY_INTERVAL, DELAY_FIRST_PROBE_TIME),
            (3, SECOND, 5 * SECOND)
        );
    }

    #[test]
    fn a_confirmation_lasts_as_long_as_the_vm_has_drawn() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut drawn: Vec<Duration> = (0..1_000)
            .map(|_| NeighbourTable::new(&mut random).reachable_time(address()))
            .collect();
        drawn.sort_unstable();
        let (least, most) = (BASE_REACHABLE_TIME / 2, BASE_REACHABLE_TIME * 3 / 2);
        assert!(
            least <= drawn[0] && drawn[0] < least + SECOND,
            "{:?}",
            drawn[0]
        );
        assert!(
            drawn[999] <= most && most - SECOND < drawn[999],
            "{:?}",
            drawn[999]
        );

        let mut table = table("reachable").0;
        let end = Instant::ZERO + table.reachable_time(address());
        let just = Instant::from_nanos(end.as_nanos() - 1);
        assert_eq!(table.lookup(just, address(), PING), Lookup::Found(A));
        assert_eq!(table.lookup(end, address(), PING), Lookup::Suspected(A));
        assert_eq!(table.lookup(end, address(), PING), Lookup::Found(A));
        assert_eq!(state(&table), "delay");
    }
}
