//! The state of a bridge and of its ports, as it is read from the kernel's replies (`linux/if_link.h`).

use std::time::Duration;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;

use super::super::error::SystemError;
use super::Netlink;
use super::link::{
    LINK_HEADER_BYTES, LinkKind, attributes, find_attribute, link_data, link_info, parse_link,
};
use super::port::parse_settings;
use crate::fabric::StpState;

/// Settings of a bridge that decide what a new port of it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::system) struct BridgeSettings {
    /// It runs the spanning tree protocol, in the kernel or by a daemon.
    pub(in crate::system) has_stp: bool,
    /// A new port spends this long in each of the states "listening" and "learning".
    pub(in crate::system) forward_delay: Duration,
    /// Its VLAN filter, if that is on.
    pub(in crate::system) vlan_filter: Option<VlanFilter>,
}

impl BridgeSettings {
    /// The time from when a port has a carrier until it forwards, by the spanning tree protocol: half of it "listening",
    /// half "learning" (IEEE 802.1D).
    pub(in crate::system) fn time_to_forward(&self) -> Duration {
        match self.has_stp {
            true => self.forward_delay.saturating_mul(2),
            false => Duration::ZERO,
        }
    }
}

/// The VLAN filter of a bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VlanFilter {
    /// It looks at 802.1ad tags in place of 802.1Q tags.
    pub is_provider: bool,
    /// The VLAN of a new port's untagged frames; 0 for none.
    pub default_pvid: u16,
}

mod attribute {
    pub(super) const BR_FORWARD_DELAY: u16 = 1;
    pub(super) const BR_STP_STATE: u16 = 5;
    pub(super) const BR_VLAN_FILTERING: u16 = 7;
    pub(super) const BR_VLAN_PROTOCOL: u16 = 8;
    pub(super) const BR_VLAN_DEFAULT_PVID: u16 = 39;
    pub(super) const INFO_SLAVE_DATA: u16 = 5;
    pub(super) const OPERSTATE: u16 = 16;
    pub(super) const CARRIER_CHANGES: u16 = 35;
    /// `IF_OPER_UP` of `linux/if.h`.
    pub(super) const OPERSTATE_UP: u8 = 6;
    /// `linux/if_addr.h`.
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const LOCAL: u16 = 2;
}

/// `ETH_P_8021AD`, as it is on the wire.
const PROVIDER_PROTOCOL: [u8; 2] = [0x88, 0xa8];
/// `struct ifaddrmsg`.
const ADDRESS_HEADER_BYTES: usize = 8;

impl Netlink {
    /// The settings of the bridge called `name`; `None` if it is gone, or no bridge.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(in crate::system) fn bridge_settings(
        &mut self,
        name: &str,
    ) -> Result<Option<BridgeSettings>, SystemError> {
        let mut settings = None;
        self.look_up(name, |payload| settings = parse_bridge(payload))?;
        Ok(settings)
    }

    /// The addresses of the link with that index, each with its prefix length.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(in crate::system) fn addresses(&mut self, index: u32) -> Result<Vec<IpNet>, SystemError> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let addresses = self
            .dump(&request, parse_address)
            .map_err(|refusal| refusal.of("list the addresses"))?;
        let own = addresses.into_iter().filter(|(link, _)| *link == index);
        Ok(own.map(|(_, address)| address).collect())
    }

    /// The state of every port of every bridge, by the port's name. The host's own port has the name of the bridge.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(in crate::system) fn port_states(
        &mut self,
    ) -> Result<Vec<(String, StpState)>, SystemError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.dump(&request, parse_port)
            .map_err(|refusal| refusal.of("list the ports of bridges"))
    }
}

fn parse_bridge(payload: &[u8]) -> Option<BridgeSettings> {
    let data = link_data(link_info(payload)?, "bridge")?;
    let number = |wanted| {
        let value = find_attribute(data, wanted)?;
        value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    };
    let is_filtering = find_attribute(data, attribute::BR_VLAN_FILTERING) == Some(&[1]);
    let default_pvid = find_attribute(data, attribute::BR_VLAN_DEFAULT_PVID)
        .and_then(|value| value.first_chunk())
        .map_or(0, |bytes| u16::from_ne_bytes(*bytes));
    let protocol = find_attribute(data, attribute::BR_VLAN_PROTOCOL);
    // The kernel tells times in hundredths of a second (USER_HZ).
    let forward_delay = u64::from(number(attribute::BR_FORWARD_DELAY)?) * 10;
    Some(BridgeSettings {
        has_stp: number(attribute::BR_STP_STATE)? != 0,
        forward_delay: Duration::from_millis(forward_delay),
        vlan_filter: is_filtering.then_some(VlanFilter {
            is_provider: protocol == Some(&PROVIDER_PROTOCOL),
            default_pvid,
        }),
    })
}

fn parse_port(payload: &[u8]) -> Option<(String, StpState)> {
    let link = parse_link(payload)?;
    let info = link_info(payload)?;
    let state = match find_attribute(info, attribute::INFO_SLAVE_DATA) {
        Some(data) => parse_settings(data)?.state,
        None if link.kind == LinkKind::Bridge => StpState::Forwarding,
        None => return None,
    };
    let is_sending = link.carrier && has_settled(payload.get(LINK_HEADER_BYTES..)?);
    Some((
        link.name,
        if is_sending {
            state
        } else {
            StpState::Disabled
        },
    ))
}

/// Returns false for a link of which the kernel has yet to take note that it has a carrier. Until then it drops what is sent
/// by the link (`dev_activate()` of `net/sched/sch_generic.c`), also where a port of a bridge is said to forward. The
/// operational state says so (RFC 2863), unless it is unknown because the carrier has never changed.
fn has_settled(link: &[u8]) -> bool {
    let changes = find_attribute(link, attribute::CARRIER_CHANGES);
    find_attribute(link, attribute::OPERSTATE) == Some(&[attribute::OPERSTATE_UP])
        || changes.is_none_or(|changes| changes.iter().all(|&byte| byte == 0))
}

