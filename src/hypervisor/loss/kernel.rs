//! What the kernel's reasons for dropping a frame mean for the ping that it carried.

use super::evidence::{Strength, elsewhere};
use super::obstacle::LINK_DOWN;
use crate::fabric::{DropPlace, FrameDrop};
use crate::record::{Attribution, Cause, Place, Way, Why};
use crate::vm::VmId;

/// The VMs that a frame is from and for, by its hardware addresses. `None` of those that are no VM's, or several's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Parties {
    pub(super) source: Option<VmId>,
    pub(super) destination: Option<VmId>,
}

/// The function with which a bridge sends a frame: it drops one that is too long for the link, or that goes to a link that is
/// down.
const SENDS: &str = "br_dev_queue_push_xmit";

/// The causes of reasons that mean the same in every function of the kernel.
const REASONS: &[(&str, Cause)] = &[
    ("FULL_RING", Cause::QueueFull),
    ("SOCKET_FILTER", Cause::Filtered),
    ("TAP_FILTER", Cause::Filtered),
    ("TAP_TXFILTER", Cause::Filtered),
    ("OTHERHOST", Cause::BeforeBridge),
    ("TC_INGRESS", Cause::BeforeBridge),
    ("NO_TX_TARGET", Cause::InBridge),
    ("MAC_INVALID_SOURCE", Cause::InBridge),
    ("MAC_IEEE_MAC_CONTROL", Cause::InBridge),
    ("BRIDGE_INGRESS_STP_STATE", Cause::InBridge),
    ("VLAN_FILTER", Cause::InBridge),
    ("TC_EGRESS", Cause::BehindBridge),
    ("QDISC_DROP", Cause::BehindBridge),
    // Of the switch in memory: the destination is at the port that the frame comes by, or has left the one that it is known at, or
    // its link is down.
    ("SAME_PORT", Cause::InBridge),
    ("LEFT_PORT", Cause::InBridge),
    ("ENETDOWN", Cause::Absent),
];

/// The causes of other reasons, by how the function that gave them begins.
const FUNCTIONS: &[(&str, Cause)] = &[
    // The source's TAP is down.
    ("tun_get_user", Cause::Refused),
    // Nobody has the destination's TAP open.
    ("tun_net_xmit", Cause::Absent),
    // Nobody has it open any more, and what was in its queue goes with that.
    ("tun_queue_purge", Cause::Absent),
    ("do_xdp_generic", Cause::InBridge),
    ("br_", Cause::InBridge),
    ("__netif_receive_skb", Cause::BeforeBridge),
    ("ip", Cause::BehindBridge),
    ("icmp", Cause::BehindBridge),
    ("neigh_", Cause::BehindBridge),
    ("arp_", Cause::BehindBridge),
    ("ndisc_", Cause::BehindBridge),
];

/// What a drop means for a frame that was on its `way`, and how much it says of the ping.
pub(super) fn meaning(drop: &FrameDrop, parties: Parties, way: Way) -> (Attribution, Strength) {
    let at_source = |vm| Some(vm) == parties.source;
    if let DropPlace::Port(vm) = drop.place
        && !at_source(vm)
        && parties
            .destination
            .is_some_and(|destination| destination != vm)
    {
        return (elsewhere(way, vm), Strength::Elsewhere);
    }
    let (reason, function) = (drop.reason.as_str(), drop.function.as_str());
    if let (DropPlace::Link(link), "OTHERHOST") = (drop.place, reason) {
        // A bridge has passed it to the host, because its table says so or somebody listens there to all that it carries.
        let what = Attribution {
            why: Some(Why::Kernel(drop.reason, drop.function)),
            ..Attribution::of(Cause::DeliveredElsewhere, way, Place::Link(link))
        };
        return (what, Strength::Elsewhere);
    }
    let of_reason = REASONS.iter().find(|(name, _)| *name == reason);
    let of_function = || {
        FUNCTIONS
            .iter()
            .find(|(name, _)| function.starts_with(name))
    };
    let found = of_reason.or_else(of_function).map(|(_, cause)| *cause);
    let mut what = Attribution {
        why: Some(match (reason, function) {
            ("ENETDOWN", _) => Why::State(LINK_DOWN),
            _ => Why::Kernel(drop.reason, drop.function),
        }),
        ..Attribution::of(
            found.unwrap_or(match drop.place {
                DropPlace::Port(vm) if at_source(vm) => Cause::BeforeBridge,
                _ => Cause::BehindBridge,
            }),
            way,
            drop.place.into(),
        )
    };
    if let (Cause::Absent, Some(destination)) = (what.cause, parties.destination) {
        what.place = Place::Vm(destination);
    }
    let strength = match drop.place {
        DropPlace::Port(_) => Strength::Decisive,
        DropPlace::Link(_) | DropPlace::Nowhere => Strength::Passing,
    };
    (what, strength)
}

