//! The search for the greatest load that meets a goal: "how much does it carry?"
//!
//! Multiple Loss Ratio search (RFC 9971, from draft-ietf-bmwg-mlrsearch): trials are made at chosen loads until for each
//! [`Goal`] a load is known at which it is met (the relevant lower bound), and one not far above it at which it is not (the
//! relevant upper bound). Which load is tried next, and for how long, is decided by [`Search`], which makes no trial itself and
//! reads no clock.
//!
//! A trial in which the tool itself was the limit is none that tells of the network: it never counts as a loss. The search
//! then ends with a lower bound at least, and says that the tool has come to its end.

mod goal;
mod ladder;
mod tally;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use goal::{Goal, ParseGoalError};
pub use ladder::Ladder;
pub use tally::{Class, Outcome, Target, carried, classify};

/// So often a trial is made that something disturbs, …
const DISTURBED: usize = 3;
/// … and so often one in which the tool is the limit, unless it comes to less than this share of the load: what else runs on the
/// machine may take part in that.
const LIMITED: usize = 2;
const FAR: f64 = 0.7;

/// The targets of a goal, one after the other: coarser and quicker ones first, whose bounds are where the next one begins.
const STAGES: usize = 3;

/// What a trial was.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// It tells of the network: whether each goal held, in their order, and the share of the pings that was lost.
    Measured {
        /// For each goal, whether what is to hold did.
        good: Vec<bool>,
        /// From 0 to 1.
        loss: f64,
    },
    /// The tool was the limit; it came to this load, if that can be told.
    Limited(Option<f64>),
    /// Something else had the processor.
    Disturbed,
}

/// A trial that is to be made.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Planned {
    /// The number of the load on the ladder.
    pub step: usize,
    /// The load.
    pub load: f64,
    /// For how long.
    pub duration: Duration,
}

/// A trial that was made.
#[derive(Clone, PartialEq, Debug)]
struct Trial {
    planned: Planned,
    verdict: Verdict,
}

/// The two loads that the answer is between, by their number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Bounds {
    lower: Option<usize>,
    upper: Option<usize>,
}

/// How the search for a goal has ended, or will if it ends now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Both bounds are known, as close as asked for.
    Found,
    /// Even the greatest load of the range is carried.
    Range,
    /// Not even the least is.
    Least,
    /// The tool has come to its end before the network.
    Tool,
    /// There was no time for more.
    Unfinished,
}

/// What is known for a goal.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Finding {
    /// The greatest load at which it is met, below all at which it is not.
    pub lower: Option<f64>,
    /// The least at which it is not.
    pub upper: Option<f64>,
    /// What of the lower bound is carried (RFC 9971, conditional throughput).
    pub throughput: Option<f64>,
    /// How the search ended.
    pub ending: Ending,
}

/// A search under way.
#[derive(Clone, PartialEq, Debug)]
pub struct Search {
    goals: Vec<Goal>,
    ladder: Ladder,
    /// The first load is the greatest, which tells where to go on; else the least.
    from_top: bool,
    trials: Vec<Trial>,
}

impl Search {
    /// A search for `goals` on `ladder`, which begins at its top if `from_top`: where more than what is carried is lost and does
    /// not harm, that tells most.
    pub const fn new(goals: Vec<Goal>, ladder: Ladder, from_top: bool) -> Search {
        Search {
            goals,
            ladder,
            from_top,
            trials: Vec::new(),
        }
    }

    /// The trial that is to be made now; `None` if all is known.
    pub fn next(&self) -> Option<Planned> {
        let stages =
            (0..STAGES).flat_map(|stage| (0..self.goals.len()).map(move |goal| (stage, goal)));
        let planned = stages.filter_map(|(stage, goal)| {
            let target = self.target(goal, stage)?;
            let before = stage
                .checked_sub(1)
                .and_then(|stage| self.target(goal, stage));
            let before = before.map_or_else(Bounds::default, |before| self.bounds(goal, &before));
            let step = self.step(self.bounds(goal, &target), before, &target)?;
            Some(Planned {
                step,
                load: self.ladder.at(step),
                duration: target.trial,
            })
        });
        let mut planned = planned;
        planned.next()
    }

    /// Takes in what came of a trial.
    pub fn record(&mut self, planned: Planned, verdict: Verdict) {
        self.trials.push(Trial { planned, verdict });
    }

