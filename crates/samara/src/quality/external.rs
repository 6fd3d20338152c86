//! A mask from anywhere: another model, an annotator, a thresholded attention map.

use samara_image::{Frame, Mask};

use crate::logits::Logits;
use crate::prompt::Prompt;
use crate::{Error, Result};

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
    /// [`Error::Quality`]: their number is not `width · height`, or one is not in 0..=1.
    pub fn new(width: u32, height: u32, values: Vec<f32>) -> Result<Self> {
        let wrong = |why: String| Err(Error::Quality(format!("soft mask: {why}")));
        if values.is_empty() || values.len() as u64 != u64::from(width) * u64::from(height) {
            let found = values.len();
            return wrong(format!("{found} values do not make {width}×{height}"));
        }
        if let Some(at) = values.iter().position(|v| !(0.0..=1.0).contains(v)) {
            let (value, width) = (values[at], width as usize);
            let (row, column) = (at / width, at % width);
            return wrong(format!(
                "{value} at row {row}, column {column} is not in 0 to 1"
            ));
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
    pub(super) mask: Mask,
    /// The probabilities it was made from.
    soft: Option<SoftMask>,
    /// Where the object is said to be.
    pub(super) claim: Option<Prompt>,
}

impl ExternalMask {
    /// A binary mask of any size; it is stretched to an image of `width`×`height` pixels.
    ///
    /// # Errors
    /// [`Error::Quality`]: no pixel is set.
    pub fn new(mask: &Mask, width: u32, height: u32) -> Result<Self> {
        let mask = if (mask.width(), mask.height()) == (width, height) {
            mask.clone()
        } else {
            mask.resize_nearest(width, height)
        };
        if mask.is_empty() {
            return Err(Error::Quality("the mask has no pixel set".into()));
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
    /// [`Error::Quality`]: no probability exceeds a half.
    pub fn soft(soft: SoftMask, width: u32, height: u32) -> Result<Self> {
        let mask = Self::new(&soft.binary(), width, height).map_err(|_| {
            Error::Quality("soft mask: no probability exceeds a half: it shows nothing".into())
        })?;
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
    pub(super) fn logits(&self, frame: &Frame, side: usize) -> Logits {
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
