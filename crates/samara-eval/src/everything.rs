//! Segment-everything against annotations: what of them is found, and whether the tree of masks says
//! of whole and part what the annotators say.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::time::Instant;

use samara::{Granularity, Hierarchy, ImageLimits, MaskGenerator};
use samara_image::Mask;
use serde::Serialize;

use super::error::EvalError;
use super::evaluate::spread;
use samara_data::{DataSet, Fault, SampleObject, Skipped};

/// Overlaps at which recall is averaged, as COCO does for proposals: 0.50, 0.55 … 0.95.
const OVERLAPS: [f64; 10] = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];
/// Masks of an image that count for the average recall, by predicted IoU.
const MOST_MASKS: usize = 1000;
/// Overlap from which a mask stands for an annotated object when trees are compared.
const MATCH: f64 = 0.5;
/// Share of an annotated part that lies inside its annotated whole.
const INSIDE: f64 = 0.9;

/// What a data set gave.
#[derive(Debug, Clone, Serialize)]
pub struct EverythingReport {
    /// Name of the data set.
    pub name: String,
    /// Images with annotations.
    pub images: usize,
    /// Annotated objects; those of all annotators count.
    pub objects: usize,
    /// Masks for an image.
    pub masks_per_image: f64,
    /// Share of the objects for which a mask has an IoU of at least 0.5.
    pub recall_50: f64,
    /// Mean of that share over IoU 0.50 to 0.95, from at most 1000 masks an image: AR@1000.
    pub ar_1000: f64,
    /// Mean over objects of the best mask's IoU.
    pub best_iou: f64,
    /// Whole and part as annotated, where the data set says which is which.
    pub tree: Option<TreeAgreement>,
    /// Seconds for an image.
    pub seconds_per_image: f64,
    /// Files that could not be read, and why.
    pub failed: Vec<String>,
    /// Records that could not be used.
    #[serde(skip)]
    pub skipped: Skipped,
}

/// How the tree agrees with annotated pairs of a whole and a part inside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TreeAgreement {
    /// Annotated pairs.
    pub pairs: usize,
    /// Pairs for which both have a mask (IoU at least 0.5), and not the same.
    pub found: usize,
    /// Found pairs whose part is below its whole in the tree.
    pub below: usize,
    /// Found pairs with the label whole for the one, and part or subpart for the other.
    pub labels: usize,
}

