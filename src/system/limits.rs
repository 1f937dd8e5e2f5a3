//! The limit of open file descriptors: one for each TAP.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// VMs that can be added to those of the plan while a lab runs: tables in the kernel are made with room for them.
pub(crate) const SPARE_VMS: u32 = 1024;

use super::error::SystemError;

/// Raises the limit of open file descriptors as far as an unprivileged process may (to the hard limit), and returns it.
///
/// # Errors
/// When the kernel refuses to tell or set the limit.
pub fn raise_descriptor_limit() -> Result<u64, SystemError> {
    let error =
        |errno: Errno| SystemError::kernel("raise the limit of open files (RLIMIT_NOFILE)", errno);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(error)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(error)?;
    }
    Ok(hard)
}

/// Returns the number of file descriptors that are open now.
pub fn open_descriptors() -> u64 {
    // Without /proc, count standard input, output and error.
    std::fs::read_dir("/proc/self/fd").map_or(3, |entries| entries.count() as u64)
}

/// Sees to it that `total` file descriptors can be open at a time, raising the limit if it may.
///
/// # Errors
/// When they can't: names that number.
pub fn ensure_limit(total: u64) -> Result<(), SystemError> {
    let limit = raise_descriptor_limit()?;
    if total <= limit {
        return Ok(());
    }
    Err(SystemError::refused(
        format!("reserve {total} file descriptors"),
        format!("the limit of this process is {limit}"),
    )
    .advise(format!(
        "raise it (as root: ulimit -Hn {total}) or lower --vms"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_descriptors_are_refused_with_the_number_needed() {
        ensure_limit(open_descriptors() + 1).expect("one descriptor is to be had");
        let error = ensure_limit(1 << 40).expect_err("no process may open a million million files");
        let number = error
            .operation()
            .split(' ')
            .nth(1)
            .expect("a number")
            .parse::<u64>();
        assert!(number.is_ok_and(|number| number >= 1 << 40), "{error}");
        assert!(
            error
                .advice()
                .is_some_and(|advice| advice.contains("ulimit")),
            "{error}"
        );
    }
}
