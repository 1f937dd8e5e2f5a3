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

/// The value of an option, as far as a shell can complete it.
enum Value {
    /// One of these words.
    Words(Vec<&'static str>),
    /// The name of a file.
    File,
    /// Something that no shell knows.
    Unknown,
}

fn value(option: &'static OptionSpec) -> Value {
    let mut words = option.choices().to_vec();
    match option.kind {
        Kind::TimeOr(word) if !option.needs_value() => words.push(word),
        Kind::Path => return Value::File,
        _ => {}
    }
    if option.may_be_off() && !words.contains(&"off") {
        words.push("off");
    }
    match words.is_empty() {
        true => Value::Unknown,
        false => Value::Words(words),
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
        let operands = subcommand.operands();
        let name = subcommand.name();
        let words = words(subcommand);
        // Where several follow, each has its place; what has no choices is a file's name, or one that nobody knows.
        let places = match operands.as_slice() {
            [_, _, ..] => operands.iter().zip(2..).collect(),
            _ => Vec::new(),
        };
        for (operand, place) in places.iter().filter(|(operand, _)| !operand.is_repeatable) {
            let choices = operand.choices.join(" ");
            cases.push_str(&match operand.choices.as_slice() {
                [] => format!(
                    "        {place},{name}) [[ $cur == -* ]] || return; words=\"{words}\" ;;\n"
                ),
                _ => format!("        {place},{name}) words=\"{words} {choices}\" ;;\n"),
            });
        }
        let choices = match operands.as_slice() {
            [one] => one
                .choices
                .iter()
                .map(|choice| format!(" {choice}"))
                .collect(),
            _ => String::new(),
        };
        cases.push_str(&format!(
            "        *,{name}) words=\"{words}{choices}\" ;;\n"
        ));
    }
    let mut values = String::new();
    for option in all_options() {
        let action = match value(option) {
            Value::Words(choices) => format!("words=\"{}\"", choices.join(" ")),
            // Readline knows best how to quote them.
            Value::File => "return".to_owned(),
            Value::Unknown => "compopt +o default; return".to_owned(),
        };
        let joined = flags(option).into_iter().map(|flag| format!("{flag}="));
        let separate = flags(option).into_iter().filter(|_| option.needs_value());
        let patterns: Vec<_> = separate.chain(joined).collect();
        values.push_str(&format!("        {}) {action} ;;\n", patterns.join("|")));
    }
    let bare = words(Subcommand::Bare);
    let names = names();
    format!(
        "_tap_reactor() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} before= words=
    COMPREPLY=()
    # A \"=\" is a word of its own, unless somebody took it out of COMP_WORDBREAKS.
    case $cur in
        =) prev+== cur= ;;
        -*=*) before=${{cur%%=*}}= prev=${{cur%%=*}}= cur=${{cur#*=}} ;;
        *) [ \"$prev\" != = ] || prev=${{COMP_WORDS[COMP_CWORD-2]}}= ;;
    esac
    case $prev in
{values}    esac
    [ \"$words\" ] || case $COMP_CWORD,${{COMP_WORDS[1]}} in
        1,*) words=\"{names} {bare}\" ;;
{cases}        *) words=\"{bare}\" ;;
    esac
    COMPREPLY=($(compgen -P \"$before\" -W \"$words\" -- \"$cur\"))
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
        let action = match value(option) {
            Value::Words(choices) => format!("({})", choices.join(" ")),
            Value::File => "_files".to_owned(),
            Value::Unknown => String::new(),
        };
        let name = match option.value_name {
            "" => option.name,
            name => name,
        };
        let name = name.replace(':', "\\:");
        let repeats = if option.is_repeatable { "*" } else { "" };
        for flag in flags(option) {
            // After a "+" or a "=" the value follows in the same word or in the next one, after "=-" only in the same one.
            let (joint, colons) = match (option.needs_value(), flag.starts_with("--")) {
                (true, true) => ("=", ":"),
                (true, false) => ("+", ":"),
                (false, true) => ("=-", "::"),
                (false, false) => ("", ""),
            };
            let value = match colons {
                "" => String::new(),
                colons => format!("{colons}{name}:{action}"),
            };
            lines.push(format!(
                " \\\n{indent}    '{repeats}{flag}{joint}[{help}]{value}'"
            ));
        }
    }
    for (operand, place) in subcommand.operands().iter().zip(1..) {
        let number = if operand.is_repeatable {
            "*".to_owned()
        } else {
            place.to_string()
        };
        let action = match operand.choices.as_slice() {
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
            // Without -r or -x, a value is completed after a "=" only.
            let action = match (value(option), option.needs_value()) {
                (Value::Words(choices), true) => format!(" -x -a '{}'", choices.join(" ")),
                (Value::Words(choices), false) => format!(" -f -a '{}'", choices.join(" ")),
                (Value::File, _) => " -r -F".to_owned(),
                (Value::Unknown, _) => " -x".to_owned(),
            };
            let (name, help) = (option.name, quoted(option.help));
            text.push_str(&format!("{prefix}{short} -l {name}{action} -d '{help}'\n"));
        }
        let operands = subcommand.operands();
        if operands.iter().any(|operand| operand.choices.is_empty()) {
            text.push_str(&format!("{prefix} -F\n"));
        }
        for operand in operands
            .iter()
            .filter(|operand| !operand.choices.is_empty())
        {
            text.push_str(&format!("{prefix} -a '{}'\n", operand.choices.join(" ")));
        }
    }
    text
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// The completions for a shell in a file.
    fn file(shell: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), render(shell).unwrap()).unwrap();
        file
    }

