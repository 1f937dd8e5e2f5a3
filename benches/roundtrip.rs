//! Pings a second through the reactor, compared with two loops that do nothing else.
//!
//!     cargo bench --bench roundtrip
//!     cargo bench --bench roundtrip -- --rounds 9 --pings 200000 --case 1,64
//!     cargo bench --bench roundtrip -- --size 8900 --mtu 9000
//!
//! A case is a number of pairs of VMs and of outstanding pings in each pair, a fabric, and a size of pings. The bare loop asks
//! epoll, reads and writes, on TAPs as the kernel makes them. The ceiling makes the system calls of the reactor on the TAPs
//! of the reactor's lab: it reads a frame where it has just written one. Both have prebuilt frames and no protocol.
//!
//! All three run in one namespace, in turns, because the speed of a machine changes from minute to minute: only the ratio of
//! two successive rounds says something about the code. The medians of these ratios count.
//!
//! At the end strace counts the system calls of a ping, where it is installed.
//!
//! Each case has a process of its own, and with it a private network namespace, which the kernel takes away at its end.

mod bare_loop;
mod ceiling;
mod ping_lab;
mod reactor_loop;
mod system_calls;

use std::os::fd::AsFd;
use std::process::{Command, ExitCode};
use std::str::FromStr;

use bare_loop::{BareLoop, Place, Port, Size, USUAL};
use ping_lab::Result;
use reactor_loop::ReactorLoop;
use tap_reactor::experiment::Experiment;
use tap_reactor::fabric::Fabric;
use tap_reactor::system::FabricKind;
use tap_reactor::vm::VmId;

/// The bare loop always runs on a bridge, the common choice.
const CASES: [Case; 10] = [
    case(FabricKind::Bridge, 1, 1),
    case(FabricKind::Bridge, 1, 64),
    case(FabricKind::Bridge, 100, 1),
    case(FabricKind::Bridge, 100, 16),
    case(FabricKind::Bridge, 500, 1),
    case(FabricKind::Xdp, 1, 1),
    case(FabricKind::Xdp, 100, 1),
    of_size(1400, 1500),
    of_size(8900, 9000),
    // In 45 fragments.
    of_size(65_507, 1500),
];

const HEADER: &str = "fabric  pairs  window   size   mtu   bare loop     ceiling     reactor  \
                      ours/bare  ceiling/bare  ours/ceiling   ours/ceiling of each round, sorted";

#[derive(Clone, Copy)]
struct Case {
    /// The fabric of the reactor and of the ceiling.
    fabric: FabricKind,
    /// Pairs of VMs.
    pairs: u32,
    /// Pings outstanding in each pair.
    window: u32,
    /// Their size.
    size: Size,
}

const fn case(fabric: FabricKind, pairs: u32, window: u32) -> Case {
    Case {
        fabric,
        pairs,
        window,
        size: USUAL,
    }
}

/// One pair on a bridge, with one ping outstanding.
const fn of_size(payload: usize, mtu: u16) -> Case {
    Case {
        size: Size { payload, mtu },
        ..case(FabricKind::Bridge, 1, 1)
    }
}

impl Case {
    fn fabric(self) -> &'static str {
        match self.fabric {
            FabricKind::Xdp => "xdp",
            _ => "bridge",
        }
    }

    /// The words that stand for it on the command line.
    fn words(self) -> [String; 6] {
        let case = format!("{},{},{}", self.pairs, self.window, self.fabric());
        let (size, mtu) = (self.size.payload.to_string(), self.size.mtu.to_string());
        [
            "--case".into(),
            case,
            "--size".into(),
            size,
            "--mtu".into(),
            mtu,
        ]
    }

    fn plan(self, plan: &mut Experiment) {
        plan.lab.fabric = self.fabric;
        plan.lab.mtu = self.size.mtu;
        for flow in &mut plan.flows {
            flow.payload_length = self.size.payload;
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
    /// Pings of a round, all pairs together; so many frames if they are cut into fragments.
    pings: u64,
    /// All without one.
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
    let (mut payload, mut mtu) = (None, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--rounds" => options.rounds = value()?.parse()?,
            "--pings" => options.pings = value()?.parse()?,
            "--case" => options.case = Some(value()?.parse()?),
            "--size" => payload = Some(value()?.parse()?),
            "--mtu" => mtu = Some(value()?.parse()?),
            "--traced" => options.is_traced = true,
            // `cargo bench` passes it to every benchmark.
            "--bench" => {}
            _ => {
                return Err(
                    format!("{word} is none of --rounds, --pings, --case, --size, --mtu").into(),
                );
            }
        }
    }
    if options.rounds == 0 || options.pings == 0 {
        return Err("--rounds and --pings are at least 1".into());
    }
    if payload.is_some() || mtu.is_some() {
        let case = options.case.get_or_insert(CASES[0]);
        case.size = Size {
            payload: payload.unwrap_or(USUAL.payload),
            mtu: mtu.unwrap_or(USUAL.mtu),
        };
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
            .args(case.words())
            .args([
                "--rounds",
                &options.rounds.to_string(),
                "--pings",
                &options.pings.to_string(),
            ])
            .status()?;
        if !status.success() {
            return Err(format!("{} failed", case.words().join(" ")).into());
        }
    }
    system_calls::count(options.pings)
}

