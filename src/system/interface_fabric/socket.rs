//! The two sockets of a port: one that receives, by a ring, and one that sends.
//!
//! They are apart because what is received has a header before it that says what its sender has left to a network card
//! (`PACKET_VNET_HDR`), and what is sent needs none.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::unistd::write;

use super::ring::Ring;
use crate::fabric::{Write, WriteDrop};
use crate::system::error::SystemError;
use crate::system::packet_socket::{bind_to, open_unbound};

/// Bytes of frames larger than a slot that wait in the socket.
const SOCKET_BYTES: usize = 8 << 20;

/// An error of a socket.
pub(super) fn socket_error(what: &str, errno: Errno) -> SystemError {
    let error = SystemError::kernel(format!("{what} a packet socket"), errno);
    match errno {
        Errno::EPERM | Errno::EACCES => error.advise("--fabric interface needs root (CAP_NET_RAW)"),
        _ => error,
    }
}

/// Sets an option of a packet socket.
pub(super) fn set_option<T>(socket: &impl AsFd, name: i32, value: &T) -> Result<(), SystemError> {
    set(socket, libc::SOL_PACKET, name, value)
}

fn set<T>(socket: &impl AsFd, level: i32, name: i32, value: &T) -> Result<(), SystemError> {
    #[allow(unsafe_code)]
    // SAFETY: the descriptor is open, and so many bytes of the value can be read.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    Errno::result(outcome)
        .map(drop)
        .map_err(|errno| socket_error("set up", errno))
}

/// A packet socket that hears nothing yet.
fn open() -> Result<OwnedFd, SystemError> {
    open_unbound().map_err(|errno| socket_error("open", errno))
}

/// Binds the socket to an interface, to hear such protocols there.
fn bind(socket: &OwnedFd, interface: u32, protocol: u16) -> Result<(), SystemError> {
    bind_to(socket, interface, protocol).map_err(|errno| socket_error("bind", errno))
}

/// Drops what is for the host that the interface belongs to (`PACKET_HOST`), before it takes room in the ring.
fn leave_to_host(socket: &OwnedFd) -> Result<(), SystemError> {
    let instruction = |code: u32, jumps: (u8, u8), k: u32| libc::sock_filter {
        code: code as u16,
        jt: jumps.0,
        jf: jumps.1,
        k,
    };
    let packet_type = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
    let mut program = [
        instruction(
            libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
            (0, 0),
            packet_type,
        ),
        instruction(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            (0, 1),
            libc::PACKET_HOST.into(),
        ),
        instruction(libc::BPF_RET | libc::BPF_K, (0, 0), 0),
        instruction(libc::BPF_RET | libc::BPF_K, (0, 0), u32::MAX),
    ];
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Receives all frames of an interface but those for the host and those that this machine sends there itself.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) ring: Ring,
    socket: OwnedFd,
}

impl Receiver {
    /// Begins to receive at an interface, which takes frames for every hardware address as long as this lives. `slots` frames of
    /// `mtu` bytes wait, not more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn open(interface: u32, slots: usize, mtu: usize) -> Result<Receiver, SystemError> {
        const ON: libc::c_int = 1;
        let socket = open()?;
        set_option(
            &socket,
            libc::PACKET_VERSION,
            &(libc::tpacket_versions::TPACKET_V2 as libc::c_int),
        )?;
        set_option(&socket, libc::PACKET_VNET_HDR, &ON)?;
        set_option(&socket, libc::PACKET_IGNORE_OUTGOING, &ON)?;
        // A frame that is larger than its slot, as one that is still to be cut, is queued as well.
        set_option(&socket, libc::PACKET_COPY_THRESH, &ON)?;
        // Without the privilege, as much as the system allows.
        if setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BYTES).is_err() {
            let _ = setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BYTES);
        }
        leave_to_host(&socket)?;
        let ring = Ring::of(&socket, slots, mtu)?;
        let membership = libc::packet_mreq {
            mr_ifindex: interface as i32,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set_option(&socket, libc::PACKET_ADD_MEMBERSHIP, &membership)?;
        bind(&socket, interface, libc::ETH_P_ALL as u16)?;
        Ok(Receiver { ring, socket })
    }

    /// Takes the frame that is larger than its slot, with the header before it, into `space`. Returns true if it was there.
    pub(super) fn take_large(&self, space: &mut [u8]) -> bool {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        recv(self.socket.as_raw_fd(), space, flags).is_ok_and(|length| length == space.len())
    }

    /// How many frames found no room since the last call.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(super) fn take_drops(&self) -> Result<u64, SystemError> {
        let mut counted = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut length = size_of_val(&counted) as libc::socklen_t;
        #[allow(unsafe_code)]
        // SAFETY: the descriptor is open, and so many bytes of the structure can be written.
        let outcome = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut counted).cast(),
                &raw mut length,
            )
        };
        Errno::result(outcome).map_err(|errno| socket_error("read the counters of", errno))?;
        Ok(counted.tp_drops.into())
    }
}

impl AsRawFd for Receiver {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Sends frames at an interface.
#[derive(Debug)]
pub(super) struct Sender(OwnedFd);

impl Sender {
    /// Binds to an interface.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn open(interface: u32) -> Result<Sender, SystemError> {
        let socket = open()?;
        bind(&socket, interface, 0)?;
        Ok(Sender(socket))
    }

    /// Gives one frame to the kernel.
    #[inline]
    pub(super) fn send(&self, frame: &[u8]) -> Write {
        loop {
            return match write(&self.0, frame) {
                Ok(_) => Write::Sent,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN | Errno::ENOBUFS) => Write::Dropped(WriteDrop::QueueFull),
                Err(Errno::ENETDOWN | Errno::ENXIO | Errno::ENODEV) => {
                    Write::Dropped(WriteDrop::LinkDown)
                }
                Err(_) => Write::Dropped(WriteDrop::Refused),
            };
        }
    }
}
