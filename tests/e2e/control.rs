//! The control socket of a running lab, with curl as its client and the kernel as a witness of what it did.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::Command;

use nix::sys::signal::Signal::{SIGINT, SIGKILL};
use serde_json::{Value, json};

use crate::lab::{Lab, Socket, TAP_REACTOR, as_user, number, succeed, wait_until};

mod marks;
mod metrics;
mod prometheus;
mod tcp;

impl Socket {
    fn curl(&self, url: &str, arguments: &[&str]) -> Command {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--max-time",
            "60",
            "--unix-socket",
        ]);
        curl.arg(self.path());
        curl.arg(format!("http://lab{url}"));
        curl.args(arguments);
        curl
    }

    /// What curl prints.
    fn text(&self, url: &str, arguments: &[&str]) -> String {
        succeed(&mut self.curl(url, arguments))
    }

    /// Status and document.
    fn ask(&self, url: &str, arguments: &[&str]) -> (u64, Value) {
        let mut all = vec!["--write-out", "\n%{http_code}"];
        all.extend(arguments);
        let text = self.text(url, &all);
        let (body, status) = text.rsplit_once('\n').expect("a status");
        let document = serde_json::from_str(body).unwrap_or_else(|e| panic!("{url}: {e}: {body}"));
        (status.parse().expect("a number"), document)
    }

    fn get(&self, url: &str) -> Value {
        let (status, document) = self.ask(url, &[]);
        assert_eq!(status, 200, "{url}: {document}");
        document
    }

    /// Posts a document, and returns the answer to it.
    fn post(&self, url: &str, document: &Value) -> Value {
        let (status, answer) = self.ask(url, &["--data", &document.to_string()]);
        assert!(
            (200..300).contains(&status),
            "{url} {document}: {status} {answer}"
        );
        answer
    }

    /// Waits until what `url` has is as expected.
    fn wait_for(&self, url: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        wait_until(what, || {
            Some(self.get(url)).filter(|document| is_so(document))
        })
    }
}

