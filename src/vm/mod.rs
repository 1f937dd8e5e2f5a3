//! The state machine of one VM. Pure: no file descriptor, no clock, no log.
//!
//! A VM answers ARP requests for its address (RFC 826), learns from ARP replies, answers ICMP echo requests, and
//! completes its own pings from echo replies (RFC 792). Time is an argument; a frame or a deadline goes in, and at most
//! one frame and one event come out ([`Reaction`]). The caller owns the buffer: a reply is built in place.
//!
//! Read RFC 1122 section 2.3.2 and 3.2.2.6 first.

mod announcement;
mod answers;
mod config;
mod event;
mod fragment;
mod ip;
mod ipv4;
mod ipv6;
mod limiter;
mod membership;
mod misbehaviour;
mod name;
mod neighbour;
mod nic;
mod path_mtu;
mod probe;
mod redirects;
mod service;
mod stream;
mod tcp;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

pub use announcement::{Announcement, NoAnnouncement};
pub use answers::MAX_WAITING_ANSWERS;
pub use config::{Addressing, Ipv4Config, Ipv4Interface, Ipv6Config, Ipv6Interface, VmConfig};
pub use event::{Event, Ignored, PingError, PingId, PingOutcome, Reaction, SessionId, Transmit};
pub use fragment::{MAX_OUTGOING, MAX_REASSEMBLIES, MAX_REASSEMBLY_BYTES};
pub use ip::DEFAULT_TIME_TO_LIVE;
pub use ipv4::{
    ANNOUNCE_INTERVAL, ANNOUNCE_WAIT, ANNOUNCEMENTS, DEFEND_INTERVAL, PROBE_MAX, PROBE_MIN,
    PROBE_WAIT, PROBES, REASSEMBLY_TIMEOUT,
};
pub use ipv6::{
    DUPLICATE_PROBES, IPV6_REASSEMBLY_TIMEOUT, MAX_IPV6_ADDRESSES, MAX_PREFIXES, MAX_ROUTERS,
    ROUTER_SOLICITATION_INTERVAL, ROUTER_SOLICITATIONS, START_WAIT, is_link_scope,
};
pub use membership::{
    OLDER_UNSOLICITED_REPORT_INTERVAL, QUERY_INTERVAL, QUERY_RESPONSE_INTERVAL,
    ROBUSTNESS_VARIABLE, UNSOLICITED_REPORT_INTERVAL,
};
pub use misbehaviour::{
    Act, Flood, HIGHEST_MISBEHAVIOUR_RATE, LONGEST_MISBEHAVIOUR, Misbehaving, Misbehaviour,
    Misdeed, Misdeeds, Receiving, Sending, Station,
};
pub use name::NoVmName;
pub(crate) use name::named;
pub use neighbour::{
    BASE_REACHABLE_TIME, DELAY_FIRST_PROBE_TIME, LOCK_TIME, MAX_NEIGHBOURS, MAX_REQUESTS,
    MAX_WAITING, RETRY_INTERVAL, VainSearch,
};
pub use nic::RxFilter;
pub(crate) use nic::is_for_dhcp_servers;
pub use path_mtu::{IPV4_MINIMUM_PATH_MTU, MAX_PATH_MTUS, PATH_MTU_LIFETIME};
pub use probe::{
    ArpRequest, ConnectionCounts, GiveUp, INITIAL_RTO, MAX_MEMBERS, MAX_OUTSTANDING, MemberId,
    Neighbour, PingOptions, PingStart, Probe, ProbeKind, SessionConfig, SessionCounts, TcpClose,
    TooManySessions, Unsent,
};
pub use redirects::{MAX_REDIRECTS, REDIRECT_LIFETIME};
pub use service::{MAX_STAMP_SESSIONS, StampMode};
pub use stream::{StreamBuilt, StreamConfig, StreamRead};

use self::answers::Answers;
use self::fragment::{Fragmenter, Reassembly};
use self::ip::{Disposition, Protocol};
use self::ipv4::{Ipv4, Shortcuts};
use self::ipv6::Ipv6;
use self::neighbour::NeighbourTable;
use self::probe::{Probes, Session};
use crate::time::{Instant, Now};
use crate::wire::{
    EthernetFrame, MacAddr, ParseError, Payload, PingHead, Vlan, behind_tags, put_on, take_off,
};

