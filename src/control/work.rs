//! Requests that are carried out in slices, between which the run goes on: each takes less than a millisecond.

use std::collections::VecDeque;
use std::ops::Range;

use serde::Serialize;

use super::message::{Body, Response};
use super::resources::{AddFlows, AddVms, AddedFlows, ChangedVms, ImpairmentsDocument, Page};
use super::{ApiError, Controlled, MoveVm, dispatch, status};
use crate::hypervisor::FlowConfig;
use crate::load::{FlowId, Pace};
use crate::report::{Builder, Format, Pieces, Report};
use crate::vm::VmId;

/// Items of a list that a slice makes.
const ITEMS: usize = 100;
/// Rows of impaired frames that a slice writes.
const ROWS: usize = 1_000;
/// VMs that a slice announces, or stops.
const VMS: usize = 100;
/// Flows that a slice adds.
const FLOWS: usize = 200;

/// The response that has `report` in `format`.
fn written(report: Report, format: &Format) -> Result<Response, ApiError> {
    let checked = format.check(&report);
    checked.map_err(|error| ApiError::in_words(status::NOT_FOUND, &error))?;
    Ok(Response {
        content_type: format.media_type(),
        body: Body::Pieces(Pieces::new(report, format.clone())),
        ..Response::json(status::OK, Vec::new())
    })
}

/// A request that is being carried out.
#[derive(Debug)]
pub enum Work {
    /// A report is made.
    Report {
        /// What was made of it.
        builder: Box<Builder>,
        /// How it will be written.
        format: Format,
    },
    /// A list is read. Each of its items is as it is when it is read.
    List {
        /// Which list.
        list: ListOf,
        /// The items that are still to be read.
        page: Page,
        /// The text of those that were.
        text: Vec<u8>,
    },
    /// The impairments are told.
    Impairments {
        /// The status of the response.
        status: u16,
        /// As they were when it was asked for.
        document: ImpairmentsDocument,
        /// How many of the rows of frames are written.
        written: usize,
        /// The text of those.
        text: Vec<u8>,
    },
    /// VMs are added.
    AddVms {
        /// What was asked for, as long as it is not planned.
        wish: Option<AddVms>,
        /// The VMs that are still to be announced.
        left: Range<u32>,
        /// All of them.
        added: ChangedVms,
    },
    /// VMs are removed.
    RemoveVms {
        /// The VMs that are still to be stopped.
        left: VecDeque<VmId>,
        /// All of them.
        removed: ChangedVms,
    },
    /// A VM is moved.
    MoveVm {
        /// What was asked for, as long as it is not begun.
        wish: Option<MoveVm>,
        /// The VM, once it is.
        vm: Option<VmId>,
    },
    /// Flows are added.
    AddFlows {
        /// What was asked for, as long as it is not planned.
        wish: Option<AddFlows>,
        /// The flows that are still to be added.
        left: VecDeque<FlowConfig>,
        /// Their own pace, if they have one.
        pace: Option<Pace>,
        /// Those that were.
        added: AddedFlows,
    },
}

/// A list of the lab's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ListOf {
    /// The VMs.
    Vms,
    /// The flows.
    Flows,
    /// The flows, the worst first: those of the page, once they are chosen.
    WorstFlows(Option<Vec<FlowId>>),
}

impl Work {
    /// A report in `format`.
    pub(super) fn report(format: Format) -> Work {
        Work::Report {
            builder: Box::default(),
            format,
        }
    }

    /// A part of a list.
    pub(super) const fn list(list: ListOf, page: Page) -> Work {
        let text = Vec::new();
        Work::List { list, page, text }
    }

    /// The impairments.
    pub(super) const fn impairments(status: u16, document: ImpairmentsDocument) -> Work {
        Work::Impairments {
            status,
            document,
            written: 0,
            text: Vec::new(),
        }
    }

    /// VMs to add.
    pub(super) fn add_vms(wish: AddVms) -> Work {
        Work::AddVms {
            wish: Some(wish),
            left: 0..0,
            added: ChangedVms::new(0, None),
        }
    }

