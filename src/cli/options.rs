//! The options of each subcommand: rows of the library's table, and those that no experiment has.

pub use tap_reactor::experiment::options::OptionSpec;
use tap_reactor::experiment::options::{Category, Default, Kind, OPTIONS, Scope};

/// The options of a run.
pub fn run() -> Vec<&'static OptionSpec> {
    let flags = OPTIONS.iter().filter(|option| option.scope.is_flag());
    flags.chain(COMMON).collect()
}

/// The options of `report`.
pub fn report() -> Vec<&'static OptionSpec> {
    let shared = ["output", "expect", "json", "quiet"];
    let shared = OPTIONS
        .iter()
        .filter(move |option| option.scope.is_flag() && shared.contains(&option.name));
    REPORT.iter().chain(shared).chain(COMMON).collect()
}

/// The options of `ctl`, those of its commands included.
pub fn ctl() -> Vec<&'static OptionSpec> {
    let shared = OPTIONS
        .iter()
        .filter(|option| option.scope.is_flag() && option.name == "output");
    CTL.iter().chain(shared).chain(COMMON).collect()
}

/// The options of a subcommand that has none of its own.
pub fn common() -> Vec<&'static OptionSpec> {
    COMMON.iter().collect()
}

const fn switch(name: &'static str, help: &'static str, details: &'static str) -> OptionSpec {
    OptionSpec {
        name,
        short: None,
        value_name: "",
        kind: Kind::Switch,
        implied: None,
        category: Category::Output,
        scope: Scope::CommandLine,
        is_repeatable: false,
        fabrics: &[],
        default: Default::None,
        is_main: true,
        help,
        details,
        more: None,
    }
}

const fn value(
    name: &'static str,
    value_name: &'static str,
    kind: Kind,
    help: &'static str,
) -> OptionSpec {
    OptionSpec {
        value_name,
        kind,
        ..switch(name, help, "")
    }
}

const CTL: &[OptionSpec] = &[
    switch(
        "json",
        "Print what the lab answers as it is: JSON, of streams a line each",
        "",
    ),
    OptionSpec {
        details: "As after --control-token-file of the lab. Without this option the token is the value of the environment \
                  variable TAP_REACTOR_TOKEN. A Unix socket needs none.",
        ..value(
            "control-token-file",
            "FILE",
            Kind::Path,
            "File with the token for a lab at tcp:",
        )
    },
    value(
        "rate",
        "R",
        Kind::Number,
        "flow: pings per second over these flows",
    ),
    value(
        "interval",
        "TIME",
        Kind::Time,
        "flow: time between two pings of each of them; watch: between two looks",
    ),
    value(
        "window",
        "W",
        Kind::Whole,
        "flow: pings that each of them keeps outstanding",
    ),
    OptionSpec {
        short: Some('c'),
        details: "Only with one of --rate, --interval and --window.",
        ..value(
            "count",
            "N",
            Kind::Whole,
            "flow: pings of each of them; without end by default",
        )
    },
    OptionSpec {
        short: Some('s'),
        ..value("size", "BYTES", Kind::Whole, "flow: payload of each ping")
    },
    value(
        "worst",
        "N",
        Kind::Whole,
        "flows: only the N of which most pings failed, or that were slowest",
    ),
    value(
        "repeat",
        "N",
        Kind::Whole,
        "move: moves in all, there and back; one by default",
    ),
    value(
        "capture-vms",
        "VMS",
        Kind::Vms,
        "capture: VMs whose frames are captured; all by default",
    ),
    value(
        "capture-on-loss",
        "FRAMES",
        Kind::Whole,
        "capture: only so many frames before and after each failed ping",
    ),
    value(
        "capture-snap",
        "BYTES",
        Kind::Whole,
        "capture: bytes that are kept of each frame",
    ),
];

const COMMON: &[OptionSpec] = &[
    OptionSpec {
        short: Some('h'),
        ..switch(
            "help",
            "Print help: -h the main options, --help all of them",
            "",
        )
    },
    OptionSpec {
        short: Some('V'),
        ..switch("version", "Print the version", "")
    },
];

const REPORT: &[OptionSpec] = &[
    switch(
        "merge",
        "Report all runs as if they had been one",
        "Refused if they are not runs of one experiment.",
    ),
    switch(
        "allow-different",
        "Merge runs of different experiments too",
        "The merged report says what they differ in.",
    ),
    switch(
        "compare",
        "Compare each run with the first, the baseline",
        "Shows what was planned differently and how each figure differs: of two runs difference, ratio and the spread \
         within them; of more a column for each run, which says better or worse where the difference is larger than the \
         spread. --expect and --fail-on-change judge every run but the first.",
    ),
    switch(
        "fail-on-change",
        "Exit with status 1 if a run differs from the first",
        "That is by more than the spread within the runs, or if nothing can be said about it.",
    ),
];