/// Returns true if a bridge dropped the frame where it was to leave by a port: it was too long for the link, or the link was down.
pub(super) fn is_at_exit(drop: &FrameDrop) -> bool {
    drop.reason.as_str() == "NOT_SPECIFIED" && drop.function.as_str() == SENDS
}

/// Returns true if the host dropped a frame that a bridge had passed to it.
pub(super) fn is_at_host(drop: &FrameDrop) -> bool {
    let function = drop.function.as_str();
    let mut of_host = FUNCTIONS
        .iter()
        .filter(|(_, cause)| *cause == Cause::BehindBridge);
    matches!(drop.place, DropPlace::Link(_)) && of_host.any(|(name, _)| function.starts_with(name))
}

/// Returns true if the kernel's reason stands for several that the states of both ports tell apart.
pub(super) fn is_ambiguous(drop: &FrameDrop) -> bool {
    let function = drop.function.as_str();
    match drop.reason.as_str() {
        // At a port that connects bridges it is not known whose frames it is to carry.
        "NOT_SPECIFIED" => function.starts_with("br_handle_frame") || function == SENDS,
        // There is no port but that of the source, or none that is up, or none that is flooded to.
        "NO_TX_TARGET" => true,
        // A state that somebody set, or that of a bridge that is down.
        "BRIDGE_INGRESS_STP_STATE" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::{FrameHead, KernelName};
    use crate::time::Instant;

    #[test]
    fn a_drop_means_what_was_measured_of_its_reason_and_function() {
        use Strength::{Decisive, Elsewhere, Passing};
        let parties = Parties {
            source: Some(VmId(0)),
            destination: Some(VmId(1)),
        };
        let port = |vm| DropPlace::Port(VmId(vm));
        let link = DropPlace::Link(KernelName::new("uplink"));
        // Reason, function and place of the drop; cause and strength.
        let table = [
            (
                "FULL_RING",
                "tun_net_xmit",
                port(1),
                Cause::QueueFull,
                Decisive,
            ),
            (
                "SOCKET_FILTER",
                "tun_net_xmit",
                port(1),
                Cause::Filtered,
                Decisive,
            ),
            (
                "TAP_TXFILTER",
                "tun_net_xmit",
                port(1),
                Cause::Filtered,
                Decisive,
            ),
            (
                "DEV_READY",
                "tun_net_xmit",
                port(1),
                Cause::Absent,
                Decisive,
            ),
            (
                "DEV_READY",
                "tun_get_user",
                port(0),
                Cause::Refused,
                Decisive,
            ),
            (
                "NOT_SPECIFIED",
                "tun_queue_purge",
                port(1),
                Cause::Absent,
                Decisive,
            ),
            (
                "OTHERHOST",
                "ip_rcv_core",
                port(0),
                Cause::BeforeBridge,
                Decisive,
            ),
            (
                "OTHERHOST",
                "ip_rcv_core",
                link,
                Cause::DeliveredElsewhere,
                Elsewhere,
            ),
            (
                "NOT_SPECIFIED",
                "br_handle_frame_finish",
                port(0),
                Cause::InBridge,
                Decisive,
            ),
            (
                "NOT_SPECIFIED",
                "br_dev_queue_push_xmit",
                port(1),
                Cause::InBridge,
                Decisive,
            ),
            (
                "NOT_SPECIFIED",
                "br_dev_queue_push_xmit",
                link,
                Cause::InBridge,
                Passing,
            ),
            (
                "NO_TX_TARGET",
                "br_flood",
                port(0),
                Cause::InBridge,
                Decisive,
            ),
            (
                "MAC_INVALID_SOURCE",
                "br_handle_frame",
                port(0),
                Cause::InBridge,
                Decisive,
            ),
            (
                "BRIDGE_INGRESS_STP_STATE",
                "br_handle_frame",
                port(0),
                Cause::InBridge,
                Decisive,
            ),
            (
                "TC_INGRESS",
                "__netif_receive_skb_core",
                port(0),
                Cause::BeforeBridge,
                Decisive,
            ),
            (
                "TC_EGRESS",
                "__dev_queue_xmit",
                port(1),
                Cause::BehindBridge,
                Decisive,
            ),
            (
                "QDISC_DROP",
                "__dev_queue_xmit",
                port(1),
                Cause::BehindBridge,
                Decisive,
            ),
            (
                "NETFILTER_DROP",
                "nft_do_chain",
                port(0),
                Cause::BeforeBridge,
                Decisive,
            ),
            (
                "NETFILTER_DROP",
                "nft_do_chain",
                port(1),
                Cause::BehindBridge,
                Decisive,
            ),
            ("IP_INHDR", "ip_forward", link, Cause::BehindBridge, Passing),
            (
                "IP_INNOROUTES",
                "ip_rcv_finish_core",
                link,
                Cause::BehindBridge,
                Passing,
            ),
            ("ENETDOWN", "", port(1), Cause::Absent, Decisive),
            ("XDP", "do_xdp_generic", port(0), Cause::InBridge, Decisive),
            // Nobody knows these.
            (
                "GREMLINS",
                "nowhere",
                port(0),
                Cause::BeforeBridge,
                Decisive,
            ),
            (
                "GREMLINS",
                "nowhere",
                port(1),
                Cause::BehindBridge,
                Decisive,
            ),
            // Copies of a flooded frame.
            (
                "SOCKET_FILTER",
                "tun_net_xmit",
                port(5),
                Cause::DeliveredElsewhere,
                Elsewhere,
            ),
            (
                "FULL_RING",
                "tun_net_xmit",
                port(5),
                Cause::DeliveredElsewhere,
                Elsewhere,
            ),
        ];
        for (reason, function, place, cause, strength) in table {
            let drop = FrameDrop {
                at: Instant::ZERO,
                place,
                reason: KernelName::new(reason),
                function: KernelName::new(function),
                frame: FrameHead::NONE,
            };
            let (what, found) = meaning(&drop, parties, Way::Request);
            assert_eq!(
                (what.cause, found),
                (cause, strength),
                "{reason} in {function}"
            );
            let expected = match cause {
                Cause::Absent => Place::Vm(VmId(1)),
                _ => Place::from(place),
            };
            assert_eq!(what.place, expected, "{reason}");
            let several = ["NOT_SPECIFIED", "NO_TX_TARGET", "BRIDGE_INGRESS_STP_STATE"];
            let is_from_link = matches!(place, DropPlace::Link(_));
            let is_of_ip = function.starts_with("ip_");
            assert_eq!(is_at_host(&drop), is_from_link && is_of_ip, "{reason}");
            let is_at_exit = is_at_exit(&drop);
            assert_eq!(is_at_exit, function == SENDS, "{reason}");
            let is_ambiguous = is_ambiguous(&drop) || is_at_exit;
            let is_one_of_them = several.contains(&reason) && function != "tun_queue_purge";
            assert_eq!(is_ambiguous, is_one_of_them, "{reason}");
        }
    }
}
