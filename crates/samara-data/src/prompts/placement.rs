//! Where the clicks of an evaluation land: in the middle, anywhere, or rather toward the middle.

use std::fmt;
use std::str::FromStr;

use rand::{Rng, RngExt};
use samara::Click;
use samara_image::{Connectivity, DistanceTransform, Mask, components};
use serde::Serialize;

use super::click::{error_regions, eval_click};
use super::error::PromptError;
use super::first::{centre_of, random_pixel};

/// Where a click lands on what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// On the pixel that lies deepest: the protocol of SAM and of RITM.
    #[default]
    Center,
    /// On any pixel, each as likely as any other.
    Uniform,
    /// On a pixel drawn with its depth (distance to the nearest pixel outside) as weight: inside,
    /// rather toward the middle, rarely exactly in it.
    Human,
}

impl Placement {
    /// All placements.
    pub const ALL: [Self; 3] = [Self::Center, Self::Uniform, Self::Human];

    /// `center`, `uniform` or `human`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Center => "center",
            Self::Uniform => "uniform",
            Self::Human => "human",
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Placement {
    type Err = PromptError;

    fn from_str(text: &str) -> Result<Self, PromptError> {
        let named = Self::ALL.into_iter().find(|place| place.name() == text);
        named.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            PromptError::setting("placement", format!("{text:?}: expected one of {names}"))
        })
    }
}

/// Clicks on a region, of which the depth is measured once for any number of them.
#[derive(Debug)]
pub struct DepthWeights<'a> {
    region: &'a Mask,
    depth: &'a DistanceTransform,
    /// First row, and columns, of the region's box.
    top: u32,
    columns: std::ops::Range<u32>,
    /// Sum of the weights up to the end of every row of the box.
    sums: Vec<f64>,
}

impl<'a> DepthWeights<'a> {
    /// Of a region and the depth of its pixels, which may have been measured in a larger one.
    /// `None` of no pixels.
    pub fn new(region: &'a Mask, depth: &'a DistanceTransform) -> Option<Self> {
        let bbox = region.bbox()?;
        let mut weights = Self {
            region,
            depth,
            top: bbox.y,
            columns: bbox.x..bbox.x + bbox.width,
            sums: Vec::with_capacity(bbox.height as usize),
        };
        let mut sum = 0.0;
        for y in bbox.y..bbox.y + bbox.height {
            let row = weights.columns.clone().map(|x| weights.of(x, y));
            sum += row.sum::<f64>();
            weights.sums.push(sum);
        }
        Some(weights)
    }

    fn of(&self, x: u32, y: u32) -> f64 {
        if self.region.get(x, y) {
            self.depth.get(x, y)
        } else {
            0.0
        }
    }

    /// A pixel, drawn by weight.
    pub fn draw(&self, rng: &mut impl Rng) -> (u32, u32) {
        let total = self.sums.last().copied().unwrap_or(0.0);
        let at = rng.random::<f64>() * total;
        let last = self.sums.len() - 1;
        let row = self.sums.partition_point(|&sum| sum <= at).min(last);
        let y = self.top + row as u32;
        let mut rest = at - row.checked_sub(1).map_or(0.0, |before| self.sums[before]);
        let mut found = self.columns.start;
        for x in self.columns.clone() {
            let weight = self.of(x, y);
            // What rounding leaves over falls to the last pixel of the row.
            if weight > 0.0 {
                found = x;
                if rest < weight {
                    break;
                }
                rest -= weight;
            }
        }
        (found, y)
    }
}

