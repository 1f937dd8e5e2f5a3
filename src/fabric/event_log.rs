//! The trace of a run as lines of JSON (`--trace`): an object for each event, for programs.
//!
//! It has the events that `-v` tells in words and that comments of a capture are made of, and no frames; those are in a
//! capture.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};

use super::output::{Output, Sink};
use super::ping_numbers::PingNumbers;
use super::{Direction, Instrument, InstrumentKind, LinkFate, Notice, Observed, Recording};
use crate::load::{FlowId, Pacing, Target};
use crate::time::Instant;
use crate::vm::{Event, Ignored, PingError, PingOutcome, SessionId, VmId};
use crate::wire::{MacAddr, ProbeHead};

/// The instrument of `--trace`.
pub(super) const TRACE: InstrumentKind = InstrumentKind {
    schema: Some(SchemaGenerator::into_root_schema_for::<EventLine<'_>>),
    ..InstrumentKind::new("trace", "event", |config, run, sink| {
        let file = config.to().to_string();
        Ok(Box::new(EventLog::new(file, sink, run.start)))
    })
};

/// The longest reason for which a VM can't start.
const MAX_WHY: usize = 400;

/// The longest line.
const MAX_LINE: usize = 1_024;

/// A value that is written as a text.
#[derive(Clone, Copy, Debug)]
struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<T> JsonSchema for Text<T> {
    fn schema_name() -> Cow<'static, str> {
        String::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }

    fn inline_schema() -> bool {
        true
    }
}

/// One event of a run: a line of `--trace`.
#[derive(Debug, Serialize, JsonSchema)]
struct EventLine<'a> {
    /// Nanoseconds since the set-up of the lab began; of a simulation, of virtual time.
    time_ns: u64,
    /// The VM; absent of a link that is no VM's.
    #[serde(skip_serializing_if = "Option::is_none")]
    vm: Option<Text<VmId>>,
    #[serde(flatten)]
    kind: EventKind<'a>,
}

/// The ping that an event is about.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct OfPing {
    /// The number of its flow, in the order in which the plan has them, from 0.
    flow: u32,
    /// The VM or the address that is pinged.
    dst: Text<Target>,
    /// The number of the ping in its flow, from 0.
    ping: u64,
}

