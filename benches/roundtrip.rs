//! Pings a second through the reactor, compared with a loop that does nothing else.
//!
//!     cargo bench --bench roundtrip
//!     cargo bench --bench roundtrip -- --rounds 9 --pings 200000 --case 1,64
//!
//! A case is a number of pairs of VMs and of outstanding pings in each pair. The loops run in one namespace, in turns,
//! because the speed of a machine changes from minute to minute: only the ratio of two successive rounds says something
//! about the code. The median of these ratios counts. There are two: to the loop on TAPs as a lab has them, and to the
//! loop on TAPs as the kernel creates them, with a queueing discipline.
//!
//! At the end strace counts the system calls of a ping, where it is installed.
//!
//! Each case has a process of its own, and with it a private network namespace, which the kernel takes away at its end.

mod bare_loop;
mod ping_lab;
mod reactor_loop;
mod system_calls;

use std::process::{Command, ExitCode};
use std::str::FromStr;
use std::time::Duration;

use bare_loop::BareLoop;
use ping_lab::Result;
use reactor_loop::ReactorLoop;
use tap_reactor::system::FabricKind;

/// The bare loop always runs on a bridge, the common choice.
const CASES: [Case; 7] = [
    case(FabricKind::Bridge, 1, 1),
    case(FabricKind::Bridge, 1, 64),
    case(FabricKind::Bridge, 100, 1),
    case(FabricKind::Bridge, 100, 16),
    case(FabricKind::Bridge, 500, 1),
    case(FabricKind::Xdp, 1, 1),
    case(FabricKind::Xdp, 100, 1),
];

const HEADER: &str = "fabric  pairs  window   bare loop  plain TAPs     reactor   ratio  to plain   ratio of each round, sorted";

/// Bytes of a ping on the wire: Ethernet, IPv4 and ICMP headers and 56 bytes of payload.
const FRAME: usize = 14 + 20 + 8 + 56;

#[derive(Clone, Copy)]
struct Case {
    /// The reactor's fabric.
    fabric: FabricKind,
    /// Pairs of VMs.
    pairs: u32,
    /// Pings outstanding in each pair.
    window: u32,
}

const fn case(fabric: FabricKind, pairs: u32, window: u32) -> Case {
    Case {
        fabric,
        pairs,
        window,
    }
}

impl Case {
    fn fabric(self) -> &'static str {
        match self.fabric {
            FabricKind::Xdp => "xdp",
            _ => "bridge",
        }
    }
}

impl FromStr for Case {
    type Err = Box<dyn std::error::Error>;

    fn from_str(text: &str) -> Result<Case> {
        let words: Vec<&str> = text.split(',').collect();
        let fabric = match words.get(2) {
            None | Some(&"bridge") => FabricKind::Bridge,
            Some(&"xdp") => FabricKind::Xdp,
            Some(other) => return Err(format!("{other} is neither bridge nor xdp").into()),
        };
        let [pairs, window, ..] = words.as_slice() else {
            return Err("--case is PAIRS,WINDOW or PAIRS,WINDOW,xdp".into());
        };
        Ok(case(fabric, pairs.parse()?, window.parse()?))
    }
}

struct Options {
    rounds: usize,
    /// Pings of a round, all pairs together.
    pings: u64,
    case: Option<Case>,
    /// Only the reactor runs, once, for strace to count.
    is_traced: bool,
}

fn main() -> ExitCode {
    let done = options().and_then(|options| match options.case {
        Some(case) if options.is_traced => run_once(case, options.pings),
        Some(case) => measure(case, &options),
        None => measure_all(&options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roundtrip: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let mut options = Options {
        rounds: 7,
        pings: 100_000,
        case: None,
        is_traced: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--rounds" => options.rounds = value()?.parse()?,
            "--pings" => options.pings = value()?.parse()?,
            "--case" => options.case = Some(value()?.parse()?),
            "--traced" => options.is_traced = true,
            // `cargo bench` passes it to every benchmark.
            "--bench" => {}
            _ => return Err(format!("{word} is none of --rounds, --pings, --case").into()),
        }
    }
    if options.rounds == 0 || options.pings == 0 {
        return Err("--rounds and --pings are at least 1".into());
    }
    Ok(options)
}

fn measure_all(options: &Options) -> Result<()> {
    println!(
        "{} rounds of {} pings a case and side; rates in pings/s, median",
        options.rounds, options.pings
    );
    println!("{HEADER}");
    for case in CASES {
        let status = Command::new(std::env::current_exe()?)
            .args([
                "--case",
                &format!("{},{},{}", case.pairs, case.window, case.fabric()),
            ])
            .args([
                "--rounds",
                &options.rounds.to_string(),
                "--pings",
                &options.pings.to_string(),
            ])
            .status()?;
        if !status.success() {
            return Err(format!(
                "the case of {} pairs, window {} on {} failed",
                case.pairs,
                case.window,
                case.fabric()
            )
            .into());
        }
    }
    system_calls::count(options.pings)
}

/// Pings of the reactor alone.
fn run_once(case: Case, pings: u64) -> Result<()> {
    let mut ours = ReactorLoop::new(case.pairs, case.fabric, Duration::ZERO)?;
    ours.rate(case.window, pings / u64::from(case.pairs))?;
    Ok(())
}

fn measure(case: Case, options: &Options) -> Result<()> {
    let count = (options.pings / u64::from(case.pairs)).max(u64::from(case.window));
    // The reactor's lab first: it makes the private namespace and keeps everything but pings out of it.
    let mut ours = ReactorLoop::new(case.pairs, case.fabric, Duration::ZERO)?;
    let bare = BareLoop::new(case.pairs, case.window, false)?;
    let plain = BareLoop::new(case.pairs, case.window, true)?;
    let mut bare = [bare, plain];
    // Neighbours resolved, addresses learned, caches warm.
    ours.rate(case.window, count.min(1000))?;
    for bare in &mut bare {
        bare.rate(count.min(1000))?;
    }
    let mut rounds = Vec::with_capacity(options.rounds);
    for round in 0..options.rounds {
        // In turns, and in turns first.
        let mut rates = [0.0; 3];
        for turn in 0..rates.len() {
            let turn = (turn + round) % rates.len();
            rates[turn] = match bare.get_mut(turn) {
                Some(bare) => bare.rate(count)?,
                None => ours.rate(case.window, count)?,
            };
        }
        rounds.push(rates);
    }
    let column = |pick: fn(&[f64; 3]) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let ratios = column(|[bare, _, ours]| ours / bare);
    let listed: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    println!(
        "{:>6} {:>6} {:>7} {:>11.0} {:>11.0} {:>11.0} {:>7.2} {:>9.2}   {}",
        case.fabric(),
        case.pairs,
        case.window,
        median(&column(|[bare, _, _]| *bare)),
        median(&column(|[_, plain, _]| *plain)),
        median(&column(|[_, _, ours]| *ours)),
        median(&ratios),
        median(&column(|[_, plain, ours]| ours / plain)),
        listed.join(" ")
    );
    Ok(())
}

/// The median of sorted values.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    }
}
