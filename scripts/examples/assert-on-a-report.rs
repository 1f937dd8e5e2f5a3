//! A program that holds a network to figures in a test of its own: here a switch in memory that loses one frame in fifty.
//! On a real bridge (without `fabric`, as root) the same lines hold a kernel to them.
//!
//!     cargo run --example assert-on-a-report
//!     cargo test --example assert-on-a-report

use std::error::Error;

use tap_reactor::experiment::{self, Scenario};
use tap_reactor::lab::Lab;
use tap_reactor::record::Metric;
use tap_reactor::report::Report;

/// Carries the load, and returns what was measured.
fn measure(scenario: &str) -> Result<Report, Box<dyn Error>> {
    let plan = experiment::plan(&Scenario::parse("scenario", scenario)?)?;
    let mut lab = Lab::build(&plan, &mut ())?;
    lab.run(&mut ());
    let report = lab.report("a test");
    lab.close()?;
    Ok(report)
}

fn lossy_mesh() -> Result<Report, Box<dyn Error>> {
    measure(
        "fabric = 'sim'\nimpair = 'loss=2%'\nvms = 10\nping = 'mesh'\nrate = 5000\nduration = '2s'",
    )
}

fn main() -> Result<(), Box<dyn Error>> {
    let report = lossy_mesh()?;
    let rtt = &report.summaries[Metric::Rtt];
    println!(
        "{:.1} % lost, rtt p99 {:?} ns",
        100.0 * report.totals.loss(),
        rtt.p99
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_loses_what_its_wires_lose_twice_and_no_more() {
        let mut report = lossy_mesh().expect("a report");
        assert_eq!(report.totals.sent, 10_000);
        // A ping crosses two wires.
        assert!(
            (0.03..0.05).contains(&report.totals.loss()),
            "{:?}",
            report.totals
        );
        let expected = ["p99<1ms", "loss<5%"].map(|text| text.parse().expect("an expectation"));
        assert!(report.expect(&expected), "{:?}", report.expectations);
    }
}
