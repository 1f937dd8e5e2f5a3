//! What a running lab has measured so far, as metrics that Prometheus and OpenMetrics scrapers read.
//!
//! The tables of counts, metrics and drop reasons are the metrics; a row more there is a metric more here. Counters and
//! histograms are those of the whole run and only grow; series of phases have a label `phase`, and what each flow has a
//! label `group`, where the plan has groups. Read first:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/> and <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use super::StreamCounts;
use crate::fabric::MisbehaviourRecord;
use crate::record::{
    Buckets, Cause, Connections, Count, DropReason, EDGES, FloodCounts, FloodKind, Floods,
    GroupFigures, Latency, Losses, Mark, MarkMetric, Metric, Phase, Recorder, Scope, Totals, Way,
    known_or_other,
};
use crate::vm::Misdeed;

/// So many names of phases are values of the label `phase`; all phases with further names are [`OTHER`](crate::record::OTHER)
/// together. Each costs about 110 time series.
const MAX_PHASES: usize = 16;

/// The most pairs of phase and group, each of about 90 time series: with many groups fewer phases are told apart.
const MAX_PAIRS: usize = 64;

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
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LabGauges {
    /// The VMs that are there.
    pub vms: usize,
    /// Resident memory of the process in bytes, where the kernel tells.
    pub rss_bytes: Option<u64>,
    /// The misbehaviours of VMs.
    pub misbehaviours: Vec<MisbehaviourRecord>,
    /// What was flooded, if that is counted.
    pub floods: Option<Floods>,
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
    let phases = named_phases(recorder);
    for count in Count::ALL {
        let name = format!("tap_reactor_pings_{}", count.name());
        page.begin_counter(&name, count.doc());
        for phase in &phases {
            phase.write_count(&mut page, &name, *count);
        }
    }
    let name = "tap_reactor_frames_dropped";
    page.begin_counter(name, "Frames that were dropped, by reason.");
    for reason in DropReason::ALL {
        let frames = recorder.drops().get(*reason);
        page.counter(name, &[("reason", reason.name())], frames);
    }
    write_losses(&mut page, recorder.losses());
    for metric in Metric::ALL {
        let name = format!("tap_reactor_{metric}_seconds");
        page.begin(&name, "histogram", "seconds", metric.doc());
        match metric.scope() {
            Scope::Run => page.latencies(&name, ("phase", ""), recorder.run_latency(*metric)),
            Scope::Second | Scope::Phase => {
                for phase in &phases {
                    phase.write_latency(&mut page, &name, *metric);
                }
            }
        }
    }
    if let Some(marks) = recorder.marks() {
        write_marks(&mut page, marks.all());
    }
    if let Some(connections) = recorder.connections() {
        write_connections(&mut page, connections);
    }
    if let Some(streams) = recorder.streams() {
        write_streams(&mut page, &StreamCounts::of_all(streams));
    }
    if !lab.misbehaviours.is_empty() {
        write_misbehaviours(&mut page, &lab.misbehaviours);
    }
    if let Some(floods) = &lab.floods {
        write_floods(&mut page, floods);
    }
    if format == Exposition::OpenMetrics {
        page.text += "# EOF\n";
    }
    page.text
}

/// Writes the failed pings of the phases that count by cause and direction: a gauge, since a ping may be put down to another
/// cause when more is known.
fn write_losses(page: &mut Page, losses: &Losses) {
    let mut sums: BTreeMap<(Cause, Way), u64> = BTreeMap::new();
    for (row, pings) in losses.rows() {
        *sums.entry((row.cause, row.way)).or_default() += pings;
    }
    let name = "tap_reactor_losses";
    let help = "Pings that failed or were not sent, by cause and direction; one may move to another cause when more is known.";
    page.begin(name, "gauge", "", help);
    for ((cause, way), pings) in sums {
        let labels = [("cause", cause.name()), ("direction", way.word())];
        page.sample(name, "", &labels, pings);
    }
}

