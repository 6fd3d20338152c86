//! `samara quality` of the annotations of a data set, and `samara levels`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Bench, assert_fails, disc, json_of, run, stderr, stdout};
use samara_image::{save_object_map, save_png};
use serde_json::{Value, json};

/// Four objects, of which the first two are the same, and a record that cannot be read.
fn data_bench() -> Bench {
    let objects: [(_, &[_]); 5] = [
        (1, &[30, 12, 66, 12, 66, 52, 30, 52]),
        (1, &[30, 12, 66, 12, 66, 52, 30, 52]),
        (1, &[5, 5, 25, 5, 25, 30, 5, 30]),
        (1, &[1, 2, 3]),
        (2, &[20, 20, 80, 20, 50, 60]),
    ];
    Bench::new().with_data(&["val", "train"], &objects)
}

#[test]
fn annotations_are_ranked_shown_and_filtered() {
    let bench = data_bench();
    let report = json_of(&bench, &["data"]);
    let annotations = report["annotations"].as_array().unwrap();
    assert_eq!((annotations.len(), &report["skipped"]), (4, &json!(1)));
    assert_eq!(
        (&report["duplicates"], &report["images"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(
        annotations[0]["duplicate_of"].as_u64().unwrap()
            + annotations[0]["annotation"].as_u64().unwrap(),
        3
    );
    assert!(annotations[2]["estimate"].as_f64() <= annotations[3]["estimate"].as_f64());
    assert_eq!(
        json_of(&bench, &["data", "--split", "train"])["annotations"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        json_of(&bench, &["data/annotations.json", "--limit", "1"])["images"],
        1
    );
    let large = json_of(&bench, &["data", "--min-area", "600"]);
    assert_eq!(large["too_small"], 1);
    assert_eq!(large["annotations"].as_array().unwrap().len(), 3);
}

#[test]
fn suspects_are_shown_and_left_out() {
    let bench = data_bench();
    let args = [
        "data",
        "--worst",
        "2",
        "--report",
        "r.html",
        "--drop",
        "0.5",
        "--keep",
        "data/kept.json",
    ];
    let output = run(&bench, "quality", &args);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).is_empty(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains("1.png / 1, thing, same mask as 2") && text.contains("1 bad segmentation"),
        "{text}"
    );
    assert!(
        text.contains("kept 3 annotations, left out 2\nwrote data/kept.json\nwrote r.html"),
        "{text}"
    );
    let page = std::fs::read_to_string(bench.path("r.html")).unwrap();
    assert_eq!(page.matches("data:image/jpeg").count(), 2);
    let kept = json_of(&bench, &["data/kept.json"]);
    assert_eq!(kept["annotations"].as_array().unwrap().len(), 2);
    assert_eq!(kept["duplicates"], 0);

    let elsewhere = run(
        &bench,
        "quality",
        &["data", "--min-quality", "0", "--keep", "kept.json"],
    );
    assert!(elsewhere.status.success());
    assert!(
        stderr(&elsewhere).contains("name their folder with --images"),
        "{}",
        stderr(&elsewhere)
    );
    assert!(
        stdout(&elsewhere).contains("left out 1\n"),
        "{}",
        stdout(&elsewhere)
    );
}

#[test]
fn flags_that_make_no_sense_are_refused_in_one_line() {
    let bench = data_bench();
    disc().save_png(bench.path("mask.png")).unwrap();
    let keep_all = ["data", "--keep", "data/annotations.json", "--drop", "0.5"];
    for (args, status, words) in [
        (
            &["data", "--mask", "mask.png"][..],
            2,
            &["--mask", "data"][..],
        ),
        (&["data", "--keep", "data/k.json"], 2, &["--min-quality"]),
        (&["data", "--drop", "0.5"], 2, &["--keep"]),
        (&["data", "--keep", "k.json", "--drop", "2"], 2, &["0 to 1"]),
        (&keep_all, 2, &["--keep", "write to another place"]),
        (&["data", "--split", "test"], 1, &["test"]),
        (&["data/missing.json"], 1, &["missing.json"]),
    ] {
        assert_fails(&run(&bench, "quality", args), status, words);
    }
}

#[test]
fn label_maps_are_assessed_but_not_filtered() {
    let bench = Bench::new();
    for folder in ["maps/images", "maps/labels"] {
        std::fs::create_dir_all(bench.path(folder)).unwrap();
    }
    save_png(bench.path("maps/images/a.png"), &common::photo(96, 64, 0)).unwrap();
    save_object_map(bench.path("maps/labels/a.png"), (96, 64), &[(1, &disc())]).unwrap();
    assert_eq!(
        json_of(&bench, &["maps"])["annotations"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let args = ["maps", "--keep", "k.json", "--drop", "0.1"];
    assert_fails(&run(&bench, "quality", &args), 2, &["--keep", "label maps"]);
    let args = ["maps", "--out", "maps/levels.json", "--with-annotations"];
    let output = run(&bench, "levels", &args);
    assert!(output.status.success(), "{}", stderr(&output));
    let report = json_of(&bench, &["maps/levels.json"]);
    assert_eq!(report["skipped"], 0, "{report}");
    assert!(report["annotations"].as_array().unwrap().len() >= 2);
}

/// Ids that are texts become numbers everywhere, so that what is written fits together.
#[test]
fn levels_of_annotations_with_texts_for_ids_have_images_and_categories() {
    let bench = data_bench();
    let file = std::fs::read(bench.path("data/annotations.json")).unwrap();
    let mut data: Value = serde_json::from_slice(&file).unwrap();
    data["images"][0]["id"] = json!("first");
    data["categories"][0]["id"] = json!("thing");
    for annotation in data["annotations"].as_array_mut().unwrap() {
        annotation["category_id"] = json!("thing");
        if annotation["image_id"] == 1 {
            annotation["image_id"] = json!("first");
        }
    }
    bench.write("data/texts.json", data.to_string().as_bytes());
    let output = run(&bench, "levels", &["data/texts.json", "--out", "l.json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let file = std::fs::read(bench.path("l.json")).unwrap();
    let levels: Value = serde_json::from_slice(&file).unwrap();
    let ids = |of: &str| -> Vec<&Value> {
        let records = levels[of].as_array().unwrap();
        records.iter().map(|record| &record["id"]).collect()
    };
    let (images, categories) = (ids("images"), ids("categories"));
    assert_eq!((images.len(), categories.len()), (2, 1));
    assert!(images.iter().all(|id| id.is_u64()), "{images:?}");
    for annotation in levels["annotations"].as_array().unwrap() {
        assert!(images.contains(&&annotation["image_id"]), "{annotation}");
        assert_eq!(&annotation["category_id"], categories[0]);
    }
}

#[test]
fn levels_are_written_assessed_and_trained_with() {
    let bench = data_bench();
    let output = run(&bench, "levels", &["data", "--out", "data/levels.json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains("4 objects") && text.contains("1 bad segmentation"),
        "{text}"
    );
    assert!(text.ends_with("wrote data/levels.json\n"), "{text}");
    let recipe = "seed = 3
[model]
random = 'tiny.safetensors'
[[data]]
path = 'data/levels.json'
split = 'train'
max_area_fraction = 1.0
[prompts]
recipe = 'sam'
[losses]
weights = { focal = 20.0, dice = 1.0, iou = 1.0, object_score = 0.0 }
iou = { kind = 'l1', supervise_all = true }
[optimizer]
lr = 0.001
[[stages]]
steps = 1
masks_per_image = 2
rounds = [1, 1]
";
    bench.write("recipe.toml", recipe.as_bytes());
    bench.tiny_model();
    let trained = bench.run(&["train", "recipe.toml", "--out", "run"]);
    assert!(trained.status.success(), "{}", stderr(&trained));

    let none = run(&bench, "levels", &["data", "--out", "x/levels.json"]);
    assert_fails(&none, 1, &["--out", "x"]);
    let over = run(
        &bench,
        "levels",
        &["data", "--out", "data/annotations.json"],
    );
    assert_fails(&over, 2, &["--out", "write to another place"]);
    let score = run(
        &bench,
        "levels",
        &["data", "--out", "l.json", "--min-score", "7"],
    );
    assert_fails(&score, 2, &["--min-score"]);
}
