//! Heat maps over images.

use image::{Rgb, RgbImage};

/// From low to high: the colours of matplotlib's `inferno` at equal distances.
const STOPS: [[f32; 3]; 6] = [
    [0.0, 0.0, 4.0],
    [66.0, 10.0, 104.0],
    [147.0, 38.0, 103.0],
    [221.0, 81.0, 58.0],
    [252.0, 165.0, 10.0],
    [252.0, 255.0, 164.0],
];

/// The image with `values` (one a pixel, row by row) laid over it: dark where they are low, bright
/// where they are high; the more, the less of the image shines through. Pixels without a finite
/// value stay as they are.
///
/// ```
/// use samara_image::{RgbImage, heat_map};
///
/// let heat = heat_map(&RgbImage::new(2, 1), &[0.1, 0.7]);
/// assert!(heat.get_pixel(1, 0)[0] > heat.get_pixel(0, 0)[0]);
/// ```
pub fn heat_map(image: &RgbImage, values: &[f32]) -> RgbImage {
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let low = finite().fold(f32::INFINITY, f32::min);
    let high = finite().fold(f32::NEG_INFINITY, f32::max);
    let mut heat = image.clone();
    for (pixel, &value) in heat.pixels_mut().zip(values) {
        if !value.is_finite() {
            continue;
        }
        let share = if high > low {
            (value - low) / (high - low)
        } else {
            0.0
        };
        let cover = 0.45 + 0.3 * share;
        let over = color(share);
        for (channel, over) in pixel.0.iter_mut().zip(over.0) {
            let (below, over) = (f32::from(*channel), f32::from(over));
            *channel = (over - below).mul_add(cover, below).round() as u8;
        }
    }
    heat
}

/// The colour of a value from 0 to 1.
fn color(share: f32) -> Rgb<u8> {
    let at = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f32;
    let first = (at as usize).min(STOPS.len() - 2);
    let t = at - first as f32;
    let mix = |i: usize| {
        let (a, b) = (STOPS[first][i], STOPS[first + 1][i]);
        (b - a).mul_add(t, a).round() as u8
    };
    Rgb([mix(0), mix(1), mix(2)])
}
