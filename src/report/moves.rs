//! Moves: what each peer of a moved VM missed, in the document and in words.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::losses::{CauseReport, cause_words};
use super::units::{count, counted, span, span_or_dash};
use super::{FlowName, Report, Table};
use crate::escape::escaped;
use crate::record::{Cause, EndedBy, Gap, MAX_GAPS, Move, Moves};
use crate::time::Instant;

/// Up to this many gaps are told one by one; of more those that took longest.
pub const GAPS_TOLD: usize = 1_000;
/// Gaps that the text shows.
const GAPS_SHOWN: usize = 20;

/// A move of a VM, and what one flow that it sends or receives missed by it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MoveReport {
    /// The number of the move in the run, from 0; each peer of the VM has an entry with it.
    pub number: u64,
    /// The VM.
    pub vm: String,
    /// Where it was, such as `leaf0`.
    pub from: String,
    /// Where it is.
    pub to: String,
    /// How it announced itself: `garp`, `rarp`, `na` or `none`.
    pub announcement: String,
    /// When the change of its link began, in nanoseconds since the first ping could be sent.
    pub at_ns: u64,
    /// How long the change of its link took. From one bridge to another the run goes on meanwhile; in other moves, and where the
    /// kernel has no io_uring for the process, it sends nothing.
    pub netlink_ns: u64,
    /// From the beginning of the change until the first announcement was written to the VM's port; absent if none was: there is none, it was lost or withheld.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced_ns: Option<u64>,
    /// From the beginning of the change until a bridge was heard to have learned from a frame where the VM is; absent if none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fdb_ns: Option<u64>,
    /// From the beginning of the change until the first frame of the VM was written to its port, announcements left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_out_ns: Option<u64>,
    /// From the beginning of the change until the VM took its first frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_in_ns: Option<u64>,
    /// The source of the flow; absent of a move of a VM that nobody pinged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src: Option<String>,
    /// The destination of the flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst: Option<String>,
    /// The end of the flow that is not the VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// From the receipt of the last answer before the move until the change began; 0 if it came later, from the old place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_answer_ns: Option<u64>,
    /// From the beginning of the change until the receipt of the first answer after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_answer_ns: Option<u64>,
    /// From the last answer before to the first after; absent as long as it has not ended, or if there was no answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_ns: Option<u64>,
    /// The time between two pings of the flow: the VM may have been away for a shorter time than the gap, by up to twice this
    /// one and a round trip. Absent of flows that go by their answers, or had no part in the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution_ns: Option<u64>,
    /// Pings under way when the move began, or due later up to the end of the gap or the next move, that were not answered in time.
    pub lost: u64,
    /// What they were lost to, as in `losses`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<CauseReport>,
    /// Replies that came after their ping was given up.
    pub late: u64,
    /// What ended the gap.
    pub ended_by: EndedBy,
}

/// Tells moves: of very many gaps those that took longest, in the order of the moves. Returns beside them how many gaps
/// there are that are not told.
pub(super) fn told(
    moves: Option<&Moves>,
    began: Instant,
    name: &dyn Fn(usize) -> Option<FlowName>,
) -> (Vec<MoveReport>, u64) {
    let Some(moves) = moves else {
        return (Vec::new(), 0);
    };
    let made = (0u64..).zip(moves.all());
    let made = made.filter(|(_, made)| made.ready.is_some());
    let each = made.flat_map(|(number, made)| {
        let gaps = made.gaps.iter().enumerate().map(Some);
        let without = made.gaps.is_empty().then_some(None);
        gaps.chain(without).map(move |gap| (number, made, gap))
    });
    let mut each: Vec<Told> = each.collect();
    let beyond = each.len().saturating_sub(GAPS_TOLD);
    if beyond > 0 {
        let longest = |(.., gap): &Told| {
            // Those that have not ended before all others, and moves without peers behind them.
            std::cmp::Reverse(gap.map(|(_, gap)| match gap.first {
                None => u64::MAX,
                Some(_) => gap.nanos().unwrap_or(0),
            }))
        };
        each.select_nth_unstable_by_key(GAPS_TOLD, longest);
        each.truncate(GAPS_TOLD);
        each.sort_by_key(|(number, _, gap)| (*number, gap.map(|(_, gap)| gap.flow)));
    }
    let reports = each.into_iter();
    let reports = reports.map(|(number, made, gap)| {
        let causes = gap.map_or(&[][..], |(peer, _)| moves.causes(number, peer));
        let gap = gap.map(|(_, gap)| gap);
        MoveReport {
            causes: caused(causes),
            ..told_one(number, made, gap, began, name)
        }
    });
    (
        reports.collect(),
        moves.unmeasured().saturating_add(beyond as u64),
    )
}

