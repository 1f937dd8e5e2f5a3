//! Suggestions for words that are nearly right: flags, keys of scenarios, and values that are one of a list.

/// The least similarity (Jaro-Winkler, from 0 to 1) of a word that is suggested in place of another.
const ALIKE: f64 = 0.8;

/// The one of `words` that `found` was probably meant to be.
pub fn did_you_mean<'a>(found: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    words
        .into_iter()
        .map(|word| (strsim::jaro_winkler(&found, word), word))
        .filter(|(alike, _)| *alike > ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, word)| word)
}

/// The end of an error message: `; did you mean --ping?`, with `before` in front of the word; empty where no word is alike.
pub fn suggestion<'a>(
    found: &str,
    before: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> String {
    did_you_mean(found, words).map_or(String::new(), |word| {
        format!("; did you mean {before}{word}?")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_nearly_right_has_a_suggestion() {
        let words = ["ping", "interval", "bridge", "xdp", "none", "sim"];
        for (found, meant) in [
            ("pnig", Some("ping")),
            ("intervall", Some("interval")),
            ("brige", Some("bridge")),
            ("BRIDGE", Some("bridge")),
            ("frobnicate", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(found, words), meant, "{found}");
        }
        assert_eq!(suggestion("pnig", "--", words), "; did you mean --ping?");
        assert_eq!(suggestion("qqq", "--", words), "");
    }
}
