//! Folders of images whose values are objects or classes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use samara_image::{ImageLimits, has_image_extension, read_object_map};

use crate::Result;
use crate::import::pictures::{Name, Pictures};
use crate::import::plan::{Plan, Planned, damaged, text};

/// Folders of maps in a folder that has pictures, too.
const FOLDERS: [&str; 5] = [
    "labels",
    "masks",
    "SegmentationClass",
    "SegmentationObject",
    "annotations",
];

/// The void of PASCAL VOC, along the edges of objects.
const VOID: u32 = 255;

/// The folder of the maps, and which they are.
pub(super) fn list(folder: &Path, files: &[PathBuf]) -> (PathBuf, Vec<PathBuf>) {
    let images = |folder: &Path| -> Vec<PathBuf> {
        let below = files.iter().filter(|file| file.starts_with(folder));
        below
            .filter(|file| has_image_extension(file))
            .cloned()
            .collect()
    };
    let below = FOLDERS
        .map(|name| folder.join(name))
        .into_iter()
        .chain([folder.to_path_buf()]);
    let mut found = below.map(|folder| (images(&folder), folder));
    let found = found.find(|(images, _)| !images.is_empty());
    found.map_or_else(
        || (folder.to_path_buf(), Vec::new()),
        |(images, folder)| (folder, images),
    )
}

/// Names of the values, one a line from 0, beside the maps or their folder.
fn classes(folder: &Path) -> Result<Option<Vec<String>>> {
    let folders = [Some(folder), folder.parent()].into_iter().flatten();
    let list = folders
        .map(|folder| folder.join("classes.txt"))
        .find(|list| list.is_file());
    let Some(list) = list else {
        return Ok(None);
    };
    let text = text(&list)?;
    Ok(Some(
        text.lines().map(|line| line.trim().to_owned()).collect(),
    ))
}

/// Whether a file is a PNG with a palette.
fn has_palette(path: &Path) -> Result<bool> {
    use std::io::Read;

    let mut first = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| damaged(path, error))?;
    file.take(26)
        .read_to_end(&mut first)
        .map_err(|error| damaged(path, error))?;
    Ok(first.starts_with(b"\x89PNG\r\n\x1a\n") && first.get(25) == Some(&3))
}

/// Plans the objects of all maps.
pub(super) fn read(folder: &Path, maps: Vec<PathBuf>, plan: &mut Plan<'_>) -> Result<()> {
    leave_out(&maps, plan)?;
    let classes = classes(folder)?;
    let are_objects = folder
        .file_name()
        .is_some_and(|name| name == "SegmentationObject");
    let below = |path: &PathBuf| {
        let below = path.strip_prefix(folder).unwrap_or(path).with_extension("");
        let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
        parts.join("/")
    };
    let names = plan
        .pictures
        .without_splits(maps.iter().map(below).collect());
    plan.expect(names.iter().map(|name| Name::Stem(name)));
    for (path, name) in maps.into_iter().zip(names) {
        let map = read_object_map(&path, &ImageLimits::default());
        let map = map.map_err(|error| damaged(&path, error.reason()))?;
        let are_classes = classes.is_some() || has_palette(&path)? && !are_objects;
        if map.objects.is_empty() {
            continue;
        }
        let Some((index, (w, h))) = plan.picture(Name::Stem(&name), map.objects.len()) else {
            continue;
        };
        if (map.width, map.height) != (w, h) {
            plan.warn(format!(
                "{}: is {}x{}, but the picture is {w}x{h}; {} objects are left out",
                samara_image::one_line(&path.to_string_lossy()),
                map.width,
                map.height,
                map.objects.len()
            ));
            continue;
        }
        for (value, rle) in map.objects {
            let place = || format!("{}: {value}", path.display());
            let named = classes.as_ref().and_then(|names| names.get(value as usize));
            let label = match named {
                Some(name) => Some(name.clone()),
                None if are_classes && value == VOID => {
                    plan.count(
                        "areas of the value 255, which is no class, are left out",
                        place,
                    );
                    continue;
                }
                None if classes.is_some() => {
                    let why = format!("the value {value} has no line in classes.txt");
                    return Err(damaged(&path, why));
                }
                None => are_classes.then(|| value.to_string()),
            };
            plan.add(index, Planned::new(label.as_deref(), rle), place);
        }
    }
    Ok(())
}

/// Maps that lie in the folder of the project are none of its pictures.
fn leave_out(maps: &[PathBuf], plan: &mut Plan<'_>) -> Result<()> {
    let project = plan.pictures.project();
    let Ok(root) = project.folder().canonicalize() else {
        return Ok(());
    };
    let below = |map: &PathBuf| {
        let map = map.canonicalize().ok()?;
        let parts = map.strip_prefix(&root).ok()?.iter();
        let parts: Vec<_> = parts.map(|part| part.to_string_lossy()).collect();
        Some(parts.join("/"))
    };
    let paths: HashSet<String> = maps.iter().filter_map(below).collect();
    plan.pictures = Pictures::new(project)?.without(&paths);
    Ok(())
}
