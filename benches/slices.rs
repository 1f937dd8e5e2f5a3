//! The longest time that a lab of 10,000 VMs and 10,000 flows does not go on with its run while a client of its control socket
//! gets a document: what is made of it between two turns, and what it would take in one go.
//!
//!     cargo bench --bench slices
//!
//! The lab is simulated, and has run for a minute. Figures are processor time, of each slice the least of several rounds, since
//! what others do to a slice is not the slice's. Prints a table, as Markdown.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tap_reactor::experiment::{self, Scenario};
use tap_reactor::lab::{Lab, SimulatedLab};
use tap_reactor::report::{Builder, Exposition, Format, LabGauges, Pieces, Report, prometheus};
use tap_reactor::time::thread_cpu_nanos;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PLAN: &str = "fabric = 'sim'\nvms = 10000\nping = 'ring'\nrate = 20000\nduration = '1h'\nseed = 1\n\
                    impair = 'all:delay=1ms±500us,loss=0.1%'";
const ROUNDS: usize = 5;

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
        let mut pieces = Pieces::new(report.clone(), format.clone());
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

/// Calls `slice` until it returns false, and returns the time of each call.
fn measure(mut slice: impl FnMut() -> bool) -> Vec<Duration> {
    let mut times = Vec::new();
    loop {
        let begin = processor_time();
        let goes_on = slice();
        times.push(processor_time().saturating_sub(begin));
        if !goes_on {
            return times;
        }
    }
}

fn processor_time() -> Duration {
    thread_cpu_nanos().map_or(Duration::ZERO, Duration::from_nanos)
}

fn row(name: &str, mut round: impl FnMut() -> Vec<Duration>) {
    let mut slices = round();
    for _ in 1..ROUNDS {
        for (least, time) in slices.iter_mut().zip(round()) {
            *least = time.min(*least);
        }
    }
    let longest = slices.iter().max().copied().unwrap_or_default();
    println!(
        "| {name} | {} | {:.0} µs | {:.1} ms |",
        slices.len(),
        longest.as_secs_f64() * 1e6,
        slices.iter().sum::<Duration>().as_secs_f64() * 1e3
    );
}
