//! Fragments put together (RFC 791 section 3.2, RFC 815, RFC 8200 section 4.5).
//!
//! As Linux does (`net/ipv4/ip_fragment.c`): a fragment that overlaps another ends the whole datagram (RFC 5722), but one
//! that repeats what is there already is only ignored; so does one that disagrees about the datagram's length. Memory is
//! bounded by the number of datagrams and by bytes (`ipfrag_high_thresh`); unlike there, it is the oldest datagram that
//! goes when there is no room, so that whoever fills the table can't keep others out.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::time::Instant;
use crate::vm::Ignored;

/// Datagrams of which a VM holds fragments at once.
pub const MAX_REASSEMBLIES: usize = 256;
/// Bytes of fragments that a VM holds at once.
pub const MAX_REASSEMBLY_BYTES: usize = 4 << 20;

/// The largest payload that fragments can make.
const MAX_PAYLOAD: usize = 65_535;
/// Offsets are multiples of this.
const BLOCK: usize = 8;
/// Room for headers before the payload, so that a whole datagram lies in one piece: the longest of IPv4, and of IPv6 those of
/// nearly every packet. Longer ones make room for themselves.
const HEADROOM: usize = 80;
/// Blocks of the largest payload, as bits.
const WORDS: usize = MAX_PAYLOAD.div_ceil(BLOCK * 64);

/// The fields that the fragments of one datagram have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::vm) struct FragmentKey {
    pub(in crate::vm) source: IpAddr,
    pub(in crate::vm) destination: IpAddr,
    pub(in crate::vm) protocol: u8,
    pub(in crate::vm) identification: u32,
}

/// One fragment.
#[derive(Clone, Copy, Debug)]
pub(in crate::vm) struct Fragment<'a> {
    pub(in crate::vm) key: FragmentKey,
    /// Where it belongs in the payload of the whole, in bytes.
    pub(in crate::vm) offset: usize,
    /// Others follow it.
    pub(in crate::vm) has_more: bool,
    /// The bytes before the payload in the frame.
    pub(in crate::vm) headers: &'a [u8],
    /// Its part of the payload.
    pub(in crate::vm) payload: &'a [u8],
}

/// A datagram of which fragments have come, or all.
#[derive(Debug)]
pub(in crate::vm) struct Datagram {
    key: FragmentKey,
    expires_at: Instant,
    /// Room, in which the headers come to lie right before the payload, and that, as far as it has come, with gaps.
    frame: Vec<u8>,
    /// Where the payload starts in it.
    room: usize,
    /// Bytes of the headers of the fragment at offset 0; 0 until it has come.
    headers: usize,
    /// The length of the payload, once the last fragment has come.
    length: Option<usize>,
    /// One bit for each block that has come.
    blocks: Box<[u64; WORDS]>,
    present: usize,
}

impl Datagram {
    fn new(key: FragmentKey, expires_at: Instant) -> Datagram {
        Datagram {
            key,
            expires_at,
            frame: vec![0; HEADROOM],
            room: HEADROOM,
            headers: 0,
            length: None,
            blocks: Box::new([0; WORDS]),
            present: 0,
        }
    }

    fn reuse(&mut self, key: FragmentKey, expires_at: Instant) {
        (self.key, self.expires_at) = (key, expires_at);
        self.frame.resize(HEADROOM, 0);
        (self.room, self.headers) = (HEADROOM, 0);
        self.length = None;
        self.blocks.fill(0);
        self.present = 0;
    }

    /// Its sender.
    pub(in crate::vm) const fn source(&self) -> IpAddr {
        self.key.source
    }

    /// The headers of the fragment at offset 0; empty until it has come.
    pub(in crate::vm) fn headers(&self) -> &[u8] {
        let headers = self.room - self.headers..self.room;
        self.frame.get(headers).unwrap_or_default()
    }

    /// The payload, as far as it has come, with gaps.
    pub(in crate::vm) fn payload(&self) -> &[u8] {
        self.frame.get(self.room..).unwrap_or_default()
    }

    /// Headers and payload, where they start in the memory that they lie in, and the length of the headers.
    pub(in crate::vm) fn frame(&mut self) -> (&mut Vec<u8>, usize, usize) {
        (&mut self.frame, self.room - self.headers, self.headers)
    }

