//! VMs that come up and leave in the course of a phase: `start = "100 per second"`, `stop = "vm[0-9]"`.
//!
//! A value says who (`vm3`, `vm[0-9]`, the name of a group, `all`, or a number of VMs), how fast (`100 per second`), or both
//! (`clients at 100 per second`). Without a rate all of them do it at once, at the beginning of the phase. Without a who it
//! is as many as the phase has time for. VMs that no phase starts exist from the beginning.

use std::time::Duration;

use super::{PlanContext, Setting, SettingError, Settings};
use crate::hypervisor::{Change, Transition};
use crate::number::whole_number;
use crate::vm::VmId;

/// The highest rate that is taken for meant.
const MAX_RATE: f64 = 1e6;

const EXPECTED: &str = "expected VMs (vmI, vm[I-J], the name of a group, or a number), a rate such as 100 per second, or \
                       both, such as vm[0-9] at 100 per second";

/// One value, read.
struct Order<'a> {
    setting: &'a Setting,
    change: Change,
    who: Who,
    /// VMs per second; `None` for all at once.
    rate: Option<f64>,
}

enum Who {
    /// These, the first and the last included.
    These(u32, u32),
    /// This number of VMs, in the default order.
    Some(u32),
    /// As many as there is time for.
    AsManyAsFit,
}

/// The state of a VM at the point of the run that the plan has reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Presence {
    /// From the beginning on, or since an earlier phase.
    Up,
    /// It is to come up by its name, in this phase or a later one.
    Named,
    /// It is to come up as one of a number.
    Later,
    /// It came up in the phase that is being planned.
    Starting,
    Gone,
}

/// The transitions of each of `phases`, in their order.
pub(super) fn transitions(
    phases: &[Settings],
    context: &PlanContext<'_>,
) -> Result<Vec<Vec<Transition>>, SettingError> {
    let mut orders = Vec::new();
    for settings in phases {
        orders.push(phase_orders(settings, context)?);
    }
    if orders.iter().all(Vec::is_empty) {
        return Ok(vec![Vec::new(); phases.len()]);
    }
    let mut presence = first_presence(phases, &orders, context)?;
    let mut planned = Vec::new();
    for (settings, orders) in phases.iter().zip(&orders) {
        let mut transitions = Vec::new();
        for order in orders {
            let vms = choose(order, settings, &mut presence)?;
            transitions.extend(spread(order, &vms, settings)?);
        }
        for vm in &mut presence {
            if *vm == Presence::Starting {
                *vm = Presence::Up;
            }
        }
        transitions.sort_by_key(|m: &Transition| m.after);
        planned.push(transitions);
    }
    Ok(planned)
}

fn phase_orders<'a>(
    settings: &'a Settings,
    context: &PlanContext<'_>,
) -> Result<Vec<Order<'a>>, SettingError> {
    let mut orders = Vec::new();
    for (name, change) in [("start", Change::Start), ("stop", Change::Stop)] {
        for setting in settings.all(name) {
            if let Some(ramp) = settings.get("ramp") {
                return Err(super::phases::no_ramp(ramp, name));
            }
            orders.push(order(setting, change, context)?);
        }
    }
    Ok(orders)
}

fn order<'a>(
    setting: &'a Setting,
    change: Change,
    context: &PlanContext<'_>,
) -> Result<Order<'a>, SettingError> {
    let text = setting.text.trim();
    let (who, rate) = match text.strip_suffix("per second") {
        Some(text) => match text.rsplit_once(" at ") {
            Some((who, rate)) => (Some(who), Some(rate)),
            None => (None, Some(text)),
        },
        None => (Some(text), None),
    };
    let rate = rate.map(|rate| {
        let rate = setting.rate(rate, "VMs", MAX_RATE);
        rate.map_err(|_| setting.error(EXPECTED))
    });
    let who = match who.map(str::trim) {
        None => Who::AsManyAsFit,
        Some(who) => match whole_number(who).map(u32::try_from) {
            Some(Ok(0) | Err(_)) => return Err(setting.error(EXPECTED)),
            Some(Ok(number)) => Who::Some(number),
            None => {
                let vms = context.selection(setting, who, EXPECTED)?;
                Who::These(*vms.start(), *vms.end())
            }
        },
    };
    Ok(Order {
        setting,
        change,
        who,
        rate: rate.transpose()?,
    })
}

