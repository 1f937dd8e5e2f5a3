//! Listens to multicast groups of the kernel's rtnetlink (`rtnetlink(7)`).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::libc;

use crate::system::SystemError;

/// The kernel tells of a link or a route in less than 4 KiB, one message a datagram.
const BUFFER_BYTES: usize = 32 * 1024;

/// A socket in some groups. The descriptor is readable when there is something to hear.
#[derive(Debug)]
pub(in crate::system) struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Listens to `groups` (`RTNLGRP_…`) in the network namespace of the calling thread. `what` is what they tell of.
    ///
    /// # Errors
    /// When the kernel has no descriptor left.
    pub(in crate::system) fn open(what: &str, groups: &[u32]) -> Result<Monitor, SystemError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            // From now on only the kernel (port 0) is heard.
            socket.connect(&SocketAddr::new(0, 0))?;
            for group in groups {
                socket.add_membership(*group)?;
            }
            Ok(socket)
        };
        let socket = open().map_err(|error: std::io::Error| {
            SystemError::io(format!("listen for changes of {what}"), &error)
        })?;
        Ok(Monitor {
            socket,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Hears what there is to hear now: each datagram. Returns false if the kernel had more to tell than the socket could hold.
    pub(in crate::system) fn hear(&mut self, mut hear: impl FnMut(&[u8])) -> bool {
        let mut is_whole = true;
        loop {
            match self
                .socket
                .recv(&mut &mut self.buffer[..], libc::MSG_DONTWAIT)
            {
                Ok(length) => hear(self.buffer.get(..length).unwrap_or_default()),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EINTR) => {}
                    Some(Errno::ENOBUFS) => is_whole = false,
                    _ => return is_whole,
                },
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The messages of a datagram, each with its type (`RTM_…`) and its payload. One that is cut off ends them.
pub(in crate::system) fn messages(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let end = (message.length() as usize).next_multiple_of(4);
        rest = rest.get(end.max(16)..).unwrap_or_default();
        Some((message.message_type(), message.payload()))
    })
}
