//! The Internet checksum (RFC 1071).

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::checksum::u64_16bit_word;

/// The checksum of `bytes`, in host order. Over bytes that hold their own checksum it is 0 when they are sound.
#[inline(always)]
pub(super) fn of(bytes: &[u8]) -> u16 {
    u16::from_be(complement(add_any(0, bytes)))
}

/// The sum of bytes that begin at an even offset of what a checksum covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summed(u64);

impl Summed {
    /// A sum of 16-bit words, each as its two bytes lie in memory, or of as many 64-bit words.
    pub const fn new(sum: u64) -> Summed {
        Summed(sum)
    }

    /// The sum.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What a function that writes a payload tells of it: nothing, or its sum, which then need not be found out.
pub trait Filled {
    /// The sum of the `payload` that was written.
    fn sum(self, payload: &[u8]) -> Summed;
}

impl Filled for () {
    fn sum(self, payload: &[u8]) -> Summed {
        Summed(add_any(0, payload))
    }
}

impl Filled for Summed {
    #[inline(always)]
    fn sum(self, _: &[u8]) -> Summed {
        self
    }
}

/// The checksum of a header and the payload behind it.
#[inline(always)]
pub(super) fn of_message(header: &[u8; 8], payload: Summed) -> u16 {
    u16::from_be(complement(add(payload.0, header)))
}

/// The checksum of words in host order that are still to be written. (Bytes that were written one by one a moment ago have
/// to be waited for before they can be added up eight at a time.)
#[inline(always)]
pub(super) fn of_words<const N: usize>(words: [u32; N]) -> u16 {
    complement(words.into_iter().map(u64::from).sum())
}

/// The ones' complement of a sum, its 16-bit words added up, the carry going round.
///
/// Written out because [`u64_16bit_word::ones_complement`] takes twice the instructions: a sum and itself with its halves
/// exchanged add up to the sum of the halves, in the upper half, with the carry from the lower one.
#[inline(always)]
const fn complement(sum: u64) -> u16 {
    complement_of_half((sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32)
}

/// The same of a sum of 32 bits.
#[inline(always)]
const fn complement_of_half(sum: u32) -> u16 {
    !((sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16)
}

/// Adds the 16-bit words of `bytes` to `sum`, eight bytes at once, the carry going round (RFC 1071 section 2).
///
/// Written out because [`u64_16bit_word::add_slice`] takes three times as long. Inlined, because nearly all of it is over
/// headers whose length the compiler knows.
#[inline(always)]
fn add(sum: u64, bytes: &[u8]) -> u64 {
    let add = |sum: u64, word: u64| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u64::from(carry)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words
        .iter()
        .fold(sum, |sum, word| add(sum, u64::from_ne_bytes(*word)));
    let (half, rest) = rest.as_chunks::<4>();
    let sum = half
        .iter()
        .fold(sum, |sum, word| add(sum, u32::from_ne_bytes(*word).into()));
    let (quarter, rest) = rest.as_chunks::<2>();
    let sum = quarter
        .iter()
        .fold(sum, |sum, word| add(sum, u16::from_ne_bytes(*word).into()));
    let last = rest
        .first()
        .map_or(0, |last| u16::from_ne_bytes([*last, 0]));
    add(sum, last.into())
}

/// Bytes from which on [`add_long`] takes less time than [`add`].
const LONG: usize = 256;

/// Does what [`add`] does with bytes that may be many.
#[inline(always)]
fn add_any(sum: u64, bytes: &[u8]) -> u64 {
    if bytes.len() < LONG {
        return add(sum, bytes);
    }
    add_long(sum, bytes)
}

/// Does what [`add`] does in a third of the time. The carries of words of 32 bits collect in the upper halves of their lanes,
/// so that no addition waits for the one before, and the compiler makes vectors of the lanes.
#[inline(never)]
fn add_long(sum: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let (blocks, few) = words.as_chunks::<16>();
    let mut lanes = [0_u64; 16];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let lanes: u64 = lanes.into_iter().sum();
    let sum = add(sum, &lanes.to_ne_bytes());
    add(add(sum, few.as_flattened()), rest)
}

/// The checksum of `bytes` and of the pseudo-header that protocols over IPv6 sum up with them (RFC 8200 section 8.1).
pub(super) fn with_pseudo_header(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: u8,
    bytes: &[u8],
) -> u16 {
    let sum = Summed(add_any(0, bytes));
    of_message_with_pseudo_header(source, destination, protocol, (&[], bytes.len()), sum)
}

/// The checksum of a pseudo-header as [`with_pseudo_header`] sums it up, a header and the `length` bytes of payload behind it.
pub(super) fn of_message_with_pseudo_header(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: u8,
    (header, length): (&[u8], usize),
    payload: Summed,
) -> u16 {
    let sum = add(payload.0, header);
    let sum = add(sum, &source.octets());
    let sum = add(sum, &destination.octets());
    let length = (header.len() + length) as u32;
    let sum = u64_16bit_word::add_4bytes(sum, length.to_be_bytes());
    let sum = u64_16bit_word::add_2bytes(sum, [0, protocol]);
    u16::from_be(complement(sum))
}

/// The checksum of `bytes` and of the pseudo-header that UDP over IPv4 sums up with them (RFC 768).
pub(super) fn with_ipv4_pseudo_header(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    bytes: &[u8],
) -> u16 {
    let sum = u64_16bit_word::add_4bytes(0, source.octets());
    let sum = u64_16bit_word::add_4bytes(sum, destination.octets());
    let sum = u64_16bit_word::add_2bytes(sum, [0, protocol]);
    let sum = u64_16bit_word::add_2bytes(sum, (bytes.len() as u16).to_be_bytes());
    let sum = add_any(sum, bytes);
    u16::from_be(complement(sum))
}

/// The checksum of `bytes` and of the pseudo-header that a datagram between `addresses`, source and destination as they lie in its
/// header, has over either version of IP.
#[inline(always)]
pub(super) fn of_parts(addresses: &[u8], protocol: u8, bytes: &[u8]) -> u16 {
    let sum = u64_16bit_word::add_2bytes(0, [0, protocol]);
    let sum = u64_16bit_word::add_2bytes(sum, (bytes.len() as u16).to_be_bytes());
    let sum = add(sum, addresses);
    u16::from_be(complement(add_any(sum, bytes)))
}

/// The checksum after one 16-bit word that it covers has changed from `old` to `new` (RFC 1624, equation 3).
#[inline]
pub(super) fn update(checksum: u16, old: u16, new: u16) -> u16 {
    complement_of_half(u32::from(!checksum) + u32::from(!old) + u32::from(new))
}

/// The checksum field of UDP over IPv4 after an address has changed from `old` to `new`; 0 stands for none.
pub(super) fn after_change(field: [u8; 2], old: [u8; 4], new: [u8; 4]) -> [u8; 2] {
    if field == [0; 2] {
        return field;
    }
    let words = |bytes: [u8; 4]| {
        let [a, b, c, d] = bytes;
        [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
    };
    let ([old_high, old_low], [new_high, new_low]) = (words(old), words(new));
    let sum = update(u16::from_be_bytes(field), old_high, new_high);
    match update(sum, old_low, new_low) {
        0 => [0xff; 2],
        sum => sum.to_be_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_up() {
        // RFC 1071, section 3: the sum of these bytes is ddf2.
        assert_eq!(
            of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
    }

    #[test]
    fn sums_of_any_length_at_any_offset_are_those_of_etherparse() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut bytes: Vec<u8> = (0..70_000).map(|_| random.u8(..)).collect();
        // Runs of ones and of zeros, so that carries go a long way.
        bytes[20_000..30_000].fill(0xff);
        bytes[30_000..40_000].fill(0);
        let short = (0..700).flat_map(|length| [(length, length % 9), (length, 20_000)]);
        let random = (0..2_000).map(|_| {
            let offset = random.usize(..bytes.len());
            (random.usize(..bytes.len() - offset), offset)
        });
        for (length, offset) in short.chain(random) {
            let part = &bytes[offset..offset + length];
            let theirs = u64_16bit_word::add_slice(0, part);
            let theirs = u16::from_be(u64_16bit_word::ones_complement(theirs));
            assert_eq!(of(part), theirs, "{length} bytes from {offset} on");
        }
    }

    #[test]
    fn a_sum_goes_on_from_any_other() {
        for before in [0, 1, 0xffff, u64::MAX - 1, u64::MAX] {
            for length in [0, 7, 64, 255, 256, 300, 9_000] {
                let bytes = vec![0xfe; length];
                let (ours, theirs) = (add_any(before, &bytes), add(before, &bytes));
                let fold = u64_16bit_word::ones_complement;
                assert_eq!(fold(ours), fold(theirs), "{before:#x} and {length} bytes");
            }
        }
    }

    #[test]
    fn words_sum_up_as_their_bytes_do() {
        for words in [[0; 5], [0x4500_0054, 0xffff_ffff, 0x4001_0000, 1, u32::MAX]] {
            let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
            assert_eq!(of_words(words), of(&bytes), "{words:x?}");
        }
    }

    #[test]
    fn any_sum_is_folded_as_etherparse_folds_it() {
        let mut random = fastrand::Rng::with_seed(1);
        let edges = [
            0,
            1,
            0xffff,
            0x1_0000,
            0xffff_ffff,
            1 << 32,
            u64::MAX - 1,
            u64::MAX,
        ];
        let random = (0..100_000).map(|_| random.u64(..) >> random.u32(..64));
        for sum in edges.into_iter().chain(random) {
            let theirs = u64_16bit_word::ones_complement(sum);
            assert_eq!(complement(sum), theirs, "{sum:#x}");
        }
    }

    #[test]
    fn an_update_agrees_with_a_sum_from_scratch() {
        for (old, new) in [
            (0x0800u16, 0u16),
            (0, 0xffff),
            (0xffff, 0),
            (0x1234, 0x4321),
        ] {
            let before = [0x45, 0x00, (old >> 8) as u8, old as u8, 0xab, 0xcd];
            let after = [0x45, 0x00, (new >> 8) as u8, new as u8, 0xab, 0xcd];
            assert_eq!(
                update(of(&before), old, new),
                of(&after),
                "{old:#x} to {new:#x}"
            );
        }
    }

    #[test]
    fn an_update_is_right_for_every_checksum_there_is() {
        // Among these are the few in which the carry of the first fold has a carry itself.
        for (old, new) in [(0x8000_u16, 0x8100_u16), (0x0800, 0x0000), (0xffff, 0x0001)] {
            for rest in 0..=u16::MAX {
                let [a, b] = rest.to_be_bytes();
                let bytes = |word: u16| [0x45, 0x00, (word >> 8) as u8, word as u8, a, b];
                assert_eq!(
                    update(of(&bytes(old)), old, new),
                    of(&bytes(new)),
                    "{old:#x} to {new:#x} beside {rest:#x}"
                );
            }
        }
    }
}
