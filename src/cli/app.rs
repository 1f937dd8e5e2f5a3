//! The parser: `structopt`'s clap, fed from the tables of options.

use structopt::clap::{App, AppSettings, Arg, SubCommand};
use tap_reactor::experiment::options::{Kind, OptionSpec};

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
    /// Report saved runs again.
    Report,
    /// Remove what killed runs have left behind.
    Clean,
}

impl Subcommand {
    /// Those that have a name.
    pub const NAMED: [Subcommand; 3] = [Subcommand::Run, Subcommand::Report, Subcommand::Clean];

    /// The subcommand of that name.
    pub fn named(word: &str) -> Option<Subcommand> {
        Subcommand::NAMED
            .into_iter()
            .find(|subcommand| subcommand.name() == word)
    }

    /// The word; empty for none.
    pub const fn name(self) -> &'static str {
        match self {
            Subcommand::Bare => "",
            Subcommand::Run => "run",
            Subcommand::Report => "report",
            Subcommand::Clean => "clean",
        }
    }

    /// One line of help.
    pub const fn about(self) -> &'static str {
        match self {
            Subcommand::Bare | Subcommand::Run => "Run an experiment (the default)",
            Subcommand::Report => "Report saved runs again, or merge or compare them",
            Subcommand::Clean => "Remove links and namespaces that killed runs have left behind",
        }
    }

    /// Whether it runs an experiment.
    pub const fn is_run(self) -> bool {
        matches!(self, Subcommand::Bare | Subcommand::Run)
    }

    /// The paragraphs that a help text begins with.
    pub const fn introduction(self) -> &'static [&'static str] {
        match self {
            Subcommand::Bare | Subcommand::Run => &[
                "A network-only hypervisor in one thread: simulated VMs on TAP devices and a Linux bridge, which ping \
                 each other.",
            ],
            Subcommand::Report => &[
                "Report saved runs (.json reports) again: each by itself, all as one, or compared with the first of \
                 them.",
            ],
            Subcommand::Clean => &[
                "Remove the links and namespaces that killed runs have left behind, and nothing else: in the network \
                 namespace that the program is started in, and in every named one.",
            ],
        }
    }

    /// How it is called.
    pub const fn usage(self) -> &'static [&'static str] {
        match self {
            Subcommand::Bare => &["tap-reactor [OPTIONS]", "tap-reactor SUBCOMMAND"],
            Subcommand::Run => &["tap-reactor run [OPTIONS]"],
            Subcommand::Report => &["tap-reactor report [OPTIONS] FILE.json..."],
            Subcommand::Clean => &["tap-reactor clean"],
        }
    }

    /// What a help text ends with.
    pub fn sections(self, is_short: bool) -> Vec<&'static str> {
        match (self, is_short) {
            (Subcommand::Bare | Subcommand::Run, true) => vec![EXAMPLE, MORE],
            (Subcommand::Bare | Subcommand::Run, false) => vec![VALUES, EXAMPLES, EXIT_STATUS],
            (Subcommand::Report, _) => vec![REPORT_EXAMPLES, REPORT_EXIT_STATUS],
            (Subcommand::Clean, _) => Vec::new(),
        }
    }

    /// The options that it has.
    pub fn options(self) -> Vec<&'static OptionSpec> {
        match self {
            Subcommand::Bare | Subcommand::Run => options::run(),
            Subcommand::Report => options::report(),
            Subcommand::Clean => options::common(),
        }
    }

    /// The word for what follows the options, if anything does, and whether several may.
    pub const fn operand(self) -> Option<(&'static str, bool)> {
        match self {
            Subcommand::Report => Some(("FILE.json", true)),
            Subcommand::Bare | Subcommand::Run | Subcommand::Clean => None,
        }
    }
}

const EXAMPLE: &str = "EXAMPLE:
    tap-reactor --vms 2 --ping vm0:vm1 --count 100";

const MORE: &str = "--help shows all options.";

