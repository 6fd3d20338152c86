//! Whether the outline of a mask lies on an edge of the image.
//!
//! The gradient of the image across the outline is averaged in bands inside and outside of it: of
//! a good mask the band on the outline is the strongest, of one that is too tight a band outside.

use samara_image::{Mask, RgbImage};

/// Widths of a band, as shares of the square root of the mask's area: the wider one finds what is
/// wrong by more.
const BANDS: [f64; 2] = [0.03, 0.09];
/// Bands on either side of the outline.
const REACH: i32 = 4;
const PER_SCALE: usize = 2 * REACH as usize + 1;

/// Number of measures of an outline.
pub(super) const MEASURES: usize = BANDS.len() * (PER_SCALE + 1);

/// The gradient of an image: of its strongest channel, along x and y, row by row.
pub(super) struct Edges {
    width: u32,
    gradient: Vec<[f32; 2]>,
}

impl Edges {
    pub(super) fn new(image: &RgbImage) -> Self {
        let (width, height) = image.dimensions();
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self {
            width,
            gradient: pixels.map(|(x, y)| gradient(image, x, y)).collect(),
        }
    }

    /// Measures of a mask of the image's size: per width of a band the mean gradient across the
    /// outline in each of them, relative to their sum, and the logarithm of that sum.
    pub(super) fn measures(&self, mask: &Mask) -> [f32; MEASURES] {
        let length = (mask.area() as f64).sqrt();
        let widths = BANDS.map(|share| (share * length).max(1.0));
        let margin = (widths[1] * f64::from(REACH + 1)).ceil() as u32;
        let Some(depth) = SignedDistance::new(mask, margin) else {
            return [0.0; MEASURES];
        };
        let mut sums = [[0.0_f64; PER_SCALE]; BANDS.len()];
        let mut counts = sums;
        for y in depth.top..depth.bottom {
            for x in depth.left..depth.right {
                let at = depth.at(x, y);
                let normal = [
                    depth.at(x + 1, y) - depth.at(x - 1, y),
                    depth.at(x, y + 1) - depth.at(x, y - 1),
                ];
                let steep = normal[0].hypot(normal[1]);
                let gradient = self.gradient[y as usize * self.width as usize + x as usize];
                let along = |axis: usize| normal[axis] * f64::from(gradient[axis]);
                let across = (along(0) + along(1)).abs() / steep.max(1e-6);
                for (scale, width) in widths.iter().enumerate() {
                    let band = (at / width).round() as i32 + REACH;
                    if (0..PER_SCALE as i32).contains(&band) {
                        sums[scale][band as usize] += across;
                        counts[scale][band as usize] += 1.0;
                    }
                }
            }
        }
        let mut measures = [0.0; MEASURES];
        let scales = measures
            .chunks_exact_mut(PER_SCALE + 1)
            .zip(sums.iter().zip(&counts));
        for (out, (sums, counts)) in scales {
            let means: Vec<f64> = sums
                .iter()
                .zip(counts)
                .map(|(s, n)| s / n.max(1.0))
                .collect();
            let total: f64 = means.iter().sum();
            out[PER_SCALE] = (total + 1.0).ln() as f32;
            for (out, mean) in out.iter_mut().zip(means) {
                *out = (mean / (total + 1e-3)) as f32;
            }
        }
        measures
    }
}

/// Sobel's operator.
fn gradient(image: &RgbImage, x: u32, y: u32) -> [f32; 2] {
    let (right, bottom) = (image.width() - 1, image.height() - 1);
    let (xs, ys) = (
        [x.saturating_sub(1), x, (x + 1).min(right)],
        [y.saturating_sub(1), y, (y + 1).min(bottom)],
    );
    let near = ys.map(|y| xs.map(|x| image.get_pixel(x, y).0));
    let channel = |c: usize| {
        let value = |row: usize, column: usize| f32::from(near[row][column][c]);
        let across = |row| value(row, 2) - value(row, 0);
        let down = |column| value(2, column) - value(0, column);
        [
            (across(0) + 2.0 * across(1) + across(2)) / 8.0,
            (down(0) + 2.0 * down(1) + down(2)) / 8.0,
        ]
    };
    let strength = |g: &[f32; 2]| g[0].hypot(g[1]);
    let strongest = (0..3)
        .map(channel)
        .max_by(|a, b| strength(a).total_cmp(&strength(b)));
    strongest.unwrap_or_default()
}

