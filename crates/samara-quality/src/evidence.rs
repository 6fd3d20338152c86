//! What speaks for and against an external mask.

use rayon::prelude::*;
use samara::{
    Click, DeviceError, Embedding, Logits, MaskPrompt, MaskTokens, Prompt, StabilityScore,
};
use samara_image::{Mask, OriginalBox, OriginalPx, RgbImage, resize_bilinear};

use super::contrast::Features;
use super::external::ExternalMask;
use super::outline::{self, Edges};
use super::shape;
use crate::{QualityError, Result};

/// Outline, shape and contrast are measured at no more pixels than this along the longer side.
const SIDE: u32 = 384;
/// Prompts that a mask is compared with: it and a click, it and a box, the box, the click.
pub(super) const PROMPTS: usize = 4;
/// The prompt of mask and box: its candidates refine the mask.
pub(super) const REFINING: usize = 1;
/// Numbers per prompt and mask token: IoU with the mask, stability, predicted IoU.
const PER_TOKEN: usize = 3;
/// Whether there is a claim, and how well the mask's box agrees with it.
const CLAIM: usize = 2;

/// What speaks for and against a mask: how the model's own answers agree with it, its form, the
/// edges of the image under its outline, and the features on both sides of it. The input of a
/// [`QualityHead`](super::QualityHead).
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence(pub Vec<f32>);

/// An image that masks are compared with.
pub(super) struct Scene<'a> {
    pub(super) embedding: &'a Embedding,
    edges: Edges,
    features: Features,
    /// Size at which masks are measured.
    small: (u32, u32),
}

impl<'a> Scene<'a> {
    pub(super) fn new(embedding: &'a Embedding, image: &RgbImage) -> Result<Self> {
        let size = image.dimensions();
        let expected = embedding.frame().original_size();
        if size != expected {
            return Err(QualityError::ImageSize {
                image: size,
                embedded: expected,
            });
        }
        let longest = f64::from(size.0.max(size.1));
        let scale = (f64::from(SIDE) / longest).min(1.0);
        let shrink = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
        let small = (shrink(size.0), shrink(size.1));
        Ok(Self {
            embedding,
            edges: Edges::new(&resize_bilinear(image, small.0, small.1)),
            features: Features::new(embedding)?,
            small,
        })
    }

    /// Length of the evidence.
    pub(super) fn count(&self) -> usize {
        let tokens = self.embedding.segmenter().mask_tokens();
        let agreement = PROMPTS * tokens * PER_TOKEN;
        agreement + CLAIM + shape::MEASURES + outline::MEASURES + self.features.count()
    }

    /// A mask as a dense prompt.
    pub(super) fn logits(&self, external: &ExternalMask) -> Logits {
        let side = self.embedding.segmenter().logits_side();
        external.logits(self.embedding.frame(), side)
    }

    /// The evidence of masks of these logits, whose [prompts] were answered so.
    pub(super) fn evidence(
        &self,
        masks: &[ExternalMask],
        logits: &[Logits],
        answers: &[MaskTokens],
    ) -> Result<Vec<Evidence>> {
        let masks = masks.par_iter().zip(logits);
        let asked = masks.zip(answers.par_chunks_exact(PROMPTS));
        let evidence = asked.map(|((external, own), answers)| {
            let mut values = Vec::with_capacity(self.count());
            for tokens in answers {
                for (logits, iou) in tokens.low_res_logits.iter().zip(&tokens.iou) {
                    let agreement = Agreement::of(own, logits);
                    values.extend([agreement.iou(), agreement.stability().0, iou.0]);
                }
            }
            values.extend(claim(external));
            let small = shrunk(&external.mask, self.small);
            values.extend(shape::measures(&small));
            values.extend(self.edges.measures(&small));
            values.extend(self.features.measures(&small, self.embedding.frame()));
            if values.iter().any(|v| !v.is_finite()) {
                return Err(samara::Error::from(DeviceError::NotFinite {
                    tensor: "the evidence",
                })
                .into());
            }
            Ok(Evidence(values))
        });
        evidence.collect()
    }
}

