//! A client of the control interface: HTTP/1.1 (RFC 9112), one connection a request, with a time limit on every wait.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use httparse::{EMPTY_HEADER, Header, Status};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde::de::DeserializeOwned;
use tap_reactor::control::{ApiError, ControlAddress, JSON, MAX_HEADERS, Token};

use super::CtlError;

/// The longest wait for a connection, and for room for a request.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// The longest wait for a lab that has a request: one that sets up very many VMs answers after that.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(60);
/// Bytes of the head of a response, of a line of a chunked one, and of an error, at most.
const MAX_HEAD: u64 = 64 << 10;

/// Where a lab is, and how to ask it.
#[derive(Debug)]
pub struct Client {
    address: ControlAddress,
    token: Option<Token>,
    answer_time: Duration,
}

/// The body of a response, which is read as it comes.
#[derive(Debug)]
pub struct Body {
    stream: BufReader<Transport>,
    framing: Framing,
}

/// What ends a body (RFC 9112, section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    /// So many bytes follow.
    Length(u64),
    /// So many bytes of a chunk follow, then a line end and other chunks.
    Chunk(u64),
    /// The first chunk follows.
    Chunks,
    /// The end of the connection.
    Connection,
}

/// A connection.
#[derive(Debug)]
enum Transport {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Client {
    /// A client of the lab at `address`, which shows `token` if it has one.
    pub const fn new(address: ControlAddress, token: Option<Token>) -> Client {
        Client {
            address,
            token,
            answer_time: ANSWER_TIME,
        }
    }

    /// The address of the lab.
    pub const fn address(&self) -> &ControlAddress {
        &self.address
    }

    /// The same client with less patience, for what can be done without.
    pub fn hasty(&self, answer_time: Duration) -> Client {
        Client {
            address: self.address.clone(),
            token: self.token.clone(),
            answer_time,
        }
    }

    /// Asks for a document.
    ///
    /// # Errors
    /// As [`Client::request`], and if it is another document.
    pub fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, CtlError> {
        let bytes = self.request("GET", target, None)?.bytes()?;
        read(&bytes)
    }

    /// Sends a request, and returns the body of the response once its head has come.
    ///
    /// # Errors
    /// If no lab is there, it does not answer, or it refuses the request.
    pub fn request(
        &self,
        method: &str,
        target: &str,
        document: Option<&[u8]>,
    ) -> Result<Body, CtlError> {
        let mut stream = self.connect()?;
        let limit = stream.set_limit(Some(self.answer_time));
        limit.map_err(CtlError::of_connection)?;
        // A lab that refuses whoever connects does not read what is asked: its answer is there all the same.
        let sent = stream.write_all(&self.words(method, target, document));
        let mut stream = BufReader::new(stream);
        let head = match read_head(&mut stream) {
            Ok(head) => head,
            Err(error) => return Err(CtlError::of_connection(sent.err().unwrap_or(error))),
        };
        let (status, framing) = parse(&head).map_err(CtlError::Foreign)?;
        let body = Body { stream, framing };
        match status {
            200..300 => Ok(body),
            _ => Err(refusal(status, body)),
        }
    }

    fn words(&self, method: &str, target: &str, document: Option<&[u8]>) -> Vec<u8> {
        let host = match &self.address {
            ControlAddress::Path(_) => "lab".to_owned(),
            ControlAddress::Tcp(address) => address.to_string(),
        };
        let mut head =
            format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        if let Some(token) = &self.token {
            head += &format!("Authorization: {}\r\n", token.authorization());
        }
        if let Some(document) = document {
            let length = document.len();
            head += &format!("Content-Type: {JSON}\r\nContent-Length: {length}\r\n");
        }
        head += "\r\n";
        [head.as_bytes(), document.unwrap_or_default()].concat()
    }

    fn connect(&self) -> Result<Transport, CtlError> {
        let nobody = |why: String| CtlError::NoLab {
            address: self.address.clone(),
            why,
        };
        match &self.address {
            ControlAddress::Path(path) => connect_unix(path)
                .map(Transport::Unix)
                .map_err(|errno| nobody(why_not_unix(path, errno))),
            ControlAddress::Tcp(address) => connect_tcp(address)
                .map(Transport::Tcp)
                .map_err(|error| nobody(why_not_tcp(&error))),
        }
    }
}

impl Transport {
    /// Sets the longest wait for what comes; `None` is any time.
    fn set_limit(&self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Transport::Unix(stream) => stream.set_read_timeout(time),
            Transport::Tcp(stream) => stream.set_read_timeout(time),
        }
    }
}

