//! The rounds of one object.

use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use samara::{Click, OriginalBox, OriginalPx};
use samara_image::Mask;

use super::click::random_correction;
use super::error::PromptError;
use super::first::{FirstPrompt, centre_of, damaged, noisy_box, random_pixel};
use super::recipe::{Plan, Recipe, Simulation};

/// What the model is asked in one round, in pixels of the true mask.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PromptState {
    /// All clicks so far, in order, on centres of pixels (one given from outside as it is).
    pub clicks: Vec<Click>,
    /// The box.
    pub bbox: Option<OriginalBox>,
    /// A mask prompt, in the first round only.
    pub mask: Option<Arc<Mask>>,
    /// The logits of the previous round are the mask prompt: of the mask with the highest
    /// predicted IoU, before any threshold. True after the first round.
    pub feed_mask: bool,
}

/// A simulated user who wants one object.
///
/// ```
/// use std::sync::Arc;
/// use rand::SeedableRng;
/// use rand_chacha::ChaCha8Rng;
/// use samara_image::Mask;
/// use samara_data::prompts::{ObjectSimulation, PromptError, Simulation};
///
/// # fn main() -> Result<(), PromptError> {
/// let mut rng = ChaCha8Rng::seed_from_u64(1);
/// let simulation = Simulation::sam();
/// let plan = simulation.plan(&mut rng);
/// let truth = Arc::new(Mask::from_fn(64, 64, |x, y| x < 20 && y < 30));
/// let mut object = ObjectSimulation::new(&simulation, truth, plan, None, rng)?;
/// let prediction = Mask::new(64, 64); // of `object.prompt()`, by the model
/// object.correct(&prediction)?;
/// assert!(object.prompt().feed_mask);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ObjectSimulation {
    recipe: Recipe,
    truth_clicks: f64,
    truth: Arc<Mask>,
    plan: Plan,
    round: u32,
    prompt: PromptState,
    rng: ChaCha8Rng,
}

impl ObjectSimulation {
    /// The first round: `first_click`, such as one that several objects share, or else a prompt of
    /// the planned kind.
    ///
    /// # Errors
    /// [`PromptError::EmptyTruth`] when `truth` has no pixel set, [`PromptError::FirstClick`] when
    /// `first_click` is not on it, and those of [`Simulation::validate`].
    pub fn new(
        simulation: &Simulation,
        truth: Arc<Mask>,
        plan: Plan,
        first_click: Option<OriginalPx>,
        mut rng: ChaCha8Rng,
    ) -> Result<Self, PromptError> {
        simulation.validate()?;
        let prompt = match first_click {
            Some(at) => given(&truth, at)?,
            None => first(simulation, &truth, plan.first, &mut rng)?,
        };
        Ok(Self {
            recipe: simulation.recipe,
            truth_clicks: simulation.truth_clicks,
            truth,
            plan,
            round: 0,
            prompt,
            rng,
        })
    }

    /// The prompt of this round.
    pub fn prompt(&self) -> &PromptState {
        &self.prompt
    }

    /// The round, counted from 0.
    pub fn round(&self) -> u32 {
        self.round
    }

    /// The object.
    pub fn truth(&self) -> &Arc<Mask> {
        &self.truth
    }

    /// Whether the model is asked for several masks in this round: with SAM when there is exactly
    /// one prompt (a click, the box, or a mask, also one that is fed back), with SAM 2 when there
    /// is at most one point (a box is two).
    pub fn multimask(&self) -> bool {
        let prompt = &self.prompt;
        let boxes = usize::from(prompt.bbox.is_some());
        match self.recipe {
            Recipe::Sam => {
                let masks = usize::from(prompt.mask.is_some() || prompt.feed_mask);
                prompt.clicks.len() + boxes + masks == 1
            }
            Recipe::Sam2 => prompt.clicks.len() + 2 * boxes <= 1,
        }
    }

