//! Frames of the project's videos, read in any order.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use samara::{ImageLimits, RgbImage};
use samara_image::{FrameSource, open_video};

use crate::error::{Problem, Result};

/// Videos that are kept open.
const OPEN: usize = 2;

/// A file as the folder shows it, by which a file that was written since is noticed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seen {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Seen {
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let file = path.metadata().ok()?;
        Some(Self {
            bytes: file.len(),
            modified: file.modified().ok(),
        })
    }
}

/// A frame of a video as it lay there when it was read first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FramePlace {
    video: PathBuf,
    seen: Option<Seen>,
    /// Counted from 0.
    frame: u32,
}

impl FramePlace {
    pub(crate) fn new(video: &Path, frame: u32) -> Self {
        Self {
            video: video.to_path_buf(),
            seen: Seen::at(video),
            frame,
        }
    }

    /// Whether the video is still the same.
    pub(crate) fn is_same(&self) -> bool {
        self.seen.is_some() && Seen::at(&self.video) == self.seen
    }
}

struct OpenVideo {
    path: PathBuf,
    seen: Option<Seen>,
    source: Box<dyn FrameSource>,
}

/// Reads frames, of which those that follow each other are read quickly.
#[derive(Default)]
pub(crate) struct FrameReader {
    /// Those used last come last.
    open: Mutex<Vec<OpenVideo>>,
}

impl FrameReader {
    pub(crate) fn read(&self, place: &FramePlace, limits: &ImageLimits) -> Result<RgbImage> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.iter().position(|known| known.path == place.video);
        let known = known.map(|at| open.remove(at));
        let mut video = match known.filter(|known| known.seen == place.seen) {
            Some(video) => video,
            None => OpenVideo {
                path: place.video.clone(),
                seen: place.seen,
                source: open_source(&place.video, limits)?,
            },
        };
        let image = frame_of(&mut *video.source, place.frame);
        open.push(video);
        if open.len() > OPEN {
            open.remove(0);
        }
        image
    }
}

/// Opens a video.
pub(crate) fn open_source(path: &Path, limits: &ImageLimits) -> Result<Box<dyn FrameSource>> {
    open_video(path, limits).map_err(|error| Problem::of_file(&name_of(path), &error))
}

/// A frame, which must be there.
pub(crate) fn frame_of(source: &mut dyn FrameSource, frame: u32) -> Result<RgbImage> {
    let read = source.read(frame as usize);
    let image = read.map_err(|error| Problem::of_file("video", &error))?;
    image.ok_or_else(|| Problem::not_found(format!("the video has no frame {frame}")))
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}
