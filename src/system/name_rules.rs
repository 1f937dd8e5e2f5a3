//! Names that are fit for the kernel, checked before any system call.

/// Checks that `name` can be the name of one network interface.
///
/// The rule is that of `dev_valid_name()` in the kernel's `net/core/dev.c`, made narrower by two traps: `%` is refused,
/// because `TUNSETIFF` takes `tap%d` for a template and makes up a name of its own, and so is everything that is not
/// printable ASCII, because such a name can't be told from others in a report.
///
/// # Errors
/// Why it can't be, to be put after the name: `must not be longer than 15 bytes`.
pub fn validate_interface_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("must not be empty; expected 1 to 15 bytes");
    }
    if name.len() > 15 {
        return Err("must not be longer than 15 bytes");
    }
    if name == "." || name == ".." {
        return Err("must not be . or ..");
    }
    if name.contains(['/', ':', '%']) {
        return Err("must not contain any of / : %");
    }
    if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be printable ASCII without spaces");
    }
    Ok(())
}

/// Checks that `name` can be the name of a network namespace, a file's name in `/run/netns`.
///
/// # Errors
/// Why it can't be, to be put after the name.
pub fn validate_namespace_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("must not be empty");
    }
    if name.len() > 255 {
        return Err("must not be longer than 255 bytes");
    }
    if name == "." || name == ".." {
        return Err("must not be . or ..");
    }
    if name.contains('/') {
        return Err("must not contain /");
    }
    // `ip netns exec -x` would take it for an option.
    if name.starts_with('-') {
        return Err("must not start with -");
    }
    if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be printable ASCII without spaces");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_follow_the_kernels_rule() {
        for name in ["a", "tap0", "br-lab.100", "fifteen-bytes-x", "...", "@"] {
            assert_eq!(validate_interface_name(name), Ok(()), "{name:?}");
        }
        for name in [
            "",
            ".",
            "..",
            "sixteen-bytes-xx",
            "a/b",
            "eth0:1",
            "tap%d",
            "a b",
            "a\tb",
            "a\0b",
            "täp",
        ] {
            assert!(validate_interface_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn namespace_names_stay_within_their_directory() {
        assert_eq!(validate_namespace_name("lab"), Ok(()));
        assert_eq!(validate_namespace_name(&"n".repeat(255)), Ok(()));
        for name in ["", ".", "..", "../etc", "a/b", "-all", "a b", "a\nb"] {
            assert!(validate_namespace_name(name).is_err(), "{name:?}");
        }
        assert!(validate_namespace_name(&"n".repeat(256)).is_err());
    }
}
