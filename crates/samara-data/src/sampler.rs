//! The choice of examples.

use std::path::PathBuf;
use std::sync::Arc;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt};
use samara::Intent;
use samara_image::{ImageLimits, Mask, RgbImage, Stretch};
use serde::{Deserialize, Serialize};

use super::augment::{Augmentation, View, check_share};
use super::dataset::{DataOptions, DataSet, ImageRecord, NO_SPLIT, ObjectRecord};
use super::error::{BadRecord, DataError, Fault, Skipped};
use crate::prompts::random_pixel;

/// Draws without an example after which a data set counts as unusable.
const MAX_DRAWS: u32 = 100;

/// Two masks that share a click differ clearly when their IoU is below this.
const SAME_MASK_IOU: f64 = 0.9;

/// One data set of a mixture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// What [`DataSet::open`] opens.
    pub path: PathBuf,
    /// The split; all images without it.
    #[serde(default)]
    pub split: Option<String>,
    /// The folder that file names of images in COCO annotations are relative to; looked for without it.
    #[serde(default)]
    pub images: Option<PathBuf>,
    /// Which values of images with samples of more than 8 bits become black and white: `off`, `min-max`, or two
    /// percentiles such as `1,99`.
    #[serde(default)]
    pub stretch: Stretch,
    /// How often it is chosen, relative to the others.
    #[serde(default = "one")]
    pub weight: f64,
    /// What a click on an object of this data set usually means.
    #[serde(default)]
    pub intent: Intent,
    /// Only objects of these levels (`level` of an annotation), such as `["part"]`; all without it.
    #[serde(default)]
    pub levels: Option<Vec<String>>,
    /// Objects with fewer pixels in the original image are not chosen.
    #[serde(default)]
    pub min_area: u64,
    /// Objects that cover a larger share of the image are not chosen; 0.9 as in the training of
    /// SAM (appendix A of the paper).
    #[serde(default = "most_of_the_image")]
    pub max_area_fraction: f64,
}

impl DataSpec {
    /// How it is opened.
    pub fn options(&self) -> DataOptions {
        DataOptions {
            split: self.split.clone(),
            image_dir: self.images.clone(),
            stretch: self.stretch,
        }
    }

    /// Checks its numbers.
    ///
    /// # Errors
    /// [`DataError::Setting`] naming the first key whose value is out of range.
    pub fn check(&self) -> Result<(), DataError> {
        let weight = self.weight;
        if !(weight > 0.0 && weight <= 1e6) {
            let what = format!("{weight} is not above 0 and at most 1e6");
            return Err(DataError::Setting {
                key: "weight",
                what,
            });
        }
        check_share("max_area_fraction", self.max_area_fraction)
    }
}

fn one() -> f64 {
    1.0
}

fn most_of_the_image() -> f64 {
    0.9
}

/// What an example is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleSpec {
    /// Side of the model's input in pixels.
    pub side: u32,
    /// Most objects of an example.
    pub masks_per_image: usize,
    /// Probability that an example begins with several objects under one click.
    #[serde(default)]
    pub ambiguous_clicks: f64,
    /// How images are varied.
    #[serde(default)]
    pub augmentation: Augmentation,
}

/// An image as the model sees it, without the padding, and objects to find in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The resized image, at most the model's side each way: the top-left content of its frame.
    pub image: RgbImage,
    /// At least one object.
    pub objects: Vec<ExampleObject>,
    /// What a click on one of them usually means.
    pub intent: Intent,
    /// Data set and image id, for messages.
    pub source: String,
}

/// An object to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExampleObject {
    /// The mask, of the image's size.
    pub mask: Mask,
    /// A pixel that this object shares with others of the example, which differ clearly from it:
    /// the first click for each of them.
    pub first_click: Option<(u32, u32)>,
}

/// Draws examples from a mixture of data sets.
#[derive(Debug)]
pub struct Sampler {
    sources: Arc<Vec<Source>>,
    spec: ExampleSpec,
    skipped: Skipped,
}

#[derive(Debug)]
struct Source {
    set: DataSet,
    spec: DataSpec,
    /// Images with an object that may be chosen.
    usable: Vec<usize>,
}

