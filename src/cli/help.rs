//! The help texts, `-h` and `--help`, made from the tables of options.

use tap_reactor::experiment::options::{Category, OptionSpec};

use super::subcommand::{Part, Section, Subcommand};

/// Columns of a help text.
const WIDTH: usize = 90;
/// Columns before the text of an option.
const INDENT: usize = 10;

/// The help text of `subcommand`: the main options, or all of them.
pub fn render(subcommand: Subcommand, is_short: bool) -> String {
    let mut text = String::new();
    let mut add = |paragraph: &str| {
        text.push_str(paragraph);
        text.push('\n');
    };
    add(&wrap(subcommand.introduction(), 0));
    add("\nUSAGE:");
    for line in subcommand.usage() {
        add(&format!("    {line}"));
    }
    let options = subcommand.options();
    let own = |category| {
        let options = options.iter().copied();
        options.filter(move |option: &&OptionSpec| {
            option.category == category && (!is_short || option.is_main)
        })
    };
    let is_run = subcommand.is_run();
    for category in Category::ALL {
        if own(category).next().is_none() {
            continue;
        }
        let heading = match is_run {
            true => category.to_string().to_uppercase(),
            false => "OPTIONS".to_owned(),
        };
        add(&format!("\n{heading}:"));
        let widths = own(category).map(|option| form(option).chars().count());
        let width = widths.max().unwrap_or_default();
        let lines = own(category).map(|option| match is_short {
            true => line(option, width),
            false => paragraph(option),
        });
        let between = if is_short { "\n" } else { "\n\n" };
        add(&lines.collect::<Vec<_>>().join(between));
    }
    if is_run {
        add("\nSUBCOMMANDS:");
        for each in Subcommand::NAMED {
            add(&format!("    {:<12} {}", each.name(), each.about()));
        }
    }
    if !subcommand.commands().is_empty() {
        add("\nCOMMANDS:");
        for command in subcommand.commands() {
            add(&wrap(&command.usage(), 4));
            add(&wrap(&format!("{}.", command.about), INDENT));
        }
    }
    for section in subcommand.sections(is_short) {
        add(&render_section(section));
    }
    text
}

fn render_section(section: &Section) -> String {
    let mut text = format!("\n{}:", section.heading);
    for (number, part) in section.parts.iter().enumerate() {
        let is_item = matches!(part, Part::Item(..));
        text.push_str(if number > 0 && !is_item { "\n\n" } else { "\n" });
        match part {
            Part::Text(paragraph) => text.push_str(&wrap(paragraph, 4)),
            Part::Item(term, meaning) => text.push_str(&format!("    {term}  {meaning}")),
            Part::Example("", lines) => text.push_str(&indented(lines, 4)),
            Part::Example(about, lines) => {
                text.push_str(&format!("{}\n{}", wrap(about, 4), indented(lines, 8)));
            }
        }
    }
    text
}

fn indented(lines: &[&str], indent: usize) -> String {
    let lines = lines.iter().map(|line| format!("{:indent$}{line}", ""));
    lines.collect::<Vec<_>>().join("\n")
}

/// The forms of an option: `-c, --count N`, `--spin[=TIME|off]`.
pub fn form(option: &OptionSpec) -> String {
    let short = option
        .short
        .map_or("    ".to_owned(), |short| format!("-{short}, "));
    format!("{short}--{}{}", option.name, value(option))
}

/// The value as it follows an option.
pub fn value(option: &OptionSpec) -> String {
    match (option.value_name, option.needs_value()) {
        ("", _) => String::new(),
        (name, true) => format!(" {name}"),
        (name, false) => format!("[={name}]"),
    }
}

/// The default as a help text shows it.
pub fn default(option: &OptionSpec) -> Option<String> {
    let described = option.default.describe()?;
    Some(format!("[default: {described}]"))
}

/// An option in one line, or two where that has no room.
fn line(option: &OptionSpec, width: usize) -> String {
    let form = form(option);
    let default = default(option).map_or(String::new(), |default| format!(" {default}"));
    let indent = 4 + width + 2;
    let text = wrap(&format!("{}{default}", option.help), indent);
    format!("    {form:<width$}  {}", text.trim_start())
}

/// An option with all that there is to say of it.
fn paragraph(option: &OptionSpec) -> String {
    let text = sentences(option).join(" ");
    format!("    {}\n{}", form(option), wrap(&text, INDENT))
}

/// The parts of an option's long help, in their order.
pub fn sentences(option: &OptionSpec) -> Vec<String> {
    let mut parts = vec![format!("{}.", option.help)];
    if !option.details.is_empty() {
        parts.push(option.details.to_owned());
    }
    parts.extend(option.more.map(|more| more()));
    if let [one, others @ ..] = option.fabrics {
        let names = others
            .iter()
            .fold(one.to_string(), |all, next| format!("{all}, {next}"));
        parts.push(format!("Fabrics: {names}."));
    }
    parts.extend(default(option));
    parts
}

/// `text` in lines of at most [`WIDTH`] columns, each after `indent` spaces.
pub fn wrap(text: &str, indent: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{:indent$}{word}", "")),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse;

    fn all() -> impl Iterator<Item = Subcommand> {
        [Subcommand::Bare].into_iter().chain(Subcommand::NAMED)
    }

    #[test]
    fn every_help_text_fits_a_terminal_and_names_the_options_that_it_should() {
        for (subcommand, is_short) in all().flat_map(|each| [(each, true), (each, false)]) {
            let text = render(subcommand, is_short);
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{subcommand:?}: {line}");
                assert_eq!(line.trim_end(), line, "{subcommand:?}: {line:?}");
            }
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
            for option in subcommand.options() {
                let form = form(option);
                let is_there = text
                    .lines()
                    .any(|line| line.trim_start().starts_with(form.trim()));
                let is_expected = option.is_main || !is_short;
                assert_eq!(is_there, is_expected, "{subcommand:?}: {form}");
            }
        }
    }

    #[test]
    fn the_sections_follow_one_another() {
        let long = render(Subcommand::Bare, false);
        let mut rest = long.as_str();
        for heading in [
            "USAGE",
            "LAB",
            "VMS",
            "TRAFFIC",
            "ADDRESSES",
            "FABRIC",
            "OUTPUT",
            "SUBCOMMANDS",
            "VALUES",
            "EXAMPLES",
            "EXIT STATUS",
        ] {
            let at = rest.find(&format!("\n{heading}:\n"));
            rest = &rest[at.unwrap_or_else(|| panic!("{heading}: {long}"))..];
        }
    }

    #[test]
    fn the_examples_of_help_texts_are_right() {
        let mut examples = 0;
        for text in all().map(|each| render(each, false)) {
            let (_, text) = text.split_once("EXAMPLE").unwrap_or_default();
            let lines = text.lines().map(str::trim);
            for line in lines.filter(|line| line.starts_with("tap-reactor ")) {
                let line = line.split([';', '>', '|']).next().unwrap_or_default();
                let line = line.split(" < ").next().unwrap_or_default();
                let line = line.replace('\'', "");
                let words = line.split_whitespace().map(std::ffi::OsString::from);
                assert!(parse(words).is_ok(), "{line}");
                examples += 1;
            }
        }
        assert!(examples > 8, "{examples}");
    }
}
