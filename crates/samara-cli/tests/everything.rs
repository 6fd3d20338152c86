//! `samara everything`, through the binary.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{
    Bench, KEEP, assert_fails, everything, files, model, photo, stderr, stdout, with_photos,
};
use samara::ImageLimits;
use samara_image::{Rle, read_label_map, read_mask, save_png};
use serde_json::Value;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn all_formats_tell_the_same() {
    let bench = Bench::new();
    let formats = "--format=json,coco,masks,labels,overlay,hierarchy";
    let output = everything(&bench, &["photo.png", formats, "--out", "out"]);
    assert!(output.status.success(), "{}", stderr(&output));

    let records = json(&bench.path("out/photo.png.json"));
    let records = records.as_array().unwrap();
    assert!(records.len() > 3, "{records:?}");
    let text = stdout(&output);
    assert!(text.contains(&format!("{} masks", records.len())), "{text}");
    let coco = json(&bench.path("out/annotations.json"));
    assert_eq!(coco["images"][0]["file_name"], "photo.png");
    assert_eq!(coco["images"][0]["width"], 96);
    let labels = read_label_map(
        bench.path("out/photo.png.labels.png"),
        &ImageLimits::default(),
    );
    let labels = labels.unwrap();
    let table = fs::read_to_string(bench.path("out/photo.png.masks/metadata.csv")).unwrap();
    assert_eq!(table.lines().count(), records.len() + 1);
    for (i, record) in records.iter().enumerate() {
        let rle: Rle = serde_json::from_value(record["segmentation"].clone()).unwrap();
        let mask = rle.to_mask().unwrap();
        assert_eq!(record["id"], i);
        assert_eq!(record["area"], mask.area());
        let bbox = mask.bbox().map_or([0; 4], |b| b.amg_xywh());
        assert_eq!(record["bbox"], serde_json::json!(bbox));
        assert_eq!(record["crop_box"], serde_json::json!([0, 0, 96, 64]));
        let png = bench.path(&format!("out/photo.png.masks/{i}.png"));
        assert_eq!(read_mask(png, &ImageLimits::default()).unwrap(), mask);

        let annotation = &coco["annotations"][i];
        assert_eq!(annotation["id"], i + 1);
        assert_eq!(annotation["segmentation"], record["segmentation"]);
        let bbox = mask.bbox().map_or([0; 4], |b| b.xywh());
        assert_eq!(annotation["bbox"], serde_json::json!(bbox));
        if let Some(parent) = record["parent"].as_u64() {
            let children = records[parent as usize]["children"].as_array().unwrap();
            assert!(children.contains(&i.into()));
            assert_eq!(annotation["parent"], parent + 1);
        }
        if let Some(labelled) = labels.objects.get(&(i as u32 + 1)) {
            let labelled = labelled.to_mask().unwrap();
            assert_eq!(labelled.intersection_area(&mask), labelled.area());
        }
    }
    assert!(!labels.objects.is_empty());
    for image in ["overlay", "hierarchy"] {
        assert!(bench.path(&format!("out/photo.png.{image}.png")).exists());
    }
}

