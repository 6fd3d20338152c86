//! `samara video`, through the binary with the embedded model. Only the ignored tests need ffmpeg; the
//! others run where there is none.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod refused;
mod resume;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{Bench, assert_fails, stderr, stdout};
use samara::{ImageLimits, Mask};
use samara_image::{
    FrameTimes, RgbImage, Rle, VideoWriter, open_video, read_object_map, save_object_map, save_png,
};
use serde_json::{Value, json};

const FRAMES: u32 = 8;
const SIZE: (u32, u32) = (96, 64);
/// A click on the first disc, a box around the second.
const DISC: &str = "--prompt=0:1:24,20";
const OTHER: &str = "--prompt=0:2:60,36,80,56";
const FORMAT: &str = "--format=masks,json";

/// Where the first disc is.
fn disc(frame: u32) -> Mask {
    Mask::from_fn(SIZE.0, SIZE.1, |x, y| {
        x.abs_diff(24 + 3 * frame).pow(2) + y.abs_diff(20 + frame).pow(2) < 120
    })
}

/// Where the second one is, which goes the other way.
fn other(frame: u32) -> Mask {
    Mask::from_fn(SIZE.0, SIZE.1, |x, y| {
        x.abs_diff(70 - 2 * frame).pow(2) + y.abs_diff(46).pow(2) < 90
    })
}

/// Two bright discs that move over a dark texture.
fn image(frame: u32) -> RgbImage {
    let (disc, other) = (disc(frame), other(frame));
    RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| {
        let texture = ((x * 7 + y * 13) % 31 + (x / 8 + y / 8) % 2 * 12) as u8;
        if disc.get(x, y) {
            [240, 220, 40].into()
        } else if other.get(x, y) {
            [60, 140, 250].into()
        } else {
            [texture, texture + 8, texture / 2].into()
        }
    })
}

fn frame_name(frame: u32) -> String {
    format!("shot_{frame}")
}

/// A folder `frames`, whose names sort by their numbers only.
fn with_frames() -> Bench {
    let bench = Bench::new();
    fs::create_dir(bench.path("frames")).unwrap();
    for frame in 0..FRAMES {
        let path = bench.path(&format!("frames/{}.png", frame_name(frame + 5)));
        save_png(path, &image(frame)).unwrap();
    }
    bench
}

/// `samara video` without ffmpeg.
fn command(bench: &Bench, args: &[&str]) -> Command {
    let nothing = bench.path("nothing");
    fs::create_dir_all(&nothing).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_samara"));
    command
        .current_dir(bench.folder.path())
        .env("SAMARA_PRECISION", "fp32")
        .env("PATH", nothing);
    command.arg("video").args(args);
    command
}

fn video(bench: &Bench, args: &[&str]) -> Output {
    command(bench, args).output().unwrap()
}

