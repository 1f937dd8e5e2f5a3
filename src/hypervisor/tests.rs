//! What a hypervisor makes of what its driver tells it.

use super::*;
use crate::fabric::{Write, WriteDrop};
use crate::record::{DropReason, Limits};
use crate::sim::{Impairments, Switch};

#[test]
fn every_frame_that_was_written_or_not_is_counted_as_what_it_was() {
    let switch = Switch::new(Impairments::default(), 1);
    let mut hypervisor = Hypervisor::new(switch, Recorder::new(Limits::default()), 1);
    for (written, times) in [
        (Write::Sent, 4),
        (Write::Dropped(WriteDrop::QueueFull), 1),
        (Write::Dropped(WriteDrop::LinkDown), 2),
        (Write::Dropped(WriteDrop::Refused), 3),
    ] {
        (0..times).for_each(|_| hypervisor.frame_written(written));
    }
    let recorder = hypervisor.recorder();
    let dropped: Vec<_> = recorder.drops().iter().collect();
    assert_eq!(
        dropped,
        [
            (DropReason::QueueFull, 1),
            (DropReason::LinkDown, 2),
            (DropReason::Refused, 3)
        ]
    );
    assert_eq!(recorder.setup().frames_out + recorder.work().frames_out, 4);
}
