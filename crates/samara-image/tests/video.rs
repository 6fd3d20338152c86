//! Videos: the same frames in every order, what damage does, and what is written.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use image::Rgb;
use samara_image::{
    Error as ImageError, FfmpegVideo, FrameFolder, FrameSource, ImageLimits, RgbImage, VideoWriter,
    open_video, save_image,
};
use tempfile::TempDir;

/// A moving test image as a file called `name`, made with `options`.
fn make(folder: &TempDir, name: &str, size: &str, frames: usize, options: &[&str]) -> PathBuf {
    let path = folder.path().join(name);
    let source = format!("testsrc2=size={size}:rate=25");
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i"])
        .arg(source)
        .args(["-frames:v", &frames.to_string(), "-c:v", "libx264"])
        .args(["-pix_fmt", "yuv420p", "-g", "12"])
        .args(options)
        .arg(&path)
        .status();
    assert!(status.unwrap().success(), "the tests need ffmpeg");
    path
}

fn open(path: &Path) -> Result<FfmpegVideo, ImageError> {
    FfmpegVideo::open(path, &ImageLimits::default())
}

/// All frames in order, and what came instead of the next one.
fn sequence(video: &mut dyn FrameSource) -> (Vec<RgbImage>, Option<String>) {
    let mut frames = Vec::new();
    loop {
        match video.read(frames.len()) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error.to_string())),
        }
    }
}

/// Reads in the order of `numbers` and compares with `frames`.
fn check_order(path: &Path, frames: &[RgbImage], numbers: impl IntoIterator<Item = usize>) {
    let mut video = open(path).unwrap();
    for i in numbers {
        let frame = video.read(i).unwrap();
        assert!(frame.as_ref() == frames.get(i), "frame {i}");
    }
}

#[test]
#[ignore = "needs ffmpeg"]
fn every_order_gives_the_same_frames() {
    let folder = TempDir::new().unwrap();
    let path = make(&folder, "a.mp4", "128x96", 50, &["-crf", "5"]);
    let mut video = open(&path).unwrap();
    assert_eq!(video.size(), (128, 96));
    assert_eq!(video.len_hint(), Some(50));
    assert_eq!(video.frame_rate(), Some(25.0));
    assert_eq!(video.frame_name(7), "00007");
    let (frames, end) = sequence(&mut video);
    assert_eq!((frames.len(), end), (50, None));
    for (i, pair) in frames.windows(2).enumerate() {
        assert!(pair[0] != pair[1], "frame {i} is repeated");
    }
    check_order(&path, &frames, (0..60).step_by(7));
    check_order(&path, &frames, (0..55).rev());
    let random = (0..25).map(|i| i * i * 31 % 53);
    check_order(&path, &frames, random);
}

#[test]
#[ignore = "needs ffmpeg"]
fn frames_are_neither_dropped_nor_repeated_for_a_rate() {
    let folder = TempDir::new().unwrap();
    // Every third frame is missing, so the intervals differ.
    let options = ["-vf", "select=mod(n\\,3)", "-fps_mode", "vfr"];
    let path = make(&folder, "a.mkv", "64x48", 20, &options);
    let (frames, end) = sequence(&mut open(&path).unwrap());
    assert_eq!((frames.len(), end), (20, None));
    check_order(&path, &frames, (0..22).rev());
}

/// Every frame's time in seconds, and the end of the last one.
fn starts_and_end(path: &Path) -> (Vec<f64>, f64) {
    let times = open(path).unwrap().times().unwrap().unwrap();
    let starts = (0..times.len()).map(|i| times.start(i).unwrap());
    (starts.collect(), times.end(times.len() - 1).unwrap())
}

