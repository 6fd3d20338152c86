//! How the user is simulated, and what one object's rounds will be.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::error::PromptError;
use super::first::{BoxNoise, FirstPrompt, NoiseShape};

/// Whose rules are followed where they are not numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// SAM (Kirillov et al., 2023, appendix A).
    Sam,
    /// SAM 2 (its released training code).
    Sam2,
}

/// A simulated user: a first prompt, then a corrective click a round, at random in the error
/// region of the last prediction.
///
/// In a recipe file only `recipe` is required; what is not given is as in
/// [`sam`](Self::sam) or [`sam2`](Self::sam2).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawSimulation")]
pub struct Simulation {
    /// The rule for several masks at once, and all values that are not given.
    pub recipe: Recipe,
    /// Rounds for one object, the first prompt included: 11 (SAM), 8 (SAM 2).
    pub rounds: u32,
    /// Rounds in which nothing is added but the logits of the previous round: the last one, the
    /// others at random. With SAM a fifth of the rounds after the first (2 of 10) if it is not
    /// given, with SAM 2 none.
    pub empty_rounds: u32,
    /// How often each kind of first prompt is given.
    pub first: FirstPromptWeights,
    /// How a box differs from the tight one.
    pub box_noise: BoxNoise,
    /// The share of corrective clicks that are drawn from the object instead of the error region:
    /// 0 (SAM), 0.1 (SAM 2).
    pub truth_clicks: f64,
    /// How far a mask given as the first prompt is grown or shrunk at most, as a share of the
    /// square root of its area; 0 gives the true mask.
    pub mask_damage: f64,
}

/// How often each kind of first prompt is given, relative to the others.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FirstPromptWeights {
    /// A click on the pixel that lies deepest in the object.
    pub centre_click: f64,
    /// A click on any pixel of the object.
    pub random_click: f64,
    /// A noisy box.
    #[serde(rename = "box")]
    pub bbox: f64,
    /// The mask.
    pub mask: f64,
}

impl FirstPromptWeights {
    /// A click or a box: SAM, and SAM 2 on single images.
    pub const IMAGES: Self = Self {
        centre_click: 0.0,
        random_click: 0.5,
        bbox: 0.5,
        mask: 0.0,
    };
    /// SAM 2 on video: half of the time the mask.
    pub const VIDEO: Self = Self {
        centre_click: 0.0,
        random_click: 0.25,
        bbox: 0.25,
        mask: 0.5,
    };

    fn all(&self) -> [(FirstPrompt, f64); 4] {
        [
            (FirstPrompt::CentreClick, self.centre_click),
            (FirstPrompt::RandomClick, self.random_click),
            (FirstPrompt::Box, self.bbox),
            (FirstPrompt::Mask, self.mask),
        ]
    }

    fn draw(&self, rng: &mut impl Rng) -> FirstPrompt {
        let usable = || self.all().into_iter().filter(|&(_, weight)| weight > 0.0);
        let mut left = rng.random::<f64>() * usable().map(|(_, weight)| weight).sum::<f64>();
        let mut drawn = FirstPrompt::RandomClick;
        for (kind, weight) in usable() {
            drawn = kind;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        drawn
    }
}

impl Simulation {
    /// SAM: a random click or a box with normal noise, eight corrective clicks and two empty
    /// rounds.
    pub fn sam() -> Self {
        Self {
            recipe: Recipe::Sam,
            rounds: 11,
            empty_rounds: 2,
            first: FirstPromptWeights::IMAGES,
            box_noise: BoxNoise {
                shape: NoiseShape::Normal,
                share: 0.1,
                max_pixels: 20.0,
            },
            truth_clicks: 0.0,
            mask_damage: 0.0,
        }
    }

    /// SAM 2 on single images: a random click or a box with uniform noise, then seven corrective
    /// clicks.
    pub fn sam2() -> Self {
        Self {
            recipe: Recipe::Sam2,
            rounds: 8,
            empty_rounds: 0,
            box_noise: BoxNoise {
                shape: NoiseShape::Uniform,
                share: 0.1,
                max_pixels: 20.0,
            },
            truth_clicks: 0.1,
            ..Self::sam()
        }
    }