    /// VMs to remove.
    pub(super) fn remove_vms(vms: Vec<VmId>) -> Work {
        Work::RemoveVms {
            removed: ChangedVms::new(vms.len(), vms.first().copied().zip(vms.last().copied())),
            left: vms.into(),
        }
    }

    /// A VM to move.
    pub(super) const fn move_vm(wish: MoveVm) -> Work {
        Work::MoveVm {
            wish: Some(wish),
            vm: None,
        }
    }

    /// Flows to add.
    pub(super) const fn add_flows(wish: AddFlows) -> Work {
        Work::AddFlows {
            wish: Some(wish),
            left: VecDeque::new(),
            pace: None,
            added: AddedFlows { flows: 0, first: 0 },
        }
    }

    /// Returns true if it changes the lab. One such request is carried out after the other, so that what one adds has
    /// numbers in a row.
    pub const fn is_change(&self) -> bool {
        !matches!(
            self,
            Work::Report { .. } | Work::List { .. } | Work::Impairments { .. }
        )
    }

    /// Carries out a slice. Returns the response once all is done.
    pub fn step(&mut self, lab: &mut dyn Controlled) -> Option<Response> {
        let stepped = match self {
            Work::Report { builder, format } => match lab.report(builder) {
                Some(report) => written(report, format).map(Some),
                None => Ok(None),
            },
            Work::List { list, page, text } => list.read(lab, page, text),
            Work::Impairments {
                status,
                document,
                written,
                text,
            } => write_impairments(*status, document, written, text),
            Work::AddVms { wish, left, added } => add_vms(lab, wish, left, added),
            Work::RemoveVms { left, removed } => {
                let vms: Vec<VmId> = left.drain(..left.len().min(VMS)).collect();
                let stopped = lab.stop_vms(vms);
                stopped.and_then(|()| done(left.is_empty(), status::ACCEPTED, removed))
            }
            Work::MoveVm { wish, vm } => move_vm(lab, wish, vm),
            Work::AddFlows {
                wish,
                left,
                pace,
                added,
            } => add_flows(lab, wish, (left, pace), added),
        };
        stepped.unwrap_or_else(|error| Some(error.into()))
    }
}

/// Answers with `document` if all `is_done`.
fn done(
    is_done: bool,
    status: u16,
    document: &impl Serialize,
) -> Result<Option<Response>, ApiError> {
    is_done
        .then(|| dispatch::json(status, document))
        .transpose()
}

/// Writes some rows of `document` behind those in `text`.
fn write_impairments(
    status: u16,
    document: &ImpairmentsDocument,
    written: &mut usize,
    text: &mut Vec<u8>,
) -> Result<Option<Response>, ApiError> {
    let ImpairmentsDocument { rules, frames } = document;
    let not_written = |error: serde_json::Error| dispatch::not_written(&error);
    if *written == 0 {
        text.extend_from_slice(b"{\"rules\":");
        serde_json::to_writer(&mut *text, rules).map_err(not_written)?;
        text.extend_from_slice(b",\"frames\":[");
    }
    for row in frames.iter().skip(*written).take(ROWS) {
        if *written > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut *text, row).map_err(not_written)?;
        *written += 1;
    }
    if *written < frames.len() {
        return Ok(None);
    }
    text.extend_from_slice(b"]}\n");
    Ok(Some(Response::json(status, std::mem::take(text))))
}

fn add_vms(
    lab: &mut dyn Controlled,
    wish: &mut Option<AddVms>,
    left: &mut Range<u32>,
    added: &mut ChangedVms,
) -> Result<Option<Response>, ApiError> {
    if let Some(wish) = wish.take() {
        *left = lab.plan_vms(wish)?;
        let ends = left.clone().next().zip(left.clone().next_back());
        *added = ChangedVms::new(
            left.len(),
            ends.map(|(first, last)| (VmId(first), VmId(last))),
        );
        return Ok(None);
    }
    let end = left.end.min(left.start + VMS as u32);
    lab.start_vms(left.start..end)?;
    left.start = end;
    done(left.start >= left.end, status::ACCEPTED, added)
}

