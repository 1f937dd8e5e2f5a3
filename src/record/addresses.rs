//! How VMs came by their addresses, kept them, and shared them with others.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vm::VmId;
use crate::wire::MacAddr;

/// So many conflicts are told one by one; all are counted.
pub const MAX_CONFLICTS: usize = 64;

/// Leases and conflicts of the VMs' addresses.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Addresses {
    /// Addresses that DHCP servers granted.
    pub leased: u64,
    /// Times that a server granted one for longer.
    pub renewed: u64,
    /// Addresses whose lease ran out or was taken back.
    pub lost: u64,
    /// How long the pings waited for VMs to get their addresses, in nanoseconds.
    #[serde(default)]
    pub waited_ns: u64,
    /// VMs that had none when the pings began nevertheless.
    #[serde(default)]
    pub missing: u64,
    /// Other stations that claimed a VM's address, at most [`MAX_CONFLICTS`].
    pub conflicts: Vec<Conflict>,
}

/// A VM and another station that claim the same address (RFC 5227).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Conflict {
    /// The VM, such as `vm0`.
    pub vm: String,
    /// The address.
    pub address: IpAddr,
    /// The other station.
    pub mac: String,
    /// How often it claimed the address.
    pub times: u64,
}

impl Addresses {
    /// Returns true if nothing happened.
    pub fn is_empty(&self) -> bool {
        *self == Addresses::default()
    }

    /// Notes that the station `mac` claims the address of `vm`.
    pub fn conflict(&mut self, vm: VmId, address: IpAddr, mac: MacAddr) {
        let conflict = Conflict {
            vm: vm.to_string(),
            address,
            mac: mac.to_string(),
            times: 1,
        };
        self.add(conflict);
    }

    /// Takes in what happened in another run.
    pub fn merge(&mut self, other: &Addresses) {
        self.leased = self.leased.saturating_add(other.leased);
        self.renewed = self.renewed.saturating_add(other.renewed);
        self.lost = self.lost.saturating_add(other.lost);
        self.waited_ns = self.waited_ns.max(other.waited_ns);
        self.missing = self.missing.saturating_add(other.missing);
        other
            .conflicts
            .iter()
            .for_each(|each| self.add(each.clone()));
    }

    fn add(&mut self, new: Conflict) {
        let known = self.conflicts.iter_mut().find(|known| {
            (&known.vm, &known.address, &known.mac) == (&new.vm, &new.address, &new.mac)
        });
        if let Some(known) = known {
            known.times = known.times.saturating_add(new.times);
        } else if self.conflicts.len() < MAX_CONFLICTS {
            self.conflicts.push(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_told_once_each_with_their_number_and_are_bounded() {
        let mut addresses = Addresses::default();
        let address = IpAddr::from([10, 77, 0, 2]);
        for i in 0..200u8 {
            for _ in 0..3 {
                addresses.conflict(VmId(0), address, MacAddr([2, 0, 0, 0, 0, i]));
            }
        }
        assert_eq!(addresses.conflicts.len(), MAX_CONFLICTS);
        assert!(
            addresses
                .conflicts
                .iter()
                .all(|conflict| conflict.times == 3)
        );
        let once = addresses.clone();
        addresses.merge(&once);
        assert!(
            addresses
                .conflicts
                .iter()
                .all(|conflict| conflict.times == 6)
        );
        assert_eq!(addresses.conflicts.len(), MAX_CONFLICTS);
    }
}
