//! Fitting the two networks to what was seen.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use burn_optim::{AdamWConfig, GradientsParams};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use samara::{CandidateHead, INTENT_NUMBERS, Intent, intent_numbers};
use samara_model::burn::module::Module;
use samara_model::burn::tensor::activation::{log_softmax, sigmoid, softmax};
use samara_model::burn::tensor::{Device, Tensor, TensorData};

use super::observations::Observations;
use super::spec::CandidateHeadSpec;
use crate::TrainError;
use crate::dense::{DenseNetwork, Standardization};
use crate::random::seeded;
use crate::recipe::{OptimizerSpec, ScheduleKind};
use crate::schedule::learning_rate;

/// Steps between two reports.
const REPORT_EVERY: u64 = 100;
/// How far in IoU candidates may be behind the best and still count as a match: the targets of the match
/// probabilities are a softmax of the true IoU at this temperature.
const MATCH_TEMPERATURE: f32 = 0.05;
/// Taken from the logits of tokens that are no candidates.
const LEFT_OUT: f32 = 1e4;
/// The share of examples whose intent is withheld, so that the head also learns the balance.
const WITHHELD: f64 = 1.0 / 3.0;
/// Errors of the predicted IoU below this count with their square, larger ones by their size: between mean and
/// median.
const IOU_BETA: f32 = 0.25;

/// Which of the two heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// The predicted IoU.
    PredictedIou,
    /// The match probability.
    Match,
}

/// What the training of the heads tells while it goes.
pub trait HeadWatcher {
    /// So many of all images have been answered.
    fn collected(&mut self, done: u64, all: u64);
    /// An image could not be read: which, and why, in one line.
    fn unreadable(&mut self, line: &str);
    /// A part of the fitting is done.
    fn fitted(&mut self, progress: &FitProgress);
}

/// A part of the fitting.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct FitProgress {
    /// Which head.
    pub head: Head,
    /// Steps made.
    pub step: u64,
    /// Steps of this head.
    pub steps: u64,
    /// Mean loss since the last report.
    pub loss: f64,
}

/// What is fitted to what.
pub(super) struct Fit<'a> {
    pub(super) observations: &'a Observations,
    /// Mask tokens of the model.
    pub(super) tokens: usize,
    pub(super) spec: &'a CandidateHeadSpec,
    pub(super) seed: u64,
    /// With gradients.
    pub(super) device: &'a Device,
}

