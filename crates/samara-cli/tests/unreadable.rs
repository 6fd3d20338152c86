//! A file that cannot be read ends no run on many: it is named and recorded, and the rest is done.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::process::Output;

use common::{Bench, model, stderr, stdout};
use samara::Mask;
use samara_image::{RgbImage, save_object_map, save_png};
use serde_json::Value;

/// A COCO folder `data` with four images, of which the second is cut off and the third missing.
fn data() -> Bench {
    let objects: [(_, &[_]); 5] = [
        (1, &[30, 12, 66, 12, 66, 52, 30, 52]),
        (2, &[30, 12, 66, 12, 66, 52, 30, 52]),
        (3, &[5, 5, 25, 5, 25, 30, 5, 30]),
        (4, &[20, 20, 80, 20, 50, 60]),
        (4, &[5, 5, 25, 5, 25, 30, 5, 30]),
    ];
    let bench = Bench::new().with_data(&["train"; 4], &objects);
    let second = bench.path("data/images/2.png");
    let whole = std::fs::read(&second).unwrap();
    std::fs::write(&second, &whole[..whole.len() / 2]).unwrap();
    std::fs::remove_file(bench.path("data/images/3.png")).unwrap();
    bench
}

fn run(bench: &Bench, args: &[&str]) -> Output {
    let model = model();
    bench.run(&[args, &["--checkpoint", &model]].concat())
}

/// What was told but notices and progress.
fn outcome(told: &str) -> Vec<&str> {
    let is_outcome = |line: &&str| line.starts_with("failed: ") || line.starts_with("error: ");
    told.lines().filter(is_outcome).collect()
}

/// Status 1, a line for each of the two images, and one that counts them.
#[track_caller]
fn assert_named(output: &Output) {
    let told = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let lines = outcome(&told);
    assert_eq!(lines.len(), 3, "{told}");
    let names = |name: &str| {
        let mut lines = lines.iter();
        lines.any(|line| line.starts_with("failed: ") && line.contains(name))
    };
    assert!(names("2.png: ") && names("3.png: "), "{told}");
    let end = "error: 2 images could not be read and are left out";
    assert_eq!(lines[2], end, "{told}");
}

/// The list of failures in a report names both images.
#[track_caller]
fn assert_recorded(failed: &Value) {
    let failed: Vec<&str> = failed
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    for name in ["2.png", "3.png"] {
        assert!(failed.iter().any(|line| line.contains(name)), "{failed:?}");
    }
}

#[test]
fn eval_goes_on() {
    let bench = data();
    let grid = [
        "--points-per-side=4",
        "--pred-iou-thresh=0",
        "--stability-score-thresh=0",
    ];
    for more in [
        &["--clicks=1"][..],
        &[&["--everything"][..], &grid].concat(),
    ] {
        let output = run(
            &bench,
            &[&["eval", "data", "--split=train", "--json=-"], more].concat(),
        );
        assert_named(&output);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let set = match &report["data_sets"][0] {
            Value::Null => &report[0],
            set => set,
        };
        assert_eq!(
            (set["images"].as_u64(), set["objects"].as_u64()),
            (Some(2), Some(3))
        );
        assert_recorded(&set["failed"]);
    }
}

#[test]
fn quality_goes_on() {
    let bench = data();
    let output = run(&bench, &["quality", "data", "--json=-"]);
    assert_named(&output);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["annotations"].as_array().unwrap().len(), 3);
    assert_recorded(&report["failed"]);
}

#[test]
fn levels_go_on() {
    let bench = data();
    let output = run(
        &bench,
        &["levels", "data", "--split=train", "--out=data/levels.json"],
    );
    assert_named(&output);
    assert!(
        stdout(&output).contains("2 images, 3 objects"),
        "{}",
        stdout(&output)
    );
    let levels = std::fs::read(bench.path("data/levels.json")).unwrap();
    let levels: Value = serde_json::from_slice(&levels).unwrap();
    assert_eq!(levels["images"].as_array().unwrap().len(), 2);
}

#[test]
fn training_goes_on_as_long_as_there_is_an_image() {
    let bench = data();
    bench.tiny_model();
    let recipe = "seed = 3
model = { random = 'tiny.safetensors' }
data = [{ path = 'data' }]
optimizer = { lr = 0.001 }
[[stages]]
steps = 12
masks_per_image = 2
rounds = [1, 1]
";
    bench.write("recipe.toml", recipe.as_bytes());
    let output = bench.run(&["train", "recipe.toml", "--out", "run"]);
    let told = stderr(&output);
    assert!(output.status.success(), "{told}");
    for name in ["2.png: ", "3.png: "] {
        let count = told.lines().filter(|line| line.contains(name)).count();
        assert!(count >= 1, "{name} {told}");
    }
    assert!(told.contains("1 missing image, 1 corrupt image"), "{told}");

    for name in ["1.png", "4.png"] {
        std::fs::remove_file(bench.path("data/images").join(name)).unwrap();
    }
    let output = bench.run(&["train", "recipe.toml", "--out", "other"]);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let last = told.lines().last().unwrap();
    assert!(
        last.starts_with("error: ") && last.contains("draws in a row gave no example"),
        "{told}"
    );
}

/// Three short videos in the layout of DAVIS.
fn with_videos() -> Bench {
    let bench = Bench::new();
    for name in ["a", "b", "c"] {
        let [images, annotations] = ["JPEGImages", "Annotations"].map(|folder| {
            let path = bench.path(&format!("videos/{folder}/{name}"));
            std::fs::create_dir_all(&path).unwrap();
            path
        });
        for t in 0..4 {
            let disc = Mask::from_fn(64, 48, |x, y| {
                x.abs_diff(20 + 4 * t).pow(2) + y.abs_diff(22).pow(2) <= 100
            });
            let image = RgbImage::from_fn(64, 48, |x, y| {
                let color = if disc.get(x, y) {
                    [230, 60, 40]
                } else {
                    [30, 90, (3 * x) as u8]
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
fn the_evaluation_of_videos_goes_on() {
    let bench = with_videos();
    let frame = bench.path("videos/JPEGImages/b/00002.png");
    let whole = std::fs::read(&frame).unwrap();
    std::fs::write(&frame, &whole[..whole.len() / 2]).unwrap();
    std::fs::remove_file(bench.path("videos/Annotations/c/00000.png")).unwrap();
    std::fs::write(bench.path("videos/Annotations/c/00001.png"), "no image").unwrap();
    let output = run(&bench, &["eval", "videos", "--video", "--json=-"]);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let lines = outcome(&told);
    assert_eq!(lines.len(), 3, "{told}");
    assert!(
        lines[0].starts_with("failed: ") && lines[0].contains("b/00002.png"),
        "{told}"
    );
    assert!(
        lines[1].starts_with("failed: ") && lines[1].contains("c/00001.png"),
        "{told}"
    );
    assert_eq!(
        lines[2],
        "error: 2 videos could not be read and are left out"
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let set = &report["data_sets"][0];
    assert_eq!(set["sequences"][0]["name"], "a");
    assert_eq!(set["sequences"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&set["failed"][0]["name"], &set["failed"][1]["name"]),
        (&"b".into(), &"c".into())
    );
    assert!(
        set["failed"][0]["error"]
            .as_str()
            .unwrap()
            .contains("b/00002.png")
    );
}
