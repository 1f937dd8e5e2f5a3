//! The comparison of the target `dhcp`, with choices made by a small generator instead of a fuzzer.

mod second_opinion;

#[test]
fn another_implementation_reads_what_we_write_and_the_other_way_round() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    for length in (0..600).cycle().take(20_000) {
        let data: Vec<u8> = (0..length).map(|_| byte()).collect();
        second_opinion::compare(&data);
    }
}
