//! What stands in the way of a frame, by the states of ports and forwarding tables.

use std::net::IpAddr;

use crate::fabric::{BridgeState, DropPlace, PathState, PortState, StpState};
use crate::record::{Attribution, Cause, Place, Way, Why};
use crate::vm::VmId;

/// Why a frame that is longer than its link's MTU is dropped.
pub(super) const TOO_LARGE: &str = "larger than its link carries";

/// Why a bridge passes a frame to nobody that would have to go back.
const AT_ITS_PORT: &str = "the forwarding table has the destination at the port that it comes by";

/// Why nothing comes to a VM that was taken away, or whose TAP was.
const NO_PORT: &str = "it has no port";

/// Why nothing comes by a link that is down.
pub(super) const LINK_DOWN: &str = "its link is down";

/// Why nothing goes by a link whose other end is down, or that nothing is connected to.
const NO_CARRIER: &str = "its link has no carrier";

/// Why a bridge takes nothing from a station that nobody has let in.
const LOCKED: &str = "its port is locked";

/// The ends of a way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ends {
    /// The VM that sends.
    pub(super) source: VmId,
    /// The VM that is to receive; `None` if it is none of the run's.
    pub(super) destination: Option<VmId>,
    /// Bytes of the packet, without the Ethernet header.
    pub(super) bytes: u32,
    /// Whether it goes to one or to several: where the destination is does not matter then.
    pub(super) spread: Spread,
}

/// How many a frame goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spread {
    One,
    /// A group that the destination is in.
    Group,
    All,
}

/// Bytes of an ARP packet (RFC 826).
pub(super) const ARP_BYTES: u32 = 28;
/// Bytes of a neighbour solicitation (RFC 4861 section 4.3) with its option, and of the IPv6 header.
const ND_BYTES: u32 = 72;

impl Ends {
    /// Those of a packet from VM to VM.
    pub(super) const fn between(source: VmId, destination: VmId, bytes: u32) -> Ends {
        Ends {
            source,
            destination: Some(destination),
            bytes,
            spread: Spread::One,
        }
    }

    /// Those of a packet to somebody else.
    pub(super) const fn outside(source: VmId) -> Ends {
        Ends {
            source,
            destination: None,
            bytes: 0,
            spread: Spread::One,
        }
    }

    /// Those of a question for the hardware address of who has `address`.
    pub(super) const fn asking(source: VmId, destination: VmId, address: IpAddr) -> Ends {
        let (spread, bytes) = match address {
            IpAddr::V4(_) => (Spread::All, ARP_BYTES),
            IpAddr::V6(_) => (Spread::Group, ND_BYTES),
        };
        Ends {
            spread,
            ..Ends::between(source, destination, bytes)
        }
    }
}

