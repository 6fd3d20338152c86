//! The training loop.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn_optim::GradientsParams;
use samara_kernels::denormals::flush_denormals;
use samara_model::burn::module::{Module, ParamId};
use samara_model::burn::tensor::Device;
use samara_model::checkpoint::{Checkpoint, StorageType, Weights, save_model};
use samara_model::lite::{LiteConfig, TrunkGradient};
use samara_model::{Model, ModelConfig};

use crate::TrainError;
use crate::data::{Augmentation, Example, ExampleSpec, Loader, Sampler};
use crate::optimizer::Optimizer;
use crate::parameters::{Ema, numbered, parameters, scale_gradients, sum_gradients};
use crate::recipe::{Recipe, Stage, Start};
use crate::run_folder::{RunFolder, Saved};
use crate::schedule::learning_rate;
use crate::step::{StepConfig, StepMetrics, encode, gradients, rounds};

/// Steps without a finite loss after which a run gives up.
const PATIENCE: u32 = 10;

/// What a run tells while it goes.
pub trait Watcher {
    /// A step was made.
    fn step(&mut self, report: &StepReport);
    /// The validation examples were looked at.
    fn validation(&mut self, step: u64, metrics: &StepMetrics);
    /// Something worth a line.
    fn note(&mut self, text: &str);
}

/// One optimizer step.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct StepReport {
    /// Steps made, this one included.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Learning rate.
    pub lr: f64,
    /// Norm of the gradient before it was cut.
    pub gradient_norm: f64,
    /// Seconds that the step took.
    pub seconds: f64,
    /// Means over its pictures.
    #[serde(flatten)]
    pub metrics: StepMetrics,
}

/// A training run in a folder, which holds the recipe, checkpoints, the log and the model.
pub struct Trainer {
    recipe: Recipe,
    folder: RunFolder,
    config: ModelConfig,
    device: Device,
    model: Model,
    optimizer: Optimizer,
    ema: Option<Ema>,
    step: u64,
    validation: Vec<Example>,
}

impl Trainer {
    /// Prepares a run in `out`, or goes on with the one that is there: at its last checkpoint, with
    /// optimizer, average, schedule and randomness as they were.
    ///
    /// # Errors
    /// The recipe does not fit the machine, the data or the run that is in `out`; the model cannot
    /// be read.
    pub fn new(recipe: Recipe, out: &Path, device: &Device) -> Result<Self, TrainError> {
        // Everything that can be wrong is found before any work starts.
        for stage in &recipe.stages {
            Sampler::open(&recipe.data, example_spec(&recipe, stage, 64))?;
        }
        let (config, start) = start(&recipe, device)?;
        for stage in &recipe.stages {
            check_side(stage, &config)?;
        }
        let validation = validation_examples(&recipe, config.input_side() as u32)?;
        let device = device.clone().autodiff();
        let (folder, saved) = RunFolder::open(out, &recipe)?;
        let (model, average, step, state) = match saved {
            None => (start, None, 0, None),
            Some(Saved {
                model,
                average,
                step,
                optimizer,
            }) => {
                let read = |path: &PathBuf| Checkpoint::open(path)?.load(&device);
                let average = average.as_ref().map(read).transpose()?;
                (read(&model)?, average, step, Some(optimizer))
            }
        };
        let model = numbered(on_autodiff(model, &device));
        let mut optimizer = Optimizer::new(&model, &recipe.optimizer, &recipe.groups);
        if let Some(state) = state {
            optimizer = optimizer.restore(state)?;
        }
        let ema = recipe.ema.map(|decay| {
            let average =
                average.map_or_else(|| model.clone(), |m| numbered(on_autodiff(m, &device)));
            Ema::new(average.valid(), decay)
        });
        Ok(Self {
            recipe,
            folder,
            config,
            device,
            model,
            optimizer,
            ema,
            step,
            validation,
        })
    }

