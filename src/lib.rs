//! A network-only hypervisor in one thread.
//!
//! Every simulated VM is a Linux TAP device on a bridge plus a state machine that never blocks. One
//! [`mio::Poll`] holds every file descriptor; a ping is state with a deadline, not a thread that waits.
//!
//! The layers, from the pure core outwards:
//!
//! | module | contents |
//! |---|---|
//! | [`wire`] | frames to typed views and back; checksums |
//! | [`vm`] | the state machine of one VM: neighbours, pings, replies |
//! | [`load`] | flows (source and destination of pings) and their due times |
//! | [`hypervisor`] | owns the VMs and flows, routes a frame or a deadline to one of them |
//! | [`fabric`] | the interface between a hypervisor and what carries its frames |
//! | [`topology`] | spine and leaf bridges, for more VMs than one bridge has ports |
//! | [`reactor`] | the real run: poll, turns, timers, signals |
//! | [`sim`] | the same hypervisor on a switch in memory, in virtual time |
//! | [`system`] | TAPs, bridges, namespaces, netlink: every system call that needs a privilege |
//! | [`record`], [`report`] | measurements, and their output as text, JSON, CSV, HTML |
//! | [`experiment`] | a validated plan: what to build, what to send |
//! | [`lab`] | sets up a plan, runs it, and returns its report |
//! | [`escape`] | control characters of untrusted text, escaped for a terminal |
//!
//! [`guide`] has pages for users of the program; [`guide::using_the_crate`] introduces the library.
#![deny(unsafe_code)]
// The library prints nothing: println! panics when the reader of a pipe has gone.
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![warn(missing_docs)]

pub mod escape;
pub mod experiment;
pub mod fabric;
pub mod guide;
pub mod hypervisor;
pub mod lab;
pub mod load;
mod number;
pub mod reactor;
pub mod record;
pub mod report;
pub mod sim;
pub mod system;
pub mod time;
pub mod topology;
pub mod vm;
pub mod wire;
