//! Programs for the kernel (`bpf(2)`): how one is loaded with its maps, and what those of ours have in common.
//!
//! Objects are read and maps made by `aya`. Its own loader begins by reading all that the kernel says of its types, five
//! megabytes that no program of ours asks for: 25 ms, and 2 MB that a process keeps.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use aya::Pod;
use aya::maps::{HashMap as BpfHashMap, Map, MapData};
use aya_obj::Object;
use aya_obj::generated::bpf_prog_type;
use nix::errno::Errno;
use nix::libc;
use rustc_hash::FxHashMap;

use crate::wire::MacAddr;

/// A program in the kernel, and its maps by name.
pub(super) struct Loaded {
    pub(super) program: OwnedFd,
    maps: HashMap<String, MapData>,
}

/// Why a program could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("its object can't be read")]
    Object(#[from] aya_obj::ParseError),
    #[error("its object does not hang together")]
    Relocation(#[from] aya_obj::relocation::EbpfRelocationError),
    #[error("its object has no {0}")]
    Missing(String),
    #[error("a map of its can't be made")]
    Map(#[from] aya::maps::MapError),
    #[error("the kernel refuses it: {}", .0.desc())]
    Refused(Errno),
}

impl Loaded {
    /// Loads the program of that name and type, with maps of as many entries as `entries` says of those that it names.
    pub(super) fn new(
        object: &[u8],
        (name, kind): (&str, bpf_prog_type),
        entries: &[(&str, u32)],
    ) -> Result<Loaded, LoadError> {
        let missing = || LoadError::Missing(name.to_owned());
        let mut object = Object::parse(object)?;
        let mut maps = Vec::new();
        for (name, map) in std::mem::take(&mut object.maps) {
            let planned = entries.iter().find(|(named, _)| *named == name);
            // Without the object's own types, which the kernel would want to have been told.
            let plain = aya_obj::Map::new_from_params(
                map.map_type(),
                map.key_size(),
                map.value_size(),
                planned.map_or(map.max_entries(), |(_, entries)| *entries),
                map.map_flags(),
            );
            maps.push((MapData::create(plain, &name, None)?, map, name));
        }
        let sections: HashSet<usize> = object.functions.keys().map(|(index, _)| *index).collect();
        object.relocate_maps(
            maps.iter()
                .map(|(made, map, name)| (name.as_str(), made.fd().as_fd().as_raw_fd(), map)),
            &sections,
        )?;
        let program = object.programs.get(name).ok_or_else(missing)?;
        let function = object.functions.get(&program.function_key());
        let instructions = &function.ok_or_else(missing)?.instructions;
        let load = ProgramLoad {
            kind: kind as u32,
            instruction_count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            license: program.license.as_ptr() as u64,
            ..ProgramLoad::default()
        };
        #[allow(unsafe_code)]
        // SAFETY: the kernel reads as many instructions as there are and a string that ends in NUL, which outlive the call.
        let descriptor = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                PROGRAM_LOAD,
                &raw const load,
                size_of_val(&load),
            )
        };
        let descriptor = Errno::result(descriptor).map_err(LoadError::Refused)? as RawFd;
        #[allow(unsafe_code)]
        // SAFETY: the kernel has just made this descriptor for us.
        let program = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Loaded {
            program,
            maps: maps
                .into_iter()
                .map(|(made, _, name)| (name, made))
                .collect(),
        })
    }

    /// Takes the map of that name.
    pub(super) fn map<M: TryFrom<Map, Error = aya::maps::MapError>>(
        &mut self,
        name: &str,
    ) -> Result<M, LoadError> {
        let map = self.maps.remove(name);
        let map = map.ok_or_else(|| LoadError::Missing(name.to_owned()))?;
        Ok(Map::from_map_data(map)?.try_into()?)
    }
}

/// `BPF_PROG_LOAD` of `linux/bpf.h`.
const PROGRAM_LOAD: libc::c_int = 5;

/// Its argument, as far as the oldest kernel knows it.
#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// Which TAPs want the frames that a key stands for: in the map, the number of the one that does, or 0 if several do.
pub(super) struct Claims<K: Pod> {
    map: BpfHashMap<MapData, K, u32>,
    claimants: FxHashMap<K, Claimants>,
}

#[derive(Clone, Copy, Default)]
struct Claimants {
    count: u32,
    /// The numbers of all of them, by exclusive or: of the last one it is the number.
    combined: u32,
}

impl Claimants {
    /// The value that the program goes by: which TAP it is, or that there are several.
    fn port(self) -> u32 {
        if self.count == 1 { self.combined } else { 0 }
    }
}

impl<K: Pod + Eq + Hash> Claims<K> {
    pub(super) fn new(map: BpfHashMap<MapData, K, u32>) -> Claims<K> {
        Claims {
            map,
            claimants: FxHashMap::default(),
        }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.claimants.len()
    }

    /// Returns true if there was room. Nothing is changed if not.
    pub(super) fn add(&mut self, key: K, number: u32) -> bool {
        let mut claimants = self.claimants.get(&key).copied().unwrap_or_default();
        claimants.count += 1;
        claimants.combined ^= number;
        let has_room = self.map.insert(key, claimants.port(), 0).is_ok();
        if has_room {
            self.claimants.insert(key, claimants);
        }
        has_room
    }

    pub(super) fn remove(&mut self, key: K, number: u32) {
        let Some(claimants) = self.claimants.get_mut(&key) else {
            return;
        };
        claimants.count -= 1;
        claimants.combined ^= number;
        // Nothing of this takes room that is not there.
        let _ = if claimants.count == 0 {
            self.claimants.remove(&key);
            self.map.remove(&key)
        } else {
            self.map.insert(key, claimants.port(), 0)
        };
    }
}

/// The address's bytes from the last to the first, as the programs make their keys.
pub(super) fn mac_key(mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([0, 0, f, e, d, c, b, a])
}

/// The address as it stands in a packet.
pub(super) fn address_key(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some repeat their cause.
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text.lines().next().unwrap_or_default().to_owned()
}