    /// Lines of words before the cursor, and the words that are offered for the last of them.
    const CASES: [(&[&str], &[&str]); 13] = [
        (&["--pi"], &["--ping", "--ping-ipv6"]),
        (&["--vms", "2", "--pi"], &["--ping", "--ping-ipv6"]),
        (
            &["--fabric", ""],
            &["bridge", "xdp", "none", "interface", "sim"],
        ),
        (&["--arrivals", "po"], &["poisson"]),
        (&["rep"], &["report"]),
        (&["report", "--mer"], &["--merge"]),
        (&["run", "--dh"], &["--dhcp", "--dhcp6"]),
        (&["clean", "--v"], &["--version"]),
        (&["ctl", "lab.sock", "fl"], &["flow", "flows"]),
        (
            &["ctl", "lab.sock", "capture", "--capture-v"],
            &["--capture-vms"],
        ),
        (&["ctl", "--js"], &["--json"]),
        (&["completions", "z"], &["zsh"]),
        (&["--resolve", "at"], &["at-once"]),
    ];

    /// Options, the beginning of a value after "=", and what is offered for it.
    const JOINED: [(&str, &str, &[&str]); 6] = [
        (
            "--fabric",
            "",
            &["bridge", "xdp", "none", "interface", "sim"],
        ),
        ("--filter", "", &["auto", "on", "off"]),
        ("--filter", "o", &["on", "off"]),
        ("--ipv6", "of", &["off"]),
        ("--spin", "", &["always", "off"]),
        ("--path-split", "", &["off"]),
    ];

    fn assert_offered(words: &[&str], output: std::process::Output, offered: &[&str]) {
        let found = String::from_utf8(output.stdout).unwrap();
        let first = |line: &'_ str| line.split('\t').next().map(str::to_owned);
        // Fish offers an option that may have a value with its "=", too.
        let is_whole = |word: &String| !word.ends_with('=');
        let found = found.lines().filter_map(first).filter(is_whole);
        let mut found: Vec<_> = found.collect();
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

    /// The words that bash completes the last of `words` to.
    fn bash_offers(words: &[&str]) -> std::process::Output {
        let file = file("bash");
        let line: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
        let script = format!(
            "source {}; COMP_WORDS=({NAME} {}); COMP_CWORD={}; _tap_reactor; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.path().display(),
            line.join(" "),
            words.len(),
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &script]).output().unwrap()
    }

    #[test]
    fn bash_completes_flags_values_and_subcommands() {
        for (words, offered) in CASES {
            assert_offered(words, bash_offers(words), offered);
        }
        for (option, value, offered) in JOINED {
            let broken = match value {
                "" => vec![option, "="],
                value => vec![option, "=", value],
            };
            assert_offered(&broken, bash_offers(&broken), offered);
            // As if "=" were no end of a word.
            let whole = format!("{option}={value}");
            let offered: Vec<_> = offered
                .iter()
                .map(|word| format!("{option}={word}"))
                .collect();
            let offered: Vec<_> = offered.iter().map(String::as_str).collect();
            assert_offered(&[&whole], bash_offers(&[&whole]), &offered);
        }
    }

    #[test]
    fn bash_completes_file_names_with_blanks_and_goes_into_folders() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("dir")).unwrap();
        for name in ["my file.toml", "dir/inner.json"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let completions = file("bash");
        for (typed, completed) in [
            ("--scenario my\t", "<--scenario><my file.toml>"),
            ("--scenario=my\t", "<--scenario=my file.toml>"),
            ("-o di\tin\t", "<-o><dir/inner.json>"),
            ("-q report di\tin\t", "<-q><report><dir/inner.json>"),
            ("--fabric=s\t", "<--fabric=sim>"),
        ] {
            // An interactive shell without a terminal completes as well.
            let mut bash = Command::new("bash")
                .args(["--norc", "-i"])
                .current_dir(folder.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let script = format!(
                "source {}\n{NAME}() {{ printf '<%s>' \"$@\"; }}\n{NAME} {typed}\nexit\n",
                completions.path().display()
            );
            bash.stdin
                .take()
                .unwrap()
                .write_all(script.as_bytes())
                .unwrap();
            let run = bash.wait_with_output().unwrap();
            assert_eq!(String::from_utf8_lossy(&run.stdout), completed, "{run:?}");
        }
    }

    /// The same of fish; `None` if it is not installed.
    fn fish_offers(file: &tempfile::NamedTempFile, words: &[&str]) -> Option<std::process::Output> {
        let script = format!(
            "source {}; complete -C '{NAME} {}'",
            file.path().display(),
            words.join(" ")
        );
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", &script]).output().ok()
    }

    #[test]
    fn fish_completes_the_same_where_it_is_installed() {
        let file = file("fish");
        for (words, offered) in CASES {
            if let Some(run) = fish_offers(&file, words) {
                assert_offered(words, run, offered);
            }
        }
        for (option, value, offered) in JOINED {
            let offered: Vec<_> = offered
                .iter()
                .map(|word| format!("{option}={word}"))
                .collect();
            let offered: Vec<_> = offered.iter().map(String::as_str).collect();
            let whole = format!("{option}={value}");
            if let Some(run) = fish_offers(&file, &[&whole]) {
                assert_offered(&[&whole], run, &offered);
            }
        }
    }
}
