//! Fragments in every order, and those that lie.

use proptest::prelude::*;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(30);

const fn ms(n: u64) -> Instant {
    Instant::from_nanos(n * 1_000_000)
}

fn key(identification: u32) -> FragmentKey {
    let ip = |n| std::net::Ipv4Addr::new(10, 77, 0, n).into();
    FragmentKey {
        source: ip(3),
        destination: ip(2),
        protocol: 1,
        identification,
    }
}

/// Takes `payload[offset..end]` as a fragment, which is the last if it ends with the payload.
fn take(
    table: &mut Reassembly,
    now: Instant,
    identification: u32,
    payload: &[u8],
    range: std::ops::Range<usize>,
) -> Result<Option<Vec<u8>>, Ignored> {
    let fragment = Fragment {
        key: key(identification),
        offset: range.start,
        has_more: range.end < payload.len(),
        headers: &[0xee; 34],
        payload: &payload[range],
    };
    Ok(match table.take(now, &fragment)? {
        Taken::Held | Taken::Joined | Taken::HeldInsteadOfOldest => None,
        Taken::Whole(datagram) => {
            assert_eq!(datagram.headers(), [0xee; 34]);
            let payload = datagram.payload().to_vec();
            table.recycle(datagram);
            Some(payload)
        }
    })
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 256) as u8).collect()
}

#[test]
fn overlaps_and_contradictions_end_the_datagram_and_repetitions_do_not() {
    use Ignored::{FragmentLength, FragmentOverlap};
    // Fragments of 8-byte units, as (first, last + 1, whether more follow), and what the last of them leads to.
    type Case = (
        &'static str,
        &'static [(usize, usize, bool)],
        Result<bool, Ignored>,
    );
    let cases: [Case; 13] = [
        ("in order", &[(0, 2, true), (2, 4, false)], Ok(true)),
        ("in reverse", &[(2, 4, false), (0, 2, true)], Ok(true)),
        ("a gap", &[(0, 1, true), (2, 4, false)], Ok(false)),
        ("twice the same", &[(0, 2, true), (0, 2, true)], Ok(false)),
        ("a part of one", &[(0, 3, true), (1, 2, true)], Ok(false)),
        (
            "a part of two",
            &[(0, 2, true), (2, 4, true), (1, 3, true)],
            Ok(false),
        ),
        (
            "then the end",
            &[(0, 2, true), (0, 2, true), (2, 4, false)],
            Ok(true),
        ),
        (
            "overlap in front",
            &[(1, 3, true), (0, 2, true)],
            Err(FragmentOverlap),
        ),
        (
            "overlap behind",
            &[(0, 2, true), (1, 3, true)],
            Err(FragmentOverlap),
        ),
        (
            "around",
            &[(1, 2, true), (0, 3, true)],
            Err(FragmentOverlap),
        ),
        (
            "another end",
            &[(2, 4, false), (1, 3, false)],
            Err(FragmentLength),
        ),
        (
            "behind the end",
            &[(2, 4, false), (4, 5, true)],
            Err(FragmentLength),
        ),
        (
            "before what is there",
            &[(2, 4, true), (0, 2, false)],
            Err(FragmentLength),
        ),
    ];
    for (name, fragments, expected) in cases {
        let mut table = Reassembly::new(TIMEOUT);
        let payload = bytes(64);
        let mut last = Ok(false);
        for &(first, end, has_more) in fragments {
            let fragment = Fragment {
                key: key(1),
                offset: first * BLOCK,
                has_more,
                headers: &[],
                payload: &payload[first * BLOCK..end * BLOCK],
            };
            last = table
                .take(ms(0), &fragment)
                .map(|taken| matches!(taken, Taken::Whole(_)));
        }
        assert_eq!(last, expected, "{name}");
        if expected != Ok(false) {
            assert!(table.datagrams.is_empty(), "{name}: nothing is left of it");
        }
    }
}

#[test]
fn fragments_without_content_of_odd_length_or_beyond_the_largest_datagram_are_refused() {
    for (name, offset, length, has_more) in [
        ("empty", 0, 0, true),
        ("empty at the end", 8, 0, false),
        ("odd with more to follow", 0, 9, true),
        ("too far out", 65_528, 8, false),
    ] {
        let fragment = Fragment {
            key: key(1),
            offset,
            has_more,
            headers: &[],
            payload: &bytes(length),
        };
        let taken = Reassembly::new(TIMEOUT).take(ms(0), &fragment);
        assert!(
            matches!(taken, Err(Ignored::FragmentLength)),
            "{name}: {taken:?}"
        );
    }
}

