use proptest::prelude::*;

use std::path::Path;

use super::*;
use crate::fabric::{InstrumentConfig, InstrumentKind, WriteTo};
use crate::record::{Limits, Recorder};
use crate::report::{Context, Format, Pieces, Report};

const ZERO: Instant = Instant::ZERO;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Takes all that is to be sent.
fn take(connection: &mut Connection, now: Instant) -> String {
    let sent = text(connection.transmit());
    connection.transmitted(now, sent.len());
    sent
}

/// A connection that has received `bytes`, and the request in them.
fn received(bytes: &[u8]) -> (Connection, Option<Request>) {
    let mut connection = Connection::new(ZERO);
    connection.handle(ZERO, bytes);
    let request = connection.request(ZERO);
    (connection, request)
}

/// An instrument whose records are streamed.
fn records() -> InstrumentConfig {
    let kind = InstrumentKind::named("trace").unwrap();
    InstrumentConfig::new(kind, WriteTo::Client, []).unwrap()
}

fn ok(body: &str) -> Response {
    Response::json(status::OK, body.into())
}

fn request(method: &str, target: &str, accept: &str, body: &str) -> Request {
    Request {
        method: method.into(),
        target: target.into(),
        accept: accept.into(),
        host: "lab".into(),
        body: body.into(),
        ..Request::default()
    }
}

fn without_host(request: Request) -> Request {
    Request {
        host: String::new(),
        ..request
    }
}

#[test]
fn requests_are_read_as_they_come() {
    for (bytes, expected) in [
        (
            "GET /vms?limit=3 HTTP/1.1\r\nHost: lab\r\n\r\n",
            request("GET", "/vms?limit=3", "", ""),
        ),
        // As somebody types it, and without a Host before HTTP/1.1.
        (
            "GET / HTTP/1.1\nhost: \n\n",
            without_host(request("GET", "/", "", "")),
        ),
        (
            "GET / HTTP/1.0\r\n\r\n",
            without_host(request("GET", "/", "", "")),
        ),
        (
            "\r\n\nPOST /marks HTTP/1.1\r\nHost: lab\r\naccept: a/b\r\nContent-Length: 2\r\nACCEPT: c/d\r\n\r\n{}",
            request("POST", "/marks", "a/b,c/d", "{}"),
        ),
    ] {
        let (_, whole) = received(bytes.as_bytes());
        assert_eq!(whole.as_ref(), Some(&expected), "{bytes:?}");
        let mut connection = Connection::new(ZERO);
        for (index, byte) in bytes.bytes().enumerate() {
            assert_eq!(connection.request(ZERO), None, "{bytes:?} after {index}");
            connection.handle(ZERO, &[byte]);
        }
        assert_eq!(connection.request(ZERO), Some(expected), "{bytes:?}");
    }
}