impl Fit<'_> {
    /// Both heads, or `None` if `stop` was set.
    pub(super) fn run(
        &self,
        watcher: &mut dyn HeadWatcher,
        stop: &AtomicBool,
    ) -> Result<Option<CandidateHead>, TrainError> {
        let inputs = CandidateHead::inputs(self.tokens);
        if self.observations.asked.is_empty() {
            let why = "no object of the data gave an answer to learn from";
            return Err(TrainError::setting("candidate_head", why));
        }
        seeded(self.device, self.seed, || self.fit(inputs, watcher, stop))
    }

    fn fit(
        &self,
        inputs: usize,
        watcher: &mut dyn HeadWatcher,
        stop: &AtomicBool,
    ) -> Result<Option<CandidateHead>, TrainError> {
        let rows = self.observations.features.chunks_exact(inputs);
        let seen = Standardization::of(&rows, inputs);
        let seen = seen.only(|i| CandidateHead::shows_quality(self.tokens, i));
        let network = self.network(inputs);
        let loss =
            |network: &DenseNetwork, rng: &mut ChaCha8Rng| self.iou_loss(network, &seen, rng);
        let Some(network) = self.optimize(network, Head::PredictedIou, loss, watcher, stop) else {
            return Ok(None);
        };
        let predicted_iou = seen.layers(&network)?;

        let scale = Standardization::of(&rows, inputs).with_plain(INTENT_NUMBERS);
        let network = self.network(inputs + INTENT_NUMBERS);
        let loss =
            |network: &DenseNetwork, rng: &mut ChaCha8Rng| self.match_loss(network, &scale, rng);
        let Some(network) = self.optimize(network, Head::Match, loss, watcher, stop) else {
            return Ok(None);
        };
        let matching = scale.layers(&network)?;
        let head = CandidateHead::new(self.tokens, predicted_iou.into(), matching.into());
        Ok(Some(head.map_err(samara::Error::from)?))
    }

    fn network(&self, inputs: usize) -> DenseNetwork {
        DenseNetwork::new(inputs, self.spec.width, self.spec.dropout, self.device)
    }

    fn optimize(
        &self,
        mut network: DenseNetwork,
        head: Head,
        loss: impl Fn(&DenseNetwork, &mut ChaCha8Rng) -> Tensor<1>,
        watcher: &mut dyn HeadWatcher,
        stop: &AtomicBool,
    ) -> Option<DenseNetwork> {
        let spec = self.spec;
        let schedule = OptimizerSpec {
            lr: spec.lr,
            weight_decay: spec.weight_decay,
            betas: [0.9, 0.999],
            clip_norm: None,
            warmup: 0,
            schedule: ScheduleKind::Cosine,
            layer_decay: None,
        };
        let mut optimizer = AdamWConfig::new()
            .with_weight_decay(spec.weight_decay as f32)
            .init();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ head as u64);
        let mut sum = 0.0;
        for step in 0..spec.steps {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let loss = loss(&network, &mut rng);
            sum += f64::from(loss.clone().into_scalar::<f32>());
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            let lr = learning_rate(&schedule, step, spec.steps);
            network = optimizer.step(lr, network, gradients);
            let made = step + 1;
            if made.is_multiple_of(REPORT_EVERY) || made == spec.steps {
                let since = (made - 1) % REPORT_EVERY + 1;
                watcher.fitted(&FitProgress {
                    head,
                    step: made,
                    steps: spec.steps,
                    loss: sum / since as f64,
                });
                sum = 0.0;
            }
        }
        Some(network.valid())
    }

    /// Of the candidate of each answer that matches the truth best, as SAM's own head learns.
    fn iou_loss(
        &self,
        network: &DenseNetwork,
        seen: &Standardization,
        rng: &mut ChaCha8Rng,
    ) -> Tensor<1> {
        let (mut rows, mut truth) = (Vec::new(), Vec::new());
        for _ in 0..self.spec.batch {
            let (answer, candidates) = self.draw(rng);
            let ious = self.observations.ious_of(answer);
            let best = best(ious, candidates);
            rows.extend(seen.apply(self.observations.row(answer, best)));
            truth.push(ious[best]);
        }
        let answer = network.forward(self.tensor(rows, truth.len()));
        let truth = self.tensor(truth, self.spec.batch);
        let error = (sigmoid(answer) - truth).abs();
        let small = error.clone().clamp_max(IOU_BETA);
        // Half the square up to `IOU_BETA`, a line behind it.
        let smooth = small.clone().powi_scalar(2) * (0.5 / IOU_BETA) + (error - small);
        smooth.mean() * 10.0
    }

    /// Cross-entropy of the match probabilities, and the IoU that is lost by choosing by them. An object that no
    /// candidate shows says little.
    fn match_loss(
        &self,
        network: &DenseNetwork,
        scale: &Standardization,
        rng: &mut ChaCha8Rng,
    ) -> Tensor<1> {
        let (batch, tokens) = (self.spec.batch, self.tokens);
        let (mut rows, mut truth, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..batch {
            let (answer, candidates) = self.draw(rng);
            let intent = if rng.random_bool(WITHHELD) {
                Intent::Balanced
            } else {
                self.observations.asked[answer].intent
            };
            let told = intent_numbers(intent);
            for token in 0..tokens {
                let row = self.observations.row(answer, token);
                rows.extend(scale.apply(&[row, &told].concat()));
                left_out.push(if candidates.contains(&token) {
                    0.0
                } else {
                    LEFT_OUT
                });
            }
            truth.extend(self.observations.ious_of(answer));
        }
        let left_out: Tensor<2> = self.tensor(left_out, batch);
        let answer = network.forward(self.tensor(rows, batch * tokens));
        let evidence = log_softmax(answer.reshape([batch, tokens]) - left_out.clone(), 1);
        let truth: Tensor<2> = self.tensor(truth, batch) - left_out;
        let target = softmax(truth.clone() / MATCH_TEMPERATURE, 1);
        let best = truth.clone().max_dim(1);
        let lost = (best.clone() - truth).clamp(0.0, 1.0);
        let entropy = -(evidence.clone() * target).sum_dim(1) * best;
        (entropy + (evidence.exp() * lost).sum_dim(1)).mean()
    }

    /// Any answer, each as likely as any other, and the tokens that are candidates. Of the answers to an
    /// ambiguous prompt, half are taken as those to one that asks for a single mask.
    fn draw(&self, rng: &mut ChaCha8Rng) -> (usize, Range<usize>) {
        let answer = rng.random_range(0..self.observations.asked.len());
        let ambiguous = self.observations.asked[answer].ambiguous && self.tokens > 1;
        let first = usize::from(ambiguous && rng.random_bool(0.5));
        (answer, first..self.tokens)
    }

    /// `[rows, values / rows]`.
    fn tensor(&self, values: Vec<f32>, rows: usize) -> Tensor<2> {
        let columns = values.len() / rows.max(1);
        Tensor::from_data(TensorData::new(values, [rows, columns]), self.device)
    }
}

