//! `samara attention`: what it writes, and what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::process::Output;

use common::{Bench, assert_fails, model, npy, stderr, stdout};
use safetensors::tensor::{Dtype, TensorView};
use samara::ImageLimits;
use samara_image::{GrayImage16, RgbImage, read_image, save_png};
use serde_json::Value;

fn floats(shape: &[usize], values: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    npy("<f4", shape, &data)
}

/// A blob on a grid, brightest at cell (`x`, `y`).
fn blob(columns: usize, rows: usize, (x, y): (usize, usize)) -> Vec<f32> {
    let at = |i: usize| (i % columns).abs_diff(x) + (i / columns).abs_diff(y);
    (0..columns * rows)
        .map(|i| 1.0 / (1.0 + at(i) as f32))
        .collect()
}

/// Runs `samara attention photo.png MAP` with the test model; the photo has 96×64 pixels.
fn attention(bench: &Bench, map: &str, args: &[&str]) -> Output {
    let model = model();
    let mut all = vec!["attention", "photo.png", map, "--checkpoint", &model];
    all.extend(args);
    bench.run(&all)
}

fn json(bench: &Bench, map: &str, args: &[&str]) -> Value {
    let output = attention(bench, map, &[args, &["--json", "-"]].concat());
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn without_an_output_flag_an_image_and_a_table_appear() {
    let bench = Bench::new();
    bench.write("map.npy", &floats(&[10, 15], &blob(15, 10, (7, 5))));
    let output = attention(&bench, "map.npy", &["--point", "48,32"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        bench.files(),
        ["map.npy", "photo.attention.png", "photo.png"]
    );
    let text = stdout(&output);
    for word in [
        "photo.png 96×64",
        "corr.",
        "AUC",
        "looks at",
        "48,32",
        "whole",
    ] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    assert!(text.ends_with("wrote photo.attention.png\n"), "{text}");
    assert!(stderr(&output).is_empty(), "no bar without a terminal");
    let image = read_image(bench.path("photo.attention.png"), &ImageLimits::default()).unwrap();
    assert_eq!(
        image.dimensions(),
        (5 * 96 + 4 * 8, 64),
        "five panels and gaps"
    );
}

#[test]
fn json_has_every_measure_of_every_candidate() {
    let bench = Bench::new();
    let heads = [blob(15, 10, (7, 5)), blob(15, 10, (1, 1))].concat();
    let layers = [heads.clone(), heads].concat();
    bench.write("map.npy", &floats(&[2, 2, 10, 15], &layers));
    let args = [
        "--point",
        "48,32",
        "--point",
        "10,10",
        "--box",
        "60,50,20,10",
    ];
    let json = json(&bench, "map.npy", &args);
    let prompts = json["prompts"].as_array().unwrap();
    assert_eq!(prompts.len(), 3);
    assert_eq!(prompts[1]["point"], serde_json::json!([10.0, 10.0]));
    assert_eq!(
        prompts[2]["box"],
        serde_json::json!([20.0, 10.0, 60.0, 50.0])
    );
    let maps = json["maps"].as_array().unwrap();
    assert_eq!(maps.len(), 4);
    assert_eq!(
        (&maps[3]["layer"], &maps[3]["head"]),
        (&1.into(), &1.into())
    );
    assert_eq!(
        (&maps[0]["columns"], &maps[0]["rows"]),
        (&15.into(), &10.into())
    );
    for result in maps
        .iter()
        .flat_map(|map| map["results"].as_array().unwrap())
    {
        assert_eq!(result["resampling"], "bilinear");
        assert_eq!(result["level"].is_null(), result["undecided"].is_string());
        let candidates = result["candidates"].as_array().unwrap();
        assert_eq!(candidates.len(), 3);
        for candidate in candidates {
            for measure in [
                "correlation",
                "mass",
                "auc",
                "hit",
                "agreement",
                "confidence",
                "level",
            ] {
                assert!(candidate.get(measure).is_some(), "{measure}");
            }
        }
    }
    assert_eq!(
        maps[0]["results"], maps[2]["results"],
        "equal heads, equal results"
    );
    let summary = &json["summary"].as_array().unwrap()[0];
    let count = |level: &str| summary[level].as_u64().unwrap();
    assert_eq!(
        count("whole") + count("part") + count("subpart") + count("undecided"),
        4
    );
    assert_eq!(
        bench.files(),
        ["map.npy", "photo.png"],
        "only what was asked for"
    );
}

#[test]
fn without_a_prompt_the_peaks_are_clicked() {
    let bench = Bench::new();
    let mut values = blob(15, 10, (2, 2));
    values[8 * 15 + 12] = 0.9;
    bench.write("map.npy", &floats(&[10, 15], &values));
    let one = json(&bench, "map.npy", &[]);
    let point = |json: &Value, i: usize| json["prompts"][i]["point"].clone();
    assert_eq!(point(&one, 0), serde_json::json!([16.0, 16.0]));
    assert_eq!(one["prompts"][0]["peak"], true);
    let two = json(&bench, "map.npy", &["--peaks", "2"]);
    let y = point(&two, 1)[1].as_f64().unwrap();
    assert!((y - 54.4).abs() < 1e-9, "{y}");
}

#[test]
fn kinds_of_files_say_the_same() {
    let bench = Bench::new();
    let levels: Vec<u16> = blob(96, 64, (40, 30))
        .iter()
        .map(|v| (v * 65535.0) as u16)
        .collect();
    let image = GrayImage16::from_raw(96, 64, levels.clone()).unwrap();
    save_png(bench.path("map.png"), &image).unwrap();
    let bytes: Vec<u8> = levels.iter().flat_map(|v| v.to_le_bytes()).collect();
    bench.write("u2.npy", &npy("<u2", &[64, 96], &bytes));
    let doubles: Vec<u8> = levels
        .iter()
        .flat_map(|&v| f64::from(v).to_le_bytes())
        .collect();
    bench.write("f8.npy", &npy("<f8", &[1, 64, 96], &doubles));
    let singles: Vec<u8> = levels
        .iter()
        .flat_map(|&v| f32::from(v).to_le_bytes())
        .collect();
    let other: Vec<u8> = blob(96, 64, (1, 1))
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let view = |bytes| TensorView::new(Dtype::F32, vec![64, 96], bytes).unwrap();
    let tensors = [("attention", view(&singles)), ("other", view(&other))];
    bench.write(
        "map.safetensors",
        &safetensors::serialize(tensors, None).unwrap(),
    );

    let point = ["--point", "40,30"];
    let measured = |json: &Value| {
        let of = &json["maps"][0]["results"][0]["candidates"][0];
        ["correlation", "mass", "auc"].map(|name| of[name].as_f64().unwrap())
    };
    let expected = measured(&json(&bench, "u2.npy", &point));
    let all = json(&bench, "map.safetensors", &point);
    assert_eq!(all["maps"].as_array().unwrap().len(), 2);
    assert_eq!(all["maps"][1]["tensor"], "other");
    let chosen = json(
        &bench,
        "map.safetensors",
        &["--point", "40,30", "--tensor", "attention"],
    );
    assert_eq!(chosen["maps"].as_array().unwrap().len(), 1);
    for found in [
        all,
        chosen,
        json(&bench, "map.png", &point),
        json(&bench, "f8.npy", &point),
    ] {
        for (a, b) in measured(&found).into_iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{a} and {b}");
        }
    }
}

#[test]
fn half_precision_is_read() {
    let bench = Bench::new();
    // 0.5, 1, 2 and 4 as IEEE half precision.
    let halves: Vec<u8> = [0x3800_u16, 0x3c00, 0x4000, 0x4400]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    bench.write("f2.npy", &npy("<f2", &[2, 2], &halves));
    bench.write("f4.npy", &floats(&[2, 2], &[0.5, 1.0, 2.0, 4.0]));
    let of = |name: &str| json(&bench, name, &["--point", "40,30", "--stretch"])["maps"].clone();
    assert_eq!(of("f2.npy"), of("f4.npy"));
}

#[test]
fn rows_of_tokens_become_maps() {
    let bench = Bench::new();
    let cells = [blob(6, 4, (2, 1)), blob(6, 4, (4, 3))];
    bench.write("maps.npy", &floats(&[2, 4, 6], &cells.concat()));
    let tokens: Vec<f32> = cells
        .iter()
        .flat_map(|cells| [&[9.0, 8.0][..], cells].concat())
        .collect();
    bench.write("tokens.npy", &floats(&[2, 26], &tokens));
    bench.write("layers.npy", &floats(&[1, 2, 26], &tokens));
    bench.write("row.npy", &floats(&[24], &cells[0]));
    let point = ["--point", "40,30"];
    let grid = ["--point", "40,30", "--grid", "4x6"];
    let maps = json(&bench, "maps.npy", &point)["maps"].clone();
    assert_eq!(json(&bench, "tokens.npy", &grid)["maps"], maps);
    let row = json(&bench, "row.npy", &grid);
    assert_eq!(row["maps"][0]["results"], maps[0]["results"]);
    let layers = json(&bench, "layers.npy", &grid);
    assert_eq!(layers["maps"][1]["layer"], 0);
    assert_eq!(layers["maps"][1]["results"], maps[1]["results"]);
}

#[test]
fn many_heads_are_summed_up() {
    let bench = Bench::new();
    let heads: Vec<f32> = (0..24)
        .flat_map(|i| blob(15, 10, (i % 15, i % 10)))
        .collect();
    bench.write("heads.npy", &floats(&[4, 6, 10, 15], &heads));
    let output = attention(
        &bench,
        "heads.npy",
        &["--point", "48,32", "--out", "image.jpg"],
    );
    let text = stdout(&output);
    assert!(
        text.contains("48,32, 24 maps: whole "),
        "{text}{}",
        stderr(&output)
    );
    assert!(text.contains("  layer 3: whole "), "{text}");
    let image = read_image(bench.path("image.jpg"), &ImageLimits::default()).unwrap();
    assert_eq!(image.height(), 64, "the mean map alone");
}

#[test]
fn maps_that_are_none_are_refused_by_name() {
    let bench = Bench::new();
    let good = blob(15, 10, (7, 5));
    let with = |value: f32| {
        let mut values = good.clone();
        values[17] = value;
        floats(&[10, 15], &values)
    };
    bench.write("nan.npy", &with(f32::NAN));
    bench.write("inf.npy", &with(f32::INFINITY));
    bench.write("negative.npy", &with(-0.25));
    bench.write("zero.npy", &floats(&[10, 15], &[0.0; 150]));
    bench.write("flat.npy", &floats(&[10, 15], &[0.5; 150]));
    bench.write("row.npy", &floats(&[150], &good));
    bench.write("five.npy", &floats(&[1, 1, 1, 10, 15], &good));
    bench.write("none.npy", &floats(&[0, 10, 15], &[]));
    bench.write("square.npy", &floats(&[14, 14], &blob(14, 14, (3, 3))));
    bench.write("cut.npy", &floats(&[10, 15], &good[..140]));
    bench.write("text.npy", b"no array at all");
    bench.write("complex.npy", &npy("<c8", &[2, 2], &[0; 32]));
    bench.write("text.safetensors", b"no tensors at all");
    bench.write("text.png", b"no image at all");
    save_png(bench.path("colour.png"), &common::photo(96, 64, 0)).unwrap();
    save_png(bench.path("black.png"), &RgbImage::new(96, 64)).unwrap();
    bench.write(
        "heads.npy",
        &floats(&[2, 10, 15], &[good.clone(), vec![0.0; 150]].concat()),
    );
    let before = bench.files();
    for (name, words) in [
        ("nan.npy", &["NaN", "column 2, row 1"][..]),
        ("inf.npy", &["inf"]),
        ("negative.npy", &["-0.25", "not negative"]),
        ("zero.npy", &["zero"]),
        ("flat.npy", &["0.5"]),
        ("row.npy", &["[150]", "--grid"]),
        ("five.npy", &["[1, 1, 1, 10, 15]"]),
        ("none.npy", &["[0, 10, 15]", "no map"]),
        ("square.npy", &["14×14", "96×64", "--stretch"]),
        ("cut.npy", &[]),
        ("text.npy", &[]),
        ("complex.npy", &["floating point"]),
        ("text.safetensors", &[]),
        ("text.png", &["not an image"]),
        ("colour.png", &["colour"]),
        ("black.png", &["zero"]),
        ("heads.npy", &["head 1", "zero"]),
        ("missing.npy", &[]),
        ("missing.png", &[]),
        (".", &[]),
    ] {
        let output = attention(&bench, name, &["--point", "48,32"]);
        assert_fails(&output, 1, &[&[name], words].concat());
    }
    assert_eq!(bench.files(), before, "nothing is written");
}

#[test]
fn flags_that_do_not_fit_are_refused() {
    let bench = Bench::new();
    bench.write("map.npy", &floats(&[10, 15], &blob(15, 10, (7, 5))));
    bench.write("tokens.npy", &floats(&[2, 197], &blob(197, 2, (7, 1))));
    save_png(bench.path("map.png"), &RgbImage::new(96, 64)).unwrap();
    let before = bench.files();
    for (map, args, status, words) in [
        (
            "tokens.npy",
            &["--grid", "13x13"][..],
            1,
            &["tokens.npy", "197", "13x13"][..],
        ),
        (
            "tokens.npy",
            &["--grid", "15x15"],
            1,
            &["tokens.npy", "197", "15x15"],
        ),
        ("map.npy", &["--grid", "14"], 2, &["--grid", "HxW"]),
        ("map.png", &["--grid", "14x14"], 2, &["map.png", "--grid"]),
        ("map.npy", &["--tensor", "a"], 2, &["map.npy", "--tensor"]),
        (
            "map.npy",
            &["--point", "96,10"],
            2,
            &["point 96,10", "96×64"],
        ),
        ("map.npy", &["--point", "5"], 2, &["--point"]),
        (
            "map.npy",
            &["--point", "5,5", "--peaks", "2"],
            2,
            &["--peaks"],
        ),
        ("map.npy", &["--box", "1,2,3"], 2, &["--box"]),
        ("map.npy", &["--mask", "none.png"], 1, &["none.png"]),
        ("map.npy", &["--min-margin", "3"], 2, &["--min-margin"]),
        ("map.npy", &["--out", "a.tiff"], 2, &["a.tiff"]),
        ("map.npy", &["--out", "none/a.png"], 1, &["--out", "none"]),
        ("map.npy", &["--json", "."], 1, &["--json", "folder"]),
    ] {
        assert_fails(&attention(&bench, map, args), status, words);
    }
    assert_eq!(bench.files(), before, "nothing is written");
}