/// What the model is asked about a mask of these logits, [`PROMPTS`] prompts.
pub(super) fn prompts(external: &ExternalMask, logits: &Logits) -> Result<[Prompt; PROMPTS]> {
    let mask = || MaskPrompt::Logits(logits.clone());
    let claim = external.claim.as_ref();
    let claimed = claim.and_then(|claim| claim.clicks().iter().find(|c| c.positive));
    let click = claimed.copied().or_else(|| deepest(&external.mask));
    let bbox = claim.and_then(|claim| claim.box_prompt().copied());
    let bbox = bbox.or_else(|| external.mask.bbox().map(OriginalBox::from));
    let (Some(click), Some(bbox)) = (click, bbox) else {
        return Err(QualityError::EmptyMask);
    };
    let (clicked, boxed) = (
        Prompt::new().with_click(click),
        Prompt::new().with_box(bbox),
    );
    Ok([
        clicked.clone().with_mask(mask()),
        boxed.clone().with_mask(mask()),
        boxed,
        clicked,
    ])
}

/// A mask of fewer pixels, of which at least one is set.
fn shrunk(mask: &Mask, (width, height): (u32, u32)) -> Mask {
    let mut small = mask.resize_nearest(width, height);
    if small.is_empty()
        && let Some((x, y, _)) = mask.most_interior()
    {
        let at =
            |at: u32, from: u32, to: u32| (u64::from(at) * u64::from(to) / u64::from(from)) as u32;
        small.set(
            at(x, mask.width(), width),
            at(y, mask.height(), height),
            true,
        );
    }
    small
}

fn deepest(mask: &Mask) -> Option<Click> {
    let (x, y, _) = mask.most_interior()?;
    Some(Click {
        at: OriginalPx::new(f64::from(x) + 0.5, f64::from(y) + 0.5),
        positive: true,
    })
}

/// Whether there is a claim, and the IoU of its box with the mask's, or whether its click is on the
/// mask; 1 without a claim.
fn claim(external: &ExternalMask) -> [f32; CLAIM] {
    let Some(claim) = &external.claim else {
        return [0.0, 1.0];
    };
    let mut agreement = 1.0;
    if let (Some(claimed), Some(own)) = (claim.box_prompt(), external.mask.bbox()) {
        agreement = claimed.iou(&own.into());
    }
    let clicks = claim.clicks().iter().filter(|click| click.positive);
    for click in clicks.take(1) {
        let (x, y) = (click.at.x as u32, click.at.y as u32);
        let inside = x < external.mask.width() && y < external.mask.height();
        if !(inside && external.mask.get(x, y)) {
            agreement = 0.0;
        }
    }
    [1.0, agreement as f32]
}

/// Cells of two grids of logits.
struct Agreement {
    shared: u32,
    any: u32,
    /// Cells of the second one above +1 and above −1.
    high: u32,
    low: u32,
}

impl Agreement {
    fn of(own: &Logits, other: &Logits) -> Self {
        let mut agreement = Self {
            shared: 0,
            any: 0,
            high: 0,
            low: 0,
        };
        for (&a, &b) in own.values().iter().zip(other.values()) {
            agreement.shared += u32::from(a > 0.0 && b > 0.0);
            agreement.any += u32::from(a > 0.0 || b > 0.0);
            agreement.high += u32::from(b > StabilityScore::OFFSET);
            agreement.low += u32::from(b > -StabilityScore::OFFSET);
        }
        agreement
    }

    fn iou(&self) -> f32 {
        self.shared as f32 / self.any.max(1) as f32
    }

    fn stability(&self) -> StabilityScore {
        StabilityScore::from_areas(self.high.into(), self.low.into())
    }
}
