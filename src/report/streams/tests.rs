use super::*;
use crate::report::fixtures;

#[test]
fn a_report_tells_what_became_of_each_stream() {
    let report = fixtures::stream();
    let [stream] = report.streams.as_slice() else {
        panic!("{:?}", report.streams);
    };
    let counts = StreamCounts {
        sent: 20,
        expected: 20,
        received: 19,
        lost: 1,
        duplicate: 1,
        reordered: 1,
        ..StreamCounts::default()
    };
    assert_eq!(stream.counts, counts);
    assert_eq!(report.stream_counts, Some(counts));
    assert_eq!(
        (stream.most_extent, stream.extents, stream.longest_loss),
        (1, 1, 1)
    );
    assert_eq!(stream.reordered_share, 1.0 / 19.0);
    assert_eq!(
        (stream.sent.frames_per_s, stream.sent.mbit_per_s),
        (10_000.0, 10.0)
    );
    assert_eq!(stream.one_way_ns.max, Some(150_000));
    assert_eq!(stream.delay_variation_ns.max, Some(140_000));
    // A percentile is the upper edge of its bucket.
    let p50 = stream.delay_variation_ns.p50;
    assert!(p50.is_some_and(|nanos| nanos < 10), "{p50:?}");
    let lines = lines(&report);
    assert!(
        lines[1].starts_with("vm0 → vm1    20        19"),
        "{lines:?}"
    );
    assert_eq!(
        lines[2],
        "streams in all: 20 frames sent, 19 received, 5.00 % lost, 1 received twice, 1 reordered"
    );
}

#[test]
fn runs_are_told_as_one_and_what_they_lack_is_taken_over() {
    let (one, other) = (fixtures::stream(), fixtures::stream());
    let merged = super::super::merge(&[one.clone(), other]).unwrap();
    let counts = merged.stream_counts.unwrap();
    assert_eq!((counts.sent, counts.received, counts.lost), (40, 38, 2));
    let [stream] = merged.streams.as_slice() else {
        panic!("{:?}", merged.streams);
    };
    assert_eq!(stream.counts.sent, 40);
    assert_eq!(stream.sent.frames_per_s, 10_000.0);
    let totals = merged.stream_totals.unwrap();
    assert_eq!((totals.streams, totals.sent_frames_per_s), (1, 10_000.0));
    assert_eq!(stream.one_way_ns.count, 38);
    assert_eq!(stream.one_way_ns.p50, None, "histograms are not saved");
    let merged = super::super::merge(&[fixtures::report(), one]).unwrap();
    assert_eq!(merged.streams.len(), 2);
    assert_eq!(merged.stream_counts.unwrap().sent, 20);
}
