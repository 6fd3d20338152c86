//! The embedding of an image: computed once, asked many times, saved to a file.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use safetensors::tensor::SafeTensors;
use samara_image::{Frame, Mask, RgbImage, write_atomic};
use samara_kernels::threads::Threads;
use samara_model::burn::tensor::{Tensor, TensorData};
use samara_model::sam::{ImageTokens, PromptBatch};
use samara_model::{FeaturesError, ImageFeatures, Scored, is_cpu};

use crate::candidates::{Candidates, MaskTokens, PredictedIou, StabilityScore};
use crate::device::DeviceError;
use crate::logits::Logits;
use crate::prompt::{MaskPrompt, Prompt, PromptError};
use crate::segmenter::{Segmenter, image_digest};
use crate::zoom::LastView;
use crate::{Error, Result};

/// Prompts decoded at once. A prompt of SAM keeps some 40 MB busy while it is decoded, so this
/// bounds the working memory of a batch to well under a gigabyte.
pub(crate) const MAX_BATCH: usize = 16;

/// Prompts that a thread takes at once, where there are enough for all. Threads with prompts of their
/// own need not wait for each other after every operation; several prompts share the reading of the
/// decoder's weights (a fifth of the time against one by one); more of them than this fall out of the
/// caches.
const PROMPTS_OF_A_THREAD: usize = 8;

const FINGERPRINT: &str = "samara.fingerprint";
const ARCHITECTURE: &str = "samara.architecture";
const FRAME: &str = "samara.frame";
const IMAGE: &str = "samara.image_sha256";

/// What a model knows of one image. Prompts are answered from it in milliseconds.
#[derive(Clone)]
pub struct Embedding {
    segmenter: Segmenter,
    frame: Frame,
    pub(crate) features: ImageFeatures,
    image: String,
    /// What prompts without a mask share, made for the first of them.
    shared: Arc<OnceLock<ImageTokens>>,
    /// The crop that was looked at last.
    pub(crate) last_view: LastView,
}

impl Embedding {
    pub(crate) fn new(
        segmenter: Segmenter,
        frame: Frame,
        features: ImageFeatures,
        image: String,
    ) -> Self {
        Self {
            segmenter,
            frame,
            features,
            image,
            shared: Arc::default(),
            last_view: LastView::default(),
        }
    }

    /// What prompts without a mask share.
    fn shared(&self) -> Option<&ImageTokens> {
        // Threads do not wait for each other here, as each may be needed for the other's work.
        if self.shared.get().is_none() {
            let model = self.segmenter.model();
            let shared = || model.image_tokens(&self.features);
            let _ = self.shared.set(self.segmenter.threads().run(shared));
        }
        self.shared.get()
    }

    /// How original and model pixels relate.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The model that made the embedding.
    pub fn segmenter(&self) -> &Segmenter {
        &self.segmenter
    }

    /// True if the embedding was made from exactly these pixels.
    pub fn is_of(&self, image: &RgbImage) -> bool {
        self.image == image_digest(image)
    }

