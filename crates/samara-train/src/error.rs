//! What can go wrong in a run.

use samara_image::ImageError;
use samara_model::checkpoint::CheckpointError;

use crate::data::DataError;
use crate::prompts::PromptError;
use crate::recipe::RecipeError;

/// Why training stopped or did not start.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The recipe is wrong.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The data is wrong.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A prompt could not be simulated.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// A checkpoint could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file could not be written.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The segmenter failed.
    #[error(transparent)]
    Samara(#[from] samara::Error),
    /// A saved state does not fit.
    #[error("{0}")]
    State(String),
    /// The loss was not finite for several steps in a row.
    #[error(
        "the loss was not a number for {0} steps in a row: a lower optimizer.lr or a clip_norm may help"
    )]
    NotFinite(u32),
}
