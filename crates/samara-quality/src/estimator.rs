//! The quality of masks that someone else made.

use std::fmt;

use samara::{Candidate, DeviceError, Embedding, Logits, MaskTokens, PredictedIou, Prompt};
use samara_image::RgbImage;
use serde::Serialize;

use crate::evidence::{self, Evidence, PROMPTS, REFINING, Scene};
use crate::external::ExternalMask;
use crate::head::{self, QualityHead};
use crate::{QualityError, Result};

/// Masks that are assessed together: bounds the logits that are kept, a megabyte a prompt of SAM.
const AT_ONCE: usize = 16;

/// What a model thinks of an external mask.
#[derive(Debug, Clone)]
pub struct MaskQuality {
    /// The estimated IoU of the external mask with its unknown truth. Of a [`QualityHead`] if there
    /// is one; otherwise the candidate's predicted IoU times [`alignment_iou`](Self::alignment_iou),
    /// which ranks less well.
    pub estimate: PredictedIou,
    /// IoU of the external mask with `refined`.
    pub alignment_iou: f64,
    /// The candidate that aligns best with the mask, when the model is given the mask and its box:
    /// the mask as the model would draw it, with its predicted IoU (calibrated) and stability.
    pub refined: Candidate,
    /// What the estimate was made from.
    pub evidence: Evidence,
}

/// What an estimate is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EstimateSource {
    /// A trained head weighs the evidence.
    Head,
    /// Predicted IoU times alignment IoU.
    Product,
}

impl fmt::Display for EstimateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Head => "estimated by the quality head",
            Self::Product => "estimated without a head, as predicted IoU × alignment IoU",
        })
    }
}

/// Assesses masks of one image.
///
/// ```
/// use samara::{DeviceKind, Mask, Segmenter};
/// use samara_quality::{ExternalMask, QualityEstimator};
/// # use samara_image::{Rgb, RgbImage};
///
/// # #[cfg(feature = "embedded")] {
/// # let disc = |x: u32, y: u32| (x as f64 - 60.0).hypot(y as f64 - 50.0) < 30.0;
/// # let image = RgbImage::from_fn(160, 120, |x, y| Rgb(if disc(x, y) { [220, 60, 30] } else { [30, 60, 90] }));
/// let segmenter = Segmenter::embedded(DeviceKind::Cpu)?;
/// let embedding = segmenter.embed(&image)?;
/// let estimator = QualityEstimator::new(&embedding, &image)?;
/// let mask = Mask::from_fn(160, 120, disc);
/// let quality = &estimator.assess(&[ExternalMask::new(&mask, 160, 120)?])?[0];
/// println!("IoU {:.2}, alignment {:.2}", quality.estimate, quality.alignment_iou);
/// # }
/// # Ok::<(), samara_quality::QualityError>(())
/// ```
pub struct QualityEstimator<'a> {
    scene: Scene<'a>,
    head: Option<QualityHead>,
}

impl<'a> QualityEstimator<'a> {
    /// For masks of the `image` that was embedded. The embedded model brings its head; for others
    /// see [`with_head`](Self::with_head).
    ///
    /// # Errors
    /// The image has another size than the embedded one, or the device failed.
    pub fn new(embedding: &'a Embedding, image: &RgbImage) -> Result<Self> {
        Ok(Self {
            scene: Scene::new(embedding, image)?,
            head: head::of_segmenter(embedding.segmenter())?,
        })
    }

    /// Estimates with this head.
    ///
    /// # Errors
    /// [`QualityError::OtherModel`]: it was trained with another model.
    pub fn with_head(mut self, head: &QualityHead) -> Result<Self> {
        let own = self.scene.embedding.segmenter().fingerprint()?;
        let (found, expected) = (head.inputs(), self.scene.count());
        if head.fingerprint() != own || found != expected {
            return Err(QualityError::OtherModel {
                head: head.fingerprint().to_owned(),
                model: own.to_owned(),
            });
        }
        self.head = Some(head.clone());
        Ok(self)
    }

