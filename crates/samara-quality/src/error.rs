//! Why a mask, or a head for such masks, is refused.

use std::path::{Path, PathBuf};

use samara::MlpError;
use samara_data::DataError;
use samara_eval::EvalError;
use samara_image::number::short;

/// Why a mask, or a head for such masks, is refused; every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QualityError {
    /// The mask shows nothing.
    #[error("the mask has no pixel set")]
    EmptyMask,
    /// The soft mask shows nothing.
    #[error("soft mask: no probability exceeds a half: it shows nothing")]
    EmptySoftMask,
    /// The soft mask has another number of values than pixels.
    #[error("soft mask: {values} values do not make {width}×{height}")]
    SoftMaskSize {
        /// Values that were given.
        values: usize,
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// A value of the soft mask is no probability.
    #[error("soft mask: {} at row {row}, column {column} is not in 0 to 1", short(*value))]
    Probability {
        /// The value.
        value: f32,
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
    },
    /// The mask has another size than the image.
    #[error("a mask of {}×{} pixels, the image has {}×{}", mask.0, mask.1, image.0, image.1)]
    MaskSize {
        /// Width and height of the mask.
        mask: (u32, u32),
        /// Width and height of the image.
        image: (u32, u32),
    },
    /// The image is not the one that was embedded.
    #[error(
        "the image has {}×{} pixels, the embedding is of one of {}×{}",
        image.0, image.1, embedded.0, embedded.1
    )]
    ImageSize {
        /// Width and height of the image.
        image: (u32, u32),
        /// Width and height of the embedded image.
        embedded: (u32, u32),
    },
    /// The head was trained with another model.
    #[error("the quality head belongs to the model {head:.12}… and not to this one, {model:.12}…")]
    OtherModel {
        /// Fingerprint of the model that the head belongs to.
        head: String,
        /// Fingerprint of the model at hand.
        model: String,
    },
    /// Evidence of another model.
    #[error("evidence of {found} numbers, the quality head takes {expected}")]
    Evidence {
        /// Numbers of the evidence.
        found: usize,
        /// Numbers that the head takes.
        expected: usize,
    },
    /// The layers make no head.
    #[error("quality head: {0}")]
    Layers(#[from] MlpError),
    /// The bytes hold no head.
    #[error("no quality head: {0}")]
    Format(String),
    /// A file that holds no head, or cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A data set cannot be read, holds nothing, or the work on it was cancelled.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The model failed.
    #[error(transparent)]
    Samara(#[from] samara::Error),
}

impl From<DataError> for QualityError {
    fn from(error: DataError) -> Self {
        EvalError::from(error).into()
    }
}

impl QualityError {
    pub(crate) fn file(
        path: &Path,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::File {
            path: path.into(),
            source: source.into(),
        }
    }
}

/// `Result` with [`QualityError`].
pub type Result<T, E = QualityError> = std::result::Result<T, E>;
