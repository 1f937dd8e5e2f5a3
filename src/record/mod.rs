//! Counters and histograms, which a run feeds with its events. Pure: no clock, no file, no log.
//!
//! A ping has three times: `due` (when the schedule wanted it), `sent` (right before its write) and `received` (right
//! after its reply was read). They make three histograms that are never mixed:
//!
//! | histogram | is | tells |
//! |---|---|---|
//! | rtt | received − sent | what the network did to the ping |
//! | response | received − due | what a user of an overloaded network feels; free of coordinated omission |
//! | lateness | sent − due | the generator's own fault |
//!
//! [`Metric`] is the table of these and of all the others.
//!
//! Coordinated omission is what Gil Tene's "How NOT to Measure Latency" is about; read that first.

mod addresses;
mod buckets;
mod by_group;
mod by_path;
mod connections;
mod drops;
mod errors;
mod floods;
mod flow;
mod latency;
mod link_changes;
mod losses;
mod mark_metric;
mod mark_name;
mod marks;
mod metric;
mod moments;
mod moves;
mod neighbours;
mod path_split;
mod path_stage;
mod pauses;
mod phase;
mod recorder;
mod responses;
mod sparse;
mod stream;
mod timeline;
mod totals;

pub use addresses::{Addresses, Conflict, MAX_CONFLICTS};
pub use buckets::{Buckets, EDGES};
pub use by_group::{ByGroup, GroupFigures, MAX_GROUPS, OTHER, known_or_other};
pub use connections::Connections;
pub use drops::{DropReason, Drops, UnknownDropReason};
pub use errors::ErrorCounts;
pub use floods::{FloodCounts, FloodKind, Floods};
pub use flow::FlowRecord;
pub use latency::{Bucket, LONGEST, Latency, LatencySummary};
pub use link_changes::{LinkChanged, Links, MAX_LINK_CHANGES};
pub use losses::{
    Attribution, Cause, LossMethod, Losses, MAX_LOSS_ROWS, MAX_LOSSY_FLOWS, Place, Way, Why,
};
pub use mark_metric::{MarkMetric, UnknownMarkMetric};
pub use mark_name::{MarkName, NoMarkName};
pub use marks::{FlowMark, MAX_MARKED_FLOWS, MAX_MARKS, Mark, Marks};
pub use metric::{Metric, PerMetric, Scope, UnknownMetric};
pub use moments::Moments;
pub use moves::{EndedBy, Gap, MAX_GAPS, Move, Moves};
pub use neighbours::NeighbourSearch;
pub use path_split::{PATH_STAMPS, PathSample, PathSplit, StageTimes, StampCost};
pub use path_stage::{PathStage, PathWay};
pub use pauses::{Pause, Pauses};
pub use phase::{Phase, Work};
pub use recorder::{Limits, Member, MemberCounts, Recorder};
pub use responses::{Response, Responses, Window};
pub use sparse::{LeanLatency, SparseLatency};
pub use stream::{
    Carried, LostFrames, MAX_SEQUENCE_GAPS, OneWay, Reordering, StreamId, StreamReceiver,
    StreamRecord, Streams,
};
pub use timeline::Interval;
pub use totals::{Count, Totals};
