//! Values of pixels that stand for objects.

use std::collections::BTreeSet;

use image::DynamicImage;

use crate::error::Error;

/// Width and labels of an image, row by row, if its values can be some.
pub(crate) fn labels(image: &DynamicImage) -> Option<(usize, Vec<u32>)> {
    let values = match image {
        DynamicImage::ImageLuma8(grey) => grey.pixels().map(|p| p[0].into()).collect(),
        DynamicImage::ImageLumaA8(grey) => grey.pixels().map(|p| p[0].into()).collect(),
        DynamicImage::ImageLuma16(grey) => grey.pixels().map(|p| p[0].into()).collect(),
        DynamicImage::ImageLumaA16(grey) => grey.pixels().map(|p| p[0].into()).collect(),
        DynamicImage::ImageRgb8(rgb) => rgb.pixels().map(|p| color_label(p.0)).collect(),
        DynamicImage::ImageRgba8(rgba) => {
            let rgb = rgba.pixels().map(|p| [p[0], p[1], p[2]]);
            rgb.map(color_label).collect()
        }
        // Whole numbers of up to 24 bits are exact in floating point.
        DynamicImage::ImageRgb32F(wide) => {
            let is_label = |v: f32| v.fract() == 0.0 && (0.0..16_777_216.0).contains(&v);
            let label = |p: &image::Rgb<f32>| {
                let is_grey = p[0] == p[1] && p[0] == p[2];
                (is_grey && is_label(p[0])).then_some(p[0] as u32)
            };
            wide.pixels().map(label).collect::<Option<_>>()?
        }
        _ => return None,
    };
    Some((image.width() as usize, values))
}

fn color_label([red, green, blue]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, red, green, blue])
}

/// The labels other than 0 that fill 2×2 pixels somewhere; none if there are more than `most` labels.
pub(crate) fn area_labels(width: usize, values: &[u32], most: usize) -> BTreeSet<u32> {
    let (all, filled) = labels_and_filled(width, values, most);
    if all.len() > most {
        return BTreeSet::new();
    }
    filled
}

/// All labels other than 0, and those of them that fill 2×2 pixels somewhere. The search ends at more than
/// `most`.
fn labels_and_filled(width: usize, values: &[u32], most: usize) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let (mut all, mut filled) = (BTreeSet::new(), BTreeSet::new());
    let rows: Vec<&[u32]> = values.chunks_exact(width.max(1)).collect();
    let mut last = 0;
    for (y, row) in rows.iter().enumerate() {
        let below = rows.get(y + 1);
        for (x, &label) in row.iter().enumerate() {
            if label == 0 {
                continue;
            }
            if label != last {
                all.insert(label);
                last = label;
                if all.len() > most {
                    return (all, filled);
                }
            }
            let fills = below.is_some_and(|below| {
                row.get(x + 1) == Some(&label)
                    && below[x] == label
                    && below.get(x + 1) == Some(&label)
            });
            if fills && !filled.contains(&label) {
                filled.insert(label);
            }
        }
    }
    (all, filled)
}

/// Refuses an image most of whose values only stand along edges, as anti-aliasing and scaling leave them.
pub(crate) fn check_edges(width: usize, values: &[u32], name: &str) -> Result<(), Error> {
    const FEW: usize = 8;
    let (all, filled) = labels_and_filled(width, values, usize::MAX);
    if all.len() < FEW || filled.len() * 2 >= all.len() {
        return Ok(());
    }
    let what = format!(
        "{} of its {} values fill no 2×2 pixels, as smooth edges have them; a label map has one value for each \
         object, without anti-aliasing",
        all.len() - filled.len(),
        all.len()
    );
    Err(Error::unsupported(name, what))
}
