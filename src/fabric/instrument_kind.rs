//! Kinds of instruments: the options that switch one on, and how it is made.
//!
//! [`INSTRUMENTS`] lists them. Plans, checks of output files, labs, reports and their schema read its rows and know no
//! instrument by name. Its options are rows of the [table of options](crate::experiment::options): the one of the
//! instrument's own name switches it on, and those whose names begin with that name and a dash say more.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::output::{Form, Sink};
use super::{Epoch, INSTRUMENTS, Instrument};
use crate::number::whole_number;
use crate::time::Instant;

/// A kind of instrument: a row of [`INSTRUMENTS`].
#[derive(Debug)]
pub struct InstrumentKind {
    /// The option that switches it on. Reports name what it wrote by it.
    pub name: &'static str,
    /// The word for one of the records that it writes, such as `frame`.
    pub record: &'static str,
    /// The form of what it writes.
    pub form: Form,
    /// The schema of a line, if it writes lines of JSON.
    pub schema: Option<fn(SchemaGenerator) -> Schema>,
    /// Checks the other options. Returns the number of files that are kept: more than one in a ring.
    pub check: fn(&InstrumentConfig) -> Result<u32, OptionError>,
    /// Makes it, to write to a sink.
    pub make: Make,
}

/// Makes an instrument for a run.
pub type Make =
    fn(&InstrumentConfig, &RunInfo, Box<dyn Sink>) -> Result<Box<dyn Instrument>, OptionError>;

impl InstrumentKind {
    /// A kind that writes lines, without further options.
    pub(super) const fn new(
        name: &'static str,
        record: &'static str,
        make: Make,
    ) -> InstrumentKind {
        InstrumentKind {
            name,
            record,
            form: Form::Lines,
            schema: None,
            check: |_| Ok(1),
            make,
        }
    }

    /// The kind that the option `name` switches on.
    pub fn named(name: &str) -> Option<&'static InstrumentKind> {
        INSTRUMENTS.iter().copied().find(|kind| kind.name == name)
    }

    /// Returns true if the option `name` says more about an instrument of this kind.
    pub fn has_option(&self, name: &str) -> bool {
        let rest = name.strip_prefix(self.name);
        rest.is_some_and(|rest| rest.starts_with('-'))
    }
}

impl PartialEq for InstrumentKind {
    fn eq(&self, other: &InstrumentKind) -> bool {
        self.name == other.name
    }
}

impl Eq for InstrumentKind {}

impl fmt::Display for InstrumentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Serialize for InstrumentKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for &'static InstrumentKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let unknown = || D::Error::custom(format_args!("no instrument is named {name:?}"));
        InstrumentKind::named(&name).ok_or_else(unknown)
    }
}

impl JsonSchema for InstrumentKind {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "InstrumentKind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = INSTRUMENTS.iter().map(|kind| kind.name).collect();
        json_schema!({ "type": "string", "enum": names, "description": "The option that switches an instrument on." })
    }
}

/// The place that an instrument writes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WriteTo {
    /// Standard error, in lines for a person.
    StandardError,
    /// Standard output.
    StandardOutput,
    /// A file or a FIFO.
    File(PathBuf),
    /// A client of a lab that runs. It has no name, and no report tells of it.
    Client,
}

impl fmt::Display for WriteTo {
    /// Formats it as an option has it: `-` is standard output.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteTo::StandardError => f.write_str("standard error"),
            WriteTo::StandardOutput => f.write_str("-"),
            WriteTo::File(path) => path.display().fmt(f),
            WriteTo::Client => Ok(()),
        }
    }
}

/// An instrument that is to be switched on, with checked options.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstrumentConfig {
    kind: &'static InstrumentKind,
    to: WriteTo,
    /// What its other options say, by their names.
    options: BTreeMap<&'static str, String>,
    files: u32,
}

/// An option of an instrument that can't be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{option}: {why}")]
pub struct OptionError {
    /// The option.
    pub option: &'static str,
    /// What was wrong, and what is expected.
    pub why: String,
}

impl InstrumentConfig {
    /// An instrument that writes to `to`. `options` are those of its kind that have a value.
    ///
    /// # Errors
    /// If the instrument can't have such a value.
    pub fn new(
        kind: &'static InstrumentKind,
        to: WriteTo,
        options: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<InstrumentConfig, OptionError> {
        let options = options.into_iter().collect();
        let mut config = InstrumentConfig {
            kind,
            to,
            options,
            files: 1,
        };
        config.files = (kind.check)(&config)?;
        Ok(config)
    }

    /// Its kind.
    pub const fn kind(&self) -> &'static InstrumentKind {
        self.kind
    }

    /// The place that it writes to.
    pub const fn to(&self) -> &WriteTo {
        &self.to
    }

    /// The same for one of several processes: in the name of its file `{}` stands for `number`. `None` if all would write to one
    /// place.
    pub fn numbered(self, number: u32) -> Option<InstrumentConfig> {
        let to = match &self.to {
            WriteTo::File(path) => {
                let name = path.to_str().filter(|name| name.contains("{}"))?;
                WriteTo::File(name.replace("{}", &number.to_string()).into())
            }
            WriteTo::Client | WriteTo::StandardOutput | WriteTo::StandardError => return None,
        };
        Some(InstrumentConfig { to, ..self })
    }

    /// The number of files of a ring; 1 if it is none.
    pub const fn files(&self) -> u32 {
        self.files
    }

    /// Makes the instrument for `run`, to write to `sink`.
    ///
    /// # Errors
    /// If an option can't be after all.
    pub fn make(
        &self,
        run: &RunInfo,
        sink: Box<dyn Sink>,
    ) -> Result<Box<dyn Instrument>, OptionError> {
        (self.kind.make)(self, run, sink)
    }

    /// The value of an option, if it has one.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// The value of an option as a whole number of `range`.
    pub(super) fn number(
        &self,
        name: &'static str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, OptionError> {
        let Some(text) = self.option(name) else {
            return Ok(None);
        };
        let number = whole_number(text).and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| OptionError {
            option: name,
            why: format!("expected {} to {}", range.start(), range.end()),
        })
    }
}

/// The facts of a run that instruments tell of.
#[derive(Clone, Debug, Default)]
pub struct RunInfo {
    /// The command that makes it.
    pub command: String,
    /// The operating system; empty in virtual time.
    pub system: String,
    /// The seed of all random choices.
    pub seed: u64,
    /// The beginning of the set-up.
    pub start: Instant,
    /// The time of day.
    pub epoch: Epoch,
    /// The time to wait for a reply.
    pub timeout: Duration,
}
