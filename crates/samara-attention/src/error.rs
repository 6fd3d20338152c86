//! Why an attention map or an analysis of it is refused.

/// Why an attention map or an analysis of it is refused; every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttentionError {
    /// A map that is none; it is named.
    #[error("{name}: {why}")]
    Map {
        /// The name of the map.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A map of another aspect ratio than the image's.
    #[error(
        "{name}: a map of {}×{} values has another aspect ratio than the image of {}×{} pixels; \
         if the model saw the image stretched to a square, stretch the map as well (stretch)",
        map.0, map.1, image.0, image.1
    )]
    Aspect {
        /// The name of the map.
        name: String,
        /// Columns and rows of the map.
        map: (u32, u32),
        /// Width and height of the image.
        image: (u32, u32),
    },
    /// A threshold that no map can be measured by.
    #[error("{option} {value}: from -1 to 1")]
    Threshold {
        /// The option.
        option: &'static str,
        /// Its value.
        value: f64,
    },
    /// There is no candidate to compare with.
    #[error("there is no candidate to compare with")]
    NoCandidate,
    /// Candidates of images of different sizes.
    #[error("the candidates are of images of different sizes")]
    Sizes,
    /// The model, or a prompt to it.
    #[error(transparent)]
    Samara(#[from] samara::Error),
}

/// `Result` with [`AttentionError`].
pub type Result<T, E = AttentionError> = std::result::Result<T, E>;
