//! From an image to all its masks.

use std::ops::ControlFlow;

use samara_image::{InputImage, RgbImage, crop_image};

use super::answers::Answers;
use super::crop::crop_boxes;
use super::found::{Found, suppress};
use super::grid::PointGrid;
use super::options::MaskGeneratorOptions;
use super::record::{MaskRecord, Segmentation};
use super::small_regions;
use super::thresholds::MaskThresholds;

use crate::{Embedding, Error, Prompt, Result, Segmenter};

/// Finds all masks of an image.
///
/// ```no_run
/// use samara::{DeviceKind, ImageLimits, MaskGenerator, Hierarchy, MaskGeneratorOptions, Segmenter, read_image};
///
/// # fn main() -> samara::Result<()> {
/// let segmenter = Segmenter::load("sam_vit_b_01ec64.pth", DeviceKind::Cpu)?;
/// let options = MaskGeneratorOptions::default();
/// let masks = MaskGenerator::new(&segmenter, options)?
///     .generate(&read_image("photo.jpg", &ImageLimits::default())?)?;
/// let tree = Hierarchy::of(&masks);
/// for (mask, node) in masks.iter().zip(tree.nodes()) {
///     println!("{} of {} pixels, inside {:?}", node.level, mask.area, node.parent);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct MaskGenerator {
    segmenter: Segmenter,
    options: MaskGeneratorOptions,
    thresholds: MaskThresholds,
    /// The points of every layer of crops.
    grids: Vec<PointGrid>,
}

impl MaskGenerator {
    /// A generator with these options.
    ///
    /// # Errors
    /// [`OptionError`](crate::OptionError) names an option that makes no sense.
    pub fn new(segmenter: &Segmenter, options: MaskGeneratorOptions) -> Result<Self> {
        let grids = options.grids()?;
        Ok(Self {
            segmenter: segmenter.clone(),
            thresholds: options.thresholds(segmenter.thresholds()),
            options,
            grids,
        })
    }

    /// The options.
    pub fn options(&self) -> &MaskGeneratorOptions {
        &self.options
    }

    /// The thresholds of scores: those of the options, or else the model's.
    pub fn thresholds(&self) -> MaskThresholds {
        self.thresholds
    }

    /// The model.
    pub fn segmenter(&self) -> &Segmenter {
        &self.segmenter
    }

