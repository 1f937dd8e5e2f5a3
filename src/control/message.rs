//! Requests and responses, as [`Connection`](super::Connection) reads and writes them.

use super::token::Credentials;
use super::{ApiError, Work};
use crate::fabric::InstrumentConfig;
use crate::report::Pieces;

/// The type of a document.
pub const JSON: &str = "application/json";

/// A request of a client.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Request {
    /// `GET`.
    pub method: String,
    /// Path and query, percent-encoded: `/vms?limit=10`.
    pub target: String,
    /// The types that the client accepts, the values of `Accept`; empty for any.
    pub accept: String,
    /// The host that it is for, as its target has it or the value of `Host`; empty if it names none.
    pub host: String,
    /// It comes from a page of a browser, and says from which: there is an `Origin`.
    pub has_origin: bool,
    /// The value of `Authorization`; empty if there is none, or several.
    pub credentials: Credentials,
    /// The body.
    pub body: Vec<u8>,
}

/// A response to a client.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The methods that the resource has, if the request had another.
    pub allow: Option<String>,
    /// The body.
    pub body: Body,
}

/// The body of a response.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// It is written piece by piece, as the client takes it.
    Pieces(Pieces),
    /// There is no response yet: this makes it, in slices.
    Later(Work),
    /// The records of this instrument follow, for as long as the connection lasts.
    Stream(InstrumentConfig),
}

impl Response {
    /// A document: `body` is its text.
    pub fn json(status: u16, body: Vec<u8>) -> Response {
        Response {
            status,
            content_type: JSON,
            allow: None,
            body: Body::Whole(body),
        }
    }

    /// Work that makes the response.
    pub(super) fn later(work: Work) -> Response {
        Response {
            body: Body::Later(work),
            ..Response::json(super::status::ACCEPTED, Vec::new())
        }
    }

    /// Returns the status line and the header fields. After a response that is not `kept` the connection is closed; what is not
    /// known beforehand of its length is told by chunks if it is.
    pub(super) fn head(&self, is_kept: bool, is_chunked: bool) -> String {
        let Response {
            status,
            content_type,
            ..
        } = self;
        let reason = super::status::reason(*status);
        let mut head = format!("HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\n");
        match &self.body {
            Body::Whole(body) => head += &format!("Content-Length: {}\r\n", body.len()),
            Body::Pieces(_) if is_chunked => head += "Transfer-Encoding: chunked\r\n",
            _ => {}
        }
        if let Some(allow) = &self.allow {
            head += &format!("Allow: {allow}\r\n");
        }
        if *status == super::status::UNAUTHORIZED {
            head += "WWW-Authenticate: Bearer\r\n";
        }
        // A report of a moment ago is not that of now.
        head += "Cache-Control: no-store\r\n";
        if !is_kept {
            head += "Connection: close\r\n";
        }
        head + "\r\n"
    }
}

impl From<ApiError> for Response {
    fn from(error: ApiError) -> Response {
        let mut body = error.to_json();
        body.push(b'\n');
        Response {
            allow: error.allow,
            ..Response::json(error.status, body)
        }
    }
}
