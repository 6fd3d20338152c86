//! What the user points at.

use samara_image::{Frame, Mask, OriginalBox, OriginalPx};

use crate::Result;
use crate::error::PromptError;
use crate::intent::Intent;
use crate::logits::Logits;
use crate::select::Selection;

/// A click.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Click {
    /// Where, in original pixels.
    pub at: OriginalPx,
    /// True on the object; false beside it, which makes a negative click.
    pub positive: bool,
}

/// A mask prompt.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
#[non_exhaustive]
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
/// let corrected = click.clone().with_point(610.0, 350.0).with_negative_point(420.0, 200.0);
/// let boxed = Prompt::bbox(300.0, 120.0, 700.0, 560.0)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Prompt {
    pub(crate) clicks: Vec<Click>,
    #[cfg_attr(feature = "serde", serde(rename = "box"))]
    pub(crate) bbox: Option<OriginalBox>,
    pub(crate) mask: Option<MaskPrompt>,
    #[cfg_attr(feature = "serde", serde(rename = "single_mask"))]
    pub(crate) single: bool,
    pub(crate) intent: Intent,
}

/// Corners of a box lie nearer than this, in pixels.
const FAR: f64 = 1e9;

impl Prompt {
    /// A prompt without content, to be filled.
    pub fn new() -> Self {
        Self::default()
    }

    /// A click on the object.
    pub fn point(x: f64, y: f64) -> Self {
        Self::new().with_point(x, y)
    }

    /// A box around the object; corners in any order. A corner outside of the image is taken as it is, as by
    /// the official code.
    ///
    /// # Errors
    /// The box has no area or a coordinate is not finite.
    pub fn bbox(x0: f64, y0: f64, x1: f64, y1: f64) -> Result<Self> {
        Ok(Self::new().with_box(OriginalBox::new(x0, y0, x1, y1)?))
    }

    /// A mask, rough or external.
    pub fn mask(mask: Mask) -> Self {
        Self::new().with_mask(mask)
    }

    /// Adds a click on the object.
    pub fn with_point(self, x: f64, y: f64) -> Self {
        self.with_click(Click {
            at: OriginalPx::new(x, y),
            positive: true,
        })
    }

    /// Adds a negative click: one beside the object.
    pub fn with_negative_point(self, x: f64, y: f64) -> Self {
        self.with_click(Click {
            at: OriginalPx::new(x, y),
            positive: false,
        })
    }

    /// Adds a click.
    pub fn with_click(mut self, click: Click) -> Self {
        self.clicks.push(click);
        self
    }

    /// Sets the box.
    pub fn with_box(mut self, bbox: OriginalBox) -> Self {
        self.bbox = Some(bbox);
        self
    }

    /// Sets the mask: a [`Mask`] or [`Logits`].
    pub fn with_mask(mut self, mask: impl Into<MaskPrompt>) -> Self {
        self.mask = Some(mask.into());
        self
    }

    /// Asks for one mask instead of three (`multimask_output=False` of the official code): better when the
    /// prompt is not ambiguous, such as several clicks. A model with a
    /// [`CandidateHead`](crate::CandidateHead) answers with that of all its masks which has the highest
    /// expected IoU, others as the official code does.
    pub fn with_single_mask(mut self) -> Self {
        self.single = true;
        self
    }

    /// Says what is usually meant, for a model with a head that chooses among the candidates.
    pub fn with_intent(mut self, intent: Intent) -> Self {
        self.intent = intent;
        self
    }

    /// The same prompt as a correction of an earlier answer: the logits of the selected mask become the mask
    /// prompt (its pixels, if it was made of several candidates), and one mask is asked for.
    ///
    /// ```no_run
    /// # fn run(embedding: samara::Embedding) -> samara::Result<()> {
    /// use samara::{Prompt, Select};
    ///
    /// let click = Prompt::point(520.0, 360.0);
    /// let first = embedding.predict(&click)?.select(&Select::Best)?;
    /// let corrected = click.with_negative_point(420.0, 200.0).refine(&first);
    /// let second = embedding.predict(&corrected)?.select(&Select::Best)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn refine(self, previous: &Selection) -> Self {
        let prompt = self.with_single_mask();
        match &previous.low_res_logits {
            Some(logits) => prompt.with_mask(logits.clone()),
            None => prompt.with_mask(previous.mask.clone()),
        }
    }

    /// Whether there is nothing to answer.
    pub fn is_empty(&self) -> bool {
        self.clicks.is_empty() && self.bbox.is_none() && self.mask.is_none()
    }

    /// Whether it can mean several objects, and all are asked for.
    pub(crate) fn is_ambiguous(&self) -> bool {
        !self.single && self.bbox.is_none() && self.mask.is_none()
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

    /// The mask.
    pub fn mask_prompt(&self) -> Option<&MaskPrompt> {
        self.mask.as_ref()
    }

    /// Whether a mask is all that it says. Models of this family are trained with masks beside clicks and boxes, and
    /// answer badly to one alone; the mask's own box beside it helps.
    pub fn is_mask_alone(&self) -> bool {
        self.mask.is_some() && self.clicks.is_empty() && self.bbox.is_none()
    }

    /// Checks the prompt against an image of `width`×`height` original pixels: it has content, its
    /// points lie in the image, and its box overlaps it. [`Embedding::predict`](crate::Embedding)
    /// checks that too; this is for saying so before a model is loaded.
    ///
    /// # Errors
    /// [`PromptError`], naming the point or box.
    pub fn check(&self, width: u32, height: u32) -> Result<(), PromptError> {
        if self.is_empty() {
            return Err(PromptError::Empty);
        }
        if let Some(MaskPrompt::Mask(mask)) = &self.mask
            && mask.is_empty()
        {
            return Err(PromptError::EmptyMask);
        }
        let (w, h) = (f64::from(width), f64::from(height));
        let inside = |click: &&Click| click.at.is_inside(width, height);
        if let Some(&Click { at, .. }) = self.clicks.iter().find(|click| !inside(click)) {
            return Err(if at.x.is_finite() && at.y.is_finite() {
                PromptError::PointOutside { at, width, height }
            } else {
                PromptError::PointNotFinite { at }
            });
        }
        if let Some(bbox) = self.bbox {
            let OriginalBox { min, max } = bbox;
            // False also when a coordinate is NaN. Models compute in 32 bits, so a box ends somewhere.
            let begins = |v: f64, side: f64| v > -FAR && v < side;
            let ends = |v: f64| v > 0.0 && v < FAR;
            let overlaps = begins(min.x, w) && begins(min.y, h) && ends(max.x) && ends(max.y);
            if !overlaps {
                return Err(PromptError::BoxOutside {
                    bbox,
                    width,
                    height,
                });
            }
        }
        Ok(())
    }

    /// Checks the prompt against an embedded image and the model's grid of mask logits.
    pub(crate) fn validate(&self, frame: &Frame, logits_side: usize) -> Result<(), PromptError> {
        let (width, height) = frame.original_size();
        self.check(width, height)?;
        match &self.mask {
            Some(MaskPrompt::Logits(logits)) if logits.side() != logits_side => {
                Err(PromptError::LogitsSide {
                    found: logits.side(),
                    expected: logits_side,
                })
            }
            _ => Ok(()),
        }
    }
}

impl From<Mask> for MaskPrompt {
    fn from(mask: Mask) -> Self {
        Self::Mask(mask)
    }
}

impl From<Logits> for MaskPrompt {
    fn from(logits: Logits) -> Self {
        Self::Logits(logits)
    }
}
