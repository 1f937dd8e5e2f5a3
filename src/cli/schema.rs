//! The JSON schema of scenario files, made from the table of options, so that an editor completes and checks them.

use serde_json::{Map, Value, json};
use tap_reactor::experiment::options::{Kind, OPTIONS, OptionSpec, Scope};

use super::help;

/// The schema of scenario files, as a document.
pub fn scenario() -> String {
    let mut properties = properties(Scope::is_top);
    for (name, is_there, description) in [
        (
            "group",
            Scope::is_group as fn(Scope) -> bool,
            "Groups of VMs; the VMs of the first group are vm0, vm1, …",
        ),
        ("phase", Scope::is_phase, "Phases, which follow one another"),
    ] {
        let table = json!({
            "type": "array",
            "description": description,
            "items": table(is_there),
        });
        properties.insert(name.to_owned(), table);
    }
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Scenario of tap-reactor",
        "description": "A scenario file in TOML, for tap-reactor --scenario FILE",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    format!("{schema:#}\n")
}

/// A table in which options stand.
fn table(is_there: fn(Scope) -> bool) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties(is_there),
    })
}

fn properties(is_there: fn(Scope) -> bool) -> Map<String, Value> {
    let here = OPTIONS.iter().filter(|option| is_there(option.scope));
    here.map(|option| (option.name.to_owned(), property(option)))
        .collect()
}

fn property(option: &OptionSpec) -> Value {
    let mut property = value(option.kind);
    if option.is_on_or_off() && option.kind != Kind::Switch {
        property = json!({ "anyOf": [property, { "type": "boolean" }] });
    } else if option.may_be_off() && option.kind != Kind::Switch {
        property = json!({ "anyOf": [property, { "enum": [true, false, "off"] }] });
    }
    if option.is_repeatable {
        property = json!({ "anyOf": [property, { "type": "array", "items": property }] });
    }
    if let Value::Object(fields) = &mut property {
        let description = help::sentences(option).join(" ");
        fields.insert("description".to_owned(), description.into());
    }
    property
}

/// A value as a scenario file may have it.
fn value(kind: Kind) -> Value {
    let number = json!({ "type": "number", "minimum": 0 });
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    match kind {
        Kind::Switch => json!({ "enum": [true, false, "on", "off"] }),
        Kind::Whole | Kind::Number => json!({ "anyOf": [number, text("^[0-9.]")] }),
        Kind::Time => json!({ "anyOf": [number, text("^[0-9.]")] }),
        Kind::TimeOr(word) => json!({ "anyOf": [number, text("^[0-9.]"), { "const": word }] }),
        Kind::OneOf(words) => json!({ "enum": words }),
        Kind::Path | Kind::Vms => json!({ "type": "string" }),
        Kind::Text | Kind::Sizes => json!({ "type": ["string", "number"] }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tap_reactor::experiment::Scenario;

    use super::*;

    const COMMITTED: &str = "scripts/experiments/scenario.schema.json";

    #[test]
    fn the_committed_schema_is_the_one_that_the_program_prints() {
        let committed = fs::read_to_string(COMMITTED).unwrap_or_default();
        assert!(
            committed == scenario(),
            "write it anew: cargo run -- schema scenario > {COMMITTED}"
        );
    }

    /// The complaints of the schema about a scenario; empty if it is valid.
    fn complaint(text: &str) -> String {
        let schema: Value = serde_json::from_str(&scenario()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let document: Value = toml::from_str(text).unwrap();
        let complaints = validator.iter_errors(&document);
        complaints
            .map(|error| format!("{}: {error}\n", error.instance_path()))
            .collect()
    }

    /// The scenarios of a folder, or of the TOML blocks of its documents, each with its name.
    fn scenarios(folder: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.display().to_string();
            let text = || fs::read_to_string(&path).unwrap();
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("toml") => found.push((name, text())),
                Some("md") => {
                    for (number, block) in text().split("```toml\n").skip(1).enumerate() {
                        let block = block.split("```").next().unwrap_or_default();
                        found.push((format!("{name}, block {number}"), block.to_owned()));
                    }
                }
                _ => {}
            }
        }
        found
    }

    #[test]
    fn the_scenarios_of_the_repository_hold_to_the_schema() {
        let mut all = scenarios("scripts/experiments");
        all.extend(scenarios("src/guide"));
        all.extend(scenarios("tests/fuzz/seeds/scenario"));
        assert!(all.len() >= 8, "{all:?}");
        for (name, text) in all {
            // A document may show a part of one, but one that is read without an error.
            Scenario::parse(&name, &text).unwrap();
            assert_eq!(complaint(&text), "", "{name}");
        }
        assert!(Path::new(COMMITTED).exists());
    }

    #[test]
    fn what_a_scenario_can_not_have_is_found_by_the_schema() {
        for (text, found) in [
            ("vsm = 3\n", "vsm"),
            ("[[phase]]\nvms = 3\n", "vms"),
            ("[[group]]\nping = \"ring\"\n", "ping"),
            ("start = 3\n", "start"),
            ("ipv6 = 3\n", "/ipv6"),
            ("ipv6 = \"maybe\"\n", "/ipv6"),
            ("spin = \"on\"\n", "/spin"),
            ("window = false\n", "/window"),
            ("timeout = true\n", "/timeout"),
            ("fabric = \"brige\"\n", "/fabric"),
            ("interval = \"soon\"\n", "/interval"),
            ("vms = [1, 2]\n", "/vms"),
            ("phase = 3\n", "/phase"),
        ] {
            let complaint = complaint(text);
            assert!(complaint.contains(found), "{text}: {complaint}");
        }
        for text in [
            "vms = \"10k\"\nrate = 2e3\ninterval = 0.2\nspin = \"always\"\nimpair = \"loss=0.5%\"\n",
            "ipv6 = \"on\"\ndhcp = \"off\"\nslaac = true\nspin = true\nfilter = true\n",
            "ping = \"ring\"\nexpect = [\"p99<1ms\", \"loss=0\"]\nvlan = 7\nfilter = \"off\"\n",
            "spin = false\npath-split = false\nfilter = false\n",
            "spin = \"off\"\npath-split = \"off\"\n",
            "capture = \"a\"\ncapture-comments = false\nfilter = false\n",
        ] {
            assert_eq!(complaint(text), "");
        }
    }
}
