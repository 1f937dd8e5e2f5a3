//! Pings a second between VMs behind the two ends of a veth pair, compared with a loop on packet sockets that does nothing else.
//!
//!     cargo bench --bench interface
//!     cargo bench --bench interface -- --rounds 9 --pings 200000
//!
//! The bare loop asks epoll, reads and writes at two packet sockets (`packet(7)`), with prebuilt frames and no protocol. Both run in
//! one namespace, each on a veth pair of its own, in turns: the medians of the ratios of successive rounds count. A case is a
//! number of pairs of VMs, the first of each behind one end, and of outstanding pings in each pair; the bare loop has as many
//! outstanding as all pairs together.

// Its TAPs are of no use here.
#[allow(dead_code)]
mod bare_loop;
mod ping_lab;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, ExitCode};

use bare_loop::{BareLoop, Port, USUAL, place};
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use ping_lab::{Result, ping, plan};
use tap_reactor::experiment::FlowPlan;
use tap_reactor::lab::InterfaceLab;
use tap_reactor::load::Pacing;
use tap_reactor::system::{
    FabricKind, InterfacePort, Netlink, NetnsChoice, PacketSocket, enter_shared_namespace,
};
use tap_reactor::vm::VmId;

/// Pairs of VMs, and pings outstanding in each.
/// A packet socket has room for some 250 frames.
const CASES: [(u32, u32); 3] = [(1, 1), (1, 64), (100, 1)];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("interface: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let (mut rounds, mut pings, mut only) = (7, 100_000, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--rounds" => rounds = value()?.parse()?,
            "--pings" => pings = value()?.parse()?,
            "--case" => only = Some(value()?.parse::<usize>()?),
            // `cargo bench` passes it to every benchmark.
            "--bench" => {}
            _ => return Err(format!("{word} is none of --rounds, --pings, --case").into()),
        }
    }
    let Some(number) = only else {
        println!("pairs  window   bare loop     reactor  ours/bare   of each round, sorted");
        for number in 0..CASES.len() {
            // Each case has a process of its own, and with it a namespace.
            let status = Command::new(std::env::current_exe()?)
                .args(["--case", &number.to_string()])
                .args(["--rounds", &usize::to_string(&rounds)])
                .args(["--pings", &u64::to_string(&pings)])
                .status()?;
            if !status.success() {
                return Err(format!("case {number} failed").into());
            }
        }
        return Ok(());
    };
    let case = *CASES.get(number).ok_or("there is no such case")?;
    measure(case, rounds, pings)
}

fn measure((pairs, window): (u32, u32), rounds: usize, pings: u64) -> Result<()> {
    enter_shared_namespace()?;
    let off = "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6";
    shell(off)?;
    for (one, other) in [("eth1", "eth2"), ("raw0", "raw1")] {
        shell(&format!("ip link add {one} type veth peer name {other}"))?;
        shell(&format!("ip link set {one} up; ip link set {other} up"))?;
    }
    let mut plan = plan(2 * pairs)?;
    plan.lab.fabric = FabricKind::Interface;
    plan.lab.netns = NetnsChoice::Host;
    plan.lab.interfaces = [(0..pairs, "eth1"), (pairs..2 * pairs, "eth2")]
        .map(|(vms, name)| InterfacePort {
            name: name.to_owned(),
            vms,
            bridges: false,
        })
        .into();
    let pair = |pair| FlowPlan::between(VmId(pair), VmId(pairs + pair));
    plan.flows = (0..pairs).map(pair).collect();
    let mut ours = InterfaceLab::new(plan)?;
    ours.populate(&mut ())?;
    let mut bare = bare(pairs * window)?;
    let each = (pings / u64::from(pairs)).max(window.into());
    ping(&mut ours, 0..pairs, Pacing::Window(window), each.min(1000))?;
    bare.rate(pings.min(1000))?;
    let mut rates = Vec::new();
    for round in 0..rounds.max(1) {
        let mut rate_of_ours = || -> Result<f64> {
            let took = ping(&mut ours, 0..pairs, Pacing::Window(window), each)?;
            Ok((each * u64::from(pairs)) as f64 / took.as_secs_f64())
        };
        // In turns, and in turns first.
        rates.push(match round % 2 {
            0 => (bare.rate(pings)?, rate_of_ours()?),
            _ => {
                let ours = rate_of_ours()?;
                (bare.rate(pings)?, ours)
            }
        });
    }
    let sorted = |pick: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = rates.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let median = |values: &[f64]| values[values.len() / 2];
    let ratios = sorted(|(bare, ours)| ours / bare);
    let listed: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    println!(
        "{pairs:>5} {window:>7} {:>11.0} {:>11.0} {:>10.2}   {}",
        median(&sorted(|(bare, _)| *bare)),
        median(&sorted(|(_, ours)| *ours)),
        median(&ratios),
        listed.join(" ")
    );
    ours.close()?;
    Ok(())
}

/// The bare loop between the ends of the other veth pair, with so many pings outstanding.
fn bare(window: u32) -> Result<BareLoop> {
    let poll = Poll::new()?;
    let mut ports = Vec::new();
    for (number, name) in ["raw0", "raw1"].into_iter().enumerate() {
        let link = Netlink::open()?.link(name)?.ok_or("no interface")?;
        let socket = OwnedFd::from(PacketSocket::open(link.index)?);
        poll.registry().register(
            &mut SourceFd(&socket.as_raw_fd()),
            Token(number),
            Interest::READABLE,
        )?;
        let (own, other) = (place(number as u32), place(number as u32 ^ 1));
        ports.push(Port::new(File::from(socket), USUAL, own, other)?);
    }
    Ok(BareLoop::of(poll, ports, window, USUAL))
}

fn shell(command: &str) -> Result<()> {
    match Command::new("sh").args(["-c", command]).status()?.success() {
        true => Ok(()),
        false => Err(format!("{command} failed").into()),
    }
}
