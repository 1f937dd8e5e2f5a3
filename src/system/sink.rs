//! Files and pipes that instruments write to during a run.
//!
//! A file is written in large pieces, which the kernel takes without delay most of the time. A pipe (a FIFO, standard output
//! into another program) takes what it has room for; the poll reports when there is room again, so that a slow reader
//! never holds up the run. In virtual time there is nothing to hold up, and a reader is waited for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::Interest;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::SystemError;
use super::poll_handle::PollHandle;
use super::signals::StopSignals;
use super::stream::Stream;
use super::transcript::Transcript;
use crate::fabric::output::Sink;
use crate::fabric::{InstrumentConfig, WriteTo};

/// Bytes that a pipe is to hold, if the kernel lets it (`pipe-max-size`, `pipe(7)`).
const PIPE_SIZE: i32 = 1 << 20;

/// The longest wait for a process that opens a FIFO to read it.
const READER_WAIT: Duration = Duration::from_secs(60);
/// The time between two looks whether there is one: the kernel does not report it.
const LOOK_INTERVAL: u16 = 20;

/// The longest wait for a reader at the end of a run.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens what an instrument writes to. `pipes` is told of a pipe, and the poll reports when it has room; without it, its
/// reader is waited for. A FIFO that nobody reads yet is waited for, which `on_wait` is told.
///
/// # Errors
/// If the file can't be created, a FIFO is not opened for reading in time, or a signal comes meanwhile.
pub(crate) fn open_sink(
    config: &InstrumentConfig,
    pipes: Option<&PollHandle>,
    signals: &StopSignals,
    on_wait: impl FnMut(),
) -> Result<Box<dyn Sink>, SystemError> {
    let operation = || format!("open {} {}", config.kind(), config.to());
    let refuse = |error: io::Error| SystemError::io(operation(), &error);
    let is_pipe = |file: &File| file.metadata().map(|found| is_pipe(found.file_type()));
    let file = match config.to() {
        WriteTo::StandardError => return Ok(Box::new(Transcript::default())),
        WriteTo::Client => return Err(refuse(io::ErrorKind::NotConnected.into())),
        WriteTo::StandardOutput => standard_output().map_err(refuse)?,
        WriteTo::File(path) if config.files() > 1 => {
            let ring = FileRing::create(path, config.files()).map_err(refuse)?;
            return Ok(Box::new(ring));
        }
        WriteTo::File(path)
            if fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) =>
        {
            open_fifo(path, signals, on_wait)
                .map_err(refuse)?
                .ok_or_else(|| SystemError::refused(operation(), "no process reads the FIFO"))?
        }
        WriteTo::File(path) => File::create(path).map_err(refuse)?,
    };
    if !is_pipe(&file).map_err(refuse)? {
        return Ok(Box::new(FileSink { file, length: 0 }));
    }
    // Refused if an unprivileged process has many of these.
    let _ = fcntl(&file, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
    if let Some(pipes) = pipes {
        pipes
            .register(&file, 0, Interest::WRITABLE)
            .map_err(refuse)?;
    }
    Ok(Box::new(PipeSink {
        file,
        is_waited_for: pipes.is_none(),
    }))
}

/// Returns true if a sink at `path` will be a file that does not exist yet, or another one that takes what is written without
/// a reader.
pub(crate) fn is_written_at_once(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |found| found.is_file())
}

/// Returns true if standard output is a terminal, on which no binary data should be written.
pub fn is_output_terminal() -> bool {
    io::stdout().is_terminal()
}

/// The standard output, without a buffer. A pipe is opened once more, so that not to wait is a property of this descriptor
/// only, and not of those that other processes have of it.
fn standard_output() -> io::Result<File> {
    let stdout = io::stdout();
    let same = || stdout.as_fd().try_clone_to_owned().map(File::from);
    let file = same()?;
    let kind = file.metadata()?.file_type();
    if kind.is_fifo() {
        let path = format!("/proc/self/fd/{}", stdout.as_raw_fd());
        let again = OpenOptions::new()
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path);
        if let Ok(again) = again {
            return Ok(again);
        }
    }
    if is_pipe(kind) {
        set_nonblocking(file.as_fd())?;
    }
    Ok(file)
}

fn is_pipe(kind: fs::FileType) -> bool {
    kind.is_fifo() || kind.is_socket()
}

