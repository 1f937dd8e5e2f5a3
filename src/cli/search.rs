//! `search [SCENARIO.toml] --goal GOAL`: the greatest load that meets a goal, found by trials.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use structopt::clap::ArgMatches;
use tap_reactor::experiment::options::{Kind, settings as variable};
use tap_reactor::experiment::{
    Experiment, Origin, PACING, Processes, Scenario, Setting, Settings, describe,
};
use tap_reactor::lab::Lab;
use tap_reactor::record::DropReason;
use tap_reactor::report::{
    Destination, GoalReport, Report, SEARCH_SCHEMA, SearchExpectation, SearchReport, TrialReport,
    check_search, progress, search_json, search_text, trial_words, write_search,
};
use tap_reactor::search::{Goal, Ladder, Planned, Search, Verdict};
use tap_reactor::system::{EarlySignals, SignalsBetween};
use tap_reactor::time::{Clock as _, Instant, MonotonicClock};

use super::run::{self, RunError};
use super::words::Words;
use super::{Request, Runs, UNCOUNTED, UsageError, app, console, files};

/// In values of settings: the load.
const PLACE: &str = "{}";

/// The axis that is pings per second.
const RATE: &str = "rate";

/// What ends a search before it is done.
const BY_SIGNAL: &str = "a signal came before the search was done";
const BY_TIME: &str = "the time box left no time for another trial before the search was done";

/// The range of a rate, and of what is counted, where none is given.
const RATES: RangeInclusive<f64> = 100.0..=10e6;
const COUNTS: RangeInclusive<f64> = 2.0..=10_000.0;

/// How long pings of a trial are sent before any is counted, where nothing else is said.
const WARM_UP: &str = "100ms";

/// A search that was asked for.
#[derive(Debug)]
pub struct Asked {
    trials: Trials,
    goals: Vec<Goal>,
    range: RangeInclusive<f64>,
    ladder: Ladder,
    time: Option<Duration>,
    reports: Vec<Destination>,
    expectations: Vec<SearchExpectation>,
    json: bool,
    quiet: bool,
}

/// How a trial is planned.
#[derive(Debug)]
struct Trials {
    command: String,
    axis: String,
    /// The name and the text of the scenario, if there is one.
    file: Option<(String, String)>,
    given: Settings,
    /// The axis is a setting; else the load is put where [`PLACE`] is.
    setting: Option<&'static str>,
}

/// Reads the words after `search`.
pub(super) fn request(
    command: String,
    words: &Words,
    matches: &ArgMatches<'_>,
) -> Result<Request, UsageError> {
    let given = super::settings(words, matches);
    let operands: Vec<&str> = matches
        .values_of(app::OPERAND)
        .into_iter()
        .flatten()
        .collect();
    let path = match operands.as_slice() {
        [] => None,
        [one] => Some(PathBuf::from(one)),
        _ => return Err(UsageError::new("search: expected one scenario at most")),
    };
    let file = match &path {
        None => None,
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| UsageError::new(format_args!("{name}: {error}")))?;
            Some((name, text))
        }
    };
    let goals = goals(&given)?;
    let Some(axis) = goals.first().map(|goal| goal.axis.clone()) else {
        let why = "search: expected --goal with what is varied and what is to hold, such as --goal 'rate: loss<=0.1%'";
        return Err(UsageError::new(why));
    };
    let option = variable().find(|option| option.name == axis && !option.is_repeatable);
    let setting =
        option.filter(|option| matches!(option.kind, Kind::Whole | Kind::Sizes | Kind::Number));
    let is_placed = file.iter().any(|(_, text)| text.contains(PLACE))
        || given
            .iter()
            .any(|(_, all)| all.iter().any(|one| one.text.contains(PLACE)));
    let goal = given.get("goal");
    let wrong = |why: String| match goal {
        Some(goal) => UsageError::from(goal.error(why)),
        None => UsageError::new(why),
    };
    if setting.is_none() && !is_placed {
        return Err(wrong(format!(
            "{axis} is no setting with a number, such as rate or vms; expected one, or {PLACE} for the load in the value of \
             another setting, such as --ping 'random:{PLACE}'"
        )));
    }
    if let Some(other) = setting.and_then(|option| given.get(option.name)) {
        return Err(other
            .error(format_args!("cannot be used with --goal {axis}"))
            .into());
    }
    let is_rate = axis == RATE;
    let range = range(&given, if is_rate { RATES } else { COUNTS })?;
    let width = goals.iter().map(|goal| goal.width).fold(1.0, f64::min);
    let ladder = Ladder::new(&range, width, !is_rate).ok_or_else(|| {
        wrong(format!(
            "no two loads are between {} and {}; expected a wider --range",
            range.start(),
            range.end()
        ))
    })?;
    let time = given.get("time-box").map(Setting::duration).transpose()?;
    let expectations = given.all("expect").iter().map(|setting| {
        setting
            .text
            .parse::<SearchExpectation>()
            .map_err(|error| setting.error(error))
    });
    let expectations = expectations.collect::<Result<Vec<_>, _>>()?;
    let inputs: Vec<PathBuf> = path.into_iter().collect();
    let reports = files::destinations(&given, &inputs, check_search)?;
    let (json, quiet) = (given.switch("json")?, given.switch("quiet")?);
    let is_dry_run = given.switch("dry-run")?;
    let trials = Trials {
        command,
        axis,
        file,
        given: given.of_experiment(),
        setting: setting.map(|option| option.name),
    };
    let asked = Asked {
        trials,
        goals,
        range,
        ladder,
        time,
        reports,
        expectations,
        json,
        quiet,
    };
    let plan = asked.check()?;
    Ok(match is_dry_run {
        true => Request::Print(asked.describe(&plan)),
        false => Request::Search(Box::new(asked)),
    })
}

