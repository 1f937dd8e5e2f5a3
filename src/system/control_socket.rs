//! The socket by which a running lab is controlled: a file that only its owner may use (`unix(7)`).
//!
//! The file is there as long as the run is. One that a killed run has left behind stands in nobody's way: it is replaced
//! once the kernel says that nobody listens at it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt,
};
use nix::sys::stat::{FileStat, Mode, fstatat, umask};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::client_socket::{ClientSocket, Peer};
use super::error::SystemError;

/// The uid as which users show whom a user namespace does not map, if the kernel does not tell
/// (`/proc/sys/kernel/overflowuid`).
const OVERFLOW_UID: u32 = 65534;

/// A listening socket with a file. Dropped, it removes the file if it is still this socket's.
#[derive(Debug)]
pub struct ControlSocket {
    /// It goes first, so that nobody finds a file at which nobody listens.
    _file: SocketFile,
    listener: UnixListener,
    overflow_uid: u32,
}

/// The file of a socket, found again whatever becomes of its folder's name or of the mounts.
#[derive(Debug)]
struct SocketFile {
    folder: File,
    name: OsString,
    /// Device and inode.
    identity: (u64, u64),
}

impl ControlSocket {
    /// Creates the file `path`, for this user alone, and listens. To be called before the process enters its lab's namespaces:
    /// who will be served does not depend on that, but where the path leads to may.
    ///
    /// # Errors
    /// If the path is too long for a socket, its folder is missing, or something is there already: another run's socket, or
    /// anything but a socket.
    pub fn bind(path: &Path) -> Result<ControlSocket, SystemError> {
        ControlSocket::bind_to(path, "create the control socket")
    }

    /// The same for another purpose: `operation` is what is done with the path, in the words of errors.
    ///
    /// # Errors
    /// As [`ControlSocket::bind`].
    pub(super) fn bind_to(path: &Path, operation: &str) -> Result<ControlSocket, SystemError> {
        let operation = || format!("{operation} {}", path.display());
        let refuse = |error: io::Error| match error.kind() {
            // The standard library's words for a path that the kernel has no room for (sun_path).
            io::ErrorKind::InvalidInput => SystemError::refused(
                operation(),
                "expected a path of at most 107 bytes, as the kernel has it for sockets",
            ),
            _ => SystemError::io(operation(), &error),
        };
        let listener = match bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                // Two runs that find it stale at once must not take it from each other.
                let _alone = lock_folder(path).map_err(|error| {
                    SystemError::io(operation(), &error)
                        .advise("another run begins there: try again, or choose another path")
                })?;
                check_stale(path).map_err(|(cause, advice)| {
                    SystemError::refused(operation(), cause).advise(advice)
                })?;
                fs::remove_file(path).map_err(refuse)?;
                bind(path).map_err(refuse)?
            }
            bound => bound.map_err(refuse)?,
        };
        let file = SocketFile::of(path).map_err(refuse)?;
        listener.set_nonblocking(true).map_err(refuse)?;
        let told = fs::read_to_string("/proc/sys/kernel/overflowuid");
        let told = told.ok().and_then(|text| text.trim().parse().ok());
        Ok(ControlSocket {
            _file: file,
            listener,
            overflow_uid: told.unwrap_or(OVERFLOW_UID),
        })
    }

    /// Returns the next peer that has connected, `None` if there is none. Neither its socket nor this call waits.
    ///
    /// # Errors
    /// If the kernel can't hand it over: there is no descriptor left, for one.
    pub fn accept(&self) -> io::Result<Option<Peer>> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        let uid = getsockopt(&stream, sockopt::PeerCredentials)?.uid();
        let is_served = is_served(uid, geteuid().as_raw(), self.overflow_uid);
        Ok(Some(Peer {
            socket: ClientSocket::from(stream),
            is_served,
        }))
    }
}

impl AsRawFd for ControlSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.listener.as_raw_fd()
    }
}

/// Returns true if the user `uid` is served in a process of `own`. Anybody may be behind the `overflow` uid.
fn is_served(uid: u32, own: u32, overflow: u32) -> bool {
    uid != overflow && (uid == own || uid == 0)
}

/// Binds under a umask that leaves the file to its owner alone; the process has one thread, so that no other file is
/// created meanwhile.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    bound
}

/// The folder that `path` is in, and its name there.
fn split(path: &Path) -> io::Result<(&Path, OsString)> {
    let name = path.file_name().ok_or(io::ErrorKind::NotFound)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    Ok((folder.unwrap_or(Path::new(".")), name.to_owned()))
}

/// Keeps other runs from replacing a file in the folder of `path` (`flock(2)`).
fn lock_folder(path: &Path) -> io::Result<File> {
    let (folder, _) = split(path)?;
    let folder = File::open(folder)?;
    folder.try_lock()?;
    Ok(folder)
}

/// Checks that `path` is a socket at which nobody listens. Else returns why it is not, and what to do about it.
fn check_stale(path: &Path) -> Result<(), (String, &'static str)> {
    const OTHER_PATH: &str = "choose another path";
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) => return Err((format!("it can't be looked at: {error}"), OTHER_PATH)),
    };
    if !found.file_type().is_socket() {
        let cause = "something is there that is no socket";
        return Err((cause.to_owned(), OTHER_PATH));
    }
    match connect_at_once(path) {
        Err(Errno::ECONNREFUSED) => Ok(()),
        Ok(()) | Err(Errno::EAGAIN) => {
            let cause = "another process listens there";
            Err((cause.to_owned(), "another run uses it: choose another path"))
        }
        Err(errno) => Err((
            format!("who listens there can't be found: {}", errno.desc()),
            OTHER_PATH,
        )),
    }
}

