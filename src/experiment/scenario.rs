//! Scenario files (TOML): the settings that flags have, and groups of VMs and phases.
//!
//! ```toml
//! name = "incast"
//! timeout = "500ms"            # any long flag, without its dashes
//!
//! [[group]]                    # VMs in order: the first group's are vm0, vm1, …
//! name = "server"
//! vms = 1
//!
//! [[group]]
//! name = "client"
//! vms = 50
//! size = 1000                  # payload of the pings that they send
//!
//! [[phase]]                    # phases follow one another
//! name = "calm"
//! ping = ["client:server"]     # patterns may name groups
//! rate = 1000
//! start = "10 per second"      # the last fifty VMs come up in the course of it
//! duration = "5s"
//! ```

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::options::{OPTIONS, Scope, suggestion};
use super::settings::{Origin, Setting, SettingError, Settings};

/// The settings of a user, read but not checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scenario {
    /// Settings of the run, and of the load of phases that have none of their own.
    pub settings: Settings,
    /// Groups of VMs; empty for `vms` plain ones.
    pub groups: Vec<Settings>,
    /// Phases; empty for one that `settings` describes.
    pub phases: Vec<Settings>,
}

impl Scenario {
    /// Reads the text of the scenario file called `file`.
    ///
    /// # Errors
    /// With file, line, what was found and what is expected there.
    pub fn parse(file: &str, text: &str) -> Result<Scenario, SettingError> {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let reader = Reader {
            file,
            line_ends: ends.map(|(at, _)| at).collect(),
        };
        let document = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| reader.line(span.start));
            SettingError::new(format_args!(
                "{file}, line {line}: {}",
                one_line(error.message())
            ))
        })?;
        let mut scenario = Scenario::default();
        for (key, value) in document.get_ref() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("group", _) => scenario.groups = reader.tables(value, "group", Scope::is_group)?,
                ("phase", _) => scenario.phases = reader.tables(value, "phase", Scope::is_phase)?,
                _ => reader.add(
                    &mut scenario.settings,
                    key,
                    value,
                    Scope::is_top,
                    &["group", "phase"],
                )?,
            }
        }
        Ok(scenario)
    }

    /// The same with `flags`, which win over what the file says, in every phase.
    pub fn overlaid(self, flags: &Settings) -> Scenario {
        Scenario {
            settings: self.settings.overlaid(flags),
            phases: self
                .phases
                .iter()
                .map(|phase| phase.overlaid(&flags.load_only()))
                .collect(),
            groups: self.groups,
        }
    }
}

