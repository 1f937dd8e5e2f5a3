//! The groups of a VM as routers are told of them: one state machine for IGMP and MLD, since RFC 3810 is RFC 3376 in the
//! words of IPv6 (section 5 and 6 of either; `net/ipv4/igmp.c` and `net/ipv6/mcast.c` in Linux).
//!
//! A change of groups is reported when it happens and once more for each packet that may be lost (the robustness
//! variable). A query is answered after a random time. To a router of an older version, each group is reported by itself,
//! unless another member does so first.

use std::time::Duration;

use crate::time::Instant;
use crate::wire::GroupRecord;

/// How often a change is reported until a router says otherwise (`Robustness Variable`, RFC 3810 section 9.1).
pub const ROBUSTNESS_VARIABLE: u8 = 2;
/// Time between two such reports at most (`Unsolicited Report Interval`, RFC 3810 section 9.11).
pub const UNSOLICITED_REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The same for routers of older versions (RFC 2236 section 8.10, RFC 2710 section 7.10).
pub const OLDER_UNSOLICITED_REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Time between two queries for all groups until a router says otherwise (`Query Interval`).
pub const QUERY_INTERVAL: Duration = Duration::from_secs(125);
/// Within which time they are answered until a router says otherwise (`Query Response Interval`).
pub const QUERY_RESPONSE_INTERVAL: Duration = Duration::from_secs(10);

/// A message to be sent.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Report<A> {
    /// A report of the newest version.
    Records(Vec<(GroupRecord, A)>),
    /// A report of an older version: the VM is in the group.
    Member(A),
    /// The VM has left the group, and was the last to report it, to routers of an older version.
    Left(A),
}

/// One group.
#[derive(Debug)]
struct Membership<A> {
    group: A,
    /// The VM is in it no longer; it is forgotten once that is reported.
    is_left: bool,
    /// No other member has reported it since this VM did.
    is_last_reporter: bool,
    /// Its last change was reported once at least.
    is_reported: bool,
    /// How often its change is yet to be reported, and when next.
    changes: u8,
    change_at: Instant,
    /// When a query for it is to be answered.
    answer_at: Option<Instant>,
}

/// The groups of one family. Nothing is on the heap before the first.
#[derive(Debug)]
pub(super) struct Memberships<A> {
    groups: Vec<Membership<A>>,
    /// The groups may have changed: from when on that is reported, and if those that have not are reported as well.
    changed: Option<(Instant, bool)>,
    robustness: u8,
    /// In milliseconds, as the next: a `Duration` takes four times the room, and every VM on IPv6 has these.
    query_interval: u32,
    query_response_interval: u32,
}

/// The milliseconds of a time that a router tells, none of which is longer than nine hours.
const fn milliseconds(time: Duration) -> u32 {
    time.as_millis() as u32
}

impl<A: Copy + Eq> Memberships<A> {
    /// In no group.
    pub(super) const fn new() -> Memberships<A> {
        Memberships {
            groups: Vec::new(),
            changed: None,
            robustness: ROBUSTNESS_VARIABLE,
            query_interval: milliseconds(QUERY_INTERVAL),
            query_response_interval: milliseconds(QUERY_RESPONSE_INTERVAL),
        }
    }

    /// The groups have changed: reports it from `at` on.
    pub(super) fn changed(&mut self, at: Instant) {
        self.report(at, false);
    }

    /// Reports all groups from `at` on, as if each were new.
    pub(super) fn announce(&mut self, at: Instant) {
        self.report(at, true);
    }

    fn report(&mut self, at: Instant, all: bool) {
        let (at, all) = self
            .changed
            .map_or((at, all), |(earlier, every)| (earlier.min(at), every | all));
        self.changed = Some((at, all));
    }

    /// Takes the values of a router of the newest version: how often to report a change (0 for "as before"), and the times
    /// of its queries.
    pub(super) fn learn(&mut self, robustness: u8, interval: Duration, response: Duration) {
        if robustness > 0 {
            self.robustness = robustness;
        }
        self.query_interval = milliseconds(interval);
        self.query_response_interval = milliseconds(response);
    }

    /// How long a router of an older version is taken to be there after a query of it (`Older Version Querier Present
    /// Timeout`, RFC 3810 section 9.12).
    pub(super) fn older_querier_present_timeout(&self) -> Duration {
        let millis = |time: u32| Duration::from_millis(time.into());
        millis(self.query_interval) * self.robustness.into() + millis(self.query_response_interval)
    }

