//! Programs for the kernel (`bpf(2)`): how one is loaded with its maps, and what those of ours have in common.
//!
//! Objects are read and maps made by `aya`. Its own loader begins by reading all that the kernel says of its types, five
//! megabytes that no program of ours asks for: 25 ms, and 2 MB that a process keeps.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use aya::Pod;
use aya::maps::{Map, MapData, MapError};
use aya_obj::Object;
use aya_obj::generated::{bpf_attach_type, bpf_prog_type};
use nix::errno::Errno;
use nix::libc;
use rustc_hash::FxHashMap;

use super::error::SystemError;
use crate::wire::MacAddr;

/// Programs in the kernel and their maps, by name.
pub(super) struct Loaded {
    programs: HashMap<String, OwnedFd>,
    maps: HashMap<String, MapData>,
}

/// The kind of a program.
#[derive(Clone, Copy)]
pub(super) enum ProgramKind {
    /// Any but those that follow.
    Plain(bpf_prog_type),
    /// At a tracepoint, whose arguments have types: the number of that of its function (`KernelTypes::tracepoint`). It reads
    /// the kernel's structures directly.
    Typed(u32),
}

impl From<bpf_prog_type> for ProgramKind {
    fn from(kind: bpf_prog_type) -> ProgramKind {
        ProgramKind::Plain(kind)
    }
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
    Map(#[from] MapError),
    #[error("the kernel refuses it: {}", .0.desc())]
    Refused(Errno),
}

/// Who may have programs run at tracepoints.
const TRACERS: &str = "expected root (CAP_BPF and CAP_PERFMON, outside of user namespaces)";

/// The error that the kernel refuses to `operation` by programs at tracepoints, with who may.
pub(super) fn untraced(operation: impl Into<String>, errno: Errno) -> SystemError {
    SystemError::kernel(operation, errno).advise(TRACERS)
}

impl LoadError {
    /// The error that programs at tracepoints could not be loaded to `operation`.
    pub(super) fn of_tracing(self, operation: &str) -> SystemError {
        match self {
            LoadError::Refused(errno) => untraced(operation, errno),
            error => SystemError::refused(operation, chain(&error)),
        }
    }
}

impl Loaded {
    /// Loads `programs` of an object, each of a type, with maps of as many entries as `entries` says of those that it names
    /// and `constants` in place of the object's, as they are in memory.
    pub(super) fn new(
        object: &[u8],
        programs: &[(&str, impl Into<ProgramKind> + Copy)],
        entries: &[(&str, u32)],
        constants: &[(&str, &[u8])],
    ) -> Result<Loaded, LoadError> {
        let mut object = Object::parse(object)?;
        let globals = constants
            .iter()
            .map(|(name, value)| (*name, (*value, true)));
        object.patch_map_data(globals.collect())?;
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
            let made = MapData::create(plain, name.trim_start_matches('.'), None);
            let made = made.map_err(map_refused)?;
            if !map.data().is_empty() {
                fill_constants(made.fd().as_fd(), map.data()).map_err(LoadError::Refused)?;
            }
            maps.push((made, map, name));
        }
        let sections: HashSet<usize> = object.functions.keys().map(|(index, _)| *index).collect();
        object.relocate_maps(
            maps.iter()
                .map(|(made, map, name)| (name.as_str(), made.fd().as_fd().as_raw_fd(), map)),
            &sections,
        )?;
        let mut loaded = Loaded {
            programs: HashMap::new(),
            maps: HashMap::new(),
        };
        for (name, kind) in programs {
            let missing = || LoadError::Missing((*name).to_owned());
            let program = object.programs.get(*name).ok_or_else(missing)?;
            let function = object.functions.get(&program.function_key());
            let instructions = &function.ok_or_else(missing)?.instructions;
            let (kind, attach_type, attach_btf_id) = match (*kind).into() {
                ProgramKind::Plain(kind) => (kind, 0, 0),
                ProgramKind::Typed(id) => (
                    bpf_prog_type::BPF_PROG_TYPE_TRACING,
                    bpf_attach_type::BPF_TRACE_RAW_TP as u32,
                    id,
                ),
            };
            let load = ProgramLoad {
                kind: kind as u32,
                attach_type,
                attach_btf_id,
                instruction_count: instructions.len() as u32,
                instructions: instructions.as_ptr() as u64,
                license: program.license.as_ptr() as u64,
                ..ProgramLoad::default()
            };
            #[allow(unsafe_code)]
            // SAFETY: the kernel reads as many instructions as there are and a string that ends in NUL, which outlive the call.
            let program = unsafe { bpf(PROGRAM_LOAD, &load) };
            #[allow(unsafe_code)]
            // SAFETY: the kernel has just made this descriptor for us.
            let program = unsafe { OwnedFd::from_raw_fd(program.map_err(LoadError::Refused)?) };
            loaded.programs.insert((*name).to_owned(), program);
        }
        let made = maps.into_iter().map(|(made, _, name)| (name, made));
        loaded.maps.extend(made);
        Ok(loaded)
    }

