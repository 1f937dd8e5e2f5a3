//! A plan as text, for `--dry-run`.

mod streams;

use std::fmt::{self, Display, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use super::settings::Settings;
use super::{Expected, Experiment, FlowPlan, IpVersion, Scenario, SettingError};
use crate::hypervisor::{Change, Phase, PlannedMisbehaviour, PlannedMove};
use crate::load::{Arrivals, Pacing, PhaseLoad, Start, Target};
use crate::ranks::Rank;
use crate::system::{FabricKind, Neighbours, NetnsChoice, Outside, Prepared, Sharing};
use crate::topology::outside_name;
use crate::vm::{Probe, StampMode, VmId};

/// The most VMs or flows that are listed one by one; the rest is counted.
const LINES: usize = 20;

/// Describes what would be built and sent: links, addresses, flows, pings, streams, and the expected rate.
pub fn describe(experiment: &Experiment) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = lab(&mut text, experiment);
    let _ = phases(&mut text, experiment);
    let _ = rank_line(&mut text, experiment);
    text
}

/// Describes the same, and which part of it each of `ranks` ranks in one lab runs.
///
/// # Errors
/// If ranks can't divide it.
pub fn describe_ranks(experiment: &Experiment, ranks: u32) -> Result<String, SettingError> {
    let mut text = describe(experiment);
    if !experiment.lists_all_flows() {
        return Ok(text);
    }
    for rank in (0..ranks).filter_map(|number| Rank::new(number, ranks)) {
        let part = experiment
            .clone()
            .of_rank(rank, Some(Sharing::First), None)?;
        let _ = rank_line(&mut text, &part);
    }
    Ok(text)
}

/// Describes the part of one rank.
fn rank_line(out: &mut String, experiment: &Experiment) -> fmt::Result {
    let Some(part) = &experiment.part else {
        return Ok(());
    };
    let vms = experiment
        .lab
        .own_vms
        .iter()
        .flatten()
        .map(|range| match range.len() {
            1 => format!("vm{}", range.start),
            _ => format!("vm{} to vm{}", range.start, range.end.saturating_sub(1)),
        });
    let vms: Vec<String> = vms.collect();
    let vms = match vms.as_slice() {
        [] => "no VM".to_owned(),
        vms => vms.join(", "),
    };
    write!(out, "rank {}: {vms}", part.rank)?;
    if part.all_flows > 0 || experiment.streams.is_empty() {
        let flows = flows_of(experiment.flows.len() as u64);
        write!(out, "; {flows} of {}", part.all_flows)?;
    }
    if !experiment.streams.is_empty() {
        let streams = experiment.streams.iter();
        let own = streams.filter(|stream| experiment.is_own(stream.source));
        let own = counted(own.count() as u64, "stream", "streams");
        write!(out, "; {own} of {}", experiment.streams.len())?;
    }
    writeln!(out)
}

