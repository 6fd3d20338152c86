//! What can go wrong in a run.

use std::path::PathBuf;

use samara_image::Error as ImageError;
use samara_model::checkpoint::CheckpointError;
use samara_quality::QualityError;

use crate::recipe::RecipeError;
use crate::step::StepError;
use samara_data::DataError;

/// Why training stopped or did not start; every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The recipe cannot be read.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A value of the recipe does not fit the model, the data or the machine.
    #[error("{key}: {why}")]
    Setting {
        /// The key, such as `stages[1].side`.
        key: String,
        /// What is wrong with its value.
        why: String,
    },
    /// The data is wrong.
    #[error(transparent)]
    Data(#[from] DataError),
    /// An example could not be worked on.
    #[error("example {example}: {source}")]
    Example {
        /// Data set and image id.
        example: String,
        /// What is wrong.
        source: StepError,
    },
    /// A checkpoint could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file could not be written.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The segmenter failed.
    #[error(transparent)]
    Samara(#[from] samara::Error),
    /// A quality head.
    #[error(transparent)]
    Quality(#[from] QualityError),
    /// A file or folder of the run.
    #[error("{}: {why}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A saved state does not fit.
    #[error("{0}")]
    State(String),
    /// Several steps in a row could not be used.
    #[error(
        "step {step}: the loss or its gradient was not finite {steps} times in a row; the last \
         checkpoint is from before. A lower optimizer.lr or optimizer.clip_norm may help"
    )]
    NotFinite {
        /// The step at which the run gave up.
        step: u64,
        /// Steps in a row.
        steps: u32,
    },
}

impl TrainError {
    pub(crate) fn setting(key: impl Into<String>, why: &(impl ToString + ?Sized)) -> Self {
        Self::Setting {
            key: key.into(),
            why: why.to_string(),
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, why: &(impl ToString + ?Sized)) -> Self {
        Self::File {
            path: path.into(),
            why: why.to_string(),
        }
    }
}
