//! `samara quality` and `samara levels`: masks from anywhere, and the annotations of a data set.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Bench, assert_fails, disc, json_of, npy, run, stderr, stdout};
use samara::Mask;
use samara_image::{GrayImage16, read_image, save_png};
use serde_json::{Value, json};

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
    write("one_rle.json", &json!([rle]));
    write("annotation.json", &json!({"id": 3, "segmentation": rle}));
    write(
        "list.json",
        &json!([{"segmentation": rle}, {"segmentation": [[10, 10, 40, 10, 40, 40]]}]),
    );
    let bools: Vec<u8> = mask.to_bools().into_iter().map(u8::from).collect();
    bench.write("bools.npy", &npy("|b1", &[64, 96], &bools));
    bench.write("bytes.npy", &npy("|u1", &[1, 64, 96], &bools));
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
    npy("<f4", &[64, 96], &bytes)
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
            "one_rle.json",
            "--mask",
            "list.json",
        ],
    );
    let masks = answer["masks"].as_array().unwrap();
    assert_eq!(masks.len(), 9);
    assert_eq!(masks[7]["mask"], "list.json [0]");
    let number = |mask: &Value, key: &str| mask[key].as_f64().unwrap();
    for mask in &masks[..8] {
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
    assert_ne!(masks[8]["external"], masks[0]["external"]);
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
        selected["objects"][0]["selected"]["segmentation"]
    );
}

#[test]
fn a_table_an_image_and_the_refined_mask() {
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
    let limits = samara::ImageLimits::default();
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
    bench.write("cube.npy", &npy("|u1", &[2, 64, 96], &vec![1; 2 * 64 * 96]));
    bench.write(
        "huge.npy",
        &npy("|u1", &[4_294_967_296, 4_294_967_297], &[]),
    );
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
        ("huge.npy", &["has not all values"]),
        ("text.npy", &[]),
        ("cut.json", &[]),
        ("other.json", &["neither run lengths"]),
        ("empty.json", &["holds no mask"]),
        ("size.json", &["64×96", "96×64"]),
        ("sum.json", &[]),
        ("nothing.json", &["no pixel set"]),
        ("black.png", &["no pixel set"]),
        (
            "photo.png",
            &["is a picture in colours", "white where the object is"],
        ),
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
    let bench = bench();
    bench.write("head.safetensors", b"x");
    for (args, status, words) in [
        (&["--point", "500,2"][..], 2, &["500,2"][..]),
        (&["--point", "5,2,0"], 2, &["--point"]),
        (&["--box", "100,100,120,120"], 2, &["box 100"]),
        (&["--head", "head.safetensors"], 1, &["head.safetensors"]),
        (&["--out", "no/both.png"], 1, &["--out", "no"]),
        (&["--worst", "3"], 2, &["--worst"]),
        (&["--images", "."], 2, &["--images"]),
        (
            &["--mask", "rle.json", "--out-mask", "r"],
            2,
            &["--out-mask"],
        ),
    ] {
        let args = [&["photo.png", "--mask", "mask.png"], args].concat();
        assert_fails(&run(&bench, "quality", &args), status, words);
    }
    for (args, status, words) in [
        (&["photo.png"][..], 2, &["photo.png", "--mask"][..]),
        (&["photo.png", "--point", "1,2"], 2, &["--mask"]),
        (&["images", "--mask", "mask.png"], 1, &["images"]),
        (&["data", "--page", "1"], 2, &["--mask"]),
        (
            &["data", "--soft", "--limit", "1"],
            2,
            &["--soft", "--limit"],
        ),
    ] {
        assert_fails(&run(&bench, "quality", args), status, words);
    }
}
