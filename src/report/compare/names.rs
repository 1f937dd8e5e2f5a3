//! Short names of runs, for the heading of a column: the name of the file, and of its folders as many as tell it apart.

use std::path::{Component, Path};

/// A name for each of `paths`: the last parts of the path that no other has. Where the same path stands twice, the later
/// ones are numbered.
pub fn short_names(paths: &[&str]) -> Vec<String> {
    let named = paths.iter().enumerate().map(|(index, path)| {
        let others = || paths.iter().filter(|other| *other != path);
        let parts = Path::new(path).components().count().max(1);
        let short = (1..=parts)
            .map(|number| last_parts(path, number))
            .find(|short| others().all(|other| last_parts(other, parts_of(short)) != *short));
        let short = short.unwrap_or_else(|| (*path).to_owned());
        match paths
            .iter()
            .take(index)
            .filter(|other| *other == path)
            .count()
        {
            0 => short,
            before => format!("{short} ({})", before + 1),
        }
    });
    named.collect()
}

fn parts_of(path: &str) -> usize {
    Path::new(path).components().count()
}

/// The last `number` parts of a path; all of it if it has no more.
fn last_parts(path: &str, number: usize) -> String {
    let parts: Vec<Component<'_>> = Path::new(path).components().collect();
    match parts.len().checked_sub(number) {
        None | Some(0) => path.to_owned(),
        Some(first) => {
            let parts = parts.iter().skip(first);
            parts.collect::<std::path::PathBuf>().display().to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_have_the_names_of_their_files_and_as_many_folders_as_tell_them_apart() {
        for (paths, names) in [
            (&["a.json", "b.json"][..], &["a.json", "b.json"][..]),
            (&["/x/a.json", "y/b.json"], &["a.json", "b.json"]),
            (
                &["1/r.json", "2/r.json", "2/s.json"],
                &["1/r.json", "2/r.json", "s.json"],
            ),
            (
                &["/a/x/r.json", "/b/x/r.json"],
                &["a/x/r.json", "b/x/r.json"],
            ),
            // The end of another's path, and the same place by another way.
            (&["r.json", "x/r.json"], &["r.json", "x/r.json"]),
            (&["./r.json", "r.json"], &["./r.json", "r.json"]),
            (
                &["r.json", "r.json", "x/s.json", "r.json"],
                &["r.json", "r.json (2)", "s.json", "r.json (3)"],
            ),
            (&["", "/", "merged"], &["", "/", "merged"]),
            (&[], &[]),
        ] {
            assert_eq!(short_names(paths), names, "{paths:?}");
        }
    }
}
