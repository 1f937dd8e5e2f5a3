use std::collections::BTreeMap;
use std::mem::discriminant;
use std::path::Path;

use jsonschema::Validator;
use serde_json::Map;

use super::*;
use crate::record::{Metric, PerMetric};
use crate::report::load::parse;
use crate::report::{compare, compare_json, fixtures, json, merge};

fn validator() -> Validator {
    jsonschema::validator_for(&serde_json::from_str(&schema_json()).unwrap()).unwrap()
}

/// The errors of a document, each with its place.
fn wrong(validator: &Validator, document: &Value) -> Vec<String> {
    let errors = validator.iter_errors(document);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

fn as_json(report: &Report) -> Value {
    let mut out = Vec::new();
    json(report, &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn the_files_are_what_the_program_makes() {
    for (file, made, name) in [
        (
            include_str!("../report.schema.json"),
            schema_json(),
            "report",
        ),
        (
            include_str!("../comparison.schema.json"),
            comparison_schema_json(),
            "comparison",
        ),
        (
            include_str!("../search.schema.json"),
            search_schema_json(),
            "search",
        ),
    ] {
        assert!(
            file == made,
            "write it again: cargo run -- schema {name} >src/report/{name}.schema.json"
        );
    }
}

#[test]
fn documents_of_whole_merged_and_compared_runs_are_valid() {
    let validator = validator();
    let whole = fixtures::whole();
    let merged = merge(&[whole.clone(), fixtures::report()]).unwrap();
    for report in [&whole, &merged, &fixtures::report()] {
        assert_eq!(wrong(&validator, &as_json(report)), [""; 0]);
    }
    let compared = serde_json::from_str(&comparison_schema_json()).unwrap();
    let validator = jsonschema::validator_for(&compared).unwrap();
    let runs = [("a", &whole), ("b", &merged), ("c", &whole)];
    for number in 2..=runs.len() {
        let mut out = Vec::new();
        compare_json(&compare(&runs[..number]), &mut out).unwrap();
        let mut document: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(wrong(&validator, &document), [""; 0]);
        let one = match document.as_array_mut() {
            Some(several) => &mut several[0],
            None => &mut document,
        };
        one["differences"][0]["quantity"] = "meters".into();
        assert!(!validator.is_valid(&document));
    }
}

/// Something in every field, but no more than that.
fn small() -> Value {
    let mut whole = fixtures::whole();
    whole.seconds.truncate(1);
    whole.flows.truncate(1);
    whole.histograms = PerMetric::default();
    whole.histograms[Metric::Rtt].record(5);
    as_json(&whole)
}

/// Every place in `document` that another has, as a JSON pointer to that and a name in it; of objects with the same names
/// only the first.
fn places(document: &Value, at: &str, found: &mut BTreeMap<Vec<String>, String>) {
    let parts: Vec<(String, &Value)> = match document {
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| (name.clone(), value))
            .collect(),
        // The parts of a list are alike.
        Value::Array(list) => list
            .iter()
            .take(1)
            .map(|value| ("0".to_owned(), value))
            .collect(),
        _ => return,
    };
    let names = parts.iter().map(|(name, _)| name.clone()).collect();
    found.entry(names).or_insert_with(|| at.to_owned());
    for (name, value) in parts {
        places(value, &format!("{at}/{name}"), found);
    }
}

#[test]
fn valid_is_what_is_read_whatever_is_missing_or_of_another_type() {
    let validator = validator();
    let clean = small();
    let mut found = BTreeMap::new();
    places(&clean, "", &mut found);
    let found = found
        .iter()
        .flat_map(|(names, at)| names.iter().map(move |name| (at, name)));
    let is_read = |document: &Value| parse(Path::new("a"), document.to_string().as_bytes()).is_ok();
    let (mut missing, mut mistyped) = ([0, 0], 0);
    for (at, name) in found {
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut document = clean.clone();
            change(document.pointer_mut(at).unwrap());
            document
        };
        if clean.pointer(at).is_some_and(Value::is_object) {
            let without = changed(&|at| drop(at.as_object_mut().unwrap().remove(name)));
            let is_valid = validator.is_valid(&without);
            assert_eq!(is_valid, is_read(&without), "without {at}/{name}");
            missing[usize::from(is_valid)] += 1;
        }
        for value in [
            Value::Null,
            Value::from(true),
            Value::from("77"),
            // A small number would be read as that of a variant.
            Value::from(77),
            Value::Object(Map::new()),
        ] {
            let mistaken = changed(&|at| match at {
                Value::Array(list) => list[0] = value.clone(),
                at => at[name] = value.clone(),
            });
            // Of what a histogram or an address is expected to be, a schema says no more than the type.
            let beside = clean.pointer(at);
            let was = beside.and_then(|beside| beside.pointer(&format!("/{name}")));
            let is_more =
                name == "address" || beside.is_some_and(|beside| beside.get("hdr").is_some());
            if is_more && was.is_some_and(|was| discriminant(was) == discriminant(&value)) {
                continue;
            }
            let is_valid = validator.is_valid(&mistaken);
            assert_eq!(is_valid, is_read(&mistaken), "{at}/{name}: {value}");
            mistyped += usize::from(!is_valid);
        }
    }
    assert!(
        missing.iter().all(|number| *number > 20) && mistyped > 300,
        "{missing:?} {mistyped}"
    );
}

#[test]
fn names_that_no_report_has_are_found_wherever_they_stand() {
    let validator = validator();
    let clean = small();
    let mut found = BTreeMap::new();
    places(&clean, "", &mut found);
    let mut objects = 0;
    for at in found.values() {
        let mut document = clean.clone();
        let Some(Value::Object(map)) = document.pointer_mut(at) else {
            continue;
        };
        map.insert("boto_ns".to_owned(), "7".into());
        // The names of settings are not the report's.
        let is_settings = at.starts_with("/plan/") && at != "/plan";
        assert_eq!(validator.is_valid(&document), is_settings, "{at}");
        objects += 1;
    }
    assert!(objects > 20, "{objects}");
}
