//! Running a model over a data set.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use samara::{Embedding, Segmenter, Zoom};

use super::clicks::{Clicked, first_clicks};
use super::error::EvalError;
use super::gallery::Gallery;
use super::options::EvalOptions;
use super::outcome::ObjectOutcome;
use super::protocol::{ImageProtocol, timed};
use super::timing::Timing;
use samara_data::{DataSet, Fault, ImageRecord, Sample, SampleObject, Skipped};

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
    /// Objects that were too large.
    pub too_large: usize,
    /// Records that could not be used.
    pub skipped: Skipped,
    /// How long it took.
    pub timing: Timing,
    /// Best and worst cases.
    pub gallery: Gallery,
}

/// Evaluates a model on a data set. Every first click is a prompt of its own and gets three
/// candidates: the pixel that lies deepest in the object, as in SAM's protocol, and clicks that are
/// drawn ([`EvalOptions::clicks_at`]). Each further click goes to the pixel that lies deepest in the
/// larger error region, or is drawn there, with the previous logits as mask prompt, and gets one
/// mask; the tight box gets one mask. Masks are compared in original pixels; regions of many
/// objects (`iscrowd`) are skipped. The same input gives the same outcome.
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
    let [evaluation] = evaluate_together([segmenter], data, options, progress)?;
    Ok(evaluation)
}

/// Evaluates several models side by side: the same images, objects and first clicks, each image
/// decoded once. Further clicks follow each model's own errors. Only the first model zooms.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_together<const N: usize>(
    segmenters: [&Segmenter; N],
    data: &DataSet,
    options: &EvalOptions,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<[Evaluation; N], EvalError> {
    let mut evaluations = segmenters.map(|_| Evaluation::of(data));
    let images: Vec<&ImageRecord> = spread(data.images.iter().collect(), options.limit);
    for (i, record) in images.iter().enumerate() {
        if progress(i, images.len()).is_break() {
            return Err(EvalError::Cancelled);
        }
        add_image(segmenters, &mut evaluations, &data.name, record, options)?;
    }
    // The last word may come too late to stop anything.
    let _ = progress(images.len(), images.len());
    for evaluation in &evaluations {
        if evaluation.objects.is_empty() {
            return Err(evaluation.nothing(images.len()));
        }
    }
    Ok(evaluations)
}

/// Evaluates all models on one image.
fn add_image<const N: usize>(
    segmenters: [&Segmenter; N],
    evaluations: &mut [Evaluation; N],
    data_set: &str,
    record: &ImageRecord,
    options: &EvalOptions,
) -> Result<(), EvalError> {
    let start = Instant::now();
    let loaded = record.load(&options.limits);
    let load = start.elapsed().as_secs_f64();
    for evaluation in evaluations.iter_mut() {
        evaluation.timing.load += load;
        evaluation.timing.total += load;
    }
    let sample = match loaded {
        Ok(sample) => sample,
        Err(bad) => {
            evaluations
                .iter_mut()
                .for_each(|evaluation| evaluation.skipped.add(bad.clone()));
            return Ok(());
        }
    };
    let InSize {
        objects,
        too_small,
        too_large,
    } = in_size(record, &sample, options);
    for evaluation in evaluations.iter_mut() {
        evaluation.skipped.merge(sample.skipped.clone());
        evaluation.too_small += too_small;
        evaluation.too_large += too_large;
    }
    if objects.is_empty() {
        return Ok(());
    }
    let file = record.path.file_name().unwrap_or_default();
    let file = file.to_string_lossy();
    let mut scoring = 0.0;
    let clicked = timed(&mut scoring, || {
        first_clicks(&objects, options, data_set, &file)
    })?;
    let path = record.path.display().to_string();
    let mut embeddings = Vec::with_capacity(N);
    for (segmenter, evaluation) in segmenters.into_iter().zip(evaluations.iter_mut()) {
        let before = evaluation.timing.embed;
        match timed(&mut evaluation.timing.embed, || {
            segmenter.embed(&sample.image)
        }) {
            Ok(embedding) => embeddings.push(embedding),
            Err(samara::Error::Image(error)) => {
                let bad = record.bad(Fault::UnusableImage, error.to_string());
                evaluations
                    .iter_mut()
                    .for_each(|evaluation| evaluation.skipped.add(bad.clone()));
                return Ok(());
            }
            Err(other) => return Err(other.into()),
        }
        evaluation.timing.total += evaluation.timing.embed - before;
    }
    let zooms = std::iter::once(options.zoom).chain(std::iter::repeat(Zoom::Off));
    for ((embedding, evaluation), zoom) in embeddings.iter().zip(evaluations).zip(zooms) {
        evaluation.timing.scoring += scoring;
        evaluation.timing.total += scoring;
        evaluation.prompt(embedding, &sample, &clicked, options, zoom, &path)?;
    }
    Ok(())
}

/// The objects of an image that are evaluated, and how many are not.
struct InSize<'a> {
    objects: Vec<&'a SampleObject>,
    too_small: usize,
    too_large: usize,
}

fn in_size<'a>(record: &ImageRecord, sample: &'a Sample, options: &EvalOptions) -> InSize<'a> {
    let crowds: HashSet<u64> = record
        .objects
        .iter()
        .filter(|object| object.iscrowd)
        .map(|object| object.id)
        .collect();
    let single = sample.objects.iter().filter(|o| !crowds.contains(&o.id));
    let (large, small): (Vec<&SampleObject>, Vec<_>) =
        single.partition(|object| object.mask.area() >= options.min_area.max(1));
    let most = options.max_area.unwrap_or(u64::MAX);
    let (within, beyond): (Vec<&SampleObject>, Vec<_>) = large
        .into_iter()
        .partition(|object| object.mask.area() <= most);
    InSize {
        objects: spread(within, options.max_objects),
        too_small: small.len(),
        too_large: beyond.len(),
    }
}

impl Evaluation {
    /// Before the first image.
    fn of(data: &DataSet) -> Self {
        Self {
            name: data.name.clone(),
            root: data.root.clone(),
            images: 0,
            objects: Vec::new(),
            too_small: 0,
            too_large: 0,
            skipped: data.skipped.clone(),
            timing: Timing::default(),
            gallery: Gallery::default(),
        }
    }

    /// Answers all prompts of the objects of an image.
    fn prompt(
        &mut self,
        embedding: &Embedding,
        sample: &Sample,
        clicked: &[Clicked<'_>],
        options: &EvalOptions,
        zoom: Zoom,
        path: &str,
    ) -> Result<(), EvalError> {
        let start = Instant::now();
        let protocol = ImageProtocol {
            embedding,
            sample,
            options,
            zoom,
            image: self.images,
        };
        let outcomes = protocol.run(clicked, path, &mut self.gallery, &mut self.timing)?;
        self.objects.extend(outcomes);
        self.images += 1;
        self.timing.total += start.elapsed().as_secs_f64();
        Ok(())
    }

    fn nothing(&self, images: usize) -> EvalError {
        let large = match self.too_large {
            0 => String::new(),
            count => format!("{count} too large, "),
        };
        let reason = format!(
            "{images} images, {} objects too small, {large}skipped: {}",
            self.too_small, self.skipped
        );
        let name = self.name.clone();
        EvalError::Empty { name, reason }
    }
}

/// At most `most` of the items, evenly spread, in their order.
pub fn spread<T>(items: Vec<T>, most: Option<usize>) -> Vec<T> {
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
