//! Makes a plan from settings, or says what is wrong with them. Nothing is touched.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::effective::effective;
use super::scenario::Scenario;
use super::settings::{Origin, Setting, SettingError, Settings};
use super::{Experiment, FlowPlan, IpVersion, Processes, StreamPlan};
use crate::hypervisor::AttributeLoss;
use crate::load::Target;
use crate::system::{
    ExistingBridge, ExistingLink, FabricKind, LabConfig, NetnsChoice, Prepared, SystemError,
    Underlay, available_bytes, validate_interface_name,
};
use crate::topology::Callers;
use crate::vm::{Probe, ProbeKind, SessionCounts, StampMode, VmId};

mod addresses;
mod fabric;
mod flows;
mod host;
mod impairments;
mod instruments;
mod interfaces;
mod ipv6;
mod join;
mod listen;
mod marks;
mod memberships;
mod misbehaviours;
mod moves;
mod neighbours;
mod outside;
mod path_split;
mod phases;
mod places;
mod probe;
mod size;
mod steer;
mod streams;
mod transitions;
mod vlan;
mod vm_defaults;
mod vms;

use self::addresses::is_of_hosts;
use self::fabric::{Fabric, fabric, frames, ports_per_bridge};
use self::flows::PlanContext;
pub(super) use self::join::named as joined_bridge;
pub use self::listen::Listen;
pub use self::phases::MOST_PINGS;
pub use self::size::{BYTES_PER_FLOW, BYTES_PER_PHASE, BYTES_PER_VM};
pub(super) use self::vms::VMS_OF_A_GROUP;
use self::vms::{Group, check_number, groups, vms};

/// Smallest and largest MTU of a TAP (`ETH_MIN_MTU`, and `MAX_MTU` less the Ethernet header, `drivers/net/tun.c`).
const MTU: std::ops::RangeInclusive<u16> = 68..=65_521;

/// The VMs' network where none is chosen.
pub(super) const SUBNET: &str = "10.77.0.0/16";
/// Most VMs in it.
pub(super) const MOST_IN_SUBNET: u32 = 65_533;
/// The network of more VMs.
pub(super) const LARGE_SUBNET: &str = "10.0.0.0/8";

/// The most flows that a draft lists: each takes 40 bytes, and some more where it is looked at.
const TOLD_FLOWS: usize = 500_000;

/// Makes a plan of what `scenario` asks for.
///
/// # Errors
/// With the setting that can't be, where it was written, and what is expected. When the plan has no room in the memory that
/// is free.
pub fn plan(scenario: &Scenario) -> Result<Experiment, SettingError> {
    plan_for(scenario, Processes::One)
}

/// As [`plan`], of which this machine has `processes`.
///
/// # Errors
/// As [`plan`].
pub fn plan_for(scenario: &Scenario, processes: Processes) -> Result<Experiment, SettingError> {
    plan_flows(
        scenario,
        usize::MAX,
        &Surroundings::of_this_machine(processes),
    )
}

/// Makes a draft to describe, not to run: of more than half a million flows it lists the first only.
///
/// # Errors
/// As [`plan_for`].
pub fn draft(scenario: &Scenario, processes: Processes) -> Result<Experiment, SettingError> {
    plan_flows(
        scenario,
        TOLD_FLOWS,
        &Surroundings::of_this_machine(processes),
    )
}

/// The facts of a machine that a plan depends on.
struct Surroundings {
    /// Bytes of memory, if they are known.
    free_memory: Option<u64>,
    /// The processes that have to have room in it.
    processes: Processes,
    /// Looks up a bridge that exists.
    find_bridge: fn(&NetnsChoice, &str) -> Result<ExistingBridge, SystemError>,
    /// Looks up an interface that exists.
    find_link: fn(&str) -> Result<ExistingLink, SystemError>,
    /// Looks up one in a namespace, to put VMs behind it.
    find_port: fn(&NetnsChoice, &str) -> Result<ExistingLink, SystemError>,
    /// The largest datagram that goes by a VXLAN.
    underlay_mtu: fn(&Underlay) -> Result<u32, SystemError>,
}

impl Surroundings {
    fn of_this_machine(processes: Processes) -> Surroundings {
        Surroundings {
            free_memory: available_bytes(),
            processes,
            find_bridge: ExistingBridge::find,
            find_link: ExistingLink::find,
            find_port: ExistingLink::find_in,
            underlay_mtu: Underlay::mtu,
        }
    }
}

