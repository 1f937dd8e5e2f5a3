//! Descriptors that a process gets from the one that has started it.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::error::SystemError;

/// Has a descriptor stay open in processes that this one starts, or not; `operation` is what that is for.
pub(super) fn set_inherited(
    descriptor: BorrowedFd<'_>,
    is_inherited: bool,
    operation: &str,
) -> Result<(), SystemError> {
    let flags = match is_inherited {
        true => FdFlag::empty(),
        false => FdFlag::FD_CLOEXEC,
    };
    let set = fcntl(descriptor, FcntlArg::F_SETFD(flags));
    set.map(|_| ())
        .map_err(|errno| SystemError::kernel(operation, errno))
}

/// Takes the descriptor of that number, which the launcher of this process has left open for it.
pub(super) fn take_inherited(number: RawFd, operation: &str) -> Result<OwnedFd, SystemError> {
    #[allow(unsafe_code)]
    // SAFETY: the launcher left it open for this process, and nothing else here knows of it. One that is not open is
    // found out next, and borrowed no longer.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    set_inherited(borrowed, false, operation)?;
    #[allow(unsafe_code)]
    // SAFETY: it is open, and was this process's from its start on without an owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
