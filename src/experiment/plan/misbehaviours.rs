//! Misbehaviours: `vm9:silent`, `vm9:flap 1s/100ms@5s+2s`, `client:arp-flood 1000/s`.
//!
//! A value says which VMs (`vm9`, `vm[0-9]`, the name of a group), what they do, from when on (`@5s` behind it, counted from the
//! beginning of the phase, which is the default), and for how long (`+2s`; until the end of the phase by default).

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::PlanContext;
use super::addresses::is_host_of;
use crate::experiment::Scenario;
use crate::experiment::options::suggestion;
use crate::experiment::settings::{Setting, SettingError, Settings, span};
use crate::fabric::{MAX_MISBEHAVING, MAX_MISBEHAVIOURS, check_copies_of};
use crate::hypervisor::{Phase, PlannedMisbehaviour};
use crate::number::whole_number;
use crate::system::{FabricKind, LabConfig, NetnsChoice, Prepared, is_namespace_there};
use crate::vm::{LONGEST_MISBEHAVIOUR, Misbehaviour, VmId};

const EXPECTED: &str =
    "expected VMs, a colon and a misbehaviour, such as vm9:silent or vm9:arp-flood 1000/s@5s+2s";
const VMS: &str = "expected vmI, vm[I-J] or the name of a group";

/// Reads the misbehaviours of a phase.
pub(super) fn misbehaviours(
    settings: &Settings,
    duration: Option<Duration>,
    context: &PlanContext<'_>,
) -> Result<Vec<PlannedMisbehaviour>, SettingError> {
    let mut planned: Vec<PlannedMisbehaviour> = Vec::new();
    for setting in settings.meant("misbehave") {
        if let Some(ramp) = settings.get("ramp") {
            return Err(super::phases::no_ramp(ramp, "misbehave"));
        }
        let further = misbehaviour(setting, duration, context)?;
        for each in further {
            if let Some(other) = planned.iter().find(|other| overlap(other, &each)) {
                let (vm, what) = (each.vm, other.misbehaviour);
                let why = "expected one misbehaviour of a VM at a time";
                return Err(setting.error(format_args!("{vm} does {what} then: {why}")));
            }
            planned.push(each);
        }
        check_number(setting, &planned)?;
        check_copies(setting, &planned, context)?;
    }
    planned.sort_by_key(|each| each.after);
    Ok(planned)
}

/// Reads one value for a lab that runs, where it begins at once.
pub(super) fn misbehaviours_now(
    settings: &Settings,
    context: &PlanContext<'_>,
) -> Result<Vec<PlannedMisbehaviour>, SettingError> {
    let mut all = settings.all("misbehave").iter();
    if let Some(setting) = all.find(|setting| setting.text.contains('@')) {
        return Err(setting.error("it begins at once; expected it without @TIME"));
    }
    misbehaviours(settings, None, context)
}

/// Checks that the lab is in a namespace that only the run is in, if VMs misbehave: there they harm nobody else.
pub(super) fn check_lab(settings: &Settings, lab: &LabConfig) -> Result<(), SettingError> {
    let Some(setting) = settings.meant("misbehave").next() else {
        return Ok(());
    };
    let expected = "expected --netns private, or the name of a namespace that does not exist yet";
    let shared = match &lab.netns {
        _ if lab.prepared != Prepared::Nothing => "the bridge is somebody else's".to_owned(),
        _ if lab.fabric == FabricKind::Interface => {
            let why =
                "the interfaces of --fabric interface lead to others; expected another --fabric";
            return Err(setting.error(why));
        }
        _ if lab.outside.is_some() => {
            let why =
                "a port of the bridge leads to others; expected no --uplink and no --underlay";
            return Err(setting.error(why));
        }
        NetnsChoice::Private => return Ok(()),
        NetnsChoice::Host => "the namespace of the host is not the run's own".to_owned(),
        NetnsChoice::Named(name) if is_namespace_there(name) => {
            format!("the namespace {name} exists already, and is not the run's own")
        }
        NetnsChoice::Named(_) => return Ok(()),
    };
    Err(setting.error(format_args!("{shared}; {expected}")))
}

