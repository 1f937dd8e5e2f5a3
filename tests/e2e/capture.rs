//! Captures, read by a witness that is not ours: tshark.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use nix::libc::O_NONBLOCK;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use tap_reactor::report::span;
use tempfile::TempDir;

use crate::lab::{Finished, Lab, TAP_REACTOR, succeed, wait_until};

/// A frame as tshark reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Nanoseconds since 1970.
    nanos: u64,
    pub interface: String,
    is_inbound: bool,
    captured: usize,
    comment: String,
}

fn tshark(file: &Path, arguments: &[&str]) -> String {
    let path = file.to_str().expect("a path in UTF-8");
    succeed(
        Command::new("tshark")
            .args(["-n", "-r", path])
            .args(arguments),
    )
}

/// The frames of a capture.
pub fn read(file: &Path) -> Vec<Frame> {
    let fields = [
        "frame.time_epoch",
        "frame.interface_name",
        "frame.packet_flags_direction",
        "frame.cap_len",
        "frame.comment",
    ];
    let fields = fields.iter().flat_map(|field| ["-e", field]);
    let arguments: Vec<&str> = ["-T", "fields"].into_iter().chain(fields).collect();
    let text = tshark(file, &arguments);
    text.lines().map(frame).collect()
}

fn frame(line: &str) -> Frame {
    let mut fields = line.split('\t');
    let mut next = || fields.next().unwrap_or_default();
    let (seconds, fraction) = next().split_once('.').expect("a time");
    let nanos = |text: &str| text.parse::<u64>().expect("digits");
    Frame {
        nanos: nanos(seconds) * 1_000_000_000 + nanos(fraction),
        interface: next().to_owned(),
        is_inbound: next() == "0x00000001",
        captured: next().parse().expect("a length"),
        comment: next().to_owned(),
    }
}

/// Counts the frames that were sent with a comment for which `is_it` returns true.
fn count(frames: &[Frame], is_it: impl Fn(&str) -> bool) -> u64 {
    let sent = frames.iter().filter(|frame| !frame.is_inbound);
    sent.filter(|frame| is_it(&frame.comment)).count() as u64
}

fn is_answered(comment: &str) -> bool {
    comment.starts_with("ping ") && comment.contains(" later")
}

fn is_lost(comment: &str) -> bool {
    let is_request = comment.starts_with("ping ");
    is_request && (comment.contains("no answer in time") || comment.contains("its timeout"))
}

/// A run that is captured in a folder of its own.
struct Captured {
    _lab: Lab,
    folder: TempDir,
    run: Finished,
    report: Value,
}

impl Captured {
    fn new(arguments: &str) -> Captured {
        Captured::with(arguments, &[])
    }

