//! What became of the run's links, by somebody else's hand.

use serde::{Deserialize, Serialize};

use crate::fabric::{LinkEvent, LinkFate};
use crate::time::Instant;

/// So many changes are told one by one, the first of them; all are counted.
pub const MAX_LINK_CHANGES: usize = 64;

/// A change of a link that was not the run's doing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LinkChanged {
    /// When it was seen, in nanoseconds since the run began.
    pub at_ns: u64,
    /// The link's name.
    pub link: String,
    /// The VM whose port it is, such as `vm0`; absent for a bridge, or what joins two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// What became of it.
    #[serde(flatten)]
    pub change: LinkFate,
}

/// All changes of links.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Links {
    began: Instant,
    changes: Vec<LinkChanged>,
    count: u64,
}

impl Links {
    /// Times are told from `now` on.
    pub(super) fn begin(&mut self, now: Instant) {
        self.began = now;
    }

    pub(super) fn changed(&mut self, at: Instant, event: LinkEvent) {
        self.count += 1;
        if self.changes.len() < MAX_LINK_CHANGES {
            self.changes.push(LinkChanged {
                at_ns: at.nanos_since(self.began),
                link: event.link,
                vm: event.vm.map(|vm| vm.to_string()),
                change: event.change,
            });
        }
    }

    /// The first changes, at most [`MAX_LINK_CHANGES`].
    pub fn changes(&self) -> &[LinkChanged] {
        &self.changes
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::VmId;

    #[test]
    fn changes_are_told_with_their_time_and_are_bounded() {
        let mut links = Links::default();
        links.begin(Instant::from_nanos(1000));
        for index in 0..200 {
            let event = LinkEvent {
                link: format!("tap{index}"),
                vm: Some(VmId(index)),
                change: LinkFate::Left {
                    bridge: "br0".to_owned(),
                },
            };
            links.changed(Instant::from_nanos(1500), event);
        }
        assert_eq!(
            (links.count(), links.changes().len()),
            (200, MAX_LINK_CHANGES)
        );
        let first = serde_json::to_string(&links.changes()[0]).unwrap();
        assert_eq!(
            first,
            r#"{"at_ns":500,"link":"tap0","vm":"vm0","change":"left","bridge":"br0"}"#
        );
        assert_eq!(
            serde_json::from_str::<LinkChanged>(&first).unwrap(),
            links.changes()[0]
        );
    }
}
