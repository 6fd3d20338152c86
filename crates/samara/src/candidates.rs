//! The model's answer to a prompt: candidate masks with their scores.

use std::ops::Index;

use rayon::prelude::*;
use samara_image::Mask;
#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::DeviceError;
use crate::granularity::{Granularity, granularities};
use crate::logits::Logits;
use crate::mask_tokens::MaskTokens;
use crate::score::{MatchProbability, PredictedIou, StabilityScore};
use crate::zoom::PixelRect;

/// One candidate mask.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Candidate {
    /// Position in the model's answer.
    pub index: usize,
    /// The mask in original pixels.
    pub mask: Mask,
    /// How well the mask outlines what it depicts: by the model's [`CandidateHead`](crate::CandidateHead)
    /// if it has one, else by its decoder; calibrated if it has a [`Calibration`](crate::Calibration).
    pub predicted_iou: PredictedIou,
    /// The decoder's own score.
    pub raw_predicted_iou: PredictedIou,
    /// The probability that this candidate is what the prompt means; `None` for a model without a head that
    /// says so, and for an answer of a single mask.
    pub match_probability: Option<MatchProbability>,
    /// Stability of the mask at offset 1.
    pub stability_score: StabilityScore,
    /// Whole, part or subpart, by area and containment among the candidates.
    pub granularity: Granularity,
    /// The logits from which the mask was made, within ±32 for SAM 2; feed them back to refine the
    /// mask.
    pub low_res_logits: Logits,
}

/// The answer to one prompt: three candidates, or one when a single mask was asked for.
///
/// ```no_run
/// # fn run(embedding: samara::Embedding) -> samara::Result<()> {
/// use samara::{Prompt, Select};
///
/// let candidates = embedding.predict(&Prompt::point(520.0, 360.0))?;
/// println!("{} {:.2}", candidates[0].granularity, candidates[0].predicted_iou);
/// println!("{} pixels", candidates.best().mask.area());
/// let part = candidates.select(&"part".parse()?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(Serialize))]
pub struct Candidates {
    all: Vec<Candidate>,
    tokens: MaskTokens,
    view: Option<PixelRect>,
}

impl Candidates {
    /// Refuses an answer without a candidate, which no model gives.
    pub(crate) fn new(
        all: Vec<Candidate>,
        tokens: MaskTokens,
        view: Option<PixelRect>,
    ) -> Result<Self> {
        if all.is_empty() {
            return Err(DeviceError::NoAnswer.into());
        }
        Ok(Self { all, tokens, view })
    }

    /// The answer to a part of an image as one to the image of `size`, with its logits laid anew
    /// by `place`.
    pub(crate) fn seen_in(
        mut self,
        view: PixelRect,
        (width, height): (u32, u32),
        place: impl Fn(&Logits) -> Logits + Sync,
    ) -> Self {
        self.all.par_iter_mut().for_each(|candidate| {
            candidate.mask = candidate.mask.placed(view.x, view.y, width, height);
            candidate.low_res_logits = place(&candidate.low_res_logits);
        });
        let tokens = self.tokens.low_res_logits.par_iter_mut();
        tokens.for_each(|logits| *logits = place(logits));
        self.seen_at(view)
    }

    /// The same with other masks at these positions; scores stay, as they are those of an answer as a whole.
    pub(crate) fn replaced(mut self, others: Vec<(usize, Candidate)>) -> Self {
        for (index, other) in others {
            if let Some(candidate) = self.all.get_mut(index) {
                candidate.mask = other.mask;
                candidate.low_res_logits = other.low_res_logits;
                candidate.stability_score = other.stability_score;
            }
        }
        let masks: Vec<&Mask> = self.all.iter().map(|c| &c.mask).collect();
        let levels = granularities(&masks);
        for (candidate, level) in self.all.iter_mut().zip(levels) {
            candidate.granularity = level;
        }
        self
    }

    /// The same, with this part of the image as where it was seen.
    pub(crate) fn seen_at(mut self, view: PixelRect) -> Self {
        self.view = Some(view);
        self
    }

    /// The same without logits, which are nine tenths of its memory: for answers that are kept, and not refined.
    /// Those of the candidates and of the tokens have no values then, so they are no mask prompt.
    pub fn without_logits(mut self) -> Self {
        let of_candidates = self.all.iter_mut().map(|c| &mut c.low_res_logits);
        for logits in of_candidates.chain(&mut self.tokens.low_res_logits) {
            *logits = Logits::none();
        }
        self
    }

    /// The part of the image from which masks of this answer were drawn, in original pixels; `None`
    /// where all come from the whole image. See
    /// [`Embedding::predict_zoomed`](crate::Embedding::predict_zoomed).
    pub fn view(&self) -> Option<PixelRect> {
        self.view
    }

    /// One of them, without the others.
    pub(crate) fn into_one(mut self, index: usize) -> Candidate {
        self.all.swap_remove(index)
    }

    /// The candidates, in the model's order.
    pub fn as_slice(&self) -> &[Candidate] {
        &self.all
    }

    /// How many candidates there are: three, or one.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Never: there is at least one.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The candidates, in the model's order.
    pub fn iter(&self) -> std::slice::Iter<'_, Candidate> {
        self.all.iter()
    }

    /// All mask tokens of the decoder, also those that are not shown as candidates.
    pub fn tokens(&self) -> &MaskTokens {
        &self.tokens
    }
}

impl Index<usize> for Candidates {
    type Output = Candidate;

    /// # Panics
    /// There are not as many candidates; see [`as_slice`](Candidates::as_slice).
    fn index(&self, index: usize) -> &Candidate {
        &self.all[index]
    }
}

#[cfg(feature = "serde")]
impl<'de> Deserialize<'de> for Candidates {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The same, unchecked.
        #[derive(Deserialize)]
        struct Unchecked {
            all: Vec<Candidate>,
            tokens: MaskTokens,
            view: Option<PixelRect>,
        }
        let Unchecked { all, tokens, view } = Deserialize::deserialize(deserializer)?;
        Self::new(all, tokens, view).map_err(serde::de::Error::custom)
    }
}

impl IntoIterator for Candidates {
    type Item = Candidate;
    type IntoIter = std::vec::IntoIter<Candidate>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter()
    }
}

impl<'a> IntoIterator for &'a Candidates {
    type Item = &'a Candidate;
    type IntoIter = std::slice::Iter<'a, Candidate>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