    /// With further arguments, which may have spaces in them.
    fn with(arguments: &str, further: &[&str]) -> Captured {
        let folder = TempDir::new().expect("make a temporary directory");
        let lab = Lab::new();
        let (file, report) = (
            folder.path().join("run.pcapng"),
            folder.path().join("r.json"),
        );
        let output = format!(
            "--capture {} --output {} {arguments}",
            file.display(),
            report.display()
        );
        let mut command: Vec<&str> = vec![TAP_REACTOR];
        command.extend(output.split_whitespace());
        command.extend(further);
        let run = lab.run(&command);
        let text = fs::read(&report).unwrap_or_else(|_| panic!("no report: {run:?}"));
        Captured {
            _lab: lab,
            run,
            report: serde_json::from_slice(&text).expect("a whole report"),
            folder,
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("run.pcapng")
    }

    fn frames(&self) -> Vec<Frame> {
        read(&self.file())
    }

    fn recording(&self, field: &str) -> u64 {
        let value = &self.report["recordings"][0][field];
        value
            .as_u64()
            .unwrap_or_else(|| panic!("{field}: {}", self.report["recordings"]))
    }

    fn total(&self, field: &str) -> u64 {
        self.report["totals"][field].as_u64().expect("a count")
    }
}

/// The pings that a trace says were answered, by VM and number, and in which time.
fn answered_by_trace(trace: &str) -> BTreeMap<(String, u64), String> {
    let answered = trace.lines().filter_map(|line| {
        let (vm, rest) = line.trim().split_once("  ")?.1.split_once("   ping id ")?;
        let (number, time) = rest.split_once(" answered in ")?;
        let (_, number) = number.split_once(" seq ")?;
        Some(((vm.to_owned(), number.parse().ok()?), time.to_owned()))
    });
    answered.collect()
}

#[test]
fn comments_and_times_agree_with_the_trace_and_the_report_on_every_fabric() {
    for (fabric, network) in [
        ("--fabric bridge --netns host", ""),
        ("--fabric xdp --netns host", ""),
        ("--fabric sim --seed 7 --impair loss=10% --timeout 50ms", ""),
        (
            "--fabric bridge --netns host --timeout 30ms",
            "--impair vm[0-1]:delay=2ms --impair vm1:in:loss=20%",
        ),
        ("--fabric bridge --netns host", "--ipv6 --ping-ipv6"),
        ("--fabric bridge --netns host", "--vlan 100.200"),
        ("--fabric sim", "--size 4000 --allow-fragmentation"),
    ] {
        let run = Captured::new(&format!(
            "{fabric} {network} --vms 3 --ping ring --count 20 --interval 2ms -v"
        ));
        let (frames, trace) = (run.frames(), &run.run.stderr);
        assert_eq!(frames.len() as u64, run.recording("records"), "{fabric}");
        assert_eq!((run.recording("dropped"), run.recording("unknown")), (0, 0));
        let told = |arrow| trace.matches(arrow).count();
        let inbound = frames.iter().filter(|frame| frame.is_inbound).count();
        assert_eq!(inbound, told(" ← "), "{fabric} {network}");
        assert_eq!(frames.len() - inbound, told(" → "), "{fabric} {network}");
        assert_eq!(
            count(&frames, is_answered),
            run.total("received"),
            "{fabric} {network}"
        );
        assert_eq!(count(&frames, is_lost), run.total("lost"), "{fabric}");
        assert!(frames.is_sorted_by_key(|frame| frame.nanos), "{fabric}");
        let impaired = run.report["impairments"].as_array();
        let impaired = impaired
            .into_iter()
            .flatten()
            .filter_map(|it| it["frames"].as_u64());
        let told = frames
            .iter()
            .filter(|frame| frame.comment.ends_with(" by --impair"));
        assert_eq!(
            told.count() as u64,
            impaired.sum::<u64>(),
            "{fabric} {network}"
        );
        assert!(frames.iter().all(|frame| !frame.comment.is_empty()));

        let answered = answered_by_trace(trace);
        assert_eq!(answered.len() as u64, run.total("received"), "{trace}");
        for ((vm, number), time) in answered {
            let sent = format!("ping {number} of {vm} → ");
            let request = frames.iter().find(|frame| frame.comment.starts_with(&sent));
            let request = request.unwrap_or_else(|| panic!("no {sent}"));
            let later = format!(": answered {time} later");
            assert!(request.comment.contains(&later), "{request:?} {later:?}");
            assert_eq!(request.interface, vm.replace("vm", "tap"));
            // The last piece of it, where it is in some.
            let reply = format!("reply to {sent}");
            let received = |frame: &&Frame| {
                frame.comment.contains(&reply) && frame.interface == request.interface
            };
            let reply = frames.iter().rfind(received).expect("a reply");
            let elapsed = span(reply.nanos - request.nanos);
            assert_eq!(elapsed, time, "{request:?} {reply:?}");
        }
    }
}

#[test]
fn wireshark_finds_no_fault_and_shows_the_names_of_vms() {
    let run = Captured::new("--netns host --vms 3 --ping ring --count 10 --interval 1ms --ipv6");
    let faults = tshark(&run.file(), &["-q", "-z", "expert,error"]);
    assert!(!faults.contains("Errors"), "{faults}");
    let file = run.file();
    let named = ["-N", "n", "-r", file.to_str().expect("a path in UTF-8")];
    let named = succeed(Command::new("tshark").args(named));
    assert!(named.contains("vm0 → vm1"), "{named}");
    let about = succeed(Command::new("capinfos").arg(run.file()));
    for words in [
        "nanoseconds (9)",
        "Name = tap2",
        "Description = vm2 10.77.0.4 fd77::4",
        "Capture application: tap-reactor",
        "--ping ring --count 10",
        "seed 0",
        "Strict time order:   True",
    ] {
        assert!(about.contains(words), "{words}: {about}");
    }
}

#[test]
fn a_capture_can_be_cut_to_some_vms_some_bytes_and_no_comments() {
    let run = Captured::new(
        "--fabric sim --vms 4 --ping pairs --count 10 --interval 1ms --capture-vms vm[1-2] \
         --capture-snap 40 --capture-comments off",
    );
    let frames = run.frames();
    assert!(
        frames
            .iter()
            .all(|it| it.captured == 40 && it.comment.is_empty())
    );
    let of = |interface| frames.iter().filter(|it| it.interface == interface).count();
    assert_eq!(of("tap1") + of("tap2"), frames.len());
    assert!(of("tap1") >= 20 && of("tap2") >= 20);
}

#[test]
fn an_impaired_frame_is_captured_once_and_says_what_was_done_to_it() {
    for fabric in ["bridge --netns host", "sim"] {
        let run = Captured::new(&format!(
            "--fabric {fabric} --resolve static --vms 2 --ping vm0:vm1 --count 20 --interval 1ms \
             --impair vm0:every=4 --impair vm1:in:delay=5ms --timeout 2s"
        ));
        let frames = run.frames();
        let says = |words: &str| {
            let told = frames.iter().filter(|frame| frame.comment.ends_with(words));
            told.count()
        };
        assert_eq!(run.total("lost"), 5);
        // Of each ping that is not lost its request and its reply, sent and received.
        assert_eq!(frames.len(), 5 + 4 * 15, "{fabric}");
        let lost = "no answer in time, request impaired on purpose; lost by --impair";
        assert_eq!(says(lost), 5, "{fabric}");
        assert_eq!(says("; delayed 5.00 ms by --impair"), 15, "{fabric}");
    }
}

#[test]
fn a_frame_that_was_never_released_is_captured_and_says_so() {
    for fabric in ["bridge --netns host", "sim"] {
        for (who, interface) in [("vm0", "tap0"), ("vm1:in", "tap1")] {
            for around in ["", "--capture-on-loss 5"] {
                let run = Captured::new(&format!(
                    "--fabric {fabric} --resolve static --vms 2 --ping vm0:vm1 --count 3 --interval 1ms \
                     --timeout 50ms --impair {who}:delay=10s {around}"
                ));
                let frames = run.frames();
                let told = frames.iter().filter(|frame| {
                    let end = "; never released by --impair";
                    frame.comment.starts_with("ping ") && frame.comment.ends_with(end)
                });
                let told: Vec<&str> = told.map(|frame| frame.interface.as_str()).collect();
                assert_eq!(told, [interface; 3], "{fabric} {who} {around}: {frames:?}");
                let is_delayed = |frame: &Frame| frame.comment.contains("delayed");
                assert!(!frames.iter().any(is_delayed), "{frames:?}");
            }
        }
    }
}

#[test]
fn a_frame_whose_release_is_to_come_after_its_comment_says_that() {
    let run = Captured::new(
        "--fabric sim --resolve static --vms 3 --ping vm0:vm1 --ping vm1:vm2 --count 25 --interval 100ms \
         --timeout 50ms --impair vm0:delay=2s",
    );
    let frames = run.frames();
    let first = "ping 0 of vm0 → vm1: no answer in time, request impaired on purpose; to be delayed 2.00 s by \
                 --impair";
    assert_eq!(frames[0].comment, first);
}

#[test]
fn each_fragment_of_a_ping_says_to_which_ping_it_belongs() {
    for fabric in ["bridge --netns host", "sim"] {
        for (network, way) in [
            ("", ""),
            ("--ipv6 --ping-ipv6", ""),
            ("--vlan 100.200", ""),
            ("--impair vm1:every=3", "--capture-on-loss 100"),
        ] {
            let run = Captured::new(&format!(
                "--fabric {fabric} {network} {way} --vms 2 --ping vm0:vm1 --size 4000 --allow-fragmentation \
                 --resolve static --count 2 --interval 1ms --timeout 100ms"
            ));
            let frames = run.frames();
            for number in 0..2 {
                for (name, end) in [
                    ("ping", "tap0"),
                    ("ping", "tap1"),
                    ("reply to ping", "tap1"),
                ] {
                    let name = format!("{name} {number} of vm0 → vm1: ");
                    let pieces: Vec<&str> = frames
                        .iter()
                        .filter(|frame| frame.interface == end)
                        .filter_map(|frame| frame.comment.split_once(&name))
                        .map(|(before, _)| before)
                        .filter(|before| !before.ends_with("reply to "))
                        .collect();
                    let expected = ["", "fragment 2 of 3 of ", "fragment 3 of 3 of "];
                    assert_eq!(pieces, expected, "{fabric} {network}: {name} {frames:#?}");
                }
            }
        }
    }
}

#[test]
fn what_vms_send_when_the_lab_is_taken_away_is_captured() {
    let scenario = tempfile::NamedTempFile::with_suffix(".toml").expect("a temporary file");
    let text = "[[group]]\nname = 'others'\nvms = 1\n[[group]]\nname = 'members'\nvms = 2\n\
                join = ['239.1.2.3']\n[[phase]]\nping = ['vm0:vm1']\ncount = 3\ninterval = '1ms'\n";
    fs::write(scenario.path(), text).expect("write a scenario");
    for fabric in ["bridge --netns host", "sim"] {
        let run = Captured::new(&format!(
            "--fabric {fabric} --scenario {} -v",
            scenario.path().display()
        ));
        let leaving = tshark(&run.file(), &["-Y", "igmp.record_type == 3"]);
        assert_eq!(leaving.lines().count(), 2, "{fabric}: {leaving}");
        // The report knows of these frames, and so does a trace.
        let frames = run.frames();
        assert_eq!(frames.len() as u64, run.recording("records"), "{fabric}");
        let sent = frames.iter().filter(|frame| !frame.is_inbound).count();
        assert_eq!(sent, run.run.stderr.matches(" → ").count(), "{fabric}");
        assert_eq!(run.total("sent"), 3);
    }
}

#[test]
fn a_capture_without_a_fabric_has_the_pings_of_the_kernel_and_those_to_it() {
    let hook = "[ $TAP_REACTOR_EVENT = down ] || { \
                ip address add 10.77.0.1/24 dev tap0 && ip link set tap0 up && \
                (sleep 0.3; ping -q -c 3 -i 0.2 10.77.0.2 >&2) & }";
    let run = Captured::with(
        "--fabric none --netns host --vms 1 --ping vm0:10.77.0.1 --count 20 --interval 50ms --hook",
        &[hook],
    );
    let frames = run.frames();
    let of = |arguments: &[&str]| {
        let of = tshark(&run.file(), arguments);
        of.lines().count()
    };
    assert_eq!(run.total("received"), 20);
    assert_eq!(count(&frames, is_answered), 20, "{frames:#?}");
    let asked = of(&["-Y", "icmp.type == 8 && ip.src == 10.77.0.1"]);
    let answered = of(&["-Y", "icmp.type == 0 && ip.dst == 10.77.0.1"]);
    assert_eq!((asked, answered), (3, 3), "{frames:#?}");
    assert!(frames.iter().all(|frame| frame.interface == "tap0"));
    assert!(frames.is_sorted_by_key(|frame| frame.nanos));
}

#[test]
fn a_capture_around_losses_has_the_lost_pings_and_what_was_near_them() {
    let run = Captured::new(
        "--fabric sim --seed 3 --vms 2 --ping vm0:vm1 --count 2000 --interval 1ms --timeout 20ms \
         --impair loss=0.2% --capture-on-loss 3",
    );
    let frames = run.frames();
    let lost = run.total("lost");
    assert!(lost > 2);
    assert_eq!(count(&frames, is_lost), lost);
    assert!(frames.len() as u64 <= lost * 7, "{}", frames.len());
    let clean = Captured::new("--fabric sim --count 100 --ping vm0:vm1 --capture-on-loss 3");
    assert_eq!(clean.frames(), []);
}

#[test]
fn a_limit_ends_the_file_or_begins_the_next_one() {
    let long = "--fabric sim --vms 2 --ping vm0:vm1 --count 4000 --interval 1ms";
    let run = Captured::new(&format!("{long} --capture-limit 100k"));
    let frames = run.frames().len() as u64;
    assert!(fs::metadata(run.file()).expect("a file").len() <= 100_000);
    assert_eq!(frames, run.recording("records"));
    assert!(run.recording("dropped") > 10_000);
    let why = "ended early: the limit of the file was reached";
    assert!(run.run.stdout.contains(why), "{:?}", run.run);
    assert_eq!((run.run.status, run.total("received")), (0, 4_000));

    let run = Captured::new(&format!("{long} --capture-limit 100k*3"));
    let files = run.recording("files");
    assert!(files > 3);
    let mut frames = Vec::new();
    for number in files - 2..=files {
        let file = run.folder.path().join(format!("run.{number}.pcapng"));
        assert!(fs::metadata(&file).expect("a file").len() <= 100_000);
        frames.extend(read(&file));
    }
    assert_eq!(
        fs::read_dir(run.folder.path()).expect("a folder").count(),
        4
    );
    assert!(frames.is_sorted_by_key(|frame| frame.nanos));
    assert!(
        is_answered(&frames[frames.len() - 4].comment),
        "{:?}",
        frames.last()
    );
    assert_eq!(run.recording("dropped"), 0);
}

#[test]
fn a_file_is_whole_after_a_signal() {
    let lab = Lab::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let folder = TempDir::new().expect("make a temporary directory");
        let file = folder.path().join("run.pcapng");
        let arguments = "--netns host --vms 2 --ping vm0:vm1 --interval 1ms --quiet";
        let mut run = lab.start_tap_reactor(&format!("{arguments} --capture {}", file.display()));
        lab.wait_until_vm_sent(&mut run, "tap0", 50);
        run.signal(signal);
        assert!(run.wait().status < 2, "{signal}");
        let frames = read(&file);
        assert!(count(&frames, is_answered) >= 40, "{signal}");
        assert_eq!(count(&frames, |comment| comment.ends_with("known yet")), 0);
    }
}

