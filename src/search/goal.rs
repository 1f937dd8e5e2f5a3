//! Goals of a search, as `--goal` gives them.
//!
//! ```text
//! goal      = axis ":" part {"," part}
//! axis      = the name of a setting, or a word that `{}` in values of settings stands for the load of
//! part      = an expectation, such as "loss<=0.1%" or "p99<=1ms" | attribute
//! attribute = "width=" share | "initial=" time | "final=" time | "sum=" time | "exceed=" share
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::experiment::span;
use crate::report::{Expectation, Report};

/// The attributes of a goal that names none.
const WIDTH: f64 = 0.01;
const TRIAL: Duration = Duration::from_secs(1);
const EXCEED: f64 = 0.5;
/// Trials of the final duration that decide about a load, where the goal does not say their sum.
const TRIALS: u32 = 3;

/// A goal: what must hold of a trial, and how sure to be of it (RFC 9971, search goal).
#[derive(Clone, PartialEq, Debug)]
pub struct Goal {
    text: String,
    /// What is varied.
    pub axis: String,
    /// What holds of a good trial.
    conditions: Vec<Expectation>,
    /// The search ends when the bounds are no further apart than this share of the upper one.
    pub width: f64,
    /// The duration of the first trials; they are longer the closer the bounds are.
    pub initial: Duration,
    /// The duration of those that decide.
    pub last: Duration,
    /// How long trials at a load take in all until it is known to be a bound.
    pub sum: Duration,
    /// The share of that time that may be of bad trials at a lower bound.
    pub exceed: f64,
}

/// Why a text is no goal.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseGoalError {
    /// There is no axis.
    #[error(
        "expected what is varied, a colon and what is to hold, such as 'rate: loss<=0.1%, p99<=1ms'"
    )]
    NoAxis,
    /// Nothing is to hold.
    #[error("expected what is to hold behind the colon, such as loss<=0.1%")]
    NoCondition,
    /// A part is neither of both.
    #[error("{part}: {why}")]
    Part {
        /// The part.
        part: String,
        /// What is expected.
        why: String,
    },
}

impl Goal {
    /// Returns true if something of it is about flooded frames, which are counted only on request.
    pub fn is_of_floods(&self) -> bool {
        self.conditions.iter().any(Expectation::is_of_floods)
    }

    /// Returns true if all that does not hold in `report` may be because the tool is too slow.
    pub fn is_up_to_tool(&self, report: &Report) -> bool {
        let unmet = |condition: &&Expectation| !condition.check(report).holds;
        let mut unmet = self.conditions.iter().filter(unmet);
        unmet.all(Expectation::is_up_to_tool)
    }