/// The next click into an error of `prediction`: into the region where [`eval_click`] clicks, the
/// connected one around its click, at the given place within it.
///
/// Pixels in `clicked` are not clicked again; `None` when no other pixel is wrong.
///
/// # Errors
/// [`PromptError::Size`] when the sizes differ.
pub fn correction_at(
    placement: Placement,
    truth: &Mask,
    prediction: &Mask,
    clicked: &[Click],
    rng: &mut impl Rng,
) -> Result<Option<Click>, PromptError> {
    let deepest = eval_click(truth, Some(prediction), clicked)?;
    let Some(deepest) = deepest.filter(|_| placement != Placement::Center) else {
        return Ok(deepest);
    };
    let errors = error_regions(truth, prediction)?;
    let wrong = if deepest.positive {
        errors.false_negative
    } else {
        errors.false_positive
    };
    let (x, y) = (deepest.at.x as u32, deepest.at.y as u32);
    let parts = components(&wrong, Connectivity::Eight).into_iter();
    let around = parts.map(|part| part.mask()).find(|part| part.get(x, y));
    let region = around.unwrap_or(wrong);
    let mut free = region.clone();
    for click in clicked {
        let (x, y) = (click.at.x.floor(), click.at.y.floor());
        let within = |at: f64, side: u32| (0.0..f64::from(side)).contains(&at);
        if within(x, free.width()) && within(y, free.height()) {
            free.set(x as u32, y as u32, false);
        }
    }
    let pixel = if placement == Placement::Uniform {
        random_pixel(&free, rng)
    } else {
        let depth = DistanceTransform::new(&region);
        DepthWeights::new(&free, &depth).map(|weights| weights.draw(rng))
    };
    Ok(pixel.map(|pixel| Click {
        at: centre_of(pixel),
        ..deepest
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(29)
    }

    fn rect(x0: u32, y0: u32, w: u32, h: u32) -> Mask {
        Mask::from_fn(40, 30, |x, y| {
            (x0..x0 + w).contains(&x) && (y0..y0 + h).contains(&y)
        })
    }

    #[test]
    fn placements_have_names() {
        for placement in Placement::ALL {
            assert_eq!(
                placement.to_string().parse::<Placement>().unwrap(),
                placement
            );
        }
        let error = "centre".parse::<Placement>().unwrap_err().to_string();
        assert!(
            error.contains("\"centre\"") && error.contains("uniform"),
            "{error}"
        );
    }

    /// Pearson's chi-squared against the weights, and its degrees of freedom.
    fn chi_squared(counts: &HashMap<(u32, u32), u32>, region: &Mask) -> (f64, f64) {
        let depth = DistanceTransform::new(region);
        let total: f64 = region.iter_set().map(|(x, y)| depth.get(x, y)).sum();
        let draws = f64::from(counts.values().sum::<u32>());
        let terms = region.iter_set().map(|(x, y)| {
            let expected = draws * depth.get(x, y) / total;
            let found = f64::from(counts.get(&(x, y)).copied().unwrap_or(0));
            (found - expected).powi(2) / expected
        });
        (terms.sum(), region.area() as f64 - 1.0)
    }

    #[test]
    fn deeper_pixels_are_drawn_more_often_by_their_depth() {
        // Two parts, one of them at the edge of the image.
        let region = Mask::from_fn(40, 30, |x, y| {
            rect(5, 5, 9, 7).get(x, y) || rect(36, 0, 4, 5).get(x, y)
        });
        let depth = DistanceTransform::new(&region);
        let weights = DepthWeights::new(&region, &depth).unwrap();
        let mut rng = rng();
        let mut counts = HashMap::new();
        for _ in 0..40_000 {
            *counts.entry(weights.draw(&mut rng)).or_default() += 1;
        }
        assert!(counts.keys().all(|&(x, y)| region.get(x, y)));
        let (chi, freedom) = chi_squared(&counts, &region);
        // Mean and deviation of the chi-squared distribution.
        assert!(
            (chi - freedom).abs() < 4.0 * (2.0 * freedom).sqrt(),
            "{chi} {freedom}"
        );
        assert!(DepthWeights::new(&Mask::new(9, 9), &depth).is_none());
    }

    #[test]
    fn corrections_lie_in_the_region_of_the_deepest_error() {
        // Missing: 6 columns of the object, and a stray pixel. Too much: 2 columns.
        let truth = rect(5, 5, 20, 15).or(&rect(38, 28, 1, 1)).unwrap();
        let prediction = rect(11, 5, 16, 15);
        let lacking = rect(5, 5, 6, 15);
        let mut rng = rng();
        let mut next = |placement, clicked: &[Click]| {
            correction_at(placement, &truth, &prediction, clicked, &mut rng).unwrap()
        };
        let deepest = eval_click(&truth, Some(&prediction), &[]).unwrap();
        assert_eq!(next(Placement::Center, &[]), deepest);
        for placement in [Placement::Uniform, Placement::Human] {
            let clicks: Vec<Click> = (0..400).filter_map(|_| next(placement, &[])).collect();
            assert_eq!(clicks.len(), 400);
            let on = |c: &Click| c.positive && lacking.get(c.at.x as u32, c.at.y as u32);
            assert!(clicks.iter().all(on), "{placement}");
            let edge = clicks.iter().filter(|c| c.at.x < 6.0).count();
            // A sixth of the pixels, an eleventh of the depth.
            let range = match placement {
                Placement::Uniform => 45..90,
                _ => 18..62,
            };
            assert!(range.contains(&edge), "{placement}: {edge}");
        }
    }

    #[test]
    fn no_pixel_is_clicked_twice() {
        let truth = rect(10, 5, 3, 2);
        for placement in [Placement::Uniform, Placement::Human] {
            let mut rng = rng();
            let mut clicks: Vec<Click> = Vec::new();
            let nothing = Mask::new(40, 30);
            while let Some(click) =
                correction_at(placement, &truth, &nothing, &clicks, &mut rng).unwrap()
            {
                assert!(!clicks.contains(&click));
                clicks.push(click);
            }
            assert_eq!(clicks.len(), 6);
        }
    }

    #[test]
    fn without_an_error_there_is_no_correction() {
        let truth = rect(10, 5, 3, 2);
        let next = correction_at(Placement::Human, &truth, &truth, &[], &mut rng());
        assert_eq!(next.unwrap(), None);
        let other = Mask::new(30, 40);
        assert!(correction_at(Placement::Human, &truth, &other, &[], &mut rng()).is_err());
    }
}