    /// Takes `current` for the groups that the VM is in.
    pub(super) fn set(&mut self, current: &[A]) {
        let (changed, robustness) = (self.changed.take(), self.robustness);
        let change = |known: &mut Membership<A>| {
            if let Some((at, _)) = changed {
                (known.changes, known.change_at) = (robustness, at);
                known.is_reported = false;
            }
        };
        for known in &mut self.groups {
            let is_left = !current.contains(&known.group);
            let is_all = changed.is_some_and(|(_, all)| all);
            if is_left != known.is_left || (is_all && !is_left) {
                known.is_left = is_left;
                known.answer_at = known.answer_at.filter(|_| !is_left);
                change(known);
            }
        }
        self.groups
            .retain(|known| !known.is_left || known.changes > 0);
        for group in current {
            if !self.groups.iter().any(|known| known.group == *group) {
                let mut new = Membership {
                    group: *group,
                    is_left: false,
                    is_last_reporter: false,
                    is_reported: false,
                    changes: 0,
                    change_at: Instant::ZERO,
                    answer_at: None,
                };
                change(&mut new);
                self.groups.reserve_exact(1);
                self.groups.push(new);
            }
        }
    }

    /// A router asks for `group`, or for all without one, and wants the answer within `maximum`. One that is to come within
    /// that time anyway answers this query as well.
    pub(super) fn queried(
        &mut self,
        now: Instant,
        group: Option<A>,
        maximum: Duration,
        is_older: bool,
        random: &mut fastrand::Rng,
    ) {
        // Together to a router that takes all groups in one report.
        let mut at = now + maximum.mul_f64(random.f64());
        for known in &mut self.groups {
            let is_asked = group.is_none_or(|group| group == known.group);
            if known.is_left || !is_asked {
                continue;
            }
            if is_older && known.awaits_first_report() && known.change_at <= now + maximum {
                continue;
            }
            if is_older {
                at = now + maximum.mul_f64(random.f64());
            }
            let earlier = known.answer_at.filter(|earlier| *earlier < now + maximum);
            known.answer_at = earlier.or(Some(at));
        }
    }

    /// A router of an older version is there: changes are reported to it no more, but for joins that nobody was told of
    /// yet. These stay unsolicited, as of a host that joins after the query (`igmp_group_added` in `net/ipv4/igmp.c`).
    pub(super) fn stop_changes(&mut self) {
        for known in &mut self.groups {
            if !known.awaits_first_report() {
                known.changes = 0;
            }
        }
        self.groups.retain(|known| !known.is_left);
    }

    /// Another member has reported `group` to a router of an older version: that is enough, once this VM has done so after
    /// it joined. A bridge that snoops learns only thereby that a member is behind this VM's port.
    pub(super) fn heard(&mut self, group: A) {
        let mut known = self.groups.iter_mut();
        if let Some(known) = known.find(|known| known.group == group && !known.is_left) {
            known.answer_at = None;
            known.is_last_reporter = false;
            if !known.awaits_first_report() {
                known.changes = 0;
            }
        }
    }

    /// When [`Memberships::overdue`] has something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let groups = self.groups.iter().filter_map(Membership::deadline);
        groups.chain(self.changed.map(|(at, _)| at)).min()
    }

    /// The message that is to be sent at `now`, of at most `room` records. [`Memberships::set`] comes first.
    pub(super) fn overdue(
        &mut self,
        now: Instant,
        is_older: bool,
        room: usize,
        random: &mut fastrand::Rng,
    ) -> Option<Report<A>> {
        if is_older {
            return self.overdue_older(now, random);
        }
        let again = now + UNSOLICITED_REPORT_INTERVAL.mul_f64(random.f64());
        let mut records = Vec::new();
        let changed = |known: &&mut Membership<A>| known.changes > 0 && known.change_at <= now;
        for known in self.groups.iter_mut().filter(changed).take(room) {
            let record = if known.is_left {
                GroupRecord::ChangeToInclude
            } else {
                GroupRecord::ChangeToExclude
            };
            records.push((record, known.group));
            (known.changes, known.change_at) = (known.changes - 1, again);
            known.is_reported = true;
        }
        self.groups
            .retain(|known| !known.is_left || known.changes > 0);
        if records.is_empty() {
            let mut asked = self.groups.iter_mut();
            while records.len() < room
                && let Some(known) = asked.find(|known| known.is_asked(now))
            {
                known.answer_at = None;
                records.push((GroupRecord::ModeIsExclude, known.group));
            }
        }
        (!records.is_empty()).then_some(Report::Records(records))
    }

    fn overdue_older(&mut self, now: Instant, random: &mut fastrand::Rng) -> Option<Report<A>> {
        let is_due = |known: &Membership<A>| known.deadline().is_some_and(|at| at <= now);
        while let Some(index) = self.groups.iter().position(is_due) {
            let known = self.groups.get_mut(index)?;
            let group = known.group;
            if known.is_left {
                let known = self.groups.remove(index);
                if known.is_last_reporter {
                    return Some(Report::Left(group));
                }
                continue;
            }
            if known.changes > 0 && known.change_at <= now {
                // Once more at most: there is no robustness variable in older versions.
                known.changes = (known.changes - 1).min(1);
                known.change_at = now + OLDER_UNSOLICITED_REPORT_INTERVAL.mul_f64(random.f64());
            } else {
                known.answer_at = None;
            }
            known.is_last_reporter = true;
            known.is_reported = true;
            return Some(Report::Member(group));
        }
        None
    }
}

