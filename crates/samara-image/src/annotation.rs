//! Masks in the formats of annotation tools: YOLO, labelme, label maps and cut-outs.
//!
//! Coordinates are pixels of the original image, (0, 0) the top left corner of its first pixel.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::{ImageBuffer, Rgba, RgbaImage};
use serde_json::{Value, json};

use crate::decode::GrayImage16;
use crate::error::{Error, one_line};
use crate::label_map::label_map;
use crate::mask::Mask;
use crate::polygon::{Polygon, Ring};
use crate::save::PngSource;

/// An object of an image: what it is, and where.
#[derive(Debug, Clone, Copy)]
pub struct Annotation<'a> {
    /// The name of its class.
    pub label: &'a str,
    /// Of the size of the image.
    pub mask: &'a Mask,
}

/// Corners of polygons lie at most so many pixels from the mask's edge, where a format has polygons.
const TOLERANCE: f64 = 0.5;

/// Labels and their numbers, from 0 in the order in which they come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Vec<String>);

impl Labels {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of a label, which gets one if it has none.
    pub fn number(&mut self, label: &str) -> usize {
        let known = self.0.iter().position(|other| other == label);
        known.unwrap_or_else(|| {
            self.0.push(label.to_owned());
            self.0.len() - 1
        })
    }

    /// In the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// One a line, as `classes.txt` of YOLO data sets has them.
    pub fn lines(&self) -> String {
        let line = |label: &String| one_line(label) + "\n";
        self.0.iter().map(line).collect()
    }
}

/// The lines of a YOLO segmentation file: the number of the class, then the corners of one polygon as shares of
/// the image's width and height. The format has one polygon for an object, so holes and further parts are joined to
/// it by cuts of no width, as Ultralytics joins the parts of COCO objects. Objects without a pixel are left out.
///
/// Source: the segmentation data set format of Ultralytics.
pub fn yolo(objects: &[Annotation<'_>], labels: &mut Labels) -> String {
    let mut lines = String::new();
    for object in objects {
        let (width, height) = (
            f64::from(object.mask.width()),
            f64::from(object.mask.height()),
        );
        let class = labels.number(object.label);
        let corners = joined(object.mask);
        if corners.is_empty() {
            continue;
        }
        lines += &class.to_string();
        for [x, y] in corners {
            // Writing to a string cannot fail.
            let _ = write!(lines, " {:.6} {:.6}", x / width, y / height);
        }
        lines.push('\n');
    }
    lines
}

/// The outline of a mask as one polygon: its rings joined by cuts of no width.
fn joined(mask: &Mask) -> Vec<[f64; 2]> {
    let mut rings: Vec<Ring> = Vec::new();
    for polygon in mask.to_polygons() {
        let Polygon { outer, holes } = polygon.simplify(TOLERANCE);
        rings.push(outer);
        rings.extend(holes);
    }
    let mut rings = rings
        .iter()
        .map(corners)
        .filter(|corners| corners.len() > 2);
    let first = rings.next().unwrap_or_default();
    rings.fold(first, |all, ring| {
        let (at, from) = nearest(&all, &ring);
        let around = ring.iter().cycle().skip(from).take(ring.len() + 1);
        let (before, after) = all.split_at(at + 1);
        // Around the ring, and back to where the cut began.
        before
            .iter()
            .chain(around)
            .chain(before.last())
            .chain(after)
            .copied()
            .collect()
    })
}

fn corners(ring: &Ring) -> Vec<[f64; 2]> {
    ring.points.iter().map(|p| [p.x, p.y]).collect()
}

/// The two corners of two rings that are nearest to each other.
fn nearest(a: &[[f64; 2]], b: &[[f64; 2]]) -> (usize, usize) {
    let mut best = (f64::INFINITY, (0, 0));
    for (i, p) in a.iter().enumerate() {
        for (j, q) in b.iter().enumerate() {
            let distance = (p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2);
            if distance < best.0 {
                best = (distance, (i, j));
            }
        }
    }
    best.1
}

/// The JSON that labelme opens beside the image. An object of one ring is a polygon, which is edited corner by
/// corner; one with holes or several parts is a mask, which keeps them. Objects without a pixel are left out.
///
/// Source: `label_file.py` of labelme 5.5.
///
/// # Errors
/// [`Error::Io`] when a mask cannot be encoded.
pub fn labelme(
    image_path: &str,
    (width, height): (u32, u32),
    objects: &[Annotation<'_>],
) -> Result<Value, Error> {
    let mut shapes = Vec::with_capacity(objects.len());
    for object in objects {
        let Some(bbox) = object.mask.bbox() else {
            continue;
        };
        let polygons = object.mask.to_polygons();
        let mut shape = match &polygons[..] {
            [polygon] if polygon.holes.is_empty() => json!({
                "points": corners(&polygon.simplify(TOLERANCE).outer),
                "shape_type": "polygon",
                "mask": null,
            }),
            _ => {
                let [x, y, w, h] = bbox.xywh();
                let png = object.mask.crop(x, y, w, h).to_luma().to_png();
                let png = png.map_err(|e| {
                    let source = std::io::Error::other(e.to_string());
                    Error::io(image_path.as_ref(), "its mask cannot be encoded", source)
                })?;
                json!({
                    // The last pixel belongs to it.
                    "points": [[x, y], [x + w - 1, y + h - 1]],
                    "shape_type": "mask",
                    "mask": BASE64_STANDARD.encode(png),
                })
            }
        };
        shape["label"] = json!(object.label);
        shape["group_id"] = Value::Null;
        shape["description"] = json!("");
        shape["flags"] = json!({});
        shapes.push(shape);
    }
    Ok(json!({
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": null,
        "imageHeight": height,
        "imageWidth": width,
    }))
}

/// The objects in one image of 16 bits: 0 is the background, 1 the first object. Smaller ones lie over larger ones.
///
/// # Errors
/// [`Error::Parameter`]: more than 65 535 objects, or a mask of another size.
pub fn instance_map(
    (width, height): (u32, u32),
    objects: &[Annotation<'_>],
) -> Result<GrayImage16, Error> {
    let mut order: Vec<usize> = (0..objects.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(objects[i].mask.area()));
    let numbered: Vec<(usize, &Mask)> = order.into_iter().map(|i| (i, objects[i].mask)).collect();
    label_map(width, height, &numbered)
}

/// The image where the mask is, and nothing elsewhere: opacity is 255 inside of the mask and 0 outside.
///
/// # Errors
/// [`Error::Parameter`] for a mask of another size.
pub fn cut_out(image: &image::RgbImage, mask: &Mask) -> Result<RgbaImage, Error> {
    if (mask.width(), mask.height()) != image.dimensions() {
        let (width, height) = image.dimensions();
        let what = format!(
            "a mask of {}x{} pixels for an image of {width}x{height}",
            mask.width(),
            mask.height()
        );
        return Err(Error::parameter("mask", what));
    }
    Ok(ImageBuffer::from_fn(
        image.width(),
        image.height(),
        |x, y| {
            if mask.get(x, y) {
                let [r, g, b] = image.get_pixel(x, y).0;
                Rgba([r, g, b, 255])
            } else {
                Rgba([0; 4])
            }
        },
    ))
}
