//! The sockets by which ranks meet: Unix and TCP. All are made before the process enters its lab's namespace.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getsockopt, setsockopt, socket,
    sockopt,
};
use nix::unistd::geteuid;

use super::client_socket::{ClientSocket, Peer};
use super::control_socket::ControlSocket;
use super::error::SystemError;
use super::listener::Listener;
use crate::control::{ControlAddress, is_loopback};
use crate::ranks::seal::{NONCE, Nonce};

/// Where rank 0 listens. Displays as it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MeetingAddress {
    /// A Unix socket with a name and no file (`unix(7)`, abstract), in the network namespace of the process.
    Name(String),
    /// A Unix socket with a file.
    Path(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

impl fmt::Display for MeetingAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MeetingAddress::Name(name) => write!(f, "@{name}"),
            MeetingAddress::Path(path) => path.display().fmt(f),
            MeetingAddress::Tcp(address) => address.fmt(f),
        }
    }
}

impl MeetingAddress {
    /// Reads `@NAME`, a path with a slash in it, or `HOST:PORT`, whose host is looked up.
    ///
    /// # Errors
    /// What is expected, or why the host is not known.
    pub fn find(text: &str) -> Result<MeetingAddress, String> {
        if let Some(name) = text.strip_prefix('@') {
            return match (1..=100).contains(&name.len()) {
                true => Ok(MeetingAddress::Name(name.to_owned())),
                false => Err("expected @ and a name of 1 to 100 bytes".to_owned()),
            };
        }
        if text.contains('/') {
            return Ok(MeetingAddress::Path(text.into()));
        }
        let expected = "expected HOST:PORT, such as 10.0.0.1:7877, or a path with a / in it";
        let has_port = text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !has_port {
            return Err(expected.to_owned());
        }
        let found = text.to_socket_addrs();
        let mut found = found.map_err(|error| format!("the host can't be found: {error}"))?;
        let address = found.next().ok_or("the host has no address")?;
        Ok(MeetingAddress::Tcp(address))
    }

    /// Returns true if only processes of this machine reach it.
    pub fn is_local(&self) -> bool {
        match self {
            MeetingAddress::Name(_) | MeetingAddress::Path(_) => true,
            MeetingAddress::Tcp(address) => is_loopback(address.ip()),
        }
    }

