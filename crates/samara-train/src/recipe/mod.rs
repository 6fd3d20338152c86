//! The recipe of a training run: one TOML file.
//!
//! ```toml
//! [model]
//! checkpoint = "mobile_sam.pt"      # or `random = "mobile_sam.pt"` for random weights
//!
//! [[data]]
//! path = "cells"                    # COCO annotations or a folder of label maps
//! split = "train"
//!
//! [prompts]
//! recipe = "sam"                    # a simulated user, as SAM was trained
//!
//! [losses]
//! weights = { focal = 20.0, dice = 1.0, iou = 1.0, object_score = 0.0 }
//! iou = { kind = "mse", supervise_all = false }
//!
//! [optimizer]
//! lr = 1e-4
//! warmup = 50
//!
//! [[groups]]                        # see `groups`: the encoder does not learn
//! prefix = "image_encoder."
//! lr_scale = 0.0
//!
//! [[stages]]
//! steps = 500
//! masks_per_image = 16
//! rounds = [1, 4]
//! ```

#[cfg(test)]
pub(crate) mod testing;
mod validate;

use std::path::{Path, PathBuf};

use samara::MaskThresholds;
use samara_image::{ImageLimits, read_file};
use serde::{Deserialize, Serialize};

use crate::candidate_head::CandidateHeadSpec;
use crate::losses::LossConfig;
use samara_data::prompts::Simulation;
use samara_data::{Augmentation, DataSpec};

/// A recipe is a page of text.
const LIMITS: ImageLimits = ImageLimits {
    max_pixels: 0,
    max_bytes: 1 << 20,
};

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
    /// How images are varied.
    #[serde(default)]
    pub augmentation: Augmentation,
    /// Probability that an example begins with several objects under one click.
    #[serde(default)]
    pub ambiguous_clicks: f64,
    /// The simulated user of the stages, that of SAM without it. `rounds` there is the most; a stage says how
    /// many.
    #[serde(default = "Simulation::sam")]
    pub prompts: Simulation,
    /// The losses of the stages, those of SAM without them.
    #[serde(default = "LossConfig::sam")]
    pub losses: LossConfig,
    /// The optimizer of the stages and its schedule.
    #[serde(default)]
    pub optimizer: OptimizerSpec,
    /// What does not learn, or learns more slowly.
    #[serde(default)]
    pub groups: Vec<GroupSpec>,
    /// Factor of the exponential moving average of the weights, which is what is saved as the
    /// model; none without it.
    #[serde(default)]
    pub ema: Option<f64>,
    /// How far the finished model goes from the weights that training began with to the trained ones:
    /// all the way without it. Half way it keeps what few examples would make it forget, and has most of
    /// what it learnt (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
    #[serde(default)]
    pub blend: Option<f64>,
    /// One after the other. None, if nothing but the candidate head is to be trained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// The head that ranks the candidates, which is trained after the stages. Without it, a model that begins
    /// with such a head or with a calibration gets a head as by default: scores that were fitted to other
    /// masks would say nothing.
    #[serde(default)]
    pub candidate_head: Option<CandidateHeadSpec>,
    /// The thresholds of segment-everything for the finished model; those that it began with without it.
    #[serde(default)]
    pub everything: Option<MaskThresholds>,
    /// What the finished model calls itself; the name of the run's folder without it.
    #[serde(default)]
    pub name: Option<String>,
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
    /// A folder for the features of the images, one file each, which later runs with the same
    /// encoder use as well. With it the encoder runs once on an image and does not learn, and
    /// images are not varied: `augmentation` and `stages.scale` have no effect.
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
    /// Random weights in the architecture of a checkpoint.
    Random(PathBuf),
}

/// `AdamW` and its schedule.
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

impl Default for OptimizerSpec {
    /// A rate at which a trained model can be fine-tuned.
    fn default() -> Self {
        Self {
            lr: 1e-4,
            weight_decay: weight_decay(),
            betas: betas(),
            clip_norm: None,
            warmup: 0,
            schedule: ScheduleKind::default(),
            layer_decay: None,
        }
    }
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

/// Parameters whose path starts with `prefix` learn at another rate; of several groups the last
/// that matches decides. See [`groups`](crate::groups) for the names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// Start of the path, such as `trunk.` or `image_encoder.`; the empty one is that of all.
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
    /// Replaces `augmentation.scale` in this stage.
    #[serde(default)]
    pub scale: Option<[f64; 2]>,
    /// Images per optimizer step: accumulated one by one.
    #[serde(default = "one")]
    pub images_per_step: usize,
    /// Most objects per image.
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
    /// Number of images.
    pub examples: usize,
    /// Steps between two looks.
    pub every: u64,
}

