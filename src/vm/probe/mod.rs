//! The pings of a VM: opened, sent when the way to their destination is known, and given up.

mod arp;
mod bounds;
mod connections;
mod datagram;
mod icmp_echo;
mod kind;
mod members;
pub(super) mod payload;
mod ports;
mod session;
mod stamp;
pub(super) mod tcp;
mod udp;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::time::Duration;

pub use self::arp::ArpRequest;
use self::arp::LinkProbes;
pub use self::bounds::{SessionCounts, TooManySessions};
pub use self::connections::ConnectionCounts;
use self::connections::Connections;
use self::kind::ToBuild;
pub use self::kind::{Probe, ProbeKind};
use self::members::Members;
pub use self::members::{MAX_MEMBERS, MemberId};
use self::ports::ByEnds;
pub(super) use self::session::Session;
pub use self::session::{GiveUp, MAX_OUTSTANDING, PingOptions, SessionConfig};
pub use self::tcp::{INITIAL_RTO, TcpClose};
use super::ipv4::Shortcuts;
use super::neighbour::{Found, Lookup, VainSearch};
use super::nic::group_mac;
use super::service::Services;
use super::stream::Stream;
use super::{
    DEFAULT_TIME_TO_LIVE, Event, PingError, PingId, PingOutcome, Reaction, SessionId, Transmit, Vm,
    VmConfig,
};
use crate::time::Instant;
use crate::wire::{
    ETHERNET_HEADER_LENGTH, IPV4_HEADER_LENGTH, IPV6_HEADER_LENGTH, Ipv4Envelope, Ipv6Envelope,
    MacAddr, NARROW_FLOWS, PROTOCOL_TCP, PROTOCOL_UDP, PingHead, QuotedProbe, WIDE_FLOWS,
    sequence_mask,
};

/// What few VMs need: the state of kinds of probes other than ICMP echo, a probe of somebody else's, and services.
#[derive(Default, Debug)]
pub(super) struct Probes {
    /// The head of the last frame that the VM did not act on, if it was of a ping or of a search, until somebody asks for it.
    pub(super) ignored: Option<PingHead>,
    /// The sessions of kinds that need more than 16 bits to tell them apart.
    sessions: Vec<Session>,
    /// The sessions that have ports.
    ports: ByEnds<SessionId>,
    link: LinkProbes,
    connections: Connections,
    pub(super) services: Services,
    /// The streams that it sends.
    pub(super) streams: Vec<Stream>,
}

impl Probes {
    /// Those of a VM that starts. Boxed, from the first need on: most VMs have none.
    pub(super) fn new(config: &VmConfig) -> Option<Box<Probes>> {
        let services = Services::new(config)?;
        Some(Box::new(Probes {
            services,
            ..Probes::default()
        }))
    }
}

/// The outcome of starting a ping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PingStart {
    /// A frame is to be sent: the echo request, or the ARP request that has to come first.
    Transmit(Transmit),
    /// The ping waits for an ARP reply that is under way.
    Waiting,
    /// The ping is over before it began, for that reason.
    Unresolved(Event, Unsent),
    /// The session has [`super::MAX_OUTSTANDING`] pings on their way, or there is no such session; nothing was started.
    Refused,
}

/// Why a ping could not even be tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsent {
    /// There is no way to its destination: it is on another network and there is no gateway, or the VM has no address.
    NoRoute,
    /// [`super::MAX_WAITING`] pings wait for the same neighbour.
    NeighbourQueueFull,
    /// It is larger than the link carries, and [`super::MAX_OUTGOING`] of that kind are on their way out.
    FragmentQueueFull,
    /// It is larger than its path carries, and must not be cut.
    FragmentationNeeded,
    /// All its ports are in use for others to where it goes.
    PortsInUse,
}

/// The state of the neighbour that a session's pings are handed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Neighbour {
    /// Pings can be sent.
    Known,
    /// [`Vm::poll`] asks for it now. [`Event::Resolved`] tells of the answer.
    Unknown(IpAddr),
    /// It was asked for already.
    Asking(IpAddr),
    /// There is no way to the destination.
    NoRoute,
}

