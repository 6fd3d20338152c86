//! Saved video sessions, and the frame that follows.
#![no_main]

use std::sync::LazyLock;

use safetensors::SafeTensors;
use samara::{DeviceKind, Direction, Prompt, RgbImage, Segmenter, VideoFrame, VideoSession};
use samara_fuzz::{golden, patched, told, with_file};
use sha2::{Digest, Sha256};

/// A model, and a frame as it sees it.
struct Model {
    segmenter: Segmenter,
    frame: VideoFrame,
}

impl Model {
    fn new(name: &str) -> Self {
        let segmenter = Segmenter::load(golden(name), DeviceKind::Cpu);
        let segmenter = segmenter.expect("the golden model loads");
        let image = RgbImage::from_fn(64, 48, |x, y| [x as u8 * 3, y as u8 * 5, 90].into());
        let frame = segmenter.embed_frame(3, &image).expect("it is a frame");
        Self { segmenter, frame }
    }
}

/// One that carries masks from frame to frame, and one that remembers.
static MODELS: LazyLock<[Model; 2]> = LazyLock::new(|| {
    [
        Model::new("sam_vit.pth"),
        Model::new("sam2_video.safetensors"),
    ]
});

/// The checksum that a session with this content has.
fn checksum(file: &[u8]) -> Option<String> {
    let (_, header) = SafeTensors::read_metadata(file).ok()?;
    let tensors = SafeTensors::deserialize(file).ok()?;
    let session = header.metadata().as_ref()?.get("samara.video_session")?;
    let mut sum = Sha256::new_with_prefix(session);
    let mut names = header.offset_keys();
    names.sort();
    for name in names {
        sum.update(tensors.tensor(&name).ok()?.data());
    }
    Some(hex::encode(sum.finalize()))
}

samara_fuzz::target!(|bytes| {
    for Model { segmenter, frame } in &*MODELS {
        let load = |file: &[u8]| {
            with_file(file, "session", |path| {
                told(VideoSession::load(path, segmenter))
            })
        };
        load(bytes);
        let fingerprint = segmenter.fingerprint().expect("weights are there");
        let file = patched(bytes.to_vec(), "samara.fingerprint", fingerprint);
        let Some(sum) = checksum(&file) else {
            return;
        };
        // Tracking takes long beside the rest.
        if let Some(mut session) = load(&patched(file, "samara.checksum", &sum))
            && crc32fast::hash(bytes) % 16 == 0
        {
            told(session.track(frame, Direction::Forward));
            told(session.track(frame, Direction::Backward));
            told(session.prompt(frame, 1, &Prompt::point(20.0, 20.0)));
            told(session.track(frame, Direction::Forward));
        }
    }
});
