//! The man page in troff (`man(7)`), made from the tables of options.

use tap_reactor::experiment::options::{Category, OptionSpec};

use super::help;
use super::subcommand::{NAME, Part, Section, Subcommand};

/// The day of the last change that readers of the page should know of; the page says it in its footer.
const DATE: &str = "2026-11-26";

/// The man page.
pub fn render() -> String {
    let run = Subcommand::Bare;
    let mut page = Page::default();
    page.line(&format!(
        ".TH TAP-REACTOR 1 {DATE} \"tap-reactor {}\" \"User Commands\"",
        env!("CARGO_PKG_VERSION")
    ));
    page.line(".SH NAME");
    page.text(&format!(
        "{NAME} - simulated VMs on TAP devices that ping each other"
    ));
    page.line(".SH SYNOPSIS");
    let calls = Subcommand::NAMED.into_iter().flat_map(Subcommand::usage);
    for (number, call) in run.usage().into_iter().take(1).chain(calls).enumerate() {
        if number > 0 {
            page.line(".br");
        }
        page.text(&call);
    }
    page.line(".SH DESCRIPTION");
    page.text(run.introduction());
    page.line(".SH OPTIONS");
    let options = run.options();
    for category in Category::ALL {
        page.line(&format!(".SS {category}"));
        let own = options.iter().filter(|option| option.category == category);
        own.for_each(|option| page.option(option));
    }
    page.line(".SH SUBCOMMANDS");
    for subcommand in Subcommand::NAMED {
        page.line(&format!(".SS {}", subcommand.name()));
        match subcommand.is_run() {
            true => page
                .text("Run an experiment: the same as without a subcommand, and the same options."),
            false => {
                page.text(subcommand.introduction());
                let options = subcommand.options();
                options.into_iter().for_each(|option| page.option(option));
            }
        }
        if !subcommand.commands().is_empty() {
            page.line(".PP");
            page.text("COMMANDS:");
        }
        for command in subcommand.commands() {
            page.line(".TP");
            page.line(&format!("\\fB{}\\fR", escaped(&command.usage())));
            page.text(&format!("{}.", command.about));
        }
        if !subcommand.is_run() {
            page.sections(".TP", subcommand.sections(false));
        }
    }
    page.sections(".SH", run.sections(false));
    page.line(".SH SEE ALSO");
    page.text("bridge(8), ip(8), ip-netns(8), ping(8), tcpdump(8)");
    page.0
}

/// The text so far.
#[derive(Default)]
struct Page(String);

impl Page {
    /// A line of troff.
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// Text, in lines of which each is short.
    fn text(&mut self, text: &str) {
        const WIDTH: usize = 78;
        let mut line = String::new();
        for word in text.split_whitespace() {
            if !line.is_empty() && line.len() + 1 + escaped(word).len() > WIDTH {
                self.line(&line);
                line.clear();
            }
            match line.is_empty() {
                true => line = escaped(word),
                false => line = format!("{line} {}", escaped_within(word)),
            }
        }
        self.line(&line);
    }

    fn option(&mut self, option: &OptionSpec) {
        let bold = |flag: String| format!("\\fB{}\\fR", escaped(&flag));
        let short = option
            .short
            .map(|short| format!("{}, ", bold(format!("-{short}"))));
        let value = help::value(option);
        // The name of a value is in italics, the brackets and signs around it are not.
        let value = match option.value_name {
            "" => escaped(&value),
            name => escaped(&value).replace(&escaped(name), &format!("\\fI{}\\fR", escaped(name))),
        };
        self.line(".TP");
        self.line(&format!(
            "{}{}{value}",
            short.unwrap_or_default(),
            bold(format!("--{}", option.name))
        ));
        self.text(&help::sentences(option).join(" "));
    }