    /// Checks that a path can be that of a socket: a folder that is there, and nothing else in its place.
    ///
    /// # Errors
    /// What is wrong, and what is expected.
    pub fn check(&self) -> Result<(), String> {
        let MeetingAddress::Path(path) = self else {
            return Ok(());
        };
        if self.unix().is_err() {
            return Err(
                "expected a path of at most 107 bytes, as the kernel has it for sockets".to_owned(),
            );
        }
        let expected = "expected the path of a socket, which rank 0 makes";
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => Ok(()),
            Ok(_) => Err(format!("something is there that is no socket; {expected}")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
                match folder.is_none_or(Path::is_dir) {
                    true => Ok(()),
                    false => Err(format!(
                        "its folder is not there; {expected}, in a folder that is there"
                    )),
                }
            }
            // The kernel says the rest when it is used.
            Err(_) => Ok(()),
        }
    }

    fn unix(&self) -> io::Result<UnixAddress> {
        match self {
            MeetingAddress::Name(name) => UnixAddress::from_abstract_name(name),
            MeetingAddress::Path(path) => UnixAddress::from_pathname(path),
            MeetingAddress::Tcp(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Begins to connect. The socket never waits; that it is not connected is told when it is read or written.
    ///
    /// # Errors
    /// If nobody listens there yet, or nobody can.
    pub fn connect(&self) -> io::Result<ClientSocket> {
        let MeetingAddress::Tcp(address) = self else {
            let stream = UnixStream::connect_addr(&self.unix()?)?;
            stream.set_nonblocking(true)?;
            return Ok(stream.into());
        };
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket: OwnedFd = socket(family, SockType::Stream, flags, None)?;
        // Messages are small, and the other side waits for each.
        setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(*address)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(ClientSocket::from(socket)),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The listening socket of rank 0.
#[derive(Debug)]
pub enum MeetingListener {
    /// One without a file.
    Name(UnixListener),
    /// Any other.
    Other(Listener),
}

impl MeetingListener {
    /// Listens at `address`.
    ///
    /// # Errors
    /// If something else listens there, or the address is none of this machine.
    pub fn bind(address: &MeetingAddress) -> Result<MeetingListener, SystemError> {
        let other = match address {
            MeetingAddress::Name(_) => {
                let bound = address.unix().and_then(|unix| {
                    let listener = UnixListener::bind_addr(&unix)?;
                    listener.set_nonblocking(true)?;
                    Ok(listener)
                });
                let refuse = |error| SystemError::io(format!("listen at {address}"), &error);
                return bound.map(MeetingListener::Name).map_err(refuse);
            }
            MeetingAddress::Path(path) => {
                ControlSocket::bind_to(path, "listen at the meeting point").map(Listener::Unix)
            }
            MeetingAddress::Tcp(address) => {
                Listener::bind(&ControlAddress::Tcp(*address)).map_err(of_meeting_point)
            }
        };
        let named = other.map_err(|error| error.asked_for_by("--meet"));
        named.map(MeetingListener::Other)
    }

    /// Returns the next peer that has connected, `None` if there is none. Other users of a Unix socket are not served.
    ///
    /// # Errors
    /// If the kernel can't hand it over.
    pub fn accept(&self) -> io::Result<Option<Peer>> {
        let listener = match self {
            MeetingListener::Other(listener) => return listener.accept(),
            MeetingListener::Name(listener) => listener,
        };
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                let uid = getsockopt(&stream, sockopt::PeerCredentials)?.uid();
                Ok(Some(Peer {
                    is_served: uid == geteuid().as_raw() || uid == 0,
                    socket: stream.into(),
                }))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What is to be done about a port that all ranks have to know beforehand.
fn of_meeting_point(error: SystemError) -> SystemError {
    match error.errno() {
        Some(Errno::EADDRINUSE) => error.advise("expected another port, the same at all ranks"),
        Some(Errno::EADDRNOTAVAIL) => error.advise("expected an address of the host of rank 0"),
        Some(Errno::EACCES) => error.advise("expected a port from 1024 on"),
        _ => error,
    }
}

impl AsRawFd for MeetingListener {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            MeetingListener::Name(listener) => listener.as_raw_fd(),
            MeetingListener::Other(listener) => listener.as_raw_fd(),
        }
    }
}

/// Numbers that nobody else knows or has had, from the kernel.
///
/// # Errors
/// If the kernel gives none.
pub fn nonce() -> Result<Nonce, SystemError> {
    let mut nonce = [0; NONCE];
    let read = std::fs::File::open("/dev/urandom")
        .and_then(|mut random| io::Read::read_exact(&mut random, &mut nonce));
    read.map_err(|error| SystemError::io("read random numbers from /dev/urandom", &error))?;
    Ok(nonce)
}

/// The name of this host, from `/proc/sys/kernel/hostname`.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_name_a_path_or_a_port() {
        for (text, expected) in [
            ("@ranks", Ok("@ranks")),
            ("/tmp/m.sock", Ok("/tmp/m.sock")),
            ("./m", Ok("./m")),
            ("127.0.0.1:7", Ok("127.0.0.1:7")),
            ("[::1]:7", Ok("[::1]:7")),
            ("@", Err("expected @ and a name")),
            ("m.sock", Err("expected HOST:PORT")),
            ("10.0.0.1", Err("expected HOST:PORT")),
            ("10.0.0.1:0", Err("expected HOST:PORT")),
            (":7", Err("expected HOST:PORT")),
        ] {
            match (MeetingAddress::find(text), expected) {
                (Ok(address), Ok(shown)) => assert_eq!(address.to_string(), shown),
                (Err(error), Err(words)) => assert!(error.starts_with(words), "{error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        assert!(MeetingAddress::find("127.0.0.1:7").unwrap().is_local());
        assert!(!MeetingAddress::find("192.0.2.1:7").unwrap().is_local());
    }

    #[test]
    fn a_path_is_checked_before_it_is_used_and_named_as_the_meeting_point() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = folder.path().join(name);
            MeetingAddress::find(path.to_str().unwrap()).unwrap()
        };
        fs::write(folder.path().join("file"), "").unwrap();
        let _listener = MeetingListener::bind(&at("socket")).unwrap();
        for (name, expected) in [
            ("socket", None),
            ("new", None),
            (
                "file",
                Some("something is there that is no socket; expected the path of a socket"),
            ),
            (
                ".",
                Some("something is there that is no socket; expected the path of a socket"),
            ),
            (
                "nowhere/new",
                Some("its folder is not there; expected the path of a socket"),
            ),
            ("file/new", None),
            (
                &"x".repeat(108),
                Some("expected a path of at most 107 bytes"),
            ),
        ] {
            match (at(name).check(), expected) {
                (Ok(()), None) => {}
                (Err(why), Some(words)) => assert!(why.starts_with(words), "{name}: {why}"),
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
        let error = MeetingListener::bind(&at("socket"))
            .unwrap_err()
            .to_string();
        let expected = format!(
            "--meet: listen at the meeting point {}: another process",
            at("socket")
        );
        assert!(error.starts_with(&expected), "{error}");
        let used = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let used = MeetingAddress::Tcp(used.local_addr().unwrap());
        let _holder = MeetingListener::bind(&used);
        let error = MeetingListener::bind(&used).unwrap_err().to_string();
        assert!(
            error.ends_with("; expected another port, the same at all ranks"),
            "{error}"
        );
    }

    #[test]
    fn who_connects_is_accepted_at_each_kind_of_address() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.sock");
        let name = format!("@tap-reactor-test-{}", std::process::id());
        for text in [name.as_str(), path.to_str().unwrap()] {
            let address = MeetingAddress::find(text).unwrap();
            assert!(address.connect().is_err(), "nobody listens yet");
            let listener = MeetingListener::bind(&address).unwrap();
            assert!(listener.accept().unwrap().is_none());
            let _client = address.connect().unwrap();
            assert!(listener.accept().unwrap().unwrap().is_served);
        }
        assert_ne!(nonce().unwrap(), nonce().unwrap());
        assert!(!host_name().is_empty());
    }
}