fn goals(given: &Settings) -> Result<Vec<Goal>, UsageError> {
    let mut goals: Vec<Goal> = Vec::new();
    for setting in given.all("goal") {
        let goal: Goal = setting.text.parse().map_err(|error| setting.error(error))?;
        if let Some(first) = goals.first().filter(|first| first.axis != goal.axis) {
            let why = format_args!(
                "expected {} before the colon, as in the first goal",
                first.axis
            );
            return Err(setting.error(why).into());
        }
        goals.push(goal);
    }
    Ok(goals)
}

/// The loads that are tried: those that are asked for, or else those of `default`.
fn range(
    given: &Settings,
    default: RangeInclusive<f64>,
) -> Result<RangeInclusive<f64>, UsageError> {
    let Some(setting) = given.get("range") else {
        return Ok(default);
    };
    let parsed = setting.text.split_once("..").and_then(|(least, greatest)| {
        let number = |text: &str| tap_reactor::experiment::number(text.trim());
        Some((number(least)?, number(greatest)?))
    });
    match parsed.filter(|(least, greatest)| *least > 0.0 && least < greatest) {
        Some((least, greatest)) => Ok(least..=greatest),
        None => {
            let why = "expected the least and the greatest load, such as 1k..1M";
            Err(setting.error(why).into())
        }
    }
}

impl Trials {
    /// The load as a value of a setting.
    fn text(&self, load: f64) -> String {
        match self.axis.as_str() {
            RATE if load < 1_000.0 => format!("{load:.3}"),
            _ => format!("{load:.0}"),
        }
    }

    /// Makes sure that a scenario leaves to the search how long its trials are, and at which rate pings are sent if that is searched.
    fn check_file(&self, file: &Scenario) -> Result<(), UsageError> {
        let wrong =
            "the search decides how long a trial is and what it sends; expected a scenario without";
        let refuse =
            |of: &Settings, names: &[&str]| match names.iter().find_map(|name| of.get(name)) {
                Some(setting) => Err(UsageError::from(setting.error(wrong))),
                None => Ok(()),
            };
        refuse(&file.settings, &["count", "ramp"])?;
        for phase in &file.phases {
            refuse(phase, &["count", "ramp", "duration"])?;
            if self.axis == RATE {
                refuse(phase, PACING)?;
            }
        }
        Ok(())
    }

