//! Fitting the two networks to what was seen.

use std::sync::atomic::{AtomicBool, Ordering};

use burn_optim::{AdamWConfig, GradientsParams};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use samara::{CandidateHead, INTENT_NUMBERS, Intent, intent_numbers};
use samara_model::burn::module::Module;
use samara_model::burn::tensor::activation::{log_softmax, sigmoid, softmax};
use samara_model::burn::tensor::{Device, Tensor, TensorData};

use super::observations::{Group, Observations};
use super::{CandidateHeadSpec, HeadWatcher};
use crate::TrainError;
use crate::dense::{DenseNetwork, Standardization};
use crate::recipe::{OptimizerSpec, ScheduleKind};
use crate::schedule::learning_rate;

/// Steps between two reports.
const REPORT_EVERY: u64 = 100;
/// How far in IoU candidates may be behind the best and still count as a match: the targets of the match
/// probabilities are a softmax of the true IoU at this temperature.
const MATCH_TEMPERATURE: f32 = 0.05;
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
        let groups = self.observations.groups.values();
        if groups.clone().all(|group| group.intents.is_empty()) {
            let why = "no object of the data gave an answer to learn from";
            return Err(TrainError::setting("candidate_head", why));
        }
        let rows = groups.flat_map(|group| group.features.chunks_exact(inputs));
        let scale = Standardization::of(&rows, inputs);
        self.device.seed(self.seed);

        let seen = scale.only(|i| CandidateHead::shows_quality(self.tokens, i));
        let network = self.network(inputs);
        let loss =
            |network: &DenseNetwork, rng: &mut ChaCha8Rng| self.iou_loss(network, &seen, rng);
        let Some(network) = self.optimize(network, Head::PredictedIou, loss, watcher, stop) else {
            return Ok(None);
        };
        let predicted_iou = seen.layers(&network)?;

        let rows = self.observations.groups.values();
        let rows = rows.flat_map(|group| group.features.chunks_exact(inputs));
        let scale = Standardization::of(&rows, inputs).with_plain(INTENT_NUMBERS);
        let network = self.network(inputs + INTENT_NUMBERS);
        let loss =
            |network: &DenseNetwork, rng: &mut ChaCha8Rng| self.match_loss(network, &scale, rng);
        let Some(network) = self.optimize(network, Head::Match, loss, watcher, stop) else {
            return Ok(None);
        };
        let matching = scale.layers(&network)?;
        let head = CandidateHead::new(self.tokens, predicted_iou.into(), matching.into());
        Ok(Some(head?))
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
        let groups: Vec<(usize, &Group)> = self.groups(|_| true);
        let (mut rows, mut truth) = (Vec::new(), Vec::new());
        for _ in 0..self.spec.batch {
            let (candidates, group, i) = draw(&groups, rng);
            let ious = &group.ious[i * candidates..][..candidates];
            let best = best(ious);
            rows.extend(seen.apply(group.row(candidates, i, best)));
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

    /// Cross-entropy of the match probabilities. An object that no candidate shows says little.
    fn match_loss(
        &self,
        network: &DenseNetwork,
        scale: &Standardization,
        rng: &mut ChaCha8Rng,
    ) -> Tensor<1> {
        let groups: Vec<(usize, &Group)> = self.groups(|candidates| candidates > 1);
        let Some(&(candidates, _)) = groups.first() else {
            // Of one candidate there is nothing to learn.
            return network
                .forward(Tensor::zeros([1, scale.inputs()], self.device))
                .mean()
                * 0.0;
        };
        let batch = self.spec.batch;
        let (mut rows, mut truth) = (Vec::new(), Vec::new());
        for _ in 0..batch {
            let (_, group, i) = draw(&groups[..1], rng);
            let intent = if rng.random_bool(WITHHELD) {
                Intent::Balanced
            } else {
                group.intents[i]
            };
            let told = intent_numbers(intent);
            for candidate in 0..candidates {
                let row: Vec<f32> = group.row(candidates, i, candidate).to_vec();
                rows.extend(scale.apply(&[&row[..], &told].concat()));
            }
            truth.extend(&group.ious[i * candidates..][..candidates]);
        }
        let answer = network.forward(self.tensor(rows, batch * candidates));
        let evidence = log_softmax(answer.reshape([batch, candidates]), 1);
        let truth: Tensor<2> = self.tensor(truth, batch);
        let target = softmax(truth.clone() / MATCH_TEMPERATURE, 1);
        let weight = truth.max_dim(1);
        (-(evidence * target).sum_dim(1) * weight).mean()
    }

    fn groups(&self, wanted: impl Fn(usize) -> bool) -> Vec<(usize, &Group)> {
        let groups = self.observations.groups.iter();
        let groups =
            groups.filter(|(candidates, group)| wanted(**candidates) && !group.intents.is_empty());
        groups
            .map(|(&candidates, group)| (candidates, group))
            .collect()
    }

    /// `[rows, values / rows]`.
    fn tensor(&self, values: Vec<f32>, rows: usize) -> Tensor<2> {
        let columns = values.len() / rows.max(1);
        Tensor::from_data(TensorData::new(values, [rows, columns]), self.device)
    }
}

