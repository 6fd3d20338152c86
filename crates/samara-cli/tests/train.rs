//! `samara train`: a run that is killed resumes as if nothing had happened, and recipes that cannot
//! be run are refused in one line.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Bench, assert_fails, golden, stderr, stdout};
use serde_json::Value;

const RECIPE: &str = "seed = 3
ema = 0.9
checkpoint_every = 4
[model]
random = 'tiny.safetensors'
[[data]]
path = 'data'
split = 'train'
[prompts]
recipe = 'sam'
[losses]
weights = { focal = 20.0, dice = 1.0, iou = 1.0, object_score = 0.0 }
iou = { kind = 'l1', supervise_all = true }
[optimizer]
lr = 0.001
warmup = 4
clip_norm = 1.0
[[stages]]
steps = 12
masks_per_image = 2
rounds = [1, 2]
freeze = ['image_encoder.']
[[stages]]
steps = 12
images_per_step = 2
masks_per_image = 2
rounds = [1, 2]
[validation]
examples = 2
every = 5
[[validation.data]]
path = 'data'
";

/// A folder with a COCO data set `data` and `recipe.toml`.
fn bench() -> Bench {
    let objects: [(_, &[_]); 3] = [
        (1, &[30, 12, 66, 12, 66, 52, 30, 52]),
        (1, &[5, 5, 25, 5, 25, 30, 5, 30]),
        (2, &[20, 20, 80, 20, 50, 60]),
    ];
    let bench = Bench::new().with_data(&["train", "train"], &objects);
    bench.write("recipe.toml", RECIPE.as_bytes());
    bench.tiny_model();
    bench
}

fn train(bench: &Bench, out: &str) -> std::process::Output {
    bench.run(&["train", "recipe.toml", "--out", out])
}

fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(run) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("checkpoint-")
        })
        .collect()
}

/// The tensors of a file as bytes.
fn weights(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file
        .iter()
        .map(|(key, view)| (key.to_owned(), view.data().to_vec()));
    tensors.collect()
}

/// Lines of the log without the time that a step took.
fn log(run: &Path) -> Vec<Value> {
    let log = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
    let lines = log.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("seconds");
        line
    });
    lines.collect()
}

