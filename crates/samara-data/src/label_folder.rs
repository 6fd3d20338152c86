//! Folders of images with label maps.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use samara_image::{Error as ImageError, ImageLimits, Rle, Stretch, read_label_map};

use super::dataset::{
    DataOptions, DataSet, ImageRecord, ObjectRecord, Segmentation, data_set_error, folder_name,
    keep_split,
};
use super::error::{BadRecord, DataError, Fault, Skipped};

struct Pair {
    id: u64,
    image: PathBuf,
    label: PathBuf,
    split: Option<String>,
}

/// Lists the images of `split` and reads their label maps.
pub(crate) fn open(root: &Path, options: &DataOptions) -> Result<DataSet, DataError> {
    let split = options.split.as_deref();
    let list = |folder: &str| {
        let folder = root.join(folder);
        files_and_splits(&folder)
            .map_err(|error| data_set_error(&folder, format!("cannot be listed: {error}")))
    };
    if let Some(folder) = &options.image_dir {
        let what = "label maps have their images in images/ beside labels/; a folder of images goes with COCO";
        return Err(data_set_error(folder, what));
    }
    let images = list("images")?;
    let labels = list("labels")?;
    let pairs = (1..).zip(images).map(|(id, (image, split))| Pair {
        id,
        label: label_path(root, split.as_deref(), &image),
        image,
        split,
    });
    let pairs = keep_split(pairs.collect(), split, root, |pair: &Pair| {
        pair.split.as_deref()
    })?;

    let mut skipped = Skipped::default();
    let used: HashSet<&Path> = pairs.iter().map(|pair| pair.label.as_path()).collect();
    for (label, of) in &labels {
        if !used.contains(label.as_path()) && (split.is_none() || of.as_deref() == split) {
            let what = "no image of this name in images/";
            let record = label.display().to_string();
            skipped.add(BadRecord::new(Fault::MissingImage, record, what));
        }
    }
    let records = pairs
        .into_par_iter()
        .map(|pair| image_record(pair, options.stretch));
    let records: Vec<_> = records.collect();
    let mut images = Vec::with_capacity(records.len());
    for record in records {
        match record {
            Ok(record) => images.push(record),
            Err(bad) => skipped.add(bad),
        }
    }
    Ok(DataSet {
        name: folder_name(root),
        root: root.to_owned(),
        annotations: None,
        image_dir: root.join("images"),
        split: split.map(str::to_owned),
        images,
        categories: Vec::new(),
        skipped,
    })
}

/// Image files of a folder and of its subfolders, which are splits; sorted.
fn files_and_splits(folder: &Path) -> io::Result<Vec<(PathBuf, Option<String>)>> {
    let mut found = Vec::new();
    for path in sorted(folder)? {
        if path.is_dir() {
            let split = path.file_name().unwrap_or_default();
            let split = split.to_string_lossy().into_owned();
            let files = sorted(&path)?.into_iter().filter(|file| is_image(file));
            found.extend(files.map(|file| (file, Some(split.clone()))));
        } else if is_image(&path) {
            found.push((path, None));
        }
    }
    Ok(found)
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn is_image(path: &Path) -> bool {
    const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "gif"];
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
}

fn label_path(root: &Path, split: Option<&str>, image: &Path) -> PathBuf {
    let mut name = image.file_stem().unwrap_or_default().to_owned();
    name.push(".png");
    root.join("labels").join(split.unwrap_or("")).join(name)
}

fn image_record(pair: Pair, stretch: Stretch) -> Result<ImageRecord, BadRecord> {
    let map = read_label_map(&pair.label, &ImageLimits::default()).map_err(|error| {
        let fault = match error {
            ImageError::Io { .. } => Fault::MissingLabelMap,
            _ => Fault::BadLabelMap,
        };
        BadRecord::new(fault, pair.label.display().to_string(), error.reason())
    })?;
    let objects = map
        .objects
        .into_iter()
        .map(|(label, rle)| object_record(label, rle));
    Ok(ImageRecord {
        id: pair.id,
        path: pair.image,
        width: map.width,
        height: map.height,
        split: pair.split,
        stretch,
        objects: objects.collect(),
    })
}

fn object_record(label: u32, rle: Rle) -> ObjectRecord {
    ObjectRecord {
        id: u64::from(label),
        area: Some(rle.area() as f64),
        bbox: rle.bbox().map(|b| b.xywh().map(f64::from)),
        annotator: None,
        level: None,
        category: None,
        iscrowd: false,
        segmentation: Segmentation::Rle(rle.into()),
    }
}
