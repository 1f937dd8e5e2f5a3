//! The phases of a run: their flows, pacing and duration.

use std::ops::Range;
use std::time::Duration;

use super::PlanContext;
use super::impairments::impairments;
use super::places::Places;
use super::streams::{OF_PROBES, Streams, check_probes};
use crate::experiment::options::{self, Scope};
use crate::experiment::scenario::Scenario;
use crate::experiment::settings::{Origin, PACING, Setting, SettingError, Settings};
use crate::experiment::{FlowPlan, IpVersion, StreamPlan};
use crate::hypervisor::{Change, Phase};
use crate::load::{Arrivals, Pacing, PhaseLoad, Start};
use crate::record::{MarkName, NoMarkName};
use crate::vm::{MAX_OUTSTANDING, ProbeKind, VmId};

/// The highest rate that is taken for meant, in pings per second: one every 100 ns.
pub const MOST_PINGS: f64 = 1e7;
/// Steps of a ramp; each has histograms of its own, which take about a megabyte.
const MAX_STEPS: u32 = 100;

/// Flows, streams, phases, and for how long to serve if there are none.
type Plan = (Vec<FlowPlan>, Vec<StreamPlan>, Vec<Phase>, Option<Duration>);

/// Plans the phases. Of the flows, whose numbers are in the phases, lists the first, [`PlanContext::most_flows`] at most.
pub(super) fn phases(scenario: &Scenario, context: &PlanContext<'_>) -> Result<Plan, SettingError> {
    let defaults = &scenario.settings;
    let each: Vec<Settings> = if scenario.phases.is_empty() {
        vec![defaults.clone()]
    } else {
        scenario
            .phases
            .iter()
            .map(|phase| defaults.overlaid(phase))
            .collect()
    };
    let transitions = super::transitions::transitions(&each, context)?;
    let starting = transitions.iter().flatten();
    let starting = starting.filter(|transition| transition.change == Change::Start);
    let starting = starting.map(|transition| transition.vm);
    let mut places = Places::new(context, starting, defaults.get("control").is_some());
    let mut transitions = transitions.into_iter();
    let mut flows = Flows::default();
    let mut streams = Streams::default();
    let mut phases: Vec<Phase> = Vec::new();
    for (i, settings) in each.iter().enumerate() {
        let duration = settings
            .get("duration")
            .map(Setting::duration)
            .transpose()?;
        let sends = |name: &str| !settings.all(name).is_empty();
        if !sends("ping") && !sends("stream") {
            if scenario.phases.is_empty() {
                check_unused(settings, context)?;
                return Ok((Vec::new(), Vec::new(), Vec::new(), duration));
            }
            return Err(of_phase(
                scenario.phases.get(i),
                i,
                "no ping and no stream; expected one pattern or more",
            ));
        }
        let range = match sends("ping") {
            true => flows.of_phase(settings, context, phases.len())?,
            false => 0..0,
        };
        let is_last = i + 1 == each.len();
        let first = phases.len();
        add_phases(
            &mut phases,
            settings,
            range,
            duration,
            is_last,
            scenario.phases.get(i),
            i,
        )?;
        let of_streams = phases.get_mut(first..).unwrap_or_default();
        streams.add(settings, context, of_streams)?;
        // A warm-up, which goes before its phase, is no mark, and of a ramp the first step is.
        let mark = mark(settings)?;
        let mut marked = phases.iter_mut().skip(first);
        if let Some(phase) = marked.find(|phase| phase.is_counted) {
            phase.mark = mark;
        }
        let impairments = Some(impairments(settings, context)?);
        for phase in phases.iter_mut().skip(first) {
            phase.impairments.clone_from(&impairments);
        }
        // A warm-up goes before its phase, and a ramp has neither transitions nor misbehaviours.
        let misbehaviours = super::misbehaviours::misbehaviours(settings, duration, context)?;
        if let (Some(phase), Some(transitions)) = (phases.last_mut(), transitions.next()) {
            phase.transitions = transitions;
            phase.misbehaviours = misbehaviours;
            phase.moves = places.moves(settings, phase)?;
        }
    }
    if flows.number == 0 {
        check_probes(&each)?;
    }
    context.check_size(flows.number, phases.len())?;
    Ok((flows.listed, streams.planned, phases, None))
}

