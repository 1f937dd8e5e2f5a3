//! Errors of the parser, each in one line that names what was typed and what is expected.

use structopt::clap::{Error, ErrorKind};
use tap_reactor::experiment::options::{Kind, OptionSpec, suggestion};

use super::UsageError;
use super::subcommand::Subcommand;
use super::words::Words;

/// The parser's error in our words.
pub fn explain(error: &Error, words: &Words) -> UsageError {
    let subject = error.info.as_deref().and_then(<[String]>::first);
    let subject = subject.map_or("", String::as_str);
    let options = words.subcommand.options();
    let option = options.iter().find(|option| option.name == subject);
    let is_again =
        |option: &OptionSpec| !option.is_repeatable && words.is_short(option.name, 1).is_some();
    let why = match (error.kind, option) {
        (ErrorKind::UnknownArgument | ErrorKind::UnrecognizedSubcommand, _) => {
            unexpected(subject, words)
        }
        (_, Some(option)) if is_again(option) => {
            // Of several that are, the parser names any one.
            let again = options.iter().filter(|option| is_again(option));
            let first = words
                .first(again.map(|option| option.name))
                .unwrap_or(subject);
            let flag = words.flag(first);
            format!("{flag}: given more than once; expected once")
        }
        (ErrorKind::EmptyValue, Some(option)) if !option.needs_value() => {
            let flag = words.flag(option.name);
            let value = match option.kind {
                Kind::Switch => "on|off",
                _ => option.value_name,
            };
            format!("{flag}: expected nothing or {flag}={value}")
        }
        (_, Some(option)) => {
            let (flag, value) = (words.flag(option.name), option.value_name);
            format!("{flag}: expected a value after it: {flag} {value}")
        }
        (_, None) => paragraph(&error.message),
    };
    UsageError::new(format_args!("{why} (see --help)"))
}

/// A word that is neither an option nor the value of one.
fn unexpected(word: &str, words: &Words) -> String {
    let options = words.subcommand.options();
    let names = || options.iter().map(|option| option.name);
    if let Some(long) = word.strip_prefix("--") {
        let name = long.split_once('=').map_or(long, |(name, _)| name);
        let meant = suggestion(name, "--", names());
        return format!("--{name}: no such option{meant}");
    }
    if word.starts_with('-') {
        return format!("{word}: no such option");
    }
    if words.subcommand == Subcommand::Bare && Subcommand::named(word).is_some() {
        return format!("{word}: a subcommand after options; expected it as the first word");
    }
    let before = words.before(word).unwrap_or_default();
    let named = options.iter().find(|option| {
        let is_long = before.strip_prefix("--") == Some(option.name);
        let is_short = option
            .short
            .is_some_and(|short| before == format!("-{short}"));
        is_long || is_short
    });
    match named {
        Some(option) if is_value(option, word) => {
            format!(
                "{word}: unexpected after {before}; expected {before}={word} if it is the value"
            )
        }
        _ if words.subcommand == Subcommand::Bare => {
            let names = Subcommand::NAMED.map(Subcommand::name);
            let meant = suggestion(word, "", names);
            format!("{word}: expected an option or a subcommand{meant}")
        }
        _ => format!("{word}: expected an option"),
    }
}

/// Returns true if `word` is a value of the option that would have to follow a "=".
fn is_value(option: &OptionSpec, word: &str) -> bool {
    match option.kind {
        Kind::Switch => option.choices().contains(&word),
        _ => !option.needs_value(),
    }
}

/// The first paragraph of the parser's message, in one line.
fn paragraph(message: &str) -> String {
    let text = message.trim_start_matches("error: ");
    let lines = text.lines().map(str::trim);
    let paragraph: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    paragraph.join(" ")
}