#[test]
#[ignore = "needs ffmpeg"]
fn the_times_of_a_variable_rate_are_read_and_written() {
    let folder = TempDir::new().unwrap();
    // Five frames with 25 a second, then five with some 4 a second.
    let options = [
        "-vf",
        "setpts='if(lt(N,5),N,5+(N-5)*6)'",
        "-fps_mode",
        "vfr",
        "-enc_time_base",
        "1/1000",
    ];
    let expected = [0.0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.44, 0.68, 0.92, 1.16];
    for name in ["a.mkv", "a.mp4"] {
        let path = make(&folder, name, "64x48", 10, &options);
        let (starts, end) = starts_and_end(&path);
        let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-3;
        assert!(
            starts.len() == 10 && starts.iter().zip(&expected).all(close),
            "{starts:?}"
        );
        assert!(end > 1.16 && end < 1.5, "{end}");

        // What is written has the same times.
        let mut video = open(&path).unwrap();
        let times = video.times().unwrap().unwrap();
        assert!(!times.is_at_rate(25.0));
        let out = folder.path().join("out.mp4");
        let mut writer = VideoWriter::create_timed(&out, video.size(), times).unwrap();
        let (frames, _) = sequence(&mut video);
        for frame in &frames {
            writer.write(frame).unwrap();
        }
        let more = writer.write(&frames[0]).unwrap_err().to_string();
        assert!(
            more.ends_with("out.mp4: there is no time for frame 10"),
            "{more}"
        );
        writer.finish().unwrap();
        let (written, written_end) = starts_and_end(&out);
        assert!(
            written.len() == 10
                && written
                    .iter()
                    .zip(&starts)
                    .all(|(a, b)| (a - b).abs() < 1e-3),
            "{written:?} {starts:?}"
        );
        // Within the duration of the last frame.
        assert!((written_end - end).abs() < 0.3, "{written_end} {end}");
        let (shown, _) = sequence(&mut open(&out).unwrap());
        assert_eq!(shown.len(), 10);
        let difference = |(a, b): (&u8, &u8)| u64::from(a.abs_diff(*b));
        for (a, b) in frames.iter().zip(&shown) {
            let sum: u64 = a.iter().zip(b.iter()).map(difference).sum();
            assert!(sum / (64 * 48 * 3) < 8, "{sum}");
        }
    }
    let path = make(&folder, "constant.mp4", "64x48", 10, &[]);
    let times = open(&path).unwrap().times().unwrap().unwrap();
    assert!(
        times.is_at_rate(25.0) && times.end(9) == Some(0.4),
        "{times:?}"
    );
    // A stream without a container has no times of its own, or those of a rate.
    let path = make(&folder, "raw.h264", "64x48", 10, &[]);
    let times = open(&path).unwrap().times().unwrap();
    assert!(times.is_none_or(|times| times.is_at_rate(25.0)));
}

