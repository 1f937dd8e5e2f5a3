//! Settings: a name, what somebody wrote for it, and where. Flags and scenario files come to the same thing, so that
//! every value is checked in one place and every error says where the value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::escape::{escaped, is_hidden};
use crate::number::{number, whole_number};

/// Settings of the lab and of the run as a whole.
pub const LAB: &[&str] = &[
    "vms",
    "netns",
    "bridge",
    "tap-prefix",
    "mtu",
    "subnet",
    "host-addr",
    "gateway",
    "dhcp",
    "announce",
    "probe",
    "address-wait",
    "udp-echo",
    "ttl",
    "dscp",
    "fragment",
    "dont-fragment",
    "ipv6",
    "subnet6",
    "slaac",
    "vlan",
    "vlan-filtering",
    "attach",
    "ports-per-bridge",
    "txqueuelen",
    "filter",
    "no-filter",
    "fabric",
    "hook",
    "sim-delay",
    "sim-jitter",
    "sim-loss",
    "sim-duplicate",
    "sim-reorder",
    "sim-queue",
    "mac",
    "timeout",
    "resolve",
    "seed",
    "spin",
];

/// Settings of the load, which each phase may have for itself.
pub const LOAD: &[&str] = &[
    "ping",
    "over-ipv6",
    "interval",
    "rate",
    "window",
    "ramp",
    "arrivals",
    "count",
    "duration",
    "warmup",
    "jitter-start",
    "size",
];

/// Settings that only a phase of a scenario has: which VMs come up in the course of it, and which leave.
pub const MOVES: &[&str] = &["start", "stop"];

/// Settings of what is done with the figures.
pub const OUTPUT: &[&str] = &["report", "expect"];

/// The ways to send, of which a phase has one.
pub const PACING: &[&str] = &["interval", "rate", "window", "ramp"];

/// The longest time that is taken for meant: a century. Sums and multiples of such times have room in what counts
/// nanoseconds.
const LONGEST: Duration = Duration::from_secs(100 * 31_557_600);

/// The lowest rate that is taken for meant: one in three decades.
const LEAST_RATE: f64 = 1e-9;

/// Where a setting was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// On the command line.
    Flag,
    /// In a file, on that line, counted from 1.
    File {
        /// The file's name.
        file: String,
        /// The line.
        line: usize,
    },
}

/// What somebody wrote for one setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The setting's name, as in the flag `--name`.
    pub name: &'static str,
    /// What was written.
    pub text: String,
    /// Where.
    pub origin: Origin,
}

/// A value that can't be: where it was written, what was found, and what is allowed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SettingError(String);

impl SettingError {
    /// An error that belongs to no single setting.
    pub fn new(why: impl fmt::Display) -> SettingError {
        SettingError(escaped(&why.to_string()))
    }
}

impl Setting {
    /// The error that this setting is, in the words `why`.
    pub fn error(&self, why: impl fmt::Display) -> SettingError {
        let Setting { name, text, origin } = self;
        SettingError::new(match origin {
            Origin::Flag => format!("--{name} {text}: {why}"),
            Origin::File { file, line } => format!("{file}, line {line}: {name} = {text}: {why}"),
        })
    }

    /// The value.
    ///
    /// # Errors
    /// When the text is none; `allowed` says what would be.
    pub fn value<T: FromStr>(&self, allowed: &str) -> Result<T, SettingError> {
        self.text
            .parse()
            .map_err(|_| self.error(format_args!("allowed is {allowed}")))
    }