#[test]
fn a_lab_is_changed_and_asked_by_curl_while_it_runs() {
    let lab = Lab::new();
    let socket = Socket::new();
    let file = socket.file("r.json");
    let run = socket.start(
        &lab,
        &format!("--netns host --vms 3 --output {}", file.display()),
    );
    let found = fs::symlink_metadata(socket.path()).expect("the socket");
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    // What there is.
    let state = socket.wait_for("/", "a lab that serves", |lab| lab["state"] == "serving");
    assert_eq!((number(&state, "/vms"), number(&state, "/flows")), (3, 0));
    assert_eq!(state["plan"]["settings"]["vms"], "3");
    let vms = socket.get("/vms?offset=1&limit=1");
    assert_eq!((number(&vms, "/total"), number(&vms, "/offset")), (3, 1));
    let vm1 = json!({
        "name": "vm1", "mac": "02:00:0a:4d:00:03", "address": "10.77.0.3",
        "is_up": true, "is_configuring": false,
    });
    assert_eq!(vms["items"], json!([vm1]));
    assert_eq!(socket.get("/vms/vm1"), vm1);
    // More VMs, as the kernel has it.
    let added = socket.post("/vms", &json!({ "vms": 2 }));
    assert_eq!(added, json!({ "vms": 2, "first": "vm3", "last": "vm4" }));
    socket.wait_for("/", "two more VMs", |lab| lab["vms"] == 5);
    assert!(lab.link_names().contains(&"tap4".to_owned()));
    // Flows, one of them to a new VM, and the events of their pings.
    let load = json!({ "rate": 200.0 });
    let (status, answer) = socket.ask("/load", &["-X", "PUT", "--data", &load.to_string()]);
    assert_eq!((status, answer), (200, load));
    let events = socket.file("events");
    let mut reader = socket.curl("/events", &["--no-buffer", "--max-time", "60", "--output"]);
    let mut reader = reader.arg(&events).spawn().expect("run curl");
    let flows = socket.post("/flows", &json!({ "ping": "vm0:vm4" }));
    assert_eq!(flows, json!({ "flows": 1, "first": 0 }));
    socket.post("/flows", &json!({ "ping": "vm1:vm2", "size": 100 }));
    socket.wait_for("/flows", "pings of both", |flows| {
        flows["items"].as_array().is_some_and(|flows| {
            flows.len() == 2
                && flows
                    .iter()
                    .all(|flow| number(flow, "/totals/received") > 20)
        })
    });
    socket.post("/marks", &json!({ "name": "policy" }));
    let lines = wait_until("events of both flows", || {
        let text = fs::read_to_string(&events).unwrap_or_default();
        let (whole, _) = text.rsplit_once('\n')?;
        let lines = whole
            .lines()
            .map(|line| serde_json::from_str(line).expect("an event"));
        let lines: Vec<Value> = lines.collect();
        let has = |kind: &str, flow| {
            lines
                .iter()
                .any(|line| line["kind"] == kind && line["flow"] == flow)
        };
        (has("ping_answered", 0) && has("ping_answered", 1)).then_some(lines)
    });
    assert!(lines.len() > 2);
    // Impaired frames are lost, and captured.
    let capture = socket.file("loss.pcapng");
    socket.post("/captures", &json!({ "capture": capture, "vms": "vm4" }));
    socket.post("/impairments", &json!({ "impair": "vm4:loss=100%" }));
    let timeout = |flow: &Value| number(flow, "/totals/lost");
    socket.wait_for("/flows?limit=1", "lost pings", |flows| {
        timeout(&flows["items"][0]) > 0
    });
    let (_, impairments) = socket.ask("/impairments", &["-X", "DELETE"]);
    assert_eq!(impairments["rules"], json!([]));
    assert!(
        number(&impairments, "/frames/0/frames") > 0,
        "{impairments}"
    );
    let answered = |flows: &Value| number(flows, "/items/0/totals/received");
    let before = answered(&socket.get("/flows?limit=1"));
    socket.wait_for("/flows?limit=1", "answers again", |flows| {
        answered(flows) > before
    });
    // The capture ends, and is whole while the lab goes on.
    let so_far = socket.get("/captures");
    assert_eq!(so_far["items"][0]["file"], json!(capture));
    let place = format!("/captures/{}", so_far["items"][0]["id"]);
    let (status, ended) = socket.ask(&place, &["-X", "DELETE"]);
    assert_eq!(status, 200, "{ended}");
    let frames = succeed(Command::new("tshark").arg("-r").arg(&capture));
    assert_eq!(frames.lines().count() as u64, number(&ended, "/records"));
    assert_eq!(socket.get("/captures")["total"], 0);
    assert_eq!(socket.ask(&place, &["-X", "DELETE"]).0, 404);
    // A VM leaves, with its TAP; its flow sends no more.
    let (status, removed) = socket.ask("/vms/vm1", &["-X", "DELETE"]);
    assert_eq!(
        (status, removed),
        (202, json!({ "vms": 1, "first": "vm1", "last": "vm1" }))
    );
    socket.wait_for("/", "a VM fewer", |lab| lab["vms"] == 4);
    assert!(!lab.link_names().contains(&"tap1".to_owned()));
    assert_eq!(socket.get("/vms/vm1")["is_up"], false);
    // Reports of so far.
    let report = socket.get("/report");
    assert_eq!(report["flows"].as_array().map(Vec::len), Some(2));
    let page = socket.text("/report.html", &[]);
    assert!(
        page.starts_with("<!doctype html>") && page.contains("vm0"),
        "{page}"
    );
    let table = socket.text("/report", &["-H", "Accept: text/csv"]);
    assert!(table.lines().count() > 3, "{table}");
    assert!(socket.text("/report.hgrm", &[]).contains("Percentile"));
    // The end.
    let (status, _) = socket.ask("/stop", &["-X", "POST"]);
    assert_eq!(status, 202);
    let run = run.wait();
    assert!(run.status <= 1, "{run:?}");
    assert!(!socket.path().exists());
    assert_eq!(lab.link_names(), [""; 0]);
    let report: Value = serde_json::from_slice(&fs::read(file).expect("a report")).expect("JSON");
    assert!(number(&report, "/totals/received") > 40);
    reader.wait().expect("the stream has ended");
    assert!(number(&report, "/recordings/0/records") > 10);
    assert_eq!(report["recordings"][0]["ended"], "it was ended by request");
}

