//! The JSON that the program writes and reads is as `docs/schemas` says: every schema is held against real runs, and
//! the examples of `docs/formats.md` against their schemas.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod runs;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use common::Bench;
use jsonschema::Validator;
use runs::RUNS;
use serde_json::{Value, json};

/// A document, the name of its schema, and the definition in it that describes the document; none for the whole.
type Document = (&'static str, Option<&'static str>, Value);

/// Objects with fields that are not ours, by schema and place: those of an input that are handed on, and metadata.
const OPEN: [(&str, &str); 3] = [
    ("levels", "/images/"),
    ("levels", "/categories/"),
    ("models.info", "/metadata"),
];

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn schema(name: &str) -> Value {
    let path = docs().join(format!("schemas/{name}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn names() -> BTreeSet<String> {
    let files = fs::read_dir(docs().join("schemas")).unwrap();
    let name = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    files.map(|entry| name(entry.unwrap().path())).collect()
}

fn validator(name: &str, definition: Option<&str>) -> Validator {
    let mut schema = schema(name);
    if let Some(definition) = definition {
        schema = json!({
            "$schema": schema["$schema"],
            "$defs": schema["$defs"],
            "$ref": format!("#/$defs/{definition}"),
        });
    }
    jsonschema::draft202012::new(&schema).unwrap()
}

#[track_caller]
fn assert_valid((name, definition, value): &Document) {
    let validator = validator(name, *definition);
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name} {definition:?}: {errors:#?}");
}

#[test]
fn every_schema_describes_what_the_program_writes_and_reads() {
    let documents: Vec<Document> = thread::scope(|scope| {
        let runs = RUNS.map(|run| scope.spawn(run));
        runs.into_iter()
            .flat_map(|run| run.join().unwrap())
            .collect()
    });
    let mut used = BTreeSet::new();
    for document in &documents {
        assert_valid(document);
        used.insert(document.0.to_owned());
    }
    assert_eq!(used, names());
    for (name, definition, value) in documents {
        let validator = validator(name, definition);
        assert!(!validator.is_valid(&json!("nothing")), "{name}");
        refuses_unknown_fields(&validator, name, value);
    }
}

/// A field that no schema knows is an error wherever it stands.
fn refuses_unknown_fields(validator: &Validator, name: &str, mut document: Value) {
    let mut places = Vec::new();
    objects(&document, String::new(), &mut places);
    for place in places {
        let is_open = |open: &(&str, &str)| open.0 == name && place.starts_with(open.1);
        if OPEN.iter().any(is_open) {
            continue;
        }
        let object = document.pointer_mut(&place).unwrap();
        object["unknown"] = json!(1);
        assert!(!validator.is_valid(&document), "{name}: at {place:?}");
        let object = document.pointer_mut(&place).unwrap();
        object.as_object_mut().unwrap().remove("unknown");
    }
}

/// Where the objects of a document are; of a list, the first and the last.
fn objects(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                objects(field, format!("{at}/{key}"), places);
            }
            places.push(at);
        }
        Value::Array(values) => {
            for i in BTreeSet::from([0, values.len().saturating_sub(1)]) {
                if let Some(value) = values.get(i) {
                    objects(value, format!("{at}/{i}"), places);
                }
            }
        }
        _ => {}
    }
}

