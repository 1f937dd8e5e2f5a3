//! The table of options: one row for each long flag, which is a key of scenario files as well.
//!
//! The scenario reader, the plan and its error messages read the table here; the command line, its help, its man page, its
//! completions and the JSON schema of scenarios are made from it by the binary (`src/cli`). A new option is one row in
//! `table.rs`, and its use where the plan is made.

mod suggest;
mod table;

use std::fmt;
use std::time::Duration;

pub use self::suggest::{did_you_mean, suggestion};
pub use self::table::OPTIONS;

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// The long flag without its dashes, and the key of scenario files.
    pub name: &'static str,
    /// The short flag.
    pub short: Option<char>,
    /// A word for the value in help texts, such as `TIME`; empty for a switch.
    pub value_name: &'static str,
    /// The kind of value.
    pub kind: Kind,
    /// The value that the flag has where it is given without one, if it may be.
    pub implied: Option<&'static str>,
    /// The section of the help text.
    pub category: Category,
    /// The places in which the option may be given.
    pub scope: Scope,
    /// True if it may be given several times; all values count.
    pub is_repeatable: bool,
    /// The values of `--fabric` that it works with; empty for all.
    pub fabrics: &'static [&'static str],
    /// The value where none is given.
    pub default: Default,
    /// True if the short help shows it.
    pub is_main: bool,
    /// One line of help, without a full stop.
    pub help: &'static str,
    /// Sentences that the long help adds; may be empty.
    pub details: &'static str,
    /// The rest of the long help, where it is made from another table.
    pub more: Option<fn() -> String>,
}

/// The kind of value that an option takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// On or off.
    Switch,
    /// A whole number, such as `100`, `10k` or `10_000`.
    Whole,
    /// A number of bytes, or of frames several sizes, such as `64-1518` or `imix`.
    Sizes,
    /// A number that may have a fraction, such as `0.5` or `2e3`.
    Number,
    /// A span of time, such as `200us`.
    Time,
    /// A span of time, or this word.
    TimeOr(&'static str),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// The name of a file.
    Path,
    /// VMs: `vmI`, `vm[I-J]`, the name of a group, or `all`.
    Vms,
    /// Any other text.
    Text,
}

/// A section of the help text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Category {
    /// The lab, and the run as a whole.
    Lab,
    /// The VMs.
    Vms,
    /// The pings.
    Traffic,
    /// Addresses and how VMs come by them.
    Addresses,
    /// The fabric that carries the frames.
    Fabric,
    /// The report and its checks.
    Output,
}

impl Category {
    /// All of them, in the order of the help text.
    pub const ALL: [Category; 6] = [
        Category::Lab,
        Category::Vms,
        Category::Traffic,
        Category::Addresses,
        Category::Fabric,
        Category::Output,
    ];
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Category::Lab => "Lab",
            Category::Vms => "VMs",
            Category::Traffic => "Traffic",
            Category::Addresses => "Addresses",
            Category::Fabric => "Fabric",
            Category::Output => "Output",
        })
    }
}

/// The places in which an option may be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// On the command line and at the top of a scenario: it holds for the whole run.
    Run,
    /// There, and in each phase.
    Load,
    /// On the command line and at the top of a scenario; it is about the report, and no plan depends on it.
    Output,
    /// On the command line only.
    CommandLine,
    /// At the top of a scenario only.
    File,
    /// In a group of a scenario only.
    Group,
    /// In a phase of a scenario only.
    Phase,
}

impl Scope {
    /// Returns true if there is a flag.
    pub const fn is_flag(self) -> bool {
        matches!(
            self,
            Scope::Run | Scope::Load | Scope::Output | Scope::CommandLine
        )
    }

    /// Returns true if it may stand at the top of a scenario.
    pub const fn is_top(self) -> bool {
        matches!(self, Scope::Run | Scope::Load | Scope::Output | Scope::File)
    }

    /// Returns true if it may stand in a group of a scenario.
    pub const fn is_group(self) -> bool {
        matches!(self, Scope::Group)
    }

    /// Returns true if it may stand in a phase of a scenario.
    pub const fn is_phase(self) -> bool {
        matches!(self, Scope::Load | Scope::Phase)
    }
}

