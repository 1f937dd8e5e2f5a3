//! The file of a capture: its interfaces, what it lost, and where it ends.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::pcapng::{self, PACKET_OVERHEAD, Packet};
use super::words::push;
use super::{CAPTURE, CaptureConfig, Section};
use crate::fabric::Direction;
use crate::fabric::output::{Output, Sink};
use crate::time::{Instant, Span};
use crate::vm::VmId;

/// Bytes of the statistics of an interface.
const STATISTICS_LENGTH: u64 = 80;

/// Bytes of the description of an interface without addresses at most.
const MAX_DESCRIPTION: usize = 128;
/// Bytes that an address takes at most, in a description and as a name.
const MAX_ADDRESS: usize = 128;

/// Changes of the lab that wait for a frame that tells of them, the last of them.
const MAX_NEWS: usize = 32;

/// A VM's network interface, as the file describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// The name of the port, such as `tap7`.
    pub name: String,
    /// The addresses of the VM.
    pub addresses: Vec<IpAddr>,
}

/// An interface and its counts.
#[derive(Debug)]
struct Port {
    interface: Interface,
    /// Its number in the present file, if it was described there.
    number: Option<u32>,
    /// Frames shown since the file began.
    seen: u64,
    /// Those of them that were lost to the capture.
    dropped: u64,
    /// Those of them that no later frame of the file has told of.
    untold: u64,
}

/// A frame to write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) at: Instant,
    pub(super) vm: VmId,
    pub(super) direction: Direction,
    pub(super) bytes: &'a [u8],
    pub(super) length: u32,
    pub(super) comment: &'a [u8],
}

/// Writes frames to an [`Output`].
#[derive(Debug)]
pub(super) struct File {
    output: Output,
    section: Section,
    snap: u32,
    /// Bytes of a file, and number of files, at most.
    limit: Option<(u64, u32)>,
    /// By [`VmId`].
    ports: Vec<Option<Port>>,
    /// Interfaces described in the present file.
    described: Vec<VmId>,
    /// Bytes of the present file.
    length: u64,
    /// Files begun.
    files: u64,
    /// The first and the last frame of the present file.
    span: Option<(Instant, Instant)>,
    /// It has reached its limit.
    is_full: bool,
    /// Frames lost for want of room, or after the limit.
    dropped: u64,
    /// Changes of the lab that no frame has told of yet, each with its time, in the order of these.
    news: VecDeque<(Instant, String)>,
}

impl File {
    pub(super) fn new(config: &CaptureConfig, section: Section, sink: Box<dyn Sink>) -> File {
        let mut file = File {
            output: Output::new(&CAPTURE, config.file.clone(), sink),
            section,
            snap: config.snap.unwrap_or(0),
            limit: config.limit.map(|limit| (limit.bytes, limit.files)),
            ports: Vec::new(),
            described: Vec::new(),
            length: 0,
            files: 0,
            span: None,
            is_full: false,
            dropped: 0,
            news: VecDeque::new(),
        };
        file.begin();
        file
    }

