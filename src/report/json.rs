//! The report as one JSON document.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

use super::Report;
use super::json_window::Window;
use super::pieces::{self, Next};
use crate::escape::is_hidden;

/// Writes `report` as one JSON document and a line end.
///
/// # Errors
/// When `out` can't be written to.
pub fn json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    pieces::write(report, json_piece, out)
}

/// Writes the piece of [`json`] that begins at `from`.
pub(super) fn json_piece(report: &Report, from: usize, out: &mut Vec<u8>) -> io::Result<Next> {
    Window::new(from, out).write(report)
}

/// Writes a document for people and programs: indented, and with nothing in it that does anything to a terminal.
pub(super) fn document(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    write_value(value, &mut PrettyFormatter::new(), out)?;
    out.write_all(b"\n")
}

/// Writes a value as a part of a document that is written by `form`.
pub(super) fn write_value(
    value: &(impl Serialize + ?Sized),
    form: &mut PrettyFormatter<'static>,
    out: &mut impl Write,
) -> serde_json::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(
        out,
        Shown(form),
    ))
}

/// Indents as [`PrettyFormatter`] does, and escapes what [`is_hidden`], of which JSON itself escapes only a part.
struct Shown<'f>(&'f mut PrettyFormatter<'static>);

impl Formatter for Shown<'_> {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        let mut rest = text;
        while let Some((at, hidden)) = rest.char_indices().find(|(_, each)| is_hidden(*each)) {
            let (before, from) = rest.split_at(at);
            out.write_all(before.as_bytes())?;
            write!(out, "\\u{:04x}", u32::from(hidden))?;
            rest = &from[hidden.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}