/// Generates all masks of a data set's images and compares them with its annotations.
///
/// `progress` hears of every image (done, all) and can stop the evaluation.
///
/// # Errors
/// The data set holds nothing to evaluate, the device failed, or `progress` said so.
pub fn evaluate_everything(
    generator: &MaskGenerator,
    data: &DataSet,
    limit: Option<usize>,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<EverythingReport, EvalError> {
    let mut skipped = data.skipped.clone();
    let (mut images, mut masks, mut seconds) = (0, 0, 0.0);
    let mut best: Vec<f64> = Vec::new();
    let mut tree = TreeAgreement::default();
    let records = spread(data.images.iter().collect(), limit);
    for (i, record) in records.iter().enumerate() {
        if progress(i, records.len()).is_break() {
            return Err(EvalError::Cancelled);
        }
        let sample = match record.load(&ImageLimits::default()) {
            Ok(sample) => sample,
            Err(bad) => {
                skipped.add(bad);
                continue;
            }
        };
        skipped.merge(sample.skipped.clone());
        if sample.objects.is_empty() {
            continue;
        }
        let start = Instant::now();
        let mut found = match generator.generate(&sample.image) {
            Ok(found) => found,
            Err(samara::Error::Image(error)) => {
                skipped.add(record.bad(Fault::UnusableImage, error.to_string()));
                continue;
            }
            Err(other) => return Err(other.into()),
        };
        seconds += start.elapsed().as_secs_f64();
        found.sort_by(|a, b| b.predicted_iou.0.total_cmp(&a.predicted_iou.0));
        found.truncate(MOST_MASKS);
        images += 1;
        masks += found.len();
        let generated = found.iter().map(|record| record.segmentation.to_mask());
        let generated: Vec<Mask> = generated.collect::<Result<_, _>>()?;
        let matches: Vec<Option<(usize, f64)>> = sample
            .objects
            .iter()
            .map(|object| nearest(&object.mask, &generated))
            .collect();
        best.extend(matches.iter().map(|m| m.map_or(0.0, |(_, iou)| iou)));
        tree.add(&sample.objects, &matches, &Hierarchy::of(&found));
    }
    let _ = progress(records.len(), records.len());
    if best.is_empty() {
        return Err(EvalError::Empty {
            name: data.name.clone(),
            reason: format!("{} images, skipped: {skipped}", records.len()),
        });
    }
    let share = |at: f64| best.iter().filter(|&&iou| iou >= at).count() as f64 / best.len() as f64;
    Ok(EverythingReport {
        name: data.name.clone(),
        images,
        objects: best.len(),
        masks_per_image: masks as f64 / images as f64,
        recall_50: share(0.5),
        ar_1000: OVERLAPS.into_iter().map(share).sum::<f64>() / OVERLAPS.len() as f64,
        best_iou: best.iter().sum::<f64>() / best.len() as f64,
        tree: (tree.pairs > 0).then_some(tree),
        seconds_per_image: seconds / images as f64,
        failed: skipped.unreadable(),
        skipped,
    })
}

/// The mask that overlaps most, and its IoU.
fn nearest(object: &Mask, masks: &[Mask]) -> Option<(usize, f64)> {
    let overlaps = masks.iter().map(|mask| mask.iou(object)).enumerate();
    overlaps.max_by(|(_, a), (_, b)| a.total_cmp(b))
}

impl TreeAgreement {
    /// Adds the pairs of one image; `matches` are the masks of its objects.
    fn add(
        &mut self,
        objects: &[SampleObject],
        matches: &[Option<(usize, f64)>],
        tree: &Hierarchy,
    ) {
        let of_level = |level: Granularity| {
            let objects = objects.iter().zip(matches);
            objects.filter(move |(object, _)| object.level.as_deref() == Some(level.name()))
        };
        let matched = |found: &Option<(usize, f64)>| {
            found.filter(|(_, iou)| *iou >= MATCH).map(|(mask, _)| mask)
        };
        for (whole, whole_match) in of_level(Granularity::Whole) {
            for (part, part_match) in of_level(Granularity::Part) {
                if part.mask.containment(&whole.mask) < INSIDE {
                    continue;
                }
                self.pairs += 1;
                let (Some(whole), Some(part)) = (matched(whole_match), matched(part_match)) else {
                    continue;
                };
                if whole == part {
                    continue;
                }
                self.found += 1;
                let nodes = tree.nodes();
                let above = std::iter::successors(nodes[part].parent, |&i| nodes[i].parent);
                self.below += usize::from(above.into_iter().any(|i| i == whole));
                let labels = nodes[whole].level == Granularity::Whole
                    && nodes[part].level != Granularity::Whole;
                self.labels += usize::from(labels);
            }
        }
    }
}

impl EverythingReport {
    /// The figures for people, a few lines.
    pub fn to_text(&self) -> String {
        let percent = |share: f64| 100.0 * share;
        let mut text = format!(
            "{}: {} images, {} objects, {:.0} masks an image, {:.1} s each\n  \
             recall at IoU 0.5 {:.1} %, AR@1000 {:.1} %, mean best IoU {:.1} %\n",
            self.name,
            self.images,
            self.objects,
            self.masks_per_image,
            self.seconds_per_image,
            percent(self.recall_50),
            percent(self.ar_1000),
            percent(self.best_iou),
        );
        if let Some(tree) = &self.tree {
            let share = |part: usize| percent(part as f64 / tree.found.max(1) as f64);
            let _ = writeln!(
                text,
                "  whole and part: {} of {} annotated pairs found; part below whole in {:.1} %, \
                 labels agree in {:.1} %",
                tree.found,
                tree.pairs,
                share(tree.below),
                share(tree.labels),
            );
        }
        if !self.skipped.is_empty() {
            let _ = writeln!(text, "  skipped: {}", self.skipped);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use samara::{MaskRecord, OutputMode, Segmentation};

    use super::*;

    fn square(x: u32, y: u32, side: u32) -> Mask {
        Mask::from_fn(60, 60, |px, py| {
            (x..x + side).contains(&px) && (y..y + side).contains(&py)
        })
    }

    fn object(level: Granularity, mask: Mask) -> SampleObject {
        SampleObject {
            id: 1,
            mask,
            annotator: None,
            level: Some(level.name().into()),
        }
    }

    fn agreement(objects: &[SampleObject], generated: &[Mask]) -> TreeAgreement {
        let records: Vec<MaskRecord> = generated
            .iter()
            .map(|mask| MaskRecord::of_mask(mask, OutputMode::CocoRle).unwrap())
            .collect();
        assert!(matches!(records[0].segmentation, Segmentation::CocoRle(_)));
        let matches: Vec<_> = objects
            .iter()
            .map(|o| nearest(&o.mask, generated))
            .collect();
        let mut tree = TreeAgreement::default();
        tree.add(objects, &matches, &Hierarchy::of(&records));
        tree
    }

    #[test]
    fn pairs_are_found_below_each_other_or_not() {
        let objects = [
            object(Granularity::Whole, square(5, 5, 40)),
            object(Granularity::Part, square(10, 10, 10)),
            // Not inside: no pair.
            object(Granularity::Part, square(48, 48, 10)),
        ];
        let both = agreement(&objects, &[square(5, 5, 40), square(10, 10, 11)]);
        let all = TreeAgreement {
            pairs: 1,
            found: 1,
            below: 1,
            labels: 1,
        };
        assert_eq!(both, all);
        let whole_only = agreement(&objects, &[square(5, 5, 40)]);
        assert_eq!((whole_only.pairs, whole_only.found), (1, 0));
        // The part's mask reaches out of the whole's: side by side in the tree.
        let beside = agreement(&objects, &[square(5, 12, 34), square(9, 9, 11)]);
        assert_eq!((beside.found, beside.below, beside.labels), (1, 0, 0));
    }

    #[test]
    fn the_nearest_mask_is_the_one_that_overlaps_most() {
        let masks = [square(0, 0, 10), square(1, 1, 10), square(30, 30, 10)];
        let (index, iou) = nearest(&square(1, 1, 10), &masks).unwrap();
        assert_eq!((index, iou), (1, 1.0));
        assert!(nearest(&square(0, 0, 4), &[]).is_none());
    }
}