/// Lists `most_flows` at most, and makes sure that a run has room in memory.
fn plan_flows(
    scenario: &Scenario,
    most_flows: usize,
    surroundings: &Surroundings,
) -> Result<Experiment, SettingError> {
    let settings = &scenario.settings;
    for each in [settings]
        .into_iter()
        .chain(&scenario.groups)
        .chain(&scenario.phases)
    {
        each.check_texts()?;
    }
    let (switching, is_simulated) = match fabric(scenario)? {
        Fabric::Taps(switching) => (switching, false),
        Fabric::Simulated => (FabricKind::None, true),
    };
    let kind = (switching, is_simulated);
    let joined = join::bridge(settings, kind, surroundings.find_bridge)?;
    let groups = groups(scenario)?;
    let count = check_number(&groups)?;
    let subnet = subnet(settings, count)?;
    let mut vms = vms(settings, &groups, subnet)?;
    let outside = outside::outside(settings, surroundings.underlay_mtu)?;
    let mut lab = lab(settings, count, switching, (joined.as_ref(), outside))?;
    lab.interfaces = interfaces::interfaces(settings, switching, &groups, count)?;
    vlan::place(settings, &groups, &mut vms)?;
    lab.vlan_filtering = match &joined {
        Some(bridge) => vlan::on_bridge(bridge, &vms),
        None => vlan::filtering(settings, &vms)?,
    };
    if let Some(bridge) = &joined {
        join::check(settings, bridge, &lab, &vms)?;
    }
    for each in [settings].into_iter().chain(&scenario.phases) {
        if !is_simulated {
            misbehaviours::check_lab(each, &lab)?;
        }
    }
    let memberships = memberships::memberships(scenario, &groups, count)?;
    let ipv6 = ipv6::ipv6(scenario, lab.mtu, lab.vms)?;
    host::addresses(settings, &mut lab, &vms, subnet, ipv6)?;
    outside::check(settings, &lab, surroundings.find_link)?;
    interfaces::check(settings, &lab, surroundings.find_port)?;
    let instruments = instruments::instruments(settings, &groups, count)?;
    let listen = listen::listen(settings)?;
    let seed = settings
        .or_default("seed")
        .number("a whole number from 0 on")?;
    let timeout = settings.or_default("timeout").duration()?;
    let mut vm_defaults = vm_defaults::vm_defaults(settings, &vms, subnet, ipv6, lab.prepared)?;
    let may_fragment = settings.switch("allow-fragmentation")?;
    if let Some(setting) = settings.get("dont-fragment").filter(|_| may_fragment) {
        return Err(setting.error("cannot be used with --allow-fragmentation"));
    }
    let pins = vms::pins(&groups)?;
    let context = PlanContext {
        may_fragment,
        subnet,
        vm_defaults: &vm_defaults.clone(),
        lab: &lab,
        groups: &groups,
        memberships: &memberships,
        vms: &vms,
        seed,
        are_simulated: is_simulated,
        timeout,
        most_flows,
        free_memory: surroundings.free_memory,
        processes: surroundings.processes,
        own_vms: surroundings.processes.vms_of(count, &pins),
    };
    context.check_size(0, 0)?;
    let (flows, streams, mut phases, serve) = phases::phases(scenario, &context)?;
    streams::check_sources(&streams, &phases)?;
    // Who sends there expects an answer, unless it is said that there is none.
    let is_sent = |kind| flows.iter().any(|flow| flow.probe == Probe::of(kind));
    if settings.get("udp-echo").is_none() {
        vm_defaults.udp_echo = is_sent(ProbeKind::Udp);
    }
    if settings.get("stamp-reflector").is_none() && is_sent(ProbeKind::Stamp) {
        vm_defaults.stamp_reflector = Some(StampMode::Stateless);
    }
    let mut connecting = flows
        .iter()
        .filter(|flow| flow.probe.kind == ProbeKind::Tcp);
    let usual = Probe::of(ProbeKind::Tcp).port;
    if settings.get("tcp-listen").is_none() && connecting.any(|flow| flow.probe.port == usual) {
        vm_defaults.tcp_listen = Some(usual);
    }
    misbehaviours::check_all(scenario, &phases)?;
    let splits_path = path_split::add(settings, lab.mtu, &flows, &mut phases)?;
    let impairments = impairments::impairments(settings, &context)?;
    check_flow_numbers(&flows)?;
    // Streams look for their neighbours as flows do.
    let of_streams = streams.iter().filter_map(StreamPlan::as_flow);
    let seekers: Vec<FlowPlan> = flows.iter().copied().chain(of_streams).collect();
    let decision = neighbours::decide(
        settings,
        &neighbours::Lab {
            config: &lab,
            is_simulated,
            vms: &vms,
            vm_defaults: &vm_defaults,
            flows: &seekers,
            phases: &phases,
            memberships: &memberships,
        },
    )?;
    lab.neighbours = decision.neighbours;
    lab.filter = decision.filter;
    lab.callers = callers(&lab, &seekers);
    let mut experiment = Experiment {
        lab,
        is_simulated,
        impairments,
        vms,
        address_wait: vm_defaults::address_wait(settings, &vm_defaults)?,
        vm_defaults,
        memberships,
        flows,
        streams,
        phases,
        timeout,
        serve,
        stays: stays(settings, serve, is_simulated && listen.is_empty())?,
        resolution: decision.resolution,
        seed,
        spin: spin(settings)?,
        instruments,
        mark_on: marks::mark_on(settings)?,
        attribute_loss: attribute_loss(settings)?,
        splits_path,
        is_one_way: settings.switch("one-way")?,
        listen,
        pins,
        part: None,
        effective: Scenario::default(),
    };
    experiment.effective = effective(scenario, &experiment);
    Ok(experiment)
}