/// The protocols that a VM speaks, in the order in which they take datagrams and do what is due.
const PROTOCOLS: &[Protocol] = &[
    // Before those that give addresses back, from which they say that the VM leaves.
    ipv4::igmp::IGMP,
    ipv6::mld::MLD,
    probe::tcp::CONNECTIONS,
    neighbour::NEIGHBOURS,
    ipv4::arp::ARP,
    ipv4::fragment::FRAGMENT,
    ipv4::dhcp::frames::DHCP,
    ipv4::icmp::ICMP,
    ipv4::udp::UDP,
    ipv4::tcp::TCP,
    // Before what counts the lifetimes of addresses: a lease runs out with its addresses.
    ipv6::dhcp::frames::DHCP,
    ipv6::neighbour_discovery::NEIGHBOUR_DISCOVERY,
    ipv6::router_discovery::ROUTER_DISCOVERY,
    ipv6::fragment::FRAGMENT,
    ipv6::icmp::ICMP,
    ipv6::udp::UDP,
    ipv6::tcp::TCP,
];

/// A VM's index: `vm0` is the first one made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VmId(pub u32);

impl VmId {
    /// The index into a table of VMs.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A simulated VM with one network interface.
#[derive(Debug)]
pub struct Vm {
    mac: MacAddr,
    mtu: u16,
    /// Nanoseconds from 1970 (UTC) to [`Instant::ZERO`].
    unix_nanos: u64,
    vlan: Option<Vlan>,
    random: fastrand::Rng,
    ipv4: Ipv4,
    /// Boxed: most VMs have none.
    ipv6: Option<Box<Ipv6>>,
    neighbours: NeighbourTable,
    answers: Answers,
    fragmenter: Fragmenter,
    /// Those of kinds that have 16 bits to tell them apart; the others are among the probes.
    sessions: Vec<Session>,
    /// Boxed, from the first need on: most VMs have none.
    probes: Option<Box<Probes>>,
    /// Pings whose neighbour has answered, to be sent.
    resolved: VecDeque<PingId>,
    /// Pings whose neighbour did not answer, to be reported.
    unresolved: VecDeque<PingId>,
    /// Echo requests, UDP ones and STAMP test packets too, that it has answered.
    requests_answered: u64,
    /// Somebody is going to ask for the probe in the last frame that it did not act on.
    keeps_ignored: bool,
    /// Something other than a ping or an echo has happened since the last [`Vm::take_dirty`].
    is_dirty: bool,
}

impl Vm {
    /// A VM that starts at `now` and pings nobody yet.
    pub fn new(now: Instant, config: VmConfig) -> Self {
        let mut random = fastrand::Rng::with_seed(config.seed);
        let ipv6 = config
            .ipv6
            .map(|ipv6| Box::new(Ipv6::new(now, config.mac, &ipv6, &mut random)));
        Vm {
            ipv6,
            ipv4: Ipv4::new(now, &config, &mut random),
            mac: config.mac,
            mtu: config.mtu,
            unix_nanos: config.unix_nanos,
            vlan: config.vlan,
            neighbours: NeighbourTable::new(&mut random),
            answers: Answers::default(),
            fragmenter: Fragmenter::default(),
            sessions: Vec::new(),
            probes: Probes::new(&config),
            resolved: VecDeque::new(),
            unresolved: VecDeque::new(),
            requests_answered: 0,
            keeps_ignored: false,
            is_dirty: true,
            random,
        }
    }

    /// Tells if [`Vm::poll_at`], [`Vm::fragment_bytes`] or [`Vm::is_configuring`] may say something else than when this
    /// was asked last. An echo, which is nearly every frame, changes none of them, nor do most fragments of a large one.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.is_dirty)
    }