    pub(super) fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Frames lost so far, those of them included that did not come to a sink that failed.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) const fn is_full(&self) -> bool {
        self.is_full
    }

    pub(super) const fn files(&self) -> u64 {
        self.files
    }

    /// Returns true if the frames of `vm` are captured.
    #[inline]
    pub(super) fn has(&self, vm: VmId) -> bool {
        matches!(self.ports.get(vm.index()), Some(Some(_)))
    }

    /// Adds the interface of `vm`.
    pub(super) fn add(&mut self, vm: VmId, interface: Interface) {
        if self.ports.len() <= vm.index() {
            self.ports.resize_with(vm.index() + 1, || None);
        }
        if let Some(port) = self.ports.get_mut(vm.index()) {
            *port = Some(Port {
                interface,
                number: None,
                seen: 0,
                dropped: 0,
                untold: 0,
            });
        }
    }

    /// Gives `vm` another address from now on.
    pub(super) fn add_address(&mut self, vm: VmId, address: IpAddr) {
        let Some(Some(port)) = self.ports.get_mut(vm.index()) else {
            return;
        };
        if port.interface.addresses.contains(&address) {
            return;
        }
        port.interface.addresses.push(address);
        if port.number.is_some() {
            self.append(|out| pcapng::name(out, address, &vm.to_string()));
        }
    }

    /// Tells of a change of the lab at `now` in the comment of the first frame that is written of those after it.
    pub(super) fn tell(&mut self, now: Instant, news: &str) {
        // A phase that begins behind its schedule is told after what came later.
        let place = self.news.partition_point(|(at, _)| *at <= now);
        self.news.insert(place, (now, news.to_owned()));
        if self.news.len() > MAX_NEWS {
            self.news.pop_front();
        }
    }

    /// Writes a frame, or counts it as lost where there is no room for it.
    #[inline]
    pub(super) fn write(&mut self, frame: &Frame<'_>) {
        let is_new = |(at, _): &(Instant, String)| *at <= frame.at;
        match self.news.front().is_some_and(is_new) {
            true => self.write_with_news(frame),
            false => self.write_frame(frame),
        }
    }

    /// Writes a frame with the changes of the lab before it.
    #[cold]
    fn write_with_news(&mut self, frame: &Frame<'_>) {
        let mut comment = Vec::new();
        let is_new = |(at, _): &(Instant, String)| *at <= frame.at;
        let until = self.news.partition_point(is_new);
        for (at, news) in self.news.drain(..until) {
            let before = Span::from(frame.at - at);
            push(&mut comment, format_args!("{before} before: {news}\n"));
        }
        comment.extend_from_slice(frame.comment);
        self.write_frame(&Frame {
            comment: &comment,
            ..*frame
        });
    }

    #[inline]
    fn write_frame(&mut self, frame: &Frame<'_>) {
        let Some(Some(port)) = self.ports.get_mut(frame.vm.index()) else {
            // A VM that nobody has told of.
            return;
        };
        let description = match port.number {
            Some(_) => 0,
            None => MAX_DESCRIPTION + port.interface.addresses.len() * MAX_ADDRESS,
        };
        let length = PACKET_OVERHEAD + frame.bytes.len() + frame.comment.len() + 8 + description;
        if !self.has_room(length) {
            return self.drop_frame(frame.vm);
        }
        let Some(Some(port)) = self.ports.get_mut(frame.vm.index()) else {
            return;
        };
        // Now, because a file that ends before this frame has not seen it.
        port.seen += 1;
        let dropped = std::mem::take(&mut port.untold);
        let interface = match port.number {
            Some(number) => number,
            None => self.describe(frame.vm),
        };
        let first = self.span.map_or(frame.at, |(first, _)| first);
        self.span = Some((first, frame.at));
        let out = self.output.append(1);
        let before = out.len();
        pcapng::packet(
            out,
            &Packet {
                interface,
                nanos: self.section.epoch.nanos(frame.at),
                direction: frame.direction,
                bytes: frame.bytes,
                length: frame.length,
                dropped,
                comment: frame.comment,
            },
        );
        self.length += (out.len() - before) as u64;
    }

    /// Returns true if frames that are kept should stay so for now: the file is to take those before them first.
    #[inline]
    pub(super) fn is_behind(&self) -> bool {
        self.output.is_behind()
    }

    /// Returns true if it is a stream whose reader has gone.
    pub(super) const fn is_over(&self) -> bool {
        self.output.is_over()
    }

    /// Writes what ends the file, and closes it.
    pub(super) fn close(&mut self) {
        self.end();
        self.output.close();
    }

    /// Returns true if there is room for `length` bytes, in the next file of a ring if need be.
    #[inline]
    fn has_room(&mut self, length: usize) -> bool {
        if self.is_full || !self.output.has_room(length) {
            return false;
        }
        let Some((bytes, files)) = self.limit else {
            return true;
        };
        let tail = (self.described.len() as u64 + 1) * STATISTICS_LENGTH;
        if self.length + length as u64 + tail <= bytes {
            return true;
        }
        if files > 1 && self.span.is_some() {
            self.end();
            self.output.break_file();
            self.begin();
            return true;
        }
        self.is_full = true;
        false
    }

    #[cold]
    fn drop_frame(&mut self, vm: VmId) {
        self.dropped += 1;
        if let Some(Some(port)) = self.ports.get_mut(vm.index()) {
            port.seen += 1;
            port.dropped += 1;
            port.untold += 1;
        }
    }

    /// Appends what is no frame.
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.output.has_room(0) {
            return;
        }
        let out = self.output.append(0);
        let before = out.len();
        write(out);
        self.length += (out.len() - before) as u64;
    }

    /// Begins a file.
    fn begin(&mut self) {
        self.files += 1;
        self.length = 0;
        self.span = None;
        for vm in self.described.drain(..) {
            if let Some(Some(port)) = self.ports.get_mut(vm.index()) {
                port.number = None;
            }
        }
        let section = std::mem::take(&mut self.section);
        self.append(|out| {
            pcapng::section(out, &section.application, &section.system, &section.comment);
        });
        self.section = section;
    }

    /// Describes the interface of `vm`, and names its addresses. Returns its number.
    #[cold]
    fn describe(&mut self, vm: VmId) -> u32 {
        let number = self.described.len() as u32;
        self.described.push(vm);
        let Some(Some(port)) = self.ports.get_mut(vm.index()) else {
            return number;
        };
        port.number = Some(number);
        let interface = port.interface.clone();
        let (name, snap) = (vm.to_string(), self.snap);
        let addresses = interface.addresses.iter().map(IpAddr::to_string);
        let description = [name.clone()].into_iter().chain(addresses);
        let description = description.collect::<Vec<_>>().join(" ");
        self.append(|out| {
            pcapng::interface(out, &interface.name, &description, snap);
            for address in &interface.addresses {
                pcapng::name(out, *address, &name);
            }
        });
        number
    }

    /// Writes the counts of each interface.
    fn end(&mut self) {
        let (first, last) = self.span.unwrap_or_default();
        let (start, end) = (
            self.section.epoch.nanos(first),
            self.section.epoch.nanos(last),
        );
        for number in 0..self.described.len() {
            let Some(vm) = self.described.get(number).copied() else {
                continue;
            };
            let Some(Some(port)) = self.ports.get_mut(vm.index()) else {
                continue;
            };
            let counts = (port.seen, port.dropped);
            (port.seen, port.dropped) = (0, 0);
            self.append(|out| pcapng::statistics(out, number as u32, (start, end), counts));
        }
    }
}
