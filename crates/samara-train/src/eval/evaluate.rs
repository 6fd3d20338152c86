//! Running a model over a data set.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use samara::{Limits, Segmenter};
use serde::Serialize;

use super::error::EvalError;
use super::gallery::Gallery;
use super::outcome::ObjectOutcome;
use super::protocol::{ImageProtocol, timed};
use crate::data::{DataSet, ImageRecord, SampleObject, Skipped};

/// What is evaluated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvalOptions {
    /// Clicks that every object gets, 1 to 20. The default is 5: enough for the figures that are
    /// usually compared (1, 3, 5), at half the cost of 9.
    pub clicks: usize,
    /// Also count the clicks to reach an IoU of 0.80, 0.85 and 0.90, up to 20 clicks an object.
    pub noc: bool,
    /// At most as many objects of an image, evenly spread over its annotations.
    pub max_objects: Option<usize>,
    /// At most as many images, evenly spread over the split.
    pub limit: Option<usize>,
    /// Objects of fewer original pixels are left out.
    pub min_area: u64,
    /// Limits for pictures.
    #[serde(skip)]
    pub limits: Limits,
}

impl Default for EvalOptions {
    fn default() -> Self {
        Self {
            clicks: 5,
            noc: false,
            max_objects: None,
            limit: None,
            min_area: 1,
            limits: Limits::default(),
        }
    }
}

/// Seconds that the stages took, and the prompts that were answered in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Timing {
    /// Reading pictures and masks.
    pub load: f64,
    /// Image embeddings.
    pub embed: f64,
    /// Decoding prompts.
    pub decode: f64,
    /// Masks of the original size.
    pub masks: f64,
    /// Finding clicks and measuring masks.
    pub scoring: f64,
    /// Everything.
    pub total: f64,
    /// Prompts answered: clicks and boxes, each for one object.
    pub prompts: usize,
}

impl Timing {
    /// Milliseconds per prompt, embedding left out.
    pub fn ms_per_prompt(&self) -> f64 {
        1000.0 * (self.decode + self.masks + self.scoring) / self.prompts.max(1) as f64
    }
}

/// What a data set gave.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Name of the data set.
    pub name: String,
    /// Its folder.
    pub root: PathBuf,
    /// Number of images with at least one object.
    pub images: usize,
    /// All objects, by image.
    pub objects: Vec<ObjectOutcome>,
    /// Objects that were too small.
    pub too_small: usize,
    /// Records that could not be used.
    pub skipped: Skipped,
    /// How long it took.
    pub timing: Timing,
    /// Best and worst cases.
    pub gallery: Gallery,
}

/// Evaluates a model on a data set: SAM's protocol. The first click is the pixel that lies deepest
/// in the object and gets three candidates; each further click goes to the pixel that lies deepest
/// in the larger error region, with the previous logits as mask prompt, and gets one mask; the
/// tight box gets one mask. Masks are compared in original pixels; regions of many objects
/// (`iscrowd`) are left out. The same input gives the same outcome.
///
/// `progress` hears of every image (done, all) and can stop the evaluation.
///
/// # Errors
/// The data set holds nothing to evaluate, the device failed, or `progress` said so. Single bad
/// records are [skipped](Evaluation::skipped).
pub fn evaluate(
    segmenter: &Segmenter,
    data: &DataSet,
    options: &EvalOptions,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Evaluation, EvalError> {
    let start = Instant::now();
    let mut evaluation = Evaluation {
        name: data.name.clone(),
        root: data.root.clone(),
        images: 0,
        objects: Vec::new(),
        too_small: 0,
        skipped: data.skipped.clone(),
        timing: Timing::default(),
        gallery: Gallery::default(),
    };
    let images: Vec<&ImageRecord> = spread(data.images.iter().collect(), options.limit);
    for (i, record) in images.iter().enumerate() {
        if progress(i, images.len()).is_break() {
            return Err(EvalError::Cancelled);
        }
        evaluation.add(segmenter, record, options)?;
    }
    // The last word may come too late to stop anything.
    let _ = progress(images.len(), images.len());
    if evaluation.objects.is_empty() {
        let reason = format!(
            "{} images, {} objects too small, skipped: {}",
            images.len(),
            evaluation.too_small,
            evaluation.skipped
        );
        let name = evaluation.name;
        return Err(EvalError::Empty { name, reason });
    }
    evaluation.timing.total = start.elapsed().as_secs_f64();
    Ok(evaluation)
}

impl Evaluation {
    fn add(
        &mut self,
        segmenter: &Segmenter,
        record: &ImageRecord,
        options: &EvalOptions,
    ) -> Result<(), EvalError> {
        let sample = match timed(&mut self.timing.load, || record.load(&options.limits)) {
            Ok(sample) => sample,
            Err(bad) => {
                self.skipped.add(bad);
                return Ok(());
            }
        };
        self.skipped.merge(sample.skipped.clone());
        let crowds: HashSet<u64> = record
            .objects
            .iter()
            .filter(|object| object.iscrowd)
            .map(|object| object.id)
            .collect();
        let single = sample.objects.iter().filter(|o| !crowds.contains(&o.id));
        let (large, small): (Vec<&SampleObject>, Vec<_>) =
            single.partition(|object| object.mask.area() >= options.min_area.max(1));
        self.too_small += small.len();
        let objects = spread(large, options.max_objects);
        if objects.is_empty() {
            return Ok(());
        }
        let embedding = timed(&mut self.timing.embed, || segmenter.embed(&sample.image))?;
        let protocol = ImageProtocol {
            embedding: &embedding,
            sample: &sample,
            options,
            image: self.images,
        };
        let path = record.path.display().to_string();
        let outcomes = protocol.run(&objects, &path, &mut self.gallery, &mut self.timing)?;
        self.objects.extend(outcomes);
        self.images += 1;
        Ok(())
    }
}

/// At most `most` of the items, evenly spread, in their order.
pub(crate) fn spread<T>(items: Vec<T>, most: Option<usize>) -> Vec<T> {
    let count = items.len();
    match most {
        Some(most) if most < count => {
            // The i-th of `most` equal stretches begins a new stretch.
            let chosen = |i: &usize| (i * most) / count != ((i + 1) * most) / count;
            let items = items.into_iter().enumerate();
            items
                .filter(|(i, _)| chosen(i))
                .map(|(_, item)| item)
                .collect()
        }
        _ => items,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_spread_over_all() {
        let part = |count: usize, most| spread((0..count).collect(), most);
        assert_eq!(part(10, Some(3)), [3, 6, 9]);
        assert_eq!(part(10, Some(10)), (0..10).collect::<Vec<_>>());
        assert_eq!(part(3, None), [0, 1, 2]);
        for most in 1..50 {
            assert_eq!(part(50, Some(most)).len(), most);
        }
    }
}
