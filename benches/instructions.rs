//! The instructions of a ping in user space: exact, and the same on a busy machine, so that a change of one in a hundred
//! shows.
//!
//!     cargo bench --bench instructions
//!
//! Runs itself under valgrind's callgrind twice, the second time with more pings, and divides the difference. The VMs are
//! in pairs on cables in memory (`tests/support/cable.rs`), so that only the library is counted: schedule, VMs, frames, record. Ends with
//! status 1 if a ping takes more than its budget; raise a budget here if there is a reason.

// A benchmark and a test have no other way to share a file.
#[path = "../tests/support/cable.rs"]
mod cable;

use std::process::{Command, ExitCode};

use cable::Pairs;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Pairs of VMs, and the instructions that a ping may take.
const BUDGETS: [(u32, u64); 2] = [(1, 2150), (100, 2150)];
/// Pings of the shorter run, all pairs together.
const PINGS: u64 = 20_000;

fn main() -> ExitCode {
    match work() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, pairs, pings] = words.as_slice()
        && flag == "--run"
    {
        let pairs = pairs.parse()?;
        Pairs::new(pairs).ping(pairs, pings.parse::<u64>()? / u64::from(pairs));
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = ExitCode::SUCCESS;
    println!("{:>6} {:>18} {:>8}", "pairs", "instructions/ping", "budget");
    for (pairs, budget) in BUDGETS {
        let more = instructions(pairs, 2 * PINGS)?.saturating_sub(instructions(pairs, PINGS)?);
        let each = more / PINGS;
        println!("{pairs:>6} {each:>18} {budget:>8}");
        if each > budget {
            eprintln!("instructions: a ping between {pairs} pairs takes more than its budget");
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Instructions of a process that sends `pings`, its start and end included.
fn instructions(pairs: u32, pings: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--run", &pairs.to_string(), &pings.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error} (Debian's package valgrind has it)"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    // "==123== Collected : 45678"
    let mut words = told
        .split_ascii_whitespace()
        .skip_while(|word| *word != "Collected");
    let collected = words.nth(2).and_then(|word| word.parse().ok());
    match collected {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(format!("callgrind failed:\n{told}").into()),
    }
}