/// The kind of an event, and what belongs to it. Addresses are texts, and times are nanoseconds.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum EventKind<'a> {
    /// The VM starts.
    VmStarted,
    /// The system refused the start of the VM.
    VmStartRefused {
        /// The reason.
        why: &'a str,
    },
    /// The VM stops.
    VmStopped,
    /// The VM was moved to another place of the fabric.
    VmMoved {
        /// Where it was, such as `leaf0`.
        from: &'a str,
        /// Where it is.
        to: &'a str,
    },
    /// The VM can't be moved as planned.
    VmMoveRefused {
        /// What is wrong, and what is expected.
        why: &'a str,
    },
    /// A VM misbehaves from now on.
    MisbehaviourBegun {
        /// What it does, such as `arp-flood 1000/s`.
        what: &'a str,
    },
    /// A VM that has misbehaved does so no longer.
    MisbehaviourEnded {
        /// What it did.
        what: &'a str,
    },
    /// Another process changed a link of the run.
    LinkChanged {
        /// The name of the link.
        link: &'a str,
        #[serde(flatten)]
        change: &'a LinkFate,
    },
    /// It was found out why a ping failed, of whose end another event has told.
    PingExplained {
        #[serde(flatten)]
        ping: OfPing,
        /// The cause, as reports have it.
        cause: &'a str,
        /// The part of the ping that did not arrive: `request`, `reply` or `unknown`.
        direction: &'a str,
        /// Where.
        place: &'a str,
        /// What more is known; absent if there is nothing to say.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
    },
    /// This instant was given a name.
    MarkSet {
        /// The name.
        name: &'a str,
        /// What the mark is about; absent if there is nothing to say.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<&'a str>,
    },
    /// The flows send at another pace, of which one is there.
    PacingChanged {
        /// Pings per second of all flows together.
        #[serde(skip_serializing_if = "Option::is_none")]
        rate_per_s: Option<f64>,
        /// The time between two pings of a flow.
        #[serde(skip_serializing_if = "Option::is_none")]
        interval_ns: Option<u64>,
        /// Pings of a flow that are outstanding at a time.
        #[serde(skip_serializing_if = "Option::is_none")]
        window: Option<u32>,
    },
    /// Frames are impaired by other rules.
    ImpairmentsChanged {
        /// The number of rules.
        rules: usize,
    },
    /// Flows were added.
    FlowsAdded {
        /// The number of the first one; the others' follow.
        first: u32,
        /// How many.
        flows: usize,
    },
    /// Flows have ended.
    FlowsEnded {
        /// The number of the first one.
        first: u32,
        /// How many.
        flows: usize,
    },
    /// The run ends: no further ping is sent.
    RunStopping,
    /// A ping was sent.
    PingSent(OfPing),
    /// The request of a ping was sent again, as the SYN of a ping by TCP is.
    PingRepeated(OfPing),
    /// A ping was answered in time.
    PingAnswered {
        #[serde(flatten)]
        ping: OfPing,
        /// received − sent.
        rtt_ns: u64,
    },
    /// A member of the group that is pinged answered in time.
    PingAnsweredByMember {
        #[serde(flatten)]
        ping: OfPing,
        /// received − sent.
        rtt_ns: u64,
        /// It is the first answer.
        is_first: bool,
    },
    /// A ping was answered in time, with other data.
    PingCorrupt(OfPing),
    /// A ping was given up: it was not answered.
    PingLost(OfPing),
    /// Its VM stopped before a ping was answered.
    PingAbandoned(OfPing),
    /// A ping to a group was answered, but not by every member that was expected to.
    PingMembersLost(OfPing),
    /// A ping was never sent: its neighbour was not found, there was no way to it, or no port was free.
    PingUnresolved(OfPing),
    /// A ping was reported undeliverable.
    PingErrored {
        #[serde(flatten)]
        ping: OfPing,
        /// The error, as reports name it.
        error: &'static str,
    },
    /// A ping was answered again.
    PingDuplicate(OfPing),
    /// A ping was answered after its timeout.
    PingLate(OfPing),
    /// A neighbour was found.
    NeighbourResolved {
        /// Its address.
        address: Text<IpAddr>,
        /// Its hardware address.
        mac: Text<MacAddr>,
        /// From the first request to the answer.
        elapsed_ns: u64,
    },
    /// The VM checks an address before it uses it.
    AddressTried {
        /// The address.
        address: Text<IpAddr>,
    },
    /// The VM uses an address from now on.
    AddressReady {
        /// The address.
        address: Text<IpAddr>,
    },
    /// The lifetime of an address of the VM has expired.
    AddressLost {
        /// The address.
        address: Text<IpAddr>,
    },
    /// Another station uses an address of the VM.
    AddressConflict {
        /// The address.
        address: Text<IpAddr>,
        /// The hardware address of the other station.
        mac: Text<MacAddr>,
    },
    /// A DHCP server granted an address.
    Leased {
        /// The address.
        address: Text<IpAddr>,
        /// From the first message to the grant.
        elapsed_ns: u64,
    },
    /// A DHCP server granted an address for longer, or another one instead.
    LeaseRenewed {
        /// The address.
        address: Text<IpAddr>,
        /// The address before.
        previous: Text<IpAddr>,
    },
    /// A lease is over.
    LeaseLost {
        /// The address.
        address: Text<IpAddr>,
    },
    /// The VM took no action for a frame.
    FrameIgnored {
        /// Why, as `-v` tells it.
        why: Text<Ignored>,
    },
}

