//! Refusals of the system: the operation and its object, the cause, and what to do about it.

use std::convert::Infallible;
use std::fmt;

use nix::errno::Errno;

/// A refused operation. Displays as `operation on object: cause; what to do`, in one line.
#[derive(Clone, Debug, thiserror::Error)]
pub struct SystemError {
    operation: String,
    errno: Option<Errno>,
    detail: Option<String>,
    advice: Option<String>,
}

/// For code that handles any fabric: one in memory refuses nothing.
impl From<Infallible> for SystemError {
    fn from(never: Infallible) -> SystemError {
        match never {}
    }
}

impl SystemError {
    /// The kernel answered `operation` (verb and object, such as `add tap17 to bridge br0`) with `errno`.
    pub(super) fn kernel(operation: impl Into<String>, errno: Errno) -> Self {
        Self {
            operation: operation.into(),
            errno: Some(errno),
            detail: None,
            advice: general_advice(errno).map(str::to_owned),
        }
    }

    /// As [`SystemError::kernel`], for an error that came through the standard library.
    pub(crate) fn io(operation: impl Into<String>, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::kernel(operation, Errno::from_raw(number)),
            None => Self::refused(operation, error.to_string()),
        }
    }

    /// Not the kernel but a check of ours refused `operation`.
    pub(crate) fn refused(operation: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            operation: operation.into(),
            errno: None,
            detail: Some(cause.into()),
            advice: None,
        }
    }

    /// Adds what the kernel said beside the number (netlink's extended acknowledgement).
    pub(super) fn detail(mut self, said: Option<String>) -> Self {
        self.detail = said.or(self.detail);
        self
    }

    /// Says what to do about it, in place of the advice that fits the error number in general.
    pub(crate) fn advise(mut self, what_to_do: impl Into<String>) -> Self {
        self.advice = Some(what_to_do.into());
        self
    }

    /// Says which option asked for it.
    pub(crate) fn asked_for_by(mut self, option: &str) -> Self {
        self.operation = format!("{option}: {}", self.operation);
        self
    }

    /// The operation and its object: `add tap17 to bridge br0`.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<Errno> {
        self.errno
    }

    /// The remedy, if there is one to name.
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.operation)?;
        match (self.errno, &self.detail) {
            (Some(errno), None) => write!(f, "{} ({errno:?})", errno.desc())?,
            (Some(errno), Some(said)) => write!(f, "{} ({errno:?}): {said}", errno.desc())?,
            (None, said) => f.write_str(said.as_deref().unwrap_or("refused"))?,
        }
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

/// Advice that fits an error number whatever the operation was.
fn general_advice(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EPERM | Errno::EACCES => {
            Some("run as root, or with --netns private where user namespaces are allowed")
        }
        Errno::EMFILE => {
            Some("each VM needs a file descriptor: raise the limit (ulimit -n) or lower --vms")
        }
        Errno::ENFILE => {
            Some("the whole machine is out of file descriptors: see /proc/sys/fs/file-nr")
        }
        // net/bridge/br_if.c, find_portno(): BR_MAX_PORTS is 1024, and port 0 is not a port.
        Errno::EXFULL => Some("a bridge has 1023 ports: lower --vms"),
        Errno::ENOMEM | Errno::ENOBUFS => {
            Some("the kernel is short of memory (each TAP takes up to 100 KB): lower --vms")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_operation_cause_and_remedy_in_one_line() {
        let error = SystemError::kernel("add tap17 to bridge br0", Errno::ENODEV);
        assert_eq!(
            error.to_string(),
            "add tap17 to bridge br0: No such device (ENODEV)"
        );
        let error = SystemError::kernel("add tap1023 to bridge br0", Errno::EXFULL);
        assert_eq!(
            error.to_string(),
            "add tap1023 to bridge br0: Exchange full (EXFULL); a bridge has 1023 ports: lower --vms"
        );
        let error = SystemError::kernel("create bridge br0", Errno::EINVAL)
            .detail(Some("invalid group".to_owned()))
            .advise("choose another");
        assert_eq!(
            error.to_string(),
            "create bridge br0: Invalid argument (EINVAL): invalid group; choose another"
        );
    }
}
