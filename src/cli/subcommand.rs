//! The subcommands: their names, options and operands, and the texts about each that no option has.

use tap_reactor::experiment::options::OptionSpec;
use tap_reactor::fabric::INSTRUMENTS;

use super::ctl::{COMMANDS, Command};
use super::options;

/// The program's name, as in messages and help texts.
pub const NAME: &str = "tap-reactor";

/// The first word of a command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Subcommand {
    /// None: run an experiment.
    #[default]
    Bare,
    /// Run an experiment.
    Run,
    /// Search for the greatest load.
    Search,
    /// Report saved runs again.
    Report,
    /// Steer a running lab, and ask it.
    Ctl,
    /// Remove what killed runs have left behind.
    Clean,
    /// Print completions for a shell.
    Completions,
    /// Print the man page.
    Man,
    /// Print a JSON schema.
    Schema,
}

/// The words after the options.
#[derive(Clone, Debug)]
pub struct Operand {
    /// The word for one of them.
    pub name: &'static str,
    /// The words that it is one of; empty for any.
    pub choices: Vec<&'static str>,
    /// True if several may follow.
    pub is_repeatable: bool,
}

/// The instruments that write lines of JSON.
fn lines_of_json() -> impl Iterator<Item = &'static str> {
    let kinds = INSTRUMENTS.iter().filter(|kind| kind.schema.is_some());
    kinds.map(|kind| kind.name)
}

/// A section of a help text or of the man page.
pub struct Section {
    /// The heading.
    pub heading: &'static str,
    /// The content.
    pub parts: &'static [Part],
}

/// A part of a section.
pub enum Part {
    /// A paragraph.
    Text(&'static str),
    /// Lines to type, and a sentence about them, which may be empty.
    Example(&'static str, &'static [&'static str]),
    /// A word, and its meaning.
    Item(&'static str, &'static str),
}

impl Subcommand {
    /// Those that have a name.
    pub const NAMED: [Subcommand; 8] = [
        Subcommand::Run,
        Subcommand::Search,
        Subcommand::Report,
        Subcommand::Ctl,
        Subcommand::Clean,
        Subcommand::Completions,
        Subcommand::Man,
        Subcommand::Schema,
    ];

    /// The subcommand of that name.
    pub fn named(word: &str) -> Option<Subcommand> {
        let mut named = Subcommand::NAMED.into_iter();
        named.find(|subcommand| subcommand.name() == word)
    }

    /// The word; empty for none.
    pub const fn name(self) -> &'static str {
        match self {
            Subcommand::Bare => "",
            Subcommand::Run => "run",
            Subcommand::Search => "search",
            Subcommand::Report => "report",
            Subcommand::Ctl => "ctl",
            Subcommand::Clean => "clean",
            Subcommand::Completions => "completions",
            Subcommand::Man => "man",
            Subcommand::Schema => "schema",
        }
    }

    /// Returns true if it runs an experiment.
    pub const fn is_run(self) -> bool {
        matches!(self, Subcommand::Bare | Subcommand::Run)
    }

    /// One line of help.
    pub const fn about(self) -> &'static str {
        match self {
            Subcommand::Bare | Subcommand::Run => "Run an experiment (the default)",
            Subcommand::Search => "Search for the greatest load that meets a goal",
            Subcommand::Report => "Report saved runs again, or merge or compare them",
            Subcommand::Ctl => "Steer a running lab, ask it, and watch it",
            Subcommand::Clean => "Remove links and namespaces that killed runs have left behind",
            Subcommand::Completions => "Print completions for a shell",
            Subcommand::Man => "Print the man page",
            Subcommand::Schema => "Print the schema of a document, or of the control socket",
        }
    }

    /// The paragraph that a help text begins with.
    pub const fn introduction(self) -> &'static str {
        match self {
            Subcommand::Bare | Subcommand::Run => {
                "A network-only hypervisor in one thread: simulated VMs on TAP devices and a Linux bridge, which ping \
                 each other."
            }
            Subcommand::Search => {
                "Search for the greatest load that meets a goal, such as a loss or a percentile: trials at chosen loads, until it \
                 is known between which two of them the answer is (MLRsearch, RFC 9971). A trial in which the tool itself was \
                 the limit tells nothing of the network, and never counts as a loss."
            }
            Subcommand::Report => {
                "Report saved runs (.json reports) again: each by itself, all as one, or compared with the first of \
                 them."
            }
            Subcommand::Ctl => {
                "Steer a running lab and ask it, at the address that it has after its --control: the path of a Unix \
                 socket, or tcp: with an address and a port. Without a command a shell begins, which completes commands \
                 and the names of the lab; from a file or a pipe it does a command a line, and ends at the first that \
                 fails."
            }
            Subcommand::Clean => {
                "Remove the links and namespaces that killed runs have left behind, and nothing else: in the network \
                 namespace that the program is started in, and in every named one."
            }
            Subcommand::Completions => {
                "Print the completions of this program for bash, zsh or fish on standard output."
            }
            Subcommand::Man => "Print the man page in troff on standard output.",
            Subcommand::Schema => {
                "Print a JSON schema on standard output: of scenario files, for an editor that completes and checks \
                 them; of the reports that -o FILE.json and --json write; of the comparisons of report --compare; of \
                 the lines that an option of that name writes; or, as OpenAPI, of the requests of --control."
            }
        }
    }