/// The first thing that stands in the way of a frame, as it goes from source to destination. `None` if nothing does.
pub(super) fn obstacle(state: &PathState, ends: Ends, way: Way) -> Option<Attribution> {
    let put_down = |cause, place, why| {
        Some(Attribution {
            why: Some(why),
            ..Attribution::of(cause, way, place)
        })
    };
    let source = Place::Vm(ends.source);
    let words = Why::State;
    let from = state.source?;
    if !from.is_up {
        return put_down(Cause::Refused, source, words(LINK_DOWN));
    }
    if !from.has_carrier {
        return put_down(Cause::Refused, source, words(NO_CARRIER));
    }
    let left = match from.bridge {
        None if state.is_bridged => {
            return put_down(Cause::BeforeBridge, source, words("it is in no bridge"));
        }
        left => left,
    };
    if let Some(left) = left {
        if !left.is_up {
            let bridge = Place::Link(left.name);
            return put_down(Cause::InBridge, bridge, words(BRIDGE_DOWN));
        }
        if let Some(why) = stopped(left.state) {
            return put_down(Cause::InBridge, source, words(why));
        }
    }
    let destination = ends.destination?;
    let at = Place::Vm(destination);
    let Some(to) = state.destination else {
        return put_down(Cause::Absent, at, words(NO_PORT));
    };
    if let Some(why) = unreachable(&to, state.is_bridged) {
        return put_down(Cause::Absent, at, words(why));
    }
    if let Some(entered) = to.bridge {
        if !entered.is_up {
            let bridge = Place::Link(entered.name);
            return put_down(Cause::InBridge, bridge, words(BRIDGE_DOWN));
        }
        if let Some(why) = stopped(entered.state) {
            return put_down(Cause::InBridge, at, words(why));
        }
        let is_isolated = |left: BridgeState| {
            left.is_isolated && entered.is_isolated && left.name == entered.name
        };
        if left.is_some_and(is_isolated) {
            return put_down(Cause::InBridge, source, words(ISOLATED));
        }
    }
    let between = state.between;
    let links = [
        between.bridge.map(|bridge| (bridge, BRIDGE_DOWN)),
        between.down.map(|port| (port, LINK_DOWN)),
        between
            .stopped
            .and_then(|(port, state)| Some((port, stopped(state)?))),
        between.isolated.map(|port| (port, ISOLATED)),
    ];
    if let Some((port, why)) = links.into_iter().flatten().next() {
        return put_down(Cause::InBridge, Place::Link(port), words(why));
    }
    let is_locked = left.is_some_and(|left| left.is_locked);
    let unflooded = match (ends.spread, to.bridge) {
        (Spread::All, Some(entered)) if !entered.floods_broadcast => Some(NO_BROADCAST),
        (Spread::Group, Some(entered)) if !entered.floods_multicast => Some(NO_MULTICAST),
        _ => None,
    };
    if ends.spread != Spread::One {
        return match unflooded {
            _ if is_locked => put_down(Cause::InBridge, source, words(LOCKED)),
            Some(why) => put_down(Cause::InBridge, at, words(why)),
            None => None,
        };
    }
    if let (Some(link), Some(left), Some(entered)) = (state.returned_at, left, to.bridge)
        // A bridge that both are on has flooded it, and to the destination, too.
        && left.name != entered.name
    {
        return put_down(Cause::InBridge, Place::Link(link), words(AT_ITS_PORT));
    }
    if let Some(forwarding) = state.forwarding {
        match forwarding {
            DropPlace::Port(vm) if vm == destination => {}
            DropPlace::Port(vm) if vm == ends.source => {
                if left.is_some_and(|left| !left.is_hairpin) {
                    return put_down(Cause::InBridge, source, words(AT_ITS_PORT));
                }
            }
            DropPlace::Port(vm) => {
                let why = Why::ForwardedTo(vm);
                return put_down(Cause::DeliveredElsewhere, Place::Vm(vm), why);
            }
            DropPlace::Link(link) => {
                let is_itself = |bridge: BridgeState| bridge.name == link;
                let why = words(match left.is_some_and(is_itself) {
                    true => "the forwarding table has the destination at the bridge itself",
                    false => "the forwarding table has the destination there",
                });
                return put_down(Cause::DeliveredElsewhere, Place::Link(link), why);
            }
            DropPlace::Nowhere => {}
        }
    } else if to.bridge.is_some_and(|entered| !entered.floods_unknown) {
        let why = "its address is unknown, and is not flooded to it";
        return put_down(Cause::InBridge, at, words(why));
    }
    if let Some((port, mtu)) = between.narrowest
        && ends.bytes > mtu
    {
        return put_down(Cause::InBridge, Place::Link(port), words(TOO_LARGE));
    }
    if ends.bytes > to.mtu {
        return put_down(Cause::InBridge, at, words(TOO_LARGE));
    }
    if is_locked {
        return put_down(Cause::InBridge, source, words(LOCKED));
    }
    None
}

/// Why a bridge passes nothing at all.
const BRIDGE_DOWN: &str = "the bridge is down";
/// Why it passes nothing from one port to another.
const ISOLATED: &str = "both ports are isolated";
/// Why a bridge does not pass a question for a hardware address to a port.
const NO_BROADCAST: &str = "broadcasts are not flooded to it";
/// The same of IPv6, where such a question goes to a group.
const NO_MULTICAST: &str = "multicast is not flooded to it";

/// What a packet of so many bytes is put down to that a bridge dropped where it was to leave for the destination `vm`, whose port is
/// in that state a moment later: it was too long, or the link was down at that time.
pub(super) fn at_exit(state: &PathState, (vm, bytes): (VmId, u32), way: Way) -> Attribution {
    let (cause, why) = match state.destination {
        None => (Cause::Absent, NO_PORT),
        Some(to) => match unreachable(&to, state.is_bridged) {
            Some(why) => (Cause::Absent, why),
            None if bytes > to.mtu => (Cause::InBridge, TOO_LARGE),
            None => (Cause::Absent, LINK_DOWN),
        },
    };
    Attribution {
        why: Some(Why::State(why)),
        ..Attribution::of(cause, way, Place::Vm(vm))
    }
}

/// Why a port of a bridge in that state carries nothing, if it does not.
const fn stopped(state: StpState) -> Option<&'static str> {
    Some(match state {
        StpState::Disabled => "its port is disabled",
        StpState::Listening => "its port is listening",
        StpState::Learning => "its port is learning",
        StpState::Blocking => "its port is blocking",
        StpState::Forwarding => return None,
    })
}