#[test]
fn a_killed_run_ends_as_one_that_was_not() {
    let bench = bench();
    let output = train(&bench, "whole");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).ends_with("model.safetensors\n"));

    let start = |out: &str| {
        Command::new(env!("CARGO_BIN_EXE_samara"))
            .current_dir(bench.folder.path())
            .args(["train", "recipe.toml", "--out", out])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    // Wherever it may be, the last times perhaps done.
    for delay in [3, 20, 45, 70, 100, 140, 190, 250] {
        let mut child = start("anywhere");
        sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // Killed after the first checkpoint, and again at another moment.
    for delay in [0, 150] {
        let mut child = start("killed");
        let began = Instant::now();
        while checkpoints(&bench.path("killed")).is_empty() {
            assert!(began.elapsed() < Duration::from_mins(1), "no checkpoint");
            sleep(Duration::from_millis(5));
        }
        sleep(Duration::from_millis(delay));
        // The signal that cannot be caught.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            !bench.path("killed/model.safetensors").exists(),
            "it was too late"
        );
    }
    let weights = |run: &str| weights(&bench.path(run).join("model.safetensors"));
    for out in ["killed", "anywhere"] {
        let output = train(&bench, out);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(weights(out) == weights("whole"), "other weights");
        assert_eq!(log(&bench.path(out)), log(&bench.path("whole")));
        let names = std::fs::read_dir(bench.path(out)).unwrap();
        let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.all(|name| !name.starts_with('.')), "{out}");
    }
    let lines = log(&bench.path("killed"));
    let steps = lines.iter().filter(|line| line.get("validation").is_none());
    let steps = steps.map(|line| line["step"].as_u64().unwrap());
    assert!(steps.eq(1..=24));
    assert!(bench.path("killed/curves.svg").exists());
    assert_eq!(checkpoints(&bench.path("killed")).len(), 2);
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let bench = bench();
    let output = train(&bench, "whole");
    assert!(output.status.success(), "{}", stderr(&output));
    let output = train(&bench, "run");
    assert!(output.status.success(), "{}", stderr(&output));
    let expected = weights(&bench.path("whole/model.safetensors"));
    let at = |name: &str| bench.path("run").join(name);
    for (step, file) in [(24, "weights"), (24, "average"), (24, "optimizer")] {
        std::fs::remove_file(at("model.safetensors")).unwrap();
        let newest = at(&format!("checkpoint-{step:08}"));
        let files = std::fs::read_dir(&newest).unwrap();
        let mut paths = files.map(|entry| entry.unwrap().path());
        let path = paths
            .find(|path| path.file_stem().unwrap() == file)
            .unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        match file {
            "weights" => bytes[middle] ^= 1,
            "average" => bytes.truncate(middle),
            _ => bytes.fill(0),
        }
        std::fs::write(&path, bytes).unwrap();
        // What a killed run leaves behind.
        std::fs::write(at(".samara-1.tmp"), "half").unwrap();
        std::fs::create_dir(at(".samara-2.tmp")).unwrap();
        std::fs::write(at(".samara-2.tmp/weights.safetensors"), "half").unwrap();

        let output = train(&bench, "run");
        assert!(output.status.success(), "{}", stderr(&output));
        let told = stderr(&output);
        let note: Vec<&str> = told
            .lines()
            .filter(|line| line.contains("damaged"))
            .collect();
        assert_eq!(note.len(), 1, "{told}");
        for word in ["checkpoint-00000024", file, "resumes after step 20"] {
            assert!(note[0].contains(word), "{told}");
        }
        assert!(
            weights(&at("model.safetensors")) == expected,
            "other weights"
        );
        assert_eq!(log(&bench.path("run")), log(&bench.path("whole")));
        assert!(!at(".samara-1.tmp").exists() && !at(".samara-2.tmp").exists());
        assert_eq!(checkpoints(&bench.path("run")).len(), 2);
    }
    for checkpoint in checkpoints(&bench.path("run")) {
        std::fs::write(checkpoint.join("optimizer.bin"), "").unwrap();
    }
    let words = [
        "run: ",
        "no checkpoint of this run is whole",
        "optimizer.bin",
    ];
    assert_fails(&train(&bench, "run"), 1, &words);
    assert_eq!(
        checkpoints(&bench.path("run")).len(),
        2,
        "nothing is removed"
    );
}