#[test]
fn a_target_in_absolute_form_names_the_host_itself() {
    for (target, host, path) in [
        ("/vms?limit=1", "lab", "/vms?limit=1"),
        ("http://other:80/vms?limit=1", "other:80", "/vms?limit=1"),
        ("HTTP://[::1]:80/", "[::1]:80", "/"),
        ("http://other", "other", "/"),
        ("http://other?a=/b", "other", "/?a=/b"),
        ("http://a@b/vms", "a@b", "/vms"),
        ("http:///vms", "", "/vms"),
        ("https://other/vms", "lab", "https://other/vms"),
        ("*", "lab", "*"),
        ("http:/é", "lab", "http:/é"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: lab\r\n\r\n");
        let (_, found) = received(head.as_bytes());
        let expected = Request {
            host: host.to_owned(),
            ..request("GET", path, "", "")
        };
        assert_eq!(found, Some(expected), "{target}");
    }
}

#[test]
fn what_tells_who_asks_is_read_from_the_head() {
    for (fields, has_origin, credentials) in [
        ("", false, ""),
        ("Origin: null\r\n", true, ""),
        ("origin:\r\n", true, ""),
        ("Authorization: Bearer abc\r\n", false, "Bearer abc"),
        ("authorization:  Bearer abc \r\n", false, "Bearer abc"),
        // Of two it can't be told which one is meant.
        (
            "Authorization: Bearer abc\r\nAuthorization: Bearer abc\r\n",
            false,
            "",
        ),
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: lab\r\n{fields}\r\n");
        let (_, found) = received(head.as_bytes());
        let expected = Request {
            has_origin,
            credentials: Credentials(credentials.into()),
            ..request("GET", "/", "", "")
        };
        assert_eq!(found, Some(expected), "{fields:?}");
    }
}

#[test]
fn what_is_no_request_is_refused_with_what_is_expected() {
    let long = "x".repeat(MAX_REQUEST);
    let of = |head: &str| format!("{head}\r\nHost: lab\r\n\r\n");
    let with = |fields: &str| format!("POST /vms HTTP/1.1\r\nHost: lab\r\n{fields}\r\n\r\n");
    for (bytes, status, error) in [
        (of("GET /"), 400, "invalid token"),
        (
            of("GET / HTTP/2.0"),
            505,
            "the version of the request is unknown",
        ),
        (
            "GET / HTTP/1.1\r\n\r\n".into(),
            400,
            "the request has 0 Host header fields",
        ),
        (
            with("Host: lab"),
            400,
            "the request has 2 Host header fields",
        ),
        (of("GET /\0 HTTP/1.1"), 400, "invalid"),
        (of("\0\0\0\0"), 400, "invalid"),
        (with("a b: c"), 400, "invalid header name"),
        (with("a: b\0c"), 400, "invalid header value"),
        (with("a: b\r\n folded"), 400, "invalid"),
        (
            with("Content-Length: 2\r\nTransfer-Encoding: chunked"),
            400,
            "the request has Content-Length and Transfer-Encoding",
        ),
        (
            with("Transfer-Encoding: chunked"),
            411,
            "the body has a transfer coding",
        ),
        (
            with("Content-Length: 2\r\nContent-Length: 2"),
            400,
            "the request has several Content-Length header fields",
        ),
        (
            with("Content-Length: +2"),
            400,
            "the Content-Length is no number",
        ),
        (
            with("Content-Length: 2, 2"),
            400,
            "the Content-Length is no number",
        ),
        (
            with("Content-Length: "),
            400,
            "the Content-Length is no number",
        ),
        (
            with(&format!("Content-Length: {MAX_REQUEST}")),
            413,
            "the request is too large",
        ),
        (
            with("Content-Length: 99999999999999999999999"),
            413,
            "the request is too large",
        ),
        (
            with(&"a: b\r\n".repeat(MAX_HEADERS)),
            431,
            "the request has too many header fields",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: {long}"),
            431,
            "the head of the request is too large",
        ),
        (long.clone(), 431, "the head of the request is too large"),
    ] {
        let (mut connection, request) = received(bytes.as_bytes());
        let bytes = &bytes[..bytes.len().min(100)];
        assert_eq!(request, None, "{bytes:?}");
        let response = take(&mut connection, ZERO);
        let reason = status::reason(status);
        let line = format!("HTTP/1.1 {status} {reason}\r\n");
        assert!(response.starts_with(&line), "{bytes:?}: {response}");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nConnection: close"), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let said = body["error"].as_str().unwrap();
        assert!(said.contains(error), "{bytes:?}: {said}");
        assert!(!body["expected"].as_str().unwrap().is_empty());
        assert!(connection.is_closing());
    }
}

#[test]
fn a_request_may_be_as_large_as_it_may_be_and_no_larger() {
    for (excess, is_taken) in [(0, true), (1, false)] {
        let length = MAX_REQUEST - 80 + excess;
        let head = format!("POST /vms HTTP/1.1\r\nHost: lab\r\nContent-Length: {length}\r\n");
        let head = format!("{head}A: {}\r\n\r\n", "b".repeat(80 - head.len() - 7));
        assert_eq!(head.len(), 80);
        let mut connection = Connection::new(ZERO);
        connection.handle(ZERO, head.as_bytes());
        let mut request = connection.request(ZERO);
        for _ in 0..length {
            connection.handle(ZERO, b"x");
            assert!(connection.input.len() <= MAX_REQUEST);
            request = request.or_else(|| connection.request(ZERO));
        }
        assert_eq!(
            request.map(|request| request.body.len()),
            is_taken.then_some(length)
        );
        let is_refused = connection.transmit().starts_with(b"HTTP/1.1 413 ");
        assert_eq!(is_refused, !is_taken);
    }
}

#[test]
fn a_connection_serves_one_request_after_another_until_one_of_both_is_through() {
    let get = |version: &str, fields: &str| format!("GET / {version}\r\nHost: lab\r\n{fields}\r\n");
    for (bytes, is_kept) in [
        (get("HTTP/1.1", ""), true),
        (get("HTTP/1.1", "Connection: close\r\n"), false),
        (get("HTTP/1.1", "Connection: te, Close\r\n"), false),
        (get("HTTP/1.0", ""), false),
        (get("HTTP/1.0", "Connection: keep-alive\r\n"), true),
    ] {
        let (mut connection, request) = received(bytes.as_bytes());
        assert!(request.is_some());
        connection.respond(ZERO, ok("{}"));
        let response = take(&mut connection, ZERO);
        assert_eq!(
            response.contains("Connection: close"),
            !is_kept,
            "{bytes:?}"
        );
        assert!(
            response.ends_with("Content-Length: 2\r\nCache-Control: no-store\r\n\r\n{}") == is_kept
        );
        assert_eq!(connection.is_closing(), !is_kept);
        connection.handle(ZERO, bytes.as_bytes());
        assert_eq!(connection.request(ZERO).is_some(), is_kept);
    }
}

#[test]
fn requests_that_do_not_wait_are_answered_one_by_one_and_their_number_is_bounded() {
    let get = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n";
    let mut connection = Connection::new(ZERO);
    let mut sent = 0;
    while connection.room() >= get.len() {
        connection.handle(ZERO, get);
        sent += 1;
    }
    connection.handle(ZERO, get);
    assert_eq!(connection.room(), 0);
    let mut answered = 0;
    while connection.request(ZERO).is_some() {
        assert_eq!(
            connection.request(ZERO),
            None,
            "another one is being answered"
        );
        connection.respond(ZERO, ok("{}"));
        assert_eq!(connection.request(ZERO), None, "the response was not taken");
        take(&mut connection, ZERO);
        answered += 1;
    }
    assert_eq!(answered, sent);
}

#[test]
fn a_head_request_gets_the_head_alone() {
    let (mut connection, request) = received(b"HEAD / HTTP/1.1\r\nHost: lab\r\n\r\n");
    assert_eq!(request.unwrap().method, "HEAD");
    connection.respond(ZERO, ok("{\"a\":1}"));
    let response = take(&mut connection, ZERO);
    assert!(response.contains("Content-Length: 7\r\n"));
    assert!(response.ends_with("\r\n\r\n"));
    connection.handle(ZERO, b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n");
    connection.request(ZERO).unwrap();
    connection.respond(ZERO, ok("{}"));
    assert!(take(&mut connection, ZERO).ends_with("{}"));
}

#[test]
fn a_client_that_waits_to_be_told_to_go_on_is_told_once() {
    let head =
        "POST /vms HTTP/1.1\r\nHost: lab\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let (mut connection, request) = received(head.as_bytes());
    assert_eq!(request, None);
    assert_eq!(take(&mut connection, ZERO), "HTTP/1.1 100 Continue\r\n\r\n");
    connection.handle(ZERO, b"{");
    assert_eq!(connection.request(ZERO), None);
    assert_eq!(take(&mut connection, ZERO), "");
    connection.handle(ZERO, b"}");
    assert_eq!(connection.request(ZERO).unwrap().body, b"{}");
}

#[test]
fn who_has_sent_all_and_closed_that_way_is_answered_still() {
    let (mut connection, request) = received(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\nGET");
    assert!(request.is_some());
    connection.handle_end();
    assert_eq!(connection.room(), 0);
    connection.respond(ZERO, ok("{}"));
    assert!(take(&mut connection, ZERO).ends_with("{}"));
    assert!(!connection.is_over());
    assert_eq!(connection.request(ZERO), None);
    assert!(connection.is_over(), "the next request has no end");
}

#[test]
fn each_wait_for_a_client_has_an_end() {
    let get = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n";
    let at = |seconds: u64| ZERO + Duration::from_secs(seconds);
    // A client that says nothing.
    let mut connection = Connection::new(ZERO);
    for second in 0..10 {
        connection.handle(at(second), b"\r\n");
        assert_eq!(connection.request(at(second)), None);
    }
    assert_eq!(connection.timeout(), at(10), "empty lines say nothing");
    connection.handle_timeout(at(9));
    assert!(!connection.is_over());
    connection.handle_timeout(at(10));
    assert!(connection.is_over());
    // One that says little: the rest has to come within the time from the first byte on.
    let mut connection = Connection::new(ZERO);
    connection.handle(at(20), b"GET");
    connection.handle(at(29), b" ");
    assert_eq!(connection.timeout(), at(30));
    connection.handle_timeout(at(30));
    let response = text(connection.transmit());
    assert!(
        response.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
        "{response}"
    );
    assert!(
        response.contains("all of it within 10 seconds"),
        "{response}"
    );
    connection.handle_timeout(at(60));
    assert!(connection.is_over(), "it has not taken that either");
    // One that is told no more has little time to go.
    let (mut connection, _) = received(b"\0\r\n\r\n");
    take(&mut connection, at(3));
    assert_eq!(connection.timeout(), at(5));
    assert!(connection.is_closing() && connection.room() > 0);
    let mut other = connection;
    other.handle(at(4), get);
    assert_eq!(other.request(at(4)), None);
    other.handle_timeout(at(5));
    assert!(other.is_over());
    let (mut connection, _) = received(b"\0\r\n\r\n");
    take(&mut connection, at(3));
    connection.handle_end();
    assert!(connection.is_over(), "it has gone");
    // One that does not take its response, or a byte of it from time to time.
    let mut connection = Connection::new(ZERO);
    connection.handle(at(50), get);
    connection.request(at(50)).unwrap();
    connection.handle_timeout(at(100));
    assert!(!connection.is_over(), "it is the program that is late");
    connection.respond(at(100), ok("{}"));
    for second in 101..130 {
        connection.transmitted(at(second), 1);
        connection.handle_timeout(at(second));
        assert!(!connection.is_over());
    }
    connection.handle_timeout(at(130));
    assert!(connection.is_over());
    // One that was answered may wait again; what it has sent already of the next request is given its time.
    for (next, end) in [(&b""[..], 62), (&b"GET"[..], 12)] {
        let (mut connection, request) = received(&[get, next].concat());
        assert!(request.is_some());
        connection.respond(at(1), ok("{}"));
        take(&mut connection, at(2));
        assert_eq!(connection.timeout(), at(end));
    }
}

#[test]
fn a_stream_begins_when_its_head_was_taken_and_ends_with_the_connection() {
    let (mut connection, request) = received(b"GET /events HTTP/1.1\r\nHost: lab\r\n\r\n");
    assert!(request.is_some());
    let response = || Response {
        body: Body::Stream(records()),
        ..ok("")
    };
    connection.respond(ZERO, response());
    assert!(!connection.is_open_stream());
    let head = take(&mut connection, ZERO);
    assert!(head.ends_with("Connection: close\r\n\r\n"), "{head}");
    assert!(!head.contains("Content-Length"), "{head}");
    assert!(connection.is_open_stream());
    // Of whom the head is asked alone there is nothing to stream.
    let (mut connection, _) = received(b"HEAD /events HTTP/1.1\r\nHost: lab\r\n\r\n");
    connection.respond(ZERO, response());
    take(&mut connection, ZERO);
    assert!(!connection.is_open_stream());
    assert!(connection.is_closing());
}

/// A report of so many flows, and its text.
fn document(flows: u32) -> (Response, String) {
    let mut recorder = Recorder::new(Limits::default());
    (0..flows).for_each(|_| recorder.add_flow());
    let report = Report::new(&recorder, &Context::default());
    let format = Format::of(Path::new("report.json")).unwrap();
    let mut whole = Vec::new();
    format.write(&report, &mut whole).unwrap();
    let response = Response {
        body: Body::Pieces(Pieces::new(report, format)),
        ..ok("")
    };
    (response, text(&whole))
}

/// Takes a response in pieces to its end, and asserts that what is held of it is bounded.
fn take_pieces(connection: &mut Connection, now: Instant) -> String {
    let mut taken = String::new();
    while connection.has_pieces() {
        for _ in 0..1_000 {
            connection.add_piece(now);
        }
        let held = connection.transmit().len();
        assert!((1..2 * MAX_UNTAKEN).contains(&held), "{held}");
        // A client that takes a little, then all that there is.
        taken += &text(connection.transmit().get(..1).unwrap());
        connection.transmitted(now, 1);
        taken += &take(connection, now);
    }
    taken + &take(connection, now)
}

/// The text of chunks, all of them.
fn from_chunks(mut coded: &str) -> String {
    let mut whole = String::new();
    loop {
        let (length, rest) = coded.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        let (chunk, rest) = rest.split_at(length);
        whole += chunk;
        coded = rest.strip_prefix("\r\n").unwrap();
        if length == 0 {
            assert_eq!(coded, "");
            return whole;
        }
    }
}

#[test]
fn a_document_is_written_piece_by_piece_as_its_client_takes_it() {
    let (mut connection, _) = received(b"GET /report HTTP/1.1\r\nHost: lab\r\n\r\n");
    let (response, whole) = document(3_000);
    assert!(whole.len() > 10 * MAX_UNTAKEN);
    connection.respond(ZERO, response);
    let taken = take_pieces(&mut connection, ZERO);
    let (head, body) = taken.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("\r\nTransfer-Encoding: chunked\r\n"),
        "{head}"
    );
    assert!(
        !head.contains("Content-Length") && !head.contains("close"),
        "{head}"
    );
    assert_eq!(from_chunks(body), whole);
    // The connection serves further requests.
    connection.handle(ZERO, b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n");
    assert!(connection.request(ZERO).is_some());
}

#[test]
fn what_knows_no_chunks_gets_a_document_that_ends_with_the_connection_and_a_head_has_none() {
    let (mut connection, _) = received(b"GET /report HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let (response, whole) = document(1_000);
    connection.respond(ZERO, response);
    let taken = take_pieces(&mut connection, ZERO);
    let (head, body) = taken.split_once("\r\n\r\n").unwrap();
    assert!(
        head.ends_with("Connection: close") && !head.contains("chunked"),
        "{head}"
    );
    assert_eq!(body, whole);
    assert!(connection.is_closing());

    let (mut connection, _) = received(b"HEAD /report HTTP/1.1\r\nHost: lab\r\n\r\n");
    connection.respond(ZERO, document(1_000).0);
    assert!(!connection.wants_piece());
    assert!(take(&mut connection, ZERO).ends_with("\r\n\r\n"));
}

#[test]
fn a_client_of_a_document_has_time_as_long_as_it_takes_some_of_it() {
    let (mut connection, _) = received(b"GET /report HTTP/1.1\r\nHost: lab\r\n\r\n");
    connection.respond(ZERO, document(3_000).0);
    let mut now = ZERO;
    for _ in 0..10 {
        while connection.wants_piece() {
            connection.add_piece(now);
        }
        connection.handle_timeout(now);
        assert!(!connection.is_over());
        now = now + (RESPONSE_TIME - Duration::from_nanos(1));
        let untaken = connection.transmit().len();
        connection.transmitted(now, untaken.min(MAX_UNTAKEN));
    }
    while connection.wants_piece() {
        connection.add_piece(now);
    }
    connection.handle_timeout(now + RESPONSE_TIME);
    assert!(connection.is_over());
}

proptest! {
    /// However the bytes are cut, the same requests are read, and nothing else.
    #[test]
    fn the_cuts_between_bytes_change_nothing(
        bodies in prop::collection::vec("[ -~]{0,40}", 1..6),
        cuts in prop::collection::vec(1..50usize, 1..40),
    ) {
        let bytes: String = bodies.iter().map(|body| {
            let length = body.len();
            format!("POST /marks HTTP/1.1\r\nHost: lab\r\nContent-Length: {length}\r\n\r\n{body}")
        }).collect();
        let mut rest = bytes.as_bytes();
        let mut cuts = cuts.iter().cycle();
        let mut connection = Connection::new(ZERO);
        let mut found = Vec::new();
        loop {
            while let Some(request) = connection.request(ZERO) {
                found.push(text(&request.body));
                connection.respond(ZERO, ok("{}"));
                take(&mut connection, ZERO);
            }
            let count = (*cuts.next().unwrap()).min(rest.len()).min(connection.room());
            if count == 0 {
                break;
            }
            let (now, later) = rest.split_at(count);
            connection.handle(ZERO, now);
            rest = later;
        }
        prop_assert_eq!(found, bodies);
        prop_assert!(!connection.is_over());
    }
}
