//! Changes of the routes in a fabric's namespace.

use std::fmt;

use ipnet::IpNet;

/// A change of a route that the kernel did not make by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteEvent {
    /// A route to this network was added, or replaced.
    Added(IpNet),
    /// A route to this network was removed.
    Removed(IpNet),
    /// There were more changes than the kernel could keep.
    Missed,
}

impl fmt::Display for RouteEvent {
    /// Formats the change as a sentence without a full stop: `10.0.0.0/8 was added`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteEvent::Added(to) => write!(f, "{to} was added"),
            RouteEvent::Removed(to) => write!(f, "{to} was removed"),
            RouteEvent::Missed => f.write_str("more changes than the kernel could keep"),
        }
    }
}
