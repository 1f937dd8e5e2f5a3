//! The command line: words in, a validated [`Experiment`] out. Nothing else knows the library that reads the words.

mod check;

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use structopt::StructOpt;
use structopt::clap::{AppSettings, ErrorKind};
use tap_reactor::experiment::Experiment;

/// What the user asked for.
#[derive(Debug)]
pub enum Request {
    /// Run an experiment.
    Run(Box<Experiment>, Output),
    /// Remove what killed runs have left behind.
    Clean,
    /// Print this text and be done.
    Print(String),
}

/// How to tell what was measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Output {
    /// Narrate every step on stderr.
    pub verbose: bool,
    /// Print nothing but errors.
    pub quiet: bool,
    /// Print the report as one JSON document.
    pub json: bool,
}

/// The words can't be understood, or ask for what can't be: one line that says what was wrong and what is allowed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

/// A network-only hypervisor in one thread: simulated VMs on TAP devices and a Linux bridge, which ping each other.
#[derive(StructOpt, Debug)]
#[structopt(
    name = "tap-reactor",
    setting = AppSettings::ColorNever,
    setting = AppSettings::UnifiedHelpMessage,
    setting = AppSettings::VersionlessSubcommands,
    setting = AppSettings::SubcommandsNegateReqs,
    setting = AppSettings::ArgsNegateSubcommands,
    after_help = "EXIT STATUS:\n    0  every ping was answered\n    1  some were not\n    2  the command line can't be \
                  right; nothing was touched\n    3  the system refused something; the message says what\n\n\
                  EXAMPLES:\n    tap-reactor --vms 2 --ping vm0:vm1 --count 100\n    tap-reactor --vms 3 --netns lab \
                  --host-addr 10.77.0.1/16      (then: ip netns exec lab ping 10.77.0.2)"
)]
struct Arguments {
    /// How many VMs to run; vmI has the address subnet + 2 + I
    #[structopt(long, value_name = "N", default_value = "2")]
    vms: u32,

    /// Who pings whom: vm0:vm1, or vm0:10.77.0.1 for something that is not a VM; repeatable. Without it the VMs only
    /// answer, until --duration, SIGINT or SIGTERM
    #[structopt(long, value_name = "SRC:DST", number_of_values = 1)]
    ping: Vec<String>,

    /// Pings of each flow [default: no end]
    #[structopt(long, value_name = "N")]
    count: Option<u64>,

    /// Time between two pings of a flow, such as 200us, 10ms, 2s
    #[structopt(long, value_name = "TIME", default_value = "10ms", parse(try_from_str = check::duration))]
    interval: Duration,

    /// How long to wait for a reply
    #[structopt(long, value_name = "TIME", default_value = "1s", parse(try_from_str = check::duration))]
    timeout: Duration,

    /// Payload of each ping, in bytes
    #[structopt(long, value_name = "BYTES", default_value = "56")]
    size: usize,

    /// Largest IP datagram on the links, in bytes
    #[structopt(long, value_name = "BYTES", default_value = "1500")]
    mtu: u16,

    /// When to stop sending, or serving
    #[structopt(long, value_name = "TIME", parse(try_from_str = check::duration))]
    duration: Option<Duration>,

    /// Network namespace of the lab: private (a new one that vanishes with the process), host (the one you are in), or
    /// the name of one as `ip netns` makes them, which is made if need be
    #[structopt(long, value_name = "private|host|NAME", default_value = "private")]
    netns: String,

    /// Name of the bridge
    #[structopt(long, value_name = "NAME", default_value = "br0")]
    bridge: String,

    /// The TAP of vmI is named PREFIX followed by I
    #[structopt(long, value_name = "PREFIX", default_value = "tap")]
    tap_prefix: String,

    /// How many VMs share one bridge; more are spread over leaf bridges around a spine
    #[structopt(long, value_name = "N", default_value = "1000")]
    ports_per_bridge: u32,

    /// How many frames wait in a TAP before the kernel drops more [default: the kernel's, 1000]
    #[structopt(long, value_name = "FRAMES")]
    txqueuelen: Option<u32>,

    /// Let the kernel wake a VM for frames that its network card would drop, such as ARP requests for others
    #[structopt(long)]
    no_filter: bool,

    /// The VMs' network
    #[structopt(long, value_name = "CIDR", default_value = "10.77.0.0/16")]
    subnet: Ipv4Net,

    /// Hardware address of one VM, such as vm0=02:00:00:00:00:01; repeatable
    #[structopt(long, value_name = "vmI=MAC", number_of_values = 1)]
    mac: Vec<String>,

    /// Address to put on the bridge, so that the host's side can talk to the VMs, such as 10.77.0.1/16
    #[structopt(long, value_name = "CIDR")]
    host_addr: Option<Ipv4Net>,

    /// Use a bridge and TAPs that exist, as scripts/lab-up.sh makes them, and leave them alone
    #[structopt(long)]
    attach: bool,

    /// Narrate every step on stderr
    #[structopt(long, short)]
    verbose: bool,

    /// Print nothing but errors
    #[structopt(long, short, conflicts_with = "verbose")]
    quiet: bool,

    /// Print the report as one JSON document, and nothing else, on stdout
    #[structopt(long)]
    json: bool,

    #[structopt(subcommand)]
    command: Option<Subcommand>,
}

#[derive(StructOpt, Debug)]
enum Subcommand {
    /// Remove the links and namespaces that killed runs have left behind, and nothing else
    Clean,
}

/// Reads and checks the words of the command line, the program's name first.
///
/// # Errors
/// With one line that says what was wrong and what is allowed. Nothing has been touched then.
pub fn parse<I: IntoIterator<Item = std::ffi::OsString>>(words: I) -> Result<Request, UsageError> {
    let arguments = match Arguments::from_iter_safe(words) {
        Ok(arguments) => arguments,
        Err(error)
            if matches!(
                error.kind,
                ErrorKind::HelpDisplayed | ErrorKind::VersionDisplayed
            ) =>
        {
            return Ok(Request::Print(error.message));
        }
        Err(error) => return Err(one_line(&error.message)),
    };
    if let Some(Subcommand::Clean) = arguments.command {
        return Ok(Request::Clean);
    }
    let output = Output {
        verbose: arguments.verbose,
        quiet: arguments.quiet,
        json: arguments.json,
    };
    check::experiment(&arguments)
        .map(|experiment| Request::Run(Box::new(experiment), output))
        .map_err(UsageError)
}

/// The first paragraph of the library's message, in one line.
fn one_line(message: &str) -> UsageError {
    let text = message.trim_start_matches("error: ");
    let paragraph: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    UsageError(format!("{} (see --help)", paragraph.join(" ")))
}

#[cfg(test)]
mod tests;
