//! Control and metrics over TCP: labs are private, and their clients on the loopback interface of the test's own namespace,
//! where their user is.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::lab::{Finished, Running};

const TOKEN: &str = "c2VjcmV0IG9mIHRoZSBsYWI=";

/// A command of the program, in the namespace of the test; words are separated by blanks.
fn program(token: Option<&str>, arguments: &str) -> Command {
    let mut command = Command::new(TAP_REACTOR);
    command.args(arguments.split_whitespace());
    command.env_remove("TAP_REACTOR_TOKEN");
    command.envs(token.map(|token| ("TAP_REACTOR_TOKEN", token)));
    command
}

fn finish(command: Command) -> Finished {
    Running::start(command).wait()
}

/// The addresses that a run tells after `word`, once it has told all of them.
pub(super) fn addresses(run: &mut Running, word: &str, number: usize) -> Vec<String> {
    wait_until(&format!("{number} times {word}"), || {
        run.expect_alive();
        let told = run.stderr();
        let lines = told.lines().filter_map(|line| line.strip_prefix(word));
        let lines = lines.filter_map(|line| line.strip_prefix(": http://")?.split('/').next());
        let found: Vec<String> = lines.map(str::to_owned).collect();
        (found.len() == number).then_some(found)
    })
}

/// Starts a lab that is controlled at a port of 127.0.0.1.
fn start(arguments: &str) -> (Running, String) {
    let arguments = format!("{arguments} --control tcp:127.0.0.1:0");
    let mut run = Running::start(program(Some(TOKEN), &arguments));
    let address = addresses(&mut run, "control", 1).remove(0);
    (run, address)
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    let patience = Some(Duration::from_secs(30));
    stream.set_read_timeout(patience).expect("a bound");
    stream
}

/// Sends `bytes`, no more, and returns all that comes back. What is sent after a refusal may reset the connection.
fn converse(address: &str, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
    String::from_utf8(text).expect("text")
}

/// A request with header fields, each with its line end.
fn request(method: &str, path: &str, fields: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\n{fields}\r\n").into_bytes()
}

/// The fields of a request that is served.
fn right(address: &str) -> String {
    format!("Host: {address}\r\nAuthorization: Bearer {TOKEN}\r\n")
}

/// The statuses of all responses in `text`, in their order.
fn statuses(text: &str) -> Vec<u16> {
    let after = text.split("HTTP/1.1 ").skip(1);
    let numbers = after.map(|rest| rest.get(..3).expect("a status").parse());
    numbers.map(|number| number.expect("a number")).collect()
}

fn document(address: &str, path: &str) -> Value {
    let response = converse(address, &request("GET", path, &right(address)));
    let (_, body) = response.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {response}"))
}

fn stop(run: Running, address: &str) -> Finished {
    let fields = right(address);
    let stopped = converse(address, &request("POST", "/stop", &fields));
    assert_eq!(statuses(&stopped), [202]);
    run.wait()
}