/// A recipe that cannot be run; the message is one line.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct RecipeError {
    path: PathBuf,
    why: String,
}

impl Recipe {
    /// Reads and checks a recipe, and makes its paths absolute.
    ///
    /// # Errors
    /// [`RecipeError`] names the file and the key.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        let bad = |why: String| RecipeError {
            path: path.into(),
            why,
        };
        let bytes = read_file(path, &LIMITS).map_err(|e| bad(e.reason().to_owned()))?;
        let text = String::from_utf8(bytes).map_err(|_| bad("is not text in UTF-8".into()))?;
        let mut recipe: Self = toml::from_str(&text).map_err(|e| bad(one_line(&e, &text)))?;
        let file = std::path::absolute(path).map_err(|e| bad(e.to_string()))?;
        let folder = file.parent().unwrap_or(&file);
        recipe.paths(|path| *path = folder.join(&*path));
        recipe.validate().map_err(bad)?;
        Ok(recipe)
    }

    /// Changes every path.
    pub(crate) fn paths(&mut self, mut change: impl FnMut(&mut PathBuf)) {
        let validation = self.validation.iter_mut().flat_map(|v| &mut v.data);
        let data = self.data.iter_mut().chain(validation);
        data.for_each(|spec| {
            change(&mut spec.path);
            spec.images.iter_mut().for_each(&mut change);
        });
        match &mut self.model {
            Start::Checkpoint(path) | Start::Random(path) => change(path),
            Start::Embedded => {}
        }
        self.embedding_cache.iter_mut().for_each(change);
    }

    /// The files and folders that it names: data, the model to begin with, cached features.
    pub fn inputs(&self) -> Vec<PathBuf> {
        let mut inputs = Vec::new();
        self.clone().paths(|path| inputs.push(path.clone()));
        inputs
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
        // `validate` lets no recipe without stages through.
        let last = &self.stages[self.stages.len() - 1];
        (last, start - last.steps)
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

#[cfg(test)]
mod tests {
    use super::testing::{recipe, text};
    use super::*;

    #[test]
    fn a_step_belongs_to_a_stage() {
        let more = "[[stages]]\nsteps = 5\nmasks_per_image = 1\nrounds = [1, 1]";
        let recipe = recipe(more);
        assert_eq!(recipe.steps(), 15);
        let at = |step| {
            let (stage, first) = recipe.stage(step);
            (stage.steps, first)
        };
        assert_eq!((at(0), at(9)), ((10, 0), (10, 0)));
        assert_eq!((at(10), at(14), at(15)), ((5, 10), (5, 10), (5, 10)));
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, text("embedding_cache = 'cache'")).unwrap();
        let recipe = Recipe::read(&path).unwrap();
        assert_eq!(recipe.data[0].path, folder.path().join("images"));
        assert_eq!(recipe.embedding_cache, Some(folder.path().join("cache")));
        let missing = Recipe::read(&folder.path().join("none.toml")).unwrap_err();
        assert!(missing.to_string().contains("none.toml"));
    }

    #[test]
    fn the_example_above_is_a_recipe() {
        let lines = include_str!("mod.rs").lines();
        let text = lines.map_while(|line| line.strip_prefix("//!"));
        let text = text.skip_while(|line| !line.contains("```toml")).skip(1);
        let text = text.take_while(|line| !line.contains("```"));
        let text = text.collect::<Vec<_>>().join("\n");
        let recipe: Recipe = toml::from_str(&text).unwrap();
        recipe.validate().unwrap();
        assert_eq!(recipe.groups[0].lr_scale, 0.0);
    }

    #[test]
    fn what_is_written_is_read() {
        let recipe = recipe("ema = 0.9");
        let written = toml::to_string(&recipe).unwrap();
        let again: Recipe = toml::from_str(&written).unwrap();
        assert_eq!(toml::to_string(&again).unwrap(), written);
    }

    #[test]
    fn absurd_numbers_are_named_with_the_largest_possible() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        for (more, words) in [
            (
                "checkpoint_every = 9223372036854775807",
                &["checkpoint_every = 9223372036854775807 is not from 1 to 100000000"][..],
            ),
            ("checkpoint_every = 99999999999999999999", &["line 1"]),
            (
                "[[stages]]\nsteps = 9223372036854775807\nmasks_per_image = 1\nrounds = [1, 1]",
                &["stages[1].steps = 9223372036854775807", "100000000"],
            ),
            (
                "[[stages]]\nsteps = 100000000\nmasks_per_image = 1\nrounds = [1, 1]",
                &["the steps of all stages are 100000010", "100000000"],
            ),
            (
                "[[stages]]\nsteps = 1\nmasks_per_image = 1001\nrounds = [1, 1]",
                &["stages[1].masks_per_image = 1001", "1000"],
            ),
            (
                "[[stages]]\nsteps = 1\nimages_per_step = 5000\nmasks_per_image = 1\nrounds = [1, 1]",
                &["stages[1].images_per_step = 5000", "4096"],
            ),
            (
                "[[stages]]\nsteps = 1\nmasks_per_image = 1\nrounds = [1, 4294967295]",
                &["stages[1].rounds = [1, 4294967295]", "64"],
            ),
            (
                "validation = { data = [{ path = 'a' }], every = 1, examples = 1000000 }",
                &["validation.examples = 1000000", "100000"],
            ),
        ] {
            std::fs::write(&path, text(more)).unwrap();
            let error = Recipe::read(&path).unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
            for word in words {
                assert!(error.contains(word), "{more}: {error}");
            }
        }
    }

    #[test]
    fn mistakes_are_named_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        for (more, words) in [
            ("sed = 3", &["line 1", "unknown field `sed`"][..]),
            ("name = '../../x'", &["name = \"../../x\"", "no folders"]),
            ("name = 'a/'", &["name = \"a/\""]),
            ("name = ''", &["name = \"\""]),
            (
                "[[data]]\npath = 'more'\nweight = 0.0",
                &["data[1].weight: 0 is not above 0"],
            ),
            (
                "validation = { data = [{ path = 'a', max_area_fraction = 2.0 }], every = 1, examples = 1 }",
                &["validation.data[0].max_area_fraction: 2"],
            ),
            ("seed = 'x'", &["line 1", "invalid type"]),
            ("ema = 1.0", &["ema = 1"]),
            ("ema = nan", &["ema = NaN"]),
            ("blend = 0.0", &["blend = 0"]),
            ("workers = 0", &["workers = 0", "cores"]),
            ("workers = 100000", &["workers = 100000", "cores"]),
            ("replicas = 100000", &["replicas = 100000", "cores"]),
            ("checkpoint_every = 0", &["checkpoint_every = 0"]),
            ("ambiguous_clicks = 1.5", &["ambiguous_clicks = 1.5"]),
            (
                "groups = [{ prefix = 'a', lr_scale = -1.0 }]",
                &["groups[0].lr_scale = -1"],
            ),
            (
                "[[stages]]\nsteps = 0\nmasks_per_image = 1\nrounds = [1, 1]",
                &["stages[1].steps"],
            ),
            (
                "[[stages]]\nsteps = 1\nmasks_per_image = 1\nrounds = [3, 1]",
                &["stages[1].rounds = [3, 1]"],
            ),
            (
                "[[stages]]\nsteps = 1\nmasks_per_image = 0\nrounds = [1, 1]",
                &["stages[1].masks_per_image"],
            ),
            (
                "[[stages]]\nsteps = 1\nmasks_per_image = 1\nrounds = [1, 1]\nscale = [2.0, 1.0]",
                &["stages[1].scale = [2, 1]"],
            ),
        ] {
            std::fs::write(&path, text(more)).unwrap();
            let error = Recipe::read(&path).unwrap_err().to_string();
            assert!(
                !error.contains('\n') && error.contains("recipe.toml"),
                "{error}"
            );
            for word in words {
                assert!(error.contains(word), "{more}: {error}");
            }
        }
        for (from, to, word) in [
            ("lr = 0.001", "lr = 0.0", "optimizer.lr = 0"),
            ("lr = 0.001", "lr = inf", "optimizer.lr = inf"),
            (
                "warmup = 2",
                "weight_decay = -0.1",
                "optimizer.weight_decay = -0.1",
            ),
            ("warmup = 2", "betas = [0.9, 1.0]", "optimizer.betas = 1"),
            ("warmup = 2", "clip_norm = 0.0", "optimizer.clip_norm = 0"),
            (
                "warmup = 2",
                "warmup = 100000001",
                "optimizer.warmup = 100000001 is not from 0 to 100000000",
            ),
            ("focal = 20.0", "focal = -1.0", "losses.weights.focal = -1"),
            (
                "focal = 20.0, dice = 1.0",
                "focal = 0.0, dice = 0.0, retention = 1.0",
                "losses.weights.retention needs focal or dice",
            ),
            (
                "weights = { focal = 20.0,",
                "relaxation = 0.3\nweights = { retention = 1.0,",
                "losses.relaxation and losses.weights.retention",
            ),
            ("rounds = [1, 2]", "round = [1, 2]", "round"),
            ("recipe = 'sam'", "recipe = 'sim'", "sim"),
        ] {
            std::fs::write(&path, text("").replace(from, to)).unwrap();
            let error = Recipe::read(&path).unwrap_err().to_string();
            assert!(error.contains(word), "{to}: {error}");
        }
    }
}