/// Distance to the outline in pixels around a mask, negative outside.
struct SignedDistance {
    /// The part of the image that is within the margin: `left..right`, `top..bottom`.
    left: u32,
    right: u32,
    top: u32,
    bottom: u32,
    width: usize,
    values: Vec<f32>,
}

impl SignedDistance {
    /// `None` for an empty mask.
    fn new(mask: &Mask, margin: u32) -> Option<Self> {
        let b = mask.bbox()?;
        let (left, top) = (b.x.saturating_sub(margin), b.y.saturating_sub(margin));
        let right = (b.x + b.width + margin).min(mask.width());
        let bottom = (b.y + b.height + margin).min(mask.height());
        let (width, height) = (right - left, bottom - top);
        // A frame of `margin` around, so that the image's edge is no outline.
        let pad = margin + 1;
        let window = mask.crop(left, top, width, height);
        let window = window.placed(pad, pad, width + 2 * pad, height + 2 * pad);
        let (inside, outside) = (window.distance_transform(), (!&window).distance_transform());
        let columns = pad - 1..pad + width + 1;
        let rows = pad - 1..pad + height + 1;
        let cells = rows.flat_map(|y| columns.clone().map(move |x| (x, y)));
        let half = |distance: f64| (distance - 0.5).max(0.0);
        let signed = |(x, y)| (half(inside.get(x, y)) - half(outside.get(x, y))) as f32;
        Some(Self {
            left,
            right,
            top,
            bottom,
            width: width as usize + 2,
            values: cells.map(signed).collect(),
        })
    }

    /// Within the part and one pixel around it.
    fn at(&self, x: u32, y: u32) -> f64 {
        let (column, row) = (x + 1 - self.left, y + 1 - self.top);
        f64::from(self.values[row as usize * self.width + column as usize])
    }
}

#[cfg(test)]
mod tests {
    use samara_image::Rgb;

    use super::*;

    #[test]
    fn the_strongest_band_says_where_the_edge_is() {
        let disc = |radius: f64| {
            move |x: u32, y: u32| (f64::from(x) - 80.0).hypot(f64::from(y) - 60.0) < radius
        };
        let object = disc(30.0);
        let image = RgbImage::from_fn(160, 120, |x, y| {
            Rgb(if object(x, y) {
                [200, 90, 40]
            } else {
                [40, 90, 60]
            })
        });
        let edges = Edges::new(&image);
        let strongest = |radius: f64| {
            let mask = Mask::from_fn(160, 120, disc(radius));
            let measures = edges.measures(&mask);
            let wide = &measures[PER_SCALE + 1..=2 * PER_SCALE];
            let most = wide.iter().copied().fold(0.0, f32::max);
            wide.iter().position(|&v| v == most).unwrap() as i32 - REACH
        };
        assert_eq!(strongest(30.0), 0);
        assert!(
            strongest(22.0) < 0,
            "the edge lies outside of a mask that is too tight"
        );
        assert!(strongest(40.0) > 0);
    }

    #[test]
    fn masks_at_the_edge_of_the_image_are_measured() {
        let image = RgbImage::from_pixel(33, 17, Rgb([9, 9, 9]));
        let edges = Edges::new(&image);
        for mask in [
            Mask::full(33, 17),
            Mask::from_fn(33, 17, |x, y| (x, y) == (32, 16)),
        ] {
            assert!(edges.measures(&mask).iter().all(|v| v.is_finite()));
        }
    }
}