#[test]
fn blocks_are_marked_as_one_by_one_wherever_a_word_ends() {
    let mut datagram = Datagram::new(key(1), ms(1));
    let mut naive = vec![false; WORDS * 64];
    for (start, end) in [
        (0, 1),
        (63, 64),
        (64, 65),
        (60, 70),
        (128, 192),
        (100, 300),
        (191, 193),
        (0, 8192),
        (8191, 8192),
        (5, 5),
    ] {
        let new = naive[start..end].iter().filter(|is_set| !**is_set).count();
        naive[start..end].fill(true);
        assert_eq!(datagram.mark(start..end), new, "{start}..{end}");
    }
    let mut datagram = Datagram::new(key(1), ms(1));
    for start in 0..200 {
        assert_eq!(datagram.mark(start * 3..start * 3 + 2), 2, "{start}");
    }
    assert_eq!(datagram.mark(0..600), 200);
}

#[test]
fn a_datagram_that_does_not_become_whole_is_given_up_in_time() {
    let mut table = Reassembly::new(TIMEOUT);
    let payload = bytes(100);
    take(&mut table, ms(0), 1, &payload, 8..16).unwrap();
    take(&mut table, ms(10_000), 2, &payload, 0..16).unwrap();
    take(&mut table, ms(29_000), 1, &payload, 0..8).unwrap();
    assert_eq!(
        table.deadline(),
        Some(ms(30_000)),
        "later fragments don't prolong it"
    );
    assert!(table.expire(ms(29_999)).is_none());
    assert_eq!(table.expire(ms(30_000)).unwrap().key, key(1));
    assert_eq!(table.deadline(), Some(ms(40_000)));
}

#[test]
fn memory_is_bounded_by_datagrams_and_by_bytes_and_the_oldest_goes() {
    let payload = bytes(60_000);
    let mut table = Reassembly::new(TIMEOUT);
    for i in 0..1_000 {
        take(&mut table, ms(0), i, &payload, 0..8).unwrap();
        assert!(table.datagrams.len() <= MAX_REASSEMBLIES);
    }
    assert_eq!(table.datagrams[0].key, key(1_000 - MAX_REASSEMBLIES as u32));
    let mut table = Reassembly::new(TIMEOUT);
    for i in 0..1_000 {
        take(&mut table, ms(0), i, &payload, 59_992..60_000).unwrap();
        assert!(table.held <= MAX_REASSEMBLY_BYTES, "{}", table.held);
    }
    assert_eq!(table.datagrams.back().unwrap().key, key(999));
    let datagrams = table.datagrams.len();
    assert_eq!((table.clear(), table.held()), (datagrams, 0));
}

proptest! {
    #[test]
    fn fragments_in_any_order_repeated_and_mixed_with_others_make_the_same_datagram(
        length in 1usize..65_500, pieces in 1usize..60, seed: u64,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let payload = bytes(length);
        let size = (length.div_ceil(pieces)).next_multiple_of(BLOCK);
        let mut ranges: Vec<_> = (0..length)
            .step_by(size)
            .map(|start| start..(start + size).min(length))
            .collect();
        random.shuffle(&mut ranges);
        let mut table = Reassembly::new(TIMEOUT);
        let mut whole = Vec::new();
        let last = ranges.len() - 1;
        for (i, range) in ranges.into_iter().enumerate() {
            whole.push(take(&mut table, ms(1), 7, &payload, range.clone()).unwrap());
            if i < last && random.bool() {
                whole.push(take(&mut table, ms(1), 7, &payload, range.clone()).unwrap());
            }
            let other = range.start.min(length.saturating_sub(BLOCK + 1)) / BLOCK * BLOCK;
            let _ = take(&mut table, ms(1), 8, &payload, other..(other + BLOCK).min(length));
        }
        let is_last = whole.pop().unwrap();
        prop_assert!(whole.iter().all(Option::is_none));
        prop_assert_eq!(is_last, Some(payload));
    }

    #[test]
    fn any_fragments_are_taken_without_a_panic_and_the_count_of_bytes_is_right(
        fragments in prop::collection::vec((0u32..4, 0usize..8_192, 0usize..3_000, any::<bool>()), 0..200)
    ) {
        let mut table = Reassembly::new(TIMEOUT);
        let payload = bytes(3_000);
        for (identification, block, length, has_more) in fragments {
            let fragment = Fragment {
                key: key(identification),
                offset: block * BLOCK,
                has_more,
                headers: &[1; 34],
                payload: &payload[..length],
            };
            if let Ok(Taken::Whole(datagram)) = table.take(ms(0), &fragment) {
                prop_assert_eq!(Some(datagram.payload().len()), datagram.length);
                prop_assert!(!datagram.headers().is_empty());
                table.recycle(datagram);
            }
            let held: usize = table.datagrams.iter().map(Datagram::held).sum();
            prop_assert_eq!(table.held, held);
        }
    }
}