fn set_nonblocking(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL)?);
    fcntl(descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Opens a FIFO as soon as another process reads it. `None` if none does in time.
fn open_fifo(
    path: &Path,
    signals: &StopSignals,
    mut on_wait: impl FnMut(),
) -> io::Result<Option<File>> {
    let looks = READER_WAIT.as_millis() / u128::from(LOOK_INTERVAL);
    for look in 0..looks {
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path);
        match opened {
            Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => {}
            opened => return opened.map(Some),
        }
        if look == 0 {
            on_wait();
        }
        // A signal is left to whoever takes it.
        let descriptor = signals.as_fd();
        let mut signal = [PollFd::new(descriptor, PollFlags::POLLIN)];
        match poll(&mut signal, PollTimeout::from(LOOK_INTERVAL)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Err(io::Error::other("a signal came before it was read")),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

/// A regular file, or a device.
#[derive(Debug)]
struct FileSink {
    file: File,
    /// Bytes written so far.
    length: u64,
}

impl Sink for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.file.write_all(bytes) {
            // Without the part that it still took, so that it ends with a whole record.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }
}

/// Files with numbers in their names, of which the last ones are kept.
#[derive(Debug)]
struct FileRing {
    path: PathBuf,
    /// The number of files that are kept.
    files: u32,
    /// The number of the present file, from 1.
    number: u64,
    file: FileSink,
}

impl FileRing {
    fn create(path: &Path, files: u32) -> io::Result<FileRing> {
        let file = File::create(numbered(path, 1))?;
        Ok(FileRing {
            path: path.to_owned(),
            files,
            number: 1,
            file: FileSink { file, length: 0 },
        })
    }
}

/// Puts a number before the ending of a file's name, as the files of a ring have it: `run.7.pcapng`.
pub fn numbered(path: &Path, number: u64) -> PathBuf {
    match path.extension() {
        Some(ending) => path.with_extension(format!("{number}.{}", ending.to_string_lossy())),
        None => path.with_extension(number.to_string()),
    }
}

/// The number that `file`, by its name, has in the ring `path`.
pub fn ring_number(path: &Path, file: &Path) -> Option<u64> {
    let name = file.file_name()?.to_str()?;
    let numbers = name.split('.').filter_map(|part| part.parse().ok());
    numbers
        .filter(|number| *number > 0)
        .find(|number| numbered(path, *number).file_name() == file.file_name())
}

/// The last file that an older ring has left under the names of the ring `path`, if the first of this one does not take its
/// place.
pub(crate) fn old_ring_file(path: &Path) -> Option<PathBuf> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let entries = fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?;
    let numbers =
        entries.filter_map(|entry| ring_number(path, Path::new(&entry.ok()?.file_name())));
    let last = numbers.max().filter(|last| *last > 1)?;
    Some(numbered(path, last))
}

impl Sink for FileRing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        if written.is_err() && self.file.length == 0 {
            // Not even its head found room.
            let _ = fs::remove_file(numbered(&self.path, self.number));
        }
        written
    }

    fn next_file(&mut self) -> io::Result<()> {
        // The oldest goes first, so that there is room.
        let next = self.number + 1;
        if let Some(oldest) = next.checked_sub(u64::from(self.files))
            && oldest > 0
        {
            fs::remove_file(numbered(&self.path, oldest))?;
        }
        let file = File::create(numbered(&self.path, next))?;
        self.file = FileSink { file, length: 0 };
        self.number = next;
        Ok(())
    }
}

/// A pipe, a FIFO or a socket, whose writes do not wait.
#[derive(Debug)]
struct PipeSink {
    file: File,
    /// The run waits for the reader.
    is_waited_for: bool,
}

impl Sink for PipeSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_waited_for {
            Stream::new(&self.file, None).write_all(bytes)?;
            return Ok(bytes.len());
        }
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => taken += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Stream::new(&self.file, Some(PATIENCE)).write_all(bytes)
    }

    fn is_waited_for(&self) -> bool {
        self.is_waited_for
    }

    fn is_read_live(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::OwnedFd;

    use super::super::wait_until_closed;
    use super::*;

    fn pipe() -> (File, PipeSink) {
        let (reader, writer) = std::io::pipe().unwrap();
        set_nonblocking(writer.as_fd()).unwrap();
        let sink = PipeSink {
            file: OwnedFd::from(writer).into(),
            is_waited_for: false,
        };
        (OwnedFd::from(reader).into(), sink)
    }

    #[test]
    fn a_pipe_takes_what_it_has_room_for_and_fails_when_its_reader_has_gone() {
        let (mut reader, mut sink) = pipe();
        let bytes = vec![7; 1 << 20];
        let taken = sink.write(&bytes).unwrap();
        assert!((4_096..bytes.len()).contains(&taken));
        assert_eq!(sink.write(&bytes).unwrap(), 0);
        reader.read_exact(&mut vec![0; taken]).unwrap();
        assert_eq!(sink.write(&bytes).unwrap(), taken);
        drop(reader);
        let mut end = None;
        wait_until_closed(|| {
            end = sink.write(&bytes).err();
            end.is_some()
        });
        assert_eq!(end.unwrap().kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_last_files_of_a_ring_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.pcapng");
        let mut ring = FileRing::create(&path, 2).unwrap();
        for number in 1..=4u8 {
            if number > 1 {
                ring.next_file().unwrap();
            }
            ring.write(&[number; 3]).unwrap();
        }
        ring.write_all(&[5]).unwrap();
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["run.3.pcapng", "run.4.pcapng"]);
        let last = fs::read(folder.path().join("run.4.pcapng")).unwrap();
        assert_eq!(last, [4, 4, 4, 5]);
    }

    #[test]
    fn files_of_an_older_ring_are_known_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.pcapng");
        assert_eq!(old_ring_file(&path), None);
        for name in [
            "run.1.pcapng",
            "run.0.pcapng",
            "run.019.pcapng",
            "run.20.pcap",
            "run.pcapng.21",
        ] {
            File::create(folder.path().join(name)).unwrap();
            assert_eq!(old_ring_file(&path), None, "{name}");
        }
        let old = folder.path().join("run.19.pcapng");
        File::create(&old).unwrap();
        assert_eq!(old_ring_file(&path), Some(old));
    }

    #[test]
    fn a_file_of_a_ring_for_whose_head_there_is_no_room_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.pcapng");
        std::os::unix::fs::symlink("/dev/full", numbered(&path, 2)).unwrap();
        let mut ring = FileRing::create(&path, 3).unwrap();
        ring.write(&[1; 3]).unwrap();
        ring.next_file().unwrap();
        let error = ring.write(&[2; 3]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(fs::symlink_metadata(numbered(&path, 2)).is_err());
        assert_eq!(fs::read(numbered(&path, 1)).unwrap(), [1; 3]);
    }

    #[test]
    fn a_file_on_a_full_disk_ends_where_it_ended_before() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut sink = FileSink {
            file: full,
            length: 0,
        };
        let error = sink.write(&[1; 10]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
}
