//! The command line: words in, a checked plan out. Nothing else knows the library that reads the words.
//!
//! A flag becomes a [`Settings`] entry of the same name, as a line of a scenario file does; what the values may be is
//! checked where the plan is made.

pub mod clean;
pub mod console;
mod progress;
pub mod report;
pub mod run;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use structopt::StructOpt;
use structopt::clap::{AppSettings, ErrorKind};
use tap_reactor::experiment::{self, Experiment, Scenario, SettingError, Settings};
use tap_reactor::report::{Destination, Expectation, Format, check_comparison, check_file, expect};

/// What the user asked for.
#[derive(Debug)]
pub enum Request {
    /// Run an experiment.
    Run(Box<Experiment>, Output),
    /// Remove what killed runs have left behind.
    Clean,
    /// Read saved runs, and tell them.
    Report(ReportRequest),
    /// Print this text and be done.
    Print(String),
}

/// How to tell what was measured.
#[derive(Clone, PartialEq, Debug)]
pub struct Output {
    /// The command as it was given, for the report.
    pub command: String,
    /// Narrate every step on stderr.
    pub verbose: bool,
    /// Print nothing but errors.
    pub quiet: bool,
    /// Print the report as one JSON document.
    pub json: bool,
    /// Where to write the report to; the endings say the format.
    pub reports: Vec<Destination>,
    /// What the figures are expected to be.
    pub expectations: Vec<Expectation>,
}

/// What to do with saved runs.
#[derive(Clone, PartialEq, Debug)]
pub struct ReportRequest {
    /// The files, `.json` reports.
    pub files: Vec<PathBuf>,
    /// What is to be told of them.
    pub mode: ReportMode,
    /// As one JSON document.
    pub json: bool,
    /// As a page, in this file.
    pub html: Option<Destination>,
    /// Merge runs even if they are not of one experiment.
    pub allow_different: bool,
    /// What the figures are expected to be; of a comparison, those of every run but the first.
    pub expectations: Vec<Expectation>,
    /// Fail if any of the compared runs differs from the first.
    pub fail_on_change: bool,
}

/// How saved runs are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReportMode {
    /// Each by itself.
    Each,
    /// All as one run.
    Merge,
    /// Each against the first.
    Compare,
}

/// The words can't be understood, or ask for what can't be: one line that says what was wrong and what is allowed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

impl UsageError {
    /// In one line, whatever `why` quotes.
    fn new(why: impl Display) -> UsageError {
        SettingError::new(why).into()
    }
}

impl From<SettingError> for UsageError {
    fn from(error: SettingError) -> UsageError {
        UsageError(error.to_string())
    }
}

const AFTER_HELP: &str = "EXIT STATUS:
    0  every ping was answered
    1  some were not, an expectation was not met, or runs differ that were not to
    2  the command line or the scenario can't be right; nothing was touched
    3  the system refused something; the message says what

EXAMPLES:
    tap-reactor --vms 2 --ping vm0:vm1 --count 100
    tap-reactor --vms 100 --ping mesh --rate 20000 --duration 10s
    tap-reactor --vms 3 --netns lab --host-addr 10.77.0.1/16      (then: ip netns exec lab ping 10.77.0.2)";

static REPORT_HELP: LazyLock<String> = LazyLock::new(|| {
    let formats = Format::help();
    format!("Write the report to a file, whose ending says the format: {formats}; repeatable")
});

static EXPECT_HELP: LazyLock<String> = LazyLock::new(|| {
    let figures = expect::expected_figures();
    format!(
        "What the figures are expected to be, such as 'p99<200us', 'response.p99.9<2ms', 'loss<0.1%', 'rate>5000': \
         {figures}; repeatable. One that is not met makes the exit status 1"
    )
});

/// A network-only hypervisor in one thread: simulated VMs on TAP devices and a Linux bridge, which ping each other.
#[derive(StructOpt, Debug)]
#[structopt(
    name = "tap-reactor",
    setting = AppSettings::ColorNever,
    setting = AppSettings::UnifiedHelpMessage,
    setting = AppSettings::VersionlessSubcommands,
    setting = AppSettings::ArgsNegateSubcommands,
    after_help = AFTER_HELP
)]
struct Arguments {
    /// How many VMs to run; vmI has the address subnet + 2 + I [default: 2]
    #[structopt(long, value_name = "N")]
    vms: Option<String>,

