//! One connection of the control socket against whatever a client sends, however it cuts it, and however slowly it reads.
//!
//! The input is a byte that says how the bytes are cut, then the bytes.

use std::time::Duration;

use tap_reactor::control::{Access, Connection, MAX_REQUEST, Request, Response, status};
use tap_reactor::time::Instant;

/// Cuts that follow one another, chosen by a small generator.
struct Cuts(u32);

impl Cuts {
    /// A number from 1 to `most`.
    fn next(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (self.0 >> 16) as usize % most
    }
}

/// The requests are the same however the bytes are cut, what is held is bounded, and no more is answered than was asked.
pub fn converse(data: &[u8]) {
    let Some((&seed, bytes)) = data.split_first() else {
        return;
    };
    let at_once = talk(bytes, &mut Cuts(0), usize::MAX >> 1);
    let in_pieces = talk(bytes, &mut Cuts(u32::from(seed)), 1 + usize::from(seed));
    assert_eq!(at_once, in_pieces);
}

/// Sends `bytes` in pieces of up to `most`; returns the requests, and true if the rest was refused.
fn talk(bytes: &[u8], cuts: &mut Cuts, most: usize) -> (Vec<Request>, bool) {
    let mut now = Instant::ZERO;
    let mut connection = Connection::new(now);
    let (mut rest, mut requests) = (bytes, Vec::new());
    loop {
        while let Some(request) = connection.request(now) {
            assert!(request.target.len() + request.body.len() <= MAX_REQUEST);
            assert!(!request.method.is_empty() && !request.target.is_empty());
            check_access(&request);
            requests.push(request);
            let body = requests.len().to_string().into_bytes();
            connection.respond(now, Response::json(status::OK, body));
            assert_eq!(connection.request(now), None);
            take(&mut connection, now, cuts, most);
        }
        take(&mut connection, now, cuts, most);
        if connection.is_closing() || rest.is_empty() {
            break;
        }
        let room = connection.room();
        assert!(
            (1..=MAX_REQUEST).contains(&room),
            "all that came is answered"
        );
        let count = cuts.next(most).min(rest.len()).min(room);
        let (piece, later) = rest.split_at(count);
        connection.handle(now, piece);
        rest = later;
    }
    let is_refused = connection.is_closing();
    if !is_refused {
        connection.handle_end();
        assert_eq!(connection.request(now), None);
        assert!(connection.is_over());
    }
    now = now + Duration::from_secs(3600);
    connection.handle_timeout(now);
    assert!(connection.is_over());
    (requests, is_refused)
}

/// Over TCP nobody is let in who does not show the token, or comes from a page of a browser.
fn check_access(request: &Request) {
    let address = "127.0.0.1:8080".parse().expect("an address");
    let token = "c2VjcmV0IG9mIHRoZSBsYWI=".parse().expect("a token");
    let is_let_in = Access::Bearer(token, address).check(request).is_ok();
    let has_token = request
        .credentials
        .as_bytes()
        .ends_with(b"c2VjcmV0IG9mIHRoZSBsYWI=");
    assert!(!is_let_in || (has_token && !request.has_origin && request.host.ends_with(":8080")));
    let is_scraped = Access::Metrics(address).check(request).is_ok();
    assert!(is_scraped || !is_let_in);
}

/// Takes all that is to be sent, in pieces.
fn take(connection: &mut Connection, now: Instant, cuts: &mut Cuts, most: usize) {
    while !connection.transmit().is_empty() {
        let length = connection.transmit().len();
        assert!(length < 1024, "a response of ours is short");
        let count = cuts.next(most).min(length);
        connection.transmitted(now, count);
    }
}
