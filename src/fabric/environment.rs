//! What a report says of a fabric.

use crate::topology::Topology;

/// A fabric as a report describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Environment {
    /// Its kind: `bridge`, `xdp`, `none`, `interface`, `sim`, or the name that a program gives its own fabric.
    pub kind: String,
    /// The tree of bridges that the run made; `None` without one.
    pub topology: Option<Topology>,
    /// Its frames are carried in virtual time, without a kernel.
    pub is_simulated: bool,
}

impl Environment {
    /// A fabric in memory of the given kind.
    pub fn simulated(kind: impl Into<String>) -> Environment {
        Environment {
            kind: kind.into(),
            topology: None,
            is_simulated: true,
        }
    }
}