    /// Takes the program of that name.
    pub(super) fn program(&mut self, name: &str) -> Result<OwnedFd, LoadError> {
        let program = self.programs.remove(name);
        program.ok_or_else(|| LoadError::Missing(name.to_owned()))
    }

    /// Takes the map of that name.
    pub(super) fn map<M: TryFrom<Map, Error = MapError>>(
        &mut self,
        name: &str,
    ) -> Result<M, LoadError> {
        Ok(Map::from_map_data(self.plain_map(name)?)?.try_into()?)
    }

    /// Takes the map of that name, whatever its kind.
    pub(super) fn plain_map(&mut self, name: &str) -> Result<MapData, LoadError> {
        let map = self.maps.remove(name);
        map.ok_or_else(|| LoadError::Missing(name.to_owned()))
    }
}

fn map_refused(error: MapError) -> LoadError {
    match &error {
        MapError::CreateError { io_error, .. } => match io_error.raw_os_error() {
            Some(number) => LoadError::Refused(Errno::from_raw(number)),
            None => LoadError::Map(error),
        },
        _ => LoadError::Map(error),
    }
}

/// Has the kernel run a [typed](ProgramKind::Typed) program at its tracepoint, until what is returned is closed.
pub(super) fn attach_to_tracepoint(program: &OwnedFd) -> Result<OwnedFd, Errno> {
    let attach = TracepointOpen {
        name: 0,
        program: program.as_raw_fd() as u32,
        unused: 0,
    };
    #[allow(unsafe_code)]
    // SAFETY: the kernel reads numbers, of which none is an address.
    let link = unsafe { bpf(RAW_TRACEPOINT_OPEN, &attach) }?;
    #[allow(unsafe_code)]
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// Fills a map of constants, which nobody can change from then on.
fn fill_constants(map: BorrowedFd<'_>, data: &[u8]) -> Result<(), Errno> {
    let key = 0u32;
    let element = MapElement {
        map: map.as_raw_fd() as u32,
        key: &raw const key as u64,
        value: data.as_ptr() as u64,
        ..MapElement::default()
    };
    #[allow(unsafe_code)]
    // SAFETY: the kernel reads the key and the one value of the map, which has the size of the data; both outlive the call.
    unsafe { bpf(MAP_UPDATE, &element) }?;
    #[allow(unsafe_code)]
    // SAFETY: the kernel reads a number.
    unsafe { bpf(MAP_FREEZE, &(map.as_raw_fd() as u32)) }?;
    Ok(())
}

/// Sets an element of a map.
fn update_element<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> Result<(), Errno> {
    let element = MapElement {
        map: map.as_raw_fd() as u32,
        key: &raw const *key as u64,
        value: &raw const *value as u64,
        ..MapElement::default()
    };
    #[allow(unsafe_code)]
    // SAFETY: the kernel reads a key and a value of the sizes that the map was made with, which outlive the call.
    unsafe { bpf(MAP_UPDATE, &element) }.map(drop)
}

/// Removes an element of a map.
pub(super) fn delete_element<K: Pod>(map: BorrowedFd<'_>, key: &K) -> Result<(), Errno> {
    let element = MapElement {
        map: map.as_raw_fd() as u32,
        key: &raw const *key as u64,
        ..MapElement::default()
    };
    #[allow(unsafe_code)]
    // SAFETY: the kernel reads a key of the size that the map was made with, which outlives the call.
    unsafe { bpf(MAP_DELETE, &element) }.map(drop)
}

/// Sets elements of a map, by one system call where the kernel knows how (Linux 5.6); all for which there is room.
///
/// # Errors
/// The first refusal.
pub(super) fn set_elements<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> Result<(), Errno> {
    if keys.len() > 1 && update_elements(map, keys, values).is_ok() {
        return Ok(());
    }
    let each = keys.iter().zip(values);
    let set = each.map(|(key, value)| update_element(map, key, value));
    set.fold(Ok(()), Result::and)
}

/// Sets many elements of a map.
fn update_elements<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> Result<(), Errno> {
    let elements = MapElements {
        map: map.as_raw_fd() as u32,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len().min(values.len()) as u32,
        ..MapElements::default()
    };
    #[allow(unsafe_code)]
    // SAFETY: the kernel reads so many keys and values of the sizes that the map was made with, which outlive the call.
    unsafe { bpf(MAP_UPDATE_BATCH, &elements) }.map(drop)
}

/// The number of an error of the kernel's.
pub(super) fn errno_of(error: MapError) -> Errno {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
    .map_or(Errno::EIO, Errno::from_raw)
}

/// Calls `bpf(2)` with a command and its argument. Returns a descriptor where the command makes one.
///
/// # Safety
/// What the argument points to must be what the command expects, and outlive the call.
#[allow(unsafe_code)]
unsafe fn bpf<A>(command: libc::c_int, argument: &A) -> Result<RawFd, Errno> {
    // SAFETY: the kernel reads no more of the argument than its size; the rest is the caller's promise.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const *argument,
            size_of_val(argument),
        )
    };
    Errno::result(returned).map(|returned| returned as RawFd)
}

