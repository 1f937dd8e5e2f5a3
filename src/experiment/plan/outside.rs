//! What leads out of the lab: an interface that exists (`--uplink`).

use crate::experiment::settings::{SettingError, Settings};
use crate::system::{ExistingLink, LabConfig, Outside, SystemError, validate_interface_name};

/// Reads `uplink`.
pub(super) fn outside(settings: &Settings) -> Result<Option<Outside>, SettingError> {
    let Some(setting) = settings.get("uplink") else {
        return Ok(None);
    };
    if settings.switch("attach")? {
        let why = "cannot be used with --attach, which leaves the bridge as it is";
        return Err(setting.error(why));
    }
    let name = &setting.text;
    validate_interface_name(name).map_err(|why| setting.error(why))?;
    Ok(Some(Outside::Uplink(name.clone())))
}

/// Checks that a port of the lab's bridge can stand on the interface.
pub(super) fn check(
    settings: &Settings,
    lab: &LabConfig,
    find: impl Fn(&str) -> Result<ExistingLink, SystemError>,
) -> Result<(), SettingError> {
    let (Some(Outside::Uplink(name)), Some(setting)) = (&lab.outside, settings.get("uplink"))
    else {
        return Ok(());
    };
    let found = find(name).and_then(|link| link.check(lab));
    found.map_err(|error| SettingError::new(format_args!("{}: {error}", setting.flag())))
}
