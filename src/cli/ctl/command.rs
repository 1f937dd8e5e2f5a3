//! The table of commands, and calls of them.

use tap_reactor::experiment::options::{any_of, suggestion};
use tap_reactor::experiment::{Origin, Setting, Settings};

use super::client::Client;
use super::{CtlError, TOKEN, UsageError, actions, misbehave, moving, shell, watch};
use crate::cli::help;
use crate::cli::options;

/// Does a command; the last argument says whether documents are printed as they are.
pub type Action = fn(&Client, &Call, bool) -> Result<(), CtlError>;

/// A row of the table.
#[derive(Debug)]
pub struct Command {
    /// The word for it.
    pub name: &'static str,
    /// The words after it.
    pub operands: &'static [Operand],
    /// Names of the options that it has, of those of the subcommand.
    pub options: &'static [&'static str],
    /// What it does, in a sentence without a full stop.
    pub about: &'static str,
    pub(super) run: Action,
}

/// A word after a command.
#[derive(Debug)]
pub struct Operand {
    /// A word for it, such as `N`.
    pub name: &'static str,
    /// What it may be.
    pub kind: OperandKind,
    /// It may be left out.
    pub is_optional: bool,
}

/// What an operand may be, as far as a shell can complete it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OperandKind {
    /// VMs: a name, a range, a group.
    Vms,
    /// Who pings whom.
    Ping,
    /// VMs, a colon, and what is done to them or by them.
    Impair,
    /// A file.
    File,
    /// A command of the table.
    Command,
    /// Something that nobody knows beforehand.
    Other,
}

/// A command with its operands and options.
#[derive(Debug)]
pub struct Call {
    pub(super) command: &'static Command,
    operands: Vec<String>,
    pub(super) given: Settings,
}

const fn needed(name: &'static str, kind: OperandKind) -> Operand {
    Operand {
        name,
        kind,
        is_optional: false,
    }
}

const fn optional(name: &'static str, kind: OperandKind) -> Operand {
    Operand {
        name,
        kind,
        is_optional: true,
    }
}

/// What most rows have.
const PLAIN: Command = Command {
    name: "",
    operands: &[],
    options: &[],
    about: "",
    run: actions::status,
};