/// Pings of the reactor alone.
fn run_once(case: Case, pings: u64) -> Result<()> {
    let mut ours = ReactorLoop::new(case.pairs, |plan| case.plan(plan))?;
    ours.rate(case.window, pings / u64::from(case.pairs))?;
    Ok(())
}

fn measure(case: Case, options: &Options) -> Result<()> {
    // The reactor's lab first: it makes the private namespace and keeps everything but pings out of it.
    let mut ours = ReactorLoop::new(case.pairs, |plan| case.plan(plan))?;
    let ports = ports(&mut ours, case.size)?;
    let mut bare = BareLoop::new(case.pairs, case.window, case.size, true)?;
    let frames = ports.first().map_or(1, |port| port.frames.len());
    let count = options.pings / u64::from(case.pairs) / frames as u64;
    let count = count.max(case.window.into());
    // Neighbours resolved, addresses learned, caches warm.
    ours.rate(case.window, count.min(1000))?;
    bare.rate(count.min(1000))?;
    let mut rounds = Vec::with_capacity(options.rounds);
    for round in 0..options.rounds {
        // In turns, and in turns first.
        let mut rates = [0.0; 3];
        for turn in 0..rates.len() {
            let turn = (turn + round) % rates.len();
            rates[turn] = match turn {
                0 => bare.rate(count)?,
                1 => unpolled(&mut ours, || ceiling::rate(&ports, case.window, count))?,
                _ => ours.rate(case.window, count)?,
            };
        }
        rounds.push(rates);
    }
    let column = |pick: fn(&[f64; 3]) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let of_ceiling = column(|[_, ceiling, ours]| ours / ceiling);
    let listed: Vec<String> = of_ceiling
        .iter()
        .map(|ratio| format!("{ratio:.2}"))
        .collect();
    println!(
        "{:>6} {:>6} {:>7} {:>6} {:>5} {:>11.0} {:>11.0} {:>11.0} {:>10.2} {:>13.2} {:>13.2}   {}",
        case.fabric(),
        case.pairs,
        case.window,
        case.size.payload,
        case.size.mtu,
        median(&column(|[bare, ..]| *bare)),
        median(&column(|[_, ceiling, _]| *ceiling)),
        median(&column(|[.., ours]| *ours)),
        median(&column(|[bare, _, ours]| ours / bare)),
        median(&column(|[bare, ceiling, _]| ceiling / bare)),
        median(&of_ceiling),
        listed.join(" ")
    );
    Ok(())
}

/// The TAPs of the lab, with frames as its VMs send them.
fn ports(ours: &mut ReactorLoop, size: Size) -> Result<Vec<Port>> {
    let vms = &ours.lab.plan().vms;
    let places: Vec<Place> = vms
        .iter()
        .map(|vm| (vm.mac.0, vm.address.octets()))
        .collect();
    let fabric = ours.lab.hypervisor().fabric().inner();
    (0..)
        .zip(&places)
        .map(|(number, from)| {
            let tap = fabric.tap(VmId(number)).ok_or("a VM without a TAP")?;
            let tap = tap.as_fd().try_clone_to_owned()?;
            Port::new(tap.into(), size, *from, places[number as usize ^ 1])
        })
        .collect()
}

/// Calls `work` while epoll watches no TAP of the lab. Afterwards it watches those that it did before: the reactor may have
/// removed some itself.
fn unpolled<T>(ours: &mut ReactorLoop, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let vms = (0..ours.lab.plan().vms.len() as u32).map(VmId);
    let fabric = ours.lab.hypervisor().fabric();
    let watched: Vec<VmId> = vms
        .filter(|vm| fabric.set_polled(*vm, false).is_ok())
        .collect();
    let done = work()?;
    for vm in watched {
        fabric.set_polled(vm, true)?;
    }
    Ok(done)
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
