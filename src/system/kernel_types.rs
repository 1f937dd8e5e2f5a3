//! Types of the running kernel, as it describes them itself (BTF, `Documentation/bpf/btf.rst` of its source): where the
//! members of a structure are, and what the numbers of an enumeration mean. Both differ from kernel to kernel.
//!
//! Only what is asked for is looked at of the five megabytes that there are, in the kernel's own memory where it lets us (Linux
//! 6.16): to have them copied, a page by each system call, takes most of the time of making a small lab. Nothing is kept. `aya_obj` has a reader
//! too (`Btf`), by which it could relocate what the program reads (CO-RE); but that makes an object of each of the kernel's
//! types before it finds one, and keeps to itself what the numbers of an enumeration mean, so that reasons would need this
//! reader all the same.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;

use nix::libc::c_void;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::error::SystemError;

/// Where the kernel describes its types.
const FILE: &str = "/sys/kernel/btf/vmlinux";
/// The first two bytes of the description, as a little-endian processor has them.
const MAGIC: [u8; 2] = [0x9f, 0xeb];
/// `struct btf_type`.
const TYPE_BYTES: usize = 12;
/// A structure in a structure in a structure … without names of their own.
const DEEPEST: u32 = 8;

/// Kinds of types (`linux/btf.h`).
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const ENUM64: u32 = 19;
}

/// The kernel's description of its types.
enum Description {
    Mapped(Mapping),
    Read(Vec<u8>),
}

impl Description {
    /// Maps it, or reads it where the kernel does not let it be mapped.
    fn open() -> io::Result<Description> {
        match Mapping::of(&File::open(FILE)?) {
            Some(mapping) => Ok(Description::Mapped(mapping)),
            None => fs::read(FILE).map(Description::Read),
        }
    }
}

impl Deref for Description {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Description::Mapped(mapping) => mapping.bytes(),
            Description::Read(bytes) => bytes,
        }
    }
}

/// A file of the kernel's that never changes, in memory.
struct Mapping {
    start: NonNull<c_void>,
    length: NonZeroUsize,
}

impl Mapping {
    /// `None` if the kernel does not map this file.
    fn of(file: &File) -> Option<Mapping> {
        let length = usize::try_from(file.metadata().ok()?.len()).ok()?;
        let length = NonZeroUsize::new(length)?;
        #[allow(unsafe_code)]
        // SAFETY: a mapping at a place of the kernel's choice changes no memory that is in use.
        let mapped = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ,
                MapFlags::MAP_PRIVATE,
                file,
                0,
            )
        };
        let start = mapped.ok()?;
        Some(Mapping { start, length })
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        #[allow(unsafe_code)]
        // SAFETY: so many bytes are mapped until this is dropped, nobody can write them, and the kernel does not either.
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length.get())
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[allow(unsafe_code)]
        // SAFETY: nothing refers to the mapping, which is whole, any more.
        let unmapped = unsafe { munmap(self.start, self.length.get()) };
        // What was mapped can be unmapped.
        let _ = unmapped;
    }
}

/// The types of a kernel.
pub(super) struct KernelTypes {
    bytes: Description,
    /// Where the names begin.
    names: usize,
    /// Where each type begins, by its number from 1 on.
    types: Vec<u32>,
    /// Where those are that were asked for, each with the place of its name among those.
    found: Vec<(usize, usize)>,
    wanted: &'static [&'static str],
}

/// A type, a member or a value: its name's place, and two more numbers.
#[derive(Clone, Copy)]
struct Triple(u32, u32, u32);

