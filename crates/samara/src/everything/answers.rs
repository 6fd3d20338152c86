//! What the model says to the points of one crop, through the filters that look at a mask alone.

use std::ops::{ControlFlow, Range};

use rayon::prelude::*;

use super::adaptive::AdaptiveGrid;
use super::crop::{self, CropBox};
use super::found::Found;
use super::grid::PointGrid;
use super::options::MaskGeneratorOptions;
use super::thresholds::MaskThresholds;
use crate::candidate_head::{CandidateFeatures, CandidateHead};
use crate::logits::Logits;
use crate::predict::{MAX_BATCH, ScoredPrompts};
use crate::score::{PredictedIou, StabilityScore};
use crate::upsampler::Upsampler;
use crate::{Embedding, Error, Mask, ModelPrompt, Prompt, Result};

/// The points of one crop and the model's answers to them.
pub(super) struct Answers<'a> {
    embedding: &'a Embedding,
    options: &'a MaskGeneratorOptions,
    thresholds: MaskThresholds,
    crop: CropBox,
    /// Size of the whole image in pixels.
    size: (u32, u32),
    upsampler: Upsampler,
}

/// A mask with scores above the thresholds, in the crop.
struct Confident {
    /// Position of the point in the grid.
    point: usize,
    /// Which of the candidates.
    level: usize,
    score: PredictedIou,
    raw_score: PredictedIou,
    stability: StabilityScore,
    mask: Mask,
}

/// A mask with a predicted IoU above its threshold.
#[derive(Debug, Clone, Copy)]
struct Promising {
    /// Position of the prompt in its batch.
    prompt: usize,
    token: usize,
    /// Position of its logits.
    logits: usize,
    score: PredictedIou,
    raw_score: PredictedIou,
}

impl<'a> Answers<'a> {
    pub(super) fn new(
        embedding: &'a Embedding,
        options: &'a MaskGeneratorOptions,
        thresholds: MaskThresholds,
        crop: CropBox,
        size: (u32, u32),
    ) -> Result<Self> {
        let side = embedding.segmenter().logits_side();
        Ok(Self {
            upsampler: Upsampler::new(side, embedding.frame())?,
            embedding,
            options,
            thresholds,
            crop,
            size,
        })
    }

    /// Masks of all points of a grid, point by point. Tells `progress` how many were asked.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when `progress` broke off, or the device failed.
    pub(super) fn of_grid(
        &self,
        grid: &PointGrid,
        mut progress: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Found>> {
        let mut advance = |asked| match progress(asked) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        };
        let (width, height) = (f64::from(self.crop.width()), f64::from(self.crop.height()));
        let points: Vec<[f64; 2]> = grid.iter().map(|[x, y]| [x * width, y * height]).collect();
        let count = self.options.points_per_batch.min(MAX_BATCH);
        let threads = self.embedding.segmenter().threads();
        if self.options.adaptive {
            let mut found = Vec::new();
            let mut open = AdaptiveGrid::new(grid);
            while let Some(batch) = open.next(count) {
                for answer in threads.run(|| self.of_batch(&points, &batch))? {
                    open.cover(answer.level, &answer.mask, &points);
                    let at = answer.point;
                    found.extend(self.uncut(answer, &points).map(|mask| (at, mask)));
                }
                advance(open.done())?;
            }
            // In the order of the grid, as without leaving out.
            found.sort_by_key(|(at, _)| *at);
            return Ok(found.into_iter().map(|(_, mask)| mask).collect());
        }
        let mut found = Vec::new();
        let all: Vec<usize> = (0..points.len()).collect();
        for batch in all.chunks(count) {
            found.extend(threads.run(|| self.uncut_of_batch(&points, batch))?);
            advance(batch.last().map_or(0, |last| last + 1))?;
        }
        Ok(found)
    }

    /// Masks in the whole image for some of the points.
    fn uncut_of_batch(&self, points: &[[f64; 2]], batch: &[usize]) -> Result<Vec<Found>> {
        let answers = self.of_batch(points, batch)?.into_par_iter();
        Ok(answers
            .filter_map(|answer| self.uncut(answer, points))
            .collect())
    }

    /// Confident masks for some of the points.
    fn of_batch(&self, points: &[[f64; 2]], batch: &[usize]) -> Result<Vec<Confident>> {
        let click = |&i: &usize| Prompt::point(points[i][0], points[i][1]);
        let prompts: Vec<Prompt> = batch.iter().map(click).collect();
        let scored = self.score(&prompts)?;
        let shown = 1..scored.tokens();
        if !self.options.use_m2m {
            return self.confident(&scored, &prompts, shown, |prompt, token| {
                (batch[prompt], token - 1)
            });
        }
        // Every candidate goes back to the model, with its point, for one better mask.
        let all: Vec<usize> = (0..batch.len()).collect();
        let drawn = scored.decode_masks(&all)?;
        let limit = self.embedding.segmenter().config().logits_limit();
        let mut asked = Vec::new();
        for (&point, logits) in batch.iter().zip(drawn.chunks_exact(scored.tokens())) {
            for (level, logits) in logits[shown.clone()].iter().enumerate() {
                let again = click(&point)
                    .with_mask(logits.limited(limit))
                    .with_single_mask();
                asked.push((again, point, level));
            }
        }
        let mut found = Vec::new();
        for part in asked.chunks(MAX_BATCH) {
            let prompts: Vec<Prompt> = part.iter().map(|(prompt, ..)| prompt.clone()).collect();
            let scored = self.score(&prompts)?;
            found.extend(self.confident(&scored, &prompts, 0..1, |prompt, _| {
                let (_, point, level) = part[prompt];
                (point, level)
            })?);
        }
        Ok(found)
    }