    /// Steps made so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The model as it would be saved: the average if there is one.
    pub fn model(&self) -> Model {
        match &self.ema {
            Some(ema) => ema.model().clone(),
            None => self.model.valid(),
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
    /// A file cannot be written, data ran out, or the loss is not finite any more.
    pub fn run(
        &mut self,
        watcher: &mut dyn Watcher,
        stop: &AtomicBool,
    ) -> Result<Option<PathBuf>, TrainError> {
        flush_denormals(|| {
            let steps = self.recipe.steps();
            while self.step < steps {
                self.run_stage(watcher, stop)?;
                if stop.load(Ordering::Relaxed) {
                    self.save()?;
                    return Ok(None);
                }
            }
            self.save()?;
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
        let side = stage
            .side
            .map_or(self.config.input_side(), |side| side as usize);
        let sampler = Arc::new(Sampler::open(
            &recipe.data,
            example_spec(&recipe, stage, side as u32),
        )?);
        let begin = (self.step - first) * stage.images_per_step as u64;
        let seed = recipe.seed.wrapping_add(first);
        let mut loader = Loader::new(&sampler, recipe.workers, seed, begin);
        let frozen = self.frozen(stage);
        let mut failures = 0;
        while self.step < first + stage.steps && !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let mut examples = Vec::with_capacity(stage.images_per_step);
            for example in loader.by_ref().take(stage.images_per_step) {
                examples.push(example?);
            }
            let rounds = self.rounds(stage);
            let config = self.step_config(stage, side, rounds);
            let (parts, metrics) = self.work(&examples, &config)?;
            let lr = learning_rate(&recipe.optimizer, self.step, recipe.steps());
            let norm = self.learn(parts, lr, &frozen, examples.len());
            failures = if norm.is_finite() && metrics.loss.is_finite() {
                0
            } else {
                failures + 1
            };
            if failures == PATIENCE {
                return Err(TrainError::NotFinite(failures));
            }
            self.step += 1;
            let report = StepReport {
                step: self.step,
                steps: recipe.steps(),
                lr,
                gradient_norm: norm,
                seconds: began.elapsed().as_secs_f64(),
                metrics,
            };
            self.folder.log(&report)?;
            watcher.step(&report);
            self.now_and_then(watcher)?;
        }
        let skipped = loader.skipped();
        if !skipped.is_empty() {
            watcher.note(&format!("left out so far: {skipped}"));
        }
        Ok(())
    }

    /// Validation and checkpoints, when their time has come.
    fn now_and_then(&mut self, watcher: &mut dyn Watcher) -> Result<(), TrainError> {
        let every = self
            .recipe
            .validation
            .as_ref()
            .map_or(u64::MAX, |v| v.every);
        if self.step.is_multiple_of(every) {
            let metrics = self.validate()?;
            self.folder.log_validation(self.step, &metrics)?;
            watcher.validation(self.step, &metrics);
        }
        if self.step.is_multiple_of(self.recipe.checkpoint_every) {
            self.save()?;
        }
        Ok(())
    }

    /// The number of rounds of this step: any of the stage's, the same after a restart.
    fn rounds(&self, stage: &Stage) -> u32 {
        use rand::{RngExt, SeedableRng};
        let seed = self.recipe.seed ^ (self.step + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        rng.random_range(stage.rounds[0]..=stage.rounds[1])
    }

    fn step_config(&self, stage: &Stage, side: usize, rounds: u32) -> StepConfig {
        let freezes = |part: &str| {
            let frozen = stage
                .freeze
                .iter()
                .any(|prefix| part.starts_with(prefix.as_str()));
            let still = self.recipe.groups.iter();
            frozen
                || still
                    .clone()
                    .any(|g| g.lr_scale == 0.0 && part.starts_with(&g.prefix))
        };
        let trunk = if freezes("trunk.blocks.15") {
            TrunkGradient::None
        } else if freezes("trunk.conv_stem") {
            TrunkGradient::Late
        } else {
            TrunkGradient::All
        };
        StepConfig {
            side,
            rounds,
            simulation: self.recipe.prompts,
            losses: self.recipe.losses,
            trunk,
        }
    }

    /// Parameters that do not learn in a stage.
    fn frozen(&self, stage: &Stage) -> HashSet<ParamId> {
        let still = self.recipe.groups.iter().filter(|g| g.lr_scale == 0.0);
        let prefixes: Vec<&str> = still
            .map(|group| group.prefix.as_str())
            .chain(stage.freeze.iter().map(String::as_str))
            .collect();
        let all = parameters(&self.model).into_iter();
        all.filter(|p| prefixes.iter().any(|prefix| p.path.starts_with(prefix)))
            .map(|p| p.id)
            .collect()
    }

    /// Gradients and metrics of the examples, on as many threads as the recipe says. The result
    /// does not depend on the number of threads.
    fn work(
        &self,
        examples: &[Example],
        config: &StepConfig,
    ) -> Result<(Vec<GradientsParams>, StepMetrics), TrainError> {
        let replicas = self.recipe.replicas.min(examples.len()).max(1);
        let seed = |i: usize| self.recipe.seed ^ (self.step << 16) ^ i as u64;
        let mut results: Vec<Option<_>> = examples.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            let (device, model) = (&self.device, &self.model);
            let per_thread = examples.len().div_ceil(replicas);
            let parts = results
                .chunks_mut(per_thread)
                .zip(examples.chunks(per_thread));
            for (part, (results, examples)) in parts.enumerate() {
                // A graph of its own, so that the threads do not wait for each other.
                let model = model.clone().fork(device);
                scope.spawn(move || {
                    flush_denormals(|| {
                        for (i, (result, example)) in results.iter_mut().zip(examples).enumerate() {
                            let seed = seed(part * per_thread + i);
                            *result = Some(gradients(&model, example, config, seed, device));
                        }
                    });
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
        Ok((gradients, StepMetrics::mean(&metrics)))
    }

    /// Makes the step, unless the gradient is not finite. Gives the gradient's norm.
    fn learn(
        &mut self,
        parts: Vec<GradientsParams>,
        lr: f64,
        frozen: &HashSet<ParamId>,
        examples: usize,
    ) -> f64 {
        let (mut sum, norm) = sum_gradients(&self.model, parts, 1.0 / examples as f64, frozen);
        if !norm.is_finite() {
            return norm;
        }
        if let Some(limit) = self.recipe.optimizer.clip_norm
            && norm > limit
        {
            sum = scale_gradients(&self.model, sum, limit / norm);
        }
        self.model = self.optimizer.step(lr, self.model.clone(), sum);
        if let Some(ema) = &mut self.ema {
            ema.update(&self.model, self.step);
        }
        norm
    }

    /// Two rounds on every validation example, with the model as it would be saved.
    fn validate(&self) -> Result<StepMetrics, TrainError> {
        let model = self.model();
        let device = self.device.clone().inner();
        let config = StepConfig {
            side: self.config.input_side(),
            rounds: 2,
            simulation: self.recipe.prompts,
            losses: self.recipe.losses,
            trunk: TrunkGradient::None,
        };
        let mut all = Vec::with_capacity(self.validation.len());
        for (i, example) in self.validation.iter().enumerate() {
            let features = encode(&model, example, &config, &device);
            all.push(rounds(&model, &features, example, &config, i as u64, &device)?.1);
        }
        Ok(StepMetrics::mean(&all))
    }

    fn save(&self) -> Result<(), TrainError> {
        self.folder.save(self.step, |folder| {
            self.save_model(&self.model.valid(), &folder.join(RunFolder::WEIGHTS))?;
            if let Some(ema) = &self.ema {
                self.save_model(ema.model(), &folder.join(RunFolder::AVERAGE))?;
            }
            let state = self.optimizer.to_bytes()?;
            samara_image::write_atomic(folder.join(RunFolder::OPTIMIZER), &state)?;
            Ok(())
        })
    }

    fn save_model(&self, model: &Model, out: &Path) -> Result<(), TrainError> {
        let metadata = HashMap::from([("samara.step".to_owned(), self.step.to_string())]);
        Ok(save_model(
            model,
            &self.config,
            &metadata,
            StorageType::F32,
            out,
        )?)
    }
}

/// The model before the first step.
fn start(recipe: &Recipe, device: &Device) -> Result<(ModelConfig, Model), TrainError> {
    match &recipe.model {
        Start::Checkpoint(path) => {
            let checkpoint = Checkpoint::open(path)?;
            Ok((checkpoint.config()?, checkpoint.load(device)?))
        }
        Start::Embedded => Err(TrainError::State(
            "no model is embedded in this build".into(),
        )),
        Start::Lite { imagenet, img_size } => {
            let config = ModelConfig::Lite(LiteConfig::new().with_img_size(*img_size));
            let invalid = |e: samara_model::InvalidConfig| TrainError::State(e.to_string());
            config.validate().map_err(invalid)?;
            device.seed(recipe.seed);
            let mut model = config.init(device);
            if let Model::Lite(lite) = &mut model {
                lite.trunk.load_imagenet(&Weights::open(imagenet)?)?;
            }
            Ok((config, model))
        }
    }
}

/// The same model with its parameters on an autodiff device.
fn on_autodiff(model: Model, device: &Device) -> Model {
    model.train().to_device(device)
}

fn check_side(stage: &Stage, config: &ModelConfig) -> Result<(), TrainError> {
    match (stage.side, config) {
        (Some(side), ModelConfig::Sam(_)) if side as usize != config.input_side() => {
            Err(TrainError::State(format!(
                "stages.side = {side}, but this model's input has {} pixels",
                config.input_side()
            )))
        }
        _ => Ok(()),
    }
}

fn example_spec(recipe: &Recipe, stage: &Stage, side: u32) -> ExampleSpec {
    ExampleSpec {
        side,
        masks_per_image: stage.masks_per_image,
        ambiguous_clicks: recipe.ambiguous_clicks,
        augmentation: match recipe.embedding_cache {
            None => Augmentation {
                scale: stage.scale.unwrap_or(recipe.augmentation.scale),
                ..recipe.augmentation
            },
            Some(_) => Augmentation::none(),
        },
    }
}

/// The examples of the validation set: the same in every run.
fn validation_examples(recipe: &Recipe, side: u32) -> Result<Vec<Example>, TrainError> {
    let Some(validation) = &recipe.validation else {
        return Ok(Vec::new());
    };
    let spec = ExampleSpec {
        side,
        masks_per_image: 8,
        ambiguous_clicks: 0.0,
        augmentation: Augmentation::none(),
    };
    let sampler = Arc::new(Sampler::open(&validation.data, spec)?);
    let loader = Loader::new(&sampler, recipe.workers, 1, 0);
    Ok(loader.take(validation.examples).collect::<Result<_, _>>()?)
}
