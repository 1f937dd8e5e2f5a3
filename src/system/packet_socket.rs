//! A socket that sends and receives Ethernet frames at an interface (`packet(7)`).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{read, write};

use super::error::SystemError;

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
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        // Without a protocol it hears nothing before it is bound.
        let socket: OwnedFd =
            socket(AddressFamily::Packet, SockType::Raw, flags, None).map_err(refused)?;
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
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
        Errno::result(bound).map_err(refused)?;
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
