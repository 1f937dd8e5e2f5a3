//! The clients of a lab's control socket: reads requests, writes responses, and waits for nobody.
//!
//! The poll reports edges, so what could not be done yet is remembered for each client: [`ControlClients::has_work`] tells
//! that another call should follow without an event. A call does a bounded amount: a read and a write for each client that
//! is ready, and one answer.

use std::io::{ErrorKind, Read, Write};
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
    pub(super) fn note(&mut self, number: usize, event: &Event) {
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
    buffer: Vec<u8>,
}

/// A client.
#[derive(Debug)]
struct Client {
    socket: UnixStream,
    token: Token,
    connection: Connection,
    may_read: bool,
    may_write: bool,
    stream: Option<Watch>,
}

/// The reader of a stream, whose socket another writes to.
#[derive(Clone, Copy, Debug)]
struct Watch {
    /// Bytes that it had not read at the last look.
    unread: usize,
    next: Instant,
}

/// The state of a client after it was looked after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Stays,
    Ends,
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
            clients: std::iter::repeat_with(|| None).take(MAX_CLIENTS).collect(),
            next: 0,
            buffer: vec![0; READ_BUDGET],
        })
    }

    /// Looks after the clients at `now`, of which those that are `ready` had an event. At most one request is passed to
    /// `answer`. Returns sockets on which responses have begun whose [bodies are streams](crate::control::Body::Stream), for their writers.
    pub fn work(
        &mut self,
        now: Instant,
        ready: Ready,
        sources: &mut Sources,
        mut answer: impl FnMut(&Request) -> Response,
    ) -> Vec<UnixStream> {
        self.may_accept |= ready.is_readable(Ready::SOCKET);
        self.accept(now, sources);
        let mut streams = Vec::new();
        let mut answer = Some(&mut answer);
        let first = self.next;
        for number in (first..MAX_CLIENTS).chain(0..first) {
            let Some(slot) = self.clients.get_mut(number) else {
                continue;
            };
            let Some(client) = slot else {
                continue;
            };
            client.may_read |= ready.is_readable(number + 1);
            client.may_write |= ready.is_writable(number + 1);
            let fate = client.transfer(now, &mut self.buffer);
            if let Some(ask) = &mut answer
                && fate == Fate::Stays
                && let Some(request) = client.connection.request(now)
            {
                client.connection.respond(now, ask(&request));
                // Others are first next time.
                self.next = (number + 1) % MAX_CLIENTS;
                answer = None;
            }
            let fate = match fate {
                Fate::Stays => client.send(now),
                Fate::Ends => Fate::Ends,
            };
            if client.connection.is_open_stream() && client.stream.is_none() {
                let next = now + STREAM_TIME;
                client.stream = Some(Watch { unread: 0, next });
                streams.extend(client.socket.try_clone());
            }
            if fate == Fate::Ends || client.connection.is_over() {
                client.end(sources);
                *slot = None;
            }
        }
        streams
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
                Ok(Some(Peer::User(socket))) => self.add(now, socket, sources),
                Ok(Some(Peer::Stranger(socket))) => {
                    let error = "this user is not served";
                    turn_away(
                        &socket,
                        status::FORBIDDEN,
                        error,
                        "the user who runs the lab, or root",
                    );
                }
                // A client that has gone again, or no descriptor is left: the next one is another event.
                Ok(None) | Err(_) => self.may_accept = false,
            }
        }
    }

    fn add(&mut self, now: Instant, socket: UnixStream, sources: &mut Sources) {
        let mut slots = self.clients.iter_mut().enumerate();
        let Some((number, slot)) = slots.find(|(_, slot)| slot.is_none()) else {
            let expected = format!("at most {MAX_CLIENTS} at a time");
            return turn_away(
                &socket,
                status::UNAVAILABLE,
                "there are too many connections",
                expected,
            );
        };
        let source = Source::Control(number + 1);
        let both = Interest::READABLE | Interest::WRITABLE;
        let Ok(token) = sources.register(&socket, source, both) else {
            return turn_away(
                &socket,
                status::UNAVAILABLE,
                "the poll takes no more",
                "fewer connections",
            );
        };
        *slot = Some(Client {
            socket,
            token,
            connection: Connection::new(now),
            may_read: true,
            may_write: true,
            stream: None,
        });
    }
}

/// Tells a client why it is not served. A socket that is new has room for that.
fn turn_away(mut socket: &UnixStream, status: u16, error: &str, expected: impl Into<String>) {
    let error = ApiError::new(status, error, expected);
    let _ = socket.write(&Response::from(error).to_bytes());
}

impl Client {
    /// Sends what there is, and reads what has come, as far as both go now.
    fn transfer(&mut self, now: Instant, buffer: &mut [u8]) -> Fate {
        if let Some(watch) = self.stream {
            return self.look_after_stream(now, watch, buffer);
        }
        self.connection.handle_timeout(now);
        if self.send(now) == Fate::Ends {
            return Fate::Ends;
        }
        let room = self.connection.room().min(buffer.len());
        let Some(buffer) = buffer
            .get_mut(..room)
            .filter(|buffer| !buffer.is_empty() && self.may_read)
        else {
            return Fate::Stays;
        };
        match self.socket.read(buffer) {
            Ok(0) => {
                self.may_read = false;
                self.connection.handle_end();
            }
            Ok(length) => {
                let came = buffer.get(..length).unwrap_or_default();
                self.connection.handle(now, came);
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => self.may_read = false,
                ErrorKind::Interrupted => {}
                _ => return Fate::Ends,
            },
        }
        Fate::Stays
    }

    /// Sends what there is, once, if it is taken.
    fn send(&mut self, now: Instant) -> Fate {
        let bytes = self.connection.transmit();
        let bytes = bytes.get(..WRITE_BUDGET).unwrap_or(bytes);
        if bytes.is_empty() || !self.may_write {
            return Fate::Stays;
        }
        match self.socket.write(bytes) {
            Ok(length) => self.connection.transmitted(now, length),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => self.may_write = false,
                ErrorKind::Interrupted => {}
                _ => return Fate::Ends,
            },
        }
        Fate::Stays
    }

    /// Ends a stream whose reader has gone, or has read nothing for long. What a reader sends is thrown away.
    fn look_after_stream(&mut self, now: Instant, watch: Watch, buffer: &mut [u8]) -> Fate {
        if self.may_read {
            match self.socket.read(buffer) {
                Ok(0) => return Fate::Ends,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.may_read = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Fate::Ends,
            }
        }
        if now < watch.next {
            return Fate::Stays;
        }
        // The poll reports room when enough was read of what had filled the socket.
        let has_read = std::mem::take(&mut self.may_write);
        let unread = unread_bytes(&self.socket).unwrap_or(0);
        self.stream = Some(Watch {
            unread,
            next: now + STREAM_TIME,
        });
        match has_read || watch.unread == 0 || unread < watch.unread {
            true => Fate::Stays,
            false => Fate::Ends,
        }
    }

    fn has_work(&self) -> bool {
        let connection = &self.connection;
        match self.stream {
            Some(_) => self.may_read,
            None => {
                (self.may_read && connection.room() > 0)
                    || (self.may_write && !connection.transmit().is_empty())
                    || connection.may_have_request()
                    || connection.is_over()
            }
        }
    }

    fn timeout(&self) -> Instant {
        self.stream
            .map_or(self.connection.timeout(), |watch| watch.next)
    }

    /// Has the poll no longer report it. Who writes a stream to its socket finds it closed.
    fn end(&self, sources: &mut Sources) {
        let _ = sources.remove(&self.socket, self.token);
        if self.stream.is_some() {
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests;
