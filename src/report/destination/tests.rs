//! Places of every kind.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

fn put(path: &Path, text: &str) -> Result<(), DestinationError> {
    Destination::new(path)?.write(|out| out.write_all(text.as_bytes()))
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_made_or_replaced_and_keeps_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.json");
    put(&path, "one").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path) & 0o600, 0o600, "a new file is as any other");
    for kept in [0o640, 0o666, 0o600] {
        fs::set_permissions(&path, fs::Permissions::from_mode(kept)).unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        put(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(mode(&path), kept);
        assert_ne!(fs::metadata(&path).unwrap().ino(), before, "it is replaced");
    }
    assert_eq!(names(folder.path()), ["r.json"]);
}

#[test]
fn a_link_stays_and_where_it_leads_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("deep")).unwrap();
    for (link, to, file) in [
        ("dangling.json", "deep/new.json", "deep/new.json"),
        ("again.json", "deep/new.json", "deep/new.json"),
        ("chain.json", "again.json", "deep/new.json"),
    ] {
        symlink(to, at(link)).unwrap();
        put(&at(link), link).unwrap();
        assert_eq!(fs::read_to_string(at(file)).unwrap(), link);
        assert_eq!(fs::read_link(at(link)).unwrap(), Path::new(to));
    }
    assert_eq!(names(&at("deep")), ["new.json"]);
    symlink("loop.json", at("loop.json")).unwrap();
    let error = put(&at("loop.json"), "").unwrap_err().to_string();
    assert!(
        error.contains("oo many levels of symbolic links"),
        "{error}"
    );
}

#[test]
fn what_fails_half_way_leaves_the_old_file_and_no_half_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.json");
    for old in [None, Some("old")] {
        if let Some(old) = old {
            fs::write(&path, old).unwrap();
        }
        let there = usize::from(old.is_some());
        let failed = Destination::new(&path).unwrap().write(|out| {
            out.write_all(b"half")?;
            assert_eq!(names(folder.path()).len(), there, "it has no name yet");
            Err(io::Error::other("no more"))
        });
        let error = failed.unwrap_err().to_string();
        assert!(
            error.starts_with("write report ") && error.ends_with("no more"),
            "{error}"
        );
        replace_by_named(&path, |_| Err(io::Error::other("no more"))).unwrap_err();
        assert_eq!(fs::read_to_string(&path).ok().as_deref(), old);
        assert_eq!(names(folder.path()).len(), there);
    }
}

#[test]
fn where_every_file_has_a_name_no_signal_comes_before_it_is_the_right_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.json");
    let blocked = || SigSet::thread_get_mask().unwrap().contains(Signal::SIGTERM);
    for text in ["one", "two"] {
        let write = |out: &mut dyn Write| {
            assert!(blocked());
            out.write_all(text.as_bytes())
        };
        replace_by_named(&path, write).unwrap();
        assert!(!blocked());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(names(folder.path()), ["r.json"]);
    }
}

#[test]
fn a_place_that_takes_no_report_is_found_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "").unwrap();
    fs::create_dir(at("folder.json")).unwrap();
    for (path, told) in [
        (at("none/r.json"), "none does not exist"),
        (at("file/r.json"), "Not a directory"),
        (
            at("folder.json"),
            "that is a folder; expected the name of a file",
        ),
        (
            at("none.json/"),
            "that is a folder; expected the name of a file",
        ),
        ("/proc/r.json".into(), "no file can be made in /proc: "),
        ("/proc/version".into(), "ermission denied"),
    ] {
        let Err(error) = Destination::new(&path) else {
            // Root may open it; what is written to it fails.
            assert_eq!(path, Path::new("/proc/version"));
            continue;
        };
        let error = error.to_string();
        assert!(error.contains(told), "{error}");
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
    assert_eq!(names(folder.path()), ["file", "folder.json"]);
}

#[test]
fn devices_are_written_in_place() {
    for path in ["/dev/null", "/dev/zero"] {
        let before = fs::metadata(path).unwrap().ino();
        put(Path::new(path), "gone").unwrap();
        assert_eq!(fs::metadata(path).unwrap().ino(), before);
    }
    let error = put(Path::new("/dev/full"), "too much").unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
}

#[test]
fn a_fifo_hands_its_reader_all_of_it_and_is_not_waited_for_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.json");
    mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    let long = "a line of a report\n".repeat(10_000);
    // A reader may have opened it before, or do so later: it gets the same.
    for _ in 0..3 {
        let read = folder.path().join("read");
        let mut reader = Command::new("cat")
            .arg(&path)
            .stdout(File::create(&read).unwrap())
            .spawn()
            .unwrap();
        put(&path, &long).unwrap();
        assert!(reader.wait().unwrap().success());
        assert_eq!(fs::read_to_string(&read).unwrap().len(), long.len());
    }
    let nobody = to_fifo(&path, Duration::from_millis(1), |out| out.write_all(b"x"));
    assert_eq!(nobody.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(names(folder.path()), ["r.json", "read"]);
}

#[test]
fn two_names_of_one_file_are_known_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    symlink("a.json", at("link.json")).unwrap();
    let is_same = |one: &str, other: &str| {
        let [one, other] = [one, other].map(|name| Destination::new(&at(name)).unwrap());
        one.is_same(&other)
    };
    assert!(is_same("a.json", "a.json"));
    assert!(is_same("a.json", "./a.json"));
    assert!(is_same("a.json", "link.json"));
    assert!(!is_same("a.json", "b.json"));
}