/// The commands.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "status",
        about: "The state of the lab and its figures so far",
        ..PLAIN
    },
    Command {
        name: "watch",
        options: &["interval"],
        about: "A screen of the figures, drawn again every second until q or Ctrl-C; a line each where standard output is \
                no terminal",
        run: watch::watch,
        ..PLAIN
    },
    Command {
        name: "vms",
        operands: &[optional("VM", OperandKind::Vms)],
        about: "The VMs, or one of them",
        run: actions::vms,
        ..PLAIN
    },
    Command {
        name: "add-vms",
        operands: &[needed("N", OperandKind::Other)],
        about: "Adds VMs, which start one after the other",
        run: actions::add_vms,
        ..PLAIN
    },
    Command {
        name: "remove",
        operands: &[needed("VMS", OperandKind::Vms)],
        about: "Removes VMs with their flows: vmI, vm[I-J], the name of a group, or all",
        run: actions::remove,
        ..PLAIN
    },
    Command {
        name: "flows",
        options: &["worst"],
        about: "The flows, each with its pings so far",
        run: actions::flows,
        ..PLAIN
    },
    Command {
        name: "flow",
        operands: &[needed("SRC:DST", OperandKind::Ping)],
        options: &["rate", "interval", "window", "count", "size"],
        about: "Adds flows, who pings whom as after --ping; with a pace of their own, or as the others send",
        run: actions::flow,
    },
    Command {
        name: "end-flow",
        operands: &[needed("N", OperandKind::Other)],
        about: "Ends the flow with that number",
        run: actions::end_flow,
        ..PLAIN
    },
    Command {
        name: "rate",
        operands: &[needed("R", OperandKind::Other)],
        about: "Sends so many pings per second over all flows from now on",
        run: actions::load,
        ..PLAIN
    },
    Command {
        name: "interval",
        operands: &[needed("TIME", OperandKind::Other)],
        about: "Sends a ping of each flow every so often from now on",
        run: actions::load,
        ..PLAIN
    },
    Command {
        name: "window",
        operands: &[needed("W", OperandKind::Other)],
        about: "Keeps so many pings of each flow outstanding from now on",
        run: actions::load,
        ..PLAIN
    },
    Command {
        name: "impairments",
        about: "The impairments, and the frames that were impaired so far",
        run: actions::impairments,
        ..PLAIN
    },
    Command {
        name: "impair",
        operands: &[needed("[VMS:]WHAT", OperandKind::Impair)],
        about: "Adds an impairment, as after --impair: vm3:delay=5ms,loss=1%",
        run: actions::impair,
        ..PLAIN
    },
    Command {
        name: "end-impairments",
        about: "Ends all impairments",
        run: actions::end_impairments,
        ..PLAIN
    },
    Command {
        name: "misbehaviours",
        about: "The misbehaviours of VMs so far, what they have done, and those to come",
        run: misbehave::misbehaviours,
        ..PLAIN
    },
    Command {
        name: "misbehave",
        operands: &[needed("VMS:WHAT", OperandKind::Impair)],
        about: "Makes VMs misbehave, as after --misbehave: vm9:arp-flood 1000/s+2s",
        run: misbehave::misbehave,
        ..PLAIN
    },
    Command {
        name: "behave",
        operands: &[needed("VMS", OperandKind::Vms)],
        about: "Ends the misbehaviours of VMs, those to come too: vm9, vm[0-9], all or a group",
        run: misbehave::behave,
        ..PLAIN
    },
    Command {
        name: "capture",
        operands: &[needed("FILE", OperandKind::File)],
        options: &["capture-vms", "capture-on-loss", "capture-snap"],
        about: "Captures frames into a file from now on; into -, standard output, until Ctrl-C",
        run: actions::capture,
    },
    Command {
        name: "captures",
        about: "The captures into files that have not been ended, and those of them that have failed",
        run: actions::captures,
        ..PLAIN
    },
    Command {
        name: "end-capture",
        operands: &[needed("N", OperandKind::Other)],
        about: "Ends the capture with that number, which completes its file",
        run: actions::end_capture,
        ..PLAIN
    },
    Command {
        name: "mark",
        operands: &[needed("NAME", OperandKind::Other)],
        about: "Gives this instant a name",
        run: actions::mark,
        ..PLAIN
    },
    Command {
        name: "move",
        operands: &[
            needed("VM", OperandKind::Vms),
            needed("PLACE", OperandKind::Other),
        ],
        options: &["repeat"],
        about: "Moves a VM while its flows go on, as after --move: move vm3 leaf1, or leaf1,announce=rarp",
        run: moving::move_vm,
    },
    Command {
        name: "moves",
        about: "The moves so far, and those that are to come",
        run: moving::moves,
        ..PLAIN
    },
    Command {
        name: "end-moves",
        operands: &[needed("VMS", OperandKind::Vms)],
        about: "Has the moves of VMs that are to come not made, such as the rest of a repeated one: vm3, vm[0-9], all or a group",
        run: moving::end_moves,
        ..PLAIN
    },
    Command {
        name: "report",
        operands: &[optional("FORMAT", OperandKind::Other)],
        options: &["output"],
        about: "The report of what was measured so far: as text, in a format such as html or csv, or into files",
        run: actions::report,
    },
    Command {
        name: "events",
        about: "The events from now on, until the lab ends",
        run: actions::events,
        ..PLAIN
    },
    Command {
        name: "metrics",
        about: "The metrics so far, as Prometheus reads them",
        run: actions::metrics,
        ..PLAIN
    },
    Command {
        name: "stop",
        about: "Ends the run in order, as Ctrl-C does",
        run: actions::stop,
        ..PLAIN
    },
    Command {
        name: "help",
        operands: &[optional("COMMAND", OperandKind::Command)],
        about: "The commands, or all about one",
        run: shell::help,
        ..PLAIN
    },
];

/// A row is told by its name.
impl PartialEq for Command {
    fn eq(&self, other: &Command) -> bool {
        self.name == other.name
    }
}

