//! One connection of a client: HTTP/1.1 (RFC 9112) without I/O. Bytes that came go in, requests come out; responses go in,
//! bytes to send come out.
//!
//! Everything a client makes the program hold is bounded, in bytes and in time: a request in [`MAX_REQUEST`], the wait for
//! the rest of one in [`REQUEST_TIME`], the wait until a response was taken in [`RESPONSE_TIME`]. Requests that follow one
//! another without waiting for the response (pipelining) are answered one by one; more than [`MAX_REQUEST`] of them are not
//! read.
//!
//! `httparse` reads the head. What ends a message is decided here, and strictly: a length that is told twice, or together
//! with a transfer coding, is refused, and so is HTTP/1.1 without a `Host`.

use std::time::Duration;

use httparse::{EMPTY_HEADER, Header, Status};

use super::message::{Body, Request, Response};
use super::token::Credentials;
use super::{ApiError, status};
use crate::report::Pieces;
use crate::time::Instant;

/// Bytes of a request, its head and its body.
pub const MAX_REQUEST: usize = 64 << 10;
/// Header fields of a request.
pub const MAX_HEADERS: usize = 64;
/// The time from the first byte of a request to its last, and from the connection to the first byte.
pub const REQUEST_TIME: Duration = Duration::from_secs(10);
/// The time for which a connection is kept after a response, without another request.
pub const IDLE_TIME: Duration = Duration::from_secs(60);
/// The time within which a client has to close a connection that is to be closed.
pub const CLOSING_TIME: Duration = Duration::from_secs(2);
/// The time within which a client has to take a response.
pub const RESPONSE_TIME: Duration = Duration::from_secs(30);

/// Bytes of a response in pieces that the client has not taken, above which no further piece is made.
const MAX_UNTAKEN: usize = 64 << 10;

/// What a target in absolute form begins with.
const SCHEME: &str = "http://";

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The client, to send a request.
    Receiving,
    /// The program, to answer a request.
    Answering,
    /// The client, to take a response.
    Sending,
    /// The client, to take the head of a response that another writer continues.
    Opening,
    /// The client, to close the connection: it has taken all that it gets.
    Closing,
    /// Nothing: the connection is to be closed.
    Over,
}

/// A connection of a client.
#[derive(Debug)]
pub struct Connection {
    state: State,
    /// Bytes that came and belong to no request yet.
    input: Vec<u8>,
    /// Bytes at the start of `input` that hold no end of a head.
    searched: usize,
    /// The length of the request whose head has come.
    awaited: usize,
    /// The client sends no more.
    has_ended: bool,
    /// Something came since the last look for a request.
    is_new: bool,
    output: Vec<u8>,
    /// Bytes at the start of `output` that the client has taken.
    taken: usize,
    /// Another request may follow.
    is_kept: bool,
    /// The request that is being answered wants no body.
    is_head: bool,
    /// The request that is being answered is HTTP/1.0.
    is_first_version: bool,
    /// The rest of the response.
    pieces: Option<Pieces>,
    deadline: Instant,
    /// The time at which the client came, or had taken the last response.
    free_since: Instant,
}

impl Connection {
    /// Creates the connection of a client that has come at `now`.
    pub fn new(now: Instant) -> Connection {
        Connection {
            state: State::Receiving,
            input: Vec::new(),
            searched: 0,
            awaited: 0,
            has_ended: false,
            is_new: false,
            output: Vec::new(),
            taken: 0,
            is_kept: true,
            is_head: false,
            is_first_version: false,
            pieces: None,
            deadline: now + REQUEST_TIME,
            free_since: now,
        }
    }

    /// Returns the number of bytes that [`Connection::handle`] takes; 0 if what came has to be answered first.
    pub fn room(&self) -> usize {
        match self.has_ended {
            true => 0,
            false => MAX_REQUEST - self.input.len(),
        }
    }

    /// Takes bytes that came at `now`, no more than there is [room](Connection::room) for.
    pub fn handle(&mut self, now: Instant, bytes: &[u8]) {
        // After a refusal what follows can't be told apart.
        if bytes.is_empty() || !self.is_kept {
            return;
        }
        // Empty lines begin no request: who sends nothing else is as silent as who sends nothing.
        let begins = self.input.is_empty() && bytes.iter().any(|byte| !is_line_end(byte));
        if begins && self.state == State::Receiving {
            self.deadline = now + REQUEST_TIME;
        }
        let bytes = bytes.get(..self.room()).unwrap_or(bytes);
        self.input.extend_from_slice(bytes);
        self.is_new = true;
    }

