//! The sockets at which a lab listens: what clients ask for is carried out between two turns of the run.

mod listen;
mod misbehaviours;
mod moves;
mod present;
mod works;

use self::listen::told;
pub(super) use self::listen::{Listeners, listen};
pub(super) use self::present::MOST_CAPTURES;
use self::present::Present;
use self::works::{Stepped, Works};
use super::{Driver, LabError, LabOn, Observer, instruments};
use crate::control::{Access, Body, LabState, Request, Response, Work, answer};
use crate::fabric::{Fabric, InstrumentConfig};
use crate::hypervisor::Command;
use crate::reactor::{ClientId, ControlClients, End, Source};
use crate::system::{ClientSocket, PollHandle, SocketSink, SystemError};
use crate::time::{Clock, Instant, MonotonicClock, earliest};

/// The clients of a lab, and what they have changed.
#[derive(Debug)]
pub(super) struct Control {
    clients: ControlClients,
    /// The poll's handle for the sockets of streams.
    pipes: PollHandle,
    /// The command that made the run.
    command: String,
    /// It was told to stop, or its run is over.
    end: Option<LabState>,
    works: Works,
    /// The kind of the last slice.
    slice: Slice,
}

/// What a call does for clients: one of these, so that it takes less than a millisecond.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Slice {
    /// Takes a request.
    #[default]
    Request,
    /// Goes on with a request that takes long.
    Work,
    /// Writes a piece of a response.
    Piece,
}

impl Slice {
    const ALL: [Slice; 3] = [Slice::Request, Slice::Work, Slice::Piece];

    const fn next(self) -> Slice {
        match self {
            Slice::Request => Slice::Work,
            Slice::Work => Slice::Piece,
            Slice::Piece => Slice::Request,
        }
    }
}

impl Control {
    /// Returns the time by which clients have to be looked after without an event.
    fn timeout(&self) -> Option<Instant> {
        match self.clients.has_work() || self.works.is_any(self.clients.with_pieces()) {
            true => Some(Instant::ZERO),
            false => self.clients.timeout(),
        }
    }
}