fn check_number(setting: &Setting, planned: &[PlannedMisbehaviour]) -> Result<(), SettingError> {
    let at_once = |each: &PlannedMisbehaviour| {
        let others = planned.iter();
        others.filter(|other| lies_in(each.after, other)).count()
    };
    if planned.iter().any(|each| at_once(each) > MAX_MISBEHAVING) {
        let why = format_args!("expected {MAX_MISBEHAVING} VMs that misbehave at a time at most");
        return Err(setting.error(why));
    }
    Ok(())
}

/// Checks that a run can tell of the misbehaviours of all its phases.
pub(super) fn check_all(scenario: &Scenario, phases: &[Phase]) -> Result<(), SettingError> {
    let number: usize = phases.iter().map(|phase| phase.misbehaviours.len()).sum();
    let each = scenario.phases.iter().chain([&scenario.settings]);
    match each.flat_map(|each| each.meant("misbehave")).next() {
        Some(setting) if number > MAX_MISBEHAVIOURS => Err(setting.error(format_args!(
            "{number} misbehaviours in all phases; expected {MAX_MISBEHAVIOURS} at most"
        ))),
        _ => Ok(()),
    }
}

/// Checks that a network of so many ports can carry what is sent to all of them.
fn check_copies(
    setting: &Setting,
    planned: &[PlannedMisbehaviour],
    context: &PlanContext<'_>,
) -> Result<(), SettingError> {
    let at_once = |each: &PlannedMisbehaviour| -> u64 {
        let others = planned.iter().filter(|other| lies_in(each.after, other));
        others
            .map(|other| u64::from(other.misbehaviour.rate()))
            .sum()
    };
    let rate = planned.iter().map(at_once).max().unwrap_or(0);
    check_copies_of(rate, context.vms.len()).map_err(|why| setting.error(why))
}

/// Returns true if `each` goes on at `at`.
fn lies_in(at: Duration, each: &PlannedMisbehaviour) -> bool {
    let end = each
        .lasts
        .map_or(Duration::MAX, |lasts| each.after.saturating_add(lasts));
    each.after <= at && at < end
}

fn overlap(one: &PlannedMisbehaviour, other: &PlannedMisbehaviour) -> bool {
    one.vm == other.vm && (lies_in(one.after, other) || lies_in(other.after, one))
}

/// Reads one value.
fn misbehaviour(
    setting: &Setting,
    duration: Option<Duration>,
    context: &PlanContext<'_>,
) -> Result<Vec<PlannedMisbehaviour>, SettingError> {
    let (vms, what) = setting
        .text
        .split_once(':')
        .ok_or_else(|| setting.error(EXPECTED))?;
    let vms = context.selection(setting, vms.trim(), VMS)?;
    let (what, schedule) = match what.split_once('@') {
        Some((what, schedule)) => (what, Some(schedule)),
        None => (what, None),
    };
    let (what, lasts) = match (schedule, what.rsplit_once('+')) {
        (None, Some((what, lasts))) => (what, Some(lasts)),
        _ => (
            what,
            schedule.and_then(|schedule| Some(schedule.split_once('+')?.1)),
        ),
    };
    let after = schedule.map(|schedule| schedule.split_once('+').map_or(schedule, |(at, _)| at));
    let time = |text: &str| {
        let text = text.trim();
        let time = span(text);
        let why = match time {
            Some(_) => "is too long",
            None => "is no time",
        };
        let time = time.filter(|time| *time <= LONGEST_MISBEHAVIOUR);
        time.ok_or_else(|| {
            setting.error(format_args!(
                "{text:?} {why}; expected a time up to an hour, such as 5s"
            ))
        })
    };
    let after = after.map(time).transpose()?.unwrap_or_default();
    let lasts = lasts.map(time).transpose()?;
    if lasts.is_some_and(|lasts| lasts.is_zero()) {
        return Err(setting.error("it lasts no time; expected more, such as +2s"));
    }
    check_times(setting, duration, after, lasts)?;
    let misbehaviour = kind(setting, what.trim())?;
    if let Misbehaviour::Steal(address) = misbehaviour {
        check_stolen(address, vms.clone(), context).map_err(|why| setting.error(why))?;
    }
    Ok(vms
        .map(|vm| PlannedMisbehaviour {
            after,
            vm: VmId(vm),
            misbehaviour,
            lasts,
        })
        .collect())
}

