//! The clients of a lab's control socket: reads requests, writes responses, and waits for nobody.
//!
//! The poll reports edges, so what could not be done yet is remembered for each client: [`ControlClients::has_work`] tells
//! that another call should follow without an event. A call does a bounded amount: a read and a write for each client that
//! is ready. Requests come out one by one, in turns; who owns the lab answers as many as a turn of the run may take.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mio::event::Event;
use mio::{Interest, Token};

use super::sources::{Source, Sources};
use crate::control::{ApiError, Connection, Request, Response, status};
use crate::system::{ControlSocket, Peer, SystemError, unread_bytes};
use crate::time::{Instant, earliest};

/// Connections at a time.
pub const MAX_CLIENTS: usize = 32;
/// Connections beside those that are refused, but not closed before they have read why.
const MAX_REFUSED: usize = 4;
/// Connections that are accepted in one call.
const ACCEPT_BUDGET: usize = 8;
/// Bytes that are read from a client in one call.
const READ_BUDGET: usize = 16 << 10;
/// Bytes that are written to a client in one call.
const WRITE_BUDGET: usize = 64 << 10;
/// The time within which the reader of a stream has to read something of it.
const STREAM_TIME: Duration = Duration::from_secs(30);

/// The sources of the control socket that the poll has reported: the socket itself and its clients, a bit for each.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Ready {
    readable: u64,
    writable: u64,
}

