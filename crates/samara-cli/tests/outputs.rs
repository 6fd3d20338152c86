//! No output destroys an input, another output or a promise of its name; all that before any work.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Bench, assert_fails, model};

/// All files below a folder with their bytes.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

const IMAGE: &str = "this is the input image";
const AMONG: &str = "the results would lie among the images of frames";

/// Commands and why they are refused.
const OF_DATA: &str = "noext of the data set; write to another place";
const CASES: &[(&str, &str)] = &[
    ("segment photo.png --point 4,3 --out photo.png", IMAGE),
    (
        "segment photo.png --point 4,3 --out ./frames/../photo.png",
        IMAGE,
    ),
    ("segment photo.png --point 4,3 --out-mask photo.png", IMAGE),
    (
        "segment photo.png --mask mask.png --out-mask mask.png",
        "this is the mask of --mask",
    ),
    (
        "segment photo.png --mask out/photo.mask.png --out out",
        "this is the mask of --mask",
    ),
    (
        "segment photo.png --point 4,3 --select oracle=mask.png --out mask.png",
        "the mask of --select",
    ),
    (
        "segment photo.png --point 4,3 --checkpoint own.safetensors --raw own.safetensors",
        "the checkpoint",
    ),
    (
        "segment photo.png --point 4,3 --checkpoint own.safetensors --save-embedding own.safetensors",
        "the checkpoint",
    ),
    (
        "segment photo.png --point 4,3 --out a.png --out-mask ./a.png",
        "--out writes there too",
    ),
    (
        "segment photo.png --point 4,3 --out out --json out/photo.json",
        "--json writes there too",
    ),
    ("quality photo.png --mask mask.png --out photo.png", IMAGE),
    (
        "quality photo.png --mask mask.png --out-mask mask.png",
        "this is the mask of --mask",
    ),
    (
        "attention photo.png map.png --out map.png",
        "this is the attention map",
    ),
    (
        "eval data --json data/annotations.json",
        "the annotations of a data set",
    ),
    (
        "eval data --checkpoint own.safetensors --calibrate own.safetensors",
        "the checkpoint",
    ),
    (
        "quality data --drop 0.1 --keep data/annotations.json",
        "the annotations of a data set",
    ),
    (
        "quality data --json data/./annotations.json",
        "the annotations of a data set",
    ),
    (
        "levels data --out data/annotations.json",
        "the annotations of a data set",
    ),
    (
        "models convert own.safetensors ./own.safetensors",
        "the checkpoint that is read",
    ),
    ("eval data --json data/images/noext", OF_DATA),
    ("eval data --report data/images/noext", OF_DATA),
    ("quality data --json data/images/noext", OF_DATA),
    ("quality data --drop 0.1 --keep data/images/noext", OF_DATA),
    ("levels data --out data/images/noext", OF_DATA),
    ("everything frames --out frames", AMONG),
    ("everything frames data --out .", AMONG),
    (
        "everything photo.png photo.png.overlay.png --format overlay --out .",
        "this is an input image",
    ),
    (
        "video frames --prompt 0:1:4,3 --out frames",
        "this is the video",
    ),
    (
        "video frames --prompt 0:1:4,3 --out frames/deep/..",
        "this is the video",
    ),
    (
        "video frames --prompts prompts.json --out prompts.json",
        "this is the prompts of --prompts",
    ),
];

/// The same through links.
#[cfg(unix)]
const THROUGH_LINKS: &[(&str, &str)] = &[
    ("segment photo.png --point 4,3 --out link.png", IMAGE),
    ("segment photo.png --point 4,3 --out-mask hard.png", IMAGE),
    ("everything frames --out link", AMONG),
    (
        "video frames --prompt 0:1:4,3 --out link",
        "this is the video",
    ),
];
#[cfg(not(unix))]
const THROUGH_LINKS: &[(&str, &str)] = &[];