#[test]
fn a_killed_lab_leaves_no_socket_that_is_in_the_way_of_the_next_one() {
    let lab = Lab::new();
    let socket = Socket::new();
    let first = socket.start(&lab, "--netns private --vms 2");
    let second = lab.tap_reactor(&format!("--vms 2 --control {}", socket.path().display()));
    assert!(
        second
            .stderr
            .contains("another run uses it: choose another path"),
        "{second:?}"
    );
    assert_eq!(second.status, 3, "{second:?}");
    assert_eq!(
        number(&socket.get("/"), "/vms"),
        2,
        "the first one's is as it was"
    );
    first.signal(SIGKILL);
    first.wait();
    assert!(socket.path().exists());
    let next = socket.start(&lab, "--netns private --vms 3");
    assert_eq!(number(&socket.get("/"), "/vms"), 3);
    next.signal(SIGINT);
    next.wait();
    assert!(!socket.path().exists());
}

#[test]
fn a_flood_of_requests_and_clients_that_do_not_read_hold_up_no_run() {
    use std::io::Write;
    let lab = Lab::new();
    let socket = Socket::new();
    let run = socket.start(
        &lab,
        "--netns host --vms 2 --ping vm0:vm1 --interval 1ms --json",
    );
    // Clients that ask and never read, one that says nothing, one with half a request.
    let stuck: Vec<_> = (0..25)
        .map(|number| {
            let mut client = UnixStream::connect(socket.path()).expect("connect");
            client.set_nonblocking(true).expect("no waiting");
            let words: &[u8] = match number {
                0 => b"",
                1 => b"GET /vms HT",
                2 => b"GET /events HTTP/1.1\r\nHost: lab\r\n\r\n",
                _ => &b"GET /report HTTP/1.1\r\nHost: lab\r\n\r\n".repeat(200),
            };
            let _ = client.write(words);
            client
        })
        .collect();
    for _ in 0..100 {
        assert_eq!(number(&socket.get("/"), "/vms"), 2);
    }
    // More than there may be, which ask nothing.
    let others: Vec<_> = (0..33)
        .map(|_| UnixStream::connect(socket.path()).expect("connect"))
        .collect();
    let received = |lab: &Value| number(lab, "/totals/received");
    let before = received(&socket.get("/"));
    socket.wait_for("/", "more answers", |lab| received(lab) > before + 100);
    socket.ask("/stop", &["-X", "POST"]);
    let run = run.wait().expect_status(0);
    let report = run.json();
    assert_eq!(number(&report, "/totals/lost"), 0);
    assert_eq!(
        number(&report, "/totals/sent"),
        number(&report, "/totals/received")
    );
    drop((stuck, others));
}

