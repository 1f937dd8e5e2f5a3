//! What a running lab has measured so far, as metrics that Prometheus and OpenMetrics scrapers read.
//!
//! The tables of counts, metrics and drop reasons are the metrics; a row more there is a metric more here. Counters and
//! histograms are those of the whole run and only grow; series of phases have a label `phase`. Read first:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/> and <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use std::fmt::{Display, Write};

use crate::record::{
    Count, DropReason, Latency, Mark, MarkMetric, Metric, Phase, Recorder, Scope, Totals,
};

/// So many names of phases are values of the label `phase`; all phases with further names are [`OTHER`] together. Each
/// costs about 110 time series.
const MAX_PHASES: usize = 16;
const OTHER: &str = "other";

/// The upper edges of the buckets, three a decade: in nanoseconds, and in seconds as the label `le` has them. Both formats
/// have the same values (OpenMetrics wants a point in them), so that a series is the same in both.
const EDGES: [(u64, &str); 22] = [
    (1_000, "1e-06"),
    (2_000, "2e-06"),
    (5_000, "5e-06"),
    (10_000, "1e-05"),
    (20_000, "2e-05"),
    (50_000, "5e-05"),
    (100_000, "0.0001"),
    (200_000, "0.0002"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_000_000, "0.002"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (20_000_000, "0.02"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (200_000_000, "0.2"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1.0"),
    (2_000_000_000, "2.0"),
    (5_000_000_000, "5.0"),
    (10_000_000_000, "10.0"),
];

/// A text format of metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exposition {
    /// That of Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// The formats, the default first.
    pub const ALL: [Exposition; 2] = [Exposition::Prometheus, Exposition::OpenMetrics];

    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Exposition::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format of a media type without its parameters: `text/plain`.
    pub fn of_media_type(media_type: &str) -> Option<Exposition> {
        Exposition::ALL.into_iter().find(|format| {
            let (own, _) = format.content_type().split_once(';').unwrap_or_default();
            own.eq_ignore_ascii_case(media_type)
        })
    }
}

/// What a recorder does not know of a lab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LabGauges {
    /// The VMs that are there.
    pub vms: usize,
    /// Resident memory of the process in bytes, where the kernel tells.
    pub rss_bytes: Option<u64>,
}

/// Writes the metrics of a lab in `format`.
///
/// A value within one part in a thousand above an edge may be counted in the bucket of that edge, since `recorder` tells
/// these values apart no better; a value that is the edge always is.
pub fn prometheus(recorder: &Recorder, lab: &LabGauges, format: Exposition) -> String {
    let mut page = Page {
        format,
        text: String::new(),
    };
    page.gauge("tap_reactor_vms", "VMs that are there.", "", lab.vms);
    let flows = recorder.flows().len();
    let help = "Flows, those that have ended included.";
    page.gauge("tap_reactor_flows", help, "", flows);
    let totals: Totals = recorder.phases().iter().map(|phase| *phase.totals()).sum();
    let help = "Pings that were sent and have not ended.";
    page.gauge(
        "tap_reactor_pings_outstanding",
        help,
        "",
        totals.outstanding(),
    );
    if let Some(bytes) = lab.rss_bytes {
        // The name that the client libraries of Prometheus give it.
        let help = "Resident memory size in bytes.";
        page.gauge("process_resident_memory_bytes", help, "bytes", bytes);
    }
    let phases = by_name(recorder.phases());
    for count in Count::ALL {
        let name = format!("tap_reactor_pings_{}", count.name());
        page.begin_counter(&name, count.doc());
        for (phase, parts) in &phases {
            let totals: Totals = parts.iter().map(|part| *part.totals()).sum();
            page.counter(&name, ("phase", phase), totals.get(*count));
        }
    }
    let name = "tap_reactor_frames_dropped";
    page.begin_counter(name, "Frames that were dropped, by reason.");
    for reason in DropReason::ALL {
        let frames = recorder.drops().get(*reason);
        page.counter(name, ("reason", reason.name()), frames);
    }
    for metric in Metric::ALL {
        let name = format!("tap_reactor_{metric}_seconds");
        page.begin(&name, "histogram", "seconds", metric.doc());
        match metric.scope() {
            Scope::Run => page.histogram(&name, ("phase", ""), [recorder.run_latency(*metric)]),
            Scope::Second | Scope::Phase => {
                for (phase, parts) in &phases {
                    let latencies = parts.iter().map(|part| part.latency(*metric));
                    page.histogram(&name, ("phase", phase), latencies);
                }
            }
        }
    }
    if let Some(marks) = recorder.marks() {
        write_marks(&mut page, marks.all());
    }
    if format == Exposition::OpenMetrics {
        page.text += "# EOF\n";
    }
    page.text
}

/// Writes the marks by name, as phases are: how many, and the first passes since. What else is measured from a mark on may
/// shrink or move, and is no counter or histogram.
fn write_marks(page: &mut Page, marks: &[Mark]) {
    let mut named: Vec<(&str, Vec<&Mark>)> = Vec::new();
    for mark in marks {
        let name = mark.name().as_str();
        let is_known = named.iter().any(|(known, _)| *known == name);
        let name = match is_known || named.len() < MAX_PHASES {
            true => name,
            false => OTHER,
        };
        match named.iter_mut().find(|(known, _)| *known == name) {
            Some((_, parts)) => parts.push(mark),
            None => named.push((name, vec![mark])),
        }
    }
    let name = "tap_reactor_marks";
    page.begin_counter(name, "Marks that were set.");
    for (mark, parts) in &named {
        page.counter(name, ("mark", mark), parts.len() as u64);
    }
    let metric = MarkMetric::FirstPass;
    let name = format!("tap_reactor_mark_{metric}_seconds");
    page.begin(&name, "histogram", "seconds", metric.doc());
    for (mark, parts) in &named {
        let latencies: Vec<Latency> = parts.iter().map(|part| part.latency(metric)).collect();
        page.histogram(&name, ("mark", mark), latencies.iter().map(Some));
    }
}

/// The phases by the value of their label. A name may come again, and two series must not have the same labels.
fn by_name(phases: &[Phase]) -> Vec<(&str, Vec<&Phase>)> {
    let mut named: Vec<(&str, Vec<&Phase>)> = Vec::new();
    for phase in phases {
        let is_known = named.iter().any(|(name, _)| *name == phase.name());
        let name = match is_known || named.len() < MAX_PHASES {
            true => phase.name(),
            false => OTHER,
        };
        match named.iter_mut().find(|(known, _)| *known == name) {
            Some((_, parts)) => parts.push(phase),
            None => named.push((name, vec![phase])),
        }
    }
    named
}

/// Nanoseconds of a second.
const SECOND: u128 = 1_000_000_000;

/// A histogram with [`EDGES`], not yet cumulative.
#[derive(PartialEq, Debug, Default)]
struct Buckets {
    counts: [u64; EDGES.len()],
    count: u64,
    /// Made of whole numbers out of the buckets of the recorder, so off by less than one part in two thousand: the mean times
    /// the count is nearer, but rounding could make it shrink, which a scraper takes for a restart.
    sum_ns: u128,
}

impl Buckets {
    fn add(&mut self, latency: &Latency) {
        for bucket in latency.iter() {
            let middle = bucket.low + (bucket.high - bucket.low) / 2;
            self.sum_ns += u128::from(middle) * u128::from(bucket.count);
            self.count = self.count.saturating_add(bucket.count);
            let edge = EDGES.partition_point(|(edge, _)| *edge < bucket.low);
            if let Some(count) = self.counts.get_mut(edge) {
                *count = count.saturating_add(bucket.count);
            }
        }
    }
}

/// Metrics as they are written. Writing to a `String` never fails.
struct Page {
    format: Exposition,
    text: String,
}

impl Page {
    /// Begins a metric. The docs of the tables are one line without `"` and `\`: there is nothing to escape.
    fn begin(&mut self, name: &str, kind: &str, unit: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        if self.format == Exposition::OpenMetrics && !unit.is_empty() {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, unit: &str, value: impl Display) {
        self.begin(name, "gauge", unit, help);
        self.sample(name, "", &[], value);
    }

    /// Begins a counter, whose name is that of its samples for Prometheus alone.
    fn begin_counter(&mut self, name: &str, help: &str) {
        match self.format {
            Exposition::Prometheus => self.begin(&format!("{name}_total"), "counter", "", help),
            Exposition::OpenMetrics => self.begin(name, "counter", "", help),
        }
    }

    fn counter(&mut self, name: &str, label: (&str, &str), value: u64) {
        self.sample(name, "_total", &[label], value);
    }

    fn histogram<'a>(
        &mut self,
        name: &str,
        label: (&str, &str),
        latencies: impl IntoIterator<Item = Option<&'a Latency>>,
    ) {
        let mut buckets = Buckets::default();
        latencies
            .into_iter()
            .flatten()
            .for_each(|latency| buckets.add(latency));
        let mut within = 0_u64;
        for ((_, edge), count) in EDGES.iter().zip(buckets.counts) {
            within = within.saturating_add(count);
            self.sample(name, "_bucket", &[label, ("le", edge)], within);
        }
        self.sample(name, "_bucket", &[label, ("le", "+Inf")], buckets.count);
        let (seconds, nanos) = (buckets.sum_ns / SECOND, buckets.sum_ns % SECOND);
        self.sample(name, "_sum", &[label], format_args!("{seconds}.{nanos:09}"));
        self.sample(name, "_count", &[label], buckets.count);
    }

    /// Writes a sample. A label without a value is the same as none.
    fn sample(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text += name;
        self.text += suffix;
        let mut before = '{';
        for (label, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
            let _ = write!(self.text, "{before}{label}=\"");
            for character in value.chars() {
                match character {
                    '\n' => self.text += "\\n",
                    '"' | '\\' => self.text.extend(['\\', character]),
                    _ => self.text.push(character),
                }
            }
            self.text.push('"');
            before = ',';
        }
        let end = if before == ',' { "} " } else { " " };
        let _ = writeln!(self.text, "{end}{value}");
    }
}

#[cfg(test)]
mod tests;