fn move_vm(
    lab: &mut dyn Controlled,
    wish: &mut Option<MoveVm>,
    vm: &mut Option<VmId>,
) -> Result<Option<Response>, ApiError> {
    let moved = match (wish.take(), *vm) {
        (Some(wish), _) => match lab.move_vm(wish)? {
            Ok(moved) => Some(moved),
            Err(begun) => {
                *vm = Some(begun);
                None
            }
        },
        (None, Some(vm)) => lab.moved(vm)?,
        (None, None) => None,
    };
    let moved = moved.map(|moved| dispatch::json(status::CREATED, &moved));
    moved.transpose()
}

fn add_flows(
    lab: &mut dyn Controlled,
    wish: &mut Option<AddFlows>,
    (left, pace): (&mut VecDeque<FlowConfig>, &mut Option<Pace>),
    added: &mut AddedFlows,
) -> Result<Option<Response>, ApiError> {
    if let Some(wish) = wish.take() {
        let (flows, own) = lab.plan_flows(&wish)?;
        (*left, *pace) = (flows.into(), own);
        return Ok(None);
    }
    // Flows that share a pace are added together.
    let most = if pace.is_some() { left.len() } else { FLOWS };
    let flows: Vec<FlowConfig> = left.drain(..left.len().min(most)).collect();
    let ids = lab.start_flows(flows, *pace).map_err(|mut refused| {
        if let Some(others) = added.flows.checked_sub(1) {
            let (first, last) = (added.first, added.first as usize + others);
            let already = format!("; flows {first} to {last} are added already");
            refused.error.push_str(&already);
        }
        refused
    })?;
    if added.flows == 0 {
        added.first = ids.start;
    }
    added.flows += ids.len();
    done(left.is_empty(), status::CREATED, added)
}

impl ListOf {
    /// Reads some items of `page`, and writes them behind those in `text`.
    fn read(
        &mut self,
        lab: &mut dyn Controlled,
        page: &mut Page,
        text: &mut Vec<u8>,
    ) -> Result<Option<Response>, ApiError> {
        let part = Page {
            limit: page.limit.min(ITEMS),
            ..*page
        };
        let total = match self {
            ListOf::Vms => lab.vms(part).write(text),
            ListOf::Flows => lab.flows(part, None).write(text),
            ListOf::WorstFlows(None) => {
                *self = ListOf::WorstFlows(Some(lab.worst_flows(*page)));
                return Ok(None);
            }
            ListOf::WorstFlows(Some(worst)) => {
                let more = worst.split_off(worst.len().min(part.limit));
                let ranked = std::mem::replace(worst, more);
                lab.flows(part, Some(&ranked)).write(text)
            }
        };
        let total = total.map_err(|error| dispatch::not_written(&error))?;
        page.offset = page.offset.saturating_add(part.limit);
        page.limit -= part.limit;
        if page.limit > 0 && page.offset < total {
            return Ok(None);
        }
        text.extend_from_slice(b"]}\n");
        Ok(Some(Response::json(status::OK, std::mem::take(text))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ImpairDocument;
    use crate::fabric::{Direction, Impairment};
    use crate::report::ImpairedFrames;

    #[test]
    fn a_slice_writes_some_rows_of_impaired_frames_and_all_of_them_are_one_document() {
        for (rows, slices) in [(0, 1), (1, 1), (ROWS, 1), (ROWS + 1, 2), (3 * ROWS - 1, 3)] {
            let row = |vm| ImpairedFrames {
                vm: VmId(vm as u32),
                direction: Direction::In,
                kind: Impairment::Lost,
                frames: 7,
            };
            let impair = "all:loss=1%".to_owned();
            let document = ImpairmentsDocument {
                rules: vec![ImpairDocument { impair }],
                frames: (0..rows).map(row).collect(),
            };
            let (mut written, mut text, mut steps) = (0, Vec::new(), 1);
            let response = loop {
                match write_impairments(status::OK, &document, &mut written, &mut text) {
                    Ok(Some(response)) => break response,
                    unfinished => assert!(unfinished.is_ok()),
                }
                steps += 1;
                assert!(steps <= slices);
            };
            let Body::Whole(body) = response.body else {
                panic!("{:?} is not all of it", response.body);
            };
            let mut expected = serde_json::to_vec(&document).unwrap();
            expected.push(b'\n');
            assert_eq!((body == expected, steps), (true, slices), "{rows} rows");
        }
    }
}
