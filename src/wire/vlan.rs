//! VLAN tags: one (IEEE 802.1Q), or a service tag around a customer tag (802.1ad, "QinQ").
//!
//! A VM takes the tags off before it reads a frame and puts them on after it has built one: what is behind them looks
//! as it would without. In a buffer this moves the two hardware addresses, and nothing else.

use std::fmt;
use std::str::FromStr;

use etherparse::{EtherType, SingleVlanHeader};

use super::ethernet::{ETHERNET_HEADER_LENGTH, EthernetFrame};

/// Bytes of one tag.
pub const VLAN_TAG_LENGTH: usize = SingleVlanHeader::LEN;

/// Where the hardware addresses end and the type, or a tag's, begins.
const ADDRESSES_LENGTH: usize = 12;

/// The number of a VLAN: 1 to 4094. 0 stands for "none, but a priority", 4095 is reserved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VlanId(u16);

impl VlanId {
    /// The VLAN with this number, if a VLAN may have it.
    pub const fn new(number: u16) -> Option<VlanId> {
        match number {
            1..=4094 => Some(VlanId(number)),
            _ => None,
        }
    }

    /// Its number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The VLAN that an interface is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Vlan {
    /// One tag (802.1Q).
    Single(VlanId),
    /// Two tags (802.1ad outside, 802.1Q inside).
    Double {
        /// The service provider's VLAN.
        outer: VlanId,
        /// The customer's VLAN within it.
        inner: VlanId,
    },
}

impl Vlan {
    /// Bytes that the tags take.
    pub const fn length(self) -> usize {
        match self {
            Vlan::Single(_) => VLAN_TAG_LENGTH,
            Vlan::Double { .. } => 2 * VLAN_TAG_LENGTH,
        }
    }

    /// The VLAN of the outermost tag, which is the one that a bridge looks at.
    pub const fn outermost(self) -> VlanId {
        match self {
            Vlan::Single(id) | Vlan::Double { outer: id, .. } => id,
        }
    }

    /// Type and number of each tag, the outermost first.
    fn tags(self) -> impl Iterator<Item = (EtherType, VlanId)> {
        let (first, second) = match self {
            Vlan::Single(id) => ((EtherType::VLAN_TAGGED_FRAME, id), None),
            Vlan::Double { outer, inner } => (
                (EtherType::PROVIDER_BRIDGING, outer),
                Some((EtherType::VLAN_TAGGED_FRAME, inner)),
            ),
        };
        std::iter::once(first).chain(second)
    }

    /// Puts the tags on the frame that starts [`Vlan::length`] bytes into `buffer`, whose hardware addresses move to the
    /// start of the buffer. `None` when the buffer holds no such frame.
    pub fn put_on(self, buffer: &mut [u8]) -> Option<()> {
        let length = self.length();
        buffer.get(..length + ETHERNET_HEADER_LENGTH)?;
        buffer.copy_within(length..length + ADDRESSES_LENGTH, 0);
        let space = buffer.get_mut(ADDRESSES_LENGTH..ADDRESSES_LENGTH + length)?;
        // A tag's own type comes first and the type of what follows it last, which is the next tag's, or is there
        // already.
        for (bytes, (kind, id)) in space.chunks_exact_mut(VLAN_TAG_LENGTH).zip(self.tags()) {
            let (head, tail) = bytes.split_at_mut_checked(2)?;
            head.copy_from_slice(&kind.0.to_be_bytes());
            tail.copy_from_slice(&id.get().to_be_bytes());
        }
        Some(())
    }
}

/// The part of `buffer` to build a frame in that is to get the tags of `vlan`: all of it behind the room for them.
#[inline]
pub fn behind_tags(vlan: Option<Vlan>, buffer: &mut [u8]) -> &mut [u8] {
    let tags = vlan.map_or(0, Vlan::length);
    buffer.get_mut(tags..).unwrap_or_default()
}