/// The value of an option that is not given.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// None.
    None,
    /// This text.
    Text(&'static str),
    /// This number.
    Number(u64),
    /// This span of time.
    Time(Duration),
    /// A value that depends on other things, in words.
    Words(&'static str),
    /// Such words, made of the values that it may have.
    Made(fn() -> String),
}

impl Default {
    /// The value as a user would write it, if it is always the same.
    pub fn value(self) -> Option<String> {
        match self {
            Default::None | Default::Words(_) | Default::Made(_) => None,
            Default::Text(text) => Some(text.to_owned()),
            Default::Number(number) => Some(number.to_string()),
            Default::Time(Duration::ZERO) => Some("0".to_owned()),
            Default::Time(time) => Some(humantime::format_duration(time).to_string()),
        }
    }

    /// The value, or the words for it.
    pub fn describe(self) -> Option<String> {
        match self {
            Default::Words(words) => Some(words.to_owned()),
            Default::Made(words) => Some(words()),
            other => other.value(),
        }
    }
}

/// The values of a switch. Scenarios may have TOML's own, `true` and `false`, as well.
const SWITCH: &[&str] = &["on", "off"];

impl OptionSpec {
    /// The words that the value is one of, if it is one of some.
    pub const fn choices(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::OneOf(words) => words,
            Kind::Switch => SWITCH,
            _ => &[],
        }
    }

    /// Returns true if `on` and `off` are among the words that it may be.
    pub fn is_on_or_off(&self) -> bool {
        SWITCH.iter().all(|word| self.choices().contains(word))
    }

    /// Returns true if the word `off` says that it is not to be: of a switch, and of an option that is one where it is given
    /// without a value.
    pub fn may_be_off(&self) -> bool {
        self.is_on_or_off() || self.implied.is_some()
    }

    /// Returns true if a value has to be given.
    pub const fn needs_value(&self) -> bool {
        self.implied.is_none() && !matches!(self.kind, Kind::Switch)
    }

    /// Returns true if the option works with that fabric.
    pub fn works_with(&self, fabric: &str) -> bool {
        self.fabrics.is_empty() || self.fabrics.contains(&fabric)
    }
}

/// The row of the flag or the key of that name; of several, the flag.
pub fn option(name: &str) -> Option<&'static OptionSpec> {
    let mut named = OPTIONS.iter().filter(|option| option.name == name);
    let flag = named.clone().find(|option| option.scope.is_flag());
    flag.or_else(|| named.next())
}

/// Rows that are settings of an experiment, as flags or as keys at the top of a scenario.
pub fn settings() -> impl Iterator<Item = &'static OptionSpec> {
    OPTIONS
        .iter()
        .filter(|option| option.scope.is_flag() && option.scope.is_top())
}

/// Words as a list that ends in “or”: `bridge, xdp or none`.
pub fn any_of(words: &[&str]) -> String {
    match words {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::fabric::INSTRUMENTS;

    #[test]
    fn a_name_stands_once_for_each_place_and_a_short_flag_once() {
        type Place = fn(Scope) -> bool;
        let places: [Place; 4] = [
            Scope::is_flag,
            Scope::is_top,
            Scope::is_group,
            Scope::is_phase,
        ];
        for is_there in places {
            let mut seen = HashSet::new();
            for option in OPTIONS.iter().filter(|option| is_there(option.scope)) {
                assert!(seen.insert(option.name), "{} twice", option.name);
            }
        }
        let mut seen = HashSet::new();
        for short in OPTIONS.iter().filter_map(|option| option.short) {
            assert!(seen.insert(short), "-{short} twice");
        }
    }

    #[test]
    fn each_row_is_whole() {
        let fabrics = option("fabric").unwrap().choices();
        for option in OPTIONS {
            let OptionSpec { name, help, .. } = option;
            let is_switch = option.kind == Kind::Switch;
            assert_eq!(option.value_name.is_empty(), is_switch, "{name}");
            assert!(!help.is_empty() && !help.ends_with('.'), "{name}: {help}");
            assert!(help.chars().count() <= 68, "{name}: {help}");
            let details = option.details;
            assert!(
                details.is_empty() || details.ends_with(['.', ':']),
                "{name}: {details}"
            );
            for fabric in option.fabrics {
                assert!(fabrics.contains(fabric), "{name}: {fabric}");
            }
            if let (Kind::OneOf(words), Some(value)) = (option.kind, option.default.value()) {
                assert!(words.contains(&value.as_str()), "{name}: {value}");
            }
        }
    }

    #[test]
    fn each_instrument_is_switched_on_by_an_option_of_its_name() {
        for kind in INSTRUMENTS {
            let option = option(kind.name).unwrap_or_else(|| panic!("no option {kind}"));
            assert_eq!(option.scope, Scope::Output, "{kind}");
            assert!(matches!(option.kind, Kind::Path | Kind::Switch), "{kind}");
            let details = OPTIONS.iter().filter(|option| kind.has_option(option.name));
            for detail in details {
                let others = INSTRUMENTS
                    .iter()
                    .filter(|kind| kind.has_option(detail.name));
                assert_eq!(others.count(), 1, "{}", detail.name);
            }
        }
    }

    #[test]
    fn lists_end_in_or() {
        assert_eq!(any_of(&["a"]), "a");
        assert_eq!(any_of(&["a", "b"]), "a or b");
        assert_eq!(any_of(&["a", "b", "c"]), "a, b or c");
    }
}