    fn held(&self) -> usize {
        size_of::<Datagram>() + size_of_val(&*self.blocks) + self.frame.capacity()
    }

    /// Adds a fragment. Returns whether the datagram is whole, or why it can't become so.
    fn add(&mut self, fragment: &Fragment<'_>) -> Result<bool, Ignored> {
        let end = fragment.offset + fragment.payload.len();
        let is_odd = fragment.has_more && !fragment.payload.len().is_multiple_of(BLOCK);
        if fragment.payload.is_empty() || is_odd || end > MAX_PAYLOAD {
            return Err(Ignored::FragmentLength);
        }
        let known_end = self.frame.len() - self.room;
        match (fragment.has_more, self.length) {
            (true, Some(length)) if end > length => return Err(Ignored::FragmentLength),
            (false, Some(length)) if end != length => return Err(Ignored::FragmentLength),
            (false, None) if end < known_end => return Err(Ignored::FragmentLength),
            (false, _) => self.length = Some(end),
            (true, _) => {}
        }
        let blocks = fragment.offset / BLOCK..end.div_ceil(BLOCK);
        let new = self.mark(blocks.clone());
        match new {
            0 => return Ok(false),
            new if new < blocks.len() => return Err(Ignored::FragmentOverlap),
            _ => {}
        }
        self.present += new;
        if end > known_end {
            let more = end.max(2 * known_end).min(MAX_PAYLOAD) - known_end;
            self.frame.reserve(more);
        }
        self.put(fragment.offset, fragment.payload);
        if fragment.offset == 0 {
            self.put_headers(fragment.headers);
        }
        Ok(self
            .length
            .is_some_and(|length| self.present == length.div_ceil(BLOCK)))
    }

    /// Adds a fragment that others follow and that goes on where the payload ends so far, if that takes no memory. False, and
    /// nothing has happened, if it is another one.
    fn join(&mut self, offset: usize, payload: &[u8]) -> bool {
        let known_end = self.frame.len() - self.room;
        let end = known_end + payload.len();
        let is_next = offset == known_end
            && self.length.is_none()
            && !payload.is_empty()
            && payload.len().is_multiple_of(BLOCK)
            && end <= MAX_PAYLOAD
            && payload.len() <= self.frame.capacity() - self.frame.len();
        if is_next {
            self.present += self.mark(offset / BLOCK..end / BLOCK);
            self.frame.extend_from_slice(payload);
        }
        is_next
    }

    /// Puts a part of the payload to where it belongs.
    fn put(&mut self, offset: usize, part: &[u8]) {
        let start = self.room + offset;
        if start == self.frame.len() {
            // The next one, as nearly always.
            return self.frame.extend_from_slice(part);
        }
        let end = start + part.len();
        self.frame.resize(end.max(self.frame.len()), 0);
        if let Some(space) = self.frame.get_mut(start..end) {
            space.copy_from_slice(part);
        }
    }

    /// Puts the headers before the payload.
    fn put_headers(&mut self, headers: &[u8]) {
        let missing = headers.len().saturating_sub(self.room);
        if missing > 0 {
            drop(self.frame.splice(..0, std::iter::repeat_n(0, missing)));
        }
        (self.room, self.headers) = (self.room + missing, headers.len());
        let space = self.room - headers.len()..self.room;
        if let Some(space) = self.frame.get_mut(space) {
            space.copy_from_slice(headers);
        }
    }

    /// Notes that these blocks have come. Returns how many of them are new.
    fn mark(&mut self, blocks: std::ops::Range<usize>) -> usize {
        let mut new = 0;
        let mut next = blocks.start;
        while next < blocks.end {
            let (index, first) = (next / 64, next % 64);
            let count = (64 - first).min(blocks.end - next);
            let mask = (u64::MAX >> (64 - count)) << first;
            if let Some(word) = self.blocks.get_mut(index) {
                new += (mask & !*word).count_ones() as usize;
                *word |= mask;
            }
            next += count;
        }
        new
    }
}

/// The outcome of a fragment.
#[derive(Debug)]
pub(in crate::vm) enum Taken {
    /// It is the first to come of its datagram, or takes memory, and waits for others.
    Held,
    /// It waits with others, which takes neither time nor memory that they don't.
    Joined,
    /// It waits for others, and the oldest datagram had to go for that.
    HeldInsteadOfOldest,
    /// It was the last to come.
    Whole(Datagram),
}

