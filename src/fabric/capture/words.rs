//! The words of comments, formatted by hand: each frame of a run has some.

use std::fmt::{self, Write as _};

use super::queue::Kept;
use crate::load::Target;
use crate::time::{Instant, Span};
use crate::vm::{PingError, VmId};
use crate::wire::ParseError;

/// A ping, as comments call it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PingName {
    pub(super) source: VmId,
    pub(super) sequence: u64,
    pub(super) target: Target,
}

/// What came of a ping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It is not known yet.
    Open,
    /// It was answered after so many nanoseconds.
    Answered(u64),
    /// A member of its group answered after so many nanoseconds, and others are expected to.
    Member(u64),
    /// Some members of its group answered in time, and others that were expected to did not.
    MembersLost,
    /// It was answered after its timeout.
    Late,
    /// It was answered with another payload.
    Corrupt,
    /// It was given up; the part of it that did not arrive and the cause, if it is known.
    Lost(Option<(&'static str, &'static str)>),
    /// Its VM stopped before it was answered.
    Abandoned,
    /// It was reported undeliverable.
    Errored(PingError),
}

impl Fate {
    /// Returns true if more of the ping may be heard: it is not over.
    #[inline]
    pub(super) const fn is_open(self) -> bool {
        matches!(self, Fate::Open | Fate::Member(_))
    }
}

/// The part of a ping that a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// The request, where it is sent.
    Sent,
    /// The request, where it is sent again.
    Repeat,
    /// The request, where it arrives.
    Request,
    /// The reply, at either end.
    Reply,
}

/// Writes `fragment 2 of 3 of `; without the number of all, where that is not known.
pub(super) fn push_piece(out: &mut Vec<u8>, number: u16, of: Option<u16>) {
    out.extend_from_slice(b"fragment ");
    push_number(out, number.into());
    if let Some(of) = of {
        out.extend_from_slice(b" of ");
        push_number(out, of.into());
    }
    out.extend_from_slice(b" of ");
}

/// Writes `ping 3 of vm0 → vm9`, behind what a frame other than its request is.
pub(super) fn push_name(out: &mut Vec<u8>, part: Part, name: &PingName) {
    out.extend_from_slice(match part {
        Part::Reply => b"reply to ",
        Part::Repeat => b"repeat of ",
        Part::Sent | Part::Request => b"",
    });
    out.extend_from_slice(b"ping ");
    push_number(out, name.sequence);
    out.extend_from_slice(b" of vm");
    push_number(out, name.source.0.into());
    out.extend_from_slice(" → ".as_bytes());
    match name.target {
        Target::Vm(vm) => {
            out.extend_from_slice(b"vm");
            push_number(out, vm.0.into());
        }
        Target::Address(address) => push(out, format_args!("{address}")),
    }
}

/// Writes what came of a ping: `: answered 8.12 µs later`.
pub(super) fn push_fate(out: &mut Vec<u8>, part: Part, fate: Fate) {
    let words: &[u8] = match fate {
        Fate::Open => b": not known yet",
        Fate::Late if part == Part::Reply => b": answered after its timeout",
        Fate::Lost(Some((direction, words))) => {
            out.extend_from_slice(b": no answer in time, ");
            if direction != "unknown" {
                push(out, format_args!("{direction} "));
            }
            words.as_bytes()
        }
        Fate::Lost(None) | Fate::Late => b": no answer in time",
        Fate::MembersLost => b": not every member answered",
        Fate::Corrupt => b": answered with other data",
        Fate::Abandoned => b": ended: its VM stopped",
        Fate::Errored(error) => {
            out.extend_from_slice(b": reported undeliverable, ");
            out.extend_from_slice(error.name().as_bytes());
            return;
        }
        Fate::Answered(nanos) | Fate::Member(nanos) => {
            let (before, after): (&[u8], &[u8]) = match part {
                Part::Sent => (b": answered ", b" later"),
                Part::Repeat | Part::Request | Part::Reply => (b": answered in ", b""),
            };
            out.extend_from_slice(before);
            push_span(out, nanos);
            after
        }
    };
    out.extend_from_slice(words);
}

/// Writes what a frame of a ping is of which a checksum or a length is wrong: the numbers in it mean nothing.
pub(super) fn push_malformed(out: &mut Vec<u8>, error: &ParseError) {
    push(out, format_args!("malformed; ignored: {error}"));
}

