//! Standard error and standard output. Nothing that happens to them ends a run or holds it up, and nothing else of this
//! program writes to them.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use indicatif::TermLike;
use tap_reactor::escape::escaped;
use tap_reactor::system::{Stream, Transcript, has_room, terminal_size};

/// Columns of a line where the terminal does not say how many it has.
const WIDTH: u16 = 80;

/// Prints a line on standard error. If it can't be written, it is left out.
pub fn eprint(words: impl Display) {
    let words = escaped(&words.to_string());
    Transcript::default().print(format!("{words}\n").as_bytes());
}

/// The writer through which a report goes to standard output.
pub type Out = BufWriter<Stream<File>>;

/// Prints on standard output what `write` writes. A reader who has gone wanted no more, and that is no error.
///
/// # Errors
/// When it can't be written, or a signal arrives while no reader takes it.
pub fn print(write: impl FnOnce(&mut Out) -> io::Result<()>) -> io::Result<()> {
    print_on(io::stdout(), write)
}

/// Prints on `stream`, standard output or standard error, as [`print`] does.
///
/// # Errors
/// As [`print`].
pub fn print_on(
    stream: impl AsFd,
    write: impl FnOnce(&mut Out) -> io::Result<()>,
) -> io::Result<()> {
    // Not by the standard library's own handle, which would write when it likes to.
    let file = File::from(stream.as_fd().try_clone_to_owned()?);
    let mut out = BufWriter::new(Stream::new(file, None));
    let written = write(&mut out).and_then(|()| out.flush());
    // What is left in there is not to be tried once more.
    let _ = out.into_parts();
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Standard error as a terminal on which a line changes. It is drawn where there is room for it, and else not.
#[derive(Debug)]
pub struct Terminal;

impl Terminal {
    fn draw(text: &str) -> io::Result<()> {
        if let Ok(true) = has_room(io::stderr().as_fd(), Duration::ZERO) {
            let _ = io::stderr().write_all(text.as_bytes());
        }
        Ok(())
    }

    fn move_cursor(n: usize, direction: char) -> io::Result<()> {
        match n {
            0 => Ok(()),
            n => Terminal::draw(&format!("\x1b[{n}{direction}")),
        }
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        terminal_size(io::stderr().as_fd()).map_or(WIDTH, |(width, _)| width)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        Terminal::move_cursor(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        Terminal::move_cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        Terminal::move_cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        Terminal::move_cursor(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        Terminal::draw(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        Terminal::draw(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        Terminal::draw("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
