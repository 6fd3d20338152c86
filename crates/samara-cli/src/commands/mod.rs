//! What each command does.

pub(crate) mod attention;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod eval;
pub(crate) mod everything;
pub(crate) mod journal;
pub(crate) mod levels;
pub(crate) mod models;
pub(crate) mod quality;
pub(crate) mod segment;
pub(crate) mod serve;
pub(crate) mod studio;
pub(crate) mod train;
pub(crate) mod video;

use std::path::{Path, PathBuf};

use samara::{ImageLimits, Intent, Segmenter};
use samara_data::{DataOptions, DataSet, ObjectRecord, Segmentation};
use samara_image::{Stretch, read_image_with};

use crate::error::{CliError, Result};
use crate::{read, terminal};

/// An intent means something to models with a candidate head alone.
fn tell_unused_intent(intent: Intent, segmenter: &Segmenter) {
    if intent != Intent::default() && segmenter.candidate_head().is_none() {
        let name = segmenter.name();
        let line =
            format!("--intent {intent}: {name} has no candidate head, so it changes nothing");
        terminal::tell("notice", &line);
    }
}

/// The name of the split that is all of them.
pub(crate) const ALL: &str = "all";

/// Opens a data set, and tells what is worth knowing about it.
fn open_data(
    path: &Path,
    split: &str,
    images: Option<&PathBuf>,
    stretch: Stretch,
) -> Result<DataSet> {
    let options = DataOptions {
        split: (split != ALL).then(|| split.to_owned()),
        image_dir: images.cloned(),
        stretch,
    };
    let data = DataSet::open_with(path, &options).map_err(CliError::failed)?;
    let file = data.annotations.as_deref().unwrap_or(path);
    if let Some(why) = missing_images(&data).or_else(|| missing_masks(&data, file)) {
        return Err(CliError::failed(format!("{}: {why}", file.display())));
    }
    if split != ALL && data.split.is_none() {
        let images = data.images.len();
        let note = format!(
            "{}: its images have no split: all {images} are used",
            file.display()
        );
        terminal::tell("notice", &note);
    }
    // What is worth knowing about one image is so about its like.
    if let Some(first) = data.images.first()
        && let Ok(read) = read_image_with(&first.path, &first.options(&ImageLimits::default()))
    {
        read::tell(&first.path, &read.warnings);
    }
    Ok(data)
}

/// What to do where no image of COCO annotations is found.
fn missing_images(data: &DataSet) -> Option<String> {
    let first = data.images.first().filter(|_| data.annotations.is_some())?;
    if data.images.iter().any(|image| image.path.exists()) {
        return None;
    }
    Some(format!(
        "none of its images is there, such as {}; --images DIR says where they are",
        first.path.display()
    ))
}

/// What to do where annotations are boxes without masks.
fn missing_masks(data: &DataSet, file: &Path) -> Option<String> {
    let mut objects = data.images.iter().flat_map(|image| &image.objects);
    let is_box = |object: &ObjectRecord| {
        object.bbox.is_some() && matches!(object.segmentation, Segmentation::Unreadable(_))
    };
    let are_boxes = objects.clone().next().is_some() && objects.all(is_box);
    are_boxes.then(|| {
        format!(
            "its annotations are boxes without masks; 'samara segment --prompts {} --format coco --out DIR' makes \
             masks of them",
            file.display()
        )
    })
}

/// The end of a command that has told what it found: an error if something could not be read and was left out.
fn left_out(failed: &[String], what: &str) -> Result<()> {
    if failed.is_empty() {
        return Ok(());
    }
    for failure in failed {
        terminal::tell("failed", failure);
    }
    let count = failed.len();
    Err(CliError::failed(format!(
        "{count} {what}{} could not be read and {} left out",
        if count == 1 { "" } else { "s" },
        if count == 1 { "is" } else { "are" }
    )))
}

/// Annotations name images relative to their own folder.
fn tell_elsewhere(flag: &str, out: &Path, data: &DataSet) {
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if folder.canonicalize().ok() != data.root.canonicalize().ok() {
        let notice = format!(
            "{flag} {}: where its images are not found, name their folder with --images {}",
            out.display(),
            data.image_dir.display()
        );
        terminal::tell("notice", &notice);
    }
}