impl Vm {
    /// Opens a session of pings. `None` when the VM has as many of them as can be told apart: 65,536 of those whose frames have 16 bits
    /// for that (ICMP echo and STAMP), 1,048,576 of all others, and by UDP one for each ephemeral port to each peer.
    pub fn open_session(&mut self, config: SessionConfig) -> Option<SessionId> {
        let kind = config.probe.kind;
        let (narrow, wide) = (self.sessions.len(), self.wide_sessions().len());
        let (number, limit) = match kind.is_narrow() {
            true => (narrow, NARROW_FLOWS),
            false => (wide, WIDE_FLOWS),
        };
        let number = u32::try_from(number).ok();
        let number = number.filter(|number| *number < limit)?;
        let id = SessionId(kind.row().first_flow | number);
        let mut session = Session::new(config);
        session.limit_to(sequence_mask(id.0));
        if kind.has_port_by_flow() {
            session.port = Some(NonZeroU16::new(self.choose_port(id, &config)?)?);
        }
        if config.destination.is_multicast() {
            // Nobody is asked where a group is.
            self.add_neighbour(config.destination, group_mac(config.destination));
        }
        match kind.is_narrow() {
            true => self.sessions.push(session),
            false => self.probes.get_or_insert_default().sessions.push(session),
        }
        Some(id)
    }

    /// Sends the pings of `session` to another address of the same IP version from now on.
    pub fn redirect(&mut self, session: SessionId, destination: IpAddr) {
        self.ipv4.shortcuts = Shortcuts::default();
        let Some(of_session) = self.session_mut(session) else {
            return;
        };
        let before = of_session.config;
        if before.destination.is_ipv4() != destination.is_ipv4() {
            return;
        }
        of_session.redirect(destination);
        if before.probe.kind.has_port_by_flow() && before.destination != destination {
            self.change_peer(session, &before);
        }
    }

    /// The destination of a session with a port of its own is another one than `before`.
    #[cold]
    fn change_peer(&mut self, id: SessionId, before: &SessionConfig) {
        let Some(&Session { config, port, .. }) = self.session(id) else {
            return;
        };
        if let Some(port) = port {
            self.free_port(before, port.get());
        }
        let port = self.choose_port(id, &config).and_then(NonZeroU16::new);
        if let Some(session) = self.session_mut(id) {
            session.port = port;
        }
    }

    /// Looks for the neighbour that the pings of `session` are handed to, without a ping.
    pub fn find_neighbour(&mut self, now: Instant, session: SessionId) -> Neighbour {
        let session = self.session(session);
        let Some(config) = session.map(|session| session.config) else {
            return Neighbour::NoRoute;
        };
        if config.probe.asks_everybody() {
            // Its pings are such requests.
            return Neighbour::Known;
        }
        let neighbour = self.handed_to(now, &config);
        neighbour.map_or(Neighbour::NoRoute, |neighbour| {
            self.find_next_hop(now, neighbour)
        })
    }

    /// The neighbour that the pings of a session are handed to: the next hop, or the one who is asked for the hardware address.
    fn handed_to(&self, now: Instant, config: &SessionConfig) -> Option<IpAddr> {
        let next_hop = self.next_hop(now, config.destination)?;
        match config.probe.kind.is_numbered() {
            true => Some(next_hop),
            false => Some(config.destination),
        }
    }

    /// Looks for the neighbour that what is for `destination` is handed to.
    pub(super) fn find_neighbour_at(&mut self, now: Instant, destination: IpAddr) -> Neighbour {
        let next_hop = self.next_hop(now, destination);
        next_hop.map_or(Neighbour::NoRoute, |next_hop| {
            self.find_next_hop(now, next_hop)
        })
    }

    fn find_next_hop(&mut self, now: Instant, next_hop: IpAddr) -> Neighbour {
        let found = self.neighbours.find(now, next_hop);
        match found {
            Found::Known => Neighbour::Known,
            Found::Asking => Neighbour::Asking(next_hop),
            Found::Unknown => {
                self.is_dirty = true;
                Neighbour::Unknown(next_hop)
            }
        }
    }