    /// The client sends no more. What it has sent is answered still.
    pub fn handle_end(&mut self) {
        self.has_ended = true;
        self.is_new = true;
        if self.state == State::Closing {
            self.state = State::Over;
        }
    }

    /// Returns true if [`Connection::request`] may have something to do.
    pub fn may_have_request(&self) -> bool {
        self.is_new && self.state == State::Receiving
    }

    /// Returns the next request, once it is complete and the one before it is answered. The caller
    /// [responds](Connection::respond) to it. What can't be a request is answered here.
    pub fn request(&mut self, now: Instant) -> Option<Request> {
        if self.state != State::Receiving {
            return None;
        }
        match self.take_request(now) {
            Ok(Some(request)) => {
                self.state = State::Answering;
                Some(request)
            }
            Ok(None) => {
                self.is_new = false;
                if self.has_ended {
                    self.state = State::Over;
                }
                None
            }
            Err(error) => {
                self.refuse(now, error);
                None
            }
        }
    }

    /// Tells the client `error`, whatever it asks, and closes.
    pub fn refuse(&mut self, now: Instant, error: ApiError) {
        self.is_kept = false;
        self.respond(now, error.into());
    }

    fn take_request(&mut self, now: Instant) -> Result<Option<Request>, ApiError> {
        if self.input.len() < self.awaited {
            return Ok(None);
        }
        let empty = self.input.iter().take_while(|byte| is_line_end(byte));
        let empty = empty.count();
        if empty > 0 {
            self.input.drain(..empty);
            self.searched = 0;
        }
        let Some(head_length) = self.head_length() else {
            return match self.input.len() < MAX_REQUEST {
                true => Ok(None),
                false => Err(too_large(
                    status::HEADERS_TOO_LARGE,
                    "the head of the request",
                )),
            };
        };
        let bytes = self.input.get(..head_length).unwrap_or_default();
        let head = Head::parse(bytes)?;
        if head.body_length > MAX_REQUEST - head_length {
            return Err(too_large(status::CONTENT_TOO_LARGE, "the request"));
        }
        let length = head_length + head.body_length;
        if self.input.len() < length {
            self.awaited = length;
            if head.is_continue_expected {
                self.output
                    .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            return Ok(None);
        }
        let body = self.input.get(head_length..length).unwrap_or_default();
        let request = Request {
            body: body.to_vec(),
            ..head.request
        };
        self.is_kept = head.is_kept;
        self.is_first_version = head.is_first_version;
        self.is_head = request.method == "HEAD";
        self.input.drain(..length);
        self.searched = 0;
        self.awaited = 0;
        // Of the next one, which may have come already.
        self.deadline = now + REQUEST_TIME;
        Ok(Some(request))
    }

    /// Returns the length of the head, up to and with the empty line that ends it. Each byte is looked at once, however
    /// slowly they come.
    fn head_length(&mut self) -> Option<usize> {
        let new = self.input.get(self.searched..)?;
        let lines = new.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let ends = lines.filter_map(|(at, _)| match new.get(at + 1..)? {
            [b'\n', ..] => Some(at + 2),
            [b'\r', b'\n', ..] => Some(at + 3),
            _ => None,
        });
        match ends.min() {
            Some(end) => Some(self.searched + end),
            None => {
                // The last two may begin an empty line.
                self.searched = self.input.len().saturating_sub(2).max(self.searched);
                None
            }
        }
    }

    /// Answers the request that [`Connection::request`] returned.
    pub fn respond(&mut self, now: Instant, response: Response) {
        let is_chunked = !self.is_first_version;
        self.is_kept &= match &response.body {
            Body::Stream(_) => false,
            // What has no length ends with the connection.
            Body::Pieces(_) => is_chunked,
            Body::Whole(_) | Body::Later(_) => true,
        };
        let head = response.head(self.is_kept, is_chunked);
        self.output.extend_from_slice(head.as_bytes());
        self.state = State::Sending;
        match response.body {
            _ if self.is_head => {}
            Body::Whole(body) => self.output.extend_from_slice(&body),
            Body::Pieces(pieces) => self.pieces = Some(pieces),
            Body::Stream(_) => self.state = State::Opening,
            Body::Later(_) => {}
        }
        self.deadline = now + RESPONSE_TIME;
    }

    /// Returns true if [`Connection::add_piece`] has something to do: the client has taken most of what was written of the
    /// response so far.
    pub fn wants_piece(&self) -> bool {
        self.pieces.is_some() && self.state == State::Sending && self.transmit().len() < MAX_UNTAKEN
    }

    /// Returns true if the response is one of several pieces, of which some are still to come.
    pub fn has_pieces(&self) -> bool {
        self.pieces.is_some()
    }

    /// Writes the next piece of the response, if the client [wants](Connection::wants_piece) one.
    pub fn add_piece(&mut self, now: Instant) {
        if !self.wants_piece() {
            return;
        }
        self.deadline = now + RESPONSE_TIME;
        let piece = self.pieces.as_mut().and_then(Pieces::next);
        let is_chunked = !self.is_first_version;
        match piece {
            // An empty chunk would be the last one.
            Some(Ok(piece)) if piece.is_empty() => {}
            Some(Ok(piece)) if is_chunked => {
                let length = format!("{:x}\r\n", piece.len());
                self.output.extend_from_slice(length.as_bytes());
                self.output.extend_from_slice(&piece);
                self.output.extend_from_slice(b"\r\n");
            }
            Some(Ok(piece)) => self.output.extend_from_slice(&piece),
            // It is too late to say what is wrong: a response that is cut off is none.
            Some(Err(_)) => self.state = State::Over,
            None => {
                self.pieces = None;
                if is_chunked {
                    self.output.extend_from_slice(b"0\r\n\r\n");
                }
                self.transmitted(now, 0);
            }
        }
    }

    /// Returns the bytes to send.
    pub fn transmit(&self) -> &[u8] {
        self.output.get(self.taken..).unwrap_or_default()
    }

    /// The client has taken `count` bytes of [`Connection::transmit`] at `now`.
    pub fn transmitted(&mut self, now: Instant, count: usize) {
        self.taken += count;
        if self.taken < self.output.len() {
            if self.has_pieces() && self.taken >= MAX_UNTAKEN {
                self.output.drain(..std::mem::take(&mut self.taken));
            }
            return;
        }
        self.taken = 0;
        self.output = Vec::new();
        if self.has_pieces() {
            return;
        }
        if self.state == State::Sending {
            self.free_since = now;
        }
        match self.state {
            State::Sending if self.is_kept => {
                self.state = State::Receiving;
                self.is_head = false;
                self.deadline = match self.input.is_empty() {
                    true => now + IDLE_TIME,
                    false => now + REQUEST_TIME,
                };
            }
            State::Sending if self.has_ended => self.state = State::Over,
            // One that still sends would not read what it was sent if the connection were closed.
            State::Sending => {
                self.input = Vec::new();
                self.state = State::Closing;
                self.deadline = now + CLOSING_TIME;
            }
            _ => {}
        }
    }

    /// Returns true once the head of a [stream](Body::Stream) was taken: the connection belongs to who writes the stream
    /// from now on.
    pub fn is_open_stream(&self) -> bool {
        self.state == State::Opening && self.transmit().is_empty()
    }

    /// Returns the time since which no request is being answered. What has come since may be [part](Connection::has_part) of one,
    /// or one that [was not looked for](Connection::may_have_request). `None` if one is being answered.
    pub fn free_since(&self) -> Option<Instant> {
        let is_free = matches!(self.state, State::Receiving | State::Closing);
        is_free.then_some(self.free_since)
    }

    /// Returns true if part of a request has come.
    pub fn has_part(&self) -> bool {
        !self.input.is_empty()
    }

    /// Returns the time at which [`Connection::handle_timeout`] is to be called.
    pub const fn timeout(&self) -> Instant {
        self.deadline
    }

    /// It is `now`. A client that is too slow is told so if it can be, or cut off.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.deadline {
            return;
        }
        match self.state {
            State::Receiving if !self.input.is_empty() && self.transmit().is_empty() => {
                let error = ApiError::new(
                    status::REQUEST_TIMEOUT,
                    "the request is not complete",
                    format!("all of it within {} seconds", REQUEST_TIME.as_secs()),
                );
                self.refuse(now, error);
            }
            // The program itself is late.
            State::Answering => {}
            _ => self.state = State::Over,
        }
    }

    /// Returns true if nothing more will be sent: the connection is to be closed in that direction, and closed altogether
    /// when the client has closed it, too, or it [is over](Connection::is_over).
    pub fn is_closing(&self) -> bool {
        self.state == State::Closing
    }

    /// Returns true if the connection is to be closed.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }
}

