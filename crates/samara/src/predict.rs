//! Answers to prompts.

use std::ops::Range;

use rayon::prelude::*;
use samara_image::Mask;
use samara_kernels::threads::Threads;
use samara_model::sam::ImageTokens;
use samara_model::{Scored, is_cpu};

use crate::Result;
use crate::candidates::{Candidate, Candidates};
use crate::embedding::{Embedding, read};
use crate::error::{DeviceError, PromptError};
use crate::granularity::granularities;
use crate::logits::Logits;
use crate::mask_tokens::MaskTokens;
use crate::model_prompt::ModelPrompt;
use crate::prompt::Prompt;
use crate::score::{PredictedIou, StabilityScore};
use crate::token_score::TokenScores;

/// Prompts decoded at once. A prompt of SAM keeps some 40 MB busy while it is decoded, so this
/// bounds the working memory of a batch to well under a gigabyte.
pub(crate) const MAX_BATCH: usize = 16;

/// Prompts that a thread takes at once, where there are enough for all. Threads with prompts of their
/// own need not wait for each other after every operation; several prompts share the reading of the
/// decoder's weights (a fifth of the time against one by one); more of them than this fall out of the
/// caches.
const PROMPTS_OF_A_THREAD: usize = 8;

impl Embedding {
    /// Answers one prompt.
    ///
    /// # Errors
    /// The prompt is empty, lies outside the image, or carries logits of another size.
    pub fn predict(&self, prompt: &Prompt) -> Result<Candidates> {
        let mut answers = self.predict_batch(std::slice::from_ref(prompt))?;
        answers.pop().ok_or_else(|| DeviceError::NoAnswer.into())
    }

    /// Answers many prompts, in the given order. Prompts of the same shape are decoded together.
    ///
    /// # Errors
    /// As [`Embedding::predict`]; the first bad prompt is named by its position, and nothing is
    /// computed.
    pub fn predict_batch(&self, prompts: &[Prompt]) -> Result<Vec<Candidates>> {
        self.segmenter().threads().run(|| {
            let tokens = self.decode(prompts)?;
            let answers = tokens.into_iter().zip(prompts);
            answers.map(|(t, p)| self.candidates(t, p)).collect()
        })
    }

    /// Answers prompts on several images, in the given order, each image by a thread of its own while there are
    /// enough of them: two thirds of the time of one after the other. All of one model, or they take turns.
    pub fn predict_each(asked: &[(&Self, &[Prompt])]) -> Vec<Result<Vec<Candidates>>> {
        let Some((first, _)) = asked.first() else {
            return Vec::new();
        };
        let answer = |&(embedding, prompts): &(&Self, &[Prompt])| embedding.predict_batch(prompts);
        let all = || asked.par_iter().map(answer).collect();
        first.segmenter().threads().run(all)
    }

    /// Checks prompts without answering them; for those that are answered some at a time.
    ///
    /// # Errors
    /// As [`Embedding::predict_batch`].
    pub fn check(&self, prompts: &[Prompt]) -> Result<()> {
        let logits_side = self.segmenter().logits_side();
        all_good(prompts, |prompt| prompt.validate(self.frame(), logits_side))
    }

    /// The first half of [`Embedding::predict_batch`]: logits and scores of every mask token, for
    /// every prompt, without masks of the original size.
    ///
    /// # Errors
    /// As [`Embedding::predict_batch`].
    pub fn decode(&self, prompts: &[Prompt]) -> Result<Vec<MaskTokens>> {
        self.check(prompts)?;
        let prompts: Vec<ModelPrompt> = prompts.iter().map(|p| self.to_model(p)).collect();
        self.decode_checked(&prompts)
    }

    /// As [`decode`](Self::decode), of prompts in the model's frame.
    ///
    /// # Errors
    /// A prompt has nothing in it, a number that is not finite, or logits of another size; the first such one is named
    /// by its position, and nothing is computed.
    pub fn decode_model(&self, prompts: &[ModelPrompt]) -> Result<Vec<MaskTokens>> {
        let logits_side = self.segmenter().logits_side();
        all_good(prompts, |prompt| prompt.check(logits_side))?;
        self.segmenter()
            .threads()
            .run(|| self.decode_checked(prompts))
    }

