//! Why a prompt could not be simulated.

use samara_image::Error as ImageError;

/// What can go wrong with simulated prompts. The caller knows the record and names it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// There is nothing to point at.
    #[error("the true mask has no pixel set")]
    EmptyTruth,
    /// A click that is called positive must be.
    #[error("the first click {x},{y} is not on the object")]
    FirstClick {
        /// Pixels of the mask from its left edge.
        x: f64,
        /// Pixels of the mask from its top edge.
        y: f64,
    },
    /// A prediction of another size than the true mask.
    #[error(transparent)]
    Size(#[from] ImageError),
    /// A setting of the simulation is unusable.
    #[error("{key}: {what}")]
    Setting {
        /// The key in the recipe.
        key: &'static str,
        /// Its value and what is expected.
        what: String,
    },
}

impl PromptError {
    pub(super) fn setting(key: &'static str, what: impl Into<String>) -> Self {
        let what = what.into();
        Self::Setting { key, what }
    }
}
