//! Objects cut out.

use std::collections::{HashMap, HashSet};

use samara_image::annotation::cut_out;
use samara_image::crop_image;

use crate::Result;
use crate::error::ProjectError;
use crate::export::names;
use crate::export::page::Page;
use crate::export::target::Target;
use crate::export::writer::Writer;

/// `CLASS/NAME-1.png` and so on.
pub(super) struct Cutouts<'a> {
    target: &'a Target<'a>,
    /// Of the classes by their numbers.
    folders: HashMap<usize, String>,
    used: HashSet<String>,
}

impl<'a> Cutouts<'a> {
    pub(super) fn new(target: &'a Target<'a>) -> Self {
        Self {
            target,
            folders: HashMap::new(),
            used: HashSet::new(),
        }
    }

    fn folder(&mut self, number: usize, label: &str) -> String {
        let used = &mut self.used;
        let folder = self.folders.entry(number).or_insert_with(|| {
            let plain = names::of_text(label);
            let mut name = plain.clone();
            let mut next = 2;
            while !used.insert(name.to_lowercase()) {
                name = format!("{plain}-{next}");
                next += 1;
            }
            name
        });
        folder.clone()
    }
}

impl Writer for Cutouts<'_> {
    fn copy_of(&self, _: &Page<'_>) -> Option<String> {
        None
    }

    fn needs_pixels(&self) -> bool {
        true
    }

    fn write(&mut self, page: &Page<'_>) -> Result<()> {
        let Some(pixels) = &page.pixels else {
            return Ok(());
        };
        for (drawn, number) in page.objects.iter().zip(1..) {
            let mask = drawn.mask()?;
            let Some(bbox) = mask.bbox() else {
                continue;
            };
            let [x, y, w, h] = bbox.xywh();
            let cut = cut_out(&crop_image(pixels, x, y, w, h), &mask.crop(x, y, w, h));
            let cut = cut.map_err(|error| ProjectError::damaged("a mask", error))?;
            let folder = self.folder(drawn.number, &drawn.label);
            self.target
                .write_png(&format!("{folder}/{}-{number}.png", page.name), &cut)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: &[String]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}
