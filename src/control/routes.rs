//! The table of routes: one row for each method of each resource.
//!
//! A request finds its handler here, a wrong one its answer (404 with the resources, 405 with the methods), and the
//! [description](super::openapi) is made of the same rows.

use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::{Body, JSON, Request, Response};
use super::resources::{
    AddFlows, AddVms, AddedFlows, CaptureDocument, ChangedVms, Done, FlowDocument, ImpairDocument,
    ImpairmentsDocument, LARGEST_PAGE, LabDocument, List, LoadDocument, MarkDocument, PAGE, Page,
    SetMark, VmDocument,
};
use super::{ApiError, Controlled, openapi, status};
use crate::report::Format;

/// Lines of JSON: the media type of events.
pub(super) const JSON_LINES: &str = "application/jsonl";

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
    /// It returns a list, a [`Page`] of it.
    pub(super) is_paged: bool,
    /// The type of the body of a request.
    pub(super) request: Option<SchemaOf>,
    /// The status of a response when all is well.
    pub(super) status: u16,
    pub(super) response: Content,
    /// The other statuses that it has. Any request may have those of a connection.
    pub(super) errors: &'static [u16],
    handle: Handler,
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
    is_paged: false,
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
        is_paged: true,
        response: Content::Json(schema::<List<VmDocument>>),
        handle: |lab, call| json(status::OK, &lab.vms(call.page()?)),
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
        errors: &[status::BAD_REQUEST, status::CONFLICT],
        handle: |lab, call| json(status::ACCEPTED, &lab.add_vms(call.body()?)?),
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
        errors: &[status::BAD_REQUEST, status::NOT_FOUND, status::CONFLICT],
        handle: |lab, call| json(status::ACCEPTED, &lab.remove_vms(&call.parameter)?),
        ..GET
    },
    Route {
        path: "/flows",
        id: "listFlows",
        doc: "The flows, each with its pings so far",
        is_paged: true,
        response: Content::Json(schema::<List<FlowDocument>>),
        handle: |lab, call| json(status::OK, &lab.flows(call.page()?)),
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
        handle: |lab, call| json(status::CREATED, &lab.add_flows(call.body()?)?),
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
        handle: |lab, _| json(status::OK, &lab.impairments()),
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
        handle: |lab, call| json(status::CREATED, &lab.impair(call.body()?)?),
        ..GET
    },
    Route {
        method: "DELETE",
        path: "/impairments",
        id: "endImpairments",
        doc: "Ends all impairments",
        response: Content::Json(schema::<ImpairmentsDocument>),
        errors: &[status::BAD_REQUEST, status::CONFLICT],
        handle: |lab, _| json(status::OK, &lab.end_impairments()?),
        ..GET
    },
    Route {
        method: "POST",
        path: "/captures",
        id: "capture",
        doc: "Begins to capture frames into a file of the machine that the lab runs on",
        request: Some(schema::<CaptureDocument>),
        status: status::CREATED,
        response: Content::Json(schema::<Done>),
        errors: &[status::BAD_REQUEST, status::CONFLICT],
        handle: |lab, call| json(status::CREATED, &lab.capture(call.body()?)?),
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
        path: "/report",
        id: "getReport",
        doc: "The report of what was measured so far, in the format that the client accepts; JSON by default",
        response: Content::Report,
        errors: &[status::BAD_REQUEST, status::NOT_ACCEPTABLE],
        handle: |lab, call| report(lab, accepted(call.accept)?),
        ..GET
    },
    Route {
        path: "/report.{format}",
        id: "getReportAs",
        doc: "The report of what was measured so far",
        path_doc: "The format: the ending of a report's file, such as json, csv, html, hlog, hgrm or boot.hgrm",
        response: Content::Report,
        errors: &[status::BAD_REQUEST, status::NOT_FOUND],
        handle: |lab, call| {
            let name = format!("report.{}", call.parameter);
            let format = Format::of(Path::new(&name));
            report(
                lab,
                format.map_err(|error| ApiError::in_words(status::NOT_FOUND, &error))?,
            )
        },
        ..GET
    },
    Route {
        path: "/events",
        id: "getEvents",
        doc: "The events of the run from now on, those of --trace, as lines of JSON, until the client or the lab has enough",
        response: Content::Events,
        handle: |_, _| {
            Ok(Response {
                content_type: JSON_LINES,
                body: Body::Stream,
                ..Response::json(status::OK, Vec::new())
            })
        },
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

/// A request, as handlers see it.
struct Call<'a> {
    /// The value of the path's parameter.
    parameter: String,
    query: Vec<(String, String)>,
    accept: &'a str,
    body: &'a [u8],
}

/// Carries out a request.
pub fn answer(lab: &mut dyn Controlled, request: &Request) -> Response {
    dispatch(lab, request).unwrap_or_else(Response::from)
}

fn dispatch(lab: &mut dyn Controlled, request: &Request) -> Result<Response, ApiError> {
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((&request.target, ""));
    let method = match request.method.as_str() {
        // The connection leaves out the body.
        "HEAD" => "GET",
        method => method,
    };
    let here: Vec<(&Route, &str)> = ROUTES
        .iter()
        .filter_map(|route| Some((route, route.matched(path)?)))
        .collect();
    let Some((route, parameter)) = here.iter().find(|(route, _)| route.method == method) else {
        return Err(match here.is_empty() {
            true => ApiError::new(
                status::NOT_FOUND,
                format!("there is no {path:?} here"),
                paths().join(", "),
            ),
            false => not_allowed(method, path, &here),
        });
    };
    let call = Call {
        parameter: decoded(parameter)?,
        query: parameters(query, route.is_paged)?,
        accept: &request.accept,
        body: &request.body,
    };
    if route.request.is_none() && !call.body.is_empty() {
        let error = format!("{method} {path} has a body");
        return Err(ApiError::new(status::BAD_REQUEST, error, "none"));
    }
    (route.handle)(lab, &call)
}

