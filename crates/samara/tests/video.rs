//! Video sessions with the embedded model: what goes wrong leaves them as they were, what is saved goes
//! on as if it had not been, and long videos take no more memory than short ones.
#![cfg(all(feature = "embedded", feature = "video"))]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use samara::tensors::model::checkpoint::Checkpoint;
use samara::{
    DeviceKind, Direction, Error, FrameMasks, Mask, ObjectId, Progress, Prompt, Segmenter,
    VideoFrame, VideoOptions, VideoSession,
};
use samara_image::{Error as ImageError, FrameSource, RgbImage};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const SIZE: (u32, u32) = (96, 64);

/// A bright disc that goes right.
fn disc(frame: usize) -> Mask {
    let x0 = 24 + 3 * (frame as u32 % 16);
    Mask::from_fn(SIZE.0, SIZE.1, |x, y| {
        x.abs_diff(x0).pow(2) + y.abs_diff(22).pow(2) < 120
    })
}

/// A square that goes left below it.
fn square(frame: usize) -> Mask {
    let x0 = 76 - 3 * (frame as u32 % 16);
    Mask::from_fn(SIZE.0, SIZE.1, |x, y| {
        x.abs_diff(x0) < 9 && y.abs_diff(50) < 9
    })
}

fn photo(frame: usize) -> RgbImage {
    let (disc, square) = (disc(frame), square(frame));
    RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| {
        let texture = ((x * 7 + y * 13) % 31) as u8;
        if disc.get(x, y) {
            [240, 220, 40].into()
        } else if square.get(x, y) {
            [60, 140, 250].into()
        } else {
            [texture, texture + 8, texture / 2].into()
        }
    })
}

/// As many frames as it says.
struct Frames(usize);

impl FrameSource for Frames {
    fn size(&self) -> (u32, u32) {
        SIZE
    }

    fn len_hint(&self) -> Option<usize> {
        Some(self.0)
    }

    fn frame_rate(&self) -> Option<f64> {
        None
    }

    fn read(&mut self, index: usize) -> Result<Option<RgbImage>, ImageError> {
        Ok((index < self.0).then(|| photo(index)))
    }
}

fn lite() -> Segmenter {
    Segmenter::embedded(DeviceKind::Cpu).unwrap()
}

fn frame(segmenter: &Segmenter, index: usize) -> VideoFrame {
    segmenter.embed_frame(index, &photo(index)).unwrap()
}

fn on_disc() -> Prompt {
    Prompt::point(24.0, 22.0)
}

fn on_square() -> Prompt {
    Prompt::bbox(66.0, 40.0, 86.0, 60.0).unwrap()
}

/// A session that follows the disc as object 1 and the square as object 2 from frame 0 on.
fn started(segmenter: &Segmenter) -> VideoSession {
    let mut session = VideoSession::new(segmenter, VideoOptions::default());
    let first = frame(segmenter, 0);
    session.prompt(&first, 1, &on_disc()).unwrap();
    session.prompt(&first, 2, &on_square()).unwrap();
    session
}

fn track(session: &mut VideoSession, index: usize) -> FrameMasks {
    let frame = frame(session.segmenter(), index);
    session.track(&frame, Direction::Forward).unwrap()
}

fn ids(masks: &FrameMasks) -> Vec<ObjectId> {
    masks.objects.iter().map(|found| found.object).collect()
}