    /// Goes to the next round, given the mask that the model predicted in this one. Returns the
    /// new click; `None` in an empty round.
    ///
    /// # Errors
    /// [`PromptError::Size`] when the prediction is not of the true mask's size.
    pub fn correct(&mut self, prediction: &Mask) -> Result<Option<Click>, PromptError> {
        let round = self.round + 1;
        let mut click = None;
        if !self.plan.empty_rounds.contains(&round) {
            click = random_correction(&self.truth, prediction, &mut self.rng)?;
            if self.rng.random_bool(self.truth_clicks) {
                click = random_pixel(&self.truth, &mut self.rng).map(positive);
            }
        }
        self.prompt.clicks.extend(click);
        self.prompt.mask = None;
        self.prompt.feed_mask = true;
        self.round = round;
        Ok(click)
    }
}

fn positive(pixel: (u32, u32)) -> Click {
    Click {
        at: centre_of(pixel),
        positive: true,
    }
}

fn given(truth: &Mask, at: OriginalPx) -> Result<PromptState, PromptError> {
    if truth.is_empty() {
        return Err(PromptError::EmptyTruth);
    }
    let OriginalPx { x, y } = at;
    if !at.is_inside(truth.width(), truth.height()) || !truth.get(x as u32, y as u32) {
        return Err(PromptError::FirstClick { x, y });
    }
    let positive = true;
    Ok(PromptState {
        clicks: vec![Click { at, positive }],
        ..PromptState::default()
    })
}

