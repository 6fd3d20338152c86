//! Errors of the public API, split by who must act.

use std::convert::Infallible;
use std::path::PathBuf;

use samara_model::checkpoint::CheckpointError;

use crate::calibration::CalibrationError;
use crate::candidate_head::HeadError;
use crate::device::DeviceError;
use crate::prompt::PromptError;
use crate::select::SelectError;
#[cfg(feature = "video")]
use crate::video::VideoError;

/// What can go wrong; every message is one line and names what it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller: a prompt that makes no sense for the image or the model.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The caller: a selection that makes no sense for the candidates.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The caller: an option that makes no sense.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The caller: a text that names nothing.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The caller: something that is asked of a video session.
    #[cfg(feature = "video")]
    #[error(transparent)]
    Video(#[from] VideoError),
    /// The file, or its size: an image or a mask.
    #[error(transparent)]
    Image(#[from] samara_image::Error),
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint, or who made it: a candidate head.
    #[error("candidate head: {0}")]
    Head(#[from] HeadError),
    /// The checkpoint, or who made it: a calibration.
    #[error("calibration: {0}")]
    Calibration(#[from] CalibrationError),
    /// The file: a saved embedding or video session that is missing, damaged or of other weights.
    #[error("{}: {reason}", path.display())]
    Saved {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The device, or the build.
    #[error("device: {0}")]
    Device(#[from] DeviceError),
    /// The system gives no more threads.
    #[error("no threads to work on: {0}")]
    Threads(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nobody: a long call that its caller stopped.
    #[error("cancelled")]
    Cancelled,
}

/// `Result` with [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// An option that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option} {why}")]
pub struct OptionError {
    /// Its name.
    pub option: &'static str,
    /// Its value, and what is wrong with it.
    pub why: String,
}

impl OptionError {
    pub(crate) fn new(option: &'static str, why: impl Into<String>) -> Self {
        Self {
            option,
            why: why.into(),
        }
    }
}

/// A text that names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?}: expected {expected}")]
pub struct ParseError {
    /// What it should name.
    pub what: &'static str,
    /// The text.
    pub text: String,
    /// What is understood.
    pub expected: String,
}

impl ParseError {
    pub(crate) fn new(what: &'static str, text: &str, expected: impl Into<String>) -> Self {
        Self {
            what,
            text: text.to_owned(),
            expected: expected.into(),
        }
    }

    /// For a text that is none of these names.
    pub(crate) fn none_of(what: &'static str, text: &str, names: &[&str]) -> Self {
        Self::new(what, text, format!("one of {}", names.join(", ")))
    }
}
