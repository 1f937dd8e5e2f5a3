//! TAPs, bridges, namespaces, netlink: everything that needs a privilege, and all of the crate's `unsafe`.
//!
//! [`TapFabric`] is what a run uses: it enters the namespace, makes the bridge, gives each VM a TAP and takes it all
//! away at the end. The other modules are its parts, one kernel interface each. Set-up errors are
//! [`SystemError`]s that name the operation and its object and abort; what goes wrong with a frame is an outcome
//! ([`crate::fabric::Read`], [`crate::fabric::Write`]), never an error.

mod arp_proxy;
mod bpf;
mod clean;
mod client_socket;
mod control_socket;
mod drop_watch;
mod drops;
mod error;
mod fdb_monitor;
mod filter;
mod hook;
mod inherited;
mod interface_fabric;
mod kernel_fabric;
mod kernel_types;
mod kernel_wait;
mod lab_config;
mod launcher;
mod limits;
mod link_monitor;
mod listener;
mod machine;
mod mapping;
mod mark;
mod meeting_socket;
mod memory;
mod name_rules;
mod namespace;
mod namespace_file;
mod namespace_watch;
mod netlink;
mod outside;
mod packet_socket;
mod path_stamps;
mod poll_handle;
mod preflight;
mod route_monitor;
mod run_delay;
mod shared_memory;
mod side_namespace;
mod signals;
mod sink;
mod stream;
mod switching;
mod sysctl;
mod tap;
mod tap_fabric;
mod terminal;
mod timer;
mod token;
mod traffic_control;
mod transcript;
mod vlan_table;

// What a plan, a lab and a fabric of TAPs are made of.
pub use clean::{Cleaned, clean};
pub use client_socket::{ClientSocket, Peer};
pub use control_socket::ControlSocket;
pub use error::SystemError;
pub use filter::FilterKind;
pub use interface_fabric::InterfaceFabric;
pub use kernel_fabric::KernelFabric;
pub use lab_config::{
    DEFAULT_BRIDGE, DEFAULT_MTU, DEFAULT_TAP_PREFIX, DEFAULT_VMS, FabricKind, InterfacePort,
    LabConfig, Neighbours, NetnsChoice, Prepared, Sharing,
};
pub use listener::Listener;
pub use meeting_socket::MeetingAddress;
pub use memory::allocated_bytes;
pub use name_rules::{validate_interface_name, validate_namespace_name};
pub use namespace_file::is_namespace_there;
pub use outside::{OtherRanks, Outside, Peers, Underlay};
pub use poll_handle::{FabricHandles, PollHandle};
pub use signals::StopSignals;
pub use tap_fabric::{OUTAGE_IS_SIMULATED, TapFabric};
pub use vlan_table::VlanFiltering;

// Public for this crate's program alone.
#[doc(hidden)]
pub use kernel_wait::KernelWait;
#[doc(hidden)]
pub use launcher::{
    Crew, NO_SECRET, RANK_VARIABLE, SECRET_EXPECTED, SECRET_VARIABLE, begin_rank,
    enter_shared_namespace, processors,
};
#[doc(hidden)]
pub use meeting_socket::nonce;
#[doc(hidden)]
pub use shared_memory::{MemoryDescriptor, SharedMemory, SharedWords};
#[doc(hidden)]
pub use signals::{EarlySignals, SignalsBetween};
#[doc(hidden)]
pub use sink::{is_output_terminal, numbered, ring_number};
#[doc(hidden)]
pub use stream::{Stream, has_room};
#[doc(hidden)]
pub use terminal::{DisplaySignals, Keys, Woken, end_by, terminal_size};
#[doc(hidden)]
pub use token::{read_secret, read_token};
#[doc(hidden)]
pub use transcript::Transcript;

// Public for this crate's tests and benchmarks alone, which look at the kernel's side of a lab.
#[doc(hidden)]
pub use limits::raise_descriptor_limit;
#[doc(hidden)]
pub use mark::{Mark, Owner, Presence};
#[doc(hidden)]
pub use netlink::{BridgePlan, Link, LinkChange, LinkKind, Netlink};
#[doc(hidden)]
pub use packet_socket::PacketSocket;
#[doc(hidden)]
pub use tap::Tap;

pub(crate) use client_socket::SocketSink;
pub(crate) use drop_watch::{DESCRIPTORS_OF_A_DROP_WATCH, check_drop_watch};
pub(crate) use hook::{HookEnd, HookEvent, run_hook};
pub(crate) use interface_fabric::DESCRIPTORS_OF_AN_INTERFACE;
pub(crate) use limits::{SPARE_VMS, ensure_limit, open_descriptors};
pub(crate) use machine::{kernel_release, machine};
pub(crate) use meeting_socket::{MeetingListener, host_name};
pub(crate) use memory::{available_bytes, memory_use};
pub(crate) use outside::{ExistingLink, Probed, UnderlayProbe};
pub(crate) use path_stamps::{DESCRIPTORS_OF_PATH_STAMPS, check_path_stamps};
pub(crate) use run_delay::RunDelay;
pub(crate) use side_namespace::DESCRIPTORS_OF_A_NAMESPACE;
pub(crate) use sink::{is_written_at_once, old_ring_file, open_sink};
pub(crate) use switching::joined::ExistingBridge;
pub use switching::xdp::{SharedSwitch, SwitchDescriptors};
pub(crate) use timer::DeadlineTimer;

/// Asks again and again until `is_closed`, for a descriptor that a test has closed: a process that another test has just
/// forked has a copy of it until it executes its program.
#[cfg(test)]
fn wait_until_closed(mut is_closed: impl FnMut() -> bool) {
    use crate::time::{Clock, MonotonicClock};
    let deadline = MonotonicClock.now() + std::time::Duration::from_secs(30);
    while !is_closed() {
        assert!(MonotonicClock.now() < deadline, "still open");
        std::thread::yield_now();
    }
}
