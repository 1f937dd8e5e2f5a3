//! What is recorded of a run, and where to.

use std::path::PathBuf;

use super::{Group, Setting, SettingError, Settings};
use crate::fabric::capture::{CaptureConfig, CaptureLimit};
use crate::load::Selection;
use crate::number::whole_number;
use crate::vm::VmId;

/// The smallest file that a capture is limited to: its head, and a frame of the largest size.
const SMALLEST_LIMIT: u64 = 100_000;
/// The most files of a ring.
const MAX_FILES: u32 = 10_000;
/// The most bytes that are kept of a frame, which is more than any frame has.
const MAX_SNAP: u32 = 262_144;
/// The most frames before and after a failed ping.
const MAX_AROUND: u32 = 1_000_000;

/// The settings that say more about a capture.
const DETAILS: [&str; 5] = [
    "capture-comments",
    "capture-snap",
    "capture-vms",
    "capture-limit",
    "capture-on-loss",
];

/// The capture that `settings` ask for, if any.
pub(super) fn capture(
    settings: &Settings,
    groups: &[Group<'_>],
    vms: u32,
) -> Result<Option<CaptureConfig>, SettingError> {
    let Some(path) = settings.get("capture") else {
        let detail = DETAILS.iter().find_map(|name| settings.get(name));
        return match detail {
            Some(detail) => Err(detail.error("nothing is captured; expected --capture beside it")),
            None => Ok(None),
        };
    };
    let number = |name, range| {
        let setting = settings.get(name);
        setting.map(|setting| setting.number_in(range)).transpose()
    };
    let limit = settings.get("capture-limit").map(limit).transpose()?;
    let config = CaptureConfig {
        path: file(path)?,
        has_comments: settings.or_default("capture-comments").choice()? == "on",
        snap: number("capture-snap", 14..=MAX_SNAP)?,
        vms: match settings.get("capture-vms") {
            Some(setting) => Some(selected(setting, groups, vms)?),
            None => None,
        },
        limit,
        around_loss: number("capture-on-loss", 0..=MAX_AROUND)?,
    };
    if let Some(setting) = settings.get("capture-limit")
        && config.is_ring()
        && !config.is_named()
    {
        let why = "standard output is one file; expected a size alone, such as 100M";
        return Err(setting.error(why));
    }
    Ok(Some(config))
}

/// The file for the events of a run, if there is to be one.
pub(super) fn trace(settings: &Settings) -> Result<Option<PathBuf>, SettingError> {
    settings.get("trace").map(file).transpose()
}

/// The file that a setting names.
fn file(setting: &Setting) -> Result<PathBuf, SettingError> {
    match setting.text.as_str() {
        "" => Err(setting.error("expected the name of a file, or - for standard output")),
        path => Ok(path.into()),
    }
}

/// The VMs that a setting names: the first and the last.
fn selected(
    setting: &Setting,
    groups: &[Group<'_>],
    vms: u32,
) -> Result<(VmId, VmId), SettingError> {
    let group = groups
        .iter()
        .find(|group| group.name == Some(setting.text.as_str()));
    if let Some(group) = group {
        return Ok((VmId(group.first), VmId(group.first + group.vms - 1)));
    }
    let selection: Selection = setting
        .text
        .parse()
        .map_err(|_| setting.error("expected vmI, vm[I-J], the name of a group, or all"))?;
    let range = selection.range(vms).map_err(|why| setting.error(why))?;
    Ok((VmId(*range.start()), VmId(*range.end())))
}

/// The limit `100M`, or `100M*5` for the last five files of that size.
fn limit(setting: &Setting) -> Result<CaptureLimit, SettingError> {
    let expected = || {
        setting.error(format_args!(
            "expected a size of {SMALLEST_LIMIT} bytes or more, such as 100M, or 100M*5 for the last 5 files of that size"
        ))
    };
    let (size, files) = match setting.text.split_once('*') {
        Some((size, files)) => (size, files.trim()),
        None => (setting.text.as_str(), "1"),
    };
    let bytes = whole_number(size.trim()).filter(|bytes| *bytes >= SMALLEST_LIMIT);
    let files = files
        .parse()
        .ok()
        .filter(|files| (1..=MAX_FILES).contains(files));
    bytes
        .zip(files)
        .map(|(bytes, files)| CaptureLimit { bytes, files })
        .ok_or_else(expected)
}
