//! JSON schemas (draft 2020-12) of the documents, made from the types that are written and read.
//!
//! They are strict, so that a misspelt name is found: a document has no other names than those of this version. One of an
//! earlier version, which lacks some, is valid too.

use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;

use super::{Comparison, Report, SearchReport};
use crate::fabric::InstrumentKind;

/// The schema of the report, as `--json` prints it.
pub fn schema_json() -> String {
    written::<Report>()
}

/// The schema of a comparison, as `report --compare --json` prints it: one, or a list of them.
pub fn comparison_schema_json() -> String {
    written::<Comparisons>()
}

/// The schema of what a search has found, as `search --json` prints it.
pub fn search_schema_json() -> String {
    written::<SearchReport>()
}

/// The schema of a line that the instrument of that name writes; `None` if it writes no lines of JSON.
pub fn line_schema_json(instrument: &str) -> Option<String> {
    let schema = InstrumentKind::named(instrument)?.schema?;
    Some(printed(schema(generator())))
}

/// One comparison, or one for each run but the first.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code)] // It is there for its schema.
enum Comparisons {
    /// That of two runs.
    One(Box<Comparison>),
    /// Those of more.
    Several(Vec<Comparison>),
}

fn written<T: JsonSchema>() -> String {
    printed(generator().into_root_schema_for::<T>())
}

fn generator() -> SchemaGenerator {
    schema_settings().into_generator()
}

/// Settings of a generator of schemas as strict as those here.
pub(crate) fn schema_settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with_transform(Strict)
}

/// Indented, with a line end.
fn printed(schema: Schema) -> String {
    format!("{:#}\n", schema.to_value())
}

/// Takes out what only Rust's documentation reads, and lets objects have no names but those that the schema gives.
#[derive(Clone)]
struct Strict;

impl Transform for Strict {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::String(doc)) = schema.get_mut("description") {
            *doc = doc.replace("[`", "`").replace("`]", "`");
        }
        let parts = schema.get("oneOf").and_then(Value::as_array);
        let parts = parts
            .filter(|_| schema.get("properties").is_some())
            .cloned();
        transform_subschemas(self, schema);
        match parts {
            // What is in one of the parts and what stands beside them are one object.
            Some(parts) => {
                schema.insert("oneOf".to_owned(), parts.into());
                schema.insert("unevaluatedProperties".to_owned(), false.into());
            }
            None if schema.get("properties").is_some() => {
                schema.insert("additionalProperties".to_owned(), false.into());
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
