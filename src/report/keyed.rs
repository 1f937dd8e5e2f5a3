//! The metrics in a JSON document: fields by the names of the table of metrics.
//!
//! Names that are not in the table are passed over, so that a document of a later version can be read; what a document of an
//! earlier version lacks is empty.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::encoding::{self, Encoded};
use crate::record::{DropReason, Latency, LatencySummary, Metric, PerMetric, Scope};
use crate::vm::PingError;

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
        serializer.collect_map(named.map(|(metric, latency)| (metric.name(), Encode(latency))))
    }

    /// Encodes a histogram when it is written, and not when it is passed over.
    struct Encode<'l>(&'l Latency);

    impl Serialize for Encode<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            encoding::encode(self.0).serialize(serializer)
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PerMetric<Latency>, D::Error> {
        deserializer.deserialize_map(Named {
            name: Metric::name,
            take: |encoded: Option<Encoded>| encoding::latency(encoded.as_ref()),
            read: PhantomData,
        })
    }

    pub fn schema(generator: &mut SchemaGenerator) -> Schema {
        let names = Metric::ALL
            .iter()
            .map(|metric| (metric.name(), metric.doc()));
        map_of::<Option<Encoded>>(names, generator)
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

    pub fn schema(generator: &mut SchemaGenerator) -> Schema {
        summaries_schema(|_| true, generator)
    }
}

/// For `#[serde(flatten, with = "…")]` on the summaries of a phase: those that are kept for each phase.
pub mod phase_summaries {
    use super::*;

    pub fn serialize<S: Serializer>(
        summaries: &PerMetric<LatencySummary>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        write(summaries, is_of_phases, serializer)
    }

    pub fn schema(generator: &mut SchemaGenerator) -> Schema {
        summaries_schema(is_of_phases, generator)
    }

    fn is_of_phases(scope: Scope) -> bool {
        scope != Scope::Run
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

fn summaries_schema(is_written: fn(Scope) -> bool, generator: &mut SchemaGenerator) -> Schema {
    let written = Metric::ALL
        .iter()
        .filter(|metric| is_written(metric.scope()));
    let names = written.map(|metric| (metric.summary_name(), metric.doc()));
    map_of::<LatencySummary>(names, generator)
}

/// For `#[schemars(schema_with = "…")]` on dropped frames.
pub fn drops(generator: &mut SchemaGenerator) -> Schema {
    map_of::<u64>(
        DropReason::ALL.iter().map(|reason| (reason.name(), "")),
        generator,
    )
}

/// For `#[schemars(schema_with = "…")]` on pings reported undeliverable.
pub fn errors(generator: &mut SchemaGenerator) -> Schema {
    map_of::<u64>(
        PingError::ALL.iter().map(|error| (error.name(), "")),
        generator,
    )
}

/// The schema of a map with only these names, each with what it is, of which any may be absent.
fn map_of<T: JsonSchema>(
    names: impl Iterator<Item = (&'static str, &'static str)>,
    generator: &mut SchemaGenerator,
) -> Schema {
    let properties = names.map(|(name, doc)| {
        let mut schema = generator.subschema_for::<T>();
        if !doc.is_empty() {
            schema.insert("description".to_owned(), doc.into());
        }
        (name.to_owned(), schema.to_value())
    });
    let properties: Map<String, Value> = properties.collect();
    json_schema!({ "type": "object", "properties": properties })
}
