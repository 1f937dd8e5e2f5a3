//! Frames to typed views and back. Pure: bytes in, values out.
//!
//! Parsing goes layer by layer, so that a VM can turn a frame away before it pays for the checksums of what is inside:
//! [`EthernetFrame::parse`], then [`EthernetFrame::payload`], then [`IcmpMessage::parse`]. The codecs are etherparse's;
//! what is here narrows them to what a VM acts on, verifies every checksum, and says where and why a frame is bad.
//!
//! Read RFC 826 (ARP), RFC 791 (IPv4) and RFC 792 (ICMP) first; for IPv6, RFC 8200, RFC 4443 (ICMPv6) and RFC 4861
//! (neighbour discovery).

mod arp;
mod checksum;
mod describe;
mod describe_ipv6;
mod dhcp;
mod dhcp_options;
mod dhcpv6;
mod dhcpv6_options;
mod echo_template;
mod error;
mod ethernet;
mod flow_label;
mod fragment_head;
mod icmp;
mod icmp_error;
mod icmpv6;
mod igmp;
mod ipv4;
mod ipv4_fragment;
mod ipv4_options;
mod ipv6;
mod ipv6_extension;
mod ipv6_fragment;
mod mac;
mod membership;
mod mld;
mod neighbour_discovery;
mod neighbour_request;
mod offload;
mod ping_head;
mod plain_echo;
mod plain_fragment;
mod plain_head;
mod probe_head;
mod probe_number;
mod router_discovery;
mod source_mac;
mod stamp;
mod stream;
mod stream_head;
mod tcp;
mod udp;
mod vlan;

pub use arp::{ARP_FRAME_LENGTH, ArpPacket, rarp_frame};
pub use checksum::{Filled, Summed};
pub use describe::Describe;
pub use dhcp::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpKind, DhcpReply, DhcpRequest, MAX_CLASSLESS_ROUTES,
};
pub use dhcp_options::ClasslessRoute;
pub use dhcpv6::{
    ALL_DHCPV6_SERVERS, DHCPV6_CLIENT_PORT, DHCPV6_SERVER_PORT, Dhcpv6Address, Dhcpv6Association,
    Dhcpv6Kind, Dhcpv6Reply, Dhcpv6Request, Dhcpv6Status, MAX_ASSOCIATIONS, dhcpv6_identifier,
};
pub use echo_template::EchoTemplate;
pub use error::{Fault, Layer, ParseError};
pub use ethernet::{
    ETHERNET_HEADER_LENGTH, EthernetFrame, LARGEST_FRAME, Payload, packet_length, set_destination,
};
pub use fragment_head::FragmentHead;
pub use icmp::{
    ECHO_FRAME_OVERHEAD, Echo, EchoRequest, ICMP_ECHO_HEADER_LENGTH, IcmpMessage,
    turn_into_echo_reply, turn_into_timestamp_reply,
};
pub use icmp_error::{IcmpError, IcmpErrorKind, IcmpRedirect, turn_into_icmp_error};
pub use icmpv6::{
    ICMPV6_ECHO_FRAME_OVERHEAD, ICMPV6_HEADER_LENGTH, Icmpv6EchoRequest, Icmpv6Error,
    Icmpv6Message, turn_into_icmpv6_echo_reply, turn_into_icmpv6_error,
};
pub use igmp::{
    ALL_HOSTS, IgmpMessage, IgmpQuery, IgmpVersion, OlderIgmpMessage, VERSION_1_RESPONSE_TIME,
    igmp_records_in, write_igmp_report, write_older_igmp_message,
};
pub use ipv4::{
    IPV4_HEADER_LENGTH, IPV4_MAX_LENGTH, Ipv4Envelope, Ipv4Packet, PROTOCOL_ICMP, PROTOCOL_IGMP,
    PROTOCOL_UDP, ipv4_destination, ipv4_multicast_mac, set_ipv4_destination,
};
pub use ipv4_fragment::{seal_reassembled, write_first_fragment, write_fragment};
pub use ipv4_options::{OptionsFault, Passage, answer_options, check_options, replace_options};
pub use ipv6::{
    ALL_MLDV2_ROUTERS, ALL_NODES, ALL_NODES_OF_INTERFACE, ALL_ROUTERS, ETHER_TYPE_IPV6,
    INTERFACE_IDENTIFIER_BITS, IPV6_HEADER_LENGTH, IPV6_MINIMUM_MTU, IPV6_PAYLOAD_LENGTH_OFFSET,
    Ipv6Envelope, Ipv6Packet, PROTOCOL_ICMPV6, eui64_address, link_local, multicast_mac,
    solicited_node,
};
pub use ipv6_extension::{
    ExtensionFault, IPV6_FRAGMENT_HEADER_LENGTH, IPV6_FRAGMENT_OFFSET_OFFSET, IPV6_HOP_BY_HOP,
    IPV6_NO_NEXT_HEADER, Ipv6Fragment, MAX_EXTENSION_HEADERS, UpperLayer,
};
pub use ipv6_fragment::{insert_fragment_header, seal_reassembled_ipv6, write_ipv6_fragment};
pub use mac::{MacAddr, ParseMacError};
pub use membership::GroupRecord;
pub use mld::{
    MldMessage, MldQuery, MldReport, MldVersion, mld_records_in, write_mld_message,
    write_mld_report,
};
pub use neighbour_discovery::{
    NEIGHBOUR_DISCOVERY_HOP_LIMIT, NeighbourAdvertisement, NeighbourDiscovery,
    NeighbourSolicitation, Nonce,
};
pub use neighbour_request::NeighbourRequest;
pub use offload::{OFFLOAD_HEADER_LENGTH, Offload, Segmentation, complete_checksum};
pub use ping_head::PingHead;
pub use plain_echo::PlainEcho;
pub use plain_fragment::PlainFragment;
pub use probe_head::{LinkHead, ProbeHead, QuotedProbe};
pub use probe_number::{
    FLOW_BITS, NARROW_FLOWS, TCP_FLOWS, WIDE_FLOWS, of_tcp_number, of_udp_number, sequence_mask,
    tcp_number, udp_number,
};
pub use router_discovery::{
    AdvertisedPrefix, Redirect, RouterAdvertisement, RouterPreference, write_router_advertisement,
    write_router_solicitation,
};
pub use source_mac::replace_source_mac;
pub use stamp::{
    NtpTimestamp, Reflection, STAMP_LENGTH, STAMP_PORT, STAMP_REPLY_FRAME, StampNumber,
    turn_into_ipv6_stamp_reply, turn_into_stamp_reply,
};
pub use stream::{
    FRAME_CHECK_SEQUENCE, MAX_STREAMS, STREAM_PAYLOAD, STREAM_PORT, StreamEnvelope, StreamFrame,
    StreamTag, StreamTemplate, stamp_stream,
};
pub use stream_head::StreamHead;
pub use tcp::{
    PROTOCOL_TCP, TCP_LONGEST_FRAME, TCP_SYN_LENGTH, TcpSegment, turn_into_ipv6_tcp, turn_into_tcp,
    write_ipv6_tcp, write_tcp,
};
pub use udp::{
    EPHEMERAL_PORTS, UDP_ECHO_PORT, UDP_HEADER_LENGTH, UdpDatagram, is_ephemeral,
    turn_into_ipv6_udp_echo, turn_into_udp_echo, write_ipv6_udp, write_udp,
};
pub use vlan::{
    ParseVlanError, VLAN_TAG_LENGTH, Vlan, VlanId, behind_tags, put_on, restore_tag, tags_length,
    take_off, untagged,
};

#[cfg(test)]
mod tests;
