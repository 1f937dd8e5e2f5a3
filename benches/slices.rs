//! The longest time that a lab of 10,000 VMs and 10,000 flows does not go on with its run while a client of its control socket
//! gets a document or changes the lab: what is done between two turns, and what it would take in one go.
//!
//!     cargo bench --bench slices
//!
//! The lab is simulated, and has run for a minute. Figures are processor time; of what can be repeated that of each slice is
//! the least of several rounds, since what others do to a slice is not the slice's. Prints a table, as Markdown.

use std::process::ExitCode;
use std::time::Duration;

use tap_reactor::control::{Access, Body, Request, Response};
use tap_reactor::experiment::{self, Scenario};
use tap_reactor::lab::{Lab, SimulatedLab};
use tap_reactor::time::thread_cpu_nanos;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PLAN: &str = "fabric = 'sim'\nvms = 10000\nping = 'ring'\nrate = 20000\nduration = '1h'\nseed = 1\n\
                    impair = 'all:delay=1ms±500us,loss=0.1%'\n";
const ROUNDS: usize = 5;

/// What is only read.
const READS: [&str; 10] = [
    "/",
    "/metrics",
    "/vms?limit=1000",
    "/flows?limit=1000",
    "/flows?sort=worst&limit=1000",
    "/impairments",
    "/report.json",
    "/report.csv",
    "/report.html",
    "/report.hlog",
];

/// What changes the lab, once each.
const MARK: [&str; 3] = ["POST", "/marks", r#"{"name": "policy"}"#];
const CHANGES: [[&str; 3]; 3] = [
    ["POST", "/vms", r#"{"vms": 9000}"#],
    ["POST", "/flows", r#"{"ping": "ring"}"#],
    ["DELETE", "/vms/vm[10000-18999]", ""],
];

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
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("lab.sock");
    let text = format!("{PLAN}control = '{}'\n", socket.display());
    let plan = experiment::plan(&Scenario::parse("slices.toml", &text)?)?;
    let Lab::Simulated(mut lab) = Lab::build(&plan, &mut ())? else {
        return Err("the lab is not simulated".into());
    };
    lab.begin(&mut ());
    pass(&mut lab, 60)?;
    println!("| request | slices | longest slice | in one go |\n|---|---:|---:|---:|");
    for target in READS {
        row(target, ROUNDS, || ask(&mut lab, ["GET", target, ""]))?;
    }
    row("POST /marks", 1, || ask(&mut lab, MARK))?;
    pass(&mut lab, 5)?;
    for target in READS
        .into_iter()
        .skip_while(|target| !target.contains("report"))
    {
        let name = format!("{target}, with a mark");
        row(&name, ROUNDS, || ask(&mut lab, ["GET", target, ""]))?;
    }
    for [method, target, body] in CHANGES {
        let name = format!("{method} {target} {body}");
        row(&name, 1, || ask(&mut lab, [method, target, body]))?;
        pass(&mut lab, 1)?;
    }
    Ok(())
}

/// Has the lab run for so many seconds.
fn pass(lab: &mut SimulatedLab<'_>, seconds: u64) -> Result<()> {
    lab.drive(Some(lab.now() + Duration::from_secs(seconds)))?;
    Ok(())
}

/// Asks `lab`, and returns the time of each slice until all of the response is there.
fn ask(lab: &mut SimulatedLab<'_>, [method, target, body]: [&str; 3]) -> Result<Vec<Duration>> {
    let request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        body: body.into(),
        ..Request::default()
    };
    let mut response = None;
    let mut times = measure(|| {
        response = lab.answer(&Access::User, &request);
        false
    });
    if let Some(Response {
        body: Body::Later(work),
        ..
    }) = &mut response
    {
        let mut done = None;
        times.extend(measure(|| {
            done = lab.go_on(work);
            done.is_none()
        }));
        response = done;
    }
    let mut response = response.ok_or("there is no response")?;
    if response.status >= 300 {
        return Err(format!("{method} {target}: {response:?}").into());
    }
    if let Body::Pieces(pieces) = &mut response.body {
        times.extend(measure(|| pieces.next().is_some()));
    }
    Ok(times)
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

/// Measures so many rounds, and tells the longest slice and the sum of all.
fn row(name: &str, rounds: usize, mut round: impl FnMut() -> Result<Vec<Duration>>) -> Result<()> {
    let mut slices = round()?;
    for _ in 1..rounds {
        for (least, time) in slices.iter_mut().zip(round()?) {
            *least = time.min(*least);
        }
    }
    let longest = slices.iter().enumerate().max_by_key(|(_, time)| **time);
    let (number, longest) = longest.ok_or("there is no slice")?;
    println!(
        "| {name} | {} | {:.0} µs (number {}) | {:.1} ms |",
        slices.len(),
        longest.as_secs_f64() * 1e6,
        number + 1,
        slices.iter().sum::<Duration>().as_secs_f64() * 1e3
    );
    Ok(())
}