/// Connects without waiting for a listener that is busy.
fn connect_at_once(path: &Path) -> Result<(), Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let client = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(client.as_raw_fd(), &UnixAddr::new(path)?)
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        let (folder, name) = split(path)?;
        let folder = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_PATH | OFlag::O_DIRECTORY).bits())
            .open(folder)?;
        let mut file = SocketFile {
            folder,
            name,
            identity: (0, 0),
        };
        file.identity = identity(&file.stat()?);
        Ok(file)
    }

    fn stat(&self) -> Result<FileStat, Errno> {
        let name = PathBuf::from(&self.name);
        fstatat(&self.folder, &name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }
}

fn identity(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self
            .stat()
            .is_ok_and(|stat| identity(&stat) == self.identity)
        {
            // What is left behind is taken over by the next run.
            let _ = unlinkat(
                &self.folder,
                Path::new(&self.name),
                UnlinkatFlags::NoRemoveDir,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    /// Leaves a socket at which nobody listens, as a killed run does.
    fn leave_stale(path: &Path) {
        drop(UnixListener::bind(path).unwrap());
    }

    #[test]
    fn the_file_is_its_owners_alone_and_goes_with_the_socket() {
        let folder = folder();
        let path = folder.path().join("lab.sock");
        let before = umask(Mode::empty());
        let socket = ControlSocket::bind(&path).unwrap();
        assert_eq!(umask(before), Mode::empty(), "the umask is as it was");
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        drop(socket);
        assert!(fs::symlink_metadata(&path).is_err());
    }

    #[test]
    fn only_its_own_file_goes_with_a_socket_wherever_that_is_by_then() {
        let folder = folder();
        let path = folder.path().join("lab.sock");
        let first = ControlSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = ControlSocket::bind(&path).unwrap();
        drop(first);
        assert!(path.exists(), "it is the second one's");
        let moved = folder.path().with_extension("moved");
        fs::rename(folder.path(), &moved).unwrap();
        drop(second);
        assert_eq!(fs::read_dir(&moved).unwrap().count(), 0);
        fs::remove_dir(&moved).unwrap();
    }

    #[test]
    fn a_stale_socket_is_replaced_and_nothing_else_is() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        leave_stale(&at("stale"));
        let _replaced = ControlSocket::bind(&at("stale")).unwrap();
        UnixStream::connect(at("stale")).unwrap();

        let _live = ControlSocket::bind(&at("live")).unwrap();
        // A listener that does not accept, whose queue is full.
        let _busy = UnixListener::bind(at("busy")).unwrap();
        let mut waiting = Vec::new();
        while let Ok(()) = connect_at_once(&at("busy")) {
            let client = UnixStream::connect(at("live")).unwrap();
            waiting.push(client);
            if waiting.len() > 10_000 {
                break;
            }
        }
        fs::write(at("file"), "words").unwrap();
        fs::create_dir(at("folder")).unwrap();
        leave_stale(&at("gone"));
        symlink(at("gone"), at("link")).unwrap();
        for (name, cause) in [
            ("live", "another process listens there; another run uses it"),
            ("busy", "another process listens there; another run uses it"),
            ("file", "something is there that is no socket"),
            ("folder", "something is there that is no socket"),
            ("link", "something is there that is no socket"),
            ("nowhere/lab.sock", "No such file or directory (ENOENT)"),
            (&"x".repeat(108), "expected a path of at most 107 bytes"),
        ] {
            let error = ControlSocket::bind(&at(name)).unwrap_err().to_string();
            let whole = format!("create the control socket {}: ", at(name).display());
            assert!(error.starts_with(&whole), "{error}");
            assert!(error.contains(cause), "{name}: {error}");
        }
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "words");
        assert!(at("gone").exists());
    }

    #[test]
    fn two_runs_that_find_a_stale_socket_do_not_both_replace_it() {
        let folder = folder();
        let path = folder.path().join("lab.sock");
        leave_stale(&path);
        let lock = lock_folder(&path).unwrap();
        let error = ControlSocket::bind(&path).unwrap_err().to_string();
        assert!(error.contains("another run begins there"), "{error}");
        drop(lock);
        ControlSocket::bind(&path).unwrap();
    }

    #[test]
    fn the_owner_and_root_are_served_but_nobody_whom_the_kernel_cannot_name() {
        for (uid, own, is_so) in [
            (1000, 1000, true),
            (0, 1000, true),
            (0, 0, true),
            (1000, 0, false),
            (1001, 1000, false),
            (65534, 0, false),
            (65534, 65534, false),
            (0, 65534, true),
        ] {
            assert_eq!(is_served(uid, own, 65534), is_so, "{uid} by {own}");
        }
    }

    #[test]
    fn peers_are_told_by_their_user() {
        let folder = folder();
        let path = folder.path().join("lab.sock");
        let socket = ControlSocket::bind(&path).unwrap();
        assert!(socket.accept().unwrap().is_none());
        let _own = UnixStream::connect(&path).unwrap();
        assert!(matches!(
            socket.accept().unwrap(),
            Some(Peer {
                is_served: true,
                ..
            })
        ));
        assert!(
            geteuid().is_root(),
            "this test connects as another user: run it as root"
        );
        // Somebody has given it away.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let words = format!("import socket; socket.socket(socket.AF_UNIX).connect({path:?})");
        let mut command = Command::new("python3");
        command.args(["-c", &words]);
        std::os::unix::process::CommandExt::uid(&mut command, 1234);
        assert!(command.status().unwrap().success());
        assert!(matches!(
            socket.accept().unwrap(),
            Some(Peer {
                is_served: false,
                ..
            })
        ));
    }
}