/// Checks that others ask for `address`, and that it is no thief's own, as far as a plan knows who has which address.
fn check_stolen(
    address: IpAddr,
    mut thieves: RangeInclusive<u32>,
    context: &PlanContext<'_>,
) -> Result<(), String> {
    let defaults = context.vm_defaults;
    let (is_planned, network, router) = match (address, &defaults.ipv6) {
        (IpAddr::V4(_), _) => (
            !defaults.dhcp,
            IpNet::from(context.subnet),
            defaults.gateway.map(IpAddr::V4),
        ),
        (IpAddr::V6(_), Some(plan)) => (
            !plan.slaac && !plan.dhcp,
            IpNet::from(plan.subnet),
            plan.gateway.map(IpAddr::V6),
        ),
        (IpAddr::V6(_), None) => {
            let why = "no VM has IPv6, so that nobody asks for it; expected --ipv6 beside it";
            return Err(why.to_owned());
        }
    };
    if !is_planned {
        return Ok(());
    }
    let own = |vm: u32| match &defaults.ipv6 {
        Some(plan) if address.is_ipv6() => Some(plan.address(VmId(vm)).into()),
        _ => Some(IpAddr::V4(context.vms.get(vm as usize)?.address)),
    };
    if let Some(vm) = thieves.find(|vm| own(*vm) == Some(address)) {
        return Err(format!(
            "{address} is vm{vm}'s own address; expected another's"
        ));
    }
    let is_asked_for = match address {
        _ if router == Some(address) => true,
        IpAddr::V4(address) => is_host_of(context.subnet, address),
        IpAddr::V6(address) => {
            network.contains(&IpAddr::V6(address)) || address.is_unicast_link_local()
        }
    };
    match is_asked_for {
        true => Ok(()),
        false => Err(format!(
            "no VM asks for {address}; expected the address of a host of {network}"
        )),
    }
}

/// Checks that a phase has the time for it.
fn check_times(
    setting: &Setting,
    duration: Option<Duration>,
    after: Duration,
    lasts: Option<Duration>,
) -> Result<(), SettingError> {
    let end = after.saturating_add(lasts.unwrap_or_default());
    if let Some(duration) = duration
        && (after >= duration || end > duration)
    {
        let (end, duration) = (
            humantime::format_duration(end),
            humantime::format_duration(duration),
        );
        let why = format_args!(
            "it would last until {end}, and the phase ends after {duration}; expected an earlier time"
        );
        return Err(setting.error(why));
    }
    Ok(())
}

/// The misbehaviour that `text` names.
fn kind(setting: &Setting, text: &str) -> Result<Misbehaviour, SettingError> {
    let misbehaviour = named(setting, text)?;
    let checked = misbehaviour.check().map(|()| misbehaviour);
    checked.map_err(|expected| setting.error(format_args!("{text:?} can't be; {expected}")))
}

