//! What each command asks a lab, and what it prints.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Stdin, Write};
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::sys::signal::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tap_reactor::control::{
    AddFlows, AddVms, AddedFlows, CaptureDocument, CaptureSoFar, ChangedVms, ControlAddress,
    FlowDocument, ImpairDocument, ImpairmentsDocument, LARGEST_PAGE, LabDocument, List,
    LoadDocument, MarkDocument, SetMark, VmDocument,
};
use tap_reactor::experiment::options::Kind;
use tap_reactor::experiment::{MOST_PINGS, Setting, SettingError};
use tap_reactor::report::{self, Destination, check_file};
use tap_reactor::system::{DisplaySignals, Keys, Woken, end_by};

use super::client::{Body, Client, encoded, read};
use super::command::Call;
use super::{CtlError, UsageError, print, text};
use crate::cli::console;
use crate::cli::files::destinations;
use crate::cli::run::WIDTH;

/// Checks what can be without a lab.
pub fn check(call: &Call) -> Result<(), UsageError> {
    match call.command.name {
        "add-vms" | "end-flow" | "end-capture" | "window" => {
            call.number(0)?;
        }
        "rate" => {
            pings_per_second(&call.operand_as(0, "rate"))?;
        }
        "interval" => {
            call.operand_as(0, "interval").duration()?;
        }
        "report" => {
            let to = report_files(call)?;
            if !to.is_empty() && !call.operand(0).is_empty() {
                let why = "report: expected a format or --output, whose ending says it";
                return Err(UsageError::new(why));
            }
        }
        _ => {}
    }
    for option in call.command.options() {
        let Some(setting) = call.given.get(option.name) else {
            continue;
        };
        match option.kind {
            Kind::Whole => {
                call.given_number::<u64>(option.name)?;
            }
            Kind::Number => {
                pings_per_second(setting)?;
            }
            Kind::Time => {
                setting.duration()?;
            }
            _ => {}
        }
    }
    if let Some(setting) = call.given.get("worst")
        && call.given_number("worst")? == Some(0_u32)
    {
        return Err(setting.error("expected a whole number, 1 or more").into());
    }
    Ok(())
}

/// A rate of pings.
fn pings_per_second(setting: &Setting) -> Result<f64, SettingError> {
    setting.rate(&setting.text, "pings", MOST_PINGS)
}

pub fn status(client: &Client, _: &Call, json: bool) -> Result<(), CtlError> {
    let body = client.request("GET", "/", None)?.bytes()?;
    show(&body, json, |lab: LabDocument| {
        text::lines(&text::lab(&lab, None))
    })
}

pub fn vms(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    match call.operand(0) {
        "" => list(client, "/vms", None, json, |vms: &[VmDocument]| {
            text::vms(vms)
        }),
        name => {
            let target = format!("/vms/{}", encoded(name));
            let body = client.request("GET", &target, None)?.bytes()?;
            show(&body, json, |vm: VmDocument| text::vms(&[vm]))
        }
    }
}

pub fn add_vms(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let wish = AddVms {
        vms: call.number(0)?,
    };
    let body = post(client, "/vms", &wish)?;
    show(&body, json, |vms: ChangedVms| text::changed(&vms, "start"))
}

pub fn remove(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let target = format!("/vms/{}", encoded(call.operand(0)));
    let body = client.request("DELETE", &target, None)?.bytes()?;
    show(&body, json, |vms: ChangedVms| text::changed(&vms, "stop"))
}

pub fn flows(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let worst: Option<u32> = call.given_number("worst")?;
    let target = match worst {
        Some(_) => "/flows?sort=worst",
        None => "/flows",
    };
    let most = worst.map(|number| number as usize);
    list(client, target, most, json, |flows: &[FlowDocument]| {
        text::flows(flows)
    })
}

pub fn flow(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let rate = call.given.get("rate").map(pings_per_second);
    let interval = call.given.get("interval");
    let wish = AddFlows {
        ping: call.operand(0).to_owned(),
        size: call.given_number("size")?,
        rate: rate.transpose()?,
        interval: interval.map(|setting| setting.text.clone()),
        window: call.given_number("window")?,
        count: call.given_number("count")?,
    };
    let body = post(client, "/flows", &wish)?;
    show(&body, json, |flows: AddedFlows| text::added(&flows))
}

pub fn end_flow(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let number = call.number(0)?;
    let body = client.request("DELETE", &format!("/flows/{number}"), None)?;
    show(&body.bytes()?, json, |_: Value| {
        format!("flow {number} has ended\n")
    })
}

/// Changes the load; the command has the name of its field.
pub fn load(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let mut wish = LoadDocument::default();
    match call.command.name {
        "rate" => wish.rate = Some(pings_per_second(&call.operand_as(0, "rate"))?),
        "interval" => wish.interval = Some(call.operand(0).to_owned()),
        _ => wish.window = Some(call.number(0)?),
    }
    let body = send(client, "PUT", "/load", &wish)?;
    show(&body, json, |load: LoadDocument| text::load(&load))
}

