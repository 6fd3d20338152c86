//! What an evaluation does.

use samara::{ImageLimits, Intent, Zoom};
use samara_data::prompts::Placement;
use serde::{Serialize, Serializer};

/// What is evaluated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvalOptions {
    /// Where first clicks land. Each is a prompt of its own; further clicks, and with them `NoC`,
    /// begin with the one in the center, or without it with the first draw of the first placement
    /// in the order of [`Placement`].
    pub clicks_at: Vec<Placement>,
    /// First clicks on every object at each placement that is drawn.
    pub draws: usize,
    /// Clicks are drawn from this seed, the names of data set and image, the object and the
    /// number of the draw.
    pub seed: u64,
    /// Where further clicks land in the error region.
    pub further_clicks_at: Placement,
    /// What all prompts are said to mean.
    pub intent: Intent,
    /// Whether small objects are looked at again, by the first of the models.
    #[serde(serialize_with = "as_text")]
    pub zoom: Zoom,
    /// Clicks that every object gets, 1 to 20. The default is 5: enough for the figures that are
    /// usually compared (1, 3, 5), at half the cost of 9.
    pub clicks: usize,
    /// Also count the clicks to reach an IoU of 0.80, 0.85 and 0.90, up to 20 clicks an object.
    pub noc: bool,
    /// At most as many objects of an image, evenly spread over its annotations.
    pub max_objects: Option<usize>,
    /// At most as many images, evenly spread over the split.
    pub limit: Option<usize>,
    /// Objects of fewer original pixels are skipped.
    pub min_area: u64,
    /// Objects of more original pixels are skipped.
    pub max_area: Option<u64>,
    /// Limits for images.
    #[serde(skip)]
    pub limits: ImageLimits,
}

impl Default for EvalOptions {
    fn default() -> Self {
        Self {
            clicks_at: Placement::ALL.to_vec(),
            draws: 3,
            seed: 0,
            further_clicks_at: Placement::Center,
            intent: Intent::Balanced,
            zoom: Zoom::Off,
            clicks: 5,
            noc: false,
            max_objects: None,
            limit: None,
            min_area: 1,
            max_area: None,
            limits: ImageLimits::default(),
        }
    }
}

impl EvalOptions {
    /// The placements of first clicks, each once and in order; without any, the center.
    pub fn placements(&self) -> Vec<Placement> {
        let asked = |placement: &Placement| self.clicks_at.contains(placement);
        match self.clicks_at.as_slice() {
            [] => vec![Placement::Center],
            _ => Placement::ALL.into_iter().filter(asked).collect(),
        }
    }

    /// First clicks on every object at a placement; the center is one.
    pub fn draws_of(&self, placement: Placement) -> usize {
        match placement {
            Placement::Center => 1,
            Placement::Uniform | Placement::Human => self.draws.max(1),
        }
    }
}

fn as_text<S: Serializer>(zoom: &Zoom, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(zoom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placements_come_once_and_in_order() {
        use Placement::{Center, Human, Uniform};
        let of = |clicks_at: &[Placement]| {
            let clicks_at = clicks_at.to_vec();
            let options = EvalOptions {
                clicks_at,
                ..EvalOptions::default()
            };
            options.placements()
        };
        assert_eq!(of(&[Human, Center, Human]), [Center, Human]);
        assert_eq!(of(&[]), [Center]);
        assert_eq!(of(&Placement::ALL), [Center, Uniform, Human]);
        let options = EvalOptions::default();
        assert_eq!(Placement::ALL.map(|p| options.draws_of(p)), [1, 3, 3]);
    }
}
