//! Where a report is to go: looked at before a run, written to after it.
//!
//! A file appears whole or not at all: it is written without a name (`O_TMPFILE`, `open(2)`), which no end of the process
//! can leave behind, and takes the place of an older one at once, with its mode and owner. A symbolic link is followed.
//! Other files (a FIFO, a device, a file that something is mounted on) are written in place.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::{AccessFlags, eaccess, geteuid, linkat};

use crate::system::Stream;

/// How much room a disk must have for a report to be tried: the beginning of one.
const TRIED: usize = 4096;

/// How long a FIFO may be without anybody who reads.
const PATIENCE: Duration = Duration::from_secs(5);

/// Links that are followed from one to the next (as the kernel does, `path_resolution(7)`).
const MOST_LINKS: usize = 40;

/// A place that a report can be written to, as far as that can be known beforehand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destination {
    path: PathBuf,
    /// The file's own name, whatever links lead there.
    target: PathBuf,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// A file, or none yet, in a folder that takes files.
    File,
    /// Something whose name can't be given to a file of ours.
    Fixed,
    Fifo,
    /// The standard output or error of the process.
    Stdout,
    Stderr,
}

/// Why a report can't be written somewhere. Found beforehand, the message leaves out the file, which who asks has named.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// There is a folder of that name.
    #[error("that is a folder; expected the name of a file")]
    IsFolder,
    /// The folder that the file is to lie in can't be had.
    #[error("the folder {} does not exist", .0.display())]
    NoFolder(PathBuf),
    /// The folder that the file is to lie in takes no file.
    #[error("no file can be made in {}: {source}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system refuses to open it.
    #[error(transparent)]
    Refused(#[from] io::Error),
    /// The FIFO was not read, or not to its end.
    #[error("write report {}: what was written was not read within {PATIENCE:?}", .0.display())]
    NoReader(PathBuf),
    /// The system refused.
    #[error("write report {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Destination {
    /// Looks whether a report can be written to `path`, by trying what can be tried without a trace.
    ///
    /// # Errors
    /// When it can't.
    pub fn new(path: &Path) -> Result<Destination, DestinationError> {
        // Whether it is there or not: only a folder is named so.
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(DestinationError::IsFolder);
        }
        let target = follow(path)?;
        let is_descriptor =
            fs::canonicalize(folder_of(&target)).is_ok_and(|folder| folder.starts_with("/proc"));
        let place = match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Place::File,
            Err(error) => return Err(error.into()),
            Ok(found) if found.is_dir() => return Err(DestinationError::IsFolder),
            Ok(found) if is_same(&found, io::stdout()) => Place::Stdout,
            Ok(found) if is_same(&found, io::stderr()) => Place::Stderr,
            Ok(found) if found.file_type().is_fifo() => {
                // To open it would tell a reader that somebody writes.
                eaccess(path, AccessFlags::W_OK).map_err(io::Error::from)?;
                Place::Fifo
            }
            Ok(found) => {
                open_in_place(path, false)?;
                match found.is_file() && !is_descriptor && !is_fixed(&target, &found) {
                    true => Place::File,
                    false => Place::Fixed,
                }
            }
        };
        if place == Place::File {
            try_folder(folder_of(&target))?;
        }
        Ok(Destination {
            path: path.to_owned(),
            target,
            place,
        })
    }

    /// The path that was asked for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's own name, whatever links lead there.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Returns true if it is a FIFO.
    pub fn is_fifo(&self) -> bool {
        self.place == Place::Fifo
    }

    /// Returns true if it is the standard output of the process.
    pub fn is_standard_output(&self) -> bool {
        self.place == Place::Stdout
    }

    /// Returns true if both are one place, under whatever names.
    pub fn is_same(&self, other: &Destination) -> bool {
        let real = |target: &Path| {
            let folder = fs::canonicalize(folder_of(target)).ok()?;
            Some(folder.join(target.file_name()?))
        };
        self.target == other.target
            || self.overwrites(&other.path)
            || real(&self.target).is_some_and(|a| real(&other.target) == Some(a))
    }

    /// Returns true if what is written there would take the place of the file `path`, under whatever names.
    pub fn overwrites(&self, path: &Path) -> bool {
        let (Ok(found), Ok(other)) = (fs::metadata(&self.path), fs::metadata(path)) else {
            return false;
        };
        other.is_file() && (found.dev(), found.ino()) == (other.dev(), other.ino())
    }

    /// Writes what `write` writes there.
    ///
    /// # Errors
    /// When it fails, or the system refuses.
    pub fn write(
        self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), DestinationError> {
        let is_standard = matches!(self.place, Place::Stdout | Place::Stderr);
        let written = match self.place {
            Place::File => replace(&self.target, write),
            Place::Fixed => open_in_place(&self.path, true).and_then(|file| to(file, None, write)),
            Place::Fifo => to_fifo(&self.path, PATIENCE, write),
            Place::Stdout => to_standard(io::stdout(), write),
            Place::Stderr => to_standard(io::stderr(), write),
        };
        // Whoever reads the process's own output may have had enough of it.
        let had_enough = |error: &io::Error| is_standard && error.kind() == ErrorKind::BrokenPipe;
        if written.as_ref().is_err_and(had_enough) {
            return Ok(());
        }
        written.map_err(|source| match source.kind() {
            ErrorKind::TimedOut if self.place == Place::Fifo => {
                DestinationError::NoReader(self.path)
            }
            _ => DestinationError::Write {
                path: self.path,
                source,
            },
        })
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Where the symbolic link `path`, if it is one, leads to in the end, whether anything is there or not.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = folder_of(&target).join(next),
            Err(_) => return Ok(target),
        }
    }
    Err(Errno::ELOOP.into())
}

