//! `--sweep SETTING=VALUES`: the same experiment once for each value of one setting, and the runs side by side.

use std::collections::HashSet;

use tap_reactor::experiment::options::{Kind, settings as swept, suggestion};
use tap_reactor::experiment::{Experiment, Origin, Setting, Settings};
use tap_reactor::report::{self, Destination, Report};
use tap_reactor::system::{EarlySignals, SignalsBetween};

use super::run::{self, RunError};
use super::{Output, UsageError, console, options};

/// In the name of a file: the value.
const PLACE: &str = "{}";

/// So many values may be given.
const MOST_VALUES: usize = 100;

/// The values of one setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Axis {
    name: &'static str,
    values: Vec<String>,
}

/// Runs that differ in the value of one setting.
#[derive(Debug)]
pub struct Sweep {
    axis: &'static str,
    runs: Vec<Run>,
    /// Files for the comparison.
    comparisons: Vec<Destination>,
}

#[derive(Debug)]
struct Run {
    value: String,
    experiment: Experiment,
    output: Output,
}

impl Axis {
    /// Reads the option; `given` are the flags beside it.
    pub(super) fn new(setting: &Setting, given: &Settings) -> Result<Axis, UsageError> {
        let split = setting
            .text
            .split_once('=')
            .filter(|(_, values)| !values.is_empty());
        let Some((name, values)) = split else {
            let why = "expected a setting and its values, such as vms=10,100,1000";
            return Err(setting.error(why).into());
        };
        let Some(option) = swept().find(|option| option.name == name) else {
            let meant = suggestion(name, "", swept().map(|option| option.name));
            let why = match options::run().iter().any(|option| option.name == name) {
                true => format!("{name} is no setting of an experiment; expected one, such as vms"),
                false => format!("there is no setting {name}{meant}"),
            };
            return Err(setting.error(why).into());
        };
        if option.is_repeatable || option.kind == Kind::Path {
            let why = format_args!("{name} can't be swept; expected a setting that has one value");
            return Err(setting.error(why).into());
        }
        if let Some(other) = given.get(option.name) {
            let why = format_args!("cannot be used with --sweep {name}");
            return Err(other.error(why).into());
        }
        let values: Vec<String> = values
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        let mut seen = HashSet::new();
        if let Some(again) = values.iter().find(|value| !seen.insert(value.as_str())) {
            let why = format_args!("{again} is given twice; expected each value once");
            return Err(setting.error(why).into());
        }
        if !(2..=MOST_VALUES).contains(&values.len()) {
            let why = format_args!("expected 2 to {MOST_VALUES} values, such as vms=10,100,1000");
            return Err(setting.error(why).into());
        }
        Ok(Axis {
            name: option.name,
            values,
        })
    }

    /// The names of the runs, such as `vms=10`.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let values = self.values.iter();
        values.map(|value| format!("{}={value}", self.name))
    }

    /// What is given for the run with each value: the value, and files of its own.
    ///
    /// # Errors
    /// If the runs would overwrite each other's files.
    pub(super) fn of_runs(&self, given: &Settings) -> Result<Vec<Settings>, UsageError> {
        let runs = self.values.iter().map(|value| {
            let mut of_run = Settings::default();
            for (_, settings) in given.iter() {
                for setting in settings {
                    if let Some(setting) = for_value(setting, value)? {
                        of_run.add(setting);
                    }
                }
            }
            of_run.add(Setting {
                name: self.name,
                text: value.clone(),
                origin: Origin::Flag { is_short: false },
            });
            Ok(of_run)
        });
        runs.collect()
    }
}

/// What `setting` is for the run with `value`: `None` if it is none of the run's, but of the comparison.
fn for_value(setting: &Setting, value: &str) -> Result<Option<Setting>, UsageError> {
    let mut setting = setting.clone();
    if !is_written(setting.name) {
        return Ok(Some(setting));
    }
    if setting.text.contains(PLACE) {
        setting.text = setting.text.replace(PLACE, &value.replace('/', "-"));
        return Ok(Some(setting));
    }
    match setting.name {
        "output" => Ok(None),
        _ => {
            let why = format_args!(
                "each run of --sweep would write there; expected {PLACE} in the name, for the value"
            );
            Err(setting.error(why).into())
        }
    }
}

