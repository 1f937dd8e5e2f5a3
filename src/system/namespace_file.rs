//! The names of network namespaces: files under `/run/netns` on which a namespace is mounted, as `ip netns` makes them
//! (`netns_add()` in iproute2's `ip/ipnetns.c`).
//!
//! There is no one call that makes a name, nor one that removes it, and a run may be killed between any two. So the file
//! has content from its first moment on, the mark of the run, and the run holds a lock on it (`flock(2)`), which the kernel
//! takes off it with the process: a file without its mount, marked and not locked, is what a killed run has left.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use nix::unistd::linkat;

use super::error::SystemError;
use super::mark::Mark;
use super::name_rules::validate_namespace_name;

/// Where the names are.
pub(super) const NAMESPACE_DIRECTORY: &str = "/run/netns";
/// The namespace of the calling thread.
pub(super) const CURRENT_NAMESPACE: &str = "/proc/thread-self/ns/net";

nix::ioctl_none_bad!(namespace_kind, libc::NS_GET_NSTYPE);

/// The file or namespace found under a name.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// A network namespace.
    Namespace(File),
    /// The file that a run makes for a name, without its mount.
    Unmounted(File),
    /// Something else, in words that follow "is".
    Other(String),
}

/// A name that this process has made.
#[derive(Debug)]
pub(super) struct OwnName {
    name: String,
    /// Holds the lock.
    file: File,
}

/// Looks what is under `name`. Does not wait for anything, whatever it is.
///
/// # Errors
/// When it can't be looked at.
pub(super) fn find(name: &str) -> io::Result<Found> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path_of(name));
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        // What a socket answers.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            return Ok(Found::Other("a socket".to_owned()));
        }
        Err(error) => return Err(error),
    };
    let kind = file.metadata()?.file_type();
    let other = |what: &str| Ok(Found::Other(what.to_owned()));
    if fstatfs(&file)?.filesystem_type() == NSFS_MAGIC {
        #[allow(unsafe_code)]
        // SAFETY: the descriptor is open, and the call takes nothing else.
        return match unsafe { namespace_kind(file.as_raw_fd()) } {
            Ok(libc::CLONE_NEWNET) => Ok(Found::Namespace(file)),
            _ => other("a namespace of another kind"),
        };
    }
    if kind.is_dir() {
        return other("a directory");
    }
    if kind.is_fifo() {
        return other("a FIFO");
    }
    if !kind.is_file() {
        return other("a device");
    }
    let mut content = String::new();
    // A mark is far shorter.
    match (&file).take(1024).read_to_string(&mut content) {
        Ok(_) if Mark::parse(&content).is_some() => Ok(Found::Unmounted(file)),
        Ok(0) => other("an empty file"),
        _ => other("a file"),
    }
}

/// Makes `name`, with the mark of its run in it, and nothing mounted yet.
///
/// # Errors
/// When it exists, or can't be made.
pub(super) fn create(name: &str, mark: &Mark) -> Result<OwnName, SystemError> {
    let operation = || format!("make namespace {name}");
    share_directory()?;
    let path = path_of(name);
    let file = create_locked(&path, mark.alias().as_bytes())
        .map_err(|error| SystemError::io(operation(), &error))?;
    Ok(OwnName {
        name: name.to_owned(),
        file,
    })
}

/// Makes a file at once with its content and a lock on it. Where the file system has no files without a name
/// (`O_TMPFILE`), who is killed within two system calls leaves an empty file.
fn create_locked(path: &Path, content: &[u8]) -> io::Result<File> {
    let nameless = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o444)
        .open(NAMESPACE_DIRECTORY);
    let has_no_name = nameless.is_ok();
    let mut file = match nameless {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o444)
                .open(path)?
        }
        opened => opened?,
    };
    file.try_lock()?;
    file.write_all(content)?;
    if has_no_name {
        let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(
            AT_FDCWD,
            descriptor.as_str(),
            AT_FDCWD,
            path,
            AtFlags::AT_SYMLINK_FOLLOW,
        )?;
    }
    Ok(file)
}