#[cfg(unix)]
#[test]
fn a_run_is_interrupted_within_a_step() {
    let bench = bench();
    let long = RECIPE.replace("images_per_step = 2", "images_per_step = 4000");
    let long = long.replacen("steps = 12", "steps = 1", 1);
    bench.write("recipe.toml", long.as_bytes());
    let child = Command::new(env!("CARGO_BIN_EXE_samara"))
        .current_dir(bench.folder.path())
        .args(["train", "recipe.toml", "--out", "run"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !std::fs::read_to_string(bench.path("run/log.jsonl")).is_ok_and(|log| !log.is_empty()) {
        assert!(began.elapsed() < Duration::from_mins(1), "no step");
        sleep(Duration::from_millis(5));
    }
    // It is in the step of many images now.
    sleep(Duration::from_millis(300));
    // A shell may have its background jobs ignore SIGINT.
    let kill = format!("kill -TERM {}", child.id());
    Command::new("sh").args(["-c", &kill]).status().unwrap();
    let asked = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(output.status.code(), Some(143), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("stopped after step 1;"),
        "{}",
        stderr(&output)
    );
    let saved = checkpoints(&bench.path("run"));
    assert!(
        saved.len() == 1 && saved[0].ends_with("checkpoint-00000001"),
        "{saved:?}"
    );
}

#[test]
fn bad_recipes() {
    let bench = bench();
    let vit = golden("sam_vit.pth");
    let checkpoint = |path: &str| {
        RECIPE.replace(
            "random = 'tiny.safetensors'",
            &format!("checkpoint = '{path}'"),
        )
    };
    for (text, words) in [
        (RECIPE.replace("seed", "sead"), &["line 1", "sead"][..]),
        (RECIPE.replace("seed = 3", "seed = "), &["line 1"]),
        (RECIPE.replace("rounds", "round"), &["round"]),
        (
            RECIPE.replace("path = 'data'", "path = 'nothing'"),
            &["data: ", "nothing"],
        ),
        (
            RECIPE.replace("split = 'train'", "split = 'val'"),
            &["data: ", "split 'val'", "train (2)"],
        ),
        (
            RECIPE.replace("lr = 0.001", "lr = 0.0"),
            &["optimizer.lr = 0 "],
        ),
        (
            RECIPE.replacen("steps = 12", "steps = 9223372036854775807", 1),
            &["stages[0].steps = 9223372036854775807", "100000000"],
        ),
        (
            RECIPE.replace("images_per_step = 2", "images_per_step = 999999999"),
            &["stages[1].images_per_step = 999999999", "4096"],
        ),
        (
            format!("workers = 9999\n{RECIPE}"),
            &["workers = 9999", "cores"],
        ),
        (
            RECIPE.replace("random = 'tiny.safetensors'", "random = 'none.pth'"),
            &["model.random: ", "none.pth", "No such file"],
        ),
        (
            checkpoint("none.pth"),
            &["model.checkpoint: ", "none.pth", "No such file"],
        ),
        (
            checkpoint("data/annotations.json"),
            &["model.checkpoint: ", "annotations.json"],
        ),
        (
            checkpoint(&vit).replace("'image_encoder.'", "'trunk.'"),
            &["stages[0].freeze: 'trunk.'", "image_encoder."],
        ),
    ] {
        bench.write("recipe.toml", text.as_bytes());
        let output = train(&bench, "run");
        let mut all = vec!["recipe.toml"];
        all.extend(words);
        assert_fails(&output, 1, &all);
        assert!(!bench.path("run").exists(), "{words:?}");
    }
    let output = bench.run(&["train", "none.toml"]);
    assert_fails(&output, 1, &["none.toml", "no such file"]);
}

#[test]
fn another_recipe_in_the_folder() {
    let bench = bench();
    let short = RECIPE.replace("steps = 12", "steps = 1");
    bench.write("recipe.toml", short.as_bytes());
    let output = train(&bench, "run");
    assert!(output.status.success(), "{}", stderr(&output));
    let log = std::fs::read(bench.path("run/log.jsonl")).unwrap();
    bench.write(
        "recipe.toml",
        short.replace("lr = 0.001", "lr = 0.002").as_bytes(),
    );
    assert_fails(
        &train(&bench, "run"),
        1,
        &["run: ", "another recipe", "optimizer.lr"],
    );
    assert_eq!(std::fs::read(bench.path("run/log.jsonl")).unwrap(), log);

    // The same one, from another working folder.
    bench.write("recipe.toml", short.as_bytes());
    let output = bench.run_in("data", &["train", "../recipe.toml", "--out", "../run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(std::fs::read(bench.path("run/log.jsonl")).unwrap(), log);
}

#[test]
fn the_recipe_in_the_help_can_be_read() {
    let bench = bench();
    let help = stdout(&bench.run(&["train", "--help"]));
    let (_, recipe) = help.split_once("cells.toml, which").unwrap();
    let (recipe, head) = recipe
        .split_once("To train the IoU head only, add before [losses]:")
        .unwrap();
    let (_, recipe) = recipe.split_once('\n').unwrap();
    bench.write("cells.toml", format!("{head}{recipe}").as_bytes());
    let output = bench.run(&["train", "cells.toml"]);
    // It is the data set that is missing.
    assert_fails(&output, 1, &["cells.toml", "data: ", "cells"]);
}
