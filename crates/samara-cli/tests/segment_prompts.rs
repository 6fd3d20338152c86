//! `samara segment` with a file of prompts, and the formats of its folder.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::process::Output;

use common::{Bench, assert_fails, model, stderr, stdout};
use samara::ImageLimits;
use samara_data::DataSet;
use samara_image::{read_label_map, read_mask};
use serde_json::{Value, json};

const ALL: &str = "overlay,json,masks,coco,yolo,labelme,labels,cutouts";

fn segment(bench: &Bench, args: &[&str]) -> Output {
    bench.run(&[&["segment", "--checkpoint", &model()], args].concat())
}

fn read(bench: &Bench, name: &str) -> Value {
    serde_json::from_slice(&fs::read(bench.path(name)).unwrap()).unwrap()
}

/// Three images in a folder, and prompts for them.
fn bench() -> Bench {
    let bench = Bench::new();
    fs::create_dir(bench.path("images")).unwrap();
    for name in ["a.png", "b.png", "c.png"] {
        fs::copy(bench.path("photo.png"), bench.path("images").join(name)).unwrap();
    }
    let prompts = json!([
        {"image": "images/a.png", "label": "cat", "points": [[40, 30], [90.5, 5, 0]]},
        {"image": "images/b.png", "box": [60, 50, 10, 5]},
        {"image": "./images/a.png", "label": "dog", "box": [10, 5, 60, 50], "points": [[30, 20, 1]], "single": true},
        {"image": "images/c.png", "label": "cat", "mask": "mask.png"},
    ]);
    bench.write("prompts.json", prompts.to_string().as_bytes());
    common::disc().save_png(bench.path("mask.png")).unwrap();
    bench
}

#[test]
fn many_images_in_every_format() {
    let bench = bench();
    let args = ["--prompts", "prompts.json", "--out", "out", "--format", ALL];
    let output = segment(&bench, &args);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "3 images, 4 objects\nwrote out\n");
    let limits = ImageLimits::default();
    let answer = read(&bench, "out/a.json");
    assert_eq!(answer["objects"][0]["label"], "cat");
    assert_eq!(
        answer["objects"][1]["candidates"].as_array().unwrap().len(),
        1
    );

    // The boxes with their points are answered as one by one.
    let alone = [
        "images/a.png",
        "--box",
        "10,5,60,50",
        "--point",
        "30,20",
        "--single",
        "--json",
        "-",
    ];
    let alone: Value = serde_json::from_slice(&segment(&bench, &alone).stdout).unwrap();
    assert_eq!(
        answer["objects"][1]["selected"],
        alone["objects"][0]["selected"]
    );

    let coco = read(&bench, "out/annotations.json");
    let of_coco = &coco["annotations"][1];
    assert_eq!(
        of_coco["segmentation"],
        answer["objects"][1]["selected"]["segmentation"]
    );
    assert_eq!(
        of_coco["score"],
        answer["objects"][1]["selected"]["predicted_iou"]
    );
    let options = samara_data::DataOptions {
        image_dir: Some(bench.path("")),
        ..Default::default()
    };
    let data = DataSet::open_with(bench.path("out/annotations.json"), &options).unwrap();
    let objects: Vec<usize> = data
        .images
        .iter()
        .map(|image| image.objects.len())
        .collect();
    assert_eq!(objects, [2, 1, 1]);
    let sample = data.images[0].load(&limits).unwrap();
    let mask = read_mask(bench.path("out/a.object-1.mask.png"), &limits).unwrap();
    assert_eq!(sample.objects[1].mask, mask);

    let classes = fs::read_to_string(bench.path("out/yolo/classes.txt")).unwrap();
    assert_eq!(classes, "cat\ndog\nobject\n");
    let yolo = fs::read_to_string(bench.path("out/yolo/b.txt")).unwrap();
    assert!(yolo.starts_with("2 "), "{yolo}");
    let labelme = read(&bench, "out/labelme/a.json");
    assert_eq!(labelme["imagePath"], "../../images/a.png");
    assert_eq!(labelme["shapes"][1]["label"], "dog");
    let labels = read_label_map(bench.path("out/labels/c.png"), &limits).unwrap();
    assert_eq!(
        labels.objects[&1].area(),
        read_mask(bench.path("out/c.mask.png"), &limits)
            .unwrap()
            .area()
    );
    let cut = read_mask(bench.path("out/cutouts/c.png"), &limits).unwrap();
    assert_eq!(
        cut,
        read_mask(bench.path("out/c.mask.png"), &limits).unwrap()
    );
}