    /// Estimates without a head; see [`MaskQuality::estimate`].
    pub fn without_head(mut self) -> Self {
        self.head = None;
        self
    }

    /// What the estimates are made of.
    pub fn source(&self) -> EstimateSource {
        match self.head {
            Some(_) => EstimateSource::Head,
            None => EstimateSource::Product,
        }
    }

    /// Assesses masks, in the given order.
    ///
    /// # Errors
    /// A mask has another size than the image, a claim lies outside of it, or the device failed.
    pub fn assess(&self, masks: &[ExternalMask]) -> Result<Vec<MaskQuality>> {
        let mut qualities = Vec::with_capacity(masks.len());
        for chunk in masks.chunks(AT_ONCE) {
            let Asked {
                logits,
                prompts,
                answers,
            } = self.ask(chunk)?;
            let evidence = self.scene.evidence(chunk, &logits, &answers)?;
            let answers = answers.into_iter().skip(REFINING).step_by(PROMPTS);
            let refining = prompts.iter().skip(REFINING).step_by(PROMPTS);
            for (((mask, evidence), tokens), prompt) in
                chunk.iter().zip(evidence).zip(answers).zip(refining)
            {
                let candidates = self.scene.embedding.candidates(tokens, prompt)?;
                qualities.push(self.quality(mask, evidence, candidates.as_slice())?);
            }
        }
        Ok(qualities)
    }

    /// The evidence alone, from which a [`QualityHead`] learns.
    ///
    /// # Errors
    /// As [`assess`](Self::assess).
    pub fn evidence(&self, masks: &[ExternalMask]) -> Result<Vec<Evidence>> {
        let mut evidence = Vec::with_capacity(masks.len());
        for chunk in masks.chunks(AT_ONCE) {
            let asked = self.ask(chunk)?;
            let found = self.scene.evidence(chunk, &asked.logits, &asked.answers)?;
            evidence.extend(found);
        }
        Ok(evidence)
    }

    fn ask(&self, masks: &[ExternalMask]) -> Result<Asked> {
        let size = self.scene.embedding.frame().original_size();
        let mut logits = Vec::with_capacity(masks.len());
        let mut prompts = Vec::with_capacity(PROMPTS * masks.len());
        for external in masks {
            let own = (external.mask.width(), external.mask.height());
            if own != size {
                return Err(QualityError::MaskSize {
                    mask: own,
                    image: size,
                });
            }
            let dense = self.scene.logits(external);
            prompts.extend(evidence::prompts(external, &dense)?);
            logits.push(dense);
        }
        let answers = self.scene.embedding.decode(&prompts)?;
        Ok(Asked {
            logits,
            prompts,
            answers,
        })
    }

    fn quality(
        &self,
        external: &ExternalMask,
        evidence: Evidence,
        candidates: &[Candidate],
    ) -> Result<MaskQuality> {
        let aligned = candidates.iter().map(|c| (c.mask.iou(&external.mask), c));
        let best = aligned.rev().max_by(|a, b| a.0.total_cmp(&b.0));
        let Some((alignment_iou, refined)) = best else {
            return Err(samara::Error::from(DeviceError::NoAnswer).into());
        };
        let estimate = if let Some(head) = &self.head {
            head.estimate(&evidence)?
        } else {
            let predicted = refined.predicted_iou.0.clamp(0.0, 1.0);
            PredictedIou(predicted * alignment_iou as f32)
        };
        Ok(MaskQuality {
            estimate,
            alignment_iou,
            refined: refined.clone(),
            evidence,
        })
    }
}

/// Masks as dense prompts, and [`PROMPTS`] prompts and answers of each.
struct Asked {
    logits: Vec<Logits>,
    prompts: Vec<Prompt>,
    answers: Vec<MaskTokens>,
}
