//! Hears when the name of the lab's namespace is deleted (`inotify(7)`). The namespace itself goes on while somebody is in it.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::error::SystemError;
use super::namespace_file::NAMESPACE_DIRECTORY;
use crate::fabric::{LinkEvent, LinkFate};

/// Watches one name. The descriptor is readable when any name was deleted.
#[derive(Debug)]
pub(super) struct NameWatch {
    inotify: Inotify,
    name: String,
}

impl NameWatch {
    /// Watches `name` from now on.
    ///
    /// # Errors
    /// When the kernel does not let us.
    pub(super) fn new(name: &str) -> Result<NameWatch, SystemError> {
        let open = || -> Result<Inotify, Errno> {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            let deleted = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
            inotify.add_watch(NAMESPACE_DIRECTORY, deleted)?;
            Ok(inotify)
        };
        let inotify = open()
            .map_err(|errno| SystemError::kernel(format!("watch {NAMESPACE_DIRECTORY}"), errno))?;
        Ok(NameWatch {
            inotify,
            name: name.to_owned(),
        })
    }

    /// The deletion of the name, if it has happened since the last time.
    pub(super) fn deletion(&self) -> Option<LinkEvent> {
        let mut deletion = None;
        while let Ok(events) = self.inotify.read_events() {
            let is_ours = |event: &nix::sys::inotify::InotifyEvent| {
                event.name.as_ref().is_some_and(|name| *name == *self.name)
            };
            if events.iter().any(is_ours) {
                deletion = Some(LinkEvent {
                    link: format!("namespace {}", self.name),
                    vm: None,
                    change: LinkFate::Deleted,
                });
            }
        }
        deletion
    }
}

impl AsRawFd for NameWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_fd().as_raw_fd()
    }
}
