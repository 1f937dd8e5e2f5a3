//! The shell of `ctl`: commands line by line, from a terminal or from a script.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::time::Duration;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use tap_reactor::control::{LARGEST_PAGE, LabDocument, List, VmDocument};
use tap_reactor::experiment::options::Kind;
use tap_reactor::report::Values;

use super::client::Client;
use super::command::{COMMANDS, Call, Command, OperandKind};
use super::{CtlError, UsageError, print};
use crate::cli::help::{value, wrap};
use crate::cli::{Request, console, options, parse, subcommand};

/// The longest wait for a lab that is asked for names to complete.
const COMPLETION_TIME: Duration = Duration::from_secs(2);
/// Words that end the shell, besides the end of its input.
const END: [&str; 2] = ["exit", "quit"];

/// Prints the commands, or all about one.
pub fn help(_: &Client, call: &Call, _: bool) -> Result<(), CtlError> {
    let name = call.operand(0);
    if name.is_empty() {
        return print(&COMMANDS.iter().map(entry).collect::<String>());
    }
    let command = Command::named(name)?;
    let options = command.options().map(|option| {
        let help = wrap(&format!("{}.", option.help), 8);
        format!("    --{}{}\n{help}\n", option.name, value(option))
    });
    print(&(entry(command) + &options.collect::<String>()))
}

/// How a command is called, and what it does.
fn entry(command: &Command) -> String {
    let about = wrap(&format!("{}.", command.about), 4);
    format!("{}\n{about}\n", command.usage())
}

/// Reads commands and does them: on a terminal until its end, whatever fails; of a script until one fails.
pub fn run(client: &Client, json: bool) -> Result<(), CtlError> {
    match io::stdin().is_terminal() {
        true => interactive(client, json),
        false => script(client, json),
    }
}

fn script(client: &Client, json: bool) -> Result<(), CtlError> {
    for (number, line) in (1..).zip(io::stdin().lock().lines()) {
        let line = line.map_err(|error| CtlError::Input(error.to_string()))?;
        match carry_out(client, &line, json) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                return Err(CtlError::Script {
                    line: number,
                    error: Box::new(error),
                });
            }
        }
    }
    Ok(())
}

fn interactive(client: &Client, json: bool) -> Result<(), CtlError> {
    let wrong = |error: ReadlineError| CtlError::Input(error.to_string());
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .auto_add_history(true)
        .build();
    let mut editor: Editor<Words<'_>, DefaultHistory> =
        Editor::with_config(config).map_err(wrong)?;
    editor.set_helper(Some(Words { client }));
    let history = history_file();
    if let Some(file) = &history {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    // A lab that is not there is told of at once, and may come.
    if let Err(error) = client.get::<LabDocument>("/") {
        console::eprint(format_args!("error: {error}"));
    }
    let prompt = format!("{}> ", client.address());
    loop {
        match editor.readline(&prompt) {
            Ok(line) => {
                if let Some(file) = &history {
                    // At once, since what follows may be ended by a signal. Who can't have one goes without.
                    let made = file.parent().map(fs::create_dir_all);
                    let _ = made.map(|_| editor.save_history(file));
                }
                match carry_out(client, &line, json) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => console::eprint(format_args!("error: {error}")),
                }
            }
            // Ctrl-C: the line is given up.
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(wrong(error)),
        }
    }
    Ok(())
}

/// The file of the history: in the user's folder of states (XDG Base Directory Specification).
fn history_file() -> Option<PathBuf> {
    let folder = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let states = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(states.join(subcommand::NAME).join("ctl-history"))
}

/// Does the command of a line, if it has one. Returns false if it is the last one.
fn carry_out(client: &Client, line: &str, json: bool) -> Result<bool, CtlError> {
    let words = split(line)?;
    match words.first().map(String::as_str) {
        None => return Ok(true),
        Some(word) if END.contains(&word) && words.len() == 1 => return Ok(false),
        Some(_) => {}
    }
    let address = client.address().to_string();
    let line = [subcommand::NAME, "ctl", &address].map(OsString::from);
    let line = line
        .into_iter()
        .chain(words.into_iter().map(OsString::from));
    match parse(line)? {
        Request::Ctl(request) => {
            if let Some(call) = request.call {
                (call.command.run)(client, &call, json || request.json)?;
            }
        }
        Request::Print(text) => print(&text)?,
        Request::Run(..)
        | Request::Sweep(_)
        | Request::Search(_)
        | Request::Launch(_)
        | Request::Clean
        | Request::Report(_) => {}
    }
    Ok(true)
}