/// The error that a phase of a scenario is as a whole. Its place is where the first of its `own` settings stands.
fn of_phase(own: Option<&Settings>, index: usize, why: &str) -> SettingError {
    let phase = match own.and_then(|own| own.get("name")) {
        Some(name) => format!("phase {:?}", name.text),
        None => format!("phase {index}"),
    };
    let values = own
        .into_iter()
        .flat_map(Settings::iter)
        .flat_map(|(_, values)| values);
    let lines = values.filter_map(|setting| match &setting.origin {
        Origin::File { file, line } => Some((line, file)),
        Origin::Default | Origin::Flag { .. } => None,
    });
    SettingError::new(match lines.min() {
        Some((line, file)) => format!("{file}, line {line}: {phase}: {why}"),
        None => format!("{phase}: {why}"),
    })
}

/// The flows of the phases so far.
#[derive(Default)]
struct Flows<'a> {
    /// The first of them.
    listed: Vec<FlowPlan>,
    /// Their number.
    number: u64,
    last: Range<u32>,
    /// The texts of the last phase about its flows.
    words: Vec<&'a str>,
}

impl<'a> Flows<'a> {
    /// The numbers of the next phase's flows. The same flows again keep their sessions, sequence numbers and figures.
    fn of_phase(
        &mut self,
        settings: &'a Settings,
        context: &PlanContext<'_>,
        phases: usize,
    ) -> Result<Range<u32>, SettingError> {
        let patterns = settings.all("ping");
        let others = ["size", "ping-ipv6", "probe", "port"].map(|name| settings.get(name));
        let text = |setting: Option<&'a Setting>| setting.map_or("", |s| s.text.as_str());
        let words = patterns.iter().map(Some).chain(others).map(text);
        let words: Vec<_> = words.collect();
        if self.words == words {
            return Ok(self.last.clone());
        }
        let mut number = 0u64;
        for setting in patterns {
            number = number.saturating_add(context.count(setting)?);
        }
        let end = self.number.saturating_add(number);
        context.check_size(end, phases + 1)?;
        let over_ipv6 = settings.switch("ping-ipv6")?;
        let is_listed = self.listed.len() as u64 == self.number;
        let room = match is_listed {
            true => context.most_flows.saturating_sub(self.listed.len()),
            false => 0,
        };
        let mut planned = Vec::new();
        for setting in patterns {
            let most = room.saturating_sub(planned.len());
            planned.extend(context.flows(setting, settings, over_ipv6, most)?);
        }
        let last = self.last.start as usize..self.last.end as usize;
        self.words = words;
        if !planned.is_empty() && self.listed.get(last) == Some(&planned) {
            return Ok(self.last.clone());
        }
        // The size was checked: 32 bits are enough.
        self.last = self.number as u32..end as u32;
        self.number = end;
        match self.listed.is_empty() {
            true => self.listed = planned,
            false => self.listed.append(&mut planned),
        }
        Ok(self.last.clone())
    }
}

