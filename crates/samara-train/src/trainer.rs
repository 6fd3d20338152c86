//! The training loop.
//!
//! A run is determined by its recipe: which examples a step sees, their prompts and the order of
//! additions follow from the seed and the number of the step, neither from the number of threads
//! nor from interruptions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn_optim::GradientsParams;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use samara_kernels::denormals::{flush_denormals, flushing_pool};
use samara_model::burn::module::Module;
use samara_model::burn::tensor::Device;
use samara_model::checkpoint::{StorageType, save_model};
use samara_model::{ImageFeatures, Model, ModelConfig};

use crate::TrainError;
use crate::checkpoints::{AVERAGE, OPTIMIZER, WEIGHTS};
use crate::features::{FeatureCache, encode};
use crate::groups::Groups;
use crate::optimizer::Optimizer;
use crate::parameters::{Ema, all_finite, blend, learnable, scale_gradients, sum_gradients};
use crate::prepare;
use crate::recipe::{Recipe, Stage};
use crate::run_folder::RunFolder;
use crate::schedule::learning_rate;
use crate::step::{Learner, StepConfig, StepMetrics, StepReport, copied, rounds};
use samara_data::{Example, Loader, Sampler};

/// Steps in a row that are skipped before a run gives up.
const PATIENCE: u32 = 10;

/// Rounds of prompts in a validation.
const VALIDATION_ROUNDS: u32 = 2;

/// What a run tells while it goes.
pub trait Watcher {
    /// A step was made.
    fn step(&mut self, report: &StepReport);
    /// The validation examples were looked at.
    fn validation(&mut self, step: u64, metrics: &StepMetrics);
    /// Something worth a line.
    fn note(&mut self, text: &str);
}

/// A training run in a folder, which holds the recipe, checkpoints, the log and the model.
pub struct Trainer {
    recipe: Recipe,
    folder: RunFolder,
    config: ModelConfig,
    device: Device,
    data: Sampler,
    validation: Vec<Example>,
    groups: Groups,
    cache: Option<FeatureCache>,
    model: Model,
    /// The model on a device without gradients, in a stage in which its encoder does not learn: it
    /// encodes.
    frozen: Option<Model>,
    optimizer: Optimizer,
    ema: Option<Ema>,
    /// The model that training began with, on a device without gradients, where the recipe needs it.
    initial: Option<Model>,
    step: u64,
    /// Steps that were skipped since the last one that was not.
    failures: u32,
    /// All steps that were skipped.
    skipped: u64,
    /// What is to be told at the beginning.
    notes: Vec<String>,
    /// Images that could not be read, which were told.
    unreadable: BTreeSet<String>,
}

impl Trainer {
    /// Prepares a run in `out`, or resumes the one that is there: at its last checkpoint, with
    /// optimizer, average, schedule and randomness as they were.
    ///
    /// # Errors
    /// The recipe does not fit the machine, the data or the run that is in `out`; the model cannot
    /// be read. Nothing is written then.
    pub fn new(recipe: Recipe, out: &Path, device: &Device) -> Result<Self, TrainError> {
        let mut saved = RunFolder::look(out, &recipe)?;
        let data = prepare::data(&recipe)?;
        let device = device.clone().autodiff();
        let prepared = prepare::model(&recipe, saved.as_ref(), &device)?;
        let (config, model) = (prepared.config, prepared.model);
        let groups = Groups::new(&model, &recipe)?;
        let mut optimizer = Optimizer::new(&recipe.optimizer, &groups);
        for stage in &recipe.stages {
            let side = config.input_side() as u32;
            data.with_spec(prepare::example_spec(&recipe, stage, side))?;
        }
        let validation = prepare::validation_examples(&recipe, config.input_side() as u32)?;
        let cache = recipe.embedding_cache.as_ref();
        let cache = cache
            .map(|folder| FeatureCache::new(folder, &model, &config))
            .transpose()?;
        let step = saved.as_ref().map_or(0, |saved| saved.step);
        let damaged = saved
            .as_mut()
            .map(|saved| std::mem::take(&mut saved.damaged));
        let damaged = damaged.unwrap_or_default().into_iter();
        let notes = damaged.map(|line| format!("{line}; resumes after step {step}"));
        if let Some(saved) = saved {
            optimizer = optimizer.restore(saved.optimizer)?;
        }
        let needs_initial = recipe.blend.is_some() || recipe.losses.weights.retention > 0.0;
        let initial =
            needs_initial.then(|| prepare::initial_model(&recipe, &device.clone().inner()));
        let initial = initial.transpose()?;
        let average = prepared.average.unwrap_or_else(|| model.valid());
        Ok(Self {
            folder: RunFolder::open(out, &recipe, step)?,
            ema: recipe.ema.map(|decay| Ema::new(average, decay)),
            initial,
            recipe,
            config,
            device,
            data,
            validation,
            groups,
            cache,
            model,
            frozen: None,
            optimizer,
            step,
            failures: 0,
            skipped: 0,
            notes: notes.collect(),
            unreadable: BTreeSet::new(),
        })
    }

