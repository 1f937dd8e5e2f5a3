//! A network-only hypervisor in one thread.
//!
//! Every simulated VM is a Linux TAP device on a bridge plus a state machine that never blocks. One [`mio::Poll`] holds
//! every file descriptor; a ping is state with a deadline, not a thread that waits.
//!
//! Users of the program begin with [`guide::first_steps`]. For programs that use the crate:
//!
//! # Public for programs
//!
//! Begin with [`lab::Lab`] and [`guide::using_the_crate`]; `scripts/examples` has four programs. The crate is 0.1: names
//! may still change, these the least.
//!
//! | module | contents | see also |
//! |---|---|---|
//! | [`experiment`] | plans: from a [scenario](experiment::Scenario), or [from code](experiment::Experiment::of_vms) | [`guide::writing_a_scenario`] |
//! | [`lab`] | [`lab::Lab`] runs a plan; [`lab::TapLab`] and [`lab::SimulatedLab`] have its single steps | [`guide::how_it_is_built`] |
//! | [`report`] | [`report::Report`], its formats, expectations, comparisons | [`guide::reading_a_report`] |
//! | [`record`] | metrics, counts and histograms of a report | [`record::Metric`] |
//!
//! # Public for programs that go deeper
//!
//! For VMs with flows of your own, and fabrics of your own. These follow the inner structure, and change with it.
//!
//! | module | contents | see also |
//! |---|---|---|
//! | [`fabric`] | the interface between a hypervisor and what carries its frames; [instruments](fabric::Instrument) that see them | `scripts/examples/custom-fabric.rs` |
//! | [`hypervisor`] | owns VMs, flows and fabric, and routes a frame or a deadline to one of them | [`lab::TapLab::hypervisor`] |
//! | [`load`] | flows and schedules: the source, the destination and the due time of each ping | [`guide::load_experiments`] |
//! | [`vm`] | the state machine of one VM: neighbours, pings, replies | [`guide::vms_on_the_wire`] |
//! | [`wire`] | frames to typed views and back; checksums; independent of the rest | |
//! | [`sim`] | the driver in virtual time, and a switch in memory | [`lab::SimulatedLab`] |
//! | [`time`] | instants and clocks | |
//!
//! # Internal
//!
//! Public for the program, or because a plan names some of their types. No promise is made about the rest of them; what only
//! this crate's own tests and benchmarks use is hidden here.
//!
//! | module | contents |
//! |---|---|
//! | [`reactor`] | the driver in real time: poll, turns, timers, signals. [`reactor::Watcher`] is for a [`lab::Observer`] |
//! | [`system`] | TAPs, bridges, namespaces, netlink: every system call that needs a privilege. [`system::LabConfig`] is part of a plan |
//! | [`control`] | the control socket of `--control`, without I/O: connections, routes, their description |
//! | [`ranks`] | processes that run one plan together, without I/O: their part of it, and the protocol by which they meet |
//! | [`topology`] | the assignment of VMs to bridges |
//! | [`escape`] | text from elsewhere, for a terminal |
//!
#![deny(unsafe_code)]
// The library prints nothing: println! panics when the reader of a pipe has gone.
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![warn(missing_docs)]

pub mod control;
pub mod escape;
pub mod experiment;
pub mod fabric;
pub mod guide;
pub mod hypervisor;
pub mod lab;
pub mod load;
mod number;
pub mod ranks;
pub mod reactor;
pub mod record;
pub mod report;
pub mod search;
pub mod sim;
pub mod system;
pub mod time;
pub mod topology;
pub mod vm;
pub mod wire;
