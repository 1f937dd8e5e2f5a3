//! How much memory the process has.

/// Memory that this process has of its own, in bytes: what it allocated and has written to, without the pages of the
/// program's file, of which each first call brings in 64 KiB more. `None` where the kernel does not tell.
///
/// `Anonymous` of `/proc/self/smaps_rollup`, which is exact: the figures in `statm` may be off by some hundred kilobytes,
/// because each CPU counts for itself (`mm_counter` in `include/linux/mm.h`).
pub fn allocated_bytes() -> Option<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    kilobytes(&rollup, "Anonymous:")
}

/// Bytes of memory that programs can still have without others being swapped out (`MemAvailable`, `proc_meminfo(5)`).
/// `None` where the kernel does not tell.
pub fn available_bytes() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    kilobytes(&told, "MemAvailable:")
}

/// The value of the line that begins with `name`, in bytes.
fn kilobytes(told: &str, name: &str) -> Option<u64> {
    let line = told.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryUse {
    /// The most that was ever resident.
    pub peak: u64,
    /// Resident now.
    pub present: u64,
}

/// The memory of this process now and at most, from `VmRSS` and `VmHWM` of `/proc/self/status`, which may be off by some
/// hundred kilobytes each. `None` where the kernel does not tell.
pub fn memory_use() -> Option<MemoryUse> {
    parse_status(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_status(status: &str) -> Option<MemoryUse> {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kilobytes.checked_mul(1024)
    };
    Some(MemoryUse {
        peak: bytes("VmHWM:")?,
        present: bytes("VmRSS:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_and_the_present_are_told_apart() {
        let status = "Name:\tx\nVmPeak:\t   9 kB\nVmHWM:\t     300 kB\nVmRSS:\t     200 kB\nRssAnon:\t 1 kB\n";
        let memory = MemoryUse {
            peak: 300 << 10,
            present: 200 << 10,
        };
        assert_eq!(parse_status(status), Some(memory));
        for broken in [
            "",
            "VmHWM:\t300 kB\n",
            "VmHWM: 1 kB\nVmRSS: 1 MB\n",
            "VmHWM: 1 kB\nVmRSS: -1 kB\n",
        ] {
            assert_eq!(parse_status(broken), None, "{broken}");
        }
    }

    #[test]
    fn memory_that_was_given_back_counts_for_the_peak() {
        let held = vec![1_u8; 64 << 20];
        assert_eq!(held.iter().filter(|byte| **byte == 1).count(), 64 << 20);
        drop(held);
        let memory = memory_use().expect("a figure");
        assert!(memory.peak >= 64 << 20 && memory.present > 0, "{memory:?}");
        assert!(memory.peak + (4 << 20) >= memory.present, "{memory:?}");
    }

    #[test]
    fn memory_that_is_written_to_is_counted() {
        // Other tests of this process come and go meanwhile, so only what is held here counts.
        let memory = vec![1_u8; 64 << 20];
        let held = allocated_bytes().expect("a figure");
        assert!((64 << 20..16 << 30).contains(&held), "{held}");
        assert_eq!(memory.iter().filter(|byte| **byte == 1).count(), 64 << 20);
    }
}
