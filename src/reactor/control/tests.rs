use std::io::Read;
use std::time::Duration;

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use mio::{Events, Poll};
use nix::sys::socket::{setsockopt, sockopt};

use super::*;
use crate::control::{ControlAddress, MAX_REQUEST};
use crate::fabric::{InstrumentKind, WriteTo};

const GET: &[u8] = b"GET /vms HTTP/1.1\r\nHost: lab\r\n\r\n";
/// A request that is under way for as long as its client likes.
const EVENTS: &[u8] = b"GET /events HTTP/1.1\r\nHost: lab\r\n\r\n";

/// A control socket with its poll, in a time of its own.
struct Served {
    _folder: tempfile::TempDir,
    path: PathBuf,
    poll: Poll,
    sources: Sources,
    clients: ControlClients,
    now: Instant,
    /// What was asked.
    asked: Vec<Request>,
    /// The writers' ends of streams.
    streams: Vec<ClientSocket>,
    /// The body of a response.
    body: Vec<u8>,
}

impl Served {
    fn new() -> Served {
        Served::at(Vec::new())
    }

    /// One that listens at others, too.
    fn at(others: Vec<(Listener, Access)>) -> Served {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lab.sock");
        let poll = Poll::new().unwrap();
        let mut sources = Sources::new(poll.registry()).unwrap();
        let address = ControlAddress::Path(path.clone());
        let mut listeners = vec![(Listener::bind(&address).unwrap(), Access::User)];
        listeners.extend(others);
        Served {
            clients: ControlClients::new(listeners, &mut sources).unwrap(),
            _folder: folder,
            path,
            poll,
            sources,
            now: Instant::ZERO,
            asked: Vec::new(),
            streams: Vec::new(),
            body: b"{}".to_vec(),
        }
    }

    fn client(&mut self) -> UnixStream {
        let client = UnixStream::connect(&self.path).unwrap();
        client.set_nonblocking(true).unwrap();
        self.work();
        client
    }

    /// Works as often as there is something to do, as the reactor does.
    fn work(&mut self) {
        for _ in 0..10_000 {
            let mut events = Events::with_capacity(64);
            self.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
            let mut ready = Ready::default();
            for event in &events {
                if let Some(Source::Control(number)) = self.sources.get(event.token()) {
                    ready.note(number, event);
                }
            }
            if !ready.is_any()
                && !self.clients.has_work()
                && self.clients.timeout().is_none_or(|at| at > self.now)
            {
                return;
            }
            let now = self.now;
            self.clients.look_after(now, ready, &mut self.sources);
            if let Some((number, _, request)) = self.clients.request(now) {
                let mut response = Response::json(status::OK, self.body.clone());
                if request.target == "/events" {
                    let kind = InstrumentKind::named("trace").unwrap();
                    let records = InstrumentConfig::new(kind, WriteTo::Client, []);
                    response.body = Body::Stream(records.unwrap());
                }
                self.asked.push(request);
                self.clients.respond(now, number, response);
            }
            let streams = std::iter::from_fn(|| self.clients.stream(now));
            self.streams.extend(streams.map(|(socket, _)| socket));
        }
        panic!("it never rests");
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.work();
    }

    fn number(&self) -> usize {
        self.clients.clients.iter().flatten().count()
    }
}

/// What the client can read now; the second is true if the connection was closed.
fn read(client: &mut impl Read) -> (String, bool) {
    let (mut text, mut buffer) = (Vec::new(), [0; 65536]);
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return (String::from_utf8(text).unwrap(), true),
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return (String::from_utf8(text).unwrap(), false);
            }
            // It was closed while something of ours was unread.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                return (String::from_utf8(text).unwrap(), true);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn requests_are_answered_over_connections_that_last() {
    let mut served = Served::new();
    let mut client = served.client();
    for _ in 0..3 {
        client.write_all(GET).unwrap();
        served.work();
        let (response, is_closed) = read(&mut client);
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("\r\n{}"));
        assert!(!is_closed);
    }
    assert_eq!(served.asked.len(), 3);
    drop(client);
    served.work();
    assert_eq!(served.number(), 0);
    assert_eq!(served.clients.timeout(), None);
}

#[test]
fn a_client_more_than_there_may_be_is_told_so_and_the_next_one_finds_room_again() {
    let mut served = Served::new();
    let mut clients: Vec<_> = (0..MAX_CLIENTS).map(|_| served.client()).collect();
    for client in &mut clients {
        client.write_all(EVENTS).unwrap();
    }
    served.work();
    assert_eq!(served.asked.len(), MAX_CLIENTS, "all of them are served");
    let (response, is_closed) = read(&mut served.client());
    assert!(
        response.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{response}"
    );
    assert!(response.ends_with(
        "{\"error\":\"there are too many connections\",\"expected\":\"at most 32 at a time\"}\n"
    ));
    assert!(is_closed);
    clients.pop();
    served.work();
    let mut another = served.client();
    another.write_all(GET).unwrap();
    served.work();
    assert!(read(&mut another).0.starts_with("HTTP/1.1 200 "));
}

