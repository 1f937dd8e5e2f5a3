//! Lateness of pings at a steady rate, and the share of a core that they take.
//!
//!     cargo bench --bench pacing
//!     cargo bench --bench pacing -- --seconds 5 --rate 20000 --delay
//!
//! 100 flows between 200 VMs on one bridge. Lateness is the time from a ping's due time to its sending;
//! CPU is the processor time of the process while pings are sent, as a share of one core. With `--delay` every VM holds its
//! frames for 5 ms, as `--impair delay=5ms` does; release is by how much longer it held them. Each line has a process of its
//! own.
//! Prints a table in Markdown.

mod ping_lab;
mod reactor_loop;

use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use ping_lab::Result;
use reactor_loop::ReactorLoop;
use tap_reactor::fabric::{Delay, Direction, Profile, Rule};
use tap_reactor::hypervisor;
use tap_reactor::load::Pacing;
use tap_reactor::record::Metric;

const FLOWS: u32 = 100;
/// The time for which `--delay` holds a frame.
const DELAY: Duration = Duration::from_millis(5);
/// Pings a second of all flows together.
const RATES: [u64; 3] = [1_000, 20_000, 80_000];

struct Options {
    seconds: u64,
    rate: Option<u64>,
    spin: Option<Duration>,
    delay: Option<Duration>,
}

fn main() -> ExitCode {
    let done = options().and_then(|options| match options.rate {
        Some(rate) => measure(rate, &options),
        None => measure_all(&options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pacing: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let mut options = Options {
        seconds: 3,
        rate: None,
        spin: None,
        delay: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seconds" => options.seconds = value()?.parse::<u64>()?.max(1),
            "--rate" => options.rate = Some(value()?.parse::<u64>()?.max(1)),
            "--spin" => options.spin = Some(Duration::MAX),
            "--delay" => options.delay = Some(DELAY),
            // `cargo bench` passes it to every benchmark.
            "--bench" => {}
            _ => {
                return Err(format!("{word} is none of --seconds, --rate, --spin, --delay").into());
            }
        }
    }
    Ok(options)
}

fn measure_all(options: &Options) -> Result<()> {
    println!(
        "| pings/s | between pings | lateness p50 | p99 | rtt p50 | release p50 | p99 | turns/s | CPU |\n|---|---|---|---|---|---|---|---|---|"
    );
    for rate in RATES {
        for variant in [None, Some("--spin"), Some("--delay")] {
            let status = Command::new(std::env::current_exe()?)
                .args(["--rate", &rate.to_string()])
                .args(["--seconds", &options.seconds.to_string()])
                .args(variant)
                .status()?;
            if !status.success() {
                return Err(format!("{rate} pings/s: failed").into());
            }
        }
    }
    Ok(())
}

fn measure(rate: u64, options: &Options) -> Result<()> {
    let spin = options.spin.unwrap_or_default();
    let mut lab = ReactorLoop::new(FLOWS, |plan| plan.spin = spin)?;
    let delayed = options.delay.map(|delay| Rule {
        words: String::new(),
        vms: 0..=u32::MAX,
        direction: Direction::Out,
        to: None,
        profile: Profile {
            delay: Some(Delay::constant(delay)),
            ..Profile::default()
        },
    });
    let delayed = delayed.into_iter().collect();
    lab.lab.carry_out(hypervisor::Command::Impair(delayed))?;
    // Neighbours resolved, addresses learned; in a phase that does not count for what follows.
    lab.rate(1, 10)?;
    let phases = lab.lab.hypervisor().recorder().phases().len();
    let (turns, cpu) = (lab.lab.hypervisor().recorder().work().turns, cpu()?);
    let count = rate * options.seconds / u64::from(FLOWS);
    let took = lab.ping(Pacing::Rate(rate as f64), count)?.as_secs_f64();
    let cpu = (self::cpu()? - cpu).as_secs_f64();
    let turns = lab.lab.hypervisor().recorder().work().turns - turns;
    let release = lab.lab.hypervisor().recorder().latency(Metric::Release);
    let release = release.summary();
    let phase = lab.lab.hypervisor().recorder().phases().get(phases);
    let phase = phase.ok_or("no phase was measured")?;
    let micros = |nanos: Option<u64>| match nanos {
        Some(nanos) => format!("{:.1} µs", nanos as f64 / 1e3),
        None => "–".to_owned(),
    };
    println!(
        "| {rate} | {} | {} | {} | {} | {} | {} | {:.0} | {:.0} % |",
        match (options.spin, options.delay) {
            (Some(_), _) => "polls (--spin)",
            (None, Some(_)) => "sleeps, frames are held for 5 ms",
            (None, None) => "sleeps",
        },
        micros(phase.lateness().quantile(0.5)),
        micros(phase.lateness().quantile(0.99)),
        micros(phase.rtt().quantile(0.5)),
        micros(release.p50),
        micros(release.p99),
        turns as f64 / took,
        cpu / took * 100.0
    );
    Ok(())
}

/// CPU time of this process, in the kernel too.
fn cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(micros.try_into()?))
}
