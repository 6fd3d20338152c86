//! `samara quality` and `samara levels`: masks from anywhere, and the annotations of a data set.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::process::Output;

use common::{Bench, assert_fails, model, stderr, stdout};
use samara::Mask;
use samara::image::{GrayImage16, read_image, save_object_map, save_png};
use serde_json::{Value, json};

fn disc() -> Mask {
    Mask::from_fn(96, 64, |x, y| {
        x.abs_diff(48).pow(2) + y.abs_diff(32).pow(2) < 400
    })
}

/// A photo, and its disc in every form that is read.
fn bench() -> Bench {
    let bench = Bench::new();
    let mask = disc();
    mask.save_png(bench.path("mask.png")).unwrap();
    let soft = GrayImage16::from_fn(96, 64, |x, y| [u16::from(mask.get(x, y)) * 40_000].into());
    save_png(bench.path("soft.png"), &soft).unwrap();
    let rle = json!(mask.to_rle());
    let plain = json!(mask.to_rle().to_uncompressed());
    let write = |name, value: &Value| bench.write(name, value.to_string().as_bytes());
    write("rle.json", &rle);
    write("plain.json", &plain);
    write("annotation.json", &json!({"id": 3, "segmentation": rle}));
    write(
        "list.json",
        &json!([{"segmentation": rle}, {"segmentation": [[10, 10, 40, 10, 40, 40]]}]),
    );
    let bools: Vec<u8> = mask.to_bools().into_iter().map(u8::from).collect();
    bench.write("bools.npy", &npy("|b1", "(64, 96)", &bools));
    bench.write("bytes.npy", &npy("|u1", "(1, 64, 96)", &bools));
    bench.write(
        "floats.npy",
        &floats(
            &bools
                .iter()
                .map(|&b| f32::from(b) * 0.9)
                .collect::<Vec<_>>(),
        ),
    );
    bench
}

fn floats(values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    npy("<f4", "(64, 96)", &bytes)
}