    /// All masks of an image, in the order of the official generator: best first, or with
    /// crops, those of the smallest crops first.
    ///
    /// # Errors
    /// The image has too few pixels for the crops, or the device failed.
    pub fn generate<'a>(
        &self,
        image: impl TryInto<InputImage<'a>, Error: Into<Error>>,
    ) -> Result<Vec<MaskRecord>> {
        let image = image.try_into().map_err(Into::into)?;
        let embedding = self.segmenter.embed(&*image)?;
        self.masks(&image, &embedding, |_| ControlFlow::Continue(()))
    }

    /// As [`generate`](Self::generate), with the image's embedding at hand. `progress` hears, on the calling
    /// thread and several times a second, how much is done, from 0 to 1, and can stop the work.
    ///
    /// # Errors
    /// As [`generate`](Self::generate); [`PromptError::OtherImage`](crate::PromptError::OtherImage) for an
    /// embedding of another image; [`Error::Cancelled`] when `progress` broke off.
    pub fn generate_from<'a>(
        &self,
        image: impl TryInto<InputImage<'a>, Error: Into<Error>>,
        embedding: &Embedding,
        progress: impl FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Vec<MaskRecord>> {
        let image = &*image.try_into().map_err(Into::into)?;
        embedding.check_image(image)?;
        self.masks(image, embedding, progress)
    }

    /// Why an image has no masks, in one line: the best scores of 64 points beside the thresholds, which another
    /// model, or one that was trained further, may never reach.
    ///
    /// # Errors
    /// The device failed.
    pub fn explain_none(&self, embedding: &Embedding) -> Result<String> {
        const SIDE: usize = 8;
        let (width, height) = embedding.frame().original_size();
        let at = |i: usize, size: u32| (i as f64 + 0.5) / SIDE as f64 * f64::from(size);
        let points =
            (0..SIDE * SIDE).map(|i| Prompt::point(at(i % SIDE, width), at(i / SIDE, height)));
        let answers = embedding.predict_batch(&points.collect::<Vec<_>>())?;
        let candidates = || answers.iter().flatten();
        let score = candidates()
            .map(|c| c.predicted_iou.0)
            .fold(f32::MIN, f32::max);
        let MaskThresholds {
            pred_iou_thresh,
            stability_score_thresh,
        } = self.thresholds;
        if score <= pred_iou_thresh {
            return Ok(format!(
                "no mask: the best predicted IoU of {} points is {score:.2}, and pred-iou-thresh is {pred_iou_thresh:.2}",
                answers.len()
            ));
        }
        let above = candidates().filter(|c| c.predicted_iou.0 > pred_iou_thresh);
        let stability = above.map(|c| c.stability_score.0).fold(0.0, f32::max);
        if stability < stability_score_thresh {
            return Ok(format!(
                "no mask: of {} points the best stability of a mask with a good predicted IoU is {stability:.2}, and \
                 stability-score-thresh is {stability_score_thresh:.2}",
                answers.len()
            ));
        }
        Ok(
            "no mask: none passed the thresholds; lower ones (pred-iou-thresh, stability-score-thresh) or more points \
             (points-per-side) may find some"
                .into(),
        )
    }

    /// The masks of an image, whose embedding this is.
    fn masks(
        &self,
        image: &RgbImage,
        embedding: &Embedding,
        mut progress: impl FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Vec<MaskRecord>> {
        let options = &self.options;
        let size = image.dimensions();
        let crops = crop_boxes(size, options.crop_n_layers, options.crop_overlap_ratio)?;
        let total: usize = crops
            .iter()
            .map(|(_, layer)| self.grids[*layer].len())
            .sum();
        let mut done = 0;
        let mut found = Vec::new();
        for (crop, layer) in &crops {
            let cropped;
            let embedding = if *layer == 0 {
                embedding
            } else {
                let [x, y, w, h] = crop.xywh();
                cropped = self.segmenter.embed(&crop_image(image, x, y, w, h))?;
                &cropped
            };
            let grid = &self.grids[*layer];
            let answers = Answers::new(embedding, options, self.thresholds, *crop, size)?;
            let mut masks =
                answers.of_grid(grid, |asked| progress((done + asked) as f64 / total as f64))?;
            done += grid.len();
            suppress(&mut masks, options.box_nms_thresh, |m| {
                [m.score.0, m.raw_score.0]
            });
            found.append(&mut masks);
        }
        if crops.len() > 1 {
            suppress(&mut found, options.crop_nms_thresh, |m| {
                [1.0 / (m.crop.width() as f32 * m.crop.height() as f32), 0.0]
            });
        }
        if options.min_mask_region_area > 0 {
            let thresh = options.box_nms_thresh.max(options.crop_nms_thresh);
            let remove = || small_regions::remove(found, options.min_mask_region_area, thresh);
            found = self.segmenter.threads().run(remove)?;
        }
        found.into_iter().map(|m| self.record(m)).collect()
    }

    fn record(&self, found: Found) -> Result<MaskRecord> {
        let [x0, y0, x1, y1] = found.corners;
        Ok(MaskRecord {
            area: found.rle.area(),
            segmentation: Segmentation::new(found.rle, self.options.output_mode)?,
            bbox: [x0, y0, x1 - x0, y1 - y0],
            predicted_iou: found.score,
            point_coords: [found.point],
            stability_score: found.stability,
            crop_box: found.crop.xywh(),
        })
    }
}
