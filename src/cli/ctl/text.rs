//! Documents of a lab in words for people. Names come from elsewhere, so they are escaped.

use serde_json::Value;
use tap_reactor::control::{
    AddedFlows, CaptureSoFar, ChangedVms, FlowDocument, ImpairmentsDocument, LabDocument, LabState,
    LoadDocument, MarkDocument, VmDocument,
};
use tap_reactor::escape::escaped;
use tap_reactor::record::{Count, LatencySummary, Totals};
use tap_reactor::report::{Table, count, counted, recording_notes, span, span_or_dash};

/// Events per second between two looks.
#[derive(Clone, PartialEq, Debug)]
pub struct Rates {
    /// Nanoseconds between them.
    pub elapsed_ns: u64,
    /// What happened in that time.
    pub totals: Totals,
    /// Frames that were dropped in it.
    pub drops: u64,
}

impl Rates {
    /// What happened from `before` to `lab`; `None` if that can't be told: nothing has passed, or the pings of one of them
    /// are a warm-up's and those of the other are not.
    pub fn between(before: &LabDocument, lab: &LabDocument) -> Option<Rates> {
        let elapsed_ns = lab.time_ns.saturating_sub(before.time_ns);
        let (of_before, of_lab) = (counts(before), counts(lab));
        let is_same = elapsed_ns > 0 && of_before.0 == of_lab.0;
        is_same.then(|| Rates {
            elapsed_ns,
            totals: of_lab.1.since(of_before.1),
            drops: lab.drops.total().saturating_sub(before.drops.total()),
        })
    }

    /// So many of something a second.
    pub fn per_second(&self, number: u64) -> String {
        let rate = number as f64 * 1e9 / self.elapsed_ns as f64;
        match rate < 10.0 && rate > 0.0 {
            true => format!("{rate:.1}"),
            false => count(rate.round() as u64),
        }
    }
}

/// The counts that grow at present, and whose they are: those of the warm-up that runs, or of all that counts.
fn counts(lab: &LabDocument) -> (Option<&str>, &Totals) {
    match lab.phases.last() {
        Some(phase) if !phase.counted => (Some(&phase.name), &phase.totals),
        _ => (None, &lab.totals),
    }
}

/// Joins lines.
pub fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

const fn state(state: LabState) -> &'static str {
    match state {
        LabState::Waiting => "waiting",
        LabState::Running => "running",
        LabState::Serving => "serving",
        LabState::Stopping => "stopping",
        LabState::Over => "over",
    }
}

/// Time since the set-up began.
pub fn time(nanos: u64) -> String {
    format!("{:.1} s", nanos as f64 / 1e9)
}

/// A line that says where the lab is.
fn head(lab: &LabDocument) -> String {
    let phase = lab.phase.as_ref();
    let phase = phase.map_or(String::new(), |name| format!("phase {}  ", escaped(name)));
    format!(
        "{}  {}  {phase}{}  {}",
        state(lab.state),
        time(lab.time_ns),
        counted(lab.vms as u64, "VM"),
        counted(lab.flows as u64, "flow"),
    )
}

/// The lab as a whole, with what happens a second if that is known.
pub fn lab(lab: &LabDocument, rates: Option<&Rates>) -> Vec<String> {
    let mut lines = vec![head(lab), escaped(&lab.run), String::new()];
    let headings: &[&str] = match rates {
        Some(_) => &["pings", "so far", "per second"],
        None => &["pings", "so far"],
    };
    let mut pings = Table::new(1, headings);
    let mut row = |what: String, number: u64, grown: Option<u64>| match rates.zip(grown) {
        Some((rates, grown)) => pings.row([what, count(number), rates.per_second(grown)]),
        None => pings.row([what, count(number)]),
    };
    for each in Count::ALL {
        let number = lab.totals.get(*each);
        let grown = rates.map(|rates| rates.totals.get(*each));
        let is_main = matches!(each, Count::Sent | Count::Received);
        if is_main || number > 0 || grown > Some(0) {
            row(each.words().to_owned(), number, grown);
        }
    }
    for (error, number) in &lab.errors {
        row(format!("reported {}", error.name()), *number, None);
    }
    if lab.drops.total() > 0 {
        row(
            "dropped frames".to_owned(),
            lab.drops.total(),
            rates.map(|rates| rates.drops),
        );
    }
    for (reason, frames) in lab.drops.iter() {
        row(format!("  {}", reason.name()), frames, None);
    }
    lines.extend(pings.lines());
    lines.push(String::new());
    lines.extend(latencies(lab));
    lines.extend(last_mark(lab));
    lines.extend(rules(lab));
    lines.extend(phases(lab));
    lines
}

