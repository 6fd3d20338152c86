//! Bad input: one line that names the culprit, the right exit status, nothing half-written.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Bench, assert_fails, model, stderr};

/// A PNG header that promises `width`×`height` pixels, and no data.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let crc = chunk.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| {
            (c >> 1) ^ (0xEDB8_8320 & (c & 1).wrapping_neg())
        })
    });
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    file.extend(&chunk);
    file.extend((!crc).to_be_bytes());
    file.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    file
}

#[test]
fn images() {
    let bench = Bench::new();
    let photo = std::fs::read(bench.path("photo.png")).unwrap();
    bench.write("empty.jpg", b"");
    bench.write("cut.png", &photo[..photo.len() / 2]);
    bench.write("text.jpg", b"this is no image");
    bench.write("huge.png", &png_header(30_000, 30_000));
    let model = model();
    for (name, words) in [
        ("missing.jpg", &["missing.jpg", "no such file"][..]),
        ("empty.jpg", &["empty.jpg", "empty"]),
        ("cut.png", &["cut.png"]),
        ("text.jpg", &["text.jpg"]),
        ("huge.png", &["huge.png", "30000", "100"]),
        (".", &["."]),
    ] {
        let output = bench.run(&["segment", name, "--checkpoint", &model, "--point", "1,1"]);
        assert_fails(&output, 1, words);
    }
    let limited = bench.segment(&["--point", "1,1", "--max-pixels", "6000"]);
    assert_fails(&limited, 1, &["photo.png", "96x64", "max_pixels"]);
    assert!(!bench.files().iter().any(|name| name.contains("overlay")));
}

#[test]
fn prompts() {
    let bench = Bench::new();
    for (args, words) in [
        (&[][..], &["no prompt", "--point"][..]),
        (&["--point", "96,10"], &["point 96,10", "96×64"]),
        (&["--point", "-1,10"], &["point -1,10", "outside"]),
        (&["--point", "10"], &["--point", "'10'"]),
        (
            &["--point", "5,5", "-7"],
            &["unexpected argument '-7' found; coordinates are one argument"],
        ),
        (&["--point", "10,10,7"], &["--point", "label"]),
        (
            &["--box", "10,10,10,40"],
            &["--box", "10,10,10,40", "no area"],
        ),
        (
            &["--box", "200,200,300,300"],
            &["box 200,200,300,300", "outside"],
        ),
        (&["--box", "1,2,3"], &["--box", "'1,2,3'"]),
        (
            &["--box", "1,2,3,4", "--box", "5,6,7,8", "--point", "1,1"],
            &["--point", "one --box"],
        ),
        (
            &["--point", "5,5", "--select", "bets"],
            &["--select", "bets"],
        ),
        (
            &["--point", "5,5", "--select", "area=3"],
            &["--select", "area=3"],
        ),
        (
            &["--point", "5,5", "--zoom", "1"],
            &["--zoom", "more than 1"],
        ),
        (
            &["--point", "5,5", "--zoom", "near"],
            &["--zoom", "off, auto or a factor"],
        ),
        (&["--point", "5,5", "--page", "-1"], &["'-1'", "--page"]),
        (
            &["--point", "5,5", "--stretch", "-1,50"],
            &["--stretch", "two percentiles"],
        ),
        (&["--point", "1e300,5"], &["point 1e300,5 lies outside"]),
        (
            &["--point", "5,5", "--device", "abacus"],
            &["--device", "abacus"],
        ),
        (
            &["--point", "5,5", "--model", "sam-vit-b"],
            &["--model", "--checkpoint"],
        ),
    ] {
        assert_fails(&bench.segment(args), 2, words);
    }
    assert_eq!(bench.files(), ["photo.png"]);
}

#[test]
fn swapped_corners_are_put_in_order() {
    let bench = Bench::new();
    let swapped = bench.json(&["--box", "60,50,10,5"]);
    let ordered = bench.json(&["--box", "10,5,60,50"]);
    assert_eq!(
        swapped["objects"][0]["candidates"],
        ordered["objects"][0]["candidates"]
    );
}

#[test]
fn models() {
    let bench = Bench::new();
    let with = |args: &[&str]| {
        let all = [&["segment", "photo.png", "--point", "5,5"], args].concat();
        bench.run(&all)
    };
    let default = with(&[]);
    assert!(default.status.success(), "lite is part of the program");
    assert_fails(
        &with(&["--model", "sam-vitb"]),
        2,
        &["sam-vitb", "sam-vit-b?"],
    );
    assert_fails(
        &with(&["--model", "mobile-sam"]),
        1,
        &["samara models download mobile-sam"],
    );
    assert_fails(
        &with(&["--model", "sam2-tiny"]),
        1,
        &["samara models download sam2-tiny"],
    );

    let checkpoint = std::fs::read(model()).unwrap();
    bench.write("empty.pth", b"");
    bench.write("cut.pth", &checkpoint[..checkpoint.len() / 2]);
    bench.write(
        "photo.pth",
        &std::fs::read(bench.path("photo.png")).unwrap(),
    );
    for name in ["missing.pth", "empty.pth", "cut.pth", "photo.pth", "."] {
        assert_fails(&with(&["--checkpoint", name]), 1, &[name]);
    }
    let part = common::golden("sam_vit_f16.pth");
    assert_fails(&with(&["--checkpoint", &part]), 1, &["sam_vit_f16.pth"]);
}

#[cfg(not(feature = "wgpu"))]
#[test]
fn a_device_that_is_not_built_in() {
    let output = Bench::new().segment(&["--point", "5,5", "--device", "wgpu"]);
    assert_fails(&output, 1, &["wgpu", "--features wgpu"]);
}