    fn decode_checked(&self, prompts: &[ModelPrompt]) -> Result<Vec<MaskTokens>> {
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by_key(|&i| prompts[i].shape());
        let mut answers: Vec<(usize, MaskTokens)> = Vec::with_capacity(prompts.len());
        for same in order.chunk_by(|&a, &b| prompts[a].shape() == prompts[b].shape()) {
            for batch in same.chunks(MAX_BATCH) {
                let chosen: Vec<&ModelPrompt> = batch.iter().map(|&i| &prompts[i]).collect();
                answers.extend(batch.iter().copied().zip(self.decode_same(&chosen)?));
            }
        }
        answers.sort_by_key(|&(i, _)| i);
        Ok(answers.into_iter().map(|(_, tokens)| tokens).collect())
    }

    /// The second half of [`Embedding::predict_batch`]: masks of the original size from the tokens
    /// that the prompt asked for.
    ///
    /// # Errors
    /// The tokens belong to another model.
    pub fn candidates(&self, tokens: MaskTokens, prompt: &Prompt) -> Result<Candidates> {
        let candidates = || self.answer(tokens, prompt);
        self.segmenter().threads().run(candidates)
    }

    /// The tokens with which the official predictors answer, whatever head the model has: with `multimask` the
    /// candidates of an ambiguous prompt, else one.
    pub fn official_tokens(&self, tokens: &MaskTokens, multimask: bool) -> Range<usize> {
        if multimask {
            1..tokens.iou.len()
        } else {
            let single = tokens.single(self.segmenter().config());
            single..single + 1
        }
    }

    /// The mask of one token in original pixels, without its candidate's scores.
    ///
    /// # Errors
    /// The tokens belong to another model, or there is no such token.
    pub fn mask_of(&self, tokens: &MaskTokens, token: usize) -> Result<Mask> {
        let logits = tokens.low_res_logits.get(token);
        let logits = logits.ok_or(PromptError::NoToken(token))?;
        Ok(logits.upsample(self.frame(), StabilityScore::OFFSET)?.0)
    }

    /// Masks of the original size from low-resolution logits, as [`candidates`](Self::candidates) makes them: one
    /// `bool` a pixel, row by row and mask after mask.
    ///
    /// # Errors
    /// As [`Logits::upsample`].
    pub fn upsample_bools(&self, logits: &[Logits]) -> Result<Vec<bool>> {
        let (width, height) = self.size();
        let pixels = width as usize * height as usize;
        let mut all = vec![false; logits.len() * pixels];
        let upsample = |(logits, pixels): (&Logits, &mut [bool])| {
            let (mask, _) = logits.upsample(self.frame(), StabilityScore::OFFSET)?;
            mask.write_bools(pixels);
            Ok::<_, crate::Error>(())
        };
        let each = || {
            let rows = all.par_chunks_exact_mut(pixels);
            logits.par_iter().zip(rows).try_for_each(upsample)
        };
        self.segmenter().threads().run(each)?;
        Ok(all)
    }

    /// The same as logits of every original pixel, row by row.
    ///
    /// # Errors
    /// As [`Logits::upsample`].
    pub fn upsample_logits(&self, logits: &[Logits]) -> Result<Vec<Vec<f32>>> {
        let full = |logits: &Logits| Ok(logits.upsample_logits(self.frame())?);
        let all = || logits.par_iter().map(full).collect();
        self.segmenter().threads().run(all)
    }

    /// Runs the decoder on prompts of one shape.
    fn decode_same(&self, prompts: &[&ModelPrompt]) -> Result<Vec<MaskTokens>> {
        let scored = self.score(prompts)?;
        let all: Vec<usize> = (0..prompts.len()).collect();
        let mut logits = scored.decode_masks(&all)?.into_iter();
        let tokens = scored.scores().map(|scores| MaskTokens {
            low_res_logits: logits.by_ref().take(scores.len()).collect(),
            iou: scores.to_vec(),
        });
        Ok(tokens.collect())
    }