    /// The address of a member of the multicast group that `session` pings.
    pub fn member(&self, session: SessionId, member: MemberId) -> Option<IpAddr> {
        self.session(session)?.member(member)
    }

    /// Expects `count` members of the multicast group that `session` pings to answer while they are there: those with
    /// numbers below it.
    pub fn expect_members(&mut self, session: SessionId, count: usize) {
        if let Some(members) = self.members_mut(session) {
            members.expect(count);
        }
    }

    /// Tells `session` that an expected member of its group answers from `addresses`, and since when it has been there at the
    /// latest, if it is there.
    pub fn update_member(
        &mut self,
        session: SessionId,
        member: MemberId,
        since: Option<Instant>,
        addresses: impl Iterator<Item = IpAddr>,
    ) {
        if let Some(members) = self.members_mut(session) {
            members.update(member, since, addresses);
        }
    }

    /// Tells `session` that an expected member of its group has left.
    pub fn member_left(&mut self, session: SessionId, member: MemberId) {
        if let Some(members) = self.members_mut(session) {
            members.left(member);
        }
    }

    /// The expected members that have not answered pings of `session` which are over, each with the time when its ping was
    /// due. They are told once.
    pub fn take_unanswered(&mut self, session: SessionId) -> Vec<(MemberId, Instant)> {
        let members = self.members_mut(session);
        members.map(Members::take_unanswered).unwrap_or_default()
    }

    fn members_mut(&mut self, session: SessionId) -> Option<&mut Members> {
        self.session_mut(session)?.members_mut()
    }

    /// Tells if an answer of the neighbour `address` is awaited.
    pub fn is_asking(&self, address: IpAddr) -> bool {
        self.neighbours.is_asking(address)
    }

    /// Starts a ping of `session` that was due at `due`; a frame to send is built in `buffer`.
    pub fn ping(
        &mut self,
        now: Instant,
        session: SessionId,
        due: Instant,
        buffer: &mut [u8],
    ) -> PingStart {
        let untagged = self.behind_tags(buffer);
        match self.start_ping(now, session, due, untagged) {
            PingStart::Transmit(transmit) => PingStart::Transmit(self.tag(transmit, buffer)),
            start => start,
        }
    }

    fn start_ping(
        &mut self,
        now: Instant,
        session: SessionId,
        due: Instant,
        buffer: &mut [u8],
    ) -> PingStart {
        let Some(open) = self.session_mut(session).filter(|s| s.has_room()) else {
            return PingStart::Refused;
        };
        let ping = PingId {
            session,
            sequence: open.open(now, due),
        };
        if let Some(request) = self.next_of_requests(now, ping, buffer) {
            return PingStart::Transmit(request);
        }
        let Some(config) = self.session(session).map(|session| session.config) else {
            return PingStart::Refused;
        };
        let (transmit, unsent) = match self.handed_to(now, &config) {
            _ if config.probe.asks_everybody() => {
                match self.probe_request(now, ping, MacAddr::BROADCAST, buffer) {
                    Ok(request) => (Some(request), Unsent::NoRoute),
                    Err(unsent) => (None, unsent),
                }
            }
            None => (None, Unsent::NoRoute),
            Some(next_hop) => match self.neighbours.lookup(now, next_hop, ping) {
                found @ (Lookup::Found(mac) | Lookup::Suspected(mac)) => {
                    let request = self.probe_request(now, ping, mac, buffer);
                    // A neighbour to be asked again, or fragments to follow.
                    self.is_dirty |= matches!(found, Lookup::Suspected(_)) || self.has_work();
                    match request {
                        Ok(request) => return PingStart::Transmit(request),
                        Err(unsent) => (None, unsent),
                    }
                }
                Lookup::Ask => {
                    self.is_dirty = true;
                    (self.solicit(now, next_hop, None, buffer), Unsent::NoRoute)
                }
                Lookup::Wait => return PingStart::Waiting,
                Lookup::Full => (None, Unsent::NeighbourQueueFull),
            },
        };
        if let Some(transmit) = transmit {
            return PingStart::Transmit(transmit);
        }
        match self.abandon(ping) {
            Some(event) => PingStart::Unresolved(event, unsent),
            None => PingStart::Refused,
        }
    }

