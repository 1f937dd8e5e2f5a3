//! One client at a socket of a lab: its bytes in both directions, as far as they go now.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use mio::Token;

use crate::control::{Access, Connection};
use crate::fabric::InstrumentConfig;
use crate::reactor::sources::Sources;
use crate::system::ClientSocket;
use crate::time::Instant;

/// Bytes that are written to a client in one call.
const WRITE_BUDGET: usize = 64 << 10;
/// The time within which the reader of a stream has to read something of it.
pub(super) const STREAM_TIME: Duration = Duration::from_secs(30);

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    /// Counts clients.
    pub(super) number: u64,
    pub(super) socket: ClientSocket,
    pub(super) token: Token,
    pub(super) access: Access,
    /// It may control the lab, as it came or has shown since.
    pub(super) is_known: bool,
    pub(super) connection: Connection,
    pub(super) may_read: bool,
    pub(super) may_write: bool,
    /// It was told that nothing more is sent.
    pub(super) is_shut: bool,
    /// The instrument whose records it is to get once it has taken the head of the response.
    pub(super) awaited: Option<InstrumentConfig>,
    pub(super) stream: Option<Watch>,
    /// It has gone, or reads nothing of its stream.
    pub(super) has_failed: bool,
}

/// The reader of a stream, whose socket another writes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    /// Bytes that it had not read at the last look.
    pub(super) unread: usize,
    pub(super) next: Instant,
}

impl Client {
    /// Sends what there is, and reads what has come, as far as both go now.
    pub(super) fn transfer(&mut self, now: Instant, buffer: &mut [u8]) {
        match self.stream {
            Some(watch) => self.look_after_stream(now, watch, buffer),
            None => {
                self.connection.handle_timeout(now);
                self.send(now);
                if self.connection.is_closing() && !self.is_shut {
                    self.is_shut = true;
                    self.has_failed |= self.socket.shutdown_write().is_err();
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
    pub(super) fn send(&mut self, now: Instant) {
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
        let unread = self.socket.unread_bytes().unwrap_or(0);
        self.has_failed |= !has_read && watch.unread > 0 && unread >= watch.unread;
        let next = now + STREAM_TIME;
        self.stream = Some(Watch { unread, next });
    }

    /// Since when another may have its place: first those that ask nothing (false), for longest, then those whose request is
    /// still to be looked at. Of clients that may control the lab no request is given up, and no part of one.
    pub(super) fn free_since(&self) -> Option<(bool, Instant)> {
        let connection = &self.connection;
        let may_ask = self.may_read || connection.may_have_request();
        let asks = may_ask && !connection.is_closing();
        let since = connection.free_since()?;
        let may_go = !self.is_known || !(asks || connection.has_part());
        may_go.then_some((asks, since))
    }

    pub(super) fn is_over(&self) -> bool {
        self.has_failed || (self.stream.is_none() && self.connection.is_over())
    }

    pub(super) fn has_work(&self) -> bool {
        let connection = &self.connection;
        self.is_over()
            || (self.may_read && (self.stream.is_some() || connection.room() > 0))
            || (self.may_write && !connection.transmit().is_empty())
            || connection.may_have_request()
            || connection.wants_piece()
            || (connection.is_closing() && !self.is_shut)
            || (connection.is_open_stream() && self.awaited.is_some())
    }

    pub(super) fn timeout(&self) -> Instant {
        self.stream
            .map_or(self.connection.timeout(), |watch| watch.next)
    }

    /// Has the poll no longer report it. Who writes a stream to its socket finds it closed.
    pub(super) fn end(&self, sources: &mut Sources) {
        let _ = sources.remove(&self.socket, self.token);
        if self.stream.is_some() {
            self.socket.shutdown();
        }
    }
}