/// The words of a line. Quotes hold what is between them together, a backslash the character after it; # begins a comment.
fn split(line: &str) -> Result<Vec<String>, UsageError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => {
                let next = characters.next();
                let next =
                    next.ok_or_else(|| UsageError::new("\\: expected a character after it"))?;
                word.get_or_insert_default().push(next);
            }
            (end, Some(begin)) if end == begin => quote = None,
            (inner, Some(_)) => word.get_or_insert_default().push(inner),
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => break,
            (blank, None) if blank.is_whitespace() => words.extend(word.take()),
            (other, None) => word.get_or_insert_default().push(other),
        }
    }
    if let Some(quote) = quote {
        return Err(UsageError::new(format_args!(
            "{quote}: expected another one that ends it"
        )));
    }
    words.extend(word);
    Ok(words)
}

/// Completes words, with the names that the lab has.
struct Words<'c> {
    client: &'c Client,
}

impl Helper for Words<'_> {}
impl Highlighter for Words<'_> {}
impl Validator for Words<'_> {}
impl Hinter for Words<'_> {
    type Hint = String;
}

/// What may stand at a place of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// One of these words.
    Words(&'static [&'static str]),
    /// A command, an option of one, an operand, the value of an option.
    Command,
    Option(&'static Command),
    Operand(OperandKind),
    Nothing,
}

impl Words<'_> {
    /// VMs that are up, and groups.
    fn names(&self) -> Vec<String> {
        let client = self.client.hasty(COMPLETION_TIME);
        let vms: Result<List<VmDocument>, _> = client.get(&format!("/vms?limit={LARGEST_PAGE}"));
        let lab: Result<LabDocument, _> = client.get("/");
        let vms = vms.map(|vms| vms.items).unwrap_or_default();
        let mut names: Vec<String> = vms
            .into_iter()
            .filter(|vm| vm.is_up)
            .map(|vm| vm.name)
            .collect();
        names.extend(
            lab.into_iter()
                .flat_map(|lab| lab.plan.groups)
                .filter_map(|mut group| match group.remove("name") {
                    Some(Values::One(name)) => Some(name),
                    _ => None,
                }),
        );
        names.push("all".to_owned());
        names
    }

    /// What the last word of a line may be, and the part of that word that stays.
    fn candidates(&self, place: Place, word: &str) -> (usize, Vec<String>) {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        match place {
            Place::Nothing | Place::Operand(OperandKind::File | OperandKind::Other) => {
                (0, Vec::new())
            }
            Place::Words(words) => (0, owned(words)),
            Place::Command => {
                let names = COMMANDS.iter().map(|command| command.name);
                (0, names.chain(END).map(str::to_owned).collect())
            }
            Place::Operand(OperandKind::Command) => (
                0,
                COMMANDS
                    .iter()
                    .map(|command| command.name.to_owned())
                    .collect(),
            ),
            Place::Option(command) => {
                let options = command.options().map(|option| format!("--{}", option.name));
                (
                    0,
                    options
                        .chain(["--json".to_owned(), "--help".to_owned()])
                        .collect(),
                )
            }
            Place::Operand(OperandKind::Vms) => (0, self.names()),
            Place::Operand(OperandKind::Ping) => match word.split_once(':') {
                Some((source, _)) => (source.len() + 1, self.names()),
                None => {
                    let sources = self.names().into_iter().map(|name| name + ":");
                    (
                        0,
                        sources
                            .chain(["mesh".to_owned(), "ring".to_owned()])
                            .collect(),
                    )
                }
            },
            Place::Operand(OperandKind::Impair) => match word.contains(':') {
                true => (0, Vec::new()),
                false => (0, self.names().into_iter().map(|name| name + ":").collect()),
            },
        }
    }
}

