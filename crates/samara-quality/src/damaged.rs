//! Annotated objects of a data set, whole and damaged, with what a model says about them.

use std::ops::ControlFlow;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use samara::{ImageLimits, Mask, Prompt, Segmenter};

use samara_data::{Damage, DataSet, Sample};
use samara_eval::EvalError;

use crate::{Evidence, ExternalMask, QualityEstimator, Result};
use samara_data::prompts::{BoxNoise, NoiseShape, noisy_box};

/// Masks of other images that serve as wrong objects.
const STRANGERS: usize = 300;
/// How far the box of a claim is off.
const ROUGH: BoxNoise = BoxNoise {
    shape: NoiseShape::Uniform,
    share: 0.05,
    max_pixels: f64::INFINITY,
};

/// Which masks are damaged, and how often.
#[derive(Debug, Clone)]
pub struct DamageOptions {
    /// At most as many images, evenly spread.
    pub limit: Option<usize>,
    /// At most as many objects of an image, drawn at random.
    pub objects: usize,
    /// Damaged masks of every object, beside the undamaged one. Kinds are drawn at random.
    pub per_object: usize,
    /// Objects of fewer pixels are skipped.
    pub min_area: u64,
    /// Share of the masks that come with a box of the true object. Its corners are off by up to a
    /// twentieth of its sides.
    pub claims: f64,
    /// All randomness follows from this.
    pub seed: u64,
}

impl Default for DamageOptions {
    fn default() -> Self {
        Self {
            limit: None,
            objects: 6,
            per_object: 3,
            min_area: 100,
            claims: 0.0,
            seed: 0,
        }
    }
}

/// A mask whose truth is known.
#[derive(Debug, Clone)]
pub struct DamagedMask {
    /// Position of its image among those looked at.
    pub image: usize,
    /// What was done to it; nothing to an undamaged one.
    pub damage: Option<Damage>,
    /// Its IoU with the truth.
    pub iou: f64,
    /// What a head learns from.
    pub evidence: Evidence,
    /// The predicted IoU of the candidate that aligns best with it: the estimate without a head.
    pub predicted_iou: f64,
}

/// Damages the masks of a data set and asks the model about each. The same seed gives the same masks.
///
/// `progress` hears of every image (done, all) and can stop.
///
/// # Errors
/// The model failed, or `progress` said so. Records that cannot be read are skipped.
pub fn damaged_masks(
    segmenter: &Segmenter,
    data: &DataSet,
    options: &DamageOptions,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<DamagedMask>> {
    let limits = ImageLimits::default();
    let count = data.images.len();
    let looked_at = options.limit.unwrap_or(count).min(count);
    let strangers = strangers(data, options, &limits);
    let mut all = Vec::new();
    for i in 0..looked_at {
        if progress(i, looked_at).is_break() {
            return Err(EvalError::Cancelled.into());
        }
        let record = &data.images[i * count / looked_at];
        let Ok(sample) = record.load(&limits) else {
            continue;
        };
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        rng.set_stream(1 + i as u64);
        let drawn = draw(&sample, &strangers, options, &mut rng)?;
        let embedding = segmenter.embed(&sample.image)?;
        let estimator = QualityEstimator::new(&embedding, &sample.image)?.without_head();
        let masks: Vec<ExternalMask> = drawn.iter().map(|d| d.external.clone()).collect();
        let qualities = estimator.assess(&masks)?;
        let found = drawn.into_iter().zip(qualities);
        all.extend(found.map(|(drawn, quality)| DamagedMask {
            image: i,
            damage: drawn.damage,
            iou: drawn.iou,
            evidence: quality.evidence,
            predicted_iou: quality.refined.predicted_iou.0.into(),
        }));
    }
    let _ = progress(looked_at, looked_at);
    Ok(all)
}

struct Drawn {
    external: ExternalMask,
    damage: Option<Damage>,
    iou: f64,
}

fn draw(
    sample: &Sample,
    strangers: &[Mask],
    options: &DamageOptions,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Drawn>> {
    let large = sample
        .objects
        .iter()
        .filter(|o| o.mask.area() >= options.min_area);
    let mut truths: Vec<&Mask> = large.map(|o| &o.mask).collect();
    while truths.len() > options.objects {
        truths.swap_remove(rng.random_range(0..truths.len()));
    }
    let strangers: Vec<&Mask> = strangers.iter().collect();
    let mut drawn = Vec::new();
    for truth in truths {
        drawn.push(external(truth, truth, None, options, rng)?);
        for _ in 0..options.per_object {
            let damage = Damage::ALL[rng.random_range(0..Damage::ALL.len())];
            if let Some(mask) = damage.apply(truth, &strangers, rng) {
                drawn.push(external(truth, &mask, Some(damage), options, rng)?);
            }
        }
    }
    Ok(drawn)
}

fn external(
    truth: &Mask,
    mask: &Mask,
    damage: Option<Damage>,
    options: &DamageOptions,
    rng: &mut ChaCha8Rng,
) -> Result<Drawn> {
    let mut external = ExternalMask::new(mask, truth.width(), truth.height())?;
    if rng.random_bool(options.claims)
        && let Some(tight) = truth.bbox()
        && let Some(claim) = noisy_box(tight, (truth.width(), truth.height()), &ROUGH, rng)
    {
        external = external.with_claim(Prompt::new().with_box(claim));
    }
    Ok(Drawn {
        external,
        damage,
        iou: mask.iou(truth),
    })
}

/// Masks of objects all over the data set.
fn strangers(data: &DataSet, options: &DamageOptions, limits: &ImageLimits) -> Vec<Mask> {
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut strangers = Vec::new();
    let annotated: Vec<_> = data
        .images
        .iter()
        .filter(|i| !i.objects.is_empty())
        .collect();
    for _ in 0..2 * STRANGERS {
        if strangers.len() == STRANGERS || annotated.is_empty() {
            break;
        }
        let image = annotated[rng.random_range(0..annotated.len())];
        let object = &image.objects[rng.random_range(0..image.objects.len())];
        let mask = image.mask(object, limits).ok();
        strangers.extend(mask.filter(|mask| mask.area() >= options.min_area));
    }
    strangers
}
