//! Objects in a frame.

use samara_image::Mask;

use super::bank::Output;
use super::direction::ObjectId;
use crate::logits::Logits;
use crate::score::PredictedIou;

/// An object in a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectMask {
    /// Which object.
    pub object: ObjectId,
    /// Where it is, in original pixels; empty when it is not there.
    pub mask: Mask,
    /// The model's estimate of the mask's IoU; 1 for a mask that was a prompt.
    pub predicted_iou: PredictedIou,
    /// Logit of the object being in the frame: it is there if this is positive.
    pub object_score: f32,
    /// The logits from which the mask was made.
    pub low_res_logits: Logits,
}

impl ObjectMask {
    /// Whether the object is in the frame.
    pub fn is_present(&self) -> bool {
        self.object_score > 0.0
    }

    /// Probability that the object is hidden or out of the frame, from the object score.
    pub fn occlusion_probability(&self) -> f32 {
        1.0 / (1.0 + self.object_score.exp())
    }
}

/// All objects in a frame, by their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameMasks {
    /// Number of the frame, from 0.
    pub index: usize,
    /// The objects.
    pub objects: Vec<ObjectMask>,
}

pub(super) fn object_mask(object: ObjectId, mask: Mask, output: &Output) -> ObjectMask {
    let side = output.low_res.len().isqrt();
    ObjectMask {
        object,
        mask,
        predicted_iou: PredictedIou(output.iou),
        object_score: output.object_score,
        low_res_logits: Logits::from_decoder(side, output.low_res.clone()),
    }
}