    /// The options that it has.
    pub fn options(self) -> Vec<&'static OptionSpec> {
        match self {
            Subcommand::Bare | Subcommand::Run => options::run(),
            Subcommand::Search => options::search(),
            Subcommand::Report => options::report(),
            Subcommand::Ctl => options::ctl(),
            _ => options::common(),
        }
    }

    /// The commands that it has.
    pub const fn commands(self) -> &'static [Command] {
        match self {
            Subcommand::Ctl => COMMANDS,
            _ => &[],
        }
    }

    /// The words after the options, in their order; only the last may be repeated.
    pub fn operands(self) -> Vec<Operand> {
        let file = |name, is_repeatable| Operand {
            name,
            choices: Vec::new(),
            is_repeatable,
        };
        match self {
            Subcommand::Search => vec![file("SCENARIO.toml", false)],
            Subcommand::Report => vec![file("FILE.json", true)],
            Subcommand::Ctl => vec![
                file("SOCKET", false),
                Operand {
                    name: "COMMAND",
                    choices: COMMANDS.iter().map(|command| command.name).collect(),
                    is_repeatable: false,
                },
                file("WORD", true),
            ],
            Subcommand::Completions => vec![Operand {
                name: "SHELL",
                choices: vec!["bash", "zsh", "fish"],
                is_repeatable: false,
            }],
            Subcommand::Schema => vec![Operand {
                name: "DOCUMENT",
                choices: ["scenario", "report", "comparison", "search", "control"]
                    .into_iter()
                    .chain(lines_of_json())
                    .collect(),
                is_repeatable: false,
            }],
            _ => Vec::new(),
        }
    }

    /// The lines that show how it is called.
    pub fn usage(self) -> Vec<String> {
        let name = self.name();
        let operands = self.operands().into_iter().map(|operand| {
            let word = match operand.choices.as_slice() {
                [] => operand.name.to_owned(),
                choices => choices.join("|"),
            };
            let more = if operand.is_repeatable { "..." } else { "" };
            format!(" {word}{more}")
        });
        let operand: String = operands.collect();
        match self {
            Subcommand::Bare => vec![
                format!("{NAME} [OPTIONS]"),
                format!("{NAME} SUBCOMMAND [OPTIONS]"),
            ],
            Subcommand::Ctl => vec![format!(
                "{NAME} {name} SOCKET [OPTIONS] [COMMAND [WORD...]]"
            )],
            Subcommand::Search => vec![format!(
                "{NAME} {name} [SCENARIO.toml] --goal GOAL [OPTIONS]"
            )],
            Subcommand::Run | Subcommand::Report => {
                vec![format!("{NAME} {name} [OPTIONS]{operand}")]
            }
            _ => vec![format!("{NAME} {name}{operand}")],
        }
    }

    /// The sections at the end of a help text; the short one has fewer.
    pub const fn sections(self, is_short: bool) -> &'static [Section] {
        match (self, is_short) {
            (Subcommand::Bare | Subcommand::Run, true) => SHORT,
            (Subcommand::Bare | Subcommand::Run, false) => RUN,
            (Subcommand::Search, _) => SEARCH,
            (Subcommand::Report, _) => REPORT,
            (Subcommand::Ctl, _) => CTL,
            (Subcommand::Completions, _) => COMPLETIONS,
            (Subcommand::Man, _) => MAN,
            (Subcommand::Schema, _) => SCHEMA,
            (Subcommand::Clean, _) => &[],
        }
    }
}

const WRONG: Part = Part::Item(
    "2",
    "the command line or the scenario is wrong; nothing was touched",
);
const REFUSED: Part = Part::Item(
    "3",
    "the system refused an operation; the message says which",
);

const SHORT: &[Section] = &[
    Section {
        heading: "EXAMPLE",
        parts: &[Part::Example(
            "",
            &["tap-reactor --vms 2 --ping vm0:vm1 --count 100"],
        )],
    },
    Section {
        heading: "MORE",
        parts: &[Part::Text(
            "--help shows all options; SUBCOMMAND --help those of a subcommand.",
        )],
    },
];

