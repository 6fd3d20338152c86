//! What a [`MaskGenerator`](super::MaskGenerator) is asked to do.

use serde::{Deserialize, Serialize};

use super::grid::{self, PointGrid};
use super::thresholds::MaskThresholds;
use crate::{Error, Result};

/// Deepest layer of crops: 256 crops, each embedded on its own.
const MAX_CROP_LAYERS: u32 = 4;
/// Most points along one side of an image.
const MAX_POINTS_PER_SIDE: u32 = 512;

/// In which form a mask is handed over (`output_mode` of the official generator).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputMode {
    /// Pixels.
    #[default]
    BinaryMask,
    /// COCO run lengths as numbers.
    UncompressedRle,
    /// COCO run lengths as the string of `pycocotools`.
    CocoRle,
}

/// Options of the official `SamAutomaticMaskGenerator`, under their names and with its defaults, but for the
/// thresholds of scores, which are the model's own; `use_m2m` is that of SAM 2's generator, `adaptive` is ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskGeneratorOptions {
    /// Points along one side of the image, and of every crop of the first layer. `None` when
    /// [`point_grids`](Self::point_grids) says where the points are.
    pub points_per_side: Option<u32>,
    /// Points decoded at once, at most. Few are enough for full speed, and take less memory.
    pub points_per_batch: usize,
    /// Masks whose predicted IoU is not above this are dropped; 0 keeps all. `None`: as the model says
    /// ([`MaskThresholds`]).
    pub pred_iou_thresh: Option<f32>,
    /// Masks whose stability is below this are dropped; 0 keeps all. `None`: as the model says.
    pub stability_score_thresh: Option<f32>,
    /// How far the logits' threshold is moved, up and down, to see how stable a mask is.
    pub stability_score_offset: f32,
    /// A mask whose box has more than this IoU with that of a better one of the same crop is
    /// dropped.
    pub box_nms_thresh: f64,
    /// Layers of crops; layer `n` cuts the image into `2ⁿ × 2ⁿ` overlapping crops.
    pub crop_n_layers: u32,
    /// As [`box_nms_thresh`](Self::box_nms_thresh), between crops; masks of small crops win.
    pub crop_nms_thresh: f64,
    /// Overlap of the crops of the first layer, as a share of the image's shorter side.
    pub crop_overlap_ratio: f64,
    /// Points along one side are divided by this to the power of the layer.
    pub crop_n_points_downscale_factor: u32,
    /// The points of every layer, x and y from 0 to 1.
    pub point_grids: Option<Vec<PointGrid>>,
    /// Fills holes and removes islands of fewer pixels; 0 leaves masks as they are.
    pub min_mask_region_area: u64,
    /// In which form masks are handed over.
    pub output_mode: OutputMode,
    /// Gives every mask back to the model, with its point, and keeps the second answer.
    pub use_m2m: bool,
    /// Leaves out points that lie inside finished masks of all three levels. Faster, and not the
    /// official result: an object inside of another may lose its own point.
    pub adaptive: bool,
}

impl Default for MaskGeneratorOptions {
    fn default() -> Self {
        Self {
            points_per_side: Some(32),
            points_per_batch: 64,
            pred_iou_thresh: None,
            stability_score_thresh: None,
            stability_score_offset: 1.0,
            box_nms_thresh: 0.7,
            crop_n_layers: 0,
            crop_nms_thresh: 0.7,
            crop_overlap_ratio: 512.0 / 1500.0,
            crop_n_points_downscale_factor: 1,
            point_grids: None,
            min_mask_region_area: 0,
            output_mode: OutputMode::default(),
            use_m2m: false,
            adaptive: false,
        }
    }
}

impl MaskGeneratorOptions {
    /// The thresholds that hold for a model with these of its own.
    pub(super) fn thresholds(&self, own: MaskThresholds) -> MaskThresholds {
        MaskThresholds {
            pred_iou_thresh: self.pred_iou_thresh.unwrap_or(own.pred_iou_thresh),
            stability_score_thresh: self
                .stability_score_thresh
                .unwrap_or(own.stability_score_thresh),
        }
    }

    /// Refuses options that make no sense; [`MaskGenerator`](super::MaskGenerator) does so too, this
    /// is for saying so before a model is loaded.
    ///
    /// # Errors
    /// [`Error::Options`] names the first one.
    pub fn check(&self) -> Result<()> {
        self.grids().map(drop)
    }

