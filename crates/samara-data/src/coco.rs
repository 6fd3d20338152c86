//! COCO's annotation file, as people have it.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use samara_image::{ImageLimits, Stretch, one_line, read_file, read_image};
use serde::Deserialize;

use super::coco_id::{CocoId, CrowdFlag};
use super::dataset::{
    Category, DataOptions, DataSet, ImageRecord, ObjectRecord, Segmentation, data_set_error,
    folder_name, keep_split,
};
use super::error::{BadRecord, DataError, Fault, Skipped};

/// The largest sets of annotations have a gigabyte.
const LIMITS: ImageLimits = ImageLimits {
    max_pixels: u64::MAX,
    max_bytes: 1 << 32,
};

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    #[serde(default)]
    annotations: Vec<Annotation>,
    #[serde(default)]
    categories: Vec<CategoryRecord>,
}

#[derive(Deserialize)]
struct Image {
    id: CocoId,
    file_name: String,
    width: Option<u32>,
    height: Option<u32>,
    split: Option<String>,
}

#[derive(Deserialize)]
struct Annotation {
    id: CocoId,
    image_id: CocoId,
    category_id: Option<CocoId>,
    area: Option<f64>,
    bbox: Option<Vec<f64>>,
    iscrowd: Option<CrowdFlag>,
    annotator: Option<u32>,
    level: Option<String>,
    #[serde(default)]
    segmentation: Segmentation,
}

#[derive(Deserialize)]
struct CategoryRecord {
    id: CocoId,
    name: String,
}

/// Lists the images that the file describes, of the split if they have any, and their objects.
pub(crate) fn open(path: &Path, options: &DataOptions) -> Result<DataSet, DataError> {
    let refuse = |what: String| data_set_error(path, what);
    let bytes = read_file(path, &LIMITS).map_err(|error| refuse(error.reason().to_owned()))?;
    // Some editors begin a file with a mark of its encoding.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let file: File = serde_json::from_slice(text)
        .map_err(|error| refuse(format!("not COCO annotations: {error}")))?;
    drop(bytes);
    let root = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => Path::new(".").to_owned(),
    };
    let mut skipped = Skipped::default();
    let known: HashSet<u64> = file.images.iter().map(|image| image.id.0).collect();
    let asked = options.split.as_deref();
    // Without any split in the file, all of it is used.
    let listed = asked.filter(|_| file.images.iter().any(|image| image.split.is_some()));
    let kept = keep_split(file.images, listed, path, |image| image.split.as_deref())?;
    let split = listed.or(asked.filter(|split| path.to_string_lossy().contains(split)));
    let image_dir = match &options.image_dir {
        Some(folder) if folder.is_dir() => folder.clone(),
        Some(folder) => {
            return Err(data_set_error(
                folder,
                "the folder of the images is not there",
            ));
        }
        None => image_folder(path, &root, kept.first()),
    };
    let mut images = image_records(kept, &image_dir, options.stretch, &mut skipped);

    let position: HashMap<u64, usize> = images.iter().map(|i| i.id).zip(0..).collect();
    let categories = file.categories.into_iter();
    let categories: Vec<Category> = categories
        .map(|CategoryRecord { id, name }| Category { id: id.0, name })
        .collect();
    let names: HashMap<u64, &str> = categories.iter().map(|c| (c.id, &*c.name)).collect();
    for annotation in file.annotations {
        if let Some(&at) = position.get(&annotation.image_id.0) {
            images[at].objects.push(object_record(annotation, &names));
        } else if !known.contains(&annotation.image_id.0) {
            let record = format!("{}: annotation {}", path.display(), annotation.id.0);
            let what = format!("its image {} is not in the file", annotation.image_id.0);
            skipped.add(BadRecord::new(Fault::UnknownImage, record, what));
        }
    }
    Ok(DataSet {
        name: name(path, &root),
        root,
        annotations: Some(path.to_owned()),
        image_dir,
        split: split.map(str::to_owned),
        images,
        categories,
        skipped,
    })
}

