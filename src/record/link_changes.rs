//! Changes of the run's links by others.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fabric::{LinkEvent, LinkFate};
use crate::time::Instant;

/// So many changes are told one by one, the first of them; all are counted.
pub const MAX_LINK_CHANGES: usize = 64;

/// The kernel takes at most so long to remove a link that it has set down, on a busy machine; what came before was somebody's
/// doing of its own. It waits for all readers in between (`synchronize_net()`): 20 ms, and more than 100 ms under load.
const WAY_OUT: Duration = Duration::from_secs(2);

/// A change of a link that was not the run's doing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LinkChanged {
    /// When it was seen, in nanoseconds since the run began.
    pub at_ns: u64,
    /// The link's name.
    pub link: String,
    /// The VM whose port it is, such as `vm0`; absent for a bridge, or what joins two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// The change.
    #[serde(flatten)]
    pub change: LinkFate,
}

/// All changes of links.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Links {
    began: Instant,
    changes: Vec<LinkChanged>,
    untold: u64,
}

impl Links {
    /// Times are told from `now` on.
    pub(super) fn begin(&mut self, now: Instant) {
        self.began = now;
    }

    pub(super) fn changed(&mut self, at: Instant, event: LinkEvent) {
        let mut at_ns = at.nanos_since(self.began);
        if matches!(event.change, LinkFate::Deleted | LinkFate::Moved) {
            at_ns = self.take_way_out(&event.link, at_ns);
        }
        if self.changes.len() == MAX_LINK_CHANGES {
            self.untold += 1;
        } else {
            self.changes.push(LinkChanged {
                at_ns,
                link: event.link,
                vm: event.vm.map(|vm| vm.to_string()),
                change: event.change,
            });
        }
    }

    /// Forgets what a link that is gone at `at_ns` went through on its way, and returns when that began: the kernel sets it
    /// down and takes it from its bridge first.
    fn take_way_out(&mut self, link: &str, at_ns: u64) -> u64 {
        let begin = at_ns.saturating_sub(WAY_OUT.as_nanos() as u64);
        let mut since = at_ns;
        self.changes.retain(|changed| {
            let is_part = changed.link == link
                && changed.at_ns >= begin
                && matches!(
                    changed.change,
                    LinkFate::Down | LinkFate::CarrierLost | LinkFate::Left { .. }
                );
            if is_part {
                since = since.min(changed.at_ns);
            }
            !is_part
        });
        since
    }

    /// The first changes, at most [`MAX_LINK_CHANGES`].
    pub fn changes(&self) -> &[LinkChanged] {
        &self.changes
    }

    /// How many there were beside [those](Links::changes).
    pub fn untold(&self) -> u64 {
        self.untold
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
            (links.untold(), links.changes().len()),
            (200 - MAX_LINK_CHANGES as u64, MAX_LINK_CHANGES)
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

    #[test]
    fn what_somebody_did_to_a_link_before_it_went_is_told_with_its_own_time() {
        let left = LinkFate::Left {
            bridge: "br0".to_owned(),
        };
        let mut links = Links::default();
        for (ms, change) in [
            (4_000, left),
            (8_000, LinkFate::Down),
            (12_000, LinkFate::Deleted),
        ] {
            let event = LinkEvent {
                link: "tap1".to_owned(),
                vm: Some(VmId(1)),
                change,
            };
            links.changed(Instant::from_nanos(ms * 1_000_000), event);
        }
        let times: Vec<_> = links
            .changes()
            .iter()
            .map(|each| each.at_ns / 1_000_000)
            .collect();
        assert_eq!(times, [4_000, 8_000, 12_000]);
    }

    #[test]
    fn what_the_kernel_does_to_a_link_that_it_removes_is_no_change_of_its_own() {
        let left = || LinkFate::Left {
            bridge: "br0".to_owned(),
        };
        let event = |link: &str, change: LinkFate| LinkEvent {
            link: link.to_owned(),
            vm: None,
            change,
        };
        for end in [LinkFate::Deleted, LinkFate::Moved] {
            let mut links = Links::default();
            let ms = |ms: u64| Instant::from_nanos(ms * 1_000_000);
            links.changed(ms(10), event("tap1", LinkFate::Down));
            links.changed(ms(20), event("tap1", LinkFate::Up));
            links.changed(ms(5000), event("tap0", LinkFate::Down));
            links.changed(ms(5000), event("tap1", LinkFate::Down));
            links.changed(ms(5001), event("tap1", left()));
            links.changed(ms(6500), event("tap1", end.clone()));
            let told: Vec<_> = links
                .changes()
                .iter()
                .map(|changed| {
                    (
                        changed.at_ns / 1_000_000,
                        changed.link.as_str(),
                        &changed.change,
                    )
                })
                .collect();
            let expected = [
                (10, "tap1", &LinkFate::Down),
                (20, "tap1", &LinkFate::Up),
                (5000, "tap0", &LinkFate::Down),
                (5000, "tap1", &end),
            ];
            assert_eq!(told, expected);
        }
    }
}