#[test]
fn inputs_stay_as_they_are() {
    let bench = Bench::new().with_data(&["val"], &[(1, &[10, 10, 50, 10, 50, 40])]);
    for name in ["mask.png", "map.png", "hard.png"] {
        fs::copy(bench.path("photo.png"), bench.path(name)).unwrap();
    }
    for name in [
        "photo.json",
        "own.safetensors",
        "points.json",
        "prompts.json",
    ] {
        let from = if name.ends_with("json") {
            "data/annotations.json".into()
        } else {
            bench.path(&model())
        };
        fs::copy(bench.path("").join(from), bench.path(name)).unwrap();
    }
    // An image whose name promises nothing.
    fs::rename(
        bench.path("data/images/1.png"),
        bench.path("data/images/noext"),
    )
    .unwrap();
    let annotations = fs::read_to_string(bench.path("data/annotations.json")).unwrap();
    let annotations = annotations.replace("1.png", "noext");
    fs::write(bench.path("data/annotations.json"), annotations).unwrap();
    fs::create_dir_all(bench.path("frames/deep")).unwrap();
    fs::create_dir_all(bench.path("out")).unwrap();
    for name in [
        "frames/0.png",
        "frames/1.png",
        "out/photo.mask.png",
        "photo.png.overlay.png",
    ] {
        fs::copy(bench.path("photo.png"), bench.path(name)).unwrap();
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("photo.png", bench.path("link.png")).unwrap();
        std::os::unix::fs::symlink("frames", bench.path("link")).unwrap();
        fs::remove_file(bench.path("hard.png")).unwrap();
        fs::hard_link(bench.path("photo.png"), bench.path("hard.png")).unwrap();
    }
    let before = contents(bench.folder.path());
    let absolute = format!(
        "segment photo.png --point 4,3 --out {}",
        bench.path("photo.png").display()
    );
    let cases = [CASES, THROUGH_LINKS, &[(&absolute, IMAGE)]].concat();
    for (line, words) in cases {
        let args: Vec<&str> = line.split(' ').collect();
        assert_fails(&bench.run(&args), 2, &[words]);
        assert!(contents(bench.folder.path()) == before, "{line}");
    }
}

#[test]
fn a_name_is_not_given_to_another_format() {
    let bench = Bench::new();
    let before = bench.files();
    for (args, words) in [
        (
            ["--out-mask", "m.npy"],
            "a mask is written as .png, not .npy",
        ),
        (
            ["--out-mask", "m.jpg"],
            "a mask is written as .png, not .jpg",
        ),
        (
            ["--out-mask", "-"],
            "a mask is not written to the standard output",
        ),
        (
            ["--out", "-"],
            "a folder is not written to the standard output",
        ),
        (
            ["--out", "m.tif"],
            "an image is written as .png, .jpg, .jpeg, not .tif",
        ),
        (["--json", "m.png"], "JSON is written as .json, not .png"),
        (
            ["--raw", "m.npz"],
            "a file of tensors is written as .safetensors, not .npz",
        ),
        (
            ["--save-embedding", "m.json"],
            "an embedding is written as .emb, .safetensors, not .json",
        ),
    ] {
        let output = bench.segment(&[&["--point", "40,30"], &args[..]].concat());
        assert_fails(&output, 2, &[args[0], args[1], words]);
        assert_eq!(bench.files(), before);
    }
}

/// Results that are links to images are replaced: the images stay.
#[test]
#[cfg(unix)]
fn links_in_the_folder_of_results_are_not_followed() {
    use std::os::unix::fs::symlink;

    let bench = Bench::new();
    fs::create_dir_all(bench.path("images")).unwrap();
    fs::create_dir_all(bench.path("out/photo.png.masks")).unwrap();
    fs::create_dir_all(bench.path("other")).unwrap();
    fs::copy(bench.path("photo.png"), bench.path("images/photo.png")).unwrap();
    let image = fs::read(bench.path("photo.png")).unwrap();
    let links = [
        "photo.png.overlay.png",
        "photo.png.json",
        "annotations.json",
        "photo.overlay.png",
        "photo.json",
        "photo.mask.png",
        "masks",
        "session.safetensors",
        "masklets.json",
    ];
    for name in links {
        bench.write(&format!("other/{name}"), &image);
        symlink(
            format!("../other/{name}"),
            bench.path(&format!("out/{name}")),
        )
        .unwrap();
    }
    let model = model();
    for line in [
        "everything images --out out --points-per-side 2 --format json,overlay,masks,coco --overwrite",
        "everything photo.png --out out --points-per-side 2 --format json,overlay,masks,coco --overwrite",
        "segment photo.png --point 4,3 --out out --overwrite",
        "video images --prompt 0:1:4,3 --out out --format masks,json --overwrite",
    ] {
        let mut args: Vec<&str> = line.split(' ').collect();
        args.extend(["--checkpoint", &model]);
        let output = bench.run(&args);
        assert!(output.status.success(), "{line}: {output:?}");
    }
    for name in links {
        assert!(!bench.path(&format!("out/{name}")).is_symlink(), "{name}");
        let other = bench.path(&format!("other/{name}"));
        assert_eq!(fs::read(other).unwrap(), image, "{name}");
    }
    fs::create_dir(bench.path("images/deep")).unwrap();
    fs::copy(bench.path("photo.png"), bench.path("images/deep/a.png")).unwrap();
    symlink("../images", bench.path("out/deep")).unwrap();
    let args = [
        "everything",
        "images",
        "--out",
        "out",
        "--overwrite",
        "--points-per-side",
        "2",
        "--checkpoint",
        &model,
    ];
    let output = bench.run(&args);
    assert_eq!(output.status.code(), Some(1));
    let told = common::stderr(&output);
    assert!(
        told.contains("out/deep: leads out of the folder of the results"),
        "{told}"
    );
    assert_eq!(fs::read(bench.path("images/photo.png")).unwrap(), image);
}