/// Where the images are: the first of the usual places that holds the first image.
fn image_folder(path: &Path, root: &Path, first: Option<&Image>) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    // `instances_val2017.json` is about the images in `val2017`.
    let part = stem.split_once('_').map_or(&*stem, |(_, part)| part);
    let above = root.join("..");
    let places = [
        root.join("images"),
        root.to_owned(),
        root.join(part),
        above.join(part),
        above.join("images").join(part),
        above.join("images"),
        above.clone(),
    ];
    // A file of another name, beside that of its data set.
    let others = std::fs::read_dir(&above).into_iter().flatten().flatten();
    let mut others: Vec<PathBuf> = others.map(|entry| entry.path()).collect();
    others.sort();
    let holds =
        |place: &&PathBuf| first.is_some_and(|image| place.join(&image.file_name).is_file());
    // A folder that only happens to have an image of this name is none of them if it is not the only one.
    let other = || match others.iter().filter(holds).collect::<Vec<_>>()[..] {
        [other] => Some(other),
        _ => None,
    };
    let place = places
        .iter()
        .find(holds)
        .or_else(other)
        .or(places.first().filter(|place| place.is_dir()));
    place.cloned().unwrap_or_else(|| root.to_owned())
}

fn image_records(
    images: Vec<Image>,
    folder: &Path,
    stretch: Stretch,
    skipped: &mut Skipped,
) -> Vec<ImageRecord> {
    let mut seen = HashSet::with_capacity(images.len());
    let mut records = Vec::with_capacity(images.len());
    for image in images {
        let file = Path::new(&image.file_name);
        let normal = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        let leads_out = !file.components().all(normal);
        let mut record = ImageRecord {
            id: image.id.0,
            path: folder.join(file),
            width: image.width.unwrap_or(0),
            height: image.height.unwrap_or(0),
            split: image.split,
            stretch,
            objects: Vec::new(),
        };
        if leads_out {
            skipped.add(record.bad(Fault::ImagePath, "the path leads out of the data set"));
            continue;
        }
        if image.width.is_none() || image.height.is_none() {
            // A file without sizes; the image has one.
            match read_image(&record.path, &ImageLimits::default()) {
                Ok(image) => (record.width, record.height) = image.dimensions(),
                Err(error) => {
                    skipped.add(record.bad(Fault::CorruptImage, error.reason()));
                    continue;
                }
            }
        }
        if record.width == 0 || record.height == 0 {
            let what = format!("annotated as {}x{}", record.width, record.height);
            skipped.add(record.bad(Fault::ImageSize, what));
        } else if !seen.insert(record.id) {
            let what = "another image has the same id; its annotations go to the first";
            skipped.add(record.bad(Fault::DuplicateImage, what));
        } else {
            records.push(record);
        }
    }
    records
}

/// Areas and boxes of zero, which careless converters write, count as not annotated.
fn object_record(annotation: Annotation, categories: &HashMap<u64, &str>) -> ObjectRecord {
    let bbox = annotation.bbox.and_then(|b| <[f64; 4]>::try_from(b).ok());
    ObjectRecord {
        id: annotation.id.0,
        area: annotation.area.filter(|&area| area > 0.0),
        bbox: bbox.filter(|&[_, _, width, height]| width > 0.0 && height > 0.0),
        annotator: annotation.annotator,
        level: annotation.level,
        category: annotation
            .category_id
            .and_then(|id| categories.get(&id.0).map(|name| (*name).to_owned())),
        iscrowd: annotation.iscrowd.is_some_and(|crowd| crowd.0),
        segmentation: annotation.segmentation,
    }
}

/// The folder's name for `annotations.json`, the file's own for any other.
fn name(path: &Path, root: &Path) -> String {
    match path.file_stem() {
        Some(stem) if stem != "annotations" => one_line(&stem.to_string_lossy()),
        _ => folder_name(root),
    }
}
