//! The network namespace that a lab lives in (`network_namespaces(7)`, `user_namespaces(7)`).
//!
//! A namespace belongs to a thread, so everything here goes by `/proc/thread-self`; a run has only one thread.

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sched::{self, CloneFlags, setns};
use nix::unistd::{getegid, geteuid};

use super::error::SystemError;
use super::kernel_wait::Asking;
use super::lab_config::{NetnsChoice, Sharing};
use super::mark::{Mark, Presence};
use super::name_rules::validate_namespace_name;
use super::namespace_file::{self, CURRENT_NAMESPACE, Found, NAMESPACE_DIRECTORY, OwnName};
use super::netlink::Netlink;
use super::netlink::link_requests::LinkChange;

/// The network namespace that the calling thread has entered. Dropping it removes a name that we made.
#[derive(Debug)]
pub struct Namespace {
    kind: Kind,
    /// For those who find the marks of the run there.
    _presence: Presence,
}

#[derive(Debug)]
enum Kind {
    /// Without a name: the kernel removes it, and all that is in it, with the process.
    Private,
    /// Named, and made by us.
    Created(OwnName),
    /// Somebody else's; its name, if it was chosen by that.
    Existing(Option<String>),
}

impl Namespace {
    /// Enters the namespace that was chosen, and shows there that the run of `mark` is going. A named one that does not
    /// exist is made, as `ip netns add` would, with the mark on its loopback interface; unless it `must_exist`. A private one
    /// of several processes was made by their launcher, and the process is in it already.
    ///
    /// # Errors
    /// When it can't be entered or made; then no name is left behind.
    pub fn enter(
        choice: &NetnsChoice,
        mark: &Mark,
        must_exist: bool,
        sharing: Option<Sharing>,
    ) -> Result<Namespace, SystemError> {
        let (kind, presence) = match choice {
            NetnsChoice::Host => (Kind::Existing(None), mark.show_presence()?),
            NetnsChoice::Private => {
                if sharing.is_none() {
                    enter_private()?;
                }
                (Kind::Private, mark.show_presence()?)
            }
            NetnsChoice::Named(name) => enter_named(name, mark, must_exist)?,
        };
        Ok(Namespace {
            kind,
            _presence: presence,
        })
    }

    /// Returns true if the run made it, so that all of it may be set up to the run's needs.
    pub fn is_ours(&self) -> bool {
        !matches!(self.kind, Kind::Existing(_))
    }

    /// Returns true if the kernel removes it with this process.
    pub fn ends_with_us(&self) -> bool {
        matches!(self.kind, Kind::Private)
    }

    /// The name by which it was chosen.
    pub(super) fn name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Created(own) => Some(own.name()),
            Kind::Existing(name) => name.as_deref(),
            Kind::Private => None,
        }
    }

    /// Removes the name, if it was us who made it. The namespace itself ends with the last process in it.
    ///
    /// # Errors
    /// When the name can't be removed.
    pub fn remove(&mut self) -> Result<(), SystemError> {
        match std::mem::replace(&mut self.kind, Kind::Existing(None)) {
            Kind::Created(own) => own.remove(),
            other => {
                self.kind = other;
                Ok(())
            }
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Only after an error that is reported already.
        let _ = self.remove();
    }
}

/// Leaves namespaces for new ones.
fn unshare(namespaces: CloneFlags) -> Result<(), Errno> {
    let _asking = Asking::begin();
    sched::unshare(namespaces)
}

/// Enters a new namespace, which ends with the last process in it.
///
/// # Errors
/// When none can be made.
pub(super) fn enter_private() -> Result<(), SystemError> {
    match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => return Ok(()),
        Err(Errno::EPERM) => {}
        Err(errno) => return Err(no_namespace("make a network namespace", errno)),
    }
    let operation = "make a network namespace in a user namespace";
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .map_err(|errno| no_namespace(operation, errno))?;
    // A group may be mapped only after setgroups(2) has been given up (user_namespaces(7)).
    for (file, content) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {user} 1")),
        ("gid_map", format!("0 {group} 1")),
    ] {
        std::fs::write(format!("/proc/thread-self/{file}"), content).map_err(
            |error| match error.raw_os_error() {
                Some(number) => no_namespace(
                    &format!("{operation} (write {file})"),
                    Errno::from_raw(number),
                ),
                None => SystemError::io(operation, &error),
            },
        )?;
    }
    Ok(())
}

fn no_namespace(operation: &str, errno: Errno) -> SystemError {
    let error = SystemError::kernel(operation, errno);
    match errno {
        Errno::EPERM | Errno::EACCES => error.advise(
            "user namespaces are forbidden to this user: run as root, or allow them (sysctl \
             kernel.unprivileged_userns_clone=1, or on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0)",
        ),
        Errno::ENOSPC | Errno::EUSERS => error.advise(
            "the limit of namespaces is reached: run as root, or raise /proc/sys/user/max_user_namespaces and \
             max_net_namespaces",
        ),
        Errno::EINVAL => error.advise("this kernel has no such namespaces, or the process has several threads"),
        _ => error,
    }
}

/// Connects to the kernel in a namespace that exists, and stays in the present one.
///
/// # Errors
/// When there is none of that name, or it can't be entered and left again. A private one does not exist yet.
pub(super) fn netlink_in(choice: &NetnsChoice) -> Result<Netlink, SystemError> {
    let name = match choice {
        NetnsChoice::Host => return Netlink::open(),
        NetnsChoice::Named(name) => name,
        NetnsChoice::Private => {
            let why = "it does not exist yet; expected --netns host or --netns NAME";
            return Err(SystemError::refused("look into a private namespace", why));
        }
    };
    let here = File::open(CURRENT_NAMESPACE)
        .map_err(|error| SystemError::io("open the current namespace", &error))?;
    let Some(there) = find_named(name)? else {
        return Err(none_of_that_name(name));
    };
    enter_existing(name, &there)?;
    let netlink = Netlink::open();
    enter_file(&here, || "return from another namespace".to_owned())?;
    netlink
}