pub fn impairments(client: &Client, _: &Call, json: bool) -> Result<(), CtlError> {
    let body = client.request("GET", "/impairments", None)?.bytes()?;
    show(&body, json, |document: ImpairmentsDocument| {
        text::impairments(&document)
    })
}

pub fn impair(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let wish = ImpairDocument {
        impair: call.operand(0).to_owned(),
    };
    let body = post(client, "/impairments", &wish)?;
    show(&body, json, |document: ImpairmentsDocument| {
        text::impairments(&document)
    })
}

pub fn end_impairments(client: &Client, _: &Call, json: bool) -> Result<(), CtlError> {
    let body = client.request("DELETE", "/impairments", None)?.bytes()?;
    show(&body, json, |document: ImpairmentsDocument| {
        text::impairments(&document)
    })
}

/// Begins a capture into a file of the lab's, or if there is none such, writes the frames as they come.
pub fn capture(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let file = call.operand(0);
    let of_lab = match client.address() {
        _ if file == STANDARD_OUTPUT => None,
        // Over TCP a lab writes no files.
        ControlAddress::Tcp(_) => None,
        // The lab was started in another folder, perhaps.
        ControlAddress::Path(_) => {
            let path =
                std::path::absolute(file).map_err(|error| CtlError::Input(error.to_string()))?;
            Some(path.to_string_lossy().into_owned())
        }
    };
    let vms = call.given.get("capture-vms");
    let wish = CaptureDocument {
        capture: of_lab.clone(),
        vms: vms.map(|setting| setting.text.clone()),
        snap: call.given_number("capture-snap")?,
        on_loss: call.given_number("capture-on-loss")?,
    };
    if let Some(of_lab) = of_lab {
        let body = post(client, "/captures", &wish)?;
        return show(&body, json, |capture: CaptureSoFar| {
            format!("capture {} into {of_lab} begins\n", capture.id)
        });
    }
    if file == STANDARD_OUTPUT && io::stdout().is_terminal() {
        let why = "capture -: standard output is a terminal; expected a pipe or a file";
        return Err(UsageError::new(why).into());
    }
    let document = json!(wish).to_string();
    let body = client.request("POST", "/captures", Some(document.as_bytes()))?;
    if file == STANDARD_OUTPUT {
        return follow(body, print_at_once);
    }
    let wrong = |error| CtlError::Write {
        file: file.to_owned(),
        error,
    };
    let mut out = File::create(file).map_err(wrong)?;
    follow(body, |bytes| out.write_all(bytes).map(|()| true))
}

pub fn captures(client: &Client, _: &Call, json: bool) -> Result<(), CtlError> {
    list(
        client,
        "/captures",
        None,
        json,
        |captures: &[CaptureSoFar]| text::captures(captures),
    )
}

pub fn end_capture(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let target = format!("/captures/{}", call.number(0)?);
    let body = client.request("DELETE", &target, None)?.bytes()?;
    show(&body, json, |capture: CaptureSoFar| {
        text::captures(&[capture])
    })
}

pub fn mark(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let wish = SetMark {
        name: call.operand(0).to_owned(),
    };
    let body = post(client, "/marks", &wish)?;
    show(&body, json, |mark: MarkDocument| text::mark(&mark))
}

/// The files that a report goes to.
fn report_files(call: &Call) -> Result<Vec<Destination>, UsageError> {
    Ok(destinations(&call.given, &[], check_file)?)
}

pub fn report(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let files = report_files(call)?;
    let format = call.operand(0);
    if !format.is_empty() {
        let body = client.request("GET", &format!("/report.{}", encoded(format)), None)?;
        return copy(body);
    }
    if json && files.is_empty() {
        return copy(client.request("GET", "/report", None)?);
    }
    // A page takes longer than a document: the lab has other things to do.
    let bytes = client.request("GET", "/report", None)?.bytes()?;
    let report = report::parse(Path::new("the lab's report"), &bytes)?;
    if files.is_empty() {
        return Ok(console::print(|out| report::text(&report, out, WIDTH))?);
    }
    for file in files {
        report::write_file(file, &report)?;
    }
    Ok(())
}

pub fn events(client: &Client, _: &Call, json: bool) -> Result<(), CtlError> {
    let body = client.request("GET", "/events", None)?;
    let mut begun = Vec::new();
    follow(body, |bytes| {
        begun.extend_from_slice(bytes);
        let Some(end) = begun.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(true);
        };
        let rest = begun.split_off(end + 1);
        let lines = std::mem::replace(&mut begun, rest);
        match json {
            true => print_at_once(&lines),
            false => {
                let lines = lines.split_inclusive(|byte| *byte == b'\n');
                let words: String = lines.map(text::event).collect();
                print_at_once(words.as_bytes())
            }
        }
    })
}