#[test]
fn every_field_has_a_description() {
    fn check(value: &Value, place: &str, count: &mut usize) {
        let Some(fields) = value.as_object() else {
            return;
        };
        if let Some(Value::Object(properties)) = fields.get("properties")
            && fields.get("type") == Some(&json!("object"))
        {
            assert!(fields.contains_key("required"), "{place}");
            assert!(fields.contains_key("additionalProperties"), "{place}");
            let text = |value: &Value| {
                value["description"]
                    .as_str()
                    .unwrap_or_default()
                    .to_lowercase()
            };
            let required = fields["required"].as_array().unwrap();
            for (name, field) in properties {
                *count += 1;
                // A field that need not be there says when it is not, or its object does.
                let is_told = [text(value), text(field)]
                    .iter()
                    .any(|t| t.contains("left out"));
                assert!(
                    required.contains(&json!(name)) || is_told,
                    "{place}: {name}"
                );
                let is_described = |key| field.get(key).is_some();
                let is_described = is_described("description") || is_described("$ref");
                assert!(is_described, "{place}: {name}");
            }
        }
        for (key, value) in fields {
            match value {
                Value::Array(values) => values.iter().for_each(|value| check(value, place, count)),
                value => check(value, &format!("{place}/{key}"), count),
            }
        }
    }
    for name in names() {
        let schema = schema(&name);
        let dialect = "https://json-schema.org/draft/2020-12/schema";
        assert_eq!(schema["$schema"], dialect, "{name}");
        assert!(jsonschema::meta::is_valid(&schema), "{name}");
        let mut count = 0;
        check(&schema, &name, &mut count);
        assert!(count > 0 || name == "everything.point-grids", "{name}");
        let definitions = schema["$defs"].as_object().cloned().unwrap_or_default();
        for (definition, value) in definitions {
            let is_described = value.get("description").is_some();
            assert!(is_described, "{name}: {definition}");
        }
    }
}

#[test]
fn a_document_with_a_wrong_value_is_refused() {
    let bench = Bench::new();
    let right = bench.json(&["--point", "40,30"]);
    let validator = validator("segment", None);
    assert!(validator.is_valid(&right));
    for (place, value) in [
        ("/image/width", json!("96")),
        ("/objects/0/candidates", json!([])),
        ("/objects/0/selected/bbox", json!([1, 2, 3])),
        ("/objects/0/selected/granularity", json!("piece")),
        (
            "/objects/0/selected/segmentation",
            json!({"size": [64, 96]}),
        ),
        ("/objects/0/candidates/0/stability_score", json!(1.5)),
        ("/timing_ms", Value::Null),
    ] {
        let mut wrong = right.clone();
        *wrong.pointer_mut(place).unwrap() = value;
        assert!(!validator.is_valid(&wrong), "{place}");
    }
}

/// Examples stand in blocks of `json` or `jsonl`, below the link to their schema.
#[test]
fn the_examples_of_the_page_are_valid() {
    let page = fs::read_to_string(docs().join("formats.md")).unwrap();
    let (mut schema, mut block, mut shown) = (None, None::<String>, BTreeSet::new());
    let mut linked = BTreeSet::new();
    for line in page.lines() {
        for link in line.split("](schemas/").skip(1) {
            let name = link.split(".json)").next().unwrap();
            linked.insert(name.to_owned());
            schema = names().into_iter().find(|known| known == name);
            assert!(schema.is_some(), "{name}");
        }
        match (&mut block, line) {
            (None, "```json" | "```jsonl") => block = Some(String::new()),
            (Some(text), "```") => {
                let name = schema.clone().unwrap();
                let whole = serde_json::from_str::<Value>(text);
                if let Ok(value) = whole {
                    assert!(validator(&name, None).is_valid(&value), "{name}: {text}");
                } else {
                    for line in text.lines() {
                        check_line(&name, line);
                    }
                }
                shown.insert(name);
                block = None;
            }
            (Some(text), line) => text.extend([line, "\n"]),
            _ => {}
        }
    }
    assert_eq!(linked, names());
    // These are longer than a page, and are shown with gaps.
    let long = ["eval.clicks", "eval.video"].map(str::to_owned);
    assert_eq!(&linked - &shown, BTreeSet::from(long));
}

/// A line of a file of lines; where it has a checksum, that is right.
#[track_caller]
fn check_line(name: &str, line: &str) {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {line}: {e}"));
    let definition = (name == "segment.prompts").then_some("prompt");
    let valid = validator(name, definition).is_valid(&value);
    assert!(valid, "{name}: {line}");
    check_sum(line, &value);
}

#[track_caller]
fn check_sum(line: &str, value: &Value) {
    if let Some(sum) = value["crc32"].as_str() {
        let before = line.split(",\"crc32\"").next().unwrap();
        assert_eq!(sum, format!("{:08x}", crc32fast::hash(before.as_bytes())));
        assert!(line.ends_with(&format!(",\"crc32\":\"{sum}\"}}")), "{line}");
    }
}
