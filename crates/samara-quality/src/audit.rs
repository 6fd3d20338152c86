//! Which annotations of a data set are probably wrong, and annotations of several granularities made
//! from those that there are.
//!
//! [`audit`] assesses every annotation, [`Audit::suspects`] names the ones to leave out, and
//! [`keep_others`] writes the file without them. [`propose_levels`] clicks on every object and writes
//! the candidates as annotations.

mod keep;
mod levels;
mod page;

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::path::PathBuf;

use samara::{Embedding, ImageLimits, Mask, OriginalBox, Prompt, Segmenter};
use samara_image::RgbImage;
use serde::Serialize;

use samara_data::{DataSet, Fault, ImageRecord, ObjectRecord, Skipped};
use samara_eval::page::mask_pair;
use samara_eval::{EvalError, spread};

use crate::{EstimateSource, ExternalMask, MaskQuality, QualityEstimator, QualityHead, Result};

pub use keep::keep_others;
pub use levels::{Levels, LevelsOptions, propose_levels};

/// Masks of the same image with a higher IoU are one annotation written twice.
const DUPLICATE_IOU: f64 = 0.95;
/// An annotated box with a side that is further from the mask's own, in pixels, was not made from the
/// mask.
const DERIVED_WITHIN: f64 = 2.0;
/// Masks whose logits are held at once.
const AT_ONCE: usize = 16;

/// What is assessed.
#[derive(Debug, Clone, Default)]
pub struct AuditOptions {
    /// At most as many images, evenly spread.
    pub limit: Option<usize>,
    /// Masks of fewer original pixels are not assessed.
    pub min_area: u64,
    /// How many of the worst masks are drawn.
    pub worst: usize,
    /// Limits for images.
    pub limits: ImageLimits,
}

/// What the model thinks of one annotation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnnotationQuality {
    /// The id of the image.
    pub image: u64,
    /// The image.
    pub file: String,
    /// The id of the annotation, or the label in a label map.
    pub annotation: u64,
    /// Its category.
    pub category: Option<String>,
    /// Pixels of the mask.
    pub area: u64,
    /// The estimated IoU with the unknown truth.
    pub estimate: f32,
    /// IoU with the mask as the model would draw it.
    pub alignment_iou: f64,
    /// The predicted IoU of that mask.
    pub predicted_iou: f32,
    /// The stability of that mask.
    pub stability: f32,
    /// Another annotation of the image, by the same annotator and of the same level, with nearly
    /// the same mask.
    pub duplicate_of: Option<u64>,
    /// One of its duplicates is better: without this annotation nothing is missing.
    pub superfluous: bool,
    /// IoU of the annotated box with that of the mask.
    pub box_agreement: Option<f64>,
}

impl AnnotationQuality {
    /// Worst first: duplicates, then by estimate; equals in a fixed order.
    fn rank(&self, other: &Self) -> Ordering {
        let duplicate = |q: &Self| q.duplicate_of.is_none();
        let order = duplicate(self).cmp(&duplicate(other));
        let order = order.then(self.estimate.total_cmp(&other.estimate));
        order.then((self.image, self.annotation).cmp(&(other.image, other.annotation)))
    }
}

/// An annotation among the worst.
#[derive(Debug, Clone)]
pub struct Suspect {
    /// What the model thinks of it.
    pub quality: AnnotationQuality,
    /// The annotated mask (yellow) and the refined one (blue), a JPEG file.
    pub jpeg: Vec<u8>,
}

/// Which annotations are skipped; superfluous duplicates always are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Filter {
    /// Those with an estimated IoU below this.
    MinQuality(f64),
    /// This share of all that were assessed, the worst ones.
    Drop(f64),
}

/// What was found in a data set.
#[derive(Debug, Clone)]
pub struct Audit {
    /// Name of the data set.
    pub name: String,
    /// Its folder.
    pub root: PathBuf,
    /// Images with an annotation that was assessed.
    pub images: usize,
    /// All annotations, worst first: duplicates, then by estimate.
    pub annotations: Vec<AnnotationQuality>,
    /// Regions of many objects, which are not assessed.
    pub crowds: usize,
    /// Masks that were too small to be assessed.
    pub too_small: usize,
    /// Records that could not be used.
    pub skipped: Skipped,
    /// Images of the worst.
    pub worst: Vec<Suspect>,
    /// What the estimates are made of.
    pub source: EstimateSource,
}

/// One annotation of the image at hand.
struct Subject<'a> {
    object: &'a ObjectRecord,
    external: ExternalMask,
    box_agreement: Option<f64>,
}

