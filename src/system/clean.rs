//! Removes marked links: a run's own at its end, and those that a killed run has left behind.

use std::collections::{HashMap, HashSet};
use std::fs::File;

use super::error::SystemError;
use super::mark::{Mark, Owner};
use super::namespace::enter_file;
use super::namespace_file::{self, CURRENT_NAMESPACE, Found, NAMESPACE_DIRECTORY};
use super::netlink::Netlink;
use super::netlink::link::{Link, LinkKind};
use super::switching::joined::restore;

/// The outcome of [`clean`]. Links in a named namespace are listed as `tap0 in namespace lab`.
#[derive(Debug, Default)]
pub struct Cleaned {
    /// The links and namespaces that are gone now.
    pub removed: Vec<String>,
    /// The marked links and namespaces that were left alone, and why.
    pub kept: Vec<(String, String)>,
    /// Links and namespaces that could not be removed or looked into.
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
    for name in namespace_file::names() {
        clean_named(&name, &here, &mut cleaned)?;
    }
    Ok(cleaned)
}

/// Cleans what is under a name, and returns `here`.
fn clean_named(name: &str, here: &File, cleaned: &mut Cleaned) -> Result<(), SystemError> {
    let found = match namespace_file::find(name) {
        Ok(found) => found,
        Err(error) => {
            let operation = format!("look into namespace {name}");
            cleaned.failed.push(SystemError::io(operation, &error));
            return Ok(());
        }
    };
    let title = format!("namespace {name}");
    match found {
        Found::Namespace(namespace) if !namespace_file::is_same(&namespace, here) => {
            let cleaning = enter_file(&namespace, || format!("enter {title}"))
                .and_then(|()| clean_current(Some(name), cleaned));
            enter_file(here, || "return from another namespace".to_owned())?;
            cleaned.failed.extend(cleaning.err());
        }
        Found::Unmounted(file) => match namespace_file::remove_unmounted(name, &file) {
            Ok(true) => cleaned.removed.push(title),
            Ok(false) => cleaned
                .kept
                .push((title, "its run is still going".to_owned())),
            Err(error) => cleaned.failed.push(error),
        },
        Found::Other(what) => cleaned.kept.push((
            format!("{NAMESPACE_DIRECTORY}/{name}"),
            format!("it is {what}, expected a network namespace"),
        )),
        Found::Namespace(_) | Found::Nothing => {}
    }
    Ok(())
}

/// Cleans the namespace that the thread is in; `name` is its name if it is a named one.
fn clean_current(name: Option<&str>, cleaned: &mut Cleaned) -> Result<(), SystemError> {
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    let fates = fates(&links);
    let full_name = |link: &Link| match name {
        Some(namespace) => format!("{} in namespace {namespace}", link.name),
        None => link.name.clone(),
    };
    for link in links.iter().filter(|link| !is_loopback(link)) {
        if let Some(mark) = mark_of(link)
            && let Some(reason) = fates
                .get(&mark.alias())
                .and_then(|fate| fate.reason_to_keep(&mark))
        {
            cleaned.kept.push((full_name(link), reason));
        }
    }
    let is_left_over = |mark: &Mark| {
        let fate = fates.get(&mark.alias());
        fate.is_some_and(|fate| fate.reason_to_keep(mark).is_none())
    };
    let removal = remove_marked(&mut netlink, &links, is_left_over);
    cleaned
        .removed
        .extend(removal.removed.into_iter().map(full_name));
    cleaned.failed.extend(removal.failed);

    let lab = links
        .iter()
        .find(|link| is_loopback(link))
        .and_then(mark_of);
    if let (Some(name), Some(mark)) = (name, lab) {
        match fates
            .get(&mark.alias())
            .and_then(|fate| fate.reason_to_keep(&mark))
        {
            Some(reason) => cleaned.kept.push((format!("namespace {name}"), reason)),
            None => match namespace_file::remove(name) {
                Ok(()) => cleaned.removed.push(format!("namespace {name}")),
                Err(error) => cleaned.failed.push(error),
            },
        }
    }
    Ok(())
}

/// The outcome of [`remove_marked`].
pub(super) struct Removal<'a> {
    pub(super) removed: Vec<&'a Link>,
    pub(super) failed: Vec<SystemError>,
}

/// Removes those of `links` (all of the namespace) whose mark is `unwanted`: by group where no other link is in the
/// group, one by one where there is. The bridges that stay, of which they were ports, keep their addresses and MTUs.
pub(super) fn remove_marked<'a>(
    netlink: &mut Netlink,
    links: &'a [Link],
    unwanted: impl Fn(&Mark) -> bool,
) -> Removal<'a> {
    let is_unwanted =
        |link: &Link| !is_loopback(link) && mark_of(link).is_some_and(|mark| unwanted(&mark));
    let left: HashSet<u32> = links
        .iter()
        .filter(|link| is_unwanted(link))
        .filter_map(|link| link.master)
        .collect();
    let hosts: Vec<&Link> = links
        .iter()
        .filter(|link| left.contains(&link.index) && !is_unwanted(link))
        .collect();
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
    let restored = hosts.iter().map(|bridge| restore(netlink, bridge));
    removal.failed.extend(restored.filter_map(Result::err));
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

/// The state of a run that has a mark here.
struct Fate {
    owner: Owner,
    /// A TAP of the run that a process is attached to.
    attached: Option<String>,
}

/// The state of each run that has a mark here, looked up once for each.
fn fates(links: &[Link]) -> HashMap<String, Fate> {
    let mut fates = HashMap::new();
    for link in links {
        let Some(mark) = mark_of(link) else {
            continue;
        };
        let fate = fates.entry(mark.alias()).or_insert_with(|| Fate {
            owner: mark.owner(),
            attached: None,
        });
        if link.kind == LinkKind::Tap && link.carrier {
            fate.attached = Some(link.name.clone());
        }
    }
    fates
}

impl Fate {
    /// Why the links of the run must stay; `None` if nothing speaks for it.
    ///
    /// A run whose witness is not to be seen here may still have moved a TAP here, and somebody else may use what it has
    /// left: a TAP that a process is attached to is never taken away.
    fn reason_to_keep(&self, mark: &Mark) -> Option<String> {
        let pid = mark.pid();
        match (self.owner, &self.attached) {
            (Owner::Alive, _) => Some(format!("its run, process {pid}, is still going")),
            (Owner::Unknown, _) => Some(format!(
                "what became of its run, process {pid}, can't be seen from here"
            )),
            (Owner::Gone, Some(tap)) => Some(format!("a process is attached to {tap}")),
            (Owner::Gone, None) => None,
        }
    }
}