/// A flow of a VM.
#[derive(Clone, Copy, Debug)]
struct Flow {
    id: FlowId,
    target: Target,
    numbers: PingNumbers,
}

/// Writes a line for each event.
#[derive(Debug)]
struct EventLog {
    output: Output,
    start: Instant,
    flows: FxHashMap<(VmId, SessionId), Flow>,
}

impl EventLog {
    /// Creates a trace into `sink`, which is named `file`, with times relative to `start`.
    fn new(file: String, sink: Box<dyn Sink>, start: Instant) -> EventLog {
        EventLog {
            output: Output::new(&TRACE, file, sink),
            start,
            flows: FxHashMap::default(),
        }
    }

    fn write(&mut self, now: Instant, vm: Option<VmId>, kind: EventKind<'_>) {
        let Some(out) = self.output.record(MAX_LINE) else {
            return;
        };
        let line = EventLine {
            time_ns: now.nanos_since(self.start),
            vm: vm.map(Text),
            kind,
        };
        // Memory takes all that is written, and no map has a key that is no text.
        let _ = serde_json::to_writer(&mut *out, &line);
        out.push(b'\n');
    }

    fn of_ping(&self, vm: VmId, session: SessionId, ping: u64) -> Option<OfPing> {
        let flow = self.flows.get(&(vm, session))?;
        Some(OfPing {
            flow: flow.id.0,
            dst: Text(flow.target),
            ping,
        })
    }
}

impl Instrument for EventLog {
    fn flow(&mut self, id: FlowId, vm: VmId, session: SessionId, target: Target) {
        let flow = Flow {
            id,
            target,
            numbers: PingNumbers::of(session.0),
        };
        self.flows.insert((vm, session), flow);
    }

    fn frame(&mut self, now: Instant, observed: &Observed<'_>) {
        let vm = observed.vm;
        let echo = match observed.direction {
            Direction::Out => ProbeHead::parse(observed.frame).filter(|echo| echo.is_request),
            Direction::In => None,
        };
        let Some(echo) = echo else {
            return;
        };
        let session = SessionId(echo.identifier);
        let Some(flow) = self.flows.get_mut(&(vm, session)) else {
            return;
        };
        let (number, is_repeat) = flow.numbers.sent(echo.sequence);
        if let Some(ping) = self.of_ping(vm, session, number) {
            let kind = match is_repeat {
                true => EventKind::PingRepeated(ping),
                false => EventKind::PingSent(ping),
            };
            self.write(now, Some(vm), kind);
        }
    }

    fn event(&mut self, now: Instant, vm: VmId, event: &Event) {
        let kind = match *event {
            Event::Ping(ping, outcome) => {
                if let Some(flow) = self.flows.get_mut(&(vm, ping.session)) {
                    flow.numbers.ended(ping.sequence);
                }
                let of_ping = self.of_ping(vm, ping.session, ping.sequence);
                match of_ping.map(|of_ping| ping_kind(of_ping, outcome)) {
                    Some(kind) => kind,
                    None => return,
                }
            }
            Event::Resolved {
                address,
                mac,
                elapsed,
            } => EventKind::NeighbourResolved {
                address: Text(address),
                mac: Text(mac),
                elapsed_ns: nanos(elapsed),
            },
            Event::AddressTried { address } => EventKind::AddressTried {
                address: Text(address),
            },
            Event::AddressReady { address } => EventKind::AddressReady {
                address: Text(address),
            },
            Event::AddressLost { address } => EventKind::AddressLost {
                address: Text(address),
            },
            Event::Conflict { address, mac } => EventKind::AddressConflict {
                address: Text(address),
                mac: Text(mac),
            },
            Event::Leased { address, elapsed } => EventKind::Leased {
                address: Text(address),
                elapsed_ns: nanos(elapsed),
            },
            Event::Renewed { address, previous } => EventKind::LeaseRenewed {
                address: Text(address),
                previous: Text(previous),
            },
            Event::LeaseLost { address } => EventKind::LeaseLost {
                address: Text(address),
            },
            Event::Ignored(why) => EventKind::FrameIgnored { why: Text(why) },
        };
        self.write(now, Some(vm), kind);
    }

