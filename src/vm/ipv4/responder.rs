//! Services on IPv4: the answer is made of the question, in its frame.

use crate::time::Instant;
use crate::vm::Vm;
use crate::vm::ip::{Answer, DEFAULT_TIME_TO_LIVE, Service};
use crate::wire::{
    ETHERNET_HEADER_LENGTH, IPV4_HEADER_LENGTH, Passage, answer_options, ipv4_destination,
    replace_options, set_ipv4_destination, turn_into_echo_reply, turn_into_stamp_reply,
    turn_into_tcp, turn_into_timestamp_reply, turn_into_udp_echo,
};

/// Milliseconds of a day.
const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;

impl Vm {
    /// Turns the question in `frame` into its answer. Returns the answer's length.
    pub(in crate::vm) fn answer_ipv4(
        &mut self,
        now: Instant,
        answer: &Answer,
        frame: &mut [u8],
    ) -> Option<usize> {
        let mac = self.mac;
        let header_length = answer.offset.checked_sub(ETHERNET_HEADER_LENGTH)?;
        if ipv4_destination(frame)?.is_multicast() {
            // Nobody speaks as a group (RFC 1122 section 3.2.1.3).
            set_ipv4_destination(frame, header_length, self.address()?)?;
        }
        // The asker's identification would do for an answer that is not cut. The fragments of one that is could be taken
        // for those of a datagram that this VM has made by itself.
        match &answer.service {
            Service::Echo => {
                let length = self.answer_options(now, frame, header_length)?;
                self.requests_answered += 1;
                let id = self.ipv4.next_identification();
                turn_into_echo_reply(frame, length, mac, DEFAULT_TIME_TO_LIVE, id)
            }
            Service::Timestamp => {
                let length = self.answer_options(now, frame, header_length)?;
                let time = self.time_of_day(now);
                let id = self.ipv4.next_identification();
                turn_into_timestamp_reply(frame, length, mac, DEFAULT_TIME_TO_LIVE, id, time)
            }
            Service::UdpEcho => {
                self.requests_answered += 1;
                // The service sends a datagram of its own, which has no options.
                let length = replace_options(frame, header_length, &[])?;
                let id = self.ipv4.next_identification();
                turn_into_udp_echo(frame, length, mac, DEFAULT_TIME_TO_LIVE, id)
            }
            Service::Stamp(session) => {
                self.requests_answered += 1;
                replace_options(frame, header_length, &[])?;
                let reflection = self.reflection(now, *session)?;
                let id = self.ipv4.next_identification();
                turn_into_stamp_reply(frame, &reflection, mac, DEFAULT_TIME_TO_LIVE, id)
            }
            Service::Tcp(segment, _) => turn_into_tcp(frame, segment, mac, DEFAULT_TIME_TO_LIVE),
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
        (self.unix_nanos(now) / 1_000_000 % DAY_MILLIS) as u32
    }
}