    fn score(&self, prompts: &[Prompt]) -> Result<ScoredPrompts<'_>> {
        let prompts = prompts.iter().map(|prompt| self.embedding.to_model(prompt));
        let prompts: Vec<ModelPrompt> = prompts.collect();
        self.embedding.score(&prompts.iter().collect::<Vec<_>>())
    }

    /// Those of the `shown` tokens whose scores are above the thresholds; `of` says to which point
    /// and level a prompt's token belongs.
    fn confident(
        &self,
        scored: &ScoredPrompts<'_>,
        prompts: &[Prompt],
        shown: Range<usize>,
        of: impl Fn(usize, usize) -> (usize, usize) + Sync,
    ) -> Result<Vec<Confident>> {
        let (promising, logits) = match self.embedding.segmenter().candidate_head() {
            None => self.promising_by_decoder(scored, shown)?,
            Some(head) => self.promising_by_head(head, scored, prompts, shown)?,
        };
        let offset = self.options.stability_score_offset;
        let thresh = self.thresholds.stability_score_thresh;
        let draw = |promising: &Promising| {
            let (mask, stability) = self
                .upsampler
                .mask(logits[promising.logits].values(), offset);
            let keep = thresh <= 0.0 || stability.0 >= thresh;
            let (point, level) = of(promising.prompt, promising.token);
            keep.then_some(Confident {
                point,
                level,
                score: promising.score,
                raw_score: promising.raw_score,
                stability,
                mask,
            })
        };
        Ok(promising.par_iter().filter_map(draw).collect())
    }

    /// The decoder scores masks before it draws them, so only those that are promising are drawn.
    fn promising_by_decoder(
        &self,
        scored: &ScoredPrompts<'_>,
        shown: Range<usize>,
    ) -> Result<(Vec<Promising>, Vec<Logits>)> {
        let segmenter = self.embedding.segmenter();
        let mut promising = Vec::new();
        let mut drawn: Vec<usize> = Vec::new();
        for (prompt, scores) in scored.scores().enumerate() {
            for token in shown.clone() {
                let raw_score = scores[token];
                let score = segmenter.calibrated(token, raw_score);
                if !self.is_above(score) {
                    continue;
                }
                if drawn.last() != Some(&prompt) {
                    drawn.push(prompt);
                }
                promising.push(Promising {
                    prompt,
                    token,
                    logits: (drawn.len() - 1) * scored.tokens() + token,
                    score,
                    raw_score,
                });
            }
        }
        Ok((promising, scored.decode_masks(&drawn)?))
    }

    /// A candidate head looks at the masks.
    fn promising_by_head(
        &self,
        head: &CandidateHead,
        scored: &ScoredPrompts<'_>,
        prompts: &[Prompt],
        shown: Range<usize>,
    ) -> Result<(Vec<Promising>, Vec<Logits>)> {
        let all: Vec<usize> = (0..prompts.len()).collect();
        let (logits, tokens) = (scored.decode_masks(&all)?, scored.tokens());
        let scores: Vec<&[PredictedIou]> = scored.scores().collect();
        let segmenter = self.embedding.segmenter();
        let look = |prompt: usize| {
            let of_prompt = &logits[prompt * tokens..][..tokens];
            let (frame, scores) = (self.embedding.frame(), scores[prompt]);
            let features =
                CandidateFeatures::from_parts(of_prompt, scores, &prompts[prompt], frame);
            let score = |token| {
                let score = segmenter.calibrated(token, head.predicted_iou(&features, token));
                Promising {
                    prompt,
                    token,
                    logits: prompt * tokens + token,
                    score,
                    raw_score: scores[token],
                }
            };
            let scored = shown.clone().map(score);
            scored
                .filter(|p| self.is_above(p.score))
                .collect::<Vec<_>>()
        };
        let promising: Vec<Vec<Promising>> = all.into_par_iter().map(look).collect();
        Ok((promising.concat(), logits))
    }

    fn is_above(&self, score: PredictedIou) -> bool {
        let thresh = self.thresholds.pred_iou_thresh;
        // Nothing is known of a mask whose score is NaN.
        (thresh <= 0.0 && !score.0.is_nan()) || score.0 > thresh
    }

    /// The mask in the whole image, if it does not go on outside of the crop.
    fn uncut(&self, answer: Confident, points: &[[f64; 2]]) -> Option<Found> {
        let corners = crop::corners(&answer.mask);
        if self.crop.cuts(corners, self.size) {
            return None;
        }
        let [x, y] = points[answer.point];
        Some(Found {
            rle: self.crop.uncrop_mask(answer.mask, self.size).to_rle(),
            corners: self.crop.uncrop(corners),
            score: answer.score,
            raw_score: answer.raw_score,
            stability: answer.stability,
            point: [x + f64::from(self.crop.x0), y + f64::from(self.crop.y0)],
            crop: self.crop,
        })
    }
}
