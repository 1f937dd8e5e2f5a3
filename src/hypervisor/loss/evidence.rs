//! What is known of frames of pings that did not arrive, until the pings end.

use crate::hypervisor::by_ping::{Bounded, Purpose};
use crate::record::{Attribution, Cause, Place, Way, Why};
use crate::time::Instant;
use crate::vm::VmId;

/// Pings of which facts are kept. Of one that is answered after all, or of none of the run's, they stay until others need the
/// room.
const MAX_PINGS: usize = 1 << 16;
/// Facts of one ping; a flooded frame is dropped in many places.
const MAX_FACTS_OF_PING: usize = 8;

/// How much a fact says of its ping.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Strength {
    /// A copy of the frame came to a VM that it was not for.
    Elsewhere,
    /// A copy of the frame was dropped in a place that is neither the port of its source nor that of its destination.
    Passing,
    /// The frame was dropped where it has to pass.
    Decisive,
}

/// What happened to a frame of a ping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fact {
    pub(super) at: Instant,
    pub(super) what: Attribution,
    pub(super) strength: Strength,
}

impl Fact {
    /// One that decides.
    pub(super) const fn decisive(at: Instant, what: Attribution) -> Fact {
        let strength = Strength::Decisive;
        Fact { at, what, strength }
    }
}

/// Facts by ping, and by search for a neighbour.
#[derive(Debug)]
pub(super) struct Evidence(Bounded<Facts, Purpose>);

/// What is known of one ping: of most there is one fact, for which nothing is allocated.
#[derive(Debug)]
struct Facts {
    first: Fact,
    others: Vec<Fact>,
}

impl Facts {
    fn iter(&self) -> impl Iterator<Item = &Fact> + Clone {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The oldest makes room.
    fn push(&mut self, fact: Fact) {
        if self.others.len() + 1 >= MAX_FACTS_OF_PING {
            self.first = self.others.remove(0);
        }
        self.others.push(fact);
    }
}

impl Default for Evidence {
    fn default() -> Evidence {
        Evidence(Bounded::new(MAX_PINGS))
    }
}

impl Evidence {
    /// Keeps a fact.
    pub(super) fn add(&mut self, key: Purpose, fact: Fact) {
        match self.0.get_mut(key) {
            // Those of a ping that had the same number, 65,536 pings ago, are of no use.
            Some(facts) => facts.push(fact),
            None => self.0.insert(
                key,
                Facts {
                    first: fact,
                    others: Vec::new(),
                },
            ),
        }
    }

    /// Returns true if a frame of a ping that was due at `due` is known to have been dropped where it has to pass.
    pub(super) fn decides(&self, key: Purpose, due: Instant) -> bool {
        let facts = self.0.get(key);
        facts.is_some_and(|facts| {
            let mut of_ping = facts.iter().filter(|fact| fact.at >= due);
            of_ping.any(|fact| fact.strength == Strength::Decisive)
        })
    }

    /// Takes what is known of a ping that was due at `due`. What is known of a search stays: several pings may have waited for its
    /// end.
    pub(super) fn take(&mut self, key: Purpose, due: Instant) -> Option<Fact> {
        match key {
            Purpose::Ping(_) => {
                let facts = self.0.remove(key)?;
                judge(facts.iter().filter(|fact| fact.at >= due))
            }
            Purpose::Search(..) => judge(self.of(key).filter(|fact| fact.at >= due)),
        }
    }

    /// What is known.
    pub(super) fn of(&self, key: Purpose) -> impl Iterator<Item = &Fact> + Clone {
        self.0.get(key).into_iter().flat_map(Facts::iter)
    }
}

/// The fact that explains why a ping failed. A reply is there only if the request arrived, so what happened to a reply counts
/// before what happened to a copy of the request; a drop on the way counts before copies that came to others. What was done
/// on purpose counts before all that: a frame with a wrong bit may have the number of another ping when a VM reads it.
pub(super) fn judge<'a>(facts: impl Iterator<Item = &'a Fact> + Clone) -> Option<Fact> {
    let weight = |fact: &&Fact| {
        let is_on_purpose =
            fact.what.cause == Cause::Impaired && fact.strength != Strength::Elsewhere;
        (is_on_purpose, fact.what.way == Way::Reply, fact.strength)
    };
    let mut best = *facts.clone().max_by_key(weight)?;
    let places = facts.filter(|fact| weight(fact) == weight(&&best));
    let is_flooded = best.strength == Strength::Elsewhere
        && places
            .clone()
            .any(|fact| fact.what.place != best.what.place);
    let is_of_copy = best.strength == Strength::Elsewhere && best.what.cause == Cause::Impaired;
    if is_of_copy {
        // What somebody else does on purpose to a copy of it has lost nothing.
        best.what = Attribution::of(Cause::DeliveredElsewhere, best.what.way, best.what.place);
    }
    if is_flooded {
        best.what.place = Place::Others;
        best.what.why = Some(Why::State(FLOODED));
    }
    Some(best)
}