/// Writes the marks by name, as phases are: how many, and the first passes since. What else is measured from a mark on may
/// shrink or move, and is no counter or histogram.
fn write_marks(page: &mut Page, marks: &[Mark]) {
    let marks = marks.iter().map(|mark| (mark.name().as_str(), mark));
    let named = by_name(marks, MAX_PHASES);
    let name = "tap_reactor_marks";
    page.begin_counter(name, "Marks that were set.");
    for (mark, parts) in &named {
        page.counter(name, &[("mark", mark)], parts.len() as u64);
    }
    let metric = MarkMetric::FirstPass;
    let name = format!("tap_reactor_mark_{metric}_seconds");
    page.begin(&name, "histogram", "seconds", metric.doc());
    for (mark, parts) in &named {
        let mut passes = Buckets::default();
        let flows = parts.iter().flat_map(|part| part.flows());
        let values = flows.filter_map(|(_, figures)| figures.get(metric));
        values.for_each(|value| passes.record(value));
        page.histogram(&name, [("mark", mark), ("", "")], &passes);
    }
}

/// Writes what became of the TCP connections of pings.
fn write_connections(page: &mut Page, connections: &Connections) {
    let help = "TCP connections of pings that are open.";
    page.gauge("tap_reactor_connections_open", help, "", connections.open);
    let counts = connections.counts;
    for (name, help, number) in [
        (
            "tap_reactor_connections_opened",
            "TCP connections that pings have opened.",
            counts.opened,
        ),
        (
            "tap_reactor_connections_ended_by_peer",
            "TCP connections that their peers have closed or reset while they were held.",
            counts.ended_by_peer,
        ),
        (
            "tap_reactor_syns_repeated",
            "SYNs that were repeated, because nothing had answered them.",
            counts.syns_repeated,
        ),
    ] {
        page.begin_counter(name, help);
        page.counter(name, &[], number);
    }
}

/// Writes what misbehaving VMs did, by kind: VMs may be many.
fn write_misbehaviours(page: &mut Page, all: &[MisbehaviourRecord]) {
    let took_place = || all.iter().filter(|record| record.refused.is_none());
    let active = took_place().filter(|record| record.ended.is_none()).count();
    let help = "VMs that misbehave on purpose.";
    page.gauge("tap_reactor_vms_misbehaving", help, "", active);
    let mut done: BTreeMap<(&str, Misdeed), u64> = BTreeMap::new();
    for record in took_place() {
        for (misdeed, number) in record.misdeeds.iter() {
            let sum = done
                .entry((record.misbehaviour.name(), misdeed))
                .or_default();
            *sum = sum.saturating_add(number);
        }
    }
    let name = "tap_reactor_misdeeds";
    let help = "What VMs that misbehave on purpose have done, by misbehaviour and kind.";
    page.begin_counter(name, help);
    for ((misbehaviour, misdeed), number) in done {
        let labels = [("misbehaviour", misbehaviour), ("kind", misdeed.name())];
        page.counter(name, &labels, number);
    }
}

/// Writes what became of the frames of streams, warm-ups not counted: gauges, since a frame that is lost may come still.
fn write_streams(page: &mut Page, counts: &StreamCounts) {
    for (count, doc) in StreamCounts::NAMES {
        let name = format!("tap_reactor_stream_frames_{count}");
        let frames = counts.get(count).unwrap_or(0);
        page.gauge(&name, doc.trim(), "", frames);
    }
}

/// Writes what was flooded, by kind. When the last copy of a frame came is no histogram of a scrape: another one may come.
fn write_floods(page: &mut Page, floods: &Floods) {
    type Of = fn(&FloodCounts) -> u64;
    let counters: [(&str, &str, Of); 4] = [
        (
            "tap_reactor_flooded_frames",
            "Frames that were flooded, by kind.",
            |of| of.frames,
        ),
        (
            "tap_reactor_flooded_copies",
            "Copies of flooded frames that VMs got, by kind.",
            |of| of.copies,
        ),
        (
            "tap_reactor_flooded_copies_repeated",
            "Copies of flooded frames beyond the first that a VM got, by kind.",
            |of| of.repeated,
        ),
        (
            "tap_reactor_flooded_copies_unwanted",
            "Copies of flooded frames that came to VMs which they are not for, by kind.",
            |of| of.unwanted,
        ),
    ];
    for (name, help, of) in counters {
        page.begin_counter(name, help);
        for kind in FloodKind::ALL {
            let number = floods.get(kind).map_or(0, of);
            page.counter(name, &[("kind", kind.name())], number);
        }
    }
}