/// The head of a request.
struct Head {
    /// Still without its body.
    request: Request,
    body_length: usize,
    is_kept: bool,
    is_first_version: bool,
    is_continue_expected: bool,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Head, ApiError> {
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(bytes) {
            Ok(Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err(malformed("the head of the request ends too early")),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(ApiError::new(
                    status::HEADERS_TOO_LARGE,
                    "the request has too many header fields",
                    format!("at most {MAX_HEADERS}"),
                ));
            }
            Err(httparse::Error::Version) => {
                return Err(ApiError::new(
                    status::VERSION_NOT_SUPPORTED,
                    "the version of the request is unknown",
                    "HTTP/1.1 or HTTP/1.0",
                ));
            }
            Err(error) => return Err(malformed(error.to_string())),
        }
        let is_first_version = parsed.version == Some(0);
        let headers: &[Header<'_>] = parsed.headers;
        let hosts = values(headers, "host").count();
        if hosts > 1 || (hosts == 0 && !is_first_version) {
            let error = format!("the request has {hosts} Host header fields");
            return Err(ApiError::new(status::BAD_REQUEST, error, "one"));
        }
        let is_kept = !has_word(headers, "connection", "close")
            && (!is_first_version || has_word(headers, "connection", "keep-alive"));
        let accept = values(headers, "accept").map(String::from_utf8_lossy);
        let host = values(headers, "host").next().unwrap_or_default();
        let (named, target) = split_target(parsed.path.unwrap_or_default());
        let mut shown = values(headers, "authorization");
        let credentials = shown.next().filter(|_| shown.next().is_none());
        Ok(Head {
            body_length: body_length(headers)?,
            is_kept,
            is_first_version,
            is_continue_expected: !is_first_version && has_word(headers, "expect", "100-continue"),
            request: Request {
                method: parsed.method.unwrap_or_default().to_owned(),
                target,
                accept: accept.collect::<Vec<_>>().join(","),
                host: named.unwrap_or_else(|| String::from_utf8_lossy(host).into_owned()),
                has_origin: values(headers, "origin").next().is_some(),
                credentials: Credentials(credentials.unwrap_or_default().to_vec()),
                body: Vec::new(),
            },
        })
    }
}

/// Returns the host that a target in absolute form names, which is the one that counts then (RFC 9112, section 3.2.2), and
/// the path and the query.
fn split_target(target: &str) -> (Option<String>, String) {
    let parts = target.split_at_checked(SCHEME.len());
    let rest = parts.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
    let Some((_, rest)) = rest else {
        return (None, target.to_owned());
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let path = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    };
    (Some(host.to_owned()), path)
}

/// Returns the values of the header field `name`.
fn values<'a>(headers: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let named = headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.map(|header| header.value)
}

