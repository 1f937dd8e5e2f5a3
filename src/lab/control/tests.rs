use std::collections::BTreeSet;
use std::time::Duration;

use jsonschema::Validator;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::control::{Access, Body, Connection, ROUTES, Request, Response, description};
use crate::experiment::{self, Scenario};
use crate::lab::SimulatedLab;
use crate::vm::VmId;

/// A simulated lab of three VMs, one flow of which has run for a second, and the folder that its socket is in.
fn lab() -> (SimulatedLab<'static>, TempDir) {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("lab.sock");
    lab_of(
        "vms = 3\nping = 'vm0:vm1'\nrate = 100\nduration = '1h'\nimpair = 'vm2:delay=1ms'",
        &socket,
        folder,
    )
}

/// A simulated lab of that scenario that has run for a second.
fn lab_of(
    scenario: &str,
    socket: &std::path::Path,
    folder: TempDir,
) -> (SimulatedLab<'static>, TempDir) {
    let text = format!(
        "fabric = 'sim'\ncontrol = '{}'\n{scenario}",
        socket.display()
    );
    let scenario = Scenario::parse("lab.toml", &text).unwrap();
    let plan = experiment::plan(&scenario).unwrap();
    let phases = plan.phases.clone();
    let mut lab = SimulatedLab::on_switch(plan).unwrap();
    lab.populate(&mut ()).unwrap();
    lab.hypervisor().start(Instant::ZERO, phases);
    pass(&mut lab, Duration::from_secs(1));
    (lab, folder)
}

fn pass(lab: &mut SimulatedLab<'_>, time: Duration) {
    let until = lab.now() + time;
    lab.drive(Some(until)).unwrap();
}

fn ask(lab: &mut SimulatedLab<'_>, method: &str, target: &str, body: &str) -> Response {
    ask_for(lab, method, target, body, "")
}

fn ask_for(
    lab: &mut SimulatedLab<'_>,
    method: &str,
    target: &str,
    body: &str,
    accept: &str,
) -> Response {
    let request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        accept: accept.to_owned(),
        body: body.as_bytes().to_vec(),
        ..Request::default()
    };
    ask_with(lab, &Access::User, &request)
}

fn ask_with(lab: &mut SimulatedLab<'_>, access: &Access, request: &Request) -> Response {
    let response = match lab.answer(access, request).unwrap() {
        Response {
            body: Body::Later(mut work),
            ..
        } => loop {
            if let Some(response) = lab.go_on(&mut work) {
                break response;
            }
        },
        response => response,
    };
    match response.body {
        Body::Pieces(pieces) => Response {
            body: Body::Whole(pieces.flat_map(Result::unwrap).collect()),
            ..response
        },
        _ => response,
    }
}

fn bytes(response: &Response) -> &[u8] {
    match &response.body {
        Body::Whole(body) => body,
        _ => &[],
    }
}

fn document(response: &Response) -> Value {
    serde_json::from_slice(bytes(response)).unwrap()
}

/// What a request returns when all is well.
fn get(lab: &mut SimulatedLab<'_>, target: &str) -> Value {
    let response = ask(lab, "GET", target, "");
    assert_eq!(response.status, 200, "{target}");
    document(&response)
}

/// Checks a response against the description of its request; `path` is as the description has it.
fn check(description: &Value, (method, path): (&str, &str), response: &Response) {
    let responses = &description["paths"][path][method.to_ascii_lowercase()]["responses"];
    let status = response.status.to_string();
    let mut described = &responses[&status];
    assert!(
        described.is_object(),
        "{method} {path}: {status} is not described"
    );
    if let Some(reference) = described["$ref"].as_str() {
        described = description
            .pointer(reference.strip_prefix('#').unwrap())
            .unwrap();
    }
    let content = &described["content"][response.content_type];
    assert!(
        content.is_object(),
        "{method} {path}: {} is not described",
        response.content_type
    );
    let Some(schema) = content.get("schema") else {
        return;
    };
    let whole = json!({ "allOf": [schema], "components": description["components"] });
    let validator: Validator = jsonschema::validator_for(&whole).unwrap();
    let document = document(response);
    let errors = validator
        .iter_errors(&document)
        .map(|error| error.to_string());
    assert_eq!(
        errors.collect::<Vec<_>>(),
        [""; 0],
        "{method} {path}: {document}"
    );
}