    /// The same user for another number of rounds, with the recipe's share of empty ones.
    pub fn with_rounds(self, rounds: u32) -> Self {
        Self {
            rounds,
            empty_rounds: self.recipe.empty_rounds(rounds),
            ..self
        }
    }

    /// Checks every value; a simulation read from a file has been checked.
    ///
    /// # Errors
    /// [`PromptError::Setting`], naming the key.
    pub fn validate(&self) -> Result<(), PromptError> {
        if self.rounds == 0 {
            return Err(PromptError::setting("rounds", "0, at least 1 is needed"));
        }
        if self.empty_rounds >= self.rounds {
            let what = format!(
                "{} of {} rounds, the first one has a prompt",
                self.empty_rounds, self.rounds
            );
            return Err(PromptError::setting("empty_rounds", what));
        }
        let weights = self.first.all().map(|(_, weight)| weight);
        if !weights.iter().all(|&w| w.is_finite() && w >= 0.0) || weights.iter().all(|&w| w == 0.0)
        {
            let what = format!("weights {weights:?}, expected none below 0 and one above");
            return Err(PromptError::setting("first", what));
        }
        for (key, value, max) in [
            ("box_noise.share", self.box_noise.share, 1.0),
            ("box_noise.max_pixels", self.box_noise.max_pixels, 1024.0),
            ("truth_clicks", self.truth_clicks, 1.0),
            ("mask_damage", self.mask_damage, 1.0),
        ] {
            if !(0.0..=max).contains(&value) {
                let what = format!("{value}, expected a number from 0 to {max}");
                return Err(PromptError::setting(key, what));
            }
        }
        Ok(())
    }

    /// Draws what an object's rounds will be. One plan for all objects of an image, as in SAM 2's
    /// code, gives them the same number of clicks in every round; one each is as in SAM's paper.
    pub fn plan(&self, rng: &mut impl Rng) -> Plan {
        let first = self.first.draw(rng);
        let mut empty_rounds = Vec::new();
        if self.empty_rounds > 0 {
            let last = self.rounds.saturating_sub(1);
            let mut needed = self.empty_rounds - 1;
            for round in 1..last {
                if rng.random_range(0..last - round) < needed {
                    empty_rounds.push(round);
                    needed -= 1;
                }
            }
            empty_rounds.push(last);
        }
        Plan {
            first,
            empty_rounds,
        }
    }
}

impl Recipe {
    fn empty_rounds(self, rounds: u32) -> u32 {
        match self {
            Self::Sam => rounds.saturating_sub(1) / 5,
            Self::Sam2 => 0,
        }
    }
}

/// What the rounds of one object will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The kind of the first prompt.
    pub first: FirstPrompt,
    /// The rounds that add nothing, counted from 0 (the first prompt), ascending.
    pub empty_rounds: Vec<u32>,
}

/// The form in a recipe file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSimulation {
    recipe: Recipe,
    rounds: Option<u32>,
    empty_rounds: Option<u32>,
    first: Option<FirstPromptWeights>,
    box_noise: Option<BoxNoise>,
    truth_clicks: Option<f64>,
    mask_damage: Option<f64>,
}

impl TryFrom<RawSimulation> for Simulation {
    type Error = PromptError;

    fn try_from(raw: RawSimulation) -> Result<Self, PromptError> {
        let usual = match raw.recipe {
            Recipe::Sam => Self::sam(),
            Recipe::Sam2 => Self::sam2(),
        };
        let usual = usual.with_rounds(raw.rounds.unwrap_or(usual.rounds));
        let simulation = Self {
            recipe: usual.recipe,
            rounds: usual.rounds,
            empty_rounds: raw.empty_rounds.unwrap_or(usual.empty_rounds),
            first: raw.first.unwrap_or(usual.first),
            box_noise: raw.box_noise.unwrap_or(usual.box_noise),
            truth_clicks: raw.truth_clicks.unwrap_or(usual.truth_clicks),
            mask_damage: raw.mask_damage.unwrap_or(usual.mask_damage),
        };
        simulation.validate()?;
        Ok(simulation)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(5)
    }

