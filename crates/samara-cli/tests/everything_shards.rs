//! `samara everything --shard` and `--merge`, through the binary: shards that are merged are one run.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Bench, KEEP, assert_fails, everything, files, model, photo, stderr, stdout, with_photos,
};
use samara_image::save_png;
use serde_json::Value;

const FORMATS: &str = "--format=json,coco,masks,labels";

/// Runs `samara everything photos` with further arguments, separated by spaces.
fn photos(bench: &Bench, line: &str) -> Output {
    let mut args = vec!["photos", FORMATS];
    args.extend(line.split(' '));
    everything(bench, &args)
}

#[track_caller]
fn succeeds(bench: &Bench, line: &str) -> String {
    let output = photos(bench, line);
    assert!(output.status.success(), "{line}: {}", stderr(&output));
    stdout(&output)
}

#[track_caller]
fn fails(bench: &Bench, line: &str, status: i32, words: &[&str]) {
    assert_fails(&photos(bench, line), status, words);
}

/// Starts a run and kills it as soon as `it_is_time`.
fn kill(bench: &Bench, line: &str, it_is_time: impl Fn() -> bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samara"));
    command
        .current_dir(bench.folder.path())
        .env("SAMARA_PRECISION", "fp32");
    command.args(["everything", "photos", FORMATS, "--checkpoint", &model()]);
    command.args(KEEP).args(line.split(' '));
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn().unwrap();
    while child.try_wait().unwrap().is_none() && !it_is_time() {
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[track_caller]
fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (files(a), files(b));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for (name, bytes) in &a {
        assert!(b[name] == *bytes, "{name}");
    }
}

/// Copies what is in a folder into another one.
fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// The images of a journal.
fn images(journal: &Path) -> Vec<String> {
    let text = fs::read_to_string(journal).unwrap();
    let line = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
    let lines = text.lines().skip(1).map(line);
    lines
        .map(|line| line["image"].as_str().unwrap().to_owned())
        .collect()
}

/// Two shards in `out` that are done.
fn two_shards(count: u32) -> Bench {
    let bench = with_photos(count);
    for shard in ["1/2", "2/2"] {
        succeeds(&bench, &format!("--out=out --shard={shard}"));
    }
    bench
}

/// The journal of one of two shards.
fn journal(bench: &Bench, index: u32) -> PathBuf {
    bench.path(&format!("out/manifest.shards/{index}-of-2.jsonl"))
}

#[test]
fn shards_that_are_merged_are_one_run() {
    let bench = with_photos(9);
    bench.write("photos/more/bad.png", b"no image");
    let whole = photos(&bench, "--out=whole");
    assert_eq!(whole.status.code(), Some(1), "{}", stderr(&whole));

    // All at once in one folder; the bad image fails in its shard and in no other.
    let failed: usize = thread::scope(|scope| {
        let run = |shard| photos(&bench, &format!("--out=shared --shard={shard}/3"));
        let runs = [1, 2, 3].map(|shard| scope.spawn(move || run(shard)));
        runs.into_iter()
            .map(|run| run.join().unwrap())
            .filter(|output| {
                let text = stderr(output);
                let is_bad = text.contains("more/bad.png: is not an image");
                assert_eq!(output.status.success(), !is_bad, "{text}");
                is_bad
            })
            .count()
    });
    assert_eq!(failed, 1);
    assert!(!bench.path("shared/annotations.json").exists());
    let shards = bench.path("shared/manifest.shards");
    let parts = [1, 2, 3].map(|i| images(&shards.join(format!("{i}-of-3.jsonl"))));
    assert!(parts.iter().all(|part| !part.is_empty()), "{parts:?}");
    let mut all = parts.concat();
    all.sort();
    let mut expected = images(&bench.path("whole/manifest.jsonl"));
    expected.sort();
    assert_eq!(all, expected);
    // Nothing but the journals stays of shards that have ended.
    assert_eq!(files(&shards).len(), 3);

    let merged = photos(&bench, "--out=shared --merge");
    assert_eq!(stdout(&merged), stdout(&whole).replace("whole", "shared"));
    assert_eq!(stderr(&merged), stderr(&whole));
    assert_same(&bench.path("whole"), &bench.path("shared"));

    // In folders of their own, which are copied into one.
    for shard in ["1", "2", "3"] {
        photos(&bench, &format!("--out=own{shard} --shard={shard}/3"));
        copy(&bench.path(&format!("own{shard}")), &bench.path("copied"));
    }
    photos(&bench, "--out=copied --merge");
    assert_same(&bench.path("whole"), &bench.path("copied"));
}

#[test]
fn a_shard_that_is_killed_goes_on_and_is_merged() {
    let bench = with_photos(36);
    succeeds(&bench, "--out=whole");
    let done = || fs::read_to_string(journal(&bench, 1)).map_or(0, |text| text.lines().count());
    kill(&bench, "--out=out --shard=1/2", || done() > 2);
    assert!(done() < 12, "killed when hardly anything was left");
    for before in [4, 6] {
        kill(&bench, "--out=out --shard=1/2 --resume", || done() > before);
    }
    succeeds(&bench, "--out=out --shard=2/2");
    succeeds(&bench, "--out=out --shard=1/2 --resume");
    // What another one writes is not cleared away by a shard, but by the merge.
    bench.write("out/.samara-of-another.tmp", b"half");
    let again = succeeds(&bench, "--out=out --shard=1/2 --resume");
    assert!(again.starts_with("0 images, 0 masks, "), "{again}");
    assert!(bench.path("out/.samara-of-another.tmp").exists());
    for wait in [20, 30, 40, 50, 60] {
        let start = Instant::now();
        let it_is_time = || start.elapsed() > Duration::from_millis(wait);
        kill(&bench, "--out=out --merge", it_is_time);
    }
    succeeds(&bench, "--out=out --merge");
    assert_same(&bench.path("whole"), &bench.path("out"));
}

/// The states in which a merge can be killed, made one by one.
#[test]
fn a_merge_that_is_killed_is_run_again() {
    let bench = two_shards(5);
    let before = files(&bench.path("out/manifest.shards"));
    let told = succeeds(&bench, "--out=out --merge");
    assert!(told.starts_with("5 images, "), "{told}");
    copy(&bench.path("out"), &bench.path("merged"));
    let states: [&[&str]; 3] = [
        &["manifest.jsonl", "annotations.json"],
        &["annotations.json"],
        &[],
    ];
    for missing in states {
        for name in missing {
            fs::remove_file(bench.path("out").join(name)).unwrap();
        }
        fs::create_dir_all(bench.path("out/manifest.shards")).unwrap();
        for (name, bytes) in &before {
            fs::write(bench.path("out/manifest.shards").join(name), bytes).unwrap();
        }
        assert_eq!(succeeds(&bench, "--out=out --merge"), told);
        assert_same(&bench.path("merged"), &bench.path("out"));
    }
    fs::create_dir(bench.path("out/.samara-shards.tmp")).unwrap();
    assert_eq!(succeeds(&bench, "--out=out --merge"), told);
    assert_same(&bench.path("merged"), &bench.path("out"));
}

#[test]
fn images_that_come_later_move_no_others() {
    let bench = two_shards(4);
    let before = [1, 2].map(|i| images(&journal(&bench, i)));
    for i in 4..9 {
        save_png(
            bench.path(&format!("photos/{i:03}.png")),
            &photo(48 + i, 40, i),
        )
        .unwrap();
    }
    // What one shard has not seen is missed when they are merged.
    succeeds(&bench, "--out=out --shard=1/2 --resume");
    let words = ["of shard 2/2", "--shard 2/2 --resume instead of --merge"];
    fails(&bench, "--out=out --merge", 1, &words);
    succeeds(&bench, "--out=out --shard=2/2 --resume");
    for (i, before) in [1, 2].into_iter().zip(&before) {
        assert_eq!(images(&journal(&bench, i))[..before.len()], before[..]);
    }
    succeeds(&bench, "--out=out --merge");
    succeeds(&bench, "--out=whole");
    assert_same(&bench.path("whole"), &bench.path("out"));

    // Shards go on where a merge, or a run on one machine, has ended.
    for i in 9..14 {
        save_png(
            bench.path(&format!("photos/{i:03}.png")),
            &photo(48 + i, 40, i),
        )
        .unwrap();
    }
    fails(
        &bench,
        "--out=out --shard=1/2",
        1,
        &["out/manifest.jsonl", "--resume"],
    );
    fails(
        &bench,
        "--out=out --shard=1/2 --overwrite",
        1,
        &["out/manifest.jsonl"],
    );
    for shard in ["1/2", "2/2"] {
        let told = succeeds(&bench, &format!("--out=out --shard={shard} --resume"));
        assert!(told.contains(" done before"), "{told}");
    }
    let merged = succeeds(&bench, "--out=out --merge");
    assert!(merged.starts_with("14 images, "), "{merged}");
    succeeds(&bench, "--out=fresh");
    assert_same(&bench.path("fresh"), &bench.path("out"));

    // An image that is gone keeps its masks, as in a run on one machine.
    fs::remove_file(bench.path("photos/001.png")).unwrap();
    succeeds(&bench, "--out=out --merge");
    let mut kept = images(&bench.path("out/manifest.jsonl"));
    assert_eq!(kept.pop().unwrap(), "001.png");
    assert_eq!(kept.len(), 13);
}

#[test]
fn a_shard_is_one_of_so_many() {
    let bench = with_photos(2);
    for text in ["0/4", "5/4", "1/0", "a/b", "1", "1/4/4"] {
        let words = ["--shard", text, "expected I/N with I from 1 to N"];
        fails(&bench, &format!("--out=out --shard={text}"), 2, &words);
    }
    for flag in ["--shard=1/2", "--merge"] {
        let output = everything(&bench, &["photo.png", "--out=out", flag]);
        let words = [&flag[..7], "one image has no parts"];
        assert_fails(&output, 2, &words);
    }
    fails(
        &bench,
        "--out=out --merge --shard=1/2",
        2,
        &["--merge", "--shard"],
    );
    fails(
        &bench,
        "--out=out --merge",
        1,
        &["--merge out: there are no shards in it"],
    );
    assert!(!bench.path("out").exists());
    // A shard without an image is one too.
    for shard in 1..=5 {
        succeeds(&bench, &format!("--out=out --shard={shard}/5"));
    }
    succeeds(&bench, "--out=out --merge");
    succeeds(&bench, "--out=whole");
    assert_same(&bench.path("whole"), &bench.path("out"));
    // The label maps of shards among the images are no images to work on.
    for shard in ["1/2", "2/2"] {
        succeeds(&bench, &format!("--out=photos/more/parts --shard={shard}"));
    }
    let told = succeeds(&bench, "--out=again");
    assert!(told.starts_with("2 images, "), "{told}");
}

#[test]
fn what_is_missing_is_named() {
    let bench = with_photos(6);
    succeeds(&bench, "--out=out --shard=2/3");
    let words = [
        "--merge out: without shards 1/3, 3/3;",
        "--shard 1/3 instead",
    ];
    fails(&bench, "--out=out --merge", 1, &words);
    succeeds(&bench, "--out=out --shard=1/3");
    fails(&bench, "--out=out --merge", 1, &["without shard 3/3;"]);
    succeeds(&bench, "--out=out --shard=3/3");

    // Results that are lost, or were not copied, and a journal that was cut off.
    let journal = bench.path("out/manifest.shards/2-of-3.jsonl");
    let done = images(&journal);
    fs::remove_file(bench.path(&format!("out/{}.json", done[0]))).unwrap();
    let words = ["1 image of shard 2/3", "--shard 2/3 --resume instead"];
    fails(&bench, "--out=out --merge", 1, &words);
    let lines = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, lines.split_inclusive('\n').next().unwrap()).unwrap();
    let left = format!("{} image", done.len());
    fails(&bench, "--out=out --merge", 1, &[&left, " of shard 2/3"]);
    assert!(!bench.path("out/manifest.jsonl").exists());
    assert!(!bench.path("out/annotations.json").exists());

    succeeds(&bench, "--out=out --shard=2/3 --resume");
    succeeds(&bench, "--out=out --merge");
    succeeds(&bench, "--out=whole");
    assert_same(&bench.path("whole"), &bench.path("out"));
}