/// Returns true of a setting that names what a run makes.
fn is_written(name: &str) -> bool {
    ["output", "capture", "trace", "control"].contains(&name)
}

/// The settings of the comparison's files.
pub(super) fn of_comparison(given: &Settings) -> Settings {
    let mut outputs = Settings::default();
    let all = given.all("output").iter();
    let whole = all.filter(|setting| !setting.text.contains(PLACE));
    whole.for_each(|setting| outputs.add(setting.clone()));
    outputs
}

impl Sweep {
    /// The runs of `axis`, and where their comparison is to go.
    ///
    /// # Errors
    /// If a run would overwrite a comparison.
    pub(super) fn new(
        axis: &Axis,
        runs: Vec<(Experiment, Output)>,
        comparisons: Vec<Destination>,
    ) -> Result<Sweep, UsageError> {
        let all = runs.iter().flat_map(|(_, output)| &output.reports);
        for report in all {
            if comparisons
                .iter()
                .any(|comparison| comparison.is_same(report))
            {
                let path = report.path().display();
                let why = format_args!(
                    "--output {path}: both a run's report and the comparison; expected another file"
                );
                return Err(UsageError::new(why));
            }
        }
        let runs = axis.values.iter().zip(runs);
        Ok(Sweep {
            axis: axis.name,
            runs: runs
                .map(|(value, (experiment, output))| Run {
                    value: value.clone(),
                    experiment,
                    output,
                })
                .collect(),
            comparisons,
        })
    }

    /// Runs one experiment after the other, and reports them side by side. Returns true if all were as expected.
    ///
    /// A signal ends the run that it comes in, and no other begins. What was measured until then is reported, as it is if
    /// the system refuses a run.
    ///
    /// # Errors
    /// If the system refuses a run, or the comparison can't be written.
    pub fn run(self, early: Option<EarlySignals>) -> Result<bool, RunError> {
        // First, because it restores what was before it.
        drop(early);
        let signals = SignalsBetween::new()?;
        let mut is_as_expected = true;
        let mut done: Vec<(String, Report)> = Vec::new();
        let mut error = None;
        let (json, quiet) = self
            .runs
            .first()
            .map_or((false, false), |run| (run.output.json, run.output.quiet));
        let mut skipped: Vec<String> = Vec::new();
        for run in self.runs {
            let name = format!("{}={}", self.axis, run.value);
            if signals.has_come() || error.is_some() {
                is_as_expected = false;
                skipped.push(name);
                continue;
            }
            if !quiet {
                console::eprint(format_args!("{name}"));
            }
            match run::measure(&run.experiment, &run.output, None, |_| Ok(())) {
                Ok((report, is_met)) => {
                    is_as_expected &= is_met;
                    done.push((name, report));
                }
                Err(refused) => error = Some(refused),
            }
        }
        if !skipped.is_empty() {
            console::eprint(format_args!("tap-reactor: not run: {}", skipped.join(", ")));
        }
        let written = tell(self.axis, &done, self.comparisons, json, quiet);
        run::last_of(error.into_iter().chain(written.err()).collect())?;
        Ok(is_as_expected)
    }
}

/// Reports the runs side by side, and where they break; a single one by itself.
fn tell(
    axis: &str,
    done: &[(String, Report)],
    comparisons: Vec<Destination>,
    json: bool,
    quiet: bool,
) -> Result<(), RunError> {
    let runs: Vec<_> = done
        .iter()
        .map(|(name, run)| (name.as_str(), run))
        .collect();
    if let [(_, only)] = runs.as_slice() {
        return Ok(run::print_report(only, json, quiet, false)?);
    }
    for file in comparisons.into_iter().filter(|_| !runs.is_empty()) {
        report::write_comparison(file, &runs)?;
    }
    let compared = report::compare(&runs);
    match (json, quiet) {
        (true, _) => console::print(|out| report::compare_json(&compared, out))?,
        (false, true) => {}
        (false, false) => console::print(|out| report::sweep_text(axis, &runs, &compared, out))?,
    }
    if json && !quiet {
        console::eprint(report::breaking_point(&compared));
    }
    Ok(())
}