fn first(
    simulation: &Simulation,
    truth: &Arc<Mask>,
    kind: FirstPrompt,
    rng: &mut ChaCha8Rng,
) -> Result<PromptState, PromptError> {
    let bbox = truth.bbox().ok_or(PromptError::EmptyTruth)?;
    let mut prompt = PromptState::default();
    match kind {
        FirstPrompt::CentreClick => {
            let deepest = truth.most_interior().map(|(x, y, _)| positive((x, y)));
            prompt.clicks.extend(deepest);
        }
        FirstPrompt::RandomClick => {
            prompt.clicks.extend(random_pixel(truth, rng).map(positive));
        }
        FirstPrompt::Box => {
            let size = (truth.width(), truth.height());
            prompt.bbox = noisy_box(bbox, size, &simulation.box_noise, rng);
        }
        FirstPrompt::Mask => {
            let damaged = damaged(truth, simulation.mask_damage, rng);
            prompt.mask = Some(damaged.map_or_else(|| Arc::clone(truth), Arc::new));
        }
    }
    Ok(prompt)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::super::recipe::FirstPromptWeights;
    use super::*;

    fn disc(cx: u32, cy: u32, r: u32) -> Mask {
        Mask::from_fn(160, 120, |x, y| {
            x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2) < r * r
        })
    }

    fn with(simulation: &Simulation, truth: Mask, seed: u64) -> ObjectSimulation {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let plan = simulation.plan(&mut rng);
        ObjectSimulation::new(simulation, Arc::new(truth), plan, None, rng).unwrap()
    }

    fn starting(kind: FirstPrompt, simulation: Simulation) -> Simulation {
        let weight = |of| f64::from(u8::from(kind == of));
        Simulation {
            first: FirstPromptWeights {
                centre_click: weight(FirstPrompt::CentreClick),
                random_click: weight(FirstPrompt::RandomClick),
                bbox: weight(FirstPrompt::Box),
                mask: weight(FirstPrompt::Mask),
            },
            ..simulation
        }
    }

    fn on(mask: &Mask, click: &Click) -> bool {
        assert_eq!((click.at.x.fract(), click.at.y.fract()), (0.5, 0.5));
        mask.get(click.at.x as u32, click.at.y as u32)
    }

    #[test]
    fn every_kind_of_first_prompt_is_what_it_says() {
        let truth = disc(60, 50, 20);
        for seed in 0..50 {
            let prompt = |kind, simulation| {
                let object = with(&starting(kind, simulation), truth.clone(), seed);
                (object.prompt().clone(), object.multimask())
            };
            let (centre, several) = prompt(FirstPrompt::CentreClick, Simulation::sam());
            assert_eq!(centre.clicks, [positive((60, 50))]);
            assert!(several && centre.bbox.is_none() && centre.mask.is_none() && !centre.feed_mask);
            let (random, several) = prompt(FirstPrompt::RandomClick, Simulation::sam2());
            assert!(several && random.clicks.len() == 1 && random.clicks[0].positive);
            assert!(on(&truth, &random.clicks[0]));
            let (boxed, several) = prompt(FirstPrompt::Box, Simulation::sam());
            assert!(several && boxed.clicks.is_empty() && boxed.mask.is_none());
            let edges = boxed.bbox.unwrap();
            assert!((edges.center().x - 60.5).abs() < 10.0 && edges.width() > 20.0);
            // A box is two points to SAM 2.
            assert!(!prompt(FirstPrompt::Box, Simulation::sam2()).1);
            let (mask, several) = prompt(FirstPrompt::Mask, Simulation::sam2());
            assert!(several && mask.clicks.is_empty() && mask.bbox.is_none());
            assert_eq!(mask.mask.as_deref(), Some(&truth));
        }
    }

    #[test]
    fn a_damaged_mask_is_given_once() {
        let simulation = Simulation {
            mask_damage: 0.2,
            ..starting(FirstPrompt::Mask, Simulation::sam2())
        };
        let truth = disc(60, 50, 20);
        let mut object = with(&simulation, truth.clone(), 4);
        assert_ne!(object.prompt().mask.as_deref(), Some(&truth));
        object.correct(&truth).unwrap();
        assert_eq!(object.prompt().mask, None);
        assert!(object.prompt().feed_mask && object.multimask());
        object.correct(&truth).unwrap();
        assert!(!object.multimask());
    }

    #[test]
    fn clicks_correct_both_kinds_of_error_evenly() {
        let (truth, prediction) = (disc(60, 50, 20), disc(75, 50, 20));
        let wrong = truth.xor(&prediction).unwrap();
        let mut object = with(&Simulation::sam(), truth.clone(), 8);
        object.plan.empty_rounds.clear();
        let (mut positives, mut left) = (0_u32, 0_u32);
        for _ in 0..10_000 {
            let click = object.correct(&prediction).unwrap().unwrap();
            assert!(on(&wrong, &click));
            assert_eq!(click.positive, on(&truth, &click));
            positives += u32::from(click.positive);
            left += u32::from(click.at.y < 50.0);
        }
        assert!(positives.abs_diff(5000) < 200, "{positives} positive");
        let above = wrong.crop(0, 0, 160, 50).area() * 10_000 / wrong.area();
        assert!(
            u64::from(left).abs_diff(above) < 200,
            "{left} in the upper half"
        );
    }

    #[test]
    fn sam2_draws_a_tenth_of_the_clicks_from_the_object() {
        let (truth, prediction) = (disc(60, 50, 20), disc(60, 50, 25));
        let mut object = with(&Simulation::sam2(), truth.clone(), 8);
        let mut positives = 0_u32;
        for _ in 0..10_000 {
            let click = object.correct(&prediction).unwrap().unwrap();
            assert_eq!(click.positive, on(&truth, &click));
            positives += u32::from(click.positive);
        }
        assert!(positives.abs_diff(1000) < 120, "{positives} positive");
    }

    #[test]
    fn an_all_correct_prediction_yields_a_background_click() {
        let truth = disc(60, 50, 20);
        for seed in 0..50 {
            let mut object = with(&Simulation::sam(), truth.clone(), seed);
            object.plan.empty_rounds.clear();
            let click = object.correct(&truth).unwrap().unwrap();
            assert!(!click.positive && !on(&truth, &click));
            let mut all = with(&Simulation::sam(), Mask::full(70, 50), seed);
            all.plan.empty_rounds.clear();
            let click = all.correct(&Mask::full(70, 50)).unwrap().unwrap();
            assert!(click.positive && on(all.truth(), &click));
        }
    }

    #[test]
    fn sam_has_eleven_rounds_two_of_them_without_a_click() {
        let (truth, prediction) = (disc(60, 50, 20), disc(75, 50, 20));
        for seed in 0..30 {
            let simulation = Simulation::sam();
            let mut object = with(&simulation, truth.clone(), seed);
            let empty = object.plan.empty_rounds.clone();
            let before = object.prompt().clicks.len();
            assert!(object.multimask());
            for round in 1..simulation.rounds {
                let click = object.correct(&prediction).unwrap();
                assert_eq!(click.is_none(), empty.contains(&round));
                assert_eq!(object.round(), round);
                assert!(object.prompt().feed_mask && !object.multimask());
            }
            assert_eq!(object.prompt().clicks.len(), before + 8);
        }
    }

    #[test]
    fn a_seed_gives_the_same_rounds() {
        let run = |seed| {
            let mut object = with(&Simulation::sam2(), disc(60, 50, 20), seed);
            for _ in 1..8 {
                object.correct(&disc(70, 50, 20)).unwrap();
            }
            object.prompt().clone()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn a_given_first_click_is_taken_as_it_is() {
        let simulation = starting(FirstPrompt::Box, Simulation::sam());
        let first = |truth: &Mask, x, y| {
            let mut rng = ChaCha8Rng::seed_from_u64(0);
            let (plan, at) = (simulation.plan(&mut rng), Some(OriginalPx::new(x, y)));
            ObjectSimulation::new(&simulation, Arc::new(truth.clone()), plan, at, rng)
        };
        let truth = disc(60, 50, 20);
        let given = first(&truth, 61.25, 48.0).unwrap();
        let at = OriginalPx::new(61.25, 48.0);
        let positive = true;
        assert_eq!(given.prompt().clicks, [Click { at, positive }]);
        assert!(given.prompt().bbox.is_none());
        for (x, y) in [(0.0, 0.0), (-1.0, 50.0), (60.0, 1e9), (f64::NAN, 50.0)] {
            let refused = first(&truth, x, y);
            assert!(matches!(refused, Err(PromptError::FirstClick { .. })));
        }
        let refused = first(&Mask::new(9, 9), 1.0, 1.0);
        assert!(matches!(refused, Err(PromptError::EmptyTruth)));
    }

    #[test]
    fn single_pixels_and_whole_images_are_objects() {
        for simulation in [Simulation::sam(), Simulation::sam2()] {
            for seed in 0..40 {
                for truth in [
                    Mask::from_fn(65, 9, |x, y| (x, y) == (64, 8)),
                    Mask::full(65, 9),
                    Mask::full(1, 1),
                ] {
                    let mut object = with(&simulation, truth.clone(), seed);
                    let bbox = object.prompt().bbox;
                    assert!(bbox.is_none_or(|b| b.area() > 0.0));
                    let nothing = Mask::new(truth.width(), truth.height());
                    object.correct(&nothing).unwrap();
                    object.correct(&!&nothing).unwrap();
                    for click in &object.prompt().clicks {
                        assert_eq!(click.positive, on(&truth, click));
                    }
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_simulated_is_an_error() {
        let simulation = Simulation::sam();
        let new = |simulation: &Simulation, truth| {
            let mut rng = ChaCha8Rng::seed_from_u64(0);
            let plan = simulation.plan(&mut rng);
            ObjectSimulation::new(simulation, Arc::new(truth), plan, None, rng)
        };
        let empty = new(&simulation, Mask::new(5, 5));
        assert!(matches!(empty, Err(PromptError::EmptyTruth)));
        let broken = simulation.with_rounds(0);
        let broken = new(&broken, Mask::full(5, 5));
        assert!(matches!(
            broken,
            Err(PromptError::Setting { key: "rounds", .. })
        ));
        let mut object = new(&simulation, Mask::full(5, 5)).unwrap();
        object.plan.empty_rounds.clear();
        let before = object.prompt().clone();
        assert!(object.correct(&Mask::new(5, 6)).is_err());
        assert_eq!((object.round(), object.prompt()), (0, &before));
    }

    #[test]
    #[ignore = "a measurement"]
    fn speed() {
        let (truth, prediction) = (
            Mask::full(640, 640),
            Mask::from_fn(640, 640, |x, _| x > 300),
        );
        let mut object = with(&Simulation::sam2(), truth.clone(), 1);
        let start = std::time::Instant::now();
        for _ in 0..1000 {
            object.correct(&prediction).unwrap();
        }
        println!("a correction: {:?}", start.elapsed() / 1000);
        let start = std::time::Instant::now();
        for _ in 0..100 {
            super::super::eval_click(&truth, Some(&prediction), &[]).unwrap();
        }
        println!("an evaluation click: {:?}", start.elapsed() / 100);
    }
}