    /// The embedding's values and shape, `[1, channels, rows, columns]` as in the official code.
    /// Finer features of the decoder are not included.
    ///
    /// # Errors
    /// The device failed.
    pub fn values(&self) -> Result<(Vec<f32>, [usize; 4])> {
        let embedding = self.features.image_embed.clone().permute([0, 3, 1, 2]);
        let shape = embedding.dims();
        Ok((read(embedding)?, shape))
    }

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
        self.segmenter.threads().run(|| {
            let tokens = self.decode(prompts)?;
            let answers = tokens.into_iter().zip(prompts);
            answers.map(|(t, p)| self.candidates(t, p)).collect()
        })
    }

    /// The first half of [`Embedding::predict_batch`]: logits and scores of every mask token, for
    /// every prompt, without masks of the original size.
    ///
    /// # Errors
    /// As [`Embedding::predict_batch`].
    pub fn decode(&self, prompts: &[Prompt]) -> Result<Vec<MaskTokens>> {
        let logits_side = self.segmenter.logits_side();
        for (i, prompt) in prompts.iter().enumerate() {
            let checked = prompt.validate(&self.frame, logits_side);
            checked.map_err(|error| match error {
                error if prompts.len() > 1 => PromptError::OfBatch {
                    index: i,
                    source: Box::new(error),
                },
                error => error,
            })?;
        }
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by_key(|&i| prompts[i].shape());
        let mut answers: Vec<(usize, MaskTokens)> = Vec::with_capacity(prompts.len());
        for same in order.chunk_by(|&a, &b| prompts[a].shape() == prompts[b].shape()) {
            for batch in same.chunks(MAX_BATCH) {
                let chosen: Vec<&Prompt> = batch.iter().map(|&i| &prompts[i]).collect();
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
        let candidates = || Candidates::new(tokens, &self.frame, prompt, &self.segmenter);
        self.segmenter.threads().run(candidates)
    }

    /// The mask of one token in original pixels, without its candidate's scores.
    ///
    /// # Errors
    /// The tokens belong to another model, or there is no such token.
    pub fn mask_of(&self, tokens: &MaskTokens, token: usize) -> Result<Mask> {
        let logits = tokens.low_res_logits.get(token);
        let logits = logits.ok_or(PromptError::NoToken(token))?;
        Ok(logits.upsample(&self.frame, StabilityScore::OFFSET)?.0)
    }

    /// Runs the decoder on prompts of one shape.
    fn decode_same(&self, prompts: &[&Prompt]) -> Result<Vec<MaskTokens>> {
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
    pub(crate) fn score(&self, prompts: &[&Prompt]) -> Result<ScoredPrompts<'_>> {
        let (model, threads) = (self.segmenter.model(), self.segmenter.threads());
        let per_part = if is_cpu(self.segmenter.device()) {
            let threads = threads.count();
            prompts.len().div_ceil(threads).min(PROMPTS_OF_A_THREAD)
        } else {
            prompts.len()
        };
        let masked = prompts.iter().all(|p| p.mask.is_some());
        let shared = if masked { None } else { self.shared() };
        let score_part = |prompts: &[&Prompt]| {
            let scored = model.score(&self.features, &self.batch(prompts), shared);
            let scores = read(scored.iou())?;
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

    /// Prompts of one shape as tensors in model pixels.
    pub(crate) fn batch(&self, prompts: &[&Prompt]) -> PromptBatch {
        let device = self.segmenter.device();
        let tensor = |values: Vec<f32>, shape: &[usize]| TensorData::new(values, shape.to_vec());
        let (batch, (clicks, has_box, has_mask)) = (prompts.len(), prompts[0].shape());
        let points = (clicks > 0).then(|| {
            let all = || prompts.iter().flat_map(|p| &p.clicks);
            let coords = all().flat_map(|click| {
                let at = self.frame.to_model(click.at);
                [at.x as f32, at.y as f32]
            });
            let labels = all().map(|click| f32::from(u8::from(click.positive)));
            let coords = tensor(coords.collect(), &[batch, clicks, 2]);
            let labels = tensor(labels.collect(), &[batch, clicks]);
            (
                Tensor::from_data(coords, device),
                Tensor::from_data(labels, device),
            )
        });
        let boxes = has_box.then(|| {
            let corners = prompts.iter().filter_map(|p| p.bbox).flat_map(|b| {
                let b = self.frame.box_to_model(&b);
                [
                    b.min.x as f32,
                    b.min.y as f32,
                    b.max.x as f32,
                    b.max.y as f32,
                ]
            });
            Tensor::from_data(tensor(corners.collect(), &[batch, 4]), device)
        });
        let masks = has_mask.then(|| {
            let side = self.segmenter.logits_side();
            let logits = prompts.iter().filter_map(|p| p.mask.as_ref());
            let values = logits.flat_map(|mask| match mask {
                MaskPrompt::Logits(logits) => logits.values().to_vec(),
                MaskPrompt::Mask(mask) => {
                    Logits::from_mask(mask, &self.frame, side).values().to_vec()
                }
            });
            Tensor::from_data(tensor(values.collect(), &[batch, 1, side, side]), device)
        });
        PromptBatch {
            points,
            boxes,
            masks,
        }
    }

    /// Saves the embedding to one file (`safetensors`), bound to the weights that made it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let failed = |reason: String| Error::Saved {
            path: path.into(),
            reason,
        };
        let frame = serde_json::to_string(&self.frame).map_err(|e| failed(e.to_string()))?;
        let metadata = HashMap::from([
            (
                FINGERPRINT.to_owned(),
                self.segmenter.fingerprint()?.to_owned(),
            ),
            (ARCHITECTURE.to_owned(), self.segmenter.architecture()),
            (FRAME.to_owned(), frame),
            (IMAGE.to_owned(), self.image.clone()),
        ]);
        let file = self.features.to_safetensors(metadata);
        let file = file.map_err(|error| match error {
            FeaturesError::Device(why) => DeviceError::Failed(why).into(),
            other => failed(other.to_string()),
        })?;
        Ok(write_atomic(path, &file)?)
    }

    /// Loads an embedding that the same weights made.
    ///
    /// # Errors
    /// [`Error::Saved`] when the file is missing, damaged, no embedding, or made by other
    /// weights.
    pub fn load(path: impl AsRef<Path>, segmenter: &Segmenter) -> Result<Self> {
        let path = path.as_ref();
        let failed = |reason: String| Error::Saved {
            path: path.into(),
            reason,
        };
        let bytes = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
        let damaged = |e: &dyn fmt::Display| failed(format!("no saved embedding: {e}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let field = |key: &str| {
            metadata
                .get(key)
                .ok_or_else(|| damaged(&format!("{key} is missing in its metadata")))
        };
        let made_by = field(FINGERPRINT)?;
        if made_by != segmenter.fingerprint()? {
            return Err(failed(format!(
                "this embedding was made by other weights ({}, fingerprint {}…), not by these ({}, {}…)",
                field(ARCHITECTURE)?.escape_debug(),
                made_by.get(..12).unwrap_or(made_by).escape_debug(),
                segmenter.architecture(),
                &segmenter.fingerprint()?[..12],
            )));
        }
        let frame: Frame = serde_json::from_str(field(FRAME)?).map_err(|e| damaged(&e))?;
        let (width, height) = frame.original_size();
        if segmenter.frame(width, height)? != frame {
            return Err(damaged(&format!("{FRAME} is none that this model makes")));
        }
        let image = field(IMAGE)?.clone();
        let config = segmenter.config();
        let shapes = config.feature_shapes();
        let features = ImageFeatures::from_safetensors(&bytes, &shapes, segmenter.device())
            .map_err(|e| damaged(&e))?;
        Ok(Self::new(segmenter.clone(), frame, features, image))
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
            let logits = read(logits)?;
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

impl fmt::Debug for Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedding")
            .field("segmenter", &self.segmenter)
            .field("frame", &self.frame)
            .finish_non_exhaustive()
    }
}

/// Reads a tensor back from its device.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|e| DeviceError::Failed(e.to_string()).into())
}
