//! The streams of a phase: patterns expanded to streams, each with the VMs that it is for, sizes that fit, and a schedule.

use std::net::{IpAddr, Ipv4Addr};

use super::flows::PlanContext;
use super::phases::{MOST_PINGS, steady_pacing};
use crate::experiment::settings::{PACING, Setting, SettingError, Settings};
use crate::experiment::{IpVersion, StreamPlan};
use crate::hypervisor::{Change, Phase};
use crate::load::{Pacing, PhaseLoad, Sizes, Target};
use crate::vm::VmId;
use crate::wire::{
    ETHERNET_HEADER_LENGTH, FRAME_CHECK_SEQUENCE, IPV4_HEADER_LENGTH, IPV6_HEADER_LENGTH,
    MAX_STREAMS, MacAddr, STREAM_PAYLOAD, UDP_HEADER_LENGTH,
};

/// Bytes of a frame around the packet.
const AROUND: usize = ETHERNET_HEADER_LENGTH + FRAME_CHECK_SEQUENCE;

/// A value of `stream`: a pattern, and what is said of its streams alone: `vm0:vm1,rate=100k,size=imix`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Own {
    /// The whole, where it was written: of that all errors are.
    whole: Setting,
    pattern: String,
    rate: Option<String>,
    interval: Option<String>,
    size: Option<String>,
}

impl Own {
    fn of(setting: &Setting) -> Result<Own, SettingError> {
        let mut parts = setting.text.split(',');
        let mut own = Own {
            whole: setting.clone(),
            pattern: parts.next().unwrap_or_default().trim().to_owned(),
            rate: None,
            interval: None,
            size: None,
        };
        for part in parts {
            let place = match part.trim().split_once('=') {
                Some(("rate", value)) => (&mut own.rate, value),
                Some(("interval", value)) => (&mut own.interval, value),
                Some(("size", value)) => (&mut own.size, value),
                _ => {
                    let why = format_args!(
                        "{part:?} says nothing about its frames; expected rate=R, interval=TIME or size=SIZES behind a pattern"
                    );
                    return Err(setting.error(why));
                }
            };
            *place.0 = Some(place.1.trim().to_owned());
        }
        if own.rate.is_some() && own.interval.is_some() {
            let why = "a rate and an interval; expected one of them";
            return Err(setting.error(why));
        }
        Ok(own)
    }

    /// Its own pacing, if it has one.
    fn pacing(&self) -> Result<Option<Pacing>, SettingError> {
        Ok(match (&self.rate, &self.interval) {
            (Some(text), _) => Some(Pacing::Rate(self.whole.rate(text, "frames", MOST_PINGS)?)),
            (None, Some(text)) => Some(Pacing::Interval(self.whole.duration_of(text)?)),
            (None, None) => None,
        })
    }
}

/// What is about the probes of pings alone. Without pings `window` is refused by itself.
pub(super) const OF_PROBES: [&str; 6] = [
    "probe",
    "port",
    "tcp-close",
    "tcp-hold",
    "arp-request",
    "one-way",
];

/// The streams of all phases.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) planned: Vec<StreamPlan>,
}

