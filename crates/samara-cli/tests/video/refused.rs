//! What is refused, each time in one line.

use std::fs;

use samara::Mask;

use super::common::assert_fails;
use super::{DISC, FORMAT, tracked, video, with_frames};

#[test]
fn prompts_that_make_no_sense_are_refused() {
    let bench = with_frames();
    Mask::full(40, 40)
        .save_png(bench.path("small.png"))
        .unwrap();
    Mask::new(96, 64).save_png(bench.path("black.png")).unwrap();
    let cases: [(&[&str], i32, &[&str]); 20] = [
        (
            &[DISC, "--from=3", "--to=1"],
            2,
            &["--from 3 --to 1", "no frame lies between"],
        ),
        (&[DISC, "--from=3"], 2, &["frame 0", "--from and --to"]),
        (&[], 2, &["--prompt", "--masks", "--prompts"]),
        (&["--prompt=8:1:5,5"], 2, &["no frame 8", "of 8"]),
        (&["--prompt=0:1:96.5,5"], 2, &["frame 0, object 1", "96.5"]),
        (&["--prompt=0:1:5,-3"], 2, &["frame 0, object 1", "-3"]),
        (&["--prompt=0:1:100,70,120,90"], 2, &["frame 0, object 1"]),
        (&["--prompt=0:0:5,5"], 2, &["--prompt", "1 to 65535"]),
        (&["--prompt=0:65536:5,5"], 2, &["--prompt", "1 to 65535"]),
        (&["--prompt=5,5"], 2, &["--prompt", "FRAME:OBJ:"]),
        (&["--prompt=x:1:5,5"], 2, &["--prompt", "\"x\""]),
        (&["--prompt=0:1:5"], 2, &["--prompt"]),
        (&["--prompt=0:1:5,5,2"], 2, &["--prompt"]),
        (&["--prompt=0:1:5,5,5,9"], 2, &["--prompt"]),
        (
            &["--prompt=0:1:5,5,9,9", "--prompt=0:1:5,5,8,8"],
            2,
            &["--prompt 0:1", "one box"],
        ),
        (&["--masks=0:1:none.png"], 1, &["none.png"]),
        (
            &["--masks=0:small.png"],
            1,
            &["small.png", "40×40", "96×64"],
        ),
        (&["--masks=0:1:small.png"], 1, &["small.png", "40×40"]),
        (&["--masks=0:black.png"], 1, &["black.png", "no object"]),
        (&["--masks=black.png"], 2, &["--masks", "FRAME[:OBJ]:FILE"]),
    ];
    for (args, status, words) in cases {
        let args = [&["frames", FORMAT, "--out=out"], args].concat();
        assert_fails(&video(&bench, &args), status, words);
    }
    // None of them is in the way of the right one.
    tracked(&bench, &["frames", FORMAT, "--out=out", "--to=1", DISC]);
}

