//! Which layout a data set has.

use std::path::{Path, PathBuf};

use crate::dataset::{DataOptions, DataSet, data_set_error, folder_name};
use crate::error::DataError;
use crate::{coco, label_folder};

impl DataSet {
    /// Lists a data set, or one split of it; see [`open_with`](Self::open_with).
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn open(path: impl AsRef<Path>, split: Option<&str>) -> Result<Self, DataError> {
        let split = split.map(str::to_owned);
        Self::open_with(
            path,
            &DataOptions {
                split,
                ..DataOptions::default()
            },
        )
    }

    /// Lists a data set. These layouts are read:
    ///
    /// - COCO: the path of a file of annotations; a folder with `annotations.json`; COCO's own, a folder with
    ///   `annotations/instances_val2017.json` and so on, where the split `val` or `val2017` is the file of that
    ///   name; or Roboflow's, folders `train/`, `valid/`, which is `val` too, with `_annotations.coco.json` in each. Images lie in
    ///   [`DataOptions::image_dir`], or where the first one is found: in `images/` next to the file, beside the
    ///   file, in a folder that is called as the file (`val2017` for `instances_val2017.json`) next to it or above,
    ///   or in the one folder above that has it. Masks are polygons, plain or compressed run lengths. Ids may be texts. Beyond COCO, `split` of an
    ///   image and `annotator` and `level` of an annotation are read; a file without any `split` is used as a
    ///   whole, whatever split was asked for, and [`split`](Self::split) says so.
    /// - Label maps: a folder with images `images/NAME.jpg` (or another format) and label maps
    ///   `labels/NAME.png` as [`samara_image::read_label_map`] reads them: every non-zero value is
    ///   one object. Subfolders such as `images/train/` with `labels/train/` are the splits. The
    ///   label maps of the split are read once, here.
    ///
    /// Single bad records are counted in [`skipped`](Self::skipped).
    ///
    /// # Errors
    /// [`DataError::DataSet`] for a path in none of these layouts, damaged JSON or no image at all,
    /// [`DataError::Split`] for a split without an image.
    pub fn open_with(path: impl AsRef<Path>, options: &DataOptions) -> Result<Self, DataError> {
        let path = path.as_ref();
        if path.is_file() {
            return coco::open(path, options);
        }
        if !path.exists() {
            return Err(data_set_error(path, "no such file or folder"));
        }
        let json = path.join("annotations.json");
        if json.is_file() {
            coco::open(&json, options)
        } else if path.join("labels").is_dir() {
            label_folder::open(path, options)
        } else {
            let file = annotations_of(path, options.split.as_deref())?;
            Ok(Self {
                name: folder_name(path),
                ..coco::open(&file, options)?
            })
        }
    }
}

/// The one file of a folder that holds the annotations of a split.
fn annotations_of(folder: &Path, split: Option<&str>) -> Result<PathBuf, DataError> {
    let found = annotation_files(folder);
    let wanted: Vec<&(String, PathBuf)> = match split {
        None => found.iter().collect(),
        // `val` is `val2017` too, but not `validation`.
        Some(split) => {
            let year = |rest: &str| rest.bytes().all(|b| b.is_ascii_digit());
            // Roboflow's `valid` is what others call `val`.
            let is = |(name, _): &&(String, PathBuf)| {
                let alike = split == "val" && name == "valid";
                alike || name.strip_prefix(split).is_some_and(year)
            };
            let exact = found.iter().find(|(name, _)| name == split);
            exact.map_or_else(|| found.iter().filter(is).collect(), |file| vec![file])
        }
    };
    let names = || {
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    };
    match wanted[..] {
        [(_, file)] => Ok(file.clone()),
        _ if found.is_empty() => Err(data_set_error(
            folder,
            "has neither annotations.json, nor annotations/instances_*.json, nor the folders images/ and labels/",
        )),
        [] => Err(DataError::Split {
            path: folder.to_owned(),
            split: split.unwrap_or_default().to_owned(),
            available: format!("available: {}", names()),
        }),
        _ => Err(data_set_error(
            folder,
            format!(
                "has several files of annotations ({}): choose a split, or name the file",
                names()
            ),
        )),
    }
}

/// Files of annotations in the layouts of COCO and Roboflow by the names of their splits.
fn annotation_files(folder: &Path) -> Vec<(String, PathBuf)> {
    const ROBOFLOW: &str = "_annotations.coco.json";
    let list = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let coco = list(&folder.join("annotations"))
        .into_iter()
        .filter_map(|path| {
            let name = name(&path);
            let split = name.strip_prefix("instances_")?.strip_suffix(".json")?;
            Some((split.to_owned(), path))
        });
    let roboflow = list(folder)
        .into_iter()
        .chain([folder.to_owned()])
        .filter_map(|path| {
            let file = path.join(ROBOFLOW);
            file.is_file().then(|| (name(&path), file))
        });
    coco.chain(roboflow).collect()
}