impl KernelTypes {
    /// Reads the types of the running kernel, and finds the structures, enumerations and names of types that are asked for.
    ///
    /// # Errors
    /// If the kernel does not describe its types.
    pub(super) fn read(wanted: &'static [&'static str]) -> Result<KernelTypes, SystemError> {
        let operation = || "read the kernel's types (BTF)";
        let bytes = Description::open()
            .map_err(|error| SystemError::io(format!("{} from {FILE}", operation()), &error))?;
        KernelTypes::parse(bytes, wanted).ok_or_else(|| {
            SystemError::refused(operation(), format!("{FILE} is not as expected of BTF"))
        })
    }

    fn parse(bytes: Description, wanted: &'static [&'static str]) -> Option<KernelTypes> {
        if bytes.first_chunk() != Some(&MAGIC) {
            return None;
        }
        let header = number(&bytes, 4)? as usize;
        let section = |at: usize| header.checked_add(number(&bytes, at)? as usize);
        let (start, names) = (section(8)?, section(16)?);
        let end = start.checked_add(number(&bytes, 12)? as usize)?;
        let mut types = KernelTypes {
            bytes,
            names,
            types: Vec::new(),
            found: Vec::new(),
            wanted,
        };
        let mut at = start;
        while at < end {
            types.types.push(u32::try_from(at).ok()?);
            let info = number(&types.bytes, at + 4)?;
            if matches!(kind_of(info), kind::STRUCT | kind::ENUM | kind::TYPEDEF) {
                types.note(at);
            }
            at += TYPE_BYTES + bytes_behind(info);
        }
        Some(types)
    }

    /// Takes note of the type at `at` if it was asked for.
    fn note(&mut self, at: usize) {
        let name = number(&self.bytes, at);
        let is_it = |wanted: &&str| name.is_some_and(|name| self.is_named(name, wanted));
        let place = self.wanted.iter().position(is_it);
        self.found.extend(place.map(|place| (place, at)));
    }

    /// Where the types of that name and kind are.
    fn of(&self, name: &str, kind: u32) -> impl Iterator<Item = usize> {
        let found = self.found.iter();
        let found = found.filter(move |(place, _)| self.wanted.get(*place) == Some(&name));
        let is_kind = move |at: &usize| number(&self.bytes, *at + 4).map(kind_of) == Some(kind);
        found.map(|(_, at)| *at).filter(is_kind)
    }

    /// The place of a member in a structure that was asked for, in bytes.
    ///
    /// # Errors
    /// If the kernel has no such member.
    fn offset_of(&self, structure: &str, member: &str) -> Result<u32, SystemError> {
        let mut structures = self.of(structure, kind::STRUCT);
        let bits = structures.find_map(|at| self.find(at, member, DEEPEST));
        bits.map(|bits| bits / 8).ok_or_else(|| {
            let operation = format!("find member {member} of the kernel's struct {structure}");
            SystemError::refused(operation, "this kernel has none")
        })
    }

    /// The places of `members`, each of a structure, as `struct offsets` of the programs has them: 32 bits each. That of a
    /// namespace (`ns` of `net`) is that of its inode number.
    ///
    /// # Errors
    /// If the kernel has no such member.
    pub(super) fn offsets(&self, members: &[(&str, &str)]) -> Result<Vec<u8>, SystemError> {
        let mut offsets = Vec::with_capacity(members.len() * 4);
        for (structure, member) in members {
            let mut offset = self.offset_of(structure, member)?;
            if (*structure, *member) == ("net", "ns") {
                offset += self.offset_of("ns_common", "inum")?;
            }
            offsets.extend(offset.to_ne_bytes());
        }
        Ok(offsets)
    }

    /// The number of the type of a tracepoint's function that was asked for, such as `btf_trace_net_dev_queue`.
    ///
    /// # Errors
    /// If the kernel has no such tracepoint.
    pub(super) fn tracepoint(&self, name: &str) -> Result<u32, SystemError> {
        let at = self.of(name, kind::TYPEDEF).next();
        let place = at.and_then(|at| {
            let at = u32::try_from(at).ok()?;
            self.types.binary_search(&at).ok()
        });
        // The first one has the number 1.
        place.map(|place| place as u32 + 1).ok_or_else(|| {
            let operation = format!("find the kernel's type {name}");
            SystemError::refused(operation, "this kernel has none")
        })
    }

    /// The numbers and names of an enumeration that was asked for; none if the kernel does not have it.
    pub(super) fn values_of(&self, enumeration: &str) -> Vec<(u32, String)> {
        let mut values = Vec::new();
        for at in self.of(enumeration, kind::ENUM) {
            let info = number(&self.bytes, at + 4).unwrap_or_default();
            for index in 0..length_of(info) {
                let value = at + TYPE_BYTES + index * 8;
                let place = number(&self.bytes, value).and_then(|name| self.name(name));
                values.extend(number(&self.bytes, value + 4).zip(place));
            }
        }
        values
    }

    /// The place of `member` in the structure or union at `at`, in bits, members of nameless members included.
    fn find(&self, at: usize, member: &str, depth: u32) -> Option<u32> {
        let Triple(_, info, _) = triple(&self.bytes, at)?;
        if ![kind::STRUCT, kind::UNION].contains(&kind_of(info)) {
            return None;
        }
        let has_sizes = info >> 31 != 0;
        (0..length_of(info)).find_map(|index| {
            let Triple(name, kind, place) = triple(&self.bytes, at + TYPE_BYTES * (index + 1))?;
            let place = if has_sizes { place & 0xff_ffff } else { place };
            if self.is_named(name, member) {
                return Some(place);
            }
            if self.is_named(name, "") && depth > 0 {
                let inner = *self.types.get((kind as usize).checked_sub(1)?)?;
                return place.checked_add(self.find(inner as usize, member, depth - 1)?);
            }
            None
        })
    }

    fn is_named(&self, place: u32, name: &str) -> bool {
        let rest = self.bytes.get(self.names + place as usize..);
        let rest = rest.and_then(|rest| rest.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    fn name(&self, place: u32) -> Option<String> {
        let rest = self.bytes.get(self.names + place as usize..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        String::from_utf8(rest.get(..end)?.to_vec()).ok()
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*four))
}

fn triple(bytes: &[u8], at: usize) -> Option<Triple> {
    let [a, b, c] = [at, at + 4, at + 8].map(|at| number(bytes, at));
    Some(Triple(a?, b?, c?))
}

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x1f
}