    /// The IPv4 address that it uses. `None` while it has none: it still tries one, or waits for a server, or has lost
    /// it to somebody else.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.ipv4.interface().map(|interface| interface.address)
    }

    /// Returns true if `address` is one of its own, which others ask it for.
    pub fn has_address(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.address() == Some(address),
            IpAddr::V6(address) => {
                let ipv6 = self.ipv6.as_deref();
                ipv6.is_some_and(|ipv6| ipv6.has_address(address))
            }
        }
    }

    /// How others know it, for what it is to do to them.
    pub fn station(&self) -> Station {
        let interface = self.ipv4.interface();
        Station {
            mac: self.mac,
            address: interface.map(|interface| interface.address),
            prefix_length: interface.map_or(0, |interface| interface.prefix_length),
            vlan: self.vlan,
        }
    }

    /// The address that a DHCP server has granted, of the IP version of `like`; the first if there are several.
    pub fn leased_address(&self, like: IpAddr) -> Option<IpAddr> {
        match like {
            IpAddr::V4(_) => self.address().map(IpAddr::V4),
            IpAddr::V6(_) => self.ipv6.as_ref()?.leased().map(IpAddr::V6),
        }
    }

    /// Nanoseconds since 1970 (UTC) by its clock.
    const fn unix_nanos(&self, now: Instant) -> u64 {
        self.unix_nanos.saturating_add(now.as_nanos())
    }

    /// Bytes of fragments that it holds.
    pub fn fragment_bytes(&self) -> usize {
        let ipv6 = self.ipv6.as_ref();
        let ipv6 = ipv6.and_then(|ipv6| ipv6.fragments.as_ref());
        let held = |fragments: Option<&Box<Reassembly>>| fragments.map_or(0, |each| each.held());
        held(self.ipv4.fragments.as_ref()) + held(ipv6) + self.fragmenter.held()
    }

    /// Drops the fragments that wait for others, and memory that is kept for further ones. Returns how many datagrams
    /// they were of.
    pub fn drop_fragments(&mut self) -> usize {
        self.is_dirty = true;
        self.fragmenter.drop_spare();
        let ipv6 = self.ipv6.as_mut();
        let ipv6 = ipv6.and_then(|ipv6| ipv6.fragments.as_mut());
        let clear =
            |fragments: Option<&mut Box<Reassembly>>| fragments.map_or(0, |each| each.clear());
        clear(self.ipv4.fragments.as_mut()) + clear(ipv6)
    }

    /// Tells if it lacks an address that it may come by: it tries one, or looks for a DHCP server or a router.
    pub fn is_configuring(&self) -> bool {
        self.ipv4.is_configuring() || self.ipv6.as_ref().is_some_and(|ipv6| ipv6.is_configuring())
    }

    /// Returns true without an address of a protocol that it speaks, apart from link-local ones: none was granted or
    /// advertised so far, or another station has it.
    pub fn lacks_address(&self) -> bool {
        let lacks_ipv6 = |ipv6: &ipv6::Ipv6| ipv6.lacks_address();
        self.ipv4.interface().is_none() || self.ipv6.as_deref().is_some_and(lacks_ipv6)
    }

    /// Makes `mac` known as the address of the neighbour `address`, for good.
    pub fn add_neighbour(&mut self, address: IpAddr, mac: MacAddr) {
        self.ipv4.shortcuts = Shortcuts::default();
        self.neighbours.set(address, mac);
    }

    /// Takes the frame of `length` bytes at the start of `buffer`, which was read `now`. That is asked for at once, unless
    /// the frame is a plain echo request or one of many fragments, which do not depend on the time.
    pub fn receive(&mut self, mut now: impl Now, buffer: &mut [u8], length: usize) -> Reaction {
        let frame = buffer.get_mut(..length).unwrap_or_default();
        if let Some(answer) = self.answer_plain_echo(frame) {
            return Reaction {
                transmit: Some(answer),
                event: None,
            };
        }
        if self.join_plain_fragment(frame) {
            return Reaction::default();
        }
        let now = now.now();
        self.take_plain_reply(now, frame)
            .unwrap_or_else(|| self.receive_any(now, buffer, length))
    }

    /// The same for whatever frame.
    fn receive_any(&mut self, now: Instant, buffer: &mut [u8], length: usize) -> Reaction {
        let ignored = |ignored| Reaction {
            transmit: None,
            event: Some(Event::Ignored(ignored)),
        };
        self.ipv4.shortcuts = Shortcuts::default();
        let frame = buffer.get_mut(..length).unwrap_or_default();
        let Some(start) = take_off(self.vlan, frame) else {
            self.keep_ignored(frame);
            return ignored(Ignored::OtherVlan);
        };
        let untagged = buffer.get_mut(start..).unwrap_or_default();
        let reacted = self.react(now, untagged, length.saturating_sub(start));
        self.is_dirty |= reacted.is_err();
        // What makes room for a fragment is an older datagram than the one it is of.
        // Questions for others come to all.
        if reacted.as_ref().is_err_and(|ignored| {
            !matches!(ignored, Ignored::ReassemblyFull | Ignored::OtherTarget)
        }) {
            self.keep_ignored(buffer.get(start..length).unwrap_or_default());
        }
        match reacted {
            Ok(mut reaction) => {
                if start > 0
                    && let Some(transmit) = reaction.transmit
                {
                    if self.vlan.is_none() {
                        // The request had a tag that told its priority only; the answer has none.
                        buffer.copy_within(start..start + transmit.length, 0);
                    }
                    reaction.transmit = Some(self.tag(transmit, buffer));
                }
                reaction
            }
            Err(Ignored::Malformed(error)) => ignored(Ignored::Malformed(ParseError {
                offset: error.offset + start,
                ..error
            })),
            Err(why) => ignored(why),
        }
    }

    /// From now on the head of a frame of which [`Event::Ignored`] tells is kept, if that is of a ping or of the search for a
    /// neighbour, to be [taken](Vm::take_ignored_probe).
    pub const fn keep_ignored_probes(&mut self) {
        self.keeps_ignored = true;
    }

    /// Keeps the head of `frame`, which is ignored, if such are kept. Of an answer that the VM has built and can't send it is that
    /// of the request.
    #[cold]
    fn keep_ignored(&mut self, frame: &[u8]) {
        if !self.keeps_ignored {
            return;
        }
        let kept = match PingHead::parse(frame) {
            Some(PingHead::Probe(echo)) if echo.source_mac == self.mac && !echo.is_request => {
                PingHead::Probe(echo.turned())
            }
            Some(head) => head,
            None => return,
        };
        self.probes.get_or_insert_default().ignored = Some(kept);
    }

    /// Takes the head of the frame of which [`Event::Ignored`] has just told, if such are [kept](Vm::keep_ignored_probes).
    pub fn take_ignored_probe(&mut self) -> Option<PingHead> {
        self.probes.as_mut()?.ignored.take()
    }

    /// Does one thing that is ready or overdue at `now`: sends a ping whose neighbour has answered, repeats an ARP
    /// request, or gives up a ping whose neighbour did not answer. `None` when there is nothing to do.
    pub fn poll(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        self.ipv4.shortcuts = Shortcuts::default();
        self.is_dirty = true;
        let untagged = self.behind_tags(buffer);
        let reaction = self.poll_untagged(now, untagged)?;
        Some(Reaction {
            transmit: reaction.transmit.map(|frame| self.tag(frame, buffer)),
            ..reaction
        })
    }

    /// Builds the next fragment of a large datagram, if [`Vm::poll`] would do that and have another one to send then. Nothing else
    /// changes by it, at any time.
    pub fn next_fragment(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        if !self.fragmenter.has_several() || !self.unresolved.is_empty() || self.has_answers() {
            return None;
        }
        let untagged = behind_tags(self.vlan, buffer);
        let transmit = self.fragmenter.next(untagged)?;
        Some(self.tag(transmit, buffer))
    }

    /// Builds one frame that is still to be sent before the VM stops at `now`: it leaves its groups, and gives its
    /// leases back. To be called until
    /// it returns `None`.
    pub fn leave(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        self.ipv4.shortcuts = Shortcuts::default();
        self.is_dirty = true;
        let untagged = self.behind_tags(buffer);
        let mut protocols = PROTOCOLS.iter();
        let frame = protocols.find_map(|protocol| (protocol.leave)(self, now, untagged))?;
        Some(self.tag(frame, buffer))
    }

    fn poll_untagged(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        if let Some(reaction) = self.next_unresolved() {
            return Some(reaction);
        }
        if let Some(reaction) = self.next_answered() {
            return Some(reaction);
        }
        if let Some(reaction) = self.next_answer(now, buffer) {
            return Some(reaction);
        }
        let fragment = self.fragmenter.next(buffer);
        if let Some(transmit) = fragment.or_else(|| self.next_resolved(now, buffer)) {
            return Some(Reaction {
                transmit: Some(transmit),
                event: None,
            });
        }
        if self.has_work() {
            // What was to be sent can't be, and is out of its queue: its way is gone. The next is due as well.
            return self.poll_untagged(now, buffer);
        }
        self.poll_protocols(now, buffer)
    }

    /// When [`Vm::poll`] has something to do: [`Instant::ZERO`] for at once, `None` for never.
    pub fn poll_at(&self) -> Option<Instant> {
        if self.has_work() {
            return Some(Instant::ZERO);
        }
        self.protocols_deadline()
    }

    /// Tells if [`Vm::poll`] has something to do at once, whatever the time: something to send, or to give up.
    fn has_work(&self) -> bool {
        let is_idle = self.resolved.is_empty()
            && self.unresolved.is_empty()
            && self.fragmenter.is_empty()
            && !self.has_answers()
            && !self.has_answered();
        !is_idle
    }

    /// Where a frame is built, with room before it for the tags of the VM's VLAN.
    fn behind_tags<'a>(&self, buffer: &'a mut [u8]) -> &'a mut [u8] {
        behind_tags(self.vlan, buffer)
    }

    /// Puts the tags of the VM's VLAN on a frame that was built behind them.
    fn tag(&self, transmit: Transmit, buffer: &mut [u8]) -> Transmit {
        Transmit {
            length: put_on(self.vlan, buffer, transmit.length),
            ..transmit
        }
    }

    fn react(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<Reaction, Ignored> {
        let bytes = buffer.get(..length).unwrap_or_default();
        let frame = EthernetFrame::parse(bytes).map_err(Ignored::Malformed)?;
        if !self.accepts(frame.destination) {
            return Err(Ignored::OtherStation);
        }
        match frame.payload().map_err(Ignored::Malformed)? {
            Payload::Arp(arp) => {
                self.is_dirty = true;
                self.receive_arp(now, frame.destination, arp, buffer)
            }
            payload => {
                let disposition = self.receive_ip(now, bytes, frame.source, &payload)?;
                self.is_dirty |= !matches!(disposition, Disposition::Joined);
                self.apply(now, disposition, buffer, length)
            }
        }
    }
}

#[cfg(test)]
mod tests;
