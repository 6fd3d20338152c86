//! Tracking through the frames of a source.

use std::ops::{ControlFlow, RangeInclusive};

use samara_image::FrameSource;

use super::{Direction, FrameMasks, VideoFrame, VideoSession};
use crate::{Error, Result, Segmenter};

/// How far [`VideoSession::propagate`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Through the whole range, or to the end of the video.
    Complete,
    /// The caller stopped it after this frame.
    Stopped(usize),
}

impl VideoSession {
    /// Tracks all objects through a range of frames, in the order of `direction`, and hands each frame
    /// over, with the session after it. The next frame is read and embedded while the current one is tracked. Stops at the end of
    /// the video, or when `found` says so; the session goes on from there.
    ///
    /// # Errors
    /// As [`track`](Self::track); or a frame cannot be read. What was found before has been handed over,
    /// and the session remains usable.
    pub fn propagate(
        &mut self,
        source: &mut dyn FrameSource,
        frames: RangeInclusive<usize>,
        direction: Direction,
        mut found: impl FnMut(&Self, FrameMasks) -> ControlFlow<()>,
    ) -> Result<Progress> {
        let segmenter = self.segmenter.clone();
        let threads = segmenter.threads();
        let mut order: Box<dyn Iterator<Item = usize> + Send> = match direction {
            Direction::Forward => Box::new(frames),
            Direction::Backward => Box::new(frames.rev()),
        };
        let mut read_next = || match order.next() {
            Some(index) => read(&segmenter, source, index),
            None => Ok(None),
        };
        let mut current = read_next()?;
        while let Some(frame) = current {
            let (masks, next) =
                threads.run(|| rayon::join(|| self.track(&frame, direction), &mut read_next));
            if found(self, masks?).is_break() {
                return Ok(Progress::Stopped(frame.index));
            }
            current = next?;
        }
        Ok(Progress::Complete)
    }
}

/// A frame of the source, embedded; `None` past the end.
fn read(
    segmenter: &Segmenter,
    source: &mut dyn FrameSource,
    index: usize,
) -> Result<Option<VideoFrame>> {
    let image = source.read(index).map_err(Error::Image)?;
    let embed = |image| segmenter.embed_frame(index, &image);
    image.map(embed).transpose()
}