#[test]
fn lines_and_coco_boxes_are_prompts_too() {
    let bench = bench();
    let lines = "{\"image\": \"images/a.png\", \"box\": [10, 5, 60, 50]}\n\n{\"image\": \"images/b.png\", \"points\": [[9, 9]]}\n";
    bench.write("prompts.jsonl", lines.as_bytes());
    let args = [
        "--prompts",
        "prompts.jsonl",
        "--out",
        "lines",
        "--format",
        "json",
    ];
    let output = segment(&bench, &args);
    assert!(output.status.success(), "{}", stderr(&output));
    let coco = json!({
        // The image knows its size.
        "images": [{"id": "one", "file_name": "a.png"}],
        "annotations": [
            {"id": 1, "image_id": "one", "category_id": 3, "bbox": [10, 5, 50, 45]},
            {"id": 2, "image_id": "one", "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": true},
            {"id": 3, "image_id": "one", "category_id": 3, "bbox": [500, 5, 50, 45]},
            {"id": 4, "image_id": "one", "category_id": 9, "bbox": [12, 5, 50, 45]},
        ],
        "categories": [{"id": 8, "name": "stem"}, {"id": 3, "name": "leaf"}],
    });
    bench.write("boxes.json", coco.to_string().as_bytes());
    let args = [
        "--prompts",
        "boxes.json",
        "--images",
        "images",
        "--out",
        "boxes",
        "--format",
        "json,coco,yolo",
    ];
    let output = segment(&bench, &args);
    assert!(output.status.success(), "{}", stderr(&output));
    for what in [
        "1 annotation of a crowd",
        "1 annotation with a box outside",
        "1 annotation of a category that is not in the file",
    ] {
        assert!(stderr(&output).contains(what), "{}", stderr(&output));
    }
    // Classes keep their ids and their order.
    let found = read(&bench, "boxes/annotations.json");
    let classes = json!([
        {"id": 8, "name": "stem"}, {"id": 3, "name": "leaf"}, {"id": 9, "name": "object"}
    ]);
    assert_eq!(found["categories"], classes);
    assert_eq!(found["annotations"][0]["category_id"], 3);
    let classes = fs::read_to_string(bench.path("boxes/yolo/classes.txt")).unwrap();
    assert_eq!(classes, "stem\nleaf\nobject\n");
    let yolo = fs::read_to_string(bench.path("boxes/yolo/a.txt")).unwrap();
    assert!(yolo.starts_with("1 "), "{yolo}");
    let (of_line, of_coco) = (read(&bench, "lines/a.json"), read(&bench, "boxes/a.json"));
    assert_eq!(of_coco["objects"][0]["label"], "leaf");
    assert_eq!(
        of_coco["objects"][0]["selected"],
        of_line["objects"][0]["selected"]
    );
    assert_eq!(of_coco["objects"].as_array().unwrap().len(), 2);
}

