//! Impairments: `vm3:delay=5ms±1ms,loss=1%`, `client:in:rate=10Mbit,queue=100`, `vm0>vm1:every=100`.
//!
//! A value says whose frames (`vm3`, `vm[0-9]`, the name of a group, `all`, or with `>` between them those from one to
//! another), in which direction (`out` from the VM, which is the default, or `in` to it), and what is done to them. The
//! terms are those of `tc-netem(8)`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::PlanContext;
use crate::experiment::options::suggestion;
use crate::experiment::settings::{Setting, SettingError, Settings, span};
use crate::fabric::{Delay, Direction, Distribution, Loss, Profile, Rate, Rule};
use crate::load::Selection;
use crate::number::{number, whole_number};
use crate::wire::MacAddr;

/// The most values of a phase.
const MOST_RULES: usize = 1000;
/// The longest delay and jitter that are taken for meant.
const LONGEST: Duration = Duration::from_secs(3600);
/// The highest rate that is taken for meant, in bits per second.
const HIGHEST_RATE: f64 = 1e12;
/// Frames that wait for a rate where nothing else is said: as many as for a TAP.
const QUEUE: u32 = 1000;

const VMS: &str =
    "expected vmI, vm[I-J], all or the name of a group, or two of them with > between";
const WORDS: [&str; 8] = [
    "delay",
    "loss",
    "every",
    "reorder",
    "duplicate",
    "corrupt",
    "rate",
    "queue",
];
const KEYS: &str =
    "expected delay, loss, every, reorder, duplicate, corrupt, rate or queue, or none alone";
const TIME: &str = "expected a time, such as 5ms, 5ms±1ms or 5ms±1ms normal";

/// Reads the rules of a phase, or of the whole run.
pub(super) fn impairments(
    settings: &Settings,
    context: &PlanContext<'_>,
) -> Result<Vec<Rule>, SettingError> {
    let values = settings.all("impair");
    if let Some(beyond) = values.get(MOST_RULES) {
        return Err(beyond.error(format_args!("expected {MOST_RULES} of them at most")));
    }
    let meant = settings.meant("impair");
    meant.map(|value| rule(value, context)).collect()
}

fn rule(setting: &Setting, context: &PlanContext<'_>) -> Result<Rule, SettingError> {
    if names_vms(&setting.text, context) {
        let why = "expected a colon behind the VMs, and what is done to their frames, such as vm0:delay=5ms";
        return Err(setting.error(why));
    }
    let mut parts: Vec<&str> = setting.text.split(':').map(str::trim).collect();
    let profile = profile(setting, parts.pop().unwrap_or_default())?;
    let direction = match parts.last() {
        Some(&"out") => Some(Direction::Out),
        Some(&"in") => Some(Direction::In),
        _ => None,
    };
    if direction.is_some() {
        parts.pop();
    }
    let who = parts.pop().unwrap_or("all");
    if let Some(beyond) = parts.last() {
        let why = format_args!("{beyond}:{who}: expected VMs, then out or in");
        return Err(setting.error(why));
    }
    let (vms, to) = match who.split_once('>') {
        None => (context.selection(setting, who, VMS)?, None),
        Some(_) if direction == Some(Direction::In) => {
            let why = "frames from one VM to another go out; expected them without :in";
            return Err(setting.error(why));
        }
        Some((from, to)) => {
            let from = context.selection(setting, from.trim(), VMS)?;
            let to = context.selection(setting, to.trim(), VMS)?;
            if from == to && from.start() == from.end() {
                let why = "no frame goes from a VM to itself; expected another one";
                return Err(setting.error(format_args!("{who}: {why}")));
            }
            (from, Some(macs(to, context)))
        }
    };
    Ok(Rule {
        words: setting.text.clone(),
        vms,
        direction: direction.unwrap_or(Direction::Out),
        to,
        profile,
    })
}

