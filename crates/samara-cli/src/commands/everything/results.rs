//! The results of one image, written so that none is ever half there.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

use samara::{Granularity, Hierarchy, Mask, MaskRecord};
use samara_image::{PngSource, RgbImage, label_map, save_png, write_atomic, write_folder_atomic};
use serde::Serialize;

use super::images;
use crate::error::{CliError, Result};
use crate::files::{is_whole, result_in};
use crate::flags::Format;

/// The masks of all images in one file.
const COCO: &str = "annotations.json";

/// A mask in `NAME.json`: the official record, and the place in the tree.
#[derive(Serialize)]
struct Record<'a> {
    id: usize,
    #[serde(flatten)]
    mask: &'a MaskRecord,
    #[serde(flatten)]
    node: &'a samara::Node,
}

impl Format {
    /// What the results of an image end with; those of all images together have another name.
    fn extension(self) -> Option<&'static str> {
        match self {
            Self::Coco => None,
            Self::Json => Some("json"),
            Self::Masks => Some("masks"),
            Self::Labels => Some("labels.png"),
            Self::Overlay => Some("overlay.png"),
            Self::Hierarchy => Some("hierarchy.png"),
        }
    }
}

/// Where the results of the images go.
pub(super) struct Results {
    folder: PathBuf,
    formats: Vec<Format>,
}

impl Results {
    pub(super) fn new(folder: &Path, formats: &[Format]) -> Self {
        let mut formats = formats.to_vec();
        if formats.contains(&Format::Coco) && !formats.contains(&Format::Json) {
            // The COCO file is made from these.
            formats.push(Format::Json);
        }
        Self {
            folder: folder.into(),
            formats,
        }
    }

    /// The file or folder of a result.
    pub(super) fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{name}.{extension}"))
    }

    /// All that is written for an image, relative to the folder.
    pub(super) fn names(&self, name: &str) -> Vec<String> {
        let extensions = self.formats.iter().filter_map(|format| format.extension());
        extensions
            .map(|extension| format!("{name}.{extension}"))
            .collect()
    }

    /// Whether all results of an image are there, as far as a look at them tells.
    pub(super) fn are_there(&self, name: &str) -> bool {
        let mut names = self.names(name).into_iter();
        names.all(|name| is_whole(&self.folder.join(name)))
    }

    /// What is written for all images together, relative to the folder.
    pub(super) fn shared(&self) -> Option<&'static str> {
        self.formats.contains(&Format::Coco).then_some(COCO)
    }

    /// Writes what was asked for; gives the paths.
    pub(super) fn write(
        &self,
        name: &str,
        image: &RgbImage,
        records: &[MaskRecord],
        tree: &Hierarchy,
    ) -> Result<Vec<PathBuf>> {
        let drawn = self
            .formats
            .iter()
            .any(|format| !matches!(format, Format::Json | Format::Coco));
        let masks: Vec<Mask> = if drawn {
            let masks = records.iter().map(|record| record.segmentation.to_mask());
            masks.collect::<samara::Result<_>>()?
        } else {
            Vec::new()
        };
        let mut written = Vec::new();
        for format in &self.formats {
            let Some(extension) = format.extension() else {
                continue;
            };
            let path = result_in(&self.folder, format!("{name}.{extension}"))?;
            match format {
                Format::Coco => {}
                Format::Json => write_atomic(&path, &json(records, tree)?)?,
                Format::Masks => {
                    let fill = |folder: &Path| {
                        let written = write_masks(folder, records, &masks);
                        written.map_err(|e| CliError::failed(format!("{}: {e}", path.display())))
                    };
                    write_folder_atomic(&path, fill)?;
                }
                Format::Labels => {
                    let (width, height) = image.dimensions();
                    let order = images::by_area(&masks).into_iter();
                    let numbered: Vec<_> = order.map(|i| (i, &masks[i])).collect();
                    save_png(&path, &label_map(width, height, &numbered)?)?;
                }
                Format::Overlay => save_png(&path, &images::overlay(image, &masks))?,
                Format::Hierarchy => {
                    save_png(&path, &images::hierarchy(image, &masks, tree))?;
                }
            }
            written.push(path);
        }
        Ok(written)
    }
}

fn json(records: &[MaskRecord], tree: &Hierarchy) -> Result<Vec<u8>> {
    let records = records.iter().zip(tree.nodes()).enumerate();
    let records: Vec<Record<'_>> = records
        .map(|(id, (mask, node))| Record { id, mask, node })
        .collect();
    let mut bytes = serde_json::to_vec(&records).map_err(CliError::failed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// `0.png`, `1.png` and so on, and `metadata.csv`, as the official `scripts/amg.py` writes them.
fn write_masks(folder: &Path, records: &[MaskRecord], masks: &[Mask]) -> io::Result<()> {
    let mut table = String::from(
        "id,area,bbox_x0,bbox_y0,bbox_w,bbox_h,point_input_x,point_input_y,\
         predicted_iou,stability_score,crop_box_x0,crop_box_y0,crop_box_w,crop_box_h\n",
    );
    for (id, (record, mask)) in records.iter().zip(masks).enumerate() {
        let png = mask.to_luma().to_png().map_err(io::Error::other)?;
        fs::write(folder.join(format!("{id}.png")), png)?;
        let MaskRecord {
            bbox: [x, y, w, h],
            point_coords: [[point_x, point_y]],
            crop_box: [crop_x, crop_y, crop_w, crop_h],
            ..
        } = record;
        let (area, iou, stability) = (record.area, record.predicted_iou, record.stability_score);
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{id},{area},{x},{y},{w},{h},{point_x},{point_y},{iou},{stability},\
             {crop_x},{crop_y},{crop_w},{crop_h}"
        );
    }
    fs::write(folder.join("metadata.csv"), table)
}

/// How many masks of each level there are, in words.
pub(super) fn levels(tree: &Hierarchy) -> String {
    let count = |level| {
        tree.nodes()
            .iter()
            .filter(|node| node.level == level)
            .count()
    };
    let words = Granularity::ALL.map(|level| match count(level) {
        1 => format!("1 {level}"),
        n => format!("{n} {level}s"),
    });
    words.join(", ")
}