impl Read for Transport {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Unix(stream) => stream.read(room),
            Transport::Tcp(stream) => stream.read(room),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Unix(stream) => stream.write(bytes),
            Transport::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Body {
    /// Returns all of it.
    ///
    /// # Errors
    /// If the lab ends before that, or takes too long.
    pub fn bytes(mut self) -> Result<Vec<u8>, CtlError> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)
            .map_err(CtlError::of_connection)?;
        Ok(bytes)
    }

    /// Lets what follows take any time, as that of a stream may.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn wait_without_end(&self) -> Result<(), CtlError> {
        let limit = self.stream.get_ref().set_limit(None);
        limit.map_err(CtlError::of_connection)
    }

    /// Returns true if a read of what follows has something without a look at the connection.
    pub fn has_buffered(&self) -> bool {
        !self.stream.buffer().is_empty()
    }

    /// Takes what begins a chunk. Returns false after the last one.
    fn begin_chunk(&mut self) -> io::Result<bool> {
        match self.framing {
            Framing::Chunks => {}
            Framing::Chunk(0) => {
                if !self.line()?.is_empty() {
                    return Err(ErrorKind::InvalidData.into());
                }
            }
            _ => return Ok(true),
        }
        let line = self.line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = u64::from_str_radix(digits, 16).map_err(|_| ErrorKind::InvalidData)?;
        if length > 0 {
            self.framing = Framing::Chunk(length);
            return Ok(true);
        }
        // Fields may follow the last one.
        while !self.line()?.is_empty() {}
        self.framing = Framing::Length(0);
        Ok(false)
    }

    /// A line without its end.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        (&mut self.stream).take(MAX_HEAD).read_line(&mut line)?;
        match line.strip_suffix('\n') {
            Some(line) => Ok(line.trim_end_matches('\r').to_owned()),
            None => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Read for Body {
    /// # Errors
    /// If the connection ends before the body does, or takes too long.
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if room.is_empty()
            || (matches!(self.framing, Framing::Chunk(0) | Framing::Chunks)
                && !self.begin_chunk()?)
        {
            return Ok(0);
        }
        let left = match self.framing {
            Framing::Length(left) | Framing::Chunk(left) => left,
            Framing::Chunks | Framing::Connection => u64::MAX,
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(room.len());
        let read = self.stream.read(room.get_mut(..most).unwrap_or_default())?;
        let left = left.saturating_sub(read as u64);
        match &mut self.framing {
            Framing::Length(_) | Framing::Chunk(_) if read == 0 && most > 0 => {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            Framing::Length(rest) | Framing::Chunk(rest) => *rest = left,
            Framing::Chunks | Framing::Connection => {}
        }
        Ok(read)
    }
}

impl AsFd for Body {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.stream.get_ref() {
            Transport::Unix(stream) => stream.as_fd(),
            Transport::Tcp(stream) => stream.as_fd(),
        }
    }
}

/// Reads a document of the lab.
///
/// # Errors
/// If it is another one: that of another version, for example.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CtlError> {
    serde_json::from_slice(bytes).map_err(|error| CtlError::Foreign(error.to_string()))
}

/// Encodes `text` as a part of a URL's path (RFC 3986, section 2.3).
pub fn encoded(text: &str) -> String {
    let mut url = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                url.push(char::from(byte));
            }
            _ => url += &format!("%{byte:02X}"),
        }
    }
    url
}

/// Connects; waits no longer than [`CONNECT_TIME`] for that, nor for room for a request.
fn connect_tcp(address: &SocketAddr) -> io::Result<TcpStream> {
    let client = TcpStream::connect_timeout(address, CONNECT_TIME)?;
    client.set_nodelay(true)?;
    client.set_write_timeout(Some(CONNECT_TIME))?;
    Ok(client)
}

/// Connects; waits no longer than [`CONNECT_TIME`] for a lab that takes its connections late, nor for room for a request.
fn connect_unix(path: &Path) -> Result<UnixStream, Errno> {
    let kind = SockType::Stream;
    let client = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
    let time = TimeVal::milliseconds(CONNECT_TIME.as_millis() as i64);
    setsockopt(&client, sockopt::SendTimeout, &time)?;
    connect(client.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(client.into())
}

/// Why no lab could be reached at a path, and what is expected.
fn why_not_unix(path: &Path, errno: Errno) -> String {
    let is_socket = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket());
    match errno {
        Errno::ENOENT => "there is nothing; expected the path that a running lab has after --control".to_owned(),
        Errno::ENOTDIR => "a part of the path is no folder; expected the path that a running lab has after --control".to_owned(),
        Errno::ECONNREFUSED if !is_socket => {
            "that is no socket; expected the path that a running lab has after --control".to_owned()
        }
        Errno::ECONNREFUSED => {
            "nobody listens there: the lab has been killed; expected the socket of one that runs".to_owned()
        }
        Errno::EACCES | Errno::EPERM => {
            "it belongs to another user; expected to be the one who runs the lab, or root".to_owned()
        }
        Errno::EAGAIN => "the lab takes no connection; expected one that is not stopped".to_owned(),
        Errno::ENAMETOOLONG => "expected a path of at most 107 bytes".to_owned(),
        other => format!("{}; expected the socket of a running lab", other.desc()),
    }
}

