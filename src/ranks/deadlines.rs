//! How long ranks wait for each other: no wait is without an end.

use std::time::Duration;

/// For all ranks to come to the meeting point.
pub const MEETING: Duration = Duration::from_secs(60);
/// For a connection to say who it is.
pub const GREETING: Duration = Duration::from_secs(2);
/// Bytes that a connection may send until then.
pub const GREETING_BYTES: usize = 4096;
/// Between two signs of life in a run.
pub const ALIVE: Duration = Duration::from_secs(1);
/// Without any sign of life.
pub const SILENCE: Duration = Duration::from_secs(20);
/// For the labs to be made, …
pub const LABS: Duration = Duration::from_secs(60);
/// … and for each VM of the plan beside.
pub const LABS_OF_A_VM: Duration = Duration::from_millis(50);
/// For what all ranks have measured, once the run is over.
pub const DOCUMENTS: Duration = Duration::from_secs(30);
/// From the agreement on an instant to that instant, beside the time that messages take.
pub const LEAD: Duration = Duration::from_millis(5);
