//! Suggestions for words that are nearly right: flags, keys of scenarios, and values that are one of a list.

/// Letters of a word for each of which one may be wrong, missing, added, or exchanged with the next one.
const LETTERS_PER_MISTAKE: usize = 3;

/// Fewest letters that are taken for the beginning of a word.
const BEGINNING: usize = 3;

/// The beginning of options that impaired the simulated switch alone, and the option that does it on every fabric.
const SIMULATED: (&str, &str) = ("sim-", "impair");

/// The one of `words` that `found` was probably meant to be: the one with the fewest mistakes, or else one that begins so.
pub fn did_you_mean<'a>(found: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    let letters = found.chars().count();
    let most = (letters / LETTERS_PER_MISTAKE).max(1);
    let begins = |word: &str| letters >= BEGINNING && word.starts_with(&found);
    let replaces = |word: &str| found.starts_with(SIMULATED.0) && word == SIMULATED.1;
    words
        .into_iter()
        .map(|word| (strsim::osa_distance(&found, word), word))
        .filter(|(mistakes, word)| {
            letters > 1 && *mistakes <= most || begins(word) || replaces(word)
        })
        .min_by_key(|(mistakes, _)| *mistakes)
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
        let words = ["ping", "interval", "bridge", "xdp", "none", "sim", "impair"];
        for (found, meant) in [
            ("pnig", Some("ping")),
            ("intervall", Some("interval")),
            ("brige", Some("bridge")),
            ("BRIDGE", Some("bridge")),
            ("inter", Some("interval")),
            ("smi", Some("sim")),
            ("sim-delay", Some("impair")),
            ("sim-queue", Some("impair")),
            ("in", None),
            ("x", None),
            ("frobnicate", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(found, words), meant, "{found}");
        }
        assert_eq!(suggestion("pnig", "--", words), "; did you mean --ping?");
        assert_eq!(suggestion("qqq", "--", words), "");
    }
}
