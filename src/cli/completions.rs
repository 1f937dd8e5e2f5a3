//! Completions for shells, made from the tables of options.
//!
//! Not by clap 2: its script for bash offers no options of subcommands where the program's name has a hyphen, and the names
//! of operands as words; that for fish offers nothing after the first value.

use tap_reactor::experiment::options::{Kind, OptionSpec};

use super::subcommand::{NAME, Subcommand};

/// The completions for `shell`, or `None` if it is not known.
pub fn render(shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash()),
        "zsh" => Some(zsh()),
        "fish" => Some(fish()),
        _ => None,
    }
}

/// The words that follow an option or a subcommand.
enum Follows {
    /// One of these.
    Words(&'static [&'static str]),
    /// The name of a file.
    File,
    /// Something that no shell knows.
    Unknown,
    /// Nothing that belongs to it.
    Nothing,
}

fn follows(option: &OptionSpec) -> Follows {
    match (option.needs_value(), option.kind) {
        (false, _) => Follows::Nothing,
        (true, Kind::OneOf(words)) => Follows::Words(words),
        (true, Kind::Path) => Follows::File,
        (true, _) => Follows::Unknown,
    }
}

/// The flags of an option, the short one first.
fn flags(option: &OptionSpec) -> Vec<String> {
    let short = option.short.map(|short| format!("-{short}"));
    short
        .into_iter()
        .chain([format!("--{}", option.name)])
        .collect()
}

/// The options of all subcommands, each once.
fn all_options() -> Vec<&'static OptionSpec> {
    let mut options = Subcommand::Bare.options();
    for option in Subcommand::NAMED.into_iter().flat_map(Subcommand::options) {
        if options.iter().all(|known| known.name != option.name) {
            options.push(option);
        }
    }
    options
}

fn names() -> String {
    Subcommand::NAMED.map(Subcommand::name).join(" ")
}

fn bash() -> String {
    let words = |subcommand: Subcommand| {
        let options = subcommand.options();
        let flags = options.into_iter().flat_map(flags);
        flags.collect::<Vec<_>>().join(" ")
    };
    let mut cases = String::new();
    for subcommand in Subcommand::NAMED {
        let choices = subcommand
            .operand()
            .map_or(&[][..], |operand| operand.choices);
        let choices = choices.iter().map(|choice| format!(" {choice}"));
        let name = subcommand.name();
        let words = words(subcommand);
        let choices = choices.collect::<String>();
        cases.push_str(&format!("        {name}) words=\"{words}{choices}\" ;;\n"));
    }
    let mut values = String::new();
    for option in all_options() {
        let action = match follows(option) {
            Follows::Words(words) => {
                format!(
                    "COMPREPLY=($(compgen -W \"{}\" -- \"$cur\"))",
                    words.join(" ")
                )
            }
            Follows::File => "COMPREPLY=($(compgen -f -- \"$cur\"))".to_owned(),
            Follows::Unknown => "compopt +o default".to_owned(),
            Follows::Nothing => continue,
        };
        let flags = flags(option).join("|");
        values.push_str(&format!("        {flags}) {action}; return ;;\n"));
    }
    let bare = words(Subcommand::Bare);
    let names = names();
    format!(
        "_tap_reactor() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} words
    COMPREPLY=()
    case $prev in
{values}    esac
    [ \"$COMP_CWORD\" -gt 1 ] || {{
        COMPREPLY=($(compgen -W \"{names} {bare}\" -- \"$cur\"))
        return
    }}
    case ${{COMP_WORDS[1]}} in
{cases}        *) words=\"{bare}\" ;;
    esac
    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))
}}
complete -o default -F _tap_reactor {NAME}
"
    )
}

fn zsh() -> String {
    let mut cases = String::new();
    for subcommand in Subcommand::NAMED {
        cases.push_str(&format!("        {})\n", subcommand.name()));
        cases.push_str(&zsh_arguments(subcommand, "            "));
        cases.push_str("            ;;\n");
    }
    let subcommands = Subcommand::NAMED.map(|each| {
        let (name, about) = (each.name(), each.about());
        format!("        '{name}:{}'\n", about.replace('\'', "'\\''"))
    });
    format!(
        "#compdef {NAME}

_tap_reactor() {{
    local -a subcommands=(
{}    )
    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
        _describe subcommand subcommands
    fi
    case $words[2] in
{cases}        *)
{}            ;;
    esac
}}

if [ \"$funcstack[1]\" = _{NAME} ]; then
    _tap_reactor \"$@\"
else
    compdef _tap_reactor {NAME}
fi
",
        subcommands.concat(),
        zsh_arguments(Subcommand::Bare, "            ")
    )
}