    /// The folder of the run, still locked.
    pub(crate) fn into_folder(self) -> RunFolder {
        self.folder
    }

    /// Steps made so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Steps from which nothing was learnt, because loss or gradient was not finite.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The model as it would be saved: the average if there is one, blended if the recipe says so.
    pub fn model(&self) -> Model {
        let trained = match &self.ema {
            Some(ema) => ema.model().clone(),
            None => self.model.valid(),
        };
        match (&self.initial, self.recipe.blend) {
            (Some(initial), Some(share)) => blend(initial.clone(), &trained, share),
            _ => trained,
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Trains to the end of the recipe, or until `stop` is set. Gives the file of the finished
    /// model, or `None` when it was stopped; what was learnt until then is in a checkpoint.
    ///
    /// # Errors
    /// A file cannot be written, data ran out, or loss and gradient are not finite any more.
    pub fn run(
        &mut self,
        watcher: &mut dyn Watcher,
        stop: &AtomicBool,
    ) -> Result<Option<PathBuf>, TrainError> {
        for note in self.notes.drain(..) {
            watcher.note(&note);
        }
        flush_denormals(|| {
            let steps = self.recipe.steps();
            // Stopped before it was validated.
            if self.is_time_to_validate() && !self.folder.is_validated(self.step) {
                self.validate_now(watcher, stop)?;
            }
            while self.step < steps && !stop.load(Ordering::Relaxed) {
                self.run_stage(watcher, stop)?;
            }
            if stop.load(Ordering::Relaxed) {
                self.save()?;
                return Ok(None);
            }
            self.save()?;
            if !all_finite(&self.model) {
                let (step, steps) = (self.step, self.failures);
                return Err(TrainError::NotFinite { step, steps });
            }
            let out = self.folder.model();
            self.save_model(&self.model(), &out)?;
            Ok(Some(out))
        })
    }

    /// Runs the rest of the current stage.
    fn run_stage(
        &mut self,
        watcher: &mut dyn Watcher,
        stop: &AtomicBool,
    ) -> Result<(), TrainError> {
        let recipe = self.recipe.clone();
        let (stage, first) = recipe.stage(self.step);
        let side = self.config.input_side() as u32;
        let sampler = self
            .data
            .with_spec(prepare::example_spec(&recipe, stage, side))?;
        let begin = (self.step - first) * stage.images_per_step as u64;
        let seed = recipe.seed.wrapping_add(first);
        let mut loader = Loader::new(&Arc::new(sampler), recipe.workers, seed, begin);
        self.model = learnable(self.model.clone(), &self.groups.learning(stage));
        self.frozen = (!self.groups.encoder_learns(stage)).then(|| self.model.valid());
        while self.step < first + stage.steps && !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let Some((gradients, metrics)) = self.work(stage, &mut loader, stop)? else {
                break;
            };
            self.tell_unreadable(&loader, watcher);
            let report = self.make_step(gradients, metrics, began);
            self.folder.log(&report)?;
            watcher.step(&report);
            if report.skipped {
                let (step, all) = (report.step, self.skipped);
                watcher.note(&format!(
                    "step {step}: loss or gradient is not finite, nothing was learnt ({all} so far)"
                ));
            }
            if self.failures == PATIENCE {
                let (step, steps) = (self.step, self.failures);
                return Err(TrainError::NotFinite { step, steps });
            }
            self.now_and_then(watcher, stop)?;
        }
        let skipped = loader.skipped();
        if !skipped.is_empty() {
            watcher.note(&format!("skipped so far: {skipped}"));
        }
        Ok(())
    }

    /// Names images that could not be read, each once.
    fn tell_unreadable(&mut self, loader: &Loader, watcher: &mut dyn Watcher) {
        for line in loader.skipped().unreadable() {
            if !self.unreadable.contains(&line) {
                watcher.note(&format!("skipped {line}"));
                self.unreadable.insert(line);
            }
        }
    }

    /// Learns from the mean of the gradients.
    fn make_step(
        &mut self,
        gradients: Vec<GradientsParams>,
        metrics: StepMetrics,
        began: Instant,
    ) -> StepReport {
        let steps = self.recipe.steps();
        let lr = learning_rate(&self.recipe.optimizer, self.step, steps);
        let scale = 1.0 / gradients.len() as f64;
        let (sum, norm) = sum_gradients(&self.model, gradients, scale);
        let skipped = !(norm.is_finite() && metrics.loss.is_finite());
        if skipped {
            self.failures += 1;
            self.skipped += 1;
        } else {
            self.failures = 0;
            self.learn(sum, norm, lr);
        }
        self.step += 1;
        StepReport {
            step: self.step,
            steps,
            lr,
            gradient_norm: norm,
            skipped,
            seconds: began.elapsed().as_secs_f64(),
            metrics,
        }
    }

    /// Validation and checkpoints, when their time has come.
    fn now_and_then(
        &mut self,
        watcher: &mut dyn Watcher,
        stop: &AtomicBool,
    ) -> Result<(), TrainError> {
        if self.is_time_to_validate() {
            self.validate_now(watcher, stop)?;
        }
        if self.step.is_multiple_of(self.recipe.checkpoint_every) {
            self.save()?;
        }
        Ok(())
    }

    fn is_time_to_validate(&self) -> bool {
        let validation = self.recipe.validation.as_ref();
        self.step > 0 && validation.is_some_and(|v| self.step.is_multiple_of(v.every))
    }

    /// Validates, unless it is stopped meanwhile.
    fn validate_now(&self, watcher: &mut dyn Watcher, stop: &AtomicBool) -> Result<(), TrainError> {
        if let Some(metrics) = self.validate(stop)? {
            self.folder.log_validation(self.step, &metrics)?;
            watcher.validation(self.step, &metrics);
        }
        Ok(())
    }

    /// The number of rounds of this step: any of the stage's, the same after a restart.
    fn rounds(&self, stage: &Stage) -> u32 {
        let seed = self.recipe.seed ^ (self.step + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.random_range(stage.rounds[0]..=stage.rounds[1])
    }

    fn step_config(&self, rounds: u32) -> StepConfig {
        StepConfig {
            side: self.config.input_side(),
            rounds,
            simulation: self.recipe.prompts,
            losses: self.recipe.losses,
        }
    }

    /// Gradients and metrics of the next examples, on as many threads as the recipe says. The
    /// result does not depend on the number of threads. `None` when it was stopped between two images: nothing of
    /// the step is kept then.
    fn work(
        &self,
        stage: &Stage,
        loader: &mut Loader,
        stop: &AtomicBool,
    ) -> Result<Option<(Vec<GradientsParams>, StepMetrics)>, TrainError> {
        let stopped = || stop.load(Ordering::Relaxed);
        let examples = loader
            .take(stage.images_per_step)
            .take_while(|_| !stopped());
        let examples = examples.collect::<Result<Vec<_>, _>>()?;
        let config = self.step_config(self.rounds(stage));
        let replicas = self.recipe.replicas.min(examples.len()).max(1);
        // Each with a share of the processors to itself: from one pool for all, every operation would wait
        // for threads that are at work on others'.
        let threads = (rayon::current_num_threads() / replicas).max(1);
        let seed = self.recipe.seed ^ (self.step << 16);
        let config = &config;
        let mut results: Vec<Option<_>> = examples.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            let per_thread = examples.len().div_ceil(replicas);
            let parts = results
                .chunks_mut(per_thread)
                .zip(examples.chunks(per_thread));
            for (part, (results, examples)) in parts.enumerate() {
                // A graph of its own, so that the threads do not wait for each other.
                let model = self.model.clone().fork(&self.device);
                let work = move || {
                    for (i, (result, example)) in results.iter_mut().zip(examples).enumerate() {
                        if stopped() {
                            break;
                        }
                        let seed = seed ^ (part * per_thread + i) as u64;
                        *result = Some(self.gradient(&model, example, config, seed));
                    }
                };
                scope.spawn(move || match flushing_pool(threads) {
                    Ok(pool) => pool.install(work),
                    Err(_) => flush_denormals(work),
                });
            }
        });
        let mut gradients = Vec::with_capacity(examples.len());
        let mut metrics = Vec::with_capacity(examples.len());
        for result in results.into_iter().flatten() {
            let (gradient, seen) = result?;
            gradients.push(gradient);
            metrics.push(seen);
        }
        let complete = gradients.len() == stage.images_per_step;
        Ok(complete.then(|| (gradients, StepMetrics::mean(&metrics))))
    }