/// As [`video`], which has to go well.
#[track_caller]
fn tracked(bench: &Bench, args: &[&str]) -> String {
    let output = video(bench, args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The masks of a run, by object, in the order of frames.
fn masks(bench: &Bench, out: &str) -> BTreeMap<u32, Vec<Mask>> {
    let all = json(&bench.path(out).join("masklets.json"));
    let mut masks: BTreeMap<u32, Vec<Mask>> = BTreeMap::new();
    for frame in all["masklet"].as_array().unwrap() {
        let ids = all["masklet_id"].as_array().unwrap();
        assert_eq!(frame.as_array().unwrap().len(), ids.len());
        for (id, rle) in ids.iter().zip(frame.as_array().unwrap()) {
            let rle: Rle = serde_json::from_value(rle.clone()).unwrap();
            let id = id.as_u64().unwrap() as u32;
            masks.entry(id).or_default().push(rle.to_mask().unwrap());
        }
    }
    masks
}

/// Numbers of the frames in the journal, in its order.
fn journal(bench: &Bench, out: &str) -> Vec<u64> {
    let text = fs::read_to_string(bench.path(out).join("frames.jsonl")).unwrap_or_default();
    let lines = text.lines().skip(1);
    let frame = |line| serde_json::from_str::<Value>(line).ok()?["frame"].as_u64();
    lines.filter_map(frame).collect()
}

#[test]
fn palette_images_and_masklets_tell_the_same() {
    let bench = with_frames();
    let told = tracked(&bench, &["frames", DISC, OTHER, FORMAT, "--out=out"]);
    assert!(told.contains("8 frames, 2 objects"), "{told}");
    assert!(told.contains("masklets.json"), "{told}");
    assert!(bench.path("out/session.safetensors").exists());

    let found = masks(&bench, "out");
    let all = json(&bench.path("out/masklets.json"));
    for (field, value) in [
        ("video_frame_count", json!(8)),
        ("video_duration", json!(null)),
        ("video_width", json!(96)),
        ("video_height", json!(64)),
        ("first_frame", json!(0)),
        ("masklet_id", json!([1, 2])),
        ("masklet_num", json!(2)),
        ("masklet_type", json!("auto")),
    ] {
        assert_eq!(all[field], value, "{field}");
    }
    for (at, masks) in found.values().enumerate() {
        let shown: Vec<&Mask> = masks.iter().filter(|mask| !mask.is_empty()).collect();
        let areas: u64 = shown.iter().map(|mask| mask.area()).sum();
        let mean = areas as f64 / shown.len() as f64;
        assert_eq!(all["masklet_frame_count"][at], shown.len());
        for (field, size) in [("abs", mean), ("rel", mean / (96.0 * 64.0))] {
            let told = all[format!("masklet_size_{field}")][at].as_f64().unwrap();
            assert!((told / size - 1.0).abs() < 1e-12, "{field}: {told}");
        }
        assert_eq!(all["masklet_first_appeared_frame"][at], 0);
        let flips = masks
            .windows(2)
            .filter(|w| w[0].is_empty() != w[1].is_empty());
        assert_eq!(all["masklet_visibility_changes"][at], flips.count());
    }
    let scores = all["scores"].as_array().unwrap();
    assert_eq!(scores.len(), 8);
    for (frame, scores) in scores.iter().enumerate() {
        for at in 0..2 {
            let number = |what: &str| scores[what][at].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&number("predicted_iou")));
            let hidden = 1.0 / (1.0 + number("object_score").exp());
            assert!((hidden - number("occlusion_probability")).abs() < 1e-5);
            let empty = found[&(at as u32 + 1)][frame].is_empty();
            assert!(empty || number("object_score") > 0.0);
        }
    }

    let images = fs::read_dir(bench.path("out/masks")).unwrap();
    assert_eq!(images.count(), 8);
    for frame in 0..FRAMES {
        let path = bench.path(&format!("out/masks/{}.png", frame_name(frame + 5)));
        let map = read_object_map(path, &ImageLimits::default()).unwrap();
        assert_eq!((map.width, map.height), SIZE);
        let [one, two] = [&found[&1][frame as usize], &found[&2][frame as usize]];
        // The first object lies on top.
        let below = two.and_not(one).unwrap();
        for (object, mask) in [(1, one), (2, &below)] {
            let drawn = map.objects.get(&object).map(|rle| rle.to_mask().unwrap());
            let drawn = drawn.unwrap_or_else(|| Mask::new(96, 64));
            assert_eq!(&drawn, mask, "frame {frame}, object {object}");
        }
    }
    // The prompted frame shows what was prompted.
    assert!(found[&1][0].iou(&disc(0)) > 0.5);
    assert!(found[&2][0].iou(&other(0)) > 0.5);
}

#[test]
fn prompts_come_as_flags_files_and_masks() {
    let bench = with_frames();
    bench.write(
        "prompts.json",
        br#"[{"frame": 0, "object": 1, "points": [[24, 20, 1]]},
             {"frame": 0, "object": 2, "box": [60, 36, 80, 56]}]"#,
    );
    tracked(&bench, &["frames", DISC, OTHER, FORMAT, "--out=flags"]);
    tracked(
        &bench,
        &["frames", "--prompts=prompts.json", FORMAT, "--out=file"],
    );
    assert_eq!(masks(&bench, "flags"), masks(&bench, "file"));

    // A mask that is a prompt is taken as it is, up to the grid of the logits.
    let objects = [(3, &disc(2)), (2000, &other(2))];
    save_object_map(bench.path("two.png"), SIZE, &objects).unwrap();
    tracked(
        &bench,
        &["frames", "--masks=2:two.png", FORMAT, "--out=two"],
    );
    let two = masks(&bench, "two");
    assert!(two.keys().eq(&[3, 2000]));
    assert!(two[&3][2].iou(&disc(2)) > 0.9 && two[&2000][2].iou(&other(2)) > 0.9);
    assert_eq!(two[&3].len(), 8);

    let map = read_object_map(
        bench.path(&format!("two/masks/{}.png", frame_name(7))),
        &ImageLimits::default(),
    );
    let map = map.unwrap();
    assert_eq!(map.objects[&2000], two[&2000][2].to_rle());

    disc(2).save_png(bench.path("one.png")).unwrap();
    tracked(
        &bench,
        &["frames", "--masks=2:9:one.png", FORMAT, "--out=one"],
    );
    let one = masks(&bench, "one");
    assert!(one.keys().eq(&[9]));
    assert_eq!(one[&9], two[&3]);

    // A box with clicks for the same object, and a correction later.
    let mut args = vec!["frames", "--prompt=0:1:12,8,36,32", "--prompt=0:1:24,20"];
    args.extend([
        "--prompt=0:1:60,40,0",
        "--prompt=5:1:39,25",
        FORMAT,
        "--out=both",
    ]);
    tracked(&bench, &args);
    let both = masks(&bench, "both");
    assert!(
        both[&1][0].iou(&disc(0)) > 0.5,
        "{}",
        both[&1][0].iou(&disc(0))
    );
    assert!(both[&1][5].get(39, 25));
}

