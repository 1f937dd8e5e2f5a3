//! Tells whoever waits for a lab that it is the kernel that is waited for.
//!
//! The kernel changes links one after the other, on the whole machine (`rtnl_lock()` of `net/core/rtnetlink.c`). While it
//! removes thousands of them, somebody else's request waits in a system call that runs no signal handler, and a run has no
//! second thread. So a child process looks on (`fork(2)`): it has a page of memory in common with the run, where that notes
//! when it asks the kernel and when it has the answer, and a pipe that ends with the run.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe2};

use super::error::SystemError;

/// What the run has asked, and what was answered, counted together: odd while it waits. Null while nobody looks on.
static COUNT: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

const PAGE_BYTES: std::num::NonZeroUsize = std::num::NonZeroUsize::new(4096).unwrap();
/// A second, in looks of so many milliseconds.
const LOOKS: u32 = 4;
const LOOK_MILLIS: u8 = 250;

/// A request that the kernel has not answered yet, while this lives.
#[derive(Debug)]
pub(super) struct Asking(());

impl Asking {
    /// To be called just before a system call that changes or makes a link or a namespace.
    pub(super) fn begin() -> Asking {
        count();
        Asking(())
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        count();
    }
}

fn count() {
    let count = COUNT.load(Ordering::Relaxed);
    #[allow(unsafe_code)]
    // SAFETY: null, or a page that stays until it is null again; a run has no other thread that would unmap it meanwhile.
    if let Some(count) = unsafe { count.as_ref() } {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Looks on while a lab is built.
#[derive(Debug)]
pub struct KernelWait {
    child: Pid,
    /// Open in this process alone.
    pipe: Option<OwnedFd>,
    page: NonNull<libc::c_void>,
}

impl KernelWait {
    /// Calls `say` once when the kernel has not answered a request of this process for a second, in a child process. To be
    /// called in a process that has one thread.
    ///
    /// # Errors
    /// When there is no room for a process, or a descriptor.
    pub fn watch(say: impl FnOnce()) -> Result<KernelWait, SystemError> {
        let operation = "look on while the kernel makes links";
        KernelWait::try_watch(say).map_err(|errno| SystemError::kernel(operation, errno))
    }

    fn try_watch(say: impl FnOnce()) -> Result<KernelWait, Errno> {
        let (ends, pipe) = pipe2(OFlag::O_CLOEXEC)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        #[allow(unsafe_code)]
        // SAFETY: a new page of zeros, which nobody else has.
        let page = unsafe { mmap_anonymous(None, PAGE_BYTES, access, MapFlags::MAP_SHARED) }?;
        let counter: NonNull<AtomicU32> = page.cast();
        #[allow(unsafe_code)]
        // SAFETY: the only thread goes on in the child, which so may do what any process may.
        let forked = unsafe { fork() };
        match forked {
            Ok(ForkResult::Child) => {
                drop(pipe);
                ignore_signals();
                #[allow(unsafe_code)]
                // SAFETY: the page is there as long as this process, large enough, and aligned.
                look_on(&ends, unsafe { counter.as_ref() }, say);
                #[allow(unsafe_code)]
                // SAFETY: nothing of the parent's is to be ended or written here.
                unsafe {
                    libc::_exit(0)
                }
            }
            Ok(ForkResult::Parent { child }) => {
                COUNT.store(counter.as_ptr(), Ordering::Relaxed);
                Ok(KernelWait {
                    child,
                    pipe: Some(pipe),
                    page,
                })
            }
            Err(errno) => {
                unmap(page);
                Err(errno)
            }
        }
    }
}

impl Drop for KernelWait {
    fn drop(&mut self) {
        COUNT.store(ptr::null_mut(), Ordering::Relaxed);
        self.pipe = None;
        while waitpid(self.child, None) == Err(Errno::EINTR) {}
        unmap(self.page);
    }
}

fn unmap(page: NonNull<libc::c_void>) {
    #[allow(unsafe_code)]
    // SAFETY: it was mapped with this size, and nobody has its address any more.
    let _ = unsafe { munmap(page, PAGE_BYTES.get()) };
}

/// Leaves it to the run what a signal ends.
fn ignore_signals() {
    for each in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        #[allow(unsafe_code)]
        // SAFETY: no code of this process runs on it.
        let _ = unsafe { signal(each, SigHandler::SigIgn) };
    }
}

/// Looks at the count until `ends` is closed, or there was something to say.
fn look_on(ends: &OwnedFd, count: &AtomicU32, say: impl FnOnce()) {
    let (mut before, mut looks) = (0, 0);
    loop {
        let mut ends = [PollFd::new(ends.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ends, PollTimeout::from(LOOK_MILLIS)) {
            Ok(0) => {}
            Err(Errno::EINTR) => continue,
            Ok(_) | Err(_) => return,
        }
        let now = count.load(Ordering::Relaxed);
        looks = match now % 2 == 1 && now == before {
            true => looks + 1,
            false => 0,
        };
        before = now;
        if looks == LOOKS {
            return say();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a count, if the run ends before there is anything to say.
    fn said(count: u32, ends_at_once: bool) -> bool {
        let (ends, run) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let run = Some(run).filter(|_| !ends_at_once);
        let mut said = false;
        look_on(&ends, &AtomicU32::new(count), || said = true);
        drop(run);
        said
    }

    #[test]
    fn a_request_that_is_not_answered_is_told_and_none_that_was() {
        assert!(said(1, false));
        assert!(!said(1, true));
    }
}
