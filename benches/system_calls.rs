//! The system calls of a ping. Four are the round trip itself: a read and a write at each end.

use std::process::{Command, Stdio};

use crate::Result;

/// Pairs and window of the runs that are traced.
const CASES: [(u64, u64); 3] = [(1, 1), (1, 64), (100, 1)];
/// Calls that are told, each in a column.
const TOLD: [&str; 5] = [
    "read",
    "write",
    "epoll_wait",
    "timerfd_settime",
    "clock_gettime",
];

/// Counts the calls of the same runs with `pings` pings and with hardly any, and prints the difference for each ping.
pub fn count(pings: u64) -> Result<()> {
    let strace = Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status();
    if strace.is_err() {
        println!("\nno system calls counted: strace is not installed");
        return Ok(());
    }
    println!(
        "\nsystem calls of the reactor for each ping, as strace -c -f counts them over {pings} pings"
    );
    print!("{:>6} {:>7} {:>7}", "pairs", "window", "all");
    TOLD.iter().for_each(|name| print!(" {name:>15}"));
    println!(" {:>15}", "in vain");
    for (pairs, window) in CASES {
        let few = pairs * window;
        let (before, after) = (
            traced(pairs, window, few)?,
            traced(pairs, window, pings + few)?,
        );
        let each = |name: &str, column: fn(&Calls) -> u64| {
            let of = |calls: &[Calls]| -> u64 {
                let named = calls
                    .iter()
                    .filter(|calls| name.is_empty() || calls.name == name);
                named.map(column).sum()
            };
            of(&after).saturating_sub(of(&before)) as f64 / pings as f64
        };
        print!(
            "{pairs:>6} {window:>7} {:>7.3}",
            each("", |calls| calls.count)
        );
        for name in TOLD {
            print!(" {:>15.3}", each(name, |calls| calls.count));
        }
        println!(" {:>15.3}", each("", |calls| calls.errors));
    }
    Ok(())
}

/// A line of strace's table.
struct Calls {
    name: String,
    count: u64,
    /// The number that returned an error, such as a read of an empty queue.
    errors: u64,
}

fn traced(pairs: u64, window: u64, pings: u64) -> Result<Vec<Calls>> {
    let output = Command::new("strace")
        .args(["-c", "-f"])
        .arg(std::env::current_exe()?)
        .args(["--traced", "--case", &format!("{pairs},{window}")])
        .args(["--pings", &pings.to_string()])
        .output()?;
    let table = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(format!("strace failed:\n{table}").into());
    }
    // % time, seconds, usecs/call, calls, errors if there were any, name
    let line = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (&name, &count) = (words.last()?, words.get(3)?);
        let errors = if words.len() == 6 {
            words.get(4)?.parse().ok()?
        } else {
            0
        };
        (name != "total").then_some(Calls {
            name: name.to_owned(),
            count: count.parse().ok()?,
            errors,
        })
    };
    Ok(table.lines().filter_map(line).collect())
}
