//! What was measured, told: one plain document, and the forms in which people and programs read it.
//!
//! [`Report`] is that document, made from a [`Recorder`](crate::record::Recorder) when a run ends. [`json`] and
//! [`text`] write it. Nothing here reads a clock or opens a file that it was not given.

mod axis;
mod build;
mod chart;
mod csv;
mod document;
mod encoding;
mod file;
mod hgrm;
mod hlog;
mod html;
mod json;
mod load;
mod merge;
mod picture;
#[cfg(test)]
mod samples;
mod text;
mod units;
pub mod verdict;

pub use build::{Context, FlowName};
pub use csv::csv;
pub use document::{
    FlowReport, Histograms, PhaseReport, ReactorReport, Report, SCHEMA, SecondReport,
};
pub use file::{FileError, Format, check_file, write_file};
pub use hgrm::hgrm;
pub use hlog::hlog;
pub use html::html;
pub use json::json;
pub use load::{LoadError, load};
pub use merge::merge;
pub use text::text;
pub use verdict::Verdict;
