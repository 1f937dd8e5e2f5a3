//! The kind of each flow's probes: what the flow's own pattern says, or the phase, or the group of the source.

use std::str::FromStr;

use super::flows::PlanContext;
use crate::experiment::options::{any_of, suggestion};
use crate::experiment::settings::{Setting, SettingError, Settings, span};
use crate::load::Target;
use crate::vm::{ArpRequest, Probe, ProbeKind, TcpClose, VmId};
use crate::wire::{EPHEMERAL_PORTS, is_ephemeral};

/// A pattern, and what is said of its flows alone: `vm0:vm1,probe=udp,port=9`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OwnProbe<'a> {
    /// The pattern.
    pub(super) pattern: &'a str,
    kind: Option<ProbeKind>,
    port: Option<u16>,
    close: Option<TcpClose>,
    hold_millis: Option<u32>,
    arp_request: Option<ArpRequest>,
}

impl<'a> OwnProbe<'a> {
    /// Reads a value of `ping`.
    pub(super) fn of(setting: &'a Setting) -> Result<OwnProbe<'a>, SettingError> {
        let mut parts = setting.text.split(',');
        let mut own = OwnProbe {
            pattern: parts.next().unwrap_or_default(),
            kind: None,
            port: None,
            close: None,
            hold_millis: None,
            arp_request: None,
        };
        for part in parts {
            match part.trim().split_once('=') {
                Some(("probe", kind)) => own.kind = Some(self::kind(setting, kind)?),
                Some(("port", port)) => own.port = Some(self::port(setting, port)?),
                Some(("tcp-close", close)) => own.close = Some(self::close(setting, close)?),
                Some(("tcp-hold", hold)) => own.hold_millis = Some(self::hold(setting, hold)?),
                Some(("arp-request", to)) => {
                    own.arp_request = Some(self::arp_request(setting, to)?)
                }
                _ => {
                    let why = format_args!(
                        "{part:?} says nothing about its pings; expected probe=KIND, port=N, tcp-close=HOW, tcp-hold=TIME or arp-request=HOW behind a pattern"
                    );
                    return Err(setting.error(why));
                }
            }
        }
        Ok(own)
    }
}

fn kind(setting: &Setting, text: &str) -> Result<ProbeKind, SettingError> {
    ProbeKind::from_str(text).map_err(|()| {
        let meant = suggestion(text, "", ProbeKind::NAMES.iter().copied());
        let kinds = any_of(ProbeKind::NAMES);
        setting.error(format_args!(
            "no probe is {text:?}; expected {kinds}{meant}"
        ))
    })
}

fn close(setting: &Setting, text: &str) -> Result<TcpClose, SettingError> {
    match text {
        "rst" => Ok(TcpClose::Rst),
        "fin" => Ok(TcpClose::Fin),
        _ => Err(setting.error(format_args!(
            "no connection is ended by {text:?}; expected {}",
            any_of(TcpClose::NAMES)
        ))),
    }
}

fn arp_request(setting: &Setting, text: &str) -> Result<ArpRequest, SettingError> {
    match text {
        "broadcast" => Ok(ArpRequest::Broadcast),
        "unicast" => Ok(ArpRequest::Unicast),
        _ => Err(setting.error(format_args!(
            "no address is asked for by {text:?}; expected {}",
            any_of(ArpRequest::NAMES)
        ))),
    }
}

/// Milliseconds for which a connection is held.
fn hold(setting: &Setting, text: &str) -> Result<u32, SettingError> {
    let hold = span(text).filter(|hold| hold.subsec_nanos() % 1_000_000 == 0);
    let millis = hold.and_then(|hold| u32::try_from(hold.as_millis()).ok());
    millis.ok_or_else(|| {
        setting.error(format_args!(
            "{text:?} is no time to hold a connection for; expected whole milliseconds up to 49 days, such as 500ms or 10s"
        ))
    })
}

/// A port that probes may go to: what they come from tells them from their replies.
pub(super) fn port(setting: &Setting, text: &str) -> Result<u16, SettingError> {
    let port = text
        .parse()
        .ok()
        .filter(|port| *port != 0 && !is_ephemeral(*port));
    port.ok_or_else(|| {
        let (first, last) = (EPHEMERAL_PORTS.start(), EPHEMERAL_PORTS.end());
        setting.error(format_args!(
            "expected a port from 1 to {}, or from {} to 65535: probes come from the others",
            first - 1,
            last + 1
        ))
    })
}

impl PlanContext<'_> {
    /// The probes from `source` to `target`, of a phase or a request with these settings.
    pub(super) fn probe(
        &self,
        setting: &Setting,
        (own, settings): (OwnProbe<'_>, &Settings),
        (source, target): (VmId, Target),
    ) -> Result<Probe, SettingError> {
        let group = self.group_of(source).map(|group| group.settings);
        let given = |name: &str| {
            let of_group = || group.and_then(|settings| settings.get(name));
            settings.get(name).or_else(of_group)
        };
        let of_kind = given("probe");
        let kind = match (own.kind, of_kind) {
            (Some(kind), _) => kind,
            (None, Some(setting)) => kind(setting, setting.choice()?)?,
            (None, None) => ProbeKind::default(),
        };
        // The port of the phase is that of the phase's kind.
        let of_port = given("port").filter(|_| own.kind.is_none());
        let port = match (own.port, of_port) {
            (Some(port), _) => Some((setting, port)),
            (None, Some(setting)) => Some((setting, port(setting, &setting.text)?)),
            (None, None) => None,
        };
        if let Target::Address(address) = target
            && address.is_multicast()
            && !kind.is_to_groups()
        {
            let why = format_args!(
                "members of a group answer no {kind} probes; expected --probe icmp, or the address of a host"
            );
            return Err(setting.error(why));
        }
        let most = kind.most_outstanding();
        if let Some(window) = settings.get("window")
            && window
                .text
                .parse::<usize>()
                .is_ok_and(|window| window > most)
        {
            return Err(window.error(format_args!(
                "a flow has {most} {kind} probe on its way at a time; expected a window of {most}"
            )));
        }
        let usual = Probe::of(kind);
        let port = match port {
            Some((setting, _)) if !kind.has_ports() => {
                return Err(setting.error(format_args!(
                    "{kind} probes go to no port; expected --probe {} beside it",
                    any_of(&self::with_ports())
                )));
            }
            Some((_, port)) => port,
            None => usual.port,
        };
        // What a phase or a group says of one kind is for those of its flows that are of it.
        let said = |of: ProbeKind, name: &str| {
            let is_it = kind == of;
            let of_group = is_it || (own.kind.is_none() && settings.get("probe").is_none());
            let of_phase = settings.get(name);
            let of_phase = of_phase.filter(|_| is_it || own.kind.is_none());
            let group = group.filter(|_| of_group);
            of_phase.or_else(|| group?.get(name))
        };
        let close = match (own.close, said(ProbeKind::Tcp, "tcp-close")) {
            (Some(close), _) => Some((setting, close)),
            (None, Some(setting)) => Some((setting, self::close(setting, setting.choice()?)?)),
            (None, None) => None,
        };
        let hold = match (own.hold_millis, said(ProbeKind::Tcp, "tcp-hold")) {
            (Some(hold), _) => Some((setting, hold)),
            (None, Some(setting)) => Some((setting, self::hold(setting, &setting.text)?)),
            (None, None) => None,
        };
        let of_tcp = close.map(|said| said.0).or(hold.map(|said| said.0));
        if let Some(setting) = of_tcp.filter(|_| kind != ProbeKind::Tcp) {
            return Err(setting.error(format_args!(
                "{kind} probes open no connections; expected --probe tcp beside it"
            )));
        }
        let arp_request = match (own.arp_request, said(ProbeKind::Arp, "arp-request")) {
            (Some(to), _) => Some((setting, to)),
            (None, Some(setting)) => {
                Some((setting, self::arp_request(setting, setting.choice()?)?))
            }
            (None, None) => None,
        };
        if let Some((setting, _)) = arp_request.filter(|_| kind != ProbeKind::Arp) {
            return Err(setting.error(format_args!(
                "{kind} probes ask for no hardware address; expected --probe arp beside it"
            )));
        }
        Ok(Probe {
            kind,
            port,
            arp_request: arp_request.map_or(usual.arp_request, |said| said.1),
            close: close.map_or(usual.close, |said| said.1),
            hold_millis: hold.map_or(usual.hold_millis, |said| said.1),
        })
    }
}

/// The kinds that go to a port.
fn with_ports() -> Vec<&'static str> {
    let all = ProbeKind::ALL.iter().filter(|kind| kind.has_ports());
    all.map(|kind| kind.name()).collect()
}