impl<A> Membership<A> {
    fn awaits_first_report(&self) -> bool {
        self.changes > 0 && !self.is_reported
    }

    fn is_asked(&self, now: Instant) -> bool {
        self.answer_at.is_some_and(|at| at <= now)
    }

    fn deadline(&self) -> Option<Instant> {
        let change = (self.changes > 0).then_some(self.change_at);
        crate::time::earliest(change, self.answer_at)
    }
}

/// Bytes that each group takes.
#[cfg(test)]
pub(super) const fn bytes_of<A>() -> usize {
    size_of::<Membership<A>>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use GroupRecord::{ChangeToExclude, ChangeToInclude, ModeIsExclude};

    const ROOM: usize = 72;

    const fn ms(milliseconds: u64) -> Instant {
        Instant::from_nanos(milliseconds * 1_000_000)
    }

    /// All that is sent until `until`, with the milliseconds.
    fn drain(
        memberships: &mut Memberships<u8>,
        groups: &[u8],
        is_older: bool,
        until: Instant,
    ) -> Vec<(u64, Report<u8>)> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut sent = Vec::new();
        while let Some(at) = memberships.deadline().filter(|at| *at <= until) {
            memberships.set(groups);
            let report = memberships.overdue(at, is_older, ROOM, &mut random);
            sent.extend(report.map(|report| (at.as_nanos() / 1_000_000, report)));
            assert!(sent.len() < 100, "it never ends: {sent:?}");
        }
        sent
    }

    fn joined(groups: &[u8]) -> Memberships<u8> {
        let mut memberships = Memberships::new();
        memberships.changed(ms(0));
        drain(&mut memberships, groups, false, ms(2_000));
        memberships
    }

    #[test]
    fn a_change_is_reported_as_often_as_the_router_says_and_alone() {
        for (told, expected) in [(0, 2), (1, 1), (2, 2), (5, 5)] {
            let mut memberships = joined(&[1, 2]);
            memberships.learn(told, QUERY_INTERVAL, QUERY_RESPONSE_INTERVAL);
            memberships.changed(ms(5_000));
            let sent = drain(&mut memberships, &[2, 3], false, ms(100_000));
            let record = vec![(ChangeToInclude, 1), (ChangeToExclude, 3)];
            assert_eq!(sent.len(), expected, "{told} {sent:?}");
            assert_eq!(sent[0], (5_000, Report::Records(record.clone())));
            for pair in sent.windows(2) {
                assert!(pair[1].0 - pair[0].0 <= 1_000, "{sent:?}");
                assert_eq!(pair[1].1, Report::Records(record.clone()));
            }
        }
    }

    #[test]
    fn a_group_that_is_joined_again_is_not_reported_as_left() {
        let mut memberships = joined(&[1]);
        memberships.changed(ms(5_000));
        memberships.set(&[]);
        memberships.changed(ms(5_000));
        let sent = drain(&mut memberships, &[1], false, ms(100_000));
        let record = Report::Records(vec![(ChangeToExclude, 1)]);
        assert_eq!(sent[0], (5_000, record));
    }

    #[test]
    fn all_groups_are_announced_anew_if_so_told() {
        let mut memberships = joined(&[1, 2]);
        memberships.announce(ms(5_000));
        memberships.changed(ms(5_000));
        let sent = drain(&mut memberships, &[1, 2], false, ms(100_000));
        let record = Report::Records(vec![(ChangeToExclude, 1), (ChangeToExclude, 2)]);
        assert_eq!(sent[0], (5_000, record));
        assert_eq!(sent.len(), 2);
    }

    #[test]
    fn a_query_is_answered_once_in_its_time_with_the_groups_asked_for() {
        let mut random = fastrand::Rng::with_seed(1);
        let second = Duration::from_secs(1);
        for (group, expected) in [(None, &[1, 2, 3][..]), (Some(2), &[2]), (Some(9), &[])] {
            let mut memberships = joined(&[1, 2, 3]);
            for at in [5_000, 5_001] {
                memberships.queried(ms(at), group, second, false, &mut random);
            }
            let sent = drain(&mut memberships, &[1, 2, 3], false, ms(100_000));
            let records: Vec<_> = expected.iter().map(|g| (ModeIsExclude, *g)).collect();
            assert_eq!(sent.len(), usize::from(!records.is_empty()), "{sent:?}");
            for (at, report) in sent {
                assert!((5_000..6_001).contains(&at), "{at}");
                assert_eq!(report, Report::Records(records.clone()));
            }
        }
    }

    #[test]
    fn a_quicker_query_is_answered_in_its_own_time() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut memberships = joined(&[1]);
        for maximum in [1_000_000, 10] {
            let maximum = Duration::from_millis(maximum);
            memberships.queried(ms(5_000), Some(1), maximum, false, &mut random);
        }
        assert!(memberships.deadline() <= Some(ms(5_010)));
    }

    #[test]
    fn older_routers_are_told_of_each_group_by_itself() {
        let mut random = fastrand::Rng::with_seed(1);
        let groups: Vec<u8> = (1..=20).collect();
        let mut memberships = joined(&groups);
        memberships.queried(ms(5_000), None, Duration::from_secs(1), true, &mut random);
        memberships.heard(4);
        let sent = drain(&mut memberships, &groups, true, ms(100_000));
        let mut told: Vec<u8> = sent
            .iter()
            .map(|(at, report)| match report {
                Report::Member(group) if (5_000..6_000).contains(at) => *group,
                other => panic!("{at} {other:?}"),
            })
            .collect();
        let times: std::collections::BTreeSet<u64> = sent.iter().map(|(at, _)| *at).collect();
        assert!(times.len() > 10, "each has a time of its own: {times:?}");
        told.sort_unstable();
        let expected: Vec<u8> = groups.iter().copied().filter(|group| *group != 4).collect();
        assert_eq!(told, expected, "another member has reported group 4");
    }

    #[test]
    fn older_routers_are_told_of_a_group_that_is_left_by_its_last_reporter_only() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut memberships = joined(&[1, 2, 3]);
        memberships.queried(ms(5_000), None, Duration::from_secs(1), true, &mut random);
        drain(&mut memberships, &[1, 2, 3], true, ms(6_000));
        memberships.heard(2);
        memberships.changed(ms(7_000));
        let sent = drain(&mut memberships, &[3, 4], true, ms(100_000));
        assert_eq!(sent[0], (7_000, Report::Left(1)), "{sent:?}");
        assert_eq!(sent[1], (7_000, Report::Member(4)), "{sent:?}");
        assert_eq!(sent[2].1, Report::Member(4), "{sent:?}");
        assert!((7_000..=17_000).contains(&sent[2].0), "{sent:?}");
        assert_eq!(sent.len(), 3, "{sent:?}");
    }

    #[test]
    fn a_join_is_reported_once_at_least_whatever_older_routers_and_members_say_before() {
        let mut random = fastrand::Rng::with_seed(1);
        let maximum = Duration::from_secs(10);
        for other_reports in [false, true] {
            let mut memberships = joined(&[1]);
            memberships.changed(ms(5_000));
            memberships.set(&[1, 2]);
            memberships.stop_changes();
            memberships.queried(ms(5_000), None, maximum, true, &mut random);
            if other_reports {
                memberships.heard(2);
            }
            let first = drain(&mut memberships, &[1, 2], true, ms(5_000));
            assert_eq!(first, [(5_000, Report::Member(2))]);
            // It has answered the query as well, and is said again; another member may do that instead.
            memberships.heard(2);
            let rest = drain(&mut memberships, &[1, 2], true, ms(100_000));
            let rest: Vec<_> = rest.into_iter().map(|(_, report)| report).collect();
            assert_eq!(rest, [Report::Member(1)]);
        }
    }

    #[test]
    fn older_routers_end_the_repetitions_of_a_join() {
        let mut memberships = Memberships::new();
        memberships.changed(ms(0));
        drain(&mut memberships, &[1], false, ms(0));
        memberships.stop_changes();
        assert_eq!(memberships.deadline(), None);
    }

    #[test]
    fn reports_have_no_more_records_than_there_is_room_for() {
        let groups: Vec<u8> = (0..100).collect();
        let mut memberships = Memberships::new();
        memberships.changed(ms(0));
        let sent = drain(&mut memberships, &groups, false, ms(100_000));
        let lengths: Vec<usize> = sent
            .iter()
            .map(|(_, report)| match report {
                Report::Records(records) => records.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lengths.iter().sum::<usize>(), 200, "{lengths:?}");
        assert!(lengths.iter().all(|length| *length <= ROOM));
    }
}
