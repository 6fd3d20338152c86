//! The weights of the parts of a loss.

use serde::{Deserialize, Serialize};

/// The weights of the parts of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossWeights {
    /// Of the focal loss of the best mask.
    pub focal: f32,
    /// Of its dice loss.
    pub dice: f32,
    /// Of the loss of the predicted IoU.
    pub iou: f32,
    /// Of its [`iou_ranking`](super::iou_ranking) loss, where all candidates are supervised: 0 in SAM.
    pub iou_ranking: f32,
    /// Of the loss of the object score; 0 turns it off, and absent objects count as any other.
    pub object_score: f32,
    /// Of the [`retention_loss`](super::retention_loss) of the candidates that are not the best, against those that the model
    /// drew when training began, which [`promptable_loss`](super::promptable_loss) does not know and the trainer adds: 0 in SAM.
    pub retention: f32,
    /// Of the [`checkerboard_loss`](super::checkerboard_loss) of all candidates: 0 in SAM.
    pub checkerboard: f32,
}

impl LossWeights {
    /// SAM: 20, 1, 1, and no object score.
    pub const fn sam() -> Self {
        Self {
            object_score: 0.0,
            ..Self::sam2()
        }
    }

    /// SAM 2: 20, 1, 1, 1.
    pub const fn sam2() -> Self {
        Self {
            focal: 20.0,
            dice: 1.0,
            iou: 1.0,
            iou_ranking: 0.0,
            object_score: 1.0,
            retention: 0.0,
            checkerboard: 0.0,
        }
    }
}

impl Default for LossWeights {
    fn default() -> Self {
        Self::sam2()
    }
}
