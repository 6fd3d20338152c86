//! Where the frames of a video come from, and where an overlay video goes.
//!
//! A video is a folder of images, or any file that ffmpeg reads. ffmpeg is not linked in: it runs
//! as a child process, so only video files need it.

mod ffmpeg;
mod folder;
mod probe;
mod process;
mod stream;
mod timed;
mod times;
mod writer;

use std::path::Path;

use image::RgbImage;

use crate::error::Error;
use crate::limits::ImageLimits;

pub use ffmpeg::FfmpegVideo;
pub use folder::FrameFolder;
pub use times::FrameTimes;
pub use writer::VideoWriter;

/// Frames by number, from 0, all of one size.
pub trait FrameSource: Send {
    /// Width and height of every frame, in pixels, upright.
    fn size(&self) -> (u32, u32);

    /// How many frames there are, if that is known. Exact for a folder and once the end was read;
    /// before that what the file says, which may be wrong by some frames: only
    /// [`read`](Self::read) knows the end.
    fn len_hint(&self) -> Option<usize>;

    /// Frames per second, on average; a folder has none.
    fn frame_rate(&self) -> Option<f64>;

    /// When each frame is shown; `None` where that is not known, as of a folder. This may read the whole
    /// video once more.
    ///
    /// # Errors
    /// A program that is needed for that cannot be started.
    fn times(&self) -> Result<Option<FrameTimes>, Error> {
        Ok(None)
    }

    /// What results about frame `index` are called: its file's name without extension, or its
    /// number with five digits.
    fn frame_name(&self, index: usize) -> String {
        format!("{index:05}")
    }

    /// Frame `index`, in any order; `None` past the end.
    ///
    /// # Errors
    /// One line naming the file: the frame cannot be read, is damaged, or is of another size. Other
    /// frames can still be read.
    fn read(&mut self, index: usize) -> Result<Option<RgbImage>, Error>;
}

/// Opens a folder of images as [`FrameFolder`], anything else as [`FfmpegVideo`].
///
/// # Errors
/// As [`FrameFolder::open`] and [`FfmpegVideo::open`].
pub fn open_video(
    path: impl AsRef<Path>,
    limits: &ImageLimits,
) -> Result<Box<dyn FrameSource>, Error> {
    let path = path.as_ref();
    if path.is_dir() {
        return Ok(Box::new(FrameFolder::open(path, limits)?));
    }
    Ok(Box::new(FfmpegVideo::open(path, limits)?))
}