#[test]
fn shards_of_different_runs_are_refused() {
    let bench = two_shards(6);
    let other = "--points-per-side=3";
    let named = ["options.points_per_side", "4", "3"];
    // When a shard begins, resumes, and is merged.
    succeeds(&bench, "--out=one --shard=1/2");
    let begun = [
        "--out one/manifest.shards/1-of-2.jsonl",
        "options.points_per_side",
    ];
    fails(&bench, &format!("--out=one --shard=2/2 {other}"), 1, &begun);
    fails(
        &bench,
        &format!("--out=out --shard=2/2 --resume {other}"),
        1,
        &named,
    );
    fails(&bench, &format!("--out=out --merge {other}"), 1, &named);
    succeeds(&bench, &format!("--out=other --shard=2/2 {other}"));
    copy(&bench.path("other"), &bench.path("one"));
    let words = [
        "--merge one/manifest.shards/2-of-2.jsonl",
        "points_per_side 3",
    ];
    fails(&bench, "--out=one --merge", 1, &words);

    // Another model.
    bench.tiny_model();
    let args = [
        "everything",
        "photos",
        FORMATS,
        "--checkpoint=tiny.safetensors",
    ];
    let output = bench.run(&[&args[..], &KEEP, &["--out=out", "--merge"]].concat());
    assert_fails(
        &output,
        1,
        &["--merge out/manifest.shards/1-of-2.jsonl", "model "],
    );

    // A journal under another name, and another number of shards.
    fs::copy(journal(&bench, 1), bench.path("journal")).unwrap();
    fs::copy(journal(&bench, 2), journal(&bench, 1)).unwrap();
    fails(
        &bench,
        "--out=out --merge",
        1,
        &["1-of-2.jsonl", "shard \"2/2\""],
    );
    fails(
        &bench,
        "--out=out --shard=1/2 --resume",
        1,
        &["1-of-2.jsonl", "shard \"2/2\""],
    );
    fs::copy(bench.path("journal"), journal(&bench, 1)).unwrap();
    let words = ["a run of 2 shards", "1/3", "name another folder"];
    fails(&bench, "--out=out --shard=1/3", 1, &words);
    succeeds(&bench, "--out=three --shard=1/3");
    copy(&bench.path("three"), &bench.path("out"));
    fails(
        &bench,
        "--out=out --merge",
        1,
        &["runs of 2 and of 3 shards"],
    );
}

