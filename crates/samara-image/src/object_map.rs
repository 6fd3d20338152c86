//! Object maps: palette images whose indices are the objects of a video, as the DAVIS data sets have
//! them; grey images of 16 bits for more objects than a palette has colours.

use std::io::Cursor;
use std::path::Path;

use crate::decode::{GrayImage16, read_bytes};
use crate::error::Error;
use crate::label_map::{LabelMap, read_label_map};
use crate::limits::ImageLimits;
use crate::mask::Mask;
use crate::save::{save_png, write_atomic};

/// The colour of an index: the palette of PASCAL VOC, which DAVIS has as well. The bits of the index
/// are dealt to red, green and blue in turn, from the highest bit of each down.
pub fn object_color(index: u8) -> [u8; 3] {
    let bit =
        |position: u32, channel: u32| (index >> (3 * position + channel) & 1) << (7 - position);
    [0, 1, 2].map(|channel| {
        (0..3)
            .filter(|p| 3 * p + channel < 8)
            .map(|p| bit(p, channel))
            .sum()
    })
}

/// Writes the objects of a frame as a palette image, or as a grey one of 16 bits if one of their numbers is above
/// 255. Where objects overlap, the first one counts.
///
/// # Errors
/// [`Error::Parameter`] for a mask of another size, [`Error::Io`] when the file cannot be
/// written.
pub fn save_object_map(
    path: impl AsRef<Path>,
    (width, height): (u32, u32),
    objects: &[(u16, &Mask)],
) -> Result<(), Error> {
    let path = path.as_ref();
    let mut indices = vec![0_u16; width as usize * height as usize];
    for (object, mask) in objects.iter().rev() {
        if (mask.width(), mask.height()) != (width, height) {
            let what = format!(
                "the mask of object {object} has {}x{} pixels, the image {width}x{height}",
                mask.width(),
                mask.height()
            );
            return Err(Error::parameter(&path.display().to_string(), what));
        }
        for (x, y) in mask.iter_set() {
            indices[(y * width + x) as usize] = *object;
        }
    }
    let bytes: Option<Vec<u8>> = indices.iter().map(|&v| u8::try_from(v).ok()).collect();
    let is_small = objects.iter().all(|(object, _)| *object <= 255);
    let Some(indices) = bytes.filter(|_| is_small) else {
        let grey = GrayImage16::from_raw(width, height, indices).unwrap_or_default();
        return save_png(path, &grey);
    };
    let encoded = encode((width, height), &indices);
    let bytes = encoded.map_err(|e| {
        let source = std::io::Error::other(e.to_string());
        Error::io(path, "cannot be encoded", source)
    })?;
    write_atomic(path, &bytes)
}

fn encode((width, height): (u32, u32), indices: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    let palette: Vec<u8> = (0..=255).flat_map(object_color).collect();
    encoder.set_palette(palette);
    encoder.write_header()?.write_image_data(indices)?;
    Ok(bytes)
}

/// Reads an object map: the indices of a palette PNG, whatever its colours, or a [label
/// map](read_label_map).
///
/// # Errors
/// As [`read_label_map`].
pub fn read_object_map(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<LabelMap, Error> {
    let path = path.as_ref();
    let bytes = read_bytes(path, limits)?;
    match indices(&bytes, limits) {
        Some((size, indices)) => Ok(LabelMap::of_values(size, &indices)),
        // Also what is wrong with an image is found out there.
        None => read_label_map(path, limits),
    }
}

/// Size and indices of a palette PNG.
fn indices(bytes: &[u8], limits: &ImageLimits) -> Option<((u32, u32), Vec<u32>)> {
    let most = usize::try_from(limits.max_bytes).unwrap_or(usize::MAX);
    let most = png::Limits { bytes: most };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), most);
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().ok()?;
    let (color, depth) = reader.output_color_type();
    let (width, height) = reader.info().size();
    let pixels = u64::from(width) * u64::from(height);
    if color != png::ColorType::Indexed || pixels > limits.max_pixels {
        return None;
    }
    let mut packed = vec![0; reader.output_buffer_size()?];
    reader.next_frame(&mut packed).ok()?;
    let line = reader.output_line_size(width)?;
    // Indices of 1, 2 or 4 bits are packed, the first one highest.
    let bits = depth as usize;
    let index = |line: &[u8], x: usize| {
        let shift = 8 - bits - x * bits % 8;
        u32::from(line[x * bits / 8] >> shift) & ((1 << bits) - 1)
    };
    let lines = packed.chunks_exact(line).take(height as usize);
    let indices = lines.flat_map(|line| (0..width as usize).map(move |x| index(line, x)));
    Some(((width, height), indices.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_palette_is_that_of_the_data_sets() {
        let first = [
            [0, 0, 0],
            [128, 0, 0],
            [0, 128, 0],
            [128, 128, 0],
            [0, 0, 128],
        ];
        assert_eq!([0, 1, 2, 3, 4].map(object_color), first);
        assert_eq!(
            [8, 22, 255].map(object_color),
            [[64, 0, 0], [0, 192, 128], [224, 224, 192]]
        );
    }

    #[test]
    fn objects_come_back_and_the_first_one_lies_on_top() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("00000.png");
        let left = Mask::from_fn(9, 5, |x, _| x < 4);
        let top = Mask::from_fn(9, 5, |_, y| y < 2);
        save_object_map(&path, (9, 5), &[(4, &left), (200, &top)]).unwrap();
        let map = read_object_map(&path, &ImageLimits::default()).unwrap();
        assert_eq!((map.width, map.height), (9, 5));
        assert_eq!(map.objects[&4], left.to_rle());
        assert_eq!(map.objects[&200], top.and_not(&left).unwrap().to_rle());
        assert_eq!(map.objects.len(), 2);
        // More objects than a palette has colours.
        save_object_map(&path, (9, 5), &[(4, &left), (300, &top)]).unwrap();
        let map = read_object_map(&path, &ImageLimits::default()).unwrap();
        assert_eq!(map.objects[&300], top.and_not(&left).unwrap().to_rle());
        assert_eq!(map.objects[&4], left.to_rle());
        let wrong = save_object_map(&path, (9, 6), &[(4, &left)]).unwrap_err();
        assert!(wrong.to_string().contains("object 4 has 9x5"), "{wrong}");
    }

    #[test]
    fn packed_indices_and_grey_values_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 3, 2);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Two);
        encoder.set_palette([0; 12].to_vec());
        let mut writer = encoder.write_header().unwrap();
        writer
            .write_image_data(&[0b0111_0000, 0b0000_1000])
            .unwrap();
        drop(writer);
        std::fs::write(&path, &bytes).unwrap();
        let map = read_object_map(&path, &ImageLimits::default()).unwrap();
        let labels: Vec<(u32, u64)> = map.objects.iter().map(|(&l, r)| (l, r.area())).collect();
        assert_eq!(labels, [(1, 1), (2, 1), (3, 1)]);

        let grey = image::GrayImage::from_raw(2, 1, vec![0, 7]).unwrap();
        save_png(&path, &grey).unwrap();
        let map = read_object_map(&path, &ImageLimits::default()).unwrap();
        assert!(map.objects.keys().eq(&[7]));
    }
}
