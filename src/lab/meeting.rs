//! The meeting of ranks: moves bytes between the state machines of [`crate::ranks`] and sockets, and has the run pass gates with
//! the others.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use mio::Interest;

use super::{Driver, LabError, LabOn, Observer};
use crate::experiment::{Experiment, Meet, Part};
use crate::fabric::Fabric;
use crate::hypervisor::Command;
use crate::ranks::deadlines::{DOCUMENTS, LABS, LABS_OF_A_VM, MEETING};
use crate::ranks::seal::Secret;
use crate::ranks::{Event, Gate, Identity, Leader, Member, PeerId};
use crate::reactor::{End, Reactor, Source, Sources};
use crate::report::{RankDocument, RankPart, Report, merge_ranks};
use crate::system::{
    ClientSocket, MeetingAddress, MeetingListener, PollHandle, SECRET_VARIABLE, SystemError,
    host_name, nonce, read_token_or,
};
use crate::time::{Clock, Instant, MonotonicClock};

/// The time between two attempts to connect to a meeting point where nobody listens yet.
const RETRY: Duration = Duration::from_millis(50);
/// Bytes read at a time.
const PIECE: usize = 64 * 1024;
/// Pieces read from one socket before the others.
const READ_BUDGET: usize = 64;

/// A meeting, as one rank sees it.
#[derive(Debug)]
pub(super) struct Meeting {
    side: Side,
    handle: PollHandle,
    /// How long the labs of all may take.
    labs: Duration,
    has_met: bool,
    /// Gates that are open, and when the run goes on behind each.
    open: VecDeque<(Gate, Instant)>,
    /// Another rank has ended the run.
    is_stopped: bool,
    /// The reason why the run ends before its time, if something failed.
    failed: Option<String>,
    is_delivered: bool,
    /// What is to be told to the user.
    told: Vec<String>,
}

#[derive(Debug)]
enum Side {
    First(Box<Leader>, MeetingListener, BTreeMap<PeerId, ClientSocket>),
    Other(Box<Connecting>),
}

/// A rank that connects to rank 0.
#[derive(Debug)]
struct Connecting {
    address: MeetingAddress,
    identity: Identity,
    secret: Secret,
    /// The time of the next attempt, and of the last.
    retry_at: Instant,
    until: Instant,
    connected: Option<(Member, ClientSocket)>,
    /// Something was read.
    is_heard: bool,
}

/// What became of the report of a rank.
#[derive(Debug)]
pub enum Gathered {
    /// It is that of the whole run; with what was amiss in other ranks.
    Whole(Box<Report>, Vec<String>),
    /// Rank 0 has it, and tells it.
    Delivered(Box<Report>),
    /// Rank 0 can't have it, so that it is to be told here.
    Kept(Box<Report>, String),
}

impl Meeting {
    /// Listens, or begins to connect.
    ///
    /// # Errors
    /// If the system refuses, or the meeting point would be open to others.
    pub(super) fn begin(
        part: &Part,
        meet: &Meet,
        vms: usize,
        sources: &mut Sources,
    ) -> Result<Meeting, SystemError> {
        let Meet {
            address,
            secret_file,
        } = meet;
        let token = read_token_or(secret_file.as_deref(), SECRET_VARIABLE)?;
        if token.is_none() && !address.is_local() {
            let operation = format!("meet other ranks at {address}");
            let why = "others of the network reach it, and there is no secret";
            return Err(SystemError::refused(operation, why).advise(format!(
                "expected --meet-secret-file FILE, or a secret in the environment variable {SECRET_VARIABLE}"
            )));
        }
        let secret = Secret::from(
            token
                .map(|token| token.as_bytes().to_vec())
                .unwrap_or_default(),
        );
        let identity = Identity {
            rank: part.rank,
            plan: part.hash.0,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            host: host_name(),
        };
        let handle = sources.handle(Source::Ranks)?;
        let now = MonotonicClock.now();
        let side = match part.rank.is_first() {
            true => {
                let listener = MeetingListener::bind(address)?;
                let polled = handle.register(&listener, 0, Interest::READABLE);
                polled.map_err(|error| SystemError::io(format!("listen at {address}"), &error))?;
                let leader = Leader::new(now, identity, secret);
                Side::First(Box::new(leader), listener, BTreeMap::new())
            }
            false => Side::Other(Box::new(Connecting {
                address: address.clone(),
                identity,
                secret,
                retry_at: now,
                until: now + MEETING,
                connected: None,
                is_heard: false,
            })),
        };
        let vms = u32::try_from(vms).unwrap_or(u32::MAX);
        Ok(Meeting {
            side,
            handle,
            labs: LABS.saturating_add(LABS_OF_A_VM.saturating_mul(vms)),
            has_met: false,
            open: VecDeque::new(),
            is_stopped: false,
            failed: None,
            is_delivered: false,
            told: Vec::new(),
        })
    }

