//! Where a run's figures come from: what was planned, and on which machine it ran. Two runs are one experiment when these
//! say so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Report;

/// Settings by name, each with its values: one, or several where it was given several times.
pub type SettingsReport = BTreeMap<String, Values>;

/// The values of one setting.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Values {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

/// The plan: the value of each setting, given or default. Written as a scenario file
/// and run again, it is the same plan.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PlanReport {
    /// The settings of the run as a whole.
    pub settings: SettingsReport,
    /// Groups of VMs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<SettingsReport>,
    /// The phases of a scenario, each with all of its load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<SettingsReport>,
}

/// The machine that a run was made on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MachineReport {
    /// The kernel's release.
    pub kernel: String,
    /// The model of the processors, where the kernel has a name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
    /// How many processors were online.
    pub processors: u64,
}

/// The runs that were merged into one document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MergedReport {
    /// How many runs.
    pub runs: u64,
    /// Differences of the runs besides their figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unlike: Vec<Unlike>,
}

/// Something in which runs differ besides their figures.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Unlike {
    /// The setting, such as `fabric`, `mtu` or `phase 2: rate`.
    pub what: String,
    /// Each value that a run has of it, in the order of the runs; `null` for none.
    pub values: Vec<Option<String>>,
    /// True if runs that differ in it are not one experiment.
    pub is_other_experiment: bool,
}

/// Settings that runs of one experiment may differ in: where the random choices follow from, and what things are called.
const INCIDENTAL: [&str; 5] = ["seed", "name", "netns", "bridge", "tap-prefix"];

/// Runs that are not one experiment.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected runs of one experiment; these differ in {}", list(.0))]
pub struct NotOneExperiment(Vec<Unlike>);

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Values::One(value) => f.pad(value),
            Values::Several(values) => f.pad(&values.join(", ")),
        }
    }
}

impl fmt::Display for Unlike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.iter();
        let values: Vec<_> = values
            .map(|each| each.as_deref().unwrap_or("none"))
            .collect();
        write!(f, "{}: {}", self.what, values.join(" / "))
    }
}

/// Differences in a line.
pub(super) fn list(unlike: &[Unlike]) -> String {
    let told: Vec<_> = unlike.iter().map(Unlike::to_string).collect();
    told.join("; ")
}

/// Makes sure that these are runs of one experiment, as far as they tell: the same fabric, the same plan.
///
/// # Errors
/// With what they differ in.
pub fn check_one_experiment(reports: &[Report]) -> Result<(), NotOneExperiment> {
    let mut unlike = unlike(&reports.iter().collect::<Vec<_>>());
    unlike.retain(|each| each.is_other_experiment);
    match unlike.as_slice() {
        [] => Ok(()),
        _ => Err(NotOneExperiment(unlike)),
    }
}

/// Differences of runs besides their figures. A run that lacks a part, as one of an earlier version, is not compared in it.
pub(super) fn unlike(reports: &[&Report]) -> Vec<Unlike> {
    let mut found = Vec::new();
    let mut compare = |what: &str, is_other_experiment, values: Vec<Option<String>>| {
        let mut distinct: Vec<Option<String>> = Vec::new();
        for value in values {
            if !distinct.contains(&value) {
                distinct.push(value);
            }
        }
        if distinct.len() > 1 {
            found.push(Unlike {
                what: what.to_owned(),
                values: distinct,
                is_other_experiment,
            });
        }
    };
    let fabrics = reports.iter().filter_map(|run| run.fabric.as_ref());
    let fabrics: Vec<_> = fabrics.map(|fabric| Some(fabric.kind.clone())).collect();
    let is_one_fabric = fabrics.windows(2).all(|pair| pair[0] == pair[1]);
    compare("fabric", true, fabrics);
    let told = reports
        .iter()
        .map(|run| run.plan.as_ref().map(|_| "told".to_owned()));
    compare("plan", false, told.collect());
    let plans: Vec<_> = reports
        .iter()
        .filter_map(|run| run.plan.as_ref())
        .map(PlanReport::flat)
        .collect();
    let names: BTreeSet<_> = plans.iter().flat_map(BTreeMap::keys).collect();
    for name in names {
        let values = plans
            .iter()
            .map(|plan| plan.get(name).map(ToString::to_string));
        let setting = name.rsplit(' ').next().unwrap_or(name);
        let is_other = !INCIDENTAL.contains(&setting);
        // The run itself told on which fabric it was, and each fabric has settings that others do not have.
        let is_fabrics =
            name == "fabric" || !is_one_fabric && values.clone().any(|value| value.is_none());
        if !is_fabrics {
            compare(name, is_other, values.collect());
        }
    }
    compare(
        "version",
        false,
        reports.iter().map(|run| Some(run.tool.clone())).collect(),
    );
    let machines: Vec<_> = reports
        .iter()
        .filter_map(|run| run.machine.as_ref())
        .collect();
    compare(
        "kernel",
        false,
        machines.iter().map(|of| Some(of.kernel.clone())).collect(),
    );
    compare(
        "processor",
        false,
        machines.iter().map(|of| of.processor.clone()).collect(),
    );
    let processors = machines.iter().map(|of| Some(of.processors.to_string()));
    compare("processors", false, processors.collect());
    // Of runs that were merged before it is not known any more.
    let ranks = reports.iter().filter(|run| run.merged.is_none());
    let ranks = ranks.map(|run| Some(run.ranks.len().max(1).to_string()));
    compare("ranks", false, ranks.collect());
    found
}