/// Why a frame that came to several others did.
const FLOODED: &str = "flooded";

/// The attribution of a frame of which a copy came to `vm`, which it was not for.
pub(super) const fn elsewhere(way: Way, vm: VmId) -> Attribution {
    Attribution::of(Cause::DeliveredElsewhere, way, Place::Vm(vm))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::by_ping::Key;

    const KEY: Purpose = ping(0, 2);

    const fn ping(vm: u32, sequence: u16) -> Purpose {
        Purpose::Ping(Key::new(VmId(vm), 1, sequence))
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(1_000_000 * millis)
    }

    fn fact(way: Way, strength: Strength, vm: u32, millis: u64) -> Fact {
        Fact {
            at: at(millis),
            what: Attribution::of(Cause::Ignored, way, Place::Vm(VmId(vm))),
            strength,
        }
    }

    fn impaired(vm: u32) -> Fact {
        Fact {
            what: Attribution::of(Cause::Impaired, Way::Request, Place::Vm(VmId(vm))),
            ..fact(Way::Request, Strength::Decisive, vm, 5)
        }
    }

    fn elsewhere_at(vm: u32) -> Fact {
        Fact {
            at: at(5),
            what: elsewhere(Way::Request, VmId(vm)),
            strength: Strength::Elsewhere,
        }
    }

    #[test]
    fn the_fact_that_explains_a_failure_is_chosen() {
        use Strength::{Decisive, Passing};
        let (request, reply) = (Way::Request, Way::Reply);
        // The facts, and the place of what is chosen.
        let table = [
            (vec![], None),
            (
                vec![fact(request, Decisive, 1, 5)],
                Some(Place::Vm(VmId(1))),
            ),
            // It is of another ping with the same number.
            (vec![fact(request, Decisive, 1, 3)], None),
            (
                vec![fact(request, Decisive, 1, 3), elsewhere_at(4)],
                Some(Place::Vm(VmId(4))),
            ),
            (
                vec![fact(request, Passing, 1, 5), fact(request, Decisive, 2, 5)],
                Some(Place::Vm(VmId(2))),
            ),
            (
                vec![fact(request, Decisive, 1, 5), elsewhere_at(4)],
                Some(Place::Vm(VmId(1))),
            ),
            // There is a reply because the request came.
            (
                vec![fact(reply, Passing, 1, 5), fact(request, Decisive, 2, 6)],
                Some(Place::Vm(VmId(1))),
            ),
            (
                vec![elsewhere_at(4), elsewhere_at(4)],
                Some(Place::Vm(VmId(4))),
            ),
            (vec![elsewhere_at(4), elsewhere_at(5)], Some(Place::Others)),
            (
                vec![impaired(3), fact(reply, Decisive, 1, 5)],
                Some(Place::Vm(VmId(3))),
            ),
        ];
        for (facts, place) in table {
            let mut evidence = Evidence::default();
            facts.iter().for_each(|fact| evidence.add(KEY, *fact));
            let found = evidence.take(KEY, at(4));
            assert_eq!(found.map(|fact| fact.what.place), place, "{facts:?}");
            assert_eq!(evidence.take(KEY, at(4)), None);
        }
    }

    #[test]
    fn what_is_done_on_purpose_to_a_copy_for_somebody_else_has_lost_nothing() {
        let copy = |vm| Fact {
            strength: Strength::Elsewhere,
            ..impaired(vm)
        };
        for (facts, place) in [
            (vec![copy(4)], Place::Vm(VmId(4))),
            (vec![elsewhere_at(4), copy(5)], Place::Others),
        ] {
            let found = judge(facts.iter()).unwrap().what;
            assert_eq!(
                (found.cause, found.place),
                (Cause::DeliveredElsewhere, place)
            );
        }
    }

    #[test]
    fn facts_take_bounded_memory_and_the_newest_stay() {
        let mut evidence = Evidence::default();
        let fact = fact(Way::Request, Strength::Decisive, 1, 5);
        for number in 0..3 * MAX_PINGS as u32 {
            let key = ping(number, 0);
            evidence.add(key, fact);
            evidence.add(KEY, fact);
        }
        let last = ping(3 * MAX_PINGS as u32 - 1, 0);
        assert_eq!(evidence.take(last, at(5)), Some(fact));
        assert_eq!(evidence.take(ping(1, 0), at(5)), None);
    }

    #[test]
    fn a_ping_that_was_flooded_to_very_many_pushes_out_no_other() {
        let mut evidence = Evidence::default();
        let other = ping(0, 1);
        let fact = fact(Way::Request, Strength::Decisive, 1, 5);
        evidence.add(other, fact);
        for vm in 0..2 * MAX_PINGS as u32 {
            evidence.add(KEY, elsewhere_at(vm));
        }
        assert_eq!(evidence.take(other, at(5)), Some(fact));
        let flooded = evidence.take(KEY, at(5)).unwrap();
        assert_eq!(flooded.what.place, Place::Others);
    }
}