    /// Who pings whom; repeatable, and they add up: vm0:vm1, vm0:all, all:vm0, vm[0-49]:vm[50-99], mesh, ring, pairs,
    /// random:K, or an address in place of the second VM. Without it the VMs only answer, until --duration, SIGINT or
    /// SIGTERM
    #[structopt(long, value_name = "SRC:DST", number_of_values = 1)]
    ping: Vec<String>,

    /// Time between two pings of a flow, such as 200us, 10ms, 2s [default: 10ms]
    #[structopt(long, value_name = "TIME")]
    interval: Option<String>,

    /// Pings per second over all flows together, in place of --interval; a slow reply delays nothing
    #[structopt(long, value_name = "R")]
    rate: Option<String>,

    /// Pings that each flow keeps outstanding, as fast as replies come, in place of --interval
    #[structopt(long, value_name = "W")]
    window: Option<String>,

    /// Raise the rate over the --duration in steps, each reported by itself, in place of --rate
    #[structopt(long, value_name = "FROM:TO:STEPS")]
    ramp: Option<String>,

    /// How the due times lie: uniform, or poisson, which is one process per flow with --interval and one in total with
    /// --rate [default: uniform]
    #[structopt(long, value_name = "KIND")]
    arrivals: Option<String>,

    /// Pings of each flow [default: no end]
    #[structopt(long, value_name = "N")]
    count: Option<String>,

    /// When to stop sending, or serving
    #[structopt(long, value_name = "TIME")]
    duration: Option<String>,

    /// Send that long before anything is counted
    #[structopt(long, value_name = "TIME")]
    warmup: Option<String>,

    /// Have the flows' first pings due at random within that time, or, with 0, all at once [default: evenly spread over
    /// the --interval]
    #[structopt(long, value_name = "TIME")]
    jitter_start: Option<String>,

    /// How long to wait for a reply [default: 1s]
    #[structopt(long, value_name = "TIME")]
    timeout: Option<String>,

    /// Payload of each ping, in bytes [default: 56]
    #[structopt(long, value_name = "BYTES")]
    size: Option<String>,

    /// How VMs come by their neighbours' hardware addresses: before (they ask by ARP or neighbour discovery before the first
    /// ping, a few at a time), at-once (they ask when their pings are due), static (tables are filled in, and nobody asks),
    /// or proxy (they ask, and the bridge answers) [default: before; where that would take more than a second proxy, or
    /// static where the bridge can't answer, as with IPv6]
    #[structopt(long, value_name = "before|at-once|static|proxy")]
    resolve: Option<String>,

    /// Where all random choices follow from [default: 0]
    #[structopt(long, value_name = "N")]
    seed: Option<String>,

    /// Poll again and again for so long before sleeping, or always: quicker answers for a whole core
    #[structopt(long, value_name = "TIME")]
    #[allow(clippy::option_option)] // A flag that may have a value, as structopt writes it.
    spin: Option<Option<String>>,

    /// Read settings, groups of VMs and phases from a file; flags win over it
    #[structopt(long, value_name = "FILE.toml", parse(from_os_str))]
    scenario: Option<PathBuf>,

    /// Print the whole plan and touch nothing
    #[structopt(long)]
    dry_run: bool,

    /// Largest IP datagram on the links, in bytes [default: 1500]
    #[structopt(long, value_name = "BYTES")]
    mtu: Option<String>,

    /// Network namespace of the lab: private (a new one that vanishes with the process), host (the one you are in), or
    /// the name of one as `ip netns` makes them, which is made if need be [default: private]
    #[structopt(long, value_name = "private|host|NAME")]
    netns: Option<String>,

    /// Name of the bridge [default: br0]
    #[structopt(long, value_name = "NAME")]
    bridge: Option<String>,

    /// The TAP of vmI is named PREFIX followed by I [default: tap]
    #[structopt(long, value_name = "PREFIX")]
    tap_prefix: Option<String>,

