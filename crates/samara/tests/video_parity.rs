//! Video parity with the official package, every parameter random: a small model, and on request
//! those of released sizes.
//!
//! ```sh
//! python tests/golden/video_references.py REFERENCES FRAMES --model sam2.1_tiny
//! SAMARA_VIDEO_REFERENCES=REFERENCES cargo test --release --workspace --test video_parity -- --ignored --nocapture
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints what it measured"
)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use samara::{
    DeviceKind, Direction, FrameMasks, ImageLimits, Mask, ObjectMask, Prompt, Segmenter,
    VideoFrame, VideoOptions, VideoSession,
};
use samara_image::{Error as ImageError, FrameSource, RgbImage, open_video};

/// Bars of the project: relative L2 of the logits of prompted and of tracked frames, and the largest
/// difference of the predicted IoU and of the object score.
const PROMPTED: f64 = 1e-3;
const TRACKED: f64 = 1e-2;
const SCORES: f32 = 1e-3;

#[test]
fn a_small_model_follows_as_the_official_one() {
    let golden = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("../samara-model/tests/golden");
    let expected = Expected::read(&golden.join("sam2_video.expected.safetensors"));
    let frames = expected.bytes("frames");
    let frames = frames.chunks_exact(64 * 48 * 3).map(|frame| {
        let frame = RgbImage::from_raw(64, 48, frame.to_vec());
        frame.unwrap()
    });
    let source = Frames(frames.collect());
    let checkpoint = golden.join("sam2_video.safetensors");
    let found = Run::new(&checkpoint, Box::new(source), expected, true).check();
    // Objects come and go in this one.
    let (mut there, mut gone) = (0, 0);
    for (name, error, score) in found {
        assert!(error <= 1e-4, "{name}: relative L2 error {error:e}");
        there += usize::from(score > 0.0);
        gone += usize::from(score <= 0.0);
    }
    assert!(there > 5 && gone > 5, "{there} there, {gone} gone");
}

#[test]
#[ignore = "needs the references that tests/golden/video_references.py makes"]
fn every_reference_in_the_folder() {
    let folder = std::env::var_os("SAMARA_VIDEO_REFERENCES");
    let folder = PathBuf::from(folder.expect("SAMARA_VIDEO_REFERENCES is not set"));
    let mut count = 0;
    for (kind, as_cond) in [("video", true), ("video-official", false)] {
        let suffix = format!(".{kind}.safetensors");
        let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_str().unwrap().ends_with(&suffix))
            .collect();
        files.sort();
        for file in files {
            let name = file.file_name().unwrap().to_str().unwrap();
            let model = name.strip_suffix(&suffix).unwrap();
            let source = open_video(folder.join("frames"), &ImageLimits::default()).unwrap();
            let checkpoint = folder.join(format!("{model}.pth"));
            let start = std::time::Instant::now();
            let run = Run::new(&checkpoint, source, Expected::read(&file), as_cond);
            let found = run.check();
            println!("{name}, {:.0?}", start.elapsed());
            for (name, error, score) in found {
                let gone = if score > 0.0 { "" } else { "absent" };
                println!("  {name:<16} {error:.1e}  {gone}");
                let prompted = !name.starts_with("forward") && !name.starts_with("backward");
                assert!(error <= if prompted { PROMPTED } else { TRACKED }, "{name}");
            }
            count += 1;
        }
    }
    assert!(count > 0, "no references in {}", folder.display());
}

/// Frames in memory.
struct Frames(Vec<RgbImage>);

impl FrameSource for Frames {
    fn size(&self) -> (u32, u32) {
        self.0[0].dimensions()
    }

    fn len_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }

    fn frame_rate(&self) -> Option<f64> {
        None
    }

    fn read(&mut self, index: usize) -> Result<Option<RgbImage>, ImageError> {
        Ok(self.0.get(index).cloned())
    }
}

/// What the official predictor answers.
struct Expected(Vec<u8>);

impl Expected {
    fn read(path: &Path) -> Self {
        Self(std::fs::read(path).unwrap())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        file.tensor(name).unwrap().data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let bytes = self.bytes(name);
        let words = bytes.as_chunks::<4>().0.iter();
        words.map(|b| f32::from_le_bytes(*b)).collect()
    }
}