#[test]
fn direction_and_range_say_which_frames_are_tracked() {
    let bench = with_frames();
    let prompt = "--prompt=3:1:33,23";
    for (out, args, frames) in [
        ("both", vec![], vec![3, 4, 5, 6, 7, 2, 1, 0]),
        ("on", vec!["--direction=forward"], vec![3, 4, 5, 6, 7]),
        ("back", vec!["--direction=backward"], vec![3, 2, 1, 0]),
        ("part", vec!["--from=2", "--to=5"], vec![3, 4, 5, 2]),
        (
            "end",
            vec!["--to=100", "--direction=forward"],
            vec![3, 4, 5, 6, 7],
        ),
    ] {
        let to = format!("--out={out}");
        tracked(
            &bench,
            &[&["frames", prompt, FORMAT, &to], args.as_slice()].concat(),
        );
        assert_eq!(journal(&bench, out), frames, "{out}");
        let all = json(&bench.path(out).join("masklets.json"));
        assert_eq!(all["first_frame"], *frames.iter().min().unwrap());
        assert_eq!(all["video_frame_count"], frames.len());
        let images = fs::read_dir(bench.path(out).join("masks")).unwrap();
        assert_eq!(images.count(), frames.len());
    }
    let (both, on, back) = (
        masks(&bench, "both"),
        masks(&bench, "on"),
        masks(&bench, "back"),
    );
    assert_eq!(both[&1][3..], on[&1][..]);
    assert_eq!(both[&1][3], back[&1][3]);

    let outside = ["frames", prompt, FORMAT, "--out=none", "--from=4"];
    assert_fails(&video(&bench, &outside), 2, &["frame 3", "--from"]);
}

#[test]
fn objects_share_no_pixel_if_so_wanted() {
    let bench = with_frames();
    // Two names for the same disc.
    let args = ["frames", DISC, "--prompt=0:2:10,6,38,34", FORMAT];
    tracked(&bench, &[args.as_slice(), &["--out=shared"]].concat());
    tracked(
        &bench,
        &[args.as_slice(), &["--out=apart", "--non-overlap-masks"]].concat(),
    );
    let common = |out: &str| -> u64 {
        let all = masks(&bench, out);
        let pairs = all[&1].iter().zip(&all[&2]);
        pairs.map(|(a, b)| a.intersection_area(b)).sum()
    };
    assert!(common("shared") > 0);
    assert_eq!(common("apart"), 0);
}

/// All frames of a video.
fn frames_of(path: &Path) -> Vec<RgbImage> {
    let mut source = open_video(path, &ImageLimits::default()).unwrap();
    (0..).map_while(|i| source.read(i).unwrap()).collect()
}

