//! Reports of what was measured: one plain document, and the formats in which people and programs read it.
//!
//! [`Report`] is that document, made from a [`Recorder`](crate::record::Recorder) when a run ends. [`json()`],
//! [`text()`] and [`write_file`] write it, [`load()`] reads it back, [`merge()`] and [`compare()`] tell of several.
//! Nothing here reads a clock, and no file is opened that was not asked for.

mod axis;
mod bins;
mod build;
mod builder;
mod compare;
mod connections;
mod csv;
mod destination;
mod document;
mod encoding;
mod environment;
pub mod expect;
mod file;
#[cfg(test)]
pub(crate) mod fixtures;
mod floods;
mod format;
mod hgrm;
mod hlog;
mod html;
mod impairments;
mod json;
mod json_window;
mod junit;
pub(crate) mod keyed;
mod link_changes;
mod load;
mod losses;
mod markdown;
mod marks;
mod merge;
mod misbehaviours;
mod moves;
mod path_split;
mod pieces;
mod prometheus;
mod provenance;
mod ranks;
mod recordings;
mod schema;
mod search;
mod shortcomings;
mod streams;
mod svg;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod units;
pub mod verdict;

pub use build::{Context, FlowName};
pub use builder::Builder;
pub use compare::{
    COMPARISON_SCHEMA, Change, Comparison, Difference, Judgement, Quantity, SECONDS_NEEDED, Side,
    breaking_point, compare, compare_json, compare_text, sweep_text,
};
pub use connections::ConnectionReport;
pub use csv::csv;
pub use destination::{Destination, DestinationError};
pub use document::{
    FlowReport, MemberReport, PhaseReport, ReactorReport, Report, SCHEMA, SecondReport,
};
pub use environment::{FabricReport, MemoryReport};
pub use expect::{Expectation, Outcome};
pub use file::{
    FileError, check_comparison, check_file, check_search, write_comparison, write_file,
    write_search,
};
pub use floods::FloodReport;
pub use format::{Format, FormatError};
pub use hgrm::hgrm;
pub use hlog::hlog;
pub use html::{compare_html, html, search_html};
pub use impairments::ImpairedFrames;
pub use json::json;
pub use load::{LoadError, load, parse};
pub use losses::{CauseReport, LossReport, LossSearchReport};
pub use marks::{
    ChangesSummary, MARK_FLOWS_TOLD, MARK_WORST_TOLD, MarkFlowReport, MarkHistograms, MarkReport,
};
pub use merge::merge;
pub use misbehaviours::{DisturbedReport, MisbehaviourReport, MisbehaviourSummary, ResponseReport};
pub use moves::{GAPS_TOLD, MoveReport};
pub use path_split::{PathSplitReport, StageReport};
pub use pieces::Pieces;
pub use prometheus::{Exposition, LabGauges, prometheus};
pub use provenance::{
    MachineReport, MergedReport, NotOneExperiment, PlanReport, SettingsReport, Unlike, Values,
    check_one_experiment,
};
pub use ranks::{RankDocument, RankPart, RankParts, RankReport};
pub use recordings::recording_notes;
pub(crate) use schema::schema_settings;
pub use schema::{comparison_schema_json, line_schema_json, schema_json, search_schema_json};
pub use search::{
    Ended, GoalReport, SEARCH_SCHEMA, SearchExpectation, SearchReport, TrialReport, progress,
    search_json, search_text, trial_words,
};
pub use streams::{
    EndReport, STREAMS_TOLD, StreamCounts, StreamName, StreamReceiverReport, StreamReport,
    StreamSpread, StreamTotals,
};
pub use table::Table;
pub use text::text;
pub use units::{count, counted, span, span_or_dash};
pub use verdict::Verdict;
