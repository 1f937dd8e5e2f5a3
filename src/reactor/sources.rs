//! The sources of the poll's events, and their tokens: handed out here and nowhere else.
//!
//! The TAPs have the tokens from [`FIRST_TAP`] on, one after the other, so that the VM of an event follows from its token
//! without a look-up. Each other source has a smaller one, which is free again when the source is removed.

use std::io;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::system::{FabricHandles, PollHandle, SystemError};
use crate::vm::VmId;

/// Number of sources that are no TAPs, at most. The TAP of `vm0` has this token.
const FIRST_TAP: usize = 64;

/// The cause of an event of the poll.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The TAP of this VM can be read.
    Tap(VmId),
    /// Frames have arrived at a port that several VMs are behind: the fabric knows [for whom](crate::fabric::Fabric::next_receiver).
    Ports,
    /// The timer has expired.
    Timer,
    /// A signal has arrived.
    Signals,
    /// Another process has changed a link of the fabric.
    Links,
    /// A move of a VM has ended.
    Moves,
    /// The kernel has dropped frames.
    Drops,
    /// A pipe that an instrument writes to has room again.
    Pipes,
    /// Something has come from other ranks, or can be sent to them.
    Ranks,
    /// The listening socket, or the client, with this number can be read or written.
    Control(usize),
}

/// Hands out the tokens of a poll, and finds the source of each.
#[derive(Debug)]
pub struct Sources {
    registry: Registry,
    /// By token: the sources that are no TAPs.
    others: [Option<Source>; FIRST_TAP],
}

impl Sources {
    /// Takes charge of the tokens of the poll of `registry`.
    ///
    /// # Errors
    /// If the process has no file descriptor left for it.
    pub fn new(registry: &Registry) -> Result<Sources, SystemError> {
        let cloned = registry.try_clone();
        let registry = cloned.map_err(|e| SystemError::io("share the poll", &e))?;
        Ok(Sources {
            registry,
            others: [None; FIRST_TAP],
        })
    }

    /// Has the poll report `descriptor`, edge-triggered, as `source`. Returns its token, which is `source`'s until it is
    /// [removed](Sources::remove).
    ///
    /// # Errors
    /// If 64 sources are registered already, or the kernel refuses.
    pub fn register(
        &mut self,
        descriptor: &impl AsRawFd,
        source: Source,
        interest: Interest,
    ) -> io::Result<Token> {
        let token = self.take_token(source)?;
        let mut descriptor = SourceFd(&descriptor.as_raw_fd());
        let registered = self.registry.register(&mut descriptor, token, interest);
        if registered.is_err() {
            self.free(token);
        }
        registered.map(|()| token)
    }

