//! The masks of a project in the formats of other programs.

mod catalogue;
mod coco;
mod cutouts;
mod folder;
mod format;
mod frames;
mod labelme;
mod maps;
pub(crate) mod names;
mod outline;
mod page;
mod split;
mod target;
mod writer;
mod yolo;

use std::ops::ControlFlow;
use std::path::Path;

use samara_image::one_line;
use serde::Serialize;

use crate::Result;
use crate::error::ProjectError;
use crate::pictures::Picture;
use crate::project::Project;

use catalogue::Catalogue;
pub(crate) use catalogue::NO_CLASS;
use folder::NewFolder;
pub use format::ExportFormat;
use frames::Frames;
use page::{Drawn, Page};
pub(crate) use split::SPLITS;
pub use target::ExportOptions;
use target::Target;
use writer::Writer;

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

impl Project {
    /// Writes pictures with objects, and checked ones without, in another format. The folder `into` is made, is
    /// complete or absent, and must lie outside of the folder of the project. A picture whose file is gone or is
    /// another one than that on which its masks were drawn is left out, with a warning. Frames of videos are pictures of
    /// their own, `clip.mp4/00012.png`, as far as they have objects.
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
        if !(0.0..1.0).contains(&options.validation) {
            let what = format!("{} of the pictures for validation", options.validation);
            return Err(ProjectError::Value(format!(
                "{what}: 0 or more and less than 1 are expected"
            )));
        }
        if options.validation > 0.0 && !format.has_splits() {
            let what = format!("the format {format} has no place for splits");
            return Err(ProjectError::Value(what));
        }
        let all = self.pictures_and_frames()?;
        let paths: Vec<&str> = all.iter().map(|picture| &*picture.path).collect();
        let wanted = |picture: &Picture| match picture.video {
            // Of most frames nobody has said that there is nothing in them.
            Some(_) => picture.objects > 0 && (picture.checked || !options.checked_only),
            None => picture.checked || picture.objects > 0 && !options.checked_only,
        };
        let wanted: Vec<(&Picture, String)> = all
            .iter()
            .zip(names::unique(&paths))
            .filter(|(picture, _)| wanted(picture))
            .collect();
        let splits = split::of(
            wanted.iter().map(|(picture, _)| *picture),
            options.validation,
        );
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
        let mut frames = Frames::default();
        let (mut unnamed, mut empty) = (0, 0);
        for (done, (picture, name)) in wanted.iter().enumerate() {
            if progress(done, wanted.len()).is_break() {
                return Err(ProjectError::Stopped);
            }
            let split = splits.get(&picture.id).copied();
            let mut page = Page::new(self, (picture, name), split);
            for object in self.objects(picture.id)? {
                if object.content.mask.area() == 0 {
                    empty += usize::from(object.content.track.is_none());
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
            let copy = writer.copy_of(&page);
            if let Some(why) = page.open(&target, &mut frames, copy, writer.needs_pixels())? {
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
