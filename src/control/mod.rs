//! The control interface of a running lab: HTTP/1.1 and JSON, without I/O.
//!
//! A [`Connection`] takes the bytes of a client and returns [requests](Request); [`answer`] finds the row of the table of
//! [`ROUTES`] that a request is for, and has the [lab](Controlled) carry it out; the response goes back into the
//! connection. Descriptors are [`crate::system`]'s and the reactor's, labs are [`crate::lab`]'s. [`description`] is made of
//! the same table.
//!
//! Read first: RFC 9110 (semantics) and RFC 9112 (HTTP/1.1).

mod access;
mod address;
mod connection;
mod controlled;
mod dispatch;
mod error;
mod message;
mod misbehaviours;
mod moves;
mod openapi;
mod resources;
mod routes;
pub mod status;
mod token;
mod work;

pub use access::{Access, MAX_LISTENERS};
pub use address::{ControlAddress, is_loopback, socket_address};
pub use connection::{
    CLOSING_TIME, Connection, IDLE_TIME, MAX_HEADERS, MAX_REQUEST, REQUEST_TIME, RESPONSE_TIME,
};
pub use controlled::{Capturing, Controlled};
pub use dispatch::answer;
pub use error::ApiError;
pub use message::{Body, JSON, Request, Response};
pub use misbehaviours::MisbehaveDocument;
pub use moves::{MoveDocument, MoveVm, MovedVm};
pub use openapi::description;
pub use resources::{
    AddFlows, AddVms, AddedFlows, CaptureDocument, CaptureSoFar, ChangedVms, Done, FlowDocument,
    ImpairDocument, ImpairmentsDocument, LARGEST_PAGE, LabDocument, LabState, List, LoadDocument,
    MarkDocument, MarkSoFar, Order, PAGE, PHASES_TOLD, Page, PhaseDocument, RecentDocument,
    SetMark, VmDocument,
};
pub use routes::{ROUTES, Route};
pub use token::{Credentials, LONGEST_TOKEN, SHORTEST_TOKEN, TOKEN_VARIABLE, Token, TokenError};
pub use work::{ListOf, Work};
