//! In which format a file or folder is.

use std::path::{Path, PathBuf};

use samara_image::has_image_extension;
use serde::Deserialize;
use serde::de::IgnoredAny;
use walkdir::WalkDir;

use crate::Result;
use crate::import::format::{ImportFormat, has_extension};
use crate::import::plan::{Plan, bytes, damaged, json};
use crate::import::{coco, labelme, maps, yolo};

const READ: &str = "is in no format that is read: COCO's or labelme's JSON, a folder with data.yaml or classes.txt and \
                    labels of YOLO, or a folder of label maps";

/// Plans what a file or folder says.
pub(super) fn read(path: &Path, plan: &mut Plan<'_>) -> Result<ImportFormat> {
    if path.is_dir() {
        return folder(path, plan);
    }
    if !path.is_file() {
        return Err(damaged(path, "is no file or folder"));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if has_extension(path, "json") {
        return file_of_json(path, plan)?.ok_or_else(|| damaged(path, READ));
    }
    if yolo::LISTS.contains(&&*name) {
        return folder(path.parent().unwrap_or(Path::new(".")), plan);
    }
    if has_image_extension(path) {
        let folder = path.parent().unwrap_or(Path::new("."));
        maps::read(folder, vec![path.to_path_buf()], plan)?;
        return Ok(ImportFormat::Maps);
    }
    Err(damaged(path, READ))
}

fn folder(path: &Path, plan: &mut Plan<'_>) -> Result<ImportFormat> {
    let files = files(path)?;
    let texts = yolo::texts(path, &files);
    if let Some(list) = yolo::list(path).filter(|_| !texts.is_empty()) {
        yolo::read(&list, path, &texts, plan)?;
        return Ok(ImportFormat::Yolo);
    }
    let mut formats = Vec::new();
    let mut others = Vec::new();
    for file in files.iter().filter(|file| has_extension(file, "json")) {
        match file_of_json(file, plan)? {
            Some(format) => formats.push(format),
            None => others.push(file),
        }
    }
    if let Some(format) = formats.first() {
        for other in others {
            plan.warn(format!("{}: is neither COCO nor labelme", other.display()));
        }
        return Ok(*format);
    }
    let (folder, maps) = maps::list(path, &files);
    if maps.is_empty() {
        return Err(damaged(path, READ));
    }
    maps::read(&folder, maps, plan)?;
    Ok(ImportFormat::Maps)
}

/// The files in a folder and in those below, in order; hidden ones are left out.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = WalkDir::new(folder).sort_by_file_name().into_iter();
    let entries = entries.filter_entry(|entry| {
        entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
    });
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| damaged(folder, error))?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// By which formats of JSON are told.
#[derive(Deserialize)]
struct Fields {
    images: Option<IgnoredAny>,
    annotations: Option<IgnoredAny>,
    shapes: Option<IgnoredAny>,
}

/// Plans what a file says, if its format is known.
fn file_of_json(path: &Path, plan: &mut Plan<'_>) -> Result<Option<ImportFormat>> {
    let bytes = bytes(path)?;
    // A list is nothing that is known, whatever is in it.
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        let _: IgnoredAny = json(path, &bytes)?;
        return Ok(None);
    }
    let fields: Fields = json(path, &bytes)?;
    if fields.shapes.is_some() {
        labelme::read(path, &bytes, plan)?;
        Ok(Some(ImportFormat::Labelme))
    } else if fields.images.is_some() && fields.annotations.is_some() {
        coco::read(path, &bytes, plan)?;
        Ok(Some(ImportFormat::Coco))
    } else {
        Ok(None)
    }
}
