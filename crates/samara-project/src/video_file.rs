//! Files of videos.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use sha2::{Digest, Sha256};

/// How the files of videos end.
const EXTENSIONS: [&str; 10] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "wmv", "flv",
];
/// Whether a file is a video, by its name.
pub fn is_video(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|own| {
        EXTENSIONS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(own))
    })
}

/// By what a frame is known, as a picture is by the SHA-256 of its file: 64 hexadecimal digits.
pub fn frame_id(video: &str, frame: u32) -> String {
    hex::encode(Sha256::digest(format!("{video}/{frame}")))
}

/// SHA-256 of a file of any length, in hexadecimal.
///
/// # Errors
/// It cannot be read.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(sum.finalize())),
            count => sum.update(&buffer[..count]),
        }
    }
}

/// What the file of a video is.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoFile {
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// In pixels, upright.
    pub width: u32,
    /// In pixels, upright.
    pub height: u32,
    /// How many frames.
    pub frames: usize,
    /// Frames per second, on average, if that is known.
    pub rate: Option<f64>,
}
