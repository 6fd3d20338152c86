//! Runs that end early, and go on.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use samara_image::{RgbImage, save_png};

use super::common::{Bench, assert_fails, stderr};
use super::{DISC, FORMAT, FRAMES, command, frame_name, journal, tracked, video, with_frames};

/// What a run leaves but for the session: names and contents.
fn results(bench: &Bench, out: &str) -> BTreeMap<String, Vec<u8>> {
    let out = bench.path(out);
    let mut found = BTreeMap::new();
    for file in ["frames.jsonl", "masklets.json"] {
        found.insert(file.to_owned(), fs::read(out.join(file)).unwrap());
    }
    for entry in fs::read_dir(out.join("masks")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        found.insert(name, fs::read(entry.path()).unwrap());
    }
    found
}

#[track_caller]
fn assert_same(bench: &Bench, one: &str, two: &str) {
    let (one, two) = (results(bench, one), results(bench, two));
    assert!(one.keys().eq(two.keys()), "{:?}", two.keys());
    for (name, bytes) in &one {
        assert!(two.get(name) == Some(bytes), "{name}");
    }
}

#[test]
fn a_run_that_is_killed_goes_on_and_ends_as_one_that_was_not() {
    let bench = with_frames();
    let args = [
        "frames",
        "--prompt=2:1:30,22",
        "--prompt=2:2:56,36,76,56",
        FORMAT,
    ];
    let with = |more: &[&'static str]| [args.as_slice(), more].concat();
    tracked(&bench, &with(&["--out=whole"]));

    let mut child = command(&bench, &with(&["--out=killed"]));
    let mut child = child.stdout(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while journal(&bench, "killed").len() < 3 && start.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(journal(&bench, "killed").len() >= 3);
    let again = video(&bench, &with(&["--out=killed"]));
    assert_fails(&again, 1, &["--out killed", "--resume"]);
    let moved = [
        "frames",
        "--prompt=2:1:31,22",
        FORMAT,
        "--out=killed",
        "--resume",
    ];
    assert_fails(
        &video(&bench, &moved),
        1,
        &["frames.jsonl", "that run had "],
    );
    let meant = with(&["--out=killed", "--resume", "--intent=segments"]);
    assert_fails(
        &video(&bench, &meant),
        1,
        &["frames.jsonl", "that run had "],
    );
    tracked(&bench, &with(&["--out=killed", "--resume"]));
    assert_same(&bench, "whole", "killed");

    // What is done is not done again, only written.
    fs::remove_dir_all(bench.path("killed/masks")).unwrap();
    let told = tracked(&bench, &with(&["--out=killed", "--resume"]));
    assert!(told.contains(" 0 frames,"), "{told}");
    assert_same(&bench, "whole", "killed");

    // A journal that ends in the middle of a line, behind the session.
    let path = bench.path("killed/frames.jsonl");
    let text = fs::read(&path).unwrap();
    fs::write(&path, &text[..text.len() * 6 / 10]).unwrap();
    tracked(&bench, &with(&["--out=killed", "--resume"]));
    assert_same(&bench, "whole", "killed");
}

/// Starts a run, and sends it a signal when it has tracked two frames.
#[cfg(unix)]
fn signalled(bench: &Bench, mut run: Command, out: &str, signal: &str) -> Output {
    let child = run.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    let start = Instant::now();
    while journal(bench, out).len() < 2 && start.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(2));
    }
    let kill = format!("kill -{signal} {}", child.id());
    Command::new("sh").args(["-c", &kill]).status().unwrap();
    child.wait_with_output().unwrap()
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_saves_where_it_is() {
    let bench = with_frames();
    let args = ["frames", "--prompt=1:1:27,21", FORMAT];
    tracked(&bench, &[args.as_slice(), &["--out=whole"]].concat());
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let out = format!("--out={signal}");
        let run = command(&bench, &[args.as_slice(), &[&out]].concat());
        let output = signalled(&bench, run, signal, signal);
        if output.status.success() {
            // The machine was faster than the signal.
            continue;
        }
        assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
        let told = stderr(&output);
        assert!(told.starts_with("notice: stopped after frame"), "{told}");
        assert!(told.ends_with("--resume continues from there\n"), "{told}");
        let done = journal(&bench, signal).len();
        let told = tracked(&bench, &[args.as_slice(), &[&out, "--resume"]].concat());
        let left = format!(" {} frames,", FRAMES as usize - done);
        assert!(told.contains(&left), "{told}");
        assert_same(&bench, "whole", signal);
    }
}

#[cfg(unix)]
#[test]
fn nohup_keeps_a_run_going() {
    let bench = with_frames();
    let run = command(
        &bench,
        &["frames", "--prompt=1:1:27,21", FORMAT, "--out=out"],
    );
    let mut nohup = Command::new("nohup");
    nohup.arg(run.get_program()).args(run.get_args());
    nohup.current_dir(bench.folder.path());
    let output = signalled(&bench, nohup, "out", "HUP");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(journal(&bench, "out").len(), FRAMES as usize);
}

#[test]
fn a_run_that_is_going_on_is_not_joined() {
    let bench = with_frames();
    let folder = bench.path("out");
    fs::create_dir(&folder).unwrap();
    let lock = fs::File::open(&folder).unwrap();
    lock.try_lock().unwrap();
    let output = video(
        &bench,
        &["frames", "--prompt=1:1:27,21", FORMAT, "--out=out"],
    );
    assert_fails(&output, 1, &["--out out", "another process works there"]);
    assert!(fs::read_dir(&folder).unwrap().next().is_none());
}

#[test]
fn a_bad_frame_in_the_middle_ends_the_run_and_keeps_what_was_before() {
    let bench = with_frames();
    let args = ["frames", DISC, FORMAT];
    let with = |more: &[&'static str]| [args.as_slice(), more].concat();
    tracked(&bench, &with(&["--out=whole"]));
    let bad = bench.path(&format!("frames/{}.png", frame_name(9)));
    let good = fs::read(&bad).unwrap();

    save_png(&bad, &RgbImage::new(95, 64)).unwrap();
    let output = video(&bench, &with(&["--out=out"]));
    assert_fails(&output, 1, &["shot_9.png", "95x64", "96x64"]);
    assert_eq!(journal(&bench, "out"), [0, 1, 2, 3]);
    // Damaged in another way it is no better.
    fs::write(&bad, &good[..good.len() / 2]).unwrap();
    let output = video(&bench, &with(&["--out=out", "--resume"]));
    assert_fails(&output, 1, &["shot_9.png"]);
    assert_eq!(journal(&bench, "out"), [0, 1, 2, 3]);

    fs::write(&bad, &good).unwrap();
    let told = tracked(&bench, &with(&["--out=out", "--resume"]));
    assert!(told.contains(" 4 frames,"), "{told}");
    assert_same(&bench, "whole", "out");
}
