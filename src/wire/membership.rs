//! The parts that IGMPv3 and MLDv2 messages have in common (RFC 3376 section 4, RFC 3810 section 5).

use std::time::Duration;

/// The meaning of a group's record in a report (RFC 3376 section 4.2.12, RFC 3810 section 5.2.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupRecord {
    /// The answer to a query: listens to all sources.
    ModeIsExclude = 2,
    /// Nobody asked: has left the group.
    ChangeToInclude = 3,
    /// Nobody asked: listens to all sources from now on.
    ChangeToExclude = 4,
}

/// Reads the code of a number that is floating-point from 128 on (RFC 3376 section 4.1.1, RFC 3810 section 5.1.9).
pub(super) fn of_code(code: u8) -> u32 {
    match code {
        0x80.. => u32::from(code & 0x0f | 0x10) << ((code >> 4 & 7) + 3),
        _ => code.into(),
    }
}

/// Reads a querier's query interval code: seconds.
pub(super) fn query_interval(code: u8) -> Duration {
    Duration::from_secs(of_code(code).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_floating_point_from_128_on() {
        for (code, expected) in [
            (0, 0),
            (1, 1),
            (127, 127),
            (128, 128),
            (129, 136),
            (0xff, 31_744),
        ] {
            assert_eq!(of_code(code), expected, "{code}");
        }
    }
}