#[test]
fn a_full_disk_ends_the_file_and_not_the_run() {
    let folder = TempDir::new().expect("make a temporary directory");
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).expect("make a directory");
    let (none, flags) = (None::<&str>, MsFlags::empty());
    mount(Some("tmpfs"), &disk, Some("tmpfs"), flags, Some("size=2m")).expect("mount a tmpfs");
    let _ = none;
    let (file, report) = (disk.join("run.pcapng"), folder.path().join("r.json"));
    let lab = Lab::new();
    let run = lab.tap_reactor(&format!(
        "--netns host --vms 2 --ping vm0:vm1 --count 20000 --window 1 --capture {} --output {}",
        file.display(),
        report.display()
    ));
    let frames = read(&file).len() as u64;
    umount2(&disk, MntFlags::MNT_DETACH).expect("unmount it");
    let run = run.expect_status(1);
    let said = format!(
        "tap-reactor: the capture {} is not complete: No space",
        file.display()
    );
    assert!(run.stderr.contains(&said), "{run:?}");
    let report = fs::read(&report).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("a whole report");
    assert_eq!(report["totals"]["received"], 20_000);
    let recording = &report["recordings"][0];
    assert_eq!(recording["records"], frames);
    assert!(frames > 1_000);
    let all = recording["dropped"].as_u64().expect("a count") + frames;
    let (read, written) = (
        &report["reactor"]["frames_in"],
        &report["reactor"]["frames_out"],
    );
    assert_eq!(
        Some(all),
        read.as_u64().zip(written.as_u64()).map(|(a, b)| a + b)
    );
}