#[test]
#[ignore = "needs ffmpeg"]
fn no_other_file_and_no_connection_is_opened() {
    let folder = TempDir::new().unwrap();
    make(&folder, "secret.mp4", "64x48", 10, &[]);
    make(
        &folder,
        "frame1.png",
        "64x48",
        1,
        &["-c:v", "png", "-pix_fmt", "rgb24"],
    );
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let url = format!("http://{}/secret.mp4", server.local_addr().unwrap());
    let hls = |target: &str| {
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n")
    };
    let concat = |target: &str| format!("ffconcat version 1.0\nfile '{target}'\n");
    let mpd = |target: &str| {
        format!(
            "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" \
             mediaPresentationDuration=\"PT1S\" profiles=\"urn:mpeg:dash:profile:isoff-on-demand:2011\"><Period>\
             <AdaptationSet mimeType=\"video/mp4\"><Representation id=\"1\" bandwidth=\"9\">\
             <BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>"
        )
    };
    let sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n\
               a=rtpmap:96 H264/90000\n";
    let mut cases = vec![
        (sdp.to_owned(), ["s.sdp", "sdp.mp4"]),
        ("only words\n".repeat(99), ["a.txt", "text.mp4"]),
    ];
    for target in ["secret.mp4", &url] {
        cases.push((hls(target), ["p.m3u8", "hls.mp4"]));
        cases.push((concat(target), ["c.ffconcat", "concat.mp4"]));
        cases.push((mpd(target), ["d.mpd", "dash.mp4"]));
    }
    for (text, names) in cases {
        for name in names {
            let path = folder.path().join(name);
            fs::write(&path, &text).unwrap();
            let error = open(&path).unwrap_err();
            assert!(matches!(error, ImageError::Decoding { .. }));
            let error = error.to_string();
            let wanted = format!("{}: is not a video that ffmpeg reads: ", path.display());
            assert!(
                error.starts_with(&wanted) && !error.contains('\n'),
                "{error}"
            );
        }
    }
    let error = |name: &str| open(&folder.path().join(name)).unwrap_err().to_string();
    assert!(
        error("hls.mp4").contains("a playlist"),
        "{}",
        error("hls.mp4")
    );
    // An image is no video, and a pattern of names is no name.
    assert!(error("frame1.png").contains("not a video"));
    assert!(error("frame%d.png").contains("no such file"));
    let nobody = server.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
#[ignore = "needs ffmpeg"]
fn a_video_that_changes_its_size_is_scaled_to_the_first_frame() {
    let folder = TempDir::new().unwrap();
    let large = make(&folder, "large.ts", "64x48", 10, &[]);
    let small = make(&folder, "small.ts", "32x24", 10, &[]);
    let path = folder.path().join("both.ts");
    let both = [fs::read(large).unwrap(), fs::read(small).unwrap()].concat();
    fs::write(&path, both).unwrap();
    let (frames, _) = sequence(&mut open(&path).unwrap());
    assert_eq!(frames.len(), 20);
    check_order(&path, &frames, (0..20).rev());
    check_order(&path, &frames, [19, 12, 13, 5]);
}

#[test]
#[ignore = "needs ffmpeg"]
fn a_rotated_video_is_upright() {
    let folder = TempDir::new().unwrap();
    let path = make(&folder, "a.mp4", "64x48", 3, &[]);
    let lying = open(&path).unwrap().read(1).unwrap().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // The matrix of the track's header, from the identity to a quarter turn.
    let header = bytes.windows(4).position(|w| w == b"tkhd").unwrap();
    let matrix: Vec<u8> = [0, 1 << 16, 0, -1 << 16, 0]
        .iter()
        .flat_map(|v: &i32| v.to_be_bytes())
        .collect();
    bytes[header + 44..][..20].copy_from_slice(&matrix);
    fs::write(&path, bytes).unwrap();
    let mut video = open(&path).unwrap();
    assert_eq!(video.size(), (48, 64));
    let frame = video.read(1).unwrap().unwrap();
    // Turned before its colours are made, so equal up to rounding.
    let turned = image::imageops::rotate90(&lying);
    let difference = |(a, b): (&u8, &u8)| u32::from(a.abs_diff(*b));
    let sum: u32 = frame.iter().zip(turned.iter()).map(difference).sum();
    assert!(sum / (64 * 48 * 3) < 8, "{sum}");
}

#[test]
#[ignore = "needs ffmpeg"]
fn a_truncated_file_gives_its_frames_and_then_an_error() {
    let folder = TempDir::new().unwrap();
    for name in ["a.mp4", "a.mkv"] {
        let options: &[&str] = match name {
            "a.mp4" => &["-movflags", "+faststart"],
            _ => &[],
        };
        let path = make(&folder, name, "128x96", 50, options);
        let (frames, _) = sequence(&mut open(&path).unwrap());
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() * 6 / 10]).unwrap();
        let mut video = open(&path).unwrap();
        let (cut, end) = sequence(&mut video);
        assert!((15..45).contains(&cut.len()), "{} frames", cut.len());
        // The last frame may be the one that was cut.
        let whole = cut.len() - 2;
        assert!(cut[..whole] == frames[..whole]);
        let end = end.unwrap();
        let wanted = format!(
            "{}: the video is damaged or cut off; ffmpeg read {} frames: ",
            path.display(),
            cut.len()
        );
        assert!(end.starts_with(&wanted) && !end.contains('\n'), "{end}");
        assert_eq!(video.len_hint(), Some(cut.len()));
        assert!(video.read(3).unwrap().as_ref() == frames.get(3));
        assert_eq!(video.read(cut.len()).unwrap_err().to_string(), end);
    }
}