impl Streams {
    /// Adds the streams of `phases`, which are a phase of a scenario with these settings, or its steps, and a warm-up before it.
    /// Each of them has streams of its own, so that its figures are told apart.
    pub(super) fn add(
        &mut self,
        settings: &Settings,
        context: &PlanContext<'_>,
        phases: &mut [Phase],
    ) -> Result<(), SettingError> {
        let given = settings.all("stream");
        if given.is_empty() {
            return Ok(());
        }
        let has_pings = !settings.all("ping").is_empty();
        let mut planned = Vec::new();
        for setting in given {
            let own = Own::of(setting)?;
            let pacing = match own.pacing()? {
                Some(pacing) => Some(pacing),
                None if has_pings => {
                    if let Some(of_pings) = PACING.iter().find_map(|name| settings.get(name)) {
                        let why = format_args!(
                            "{} is about the pings of the phase; expected rate=R or interval=TIME behind the pattern of a stream \
                             beside them",
                            of_pings.flag()
                        );
                        return Err(setting.error(why));
                    }
                    None
                }
                None => None,
            };
            let size = own.size.as_deref().map(|text| (&own.whole, text));
            let of_phase = || settings.get("size").filter(|_| !has_pings);
            let size = size.or_else(|| of_phase().map(|setting| (setting, setting.text.as_str())));
            planned.push((pacing, context.streams(&own, size, settings)?));
        }
        if steady_pacing(settings).is_ok_and(|pacing| matches!(pacing, Pacing::Window(_)))
            && !has_pings
            && let Some(window) = settings.get("window")
        {
            let why = "a stream gets no replies; expected a rate or an interval";
            return Err(window.error(why));
        }
        for phase in phases {
            // Those without a pace of their own share that of the phase.
            let mut shared = Vec::new();
            for (pacing, streams) in &planned {
                match pacing {
                    None => shared.extend(streams.iter().cloned()),
                    Some(pacing) => self.add_to(phase, *pacing, streams.clone()),
                }
            }
            if !shared.is_empty() {
                let pacing = match has_pings {
                    // None was chosen: the default.
                    true => steady_pacing(settings)?,
                    false => phase.load.pacing,
                };
                self.add_to(phase, pacing, shared);
            }
        }
        if self.planned.len() > MAX_STREAMS {
            let why =
                format!("stream: more than {MAX_STREAMS} streams, warm-ups and steps included");
            return Err(SettingError::new(why));
        }
        Ok(())
    }

    fn add_to(&mut self, phase: &mut Phase, pacing: Pacing, streams: Vec<StreamPlan>) {
        let first = self.planned.len() as u32;
        let (name, is_counted) = (&phase.name, phase.is_counted);
        self.planned
            .extend(streams.into_iter().map(|stream| StreamPlan {
                phase: name.clone(),
                is_counted,
                ..stream
            }));
        phase.streams.push(PhaseLoad {
            flows: (first..self.planned.len() as u32).into(),
            pacing,
            ..phase.load.clone()
        });
    }
}

/// Checks that nothing is said of pings that the settings of none of the phases send: streams have no probes.
pub(super) fn check_probes(phases: &[Settings]) -> Result<(), SettingError> {
    let said = phases.iter().find_map(|settings| {
        let mut of_probes = OF_PROBES.iter().filter_map(|name| settings.get(name));
        of_probes.find(|setting| !setting.is_off())
    });
    match said {
        Some(setting) => Err(setting.error(
            "nothing is pinged, and streams are UDP to port 9 that nobody answers; expected a ping pattern beside it, such as \
             --ping vm0:vm1",
        )),
        None => Ok(()),
    }
}

/// Checks that every source is there all the time.
pub(super) fn check_sources(streams: &[StreamPlan], phases: &[Phase]) -> Result<(), SettingError> {
    let transitions = phases.iter().flat_map(|phase| &phase.transitions);
    for transition in transitions {
        let vm = transition.vm;
        if streams.iter().any(|stream| stream.source == vm) {
            let does = match transition.change {
                Change::Start => "starts",
                Change::Stop => "stops",
            };
            return Err(SettingError::new(format_args!(
                "stream: {vm} {does} in the course of the run; expected a source that is there all the time"
            )));
        }
    }
    Ok(())
}