#[test]
fn a_limit_of_file_sizes_ends_the_file_and_not_the_run() {
    let folder = TempDir::new().expect("make a temporary directory");
    let file = folder.path().join("run.pcapng");
    let run = format!(
        "ulimit -f 200; {TAP_REACTOR} --netns host --vms 2 --ping vm0:vm1 --count 5000 --window 1 --capture {}",
        file.display()
    );
    let run = Lab::new().run(&["bash", "-c", &run]).expect_status(1);
    let said = format!(
        "tap-reactor: the capture {} is not complete: File too large",
        file.display()
    );
    assert!(run.stderr.contains(&said), "{run:?}");
    assert!(run.stdout.contains("5,000 received"), "{run:?}");
    assert!(!read(&file).is_empty());
}

#[test]
fn standard_output_is_read_live_and_its_reader_may_go() {
    let lab = Lab::new();
    let run = format!(
        "{TAP_REACTOR} --netns host --vms 2 --ping vm0:vm1 --count 50 --interval 2ms --capture -"
    );
    // Everything, with the report beside it.
    let fields = "-T fields -e frame.comment";
    let script = format!("{run} | tshark -r - {fields}; exit ${{PIPESTATUS[0]}}");
    let whole = lab.run(&["bash", "-c", &script]).expect_status(0);
    let answered = whole.stdout.lines().filter(|line| is_answered(line));
    assert_eq!(answered.count(), 50);
    assert!(whole.stderr.contains("50 sent, 50 received"), "{whole:?}");
    // A reader that ends first, and ends nothing else.
    for reader in ["head -c 1000 >/dev/null", "true"] {
        let script = format!("{run} | {reader}; exit ${{PIPESTATUS[0]}}");
        let cut = lab.run(&["bash", "-c", &script]);
        assert!(
            cut.stderr.contains("50 sent, 50 received"),
            "{reader}: {cut:?}"
        );
        assert!(
            cut.stderr.contains("ended early: its reader has gone"),
            "{reader}: {cut:?}"
        );
        assert_eq!(cut.status, 0, "{reader}: {cut:?}");
    }
    // While the run goes on.
    let endless = run.replace("--count 50 --interval 2ms", "--interval 50ms --quiet");
    let script = format!("{endless} | tshark -l -r - {fields}");
    let mut pipeline = lab.start(&["bash", "-c", &script]);
    wait_until("a ping to be shown", || {
        pipeline.expect_alive();
        pipeline.stdout().lines().any(is_answered).then_some(())
    });
    for process in succeed(Command::new("pgrep").args(["-P", &pipeline.pid().to_string()])).lines()
    {
        let pid = nix::unistd::Pid::from_raw(process.parse().expect("a process"));
        let _ = nix::sys::signal::kill(pid, Signal::SIGINT);
    }
    pipeline.wait();
}