    /// The plan of a trial at `load`.
    fn plan(&self, load: f64, duration: Duration) -> Result<Experiment, UsageError> {
        let text = self.text(load);
        let file = self
            .file
            .as_ref()
            .map(|(name, scenario)| Scenario::parse(name, &scenario.replace(PLACE, &text)));
        let mut given = Settings::default();
        for (name, settings) in self.given.iter() {
            // What is said of the search as a whole.
            for setting in settings
                .iter()
                .filter(|_| !["expect", "output"].contains(&name))
            {
                let mut setting = setting.clone();
                setting.text = setting.text.replace(PLACE, &text);
                given.add(setting);
            }
        }
        let mut add = |name, text| {
            given.add(Setting {
                name,
                text,
                origin: Origin::Flag { is_short: false },
            });
        };
        if let Some(name) = self.setting {
            add(name, text);
        }
        add("duration", format!("{}ns", duration.as_nanos()));
        let file = file.transpose()?.unwrap_or_default();
        self.check_file(&file)?;
        let is_said = given
            .get("warmup")
            .or(file.settings.get("warmup"))
            .is_some();
        if self.axis == RATE && !is_said {
            given.add_flag("warmup", WARM_UP);
        }
        let runs = Runs {
            command: self.command.clone(),
            quiet_flag: String::new(),
            file,
            inputs: Vec::new(),
        };
        runs.plan(&given, Processes::One)
            .map(|(experiment, _)| experiment)
    }
}

impl Asked {
    /// Makes sure that trials can be planned, and returns the plan of one at the least load.
    fn check(&self) -> Result<Experiment, UsageError> {
        let plan = |load: f64| {
            let duration = self.goals.iter().map(|goal| goal.initial).min();
            let planned = self.trials.plan(load, duration.unwrap_or_default());
            planned.map_err(|error| match self.trials.setting {
                Some(name) => UsageError::new(format_args!(
                    "a trial with {name}={} can't be made: {error}",
                    self.trials.text(load)
                )),
                None => error,
            })
        };
        plan(*self.range.end())?;
        let experiment = plan(*self.range.start())?;
        if let Some(goal) = self.goals.iter().find(|goal| goal.is_of_floods())
            && !experiment.counts_floods()
        {
            return Err(UsageError::new(format_args!("--goal {goal}: {UNCOUNTED}")));
        }
        let counted = experiment.phases.iter().filter(|phase| phase.is_counted);
        match counted.count() {
            1 if self.trials.setting == Some(RATE) && !experiment.has_common_rate() => {
                Err(UsageError::new(
                    "search: each stream has a rate of its own, and nothing has that of the goal; expected a stream without one, or \
                     rate={} behind its pattern and another word than rate before the colon of the goal",
                ))
            }
            1 => Ok(experiment),
            0 => Err(UsageError::new(
                "search: nothing is pinged in a trial; expected a ping pattern, such as --ping vm0:vm1, or a --stream",
            )),
            phases => Err(UsageError::new(format_args!(
                "search: the scenario has {phases} phases; expected none, as a trial is a single one"
            ))),
        }
    }

    fn describe(&self, plan: &Experiment) -> String {
        let show = |load: f64| self.trials.text(load);
        let (least, greatest) = (show(*self.range.start()), show(*self.range.end()));
        let mut text = format!(
            "Search for {} from {least} to {greatest}\n",
            self.trials.axis
        );
        for goal in &self.goals {
            text += &format!(
                "{goal}\n  bounds within {} %; trials of {:?} to {:?}, {:?} at a bound, {} % of that may be bad\n",
                goal.width * 100.0,
                goal.initial,
                goal.last,
                goal.sum,
                goal.exceed * 100.0
            );
        }
        text + &format!("\nThe trial with the least load:\n\n{}", describe(plan))
    }

