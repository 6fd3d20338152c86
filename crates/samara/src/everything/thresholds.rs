//! Which masks of segment-everything are good enough: a matter of what a model's scores mean.

use samara_model::ModelConfig;
use samara_model::checkpoint::{Checkpoint, CheckpointError};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::OptionError;

/// The thresholds of a [`MaskGenerator`](crate::MaskGenerator) that belong to a model. They are in the metadata of
/// its checkpoint, or else those of the official code for its family.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskThresholds {
    /// Masks whose predicted IoU is not above this are dropped; 0 keeps all.
    pub pred_iou_thresh: f32,
    /// Masks whose stability is below this are dropped; 0 keeps all.
    pub stability_score_thresh: f32,
}

/// Those of the official generator of SAM.
const SAM: MaskThresholds = MaskThresholds {
    pred_iou_thresh: 0.88,
    stability_score_thresh: 0.95,
};
/// Those of the official generator of SAM 2.
const SAM2: MaskThresholds = MaskThresholds {
    pred_iou_thresh: 0.8,
    ..SAM
};

impl MaskThresholds {
    /// Key of the JSON in a checkpoint's metadata.
    pub const KEY: &str = "samara.everything";

    /// Those of the official code for a family of models.
    pub fn official(config: &ModelConfig) -> Self {
        match config {
            ModelConfig::Sam(_) => SAM,
            ModelConfig::Sam2(_) => SAM2,
        }
    }

    /// Those in a checkpoint's metadata, if there are any.
    ///
    /// # Errors
    /// [`CheckpointError::Invalid`] when they are damaged or not from 0 to 1.
    pub fn of_checkpoint(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        let Some(json) = checkpoint.metadata().get(Self::KEY) else {
            return Ok(None);
        };
        let invalid = |why: String| CheckpointError::Invalid {
            path: checkpoint.path().into(),
            reason: format!("bad {} in its metadata: {why}", Self::KEY),
        };
        let thresholds: Self = serde_json::from_str(json).map_err(|e| invalid(e.to_string()))?;
        let checked = thresholds.check();
        checked.map_err(|e| invalid(e.to_string()))?;
        Ok(Some(thresholds))
    }

    /// Refuses what is not from 0 to 1.
    ///
    /// # Errors
    /// [`OptionError`] names the threshold.
    pub fn check(&self) -> Result<(), OptionError> {
        for (name, value) in [
            ("pred_iou_thresh", self.pred_iou_thresh),
            ("stability_score_thresh", self.stability_score_thresh),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(OptionError::new(
                    name,
                    format!("{value} is not from 0 to 1"),
                ));
            }
        }
        Ok(())
    }

    /// The JSON for a checkpoint's metadata.
    ///
    /// # Errors
    /// Never, as far as we know; [`OptionError`] stands for what the serialiser says.
    pub fn to_json(&self) -> Result<String, OptionError> {
        let json = serde_json::to_string(self);
        json.map_err(|e| OptionError::new(Self::KEY, e.to_string()))
    }
}
