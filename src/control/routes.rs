//! The table of routes: one row for each method of each resource.
//!
//! A request finds its handler here, a wrong one its answer (404 with the resources, 405 with the methods), and the
//! [description](super::openapi) is made of the same rows.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::controlled::Capturing;
use super::dispatch::{Call, json, metrics, stream};
use super::message::Response;
use super::misbehaviours::MisbehaveDocument;
use super::moves::{MoveDocument, MoveVm, MovedVm};
use super::resources::{
    AddFlows, AddVms, AddedFlows, CaptureDocument, CaptureSoFar, ChangedVms, Done, FlowDocument,
    ImpairDocument, ImpairmentsDocument, LabDocument, List, LoadDocument, MarkDocument, SetMark,
    VmDocument,
};
use super::{ApiError, Controlled, ListOf, Order, Work, openapi, status};
use crate::report::MisbehaviourSummary;

/// Lines of JSON: the media type of events.
pub(super) const JSON_LINES: &str = "application/jsonl";

/// Frames: the media type of captures.
pub(super) const PCAPNG: &str = "application/x-pcapng";
/// The path of the metrics, which are at addresses of their own, too.
pub(super) const METRICS: &str = "/metrics";
/// The parameter for the [order](super::Order) of a list.
pub(super) const SORT: &str = "sort";
/// The parameters of a list, a [page](super::Page) of which is returned.
const PAGED: &[&str] = &["offset", "limit"];
/// Those of one that has several orders.
const PAGED_AND_SORTED: &[&str] = &["offset", "limit", SORT];

/// A row: a method of a resource.
pub struct Route {
    /// `GET`.
    pub method: &'static str,
    /// The path; its last part may be a parameter: `/vms/{vm}`.
    pub path: &'static str,
    /// A name for it in programs: `listVms`.
    pub(super) id: &'static str,
    /// What it does, in a line.
    pub(super) doc: &'static str,
    /// What the parameter of the path is.
    pub(super) path_doc: &'static str,
    /// The parameters that a query may have.
    pub(super) query: &'static [&'static str],
    /// The type of the body of a request.
    pub(super) request: Option<SchemaOf>,
    /// The status of a response when all is well.
    pub(super) status: u16,
    pub(super) response: Content,
    /// The other statuses that it has. Any request may have those of a connection.
    pub(super) errors: &'static [u16],
    pub(super) handle: Handler,
}