    /// Reads what has come, does what is due, and sends what is to be sent.
    pub(super) fn look_after(&mut self) -> Result<(), SystemError> {
        match &mut self.side {
            Side::First(leader, listener, sockets) => {
                accept(leader, listener, sockets, &self.handle)?;
                for id in leader.peers() {
                    let Some(socket) = sockets.get_mut(&id) else {
                        continue;
                    };
                    let is_open = receive(socket, |now, bytes| leader.handle(now, id, bytes));
                    if !is_open {
                        sockets.remove(&id);
                        leader.handle_end(id);
                    }
                }
                leader.handle_timeout(MonotonicClock.now());
                for id in leader.peers() {
                    let Some(socket) = sockets.get_mut(&id) else {
                        continue;
                    };
                    let is_open = send(socket, leader.transmit(id));
                    leader.transmitted(id, is_open.unwrap_or(0));
                    if is_open.is_none() || leader.is_over(id) {
                        sockets.remove(&id);
                        leader.handle_end(id);
                    }
                }
            }
            Side::Other(connecting) => connecting.look_after(&self.handle)?,
        }
        while let Some(event) = self.next_event() {
            match event {
                Event::Met => self.has_met = true,
                Event::Open { gate, at } => self.open.push_back((gate, at)),
                Event::Stop { why } => {
                    self.is_stopped = true;
                    self.failed = self.failed.take().or(why);
                }
                Event::Failed(why) => {
                    self.is_stopped = true;
                    if self.failed.is_none() {
                        self.failed = Some(why);
                    }
                }
                Event::Refused(words) => self.told.push(words),
                Event::Delivered => self.is_delivered = true,
            }
        }
        Ok(())
    }

    fn next_event(&mut self) -> Option<Event> {
        match &mut self.side {
            Side::First(leader, ..) => leader.next_event(),
            Side::Other(connecting) => connecting.next_event(),
        }
    }

    /// The time by which it has to be looked after.
    pub(super) fn timeout(&self) -> Option<Instant> {
        match &self.side {
            Side::First(leader, ..) => leader.timeout(),
            Side::Other(connecting) => match &connecting.connected {
                Some((member, _)) => member.timeout(),
                None => Some(connecting.retry_at),
            },
        }
    }

    fn arrive(&mut self, gate: Gate) {
        let (now, labs) = (MonotonicClock.now(), self.labs);
        match &mut self.side {
            Side::First(leader, ..) => leader.arrive(now, gate, labs),
            Side::Other(connecting) => {
                if let Some((member, _)) = &mut connecting.connected {
                    member.arrive(now, gate, labs);
                }
            }
        }
    }

    fn set_phase(&mut self, name: &str) {
        match &mut self.side {
            Side::First(leader, ..) => leader.set_phase(name),
            Side::Other(connecting) => {
                if let Some((member, _)) = &mut connecting.connected {
                    member.set_phase(name);
                }
            }
        }
    }

    /// Tells the others that the run ends here.
    fn stop(&mut self) {
        match &mut self.side {
            Side::First(leader, ..) => leader.stop(),
            Side::Other(connecting) => {
                if let Some((member, _)) = &mut connecting.connected {
                    member.stop();
                }
            }
        }
    }

