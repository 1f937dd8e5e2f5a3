//! Lines of a connection: bounded, whatever is sent.

/// Bytes of the longest line, its end included.
pub const LONGEST_LINE: usize = 96 * 1024;

/// The bytes of a connection that are not a whole line yet.
#[derive(Default, Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Bytes at the beginning that were taken.
    taken: usize,
}

/// A line that is too long, or no text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoLine;

impl Lines {
    /// Takes in what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line without its end; `None` if there is no whole one.
    ///
    /// # Errors
    /// If it is longer than `longest` bytes, or no UTF-8.
    pub fn next(&mut self, longest: usize) -> Result<Option<String>, NoLine> {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            return match rest.len() < longest {
                true => Ok(None),
                false => Err(NoLine),
            };
        };
        let line = rest.get(..end).unwrap_or_default();
        if line.len() >= longest {
            return Err(NoLine);
        }
        let line = std::str::from_utf8(line).map_err(|_| NoLine)?.to_owned();
        self.taken += end + 1;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_are_cut() {
        let text = "one\n\ntwo three\nfour";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                lines.push(piece);
                while let Some(line) = lines.next(20).unwrap() {
                    found.push(line);
                }
            }
            assert_eq!(found, ["one", "", "two three"]);
        }
    }

    #[test]
    fn what_is_no_line_ends_it() {
        for text in [&b"12345678"[..], b"12345678\n", b"\xff\n"] {
            let mut lines = Lines::default();
            lines.push(text);
            assert_eq!(lines.next(8), Err(NoLine));
        }
    }
}
