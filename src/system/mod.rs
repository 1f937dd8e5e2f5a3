//! TAPs, bridges, namespaces, netlink: everything that needs a privilege, and all of the crate's `unsafe`.
//!
//! [`TapFabric`] is what a run uses: it enters the namespace, makes the bridge, gives each VM a TAP and takes it all
//! away at the end. The other modules are its parts, one kernel interface each. Set-up errors are
//! [`SystemError`]s that name the operation and its object and abort; what goes wrong with a frame is an outcome
//! ([`crate::fabric::Read`], [`crate::fabric::Write`]), never an error.

mod arp_proxy;
mod bpf;
mod clean;
mod drops;
mod error;
mod filter;
mod hook;
mod lab_config;
mod limits;
mod link_monitor;
mod machine;
mod mark;
mod memory;
mod name_rules;
mod namespace;
mod namespace_file;
mod namespace_watch;
mod netlink;
mod preflight;
mod run_delay;
mod signals;
mod stream;
mod switching;
mod sysctl;
mod tap;
mod tap_fabric;
mod timer;
mod traffic_control;
mod vlan_table;

pub use clean::{Cleaned, clean};
pub use error::SystemError;
pub use filter::FilterKind;
pub use hook::{HookEnd, HookEvent, run_hook};
pub use lab_config::{
    DEFAULT_BRIDGE, DEFAULT_MTU, DEFAULT_TAP_PREFIX, FabricKind, LabConfig, Neighbours,
    NetnsChoice, Prepared,
};
pub use limits::{ensure_descriptors, raise_descriptor_limit};
pub use machine::{Machine, machine};
pub use mark::{Mark, Owner, Presence};
pub use memory::{MemoryUse, available_bytes, memory_use, resident_bytes};
pub use name_rules::{validate_interface_name, validate_namespace_name};
pub use namespace::Namespace;
pub use netlink::bridge::VlanFilter;
pub use netlink::{BridgePlan, Link, LinkChange, LinkKind, Netlink};
pub use run_delay::RunDelay;
pub use signals::StopSignals;
pub use stream::{ROOM, Stream, has_room, terminal_width};
pub use switching::joined::ExistingBridge;
pub use tap::Tap;
pub use tap_fabric::{FIRST_TAP_TOKEN, LINKS_TOKEN, TapFabric, token_of, vm_of};
pub use timer::DeadlineTimer;
pub use vlan_table::VlanFiltering;