fn parse_address(payload: &[u8]) -> Option<(u32, IpNet)> {
    let [_, prefix_length, _, _, index @ ..] = *payload.first_chunk::<ADDRESS_HEADER_BYTES>()?;
    let (mut address, mut local) = (None, None);
    for (kind, value) in attributes(payload.get(ADDRESS_HEADER_BYTES..)?) {
        let ip = || match value.len() {
            4 => value.first_chunk::<4>().map(|bytes| (*bytes).into()),
            _ => value.first_chunk::<16>().map(|bytes| (*bytes).into()),
        };
        match kind {
            // Of a link between two, the other one's.
            attribute::ADDRESS => address = ip(),
            attribute::LOCAL => local = ip(),
            _ => {}
        }
    }
    let net = IpNet::new(local.or(address)?, prefix_length).ok()?;
    Some((u32::from_ne_bytes(index), net))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attribute, as the kernel lays it out.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = 4 + value.len();
        let header = [(length as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
        let mut bytes = [header.as_slice(), value].concat();
        bytes.resize(length.next_multiple_of(4), 0);
        bytes
    }

    /// The message about a link with these attributes in its `IFLA_LINKINFO`.
    fn link(info: &[Vec<u8>]) -> Vec<u8> {
        let name = attribute(3, b"cni0\0");
        [vec![0; 16], name, attribute(18, &info.concat())].concat()
    }

    #[test]
    fn the_settings_of_a_bridge_are_read() {
        let bridge = |filtering: u8, protocol: [u8; 2], pvid: u16| {
            let data = [
                attribute(1, &1_500_u32.to_ne_bytes()),
                attribute(5, &1_u32.to_ne_bytes()),
                attribute(7, &[filtering]),
                attribute(8, &protocol),
                attribute(39, &pvid.to_ne_bytes()),
            ];
            parse_bridge(&link(&[
                attribute(1, b"bridge\0"),
                attribute(2, &data.concat()),
            ]))
        };
        let settings = |vlan_filter| {
            Some(BridgeSettings {
                has_stp: true,
                forward_delay: Duration::from_secs(15),
                vlan_filter,
            })
        };
        let filter = |is_provider, default_pvid| {
            Some(VlanFilter {
                is_provider,
                default_pvid,
            })
        };
        assert_eq!(bridge(0, [0x81, 0], 1), settings(None));
        assert_eq!(bridge(1, [0x81, 0], 7), settings(filter(false, 7)));
        assert_eq!(bridge(1, [0x88, 0xa8], 0), settings(filter(true, 0)));
        assert_eq!(parse_bridge(&link(&[attribute(1, b"veth\0")])), None);
        assert_eq!(parse_bridge(&[0; 3]), None);
    }

    #[test]
    fn the_state_of_a_port_is_read_and_of_nothing_else() {
        // The carrier, how often it has changed, and the operational state: of TAPs of ours, and of others.
        let port_of = |state: &[u8], [carrier, changes, operational]: [u8; 3]| {
            let data = attribute(5, &attribute(1, state));
            let message = [
                link(&[attribute(4, b"bridge\0"), data]),
                attribute(33, &[carrier]),
                attribute(35, &u32::from(changes).to_ne_bytes()),
                attribute(16, &[operational]),
            ];
            parse_port(&message.concat())
        };
        let (unknown, down, up) = (0, 2, 6);
        let port = |state| port_of(state, [1, 0, unknown]);
        let named = |state| Some(("cni0".to_owned(), state));
        assert_eq!(port(&[2]), named(StpState::Learning));
        assert_eq!(port(&[3]), named(StpState::Forwarding));
        assert_eq!(port(&[9]), None);
        assert_eq!(port(&[]), None);
        for (state, carrier) in [
            (StpState::Forwarding, [1, 2, up]),
            (StpState::Disabled, [1, 1, unknown]),
            (StpState::Disabled, [1, 3, down]),
            (StpState::Disabled, [0, 0, unknown]),
            (StpState::Disabled, [0, 4, up]),
        ] {
            assert_eq!(port_of(&[3], carrier), named(state), "{carrier:?}");
        }
        let bridge = [link(&[attribute(1, b"bridge\0")]), attribute(33, &[1])];
        assert_eq!(parse_port(&bridge.concat()), named(StpState::Forwarding));
        assert_eq!(parse_port(&bridge[0]), named(StpState::Disabled));
        assert_eq!(parse_port(&link(&[attribute(1, b"veth\0")])), None);
    }

    #[test]
    fn an_address_is_read_with_its_link_and_prefix() {
        let message = |family: u8, prefix: u8, attributes: &[Vec<u8>]| {
            let index = 9_u32.to_ne_bytes();
            let header = [[family, prefix, 0, 0], index].concat();
            parse_address(&[header, attributes.concat()].concat())
        };
        let net = |text: &str| Some((9, text.parse::<IpNet>().unwrap()));
        let (own, peer) = (attribute(2, &[10, 88, 0, 1]), attribute(1, &[10, 88, 0, 9]));
        assert_eq!(message(2, 16, &[peer, own]), net("10.88.0.1/16"));
        let ipv6 = std::net::Ipv6Addr::LOCALHOST.octets();
        assert_eq!(message(10, 64, &[attribute(1, &ipv6)]), net("::1/64"));
        assert_eq!(message(2, 99, &[attribute(2, &[10, 88, 0, 1])]), None);
        assert_eq!(message(2, 16, &[]), None);
    }
}