impl Sampler {
    /// Opens the data sets of a recipe.
    ///
    /// # Errors
    /// As [`DataSet::open`]; [`DataError::Setting`] for a value out of range, [`DataError::Split`] for a split of
    /// images that have none, and [`DataError::DataSet`] for a data set without a usable object.
    pub fn open(data: &[DataSpec], spec: ExampleSpec) -> Result<Self, DataError> {
        validate(data, &spec)?;
        let mut sources = Vec::with_capacity(data.len());
        let mut skipped = Skipped::default();
        for spec in data {
            let set = DataSet::open_with(&spec.path, &spec.options())?;
            // Nothing may be trained with images that were meant for validation.
            if let (Some(split), None) = (&spec.split, &set.split) {
                return Err(DataError::Split {
                    path: spec.path.clone(),
                    split: split.clone(),
                    available: format!("{NO_SPLIT}; without `split` all of them are used"),
                });
            }
            let mut usable = Vec::with_capacity(set.images.len());
            skipped.merge(set.skipped.clone());
            for (i, image) in set.images.iter().enumerate() {
                if image
                    .objects
                    .iter()
                    .any(|object| spec.may_choose(object, image))
                {
                    usable.push(i);
                } else {
                    skipped.add(image.bad(Fault::NoObject, spec.objection(image)));
                }
            }
            if usable.is_empty() {
                let what = format!("no image has a usable object; skipped: {skipped}");
                let path = spec.path.clone();
                return Err(DataError::DataSet { path, what });
            }
            let spec = spec.clone();
            sources.push(Source { set, spec, usable });
        }
        Ok(Self {
            sources: Arc::new(sources),
            spec,
            skipped,
        })
    }

    /// A sampler of other examples from the same data sets, which are not read again.
    ///
    /// # Errors
    /// [`DataError::Setting`] for a value out of range.
    pub fn with_spec(&self, spec: ExampleSpec) -> Result<Self, DataError> {
        validate_spec(&spec)?;
        Ok(Self {
            sources: Arc::clone(&self.sources),
            spec,
            skipped: self.skipped.clone(),
        })
    }

    /// What was skipped while listing.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Number of images that can be drawn.
    pub fn images(&self) -> usize {
        self.sources.iter().map(|source| source.usable.len()).sum()
    }

    /// Draws an example. It depends on the state of `rng` only; what had to be skipped is counted
    /// in `skipped`, and drawn anew.
    ///
    /// # Errors
    /// [`DataError::Exhausted`] when 100 draws gave none.
    pub fn draw(&self, rng: &mut impl Rng, skipped: &mut Skipped) -> Result<Example, DataError> {
        let mut here = Skipped::default();
        for _ in 0..MAX_DRAWS {
            let Some((source, image)) = self.choose(rng) else {
                break;
            };
            let drawing = Drawing {
                source,
                image,
                spec: &self.spec,
            };
            match drawing.example(rng, &mut here) {
                Ok(Some(example)) => {
                    skipped.merge(here);
                    return Ok(example);
                }
                Ok(None) => {}
                Err(bad) => here.add(bad),
            }
        }
        skipped.merge(here.clone());
        Err(DataError::Exhausted {
            draws: MAX_DRAWS,
            skipped: Box::new(here),
        })
    }

    /// A data set by weight, an image uniformly.
    fn choose(&self, rng: &mut impl Rng) -> Option<(&Source, &ImageRecord)> {
        let weight = |source: &Source| source.spec.weight;
        let source = self.sources.choose_weighted(rng, weight).ok()?;
        let image = *source.usable.choose(rng)?;
        Some((source, &source.set.images[image]))
    }
}

fn validate(data: &[DataSpec], spec: &ExampleSpec) -> Result<(), DataError> {
    if data.is_empty() {
        let what = "names no data set".to_owned();
        return Err(DataError::Setting { key: "data", what });
    }
    data.iter().try_for_each(DataSpec::check)?;
    validate_spec(spec)
}

fn validate_spec(spec: &ExampleSpec) -> Result<(), DataError> {
    let refuse = |key, what: String| Err(DataError::Setting { key, what });
    if !(16..=4096).contains(&spec.side) {
        return refuse("side", format!("{} is not within 16 to 4096", spec.side));
    }
    if spec.masks_per_image == 0 {
        return refuse("masks_per_image", "0 leaves nothing to learn".to_owned());
    }
    check_share("ambiguous_clicks", spec.ambiguous_clicks)?;
    spec.augmentation.validate()
}

impl DataSpec {
    /// By what is annotated; [`fits`](Self::fits) decides when the mask is there.
    fn may_choose(&self, object: &ObjectRecord, image: &ImageRecord) -> bool {
        let pixels = f64::from(image.width) * f64::from(image.height);
        let fits = |area: f64| area >= self.min_area as f64 && self.leaves_room(area, pixels);
        !object.iscrowd && object.area.is_none_or(fits) && self.is_of_level(object)
    }

    fn is_of_level(&self, object: &ObjectRecord) -> bool {
        let level = object.level.as_ref();
        let named = |levels: &Vec<String>| level.is_some_and(|level| levels.contains(level));
        self.levels.as_ref().is_none_or(named)
    }

    /// Why none of an image's objects may be chosen.
    fn objection(&self, image: &ImageRecord) -> String {
        let mut objects = image.objects.iter().filter(|object| !object.iscrowd);
        match &self.levels {
            _ if image.objects.is_empty() => "no object".into(),
            _ if objects.clone().next().is_none() => "its objects are crowds".into(),
            Some(levels) if !objects.any(|object| self.is_of_level(object)) => {
                format!("no object of `levels` ({})", levels.join(", "))
            }
            _ => "no object of acceptable size".into(),
        }
    }