/// Puts the tags of `vlan` on the frame of `length` bytes that was built [behind](behind_tags) the room for them. Returns its
/// length then.
#[inline]
pub fn put_on(vlan: Option<Vlan>, buffer: &mut [u8], length: usize) -> usize {
    let Some(vlan) = vlan else {
        return length;
    };
    // There is room: the frame lies behind it.
    let _ = vlan.put_on(buffer);
    length + vlan.length()
}

/// Puts the tag of this type and content before the payload of the frame that starts [`VLAN_TAG_LENGTH`] bytes into `buffer`, whose
/// hardware addresses move to the start of the buffer. `None` when the buffer holds no such frame.
pub fn restore_tag(buffer: &mut [u8], kind: u16, content: u16) -> Option<()> {
    buffer.get(..VLAN_TAG_LENGTH + ETHERNET_HEADER_LENGTH)?;
    buffer.copy_within(VLAN_TAG_LENGTH..VLAN_TAG_LENGTH + ADDRESSES_LENGTH, 0);
    let tag = buffer.get_mut(ADDRESSES_LENGTH..ADDRESSES_LENGTH + VLAN_TAG_LENGTH)?;
    let (head, tail) = tag.split_at_mut_checked(2)?;
    head.copy_from_slice(&kind.to_be_bytes());
    tail.copy_from_slice(&content.to_be_bytes());
    Some(())
}

/// Takes the tags of `vlan` off the frame: its hardware addresses move up to its type. Returns where it starts then.
///
/// Priority and drop eligibility in the tags don't matter. A frame with number 0 in its tag is untagged, as the kernel
/// takes it. `None`, and the frame is as it was, if it is in another VLAN than `vlan`, in one at all where `vlan` is
/// `None`, or in none where it is not.
#[inline]
pub fn take_off(vlan: Option<Vlan>, frame: &mut [u8]) -> Option<usize> {
    let length = tags_length(vlan, frame)?;
    if length > 0 {
        frame.copy_within(..ADDRESSES_LENGTH, length);
    }
    Some(length)
}

/// Reads `frame` as [`take_off`] would leave it.
pub fn untagged(vlan: Option<Vlan>, frame: &[u8]) -> Option<EthernetFrame<'_>> {
    let length = tags_length(vlan, frame)?;
    EthernetFrame::parse(frame)
        .ok()?
        .behind_tags(frame, length)
        .ok()
}

/// Bytes of the tags that [`take_off`] takes off. `None` if the frame is in another VLAN.
#[inline]
pub fn tags_length(vlan: Option<Vlan>, frame: &[u8]) -> Option<usize> {
    match (vlan, first_tag(frame)) {
        (None, None) => Some(0),
        (None, Some((_, 0))) => Some(VLAN_TAG_LENGTH),
        (None, Some(_)) | (Some(_), None) => None,
        (Some(vlan), Some(_)) => {
            let mut rest = frame;
            for (kind, id) in vlan.tags() {
                if first_tag(rest) != Some((kind, id.get())) {
                    return None;
                }
                rest = rest.get(VLAN_TAG_LENGTH..)?;
            }
            // What is left may be tagged once more, and is then in another VLAN still.
            if first_tag(rest).is_some() {
                return None;
            }
            Some(vlan.length())
        }
    }
}

/// Type and number of the tag behind the first twelve bytes, if there is one.
#[inline]
fn first_tag(frame: &[u8]) -> Option<(EtherType, u16)> {
    let &[k0, k1, n0, n1, ..] = frame.get(ADDRESSES_LENGTH..)? else {
        return None;
    };
    let kind = EtherType(u16::from_be_bytes([k0, k1]));
    matches!(
        kind,
        EtherType::VLAN_TAGGED_FRAME | EtherType::PROVIDER_BRIDGING
    )
    .then(|| (kind, u16::from_be_bytes([n0, n1]) & 0x0fff))
}

