//! A program that steers a lab while it runs, as `tap-reactor ctl` does from outside: the walk of the guide's page
//! "Controlling a running lab". The lab is in memory, in virtual time; without `fabric`, as root, it is one of TAPs on a
//! bridge, in real time.
//!
//!     cargo run --example steer-a-lab
//!     cargo test --example steer-a-lab

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tap_reactor::experiment::{self, Experiment, Scenario};
use tap_reactor::hypervisor::Command;
use tap_reactor::lab::Lab;
use tap_reactor::record::Metric;
use tap_reactor::report::{Report, html};

/// Runs `lab` for so long, and prints its figures so far.
fn watch(lab: &mut Lab<'_>, time: Duration, words: &str) -> Result<(), Box<dyn Error>> {
    lab.drive(Some(lab.now() + time))?;
    let so_far = lab.report(words);
    println!(
        "{words}: {} flows, {} sent, {} lost, rtt p99 {:?} ns",
        so_far.flow_count,
        so_far.totals.sent,
        so_far.totals.lost,
        so_far.summaries[Metric::Rtt].p99
    );
    Ok(())
}

/// Takes the walk, with a capture of the losses in `folder`, and returns the report of it.
fn walk(folder: &Path) -> Result<Report, Box<dyn Error>> {
    let second = Duration::from_secs(1);
    let plan = experiment::plan(&Scenario::parse("walk", "fabric = 'sim'\nvms = 10")?)?;
    let mut lab = Lab::build(&plan, &mut ())?;
    lab.begin(&mut ());

    let added = lab.expect_vms(90)?;
    lab.carry_out(Command::StartVms(added))?;
    let mesh = lab.flows_of("mesh", None)?;
    lab.carry_out(Command::StartFlows(mesh, None))?;
    lab.carry_out(Command::SetPacing(Experiment::pacing_of("rate", "5000")?))?;
    watch(&mut lab, second * 3, "a mesh")?;

    let rules = lab.rules_of(&["vm3:delay=5ms,loss=10%"])?;
    lab.carry_out(Command::Impair(rules))?;
    let file = folder.join("loss.pcapng").display().to_string();
    let options = [("capture", file.as_str()), ("capture-on-loss", "20")];
    let capture = lab.instrument_of("a walk", &options)?;
    lab.carry_out(Command::Observe(capture))?;
    watch(&mut lab, second * 3, "with a slow VM")?;

    lab.carry_out(Command::Mark {
        name: "before-removal".parse()?,
        detail: String::new(),
    })?;
    let slow = lab.vms_named("vm3")?;
    lab.carry_out(Command::StopVms(slow))?;
    lab.carry_out(Command::Impair(Vec::new()))?;
    watch(&mut lab, second * 3, "without it")?;

    lab.carry_out(Command::Stop)?;
    lab.drive(None)?;
    lab.finish(&mut ());
    let report = lab.report("a walk");
    lab.close()?;
    Ok(report)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut page = Vec::new();
    html(&walk(&std::env::temp_dir())?, &mut page)?;
    println!("the report as a page has {} bytes", page.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pings_that_the_slow_vm_sent_or_got_are_lost() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let report = walk(folder.path()).expect("a report");
        assert_eq!(report.marks[0].name, "before-removal");
        assert!(report.marks[0].passed > 5_000);
        let [capture] = report.recordings.as_slice() else {
            panic!("{:?}", report.recordings);
        };
        assert!(capture.records > report.totals.lost);
        assert!(folder.path().join("loss.pcapng").exists());
        assert_eq!(report.flow_count, 9900);
        assert!(report.totals.received > 30_000, "{:?}", report.totals);
        assert!(report.totals.lost > 0);
        for flow in report.flows.iter().filter(|flow| flow.totals.lost > 0) {
            assert!(
                [&flow.src, &flow.dst].contains(&&"vm3".to_owned()),
                "{flow:?}"
            );
        }
    }
}
