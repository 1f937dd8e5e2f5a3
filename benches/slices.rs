//! The longest time that a lab of 10,000 VMs and 10,000 flows does not go on with its run while a client of its control socket
//! gets a document: what is made of it between two turns, and what it would take in one go.
//!
//!     cargo bench --bench slices
//!
//! The lab is simulated, and has run for a minute; nothing else should run meanwhile. Each figure is the least of several
//! rounds, since what others do to a slice is not the slice's. Prints a table, as Markdown.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tap_reactor::experiment::{self, Scenario};
use tap_reactor::lab::{Lab, SimulatedLab};
use tap_reactor::report::{Builder, Exposition, Format, LabGauges, Pieces, Report, prometheus};
use tap_reactor::time::{Clock, MonotonicClock};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PLAN: &str = "fabric = 'sim'\nvms = 10000\nping = 'ring'\nrate = 20000\nduration = '1h'\nseed = 1\n\
                    impair = 'all:delay=1ms±500us,loss=0.1%'";
const ROUNDS: usize = 5;

/// The slices of a document.
#[derive(Clone, Copy)]
struct Slices {
    longest: Duration,
    all: Duration,
    count: usize,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slices: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let plan = experiment::plan(&Scenario::parse("slices.toml", PLAN)?)?;
    let Lab::Simulated(mut lab) = Lab::build(&plan, &mut ())? else {
        return Err("the lab is not simulated".into());
    };
    lab.begin(&mut ());
    lab.drive(Some(lab.now() + Duration::from_secs(60)))?;
    println!("| document | slices | longest slice | in one go |\n|---|---:|---:|---:|");
    let mut report = None;
    row("report, before it is written", || {
        let mut builder = Builder::default();
        report = None;
        measure(|| {
            report = lab.report_slice(&mut builder, "");
            report.is_none()
        })
    });
    let report = report.ok_or("there is no report")?;
    for name in [
        "report.json",
        "report.csv",
        "report.html",
        "report.hlog",
        "report.hgrm",
    ] {
        write(&report, name)?;
    }
    metrics(&mut lab);
    Ok(())
}

fn write(report: &Report, name: &str) -> Result<()> {
    let format = Format::of(Path::new(name))?;
    row(name, || {
        let mut pieces = Pieces::new(report.clone(), format);
        measure(|| pieces.next().is_some())
    });
    Ok(())
}

fn metrics(lab: &mut SimulatedLab<'_>) {
    let gauges = LabGauges {
        vms: 10_000,
        rss_bytes: None,
    };
    row("metrics", || {
        measure(|| {
            let page = prometheus(lab.hypervisor().recorder(), &gauges, Exposition::Prometheus);
            page.is_empty()
        })
    });
}

/// Calls `slice` until it returns false.
fn measure(mut slice: impl FnMut() -> bool) -> Slices {
    let mut slices = Slices {
        longest: Duration::ZERO,
        all: Duration::ZERO,
        count: 0,
    };
    loop {
        let begin = MonotonicClock.now();
        let goes_on = slice();
        let took = MonotonicClock.now() - begin;
        slices.longest = slices.longest.max(took);
        slices.all += took;
        slices.count += 1;
        if !goes_on {
            return slices;
        }
    }
}

fn row(name: &str, mut round: impl FnMut() -> Slices) {
    let rounds: Vec<Slices> = std::iter::repeat_with(&mut round).take(ROUNDS).collect();
    let least = |of: fn(&Slices) -> Duration| rounds.iter().map(of).min().unwrap_or_default();
    println!(
        "| {name} | {} | {:.0} µs | {:.1} ms |",
        rounds.first().map_or(0, |slices| slices.count),
        least(|slices| slices.longest).as_secs_f64() * 1e6,
        least(|slices| slices.all).as_secs_f64() * 1e3
    );
}
