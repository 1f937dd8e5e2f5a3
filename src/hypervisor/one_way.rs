//! The way there and the way back of pings between two VMs of the run, each by itself: both ends go by one clock here.
//!
//! A ping turns when the VM that it is for has read its request, of one in fragments the first. That instant is kept by ping until
//! the reply is read.

use super::Hypervisor;
use super::by_ping::{Bounded, Key};
use super::record_buffer::Entry;
use crate::fabric::Fabric;
use crate::record::Way;
use crate::time::Instant;
use crate::vm::{PingId, VmId};

/// Pings that have turned and are kept, the last ones. Those whose replies are lost stay until others need the room.
const MAX_TURNED: usize = 1 << 16;

/// When pings turned.
#[derive(Debug)]
pub(super) struct OneWay(Bounded<Instant>);

impl<F: Fabric> Hypervisor<F> {
    /// Measures the way there and the way back of pings between VMs of the run from now on. Takes a clock reading a ping more.
    pub fn measure_one_way(&mut self) {
        let turned = OneWay(Bounded::new(MAX_TURNED));
        self.reads_frames = true;
        self.one_way.get_or_insert_with(|| Box::new(turned));
    }

    /// `vm` has read `frame` at `now`.
    #[cold]
    pub(super) fn note_turn(&mut self, now: Instant, vm: VmId, frame: &[u8]) {
        let Some((key, Way::Request)) = self.ping_in(frame) else {
            return;
        };
        if self.target_of_ping(key) != Some(vm) {
            return;
        }
        if let Some(OneWay(turned)) = self.one_way.as_deref_mut()
            // Of a request that was duplicated, the first one is answered first.
            && turned.get(key).is_none()
        {
            turned.insert(key, now);
        }
    }

    /// The reply to a ping of `vm`, due at `due`, was read.
    #[cold]
    pub(super) fn record_one_way(
        &mut self,
        (vm, ping): (VmId, PingId),
        due: Instant,
        (sent, received): (Instant, Instant),
    ) {
        let Some(OneWay(turned)) = self.one_way.as_deref_mut() else {
            return;
        };
        // What was kept may be of a ping with the same number, 65,536 pings ago, whose reply was lost.
        let turned = turned.remove(Key::of(vm, ping));
        if let Some(turned) = turned.filter(|turned| (sent..=received).contains(turned)) {
            self.push_record(Entry::OneWay {
                due,
                forward: turned.nanos_since(sent),
                backward: received.nanos_since(turned),
            });
        }
    }
}
