//! What was found when a model was brought into integers.

use samara_model::checkpoint::{Checkpoint, CheckpointError, INT8_KEY};
use serde::{Deserialize, Serialize};

use crate::Result;

/// What was found. It is in the metadata of the file, under [`KEY`](Self::KEY), as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Int8Report {
    /// The relative error of the image embedding against fp32: the root of the mean square over the pictures. With
    /// SAM 2, of its finer features where theirs is larger.
    pub error: f64,
    /// The same with all layers in integers.
    pub error_of_all: f64,
    /// The same in bf16.
    pub error_of_bf16: f64,
    /// Over so many pictures.
    pub pictures: usize,
    /// How much channels were smoothed, between 0 and 1.
    pub smoothing: f32,
    /// How many weights are integers.
    pub integers: usize,
    /// Weights that stay in bf16.
    pub bf16: Vec<String>,
}

impl Int8Report {
    /// Key of the report in a checkpoint's metadata.
    pub const KEY: &str = INT8_KEY;

    /// The report in a checkpoint's metadata, if its encoder multiplies integers.
    ///
    /// # Errors
    /// It is damaged.
    pub fn of_checkpoint(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        let Some(json) = checkpoint.metadata().get(Self::KEY) else {
            return Ok(None);
        };
        let report = serde_json::from_str(json);
        report.map(Some).map_err(|error| {
            let reason = format!("bad {} in its metadata: {error}", Self::KEY);
            let path = checkpoint.path().into();
            CheckpointError::Invalid { path, reason }.into()
        })
    }
}
