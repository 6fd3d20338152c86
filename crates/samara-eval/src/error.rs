//! What ends an evaluation early.

use samara_data::DataError;
use samara_data::prompts::PromptError;

/// What ends an evaluation early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A simulated prompt.
    #[error(transparent)]
    Click(#[from] PromptError),
    /// The model.
    #[error(transparent)]
    Model(#[from] samara::Error),
    /// Nothing was left to evaluate.
    #[error("{name}: nothing to evaluate: {reason}")]
    Empty {
        /// The data set.
        name: String,
        /// Why.
        reason: String,
    },
    /// A chart of the report.
    #[error("a chart cannot be drawn: {0}")]
    Chart(String),
    /// The progress callback asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl EvalError {
    /// Whether it is the fault of an image, a video or its annotations, and not of the model or the machine.
    pub(crate) fn is_of_data(&self) -> bool {
        matches!(
            self,
            Self::Data(_)
                | Self::Click(_)
                | Self::Model(samara::Error::Image(_) | samara::Error::Video(_))
        )
    }
}