    /// Returns true once `gate` is open; forgets those before it.
    fn takes(&mut self, gate: Gate) -> bool {
        while let Some((open, _)) = self.open.front() {
            if *open > gate {
                return false;
            }
            let is_it = *open == gate;
            self.open.pop_front();
            if is_it {
                return true;
            }
        }
        false
    }

    /// Waits until `is_done`, before there is a lab.
    fn wait(
        &mut self,
        (reactor, observer): (&mut Reactor, &mut dyn Observer),
        mut is_done: impl FnMut(&mut Meeting) -> bool,
    ) -> Result<(), LabError> {
        loop {
            self.look_after()?;
            self.tell(observer);
            if is_done(self) {
                return Ok(());
            }
            if self.is_stopped {
                let why = self.failed.take();
                let why = why.unwrap_or_else(|| "another rank has ended the run".to_owned());
                return Err(LabError::Ranks(why));
            }
            if reactor.is_to_stop()? {
                self.stop();
                self.look_after()?;
                return Err(LabError::Ranks(
                    "a signal came before there was a lab".to_owned(),
                ));
            }
            reactor.wait_for_ranks(self.timeout())?;
        }
    }

    /// Waits until all ranks have met.
    ///
    /// # Errors
    /// If they do not, or a signal comes.
    pub(super) fn meet(
        &mut self,
        reactor: &mut Reactor,
        observer: &mut dyn Observer,
    ) -> Result<(), LabError> {
        self.wait((reactor, observer), |meeting| meeting.has_met)
    }

    /// Waits until rank 0 has made the bridges, if the ranks share a lab; rank 0 makes them by `make`.
    ///
    /// # Errors
    /// As `make`, or if another rank is gone or a signal comes.
    pub(super) fn make_bridges<T>(
        &mut self,
        reactor: &mut Reactor,
        observer: &mut dyn Observer,
        make: impl FnOnce(&mut Reactor) -> Result<T, SystemError>,
    ) -> Result<T, LabError> {
        let is_open = |meeting: &mut Meeting| meeting.takes(Gate::Bridges);
        if matches!(self.side, Side::First(..)) {
            let made = make(reactor)?;
            self.arrive(Gate::Bridges);
            self.wait((reactor, observer), is_open)?;
            return Ok(made);
        }
        self.arrive(Gate::Bridges);
        self.wait((reactor, observer), is_open)?;
        Ok(make(reactor)?)
    }

    /// Tells `observer` of those who were refused.
    pub(super) fn tell(&mut self, observer: &mut dyn Observer) {
        self.told.drain(..).for_each(|words| observer.warns(&words));
    }
}

impl Connecting {
    fn look_after(&mut self, handle: &PollHandle) -> Result<(), SystemError> {
        let now = MonotonicClock.now();
        if self.connected.is_none() {
            if now < self.retry_at {
                return Ok(());
            }
            self.connect(now, handle)?;
        }
        let Some((member, socket)) = &mut self.connected else {
            return Ok(());
        };
        let is_heard = &mut self.is_heard;
        let is_open = receive(socket, |now, bytes| {
            *is_heard = true;
            member.handle(now, bytes);
        });
        if !is_open && !self.is_heard && now < self.until {
            // Nobody listens there yet.
            self.connected = None;
            self.retry_at = now + RETRY;
            return Ok(());
        }
        if !is_open {
            member.handle_end();
        }
        member.handle_timeout(MonotonicClock.now());
        match send(socket, member.transmit()) {
            Some(sent) => member.transmitted(sent),
            // What it has said before is read first.
            None if is_open => {}
            None => member.handle_end(),
        }
        Ok(())
    }

