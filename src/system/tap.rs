//! One TAP device: an Ethernet port of the kernel whose other end is a file descriptor.
//!
//! Read the kernel's `Documentation/networking/tuntap.rst` first, then `drivers/net/tun.c`.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::libc::{self, sock_filter, sock_fprog};

use super::error::SystemError;
use super::kernel_wait::Asking;
use super::name_rules::validate_interface_name;
use crate::fabric::{Read, Write, WriteDrop};

const TUN_DEVICE: &str = "/dev/net/tun";

/// `struct ifreq` of `linux/if.h` with `ifr_flags` as the member of its union.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest_of_union: [u8; 22],
}

/// Every ioctl on a TAP.
mod ioctl {
    use super::InterfaceRequest;
    use nix::{ioctl_readwrite_bad, ioctl_write_int_bad, ioctl_write_ptr_bad, libc};

    // Declared as a write by the kernel's header, but the kernel writes the name back: hence a pointer to mutable.
    ioctl_readwrite_bad!(
        set_interface,
        libc::TUNSETIFF as libc::c_ulong,
        InterfaceRequest
    );
    ioctl_write_ptr_bad!(
        attach_filter,
        libc::TUNATTACHFILTER as libc::c_ulong,
        libc::sock_fprog
    );
    ioctl_write_int_bad!(set_persist, libc::TUNSETPERSIST as libc::c_ulong);
}

/// A TAP device that this process is attached to. Frames have neither preamble nor packet information (`IFF_NO_PI`).
///
/// The file descriptor is non-blocking and closed on exec. Closing it removes the device, unless that is
/// [persistent](Tap::set_persistent).
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    name: String,
}

impl Tap {
    /// Makes the TAP `name`, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the name is unfit or taken (`IFF_TUN_EXCL`: an existing device is never taken over), or when the kernel
    /// does not let us.
    pub fn create(name: &str) -> Result<Tap, SystemError> {
        let operation = || format!("create TAP {name}");
        Tap::open(name, libc::IFF_TUN_EXCL, operation).map_err(|error| match error.errno() {
            Some(Errno::EBUSY | Errno::EEXIST) => {
                error.advise(format!("the name {name} is taken: choose another --tap-prefix"))
            }
            Some(Errno::EPERM) => error.advise(
                "making a TAP needs CAP_NET_ADMIN in its namespace: run as root, or with --netns private",
            ),
            _ => error,
        })
    }

    /// Attaches to the TAP `name`, which should exist.
    ///
    /// `TUNSETIFF` makes a device that does not exist: look it up by netlink first.
    ///
    /// # Errors
    /// When it is no TAP, is in use by another process, or belongs to another user.
    pub fn attach(name: &str) -> Result<Tap, SystemError> {
        let operation = || format!("attach to TAP {name}");
        Tap::open(name, 0, operation).map_err(|error| match error.errno() {
            Some(Errno::EBUSY) => error.advise(format!("another process is attached to {name}; expected a TAP that none is attached to")),
            Some(Errno::EINVAL) => error.advise(format!(
                "{name} must be a TAP with a single queue, as `ip tuntap add dev {name} mode tap` makes it"
            )),
            Some(Errno::EPERM) => error.advise(format!(
                "run as root, or make it yours: ip tuntap add dev {name} mode tap user $USER"
            )),
            _ => error,
        })
    }

    fn open(
        name: &str,
        extra_flags: libc::c_int,
        operation: impl Fn() -> String,
    ) -> Result<Tap, SystemError> {
        validate_interface_name(name).map_err(|why| SystemError::refused(operation(), why))?;
        let fd: OwnedFd = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(TUN_DEVICE)
            .map_err(|error| no_tun_device(&SystemError::io(operation(), &error)))?
            .into();
        let mut request = InterfaceRequest {
            name: [0; libc::IFNAMSIZ],
            flags: (libc::IFF_TAP | libc::IFF_NO_PI | extra_flags) as u16,
            rest_of_union: [0; 22],
        };
        for (slot, byte) in request.name.iter_mut().zip(name.bytes()) {
            *slot = byte;
        }
        let _asking = Asking::begin();
        #[allow(unsafe_code)]
        // SAFETY: the descriptor is open, and the request is as large as the kernel's `struct ifreq` and outlives the call.
        unsafe { ioctl::set_interface(fd.as_raw_fd(), &mut request) }
            .map_err(|errno| SystemError::kernel(operation(), errno))?;
        Ok(Tap {
            fd,
            name: name.to_owned(),
        })
    }