    /// Scores of prompts of one shape, which are not checked; their masks can be decoded afterwards.
    pub(crate) fn score(&self, prompts: &[&ModelPrompt]) -> Result<ScoredPrompts<'_>> {
        let (model, threads) = (self.segmenter().model(), self.segmenter().threads());
        let per_part = if is_cpu(self.segmenter().device()) {
            let threads = threads.count();
            prompts.len().div_ceil(threads).min(PROMPTS_OF_A_THREAD)
        } else {
            prompts.len()
        };
        let masked = prompts.iter().all(|p| p.mask.is_some());
        let shared = if masked { None } else { self.shared() };
        let score_part = |prompts: &[&ModelPrompt]| {
            let batch = ModelPrompt::batch(prompts, self.segmenter().device());
            let scored = model.score(&self.features, &batch, shared);
            let scores = finite("iou", read(scored.iou())?)?;
            Ok((scored, scores))
        };
        let parts = threads.run(|| {
            prompts
                .par_chunks(per_part)
                .map(score_part)
                .collect::<Result<_>>()
        })?;
        let (parts, scores): (Vec<Scored<'_>>, Vec<Vec<f32>>) = parts;
        let scores: Vec<_> = scores.into_iter().flatten().map(PredictedIou).collect();
        Ok(ScoredPrompts {
            threads,
            parts,
            per_part,
            tokens: scores.len() / prompts.len(),
            scores,
        })
    }

    /// A prompt in the model's frame.
    pub(crate) fn to_model(&self, prompt: &Prompt) -> ModelPrompt {
        ModelPrompt::new(prompt, self.frame(), self.segmenter().logits_side())
    }

    /// Turns the tokens that were asked for into masks of the original size.
    fn answer(&self, tokens: MaskTokens, prompt: &Prompt) -> Result<Candidates> {
        let (frame, segmenter) = (self.frame(), self.segmenter());
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
        Candidates::new(candidates, tokens, None)
    }

    /// What prompts without a mask share.
    fn shared(&self) -> Option<&ImageTokens> {
        // Threads do not wait for each other here, as each may be needed for the other's work.
        if self.shared.get().is_none() {
            let model = self.segmenter().model();
            let shared = || model.image_tokens(&self.features);
            let _ = self.shared.set(self.segmenter().threads().run(shared));
        }
        self.shared.get()
    }
}

/// Prompts with the scores of all mask tokens.
pub(crate) struct ScoredPrompts<'a> {
    threads: &'a Threads,
    /// The prompts, `per_part` of them in each but the last.
    parts: Vec<Scored<'a>>,
    per_part: usize,
    scores: Vec<PredictedIou>,
    tokens: usize,
}

impl ScoredPrompts<'_> {
    /// Mask tokens of a prompt.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Raw scores, prompt by prompt.
    pub(crate) fn scores(&self) -> impl Iterator<Item = &[PredictedIou]> {
        self.scores.chunks_exact(self.tokens)
    }

    /// Logits of all tokens of the prompts at these positions, which are in order, one after the
    /// other.
    pub(crate) fn decode_masks(&self, prompts: &[usize]) -> Result<Vec<Logits>> {
        let parts: Vec<&[usize]> = prompts
            .chunk_by(|a, b| a / self.per_part == b / self.per_part)
            .collect();
        let decode = |part: &&[usize]| {
            let inside: Vec<usize> = part.iter().map(|i| i % self.per_part).collect();
            let logits = self.parts[part[0] / self.per_part]
                .decode_masks(&inside)
                .low_res_logits;
            let side = logits.dims()[2];
            let logits = finite("low_res_logits", read(logits)?)?;
            let logits = logits.chunks_exact(side * side);
            Ok(logits
                .map(|values| Logits::from_decoder(side, values.to_vec()))
                .collect())
        };
        let decode_all = || parts.par_iter().map(decode).collect::<Result<_>>();
        let decoded: Vec<Vec<Logits>> = self.threads.run(decode_all)?;
        Ok(decoded.into_iter().flatten().collect())
    }
}

/// The first bad prompt as an error, named by its position where there are several.
fn all_good<T>(prompts: &[T], check: impl Fn(&T) -> Result<(), PromptError>) -> Result<()> {
    for (index, prompt) in prompts.iter().enumerate() {
        check(prompt).map_err(|error| match error {
            error if prompts.len() > 1 => PromptError::OfBatch {
                index,
                source: Box::new(error),
            },
            error => error,
        })?;
    }
    Ok(())
}

/// The values of an answer, if they are numbers.
fn finite(tensor: &'static str, values: Vec<f32>) -> Result<Vec<f32>> {
    if values
        .iter()
        .fold(true, |all, value| all & value.is_finite())
    {
        Ok(values)
    } else {
        Err(DeviceError::NotFinite { tensor }.into())
    }
}