#[test]
fn files_of_prompts_are_named_with_what_is_wrong_in_them() {
    let bench = with_frames();
    for (text, words) in [
        ("{", &["line 1"][..]),
        ("{}", &[]),
        (r#"[{"object": 1}]"#, &["frame"]),
        (r#"[{"frame": -1, "object": 1}]"#, &["-1"]),
        (
            r#"[{"frame": 0, "object": 0, "points": [[5, 5, 1]]}]"#,
            &["1 to 65535"],
        ),
        (
            r#"[{"frame": 0, "object": 65536, "points": [[5, 5, 1]]}]"#,
            &["65536"],
        ),
        (
            r#"[{"frame": 0, "object": 1, "points": [[5]]}]"#,
            &["a point is [x, y]"],
        ),
        ("[[0, 1, [[5, 5]]]]", &["prompts as an object"]),
        ("[]", &["holds no prompt"]),
        (
            r#"[{"frame": 0, "object": 1, "points": [[5, 5, 2]]}]"#,
            &["label 2"],
        ),
        (
            r#"[{"frame": 0, "object": 1, "point": [[5, 5, 1]]}]"#,
            &["point"],
        ),
        (r#"[{"frame": 0, "object": 1, "box": [5, 5, 9]}]"#, &[]),
    ] {
        bench.write("bad.json", text.as_bytes());
        let output = video(&bench, &["frames", "--prompts=bad.json", "--out=out"]);
        assert_fails(&output, 2, &[&["--prompts bad.json: "], words].concat());
    }
    let output = video(&bench, &["frames", "--prompts=none.json", "--out=out"]);
    assert_fails(&output, 2, &["--prompts none.json", "no such file"]);
    bench.write("none.json", br#"[{"frame": 0, "object": 1}]"#);
    let output = video(&bench, &["frames", "--prompts=none.json", "--out=out"]);
    assert_fails(&output, 2, &["frame 0, object 1"]);
    assert!(!bench.path("out").exists());
    // A point alone is on the object; some editors begin a file with a mark of its encoding.
    let text = "\u{feff}[{\"frame\": 0, \"object\": 1, \"points\": [[48, 32]]}]";
    bench.write("some.json", text.as_bytes());
    tracked(
        &bench,
        &[
            "frames",
            FORMAT,
            "--out=out",
            "--to=1",
            "--prompts=some.json",
        ],
    );
}

#[test]
fn what_is_no_video_is_refused() {
    let bench = with_frames();
    fs::create_dir(bench.path("empty")).unwrap();
    fs::create_dir(bench.path("cut")).unwrap();
    let whole = fs::read(bench.path("photo.png")).unwrap();
    bench.write("cut/1.png", &whole[..whole.len() / 2]);
    bench.write("clip.mp4", b"a video");
    bench.write("taken", b"");
    bench.write("bad.safetensors", b"no weights");
    let bad = [
        "frames",
        DISC,
        FORMAT,
        "--out=new/inner/out",
        "--checkpoint=bad.safetensors",
    ];
    assert_fails(&video(&bench, &bad), 1, &["bad.safetensors"]);
    assert!(!bench.path("new").exists());
    for (input, out, status, words) in [
        ("empty", "--out=out", 1, &["empty", "no images"][..]),
        ("none", "--out=out", 1, &["none", "no such file"]),
        ("none.mp4", "--out=out", 1, &["none.mp4", "no such file"]),
        ("cut", "--out=out", 1, &["1.png"]),
        (
            "clip.mp4",
            "--out=out",
            1,
            &["clip.mp4", "ffmpeg is not installed"],
        ),
        ("frames", "--out=taken", 1, &["--out", "taken"]),
    ] {
        assert_fails(&video(&bench, &[input, DISC, out]), status, words);
    }
    assert!(!bench.path("out").exists());
    assert_fails(&video(&bench, &["frames", DISC]), 2, &["--out"]);
    // An overlay needs ffmpeg too, which is told before the work.
    let output = video(&bench, &["frames", DISC, "--out=out"]);
    assert_fails(&output, 1, &["--format overlay", "ffmpeg is not installed"]);
    assert!(!bench.path("out/frames.jsonl").exists());
}

/// A frame that cannot be read is not left out: all others would be other frames.
#[test]
#[cfg(unix)]
fn a_frame_that_leads_to_nothing_is_named() {
    let bench = with_frames();
    fs::create_dir(bench.path("holes")).unwrap();
    for name in ["0.png", "2.png"] {
        fs::copy(bench.path("photo.png"), bench.path("holes").join(name)).unwrap();
    }
    std::os::unix::fs::symlink("nothing", bench.path("holes/1.png")).unwrap();
    let args = [
        "holes", "--prompt", "0:1:4,3", "--out", "out", "--format", "masks",
    ];
    assert_fails(&video(&bench, &args), 1, &["holes/1.png: cannot be read"]);
}