#[test]
fn a_fifo_is_waited_for_and_a_slow_reader_costs_counted_frames() {
    let lab = Lab::new();
    let folder = TempDir::new().expect("make a temporary directory");
    let (fifo, report) = (folder.path().join("frames"), folder.path().join("r.json"));
    mkfifo(&fifo, Mode::S_IRWXU).expect("a FIFO");
    let run = lab.start_tap_reactor(&format!(
        "--netns host --vms 2 --ping vm0:vm1 --count 30000 --window 1 --size 1400 --capture {} --output {}",
        fifo.display(),
        report.display()
    ));
    wait_until("the FIFO to be waited for", || {
        run.stderr().contains("waiting for a reader").then_some(())
    });
    // It is opened, and not read before the run is over: more comes than there is room for.
    let reader = File::options()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(&fifo);
    let mut reader = reader.expect("open the FIFO");
    let mut bytes = Vec::new();
    let mut run = run;
    wait_until("the pings", || {
        let frames = lab.frames("tap0").map_or(0, |frames| frames.sent_by_vm);
        (frames >= 30_000 || !run.is_alive()).then_some(())
    });
    wait_until("the end of the file", || {
        let mut piece = vec![0; 1 << 20];
        loop {
            match reader.read(&mut piece) {
                Ok(0) => return Some(()),
                Ok(length) => bytes.extend_from_slice(&piece[..length]),
                Err(_) => return None,
            }
        }
    });
    run.wait().expect_status(0);
    let file = folder.path().join("run.pcapng");
    fs::write(&file, &bytes).expect("write what was read");
    let report = fs::read(&report).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("a whole report");
    let recording = &report["recordings"][0];
    assert!(recording["dropped"].as_u64() > Some(1_000), "{recording}");
    assert_eq!(recording["records"], read(&file).len() as u64);
    assert_eq!(report["totals"]["received"], 30_000);
}

