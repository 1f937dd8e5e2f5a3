//! Services on IPv6: the answer is made of the question, in its frame.

use std::net::Ipv6Addr;

use crate::time::Instant;
use crate::vm::Vm;
use crate::vm::ip::{Answer, Service};
use crate::wire::{
    turn_into_icmpv6_echo_reply, turn_into_ipv6_stamp_reply, turn_into_ipv6_tcp,
    turn_into_ipv6_udp_echo,
};

impl Vm {
    /// Turns the question in `frame` into its answer from `source`. Returns the answer's length.
    pub(in crate::vm) fn answer_ipv6(
        &mut self,
        now: Instant,
        answer: &Answer,
        source: Ipv6Addr,
        frame: &mut [u8],
    ) -> Option<usize> {
        let mac = self.mac;
        let hop_limit = self.ipv6.as_ref()?.hop_limit;
        match &answer.service {
            Service::Echo => {
                self.requests_answered += 1;
                turn_into_icmpv6_echo_reply(frame, answer.offset, mac, source, hop_limit)
            }
            Service::UdpEcho => {
                self.requests_answered += 1;
                turn_into_ipv6_udp_echo(frame, answer.offset, mac, hop_limit)
            }
            Service::Stamp(session) => {
                self.requests_answered += 1;
                let reflection = self.reflection(now, *session)?;
                turn_into_ipv6_stamp_reply(frame, answer.offset, &reflection, mac, hop_limit)
            }
            Service::Tcp(segment, _) => turn_into_ipv6_tcp(frame, segment, mac, hop_limit),
            // A question of IPv4 alone.
            Service::Timestamp => None,
        }
    }
}