const RUN: &[Section] = &[
    Section {
        heading: "VALUES",
        parts: &[
            Part::Text(
                "A TIME is a number with a unit (ns, us, ms, s, m, h) or, without one, of seconds: 200us, 10ms, 0.2. A \
                 number may be written 10k, 1.5M or 10_000.",
            ),
            Part::Text(
                "A switch is on when it is given: --ipv6, or --ipv6=on; --ipv6=off turns off what a scenario turns on. A \
                 value in brackets may be left out, and follows \"=\" where it is given: --spin, or --spin=50us.",
            ),
            Part::Text(
                "A scenario has the long names as keys, without dashes: ping-ipv6 = true, count = 100.",
            ),
        ],
    },
    Section {
        heading: "EXAMPLES",
        parts: &[
            Part::Example(
                "Two VMs, one flow of 100 pings:",
                &["tap-reactor --vms 2 --ping vm0:vm1 --count 100"],
            ),
            Part::Example(
                "A hundred VMs that all ping each other, at 20000 pings per second in all, and a page of figures:",
                &["tap-reactor --vms 100 --ping mesh --rate 20000 --duration 10s -o mesh.html"],
            ),
            Part::Example(
                "Exit with status 1 unless the 99th percentile of the round-trip time is below 200 us:",
                &["tap-reactor --ping vm0:vm1 --count 1000 --expect 'p99<200us'"],
            ),
            Part::Example(
                "A lab in a named namespace, for ping and tcpdump from outside:",
                &[
                    "tap-reactor --vms 3 --netns lab --host-address 10.77.0.1/16",
                    "ip netns exec lab ping 10.77.0.2",
                ],
            ),
        ],
    },
    Section {
        heading: "EXIT STATUS",
        parts: &[
            Part::Item("0", "every ping was answered, and every expectation held"),
            Part::Item(
                "1",
                "pings failed, the run was cut short, or an expectation did not hold",
            ),
            WRONG,
            REFUSED,
        ],
    },
];

const SEARCH: &[Section] = &[
    Section {
        heading: "EXAMPLES",
        parts: &[
            Part::Example(
                "How many pings per second does a bridge carry without a loss, and how many below 1 ms?",
                &["tap-reactor search --ping vm0:vm1 --goal 'rate:loss=0' --goal 'rate:p99<=1ms'"],
            ),
            Part::Example(
                "With how many VMs are all neighbours found?",
                &["tap-reactor search --ping ring --resolve at-once --goal 'vms:unresolved=0'"],
            ),
        ],
    },
    Section {
        heading: "EXIT STATUS",
        parts: &[
            Part::Item(
                "0",
                "a bound was found for every goal, and every expectation held",
            ),
            Part::Item(
                "1",
                "none was found, the search was not done, or an expectation did not hold",
            ),
            WRONG,
            REFUSED,
        ],
    },
];

const REPORT: &[Section] = &[
    Section {
        heading: "EXAMPLES",
        parts: &[Part::Example(
            "",
            &[
                "tap-reactor report run.json -o run.html",
                "tap-reactor report monday.json tuesday.json --merge",
                "tap-reactor report before.json after.json --compare --fail-on-change",
            ],
        )],
    },
    Section {
        heading: "EXIT STATUS",
        parts: &[
            Part::Item(
                "0",
                "every expectation held, and no run differs where --fail-on-change is given",
            ),
            Part::Item("1", "an expectation did not hold, or a run differs"),
            Part::Item("2", "the command line is wrong, or a file is not a report"),
            REFUSED,
        ],
    },
];

const CTL: &[Section] = &[
    Section {
        heading: "EXAMPLES",
        parts: &[Part::Example(
            "",
            &[
                "tap-reactor ctl lab.sock watch",
                "tap-reactor ctl lab.sock add-vms 90",
                "tap-reactor ctl lab.sock flow vm0:vm1 --rate 100",
                "tap-reactor ctl lab.sock impair 'vm3:delay=5ms,loss=1%'",
                "tap-reactor ctl lab.sock report -o lab.html",
                "tap-reactor ctl lab.sock < steps.txt",
            ],
        )],
    },
    Section {
        heading: "EXIT STATUS",
        parts: &[
            Part::Item("0", "the lab has done it"),
            Part::Item("1", "the lab has refused it; the message says why"),
            Part::Item("2", "the command line is wrong; the lab was not asked"),
            Part::Item(
                "3",
                "no lab is there, it does not answer, or the system refused an operation",
            ),
        ],
    },
];

const COMPLETIONS: &[Section] = &[Section {
    heading: "EXAMPLES",
    parts: &[Part::Example(
        "",
        &[
            "source <(tap-reactor completions bash)",
            "tap-reactor completions zsh > ~/.zfunc/_tap-reactor",
            "tap-reactor completions fish > ~/.config/fish/completions/tap-reactor.fish",
        ],
    )],
}];

const MAN: &[Section] = &[Section {
    heading: "EXAMPLE",
    parts: &[Part::Example("", &["tap-reactor man | man -l -"])],
}];

const SCHEMA: &[Section] = &[Section {
    heading: "EXAMPLE",
    parts: &[
        Part::Example("", &["tap-reactor schema scenario > scenario.schema.json"]),
        Part::Text(
            "An editor with the language server taplo finds it by a first line in the scenario file: \
             #:schema ./scenario.schema.json",
        ),
    ],
}];