/// Commands of `linux/bpf.h`.
const MAP_UPDATE: libc::c_int = 2;
const MAP_DELETE: libc::c_int = 3;
const PROGRAM_LOAD: libc::c_int = 5;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const MAP_FREEZE: libc::c_int = 22;
const MAP_UPDATE_BATCH: libc::c_int = 26;

/// The argument of `BPF_MAP_UPDATE_ELEM` and `BPF_MAP_DELETE_ELEM`.
#[repr(C)]
#[derive(Default)]
struct MapElement {
    map: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The argument of `BPF_MAP_UPDATE_BATCH`.
#[repr(C)]
#[derive(Default)]
struct MapElements {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// The argument of `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
struct TracepointOpen {
    name: u64,
    program: u32,
    unused: u32,
}

/// The argument of `BPF_PROG_LOAD`. A kernel that knows less of it takes the rest if that is all zeros.
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
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
    types: u32,
    function_size: u32,
    functions: u64,
    function_count: u32,
    line_size: u32,
    lines: u64,
    line_count: u32,
    attach_btf_id: u32,
}

/// Which TAPs want the frames that a key stands for: in the map, the number of the one that does, or 0 if several do.
pub(super) struct Claims<K> {
    map: MapData,
    claimants: FxHashMap<K, Claimants>,
    /// Keys that there is room for.
    capacity: usize,
    /// Keys that are to be written into the map.
    unwritten: Vec<K>,
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
    /// None yet, with room for that many keys in the map, whose keys are `K` and whose values are numbers of TAPs.
    pub(super) fn new(map: MapData, capacity: u32) -> Claims<K> {
        Claims {
            map,
            claimants: FxHashMap::default(),
            capacity: capacity as usize,
            unwritten: Vec::new(),
        }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.claimants.len()
    }

    /// Returns true if there was room. Nothing is changed if not. It stands in the map once that is [written](Claims::write).
    pub(super) fn add(&mut self, key: K, number: u32) -> bool {
        if self.claimants.len() >= self.capacity && !self.claimants.contains_key(&key) {
            return false;
        }
        let claimants = self.claimants.entry(key).or_default();
        claimants.count += 1;
        claimants.combined ^= number;
        self.unwritten.push(key);
        true
    }

    /// Writes what was added into the map.
    ///
    /// # Errors
    /// When the kernel refuses; some of it may be written.
    pub(super) fn write(&mut self) -> Result<(), Errno> {
        let claimed = self.unwritten.drain(..).filter_map(|key| {
            let claimants = self.claimants.get(&key)?;
            Some((key, claimants.port()))
        });
        let (keys, values): (Vec<K>, Vec<u32>) = claimed.unzip();
        set_elements(self.map.fd().as_fd(), &keys, &values)
    }

    pub(super) fn remove(&mut self, key: K, number: u32) {
        let Some(claimants) = self.claimants.get_mut(&key) else {
            return;
        };
        claimants.count -= 1;
        claimants.combined ^= number;
        // Nothing of this takes room that is not there.
        let map = self.map.fd().as_fd();
        let _ = if claimants.count == 0 {
            self.claimants.remove(&key);
            delete_element(map, &key)
        } else {
            update_element(map, &key, &claimants.port())
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