impl PlanReport {
    /// Keeps what `other` has as well.
    pub(super) fn keep_common(&mut self, other: &PlanReport) {
        let PlanReport {
            settings,
            groups,
            phases,
        } = other;
        self.settings
            .retain(|name, values| settings.get(name) == Some(values));
        if self.groups != *groups {
            self.groups.clear();
        }
        if self.phases != *phases {
            self.phases.clear();
        }
    }

    /// Every setting under a name of its own: `mtu`, `group 1: vms`, `phase 2: rate`.
    fn flat(&self) -> BTreeMap<String, &Values> {
        let whole = self
            .settings
            .iter()
            .map(|(name, values)| (name.clone(), values));
        let parts = [("group", &self.groups), ("phase", &self.phases)];
        let parts = parts.into_iter().flat_map(|(what, each)| {
            each.iter().zip(1..).flat_map(move |(settings, number)| {
                let named = move |(name, values)| (format!("{what} {number}: {name}"), values);
                settings.iter().map(named)
            })
        });
        whole.chain(parts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{FabricReport, fixtures};

    fn settings(list: &[(&str, &str)]) -> SettingsReport {
        let one =
            |(name, value): &(&str, &str)| ((*name).to_owned(), Values::One((*value).to_owned()));
        list.iter().map(one).collect()
    }

    fn run(fabric: &str, list: &[(&str, &str)], phase: &[(&str, &str)]) -> Report {
        Report {
            fabric: Some(FabricReport {
                kind: fabric.to_owned(),
                leaves: 0,
                ports_per_bridge: None,
                flows_across: 0,
                neighbours: "broadcast".to_owned(),
                spared_deliveries: None,
                simulated: fabric == "sim",
            }),
            plan: Some(PlanReport {
                settings: settings(list),
                groups: Vec::new(),
                phases: vec![settings(phase)],
            }),
            machine: Some(MachineReport {
                kernel: "6.1.0".to_owned(),
                processor: None,
                processors: 2,
            }),
            ..fixtures::report()
        }
    }

    #[test]
    fn what_makes_another_experiment_is_refused_and_named() {
        let base = run(
            "bridge",
            &[("mtu", "1500"), ("seed", "0"), ("netns", "private")],
            &[("rate", "5")],
        );
        let changed = |change: fn(&mut Report)| {
            let mut report = base.clone();
            change(&mut report);
            report
        };
        for (name, other, told) in [
            ("itself", base.clone(), None),
            (
                "a simulation",
                changed(|r| r.fabric.as_mut().unwrap().kind = "sim".to_owned()),
                Some("fabric: bridge / sim"),
            ),
            (
                "an MTU",
                run(
                    "bridge",
                    &[("mtu", "9000"), ("seed", "0"), ("netns", "private")],
                    &[("rate", "5")],
                ),
                Some("mtu: 1500 / 9000"),
            ),
            (
                "a phase's rate",
                run(
                    "bridge",
                    &[("mtu", "1500"), ("seed", "0"), ("netns", "private")],
                    &[("rate", "7")],
                ),
                Some("phase 1: rate: 5 / 7"),
            ),
            (
                "a way to send",
                run(
                    "bridge",
                    &[("mtu", "1500"), ("seed", "0"), ("netns", "private")],
                    &[("window", "7")],
                ),
                Some("phase 1: rate: 5 / none; phase 1: window: none / 7"),
            ),
            // Another seed is another sample of the same; where the lab lived does not matter.
            (
                "a seed",
                run(
                    "bridge",
                    &[("mtu", "1500"), ("seed", "9"), ("netns", "host")],
                    &[("rate", "5")],
                ),
                None,
            ),
            (
                "a machine",
                changed(|r| r.machine.as_mut().unwrap().processors = 4),
                None,
            ),
            ("no plan", changed(|r| r.plan = None), None),
            (
                "a version",
                changed(|r| r.tool = "tap-reactor 9".to_owned()),
                None,
            ),
        ] {
            let checked = check_one_experiment(&[base.clone(), base.clone(), other]);
            let error = checked.err().map(|error| error.to_string());
            let expected =
                told.map(|told| format!("expected runs of one experiment; these differ in {told}"));
            assert_eq!(error, expected, "{name}");
        }
    }

    #[test]
    fn every_difference_is_told_with_the_values_of_all_runs() {
        let base = run("bridge", &[("seed", "0")], &[]);
        let mut later = run("bridge", &[("seed", "1")], &[]);
        later.tool = "tap-reactor 9".to_owned();
        later.machine = Some(MachineReport {
            kernel: "6.2.0".to_owned(),
            processor: Some("Some CPU".to_owned()),
            processors: 4,
        });
        let mut old = fixtures::report();
        old.tool = base.tool.clone();
        let told = list(&unlike(&[&base, &later, &base, &old]));
        let version = format!("version: {} / tap-reactor 9", base.tool);
        assert_eq!(
            told,
            format!(
                "plan: told / none; seed: 0 / 1; {version}; kernel: 6.1.0 / 6.2.0; processor: none / Some CPU; \
                 processors: 2 / 4"
            )
        );
        assert_eq!(unlike(&[&base, &base]), []);
        assert_eq!(unlike(&[&base]), []);
    }

    #[test]
    fn a_plan_is_written_as_one_value_or_several() {
        let plan = PlanReport {
            settings: BTreeMap::from([(
                "ping".to_owned(),
                Values::Several(vec!["ring".to_owned(), "vm0:all".to_owned()]),
            )]),
            groups: vec![settings(&[("vms", "3")])],
            phases: Vec::new(),
        };
        let json = r#"{"settings":{"ping":["ring","vm0:all"]},"groups":[{"vms":"3"}]}"#;
        assert_eq!(serde_json::to_string(&plan).unwrap(), json);
        assert_eq!(serde_json::from_str::<PlanReport>(json).unwrap(), plan);
    }
}
