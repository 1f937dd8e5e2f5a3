//! Where output goes, and output that can't be written: a full disk, a reader that has gone, one that does not read. The run goes on, its reports
//! are written, and its lab is taken away.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::lab::{Finished, Lab, TAP_REACTOR, wait_until};

/// Pings until a signal comes.
const ENDLESS: &str = "--netns host --vms 2 --ping vm0:vm1";

/// A folder for reports, and the path of one in it.
fn report() -> (TempDir, String) {
    let folder = TempDir::new().expect("make a temporary directory");
    let path = folder.path().join("r.json").display().to_string();
    (folder, path)
}

/// The pings that the report at `path` says were answered.
fn received(path: &str) -> u64 {
    let text = std::fs::read_to_string(path).expect("a report");
    let report: serde_json::Value = serde_json::from_str(&text).expect("a whole report");
    report["totals"]["received"].as_u64().expect("a count")
}

#[test]
fn a_standard_error_that_is_full_costs_neither_the_run_nor_its_report() {
    let lab = Lab::new();
    for verbose in ["", "--verbose"] {
        let (_folder, path) = report();
        let script = format!("exec {TAP_REACTOR} {ENDLESS} {verbose} --output {path} 2>/dev/full");
        let mut run = lab.start(&["sh", "-c", &script]);
        lab.wait_until_vm_sent(&mut run, "tap0", 20);
        run.signal(Signal::SIGINT);
        run.wait().expect_status(0);
        assert!(received(&path) >= 15, "{verbose}");
        assert_eq!(lab.link_names(), [""; 0]);
    }
}

#[test]
fn a_signal_that_ends_the_reader_too_costs_no_report() {
    let lab = Lab::new();
    // `tee` dies of the same Ctrl-C; `true` has died by then.
    for reader in ["tee /dev/null", "true"] {
        let (_folder, path) = report();
        let script = format!("{TAP_REACTOR} {ENDLESS} --output {path} 2>&1 | {reader}; :");
        let mut run = lab.start(&["setsid", "sh", "-c", &script]);
        lab.wait_until_vm_sent(&mut run, "tap0", 20);
        kill(Pid::from_raw(-(run.pid() as i32)), Signal::SIGINT).expect("signal the pipeline");
        run.wait();
        wait_until("the lab to be taken away", || {
            lab.link_names().is_empty().then_some(())
        });
        assert!(received(&path) >= 15, "{reader}");
    }
}

#[test]
fn a_reader_that_wants_no_more_ends_nothing_but_the_printing() {
    let lab = Lab::new();
    for output in ["--json", ""] {
        // `true` reads nothing, and is gone before there is anything to read.
        for reader in ["head -c 10", "true"] {
            let run = format!("{TAP_REACTOR} --netns host --ping vm0:vm1 --count 3 {output}");
            let script = format!("{run} | {reader} >/dev/null; exit ${{PIPESTATUS[0]}}");
            let run = lab.run(&["bash", "-c", &script]).expect_status(0);
            assert_eq!(run.stderr, "", "{output} | {reader}");
            assert_eq!(lab.link_names(), [""; 0]);
        }
    }
}

#[test]
fn a_version_and_a_report_by_a_link_end_as_quietly_for_a_reader_that_has_gone() {
    let lab = Lab::new();
    let folder = tempfile::TempDir::new().expect("a folder");
    let link = folder.path().join("so.json").display().to_string();
    for (command, full) in [
        (format!("{TAP_REACTOR} --version"), 3),
        (
            format!(
                "ln -sf /dev/stdout {link}; {TAP_REACTOR} -q --ping vm0:vm1 --count 3 --output {link}"
            ),
            3,
        ),
    ] {
        for (output, status) in [("| true", 0), ("> /dev/full", full)] {
            let script = match output {
                "| true" => format!("({command}) | true; exit ${{PIPESTATUS[0]}}"),
                full => format!("({command}) {full}"),
            };
            let run = lab.run(&["bash", "-c", &script]);
            assert_eq!(run.status, status, "{script}: {run:?}");
            assert_eq!(run.stderr.is_empty(), status == 0, "{script}: {run:?}");
        }
    }
}

#[test]
fn a_transcript_that_nobody_reads_does_not_hold_up_the_run() {
    let lab = Lab::new();
    let (folder, path) = report();
    let fifo = folder.path().join("fifo").display().to_string();
    // Opened for reading, but nobody reads. Ten times as much is told as a pipe holds.
    let script = format!(
        "mkfifo {fifo} && exec 3<>{fifo} && exec {TAP_REACTOR} --ping vm0:vm1 --count 3000 --interval 200us --verbose \
         --output {path} 2>&3"
    );
    lab.run(&["sh", "-c", &script]).expect_status(0);
    assert_eq!(received(&path), 3_000);
}

#[test]
fn a_report_that_can_not_be_printed_is_an_error_after_files_and_lab_are_done_with() {
    let lab = Lab::new();
    let (_folder, path) = report();
    let arguments = format!("--netns host --ping vm0:vm1 --count 3 --output {path}");
    for output in ["", "--json"] {
        let script = format!("exec {TAP_REACTOR} {arguments} {output} > /dev/full");
        let run = lab.run(&["sh", "-c", &script]).expect_status(3);
        assert!(
            run.stderr.contains("write to standard output: No space"),
            "{}",
            run.stderr
        );
        assert_eq!(received(&path), 3);
        assert_eq!(lab.link_names(), [""; 0]);
        std::fs::remove_file(&path).expect("remove a report");
    }
}