/// Adds one phase, and before it a warm-up, or a step for each step of a ramp.
fn add_phases(
    phases: &mut Vec<Phase>,
    settings: &Settings,
    flows: Range<u32>,
    duration: Option<Duration>,
    is_last: bool,
    own: Option<&Settings>,
    index: usize,
) -> Result<(), SettingError> {
    let pacing = pacing(settings)?;
    let arrivals = arrivals(settings, &pacing)?;
    let count = count(settings)?;
    let start = start(settings)?;
    let name = match own.map(|own| own.get("name")) {
        None => String::new(),
        Some(None) => format!("phase {index}"),
        Some(Some(name)) => name.text.clone(),
    };
    if count.is_none() && duration.is_none() && !is_last {
        let why = "never ends; expected a count, a duration, or both";
        return Err(of_phase(own, index, why));
    }
    let load = PhaseLoad {
        flows: flows.into(),
        pacing: pacing.first(),
        arrivals,
        count,
        start,
    };
    if let Some(warmup) = settings.get("warmup").map(Setting::duration).transpose()? {
        let load = PhaseLoad {
            count: None,
            ..load.clone()
        };
        let name = "warm-up".to_owned();
        phases.push(Phase {
            name,
            is_counted: false,
            load,
            streams: Vec::new(),
            duration: Some(warmup),
            transitions: Vec::new(),
            misbehaviours: Vec::new(),
            misbehaviours_elsewhere: Vec::new(),
            moves: Vec::new(),
            impairments: None,
            mark: None,
            splits: None,
        });
    }
    match pacing {
        Sending::Steady(_) => phases.push(Phase {
            name,
            is_counted: true,
            load,
            streams: Vec::new(),
            duration,
            transitions: Vec::new(),
            misbehaviours: Vec::new(),
            misbehaviours_elsewhere: Vec::new(),
            moves: Vec::new(),
            impairments: None,
            mark: None,
            splits: None,
        }),
        Sending::Ramp(steps, setting) => {
            let total = duration.ok_or_else(|| {
                setting.error("a ramp is spread over a duration; expected --duration beside it")
            })?;
            if let Some(count) = settings.get("count") {
                let why = format_args!(
                    "cannot be used with {}; a ramp goes by its duration",
                    count.flag()
                );
                return Err(setting.error(why));
            }
            let step = total / steps.len() as u32;
            for rate in steps {
                let prefix = if name.is_empty() {
                    String::new()
                } else {
                    format!("{name}, ")
                };
                phases.push(Phase {
                    name: format!("{prefix}{} {}/s", rate.round(), what(settings)),
                    is_counted: true,
                    load: PhaseLoad {
                        pacing: Pacing::Rate(rate),
                        ..load.clone()
                    },
                    streams: Vec::new(),
                    duration: Some(step),
                    transitions: Vec::new(),
                    misbehaviours: Vec::new(),
                    misbehaviours_elsewhere: Vec::new(),
                    moves: Vec::new(),
                    impairments: None,
                    mark: None,
                    splits: None,
                });
            }
        }
    }
    Ok(())
}

/// What the pace of a phase is that of.
fn what(settings: &Settings) -> &'static str {
    match settings.all("ping") {
        [] => "frames",
        _ => "pings",
    }
}

/// The pacing of a phase, as it was asked for.
enum Sending<'a> {
    Steady(Pacing),
    Ramp(Vec<f64>, &'a Setting),
}

impl Sending<'_> {
    fn first(&self) -> Pacing {
        match self {
            Sending::Steady(pacing) => *pacing,
            Sending::Ramp(rates, _) => Pacing::Rate(rates.first().copied().unwrap_or(1.0)),
        }
    }
}

/// The pacing that settings ask for, which are no ramp.
pub(super) fn steady_pacing(settings: &Settings) -> Result<Pacing, SettingError> {
    pacing(settings).map(|sending| sending.first())
}

fn pacing(settings: &Settings) -> Result<Sending<'_>, SettingError> {
    let given: Vec<&Setting> = PACING
        .iter()
        .filter_map(|name| settings.get(name))
        .collect();
    let setting = match given.as_slice() {
        [] => {
            let interval = settings.or_default("interval").duration()?;
            return Ok(Sending::Steady(Pacing::Interval(interval)));
        }
        [setting] => *setting,
        [first, second, ..] => {
            let why = format_args!(
                "cannot be used with {}; expected one of them",
                second.flag()
            );
            return Err(first.error(why));
        }
    };
    Ok(match setting.name {
        "rate" => Sending::Steady(Pacing::Rate(rate(setting, &setting.text)?)),
        "window" => {
            let window = setting.number_in(1..=MAX_OUTSTANDING as u32)?;
            Sending::Steady(Pacing::Window(window))
        }
        "ramp" => Sending::Ramp(ramp(setting)?, setting),
        _ => Sending::Steady(Pacing::Interval(setting.duration()?)),
    })
}

