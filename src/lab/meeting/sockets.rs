//! Moves bytes between the sockets of ranks and their state machines.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use mio::Interest;

use crate::ranks::deadlines::MEETING;
use crate::ranks::seal::Secret;
use crate::ranks::{Event, Identity, Leader, Member, PeerId};
use crate::system::{
    ClientSocket, MeetingAddress, MeetingListener, PollHandle, SystemError, nonce,
};
use crate::time::{Clock, Instant, MonotonicClock};

/// The time between two attempts to connect to a meeting point where nobody listens yet.
const RETRY: Duration = Duration::from_millis(50);
/// Bytes read at a time.
const PIECE: usize = 64 * 1024;
/// Pieces read from one socket before the others.
const READ_BUDGET: usize = 64;

/// A rank that connects to rank 0.
#[derive(Debug)]
pub(super) struct Connecting {
    address: MeetingAddress,
    identity: Identity,
    secret: Secret,
    /// The time of the next attempt, and of the last.
    pub(super) retry_at: Instant,
    until: Instant,
    pub(super) connected: Option<(Member, ClientSocket)>,
    /// Something was read.
    is_heard: bool,
}

impl Connecting {
    /// A rank that begins to connect to `address` at `now`.
    pub(super) fn new(
        now: Instant,
        address: MeetingAddress,
        identity: Identity,
        secret: Secret,
    ) -> Connecting {
        Connecting {
            address,
            identity,
            secret,
            retry_at: now,
            until: now + MEETING,
            connected: None,
            is_heard: false,
        }
    }

    pub(super) fn look_after(&mut self, handle: &PollHandle) -> Result<(), SystemError> {
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

    pub(super) fn next_event(&mut self) -> Option<Event> {
        let (member, _) = self.connected.as_mut()?;
        member.next_event()
    }
}

/// Takes in new connections.
pub(super) fn accept(
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
pub(super) fn receive(socket: &mut ClientSocket, mut take: impl FnMut(Instant, &[u8])) -> bool {
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
pub(super) fn send(socket: &mut ClientSocket, bytes: &[u8]) -> Option<usize> {
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
