//! `tap-reactor ctl`: a real lab that is steered, asked and watched, by command lines, on a terminal, by scripts, and as the
//! guide has it.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal::{SIGINT, SIGKILL, SIGTERM};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::{Value, json};

use self::terminal::Terminal;
use crate::lab::{Finished, Lab, Running, Socket, TAP_REACTOR, number, run_in, wait_until};

mod guide;
mod terminal;

/// A lab with a control socket in a folder of its own.
struct Controlled {
    socket: Socket,
    lab: Lab,
}

impl Controlled {
    fn new() -> Controlled {
        Controlled {
            socket: Socket::new(),
            lab: Lab::new(),
        }
    }

    fn socket(&self) -> String {
        self.socket.path().display().to_string()
    }

    fn folder(&self) -> &Path {
        self.socket.folder.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.socket.file(name)
    }

    fn start(&self, arguments: &str) -> Running {
        self.socket.start(&self.lab, arguments)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(TAP_REACTOR);
        command.args(["ctl", &self.socket()]).args(words);
        command.current_dir(self.folder());
        command
    }

    /// Runs a command to its end, with `input` as its standard input.
    fn run_with(&self, words: &[&str], input: &str) -> Finished {
        let socket = self.socket();
        let command = [&[TAP_REACTOR, "ctl", &socket], words].concat();
        run_in(self.folder(), &command, input)
    }

    fn run(&self, line: &str) -> Finished {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.run_with(&words, "")
    }

    /// What a command prints that has to succeed.
    fn text(&self, line: &str) -> String {
        let run = self.run(line).expect_status(0);
        assert_eq!(run.stderr, "", "{line}");
        run.stdout
    }

