//! What a [`MaskGenerator`](super::MaskGenerator) is asked to do.

use serde::{Deserialize, Serialize};

use super::grid::{self, PointGrid};
use super::thresholds::MaskThresholds;
use crate::error::OptionError;
use crate::setters::setters;

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
///
/// ```
/// use samara::MaskGeneratorOptions;
///
/// let fine = MaskGeneratorOptions::default().with_points_per_side(64).with_pred_iou_thresh(0.8);
/// # assert!(fine.check().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
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
    /// Sets [`points_per_side`](Self::points_per_side), in the place of [`point_grids`](Self::point_grids).
    pub fn with_points_per_side(mut self, points: u32) -> Self {
        (self.points_per_side, self.point_grids) = (Some(points), None);
        self
    }

    /// Sets [`point_grids`](Self::point_grids), in the place of [`points_per_side`](Self::points_per_side).
    pub fn with_point_grids(mut self, grids: Vec<PointGrid>) -> Self {
        (self.points_per_side, self.point_grids) = (None, Some(grids));
        self
    }

    setters! {
        /// Sets [`points_per_batch`](Self::points_per_batch).
        with_points_per_batch(points: usize) => points_per_batch = points;
        /// Sets [`pred_iou_thresh`](Self::pred_iou_thresh).
        with_pred_iou_thresh(thresh: f32) => pred_iou_thresh = Some(thresh);
        /// Sets [`stability_score_thresh`](Self::stability_score_thresh).
        with_stability_score_thresh(thresh: f32) => stability_score_thresh = Some(thresh);
        /// Sets [`stability_score_offset`](Self::stability_score_offset).
        with_stability_score_offset(offset: f32) => stability_score_offset = offset;
        /// Sets [`box_nms_thresh`](Self::box_nms_thresh).
        with_box_nms_thresh(thresh: f64) => box_nms_thresh = thresh;
        /// Sets [`crop_n_layers`](Self::crop_n_layers).
        with_crop_n_layers(layers: u32) => crop_n_layers = layers;
        /// Sets [`crop_nms_thresh`](Self::crop_nms_thresh).
        with_crop_nms_thresh(thresh: f64) => crop_nms_thresh = thresh;
        /// Sets [`crop_overlap_ratio`](Self::crop_overlap_ratio).
        with_crop_overlap_ratio(ratio: f64) => crop_overlap_ratio = ratio;
        /// Sets [`crop_n_points_downscale_factor`](Self::crop_n_points_downscale_factor).
        with_crop_n_points_downscale_factor(factor: u32) => crop_n_points_downscale_factor = factor;
        /// Sets [`min_mask_region_area`](Self::min_mask_region_area).
        with_min_mask_region_area(pixels: u64) => min_mask_region_area = pixels;
        /// Sets [`output_mode`](Self::output_mode).
        with_output_mode(mode: OutputMode) => output_mode = mode;
        /// Sets [`use_m2m`](Self::use_m2m).
        with_m2m(on: bool) => use_m2m = on;
        /// Sets [`adaptive`](Self::adaptive).
        with_adaptive(on: bool) => adaptive = on;
    }

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
    /// [`OptionError`] names the first one.
    pub fn check(&self) -> Result<(), OptionError> {
        self.grids().map(drop)
    }

    /// The points of every layer of crops, from 0 to 1.
    ///
    /// # Errors
    /// [`OptionError`] names the first option that makes no sense.
    pub(super) fn grids(&self) -> Result<Vec<PointGrid>, OptionError> {
        self.check_numbers()?;
        let layers = self.crop_n_layers as usize + 1;
        match (self.points_per_side, &self.point_grids) {
            (Some(side), None) => {
                if !(1..=MAX_POINTS_PER_SIDE).contains(&side) {
                    let why = format!("{side} is not in 1..={MAX_POINTS_PER_SIDE}");
                    return Err(OptionError::new("points_per_side", why));
                }
                grid::all_layers(side, layers, self.crop_n_points_downscale_factor)
            }
            (None, Some(grids)) => {
                if grids.len() < layers {
                    let why = format!("has {} grids, {layers} layers need one each", grids.len());
                    return Err(OptionError::new("point_grids", why));
                }
                grids.iter().try_for_each(grid::check)?;
                Ok(grids[..layers].to_vec())
            }
            _ => Err(OptionError::new(
                "points_per_side",
                "and point_grids: exactly one of them is needed",
            )),
        }
    }

    fn check_numbers(&self) -> Result<(), OptionError> {
        let check = |holds: bool, option: &'static str, why: String| {
            if holds {
                Ok(())
            } else {
                Err(OptionError::new(option, why))
            }
        };
        check(
            self.points_per_batch > 0,
            "points_per_batch",
            "0 decodes nothing".into(),
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
                name,
                format!("{value} is not from 0 to 1"),
            )?;
        }
        let offset = self.stability_score_offset;
        check(
            offset.is_finite() && offset >= 0.0,
            "stability_score_offset",
            format!("{offset} is not a number from 0"),
        )?;
        let layers = self.crop_n_layers;
        check(
            layers <= MAX_CROP_LAYERS,
            "crop_n_layers",
            format!("{layers} is more than {MAX_CROP_LAYERS}"),
        )?;
        let overlap = self.crop_overlap_ratio;
        check(
            (0.0..1.0).contains(&overlap),
            "crop_overlap_ratio",
            format!("{overlap} is not at least 0 and below 1"),
        )?;
        check(
            self.crop_n_points_downscale_factor > 0,
            "crop_n_points_downscale_factor",
            "0 divides by nothing".into(),
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