#[cfg(test)]
mod tests {
    use crate::experiment::{Experiment, Scenario, plan};
    use crate::vm::StampMode;

    fn planned(text: &str) -> Result<Experiment, String> {
        let scenario = Scenario::parse("t.toml", text).map_err(|error| error.to_string())?;
        plan(&scenario).map_err(|error| error.to_string())
    }

    /// The probes of all flows, in words.
    fn probes(text: &str) -> Vec<String> {
        let plan = planned(text).unwrap();
        let again = planned_again(&plan);
        assert_eq!(again.flows, plan.flows, "{text}");
        assert_eq!(again.vm_defaults, plan.vm_defaults, "{text}");
        plan.flows
            .iter()
            .map(|flow| flow.probe.to_string())
            .collect()
    }

    fn planned_again(experiment: &Experiment) -> Experiment {
        plan(&experiment.effective).unwrap()
    }

    #[test]
    fn a_pattern_goes_before_its_phase_and_that_before_the_group_of_the_source() {
        for (text, expected) in [
            ("ping = 'vm0:vm1'", &["icmp"][..]),
            ("ping = 'vm0:vm1'\nprobe = 'udp'", &["udp to port 7"]),
            (
                "ping = ['vm0:vm1', 'vm0:vm1,probe=icmp', 'vm0:vm1, port=9']\nprobe = 'udp'\nport = 5000",
                &["udp to port 5000", "icmp", "udp to port 9"],
            ),
            (
                "ping = 'vm0:vm1'\ncount = 1\n[[phase]]\nprobe = 'udp'\n[[phase]]\nprobe = 'arp'",
                &["udp to port 7", "arp"],
            ),
            (
                "ping = ['vm0:vm1', 'vm0:vm1,port=8080', 'vm0:vm1,probe=udp', 'vm0:vm1,tcp-close=rst,tcp-hold=0']\nprobe = 'tcp'\ntcp-close = 'fin'\ntcp-hold = '2s'",
                &[
                    "tcp to port 80, held for 2s, closed by FIN",
                    "tcp to port 8080, held for 2s, closed by FIN",
                    "udp to port 7",
                    "tcp to port 80",
                ],
            ),
            (
                "ping = ['ring', 'vm0:vm1,probe=icmp']\n[[group]]\nprobe = 'udp'\nport = 99\n[[group]]\nvms = 1",
                &["udp to port 99", "icmp", "icmp"],
            ),
            (
                "ping = ['ring', 'vm0:vm1,probe=icmp', 'vm0:vm1,tcp-hold=1s']\n[[group]]\nvms = 1\nprobe = 'tcp'\ntcp-close = 'fin'\ntcp-hold = '2s'\n[[group]]\nvms = 1",
                &[
                    "tcp to port 80, held for 2s, closed by FIN",
                    "icmp",
                    "icmp",
                    "tcp to port 80, held for 1s, closed by FIN",
                ],
            ),
            (
                "ping = 'vm0:vm1'\ncount = 1\n[[group]]\nvms = 2\nprobe = 'tcp'\ntcp-close = 'fin'\n[[phase]]\n[[phase]]\nprobe = 'udp'\n[[phase]]\ntcp-close = 'rst'",
                &[
                    "tcp to port 80, closed by FIN",
                    "udp to port 7",
                    "tcp to port 80",
                ],
            ),
            (
                "ping = ['vm0:vm1', 'vm0:vm1,arp-request=broadcast', 'vm0:vm1,probe=icmp', 'ring']\nprobe = 'arp'\n[[group]]\nvms = 1\narp-request = 'unicast'\n[[group]]\nvms = 1",
                &["arp, unicast", "arp", "icmp", "arp, unicast", "arp"],
            ),
        ] {
            assert_eq!(probes(text), expected, "{text}");
        }
    }

