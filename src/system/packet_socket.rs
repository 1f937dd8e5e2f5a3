//! A socket that sends and receives Ethernet frames at an interface (`packet(7)`).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{read, write};

use super::error::SystemError;

/// Opens a socket that hears nothing before it is bound, and never waits.
pub(super) fn open_unbound() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Packet, SockType::Raw, flags, None)
}

/// Binds the socket to the interface with the index `interface`, to hear frames of `protocol` there: 0 for none.
pub(super) fn bind_to(socket: &OwnedFd, interface: u32, protocol: u16) -> Result<(), Errno> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: interface as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    #[allow(unsafe_code)]
    // SAFETY: the descriptor is open, the address is a whole `struct sockaddr_ll`, and the length is its own.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    Errno::result(bound).map(drop)
}

/// The socket. It never waits.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Binds to the interface with the index `interface`, in the namespace of the calling thread: all frames that it receives or
    /// sends are heard.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(interface: u32) -> Result<PacketSocket, SystemError> {
        let refused = |errno| SystemError::kernel("open a packet socket", errno);
        let socket = open_unbound().map_err(refused)?;
        bind_to(&socket, interface, libc::ETH_P_ALL as u16).map_err(refused)?;
        Ok(PacketSocket(socket))
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        write(&self.0, frame)?;
        Ok(())
    }

    /// Receives a frame, cut to the length of `buffer`, and returns its length. `None` when none is there.
    ///
    /// # Errors
    /// When the interface is gone or down.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match read(&self.0, buffer) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl From<PacketSocket> for OwnedFd {
    fn from(socket: PacketSocket) -> OwnedFd {
        socket.0
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
