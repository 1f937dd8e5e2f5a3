//! Requests that go to the kernel together, by one datagram, and are answered together.
//!
//! The kernel carries the requests of a datagram out one after the other. It says that one is done only if that is asked for,
//! and that one is refused always, at once and in their order (`netlink_rcv_skb()` of `net/netlink/af_netlink.c`). So the
//! last one alone asks: however many there are, they take a call to send and a call to receive.

use netlink_packet_core::{NLM_F_ACK, NLMSG_ERROR};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use super::super::error::SystemError;
use super::{Netlink, Refusal, acknowledgement};

/// A request, and its flags beside those that every request has.
pub(in crate::system) type Request = (RouteNetlinkMessage, u16);

/// Requests in a datagram, at most. Should all of them be refused, the socket has room for the answers: of its 208 KiB
/// (`net.core.rmem_default`) each takes one.
const MOST_AT_ONCE: usize = 128;

/// Requests, each with the operation that it is for.
#[derive(Debug, Default)]
pub(in crate::system) struct Requests(Vec<(Request, Purpose)>);

#[derive(Debug)]
struct Purpose {
    operation: String,
    /// That there is no such link is no error.
    may_be_gone: bool,
}

impl Requests {
    /// Adds a request, to be carried out after those before it. `operation` is for the error.
    pub(in crate::system) fn add(&mut self, request: Request, operation: String) {
        let may_be_gone = false;
        let purpose = Purpose {
            operation,
            may_be_gone,
        };
        self.0.push((request, purpose));
    }

    /// Adds a request about a link that may be gone, which is no error then.
    pub(in crate::system) fn add_unless_gone(&mut self, request: Request, operation: String) {
        let may_be_gone = true;
        let purpose = Purpose {
            operation,
            may_be_gone,
        };
        self.0.push((request, purpose));
    }
}

impl Netlink {
    /// Carries `requests` out, a hundred by each datagram.
    ///
    /// # Errors
    /// The first refusal. Those after it in the same datagram were carried out all the same, those of later ones not.
    pub(in crate::system) fn carry_out(&mut self, requests: Requests) -> Result<(), SystemError> {
        let mut requests = requests.0.into_iter();
        while requests.len() > 0 {
            let some = requests.by_ref().take(MOST_AT_ONCE);
            let (some, purposes): (Vec<Request>, Vec<Purpose>) = some.unzip();
            let mut first = None;
            let exchanged = self.exchange(
                some,
                |_| (),
                |place, refusal| {
                    let purpose = purposes.get(place);
                    let is_gone = refusal.errno == Errno::ENODEV;
                    if !(is_gone && purpose.is_some_and(|purpose| purpose.may_be_gone)) {
                        first.get_or_insert((place, refusal));
                    }
                },
            );
            let (place, refusal) = match (exchanged, first) {
                (_, Some(first)) => first,
                (Err(refusal), None) => (0, refusal),
                (Ok(()), None) => continue,
            };
            let operation = purposes.into_iter().nth(place);
            return Err(refusal.of(operation.map_or_else(String::new, |of| of.operation)));
        }
        Ok(())
    }

    /// Sends `requests` as one datagram: the kernel carries them out before it looks at a signal. Hands each reply's payload to
    /// `on_reply`, and each refusal with the place of its request to `on_refusal`.
    ///
    /// # Errors
    /// When the requests can't be sent, or the answers not be received.
    pub(super) fn exchange(
        &mut self,
        requests: Vec<Request>,
        mut on_reply: impl FnMut(&[u8]),
        mut on_refusal: impl FnMut(usize, Refusal),
    ) -> Result<(), Refusal> {
        let Some(last) = requests.len().checked_sub(1) else {
            return Ok(());
        };
        let first = self.sequence.wrapping_add(1);
        self.send(requests, NLM_F_ACK)?;
        let mut is_done = false;
        while !is_done {
            self.receive(first, |message| {
                if message.message_type() != NLMSG_ERROR {
                    return on_reply(message.payload());
                }
                let place = message.sequence_number().wrapping_sub(first) as usize;
                is_done |= place >= last;
                if let Err(refusal) = acknowledgement(message) {
                    on_refusal(place, refusal);
                }
            })?;
        }
        Ok(())
    }
}
