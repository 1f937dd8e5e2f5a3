//! `watch`: the figures of a lab again and again. On a terminal a screen that is drawn in place; elsewhere a line each time.

use std::io::{self, IsTerminal, Stdin, Write};
use std::os::fd::AsFd as _;
use std::time::Duration;

use tap_reactor::control::{FlowDocument, LabDocument, List};
use tap_reactor::escape::escaped;
use tap_reactor::system::{DisplaySignals, Keys, Woken, terminal_size};
use tap_reactor::time::{Clock as _, MonotonicClock};

use super::actions::{End, print_at_once};
use super::client::{Client, read};
use super::command::Call;
use super::text::{self, Rates};
use super::{CtlError, UsageError};
use crate::cli::console;

/// The time between two looks where nothing else is asked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// Flows that a screen has.
const WORST: usize = 5;
/// Columns and lines of a terminal that does not tell.
const SIZE: (u16, u16) = (80, 24);

/// To the screen that programs have for themselves, without a cursor, and back (xterm's control sequences).
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// The cursor to the first place; the rest of a line, and of the screen, empty.
const HOME: &str = "\x1b[H";
const END_LINE: &str = "\x1b[K";
const END_SCREEN: &str = "\x1b[J";

/// The terminal's other screen. Dropped, the terminal shows what it had shown before.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Screen> {
        let screen = Screen;
        draw(ENTER)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = draw(LEAVE);
    }
}

/// Writes to the terminal, as far as it takes it.
fn draw(text: &str) -> io::Result<()> {
    console::print(|out| out.write_all(text.as_bytes()))
}

/// What was seen of a lab.
struct Look {
    lab: LabDocument,
    rates: Option<Rates>,
    worst: Vec<FlowDocument>,
}

/// Shows the figures until the lab has ended, or the user has seen enough.
pub fn watch(client: &Client, call: &Call, json: bool) -> Result<(), CtlError> {
    let interval = call.given.get("interval").map(|setting| setting.duration());
    let interval = interval.transpose().map_err(UsageError::from)?;
    let interval = interval.unwrap_or(INTERVAL);
    // Before the terminal is touched: a lab that is not there is an error as of any other command.
    let bytes = client.request("GET", "/", None)?.bytes()?;
    let is_screen = io::stdout().is_terminal() && !json;
    let signals = DisplaySignals::new()?;
    let mut keys = match is_screen && io::stdin().is_terminal() {
        true => Some(Keys::of(io::stdin())?),
        false => None,
    };
    let screen = is_screen.then(Screen::enter).transpose()?;
    let mut seen = Look {
        lab: read(&bytes)?,
        rates: None,
        worst: Vec::new(),
    };
    let name = escaped(&client.address().to_string());
    let mut shown = bytes;
    let end = loop {
        if is_screen {
            seen.worst = match worst(client) {
                Err(error) if error.is_end() => break Ok(End::OfLab),
                worst => worst?,
            };
        }
        let is_read = match is_screen {
            true => {
                draw_screen(&name, &seen)?;
                true
            }
            false => print_line(&seen, json.then_some(&shown))?,
        };
        if !is_read {
            return Ok(());
        }
        match pause(&signals, &mut keys, interval, || match is_screen {
            true => draw_screen(&name, &seen),
            false => Ok(()),
        })? {
            None => {}
            Some(end) => break Ok(end),
        }
        shown = match client
            .request("GET", "/", None)
            .and_then(|body| body.bytes())
        {
            Ok(bytes) => bytes,
            Err(error) if error.is_end() => break Ok(End::OfLab),
            Err(error) => break Err(error),
        };
        let lab: LabDocument = read(&shown)?;
        seen.rates = Rates::between(&seen.lab, &lab);
        seen.lab = lab;
    };
    // What was seen last stays, where all else stands.
    drop(screen);
    drop(keys);
    drop(signals);
    if is_screen {
        draw(&format!("{}\n", text::line(&seen.lab, None)))?;
    }
    end?.tell();
    Ok(())
}

fn worst(client: &Client) -> Result<Vec<FlowDocument>, CtlError> {
    let flows: List<FlowDocument> = client.get(&format!("/flows?sort=worst&limit={WORST}"))?;
    Ok(flows.items)
}

/// Waits for the next look, and draws again what was seen if the terminal has got another size. Returns the end if there
/// is to be none.
fn pause(
    signals: &DisplaySignals,
    keys: &mut Option<Keys<Stdin>>,
    interval: Duration,
    redraw: impl Fn() -> io::Result<()>,
) -> io::Result<Option<End>> {
    let until = Some(MonotonicClock.now() + interval);
    loop {
        match signals.wait(keys, None, until)? {
            Woken::Time => return Ok(None),
            Woken::Key(b'q' | b'Q') => return Ok(Some(End::Enough)),
            Woken::Resized => redraw()?,
            Woken::Stopped(signal) => return Ok(Some(End::Stopped(signal))),
            Woken::Key(_) | Woken::Ready => {}
        }
    }
}

/// Prints a line. Returns false if nobody reads it.
fn print_line(seen: &Look, document: Option<&Vec<u8>>) -> io::Result<bool> {
    let line = match document {
        Some(document) => document.clone(),
        None => format!("{}\n", text::line(&seen.lab, seen.rates.as_ref())).into_bytes(),
    };
    print_at_once(&line)
}

