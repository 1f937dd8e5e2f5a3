//! A handle of the poll, with which descriptors of one kind are registered.
//!
//! The owner of the poll hands it out with the tokens to use, so that who registers a descriptor knows neither which numbers
//! are free nor who else has some.

use std::io;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::SystemError;

/// Registers descriptors with a poll, by the tokens from a first one on.
#[derive(Debug)]
pub struct PollHandle {
    registry: Registry,
    first: Token,
}

/// The handles with which a fabric registers what it has polled.
#[derive(Debug)]
pub struct FabricHandles {
    /// For TAPs, each by the number of its VM.
    pub taps: PollHandle,
    /// For ports that several VMs are behind.
    pub ports: PollHandle,
    /// For what tells of changes of links and routes.
    pub links: PollHandle,
    /// For what tells of moves that have ended.
    pub moves: PollHandle,
    /// For what tells of frames that the kernel drops.
    pub drops: PollHandle,
}

impl PollHandle {
    /// Creates a handle of the poll of `registry` for the tokens from `first` on.
    ///
    /// # Errors
    /// If the process has no file descriptor left for it.
    pub fn new(registry: &Registry, first: Token) -> Result<PollHandle, SystemError> {
        let cloned = registry.try_clone();
        let registry = cloned.map_err(|e| SystemError::io("share the poll", &e))?;
        Ok(PollHandle { registry, first })
    }

    /// Has the poll report `descriptor`, edge-triggered, by the token `number` places behind the first.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn register(
        &self,
        descriptor: &impl AsRawFd,
        number: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let token = Token(self.first.0 + number);
        let mut source = SourceFd(&descriptor.as_raw_fd());
        self.registry.register(&mut source, token, interest)
    }

    /// Has the poll no longer report `descriptor`.
    ///
    /// # Errors
    /// If it is not registered.
    pub fn deregister(&self, descriptor: &impl AsRawFd) -> io::Result<()> {
        let mut source = SourceFd(&descriptor.as_raw_fd());
        self.registry.deregister(&mut source)
    }
}