    /// What carries the frames: bridge, xdp (a program on each TAP, faster; needs root), none (TAPs only, for a switch of yours), or sim (a switch in memory, in virtual
    /// time, without TAPs or privileges) [default: bridge]
    #[structopt(long, value_name = "KIND")]
    fabric: Option<String>,

    /// Command to run with --fabric none when all TAPs are there and before they are removed; TAP_REACTOR_EVENT is up or
    /// down, TAP_REACTOR_TAPS their names
    #[structopt(long, value_name = "CMD")]
    hook: Option<String>,

    /// How long each frame takes on a simulated wire [default: 10us]
    #[structopt(long, value_name = "TIME")]
    sim_delay: Option<String>,

    /// A random part added to that [default: 0]
    #[structopt(long, value_name = "TIME")]
    sim_jitter: Option<String>,

    /// Share of the frames that a simulated wire loses, such as 0.5% [default: 0]
    #[structopt(long, value_name = "SHARE")]
    sim_loss: Option<String>,

    /// Share of the frames that arrive twice [default: 0]
    #[structopt(long, value_name = "SHARE")]
    sim_duplicate: Option<String>,

    /// Share of the frames that later ones overtake [default: 0]
    #[structopt(long, value_name = "SHARE")]
    sim_reorder: Option<String>,

    /// How many frames may be under way to one simulated VM; more are dropped [default: no bound]
    #[structopt(long, value_name = "FRAMES")]
    sim_queue: Option<String>,

    /// How many VMs share one bridge; more are spread over leaf bridges around a spine [default: 1000]
    #[structopt(long, value_name = "N")]
    ports_per_bridge: Option<String>,

    /// How many frames wait in a TAP before the kernel drops more [default: the kernel's, 1000]
    #[structopt(long, value_name = "FRAMES")]
    txqueuelen: Option<String>,

    /// Have the kernel drop what a VM's network card would, such as ARP requests for others, before tcpdump sees it on
    /// the TAP [default: where that saves more time than its look at every ping takes]
    #[structopt(long)]
    filter: bool,

    /// Have the kernel hand a VM everything, however many there are
    #[structopt(long)]
    no_filter: bool,

    /// The VMs' network [default: 10.77.0.0/16; 10.0.0.0/8 for more than 65,533 VMs]
    #[structopt(long, value_name = "CIDR")]
    subnet: Option<String>,

    /// Hardware address of one VM, such as vm0=02:00:00:00:00:01; repeatable
    #[structopt(long, value_name = "vmI=MAC", number_of_values = 1)]
    mac: Vec<String>,

    /// Address to put on the bridge, so that the host's side can talk to the VMs, such as 10.77.0.1/16; a second one may
    /// be IPv6, such as fd77::1/64
    #[structopt(long, value_name = "CIDR", number_of_values = 1)]
    host_addr: Vec<String>,

    /// Who takes the VMs' datagrams for other networks, such as 10.77.0.1; a second one may be IPv6, such as fd77::1
    #[structopt(long, value_name = "IP", number_of_values = 1)]
    gateway: Vec<String>,

    /// The VMs speak IPv6 too: a link-local address, and subnet6 + 2 + I
    #[structopt(long)]
    ipv6: bool,

    /// Ping VMs over IPv6, in place of IPv4
    #[structopt(long, short = "6")]
    over_ipv6: bool,

    /// The VMs' IPv6 network [default: fd77::/64]
    #[structopt(long, value_name = "CIDR")]
    subnet6: Option<String>,

    /// The VMs take IPv6 addresses and a default router from router advertisements (RFC 4862)
    #[structopt(long)]
    slaac: bool,

    /// The VLAN that all VMs are in, or one, or some: 100, vm0=100, vm[0-4]=100; two numbers with a dot between them are
    /// a service and a customer VLAN (QinQ), such as 100.200; repeatable
    #[structopt(long, value_name = "[VMS=]ID[.ID]", number_of_values = 1)]
    vlan: Vec<String>,

    /// The bridge lets each port have its VM's VLAN only
    #[structopt(long)]
    vlan_filtering: bool,

