//! Where and how an export is written.

use std::fs::{self, File};
use std::io::{self, Write};

use crate::Result;
use crate::export::folder::NewFolder;

/// What is exported, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExportOptions {
    /// Only pictures whose masks somebody has said to be as they should be; of others, those with objects.
    pub checked_only: bool,
    /// Copies of the pictures are put beside, where programs look for them.
    pub pictures: bool,
    /// Polygons are at most so many pixels from the edges of the masks; with 0 they follow the pixels and are exact.
    pub tolerance: f64,
    /// The share of the pictures that are for validation, below 1; with 0 the export has no splits. Where it has, COCO
    /// says `train` or `val` of every picture; YOLO, index PNGs and label maps have a folder of these names for each, in
    /// `images/` and beside. The same pictures are chosen the next time.
    pub validation: f64,
}

impl Default for ExportOptions {
    /// All pictures that have objects or are checked, copied; polygons within half a pixel; no splits.
    fn default() -> Self {
        Self {
            checked_only: false,
            pictures: true,
            tolerance: 0.5,
            validation: 0.0,
        }
    }
}

/// Where and how a format is written.
pub(super) struct Target<'a> {
    pub(super) folder: &'a NewFolder,
    pub(super) options: ExportOptions,
}

impl Target<'_> {
    /// Writes a file of the export, and the folders above it.
    pub(super) fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.path().join(path);
        let write = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            File::create_new(&path)?.write_all(bytes)
        };
        write().map_err(|error| self.folder.failed(error))
    }

    /// Writes a PNG of the export.
    pub(super) fn write_png(&self, path: &str, image: &impl samara_image::PngSource) -> Result<()> {
        let png = image
            .to_png()
            .map_err(|error| self.folder.failed(io::Error::other(error)))?;
        self.write(path, &png)
    }
}