fn lab(out: &mut String, experiment: &Experiment) -> fmt::Result {
    let lab = &experiment.lab;
    let place = match &lab.netns {
        NetnsChoice::Private => {
            "a private network namespace, which ends with the process".to_owned()
        }
        NetnsChoice::Host => "the namespace that the program is started in".to_owned(),
        NetnsChoice::Named(name) => format!("the network namespace {name}"),
    };
    let topology = lab.topology().and_then(Result::ok);
    match (experiment.is_simulated, lab.fabric) {
        (true, _) => writeln!(
            out,
            "lab: simulated, a switch in memory with {} ports, MTU {}; nothing is created",
            lab.vms, lab.mtu
        )?,
        (false, FabricKind::None) => writeln!(
            out,
            "lab: in {place}; creates {} TAPs for another switch, MTU {}",
            lab.vms, lab.mtu
        )?,
        (false, FabricKind::Interface) => {
            let place = match &lab.netns {
                NetnsChoice::Named(name) => format!("in the network namespace {name}"),
                _ => "where the program is started".to_owned(),
            };
            writeln!(
                out,
                "lab: {} VMs behind interfaces {place}, MTU {}; creates nothing",
                lab.vms, lab.mtu
            )?;
            for port in &lab.interfaces {
                let last = port.vms.end.saturating_sub(1);
                let how = match port.bridges {
                    true => "reach each other within the program",
                    false => "reach each other if the switch sends their frames back",
                };
                writeln!(
                    out,
                    "     vm{} to vm{last} behind {}, which stays as it is; they {how}",
                    port.vms.start, port.name
                )?;
            }
        }
        (false, FabricKind::Xdp) => writeln!(
            out,
            "lab: in {place}; makes {} TAPs with an XDP switch on each, MTU {}",
            lab.vms, lab.mtu
        )?,
        (false, FabricKind::Bridge) => writeln!(
            out,
            "lab: in {place}; {} {} TAPs, MTU {}",
            match lab.prepared {
                Prepared::Nothing => format!("creates bridge {} and", lab.bridge),
                Prepared::Bridge => format!("joins bridge {} by", lab.bridge),
                Prepared::BridgeAndTaps => format!("uses bridge {} and", lab.bridge),
            },
            lab.vms,
            lab.mtu
        )?,
    }
    match &lab.outside {
        Some(Outside::Uplink(name)) => writeln!(
            out,
            "     {} of bridge {} leads out by {name}, which stays as it is",
            outside_name(&lab.bridge),
            lab.bridge
        )?,
        Some(Outside::Underlay(underlay)) => writeln!(
            out,
            "     {} of bridge {} leads to other labs by {underlay}",
            outside_name(&lab.bridge),
            lab.bridge
        )?,
        None => {}
    }
    if let Some(topology) = topology.filter(|topology| topology.leaves() > 0) {
        writeln!(out, "{}", topology.describe(&lab.bridge))?;
        let crosses = |flow: &&FlowPlan| match flow.target {
            Target::Vm(target) => topology.is_across(flow.source, target),
            Target::Address(_) => false,
        };
        if experiment.lists_all_flows() {
            let across = experiment.flows.iter().filter(crosses).count();
            let all = experiment.flow_count();
            writeln!(out, "{across} of {all} flows cross the spine")?;
        }
    }
    let addresses = [
        lab.host_address.map(IpNet::V4),
        lab.host_address6.map(IpNet::V6),
    ];
    for address in addresses.iter().flatten() {
        writeln!(out, "     bridge {} has the address {address}", lab.bridge)?;
    }
    if lab.vlan_filtering.is_some() {
        writeln!(out, "     each port of it is in its VM's VLAN only")?;
    }
    let vms = experiment.vms.iter().enumerate();
    list(out, vms, experiment.vms.len(), "VMs", |out, (i, vm)| {
        if experiment.vm_defaults.dhcp {
            write!(out, "vm{i}: an address by DHCP")?;
        } else {
            write!(out, "vm{i}: {}", vm.address)?;
        }
        match experiment.ipv6_address(VmId(i as u32)) {
            Some(Ipv6Addr::UNSPECIFIED) => write!(out, " and one by DHCPv6")?,
            Some(address) => write!(out, " and {address}")?,
            None => {}
        }
        write!(out, " at {}", vm.mac)?;
        if !experiment.is_simulated {
            write!(out, " on {}", lab.port_name(VmId(i as u32)))?;
        }
        match vm.vlan {
            Some(vlan) => writeln!(out, " in VLAN {vlan}"),
            None => writeln!(out),
        }
    })?;
    if !experiment.lists_all_flows() {
        let listed = experiment.flows.len();
        writeln!(
            out,
            "neighbours: the kind of resolution depends on all flows, of which a dry run lists {listed}"
        )?;
    } else if let Some(neighbours) = neighbours(experiment) {
        writeln!(out, "{neighbours}")?;
    }
    if experiment.lab.filter {
        writeln!(
            out,
            "filter: the kernel drops frames that a VM's network card would drop"
        )?;
    }
    habits(out, experiment)?;
    impairments(out, &experiment.effective)?;
    writeln!(
        out,
        "timeout of a ping: {}",
        humantime::format_duration(experiment.timeout)
    )?;
    if experiment.spin == Duration::MAX {
        writeln!(out, "waiting: never sleeps (--spin)")?;
    } else if !experiment.spin.is_zero() {
        let spin = humantime::format_duration(experiment.spin);
        writeln!(out, "waiting: polls for {spin} before it sleeps (--spin)")?;
    }
    writeln!(out, "seed of all random choices: {}", experiment.seed)
}

