//! What `--help` and `--json` look like. A change of either is seen in the snapshots beside this file:
//! `INSTA_UPDATE=always cargo test --release --workspace --test snapshots` writes them anew.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Bench, model, stderr, stdout};
use serde_json::{Map, Value};

#[test]
fn help_of_every_command() {
    let bench = Bench::new();
    for command in [
        &[][..],
        &["segment"],
        &["everything"],
        &["video"],
        &["studio"],
        &["serve"],
        &["attention"],
        &["train"],
        &["eval"],
        &["quality"],
        &["levels"],
        &["bench"],
        &["models"],
        &["models", "download"],
        &["models", "convert"],
        &["models", "quantize"],
        &["completions"],
    ] {
        let output = bench.run(&[command, &["--help"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        insta::assert_snapshot!([&["help"], command].concat().join("-"), stdout(&output));
    }
}

#[test]
fn json_of_every_command() {
    let bench = Bench::new().with_data(&["val"], &[(1, &[30, 15, 65, 15, 65, 50, 30, 50])]);
    common::disc().save_png(bench.path("mask.png")).unwrap();
    let model = model();
    let checkpoint = ["--checkpoint", &model];
    for (name, arguments) in [
        ("segment", &["segment", "photo.png", "--point", "40,30"][..]),
        ("quality", &["quality", "photo.png", "--mask", "mask.png"]),
        ("quality-data", &["quality", "data"]),
        ("eval", &["eval", "data", "--clicks", "2"]),
        (
            "bench",
            &["bench", "photo.png", "--repeat", "1", "--prompts", "2"],
        ),
    ] {
        let output = bench.run(&[arguments, &checkpoint, &["--json", "-"]].concat());
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        insta::assert_json_snapshot!(format!("json-{name}"), kinds(&value));
    }
    for (name, arguments) in [
        ("models-list", &["models", "list", "--json"][..]),
        ("models-info", &["models", "info", &model, "--json"]),
    ] {
        let value: Value = serde_json::from_str(&stdout(&bench.run(arguments))).unwrap();
        insta::assert_json_snapshot!(format!("json-{name}"), kinds(&value));
    }
    let grid = ["--points-per-side", "2", "--pred-iou-thresh", "0"];
    let everything = [
        "everything",
        "photo.png",
        "--stability-score-thresh",
        "0",
        "--out",
        "masks",
    ];
    let output = bench.run(&[&everything[..], &grid, &checkpoint].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let file = std::fs::read(bench.path("masks/photo.png.json")).unwrap();
    let value: Value = serde_json::from_slice(&file).unwrap();
    insta::assert_json_snapshot!("json-everything", kinds(&value));
}

/// The form of a document: keys and kinds of values, of lists what their elements have in common.
fn kinds(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(values) => {
            let mut forms: Vec<Value> = Vec::new();
            for form in values.iter().map(kinds) {
                if !forms.contains(&form) {
                    forms.push(form);
                }
            }
            Value::Array(forms)
        }
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| (key.clone(), kinds(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
    }
}
