//! The walks of the guide's page, as they are written there: every command line of its blocks is run.

use std::fs;

use super::Controlled;
use crate::lab::{Lab, TAP_REACTOR, number, repository_file, wait_until};

/// The blocks of commands of the section under `heading`.
fn blocks(heading: &str) -> Vec<String> {
    let page = fs::read_to_string(repository_file("src/guide/controlling.md")).expect("the page");
    let (_, section) = page
        .split_once(&format!("\n{heading}\n"))
        .expect("the section");
    let (section, _) = section.split_once("\n## ").unwrap_or((section, ""));
    let blocks = section.split("\n```sh\n").skip(1);
    let blocks = blocks.map(|rest| rest.split_once("\n```").expect("the end of a block").0);
    blocks.map(str::to_owned).collect()
}

/// Runs the lines of a block in the folder of the socket. What begins in the background, or in a terminal of its own, goes
/// on, and writes to a file.
fn run(ctl: &Controlled, lab: &Lab, block: &str) -> String {
    let folder = ctl.folder().display();
    let block = match block.strip_suffix(" &") {
        Some(command) => format!("{command} > run.txt 2>&1 &"),
        None if block.ends_with(" watch") => format!("{block} --interval 50ms > watch.txt 2>&1 &"),
        None => block.to_owned(),
    };
    let script = format!(
        "set -euo pipefail; tap-reactor() {{ {TAP_REACTOR} \"$@\"; }}; cd {folder}\n{block}"
    );
    let run = lab.run(&["bash", "-c", &script]).expect_status(0);
    assert_eq!(run.stderr, "", "{block}");
    run.stdout
}

#[test]
fn the_walk_at_a_terminal_works_as_it_is_written() {
    let ctl = Controlled::new();
    let blocks = blocks("## A walk");
    let file = |name: &str| fs::read_to_string(ctl.file(name)).unwrap_or_default();
    let watch_says = |words: &str| {
        wait_until(&format!("{words:?} in what watch shows"), || {
            file("watch.txt").contains(words).then_some(())
        });
    };
    for (place, block) in blocks.iter().enumerate() {
        let said = run(&ctl, &ctl.lab, block);
        match place {
            0 => wait_until("a lab", || {
                let lab = ctl.run("status");
                (lab.status == 0).then_some(())
            }),
            1 => watch_says("10 VMs  0 flows"),
            2 => {
                assert!(
                    said.starts_with("90 VMs start: vm10 to vm99\n9,900 flows begin"),
                    "{said}"
                );
                watch_says("100 VMs  9,900 flows");
                ctl.wait_for("pings", |lab| number(lab, "/totals/received") > 1000);
            }
            3 => {
                ctl.wait_for("lost pings", |lab| number(lab, "/totals/lost") > 5);
                wait_until("lost pings in the metrics, and in the worst flows", || {
                    let said = run(&ctl, &ctl.lab, block);
                    let is_lost = said.lines().any(|line| {
                        let count = line.strip_prefix("tap_reactor_pings_lost_total ");
                        count.is_some_and(|count| count != "0")
                    });
                    (is_lost && said.contains("vm3 → ")).then_some(())
                });
            }
            4 => wait_until("captured losses", || {
                let captures = ctl.json("captures");
                (number(&captures, "/items/0/records") > 0).then_some(())
            }),
            5 => {
                assert!(said.contains("\nvm3 stops\n"), "{said}");
                watch_says("99 VMs  9,900 flows");
            }
            6 => assert!(said.starts_with("vm1 moved from br0 to br0 in "), "{said}"),
            7 => {}
            _ => panic!("a block that this test does not know: {block}"),
        }
    }
    assert_eq!(blocks.len(), 8);
    watch_says("the lab has ended");
    wait_until("the end of the run", || {
        (!ctl.file("lab.sock").exists()).then_some(())
    });
    let page = file("lab.html");
    assert!(page.starts_with("<!doctype html>") && page.contains("before-removal"));
    assert!(
        fs::metadata(ctl.file("loss.pcapng"))
            .expect("the capture")
            .len()
            > 200
    );
}

#[test]
fn the_walk_by_curl_works_as_it_is_written() {
    let ctl = Controlled::new();
    let blocks = blocks("## The same by curl");
    let [begin, rest] = blocks.as_slice() else {
        panic!("{blocks:?}");
    };
    run(&ctl, &ctl.lab, begin);
    wait_until("a lab", || (ctl.run("status").status == 0).then_some(()));
    let said = run(&ctl, &ctl.lab, rest);
    assert!(!said.contains("\"error\""), "{said}");
    wait_until("the end of the run", || {
        (!ctl.file("lab.sock").exists()).then_some(())
    });
    let page = fs::read_to_string(ctl.file("lab.html")).expect("a page");
    assert!(page.starts_with("<!doctype html>"));
}
