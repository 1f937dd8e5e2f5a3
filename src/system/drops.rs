//! How many frames a TAP's full queue did not take, told from those that the classic filter dropped.
//!
//! The kernel counts both as `tx_dropped` (`tun_net_xmit()` in `drivers/net/tun.c`). But a queue that was full hands out
//! all that it holds in a row when it is read: a TAP that never gave as many frames in a row as its queue takes was never
//! full, and lost nothing.

/// The state of one TAP's queue and counter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// The kernel's counter.
    pub(super) tx_dropped: u64,
    /// How many frames its queue takes.
    pub(super) queue_length: u32,
    /// The most frames that were read from it without a pause.
    pub(super) longest_row: u32,
}

impl Reading {
    /// Returns true if its queue may have been full at any time.
    pub(super) fn may_have_been_full(&self) -> bool {
        self.longest_row >= self.queue_length
    }
}

/// How many frames the full queue of each TAP did not take: exactly where no filter is, and where no queue was full. For
/// a TAP that may have been full, it is what a neighbour's filter dropped at least that is taken off its counter, since
/// what filters drop reaches all TAPs nearly alike; so the figure is rather too large than too small.
pub(super) fn overflows(readings: &[Reading], has_filter: bool) -> impl Iterator<Item = u64> {
    let filtered = readings
        .iter()
        .filter(|reading| has_filter && !reading.may_have_been_full())
        .map(|reading| reading.tx_dropped)
        .min()
        .unwrap_or(0);
    readings.iter().map(move |reading| {
        if !has_filter {
            reading.tx_dropped
        } else if reading.may_have_been_full() {
            reading.tx_dropped.saturating_sub(filtered)
        } else {
            0
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_filter_drops_is_no_overflow() {
        let reading = |tx_dropped, longest_row| Reading {
            tx_dropped,
            queue_length: 10,
            longest_row,
        };
        // (what the TAPs show, what overflowed without filters, and with them)
        let table = [
            (vec![reading(0, 3)], vec![0], vec![0]),
            (vec![reading(5, 9)], vec![5], vec![0]),
            (vec![reading(5, 10)], vec![5], vec![5]),
            (
                vec![
                    reading(99, 1),
                    reading(98, 2),
                    reading(150, 12),
                    reading(99, 10),
                ],
                vec![99, 98, 150, 99],
                vec![0, 0, 52, 1],
            ),
        ];
        for (readings, without, with) in table {
            assert_eq!(overflows(&readings, false).collect::<Vec<_>>(), without);
            assert_eq!(overflows(&readings, true).collect::<Vec<_>>(), with);
        }
    }
}
