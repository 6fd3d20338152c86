//! The first prompt: a click, a box or a mask.

use std::f64::consts::TAU;

use rand::{Rng, RngExt};
use samara::{OriginalBox, OriginalPx};
use samara_image::{BBox, Mask};
use serde::{Deserialize, Serialize};

/// A kind of first prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstPrompt {
    /// A click on the pixel that lies deepest in the object.
    CentreClick,
    /// A click on any pixel of the object.
    RandomClick,
    /// A noisy box.
    Box,
    /// The mask.
    Mask,
}

/// Noise of each coordinate of a box.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxNoise {
    /// Normal (SAM) or uniform (SAM 2).
    pub shape: NoiseShape,
    /// The standard deviation (normal) or the largest offset (uniform), as a share of the box's
    /// side.
    pub share: f64,
    /// No offset is larger than this, in pixels of an image whose longest side is 1024, as in the
    /// model's input.
    pub max_pixels: f64,
}

/// The distribution of the noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseShape {
    /// Gaussian, cut at the largest offset.
    Normal,
    /// Between plus and minus the largest offset.
    Uniform,
}

/// The centre of a pixel.
pub fn centre_of((x, y): (u32, u32)) -> OriginalPx {
    OriginalPx::new(f64::from(x) + 0.5, f64::from(y) + 0.5)
}

/// A set pixel, each as likely as any other; `None` when none is set.
pub fn random_pixel(mask: &Mask, rng: &mut impl Rng) -> Option<(u32, u32)> {
    let area = mask.area();
    (area > 0).then(|| nth_pixel(mask, rng.random_range(0..area)))?
}

/// The set pixel after `n` others, row by row.
fn nth_pixel(mask: &Mask, mut n: u64) -> Option<(u32, u32)> {
    for y in 0..mask.height() {
        for (x, &word) in (0..).step_by(64).zip(mask.row(y)) {
            let here = u64::from(word.count_ones());
            if n < here {
                let rest = (0..n).fold(word, |rest, _| rest & (rest - 1));
                return Some((x + rest.trailing_zeros(), y));
            }
            n -= here;
        }
    }
    None
}

/// The box of a mask of `size` (width, height) with noise, within the mask.
pub fn noisy_box(
    bbox: BBox,
    size: (u32, u32),
    noise: &BoxNoise,
    rng: &mut impl Rng,
) -> Option<OriginalBox> {
    let (w, h) = (f64::from(size.0), f64::from(size.1));
    let (x0, y0) = (f64::from(bbox.x), f64::from(bbox.y));
    let (side_x, side_y) = (f64::from(bbox.width), f64::from(bbox.height));
    let max = noise.max_pixels * w.max(h) / 1024.0;
    let mut near =
        |at: f64, side: f64, edge: f64| (at + offset(noise, side, max, rng)).clamp(0.0, edge);
    let noisy = OriginalBox::new(
        near(x0, side_x, w),
        near(y0, side_y, h),
        near(x0 + side_x, side_x, w),
        near(y0 + side_y, side_y, h),
    );
    // Noise that leaves no area is as good as none.
    noisy
        .or_else(|_| OriginalBox::new(x0, y0, x0 + side_x, y0 + side_y))
        .ok()
}

fn offset(noise: &BoxNoise, side: f64, max: f64, rng: &mut impl Rng) -> f64 {
    let scale = noise.share * side;
    match noise.shape {
        NoiseShape::Uniform => rng.random_range(-1.0..=1.0) * scale.min(max),
        NoiseShape::Normal => (standard_normal(rng) * scale).clamp(-max, max),
    }
}

/// Box and Muller's transform.
fn standard_normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (TAU * rng.random::<f64>()).cos()
}