#[test]
#[ignore = "needs ffmpeg"]
fn damage_in_the_middle_is_told_at_the_end() {
    let folder = TempDir::new().unwrap();
    let path = make(&folder, "a.mp4", "128x96", 50, &[]);
    let (frames, _) = sequence(&mut open(&path).unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    for (i, byte) in bytes[middle..][..2000].iter_mut().enumerate() {
        *byte = (i * i % 251) as u8;
    }
    fs::write(&path, bytes).unwrap();
    let mut video = open(&path).unwrap();
    let (damaged, end) = sequence(&mut video);
    assert!(damaged.len() > 15 && damaged[..15] == frames[..15]);
    let end = end.unwrap();
    assert!(end.contains("a.mp4: the video is damaged"), "{end}");
}

#[test]
#[ignore = "needs ffmpeg"]
fn what_is_no_video_is_refused() {
    let folder = TempDir::new().unwrap();
    let error = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let text = open(&path).unwrap_err().to_string();
        let prefix = format!("{}: ", path.display());
        text.strip_prefix(&prefix).unwrap().to_owned()
    };
    assert_eq!(error("empty.mp4", b""), "the file is empty");
    assert_eq!(
        error("-odd: name.mp4", &[7; 1000]),
        "is not a video that ffmpeg reads: Invalid data found when processing input"
    );
    let path = make(&folder, "a.mp4", "64x48", 9, &[]);
    let bytes = fs::read(&path).unwrap();
    // Its table of contents is at the end.
    let text = error("cut.mp4", &bytes[..bytes.len() / 2]);
    assert!(
        text.starts_with("is not a video that ffmpeg reads: "),
        "{text}"
    );

    let sound = folder.path().join("sound.mka");
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i"])
        .args(["sine=duration=0.1"])
        .arg(&sound)
        .status();
    assert!(status.unwrap().success());
    let text = open(&sound).unwrap_err().to_string();
    assert!(text.ends_with("sound.mka: holds no video"), "{text}");

    let missing = open(&folder.path().join("none.mp4")).unwrap_err();
    assert!(missing.to_string().ends_with("no such file or folder"));
    assert!(matches!(open(folder.path()), Err(ImageError::Io { .. })));
    let limits = ImageLimits {
        max_pixels: 1000,
        ..ImageLimits::default()
    };
    let error = FfmpegVideo::open(&path, &limits).unwrap_err();
    assert!(matches!(error, ImageError::Limits { .. }), "{error}");
}

#[test]
#[ignore = "needs ffmpeg"]
fn a_written_video_is_read_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out.mp4");
    fs::write(&path, "replaced").unwrap();
    let image = |i: u32| {
        RgbImage::from_fn(63, 47, |x, y| {
            let edge = if x < 32 { 40 } else { 200 };
            Rgb([edge, (y * 3) as u8, (i * 20) as u8])
        })
    };
    let mut writer = VideoWriter::create(&path, (63, 47), 30000.0 / 1001.0).unwrap();
    for i in 0..10 {
        writer.write(&image(i)).unwrap();
    }
    let other = writer.write(&RgbImage::new(64, 48)).unwrap_err();
    assert!(
        other
            .to_string()
            .ends_with("the frame is 64x48, the video 63x47")
    );
    assert_eq!(fs::read(&path).unwrap(), b"replaced");
    writer.finish().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let mut video = open_video(&path, &ImageLimits::default()).unwrap();
    assert_eq!((video.size(), video.len_hint()), ((64, 48), Some(10)));
    assert!((video.frame_rate().unwrap() - 29.97).abs() < 0.001);
    let (frames, end) = sequence(video.as_mut());
    assert_eq!((frames.len(), end), (10, None));
    for (i, frame) in (0..).zip(&frames) {
        let wanted = image(i);
        for (x, y) in [(8, 8), (50, 8), (8, 40), (50, 40)] {
            for (a, b) in frame[(x, y)].0.iter().zip(wanted[(x, y)].0) {
                assert!(
                    a.abs_diff(b) < 12,
                    "frame {i}: {:?}, {:?}",
                    frame[(x, y)],
                    wanted[(x, y)]
                );
            }
        }
    }
}

