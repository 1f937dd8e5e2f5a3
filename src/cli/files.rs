//! The files that a run makes: none is made twice, and none of those that it reads.

use std::path::{Path, PathBuf};

use tap_reactor::control::ControlAddress;
use tap_reactor::experiment::{Experiment, Setting, SettingError, Settings};
use tap_reactor::fabric::{Form, InstrumentConfig, WriteTo};
use tap_reactor::report::{Destination, FileError};
use tap_reactor::system::{is_output_terminal, numbered, ring_number};

/// The files for reports, each a different one that `check` accepts, and none of `inputs`, which are read.
pub(super) fn destinations(
    settings: &Settings,
    inputs: &[PathBuf],
    check: impl Fn(&Path) -> Result<Destination, FileError>,
) -> Result<Vec<Destination>, SettingError> {
    let mut destinations: Vec<Destination> = Vec::new();
    for setting in settings.all("output") {
        let found = check(Path::new(&setting.text));
        let destination = found.map_err(|error| setting.error(error))?;
        if inputs.iter().any(|input| destination.overwrites(input)) {
            return Err(setting.error("would overwrite a file that is read; expected another one"));
        }
        if let Some(other) = destinations.iter().find(|it| it.is_same(&destination)) {
            let other = other.path().display();
            let why =
                format_args!("the same file as {other}; expected another one for each report");
            return Err(setting.error(why));
        }
        destinations.push(destination);
    }
    Ok(destinations)
}

/// Makes sure that no socket of the lab is to be where another one is, or where something is read or written.
pub(super) fn check_sockets(
    experiment: &Experiment,
    settings: &Settings,
    inputs: &[PathBuf],
    reports: &[Destination],
) -> Result<(), SettingError> {
    let instruments = experiment.instruments.iter();
    let written = instruments.filter_map(|config| match config.to() {
        WriteTo::File(path) => Some(path.as_path()),
        WriteTo::Client | WriteTo::StandardOutput | WriteTo::StandardError => None,
    });
    let used = inputs.iter().map(PathBuf::as_path).chain(written);
    let used = used.chain(reports.iter().map(Destination::target));
    let used: Vec<PathBuf> = used.filter_map(place).collect();
    let mut sockets = Vec::new();
    for setting in settings.all("control") {
        let Ok(ControlAddress::Path(path)) = setting.text.parse() else {
            continue;
        };
        let Some(place) = place(&path) else {
            continue;
        };
        if sockets.contains(&place) {
            return Err(setting.error("the lab listens there already; expected another path"));
        }
        if used.contains(&place) {
            return Err(
                setting.error("something else is read or written there; expected another path")
            );
        }
        sockets.push(place);
    }
    Ok(())
}

/// The place of a file that need not be there, whatever leads to its folder. `None` if there is no such folder.
fn place(path: &Path) -> Option<PathBuf> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
    Some(folder.join(path.file_name()?))
}

/// Makes sure that instruments can write where they are to, each to a file that is neither read nor written otherwise, and
/// to a standard stream only if `taken` names no flag that takes it.
pub(super) fn check_instruments(
    experiment: &Experiment,
    settings: &Settings,
    inputs: &[PathBuf],
    reports: &[Destination],
    taken: impl Fn(&WriteTo) -> Option<String>,
) -> Result<(), SettingError> {
    let instruments = experiment.instruments.iter();
    let instruments: Vec<(&InstrumentConfig, &Setting)> = instruments
        .filter_map(|config| Some((config, settings.get(config.kind().name)?)))
        .collect();
    let mut others = reports.to_vec();
    for (config, setting) in &instruments {
        if config.kind().form == Form::Nothing {
            continue;
        }
        if let Some(flag) = taken(config.to()) {
            return Err(setting.error(format_args!("cannot be used with {flag}")));
        }
        others.extend(destination(config.to(), setting, inputs, &others)?);
    }
    for (config, setting) in instruments {
        if config.files() > 1 {
            check_ring(setting, inputs, &others)?;
        }
    }
    Ok(())
}

/// Makes sure that no file of the ring that `setting` names is one that is read, or written otherwise.
fn check_ring(
    setting: &Setting,
    inputs: &[PathBuf],
    others: &[Destination],
) -> Result<(), SettingError> {
    let path = Path::new(&setting.text);
    if Destination::new(path).is_ok_and(|it| it.is_fifo()) {
        let why = "a FIFO is not several files; expected a file, or a limit of one";
        return Err(setting.error(why));
    }
    let inputs = inputs.iter().filter_map(|path| Destination::new(path).ok());
    for other in inputs.chain(others.iter().cloned()) {
        let Some(file) = ring_number(path, other.target()).map(|number| numbered(path, number))
        else {
            continue;
        };
        if Destination::new(&file).is_ok_and(|it| it.is_same(&other)) {
            let why = format_args!(
                "{} is one of its files, and is used otherwise; expected another file",
                file.display()
            );
            return Err(setting.error(why));
        }
    }
    Ok(())
}

/// The file `to` that `setting` names, which is none of `inputs` and `others`; `None` for standard error.
fn destination(
    to: &WriteTo,
    setting: &Setting,
    inputs: &[PathBuf],
    others: &[Destination],
) -> Result<Option<Destination>, SettingError> {
    let (path, is_output) = match to {
        WriteTo::StandardError | WriteTo::Client => return Ok(None),
        WriteTo::StandardOutput => (Path::new("/dev/stdout"), true),
        WriteTo::File(path) => (path.as_path(), false),
    };
    if is_output && is_output_terminal() {
        return Err(setting.error("standard output is a terminal; expected a pipe or a file"));
    }
    let destination = Destination::new(path).map_err(|error| setting.error(error))?;
    if inputs.iter().any(|input| destination.overwrites(input)) {
        return Err(setting.error("would overwrite a file that is read; expected another one"));
    }
    if !is_output && destination.is_standard_output() {
        return Err(setting.error("that is standard output; expected - for it"));
    }
    if others.iter().any(|it| it.is_same(&destination)) {
        return Err(setting.error("something else is written there; expected another file"));
    }
    Ok(Some(destination))
}