/// Why no lab could be reached at a TCP port.
fn why_not_tcp(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            "nobody listens there; expected the address that a running lab has after --control"
                .to_owned()
        }
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            format!(
                "it does not answer; expected that within {} seconds",
                CONNECT_TIME.as_secs()
            )
        }
        _ => format!("{error}; expected the address that a running lab has after --control"),
    }
}

/// Reads the head of a response, interim ones left out.
fn read_head(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    loop {
        let mut head = Vec::new();
        loop {
            let room = MAX_HEAD.saturating_sub(head.len() as u64);
            let read = stream.take(room).read_until(b'\n', &mut head)?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if head.ends_with(b"\r\n\r\n") || head.ends_with(b"\n\n") {
                break;
            }
        }
        if !head.starts_with(b"HTTP/1.1 1") {
            return Ok(head);
        }
    }
}

/// Reads status and framing from a head.
fn parse(head: &[u8]) -> Result<(u16, Framing), String> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(head) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) => return Err("the head of a response is incomplete".to_owned()),
        Err(error) => return Err(error.to_string()),
    }
    let is_chunked = value(response.headers, "transfer-encoding")
        .is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"chunked"));
    let framing = match value(response.headers, "content-length") {
        _ if is_chunked => Framing::Chunks,
        None => Framing::Connection,
        Some(value) => {
            let digits = std::str::from_utf8(value).ok();
            let length = digits.and_then(|digits| digits.trim().parse().ok());
            Framing::Length(length.ok_or("the length of a response is no number")?)
        }
    };
    Ok((response.code.unwrap_or_default(), framing))
}

fn value<'h>(headers: &[Header<'h>], name: &str) -> Option<&'h [u8]> {
    let mut headers = headers.iter();
    let found = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
    Some(found.value)
}

/// The error that a response with `status` is.
fn refusal(status: u16, body: Body) -> CtlError {
    let mut bytes = Vec::new();
    match body.take(MAX_HEAD).read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => return CtlError::of_connection(error),
    }
    match serde_json::from_slice::<ApiError>(&bytes) {
        Ok(ApiError {
            error, expected, ..
        }) => CtlError::Refused { error, expected },
        Err(_) => CtlError::Foreign(format!("a response with status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// What a client reads of a response.
    fn response(words: &str) -> Result<(u16, io::Result<String>), String> {
        let (mut server, client) = UnixStream::pair().unwrap();
        server.write_all(words.as_bytes()).unwrap();
        drop(server);
        let mut stream = BufReader::new(Transport::Unix(client));
        let head = read_head(&mut stream).map_err(|error| error.kind().to_string())?;
        let (status, framing) = parse(&head)?;
        let mut text = String::new();
        let read = Body { stream, framing }.read_to_string(&mut text);
        Ok((status, read.map(|_| text)))
    }

    #[test]
    fn a_body_ends_where_its_length_its_last_chunk_or_the_connection_ends() {
        for (words, body) in [
            ("Content-Length: 4\r\n\r\nabcdef", Some("abcd")),
            ("content-length: 0\r\n\r\nabc", Some("")),
            ("\r\nabc", Some("abc")),
            ("Content-Length: 4\r\n\r\nabc", None),
            (
                "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n",
                Some("abcd"),
            ),
            (
                "Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nField: x\r\n\r\nmore",
                Some("0123456789"),
            ),
            ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Some("")),
            ("Transfer-Encoding: chunked\r\n\r\n3\r\nab", None),
            ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", None),
            (
                "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
                None,
            ),
            ("Transfer-Encoding: chunked\r\n\r\nx\r\n", None),
        ] {
            let (status, read) = response(&format!("HTTP/1.1 200 OK\r\n{words}")).unwrap();
            assert_eq!((status, read.ok().as_deref()), (200, body), "{words}");
        }
    }

    #[test]
    fn interim_responses_are_passed_over_and_what_is_none_is_an_error() {
        let two =
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx";
        assert_eq!(response(two).unwrap().0, 404);
        for words in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        ] {
            assert!(response(words).is_err(), "{words}");
        }
    }

    #[test]
    fn names_are_encoded_for_a_url() {
        for (text, url) in [
            ("vm3", "vm3"),
            ("vm[0-9]", "vm%5B0-9%5D"),
            ("a b/ü?", "a%20b%2F%C3%BC%3F"),
        ] {
            assert_eq!(encoded(text), url);
        }
    }
}