    fn notice(&mut self, now: Instant, notice: &Notice<'_>) {
        let kind = match *notice {
            Notice::Started(vm, _) => return self.write(now, Some(vm), EventKind::VmStarted),
            Notice::StartRefused(vm, why) => {
                let why = cut(why);
                return self.write(now, Some(vm), EventKind::VmStartRefused { why });
            }
            Notice::Stopped(vm) => return self.write(now, Some(vm), EventKind::VmStopped),
            Notice::Moved { vm, from, to } => {
                return self.write(now, Some(vm), EventKind::VmMoved { from, to });
            }
            Notice::MoveRefused(vm, why) => {
                let why = cut(why);
                return self.write(now, Some(vm), EventKind::VmMoveRefused { why });
            }
            Notice::Misbehaves(vm, what) => {
                return self.write(now, Some(vm), EventKind::MisbehaviourBegun { what });
            }
            Notice::Behaves(vm, what) => {
                return self.write(now, Some(vm), EventKind::MisbehaviourEnded { what });
            }
            Notice::Link(event) => {
                let kind = EventKind::LinkChanged {
                    link: &event.link,
                    change: &event.change,
                };
                return self.write(now, event.vm, kind);
            }
            Notice::Explained(found) => {
                let ping = self.of_ping(found.vm, found.ping.session, found.ping.sequence);
                let Some(ping) = ping else {
                    return;
                };
                let kind = EventKind::PingExplained {
                    ping,
                    cause: found.cause,
                    direction: found.direction,
                    place: found.place,
                    reason: (!found.reason.is_empty()).then_some(cut(found.reason)),
                };
                return self.write(now, Some(found.vm), kind);
            }
            Notice::Marked { name, detail } => EventKind::MarkSet {
                name,
                detail: (!detail.is_empty()).then_some(cut(detail)),
            },
            Notice::Paced(pacing) => pacing_kind(pacing),
            Notice::Impaired(rules) => EventKind::ImpairmentsChanged { rules },
            Notice::FlowsAdded(ref ids) => EventKind::FlowsAdded {
                first: ids.start,
                flows: ids.len(),
            },
            Notice::FlowsEnded(ids) => EventKind::FlowsEnded {
                first: ids.first().map_or(0, |id| id.0),
                flows: ids.len(),
            },
            Notice::Stopping => EventKind::RunStopping,
        };
        self.write(now, None, kind);
    }

    fn flush(&mut self, now: Instant, is_idle: bool) -> bool {
        self.output.flush_if_due(now, is_idle)
    }

    fn resume(&mut self) {
        self.output.resume();
    }

    fn is_over(&self) -> bool {
        self.output.is_over()
    }

    fn so_far(&mut self) -> Option<Recording> {
        self.output.is_named().then(|| self.output.recording())
    }

    fn finish(&mut self) -> Option<Recording> {
        self.output.close();
        self.so_far()
    }
}

/// As much of a text as a line has room for.
fn cut(text: &str) -> &str {
    let end = text.floor_char_boundary(MAX_WHY);
    text.get(..end).unwrap_or_default()
}

fn pacing_kind(pacing: Pacing) -> EventKind<'static> {
    let (mut rate_per_s, mut interval_ns, mut window) = (None, None, None);
    match pacing {
        Pacing::Rate(rate) => rate_per_s = Some(rate),
        Pacing::Interval(interval) => interval_ns = Some(nanos(interval)),
        Pacing::Window(number) => window = Some(number),
    }
    EventKind::PacingChanged {
        rate_per_s,
        interval_ns,
        window,
    }
}