#[test]
fn outputs_that_cannot_be_written() {
    let bench = Bench::new();
    bench.write("file", b"");
    for (args, words) in [
        (
            &["--out", "nowhere/a.png"][..],
            &["--out", "nowhere/a.png"][..],
        ),
        (&["--json", "nowhere/a.json"], &["--json", "nowhere/a.json"]),
        (&["--raw", "nowhere/a.safetensors"], &["--raw", "nowhere"]),
        (
            &["--save-embedding", "nowhere/a"],
            &["--save-embedding", "nowhere"],
        ),
        (&["--out", "file/a.png"], &["file/a.png"]),
        (&["--out", "file"], &["--out file", "not a folder"]),
        (
            &["--out", "file/deep/er/"],
            &["file/deep/er/", "not a folder"],
        ),
    ] {
        let output = bench.segment(&[&["--point", "5,5"], args].concat());
        assert_fails(&output, 1, words);
    }
    // A folder is not made for work that fails.
    let output = bench.segment(&["--point", "500,5", "--out", "result/"]);
    assert_fails(&output, 2, &["point 500,5"]);
    assert_eq!(bench.files(), ["file", "photo.png"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let bench = Bench::new();
    for flag in ["--json", "--raw", "--save-embedding"] {
        let output = bench.segment(&["--point", "5,5", flag, "/dev/full"]);
        assert_fails(&output, 1, &["/dev/full", "space"]);
    }
    // A folder that nobody can write to, not even root.
    let output = bench.segment(&["--point", "5,5", "--out", "/proc/a.png"]);
    assert_fails(&output, 1, &["/proc/a.png"]);
}

#[test]
fn weights_and_answers_that_are_no_numbers() {
    let bench = Bench::new().with_data(&["val"], &[(1, &[10, 10, 50, 10, 50, 40])]);
    let output = bench.run(&["models", "convert", &model(), "nan.safetensors"]);
    assert!(output.status.success());
    let mut bytes = std::fs::read(bench.path("nan.safetensors")).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    bench.write("nan.safetensors", &bytes);
    let before = bench.files();
    for args in [
        &["segment", "photo.png", "--point", "4,3"][..],
        &["everything", "photo.png", "--out", "out"],
        &["eval", "data"],
        &["levels", "data", "--out", "data/levels.json"],
        &["quality", "data"],
        &[
            "video",
            "data/images",
            "--prompt",
            "0:1:4,3",
            "--format=masks",
            "--out",
            "out",
        ],
    ] {
        let output = bench.run(&[args, &["--checkpoint", "nan.safetensors"]].concat());
        assert_fails(&output, 1, &["nan.safetensors", "key ", "NaN or infinite"]);
        let _ = std::fs::remove_dir(bench.path("out"));
        assert_eq!(bench.files(), before, "{args:?}");
    }
    let output = bench.run(&["models", "convert", "nan.safetensors", "again.safetensors"]);
    assert_fails(&output, 1, &["nan.safetensors", "key ", "NaN or infinite"]);
    assert_eq!(bench.files(), before);

    // Numbers, but too large to compute with.
    bench.write(
        "huge.npy",
        &common::npy("<f4", &[32, 32], &3e38_f32.to_le_bytes().repeat(1024)),
    );
    let output = bench.segment(&["--mask", "huge.npy", "--json", "out.json"]);
    assert_fails(&output, 1, &["of the model's answer is NaN or infinite"]);
    assert!(!bench.path("out.json").exists());
}

#[test]
fn a_box_ends_somewhere() {
    let bench = Bench::new();
    let output = bench.segment(&["--box", "0,0,1e300,10"]);
    assert_fails(&output, 2, &["box"]);
}

/// A pipe would be waited for, a device has no end.
#[test]
#[cfg(unix)]
fn inputs_are_regular_files() {
    let bench = Bench::new();
    bench.write("boxes.json", br#"[{"box": [1, 2, 30, 40]}]"#);
    common::disc().save_png(bench.path("mask.png")).unwrap();
    std::fs::create_dir(bench.path("frames")).unwrap();
    std::fs::copy(bench.path("photo.png"), bench.path("frames/0.png")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(bench.path("pipe"))
        .status();
    assert!(made.unwrap().success());
    let own = model();
    for file in ["pipe", "/dev/zero"] {
        for line in [
            "segment FILE --point 4,3",
            "segment photo.png --mask FILE",
            "segment photo.png --point 4,3 --select oracle=FILE",
            "segment photo.png --point 4,3 --embedding FILE",
            "segment photo.png --prompts FILE",
            "everything FILE --out out",
            "everything photo.png --point-grids FILE --out out",
            "attention photo.png FILE",
            "quality photo.png --mask FILE",
            "quality photo.png --mask mask.png --head FILE",
            "video FILE --prompt 0:1:4,3 --out out",
            "video frames --prompts FILE --out out",
            "video frames --masks 0:FILE --out out",
            "train FILE --out out",
            "models info FILE",
            "models convert FILE out.safetensors",
        ] {
            let line = line.replace("FILE", file);
            let mut args: Vec<&str> = line.split(' ').collect();
            if !["train", "models"].contains(&args[0]) {
                args.extend(["--checkpoint", &own]);
            }
            let output = bench.run(&args);
            assert!([1, 2].contains(&output.status.code().unwrap()), "{line}");
            let told = stderr(&output);
            assert!(
                told.contains(file) && told.lines().count() == 1,
                "{line}: {told}"
            );
            assert!(!bench.path("out").exists(), "{line}");
        }
    }
}