    /// What is known for each goal, in their order.
    pub fn findings(&self) -> Vec<Finding> {
        (0..self.goals.len())
            .filter_map(|goal| self.finding(goal))
            .collect()
    }

    fn finding(&self, goal: usize) -> Option<Finding> {
        let target = self.target(goal, STAGES - 1)?;
        let known = self.bounds(goal, &target);
        let ending = match (known.lower, known.upper) {
            (Some(lower), Some(upper)) if self.ladder.is_within(lower, upper, target.width) => {
                Ending::Found
            }
            (Some(lower), None) if lower == self.ladder.last() => Ending::Range,
            (None, Some(0)) => Ending::Least,
            _ if self.step(known, Bounds::default(), &target).is_none() => Ending::Tool,
            _ => Ending::Unfinished,
        };
        // What is known less surely is better than nothing.
        let coarser = (0..STAGES)
            .rev()
            .filter_map(|stage| self.target(goal, stage));
        let mut coarser = coarser.map(|target| (target, self.bounds(goal, &target)));
        let (target, known) = coarser
            .find(|(_, known)| *known != Bounds::default())
            .unwrap_or((target, known));
        let load = |step| self.ladder.at(step);
        let throughput = known.lower.map(|lower| {
            let outcomes = self.outcomes(goal, lower);
            load(lower) * carried(&outcomes, &target)
        });
        Some(Finding {
            lower: known.lower.map(load),
            upper: known.upper.map(load),
            throughput,
            ending,
        })
    }

    /// What has to be known of bounds at a stage. Durations grow geometrically from stage to stage, widths shrink by half.
    fn target(&self, goal: usize, stage: usize) -> Option<Target> {
        let goal = self.goals.get(goal)?;
        let coarser = (STAGES - 1).checked_sub(stage)?;
        let (initial, sum) = (goal.initial.as_secs_f64(), goal.sum.as_secs_f64());
        let share = coarser as f64 / (STAGES - 1) as f64;
        let sum = Duration::from_secs_f64(sum * (initial / sum).powf(share));
        Some(Target {
            trial: goal.last.min(sum),
            sum,
            exceed: goal.exceed,
            width: (goal.width * f64::from(1 << coarser)).min(0.5),
        })
    }

    fn outcomes(&self, goal: usize, step: usize) -> Vec<Outcome> {
        let at = self
            .trials
            .iter()
            .filter(|trial| trial.planned.step == step);
        let outcomes = at.filter_map(|trial| match &trial.verdict {
            Verdict::Measured { good, loss } => Some(Outcome {
                duration: trial.planned.duration,
                is_good: *good.get(goal)?,
                loss: *loss,
            }),
            Verdict::Limited(_) | Verdict::Disturbed => None,
        });
        outcomes.collect()
    }

    /// The relevant bounds: the least of all upper ones, and the greatest lower one below it.
    fn bounds(&self, goal: usize, target: &Target) -> Bounds {
        let mut steps: Vec<usize> = self.trials.iter().map(|trial| trial.planned.step).collect();
        steps.sort_unstable();
        steps.dedup();
        let mut bounds = Bounds::default();
        for step in steps {
            match classify(&self.outcomes(goal, step), target) {
                Class::Lower => bounds.lower = Some(step),
                Class::Upper => {
                    bounds.upper = Some(step);
                    break;
                }
                Class::Unknown => {}
            }
        }
        bounds
    }

    /// The least load that is of no use, because the tool was the limit, or something disturbed it each time of the last ones:
    /// a shorter trial may have told of it.
    fn ceiling(&self) -> Option<usize> {
        let steps = self.trials.iter().map(|trial| trial.planned.step);
        steps.filter(|step| self.is_useless(*step)).min()
    }

    fn is_useless(&self, step: usize) -> bool {
        let latest = self.trials.iter().rev();
        let mut latest = latest.filter(|trial| trial.planned.step == step);
        let tries = match latest.clone().next().map(|trial| &trial.verdict) {
            Some(Verdict::Measured { .. }) | None => return false,
            Some(Verdict::Limited(Some(reached))) if *reached < self.ladder.at(step) * FAR => 1,
            Some(Verdict::Limited(_)) => LIMITED,
            Some(Verdict::Disturbed) => DISTURBED,
        };
        let is_useless = |trial: &Trial| !matches!(trial.verdict, Verdict::Measured { .. });
        (0..tries).all(|_| latest.next().is_some_and(is_useless))
    }