struct Reader<'a> {
    file: &'a str,
    line_ends: Vec<usize>,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        1 + self.line_ends.partition_point(|end| *end < offset)
    }

    fn error(&self, offset: usize, why: std::fmt::Arguments<'_>) -> SettingError {
        SettingError::new(format_args!(
            "{}, line {}: {why}",
            self.file,
            self.line(offset)
        ))
    }

    /// An array of tables, `[[group]]` or `[[phase]]`.
    fn tables(
        &self,
        value: &Spanned<DeValue<'_>>,
        what: &str,
        is_here: fn(Scope) -> bool,
    ) -> Result<Vec<Settings>, SettingError> {
        let wrong = |offset| {
            self.error(
                offset,
                format_args!("{what}: expected [[{what}]], repeated"),
            )
        };
        let DeValue::Array(tables) = value.get_ref() else {
            return Err(wrong(value.span().start));
        };
        let mut read = Vec::new();
        for table in tables.iter() {
            let DeValue::Table(entries) = table.get_ref() else {
                return Err(wrong(table.span().start));
            };
            let mut settings = Settings::default();
            for (key, value) in entries {
                self.add(&mut settings, key, value, is_here, &[])?;
            }
            read.push(settings);
        }
        Ok(read)
    }

    fn add(
        &self,
        settings: &mut Settings,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        is_here: fn(Scope) -> bool,
        tables: &[&str],
    ) -> Result<(), SettingError> {
        let found = key.get_ref().as_ref();
        let here = || OPTIONS.iter().filter(|option| is_here(option.scope));
        let Some(option) = here().find(|option| option.name == found) else {
            let names = tables
                .iter()
                .copied()
                .chain(here().map(|option| option.name));
            let names: Vec<_> = names.collect();
            let mut meant = suggestion(found, "", names.iter().copied());
            if meant.is_empty() {
                meant = format!("; expected one of {}", names.join(", "));
            }
            return Err(self.error(
                key.span().start,
                format_args!("unknown key {found:?}{meant}"),
            ));
        };
        let name = option.name;
        let scalar = |value: &Spanned<DeValue<'_>>| {
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) => number.to_string(),
                DeValue::Float(number) => number.to_string(),
                DeValue::Boolean(switch) => match (switch, option.implied) {
                    // As the flag without a value.
                    (true, Some(implied)) => implied.to_owned(),
                    (true, None) if option.is_on_or_off() => "on".to_owned(),
                    (false, _) if option.may_be_off() => "off".to_owned(),
                    _ => switch.to_string(),
                },
                DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                    let why = format_args!("{name}: expected text, a number, true or false");
                    return Err(self.error(value.span().start, why));
                }
            };
            let line = self.line(value.span().start);
            let origin = Origin::File {
                file: self.file.to_owned(),
                line,
            };
            Ok(Setting { name, text, origin })
        };
        match value.get_ref() {
            DeValue::Array(values) if !option.is_repeatable => {
                let why = format_args!("{name}: a list of {}; expected one value", values.len());
                return Err(self.error(value.span().start, why));
            }
            DeValue::Array(values) => {
                settings.begin(name);
                for value in values.iter() {
                    settings.add(scalar(value)?);
                }
            }
            _ => settings.add(scalar(value)?),
        }
        Ok(())
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_keep_the_line_they_stand_on() {
        let text = "vms = 3\n\n[[phase]]\nname = \"calm\"\nping = [\n  \"vm0:vm1\",\n  \"ring\",\n]\nrate = 2e3\n";
        let scenario = Scenario::parse("lab.toml", text).unwrap();
        let lines = |settings: &Settings, name: &str| -> Vec<(String, usize)> {
            let line = |s: &Setting| match &s.origin {
                Origin::File { line, .. } => *line,
                Origin::Default | Origin::Flag { .. } => 0,
            };
            settings
                .all(name)
                .iter()
                .map(|s| (s.text.clone(), line(s)))
                .collect()
        };
        assert_eq!(lines(&scenario.settings, "vms"), [("3".to_owned(), 1)]);
        let phase = &scenario.phases[0];
        assert_eq!(
            lines(phase, "ping"),
            [("vm0:vm1".to_owned(), 6), ("ring".to_owned(), 7)]
        );
        assert_eq!(lines(phase, "rate"), [("2e3".to_owned(), 9)]);
    }

    #[test]
    fn what_is_on_or_off_may_be_true_or_false_whatever_else_it_may_be() {
        let here = OPTIONS.iter().filter(|option| option.scope.is_top());
        for option in here.filter(|option| option.is_on_or_off()) {
            for (value, expected) in [("true", "on"), ("false", "off")] {
                let text = format!("{} = {value}\n", option.name);
                let scenario = Scenario::parse("lab.toml", &text).unwrap();
                let setting = scenario.settings.get(option.name).unwrap();
                assert_eq!(setting.text, expected, "{text}");
            }
        }
        let text = "capture = 'a'\ncapture-comments = false\nfilter = false\nping = 'ring'\n";
        let scenario = Scenario::parse("lab.toml", text).unwrap();
        let plan = crate::experiment::plan(&scenario).unwrap();
        assert!(!plan.lab.filter);
    }

    #[test]
    fn an_empty_list_of_a_phase_is_none_of_what_all_phases_have() {
        let values = ["misbehave", "impair", "move"];
        let text = |phase: &str| {
            format!(
                "fabric = 'sim'\nvms = 4\nping = 'vm0:vm1'\nduration = '1s'\nmisbehave = 'vm3:silent'\n\
                 impair = 'vm2:loss=1%'\nmove = 'vm2:leaf1'\n[[phase]]\n{phase}"
            )
        };
        let none = values.map(|name| format!("{name} = []\n")).concat();
        for (phase, expected) in [("", 1), (none.as_str(), 0)] {
            let scenario = Scenario::parse("lab.toml", &text(phase)).unwrap();
            let mut plan = crate::experiment::plan(&scenario).unwrap();
            let again = crate::experiment::plan(&plan.effective).unwrap();
            for phase in plan.phases.drain(..).chain(again.phases) {
                let numbers = [
                    phase.misbehaviours.len(),
                    phase.impairments.unwrap().len(),
                    phase.moves.len(),
                ];
                assert_eq!(numbers, [expected; 3]);
            }
        }
        let nobody = Scenario::parse("lab.toml", &text("ping = []")).unwrap();
        let error = crate::experiment::plan(&nobody).unwrap_err().to_string();
        assert!(
            error.contains("no ping and no stream; expected one pattern"),
            "{error}"
        );
    }

    #[test]
    fn flags_win_over_the_file_in_every_phase_and_one_way_to_send_displaces_another() {
        let text = "interval = \"1ms\"\nduration = \"9s\"\n[[phase]]\nrate = 5\n[[phase]]\nduration = \"2s\"\n";
        let mut flags = Settings::default();
        flags.add_flag("window", 4);
        flags.add_flag("duration", "1s");
        flags.add_flag("vms", 9);
        let scenario = Scenario::parse("lab.toml", text).unwrap().overlaid(&flags);
        for settings in scenario.phases.iter().chain([&scenario.settings]) {
            assert_eq!(settings.get("rate"), None);
            assert_eq!(settings.get("interval"), None);
            assert_eq!(settings.get("window").unwrap().text, "4");
            assert_eq!(settings.get("duration").unwrap().text, "1s");
        }
        assert_eq!(scenario.phases[0].get("vms"), None);
    }

    #[test]
    fn errors_name_file_line_field_and_what_is_expected() {
        let cases = [
            ("vms = \n", "lab.toml, line 1: "),
            (
                "vms = 2\nvelocity = 3\n",
                "lab.toml, line 2: unknown key \"velocity\"; expected one of group, phase, netns, join, attach",
            ),
            (
                "\n[[phase]]\nvms = 2\n",
                "lab.toml, line 3: unknown key \"vms\"; expected one of ping, stream, ping-ipv6",
            ),
            ("phase = 3\n", "lab.toml, line 1: phase: expected [[phase]]"),
            ("[phase]\n", "lab.toml, line 1: phase: expected [[phase]]"),
            (
                "vms = { a = 1 }\n",
                "lab.toml, line 1: vms: expected text, a number",
            ),
            (
                "ping = [\"ring\", []]\n",
                "lab.toml, line 1: ping: expected text",
            ),
            ("vms = 1\nvms = 2\n", "lab.toml, line 2: "),
            (
                "vms = [1, 2]\n",
                "lab.toml, line 1: vms: a list of 2; expected one value",
            ),
            (
                "vsm = 1\n",
                "lab.toml, line 1: unknown key \"vsm\"; did you mean vms?",
            ),
        ];
        for (text, expected) in cases {
            let error = Scenario::parse("lab.toml", text)
                .expect_err(text)
                .to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
            assert_eq!(error.lines().count(), 1);
        }
    }
}
