//! Which layout a data set has.

use std::path::Path;

use crate::dataset::{DataSet, data_set_error};
use crate::error::DataError;
use crate::{coco, label_folder};

impl DataSet {
    /// Lists a data set, or one split of it. Two layouts are read:
    ///
    /// - COCO: a folder with `annotations.json`, or the path of such a file. Images lie in
    ///   `images/` next to the file or, without such a folder, beside the file. Masks are
    ///   polygons, plain or compressed run lengths. Beyond COCO, `split` of an image and
    ///   `annotator` and `level` of an annotation are read.
    /// - Label maps: a folder with images `images/NAME.jpg` (or another format) and label maps
    ///   `labels/NAME.png` as [`samara_image::read_label_map`] reads them: every non-zero value is
    ///   one object. Subfolders such as `images/train/` with `labels/train/` are the splits. The
    ///   label maps of the split are read once, here.
    ///
    /// Single bad records are counted in [`skipped`](Self::skipped).
    ///
    /// # Errors
    /// [`DataError::DataSet`] for a path in neither layout, damaged JSON or no image at all,
    /// [`DataError::Split`] for a split without an image.
    pub fn open(path: impl AsRef<Path>, split: Option<&str>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let json = path.join("annotations.json");
        if path.is_file() {
            coco::open(path, split)
        } else if json.is_file() {
            coco::open(&json, split)
        } else if path.join("labels").is_dir() {
            label_folder::open(path, split)
        } else {
            let what = if path.exists() {
                "has neither annotations.json nor the folders images/ and labels/"
            } else {
                "no such file or folder"
            };
            Err(data_set_error(path, what))
        }
    }
}
