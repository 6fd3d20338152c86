//! `samara eval`: where clicks land, and two models side by side.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Bench, assert_fails, golden, model, stderr, stdout};
use serde_json::Value;

/// Two images with three objects.
fn bench() -> Bench {
    let objects: [(_, &[_]); 3] = [
        (1, &[30, 12, 66, 12, 66, 52, 30, 52]),
        (1, &[70, 40, 74, 40, 74, 43, 70, 43]),
        (2, &[20, 20, 80, 20, 50, 60]),
    ];
    Bench::new().with_data(&["val", "val"], &objects)
}

/// The JSON of an evaluation with one click.
fn json(bench: &Bench, args: &[&str]) -> Value {
    let model = model();
    let usual = [
        "eval",
        "data",
        "--checkpoint",
        &model,
        "--json=-",
        "--clicks=1",
    ];
    let output = bench.run(&[&usual[..], args].concat());
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn figures(report: &Value) -> &Value {
    &report["data_sets"][0]["first_click"]
}

#[test]
fn placements_are_chosen_and_drawn_as_often_as_asked() {
    let bench = bench();
    let both = json(&bench, &["--clicks-at", "human,center", "--draws", "2"]);
    assert_eq!(
        both["options"]["clicks_at"],
        serde_json::json!(["center", "human"])
    );
    let names: Vec<&String> = figures(&both).as_object().unwrap().keys().collect();
    assert_eq!(names, ["center", "human"]);
    // Three objects: three clicks and a box each.
    assert_eq!(both["data_sets"][0]["seconds"]["prompts"], 12);
    let repeated = json(
        &bench,
        &["--clicks-at=human", "--clicks-at=uniform", "--draws=2"],
    );
    // The same clicks, whatever else there is.
    assert_eq!(
        figures(&repeated)["human"]["all_mae"],
        figures(&both)["human"]["all_mae"]
    );
    assert!(figures(&repeated).get("center").is_none());
    // Without the center, further clicks begin with the first that was drawn anywhere.
    let uniform = json(&bench, &["--clicks-at=uniform", "--draws=1"]);
    assert_eq!(
        repeated["data_sets"][0]["miou_by_clicks"][0]["value"],
        figures(&uniform)["uniform"]["miou_chosen"]["value"]
    );
    let reseeded = json(
        &bench,
        &["--clicks-at=human,center", "--draws=2", "--seed=7"],
    );
    assert_ne!(figures(&reseeded)["human"], figures(&both)["human"]);
    let center = |report: &Value| figures(report)["center"]["all_mae"].clone();
    assert_eq!(center(&reseeded), center(&both), "the center is not drawn");
}

#[test]
fn further_clicks_and_intent_are_recorded() {
    let bench = bench();
    let args = ["--clicks=3", "--intent=objects", "--clicks-at=center"];
    let model = model();
    let run = |more: &[&str]| -> Value {
        let usual = ["eval", "data", "--checkpoint", &model, "--json=-"];
        let output = bench.run(&[&usual[..], &args, more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (deepest, human) = (run(&[]), run(&["--further-clicks-at=human"]));
    for report in [&deepest, &human] {
        assert_eq!(report["options"]["intent"], "objects");
    }
    assert_eq!(deepest["options"]["further_clicks_at"], "center");
    assert_eq!(human["options"]["further_clicks_at"], "human");
    assert_eq!(figures(&deepest), figures(&human));
    let further = |report: &Value| report["data_sets"][0]["further_prompts"].clone();
    assert_ne!(further(&deepest)["miou_3"], further(&human)["miou_3"]);
    assert_eq!(further(&deepest)["miou_box"], further(&human)["miou_box"]);
}

#[test]
fn a_model_that_is_compared_does_not_zoom() {
    let bench = bench();
    let zoomed = json(&bench, &["--zoom=2", "--compare", &model()]);
    assert_eq!(zoomed["options"]["zoom"], "2");
    assert_eq!(
        figures(&zoomed["compared_with"]),
        figures(&json(&bench, &[]))
    );
}

#[test]
fn two_models_answer_the_same_clicks() {
    let bench = bench();
    let itself = json(&bench, &["--compare", &model()]);
    assert_eq!(
        itself["compared_with"]["fingerprint"],
        itself["fingerprint"]
    );
    assert_eq!(figures(&itself), figures(&itself["compared_with"]));
    let difference = &itself["difference"]["data_sets"][0];
    for placement in ["center", "uniform", "human"] {
        let of = difference["first_click"][placement].as_object().unwrap();
        assert!(
            of.contains_key("miou_chosen") && of.contains_key("best_mae"),
            "{of:?}"
        );
        for figure in of.values() {
            for end in ["value", "low", "high"] {
                assert_eq!(figure[end], 0.0, "{placement}: {of:?}");
            }
        }
    }
    assert_eq!(difference["further_prompts"]["miou_box"]["high"], 0.0);

    let other = golden("mobile_sam.pth");
    let alone = json(&bench, &[]);
    let compared = json(&bench, &["--compare", &other]);
    assert_eq!(figures(&compared), figures(&alone));
    let value = |of: &Value| {
        let figure = &of["first_click"]["human"]["miou_best_of_three"];
        figure["value"].as_f64().unwrap()
    };
    let a_and_b = [&compared, &compared["compared_with"]].map(|m| value(&m["data_sets"][0]));
    let difference = value(&compared["difference"]["data_sets"][0]);
    assert!((a_and_b[0] - a_and_b[1] - difference).abs() < 1e-12);
    assert_ne!(difference, 0.0);
}

#[test]
fn a_comparison_as_text_and_as_a_page() {
    let bench = bench();
    let model = model();
    let args = ["--clicks=2", "--draws=1", "--report=r.html", "--compare"];
    let usual = ["eval", "data", "--checkpoint", &model];
    let output = bench.run(&[&usual[..], &args, &[&model]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for words in [
        "First click: data, uniform",
        "Further prompts: data",
        "A − B",
        "+0.0 [+0.0, +0.0]",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let page = std::fs::read_to_string(bench.path("r.html")).unwrap();
    assert!(page.contains("<th>A − B</th>"));
}

#[test]
fn bad_values_name_their_flag() {
    let bench = bench();
    let model = model();
    let fails = |args: &[&str], status, words: &[&str]| {
        let usual = ["eval", "data", "--checkpoint", &model];
        assert_fails(&bench.run(&[&usual[..], args].concat()), status, words);
    };
    fails(
        &["--clicks-at=middle"],
        2,
        &["--clicks-at", "middle", "uniform"],
    );
    fails(&["--clicks-at=center,"], 2, &["--clicks-at"]);
    fails(
        &["--further-clicks-at=x"],
        2,
        &["--further-clicks-at", "human"],
    );
    fails(&["--draws=0"], 2, &["--draws", "at least 1"]);
    fails(&["--seed=-1"], 2, &["--seed", "-1"]);
    fails(&["--intent=object"], 2, &["--intent", "object", "segments"]);
    fails(&["--zoom=1"], 2, &["--zoom", "more than 1"]);
    fails(
        &["--min-area=9", "--max-area=8"],
        2,
        &["--max-area 8", "--min-area 9"],
    );
    fails(
        &["--max-area=3"],
        1,
        &["nothing to evaluate", "3 too large"],
    );
    fails(
        &["--compare=none.pth"],
        1,
        &["--compare none.pth", "neither a file"],
    );
    fails(&["--compare=photo.png"], 1, &["--compare", "photo.png"]);
    let download = ["--compare", "not on this machine", "models download"];
    fails(&["--compare=sam-vit-b"], 1, &download);
    for flag in [
        "--compare=lite",
        "--draws=2",
        "--clicks-at=human",
        "--max-area=9",
    ] {
        let name = flag.split('=').next().unwrap();
        fails(&["--everything", flag], 2, &["--everything", name]);
        fails(&["--video", flag], 2, &["--video", name]);
    }
}