/// Returns true if `text` is VMs and nothing else.
fn names_vms(text: &str, context: &PlanContext<'_>) -> bool {
    let is_group = |name: &str| context.groups.iter().any(|group| group.name == Some(name));
    let mut sides = text.split('>').map(str::trim);
    sides.all(|side| side.parse::<Selection>().is_ok() || is_group(side) && side != "none")
}

/// The hardware addresses of some VMs, in ascending order.
fn macs(vms: RangeInclusive<u32>, context: &PlanContext<'_>) -> Vec<MacAddr> {
    let plans = vms.filter_map(|vm| context.vms.get(vm as usize));
    let mut macs: Vec<MacAddr> = plans.map(|plan| plan.mac).collect();
    macs.sort_unstable();
    macs
}

fn profile(setting: &Setting, text: &str) -> Result<Profile, SettingError> {
    let mut profile = Profile::default();
    if text == "none" {
        return Ok(profile);
    }
    let mut queue = None;
    let mut seen: Vec<&str> = Vec::new();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let (key, value) = (key.trim(), value.trim());
        let error = |why: &str| match part.trim() {
            part if part == setting.text => setting.error(why),
            part => setting.error(format_args!("{part}: {why}")),
        };
        if seen.contains(&key) {
            return Err(error("is there twice; expected it once"));
        }
        let share = || share(value).ok_or_else(|| error("expected a share from 0% to 100%"));
        match key {
            "delay" => profile.delay = Some(delay(value).map_err(error)?),
            "loss" => profile.loss = loss(value).map_err(error)?,
            "every" if seen.contains(&"loss") => {
                return Err(error("cannot be used with loss; expected one of them"));
            }
            "every" => profile.loss = Loss::Every(count(value).map_err(error)?),
            "reorder" => profile.reorder = share()?,
            "duplicate" => profile.duplicate = share()?,
            "corrupt" => profile.corrupt = share()?,
            "rate" => {
                let bits_per_second = rate(value).map_err(error)?;
                let queue = QUEUE;
                profile.rate = Some(Rate {
                    bits_per_second,
                    queue,
                });
            }
            "queue" => queue = Some((count(value).map_err(error)?, part)),
            _ => return Err(error(&format!("{KEYS}{}", suggestion(key, "", WORDS)))),
        }
        if key == "loss" && seen.contains(&"every") {
            return Err(error("cannot be used with every; expected one of them"));
        }
        seen.push(key);
    }
    if profile.reorder > 0.0 && profile.delay.is_none() {
        let why = "reorder: frames overtake those that are held; expected a delay beside it";
        return Err(setting.error(why));
    }
    match (queue, &mut profile.rate) {
        (Some((frames, _)), Some(rate)) => rate.queue = frames,
        (Some((_, part)), None) => {
            let why = "frames wait for a rate; expected one beside it, such as rate=10Mbit";
            return Err(setting.error(format_args!("{}: {why}", part.trim())));
        }
        (None, _) => {}
    }
    Ok(profile)
}

fn delay(text: &str) -> Result<Delay, &'static str> {
    let (times, distribution) = match text.rsplit_once(' ') {
        Some((times, "uniform")) => (times, Some(Distribution::Uniform)),
        Some((times, "normal")) => (times, Some(Distribution::Normal)),
        Some((times, "pareto")) => (times, Some(Distribution::Pareto)),
        _ => (text, None),
    };
    let (base, jitter) = match times.split_once('±').or_else(|| times.split_once("+-")) {
        Some((base, jitter)) => (base, Some(jitter)),
        None => (times, None),
    };
    let time = |text: &str| {
        let time = span(text.trim()).ok_or(TIME)?;
        let is_meant = time <= LONGEST;
        is_meant.then_some(time).ok_or("expected an hour at most")
    };
    let base = time(base)?;
    let jitter = jitter.map(time).transpose()?;
    if distribution.is_some() && jitter.is_none() {
        return Err("expected a jitter for the distribution, such as 5ms±1ms normal");
    }
    let delay = Delay {
        base,
        jitter: jitter.unwrap_or_default(),
        distribution: distribution.unwrap_or_default(),
    };
    if delay.distribution == Distribution::Uniform && delay.jitter > delay.base {
        return Err("expected a jitter that is no longer than the delay");
    }
    Ok(delay)
}