/// The candidate with the highest IoU, the first of equals.
fn best(ious: &[f32], candidates: Range<usize>) -> usize {
    let first = candidates.start;
    let best = candidates
        .rev()
        .max_by(|&a, &b| ious[a].total_cmp(&ious[b]));
    best.unwrap_or(first)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use samara::CandidateFeatures;

    use super::super::observations::{Asked, Observation};
    use super::*;

    const TOKENS: usize = 4;

    struct Quiet(Vec<FitProgress>);

    impl HeadWatcher for Quiet {
        fn collected(&mut self, _: u64, _: u64) {}

        fn unreadable(&mut self, _: &str) {}
        fn fitted(&mut self, progress: &FitProgress) {
            self.0.push(*progress);
        }
    }

    /// Number 2 of a candidate is its IoU, were it meant. Objects are meant where number 13 is highest, segments
    /// where it is lowest.
    fn observation(rng: &mut ChaCha8Rng, intent: Intent) -> Observation {
        let inputs = CandidateHead::inputs(TOKENS);
        let mut features: Vec<f32> = (0..TOKENS * inputs)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        let depth: Vec<f32> = features.chunks_exact(inputs).map(|row| row[13]).collect();
        let order = |a: &usize, b: &usize| depth[*a].total_cmp(&depth[*b]);
        let meant = match intent {
            Intent::Segments => (1..TOKENS).min_by(order),
            _ => (1..TOKENS).max_by(order),
        };
        let mut ious = vec![0.1; TOKENS];
        for (i, row) in features.chunks_exact_mut(inputs).enumerate() {
            row[2] = rng.random_range(0.0..1.0);
            // Which token it is.
            for (other, number) in row[inputs - TOKENS..].iter_mut().enumerate() {
                *number = f32::from(u8::from(other == i));
            }
            if Some(i) == meant {
                ious[i] = 0.4 + 0.5 * row[2];
            }
        }
        Observation {
            asked: Asked {
                intent,
                ambiguous: true,
            },
            features,
            ious,
        }
    }

    fn fit(observations: &Observations, stop: bool) -> (Option<CandidateHead>, Vec<FitProgress>) {
        let spec = CandidateHeadSpec {
            steps: 600,
            batch: 64,
            width: 24,
            dropout: 0.0,
            lr: 5e-3,
            ..CandidateHeadSpec::default()
        };
        let device = Device::flex().autodiff();
        let fit = Fit {
            observations,
            tokens: TOKENS,
            spec: &spec,
            seed: 5,
            device: &device,
        };
        let mut watcher = Quiet(Vec::new());
        let head = fit.run(&mut watcher, &AtomicBool::new(stop)).unwrap();
        (head, watcher.0)
    }

    #[test]
    fn the_heads_learn_what_is_meant_and_how_good_it_is() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut observations = Observations::default();
        for i in 0..3000 {
            let intent = [Intent::Objects, Intent::Segments][i % 2];
            observations.add(observation(&mut rng, intent));
        }
        let (head, progress) = fit(&observations, false);
        let head = head.unwrap();
        assert_eq!(progress.len(), 12);
        let (first, last) = (progress[0], progress[5]);
        assert!(first.head == Head::PredictedIou && last.loss < first.loss);

        let (mut right, mut single, mut error, mut balanced) = (0, 0, 0.0, 0);
        for i in 0..200 {
            let intent = [Intent::Objects, Intent::Segments][i % 2];
            let unseen = observation(&mut rng, intent);
            let best = best(&unseen.ious, 0..TOKENS);
            let features = CandidateFeatures {
                tokens: TOKENS,
                values: unseen.features,
            };
            let chosen = |intent, tokens: Range<usize>| {
                let p = head.match_probabilities(&features, tokens.clone(), intent);
                let sum: f32 = p.iter().map(|p| p.0).sum();
                assert!((sum - 1.0).abs() < 1e-5);
                let chosen = tokens.zip(p).max_by(|(_, a), (_, b)| a.0.total_cmp(&b.0));
                chosen.unwrap().0
            };
            right += usize::from(chosen(intent, 1..TOKENS) == best);
            single += usize::from(chosen(intent, 0..TOKENS) == best);
            balanced += usize::from(chosen(Intent::Balanced, 1..TOKENS) == best);
            error += (head.predicted_iou(&features, best).0 - unseen.ious[best]).abs();
        }
        assert!(right > 170, "{right} of 200");
        assert!(single > 160, "{single} of 200 as a single mask");
        assert!(balanced < 160, "{balanced} of 200 without the intent");
        assert!(error / 200.0 < 0.06, "{}", error / 200.0);

        assert!(fit(&observations, true).0.is_none());
    }

    #[test]
    fn nothing_to_learn_from_is_an_error() {
        let (observations, spec) = (Observations::default(), CandidateHeadSpec::default());
        let device = Device::flex().autodiff();
        let fit = Fit {
            observations: &observations,
            tokens: TOKENS,
            spec: &spec,
            seed: 0,
            device: &device,
        };
        let stop = AtomicBool::new(false);
        assert!(fit.run(&mut Quiet(Vec::new()), &stop).is_err());
    }
}
