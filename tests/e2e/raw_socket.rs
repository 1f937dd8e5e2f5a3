//! A raw socket on a link of a lab: whatever a test writes to it goes out on that link, as it is.
//!
//! On a TAP "out" means straight to whoever reads the TAP's file descriptor.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::lab::Lab;

pub struct RawSocket {
    socket: OwnedFd,
    link: libc::sockaddr_ll,
}

impl RawSocket {
    /// Opens the socket in the lab's namespace.
    pub fn on(lab: &Lab, link: &str) -> RawSocket {
        let index = lab.links()[link]["ifindex"].as_i64().expect("ifindex");
        // Only the calling thread changes its namespace, and it is back before this function returns.
        let own = File::open("/proc/thread-self/ns/net").expect("open the test's own namespace");
        let labs =
            File::open(format!("/run/netns/{}", lab.name())).expect("open the lab's namespace");
        setns(labs, CloneFlags::CLONE_NEWNET).expect("enter the lab's namespace");
        // Protocol 0: a socket that only sends.
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None,
        );
        setns(own, CloneFlags::CLONE_NEWNET).expect("leave the lab's namespace");
        let link = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0; 8],
        };
        RawSocket {
            socket: socket.expect("open a packet socket"),
            link,
        }
    }

    /// Sends one frame; false if the link did not take it (down, gone, or its queue full).
    pub fn send(&self, frame: &[u8]) -> bool {
        // SAFETY: the frame and the address outlive the call, and the lengths are theirs.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const self.link).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        sent == frame.len() as isize
    }
}
