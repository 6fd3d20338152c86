//! `annotations.json`: the masks of all images in one COCO file.

use std::io::{self, Error};
use std::path::Path;

use samara_image::{CocoWriter, Rle, write_atomic_with};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::manifest::{Entry, Outcome};
use super::results::Results;
use crate::error::Result;

/// The one class of all masks.
const CATEGORY: &str = "object";

/// A record of `NAME.json`: what COCO says in its own way, and the rest as it is.
#[derive(Deserialize)]
struct Record {
    parent: Option<usize>,
    children: Vec<usize>,
    segmentation: Rle,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What an object has beyond COCO's fields. All numbers of annotations count through the whole file.
#[derive(Serialize)]
struct Known {
    parent: Option<usize>,
    children: Vec<usize>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Writes the file from the images' entries and their own files, of which one at a time is held.
pub(super) fn write(
    path: &Path,
    results: &Results,
    entries: impl IntoIterator<Item = io::Result<Entry>>,
) -> Result<()> {
    Ok(write_atomic_with(path, |file| {
        let mut coco = CocoWriter::new(file)?;
        coco.category(1, CATEGORY);
        for entry in entries {
            let Entry { image, outcome } = entry?;
            let Outcome::Done { width, height, .. } = outcome else {
                continue;
            };
            coco.image(&image, (width, height));
            let path = results.path(&image, "json");
            let named =
                |e: &dyn std::fmt::Display| Error::other(format!("{}: {e}", path.display()));
            let bytes = std::fs::read(&path).map_err(|e| named(&e))?;
            let records: Vec<Value> = serde_json::from_slice(&bytes).map_err(|e| named(&e))?;
            let first = coco.next_id();
            for record in records {
                // The run lengths stay in the form that they have.
                let segmentation = record["segmentation"].clone();
                let record: Record = serde_json::from_value(record).map_err(|e| named(&e))?;
                let mut rest = record.rest;
                // COCO's has full widths, other than the official records.
                rest.remove("bbox");
                rest.remove("id");
                let known = Known {
                    parent: record.parent.map(|id| first + id),
                    children: record.children.iter().map(|id| first + id).collect(),
                    rest,
                };
                coco.object_with(CATEGORY, &record.segmentation, &segmentation, &known)?;
            }
        }
        coco.finish()
    })?)
}