/// Returns true if a stream of the process is the file that `found` describes.
fn is_same(found: &Metadata, stream: impl AsFd) -> bool {
    let owned = stream.as_fd().try_clone_to_owned();
    let stream = owned.and_then(|stream| File::from(stream).metadata());
    stream.is_ok_and(|stream| (stream.dev(), stream.ino()) == (found.dev(), found.ino()))
}

/// Returns true if no other file can be put in the place of `target`: something is mounted there, or it is somebody else's in a
/// folder where each may touch only what is theirs (`/tmp`).
fn is_fixed(target: &Path, found: &Metadata) -> bool {
    const STICKY: u32 = 0o1000;
    let mount = |path: &Path| {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_PATH.bits())
            .open(path)
            .ok()?;
        let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
        let line = told.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
        line.trim().parse::<u64>().ok()
    };
    let folder = folder_of(target);
    let is_others = fs::metadata(folder).is_ok_and(|folder| {
        let me = geteuid();
        let is_mine = me.is_root() || [found.uid(), folder.uid()].contains(&me.as_raw());
        folder.mode() & STICKY != 0 && !is_mine
    });
    is_others || mount(target) != mount(folder)
}

/// Makes a file without a name in `folder`, with something in it, and lets it vanish.
fn try_folder(folder: &Path) -> Result<(), DestinationError> {
    let folder = folder.to_owned();
    if !folder.is_dir() {
        return Err(DestinationError::NoFolder(folder));
    }
    let tried = || {
        let _undisturbed = Undisturbed::begin()?;
        tempfile::tempfile_in(&folder)?.write_all(&[0; TRIED])
    };
    tried().map_err(|source| DestinationError::Folder { folder, source })
}

/// Puts a file in the place of `target`, which appears complete or not at all.
fn replace(target: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let folder = folder_of(target);
    let nameless = OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_TMPFILE.bits())
        // As any file: the mask of the process takes away from this.
        .mode(0o666)
        .open(folder);
    match nameless {
        Ok(file) if Path::new("/proc/self/fd").exists() => {
            fill(&file, target, write)?;
            give_name(&file, target)
        }
        // Not every file system has files without names.
        _ => replace_by_named(target, write),
    }
}

/// The same with a file that has another name as long as it is not complete. Nothing ends the process meanwhile.
fn replace_by_named(
    target: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let _undisturbed = Undisturbed::begin()?;
    let named = beside(folder_of(target), |path| {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o666)
            .open(path)
    })?;
    fill(named.as_file(), target, write)?;
    named.persist(target).map_err(|refused| refused.error)?;
    Ok(())
}

/// Writes to a new file, which becomes like the one that it is to replace.
fn fill(
    mut file: &File,
    target: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = BufWriter::new(&mut file);
    write(&mut out)?;
    out.flush()?;
    drop(out);
    if let Ok(old) = fs::metadata(target) {
        // Whose it was it can be only if the process may give files away.
        let _ = std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid()));
        file.set_permissions(old.permissions())?;
    }
    Ok(())
}

/// Gives a nameless file the name `target`, whatever has it now.
fn give_name(file: &File, target: &Path) -> io::Result<()> {
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |name: &Path| {
        let follow = AtFlags::AT_SYMLINK_FOLLOW;
        linkat(AT_FDCWD, nameless.as_str(), AT_FDCWD, name, follow)
    };
    match link(target) {
        Err(Errno::EEXIST) => {
            // No link replaces a file; a renamed one does. Nothing ends the process while it has another name.
            let _undisturbed = Undisturbed::begin()?;
            let named = beside(folder_of(target), |name| Ok(link(name)?))?;
            named.persist(target).map_err(|refused| refused.error)?;
            Ok(())
        }
        linked => Ok(linked?),
    }
}

/// Makes something under a name of its own beside a report.
fn beside<R>(
    folder: &Path,
    make: impl FnMut(&Path) -> io::Result<R>,
) -> io::Result<tempfile::NamedTempFile<R>> {
    tempfile::Builder::new()
        .prefix(".tap-reactor-report-")
        .make_in(folder, make)
}

/// No signal is delivered to this thread, the only one of the process, while this exists.
struct Undisturbed(SigSet);

impl Undisturbed {
    fn begin() -> io::Result<Undisturbed> {
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        Ok(Undisturbed(before))
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        let _ = self.0.thread_set_mask();
    }
}

fn open_in_place(path: &Path, truncate: bool) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .truncate(truncate)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)
}

/// Writes to something that may make us wait.
fn to(
    out: File,
    patience: Option<Duration>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = BufWriter::new(Stream::new(out, patience));
    let written = write(&mut out).and_then(|()| out.flush());
    // Without what it still holds, which it would try to write once more.
    let (out, _) = out.into_parts();
    written?;
    match patience {
        Some(_) => out.wait_for_room(),
        None => Ok(()),
    }
}

/// Writes to a FIFO, and waits until somebody has read all of it.
///
/// It is opened for reading as well: so neither has anybody to be there before, nor does a reader who opens it wait for
/// the end of the run. And it is made to hold one page, so that there is room in it when, and only when, it is empty.
fn to_fifo(
    path: &Path,
    patience: Duration,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let fifo = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    // Refused if it holds more already, which somebody has to read then.
    let _ = fcntl(&fifo, FcntlArg::F_SETPIPE_SZ(TRIED as i32));
    to(fifo, Some(patience), write)
}

fn to_standard(
    stream: impl AsFd,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    to(stream.as_fd().try_clone_to_owned()?.into(), None, write)
}

#[cfg(test)]
mod tests;