fn not_allowed(method: &str, path: &str, here: &[(&Route, &str)]) -> ApiError {
    let mut methods: Vec<&str> = here.iter().map(|(route, _)| route.method).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    let methods = methods.join(", ");
    let error = format!("{path} has no method {method}");
    ApiError {
        allow: Some(methods.clone()),
        ..ApiError::new(status::METHOD_NOT_ALLOWED, error, methods)
    }
}

/// Every path, once.
fn paths() -> Vec<&'static str> {
    let mut paths: Vec<_> = ROUTES.iter().map(|route| route.path).collect();
    paths.dedup();
    paths
}

impl Route {
    /// The name of the path's parameter.
    pub(super) fn parameter(&self) -> Option<&'static str> {
        let (_, parameter) = self.path.split_once('{')?;
        parameter.strip_suffix('}')
    }

    /// Returns the parameter that `path` has, which is empty of a path without; `None` if it is another path.
    fn matched<'a>(&self, path: &'a str) -> Option<&'a str> {
        let Some((before, _)) = self.path.split_once('{') else {
            return (path == self.path).then_some("");
        };
        let parameter = path.strip_prefix(before)?;
        (!parameter.is_empty() && !parameter.contains('/')).then_some(parameter)
    }
}

/// The text of `encoded` (RFC 3986, section 2.1).
fn decoded(encoded: &str) -> Result<String, ApiError> {
    let wrong = || {
        let error = format!("{encoded:?} is not encoded as a URL is");
        ApiError::new(
            status::BAD_REQUEST,
            error,
            "UTF-8, with % and two hexadecimal digits",
        )
    };
    let mut parts = encoded.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(wrong)?);
        bytes.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// Reads a query. Only lists have parameters.
fn parameters(query: &str, is_paged: bool) -> Result<Vec<(String, String)>, ApiError> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            match is_paged && ["offset", "limit"].contains(&name.as_str()) {
                true => Ok((name, value)),
                false => Err(ApiError::new(
                    status::BAD_REQUEST,
                    format!("there is no parameter {name:?}"),
                    if is_paged { "offset and limit" } else { "none" },
                )),
            }
        })
        .collect()
}

impl Call<'_> {
    /// Reads the body as a document.
    fn body<T: DeserializeOwned + JsonSchema>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(self.body).map_err(|error| {
            let error = format!("the body is no such document: {error}");
            ApiError::new(status::BAD_REQUEST, error, expected::<T>())
        })
    }

    fn page(&self) -> Result<Page, ApiError> {
        let number = |name: &str, default, range: std::ops::RangeInclusive<usize>| {
            let given = self.query.iter().find(|(given, _)| given == name);
            let Some((_, text)) = given else {
                return Ok(default);
            };
            let number = text.parse().ok().filter(|number| range.contains(number));
            number.ok_or_else(|| {
                let (first, last) = range.into_inner();
                let expected = match last {
                    usize::MAX => "a number".to_owned(),
                    last => format!("a number from {first} to {last}"),
                };
                ApiError::new(status::BAD_REQUEST, format!("{name}={text}"), expected)
            })
        };
        Ok(Page {
            offset: number("offset", 0, 0..=usize::MAX)?,
            limit: number("limit", PAGE, 1..=LARGEST_PAGE)?,
        })
    }

    /// The path's parameter, a number.
    fn number(&self) -> Result<u32, ApiError> {
        self.parameter.parse().map_err(|_| {
            let error = format!("{:?} is no number", self.parameter);
            ApiError::new(status::BAD_REQUEST, error, "the number of a flow")
        })
    }
}

/// The names of the fields that a document may have, with their types.
fn expected<T: JsonSchema>() -> String {
    let schema = schemars::schema_for!(T);
    let properties = schema.get("properties").and_then(|value| value.as_object());
    let names: Vec<&str> = properties
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    format!("an object with {}", names.join(", "))
}

fn json(status: u16, document: &impl Serialize) -> Result<Response, ApiError> {
    let mut body = serde_json::to_vec(document)
        .map_err(|error| ApiError::new(status::INTERNAL_ERROR, error.to_string(), "a document"))?;
    body.push(b'\n');
    Ok(Response::json(status, body))
}

/// The format of a report that a client accepts, the first that fits in the order in which the client has them.
fn accepted(accept: &str) -> Result<Format, ApiError> {
    let types = accept
        .split(',')
        .map(|one| one.split(';').next().unwrap_or(one).trim());
    let mut types = types.filter(|one| !one.is_empty()).peekable();
    if types.peek().is_none() {
        return accepted(JSON);
    }
    let found = types.find_map(Format::of_media_type);
    found.ok_or_else(|| {
        let formats = Format::with_media_types();
        let types: Vec<_> = formats.map(|format| format.media_type()).collect();
        let error = format!("no report is {accept:?}");
        ApiError::new(status::NOT_ACCEPTABLE, error, types.join(", "))
    })
}

fn report(lab: &mut dyn Controlled, format: Format) -> Result<Response, ApiError> {
    let mut body = Vec::new();
    format
        .write(&lab.report(), &mut body)
        .map_err(|error| ApiError::new(status::INTERNAL_ERROR, error.to_string(), "a report"))?;
    Ok(Response {
        content_type: format.media_type(),
        ..Response::json(status::OK, body)
    })
}
