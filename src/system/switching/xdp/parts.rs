//! What a switch consists of, and how processes that share one get it: the launcher of ranks loads it and starts them with its
//! descriptors open.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::str::FromStr;

use aya::maps::{HashMap as BpfHashMap, Map, MapData, MapError};
use aya_obj::generated::{BPF_NOEXIST, bpf_prog_type};
use nix::errno::Errno;

use super::refused;
use crate::system::bpf::{Claims, Loaded, chain};
use crate::system::error::SystemError;
use crate::system::inherited::{set_inherited, take_inherited};
use crate::system::limits::SPARE_VMS;

const OBJECT: &[u8] = aya::include_bytes_aligned!("switch.o");
const PROGRAM: &str = "tap_switch";
/// Groups that there is room for, for each VM.
const GROUPS_OF_A_VM: u32 = 4;

/// The loaded program, and its maps.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) program: OwnedFd,
    /// `ports`, `stations`, `owners`, `endings` and `groups` of the program.
    pub(super) maps: [MapData; 5],
}

/// The descriptors of a switch's program and maps that a process has from its launcher, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SwitchDescriptors([RawFd; 6]);

impl fmt::Display for SwitchDescriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = self.0.map(|number| number.to_string());
        f.write_str(&numbers.join(","))
    }
}

impl FromStr for SwitchDescriptors {
    type Err = ();

    fn from_str(text: &str) -> Result<SwitchDescriptors, ()> {
        let numbers = text.split(',').map(RawFd::from_str);
        let numbers: Vec<RawFd> = numbers.collect::<Result<_, _>>().map_err(|_| ())?;
        numbers.try_into().map(SwitchDescriptors).map_err(|_| ())
    }
}

/// A switch for ranks that this process starts.
#[derive(Debug)]
pub struct SharedSwitch(Parts);

impl SharedSwitch {
    /// Loads the program, with maps for that many VMs of all ranks.
    ///
    /// # Errors
    /// When the kernel does not let us, or does not know such programs.
    pub fn load(vms: u32) -> Result<SharedSwitch, SystemError> {
        Parts::load(vms).map(SharedSwitch)
    }

    /// Has processes that this one starts from now on inherit it. It is there for as long as this value is.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn pass_on(&self) -> Result<SwitchDescriptors, SystemError> {
        let descriptors = self.0.descriptors();
        for descriptor in descriptors {
            set_inherited(descriptor, true, INHERITING)?;
        }
        Ok(SwitchDescriptors(descriptors.map(|one| one.as_raw_fd())))
    }
}

impl Parts {
    pub(super) fn load(vms: u32) -> Result<Parts, SystemError> {
        let entries = vms.saturating_add(SPARE_VMS);
        let mut loaded = Loaded::new(
            OBJECT,
            &[(PROGRAM, bpf_prog_type::BPF_PROG_TYPE_XDP)],
            &[
                ("ports", entries),
                ("stations", entries),
                ("owners", entries),
                ("groups", room_for_groups(vms)),
            ],
            &[],
        )
        .map_err(refused)?;
        let mut map = |name| loaded.plain_map(name).map_err(refused);
        let maps = [
            map("ports")?,
            map("stations")?,
            map("owners")?,
            map("endings")?,
            map("groups")?,
        ];
        let program = loaded.program(PROGRAM).map_err(refused)?;
        Ok(Parts { program, maps })
    }

    /// Those that the launcher of this process has passed on.
    pub(super) fn inherited(
        SwitchDescriptors(numbers): SwitchDescriptors,
    ) -> Result<Parts, SystemError> {
        let take = |number| take_inherited(number, INHERITING);
        let map = |number| {
            let data = MapData::from_fd(take(number)?);
            data.map_err(|error| SystemError::refused(INHERITING, chain(&error)))
        };
        let [program, ports, stations, owners, endings, groups] = numbers;
        Ok(Parts {
            program: take(program)?,
            maps: [
                map(ports)?,
                map(stations)?,
                map(owners)?,
                map(endings)?,
                map(groups)?,
            ],
        })
    }

    fn descriptors(&self) -> [BorrowedFd<'_>; 6] {
        let [ports, stations, owners, endings, groups] =
            self.maps.each_ref().map(|map| map.fd().as_fd());
        [
            self.program.as_fd(),
            ports,
            stations,
            owners,
            endings,
            groups,
        ]
    }
}

const INHERITING: &str = "take the XDP switch from the process that has started this rank";

const fn room_for_groups(vms: u32) -> u32 {
    vms.saturating_add(SPARE_VMS).saturating_mul(GROUPS_OF_A_VM)
}

/// Which VM is in a group, if it is one.
pub(super) enum Groups {
    /// This process has all VMs.
    Own(Claims<u64>),
    /// Others have some: what stands in the map counts.
    Shared(BpfHashMap<MapData, u64, u32>),
}

/// What the map says of a group that several are in.
const SEVERAL: u32 = 0;

impl Groups {
    pub(super) fn new(map: MapData, vms: u32, is_shared: bool) -> Result<Groups, MapError> {
        Ok(match is_shared {
            true => Groups::Shared(Map::HashMap(map).try_into()?),
            false => Groups::Own(Claims::new(map, room_for_groups(vms))),
        })
    }

    /// The VM at `place` is in these groups, too. Returns true if there was room for all.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn add(&mut self, groups: &[u64], place: u32) -> Result<bool, Errno> {
        match self {
            Groups::Own(claims) => {
                let mut has_room = true;
                for group in groups {
                    has_room &= claims.add(*group, place + 1);
                }
                claims.write().map(|()| has_room)
            }
            Groups::Shared(map) => {
                let mut put = |group: &u64| {
                    let is_first = map.insert(group, place + 1, BPF_NOEXIST.into()).is_ok();
                    is_first
                        || map.get(group, 0).is_ok_and(|only| only == place + 1)
                        || map.insert(group, SEVERAL, 0).is_ok()
                };
                let without_room = groups.iter().filter(|group| !put(group));
                Ok(without_room.count() == 0)
            }
        }
    }

    /// The VM at `place` is not in these groups any more.
    pub(super) fn remove(&mut self, groups: &[u64], place: u32) {
        for group in groups {
            match self {
                Groups::Own(claims) => claims.remove(*group, place + 1),
                // Of a group that several were in it is not known who is left: it stays one of several.
                Groups::Shared(map) => {
                    if map.get(group, 0).is_ok_and(|only| only == place + 1) {
                        let _ = map.remove(group);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_read_as_they_were_told() {
        let descriptors = SwitchDescriptors([3, 4, 5, 6, 7, 18]);
        assert_eq!(descriptors.to_string().parse(), Ok(descriptors));
        for text in ["", "3,4,5", "3,4,5,6,7,x", "1,2,3,4,5,6,7"] {
            assert!(text.parse::<SwitchDescriptors>().is_err(), "{text}");
        }
    }
}
