//! Memory of several processes of one machine: the launcher of ranks makes it, and starts them with its descriptor open.

use std::fmt;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::str::FromStr;
use std::sync::atomic::AtomicU64;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

use super::error::SystemError;
use super::inherited::{set_inherited, take_inherited};
use super::mapping::Mapping;

const OPERATION: &str = "share memory with other ranks";
const WORD: usize = size_of::<u64>();

/// The descriptor of memory that a process has from its launcher, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryDescriptor(RawFd);

impl fmt::Display for MemoryDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MemoryDescriptor {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<MemoryDescriptor, Self::Err> {
        text.parse().map(MemoryDescriptor)
    }
}

/// Memory for processes that this one starts. It takes room where it is written to.
#[derive(Debug)]
pub struct SharedMemory(OwnedFd);

impl SharedMemory {
    /// Makes `words` words, all 0.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(words: usize) -> Result<SharedMemory, SystemError> {
        let refused = |errno| SystemError::kernel(OPERATION, errno);
        let flags = MFdFlags::MFD_CLOEXEC;
        let descriptor = memfd_create("tap-reactor", flags).map_err(refused)?;
        let bytes = i64::try_from(words.saturating_mul(WORD)).unwrap_or(i64::MAX);
        ftruncate(&descriptor, bytes).map_err(refused)?;
        Ok(SharedMemory(descriptor))
    }

    /// Has processes that this one starts from now on inherit it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn pass_on(&self) -> Result<MemoryDescriptor, SystemError> {
        set_inherited(self.0.as_fd(), true, OPERATION)?;
        Ok(MemoryDescriptor(self.0.as_raw_fd()))
    }
}

/// That memory, as this process has it.
#[derive(Debug)]
pub struct SharedWords(Mapping);

impl SharedWords {
    /// That which the launcher of this process has passed on.
    ///
    /// # Errors
    /// When the kernel refuses, or it is none.
    pub fn inherited(
        MemoryDescriptor(number): MemoryDescriptor,
    ) -> Result<SharedWords, SystemError> {
        let refused = |errno| SystemError::kernel(OPERATION, errno);
        let descriptor = take_inherited(number, OPERATION)?;
        let bytes = fstat(&descriptor).map_err(refused)?.st_size;
        let bytes = usize::try_from(bytes).ok().and_then(NonZeroUsize::new);
        let bytes = bytes.ok_or_else(|| SystemError::refused(OPERATION, "it has no length"))?;
        let mapping = Mapping::of(&descriptor, bytes).map_err(refused)?;
        Ok(SharedWords(mapping))
    }
}

impl AsRef<[AtomicU64]> for SharedWords {
    #[inline]
    fn as_ref(&self) -> &[AtomicU64] {
        #[allow(unsafe_code)]
        // SAFETY: the mapping begins at a page, is so long, and lives as long as `self`; its file is not cut shorter by anybody.
        // Every process goes by atomic words.
        unsafe {
            std::slice::from_raw_parts(self.0.start().as_ptr().cast(), self.0.bytes() / WORD)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_one_mapping_has_written_another_reads() {
        let memory = SharedMemory::new(1 << 20).unwrap();
        let mapped = || {
            let copy = memory.0.try_clone().unwrap();
            SharedWords::inherited(MemoryDescriptor(copy.into_raw_fd())).unwrap()
        };
        let (one, other) = (mapped(), mapped());
        let last = (1 << 20) - 1;
        assert_eq!(one.as_ref().len(), 1 << 20);
        one.as_ref()[last].store(7, Ordering::Release);
        assert_eq!(other.as_ref()[last].load(Ordering::Acquire), 7);
        assert_eq!(other.as_ref()[0].load(Ordering::Acquire), 0);
    }
}
