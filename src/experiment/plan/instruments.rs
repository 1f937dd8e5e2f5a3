//! The instruments that look at a run, and where they write to.

use super::{Group, Setting, SettingError, Settings, groups};
use crate::experiment::Experiment;
use crate::experiment::options::{Kind, OPTIONS, option};
use crate::fabric::{INSTRUMENTS, InstrumentConfig, InstrumentKind, WriteTo};
use crate::load::Selection;

/// The instruments that `settings` switch on.
pub(super) fn instruments(
    settings: &Settings,
    groups: &[Group<'_>],
    vms: u32,
) -> Result<Vec<InstrumentConfig>, SettingError> {
    let configs = INSTRUMENTS.iter();
    let configs = configs.map(|kind| instrument(kind, settings, groups, vms));
    configs.filter_map(Result::transpose).collect()
}

impl Experiment {
    /// The instrument of that kind that options such as `capture` and `capture-vms` switch on in a lab that runs. Without the
    /// option of its own name a client gets what it writes.
    ///
    /// # Errors
    /// If a value can't be, or names a VM that does not exist.
    pub fn instrument_of(
        &self,
        kind: &'static InstrumentKind,
        options: &[(&'static str, String)],
    ) -> Result<InstrumentConfig, SettingError> {
        let mut settings = Settings::default();
        for (name, value) in options {
            settings.set(name, [value]);
        }
        let to = settings.get(kind.name).map(place).transpose()?.flatten();
        let groups = groups(&self.effective)?;
        let to = to.unwrap_or(WriteTo::Client);
        configured(kind, to, &settings, &groups, self.vms.len() as u32)
    }
}

/// The instrument of that kind, if it is switched on.
fn instrument(
    kind: &'static InstrumentKind,
    settings: &Settings,
    groups: &[Group<'_>],
    vms: u32,
) -> Result<Option<InstrumentConfig>, SettingError> {
    let details = OPTIONS.iter().map(|option| option.name);
    let details = details.filter(|name| kind.has_option(name));
    let to = settings.get(kind.name).map(place).transpose()?.flatten();
    let Some(to) = to else {
        let mut given = details.filter_map(|name| settings.get(name));
        return given.next().map_or(Ok(None), |detail| {
            Err(detail.error(format_args!("expected --{kind} beside it")))
        });
    };
    configured(kind, to, settings, groups, vms).map(Some)
}

/// The instrument of that kind, with its options.
fn configured(
    kind: &'static InstrumentKind,
    to: WriteTo,
    settings: &Settings,
    groups: &[Group<'_>],
    vms: u32,
) -> Result<InstrumentConfig, SettingError> {
    let details = OPTIONS.iter().map(|option| option.name);
    let mut options = Vec::new();
    for name in details.filter(|name| kind.has_option(name)) {
        if let Some(setting) = settings.get(name) {
            options.push((name, text(setting, groups, vms)?));
        }
    }
    let config = InstrumentConfig::new(kind, to, options);
    config.map_err(|error| {
        let setting = settings.or_default(error.option);
        setting.error(error.why)
    })
}

/// The place that a setting names; `None` if it is a switch that is off.
fn place(setting: &Setting) -> Result<Option<WriteTo>, SettingError> {
    let kind = option(setting.name).map(|option| option.kind);
    Ok(match setting.text.as_str() {
        _ if kind == Some(Kind::Switch) => setting.switch()?.then_some(WriteTo::StandardError),
        "" => {
            return Err(setting.error("expected the name of a file, or - for standard output"));
        }
        "-" => Some(WriteTo::StandardOutput),
        path => Some(WriteTo::File(path.into())),
    })
}

/// The value of an option, checked as far as its kind says what may be; VMs with their numbers.
fn text(setting: &Setting, groups: &[Group<'_>], vms: u32) -> Result<String, SettingError> {
    match option(setting.name).map(|option| option.kind) {
        Some(Kind::OneOf(_)) => setting.choice().map(str::to_owned),
        Some(Kind::Switch) => setting.switch().map(|is_on| is_on.to_string()),
        Some(Kind::Vms) => selected(setting, groups, vms),
        _ => Ok(setting.text.clone()),
    }
}

/// The VMs that a setting names: `vm[I-J]`, or `all`.
fn selected(setting: &Setting, groups: &[Group<'_>], vms: u32) -> Result<String, SettingError> {
    let group = groups
        .iter()
        .find(|group| group.name == Some(setting.text.as_str()));
    let selection = match group {
        Some(group) => Selection::Range(group.first, group.first + group.vms - 1),
        None => setting.text.parse().map_err(|_| {
            let text = &setting.text;
            setting.error(format_args!(
                "{text:?} names no VMs; expected vmI, vm[I-J], the name of a group, or all"
            ))
        })?,
    };
    selection.range(vms).map_err(|why| setting.error(why))?;
    Ok(match selection {
        Selection::All => "all".to_owned(),
        Selection::Range(first, last) => format!("vm[{first}-{last}]"),
    })
}