/// Describes what is done to frames: for the whole run, or by phase where not all phases have the same.
fn impairments(out: &mut String, plan: &Scenario) -> fmt::Result {
    let texts = |settings: &Settings| -> Vec<String> {
        let values = settings.all("impair").iter();
        values.map(|setting| setting.text.clone()).collect()
    };
    let mut phases = plan.phases.iter().map(texts);
    let first = phases.next();
    if phases.all(|other| Some(other) == first) {
        for text in first.unwrap_or_else(|| texts(&plan.settings)) {
            writeln!(out, "impaired frames: {text}")?;
        }
        return Ok(());
    }
    for (i, phase) in plan.phases.iter().enumerate() {
        let name = phase.get("name").map(|name| name.text.clone());
        let name = name.unwrap_or_else(|| format!("phase {i}"));
        for text in texts(phase) {
            writeln!(out, "impaired frames in {name}: {text}")?;
        }
    }
    Ok(())
}

/// Describes how VMs resolve their neighbours, and why so; `None` if there are no flows and no streams.
pub fn neighbours(experiment: &Experiment) -> Option<String> {
    let resolution = &experiment.resolution;
    if !experiment.has_load() {
        return None;
    }
    let when = match resolution.first {
        Some(_) => "before the first ping",
        None => "when pings are due",
    };
    let how = match experiment.lab.neighbours {
        Neighbours::Before | Neighbours::AtOnce => format!(
            "resolved {when} ({}, delivered in {})",
            counted(resolution.requests, "request", "requests"),
            counted(resolution.deliveries, "copy", "copies")
        ),
        Neighbours::Proxy => format!("resolved {when}, and the bridge answers"),
        Neighbours::Static
            if experiment.vm_defaults.ipv6.is_some() && resolution.spared.is_some() =>
        {
            "static tables, no requests, and groups are not reported".to_owned()
        }
        Neighbours::Static => "static tables, no requests".to_owned(),
    };
    let why = match resolution.spared {
        Some(deliveries) => {
            format!("; with --resolve=before, requests would be delivered {deliveries} times")
        }
        None => String::new(),
    };
    Some(format!("neighbours: {how}{why}"))
}

/// Describes what all VMs do besides answering and pinging.
fn habits(out: &mut String, experiment: &Experiment) -> fmt::Result {
    let vm_defaults = &experiment.vm_defaults;
    let gateways = [
        vm_defaults.gateway.map(IpAddr::V4),
        vm_defaults
            .ipv6
            .and_then(|plan| plan.gateway)
            .map(IpAddr::V6),
    ];
    for gateway in gateways.into_iter().flatten() {
        writeln!(out, "datagrams for other networks go to {gateway}")?;
    }
    let slaac = vm_defaults.ipv6.is_some_and(|plan| plan.slaac);
    let routes = vm_defaults.leases(IpVersion::V6) && !slaac;
    for (is_so, habit) in [
        (vm_defaults.dad, "probe for duplicates of their addresses"),
        (vm_defaults.announce, "announce their addresses"),
        (vm_defaults.udp_echo, "echo datagrams to UDP port 7"),
        (
            vm_defaults.stamp_reflector == Some(StampMode::Stateless),
            "reflect STAMP test packets to UDP port 862",
        ),
        (
            vm_defaults.stamp_reflector == Some(StampMode::Stateful),
            "reflect STAMP test packets to UDP port 862, and number them by session",
        ),
        (
            slaac,
            "take IPv6 addresses and a router from advertisements",
        ),
        (routes, "take IPv6 routes from router advertisements"),
    ] {
        if is_so {
            writeln!(out, "the VMs {habit}")?;
        }
    }
    if let Some(port) = vm_defaults.tcp_listen {
        writeln!(out, "the VMs accept TCP connections at port {port}")?;
    }
    if vm_defaults.asks_for_addresses() {
        writeln!(
            out,
            "pings wait {} at most for VMs without an address",
            humantime::format_duration(experiment.address_wait)
        )?;
    }
    Ok(())
}

