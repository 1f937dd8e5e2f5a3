//! Moves of VMs: `vm3:leaf1@5s`, `vm[0-9]:netns:other@1s,announce=rarp,count=5,interval=50ms`.
//!
//! A value says who (`vm3`, `vm[0-9]`, the name of a group), where to, when in the phase, and how the VM announces itself
//! there: in what way, how often, and at which interval. `repeat` makes each of them go there and back, so many times in all.

use std::time::Duration;

use super::PlanContext;
use crate::experiment::settings::{Setting, SettingError, Settings, span};
use crate::fabric::Place;
use crate::hypervisor::{Phase, PlannedMove, Relocation};
use crate::load::{Arrivals, Pacing};
use crate::number::whole_number;
use crate::sim::check_place;
use crate::system::{FabricKind, OUTAGE_IS_SIMULATED, Prepared};
use crate::topology::leaf_name;
use crate::vm::{Announcement, VmId};

/// The most moves of a phase, without those that are repeated.
const MOST_MOVES: usize = 100_000;
/// The most moves of one VM by one value.
const MOST_REPEATS: u32 = 100_000;
/// The most announcements of one move.
const MOST_ANNOUNCEMENTS: u32 = 1000;

const VMS: &str = "expected vmI, vm[I-J] or the name of a group";
const EXPECTED: &str = "expected VMS:PLACE[@TIME] and, with commas between, announce=garp|rarp|na|none, count=N, \
                        interval=TIME, every=TIME or outage=TIME";

/// Reads the moves of `phase`, or those that are to be made at once in a lab that runs, in the order of their times, each with the number of its value.
pub(super) fn moves(
    settings: &Settings,
    phase: Option<&Phase>,
    context: &PlanContext<'_>,
) -> Result<Vec<(usize, PlannedMove)>, SettingError> {
    let values = settings.all("move");
    let repeat = settings.get("repeat");
    let repeat = match (repeat, values) {
        (Some(repeat), []) => {
            return Err(repeat.error("expected --move beside it, which it repeats"));
        }
        (Some(repeat), _) => repeat.number_in(1..=MOST_REPEATS)?,
        (None, _) => 1,
    };
    if let (Some(ramp), [_, ..]) = (settings.get("ramp"), values) {
        return Err(super::phases::no_ramp(ramp, "move"));
    }
    let timeout = context.timeout;
    let mut moves = Vec::new();
    for (number, setting) in values.iter().enumerate() {
        let (vms, after, relocation) = order(setting, context)?;
        check(setting, &relocation, context)?;
        if let (Place::Bridge(name), Some(_)) = (&relocation.to, phase) {
            check_bridge(name, context).map_err(|why| setting.error(why))?;
        }
        if moves.len() + vms.clone().count() > MOST_MOVES {
            return Err(setting.error(format_args!(
                "expected {MOST_MOVES} moves in a phase at most"
            )));
        }
        let relocation = Relocation {
            repeat,
            ..relocation
        };
        let last = relocation.every.saturating_mul(repeat - 1);
        let last = after.saturating_add(last);
        if phase
            .and_then(|phase| phase.duration)
            .is_some_and(|duration| last >= duration)
        {
            return Err(setting.error("the phase ends before; expected a longer duration, an earlier time, or a smaller every"));
        }
        if phase.is_some_and(|phase| are_over(phase, last.saturating_sub(timeout))) {
            return Err(setting.error(
                "all pings of the phase have ended before; expected a greater count, an earlier time, or a smaller every",
            ));
        }
        moves.extend(vms.map(|vm| {
            let planned = PlannedMove {
                after,
                vm: VmId(vm),
                relocation: relocation.clone(),
            };
            (number, planned)
        }));
    }
    moves.sort_by_key(|(_, planned)| planned.after);
    Ok(moves)
}

/// Returns true if all pings of a phase that ends by their count are due before `at`, as far as that is known beforehand: in a closed
/// loop it is not, nor where VMs come and go.
fn are_over(phase: &Phase, at: Duration) -> bool {
    let load = &phase.load;
    let is_known = phase.duration.is_none()
        && !matches!(load.pacing, Pacing::Window(_))
        && load.arrivals == Arrivals::Uniform
        && phase.transitions.is_empty()
        && phase.streams.is_empty();
    let all = load.pings_due(None).filter(|pings| *pings > 0);
    is_known && all.is_some() && load.pings_due(Some(at)) == all
}

