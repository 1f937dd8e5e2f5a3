//! The headers of a frame without anything out of the ordinary, read at their places: an untagged frame of IPv4 without options.

use std::net::Ipv4Addr;

use etherparse::EtherType;

use super::ipv4::VERSION_4_FIVE_WORDS;
use super::mac::MacAddr;

/// The first `N` bytes of a frame, with its Ethernet and IPv4 headers among them.
#[derive(Clone, Copy)]
pub(super) struct PlainHead<'a, const N: usize>(pub(super) &'a [u8; N]);

impl<const N: usize> PlainHead<'_, N> {
    /// The two bytes at this place.
    #[inline(always)]
    pub(super) const fn word(self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    #[inline(always)]
    const fn address(self, at: usize) -> Ipv4Addr {
        let head = self.0;
        Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3])
    }

    #[inline(always)]
    const fn mac(self, at: usize) -> MacAddr {
        let head = self.0;
        MacAddr([
            head[at],
            head[at + 1],
            head[at + 2],
            head[at + 3],
            head[at + 4],
            head[at + 5],
        ])
    }

    /// Returns true if the frame carries IPv4 without options.
    #[inline(always)]
    pub(super) const fn is_ipv4(self) -> bool {
        self.word(12) == EtherType::IPV4.0 && self.0[14] == VERSION_4_FIVE_WORDS
    }

    /// The addresses that the frame goes to and comes from.
    #[inline(always)]
    pub(super) const fn macs(self) -> (MacAddr, MacAddr) {
        (self.mac(0), self.mac(6))
    }

    /// The addresses that the datagram comes from and goes to.
    #[inline(always)]
    pub(super) const fn addresses(self) -> (Ipv4Addr, Ipv4Addr) {
        (self.address(26), self.address(30))
    }
}
