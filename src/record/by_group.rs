//! Counts and latencies by the group of VMs that pings come from, for scrapers of metrics.
//!
//! Kept only where a plan has groups with names and somebody can read them: nothing else asks for them. Histograms have a
//! few fixed buckets: one of a [`Latency`](super::Latency)'s buckets for each phase and group would take megabytes.

use std::ops::Range;

use super::{Buckets, Metric, Totals};
use crate::load::FlowId;
use crate::vm::VmId;

/// So many names of groups are told apart; further groups are [`OTHER`] together.
pub const MAX_GROUPS: usize = 16;
/// The name of those that are not told apart.
pub const OTHER: &str = "other";

/// Returns `name` if it is among the `known` names, of which there may be `most`, or has room beside them; else [`OTHER`].
pub fn known_or_other<'a, 'k>(
    name: &'a str,
    mut known: impl ExactSizeIterator<Item = &'k str>,
    most: usize,
) -> &'a str {
    match known.len() < most || known.any(|known| known == name) {
        true => name,
        false => OTHER,
    }
}

/// The metrics that each ping has: those of a flow, and so of a group.
const METRICS: [Metric; 3] = [Metric::Rtt, Metric::Response, Metric::Lateness];

/// Counts and latencies of one group, in about 720 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupFigures {
    totals: Totals,
    /// In the order of [`METRICS`].
    latencies: [Buckets; METRICS.len()],
}

impl GroupFigures {
    /// Counts of its pings, without [`Totals::unsent`], which is not counted for a flow.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The histogram of `metric`; nothing of one that pings do not have one by one.
    pub fn latency(&self, metric: Metric) -> Option<&Buckets> {
        let place = METRICS.iter().position(|known| *known == metric)?;
        self.latencies.get(place)
    }

    fn record(&mut self, metric: Metric, nanos: u64) {
        let known = METRICS.iter().zip(&mut self.latencies);
        let of_metric = known.filter(|(known, _)| **known == metric);
        of_metric.for_each(|(_, latency)| latency.record(nanos));
    }

    fn merge(&mut self, other: &GroupFigures) {
        self.totals += other.totals;
        for (ours, theirs) in self.latencies.iter_mut().zip(&other.latencies) {
            ours.merge(theirs);
        }
    }
}

/// Figures by group and phase.
#[derive(Clone, Debug)]
pub struct ByGroup {
    /// Each once, in the order of the plan.
    names: Vec<String>,
    /// The groups' VMs, in order, and the place of their name.
    vms: Vec<(Range<u32>, u8)>,
    /// The place of the name of each flow's group; that behind the last name for a flow of no group.
    flows: Vec<u8>,
    /// By phase, and by the place of the name; the last are those of flows of no group. Phases in which nothing happened may be
    /// missing.
    figures: Vec<Vec<GroupFigures>>,
    /// There is a flow of no group.
    has_ungrouped: bool,
}

