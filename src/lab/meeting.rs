//! The meeting of ranks: moves bytes between the state machines of [`crate::ranks`] and sockets, and has the run pass gates with
//! the others.

mod gather;
mod sockets;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use mio::Interest;

pub use self::gather::Gathered;
use self::gather::Gathering;
use self::sockets::{Connecting, accept, receive, send};
use super::{LabError, Observer};
use crate::experiment::{Meet, Part};
use crate::ranks::deadlines::{LABS, LABS_OF_A_VM};
use crate::ranks::seal::Secret;
use crate::ranks::{Event, Gate, Identity, Leader, PeerId};
use crate::reactor::{Reactor, Source, Sources};
use crate::system::{
    ClientSocket, MeetingListener, NO_SECRET, PollHandle, SECRET_EXPECTED, SystemError, host_name,
    read_secret,
};
use crate::time::{Clock, Instant, MonotonicClock};

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
    /// The others were told that this one does.
    tells_stop: bool,
    /// The reason why the run ends before its time, if something failed.
    failed: Option<String>,
    is_delivered: bool,
    /// At rank 0, once it has measured all that it will: what was told by it and the others.
    gathering: Option<Gathering>,
    /// What is to be told to the user.
    told: Vec<String>,
}

#[derive(Debug)]
enum Side {
    First(Box<Leader>, MeetingListener, BTreeMap<PeerId, ClientSocket>),
    Other(Box<Connecting>),
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
        let token = read_secret(secret_file.as_deref())?;
        if token.is_none() && !address.is_local() {
            let operation = format!("meet other ranks at {address}");
            return Err(SystemError::refused(operation, NO_SECRET).advise(SECRET_EXPECTED));
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
            false => {
                let connecting = Connecting::new(now, address.clone(), identity, secret);
                Side::Other(Box::new(connecting))
            }
        };
        let vms = u32::try_from(vms).unwrap_or(u32::MAX);
        Ok(Meeting {
            side,
            handle,
            labs: LABS.saturating_add(LABS_OF_A_VM.saturating_mul(vms)),
            has_met: false,
            open: VecDeque::new(),
            is_stopped: false,
            tells_stop: false,
            failed: None,
            is_delivered: false,
            gathering: None,
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
                    // Before the next one is read: there is never more than a document or two.
                    if let Some(gathering) = &mut self.gathering {
                        gathering.take_in(leader);
                    }
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

    /// Tells the others that the run ends here, and rank 0 why if something has failed.
    fn stop(&mut self, why: Option<&str>) {
        match &mut self.side {
            Side::First(leader, ..) => leader.stop(),
            Side::Other(connecting) => {
                if let Some((member, _)) = &mut connecting.connected {
                    member.stop(why);
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
                self.stop(None);
                self.look_after()?;
                return Err(LabError::Ranks(
                    "this rank was told to end before there was a lab".to_owned(),
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
