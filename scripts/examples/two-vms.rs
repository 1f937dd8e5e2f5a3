//! Two VMs in memory ping each other; prints the report with its histogram.
//!
//!     cargo run --example two-vms

use std::error::Error;

use tap_reactor::experiment::{self, Scenario};
use tap_reactor::lab::Lab;
use tap_reactor::report;

fn main() -> Result<(), Box<dyn Error>> {
    let scenario = "fabric = 'sim'\nimpair = 'delay=30us±30us'\nping = 'vm0:vm1'\ncount = 100";
    let plan = experiment::plan(&Scenario::parse("two VMs", scenario)?)?;
    let mut lab = Lab::build(&plan, &mut ())?;
    lab.run(&mut ());
    report::text(&lab.report("two VMs"), &mut std::io::stdout(), 80)?;
    Ok(lab.close()?)
}