    #[test]
    fn vms_echo_where_pings_by_udp_expect_it_unless_they_are_not_to() {
        for (text, expected) in [
            ("", false),
            ("udp-echo = true", true),
            ("probe = 'udp'", true),
            ("probe = 'udp'\nport = 9", false),
            ("probe = 'udp'\nudp-echo = false", false),
        ] {
            let plan = planned(&format!("ping = 'vm0:vm1'\n{text}")).unwrap();
            assert_eq!(plan.vm_defaults.udp_echo, expected, "{text}");
            assert_eq!(planned_again(&plan).vm_defaults, plan.vm_defaults, "{text}");
        }
    }

    #[test]
    fn vms_reflect_where_pings_by_stamp_expect_it_unless_they_are_told_how() {
        let [stateless, stateful] = [StampMode::Stateless, StampMode::Stateful].map(Some);
        for (text, expected) in [
            ("", None),
            ("stamp-reflector = 'stateful'", stateful),
            ("probe = 'stamp'", stateless),
            ("probe = 'stamp'\nport = 861", None),
            ("probe = 'stamp'\nstamp-reflector = 'stateful'", stateful),
            ("probe = 'stamp'\nstamp-reflector = 'off'", None),
        ] {
            let plan = planned(&format!("ping = 'vm0:vm1'\n{text}")).unwrap();
            assert_eq!(plan.vm_defaults.stamp_reflector, expected, "{text}");
            assert_eq!(planned_again(&plan).vm_defaults, plan.vm_defaults, "{text}");
        }
    }