fn phases(out: &mut String, experiment: &Experiment) -> fmt::Result {
    if experiment.phases.is_empty() {
        return match experiment.serve {
            Some(time) => writeln!(out, "serves for {}", humantime::format_duration(time)),
            None => writeln!(out, "serves until SIGINT or SIGTERM"),
        };
    }
    let mut total = Expected {
        pings: Some(0),
        is_exact: true,
    };
    let mut all_frames = total;
    let mut shown = None;
    for (phase, expected) in experiment.phases.iter().zip(experiment.expected_pings()) {
        let Expected { pings, is_exact } = expected;
        total.add(expected);
        let flows = &phase.load.flows;
        let name = if phase.name.is_empty() {
            "the run"
        } else {
            &phase.name
        };
        if flows.is_empty() && !phase.streams.is_empty() {
            all_frames.add(streams::lines(out, experiment, phase, name)?);
            transitions(out, phase)?;
            continue;
        }
        let pings = match pings {
            None if phase.duration.is_some() => "as many pings as are answered".to_owned(),
            None => "pings without end".to_owned(),
            Some(pings) if !is_exact => format!("about {}", pings_of(pings)),
            // Too short for the last flows' turn to come.
            Some(pings) if pings < flows.len() as u64 && phase.transitions.is_empty() => {
                let silent = flows.len() as u64 - pings;
                format!("{}, none of {}", pings_of(pings), flows_of(silent))
            }
            Some(pings) => pings_of(pings),
        };
        writeln!(
            out,
            "{name}: {}, {}, {}{pings}{}",
            flows_of(flows.len() as u64),
            sending(&phase.load, "ping"),
            time(phase),
            uncounted(phase)
        )?;
        transitions(out, phase)?;
        if shown.as_ref() != Some(flows) {
            let these = flows.iter();
            list(
                out,
                these.filter_map(|id| experiment.flows.get(id.index())),
                flows.len(),
                "flows",
                |out, flow: &FlowPlan| {
                    writeln!(
                        out,
                        "  {} → {}{}{}, {} bytes",
                        flow.source,
                        flow.target,
                        match flow.version {
                            IpVersion::V4 => "",
                            IpVersion::V6 => " over IPv6",
                        },
                        by(flow.probe),
                        flow.payload_length
                    )
                },
            )?;
            shown = Some(flows.clone());
        }
        all_frames.add(streams::lines(out, experiment, phase, name)?);
    }
    let ends = experiment
        .phases
        .last()
        .is_some_and(|last| last.duration.is_some() || last.load.count.is_some());
    let (flows, has_streams) = (experiment.flow_count(), !experiment.streams.is_empty());
    let number = |expected: Expected, noun: &dyn Fn(u64) -> String| {
        let number = expected.pings.filter(|_| ends)?;
        let about = if expected.is_exact { "" } else { "about " };
        Some(format!("{about}{}", noun(number)))
    };
    let mut parts = Vec::new();
    if flows > 0 || !has_streams {
        parts.push(flows_of(flows as u64));
        parts.extend(number(total, &pings_of));
    }
    if has_streams {
        let frames = number(all_frames, &streams::frames_of);
        parts.push(frames.unwrap_or_else(|| "frames of streams".to_owned()));
    }
    if !ends {
        parts.push("until SIGINT or SIGTERM".to_owned());
    }
    writeln!(out, "in all: {}", parts.join(", "))
}

const fn uncounted(phase: &Phase) -> &'static str {
    match phase.is_counted {
        true => "",
        false => ", not counted",
    }
}