/// The same, whose numbers and address are not checked yet.
fn named(setting: &Setting, text: &str) -> Result<Misbehaviour, SettingError> {
    let (name, value) = match text.split_once(char::is_whitespace) {
        Some((name, value)) => (name, value.trim()),
        None => (text, ""),
    };
    let error = |why: &str| setting.error(why);
    let names = || Misbehaviour::DEFAULTS.iter().map(|each| each.name());
    let mut all = Misbehaviour::DEFAULTS.into_iter();
    let default = all.find(|each| each.name() == name).ok_or_else(|| {
        let meant = suggestion(name, "", names());
        let names = names().collect::<Vec<_>>().join(", ");
        error(&format!(
            "{name:?} is no misbehaviour; expected one of {names}{meant}"
        ))
    })?;
    let read = match (default, value) {
        (Misbehaviour::Slow(_), _) => span(value).map(Misbehaviour::Slow),
        (Misbehaviour::Flap { .. }, _) => flap(value),
        (Misbehaviour::Steal(_), _) => value.parse().ok().map(Misbehaviour::Steal),
        (_, "") => Some(default),
        (Misbehaviour::Flood(flood, _), _) => {
            rate(value).map(|rate| Misbehaviour::Flood(flood, rate))
        }
        (Misbehaviour::Loop(_), _) => rate(value).map(Misbehaviour::Loop),
        (Misbehaviour::Silent | Misbehaviour::WrongMac, _) => None,
    };
    read.ok_or_else(|| error(&format!("{text:?} can't be; {}", default.expected())))
}

fn flap(text: &str) -> Option<Misbehaviour> {
    let (period, down) = text.split_once('/')?;
    let (period, down) = (span(period.trim())?, span(down.trim())?);
    Some(Misbehaviour::Flap { period, down })
}