    /// Runs the rounds on an example.
    fn gradient(
        &self,
        model: &Model,
        example: &Example,
        config: &StepConfig,
        seed: u64,
    ) -> Result<(GradientsParams, StepMetrics), TrainError> {
        let features = self.features(model, example, config.side, &self.device)?;
        let retains = config.losses.weights.retention > 0.0;
        let initial = self.initial.as_ref().filter(|_| retains).map(|initial| {
            let plain = self.device.clone().inner();
            let features = match self.frozen {
                Some(_) => features.clone().map(|x| copied(x, &plain)),
                None => encode(initial, &example.image, config.side, &plain),
            };
            (initial, features)
        });
        let learner = Learner {
            model,
            initial: initial
                .as_ref()
                .map(|(initial, features)| (*initial, features)),
        };
        let result = rounds(learner, &features, example, config, seed, &self.device);
        let (loss, metrics) = result.map_err(|source| TrainError::Example {
            example: example.source.clone(),
            source,
        })?;
        let gradient = GradientsParams::from_grads(loss.backward(), model);
        Ok((gradient, metrics))
    }

    /// The features of an example's image. Nothing is recorded when the encoder does not learn.
    fn features(
        &self,
        model: &Model,
        example: &Example,
        side: usize,
        device: &Device,
    ) -> Result<ImageFeatures, TrainError> {
        let Some(frozen) = &self.frozen else {
            return Ok(encode(model, &example.image, side, device));
        };
        if let Some(cache) = &self.cache {
            return cache.features(frozen, &example.image, device);
        }
        let features = encode(frozen, &example.image, side, &device.clone().inner());
        Ok(features.map(|x| copied(x, device)))
    }

