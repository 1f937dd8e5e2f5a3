//! Reads tokens from where others of the machine do not see them: a file of the user's, or the environment. The words of a
//! command are no such place, since `ps` shows them to everybody.

use std::env;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use super::error::SystemError;
use super::launcher::SECRET_VARIABLE;
use crate::control::{LONGEST_TOKEN, TOKEN_VARIABLE, Token};

/// Returns the token of `file`; without one, that of the environment variable `TAP_REACTOR_TOKEN`, if it has any.
///
/// # Errors
/// If the file can't be read or is none, or another user than this one or root may read or change it; if what is found is no
/// token.
pub fn read_token(file: Option<&Path>) -> Result<Option<Token>, SystemError> {
    read("token", file, TOKEN_VARIABLE)
}

/// Returns the secret of ranks, which has the form of a token, of `file`; without one, that of the environment variable
/// `TAP_REACTOR_MEET_SECRET`, if it has any.
///
/// # Errors
/// As [`read_token`].
pub fn read_secret(file: Option<&Path>) -> Result<Option<Token>, SystemError> {
    read("secret", file, SECRET_VARIABLE)
}

/// Reads `what` there is.
fn read(what: &str, file: Option<&Path>, variable: &str) -> Result<Option<Token>, SystemError> {
    match file {
        Some(file) => token_of_file(what, file).map(Some),
        None => {
            let text = env::var_os(variable).map(|text| text.into_encoded_bytes());
            token_of_variable(what, variable, text)
        }
    }
}

fn token_of_file(what: &str, path: &Path) -> Result<Token, SystemError> {
    let operation = || format!("read the {what} in {}", path.display());
    let refuse = |error| SystemError::io(operation(), &error);
    // To open a FIFO would wait for its writer.
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = options.open(path).map_err(refuse)?;
    let found = file.metadata().map_err(refuse)?;
    if !found.is_file() {
        let refused = SystemError::refused(operation(), "that is no file");
        return Err(refused.advise("expected a regular file"));
    }
    // As ssh has it for keys.
    let (owner, user) = (found.uid(), geteuid().as_raw());
    if owner != user && owner != 0 {
        let cause = format!("it belongs to the user {owner}");
        let advice = format!("expected a file of the user {user} or of root");
        return Err(SystemError::refused(operation(), cause).advise(advice));
    }
    let mode = found.mode();
    if mode & 0o077 != 0 {
        let cause = format!("others may use it (mode {:04o})", mode & 0o7777);
        let advice = format!(
            "expected a file of its owner alone: chmod 600 {}",
            path.display()
        );
        return Err(SystemError::refused(operation(), cause).advise(advice));
    }
    let mut text = Vec::new();
    // With a line end, and a byte that is too many.
    let most = LONGEST_TOKEN as u64 + 3;
    file.take(most).read_to_end(&mut text).map_err(refuse)?;
    token(&text).ok_or_else(|| wrong(operation()))
}

/// Reads the token of the variable; an empty one is none.
fn token_of_variable(
    what: &str,
    variable: &str,
    text: Option<Vec<u8>>,
) -> Result<Option<Token>, SystemError> {
    let text = text.filter(|text| !text.is_empty());
    let refused = || wrong(format!("read the {what} in {variable}"));
    text.map(|text| token(&text).ok_or_else(refused))
        .transpose()
}

fn token(text: &[u8]) -> Option<Token> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn wrong(operation: String) -> SystemError {
    SystemError::refused(operation, crate::control::TokenError.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn a_file_has_the_token_if_nobody_else_may_use_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let endless = "x".repeat(1 << 20);
        for (text, mode, expected) in [
            (TOKEN, 0o600, Ok(())),
            (TOKEN, 0o400, Ok(())),
            (
                TOKEN,
                0o644,
                Err(
                    "others may use it (mode 0644); expected a file of its owner alone: chmod 600 ",
                ),
            ),
            (TOKEN, 0o640, Err("others may use it (mode 0640)")),
            (TOKEN, 0o620, Err("others may use it (mode 0620)")),
            (TOKEN, 0o604, Err("others may use it (mode 0604)")),
            ("short", 0o600, Err("expected 16 to 4096 letters")),
            ("", 0o600, Err("expected 16 to 4096 letters")),
            (&endless, 0o600, Err("expected 16 to 4096 letters")),
        ] {
            fs::write(&path, format!("{text}\n")).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match (read_token(Some(&path)), expected) {
                (Ok(token), Ok(())) => assert_eq!(token, text.parse().ok()),
                (Err(error), Err(words)) => {
                    let error = error.to_string();
                    assert!(
                        error.starts_with("read the token in /") && error.contains(words),
                        "{error}"
                    );
                    assert!(!error.contains(TOKEN), "{error}");
                }
                (found, _) => panic!("mode {mode:o}: {found:?}"),
            }
        }
        fs::write(&path, [0xff; 20]).unwrap();
        read_token(Some(&path)).unwrap_err();
        fs::remove_file(&path).unwrap();
        let error = read_token(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("ENOENT"), "{error}");
    }

    #[test]
    fn only_a_file_of_this_user_or_of_root_has_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("own"), TOKEN).unwrap();
        fs::write(path("other"), TOKEN).unwrap();
        std::os::unix::fs::symlink(path("own"), path("link")).unwrap();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&path("fifo"), mode).unwrap();
        for name in ["own", "other"] {
            fs::set_permissions(path(name), Permissions::from_mode(0o600)).unwrap();
        }
        std::os::unix::fs::chown(path("other"), Some(1000), None).expect("root runs this test");
        for (name, expected) in [
            ("own", None),
            ("link", None),
            (
                "other",
                Some("it belongs to the user 1000; expected a file of the user 0 or of root"),
            ),
            ("fifo", Some("that is no file; expected a regular file")),
            (".", Some("that is no file; expected a regular file")),
        ] {
            let found = read_token(Some(&path(name)));
            match expected {
                None => assert_eq!(found.unwrap(), TOKEN.parse().ok(), "{name}"),
                Some(words) => {
                    let error = found.unwrap_err().to_string();
                    assert!(error.contains(words), "{name}: {error}");
                }
            }
        }
    }

    #[test]
    fn the_variable_has_a_token_or_none() {
        for (text, expected) in [
            (None, None),
            (Some(""), None),
            (Some(TOKEN), TOKEN.parse().ok()),
        ] {
            let text = text.map(|text| text.as_bytes().to_vec());
            let found = token_of_variable("token", TOKEN_VARIABLE, text);
            assert_eq!(found.unwrap(), expected);
        }
        for (what, variable, expected) in [
            (
                "token",
                TOKEN_VARIABLE,
                "read the token in TAP_REACTOR_TOKEN: expected 16 ",
            ),
            (
                "secret",
                SECRET_VARIABLE,
                "read the secret in TAP_REACTOR_MEET_SECRET: expected 16 ",
            ),
        ] {
            let error = token_of_variable(what, variable, Some(b"short".to_vec()));
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