#[test]
fn another_user_is_not_served_nor_one_whom_a_user_namespace_does_not_know() {
    let lab = Lab::new();
    let socket = Socket::new();
    let folder = socket.folder.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("a folder for all");
    // The binary lies where every user can reach it.
    let binary = folder.join("tap-reactor");
    fs::copy(TAP_REACTOR, &binary).expect("copy the program");
    let script = format!(
        "mknod /mnt/tun c 10 200 && chmod 0666 /mnt/tun && mount --bind /mnt/tun /dev/net/tun && \
         exec {} {} --vms 2 --control {}",
        as_user(1234),
        binary.display(),
        socket.path().display()
    );
    let script = format!("mount -t tmpfs -o mode=0755 tmpfs /mnt && {script}");
    let mut run = lab.start(&["unshare", "--mount", "sh", "-c", &script]);
    wait_until("a lab that listens", || {
        run.expect_alive();
        socket.path().exists().then_some(())
    });
    // Root of the machine is nobody in the namespace of the lab's user.
    let (status, answer) = socket.ask("/", &[]);
    assert_eq!(
        (status, answer),
        (
            403,
            json!({ "error": "this user is not served", "expected": "the user who runs the lab, or root" })
        )
    );
    // The user itself is.
    let path = socket.path().display().to_string();
    let ask = ["curl", "-sS", "--unix-socket", &path, "http://lab/"];
    let own = lab.run_as(1234, &ask);
    let document: Value =
        serde_json::from_str(&own.stdout).unwrap_or_else(|e| panic!("{e}: {own:?}"));
    assert_eq!(number(&document, "/vms"), 2);
    // Another one has no way to it, even if the file is given away.
    assert_ne!(lab.run_as(1235, &ask).status, 0);
    fs::set_permissions(socket.path(), fs::Permissions::from_mode(0o666)).expect("give it away");
    let other = lab.run_as(1235, &ask);
    assert!(other.stdout.contains("this user is not served"));
    run.signal(SIGINT);
    run.wait();
    assert!(!socket.path().exists());
}