/// A call of `_arguments` for the options of a subcommand, whose name is left out of the words before.
fn zsh_arguments(subcommand: Subcommand, indent: &str) -> String {
    let mut lines = Vec::new();
    if subcommand != Subcommand::Bare {
        lines.push(format!("{indent}shift words; (( CURRENT-- ))\n"));
    }
    lines.push(format!("{indent}_arguments -s"));
    for option in subcommand.options() {
        let help = option.help.replace('\'', "'\\''");
        let help = help
            .replace('[', "\\[")
            .replace(']', "\\]")
            .replace(':', "\\:");
        let value = match follows(option) {
            Follows::Words(words) => format!(":{}:({})", option.value_name, words.join(" ")),
            Follows::File => format!(":{}:_files", option.value_name),
            Follows::Unknown => format!(":{}:", option.value_name.replace(':', "\\:")),
            Follows::Nothing => String::new(),
        };
        let repeats = if option.is_repeatable { "*" } else { "" };
        for flag in flags(option) {
            lines.push(format!(" \\\n{indent}    '{repeats}{flag}[{help}]{value}'"));
        }
    }
    if let Some(operand) = subcommand.operand() {
        let number = if operand.is_repeatable { "*" } else { "1" };
        let action = match operand.choices {
            [] => "_files".to_owned(),
            choices => format!("({})", choices.join(" ")),
        };
        lines.push(format!(
            " \\\n{indent}    '{number}:{}:{action}'",
            operand.name
        ));
    }
    lines.push("\n".to_owned());
    lines.concat()
}

fn fish() -> String {
    let names = names();
    let mut text = format!("complete -c {NAME} -f\n");
    for subcommand in Subcommand::NAMED {
        text.push_str(&format!(
            "complete -c {NAME} -n __fish_use_subcommand -a {} -d '{}'\n",
            subcommand.name(),
            quoted(subcommand.about())
        ));
    }
    for subcommand in [Subcommand::Bare].into_iter().chain(Subcommand::NAMED) {
        let condition = match subcommand {
            Subcommand::Bare => format!("not __fish_seen_subcommand_from {names}"),
            _ => format!("__fish_seen_subcommand_from {}", subcommand.name()),
        };
        let prefix = format!("complete -c {NAME} -n '{condition}'");
        for option in subcommand.options() {
            let short = option
                .short
                .map_or(String::new(), |short| format!(" -s {short}"));
            let value = match follows(option) {
                Follows::Words(words) => format!(" -x -a '{}'", words.join(" ")),
                Follows::File => " -r -F".to_owned(),
                Follows::Unknown => " -x".to_owned(),
                Follows::Nothing => String::new(),
            };
            let (name, help) = (option.name, quoted(option.help));
            text.push_str(&format!("{prefix}{short} -l {name}{value} -d '{help}'\n"));
        }
        match subcommand.operand().map(|operand| operand.choices) {
            None => {}
            Some([]) => text.push_str(&format!("{prefix} -F\n")),
            Some(choices) => text.push_str(&format!("{prefix} -a '{}'\n", choices.join(" "))),
        }
    }
    text
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The completions for a shell in a file.
    fn file(shell: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), render(shell).unwrap()).unwrap();
        file
    }

    /// Lines of words before the cursor, and the words that are offered for the last of them.
    const CASES: [(&[&str], &[&str]); 10] = [
        (&["--pi"], &["--ping", "--ping-ipv6"]),
        (&["--vms", "2", "--pi"], &["--ping", "--ping-ipv6"]),
        (&["--fabric", ""], &["bridge", "xdp", "none", "sim"]),
        (&["--arrivals", "po"], &["poisson"]),
        (&["rep"], &["report"]),
        (&["report", "--mer"], &["--merge"]),
        (&["run", "--dh"], &["--dhcp"]),
        (&["clean", "--v"], &["--version"]),
        (&["completions", "z"], &["zsh"]),
        (&["--resolve", "at"], &["at-once"]),
    ];

    fn assert_offered(words: &[&str], output: std::process::Output, offered: &[&str]) {
        let found = String::from_utf8(output.stdout).unwrap();
        let first = |line: &'_ str| line.split('\t').next().map(str::to_owned);
        let mut found: Vec<_> = found.lines().filter_map(first).collect();
        found.sort_unstable();
        let mut offered = offered.to_vec();
        offered.sort_unstable();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(found, offered, "{words:?}: {errors}");
    }

    #[test]
    fn the_shells_take_their_completions() {
        for (shell, flag) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
            let file = file(shell);
            match Command::new(shell).arg(flag).arg(file.path()).output() {
                Ok(checked) => assert!(checked.status.success(), "{shell}: {checked:?}"),
                // Others may not be installed.
                Err(error) => assert_ne!(shell, "bash", "{error}"),
            }
        }
    }

    #[test]
    fn bash_completes_flags_values_and_subcommands() {
        let file = file("bash");
        for (words, offered) in CASES {
            let line: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
            let script = format!(
                "source {}; COMP_WORDS=({NAME} {}); COMP_CWORD={}; _tap_reactor; \
                 printf '%s\\n' \"${{COMPREPLY[@]}}\"",
                file.path().display(),
                line.join(" "),
                words.len(),
            );
            let run = Command::new("bash")
                .args(["--norc", "-c", &script])
                .output();
            assert_offered(words, run.unwrap(), offered);
        }
    }

    #[test]
    fn fish_completes_the_same_where_it_is_installed() {
        let file = file("fish");
        for (words, offered) in CASES {
            let script = format!(
                "source {}; complete -C '{NAME} {}'",
                file.path().display(),
                words.join(" ")
            );
            let run = Command::new("fish")
                .args(["--no-config", "-c", &script])
                .output();
            if let Ok(run) = run {
                assert_offered(words, run, offered);
            }
        }
    }
}