/// Hands on what comes of a stream, until the lab has ended, the user has enough, or `write` returns that its reader has.
fn follow(
    mut body: Body,
    mut write: impl FnMut(&[u8]) -> io::Result<bool>,
) -> Result<(), CtlError> {
    body.wait_without_end()?;
    let signals = DisplaySignals::new()?;
    let mut room = vec![0; 64 << 10];
    loop {
        if !body.has_buffered() {
            let no_keys: &mut Option<Keys<Stdin>> = &mut None;
            match signals.wait(no_keys, Some(body.as_fd()), None)? {
                Woken::Stopped(signal) => {
                    drop(signals);
                    End::Stopped(signal).tell();
                    return Ok(());
                }
                Woken::Ready => {}
                _ => continue,
            }
        }
        let count = body.read(&mut room).map_err(CtlError::of_connection)?;
        if count == 0 {
            End::OfLab.tell();
            return Ok(());
        }
        if !write(room.get(..count).unwrap_or_default())? {
            return Ok(());
        }
    }
}

/// Prints bytes that somebody waits for. Returns false if nobody does any more.
pub fn print_at_once(bytes: &[u8]) -> io::Result<bool> {
    let mut is_read = true;
    console::print(|out| {
        let written = out.write_all(bytes).and_then(|()| out.flush());
        is_read = written.is_ok();
        written
    })?;
    Ok(is_read)
}

/// The name of standard output in the place of a file's.
const STANDARD_OUTPUT: &str = "-";

/// Why nothing more is shown of a lab.
pub enum End {
    /// The lab has ended.
    OfLab,
    /// The user has seen enough.
    Enough,
    /// A signal asks for it.
    Stopped(Signal),
}

impl End {
    /// Says that the lab has ended, or ends this process by the signal, unless it is that of Ctrl-C.
    pub fn tell(self) {
        match self {
            End::OfLab => console::eprint("the lab has ended"),
            End::Enough | End::Stopped(Signal::SIGINT) => {}
            End::Stopped(signal) => end_by(signal),
        }
    }
}

pub fn metrics(client: &Client, _: &Call, _: bool) -> Result<(), CtlError> {
    copy(client.request("GET", "/metrics", None)?)
}

pub fn stop(client: &Client, _: &Call, json: bool) -> Result<(), CtlError> {
    let body = client.request("POST", "/stop", None)?.bytes()?;
    show(&body, json, |_: Value| "the run ends\n".to_owned())
}

/// Prints a body as it comes.
fn copy(mut body: Body) -> Result<(), CtlError> {
    let mut room = vec![0; 64 << 10];
    let mut failure = None;
    console::print(|out| {
        loop {
            match body.read(&mut room) {
                Ok(0) => return Ok(()),
                Ok(count) => out.write_all(room.get(..count).unwrap_or_default())?,
                Err(error) => {
                    failure = Some(CtlError::of_connection(error));
                    return Ok(());
                }
            }
        }
    })?;
    failure.map_or(Ok(()), Err)
}

/// Asks for a list, page by page, no more than `most` items of it, and prints it.
pub(super) fn list<T: DeserializeOwned + Serialize>(
    client: &Client,
    target: &str,
    most: Option<usize>,
    json: bool,
    words: impl Fn(&[T]) -> String,
) -> Result<(), CtlError> {
    let list: List<T> = pages(client, target, most)?;
    match json {
        true => Ok(console::print(|out| {
            serde_json::to_writer(&mut *out, &list)?;
            out.write_all(b"\n")
        })?),
        false => print(&words(&list.items)),
    }
}

/// Asks for a list, page by page, no more than `most` items of it.
fn pages<T: DeserializeOwned>(
    client: &Client,
    target: &str,
    most: Option<usize>,
) -> Result<List<T>, CtlError> {
    let most = most.unwrap_or(usize::MAX);
    let separator = if target.contains('?') { '&' } else { '?' };
    let mut all = List {
        total: 0,
        offset: 0,
        items: Vec::new(),
    };
    let mut offset = 0;
    loop {
        let limit = LARGEST_PAGE.min(most.saturating_sub(offset)).max(1);
        let page = format!("{target}{separator}offset={offset}&limit={limit}");
        let page: List<T> = client.get(&page)?;
        all.total = page.total;
        all.items.extend(page.items);
        offset += limit;
        if offset >= page.total.min(most) {
            return Ok(all);
        }
    }
}

pub(super) fn post(
    client: &Client,
    target: &str,
    document: &impl Serialize,
) -> Result<Vec<u8>, CtlError> {
    send(client, "POST", target, document)
}

fn send(
    client: &Client,
    method: &str,
    target: &str,
    document: &impl Serialize,
) -> Result<Vec<u8>, CtlError> {
    let document = json!(document).to_string();
    client
        .request(method, target, Some(document.as_bytes()))?
        .bytes()
}

/// Prints a document as it is, or in words.
pub(super) fn show<T: DeserializeOwned>(
    body: &[u8],
    json: bool,
    words: impl FnOnce(T) -> String,
) -> Result<(), CtlError> {
    match json {
        true => Ok(console::print(|out| out.write_all(body))?),
        false => print(&words(read(body)?)),
    }
}
