//! Bytes on their way from an instrument to a file or a pipe, in a buffer with a bound.
//!
//! An instrument appends whole records and never waits for a reader: where there is no room, the record is lost and counted.
//! The driver hands the buffer to the sink between two turns, so that no write delays a frame that is on its way; only to a
//! file is it written at once when it is full, because nothing should be missing there.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use super::{InstrumentKind, Recording};
use crate::time::Instant;

/// Bytes of a buffer that are handed to a sink in one piece.
const CHUNK: usize = 1 << 20;
/// The time after which less than that is handed over.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same where a reader waits for it.
const LIVE_CHUNK: usize = 1 << 16;
const LIVE_INTERVAL: Duration = Duration::from_millis(10);
/// Bytes that wait for a sink at most.
const MAX_WAITING: usize = 8 << 20;

/// Takes what an instrument writes. [`crate::system`] has sinks for files and pipes.
pub trait Sink: fmt::Debug {
    /// Takes some of `bytes`, and returns how many: fewer than all if the reader has no room for more now. A file takes
    /// all of them. That of a stream fails without any bytes, too, if its reader has gone.
    ///
    /// # Errors
    /// If nothing can be written any more: the disk is full, the reader is gone. A file then ends where it ended before.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Ends the present file, and begins the next one of a ring.
    ///
    /// # Errors
    /// If the next file can't be created, or it is no ring.
    fn next_file(&mut self) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Takes all of `bytes` at the end of a run, and waits for the reader if it has to.
    ///
    /// # Errors
    /// As [`Sink::write`], or if a reader does not take them.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes).map(drop)
    }

    /// Returns true if a run waits until [`Sink::write`] has taken all, so that nothing is ever lost for want of room. A file
    /// is waited for, and not read live.
    fn is_waited_for(&self) -> bool {
        true
    }

    /// Returns true if a reader waits for what is written, so that it should not be kept until there is a chunk of it.
    fn is_read_live(&self) -> bool {
        false
    }
}

/// The form of what is written, by which records are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Blocks of pcapng; a frame is a record, anything else is not.
    Pcapng,
    /// Lines, each of them a record.
    Lines,
    /// Nothing is written: its figures are part of the report.
    Nothing,
}

impl Form {
    /// The length of the first unit of `bytes`, and 1 if it is a record. `None` if there is no whole unit.
    fn first(self, bytes: &[u8]) -> Option<(usize, u64)> {
        match self {
            Form::Pcapng => {
                let (kind, rest) = bytes.split_first_chunk()?;
                let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
                let is_frame = u32::from_le_bytes(*kind) == super::capture::ENHANCED_PACKET;
                (12..=bytes.len())
                    .contains(&length)
                    .then_some((length, u64::from(is_frame)))
            }
            Form::Lines => {
                let end = bytes.iter().position(|&byte| byte == b'\n')?;
                Some((end + 1, 1))
            }
            Form::Nothing => None,
        }
    }
}

/// A bounded buffer before a [`Sink`].
#[derive(Debug)]
pub struct Output {
    kind: &'static InstrumentKind,
    /// The name of the file.
    file: String,
    sink: Box<dyn Sink>,
    /// It begins with a whole unit.
    bytes: Vec<u8>,
    /// Bytes at its start that the sink has taken.
    taken: usize,
    /// The positions at which another file begins.
    breaks: VecDeque<usize>,
    /// A reader waits for what the sink takes.
    is_read_live: bool,
    /// The sink is written to where the buffer has no more room.
    is_waited_for: bool,
    /// The run has ended: the sink takes all that is written.
    is_ending: bool,
    /// The time of the last flush.
    flushed_at: Instant,
    /// The sink has no room now.
    is_stuck: bool,
    /// Records that instruments had to write.
    records: u64,
    /// Those of them that did not come to the sink.
    lost: u64,
    /// Bytes that the sink has taken.
    written: u64,
    /// The reason why nothing more can be written.
    failed: Option<io::Error>,
}

