//! Removes marked links: a run's own at its end, and those that a killed run has left behind.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;

use super::error::SystemError;
use super::link::Link;
use super::mark::{Mark, Owner};
use super::names::validate_namespace_name;
use super::namespace::{CURRENT_NAMESPACE, NAMESPACE_DIRECTORY, enter_file, remove_name};
use super::netlink::Netlink;

/// What [`clean`] did. Links in a named namespace are listed as `tap0 in namespace lab`.
#[derive(Debug, Default)]
pub struct Cleaned {
    /// The links and namespaces that are gone now.
    pub removed: Vec<String>,
    /// The marked links and namespaces that were left alone, and why.
    pub kept: Vec<(String, String)>,
    /// What should have been removed or looked into, and could not be.
    pub failed: Vec<SystemError>,
}

/// Removes the marked links whose run is gone, and nothing else, from the current network namespace and from all named
/// ones; and named namespaces that such a run made. All of the named ones, because a run goes into whichever `--netns` names
/// and leaves no other trace of that than its marks.
///
/// # Errors
/// When the current namespace can't be looked into, or not be returned to.
pub fn clean() -> Result<Cleaned, SystemError> {
    let mut cleaned = Cleaned::default();
    clean_current(None, &mut cleaned)?;
    let here = File::open(CURRENT_NAMESPACE)
        .map_err(|error| SystemError::io("open the current namespace", &error))?;
    for name in namespace_names() {
        let Some(namespace) = other_namespace(&name, &here) else {
            continue;
        };
        let cleaning = enter_file(&namespace, || format!("enter namespace {name}"))
            .and_then(|()| clean_current(Some(&name), &mut cleaned));
        enter_file(&here, || "return from another namespace".to_owned())?;
        cleaned.failed.extend(cleaning.err());
    }
    Ok(cleaned)
}

fn namespace_names() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(NAMESPACE_DIRECTORY) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| validate_namespace_name(name).is_ok())
        .collect();
    names.sort();
    names
}

/// Opens a named namespace; `None` if it is the one that we are in, or no namespace: a name without its mount is a
/// file on another file system than the kernel's own for namespaces.
fn other_namespace(name: &str, here: &File) -> Option<File> {
    let file = File::open(format!("{NAMESPACE_DIRECTORY}/{name}")).ok()?;
    let (there, here) = (file.metadata().ok()?, here.metadata().ok()?);
    (there.dev() == here.dev() && there.ino() != here.ino()).then_some(file)
}

/// Cleans the namespace that the thread is in; `name` is its name if it is a named one.
fn clean_current(name: Option<&str>, cleaned: &mut Cleaned) -> Result<(), SystemError> {
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    let owners = owners(&links);
    let full_name = |link: &Link| match name {
        Some(namespace) => format!("{} in namespace {namespace}", link.name),
        None => link.name.clone(),
    };
    for link in links.iter().filter(|link| !is_loopback(link)) {
        if let Some(mark) = mark_of(link)
            && let Some(reason) = owners
                .get(&mark.alias())
                .and_then(|owner| reason_to_keep(&mark, *owner))
        {
            cleaned.kept.push((full_name(link), reason));
        }
    }
    let is_gone = |mark: &Mark| owners.get(&mark.alias()) == Some(&Owner::Gone);
    let removal = remove_marked(&mut netlink, &links, is_gone);
    cleaned
        .removed
        .extend(removal.removed.into_iter().map(full_name));
    cleaned.failed.extend(removal.failed);

    let lab = links
        .iter()
        .find(|link| is_loopback(link))
        .and_then(mark_of);
    if let (Some(name), Some(mark)) = (name, lab) {
        match owners
            .get(&mark.alias())
            .and_then(|owner| reason_to_keep(&mark, *owner))
        {
            Some(reason) => cleaned.kept.push((format!("namespace {name}"), reason)),
            None => match remove_name(name) {
                Ok(()) => cleaned.removed.push(format!("namespace {name}")),
                Err(error) => cleaned.failed.push(error),
            },
        }
    }
    Ok(())
}

/// What [`remove_marked`] did.
pub(super) struct Removal<'a> {
    pub(super) removed: Vec<&'a Link>,
    pub(super) failed: Vec<SystemError>,
}

/// Removes those of `links` (all of the namespace) whose mark is `unwanted`: by group where no other link is in the
/// group, one by one where there is.
pub(super) fn remove_marked<'a>(
    netlink: &mut Netlink,
    links: &'a [Link],
    unwanted: impl Fn(&Mark) -> bool,
) -> Removal<'a> {
    let is_unwanted =
        |link: &Link| !is_loopback(link) && mark_of(link).is_some_and(|mark| unwanted(&mark));
    let shared_groups: HashSet<u32> = links
        .iter()
        .filter(|link| !is_unwanted(link))
        .map(|link| link.group)
        .chain([0])
        .collect();
    let mut removal = Removal {
        removed: Vec::new(),
        failed: Vec::new(),
    };
    let mut groups: HashMap<u32, Vec<&Link>> = HashMap::new();
    for link in links.iter().filter(|link| is_unwanted(link)) {
        if !shared_groups.contains(&link.group) {
            groups.entry(link.group).or_default().push(link);
            continue;
        }
        match netlink.delete_link(link) {
            Ok(()) => removal.removed.push(link),
            Err(error) => removal.failed.push(error),
        }
    }
    // TAPs before the bridges that they are on.
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_unstable_by_key(|(group, _)| std::cmp::Reverse(*group));
    for (group, members) in groups {
        match netlink.delete_group(group) {
            Ok(()) => removal.removed.extend(members),
            Err(error) => removal.failed.push(error),
        }
    }
    removal
}

/// The mark on a link, if it carries one.
pub(super) fn mark_of(link: &Link) -> Option<Mark> {
    Mark::parse(link.alias.as_deref()?)
}

/// The mark on a loopback interface is the mark of its namespace; the interface itself can't be removed.
fn is_loopback(link: &Link) -> bool {
    link.name == "lo"
}

/// What became of each run that has a mark here, asked once for each.
fn owners(links: &[Link]) -> HashMap<String, Owner> {
    let mut owners = HashMap::new();
    for mark in links.iter().filter_map(mark_of) {
        owners.entry(mark.alias()).or_insert_with(|| mark.owner());
    }
    owners
}

fn reason_to_keep(mark: &Mark, owner: Owner) -> Option<String> {
    let pid = mark.pid();
    match owner {
        Owner::Gone => None,
        Owner::Alive => Some(format!("its run, process {pid}, is still going")),
        Owner::Unknown => Some(format!(
            "its run, process {pid} of another PID namespace, can't be seen from here"
        )),
    }
}
