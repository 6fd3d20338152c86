//! Where the frames of a video session come from.

use std::fs;
use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use samara::{ImageLimits, RgbImage};
use samara_image::{FrameSource, open_video, read_image};
use serde::{Deserialize, Serialize};

use crate::error::{Problem, Result};

/// Where the frames come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// A file or folder below the root.
    Path(PathBuf),
    /// A file that was uploaded, in the session's folder.
    Upload,
    /// Frames that are pushed one by one.
    Frames,
}

impl Source {
    /// Opens the frames of a session in `folder`; what a path names must lie below `root`.
    pub(crate) fn open(
        &self,
        folder: &Path,
        root: Option<&Path>,
        limits: &ImageLimits,
    ) -> Result<Box<dyn FrameSource>> {
        let opened = match self {
            Self::Path(path) => {
                check_below(path, root)?;
                open_video(path, limits)
            }
            Self::Upload => open_video(upload_path(folder), limits),
            Self::Frames => {
                let first = read_image(frame_path(folder, 0), limits);
                let missing = |_| Problem::conflict("the session has no frame yet; push one");
                return Ok(Box::new(PushedFrames {
                    folder: folder.to_path_buf(),
                    limits: *limits,
                    size: first.map_err(missing)?.dimensions(),
                }));
            }
        };
        opened.map_err(|error| Problem::of_file("video", &error))
    }

    /// Whether it is a folder of images, of which the number is known.
    pub(crate) fn is_folder(&self) -> bool {
        matches!(self, Self::Path(path) if path.is_dir())
    }
}

/// Refuses a video that is not below the root, or a folder with links that lead out of it.
fn check_below(path: &Path, root: Option<&Path>) -> Result<()> {
    let gone = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            "there is no such video below the root",
        )
    };
    let root = root.ok_or_else(gone)?;
    let inside = |path: &Path| path.canonicalize().is_ok_and(|path| path.starts_with(root));
    if !inside(path) {
        return Err(gone());
    }
    if path.is_dir() {
        let entries = fs::read_dir(path).map_err(|_| gone())?;
        if entries
            .filter_map(std::io::Result::ok)
            .any(|entry| !inside(&entry.path()))
        {
            return Err(gone());
        }
    }
    Ok(())
}

/// The file that was uploaded.
pub(crate) fn upload_path(folder: &Path) -> PathBuf {
    folder.join("upload")
}

/// The folder of frames that are pushed.
pub(crate) fn frames_path(folder: &Path) -> PathBuf {
    folder.join("frames")
}

/// A frame that was pushed.
pub(crate) fn frame_path(folder: &Path, index: usize) -> PathBuf {
    frames_path(folder).join(format!("{index:06}"))
}

/// Pushed frames, as a folder that grows.
struct PushedFrames {
    folder: PathBuf,
    limits: ImageLimits,
    size: (u32, u32),
}

impl FrameSource for PushedFrames {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn len_hint(&self) -> Option<usize> {
        None
    }

    fn frame_rate(&self) -> Option<f64> {
        None
    }

    fn read(&mut self, index: usize) -> Result<Option<RgbImage>, samara_image::Error> {
        let path = frame_path(&self.folder, index);
        if !path.exists() {
            return Ok(None);
        }
        read_image(path, &self.limits).map(Some)
    }
}
