//! The results of an image in a folder, in the formats that were asked for.

use std::path::{Path, PathBuf};

use samara_image::{
    Annotation, Labels, RgbImage, cut_out, instance_map, labelme, save_image, save_png,
    write_atomic, yolo,
};

use super::drawing::overlay;
use super::object::Object;
use crate::error::{CliError, Result};
use crate::files::{is_whole, result_in};
use crate::flags::{SegmentFlags, SegmentFormat};
use crate::report::Report;

/// Most candidates of a prompt.
const CANDIDATES: usize = 4;
/// The classes of the YOLO files, by their numbers.
pub(super) const CLASSES: &str = "yolo/classes.txt";
/// The masks of all images in one COCO file.
pub(super) const COCO: &str = "annotations.json";

/// What the files of an image are called, relative to the folder of results.
pub(super) struct Names {
    stem: String,
    objects: usize,
}

impl Names {
    pub(super) fn new(image: &Path, objects: usize) -> Self {
        let stem = image.file_stem();
        Self {
            stem: stem.map_or_else(
                || "image".into(),
                |stem| stem.to_string_lossy().into_owned(),
            ),
            objects,
        }
    }

    pub(super) fn stem(&self) -> &str {
        &self.stem
    }

    fn candidate(&self, object: usize, index: usize) -> String {
        format!("{}.candidate-{index}.png", self.object(object))
    }

    fn mask(&self, object: usize) -> String {
        format!("{}.mask.png", self.object(object))
    }

    fn object(&self, object: usize) -> String {
        match self.objects {
            1 => self.stem.clone(),
            _ => format!("{}.object-{object}", self.stem),
        }
    }

    /// The files of a format, for as many candidates as a prompt has; without those for all images together.
    fn of(&self, format: SegmentFormat) -> Vec<String> {
        let stem = &self.stem;
        let objects = 0..self.objects;
        match format {
            SegmentFormat::Overlay => vec![format!("{stem}.overlay.png")],
            SegmentFormat::Json => vec![format!("{stem}.json")],
            SegmentFormat::Masks => {
                let of_object = |i| {
                    let candidates = (0..CANDIDATES).map(move |index| self.candidate(i, index));
                    candidates.chain([self.mask(i)])
                };
                objects.flat_map(of_object).collect()
            }
            SegmentFormat::Coco => Vec::new(),
            SegmentFormat::Yolo => vec![format!("yolo/{stem}.txt")],
            SegmentFormat::Labelme => vec![format!("labelme/{stem}.json")],
            SegmentFormat::Labels => vec![format!("labels/{stem}.png")],
            SegmentFormat::Cutouts => objects
                .map(|i| format!("cutouts/{}.png", self.object(i)))
                .collect(),
        }
    }

    /// Whether all files of the image are there, as far as a look at them tells; candidates may be fewer.
    pub(super) fn are_there(&self, folder: &Path, formats: &[SegmentFormat]) -> bool {
        let mut names = self.all(formats).into_iter();
        names.all(|name| name.contains(".candidate-") || is_whole(&folder.join(name)))
    }

    /// All files that may be written for the image.
    pub(super) fn all(&self, formats: &[SegmentFormat]) -> Vec<String> {
        formats.iter().flat_map(|&format| self.of(format)).collect()
    }
}

/// The files for all images together.
pub(super) fn shared(formats: &[SegmentFormat]) -> impl Iterator<Item = &'static str> {
    let files = [(SegmentFormat::Coco, COCO), (SegmentFormat::Yolo, CLASSES)];
    files
        .into_iter()
        .filter(|(format, _)| formats.contains(format))
        .map(|(_, name)| name)
}

/// An answered image.
pub(super) struct Answered<'a> {
    pub(super) path: &'a Path,
    pub(super) image: &'a RgbImage,
    pub(super) objects: &'a [Object],
    pub(super) report: &'a Report,
}

impl Answered<'_> {
    /// Writes what was asked for. `labels` are those of the YOLO files so far.
    pub(super) fn write(
        &self,
        folder: &Path,
        flags: &SegmentFlags,
        all_candidates: bool,
        labels: &mut Labels,
    ) -> Result<()> {
        let Self { image, objects, .. } = *self;
        let names = Names::new(self.path, objects.len());
        let annotations: Vec<Annotation<'_>> = objects.iter().map(Object::annotation).collect();
        let result = |name: String| result_in(folder, name);
        for &format in &flags.format {
            let file = names.of(format).into_iter().next().unwrap_or_default();
            match format {
                SegmentFormat::Overlay => {
                    save_image(result(file)?, &overlay(image, objects, all_candidates))?;
                }
                SegmentFormat::Json => write_atomic(result(file)?, &self.report.to_json()?)?,
                SegmentFormat::Masks => {
                    for (i, object) in objects.iter().enumerate() {
                        object.selection.mask.save_png(result(names.mask(i))?)?;
                        for c in &object.candidates {
                            c.mask.save_png(result(names.candidate(i, c.index))?)?;
                        }
                    }
                }
                SegmentFormat::Coco => {}
                SegmentFormat::Yolo => {
                    write_atomic(result(file)?, yolo(&annotations, labels).as_bytes())?;
                }
                SegmentFormat::Labelme => {
                    let at = beside(self.path, &folder.join("labelme"));
                    let json = labelme(&at, image.dimensions(), &annotations)?;
                    let mut json = serde_json::to_vec_pretty(&json).map_err(CliError::failed)?;
                    json.push(b'\n');
                    write_atomic(result(file)?, &json)?;
                }
                SegmentFormat::Labels => {
                    save_png(
                        result(file)?,
                        &instance_map(image.dimensions(), &annotations)?,
                    )?;
                }
                SegmentFormat::Cutouts => {
                    for (name, object) in names.of(format).into_iter().zip(objects) {
                        save_png(result(name)?, &cut_out(image, &object.selection.mask)?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// How a file in `folder` names the image: the way from there, if it is short, or its full path.
fn beside(image: &Path, folder: &Path) -> String {
    let full = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let (image, folder) = (full(image), full(folder));
    let common = image
        .iter()
        .zip(folder.iter())
        .take_while(|(a, b)| a == b)
        .count();
    if common < 2 {
        return image.to_string_lossy().into_owned();
    }
    let up = folder.iter().skip(common).map(|_| Path::new(".."));
    let down = image.iter().skip(common).map(Path::new);
    let way: PathBuf = up.chain(down).collect();
    way.to_string_lossy().into_owned()
}

/// Writes the numbers of classes that the YOLO files have.
pub(super) fn write_classes(folder: &Path, labels: &Labels) -> Result<()> {
    Ok(write_atomic(
        result_in(folder, CLASSES)?,
        labels.lines().as_bytes(),
    )?)
}
