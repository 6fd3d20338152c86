//! What the user points at.

use samara_image::{Frame, Mask, OriginalBox, OriginalPx};

use crate::logits::Logits;
use crate::{Error, Intent, Result};

/// A click.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Click {
    /// Where, in original pixels.
    pub at: OriginalPx,
    /// True on the object, false off it.
    pub positive: bool,
}

/// A mask prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum MaskPrompt {
    /// Logits, such as those of an earlier answer.
    Logits(Logits),
    /// A mask in original pixels, of any size: it is stretched to the image.
    Mask(Mask),
}

/// A prompt for one object: any combination of clicks, a box and a mask, in original pixels.
///
/// ```
/// use samara::Prompt;
///
/// # fn main() -> samara::Result<()> {
/// let click = Prompt::point(520.0, 360.0);
/// let corrected = click.clone().and_point(610.0, 350.0).and_background(420.0, 200.0);
/// let boxed = Prompt::bbox(300.0, 120.0, 700.0, 560.0)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prompt {
    pub(crate) clicks: Vec<Click>,
    pub(crate) bbox: Option<OriginalBox>,
    pub(crate) mask: Option<MaskPrompt>,
    pub(crate) single: bool,
    pub(crate) intent: Intent,
}

impl Prompt {
    /// A prompt without content, to be filled.
    pub fn new() -> Self {
        Self::default()
    }

    /// A click on the object.
    pub fn point(x: f64, y: f64) -> Self {
        Self::new().and_point(x, y)
    }

    /// A box around the object; corners in any order.
    ///
    /// # Errors
    /// The box has no area or a coordinate is not finite.
    pub fn bbox(x0: f64, y0: f64, x1: f64, y1: f64) -> Result<Self> {
        Ok(Self::new().and_box(OriginalBox::new(x0, y0, x1, y1)?))
    }

    /// A mask, rough or external.
    pub fn mask(mask: Mask) -> Self {
        Self::new().and_mask(MaskPrompt::Mask(mask))
    }

    /// Adds a click on the object.
    pub fn and_point(self, x: f64, y: f64) -> Self {
        self.and_click(Click {
            at: OriginalPx::new(x, y),
            positive: true,
        })
    }

    /// Adds a click beside the object.
    pub fn and_background(self, x: f64, y: f64) -> Self {
        self.and_click(Click {
            at: OriginalPx::new(x, y),
            positive: false,
        })
    }

    /// Adds a click.
    pub fn and_click(mut self, click: Click) -> Self {
        self.clicks.push(click);
        self
    }

    /// Sets the box.
    pub fn and_box(mut self, bbox: OriginalBox) -> Self {
        self.bbox = Some(bbox);
        self
    }

    /// Sets the mask.
    pub fn and_mask(mut self, mask: MaskPrompt) -> Self {
        self.mask = Some(mask);
        self
    }

    /// Refines an earlier answer: its logits become the mask prompt.
    pub fn and_refine(self, previous: &Logits) -> Self {
        self.and_mask(MaskPrompt::Logits(previous.clone()))
    }

    /// Asks for one mask instead of three: better when the prompt is not ambiguous, such as
    /// several clicks. A model with a [`CandidateHead`](crate::CandidateHead) answers with that of all its masks
    /// which has the highest expected IoU, others as the official code does.
    pub fn single(mut self) -> Self {
        self.single = true;
        self
    }

    /// Whether there is nothing to answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.clicks.is_empty() && self.bbox.is_none() && self.mask.is_none()
    }

    /// Whether it can mean several objects, and all are asked for.
    pub(crate) fn is_ambiguous(&self) -> bool {
        !self.single && self.bbox.is_none() && self.mask.is_none()
    }

    /// Says what is usually meant, for a model with a head that chooses among the candidates.
    pub fn with_intent(mut self, intent: Intent) -> Self {
        self.intent = intent;
        self
    }

    /// What is usually meant.
    pub fn intent(&self) -> Intent {
        self.intent
    }

    /// The clicks.
    pub fn clicks(&self) -> &[Click] {
        &self.clicks
    }

    /// The box.
    pub fn box_prompt(&self) -> Option<&OriginalBox> {
        self.bbox.as_ref()
    }

    /// Checks the prompt against an image of `width`×`height` original pixels: it has content, its
    /// points lie in the image, and its box overlaps it. [`Embedding::predict`](crate::Embedding)
    /// checks that too; this is for saying so before a model is loaded.
    ///
    /// # Errors
    /// [`Error::Prompt`], naming the point or box.
    pub fn check(&self, width: u32, height: u32) -> Result<()> {
        if self.is_empty() {
            return Err(Error::Prompt("the prompt has no point, box or mask".into()));
        }
        if let Some(MaskPrompt::Mask(mask)) = &self.mask
            && mask.is_empty()
        {
            return Err(Error::Prompt("the mask prompt has no pixel set".into()));
        }
        let (w, h) = (f64::from(width), f64::from(height));
        let outside = |what: String| {
            Err(Error::Prompt(format!(
                "{what} lies outside the image of {width}×{height} pixels"
            )))
        };
        if let Some(Click { at, .. }) = self
            .clicks
            .iter()
            .find(|click| !click.at.is_inside(width, height))
        {
            return outside(format!("point {},{}", at.x, at.y));
        }
        if let Some(OriginalBox { min, max }) = &self.bbox {
            // False also when a coordinate is not a number.
            let overlaps = min.x < w && min.y < h && max.x > 0.0 && max.y > 0.0;
            if !overlaps {
                return outside(format!("box {},{},{},{}", min.x, min.y, max.x, max.y));
            }
        }
        Ok(())
    }

    /// Checks the prompt against an embedded image and the model's grid of mask logits.
    pub(crate) fn validate(&self, frame: &Frame, logits_side: usize) -> Result<()> {
        let (width, height) = frame.original_size();
        self.check(width, height)?;
        match &self.mask {
            Some(MaskPrompt::Logits(logits)) if logits.side() != logits_side => {
                Err(Error::Prompt(format!(
                    "mask logits of {0}×{0} values, the model takes {logits_side}×{logits_side}",
                    logits.side()
                )))
            }
            _ => Ok(()),
        }
    }

    /// Prompts with the same shape can be decoded in one batch: the number of clicks, and whether
    /// there is a box and a mask.
    pub(crate) fn shape(&self) -> (usize, bool, bool) {
        (self.clicks.len(), self.bbox.is_some(), self.mask.is_some())
    }
}