    #[test]
    fn vms_accept_connections_where_pings_by_tcp_go_to_the_usual_port_unless_they_are_told_which() {
        for (text, expected) in [
            ("", None),
            ("tcp-listen = 8080", Some(8080)),
            ("probe = 'tcp'", Some(80)),
            ("probe = 'tcp'\ntcp-close = 'fin'", Some(80)),
            ("probe = 'tcp'\nport = 443", None),
            ("probe = 'tcp'\nport = 443\ntcp-listen = 443", Some(443)),
            ("probe = 'tcp'\ntcp-listen = 'off'", None),
        ] {
            let plan = planned(&format!("ping = 'vm0:vm1'\n{text}")).unwrap();
            assert_eq!(plan.vm_defaults.tcp_listen, expected, "{text}");
            assert_eq!(planned_again(&plan).vm_defaults, plan.vm_defaults, "{text}");
        }
    }

    #[test]
    fn more_flows_of_a_vm_than_can_be_told_apart_are_refused() {
        let planned = |flows: usize, to: &str| {
            let flows = format!("'vm0:vm[1-1000]{to}',").repeat(flows / 1_000);
            planned(&format!(
                "fabric = 'sim'\nvms = 1001\ncount = 1\nping = [{flows}]"
            ))
        };
        for to in [",probe=udp", ",probe=tcp", ",probe=arp"] {
            assert_eq!(planned(70_000, to).unwrap().flows.len(), 70_000, "{to}");
        }
        for to in ["", ",probe=stamp"] {
            let error = planned(66_000, to).unwrap_err();
            let expected = "ping: vm0 has more than 65536 flows by icmp and stamp, which is all that their identifiers of 16 bits can tell apart";
            assert!(error.contains(expected), "{error}");
        }
        let to_one = |probe: &str, flows: usize| {
            let flows = format!("'vm0:vm1,probe={probe}',").repeat(flows);
            super::tests::planned(&format!("count = 1\nping = [{flows}]"))
        };
        for probe in ["udp,port=9", "stamp"] {
            assert!(to_one(probe, 28_232).is_ok());
            let error = to_one(probe, 28_233).unwrap_err();
            let expected = "flows to port";
            assert!(
                error.contains("vm0 has more than 28232 ") && error.contains(expected),
                "{error}"
            );
            assert!(
                error.contains("each of which needs a port of its own from 32768 to 60999"),
                "{error}"
            );
        }
        assert!(to_one("tcp", 28_233).is_ok());
    }

