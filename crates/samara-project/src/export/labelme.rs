//! Files of labelme.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use samara_image::PngSource;
use serde_json::{Value, json};

use crate::Result;
use crate::error::ProjectError;
use crate::export::outline;
use crate::export::page::{Drawn, Page};
use crate::export::target::Target;
use crate::export::writer::Writer;

/// `NAME.json` with the picture beside it; without pictures, files that belong into the folder of the project.
///
/// Source: `label_file.py` of labelme 5.5.
pub(super) struct Labelme<'a> {
    target: &'a Target<'a>,
}

impl<'a> Labelme<'a> {
    pub(super) fn new(target: &'a Target<'a>) -> Self {
        Self { target }
    }

    /// An object of one line is a polygon, which is edited corner by corner; one with holes or several parts is a
    /// mask, which keeps them.
    fn shape(&self, drawn: &Drawn) -> Result<Value> {
        let mask = drawn.mask()?;
        let mut shape = match &outline::parts(&mask, self.target.options.tolerance)[..] {
            [part] if part.holes.is_empty() => json!({
                "points": outline::corners(&part.outer),
                "shape_type": "polygon",
                "mask": null,
            }),
            _ => {
                let [x, y, w, h] = mask.bbox().map_or([0, 0, 1, 1], |bbox| bbox.xywh());
                let png = mask.crop(x, y, w, h).to_luma().to_png();
                let png = png.map_err(|error| ProjectError::damaged("a mask", error))?;
                json!({
                    // The last pixel belongs to it.
                    "points": [[x, y], [x + w - 1, y + h - 1]],
                    "shape_type": "mask",
                    "mask": BASE64_STANDARD.encode(png),
                })
            }
        };
        shape["label"] = json!(drawn.label);
        shape["group_id"] = Value::Null;
        shape["description"] = json!("");
        shape["flags"] = json!({});
        Ok(shape)
    }
}

impl Writer for Labelme<'_> {
    fn copy_of(&self, page: &Page<'_>) -> Option<String> {
        Some(page.file_name())
    }

    fn write(&mut self, page: &Page<'_>) -> Result<()> {
        let image = if self.target.options.pictures {
            page.file_name()
        } else {
            page.picture.path.clone()
        };
        let shapes: Vec<Value> = page
            .objects
            .iter()
            .map(|drawn| self.shape(drawn))
            .collect::<Result<_>>()?;
        let json = json!({
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": image,
            "imageData": null,
            "imageHeight": page.size.1,
            "imageWidth": page.size.0,
        });
        self.target
            .write(&format!("{}.json", page.name), json.to_string().as_bytes())
    }

    fn finish(self: Box<Self>, _: &[String]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}
