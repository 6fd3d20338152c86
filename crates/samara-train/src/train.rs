//! A whole run: the stages of a recipe, then the head that ranks the candidates.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use samara::{Calibration, MaskThresholds, Segmenter, tensors};
use samara_model::burn::tensor::Device;
use samara_model::checkpoint::{CANDIDATE_HEAD, Checkpoint};

use crate::TrainError;
use crate::candidate_head::{CandidateHeadSpec, HeadWatcher, train_candidate_head};
use crate::prepare;
use crate::recipe::{Recipe, Start};
use crate::run_folder::RunFolder;
use crate::trainer::{Trainer, Watcher};

/// The folder in a run's folder with what the candidate head is trained on.
const ANSWERS: &str = "answers";

/// What a run tells while it goes.
pub trait TrainWatcher: Watcher + HeadWatcher {}

impl<T: Watcher + HeadWatcher> TrainWatcher for T {}

/// Trains as a recipe says, in the folder `out`: the stages, then the candidate head. Resumes the run that is there.
/// Gives the file of the finished model, or `None` when `stop` was set.
///
/// # Errors
/// The recipe does not fit the machine, the data, the model or the run in `out`; a file cannot be written; loss and
/// gradient are not finite any more.
pub fn train(
    recipe: &Recipe,
    out: &Path,
    device: &Device,
    watcher: &mut impl TrainWatcher,
    stop: &AtomicBool,
) -> Result<Option<PathBuf>, TrainError> {
    // What is wrong with the data is said before any weights are read.
    drop(prepare::data(recipe)?);
    let start = begin(recipe)?;
    let head = recipe.candidate_head.or_else(|| {
        let ranked = start.as_ref().is_some_and(|start| {
            start.has_head(CANDIDATE_HEAD) || start.metadata().contains_key(Calibration::KEY)
        });
        ranked.then(CandidateHeadSpec::default)
    });
    RunFolder::check(out, recipe)?;
    let (weights, folder) = if recipe.stages.is_empty() {
        let Some(weights) = begin(recipe)? else {
            return Err(TrainError::setting("stages", "a new model needs some"));
        };
        (weights, RunFolder::open(out, recipe, 0)?)
    } else {
        let mut trainer = Trainer::new(recipe.clone(), out, device)?;
        let Some(model) = trainer.run(watcher, stop)? else {
            return Ok(None);
        };
        (Checkpoint::open(model)?, trainer.into_folder())
    };
    let mut heads = Vec::new();
    if let Some(spec) = head {
        let segmenter = tensors::load(&weights, device)?;
        let segmenter = segmenter.with_candidate_head(None).with_calibration(None);
        let answers = out.join(ANSWERS);
        let trained = train_candidate_head(&segmenter, recipe, &spec, &answers, watcher, stop)?;
        let Some(head) = trained else {
            return Ok(None);
        };
        heads.push((CANDIDATE_HEAD, head.to_tensors()));
    }
    let model = folder.model();
    let metadata = metadata(recipe, out, start.as_ref())?;
    let weights = weights.with_metadata(Calibration::KEY, None);
    weights.convert_with(&model, None, &metadata, &heads)?;
    Ok(Some(model))
}

/// The checkpoint that the recipe begins with.
fn begin(recipe: &Recipe) -> Result<Option<Checkpoint>, TrainError> {
    match &recipe.model {
        Start::Checkpoint(path) => {
            let opened = Checkpoint::open(path);
            let opened = opened.map_err(|e| TrainError::setting("model.checkpoint", &e))?;
            Ok(Some(opened))
        }
        Start::Embedded => prepare::embedded_checkpoint().map(Some),
        Start::Random(_) => Ok(None),
    }
}

/// What travels with the finished model: its name and the thresholds of segment-everything.
fn metadata(
    recipe: &Recipe,
    out: &Path,
    start: Option<&Checkpoint>,
) -> Result<Vec<(&'static str, String)>, TrainError> {
    let folder = || Some(out.file_name()?.to_string_lossy().into_owned());
    let name = recipe.name.clone().or_else(folder);
    let mut metadata: Vec<_> = name
        .map(|name| (Segmenter::NAME_KEY, name))
        .into_iter()
        .collect();
    let of_start = start.map(MaskThresholds::of_checkpoint).transpose()?;
    if let Some(thresholds) = recipe.everything.or(of_start.flatten()) {
        metadata.push((
            MaskThresholds::KEY,
            thresholds.to_json().map_err(samara::Error::from)?,
        ));
    }
    Ok(metadata)
}
