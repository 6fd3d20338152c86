//! Prompts as people give them.

use rand::{Rng, RngExt};
use samara::{OriginalBox, Prompt};
use samara_image::{DistanceTransform, Mask};
use serde::{Deserialize, Serialize};

use samara_data::prompts::{
    BoxNoise, DepthWeights, NoiseShape, centre_of, noisy_box, random_pixel,
};

/// Pixels up to this depth, as a share of the largest one, are near the outline.
const NEAR_OUTLINE: f64 = 0.25;

/// How often a first click lies where, relative to the others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClickWeights {
    /// On the pixel that lies deepest in the object.
    pub center: f64,
    /// On a pixel drawn with its depth as weight: rather toward the middle.
    pub human: f64,
    /// On any pixel.
    pub uniform: f64,
    /// Near the outline.
    pub border: f64,
}

impl Default for ClickWeights {
    fn default() -> Self {
        Self {
            center: 1.0,
            human: 2.0,
            uniform: 2.5,
            border: 0.5,
        }
    }
}

impl ClickWeights {
    pub(super) fn validate(&self) -> Result<(), String> {
        let all = [self.center, self.human, self.uniform, self.border];
        let usable = all.iter().all(|w| (0.0..=1e6).contains(w)) && all.iter().sum::<f64>() > 0.0;
        if usable {
            return Ok(());
        }
        Err(format!(
            "placement = {all:?} are not numbers from 0 to 1e6, one of them above 0"
        ))
    }

    fn total(&self) -> f64 {
        self.center + self.human + self.uniform + self.border
    }
}

/// An object with what its clicks are drawn from.
pub(super) struct Clicker<'a> {
    mask: &'a Mask,
    depth: DistanceTransform,
}

impl<'a> Clicker<'a> {
    pub(super) fn new(mask: &'a Mask) -> Self {
        Self {
            mask,
            depth: DistanceTransform::new(mask),
        }
    }

    /// A first click; `None` on an empty mask.
    pub(super) fn first(&self, weights: &ClickWeights, rng: &mut impl Rng) -> Option<Prompt> {
        let mut at = rng.random::<f64>() * weights.total();
        let mut falls = |weight: f64| {
            at -= weight;
            at < 0.0
        };
        let pixel = if falls(weights.center) {
            let deepest = self.depth.deepest(|_, _| true);
            deepest.map(|(x, y, _)| (x, y))
        } else if falls(weights.human) {
            DepthWeights::new(self.mask, &self.depth).map(|weights| weights.draw(rng))
        } else if falls(weights.border) {
            self.near_outline(rng)
        } else {
            random_pixel(self.mask, rng)
        };
        let at = centre_of(pixel?);
        Some(Prompt::point(at.x, at.y))
    }

    fn near_outline(&self, rng: &mut impl Rng) -> Option<(u32, u32)> {
        let (_, _, deepest) = self.depth.deepest(|_, _| true)?;
        let limit = (deepest * NEAR_OUTLINE).max(1.0);
        let (width, height) = (self.mask.width(), self.mask.height());
        let near = Mask::from_fn(width, height, |x, y| {
            self.mask.get(x, y) && self.depth.get(x, y) <= limit
        });
        random_pixel(&near, rng)
    }

    /// A box that was drawn tightly, and one that was drawn loosely.
    pub(super) fn boxes(&self, rng: &mut impl Rng) -> Vec<OriginalBox> {
        let Some(bbox) = self.mask.bbox() else {
            return Vec::new();
        };
        let size = (self.mask.width(), self.mask.height());
        let drawn = [0.03, 0.2].map(|share| {
            let noise = BoxNoise {
                shape: NoiseShape::Uniform,
                share,
                max_pixels: 1e6,
            };
            noisy_box(bbox, size, &noise, rng)
        });
        drawn.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn clicks_lie_where_they_should() {
        let mask = Mask::from_fn(60, 50, |x, y| (10..40).contains(&x) && (5..45).contains(&y));
        let clicker = Clicker::new(&mask);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let none = ClickWeights {
            center: 0.0,
            human: 0.0,
            uniform: 0.0,
            border: 0.0,
        };
        let mut mean_depth = |weights: ClickWeights| {
            let depth = |prompt: Prompt| {
                let at = prompt.clicks()[0].at;
                assert!(mask.get(at.x as u32, at.y as u32));
                clicker.depth.get(at.x as u32, at.y as u32)
            };
            let draw = |_| depth(clicker.first(&weights, &mut rng).unwrap());
            (0..300).map(draw).sum::<f64>() / 300.0
        };
        let center = mean_depth(ClickWeights {
            center: 1.0,
            ..none
        });
        let human = mean_depth(ClickWeights { human: 1.0, ..none });
        let uniform = mean_depth(ClickWeights {
            uniform: 1.0,
            ..none
        });
        let border = mean_depth(ClickWeights {
            border: 1.0,
            ..none
        });
        assert_eq!(center, 15.0);
        assert!(center > human && human > uniform + 1.0 && uniform > border + 2.0);
        assert!(border <= 3.75, "{border}");
        assert!(none.validate().is_err());
        assert!(ClickWeights::default().validate().is_ok());
        let empty = Mask::new(4, 4);
        assert!(
            Clicker::new(&empty)
                .first(&ClickWeights::default(), &mut rng)
                .is_none()
        );
        assert!(Clicker::new(&empty).boxes(&mut rng).is_empty());
        assert_eq!(clicker.boxes(&mut rng).len(), 2);
    }
}
