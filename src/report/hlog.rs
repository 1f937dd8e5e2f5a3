//! The interval log that HdrHistogram's tools read.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};

use super::Report;
use super::pieces::{self, Next};
use crate::escape::Escaped;
use crate::record::{Latency, MarkMetric, Metric, Scope};

/// The column of greatest values is in milliseconds, as other writers have it.
const NANOS_PER_MILLISECOND: f64 = 1e6;

/// The metrics of each second.
const BY_SECOND: [Metric; 2] = [Metric::Rtt, Metric::Response];

/// Writes the run as an HdrHistogram interval log: second by second the rtt without a tag and the response time with its
/// name as the tag, and before them each other metric in one interval, the whole run, with its name as the tag. The times that
/// were measured from a mark on are in its interval, with tags such as `mark.policy.first_pass`. Values are nanoseconds.
///
/// Times are seconds since the run began, and the log says when that was; if it is not known, 1970.
///
/// # Errors
/// When `out` can't be written to.
pub fn hlog(report: &Report, out: &mut impl Write) -> io::Result<()> {
    pieces::write(report, hlog_piece, out)
}

/// Writes the piece of [`hlog`] with the interval of number `from`: those of the whole run, one for each metric, come first, then
/// those of each mark, then the two of each second. An interval without values has no line.
pub(super) fn hlog_piece(report: &Report, from: usize, out: &mut Vec<u8>) -> io::Result<Next> {
    if from == 0 {
        head(report, out)?;
    }
    let times = || MarkMetric::ALL.iter().filter(|metric| metric.is_time());
    let of_run = Metric::ALL.len();
    let of_marks = of_run + report.marks.len() * times().count();
    let last = of_marks + report.seconds.len() * BY_SECOND.len();
    if from < of_run {
        let metric = Metric::ALL.get(from);
        if let Some(&metric) = metric.filter(|metric| metric.scope() != Scope::Second) {
            let latency = &report.histograms[metric];
            line(latency, 0, report.elapsed_ns, metric.name(), out)?;
        }
    } else if from < of_marks {
        let number = from - of_run;
        let mark = report.marks.get(number / times().count());
        if let Some((mark, &metric)) = mark.zip(times().nth(number % times().count())) {
            let end = mark.end_ns.unwrap_or(report.elapsed_ns);
            let length = end.saturating_sub(mark.at_ns);
            let name = format!("mark.{}.{metric}", mark.name);
            line(
                &mark.histogram(metric).expand(),
                mark.at_ns,
                length,
                &name,
                out,
            )?;
        }
    } else {
        let number = from - of_marks;
        let second = report.seconds.get(number / BY_SECOND.len());
        let metric = BY_SECOND.get(number % BY_SECOND.len());
        if let (Some(second), Some(&metric)) = (second, metric)
            && let Some((_, latency)) = second.latency(metric)
        {
            let latency = latency.expand();
            line(
                &latency,
                second.start_ns,
                second.length_ns,
                metric.name(),
                out,
            )?;
        }
    }
    Ok(Some(from + 1).filter(|next| *next < last))
}

fn head(report: &Report, out: &mut Vec<u8>) -> io::Result<()> {
    // The reader tells a time of day from seconds since the start by its size, so a start must be given.
    let start = UNIX_EPOCH + Duration::from_millis(report.started_unix_ms.unwrap_or(0));
    IntervalLogWriterBuilder::new()
        .add_comment(&format!("[Logged with {}]", Escaped(&report.tool)))
        .add_comment("[Histogram log format version 1.3]")
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(NANOS_PER_MILLISECOND)
        .begin_log_with(out, &mut V2DeflateSerializer::new())?;
    Ok(())
}

fn line(
    latency: &Latency,
    from: u64,
    length: u64,
    name: &str,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    if latency.is_empty() {
        return Ok(());
    }
    let mut builder = IntervalLogWriterBuilder::new();
    let builder = builder.with_max_value_divisor(NANOS_PER_MILLISECOND);
    let mut serializer = V2DeflateSerializer::new();
    // A log begins with its head, which this one has already.
    let mut head = Vec::new();
    builder.begin_log_with(&mut head, &mut serializer)?;
    let mut log = Vec::new();
    let [from, length] = [from, length].map(Duration::from_nanos);
    let tag = (name != Metric::Rtt.name()).then(|| Tag::new(name));
    builder
        .begin_log_with(&mut log, &mut serializer)?
        .write_histogram(&latency.histogram(), from, length, tag.flatten())
        .map_err(|error| match error {
            IntervalLogWriterError::IoError(error) => error,
            IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
        })?;
    out.extend_from_slice(log.get(head.len()..).unwrap_or_default());
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
        let mut sum = Latency::new().histogram();
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
        assert_eq!(sum(&log, None), report.histograms[Metric::Rtt].histogram());
        assert_eq!(
            sum(&log, Some("response")),
            report.histograms[Metric::Response].histogram()
        );
        let text = String::from_utf8(log).unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.starts_with("Tag="));
        assert_eq!(lines.count(), report.seconds.len(), "one line per second");
    }
}