    /// Each VM gets its address from a DHCP server on the bridge
    #[structopt(long)]
    dhcp: bool,

    /// Each VM announces its addresses to the others at its start
    #[structopt(long)]
    announce: bool,

    /// Each VM asks whether somebody else has its address before it uses it (RFC 5227; on IPv6 RFC 4862), and announces
    /// it then; takes 4 to 7 seconds, on IPv6 1 to 2
    #[structopt(long)]
    probe: bool,

    /// How long pings wait until every VM has its address, with --dhcp, --probe or --slaac; then they begin without those
    /// that have none [default: 10s]
    #[structopt(long, value_name = "TIME")]
    address_wait: Option<String>,

    /// Each VM sends back what comes to its UDP port 7 (RFC 862)
    #[structopt(long)]
    udp_echo: bool,

    /// Time to live of the pings: how many hops they may take [default: 64]
    #[structopt(long, value_name = "N")]
    ttl: Option<String>,

    /// Differentiated services code point of the pings, 0 to 63 [default: 0]
    #[structopt(long, value_name = "N")]
    dscp: Option<String>,

    /// Let pings be larger than the MTU: up to 65507 bytes, sent in fragments
    #[structopt(long)]
    fragment: bool,

    /// Forbid routers to cut the pings into fragments
    #[structopt(long)]
    dont_fragment: bool,

    /// Use a bridge and TAPs that exist, as scripts/lab-up.sh makes them, and leave them alone
    #[structopt(long)]
    attach: bool,

    /// Narrate every step on stderr
    #[structopt(long, short)]
    verbose: bool,

    /// Print nothing but errors, and expectations that were not met
    #[structopt(long, short, conflicts_with = "verbose")]
    quiet: bool,

    /// Print the report as one JSON document, and nothing else, on stdout
    #[structopt(long)]
    json: bool,

    #[structopt(long, value_name = "PATH", number_of_values = 1, help = &REPORT_HELP)]
    report: Vec<String>,

    #[structopt(long, value_name = "EXPECTATION", number_of_values = 1, help = &EXPECT_HELP)]
    expect: Vec<String>,

    #[structopt(subcommand)]
    command: Option<Subcommand>,
}

#[derive(StructOpt, Debug)]
enum Subcommand {
    /// Remove the links and namespaces that killed runs have left behind, and nothing else: in the network namespace that
    /// you are in, and in every named one
    Clean,
    /// Read saved runs (.json reports), and tell, merge or compare them
    Report(ReportArguments),
}

#[derive(StructOpt, Debug)]
struct ReportArguments {
    /// The saved runs
    #[structopt(required = true, value_name = "FILE.json", parse(from_os_str))]
    files: Vec<PathBuf>,

    /// Tell all of them as if they had been one run; refused if they are not runs of one experiment
    #[structopt(long, conflicts_with = "compare")]
    merge: bool,

    /// Merge runs with another plan or fabric too; the merged document says what they differ in
    #[structopt(long, requires = "merge")]
    allow_different: bool,

    /// Compare each run with the first, the baseline: what was planned otherwise, and how each figure differs; of two runs
    /// difference, ratio and the spread within them, of more a column for each run, which says better or worse where the
    /// difference is larger than the spread. --expect and --fail-on-change judge every run but the first
    #[structopt(long)]
    compare: bool,

    /// Make the exit status 1 if any run differs from the first by more than the spread, or if nothing can be said about it
    #[structopt(long, requires = "compare")]
    fail_on_change: bool,

    /// Print one JSON document
    #[structopt(long)]
    json: bool,

    /// Write a page to this file
    #[structopt(long, value_name = "PATH.html", parse(from_os_str))]
    html: Option<PathBuf>,

    #[structopt(long, value_name = "EXPECTATION", number_of_values = 1, help = &EXPECT_HELP)]
    expect: Vec<String>,
}

