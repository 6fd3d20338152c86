//! Records of a data set, decoded one at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use samara_image::{
    CocoRle, Error as ImageError, ImageLimits, Mask, ReadOptions, RgbImage, Rle, Stretch,
    coco_polygons_to_mask, one_line, read_image_with,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::{BadRecord, DataError, Fault, Skipped};

/// Annotated images: a list of records, nothing decoded.
#[derive(Debug, Clone)]
pub struct DataSet {
    /// The name of the folder.
    pub name: String,
    /// The folder.
    pub root: PathBuf,
    /// The file of COCO annotations; label maps have none.
    pub annotations: Option<PathBuf>,
    /// The folder that file names of images in annotations are relative to.
    pub image_dir: PathBuf,
    /// The split that these images are, by their records or by the name of the file or folder of annotations; none
    /// if all images are used.
    pub split: Option<String>,
    /// The images of the split that was asked for.
    pub images: Vec<ImageRecord>,
    /// The categories of COCO annotations, in the order of the file; label maps have none.
    pub categories: Vec<Category>,
    /// Records skipped while listing.
    pub skipped: Skipped,
}

/// A class of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Category {
    /// Its id in the annotations.
    pub id: u64,
    /// What it is called.
    pub name: String,
}

/// How a data set is opened.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DataOptions {
    /// The split; all images without it.
    pub split: Option<String>,
    /// The folder that file names of images in COCO annotations are relative to; looked for without it.
    pub image_dir: Option<PathBuf>,
    /// Which values of images with samples of more than 8 bits become black and white.
    pub stretch: Stretch,
}

/// One image and its objects.
#[derive(Debug, Clone)]
pub struct ImageRecord {
    /// The id in the annotations, or the position among the files of a label-map folder.
    pub id: u64,
    /// The image.
    pub path: PathBuf,
    /// Width in pixels, as annotated.
    pub width: u32,
    /// Height in pixels, as annotated.
    pub height: u32,
    /// The split, if the data set has any.
    pub split: Option<String>,
    /// Which values of samples of more than 8 bits become black and white.
    pub stretch: Stretch,
    /// The annotated objects.
    pub objects: Vec<ObjectRecord>,
}

/// One annotated object, its mask not yet decoded.
#[derive(Debug, Clone)]
pub struct ObjectRecord {
    /// The id in the annotations, or the label in a label map.
    pub id: u64,
    /// Area in pixels, if annotated.
    pub area: Option<f64>,
    /// `[x, y, width, height]` in pixels, if annotated.
    pub bbox: Option<[f64; 4]>,
    /// Who drew it, where several people annotated the same image.
    pub annotator: Option<u32>,
    /// The granularity, such as `whole` or `part`.
    pub level: Option<String>,
    /// The name of the category.
    pub category: Option<String>,
    /// Whether this is a region of many objects rather than one.
    pub iscrowd: bool,
    /// The mask.
    pub segmentation: Segmentation,
}

/// A mask as annotated; [`ImageRecord::mask`] decodes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Segmentation {
    /// Run lengths, plain or compressed.
    Rle(CocoRle),
    /// Flat lists of `x` and `y`; the object is the union of the rings.
    Polygons(Vec<Vec<f64>>),
    /// Neither of them.
    Unreadable(IgnoredAny),
}

impl Default for Segmentation {
    fn default() -> Self {
        Self::Unreadable(IgnoredAny)
    }
}

impl Segmentation {
    /// The mask on an image of `width`×`height` pixels. Run lengths have the size that they say.
    ///
    /// # Errors
    /// Why it cannot be read, in one line.
    pub fn to_mask(&self, width: u32, height: u32, limits: &ImageLimits) -> Result<Mask, String> {
        let mask = match self {
            Self::Rle(rle) => Rle::try_from(rle.clone()).and_then(|rle| rle.to_mask_within(limits)),
            Self::Polygons(rings) => coco_polygons_to_mask(rings, width, height),
            Self::Unreadable(_) => {
                return Err("the segmentation is neither polygons nor run lengths".into());
            }
        };
        mask.map_err(|error| error.to_string())
    }
}

/// A decoded image with all its decodable objects.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The image.
    pub image: RgbImage,
    /// The objects, with masks of the image's size.
    pub objects: Vec<SampleObject>,
    /// Objects skipped.
    pub skipped: Skipped,
}

/// One decoded object.
#[derive(Debug, Clone)]
pub struct SampleObject {
    /// See [`ObjectRecord::id`].
    pub id: u64,
    /// The mask, of the image's size and not empty.
    pub mask: Mask,
    /// See [`ObjectRecord::annotator`].
    pub annotator: Option<u32>,
    /// See [`ObjectRecord::level`].
    pub level: Option<String>,
}