impl Group {
    /// What is seen of a candidate of an answer.
    fn row(&self, candidates: usize, answer: usize, candidate: usize) -> &[f32] {
        let width = self.features.len() / self.ious.len();
        &self.features[(answer * candidates + candidate) * width..][..width]
    }
}

/// Any answer, each as likely as any other.
fn draw<'a>(groups: &[(usize, &'a Group)], rng: &mut ChaCha8Rng) -> (usize, &'a Group, usize) {
    let count = |(_, group): &(usize, &Group)| group.intents.len();
    let mut at = rng.random_range(0..groups.iter().map(count).sum::<usize>());
    for group in groups {
        if at < count(group) {
            return (group.0, group.1, at);
        }
        at -= count(group);
    }
    (groups[0].0, groups[0].1, 0)
}

/// The position of the highest, the first of equals.
fn best(ious: &[f32]) -> usize {
    (0..ious.len())
        .rev()
        .max_by(|&a, &b| ious[a].total_cmp(&ious[b]))
        .unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use samara::CandidateFeatures;

    use super::super::observations::Observation;
    use super::*;

    const TOKENS: usize = 4;

    struct Quiet(Vec<FitProgress>);

    impl HeadWatcher for Quiet {
        fn collected(&mut self, _: u64, _: u64) {}

        fn fitted(&mut self, progress: &FitProgress) {
            self.0.push(*progress);
        }
    }

    /// Number 2 of a candidate is its IoU, were it meant. Objects are meant where number 13 is highest, segments
    /// where it is lowest.
    fn observation(rng: &mut ChaCha8Rng, intent: Intent) -> Observation {
        let inputs = CandidateHead::inputs(TOKENS);
        let mut features: Vec<f32> = (0..3 * inputs)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        let depth: Vec<f32> = features.chunks_exact(inputs).map(|row| row[13]).collect();
        let order = |a: &usize, b: &usize| depth[*a].total_cmp(&depth[*b]);
        let meant = match intent {
            Intent::Segments => (0..3).min_by(order),
            _ => (0..3).max_by(order),
        };
        let mut ious = vec![0.1; 3];
        for (i, row) in features.chunks_exact_mut(inputs).enumerate() {
            row[2] = rng.random_range(0.0..1.0);
            if Some(i) == meant {
                ious[i] = 0.4 + 0.5 * row[2];
            }
        }
        Observation {
            intent,
            features,
            ious,
        }
    }

    fn fit(observations: &Observations, stop: bool) -> (Option<CandidateHead>, Vec<FitProgress>) {
        let spec = CandidateHeadSpec {
            steps: 400,
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
        for i in 0..1500 {
            let intent = [Intent::Objects, Intent::Segments][i % 2];
            observations.add(observation(&mut rng, intent));
        }
        let (head, progress) = fit(&observations, false);
        let head = head.unwrap();
        assert_eq!(progress.len(), 8);
        let (first, last) = (progress[0], progress[3]);
        assert!(first.head == Head::PredictedIou && last.loss < first.loss);

        let inputs = CandidateHead::inputs(TOKENS);
        let (mut right, mut error, mut balanced) = (0, 0.0, 0);
        for i in 0..200 {
            let intent = [Intent::Objects, Intent::Segments][i % 2];
            let unseen = observation(&mut rng, intent);
            let best = best(&unseen.ious);
            // The first token is none of the candidates.
            let values = [vec![0.0; inputs], unseen.features].concat();
            let features = CandidateFeatures {
                tokens: TOKENS,
                values,
            };
            let chosen = |intent| {
                let p = head.match_probabilities(&features, 1..TOKENS, intent);
                let sum: f32 = p.iter().map(|p| p.0).sum();
                assert!((sum - 1.0).abs() < 1e-5);
                (0..3).max_by(|&a, &b| p[a].0.total_cmp(&p[b].0)).unwrap()
            };
            right += usize::from(chosen(intent) == best);
            balanced += usize::from(chosen(Intent::Balanced) == best);
            error += (head.predicted_iou(&features, best + 1).0 - unseen.ious[best]).abs();
        }
        assert!(right > 170, "{right} of 200");
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
