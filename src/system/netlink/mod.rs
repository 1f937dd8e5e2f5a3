//! Requests to the kernel by rtnetlink (`rtnetlink(7)`), synchronous: the kernel answers before `send` returns.
//!
//! Requests are built by `netlink-packet-route`. Replies are read attribute by attribute and only those that are
//! wanted, so that an attribute of somebody else's link, unknown to that library, can't fail a run.

pub(super) mod background;
pub(super) mod bridge;
pub(super) mod link;
pub(super) mod link_requests;
pub(super) mod monitor;
pub(super) mod port;
pub(super) mod requests;

pub use link::{Link, LinkKind};
pub use link_requests::{BridgePlan, LinkChange};
use netlink_packet_core::{
    NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, NetlinkBuffer, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;

use self::requests::Request;
use super::error::SystemError;
use super::kernel_wait::Asking;

/// The kernel never builds a larger datagram than it has seen a receiver ask for, and starts at 8 KiB
/// (`net/netlink/af_netlink.c`, `netlink_dump()`).
const BUFFER_BYTES: usize = 64 * 1024;
const NLMSG_HEADER_BYTES: usize = 16;
/// `NLMSGERR_ATTR_MSG` of `linux/netlink.h`.
const ERROR_TEXT: u16 = 1;
/// How often a dump is begun anew because links came or went meanwhile.
const DUMP_ATTEMPTS: u32 = 16;

/// A connection to the kernel's routing layer, in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// The kernel's refusal of one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    pub(super) errno: Errno,
    /// The kernel's words beside the number.
    pub(super) said: Option<String>,
}

impl Refusal {
    /// Names the operation that was refused.
    pub(super) fn of(self, operation: impl Into<String>) -> SystemError {
        SystemError::kernel(operation, self.errno).detail(self.said)
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Refusal { errno, said: None }
    }
}

impl Netlink {
    /// Connects to the kernel in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there is no descriptor left, or the kernel has no rtnetlink.
    pub fn open() -> Result<Self, SystemError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            // From now on only the kernel (port 0) is heard.
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            Ok(socket)
        };
        let socket = open()
            .map_err(|error: std::io::Error| SystemError::io("open a netlink socket", &error))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Sends `requests` as [`Netlink::exchange`] does.
    ///
    /// # Errors
    /// The first refusal, which is the cause of those that follow.
    pub(super) fn request(
        &mut self,
        requests: Vec<Request>,
        on_reply: impl FnMut(&[u8]),
    ) -> Result<(), Refusal> {
        let mut first = None;
        self.exchange(requests, on_reply, |_, refusal| {
            first.get_or_insert(refusal);
        })?;
        first.map_or(Ok(()), Err)
    }

    /// Asks for all objects that fit `request` and returns what `parse` makes of the payload of each. Asks again when
    /// something changed meanwhile, so that none is missing.
    pub(super) fn dump<T>(
        &mut self,
        request: &RouteNetlinkMessage,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Refusal> {
        for _ in 0..DUMP_ATTEMPTS {
            let first = self.sequence.wrapping_add(1);
            self.send(vec![(request.clone(), 0)], NLM_F_DUMP)?;
            let mut items = Vec::new();
            let (mut done, mut interrupted, mut outcome) = (false, false, Ok(()));
            while !done {
                self.receive(first, |message| {
                    interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
                    match message.message_type() {
                        NLMSG_DONE => done = true,
                        NLMSG_ERROR => {
                            done = true;
                            outcome = acknowledgement(message);
                        }
                        _ => items.extend(parse(message.payload())),
                    }
                })?;
            }
            outcome?;
            if !interrupted {
                return Ok(items);
            }
        }
        Err(Refusal {
            errno: Errno::EINTR,
            said: Some("the list of links kept changing while it was read".to_owned()),
        })
    }

    /// Sends `requests` as one datagram, the last with further flags.
    fn send(&mut self, requests: Vec<Request>, flags_of_last: u16) -> Result<(), Refusal> {
        let datagram = self.datagram(requests, flags_of_last);
        let _asking = Asking::begin();
        loop {
            return match self.socket.send(&datagram, 0) {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(errno_of(&error).into()),
            };
        }
    }

    /// The next requests, as one datagram, the last with further flags.
    fn datagram(&mut self, requests: Vec<Request>, flags_of_last: u16) -> Vec<u8> {
        let mut datagram = Vec::new();
        let mut requests = requests.into_iter();
        while let Some((request, flags)) = requests.next() {
            self.sequence = self.sequence.wrapping_add(1);
            let mut message =
                NetlinkMessage::new(Default::default(), NetlinkPayload::from(request));
            message.header.flags = NLM_F_REQUEST | flags;
            if requests.len() == 0 {
                message.header.flags |= flags_of_last;
            }
            message.header.sequence_number = self.sequence;
            message.finalize();
            let start = datagram.len();
            datagram.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut datagram[start..]);
        }
        datagram
    }

    /// Receives one datagram and hands on its messages that answer request `first` or a later one.
    fn receive(
        &mut self,
        first: u32,
        mut on_message: impl FnMut(&NetlinkBuffer<&[u8]>),
    ) -> Result<(), Refusal> {
        let length = loop {
            match self.socket.recv(&mut &mut self.buffer[..], 0) {
                Ok(length) => break length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(errno_of(&error).into()),
            }
        };
        let mut rest = &self.buffer[..length];
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest).map_err(|_| Errno::EBADMSG)?;
            let end = (message.length() as usize)
                .next_multiple_of(4)
                .min(rest.len());
            // Late answers to a request that was given up are not ours.
            if message.sequence_number().wrapping_sub(first) < u32::MAX / 2 {
                on_message(&message);
            }
            rest = &rest[end..];
        }
        Ok(())
    }
}

/// The meaning of an `NLMSG_ERROR`: zero is the acknowledgement, anything else a negative error number.
fn acknowledgement(message: &NetlinkBuffer<&[u8]>) -> Result<(), Refusal> {
    let payload = message.payload();
    let Some(code) = payload
        .first_chunk()
        .map(|bytes| i32::from_ne_bytes(*bytes))
    else {
        return Err(Errno::EBADMSG.into());
    };
    if code == 0 {
        return Ok(());
    }
    Err(Refusal {
        errno: Errno::from_raw(code.saturating_neg()),
        said: error_text(message.flags(), payload),
    })
}

fn error_text(flags: u16, payload: &[u8]) -> Option<String> {
    // Without NLM_F_CAPPED, the whole request stands between its header and the attributes.
    if flags & NLM_F_ACK_TLVS == 0 || flags & NLM_F_CAPPED == 0 {
        return None;
    }
    let attributes = payload.get(4 + NLMSG_HEADER_BYTES..)?;
    NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == ERROR_TEXT)
        .map(|attribute| text(attribute.value()))
}

/// A string attribute, without the NUL that ends it.
pub(super) fn text(value: &[u8]) -> String {
    let end = value
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