#[test]
#[ignore = "needs ffmpeg"]
fn what_cannot_be_written_is_refused() {
    let folder = TempDir::new().unwrap();
    let create = |name: &str, size, rate| {
        let error = VideoWriter::create(folder.path().join(name), size, rate).unwrap_err();
        error.to_string()
    };
    let text = create("a.avi", (8, 8), 25.0);
    assert!(
        text.ends_with("a.avi: videos are saved as .mp4, not .avi"),
        "{text}"
    );
    let text = create("a.mp4", (0, 8), 25.0);
    assert!(
        text.ends_with("a.mp4: a video needs pixels, not 0x8"),
        "{text}"
    );
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(create("a.mp4", (8, 8), rate).contains("frames per second"));
    }
    assert!(create("none/a.mp4", (8, 8), 25.0).ends_with("no such file or folder"));
    assert!(create("", (8, 8), 25.0).ends_with("is a folder, not a file"));
    let writer = VideoWriter::create(folder.path().join("a.mp4"), (8, 8), 25.0).unwrap();
    let text = writer.finish().unwrap_err().to_string();
    assert!(
        text.ends_with("a.mp4: a video needs at least one frame"),
        "{text}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

fn grey(level: u8, width: u32) -> RgbImage {
    RgbImage::from_pixel(width, 6, Rgb([level; 3]))
}

#[test]
fn a_folder_is_a_video_in_natural_order() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, level) in [("10.png", 100), ("2.png", 20), ("9.PNG", 90), ("1.jpg", 10)] {
        let saved = folder.path().join(name.to_ascii_lowercase());
        save_image(&saved, &grey(level, 8)).unwrap();
        fs::rename(saved, at(name)).unwrap();
    }
    fs::write(at(".1.png"), "hidden").unwrap();
    fs::write(at("notes.txt"), "not an image").unwrap();
    fs::create_dir(at("3.png")).unwrap();
    let mut video = FrameFolder::open(folder.path(), &ImageLimits::default()).unwrap();
    assert_eq!((video.size(), video.len_hint()), ((8, 6), Some(4)));
    assert_eq!((video.frame_rate(), video.file_stem(3)), (None, Some("10")));
    assert_eq!(
        (video.frame_name(0), video.file_stem(4)),
        ("1".to_owned(), None)
    );
    for (i, level) in [(3, 100), (0, 10), (2, 90), (1, 20)] {
        assert_eq!(video.read(i).unwrap().unwrap()[(3, 3)][0], level);
    }
    assert_eq!(video.read(4).unwrap(), None);
    assert!(open_video(folder.path(), &ImageLimits::default()).is_ok());
}

#[test]
fn a_frame_of_another_size_is_an_error_of_its_own() {
    let folder = TempDir::new().unwrap();
    for (i, width) in [(0, 8), (1, 9), (2, 8)] {
        let path = folder.path().join(format!("{i:05}.png"));
        save_image(path, &grey(i, width)).unwrap();
    }
    let broken = folder.path().join("00003.png");
    fs::write(broken, "not an image").unwrap();
    let mut video = FrameFolder::open(folder.path(), &ImageLimits::default()).unwrap();
    let text = video.read(1).unwrap_err().to_string();
    let wanted = "00001.png: the frame is 9x6, the first frame (00000.png) 8x6; \
                  all must have one size";
    assert!(text.ends_with(wanted), "{text}");
    assert!(
        video
            .read(3)
            .unwrap_err()
            .to_string()
            .contains("00003.png: ")
    );
    assert!(video.read(2).unwrap().is_some());
}

#[test]
fn folders_that_are_no_videos_are_refused() {
    let folder = TempDir::new().unwrap();
    let error = || {
        let error = FrameFolder::open(folder.path(), &ImageLimits::default()).unwrap_err();
        error.to_string()
    };
    assert!(error().ends_with(": the folder holds no images"));
    save_image(folder.path().join("1.jpg"), &grey(1, 8)).unwrap();
    save_image(folder.path().join("1.png"), &grey(1, 8)).unwrap();
    let text = error();
    assert!(
        text.contains(": 1.jpg and 1.png would be one frame"),
        "{text}"
    );
    let missing = FrameFolder::open(folder.path().join("none"), &ImageLimits::default());
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .contains("cannot be listed: no such file")
    );
}