    fn connect(&mut self, now: Instant, handle: &PollHandle) -> Result<(), SystemError> {
        match self.address.connect() {
            Ok(socket) => {
                let interest = Interest::READABLE | Interest::WRITABLE;
                let refused =
                    |error| SystemError::io(format!("connect to {}", self.address), &error);
                handle.register(&socket, 0, interest).map_err(refused)?;
                let member = Member::new(now, self.identity.clone(), self.secret.clone(), nonce()?);
                self.connected = Some((member, socket));
            }
            Err(error) if now >= self.until => {
                let operation = format!("connect to the meeting point {}", self.address);
                return Err(SystemError::io(operation, &error).advise(
                    "expected rank 0 to listen there: start all ranks, with the same --meet",
                ));
            }
            Err(_) => self.retry_at = now + RETRY,
        }
        Ok(())
    }

    fn next_event(&mut self) -> Option<Event> {
        let (member, _) = self.connected.as_mut()?;
        member.next_event()
    }
}

/// Takes in new connections.
fn accept(
    leader: &mut Leader,
    listener: &MeetingListener,
    sockets: &mut BTreeMap<PeerId, ClientSocket>,
    handle: &PollHandle,
) -> Result<(), SystemError> {
    // One that can't be handed over is tried again with the next.
    while let Ok(Some(peer)) = listener.accept() {
        if !peer.is_served {
            continue;
        }
        let interest = Interest::READABLE | Interest::WRITABLE;
        if handle.register(&peer.socket, 0, interest).is_err() {
            continue;
        }
        if let Some(id) = leader.accept(MonotonicClock.now(), nonce()?) {
            sockets.insert(id, peer.socket);
        }
    }
    Ok(())
}

/// Reads all that has come. Returns false if the connection has ended.
fn receive(socket: &mut ClientSocket, mut take: impl FnMut(Instant, &[u8])) -> bool {
    let mut buffer = vec![0; PIECE];
    for _ in 0..READ_BUDGET {
        match socket.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => take(
                MonotonicClock.now(),
                buffer.get(..count).unwrap_or_default(),
            ),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A connection that is still being made.
            Err(error) if error.kind() == ErrorKind::NotConnected => return true,
            Err(_) => return false,
        }
    }
    true
}

/// Sends as much as there is room for. Returns how much that was, `None` if the connection has ended.
fn send(socket: &mut ClientSocket, bytes: &[u8]) -> Option<usize> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match socket.write(rest) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::NotConnected => break,
            Err(_) => return None,
        }
    }
    Some(sent)
}

/// The name of a phase, for who is told of a rank that is gone in it.
fn phase_words(plan: &Experiment, begun: usize) -> String {
    let phase = begun.checked_sub(1).and_then(|last| plan.phases.get(last));
    match phase {
        Some(phase) if !phase.name.is_empty() => format!("phase {:?}", phase.name),
        Some(_) => "the run".to_owned(),
        None => String::new(),
    }
}

