//! The addresses that hosts can have. One list for networks, for hosts' sides, for gateways and for targets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::experiment::settings::{Setting, SettingError, Settings};

/// Networks without hosts (RFC 6890, RFC 5771): this network, loopback, multicast, and reserved addresses with
/// the broadcast address among them.
const NO_HOSTS: [Ipv4Net; 4] = [
    Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4),
    Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The same on IPv6 (RFC 4291): the unspecified address, loopback and embedded IPv4 addresses; multicast.
const NO_HOSTS6: [Ipv6Net; 2] = [
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 8),
    Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// Returns true if `address` can be one host of some network.
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    !NO_HOSTS.iter().any(|net| net.contains(&address))
}

/// Returns true if `address` can be one host of some network.
pub(super) fn is_host6(address: Ipv6Addr) -> bool {
    !NO_HOSTS6.iter().any(|net| net.contains(&address))
}

/// Returns true if `address` can be one host of `net`.
pub(super) fn is_host_of(net: Ipv4Net, address: Ipv4Addr) -> bool {
    let is_edge = net.prefix_len() < 31 && (address == net.network() || address == net.broadcast());
    net.contains(&address) && !is_edge && is_host(address)
}

/// Returns true if every address of `net` can be a host's.
pub(super) fn is_of_hosts(net: Ipv4Net) -> bool {
    let overlaps = |other: &Ipv4Net| other.contains(&net) || net.contains(other);
    !NO_HOSTS.iter().any(overlaps)
}

/// Returns true if every address of `net` can be a host's, in a network of more than one link.
pub(super) fn is_of_hosts6(net: Ipv6Net) -> bool {
    const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
    let overlaps = |other: &Ipv6Net| other.contains(&net) || net.contains(other);
    !NO_HOSTS6.iter().any(overlaps) && !overlaps(&LINK_LOCAL)
}

/// The value of `--first` of that version, of which there is one at most.
pub(super) fn first_of_version(
    settings: &Settings,
    is_wanted: impl Fn(&IpAddr) -> bool,
) -> Result<Option<(&Setting, IpAddr)>, SettingError> {
    let mut found = None;
    for setting in settings.all("first") {
        let address: IpAddr = setting.value("an address, such as 10.77.3.1")?;
        if is_wanted(&address) && found.replace((setting, address)).is_some() {
            return Err(setting.error("expected one IPv4 and one IPv6 address"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_hosts_has_no_address_that_is_nobodys() {
        for (net, is_one) in [
            ("10.77.0.0/16", true),
            ("1.0.0.0/8", true),
            ("126.0.0.0/8", true),
            ("128.0.0.0/2", true),
            ("223.255.255.0/24", true),
            ("0.0.0.0/0", false),
            ("0.0.0.0/8", false),
            ("0.1.2.0/24", false),
            ("64.0.0.0/2", false),
            ("127.0.0.0/16", false),
            ("192.0.0.0/2", false),
            ("224.0.0.0/16", false),
            ("239.0.0.0/8", false),
            ("240.0.0.0/16", false),
            ("255.255.255.0/24", false),
        ] {
            assert_eq!(is_of_hosts(net.parse().unwrap()), is_one, "{net}");
        }
        for (net, is_one) in [
            ("fd77::/64", true),
            ("2001:db8::/32", true),
            ("::/0", false),
            ("::/64", false),
            ("::ffff:0:0/96", false),
            ("fe80::/64", false),
            ("fe00::/7", false),
            ("ff02::/64", false),
        ] {
            assert_eq!(is_of_hosts6(net.parse().unwrap()), is_one, "{net}");
        }
    }
}
