//! Maps: one image holds all objects of a picture.

use std::io;

use samara_image::{GrayImage16, object_color};

use crate::Result;
use crate::error::ProjectError;
use crate::export::page::Page;
use crate::export::target::Target;
use crate::export::writer::Writer;

/// Values of classes: 0 is the background, 255 the void of PASCAL VOC.
const MOST_CLASSES: usize = 254;

/// Classes: `masks/NAME.png` and `classes.txt`, whose lines name the values from 0. Objects: `labels/NAME.png`. Pictures
/// are in `images/`.
pub(super) struct Maps<'a> {
    target: &'a Target<'a>,
    classes: bool,
    covered: usize,
    hidden: usize,
}

impl<'a> Maps<'a> {
    pub(super) fn new(target: &'a Target<'a>, classes: bool) -> Self {
        Self {
            target,
            classes,
            covered: 0,
            hidden: 0,
        }
    }

    /// Which object lies on top of each pixel, counted from 1.
    fn paint(&mut self, page: &Page<'_>) -> Result<GrayImage16> {
        let most = usize::from(u16::MAX);
        if page.objects.len() > most {
            let what = format!(
                "{}: more than {most} objects need more than 16 bits",
                page.picture.path
            );
            return Err(ProjectError::Value(what));
        }
        let mut map = GrayImage16::new(page.size.0, page.size.1);
        // Of each object, how many of its pixels lie under others, and under others of another value.
        let mut under = vec![(0_u64, 0_u64); page.objects.len() + 1];
        for (drawn, value) in page.objects.iter().zip(1_u16..) {
            for (x, y) in drawn.mask()?.iter_set() {
                let pixel = &mut map.get_pixel_mut(x, y).0[0];
                if let Some(below) = usize::from(*pixel).checked_sub(1) {
                    let is_same = self.classes && page.objects[below].number == drawn.number;
                    under[below].0 += 1;
                    under[below].1 += u64::from(!is_same);
                }
                *pixel = value;
            }
        }
        for (drawn, (all, lost)) in page.objects.iter().zip(under) {
            let is_hidden = all == drawn.object.content.mask.area();
            self.hidden += usize::from(lost > 0 && is_hidden);
            self.covered += usize::from(lost > 0 && !is_hidden);
        }
        Ok(map)
    }

    fn palette_png(&self, map: &GrayImage16, values: &[u8]) -> Result<Vec<u8>> {
        let indices: Vec<u8> = map
            .iter()
            .map(|&object| values[usize::from(object)])
            .collect();
        let encode = || -> Result<Vec<u8>, png::EncodingError> {
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, map.width(), map.height());
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_depth(png::BitDepth::Eight);
            encoder.set_palette((0..=255).flat_map(object_color).collect::<Vec<u8>>());
            encoder.write_header()?.write_image_data(&indices)?;
            Ok(bytes)
        };
        encode().map_err(|error| self.target.folder.failed(io::Error::other(error)))
    }
}

impl Writer for Maps<'_> {
    fn copy_of(&self, page: &Page<'_>) -> Option<String> {
        Some(page.below("images", &page.file_name()))
    }

    fn write(&mut self, page: &Page<'_>) -> Result<()> {
        let map = self.paint(page)?;
        if !self.classes {
            return self
                .target
                .write_png(&page.below("labels", &format!("{}.png", page.name)), &map);
        }
        let mut values = vec![0];
        for drawn in &page.objects {
            if drawn.number >= MOST_CLASSES {
                let what = format!("more than {MOST_CLASSES} classes need more than 8 bits");
                return Err(ProjectError::Value(what));
            }
            values.push((drawn.number + 1) as u8);
        }
        let png = self.palette_png(&map, &values)?;
        self.target
            .write(&page.below("masks", &format!("{}.png", page.name)), &png)
    }

    fn finish(self: Box<Self>, labels: &[String]) -> Result<Vec<String>> {
        if self.classes {
            let lines = std::iter::once("background").chain(labels.iter().map(String::as_str));
            let lines: Vec<&str> = lines.collect();
            self.target
                .write("classes.txt", (lines.join("\n") + "\n").as_bytes())?;
        }
        let mut warnings = Vec::new();
        if self.hidden > 0 {
            warnings.push(format!(
                "{} objects lie under others and are not in the maps",
                self.hidden
            ));
        }
        if self.covered > 0 {
            let covered = self.covered;
            warnings.push(format!(
                "{covered} objects lie under others in part, and lack that part in the maps"
            ));
        }
        Ok(warnings)
    }
}