/// Checks that VMs can be moved as `setting` says, as far as that is known of a lab that does not exist yet.
fn check(
    setting: &Setting,
    relocation: &Relocation,
    context: &PlanContext<'_>,
) -> Result<(), SettingError> {
    if relocation.announcement == Announcement::Na && context.vm_defaults.ipv6.is_none() {
        return Err(setting.error(
            "VMs without IPv6 send no neighbour advertisement; expected --ipv6, or announce=garp|rarp|none",
        ));
    }
    if context.are_simulated {
        return check_place(&relocation.to).map_err(|why| setting.error(why));
    }
    let lab = context.lab;
    let expected = "expected a lab whose bridges and TAPs the program makes";
    match (lab.fabric, lab.prepared) {
        (FabricKind::Bridge, Prepared::Nothing) => {}
        (FabricKind::Bridge, Prepared::Bridge) => {
            return Err(setting.error(format_args!(
                "the bridge of --join is somebody else's; {expected}"
            )));
        }
        (FabricKind::Bridge, Prepared::BridgeAndTaps) => {
            return Err(setting.error(format_args!(
                "the TAPs of --attach are somebody else's; {expected}"
            )));
        }
        // The table of options says so.
        _ => return Ok(()),
    }
    if !relocation.outage.is_zero() {
        return Err(setting.error(OUTAGE_IS_SIMULATED));
    }
    let leaves = lab
        .topology()
        .and_then(Result::ok)
        .map_or(0, |tree| tree.leaves());
    match (&relocation.to, leaves) {
        (Place::Namespace(name), _) => lab.check_beside(name).map_err(|why| setting.error(why)),
        (Place::Leaf(number), 0) => Err(setting.error(format_args!(
            "there is no leaf{number}: all VMs are on one bridge; expected fewer --ports-per-bridge than VMs"
        ))),
        (Place::Leaf(number), leaves) if *number >= leaves => Err(setting.error(format_args!(
            "there is no leaf{number}; expected leaf0 to leaf{}",
            leaves - 1
        ))),
        _ => Ok(()),
    }
}

/// Checks that a bridge is one of the lab's: before the first ping there is no other one in a namespace that the program makes, and
/// in one of somebody else's no other one is a place.
fn check_bridge(name: &str, context: &PlanContext<'_>) -> Result<(), String> {
    let own = &context.lab.bridge;
    let Some(Ok(tree)) = context.lab.topology() else {
        return Ok(());
    };
    let leaves = tree.leaves();
    let is_leaf = (0..leaves).any(|leaf| leaf_name(own, leaf) == name);
    if name == own || is_leaf {
        return Ok(());
    }
    let expected = match leaves {
        0 => own.clone(),
        leaves => format!(
            "{own} or {} to {}",
            leaf_name(own, 0),
            leaf_name(own, leaves - 1)
        ),
    };
    Err(format!(
        "bridge {name} is none of the lab's; expected {expected}, or netns:NAME"
    ))
}

/// One value: whom it moves, when, and where to.
fn order(
    setting: &Setting,
    context: &PlanContext<'_>,
) -> Result<(std::ops::RangeInclusive<u32>, Duration, Relocation), SettingError> {
    let mut parts = setting.text.split(',').map(str::trim);
    let (who, to) = parts
        .next()
        .and_then(|first| first.split_once(':'))
        .ok_or_else(|| setting.error(EXPECTED))?;
    let (to, after) = match to.rsplit_once('@') {
        Some((to, after)) => (to, time(setting, after)?),
        None => (to, Duration::ZERO),
    };
    let to: Place = to.trim().parse().map_err(|error| setting.error(error))?;
    let vms = context.selection(setting, who.trim(), VMS)?;
    let mut relocation = Relocation::to(to);
    read_options(&mut relocation, parts, |why| setting.error(why))?;
    Ok((vms, after, relocation))
}