/// The percentiles of the run and of the last second.
fn latencies(lab: &LabDocument) -> Vec<String> {
    let mut table = Table::new(1, &["", "p50", "p90", "p99", "p99.9", "max"]);
    let mut row = |what: String, summary: &LatencySummary| {
        let of = [
            summary.p50,
            summary.p90,
            summary.p99,
            summary.p99_9,
            summary.max,
        ];
        let [p50, p90, p99, p99_9, max] = of.map(span_or_dash);
        table.row([what, p50, p90, p99, p99_9, max]);
    };
    row("rtt".to_owned(), &lab.rtt_ns);
    if let Some(recent) = &lab.recent {
        let what = format!("  last {}", span(recent.length_ns));
        row(what, &recent.rtt_ns);
    }
    row("response".to_owned(), &lab.response_ns);
    if let Some(recent) = &lab.recent {
        let what = format!("  last {}", span(recent.length_ns));
        row(what, &recent.response_ns);
    }
    table.lines()
}

/// The last mark, in a line.
fn last_mark(lab: &LabDocument) -> Vec<String> {
    let Some(mark) = &lab.mark else {
        return Vec::new();
    };
    let line = format!(
        "mark {}  {} ago  {} of {} flows passed  first pass up to {}  last pass {}  longest gap {}",
        escaped(&mark.name),
        time(mark.since_ns),
        count(mark.passed),
        count(mark.flows),
        span_or_dash(mark.first_pass_ns),
        span_or_dash(mark.last_pass_ns),
        span_or_dash(mark.longest_gap_ns),
    );
    vec![String::new(), line]
}

fn rules(lab: &LabDocument) -> Vec<String> {
    let rules = lab
        .impairments
        .iter()
        .map(|rule| format!("impaired  {}", escaped(&rule.impair)));
    let rules: Vec<String> = rules.collect();
    match rules.is_empty() {
        true => rules,
        false => [vec![String::new()], rules].concat(),
    }
}

fn phases(lab: &LabDocument) -> Vec<String> {
    if lab.phases.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new(1, &["phase", "time", "sent", "received", "failed"]);
    for phase in &lab.phases {
        let totals = &phase.totals;
        table.row([
            escaped(&phase.name),
            time(phase.elapsed_ns),
            count(totals.sent),
            count(totals.received),
            count(totals.failed()),
        ]);
    }
    [vec![String::new()], table.lines()].concat()
}

/// The lab in a line.
pub fn line(lab: &LabDocument, rates: Option<&Rates>) -> String {
    let totals = &lab.totals;
    let rates = rates.map_or(String::new(), |rates| {
        let (sent, received) = (rates.totals.sent, rates.totals.received);
        format!(
            "  {} sent/s  {} received/s",
            rates.per_second(sent),
            rates.per_second(received)
        )
    });
    let recent = lab.recent.as_ref().map(|recent| &recent.rtt_ns);
    let (p50, p99) = recent.map_or((None, None), |rtt| (rtt.p50, rtt.p99));
    format!(
        "{}{rates}  {} sent  {} received  {} failed  {} dropped  rtt p50 {}  p99 {}",
        head(lab),
        count(totals.sent),
        count(totals.received),
        count(totals.failed()),
        count(lab.drops.total()),
        span_or_dash(p50),
        span_or_dash(p99),
    )
}

/// VMs in a table.
pub fn vms(vms: &[VmDocument]) -> String {
    let mut table = Table::new(5, &["VM", "state", "address", "IPv6 address", "MAC"]);
    let or_dash = |address: &Option<String>| address.as_deref().map_or("–".to_owned(), escaped);
    for vm in vms {
        let state = match (vm.is_up, vm.is_configuring) {
            (false, _) => "down",
            (true, true) => "configuring",
            (true, false) => "up",
        };
        table.row([
            escaped(&vm.name),
            state.to_owned(),
            or_dash(&vm.address),
            or_dash(&vm.address6),
            escaped(&vm.mac),
        ]);
    }
    lines(&table.lines())
}

/// Flows in a table.
pub fn flows(flows: &[FlowDocument]) -> String {
    lines(&flow_lines(flows))
}