fn enter_named(name: &str, mark: &Mark, must_exist: bool) -> Result<(Kind, Presence), SystemError> {
    match find_named(name)? {
        Some(file) => {
            enter_existing(name, &file)?;
            Ok((Kind::Existing(Some(name.to_owned())), mark.show_presence()?))
        }
        None if must_exist => Err(none_of_that_name(name)),
        None => create_named(name, mark),
    }
}

/// The namespace of that name, if there is one.
fn find_named(name: &str) -> Result<Option<File>, SystemError> {
    let operation = || format!("enter namespace {name}");
    let is_other = |what: &str| {
        SystemError::refused(
            operation(),
            format!("{NAMESPACE_DIRECTORY}/{name} is {what}, expected a network namespace"),
        )
    };
    validate_namespace_name(name)
        .map_err(|why| SystemError::refused(operation(), format!("the name {why}")))?;
    match namespace_file::find(name).map_err(|error| SystemError::io(operation(), &error))? {
        Found::Namespace(file) => Ok(Some(file)),
        Found::Unmounted(_) => {
            Err(is_other("what a run that was killed has left of a name")
                .advise("tap-reactor clean"))
        }
        Found::Other(what) => Err(is_other(&what).advise("choose another --netns")),
        Found::Nothing => Ok(None),
    }
}

fn enter_existing(name: &str, file: &File) -> Result<(), SystemError> {
    enter_file(file, || format!("enter namespace {name}")).map_err(|error| match error.errno() {
        Some(Errno::EPERM) => error.advise("run as root"),
        _ => error,
    })
}

fn none_of_that_name(name: &str) -> SystemError {
    SystemError::refused(
        format!("enter namespace {name}"),
        "there is none of that name",
    )
    .advise("ip netns list shows those that exist")
}

pub(super) fn enter_file(
    file: impl AsFd,
    operation: impl Fn() -> String,
) -> Result<(), SystemError> {
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| SystemError::kernel(operation(), errno))
}

/// Makes a namespace with a name. Whenever we are killed, what is left is known as ours, and us as gone.
fn create_named(name: &str, mark: &Mark) -> Result<(Kind, Presence), SystemError> {
    let as_root = |error: SystemError| match error.errno() {
        Some(Errno::EPERM | Errno::EACCES) => error.advise("run as root, or with --netns private"),
        _ => error,
    };
    let own = namespace_file::create(name, mark).map_err(as_root)?;
    match mount_new(&own, mark) {
        Ok(presence) => Ok((Kind::Created(own), presence)),
        Err(error) => {
            // The error is told already.
            let _ = own.remove();
            Err(as_root(error))
        }
    }
}

/// A namespace beside that of the lab, which the run has made.
#[derive(Debug)]
pub(super) struct Made {
    own: Option<OwnName>,
    /// For those who find the marks of the run there.
    _presence: Presence,
}

impl Made {
    /// Removes its name, if it has one; the calling thread is in the namespace.
    pub(super) fn abandon(self) {
        if let Some(own) = &self.own {
            // The reason for it is what there is to tell.
            let _ = own.remove();
        }
    }

    /// Removes its name, if it has one; `file` is the namespace.
    ///
    /// # Errors
    /// When the name can't be removed.
    pub(super) fn remove(&mut self, file: &File) -> Result<(), SystemError> {
        let own = self.own.take();
        own.map_or(Ok(()), |own| own.remove_of(file))
    }
}

/// Makes a namespace with a name that does not exist, and enters it. Whenever we are killed, what is left is known as ours, and
/// us as gone.
///
/// # Errors
/// When the name is taken, or the system refuses; the thread may be in a new namespace then.
pub(super) fn make_named(name: &str, mark: &Mark) -> Result<Made, SystemError> {
    let operation = || format!("make namespace {name}");
    if find_named(name)?.is_some() {
        let why = "there is one of that name; expected one that this run can make";
        return Err(SystemError::refused(operation(), why));
    }
    match create_named(name, mark)? {
        (Kind::Created(own), presence) => Ok(Made {
            own: Some(own),
            _presence: presence,
        }),
        _ => Err(SystemError::refused(operation(), "it was not made")),
    }
}

/// Makes a namespace without a name, which ends with the process, and enters it.
///
/// # Errors
/// When the system refuses.
pub(super) fn make_nameless(mark: &Mark) -> Result<Made, SystemError> {
    let operation = "make a network namespace beside that of the lab";
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| no_namespace(operation, errno))?;
    Ok(Made {
        own: None,
        _presence: mark.show_presence()?,
    })
}

/// Enters a new namespace and gives it the name that we have made for it: the mark before the mount, so that what has a
/// name carries a mark, and presence before the mark.
fn mount_new(own: &OwnName, mark: &Mark) -> Result<Presence, SystemError> {
    let operation = format!("make namespace {}", own.name());
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| SystemError::kernel(operation, errno))?;
    let presence = mark.show_presence()?;
    let alias = mark.alias();
    Netlink::open()?.change_link(
        "lo",
        &LinkChange {
            alias: Some(&alias),
            ..LinkChange::default()
        },
    )?;
    own.mount()?;
    Ok(presence)
}