/// Makes the schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;
type Handler = fn(&mut dyn Controlled, &Call<'_>) -> Result<Response, ApiError>;

/// The body of a response when all is well.
pub(super) enum Content {
    /// A document.
    Json(SchemaOf),
    /// A report, in the format that was asked for.
    Report,
    /// A document, or with status 200 a capture, for as long as the connection lasts.
    JsonOrCapture(SchemaOf),
    /// Metrics, in the format that was asked for.
    Metrics,
    /// The events of the run, for as long as the connection lasts.
    Events,
    /// The description of the interface.
    Description,
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// What most rows have.
const GET: Route = Route {
    method: "GET",
    path: "",
    id: "",
    doc: "",
    path_doc: "",
    query: &[],
    request: None,
    status: status::OK,
    response: Content::Events,
    errors: &[status::BAD_REQUEST],
    handle: |_, _| Err(ApiError::new(status::NOT_FOUND, "", "")),
};

/// The routes. The [`Controlled`] lab does the work; a handler only reads what was asked and writes what came of it.
pub const ROUTES: &[Route] = &[
    Route {
        path: "/",
        id: "getLab",
        doc: "The state of the lab, its counts, and its plan",
        response: Content::Json(schema::<LabDocument>),
        handle: |lab, _| json(status::OK, &lab.lab()),
        ..GET
    },
    Route {
        path: "/vms",
        id: "listVms",
        doc: "The VMs",
        query: PAGED,
        response: Content::Json(schema::<List<VmDocument>>),
        handle: |_, call| Ok(Response::later(Work::list(ListOf::Vms, call.page()?))),
        ..GET
    },
    Route {
        method: "POST",
        path: "/vms",
        id: "addVms",
        doc: "Adds VMs, which start one after the other",
        request: Some(schema::<AddVms>),
        status: status::ACCEPTED,
        response: Content::Json(schema::<ChangedVms>),
        errors: &[
            status::BAD_REQUEST,
            status::CONFLICT,
            status::INTERNAL_ERROR,
        ],
        handle: |_, call| Ok(Response::later(Work::add_vms(call.body()?))),
        ..GET
    },
    Route {
        path: "/vms/{vm}",
        id: "getVm",
        doc: "A VM",
        path_doc: "The name of a VM: vm3",
        response: Content::Json(schema::<VmDocument>),
        errors: &[status::BAD_REQUEST, status::NOT_FOUND],
        handle: |lab, call| json(status::OK, &lab.vm(&call.parameter)?),
        ..GET
    },
    Route {
        method: "DELETE",
        path: "/vms/{vm}",
        id: "removeVms",
        doc: "Removes VMs, with their flows",
        path_doc: "VMs: vm3, vm[0-9], all, or the name of a group",
        status: status::ACCEPTED,
        response: Content::Json(schema::<ChangedVms>),
        errors: &[
            status::BAD_REQUEST,
            status::NOT_FOUND,
            status::CONFLICT,
            status::INTERNAL_ERROR,
        ],
        handle: |lab, call| {
            Ok(Response::later(Work::remove_vms(
                lab.vms_named(&call.parameter)?,
            )))
        },
        ..GET
    },
    Route {
        path: "/flows",
        id: "listFlows",
        doc: "The flows, each with its pings so far",
        query: PAGED_AND_SORTED,
        response: Content::Json(schema::<List<FlowDocument>>),
        handle: |_, call| {
            let list = match call.order()? {
                Order::Number => ListOf::Flows,
                Order::Worst => ListOf::WorstFlows(None),
            };
            Ok(Response::later(Work::list(list, call.page()?)))
        },
        ..GET
    },
    Route {
        method: "POST",
        path: "/flows",
        id: "addFlows",
        doc: "Adds flows, which ping from now on",
        request: Some(schema::<AddFlows>),
        status: status::CREATED,
        response: Content::Json(schema::<AddedFlows>),
        errors: &[status::BAD_REQUEST, status::CONFLICT],
        handle: |_, call| Ok(Response::later(Work::add_flows(call.body()?))),
        ..GET
    },
    Route {
        method: "DELETE",
        path: "/flows/{flow}",
        id: "removeFlow",
        doc: "Ends a flow: it sends no more",
        path_doc: "The number of a flow: 0",
        response: Content::Json(schema::<Done>),
        errors: &[status::BAD_REQUEST, status::NOT_FOUND, status::CONFLICT],
        handle: |lab, call| json(status::OK, &lab.remove_flow(call.number()?)?),
        ..GET
    },
    Route {
        method: "PUT",
        path: "/load",
        id: "setLoad",
        doc: "Changes how the flows send from now on: one of rate, interval and window",
        request: Some(schema::<LoadDocument>),
        response: Content::Json(schema::<LoadDocument>),
        errors: &[status::BAD_REQUEST, status::CONFLICT],
        handle: |lab, call| json(status::OK, &lab.set_load(call.body()?)?),
        ..GET
    },
    Route {
        path: "/impairments",
        id: "getImpairments",
        doc: "The impairments, and the frames that were impaired so far",
        response: Content::Json(schema::<ImpairmentsDocument>),
        handle: |lab, _| {
            Ok(Response::later(Work::impairments(
                status::OK,
                lab.impairments(),
            )))
        },
        ..GET
    },
    Route {
        method: "POST",
        path: "/impairments",
        id: "impair",
        doc: "Adds impairments",
        request: Some(schema::<ImpairDocument>),
        status: status::CREATED,
        response: Content::Json(schema::<ImpairmentsDocument>),
        errors: &[status::BAD_REQUEST, status::CONFLICT],
        handle: |lab, call| {
            let impaired = lab.impair(call.body()?)?;
            Ok(Response::later(Work::impairments(
                status::CREATED,
                impaired,
            )))
        },
        ..GET
    },
    Route {
        method: "DELETE",
        path: "/impairments",
        id: "endImpairments",
        doc: "Ends all impairments",
        response: Content::Json(schema::<ImpairmentsDocument>),
        errors: &[status::BAD_REQUEST, status::CONFLICT],
        handle: |lab, _| {
            let impaired = lab.end_impairments()?;
            Ok(Response::later(Work::impairments(status::OK, impaired)))
        },
        ..GET
    },
    Route {
        path: "/misbehaviours",
        id: "listMisbehaviours",
        doc: "The misbehaviours of the run so far, those that have ended included, and those of the present phase that are to come",
        query: PAGED,
        response: Content::Json(schema::<List<MisbehaviourSummary>>),
        handle: |lab, call| json(status::OK, &lab.misbehaviours(call.page()?)),
        ..GET
    },
    Route {
        method: "POST",
        path: "/misbehaviours",
        id: "misbehave",
        doc: "Makes VMs misbehave from now on; only in a lab whose network namespace the run has made",
        query: PAGED,
        request: Some(schema::<MisbehaveDocument>),
        status: status::CREATED,
        response: Content::Json(schema::<List<MisbehaviourSummary>>),
        errors: &[status::BAD_REQUEST, status::CONFLICT],
        handle: |lab, call| json(status::CREATED, &lab.misbehave(call.body()?, call.page()?)?),
        ..GET
    },
    Route {
        method: "DELETE",
        path: "/misbehaviours/{vm}",
        id: "behave",
        doc: "Ends the misbehaviours of VMs, and cancels those of the present phase that are to come",
        path_doc: "VMs: vm3, vm[0-9], all, or the name of a group",
        query: PAGED,
        response: Content::Json(schema::<List<MisbehaviourSummary>>),
        errors: &[status::BAD_REQUEST, status::NOT_FOUND, status::CONFLICT],
        handle: |lab, call| json(status::OK, &lab.behave(&call.parameter, call.page()?)?),
        ..GET
    },
    Route {
        method: "POST",
        path: "/captures",
        id: "capture",
        doc: "Begins to capture frames: into a file of the machine that the lab runs on, or without one into the response, \
              until the client or the lab has enough",
        request: Some(schema::<CaptureDocument>),
        status: status::CREATED,
        response: Content::JsonOrCapture(schema::<CaptureSoFar>),
        errors: &[
            status::BAD_REQUEST,
            status::FORBIDDEN,
            status::CONFLICT,
            status::INTERNAL_ERROR,
        ],
        handle: |lab, call| {
            let wish: CaptureDocument = call.body()?;
            if wish.capture.is_some() {
                call.check_files()?;
            }
            match lab.capture(wish)? {
                Capturing::ForClient(instrument) => Ok(stream(instrument, PCAPNG)),
                Capturing::IntoFile(capture) => json(status::CREATED, &capture),
            }
        },
        ..GET
    },
    Route {
        path: "/captures",
        id: "listCaptures",
        doc: "The captures into files that have not been ended, those of the plan and those that have failed included",
        query: PAGED,
        response: Content::Json(schema::<List<CaptureSoFar>>),
        errors: &[status::BAD_REQUEST],
        handle: |lab, call| json(status::OK, &lab.captures(call.page()?)),
        ..GET
    },
    Route {
        method: "DELETE",
        path: "/captures/{capture}",
        id: "endCapture",
        doc: "Ends a capture into a file, and completes the file",
        path_doc: "The number of a capture: 0",
        response: Content::Json(schema::<CaptureSoFar>),
        errors: &[status::BAD_REQUEST, status::NOT_FOUND, status::CONFLICT],
        handle: |lab, call| json(status::OK, &lab.end_capture(call.number()?)?),
        ..GET
    },
    Route {
        method: "POST",
        path: "/marks",
        id: "setMark",
        doc: "Sets a mark: a name for this instant",
        request: Some(schema::<SetMark>),
        status: status::CREATED,
        response: Content::Json(schema::<MarkDocument>),
        errors: &[status::BAD_REQUEST, status::CONFLICT],
        handle: |lab, call| json(status::CREATED, &lab.mark(call.body()?)?),
        ..GET
    },
    Route {
        path: "/moves",
        id: "listMoves",
        doc: "The moves that were made, and behind them those of the present phase that are to come",
        query: PAGED,
        response: Content::Json(schema::<List<MoveDocument>>),
        handle: |lab, call| json(status::OK, &lab.moves(call.page()?)),
        ..GET
    },
    Route {
        method: "DELETE",
        path: "/moves/{vm}",
        id: "endMoves",
        doc: "Has the moves of VMs that are to come not made, such as the rest of a repeated one",
        path_doc: "VMs: vm3, vm[0-9], all, or the name of a group",
        query: PAGED,
        response: Content::Json(schema::<List<MoveDocument>>),
        errors: &[status::BAD_REQUEST, status::NOT_FOUND, status::CONFLICT],
        handle: |lab, call| json(status::OK, &lab.end_moves(&call.parameter, call.page()?)?),
        ..GET
    },
    Route {
        method: "POST",
        path: "/moves",
        id: "moveVm",
        doc: "Moves a VM to another place of the fabric, while its flows go on",
        request: Some(schema::<MoveVm>),
        status: status::CREATED,
        response: Content::Json(schema::<MovedVm>),
        errors: &[
            status::BAD_REQUEST,
            status::CONFLICT,
            status::INTERNAL_ERROR,
        ],
        handle: |_, call| Ok(Response::later(Work::move_vm(call.body()?))),
        ..GET
    },
    Route {
        path: "/report",
        id: "getReport",
        doc: "The report of what was measured so far, in the format that the client accepts; JSON by default",
        response: Content::Report,
        errors: &[status::BAD_REQUEST, status::NOT_ACCEPTABLE],
        handle: |_, call| Ok(Response::later(Work::report(call.accepted_format()?))),
        ..GET
    },
    Route {
        path: "/report.{format}",
        id: "getReportAs",
        doc: "The report of what was measured so far",
        path_doc: "The format: the ending of a report's file, such as json, csv, html, hlog, hgrm or boot.hgrm",
        response: Content::Report,
        errors: &[status::BAD_REQUEST, status::NOT_FOUND],
        handle: |_, call| Ok(Response::later(Work::report(call.named_format()?))),
        ..GET
    },
    Route {
        path: METRICS,
        id: "getMetrics",
        doc: "The metrics of the run so far for Prometheus, or as OpenMetrics if the client accepts that",
        response: Content::Metrics,
        handle: |lab, call| Ok(metrics(lab, call.accepted_exposition())),
        ..GET
    },
    Route {
        path: "/events",
        id: "getEvents",
        doc: "The events of the run from now on, those of --trace, as lines of JSON, until the client or the lab has enough",
        response: Content::Events,
        handle: |lab, _| Ok(stream(lab.events()?, JSON_LINES)),
        ..GET
    },
    Route {
        method: "POST",
        path: "/stop",
        id: "stop",
        doc: "Ends the run in order, as SIGINT does",
        status: status::ACCEPTED,
        response: Content::Json(schema::<Done>),
        handle: |lab, _| json(status::ACCEPTED, &lab.stop()?),
        ..GET
    },
    Route {
        path: "/openapi.json",
        id: "getDescription",
        doc: "This description",
        response: Content::Description,
        handle: |_, _| {
            Ok(Response::json(
                status::OK,
                openapi::description().into_bytes(),
            ))
        },
        ..GET
    },
];

impl Route {
    /// The name of the path's parameter.
    pub(super) fn parameter(&self) -> Option<&'static str> {
        let (_, parameter) = self.path.split_once('{')?;
        parameter.strip_suffix('}')
    }

    /// Returns the parameter that `path` has, which is empty of a path without; `None` if it is another path.
    pub(super) fn matched<'a>(&self, path: &'a str) -> Option<&'a str> {
        let Some((before, _)) = self.path.split_once('{') else {
            return (path == self.path).then_some("");
        };
        let parameter = path.strip_prefix(before)?;
        (!parameter.is_empty() && !parameter.contains('/')).then_some(parameter)
    }
}