/// Tells if the lab stays when the load is over. Without a load it does so anyway.
fn stays(
    settings: &Settings,
    serve: Option<Duration>,
    ends_with_events: bool,
) -> Result<bool, SettingError> {
    let Some(setting) = settings.get("stay") else {
        return Ok(false);
    };
    let stays = setting.switch()?;
    if stays && serve.is_some() {
        let why = "cannot be used with a duration and nothing to ping; expected one of the two";
        return Err(setting.error(why));
    }
    if stays && ends_with_events {
        let why = "the time of --fabric sim ends with its events; expected --control or --metrics beside it, or another fabric";
        return Err(setting.error(why));
    }
    Ok(stays)
}

/// Reads `attribute-loss`.
fn attribute_loss(settings: &Settings) -> Result<AttributeLoss, SettingError> {
    let setting = settings.or_default("attribute-loss");
    setting.choice()?.parse().map_err(|why| setting.error(why))
}

/// The time to busy-poll before sleeping; [`Duration::MAX`] for always.
fn spin(settings: &Settings) -> Result<Duration, SettingError> {
    let setting = settings.or_default("spin");
    match setting.text.as_str() {
        "always" => Ok(Duration::MAX),
        _ if setting.is_off() => Ok(Duration::ZERO),
        _ => setting
            .duration_or_none()
            .map_err(|error| SettingError::new(format_args!("{error}, or always or off"))),
    }
}

/// The leaves from which VMs receive traffic, if tables are filled in beforehand.
fn callers(lab: &LabConfig, flows: &[FlowPlan]) -> Callers {
    let Some(Ok(topology)) = lab.topology() else {
        return Callers::default();
    };
    if !lab.neighbours.are_filled_in() {
        return Callers::default();
    }
    let to_vm = |flow: &FlowPlan| match flow.target {
        Target::Vm(target) => Some((flow.source, target)),
        Target::Address(_) => None,
    };
    Callers::new(&topology, flows.iter().filter_map(to_vm))
}

