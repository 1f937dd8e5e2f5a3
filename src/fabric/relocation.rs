//! The move of a VM's port to another place of the fabric, as a live migration makes it: the VM keeps its addresses, and the
//! network has to find out where it is.

use std::fmt;
use std::str::FromStr;

use crate::time::Instant;
use crate::vm::VmId;

/// The word for another port of the same bridge.
const PORT: &str = "port";
/// The word for the place that the VM came from.
const BACK: &str = "back";
/// What stands before the number of a leaf.
const LEAF: &str = "leaf";
/// What stands before the name of a network namespace.
const NETNS: &str = "netns:";

/// A place that a VM can be moved to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A leaf of the lab's tree of bridges, by its number.
    Leaf(u32),
    /// A bridge of the lab's network namespace, by its name.
    Bridge(String),
    /// Another port of the bridge that the VM is on: the link goes down and comes up again.
    Port,
    /// A network namespace of the program's own, by its name, with a bridge in it that is connected to that of the lab.
    Namespace(String),
    /// Where it was before its last move.
    Back,
}

/// What places look like.
pub const PLACES: &str =
    "leafN, the name of a bridge, port (another one of the same bridge), netns:NAME or back";

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Leaf(number) => write!(f, "{LEAF}{number}"),
            Place::Bridge(name) => f.write_str(name),
            Place::Port => f.write_str(PORT),
            Place::Namespace(name) => write!(f, "{NETNS}{name}"),
            Place::Back => f.write_str(BACK),
        }
    }
}

/// Why a text is no place.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no place for a VM; expected {PLACES}")]
pub struct NoPlace(String);

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Place, NoPlace> {
        let wrong = || NoPlace(text.to_owned());
        if let Some(name) = text.strip_prefix(NETNS) {
            let is_name = !name.is_empty() && !name.contains(|c: char| c.is_whitespace());
            return is_name
                .then(|| Place::Namespace(name.to_owned()))
                .ok_or_else(wrong);
        }
        match text {
            PORT => return Ok(Place::Port),
            BACK => return Ok(Place::Back),
            _ => {}
        }
        let number = text.strip_prefix(LEAF).unwrap_or_default();
        if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            return number.parse().map(Place::Leaf).map_err(|_| wrong());
        }
        // As the kernel has it (`dev_valid_name()`).
        let is_name = (1..16).contains(&text.len())
            && !text.contains(|c: char| c.is_whitespace() || matches!(c, '/' | ':'));
        is_name
            .then(|| Place::Bridge(text.to_owned()))
            .ok_or_else(wrong)
    }
}

/// A move that a fabric has made, or has begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relocated {
    /// Where the VM was.
    pub from: Place,
    /// Where it is: never [`Place::Back`].
    pub to: Place,
    /// When the change of its link began.
    pub began: Instant,
    /// When its link carries frames again: the end of the change, or of a simulation a time to come. `None` if the change goes on
    /// while the driver does: of its end [`Fabric::ended_relocations`](super::Fabric::ended_relocations) tells.
    pub ready: Option<Instant>,
    /// The fabric has filled the tables of its bridges for the new place.
    pub is_introduced: bool,
}

/// A VM whose move has ended, and when its link was ready, or what the system refused.
pub type EndedRelocation<E> = (VmId, Result<Instant, RelocationError<E>>);

/// A move that can't be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RelocationError<E> {
    /// It was not asked for what can be; nothing was touched. The text says what is wrong, and what is expected.
    #[error("{0}")]
    Unfit(String),
    /// The system refused an operation.
    #[error(transparent)]
    Fabric(#[from] E),
}

/// What the forwarding tables of bridges say of a VM that was moved has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FdbEvent {
    /// The VM.
    pub vm: VmId,
    /// When it was heard.
    pub at: Instant,
    /// The change.
    pub change: FdbChange,
}

/// A change of an entry of a bridge's forwarding database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FdbChange {
    /// A bridge has learned from a frame where the VM is.
    Learned,
    /// It has learned that from an announcement of the move.
    LearnedFromAnnouncement,
    /// Somebody has told a bridge where the VM is: the lab itself, or a controller.
    Told,
    /// A bridge knows no longer where the VM is: the entry is too old, or its port has gone.
    Forgotten,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written_and_nothing_else_is_one() {
        for (text, place) in [
            ("leaf1", Place::Leaf(1)),
            ("br0-1", Place::Bridge("br0-1".to_owned())),
            ("leaf", Place::Bridge("leaf".to_owned())),
            ("port", Place::Port),
            ("netns:lab2", Place::Namespace("lab2".to_owned())),
            ("back", Place::Back),
        ] {
            assert_eq!(text.parse(), Ok(place.clone()));
            assert_eq!(place.to_string(), text);
        }
        for wrong in [
            "",
            "a b",
            "netns:",
            "a/b",
            "host:x",
            "leaf99999999999",
            "a-name-of-17-char",
        ] {
            let error = wrong.parse::<Place>().unwrap_err().to_string();
            assert!(
                error.contains("expected leafN, the name of a bridge"),
                "{error}"
            );
        }
    }
}