const VALUES: &str = "VALUES:
    A TIME is a number with a unit (ns, us, ms, s, m, h) or, without one, of seconds: 200us,
    10ms, 0.2. A number may be written 10k, 1.5M or 10_000.

    A switch is on when it is given: --ipv6, or --ipv6=on; --ipv6=off turns off what a
    scenario turns on. A value in brackets may be left out and follows \"=\" where it is
    given: --spin, or --spin=50us.

    A scenario has the long names as keys, without dashes: ping-ipv6 = true, count = 100.";

const EXAMPLES: &str = "EXAMPLES:
    Two VMs, one flow of 100 pings:
        tap-reactor --vms 2 --ping vm0:vm1 --count 100

    A hundred VMs that all ping each other, at 20000 pings per second in all:
        tap-reactor --vms 100 --ping mesh --rate 20000 --duration 10s -o mesh.html

    Fail in CI if the 99th percentile of the round-trip time is 200 us or more:
        tap-reactor --ping vm0:vm1 --count 1000 --expect 'p99<200us'

    A lab in a named namespace, for ping and tcpdump from outside:
        tap-reactor --vms 3 --netns lab --host-address 10.77.0.1/16
        ip netns exec lab ping 10.77.0.2";

const EXIT_STATUS: &str = "EXIT STATUS:
    0  every ping was answered, and every expectation held
    1  a ping was not answered, or an expectation did not hold
    2  the command line or the scenario is wrong; nothing was touched
    3  the system refused an operation; the message says which";

const REPORT_EXAMPLES: &str = "EXAMPLES:
    tap-reactor report run.json -o run.html
    tap-reactor report monday.json tuesday.json --merge
    tap-reactor report before.json after.json --compare --fail-on-change";

const REPORT_EXIT_STATUS: &str = "EXIT STATUS:
    0  every expectation held, and no change was found that --fail-on-change forbids
    1  an expectation did not hold, or the compared runs differ
    2  the command line is wrong, or a file is no report
    3  the system refused an operation; the message says which";

/// The name of an operand in the parser.
pub const OPERAND: &str = "operand";

/// The parser for all subcommands.
pub fn app() -> App<'static, 'static> {
    let app = App::new(NAME)
        .setting(AppSettings::ArgsNegateSubcommands)
        .setting(AppSettings::DisableHelpSubcommand);
    let app = with_options(app, Subcommand::Bare);
    app.subcommands(Subcommand::NAMED.map(|subcommand| {
        let app = SubCommand::with_name(subcommand.name()).about(subcommand.about());
        with_options(app, subcommand)
    }))
}

fn with_options(app: App<'static, 'static>, subcommand: Subcommand) -> App<'static, 'static> {
    let options = subcommand.options();
    let app = app
        .setting(AppSettings::ColorNever)
        .setting(AppSettings::DisableVersion)
        .args(&options.into_iter().map(argument).collect::<Vec<_>>());
    match subcommand.operand() {
        Some((word, are_several)) => app.arg(
            Arg::with_name(OPERAND)
                .value_name(word)
                .multiple(are_several),
        ),
        None => app,
    }
}

fn argument(option: &'static OptionSpec) -> Arg<'static, 'static> {
    let argument = Arg::with_name(option.name)
        .long(option.name)
        .help(option.help)
        .multiple(option.is_repeatable);
    let argument = match option.short {
        Some(short) => argument.short(short.encode_utf8(&mut [0; 4])),
        None => argument,
    };
    match option.kind {
        _ if option.needs_value() => argument
            .value_name(option.value_name)
            .number_of_values(1)
            .allow_hyphen_values(false),
        // A value that may be left out follows a "=", so that no word after it is taken for one.
        Kind::Switch => argument
            .value_name("on|off")
            .min_values(0)
            .max_values(1)
            .require_equals(true),
        _ => argument
            .value_name(option.value_name)
            .min_values(0)
            .max_values(1)
            .require_equals(true),
    }
}
