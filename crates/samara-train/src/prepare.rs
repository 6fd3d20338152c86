//! What a run needs before its first step: data, model, validation examples. Whatever can be wrong
//! is found here, before any work starts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use samara_model::burn::module::Module;
use samara_model::burn::tensor::Device;
use samara_model::checkpoint::{Checkpoint, CheckpointError};
use samara_model::{Model, ModelConfig};

use crate::TrainError;
use crate::checkpoints::Saved;
use crate::parameters::numbered;
use crate::random::seeded;
use crate::recipe::{Recipe, Stage, Start};
use samara_data::{Augmentation, DataError, Example, ExampleSpec, Loader, Sampler};

/// The model of a run, at its start or as it was saved, on an autodiff device.
pub(crate) struct Prepared {
    pub(crate) config: ModelConfig,
    pub(crate) model: Model,
    /// The saved average.
    pub(crate) average: Option<Model>,
}

/// The data sets of a recipe, with the specification of its first stage.
pub(crate) fn data(recipe: &Recipe) -> Result<Sampler, TrainError> {
    // The side is not known yet.
    let first = recipe.stages.first().map_or_else(
        || ExampleSpec {
            side: 64,
            masks_per_image: 1,
            ambiguous_clicks: recipe.ambiguous_clicks,
            augmentation: recipe.augmentation,
        },
        |stage| example_spec(recipe, stage, 64),
    );
    let sampler = Sampler::open(&recipe.data, first);
    sampler.map_err(|e| wrong_data("data", e))
}

/// The model that a run begins or resumes with.
pub(crate) fn model(
    recipe: &Recipe,
    saved: Option<&Saved>,
    device: &Device,
) -> Result<Prepared, TrainError> {
    let plain = device.clone().inner();
    let read = |path: &PathBuf| -> Result<_, CheckpointError> {
        let checkpoint = Checkpoint::open(path)?;
        Ok((checkpoint.config()?, Model::load(&checkpoint, &plain)?))
    };
    let (config, model, average) = if let Some(saved) = saved {
        let (config, model) = read(&saved.model)?;
        let average = saved.average.as_ref().map(read).transpose()?;
        (config, model, average.map(|(_, model)| model))
    } else {
        let (config, model) = start(recipe, &plain)?;
        (config, model, None)
    };
    Ok(Prepared {
        config,
        model: numbered(model.train().to_device(device)),
        average: average.map(numbered),
    })
}

/// The model before the first step, its parameters numbered as those of the run.
pub(crate) fn initial_model(recipe: &Recipe, device: &Device) -> Result<Model, TrainError> {
    Ok(numbered(start(recipe, device)?.1))
}

/// The model that the recipe names.
fn start(recipe: &Recipe, device: &Device) -> Result<(ModelConfig, Model), TrainError> {
    match &recipe.model {
        Start::Checkpoint(path) => {
            let wrong = |e| TrainError::setting("model.checkpoint", &e);
            let checkpoint = Checkpoint::open(path).map_err(wrong)?;
            let config = checkpoint.config().map_err(wrong)?;
            refuse_sam2("model.checkpoint", path, &config)?;
            let model = Model::load(&checkpoint, device).map_err(wrong)?;
            Ok((config, model))
        }
        Start::Embedded => embedded(device),
        Start::Random(path) => {
            let wrong = |e| TrainError::setting("model.random", &e);
            let checkpoint = Checkpoint::open(path).map_err(wrong)?;
            let config = checkpoint.config().map_err(wrong)?;
            refuse_sam2("model.random", path, &config)?;
            // Numbering reads every parameter.
            let model = seeded(device, recipe.seed, || numbered(config.init(device)));
            Ok((config, model))
        }
    }
}

fn refuse_sam2(key: &str, path: &Path, config: &ModelConfig) -> Result<(), TrainError> {
    match config {
        ModelConfig::Sam2(_) => {
            let why = format!("{}: SAM 2 cannot be trained here", path.display());
            Err(TrainError::setting(key, &why))
        }
        ModelConfig::Sam(_) => Ok(()),
    }
}

fn embedded(device: &Device) -> Result<(ModelConfig, Model), TrainError> {
    let checkpoint = embedded_checkpoint()?;
    Ok((checkpoint.config()?, Model::load(&checkpoint, device)?))
}

/// The checkpoint of the model that is compiled in.
#[cfg(feature = "embedded")]
pub(crate) fn embedded_checkpoint() -> Result<Checkpoint, TrainError> {
    Ok(samara::embedded_checkpoint()?)
}

#[cfg(not(feature = "embedded"))]
pub(crate) fn embedded_checkpoint() -> Result<Checkpoint, TrainError> {
    let why = "no model is embedded in this build";
    Err(TrainError::setting("model", why))
}

/// What the examples of a stage are made of.
pub(crate) fn example_spec(recipe: &Recipe, stage: &Stage, side: u32) -> ExampleSpec {
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
pub(crate) fn validation_examples(recipe: &Recipe, side: u32) -> Result<Vec<Example>, TrainError> {
    let Some(validation) = &recipe.validation else {
        return Ok(Vec::new());
    };
    let spec = ExampleSpec {
        side,
        masks_per_image: 8,
        ambiguous_clicks: 0.0,
        augmentation: Augmentation::none(),
    };
    let wrong = |e| wrong_data("validation.data", e);
    let sampler = Arc::new(Sampler::open(&validation.data, spec).map_err(wrong)?);
    let loader = Loader::new(&sampler, recipe.workers, 1, 0);
    let examples = loader.take(validation.examples).collect::<Result<_, _>>();
    examples.map_err(wrong)
}

fn wrong_data(key: &str, error: DataError) -> TrainError {
    match error {
        // It begins with the key.
        DataError::Setting { .. } => error.into(),
        _ => TrainError::setting(key, &error),
    }
}