#[test]
fn who_comes_when_all_places_are_taken_gets_that_of_the_client_that_asked_nothing_for_longest() {
    // What holds a place, whether it is of a client with the token, and whether it keeps others out.
    let shown = "Host: localhost:PORT\r\nAuthorization: Bearer 0123456789abcdef\r\n\r\n";
    let get = format!("GET /vms HTTP/1.1\r\n{shown}");
    for (held, keeps_out) in [
        (String::new(), false),
        ("\r\n".to_owned(), false),
        ("GET /vms HT".to_owned(), false),
        ("GET /vms HTTP/1.1\r\nHost: lab\r\n\r\n".to_owned(), false),
        ("no request\r\n\r\n".to_owned(), false),
        (get.clone(), false),
        (format!("{get}GET /vms HT"), true),
        (format!("GET /events HTTP/1.1\r\n{shown}"), true),
    ] {
        let token = "0123456789abcdef".parse().unwrap();
        let bearer = |address| Access::Bearer(Clone::clone(&token), address);
        let (control, address) = over_tcp(bearer);
        let mut served = Served::at(vec![control]);
        let held = held.replace("PORT", &address.port().to_string());
        let mut clients: Vec<TcpStream> = Vec::new();
        for _ in 0..24 {
            let mut client = tcp_client(&mut served, address);
            client.write_all(held.as_bytes()).unwrap();
            // What was sent is there once the client has it sent: it is the loopback interface.
            served.work();
            read(&mut client);
            clients.push(client);
            served.now = served.now + Duration::from_millis(1);
        }
        let get = get.replace("PORT", &address.port().to_string());
        let mut late = Vec::new();
        for _ in 0..3 {
            late.push(tcp_client(&mut served, address));
            let client = late.last_mut().unwrap();
            let _ = client.write_all(get.as_bytes());
            served.work();
            let answer = read(client).0;
            assert_eq!(
                answer.starts_with("HTTP/1.1 503 "),
                keeps_out,
                "{held:?} {answer}"
            );
            assert_eq!(
                answer.starts_with("HTTP/1.1 200 "),
                !keeps_out,
                "{held:?} {answer}"
            );
        }
        for (count, client) in clients.iter_mut().enumerate() {
            let is_closed = read(client).1;
            let is_first = count < late.len() && !keeps_out;
            // One that is refused is closed anyway.
            assert_eq!(
                is_closed,
                is_first || held.starts_with("no"),
                "{held:?} {count}"
            );
        }
        // At the Unix socket there is room still.
        let mut user = served.client();
        user.write_all(GET).unwrap();
        served.work();
        assert!(read(&mut user).0.starts_with("HTTP/1.1 200 "));
    }
}

#[test]
fn strangers_go_first() {
    let token = "0123456789abcdef".parse().unwrap();
    let (control, address) = over_tcp(|address| Access::Bearer(Clone::clone(&token), address));
    let (metrics, metrics_address) = over_tcp(Access::Metrics);
    let mut served = Served::at(vec![control, metrics]);
    let mut owner = tcp_client(&mut served, address);
    let get = format!(
        "GET /vms HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer 0123456789abcdef\r\n\r\n"
    );
    owner.write_all(get.as_bytes()).unwrap();
    served.work();
    assert!(read(&mut owner).0.starts_with("HTTP/1.1 200 "));
    let mut user = served.client();
    served.now = served.now + Duration::from_millis(1);
    let mut strangers = Vec::new();
    for address in [metrics_address, address].repeat(40) {
        strangers.push(tcp_client(&mut served, address));
        served.now = served.now + Duration::from_millis(1);
    }
    assert_eq!(served.number(), 25);
    assert!(
        !read(&mut owner).1,
        "it has asked nothing for longest, and is known"
    );
    assert!(!read(&mut user).1);
    served.pass(10);
    assert_eq!(
        served.number(),
        1,
        "strangers and who has never asked are gone"
    );
    assert!(!read(&mut owner).1);
}

/// A client that has connected over TCP.
fn tcp_client(served: &mut Served, address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_nonblocking(true).unwrap();
    served.work();
    client
}

#[test]
fn who_floods_is_not_first_each_time() {
    let mut served = Served::new();
    let mut flood = served.client();
    let mut other = served.client();
    flood.write_all(&GET.repeat(100)).unwrap();
    other
        .write_all(b"GET /other HTTP/1.1\r\nHost: lab\r\n\r\n")
        .unwrap();
    served.work();
    let place = served
        .asked
        .iter()
        .position(|request| request.target == "/other");
    assert!(place.unwrap() <= 2, "{place:?}");
    assert_eq!(served.asked.len(), 101);
}