fn loss(text: &str) -> Result<Loss, &'static str> {
    const EXPECTED: &str =
        "expected a share from 0% to 100%, or gemodel P R, such as gemodel 1% 10%";
    let mut words = text.split_whitespace();
    if text.split_whitespace().next() != Some("gemodel") {
        return share(text).map(Loss::Random).ok_or(EXPECTED);
    }
    words.next();
    let shares: Option<Vec<f64>> = words.map(share).collect();
    match shares.as_deref() {
        Some(&[to_bad, to_good, ref losses @ ..]) if losses.len() <= 2 => {
            Ok(Loss::GilbertElliott {
                to_bad,
                to_good,
                bad_loss: losses.first().copied().unwrap_or(1.0),
                good_loss: losses.get(1).copied().unwrap_or(0.0),
            })
        }
        _ => Err(EXPECTED),
    }
}

/// A share as people write it, `1%`. Without the sign, 1 is all of them for some and a hundredth for others, such as `tc`.
fn share(text: &str) -> Option<f64> {
    let percent: f64 = text.strip_suffix('%')?.trim().parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

fn count(text: &str) -> Result<u32, &'static str> {
    let frames = whole_number(text).and_then(|frames| u32::try_from(frames).ok());
    let frames = frames.filter(|frames| *frames > 0);
    frames.ok_or("expected a number of frames, 1 or more")
}

