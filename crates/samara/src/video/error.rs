//! What cannot be asked of a video session.

use super::ObjectId;

/// What cannot be asked of a video session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VideoError {
    /// No object was prompted yet.
    #[error("no object to follow: prompt one first")]
    NoObject,
    /// There is no object of this id.
    #[error("there is no object {0}")]
    UnknownObject(ObjectId),
    /// A frame of another size than the first one.
    #[error(
        "frame {index} has {}×{} pixels, the video has {}×{}",
        frame.0, frame.1, video.0, video.1
    )]
    FrameSize {
        /// Number of the frame.
        index: usize,
        /// Its width and height.
        frame: (u32, u32),
        /// Width and height of the video.
        video: (u32, u32),
    },
    /// A frame behind the last one.
    #[error("there is no frame {index}: the video has {frames}")]
    NoFrame {
        /// Number of the frame.
        index: usize,
        /// How many the video has.
        frames: usize,
    },
}
