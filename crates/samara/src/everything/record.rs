//! One mask of an image.

use samara_image::{Mask, Rle};
use serde::{Serialize, Serializer};

use super::options::OutputMode;
use crate::Result;
use crate::score::{PredictedIou, StabilityScore};

/// A mask in the form that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Segmentation {
    /// Pixels; in JSON, rows of 0 and 1.
    BinaryMask(Mask),
    /// Run lengths; in JSON, `counts` is a list of numbers.
    UncompressedRle(Rle),
    /// Run lengths; in JSON, `counts` is the string of `pycocotools`.
    CocoRle(Rle),
}

impl Segmentation {
    pub(super) fn new(rle: Rle, mode: OutputMode) -> Result<Self> {
        Ok(match mode {
            OutputMode::BinaryMask => Self::BinaryMask(rle.to_mask()?),
            OutputMode::UncompressedRle => Self::UncompressedRle(rle),
            OutputMode::CocoRle => Self::CocoRle(rle),
        })
    }

    /// The mask in original pixels.
    ///
    /// # Errors
    /// The run lengths, which may have been changed, do not fit their size.
    pub fn to_mask(&self) -> Result<Mask> {
        Ok(match self {
            Self::BinaryMask(mask) => mask.clone(),
            Self::UncompressedRle(rle) | Self::CocoRle(rle) => rle.to_mask()?,
        })
    }

    /// The mask as run lengths.
    pub fn to_rle(&self) -> Rle {
        match self {
            Self::BinaryMask(mask) => mask.to_rle(),
            Self::UncompressedRle(rle) | Self::CocoRle(rle) => rle.clone(),
        }
    }
}

impl Serialize for Segmentation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::BinaryMask(mask) => {
                let bits = |y| (0..mask.width()).map(move |x| u8::from(mask.get(x, y)));
                serializer.collect_seq((0..mask.height()).map(|y| bits(y).collect::<Vec<u8>>()))
            }
            Self::UncompressedRle(rle) => rle.to_uncompressed().serialize(serializer),
            Self::CocoRle(rle) => rle.serialize(serializer),
        }
    }
}

/// A mask that [`MaskGenerator`](super::MaskGenerator) found: the record of the official generator,
/// with its names. All coordinates are original pixels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MaskRecord {
    /// The mask.
    pub segmentation: Segmentation,
    /// Number of pixels.
    pub area: u64,
    /// `[x, y, w, h]` made of inclusive corners, as the official generator does: `w` and `h` are one
    /// less than the numbers of columns and rows. All 0 for an empty mask.
    pub bbox: [u32; 4],
    /// The model's estimate of the mask's IoU, calibrated if the model has a calibration.
    pub predicted_iou: PredictedIou,
    /// The point that was asked.
    pub point_coords: [[f64; 2]; 1],
    /// Stability of the mask.
    pub stability_score: StabilityScore,
    /// `[x, y, w, h]` of the crop in which the mask was found.
    pub crop_box: [u32; 4],
}

impl MaskRecord {
    /// A record of a mask that came from elsewhere, with full scores and its box's centre for a point.
    ///
    /// # Errors
    /// The mask is too large to be coded.
    pub fn of_mask(mask: &Mask, mode: OutputMode) -> Result<Self> {
        let [x, y, w, h] = mask.bbox().map_or([0; 4], |b| b.amg_xywh());
        let middle = |start: u32, length: u32| f64::from(start) + f64::from(length) / 2.0;
        Ok(Self {
            segmentation: Segmentation::new(mask.to_rle(), mode)?,
            area: mask.area(),
            bbox: [x, y, w, h],
            predicted_iou: PredictedIou(1.0),
            point_coords: [[middle(x, w), middle(y, h)]],
            stability_score: StabilityScore(1.0),
            crop_box: [0, 0, mask.width(), mask.height()],
        })
    }
}
