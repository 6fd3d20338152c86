//! `annotations.json`: the masks of all images in one COCO file.

use std::io::{self, Error, Write};
use std::path::Path;

use samara_image::{Rle, write_atomic_with};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::manifest::{Entry, Outcome};
use super::results::Results;
use crate::error::Result;

pub(super) const FILE: &str = "annotations.json";

#[derive(Serialize)]
struct Image<'a> {
    id: usize,
    file_name: &'a str,
    width: u32,
    height: u32,
}

/// A record of `NAME.json`: what COCO says in its own way, and the rest as it is.
#[derive(Deserialize)]
struct Record {
    id: usize,
    parent: Option<usize>,
    children: Vec<usize>,
    segmentation: Rle,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// An object: COCO's fields, then ours. All numbers of annotations count through the whole file.
#[derive(Serialize)]
struct Annotation {
    id: usize,
    image_id: usize,
    category_id: u32,
    iscrowd: u32,
    /// Full widths, other than in the official records.
    bbox: [u32; 4],
    segmentation: Value,
    parent: Option<usize>,
    children: Vec<usize>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Writes the file from the images' entries, which are gone through twice, and their own files,
/// of which one at a time is held.
pub(super) fn write<I>(
    path: &Path,
    results: &Results,
    entries: impl Fn() -> io::Result<I>,
) -> Result<()>
where
    I: Iterator<Item = io::Result<Entry>>,
{
    Ok(write_atomic_with(path, |file| {
        file.write_all(b"{\"images\":[")?;
        for (i, entry) in done(entries()?).enumerate() {
            let (name, width, height) = entry?;
            separate(file, i)?;
            let image = Image {
                id: i + 1,
                file_name: &name,
                width,
                height,
            };
            serde_json::to_writer(&mut *file, &image)?;
        }
        file.write_all(b"],\"annotations\":[")?;
        // Numbers begin at 1, as COCO's tools expect.
        let mut next = 1;
        for (i, entry) in done(entries()?).enumerate() {
            let (name, ..) = entry?;
            let path = results.path(&name, "json");
            let named =
                |e: &dyn std::fmt::Display| Error::other(format!("{}: {e}", path.display()));
            let bytes = std::fs::read(&path).map_err(|e| named(&e))?;
            let records: Vec<Value> = serde_json::from_slice(&bytes).map_err(|e| named(&e))?;
            let first = next;
            for record in records {
                separate(file, next - 1)?;
                let annotation = annotation(record, i + 1, first).map_err(|e| named(&e))?;
                serde_json::to_writer(&mut *file, &annotation)?;
                next += 1;
            }
        }
        file.write_all(b"],\"categories\":[{\"id\":1,\"name\":\"object\"}]}\n")
    })?)
}

fn annotation(record: Value, image_id: usize, first: usize) -> serde_json::Result<Annotation> {
    // The run lengths stay in the form that they have.
    let segmentation = record["segmentation"].clone();
    let record: Record = serde_json::from_value(record)?;
    let mut rest = record.rest;
    rest.remove("bbox");
    Ok(Annotation {
        id: first + record.id,
        image_id,
        category_id: 1,
        iscrowd: 0,
        bbox: record.segmentation.bbox().map_or([0; 4], |b| b.xywh()),
        segmentation,
        parent: record.parent.map(|id| first + id),
        children: record.children.iter().map(|id| first + id).collect(),
        rest,
    })
}

fn separate(file: &mut dyn Write, before: usize) -> io::Result<()> {
    if before == 0 {
        Ok(())
    } else {
        file.write_all(b",\n")
    }
}

/// Name, width and height of the images that are done.
fn done(
    entries: impl Iterator<Item = io::Result<Entry>>,
) -> impl Iterator<Item = io::Result<(String, u32, u32)>> {
    let name = |Entry { image, outcome }| match outcome {
        Outcome::Done { width, height, .. } => Some((image, width, height)),
        Outcome::Failed { .. } => None,
    };
    entries.filter_map(move |entry| entry.map(name).transpose())
}