fn lab(
    settings: &Settings,
    vms: u32,
    fabric: FabricKind,
    (joined, outside): (Option<&ExistingBridge>, Option<outside::Found>),
) -> Result<LabConfig, SettingError> {
    let default = LabConfig::default();
    let interface_name = |name| {
        let setting = settings.or_default(name);
        validate_interface_name(&setting.text).map_err(|why| setting.error(why))?;
        Ok(setting.text.clone())
    };
    let mtu = match (joined, settings.get("mtu")) {
        (Some(bridge), None) => bridge.mtu().try_into().unwrap_or(u16::MAX).min(*MTU.end()),
        _ => outside::mtu(settings, outside.as_ref())?,
    };
    Ok(LabConfig {
        vms,
        netns: netns(settings, fabric)?,
        bridge: match joined {
            Some(bridge) => bridge.name().to_owned(),
            None => interface_name("bridge")?,
        },
        tap_prefix: interface_name("tap-prefix")?,
        mtu,
        host_address: None,
        host_address6: None,
        vlan_filtering: None,
        prepared: match (joined, settings.switch("attach")?) {
            (Some(_), _) => Prepared::Bridge,
            (None, true) => Prepared::BridgeAndTaps,
            (None, false) => Prepared::Nothing,
        },
        outside: outside.map(|found| found.outside),
        interfaces: Vec::new(),
        tx_queue_length: queue_length(settings)?,
        fabric,
        ports_per_bridge: match fabric {
            FabricKind::Bridge if joined.is_none() => ports_per_bridge(settings, vms)?,
            _ => default.ports_per_bridge,
        },
        hook: settings.get("hook").map(hook).transpose()?,
        neighbours: default.neighbours,
        callers: default.callers,
        filter: default.filter,
        own_vms: None,
        sharing: None,
        switch: None,
    })
}

fn queue_length(settings: &Settings) -> Result<Option<u32>, SettingError> {
    let length = frames(settings, "txqueuelen")?;
    match settings.get("txqueuelen") {
        Some(setting) if settings.switch("attach")? => {
            Err(setting.error("cannot be used with --attach, which leaves the TAPs as they are"))
        }
        _ => Ok(length),
    }
}

fn hook(setting: &Setting) -> Result<String, SettingError> {
    match setting.text.trim() {
        "" => Err(setting.error("expected a command")),
        _ => Ok(setting.text.clone()),
    }
}

/// The namespace that the lab lives in; of VMs behind interfaces, that of those.
fn netns(settings: &Settings, fabric: FabricKind) -> Result<NetnsChoice, SettingError> {
    if fabric == FabricKind::Interface {
        match settings.get("netns") {
            None => return Ok(NetnsChoice::Host),
            Some(setting) if setting.text == "private" => {
                let why = "has no interfaces for --fabric interface; expected host, or the name of a namespace";
                return Err(setting.error(why));
            }
            Some(_) => {}
        }
    }
    let read = |setting: &Setting| {
        setting.text.parse().map_err(|why| {
            setting.error(format_args!(
                "{why}; expected private, host, or the name of a namespace"
            ))
        })
    };
    read(&settings.or_default("netns"))
}

/// The VMs' network; by default as large as need be.
fn subnet(settings: &Settings, vms: u32) -> Result<Ipv4Net, SettingError> {
    let default = Setting {
        name: "subnet",
        text: match vms {
            ..=MOST_IN_SUBNET => SUBNET.to_owned(),
            _ => LARGE_SUBNET.to_owned(),
        },
        origin: Origin::Default,
    };
    let setting = settings.get("subnet").unwrap_or(&default);
    let subnet: Ipv4Net = setting.value("a network, such as 10.77.0.0/16")?;
    if subnet.addr() != subnet.network() {
        let why = format_args!(
            "bits are set behind the prefix; expected {}",
            subnet.trunc()
        );
        return Err(setting.error(why));
    }
    if !is_of_hosts(subnet) {
        return Err(setting.error("expected a network of hosts, such as 10.77.0.0/16"));
    }
    Ok(subnet)
}

/// Checks that no VM has more flows than can be told apart.
fn check_flow_numbers(flows: &[FlowPlan]) -> Result<(), SettingError> {
    let mut counts: HashMap<VmId, SessionCounts<(Target, IpVersion)>> = HashMap::new();
    for flow in flows {
        let counts = counts.entry(flow.source).or_default();
        let added = counts.add(flow.probe, (flow.target, flow.version));
        added.map_err(|why| SettingError::new(format_args!("ping: {} has {why}", flow.source)))?;
    }
    Ok(())
}

/// The address that the host's side of the bridge has by convention: the first of the network.
fn first_host(subnet: Ipv4Net) -> Ipv4Net {
    let first = Ipv4Addr::from(u32::from(subnet.network()).saturating_add(1));
    Ipv4Net::new(first, subnet.prefix_len()).unwrap_or(subnet)
}

#[cfg(test)]
mod tests;