impl ImageRecord {
    /// Decodes the image and all masks.
    ///
    /// An object that cannot be decoded is skipped and counted in [`Sample::skipped`].
    ///
    /// # Errors
    /// As [`load_image`](Self::load_image).
    pub fn load(&self, limits: &ImageLimits) -> Result<Sample, BadRecord> {
        let image = self.load_image(limits)?;
        let mut skipped = Skipped::default();
        let mut objects = Vec::with_capacity(self.objects.len());
        for object in &self.objects {
            match self.mask(object, limits) {
                Ok(mask) => objects.push(SampleObject {
                    id: object.id,
                    mask,
                    annotator: object.annotator,
                    level: object.level.clone(),
                }),
                Err(bad) => skipped.add(bad),
            }
        }
        Ok(Sample {
            image,
            objects,
            skipped,
        })
    }

    /// Decodes the image.
    ///
    /// # Errors
    /// A missing or corrupt image, one above `limits`, and one of another size than annotated.
    pub fn load_image(&self, limits: &ImageLimits) -> Result<RgbImage, BadRecord> {
        let read = read_image_with(&self.path, &self.options(limits)).map_err(|error| {
            let fault = match error {
                ImageError::Io { .. } => Fault::MissingImage,
                _ => Fault::CorruptImage,
            };
            self.bad(fault, error.reason())
        })?;
        let image = read.image;
        let (width, height) = image.dimensions();
        if (width, height) != (self.width, self.height) {
            let what = format!(
                "the image is {width}x{height}, its annotations are for {}x{}",
                self.width, self.height
            );
            return Err(self.bad(Fault::ImageSize, what));
        }
        Ok(image)
    }

    /// How the image is read.
    pub fn options(&self, limits: &ImageLimits) -> ReadOptions {
        ReadOptions {
            stretch: self.stretch,
            ..(*limits).into()
        }
    }

    /// Decodes the mask of one of this image's objects.
    ///
    /// # Errors
    /// A segmentation that cannot be read, one of another size, and one without a pixel.
    pub fn mask(&self, object: &ObjectRecord, limits: &ImageLimits) -> Result<Mask, BadRecord> {
        let bad = |fault, what: String| {
            let record = format!("{}, annotation {}", self.name(), object.id);
            BadRecord::new(fault, record, what)
        };
        if let Segmentation::Rle(rle) = &object.segmentation {
            let [height, width] = rle.size;
            if (width, height) != (self.width, self.height) {
                let what = format!(
                    "the mask is {width}x{height}, the image {}x{}",
                    self.width, self.height
                );
                return Err(bad(Fault::MaskSize, what));
            }
        }
        let mask = object.segmentation.to_mask(self.width, self.height, limits);
        let mask = mask.map_err(|why| bad(Fault::BadSegmentation, why))?;
        if mask.is_empty() {
            return Err(bad(Fault::EmptyMask, "no pixel is set".to_owned()));
        }
        Ok(mask)
    }

    /// The image and its id, as messages name them.
    pub(crate) fn name(&self) -> String {
        format!("{}: image {}", self.path.display(), self.id)
    }

    /// This image as a record that cannot be used, for this fault.
    pub fn bad(&self, fault: Fault, what: impl Into<String>) -> BadRecord {
        BadRecord::new(fault, self.name(), what)
    }
}

pub(crate) fn data_set_error(path: &Path, what: impl Into<String>) -> DataError {
    DataError::DataSet {
        path: path.to_owned(),
        what: what.into(),
    }
}

/// What a folder is called, whatever path leads to it.
pub(crate) fn folder_name(folder: &Path) -> String {
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    one_line(&full.file_name().unwrap_or_default().to_string_lossy())
}

/// What is available where images have no split.
pub(crate) const NO_SPLIT: &str = "its images have no split";

/// The items of one split, or all of them.
pub(crate) fn keep_split<T>(
    items: Vec<T>,
    split: Option<&str>,
    path: &Path,
    split_of: impl Fn(&T) -> Option<&str>,
) -> Result<Vec<T>, DataError> {
    if items.is_empty() {
        return Err(data_set_error(path, "holds no image"));
    }
    let Some(wanted) = split else {
        return Ok(items);
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in items.iter().filter_map(&split_of) {
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    if counts.contains_key(wanted) {
        let in_split = |item: &T| split_of(item) == Some(wanted);
        return Ok(items.into_iter().filter(in_split).collect());
    }
    let names: Vec<String> = counts
        .iter()
        .map(|(name, n)| format!("{name} ({n})"))
        .collect();
    Err(DataError::Split {
        path: path.to_owned(),
        split: wanted.to_owned(),
        available: if names.is_empty() {
            format!("{NO_SPLIT}, so ask for all of them")
        } else {
            format!("available: {}", names.join(", "))
        },
    })
}

#[cfg(test)]
#[path = "dataset_tests.rs"]
mod tests;