#[test]
fn what_no_run_has_written_is_not_replaced() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("images")).unwrap();
    fs::create_dir_all(bench.path("out")).unwrap();
    fs::create_dir_all(bench.path("set")).unwrap();
    fs::copy(bench.path("photo.png"), bench.path("images/photo.png")).unwrap();
    bench.write("out/photo.png.json", b"of somebody else");
    let model = model();
    let args = [
        "everything",
        "images",
        "--out",
        "out",
        "--points-per-side",
        "2",
        "--checkpoint",
        &model,
    ];
    let why = "out/photo.png.json: is there already; --overwrite replaces it";
    assert_fails(&bench.run(&args), 1, &[why]);
    // Without a run there is nothing to resume either.
    let resumed = bench.run(&[&args[..], &["--resume"]].concat());
    assert_fails(&resumed, 1, &[why]);
    assert_eq!(
        fs::read(bench.path("out/photo.png.json")).unwrap(),
        b"of somebody else"
    );
    assert!(!bench.path("out/manifest.jsonl").exists());
    // The annotations of a data set above all, and those of one image as of many.
    for name in ["annotations.json", "photo.json"] {
        bench.write(&format!("set/{name}"), b"of somebody else");
    }
    for line in [
        "everything images --out set --points-per-side 2 --format coco",
        "everything photo.png --out set --points-per-side 2 --format coco",
        "segment photo.png --point 4,3 --out set --format coco",
        "segment photo.png --point 4,3 --out set --format json",
    ] {
        let mut args: Vec<&str> = line.split(' ').collect();
        args.extend(["--checkpoint", &model]);
        let why = "is there already; --overwrite replaces it";
        assert_fails(&bench.run(&args), 1, &["set/", why]);
    }
    for name in ["annotations.json", "photo.json"] {
        let kept = fs::read(bench.path(&format!("set/{name}"))).unwrap();
        assert_eq!(kept, b"of somebody else");
    }
    assert!(
        bench
            .run(&[&args[..], &["--overwrite"]].concat())
            .status
            .success()
    );
}

/// Masks that a video begins with lie where those of its frames would be written.
#[test]
fn a_video_keeps_what_it_reads_and_what_no_run_has_written() {
    let bench = Bench::new();
    for folder in ["set/frames", "set/masks", "other/masks"] {
        fs::create_dir_all(bench.path(folder)).unwrap();
    }
    fs::copy(bench.path("photo.png"), bench.path("set/frames/0.png")).unwrap();
    common::disc()
        .save_png(bench.path("set/masks/0.png"))
        .unwrap();
    bench.write("other/masks/9.png", b"of somebody else");
    let model = model();
    let video = |rest: &str| {
        let line = format!("video set/frames --format masks --checkpoint {model} {rest}");
        bench.run(&line.split(' ').collect::<Vec<_>>())
    };
    let before = contents(bench.folder.path());
    let masks = "set/masks: holds the mask of --masks; write to another place";
    assert_fails(&video("--masks 0:1:set/masks/0.png --out set"), 2, &[masks]);
    let there = "other/masks: is there already; --overwrite replaces it";
    for more in ["", " --resume"] {
        let line = format!("--prompt 0:1:40,30 --out other{more}");
        assert_fails(&video(&line), 1, &[there]);
    }
    assert!(contents(bench.folder.path()) == before);
}
