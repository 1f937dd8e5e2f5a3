//! A report as text, piece by piece, so that who writes it can do something else in between.

use std::io::{self, Write};

use super::{Format, Report};

/// Bytes after which a piece ends, with the item that it is in.
pub(super) const PIECE: usize = 16 << 10;

/// Where the next piece of a document begins, as its format counts; `None` behind the last one.
pub(super) type Next = Option<usize>;

/// Writes the piece of a report that begins at a number, the first one at 0. A piece takes less than a millisecond.
pub(super) type WritePiece = fn(&Report, usize, &mut Vec<u8>) -> io::Result<Next>;

/// Writes all pieces of `report`.
pub(super) fn write(report: &Report, piece: WritePiece, out: &mut dyn Write) -> io::Result<()> {
    let mut next = Some(0);
    let mut bytes = Vec::with_capacity(2 * PIECE);
    while let Some(from) = next {
        bytes.clear();
        next = piece(report, from, &mut bytes)?;
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// The pieces of a report in a format, in order.
#[derive(Clone, Debug)]
pub struct Pieces {
    report: Box<Report>,
    format: Format,
    next: Next,
}

impl Pieces {
    /// The pieces of `report` as [`Format::write`] writes it.
    pub fn new(report: Report, format: Format) -> Pieces {
        Pieces {
            report: Box::new(report),
            format,
            next: Some(0),
        }
    }
}

impl Iterator for Pieces {
    type Item = io::Result<Vec<u8>>;

    /// Returns the next piece. Nothing follows an error.
    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        let from = self.next.take()?;
        let mut piece = Vec::with_capacity(2 * PIECE);
        let next = self.format.write_piece(&self.report, from, &mut piece);
        Some(next.map(|next| {
            self.next = next;
            piece
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::record::{Limits, Recorder};
    use crate::report::marks::MARK_FLOWS_TOLD;
    use crate::report::{Context, FlowReport, MarkReport, fixtures, json};

    fn format(ending: &str) -> Format {
        Format::of(Path::new(&format!("report.{ending}"))).unwrap()
    }

    /// The fixture with so many flows.
    fn with_flows(number: usize) -> Report {
        let report = fixtures::whole();
        let flow = |index: usize| FlowReport {
            src: format!("source{index}"),
            ..report.flows[index % 2].clone()
        };
        let mark = &report.marks[0];
        let told = mark.flows.iter().cycle().take(number.min(MARK_FLOWS_TOLD));
        let flows = told.cloned().collect();
        Report {
            marks: vec![MarkReport {
                flows,
                ..mark.clone()
            }],
            flows: (0..number).map(flow).collect(),
            flow_count: number as u64,
            ..report.clone()
        }
    }

    #[test]
    fn the_pieces_of_a_document_are_what_serde_writes_in_one_go() {
        let empty = Report::new(&Recorder::new(Limits::default()), &Context::default());
        for report in [fixtures::whole(), with_flows(0), with_flows(1_000), empty] {
            let mut whole = Vec::new();
            json::document(&report, &mut whole).unwrap();
            let pieces = Pieces::new(report, format("json"));
            let pieces: Vec<u8> = pieces.flat_map(Result::unwrap).collect();
            assert_eq!(
                String::from_utf8(pieces).unwrap(),
                String::from_utf8(whole).unwrap()
            );
        }
    }

    #[test]
    fn a_piece_has_few_flows_and_at_most_one_line_of_histograms() {
        let report = with_flows(3_000);
        for (ending, mark, most, all) in [
            ("json", "\"src\": \"source", 64, 3_000),
            ("csv", "\nflow,,source", 51, 3_000),
            ("html", "<td data-v=\"source", 100, 1_000),
            ("html", "<td data-v=\"1. policy", 50, 1_000),
            ("json", "\"hdr\": \"", 2, usize::MAX),
            ("hlog", "HIST", 1, usize::MAX),
        ] {
            let pieces = Pieces::new(report.clone(), format(ending));
            let counts: Vec<usize> = pieces
                .map(|piece| {
                    String::from_utf8(piece.unwrap())
                        .unwrap()
                        .matches(mark)
                        .count()
                })
                .collect();
            let greatest = *counts.iter().max().unwrap();
            assert!((1..=most).contains(&greatest), "{ending}: {greatest}");
            let sum: usize = counts.iter().sum();
            assert!(
                all == usize::MAX || sum.abs_diff(all) < 70,
                "{ending}: {sum}"
            );
        }
    }
}
