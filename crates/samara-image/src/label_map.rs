//! Label maps: one file holds all objects of an image, each with a value of its own.

use std::collections::BTreeMap;
use std::path::Path;

use image::Luma;

use crate::decode::{GrayImage16, decode_dynamic, is_lossy, read_bytes};
use crate::error::Error;
use crate::labels::{check_edges, labels};
use crate::limits::ImageLimits;
use crate::mask::Mask;
use crate::rle::Rle;

/// The objects of a label map; pixels with the value 0 are background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMap {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Where each non-zero value stands, by value.
    pub objects: BTreeMap<u32, Rle>,
}

/// Reads a label map: a grey image of any type whose values are the labels, whole numbers below 2^24 in types of
/// more than 16 bits; or an 8-bit colour or palette image whose colours are, as
/// `red · 65536 + green · 256 + blue`. Transparency is ignored.
///
/// # Errors
/// As [`read_image`](crate::read_image); [`Error::Unsupported`] also for other sample types, for a lossy format
/// (JPEG, lossy WebP), and for smooth edges, whose in-between values would be objects.
pub fn read_label_map(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<LabelMap, Error> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let bytes = read_bytes(path, limits)?;
    let image = decode_dynamic(&bytes, &name, limits)?;
    if is_lossy(&bytes) {
        let what = "is compressed with loss, so its values are not those that were saved; a label map is a PNG \
                    or TIFF";
        return Err(Error::unsupported(&name, what));
    }
    let (width, height) = (image.width(), image.height());
    let Some((_, values)) = labels(&image) else {
        let what = "a label map has whole numbers for values, in grey or in colours of 8 bits";
        return Err(Error::unsupported(&name, what));
    };
    check_edges(width as usize, &values, &name)?;
    if u32::try_from(values.len()).is_err() {
        let what = format!("{width}x{height} is too large for a label map");
        return Err(Error::limits(&name, what));
    }
    Ok(LabelMap::of_values((width, height), &values))
}

impl LabelMap {
    /// The objects of values, row by row.
    pub(crate) fn of_values((width, height): (u32, u32), values: &[u32]) -> Self {
        Self {
            width,
            height,
            objects: run_lengths(values, width, height),
        }
    }
}

/// A label map with 16-bit values: where `masks` overlap, later ones lie over earlier ones. Each
/// comes with its number, and has its number + 1 for a value.
///
/// # Errors
/// [`Error::Parameter`] when a number needs more than 16 bits, or a mask has another size.
pub fn label_map(width: u32, height: u32, masks: &[(usize, &Mask)]) -> Result<GrayImage16, Error> {
    let mut map = GrayImage16::new(width, height);
    for (number, mask) in masks {
        let value = u16::try_from(number + 1).map_err(|_| {
            Error::parameter("label map", "more than 65535 masks need more than 16 bits")
        })?;
        if (mask.width(), mask.height()) != (width, height) {
            let what = format!(
                "a mask of {}x{} pixels in one of {width}x{height}",
                mask.width(),
                mask.height()
            );
            return Err(Error::parameter("label map", what));
        }
        for (x, y) in mask.iter_set() {
            map.put_pixel(x, y, Luma([value]));
        }
    }
    Ok(map)
}

/// Run lengths of every non-zero value, without a mask for each. `values` holds `width × height`
/// items, row by row, and fewer than 2^32.
fn run_lengths(values: &[u32], width: u32, height: u32) -> BTreeMap<u32, Rle> {
    let mut objects: BTreeMap<u32, Rle> = BTreeMap::new();
    let mut finish = |label: u32, start: u32, end: u32, sums: &mut BTreeMap<u32, u32>| {
        if label != 0 {
            let rle = objects.entry(label).or_insert_with(|| Rle {
                size: [height, width],
                counts: Vec::new(),
            });
            let sum = sums.entry(label).or_insert(0);
            rle.counts.extend([start - *sum, end - start]);
            *sum = end;
        }
    };
    let mut sums = BTreeMap::new();
    let (mut label, mut start, mut at) = (0, 0, 0);
    for x in 0..width as usize {
        for value in values[x..].iter().step_by(width as usize) {
            if *value != label {
                finish(label, start, at, &mut sums);
                (label, start) = (*value, at);
            }
            at += 1;
        }
    }
    finish(label, start, at, &mut sums);
    for (label, rle) in &mut objects {
        match sums.get(label) {
            Some(&sum) if sum < at => rle.counts.push(at - sum),
            _ => {}
        }
    }
    objects
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::save::save_png;

    fn value(x: u32, y: u32) -> u32 {
        // Label 3 runs over the end of a column, label 300 needs 16 bits, label 7 is the last pixel.
        match (x, y) {
            (1, 3..) | (2, 0..2) => 3,
            (0, 1) | (3, 2) => 300,
            (5, 4) => 7,
            _ => 0,
        }
    }

    fn check(map: &LabelMap, labels: [u32; 3], value: impl Fn(u32, u32) -> u32) {
        assert_eq!((map.width, map.height), (6, 5));
        assert_eq!(map.objects.keys().copied().collect::<Vec<_>>(), labels);
        for (&label, rle) in &map.objects {
            let expected = Mask::from_fn(6, 5, |x, y| value(x, y) == label);
            assert_eq!(rle, &expected.to_rle(), "label {label}");
        }
    }

    #[test]
    fn sixteen_bit_grey_and_colours_give_the_run_lengths_of_their_masks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.png");
        GrayImage16::from_fn(6, 5, |x, y| Luma([value(x, y) as u16]))
            .save(&path)
            .unwrap();
        let map = read_label_map(&path, &ImageLimits::default()).unwrap();
        check(&map, [3, 7, 300], value);

        let colour = |x, y| [0, (value(x, y) >> 8) as u8, value(x, y) as u8];
        RgbImage::from_fn(6, 5, |x, y| Rgb(colour(x, y)))
            .save(&path)
            .unwrap();
        let map = read_label_map(&path, &ImageLimits::default()).unwrap();
        check(&map, [3, 7, 300], value);
    }

    #[test]
    fn masks_become_labels_and_masks_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.png");
        let masks = [3, 7, 300].map(|label| Mask::from_fn(6, 5, |x, y| value(x, y) == label));
        let all = Mask::full(6, 5);
        let numbered = [(8, &all), (2, &masks[0]), (6, &masks[1]), (299, &masks[2])];
        save_png(&path, &label_map(6, 5, &numbered).unwrap()).unwrap();
        let map = read_label_map(&path, &ImageLimits::default()).unwrap();
        assert_eq!(
            map.objects.keys().copied().collect::<Vec<_>>(),
            [3, 7, 9, 300]
        );
        assert_eq!(map.objects[&300], masks[2].to_rle());
        assert!(label_map(6, 5, &[(65535, &all)]).is_err());
        assert!(label_map(5, 5, &[(0, &all)]).is_err());
    }

    #[test]
    fn a_damaged_label_map_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.png");
        std::fs::write(&path, b"not an image").unwrap();
        let error = read_label_map(&path, &ImageLimits::default()).unwrap_err();
        assert!(error.to_string().contains("labels.png"), "{error}");
    }
}
