use super::*;

#[test]
fn a_rank_is_written_as_it_is_read() {
    for text in ["0/1", "0/2", "1/2", "4095/4096"] {
        assert_eq!(text.parse::<Rank>().unwrap().to_string(), text);
    }
    for text in ["", "1", "2/2", "0/0", "-1/2", "a/b", "0/2/3", "0/4097", "1/"] {
        assert!(text.parse::<Rank>().is_err(), "{text}");
    }
}