    #[test]
    fn what_a_kind_of_probe_can_not_be_told_is_refused_with_what_is_expected() {
        for (text, expected) in [
            ("ping = 'vm0:vm1'\nprobe = 'upd'", "did you mean udp?"),
            (
                "ping = 'vm0:vm1,probe=upd'",
                "no probe is \"upd\"; expected icmp, udp, stamp, tcp or arp; did you mean udp?",
            ),
            (
                "ping = 'vm0:vm1,prob=udp'",
                "expected probe=KIND, port=N, tcp-close=HOW, tcp-hold=TIME or arp-request=HOW behind a pattern",
            ),
            (
                "ping = 'vm0:vm1'\nport = 9",
                "icmp probes go to no port; expected --probe udp, stamp or tcp beside it",
            ),
            (
                "ping = 'vm0:vm1,probe=arp,port=9'",
                "arp probes go to no port",
            ),
            (
                "ping = 'vm0:vm1'\nprobe = 'udp'\nport = 0",
                "expected a port from 1 to 32767, or from 61000 to 65535",
            ),
            (
                "ping = 'vm0:vm1'\nprobe = 'udp'\nport = 40000",
                "probes come from the others",
            ),
            (
                "ping = 'vm0:vm1'\nprobe = 'udp'\nsize = 7",
                "expected 8 to 1472 with an MTU of 1500 (IPv4 and UDP headers take 28 bytes)",
            ),
            (
                "ping = 'vm0:vm1'\nprobe = 'stamp'\nsize = 43",
                "expected 44 to 1472 with an MTU of 1500 (IPv4 and UDP headers take 28 bytes)",
            ),
            (
                "ping = 'vm0:vm1'\nstamp-reflector = 'statefull'",
                "expected off, stateless or stateful; did you mean stateful?",
            ),
            (
                "ping = 'vm0:vm1'\ntcp-hold = '1s'",
                "icmp probes open no connections; expected --probe tcp beside it",
            ),
            (
                "ping = 'vm0:vm1'\n[[group]]\nvms = 2\nprobe = 'udp'\ntcp-close = 'fin'",
                "udp probes open no connections",
            ),
            (
                "ping = 'vm0:vm1,probe=udp,tcp-close=fin'",
                "udp probes open no connections",
            ),
            (
                "ping = 'vm0:vm1,probe=tcp,tcp-close=fim'",
                "no connection is ended by \"fim\"; expected rst or fin",
            ),
            (
                "ping = 'vm0:vm1'\nprobe = 'tcp'\ntcp-close = 'fim'",
                "expected rst or fin; did you mean fin?",
            ),
            (
                "ping = 'vm0:vm1'\nprobe = 'tcp'\ntcp-hold = '10us'",
                "expected whole milliseconds up to 49 days, such as 500ms or 10s",
            ),
            (
                "ping = 'vm0:vm1'\nprobe = 'tcp'\nsize = 100",
                "tcp probes carry no payload",
            ),
            (
                "ping = 'vm0:vm1'\ntcp-listen = 40000",
                "expected a port from 1 to 32767",
            ),
            (
                "ping = 'vm0:vm1'\nprobe = 'arp'\nwindow = 2",
                "window = 2: a flow has 1 arp probe on its way at a time; expected a window of 1",
            ),
            (
                "ping = 'vm0:vm1'\nprobe = 'arp'\nsize = 100",
                "arp probes carry no payload",
            ),
            (
                "ping = 'vm0:239.1.2.3'\nprobe = 'udp'",
                "members of a group answer no udp probes",
            ),
            (
                "ping = 'vm0:vm1'\nprobe = 'udp'\ncount = 1\npath-split = true",
                "vm0 sends udp probes, which are not followed in the kernel; expected --probe icmp",
            ),
            (
                "ping = 'vm0:vm1'\nprobe = 'udp'\narp-request = 'unicast'",
                "udp probes ask for no hardware address; expected --probe arp beside it",
            ),
            (
                "ping = 'vm0:vm1,arp-request=unicast'",
                "icmp probes ask for no hardware address",
            ),
            (
                "ping = 'vm0:vm1,probe=arp,arp-request=unicats'",
                "no address is asked for by \"unicats\"; expected broadcast or unicast",
            ),
            (
                "ping = 'vm0:vm1'\nprobe = 'arp'\narp-request = 'unicats'",
                "expected broadcast or unicast; did you mean unicast?",
            ),
            ("probe = 'udp'", "nothing is pinged"),
        ] {
            let error = planned(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
