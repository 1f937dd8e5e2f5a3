//! What was measured, told: one plain document, and the forms in which people and programs read it.
//!
//! [`Report`] is that document, made from a [`Recorder`](crate::record::Recorder) when a run ends. [`json`] and
//! [`text`] write it. Nothing here reads a clock or opens a file that it was not given.

mod chart;
mod document;
mod json;
mod text;
mod units;
pub mod verdict;

pub use document::{
    Context, FlowName, FlowReport, Histograms, PhaseReport, ReactorReport, Report, SCHEMA,
};
pub use json::json;
pub use text::text;
pub use verdict::Verdict;