/// A move with its number, and one of its gaps with that.
type Told<'a> = (u64, &'a Move, Option<(usize, &'a Gap)>);

/// Causes in the order in which reports list them.
fn caused(causes: &[(Cause, u64)]) -> Vec<CauseReport> {
    let mut causes: Vec<CauseReport> = causes.iter().map(|&of| CauseReport::from(of)).collect();
    causes.sort_by_key(|of| of.cause);
    causes
}

fn told_one(
    number: u64,
    made: &Move,
    gap: Option<&Gap>,
    began: Instant,
    name: &dyn Fn(usize) -> Option<FlowName>,
) -> MoveReport {
    let since = |at: Option<Instant>| at.map(|at| at.nanos_since(made.began));
    let vm = made.vm.to_string();
    let index = gap.map(|gap| gap.flow.index());
    let flow = index.map(|index| name(index).unwrap_or_else(|| FlowName::unknown(index)));
    let peer = flow.as_ref().map(|flow| match flow.src == vm {
        true => flow.dst.clone(),
        false => flow.src.clone(),
    });
    let (src, dst) = flow.map(|flow| (flow.src, flow.dst)).unzip();
    MoveReport {
        number,
        vm,
        from: made.from.clone(),
        to: made.to.clone(),
        announcement: made.announcement.to_string(),
        at_ns: made.began.nanos_since(began),
        netlink_ns: made.ready.map_or(0, |ready| ready.nanos_since(made.began)),
        announced_ns: since(made.seen.announced),
        fdb_ns: since(made.learned),
        first_out_ns: since(made.seen.first_out),
        first_in_ns: since(made.seen.first_in),
        src,
        dst,
        peer,
        last_answer_ns: gap
            .and_then(|gap| gap.last)
            .map(|last| made.began.nanos_since(last)),
        first_answer_ns: since(gap.and_then(|gap| gap.first)),
        gap_ns: gap.and_then(Gap::nanos),
        resolution_ns: gap
            .and_then(|gap| gap.interval)
            .map(|interval| u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX)),
        lost: gap.map_or(0, |gap| gap.lost),
        causes: Vec::new(),
        late: gap.map_or(0, |gap| gap.late),
        ended_by: gap.map_or(EndedBy::Unknown, |gap| made.ended_by(gap)),
    }
}

/// The columns of the table of moves.
pub(super) const MOVE_COLUMNS: [&str; 11] = [
    "move",
    "from",
    "to",
    "announced",
    "netlink",
    "flow",
    "gap",
    "pings every",
    "lost",
    "ended by",
    "lost to",
];

/// The cells of a move and peer.
pub(super) fn move_cells(made: &MoveReport) -> [String; 11] {
    let flow = match (&made.src, &made.dst) {
        (Some(src), Some(dst)) => format!("{src} → {dst}"),
        _ => "–".to_owned(),
    };
    [
        format!("{} {}", made.number, made.vm),
        made.from.clone(),
        made.to.clone(),
        made.announcement.clone(),
        span(made.netlink_ns),
        flow,
        span_or_dash(made.gap_ns),
        span_or_dash(made.resolution_ns),
        count(made.lost),
        made.ended_by.word().to_owned(),
        cause_words(&made.causes),
    ]
}

/// How a gap is to be read.
pub(super) const GAP_DOC: &str = "gap: from the last answer before a move to the first after it. The VM may have been away for a \
                                  shorter time, by up to twice the time between two pings.";

/// Writes the table of moves.
pub(super) fn text(report: &Report, out: &mut impl Write) -> io::Result<()> {
    if report.moves.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(1, &MOVE_COLUMNS);
    for made in report.moves.iter().take(GAPS_SHOWN) {
        table.row(move_cells(made).map(|cell| escaped(&cell)).to_vec());
    }
    writeln!(out)?;
    writeln!(out, "moves ({GAP_DOC})")?;
    for line in table.lines() {
        writeln!(out, "{line}")?;
    }
    for line in unlisted(report, GAPS_SHOWN) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// How many gaps there were beside the first `listed` ones, in words.
pub(super) fn unlisted(report: &Report, listed: usize) -> Vec<String> {
    let more = |gaps: u64, where_to_find: &str| {
        (gaps > 0).then(|| format!("and {} more; {where_to_find}", counted(gaps, "gap")))
    };
    let told = report.moves.len().saturating_sub(listed) as u64;
    let told = more(told, "a .json report has them");
    let outages = format!(
        "the histogram of outages has the first {} of the run",
        count(MAX_GAPS as u64)
    );
    told.into_iter()
        .chain(more(report.moves_untold, &outages))
        .collect()
}

impl Report {
    /// Takes in the moves of another run, told by the time of that.
    pub(super) fn merge_moves(&mut self, other: &Report) {
        let room = MAX_GAPS.saturating_sub(self.moves.len());
        let taken = other.moves.len().min(room);
        self.moves.extend(other.moves.iter().take(taken).cloned());
        let untaken = (other.moves.len() - taken) as u64;
        let untold = other.moves_untold.saturating_add(untaken);
        self.moves_untold = self.moves_untold.saturating_add(untold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{fixtures, merge};

    #[test]
    fn gaps_that_are_not_listed_are_counted_with_where_to_find_them() {
        let mut report = fixtures::whole();
        let one = report.moves[0].clone();
        report.moves = vec![one; GAPS_TOLD];
        report.moves_untold = 7;
        let merged = merge(&[report.clone(), report]).unwrap();
        let table = [
            (20, "and 1,980 gaps more; a .json report has them"),
            (1_999, "and 1 gap more; a .json report has them"),
        ];
        let untold = "and 14 gaps more; the histogram of outages has the first 65,536 of the run";
        for (listed, told) in table {
            assert_eq!(unlisted(&merged, listed), [told, untold]);
        }
        assert_eq!(unlisted(&merged, 2_000), [untold]);
    }
}