/// Reads what else is said of a move: `announce=rarp`, `count=5` and so on.
fn read_options<'a, E>(
    relocation: &mut Relocation,
    options: impl Iterator<Item = &'a str>,
    error: impl Fn(String) -> E,
) -> Result<(), E> {
    for option in options {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let duration = || {
            let span = span(value.trim());
            span.ok_or_else(|| error(format!("{option}: expected a time such as 50ms")))
        };
        match key.trim() {
            "announce" => {
                let announcement = value.trim().parse();
                relocation.announcement = announcement
                    .map_err(|why: crate::vm::NoAnnouncement| error(why.to_string()))?;
            }
            "count" => {
                let most = MOST_ANNOUNCEMENTS;
                let count = whole_number(value.trim()).and_then(|count| u32::try_from(count).ok());
                let count = count.filter(|count| (1..=most).contains(count));
                let wrong = || error(format!("{option}: expected 1 to {most}"));
                relocation.count = count.ok_or_else(wrong)?;
            }
            "interval" => relocation.interval = duration()?,
            "every" => {
                relocation.every = duration()?;
                if relocation.every.is_zero() {
                    return Err(error(format!(
                        "{option}: expected more than 0, such as 100ms"
                    )));
                }
            }
            "outage" => relocation.outage = duration()?,
            _ => return Err(error(EXPECTED.to_owned())),
        }
    }
    Ok(())
}