/// Reads and checks the words of the command line, the program's name first.
///
/// # Errors
/// With one line that says what was wrong and what is allowed. Nothing has been touched then.
pub fn parse<I: IntoIterator<Item = std::ffi::OsString>>(words: I) -> Result<Request, UsageError> {
    let words: Vec<_> = words.into_iter().collect();
    // The library that reads them takes everything for text, and ends the process where it is none.
    if let Some(word) = words.iter().find(|word| word.to_str().is_none()) {
        let word = word.to_string_lossy();
        return Err(UsageError::new(format_args!(
            "{word}: expected text in UTF-8"
        )));
    }
    let command: Vec<_> = words
        .iter()
        .skip(1)
        .filter_map(|word| word.to_str())
        .collect();
    let command = format!("tap-reactor {}", command.join(" "));
    // The library would print it itself, whether that can be printed or not.
    if words.iter().any(|word| word == "--version" || word == "-V") {
        let version = concat!("tap-reactor ", env!("CARGO_PKG_VERSION"), "\n");
        return Ok(Request::Print(version.to_owned()));
    }
    let arguments = match Arguments::from_iter_safe(words) {
        Ok(arguments) => arguments,
        Err(error) if error.kind == ErrorKind::HelpDisplayed => {
            return Ok(Request::Print(format!("{}\n", error.message)));
        }
        Err(error) => return Err(one_line(&error.message)),
    };
    match arguments.command {
        Some(Subcommand::Clean) => return Ok(Request::Clean),
        Some(Subcommand::Report(arguments)) => {
            return report_request(arguments).map(Request::Report);
        }
        None => {}
    }
    let file = arguments.scenario.as_ref().map(|path| {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| UsageError::new(format_args!("--scenario {name}: {error}")))?;
        Ok::<_, UsageError>(Scenario::parse(&name, &text)?)
    });
    let scenario = file
        .transpose()?
        .unwrap_or_default()
        .overlaid(&settings(&arguments));
    let experiment = match arguments.dry_run {
        true => experiment::draft(&scenario)?,
        false => experiment::plan(&scenario)?,
    };
    let reports = destinations(&scenario.settings)?;
    let expectations = scenario.settings.all("expect").iter();
    let expectations = expectations
        .map(|setting| setting.text.parse().map_err(|error| setting.error(error)))
        .collect::<Result<Vec<Expectation>, SettingError>>()?;
    if !expectations.is_empty() && experiment.flows.is_empty() {
        let why = "--expect: nothing is pinged; allowed is beside a ping pattern";
        return Err(UsageError::new(why));
    }
    if arguments.dry_run {
        return Ok(Request::Print(experiment::describe(&experiment)));
    }
    let Arguments {
        verbose,
        quiet,
        json,
        ..
    } = arguments;
    let output = Output {
        command,
        verbose,
        quiet,
        json,
        reports,
        expectations,
    };
    Ok(Request::Run(Box::new(experiment), output))
}

/// Where reports go: each to a place of its own that takes one.
fn destinations(settings: &Settings) -> Result<Vec<Destination>, SettingError> {
    let mut destinations: Vec<Destination> = Vec::new();
    for setting in settings.all("report") {
        let found = check_file(Path::new(&setting.text));
        let destination = found.map_err(|error| setting.error(error))?;
        if let Some(other) = destinations
            .iter()
            .find(|other| other.is_same(&destination))
        {
            let why = format_args!(
                "the same file as {}; expected another one for each report",
                other.path().display()
            );
            return Err(setting.error(why));
        }
        destinations.push(destination);
    }
    Ok(destinations)
}

fn report_request(arguments: ReportArguments) -> Result<ReportRequest, UsageError> {
    let ReportArguments {
        files,
        merge,
        allow_different,
        compare,
        fail_on_change,
        json,
        html,
        expect,
    } = arguments;
    let error = |why: &str| Err(UsageError::new(format_args!("report: {why}")));
    if compare && files.len() < 2 {
        return error("--compare: expected two files or more, the first of them the baseline");
    }
    if !merge && !compare && files.len() > 1 && (json || html.is_some()) {
        return error("one document takes one run; allowed are one file, --merge or --compare");
    }
    if html
        .as_deref()
        .and_then(Path::extension)
        .is_some_and(|ending| ending != "html")
    {
        return error("--html: the name must end in .html");
    }
    let checked = html.map(|path| match compare {
        true => check_comparison(&path, files.len()),
        false => check_file(&path),
    });
    let html = checked.transpose().map_err(UsageError::new)?;
    let mode = match (merge, compare) {
        (true, _) => ReportMode::Merge,
        (_, true) => ReportMode::Compare,
        _ => ReportMode::Each,
    };
    let expectations = expect.iter().map(|text| {
        let expectation = text.parse::<Expectation>();
        expectation.map_err(|error| UsageError(format!("report: --expect: {error}")))
    });
    Ok(ReportRequest {
        expectations: expectations.collect::<Result<_, _>>()?,
        files,
        mode,
        json,
        html,
        allow_different,
        fail_on_change,
    })
}

