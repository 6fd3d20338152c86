//! A mask from anywhere: another model, an annotator, a thresholded attention map.

use samara::{Logits, Prompt};
use samara_image::{Frame, Mask};

use crate::{QualityError, Result};

/// A soft mask: the probability that a pixel belongs to the object, in original pixels or at any
/// other size that stands for the whole image.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftMask {
    width: u32,
    height: u32,
    values: Vec<f32>,
}

impl SoftMask {
    /// Probabilities row by row.
    ///
    /// # Errors
    /// [`QualityError::SoftMaskSize`] or [`QualityError::Probability`]: one is not in 0..=1.
    pub fn new(width: u32, height: u32, values: Vec<f32>) -> Result<Self> {
        if values.is_empty() || values.len() as u64 != u64::from(width) * u64::from(height) {
            return Err(QualityError::SoftMaskSize {
                values: values.len(),
                width,
                height,
            });
        }
        if let Some(at) = values.iter().position(|v| !(0.0..=1.0).contains(v)) {
            return Err(QualityError::Probability {
                value: values[at],
                row: at / width as usize,
                column: at % width as usize,
            });
        }
        Ok(Self {
            width,
            height,
            values,
        })
    }

    /// The pixels with a probability above a half.
    pub fn binary(&self) -> Mask {
        let width = self.width as usize;
        Mask::from_fn(self.width, self.height, |x, y| {
            self.values[y as usize * width + x as usize] > 0.5
        })
    }
}

/// A mask whose quality is asked for, and what is known of the object that it should show.
#[derive(Debug, Clone)]
pub struct ExternalMask {
    /// Of the size of the image.
    pub(crate) mask: Mask,
    /// The probabilities it was made from.
    soft: Option<SoftMask>,
    /// Where the object is said to be.
    pub(crate) claim: Option<Prompt>,
}

impl ExternalMask {
    /// A binary mask of any size; it is stretched to an image of `width`×`height` pixels.
    ///
    /// # Errors
    /// [`QualityError::EmptyMask`]: no pixel is set.
    pub fn new(mask: &Mask, width: u32, height: u32) -> Result<Self> {
        let mask = if (mask.width(), mask.height()) == (width, height) {
            mask.clone()
        } else {
            mask.resize_nearest(width, height)
        };
        if mask.is_empty() {
            return Err(QualityError::EmptyMask);
        }
        Ok(Self {
            mask,
            soft: None,
            claim: None,
        })
    }

    /// A soft mask of any size; likewise.
    ///
    /// # Errors
    /// [`QualityError::EmptySoftMask`]: no probability exceeds a half.
    pub fn soft(soft: SoftMask, width: u32, height: u32) -> Result<Self> {
        let mask =
            Self::new(&soft.binary(), width, height).map_err(|_| QualityError::EmptySoftMask)?;
        Ok(Self {
            soft: Some(soft),
            ..mask
        })
    }

    /// Says where the object is, by a box or a click that does not come from the mask, such as the
    /// box of a detector: a mask of something else is found out then. Only the box and the first
    /// positive click of `claim` are used.
    pub fn with_claim(mut self, claim: Prompt) -> Self {
        self.claim = Some(claim);
        self
    }

    /// The mask, of the size of the image.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// As a dense prompt.
    pub(crate) fn logits(&self, frame: &Frame, side: usize) -> Logits {
        match &self.soft {
            None => Logits::from_mask(&self.mask, frame, side),
            Some(SoftMask {
                width,
                height,
                values,
            }) => Logits::from_coverage((*width, *height), frame, side, |x, y| {
                f64::from(values[(y * width + x) as usize])
            }),
        }
    }
}