#[test]
fn one_bad_image_ends_nothing_and_a_run_resumes() {
    let bench = bench();
    bench.write("images/b.png", b"no image");
    let args = [
        "--prompts",
        "prompts.json",
        "--out",
        "out",
        "--format",
        "json,coco,yolo",
    ];
    let output = segment(&bench, &args);
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    assert!(
        told.contains("\nfailed: images/b.png: is not an image; JPEG"),
        "{told}"
    );
    assert!(told.ends_with("error: 1 of 3 images failed\n"), "{told}");
    let coco = |bench: &Bench| {
        read(bench, "out/annotations.json")["images"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(coco(&bench), 2);
    assert_fails(
        &segment(&bench, &args),
        1,
        &["there is a run in it; --resume continues it"],
    );
    fs::copy(bench.path("photo.png"), bench.path("images/b.png")).unwrap();
    fs::remove_file(bench.path("out/a.json")).unwrap();
    let output = segment(&bench, &[&args[..], &["--resume"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "2 images, 3 objects, 1 done before\nwrote out\n"
    );
    assert_eq!(coco(&bench), 3);
    assert!(bench.path("out/a.json").exists(), "its result was gone");
    let other = segment(
        &bench,
        &[&args[..], &["--resume", "--select", "largest"]].concat(),
    );
    assert_fails(
        &other,
        1,
        &["--resume out/objects.jsonl: that run had select"],
    );
    let again = segment(&bench, &[&args[..], &["--overwrite"]].concat());
    assert!(again.status.success() && bench.path("out/a.json").exists());
}

#[test]
fn what_makes_no_sense_is_refused_before_any_work() {
    let bench = bench();
    let file = |name: &str, value: Value| bench.write(name, value.to_string().as_bytes());
    file("none.json", json!([]));
    file("empty.json", json!([{"image": "images/a.png"}]));
    file("nobody.json", json!([{"points": [[1, 2]]}]));
    file(
        "label.json",
        json!([{"image": "images/a.png", "points": [[1, 2, 3]]}]),
    );
    file(
        "key.json",
        json!([{"image": "images/a.png", "point": [[1, 2]]}]),
    );
    file(
        "same.json",
        json!([{"image": "images/a.png", "points": [[1, 2]]}, {"image": "a.jpg", "points": [[1, 2]]}]),
    );
    file(
        "photos.json",
        json!({"images": [{"id": 1, "file_name": "images/a.png", "width": 96, "height": 64}], "annotations": []}),
    );
    let prompts = |name| ["--prompts", name, "--out", "out"];
    for (args, status, words) in [
        (
            &prompts("none.json")[..],
            1,
            "--prompts none.json: holds no prompt",
        ),
        (
            &prompts("empty.json"),
            1,
            "object 0: no prompt: it needs points, a box or a mask",
        ),
        (
            &prompts("nobody.json"),
            1,
            "object 0: it names no image, and neither does the command line",
        ),
        (
            &prompts("label.json"),
            1,
            "object 0: label 3 of a point: 1 is on the object, 0 beside it",
        ),
        (&prompts("key.json"), 1, "unknown field `point`"),
        (
            &prompts("same.json"),
            2,
            "have the same name, a.overlay.png; rename the image",
        ),
        (
            &prompts("photos.json"),
            1,
            "none of its annotations has a box",
        ),
        (
            &prompts("missing.json"),
            1,
            "missing.json: cannot be read: no such file or folder",
        ),
        (
            &["--prompts", "prompts.json"],
            2,
            "name a folder for the results with --out",
        ),
        (
            &["--prompts", "prompts.json", "--out", "out", "--json", "-"],
            2,
            "--json: for one image",
        ),
        (
            &["photo.png", "--prompts", "prompts.json"],
            1,
            "it names an image, and the command line another one",
        ),
        (
            &["photo.png", "--prompts", "prompts.json", "--point", "1,2"],
            2,
            "cannot be used with",
        ),
        (&["photo.png"], 2, "no prompt"),
        (&["--point", "1,2"], 2, "no image: name one"),
        (
            &[
                "photo.png",
                "--point",
                "1,2",
                "--out",
                "a.png",
                "--format",
                "coco",
            ],
            2,
            "--format: for a folder",
        ),
        (&["photo.png", "--point", "1,2", "--resume"], 2, "--resume"),
    ] {
        assert_fails(&segment(&bench, args), status, &[words]);
        assert!(!bench.path("out").exists(), "{args:?}");
    }
}

#[test]
fn files_of_other_kinds_are_refused_with_what_is_wanted() {
    let bench = bench();
    let file = |name: &str, value: Value| bench.write(name, value.to_string().as_bytes());
    file("list.json", json!([["images/a.png", "cat", [[1, 2]]]]));
    file("unnamed.json", json!([{"image": "", "points": [[1, 2]]}]));
    file(
        "results.json",
        json!([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]),
    );
    file(
        "elsewhere.json",
        json!({
            "images": [{"id": 1, "file_name": "no.png", "width": 96, "height": 64}],
            "annotations": [{"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4]}],
        }),
    );
    for (name, words) in [
        (
            "list.json",
            "list.json: invalid type: sequence, expected prompts as an object, such as {\"points\"",
        ),
        ("unnamed.json", "object 0: the name of its image is empty"),
        ("results.json", "results.json: COCO results name no files"),
        (
            "elsewhere.json",
            "none of its images is there, such as ./images/no.png; --images DIR",
        ),
    ] {
        let args = ["--prompts", name, "--out", "out"];
        assert_fails(&segment(&bench, &args), 1, &[words]);
    }
    let args = [
        "--prompts",
        "prompts.json",
        "--images",
        "images",
        "--out",
        "out",
    ];
    let why = "--images images: for COCO annotations";
    assert_fails(&segment(&bench, &args), 2, &[why]);
    assert!(!bench.path("out").exists());
}

#[test]
fn the_folder_of_one_image_has_every_format() {
    let bench = bench();
    let args = [
        "photo.png",
        "--box",
        "10,5,60,50",
        "--label",
        "shirt",
        "--out",
        "out",
        "--format",
        ALL,
    ];
    let output = segment(&bench, &args);
    assert!(output.status.success(), "{}", stderr(&output));
    for name in [
        "photo.overlay.png",
        "photo.json",
        "photo.mask.png",
        "photo.candidate-2.png",
        "annotations.json",
        "yolo/photo.txt",
        "yolo/classes.txt",
        "labelme/photo.json",
        "labels/photo.png",
        "cutouts/photo.png",
    ] {
        assert!(bench.path("out").join(name).is_file(), "{name}");
    }
    assert_eq!(
        read(&bench, "out/annotations.json")["categories"][0]["name"],
        "shirt"
    );
    assert_eq!(
        read(&bench, "out/labelme/photo.json")["shapes"][0]["label"],
        "shirt"
    );
    // Prompts of a file that name no image are for that of the command line.
    bench.write(
        "one.json",
        json!([{"box": [10, 5, 60, 50]}, {"points": [[9, 9]]}])
            .to_string()
            .as_bytes(),
    );
    let output = segment(
        &bench,
        &["photo.png", "--prompts", "one.json", "--json", "-"],
    );
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["objects"].as_array().unwrap().len(), 2);
}

/// Prompts are answered some at a time; each is answered as if it were alone.
#[test]
fn many_objects_of_one_image() {
    let bench = bench();
    let bbox = |i: u32| [i % 40, i % 30, 50 + i % 7, 40 + i % 5];
    let prompts: Vec<Value> = (0..70).map(|i| json!({"box": bbox(i)})).collect();
    bench.write("boxes.json", json!(prompts).to_string().as_bytes());
    let answer = |args: &[&str]| -> Value {
        let output = segment(&bench, &[&["photo.png", "--json", "-"], args].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let all = answer(&["--prompts", "boxes.json", "--raw", "raw.safetensors"]);
    let objects = all["objects"].as_array().unwrap();
    assert_eq!(objects.len(), 70);
    for i in [0, 63, 64, 69] {
        let [x0, y0, x1, y1] = bbox(i);
        let alone = answer(&["--box", &format!("{x0},{y0},{x1},{y1}")]);
        assert_eq!(objects[i as usize], alone["objects"][0], "{i}");
    }
    let raw = fs::read(bench.path("raw.safetensors")).unwrap();
    let raw = safetensors::SafeTensors::deserialize(&raw).unwrap();
    assert_eq!(raw.tensor("low_res_logits").unwrap().shape()[0], 210);
}

#[test]
fn results_of_two_images_are_never_the_same_file() {
    let bench = bench();
    for name in ["a.object-0.png", "annotations.png", "classes.png"] {
        fs::copy(bench.path("photo.png"), bench.path("images").join(name)).unwrap();
    }
    let point = |name: &str| json!({"image": format!("images/{name}"), "points": [[9, 9]]});
    for (names, format, clash) in [
        (
            &["a.png", "a.png", "a.object-0.png"][..],
            "masks",
            "a.object-0.",
        ),
        (&["annotations.png"], "json,coco", "annotations.json"),
        (&["classes.png"], "yolo", "yolo/classes.txt"),
    ] {
        let prompts: Vec<Value> = names.iter().map(|name| point(name)).collect();
        bench.write("clash.json", json!(prompts).to_string().as_bytes());
        let args = [
            "--prompts",
            "clash.json",
            "--out",
            "out",
            "--format",
            format,
        ];
        assert_fails(&segment(&bench, &args), 2, &["have the same name", clash]);
        assert!(!bench.path("out").exists());
    }
}

#[test]
fn what_is_left_out_of_coco_prompts_is_told() {
    let bench = bench();
    let file = |size: [u32; 2], more: Value| {
        let mut annotations = vec![json!({"id": 1, "image_id": 1, "bbox": [10, 5, 50, 45]})];
        annotations.push(more);
        let coco = json!({
            "images": [{"id": 1, "file_name": "a.png", "width": size[0], "height": size[1]}],
            "annotations": annotations,
        });
        // With a mark of its encoding, as some editors write it.
        let text = format!("\u{feff}{coco}");
        bench.write("coco.json", text.as_bytes());
        let args = [
            "--prompts",
            "coco.json",
            "--images",
            "images",
            "--out",
            "out",
            "--format",
            "json",
            "--overwrite",
        ];
        segment(&bench, &args)
    };
    let output = file(
        [96, 64],
        json!({"id": 2, "image_id": 1, "bbox": [1, 2, 0, 0]}),
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let told = "notice: --prompts coco.json: 1 annotation without a box, skipped\n";
    assert_eq!(stderr(&output), told);
    let output = file(
        [96, 64],
        json!({"id": 2, "image_id": 7, "bbox": [1, 2, 9, 9]}),
    );
    assert!(
        stderr(&output).starts_with("notice: --prompts coco.json: skipped: 1 "),
        "{}",
        stderr(&output)
    );
    let output = file(
        [960, 640],
        json!({"id": 2, "image_id": 1, "bbox": [1, 2, 9, 9]}),
    );
    let why = "images/a.png: the image is 96x64, its annotations are for 960x640";
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(why), "{}", stderr(&output));
}
