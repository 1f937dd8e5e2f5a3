//! Maps ignored frames to the drop reasons of the report.

use crate::record::DropReason;
use crate::vm::Ignored;
use crate::wire::{ETHER_TYPE_IPV6, Fault, Layer, ParseError};

/// Returns the drop reason under which an ignored frame is counted.
pub(super) fn drop_reason(ignored: Ignored) -> DropReason {
    match ignored {
        Ignored::Malformed(ParseError {
            fault: Fault::Truncated { .. },
            ..
        }) => DropReason::Truncated,
        Ignored::Malformed(ParseError {
            layer: Layer::Ethernet,
            ..
        }) => DropReason::BadEthernet,
        Ignored::Malformed(ParseError {
            layer: Layer::Arp, ..
        }) => DropReason::BadArp,
        Ignored::Malformed(ParseError {
            layer: Layer::Ipv4,
            fault: Fault::Checksum,
            ..
        }) => DropReason::BadIpChecksum,
        Ignored::Malformed(ParseError {
            layer: Layer::Ipv4 | Layer::Ipv6,
            ..
        }) => DropReason::BadIpHeader,
        Ignored::Malformed(ParseError {
            layer: Layer::Dhcp, ..
        }) => DropReason::BadDhcp,
        Ignored::Malformed(ParseError {
            layer: Layer::Udp, ..
        }) => DropReason::BadUdpChecksum,
        Ignored::Malformed(ParseError {
            layer: Layer::Tcp, ..
        }) => DropReason::BadTcpChecksum,
        Ignored::Malformed(ParseError {
            layer: Layer::Icmp | Layer::Icmpv6 | Layer::Igmp,
            fault: Fault::Checksum,
            ..
        }) => DropReason::BadIcmpChecksum,
        Ignored::Malformed(ParseError {
            layer: Layer::Icmp | Layer::Icmpv6 | Layer::Igmp,
            ..
        }) => DropReason::BadIcmp,
        Ignored::OtherStation => DropReason::NotForOurMac,
        Ignored::OtherTarget => DropReason::ArpNotForUs,
        Ignored::OtherAddress => DropReason::NotForOurIp,
        Ignored::ArpOperation | Ignored::ArpSender => DropReason::BadArp,
        Ignored::UnexpectedArpReply
        | Ignored::UnexpectedAdvertisement
        | Ignored::UnexpectedEchoReply
        | Ignored::UnexpectedDhcp
        | Ignored::UnexpectedIcmpError => DropReason::UnexpectedReply,
        Ignored::DhcpNoServer => DropReason::DhcpNoServer,
        Ignored::DhcpNoLeaseTime => DropReason::DhcpNoLeaseTime,
        Ignored::DhcpAddress => DropReason::DhcpAddress,
        Ignored::DhcpNoAddress => DropReason::DhcpNoAddress,
        Ignored::DhcpLifetimes => DropReason::DhcpLifetimes,
        Ignored::DhcpStatus(_) => DropReason::DhcpStatus,
        Ignored::DhcpOtherServer => DropReason::DhcpOtherServer,
        Ignored::EtherType(ETHER_TYPE_IPV6) => DropReason::Ipv6Ignored,
        Ignored::EtherType(_) => DropReason::UnknownEthertype,
        Ignored::BadSource => DropReason::BadSource,
        Ignored::Ipv4Options => DropReason::Ipv4Options,
        Ignored::ExtensionHeaders => DropReason::ExtensionHeaders,
        Ignored::OtherVlan => DropReason::OtherVlan,
        Ignored::FragmentOverlap => DropReason::FragmentOverlap,
        Ignored::FragmentLength => DropReason::BadFragment,
        Ignored::ReassemblyFull => DropReason::ReassemblyFull,
        Ignored::ReassemblyTimeout => DropReason::ReassemblyTimeout,
        Ignored::NoRoute => DropReason::NoRoute,
        Ignored::NoNeighbour => DropReason::NoNeighbour,
        Ignored::AnswerQueueFull => DropReason::NeighbourQueueFull,
        Ignored::FragmentQueueFull => DropReason::FragmentQueueFull,
        Ignored::FragmentationNeeded => DropReason::FragmentationNeeded,
        Ignored::ClosedPort(_) => DropReason::ClosedPort,
        Ignored::Protocol(_) => DropReason::UnknownIpProtocol,
        Ignored::IcmpType(_) | Ignored::IgmpType(_) => DropReason::UnknownIcmpType,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wrong_checksum_is_counted_as_one() {
        for layer in [Layer::Icmp, Layer::Icmpv6, Layer::Igmp] {
            for (fault, expected) in [
                (Fault::Checksum, "bad_icmp_checksum"),
                (Fault::Field("hop limit"), "bad_icmp"),
            ] {
                let offset = 54;
                let error = ParseError {
                    layer,
                    offset,
                    fault,
                };
                let reason = drop_reason(Ignored::Malformed(error));
                assert_eq!(reason.name(), expected, "{layer:?}");
            }
        }
    }
}
