//! Memory of the kernel's, or of other processes, as this process has it.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// What a descriptor stands for, mapped into our memory to be read and written.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<c_void>,
    bytes: NonZeroUsize,
}

impl Mapping {
    /// The first `bytes` of it.
    ///
    /// # Errors
    /// The kernel's, when it refuses.
    pub(super) fn of(descriptor: impl AsFd, bytes: NonZeroUsize) -> Result<Mapping, Errno> {
        #[allow(unsafe_code)]
        // SAFETY: a mapping at a place of the kernel's choice changes no memory that is in use.
        let start = unsafe {
            mmap(
                None,
                bytes,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                descriptor,
                0,
            )
        };
        let start = start?;
        Ok(Mapping { start, bytes })
    }

    /// Where it begins.
    pub(super) const fn start(&self) -> NonNull<c_void> {
        self.start
    }

    /// Its length in bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes.get()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[allow(unsafe_code)]
        // SAFETY: nothing refers to the mapping, which is whole, any more.
        let unmapped = unsafe { munmap(self.start, self.bytes.get()) };
        // What was mapped can be unmapped.
        let _ = unmapped;
    }
}