/// One clip with one model.
struct Run {
    segmenter: Segmenter,
    session: VideoSession,
    source: Box<dyn FrameSource>,
    expected: Expected,
    /// Every answer's name, the error of its logits, and its object score.
    found: Vec<(String, f64, f32)>,
}

impl Run {
    fn new(
        checkpoint: &Path,
        source: Box<dyn FrameSource>,
        expected: Expected,
        as_cond: bool,
    ) -> Self {
        let segmenter = Segmenter::load(checkpoint, DeviceKind::Cpu).unwrap();
        let mut options = VideoOptions::default().with_all_corrections_as_cond(as_cond);
        options.num_frames = source.len_hint();
        Self {
            session: VideoSession::new(&segmenter, options),
            segmenter,
            source,
            expected,
            found: Vec::new(),
        }
    }

    /// The scenario of `video_references.py`.
    fn check(mut self) -> Vec<(String, f64, f32)> {
        let (width, height) = self.source.size();
        let last = self.source.len_hint().unwrap() - 1;
        let (w, h) = (f64::from(width), f64::from(height));
        let at = |x: f64, y: f64| ((x * w).round_ties_even(), (y * h).round_ties_even());

        let ((x0, y0), (x1, y1)) = (at(0.2, 0.15), at(0.7, 0.8));
        self.prompt("box", 0, 1, &Prompt::bbox(x0, y0, x1, y1).unwrap());
        let mask = self.expected.bytes("mask");
        let mask = Mask::from_fn(width, height, |x, y| mask[(y * width + x) as usize] != 0);
        self.prompt("mask", 2, 2, &Prompt::mask(mask));
        let (on, also, off) = (at(0.55, 0.45), at(0.3, 0.7), at(0.85, 0.1));
        let points = Prompt::point(on.0, on.1)
            .with_point(also.0, also.1)
            .with_negative_point(off.0, off.1);
        self.prompt("points", 5, 2, &points);
        self.propagate("forward", last, Direction::Forward);
        let (on, off) = (at(0.4, 0.6), at(0.6, 0.2));
        let correction = Prompt::point(on.0, on.1).with_negative_point(off.0, off.1);
        self.prompt("correction", 6, 1, &correction);
        self.propagate("backward", 6, Direction::Backward);
        self.found
    }

    fn frame(&mut self, index: usize) -> VideoFrame {
        let image = self.source.read(index).unwrap().unwrap();
        self.segmenter.embed_frame(index, &image).unwrap()
    }

    fn prompt(&mut self, step: &str, frame: usize, object: u32, prompt: &Prompt) {
        let frame = self.frame(frame);
        let found = self.session.prompt(&frame, object, prompt).unwrap();
        self.compare(step, frame.index(), &found);
    }

    fn propagate(&mut self, step: &str, last: usize, direction: Direction) {
        let mut all: Vec<FrameMasks> = Vec::new();
        let keep = |_: &VideoSession, masks| {
            all.push(masks);
            ControlFlow::Continue(())
        };
        let (session, source) = (&mut self.session, &mut *self.source);
        session
            .propagate(source, 0..=last, direction, keep)
            .unwrap();
        assert_eq!(all.len(), last + 1);
        for masks in &all {
            for found in &masks.objects {
                self.compare(step, masks.index, found);
            }
        }
    }

    fn compare(&mut self, step: &str, frame: usize, found: &ObjectMask) {
        let name = format!("{step}.{frame}.{}", found.object);
        let expected = |what: &str| self.expected.floats(&format!("{name}.{what}"));
        let error = relative_l2(found.low_res_logits.values(), &expected("logits"));
        let near = |value: f32, what: &str| (value - expected(what)[0]).abs() <= SCORES;
        assert!(near(found.predicted_iou.0, "iou"), "{name}");
        assert!(near(found.object_score, "score"), "{name}");
        self.found.push((name, error, found.object_score));
    }
}

fn relative_l2(found: &[f32], wanted: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let pairs = found.iter().zip(wanted);
    let error: f64 = pairs.map(|(a, b)| square(f64::from(a - b))).sum();
    let norm: f64 = wanted.iter().map(|&b| square(f64::from(b))).sum();
    (error / norm).sqrt()
}
