//! The cost of 10 to 10,000 VMs in one process: set-up, memory, pings, an ARP storm, tear-down; on a bridge and by XDP.
//!
//!     cargo bench --bench scale
//!     cargo bench --bench scale -- --vms 1000 --rounds 5
//!
//! Every measurement has a process of its own, and with it a private network namespace; the next begins when the kernel
//! has cleared that away. Variants run in turns, because the speed of a machine changes from minute to minute: a
//! ratio is the median of the ratios of two processes that ran one after the other. Needs root; about seven minutes in all.
//! Prints three tables, as Markdown.

mod ping_lab;
/// The files of `benches/scale/`.
mod scale {
    pub mod bare_setup;
    pub mod figures;
    pub mod lab;
}

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tap_reactor::system::{LinkChange, Netlink};
use tap_reactor::time::{Clock, MonotonicClock};

use ping_lab::Result;
use scale::figures::Figures;
use scale::lab::Options;
use scale::{bare_setup, lab};

const SIZES: [u32; 5] = [10, 100, 1_000, 5_000, 10_000];
/// The number of VMs from which on they have a filter.
pub const FILTERED_FROM: u32 = 256;
/// With more VMs than this, each resolving a neighbour, the kernel needs minutes to flood the requests by a bridge.
const MOST_IN_STORM: u32 = 1_000;

const SETUP: &str = "| VMs | set-up | of a bare loop | its CPU time | process gone | removed from a host | bytes a VM |";
const PINGS: &str = "| VMs | pings/s | of 2 VMs alone | turns/s | wake-ups in 10 idle s | by XDP, pings/s | set-up |";
const STORM: &str =
    "| VMs | filtered | unfiltered | ratio | CPU time | the bridge answers | XDP steers |";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["bare", vms] => number(vms).and_then(bare_setup::run),
        ["lab", vms, options @ ..] => number(vms).and_then(|vms| {
            let has = |option| options.contains(&option);
            lab::run(&Options {
                vms,
                xdp: has("xdp"),
                filter: !has("no-filter"),
                proxy: has("proxy"),
                storm: has("storm"),
                idle: has("idle"),
                host: has("host"),
            })
        }),
        words => parent(words),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number(word: &str) -> Result<u32> {
    word.parse()
        .map_err(|_| format!("{word}: expected a number").into())
}

fn parent(words: &[&str]) -> Result<()> {
    let (mut sizes, mut rounds) = (SIZES.to_vec(), 3);
    let mut words = words.iter().filter(|word| **word != "--bench");
    while let Some(word) = words.next() {
        let value = number(words.next().unwrap_or(&""))?;
        match *word {
            "--vms" => sizes = vec![value],
            "--rounds" => rounds = value.max(1),
            _ => return Err(format!("{word}: expected --vms N or --rounds N").into()),
        }
    }
    // A place from which to see how busy the kernel is with links, and which nobody misses.
    unshare(CloneFlags::CLONE_NEWNET)?;
    let mut tables = [SETUP, PINGS, STORM].map(|head| vec![head.to_owned(), rule(head)]);
    for vms in sizes {
        // Large labs take their time, and vary less.
        let rounds = if vms > 1_000 { rounds.min(2) } else { rounds };
        for (table, row) in tables.iter_mut().zip(rows(vms, rounds)?) {
            eprintln!("{row}");
            table.push(row);
        }
    }
    for (title, table) in [
        "Set-up and tear-down",
        "Pings between two VMs, the others idle",
        "Every VM resolves its neighbour",
    ]
    .iter()
    .zip(&tables)
    {
        println!("{title}:\n\n{}\n", table.join("\n"));
    }
    Ok(())
}

/// The line below the head of a table.
fn rule(head: &str) -> String {
    format!("|{}", "---|".repeat(head.matches(" | ").count() + 1))
}

