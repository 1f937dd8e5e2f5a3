//! How much memory the process has.

/// Resident memory of this process in bytes. `None` where the kernel does not tell.
///
/// From `/proc/self/smaps_rollup`, which is exact: the figure in `statm` may be off by some hundred kilobytes, because
/// each CPU counts for itself (`mm_counter` in `include/linux/mm.h`).
pub fn resident_bytes() -> Option<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
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
