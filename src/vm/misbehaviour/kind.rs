//! The kinds of misbehaviour, and their words.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The highest rate of frames, per second.
pub const HIGHEST_MISBEHAVIOUR_RATE: u32 = 100_000;

/// The longest time that a VM misbehaves.
pub const LONGEST_MISBEHAVIOUR: Duration = Duration::from_secs(3600);

/// The shortest period in which a link goes down: netlink takes a part of a millisecond for each change.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);
/// The shortest time that a link is down, and that it is up.
const SHORTEST_STATE: Duration = Duration::from_millis(1);

/// Frames that are sent unasked, so many a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flood {
    /// ARP requests for random addresses of the VM's network.
    Arp,
    /// Datagrams that are broadcast.
    Broadcast,
    /// Frames from random hardware addresses to random ones, which fill the table of a switch.
    Mac,
    /// DHCP discoveries of random clients, which take all leases.
    Dhcp,
    /// Router advertisements with a prefix of nobody.
    Router,
    /// Neighbour solicitations for random addresses.
    Neighbour,
}

impl Flood {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Flood::Arp => "arp-flood",
            Flood::Broadcast => "broadcast",
            Flood::Mac => "mac-flood",
            Flood::Dhcp => "dhcp-starve",
            Flood::Router => "ra-rogue",
            Flood::Neighbour => "nd-flood",
        }
    }
}

/// A misbehaviour of a VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misbehaviour {
    /// It neither takes frames nor sends any; its port stays.
    Silent,
    /// All that it sends comes so much later.
    Slow(Duration),
    /// Its link goes down for a part of each period.
    Flap {
        /// From one time that it goes down to the next.
        period: Duration,
        /// For how long it is down.
        down: Duration,
    },
    /// It announces that it has the address of another, and answers who asks for that.
    Steal(IpAddr),
    /// Its frames come from another hardware address than its own, and name that as its own.
    WrongMac,
    /// It sends frames that nobody asked for, so many a second.
    Flood(Flood, u32),
    /// Its port is looped: what comes is sent back, so many frames a second at most.
    Loop(u32),
}

impl Misbehaviour {
    /// The word for [`Misbehaviour::Flap`].
    pub const FLAP: &'static str = "flap";
    /// The word for [`Misbehaviour::Slow`].
    pub const SLOW: &'static str = "slow";

    /// One of each kind, in the order in which help and errors list them, with what it does where nothing else is said. There is
    /// no default for a time or an address: those are examples.
    pub const DEFAULTS: [Misbehaviour; 12] = [
        Misbehaviour::Silent,
        Misbehaviour::Slow(Duration::from_millis(50)),
        Misbehaviour::Flap {
            period: Duration::from_secs(1),
            down: Duration::from_millis(100),
        },
        Misbehaviour::Steal(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2))),
        Misbehaviour::WrongMac,
        Misbehaviour::Flood(Flood::Arp, 1_000),
        Misbehaviour::Flood(Flood::Broadcast, 1_000),
        Misbehaviour::Flood(Flood::Mac, 10_000),
        Misbehaviour::Flood(Flood::Dhcp, 100),
        // More often than any router may (RFC 4861 section 6.2.1).
        Misbehaviour::Flood(Flood::Router, 1),
        Misbehaviour::Flood(Flood::Neighbour, 1_000),
        Misbehaviour::Loop(1_000),
    ];

    /// The word for it, such as `arp-flood`.
    pub const fn name(self) -> &'static str {
        match self {
            Misbehaviour::Silent => "silent",
            Misbehaviour::Slow(_) => Misbehaviour::SLOW,
            Misbehaviour::Flap { .. } => Misbehaviour::FLAP,
            Misbehaviour::Steal(_) => "steal",
            Misbehaviour::WrongMac => "wrong-mac",
            Misbehaviour::Flood(flood, _) => flood.name(),
            Misbehaviour::Loop(_) => "loop",
        }
    }

    /// Checks its numbers and its address. The error says what is expected.
    ///
    /// # Errors
    /// If a number is out of its bounds, or the address is not that of one host.
    pub fn check(self) -> Result<(), &'static str> {
        let is_meant = match self {
            Misbehaviour::Silent | Misbehaviour::WrongMac => true,
            Misbehaviour::Slow(delay) => !delay.is_zero() && delay <= LONGEST_MISBEHAVIOUR,
            Misbehaviour::Flap { period, down } => {
                (SHORTEST_PERIOD..=LONGEST_MISBEHAVIOUR).contains(&period)
                    && down >= SHORTEST_STATE
                    && down.saturating_add(SHORTEST_STATE) <= period
            }
            Misbehaviour::Steal(address) => !is_of_several(address),
            Misbehaviour::Flood(_, rate) | Misbehaviour::Loop(rate) => {
                (1..=HIGHEST_MISBEHAVIOUR_RATE).contains(&rate)
            }
        };
        match is_meant {
            true => Ok(()),
            false => Err(self.expected()),
        }
    }

    /// What a value of this kind is expected to be.
    pub const fn expected(self) -> &'static str {
        match self {
            Misbehaviour::Silent | Misbehaviour::WrongMac => "expected the word alone",
            Misbehaviour::Slow(_) => "expected a time up to an hour, such as slow 50ms",
            Misbehaviour::Flap { .. } => {
                "expected a period of 10ms or more and for how long the link is down in it, such as flap 1s/100ms"
            }
            Misbehaviour::Steal(_) => "expected the address of one host, such as steal 10.77.0.2",
            Misbehaviour::Flood(..) | Misbehaviour::Loop(_) => {
                "expected a rate of frames from 1/s to 100000/s, such as 1000/s"
            }
        }
    }

    /// Frames per second that it sends at most, unasked or back; 0 if it sends none.
    pub const fn rate(self) -> u32 {
        match self {
            Misbehaviour::Flood(_, rate) | Misbehaviour::Loop(rate) => rate,
            _ => 0,
        }
    }
}

/// Returns true for an address that is not that of one host of a network.
fn is_of_several(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    is_broadcast || address.is_multicast() || address.is_unspecified() || address.is_loopback()
}

impl fmt::Display for Misbehaviour {
    /// Formats it as an option has it: `flap 1s/100ms`, `arp-flood 1000/s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        let time = |time: Duration| {
            humantime::format_duration(time)
                .to_string()
                .replace(' ', "")
        };
        match self {
            Misbehaviour::Silent | Misbehaviour::WrongMac => f.write_str(name),
            Misbehaviour::Slow(delay) => write!(f, "{name} {}", time(*delay)),
            Misbehaviour::Flap { period, down } => {
                write!(f, "{name} {}/{}", time(*period), time(*down))
            }
            Misbehaviour::Steal(address) => write!(f, "{name} {address}"),
            Misbehaviour::Flood(_, rate) | Misbehaviour::Loop(rate) => {
                write!(f, "{name} {rate}/s")
            }
        }
    }
}