/// The fragments that one VM holds, in the order in which their datagrams began to come.
#[derive(Debug)]
pub(in crate::vm) struct Reassembly {
    timeout: Duration,
    datagrams: VecDeque<Datagram>,
    held: usize,
    /// Memory for the next datagram.
    spare: Option<Datagram>,
}

impl Reassembly {
    /// A table that gives a datagram `timeout` from its first fragment on.
    pub(in crate::vm) const fn new(timeout: Duration) -> Reassembly {
        Reassembly {
            timeout,
            datagrams: VecDeque::new(),
            held: 0,
            spare: None,
        }
    }

    /// Takes a fragment.
    ///
    /// # Errors
    /// When it can't be part of a datagram; what has come of its datagram is dropped as well.
    pub(in crate::vm) fn take(
        &mut self,
        now: Instant,
        fragment: &Fragment<'_>,
    ) -> Result<Taken, Ignored> {
        let known = self.datagrams.iter().position(|d| d.key == fragment.key);
        let index = known.unwrap_or(self.datagrams.len());
        if known.is_none() {
            let datagram = self.fresh(fragment.key, now + self.timeout);
            self.datagrams.push_back(datagram);
        }
        let Some(datagram) = self.datagrams.get_mut(index) else {
            return Ok(Taken::Held);
        };
        let before = if known.is_some() { datagram.held() } else { 0 };
        let added = datagram.add(fragment);
        let after = datagram.held();
        self.held = self.held + after - before;
        match added {
            Ok(false) if after == before => return Ok(Taken::Joined),
            Ok(false) => {}
            Ok(true) => {
                let whole = self.remove(index);
                return Ok(whole.map_or(Taken::Held, Taken::Whole));
            }
            Err(ignored) => {
                let failed = self.remove(index);
                self.spare = failed;
                return Err(ignored);
            }
        }
        if self.datagrams.len() > MAX_REASSEMBLIES || self.held > MAX_REASSEMBLY_BYTES {
            self.spare = self.remove(0);
            return Ok(Taken::HeldInsteadOfOldest);
        }
        Ok(Taken::Held)
    }

    /// Takes a fragment of `key` that others follow, if it goes on where the datagram that began to come last ends so far, which
    /// depends on no time and takes no memory. False, and nothing has happened, if it is another one.
    pub(in crate::vm) fn join(&mut self, key: &FragmentKey, offset: usize, payload: &[u8]) -> bool {
        let last = self.datagrams.back_mut();
        last.is_some_and(|last| last.key == *key && last.join(offset, payload))
    }

    /// Takes the memory of a datagram back.
    pub(in crate::vm) fn recycle(&mut self, datagram: Datagram) {
        self.spare = Some(datagram);
    }

    /// Bytes held.
    pub(in crate::vm) fn held(&self) -> usize {
        self.held + self.spare.as_ref().map_or(0, Datagram::held)
    }

    /// Drops everything. Returns how many datagrams that were.
    pub(in crate::vm) fn clear(&mut self) -> usize {
        let dropped = self.datagrams.len();
        *self = Reassembly::new(self.timeout);
        dropped
    }

    /// When the oldest datagram has waited long enough.
    pub(in crate::vm) fn deadline(&self) -> Option<Instant> {
        self.datagrams.front().map(|datagram| datagram.expires_at)
    }

    /// Takes out the oldest datagram if it has waited long enough at `now`.
    pub(in crate::vm) fn expire(&mut self, now: Instant) -> Option<Datagram> {
        let is_overdue = self.deadline().is_some_and(|at| at <= now);
        is_overdue.then(|| self.remove(0)).flatten()
    }

    fn fresh(&mut self, key: FragmentKey, expires_at: Instant) -> Datagram {
        match self.spare.take() {
            Some(mut datagram) => {
                datagram.reuse(key, expires_at);
                datagram
            }
            None => Datagram::new(key, expires_at),
        }
    }

    fn remove(&mut self, index: usize) -> Option<Datagram> {
        let datagram = self.datagrams.remove(index)?;
        self.held -= datagram.held();
        Some(datagram)
    }
}

#[cfg(test)]
mod tests;