    #[test]
    fn first_prompts_come_as_often_as_their_weights_say() {
        let mut rng = rng();
        let weights = FirstPromptWeights {
            centre_click: 1.0,
            random_click: 2.0,
            bbox: 0.0,
            mask: 5.0,
        };
        let mut counts = [0_u32; 4];
        for _ in 0..10_000 {
            counts[weights.draw(&mut rng) as usize] += 1;
        }
        for (count, expected) in counts.into_iter().zip([1250, 2500, 0, 6250_u32]) {
            assert!(count.abs_diff(expected) < 200, "{counts:?}");
        }
        assert_eq!(counts[2], 0);
    }

    #[test]
    fn sam_has_an_empty_round_anywhere_after_the_first_and_one_at_the_end() {
        let mut rng = rng();
        let mut counts = [0_u32; 11];
        for _ in 0..9000 {
            let plan = Simulation::sam().plan(&mut rng);
            let [random, last] = plan.empty_rounds[..] else {
                panic!("{plan:?}");
            };
            assert_eq!(last, 10);
            counts[random as usize] += 1;
        }
        assert_eq!((counts[0], counts[10]), (0, 0));
        assert!(counts[1..10].iter().all(|c| c.abs_diff(1000) < 150));
    }

    #[test]
    fn fewer_rounds_have_fewer_empty_ones() {
        let empty = |simulation: Simulation, rounds| {
            let plan = simulation.with_rounds(rounds).plan(&mut rng());
            plan.empty_rounds.len()
        };
        let sam = [1, 3, 6, 11].map(|rounds| empty(Simulation::sam(), rounds));
        assert_eq!(sam, [0, 0, 1, 2]);
        assert_eq!(empty(Simulation::sam2(), 8), 0);
        let all = Simulation {
            empty_rounds: 4,
            rounds: 5,
            ..Simulation::sam()
        };
        assert_eq!(all.plan(&mut rng()).empty_rounds, [1, 2, 3, 4]);
        let same = |seed| Simulation::sam().plan(&mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(same(3), same(3));
    }

    #[test]
    fn a_recipe_file_gives_the_usual_values_and_takes_others() {
        let read = toml::from_str::<Simulation>;
        assert_eq!(read("recipe = 'sam'").unwrap(), Simulation::sam());
        assert_eq!(read("recipe = 'sam2'").unwrap(), Simulation::sam2());
        let short = read("recipe = 'sam'\nrounds = 3").unwrap();
        assert_eq!(short, Simulation::sam().with_rounds(3));
        let video = "recipe = 'sam2'\nfirst = { mask = 0.5, random_click = 0.25, box = 0.25 }\n\
                     box_noise = { shape = 'normal', share = 0.2, max_pixels = 7.0 }";
        let video = read(video).unwrap();
        assert_eq!(video.first, FirstPromptWeights::VIDEO);
        assert_eq!(video.box_noise.max_pixels, 7.0);
        let written = toml::to_string(&video).unwrap();
        assert_eq!(read(&written).unwrap(), video);
    }

    #[test]
    fn unusable_settings_are_refused_by_name() {
        for (text, name) in [
            ("recipe = 'sam3'", "sam3"),
            ("rounds = 3", "recipe"),
            ("recipe = 'sam'\nround = 3", "round"),
            ("recipe = 'sam'\nrounds = 0", "rounds: 0"),
            (
                "recipe = 'sam'\nempty_rounds = 11",
                "empty_rounds: 11 of 11",
            ),
            ("recipe = 'sam'\nfirst = { boxes = 1.0 }", "boxes"),
            ("recipe = 'sam'\nfirst = { box = 0.0 }", "first: weights"),
            (
                "recipe = 'sam'\nfirst = { box = 1.0, mask = -0.1 }",
                "first: weights",
            ),
            ("recipe = 'sam'\nfirst = { box = inf }", "first: weights"),
            ("recipe = 'sam'\ntruth_clicks = 1.5", "truth_clicks: 1.5"),
            ("recipe = 'sam'\nmask_damage = nan", "mask_damage: NaN"),
            (
                "recipe = 'sam'\nbox_noise = { shape = 'normal', share = -1.0, max_pixels = 1.0 }",
                "box_noise.share: -1",
            ),
        ] {
            let error = toml::from_str::<Simulation>(text).unwrap_err().to_string();
            assert!(error.contains(name), "{text}: {error}");
        }
    }
}