    /// Sections, each under a heading of its own or, in a subsection, after a paragraph that names it.
    fn sections(&mut self, macro_name: &str, sections: &[Section]) {
        for section in sections {
            match macro_name {
                ".SH" => self.line(&format!(".SH {}", section.heading)),
                _ => {
                    self.line(".PP");
                    self.text(&format!("{}:", section.heading));
                }
            }
            for (number, part) in section.parts.iter().enumerate() {
                let is_first = number == 0 && macro_name == ".SH";
                self.part(part, is_first);
            }
        }
    }

    fn part(&mut self, part: &Part, is_first: bool) {
        match part {
            Part::Item(term, meaning) => {
                self.line(".TP");
                self.text(term);
                self.text(meaning);
            }
            Part::Text(text) => {
                self.paragraph(is_first);
                self.text(text);
            }
            Part::Example(about, lines) => {
                if !about.is_empty() {
                    self.paragraph(is_first);
                    self.text(about);
                }
                self.paragraph(is_first && about.is_empty());
                self.line(".RS 4");
                self.line(".nf");
                lines.iter().for_each(|line| self.line(&escaped(line)));
                self.line(".fi");
                self.line(".RE");
            }
        }
    }

    /// Begins a paragraph, where one does not begin anyway.
    fn paragraph(&mut self, is_first: bool) {
        if !is_first {
            self.line(".PP");
        }
    }
}

/// `text` at the beginning of a line, where a dot or a quote would be a request.
fn escaped(text: &str) -> String {
    let guard = if text.starts_with(['.', '\'']) {
        "\\&"
    } else {
        ""
    };
    format!("{guard}{}", escaped_within(text))
}

/// `text` with what troff would take for something else anywhere: backslashes, hyphens, quotes.
fn escaped_within(text: &str) -> String {
    let mut line = String::new();
    for each in text.chars() {
        match each {
            '\\' => line.push_str("\\e"),
            '-' => line.push_str("\\-"),
            '\'' => line.push_str("\\(aq"),
            '`' => line.push_str("\\(ga"),
            '^' => line.push_str("\\(ha"),
            '~' => line.push_str("\\(ti"),
            each if each.is_ascii() => line.push(each),
            each => line.push_str(&format!("\\[u{:04X}]", u32::from(each))),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_troff_would_take_for_something_else_is_escaped() {
        for (text, troff) in [
            ("a-b", "a\\-b"),
            (".json", "\\&.json"),
            ("'a'", "\\&\\(aqa\\(aq"),
            ("a\\b", "a\\eb"),
            ("vm1, …", "vm1, \\[u2026]"),
        ] {
            assert_eq!(escaped(text), troff);
        }
    }

    #[test]
    fn the_page_has_every_option_and_no_line_that_troff_would_lose() {
        let page = render();
        for option in Subcommand::Run.options() {
            let flag = escaped(&format!("--{}", option.name));
            assert!(page.contains(&format!("\\fB{flag}\\fR")), "{}", option.name);
        }
        const MACROS: [&str; 10] = [
            ".TH", ".SH", ".SS", ".TP", ".PP", ".br", ".nf", ".fi", ".RS", ".RE",
        ];
        for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
            assert!(
                MACROS.contains(&line.get(..3).unwrap_or_default()),
                "{line}"
            );
        }
        assert!(page.is_ascii());
    }

    /// Formats the page with another program, where that is installed, and returns its complaints.
    fn complaints(program: &str, arguments: &[&str]) -> Option<String> {
        let command = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = command.ok()?;
        let mut input = child.stdin.take().unwrap();
        input.write_all(render().as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        let said = match program {
            // It writes its findings to standard output.
            "mandoc" => output.stdout,
            _ => output.stderr,
        };
        Some(String::from_utf8(said).unwrap())
    }

    #[test]
    fn formatters_of_man_pages_find_nothing() {
        for (program, arguments) in [
            ("groff", &["-man", "-ww", "-Tutf8", "-z"][..]),
            ("mandoc", &["-T", "lint", "-W", "style"][..]),
            ("man", &["--warnings", "-E", "UTF-8", "-l", "-"][..]),
        ] {
            if let Some(said) = complaints(program, arguments) {
                assert_eq!(said, "", "{program}");
            }
        }
    }
}