    /// Builds the request of a ping; of one that is larger than its path carries, the first fragment.
    ///
    /// # Errors
    /// When the VM has no address, it must not be cut, or too many fragments are on their way out.
    fn probe_request(
        &mut self,
        now: Instant,
        ping: PingId,
        mac: MacAddr,
        buffer: &mut [u8],
    ) -> Result<Transmit, Unsent> {
        let session = self.session(ping.session);
        let config = session.ok_or(Unsent::NoRoute)?.config;
        let build = config.probe.kind.row().build;
        let to_build = ToBuild {
            now,
            ping,
            config: &config,
            mac,
        };
        let length = ETHERNET_HEADER_LENGTH + whole_length(&config);
        let cut = self.cut_to(now, config.destination);
        let is_carried = length <= ETHERNET_HEADER_LENGTH + usize::from(cut.mtu);
        if is_carried || config.options.dont_fragment {
            let request = build(self, to_build, buffer);
            let request = request.ok_or_else(|| self.why_unsent(&config))?;
            return match is_carried {
                true => Ok(request),
                false => Err(Unsent::FragmentationNeeded),
            };
        }
        // Where its fragments are cut from.
        let write =
            |vm: &mut Vm, space: &mut [u8]| build(vm, to_build, space).map(|request| request.ping);
        match self.cut(cut, length, write) {
            Ok(true) => self.fragmenter.next(buffer).ok_or(Unsent::NoRoute),
            Ok(false) => Err(Unsent::NoRoute),
            Err(_) => Err(Unsent::FragmentQueueFull),
        }
    }

    /// Why no request could be built for a neighbour that is known.
    #[cold]
    fn why_unsent(&self, config: &SessionConfig) -> Unsent {
        match self.lacks_port(config) {
            true => Unsent::PortsInUse,
            false => Unsent::NoRoute,
        }
    }

    /// Ends the ping that an ICMP error quotes. Anybody on the way may have sent it, but only about a ping that is on its way: who
    /// can't see our pings can't end them but by chance. `None` if it is about none.
    pub(super) fn receive_quoted(
        &mut self,
        now: Instant,
        quoted: &QuotedProbe,
        error: PingError,
    ) -> Option<Event> {
        if quoted.protocol == PROTOCOL_TCP {
            return self.receive_quoted_syn(now, quoted, of_port(error));
        }
        let id = match quoted.protocol {
            PROTOCOL_UDP => self.quoted_session(quoted)?,
            _ => SessionId(quoted.number?.0),
        };
        let session = self.session_mut(id)?;
        let kind = session.config.probe.kind;
        if session.config.destination != quoted.destination
            || kind.row().protocol.of(quoted.destination) != Some(quoted.protocol)
        {
            return None;
        }
        let sequence = match quoted.number {
            Some((_, sequence)) => sequence,
            // The error quotes no more than RFC 792 asks for.
            None => session.only_outstanding()?,
        };
        let (sequence, due, sent) = session.fail(sequence, now)?;
        let error = match kind.has_ports() {
            true => of_port(error),
            false => error,
        };
        let outcome = PingOutcome::Errored { due, sent, error };
        let session = id;
        Some(Event::Ping(PingId { session, sequence }, outcome))
    }

    /// The headers of a session's requests over IPv4. `None` while the VM has no address.
    pub(super) fn ipv4_envelope(
        &self,
        options: &PingOptions,
        destination: Ipv4Addr,
        mac: MacAddr,
        identification: u16,
    ) -> Option<Ipv4Envelope> {
        Some(Ipv4Envelope {
            source_mac: self.mac,
            destination_mac: mac,
            source: self.address()?,
            destination,
            time_to_live: options.time_to_live,
            dscp: options.dscp,
            dont_fragment: options.dont_fragment,
            identification,
        })
    }

