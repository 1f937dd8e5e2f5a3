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

/// The options of `search`: its own, and those of a run that are about a trial.
pub fn search() -> Vec<&'static OptionSpec> {
    let flags = OPTIONS.iter().filter(|option| option.scope.is_flag());
    let trial = flags.filter(|option| !NOT_OF_A_TRIAL.contains(&option.name));
    SEARCH.iter().chain(trial).chain(COMMON).collect()
}

/// The options of a run that a search decides about, or that would be written anew by each trial.
const NOT_OF_A_TRIAL: &[&str] = &[
    "scenario",
    "sweep",
    "cores",
    "rank",
    "ranks",
    "meet",
    "meet-secret-file",
    "duration",
    "count",
    "stay",
    "ramp",
    "capture",
    "capture-comments",
    "capture-snap",
    "capture-vms",
    "capture-limit",
    "capture-on-loss",
    "trace",
    "verbose",
    "control",
    "control-token-file",
    "control-insecure",
    "metrics",
    "expect",
    "path-split",
    "move",
    "repeat",
];

const SEARCH: &[OptionSpec] = &[
    OptionSpec {
        is_repeatable: true,
        details: "What is varied, a colon, and what is to hold of a trial, as after --expect of a run: 'rate: loss<=0.1%, \
                  p99<=1ms'. What is varied is rate, pings per second over all flows, or another setting with a number, such as \
                  vms; or any word, if {} stands for the load in the value of another setting. Beside it: width=1% (how \
                  close the bounds are to be), final=1s and initial=1s (how long the last and the first trials take), sum=3s \
                  (how long those at a bound take in all), exceed=50% (how much of that may be of bad trials). Several goals \
                  are searched for at once.",
        ..value(
            "goal",
            "GOAL",
            Kind::Text,
            "What is varied, and what is to hold; repeatable",
        )
    },
    OptionSpec {
        details: "100..10M of a rate, 2..10k else.",
        ..value(
            "range",
            "MIN..MAX",
            Kind::Text,
            "The least and the greatest load to try, such as 1k..1M",
        )
    },
    value(
        "time-box",
        "TIME",
        Kind::Time,
        "End the search after this time with what is known then",
    ),
    OptionSpec {
        is_repeatable: true,
        ..value(
            "expect",
            "EXPECTATION",
            Kind::Text,
            "Check what is carried, such as 'throughput>200k'; repeatable",
        )
    },
];

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