/// Returns true if the header field `name`, a list, has `word`.
fn has_word(headers: &[Header<'_>], name: &str, word: &str) -> bool {
    values(headers, name)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .any(|one| one.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Returns the length of the body (RFC 9112, section 6.3).
fn body_length(headers: &[Header<'_>]) -> Result<usize, ApiError> {
    let mut lengths = values(headers, "content-length");
    let length = lengths.next();
    let is_coded = values(headers, "transfer-encoding").next().is_some();
    match (length, lengths.next(), is_coded) {
        (None, _, false) => Ok(0),
        (None, _, true) => Err(ApiError::new(
            status::LENGTH_REQUIRED,
            "the body has a transfer coding",
            "a body with a Content-Length",
        )),
        (Some(_), _, true) => Err(ApiError::new(
            status::BAD_REQUEST,
            "the request has Content-Length and Transfer-Encoding",
            "one Content-Length, and no Transfer-Encoding",
        )),
        (Some(_), Some(_), false) => Err(ApiError::new(
            status::BAD_REQUEST,
            "the request has several Content-Length header fields",
            "one",
        )),
        (Some(length), None, false) => {
            let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let digits = std::str::from_utf8(length).unwrap_or_default();
            match is_number {
                // What is no usize is too large.
                true => Ok(digits.parse().unwrap_or(usize::MAX)),
                false => Err(ApiError::new(
                    status::BAD_REQUEST,
                    "the Content-Length is no number",
                    "a number of bytes",
                )),
            }
        }
    }
}

const fn is_line_end(byte: &u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

fn malformed(why: impl Into<String>) -> ApiError {
    ApiError::new(status::BAD_REQUEST, why, "a request of HTTP/1.1")
}

fn too_large(status: u16, what: &str) -> ApiError {
    let error = format!("{what} is too large");
    ApiError::new(status, error, format!("at most {MAX_REQUEST} bytes"))
}

#[cfg(test)]
mod tests;