    /// Returns true if all that is to hold does in `report`.
    pub fn holds(&self, report: &Report) -> bool {
        self.conditions
            .iter()
            .all(|condition| condition.check(report).holds)
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl FromStr for Goal {
    type Err = ParseGoalError;

    fn from_str(text: &str) -> Result<Goal, ParseGoalError> {
        let (axis, parts) = text.split_once(':').ok_or(ParseGoalError::NoAxis)?;
        let axis = axis.trim();
        let is_word = |word: &str| word.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        if axis.is_empty() || !is_word(axis) {
            return Err(ParseGoalError::NoAxis);
        }
        let mut goal = Goal {
            text: text.trim().to_owned(),
            axis: axis.to_owned(),
            conditions: Vec::new(),
            width: WIDTH,
            initial: Duration::ZERO,
            last: TRIAL,
            sum: Duration::ZERO,
            exceed: EXCEED,
        };
        let parts = parts.trim();
        for part in parts
            .split(',')
            .map(str::trim)
            .filter(|_| !parts.is_empty())
        {
            let wrong = |why: String| ParseGoalError::Part {
                part: part.to_owned(),
                why,
            };
            if !goal.attribute(part).map_err(wrong)? {
                let condition = part.parse().map_err(|error| wrong(format!("{error}")))?;
                goal.conditions.push(condition);
            }
        }
        if goal.conditions.is_empty() {
            return Err(ParseGoalError::NoCondition);
        }
        goal.complete()
    }
}

impl Goal {
    /// Takes `part` in if it is an attribute.
    fn attribute(&mut self, part: &str) -> Result<bool, String> {
        let Some((name, value)) = part.split_once('=') else {
            return Ok(false);
        };
        let (name, value) = (name.trim(), value.trim());
        let time = || {
            let time = span(value).filter(|time| !time.is_zero());
            time.ok_or_else(|| "expected a time above 0, such as 500ms".to_owned())
        };
        let share = |least: f64| {
            let percent = value.strip_suffix('%').unwrap_or_default().trim_end();
            let share = percent.parse::<f64>().ok().map(|percent| percent / 100.0);
            let share = share.filter(|share| *share >= least && *share < 1.0);
            share.ok_or_else(|| "expected a percentage below 100%, such as 1%".to_owned())
        };
        match name {
            "width" => self.width = share(f64::MIN_POSITIVE)?,
            "initial" => self.initial = time()?,
            "final" => self.last = time()?,
            "sum" => self.sum = time()?,
            "exceed" => self.exceed = share(0.0)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Gives the attributes that were not named their values.
    fn complete(mut self) -> Result<Goal, ParseGoalError> {
        if self.initial.is_zero() {
            self.initial = self.last;
        }
        if self.sum.is_zero() {
            self.sum = self.last * TRIALS;
        }
        let wrong = |part: &str, why: &str| {
            Err(ParseGoalError::Part {
                part: part.to_owned(),
                why: why.to_owned(),
            })
        };
        if self.initial > self.last {
            return wrong("initial", "expected no longer trials than the final ones");
        }
        if self.sum < self.last {
            return wrong("sum", "expected the time of one final trial at least");
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures::report;

    #[test]
    fn a_goal_says_what_is_varied_what_is_to_hold_and_how_sure_to_be() {
        let goal: Goal =
            "rate: loss<=0.1%, p99<=1ms, width=2%, initial=100ms, final=2s, sum=10s, exceed=25%"
                .parse()
                .unwrap();
        assert_eq!(goal.axis, "rate");
        assert_eq!(goal.conditions.len(), 2);
        assert_eq!((goal.width, goal.exceed), (0.02, 0.25));
        let times = [goal.initial, goal.last, goal.sum].map(|time| time.as_millis());
        assert_eq!(times, [100, 2_000, 10_000]);
        let goal: Goal = "vms: unresolved=0".parse().unwrap();
        let times = [goal.initial, goal.last, goal.sum].map(|time| time.as_millis());
        assert_eq!(times, [1_000, 1_000, 3_000]);
        assert_eq!((goal.width, goal.exceed), (0.01, 0.5));
    }

    #[test]
    fn what_holds_of_a_report_is_a_good_trial() {
        // 5 of 4,000 pings were lost.
        for (text, holds) in [
            ("rate: loss<=0.2%", true),
            ("rate: loss=0", false),
            ("rate: loss<=0.2%, p99<=1ns", false),
        ] {
            assert_eq!(
                text.parse::<Goal>().unwrap().holds(&report()),
                holds,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_goal_is_told_with_what_is_expected() {
        for (text, said) in [
            ("", "expected what is varied"),
            ("loss=0", "expected what is varied"),
            (": loss=0", "expected what is varied"),
            ("a b: loss=0", "expected what is varied"),
            ("rate: width=1%", "expected what is to hold"),
            ("rate:", "expected what is to hold"),
            ("rate: loss=0,", ": expected one of < <="),
            ("rate: los<1%", "los<1%: no figure is named"),
            ("rate: loss=0, width=1", "width=1: expected a percentage"),
            ("rate: loss=0, width=0%", "width=0%: expected a percentage"),
            (
                "rate: loss=0, exceed=100%",
                "exceed=100%: expected a percentage",
            ),
            (
                "rate: loss=0, final=0s",
                "final=0s: expected a time above 0",
            ),
            (
                "rate: loss=0, initial=2s",
                "initial: expected no longer trials",
            ),
            ("rate: loss=0, sum=100ms", "sum: expected the time of one"),
        ] {
            let error = text.parse::<Goal>().unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
