//! The flows that take part in a phase.

use std::ops::Range;

use super::FlowId;

/// A set of flows. A range of them takes no more memory or time than its two ends.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FlowSet {
    /// In ascending order, none empty, and none that another overlaps or follows directly.
    ranges: Vec<Range<u32>>,
}

impl From<Range<u32>> for FlowSet {
    fn from(range: Range<u32>) -> FlowSet {
        let ranges = if range.is_empty() {
            Vec::new()
        } else {
            vec![range]
        };
        FlowSet { ranges }
    }
}

impl FlowSet {
    /// Returns the number of flows.
    pub fn len(&self) -> usize {
        self.ranges.iter().map(ExactSizeIterator::len).sum()
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns the flows in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = FlowId> {
        self.ranges.iter().cloned().flatten().map(FlowId)
    }

    /// Returns the number above that of the last flow; 0 if there are none.
    pub fn end(&self) -> u32 {
        self.ranges.last().map_or(0, |last| last.end)
    }

    /// Returns true if `flow` is among them.
    pub fn contains(&self, flow: FlowId) -> bool {
        self.rest_from(flow)
            .is_some_and(|rest| rest.start == flow.0)
    }

    /// Adds a flow.
    pub fn insert(&mut self, FlowId(flow): FlowId) {
        // The first range that ends at the flow or behind it.
        let at = self.ranges.partition_point(|range| range.end < flow);
        let mut joined = flow..flow.saturating_add(1);
        let mut end = at;
        while let Some(range) = self.ranges.get(end)
            && range.start <= joined.end
        {
            joined = joined.start.min(range.start)..joined.end.max(range.end);
            end += 1;
        }
        self.ranges.splice(at..end, [joined]);
    }

    /// Removes a flow.
    pub fn remove(&mut self, flow: FlowId) {
        if !self.contains(flow) {
            return;
        }
        let at = self.ranges.partition_point(|range| range.end <= flow.0);
        let Some(range) = self.ranges.get(at).cloned() else {
            return;
        };
        let parts = [range.start..flow.0, flow.0 + 1..range.end];
        let left = parts.into_iter().filter(|part| !part.is_empty());
        self.ranges.splice(at..=at, left);
    }

    /// Returns the first flow that is not before `flow`, and those that follow it without a gap. `None` if there is none.
    pub(super) fn rest_from(&self, FlowId(flow): FlowId) -> Option<Range<u32>> {
        let at = self.ranges.partition_point(|range| range.end <= flow);
        let range = self.ranges.get(at)?;
        Some(range.start.max(flow)..range.end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_holds_what_a_set_of_numbers_holds() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let range = random.u32(0..10)..random.u32(0..20);
            let mut set = FlowSet::from(range.clone());
            let mut model: BTreeSet<u32> = range.collect();
            for _ in 0..100 {
                let flow = random.u32(0..24);
                if random.bool() {
                    set.insert(FlowId(flow));
                    model.insert(flow);
                } else {
                    set.remove(FlowId(flow));
                    model.remove(&flow);
                }
                assert_eq!(
                    set.iter().map(|flow| flow.0).collect::<Vec<_>>(),
                    model.iter().copied().collect::<Vec<_>>()
                );
                assert_eq!(set.len(), model.len());
                assert_eq!(set.is_empty(), model.is_empty());
                assert_eq!(set.end(), model.last().map_or(0, |last| last + 1));
                assert_eq!(set.contains(FlowId(flow)), model.contains(&flow));
                let next = model.range(flow..).next().copied();
                assert_eq!(set.rest_from(FlowId(flow)).map(|rest| rest.start), next);
                let gaps = set.ranges.windows(2).all(|two| two[0].end < two[1].start);
                assert!(gaps, "{:?}", set.ranges);
            }
        }
    }
}