fn length_of(info: u32) -> usize {
    (info & 0xffff) as usize
}

/// The bytes that follow a type.
fn bytes_behind(info: u32) -> usize {
    match kind_of(info) {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * length_of(info),
        kind::ENUM | kind::FUNC_PROTO => 8 * length_of(info),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_says_where_members_are_and_what_reasons_are_called() {
        let types = KernelTypes::read(&["sk_buff", "skb_drop_reason"]).unwrap();
        // Of nameless members, and in a structure that begins with one.
        let inner = types.offset_of("sk_buff", "dev").unwrap();
        let outer = types.offset_of("sk_buff", "head").unwrap();
        assert!(inner < outer, "{inner} {outer}");
        assert_eq!(types.offset_of("sk_buff", "next").unwrap(), 0);
        let error = types.offset_of("sk_buff", "nonsense").unwrap_err();
        assert_eq!(
            error.to_string(),
            "find member nonsense of the kernel's struct sk_buff: this kernel has none"
        );
        types.offset_of("no_such", "next").unwrap_err();
        let tracepoints = KernelTypes::read(&["btf_trace_net_dev_queue"]).unwrap();
        assert_ne!(
            tracepoints.tracepoint("btf_trace_net_dev_queue").unwrap(),
            0
        );
        tracepoints.tracepoint("btf_trace_no_such").unwrap_err();
        let reasons = types.values_of("skb_drop_reason");
        let named = |wanted: &str| reasons.iter().filter(|(_, name)| name == wanted).count();
        assert_eq!(named("SKB_DROP_REASON_NOT_SPECIFIED"), 1);
        assert_eq!(types.values_of("no_such"), []);
    }

    #[test]
    fn the_description_that_is_mapped_is_the_one_that_is_read() {
        let read = fs::read(FILE).unwrap();
        // Older kernels map none.
        if let Some(mapping) = Mapping::of(&File::open(FILE).unwrap()) {
            assert!(*mapping.bytes() == *read);
        }
        assert!(*Description::open().unwrap() == *read);
    }

    #[test]
    fn no_description_makes_it_fail() {
        let whole = fs::read(FILE).unwrap();
        let mut cut = Vec::new();
        for length in [0, 1, 2, 8, 23, 24, 100, 4_096] {
            cut.push(whole[..length].to_vec());
        }
        // A type that says to be larger than all there is.
        let mut huge = whole[..4_096].to_vec();
        huge[28..32].copy_from_slice(&[0xff; 4]);
        cut.push(huge);
        for bytes in cut {
            if let Some(types) = KernelTypes::parse(Description::Read(bytes), &["sk_buff"]) {
                assert!(types.offset_of("sk_buff", "dev").is_err());
            }
        }
    }
}
