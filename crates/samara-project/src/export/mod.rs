//! The masks of a project in the formats of other programs.

mod coco;
mod cutouts;
mod folder;
mod format;
mod labelme;
mod maps;
pub(crate) mod names;
mod outline;
mod page;
mod yolo;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use samara_image::one_line;
use serde::Serialize;

use crate::Result;
use crate::error::ProjectError;
use crate::ids::ClassId;
use crate::pictures::Picture;
use crate::project::Project;

use folder::NewFolder;
pub use format::ExportFormat;
use page::{Drawn, Page};

/// What objects without a class are called where a format has a class for each.
pub(crate) const NO_CLASS: &str = "object";

/// What is exported, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExportOptions {
    /// Only pictures whose masks somebody has said to be as they should be; of others, those with objects.
    pub checked_only: bool,
    /// Copies of the pictures are put beside, where programs look for them.
    pub pictures: bool,
    /// Polygons are at most so many pixels from the edges of the masks; with 0 they follow the pixels and are exact.
    pub tolerance: f64,
}

impl Default for ExportOptions {
    /// All pictures that have objects or are checked, copied; polygons within half a pixel.
    fn default() -> Self {
        Self {
            checked_only: false,
            pictures: true,
            tolerance: 0.5,
        }
    }
}

/// What was exported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Exported {
    /// How many pictures.
    pub pictures: usize,
    /// How many objects.
    pub objects: usize,
    /// What was left out or is not as it was, a line each.
    pub warnings: Vec<String>,
}

/// Writes a format, picture by picture.
trait Writer {
    /// Where the copy of a picture goes, below the folder; `None` if the format has none.
    fn copy_of(&self, page: &Page<'_>) -> Option<String>;

    /// Whether the pixels of pictures are needed.
    fn needs_pixels(&self) -> bool {
        false
    }

    /// Writes the objects of a picture.
    fn write(&mut self, page: &Page<'_>) -> Result<()>;

    /// Writes what is about all pictures, and tells what was lost. `labels` are the names of the classes by their
    /// numbers.
    fn finish(self: Box<Self>, labels: &[String]) -> Result<Vec<String>>;
}

/// Where and how a format is written.
struct Target<'a> {
    folder: &'a NewFolder,
    options: ExportOptions,
}

/// Names of classes in the order of their numbers.
#[derive(Default)]
struct Catalogue {
    labels: Vec<String>,
    numbers: HashMap<ClassId, usize>,
    unnamed: Option<usize>,
}

impl Catalogue {
    fn number(&mut self, label: &str) -> usize {
        let known = self.labels.iter().position(|other| other == label);
        known.unwrap_or_else(|| {
            self.labels.push(label.to_owned());
            self.labels.len() - 1
        })
    }

    fn read(&mut self, project: &Project) -> Result<()> {
        for class in project.classes()? {
            let number = self.number(&one_line(&class.name));
            self.numbers.insert(class.id, number);
        }
        Ok(())
    }

    fn of(&mut self, class: Option<ClassId>, project: &Project) -> Result<usize> {
        let Some(class) = class else {
            let number = self.number(NO_CLASS);
            return Ok(*self.unnamed.get_or_insert(number));
        };
        if !self.numbers.contains_key(&class) {
            // Made meanwhile.
            self.read(project)?;
        }
        let known = self.numbers.get(&class).copied();
        known.ok_or(ProjectError::UnknownClass(class))
    }
}

impl Project {
    /// Writes pictures with objects, and checked ones without, in another format. The folder `into` is made, is
    /// complete or absent, and must lie outside of the folder of the project. A picture whose file is gone or is
    /// another one than that on which its masks were drawn is left out, with a warning.
    ///
    /// `progress` is told how many pictures are done and how many there are, and may end the export.
    ///
    /// # Errors
    /// `into` is there already or cannot be written, the disk is full, `progress` has ended it. Nothing is written
    /// then.
    pub fn export(
        &self,
        format: ExportFormat,
        options: &ExportOptions,
        into: &Path,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Exported> {
        if !(options.tolerance >= 0.0 && options.tolerance.is_finite()) {
            let what = format!("a tolerance of {} pixels", options.tolerance);
            return Err(ProjectError::Value(what));
        }
        let all = self.pictures()?;
        let paths: Vec<&str> = all.iter().map(|picture| &*picture.path).collect();
        let wanted =
            |picture: &Picture| picture.checked || picture.objects > 0 && !options.checked_only;
        let wanted: Vec<(&Picture, String)> = all
            .iter()
            .zip(names::unique(&paths))
            .filter(|(picture, _)| wanted(picture))
            .collect();
        let folder = NewFolder::new(into, self.folder())?;
        let target = Target {
            folder: &folder,
            options: *options,
        };
        let mut catalogue = Catalogue::default();
        catalogue.read(self)?;
        let mut writer: Box<dyn Writer + '_> = match format {
            ExportFormat::Coco => coco::writer(&target, &catalogue.labels, false)?,
            ExportFormat::CocoPolygons => coco::writer(&target, &catalogue.labels, true)?,
            ExportFormat::Yolo => Box::new(yolo::Yolo::new(&target)),
            ExportFormat::Labelme => Box::new(labelme::Labelme::new(&target)),
            ExportFormat::IndexPng => Box::new(maps::Maps::new(&target, true)),
            ExportFormat::LabelMaps => Box::new(maps::Maps::new(&target, false)),
            ExportFormat::Cutouts => Box::new(cutouts::Cutouts::new(&target)),
        };
        let mut exported = Exported::default();
        let (mut unnamed, mut empty) = (0, 0);
        for (done, (picture, name)) in wanted.iter().enumerate() {
            if progress(done, wanted.len()).is_break() {
                return Err(ProjectError::Stopped);
            }
            let mut page = Page::new(self, picture, name);
            for object in self.objects(picture.id)? {
                if object.content.mask.area() == 0 {
                    empty += 1;
                    continue;
                }
                let number = catalogue.of(object.content.class, self)?;
                let label = catalogue.labels[number].clone();
                page.objects.push(Drawn {
                    number,
                    label,
                    object,
                });
            }
            if let Some(why) = page.open(&target, &*writer)? {
                let (name, left) = (one_line(&picture.path), page.objects.len());
                let left_out = format!("{name}: {why}; it is left out with {left} objects");
                exported.warnings.push(left_out);
                continue;
            }
            writer.write(&page)?;
            let is_unnamed = |drawn: &&Drawn| drawn.object.content.class.is_none();
            unnamed += page.objects.iter().filter(is_unnamed).count();
            exported.pictures += 1;
            exported.objects += page.objects.len();
        }
        let warnings = &mut exported.warnings;
        warnings.extend(writer.finish(&catalogue.labels)?);
        if unnamed > 0 {
            warnings.push(format!(
                "{unnamed} objects without a class are called {NO_CLASS:?}"
            ));
        }
        if empty > 0 {
            warnings.push(format!("{empty} objects without a pixel are left out"));
        }
        if progress(wanted.len(), wanted.len()).is_break() {
            return Err(ProjectError::Stopped);
        }
        folder.finish()?;
        Ok(exported)
    }
}