#[test]
fn half_a_request_is_given_up_and_so_is_a_connection_without_any() {
    let mut served = Served::new();
    let (mut half, mut silent, mut empty) = (served.client(), served.client(), served.client());
    let mut kept = served.client();
    kept.write_all(GET).unwrap();
    half.write_all(&GET[..20]).unwrap();
    served.work();
    for _ in 0..3 {
        empty.write_all(b"\r\n").unwrap();
        served.pass(3);
    }
    assert!(!read(&mut kept).1);
    for client in [&mut half, &mut silent, &mut empty] {
        assert_eq!(read(client), (String::new(), false));
    }
    served.pass(1);
    let (response, is_closed) = read(&mut half);
    assert!(
        response.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
        "{response}"
    );
    assert!(is_closed);
    for client in [&mut silent, &mut empty] {
        assert_eq!(read(client), (String::new(), true));
    }
    served.pass(49);
    assert_eq!(read(&mut kept), (String::new(), false));
    served.pass(1);
    assert_eq!(read(&mut kept), (String::new(), true));
    assert_eq!(served.number(), 0);
}

#[test]
fn who_never_reads_is_cut_off_and_others_are_served_meanwhile() {
    let mut served = Served::new();
    served.body = vec![b'x'; 4 << 20];
    let mut stuck = served.client();
    stuck.write_all(GET).unwrap();
    served.work();
    assert_eq!(served.number(), 1);
    served.body = b"{}".to_vec();
    for _ in 0..2 {
        let mut other = served.client();
        other.write_all(GET).unwrap();
        served.work();
        assert!(read(&mut other).0.ends_with("{}"));
        drop(other);
        served.pass(14);
    }
    assert_eq!(served.number(), 1);
    served.pass(2);
    assert_eq!(served.number(), 0);
    let (response, is_closed) = read(&mut stuck);
    assert!(response.len() < 1 << 20 && is_closed);
}

#[test]
fn a_large_response_comes_whole_to_who_reads_it() {
    let mut served = Served::new();
    served.body = (0..8 << 20)
        .map(|index| b'a' + (index % 23) as u8)
        .collect();
    let mut client = served.client();
    client.write_all(GET).unwrap();
    let mut response = String::new();
    while !response.ends_with(std::str::from_utf8(&served.body).unwrap()) {
        served.work();
        let (more, is_closed) = read(&mut client);
        assert!(!more.is_empty() && !is_closed);
        response += &more;
    }
}