impl PlanContext<'_> {
    /// The streams of one pattern, in a phase with these settings, still of no phase.
    fn streams(
        &self,
        own: &Own,
        size: Option<(&Setting, &str)>,
        settings: &Settings,
    ) -> Result<Vec<StreamPlan>, SettingError> {
        let over_ipv6 = settings.switch("ping-ipv6")?;
        let pattern = &Setting {
            text: own.pattern.clone(),
            ..own.whole.clone()
        };
        let (source, target) = own.pattern.split_once(':').unwrap_or_default();
        let (is_absent, is_broadcast) = (target == "absent", target == "broadcast");
        if over_ipv6 && (is_absent || is_broadcast) {
            let why = format_args!(
                "IPv6 has no address for that; expected another one than {target}, or no --ping-ipv6"
            );
            return Err(pattern.error(why));
        }
        let written = match is_broadcast {
            true => Setting {
                text: format!("{source}:{}", self.subnet.broadcast()),
                ..pattern.clone()
            },
            false => pattern.clone(),
        };
        let ends = self.ends(&written)?;
        let mut planned = Vec::with_capacity(ends.len());
        for (source, named) in ends {
            let target = match is_broadcast {
                true => named,
                false => self.reachable(named).map_err(|why| pattern.error(why))?,
            };
            if target == Target::Vm(source) {
                let why =
                    format_args!("{source} can't send to itself; expected another VM or address");
                return Err(pattern.error(why));
            }
            let version = match target {
                Target::Vm(_) if over_ipv6 => IpVersion::V6,
                Target::Address(IpAddr::V6(_)) => IpVersion::V6,
                Target::Vm(_) | Target::Address(IpAddr::V4(_)) => match named {
                    Target::Address(IpAddr::V6(_)) => IpVersion::V6,
                    _ => IpVersion::V4,
                },
            };
            planned.push(StreamPlan {
                source,
                target,
                version,
                name: match (is_absent, is_broadcast) {
                    (true, _) => Some("absent"),
                    (_, true) => Some("broadcast"),
                    _ => None,
                },
                mac: match target {
                    _ if is_broadcast => Some(MacAddr::BROADCAST),
                    Target::Address(IpAddr::V4(address)) if is_absent => Some(mac_of(address)),
                    _ => None,
                },
                receivers: self.receivers(source, target, (is_absent, is_broadcast)),
                sizes: self.sizes(size, pattern, version)?,
                phase: String::new(),
                is_counted: true,
            });
        }
        Ok(planned)
    }

    /// The VMs that a stream is for.
    fn receivers(
        &self,
        source: VmId,
        target: Target,
        (is_absent, is_broadcast): (bool, bool),
    ) -> Vec<VmId> {
        let vlan = |vm: VmId| self.vms.get(vm.index()).map(|vm| vm.vlan);
        let is_near = |vm: &VmId| *vm != source && vlan(*vm) == vlan(source);
        match target {
            Target::Vm(vm) => vec![vm],
            _ if is_absent => Vec::new(),
            _ if is_broadcast => {
                let all = (0..self.vms.len() as u32).map(VmId);
                all.filter(is_near).collect()
            }
            Target::Address(group) => {
                let joined = self.memberships.iter().filter(|it| it.group == group);
                let members = joined.flat_map(|joined| joined.vms.clone().map(VmId));
                members.filter(is_near).collect()
            }
        }
    }

    /// The sizes of the frames of streams over that version of IP.
    fn sizes(
        &self,
        size: Option<(&Setting, &str)>,
        pattern: &Setting,
        version: IpVersion,
    ) -> Result<Sizes, SettingError> {
        let (name, header) = match version {
            IpVersion::V4 => ("IPv4", IPV4_HEADER_LENGTH),
            IpVersion::V6 => ("IPv6", IPV6_HEADER_LENGTH),
        };
        let least = AROUND + header + UDP_HEADER_LENGTH + STREAM_PAYLOAD;
        let mtu = usize::from(self.lab.mtu);
        let most = AROUND + mtu;
        if least > most {
            let why = format_args!(
                "an MTU of {mtu} has no room for the shortest frame of a stream over {name}"
            );
            return Err(pattern.error(why));
        }
        let largest = u16::try_from(most).unwrap_or(u16::MAX);
        let Some((setting, text)) = size else {
            return Ok(Sizes::InTurn([least as u16].into()));
        };
        let sizes = Sizes::parse(text, largest).map_err(|why| setting.error(why))?;
        let (shortest, longest) = sizes.extremes();
        if usize::from(shortest) < least || usize::from(longest) > most {
            let wrong = match usize::from(shortest) < least {
                true => shortest,
                false => longest,
            };
            let why = format_args!(
                "frames of {wrong} bytes; expected {least} to {most} over {name} with an MTU of {mtu}, Ethernet header and frame \
                 check sequence included"
            );
            return Err(setting.error(why));
        }
        Ok(sizes)
    }
}