    /// The greatest load that the tool has come to in the trials at `step`, if it was the limit there.
    fn reached_at(&self, step: usize) -> Option<usize> {
        let at = self
            .trials
            .iter()
            .filter(|trial| trial.planned.step == step);
        let reached = at.filter_map(|trial| match trial.verdict {
            Verdict::Limited(reached) => reached,
            Verdict::Measured { .. } | Verdict::Disturbed => None,
        });
        let most = reached.max_by(f64::total_cmp)?;
        Some(self.ladder.below(most))
    }

    /// The load to try for `target` next, which has the bounds `known`, where a coarser one has `before`; `None` if there is
    /// nothing more to find.
    fn step(&self, known: Bounds, before: Bounds, target: &Target) -> Option<usize> {
        let end = self.ceiling().unwrap_or(self.ladder.last() + 1);
        let top = end.checked_sub(1)?;
        let between = |lower: usize, upper: usize| {
            let is_open = !self.ladder.is_within(lower, upper, target.width);
            is_open.then_some(lower + (upper - lower) / 2)
        };
        match (known.lower, known.upper) {
            (Some(lower), Some(upper)) => between(lower, upper.min(end.max(lower))),
            (Some(lower), None) if lower >= top => None,
            (Some(lower), None) => match before
                .upper
                .filter(|upper| (lower + 1..=top).contains(upper))
            {
                Some(upper) => Some(upper),
                None if lower + self.stride(lower, target) <= top => {
                    Some(lower + self.stride(lower, target))
                }
                // To the top itself, if nothing is known of what is above.
                None if end > self.ladder.last() => Some(top),
                None => between(lower, end),
            },
            (None, Some(0)) => None,
            (None, Some(upper)) => Some(match before.lower.filter(|lower| *lower < upper) {
                Some(lower) => lower,
                None => {
                    let near = upper.saturating_sub(self.stride(upper, target));
                    near.min(self.carried_at(upper)).min(top)
                }
            }),
            (None, None) => Some(match before.lower.or(before.upper) {
                Some(step) if step <= top => step,
                // What shorter trials have told of is too much for the tool.
                Some(_) => self.reached_at(end).unwrap_or(top).min(top),
                None => self.guess(end).min(top),
            }),
        }
    }

    /// How far to go on from a bound: the width, and twice as far as from the trial nearest to it otherwise.
    fn stride(&self, bound: usize, target: &Target) -> usize {
        let other = self.trials.iter().map(|trial| trial.planned.step);
        let nearest = other
            .map(|step| step.abs_diff(bound))
            .filter(|far| *far > 0)
            .min();
        let low = self
            .ladder
            .below(self.ladder.at(bound) * (1.0 - target.width));
        let width = bound.saturating_sub(low).max(1);
        let doubled = self
            .ladder
            .below(self.ladder.at(bound) * 2.0)
            .saturating_sub(bound)
            .max(1);
        match self.from_top {
            true => nearest.map_or(width, |far| (2 * far).clamp(width, doubled.max(width))),
            false => doubled,
        }
    }

    /// The greatest load that is no more than what is carried of that at `step`.
    fn carried_at(&self, step: usize) -> usize {
        let at = self
            .trials
            .iter()
            .filter(|trial| trial.planned.step == step);
        let losses = at.filter_map(|trial| match trial.verdict {
            Verdict::Measured { loss, .. } => Some(loss),
            Verdict::Limited(_) | Verdict::Disturbed => None,
        });
        let least = losses.fold(1.0, f64::min);
        self.ladder.below(self.ladder.at(step) * (1.0 - least))
    }

    /// Where to begin, if loads from `end` on are of no use.
    fn guess(&self, end: usize) -> usize {
        let Some(first) = self.trials.first() else {
            return if self.from_top { self.ladder.last() } else { 0 };
        };
        if !self.from_top {
            return 0;
        }
        let reached = self.trials.iter().filter_map(|trial| match trial.verdict {
            Verdict::Limited(reached) => reached,
            _ => None,
        });
        let reached = reached.fold(f64::INFINITY, f64::min);
        match &first.verdict {
            Verdict::Measured { .. } | Verdict::Disturbed => first.planned.step,
            Verdict::Limited(_) => {
                let end = self.ladder.at(end).min(reached);
                self.ladder.below(end * 0.9)
            }
        }
    }
}