#[test]
fn a_simulation_that_is_over_stays_to_be_asked_and_is_no_longer_changed() {
    let lab = Lab::new();
    let socket = Socket::new();
    let run = socket.start(
        &lab,
        "--fabric sim --ping vm0:vm1 --count 100 --stay --json",
    );
    let state = socket.wait_for("/", "the end of the run", |lab| lab["state"] == "over");
    assert_eq!(number(&state, "/totals/received"), 100);
    let (status, error) = socket.ask("/vms", &["--data", r#"{"vms": 1}"#]);
    let told = json!({ "error": "the run is over", "expected": "a request while it runs" });
    assert_eq!((status, error), (409, told));
    assert_eq!(number(&socket.get("/report"), "/totals/received"), 100);
    assert_eq!(socket.ask("/stop", &["-X", "POST"]).0, 202);
    let run = run.wait().expect_status(0);
    let report = run.json();
    assert_eq!(report["interrupted"], false);
    // A signal is as good.
    let run = socket.start(&lab, "--fabric sim --ping vm0:vm1 --count 100 --stay");
    socket.wait_for("/", "the end of the run", |lab| lab["state"] == "over");
    run.signal(SIGINT);
    run.wait().expect_status(0);
    assert!(!socket.path().exists());
}

#[test]
fn vms_are_added_as_long_as_there_are_descriptors_for_them_and_for_clients() {
    let (lab, socket) = (Lab::new(), Socket::new());
    let path = socket.path();
    let arguments = format!("--netns host --vms 300 --control {}", path.display());
    let mut command = vec!["prlimit", "--nofile=520:520", TAP_REACTOR];
    command.extend(arguments.split_whitespace());
    let mut run = lab.start(&command);
    wait_until("a lab that answers", || {
        run.expect_alive();
        UnixStream::connect(&path).ok()
    });
    socket.wait_for("/", "VMs", |lab| number(lab, "/vms") == 300);
    socket.post("/vms", &json!({ "vms": 40 }));
    socket.wait_for("/", "further VMs", |lab| number(lab, "/vms") == 340);
    // Clients need some of those that are left.
    let (status, error) = socket.ask("/vms", &["--data", r#"{"vms": 140}"#]);
    assert_eq!(status, 500, "{error}");
    let words = error["error"].as_str().expect("words");
    assert!(
        words.contains("the limit of this process is 520"),
        "{words}"
    );
    run.signal(SIGINT);
    run.wait().expect_status(0);
}

#[test]
fn readers_that_have_gone_leave_nothing_in_a_lab_in_which_nothing_happens() {
    let events = "GET /events HTTP/1.1\r\nHost: lab\r\n\r\n";
    let captures =
        "POST /captures HTTP/1.1\r\nHost: lab\r\nContent-Length: 15\r\n\r\n{\"on_loss\": 10}";
    for (arguments, state, requests) in [
        (
            "--netns host --vms 1",
            "serving",
            [events, captures].as_slice(),
        ),
        (
            "--fabric sim --ping vm0:vm1 --count 1 --stay",
            "over",
            &[events],
        ),
    ] {
        let (lab, socket) = (Lab::new(), Socket::new());
        let run = socket.start(&lab, arguments);
        socket.wait_for("/", state, |lab| lab["state"] == state);
        let descriptors = || {
            let folder = fs::read_dir(format!("/proc/{}/fd", run.pid()));
            folder.expect("a process").count()
        };
        // With connections that are just ending: fewer than five.
        let before = descriptors();
        for request in requests {
            for _ in 0..5 {
                let mut reader = UnixStream::connect(socket.path()).expect("connect");
                reader.write_all(request.as_bytes()).expect("a request");
                let mut head = [0; 12];
                reader.read_exact(&mut head).expect("a response");
                assert_eq!(&head, b"HTTP/1.1 200", "{request}");
                // When another request is answered, the stream has begun.
                socket.get("/");
            }
            wait_until(&format!("no more than {before} descriptors"), || {
                (descriptors() <= before).then_some(())
            });
        }
        run.signal(SIGINT);
        run.wait().expect_status(0);
    }
}

#[test]
fn a_lab_whose_flows_are_over_stays_and_gets_others() {
    let lab = Lab::new();
    let socket = Socket::new();
    let run = socket.start(
        &lab,
        "--netns host --ping vm0:vm1 --count 20 --interval 1ms --stay --json",
    );
    let state = socket.wait_for("/", "the end of the flows", |lab| lab["state"] == "serving");
    assert_eq!(number(&state, "/totals/received"), 20);
    socket.ask("/load", &["-X", "PUT", "--data", r#"{"interval": "1ms"}"#]);
    socket.post("/flows", &json!({ "ping": "vm1:vm0" }));
    socket.wait_for("/", "pings of another flow", |lab| {
        number(lab, "/totals/received") > 50
    });
    run.signal(SIGINT);
    let run = run.wait().expect_status(0);
    let report = run.json();
    assert_eq!(report["flows"].as_array().map(Vec::len), Some(2));
    assert_eq!(number(&report, "/flows/0/totals/received"), 20);
}

#[test]
fn a_vm_that_the_kernel_refuses_is_told_while_others_that_were_added_are_captured() {
    let lab = Lab::new();
    let socket = Socket::new();
    let file = |name: &str| socket.file(name).display().to_string();
    let (capture, trace) = (file("c.pcapng"), file("t.jsonl"));
    let run = socket.start(
        &lab,
        &format!(
            "--netns host --vms 2 --ping vm0:vm1 --interval 10ms --capture {capture} --trace {trace}"
        ),
    );
    socket.wait_for("/", "pings", |lab| number(lab, "/totals/received") > 0);
    lab.ip("link add tap3 type bridge");
    socket.post("/vms", &json!({ "vms": 3 }));
    socket.wait_for("/", "the VMs but one", |lab| lab["vms"] == 4);
    assert_eq!(socket.get("/vms/vm3")["is_up"], false);
    let (status, error) = socket.ask("/flows", &["--data", r#"{"ping": "vm3:vm0"}"#]);
    assert_eq!(status, 400, "{error}");
    socket.post("/flows", &json!({ "ping": "vm4:vm0" }));
    socket.wait_for("/flows", "pings of the last VM", |flows| {
        number(flows, "/items/1/totals/received") > 5
    });
    run.signal(SIGINT);
    let run = run.wait().expect_status(1);
    let told = run.stderr.lines().find(|line| line.contains("vm3"));
    let told = told.expect("the VM that could not start");
    assert!(told.contains("vm3 could not start: "), "{told}");
    let trace = fs::read_to_string(trace).expect("a trace");
    let events = trace
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let refused: Vec<Value> = events
        .filter(|event: &Value| event["kind"] == "vm_start_refused")
        .collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0]["vm"], "vm3");
    let from_last = [
        "-n",
        "-r",
        &capture,
        "-Y",
        "icmp && frame.interface_name == \"tap4\"",
    ];
    let frames = succeed(Command::new("tshark").args(from_last));
    assert!(frames.lines().count() > 10, "{frames}");
}

/// What pings are for as long as clients ask for all that there is of very many VMs.
const AWAITED: &str = "--ping vm0:vm1 --rate 1000 --timeout 5s";

#[test]
fn ten_thousand_vms_are_listed_reported_on_and_changed_while_others_ping() {
    let lab = Lab::new();
    let socket = Socket::new();
    let file = socket.file("r.json");
    let run = socket.start(
        &lab,
        &format!(
            "--vms 9500 {AWAITED} --resolve static --output {}",
            file.display()
        ),
    );
    let sent = || number(&socket.get("/"), "/totals/sent");
    // Who asks during the set-up is answered when it is over.
    socket.text("/", &["--max-time", "120"]);
    wait_until("pings", || (sent() > 0).then_some(()));
    // VMs are added, one a turn, and flows between all of them.
    let added = socket.post("/vms", &json!({ "vms": 500 }));
    assert_eq!(
        added,
        json!({ "vms": 500, "first": "vm9500", "last": "vm9999" })
    );
    socket.wait_for("/", "all VMs", |lab| lab["vms"] == 10_000);
    let before = sent();
    let flows = socket.post("/flows", &json!({ "ping": "ring", "interval": "1h" }));
    assert_eq!(flows, json!({ "flows": 10_000, "first": 1 }));
    // Lists are paged.
    for (list, total) in [("vms", 10_000), ("flows", 10_001)] {
        let mut seen = 0;
        while seen < total {
            let page = socket.get(&format!("/{list}?limit=1000&offset={seen}"));
            assert_eq!(number(&page, "/total"), total);
            seen += page["items"].as_array().map_or(0, Vec::len) as u64;
        }
        assert_eq!(seen, total);
    }
    // Every format, and the rows are those of one instant.
    let report = socket.get("/report");
    let rows = report["flows"].as_array().expect("flows");
    assert_eq!(rows.len(), 10_001);
    for count in ["sent", "received", "lost"] {
        let sum: u64 = rows
            .iter()
            .map(|flow| number(&flow["totals"], &format!("/{count}")))
            .sum();
        assert_eq!(
            number(&report["totals"], &format!("/{count}")),
            sum,
            "{count}"
        );
    }
    assert_eq!(
        socket.text("/report.csv", &[]).matches("\nflow,").count(),
        10_001
    );
    assert!(socket.text("/report.html", &[]).ends_with("</html>\n"));
    assert!(sent() > before);
    let (status, removed) = socket.ask("/vms/vm[9000-9999]", &["--globoff", "-X", "DELETE"]);
    assert_eq!((status, number(&removed, "/vms")), (202, 1000));
    socket.wait_for("/", "VMs fewer", |lab| lab["vms"] == 9_000);
    socket.ask("/stop", &["-X", "POST"]);
    let run = run.wait();
    assert!(run.status <= 1, "{run:?}");
    let report: Value = serde_json::from_slice(&fs::read(file).expect("a report")).expect("JSON");
    assert_eq!(
        number(&report, "/flows/0/totals/lost"),
        0,
        "{}",
        report["pauses"]
    );
}
