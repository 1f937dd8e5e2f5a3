//! The numbers by which frames tell of which flow of their sender they are, and of which of its pings.
//!
//! | carried by | flow | ping |
//! |---|---|---|
//! | ICMP echo | identifier, 16 bits | sequence number, 16 bits |
//! | STAMP | session identifier (SSID) less 1, 16 bits | sequence number, 32 bits |
//! | UDP | the first 4 bytes of the payload | the next 4 bytes |
//! | TCP | initial sequence number, 15 bits of it behind a 0, or 20 behind a 1 | the other 16 bits, or 11 |
//!
//! Of a ping's number no more than 16 bits are read anywhere. Flows that no 16 bits have to tell apart are numbered from
//! [`WIDE_FLOWS`] on, those over TCP from [`TCP_FLOWS`] on: so each number of a flow is one flow's, whatever it is carried by.

/// Flows of one sender that 16 bits tell apart.
pub const NARROW_FLOWS: u32 = 1 << 16;
/// Where the numbers of other flows begin. As many as that there may be.
pub const WIDE_FLOWS: u32 = 1 << 20;
/// Where the numbers of those over TCP begin.
pub const TCP_FLOWS: u32 = 3 << 20;
/// Bits of the number of any flow.
pub const FLOW_BITS: u32 = 22;

/// So many of the flows over TCP have 16 bits for the numbers of their pings.
const NEAR: u32 = 1 << 15;
/// Bits for the numbers of the pings of others.
const FAR_BITS: u32 = 11;
/// The bit of an initial sequence number that says that it is of such a flow.
const IS_FAR: u32 = 1 << 31;

/// The bits of a ping's number that frames of its flow tell, by the number of the flow.
pub const fn sequence_mask(flow: u32) -> u16 {
    match flow >= TCP_FLOWS + NEAR {
        true => (1 << FAR_BITS) - 1,
        false => u16::MAX,
    }
}

/// The initial sequence number of the TCP connection of a ping.
pub const fn tcp_number(flow: u32, sequence: u64) -> u32 {
    let place = flow & (WIDE_FLOWS - 1);
    let sequence = (sequence as u16 & sequence_mask(flow)) as u32;
    match place < NEAR {
        true => place << u16::BITS | sequence,
        false => IS_FAR | place << FAR_BITS | sequence,
    }
}

/// Flow and ping of an initial sequence number.
pub const fn of_tcp_number(number: u32) -> (u32, u16) {
    match number & IS_FAR {
        0 => (TCP_FLOWS | number >> u16::BITS, number as u16),
        _ => {
            let flow = TCP_FLOWS | number >> FAR_BITS & (WIDE_FLOWS - 1);
            (flow, number as u16 & ((1 << FAR_BITS) - 1))
        }
    }
}

/// The first eight bytes of the payload of a ping by UDP.
pub const fn udp_number(flow: u32, sequence: u64) -> u64 {
    (flow as u64) << u32::BITS | sequence as u32 as u64
}

/// Flow and ping of such bytes.
pub const fn of_udp_number(number: u64) -> (u32, u16) {
    ((number >> u32::BITS) as u32, number as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flow_and_ping_over_tcp_has_a_number_of_its_own() {
        let flows = [0, 1, NEAR - 1, NEAR, NEAR + 1, 65_536, WIDE_FLOWS - 1];
        for flow in flows.map(|place| TCP_FLOWS | place) {
            let mask = u64::from(sequence_mask(flow));
            for sequence in [0, 1, 2_047, 2_048, 65_535, 65_536, 1 << 40] {
                let read = of_tcp_number(tcp_number(flow, sequence));
                assert_eq!(read, (flow, (sequence & mask) as u16), "{flow} {sequence}");
            }
        }
        let bits = [0, NEAR - 1, NEAR].map(|place| sequence_mask(TCP_FLOWS | place).count_ones());
        assert_eq!(bits, [16, 16, 11]);
        // Whatever comes is of some flow.
        for number in [0, u32::MAX, IS_FAR] {
            assert!(of_tcp_number(number).0 < 1 << FLOW_BITS, "{number}");
        }
    }

    #[test]
    fn a_payload_tells_flow_and_ping() {
        for flow in [0, WIDE_FLOWS, 2 * WIDE_FLOWS - 1] {
            for sequence in [0, 65_535, 65_536, 1 << 33] {
                let read = of_udp_number(udp_number(flow, sequence));
                assert_eq!(read, (flow, sequence as u16));
                assert_eq!(sequence_mask(flow), u16::MAX);
            }
        }
    }
}
