//! A mask on its way through the filters.

use samara_image::Rle;

use super::crop::CropBox;
use super::nms;
use crate::score::{PredictedIou, StabilityScore};

/// A mask on its way through the filters.
pub(super) struct Found {
    pub(super) rle: Rle,
    /// Inclusive corners in the image.
    pub(super) corners: [u32; 4],
    pub(super) score: PredictedIou,
    /// Decides between equal scores of a calibrated model.
    pub(super) raw_score: PredictedIou,
    pub(super) stability: StabilityScore,
    pub(super) point: [f64; 2],
    pub(super) crop: CropBox,
}

/// Drops masks whose boxes overlap that of a better one, and puts the best first.
pub(super) fn suppress(masks: &mut Vec<Found>, thresh: f64, score: impl FnMut(&Found) -> [f32; 2]) {
    let boxes: Vec<_> = masks.iter().map(|m| m.corners).collect();
    let scores: Vec<[f32; 2]> = masks.iter().map(score).collect();
    let mut slots: Vec<Option<Found>> = masks.drain(..).map(Some).collect();
    let kept = nms::keep(&boxes, &scores, thresh).into_iter();
    masks.extend(kept.filter_map(|i| slots[i].take()));
}