#[test]
fn a_private_lab_listens_where_its_user_is_and_nobody_inherits_its_sockets() {
    let socket = Socket::new();
    let folder = socket.folder.path();
    let seen = folder.join("seen");
    let token = folder.join("token");
    fs::write(&token, format!("{TOKEN}\n")).expect("write the token");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("for its owner");
    // It is the switch, too.
    let hook = format!(
        "{{ ls -l /proc/self/fd; env; }} >>{}; test $TAP_REACTOR_EVENT = up || exit 0; \
         ip link add br9 type bridge && ip link set br9 up && \
         for tap in $TAP_REACTOR_TAPS; do ip link set $tap master br9 || exit; done",
        seen.display()
    );
    let mut command = program(
        Some("of the environment, and not that of the file"),
        &format!(
            "--netns private --fabric none --vms 2 --ping vm0:vm1 --interval 1ms --json --control {} --control tcp:127.0.0.1:0 \
             --control tcp:[::1]:0 --metrics localhost:0 --control-token-file {}",
            socket.path().display(),
            token.display()
        ),
    );
    command.args(["--hook", &hook]);
    let mut run = Running::start(command);
    let control = addresses(&mut run, "control", 2);
    let metrics = addresses(&mut run, "metrics", 1).remove(0);
    // All of them are told, and none has the token in its words.
    let state = socket.wait_for("/", "answers", |lab| number(lab, "/totals/received") > 10);
    let told = [
        socket.path().display().to_string(),
        format!("tcp:{}", control[0]),
        format!("tcp:{}", control[1]),
    ];
    assert_eq!(state["control"], json!(told));
    assert_eq!(state["metrics"], json!([metrics]));
    assert!(!state.to_string().contains(TOKEN), "{state}");
    // The lab is elsewhere.
    let place = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).expect("a namespace");
    assert_ne!(place(run.pid()), place(std::process::id()));
    // By curl, as a user does it.
    for address in &control {
        let header = format!("Authorization: Bearer {TOKEN}");
        let url = format!("http://{address}/vms");
        let curl = [
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "-H",
            &header,
        ];
        let text = succeed(Command::new("curl").args(curl).arg(&url));
        let vms: Value = serde_json::from_str(&text).expect("a document");
        assert_eq!(number(&vms, "/total"), 2);
        let text = succeed(Command::new("curl").args(["-sS", "--max-time", "20", &url]));
        assert!(text.contains("does not show the token"), "{text}");
    }
    let page = converse(
        &metrics,
        &request("GET", "/metrics", &format!("Host: {metrics}\r\n")),
    );
    assert!(page.contains("tap_reactor_pings_sent_total "), "{page}");
    let root = converse(
        &metrics,
        &request("GET", "/", &format!("Host: {metrics}\r\n")),
    );
    assert!(root.ends_with("GET /metrics\n"), "{root}");
    stop(run, &control[0]).expect_status(0);
    for address in control.iter().chain([&metrics]) {
        TcpStream::connect(address).expect_err("nobody listens any more");
    }
    let seen = fs::read_to_string(seen).expect("what the hook saw");
    assert!(seen.contains("TAP_REACTOR_EVENT=down"), "{seen}");
    assert!(
        !seen.contains("socket:") && !seen.contains("TAP_REACTOR_TOKEN"),
        "{seen}"
    );
    // The ports are free at once, although connections of before linger there.
    let again = format!(
        "--fabric sim --stay --ping vm0:vm1 --count 1 --control tcp:{} --metrics {metrics}",
        control[0]
    );
    let mut run = Running::start(program(Some(TOKEN), &again));
    assert_eq!(addresses(&mut run, "control", 1), control[..1]);
    stop(run, &control[0]).expect_status(0);
}

#[test]
fn who_does_not_show_the_token_or_asks_for_another_host_is_refused() {
    let (run, address) = start("--netns private --vms 2");
    let (_, port) = address.rsplit_once(':').expect("a port");
    let host = format!("Host: {address}\r\n");
    let shown = format!("Authorization: Bearer {TOKEN}\r\n");
    for (fields, status) in [
        (format!("{host}{shown}"), 200),
        (format!("Host: localhost:{port}\r\n{shown}"), 200),
        (
            format!("Host: [::1]:{port}\r\nauthorization: bearer {TOKEN}\r\n"),
            200,
        ),
        (host.clone(), 401),
        (format!("{host}Authorization: Bearer {TOKEN}x\r\n"), 401),
        (
            format!("{host}Authorization: Bearer {}\r\n", &TOKEN[1..]),
            401,
        ),
        (format!("{host}Authorization: Bearer short\r\n"), 401),
        (format!("{host}Authorization: Bearer \r\n"), 401),
        (format!("{host}Authorization: {TOKEN}\r\n"), 401),
        (format!("{host}Authorization: Basic {TOKEN}\r\n"), 401),
        (format!("{host}{shown}{shown}"), 401),
        (format!("{host}X-Authorization: Bearer {TOKEN}\r\n"), 401),
        (format!("{host}Cookie: token={TOKEN}\r\n"), 401),
        (format!("{host}{shown}Origin: http://{address}\r\n"), 403),
        (format!("{host}{shown}Origin: null\r\n"), 403),
        (format!("Host: rebind.example:{port}\r\n{shown}"), 421),
        (format!("Host: 127.0.0.1\r\n{shown}"), 421),
        (format!("Host: 127.0.0.1:1\r\n{shown}"), 421),
        (format!("Host: 10.1.2.3:{port}\r\n{shown}"), 421),
        (format!("Host: \r\n{shown}"), 421),
        (shown.clone(), 400),
        (format!("{host}{host}{shown}"), 400),
    ] {
        let response = converse(&address, &request("GET", "/vms", &fields));
        assert_eq!(statuses(&response), [status], "{fields}{response}");
        assert_eq!(
            response.contains("\r\nWWW-Authenticate: Bearer\r\n"),
            status == 401
        );
        assert!(!response.contains("Access-Control"), "{response}");
        assert!(!response.contains(TOKEN), "{response}");
    }
    // A browser that asks whether it may.
    let fields =
        format!("{host}Origin: http://a.example\r\nAccess-Control-Request-Method: POST\r\n");
    let asked = converse(&address, &request("OPTIONS", "/stop", &fields));
    assert_eq!(statuses(&asked), [403]);
    let old = format!("GET /vms HTTP/1.0\r\n{shown}\r\n");
    assert_eq!(statuses(&converse(&address, old.as_bytes())), [421]);
    assert_eq!(document(&address, "/")["state"], "serving");
    stop(run, &address).expect_status(0);
}

