//! Crops of an image: the same points on a smaller part find smaller things.

use samara_image::{BBox, Mask};

use crate::error::OptionError;

/// Distance to a crop's edge, in pixels, below which a mask counts as cut off by it.
const EDGE_TOLERANCE: f32 = 20.0;

/// A part of an image, in original pixels; the ends are excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CropBox {
    /// The left edge.
    pub(super) x0: u32,
    /// The upper edge.
    pub(super) y0: u32,
    /// The right edge, excluded.
    pub(super) x1: u32,
    /// The lower edge, excluded.
    pub(super) y1: u32,
}

impl CropBox {
    /// Width in pixels.
    pub(super) fn width(&self) -> u32 {
        self.x1 - self.x0
    }

    /// Height in pixels.
    pub(super) fn height(&self) -> u32 {
        self.y1 - self.y0
    }

    /// `[x, y, w, h]`.
    pub(super) fn xywh(&self) -> [u32; 4] {
        [self.x0, self.y0, self.width(), self.height()]
    }

    /// Whether a box of this crop comes near an edge of the crop that is none of the image:
    /// what is seen there goes on outside (`is_box_near_crop_edge` of the official `utils/amg.py`).
    /// `bbox` holds inclusive corners in the crop's pixels.
    pub(super) fn cuts(&self, bbox: [u32; 4], (width, height): (u32, u32)) -> bool {
        let near = |a: u32, b: u32| (a as f32 - b as f32).abs() <= EDGE_TOLERANCE;
        let [x0, y0, x1, y1] = self.uncrop(bbox);
        [
            (x0, self.x0, 0),
            (y0, self.y0, 0),
            (x1, self.x1, width),
            (y1, self.y1, height),
        ]
        .into_iter()
        .any(|(at, crop, image)| near(at, crop) && !near(at, image))
    }

    /// Corners in the crop → in the image.
    pub(super) fn uncrop(&self, [x0, y0, x1, y1]: [u32; 4]) -> [u32; 4] {
        [x0 + self.x0, y0 + self.y0, x1 + self.x0, y1 + self.y0]
    }

    /// A mask of the crop as one of the image.
    pub(super) fn uncrop_mask(&self, mask: Mask, (width, height): (u32, u32)) -> Mask {
        if self.xywh() == [0, 0, width, height] {
            return mask;
        }
        mask.placed(self.x0, self.y0, width, height)
    }
}

/// Corners of a mask's box, inclusive; all 0 for an empty mask (`batched_mask_to_box`).
pub(super) fn corners(mask: &Mask) -> [u32; 4] {
    mask.bbox().as_ref().map_or([0; 4], BBox::xyxy_inclusive)
}

/// The image, then the crops of every layer with the layer's number, columns first
/// (`generate_crop_boxes`).
///
/// # Errors
/// A crop would have no pixels.
pub(super) fn crop_boxes(
    (width, height): (u32, u32),
    layers: u32,
    overlap_ratio: f64,
) -> Result<Vec<(CropBox, usize)>, OptionError> {
    let whole = CropBox {
        x0: 0,
        y0: 0,
        x1: width,
        y1: height,
    };
    let mut boxes = vec![(whole, 0)];
    for layer in 1..=layers {
        let per_side = 1_u32 << layer;
        let overlap =
            (overlap_ratio * f64::from(width.min(height)) * (2.0 / f64::from(per_side))) as u32;
        let length = |side: u32| (overlap * (per_side - 1) + side).div_ceil(per_side);
        let (crop_w, crop_h) = (length(width), length(height));
        let starts = |length: u32| (0..per_side).map(move |i| (length - overlap.min(length)) * i);
        for x0 in starts(crop_w) {
            for y0 in starts(crop_h) {
                if x0 >= width || y0 >= height {
                    let why = format!(
                        "{layers}: {width}×{height} pixels are too few for {per_side}×{per_side} crops"
                    );
                    return Err(OptionError::new("crop_n_layers", why));
                }
                let (x1, y1) = ((x0 + crop_w).min(width), (y0 + crop_h).min(height));
                boxes.push((CropBox { x0, y0, x1, y1 }, layer as usize));
            }
        }
    }
    Ok(boxes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_overlap_and_reach_the_edges() {
        let boxes = crop_boxes((1500, 1000), 1, 512.0 / 1500.0).unwrap();
        assert_eq!(boxes.len(), 5);
        assert_eq!(boxes[1].0.xywh(), [0, 0, 921, 671]);
        assert_eq!(boxes[2].0.xywh(), [0, 330, 921, 670]);
        assert_eq!(boxes[4].0.xywh(), [580, 330, 920, 670]);
    }

    #[test]
    fn a_mask_at_an_inner_edge_is_cut() {
        let crop = CropBox {
            x0: 100,
            y0: 0,
            x1: 300,
            y1: 200,
        };
        let size = (400, 200);
        assert!(crop.cuts([15, 50, 100, 100], size));
        assert!(!crop.cuts([25, 0, 100, 100], size));
        assert!(crop.cuts([50, 50, 185, 100], size));
        assert!(!crop.cuts([50, 50, 150, 199], size));
    }

    #[test]
    fn tiny_images_have_no_deep_crops() {
        assert!(crop_boxes((1, 1), 1, 0.3).is_err());
        assert!(crop_boxes((7, 5), 1, 0.3).is_ok());
    }
}
