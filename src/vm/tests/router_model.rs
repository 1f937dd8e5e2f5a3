//! The default router list of a VM, beside a plain model of it, in random sequences of what routers say and do not say.
//!
//! Which neighbours were asked for in vain is the neighbour machine's, which has a model of its own ([`super::model`]): it
//! is an input here.

use std::net::{IpAddr, Ipv6Addr};

use proptest::prelude::*;

use super::ipv6::{advertisement_of, drain};
use super::routers::{answer, bench};
use super::*;
use crate::wire::link_local;

const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
/// More than a VM remembers.
const ROUTERS: u8 = 10;
const REMEMBERED: usize = 8;

#[derive(Clone, Copy, Debug)]
enum Happening {
    /// A router advertises itself, with the two bits of its preference, for so many seconds.
    Advertises {
        router: u8,
        preference: u8,
        lifetime: u16,
    },
    /// A router says that it is there, and if it is a router still.
    Answers { router: u8, is_router: bool },
    /// The VM pings, and time passes in which nobody answers.
    Pings { seconds: u64 },
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let lifetime = prop_oneof![Just(0), 1u16..60, Just(1800)];
    let router = 0..ROUTERS;
    let one = prop_oneof![
        4 => (router.clone(), 0u8..4, lifetime).prop_map(|(router, preference, lifetime)| {
            Happening::Advertises { router, preference, lifetime }
        }),
        1 => (router, any::<bool>())
            .prop_map(|(router, is_router)| Happening::Answers { router, is_router }),
        3 => (1u64..20).prop_map(|seconds| Happening::Pings { seconds }),
    ];
    prop::collection::vec(one, 1..40)
}

fn mac(router: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, router])
}

/// What the VM should know: routers in the order in which they were heard of, with rank and the second of their end.
#[derive(Default)]
struct Model(Vec<(u8, i8, u64)>);

impl Model {
    fn advertised(&mut self, now: u64, router: u8, preference: u8, lifetime: u16) {
        let rank = match preference {
            1 => 1,
            3 => -1,
            _ => 0,
        };
        let until = now + u64::from(lifetime);
        if lifetime == 0 {
            return self.gone(router);
        }
        self.0.retain(|(_, _, end)| *end > now);
        if let Some(known) = self.0.iter_mut().find(|known| known.0 == router) {
            *known = (router, rank, until);
        } else if self.0.len() < REMEMBERED {
            self.0.push((router, rank, until));
        }
    }

    fn gone(&mut self, router: u8) {
        self.0.retain(|known| known.0 != router);
    }

    /// The first of the highest rank among those that are not known to be silent; of silent ones, the one for which that is
    /// longest ago.
    fn choice(&self, now: u64, failed_at: impl Fn(u8) -> Option<Instant>) -> Option<u8> {
        let valid: Vec<_> = self.0.iter().filter(|(_, _, end)| *end > now).collect();
        let mut best: Option<(i8, u8)> = None;
        for (router, rank, _) in &valid {
            if failed_at(*router).is_none() && best.is_none_or(|(highest, _)| *rank > highest) {
                best = Some((*rank, *router));
            }
        }
        let mut longest: Option<(Instant, u8)> = None;
        for (router, ..) in &valid {
            if let Some(at) = failed_at(*router)
                && longest.is_none_or(|(earliest, _)| at < earliest)
            {
                longest = Some((at, *router));
            }
        }
        best.map(|(_, router)| router)
            .or(longest.map(|(_, router)| router))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_vm_chooses_the_router_that_a_plain_model_of_its_list_chooses(happenings in happenings()) {
        // A router of its own gives the VM an address, and leaves.
        let mut bench = bench(&[(mac(99), 0, 1), (mac(99), 0, 0)]);
        let mut model = Model::default();
        let mut now = 20;
        for happening in happenings {
            let at = ms(now * 1_000);
            match happening {
                Happening::Advertises { router, preference, lifetime } => {
                    let frame = advertisement_of(mac(router), preference << 3, lifetime, 36_000);
                    bench.receive(at, &frame);
                    model.advertised(now, router, preference, lifetime);
                }
                Happening::Answers { router, is_router } => {
                    let known = bench.vm.neighbours.get(link_local(mac(router)).into()).is_some()
                        || bench.vm.neighbours.is_asking(link_local(mac(router)).into());
                    bench.receive(at, &answer(mac(router), Some(mac(router)), is_router, true));
                    if !is_router && known {
                        model.gone(router);
                    }
                }
                Happening::Pings { seconds } => {
                    bench.ping(at);
                    now += seconds;
                    drain(&mut bench, ms(now * 1_000));
                }
            }
            let neighbours = &bench.vm.neighbours;
            let failed_at = |router| neighbours.failed_at(link_local(mac(router)).into());
            let expected = model.choice(now, failed_at).map(|router| link_local(mac(router)));
            let chosen = bench.vm.next_hop(ms(now * 1_000), FAR.into());
            prop_assert_eq!(chosen, expected.map(IpAddr::V6), "at {} s, {:?}", now, happening);
        }
    }
}
