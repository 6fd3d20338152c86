//! What the heads see of a model's answers on one image.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use samara::{CandidateFeatures, Embedding, MaskTokens, Prompt, Segmenter};
use samara_image::Mask;

use super::observations::{self, Observation, Observations};
use super::prompts::Clicker;
use super::spec::CandidateHeadSpec;
use crate::TrainError;
use samara_data::Example;
use samara_data::prompts::{Placement, correction_at};

/// Clicks after the first.
const CORRECTIONS: usize = 4;

/// A prompt for an object, by its position in the example.
struct Asked {
    object: usize,
    prompt: Prompt,
}

/// An answer with the true IoU of every mask token.
struct Answered {
    tokens: MaskTokens,
    ious: Vec<f32>,
}

/// Adds what is seen of the answers to the prompts that a user might give in this image.
pub(super) fn collect(
    segmenter: &Segmenter,
    example: &Example,
    spec: &CandidateHeadSpec,
    seed: u64,
    to: &mut Observations,
) -> Result<(), TrainError> {
    let embedding = segmenter.embed(&example.image)?;
    let image = ImageAsked {
        embedding: &embedding,
        example,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut first, mut boxes) = (Vec::new(), Vec::new());
    for (object, of) in example.objects.iter().enumerate() {
        let clicker = Clicker::new(&of.mask);
        let clicks = (0..spec.clicks).filter_map(|_| clicker.first(&spec.placement, &mut rng));
        first.extend(clicks.map(|prompt| Asked { object, prompt }));
        let drawn = clicker.boxes(&mut rng).into_iter();
        boxes.extend(drawn.map(|bbox| Asked {
            object,
            prompt: Prompt::new().with_box(bbox),
        }));
    }
    let answers = image.answer(&first)?;
    image.observe(&first, &answers, to);
    let answered = image.answer(&boxes)?;
    image.observe(&boxes, &answered, to);

    let mut open: Vec<(Asked, Answered)> = first.into_iter().zip(answers).collect();
    open.retain(|_| rng.random_bool(spec.corrections));
    for _ in 0..CORRECTIONS {
        let mut asked = Vec::with_capacity(open.len());
        for (before, answer) in open {
            asked.extend(image.correct(&before, &answer, &mut rng)?);
        }
        let answers = image.answer(&asked)?;
        image.observe(&asked, &answers, to);
        open = asked.into_iter().zip(answers).collect();
    }
    Ok(())
}

/// Whether the candidates behind the first token answer a prompt: a click that may mean several things.
fn is_ambiguous(prompt: &Prompt) -> bool {
    prompt.clicks().len() == 1 && prompt.box_prompt().is_none()
}

struct ImageAsked<'a> {
    embedding: &'a Embedding,
    example: &'a Example,
}

impl ImageAsked<'_> {
    fn truth(&self, asked: &Asked) -> &Mask {
        &self.example.objects[asked.object].mask
    }

    fn answer(&self, asked: &[Asked]) -> Result<Vec<Answered>, TrainError> {
        let prompts: Vec<Prompt> = asked.iter().map(|a| a.prompt.clone()).collect();
        let answers = self.embedding.decode(&prompts)?;
        let pairs = answers.into_par_iter().zip(asked);
        let answered = pairs.map(|(tokens, asked)| {
            let truth = self.truth(asked);
            let iou = |token| {
                let mask = self.embedding.mask_of(&tokens, token)?;
                Ok(mask.iou(truth) as f32)
            };
            let ious: Result<Vec<f32>, samara::Error> = (0..tokens.iou.len()).map(iou).collect();
            Ok(Answered {
                ious: ious?,
                tokens,
            })
        });
        answered.collect()
    }

    fn observe(&self, asked: &[Asked], answers: &[Answered], to: &mut Observations) {
        let see = |(asked, answer): (&Asked, &Answered)| {
            let features =
                CandidateFeatures::new(&answer.tokens, &asked.prompt, self.embedding.frame());
            Observation {
                asked: observations::Asked {
                    intent: self.example.intent,
                    ambiguous: is_ambiguous(&asked.prompt),
                },
                features: features.values,
                ious: answer.ious.clone(),
            }
        };
        let seen: Vec<Observation> = asked.par_iter().zip(answers).map(see).collect();
        seen.into_iter().for_each(|observation| to.add(observation));
    }

    /// The prompt with one more click into what is wrong with the mask that a user would go on from: half of
    /// the time the one with the highest score, else the best.
    fn correct(
        &self,
        before: &Asked,
        answer: &Answered,
        rng: &mut ChaCha8Rng,
    ) -> Result<Option<Asked>, TrainError> {
        let shown = usize::from(is_ambiguous(&before.prompt))..answer.ious.len();
        let by_score = rng.random_bool(0.5);
        let value = |&token: &usize| {
            if by_score {
                answer.tokens.iou[token].0
            } else {
                answer.ious[token]
            }
        };
        let token = shown
            .max_by(|a, b| value(a).total_cmp(&value(b)))
            .unwrap_or(0);
        let mask = self.embedding.mask_of(&answer.tokens, token)?;
        let placement = Placement::ALL[rng.random_range(0..Placement::ALL.len())];
        let clicks = before.prompt.clicks();
        let click = correction_at(placement, self.truth(before), &mask, clicks, rng);
        let click = click.map_err(|source| TrainError::Example {
            example: self.example.source.clone(),
            source: source.into(),
        })?;
        Ok(click.map(|click| {
            let clicks = clicks.iter().copied().chain([click]);
            let prompt = clicks.fold(Prompt::new(), Prompt::with_click);
            let logits = &answer.tokens.low_res_logits[token];
            Asked {
                object: before.object,
                prompt: prompt.with_mask(logits.clone()),
            }
        }))
    }
}