#[test]
fn no_request_is_hidden_in_another_one() {
    let (run, address) = start("--netns private --vms 2");
    let right = right(&address);
    let hidden = format!("POST /stop HTTP/1.1\r\n{right}\r\n");
    let length = hidden.len();
    let post = |fields: &str, body: &str| {
        [
            request("POST", "/marks", &format!("{right}{fields}")),
            body.as_bytes().to_vec(),
        ]
        .concat()
    };
    for (bytes, expected) in [
        // A length and a coding, either of which another server may believe.
        (
            post(
                &format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
                &format!("0\r\n\r\n{hidden}"),
            ),
            400,
        ),
        (
            post(
                &format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
                &hidden,
            ),
            400,
        ),
        (
            post(
                "Transfer-Encoding: chunked\r\n",
                &format!("0\r\n\r\n{hidden}"),
            ),
            411,
        ),
        (post("Transfer-Encoding: identity\r\n", &hidden), 411),
        (
            post(
                &format!("Content-Length: 0\r\nContent-Length: {length}\r\n"),
                &hidden,
            ),
            400,
        ),
        (
            post(&format!("Content-Length: 0, {length}\r\n"), &hidden),
            400,
        ),
        (post("Content-Length: +0\r\n", &hidden), 400),
        (post("Content-Length: 0x0\r\n", &hidden), 400),
        (post("Content-Length : 0\r\n", &hidden), 400),
        (post(" Content-Length: 0\r\n", &hidden), 400),
        (post("A: b\r\n Content-Length: 0\r\n", &hidden), 400),
        (post("A: b\0c\r\n", &hidden), 400),
        // It is a body, and no document.
        (post(&format!("Content-Length: {length}\r\n"), &hidden), 400),
        (
            format!("GET http://{address}/stop HTTP/1.1\r\n{right}\r\n").into_bytes(),
            405,
        ),
        (
            format!("GET http://{address}/vms HTTP/1.1\r\n{right}\r\n").into_bytes(),
            200,
        ),
        // The host of the target counts, whatever the other one is.
        (
            format!("GET http://lab.example/vms HTTP/1.1\r\n{right}\r\n").into_bytes(),
            421,
        ),
        (
            format!("POST /vms\thttp/1.1\r\n{right}\r\n{hidden}").into_bytes(),
            400,
        ),
        (
            format!("CONNECT {address} HTTP/1.1\r\n{right}\r\n").into_bytes(),
            404,
        ),
    ] {
        let response = converse(&address, &bytes);
        assert_eq!(
            statuses(&response),
            [expected],
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }
    assert_eq!(document(&address, "/")["state"], "serving");
    // Two that follow one another are two, and each shows the token for itself.
    let first = request("GET", "/vms", &right);
    let other = request("POST", "/stop", &format!("Host: {address}\r\n"));
    let responses = converse(&address, &[first, other].concat());
    assert_eq!(statuses(&responses), [200, 401]);
    stop(run, &address).expect_status(0);
}

#[test]
fn slow_and_many_clients_over_tcp_hold_up_neither_the_run_nor_its_owner() {
    let socket = Socket::new();
    let (mut run, address) = start(&format!(
        "--netns private --vms 2 --ping vm0:vm1 --interval 1ms --json --metrics 127.0.0.1:0 --control {}",
        socket.path().display()
    ));
    let metrics = addresses(&mut run, "metrics", 1).remove(0);
    let right = right(&address);
    // Clients of metrics first, then of control: those that ask and never read, half a request, nothing at all.
    let scrape = request("GET", "/metrics", &format!("Host: {metrics}\r\n")).repeat(200);
    let events = request("GET", "/events", &right);
    let frames = [
        request(
            "POST",
            "/captures",
            &format!("{right}Content-Length: 2\r\n"),
        ),
        b"{}".to_vec(),
    ];
    let reports = request("GET", "/report", &right).repeat(200);
    let bytes: [&[u8]; 5] = [&events, &frames.concat(), &reports, b"GET /vms HT", b""];
    let mut stuck = Vec::new();
    for (address, words) in [(&metrics, [&scrape[..]; 5]), (&address, bytes)] {
        for words in words.iter().cycle().take(40) {
            let mut client = connect(address);
            client.set_nonblocking(true).expect("no waiting");
            let _ = client.write(words);
            stuck.push(client);
        }
        // It gets a place, if a request of a stuck one without a token was not begun, or is told that there is none.
        let said = statuses(&converse(address, b""));
        assert!([&[][..], &[503]].contains(&&said[..]), "{said:?}");
    }
    // At the Unix socket there is room still.
    let received = |lab: &Value| number(lab, "/totals/received");
    let before = received(&socket.get("/"));
    let after = socket.wait_for("/", "more answers", |lab| received(lab) > before + 100);
    assert_eq!(number(&after, "/totals/lost"), 0);
    drop(stuck);
    socket.ask("/stop", &["-X", "POST"]);
    let run = run.wait().expect_status(0);
    let report = run.json();
    assert_eq!(
        number(&report, "/totals/sent"),
        number(&report, "/totals/received")
    );
    assert_eq!(
        report["recordings"],
        Value::Null,
        "no report tells of streams"
    );
}

#[test]
fn who_comes_is_served_at_once_however_many_connections_say_nothing() {
    let socket = Socket::new();
    let (mut run, address) = start(&format!(
        "--netns private --vms 2 --metrics 127.0.0.1:0 --control {}",
        socket.path().display()
    ));
    let metrics = addresses(&mut run, "metrics", 1).remove(0);
    let scrape = request("GET", "/metrics", &format!("Host: {metrics}\r\n"));
    let mut silent = Vec::new();
    let mut silent_users = Vec::new();
    for words in [&b""[..], b"GET /vms HT", b"\r\n", &scrape] {
        for _ in 0..40 {
            for address in [&address, &metrics] {
                let mut client = connect(address);
                let _ = client.write_all(words);
                silent.push(client);
            }
            let client = std::os::unix::net::UnixStream::connect(socket.path());
            silent_users.push(client.expect("connect"));
        }
        assert_eq!(document(&address, "/")["state"], "serving");
        assert_eq!(statuses(&converse(&metrics, &scrape)), [200]);
        assert_eq!(socket.get("/")["state"], "serving");
    }
    drop((silent, silent_users));
    stop(run, &address).expect_status(0);
}

#[test]
fn what_would_listen_wrongly_is_refused_before_anything_is_touched() {
    let socket = Socket::new();
    let folder = socket.folder.path();
    let file = |name: &str, text: &str, mode| {
        let path = folder.join(name);
        fs::write(&path, text).expect("write a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        path.display().to_string()
    };
    let short = file("short", "short\n", 0o600);
    let open = file("open", TOKEN, 0o644);
    let right = file("right", TOKEN, 0o600);
    let (taken, address) = start("--fabric sim --ping vm0:vm1 --count 1 --stay");
    let local = "--control tcp:127.0.0.1:0";
    for (token, arguments, status, words) in [
        (
            None,
            local.to_owned(),
            3,
            "there is no token; expected --control-token-file FILE, or a token in the environment",
        ),
        (Some(""), local.to_owned(), 3, "there is no token"),
        (
            Some("short"),
            local.to_owned(),
            3,
            "TAP_REACTOR_TOKEN: expected 16 to 4096",
        ),
        (
            Some(TOKEN),
            format!("{local} --control-token-file {short}"),
            3,
            "expected 16 to 4096",
        ),
        (
            Some(TOKEN),
            format!("{local} --control-token-file {open}"),
            3,
            "others may use it (mode 0644)",
        ),
        (
            Some(TOKEN),
            format!("{local} --control-token-file {open}.no"),
            3,
            "ENOENT",
        ),
        (
            None,
            format!("--control-token-file {right}"),
            2,
            "expected --control tcp:ADDRESS:PORT beside it",
        ),
        (
            Some(TOKEN),
            format!("--control tcp:{address}"),
            3,
            "EADDRINUSE); choose another port, or 0",
        ),
        (
            None,
            format!("--metrics {address}"),
            3,
            "EADDRINUSE); choose another port, or 0",
        ),
        (
            Some(TOKEN),
            "--control tcp:0.0.0.0:0".to_owned(),
            2,
            "--control-insecure beside it",
        ),
        (
            Some(TOKEN),
            format!("{local} --control-insecure"),
            2,
            "an address that is not loopback",
        ),
        (
            None,
            "--metrics 192.0.2.1:0".to_owned(),
            3,
            "EADDRNOTAVAIL); expected an address of this machine",
        ),
        (
            None,
            "--metrics 9100".to_owned(),
            2,
            "expected an address with a port",
        ),
    ] {
        let arguments = format!(
            "--netns private --ping vm0:vm1 --count 1 --control {} {arguments} --capture {}",
            socket.path().display(),
            folder.join("frames").display()
        );
        let run = finish(program(token, &arguments));
        assert_eq!(run.status, status, "{arguments}: {run:?}");
        assert!(run.stderr.contains(words), "{words}: {run:?}");
        assert!(!run.stderr.contains(TOKEN), "{run:?}");
        for touched in [&socket.path(), &folder.join("frames")] {
            assert!(!Path::exists(touched), "{arguments}: {}", touched.display());
        }
    }
    stop(taken, &address).expect_status(0);
}

#[test]
fn a_lab_that_others_reach_warns_of_it_and_its_metrics_are_there_by_any_name() {
    let lab = Lab::new();
    lab.ip("address add 10.99.0.1/32 dev lo");
    let token = format!("TAP_REACTOR_TOKEN={TOKEN}");
    let arguments =
        "--netns private --vms 2 --control tcp:10.99.0.1:0 --control-insecure --metrics 0.0.0.0:0";
    let words = ["env", &token, TAP_REACTOR].into_iter();
    let words: Vec<&str> = words.chain(arguments.split_whitespace()).collect();
    let mut run = lab.start(&words);
    let control = addresses(&mut run, "control", 1).remove(0);
    let metrics = addresses(&mut run, "metrics", 1).remove(0);
    let said = run.stderr();
    assert!(said.contains("travel in the clear"), "{said}");
    let shown = format!("Authorization: Bearer {TOKEN}");
    let curl = |url: String, host: &str| {
        let host = format!("Host: {host}");
        let told = ["--output", "/dev/null", "--write-out", "%{http_code}"];
        let told = [
            &["curl", "-sS", "--max-time", "20", "-H", &shown, "-H", &host],
            &told[..],
            &[&url],
        ];
        lab.run(&told.concat()).stdout
    };
    let (_, port) = metrics.rsplit_once(':').expect("a port");
    assert_eq!(curl(format!("http://{control}/"), &control), "200");
    assert_eq!(curl(format!("http://{control}/"), "lab.example"), "421");
    assert_eq!(
        curl(
            format!("http://10.99.0.1:{port}/metrics"),
            "lab.example:9100"
        ),
        "200"
    );
    assert_eq!(
        curl(format!("http://127.0.0.1:{port}/vms"), "localhost"),
        "404"
    );
    run.signal(SIGINT);
    run.wait().expect_status(0);
}

#[test]
fn a_lab_without_root_listens_where_its_user_is() {
    let lab = Lab::new();
    let folder = TempDir::new().expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("a folder for all");
    let binary = folder.path().join("tap-reactor");
    fs::copy(TAP_REACTOR, &binary).expect("copy the program");
    let script = format!(
        "mount -t tmpfs -o mode=0755 tmpfs /mnt && mknod /mnt/tun c 10 200 && chmod 0666 /mnt/tun && \
         mount --bind /mnt/tun /dev/net/tun && exec {} \
         env TAP_REACTOR_TOKEN={TOKEN} {} --vms 2 --control tcp:127.0.0.1:0 --metrics [::1]:0",
        as_user(1234),
        binary.display(),
    );
    let mut run = lab.start(&["unshare", "--mount", "sh", "-c", &script]);
    let control = addresses(&mut run, "control", 1).remove(0);
    let metrics = addresses(&mut run, "metrics", 1).remove(0);
    // Whoever has the token is served: the kernel does not tell users apart over TCP.
    let shown = format!("Authorization: Bearer {TOKEN}");
    let control = lab.run(&["curl", "-sS", "-H", &shown, &format!("http://{control}/")]);
    let state: Value =
        serde_json::from_str(&control.stdout).unwrap_or_else(|e| panic!("{e}: {control:?}"));
    assert_eq!(number(&state, "/vms"), 2);
    let page = lab
        .run(&["curl", "-sS", &format!("http://{metrics}/metrics")])
        .stdout;
    assert!(page.contains("tap_reactor_vms 2\n"), "{page}");
    run.signal(SIGINT);
    run.wait().expect_status(0);
}

#[test]
fn a_capture_without_a_file_is_the_response_and_ends_with_its_reader() {
    let socket = Socket::new();
    let (run, address) = start(&format!(
        "--netns private --vms 4 --ping vm3:vm0 --ping vm1:vm2 --interval 1ms --json --control {}",
        socket.path().display()
    ));
    let over_unix = format!("--unix-socket {} http://lab", socket.path().display());
    let over_tcp = format!("-H 'Authorization: Bearer {TOKEN}' http://{address}");
    for place in [over_unix, over_tcp] {
        let words = format!(
            "curl -sS --no-buffer --max-time 50 {place}/captures -d '{{\"vms\": \"vm3\", \"snap\": 64}}' | \
             tshark -n -r - -c 20 -T fields -e frame.interface_name -e icmp.type -e frame.comment 2>&1"
        );
        let frames = succeed(Command::new("sh").args(["-c", &words]));
        let echoes = |kind: &str| {
            let lines = frames
                .lines()
                .filter(|line| line.starts_with(&format!("tap3\t{kind}\t")));
            lines.count()
        };
        assert!(echoes("8") >= 8 && echoes("0") >= 8, "{frames}");
    }
    // The readers have gone, and the lab goes on.
    let received = |lab: &Value| number(lab, "/totals/received");
    let before = received(&socket.get("/"));
    socket.wait_for("/", "more answers", |lab| received(lab) > before + 50);
    // One that reads until the lab has enough gets a whole file.
    let file = socket.file("all.pcapng");
    let mut reader = socket.curl(
        "/captures",
        &["--max-time", "50", "--data", r#"{"vms": "vm1"}"#],
    );
    let mut reader = reader.arg("--output").arg(&file).spawn().expect("run curl");
    wait_until("frames", || {
        let length = fs::metadata(&file).map_or(0, |file| file.len());
        (length > 10_000).then_some(())
    });
    let run = stop(run, &address).expect_status(0);
    assert!(reader.wait().expect("curl").success());
    let frames = succeed(Command::new("tshark").args(["-n", "-r"]).arg(&file));
    assert!(frames.lines().count() > 50, "{frames}");
    let report = run.json();
    assert_eq!(
        report["recordings"],
        Value::Null,
        "no report tells of streams"
    );
}