/// A rate as `tc` writes it, in bits per second.
fn rate(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "expected a rate above 0 and up to 1000Gbit, such as 500kbit or 10Mbit";
    let text = text.to_ascii_lowercase();
    let digits = text.strip_suffix("bit").ok_or(EXPECTED)?;
    let (digits, unit) = match digits.char_indices().last() {
        Some((at, 'k')) => (&digits[..at], 1e3),
        Some((at, 'm')) => (&digits[..at], 1e6),
        Some((at, 'g')) => (&digits[..at], 1e9),
        _ => (digits, 1.0),
    };
    let rate = number(digits.trim()).map(|number| number * unit);
    let rate = rate.filter(|rate| (1.0..=HIGHEST_RATE).contains(rate));
    rate.map(|rate| rate as u64).ok_or(EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{self, Experiment, Scenario, plan};

    fn planned(text: &str) -> Result<Experiment, SettingError> {
        let groups = "[[group]]\nname = 'client'\nvms = 3\n[[group]]\nname = 'server'\nvms = 2\n";
        let scenario = Scenario::parse("test.toml", &format!("{text}\n{groups}")).unwrap();
        plan(&scenario)
    }

    fn one(text: &str) -> Rule {
        let experiment = planned(&format!("impair = '{text}'")).unwrap();
        let [rule] = experiment.impairments.try_into().unwrap();
        rule
    }

    #[test]
    fn a_value_says_whose_frames_in_which_direction_and_what_is_done_to_them() {
        let ms = Duration::from_millis;
        for (text, vms, direction, delay) in [
            ("delay=5ms", 0..=4, Direction::Out, Delay::constant(ms(5))),
            ("in:delay=5ms", 0..=4, Direction::In, Delay::constant(ms(5))),
            (
                "vm3:delay=0.005",
                3..=3,
                Direction::Out,
                Delay::constant(ms(5)),
            ),
            (
                "vm[1-2]:out:delay=1s",
                1..=2,
                Direction::Out,
                Delay::constant(ms(1000)),
            ),
            (
                "server : in : delay = 5ms",
                3..=4,
                Direction::In,
                Delay::constant(ms(5)),
            ),
            (
                "client:delay=5ms±1ms",
                0..=2,
                Direction::Out,
                Delay {
                    jitter: ms(1),
                    ..Delay::constant(ms(5))
                },
            ),
            (
                "all:delay=5ms+-10ms pareto",
                0..=4,
                Direction::Out,
                Delay {
                    jitter: ms(10),
                    distribution: Distribution::Pareto,
                    base: ms(5),
                },
            ),
            (
                "delay=5ms ± 1ms normal",
                0..=4,
                Direction::Out,
                Delay {
                    jitter: ms(1),
                    distribution: Distribution::Normal,
                    base: ms(5),
                },
            ),
        ] {
            let expected = Rule {
                words: text.to_owned(),
                vms,
                direction,
                to: None,
                profile: Profile {
                    delay: Some(delay),
                    ..Profile::default()
                },
            };
            assert_eq!(one(text), expected, "{text}");
        }
        let pair = one("client>vm4:none");
        assert_eq!((pair.vms, pair.direction), (0..=2, Direction::Out));
        assert_eq!(pair.to, Some(vec![MacAddr([2, 0, 10, 77, 0, 6])]));
        assert_eq!(pair.profile, Profile::default());
    }

    #[test]
    fn everything_that_can_be_done_can_be_said() {
        let text =
            "loss=1%,corrupt=0.01%,duplicate=0.1%,rate=1.5Mbit,queue=7,delay=1us,reorder=25%";
        let Profile {
            delay,
            loss,
            reorder,
            duplicate,
            corrupt,
            rate,
        } = one(text).profile;
        assert_eq!(delay, Some(Delay::constant(Duration::from_micros(1))));
        assert_eq!((loss, reorder), (Loss::Random(0.01), 0.25));
        assert_eq!((duplicate, corrupt), (0.001, 0.0001));
        assert_eq!(
            rate,
            Some(Rate {
                bits_per_second: 1_500_000,
                queue: 7
            })
        );
        let bursty = |bad_loss, good_loss| Loss::GilbertElliott {
            to_bad: 0.01,
            to_good: 0.1,
            bad_loss,
            good_loss,
        };
        for (text, loss) in [
            ("every=100", Loss::Every(100)),
            ("loss=gemodel 1% 10%", bursty(1.0, 0.0)),
            ("loss=gemodel 1% 10% 50%", bursty(0.5, 0.0)),
            ("loss=gemodel 1% 10% 50% 0.1%", bursty(0.5, 0.001)),
        ] {
            assert_eq!(one(text).profile.loss, loss, "{text}");
        }
        for (text, bits) in [("8bit", 8), ("500kbit", 500_000), ("1Gbit", 1_000_000_000)] {
            let rate = one(&format!("rate={text}")).profile.rate.unwrap();
            assert_eq!((rate.bits_per_second, rate.queue), (bits, QUEUE));
        }
    }

    #[test]
    fn what_can_not_be_done_is_refused_in_one_line_that_says_what_is_expected() {
        for (text, expected) in [
            ("loss=101%", "loss=101%: expected a share from 0% to 100%"),
            ("loss=1", "loss=1: expected a share from 0% to 100%"),
            ("loss=0.5", "loss=0.5: expected a share from 0% to 100%"),
            ("loss=gemodel 1 10", "expected a share from 0% to 100%"),
            (
                "delay=1s,reorder=1",
                "reorder=1: expected a share from 0% to 100%",
            ),
            (
                "duplicate=1",
                "duplicate=1: expected a share from 0% to 100%",
            ),
            ("corrupt=0", "corrupt=0: expected a share from 0% to 100%"),
            ("loss=gemodel 1%", "or gemodel P R"),
            ("duplicate=x", "duplicate=x: expected a share"),
            ("delay=-1ms", "delay=-1ms: expected a time, such as 5ms"),
            ("delay=2h", "an hour at most"),
            ("delay=1ms±2ms", "no longer than the delay"),
            ("delay=1ms normal", "expected a jitter for the distribution"),
            ("vm99:delay=1ms", "there is no vm99; expected vm0 to vm4"),
            ("vm0>vm9:delay=1ms", "there is no vm9"),
            (
                "nobody:delay=1ms",
                "expected vmI, vm[I-J], all or the name of a group",
            ),
            (
                "vm0:both:delay=1ms",
                "vm0:both: expected VMs, then out or in",
            ),
            ("vm0>vm1:in:delay=1ms", "expected them without :in"),
            ("rate=0bit", "rate=0bit: expected a rate above 0"),
            ("rate=0", "rate=0: expected a rate above 0"),
            ("rate=10MB", "such as 500kbit or 10Mbit"),
            ("queue=10", "queue=10: frames wait for a rate"),
            (
                "rate=1Mbit,queue=0",
                "queue=0: expected a number of frames, 1 or more",
            ),
            ("reorder=1%", "expected a delay beside it"),
            ("every=0", "every=0: expected a number of frames"),
            ("every=9,loss=1%", "cannot be used with every"),
            ("loss=1%,every=9", "cannot be used with loss"),
            ("loss=1%,loss=2%", "is there twice"),
            ("speed=9", "speed=9: expected delay, loss, every"),
            ("", "impair = '': expected delay, loss, every"),
            ("loss=101%", "impair = loss=101%: expected a share"),
            ("los=1%", "or none alone; did you mean loss?"),
            ("vm0:dleay=1ms", "or none alone; did you mean delay?"),
            ("vm99", "impair = vm99: expected a colon behind the VMs"),
            ("client>vm4", "expected a colon behind the VMs"),
            (
                "vm0>vm0:loss=1%",
                "vm0>vm0: no frame goes from a VM to itself; expected another one",
            ),
        ] {
            let error = planned(&format!("impair = '{text}'"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn a_phase_has_impairments_of_its_own_or_those_of_the_run() {
        let text = "impair = ['vm0:loss=1%', 'vm1:loss=2%']\nping = 'ring'\ncount = 1\n\
                    [[phase]]\nwarmup = '1s'\n[[phase]]\nimpair = 'loss=3%'\n[[phase]]\nimpair = 'none'";
        let experiment = planned(text).unwrap();
        let rules: Vec<usize> = experiment
            .phases
            .iter()
            .map(|p| p.impairments.as_ref().unwrap().len())
            .collect();
        assert_eq!((experiment.impairments.len(), rules), (2, vec![2, 2, 1, 0]));
    }

    #[test]
    fn a_dry_run_says_in_which_phase_frames_are_impaired() {
        let told = |text: &str| {
            let text = experiment::describe(&planned(text).unwrap());
            let lines = text.lines().filter(|line| line.starts_with("impaired"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let top = "impair = ['vm0:loss=1%', 'vm1:loss=2%']\nping = 'ring'\ncount = 1\n";
        let whole = [
            "impaired frames: vm0:loss=1%",
            "impaired frames: vm1:loss=2%",
        ];
        assert_eq!(told(top), whole);
        let same = "[[phase]]\nname = 'a'\n[[phase]]\nname = 'b'";
        assert_eq!(told(&format!("{top}{same}")), whole);
        for none in ["[]", "'none'"] {
            let calm = format!("{top}[[phase]]\nname = 'a'\n[[phase]]\nimpair = {none}");
            let told: Vec<_> = told(&calm);
            assert_eq!(told.first().unwrap(), "impaired frames in a: vm0:loss=1%");
        }
        let others = "[[phase]]\nname = 'a'\nimpair = 'loss=3%'\n[[phase]]\nimpair = 'vm0:loss=1%'";
        assert_eq!(
            told(&format!("{top}{others}")),
            [
                "impaired frames in a: loss=3%",
                "impaired frames in phase 1: vm0:loss=1%"
            ]
        );
    }
}
