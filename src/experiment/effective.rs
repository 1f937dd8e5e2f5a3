//! The effective scenario: the settings that were given, with the defaults of all others. A report keeps it to document the
//! run; planned again, it is the same experiment.

use std::time::Duration;

use humantime::format_duration;
use ipnet::Ipv4Net;

use super::options::{self, Default, Kind, OptionSpec, Scope, option};
use super::plan::joined_bridge;
use super::scenario::Scenario;
use super::settings::{PACING, Setting, Settings, span};
use super::{AddressPlan, Experiment};
use crate::number::{number, whole_number};
use crate::system::{FabricKind, NetnsChoice};
use crate::vm::StampMode;

/// The scenario that `experiment` was made from, all that was left open filled in. What is done with the figures is not part
/// of it.
pub(super) fn effective(scenario: &Scenario, experiment: &Experiment) -> Scenario {
    let mut whole = scenario.clone();
    let is_output = |name: &str| option(name).is_some_and(|it| it.scope == Scope::Output);
    whole.settings.retain(|name| !is_output(name));
    let has_sizes = whole.groups.iter().any(|group| group.get("size").is_some());
    if whole.phases.is_empty() && !experiment.phases.is_empty() {
        fill_load(&mut whole.settings, has_sizes);
    }
    // Settings for all phases are repeated in each.
    let for_all = whole.settings.load_only();
    if !whole.phases.is_empty() {
        whole.settings.retain(|name| for_all.get(name).is_none());
    }
    for phase in &mut whole.phases {
        *phase = for_all.overlaid(phase);
        fill_load(phase, has_sizes);
    }
    if whole.groups.is_empty() {
        whole.settings.set("vms", [experiment.vms.len()]);
    }
    decided(&mut whole.settings, experiment);
    fill_run(&mut whole.settings);
    whole
}

/// Gives every setting of the whole run its default where nobody said another value and the fabric has that setting.
fn fill_run(settings: &mut Settings) {
    let fabric = settings.or_default("fabric").text.clone();
    for option in options::settings().filter(|option| option.scope == Scope::Run) {
        let is_of_fabric = option.fabrics.is_empty() || option.fabrics.contains(&fabric.as_str());
        let is_free = match option.name {
            // A bridge that is joined has a name and ports already.
            "bridge" | "ports-per-bridge" => matches!(joined_bridge(settings), Ok(None)),
            // Groups have their own; an IPv6 network and a wait have no meaning without something else.
            "vms" | "subnet6" | "address-wait" => false,
            _ => true,
        };
        let default = match option.kind {
            Kind::Switch => Some("false".to_owned()),
            _ => option.default.value(),
        };
        fill(
            settings,
            option,
            default.filter(|_| is_of_fabric && is_free),
        );
    }
}

/// Writes a setting in its canonical form, or its default where it has no value.
fn fill(settings: &mut Settings, option: &OptionSpec, default: Option<String>) {
    // The word that says that such an option is not to be says what its default does, unless that depends.
    let depends = option.is_on_or_off() || matches!(option.default, Default::Words(_));
    if !depends && settings.get(option.name).is_some_and(Setting::is_off) {
        settings.retain(|name| name != option.name);
    }
    let text = match settings.get(option.name) {
        Some(setting) => canonical(option.kind, setting),
        None => default,
    };
    if let Some(text) = text {
        settings.set(option.name, [text]);
    }
}

fn fill_load(settings: &mut Settings, has_sizes: bool) {
    for option in options::settings().filter(|option| option.scope == Scope::Load) {
        let name = option.name;
        let is_free = match name {
            // There is one of them.
            "interval" => PACING.iter().all(|name| settings.get(name).is_none()),
            // A window has no arrivals of its own.
            "arrivals" => settings.get("window").is_none(),
            // A group may have a size for what its VMs send.
            // Nor has a phase of streams alone, whose frames are as short as they can be.
            "size" => !has_sizes && settings.get("ping").is_some(),
            "repeat" => settings.get("move").is_some(),
            _ => true,
        };
        fill(settings, option, option.default.value().filter(|_| is_free));
    }
}

