//! What a VM answers on IPv4: echo requests, questions for the time (RFC 792), and UDP echo (RFC 862). The answer is made
//! of the question, in its frame.

use super::TIME_TO_LIVE;
use crate::time::Instant;
use crate::vm::Vm;
use crate::wire::{
    IPV4_HEADER_LENGTH, Passage, answer_options, replace_options, turn_into_echo_reply,
    turn_into_timestamp_reply, turn_into_udp_echo,
};

/// Milliseconds of a day.
const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;

/// A question, and the bytes of the IPv4 header that it comes with.
#[derive(Clone, Copy, Debug)]
pub(in crate::vm) enum Service {
    /// For an echo.
    Echo { header_length: usize },
    /// For the time.
    Time { header_length: usize },
    /// For an echo, of the UDP service.
    UdpEcho { header_length: usize },
}

impl Vm {
    /// Turns the question in `frame` into its answer. Returns the answer's length.
    pub(super) fn answer_ipv4(
        &mut self,
        now: Instant,
        asked: Service,
        frame: &mut [u8],
    ) -> Option<usize> {
        let mac = self.mac;
        // The asker's own would do for an answer that is not cut. The fragments of one that is could be taken for those of
        // a datagram that this VM has made by itself.
        let id = self.ipv4.next_identification();
        match asked {
            Service::Echo { header_length } => {
                let length = self.answer_options(now, frame, header_length)?;
                turn_into_echo_reply(frame, length, mac, TIME_TO_LIVE, id)
            }
            Service::Time { header_length } => {
                let length = self.answer_options(now, frame, header_length)?;
                let time = self.time_of_day(now);
                turn_into_timestamp_reply(frame, length, mac, TIME_TO_LIVE, id, time)
            }
            Service::UdpEcho { header_length } => {
                // The service sends a datagram of its own, which has no options.
                let length = replace_options(frame, header_length, &[])?;
                turn_into_udp_echo(frame, length, mac, TIME_TO_LIVE, id)
            }
        }
    }

    /// Turns the options of the datagram in `frame` into those of its answer. Returns the bytes of the header then.
    fn answer_options(
        &self,
        now: Instant,
        frame: &mut [u8],
        header_length: usize,
    ) -> Option<usize> {
        if header_length == IPV4_HEADER_LENGTH {
            return Some(header_length);
        }
        let passage = Passage {
            address: self.address()?,
            time: self.time_of_day(now),
        };
        answer_options(frame, header_length, passage)
    }

    /// Milliseconds since midnight UTC.
    fn time_of_day(&self, now: Instant) -> u32 {
        let since_zero = now.as_nanos() / 1_000_000;
        ((u64::from(self.time_of_day) + since_zero) % DAY_MILLIS) as u32
    }
}
