//! Path MTU discovery (RFC 1191, RFC 8201): the largest datagrams that the ways to other hosts carry, where routers have said
//! that they are smaller than the link's, as Linux keeps them (`__ip_rt_update_pmtu` in `net/ipv4/route.c`,
//! `__ip6_rt_update_pmtu` in `net/ipv6/route.c`).

use std::hash::Hash;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::time::Instant;

/// Hosts whose path a VM remembers in each family; with one more, the one that was told of first is forgotten.
pub const MAX_PATH_MTUS: usize = 1024;
/// How long a path's MTU holds, before a larger one is tried (`mtu_expires`, RFC 8201 section 5.3).
pub const PATH_MTU_LIFETIME: Duration = Duration::from_secs(600);
/// The least path MTU over IPv4; routers that tell a smaller one, or none (RFC 1191 section 5), mean this (`min_pmtu`).
pub const IPV4_MINIMUM_PATH_MTU: u16 = 552;

#[derive(Clone, Copy, Debug)]
struct PathMtu {
    mtu: u16,
    until: Instant,
}

#[derive(Debug)]
struct Known<A> {
    paths: FxHashMap<A, PathMtu>,
    /// The least of them: a datagram that is not larger fits into every path.
    least: u16,
}

/// The path MTUs of one family. Nothing is on the heap before the first: most VMs have none.
#[derive(Debug)]
pub(super) struct PathMtus<A>(Option<Box<Known<A>>>);

impl<A: Copy + Eq + Hash> PathMtus<A> {
    /// None.
    pub(super) const fn new() -> PathMtus<A> {
        PathMtus(None)
    }

    /// The largest datagram that every known path carries.
    pub(super) fn least(&self) -> u16 {
        self.0.as_ref().map_or(u16::MAX, |known| known.least)
    }

    /// The largest datagram that the path to `destination` carries, by a link that carries `link` bytes.
    pub(super) fn get(&self, now: Instant, destination: A, link: u16) -> u16 {
        let path = self
            .0
            .as_ref()
            .and_then(|known| known.paths.get(&destination));
        let valid = path.filter(|path| path.until > now);
        valid.map_or(link, |path| path.mtu.min(link))
    }

    /// Takes a router's word that the path to `destination`, by a link that carries `link` bytes, carries `mtu` bytes. It
    /// is not believed that the path carries more than was known.
    pub(super) fn lower(&mut self, now: Instant, destination: A, mtu: u16, link: u16) {
        if mtu >= self.get(now, destination, link) {
            return;
        }
        let Known { paths, least } = &mut **self.0.get_or_insert_with(|| {
            Box::new(Known {
                paths: FxHashMap::default(),
                least: u16::MAX,
            })
        });
        paths.retain(|_, path| path.until > now);
        if paths.len() >= MAX_PATH_MTUS {
            let oldest = paths.iter().min_by_key(|(_, path)| path.until);
            if let Some(oldest) = oldest.map(|(destination, _)| *destination) {
                paths.remove(&oldest);
            }
        }
        let until = now + PATH_MTU_LIFETIME;
        paths.insert(destination, PathMtu { mtu, until });
        *least = paths
            .values()
            .map(|path| path.mtu)
            .min()
            .unwrap_or(u16::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Instant {
        Instant::from_nanos(n * 1_000_000_000)
    }

    #[test]
    fn a_path_mtu_is_lowered_and_never_raised_until_it_is_forgotten() {
        // The MTU told at that second, and the one that holds then.
        for told in [
            &[(0, 1400, 1400), (1, 1300, 1300), (2, 1450, 1300)][..],
            &[(0, 1500, 1500), (0, 65_535, 1500), (0, 1499, 1499)],
            &[(0, 1300, 1300), (599, 1400, 1300), (600, 1400, 1400)],
            &[(0, 1300, 1300), (500, 1290, 1290), (1099, 1400, 1290)],
        ] {
            let mut paths = PathMtus::new();
            for &(at, mtu, expected) in told {
                paths.lower(seconds(at), 'a', mtu, 1500);
                assert_eq!(paths.get(seconds(at), 'a', 1500), expected, "{told:?}");
                assert_eq!(paths.get(seconds(at), 'b', 1500), 1500, "{told:?}");
                assert!(paths.least().min(1500) <= expected);
            }
        }
    }

    #[test]
    fn no_path_carries_more_than_the_link() {
        let mut paths = PathMtus::new();
        paths.lower(seconds(0), 'a', 1400, 1500);
        assert_eq!(paths.get(seconds(0), 'a', 1300), 1300);
    }

    #[test]
    fn path_mtus_are_bounded_and_the_first_is_forgotten() {
        let mut paths = PathMtus::new();
        let many = MAX_PATH_MTUS as u64 + 10;
        for host in 0..many {
            paths.lower(Instant::from_nanos(host), host, 1300, 1500);
        }
        let now = Instant::from_nanos(many);
        let known = (0..many).filter(|host| paths.get(now, *host, 1500) == 1300);
        assert_eq!(known.collect::<Vec<_>>(), (10..many).collect::<Vec<_>>());
        paths.lower(seconds(601), 0, 1400, 1500);
        let known = paths.0.unwrap();
        assert_eq!((known.paths.len(), known.least), (1, 1400));
    }
}
