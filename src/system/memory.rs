//! How much memory the process has.

/// Resident memory of this process in bytes. `None` where the kernel does not tell.
///
/// From `/proc/self/smaps_rollup`, which is exact: the figure in `statm` may be off by some hundred kilobytes, because
/// each CPU counts for itself (`mm_counter` in `include/linux/mm.h`).
pub fn resident_bytes() -> Option<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    kilobytes(&rollup, "Rss:")
}

/// Bytes of memory that programs can still have without others being swapped out (`MemAvailable`, `proc_meminfo(5)`).
/// `None` where the kernel does not tell.
pub fn available_bytes() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    kilobytes(&told, "MemAvailable:")
}

/// What the line that begins with `name` says, in bytes.
fn kilobytes(told: &str, name: &str) -> Option<u64> {
    let line = told.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_written_to_becomes_resident() {
        // Other tests of this process come and go meanwhile, so only what is held here counts.
        let memory = vec![1_u8; 64 << 20];
        let held = resident_bytes().expect("a figure");
        assert!((64 << 20..16 << 30).contains(&held), "{held}");
        assert_eq!(memory.iter().filter(|byte| **byte == 1).count(), 64 << 20);
    }
}