/// Finds out what may stand in the place of `word`, which follows `before`.
fn place(before: &[&str], word: &str) -> Place {
    let Some((name, rest)) = before.split_first() else {
        return Place::Command;
    };
    let Ok(command) = Command::named(name) else {
        return Place::Nothing;
    };
    let option = |flag: &str| {
        let name = flag.strip_prefix("--")?;
        options::ctl()
            .into_iter()
            .find(|option| option.name == name)
    };
    let takes_next = |flag: &str| option(flag).filter(|option| option.needs_value());
    if let Some(option) = rest.last().and_then(|flag| takes_next(flag)) {
        return match option.kind {
            Kind::Vms => Place::Operand(OperandKind::Vms),
            Kind::Path => Place::Operand(OperandKind::File),
            _ if !option.choices().is_empty() => Place::Words(option.choices()),
            _ => Place::Nothing,
        };
    }
    if word.starts_with('-') {
        return Place::Option(command);
    }
    let values = rest
        .windows(2)
        .filter(|two| matches!(two, [flag, _] if takes_next(flag).is_some()));
    let operands = rest.iter().filter(|word| !word.starts_with('-')).count();
    let at = operands.saturating_sub(values.count());
    let operand = command.operands.get(at);
    operand.map_or(Place::Nothing, |operand| Place::Operand(operand.kind))
}

impl Completer for Words<'_> {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = line.get(..at).unwrap_or_default();
        let begin = typed
            .rfind(char::is_whitespace)
            .map_or(0, |blank| blank + 1);
        let (before, word) = typed.split_at_checked(begin).unwrap_or_default();
        let before: Vec<&str> = before.split_whitespace().collect();
        let place = place(&before, word);
        if place == Place::Operand(OperandKind::File) {
            return FilenameCompleter::new().complete(line, at, context);
        }
        let (kept, candidates) = self.candidates(place, word);
        let part = word.get(kept..).unwrap_or_default();
        let fitting = candidates
            .into_iter()
            .filter(|candidate| candidate.starts_with(part));
        let pairs = fitting.map(|candidate| Pair {
            replacement: match candidate.ends_with(':') {
                true => candidate.clone(),
                false => format!("{candidate} "),
            },
            display: candidate,
        });
        Ok((begin + kept, pairs.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_as_a_shell_splits_it() {
        for (line, words) in [
            ("", Some(vec![])),
            ("  status  ", Some(vec!["status"])),
            (
                "impair 'vm3:delay=5ms,loss=1%'",
                Some(vec!["impair", "vm3:delay=5ms,loss=1%"]),
            ),
            (
                "capture \"my file\" # why",
                Some(vec!["capture", "my file"]),
            ),
            ("mark a#b", Some(vec!["mark", "a#b"])),
            ("# flow", Some(vec![])),
            (
                "a\\ b '' \"\\\"\" 'c\\d'",
                Some(vec!["a b", "", "\"", "c\\d"]),
            ),
            (
                "flow vm[0-3]:vm4 --rate 100",
                Some(vec!["flow", "vm[0-3]:vm4", "--rate", "100"]),
            ),
            ("mark 'a", None),
            ("mark \"a'", None),
            ("mark \\", None),
        ] {
            let found = split(line).ok();
            let found = found
                .as_ref()
                .map(|words| words.iter().map(String::as_str).collect());
            assert_eq!(found, words, "{line}");
        }
    }

    #[test]
    fn each_place_of_a_line_has_its_kind_of_words() {
        let flow = Command::named("flow").unwrap();
        for (line, expected) in [
            ("", Place::Command),
            ("sta", Place::Command),
            ("remove v", Place::Operand(OperandKind::Vms)),
            ("remove vm0 v", Place::Nothing),
            ("flow vm0:", Place::Operand(OperandKind::Ping)),
            ("flow --rate 5 v", Place::Operand(OperandKind::Ping)),
            ("flow vm0:vm1 --ra", Place::Option(flow)),
            ("flow vm0:vm1 --rate ", Place::Nothing),
            (
                "capture f --capture-vms v",
                Place::Operand(OperandKind::Vms),
            ),
            ("capture ", Place::Operand(OperandKind::File)),
            ("report -o x", Place::Operand(OperandKind::Other)),
            ("report --output x", Place::Operand(OperandKind::File)),
            ("help st", Place::Operand(OperandKind::Command)),
            ("nonsense x", Place::Nothing),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            let (word, before) = words.split_last().unwrap();
            let before: Vec<&str> = before
                .iter()
                .copied()
                .filter(|word| !word.is_empty())
                .collect();
            assert_eq!(place(&before, word), expected, "{line}");
        }
    }
}