#[test]
fn an_image_that_comes_twice_is_refused() {
    let bench = two_shards(6);
    let whole = [1, 2].map(|i| fs::read_to_string(journal(&bench, i)).unwrap());
    let lines = whole
        .each_ref()
        .map(|text| text.split_inclusive('\n').collect::<Vec<_>>());
    let first = images(&journal(&bench, 1));
    for line in [1, lines[0].len() - 1] {
        fs::write(journal(&bench, 1), whole[0].clone() + lines[0][line]).unwrap();
        let words = [
            "out/manifest.shards/1-of-2.jsonl",
            &first[line - 1],
            "twice",
        ];
        fails(&bench, "--out=out --merge", 1, &words);
    }
    fs::write(journal(&bench, 1), whole[0].clone() + lines[1][1]).unwrap();
    fails(
        &bench,
        "--out=out --merge",
        1,
        &["1-of-2.jsonl", "is of shard 2/2"],
    );
    assert!(!bench.path("out/manifest.jsonl").exists());
}

#[test]
fn other_results_stay() {
    let bench = two_shards(4);
    bench.write("out/annotations.json", b"of somebody else");
    let words = ["out/annotations.json: is there already; --overwrite replaces it"];
    fails(&bench, "--out=out --merge", 1, &words);
    fs::remove_file(bench.path("out/annotations.json")).unwrap();
    let before = files(&bench.path("out"));

    // A run without shards has the folder for itself.
    for line in ["--out=out", "--out=out --resume", "--out=out --overwrite"] {
        fails(&bench, line, 1, &["--out out: there are shards", "--merge"]);
    }
    let one = everything(&bench, &["photo.png", "--out=out"]);
    assert_fails(&one, 1, &["--out out: there are shards", "--merge"]);
    let again = ["--out out: there is a run in it", "--resume"];
    fails(&bench, "--out=out --shard=1/2", 1, &again);
    assert_eq!(files(&bench.path("out")), before);

    // The manifest of another run is neither replaced nor taken up.
    succeeds(&bench, "--out=other --points-per-side=3");
    let manifest = fs::read(bench.path("other/manifest.jsonl")).unwrap();
    fs::write(bench.path("out/manifest.jsonl"), &manifest).unwrap();
    let words = ["--merge out/manifest.jsonl", "options.points_per_side 3"];
    fails(&bench, "--out=out --merge", 1, &words);
    assert_eq!(
        fs::read(bench.path("out/manifest.jsonl")).unwrap(),
        manifest
    );
    bench.write("out/annotations.json", b"of somebody else");
    succeeds(&bench, "--out=out --merge --overwrite");
    succeeds(&bench, "--out=whole");
    assert_same(&bench.path("whole"), &bench.path("out"));

    // What a shard would write over.
    fs::create_dir(bench.path("taken")).unwrap();
    bench.write("taken/001.png.json", b"of somebody else");
    let refused =
        ["1/2", "2/2"].map(|shard| photos(&bench, &format!("--out=taken --shard={shard}")));
    let refused: Vec<&Output> = refused.iter().filter(|o| !o.status.success()).collect();
    assert_eq!(refused.len(), 1);
    assert_fails(refused[0], 1, &["taken/001.png.json: is there already"]);
    assert_eq!(
        fs::read(bench.path("taken/001.png.json")).unwrap(),
        b"of somebody else"
    );
}

#[test]
fn a_shard_is_for_one_process() {
    let bench = two_shards(4);
    // As another machine holds it.
    let lock = File::create(bench.path("out/manifest.shards/1-of-2.lock")).unwrap();
    lock.lock().unwrap();
    let words = ["out: another process works on shard 1/2"];
    fails(&bench, "--out=out --shard=1/2 --resume", 1, &words);
    fails(&bench, "--out=out --merge", 1, &words);
    succeeds(&bench, "--out=out --shard=2/2 --resume");
    lock.unlock().unwrap();
    succeeds(&bench, "--out=out --shard=1/2 --resume");

    // As another process of this machine holds the folder, for a shard and for itself.
    let folder = File::open(bench.path("out")).unwrap();
    folder.lock_shared().unwrap();
    succeeds(&bench, "--out=out --shard=1/2 --resume");
    fails(
        &bench,
        "--out=out --merge",
        1,
        &["--out out: another process works there"],
    );
    folder.unlock().unwrap();
    folder.lock().unwrap();
    fails(
        &bench,
        "--out=out --shard=1/2 --resume",
        1,
        &["another process works there"],
    );
    folder.unlock().unwrap();
    succeeds(&bench, "--out=out --merge");
}