pub(super) fn rate(setting: &Setting, text: &str) -> Result<f64, SettingError> {
    setting.rate(text, "pings", MOST_PINGS)
}

/// The error of a ramp in a phase in which VMs do something at times of their own, by the option that says so.
pub(super) fn no_ramp(ramp: &Setting, beside: &str) -> SettingError {
    ramp.error(format_args!(
        "cannot be used in a phase with {beside}, because each of its steps is a phase of its own; expected a rate or an \
         interval instead"
    ))
}

fn ramp(setting: &Setting) -> Result<Vec<f64>, SettingError> {
    let expected = || {
        setting.error(format_args!(
            "expected FROM:TO:STEPS, such as 1000:50000:10, with 2 to {MAX_STEPS} steps"
        ))
    };
    let [from, to, steps] = setting.text.split(':').collect::<Vec<_>>()[..] else {
        return Err(expected());
    };
    let (from, to) = (rate(setting, from)?, rate(setting, to)?);
    let steps: u32 = steps.parse().map_err(|_| expected())?;
    if !(2..=MAX_STEPS).contains(&steps) {
        return Err(expected());
    }
    let step = (to - from) / f64::from(steps - 1);
    Ok((0..steps).map(|i| from + step * f64::from(i)).collect())
}

fn arrivals(settings: &Settings, sending: &Sending<'_>) -> Result<Arrivals, SettingError> {
    let setting = settings.or_default("arrivals");
    if settings.get("arrivals").is_some() && matches!(sending, Sending::Steady(Pacing::Window(_))) {
        return Err(setting.error(
            "a window has no arrivals of its own; expected an interval, a rate or a ramp beside it",
        ));
    }
    Ok(match setting.choice()? {
        "poisson" => Arrivals::Poisson,
        _ => Arrivals::Uniform,
    })
}

/// The times at which the flows' first pings are due.
fn start(settings: &Settings) -> Result<Start, SettingError> {
    match settings.get("stagger") {
        None => Ok(Start::Spread),
        Some(setting) => setting.duration_or_none().map(Start::Within),
    }
}

/// A load without pings was not meant, whether it could be or not.
fn check_unused(settings: &Settings, context: &PlanContext<'_>) -> Result<(), SettingError> {
    let sending = pacing(settings)?;
    arrivals(settings, &sending)?;
    start(settings)?;
    count(settings)?;
    let icmp = (IpVersion::V4, ProbeKind::Icmp);
    context.payload_length(VmId(0), settings.get("size"), icmp)?;
    // VMs that only answer do that for a time, too, and may be impaired.
    let unused = options::settings()
        .filter(|option| option.scope == Scope::Load)
        .filter(|option| !["duration", "impair"].contains(&option.name));
    let mut given = unused.filter_map(|option| Some((option.name, settings.get(option.name)?)));
    let Some((name, setting)) = given.next() else {
        return Ok(());
    };
    let or_stream = match name == "window" || OF_PROBES.contains(&name) {
        true => "",
        false => ", or a --stream",
    };
    Err(setting.error(format_args!(
        "nothing is pinged; expected a ping pattern beside it, such as --ping vm0:vm1{or_stream}"
    )))
}

/// The name of the mark that a phase is, if it is one: its own.
fn mark(settings: &Settings) -> Result<Option<MarkName>, SettingError> {
    let Some(setting) = settings.get("mark") else {
        return Ok(None);
    };
    if !setting.switch()? {
        return Ok(None);
    }
    let Some(name) = settings.get("name") else {
        return Err(setting.error("the phase has no name; expected one, which is that of the mark"));
    };
    let mark = name.text.parse();
    mark.map(Some)
        .map_err(|error: NoMarkName| name.error(error))
}

fn count(settings: &Settings) -> Result<Option<u64>, SettingError> {
    let expected = "a whole number from 1 on";
    let Some(setting) = settings.get("count") else {
        return Ok(None);
    };
    match setting.number(expected)? {
        0 => Err(setting.error(format_args!("expected {expected}"))),
        count => Ok(Some(count)),
    }
}