/// Describes which VMs start, stop, move and misbehave in a phase.
fn transitions(out: &mut String, phase: &Phase) -> fmt::Result {
    let count = phase.moves.len();
    list(out, phase.moves.iter(), count, "moves", |out, planned| {
        let PlannedMove {
            vm,
            after,
            relocation,
        } = planned;
        let times = match relocation.repeat {
            1 => String::new(),
            repeat => {
                let last = *after + relocation.every.saturating_mul(repeat - 1);
                format!(", {repeat} times there and back, the last time after {last:?}")
            }
        };
        let (to, announcement) = (&relocation.to, relocation.announcement);
        writeln!(
            out,
            "  {vm} moves after {after:?} to {to}{times}; announcement: {announcement}"
        )
    })?;
    let count = phase.misbehaviours.len();
    list(
        out,
        phase.misbehaviours.iter(),
        count,
        "misbehaviours",
        |out, planned| {
            let PlannedMisbehaviour {
                vm,
                misbehaviour,
                after,
                lasts,
            } = planned;
            let lasts = lasts.map_or_else(
                || "until the phase ends".to_owned(),
                |lasts| format!("for {}", humantime::format_duration(lasts)),
            );
            writeln!(
                out,
                "  {vm} misbehaves after {after:?} {lasts}: {misbehaviour}"
            )
        },
    )?;
    for (change, verb) in [(Change::Start, "start"), (Change::Stop, "stop")] {
        let mut transitions = phase.transitions.iter().filter(|m| m.change == change);
        let Some(first) = transitions.next() else {
            continue;
        };
        let (number, last) = transitions.fold((1, first), |(number, _), next| (number + 1, next));
        match number {
            1 => writeln!(
                out,
                "  1 VM to {verb}: {} after {:?}",
                first.vm, first.after
            )?,
            _ => writeln!(
                out,
                "  {number} VMs to {verb}: {} after {:?}, the last, {}, after {:?}",
                first.vm, first.after, last.vm, last.after
            )?,
        }
    }
    Ok(())
}

fn time(phase: &Phase) -> String {
    phase.duration.map_or(String::new(), |time| {
        format!("for {}, ", humantime::format_duration(time))
    })
}

/// Describes when what is sent, pings or frames of streams, is due.
fn sending(load: &PhaseLoad, what: &str) -> String {
    let arrivals = match (load.arrivals, load.pacing) {
        (Arrivals::Uniform, _) => "",
        (Arrivals::Poisson, Pacing::Interval(_)) => ", Poisson arrivals per flow",
        (Arrivals::Poisson, _) => ", Poisson arrivals in total",
    };
    let flows = load.flows.len() as f64;
    let start = match (load.start, load.pacing) {
        _ if load.flows.len() < 2 => String::new(),
        (_, Pacing::Rate(_)) | (Start::Spread | Start::Share { .. }, Pacing::Window(_)) => {
            String::new()
        }
        (Start::Spread | Start::Share { .. } | Start::Within(Duration::ZERO), _)
            if load.arrivals == Arrivals::Poisson =>
        {
            String::new()
        }
        (Start::Spread | Start::Share { .. }, _) => ", spread over it".to_owned(),
        (Start::Within(Duration::ZERO), _) => ", all at once".to_owned(),
        (Start::Within(time), _) => {
            let time = humantime::format_duration(time);
            format!(", the first within {time} at random")
        }
    };
    match load.pacing {
        Pacing::Interval(interval) => {
            let rate = flows / interval.as_secs_f64();
            let interval = humantime::format_duration(interval);
            format!(
                "one {what} each every {interval} ({rate:.0} {what}s/s in all){arrivals}{start}"
            )
        }
        Pacing::Rate(rate) => format!("{rate:.0} {what}s/s in all{arrivals}"),
        Pacing::Window(window) => {
            format!(
                "{window} outstanding each ({:.0} in all), as fast as replies come{start}",
                f64::from(window) * flows
            )
        }
    }
}

/// A number with its noun: `1 flow`, `20 flows`.
fn counted(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// How a flow pings, if it is not by ICMP echo.
fn by(probe: Probe) -> String {
    match probe {
        Probe::ICMP_ECHO => String::new(),
        probe => format!(" by {probe}"),
    }
}

fn flows_of(number: u64) -> String {
    counted(number, "flow", "flows")
}

fn pings_of(number: u64) -> String {
    counted(number, "ping", "pings")
}

/// Lists a few and counts the rest.
fn list<T>(
    out: &mut String,
    items: impl Iterator<Item = T>,
    count: usize,
    what: impl Display,
    mut line: impl FnMut(&mut String, T) -> fmt::Result,
) -> fmt::Result {
    let mut left = count;
    for item in items.take(if count > LINES { LINES / 2 } else { LINES }) {
        line(out, item)?;
        left = left.saturating_sub(1);
    }
    match (left, left == count) {
        (0, _) => Ok(()),
        (_, true) => writeln!(out, "… {left} {what}"),
        (_, false) => writeln!(out, "… and {left} more {what}"),
    }
}