fn draw_screen(name: &str, seen: &Look) -> io::Result<()> {
    let size = terminal_size(io::stdout().as_fd()).unwrap_or(SIZE);
    draw(&screen(name, seen, size))
}

/// The screen of a terminal of so many columns and lines: what has no room there is cut off, and nothing wraps.
fn screen(name: &str, seen: &Look, (columns, rows): (u16, u16)) -> String {
    let mut lines = text::lab(&seen.lab, seen.rates.as_ref());
    if let Some(first) = lines.first_mut() {
        *first = format!("{name}  {first}");
    }
    if !seen.worst.is_empty() {
        lines.push(String::new());
        lines.push("worst flows".to_owned());
        lines.extend(text::flow_lines(&seen.worst));
    }
    let rows = match rows {
        0 => SIZE.1,
        rows => rows,
    };
    let last = usize::from(rows).saturating_sub(1);
    lines.truncate(last);
    lines.resize(last, String::new());
    lines.push("q ends".to_owned());
    let lines = lines.iter().map(|line| {
        let line: String = line.chars().take(columns.into()).collect();
        format!("{line}{END_LINE}")
    });
    let lines: Vec<String> = lines.collect();
    format!("{HOME}{}{END_SCREEN}", lines.join("\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lab() -> LabDocument {
        let phase = json!({
            "name": "a phase with a name that is rather long, as names can be \u{1b}[2J",
            "counted": true, "elapsed_ns": 12_345_678_901u64,
            "totals": totals(),
        });
        let summary = json!({
            "count": 9, "min": 1, "mean": 2, "stdev": 3, "p50": 12_345, "p90": 5, "p99": 1_234_567,
            "p99_9": 7, "max": 8_765_432_109u64,
        });
        serde_json::from_value(json!({
            "tool": "tap-reactor", "run": "tap-reactor --vms 10 --control lab.sock", "state": "running",
            "time_ns": 2_000_000_000u64, "phase": phase["name"], "vms": 10, "flows": 90, "totals": totals(),
            "rtt_ns": summary, "response_ns": summary,
            "recent": {
                "length_ns": 1_000_000_000u64, "sent": 1, "received": 2, "failed": 3, "rtt_ns": summary,
                "response_ns": summary,
            },
            "phases": vec![phase; 20], "drops": { "link_down": 4 }, "errors": {},
            "mark": {
                "name": "policy", "since_ns": 5_000_000_000u64, "flows": 90, "passed": 88,
                "first_pass_ns": 12_345_678, "last_pass_ns": 4_999_000_000u64, "longest_gap_ns": null,
            },
            "impairments": [{ "impair": "vm3:delay=5ms,loss=1%" }], "control": [], "metrics": [], "plan": { "settings": {} },
        }))
        .unwrap()
    }

    fn totals() -> serde_json::Value {
        json!({
            "sent": 12_345_678, "received": 12_345_600, "lost": 78, "unresolved": 0, "duplicate": 0, "late": 0,
            "reordered": 0, "corrupt": 0,
        })
    }

    fn look() -> Look {
        let before = LabDocument {
            time_ns: 1_000_000_000,
            totals: Default::default(),
            ..lab()
        };
        Look {
            rates: Rates::between(&before, &lab()),
            lab: lab(),
            worst: Vec::new(),
        }
    }

    #[test]
    fn a_screen_fits_every_terminal_and_controls_it_by_nothing_that_comes_from_elsewhere() {
        let seen = look();
        for size in [(1, 1), (10, 3), (40, 24), (80, 24), (80, 60), (300, 200)] {
            let text = screen("lab.sock", &seen, size);
            assert_eq!(
                text.matches('\x1b').count(),
                usize::from(size.1) + 2,
                "{size:?}"
            );
            let plain = [HOME, END_LINE, END_SCREEN]
                .iter()
                .fold(text, |text, sequence| text.replace(sequence, ""));
            let lines: Vec<&str> = plain.split("\r\n").collect();
            assert_eq!(lines.len(), usize::from(size.1));
            for line in lines {
                assert!(
                    line.chars().count() <= usize::from(size.0),
                    "{size:?}: {line}"
                );
                assert!(!line.contains(char::is_control), "{line:?}");
            }
        }
        let text = screen("lab.sock", &seen, (100, 100));
        for words in [
            "lab.sock  running  2.0 s  phase a phase",
            "12,345,678",
            "link_down",
            "impaired  vm3:delay=5ms,loss=1%",
            "1.23 ms",
            "q ends",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn rates_are_those_between_two_looks_of_pings_that_are_counted_alike() {
        let lab = lab();
        let with = |time_ns, counted| {
            let mut lab = lab.clone();
            lab.time_ns = time_ns;
            lab.phases.truncate(1);
            lab.phases[0].counted = counted;
            lab.phases[0].totals.sent = 5;
            lab
        };
        let before = LabDocument {
            totals: Default::default(),
            ..with(0, true)
        };
        let warm_up = with(0, false);
        for (before, lab, sent) in [
            (&before, with(2_000_000_000, true), Some("6,172,839")),
            (&before, with(0, true), None),
            (&warm_up, with(2_000_000_000, true), None),
            (&warm_up, with(2_000_000_000, false), Some("0")),
        ] {
            let rates = Rates::between(before, &lab);
            let found = rates.map(|rates| rates.per_second(rates.totals.sent));
            assert_eq!(found.as_deref(), sent);
        }
    }
}
