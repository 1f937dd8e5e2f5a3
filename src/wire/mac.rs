//! Ethernet hardware addresses (IEEE 802, "MAC-48").

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// `00:00:00:00:00:00`, the "unknown" of an ARP request (RFC 826).
    pub const ZERO: MacAddr = MacAddr([0; 6]);

    /// Tells if it is the address of a group: multicast, or broadcast, which is its all-ones case.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Tells if it can be the address of one interface: neither a group's nor all zeros.
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != Self::ZERO
    }
}

impl Hash for MacAddr {
    /// As one number: a station is looked up for each frame, and an array hashes byte by byte, length and all.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f] = self.0;
        state.write_u64(u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six two-digit hexadecimal numbers with colons between them.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("MAC address {0:?}: expected six hexadecimal bytes with colons, such as 02:00:0a:4d:00:02")]
pub struct ParseMacError(String);

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseMacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(error)?;
            if part.len() != 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(error());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() {
            return Err(error());
        }
        Ok(MacAddr(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_address_are_inverse() {
        let mac = MacAddr([2, 0, 0x0a, 0x4d, 0, 2]);
        assert_eq!(mac.to_string(), "02:00:0a:4d:00:02");
        assert_eq!("02:00:0a:4d:00:02".parse(), Ok(mac));
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for text in [
            "",
            "02",
            "02:00:0a:4d:00",
            "02:00:0a:4d:00:02:03",
            "2:0:a:4d:0:2",
            "02-00-0a-4d-00-02",
            "02:00:0a:4d:00:0g",
            "02:00:0a:4d:00:+2",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }
}
