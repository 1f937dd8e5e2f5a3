//! How long the kernel had the thread wait for a processor.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The thread's `schedstat` file (`Documentation/scheduler/sched-stats.rst`), opened once, because it is read at moments at
/// which time is short.
#[derive(Debug, Default)]
pub struct RunDelay(Option<File>);

impl RunDelay {
    /// For the calling thread. Where the kernel keeps no such figures, there are none to [read](RunDelay::nanos).
    pub fn new() -> RunDelay {
        RunDelay(File::open("/proc/thread-self/schedstat").ok())
    }

    /// How long the thread was ready to run and others had the processor, in nanoseconds since its start.
    pub fn nanos(&self) -> Option<u64> {
        let mut text = [0; 96];
        let length = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        // Time on a processor, time waiting for one, number of slices.
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        text.split_ascii_whitespace().nth(1)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_of_a_thread_is_told_and_does_not_shrink() {
        let delay = RunDelay::new();
        let before = delay.nanos().expect("this kernel keeps schedstat");
        std::thread::yield_now();
        assert!(delay.nanos().expect("it still does") >= before);
    }
}
