//! Settings: a name, the text written for it, and its place. Flags and scenario files become the same settings, so that
//! every value is checked in one place and every error says where the value came from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::options::{Kind, OptionSpec, Scope, any_of, option, suggestion};
use crate::escape::{escaped, is_hidden};
use crate::number::{number, whole_number};

/// The ways to send, of which a phase has one.
pub const PACING: &[&str] = &["interval", "rate", "window", "ramp"];

/// The longest time that is taken for meant: a century. Sums and multiples of such times have room in what counts
/// nanoseconds.
const LONGEST: Duration = Duration::from_secs(100 * 31_557_600);

/// The lowest rate that is taken for meant: one in three decades.
const LEAST_RATE: f64 = 1e-9;

/// The place at which a setting was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// On the command line.
    Flag {
        /// True for the short form, such as `-c`.
        is_short: bool,
    },
    /// In a file, on that line, counted from 1.
    File {
        /// The file's name.
        file: String,
        /// The line.
        line: usize,
    },
}

/// The text that was written for one setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The setting's name, as in the flag `--name`.
    pub name: &'static str,
    /// The text.
    pub text: String,
    /// Its place.
    pub origin: Origin,
}

/// A value that can't be: where it was written, what was found, and what is expected.
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
        let text = if text.is_empty() { "''" } else { text };
        let flag = self.flag();
        let option = option(name);
        let implied = option.and_then(|option| match option.kind {
            Kind::Switch => Some("on"),
            _ => option.implied,
        });
        SettingError::new(match (origin, implied) {
            (Origin::Default, _) => format!("{name} {text} (the default): {why}"),
            (Origin::Flag { .. }, None) => format!("{flag} {text}: {why}"),
            (Origin::Flag { .. }, Some(implied)) if implied == text => format!("{flag}: {why}"),
            (Origin::Flag { .. }, Some(_)) => format!("{flag}={text}: {why}"),
            (Origin::File { file, line }, _) => {
                format!("{file}, line {line}: {name} = {text}: {why}")
            }
        })
    }

    /// The name as it was written: `--count`, `-c`, or in a file `count in lab.toml, line 3`.
    pub fn flag(&self) -> String {
        let short = option(self.name).and_then(|option| option.short);
        match (&self.origin, short) {
            (Origin::Flag { is_short: true }, Some(short)) => format!("-{short}"),
            (Origin::Flag { .. }, _) => format!("--{}", self.name),
            (Origin::File { file, line }, _) => format!("{} in {file}, line {line}", self.name),
            (Origin::Default, _) => self.name.to_owned(),
        }
    }

    /// The value.
    ///
    /// # Errors
    /// When the text is none; `expected` says what would be.
    pub fn value<T: FromStr>(&self, expected: &str) -> Result<T, SettingError> {
        self.text
            .parse()
            .map_err(|_| self.error(format_args!("expected {expected}")))
    }

    /// The value, which is one of the words that the table of options has for it.
    ///
    /// # Errors
    /// When it is another; says which are expected.
    pub fn choice(&self) -> Result<&'static str, SettingError> {
        let words = option(self.name).map_or(&[][..], OptionSpec::choices);
        let word = words.iter().find(|word| **word == self.text);
        word.copied().ok_or_else(|| {
            let meant = suggestion(&self.text, "", words.iter().copied());
            self.error(format_args!("expected {}{meant}", any_of(words)))
        })
    }

    /// Returns true if it asks for nothing: a switch that is off, or an option with a value that may be.
    pub fn is_off(&self) -> bool {
        let words: &[&str] = match option(self.name) {
            Some(option) if matches!(option.kind, Kind::Switch | Kind::OneOf(_)) => {
                &["false", "off", "auto"]
            }
            Some(option) if option.may_be_off() => &["off"],
            _ => &[],
        };
        words.contains(&self.text.as_str())
    }

    /// Returns true if the switch is on.
    ///
    /// # Errors
    /// When it is neither on nor off, as flags have it, nor `true` nor `false`, as scenario files have it.
    pub fn switch(&self) -> Result<bool, SettingError> {
        match self.text.as_str() {
            "on" | "true" => Ok(true),
            "off" | "false" => Ok(false),
            _ => Err(self.error("expected on or off")),
        }
    }

    /// The value as a whole number, which may be written as `10k` or `10_000`.
    ///
    /// # Errors
    /// When the text is none, or `T` has no room for it; `expected` says what would be.
    pub fn number<T: TryFrom<u64>>(&self, expected: &str) -> Result<T, SettingError> {
        let number = whole_number(&self.text).and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| self.error(format_args!("expected {expected}")))
    }

    /// The value as a whole number of that range.
    ///
    /// # Errors
    /// When it is none, or one outside of it.
    pub fn number_in<T>(&self, range: RangeInclusive<T>) -> Result<T, SettingError>
    where
        T: TryFrom<u64> + PartialOrd + fmt::Display,
    {
        let number = whole_number(&self.text).and_then(|number| T::try_from(number).ok());
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (first, last) = (range.start(), range.end());
                self.error(format_args!("expected {first} to {last}"))
            })
    }

    /// The part `text` of the value as so many of something per second, `most` at most.
    ///
    /// # Errors
    /// When it is none.
    pub fn rate(&self, text: &str, what: &str, most: f64) -> Result<f64, SettingError> {
        let rate = number(text.trim()).filter(|rate| (LEAST_RATE..=most).contains(rate));
        rate.ok_or_else(|| {
            self.error(format_args!(
                "expected {what} per second, above 0 and up to {most}"
            ))
        })
    }

    /// The value as a span of time, as people write it: `200us`, `10ms`, `2s`, or `2` for two seconds. Never zero.
    ///
    /// # Errors
    /// When the text is no time, or no time at all.
    pub fn duration(&self) -> Result<Duration, SettingError> {
        self.duration_of(&self.text)
    }

    /// The same of `text`, which is a part of the value.
    ///
    /// # Errors
    /// As [`Setting::duration`].
    pub fn duration_of(&self, text: &str) -> Result<Duration, SettingError> {
        let duration = self.duration_or_none_of(text)?;
        if duration.is_zero() {
            return Err(self.error("expected more than 0, such as 10ms"));
        }
        Ok(duration)
    }

    /// The same, but it may be no time at all.
    ///
    /// # Errors
    /// When the text is no time.
    pub fn duration_or_none(&self) -> Result<Duration, SettingError> {
        self.duration_or_none_of(&self.text)
    }

    fn duration_or_none_of(&self, text: &str) -> Result<Duration, SettingError> {
        let duration = span(text).ok_or_else(|| {
            self.error("expected a time such as 200us, 10ms or 2s, or a number of seconds")
        })?;
        if duration > LONGEST {
            return Err(self.error("expected no more than 100 years"));
        }
        Ok(duration)
    }
}