/// Assesses the annotations of a data set. An annotated box is believed to say where the object is
/// only if it differs from the mask's own by more than 2 pixels: otherwise it was made from the mask.
/// Without a `head` the estimator's own is taken, if the model brings one.
/// Regions of many objects (`iscrowd`) are skipped.
///
/// `progress` hears of every image (done, all) and can stop.
///
/// # Errors
/// The head belongs to another model, the data set holds nothing to assess, the device failed, or
/// `progress` said so. Single bad records are [skipped](Audit::skipped).
pub fn audit(
    segmenter: &Segmenter,
    head: Option<&QualityHead>,
    data: &DataSet,
    options: &AuditOptions,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Audit> {
    let mut audit = Audit {
        name: data.name.clone(),
        root: data.root.clone(),
        images: 0,
        annotations: Vec::new(),
        crowds: 0,
        too_small: 0,
        skipped: data.skipped.clone(),
        worst: Vec::new(),
        source: EstimateSource::Product,
    };
    let images: Vec<&ImageRecord> = spread(data.images.iter().collect(), options.limit);
    for (i, record) in images.iter().enumerate() {
        if progress(i, images.len()).is_break() {
            return Err(EvalError::Cancelled.into());
        }
        audit.add(segmenter, head, record, options)?;
    }
    // The last word may come too late to stop anything.
    let _ = progress(images.len(), images.len());
    if audit.annotations.is_empty() {
        let (count, skipped) = (images.len(), &audit.skipped);
        let small = audit.too_small;
        let reason = format!("{count} images, {small} masks too small, skipped: {skipped}");
        let name = audit.name;
        return Err(EvalError::Empty { name, reason }.into());
    }
    audit.annotations.sort_by(AnnotationQuality::rank);
    Ok(audit)
}

impl Audit {
    /// The annotations to leave out.
    pub fn suspects(&self, filter: Filter) -> Vec<&AnnotationQuality> {
        let mut ordered: Vec<&AnnotationQuality> = self.annotations.iter().collect();
        ordered.sort_by(|a, b| {
            let order = b.superfluous.cmp(&a.superfluous);
            order.then(a.estimate.total_cmp(&b.estimate))
        });
        let superfluous = ordered.partition_point(|q| q.superfluous);
        let count = match filter {
            Filter::MinQuality(least) => {
                let worse = |q: &&AnnotationQuality| q.superfluous || f64::from(q.estimate) < least;
                ordered.iter().filter(|q| worse(q)).count()
            }
            Filter::Drop(share) => (share * ordered.len() as f64).round() as usize,
        };
        ordered.truncate(count.max(superfluous));
        ordered
    }

    fn add(
        &mut self,
        segmenter: &Segmenter,
        head: Option<&QualityHead>,
        record: &ImageRecord,
        options: &AuditOptions,
    ) -> Result<()> {
        let Some(image) = load(record, &options.limits, &mut self.skipped) else {
            return Ok(());
        };
        let subjects = self.subjects(record, options);
        if subjects.is_empty() {
            return Ok(());
        }
        let Some(embedding) = embed(segmenter, record, &image, &mut self.skipped)? else {
            return Ok(());
        };
        let mut estimator = QualityEstimator::new(&embedding, &image)?;
        if let Some(head) = head {
            estimator = estimator.with_head(head)?;
        }
        self.source = estimator.source();
        let (mut qualities, mut refined) = (Vec::new(), Vec::new());
        for chunk in subjects.chunks(AT_ONCE) {
            let masks: Vec<ExternalMask> = chunk.iter().map(|s| s.external.clone()).collect();
            for (subject, quality) in chunk.iter().zip(estimator.assess(&masks)?) {
                qualities.push(subject.quality(record, &quality));
                refined.push(quality.refined.mask);
            }
        }
        mark_duplicates(&subjects, &mut qualities);
        for ((quality, subject), refined) in qualities.into_iter().zip(&subjects).zip(&refined) {
            self.offer(&image, &quality, subject.external.mask(), refined, options)?;
            self.annotations.push(quality);
        }
        self.images += 1;
        Ok(())
    }

    fn subjects<'a>(
        &mut self,
        record: &'a ImageRecord,
        options: &AuditOptions,
    ) -> Vec<Subject<'a>> {
        let mut subjects = Vec::with_capacity(record.objects.len());
        for object in &record.objects {
            if object.iscrowd {
                self.crowds += 1;
                continue;
            }
            let mask = record.mask(object, &options.limits);
            let external = mask.and_then(|mask| {
                let external = ExternalMask::new(&mask, record.width, record.height);
                external.map_err(|e| record.bad(Fault::EmptyMask, e.to_string()))
            });
            match external {
                Ok(external) if external.mask().area() < options.min_area => self.too_small += 1,
                Ok(external) => subjects.push(Subject::new(object, external)),
                Err(bad) => self.skipped.add(bad),
            }
        }
        subjects
    }

    /// Makes an image if the annotation is among the worst so far.
    fn offer(
        &mut self,
        image: &RgbImage,
        quality: &AnnotationQuality,
        external: &Mask,
        refined: &Mask,
        options: &AuditOptions,
    ) -> Result<()> {
        let before = |other: &Suspect| other.quality.rank(quality) != Ordering::Greater;
        let at = self.worst.partition_point(before);
        if at < options.worst {
            let jpeg = mask_pair(image, external, refined, None).map_err(samara::Error::from)?;
            let quality = quality.clone();
            self.worst.insert(at, Suspect { quality, jpeg });
            self.worst.truncate(options.worst);
        }
        Ok(())
    }
}