    /// Makes the trials, and reports what was found. Returns true if it was as expected: it was done, with a lower bound for each goal,
    /// and every expectation held.
    ///
    /// A signal ends the trial that it comes in, and the search; so does the end of the time. What is known then is reported.
    ///
    /// # Errors
    /// If the system refuses a trial, or the report can't be written.
    pub fn run(mut self, early: Option<EarlySignals>) -> Result<bool, RunError> {
        // First, because it restores what was before it.
        drop(early);
        let signals = SignalsBetween::new()?;
        let mut started = None;
        let began = MonotonicClock.now();
        let is_rate = self.trials.axis == RATE;
        let mut search = Search::new(self.goals.clone(), self.ladder.clone(), is_rate);
        let mut trials: Vec<TrialReport> = Vec::new();
        let mut error = None;
        let mut ended_by = None;
        while let Some(planned) = search.next() {
            if signals.has_come() {
                ended_by = Some(BY_SIGNAL.to_owned());
                break;
            }
            if self.is_over(began, &planned) {
                ended_by = Some(BY_TIME.to_owned());
                break;
            }
            let report = match self.trial(&planned) {
                Ok(report) => report,
                Err(refused) => {
                    ended_by = Some(format!("a trial has failed: {refused}"));
                    error = Some(refused);
                    break;
                }
            };
            if report.interrupted {
                ended_by = Some(BY_SIGNAL.to_owned());
                break;
            }
            started = started.or(report.started_unix_ms);
            let verdict = self.judge(&report);
            let trial = TrialReport::new(&planned, &verdict, &report);
            search.record(planned, verdict);
            if !self.quiet {
                let axis = &self.trials.axis;
                let (words, known) = (trial_words(axis, &trial), progress(axis, &search));
                console::eprint(format_args!("{words}; between {known}"));
            }
            trials.push(trial);
        }
        let findings = search.findings();
        let goals = self.goals.iter().zip(&findings);
        let mut report = SearchReport {
            schema: SEARCH_SCHEMA.to_owned(),
            tool: concat!("tap-reactor ", env!("CARGO_PKG_VERSION")).to_owned(),
            run: self.trials.command.clone(),
            started_unix_ms: started,
            elapsed_ns: MonotonicClock.now().nanos_since(began),
            interrupted: ended_by.is_some(),
            axis: self.trials.axis.clone(),
            least: *self.range.start(),
            greatest: *self.range.end(),
            goals: goals
                .map(|(goal, finding)| GoalReport::new(goal, finding))
                .collect(),
            trials,
            expectations: Vec::new(),
            shortcomings: ended_by.into_iter().collect(),
        };
        let checked = self.expectations.iter().map(|each| each.check(&report));
        report.expectations = checked.collect();
        let written = self.tell(&report);
        run::last_of(error.into_iter().chain(written).collect())?;
        Ok(report.why_failed().is_empty())
    }

    /// Returns true if there is no time left for a trial.
    fn is_over(&self, began: Instant, planned: &Planned) -> bool {
        self.time
            .is_some_and(|time| MonotonicClock.now() + planned.duration > began + time)
    }

    /// Makes a trial in a lab of its own.
    fn trial(&self, planned: &Planned) -> Result<Report, RunError> {
        let experiment = self.trials.plan(planned.load, planned.duration);
        let experiment = experiment.map_err(|error| std::io::Error::other(error.to_string()))?;
        let mut lab = Lab::build(&experiment, &mut ())?;
        lab.run(&mut ());
        let report = lab.report(&self.trials.command);
        lab.close()?;
        Ok(report)
    }

    /// What a trial tells of. Where all that is to hold does, the network has carried the load, however hard that was for the
    /// tool, as long as it was sent; and what it has flooded it has flooded.
    fn judge(&self, report: &Report) -> Verdict {
        let good: Vec<bool> = self.goals.iter().map(|goal| goal.holds(report)).collect();
        let unsent =
            report.totals.unsent + report.stream_counts.map_or(0, |streams| streams.unsent);
        let is_sent = unsent == 0 && report.drops.get(DropReason::TooManyOutstanding) == 0;
        let is_bad_by_itself = self.goals.iter().any(|goal| !goal.is_up_to_tool(report));
        if is_bad_by_itself || is_sent && good.iter().all(|good| *good) {
            return Verdict::Measured {
                good,
                loss: report.loss(),
            };
        }
        if report.verdict.disturbed {
            return Verdict::Disturbed;
        }
        if report.verdict.limited_by_tool || !is_sent {
            let reached = match report.is_of_streams() {
                true => report.stream_load(),
                false => report.rate_per_s,
            };
            let is_rate = self.trials.axis == RATE;
            return Verdict::Limited(is_rate.then_some(reached));
        }
        Verdict::Measured {
            good,
            loss: report.loss(),
        }
    }

    /// Writes and prints the report, and why the search fails; returns what could not be.
    fn tell(&mut self, report: &SearchReport) -> Vec<RunError> {
        let files = std::mem::take(&mut self.reports).into_iter();
        let written = files.filter_map(|file| write_search(file, report).err());
        let mut errors: Vec<RunError> = written.map(RunError::from).collect();
        for why in report.why_failed() {
            console::eprint(format_args!("tap-reactor: {why}"));
        }
        let printed = match (self.json, self.quiet) {
            (true, _) => console::print(|out| search_json(report, out)),
            (false, true) => Ok(()),
            (false, false) => console::print(|out| search_text(report, out)),
        };
        errors.extend(printed.err().map(RunError::from));
        errors
    }
}