/// The hardware address that a VM with this address would have; there is none.
const fn mac_of(address: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = address.octets();
    MacAddr([2, 0, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use crate::experiment::{Experiment, Scenario, plan};
    use crate::load::{Pacing, PhaseLoad};

    fn planned(text: &str) -> Result<Experiment, String> {
        let scenario = Scenario::parse("t.toml", text).map_err(|error| error.to_string())?;
        plan(&scenario).map_err(|error| error.to_string())
    }

    /// Source, target, sizes and receivers of each stream, in words.
    fn told(plan: &Experiment) -> Vec<String> {
        let streams = plan.streams.iter();
        let words = streams.map(|stream| {
            let receivers = stream.receivers.iter().map(ToString::to_string);
            format!(
                "{} {} {} [{}]{}",
                stream.source,
                stream.target,
                stream.sizes,
                receivers.collect::<Vec<_>>().join(" "),
                if stream.is_counted { "" } else { " uncounted" }
            )
        });
        words.collect()
    }

    #[test]
    fn patterns_become_streams_and_the_effective_plan_is_the_same() {
        for (text, expected) in [
            ("stream = 'vm0:vm1'\ncount = 1", &["vm0 vm1 64 [vm1]"][..]),
            (
                "stream = 'vm0:vm1'\nsize = 'aaz'\nrate = 100\ncount = 1",
                &["vm0 vm1 64/64/1518 [vm1]"],
            ),
            (
                "stream = 'vm0:vm1'\nping-ipv6 = true\nipv6 = true\nsize = 100\ncount = 1",
                &["vm0 vm1 100 [vm1]"],
            ),
            (
                "vms = 4\nstream = ['vm0:broadcast', 'vm[0-1]:vm3,rate=10,size=100-200']\nvlan = ['vm[0-2]=7']\ncount = 1",
                &[
                    "vm0 vm3 100-200 [vm3]",
                    "vm1 vm3 100-200 [vm3]",
                    "vm0 10.77.255.255 64 [vm1 vm2]",
                ],
            ),
            (
                "stream = ['vm0:absent', 'vm1:239.1.2.3']\ncount = 1\n[[group]]\njoin = '239.1.2.3'\nvms = 2\n[[group]]\nvms = 1",
                &["vm0 10.77.255.254 64 []", "vm1 239.1.2.3 64 [vm0]"],
            ),
            (
                "stream = 'vm0:vm1'\nwarmup = '1s'\nduration = '1s'\nramp = '10:20:2'",
                &[
                    "vm0 vm1 64 [vm1] uncounted",
                    "vm0 vm1 64 [vm1]",
                    "vm0 vm1 64 [vm1]",
                ],
            ),
        ] {
            let plan = planned(text).unwrap();
            assert_eq!(told(&plan), expected, "{text}");
            let again = super::super::plan(&plan.effective).unwrap();
            assert_eq!(again.streams, plan.streams, "{text}");
            assert_eq!(again.phases, plan.phases, "{text}");
        }
    }

    #[test]
    fn what_is_about_pings_may_be_said_beside_streams_if_a_phase_pings() {
        for text in [
            "stream = 'vm0:vm1,rate=5'\nping = 'vm0:vm1'\nprobe = 'tcp'\ncount = 1",
            "probe = 'udp'\none-way = true\ncount = 1\n[[phase]]\nping = 'vm0:vm1'\n[[phase]]\nstream = 'vm0:vm1'",
            "stream = 'vm0:vm1'\none-way = false\ncount = 1",
        ] {
            planned(text).unwrap();
        }
        for (text, is_proposed) in [("probe = 'udp'", false), ("rate = 7", true)] {
            let error = planned(text).unwrap_err();
            assert!(error.contains("expected a ping pattern"), "{error}");
            assert_eq!(error.contains("or a --stream"), is_proposed, "{error}");
        }
    }

    #[test]
    fn streams_share_the_pace_of_the_phase_or_have_their_own() {
        let pace = |load: &PhaseLoad| (load.flows.len(), load.pacing);
        let paces = |text: &str| -> Vec<_> {
            let plan = planned(text).unwrap();
            plan.phases[0].streams.iter().map(pace).collect()
        };
        let text = "vms = 3\nstream = ['vm0:all', 'vm1:vm0,rate=5']\nrate = 100\ncount = 1";
        assert_eq!(
            paces(text),
            [(1, Pacing::Rate(5.0)), (2, Pacing::Rate(100.0))]
        );
        let text = "ping = 'vm0:vm1'\nstream = 'vm0:vm1,rate=7'\nwindow = 4\ncount = 1";
        assert_eq!(paces(text), [(1, Pacing::Rate(7.0))]);
    }

    #[test]
    fn what_a_stream_can_not_be_told_is_refused_with_what_is_expected() {
        for (text, expected) in [
            (
                "stream = 'vm0:vm1,port=7'",
                "expected rate=R, interval=TIME or size=SIZES behind a pattern",
            ),
            (
                "stream = 'vm0:vm1,rate=7,interval=1s'",
                "expected one of them",
            ),
            (
                "stream = 'vm0:vm1'\nwindow = 4",
                "a stream gets no replies; expected a rate or an interval",
            ),
            (
                "ping = 'vm0:vm1'\nstream = 'vm0:vm1'\nrate = 4",
                "expected rate=R or interval=TIME behind the pattern of a stream",
            ),
            (
                "stream = 'vm0:vm1,rate=0'",
                "vm0:vm1,rate=0: expected frames per second, above 0",
            ),
            (
                "stream = 'vm0:vm1, interval=0'",
                "vm0:vm1, interval=0: expected more than 0",
            ),
            ("stream = 'vm0:vm1,size=64-9000'", "vm0:vm1,size=64-9000: "),
            (
                "stream = 'vm0:vm1,size=64-1000'\nping-ipv6 = true\nipv6 = true",
                "vm0:vm1,size=64-1000: frames of 64 bytes; expected 84",
            ),
            (
                "stream = 'vm0:vm1'\nprobe = 'tcp'",
                "probe = tcp: nothing is pinged, and streams are UDP to port 9",
            ),
            (
                "stream = 'vm0:vm1'\nport = 5",
                "expected a ping pattern beside it",
            ),
            ("stream = 'vm0:vm1'\ntcp-hold = '1s'", "nothing is pinged"),
            ("stream = 'vm0:vm1'\ntcp-close = 'fin'", "nothing is pinged"),
            (
                "stream = 'vm0:vm1'\narp-request = 'unicast'",
                "nothing is pinged",
            ),
            ("stream = 'vm0:vm1'\none-way = true", "nothing is pinged"),
            (
                "stream = 'vm0:vm1'\ncount = 1\n[[phase]]\n[[phase]]\nport = 7",
                "nothing is pinged",
            ),
            ("stream = 'vm0:vm0'", "vm0 can't"),
            ("stream = 'vm0:vm7'", "there is no vm7"),
            (
                "stream = 'vm0:vm1'\nsize = 63",
                "expected 64 to 1518 over IPv4 with an MTU of 1500",
            ),
            (
                "stream = 'vm0:vm1'\nsize = 'aah'",
                "frames of 2112 bytes; expected 64 to 1518",
            ),
            (
                "stream = 'vm0:vm1'\nsize = 83\nping-ipv6 = true\nipv6 = true",
                "expected 84 to 1518 over IPv6",
            ),
            ("stream = 'vm0:vm1'\nsize = 'small'", "is no size of frames"),
            (
                "stream = 'vm0:absent'\nping-ipv6 = true\nipv6 = true",
                "expected another one than absent",
            ),
            (
                "ping = 'vm0:vm1'\nsize = 'imix'",
                "expected a number of bytes",
            ),
            (
                "vms = 3\nstream = 'vm2:vm0'\nduration = '1s'\n[[phase]]\nstop = 'vm2'",
                "vm2 stops in the course of the run",
            ),
        ] {
            let error = planned(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