#[test]
#[ignore = "needs ffmpeg"]
fn a_video_file_gets_an_overlay_of_as_many_frames() {
    let bench = Bench::new();
    let mut writer = VideoWriter::create(bench.path("clip.mp4"), SIZE, 12.5).unwrap();
    for frame in 0..FRAMES {
        writer.write(&image(frame)).unwrap();
    }
    writer.finish().unwrap();
    let output = bench.run(&["video", "clip.mp4", DISC, OTHER, "--out=out"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("overlay.mp4"),
        "{}",
        stdout(&output)
    );

    let (drawn, clip) = (
        frames_of(&bench.path("out/overlay.mp4")),
        frames_of(&bench.path("clip.mp4")),
    );
    assert_eq!((drawn.len(), clip.len()), (8, 8));
    let overlay = open_video(bench.path("out/overlay.mp4"), &ImageLimits::default()).unwrap();
    assert_eq!((overlay.size(), overlay.frame_rate()), (SIZE, Some(12.5)));
    assert!(drawn.iter().zip(&clip).all(|(a, b)| a != b));
    let all = json(&bench.path("out/masklets.json"));
    assert_eq!(all["video_duration"], 8.0 / 12.5);
    for frame in 0..FRAMES {
        let path = bench.path(&format!("out/masks/{frame:05}.png"));
        assert!(read_object_map(path, &ImageLimits::default()).is_ok());
    }

    // A folder has no rate of its own.
    let bench = with_frames();
    let output = bench.run(&["video", "frames", DISC, "--format=overlay", "--out=out"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(frames_of(&bench.path("out/overlay.mp4")).len(), 8);
    assert!(!bench.path("out/masks").exists());
}

#[test]
#[ignore = "needs ffmpeg"]
fn a_variable_rate_keeps_its_times() {
    let bench = Bench::new();
    let starts = [0.0, 0.1, 0.2, 0.3, 0.9, 1.5, 1.6, 2.4];
    let times = FrameTimes::new(starts.into(), 2.5).unwrap();
    let mut writer = VideoWriter::create_timed(bench.path("clip.mp4"), SIZE, times).unwrap();
    for frame in 0..FRAMES {
        writer.write(&image(frame)).unwrap();
    }
    writer.finish().unwrap();
    let args = ["video", "clip.mp4", "--format=json,overlay"];
    let close = |value: &Value, seconds: f64| (value.as_f64().unwrap() - seconds).abs() < 1e-3;
    let run = |more: &[&str]| {
        let output = bench.run(&[&args, more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
    };

    run(&[DISC, "--out=out"]);
    let all = json(&bench.path("out/masklets.json"));
    let told = all["frame_times"].as_array().unwrap();
    assert!(
        told.len() == 8 && told.iter().zip(starts).all(|(a, b)| close(a, b)),
        "{told:?}"
    );
    let duration = all["video_duration"].as_f64().unwrap();
    assert!(duration > 2.4 && duration < 3.3, "{duration}");
    let overlay = open_video(bench.path("out/overlay.mp4"), &ImageLimits::default()).unwrap();
    let shown = overlay.times().unwrap().unwrap();
    for (frame, start) in starts.into_iter().enumerate() {
        assert!(
            (shown.start(frame).unwrap() - start).abs() < 1e-3,
            "{shown:?}"
        );
    }

    // Of a part the duration is that of the part.
    run(&["--prompt=3:1:33,23", "--from=3", "--to=5", "--out=part"]);
    let part = json(&bench.path("part/masklets.json"));
    assert!(
        close(&part["video_duration"], 1.3),
        "{}",
        part["video_duration"]
    );
    assert!(
        close(&part["frame_times"][1], 0.9),
        "{}",
        part["frame_times"]
    );
    let overlay = open_video(bench.path("part/overlay.mp4"), &ImageLimits::default()).unwrap();
    let shown = overlay.times().unwrap().unwrap();
    assert!(
        shown.len() == 3 && (shown.start(2).unwrap() - 1.2).abs() < 1e-3,
        "{shown:?}"
    );
}

#[test]
#[ignore = "needs ffmpeg"]
fn a_truncated_video_file_is_told_in_one_line() {
    let bench = Bench::new();
    let mut writer = VideoWriter::create(bench.path("clip.mp4"), SIZE, 25.0).unwrap();
    for frame in (0..FRAMES).cycle().take(60) {
        writer.write(&image(frame)).unwrap();
    }
    writer.finish().unwrap();
    let bytes = fs::read(bench.path("clip.mp4")).unwrap();
    bench.write("cut.mp4", &bytes[..bytes.len() * 4 / 10]);
    let output = bench.run(&["video", "cut.mp4", DISC, FORMAT, "--out=out"]);
    assert_fails(&output, 1, &["cut.mp4", "damaged or cut off"]);
    assert!(!journal(&bench, "out").is_empty());
    bench.write("head.mp4", &bytes[..100]);
    let output = bench.run(&["video", "head.mp4", DISC, FORMAT, "--out=other"]);
    assert_fails(&output, 1, &["head.mp4"]);
    let output = bench.run(&[
        "video",
        "clip.mp4",
        "--prompt=60:1:5,5",
        FORMAT,
        "--out=other",
    ]);
    assert_fails(&output, 2, &["no frame 60"]);
}