fn npy(kind: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

fn run(bench: &Bench, command: &str, args: &[&str]) -> Output {
    let model = model();
    let mut all = vec![command];
    all.extend(args);
    all.extend(["--checkpoint", &model]);
    bench.run(&all)
}

fn json_of(bench: &Bench, args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.extend(["--json", "-"]);
    let output = run(bench, "quality", &all);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_same_mask_in_any_form_has_the_same_quality() {
    let bench = bench();
    let answer = json_of(
        &bench,
        &[
            "photo.png",
            "--mask",
            "mask.png",
            "--mask",
            "rle.json",
            "--mask",
            "plain.json",
            "--mask",
            "annotation.json",
            "--mask",
            "bools.npy",
            "--mask",
            "bytes.npy",
            "--mask",
            "list.json",
        ],
    );
    let masks = answer["masks"].as_array().unwrap();
    assert_eq!(masks.len(), 8);
    assert_eq!(masks[6]["mask"], "list.json [0]");
    let number = |mask: &Value, key: &str| mask[key].as_f64().unwrap();
    for mask in &masks[..7] {
        for key in [
            "estimated_iou",
            "alignment_iou",
            "stability_score",
            "predicted_iou",
        ] {
            let (own, first) = (number(mask, key), number(&masks[0], key));
            assert!((own - first).abs() < 1e-4, "{key}: {mask}");
        }
        assert_eq!(mask["external"]["area"], disc().area());
        assert_eq!(mask["external"], masks[0]["external"]);
        assert!(mask["refined"]["segmentation"]["counts"].is_string());
    }
    let product =
        number(&masks[0], "predicted_iou").clamp(0.0, 1.0) * number(&masks[0], "alignment_iou");
    assert!((number(&masks[0], "estimated_iou") - product).abs() < 1e-5);
    assert_ne!(masks[7]["external"], masks[0]["external"]);
    assert_eq!(answer["estimate"], "product");

    let args = ["quality", "photo.png", "--mask", "mask.png", "--json", "-"];
    let embedded: Value = serde_json::from_slice(&bench.run(&args).stdout).unwrap();
    assert_eq!(embedded["estimate"], "head");
}

#[test]
fn soft_masks_claims_and_answers_of_segment() {
    let bench = bench();
    let soft = json_of(
        &bench,
        &[
            "photo.png",
            "--soft",
            "--mask",
            "soft.png",
            "--mask",
            "floats.npy",
        ],
    );
    for mask in soft["masks"].as_array().unwrap() {
        assert_eq!(mask["external"]["area"], disc().area());
    }
    let claimed = |claim: &[&str]| {
        let args = [&["photo.png", "--mask", "mask.png"], claim].concat();
        json_of(&bench, &args)["masks"][0].clone()
    };
    assert!(claimed(&["--box", "5,5,20,20", "--point", "10,10"])["estimated_iou"].is_number());
    let answer = bench.segment(&["--point", "40,30", "--json", "answer.json"]);
    assert!(answer.status.success(), "{}", stderr(&answer));
    let args = [
        "--box",
        "10,10,40,40",
        "--box",
        "50,20,90,60",
        "--json",
        "two.json",
    ];
    assert!(bench.segment(&args).status.success());
    let answers = json_of(
        &bench,
        &["photo.png", "--mask", "answer.json", "--mask", "two.json"],
    );
    assert_eq!(answers["masks"].as_array().unwrap().len(), 3);
    let selected: Value =
        serde_json::from_slice(&std::fs::read(bench.path("answer.json")).unwrap()).unwrap();
    assert_eq!(
        answers["masks"][0]["external"]["segmentation"],
        selected["selected"]["segmentation"]
    );
}

#[test]
fn a_table_a_picture_and_the_refined_mask() {
    let bench = bench();
    let args = [
        "photo.png",
        "--mask",
        "mask.png",
        "--out",
        "both.png",
        "--out-mask",
        "refined.png",
    ];
    let output = run(&bench, "quality", &args);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains("estimated IoU") && text.contains("without a head"),
        "{text}"
    );
    assert!(
        text.ends_with("wrote both.png\nwrote refined.png\n"),
        "{text}"
    );
    let limits = samara::Limits::default();
    let both = read_image(bench.path("both.png"), &limits).unwrap();
    assert!(both.width() > 2 * 96 && both.height() == 64);
    let refined = samara::read_mask(bench.path("refined.png"), &limits).unwrap();
    assert_eq!((refined.width(), refined.height()), (96, 64));
}

#[test]
fn bad_masks_are_refused_in_one_line() {
    let bench = bench();
    let mut values = vec![0.9; 64 * 96];
    let spoiled = [("nan.npy", f32::NAN), ("high.npy", 1.5), ("low.npy", -0.1)];
    for (name, value) in spoiled {
        values[97] = value;
        bench.write(name, &floats(&values));
    }
    bench.write("zeros.npy", &floats(&vec![0.2; 64 * 96]));
    bench.write(
        "cube.npy",
        &npy("|u1", "(2, 64, 96)", &vec![1; 2 * 64 * 96]),
    );
    bench.write("huge.npy", &npy("|u1", "(4294967296, 4294967297)", &[]));
    bench.write("text.npy", b"text");
    bench.write("cut.json", br#"{"size": [64, 96], "counts": "#);
    bench.write("other.json", br#"{"a": 1}"#);
    bench.write("empty.json", b"[]");
    bench.write(
        "size.json",
        json!(Mask::full(64, 96).to_rle()).to_string().as_bytes(),
    );
    bench.write("sum.json", br#"{"size": [64, 96], "counts": [3, 4]}"#);
    bench.write(
        "nothing.json",
        json!(Mask::new(96, 64).to_rle()).to_string().as_bytes(),
    );
    Mask::new(96, 64).save_png(bench.path("black.png")).unwrap();
    for (mask, words) in [
        ("nan.npy", &["NaN at row 1, column 1"][..]),
        ("high.npy", &["1.5 at row 1"]),
        ("low.npy", &["-0.1 at row 1"]),
        ("zeros.npy", &["no probability exceeds a half"]),
        ("cube.npy", &["[2, 64, 96] is not one mask"]),
        ("huge.npy", &["is not one mask"]),
        ("text.npy", &[]),
        ("cut.json", &[]),
        ("other.json", &["neither run lengths"]),
        ("empty.json", &["holds no mask"]),
        ("size.json", &["64×96", "96×64"]),
        ("sum.json", &[]),
        ("nothing.json", &["no pixel set"]),
        ("black.png", &["no pixel set"]),
        ("missing.png", &[]),
        ("missing.npy", &[]),
        ("missing.json", &[]),
    ] {
        let output = run(&bench, "quality", &["photo.png", "--mask", mask]);
        assert_fails(&output, 1, &[&[mask], words].concat());
    }
}

#[test]
fn flags_that_make_no_sense_are_refused_in_one_line() {
    let bench = bench().with_data(&["val"], &[(1, &[30, 12, 66, 12, 66, 52, 30, 52])]);
    bench.write("head.safetensors", b"x");
    let with_mask = ["photo.png", "--mask", "mask.png"];
    for (args, status, words) in [
        (&["photo.png"][..], 2, &["photo.png", "--mask"][..]),
        (&["data", "--mask", "mask.png"], 2, &["--mask", "data"]),
        (&["photo.png", "--point", "1,2"], 2, &["--mask"]),
        (
            &[&with_mask[..], &["--point", "500,2"]].concat(),
            2,
            &["500,2"],
        ),
        (
            &[&with_mask[..], &["--point", "5,2,0"]].concat(),
            2,
            &["--point"],
        ),
        (
            &[&with_mask[..], &["--box", "100,100,120,120"]].concat(),
            2,
            &["box 100"],
        ),
        (
            &[&with_mask[..], &["--head", "head.safetensors"]].concat(),
            1,
            &["--head", "head.safetensors"],
        ),
        (
            &[&with_mask[..], &["--out", "no/both.png"]].concat(),
            1,
            &["--out", "no"],
        ),
        (
            &[&with_mask[..], &["--worst", "3"]].concat(),
            2,
            &["--worst"],
        ),
        (
            &[
                &with_mask[..],
                &["--mask", "rle.json", "--out-mask", "r.png"],
            ]
            .concat(),
            2,
            &["--out-mask"],
        ),
        (&["data", "--keep", "data/kept.json"], 2, &["--min-quality"]),
        (&["data", "--drop", "0.5"], 2, &["--keep"]),
        (
            &["data", "--keep", "data/kept.json", "--drop", "2"],
            2,
            &["0 to 1"],
        ),
        (
            &["data", "--keep", "data/annotations.json", "--drop", "0.5"],
            2,
            &["--keep", "another file"],
        ),
        (&["data", "--split", "test"], 1, &["test"]),
        (&["data/missing.json"], 1, &["missing.json"]),
        (&["images", "--mask", "mask.png"], 1, &["images"]),
    ] {
        let output = run(&bench, "quality", args);
        assert_fails(&output, status, words);
    }
}

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
        stderr(&elsewhere).contains("images/ folder beside it"),
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
[model.lite]
img_size = 64
embed_dim = 16
num_heads = 1
depth = 1
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
    let trained = bench.run(&["train", "recipe.toml", "--out", "run"]);
    assert!(trained.status.success(), "{}", stderr(&trained));

    let none = run(&bench, "levels", &["data", "--out", "x/levels.json"]);
    assert_fails(&none, 1, &["--out", "x"]);
    let over = run(
        &bench,
        "levels",
        &["data", "--out", "data/annotations.json"],
    );
    assert_fails(&over, 2, &["--out", "another file"]);
    let score = run(
        &bench,
        "levels",
        &["data", "--out", "l.json", "--min-score", "7"],
    );
    assert_fails(&score, 2, &["--min-score"]);
}