/// Writes what became of a frame by `now` that the fabric did not take as it was: `; delayed 5.00 ms by --impair`.
#[inline]
pub(super) fn push_lot<T: Copy>(out: &mut Vec<u8>, kept: &Kept<T>, now: Instant) {
    if kept.refused.is_some() || !kept.impaired.is_unharmed() {
        push_harm(out, kept, now);
    }
}

#[cold]
fn push_harm<T: Copy>(out: &mut Vec<u8>, kept: &Kept<T>, now: Instant) {
    if let Some(reason) = kept.refused {
        push(out, format_args!("; not sent: {reason}"));
    }
    let impaired = kept.impaired;
    if impaired.is_unharmed() {
        return;
    }
    let tense = if kept.is_held(now) { "to be " } else { "" };
    push(out, format_args!("; {tense}{impaired} by --impair"));
}

/// Writes any text.
pub(super) fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    struct Bytes<'a>(&'a mut Vec<u8>);
    impl fmt::Write for Bytes<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    // Memory takes all that is written.
    let _ = Bytes(out).write_fmt(text);
}

/// Writes a whole number.
pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), number);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        at -= 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Writes a span of time as a [`Span`] displays it, and faster.
fn push_span(out: &mut Vec<u8>, nanos: u64) {
    let (whole, fraction, decimals, unit) = Span(nanos).parts();
    push_number(out, whole);
    if decimals > 0 {
        out.push(b'.');
        if decimals == 2 && fraction < 10 {
            out.push(b'0');
        }
        push_number(out, fraction);
    }
    out.push(b' ');
    out.extend_from_slice(unit.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for number in [0, 7, 10, 65_536, u64::MAX] {
            assert_eq!(text(|out| push_number(out, number)), number.to_string());
        }
    }

    #[test]
    fn spans_are_those_of_reports_and_traces() {
        let mut nanos = 1;
        while nanos < 4_000_000_000_000 {
            for near in [nanos - 1, nanos, nanos + 1, nanos * 9_996 / 10_000] {
                assert_eq!(text(|out| push_span(out, near)), Span(near).to_string());
            }
            nanos = nanos * 17 / 16 + 2;
        }
        // It is not a number of nanoseconds that a run has, but one that may be asked for.
        assert!(text(|out| push_span(out, u64::MAX)).ends_with(" s"));
    }

    #[test]
    fn a_ping_and_what_came_of_it_is_one_sentence() {
        let name = PingName {
            source: VmId(0),
            sequence: 3,
            target: Target::Vm(VmId(9)),
        };
        let outside = PingName {
            target: Target::Address([192, 0, 2, 1].into()),
            ..name
        };
        for (part, name, fate, words) in [
            (
                Part::Sent,
                name,
                Fate::Answered(8_123),
                "ping 3 of vm0 → vm9: answered 8.12 µs later",
            ),
            (
                Part::Request,
                name,
                Fate::Answered(8_123),
                "ping 3 of vm0 → vm9: answered in 8.12 µs",
            ),
            (
                Part::Reply,
                name,
                Fate::Late,
                "reply to ping 3 of vm0 → vm9: answered after its timeout",
            ),
            (
                // The time counts from when it was sent first.
                Part::Repeat,
                name,
                Fate::Answered(8_123),
                "repeat of ping 3 of vm0 → vm9: answered in 8.12 µs",
            ),
            (
                Part::Sent,
                outside,
                Fate::Lost(None),
                "ping 3 of vm0 → 192.0.2.1: no answer in time",
            ),
            (
                // When it was sent, and when it is known that a reply came too late, it is the same.
                Part::Sent,
                name,
                Fate::Late,
                "ping 3 of vm0 → vm9: no answer in time",
            ),
            (
                Part::Sent,
                name,
                Fate::Errored(PingError::HostUnreachable),
                "ping 3 of vm0 → vm9: reported undeliverable, host_unreachable",
            ),
            (
                Part::Sent,
                name,
                Fate::Open,
                "ping 3 of vm0 → vm9: not known yet",
            ),
        ] {
            let said = text(|out| {
                push_name(out, part, &name);
                push_fate(out, part, fate);
            });
            assert_eq!(said, words);
        }
    }
}