/// One way to write a value: `2000` for `2e3`, `10ms` for `10000us`, `true` for `on`. `None` where the text stays.
fn canonical(kind: Kind, setting: &Setting) -> Option<String> {
    let text = &setting.text;
    match kind {
        Kind::Whole | Kind::Sizes => whole_number(text).map(|number| number.to_string()),
        Kind::Number => number(text).map(|number| number.to_string()),
        Kind::Time | Kind::TimeOr(_) => span(text).map(time),
        Kind::Switch => setting.switch().ok().map(|is_on| is_on.to_string()),
        _ => None,
    }
}

fn time(duration: Duration) -> String {
    match duration {
        // No time at all is written without a unit.
        Duration::ZERO => "0".to_owned(),
        duration => format_duration(duration).to_string(),
    }
}

/// Sets what the plan decided: values that the table of options does not have as defaults.
fn decided(settings: &mut Settings, experiment: &Experiment) {
    let (vm_defaults, lab) = (&experiment.vm_defaults, &experiment.lab);
    if let Some(vm) = experiment.vms.first()
        && let Ok(subnet) = Ipv4Net::new(vm.address, vm_defaults.prefix_length)
    {
        settings.set("subnet", [subnet.trunc()]);
        if settings.get("first").is_none() {
            settings.set("first", [AddressPlan::first_of(subnet)]);
        }
    }
    settings.set("dad", [vm_defaults.dad]);
    settings.set("udp-echo", [vm_defaults.udp_echo]);
    let stamp_reflector = vm_defaults.stamp_reflector.map_or("off", StampMode::name);
    settings.set("stamp-reflector", [stamp_reflector]);
    let tcp_listen = vm_defaults.tcp_listen.map(|port| port.to_string());
    settings.set("tcp-listen", [tcp_listen.as_deref().unwrap_or("off")]);
    settings.set("ipv6", [vm_defaults.ipv6.is_some()]);
    if let Some(plan) = vm_defaults.ipv6 {
        settings.set("subnet6", [plan.subnet]);
    }
    if vm_defaults.asks_for_addresses() {
        settings.set("address-wait", [time(experiment.address_wait)]);
    }
    settings.set("filter", [if lab.filter { "on" } else { "off" }]);
    settings.set("resolve", [lab.neighbours]);
    settings.set("mtu", [lab.mtu]);
    if lab.fabric == FabricKind::Interface && lab.netns == NetnsChoice::Host {
        settings.set("netns", ["host"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Resolution, plan};

    const FILE: &str = r#"
        name = "incast"
        timeout = "500ms"
        interval = "2ms"
        [[group]]
        name = "server"
        [[group]]
        name = "client"
        vms = 50
        size = 1000
        [[phase]]
        name = "calm"
        ping = ["client:server"]
        rate = 2e3
        warmup = "500ms"
        start = "10 per second"
        duration = "5000ms"
        [[phase]]
        ping = ["client:server"]
        window = 4
        duration = 5
    "#;

    fn planned(file: &str, flags: &str) -> (Scenario, Experiment) {
        let mut settings = Settings::default();
        for flag in flags.split_whitespace() {
            let (name, text) = flag.split_once('=').unwrap_or((flag, "true"));
            settings.add_flag(option(name).unwrap().name, text);
        }
        let scenario = Scenario::parse("lab.toml", file)
            .unwrap()
            .overlaid(&settings);
        let experiment = plan(&scenario).unwrap();
        (scenario, experiment)
    }

    /// All of a plan but where it came from.
    fn shown(experiment: &Experiment) -> String {
        let plain = Experiment {
            effective: Scenario::default(),
            // Help that is asked for is no longer help that was chosen.
            resolution: Resolution {
                spared: None,
                ..experiment.resolution
            },
            ..experiment.clone()
        };
        format!("{plain:?}")
    }

    /// The settings of a scenario, wherever they were written.
    fn texts(scenario: &Scenario) -> Vec<(&'static str, Vec<String>)> {
        let Scenario {
            settings,
            groups,
            phases,
        } = scenario;
        let all = [settings].into_iter().chain(groups).chain(phases);
        let each = all.flat_map(Settings::iter);
        each.map(|(name, values)| {
            (
                name,
                values.iter().map(|value| value.text.clone()).collect(),
            )
        })
        .collect()
    }

    #[test]
    fn the_effective_scenario_planned_again_is_the_same_experiment() {
        for (file, flags) in [
            ("", ""),
            ("", "ping=ring"),
            (
                "",
                "vms=3 ping=vm0:vm1 ping=vm1:vm2 window=3 count=7 mtu=9000 seed=5",
            ),
            (
                "",
                "vms=300 ping=mesh rate=2000 duration=3s arrivals=poisson",
            ),
            ("", "vms=300 filter=off stagger=0 ping=ring"),
            ("", "ping=ring ramp=10:50:5 duration=5s size=1000 ping-ipv6"),
            (
                "",
                "ping=ring fabric=sim impair=vm0:loss=0.5% impair=in:delay=9us±3us txqueuelen=7",
            ),
            (
                "",
                "ping=ring resolve=static spin=50us ttl=3 dscp=5 dont-fragment",
            ),
            (
                "",
                "vms=4 vlan=100 vlan-filtering ping=ring spin=always netns=lab",
            ),
            (
                "",
                "dhcp address-wait=3s host-address=10.77.0.1/16 announce",
            ),
            ("", "dhcp6 slaac dhcp ping=vm0:fd77::3 address-wait=3s"),
            ("", "fabric=none hook=true tap-prefix=t txqueuelen=50"),
            (
                "",
                "fabric=xdp ping=ring subnet=10.1.0.0/16 gateway=10.1.0.9",
            ),
            ("", "vms=100 resolve=proxy ping=ring"),
            (
                "",
                "slaac subnet6=fd88::/64 ping=vm0:fd88::1 allow-fragmentation size=5000",
            ),
            ("", "vms=70000 ping=ring"),
            (
                "",
                "ping=ring seed=18446744073709551615 count=9007199254740993",
            ),
            (
                "",
                "first=10.77.3.1 first=fd77::100 ping=ring gateway=10.77.0.1",
            ),
            (FILE, ""),
            (FILE, "fabric=sim rate=7 timeout=2s"),
        ] {
            let (_, experiment) = planned(file, flags);
            let mut again = experiment.effective.clone();
            // A switch that is off need not be named; some may not be named beside another.
            let settings = again.settings.clone();
            let is_off = |name: &str| settings.get(name).is_some_and(|s| s.text == "false");
            again.settings.retain(|name| !is_off(name));
            let again = plan(&again).unwrap_or_else(|error| panic!("{flags}: {error}"));
            assert_eq!(shown(&again), shown(&experiment), "{flags}");
            assert_eq!(texts(&again.effective), texts(&experiment.effective));
        }
    }

    #[test]
    fn every_setting_is_told_unless_it_was_left_open() {
        /// Options without a default, or with one only beside another option.
        const OPEN: [&str; 14] = [
            "interface",
            "uplink",
            "underlay",
            "mark-on",
            "path-split",
            "join",
            "host-address",
            "gateway",
            "address-wait",
            "subnet6",
            "vlan",
            "txqueuelen",
            "hook",
            "mac",
        ];
        let (_, experiment) = planned("", "ping=ring");
        let missing: Vec<_> = options::settings()
            .filter(|option| option.scope == Scope::Run)
            .map(|option| option.name)
            .filter(|name| experiment.effective.settings.get(name).is_none())
            .filter(|name| !OPEN.contains(name))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn each_phase_tells_the_whole_of_its_load_and_what_is_done_with_the_figures_is_left_out() {
        let (_, experiment) = planned(FILE, "output=r.json expect=loss=0");
        let Scenario {
            settings,
            groups,
            phases,
        } = &experiment.effective;
        assert!(settings.get("output").is_none() && settings.get("expect").is_none());
        assert_eq!(groups.len(), 2);
        let text = |phase: usize, name| phases[phase].get(name).map(|s| s.text.as_str());
        for (phase, name, value) in [
            (0, "rate", Some("2000")),
            (0, "interval", None),
            (0, "duration", Some("5s")),
            (0, "arrivals", Some("uniform")),
            (0, "start", Some("10 per second")),
            (1, "window", Some("4")),
            // A number without a unit is seconds.
            (1, "duration", Some("5s")),
            (1, "arrivals", None),
            // The clients have one of their own.
            (1, "size", None),
        ] {
            assert_eq!(text(phase, name), value, "{name} of phase {phase}");
        }
    }
}
