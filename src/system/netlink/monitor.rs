//! Listens to multicast groups of the kernel's rtnetlink (`rtnetlink(7)`).

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg};

use crate::system::SystemError;

/// The kernel tells of a link or a route in less than 4 KiB, one message a datagram.
const BUFFER_BYTES: usize = 8 * 1024;
/// Datagrams that one system call takes: more than what a bridge has to tell when a port comes or goes.
const BATCH: usize = 8;

/// A socket in some groups. The descriptor is readable when there is something to hear.
#[derive(Debug)]
pub(in crate::system) struct Monitor {
    socket: Socket,
    buffers: Vec<u8>,
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
            buffers: vec![0; BATCH * BUFFER_BYTES],
        })
    }

    /// Hears what there is to hear now: each datagram, many by one system call. Returns false if the kernel had more to tell
    /// than the socket could hold; what it had meanwhile the next call tells.
    pub(in crate::system) fn hear(&mut self, mut hear: impl FnMut(&[u8])) -> bool {
        let mut is_whole = true;
        let descriptor = self.socket.as_raw_fd();
        let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
        loop {
            let buffers = self.buffers.chunks_exact_mut(BUFFER_BYTES);
            let mut buffers: Vec<[IoSliceMut<'_>; 1]> =
                buffers.map(|buffer| [IoSliceMut::new(buffer)]).collect();
            let taken = recvmmsg(
                descriptor,
                &mut headers,
                &mut buffers,
                MsgFlags::MSG_DONTWAIT,
                None,
            );
            match taken {
                Ok(taken) => {
                    let mut datagrams = 0;
                    for datagram in taken {
                        datagrams += 1;
                        datagram.iovs().for_each(&mut hear);
                    }
                    // Of what comes later the poll tells.
                    if datagrams < BATCH {
                        return is_whole;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => is_whole = false,
                Err(_) => return is_whole,
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
