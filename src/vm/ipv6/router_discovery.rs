//! Router discovery (RFC 4861 section 6.3): asks for routers, and takes what they advertise, and their
//! redirects (section 8).

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::time::Instant;
use crate::vm::ip::{Disposition, Input, Protocol, Received};
use crate::vm::neighbour::Claim;
use crate::vm::{Ignored, Reaction, Transmit, Vm};
use crate::wire::{
    IPV6_MINIMUM_MTU, Icmpv6Message, Ipv6Packet, NeighbourDiscovery, Redirect,
    write_router_solicitation,
};

/// The row of router discovery.
pub(in crate::vm) const ROUTER_DISCOVERY: Protocol = Protocol {
    input: Input::Ipv6(
        |_, datagram| {
            matches!(
                datagram.icmpv6_type(),
                Some(
                    NeighbourDiscovery::ROUTER_SOLICITATION
                        | NeighbourDiscovery::ROUTER_ADVERTISEMENT
                        | NeighbourDiscovery::REDIRECT
                )
            )
        },
        Vm::receive_router,
    ),
    poll: Vm::poll_router_solicitation,
    deadline: |vm| vm.ipv6.as_ref()?.routes.deadline(),
    ..Protocol::NONE
};

impl Vm {
    fn receive_router(
        &mut self,
        now: Instant,
        datagram: &Received<'_, Ipv6Packet<'_>>,
    ) -> Result<Disposition, Ignored> {
        let ignored = Ignored::IcmpType(datagram.icmpv6_type().unwrap_or_default());
        let router = datagram.packet.source;
        let message = match datagram.icmpv6()? {
            Icmpv6Message::NeighbourDiscovery(NeighbourDiscovery::RouterAdvertisement(message)) => {
                message
            }
            Icmpv6Message::NeighbourDiscovery(NeighbourDiscovery::Redirect(redirect)) => {
                return self.receive_redirect6(now, router, &redirect);
            }
            _ => return Err(ignored),
        };
        let mac = self.mac;
        let ipv6 = self.ipv6.as_mut().filter(|ipv6| ipv6.hears_routers());
        let ipv6 = ipv6.ok_or(ignored)?;
        let seconds = Duration::from_secs(message.router_lifetime.into());
        ipv6.routes
            .advertised(now, router, message.preference, seconds);
        if message.hop_limit != 0 {
            ipv6.hop_limit = message.hop_limit;
        }
        // One that the interface could not send, or IPv6 not work with, is no news (RFC 4861 section 6.3.4).
        let told = message.mtu.and_then(|mtu| u16::try_from(mtu).ok());
        let allowed = IPV6_MINIMUM_MTU..=usize::from(self.mtu);
        if let Some(mtu) = told.filter(|mtu| allowed.contains(&usize::from(*mtu))) {
            ipv6.link_mtu = Some(mtu);
        }
        let (reachable, retransmit) = (message.reachable_time, message.retransmit_timer);
        self.neighbours
            .learn_times(reachable, retransmit, &mut self.random);
        let mut event = None;
        for prefix in message.prefixes() {
            // The link-local prefix is everybody's, and no router's business (RFC 4861 section 6.3.4).
            if prefix.prefix.is_unicast_link_local() || prefix.prefix.is_multicast() {
                continue;
            }
            if prefix.on_link && prefix.length <= 128 {
                ipv6.routes.add_on_link(now, &prefix);
            }
            if prefix.autonomous
                && ipv6.slaac
                && let Some(made) = ipv6.autoconfigure(now, mac, &prefix, &mut self.random)
            {
                event = event.or(Some(made));
            }
        }
        if let Some(link) = message.source_link.filter(|mac| mac.is_unicast()) {
            let heard = self.hear_of(now, router.into(), Claim::of_sender(link));
            event = heard.event().or(event);
        }
        Ok(Disposition::Taken(event))
    }

    fn receive_redirect6(
        &mut self,
        now: Instant,
        router: Ipv6Addr,
        redirect: &Redirect,
    ) -> Result<Disposition, Ignored> {
        if !self.redirected(now, router, redirect) {
            return Err(Ignored::UnexpectedIcmpError);
        }
        let target = redirect.target;
        let event = redirect
            .target_link
            .filter(|mac| mac.is_unicast())
            .and_then(|link| {
                let claim = Claim::of_sender(link);
                self.hear_of(now, target.into(), claim).event()
            });
        Ok(Disposition::Taken(event))
    }

    fn poll_router_solicitation(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let ipv6 = self.ipv6.as_mut()?;
        if !ipv6.routes.overdue(now) {
            return None;
        }
        let length = write_router_solicitation(self.mac, ipv6.link_local_source(), buffer);
        Some(Reaction {
            transmit: length.map(|length| Transmit { length, ping: None }),
            event: None,
        })
    }
}