/// Why nothing reaches the VM of a port, if nothing does.
const fn unreachable(port: &PortState, is_bridged: bool) -> Option<&'static str> {
    if !port.is_up {
        return Some(LINK_DOWN);
    }
    if !port.has_carrier {
        // This process has the TAPs of its VMs open, so it is not that nobody has.
        return Some(NO_CARRIER);
    }
    if is_bridged && port.bridge.is_none() {
        return Some("it is in no bridge");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::{Between, KernelName};

    const ENDS: Ends = Ends {
        source: VmId(0),
        destination: Some(VmId(1)),
        bytes: 1_500,
        spread: Spread::One,
    };

    fn bridge() -> BridgeState {
        BridgeState {
            name: KernelName::new("br0"),
            is_up: true,
            state: StpState::Forwarding,
            is_isolated: false,
            is_locked: false,
            learns: true,
            floods_unknown: true,
            floods_multicast: true,
            floods_broadcast: true,
            is_hairpin: false,
        }
    }

    fn whole() -> PathState {
        let port = PortState {
            is_up: true,
            has_carrier: true,
            mtu: 1_500,
            bridge: Some(bridge()),
        };
        PathState {
            is_bridged: true,
            source: Some(port),
            destination: Some(port),
            forwarding: Some(DropPlace::Port(VmId(1))),
            returned_at: None,
            between: Between::default(),
        }
    }

    type Change = fn(&mut PathState);

    fn source(state: &mut PathState) -> &mut BridgeState {
        state.source.as_mut().unwrap().bridge.as_mut().unwrap()
    }

    fn destination(state: &mut PathState) -> &mut BridgeState {
        state.destination.as_mut().unwrap().bridge.as_mut().unwrap()
    }

    #[test]
    fn a_question_for_an_address_needs_a_port_that_its_kind_is_flooded_to() {
        let v4 = IpAddr::from([10, 77, 0, 3]);
        let v6: IpAddr = "fe80::3".parse().unwrap();
        let told = |change: Change, address| {
            let mut state = whole();
            change(&mut state);
            let ends = Ends::asking(VmId(0), VmId(1), address);
            obstacle(&state, ends, Way::Request).map(|found| found.to_string())
        };
        let at_vm1 = |why| Some(format!("request dropped in the bridge at vm1 ({why})"));
        let at_vm0 = Some("request dropped in the bridge at vm0 (its port is locked)".to_owned());
        let (no_broadcast, no_multicast) = (at_vm1(NO_BROADCAST), at_vm1(NO_MULTICAST));
        let table: [(Change, _, _); 5] = [
            (|_| {}, None, None),
            (
                |s| s.forwarding = Some(DropPlace::Port(VmId(7))),
                None,
                None,
            ),
            (
                |s| destination(s).floods_broadcast = false,
                no_broadcast,
                None,
            ),
            (
                |s| destination(s).floods_multicast = false,
                None,
                no_multicast,
            ),
            (|s| source(s).is_locked = true, at_vm0.clone(), at_vm0),
        ];
        for (change, of_v4, of_v6) in table {
            assert_eq!((told(change, v4), told(change, v6)), (of_v4, of_v6));
        }
    }

    #[test]
    fn what_is_dropped_at_the_exit_was_too_long_or_its_link_was_down() {
        let told = |state: &PathState, bytes| {
            let found = at_exit(state, (VmId(1), bytes), Way::Request);
            assert_eq!(found.place, Place::Vm(VmId(1)));
            (found.cause, found.why)
        };
        let absent = |why| (Cause::Absent, Some(Why::State(why)));
        let too_large = (Cause::InBridge, Some(Why::State(TOO_LARGE)));
        for (bytes, expected) in [
            (ARP_BYTES, absent(LINK_DOWN)),
            (1_500, absent(LINK_DOWN)),
            (1_501, too_large),
        ] {
            assert_eq!(told(&whole(), bytes), expected, "{bytes}");
        }
        let mut state = whole();
        state.destination.as_mut().unwrap().bridge = None;
        assert_eq!(told(&state, 1_501), absent("it is in no bridge"));
        state.destination = None;
        assert_eq!(told(&state, 100), absent(NO_PORT));
    }

    #[test]
    fn the_first_thing_in_the_way_is_named() {
        let nothing: &[(&str, Change)] = &[
            ("all is well", |_| {}),
            ("flooded, and floods", |s| s.forwarding = None),
            ("flooded to it and to the spine", |s| {
                s.forwarding = None;
                s.returned_at = Some(KernelName::new("br0-0d"));
            }),
            ("isolated alone", |s| source(s).is_isolated = true),
            ("hairpin", |s| {
                s.forwarding = Some(DropPlace::Port(VmId(0)));
                source(s).is_hairpin = true;
            }),
            ("no port", |s| s.source = None),
            ("not learning", |s| source(s).learns = false),
        ];
        for (name, change) in nothing {
            let mut state = whole();
            change(&mut state);
            assert_eq!(obstacle(&state, ENDS, Way::Request), None, "{name}");
        }
        let table: &[(&str, Change)] = &[
            ("reply refused by the port at vm0 (its link is down)", |s| {
                s.source.as_mut().unwrap().is_up = false;
            }),
            (
                "reply dropped before the bridge at vm0 (it is in no bridge)",
                |s| {
                    s.source.as_mut().unwrap().bridge = None;
                },
            ),
            (
                "reply dropped in the bridge at br0 (the bridge is down)",
                |s| {
                    source(s).is_up = false;
                    destination(s).is_up = false;
                },
            ),
            (
                "reply dropped in the bridge at vm0 (its port is learning)",
                |s| {
                    source(s).state = StpState::Learning;
                },
            ),
            (
                "reply destination stopped or absent at vm1 (it has no port)",
                |s| {
                    s.destination = None;
                },
            ),
            (
                "reply destination stopped or absent at vm1 (its link is down)",
                |s| {
                    s.destination.as_mut().unwrap().is_up = false;
                },
            ),
            (
                "reply destination stopped or absent at vm1 (its link has no carrier)",
                |s| s.destination.as_mut().unwrap().has_carrier = false,
            ),
            (
                "reply destination stopped or absent at vm1 (it is in no bridge)",
                |s| {
                    s.destination.as_mut().unwrap().bridge = None;
                },
            ),
            (
                "reply dropped in the bridge at vm1 (its port is disabled)",
                |s| {
                    destination(s).state = StpState::Disabled;
                },
            ),
            (
                "reply dropped in the bridge at vm0 (both ports are isolated)",
                |s| {
                    source(s).is_isolated = true;
                    destination(s).is_isolated = true;
                },
            ),
            (
                "reply dropped in the bridge at br0-0d (the forwarding table has the destination at the port that it comes by)",
                |s| {
                    source(s).name = KernelName::new("br0-0");
                    s.forwarding = None;
                    s.returned_at = Some(KernelName::new("br0-0d"));
                },
            ),
            (
                "reply dropped in the bridge at br0-1d (its port is disabled)",
                |s| {
                    s.between.stopped = Some((KernelName::new("br0-1d"), StpState::Disabled));
                },
            ),
            (
                "reply dropped in the bridge at br0-0u (its link is down)",
                |s| {
                    s.between.down = Some(KernelName::new("br0-0u"));
                    s.between.isolated = Some(KernelName::new("br0-1d"));
                },
            ),
            (
                "reply dropped in the bridge at br0-1d (both ports are isolated)",
                |s| {
                    s.between.isolated = Some(KernelName::new("br0-1d"));
                },
            ),
            (
                "reply dropped in the bridge at br0-1d (larger than its link carries)",
                |s| {
                    s.between.narrowest = Some((KernelName::new("br0-1d"), 1_499));
                },
            ),
            (
                "reply dropped in the bridge at vm0 (the forwarding table has the destination at the port that it comes by)",
                |s| s.forwarding = Some(DropPlace::Port(VmId(0))),
            ),
            (
                "reply delivered to somebody else at vm7 (the forwarding table has it at vm7)",
                |s| s.forwarding = Some(DropPlace::Port(VmId(7))),
            ),
            (
                "reply delivered to somebody else at up0 (the forwarding table has the destination there)",
                |s| s.forwarding = Some(DropPlace::Link(KernelName::new("up0"))),
            ),
            (
                "reply delivered to somebody else at br0 (the forwarding table has the destination at the bridge itself)",
                |s| s.forwarding = Some(DropPlace::Link(KernelName::new("br0"))),
            ),
            (
                "reply dropped in the bridge at vm1 (its address is unknown, and is not flooded to it)",
                |s| {
                    s.forwarding = None;
                    destination(s).floods_unknown = false;
                },
            ),
            (
                "reply dropped in the bridge at vm1 (larger than its link carries)",
                |s| {
                    s.destination.as_mut().unwrap().mtu = 1_499;
                },
            ),
            (
                "reply dropped in the bridge at vm0 (its port is locked)",
                |s| {
                    source(s).is_locked = true;
                },
            ),
        ];
        for (words, change) in table {
            let mut state = whole();
            change(&mut state);
            let found = obstacle(&state, ENDS, Way::Reply).map(|found| found.to_string());
            assert_eq!(found.as_deref(), Some(*words));
        }
        let outside = Ends {
            destination: None,
            ..ENDS
        };
        let mut state = whole();
        state.destination = None;
        assert_eq!(obstacle(&state, outside, Way::Request), None);
    }
}
