//! The clients at the sockets of a lab: reads requests, writes responses, and waits for nobody.
//!
//! The poll reports edges, so what could not be done yet is remembered for each client: [`ControlClients::has_work`] tells
//! that another call should follow without an event. A call does a bounded amount: a read and a write for each client that
//! is ready. Requests come out one by one, in turns; who owns the lab answers as many as a turn of the run may take.
//!
//! Places are few. When all are taken, who comes gets that of a client that asks nothing, so that only requests under way
//! keep others out: half a request counts as one if its client has [shown](Access::is_shown_by) that it may control the lab.

mod client;

use std::io::{ErrorKind, Write};

use mio::event::Event;
use mio::{Interest, Token};

use self::client::{Client, STREAM_TIME, Watch};
use super::sources::{Source, Sources};
use crate::control::{
    Access, ApiError, Body, Connection, MAX_LISTENERS, Request, Response, status,
};
use crate::fabric::InstrumentConfig;
use crate::system::{ClientSocket, Listener, Peer, SystemError};
use crate::time::{Instant, earliest};

/// Connections at a time, of all sockets together; of one with less than all [access](Access::most_clients) fewer.
pub const MAX_CLIENTS: usize = Access::User.most_clients();
/// Connections beside those that are refused, but not closed before they have read why.
pub const MAX_REFUSED: usize = 4;
/// Connections that are accepted in one call.
const ACCEPT_BUDGET: usize = 8;
/// Bytes that are read from a client in one call.
const READ_BUDGET: usize = 16 << 10;

/// The sources of control that the poll has reported: the sockets that listen and their clients, a bit for each.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Ready {
    readable: u64,
    writable: u64,
}

impl Ready {
    /// The number of the first client, after those of the sockets that listen.
    const FIRST_CLIENT: usize = MAX_LISTENERS;

    /// Notes an event of the source with that number.
    pub(crate) fn note(&mut self, number: usize, event: &Event) {
        self.readable |= u64::from(event.is_readable()) << number;
        self.writable |= u64::from(event.is_writable()) << number;
    }

    /// Returns true if there was an event of any.
    pub const fn is_any(self) -> bool {
        self.readable | self.writable != 0
    }

    const fn is_readable(self, number: usize) -> bool {
        self.readable >> number & 1 != 0
    }

    const fn is_writable(self, number: usize) -> bool {
        self.writable >> number & 1 != 0
    }
}

/// Listening sockets and their clients.
#[derive(Debug)]
pub struct ControlClients {
    doors: Vec<Door>,
    clients: Vec<Option<Client>>,
    /// The client that is answered next, if several wait.
    next: usize,
    /// The client that gets the next piece of its response, if several want one.
    next_piece: usize,
    /// The clients so far.
    count: u64,
    buffer: Vec<u8>,
}

/// A client, whose place another may have taken since.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ClientId {
    place: usize,
    number: u64,
}

/// A listening socket.
#[derive(Debug)]
struct Door {
    listener: Listener,
    access: Access,
    token: Token,
    /// More may wait to be accepted.
    may_accept: bool,
}

impl ControlClients {
    /// Serves who connects to one of `listeners`, of which there are up to [`MAX_LISTENERS`], as far as its access goes.
    /// `sources` tells of their events.
    ///
    /// # Errors
    /// If the poll does not take a socket.
    pub fn new(
        listeners: Vec<(Listener, Access)>,
        sources: &mut Sources,
    ) -> Result<ControlClients, SystemError> {
        let doors = listeners.into_iter().enumerate();
        let doors = doors.map(|(number, (listener, access))| {
            let source = Source::Control(number);
            let token = sources.register(&listener, source, Interest::READABLE);
            Ok(Door {
                token: token.map_err(|e| SystemError::io("listen to clients", &e))?,
                listener,
                access,
                may_accept: true,
            })
        });
        Ok(ControlClients {
            doors: doors.collect::<Result<_, SystemError>>()?,
            clients: std::iter::repeat_with(|| None)
                .take(MAX_CLIENTS + MAX_REFUSED)
                .collect(),
            next: 0,
            next_piece: 0,
            count: 0,
            buffer: vec![0; READ_BUDGET],
        })
    }

