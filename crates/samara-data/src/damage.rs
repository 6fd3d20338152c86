//! Masks damaged on purpose: what annotators and models get wrong, with a known true IoU.

use std::f64::consts::TAU;
use std::fmt;

use rand::{Rng, RngExt};
use samara_image::Mask;
use serde::Serialize;

use crate::prompts::random_pixel;

/// A kind of damage. Lengths are shares of the square root of the object's area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// Too tight, by up to 0.7 of the object's depth.
    Erosion,
    /// Too wide, by 0.02 to 0.35.
    Dilation,
    /// In the wrong place, by 0.05 to 0.7.
    Shift,
    /// One to six discs cut out, of radius 0.1 to 0.3.
    Holes,
    /// The mask of another object, which overlaps this one by an IoU of 0.2 at most.
    WrongObject,
    /// A wavy outline, by up to 0.35, or cells of the mask at random.
    Noise,
}

impl Damage {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Erosion,
        Self::Dilation,
        Self::Shift,
        Self::Holes,
        Self::WrongObject,
        Self::Noise,
    ];

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Erosion => "erosion",
            Self::Dilation => "dilation",
            Self::Shift => "shift",
            Self::Holes => "holes",
            Self::WrongObject => "wrong object",
            Self::Noise => "noise",
        }
    }

    /// The mask of an object, damaged; how badly is drawn at random. `others` are the masks, of any
    /// size, of which a wrong object is taken.
    ///
    /// `None` when nothing is left, nothing changed, or there is no other object to confuse it with.
    pub fn apply(self, truth: &Mask, others: &[&Mask], rng: &mut impl Rng) -> Option<Mask> {
        let length = (truth.area() as f64).sqrt();
        let damaged = match self {
            Self::Erosion => {
                let (_, _, depth) = truth.most_interior()?;
                truth.erode((rng.random_range(0.02..0.7) * depth).ceil() as u32)
            }
            Self::Dilation => {
                truth.dilate_disk((rng.random_range(0.02..0.35) * length).ceil() as u32)
            }
            Self::Shift => {
                let far = rng.random_range(0.05..0.7) * length;
                let angle = rng.random_range(0.0..TAU);
                shifted(truth, far * angle.cos(), far * angle.sin())
            }
            Self::Holes => holes(truth, length, rng),
            Self::WrongObject => wrong_object(truth, others, rng)?,
            Self::Noise if rng.random_bool(0.5) => wavy(truth, length, rng),
            Self::Noise => speckled(truth, length, rng),
        };
        (!damaged.is_empty() && damaged != *truth).then_some(damaged)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

fn shifted(mask: &Mask, dx: f64, dy: f64) -> Mask {
    let (dx, dy) = (dx.round() as i64, dy.round() as i64);
    let (width, height) = (mask.width(), mask.height());
    let mut moved = Mask::new(width, height);
    for (x, y) in mask.iter_set() {
        let (x, y) = (i64::from(x) + dx, i64::from(y) + dy);
        if (0..i64::from(width)).contains(&x) && (0..i64::from(height)).contains(&y) {
            moved.set(x as u32, y as u32, true);
        }
    }
    moved
}

fn holes(mask: &Mask, length: f64, rng: &mut impl Rng) -> Mask {
    let mut holed = mask.clone();
    for _ in 0..rng.random_range(1..=6) {
        let Some((x, y)) = random_pixel(mask, rng) else {
            break;
        };
        let radius = (rng.random_range(0.1..0.3) * length).max(1.0);
        for (px, py) in mask.iter_set() {
            let (dx, dy) = (f64::from(px) - f64::from(x), f64::from(py) - f64::from(y));
            if dx * dx + dy * dy <= radius * radius {
                holed.set(px, py, false);
            }
        }
    }
    holed
}

/// Another object's mask that hardly overlaps this one.
fn wrong_object(truth: &Mask, others: &[&Mask], rng: &mut impl Rng) -> Option<Mask> {
    const MOST_IOU: f64 = 0.2;
    const TRIES: usize = 20;
    for _ in 0..TRIES.min(others.len() * 2) {
        let other = others[rng.random_range(0..others.len())];
        let same_size = (other.width(), other.height()) == (truth.width(), truth.height());
        let other = if same_size {
            other.clone()
        } else {
            other.resize_nearest(truth.width(), truth.height())
        };
        if !other.is_empty() && other.iou(truth) <= MOST_IOU {
            return Some(other);
        }
    }
    None
}

/// The outline moved in and out by a smooth random field.
fn wavy(mask: &Mask, length: f64, rng: &mut impl Rng) -> Mask {
    let amplitude = (rng.random_range(0.05..0.35) * length).max(1.0);
    let field = Field::new(mask, (rng.random_range(0.1..0.5) * length).max(3.0), rng);
    let inside = mask.distance_transform();
    let outside = (!mask).distance_transform();
    Mask::from_fn(mask.width(), mask.height(), |x, y| {
        let depth = inside.get(x, y) - outside.get(x, y);
        depth.abs() <= amplitude && depth + amplitude * field.at(x, y) > 0.0 || depth > amplitude
    })
}

/// Cells of the mask's surroundings turned on and off, as a coarse attention map would.
fn speckled(mask: &Mask, length: f64, rng: &mut impl Rng) -> Mask {
    let field = Field::new(mask, (rng.random_range(0.04..0.2) * length).max(2.0), rng);
    let lost = rng.random_range(-0.9..0.2);
    let near = mask.dilate((0.15 * length).ceil() as u32);
    let mut speckled = Mask::new(mask.width(), mask.height());
    for (x, y) in near.iter_set() {
        let noise = field.at(x, y);
        let on = if mask.get(x, y) {
            noise > lost
        } else {
            noise > 0.6
        };
        speckled.set(x, y, on);
    }
    speckled
}

/// Smooth noise in −1..=1: random values on a lattice, bilinear between them.
struct Field {
    cell: f64,
    columns: usize,
    values: Vec<f64>,
}

impl Field {
    fn new(mask: &Mask, cell: f64, rng: &mut impl Rng) -> Self {
        let count = |size: u32| (f64::from(size) / cell) as usize + 2;
        let (columns, rows) = (count(mask.width()), count(mask.height()));
        let values = (0..columns * rows).map(|_| rng.random_range(-1.0..=1.0));
        Self {
            cell,
            columns,
            values: values.collect(),
        }
    }

    fn at(&self, x: u32, y: u32) -> f64 {
        let (x, y) = (f64::from(x) / self.cell, f64::from(y) / self.cell);
        let (left, top) = (x as usize, y as usize);
        let (right, below) = (x.fract(), y.fract());
        let value = |dx: usize, dy: usize| self.values[(top + dy) * self.columns + left + dx];
        let row = |dy| value(0, dy) * (1.0 - right) + value(1, dy) * right;
        row(0) * (1.0 - below) + row(1) * below
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn disc(cx: f64, cy: f64, radius: f64) -> Mask {
        Mask::from_fn(160, 120, |x, y| {
            (f64::from(x) - cx).hypot(f64::from(y) - cy) < radius
        })
    }

    #[test]
    fn every_damage_lowers_the_iou_and_some_of_each_by_much() {
        let (truth, other) = (disc(60.0, 60.0, 25.0), disc(130.0, 40.0, 15.0));
        for damage in Damage::ALL {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let damaged = (0..60).filter_map(|_| damage.apply(&truth, &[&other, &truth], &mut rng));
            let ious: Vec<f64> = damaged.map(|mask| mask.iou(&truth)).collect();
            assert!(ious.len() > 50, "{damage}: {}", ious.len());
            assert!(ious.iter().all(|&iou| iou < 1.0), "{damage}");
            let least = ious.iter().copied().fold(1.0, f64::min);
            assert!(least < 0.6, "{damage}: {least}");
            let same = (0..2).map(|_| {
                let mut rng = ChaCha8Rng::seed_from_u64(9);
                damage.apply(&truth, &[&other], &mut rng)
            });
            let same: Vec<_> = same.collect();
            assert_eq!(same[0], same[1], "{damage}");
        }
    }

    #[test]
    fn what_holds_no_damage_is_left_out() {
        let (pixel, full) = (
            Mask::from_fn(9, 9, |x, y| (x, y) == (4, 4)),
            Mask::full(9, 9),
        );
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        assert_eq!(Damage::Erosion.apply(&pixel, &[], &mut rng), None);
        assert_eq!(Damage::Dilation.apply(&full, &[], &mut rng), None);
        assert_eq!(Damage::WrongObject.apply(&full, &[], &mut rng), None);
        assert_eq!(Damage::WrongObject.apply(&full, &[&full], &mut rng), None);
        let smaller = Mask::from_fn(3, 3, |x, y| (x, y) == (0, 0));
        let wrong = Damage::WrongObject.apply(&full, &[&smaller], &mut rng);
        assert_eq!(wrong.map(|mask| mask.area()), Some(9));
    }
}