fn rate(text: &str) -> Option<u32> {
    let rate = whole_number(text.strip_suffix("/s")?.trim())?;
    u32::try_from(rate).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Experiment, Scenario, plan};
    use crate::vm::Flood;

    fn planned(text: &str) -> Result<Experiment, SettingError> {
        let groups = "[[group]]\nname = 'client'\nvms = 3\n[[group]]\nname = 'server'\nvms = 2\n";
        let text = format!("ping = 'vm0:vm1'\nduration = '10s'\n{text}\n{groups}");
        plan(&Scenario::parse("test.toml", &text).unwrap())
    }

    fn of(text: &str) -> Vec<PlannedMisbehaviour> {
        let plan = planned(&format!("misbehave = '{text}'"));
        let plan = plan.unwrap_or_else(|error| panic!("{text}: {error}"));
        plan.phases
            .into_iter()
            .flat_map(|phase| phase.misbehaviours)
            .collect()
    }

    #[test]
    fn a_value_says_which_vms_do_what_from_when_on_and_for_how_long() {
        let ms = Duration::from_millis;
        let thousand = |flood| Misbehaviour::Flood(flood, 1000);
        for (text, misbehaviour, after, lasts) in [
            ("vm4:silent", Misbehaviour::Silent, 0, None),
            ("vm4:silent@5s", Misbehaviour::Silent, 5000, None),
            (
                "vm4 : silent @ 5s + 2s",
                Misbehaviour::Silent,
                5000,
                Some(2000),
            ),
            ("vm4:silent+2s", Misbehaviour::Silent, 0, Some(2000)),
            (
                "vm4:wrong-mac@0.5+1.5",
                Misbehaviour::WrongMac,
                500,
                Some(1500),
            ),
            ("vm4:slow 50ms@1s", Misbehaviour::Slow(ms(50)), 1000, None),
            (
                "vm4:flap 1s/100ms+2s",
                Misbehaviour::Flap {
                    period: ms(1000),
                    down: ms(100),
                },
                0,
                Some(2000),
            ),
            (
                "vm4:steal 10.77.0.2@1s+1s",
                Misbehaviour::Steal("10.77.0.2".parse().unwrap()),
                1000,
                Some(1000),
            ),
            ("vm4:arp-flood 1000/s", thousand(Flood::Arp), 0, None),
            ("vm4:arp-flood", thousand(Flood::Arp), 0, None),
            ("vm4:broadcast 1e3/s", thousand(Flood::Broadcast), 0, None),
            ("vm4:nd-flood@1s", thousand(Flood::Neighbour), 1000, None),
            (
                "vm4:mac-flood",
                Misbehaviour::Flood(Flood::Mac, 10_000),
                0,
                None,
            ),
            (
                "vm4:dhcp-starve",
                Misbehaviour::Flood(Flood::Dhcp, 100),
                0,
                None,
            ),
            (
                "vm4:ra-rogue",
                Misbehaviour::Flood(Flood::Router, 1),
                0,
                None,
            ),
            ("vm4:loop", Misbehaviour::Loop(1000), 0, None),
            ("vm4:loop 5/s", Misbehaviour::Loop(5), 0, None),
        ] {
            let expected = PlannedMisbehaviour {
                after: ms(after),
                vm: VmId(4),
                misbehaviour,
                lasts: lasts.map(ms),
            };
            assert_eq!(of(text), [expected], "{text}");
        }
        let vms = |text| of(text).iter().map(|each| each.vm.0).collect::<Vec<_>>();
        assert_eq!(vms("server:silent"), [3, 4]);
        assert_eq!(vms("vm[1-2]:silent"), [1, 2]);
        assert_eq!(vms("none"), [0; 0]);
    }

    #[test]
    fn what_can_not_be_is_refused_in_one_line_that_says_what_is_expected() {
        for (text, expected) in [
            ("vm4", "expected VMs, a colon and a misbehaviour"),
            ("vm9:silent", "expected"),
            ("vm4:silnt", "did you mean silent?"),
            ("vm4:", "expected one of silent, slow, flap"),
            (
                "vm4:silent 5",
                "\"silent 5\" can't be; expected the word alone",
            ),
            ("vm4:silnt", "\"silnt\" is no misbehaviour; expected one of"),
            (
                "vm4:slow",
                "\"slow\" can't be; expected a time up to an hour, such as slow 50ms",
            ),
            (
                "vm4:steal 10.77.0.6",
                "10.77.0.6 is vm4's own address; expected another's",
            ),
            ("vm4:slow 0", "expected a time up to an hour"),
            ("vm4:flap 1s", "expected a period of 10ms or more"),
            ("vm4:flap 100ms/1s", "expected a period of 10ms or more"),
            ("vm4:flap 5ms/1ms", "expected a period of 10ms or more"),
            (
                "vm4:steal vm0",
                "expected the address of one host, such as steal 10.77.0.2",
            ),
            ("vm4:steal 224.0.0.1", "expected the address of one host"),
            (
                "vm4:arp-flood 0/s",
                "expected a rate of frames from 1/s to 100000/s",
            ),
            (
                "vm4:arp-flood 100001/s",
                "expected a rate of frames from 1/s to 100000/s",
            ),
            (
                "vm4:arp-flood 1000",
                "expected a rate of frames from 1/s to 100000/s",
            ),
            (
                "vm4:mac-flood 100000/s",
                "400000 copies a second; expected 62500 frames/s at most",
            ),
            (
                "vm4:silent@x",
                "\"x\" is no time; expected a time up to an hour",
            ),
            (
                "vm4:silent+2h",
                "\"2h\" is too long; expected a time up to an hour",
            ),
            ("vm4:silent+0s", "it lasts no time; expected more"),
            (
                "vm4:silent@10s",
                "and the phase ends after 10s; expected an earlier time",
            ),
            (
                "vm4:silent@9s+2s",
                "would last until 11s, and the phase ends after 10s",
            ),
        ] {
            let error = planned(&format!("misbehave = '{text}'"))
                .expect_err(text)
                .to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        for (text, expected) in [
            (
                "misbehave = ['vm4:silent@1s+2s', 'vm4:slow 1ms@2s']",
                "vm4 does silent then: expected one misbehaviour of a VM at a time",
            ),
            (
                "misbehave = 'vm4:silent'\nramp = '1:5:2'",
                "ramp = 1:5:2: cannot be used in a phase with misbehave, because each of its steps is a phase of its own; expected \
                 a rate or an interval instead",
            ),
            (
                "misbehave = 'vm4:silent'\nnetns = 'host'",
                "the namespace of the host is not the run's own; expected --netns private",
            ),
            (
                "misbehave = 'vm4:silent'\nnetns = 'host'\nattach = true",
                "the bridge is somebody else's; expected --netns private",
            ),
        ] {
            let error = planned(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        planned("misbehave = ['vm4:silent@1s+1s', 'vm4:slow 1ms@2s']").unwrap();
        planned("misbehave = 'vm4:silent'\nnetns = 'no-such-namespace'").unwrap();
        let nobody = "fabric = 'sim'\nmisbehave = 'vm1:silent'";
        let error = plan(&Scenario::parse("test.toml", nobody).unwrap()).unwrap_err();
        assert!(error.to_string().contains("nothing is pinged"), "{error}");
    }

    #[test]
    fn an_address_that_is_stolen_is_one_that_others_ask_for() {
        let own = "is vm4's own address; expected another's";
        let nobody = "expected the address of a host of";
        let one = "expected the address of one host";
        for (address, more, expected) in [
            ("10.77.0.2", "", None),
            // Of nobody, and the router's.
            ("10.77.200.200", "", None),
            ("10.99.0.1", "gateway = '10.99.0.1'", None),
            ("192.0.2.1", "dhcp = true", None),
            ("10.77.0.6", "", Some(own)),
            ("10.78.0.1", "", Some(nobody)),
            ("10.77.255.255", "", Some(nobody)),
            ("10.77.0.0", "", Some(nobody)),
            ("0.0.0.0", "dhcp = true", Some(one)),
            ("255.255.255.255", "", Some(one)),
            ("224.0.0.1", "", Some(one)),
            ("127.0.0.1", "", Some(one)),
            ("fd77::2", "", Some("no VM has IPv6")),
            ("fd77::2", "ipv6 = true", None),
            ("fe80::1", "ipv6 = true", None),
            ("2001:db8::1", "slaac = true", None),
            ("fd77::6", "ipv6 = true", Some(own)),
            ("2001:db8::1", "ipv6 = true", Some(nobody)),
            ("ff02::1", "ipv6 = true", Some(one)),
        ] {
            let text = format!("misbehave = 'vm4:steal {address}'\n{more}");
            match (planned(&text), expected) {
                (Ok(_), None) => {}
                (Err(error), Some(expected)) => {
                    assert!(error.to_string().contains(expected), "{text}: {error}");
                }
                (found, _) => panic!("{text}: {:?}", found.map(|_| "planned")),
            }
        }
    }

    #[test]
    fn no_more_misbehaviours_are_planned_in_all_phases_than_a_run_tells_of() {
        let text = |last| {
            let phase =
                |vms| format!("[[phase]]\nmisbehave = ['vm[0-63]:silent+1s', '{vms}:silent@2s']\n");
            let phases = ["vm[0-63]", last].map(phase).concat();
            format!("vms = 64\nping = 'vm0:vm1'\nduration = '10s'\n{phases}")
        };
        let planned = |last| plan(&Scenario::parse("test.toml", &text(last)).unwrap());
        planned("vm[0-63]").unwrap();
        let error = planned("vm0:silent@1s+1s', 'vm[0-63]").unwrap_err();
        let error = error.to_string();
        let expected = "test.toml, line 5: misbehave = vm[0-63]:silent+1s: 257 misbehaviours in all phases; expected 256 at most";
        assert_eq!(error, expected);
    }

    #[test]
    fn where_nobody_misbehaves_any_namespace_will_do() {
        for text in ["misbehave = 'none'", "misbehave = []"] {
            planned(&format!("{text}\nnetns = 'host'")).unwrap();
        }
        let error = planned("misbehave = ['vm1:silent', 'none']\nnetns = 'host'").unwrap_err();
        assert!(
            error.to_string().contains("misbehave = vm1:silent:"),
            "{error}"
        );
    }

    #[test]
    fn no_more_vms_misbehave_at_a_time_than_there_is_room_for() {
        let text = |last| format!("vms = 100\nping = 'vm0:vm1'\nmisbehave = 'vm[2-{last}]:silent'");
        let planned = |last| plan(&Scenario::parse("test.toml", &text(last)).unwrap());
        planned(65).unwrap();
        let error = planned(66).unwrap_err().to_string();
        assert!(
            error.contains("expected 64 VMs that misbehave at a time at most"),
            "{error}"
        );
    }
}
