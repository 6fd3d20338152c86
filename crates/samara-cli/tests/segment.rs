//! `samara segment`: what it writes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Bench, golden, npy, photo, stderr, stdout};
use safetensors::SafeTensors;
use samara::{ImageLimits, Mask};
use samara_image::{RgbImage, Rle, read_mask, save_png};
use serde_json::Value;

fn mask_of(record: &Value) -> Mask {
    let rle: Rle = serde_json::from_value(record["segmentation"].clone()).unwrap();
    rle.to_mask().unwrap()
}

#[test]
fn without_an_output_flag_an_image_and_a_table_appear() {
    let bench = Bench::new();
    let output = bench.segment(&["--point", "40,30"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(bench.files(), ["photo.overlay.png", "photo.png"]);
    let text = stdout(&output);
    assert!(text.contains("photo.png 96×64"), "{text}");
    assert!(text.contains("predicted IoU"), "{text}");
    assert!(text.ends_with("wrote photo.overlay.png\n"), "{text}");
    assert!(stderr(&output).is_empty(), "no bar without a terminal");
    assert!(!text.contains('\x1b'), "no colour without a terminal");
}

#[test]
fn json_follows_the_contract() {
    let bench = Bench::new();
    let json = bench.json(&["--point", "40,30", "--point", "10,10,0"]);
    assert_eq!(json["image"]["path"], "photo.png");
    assert_eq!(
        (&json["image"]["width"], &json["image"]["height"]),
        (&96.into(), &64.into())
    );
    assert_eq!(json["model"], "sam-vit (width 16, 4 blocks)");
    let candidates = json["objects"][0]["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 3);
    for (i, candidate) in candidates.iter().enumerate() {
        assert_eq!(candidate["index"], i);
        let mask = mask_of(candidate);
        assert_eq!((mask.width(), mask.height()), (96, 64));
        assert_eq!(candidate["area"], mask.area());
        let tight = mask.bbox().unwrap();
        assert_eq!(candidate["bbox"], serde_json::json!(tight.xywh()));
        assert!(candidate["stability_score"].is_number());
        let level = candidate["granularity"].as_str().unwrap();
        assert!(["whole", "part", "subpart"].contains(&level));
    }
    let score = |c: &Value| c["predicted_iou"].as_f64().unwrap();
    let best = candidates.iter().map(score).fold(f64::MIN, f64::max);
    assert_eq!(score(&json["objects"][0]["selected"]), best);
    for stage in ["load", "embed", "decode", "mask"] {
        assert!(json["timing_ms"][stage].as_f64().unwrap() >= 0.0, "{stage}");
    }
}

#[test]
fn single_gives_one_candidate() {
    let json = Bench::new().json(&["--point", "40,30", "--single"]);
    assert_eq!(
        json["objects"][0]["candidates"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn an_intent_that_a_model_does_not_know_is_told() {
    let output = Bench::new().segment(&["--point", "40,30", "--intent", "segments"]);
    assert!(output.status.success());
    let told = stderr(&output);
    assert_eq!(
        told,
        "notice: --intent segments: sam-vit (width 16, 4 blocks) has no candidate head, so it changes nothing\n"
    );
}

#[test]
fn several_boxes_are_several_objects() {
    let bench = Bench::new();
    let json = bench.json(&["--box", "10,10,40,40", "--box", "90,60,50,20"]);
    let objects = json["objects"].as_array().unwrap();
    assert_eq!(objects.len(), 2);
    let alone = bench.json(&["--box", "50,20,90,60"]);
    let close = mask_of(&objects[1]["selected"]).iou(&mask_of(&alone["objects"][0]["selected"]));
    assert!(close > 0.999, "{close}");
}

#[test]
fn every_strategy_is_within_reach() {
    let bench = Bench::new();
    let candidates = bench.json(&["--point", "40,30"]);
    let masks: Vec<Mask> = candidates["objects"][0]["candidates"]
        .as_array()
        .unwrap()
        .iter()
        .map(mask_of)
        .collect();
    masks[2].save_png(bench.path("truth.png")).unwrap();
    let expected = |name: &str| -> Option<Mask> {
        let area = |m: &&Mask| m.area();
        match name {
            "largest" => masks.iter().max_by_key(area).cloned(),
            "smallest" => masks.iter().min_by_key(area).cloned(),
            "union" => Some(masks[0].or(&masks[1]).unwrap().or(&masks[2]).unwrap()),
            "intersection" => Some(masks[0].and(&masks[1]).unwrap().and(&masks[2]).unwrap()),
            "oracle=truth.png" => Some(masks[2].clone()),
            _ => None,
        }
    };
    for name in [
        "best",
        "whole",
        "part",
        "subpart",
        "largest",
        "smallest",
        "area=0.2",
        "box=10,10,50,40",
        "union",
        "intersection",
        "weighted",
        "vote",
        "oracle=truth.png",
        "all",
    ] {
        let json = bench.json(&["--point", "40,30", "--select", name]);
        assert!(
            json["objects"][0]["selected"]["reason"].is_string(),
            "{name}"
        );
        let combined = ["union", "intersection", "weighted", "vote"].contains(&name);
        assert_eq!(
            json["objects"][0]["selected"]["index"].is_null(),
            combined,
            "{name}"
        );
        if let Some(mask) = expected(name) {
            assert_eq!(mask_of(&json["objects"][0]["selected"]), mask, "{name}");
        }
    }
    let output = bench.segment(&["--point", "40,30", "--select", "largest", "--explain"]);
    assert!(
        stderr(&output).starts_with("selected: candidate "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_folder_gets_everything() {
    let bench = Bench::new();
    let output = bench.segment(&["--point", "40,30", "--out", "result/"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let json: Value =
        serde_json::from_slice(&std::fs::read(bench.path("result/photo.json")).unwrap()).unwrap();
    let read = |name: &str| read_mask(bench.path(name), &ImageLimits::default()).unwrap();
    assert_eq!(
        read("result/photo.mask.png"),
        mask_of(&json["objects"][0]["selected"])
    );
    for i in 0..3 {
        let name = format!("result/photo.candidate-{i}.png");
        assert_eq!(read(&name), mask_of(&json["objects"][0]["candidates"][i]));
    }
    assert!(bench.path("result/photo.overlay.png").exists());
}

#[test]
fn files_by_name() {
    let bench = Bench::new();
    let output = bench.segment(&[
        "--point",
        "40,30",
        "--out",
        "a.jpg",
        "--out-mask",
        "m.png",
        "--json",
        "j.json",
        "--raw",
        "r.safetensors",
        "--save-embedding",
        "e.safetensors",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let expected = [
        "a.jpg",
        "e.safetensors",
        "j.json",
        "m.png",
        "photo.png",
        "r.safetensors",
    ];
    assert_eq!(bench.files(), expected);
}

#[test]
fn raw_holds_the_candidates_or_every_token() {
    let bench = Bench::new();
    for (select, tokens) in [("best", 3), ("all", 4)] {
        let output = bench.segment(&[
            "--point",
            "40,30",
            "--select",
            select,
            "--raw",
            "r.safetensors",
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        let bytes = std::fs::read(bench.path("r.safetensors")).unwrap();
        let raw = SafeTensors::deserialize(&bytes).unwrap();
        let shape = |name: &str| raw.tensor(name).unwrap().shape().to_vec();
        assert_eq!(shape("image_embedding"), [1, 32, 8, 8]);
        assert_eq!(shape("low_res_logits"), [tokens, 32, 32]);
        assert_eq!(shape("iou"), [tokens]);
    }
}

#[test]
fn a_kept_embedding_answers_the_same() {
    let bench = Bench::new();
    let kept = bench.json(&["--point", "40,30", "--save-embedding", "photo.emb"]);
    let again = bench.json(&["--point", "40,30", "--embedding", "photo.emb"]);
    assert_eq!(
        kept["objects"][0]["candidates"],
        again["objects"][0]["candidates"]
    );

    let other = golden("sam_hf.safetensors");
    let args = [
        "segment",
        "photo.png",
        "--checkpoint",
        &other,
        "--point",
        "40,30",
    ];
    let refused = bench.run(&[&args[..], &["--embedding", "photo.emb"]].concat());
    common::assert_fails(&refused, 1, &["photo.emb", "made by other weights"]);

    save_png(bench.path("photo.png"), &photo(96, 64, 1)).unwrap();
    let refused = bench.segment(&["--point", "40,30", "--embedding", "photo.emb"]);
    common::assert_fails(&refused, 1, &["--embedding photo.emb", "another image"]);
}

#[test]
fn an_answer_can_be_refined() {
    let bench = Bench::new();
    let first = bench.json(&["--point", "40,30", "--raw", "r.safetensors"]);
    let refined = bench.json(&["--point", "40,30", "--mask", "r.safetensors", "--single"]);
    let blank = bench.json(&["--point", "40,30", "--single"]);
    assert_ne!(
        refined["objects"][0]["candidates"],
        blank["objects"][0]["candidates"]
    );
    assert_ne!(
        refined["objects"][0]["candidates"][0],
        first["objects"][0]["candidates"][0]
    );
}

/// Random weights draw masks as large as the image; the embedded model finds the disc.
#[cfg(feature = "embedded")]
#[test]
fn a_small_object_is_looked_at_again() {
    let bench = Bench::new();
    let inside = |x: u32, y: u32| x.abs_diff(150).pow(2) + y.abs_diff(100).pow(2) < 100;
    let image = RgbImage::from_fn(240, 180, |x, y| {
        let shade = 200 - (x / 4) as u8;
        if inside(x, y) {
            [30, 60, 160].into()
        } else {
            [shade, shade, 150].into()
        }
    });
    save_png(bench.path("photo.png"), &image).unwrap();
    let answer = |zoom: &str| {
        let click = ["segment", "photo.png", "--point", "150,100"];
        let rest = ["--zoom", zoom, "--explain", "--json", "-"];
        let output = bench.run(&[&click[..], &rest].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        (json, stderr(&output))
    };
    let disc = Mask::from_fn(240, 180, inside);
    let (off, told) = answer("off");
    assert!(
        off["objects"][0]["zoom"].is_null() && !told.contains("zoom:"),
        "{told}"
    );
    let (closer, told) = answer("4");
    let view = serde_json::json!({"x": 120, "y": 70, "width": 60, "height": 60});
    for side in ["x", "y", "width", "height"] {
        let near = closer["objects"][0]["zoom"][side]
            .as_u64()
            .unwrap()
            .abs_diff(view[side].as_u64().unwrap());
        assert!(near <= 3, "{}", closer["objects"][0]["zoom"]);
    }
    assert!(told.contains("zoom: answered from "), "{told}");
    let found = mask_of(&closer["objects"][0]["selected"]);
    assert!(found.iou(&disc) > 0.9, "{}", found.iou(&disc));
    assert!(answer("auto").0["objects"][0]["zoom"].is_object());
}

#[test]
fn a_mask_of_another_size_is_stretched_with_a_notice() {
    let bench = Bench::new();
    let mask = |w: u32, h: u32| Mask::from_fn(w, h, |x, y| x < w / 2 && y < h / 2);
    mask(96, 64).save_png(bench.path("same.png")).unwrap();
    mask(48, 32).save_png(bench.path("half.png")).unwrap();
    let same = bench.segment(&["--mask", "same.png", "--json", "-"]);
    let half = bench.segment(&["--mask", "half.png", "--json", "-"]);
    let alone = |name: &str| {
        format!(
            "notice: --mask {name}: a mask alone is a weak prompt; its own box helps: --box 0,0,48,32\n"
        )
    };
    assert_eq!(stderr(&same), alone("same.png"));
    let stretched = "notice: --mask half.png: 48×32 pixels, stretched to the image's 96×64\n";
    assert_eq!(stderr(&half), stretched.to_owned() + &alone("half.png"));
    let boxed = ["--mask", "same.png", "--box", "0,0,48,32", "--json", "-"];
    assert_eq!(stderr(&bench.segment(&boxed)), "");
    let selected = |bytes: &[u8]| {
        mask_of(&serde_json::from_slice::<Value>(bytes).unwrap()["objects"][0]["selected"])
    };
    assert!(selected(&same.stdout).iou(&selected(&half.stdout)) > 0.99);
}

#[test]
fn numpy_arrays_are_masks_or_logits() {
    let bench = Bench::new();
    let mask = Mask::from_fn(96, 64, |x, y| x > 30 && y > 20);
    mask.save_png(bench.path("mask.png")).unwrap();
    let bools: Vec<u8> = mask.to_bools().into_iter().map(u8::from).collect();
    bench.write("mask.npy", &npy("|b1", &[64, 96], &bools));
    let image = bench.json(&["--mask", "mask.png"]);
    let array = bench.json(&["--mask", "mask.npy"]);
    let floats: Vec<u8> = bools
        .iter()
        .flat_map(|&v| f32::from(v).to_le_bytes())
        .collect();
    bench.write("floats.npy", &npy("<f4", &[64, 96], &floats));
    let floats = bench.json(&["--mask", "floats.npy"]);
    assert_eq!(floats["objects"], array["objects"]);
    let two: Vec<u8> = (0..64_i64 * 96)
        .flat_map(|i| (i % 3).to_le_bytes())
        .collect();
    bench.write("two.npy", &npy("<i8", &[64, 96], &two));
    let refused = bench.segment(&["--mask", "two.npy"]);
    common::assert_fails(
        &refused,
        1,
        &["two.npy: holds several objects, by its values 1, 2"],
    );
    let shares: Vec<u8> = (0..32 * 32)
        .flat_map(|i| (i as f32 / 1024.0).to_le_bytes())
        .collect();
    bench.write("shares.npy", &npy("<f4", &[32, 32], &shares));
    let told = stderr(&bench.segment(&["--mask", "shares.npy"]));
    assert!(told.contains("taken as logits"), "{told}");
    assert_eq!(
        image["objects"][0]["candidates"],
        array["objects"][0]["candidates"]
    );

    let logits: Vec<u8> = (0..32 * 32)
        .flat_map(|i| (i as f32 / 100.0 - 5.0).to_le_bytes())
        .collect();
    bench.write("logits.npy", &npy("<f4", &[1, 32, 32], &logits));
    assert_ne!(
        bench.json(&["--mask", "logits.npy"])["objects"][0]["candidates"],
        array["objects"][0]["candidates"]
    );

    bench.write("small.npy", &npy("<f4", &[16, 16], &logits[..1024]));
    let refused = bench.segment(&["--mask", "small.npy"]);
    common::assert_fails(&refused, 2, &["16×16", "32×32", "no values but 0 and 1"]);
    let shades: Vec<u8> = bools
        .iter()
        .flat_map(|&v| (f32::from(v) * 0.7).to_le_bytes())
        .collect();
    bench.write("shades.npy", &npy("<f4", &[64, 96], &shades));
    let refused = bench.segment(&["--mask", "shades.npy"]);
    common::assert_fails(
        &refused,
        1,
        &[
            "shades.npy: ",
            "square, not 64×96",
            "floats of only 0 and 1",
        ],
    );
    bench.write("cut.npy", &npy("<f4", &[32, 32], &logits[..1000]));
    common::assert_fails(
        &bench.segment(&["--mask", "cut.npy"]),
        1,
        &["--mask cut.npy"],
    );
    bench.write("four.npy", &npy("<f4", &[4, 16, 16], &logits));
    common::assert_fails(&bench.segment(&["--mask", "four.npy"]), 1, &["[4, 16, 16]"]);
    bench.write("nan.npy", &npy("<f4", &[32, 32], &[0xff; 4096]));
    common::assert_fails(
        &bench.segment(&["--mask", "nan.npy"]),
        1,
        &["not a finite number"],
    );
}

#[test]
fn masks_in_json_are_those_of_images() {
    let bench = Bench::new();
    let mask = common::disc();
    mask.save_png(bench.path("mask.png")).unwrap();
    let rle = serde_json::json!(mask.to_rle());
    let answer = serde_json::json!({"objects": [{"selected": {"segmentation": rle}}]});
    let right = bench.json(&["--mask", "mask.png"]);
    for (name, value) in [
        ("rle.json", &rle),
        ("list.json", &serde_json::json!([rle])),
        ("answer.json", &answer),
    ] {
        bench.write(name, value.to_string().as_bytes());
        let found = bench.json(&["--mask", name]);
        assert_eq!(found["objects"], right["objects"], "{name}");
    }
    bench.write(
        "two.json",
        serde_json::json!([rle, rle]).to_string().as_bytes(),
    );
    for (name, words) in [
        ("two.json", &["--mask two.json: holds 2 masks"][..]),
        ("photo.png", &["photo.png: is a picture in colours"]),
    ] {
        common::assert_fails(&bench.segment(&["--mask", name]), 1, words);
    }
    Mask::full(9, 8).save_png(bench.path("small.png")).unwrap();
    let oracle = bench.segment(&["--point", "4,3", "--select", "oracle=small.png"]);
    let why = "--select oracle=small.png: the mask has 9×8 pixels, the image ";
    common::assert_fails(&oracle, 1, &[why]);
    let oracle = bench.segment(&["--point", "4,3", "--select", "oracle=photo.png"]);
    common::assert_fails(
        &oracle,
        1,
        &["--select oracle=photo.png: is a picture in colours"],
    );
}