impl<F, D> LabOn<'_, F, D>
where
    F: Fabric,
    D: Driver<F>,
    SystemError: From<F::Error>,
{
    /// Waits at `gate` until all ranks have come there. VMs answer meanwhile. A signal, or the end of another rank, ends the wait.
    pub(super) fn pass(&mut self, gate: Gate) -> Result<(), SystemError> {
        let Some(meeting) = &mut self.meeting else {
            return Ok(());
        };
        meeting.arrive(gate);
        while let Some(meeting) = &mut self.meeting {
            meeting.look_after()?;
            if meeting.takes(gate) || meeting.is_stopped {
                return Ok(());
            }
            self.driver.call_at(meeting.timeout());
            match self.driver.run(&mut self.hypervisor, None)? {
                End::Called => {}
                end => {
                    self.ended_early = Some(end);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Passes gates with the other ranks, and ends the run with them. Returns the time by which to look again.
    pub(super) fn meet_others(&mut self) -> Result<Option<Instant>, SystemError> {
        let Some(meeting) = &mut self.meeting else {
            return Ok(None);
        };
        if let Some((number, is_phase)) = self.hypervisor.take_gate() {
            meeting.arrive(match is_phase {
                true => Gate::Phase(number),
                false => Gate::End,
            });
        }
        meeting.set_phase(&phase_words(&self.plan, self.hypervisor.phases_begun()));
        meeting.look_after()?;
        while let Some((_, at)) = meeting.open.pop_front() {
            self.hypervisor.open_gate(at);
        }
        if meeting.is_stopped && !self.hypervisor.is_stopping() {
            let now = self.driver.now();
            // To stop can't fail.
            let _ = self.hypervisor.carry_out(now, Command::Stop);
        }
        Ok(meeting.timeout())
    }

    /// The run has ended at this rank as `end` says.
    pub(super) fn tell_end(&mut self, end: Option<End>) {
        if let Some(meeting) = &mut self.meeting
            && !matches!(end, Some(End::Done | End::Called))
        {
            meeting.stop();
        }
    }

    /// Gives the report to rank 0, or gathers those of all there. Of a run that is not of several ranks it is the report.
    pub fn gather(&mut self, report: Report) -> Gathered {
        let Some(part) = &self.plan.part else {
            return Gathered::Whole(Box::new(report), Vec::new());
        };
        let rank = part.rank;
        let Some(mut meeting) = self.meeting.take() else {
            return Gathered::Whole(Box::new(report), Vec::new());
        };
        let amiss = self.refusals();
        let phases = self.hypervisor.recorder().phases();
        let document = RankDocument::new(report.clone(), phases, amiss);
        let gathered = match &mut meeting.side {
            Side::First(leader, ..) => {
                leader.deliver(MonotonicClock.now());
                self.deliver(&mut meeting);
                whole(&mut meeting, document, report)
            }
            Side::Other(connecting) => {
                if let Some((member, _)) = &mut connecting.connected
                    && let Ok(text) = document.to_text()
                {
                    member.deliver(MonotonicClock.now(), &text, DOCUMENTS);
                }
                self.deliver(&mut meeting);
                match meeting.is_delivered {
                    true => Gathered::Delivered(Box::new(report)),
                    false => {
                        let why = meeting.failed.take();
                        let why = why.unwrap_or_else(|| "rank 0 is gone".to_owned());
                        Gathered::Kept(Box::new(report), format!("rank {}: {why}", rank.number()))
                    }
                }
            }
        };
        self.meeting = Some(meeting);
        gathered
    }

    /// Waits until what was measured is where it belongs, or can't come there.
    fn deliver(&mut self, meeting: &mut Meeting) {
        loop {
            let looked_after = meeting.look_after();
            let is_member_alone = match &meeting.side {
                Side::First(..) => false,
                Side::Other(connecting) => connecting
                    .connected
                    .as_ref()
                    .is_none_or(|(member, _)| member.timeout().is_none()),
            };
            if looked_after.is_err() || meeting.is_delivered || is_member_alone {
                return;
            }
            if self.driver.wait_for_ranks(meeting.timeout()).is_err() {
                return;
            }
        }
    }
}

/// The report of all ranks that have told theirs, that of rank 0 first.
fn whole(meeting: &mut Meeting, own: RankDocument, report: Report) -> Gathered {
    let Side::First(leader, ..) = &mut meeting.side else {
        return Gathered::Whole(Box::new(report), Vec::new());
    };
    let mut amiss = Vec::new();
    let mut parts = vec![RankPart {
        rank: 0,
        host: host_name(),
        clock: Default::default(),
        document: own,
    }];
    for delivery in leader.deliveries() {
        let document = delivery.document.map(|text| RankDocument::parse(&text));
        match document {
            Some(Ok(document)) => parts.push(RankPart {
                rank: delivery.rank,
                host: delivery.host,
                clock: delivery.clock,
                document,
            }),
            Some(Err(error)) => amiss.push(format!(
                "what rank {} has measured can't be read: {error}",
                delivery.rank
            )),
            None => {}
        }
    }
    amiss.extend(meeting.failed.take());
    match merge_ranks(parts) {
        Some((report, of_ranks)) => {
            amiss.extend(of_ranks);
            Gathered::Whole(Box::new(report), amiss)
        }
        None => Gathered::Whole(Box::new(report), amiss),
    }
}
