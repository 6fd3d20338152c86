//! Running the binary in a folder of its own.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;
use samara::Mask;
use samara_image::{RgbImage, save_png};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with a small photo in it.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        save_png(folder.path().join("photo.png"), &photo(96, 64, 0)).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds `tiny.safetensors`, a MobileSAM of 68 000 values for images of 64 pixels.
    pub(crate) fn tiny_model(&self) {
        let from = golden("mobile_sam.pth");
        let to = ["tiny.safetensors", "--input-side", "64"];
        let output = self.run(&[&["models", "convert", &from], &to[..]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Adds a COCO folder `data`. `splits` are those of the images 1, 2 and so on; an object is
    /// the number of its image and a polygon.
    pub(crate) fn with_data(self, splits: &[&str], objects: &[(u32, &[u32])]) -> Self {
        fs::create_dir_all(self.path("data/images")).unwrap();
        let image = |(id, split): (u32, &&str)| {
            let name = format!("{id}.png");
            save_png(self.path("data/images").join(&name), &photo(96, 64, id)).unwrap();
            json!({"id": id, "file_name": name, "width": 96, "height": 64, "split": split})
        };
        let object = |(id, (image, polygon)): (u32, &(u32, &[u32]))| json!({"id": id, "image_id": image, "category_id": 1, "segmentation": [polygon]});
        let annotations = json!({
            "images": (1..).zip(splits).map(image).collect::<Vec<_>>(),
            "annotations": (1..).zip(objects).map(object).collect::<Vec<_>>(),
            "categories": [{"id": 1, "name": "thing"}],
        });
        self.write("data/annotations.json", annotations.to_string().as_bytes());
        self
    }

    /// Runs `samara` here, with its cache here too.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.run_in("", args)
    }

    /// As [`Bench::run`], in a folder inside.
    pub(crate) fn run_in(&self, folder: &str, args: &[&str]) -> Output {
        Command::cargo_bin("samara")
            .unwrap()
            .current_dir(self.path(folder))
            .env("SAMARA_HOME", self.path("home"))
            .env_remove("SAMARA_BASE_URL")
            .env("SAMARA_PRECISION", "fp32")
            .args(args)
            .output()
            .unwrap()
    }

    /// Runs `samara segment photo.png` with the test model.
    pub(crate) fn segment(&self, args: &[&str]) -> Output {
        let model = model();
        let mut all = vec!["segment", "photo.png", "--checkpoint", &model];
        all.extend(args);
        self.run(&all)
    }

    /// As [`Bench::segment`], giving the JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.extend(["--json", "-"]);
        let output = self.segment(&all);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// A client that is answered errors as they are.
pub(crate) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config
        .timeout_global(Some(Duration::from_mins(1)))
        .build()
        .into()
}

/// A small model with random weights; its input is 128×128.
pub(crate) fn model() -> String {
    golden("sam_vit.pth")
}

pub(crate) fn golden(name: &str) -> String {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("../samara-model/tests/golden");
    folder.join(name).to_str().unwrap().to_owned()
}

/// Some shapes and gradients.
pub(crate) fn photo(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let disc = (x.abs_diff(width / 2).pow(2) + y.abs_diff(height / 2).pow(2)) < 400;
        let red = if disc { 220 } else { (x * 2 + seed * 40) as u8 };
        [red, (y * 3) as u8, ((x + y) % 251) as u8].into()
    })
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The command failed with `status` and one line on stderr that holds every word of `words`; a slow machine tells of
/// progress before.
#[track_caller]
pub(crate) fn assert_fails(output: &Output, status: i32, words: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(status), "{text}");
    let is_progress = |line: &&str| line.starts_with("progress: ");
    let mut lines = text.lines().skip_while(is_progress);
    let (line, more) = (lines.next().unwrap_or_default(), lines.next());
    assert!(line.starts_with("error: ") && more.is_none(), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
    assert!(output.stdout.is_empty(), "{}", stdout(output));
}

/// A disc in the middle of the photo.
pub(crate) fn disc() -> Mask {
    Mask::from_fn(96, 64, |x, y| {
        x.abs_diff(48).pow(2) + y.abs_diff(32).pow(2) < 400
    })
}

/// A NumPy file, version 1.0, in C order.
pub(crate) fn npy(dtype: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let sides: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let sides = sides.join(",") + ",";
    let mut header =
        format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({sides}), }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// Runs a command of `samara` with the test model.
pub(crate) fn run(bench: &Bench, command: &str, args: &[&str]) -> Output {
    let model = model();
    let mut all = vec![command];
    all.extend(args);
    all.extend(["--checkpoint", &model]);
    bench.run(&all)
}

/// The JSON of `samara quality` with the test model.
pub(crate) fn json_of(bench: &Bench, args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.extend(["--json", "-"]);
    let output = run(bench, "quality", &all);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Options of `everything`: the random test model answers with masks whose scores mean nothing, so all are kept
/// that do not have the same box.
pub(crate) const KEEP: [&str; 6] = [
    "--points-per-side=4",
    "--pred-iou-thresh=0",
    "--stability-score-thresh=0",
    "--stability-score-offset=0.1",
    "--box-nms-thresh=0.98",
    "--crop-nms-thresh=0.98",
];

pub(crate) fn everything(bench: &Bench, args: &[&str]) -> Output {
    let model = model();
    let given = |flag: &str| args.iter().any(|arg| arg.starts_with(flag));
    let keep = KEEP.iter().copied().filter(|arg| {
        let (flag, _) = arg.split_once('=').unwrap();
        !given(flag)
    });
    let mut all = vec!["everything", "--checkpoint", &model];
    all.extend(keep);
    all.extend(args);
    bench.run(&all)
}

/// All files below a folder with their contents.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let inside = files(&path).into_iter();
            found.extend(inside.map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

/// A folder `photos` of small images, some of them in a folder inside.
pub(crate) fn with_photos(count: u32) -> Bench {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("photos/more")).unwrap();
    for i in 0..count {
        let folder = if i % 3 == 0 { "photos/more" } else { "photos" };
        let path = bench.path(folder).join(format!("{i:03}.png"));
        save_png(path, &photo(48 + i, 40, i)).unwrap();
    }
    bench
}