impl Output {
    /// Creates an empty buffer of an instrument of that kind before `sink`, which is named `file`.
    pub fn new(kind: &'static InstrumentKind, file: String, sink: Box<dyn Sink>) -> Output {
        Output {
            kind,
            file,
            is_read_live: sink.is_read_live(),
            is_waited_for: sink.is_waited_for(),
            is_ending: false,
            sink,
            flushed_at: Instant::ZERO,
            bytes: Vec::new(),
            taken: 0,
            breaks: VecDeque::new(),
            is_stuck: false,
            records: 0,
            lost: 0,
            written: 0,
            failed: None,
        }
    }

    /// Returns true if `length` bytes more find room, which is made now if the run waits for the sink.
    #[inline]
    pub fn has_room(&mut self, length: usize) -> bool {
        if self.failed.is_none() && self.waiting() + length > MAX_WAITING && self.is_waited_for {
            self.flush();
        }
        self.failed.is_none() && self.waiting() + length <= MAX_WAITING
    }

    /// Returns true if reports tell of what is written: not of a stream, which has no name.
    pub const fn is_named(&self) -> bool {
        !self.file.is_empty()
    }

    /// Returns true if nothing can be written any more, and no report is to tell of it.
    pub const fn is_over(&self) -> bool {
        !self.is_named() && self.failed.is_some()
    }

    /// Returns true if what can wait elsewhere should: the sink is to take a piece first.
    #[inline]
    pub fn is_behind(&self) -> bool {
        self.waiting() >= CHUNK && !self.is_ending && self.failed.is_none()
    }

    /// Nothing follows but what instruments still hold, and all of it is to come to the sink.
    pub fn end(&mut self) {
        self.is_ending = true;
        self.is_waited_for = true;
        self.is_stuck = false;
    }

    /// Bytes that the sink has not taken.
    #[inline]
    fn waiting(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Returns the buffer, to append whole units to, `records` records among them.
    #[inline]
    pub fn append(&mut self, records: u64) -> &mut Vec<u8> {
        self.records += records;
        &mut self.bytes
    }

    /// Returns the buffer, to append one record of up to `length` bytes to. `None` where there is no room for it: it is lost.
    #[inline]
    pub fn record(&mut self, length: usize) -> Option<&mut Vec<u8>> {
        self.records += 1;
        if self.has_room(length) {
            return Some(&mut self.bytes);
        }
        self.lost += 1;
        None
    }

    /// What is appended from now on belongs to the next file.
    pub fn break_file(&mut self) {
        self.breaks.push_back(self.bytes.len());
    }

    /// What was written so far.
    pub fn recording(&self) -> Recording {
        let failed = self.failed.as_ref();
        Recording {
            kind: self.kind,
            file: self.file.clone(),
            records: self.records - self.lost,
            dropped: self.lost,
            unknown: 0,
            missed: 0,
            files: 1,
            bytes: self.written,
            // A reader who has gone wanted no more.
            has_failed: failed.is_some_and(|error| error.kind() != ErrorKind::BrokenPipe),
            ended: failed.map(|error| match error.kind() {
                ErrorKind::BrokenPipe => "its reader has gone".to_owned(),
                ErrorKind::TimedOut => "its reader did not read to the end".to_owned(),
                _ => error.to_string(),
            }),
        }
    }

    /// Tells that a sink without room may have some again, or that the reader of a stream has gone.
    pub fn resume(&mut self) {
        self.is_stuck = false;
        // Only a write tells of that, and there may be nothing to write for long.
        if !self.is_named() && self.failed.is_none() {
            let asked = self.sink.write(&[]);
            self.note(asked);
        }
    }

    /// Hands the sink what it takes now, if it is time to: there is a chunk, or somebody waits for what there is. Returns
    /// true if it was.
    #[inline]
    pub fn flush_if_due(&mut self, now: Instant, is_idle: bool) -> bool {
        let waiting = self.waiting();
        if waiting == 0 || self.is_stuck {
            return false;
        }
        let (chunk, interval) = match self.is_read_live {
            true => (LIVE_CHUNK, LIVE_INTERVAL),
            false => (CHUNK, INTERVAL),
        };
        let is_due =
            waiting >= chunk || now >= self.flushed_at + interval || (is_idle && self.is_read_live);
        if is_due {
            self.flushed_at = now;
            self.flush();
        }
        is_due
    }

    /// Hands the sink what it takes now.
    fn flush(&mut self) {
        while self.failed.is_none() && !self.is_stuck {
            if self.breaks.front() == Some(&self.taken) {
                self.breaks.pop_front();
                let begun = self.sink.next_file();
                self.note(begun.map(|()| 0));
                continue;
            }
            if self.taken == self.bytes.len() {
                break;
            }
            let end = self.breaks.front().copied().unwrap_or(self.bytes.len());
            let bytes = self.bytes.get(self.taken..end).unwrap_or_default();
            let written = match self.is_ending {
                true => self.sink.write_all(bytes).map(|()| bytes.len()),
                false => self.sink.write(bytes),
            };
            self.is_stuck = matches!(written, Ok(taken) if taken < bytes.len());
            self.note(written);
        }
        self.compact();
    }

    /// Writes the rest.
    pub fn close(&mut self) {
        self.end();
        self.flush();
    }

    /// Notes the outcome of a write.
    fn note(&mut self, outcome: io::Result<usize>) {
        match outcome {
            Ok(taken) => {
                self.taken += taken;
                self.written += taken as u64;
            }
            Err(error) => {
                self.failed = Some(error);
                self.lose();
            }
        }
    }

    /// Counts the records that the sink did not take as lost, and drops them.
    fn lose(&mut self) {
        let (mut at, mut lost) = (0, 0);
        while let Some((length, is_record)) = self
            .kind
            .form
            .first(self.bytes.get(at..).unwrap_or_default())
        {
            at += length;
            if at > self.taken {
                lost += is_record;
            }
        }
        self.lost += lost;
        self.bytes.clear();
        self.breaks.clear();
        self.taken = 0;
    }

    /// Drops the units that were taken as a whole.
    fn compact(&mut self) {
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
            return;
        }
        if self.taken < CHUNK {
            return;
        }
        let mut whole = 0;
        while let Some((length, _)) = self
            .kind
            .form
            .first(self.bytes.get(whole..).unwrap_or_default())
            && whole + length <= self.taken
        {
            whole += length;
        }
        self.bytes.drain(..whole);
        self.taken -= whole;
        self.breaks.iter_mut().for_each(|at| *at -= whole);
    }
}