#[test]
fn what_is_no_request_is_refused_and_the_connection_closed() {
    let mut served = Served::new();
    let mut large =
        format!("POST /vms HTTP/1.1\r\nHost: lab\r\nContent-Length: {MAX_REQUEST}\r\n\r\n")
            .into_bytes();
    large.resize(MAX_REQUEST + 1, b' ');
    let flood = format!(
        "GET / HTTP/1.1\r\nHost: lab\r\n{}\r\n",
        "a: b\r\n".repeat(10_000)
    );
    for (bytes, line) in [
        (&large[..], "HTTP/1.1 413 Content Too Large\r\n"),
        (
            flood.as_bytes(),
            "HTTP/1.1 431 Request Header Fields Too Large\r\n",
        ),
        (
            &[b'a'; MAX_REQUEST + 1],
            "HTTP/1.1 431 Request Header Fields Too Large\r\n",
        ),
        (&[0; 100], ""),
        (b"\0\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"),
        (
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\n\n",
            "HTTP/1.1 400 Bad Request\r\n",
        ),
    ] {
        let mut client = served.client();
        let mut rest = bytes;
        let mut response = String::new();
        while !rest.is_empty() {
            match client.write(rest) {
                Ok(length) => rest = &rest[length..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // It is refused already.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
                Err(error) => panic!("{error}"),
            }
            served.work();
            response += &read(&mut client).0;
        }
        let (more, is_closed) = read(&mut client);
        response += &more;
        assert!(response.starts_with(line), "{line}: {response}");
        assert_eq!(is_closed, !line.is_empty());
        drop(client);
        served.work();
    }
    assert_eq!(served.asked, []);
    assert_eq!(served.number(), 0);
}

#[test]
fn a_stream_ends_with_its_reader_and_a_reader_that_reads_nothing_is_cut_off() {
    let mut served = Served::new();
    // Of one that leaves.
    let mut leaver = served.client();
    leaver.write_all(EVENTS).unwrap();
    served.work();
    let (head, _) = read(&mut leaver);
    assert!(head.ends_with("Connection: close\r\n\r\n"), "{head}");
    let mut writer = served.streams.pop().unwrap();
    writer.write_all(b"{}\n").unwrap();
    assert_eq!(read(&mut leaver), ("{}\n".to_owned(), false));
    served.pass(3600);
    assert_eq!(served.number(), 1, "nothing was written that it could read");
    drop(leaver);
    served.work();
    assert_eq!(served.number(), 0);
    assert_eq!(
        writer.write(b"{}\n").unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
    // One that reads, however slowly, stays; one that does not is cut off.
    for reads in [true, false] {
        let mut reader = served.client();
        setsockopt(&reader, sockopt::RcvBuf, &4096).unwrap();
        reader.write_all(EVENTS).unwrap();
        served.work();
        let mut writer = served.streams.pop().unwrap();
        read(&mut reader);
        while writer.write(&[b'\n'; 1000]).is_ok() {}
        for _ in 0..10 {
            served.pass(30);
            if reads && served.number() == 1 {
                let count = reader.read(&mut [0; 3000]).unwrap();
                assert!(count > 0);
            }
        }
        assert_eq!(served.number(), usize::from(reads));
        assert_eq!(
            writer
                .write(b"\n")
                .is_err_and(|e| e.kind() == ErrorKind::BrokenPipe),
            !reads
        );
        drop(reader);
        served.work();
    }
}

#[test]
fn closed_nothing_is_left_with_the_poll() {
    let mut served = Served::new();
    let _client = served.client();
    let descriptor = served.clients.doors[0].listener.as_raw_fd();
    assert!(descriptor >= 0);
    let Served {
        clients,
        mut sources,
        path,
        ..
    } = served;
    clients.close(&mut sources);
    assert!(!path.exists());
    let free: Vec<_> = std::iter::from_fn(|| sources.handle(Source::Links).ok()).collect();
    assert_eq!(free.len(), 64, "all tokens are free again");
}

/// A listener of TCP with that access, and its address.
fn over_tcp(access: impl Fn(SocketAddr) -> Access) -> ((Listener, Access), SocketAddr) {
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.tcp_address().unwrap();
    ((listener, access(address)), address)
}

#[test]
fn clients_over_tcp_are_served_as_others_are_and_leave_them_places() {
    let token = "0123456789abcdef".parse().unwrap();
    let bearer = |address| Access::Bearer(Clone::clone(&token), address);
    let (control, control_address) = over_tcp(bearer);
    let (metrics, metrics_address) = over_tcp(Access::Metrics);
    let mut served = Served::at(vec![control, metrics]);
    // As many as come at an address, and those of them that are served; the others are told why not.
    let mut clients = Vec::new();
    for (address, number, most) in [(metrics_address, 14, 12), (control_address, 15, 12)] {
        for count in 0..number {
            let mut client = tcp_client(&mut served, address);
            let (response, is_closed) = read(&mut client);
            let is_served = count < most;
            assert_eq!(
                response.is_empty(),
                is_served,
                "{address} {count}: {response}"
            );
            assert_eq!(is_closed, !is_served);
            if !is_served {
                assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
                continue;
            }
            client.write_all(EVENTS).unwrap();
            served.work();
            assert!(read(&mut client).0.starts_with("HTTP/1.1 200 OK\r\n"));
            clients.push(client);
        }
    }
    let mut others: Vec<_> = (0..8).map(|_| served.client()).collect();
    for other in &mut others {
        other.write_all(EVENTS).unwrap();
    }
    served.work();
    assert_eq!(served.number(), MAX_CLIENTS);
    let mut refused = served.client();
    assert!(read(&mut refused).0.contains("at most 32 at a time"));
    drop((clients, others, refused));
    served.work();
    assert_eq!(served.number(), 0);
}

#[test]
fn who_never_reads_a_stream_over_tcp_is_cut_off_and_who_has_reset_the_connection_is_forgotten() {
    let (metrics, address) = over_tcp(Access::Metrics);
    let mut served = Served::at(vec![metrics]);
    for resets in [true, false] {
        let mut reader = TcpStream::connect(address).unwrap();
        setsockopt(&reader, sockopt::RcvBuf, &4096).unwrap();
        reader
            .write_all(b"GET /events HTTP/1.1\r\nHost: lab\r\n\r\n")
            .unwrap();
        served.work();
        let mut writer = served.streams.pop().unwrap();
        while writer.write(&[b'\n'; 1000]).is_ok() {}
        if resets {
            // What is unread when it closes makes it a reset.
            drop(reader);
            for _ in 0..1000 {
                served.work();
            }
        } else {
            served.pass(30);
            assert_eq!(served.number(), 1);
            served.pass(30);
        }
        assert_eq!(served.number(), 0);
        writer.write(b"\n").unwrap_err();
    }
}