fn ping_kind(ping: OfPing, outcome: PingOutcome) -> EventKind<'static> {
    match outcome {
        PingOutcome::Answered { sent, received, .. } => EventKind::PingAnswered {
            ping,
            rtt_ns: received.nanos_since(sent),
        },
        PingOutcome::Member {
            is_first,
            sent,
            received,
            ..
        } => EventKind::PingAnsweredByMember {
            ping,
            rtt_ns: received.nanos_since(sent),
            is_first,
        },
        PingOutcome::Corrupt { .. } => EventKind::PingCorrupt(ping),
        PingOutcome::Lost { .. } => EventKind::PingLost(ping),
        PingOutcome::Abandoned { .. } => EventKind::PingAbandoned(ping),
        PingOutcome::MembersLost { .. } => EventKind::PingMembersLost(ping),
        PingOutcome::Unresolved { .. } => EventKind::PingUnresolved(ping),
        PingOutcome::Errored { error, .. } => EventKind::PingErrored {
            ping,
            error: PingError::name(error),
        },
        PingOutcome::Duplicate => EventKind::PingDuplicate(ping),
        PingOutcome::Late { .. } => EventKind::PingLate(ping),
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fabric::output::cup::Cup;
    use crate::fabric::{Explained, Impaired, LinkEvent};
    use crate::report::line_schema_json;
    use crate::vm::{MemberId, PingId};

    /// Notices in the test of all kinds of events.
    const NOTICES: usize = 18;
    const MAC: MacAddr = MacAddr([2, 0, 10, 77, 0, 3]);

    /// The lines that `tell` makes, read again.
    fn lines(tell: impl FnOnce(&mut EventLog)) -> Vec<serde_json::Value> {
        let cup = Cup::new(usize::MAX);
        let mut log = EventLog::new("t.jsonl".into(), Box::new(cup.clone()), Instant::ZERO);
        let target = Target::Vm(VmId(9));
        log.flow(FlowId(4), VmId(0), SessionId(1), target);
        tell(&mut log);
        let recording = log.finish().unwrap();
        let text = String::from_utf8(cup.0.borrow().files[0].clone()).unwrap();
        assert_eq!(recording.records, text.lines().count() as u64);
        assert_eq!(recording.bytes, text.len() as u64);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// An echo request of the first session from the log's VM to another.
    fn request() -> Vec<u8> {
        let mut frame = vec![0; 14];
        frame[12] = 8;
        frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0]);
        frame.extend([10, 77, 0, 2, 10, 77, 0, 11]);
        frame.extend([8, 0, 0, 0, 0, 1, 0, 0]);
        frame
    }

    /// The kinds that the schema of a line has.
    fn kinds(schema: &serde_json::Value) -> BTreeSet<&str> {
        let kinds = schema["oneOf"].as_array().unwrap().iter();
        kinds
            .map(|part| part["properties"]["kind"]["const"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn each_kind_of_event_is_a_line_that_the_schema_allows() {
        let address = IpAddr::from([10, 77, 0, 3]);
        let elapsed = Duration::from_micros(8);
        let id = PingId {
            session: SessionId(1),
            sequence: 70_000,
        };
        let (due, sent) = (Instant::ZERO, Instant::from_nanos(100));
        let received = Instant::from_nanos(8_223);
        let outcomes = [
            PingOutcome::Answered {
                due,
                sent,
                received,
            },
            PingOutcome::Member {
                member: MemberId(0),
                is_first: true,
                is_last: false,
                due,
                sent,
                received,
            },
            PingOutcome::Corrupt { due },
            PingOutcome::Lost { due },
            PingOutcome::Abandoned { due },
            PingOutcome::MembersLost { due },
            PingOutcome::Unresolved { due },
            PingOutcome::Errored {
                due,
                sent: due,
                error: PingError::HostUnreachable,
            },
            PingOutcome::Duplicate,
            PingOutcome::Late { lost: None },
        ];
        let others = [
            Event::Resolved {
                address,
                mac: MAC,
                elapsed,
            },
            Event::AddressTried { address },
            Event::AddressReady { address },
            Event::AddressLost { address },
            Event::Conflict { address, mac: MAC },
            Event::Leased { address, elapsed },
            Event::Renewed {
                address,
                previous: address,
            },
            Event::LeaseLost { address },
            Event::Ignored(Ignored::OtherStation),
        ];
        let events = outcomes.map(|outcome| Event::Ping(id, outcome)).into_iter();
        let events: Vec<Event> = events.chain(others).collect();
        let link = LinkEvent {
            link: "tap0".into(),
            vm: Some(VmId(0)),
            change: LinkFate::Left {
                bridge: "br0".into(),
            },
        };
        let explained = Explained {
            vm: VmId(0),
            ping: id,
            due: Instant::ZERO,
            cause: "in_bridge",
            words: "dropped in the bridge",
            direction: "request",
            place: "vm0",
            reason: "NO_TX_TARGET in br_flood",
        };
        let frame = request();
        let lines = lines(|log| {
            let now = Instant::from_nanos(5);
            let sent = Observed {
                vm: VmId(0),
                direction: Direction::Out,
                frame: &frame,
                impaired: Impaired::default(),
                refused: None,
            };
            log.frame(now, &sent);
            for notice in [
                Notice::Started(VmId(0), ""),
                Notice::StartRefused(VmId(0), "no room"),
                Notice::Stopped(VmId(0)),
                Notice::Moved {
                    vm: VmId(0),
                    from: "leaf0",
                    to: "leaf1",
                },
                Notice::MoveRefused(VmId(0), "no such place"),
                Notice::Misbehaves(VmId(0), "silent"),
                Notice::Behaves(VmId(0), "silent"),
                Notice::Link(&link),
                Notice::Explained(&explained),
                Notice::Marked {
                    name: "policy",
                    detail: "",
                },
                Notice::Marked {
                    name: "link",
                    detail: "tap0 was set down",
                },
                Notice::Paced(Pacing::Rate(5000.0)),
                Notice::Paced(Pacing::Interval(Duration::from_millis(1))),
                Notice::Paced(Pacing::Window(4)),
                Notice::Impaired(2),
                Notice::FlowsAdded(3..5),
                Notice::FlowsEnded(&[FlowId(3)]),
                Notice::Stopping,
            ] {
                log.notice(now, &notice);
            }
            events
                .iter()
                .for_each(|event| log.event(now, VmId(0), event));
            log.frame(now, &sent);
        });
        let schema: serde_json::Value =
            serde_json::from_str(&line_schema_json("trace").unwrap()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        for line in &lines {
            let wrong: Vec<String> = validator.iter_errors(line).map(|e| e.to_string()).collect();
            assert_eq!(wrong, [""; 0], "{line}");
        }
        assert_eq!(lines.len(), NOTICES + events.len() + 2);
        let told = lines.iter().map(|line| line["kind"].as_str().unwrap());
        assert_eq!(told.collect::<BTreeSet<_>>(), kinds(&schema));
        let answered = serde_json::json!({
            "time_ns": 5, "vm": "vm0", "kind": "ping_answered",
            "flow": 4, "dst": "vm9", "ping": 70_000, "rtt_ns": 8_123,
        });
        assert_eq!(lines[1 + NOTICES], answered);
        let misspelt = serde_json::json!({ "time_ns": 5, "vm": "vm0", "kind": "ping_answerd" });
        assert!(!validator.is_valid(&misspelt));
    }

    #[test]
    fn no_line_is_longer_than_there_is_room_for() {
        let longest = EventKind::LinkChanged {
            link: "a-name-of-15-by",
            change: &LinkFate::Joined {
                bridge: "\u{1}".repeat(15),
            },
        };
        let line = EventLine {
            time_ns: u64::MAX,
            vm: Some(Text(VmId(u32::MAX))),
            kind: longest,
        };
        assert!(serde_json::to_vec(&line).unwrap().len() < MAX_LINE);
    }
}