/// The numbers in the tags of `frame`, outermost first, and where the frame would start without them.
pub(super) fn tags_of(frame: &[u8]) -> impl Iterator<Item = u16> {
    /// More than two tags are in no standard; a few are told of.
    const MAX_TAGS: usize = 4;
    (0..MAX_TAGS).map_while(|i| {
        let (_, number) = first_tag(frame.get(i * VLAN_TAG_LENGTH..)?)?;
        Some(number)
    })
}

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Vlan::Single(id) => id.fmt(f),
            Vlan::Double { outer, inner } => write!(f, "{outer}.{inner}"),
        }
    }
}

/// The text is neither a VLAN's number nor two of them.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("VLAN {0:?}: expected a number from 1 to 4094, or two with a dot between them (QinQ)")]
pub struct ParseVlanError(String);

impl FromStr for Vlan {
    type Err = ParseVlanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = |text: &str| {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            is_number
                .then(|| text.parse().ok())
                .flatten()
                .and_then(VlanId::new)
        };
        let vlan = match text.split_once('.') {
            None => id(text).map(Vlan::Single),
            Some((outer, inner)) => id(outer)
                .zip(id(inner))
                .map(|(outer, inner)| Vlan::Double { outer, inner }),
        };
        vlan.ok_or_else(|| ParseVlanError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vlan(text: &str) -> Option<Vlan> {
        (text != "none").then(|| text.parse().unwrap())
    }

    /// A frame with these tags, each a type and a number.
    fn frame(tags: &[(u16, u16)]) -> Vec<u8> {
        let mut frame: Vec<u8> = (1..=12).collect();
        for (kind, number) in tags {
            frame.extend(kind.to_be_bytes());
            frame.extend(number.to_be_bytes());
        }
        frame.extend([0x08, 0x00, 0x45]);
        frame
    }

    #[test]
    fn a_frame_is_read_in_its_own_vlan_only() {
        const Q: u16 = 0x8100;
        const AD: u16 = 0x88a8;
        type Case = (&'static str, &'static [(u16, u16)], Option<usize>);
        let cases: [Case; 14] = [
            ("none", &[], Some(0)),
            ("none", &[(Q, 0xe000)], Some(4)),
            ("none", &[(Q, 100)], None),
            ("none", &[(AD, 100)], None),
            ("100", &[], None),
            ("100", &[(Q, 100)], Some(4)),
            ("100", &[(Q, 0xf000 | 100)], Some(4)),
            ("100", &[(Q, 101)], None),
            ("100", &[(Q, 0)], None),
            ("100", &[(AD, 100)], None),
            ("100", &[(Q, 100), (Q, 200)], None),
            ("100.200", &[(AD, 100), (Q, 200)], Some(8)),
            ("100.200", &[(AD, 100), (Q, 201)], None),
            ("100.200", &[(AD, 100)], None),
        ];
        for (text, tags, expected) in cases {
            let mut bytes = frame(tags);
            let start = take_off(vlan(text), &mut bytes);
            assert_eq!(start, expected, "{text} and {tags:x?}");
            match start {
                Some(start) => assert_eq!(bytes[start..], frame(&[]), "{text} and {tags:x?}"),
                None => assert_eq!(bytes, frame(tags), "{text} and {tags:x?}"),
            }
        }
    }

    #[test]
    fn tags_put_on_come_off_again() {
        for text in ["1", "4094", "100.200"] {
            let vlan = vlan(text).unwrap();
            let mut buffer = vec![0xaa; vlan.length()];
            buffer.extend(frame(&[]));
            vlan.put_on(&mut buffer).unwrap();
            let start = take_off(Some(vlan), &mut buffer);
            assert_eq!(start, Some(vlan.length()), "{text}");
            assert_eq!(buffer[vlan.length()..], frame(&[]), "{text}");
        }
        assert_eq!(vlan("7").unwrap().put_on(&mut [0; 17]), None);
    }

    #[test]
    fn only_numbers_that_a_vlan_may_have_are_read() {
        for text in ["1", "4094", "100.200"] {
            assert_eq!(vlan(text).unwrap().to_string(), text);
        }
        for text in ["", "0", "4095", "65537", "+1", "1.", "1.2.3", ".1", "a"] {
            assert!(text.parse::<Vlan>().is_err(), "{text}");
        }
    }
}