impl OwnName {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Removes the name, if it is still the one that we made: somebody may have deleted it, and made another.
    ///
    /// # Errors
    /// When it can't be removed.
    pub(super) fn remove(&self) -> Result<(), SystemError> {
        let operation = || format!("remove namespace {}", self.name);
        let here =
            File::open(CURRENT_NAMESPACE).map_err(|error| SystemError::io(operation(), &error))?;
        self.remove_of(&here)
    }

    /// The same for a name of `namespace`, in which the calling thread need not be.
    ///
    /// # Errors
    /// When it can't be removed.
    pub(super) fn remove_of(&self, namespace: &File) -> Result<(), SystemError> {
        let operation = || format!("remove namespace {}", self.name);
        let found = find(&self.name).map_err(|error| SystemError::io(operation(), &error))?;
        let is_ours = match found {
            Found::Namespace(there) => is_same(&there, namespace),
            Found::Unmounted(there) => is_same(&there, &self.file),
            Found::Nothing | Found::Other(_) => false,
        };
        match is_ours {
            true => remove(&self.name),
            false => Ok(()),
        }
    }

    /// Mounts the namespace of the calling thread on the name.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn mount(&self) -> Result<(), SystemError> {
        bind(CURRENT_NAMESPACE, path_of(&self.name), MsFlags::MS_BIND)
            .map_err(|errno| SystemError::kernel(format!("make namespace {}", self.name), errno))
    }
}

/// Removes a name that a killed run has left without its mount, of which `file` was opened. Returns true if it did: not
/// where the run is still going.
///
/// # Errors
/// When it can't be removed.
pub(super) fn remove_unmounted(name: &str, file: &File) -> Result<bool, SystemError> {
    if file.try_lock().is_err() {
        return Ok(false);
    }
    // Somebody else may have removed it meanwhile, and a new run may have made its own.
    if matches!(find(name), Ok(Found::Unmounted(there)) if is_same(&there, file)) {
        remove(name)?;
    }
    Ok(true)
}

/// Removes a name, as `ip netns delete` does. The namespace itself ends with the last process in it.
///
/// # Errors
/// When it can't be removed.
pub(super) fn remove(name: &str) -> Result<(), SystemError> {
    let path = path_of(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: not a mount point. Then the file is all there is.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => {
            return Err(SystemError::kernel(
                format!("unmount namespace {name}"),
                errno,
            ));
        }
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SystemError::io(format!("remove namespace {name}"), &error))
        }
        _ => Ok(()),
    }
}

/// All names, in order.
pub(super) fn names() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(NAMESPACE_DIRECTORY) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| validate_namespace_name(name).is_ok())
        .collect();
    names.sort();
    names
}

/// Returns true if both are the same file, or the same namespace.
pub(super) fn is_same(one: &File, other: &File) -> bool {
    let identity = |file: &File| file.metadata().ok().map(|found| (found.dev(), found.ino()));
    identity(one).is_some_and(|found| identity(other) == Some(found))
}

/// Returns true if there is something of that name where network namespaces are named.
pub fn is_namespace_there(name: &str) -> bool {
    path_of(name).symlink_metadata().is_ok()
}

fn path_of(name: &str) -> PathBuf {
    Path::new(NAMESPACE_DIRECTORY).join(name)
}

/// Makes `/run/netns`, shared with other mount namespaces so that a name made or removed here is so everywhere.
fn share_directory() -> Result<(), SystemError> {
    let operation = || format!("make the directory {NAMESPACE_DIRECTORY}");
    std::fs::create_dir_all(NAMESPACE_DIRECTORY)
        .map_err(|error| SystemError::io(operation(), &error))?;
    let share = || {
        bind(
            "",
            NAMESPACE_DIRECTORY,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
        )
    };
    match share() {
        // EINVAL: not a mount point yet.
        Err(Errno::EINVAL) => bind(
            NAMESPACE_DIRECTORY,
            NAMESPACE_DIRECTORY,
            MsFlags::MS_BIND | MsFlags::MS_REC,
        )
        .and_then(|()| share()),
        other => other,
    }
    .map_err(|errno| SystemError::kernel(operation(), errno))
}

fn bind(from: &str, to: impl AsRef<Path>, flags: MsFlags) -> Result<(), Errno> {
    mount(Some(from), to.as_ref(), Some("none"), flags, None::<&str>)
}