impl<'a> Subject<'a> {
    fn new(object: &'a ObjectRecord, external: ExternalMask) -> Self {
        let boxes = annotated_box(object).zip(external.mask().bbox());
        let boxes = boxes.map(|(annotated, own)| (annotated, OriginalBox::from(own)));
        let box_agreement = boxes.map(|(annotated, own)| annotated.iou(&own));
        let size = (external.mask().width(), external.mask().height());
        let claim = boxes.and_then(|(annotated, own)| claim(&annotated, &own, size));
        Self {
            object,
            external: match claim {
                Some(claim) => external.with_claim(claim),
                None => external,
            },
            box_agreement,
        }
    }

    fn quality(&self, record: &ImageRecord, quality: &MaskQuality) -> AnnotationQuality {
        AnnotationQuality {
            image: record.id,
            file: record.path.display().to_string(),
            annotation: self.object.id,
            category: self.object.category.clone(),
            area: self.external.mask().area(),
            estimate: quality.estimate.0,
            alignment_iou: quality.alignment_iou,
            predicted_iou: quality.refined.predicted_iou.0,
            stability: quality.refined.stability_score.0,
            duplicate_of: None,
            superfluous: false,
            box_agreement: self.box_agreement,
        }
    }

    fn is_duplicate(&self, other: &Self) -> bool {
        let (a, b) = (self.external.mask(), other.external.mask());
        let areas = (a.area() as f64, b.area() as f64);
        self.object.annotator == other.object.annotator
            && self.object.level == other.object.level
            && areas.0.min(areas.1) > DUPLICATE_IOU * areas.0.max(areas.1)
            && a.iou(b) > DUPLICATE_IOU
    }
}

/// The image, unless it cannot be used.
fn load(record: &ImageRecord, limits: &ImageLimits, skipped: &mut Skipped) -> Option<RgbImage> {
    let image = record.load_image(limits);
    image.map_err(|bad| skipped.add(bad)).ok()
}

/// The embedding, unless the image is one that no model takes.
fn embed(
    segmenter: &Segmenter,
    record: &ImageRecord,
    image: &RgbImage,
    skipped: &mut Skipped,
) -> Result<Option<Embedding>> {
    match segmenter.embed(image) {
        Ok(embedding) => Ok(Some(embedding)),
        Err(samara::Error::Image(error)) => {
            skipped.add(record.bad(Fault::UnusableImage, error.to_string()));
            Ok(None)
        }
        Err(other) => Err(other.into()),
    }
}

fn annotated_box(object: &ObjectRecord) -> Option<OriginalBox> {
    let [x, y, width, height] = object.bbox?;
    OriginalBox::new(x, y, x + width, y + height).ok()
}

/// What the annotated box says of the object, if it does not come from the mask.
fn claim(
    annotated: &OriginalBox,
    own: &OriginalBox,
    (width, height): (u32, u32),
) -> Option<Prompt> {
    let sides = |b: &OriginalBox| [b.min.x, b.min.y, b.max.x, b.max.y];
    let pairs = sides(annotated).into_iter().zip(sides(own));
    let furthest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let claim = Prompt::new().with_box(*annotated);
    (furthest > DERIVED_WITHIN && claim.check(width, height).is_ok()).then_some(claim)
}

/// Names each annotation's nearest duplicate; the best of several is the one that is not superfluous.
fn mark_duplicates(subjects: &[Subject<'_>], qualities: &mut [AnnotationQuality]) {
    let mut order: Vec<usize> = (0..subjects.len()).collect();
    order.sort_by(|&a, &b| qualities[b].estimate.total_cmp(&qualities[a].estimate));
    let mut kept: Vec<usize> = Vec::new();
    for i in order {
        match kept
            .iter()
            .copied()
            .find(|&k| subjects[i].is_duplicate(&subjects[k]))
        {
            Some(k) => {
                qualities[i].superfluous = true;
                qualities[i].duplicate_of = Some(qualities[k].annotation);
                let own = qualities[i].annotation;
                qualities[k].duplicate_of.get_or_insert(own);
            }
            None => kept.push(i),
        }
    }
}

#[cfg(test)]
#[path = "audit/tests.rs"]
mod tests;
