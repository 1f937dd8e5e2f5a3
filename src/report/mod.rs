//! What was measured, told: one plain document, and the forms in which people and programs read it.
//!
//! [`Report`] is that document, made from a [`Recorder`](crate::record::Recorder) when a run ends. [`json`] and
//! [`text`] write it. Nothing here reads a clock or opens a file that it was not given.

mod build;
mod chart;
mod document;
mod encoding;
mod json;
mod text;
mod units;
pub mod verdict;

pub use build::{Context, FlowName};
pub use document::{
    FlowReport, Histograms, PhaseReport, ReactorReport, Report, SCHEMA, SecondReport,
};
pub use json::json;
pub use text::text;
pub use verdict::Verdict;