#[test]
fn a_capture_that_can_not_be_is_refused_in_a_line() {
    let lab = Lab::new();
    let sim = "--fabric sim --ping vm0:vm1 --count 1";
    for (arguments, expected) in [
        (
            "--capture /nowhere/run.pcapng",
            "--capture /nowhere/run.pcapng: the folder /nowhere does not exist",
        ),
        (
            "--capture /tmp",
            "--capture /tmp: that is a folder; expected the name of a file",
        ),
        (
            "--capture /dev/null --capture-snap 3",
            "--capture-snap 3: expected 14 to 262144",
        ),
        (
            "--capture /dev/null --capture-vms vm7",
            "--capture-vms vm7: there is no vm7; expected vm0 to vm1",
        ),
        (
            "--capture /dev/null --capture-vms some",
            "--capture-vms some: \"some\" names no VMs; expected vmI, vm[I-J], the name of a group, or all",
        ),
        (
            "--capture /dev/null --capture-limit 9",
            "--capture-limit 9: expected a size of 100000 bytes or more, such as 100M, or 100M*5 for the last 5 files of that size",
        ),
        (
            "--capture - --capture-limit 1M*3",
            "--capture-limit 1M*3: standard output is one file; expected a size alone, such as 100M",
        ),
        (
            "--capture - --json",
            "--capture -: cannot be used with --json, which takes standard output too",
        ),
        (
            "--capture-on-loss 5",
            "--capture-on-loss 5: expected --capture beside it",
        ),
        (
            "--capture /tmp/r.json -o /tmp/r.json",
            "--capture /tmp/r.json: something else is written there; expected another file",
        ),
        (
            "--capture /tmp/r.json --capture-limit 1M*3 -o /tmp/r.12.json",
            "--capture /tmp/r.json: /tmp/r.12.json is one of its files, and is used otherwise; expected another file",
        ),
        (
            "--capture /tmp/r.json --capture-limit 1M*3 --trace /tmp/../tmp/r.1.json",
            "--capture /tmp/r.json: /tmp/r.1.json is one of its files, and is used otherwise; expected another file",
        ),
        (
            "--capture /dev/stdout",
            "--capture /dev/stdout: that is standard output; expected - for it",
        ),
    ] {
        let run = lab
            .tap_reactor(&format!("{sim} {arguments}"))
            .expect_status(2);
        assert_eq!(
            run.stderr,
            format!("tap-reactor: {expected}\n"),
            "{arguments}"
        );
    }
}
