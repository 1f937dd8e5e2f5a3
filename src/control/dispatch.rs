//! From a request to the handler of its route, and from what came of it to a response.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::{Body, JSON, Request, Response};
use super::resources::{LARGEST_PAGE, Order, PAGE, Page};
use super::routes::{METRICS, ROUTES, Route, SORT};
use super::{Access, ApiError, Controlled, status};
use crate::fabric::InstrumentConfig;
use crate::report::{Exposition, Format};

/// A request, as handlers see it.
pub(super) struct Call<'a> {
    /// The value of the path's parameter.
    pub(super) parameter: String,
    query: Vec<(String, String)>,
    accept: &'a str,
    body: &'a [u8],
    access: &'a Access,
}

/// Carries out a request of a client with that access.
pub fn answer(lab: &mut dyn Controlled, access: &Access, request: &Request) -> Response {
    let checked = access.check(request);
    let answered = checked.and_then(|()| dispatch(lab, access, request));
    answered.unwrap_or_else(Response::from)
}

fn dispatch(
    lab: &mut dyn Controlled,
    access: &Access,
    request: &Request,
) -> Result<Response, ApiError> {
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((&request.target, ""));
    let method = match request.method.as_str() {
        // The connection leaves out the body.
        "HEAD" => "GET",
        method => method,
    };
    match (access, method, path) {
        (Access::Metrics(_), "GET", "/") => return Ok(where_the_metrics_are()),
        (Access::Metrics(_), _, METRICS) => {}
        (Access::Metrics(_), ..) => {
            let error = format!("there is no {method} {path:?} here");
            return Err(ApiError::new(status::NOT_FOUND, error, "GET /metrics"));
        }
        _ => {}
    }
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
        query: parameters(query, route.query)?,
        accept: &request.accept,
        body: &request.body,
        access,
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

/// Reads a query, which may have the parameters `known`.
fn parameters(query: &str, known: &[&str]) -> Result<Vec<(String, String)>, ApiError> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            match known.contains(&name.as_str()) {
                true => Ok((name, value)),
                false => Err(ApiError::new(
                    status::BAD_REQUEST,
                    format!("there is no parameter {name:?}"),
                    if known.is_empty() {
                        "none".to_owned()
                    } else {
                        known.join(", ")
                    },
                )),
            }
        })
        .collect()
}

impl Call<'_> {
    /// Reads the body as a document.
    pub(super) fn body<T: DeserializeOwned + JsonSchema>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(self.body).map_err(|error| {
            let error = format!("the body is no such document: {error}");
            ApiError::new(status::BAD_REQUEST, error, expected::<T>())
        })
    }

    /// Makes sure that the request may name a file of the lab's machine.
    pub(super) fn check_files(&self) -> Result<(), ApiError> {
        match self.access.has_files() {
            true => Ok(()),
            false => Err(ApiError::new(
                status::FORBIDDEN,
                "over TCP no file is written",
                "no file: the response brings what would be in it",
            )),
        }
    }

    /// The part of a list that is asked for.
    pub(super) fn page(&self) -> Result<Page, ApiError> {
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
                ApiError::new(
                    status::BAD_REQUEST,
                    format!("{name}={text} can't be"),
                    expected,
                )
            })
        };
        Ok(Page {
            offset: number("offset", 0, 0..=usize::MAX)?,
            limit: number("limit", PAGE, 1..=LARGEST_PAGE)?,
        })
    }

    /// The order of a list that is asked for.
    pub(super) fn order(&self) -> Result<Order, ApiError> {
        let Some((_, word)) = self.query.iter().find(|(given, _)| given == SORT) else {
            return Ok(Order::default());
        };
        let order = Order::ALL.iter().find(|(known, _)| known == word);
        order.map(|(_, order)| *order).ok_or_else(|| {
            let words = Order::ALL.map(|(word, _)| word).join(", ");
            ApiError::new(
                status::BAD_REQUEST,
                format!("{SORT}={word} can't be"),
                words,
            )
        })
    }

    /// The media types that the client accepts, without their parameters. One of no weight (RFC 9110, section 12.4.2) is not
    /// accepted.
    fn accepted_types(&self) -> impl Iterator<Item = &str> {
        self.accept.split(',').filter_map(|one| {
            let mut parts = one.split(';').map(str::trim);
            let media_type = parts.next().filter(|media_type| !media_type.is_empty())?;
            let weight = parts.find_map(|parameter| {
                let (name, value) = parameter.split_once('=')?;
                let is_weight = name.eq_ignore_ascii_case("q");
                is_weight.then(|| value.parse::<f64>().ok())?
            });
            (weight != Some(0.0)).then_some(media_type)
        })
    }

    /// The format of metrics that the client accepts, the first in the order in which the client has them. A client that
    /// accepts none of them gets the default, as scrapers that prefer a format of later times expect.
    pub(super) fn accepted_exposition(&self) -> Exposition {
        let format = self.accepted_types().find_map(Exposition::of_media_type);
        format.unwrap_or(Exposition::Prometheus)
    }

    /// The format of a report that the client accepts, the first that fits in the order in which the client has them.
    pub(super) fn accepted_format(&self) -> Result<Format, ApiError> {
        let is_any = self.accept.chars().all(|c| matches!(c, ',' | ' ' | '\t'));
        let found = match is_any {
            true => Format::of_media_type(JSON),
            false => self.accepted_types().find_map(Format::of_media_type),
        };
        found.ok_or_else(|| {
            let formats = Format::with_media_types();
            let types: Vec<_> = formats.map(|format| format.media_type()).collect();
            let error = format!("no report is {:?}", self.accept);
            ApiError::new(status::NOT_ACCEPTABLE, error, types.join(", "))
        })
    }

    /// The format of a report that the path's parameter names, as the ending of a file would.
    pub(super) fn named_format(&self) -> Result<Format, ApiError> {
        let name = format!("report.{}", self.parameter);
        let format = Format::of(Path::new(&name));
        format.map_err(|error| ApiError::in_words(status::NOT_FOUND, &error))
    }

    /// The path's parameter, a number.
    pub(super) fn number(&self) -> Result<u32, ApiError> {
        self.parameter.parse().map_err(|_| {
            let error = format!("{:?} is no number", self.parameter);
            ApiError::new(status::BAD_REQUEST, error, "a number, as the list has them")
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

/// Answers with a document.
pub(super) fn json(status: u16, document: &impl Serialize) -> Result<Response, ApiError> {
    let mut body = serde_json::to_vec(document).map_err(|error| not_written(&error))?;
    body.push(b'\n');
    Ok(Response::json(status, body))
}

/// A document that can't be written.
pub(super) fn not_written(error: &serde_json::Error) -> ApiError {
    ApiError::new(status::INTERNAL_ERROR, error.to_string(), "a document")
}

/// Answers who looks at an address of metrics.
fn where_the_metrics_are() -> Response {
    Response {
        content_type: "text/plain; charset=utf-8",
        ..Response::json(
            status::OK,
            b"The metrics of a run of tap-reactor: GET /metrics\n".to_vec(),
        )
    }
}

/// Answers with the records of an instrument, for as long as the connection lasts.
pub(super) fn stream(instrument: InstrumentConfig, content_type: &'static str) -> Response {
    Response {
        content_type,
        body: Body::Stream(instrument),
        ..Response::json(status::OK, Vec::new())
    }
}

/// Answers with the metrics so far.
pub(super) fn metrics(lab: &mut dyn Controlled, format: Exposition) -> Response {
    Response {
        content_type: format.content_type(),
        ..Response::json(status::OK, lab.metrics(format).into_bytes())
    }
}