#[test]
fn an_expectation_that_is_not_met_is_told_though_everything_else_is_quiet() {
    let lab = Lab::new();
    let arguments =
        "--fabric sim --ping vm0:vm1 --count 3 --expect received>3 --expect loss<1% --quiet";
    let run = lab.tap_reactor(arguments).expect_status(1);
    assert_eq!(run.stdout, "");
    assert_eq!(
        run.stderr,
        "tap-reactor: expected received>3: FAILS, found 3\n"
    );
}

/// Where each of these scripts has put something in the way of the report `r.json`, in a world of mounts of its own, the
/// run is refused with status 2 and these words.
const IN_THE_WAY: &[(&str, &str)] = &[
    ("mkdir r.json", "that is a folder"),
    ("mount -t tmpfs -o ro tmpfs .", "Read-only file system"),
    (
        "mount -t tmpfs -o size=4k tmpfs . && head -c 4096 /dev/zero >/mnt/work/full",
        "No space left",
    ),
    (
        "touch r.json && mount --bind r.json r.json && mount -o remount,ro,bind r.json",
        "Read-only file system",
    ),
    ("ln -s none/r.json r.json", "none does not exist"),
    ("ln -s r.json r.json", "symbolic links"),
];

/// Runs `script` and then the binary with `arguments` in a folder that is mounted there for it alone.
fn after(lab: &Lab, script: &str, arguments: &str) -> Finished {
    let script = format!(
        "mount -t tmpfs tmpfs /mnt && mkdir /mnt/work && cd /mnt/work && {script} && cd /mnt/work && exec {TAP_REACTOR} {arguments}"
    );
    lab.run(&["unshare", "--mount", "bash", "-c", &script])
}

#[test]
fn a_place_that_takes_no_report_is_refused_before_anything_is_touched() {
    let lab = Lab::new();
    for (script, told) in IN_THE_WAY {
        // What is not refused would serve until it is told to end.
        let run = after(&lab, script, "--netns host --duration 1s --output r.json");
        let run = run.expect_status(2);
        assert_eq!((run.stdout.as_str(), run.stderr.lines().count()), ("", 1));
        assert!(
            run.stderr.contains("--output r.json: ") && run.stderr.contains(told),
            "{script}: {}",
            run.stderr
        );
    }
    let twice = "--fabric sim --ping vm0:vm1 --count 1 --output r.json --output ./r.json";
    let run = after(&lab, ":", twice).expect_status(2);
    assert!(
        run.stderr
            .contains("the same file as r.json; expected another"),
        "{}",
        run.stderr
    );
    for saved in [
        "r.json --output folder.html",
        "r.json r.json --compare --output folder.html",
    ] {
        let make = format!(
            "{TAP_REACTOR} --fabric sim --ping vm0:vm1 --count 1 --quiet --output r.json && mkdir folder.html"
        );
        let run = after(&lab, &make, &format!("report {saved}")).expect_status(2);
        assert!(run.stderr.contains("that is a folder"), "{}", run.stderr);
    }
}

#[test]
fn a_report_goes_where_its_place_leads_to_and_leaves_nothing_beside_it() {
    let lab = Lab::new();
    let run = "--fabric sim --ping vm0:vm1 --count 3 --quiet --output r.json";
    // What is made; what is asked afterwards, and what that prints.
    for (script, asked, told) in [
        (":", "cat r.json", "{"),
        (
            "touch r.json && chmod 604 r.json",
            "stat -c %a r.json; cat r.json",
            "604\n{",
        ),
        (
            "touch r.json && chown 12:34 r.json",
            "stat -c %u:%g r.json; cat r.json",
            "12:34\n{",
        ),
        (
            "ln -s s.json r.json",
            "readlink r.json; cat s.json",
            "s.json\n{",
        ),
        (
            "touch r.json && mount --bind r.json r.json",
            "umount r.json; cat r.json",
            "{",
        ),
        (
            "ln -s /dev/stdout r.json",
            "readlink r.json",
            "/dev/stdout\n",
        ),
        (
            "mkfifo r.json && { cat r.json >s.json & }",
            "wait; cat s.json",
            "{",
        ),
        (
            "mkfifo f && ln -s f r.json && { cat f >s.json & }",
            "wait; cat s.json",
            "{",
        ),
    ] {
        let script = format!(
            "{script} && {TAP_REACTOR} {run} >out; {asked} ; find . -name '.tap*'; cat out; :"
        );
        let run = after(&lab, &script, "--version").expect_status(0);
        assert!(run.stdout.starts_with(told), "{script}: {}", run.stdout);
        assert_eq!(
            run.stdout.matches("\"schema\"").count(),
            1,
            "{script}: {}",
            run.stdout
        );
        assert!(
            !run.stdout.contains(".tap-reactor"),
            "{script}: {}",
            run.stdout
        );
    }
}

#[test]
fn a_report_that_nobody_reads_waits_for_no_longer_than_until_a_signal() {
    let lab = Lab::new();
    let (folder, path) = report();
    let fifo = folder.path().join("fifo").display().to_string();
    // A pipe that is full, and that nobody reads.
    let script = format!(
        "mkfifo {fifo} && exec 3<>{fifo} && head -c 65536 /dev/zero >&3 && \
         exec {TAP_REACTOR} --netns host --ping vm0:vm1 --count 3 --json --output {path} >&3"
    );
    let mut run = lab.start(&["sh", "-c", &script]);
    wait_until("the report in a file", || {
        run.expect_alive();
        std::fs::exists(&path)
            .expect("look for a file")
            .then_some(())
    });
    run.signal(Signal::SIGINT);
    let run = run.wait().expect_status(3);
    assert!(run.stderr.contains("nobody reads it"), "{}", run.stderr);
    assert_eq!(received(&path), 3);
    assert_eq!(lab.link_names(), [""; 0]);
}