    /// The same over IPv6.
    pub(super) fn ipv6_envelope(
        &self,
        now: Instant,
        options: &PingOptions,
        destination: Ipv6Addr,
        mac: MacAddr,
    ) -> Option<Ipv6Envelope> {
        let ipv6 = self.ipv6.as_ref()?;
        Some(Ipv6Envelope {
            source_mac: self.mac,
            destination_mac: mac,
            source: ipv6.source_for(now, destination)?,
            destination,
            traffic_class: options.dscp << 2,
            // What a router advises is the default; who asks for another number gets it.
            hop_limit: match options.time_to_live {
                DEFAULT_TIME_TO_LIVE => ipv6.hop_limit(),
                asked => asked,
            },
        })
    }

    /// Records when the frame of `ping` was written. Returns when it was due, and from when on nothing but the tool delayed
    /// it: that, and the time on top that its neighbour took to answer. `None` if it is stamped already.
    #[inline(always)]
    pub fn stamp_sent(&mut self, ping: PingId, at: Instant) -> Option<(Instant, Instant)> {
        self.session_mut(ping.session)?
            .stamp_sent(ping.sequence, at)
    }

    /// Gives up the oldest ping of `session` whose reply is overdue at `now`, one at a time.
    pub fn expire(&mut self, now: Instant, session: SessionId) -> Option<Event> {
        let (sequence, outcome) = self.session_mut(session)?.expire(now)?;
        Some(Event::Ping(PingId { session, sequence }, outcome))
    }

    /// Ends pings before their time, and returns each with what came of it: it is lost if it was sent, unresolved if it
    /// waits for its neighbour.
    pub fn give_up(&mut self, which: GiveUp) -> Vec<(PingId, PingOutcome)> {
        let numbered = self.sessions.iter().zip(0..);
        let numbered = numbered.chain(self.wide_sessions().iter().zip(0..));
        let ids = numbered.map(|(session, number)| {
            SessionId(session.config.probe.kind.row().first_flow | number)
        });
        let ids: Vec<SessionId> = ids.collect();
        ids.into_iter()
            .flat_map(|session| self.give_up_session(session, which))
            .collect()
    }

    /// Ends pings of one session as [`Vm::give_up`] does.
    pub fn give_up_session(&mut self, id: SessionId, which: GiveUp) -> Vec<(PingId, PingOutcome)> {
        let mut ended = Vec::new();
        if let Some(session) = self.session_mut(id) {
            session.give_up(which, |sequence, outcome| {
                let session = id;
                ended.push((PingId { session, sequence }, outcome));
            });
        }
        ended
    }

    /// The destination of the pings of `session`.
    pub fn destination(&self, session: SessionId) -> Option<IpAddr> {
        let session = self.session(session)?;
        Some(session.config.destination)
    }

    /// What the pings of `session` are.
    pub fn probe(&self, session: SessionId) -> Option<Probe> {
        Some(self.session(session)?.config.probe)
    }

    /// The number of pings of `session` that were begun.
    pub fn pings_begun(&self, session: SessionId) -> Option<u64> {
        Some(self.session(session)?.begun())
    }

    /// The neighbour that the pings of `session` are handed to at `now`. `None` where they are handed to none: there is no way to
    /// the destination, or they ask everybody for a hardware address.
    pub fn neighbour_of(&self, now: Instant, session: SessionId) -> Option<IpAddr> {
        let config = self.session(session)?.config;
        let is_handed = !config.probe.asks_everybody();
        self.handed_to(now, &config).filter(|_| is_handed)
    }

    /// The search for the neighbour `address` that goes on at `now`, or that has failed last.
    pub fn vain_search(&self, address: IpAddr) -> Option<VainSearch> {
        self.neighbours.vain_search(address)
    }

    /// The hardware address to which datagrams for the neighbour `address` are sent now.
    pub fn neighbour_mac(&self, address: IpAddr) -> Option<MacAddr> {
        self.neighbours.get(address)
    }

    /// When what the VM knows of the neighbour `address` changed last.
    pub fn neighbour_updated_at(&self, address: IpAddr) -> Option<Instant> {
        self.neighbours.updated_at(address)
    }

