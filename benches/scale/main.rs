//! What 10 to 10,000 VMs in one process cost: set-up, memory, pings, an ARP storm, tear-down; on a bridge and by XDP.
//!
//!     cargo bench --bench scale
//!     cargo bench --bench scale -- --vms 1000 --rounds 5
//!
//! Every measurement has a process of its own, and with it a private network namespace. What is compared runs in turns,
//! because the speed of a machine changes from minute to minute: a ratio is the median of the ratios of two processes
//! that ran one after the other. Needs root for tear-down as on a host, and for XDP; about five minutes in all.

mod bare_setup;
mod lab;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tap_reactor::time::{Clock, MonotonicClock};

use lab::Options;

/// Anything that went wrong: this program has nobody to tell but its user.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SIZES: [u32; 5] = [10, 100, 1_000, 5_000, 10_000];
/// With more VMs than this, each resolving a neighbour, the kernel needs minutes to flood the requests by a bridge.
const MOST_IN_STORM: u32 = 1_000;

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
                storm: has("storm"),
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
        .map_err(|_| format!("{word}: allowed is a number").into())
}

fn parent(words: &[&str]) -> Result<()> {
    let (mut sizes, mut rounds) = (SIZES.to_vec(), 3);
    let mut words = words.iter().filter(|word| **word != "--bench");
    while let Some(word) = words.next() {
        let value = number(words.next().unwrap_or(&""))?;
        match *word {
            "--vms" => sizes = vec![value],
            "--rounds" => rounds = value.max(1),
            _ => return Err(format!("{word}: allowed are --vms N and --rounds N").into()),
        }
    }
    println!(
        "| VMs | set-up | of a bare loop | its CPU | exit | removed from a host | bytes a VM | pings/s, W=1 | of 2 VMs alone | \
         turns/s | storm, filter | without | ratio | its CPU | XDP set-up | XDP pings/s | XDP storm |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for vms in sizes {
        // Large labs take their time, and vary less.
        let rounds = if vms > 1_000 { rounds.min(2) } else { rounds };
        println!("{}", row(vms, rounds)?);
    }
    Ok(())
}

/// Measures everything for one number of VMs.
fn row(vms: u32, rounds: u32) -> Result<String> {
    let count = vms.to_string();
    let mut sum = Figures::default();
    for _ in 0..rounds {
        let bare = measure(&["bare", &count])?;
        let lab = measure(&["lab", &count])?;
        let pair = measure(&["lab", "2"])?;
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
    }
    let host = measure(&["lab", &count, "host"])?;
    sum.add("removal", host["removal"]);
    let xdp = measure(&["lab", &count, "xdp", "storm"])?;
    sum.add("xdp setup", xdp["setup"]);
    sum.add("xdp rate", xdp["rate"]);
    sum.add("xdp storm", xdp["storm"]);
    let columns = [
        sum.seconds("setup"),
        sum.ratio("setup ratio"),
        sum.ratio("cpu ratio"),
        sum.seconds("exit"),
        sum.seconds("removal"),
        sum.whole("per vm"),
        sum.whole("rate"),
        sum.ratio("rate ratio"),
        sum.whole("turns"),
        sum.seconds("storm"),
        sum.seconds("flood"),
        sum.ratio("storm ratio"),
        sum.ratio("storm cpu ratio"),
        sum.seconds("xdp setup"),
        sum.whole("xdp rate"),
        sum.seconds("xdp storm"),
    ];
    Ok(format!("| {vms} | {} |", columns.join(" | ")))
}

/// The values of each figure, one for each round.
#[derive(Default)]
struct Figures(BTreeMap<&'static str, Vec<f64>>);

impl Figures {
    fn add(&mut self, name: &'static str, value: f64) {
        self.0.entry(name).or_default().push(value);
    }

    fn median(&self, name: &str) -> Option<f64> {
        let mut values = self.0.get(name)?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    fn tell(&self, name: &str, write: impl Fn(f64) -> String) -> String {
        self.median(name).map_or("–".to_owned(), write)
    }

    fn seconds(&self, name: &str) -> String {
        self.tell(name, |value| {
            if value < 0.1 {
                format!("{:.1} ms", value * 1e3)
            } else {
                format!("{value:.2} s")
            }
        })
    }

    fn ratio(&self, name: &str) -> String {
        self.tell(name, |value| format!("{value:.2}"))
    }

    fn whole(&self, name: &str) -> String {
        self.tell(name, |value| format!("{value:.0}"))
    }
}

/// What this process has had of the processors, in seconds: the kernel's work for it included, and what others do at the
/// same time left out.
fn cpu_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(micros as f64 / 1e6)
}

/// The figures that a process of this program prints, and how long it takes to exit after that.
fn measure(arguments: &[&str]) -> Result<BTreeMap<String, f64>> {
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
