//! The gain, if the kernel were handed a turn's reads and writes together, by io_uring, rather than by a
//! system call each: the reason why the reactor does without.
//!
//!     cargo bench --bench engines
//!     cargo bench --bench engines -- --rounds 15 --pings 200000
//!
//! All ways run on the same TAPs, in turns, with prebuilt frames and no protocol. The bare loop asks epoll and reads until
//! nothing is left. The others read where they have just written: by system calls, with the TAPs in an epoll set and
//! without (which is how the reactor works under load), and by a ring, so many pings at a time, with buffers as they are
//! and registered ones. The medians of the ratios of two
//! ways in the same round count.

mod bare_loop;
mod ceiling;
/// The files of `benches/engines/`.
mod engines {
    pub mod ring;
}

use std::os::fd::AsRawFd;
use std::process::{Command, ExitCode};

use bare_loop::{BareLoop, USUAL};
use engines::ring::RingLoop;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use tap_reactor::reactor::Sources;
use tap_reactor::system::{LabConfig, NetnsChoice, TapFabric};

/// Anything that went wrong: this program has nobody to tell but its user.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Pairs of TAPs, and pings on their way between each pair.
const CASES: [(u32, u32); 4] = [(1, 1), (1, 64), (100, 1), (100, 16)];
/// Pings that the ring gets at a time.
const BATCHES: [u32; 4] = [1, 4, 16, 64];
/// Bytes of a ping on the wire: Ethernet, IPv4 and ICMP headers and 56 bytes of payload.
const FRAME: usize = 14 + 20 + 8 + 56;

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("engines: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<()> {
    let (mut rounds, mut pings, mut case) = (9, 100_000, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--rounds" => rounds = value()?.parse()?,
            "--pings" => pings = value()?.parse()?,
            "--case" => {
                let value = value()?;
                let (pairs, window) = value.split_once(',').ok_or("--case is PAIRS,WINDOW")?;
                case = Some((pairs.parse()?, window.parse()?));
            }
            // `cargo bench` passes it to every benchmark.
            "--bench" => {}
            _ => return Err(format!("{word} is none of --rounds, --pings, --case").into()),
        }
    }
    if let Some((pairs, window)) = case {
        return measure(pairs, window, rounds, pings);
    }
    println!("{rounds} rounds of {pings} pings each; medians\n");
    println!("| pairs | window | way | pings/s | to the bare loop | to reading at once |");
    println!("|---:|---:|---|---:|---:|---:|");
    for (pairs, window) in CASES {
        // Each case has a process of its own, and with it a namespace that the kernel takes away at its end.
        let status = Command::new(std::env::current_exe()?)
            .args(["--case", &format!("{pairs},{window}")])
            .args(["--rounds", &rounds.to_string()])
            .args(["--pings", &pings.to_string()])
            .status()?;
        if !status.success() {
            return Err(format!("the case of {pairs} pairs, window {window} failed").into());
        }
    }
    Ok(())
}

fn measure(pairs: u32, window: u32, rounds: usize, pings: u64) -> Result<()> {
    let count = (pings / u64::from(pairs)).max(u64::from(window));
    // The fabric by itself, without a lab: only its private namespace, which keeps everything but pings out, is wanted.
    let _lab = TapFabric::new(
        Sources::new(Poll::new()?.registry())?.of_fabric()?,
        LabConfig {
            vms: 1,
            netns: NetnsChoice::Private,
            ..LabConfig::default()
        },
    )?;
    let mut bare = BareLoop::new(pairs, window, USUAL, false)?;
    bare.rate(count.min(1000))?;
    let mut ways: Vec<(String, Vec<f64>)> = Vec::new();
    for round in 0..rounds {
        let mut way = 0;
        let mut note = |name: String, rate: f64| {
            if round == 0 {
                ways.push((name, Vec::new()));
            }
            ways[way].1.push(rate);
            way += 1;
        };
        note("bare loop".into(), bare.rate(count)?);
        note(
            "read at once, epoll".into(),
            ceiling::rate(&bare.ports, window, count)?,
        );
        poll(&bare, false)?;
        note(
            "read at once".into(),
            ceiling::rate(&bare.ports, window, count)?,
        );
        for is_registered in [false, true] {
            for batch in BATCHES {
                let mut ring = RingLoop::new(&bare.ports, window, batch, is_registered)?;
                let buffers = if is_registered { ", registered" } else { "" };
                let rate = ring.rate(&bare.ports, count)?;
                note(format!("ring, {batch}{buffers}"), rate);
            }
        }
        poll(&bare, true)?;
    }
    let of = |way: usize| ways.get(way).map(|(_, rates)| rates.as_slice());
    let (bare, at_once) = (of(0).unwrap_or_default(), of(2).unwrap_or_default());
    for (name, rates) in &ways {
        println!(
            "| {pairs} | {window} | {name} | {:.0} | {:.2} | {:.2} |",
            median(rates.clone()),
            median(ratios(rates, bare)),
            median(ratios(rates, at_once)),
        );
    }
    Ok(())
}

/// Registers the TAPs of the bare loop with its poll, or deregisters them.
fn poll(bare: &BareLoop, told: bool) -> Result<()> {
    for (number, port) in bare.ports.iter().enumerate() {
        let fd = port.tap.as_raw_fd();
        let registry = bare.poll.registry();
        if told {
            registry.register(&mut SourceFd(&fd), Token(number), Interest::READABLE)?;
        } else {
            registry.deregister(&mut SourceFd(&fd))?;
        }
    }
    Ok(())
}

/// Round by round.
fn ratios(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter()
        .zip(other)
        .map(|(one, other)| one / other)
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
