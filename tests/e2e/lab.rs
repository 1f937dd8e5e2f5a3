//! A network namespace for one test, what runs in it, and how the test waits for what it expects.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tap_reactor::time::{Clock, Instant, MonotonicClock};
use tempfile::TempDir;

/// The binary under test.
pub const TAP_REACTOR: &str = env!("CARGO_BIN_EXE_tap-reactor");

/// The words before a command of a test: none may run longer than a minute, for a hang is a failure, not a wait.
const LIMITED: [&str; 3] = ["timeout", "--signal=KILL", "60"];

/// The time that a test waits for something that must happen, on a slow machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(30);

/// A network namespace of the test's own, empty but for `lo`. Dropping it ends what runs in it and removes it.
pub struct Lab {
    name: String,
}

impl Lab {
    /// Makes the namespace.
    pub fn new() -> Lab {
        static MADE: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "the end-to-end tests make network namespaces, which needs root: run scripts/test.sh as root"
        );
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("trt-{}-{number}", std::process::id());
        succeed(Command::new("ip").args(["netns", "add", &name]));
        let lab = Lab { name };
        lab.ip("link set lo up");
        lab
    }

    /// The namespace's name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `ip` on this namespace, arguments separated by blanks. It must succeed; returns what it prints.
    pub fn ip(&self, arguments: &str) -> String {
        succeed(
            Command::new("ip")
                .args(["-n", &self.name])
                .args(arguments.split_whitespace()),
        )
    }

    /// `ip -json` on this namespace.
    pub fn ip_json(&self, arguments: &str) -> Vec<Value> {
        json_list(&self.ip(&format!("-details -json {arguments}")))
    }

    /// `bridge -json` on this namespace.
    pub fn bridge_json(&self, arguments: &str) -> Vec<Value> {
        json_list(&succeed(
            Command::new("bridge")
                .args(["-n", &self.name, "-json"])
                .args(arguments.split_whitespace()),
        ))
    }

    /// Every link but `lo`, by name.
    pub fn links(&self) -> BTreeMap<String, Value> {
        let links = self.ip_json("link show").into_iter();
        let named = links.map(|link| (link["ifname"].as_str().expect("ifname").to_owned(), link));
        named.filter(|(name, _)| name != "lo").collect()
    }

    /// The names of every link but `lo`.
    pub fn link_names(&self) -> Vec<String> {
        self.links().into_keys().collect()
    }

    /// The attributes of links that a run must not change if it did not make them. (Carrier, statistics and a bridge's
    /// timers are not among them.)
    pub fn identities(&self) -> Vec<String> {
        let kept = [
            "ifindex", "address", "ifalias", "master", "mtu", "group", "txqlen",
        ];
        let links = self.links().into_iter();
        let identity = |(name, link): (String, Value)| {
            let flags = link["flags"].as_array().expect("flags");
            let is_up = flags.iter().any(|flag| flag == "UP");
            format!(
                "{name} up={is_up} {}",
                kept.map(|key| link[key].to_string()).join(" ")
            )
        };
        links.map(identity).collect()
    }

    /// A file of this namespace's `/proc/sys/net`.
    pub fn sysctl(&self, name: &str) -> Option<String> {
        let run = self.run(&["cat", &format!("/proc/sys/net/{name}")]);
        (run.status == 0).then(|| run.stdout.trim().to_owned())
    }

    /// Runs a command in this namespace to its end.
    pub fn run(&self, command: &[&str]) -> Finished {
        let inside = ["ip", "netns", "exec", &self.name].into_iter();
        let command = inside.chain(LIMITED).chain(command.iter().copied());
        finish(command_of(command), "")
    }

    /// Runs a command in this namespace to its end, as a user other than root.
    pub fn run_as(&self, user: u32, command: &[&str]) -> Finished {
        let words = as_user(user);
        let words: Vec<&str> = words.split(' ').chain(command.iter().copied()).collect();
        self.run(&words)
    }

    /// Runs the binary under test in this namespace to its end, arguments separated by blanks.
    pub fn tap_reactor(&self, arguments: &str) -> Finished {
        let command: Vec<&str> = [TAP_REACTOR]
            .into_iter()
            .chain(arguments.split_whitespace())
            .collect();
        self.run(&command)
    }

    /// Fails the test unless tap-reactor refuses each of these command lines, which goes with a part of the one line that it says
    /// of that.
    #[track_caller]
    pub fn expect_refusals(&self, lines: &[(&str, &str)]) {
        for (words, expected) in lines {
            let run = self.tap_reactor(words).expect_status(2);
            assert!(run.stderr.contains(expected), "{words}: {}", run.stderr);
            assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        }
    }

    /// Starts a command in this namespace. The process that [`Running::pid`] names is the command itself.
    pub fn start(&self, command: &[&str]) -> Running {
        let inside = ["ip", "netns", "exec", &self.name].into_iter();
        Running::start(command_of(inside.chain(command.iter().copied())))
    }

    /// Starts the binary under test in this namespace, arguments separated by blanks.
    pub fn start_tap_reactor(&self, arguments: &str) -> Running {
        let command: Vec<&str> = [TAP_REACTOR]
            .into_iter()
            .chain(arguments.split_whitespace())
            .collect();
        self.start(&command)
    }

    /// Makes the lab of `scripts/lab-up.sh`: its TAPs outlive a run, and so do the kernel's counters.
    pub fn make_by_hand(&self) {
        let script = repository_file("scripts/lab-up.sh");
        let run = self.run(&[script.to_str().expect("a path in UTF-8")]);
        run.expect_status(0);
    }

    /// Waits until each of these bridge ports forwards frames: `run`, which holds their TAPs, has plugged its VMs in.
    pub fn wait_until_ports_forward(&self, run: &mut Running, ports: &[&str]) {
        wait_until(&format!("ports {ports:?} to forward"), || {
            run.expect_alive();
            let known = self.bridge_json("link show");
            let forwards = |port: &&str| {
                known
                    .iter()
                    .any(|link| link["ifname"] == **port && link["state"] == "forwarding")
            };
            ports.iter().all(forwards).then_some(())
        });
    }

    /// Waits until the VM on `tap`, which `run` holds, has sent this many frames, by the kernel's count.
    pub fn wait_until_vm_sent(&self, run: &mut Running, tap: &str, frames: u64) {
        wait_until(&format!("{frames} frames to come out of {tap}"), || {
            run.expect_alive();
            (self.frames(tap)?.sent_by_vm >= frames).then_some(())
        });
    }

    /// The kernel's own count of the frames that crossed a TAP; `None` while there is no such link.
    pub fn frames(&self, tap: &str) -> Option<Frames> {
        let links = self.ip_json("-statistics link show");
        let link = links.iter().find(|link| link["ifname"] == tap)?;
        let count = |direction: &str| link["stats64"][direction]["packets"].as_u64();
        Some(Frames {
            sent_by_vm: count("rx")?,
            queued_for_vm: count("tx")?,
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Whatever still runs in here was started by this test; a namespace with processes in it would live on.
        if let Ok(output) = Command::new("ip")
            .args(["netns", "pids", &self.name])
            .output()
        {
            let pids = String::from_utf8_lossy(&output.stdout).into_owned();
            for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// The path of a control socket, in a folder of its own.
pub struct Socket {
    pub folder: TempDir,
}

impl Socket {
    pub fn new() -> Socket {
        Socket {
            folder: TempDir::new().expect("a folder"),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.file("lab.sock")
    }

    /// A file in the same folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a lab that listens at it, and waits until it does.
    pub fn start(&self, lab: &Lab, arguments: &str) -> Running {
        let path = self.path();
        let mut run = lab.start_tap_reactor(&format!("{arguments} --control {}", path.display()));
        wait_until("a lab that listens", || {
            run.expect_alive();
            UnixStream::connect(&path).ok()
        });
        run
    }
}

/// Removes a named namespace that a failing test may leave.
pub struct RemovedName(pub String);

impl Drop for RemovedName {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// Frames that crossed a TAP, as the kernel counted them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frames {
    /// Written to the file descriptor.
    pub sent_by_vm: u64,
    /// Put into the TAP's queue, for the file descriptor's owner to read.
    pub queued_for_vm: u64,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status; 128 + n if signal n ended it.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Fails the test, with all that the process printed, unless it ended with `status`.
    #[track_caller]
    pub fn expect_status(self, status: i32) -> Finished {
        assert_eq!(
            self.status, status,
            "exit status\n--- stdout ---\n{}\n--- stderr ---\n{}",
            self.stdout, self.stderr
        );
        self
    }

    /// The document that it printed.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A process that runs beside the test. Dropping it kills it.
pub struct Running {
    child: Child,
    output: TempDir,
}

impl Running {
    /// Starts `command`, its output going to files that [`Running::stdout`] and [`Running::stderr`] read.
    pub fn start(mut command: Command) -> Running {
        let output = TempDir::new().expect("make a temporary directory");
        let file = |name| File::create(output.path().join(name)).expect("create an output file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        Running { child, output }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.output.path().join(name)).expect("read an output file");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // The kernel may be busy removing the large lab of another test.
        let lines = text.split_inclusive('\n');
        lines
            .filter(|line| !line.starts_with("tap-reactor: waiting for the kernel"))
            .collect()
    }

    /// Returns true while it runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("wait for a child").is_none()
    }

    /// Fails the test, with all that the process said, if it has ended.
    #[track_caller]
    pub fn expect_alive(&mut self) {
        if let Some(status) = self.child.try_wait().expect("wait for a child") {
            panic!("ended early, {status}:\n{}{}", self.stdout(), self.stderr());
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("send a signal");
    }

    /// Stops it until it gets a SIGCONT.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let stat = format!("/proc/{}/stat", self.pid());
        wait_until("the process to stop", || {
            let stat = std::fs::read_to_string(&stat).expect("its state");
            stat.contains(") T ").then_some(())
        });
    }

    /// Waits until its standard error contains `text`.
    pub fn wait_until_it_says(&mut self, text: &str) {
        wait_until(&format!("{text:?} on standard error"), || {
            if self.stderr().contains(text) {
                return Some(());
            }
            assert!(
                self.is_alive(),
                "ended without saying {text:?}:\n{}",
                self.stderr()
            );
            None
        });
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Finished {
        let status = wait_until("a process to end", || {
            self.child.try_wait().expect("wait for a child")
        });
        Finished {
            status: shell_status(status),
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until there is an answer, and fails the test when patience runs out.
#[track_caller]
pub fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        // Only between two questions to another process: nothing is assumed to have happened meanwhile.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The time now.
pub fn now() -> Instant {
    MonotonicClock.now()
}

/// A file of this repository.
pub fn repository_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The words before a command that `user` runs, without any right and in no group but its own.
pub fn as_user(user: u32) -> String {
    format!("setpriv --reuid {user} --regid {user} --clear-groups")
}

/// Runs a command on the namespace that the tests were started in, and returns what it prints. It must succeed.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("run {shown}: {error}; scripts/test.sh installs what the tests call")
        });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{shown}: {}\n{stderr}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command in `folder` to its end, with `input` as its standard input, on the namespace that the tests were started in.
pub fn run_in(folder: &Path, command: &[&str], input: &str) -> Finished {
    let mut command = command_of(LIMITED.into_iter().chain(command.iter().copied()));
    command.current_dir(folder);
    finish(command, input)
}

fn finish(mut command: Command, input: &str) -> Finished {
    let stdin = match input {
        "" => Stdio::null(),
        _ => Stdio::piped(),
    };
    command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("run {command:?}: {error}"));
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read it is no fault.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().expect("its end");
    Finished {
        status: shell_status(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn command_of<'a>(mut words: impl Iterator<Item = &'a str>) -> Command {
    let mut command = Command::new(words.next().expect("a program to run"));
    command.args(words);
    command
}

/// The exit status as a shell tells it.
fn shell_status(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// `ip` and `bridge` print nothing at all instead of an empty list.
fn json_list(text: &str) -> Vec<Value> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    let list: Vec<Value> =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    // `ip -json link show` leaves an empty object in the place of what it filters out.
    list.into_iter()
        .filter(|entry| entry.as_object().is_some_and(|object| !object.is_empty()))
        .collect()
}

/// The number at a place of a document, as a JSON pointer has it.
pub fn number(document: &Value, pointer: &str) -> u64 {
    let value = document.pointer(pointer).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("{pointer} in {document}"))
}
