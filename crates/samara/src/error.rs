//! Errors of the public API.

use std::path::PathBuf;

use samara_image::ImageError;
use samara_model::checkpoint::CheckpointError;

/// What can go wrong; every message is one line and names what it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image or mask.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A prompt or a selection that makes no sense for this image.
    #[error("{0}")]
    Prompt(String),
    /// An option of the mask generator that makes no sense.
    #[error("{0}")]
    Options(String),
    /// A video, or what is asked of it.
    #[error("{0}")]
    Video(String),
    /// An attention map that is none, or does not belong to the image.
    #[error("{0}")]
    Attention(String),
    /// A saved embedding that is damaged or belongs to other weights.
    #[error("{}: {reason}", path.display())]
    Embedding {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A mask from elsewhere, or a head for such masks, that makes no sense.
    #[error("{0}")]
    Quality(String),
    /// Heads that rank candidates, which make no sense or do not fit the model.
    #[error("candidate head: {0}")]
    CandidateHead(String),
    /// A calibration of scores that is none.
    #[error("calibration: {0}")]
    Calibration(String),
    /// The system gives no more threads.
    #[error("no threads to work on: {0}")]
    Threads(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A long call that its caller stopped.
    #[error("cancelled")]
    Cancelled,
    /// A device that this build or this machine does not have, or that failed.
    #[error("device: {0}")]
    Device(String),
}

/// `Result` with [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