impl<F, D> LabOn<'_, F, D>
where
    F: Fabric,
    D: Driver<F>,
    SystemError: From<F::Error>,
{
    /// Begins to serve at `listeners`, if there are any, and tells `observer` of those over TCP.
    pub(super) fn serve_at(
        &mut self,
        listeners: Listeners,
        observer: &mut dyn Observer,
    ) -> Result<(), SystemError> {
        if listeners.is_empty() {
            return Ok(());
        }
        let (places, warnings) = told(&listeners);
        warnings.iter().for_each(|words| observer.warns(words));
        places.iter().for_each(|words| observer.listens(words));
        let sources = self.driver.sources()?;
        self.control = Some(Control {
            clients: ControlClients::new(listeners, sources)?,
            pipes: sources.handle(Source::Pipes)?,
            command: observer.command(),
            end: None,
            works: Works::default(),
            slice: Slice::default(),
        });
        Ok(())
    }

    /// Runs as [`Driver::run`] does, and looks after other ranks and the clients of the control socket meanwhile.
    pub(super) fn run_and_serve(&mut self, until: Option<Instant>) -> Result<End, SystemError> {
        loop {
            let of_ranks = self.meet_others()?;
            let of_clients = self.control.as_ref().and_then(Control::timeout);
            if self.meeting.is_some() || self.control.is_some() {
                self.driver.call_at(earliest(of_clients, of_ranks));
            }
            match self.driver.run(&mut self.hypervisor, until)? {
                End::Called => self.serve()?,
                end => return Ok(end),
            }
        }
    }

    /// Looks after the clients of the control socket once the run is over, until a signal or a client has enough.
    pub(super) fn serve_after_run(&mut self) -> Result<(), SystemError> {
        while let Some(control) = &mut self.control {
            if control.end == Some(LabState::Stopping) && !control.clients.has_work() {
                return Ok(());
            }
            control.end.get_or_insert(LabState::Over);
            self.driver.call_at(control.timeout());
            match self.driver.wait()? {
                End::Called => self.serve()?,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// Closes the control socket.
    pub(super) fn stop_listening(&mut self) {
        if let Some(control) = self.control.take()
            && let Ok(sources) = self.driver.sources()
        {
            control.clients.close(sources);
        }
    }

    /// Looks after the clients of the control socket, and carries out a slice of what one of them wants.
    fn serve(&mut self) -> Result<(), SystemError> {
        let Some(mut control) = self.control.take() else {
            return Ok(());
        };
        // Clients wait in real time, even for a simulation.
        let now = MonotonicClock.now();
        let ready = self.driver.take_ready();
        let sources = self.driver.sources()?;
        if control.clients.look_after(now, ready, sources) {
            self.hypervisor.fabric().resume();
        }
        let clients = &control.clients;
        control.works.forget(|client| !clients.is_there(client));
        self.serve_slice(&mut control, now);
        while let Some((socket, instrument)) = control.clients.stream(now) {
            // A client whose stream can't begin finds it closed.
            let _ = self.stream(&control, socket, &instrument);
        }
        self.control = Some(control);
        Ok(())
    }

    /// Takes the next request, carries out a slice of one, or writes a piece of a response, each in its turn.
    fn serve_slice(&mut self, control: &mut Control, now: Instant) {
        for _ in Slice::ALL {
            control.slice = control.slice.next();
            let is_done = match control.slice {
                Slice::Request => self.take_request(control, now),
                Slice::Work => self.step_work(control),
                Slice::Piece => control.clients.add_piece(now),
            };
            if is_done {
                return;
            }
        }
    }

    /// Answers a request as a client of the lab's sockets with that access would be. Returns `None` of a lab without any.
    pub fn answer(&mut self, access: &Access, request: &Request) -> Option<Response> {
        self.present(|present| answer(present, access, request))
    }

    /// Carries out a slice of what [a response](LabOn::answer) left for later. Returns the response once all is done.
    pub fn go_on(&mut self, work: &mut Work) -> Option<Response> {
        self.present(|present| work.step(present)).flatten()
    }

    /// Shows the lab to `act`, as routes see it. Returns `None` of a lab without sockets.
    fn present<T>(&mut self, act: impl FnOnce(&mut Present<'_, '_, F, D>) -> T) -> Option<T> {
        let mut control = self.control.take()?;
        let acted = act(&mut Present {
            lab: self,
            control: &mut control,
        });
        self.control = Some(control);
        Some(acted)
    }

    /// Answers the next request, or begins to carry it out. Returns false if there is none.
    fn take_request(&mut self, control: &mut Control, now: Instant) -> bool {
        let Some((client, access, request)) = control.clients.request(now) else {
            return false;
        };
        let mut present = Present { lab: self, control };
        let response = answer(&mut present, &access, &request);
        respond(control, client, response);
        true
    }

    /// Carries out a slice of a request. Returns false if there is none.
    fn step_work(&mut self, control: &mut Control) -> bool {
        let taken = control.clients.with_pieces();
        let mut works = std::mem::take(&mut control.works);
        let mut present = Present { lab: self, control };
        let stepped = works.step(taken, |work| work.step(&mut present));
        control.works = works;
        match stepped {
            Stepped::Nothing => return false,
            Stepped::Slice => {}
            Stepped::Done(client, response) => respond(control, client, *response),
        }
        true
    }

    /// Has `instrument` write to `socket` from now on.
    fn stream(
        &mut self,
        control: &Control,
        socket: ClientSocket,
        instrument: &InstrumentConfig,
    ) -> Result<(), LabError> {
        let sink = SocketSink::new(socket, &control.pipes)
            .map_err(|e| SystemError::io("begin a stream", &e))?;
        let run = self.run_words(&control.command);
        let made = instruments::make_for(&self.plan, instrument, run, Box::new(sink))?;
        self.carry_out(Command::Observe(made))?;
        Ok(())
    }
}

/// Answers `client`, or remembers what is to be carried out for it.
fn respond(control: &mut Control, client: ClientId, response: Response) {
    let response = match response.body {
        Body::Later(work) => match control.works.add(client, work) {
            Ok(()) => return,
            Err(refused) => refused.into(),
        },
        _ => response,
    };
    let now = MonotonicClock.now();
    control.clients.respond(now, client, response);
}

#[cfg(test)]
mod tests;