/// The phases of one name.
struct NamedPhases<'a> {
    name: &'a str,
    parts: Vec<&'a Phase>,
    /// Their figures by group, where they are kept: of all that each flow has, so their sum is that of the phases.
    groups: Vec<(&'a str, GroupFigures)>,
}

/// The phases by the value of their label.
fn named_phases(recorder: &Recorder) -> Vec<NamedPhases<'_>> {
    let by_group = recorder.by_group();
    let pairs = by_group.map(|by_group| (MAX_PAIRS / by_group.most()).saturating_sub(1));
    let most = pairs.map_or(MAX_PHASES, |most| most.clamp(1, MAX_PHASES));
    let phases = recorder.phases().iter().enumerate();
    let phases = phases.map(|(index, phase)| (phase.name(), (index, phase)));
    let of_name = |(name, parts): (_, Vec<(usize, _)>)| {
        let (indices, parts): (Vec<usize>, _) = parts.into_iter().unzip();
        NamedPhases {
            name,
            parts,
            groups: by_group.map_or_else(Vec::new, |by_group| by_group.named(&indices)),
        }
    };
    by_name(phases, most).into_iter().map(of_name).collect()
}

impl NamedPhases<'_> {
    /// Writes `count`, of each group where flows have it.
    fn write_count(&self, page: &mut Page, name: &str, count: Count) {
        let phase = ("phase", self.name);
        if self.groups.is_empty() || !count.is_of_flows() {
            let totals: Totals = self.parts.iter().map(|part| *part.totals()).sum();
            return page.counter(name, &[phase], totals.get(count));
        }
        for (group, figures) in &self.groups {
            let value = figures.totals().get(count);
            page.counter(name, &[phase, ("group", group)], value);
        }
    }

    /// Writes the histogram of `metric`, of each group where pings have it.
    fn write_latency(&self, page: &mut Page, name: &str, metric: Metric) {
        let phase = ("phase", self.name);
        let groups = self.groups.iter();
        let of_groups = groups.filter_map(|(group, of)| Some((group, of.latency(metric)?)));
        let mut of_groups = of_groups.peekable();
        if of_groups.peek().is_none() {
            let parts = self.parts.iter().filter_map(|part| part.latency(metric));
            return page.latencies(name, phase, parts);
        }
        for (group, buckets) in of_groups {
            page.histogram(name, [phase, ("group", group)], buckets);
        }
    }
}

/// What has the same name, by name: a name may come again, and two series must not have the same labels. What has further
/// names than `most` is [`OTHER`](crate::record::OTHER) together.
fn by_name<'a, T>(
    items: impl Iterator<Item = (&'a str, T)>,
    most: usize,
) -> Vec<(&'a str, Vec<T>)> {
    let mut named: Vec<(&str, Vec<T>)> = Vec::new();
    for (name, item) in items {
        let name = known_or_other(name, named.iter().map(|(known, _)| *known), most);
        match named.iter_mut().find(|(known, _)| *known == name) {
            Some((_, parts)) => parts.push(item),
            None => named.push((name, vec![item])),
        }
    }
    named
}

/// Nanoseconds of a second.
const SECOND: u128 = 1_000_000_000;

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

    fn counter(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.sample(name, "_total", labels, value);
    }

    /// Writes a histogram of all values of `latencies`.
    fn latencies<'a>(
        &mut self,
        name: &str,
        label: (&str, &str),
        latencies: impl IntoIterator<Item = &'a Latency>,
    ) {
        let mut buckets = Buckets::default();
        latencies.into_iter().for_each(|part| buckets.add(part));
        self.histogram(name, [label, ("", "")], &buckets);
    }

    fn histogram(&mut self, name: &str, [one, two]: [(&str, &str); 2], buckets: &Buckets) {
        let mut within = 0_u64;
        for ((_, edge), count) in EDGES.iter().zip(buckets.counts) {
            within = within.saturating_add(count);
            self.sample(name, "_bucket", &[one, two, ("le", edge)], within);
        }
        let all = [one, two, ("le", "+Inf")];
        self.sample(name, "_bucket", &all, buckets.count);
        let (seconds, nanos) = (buckets.sum_ns / SECOND, buckets.sum_ns % SECOND);
        let sum = format_args!("{seconds}.{nanos:09}");
        self.sample(name, "_sum", &[one, two], sum);
        self.sample(name, "_count", &[one, two], buckets.count);
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