impl Eq for Command {}

impl Command {
    /// The command of that name.
    ///
    /// # Errors
    /// If there is none; says which there are, and which was meant, perhaps.
    pub fn named(name: &str) -> Result<&'static Command, UsageError> {
        let command = COMMANDS.iter().find(|command| command.name == name);
        command.ok_or_else(|| {
            let names = || COMMANDS.iter().map(|command| command.name);
            let meant = suggestion(name, "", names());
            let expected = any_of(&names().collect::<Vec<_>>());
            UsageError::new(format_args!(
                "{name}: no such command; expected {expected}{meant}"
            ))
        })
    }

    /// How it is called: `flow SRC:DST [--rate R]`.
    pub fn usage(&self) -> String {
        let mut usage = self.name.to_owned();
        for operand in self.operands {
            usage += &match operand.is_optional {
                true => format!(" [{}]", operand.name),
                false => format!(" {}", operand.name),
            };
        }
        for option in self.options() {
            usage += &format!(" [--{}{}]", option.name, help::value(option));
        }
        usage
    }

    /// The options that it has and others have not.
    pub fn options(&self) -> impl Iterator<Item = &'static options::OptionSpec> {
        let options = options::ctl().into_iter();
        options.filter(|option| self.options.contains(&option.name))
    }
}

impl Call {
    /// Reads a command and its operands; `None` if there is none.
    ///
    /// # Errors
    /// If there is no such command, or its options and operands are others.
    pub(super) fn new(words: Vec<String>, given: Settings) -> Result<Option<Call>, UsageError> {
        let mut words = words.into_iter();
        let foreign = |known: &[&str]| {
            let mut own = options::ctl().into_iter().map(|option| option.name);
            let foreign = own.find(|name| {
                !known.contains(name)
                    && !["json", TOKEN].contains(name)
                    && given.get(name).is_some()
            });
            foreign.and_then(|name| given.get(name))
        };
        let Some(name) = words.next() else {
            return match foreign(&[]) {
                Some(setting) => Err(UsageError::new(format_args!(
                    "{}: expected a command with it, such as status",
                    setting.flag()
                ))),
                None => Ok(None),
            };
        };
        let command = Command::named(&name)?;
        if let Some(setting) = foreign(command.options) {
            return Err(UsageError::new(format_args!(
                "{}: no option of {name}; expected {}",
                setting.flag(),
                command.usage()
            )));
        }
        let operands: Vec<String> = words.collect();
        let needed = command
            .operands
            .iter()
            .filter(|operand| !operand.is_optional);
        if !(needed.count()..=command.operands.len()).contains(&operands.len()) {
            return Err(UsageError::new(format_args!(
                "{name}: {} after it; expected {}",
                match operands.len() {
                    0 => "nothing".to_owned(),
                    1 => "a word".to_owned(),
                    many => format!("{many} words"),
                },
                command.usage()
            )));
        }
        let call = Call {
            command,
            operands,
            given,
        };
        actions::check(&call)?;
        Ok(Some(call))
    }

    /// The operand at that place, which is empty if it was left out.
    pub(super) fn operand(&self, at: usize) -> &str {
        self.operands.get(at).map_or("", String::as_str)
    }

    /// An operand as the setting `name` would be, for its checks.
    pub(super) fn operand_as(&self, at: usize, name: &'static str) -> Setting {
        Setting {
            name,
            text: self.operand(at).to_owned(),
            origin: Origin::Flag { is_short: false },
        }
    }

    /// The option `name`, a whole number, if it was given.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn given_number<T: TryFrom<u64>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, UsageError> {
        let setting = self.given.get(name);
        let number = setting.map(|setting| setting.number("a whole number"));
        Ok(number.transpose()?)
    }

    /// An operand that is a whole number.
    ///
    /// # Errors
    /// If it is none; says what is expected.
    pub(super) fn number(&self, at: usize) -> Result<u32, UsageError> {
        let number = self.operand_as(at, "").number("");
        number.map_err(|_| {
            UsageError::new(format_args!(
                "{} {}: expected a whole number",
                self.command.name,
                self.operand(at)
            ))
        })
    }
}