/// The flags that were given, under their names.
fn settings(arguments: &Arguments) -> Settings {
    let Arguments {
        vms,
        interval,
        rate,
        window,
        ramp,
        arrivals,
        count,
        duration,
        warmup,
        ..
    } = arguments;
    let Arguments {
        jitter_start,
        timeout,
        size,
        seed,
        mtu,
        netns,
        bridge,
        tap_prefix,
        ..
    } = arguments;
    let Arguments {
        subnet,
        subnet6,
        host_addr,
        gateway,
        ttl,
        dscp,
        ping,
        mac,
        vlan,
        ..
    } = arguments;
    let mut settings = Settings::default();
    for (name, text) in [
        ("vms", vms),
        ("interval", interval),
        ("rate", rate),
        ("window", window),
        ("ramp", ramp),
        ("arrivals", arrivals),
        ("count", count),
        ("duration", duration),
        ("warmup", warmup),
        ("jitter-start", jitter_start),
        ("timeout", timeout),
        ("size", size),
        ("seed", seed),
        ("mtu", mtu),
        ("netns", netns),
        ("bridge", bridge),
        ("tap-prefix", tap_prefix),
        ("fabric", &arguments.fabric),
        ("resolve", &arguments.resolve),
        ("hook", &arguments.hook),
        ("sim-delay", &arguments.sim_delay),
        ("sim-jitter", &arguments.sim_jitter),
        ("sim-loss", &arguments.sim_loss),
        ("sim-duplicate", &arguments.sim_duplicate),
        ("sim-reorder", &arguments.sim_reorder),
        ("sim-queue", &arguments.sim_queue),
        ("ports-per-bridge", &arguments.ports_per_bridge),
        ("txqueuelen", &arguments.txqueuelen),
        ("subnet", subnet),
        ("subnet6", subnet6),
        ("address-wait", &arguments.address_wait),
        ("ttl", ttl),
        ("dscp", dscp),
    ] {
        if let Some(text) = text {
            settings.add_flag(name, text);
        }
    }
    if let Some(spin) = &arguments.spin {
        settings.add_flag("spin", spin.as_deref().unwrap_or("always"));
    }
    for (name, texts) in [
        ("ping", ping),
        ("mac", mac),
        ("report", &arguments.report),
        ("expect", &arguments.expect),
        ("host-addr", host_addr),
        ("gateway", gateway),
        ("vlan", vlan),
    ] {
        texts.iter().for_each(|text| settings.add_flag(name, text));
    }
    for (name, is_on) in [
        ("attach", arguments.attach),
        ("dhcp", arguments.dhcp),
        ("filter", arguments.filter),
        ("no-filter", arguments.no_filter),
        ("announce", arguments.announce),
        ("probe", arguments.probe),
        ("udp-echo", arguments.udp_echo),
        ("fragment", arguments.fragment),
        ("dont-fragment", arguments.dont_fragment),
        ("ipv6", arguments.ipv6),
        ("over-ipv6", arguments.over_ipv6),
        ("slaac", arguments.slaac),
        ("vlan-filtering", arguments.vlan_filtering),
    ] {
        if is_on {
            settings.add_flag(name, true);
        }
    }
    settings
}

/// The first paragraph of the library's message, in one line.
fn one_line(message: &str) -> UsageError {
    let text = message.trim_start_matches("error: ");
    let paragraph: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    UsageError::new(format_args!("{} (see --help)", paragraph.join(" ")))
}

#[cfg(test)]
mod tests;