#[test]
fn options_do_what_they_say() {
    let bench = Bench::new();
    let count = |args: &[&str]| {
        let mut all = vec!["photo.png", "--format=json", "--out=out", "--overwrite"];
        all.extend(args);
        let output = everything(&bench, &all);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        json(&bench.path("out/photo.png.json"))
            .as_array()
            .unwrap()
            .clone()
    };
    let plain = count(&[]);
    assert_eq!(count(&["--points-per-batch=3"]), plain);
    assert!(count(&["--box-nms-thresh=0.5"]).len() < plain.len());
    // These masks go to the edges of every crop, so those of the whole image are left.
    assert_eq!(count(&["--crop-n-layers=1"]).len(), plain.len());
    assert_ne!(count(&["--use-m2m"]), plain);
    assert!(count(&["--adaptive"]).len() <= plain.len());
    assert_ne!(count(&["--min-mask-region-area=30"]), plain);
    let listed = count(&["--output-mode=uncompressed_rle"]);
    assert!(listed[0]["segmentation"]["counts"].is_array());

    bench.write("grid.json", b"[[[0.5, 0.5]]]");
    let model = model();
    let args = [
        "everything",
        "photo.png",
        "--checkpoint",
        &model,
        "--pred-iou-thresh=0",
    ];
    let more = [
        "--stability-score-thresh=0",
        "--point-grids=grid.json",
        "--out=one",
    ];
    let output = bench.run(&[args.as_slice(), more.as_slice()].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    for record in json(&bench.path("one/photo.png.json")).as_array().unwrap() {
        assert_eq!(record["point_coords"], serde_json::json!([[48.0, 32.0]]));
    }
}

#[test]
fn what_is_wrong_is_told_before_the_work() {
    let bench = Bench::new();
    bench.write("grid.json", b"[[[0.5, 1.5]]]");
    bench.write("taken", b"");
    for (args, status, words) in [
        (vec!["none.png", "--out=out"], 1, vec!["none.png"]),
        (vec!["photo.png"], 2, vec!["--out"]),
        (vec!["photo.png", "--out=taken"], 1, vec!["--out", "taken"]),
        (
            vec!["photo.png", "--out=out", "--crop-n-layers=7"],
            2,
            vec!["crop_n_layers"],
        ),
        (
            vec!["photo.png", "--out=out", "--crop-overlap-ratio=1.5"],
            2,
            vec!["crop_overlap_ratio"],
        ),
        (
            vec!["photo.png", "--out=out", "--format=svg"],
            2,
            vec!["svg", "overlay"],
        ),
        (
            vec!["photo.png", "--out=out", "--output-mode=binary_mask"],
            2,
            vec!["--format masks"],
        ),
        (
            vec!["photo.png", "photo.png", "--out=out"],
            2,
            vec!["photo.png", "same name"],
        ),
    ] {
        assert_fails(&everything(&bench, &args), status, &words);
    }
    let model = model();
    let args = [
        "everything",
        "photo.png",
        "--checkpoint",
        &model,
        "--out=out",
    ];
    let with = |more: &[&str]| bench.run(&[args.as_slice(), more].concat());
    assert_fails(&with(&["--points-per-side=0"]), 2, &["points_per_side"]);
    assert_fails(&with(&["--pred-iou-thresh=nan"]), 2, &["pred_iou_thresh"]);
    assert_fails(
        &with(&["--point-grids=grid.json"]),
        2,
        &["point_grids", "1.5"],
    );
    assert_fails(
        &with(&["--point-grids=none.json"]),
        1,
        &["--point-grids", "none.json"],
    );
    fs::create_dir(bench.path("empty")).unwrap();
    let nothing = everything(&bench, &["empty", "--out=out"]);
    assert_fails(&nothing, 1, &["empty: no images in it"]);
    assert!(!bench.path("out").exists());
}

#[test]
fn a_folder_with_a_bad_file_is_done_but_for_it() {
    let bench = with_photos(4);
    bench.write("photos/bad.png", b"no image");
    bench.write("photos/notes.txt", b"no image either");
    // A link to a folder above leads to nothing new.
    #[cfg(unix)]
    std::os::unix::fs::symlink("..", bench.path("photos/more/up")).unwrap();
    // The results lie in the folder itself, and are no images to work on.
    let args = ["photos", "--format=overlay,coco", "--out=photos/results"];
    let output = everything(&bench, &args);
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.starts_with("failed: photos/bad.png"), "{told}");
    assert!(told.ends_with("error: 1 of 5 images failed\n"), "{told}");
    let results = bench.path("photos/results");
    let found = files(&results);
    for name in ["001.png", "002.png", "more/000.png", "more/003.png"] {
        assert!(found.contains_key(&format!("{name}.overlay.png")), "{name}");
    }
    let coco = json(&results.join("annotations.json"));
    assert_eq!(coco["images"].as_array().unwrap().len(), 4);

    let again = everything(&bench, &args);
    assert_fails(&again, 1, &["--out photos/results", "--resume"]);
    let other = [args.as_slice(), &["--resume", "--use-m2m"]].concat();
    assert_fails(
        &everything(&bench, &other),
        1,
        &["manifest.jsonl", "options.use_m2m false"],
    );

    // What failed is tried again, the rest is left alone.
    save_png(bench.path("photos/bad.png"), &photo(40, 40, 9)).unwrap();
    let resumed = everything(&bench, &[args.as_slice(), &["--resume"]].concat());
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(
        stdout(&resumed).contains("1 image, "),
        "{}",
        stdout(&resumed)
    );
    let manifest = fs::read_to_string(results.join("manifest.jsonl")).unwrap();
    assert_eq!(manifest.lines().count(), 6, "{manifest}");
    assert!(!manifest.contains("error"), "{manifest}");

    // So is what has lost its results since.
    fs::remove_file(results.join("001.png.overlay.png")).unwrap();
    let whole = fs::read(results.join("002.png.json")).unwrap();
    fs::write(results.join("002.png.json"), &whole[..whole.len() / 2]).unwrap();
    let resumed = everything(&bench, &[args.as_slice(), &["--resume"]].concat());
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(stdout(&resumed).starts_with("2 images, "), "{resumed:?}");
    assert_eq!(fs::read(results.join("002.png.json")).unwrap(), whole);
}