#[test]
fn every_route_answers_as_it_is_described() {
    let description: Value = serde_json::from_str(&description()).unwrap();
    let (mut lab, folder) = lab();
    let capture = json!({ "capture": folder.path().join("c.pcapng"), "snap": 64 }).to_string();
    let mut asked = BTreeSet::new();
    for (method, path, target, body) in [
        ("GET", "/", "/", ""),
        ("GET", "/vms", "/vms", ""),
        ("GET", "/vms", "/vms?offset=1&limit=1", ""),
        ("POST", "/vms", "/vms", r#"{"vms": 2}"#),
        ("GET", "/vms/{vm}", "/vms/vm2", ""),
        ("GET", "/flows", "/flows", ""),
        ("GET", "/flows", "/flows?sort=worst&limit=1", ""),
        ("POST", "/flows", "/flows", r#"{"ping": "vm2:vm3"}"#),
        (
            "POST",
            "/flows",
            "/flows",
            r#"{"ping": "all:vm0", "size": 9}"#,
        ),
        (
            "POST",
            "/flows",
            "/flows",
            r#"{"ping": "vm0:vm2", "rate": 100, "count": 5}"#,
        ),
        ("DELETE", "/flows/{flow}", "/flows/0", ""),
        ("PUT", "/load", "/load", r#"{"rate": 50}"#),
        ("PUT", "/load", "/load", r#"{"interval": "10ms"}"#),
        ("PUT", "/load", "/load", r#"{"window": 2}"#),
        ("GET", "/impairments", "/impairments", ""),
        (
            "POST",
            "/impairments",
            "/impairments",
            r#"{"impair": "vm0:loss=100%"}"#,
        ),
        ("DELETE", "/impairments", "/impairments", ""),
        ("GET", "/misbehaviours", "/misbehaviours", ""),
        (
            "POST",
            "/misbehaviours",
            "/misbehaviours",
            r#"{"misbehave": "vm0:arp-flood 100/s+1s"}"#,
        ),
        (
            "DELETE",
            "/misbehaviours/{vm}",
            "/misbehaviours/all?limit=5",
            "",
        ),
        ("POST", "/captures", "/captures", &capture),
        ("GET", "/captures", "/captures?limit=5", ""),
        ("DELETE", "/captures/{capture}", "/captures/0", ""),
        ("POST", "/marks", "/marks", r#"{"name": "policy"}"#),
        (
            "POST",
            "/moves",
            "/moves",
            r#"{"move": "vm0:leaf1,announce=rarp", "repeat": 2}"#,
        ),
        ("GET", "/moves", "/moves?limit=5", ""),
        ("DELETE", "/moves/{vm}", "/moves/vm0", ""),
        ("GET", "/report", "/report", ""),
        ("GET", "/report.{format}", "/report.json", ""),
        ("GET", "/report.{format}", "/report.csv", ""),
        ("GET", "/report.{format}", "/report.html", ""),
        ("GET", "/report.{format}", "/report.hlog", ""),
        ("GET", "/report.{format}", "/report.boot.hgrm", ""),
        ("GET", "/metrics", "/metrics", ""),
        ("GET", "/events", "/events", ""),
        ("DELETE", "/vms/{vm}", "/vms/vm%5b1-2%5D", ""),
        ("GET", "/openapi.json", "/openapi.json", ""),
        ("POST", "/stop", "/stop", ""),
        // As soon as it was told to stop, too.
        ("GET", "/", "/", ""),
        ("POST", "/stop", "/stop", ""),
    ] {
        let response = ask(&mut lab, method, target, body);
        assert!(
            response.status < 300,
            "{method} {target}: {:?}",
            String::from_utf8_lossy(bytes(&response))
        );
        check(&description, (method, path), &response);
        asked.insert((method, path));
        if !lab.hypervisor().is_stopping() {
            pass(&mut lab, Duration::from_millis(100));
        }
    }
    let all = ROUTES.iter().map(|route| (route.method, route.path));
    assert_eq!(asked, all.collect());
}

#[test]
fn what_cannot_be_done_is_told_with_what_was_expected() {
    let description: Value = serde_json::from_str(&description()).unwrap();
    let (mut lab, folder) = lab();
    let taken = folder.path().join("taken.pcapng").display().to_string();
    let first = ask(
        &mut lab,
        "POST",
        "/captures",
        &json!({ "capture": taken }).to_string(),
    );
    assert_eq!(first.status, 201);
    let again = json!({ "capture": taken }).to_string();
    let link = folder.path().join("link.pcapng");
    std::fs::hard_link(&taken, &link).unwrap();
    let again_by_another_name = json!({ "capture": link }).to_string();
    let nowhere = json!({ "capture": folder.path().join("no/c.pcapng") }).to_string();
    let of_folder = json!({ "capture": folder.path() }).to_string();
    let table: &[(&str, &str, &str, &str, u16, &str)] = &[
        // No such resource, or not this way.
        (
            "GET",
            "",
            "/nothing",
            "",
            404,
            "there is no \"/nothing\" here",
        ),
        ("GET", "", "", "", 404, "there is no \"\" here"),
        ("GET", "", "/vms/", "", 404, "there is no"),
        ("GET", "", "/vms/vm0/mac", "", 404, "there is no"),
        ("GET", "", "/VMS", "", 404, "there is no"),
        ("PUT", "", "/vms", "{}", 405, "/vms has no method PUT"),
        ("get", "", "/vms", "", 405, "/vms has no method get"),
        ("OPTIONS", "", "/", "", 405, "/ has no method OPTIONS"),
        ("GET", "", "/stop", "", 405, "/stop has no method GET"),
        ("HEAD", "", "/marks", "", 405, "/marks has no method GET"),
        // Pages, and other parameters.
        ("GET", "/vms", "/vms?limit=0", "", 400, "limit=0"),
        ("GET", "/vms", "/vms?limit=1001", "", 400, "limit=1001"),
        ("GET", "/flows", "/flows?offset=-1", "", 400, "offset=-1"),
        (
            "GET",
            "/flows",
            "/flows?sort=best",
            "",
            400,
            "number, worst",
        ),
        (
            "GET",
            "/vms",
            "/vms?sort=worst",
            "",
            400,
            "there is no parameter \"sort\"",
        ),
        ("GET", "/flows", "/flows?offset=", "", 400, "offset="),
        (
            "GET",
            "/vms",
            "/vms?page=2",
            "",
            400,
            "there is no parameter \"page\"",
        ),
        (
            "GET",
            "/",
            "/?limit=2",
            "",
            400,
            "there is no parameter \"limit\"",
        ),
        (
            "GET",
            "/vms",
            "/vms?limit=%zz",
            "",
            400,
            "\"%zz\" is not encoded",
        ),
        (
            "GET",
            "/vms/{vm}",
            "/vms/vm%",
            "",
            400,
            "\"vm%\" is not encoded",
        ),
        (
            "GET",
            "/vms/{vm}",
            "/vms/%ff",
            "",
            400,
            "\"%ff\" is not encoded",
        ),
        // Bodies.
        ("GET", "/", "/", "{}", 400, "GET / has a body"),
        (
            "POST",
            "/stop",
            "/stop",
            "now",
            400,
            "POST /stop has a body",
        ),
        (
            "POST",
            "/vms",
            "/vms",
            "",
            400,
            "the body is no such document: EOF",
        ),
        (
            "POST",
            "/vms",
            "/vms",
            "{",
            400,
            "the body is no such document: EOF",
        ),
        (
            "POST",
            "/vms",
            "/vms",
            "{} {}",
            400,
            "the body is no such document",
        ),
        (
            "POST",
            "/vms",
            "/vms",
            "\0\u{ff}",
            400,
            "the body is no such document",
        ),
        (
            "POST",
            "/vms",
            "/vms",
            r#"{"vm": 2}"#,
            400,
            "unknown field `vm`",
        ),
        (
            "POST",
            "/vms",
            "/vms",
            r#"{"vms": "2"}"#,
            400,
            "invalid type: string",
        ),
        (
            "POST",
            "/vms",
            "/vms",
            r#"{"vms": -1}"#,
            400,
            "invalid value",
        ),
        // VMs.
        ("POST", "/vms", "/vms", r#"{"vms": 0}"#, 400, "0 more VMs"),
        (
            "POST",
            "/vms",
            "/vms",
            r#"{"vms": 4000000000}"#,
            400,
            "4000000000 more VMs",
        ),
        (
            "GET",
            "/vms/{vm}",
            "/vms/vm3",
            "",
            404,
            "there is no VM \"vm3\"",
        ),
        (
            "GET",
            "/vms/{vm}",
            "/vms/all",
            "",
            404,
            "there is no VM \"all\"",
        ),
        ("DELETE", "/vms/{vm}", "/vms/vm3", "", 404, "vm3"),
        ("DELETE", "/vms/{vm}", "/vms/clients", "", 404, "clients"),
        // Flows and load.
        (
            "POST",
            "/flows",
            "/flows",
            r#"{"ping": "vm0:vm0"}"#,
            400,
            "can't ping itself",
        ),
        (
            "POST",
            "/flows",
            "/flows",
            r#"{"ping": "vm0:vm9"}"#,
            400,
            "vm9",
        ),
        (
            "POST",
            "/flows",
            "/flows",
            r#"{"ping": "mseh"}"#,
            400,
            "mseh",
        ),
        (
            "POST",
            "/flows",
            "/flows",
            r#"{"ping": "mesh", "size": 70000}"#,
            400,
            "70000",
        ),
        (
            "DELETE",
            "/flows/{flow}",
            "/flows/1",
            "",
            404,
            "there is no flow 1",
        ),
        (
            "DELETE",
            "/flows/{flow}",
            "/flows/x",
            "",
            400,
            "\"x\" is no number",
        ),
        (
            "DELETE",
            "/flows/{flow}",
            "/flows/99999999999",
            "",
            400,
            "is no number",
        ),
        (
            "POST",
            "/flows",
            "/flows",
            r#"{"ping": "vm0:vm1", "rate": 5, "interval": "1s"}"#,
            400,
            "the load is not one of",
        ),
        (
            "POST",
            "/flows",
            "/flows",
            r#"{"ping": "vm0:vm1", "count": 5}"#,
            400,
            "count without a pace",
        ),
        (
            "POST",
            "/flows",
            "/flows",
            r#"{"ping": "vm0:vm1", "window": 1, "count": 0}"#,
            400,
            "count=0",
        ),
        ("PUT", "/load", "/load", "{}", 400, "the load is not one of"),
        (
            "PUT",
            "/load",
            "/load",
            r#"{"rate": 5, "window": 1}"#,
            400,
            "the load is not one of",
        ),
        ("PUT", "/load", "/load", r#"{"rate": 0}"#, 400, "0"),
        ("PUT", "/load", "/load", r#"{"rate": -1}"#, 400, "-1"),
        ("PUT", "/load", "/load", r#"{"rate": 1e99}"#, 400, "1"),
        (
            "PUT",
            "/load",
            "/load",
            r#"{"interval": "soon"}"#,
            400,
            "soon",
        ),
        ("PUT", "/load", "/load", r#"{"window": 0}"#, 400, "0"),
        // Impairments, captures, marks, reports.
        (
            "POST",
            "/impairments",
            "/impairments",
            r#"{"impair": "vm0"}"#,
            400,
            "vm0",
        ),
        (
            "POST",
            "/impairments",
            "/impairments",
            r#"{"impair": "vm9:loss=1%"}"#,
            400,
            "vm9",
        ),
        (
            "POST",
            "/impairments",
            "/impairments",
            r#"{"impair": "vm0:loss=101%"}"#,
            400,
            "101%",
        ),
        (
            "POST",
            "/captures",
            "/captures",
            r#"{"capture": ""}"#,
            400,
            "capture",
        ),
        (
            "POST",
            "/captures",
            "/captures",
            r#"{"capture": "-"}"#,
            400,
            "-",
        ),
        (
            "POST",
            "/captures",
            "/captures",
            r#"{"capture": "x", "snap": 1}"#,
            400,
            "snap",
        ),
        (
            "POST",
            "/captures",
            "/captures",
            r#"{"capture": "x", "vms": "vm9"}"#,
            400,
            "vm9",
        ),
        (
            "POST",
            "/captures",
            "/captures",
            r#"{"capture": "/dev/null"}"#,
            400,
            "/dev/null",
        ),
        ("POST", "/captures", "/captures", &of_folder, 400, "a file"),
        (
            "DELETE",
            "/captures/{capture}",
            "/captures/7",
            "",
            404,
            "there is no capture 7",
        ),
        (
            "DELETE",
            "/captures/{capture}",
            "/captures/first",
            "",
            400,
            "\"first\" is no number",
        ),
        (
            "POST",
            "/captures",
            "/captures",
            &again,
            409,
            "is written by this lab already",
        ),
        (
            "POST",
            "/captures",
            "/captures",
            &again_by_another_name,
            409,
            "is written by this lab already",
        ),
        (
            "POST",
            "/captures",
            "/captures",
            &nowhere,
            500,
            "No such file or directory",
        ),
        (
            "POST",
            "/marks",
            "/marks",
            r#"{"name": ""}"#,
            400,
            "\"\" is no name of a mark",
        ),
        (
            "POST",
            "/marks",
            "/marks",
            r#"{"name": "a b"}"#,
            400,
            "\"a b\" is no name",
        ),
        (
            "GET",
            "/report.{format}",
            "/report.pdf",
            "",
            404,
            "the ending says the format",
        ),
        (
            "GET",
            "/report.{format}",
            "/report.boto.hgrm",
            "",
            404,
            "no metric is named \"boto\"",
        ),
        (
            "GET",
            "/report.{format}",
            "/report.mark.nosuch.first_pass.hgrm",
            "",
            404,
            "no mark nosuch was set one that was, but there is none",
        ),
    ];
    for &(method, path, target, body, status, error) in table {
        let before = lab.hypervisor().vm_count();
        let response = ask(&mut lab, method, target, body);
        let told = document(&response);
        let words = format!("{method} {target} {body}: {} {told}", response.status);
        assert_eq!(response.status, status, "{words}");
        let said = format!(
            "{} {}",
            told["error"].as_str().unwrap(),
            told["expected"].as_str().unwrap()
        );
        assert!(said.contains(error), "{words}");
        assert!(
            told["expected"]
                .as_str()
                .is_some_and(|expected| !expected.is_empty()),
            "{words}"
        );
        assert!(
            !told["expected"].as_str().unwrap().contains("expected "),
            "{words}"
        );
        assert_eq!(response.allow.is_some(), status == 405);
        if !path.is_empty() {
            check(&description, (method, path), &response);
        }
        assert_eq!(lab.hypervisor().vm_count(), before, "{words}");
    }
    let allowed = ask(&mut lab, "PATCH", "/impairments", "").allow;
    assert_eq!(allowed.as_deref(), Some("GET, POST, DELETE, HEAD"));
    assert!(!folder.path().join("x").exists());
}

#[test]
fn over_tcp_no_file_is_written_and_metrics_are_all_that_is_there_without_a_token() {
    let (mut lab, folder) = lab();
    let address = "127.0.0.1:80".parse().unwrap();
    let control = Access::Bearer("0123456789abcdef".parse().unwrap(), address);
    let metrics = Access::Metrics(address);
    let file = json!({ "capture": folder.path().join("c.pcapng") }).to_string();
    for (access, method, target, body, status) in [
        (&control, "GET", "/", "", 200),
        (&control, "POST", "/captures", &*file, 403),
        (&control, "POST", "/captures", r#"{"capture": ""}"#, 403),
        (&control, "POST", "/captures", r#"{"capture": "-"}"#, 403),
        (&control, "POST", "/captures", r#"{"capture": null}"#, 200),
        (&control, "POST", "/captures", r#"{"vms": "vm1"}"#, 200),
        (&control, "POST", "/captures", r#"{"vms": "vm9"}"#, 400),
        (&control, "GET", "http://127.0.0.1/vms", "", 200),
        (&control, "GET", "/events", "", 200),
        (&metrics, "GET", "/metrics", "", 200),
        (&metrics, "HEAD", "/metrics", "", 200),
        (&metrics, "GET", "/", "", 200),
        (&metrics, "POST", "/metrics", "", 405),
        (&metrics, "GET", "/metrics?phase=a", "", 400),
        (&metrics, "GET", "/metrics", "{}", 400),
        (&metrics, "POST", "/", "", 404),
        (&metrics, "GET", "/vms", "", 404),
        (&metrics, "GET", "/report", "", 404),
        (&metrics, "GET", "/events", "", 404),
        (&metrics, "POST", "/stop", "", 404),
        (&metrics, "POST", "/captures", "{}", 404),
        (&metrics, "GET", "//metrics", "", 404),
        (&metrics, "GET", "/metrics/", "", 404),
        (&metrics, "GET", "/%6detrics", "", 404),
    ] {
        // Of a request as of a client that may do what it asks for.
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer 0123456789abcdef\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut connection = Connection::new(Instant::ZERO);
        connection.handle(Instant::ZERO, head.as_bytes());
        let request = connection.request(Instant::ZERO).unwrap();
        let response = ask_with(&mut lab, access, &request);
        assert_eq!(
            response.status, status,
            "{access:?} {method} {target} {body}"
        );
        let of_stranger = Request {
            host: "lab.example".to_owned(),
            ..request
        };
        let response = ask_with(&mut lab, access, &of_stranger);
        assert_eq!(response.status, 421, "{access:?} {method} {target}");
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "the socket");
    assert_eq!(get(&mut lab, "/")["state"], "running");
}

#[test]
fn a_lab_that_was_told_to_stop_can_be_asked_and_no_longer_changed() {
    let (mut lab, folder) = lab();
    assert_eq!(ask(&mut lab, "POST", "/stop", "").status, 202);
    assert_eq!(get(&mut lab, "/")["state"], "stopping");
    let capture = json!({ "capture": folder.path().join("c") }).to_string();
    for (method, target, body) in [
        ("POST", "/vms", r#"{"vms": 1}"#),
        ("DELETE", "/vms/vm0", ""),
        ("POST", "/flows", r#"{"ping": "vm1:vm2"}"#),
        ("DELETE", "/flows/0", ""),
        ("PUT", "/load", r#"{"rate": 1}"#),
        ("POST", "/impairments", r#"{"impair": "loss=1%"}"#),
        ("DELETE", "/impairments", ""),
        ("POST", "/captures", &capture),
        ("POST", "/captures", "{}"),
        ("POST", "/marks", r#"{"name": "late"}"#),
    ] {
        let response = ask(&mut lab, method, target, body);
        assert_eq!(response.status, 409, "{method} {target}");
        assert_eq!(document(&response)["error"], "the lab was told to stop");
    }
    assert_eq!(ask(&mut lab, "POST", "/stop", "").status, 202, "once more");
    assert_eq!(get(&mut lab, "/vms")["total"], 3);
    assert!(!folder.path().join("c").exists());
}

#[test]
fn requests_change_what_is_asked_for_later() {
    let (mut lab, _folder) = lab();
    let state = get(&mut lab, "/");
    assert_eq!(
        (&state["state"], &state["vms"]),
        (&json!("running"), &json!(3))
    );
    assert_eq!(
        get(&mut lab, "/flows")["items"][0]["totals"]["received"],
        100
    );
    // The plan's impairments are the first of the list.
    let both = ask(
        &mut lab,
        "POST",
        "/impairments",
        r#"{"impair": "vm1:loss=100%"}"#,
    );
    let rules = json!([{ "impair": "vm2:delay=1ms" }, { "impair": "vm1:loss=100%" }]);
    assert_eq!(document(&both)["rules"], rules);
    pass(&mut lab, Duration::from_secs(3));
    let lost = |lab: &mut _| {
        get(lab, "/flows")["items"][0]["totals"]["lost"]
            .as_u64()
            .unwrap()
    };
    assert!(lost(&mut lab) >= 100);
    assert_eq!(
        document(&ask(&mut lab, "DELETE", "/impairments", ""))["rules"],
        json!([])
    );
    pass(&mut lab, Duration::from_secs(3));
    let before = lost(&mut lab);
    pass(&mut lab, Duration::from_secs(1));
    assert_eq!(lost(&mut lab), before);
    // A rate of all flows together, VMs and flows.
    ask(&mut lab, "PUT", "/load", r#"{"rate": 10}"#);
    let sent = |lab: &mut _| get(lab, "/")["totals"]["sent"].as_u64().unwrap();
    let before = sent(&mut lab);
    pass(&mut lab, Duration::from_secs(10));
    assert!((99..=101).contains(&(sent(&mut lab) - before)));
    ask(&mut lab, "POST", "/vms", r#"{"vms": 1}"#);
    ask(&mut lab, "POST", "/flows", r#"{"ping": "vm0:vm3"}"#);
    pass(&mut lab, Duration::from_secs(10));
    let flows = get(&mut lab, "/flows?offset=1");
    assert_eq!((&flows["total"], &flows["offset"]), (&json!(2), &json!(1)));
    assert_eq!(
        (&flows["items"][0]["id"], &flows["items"][0]["dst"]),
        (&json!(1), &json!("vm3"))
    );
    assert!(flows["items"][0]["totals"]["received"].as_u64() > Some(30));
    ask(&mut lab, "DELETE", "/vms/vm3", "");
    let vm = get(&mut lab, "/vms/vm3");
    assert_eq!(
        (&vm["is_up"], &vm["mac"]),
        (&json!(false), &json!("02:00:0a:4d:00:05"))
    );
    let gone = ask(&mut lab, "DELETE", "/vms/vm3", "");
    assert_eq!(gone.status, 404);
    // The report so far, by what the client accepts.
    let report = ask_for(&mut lab, "GET", "/report", "", "text/html, */*;q=0.1");
    assert_eq!(report.content_type, "text/html");
    assert!(bytes(&report).starts_with(b"<!doctype html>"));
    for (accept, status, content_type) in [
        ("image/png", 406, "application/json"),
        ("application/json;q=0", 406, "application/json"),
        ("application/json; Q=0.000, text/html", 200, "text/html"),
        ("application/json;q=0.001", 200, "application/json"),
        (" , ", 200, "application/json"),
    ] {
        let report = ask_for(&mut lab, "GET", "/report", "", accept);
        let found = (report.status, report.content_type);
        assert_eq!(found, (status, content_type), "{accept}");
    }
}

#[test]
fn metrics_are_in_the_format_that_the_client_accepts_and_agree_with_the_counts_of_the_lab() {
    let (mut lab, _folder) = lab();
    let totals = get(&mut lab, "/")["totals"].clone();
    let sent = format!("tap_reactor_pings_sent_total {}\n", totals["sent"]);
    let (text, open) = ("text/plain; version=0.0.4", "application/openmetrics-text");
    for (accept, format) in [
        ("", text),
        ("*/*", text),
        ("image/png", text),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", text),
        (
            "application/vnd.google.protobuf,application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5",
            open,
        ),
    ] {
        let metrics = ask_for(&mut lab, "GET", "/metrics", "", accept);
        assert_eq!(metrics.status, 200, "{accept}");
        assert!(metrics.content_type.starts_with(format), "{accept}");
        let page = std::str::from_utf8(bytes(&metrics)).unwrap();
        assert!(page.contains(&sent), "{accept}: {page}");
        assert!(page.contains("\ntap_reactor_vms 3\n"), "{page}");
    }
}

#[test]
fn the_worst_flows_come_first_where_that_is_asked_for() {
    let (mut lab, _folder) = lab();
    ask(&mut lab, "DELETE", "/impairments", "");
    // Two that lose all, one of them twice as many, and one that is slow.
    for (ping, impair) in [
        ("vm1:vm0", "vm1:loss=100%"),
        ("vm2:vm0", "vm2:delay=1ms"),
        ("vm1:vm2", "vm2:delay=1ms"),
    ] {
        ask(
            &mut lab,
            "POST",
            "/impairments",
            &json!({ "impair": impair }).to_string(),
        );
        ask(
            &mut lab,
            "POST",
            "/flows",
            &json!({ "ping": ping }).to_string(),
        );
        pass(&mut lab, Duration::from_secs(3));
    }
    let worst = get(&mut lab, "/flows?sort=worst");
    let failed = |flow: &Value| flow["totals"]["lost"].as_u64().unwrap();
    let items = worst["items"].as_array().unwrap();
    let all: Vec<u64> = items.iter().map(failed).collect();
    let mut sorted = all.clone();
    sorted.sort_by(|one, other| other.cmp(one));
    assert_eq!(all, sorted, "{worst}");
    assert!(all[0] > 0, "{worst}");
    assert_eq!((items.len(), &worst["total"]), (4, &json!(4)));
    let slow = items.last().unwrap();
    assert_eq!(failed(slow), 0, "{worst}");
    for (offset, limit) in [(0, 1), (1, 2), (3, 5), (4, 1)] {
        let page = get(
            &mut lab,
            &format!("/flows?sort=worst&offset={offset}&limit={limit}"),
        );
        let expected: Vec<&Value> = items.iter().skip(offset).take(limit).collect();
        let ids = |flows: &[&Value]| {
            flows
                .iter()
                .map(|flow| flow["id"].clone())
                .collect::<Vec<_>>()
        };
        let found: Vec<&Value> = page["items"].as_array().unwrap().iter().collect();
        assert_eq!(ids(&found), ids(&expected));
    }
}

#[test]
fn the_document_of_a_lab_has_the_figures_of_its_report_and_can_be_read_back() {
    let (mut lab, _folder) = lab();
    pass(&mut lab, Duration::from_millis(2_500));
    let state = get(&mut lab, "/");
    let report = get(&mut lab, "/report");
    for field in ["totals", "rtt_ns", "response_ns", "drops", "errors"] {
        assert_eq!(state[field], report[field], "{field}");
    }
    let recent = &state["recent"];
    assert_eq!(
        (&recent["length_ns"], &recent["sent"], &recent["received"]),
        (&json!(1_000_000_000), &json!(100), &json!(100))
    );
    assert_eq!(recent["rtt_ns"], report["seconds"][2]["rtt_ns"]);
    assert_eq!(state["impairments"], json!([{ "impair": "vm2:delay=1ms" }]));
    let read: crate::control::LabDocument = serde_json::from_value(state.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), state);
    type Flows = crate::control::List<crate::control::FlowDocument>;
    let flows = get(&mut lab, "/flows");
    let read: Flows = serde_json::from_value(flows.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), flows);
}

#[test]
fn flows_that_were_added_before_a_slice_that_is_refused_are_told() {
    let (mut lab, _folder) = lab();
    let vms = ("POST", "/vms", r#"{"vms":450}"#);
    in_slices(&mut lab, vms, |lab| pass(lab, Duration::from_secs(1)));
    let flows = ("POST", "/flows", r#"{"ping":"vm[0-449]:vm450"}"#);
    let mut slices = 0;
    let refused = in_slices(&mut lab, flows, |lab| {
        slices += 1;
        if slices == 2 {
            let gone = Command::StopVms(vec![VmId(300)]);
            lab.carry_out(gone).unwrap();
        }
    });
    let error = "vm300 does not exist; flows 1 to 200 are added already";
    let told = json!({ "error": error, "expected": "a VM that is up" });
    assert_eq!(refused, told);
    assert_eq!(lab.hypervisor().recorder().flows().len(), 201);
}

#[test]
fn vms_that_misbehave_before_one_that_can_not_are_told() {
    let (mut lab, _folder) = lab();
    lab.carry_out(Command::StopVms(vec![VmId(2)])).unwrap();
    for (vms, expected) in [
        ("vm2", "vm2 is not up"),
        ("vm[1-2]", "vm2 is not up; vm1 misbehaves already"),
        ("vm[0-2]", "vm2 is not up; vm0 to vm1 misbehave already"),
    ] {
        let body = format!(r#"{{"misbehave":"{vms}:silent"}}"#);
        let refused = ask(&mut lab, "POST", "/misbehaviours", &body);
        assert_eq!(refused.status, 400, "{vms}");
        assert_eq!(document(&refused)["error"], expected, "{vms}");
        lab.carry_out(Command::Behave(vec![VmId(0), VmId(1)]))
            .unwrap();
    }
}

#[test]
fn misbehaviours_to_come_are_told_and_cancelled() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("lab.sock");
    let scenario = "vms = 3\nping = 'vm0:vm1'\nrate = 100\nduration = '1h'\n\
                    misbehave = ['vm2:silent@5s+1s', 'vm1:silent@3s+1s']";
    let (mut lab, _folder) = lab_of(scenario, &socket, folder);
    // The VM, when, whether it is to come and whether it has ended.
    let told = |response: &Response| -> Vec<(String, u64, bool, bool)> {
        let document = document(response);
        let items = document["items"].as_array().unwrap();
        assert_eq!(document["total"], items.len());
        let row = |item: &Value| {
            let vm = item["vm"].as_str().unwrap().to_owned();
            let is_to_come = item["to_come"] == true;
            (
                vm,
                item["began_ns"].as_u64().unwrap() / 1_000_000_000,
                is_to_come,
                item["ended_ns"].is_u64(),
            )
        };
        items.iter().map(row).collect()
    };
    let row = |vm: &str, seconds: u64, is_to_come, has_ended| {
        (vm.to_owned(), seconds, is_to_come, has_ended)
    };
    let all = told(&ask(&mut lab, "GET", "/misbehaviours", ""));
    assert_eq!(
        all,
        [row("vm1", 3, true, false), row("vm2", 5, true, false)]
    );
    let left = ask(&mut lab, "DELETE", "/misbehaviours/vm2", "");
    assert_eq!(told(&left), [row("vm1", 3, true, false)]);
    pass(&mut lab, Duration::from_secs(6));
    let over = told(&ask(&mut lab, "GET", "/misbehaviours", ""));
    assert_eq!(over, [row("vm1", 3, false, true)]);
}

#[test]
fn moves_to_come_are_told_behind_those_that_were_made_and_can_be_ended() {
    let (mut lab, _folder) = lab();
    for order in ["vm0:leaf1,every=1s", "vm1:leaf1,every=10s"] {
        let body = json!({ "move": order, "repeat": 5 }).to_string();
        assert_eq!(ask(&mut lab, "POST", "/moves", &body).status, 201);
    }
    pass(&mut lab, Duration::from_millis(1_500));
    // The VM, where from and to, whether it is made, and how many come with it.
    let told = |response: &Response| -> Vec<(String, String, String, bool, u64)> {
        let document = document(response);
        let items = document["items"].as_array().unwrap();
        assert_eq!(document["total"], items.len());
        let word = |item: &Value, name: &str| item[name].as_str().unwrap_or("").to_owned();
        let row = |item: &Value| {
            let [vm, from, to] = ["vm", "from", "to"].map(|name| word(item, name));
            let is_made = item["netlink_ns"].is_u64();
            (vm, from, to, is_made, item["to_come"].as_u64().unwrap())
        };
        items.iter().map(row).collect()
    };
    let row = |vm: &str, from: &str, to: &str, is_made, to_come| {
        let [vm, from, to] = [vm, from, to].map(str::to_owned);
        (vm, from, to, is_made, to_come)
    };
    let made = [
        row("vm0", "leaf0", "leaf1", true, 0),
        row("vm1", "leaf0", "leaf1", true, 0),
        row("vm0", "leaf1", "leaf0", true, 0),
    ];
    let [of_vm0, of_vm1] = [
        row("vm0", "", "back", false, 3),
        row("vm1", "", "back", false, 4),
    ];
    let all = ask(&mut lab, "GET", "/moves", "");
    let expected = [&made[..], &[of_vm0, of_vm1.clone()]].concat();
    assert_eq!(told(&all), expected);
    let due = document(&all)["items"][3]["time_ns"].as_u64().unwrap();
    assert!(due > lab.now().nanos_since(Instant::ZERO), "{due}");
    let ended = ask(&mut lab, "DELETE", "/moves/vm0", "");
    let expected = [&made[..], &[of_vm1]].concat();
    assert_eq!((ended.status, told(&ended)), (200, expected.clone()));
    pass(&mut lab, Duration::from_secs(3));
    assert_eq!(told(&ask(&mut lab, "GET", "/moves", "")), expected);
    let nobody = ask(&mut lab, "DELETE", "/moves/zz", "");
    assert_eq!(nobody.status, 404);
}

#[test]
fn an_error_names_what_is_wrong_and_what_is_expected() {
    let (mut lab, _folder) = lab();
    let vms = "vmI, vm[I-J], all or the name of a group";
    let times = "a time up to an hour, such as 5s";
    for (method, target, body, status, error, expected) in [
        (
            "DELETE",
            "/misbehaviours/zz",
            "",
            404,
            r#""zz" names no VMs"#,
            vms,
        ),
        (
            "DELETE",
            "/misbehaviours/vm9",
            "",
            404,
            "there is no vm9",
            "vm0 to vm2",
        ),
        ("DELETE", "/moves/zz", "", 404, r#""zz" names no VMs"#, vms),
        ("DELETE", "/vms/zz", "", 404, r#""zz" names no VMs"#, vms),
        (
            "GET",
            "/flows?sort=zz",
            "",
            400,
            "sort=zz can't be",
            "number, worst",
        ),
        (
            "POST",
            "/misbehaviours",
            r#"{"misbehave": "vm2:foo"}"#,
            400,
            r#"--misbehave vm2:foo: "foo" is no misbehaviour"#,
            "one of silent, slow",
        ),
        (
            "POST",
            "/misbehaviours",
            r#"{"misbehave": "vm2:silent+2h"}"#,
            400,
            r#"--misbehave vm2:silent+2h: "2h" is too long"#,
            times,
        ),
        (
            "POST",
            "/misbehaviours",
            r#"{"misbehave": "vm2:silent+zz"}"#,
            400,
            r#"--misbehave vm2:silent+zz: "zz" is no time"#,
            times,
        ),
        (
            "POST",
            "/misbehaviours",
            r#"{"misbehave": "vm2:steal zz"}"#,
            400,
            r#"--misbehave vm2:steal zz: "steal zz" can't be"#,
            "the address of one host",
        ),
        (
            "POST",
            "/misbehaviours",
            r#"{"misbehave": "zz:silent"}"#,
            400,
            r#"--misbehave zz:silent: "zz" names no VMs"#,
            "vmI, vm[I-J]",
        ),
        (
            "POST",
            "/captures",
            r#"{"vms": "zz"}"#,
            400,
            r#"--capture-vms zz: "zz" names no VMs"#,
            "vmI, vm[I-J]",
        ),
        (
            "PUT",
            "/load",
            r#"{"window": 0}"#,
            400,
            "--window 0 can't be",
            "1 to 32768",
        ),
        (
            "POST",
            "/impairments",
            r#"{"impair": "vm1:loss=zz"}"#,
            400,
            "--impair vm1:loss=zz: loss=zz can't be",
            "a share from 0% to 100%",
        ),
    ] {
        let refused = ask(&mut lab, method, target, body);
        let said = document(&refused);
        assert_eq!(refused.status, status, "{target} {body}");
        assert_eq!(said["error"], error, "{target} {body}");
        let words = said["expected"].as_str().unwrap();
        assert!(words.starts_with(expected), "{target} {body}: {words}");
    }
}

#[test]
fn vms_to_which_a_flood_would_make_too_many_copies_are_not_added() {
    let (mut lab, _folder) = lab();
    let flood = r#"{"misbehave": "vm0:mac-flood 100000/s+1s"}"#;
    assert_eq!(ask(&mut lab, "POST", "/misbehaviours", flood).status, 201);
    let refused = ask(&mut lab, "POST", "/vms", r#"{"vms": 1}"#);
    assert_eq!(refused.status, 409);
    let said = json!({
        "error": "100000 frames/s, each to 3 others, are 300000 copies a second",
        "expected": "83333 frames/s at most, or fewer VMs, or an end of the misbehaviours before",
    });
    assert_eq!(document(&refused), said);
    ask(&mut lab, "DELETE", "/misbehaviours/vm0", "");
    assert_eq!(ask(&mut lab, "POST", "/vms", r#"{"vms": 1}"#).status, 202);
    // As long as it is to start it counts.
    let refused = ask(&mut lab, "POST", "/misbehaviours", flood);
    assert_eq!(refused.status, 400);
}

/// Carries out a request in slices, with `between` after each, and returns the body of its response.
fn in_slices(
    lab: &mut SimulatedLab<'_>,
    (method, target, body): (&str, &str, &str),
    mut between: impl FnMut(&mut SimulatedLab<'_>),
) -> Value {
    let mut control = lab.control.take().unwrap();
    let request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        accept: String::new(),
        body: body.as_bytes().to_vec(),
        ..Request::default()
    };
    let mut present = Present {
        lab: &mut *lab,
        control: &mut control,
    };
    let Body::Later(mut work) = answer(&mut present, &Access::User, &request).body else {
        panic!("{method} {target} is answered at once");
    };
    let response = loop {
        let mut present = Present {
            lab: &mut *lab,
            control: &mut control,
        };
        match work.step(&mut present) {
            Some(response) => break response,
            None => between(lab),
        }
    };
    lab.control = Some(control);
    match response.body {
        Body::Whole(body) => serde_json::from_slice(&body).unwrap(),
        Body::Pieces(pieces) => {
            let text: Vec<u8> = pieces.flat_map(Result::unwrap).collect();
            serde_json::from_slice(&text).unwrap()
        }
        body => panic!("{body:?} is no document"),
    }
}

#[test]
fn what_takes_long_is_done_in_slices_between_which_the_run_goes_on() {
    let (mut lab, _folder) = lab();
    let moment = Duration::from_millis(100);
    for (request, items, most) in [
        (("POST", "/vms", r#"{"vms":450}"#), 450, 100),
        (
            ("POST", "/flows", r#"{"ping":"vm[0-449]:vm450"}"#),
            450,
            200,
        ),
        (("DELETE", "/vms/vm[200-449]", ""), 250, 100),
    ] {
        let (mut slices, mut before) = (1, lab.hypervisor().recorder().totals().sent);
        let done = in_slices(&mut lab, request, |lab| {
            slices += 1;
            pass(lab, moment);
            let sent = lab.hypervisor().recorder().totals().sent;
            assert!(sent > before, "{request:?}: no ping in a slice");
            before = sent;
        });
        let number = done["vms"].as_u64().or(done["flows"].as_u64()).unwrap();
        assert_eq!(number, items, "{done}");
        assert!(
            slices >= items.div_ceil(most),
            "{request:?}: {slices} slices"
        );
    }
    for (target, most) in [("/vms?limit=1000", 100), ("/flows?limit=1000", 100)] {
        let mut slices = 1;
        let list = in_slices(&mut lab, ("GET", target, ""), |_| slices += 1);
        let total = list["total"].as_u64().unwrap();
        assert_eq!(list["items"].as_array().unwrap().len() as u64, total);
        assert!(slices >= total.div_ceil(most), "{target}: {slices} slices");
    }
}

#[test]
fn the_rows_of_a_report_that_is_made_during_the_run_add_up_to_its_totals() {
    let (mut lab, _folder) = lab();
    ask(&mut lab, "POST", "/vms", r#"{"vms":600}"#);
    ask(&mut lab, "POST", "/flows", r#"{"ping":"ring"}"#);
    let mut slices = 0;
    let report = in_slices(&mut lab, ("GET", "/report", ""), |lab| {
        slices += 1;
        pass(lab, Duration::from_millis(70));
    });
    assert!(slices > 10, "{slices}");
    for count in ["sent", "received", "lost"] {
        let flows = report["flows"].as_array().unwrap().iter();
        let sum: u64 = flows
            .map(|flow| flow["totals"][count].as_u64().unwrap())
            .sum();
        assert_eq!(report["totals"][count], sum, "{count}");
    }
    let seconds = report["seconds"].as_array().unwrap().iter();
    let sum: u64 = seconds
        .map(|second| second["received"].as_u64().unwrap())
        .sum();
    assert_eq!(report["totals"]["received"], sum);
    assert_eq!(report["rtt_ns"]["count"], sum);
}

#[test]
fn impairments_add_up_to_a_bound_and_can_be_ended() {
    let (mut lab, _folder) = lab();
    let body = r#"{"impair":"vm0:delay=1ms"}"#;
    let added =
        (0..1_000).take_while(|_| ask(&mut lab, "POST", "/impairments", body).status == 201);
    // One is the plan's.
    assert_eq!(added.count(), 255);
    let refused = ask(&mut lab, "POST", "/impairments", body);
    assert_eq!(refused.status, 409);
    assert_eq!(
        document(&refused)["expected"],
        "no further one before DELETE /impairments"
    );
    assert_eq!(ask(&mut lab, "DELETE", "/impairments", "").status, 200);
    assert_eq!(ask(&mut lab, "POST", "/impairments", body).status, 201);
}

#[test]
fn captures_into_files_add_up_to_a_bound_and_can_be_ended() {
    let (mut lab, folder) = lab();
    let capture = |number: usize| {
        let file = folder.path().join(format!("{number}.pcapng"));
        json!({ "capture": file }).to_string()
    };
    let begun = (0..1_000)
        .take_while(|number| ask(&mut lab, "POST", "/captures", &capture(*number)).status == 201);
    assert_eq!(begun.count(), 64);
    let refused = ask(&mut lab, "POST", "/captures", &capture(1_000));
    assert_eq!(refused.status, 409);
    assert_eq!(
        document(&refused)["expected"],
        "no further one before DELETE /captures/{capture}"
    );
    assert!(!folder.path().join("1000.pcapng").exists());
    let streamed = ask(&mut lab, "POST", "/captures", "{}");
    assert_eq!(streamed.status, 200, "its client has a place");
    assert_eq!(ask(&mut lab, "DELETE", "/captures/7", "").status, 200);
    let status = ask(&mut lab, "POST", "/captures", &capture(1_000)).status;
    assert_eq!(status, 201);
}

#[test]
fn impairments_are_told_and_added_to_as_the_present_phase_has_them() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("lab.sock");
    let phases = "[[phase]]\nname = 'one'\nduration = '2s'\n[[phase]]\nname = 'two'\nduration = '1h'\nimpair = 'vm1:loss=100%'";
    let scenario =
        format!("vms = 3\nping = 'vm0:vm2'\nrate = 100\nimpair = 'vm2:delay=1ms'\n{phases}");
    let (mut lab, _folder) = lab_of(&scenario, &socket, folder);
    let told = |lab: &mut SimulatedLab<'_>| {
        let rules = get(lab, "/impairments")["rules"].clone();
        assert_eq!(get(lab, "/")["impairments"], rules);
        let rules = rules.as_array().unwrap().iter();
        let words = rules.map(|rule| rule["impair"].as_str().unwrap().to_owned());
        words.collect::<Vec<_>>()
    };
    for (phase, of_phase) in [("one", "vm2:delay=1ms"), ("two", "vm1:loss=100%")] {
        assert_eq!(get(&mut lab, "/")["phase"], phase);
        assert_eq!(told(&mut lab), [of_phase]);
        let further = r#"{"impair": "vm0:loss=5%"}"#;
        ask(&mut lab, "POST", "/impairments", further);
        assert_eq!(told(&mut lab), [of_phase, "vm0:loss=5%"]);
        if phase == "one" {
            pass(&mut lab, Duration::from_secs(2));
        }
    }
    ask(&mut lab, "DELETE", "/impairments", "");
    assert_eq!(told(&mut lab), [""; 0]);
}

#[test]
fn a_vm_that_is_removed_takes_the_flows_to_it_along() {
    let (mut lab, _folder) = lab();
    ask(&mut lab, "POST", "/flows", r#"{"ping": "vm2:vm0"}"#);
    pass(&mut lab, Duration::from_secs(1));
    assert_eq!(ask(&mut lab, "DELETE", "/vms/vm1", "").status, 202);
    pass(&mut lab, Duration::from_millis(100));
    let sent = |lab: &mut SimulatedLab<'_>, flow: usize| {
        get(lab, "/flows")["items"][flow]["totals"]["sent"].as_u64()
    };
    let (to_it, other) = (sent(&mut lab, 0), sent(&mut lab, 1));
    pass(&mut lab, Duration::from_secs(3));
    assert_eq!(sent(&mut lab, 0), to_it);
    assert!(sent(&mut lab, 1) > other);
    assert_eq!(get(&mut lab, "/")["totals"]["lost"], 0);
}
