//! Low-resolution mask logits, and the way from them to a mask in original pixels and back.

use samara_image::coverage::coverage;
use samara_image::{Frame, Mask};

use crate::error::PromptError;
use crate::score::StabilityScore;
use crate::upsampler::Upsampler;

/// Mask logits as the decoder gives them: one value per cell of a square grid that covers the
/// model's input (256×256 cells of 4×4 model pixels for SAM), padding included. Positive means
/// inside.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Values", into = "Values")
)]
pub struct Logits {
    side: usize,
    values: Vec<f32>,
}

/// Logits in a file.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct Values {
    side: usize,
    values: Vec<f32>,
}

#[cfg(feature = "serde")]
impl TryFrom<Values> for Logits {
    type Error = PromptError;

    fn try_from(Values { side, values }: Values) -> Result<Self, PromptError> {
        Self::new(side, values)
    }
}

#[cfg(feature = "serde")]
impl From<Logits> for Values {
    fn from(Logits { side, values }: Logits) -> Self {
        Self { side, values }
    }
}

impl Logits {
    /// Logits of a `side`×`side` grid, row by row.
    ///
    /// # Errors
    /// The number of values is not `side²`, or one of them is not finite.
    pub fn new(side: usize, values: Vec<f32>) -> Result<Self, PromptError> {
        if side == 0 || values.len() != side * side {
            let values = values.len();
            return Err(PromptError::LogitsLength { values, side });
        }
        if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
            return Err(PromptError::LogitsNotFinite {
                row: bad / side,
                column: bad % side,
            });
        }
        Ok(Self { side, values })
    }

    /// What a decoder gave; it may hold anything.
    pub(crate) fn from_decoder(side: usize, values: Vec<f32>) -> Self {
        Self { side, values }
    }

    /// None, where they are not kept.
    pub(crate) fn none() -> Self {
        Self::from_decoder(0, Vec::new())
    }

    /// Cells along a side.
    pub fn side(&self) -> usize {
        self.side
    }

    /// The values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The same within ±`limit`.
    pub(crate) fn limited(&self, limit: Option<f32>) -> Self {
        let mut logits = self.clone();
        if let Some(limit) = limit {
            let values = logits.values.iter_mut();
            values.for_each(|value| *value = value.clamp(-limit, limit));
        }
        logits
    }

    /// Logits that express a binary mask, for use as a prompt.
    ///
    /// A cell gets the log-odds of the share of its area that the mask covers, limited to ±6.9
    /// (odds of 1 : 999), which is the range a decoder itself produces for a confident mask;
    /// padding counts as outside. The mask is stretched to the image whatever its size. A 0/1
    /// mask used as logits directly would say "undecided" everywhere outside and "barely" inside,
    /// which is why such prompts fail with the official predictor.
    pub fn from_mask(mask: &Mask, frame: &Frame, side: usize) -> Self {
        let size = (mask.width(), mask.height());
        Self::from_coverage(size, frame, side, |x, y| {
            f64::from(u8::from(mask.get(x, y)))
        })
    }

    /// The same of a soft mask of `size` pixels, width first: `inside` is the share of the pixel `(x, y)` that
    /// belongs to it, 0 to 1.
    pub fn from_coverage(
        size: (u32, u32),
        frame: &Frame,
        side: usize,
        inside: impl Fn(u32, u32) -> f64,
    ) -> Self {
        /// Odds beyond this are not expressed.
        const LIMIT: f64 = 1e-3;
        let values = coverage(size, frame, side, inside).map(|covered| {
            let p = covered.clamp(LIMIT, 1.0 - LIMIT);
            (p / (1.0 - p)).ln() as f32
        });
        Self {
            side,
            values: values.collect(),
        }
    }

    /// The mask in original pixels, and its stability score at `offset`, both from full-resolution
    /// logits as in the official code: 256 → 1024 → crop the padding → original size, each step
    /// bilinear without aligned corners, threshold 0. A stretched frame (SAM 2) has no padding to
    /// crop, and its logits go to the original size in one step.
    ///
    /// The two steps are linear and separable, so each row of the image is made directly from
    /// the grid; no float image of the full size is ever stored, and pixels are computed only where the cells
    /// around them do not agree.
    ///
    /// # Errors
    /// The model's input is smaller than the grid: the logits do not belong to such a frame.
    pub fn upsample(
        &self,
        frame: &Frame,
        offset: f32,
    ) -> Result<(Mask, StabilityScore), PromptError> {
        Ok(Upsampler::new(self.side, frame)?.mask(&self.values, offset))
    }

    /// The logits of every original pixel, row by row, from which [`upsample`](Self::upsample) makes the mask.
    ///
    /// # Errors
    /// As [`upsample`](Self::upsample).
    pub fn upsample_logits(&self, frame: &Frame) -> Result<Vec<f32>, PromptError> {
        Ok(Upsampler::new(self.side, frame)?.logits(&self.values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_becomes_logits_and_the_same_mask_again() {
        for (width, height) in [(300, 200), (120, 333), (64, 64)] {
            let frame = Frame::longest_side(width, height, 128).unwrap();
            let (cx, cy) = (f64::from(width) * 0.4, f64::from(height) * 0.6);
            let mask = Mask::from_fn(width, height, |x, y| {
                let (dx, dy) = (f64::from(x) + 0.5 - cx, f64::from(y) + 0.5 - cy);
                (dx / cx).powi(2) + (dy / (0.3 * cy)).powi(2) < 0.6
            });
            let logits = Logits::from_mask(&mask, &frame, 32);
            let limit = logits.values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            assert!((limit - 6.906_755).abs() < 1e-4, "{limit}");
            let (again, _) = logits.upsample(&frame, 1.0).unwrap();
            assert!(again.iou(&mask) > 0.9, "{}", again.iou(&mask));
        }
    }

    #[test]
    fn a_mask_of_half_the_size_says_the_same() {
        let frame = Frame::longest_side(200, 100, 128).unwrap();
        let inside = |x: f64, y: f64| (0.25..0.75).contains(&x) && (0.5..1.0).contains(&y);
        let mask = |w: u32, h: u32| {
            Mask::from_fn(w, h, |x, y| {
                inside(
                    (f64::from(x) + 0.5) / f64::from(w),
                    (f64::from(y) + 0.5) / f64::from(h),
                )
            })
        };
        let full = Logits::from_mask(&mask(200, 100), &frame, 32);
        let half = Logits::from_mask(&mask(100, 50), &frame, 32);
        for (a, b) in full.values.iter().zip(&half.values) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }

    #[test]
    fn padding_is_outside() {
        let frame = Frame::longest_side(200, 100, 128).unwrap();
        let logits = Logits::from_mask(&Mask::full(200, 100), &frame, 32);
        assert!(logits.values[..16 * 32].iter().all(|&v| v > 6.9));
        assert!(logits.values[16 * 32..].iter().all(|&v| v < -6.9));
    }

    #[test]
    fn logits_of_another_model_are_refused() {
        let frame = Frame::longest_side(20, 10, 8).unwrap();
        let logits = Logits::new(32, vec![0.0; 32 * 32]).unwrap();
        assert!(logits.upsample(&frame, 1.0).is_err());
    }

    #[test]
    fn wrong_counts_and_values_are_refused() {
        assert!(Logits::new(4, vec![0.0; 15]).is_err());
        let mut values = vec![0.0; 16];
        values[5] = f32::NAN;
        let message = Logits::new(4, values).unwrap_err().to_string();
        assert_eq!(
            message,
            "mask logits: the value at row 1, column 1 is not a finite number"
        );
    }
}
