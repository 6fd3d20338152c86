//! The model's answer to a prompt: candidate masks with their scores.

use std::fmt;
use std::ops::Index;

use rayon::prelude::*;
use samara_image::{Frame, Mask};
use samara_model::ModelConfig;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::device::DeviceError;
use crate::granularity::{Granularity, granularities};
use crate::logits::Logits;
use crate::prompt::Prompt;
use crate::segmenter::Segmenter;
use crate::select::{Select, Selection, best_index, expected_ious};
use crate::token_score::TokenScores;
use crate::zoom::PixelRect;

/// How well a mask outlines what it depicts: the IoU with the (unknown) truth that is to be expected if
/// the mask depicts what was meant. Whether it does is another question; see [`MatchProbability`].
///
/// In 0..=1 from a [`CandidateHead`](crate::CandidateHead) or a [`Calibration`](crate::Calibration). A
/// decoder's own score (SAM's "predicted IoU") is not bounded: it can exceed 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct PredictedIou(pub f32);

/// The probability that a candidate is the one that the prompt means, given that one of them is: over the
/// candidates of a prompt it adds up to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct MatchProbability(pub f32);

/// How little a mask changes with its threshold: area above +offset over area above −offset,
/// from full-resolution logits (`calculate_stability_score` of the official code). 0 for a mask
/// without any pixel above −offset.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct StabilityScore(pub f32);

impl StabilityScore {
    /// Offset of the official code, in logits.
    pub const OFFSET: f32 = 1.0;

    /// From the pixels above +offset and those above −offset.
    pub fn from_areas(high: u64, low: u64) -> Self {
        Self(if low == 0 {
            0.0
        } else {
            (high as f64 / low as f64) as f32
        })
    }
}

impl fmt::Display for PredictedIou {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for MatchProbability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for StabilityScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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

/// What the decoder said, mask token by mask token: token 0 is the single mask, the others the
/// candidates of an ambiguous prompt. Scores are raw.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct MaskTokens {
    /// Logits of every token.
    pub low_res_logits: Vec<Logits>,
    /// Predicted IoU of every token.
    pub iou: Vec<PredictedIou>,
}

impl MaskTokens {
    /// The token that answers in the official code when one mask is asked for.
    pub(crate) fn single(&self, config: &ModelConfig) -> usize {
        let iou: Vec<f32> = self.iou.iter().map(|iou| iou.0).collect();
        config.single_token(self.low_res_logits[0].values(), &iou)
    }
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
    /// Turns the tokens that were asked for into masks of the original size.
    pub(crate) fn new(
        tokens: MaskTokens,
        frame: &Frame,
        prompt: &Prompt,
        segmenter: &Segmenter,
    ) -> Result<Self> {
        let config = segmenter.config();
        let token_scores = TokenScores::new(segmenter, &tokens, prompt, frame);
        let shown = token_scores.shown();
        let scores = token_scores.of(shown.clone());
        let masks: Vec<(Mask, StabilityScore)> = tokens.low_res_logits[shown.clone()]
            .par_iter()
            .map(|logits| logits.upsample(frame, StabilityScore::OFFSET))
            .collect::<Result<_, _>>()?;
        let levels = granularities(&masks.iter().map(|(mask, _)| mask).collect::<Vec<_>>());
        let candidates = masks
            .into_iter()
            .zip(shown)
            .zip(levels)
            .zip(scores)
            .enumerate();
        let candidates = candidates
            .map(
                |(index, ((((mask, stability_score), token), granularity), score))| Candidate {
                    index,
                    mask,
                    predicted_iou: score.predicted_iou,
                    raw_predicted_iou: tokens.iou[token],
                    match_probability: score.match_probability,
                    stability_score,
                    granularity,
                    low_res_logits: tokens.low_res_logits[token].limited(config.logits_limit()),
                },
            )
            .collect();
        Self::checked(candidates, tokens, None)
    }

    /// Refuses an answer without a candidate, which no model gives.
    fn checked(all: Vec<Candidate>, tokens: MaskTokens, view: Option<PixelRect>) -> Result<Self> {
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

    /// The part of the image from which masks of this answer were drawn, in original pixels; `None`
    /// where all come from the whole image. See
    /// [`Embedding::predict_zoomed`](crate::Embedding::predict_zoomed).
    pub fn view(&self) -> Option<PixelRect> {
        self.view
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

    /// The IoU to expect of every candidate with what was meant, whichever candidate that is; `None` for a
    /// model without match probabilities. Candidate `i` has `Σⱼ pⱼ · qⱼ · IoU(i, j)`, where `p` is the match
    /// probability and `q` the predicted IoU: alike candidates support each other.
    pub fn expected_ious(&self) -> Option<Vec<f32>> {
        expected_ious(&self.all)
    }

    /// The candidate that [`Select::Best`] chooses.
    pub fn best(&self) -> &Candidate {
        &self.all[best_index(&self.all)]
    }

    /// That candidate, without the others.
    pub fn into_best(mut self) -> Candidate {
        let best = best_index(&self.all);
        self.all.swap_remove(best)
    }

    /// Picks a mask; see [`Select`].
    ///
    /// # Errors
    /// The strategy's parameter makes no sense for this image.
    pub fn select(&self, select: &Select) -> Result<Selection> {
        select.apply(&self.all)
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
        Self::checked(all, tokens, view).map_err(serde::de::Error::custom)
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