/// The lines of [`flows`].
pub fn flow_lines(flows: &[FlowDocument]) -> Vec<String> {
    let headings = [
        "flow", "", "sent", "received", "failed", "rtt mean", "p99", "max",
    ];
    let mut table = Table::new(2, &headings);
    for FlowDocument { id, report } in flows {
        let (totals, rtt) = (&report.totals, &report.rtt_ns);
        table.row([
            id.to_string(),
            format!("{} → {}", escaped(&report.src), escaped(&report.dst)),
            count(totals.sent),
            count(totals.received),
            count(totals.failed()),
            span_or_dash(rtt.mean),
            span_or_dash(rtt.p99),
            span_or_dash(rtt.max),
        ]);
    }
    table.lines()
}

/// VMs that start or stop, as `verb` says.
pub fn changed(vms: &ChangedVms, verb: &str) -> String {
    let name = |name: &Option<String>| escaped(name.as_deref().unwrap_or_default());
    match vms.vms {
        0 => format!("no VMs {verb}\n"),
        1 => format!("{} {verb}s\n", name(&vms.first)),
        2 => format!("{} and {} {verb}\n", name(&vms.first), name(&vms.last)),
        many => format!(
            "{} VMs {verb}: {} to {}\n",
            count(many as u64),
            name(&vms.first),
            name(&vms.last)
        ),
    }
}

/// Flows that were added.
pub fn added(flows: &AddedFlows) -> String {
    let last = u64::from(flows.first) + (flows.flows as u64).saturating_sub(1);
    match flows.flows {
        0 => "no flows begin\n".to_owned(),
        1 => format!("flow {} begins\n", flows.first),
        many => format!(
            "{} flows begin: {} to {last}\n",
            count(many as u64),
            flows.first
        ),
    }
}

/// The load that was set.
pub fn load(load: &LoadDocument) -> String {
    let rate = load
        .rate
        .map(|rate| format!("{rate} pings per second over all flows\n"));
    let interval = load.interval.as_deref();
    let interval = interval.map(|time| format!("a ping of each flow every {}\n", escaped(time)));
    let window = load.window.map(|window| {
        let pings = counted(window.into(), "ping");
        format!("{pings} of each flow outstanding\n")
    });
    [rate, interval, window].into_iter().flatten().collect()
}

/// The impairments, and the frames that were impaired.
pub fn impairments(document: &ImpairmentsDocument) -> String {
    let mut text = match document.rules.is_empty() {
        true => "no impairments\n".to_owned(),
        false => String::new(),
    };
    for rule in &document.rules {
        text += &format!("{}\n", escaped(&rule.impair));
    }
    if document.frames.is_empty() {
        return text;
    }
    let mut table = Table::new(3, &["VM", "direction", "kind", "frames"]);
    for frames in &document.frames {
        table.row([
            frames.vm.to_string(),
            frames.direction.word().to_owned(),
            frames.kind.words().to_owned(),
            count(frames.frames),
        ]);
    }
    text + "\n" + &lines(&table.lines())
}

/// Captures in a table, and what is to be known of them besides: frames are missing, one has failed.
pub fn captures(captures: &[CaptureSoFar]) -> String {
    let mut table = Table::new(2, &["capture", "file", "frames"]);
    let mut told = Vec::new();
    for CaptureSoFar { id, recording } in captures {
        table.row([
            id.to_string(),
            escaped(&recording.file),
            count(recording.records),
        ]);
        let state = if recording.has_failed {
            "; has failed"
        } else {
            ""
        };
        let notes = format!("{state}{}", recording_notes(recording));
        if let Some(notes) = notes.strip_prefix("; ") {
            told.push(format!("capture {id}: {}", escaped(notes)));
        }
    }
    lines(&table.lines()) + &lines(&told)
}

/// A mark that was set.
pub fn mark(mark: &MarkDocument) -> String {
    format!("mark {} at {}\n", escaped(&mark.name), time(mark.time_ns))
}

/// An event, a line of JSON, in words: its time, its kind, and the rest by name. What is no event stays as it is.
pub fn event(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(line) else {
        return format!("{}\n", escaped(text.trim_end()));
    };
    let at = fields.remove("time_ns").and_then(|time| time.as_u64());
    let at = at.map_or(String::new(), |nanos| format!("{:.6}", nanos as f64 / 1e9));
    let mut word = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => escaped(&text),
        _ => String::new(),
    };
    let (vm, kind) = (word("vm"), word("kind").replace('_', " "));
    let mut text = format!("{at:>14}  {vm:<8}  {kind}");
    for (name, value) in &fields {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        text += &format!("  {} {}", escaped(name), escaped(&value));
    }
    text.trim_end().to_owned() + "\n"
}
