//! What the trials at one load say of it (RFC 9971, load classification).

use std::time::Duration;

/// What trials must be like to decide about a load.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Target {
    /// Shorter trials than this are worth less.
    pub trial: Duration,
    /// How long they take in all.
    pub sum: Duration,
    /// The share of that time that may be of bad trials at a lower bound, from 0 to 1.
    pub exceed: f64,
    /// How far the bounds may be apart, as a share of the upper one.
    pub width: f64,
}

/// A trial that was made, for one goal.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Outcome {
    /// How long it was to be.
    pub duration: Duration,
    /// What was to hold did.
    pub is_good: bool,
    /// The share of the pings that was lost, from 0 to 1.
    pub loss: f64,
}

/// What is known of a load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// The goal is met at it.
    Lower,
    /// It is not.
    Upper,
    /// There are too few trials to tell.
    Unknown,
}

/// Seconds of trials of each kind.
#[derive(Clone, Copy, Default, Debug)]
struct Seconds {
    good: f64,
    bad: f64,
    short_good: f64,
    short_bad: f64,
}

impl Seconds {
    fn of(outcomes: &[Outcome], target: &Target) -> Seconds {
        let mut seconds = Seconds::default();
        for outcome in outcomes {
            let is_short = outcome.duration < target.trial;
            let kind = match (is_short, outcome.is_good) {
                (false, true) => &mut seconds.good,
                (false, false) => &mut seconds.bad,
                (true, true) => &mut seconds.short_good,
                (true, false) => &mut seconds.short_bad,
            };
            *kind += outcome.duration.as_secs_f64();
        }
        seconds
    }
}

/// What `outcomes`, those of all trials at one load, say of it. It is known as soon as whatever is missing to
/// [`sum`](Target::sum) could change nothing.
pub fn classify(outcomes: &[Outcome], target: &Target) -> Class {
    let seconds = Seconds::of(outcomes, target);
    let balance = seconds.short_good * target.exceed / (1.0 - target.exceed);
    let bad = seconds.bad + (seconds.short_bad - balance).max(0.0);
    let whole = (seconds.good + bad).max(target.sum.as_secs_f64());
    let allowed = whole * target.exceed;
    match (bad <= allowed, whole - seconds.good <= allowed) {
        (true, true) => Class::Lower,
        (false, _) => Class::Upper,
        (true, false) => Class::Unknown,
    }
}

/// The share of a load that is carried, from 0 to 1, in all but the share [`exceed`](Target::exceed) of the time: what is
/// missing to [`sum`](Target::sum) counts as lost (RFC 9971, conditional throughput). Of a lower bound it is meaningful.
pub fn carried(outcomes: &[Outcome], target: &Target) -> f64 {
    let long = outcomes.iter().filter(|one| one.duration >= target.trial);
    let mut long: Vec<&Outcome> = long.collect();
    long.sort_by(|one, other| one.loss.total_cmp(&other.loss));
    let seconds: f64 = long.iter().map(|one| one.duration.as_secs_f64()).sum();
    let mut left = seconds.max(target.sum.as_secs_f64()) * (1.0 - target.exceed);
    let mut loss = None;
    for one in long {
        if loss.is_some() && left <= 0.0 {
            break;
        }
        loss = Some(one.loss);
        left -= one.duration.as_secs_f64();
    }
    match loss {
        Some(loss) if left <= 0.0 => 1.0 - loss,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target {
        trial: Duration::from_secs(1),
        sum: Duration::from_secs(4),
        exceed: 0.5,
        width: 0.01,
    };

    fn outcome(seconds: f64, is_good: bool) -> Outcome {
        Outcome {
            duration: Duration::from_secs_f64(seconds),
            is_good,
            loss: if is_good { 0.0 } else { 0.2 },
        }
    }

    #[test]
    fn a_load_is_a_bound_as_soon_as_nothing_could_change_it() {
        let (good, bad) = (outcome(1.0, true), outcome(1.0, false));
        let (short_good, short_bad) = (outcome(0.5, true), outcome(0.5, false));
        for (outcomes, class) in [
            (vec![], Class::Unknown),
            (vec![good], Class::Unknown),
            // Two of four may be bad.
            (vec![good; 2], Class::Lower),
            (vec![bad; 2], Class::Unknown),
            (vec![bad; 3], Class::Upper),
            (vec![good, bad, bad], Class::Unknown),
            (vec![good, bad, bad, good], Class::Lower),
            (vec![good, bad, bad, bad], Class::Upper),
            // Short ones make no lower bound, …
            (vec![short_good; 20], Class::Unknown),
            // … but many bad ones an upper one, and good ones outweigh them.
            (vec![short_bad; 5], Class::Upper),
            (
                [vec![short_bad; 5], vec![short_good; 5]].concat(),
                Class::Unknown,
            ),
            ([vec![short_bad; 5], vec![good; 3]].concat(), Class::Lower),
        ] {
            assert_eq!(classify(&outcomes, &TARGET), class, "{outcomes:?}");
        }
        let strict = Target {
            exceed: 0.0,
            ..TARGET
        };
        assert_eq!(classify(&[bad], &strict), Class::Upper);
        assert_eq!(classify(&[good; 3], &strict), Class::Unknown);
        assert_eq!(classify(&[good; 4], &strict), Class::Lower);
    }

    #[test]
    fn what_is_carried_is_so_in_all_but_the_allowed_time() {
        let (good, bad) = (outcome(1.0, true), outcome(1.0, false));
        assert_eq!(carried(&[good, bad, good, bad], &TARGET), 1.0);
        assert_eq!(carried(&[good, bad, bad, bad], &TARGET), 0.8);
        assert_eq!(carried(&[good; 2], &TARGET), 1.0);
        assert_eq!(carried(&[good], &TARGET), 0.0);
        assert_eq!(carried(&[outcome(0.5, true); 9], &TARGET), 0.0);
        assert_eq!(carried(&[], &TARGET), 0.0);
    }
}