    /// Has the poll report `descriptor`, which is registered with `token`, as `interest` says from now on.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_interest(
        &self,
        descriptor: &impl AsRawFd,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        let mut descriptor = SourceFd(&descriptor.as_raw_fd());
        self.registry.reregister(&mut descriptor, token, interest)
    }

    /// Has the poll no longer report `descriptor`, and frees `token`, with which it is registered. An event of the same
    /// turn that the poll has reported already has no source then.
    ///
    /// # Errors
    /// If it is not registered.
    pub fn remove(&mut self, descriptor: &impl AsRawFd, token: Token) -> io::Result<()> {
        self.free(token);
        let mut descriptor = SourceFd(&descriptor.as_raw_fd());
        self.registry.deregister(&mut descriptor)
    }

    /// Returns the source with that token. `None` if it was removed.
    #[inline]
    pub fn get(&self, token: Token) -> Option<Source> {
        match token.0.checked_sub(FIRST_TAP) {
            // TAPs are numbered by 32 bits.
            Some(index) => Some(Source::Tap(VmId(index as u32))),
            None => self.others.get(token.0).copied().flatten(),
        }
    }

    /// Returns the handles with which a fabric registers what it has polled.
    ///
    /// # Errors
    /// As [`Sources::handle`].
    pub fn of_fabric(&mut self) -> Result<FabricHandles, SystemError> {
        Ok(FabricHandles {
            taps: PollHandle::new(&self.registry, Token(FIRST_TAP))?,
            ports: self.handle(Source::Ports)?,
            links: self.handle(Source::Links)?,
            moves: self.handle(Source::Moves)?,
            drops: self.handle(Source::Drops)?,
        })
    }

    /// Returns a handle whose descriptors, any number of them, are all reported as `source`.
    ///
    /// # Errors
    /// If 64 sources are registered already, or the process has no file descriptor left.
    pub fn handle(&mut self, source: Source) -> Result<PollHandle, SystemError> {
        let token = self.take_token(source);
        let token = token.map_err(|e| SystemError::io("find a token of the poll", &e))?;
        PollHandle::new(&self.registry, token)
    }

    fn take_token(&mut self, source: Source) -> io::Result<Token> {
        let free = self.others.iter_mut().enumerate();
        let mut free = free.filter(|(_, slot)| slot.is_none());
        let (number, slot) = free.next().ok_or(io::ErrorKind::QuotaExceeded)?;
        *slot = Some(source);
        Ok(Token(number))
    }

    fn free(&mut self, token: Token) {
        if let Some(slot) = self.others.get_mut(token.0) {
            *slot = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    fn reported(poll: &mut Poll, sources: &Sources) -> Vec<Option<Source>> {
        let mut events = Events::with_capacity(16);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        let tokens = events.iter().map(|event| event.token());
        tokens.map(|token| sources.get(token)).collect()
    }

    #[test]
    fn an_event_has_the_source_that_its_descriptor_was_registered_as() {
        let mut poll = Poll::new().unwrap();
        let mut sources = Sources::new(poll.registry()).unwrap();
        let (timer, mut to_timer) = UnixStream::pair().unwrap();
        let (tap, mut to_tap) = UnixStream::pair().unwrap();
        let (pipe, mut to_pipe) = UnixStream::pair().unwrap();
        let token = sources
            .register(&timer, Source::Timer, Interest::READABLE)
            .unwrap();
        let of_fabric = sources.of_fabric().unwrap();
        of_fabric
            .taps
            .register(&tap, 7, Interest::READABLE)
            .unwrap();
        let handle = sources.handle(Source::Pipes).unwrap();
        handle.register(&pipe, 0, Interest::READABLE).unwrap();
        for (stream, source) in [
            (&mut to_timer, Source::Timer),
            (&mut to_tap, Source::Tap(VmId(7))),
            (&mut to_pipe, Source::Pipes),
        ] {
            stream.write_all(b"x").unwrap();
            assert_eq!(reported(&mut poll, &sources), [Some(source)]);
        }
        sources
            .set_interest(&timer, token, Interest::WRITABLE)
            .unwrap();
        assert_eq!(reported(&mut poll, &sources), [Some(Source::Timer)]);
        sources.remove(&timer, token).unwrap();
        to_timer.write_all(b"x").unwrap();
        assert_eq!(reported(&mut poll, &sources), []);
        assert_eq!(sources.get(token), None);
    }

    #[test]
    fn tokens_are_used_again_and_run_out() {
        let poll = Poll::new().unwrap();
        let mut sources = Sources::new(poll.registry()).unwrap();
        let (one, _other) = UnixStream::pair().unwrap();
        let register =
            |sources: &mut Sources| sources.register(&one, Source::Timer, Interest::READABLE);
        let token = register(&mut sources).unwrap();
        register(&mut sources).expect_err("it is registered already");
        let others: Vec<_> = (1..FIRST_TAP)
            .map(|_| sources.handle(Source::Links).unwrap())
            .collect();
        assert_eq!(
            others.len(),
            FIRST_TAP - 1,
            "the refused one has taken none"
        );
        sources.handle(Source::Pipes).expect_err("none is left");
        sources.remove(&one, token).unwrap();
        assert_eq!(register(&mut sources).unwrap(), token);
    }

    #[test]
    fn the_token_of_a_tap_is_that_of_no_other() {
        let poll = Poll::new().unwrap();
        let mut sources = Sources::new(poll.registry()).unwrap();
        let last = (0..FIRST_TAP).map(|_| sources.take_token(Source::Links).unwrap());
        assert_eq!(last.last(), Some(Token(FIRST_TAP - 1)));
        assert_eq!(sources.get(Token(FIRST_TAP)), Some(Source::Tap(VmId(0))));
    }
}