/// A sink for tests: memory, with room for so many bytes.
#[cfg(test)]
pub(super) mod cup {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// What a [`Cup`] has taken, and how it takes more.
    #[derive(Debug)]
    pub(in crate::fabric) struct Taken {
        pub(in crate::fabric) files: Vec<Vec<u8>>,
        /// Bytes that it takes before its reader is slow.
        pub(in crate::fabric) room: usize,
        /// Its reader is gone when there is no room.
        pub(in crate::fabric) is_gone: bool,
        pub(in crate::fabric) is_read_live: bool,
        pub(in crate::fabric) is_waited_for: bool,
    }

    #[derive(Clone, Debug)]
    pub(in crate::fabric) struct Cup(pub(in crate::fabric) Rc<RefCell<Taken>>);

    impl Cup {
        pub(in crate::fabric) fn new(room: usize) -> Cup {
            Cup(Rc::new(RefCell::new(Taken {
                files: vec![Vec::new()],
                room,
                is_gone: false,
                is_read_live: true,
                is_waited_for: false,
            })))
        }
    }

    impl Sink for Cup {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut cup = self.0.borrow_mut();
            if cup.is_gone && cup.room < bytes.len().max(1) {
                return Err(ErrorKind::BrokenPipe.into());
            }
            let taken = bytes.len().min(cup.room);
            cup.room -= taken;
            if let Some(file) = cup.files.last_mut() {
                file.extend(bytes.iter().take(taken));
            }
            Ok(taken)
        }

        fn next_file(&mut self) -> io::Result<()> {
            self.0.borrow_mut().files.push(Vec::new());
            Ok(())
        }

        fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
            match self.write(bytes)? {
                taken if taken < bytes.len() => Err(ErrorKind::TimedOut.into()),
                _ => Ok(()),
            }
        }

        fn is_read_live(&self) -> bool {
            self.0.borrow().is_read_live
        }

        fn is_waited_for(&self) -> bool {
            self.0.borrow().is_waited_for
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event_log::TRACE;
    use super::cup::Cup;
    use super::*;

    fn output(cup: Cup) -> Output {
        Output::new(&TRACE, "events.jsonl".to_owned(), Box::new(cup))
    }

    fn lines(output: &mut Output, numbers: std::ops::Range<u32>) {
        for number in numbers {
            output
                .append(1)
                .extend(format!("line {number:08}\n").bytes());
        }
    }

    /// Bytes of a line.
    const LINE: usize = 14;

    #[test]
    fn a_slow_reader_gets_all_of_it_by_and_by() {
        let cup = Cup::new(20);
        let mut output = output(cup.clone());
        lines(&mut output, 0..10);
        output.flush();
        // Without room it is not asked again, until it is said to have some.
        assert!(!output.flush_if_due(Instant::from_nanos(1 << 40), true));
        output.resume();
        cup.0.borrow_mut().room = usize::MAX;
        assert!(output.flush_if_due(Instant::from_nanos(1 << 40), true));
        lines(&mut output, 10..20);
        output.close();
        assert_eq!(cup.0.borrow().files[0].len(), 20 * LINE);
        assert_eq!((output.records - output.lost, output.lost), (20, 0));
    }

    #[test]
    fn a_stream_without_a_reader_is_over_before_there_is_more_to_write_and_a_file_is_told_of() {
        for (file, is_over) in [("", true), ("events.jsonl", false)] {
            let cup = Cup::new(0);
            let mut output = Output::new(&TRACE, file.to_owned(), Box::new(cup.clone()));
            output.resume();
            assert!(!output.is_over(), "there is a reader");
            cup.0.borrow_mut().is_gone = true;
            output.resume();
            assert_eq!(output.is_over(), is_over, "{file:?}");
        }
    }

    #[test]
    fn the_buffer_has_a_bound() {
        let mut output = output(Cup::new(0));
        let mut taken = 0;
        while output.has_room(LINE) {
            lines(&mut output, taken..taken + 1);
            output.flush();
            taken += 1;
        }
        assert_eq!(taken as usize, MAX_WAITING / LINE);
        assert!(output.record(LINE).is_none());
        let recording = output.recording();
        assert_eq!((recording.records, recording.dropped), (taken.into(), 1));
    }

    #[test]
    fn records_that_a_gone_reader_did_not_take_whole_are_counted_as_lost() {
        let cup = Cup::new(3 * LINE + 5);
        cup.0.borrow_mut().is_gone = false;
        let mut output = output(cup.clone());
        lines(&mut output, 0..10);
        output.flush();
        cup.0.borrow_mut().is_gone = true;
        output.resume();
        output.flush();
        assert!(output.failed.is_some());
        assert_eq!((output.records - output.lost, output.lost), (3, 7));
        assert!(!output.has_room(1));
        output.close();
    }

    #[test]
    fn a_buffer_that_never_runs_empty_does_not_grow() {
        let cup = Cup::new(0);
        let mut output = output(cup.clone());
        lines(&mut output, 0..10);
        for round in 0..100 {
            lines(&mut output, 10 + round * 30_000..10 + (round + 1) * 30_000);
            cup.0.borrow_mut().room = 30_000 * LINE;
            output.resume();
            output.flush();
            assert!(output.bytes.len() < 2 * (CHUNK + 30_000 * LINE));
        }
        cup.0.borrow_mut().room = usize::MAX;
        output.close();
        let written = cup.0.borrow().files[0].clone();
        assert_eq!(written.len(), (10 + 100 * 30_000) * LINE);
        assert!(written.ends_with(b"line 03000009\n"));
    }

    #[test]
    fn files_end_where_they_were_broken() {
        let cup = Cup::new(usize::MAX);
        let mut output = output(cup.clone());
        for file in 0..4 {
            lines(&mut output, file * 10..file * 10 + 3);
            if file < 3 {
                output.break_file();
            }
            if file == 1 {
                output.flush();
            }
        }
        output.close();
        let lengths: Vec<usize> = cup.0.borrow().files.iter().map(Vec::len).collect();
        assert_eq!(lengths, [3 * LINE; 4]);
    }
}