impl Ready {
    /// The number of the socket; those of the clients follow.
    const SOCKET: usize = 0;

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

/// A listening control socket and its clients.
#[derive(Debug)]
pub struct ControlClients {
    socket: ControlSocket,
    token: Token,
    /// More may wait to be accepted.
    may_accept: bool,
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

/// A client.
#[derive(Debug)]
struct Client {
    /// Counts clients.
    number: u64,
    socket: UnixStream,
    token: Token,
    connection: Connection,
    may_read: bool,
    may_write: bool,
    /// It was told that nothing more is sent.
    is_shut: bool,
    stream: Option<Watch>,
    /// It has gone, or reads nothing of its stream.
    has_failed: bool,
}

/// The reader of a stream, whose socket another writes to.
#[derive(Clone, Copy, Debug)]
struct Watch {
    /// Bytes that it had not read at the last look.
    unread: usize,
    next: Instant,
}

impl ControlClients {
    /// Serves who connects to `socket`, whose events `sources` tells of.
    ///
    /// # Errors
    /// If the poll does not take the socket.
    pub fn new(
        socket: ControlSocket,
        sources: &mut Sources,
    ) -> Result<ControlClients, SystemError> {
        let source = Source::Control(Ready::SOCKET);
        let token = sources.register(&socket, source, Interest::READABLE);
        let token = token.map_err(|e| SystemError::io("listen at the control socket", &e))?;
        Ok(ControlClients {
            socket,
            token,
            may_accept: true,
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
    /// connections of those that have gone or are too slow.
    pub fn look_after(&mut self, now: Instant, ready: Ready, sources: &mut Sources) {
        self.may_accept |= ready.is_readable(Ready::SOCKET);
        self.accept(now, sources);
        for (number, slot) in self.clients.iter_mut().enumerate() {
            let Some(client) = slot else {
                continue;
            };
            client.may_read |= ready.is_readable(number + 1);
            client.may_write |= ready.is_writable(number + 1);
            client.transfer(now, &mut self.buffer);
            if client.is_over() {
                client.end(sources);
                *slot = None;
            }
        }
    }

    /// Returns the next request, and its client, whom to [respond](ControlClients::respond) to. The clients take turns.
    pub fn request(&mut self, now: Instant) -> Option<(ClientId, Request)> {
        let first = self.next;
        (first..MAX_CLIENTS).chain(0..first).find_map(|number| {
            let client = self.clients.get_mut(number)?.as_mut()?;
            let request = client.connection.request(now)?;
            self.next = (number + 1) % MAX_CLIENTS;
            let id = ClientId {
                place: number,
                number: client.number,
            };
            Some((id, request))
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

    /// Returns a socket on which a response has begun whose [body is a stream](crate::control::Body::Stream), for its
    /// writer.
    pub fn stream(&mut self, now: Instant) -> Option<UnixStream> {
        self.clients.iter_mut().flatten().find_map(|client| {
            if !client.connection.is_open_stream() || client.stream.is_some() {
                return None;
            }
            let next = now + STREAM_TIME;
            client.stream = Some(Watch { unread: 0, next });
            let socket = client.socket.try_clone();
            client.has_failed |= socket.is_err();
            socket.ok()
        })
    }

    /// Returns true if there is something to do without an event.
    pub fn has_work(&self) -> bool {
        self.may_accept || self.clients.iter().flatten().any(Client::has_work)
    }

    /// Returns the time at which a client has to be looked after, if no event comes before. `None` without clients.
    pub fn timeout(&self) -> Option<Instant> {
        let clients = self.clients.iter().flatten();
        clients.fold(None, |first, client| {
            earliest(first, Some(client.timeout()))
        })
    }

    /// Has the poll no longer report the socket and its clients. Responses that clients have not taken are lost.
    pub fn close(self, sources: &mut Sources) {
        for client in self.clients.iter().flatten() {
            client.end(sources);
        }
        let _ = sources.remove(&self.socket, self.token);
    }

    fn accept(&mut self, now: Instant, sources: &mut Sources) {
        for _ in 0..ACCEPT_BUDGET {
            if !self.may_accept {
                return;
            }
            match self.socket.accept() {
                Ok(Some(Peer::User(socket))) => self.add(now, socket, None, sources),
                Ok(Some(Peer::Stranger(socket))) => {
                    let error = ApiError::new(
                        status::FORBIDDEN,
                        "this user is not served",
                        "the user who runs the lab, or root",
                    );
                    self.add(now, socket, Some(error), sources);
                }
                // A client that has gone again, or no descriptor is left: the next one is another event.
                Ok(None) | Err(_) => self.may_accept = false,
            }
        }
    }

    /// Adds a client, who is served, or told why not.
    fn add(
        &mut self,
        now: Instant,
        socket: UnixStream,
        refusal: Option<ApiError>,
        sources: &mut Sources,
    ) {
        let (served, refused) = self.clients.split_at_mut(MAX_CLIENTS);
        let mut served = (0..).zip(served).filter(|(_, slot)| slot.is_none());
        let mut refused = (MAX_CLIENTS..)
            .zip(refused)
            .filter(|(_, slot)| slot.is_none());
        let too_many = || {
            let expected = format!("at most {MAX_CLIENTS} at a time");
            ApiError::new(
                status::UNAVAILABLE,
                "there are too many connections",
                expected,
            )
        };
        let (place, refusal) = match (refusal, served.next()) {
            (None, Some(place)) => (Some(place), None),
            (None, None) => (refused.next(), Some(too_many())),
            (refusal, _) => (refused.next(), refusal),
        };
        let mut connection = Connection::new(now);
        if let Some(refusal) = refusal {
            connection.refuse(now, refusal);
        }
        let Some((number, slot)) = place else {
            // A new socket has room for that; who has sent something meanwhile may not read it.
            let _ = (&socket).write(connection.transmit());
            return;
        };
        let source = Source::Control(number + 1);
        let both = Interest::READABLE | Interest::WRITABLE;
        let Ok(token) = sources.register(&socket, source, both) else {
            return;
        };
        self.count += 1;
        *slot = Some(Client {
            number: self.count,
            socket,
            token,
            connection,
            may_read: true,
            may_write: true,
            is_shut: false,
            stream: None,
            has_failed: false,
        });
    }
}

impl Client {
    /// Sends what there is, and reads what has come, as far as both go now.
    fn transfer(&mut self, now: Instant, buffer: &mut [u8]) {
        match self.stream {
            Some(watch) => self.look_after_stream(now, watch, buffer),
            None => {
                self.connection.handle_timeout(now);
                self.send(now);
                if self.connection.is_closing() && !self.is_shut {
                    self.is_shut = true;
                    self.has_failed |= self.socket.shutdown(Shutdown::Write).is_err();
                }
                let room = self.connection.room().min(buffer.len());
                let length = self.read(buffer.get_mut(..room).unwrap_or_default());
                let came = buffer.get(..length).unwrap_or_default();
                self.connection.handle(now, came);
            }
        }
    }

    /// Reads what has come, once, if anything has. Returns the number of bytes.
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        if !self.may_read || buffer.is_empty() {
            return 0;
        }
        match self.socket.read(buffer) {
            Ok(0) => {
                self.may_read = false;
                self.connection.handle_end();
                // Nobody reads a stream any more.
                self.has_failed |= self.stream.is_some();
                0
            }
            Ok(length) => length,
            Err(error) => {
                match error.kind() {
                    ErrorKind::WouldBlock => self.may_read = false,
                    ErrorKind::Interrupted => {}
                    _ => self.has_failed = true,
                }
                0
            }
        }
    }

    /// Sends what there is, once, if it is taken.
    fn send(&mut self, now: Instant) {
        let bytes = self.connection.transmit();
        let bytes = bytes.get(..WRITE_BUDGET).unwrap_or(bytes);
        if bytes.is_empty() || !self.may_write {
            return;
        }
        match self.socket.write(bytes) {
            Ok(length) => self.connection.transmitted(now, length),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => self.may_write = false,
                ErrorKind::Interrupted => {}
                _ => self.has_failed = true,
            },
        }
    }

    /// Ends a stream whose reader has gone, or has read nothing for long. What a reader sends is thrown away.
    fn look_after_stream(&mut self, now: Instant, watch: Watch, buffer: &mut [u8]) {
        self.read(buffer);
        if now < watch.next {
            return;
        }
        // The poll reports room when enough was read of what had filled the socket.
        let has_read = std::mem::take(&mut self.may_write);
        let unread = unread_bytes(&self.socket).unwrap_or(0);
        self.has_failed |= !has_read && watch.unread > 0 && unread >= watch.unread;
        let next = now + STREAM_TIME;
        self.stream = Some(Watch { unread, next });
    }

    fn is_over(&self) -> bool {
        self.has_failed || (self.stream.is_none() && self.connection.is_over())
    }

    fn has_work(&self) -> bool {
        let connection = &self.connection;
        self.is_over()
            || (self.may_read && (self.stream.is_some() || connection.room() > 0))
            || (self.may_write && !connection.transmit().is_empty())
            || connection.may_have_request()
            || connection.wants_piece()
            || (connection.is_closing() && !self.is_shut)
            || (connection.is_open_stream() && self.stream.is_none())
    }

    fn timeout(&self) -> Instant {
        self.stream
            .map_or(self.connection.timeout(), |watch| watch.next)
    }

    /// Has the poll no longer report it. Who writes a stream to its socket finds it closed.
    fn end(&self, sources: &mut Sources) {
        let _ = sources.remove(&self.socket, self.token);
        if self.stream.is_some() {
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests;
