//! What there is of each metric, inside a JSON document: fields by the names that the table of metrics gives.
//!
//! Names that are not in the table are passed over, so that a document of a later version can be read; what a document of an
//! earlier version lacks is empty.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serializer};

use super::encoding::{self, Encoded};
use crate::record::{Latency, LatencySummary, Metric, PerMetric, Scope};

/// Reads a map of names into what `take` makes of the values.
struct Named<R, T> {
    name: fn(Metric) -> &'static str,
    take: fn(R) -> Result<T, String>,
    read: PhantomData<R>,
}

impl<'de, R: Deserialize<'de>, T: Default> Visitor<'de> for Named<R, T> {
    type Value = PerMetric<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of metrics")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PerMetric<T>, A::Error> {
        let mut found = PerMetric::default();
        while let Some(key) = map.next_key::<String>()? {
            let known = Metric::ALL.iter().find(|each| (self.name)(**each) == key);
            match known {
                Some(metric) => {
                    let value = (self.take)(map.next_value()?);
                    found[*metric] = value.map_err(A::Error::custom)?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// For `#[serde(with = "…")]` on the histograms of a run: each is `null`, or as [`Encoded`] says.
pub mod histograms {
    use super::*;

    pub fn serialize<S: Serializer>(
        histograms: &PerMetric<Latency>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let named = histograms.iter();
        serializer
            .collect_map(named.map(|(metric, latency)| (metric.name(), encoding::encode(latency))))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PerMetric<Latency>, D::Error> {
        deserializer.deserialize_map(Named {
            name: Metric::name,
            take: |encoded: Option<Encoded>| encoding::latency(encoded),
            read: PhantomData,
        })
    }
}

/// For `#[serde(flatten, with = "…")]` on the summaries of a run.
pub mod summaries {
    use super::*;

    pub fn serialize<S: Serializer>(
        summaries: &PerMetric<LatencySummary>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        write(summaries, |_| true, serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PerMetric<LatencySummary>, D::Error> {
        deserializer.deserialize_map(Named {
            name: Metric::summary_name,
            take: Ok,
            read: PhantomData,
        })
    }
}

/// For `#[serde(flatten, with = "…")]` on the summaries of a phase: those that are kept for each phase.
pub mod phase_summaries {
    use super::*;

    pub fn serialize<S: Serializer>(
        summaries: &PerMetric<LatencySummary>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        write(summaries, |scope| scope != Scope::Run, serializer)
    }

    pub use super::summaries::deserialize;
}

fn write<S: Serializer>(
    summaries: &PerMetric<LatencySummary>,
    is_written: fn(Scope) -> bool,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (metric, summary) in summaries.iter() {
        if is_written(metric.scope()) {
            map.serialize_entry(metric.summary_name(), summary)?;
        }
    }
    map.end()
}
