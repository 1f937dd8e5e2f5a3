//! The sockets at which a lab listens: Unix and TCP.
//!
//! A socket belongs to the network namespace in which it was made, whatever becomes of its process. So all are made before
//! the process enters its lab's namespace, and listen where the user is.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use super::client_socket::{ClientSocket, Peer};
use super::control_socket::ControlSocket;
use super::error::SystemError;
use crate::control::ControlAddress;

/// A listening socket. It is closed on exec, so that no hook inherits it.
#[derive(Debug)]
pub enum Listener {
    /// One with a file, whose peers are told apart by their users.
    Unix(ControlSocket),
    /// One of TCP, whose peers the kernel does not tell apart, and its address.
    Tcp(TcpListener, SocketAddr),
}

impl Listener {
    /// Listens at `address`; its port may be 0 for any that is free.
    ///
    /// # Errors
    /// If something else listens there, or the address is none of this machine. As [`ControlSocket::bind`].
    pub fn bind(address: &ControlAddress) -> Result<Listener, SystemError> {
        let address = match address {
            ControlAddress::Path(path) => return ControlSocket::bind(path).map(Listener::Unix),
            ControlAddress::Tcp(address) => *address,
        };
        // The standard library has an address used again where connections of a former run linger (SO_REUSEADDR).
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Listener::Tcp(listener, address))
        });
        bound.map_err(|error| {
            let refused = SystemError::io(format!("listen at {address}"), &error);
            match refused.errno() {
                Some(Errno::EADDRINUSE) => {
                    refused.advise("choose another port, or 0 for one that is free")
                }
                Some(Errno::EADDRNOTAVAIL) => refused.advise("expected an address of this machine"),
                Some(Errno::EACCES) => {
                    refused.advise("expected a port from 1024 on, or 0 for one that is free")
                }
                _ => refused,
            }
        })
    }

    /// The address and the port of TCP; `None` for a Unix socket.
    pub const fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Unix(_) => None,
            Listener::Tcp(_, address) => Some(*address),
        }
    }

    /// Returns the next peer that has connected, `None` if there is none. Neither its socket nor this call waits.
    ///
    /// # Errors
    /// If the kernel can't hand it over: there is no descriptor left, for one.
    pub fn accept(&self) -> io::Result<Option<Peer>> {
        let listener = match self {
            Listener::Unix(socket) => return socket.accept(),
            Listener::Tcp(listener, _) => listener,
        };
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                // Events are small, and a reader waits for each. All works without it, too.
                let _ = stream.set_nodelay(true);
                // So that a peer which has gone without a word leaves its place some time.
                let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
                Ok(Some(Peer {
                    socket: ClientSocket::from(stream),
                    is_served: true,
                }))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Listener::Unix(socket) => socket.as_raw_fd(),
            Listener::Tcp(listener, _) => listener.as_raw_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
    use std::os::fd::BorrowedFd;

    use super::*;

    fn bind(address: &str) -> Result<Listener, SystemError> {
        Listener::bind(&address.parse().unwrap())
    }

    #[test]
    fn a_port_that_is_chosen_is_told_and_taken_until_the_listener_goes() {
        for host in ["127.0.0.1", "[::1]"] {
            let listener = bind(&format!("tcp:{host}:0")).unwrap();
            let address = listener.tcp_address().unwrap();
            assert_ne!(address.port(), 0);
            assert!(listener.accept().unwrap().is_none());
            let _client = TcpStream::connect(address).unwrap();
            let peer = listener.accept().unwrap().unwrap();
            assert!(peer.is_served);
            let error = bind(&format!("tcp:{address}")).unwrap_err().to_string();
            let expected = format!(
                "listen at {address}: Address already in use (EADDRINUSE); choose another port, or 0 for one that is free"
            );
            assert_eq!(error, expected);
            // The connection goes on lingering.
            drop((listener, peer));
            bind(&format!("tcp:{address}")).unwrap();
        }
    }

    #[test]
    fn an_address_of_another_machine_is_refused_with_what_is_expected() {
        let error = bind("tcp:192.0.2.1:0").unwrap_err().to_string();
        assert!(
            error.ends_with("(EADDRNOTAVAIL); expected an address of this machine"),
            "{error}"
        );
    }

    #[test]
    fn no_program_that_is_started_inherits_a_socket_and_none_waits() {
        let listener = bind("tcp:127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.tcp_address().unwrap()).unwrap();
        let peer = listener.accept().unwrap().unwrap();
        let copy = peer.socket.try_clone().unwrap();
        for descriptor in [
            listener.as_raw_fd(),
            peer.socket.as_raw_fd(),
            copy.as_raw_fd(),
        ] {
            #[allow(unsafe_code)]
            // SAFETY: its owner lives until the end of this function.
            let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
            let flags = FdFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
            let flags = OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL).unwrap());
            assert!(flags.contains(OFlag::O_NONBLOCK));
        }
        drop(client);
    }
}