    fn fits(&self, mask: &Mask) -> bool {
        mask.area() >= self.min_area && self.leaves_room_in(mask)
    }

    fn leaves_room_in(&self, mask: &Mask) -> bool {
        let pixels = f64::from(mask.width()) * f64::from(mask.height());
        self.leaves_room(mask.area() as f64, pixels)
    }

    fn leaves_room(&self, area: f64, pixels: f64) -> bool {
        area <= self.max_area_fraction * pixels
    }
}

/// One image on its way to an example.
struct Drawing<'a> {
    source: &'a Source,
    image: &'a ImageRecord,
    spec: &'a ExampleSpec,
}

impl Drawing<'_> {
    /// `None` when the object chosen first turns out too small or too large.
    fn example(
        &self,
        rng: &mut impl Rng,
        skipped: &mut Skipped,
    ) -> Result<Option<Example>, BadRecord> {
        let limits = ImageLimits::default();
        let may = |object: &&ObjectRecord| self.source.spec.may_choose(object, self.image);
        let mut objects: Vec<&ObjectRecord> = self.image.objects.iter().filter(may).collect();
        objects.shuffle(rng);
        let Some(anchor) = objects.pop() else {
            return Ok(None);
        };
        let mask = self.image.mask(anchor, &limits)?;
        let Some(pixel) = random_pixel(&mask, rng) else {
            return Ok(None);
        };
        let size = (self.image.width, self.image.height);
        let view = self
            .spec
            .augmentation
            .view(size, self.spec.side, pixel, rng);
        let Some(mask) = self.see(&view, &mask) else {
            return Ok(None);
        };
        let click = if rng.random_bool(self.spec.ambiguous_clicks) {
            random_pixel(&mask, rng)
        } else {
            None
        };
        let mut masks = vec![mask];
        if let Some(click) = click {
            self.add_sharing(&view, click, &mut objects, &mut masks, skipped);
        }
        let shared = if masks.len() > 1 { masks.len() } else { 0 };
        self.add_others(&view, &objects, &mut masks, skipped);
        let image = self.image.load_image(&limits)?;
        let first_click = |i: usize| click.filter(|_| i < shared);
        let objects = (0..).zip(masks).map(|(i, mask)| ExampleObject {
            first_click: first_click(i),
            mask,
        });
        Ok(Some(Example {
            image: view.image(&image),
            objects: objects.collect(),
            intent: self.source.spec.intent,
            source: format!("{}/{}", self.source.set.name, self.image.id),
        }))
    }

    /// The mask in the view, if it fits in both the image and the view.
    fn see(&self, view: &View, mask: &Mask) -> Option<Mask> {
        let spec = &self.source.spec;
        let seen = spec.fits(mask).then(|| view.mask(mask)).flatten();
        seen.filter(|mask| spec.leaves_room_in(mask))
    }

    fn decode(&self, view: &View, object: &ObjectRecord, skipped: &mut Skipped) -> Option<Mask> {
        match self.image.mask(object, &ImageLimits::default()) {
            Ok(mask) => self.see(view, &mask),
            Err(bad) => {
                skipped.add(bad);
                None
            }
        }
    }

    /// Adds masks that contain `click` and differ clearly from those there. Objects that were
    /// looked at are taken from `objects`.
    fn add_sharing(
        &self,
        view: &View,
        click: (u32, u32),
        objects: &mut Vec<&ObjectRecord>,
        masks: &mut Vec<Mask>,
        skipped: &mut Skipped,
    ) {
        let Some((x, y)) = view.source(click.0, click.1) else {
            return;
        };
        objects.retain(|object| {
            let full = masks.len() >= self.spec.masks_per_image;
            if full || !may_overlap(object, [x, y, 1, 1]) {
                return true;
            }
            let Some(mask) = self.decode(view, object, skipped) else {
                return false;
            };
            let differs = |other: &Mask| mask.iou(other) < SAME_MASK_IOU;
            if mask.get(click.0, click.1) && masks.iter().all(differs) {
                masks.push(mask);
            }
            false
        });
    }

    fn add_others(
        &self,
        view: &View,
        objects: &[&ObjectRecord],
        masks: &mut Vec<Mask>,
        skipped: &mut Skipped,
    ) {
        for object in objects {
            if masks.len() >= self.spec.masks_per_image {
                break;
            }
            if may_overlap(object, view.window()) {
                masks.extend(self.decode(view, object, skipped));
            }
        }
    }
}

/// Whether the object's annotated box, if there is one, meets the window `[x, y, width, height]`.
fn may_overlap(object: &ObjectRecord, window: [u32; 4]) -> bool {
    let [x, y, width, height] = window.map(f64::from);
    object.bbox.is_none_or(|[left, top, across, down]| {
        left < x + width && x < left + across && top < y + height && y < top + down
    })
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