/// The VMs that are up when the run begins: all but those that are started by name, and as many of the last ones as are
/// started by number or by rate.
fn first_presence(
    phases: &[Settings],
    orders: &[Vec<Order<'_>>],
    context: &PlanContext<'_>,
) -> Result<Vec<Presence>, SettingError> {
    let mut presence = vec![Presence::Up; context.vms.len()];
    let mut others = 0u64;
    for (settings, orders) in phases.iter().zip(orders) {
        for order in orders.iter().filter(|order| order.change == Change::Start) {
            match order.who {
                Who::These(first, last) => {
                    let these = presence.get_mut(first as usize..=last as usize);
                    for vm in these.unwrap_or_default() {
                        if *vm == Presence::Named {
                            let why = "some of them are started already; expected each VM once";
                            return Err(order.setting.error(why));
                        }
                        *vm = Presence::Named;
                    }
                }
                Who::Some(number) => others += u64::from(number),
                Who::AsManyAsFit => others = others.saturating_add(room(order, settings)?),
            }
        }
    }
    let left = presence.iter_mut().rev().filter(|vm| **vm == Presence::Up);
    let others = usize::try_from(others).unwrap_or(usize::MAX);
    left.take(others).for_each(|vm| *vm = Presence::Later);
    Ok(presence)
}

/// The number of transitions that a phase has time for.
fn room(order: &Order<'_>, settings: &Settings) -> Result<u64, SettingError> {
    let duration = settings.get("duration").map(Setting::duration);
    match (order.rate, duration.transpose()?) {
        (Some(rate), Some(duration)) => Ok((rate * duration.as_secs_f64()).ceil() as u64),
        _ => Err(order
            .setting
            .error("expected a duration beside it, or a number of VMs")),
    }
}

/// The VMs that an order is about.
fn choose(
    order: &Order<'_>,
    settings: &Settings,
    presence: &mut [Presence],
) -> Result<Vec<VmId>, SettingError> {
    let (from, to) = match (order.change, &order.who) {
        (Change::Start, Who::These(..)) => (Presence::Named, Presence::Starting),
        (Change::Start, _) => (Presence::Later, Presence::Starting),
        (Change::Stop, _) => (Presence::Up, Presence::Gone),
    };
    let fitting: Vec<u32> = (0u32..)
        .zip(presence.iter())
        .filter(|(_, is)| **is == from)
        .map(|(vm, _)| vm)
        .collect();
    let vms: Vec<u32> = match order.who {
        Who::These(first, last) => {
            for vm in first..=last {
                if presence.get(vm as usize) != Some(&from) {
                    let state = match order.change {
                        Change::Start => "is started already",
                        Change::Stop => "is not up at the beginning of the phase",
                    };
                    let why = format_args!("vm{vm} {state}; expected once for each VM");
                    return Err(order.setting.error(why));
                }
            }
            (first..=last).collect()
        }
        Who::Some(number) => {
            let vms = few(order.change, &fitting, number.into());
            if vms.len() < number as usize {
                let why = format_args!("there are only {} left", vms.len());
                return Err(order.setting.error(why));
            }
            vms
        }
        Who::AsManyAsFit => {
            let room = room(order, settings)?;
            few(order.change, &fitting, room)
        }
    };
    for vm in &vms {
        if let Some(presence) = presence.get_mut(*vm as usize) {
            *presence = to;
        }
    }
    Ok(vms.into_iter().map(VmId).collect())
}

/// The first VMs come up first, and the last ones leave first.
fn few(change: Change, vms: &[u32], number: u64) -> Vec<u32> {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    match change {
        Change::Start => vms.iter().take(number).copied().collect(),
        Change::Stop => vms.iter().rev().take(number).copied().collect(),
    }
}

/// The time at which each of them starts or stops.
fn spread(
    order: &Order<'_>,
    vms: &[VmId],
    settings: &Settings,
) -> Result<Vec<Transition>, SettingError> {
    let after = |i: usize| match order.rate {
        Some(rate) => Duration::from_secs_f64(i as f64 / rate),
        None => Duration::ZERO,
    };
    let duration = settings.get("duration").map(Setting::duration);
    let last = after(vms.len().saturating_sub(1));
    if let Some(duration) = duration.transpose()?
        && last >= duration
        && !last.is_zero()
    {
        let (last, duration) = (
            humantime::format_duration(last),
            humantime::format_duration(duration),
        );
        let why = format_args!("the last comes after {last}, and the phase ends after {duration}");
        return Err(order.setting.error(why));
    }
    let change = order.change;
    Ok(vms
        .iter()
        .enumerate()
        .map(|(i, &vm)| Transition {
            after: after(i),
            vm,
            change,
        })
        .collect())
}