/// The mask grown or shrunk by up to `share` of the square root of its area; unchanged where
/// shrinking would leave nothing.
pub(super) fn damaged(mask: &Mask, share: f64, rng: &mut impl Rng) -> Option<Mask> {
    let max = (share * (mask.area() as f64).sqrt()).round() as i32;
    let by = if max > 0 {
        rng.random_range(-max..=max)
    } else {
        0
    };
    let changed = match by {
        0 => return None,
        1.. => mask.dilate(by.unsigned_abs()),
        _ => mask.erode(by.unsigned_abs()),
    };
    (!changed.is_empty()).then_some(changed)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::recipe::Simulation;
    use super::*;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(17)
    }

    #[test]
    fn every_set_pixel_has_its_number() {
        let mask = Mask::from_fn(200, 37, |x, y| (x * x + 3 * y * x + y) % 7 < 2);
        let found: Vec<_> = (0..mask.area())
            .map(|n| nth_pixel(&mask, n).unwrap())
            .collect();
        assert_eq!(found, mask.iter_set().collect::<Vec<_>>());
        assert_eq!(nth_pixel(&mask, mask.area()), None);
        let full = Mask::full(64, 2);
        assert_eq!(nth_pixel(&full, 63), Some((63, 0)));
        assert_eq!(nth_pixel(&full, 64), Some((0, 1)));
    }

    #[test]
    fn pixels_are_drawn_evenly() {
        let mask = Mask::from_fn(70, 3, |x, y| x % 23 == 0 && y != 1);
        let mut rng = rng();
        let mut counts = std::collections::HashMap::<_, u32>::new();
        for _ in 0..8000 {
            *counts
                .entry(random_pixel(&mask, &mut rng).unwrap())
                .or_default() += 1;
        }
        assert_eq!(counts.len(), 8);
        assert!(
            counts.values().all(|n| n.abs_diff(1000) < 150),
            "{counts:?}"
        );
        assert_eq!(random_pixel(&Mask::new(9, 9), &mut rng), None);
    }

    /// Offsets of the left, top, right and bottom edges of a box in the middle of a mask.
    fn offsets(noise: &BoxNoise, side: u32, size: u32) -> Vec<[f64; 4]> {
        let mut rng = rng();
        let start = (size - side) / 2;
        let bbox = BBox {
            x: start,
            y: start,
            width: side,
            height: side,
        };
        let (low, high) = (f64::from(start), f64::from(start + side));
        let draw = |_| {
            let noisy = noisy_box(bbox, (size, size), noise, &mut rng).unwrap();
            let OriginalBox { min, max } = noisy;
            [min.x - low, min.y - low, max.x - high, max.y - high]
        };
        (0..10_000).map(draw).collect()
    }

    fn largest(offsets: &[[f64; 4]]) -> f64 {
        offsets
            .as_flattened()
            .iter()
            .fold(0.0, |max, o| o.abs().max(max))
    }

    fn deviation(offsets: &[[f64; 4]], edge: usize) -> f64 {
        let squares: f64 = offsets.iter().map(|o| o[edge] * o[edge]).sum();
        (squares / offsets.len() as f64).sqrt()
    }

    #[test]
    fn sam_boxes_have_normal_noise_of_a_tenth_of_the_side() {
        let noise = Simulation::sam().box_noise;
        let small = offsets(&noise, 60, 1024);
        for edge in 0..4 {
            assert!((deviation(&small, edge) - 6.0).abs() < 0.15);
        }
        let beyond = small.iter().filter(|o| o[0].abs() > 6.0).count();
        assert!(beyond.abs_diff(3173) < 200, "{beyond} beyond one deviation");
        assert_eq!(largest(&offsets(&noise, 300, 1024)), 20.0);
        assert_eq!(largest(&offsets(&noise, 300, 512)), 10.0);
    }

    #[test]
    fn sam2_boxes_have_uniform_noise() {
        let noise = Simulation::sam2().box_noise;
        let small = offsets(&noise, 60, 1024);
        assert!((5.9..=6.0).contains(&largest(&small)));
        for edge in 0..4 {
            assert!((deviation(&small, edge) - 6.0 / 3f64.sqrt()).abs() < 0.1);
        }
        assert!((19.9..=20.0).contains(&largest(&offsets(&noise, 400, 1024))));
    }

    #[test]
    fn boxes_stay_in_the_image_and_keep_an_area() {
        let mut rng = rng();
        let wild = BoxNoise {
            shape: NoiseShape::Normal,
            share: 1.0,
            max_pixels: 1024.0,
        };
        for bbox in [Mask::full(30, 20), Mask::full(1, 1)].map(|m| m.bbox().unwrap()) {
            for _ in 0..2000 {
                let noisy = noisy_box(bbox, (30, 20), &wild, &mut rng).unwrap();
                assert!(noisy.min.x >= 0.0 && noisy.min.y >= 0.0 && noisy.area() > 0.0);
                assert!(noisy.max.x <= 30.0 && noisy.max.y <= 20.0);
            }
        }
    }

    #[test]
    fn damage_grows_and_shrinks() {
        let mut rng = rng();
        let mask = Mask::from_fn(90, 90, |x, y| {
            (30..60).contains(&x) && (30..60).contains(&y)
        });
        let areas: Vec<u64> = (0..300)
            .map(|_| damaged(&mask, 0.1, &mut rng).map_or(mask.area(), |m| m.area()))
            .collect();
        let sides = [24_u64, 26, 28, 30, 32, 34, 36];
        assert!(sides.iter().all(|side| areas.contains(&(side * side))));
        assert!(
            areas
                .iter()
                .all(|area| sides.iter().any(|side| side * side == *area))
        );
        assert_eq!(damaged(&mask, 0.0, &mut rng), None);
        // Nothing is left of a thin line: the line itself is given.
        let line = Mask::from_fn(90, 9, |_, y| y == 4);
        let grown = |m: &Mask| m.area() > 90;
        assert!((0..50).all(|_| damaged(&line, 0.1, &mut rng).is_none_or(|m| grown(&m))));
    }
}