    /// Looks after the clients at `now`, of which those that are `ready` had an event: accepts, reads, writes, and ends the
    /// connections of those that have gone or are too slow. Returns true if there was a stream on one of those.
    pub fn look_after(&mut self, now: Instant, ready: Ready, sources: &mut Sources) -> bool {
        for (number, door) in self.doors.iter_mut().enumerate() {
            door.may_accept |= ready.is_readable(number);
        }
        self.accept(now, sources);
        let mut has_ended_stream = false;
        let numbered = (Ready::FIRST_CLIENT..).zip(&mut self.clients);
        for (number, slot) in numbered {
            let Some(client) = slot else {
                continue;
            };
            client.may_read |= ready.is_readable(number);
            client.may_write |= ready.is_writable(number);
            client.transfer(now, &mut self.buffer);
            if client.is_over() {
                has_ended_stream |= client.stream.is_some();
                client.end(sources);
                *slot = None;
            }
        }
        has_ended_stream
    }

    /// Returns the next request, its client, whom to [respond](ControlClients::respond) to, and the access that it has. The
    /// clients take turns.
    pub fn request(&mut self, now: Instant) -> Option<(ClientId, Access, Request)> {
        let first = self.next;
        (first..MAX_CLIENTS).chain(0..first).find_map(|number| {
            let client = self.clients.get_mut(number)?.as_mut()?;
            let request = client.connection.request(now)?;
            client.is_known |= client.access.is_shown_by(&request);
            self.next = (number + 1) % MAX_CLIENTS;
            let id = ClientId {
                place: number,
                number: client.number,
            };
            Some((id, client.access.clone(), request))
        })
    }

    /// Returns true if the client has not gone.
    pub fn is_there(&self, id: ClientId) -> bool {
        let client = self.clients.get(id.place).and_then(Option::as_ref);
        client.is_some_and(|client| client.number == id.number)
    }

    /// Answers the request of a client, unless it has gone.
    pub fn respond(&mut self, now: Instant, id: ClientId, response: Response) {
        let client = self.clients.get_mut(id.place).and_then(Option::as_mut);
        if let Some(client) = client.filter(|client| client.number == id.number) {
            client.awaited = match &response.body {
                Body::Stream(instrument) => Some(instrument.clone()),
                _ => None,
            };
            client.connection.respond(now, response);
            client.send(now);
        }
    }

    /// Writes a piece of a response that is written [in pieces](crate::control::Body::Pieces), if a client wants one. Returns
    /// false if none does.
    pub fn add_piece(&mut self, now: Instant) -> bool {
        let first = self.next_piece;
        let next = (first..MAX_CLIENTS).chain(0..first).find(|number| {
            let client = self.clients.get(*number).and_then(Option::as_ref);
            client.is_some_and(|client| client.connection.wants_piece())
        });
        let Some(number) = next else {
            return false;
        };
        self.next_piece = (number + 1) % MAX_CLIENTS;
        if let Some(Some(client)) = self.clients.get_mut(number) {
            client.connection.add_piece(now);
            client.send(now);
        }
        true
    }

    /// Returns the number of clients that take a response in pieces.
    pub fn with_pieces(&self) -> usize {
        let clients = self.clients.iter().flatten();
        clients
            .filter(|client| client.connection.has_pieces())
            .count()
    }

    /// Returns a socket on which a response has begun whose [body is a stream](crate::control::Body::Stream), and the
    /// instrument that is to write it.
    pub fn stream(&mut self, now: Instant) -> Option<(ClientSocket, InstrumentConfig)> {
        self.clients.iter_mut().flatten().find_map(|client| {
            if !client.connection.is_open_stream() {
                return None;
            }
            let instrument = client.awaited.take()?;
            let next = now + STREAM_TIME;
            client.stream = Some(Watch { unread: 0, next });
            let socket = client.socket.try_clone();
            client.has_failed |= socket.is_err();
            Some((socket.ok()?, instrument))
        })
    }

    /// Returns true if there is something to do without an event.
    pub fn has_work(&self) -> bool {
        self.doors.iter().any(|door| door.may_accept)
            || self.clients.iter().flatten().any(Client::has_work)
    }

    /// Returns the time at which a client has to be looked after, if no event comes before. `None` without clients.
    pub fn timeout(&self) -> Option<Instant> {
        let clients = self.clients.iter().flatten();
        clients.fold(None, |first, client| {
            earliest(first, Some(client.timeout()))
        })
    }

