//! Video parity at full size with the official package, every parameter random.
//!
//! ```sh
//! python tests/golden/video_references.py REFERENCES FRAMES --model sam2.1_tiny
//! SAMARA_VIDEO_REFERENCES=REFERENCES cargo test --release --workspace --test video_full_size -- --ignored --nocapture
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
use samara::image::{FrameSource, open_video};
use samara::{
    DeviceKind, Direction, FrameMasks, Limits, Mask, ObjectMask, Prompt, Segmenter, VideoFrame,
    VideoOptions, VideoSession,
};

const FRAMES: usize = 12;
/// Bars of the project: relative L2 of the logits of prompted and of tracked frames, and the largest
/// difference of the predicted IoU and of the object score.
const PROMPTED: f64 = 1e-3;
const TRACKED: f64 = 1e-2;
const SCORES: f64 = 1e-3;

#[test]
#[ignore = "needs the references that tests/golden/video_references.py makes"]
fn every_reference_in_the_folder() {
    let folder = std::env::var_os("SAMARA_VIDEO_REFERENCES");
    let folder = PathBuf::from(folder.expect("SAMARA_VIDEO_REFERENCES is not set"));
    let mut found = 0;
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
            println!("{name}");
            Run::new(&folder, model, &file, as_cond).check();
            found += 1;
        }
    }
    assert!(found > 0, "no references in {}", folder.display());
}

/// One clip with one model.
struct Run {
    segmenter: Segmenter,
    session: VideoSession,
    source: Box<dyn FrameSource>,
    expected: Vec<u8>,
}

impl Run {
    fn new(folder: &Path, model: &str, expected: &Path, as_cond: bool) -> Self {
        let checkpoint = folder.join(format!("{model}.pth"));
        let segmenter = Segmenter::load(checkpoint, DeviceKind::Cpu).unwrap();
        let options = VideoOptions {
            num_frames: Some(FRAMES),
            add_all_frames_to_correct_as_cond: as_cond,
            ..VideoOptions::default()
        };
        Self {
            session: VideoSession::new(&segmenter, options),
            segmenter,
            source: open_video(folder.join("frames"), &Limits::default()).unwrap(),
            expected: std::fs::read(expected).unwrap(),
        }
    }

    fn check(mut self) {
        let (width, height) = self.source.size();
        let (w, h) = (f64::from(width), f64::from(height));
        let at = |x: f64, y: f64| ((x * w).round_ties_even(), (y * h).round_ties_even());

        let ((x0, y0), (x1, y1)) = (at(0.2, 0.15), at(0.7, 0.8));
        self.prompt("box", 0, 1, &Prompt::bbox(x0, y0, x1, y1).unwrap());
        let mask = self.bytes("mask");
        let mask = Mask::from_fn(width, height, |x, y| mask[(y * width + x) as usize] != 0);
        self.prompt("mask", 2, 2, &Prompt::mask(mask));
        let (on, also, off) = (at(0.55, 0.45), at(0.3, 0.7), at(0.85, 0.1));
        let points = Prompt::point(on.0, on.1)
            .and_point(also.0, also.1)
            .and_background(off.0, off.1);
        self.prompt("points", 5, 2, &points);
        self.propagate("forward", FRAMES - 1, Direction::Forward);
        let (on, off) = (at(0.4, 0.6), at(0.6, 0.2));
        let correction = Prompt::point(on.0, on.1).and_background(off.0, off.1);
        self.prompt("correction", 6, 1, &correction);
        self.propagate("backward", 6, Direction::Backward);
    }

    fn frame(&mut self, index: usize) -> VideoFrame {
        let picture = self.source.read(index).unwrap().unwrap();
        self.segmenter.embed_frame(index, &picture).unwrap()
    }

    fn prompt(&mut self, step: &str, frame: usize, object: u32, prompt: &Prompt) {
        let frame = self.frame(frame);
        let found = self.session.prompt(&frame, object, prompt).unwrap();
        self.compare(step, frame.index(), &found, PROMPTED);
    }

    fn propagate(&mut self, step: &str, last: usize, direction: Direction) {
        let mut all: Vec<FrameMasks> = Vec::new();
        let start = std::time::Instant::now();
        let keep = |_: &VideoSession, masks| {
            all.push(masks);
            ControlFlow::Continue(())
        };
        let (session, source) = (&mut self.session, &mut *self.source);
        session
            .propagate(source, 0..=last, direction, keep)
            .unwrap();
        println!("  {:.2?} a frame", start.elapsed() / all.len() as u32);
        for masks in &all {
            for found in &masks.objects {
                self.compare(step, masks.index, found, TRACKED);
            }
        }
    }

    fn compare(&self, step: &str, frame: usize, found: &ObjectMask, bar: f64) {
        let name = format!("{step}.{frame}.{}", found.object);
        let logits = relative_l2(
            found.low_res_logits.values(),
            &self.floats(&format!("{name}.logits")),
        );
        let difference = |value: f32, what: &str| {
            f64::from((value - self.floats(&format!("{name}.{what}"))[0]).abs())
        };
        let iou = difference(found.predicted_iou.0, "iou");
        let score = difference(found.object_score, "score");
        println!(
            "  {name:<16} logits {logits:.1e}  iou {iou:.1e}  score {score:.1e}  {}",
            if found.is_present() { "" } else { "absent" }
        );
        assert!(logits <= bar && iou <= SCORES && score <= SCORES, "{name}");
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let file = SafeTensors::deserialize(&self.expected).unwrap();
        file.tensor(name).unwrap().data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let bytes = self.bytes(name);
        let words = bytes.as_chunks::<4>().0.iter();
        words.map(|b| f32::from_le_bytes(*b)).collect()
    }
}

fn relative_l2(found: &[f32], wanted: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let pairs = found.iter().zip(wanted);
    let error: f64 = pairs.map(|(a, b)| square(f64::from(a - b))).sum();
    let norm: f64 = wanted.iter().map(|&b| square(f64::from(b))).sum();
    (error / norm).sqrt()
}
