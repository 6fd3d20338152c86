//! Images beside and below each other.

use image::{Rgb, RgbImage};

const WHITE: Rgb<u8> = Rgb([255; 3]);

/// Images row by row, `columns` in each, with a white gap between them. The largest image gives
/// the size of all places.
///
/// ```
/// use samara_image::{RgbImage, montage};
///
/// let panels = vec![RgbImage::new(300, 200); 3];
/// assert_eq!(montage(&panels, 3).dimensions(), (916, 200));
/// assert_eq!(montage(&panels, 2).dimensions(), (608, 408));
/// ```
pub fn montage(images: &[RgbImage], columns: usize) -> RgbImage {
    let widest = images.iter().map(RgbImage::width).max().unwrap_or(0);
    let tallest = images.iter().map(RgbImage::height).max().unwrap_or(0);
    let gap = (widest / 120).max(8);
    let columns = columns.clamp(1, images.len().max(1));
    let extent = |places: usize, side: u32| (places as u32 * (side + gap)).saturating_sub(gap);
    let rows = images.len().div_ceil(columns);
    let mut all = RgbImage::from_pixel(extent(columns, widest), extent(rows, tallest), WHITE);
    for (i, image) in images.iter().enumerate() {
        let (column, row) = ((i % columns) as u32, (i / columns) as u32);
        let (x, y) = (column * (widest + gap), row * (tallest + gap));
        image::imageops::replace(&mut all, image, x.into(), y.into());
    }
    all
}
