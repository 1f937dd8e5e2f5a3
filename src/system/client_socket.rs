//! The socket of a client of a lab, Unix or TCP: from here on they are the same.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use mio::Interest;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

use super::poll_handle::PollHandle;
use crate::fabric::output::Sink;

/// A client that has connected.
#[derive(Debug)]
pub struct Peer {
    /// Its socket.
    pub socket: ClientSocket,
    /// False if it is another user than those who are served, or one whom the kernel can't name in this user namespace.
    pub is_served: bool,
}

/// A connected stream socket that never waits, and never signals that its peer has gone (`SIGPIPE`).
#[derive(Debug)]
pub struct ClientSocket(OwnedFd);

/// From a nonblocking one.
impl From<UnixStream> for ClientSocket {
    fn from(stream: UnixStream) -> ClientSocket {
        ClientSocket(stream.into())
    }
}

/// From a nonblocking one.
impl From<OwnedFd> for ClientSocket {
    fn from(socket: OwnedFd) -> ClientSocket {
        ClientSocket(socket)
    }
}

/// From a nonblocking one.
impl From<TcpStream> for ClientSocket {
    fn from(stream: TcpStream) -> ClientSocket {
        ClientSocket(stream.into())
    }
}

impl ClientSocket {
    /// Returns another descriptor of the same socket.
    ///
    /// # Errors
    /// If the process has none left.
    pub fn try_clone(&self) -> io::Result<ClientSocket> {
        self.0.try_clone().map(ClientSocket)
    }

    /// Ends what is sent: the peer reads the end.
    ///
    /// # Errors
    /// If it is not connected any more.
    pub fn shutdown_write(&self) -> io::Result<()> {
        Ok(shutdown(self.as_raw_fd(), Shutdown::Write)?)
    }

    /// Ends both directions, for all of the socket's descriptors.
    pub fn shutdown(&self) {
        // Fails where the peer has gone.
        let _ = shutdown(self.as_raw_fd(), Shutdown::Both);
    }

    /// Returns the number of bytes that were written and that the peer has not read (`SIOCOUTQ`, `unix(7)`), or of TCP, that
    /// its kernel has not taken for it (`tcp(7)`).
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn unread_bytes(&self) -> io::Result<usize> {
        nix::ioctl_read_bad!(unsent, nix::libc::TIOCOUTQ, nix::libc::c_int);
        let mut bytes = 0;
        #[allow(unsafe_code)]
        // SAFETY: the kernel writes one `int` to that address.
        unsafe { unsent(self.as_raw_fd(), &mut bytes) }?;
        Ok(usize::try_from(bytes).unwrap_or(0))
    }
}

impl AsRawFd for ClientSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Read for ClientSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.as_raw_fd(), buffer, MsgFlags::empty())?)
    }
}

impl Write for ClientSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what an instrument has to the socket of a client, as much as it has room for.
#[derive(Debug)]
pub struct SocketSink(ClientSocket);

impl SocketSink {
    /// Writes to `socket`. `pipes` reports when it has room again.
    ///
    /// # Errors
    /// If the poll does not take it.
    pub fn new(socket: ClientSocket, pipes: &PollHandle) -> io::Result<SocketSink> {
        pipes.register(&socket, 0, Interest::WRITABLE)?;
        Ok(SocketSink(socket))
    }
}

impl Sink for SocketSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            written => written,
        }
    }

    /// The run does not wait for clients at its end either.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.write(bytes)? {
            written if written == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn is_waited_for(&self) -> bool {
        false
    }

    fn is_read_live(&self) -> bool {
        true
    }
}
