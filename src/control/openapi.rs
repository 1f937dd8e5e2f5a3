//! The description of the interface (OpenAPI 3.1), made from the table of routes and the types of their documents.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::message::JSON;
use super::resources::{LARGEST_PAGE, Order, PAGE};
use super::routes::{Content, JSON_LINES, PCAPNG, ROUTES, Route};
use super::{ApiError, status};
use crate::report::{Exposition, Format, schema_settings};

/// Returns the description, indented, with a line end.
pub fn description() -> String {
    let mut settings = schema_settings();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for route in ROUTES {
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        methods[route.method.to_ascii_lowercase()] = operation(route, &mut generator);
    }
    let error = reference::<ApiError>(&mut generator);
    let responses = json!({
        "error": {
            "description": "The request was not carried out",
            "content": { JSON: { "schema": error } },
        },
    });
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Control of a running lab of tap-reactor",
            "description": "HTTP/1.1 over the Unix socket of --control PATH: \
                            curl --unix-socket PATH http://lab/vms; or over TCP with a token: --control tcp:ADDRESS:PORT",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "http://lab" }],
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": responses,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "Over TCP: the token of the lab" },
            },
        },
    });
    format!("{document:#}\n")
}

fn reference<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let error = json!({ "$ref": "#/components/responses/error" });
    let mut responses = Map::new();
    let content = match &route.response {
        Content::Json(schema) | Content::JsonOrCapture(schema) => {
            json!({ JSON: { "schema": schema(generator).to_value() } })
        }
        Content::Report => Format::all()
            .map(|format| (format.media_type().to_owned(), json!({})))
            .collect::<Map<_, _>>()
            .into(),
        Content::Metrics => Exposition::ALL
            .map(|format| (format.content_type().to_owned(), json!({})))
            .into_iter()
            .collect::<Map<_, _>>()
            .into(),
        Content::Events => json!({ JSON_LINES: {} }),
        Content::Description => json!({ JSON: { "schema": { "type": "object" } } }),
    };
    let ok = json!({ "description": status::reason(route.status), "content": content });
    responses.insert(route.status.to_string(), ok);
    if let Content::JsonOrCapture(_) = route.response {
        let frames =
            json!({ "description": status::reason(status::OK), "content": { PCAPNG: {} } });
        responses.insert(status::OK.to_string(), frames);
    }
    for status in route.errors {
        responses.insert(status.to_string(), error.clone());
    }
    // Of the connection.
    responses.insert("default".to_owned(), error);
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.doc,
        "responses": responses,
    });
    let parameters = parameters(route);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(schema) = route.request {
        operation["requestBody"] = json!({
            "required": true,
            "content": { JSON: { "schema": schema(generator).to_value() } },
        });
    }
    operation
}

fn parameters(route: &Route) -> Vec<Value> {
    let in_path = route.parameter().map(|name| {
        json!({
            "name": name, "in": "path", "required": true,
            "description": route.path_doc,
            "schema": { "type": "string" },
        })
    });
    let in_query = |name: &&str| {
        let (description, schema) = match *name {
            "offset" => (
                "The items to leave out",
                json!({ "type": "integer", "minimum": 0, "default": 0 }),
            ),
            "limit" => (
                "The most items to return",
                json!({ "type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE }),
            ),
            _ => (
                "The order of the whole list: worst begins with the flows of which most pings failed, and among those \
                 of which as many did with the slowest",
                json!({ "enum": Order::ALL.map(|(word, _)| word), "default": "number" }),
            ),
        };
        json!({ "name": name, "in": "query", "description": description, "schema": schema })
    };
    in_path
        .into_iter()
        .chain(route.query.iter().map(in_query))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Every value of `$ref`.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                let reference = fields.get("$ref").and_then(Value::as_str);
                found.extend(reference.map(str::to_owned));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn the_file_is_what_the_program_makes() {
        assert!(
            include_str!("openapi.json") == description(),
            "write it again: cargo run -- schema control >src/control/openapi.json"
        );
    }

    #[test]
    fn what_it_refers_to_is_there_and_each_operation_has_a_name_of_its_own() {
        let document: Value = serde_json::from_str(&description()).unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > ROUTES.len());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let ids: HashSet<&str> = ROUTES.iter().map(|route| route.id).collect();
        assert_eq!(ids.len(), ROUTES.len());
        for route in ROUTES {
            assert_eq!(route.parameter().is_some(), !route.path_doc.is_empty());
            assert!(!route.errors.is_empty() && !route.doc.is_empty());
        }
    }
}