    /// The points of every layer of crops, from 0 to 1.
    ///
    /// # Errors
    /// [`Error::Options`] names the first option that makes no sense.
    pub(super) fn grids(&self) -> Result<Vec<PointGrid>> {
        self.check_numbers()?;
        let layers = self.crop_n_layers as usize + 1;
        match (self.points_per_side, &self.point_grids) {
            (Some(side), None) => {
                if !(1..=MAX_POINTS_PER_SIDE).contains(&side) {
                    let why = format!("points_per_side {side} is not in 1..={MAX_POINTS_PER_SIDE}");
                    return Err(Error::Options(why));
                }
                grid::all_layers(side, layers, self.crop_n_points_downscale_factor)
            }
            (None, Some(grids)) => {
                if grids.len() < layers {
                    return Err(Error::Options(format!(
                        "point_grids has {} grids, {layers} layers need one each",
                        grids.len()
                    )));
                }
                grids.iter().try_for_each(grid::check)?;
                Ok(grids[..layers].to_vec())
            }
            _ => Err(Error::Options(
                "exactly one of points_per_side and point_grids is needed".into(),
            )),
        }
    }

    fn check_numbers(&self) -> Result<()> {
        let check = |holds: bool, why: String| {
            if holds {
                Ok(())
            } else {
                Err(Error::Options(why))
            }
        };
        check(
            self.points_per_batch > 0,
            "points_per_batch 0 decodes nothing".into(),
        )?;
        let none = MaskThresholds {
            pred_iou_thresh: 0.0,
            stability_score_thresh: 0.0,
        };
        self.thresholds(none).check()?;
        for (name, value) in [
            ("box_nms_thresh", self.box_nms_thresh),
            ("crop_nms_thresh", self.crop_nms_thresh),
        ] {
            check(
                (0.0..=1.0).contains(&value),
                format!("{name} {value} is not from 0 to 1"),
            )?;
        }
        let offset = self.stability_score_offset;
        check(
            offset.is_finite() && offset >= 0.0,
            format!("stability_score_offset {offset} is not a number from 0"),
        )?;
        let layers = self.crop_n_layers;
        check(
            layers <= MAX_CROP_LAYERS,
            format!("crop_n_layers {layers} is more than {MAX_CROP_LAYERS}"),
        )?;
        let overlap = self.crop_overlap_ratio;
        check(
            (0.0..1.0).contains(&overlap),
            format!("crop_overlap_ratio {overlap} is not at least 0 and below 1"),
        )?;
        check(
            self.crop_n_points_downscale_factor > 0,
            "crop_n_points_downscale_factor 0 divides by nothing".into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl Fn(&mut MaskGeneratorOptions)) -> String {
        let mut options = MaskGeneratorOptions::default();
        change(&mut options);
        options.grids().unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_those_of_the_official_generator() {
        let options: MaskGeneratorOptions = serde_json::from_str("{}").unwrap();
        assert_eq!(options, MaskGeneratorOptions::default());
        assert_eq!(options.grids().unwrap()[0].len(), 1024);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (message, name) in [
            (refused(|o| o.points_per_side = Some(0)), "points_per_side"),
            (refused(|o| o.points_per_side = None), "points_per_side"),
            (refused(|o| o.point_grids = Some(vec![])), "point_grids"),
            (refused(|o| o.points_per_batch = 0), "points_per_batch"),
            (
                refused(|o| o.pred_iou_thresh = Some(f32::NAN)),
                "pred_iou_thresh",
            ),
            (
                refused(|o| o.stability_score_thresh = Some(1.01)),
                "stability_score_thresh",
            ),
            (refused(|o| o.box_nms_thresh = -1.0), "box_nms_thresh"),
            (refused(|o| o.crop_n_layers = 9), "crop_n_layers"),
            (
                refused(|o| o.crop_overlap_ratio = 1.0),
                "crop_overlap_ratio",
            ),
            (
                refused(|o| {
                    o.crop_n_layers = 3;
                    o.crop_n_points_downscale_factor = 4;
                }),
                "crop_n_points_downscale_factor",
            ),
        ] {
            assert!(message.contains(name), "{name} is not in {message:?}");
        }
    }
}