fn time(setting: &Setting, text: &str) -> Result<Duration, SettingError> {
    let time = span(text.trim());
    time.ok_or_else(|| setting.error("expected a time behind @, such as 5s"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Scenario, plan};

    fn planned(lines: &str) -> Result<Vec<PlannedMove>, String> {
        let text = format!("vms = 4\nping = 'vm0:vm3'\ncount = 1_000\n{lines}");
        let scenario = Scenario::parse("t.toml", &text).map_err(|error| error.to_string())?;
        let plan = plan(&scenario).map_err(|error| error.to_string())?;
        Ok(plan.phases[0].moves.clone())
    }

    const TREE: &str = "ports-per-bridge = 2\n";

    #[test]
    fn a_move_is_read_with_its_time_and_announcement() {
        let to = |place: &str| Relocation::to(place.parse().unwrap());
        let ms = Duration::from_millis;
        for (value, vm, after, relocation) in [
            ("vm3:leaf0", 3, ms(0), to("leaf0")),
            ("vm3:leaf0@5s", 3, ms(5_000), to("leaf0")),
            ("vm1:port@20ms", 1, ms(20), to("port")),
            ("vm1:netns:other@1", 1, ms(1_000), to("netns:other")),
            (
                "vm1:br0-1@1s, announce=rarp, count=5, interval=10ms, every=1s",
                1,
                ms(1_000),
                Relocation {
                    announcement: Announcement::Rarp,
                    count: 5,
                    interval: ms(10),
                    every: ms(1_000),
                    ..to("br0-1")
                },
            ),
        ] {
            let expected = PlannedMove {
                after,
                vm: VmId(vm),
                relocation,
            };
            let moves = planned(&format!("{TREE}move = '{value}'"));
            assert_eq!(moves, Ok(vec![expected]), "{value}");
        }
        let several = format!("{TREE}move = ['vm[2-3]:leaf0@2s', 'vm0:leaf1@1s']\nrepeat = 3");
        let several = planned(&several).unwrap();
        let vms: Vec<u32> = several.iter().map(|planned| planned.vm.0).collect();
        assert_eq!(vms, [0, 2, 3]);
        assert!(several.iter().all(|planned| planned.relocation.repeat == 3));
    }

    #[test]
    fn what_can_not_be_moved_is_said_with_what_is_expected() {
        for (lines, said) in [
            ("move = 'vm3'", "expected VMS:PLACE[@TIME]"),
            ("move = 'vm9:port'", "vm9"),
            ("move = 'vm3:a b'", "expected leafN, the name of a bridge"),
            ("move = 'vm3:port@soon'", "expected a time behind @"),
            (
                "move = 'vm3:port,announce=shout'",
                "expected garp, rarp, na or none",
            ),
            ("move = 'vm3:port,count=0'", "expected 1 to 1000"),
            ("move = 'vm3:port,every=0'", "expected more than 0"),
            (
                "move = 'vm3:port,interval=x'",
                "expected a time such as 50ms",
            ),
            ("move = 'vm3:port,twice'", "expected VMS:PLACE[@TIME]"),
            ("move = 'vm3:leaf1'", "all VMs are on one bridge"),
            (
                "move = 'vm3:br9@1s'",
                "bridge br9 is none of the lab's; expected br0, or netns:NAME",
            ),
            (
                "move = 'vm3:br9'\nports-per-bridge = 2\nnetns = 'host'",
                "expected br0 or br0-0 to br0-1",
            ),
            (
                "move = 'vm3:leaf9'\nfabric = 'sim'",
                "there is no leaf9; expected leaf0, where all VMs are in a simulation, leaf1, port or netns:NAME",
            ),
            (
                "move = 'vm3:br0'\nfabric = 'sim'",
                "there is no bridge br0; expected leaf0",
            ),
            (
                "move = 'vm3:leaf7'\nports-per-bridge = 2",
                "expected leaf0 to leaf1",
            ),
            ("move = 'vm3:port,outage=1ms'", "outage is for --fabric sim"),
            (
                "move = 'vm3:port'\nattach = true\nnetns = 'host'",
                "--attach",
            ),
            ("move = 'vm3:port'\nfabric = 'xdp'", "fabric"),
            // The wrong one is named, whichever it is.
            (
                "move = ['vm1:leaf7', 'vm2:leaf0']\nports-per-bridge = 2",
                "move = vm1:leaf7: there is no leaf7",
            ),
            (
                "move = 'vm1:leaf0'\nports-per-bridge = 2\n[[phase]]\nmove = 'vm2:leaf9'",
                "line 7: move = vm2:leaf9: there is no leaf9",
            ),
            ("move = 'vm3:netns:host'", "expected a name that is free"),
            (
                "move = 'vm3:netns:a'\nnetns = 'a'",
                "expected a name that is free",
            ),
            ("move = 'vm3:port,announce=na'", "expected --ipv6"),
            (
                "fabric = 'sim'\nmove = 'vm3:port,announce=na'",
                "expected --ipv6",
            ),
            ("repeat = 2", "expected --move beside it"),
            ("move = 'vm3:port'\nrepeat = 0", "expected 1 to 100000"),
            (
                "move = 'vm3:port@2s'\nduration = '2s'",
                "the phase ends before",
            ),
            (
                "move = 'vm3:port'\nrepeat = 30\nduration = '2s'",
                "the phase ends before",
            ),
            // 1,000 pings with 10 ms between them, and a second in which the last may be answered.
            (
                "move = 'vm3:port@10h'",
                "move = vm3:port@10h: all pings of the phase have ended before",
            ),
            ("move = 'vm3:port@11s'", "all pings of the phase have ended"),
            (
                "move = 'vm3:port@5s'\nrate = 1000",
                "all pings of the phase have ended",
            ),
            (
                "move = 'vm3:port@5s,every=1s'\nrepeat = 7",
                "all pings of the phase have ended",
            ),
        ] {
            let error = planned(lines).expect_err(lines);
            assert!(error.contains(said), "{lines}: {error}");
        }
        for lines in [
            "move = 'vm3:port@10s'",
            "move = 'vm3:port@10h'\nwindow = 1",
            "move = 'vm3:port@10h'\narrivals = 'poisson'",
            "move = 'vm3:port@5s'\nrate = 200",
        ] {
            assert!(planned(lines).is_ok(), "{lines}");
        }
        let simulated = planned("move = 'vm3:leaf1,outage=1ms'\nfabric = 'sim'").unwrap();
        assert_eq!(simulated[0].relocation.outage, Duration::from_millis(1));
    }

    #[test]
    fn a_phase_has_no_more_moves_than_there_is_room_for() {
        let planned = |values: usize| {
            let value = "'vm[0-9999]:port'";
            let text = format!(
                "fabric = 'sim'\nvms = 10000\nping = 'vm0:vm1'\ncount = 1\nmove = [{}]",
                vec![value; values].join(", ")
            );
            plan(&Scenario::parse("t.toml", &text).unwrap())
        };
        assert_eq!(planned(10).unwrap().phases[0].moves.len(), 100_000);
        let error = planned(11).unwrap_err().to_string();
        assert!(
            error.contains("expected 100000 moves in a phase at most"),
            "{error}"
        );
    }
}