/// Names that are no text stay apart.
#[test]
#[cfg(target_os = "linux")]
fn results_of_names_that_are_no_text_stay_apart() {
    use std::os::unix::ffi::OsStrExt;

    let bench = Bench::new();
    fs::create_dir(bench.path("odd")).unwrap();
    for name in [&b"x\xff.png"[..], b"x\xfe.png"] {
        let name = std::ffi::OsStr::from_bytes(name);
        fs::copy(bench.path("photo.png"), bench.path("odd").join(name)).unwrap();
    }
    let output = everything(&bench, &["odd", "--format=json", "--out=out"]);
    assert!(output.status.success(), "{}", stderr(&output));
    for name in ["x\\xFE.png.json", "x\\xFF.png.json"] {
        assert!(bench.path("out").join(name).is_file(), "{name}");
    }
}

#[test]
fn a_run_that_is_killed_goes_on_and_ends_as_one_that_was_not() {
    let bench = with_photos(24);
    let args = ["photos", "--format=json,labels,masks,coco"];
    let output = everything(&bench, &[&args[..], &["--out=whole"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));

    let model = model();
    for (i, wait) in [150, 260, 210].into_iter().enumerate() {
        let mut command = Command::new(env!("CARGO_BIN_EXE_samara"));
        command
            .current_dir(bench.folder.path())
            .env("SAMARA_PRECISION", "fp32")
            .args(["everything", "--checkpoint", &model]);
        command.args(KEEP).args(args).arg("--out=killed");
        if i > 0 {
            command.arg("--resume");
        }
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // A kill before the manifest was begun leaves nothing to resume.
    let resume: &[&str] = &["--out=killed", "--resume"];
    let output = everything(&bench, &[&args[..], resume].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let (whole, killed) = (files(&bench.path("whole")), files(&bench.path("killed")));
    assert_eq!(whole.len(), killed.len());
    for (name, bytes) in &whole {
        assert!(killed.get(name) == Some(bytes), "{name}");
    }
}

#[test]
fn no_mask_is_explained() {
    let bench = Bench::new();
    let told = |flag: &str| {
        let output = everything(&bench, &["photo.png", "--out=out", "--format=json", flag]);
        assert!(output.status.success());
        assert_eq!(
            fs::read_to_string(bench.path("out/photo.png.json")).unwrap(),
            "[]\n"
        );
        stderr(&output)
    };
    // The scores of the random test model go beyond 1, its stability does not.
    let low = told("--stability-score-thresh=1");
    assert!(
        low.starts_with("notice: photo.png: no mask: of 64 points the best stability"),
        "{low}"
    );
    assert!(
        low.ends_with("and stability-score-thresh is 1.00\n"),
        "{low}"
    );
}