    /// Has the poll no longer report the sockets and their clients. Responses that clients have not taken are lost.
    pub fn close(self, sources: &mut Sources) {
        for client in self.clients.iter().flatten() {
            client.end(sources);
        }
        for door in &self.doors {
            let _ = sources.remove(&door.listener, door.token);
        }
    }

    fn accept(&mut self, now: Instant, sources: &mut Sources) {
        for number in 0..self.doors.len() {
            for _ in 0..ACCEPT_BUDGET {
                let Some(door) = self.doors.get_mut(number).filter(|door| door.may_accept) else {
                    break;
                };
                match door.listener.accept() {
                    Ok(Some(peer)) => {
                        let access = door.access.clone();
                        self.add(now, peer, access, sources);
                    }
                    // A client that has gone again.
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                    // Or no descriptor is left: the next client is another event.
                    Ok(None) | Err(_) => door.may_accept = false,
                }
            }
        }
    }

    /// Adds a client, who is served, or told why not.
    fn add(&mut self, now: Instant, peer: Peer, access: Access, sources: &mut Sources) {
        let Peer { socket, is_served } = peer;
        let most = access.most_clients();
        let (served, refused) = self.clients.split_at_mut(MAX_CLIENTS);
        let has_place = is_served && make_place(served, most, sources);
        let served = (0..).zip(served).find(|(_, slot)| slot.is_none());
        let refused = (MAX_CLIENTS..)
            .zip(refused)
            .find(|(_, slot)| slot.is_none());
        let (place, refusal) = match served.filter(|_| has_place) {
            Some(place) => (Some(place), None),
            None if is_served => (refused, Some(too_many(most))),
            None => (refused, Some(not_served())),
        };
        let mut connection = Connection::new(now);
        if let Some(refusal) = refusal {
            connection.refuse(now, refusal);
        }
        let Some((number, slot)) = place else {
            // A new socket has room for that; who has sent something meanwhile may not read it.
            let _ = { socket }.write(connection.transmit());
            return;
        };
        let source = Source::Control(Ready::FIRST_CLIENT + number);
        let both = Interest::READABLE | Interest::WRITABLE;
        let Ok(token) = sources.register(&socket, source, both) else {
            return;
        };
        self.count += 1;
        *slot = Some(Client {
            number: self.count,
            socket,
            token,
            is_known: access.is_known(),
            access,
            connection,
            may_read: true,
            may_write: true,
            is_shut: false,
            awaited: None,
            stream: None,
            has_failed: false,
        });
    }
}

/// Makes sure that there is a place for a client whose access has `most` places: one that asks nothing goes for it, the one
/// that has asked nothing for longest, of those that have not shown that they may control the lab if there are any. Returns
/// false if none can go.
fn make_place(clients: &mut [Option<Client>], most: usize, sources: &mut Sources) -> bool {
    let is_full = |limit: &usize| {
        let clients = clients.iter().flatten();
        let within = clients.filter(|client| client.access.most_clients() <= *limit);
        within.count() >= *limit
    };
    // Who goes is within the larger limits, too.
    let mut limits = Access::MOST_CLIENTS.into_iter();
    let Some(limit) = limits.find(|limit| *limit >= most && is_full(limit)) else {
        return true;
    };
    let free = clients.iter_mut().filter_map(|slot| {
        let client = slot.as_ref()?;
        let is_within = client.access.most_clients() <= limit;
        let since = client.free_since().filter(|_| is_within)?;
        Some(((client.is_known, since), slot))
    });
    let longest = free.min_by_key(|(order, _)| *order);
    let displaced = longest.and_then(|(_, slot)| slot.take());
    displaced.is_some_and(|client| {
        client.end(sources);
        true
    })
}

fn too_many(most: usize) -> ApiError {
    let error = "there are too many connections";
    let expected = format!("at most {most} at a time");
    ApiError::new(status::UNAVAILABLE, error, expected)
}

fn not_served() -> ApiError {
    let expected = "the user who runs the lab, or root";
    ApiError::new(status::FORBIDDEN, "this user is not served", expected)
}

#[cfg(test)]
mod tests;