    fn json(&self, line: &str) -> Value {
        let text = self.text(&format!("{line} --json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
    }

    /// Waits until the lab's document is as expected.
    fn wait_for(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        wait_until(what, || Some(self.json("status")).filter(|lab| is_so(lab)))
    }
}

#[test]
fn every_command_does_what_it_says() {
    let ctl = Controlled::new();
    let run = ctl.start("--netns host --vms 3");
    // VMs.
    assert_eq!(ctl.text("add-vms 2"), "vm3 and vm4 start\n");
    ctl.wait_for("two more VMs", |lab| lab["vms"] == 5);
    assert!(ctl.text("status").contains("  5 VMs  0 flows\n"));
    let vms = ctl.text("vms");
    assert_eq!(vms.lines().count(), 6, "{vms}");
    assert!(vms.contains("\nvm4  up     10.77.0.6"), "{vms}");
    assert_eq!(ctl.json("vms")["items"][4], ctl.json("vms vm4"));
    assert_eq!(ctl.text("vms vm1").lines().count(), 2);
    assert_eq!(ctl.text("remove vm4"), "vm4 stops\n");
    ctl.wait_for("a VM fewer", |lab| lab["vms"] == 4);
    // Load and flows.
    assert_eq!(
        ctl.text("rate 1k"),
        "1000 pings per second over all flows\n"
    );
    assert_eq!(ctl.json("window 2"), json!({ "window": 2 }));
    assert_eq!(ctl.text("interval 5ms"), "a ping of each flow every 5ms\n");
    assert_eq!(ctl.text("flow vm0:vm1"), "flow 0 begins\n");
    let own = ctl.json("flow vm[1-2]:vm3 --rate 200 --count 5 --size 100");
    assert_eq!(own, json!({ "flows": 2, "first": 1 }));
    ctl.wait_for("pings", |lab| number(lab, "/totals/received") > 50);
    assert_eq!(ctl.text("end-flow 0"), "flow 0 has ended\n");
    let flows = ctl.text("flows");
    assert!(flows.contains("vm2 → vm3"), "{flows}");
    assert_eq!(ctl.json("flows")["items"][1]["totals"]["sent"], 5);
    assert_eq!(ctl.text("flow vm0:vm1"), "flow 3 begins\n");
    // Impairments, and a capture of what they lose.
    assert_eq!(ctl.text("impairments"), "no impairments\n");
    let loss = ctl.file("loss.pcapng");
    let captured = ctl.text("capture loss.pcapng --capture-on-loss 2 --capture-vms vm1");
    let begins = format!("capture 0 into {} begins\n", loss.display());
    assert_eq!(captured, begins);
    assert!(
        ctl.text("impair vm1:loss=100%")
            .starts_with("vm1:loss=100%\n")
    );
    let lab = ctl.wait_for("lost pings", |lab| number(lab, "/totals/lost") > 3);
    assert_eq!(lab["impairments"], json!([{ "impair": "vm1:loss=100%" }]));
    let worst = ctl.text("flows --worst 1");
    assert_eq!(worst.lines().count(), 2, "{worst}");
    assert!(worst.contains("3     vm0 → vm1"), "{worst}");
    let frames = ctl.text("impairments");
    assert!(
        frames.contains("\nvm1  ") && frames.contains("  lost  "),
        "{frames}"
    );
    assert_eq!(ctl.json("end-impairments")["rules"], json!([]));
    let file = loss.display().to_string();
    assert_eq!(ctl.json("captures")["items"][0]["file"], file.as_str());
    assert!(ctl.text("end-capture 0").contains(&file));
    assert_eq!(ctl.json("captures")["total"], 0);
    // A mark, which the events have.
    let mut events = ctl.command(&["events", "--json"]);
    let events = Running::start({
        events.stdin(Stdio::null());
        events
    });
    wait_until("an event", || events.stdout().contains('\n').then_some(()));
    assert!(ctl.text("mark policy").starts_with("mark policy at "));
    let mark = ctl.json("mark again");
    assert_eq!(mark["name"], "again");
    assert!(ctl.text("status").contains("\nmark again  "));
    // Reports and metrics.
    assert!(ctl.text("report").contains("in all: "));
    assert!(ctl.text("report csv").starts_with("kind,phase,"));
    let report = ctl.json("report");
    assert_eq!(report["flows"].as_array().map(Vec::len), Some(4));
    assert_eq!(ctl.text("report -o a.html -o b.json"), "");
    let page = fs::read_to_string(ctl.file("a.html")).expect("a page");
    assert!(page.starts_with("<!doctype html>"), "{page}");
    let saved = format!("{TAP_REACTOR} report {}", ctl.file("b.json").display());
    let saved: Vec<&str> = saved.split(' ').collect();
    assert!(
        ctl.lab
            .run(&saved)
            .expect_status(0)
            .stdout
            .contains("in all: ")
    );
    let metrics = ctl.text("metrics");
    assert!(metrics.contains("\ntap_reactor_vms 4\n"), "{metrics}");
    // Help.
    assert!(ctl.text("help").contains("\nadd-vms N\n"));
    assert!(ctl.text("help flow").contains("--rate R"));
    // The end, which those hear who wait.
    assert_eq!(ctl.text("stop"), "the run ends\n");
    let run = run.wait();
    assert!(run.status <= 1, "{run:?}");
    let events = events.wait().expect_status(0);
    assert_eq!(events.stderr, "the lab has ended\n");
    for line in events.stdout.lines() {
        serde_json::from_str::<Value>(line).expect("an event");
    }
    assert!(fs::metadata(&loss).expect("the capture").len() > 500);
}

#[test]
fn a_capture_on_loss_lacks_no_ping_that_was_on_its_way_when_it_began_or_ended() {
    for timeout in ["100ms", "5s"] {
        let ctl = Controlled::new();
        let run = ctl.start(&format!(
            "--netns host --vms 2 --ping vm0:vm1 --interval 5ms --timeout {timeout} --expect loss<=100%"
        ));
        ctl.wait_for("pings", |lab| number(lab, "/totals/received") > 0);
        // Of what is lost from now on, some is on its way when the capture begins.
        ctl.text("impair vm1:loss=100%");
        let sent = |more: u64| {
            let sent = number(&ctl.json("status"), "/totals/sent");
            ctl.wait_for("more pings", |lab| {
                number(lab, "/totals/sent") >= sent + more
            });
        };
        sent(10);
        ctl.text("capture e.pcapng --capture-on-loss 2");
        sent(40);
        let ended = ctl.text("end-capture 0");
        let unknown = "written before it was known what came of the ping";
        assert!(ended.contains(unknown), "{ended}");
        assert!(
            ended.ends_with("; ended early: it was ended by request\n"),
            "{ended}"
        );
        // The end of a run waits for what is on its way.
        ctl.text("capture f.pcapng --capture-on-loss 2");
        ctl.text("end-impairments");
        sent(10);
        ctl.text("stop");
        let run = run.wait().expect_status(0);
        assert_eq!(run.stderr, "", "{timeout}");
        let file = ctl.file("e.pcapng").display().to_string();
        let frames = crate::lab::succeed(Command::new("tshark").args(["-r", &file]));
        assert!(frames.lines().count() >= 40, "{timeout}: {frames}");
    }
}

#[test]
fn a_capture_that_has_failed_is_told_as_such() {
    let ctl = Controlled::new();
    let disk = ctl.file("tm");
    fs::create_dir(&disk).expect("make a directory");
    let size = Some("size=300k");
    mount(Some("tmpfs"), &disk, Some("tmpfs"), MsFlags::empty(), size).expect("mount a tmpfs");
    let run = ctl.start("--netns host --vms 2 --ping vm0:vm1 --window 1");
    ctl.text("capture tm/c.pcapng");
    wait_until("a disk that is full", || {
        let captures = ctl.json("captures");
        (captures["items"][0]["has_failed"] == true).then_some(())
    });
    let told = ctl.text("captures");
    let ended = ctl.text("end-capture 0");
    ctl.text("stop");
    umount2(&disk, MntFlags::MNT_DETACH).expect("unmount it");
    for told in [told, ended] {
        assert!(told.contains("\ncapture 0: has failed; "), "{told}");
        assert!(told.contains(" dropped; ended early: No space"), "{told}");
    }
    run.wait().expect_status(1);
}

#[test]
fn errors_are_one_line_and_their_kind_is_the_exit_status() {
    let ctl = Controlled::new();
    let run = ctl.start("--netns host --vms 2 --ping vm0:vm1 --interval 1ms");
    for (line, status, words) in [
        (
            "vms vm7",
            1,
            "error: there is no VM \"vm7\"; expected vm0 to vm1\n",
        ),
        ("remove vm7", 1, "error: "),
        ("flow vm0:vm7", 1, "expected vm0 to vm1"),
        ("flow vm0:vm1 --rate 5 --window 5", 1, "expected "),
        (
            "end-flow 7",
            1,
            "error: there is no flow 7; expected 0 to 0\n",
        ),
        ("impair vm0:nonsense", 1, "expected "),
        ("mark a/b", 1, "expected 1 to 64 letters, digits, - and _"),
        ("capture /nowhere/x", 1, "error: "),
        ("report gif", 1, "expected "),
        ("rate nonsense", 2, "expected pings per second"),
        ("nonsense", 2, "nonsense: no such command; expected status"),
        ("report -o /nowhere/x.html", 2, "/nowhere"),
        ("help nonsense", 2, "nonsense: no such command"),
    ] {
        let run = ctl.run(line);
        assert_eq!(run.status, status, "{line}: {run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{line}: {run:?}");
        assert!(run.stderr.contains(words), "{line}: {run:?}");
        assert_eq!(run.stdout, "", "{line}");
    }
    run.signal(SIGINT);
    run.wait();
}

#[test]
fn a_lab_that_is_not_there_is_told_in_one_line() {
    let ctl = Controlled::new();
    let file = |name: &str| ctl.file(name).display().to_string();
    fs::write(file("file"), "words").expect("a file");
    drop(UnixListener::bind(file("stale")).expect("a socket"));
    // Somebody who answers in another language, and one who says nothing more.
    let foreign = UnixListener::bind(file("foreign")).expect("a socket");
    let foreign = std::thread::Builder::new().spawn(move || {
        for words in [
            "220 mail\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        ] {
            let (mut client, _) = foreign.accept().expect("a client");
            client.write_all(words.as_bytes()).expect("words");
            let _ = std::io::Read::read(&mut client, &mut [0; 1024]);
        }
    });
    let name = "x".repeat(200);
    for (socket, words) in [
        (file("nothing"), "there is nothing; expected the path"),
        (file("file"), "that is no socket; expected the path"),
        (file("file/x"), "a part of the path is no folder"),
        (file(""), "that is no socket"),
        (
            file("stale"),
            "nobody listens there: the lab has been killed",
        ),
        (file(&name), "expected a path of at most 107 bytes"),
        (file("foreign"), "what answers is no lab of this version"),
        (file("foreign"), "the lab has ended before it had answered"),
        (
            "tcp:127.0.0.1:1".to_owned(),
            "nobody listens there; expected the address",
        ),
    ] {
        for command in ["status", "watch"]
            .iter()
            .take(if words.contains("answer") { 1 } else { 2 })
        {
            let run = ctl.lab.run(&[TAP_REACTOR, "ctl", &socket, command]);
            assert_eq!(run.status, 3, "{socket}: {run:?}");
            assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
            assert!(run.stderr.starts_with("error: "), "{run:?}");
            assert!(run.stderr.contains(words), "{run:?}");
        }
    }
    foreign
        .expect("a thread")
        .join()
        .expect("both were answered");
    // Another user's.
    let run = ctl.start("--netns host --vms 2");
    let socket = ctl.socket();
    fs::set_permissions(
        ctl.folder(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("a folder for all");
    let binary = ctl.file("tap-reactor");
    fs::copy(TAP_REACTOR, &binary).expect("copy the program");
    let binary = binary.display().to_string();
    let other = ctl.lab.run_as(1235, &[&binary, "ctl", &socket, "status"]);
    let other = other.expect_status(3);
    assert!(
        other
            .stderr
            .contains("it belongs to another user; expected"),
        "{other:?}"
    );
    run.signal(SIGKILL);
    run.wait();
}

#[test]
fn large_lists_are_fetched_page_by_page_and_a_reader_who_has_enough_is_no_error() {
    let ctl = Controlled::new();
    let run = ctl.start("--fabric sim --vms 2500 --ping ring --count 1 --stay");
    ctl.wait_for("the end of the run", |lab| lab["state"] == "over");
    for (line, items) in [("vms", 2500), ("flows", 2500), ("flows --worst 1500", 1500)] {
        let document = ctl.json(line);
        let found = document["items"].as_array().map(Vec::len);
        assert_eq!(
            (number(&document, "/total"), found),
            (2500, Some(items)),
            "{line}"
        );
        assert_eq!(ctl.text(line).lines().count(), items + 1);
    }
    let all = ctl.json("vms");
    assert_eq!(all["items"][2499]["name"], "vm2499");
    for line in ["vms", "vms --json", "report json", "metrics"] {
        let script = format!(
            "set -o pipefail; {TAP_REACTOR} ctl {} {line} | head -c 10",
            ctl.socket()
        );
        let run = ctl.lab.run(&["bash", "-c", &script]).expect_status(0);
        assert_eq!((run.stdout.len(), run.stderr.as_str()), (10, ""), "{line}");
    }
    run.signal(SIGINT);
    run.wait();
}

#[test]
fn a_script_does_a_command_a_line_and_ends_at_the_first_that_fails() {
    let ctl = Controlled::new();
    let run = ctl.start("--netns host --vms 2");
    let script = "# set-up\nadd-vms 1\n\n  flow 'vm0:vm1' --rate 100  # slowly\nmark \"policy\"\n";
    let done = ctl.run_with(&[], script).expect_status(0);
    assert!(
        done.stdout
            .starts_with("vm2 starts\nflow 0 begins\nmark policy at "),
        "{done:?}"
    );
    let documents = ctl
        .run_with(&["--json"], "add-vms 1\nflow vm1:vm0")
        .expect_status(0);
    assert_eq!(documents.stdout.lines().count(), 2, "{documents:?}");
    for (script, status, error) in [
        ("mark a\nremove vm9\nmark c\n", 1, "error: line 2: "),
        (
            "mark a\nmark\nmark c\n",
            2,
            "error: line 2: mark: nothing after it; expected mark NAME\n",
        ),
        (
            "mark a\nmark 'b\nmark c\n",
            2,
            "error: line 2: ': expected another one",
        ),
    ] {
        let failed = ctl.run_with(&[], script).expect_status(status);
        assert!(failed.stderr.starts_with(error), "{failed:?}");
        assert_eq!(failed.stdout.lines().count(), 1, "{failed:?}");
    }
    let left = ctl.run_with(&[], "mark a\nexit\nmark c\n").expect_status(0);
    assert_eq!(left.stdout.lines().count(), 1, "{left:?}");
    run.signal(SIGINT);
    run.wait();
    let gone = ctl.run_with(&[], "status\nstatus\n").expect_status(3);
    assert_eq!(gone.stderr.lines().count(), 1, "{gone:?}");
}

#[test]
fn watch_prints_a_line_each_time_where_there_is_no_terminal_and_ends_with_the_lab() {
    let ctl = Controlled::new();
    let run = ctl.start("--netns host --vms 2 --ping vm0:vm1 --interval 1ms");
    let start = |arguments: &[&str]| Running::start(ctl.command(arguments));
    // Several at once.
    let lines = start(&["watch", "--interval", "50ms"]);
    let documents = start(&["watch", "--interval", "50ms", "--json"]);
    for each in [&lines, &documents] {
        wait_until("lines", || {
            (each.stdout().lines().count() > 4).then_some(())
        });
    }
    ctl.text("stop");
    let (lines, documents) = (
        lines.wait().expect_status(0),
        documents.wait().expect_status(0),
    );
    run.wait();
    assert_eq!(lines.stderr, "the lab has ended\n");
    assert!(!lines.stdout.contains('\x1b'), "{lines:?}");
    let told: Vec<&str> = lines.stdout.lines().collect();
    assert!(
        told[3].contains("2 VMs  1 flow  ") && told[3].contains(" sent/s  "),
        "{lines:?}"
    );
    let sent = |line: &str| {
        number(
            &serde_json::from_str(line).expect("a document"),
            "/totals/sent",
        )
    };
    let sent: Vec<u64> = documents.stdout.lines().map(sent).collect();
    assert!(sent.is_sorted() && sent.last() > sent.first(), "{sent:?}");
}

/// The terminal is left for the screen of `watch`, and come back to.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

#[test]
fn watch_draws_a_screen_and_leaves_the_terminal_as_it_was_whatever_ends_it() {
    let ctl = Controlled::new();
    let run = ctl.start("--netns host --vms 3 --ping vm0:vm1 --interval 2ms --impair vm1:loss=10%");
    let socket = ctl.socket();
    let words = [TAP_REACTOR, "ctl", &socket, "watch", "--interval", "50ms"];
    for end in ["q", "Ctrl-C", "SIGTERM", "the lab"] {
        let mut terminal = Terminal::new();
        let child = terminal.start(&words, &[]);
        terminal.wait_for(ENTER);
        for part in [
            "lab.sock  running",
            "sent",
            "rtt",
            "impaired  vm1:loss=10%",
            "worst flows",
            "vm0 → vm1",
        ] {
            terminal.wait_for(part);
        }
        terminal.resize(20, 6);
        // The first screen of the new size: nothing on it is longer.
        wait_until("a screen of another size", || {
            terminal.wait_for("\x1b[H");
            let screen = terminal
                .wait_for("\x1b[J")
                .replace("\x1b[K", "")
                .replace("\x1b[J", "")
                // The terminal adds its own.
                .replace("\r\r\n", "\r\n");
            let lines: Vec<&str> = screen.split("\r\n").collect();
            let is_small = lines.len() == 6 && lines.iter().all(|line| line.chars().count() <= 20);
            is_small.then_some(())
        });
        let status = match end {
            "q" => {
                terminal.type_in("q");
                Some(0)
            }
            "Ctrl-C" => {
                terminal.type_in("\x03");
                Some(0)
            }
            "SIGTERM" => {
                kill(Pid::from_raw(child.id() as i32), SIGTERM).expect("a signal");
                None
            }
            _ => {
                ctl.text("stop");
                Some(0)
            }
        };
        let (found, shown) = terminal.wait(child);
        assert!(
            shown.contains(LEAVE) && shown.contains("\x1b[?25h"),
            "{end}: {shown:?}"
        );
        let (_, after) = shown.rsplit_once(LEAVE).expect("the end of the screen");
        assert!(!after.contains('\x1b'), "{end}: {after:?}");
        assert!(after.contains("3 VMs"), "{end}: {after:?}");
        assert_eq!(
            after.contains("the lab has ended"),
            end == "the lab",
            "{after:?}"
        );
        match status {
            Some(status) => assert_eq!(found.code(), Some(status), "{end}: {after}"),
            None => assert_eq!(found.signal(), Some(15), "{end}"),
        }
    }
    run.wait();
}

#[test]
fn the_shell_completes_words_and_names_and_outlives_errors() {
    let ctl = Controlled::new();
    let scenario = ctl.file("lab.toml");
    fs::write(
        &scenario,
        "[[group]]\nname = 'client'\nvms = 1\n[[group]]\nname = 'servers'\nvms = 2\n",
    )
    .expect("a file");
    let run = ctl.start(&format!("--netns host --scenario {}", scenario.display()));
    let states = ctl.file("states").display().to_string();
    let socket = ctl.socket();
    let words = [TAP_REACTOR, "ctl", &socket];
    let mut terminal = Terminal::new();
    let shell = terminal.start(&words, &[("XDG_STATE_HOME", &states)]);
    let prompt = "lab.sock> ";
    for (keys, shown) in [
        // A command, an option, a VM, a group; what follows is done.
        ("stat\t\r", "3 VMs  0 flows"),
        ("add\t2\r", "vm3 and vm4 start"),
        ("flow --ra\t100 serv\tvm0\r", "flows begin: 0 to 1"),
        // An error, and a line that is given up.
        ("remove vm9\r", "error: "),
        ("nonsense\r", "error: nonsense: no such command"),
        ("stop\x03", ""),
        ("status\r", "2 flows"),
        // The history.
        ("\x1b[A\r", "2 flows"),
        ("help mark\r", "Gives this instant a name."),
    ] {
        terminal.wait_for(prompt);
        terminal.type_in(keys);
        terminal.wait_for(shown);
    }
    terminal.wait_for(prompt);
    ctl.wait_for("VMs that were added", |lab| lab["vms"] == 5);
    terminal.type_in("remove vm4\t\r");
    terminal.wait_for("vm4 stops");
    // What is waited for ends by Ctrl-C, and the shell goes on.
    terminal.wait_for(prompt);
    terminal.type_in("events\r");
    terminal.wait_for("ping answered");
    terminal.type_in("\x03");
    terminal.wait_for(prompt);
    terminal.type_in("watch --interval 50ms\r");
    terminal.wait_for(ENTER);
    terminal.wait_for("q ends");
    terminal.type_in("q");
    terminal.wait_for(LEAVE);
    terminal.wait_for(prompt);
    terminal.type_in("\x04");
    let (status, _) = terminal.wait(shell);
    assert!(status.success());
    let history =
        fs::read_to_string(ctl.file("states/tap-reactor/ctl-history")).expect("a history");
    assert!(history.contains("help mark\n"), "{history}");
    // Without a place for it, and with a lab that goes away, a shell works as well.
    let mut terminal = Terminal::new();
    let shell = terminal.start(&words, &[("XDG_STATE_HOME", "/proc/nowhere")]);
    terminal.wait_for(prompt);
    terminal.type_in("stop\r");
    terminal.wait_for("the run ends");
    run.wait();
    terminal.wait_for(prompt);
    terminal.type_in("remove v\t\r");
    terminal.wait_for("there is nothing; expected the path");
    terminal.wait_for(prompt);
    terminal.type_in("exit\r");
    assert!(terminal.wait(shell).0.success());
}

#[test]
fn a_lab_over_tcp_is_steered_with_its_token_and_what_it_captures_is_written_here() {
    let ctl = Controlled::new();
    let token = ctl.file("lab.token");
    fs::write(&token, "0123456789abcdef\n").expect("a token");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&token, mode).expect("a secret");
    let token = token.display().to_string();
    let run = ctl.start(&format!(
        "--netns host --vms 2 --ping vm0:vm1 --interval 1ms --control tcp:127.0.0.1:0 --control-token-file {token}"
    ));
    let lab = ctl.json("status");
    let addresses = lab["control"].as_array().expect("addresses");
    let mut addresses = addresses.iter().filter_map(Value::as_str);
    let address = addresses.find(|address| address.starts_with("tcp:"));
    let address = address.expect("a port").to_owned();
    let ask = |words: &[&str]| {
        let folder = ctl.folder().display();
        let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let script = format!("cd {folder}; {} ", words.join(" "));
        ctl.lab.run(&["bash", "-c", &script])
    };
    let with_file = [TAP_REACTOR, "ctl", &address, "--control-token-file", &token];
    let by_file = ask(&[&with_file[..], &["add-vms", "1"]].concat()).expect_status(0);
    assert_eq!(by_file.stdout, "vm2 starts\n");
    let variable = [
        "env",
        "TAP_REACTOR_TOKEN=0123456789abcdef",
        TAP_REACTOR,
        "ctl",
        &address,
    ];
    let by_variable = ask(&[&variable[..], &["report", "-o", "tcp.html"]].concat());
    by_variable.expect_status(0);
    assert!(
        fs::read_to_string(ctl.file("tcp.html"))
            .expect("a page")
            .starts_with("<!doctype")
    );
    // A token that is none, another's, and none.
    for (token, status, words) in [
        ("short", 3, "expected 16 to"),
        ("0123456789abcdeX", 1, "error: "),
        ("", 1, "error: "),
    ] {
        let variable = format!("TAP_REACTOR_TOKEN={token}");
        let refused = ask(&["env", &variable, TAP_REACTOR, "ctl", &address, "stop"]);
        assert_eq!(refused.status, status, "{refused:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
    // Frames that are read here, until there are enough of them, and until the lab ends.
    let some = format!("{} capture - | head -c 1000 | wc -c", with_file.join(" "));
    let some = ctl.lab.run(&["bash", "-c", &some]).expect_status(0);
    assert_eq!(some.stdout.trim(), "1000");
    let capture = ctl.file("here.pcapng");
    let capture = capture.display().to_string();
    let all = [
        &with_file[..],
        &["capture", &capture, "--capture-vms", "vm0"],
    ]
    .concat();
    let all = ctl.lab.start(&all);
    wait_until("frames", || {
        fs::metadata(&capture)
            .is_ok_and(|file| file.len() > 5000)
            .then_some(())
    });
    ctl.text("stop");
    all.wait().expect_status(0);
    run.wait();
    let frames = crate::lab::succeed(Command::new("tshark").args(["-r", &capture]));
    assert!(frames.lines().count() > 10, "{frames}");
}
