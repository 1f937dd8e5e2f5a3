//! The words of a command line as they were typed: the subcommand, and the form of each option.
//!
//! The parser (`structopt::clap`) returns values but not how they were written, takes `-5` after `--count` for a flag, and a
//! switch with an optional value for the end of a cluster such as `-6v`. So the words are looked at first: clusters are taken
//! apart, and negative numbers are joined to the option that they follow.

use super::subcommand::Subcommand;
use tap_reactor::experiment::options::OptionSpec;

/// A command line that was looked at.
#[derive(Default)]
pub struct Words {
    /// The subcommand, if one is named.
    pub subcommand: Subcommand,
    /// The words for the parser, without the program's name.
    pub words: Vec<String>,
    /// Options in the order in which they were typed, and whether the short form was used.
    typed: Vec<(&'static str, bool)>,
}

impl Words {
    /// Looks at `words`, the program's name left out.
    pub fn new(words: &[&str]) -> Words {
        let mut read = Words::default();
        let mut options = read.subcommand.options();
        let mut is_first = true;
        let mut rest = words.iter().copied().peekable();
        while let Some(word) = rest.next() {
            let option = match word.strip_prefix("--") {
                Some("") => {
                    read.words.push(word.to_owned());
                    break;
                }
                Some(long) => {
                    let name = long.split_once('=').map_or(long, |(name, _)| name);
                    read.words.push(word.to_owned());
                    let found = find(&options, |option| option.name == name);
                    read.typed.extend(found.map(|option| (option.name, false)));
                    found.filter(|_| !long.contains('='))
                }
                None if word.len() > 1 && word.starts_with('-') => read.cluster(&options, word),
                None => {
                    if is_first && let Some(subcommand) = Subcommand::named(word) {
                        read.subcommand = subcommand;
                        options = subcommand.options();
                    }
                    read.words.push(word.to_owned());
                    None
                }
            };
            is_first = false;
            if option.is_some_and(OptionSpec::needs_value)
                && let Some(value) =
                    rest.next_if(|next| !next.starts_with('-') || is_negative(next))
            {
                match is_negative(value) {
                    true => read.join(value),
                    false => read.words.push(value.to_owned()),
                }
            }
        }
        read.words.extend(rest.map(str::to_owned));
        read
    }

    /// Takes a word such as `-c`, `-c5` or `-6v` apart. Returns the option whose value has to follow.
    fn cluster(
        &mut self,
        options: &[&'static OptionSpec],
        word: &str,
    ) -> Option<&'static OptionSpec> {
        for (at, short) in word.char_indices().skip(1) {
            let rest = word.get(at + short.len_utf8()..).unwrap_or_default();
            let Some(option) = find(options, |option| option.short == Some(short)) else {
                self.words.push(format!("-{short}{rest}"));
                return None;
            };
            self.typed.push((option.name, true));
            if option.needs_value() || rest.starts_with('=') {
                self.words.push(format!("-{short}{rest}"));
                return Some(option).filter(|_| rest.is_empty());
            }
            self.words.push(format!("-{short}"));
        }
        None
    }

    /// Joins `value` to the option before it.
    fn join(&mut self, value: &str) {
        if let Some(option) = self.words.last_mut() {
            *option = format!("{option}={value}");
        }
    }

    /// Returns whether occurrence `number` of the option has the short form; `None` if there is no such occurrence.
    pub fn is_short(&self, name: &str, number: usize) -> Option<bool> {
        let mut typed = self.typed.iter().filter(|(typed, _)| *typed == name);
        typed.nth(number).map(|(_, is_short)| *is_short)
    }

    /// The option as it was typed first: `-c` or `--count`.
    pub fn flag(&self, name: &str) -> String {
        let options = self.subcommand.options();
        let option = find(&options, |option| option.name == name);
        match (
            self.is_short(name, 0),
            option.and_then(|option| option.short),
        ) {
            (Some(true), Some(short)) => format!("-{short}"),
            _ => format!("--{name}"),
        }
    }

    /// The one of these options that was typed first.
    pub fn first<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> Option<&'static str> {
        let mut typed = self.typed.iter().map(|(typed, _)| *typed);
        typed.find(|typed| names.clone().any(|name| name == *typed))
    }

    /// The word before the first one that is `word`.
    pub fn before(&self, word: &str) -> Option<&str> {
        let mut words = self.words.windows(2);
        words.find_map(|two| match two {
            [before, this] if this == word => Some(before.as_str()),
            _ => None,
        })
    }
}

fn find(
    options: &[&'static OptionSpec],
    is_it: impl Fn(&OptionSpec) -> bool,
) -> Option<&'static OptionSpec> {
    options.iter().copied().find(|option| is_it(option))
}

/// Returns true if the word is a number below zero, such as `-5` or `-1ms`, and not a flag.
fn is_negative(word: &str) -> bool {
    let digits = word.strip_prefix('-').map(str::as_bytes);
    digits.is_some_and(|digits| match digits {
        [b'.', digit, ..] | [digit, ..] => digit.is_ascii_digit(),
        [] => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_taken_apart_and_negative_numbers_are_joined() {
        for (line, words) in [
            ("--count 5", "--count 5"),
            ("--count -5", "--count=-5"),
            ("-c -5", "-c=-5"),
            ("-c5", "-c5"),
            ("-c=5 -q", "-c=5 -q"),
            ("-6v", "-6 -v"),
            ("-6c 5", "-6 -c 5"),
            ("-6xv", "-6 -xv"),
            ("--ping vm0:vm1 -6", "--ping vm0:vm1 -6"),
            ("--count --ping", "--count --ping"),
            ("--spin -6", "--spin -6"),
            ("-i -.5", "-i=-.5"),
            ("-- -6v", "-- -6v"),
            ("report -v a.json", "report -v a.json"),
        ] {
            let typed: Vec<_> = line.split(' ').collect();
            assert_eq!(Words::new(&typed).words.join(" "), words, "{line}");
        }
    }

    #[test]
    fn options_are_named_as_they_were_typed() {
        let words = Words::new(&["-6", "-o", "a", "--output", "b", "--count=3", "-i1"]);
        for (name, flag) in [
            ("ping-ipv6", "-6"),
            ("output", "-o"),
            ("count", "--count"),
            ("interval", "-i"),
            ("size", "--size"),
        ] {
            assert_eq!(words.flag(name), flag);
        }
        let shorts = [0, 1, 2].map(|number| words.is_short("output", number));
        assert_eq!(shorts, [Some(true), Some(false), None]);
    }
}
