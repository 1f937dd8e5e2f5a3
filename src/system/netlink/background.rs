//! Requests to the kernel that it carries out while the caller goes on (`io_uring(7)`).
//!
//! A request to rtnetlink is carried out within the system call that sends it. Sent with `IOSQE_ASYNC`, that is the call of
//! a worker thread of the kernel's, which the process's first such request starts, and which ends by itself.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{IoUring, opcode, squeue, types};
use netlink_packet_core::{NLM_F_ACK, NLMSG_ERROR};
use nix::errno::Errno;
use nix::libc;

use super::{Netlink, Refusal, Request, acknowledgement};
use crate::system::SystemError;

/// Requests under way at a time. Each takes a worker of the kernel's, and all of them wait for one lock.
const MAX_UNDER_WAY: usize = 16;
/// `IORING_ENTER_GETEVENTS` of `linux/io_uring.h`.
const WAIT_FOR_EVENTS: u32 = 1;

/// A connection to the kernel's routing layer whose requests are carried out in the background. The descriptor is readable when
/// one of them has ended.
pub(in crate::system) struct Background {
    ring: IoUring,
    netlink: Netlink,
    /// The oldest first.
    under_way: VecDeque<UnderWay>,
    /// A request that the ring could not submit: it takes none any more.
    stuck: Option<UnderWay>,
}

/// A request under way.
struct UnderWay {
    sequence: u32,
    /// What the kernel reads: it stays where it is until the request has left the ring.
    _datagram: Vec<u8>,
    outcome: Option<Result<(), Refusal>>,
    has_left_ring: bool,
}

impl Background {
    /// Connects to the kernel in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there is no descriptor left, or the kernel has no io_uring for this process, as in many containers.
    pub(in crate::system) fn open() -> Result<Background, SystemError> {
        let ring = IoUring::new(MAX_UNDER_WAY as u32)
            .map_err(|error| SystemError::io("set up io_uring", &error))?;
        Ok(Background {
            ring,
            netlink: Netlink::open()?,
            under_way: VecDeque::with_capacity(MAX_UNDER_WAY),
            stuck: None,
        })
    }

    /// Begins a request, and returns its number. `None` if it can't be begun: nothing comes of it then.
    pub(in crate::system) fn begin(&mut self, request: Request) -> Option<u32> {
        if self.stuck.is_some() || self.under_way.len() >= MAX_UNDER_WAY {
            return None;
        }
        let datagram = self.netlink.datagram(vec![request], NLM_F_ACK);
        let sequence = self.netlink.sequence;
        let socket = types::Fd(self.netlink.socket.as_raw_fd());
        let entry = opcode::Send::new(socket, datagram.as_ptr(), datagram.len() as u32)
            .build()
            .flags(squeue::Flags::ASYNC)
            .user_data(sequence.into());
        self.under_way.push_back(UnderWay {
            sequence,
            _datagram: datagram,
            outcome: None,
            has_left_ring: false,
        });
        // SAFETY: the datagram, on the heap, stays until the request has left the ring, and the socket as long as the ring.
        #[allow(unsafe_code)]
        let queued = unsafe { self.ring.submission().push(&entry) };
        if queued.is_err() {
            self.under_way.pop_back();
            return None;
        }
        loop {
            match self.ring.submit() {
                Ok(_) => return Some(sequence),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.stuck = self.under_way.pop_back();
                    return None;
                }
            }
        }
    }

    /// Returns the requests that have ended since the last call, with what came of them. With `waits` all those under way are
    /// waited for: the kernel always ends them.
    pub(in crate::system) fn ended(&mut self, waits: bool) -> Vec<(u32, Result<(), Refusal>)> {
        self.take_completions();
        while waits && self.is_any_in_ring() {
            // SAFETY: without an argument there is none to be sound.
            #[allow(unsafe_code)]
            let waited = unsafe {
                self.ring
                    .submitter()
                    .enter::<libc::sigset_t>(0, 1, WAIT_FOR_EVENTS, None)
            };
            match waited {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => break,
                _ => self.take_completions(),
            }
        }
        let mut ended = Vec::new();
        let has_left = |request: &UnderWay| request.has_left_ring;
        while let Some(place) = self.under_way.iter().position(has_left) {
            let mut outcome = Ok(());
            while outcome.is_ok()
                && let Some(UnderWay { outcome: None, .. }) = self.under_way.get(place)
            {
                // It was answered before it left the ring: this waits for nothing.
                outcome = self.take_answers();
            }
            if let Some(request) = self.under_way.remove(place) {
                ended.push((request.sequence, request.outcome.unwrap_or(outcome)));
            }
        }
        ended
    }

    fn is_any_in_ring(&self) -> bool {
        let mut requests = self.under_way.iter();
        requests.any(|request| !request.has_left_ring)
    }

    fn take_completions(&mut self) {
        for completion in self.ring.completion() {
            let mut requests = self.under_way.iter_mut();
            let of =
                |request: &&mut UnderWay| completion.user_data() == u64::from(request.sequence);
            if let Some(request) = requests.find(of) {
                request.has_left_ring = true;
                if completion.result() < 0 {
                    // It has not got to the kernel's routing layer, which answers nothing then.
                    let errno = Errno::from_raw(completion.result().saturating_neg());
                    request.outcome = Some(Err(errno.into()));
                }
            }
        }
    }

    /// Reads a datagram of answers.
    fn take_answers(&mut self) -> Result<(), Refusal> {
        let Some(first) = self.under_way.front().map(|request| request.sequence) else {
            return Ok(());
        };
        let under_way = &mut self.under_way;
        self.netlink.receive(first, |message| {
            let mut requests = under_way.iter_mut();
            let of = |request: &&mut UnderWay| request.sequence == message.sequence_number();
            if message.message_type() == NLMSG_ERROR
                && let Some(request) = requests.find(of)
            {
                request.outcome = Some(acknowledgement(message));
            }
        })
    }
}

impl Drop for Background {
    /// The kernel may still read what it was sent.
    fn drop(&mut self) {
        self.ended(true);
        // Without an answer to the wait.
        std::mem::forget(std::mem::take(&mut self.under_way));
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let under_way: Vec<u32> = self.under_way.iter().map(|one| one.sequence).collect();
        f.debug_struct("Background")
            .field("under_way", &under_way)
            .finish_non_exhaustive()
    }
}

impl AsRawFd for Background {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}