/// Measures everything for one number of VMs: its row in each of the tables.
fn rows(vms: u32, rounds: u32) -> Result<[String; 3]> {
    let count = vms.to_string();
    let mut sum = Figures::default();
    for round in 0..rounds {
        let bare = measure(&["bare", &count])?;
        // As the program has it where nobody says otherwise.
        let filter = if vms < FILTERED_FROM {
            "no-filter"
        } else {
            "filter"
        };
        let lab = measure(&["lab", &count, filter])?;
        let pair = measure(&["lab", "2", filter])?;
        sum.add("setup", lab["setup"]);
        sum.add("setup ratio", lab["setup"] / bare["setup"]);
        sum.add("cpu ratio", lab["setup cpu"] / bare["setup cpu"]);
        sum.add("exit", lab["exit"]);
        sum.add("per vm", lab["per vm"]);
        sum.add("rate", lab["rate"]);
        sum.add("rate ratio", lab["rate"] / pair["rate"]);
        sum.add("turns", lab["turns"]);
        if vms <= MOST_IN_STORM {
            let with = measure(&["lab", &count, "storm"])?;
            let without = measure(&["lab", &count, "storm", "no-filter"])?;
            sum.add("storm", with["storm"]);
            sum.add("flood", without["storm"]);
            sum.add("storm ratio", without["storm"] / with["storm"]);
            sum.add("storm cpu ratio", without["storm cpu"] / with["storm cpu"]);
        }
        if round == 0 {
            let idle = measure(&["lab", &count, "idle", "host"])?;
            sum.add("wakes", idle["wakes"]);
            sum.add("removal", idle["removal"]);
        }
        if round == 0 || vms <= 1_000 {
            sum.add(
                "proxy",
                measure(&["lab", &count, "proxy", "storm"])?["storm"],
            );
            let xdp = measure(&["lab", &count, "xdp", "storm"])?;
            sum.add("xdp setup", xdp["setup"]);
            sum.add("xdp rate", xdp["rate"]);
            sum.add("xdp storm", xdp["storm"]);
        }
    }
    let row = |columns: &[String]| format!("| {vms} | {} |", columns.join(" | "));
    Ok([
        row(&[
            sum.seconds("setup"),
            sum.ratio("setup ratio"),
            sum.ratio("cpu ratio"),
            sum.seconds("exit"),
            sum.seconds("removal"),
            sum.whole("per vm"),
        ]),
        row(&[
            sum.whole("rate"),
            sum.ratio("rate ratio"),
            sum.whole("turns"),
            sum.whole("wakes"),
            sum.whole("xdp rate"),
            sum.seconds("xdp setup"),
        ]),
        row(&[
            sum.seconds("storm"),
            sum.seconds("flood"),
            sum.ratio("storm ratio"),
            sum.ratio("storm cpu ratio"),
            sum.seconds("proxy"),
            sum.seconds("xdp storm"),
        ]),
    ])
}

/// Returns the processor time of this process in seconds, user and system.
fn cpu_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(micros as f64 / 1e6)
}

/// Runs a process of this program. Returns the figures that it prints, and the time from then to its exit.
fn measure(arguments: &[&str]) -> Result<BTreeMap<String, f64>> {
    settle()?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    let mut figures = BTreeMap::new();
    let mut told = MonotonicClock.now();
    for line in BufReader::new(output).lines() {
        let line = line?;
        let (name, value) = line.rsplit_once(' ').ok_or("no figure")?;
        figures.insert(name.to_owned(), value.parse()?);
        told = MonotonicClock.now();
    }
    let status = child.wait()?;
    figures.insert(
        "exit".to_owned(),
        (MonotonicClock.now() - told).as_secs_f64(),
    );
    if !status.success() {
        return Err(format!("{arguments:?}: {status}").into());
    }
    Ok(figures)
}

/// Waits until the kernel has cleared away the namespace of the process before: meanwhile nobody can change a link.
fn settle() -> Result<()> {
    /// A change of a link that takes longer had to wait.
    const QUICK: Duration = Duration::from_millis(3);
    const PAUSE: Duration = Duration::from_millis(100);
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    let mut quick = 0;
    for _ in 0..600 {
        #[allow(clippy::disallowed_methods)] // No run goes on meanwhile.
        std::thread::sleep(PAUSE);
        let start = MonotonicClock.now();
        Netlink::open()?.change_link("lo", &up)?;
        quick = if MonotonicClock.now() - start < QUICK {
            quick + 1
        } else {
            0
        };
        if quick == 5 {
            return Ok(());
        }
    }
    Err("the machine is too busy to measure anything".into())
}