    /// The value as a whole number, which may be written as `10k` or `10_000`.
    ///
    /// # Errors
    /// When the text is none, or `T` has no room for it; `allowed` says what would be.
    pub fn number<T: TryFrom<u64>>(&self, allowed: &str) -> Result<T, SettingError> {
        let number = whole_number(&self.text).and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| self.error(format_args!("allowed is {allowed}")))
    }

    /// The part `text` of the value as so many of something per second, `most` at most.
    ///
    /// # Errors
    /// When it is none.
    pub fn rate(&self, text: &str, what: &str, most: f64) -> Result<f64, SettingError> {
        let rate = number(text.trim()).filter(|rate| (LEAST_RATE..=most).contains(rate));
        rate.ok_or_else(|| {
            self.error(format_args!(
                "allowed are {what} per second, above 0 and up to {most}"
            ))
        })
    }

    /// The value as a span of time, as people write it: `200us`, `10ms`, `2s`. Never zero.
    ///
    /// # Errors
    /// When the text is no time, or no time at all.
    pub fn duration(&self) -> Result<Duration, SettingError> {
        let duration = self.duration_or_none()?;
        if duration.is_zero() {
            return Err(self.error("allowed is more than 0, such as 10ms"));
        }
        Ok(duration)
    }

    /// The same, but it may be no time at all.
    ///
    /// # Errors
    /// When the text is no time.
    pub fn duration_or_none(&self) -> Result<Duration, SettingError> {
        let duration = humantime::parse_duration(&self.text).map_err(|error| {
            self.error(format_args!(
                "{error}; allowed are times such as 200us, 10ms, 2s"
            ))
        })?;
        if duration > LONGEST {
            let longest = humantime::format_duration(LONGEST);
            return Err(self.error(format_args!("expected no more than {longest}")));
        }
        Ok(duration)
    }
}

/// Settings by name. A setting that may be repeated has several values.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings(BTreeMap<&'static str, Vec<Setting>>);

impl Settings {
    /// Adds a value.
    pub fn add(&mut self, setting: Setting) {
        self.0.entry(setting.name).or_default().push(setting);
    }

    /// Adds what was written for the flag `--name`.
    pub fn add_flag(&mut self, name: &'static str, text: impl fmt::Display) {
        self.add(Setting {
            name,
            text: text.to_string(),
            origin: Origin::Flag,
        });
    }

    /// The value of a setting, the last one if there are several.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.0.get(name)?.last()
    }

    /// All values of a setting that may be repeated.
    pub fn all(&self, name: &str) -> &[Setting] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a switch is on.
    ///
    /// # Errors
    /// When it is neither `true` nor `false`.
    pub fn switch(&self, name: &str) -> Result<bool, SettingError> {
        self.get(name)
            .map_or(Ok(false), |setting| setting.value("true or false"))
    }

    /// Makes sure that no text does anything to a terminal when it is told. Commands, which are run, may have several lines.
    ///
    /// # Errors
    /// With the first text that has a control character.
    pub fn check_texts(&self) -> Result<(), SettingError> {
        let texts = self
            .0
            .values()
            .flatten()
            .filter(|setting| setting.name != "hook");
        for setting in texts {
            if setting.text.contains(is_hidden) {
                return Err(setting.error("expected text without control characters"));
            }
        }
        Ok(())
    }

    /// Every setting that has a value, with its values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &[Setting])> {
        self.0
            .iter()
            .map(|(name, values)| (*name, values.as_slice()))
    }

    /// Puts these values in place of whatever somebody wrote for a setting.
    pub(super) fn set<T: fmt::Display, const N: usize>(
        &mut self,
        name: &'static str,
        values: [T; N],
    ) {
        self.0.remove(name);
        values.iter().for_each(|text| self.add_flag(name, text));
    }

    /// Keeps the settings that are to be.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| is_kept(name));
    }

    /// Those of them that each phase may have for itself.
    pub fn load_only(&self) -> Settings {
        let load = self.0.iter().filter(|(name, _)| LOAD.contains(name));
        Settings(load.map(|(name, values)| (*name, values.clone())).collect())
    }

    /// The settings of `self` where `over` has none. One way to send displaces another.
    pub fn overlaid(&self, over: &Settings) -> Settings {
        let mut settings = self.clone();
        if PACING.iter().any(|name| over.0.contains_key(name)) {
            settings.0.retain(|name, _| !PACING.contains(name));
        }
        settings.0.extend(over.0.clone());
        settings
    }
}
