//! `samara eval` on a small data set with a small random model.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Bench, assert_fails, model, stderr, stdout};
use samara::Mask;
use samara_image::{RgbImage, save_object_map, save_png};
use serde_json::{Value, json};

/// A COCO folder `data` with two images in `val`, one in `train`, and a damaged record.
fn bench() -> Bench {
    let objects: [(_, &[_]); 6] = [
        (1, &[30, 12, 66, 12, 66, 52, 30, 52]),
        (1, &[5, 5, 25, 5, 25, 30, 5, 30]),
        (1, &[70, 40, 74, 40, 74, 43, 70, 43]),
        (1, &[1, 2, 3]),
        (2, &[20, 20, 80, 20, 50, 60]),
        (3, &[10, 10, 60, 10, 60, 50]),
    ];
    Bench::new().with_data(&["val", "val", "train"], &objects)
}

fn eval(bench: &Bench, args: &[&str]) -> std::process::Output {
    let model = model();
    let mut all = vec!["eval", "data", "--checkpoint", &model];
    all.extend(args);
    bench.run(&all)
}

fn json(bench: &Bench, args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.extend(["--json", "-"]);
    let output = eval(bench, &all);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_json_has_all_figures() {
    let bench = bench();
    let report = json(&bench, &["--clicks", "3"]);
    let set = &report["data_sets"][0];
    assert_eq!(set["name"], "data");
    assert_eq!((&set["images"], &set["objects"]), (&json!(2), &json!(4)));
    assert_eq!(set["skipped"], 1, "{}", set["skipped_because"]);
    let of_all = &report["overall"]["mean_over_data_sets"];
    let check = |figures: &Value, of_all: &Value, keys: &[&str]| {
        for key in keys {
            let figure = &figures[key];
            let of = |name: &str| figure[name].as_f64().unwrap_or_else(|| panic!("{key}"));
            assert!(of("low") <= of("value") + 1e-9 && of("value") <= of("high") + 1e-9);
            assert_eq!(figure, &of_all[key]);
        }
    };
    for placement in ["center", "uniform", "human"] {
        let figures = &set["first_click"][placement];
        check(
            figures,
            &of_all["first_click"][placement],
            &[
                "miou_chosen",
                "miou_best_of_three",
                "oracle_gap",
                "selection_accuracy",
                "boundary_iou",
                "best_mae",
                "best_ece",
                "raw_mae",
                "raw_ece",
                "calibrated_mae",
                "calibrated_ece",
                "chosen_mae",
                "all_mae",
            ],
        );
        let value = |key: &str| figures[key]["value"].as_f64().unwrap();
        assert!(value("miou_chosen") <= value("miou_best_of_three"));
        let gap = value("miou_best_of_three") - value("miou_chosen");
        assert!((value("oracle_gap") - gap).abs() < 1e-9);
        // A model without a calibration predicts what it scores.
        assert_eq!(figures["best_mae"], figures["raw_mae"]);
        for absent in ["miou_chosen_any_annotator", "match_probability"] {
            assert!(figures.get(absent).is_none(), "{absent}");
        }
    }
    let further = &set["further_prompts"];
    let keys = ["miou_2", "miou_3", "miou_box", "answers_mae"];
    check(further, &of_all["further_prompts"], &keys);
    for absent in ["miou_5", "noc_90", "boundary_iou_5"] {
        assert!(further.get(absent).is_none(), "{absent}");
    }
    assert_eq!(set["miou_by_clicks"].as_array().unwrap().len(), 3);
    let chosen = &set["first_click"]["center"]["miou_chosen"];
    assert_eq!(
        &set["miou_by_clicks"][0], chosen,
        "they begin in the center"
    );
    let counts = set["iou_histogram"].as_array().unwrap().iter();
    assert_eq!(counts.map(|c| c.as_u64().unwrap()).sum::<u64>(), 4);
    assert_eq!(set["worst"].as_array().unwrap().len(), 2);
    // Four objects: seven first clicks, two more and a box each, unless a mask had no error left.
    assert_eq!(set["seconds"]["prompts"], 40);
    assert_eq!(report["fingerprint"].as_str().unwrap().len(), 64);
    assert_eq!(report["calibration"], "cross-fit");
}

#[test]
fn the_first_click_is_that_of_segment() {
    let bench = bench();
    let report = json(&bench, &["--clicks", "1", "--limit", "1"]);
    // The second of two images is the one: a triangle.
    let case = &report["data_sets"][0]["worst"][0];
    let [x, y] = [0, 1].map(|i| case["click"][i].as_f64().unwrap());
    let image = case["image"].as_str().unwrap().to_owned();
    let (point, model) = (format!("{x},{y}"), model());
    let args = [
        "segment",
        &image,
        "--checkpoint",
        &model,
        "--point",
        &point,
        "--json",
        "-",
    ];
    let answer: Value = serde_json::from_slice(&bench.run(&args).stdout).unwrap();
    let score = |record: &Value| record["predicted_iou"].as_f64().unwrap() as f32;
    assert_eq!(score(&answer["objects"][0]["selected"]), score(case));
}

#[test]
fn the_same_twice_and_parts_of_it() {
    let bench = bench();
    let without_time = |args: &[&str]| {
        let mut report = json(&bench, args);
        report["seconds"] = Value::Null;
        report["data_sets"][0]["seconds"] = Value::Null;
        report["data_sets"][0]["ms_per_prompt"] = Value::Null;
        report
    };
    assert_eq!(without_time(&["--noc"]), without_time(&["--noc"]));
    let noc = json(&bench, &["--noc", "--clicks", "2"]);
    let figures = &noc["data_sets"][0]["further_prompts"];
    let noc_90 = figures["noc_90"]["value"].as_f64().unwrap();
    assert!((1.0..=20.0).contains(&noc_90));
    assert!(figures["noc_80"]["value"].as_f64().unwrap() <= noc_90);
    assert!(figures.get("miou_3").is_none());

    let objects = |args: &[&str]| json(&bench, args)["overall"]["objects"].as_u64().unwrap();
    assert_eq!(objects(&["--clicks", "1", "--max-objects", "1"]), 2);
    assert_eq!(objects(&["--clicks", "1", "--limit", "1"]), 1);
    assert_eq!(objects(&["--clicks", "1", "--min-area", "100"]), 3);
    assert_eq!(objects(&["--clicks", "1", "--max-area", "100"]), 1);
    assert_eq!(objects(&["--clicks", "1", "--split", "train"]), 1);
    assert_eq!(objects(&["--clicks", "1", "--split", "all"]), 5);
}

#[test]
fn a_table_a_page_and_a_calibrated_model() {
    let bench = bench();
    let args = [
        "--clicks",
        "2",
        "--report",
        "r.html",
        "--json",
        "r.json",
        "--calibrate",
    ];
    let output = eval(&bench, &[&args[..], &["c.safetensors"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for words in [
        "mIoU, chosen mask",
        "predicted IoU of the best-matching mask",
        "the same score with a calibration fitted here",
        "calibration error",
        "wrote r.html",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let page = std::fs::read_to_string(bench.path("r.html")).unwrap();
    assert_eq!(page.matches("data:image/jpeg;base64,").count(), 4);
    assert!(!page.contains("<script"));

    let info = bench.run(&["models", "info", "c.safetensors", "--json"]);
    let info: Value = serde_json::from_slice(&info.stdout).unwrap();
    let curves = info["metadata"]["samara.calibration"].as_str().unwrap();
    let curves: Value = serde_json::from_str(curves).unwrap();
    assert!(!curves["multimask"].as_array().unwrap().is_empty());

    let one = [
        "--calibration",
        "temperature",
        "--calibrate",
        "t.safetensors",
    ];
    assert!(eval(&bench, &one).status.success());
    let info = bench.run(&["models", "info", "t.safetensors", "--json"]);
    let info: Value = serde_json::from_slice(&info.stdout).unwrap();
    let curve = info["metadata"]["samara.calibration"].as_str().unwrap();
    assert!(curve.starts_with("{\"multimask\":[[0.0,0.0],"), "{curve}");

    // The calibrated model says other scores for the same masks.
    let segment = |model: &str| {
        let args = [
            "segment",
            "photo.png",
            "--checkpoint",
            model,
            "--point",
            "40,30",
            "--json",
        ];
        let output = bench.run(&[&args[..], &["-"]].concat());
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["objects"][0]["candidates"]
            .as_array()
            .unwrap()
            .clone()
    };
    let bounds = curves["multimask"].as_array().unwrap();
    let (low, high) = (&bounds[0][1], &bounds[bounds.len() - 1][1]);
    for (raw, calibrated) in segment(&model()).iter().zip(segment("c.safetensors")) {
        assert_eq!(raw["segmentation"], calibrated["segmentation"]);
        assert_eq!(raw["predicted_iou"], raw["raw_predicted_iou"]);
        assert_eq!(raw["raw_predicted_iou"], calibrated["raw_predicted_iou"]);
        let score = calibrated["predicted_iou"].as_f64().unwrap();
        let [low, high] = [low, high].map(|v| v.as_f64().unwrap());
        assert!(low - 1e-6 <= score && score <= high + 1e-6, "{score}");
    }
    let again = bench.run(&[
        "eval",
        "data",
        "--checkpoint",
        "c.safetensors",
        "--json",
        "-",
    ]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["calibration"], "checkpoint");

    // Conversion keeps the calibration.
    let converted = [
        "models",
        "convert",
        "c.safetensors",
        "h.safetensors",
        "--dtype",
        "f16",
    ];
    assert!(bench.run(&converted).status.success());
    let info = bench.run(&["models", "info", "h.safetensors"]);
    assert!(stdout(&info).contains("samara.calibration"));
}

#[test]
fn bad_input() {
    let bench = bench();
    let model = model();
    let missing = bench.run(&["eval", "nowhere", "--checkpoint", &model]);
    assert_fails(&missing, 1, &["nowhere", "no such file or folder"]);
    for (args, status, words) in [
        (
            &["--split", "test"][..],
            1,
            &["data", "'test'", "train", "val"][..],
        ),
        (&["--clicks", "0"], 2, &["--clicks", "1..=20"]),
        (&["--clicks", "21"], 2, &["--clicks", "1..=20"]),
        (&["--limit", "0"], 2, &["--limit", "at least 1"]),
        (&["--max-objects", "x"], 2, &["--max-objects", "at least 1"]),
        (&["--limit", "-1"], 2, &["'-1'", "--limit", "at least 1"]),
        (
            &["--stretch", "-1,50"],
            2,
            &["--stretch", "two percentiles"],
        ),
        (&["--points-per-side", "4"], 2, &["--everything"]),
        (
            &["--use-m2m", "--clicks", "2"],
            2,
            &["--use-m2m", "--clicks"],
        ),
        (&["--everything", "--min-area", "4"], 2, &["--min-area"]),
        (
            &["--draws", "4", "--clicks-at", "center"],
            2,
            &["--draws 4", "--clicks-at center"],
        ),
        (
            &["--further-clicks-at", "human", "--clicks", "1"],
            2,
            &["--further-clicks-at human", "--clicks 1"],
        ),
        (
            &["--seed", "4", "--clicks-at", "center"],
            2,
            &["--seed 4", "--clicks-at center"],
        ),
        (
            &["--min-area", "9999"],
            1,
            &["data", "nothing to evaluate", "4 objects too small"],
        ),
        (&["--json", "no/r.json"], 1, &["--json", "no/r.json"]),
        (&["--report", "no/r.html"], 1, &["--report", "no/r.html"]),
        (
            &["--calibrate", "c.pth"],
            2,
            &["--calibrate", "c.pth", ".safetensors"],
        ),
    ] {
        assert_fails(&eval(&bench, args), status, words);
    }
    assert_fails(
        &bench.run(&["eval", "--model", "sam-vit-b"]),
        2,
        &["<DATA>"],
    );
    assert_eq!(bench.files(), ["data", "photo.png"]);
    let file = |name: &str| {
        let coco = json!({
            "images": [{"id": 1, "file_name": name, "width": 96, "height": 64}],
            "annotations": [{"id": 1, "image_id": 1, "bbox": [1, 2, 9, 9]}],
        });
        bench.write("data/some.json", coco.to_string().as_bytes());
        bench.run(&["eval", "data/some.json", "--checkpoint", &model])
    };
    let words = [
        "data/some.json: none of its images is there",
        "none.png; --images DIR",
    ];
    assert_fails(&file("none.png"), 1, &words);
    let words = [
        "boxes without masks",
        "samara segment --prompts data/some.json",
    ];
    assert_fails(&file("1.png"), 1, &words);
}

/// Images of which every mask is an annotated object: all of them are found.
#[test]
fn everything_finds_what_it_generated() {
    let bench = bench();
    let model = model();
    let options = [
        "--checkpoint",
        &model,
        "--points-per-side=3",
        "--pred-iou-thresh=0",
        "--stability-score-thresh=0",
        "--box-nms-thresh=0.98",
    ];
    let generate = [
        "everything",
        "data/images",
        "--format=coco",
        "--out=data/masks",
    ];
    let output = bench.run(&[&generate[..], &options[..]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let moved = bench.path("data/annotations.json");
    std::fs::rename(bench.path("data/masks/annotations.json"), moved).unwrap();

    let evaluate = ["eval", "data", "--split=all", "--everything", "--json=-"];
    let output = bench.run(&[&evaluate[..], &options[..]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let set = &report[0];
    assert_eq!(set["images"], 3);
    assert!(set["objects"].as_u64() > Some(3), "{set}");
    for figure in ["recall_50", "ar_1000", "best_iou"] {
        assert_eq!(set[figure], 1.0, "{figure}: {set}");
    }
    let output = bench.run(&["eval", "data", "--everything", "--noc"]);
    assert_fails(&output, 2, &["--everything", "--noc"]);
}

/// Three videos of discs in the layout of DAVIS; one of them leaves the frame and comes back.
fn with_videos() -> Bench {
    let bench = Bench::new();
    for (name, frames) in [("left", 6), ("right", 5), ("gone", 6)] {
        let [images, annotations] = ["JPEGImages", "Annotations"].map(|folder| {
            let path = bench.path(&format!("videos/{folder}/{name}"));
            std::fs::create_dir_all(&path).unwrap();
            path
        });
        for t in 0..frames {
            let hidden = name == "gone" && (2..4).contains(&t);
            let x = if name == "left" {
                46 - 4 * t
            } else {
                18 + 4 * t
            };
            let disc = Mask::from_fn(64, 48, |px, py| {
                !hidden && px.abs_diff(x).pow(2) + py.abs_diff(22).pow(2) <= 100
            });
            let image = RgbImage::from_fn(64, 48, |px, py| {
                let inside = disc.get(px, py);
                let color = if inside {
                    [230, 60, 40]
                } else {
                    [30, 90, (3 * px) as u8]
                };
                color.into()
            });
            save_png(images.join(format!("{t:05}.png")), &image).unwrap();
            let map = annotations.join(format!("{t:05}.png"));
            save_object_map(map, (64, 48), &[(1, &disc)]).unwrap();
        }
    }
    bench
}

#[test]
fn videos_are_tracked_by_the_embedded_model() {
    let bench = with_videos();
    let output = bench.run(&["eval", "videos", "--video", "--json", "-"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["model"]["fingerprint"].as_str().unwrap().len(), 64);
    assert_eq!(report["split"], Value::Null, "these videos have no splits");
    let set = &report["data_sets"][0];
    assert_eq!(
        (&set["name"], &set["protocol"]),
        (&json!("videos"), &json!("davis"))
    );
    assert_eq!(set["sequences"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&set["objects"], &set["tracked_frames"]),
        (&json!(3), &json!(17))
    );
    for figures in [&set["figures"], &set["copy"], &set["sequences"][0]] {
        let both = figures["j_and_f"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&both), "{figures}");
    }
    assert_eq!(set["presence"]["frames"], 4 + 3 + 4);
    assert_eq!(set["presence"]["hidden"], 2);
}

/// The masks of `samara video` are those that the evaluation finds.
#[test]
fn given_masks_are_evaluated_without_a_model() {
    let bench = with_videos();
    let model = model();
    for name in ["left", "right", "gone"] {
        let frames = format!("videos/JPEGImages/{name}");
        let masks = format!("0:videos/Annotations/{name}/00000.png");
        let out = format!("out/{name}");
        let args = ["--masks", &masks, "--format=masks", "--non-overlap-masks"];
        let place = ["video", &frames, "--out", &out, "--checkpoint", &model];
        let output = bench.run(&[&place[..], &args[..]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let folder = bench.path(&format!("masks/{name}"));
        std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
        std::fs::rename(bench.path(&format!("{out}/masks")), folder).unwrap();
    }
    let run = |args: &[&str]| {
        let output = bench.run(&[&["eval", "videos", "--video", "--json=-"], args].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["data_sets"][0].clone()
    };
    let (given, tracked) = (
        run(&["--predictions=masks"]),
        run(&["--checkpoint", &model]),
    );
    assert_eq!(given["figures"], tracked["figures"]);
    assert_eq!(given["copy"], tracked["copy"]);
    assert_eq!(given["seconds_per_frame"], Value::Null);

    let perfect = run(&[
        "--predictions=videos/Annotations",
        "--limit=2",
        "--protocol=sav",
    ]);
    assert_eq!(perfect["figures"]["j_and_f"], 1.0);
    assert_eq!(perfect["sequences"].as_array().unwrap().len(), 2);
    let output = bench.run(&["eval", "videos", "--video", "--predictions=masks"]);
    let text = stdout(&output);
    for words in [
        "videos: 3 sequences, 3 objects",
        "gone",
        "J: mean",
        "2 absences",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn bad_videos() {
    let bench = with_videos();
    let fails = |args: &[&str], status, words: &[&str]| {
        let output = bench.run(&[&["eval", "videos", "--video"], args].concat());
        assert_fails(&output, status, words);
    };
    fails(&["--noc"], 2, &["--video", "--noc"]);
    fails(&["--stretch=min-max"], 2, &["--video", "--stretch"]);
    fails(&["--min-area=5"], 2, &["--video", "--min-area"]);
    let with_model = ["--predictions=masks", "--model=lite"];
    fails(&with_model, 2, &["--predictions", "--model"]);
    fails(
        &["other", "--predictions=masks"],
        2,
        &["--predictions", "one data set"],
    );
    fails(
        &["--predictions=none"],
        1,
        &["none/gone/00001.png", "no such file"],
    );
    let output = bench.run(&["eval", "videos", "--predictions=masks"]);
    assert_fails(&output, 2, &["--video"]);
    let output = bench.run(&["eval", "videos", "--protocol=sav", "--draws=2"]);
    assert_fails(&output, 2, &["--protocol", "--draws"]);
    let output = bench.run(&["eval", "nowhere", "--video"]);
    assert_fails(&output, 1, &["nowhere", "no such file or folder"]);
    let stray = bench.path("videos/Annotations/gone/00009.png");
    std::fs::copy(bench.path("videos/Annotations/gone/00001.png"), stray).unwrap();
    let failed = |words: &[&str]| {
        let output = bench.run(&["eval", "videos", "--video"]);
        assert_eq!(output.status.code(), Some(1));
        let told = stderr(&output);
        assert_eq!(told.matches("failed: ").count(), 1, "{told}");
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
        let text = stdout(&output);
        assert!(text.contains("videos: 2 sequences"), "{text}");
    };
    failed(&[
        "failed: ",
        "gone/00009.png",
        "no frame of this name",
        "error: 1 video ",
    ]);
    std::fs::remove_dir_all(bench.path("videos/JPEGImages/gone")).unwrap();
    failed(&["failed: ", "JPEGImages/gone", "error: 1 video "]);
}
