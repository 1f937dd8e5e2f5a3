//! End to end: the real binary on real TAPs, and witnesses that are not ours (the kernel's own network stack,
//! `ping`, `arping`, `fping`, `tcpdump`, `ip`, `bridge`) to say whether it did what it claims.
//!
//! Every test makes network namespaces of its own and takes them away again. That needs root: without it the tests
//! fail and say so. `scripts/test.sh` installs the programs that they call.

mod budgets;
mod cable;
mod capture;
mod control;
mod ctl;
mod dhcp;
mod dhcpv6;
mod disturbances;
mod hand_made_lab;
mod impairments;
mod interface;
mod ipv4;
mod ipv6;
mod join;
mod junit;
mod lab;
mod lifecycle;
mod links;
mod load;
mod losses;
mod main_job;
mod many_flows;
mod misbehaving;
mod moves;
mod multicast;
mod neighbours;
mod output;
mod path_split;
mod probes;
mod ranks;
mod raw_socket;
mod refusals;
mod report;
mod rfc2889;
mod rights;
mod routes;
mod saved;
mod scale;
mod search;
mod signals;
mod stamp;
mod streams;
mod sweep;
mod tcp;
mod trace;
mod underlay;
mod uplink;
mod usage;
mod vlan;
mod witnesses;
