//! Files of labelme.

use std::collections::HashMap;
use std::f64::consts::TAU;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use samara_image::{ImageLimits, Mask, coco_polygons_to_mask, decode_image, one_line};
use serde::Deserialize;

use crate::Result;
use crate::error::ProjectError;
use crate::import::pictures::Name;
use crate::import::plan::{Plan, Planned, damaged, json};

/// Corners of a polygon that stands for a circle.
const CIRCLE: u32 = 256;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    image_path: Option<String>,
    image_width: Option<u32>,
    image_height: Option<u32>,
    shapes: Vec<Shape>,
}

#[derive(Deserialize)]
struct Shape {
    label: String,
    points: Vec<[f64; 2]>,
    #[serde(default, rename = "shape_type")]
    kind: Option<String>,
    #[serde(default)]
    mask: Option<String>,
    #[serde(default)]
    group_id: Option<i64>,
    #[serde(default)]
    description: Option<String>,
}

/// Plans the objects of a file.
pub(super) fn read(path: &Path, bytes: &[u8], plan: &mut Plan<'_>) -> Result<()> {
    let file: File = json(path, bytes)?;
    let count = file.shapes.len();
    if count == 0 {
        return Ok(());
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let image = file
        .image_path
        .as_deref()
        .filter(|path| !path.trim().is_empty());
    let beside = image.and_then(|image| beside(path, image, plan));
    let name = match (&beside, image) {
        (Some(beside), _) => Name::File(beside),
        (None, Some(image)) if plan.pictures.find(Name::File(image)).is_ok() => Name::File(image),
        _ if plan.pictures.find(Name::Stem(&stem)).is_ok() => Name::Stem(&stem),
        (None, Some(image)) => Name::File(image),
        (None, None) => Name::Stem(&stem),
    };
    let Some((index, size)) = plan.picture(name, count) else {
        return Ok(());
    };
    if let (Some(width), Some(height)) = (file.image_width, file.image_height)
        && (width, height) != size
    {
        let (w, h) = size;
        plan.warn(format!(
            "{}: is {width}x{height} in the file, but the picture is {w}x{h}; {count} objects are left out",
            one_line(&path.to_string_lossy())
        ));
        return Ok(());
    }
    // Shapes of one group are parts of one object.
    let mut objects: Vec<(&Shape, Mask)> = Vec::new();
    let mut groups: HashMap<(i64, &str), usize> = HashMap::new();
    for (i, shape) in file.shapes.iter().enumerate() {
        let place = |what: &str| damaged(path, format!("shapes[{i}].{what}"));
        let Some(mask) = mask_of(shape, size, place)? else {
            plan.count(
                "shapes that are no area (points, lines) are left out",
                || format!("{}: shapes[{i}]", path.display()),
            );
            continue;
        };
        let group = shape.group_id.map(|group| (group, &*shape.label));
        if let Some(&at) = group.and_then(|group| groups.get(&group)) {
            let joined = objects[at].1.or(&mask);
            objects[at].1 = joined.map_err(|error| place(error.reason()))?;
            continue;
        }
        if let Some(group) = group {
            groups.insert(group, objects.len());
        }
        objects.push((shape, mask));
    }
    for (shape, mask) in objects {
        let mut object = Planned::new(Some(&shape.label), mask.to_rle());
        let description = shape.description.as_deref().filter(|text| !text.is_empty());
        if let Some(description) = description {
            object
                .attributes
                .insert("description".into(), description.to_owned());
        }
        plan.add(index, object, || {
            format!("{}: {}", path.display(), shape.label)
        });
    }
    Ok(())
}

/// The path of a picture below the folder of the project, if the file lies there and a picture is where it says.
fn beside(file: &Path, image: &str, plan: &Plan<'_>) -> Option<String> {
    let project = plan.pictures.project().folder().canonicalize().ok()?;
    let folder = file.parent()?.canonicalize().ok()?;
    let folder = folder
        .strip_prefix(project)
        .ok()?
        .to_str()?
        .replace('\\', "/");
    let path = plan.pictures.exact(&format!("{folder}/{image}"))?;
    Some(path)
}

/// The pixels of a shape; `None` for one that has no area.
fn mask_of(
    shape: &Shape,
    (width, height): (u32, u32),
    place: impl Fn(&str) -> ProjectError,
) -> Result<Option<Mask>> {
    let points = &shape.points[..];
    if points.iter().flatten().any(|v| !v.is_finite()) {
        return Err(place("points: a coordinate is no number"));
    }
    let fill = |corners: Vec<f64>| {
        let mask = coco_polygons_to_mask(&[corners], width, height);
        let mask = mask.map_err(|error| place(&format!("points: {}", error.reason())));
        mask.map(Some)
    };
    match (shape.kind.as_deref().unwrap_or("polygon"), points) {
        ("polygon", [_, _, _, ..]) | ("rectangle" | "rotation", [_, _, _, _]) => {
            fill(points.as_flattened().to_vec())
        }
        ("rectangle", &[[x0, y0], [x1, y1]]) => fill(vec![x0, y0, x1, y0, x1, y1, x0, y1]),
        ("circle", &[[x, y], [u, v]]) => {
            let radius = (u - x).hypot(v - y);
            let corner = |i: u32| {
                let angle = TAU * f64::from(i) / f64::from(CIRCLE);
                [x + radius * angle.cos(), y + radius * angle.sin()]
            };
            fill((0..CIRCLE).flat_map(corner).collect())
        }
        ("mask", &[[x0, y0], [x1, y1]]) => {
            let Some(png) = &shape.mask else {
                return Err(place("mask: is missing"));
            };
            let png = BASE64_STANDARD.decode(png);
            let png = png.map_err(|error| place(&format!("mask: {error}")))?;
            let image = decode_image(&png, "", &ImageLimits::default());
            let image = image.map_err(|error| place(&format!("mask: {}", error.reason())))?;
            let [x, y] = [x0.min(x1), y0.min(y1)].map(f64::trunc);
            // The last pixel belongs to it.
            let size = [x0.max(x1).trunc() - x + 1.0, y0.max(y1).trunc() - y + 1.0];
            if size != [image.width(), image.height()].map(f64::from) {
                let what = format!(
                    "mask: is {}x{} pixels in a box of {}x{}",
                    image.width(),
                    image.height(),
                    size[0],
                    size[1]
                );
                return Err(place(&what));
            }
            let mut mask = Mask::new(width, height);
            for (u, v, pixel) in image.enumerate_pixels() {
                let (u, v) = (x + f64::from(u), y + f64::from(v));
                let is_inside = u >= 0.0 && v >= 0.0 && u < width.into() && v < height.into();
                if is_inside && pixel.0 != [0; 3] {
                    mask.set(u as u32, v as u32, true);
                }
            }
            Ok(Some(mask))
        }
        ("mask", _) => Err(place("points: a mask has its first and its last pixel")),
        _ => Ok(None),
    }
}