/// What the error says, which is one line about the video.
fn told<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    assert!(
        matches!(error, Error::Video(_) | Error::Saved { .. }),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn objects_come_and_go_in_the_middle_of_a_video() {
    let segmenter = lite();
    let mut session = VideoSession::new(&segmenter, VideoOptions::default());
    let alone = session.prompt(&frame(&segmenter, 0), 7, &on_disc());
    assert!(alone.unwrap().mask.iou(&disc(0)) > 0.5);
    assert_eq!(ids(&track(&mut session, 0)), [7]);
    assert_eq!(ids(&track(&mut session, 1)), [7]);

    let second = frame(&segmenter, 2);
    let mask = Prompt::mask(square(2));
    let found = session.prompt(&second, 3, &mask).unwrap();
    assert!(found.mask.iou(&square(2)) > 0.9);
    assert_eq!(found.predicted_iou.0, 1.0);
    assert_eq!(ids(&track(&mut session, 2)), [3, 7]);
    assert_eq!(ids(&track(&mut session, 3)), [3, 7]);

    // What is found of one object does not depend on the other.
    let mut other = session.clone();
    other.remove(3).unwrap();
    let (both, one) = (track(&mut session, 4), track(&mut other, 4));
    assert_eq!(ids(&one), [7]);
    assert_eq!(one.objects[0], both.objects[1]);

    session.remove(7).unwrap();
    assert!(session.objects().eq([3]));
    assert_eq!(ids(&track(&mut session, 5)), [3]);
    session
        .prompt(&frame(&segmenter, 6), 7, &Prompt::mask(disc(6)))
        .unwrap();
    let back = track(&mut session, 6);
    assert_eq!(ids(&back), [3, 7]);
    assert!(back.objects[1].mask.iou(&disc(6)) > 0.9);
}

#[test]
fn an_object_is_removed_once() {
    let segmenter = lite();
    let mut session = started(&segmenter);
    track(&mut session, 0);
    session.remove(1).unwrap();
    assert_eq!(told(session.remove(1)), "there is no object 1");
    assert_eq!(told(session.remove(9)), "there is no object 9");
    assert_eq!(ids(&track(&mut session, 1)), [2]);
    session.remove(2).unwrap();
    let next = frame(&segmenter, 2);
    let why = told(session.track(&next, Direction::Forward));
    assert!(why.contains("no object to follow"), "{why}");
    session.prompt(&next, 1, &Prompt::mask(disc(2))).unwrap();
    assert_eq!(ids(&track(&mut session, 2)), [1]);
}

#[test]
fn a_prompt_is_taken_back_and_its_mask_stays() {
    let segmenter = lite();
    let mut session = started(&segmenter);
    let kept = track(&mut session, 1).objects[0].clone();
    assert_eq!(session.known(1, 1).unwrap(), Some(kept.clone()));
    assert_eq!(session.known(2, 1).unwrap(), None);
    let first = session.known(0, 1).unwrap().unwrap();

    session.clear_prompt(0, 1).unwrap();
    session.clear_prompt(5, 1).unwrap();
    assert_eq!(session.known(0, 1).unwrap(), Some(first));
    assert_eq!(
        told(session.track(&frame(&segmenter, 2), Direction::Forward)),
        "object 1 has no prompt: give it one, or remove it"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.safetensors");
    session.save(&path).unwrap();
    let mut session = VideoSession::load(&path, &segmenter).unwrap();
    assert_eq!(session.known(1, 1).unwrap(), Some(kept));
    session
        .prompt(&frame(&segmenter, 0), 1, &on_disc())
        .unwrap();
    assert!(track(&mut session, 2).objects[0].mask.iou(&disc(2)) > 0.8);
    assert_eq!(told(session.known(0, 7)), "there is no object 7");
    assert_eq!(told(session.clear_prompt(0, 7)), "there is no object 7");
}

#[test]
fn frames_of_another_size_are_refused() {
    let segmenter = lite();
    let mut session = started(&segmenter);
    track(&mut session, 0);
    let mut untouched = session.clone();
    let wide = segmenter.embed_frame(1, &RgbImage::new(97, 64)).unwrap();
    let why = told(session.track(&wide, Direction::Forward));
    assert_eq!(why, "frame 1 has 97×64 pixels, the video has 96×64");
    told(session.prompt(&wide, 1, &Prompt::point(5.0, 5.0)));
    assert_eq!(track(&mut session, 1), track(&mut untouched, 1));
}

#[test]
fn nothing_can_be_tracked_without_an_object() {
    let segmenter = lite();
    let mut session = VideoSession::new(&segmenter, VideoOptions::default());
    let first = frame(&segmenter, 0);
    let why = told(session.track(&first, Direction::Forward));
    assert!(why.contains("no object to follow"), "{why}");
    let outside = session.prompt(&first, 1, &Prompt::point(96.5, 5.0));
    assert!(matches!(outside, Err(Error::Prompt(_))), "{outside:?}");
    assert_eq!(session.objects().count(), 0);
    assert_eq!(session.position(), None);
    session.prompt(&first, 1, &on_disc()).unwrap();
    assert_eq!(ids(&track(&mut session, 0)), [1]);

    let options = VideoOptions::default().with_num_frames(3);
    let mut short = VideoSession::new(&segmenter, options);
    let why = told(short.prompt(&frame(&segmenter, 3), 1, &on_disc()));
    assert_eq!(why, "there is no frame 3: the video has 3");
}

#[test]
fn a_saved_session_goes_on_as_if_it_had_not_been() {
    let segmenter = lite();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.safetensors");
    let mut session = started(&segmenter);
    for index in 0..4 {
        track(&mut session, index);
    }
    // One answer that tracking has not taken up yet.
    let correction = Prompt::point(36.0, 22.0).with_negative_point(5.0, 60.0);
    session
        .prompt(&frame(&segmenter, 4), 1, &correction)
        .unwrap();
    session.save(&path).unwrap();
    let mut loaded = VideoSession::load(&path, &segmenter).unwrap();
    assert_eq!(loaded.position(), session.position());
    assert_eq!(loaded.options(), session.options());
    assert!(loaded.objects().eq([1, 2]));
    for index in 4..8 {
        assert_eq!(
            track(&mut loaded, index),
            track(&mut session, index),
            "{index}"
        );
    }
    for index in (0..3).rev() {
        let frame = frame(&segmenter, index);
        let back = loaded.track(&frame, Direction::Backward).unwrap();
        assert_eq!(back, session.track(&frame, Direction::Backward).unwrap());
    }

    let other = tiny();
    let why = told(VideoSession::load(&path, &other));
    assert!(why.contains("of other weights"), "{why}");
    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let why = told(VideoSession::load(&path, &segmenter));
        assert!(why.contains("session.safetensors"), "{why}");
    }
    let why = told(VideoSession::load(folder.path().join("none"), &segmenter));
    assert!(why.contains("none"), "{why}");
}

/// A saved session of the small SAM 2 that has seen frames 0 to 2, changed by `change`, with the checksum that it
/// should have.
fn forged(path: &Path, change: impl FnOnce(&mut Value, &mut Tensors)) -> Segmenter {
    let golden = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("../samara-model/tests/golden/sam2_video.safetensors");
    let segmenter = Segmenter::load(golden, DeviceKind::Cpu).unwrap();
    let mut session = VideoSession::new(&segmenter, VideoOptions::default());
    let first = frame(&segmenter, 0);
    session.prompt(&first, 1, &Prompt::mask(disc(0))).unwrap();
    (0..3).for_each(|index| drop(track(&mut session, index)));
    session.save(path).unwrap();

    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    let mut saved: Value = serde_json::from_str(&metadata["samara.video_session"]).unwrap();
    let tensor = |(name, view): (&str, TensorView<'_>)| {
        (name.to_owned(), (view.dtype(), view.data().to_vec()))
    };
    let mut tensors: Tensors = file.iter().map(tensor).collect();
    change(&mut saved, &mut tensors);
    let saved = saved.to_string();
    let mut sum = Sha256::new_with_prefix(&saved);
    tensors.values().for_each(|(_, data)| sum.update(data));
    metadata.insert("samara.checksum".into(), hex::encode(sum.finalize()));
    metadata.insert("samara.video_session".into(), saved);
    let views = tensors.iter().map(|(name, (dtype, data))| {
        let values = data.len() / (dtype.bitsize() / 8);
        (name, TensorView::new(*dtype, vec![values], data).unwrap())
    });
    let file = safetensors::serialize(views, Some(metadata)).unwrap();
    std::fs::write(path, file).unwrap();
    segmenter
}

type Tensors = BTreeMap<String, (Dtype, Vec<u8>)>;
type Change = fn(&mut Value, &mut Tensors);

/// Whoever can write a file can make its checksum right.
#[test]
fn sessions_that_no_tracking_makes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.safetensors");
    let segmenter = forged(&path, |_, _| {});
    let mut session = VideoSession::load(&path, &segmenter).unwrap();
    assert_eq!(track(&mut session, 3).objects.len(), 1);

    let changes: [(&str, Change); 5] = [
        ("1.2.tracked.memory has 2 values, not 1024", |_, tensors| {
            tensors.get_mut("1.2.tracked.memory").unwrap().1.truncate(4);
        }),
        (
            "1.0.conditioning.pointer has 1 values, not 32",
            |_, tensors| {
                let pointer = tensors.get_mut("1.0.conditioning.pointer").unwrap();
                pointer.1.truncate(4);
            },
        ),
        (
            "frame 18446744073709551615 is none of a video",
            |saved, _| {
                saved["position"]["frame"] = json!(usize::MAX);
            },
        ),
        (
            "frame 18446744073709551615 is none of a video",
            |saved, _| {
                saved["objects"]["1"]["visited"][0]["last"] = json!(usize::MAX);
            },
        ),
        ("frame 4294967296 is none of a video", |saved, _| {
            saved["objects"]["1"]["outputs"][1]["frame"] = json!(1_u64 << 32);
        }),
    ];
    for (expected, change) in changes {
        let segmenter = forged(&path, change);
        let why = told(VideoSession::load(&path, &segmenter));
        assert!(why.ends_with(expected), "{why}, not {expected}");
    }
}