/// The span of time that `text` is: `200us`, `1h 30m`, or without a unit a number of seconds, as `ping` has it.
pub(crate) fn span(text: &str) -> Option<Duration> {
    let is_plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    match text.bytes().all(is_plain) {
        true => Duration::try_from_secs_f64(text.parse().ok()?).ok(),
        false => humantime::parse_duration(text).ok(),
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

    /// Begins the values of a setting that may be repeated: without any, there are none in place of those of the whole run.
    pub fn begin(&mut self, name: &'static str) {
        self.0.entry(name).or_default();
    }

    /// Adds what was written for the flag `--name`.
    pub fn add_flag(&mut self, name: &'static str, text: impl fmt::Display) {
        self.add(Setting {
            name,
            text: text.to_string(),
            origin: Origin::Flag { is_short: false },
        });
    }

    /// The value of a setting, the last one if there are several.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.0.get(name)?.last()
    }

    /// The value of a setting, or the default that the table of options has for it.
    pub fn or_default(&self, name: &'static str) -> Cow<'_, Setting> {
        match self.get(name) {
            Some(setting) => Cow::Borrowed(setting),
            None => Cow::Owned(Setting {
                name,
                text: option(name)
                    .and_then(|option| option.default.value())
                    .unwrap_or_default(),
                origin: Origin::Default,
            }),
        }
    }

    /// All values of a setting that may be repeated.
    pub fn all(&self, name: &str) -> &[Setting] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Those of them that are not `none`, which says that there are no others.
    pub fn meant(&self, name: &str) -> impl Iterator<Item = &Setting> {
        let values = self.all(name).iter();
        values.filter(|value| value.text.trim() != "none")
    }

    /// Returns true if a switch is on.
    ///
    /// # Errors
    /// When it is neither on nor off.
    pub fn switch(&self, name: &str) -> Result<bool, SettingError> {
        self.get(name).map_or(Ok(false), Setting::switch)
    }

    /// Checks that no text would control a terminal when it is printed. Commands, which are run, may have several lines.
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

    /// Every setting that was written, with its values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &[Setting])> {
        self.0
            .iter()
            .map(|(name, values)| (*name, values.as_slice()))
    }

    /// Replaces the values of a setting.
    pub(super) fn set<T: fmt::Display, const N: usize>(
        &mut self,
        name: &'static str,
        values: [T; N],
    ) {
        self.0.remove(name);
        values.iter().for_each(|text| self.add_flag(name, text));
    }

    /// Keeps the settings for whose names `is_kept` returns true.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| is_kept(name));
    }

    /// Those of them that belong to an experiment, and not to one command line only.
    pub fn of_experiment(&self) -> Settings {
        let is_top = |name: &str| option(name).is_some_and(|option| option.scope.is_top());
        let kept = self.0.iter().filter(|(name, _)| is_top(name));
        Settings(kept.map(|(name, values)| (*name, values.clone())).collect())
    }

    /// Those of them that each phase may have for itself.
    pub fn load_only(&self) -> Settings {
        let is_load = |name: &str| option(name).is_some_and(|option| option.scope == Scope::Load);
        let load = self.0.iter().filter(|(name, _)| is_load(name));
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