impl ByGroup {
    /// Figures of `groups`, with the VMs of each, in order. `None` if none has a name.
    pub fn new<'a>(groups: impl IntoIterator<Item = (&'a str, Range<u32>)>) -> Option<ByGroup> {
        let mut names: Vec<String> = Vec::new();
        let mut vms = Vec::new();
        for (name, of_group) in groups.into_iter().filter(|(name, _)| !name.is_empty()) {
            let name = known_or_other(name, names.iter().map(String::as_str), MAX_GROUPS);
            let place = names.iter().position(|known| known == name);
            let place = place.unwrap_or(names.len());
            if place == names.len() {
                names.push(name.to_owned());
            }
            vms.push((of_group, place as u8));
        }
        (!names.is_empty()).then_some(ByGroup {
            names,
            vms,
            flows: Vec::new(),
            figures: Vec::new(),
            has_ungrouped: false,
        })
    }

    /// The most groups that there may be, those without a name counted as one.
    pub fn most(&self) -> usize {
        self.names.len() + 1
    }

    /// The figures of each group in `phases` together, by name. Those of flows of no group, once there is one, have no name.
    pub fn named(&self, phases: &[usize]) -> Vec<(&str, GroupFigures)> {
        let names = self.names.iter().map(String::as_str);
        let ungrouped = self.has_ungrouped.then_some("");
        let named = names.chain(ungrouped).enumerate();
        let figures = |place: usize| {
            let mut sum = GroupFigures::default();
            let parts = phases
                .iter()
                .filter_map(|phase| self.figures.get(*phase)?.get(place));
            parts.for_each(|part| sum.merge(part));
            sum
        };
        named.map(|(place, name)| (name, figures(place))).collect()
    }

    /// The pings of `flow` come from `source`.
    pub(super) fn set_source(&mut self, flow: FlowId, source: VmId) {
        let ungrouped = self.names.len() as u8;
        if self.flows.len() <= flow.index() {
            self.flows.resize(flow.index() + 1, ungrouped);
        }
        let next = self.vms.partition_point(|(vms, _)| vms.start <= source.0);
        let group = next.checked_sub(1).and_then(|last| self.vms.get(last));
        let group = group.filter(|(vms, _)| vms.contains(&source.0));
        self.has_ungrouped |= group.is_none();
        if let Some(of_flow) = self.flows.get_mut(flow.index()) {
            *of_flow = group.map_or(ungrouped, |(_, place)| *place);
        }
    }

    /// Counts something of `flow` in the phase with that index.
    pub(super) fn count(&mut self, phase: usize, flow: FlowId, count: fn(&mut Totals)) {
        if let Some(figures) = self.figures_of(phase, flow) {
            count(&mut figures.totals);
        }
    }

    /// Takes in one value of `metric` of `flow` in the phase with that index.
    pub(super) fn record(&mut self, phase: usize, flow: FlowId, metric: Metric, nanos: u64) {
        if let Some(figures) = self.figures_of(phase, flow) {
            figures.record(metric, nanos);
        }
    }

    fn figures_of(&mut self, phase: usize, flow: FlowId) -> Option<&mut GroupFigures> {
        let places = self.most();
        if self.figures.len() <= phase {
            let empty = || vec![GroupFigures::default(); places];
            self.figures.resize_with(phase + 1, empty);
        }
        let place = self.flows.get(flow.index())?;
        self.figures.get_mut(phase)?.get_mut(usize::from(*place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of the group that a flow from `source` counts for.
    fn group_of(by_group: &ByGroup, source: u32) -> String {
        let mut by_group = by_group.clone();
        by_group.set_source(FlowId(0), VmId(source));
        by_group.count(0, FlowId(0), |totals| totals.sent += 1);
        let named = by_group.named(&[0]);
        let mut found = named.iter().filter(|(_, figures)| figures.totals.sent == 1);
        found.next().map_or("nowhere", |(name, _)| name).to_owned()
    }

    #[test]
    fn a_flow_belongs_to_the_group_of_its_source() {
        let by_group = ByGroup::new([("a", 0..2), ("", 2..3), ("b", 3..7)]).unwrap();
        for (source, group) in [
            (0, "a"),
            (1, "a"),
            (2, ""),
            (3, "b"),
            (6, "b"),
            (7, ""),
            (u32::MAX, ""),
        ] {
            assert_eq!(group_of(&by_group, source), group, "vm{source}");
        }
        assert!(ByGroup::new([("", 0..5)]).is_none());
        assert!(ByGroup::new([]).is_none());
    }

    #[test]
    fn groups_beyond_the_bound_are_other_together_and_one_of_that_name_with_them() {
        for other_at in [None, Some(3), Some(15), Some(16), Some(29)] {
            let name = |at: u32| match other_at == Some(at) {
                true => OTHER.to_owned(),
                false => format!("g{at}"),
            };
            let names: Vec<String> = (0..30).map(name).collect();
            let groups = names
                .iter()
                .zip(0..)
                .map(|(name, at)| (name.as_str(), at..at + 1));
            let by_group = ByGroup::new(groups).unwrap();
            for (at, name) in (0..).zip(&names) {
                let expected = if at < MAX_GROUPS as u32 { name } else { OTHER };
                assert_eq!(group_of(&by_group, at), expected, "{other_at:?} vm{at}");
            }
            assert!(by_group.most() <= MAX_GROUPS + 2);
        }
    }
}