    /// Makes the step with a gradient of the norm `norm`.
    fn learn(&mut self, mut gradient: GradientsParams, norm: f64, lr: f64) {
        if let Some(limit) = self.recipe.optimizer.clip_norm
            && norm > limit
        {
            gradient = scale_gradients(&self.model, gradient, limit / norm);
        }
        self.model = self.optimizer.step(lr, self.model.clone(), gradient);
        if let Some(ema) = &mut self.ema {
            ema.update(&self.model, self.step);
        }
    }

    /// Two rounds on every validation example, with the model as it would be saved; `None` when it was stopped.
    fn validate(&self, stop: &AtomicBool) -> Result<Option<StepMetrics>, TrainError> {
        let model = self.model();
        let device = self.device.clone().inner();
        let config = self.step_config(VALIDATION_ROUNDS);
        let mut all = Vec::with_capacity(self.validation.len());
        for (i, example) in self.validation.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let features = self.features(&model, example, config.side, &device)?;
            let learner = Learner::new(&model);
            let seen = rounds(learner, &features, example, &config, i as u64, &device);
            let (_, metrics) = seen.map_err(|source| TrainError::Example {
                example: example.source.clone(),
                source,
            })?;
            all.push(metrics);
        }
        Ok(Some(StepMetrics::mean(&all)))
    }

    /// Writes a checkpoint and the curves. A checkpoint is always good: while loss, gradient or
    /// weights are not finite, the last one stays.
    fn save(&self) -> Result<(), TrainError> {
        self.folder.draw()?;
        if self.failures > 0 || !all_finite(&self.model) {
            return Ok(());
        }
        self.folder.save(self.step, |folder| {
            self.save_model(&self.model.valid(), &folder.join(WEIGHTS))?;
            if let Some(ema) = &self.ema {
                self.save_model(ema.model(), &folder.join(AVERAGE))?;
            }
            let state = self.optimizer.to_bytes()?;
            samara_image::write_atomic(folder.join(OPTIMIZER), &state)?;
            Ok(())
        })
    }

    fn save_model(&self, model: &Model, out: &Path) -> Result<(), TrainError> {
        let metadata = BTreeMap::from([("samara.step".to_owned(), self.step.to_string())]);
        Ok(save_model(
            model,
            &self.config,
            &metadata,
            &[],
            StorageType::F32,
            out,
        )?)
    }
}
