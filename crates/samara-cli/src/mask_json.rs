//! Masks in JSON: run lengths, annotations, and the answers of `samara segment`.

use std::path::Path;

use samara::{ImageLimits, Mask};
use samara_data::Segmentation;
use samara_image::{CocoRle, read_file};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// What a JSON file may hold.
#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    // First, as a list of one would pass for a record of one field.
    List(Vec<Shape>),
    Answers { objects: Vec<Answer> },
    One(Shape),
}

/// An answer of `samara segment`.
#[derive(Deserialize)]
struct Answer {
    selected: Annotation,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Shape {
    Rle(CocoRle),
    Annotation(Annotation),
}

#[derive(Deserialize)]
struct Annotation {
    segmentation: Segmentation,
}

impl Shape {
    fn segmentation(self) -> Segmentation {
        match self {
            Self::Rle(rle) => Segmentation::Rle(rle),
            Self::Annotation(annotation) => annotation.segmentation,
        }
    }
}

/// The masks of a file, at least one, for an image of this width and height; or why there are none, without the
/// name of the file.
pub(crate) fn read(
    path: &Path,
    size: (u32, u32),
    limits: &ImageLimits,
) -> Result<Vec<Mask>, String> {
    let bytes = read_file(path, limits).map_err(|e| e.reason().to_owned())?;
    serde_json::from_slice::<IgnoredAny>(&bytes).map_err(|e| e.to_string())?;
    let document: Document = serde_json::from_slice(&bytes).map_err(
        |_| "neither run lengths, annotations with a segmentation, nor an answer of 'segment'",
    )?;
    let segmentations: Vec<Segmentation> = match document {
        Document::One(shape) => vec![shape.segmentation()],
        Document::List(all) => all.into_iter().map(Shape::segmentation).collect(),
        Document::Answers { objects } => objects
            .into_iter()
            .map(|answer| answer.selected.segmentation)
            .collect(),
    };
    if segmentations.is_empty() {
        return Err("holds no mask".into());
    }
    let several = segmentations.len() > 1;
    let masks = segmentations.iter().enumerate().map(|(i, shape)| {
        let mask = decode(shape, size, limits);
        mask.map_err(|why| {
            if several {
                format!("mask {i}: {why}")
            } else {
                why
            }
        })
    });
    masks.collect()
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