    /// Sets whether the device stays when the descriptor is closed.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_persistent(&self, persistent: bool) -> Result<(), SystemError> {
        #[allow(unsafe_code)]
        // SAFETY: the descriptor is open, and the argument is a plain number.
        unsafe { ioctl::set_persist(self.fd.as_raw_fd(), persistent.into()) }
            .map(drop)
            .map_err(|errno| {
                SystemError::kernel(format!("set whether TAP {} persists", self.name), errno)
            })
    }

    /// Attaches `program` (classic BPF), which the kernel runs on each frame before it queues it here; it drops the frame if
    /// the program returns 0. Counts as `tx_dropped` of the interface. Belongs to the device, not to the descriptor: it
    /// outlives this process if the device does.
    ///
    /// # Errors
    /// When the kernel refuses the program.
    pub fn attach_filter(&self, program: &mut [sock_filter]) -> Result<(), SystemError> {
        let operation = || format!("attach a filter to TAP {}", self.name);
        let length = u16::try_from(program.len())
            .map_err(|_| SystemError::refused(operation(), "the program is too long"))?;
        let program = sock_fprog {
            len: length,
            filter: program.as_mut_ptr(),
        };
        #[allow(unsafe_code)]
        // SAFETY: the descriptor is open; the kernel copies `len` instructions from `filter`, which is that long.
        unsafe { ioctl::attach_filter(self.fd.as_raw_fd(), &program) }
            .map(drop)
            .map_err(|errno| SystemError::kernel(operation(), errno))
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes one frame from the device's queue. A frame longer than `buffer` is cut off at its end.
    #[inline]
    pub fn read(&self, buffer: &mut [u8]) -> Read {
        loop {
            return match nix::unistd::read(&self.fd, buffer) {
                Ok(length) => Read::Frame(length),
                Err(Errno::EAGAIN) => Read::Empty,
                Err(Errno::EINTR) => continue,
                Err(_) => Read::Failed,
            };
        }
    }

    /// Gives one frame to the kernel, which carries it through the bridge before this returns.
    #[inline]
    pub fn write(&self, frame: &[u8]) -> Write {
        loop {
            return match nix::unistd::write(&self.fd, frame) {
                Ok(_) => Write::Sent,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN | Errno::ENOBUFS) => Write::Dropped(WriteDrop::QueueFull),
                Err(Errno::EIO) => Write::Dropped(WriteDrop::LinkDown),
                Err(_) => Write::Dropped(WriteDrop::Refused),
            };
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Says what to do when `/dev/net/tun` itself can't be opened.
fn no_tun_device(error: &SystemError) -> SystemError {
    let at_device =
        |errno| SystemError::kernel(format!("{} (open {TUN_DEVICE})", error.operation()), errno);
    match error.errno() {
        Some(Errno::ENOENT) => at_device(Errno::ENOENT).advise(format!(
            "load the driver and make its node: modprobe tun; mkdir -p /dev/net; mknod -m 666 {TUN_DEVICE} c 10 200 \
             (in a container: --device {TUN_DEVICE})"
        )),
        Some(Errno::ENODEV | Errno::ENXIO) => {
            at_device(Errno::ENODEV).advise("this kernel has no TUN/TAP driver: modprobe tun")
        }
        Some(errno @ (Errno::EPERM | Errno::EACCES)) => at_device(errno).advise(format!(
            "run as root, or open the node to all as usual: chmod 666 {TUN_DEVICE} (in a container: --device {TUN_DEVICE})"
        )),
        Some(errno) => at_device(errno),
        None => error.clone(),
    }
}
