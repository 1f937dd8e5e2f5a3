//! The network namespace that a lab lives in (`network_namespaces(7)`, `user_namespaces(7)`).
//!
//! A namespace belongs to a thread, so everything here goes by `/proc/thread-self`; a run has only one thread.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getegid, geteuid};

use super::error::SystemError;
use super::lab::NetnsChoice;
use super::links::LinkChange;
use super::mark::Mark;
use super::names::validate_namespace_name;
use super::netlink::Netlink;

/// Where `ip netns` keeps the names (`ip-netns(8)`).
pub(super) const NAMESPACE_DIRECTORY: &str = "/run/netns";
/// The namespace of the calling thread.
pub(super) const CURRENT_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// The network namespace that the calling thread has entered. Dropping it removes a name that we made.
#[derive(Debug)]
pub struct Namespace {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Has no name: the kernel removes it, and all that is in it, with the process.
    Private,
    /// Named, and made by us.
    Created(String),
    /// Somebody else's.
    Existing,
}

impl Namespace {
    /// Enters the namespace that was chosen. A named one that does not exist is made, as `ip netns add` would, with
    /// `mark` on its loopback interface; unless it `must_exist`.
    ///
    /// # Errors
    /// When it can't be entered or made; then no name is left behind.
    pub fn enter(
        choice: &NetnsChoice,
        mark: &Mark,
        must_exist: bool,
    ) -> Result<Namespace, SystemError> {
        let kind = match choice {
            NetnsChoice::Host => Kind::Existing,
            NetnsChoice::Private => {
                enter_private()?;
                Kind::Private
            }
            NetnsChoice::Named(name) => enter_named(name, mark, must_exist)?,
        };
        Ok(Namespace { kind })
    }

    /// Whether we made it, so that all of it may be set up to our needs.
    pub fn is_ours(&self) -> bool {
        !matches!(self.kind, Kind::Existing)
    }

    /// Whether the kernel removes it with this process.
    pub fn ends_with_us(&self) -> bool {
        matches!(self.kind, Kind::Private)
    }

    /// Removes the name, if it was us who made it. The namespace itself ends with the last process in it.
    ///
    /// # Errors
    /// When the name can't be removed.
    pub fn remove(&mut self) -> Result<(), SystemError> {
        match std::mem::replace(&mut self.kind, Kind::Existing) {
            Kind::Created(name) => remove_name(&name),
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

/// Removes the name of a namespace, as `ip netns delete` does.
pub(super) fn remove_name(name: &str) -> Result<(), SystemError> {
    let path = Path::new(NAMESPACE_DIRECTORY).join(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: not a mount point. Then the file is all there is.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => {
            return Err(SystemError::kernel(
                format!("unmount namespace {name}"),
                errno,
            ));
        }
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(SystemError::io(format!("remove namespace {name}"), &error))
        }
        _ => Ok(()),
    }
}

fn enter_private() -> Result<(), SystemError> {
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

fn enter_named(name: &str, mark: &Mark, must_exist: bool) -> Result<Kind, SystemError> {
    let operation = || format!("enter namespace {name}");
    validate_namespace_name(name)
        .map_err(|why| SystemError::refused(operation(), format!("the name {why}")))?;
    match File::open(Path::new(NAMESPACE_DIRECTORY).join(name)) {
        Ok(file) => {
            enter_file(&file, operation).map_err(|error| match error.errno() {
                Some(Errno::EINVAL) => error.advise(format!(
                    "{NAMESPACE_DIRECTORY}/{name} is no network namespace: ip netns delete {name}"
                )),
                Some(Errno::EPERM) => error.advise("run as root"),
                _ => error,
            })?;
            Ok(Kind::Existing)
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(SystemError::io(operation(), &error))
        }
        Err(_) if must_exist => Err(SystemError::refused(
            operation(),
            "there is none of that name",
        )
        .advise("ip netns list shows those that exist")),
        Err(_) => create_named(name, mark),
    }
}

pub(super) fn enter_file(
    file: impl AsFd,
    operation: impl Fn() -> String,
) -> Result<(), SystemError> {
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| SystemError::kernel(operation(), errno))
}

/// As `netns_add()` of iproute2 (`ip/ipnetns.c`).
fn create_named(name: &str, mark: &Mark) -> Result<Kind, SystemError> {
    let operation = || format!("make namespace {name}");
    let as_root = |error: SystemError| match error.errno() {
        Some(Errno::EPERM | Errno::EACCES) => error.advise("run as root, or with --netns private"),
        _ => error,
    };
    share_directory().map_err(as_root)?;
    let path = PathBuf::from(NAMESPACE_DIRECTORY).join(name);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(|error| as_root(SystemError::io(operation(), &error)))?;
    // From here on the name is removed again when this goes out of scope early.
    let mut namespace = Namespace {
        kind: Kind::Created(name.to_owned()),
    };
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| as_root(SystemError::kernel(operation(), errno)))?;
    // The mark before the name: what has a name is known as ours, even if we are killed right now.
    let alias = mark.alias();
    Netlink::open()?.change_link(
        "lo",
        &LinkChange {
            alias: Some(&alias),
            ..LinkChange::default()
        },
    )?;
    bind(CURRENT_NAMESPACE, &path, MsFlags::MS_BIND)
        .map_err(|errno| as_root(SystemError::kernel(operation(), errno)))?;
    Ok(std::mem::replace(&mut namespace.kind, Kind::Existing))
}

/// Makes `/run/netns`, shared with other mount namespaces so that a name made or removed here is so everywhere.
fn share_directory() -> Result<(), SystemError> {
    let operation = || format!("make the directory {NAMESPACE_DIRECTORY}");
    std::fs::create_dir_all(NAMESPACE_DIRECTORY)
        .map_err(|error| SystemError::io(operation(), &error))?;
    let share = || {
        bind(
            "",
            NAMESPACE_DIRECTORY,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
        )
    };
    match share() {
        // EINVAL: not a mount point yet.
        Err(Errno::EINVAL) => bind(
            NAMESPACE_DIRECTORY,
            NAMESPACE_DIRECTORY,
            MsFlags::MS_BIND | MsFlags::MS_REC,
        )
        .and_then(|()| share()),
        other => other,
    }
    .map_err(|errno| SystemError::kernel(operation(), errno))
}

fn bind(from: &str, to: impl AsRef<Path>, flags: MsFlags) -> Result<(), Errno> {
    mount(Some(from), to.as_ref(), Some("none"), flags, None::<&str>)
}
