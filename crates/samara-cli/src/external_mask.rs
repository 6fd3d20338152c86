//! Masks from elsewhere whose quality is asked for: images, NumPy arrays, JSON with run lengths.

use std::path::Path;

use samara::{ImageLimits, Mask, read_mask};
use samara_data::Segmentation;
use samara_image::{CocoRle, RgbImage, read_file, read_gray16};
use samara_quality::{ExternalMask, SoftMask};
use serde::Deserialize;

use crate::error::Result;
use crate::mask_file::{failed, read_array, tell_stretched};

/// A mask, and what to call it.
pub(crate) struct NamedMask {
    pub(crate) name: String,
    pub(crate) mask: ExternalMask,
}

/// Reads the masks of a file, of which JSON alone may hold several. `soft`: the grey levels of a
/// image are probabilities.
pub(crate) fn read(
    path: &Path,
    soft: bool,
    image: &RgbImage,
    limits: &ImageLimits,
) -> Result<Vec<NamedMask>> {
    let (width, height) = image.dimensions();
    let extension = path.extension().unwrap_or_default();
    let extension = extension.to_string_lossy().to_ascii_lowercase();
    let binary = |mask: &Mask| {
        let external = ExternalMask::new(mask, width, height)?;
        tell_stretched(path, (mask.width(), mask.height()), (width, height));
        Ok(external)
    };
    let probable = |(columns, rows): (u32, u32), values| {
        let external = ExternalMask::soft(SoftMask::new(columns, rows, values)?, width, height)?;
        tell_stretched(path, (columns, rows), (width, height));
        Ok(external)
    };
    let mask: samara_quality::Result<ExternalMask> = match extension.as_str() {
        "json" => return read_json(path, (width, height), limits),
        "npy" => {
            let array = read_array(path, limits)?;
            let size = (array.columns, array.rows);
            let name = path.display().to_string();
            limits
                .check_pixels(size.0, size.1, &name)
                .map_err(samara::Error::from)?;
            if array.is_float {
                probable(size, array.values)
            } else {
                binary(&array.mask(path)?)
            }
        }
        _ if soft => {
            let grey = read_gray16(path, limits)?;
            let most = f32::from(u16::MAX);
            let values = grey.as_raw().iter().map(|&v| f32::from(v) / most);
            probable(grey.dimensions(), values.collect())
        }
        _ => binary(&read_mask(path, limits)?),
    };
    Ok(vec![NamedMask {
        name: path.display().to_string(),
        mask: mask.map_err(|e| failed(path, e))?,
    }])
}

/// What a JSON file may hold.
#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    // First, as a list of one would pass for a record of one field.
    Annotations(Vec<Annotation>),
    Rle(CocoRle),
    /// An answer of `samara segment`.
    Answer {
        selected: Annotation,
    },
    Answers {
        objects: Vec<Answer>,
    },
    Annotation(Annotation),
}

#[derive(Deserialize)]
struct Answer {
    selected: Annotation,
}

#[derive(Deserialize)]
struct Annotation {
    segmentation: Segmentation,
}

fn read_json(path: &Path, size: (u32, u32), limits: &ImageLimits) -> Result<Vec<NamedMask>> {
    let failed = |why: &dyn std::fmt::Display| failed(path, why);
    let bytes = read_file(path, limits).map_err(|e| failed(&e.reason()))?;
    serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).map_err(|e| failed(&e))?;
    let document: Document = serde_json::from_slice(&bytes).map_err(|_| {
        failed(&"neither run lengths, annotations with a segmentation, nor an answer of 'segment'")
    })?;
    let segmentations = match document {
        Document::Rle(rle) => vec![Segmentation::Rle(rle)],
        Document::Answer { selected } => vec![selected.segmentation],
        Document::Answers { objects } => objects
            .into_iter()
            .map(|answer| answer.selected.segmentation)
            .collect(),
        Document::Annotation(annotation) => vec![annotation.segmentation],
        Document::Annotations(all) => all.into_iter().map(|a| a.segmentation).collect(),
    };
    if segmentations.is_empty() {
        return Err(failed(&"holds no mask"));
    }
    let several = segmentations.len() > 1;
    let named = segmentations.into_iter().enumerate().map(|(i, shape)| {
        let which = if several {
            format!("mask {i}: ")
        } else {
            String::new()
        };
        let mask = decode(&shape, size, limits);
        let mask = mask.and_then(|mask| {
            ExternalMask::new(&mask, size.0, size.1).map_err(|error| error.to_string())
        });
        Ok(NamedMask {
            name: if several {
                format!("{} [{i}]", path.display())
            } else {
                path.display().to_string()
            },
            mask: mask.map_err(|why| failed(&format!("{which}{why}")))?,
        })
    });
    named.collect()
}

fn decode(
    shape: &Segmentation,
    (width, height): (u32, u32),
    limits: &ImageLimits,
) -> Result<Mask, String> {
    if let Segmentation::Rle(rle) = shape
        && rle.size != [height, width]
    {
        let [rows, columns] = rle.size;
        return Err(format!(
            "run lengths of {columns}×{rows} pixels, the image has {width}×{height}"
        ));
    }
    shape.to_mask(width, height, limits)
}