    /// The number of echo requests that the VM has answered, whoever sent them.
    pub const fn requests_answered(&self) -> u64 {
        self.requests_answered
    }

    /// The length of the packets that the pings of `session` are sent in, or of the largest fragment of one, in bytes.
    pub fn packet_length(&self, session: SessionId) -> Option<u32> {
        let config = self.session(session)?.config;
        Some(whole_length(&config).min(self.mtu.into()) as u32)
    }

    /// How long a ping of `session` is waited for, from when it is sent.
    pub fn timeout(&self, session: SessionId) -> Option<Duration> {
        Some(self.session(session)?.config.timeout)
    }

    /// The number of the first ping of `session` that is not over; that of the next one where all are.
    pub fn oldest_ping(&self, session: SessionId) -> Option<u64> {
        Some(self.session(session)?.oldest())
    }

    /// When the oldest ping of `session` is overdue; `None` when none is on its way.
    pub fn expires_at(&self, session: SessionId) -> Option<Instant> {
        self.session(session)?.deadline()
    }

    /// Queues pings whose neighbour has answered at `now`, to be sent.
    pub(super) fn resolve(&mut self, now: Instant, pings: VecDeque<PingId>) {
        for ping in &pings {
            if let Some(session) = self.session_mut(ping.session) {
                session.resolved(now, ping.sequence);
            }
        }
        self.resolved.extend(pings);
    }

    /// Builds the next echo request that waited for its neighbour.
    pub(super) fn next_resolved(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        loop {
            let ping = self.resolved.pop_front()?;
            let session = self.session(ping.session)?;
            if !session.is_unsent(ping.sequence) {
                // It was given up meanwhile.
                continue;
            }
            let mac = self
                .handed_to(now, &session.config)
                .and_then(|next_hop| self.neighbours.get(next_hop));
            let request = mac.and_then(|mac| self.probe_request(now, ping, mac, buffer).ok());
            if request.is_none() {
                self.unresolved.push_back(ping);
            }
            return request;
        }
    }

    /// Gives up the next ping whose neighbour did not answer.
    pub(super) fn next_unresolved(&mut self) -> Option<Reaction> {
        let ping = self.unresolved.pop_front()?;
        Some(Reaction {
            transmit: None,
            event: self.abandon(ping),
        })
    }

    #[inline(always)]
    fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        match self.sessions.get_mut(id.0 as usize) {
            Some(session) => Some(session),
            None => wide_session_mut(&mut self.probes, id),
        }
    }

    #[inline(always)]
    fn session(&self, id: SessionId) -> Option<&Session> {
        match self.sessions.get(id.0 as usize) {
            Some(session) => Some(session),
            None => self.wide_session(id),
        }
    }

    #[cold]
    fn wide_session(&self, id: SessionId) -> Option<&Session> {
        self.wide_sessions().get(id.wide_place()?)
    }

    fn wide_sessions(&self) -> &[Session] {
        let probes = self.probes.as_ref();
        probes.map_or(&[], |probes| &probes.sessions)
    }

    fn abandon(&mut self, ping: PingId) -> Option<Event> {
        let due = self.session_mut(ping.session)?.abandon(ping.sequence)?;
        Some(Event::Ping(ping, PingOutcome::Unresolved { due }))
    }
}

#[cold]
fn wide_session_mut(probes: &mut Option<Box<Probes>>, id: SessionId) -> Option<&mut Session> {
    probes.as_mut()?.sessions.get_mut(id.wide_place()?)
}

/// The meaning of an ICMP error for a ping that is for a port.
const fn of_port(error: PingError) -> PingError {
    match error {
        PingError::PortUnreachable => PingError::Refused,
        error => error,
    }
}

/// The length of the packets that the pings of a session are sent in, whole, in bytes.
fn whole_length(config: &SessionConfig) -> usize {
    let header = match config.destination {
        IpAddr::V4(_) => IPV4_HEADER_LENGTH,
        IpAddr::V6(_) => IPV6_HEADER_LENGTH,
    };
    config.payload_length + header + config.probe.kind.header_length()
}
