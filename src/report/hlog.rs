//! The interval log that HdrHistogram's tools read.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};

use super::Report;
use crate::escape::Escaped;
use crate::record::{Latency, MarkMetric, Metric, Scope};

/// The column of greatest values is in milliseconds, as other writers have it.
const NANOS_PER_MILLISECOND: f64 = 1e6;

/// Writes the run as an HdrHistogram interval log: second by second the rtt without a tag and the response time with its
/// name as the tag, and before them each other metric in one interval, the whole run, with its name as the tag. The times that
/// were measured from a mark on are in its interval, with tags such as `mark.policy.first_pass`. Values are nanoseconds.
///
/// Times are seconds since the run began, and the log says when that was; if it is not known, 1970.
///
/// # Errors
/// When `out` can't be written to.
pub fn hlog(report: &Report, out: &mut impl Write) -> io::Result<()> {
    // The reader tells a time of day from seconds since the start by its size, so a start must be given.
    let start = UNIX_EPOCH + Duration::from_millis(report.started_unix_ms.unwrap_or(0));
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(&format!("[Logged with {}]", Escaped(&report.tool)))
        .add_comment("[Histogram log format version 1.3]")
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(NANOS_PER_MILLISECOND)
        .begin_log_with(out, &mut serializer)?;
    let mut line = |latency: &Latency, from: u64, length: u64, name: &str| {
        if latency.is_empty() {
            return Ok(());
        }
        let [from, length] = [from, length].map(Duration::from_nanos);
        let tag = (name != Metric::Rtt.name()).then(|| Tag::new(name));
        log.write_histogram(latency.histogram(), from, length, tag.flatten())
            .map_err(|error| match error {
                IntervalLogWriterError::IoError(error) => error,
                IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
            })
    };
    for (metric, latency) in report.histograms.iter() {
        if metric.scope() != Scope::Second {
            line(latency, 0, report.elapsed_ns, metric.name())?;
        }
    }
    for mark in &report.marks {
        let end = mark.end_ns.unwrap_or(report.elapsed_ns);
        let length = end.saturating_sub(mark.at_ns);
        for &metric in MarkMetric::ALL.iter().filter(|metric| metric.is_time()) {
            let latency = mark.histogram(metric).expand();
            let name = format!("mark.{}.{metric}", mark.name);
            line(&latency, mark.at_ns, length, &name)?;
        }
    }
    for second in &report.seconds {
        for &metric in Metric::ALL {
            if let Some((_, latency)) = second.latency(metric) {
                let latency = latency.expand();
                line(&latency, second.start_ns, second.length_ns, metric.name())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::report::fixtures;

    /// All histograms with this tag, as one.
    fn sum(log: &[u8], tag: Option<&str>) -> Histogram<u64> {
        let mut sum = Latency::new().histogram().clone();
        for entry in IntervalLogIterator::new(log) {
            if let Ok(LogEntry::Interval(line)) = entry
                && line.tag().map(|tag| tag.as_str()) == tag
            {
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(line.encoded_histogram())
                    .unwrap();
                let part: Histogram<u64> = Deserializer::new()
                    .deserialize(&mut bytes.as_slice())
                    .unwrap();
                sum.add(&part).unwrap();
            }
        }
        sum
    }

    #[test]
    fn the_seconds_add_up_to_the_run() {
        let report = fixtures::report();
        let mut log = Vec::new();
        hlog(&report, &mut log).unwrap();
        assert_eq!(sum(&log, None), *report.histograms[Metric::Rtt].histogram());
        assert_eq!(
            sum(&log, Some("response")),
            *report.histograms[Metric::Response].histogram()
        );
        let text = String::from_utf8(log).unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.starts_with("Tag="));
        assert_eq!(lines.count(), report.seconds.len(), "one line per second");
    }
}