#[test]
fn propagation_stops_when_told_and_goes_on() {
    let segmenter = lite();
    let mut whole: Vec<FrameMasks> = Vec::new();
    let mut session = started(&segmenter);
    let keep = |_: &VideoSession, masks| {
        whole.push(masks);
        ControlFlow::Continue(())
    };
    let done = session.propagate(&mut Frames(8), 0..=100, Direction::Forward, keep);
    assert_eq!(done.unwrap(), Progress::Complete);
    assert!(whole.iter().map(|masks| masks.index).eq(0..8));

    let mut parts: Vec<FrameMasks> = Vec::new();
    let mut session = started(&segmenter);
    let first = session.propagate(&mut Frames(8), 0..=7, Direction::Forward, |now, masks| {
        assert_eq!(now.position().unwrap().frame, masks.index);
        let stop = masks.index == 3;
        parts.push(masks);
        if stop {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    assert_eq!(first.unwrap(), Progress::Stopped(3));
    let rest = session.propagate(&mut Frames(8), 4..=7, Direction::Forward, |_, masks| {
        parts.push(masks);
        ControlFlow::Continue(())
    });
    assert_eq!(rest.unwrap(), Progress::Complete);
    assert!(parts == whole);
}

/// A model of random weights that is done with a frame at once.
fn tiny() -> Segmenter {
    let golden = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("../samara-model/tests/golden/mobile_sam.pth");
    let config = Checkpoint::open(golden).unwrap().config().unwrap();
    let config = config.with_input_side(64).unwrap();
    let device = samara::tensors::open_device(DeviceKind::Cpu).unwrap();
    samara::tensors::segmenter(config.init(&device), config, &device)
}

/// Memory that this process has now, in kB.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let mut words = line.unwrap().split_whitespace();
    words.find_map(|word| word.parse().ok()).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_long_stream_takes_no_more_memory() {
    // A process of its own, for other tests take memory at the same time.
    const NAME: &str = "a_long_stream_takes_no_more_memory";
    const CHILD: &str = "SAMARA_TEST_LONG_STREAM";
    if std::env::var_os(CHILD).is_none() {
        let program = std::env::current_exe().unwrap();
        let mut child = std::process::Command::new(program);
        let status = child.args(["--exact", NAME]).env(CHILD, "1").status();
        assert!(status.unwrap().success());
        return;
    }
    let segmenter = tiny();
    let mut session = VideoSession::new(&segmenter, VideoOptions::default());
    let first = frame(&segmenter, 0);
    session.prompt(&first, 1, &Prompt::mask(disc(0))).unwrap();
    session.prompt(&first, 2, &Prompt::mask(square(0))).unwrap();
    let (mut before, mut frames) = (0, 0);
    let found = |now: &VideoSession, masks: FrameMasks| {
        frames += 1;
        if masks.index == 50 {
            before = resident();
        }
        assert!(now.objects().count() == 2 && masks.objects.len() == 2);
        ControlFlow::Continue(())
    };
    let source = &mut Frames(2000);
    let done = session.propagate(source, 0..=usize::MAX, Direction::Forward, found);
    assert_eq!(done.unwrap(), Progress::Complete);
    assert_eq!(frames, 2000);
    let grown = resident().saturating_sub(before);
    assert!(grown < 30_000, "{grown} kB more than after 50 frames");
    // Nor is much of it saved.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.safetensors");
    session.save(&path).unwrap();
    let bytes = std::fs::metadata(path).unwrap().len();
    assert!(bytes < 1 << 20, "{bytes}");
}
