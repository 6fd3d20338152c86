//! The folder of a training run.
//!
//! ```text
//! OUT/recipe.toml                  the recipe, with defaults written out
//! OUT/log.jsonl                    one line per step and per validation
//! OUT/checkpoint-00000200/         weights, average, optimizer state; the last two are kept
//! OUT/model.safetensors            the finished model
//! ```
//!
//! A checkpoint is written under another name and renamed when it is complete, so a process that
//! is killed at any moment leaves the previous one.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::TrainError;
use crate::recipe::Recipe;
use crate::step::StepMetrics;
use crate::trainer::StepReport;

/// Checkpoints that are kept.
const KEEP: usize = 2;
const PREFIX: &str = "checkpoint-";

/// A run's folder.
pub(crate) struct RunFolder {
    path: PathBuf,
    log: File,
}

/// The files of the last checkpoint.
pub(crate) struct Saved {
    pub(crate) model: PathBuf,
    pub(crate) average: Option<PathBuf>,
    pub(crate) step: u64,
    pub(crate) optimizer: Vec<u8>,
}

impl RunFolder {
    pub(crate) const WEIGHTS: &str = "weights.safetensors";
    pub(crate) const AVERAGE: &str = "average.safetensors";
    pub(crate) const OPTIMIZER: &str = "optimizer.bin";

    /// Opens or makes the folder. A run that is there must have the same recipe.
    pub(crate) fn open(path: &Path, recipe: &Recipe) -> Result<(Self, Option<Saved>), TrainError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |e: std::io::Error| TrainError::State(format!("{}: {e}", path.display()))
        };
        fs::create_dir_all(path).map_err(at(path))?;
        let text = toml::to_string(recipe).map_err(|e| TrainError::State(e.to_string()))?;
        let known = path.join("recipe.toml");
        match fs::read_to_string(&known) {
            Ok(there) if there != text => {
                return Err(TrainError::State(format!(
                    "{}: the run there has another recipe; choose another folder or remove it",
                    path.display()
                )));
            }
            Ok(_) => {}
            Err(_) => samara_image::write_atomic(&known, text.as_bytes())?,
        }
        let saved = last_checkpoint(path).map_err(at(path))?;
        let log = path.join("log.jsonl");
        cut_log(&log, saved.as_ref().map_or(0, |saved| saved.step)).map_err(at(&log))?;
        let log_file = OpenOptions::new().create(true).append(true).open(&log);
        let folder = Self {
            path: path.into(),
            log: log_file.map_err(at(&log))?,
        };
        Ok((folder, saved))
    }

    /// Where the finished model is written.
    pub(crate) fn model(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }

    /// Adds a step to the log.
    pub(crate) fn log(&self, report: &StepReport) -> Result<(), TrainError> {
        self.line(report)
    }

    /// Adds a validation to the log.
    pub(crate) fn log_validation(
        &self,
        step: u64,
        metrics: &StepMetrics,
    ) -> Result<(), TrainError> {
        #[derive(Serialize)]
        struct Line<'a> {
            step: u64,
            validation: &'a StepMetrics,
        }
        self.line(&Line {
            step,
            validation: metrics,
        })
    }

    fn line(&self, value: &impl Serialize) -> Result<(), TrainError> {
        let mut line = serde_json::to_vec(value).map_err(|e| TrainError::State(e.to_string()))?;
        line.push(b'\n');
        let failed = |e| TrainError::State(format!("{}: {e}", self.path.display()));
        (&self.log).write_all(&line).map_err(failed)
    }

    /// Writes the checkpoint of `step`; `fill` writes its files.
    pub(crate) fn save(
        &self,
        step: u64,
        fill: impl FnOnce(&Path) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let target = self.path.join(format!("{PREFIX}{step:08}"));
        if target.exists() {
            return Ok(());
        }
        let failed = |e| TrainError::State(format!("{}: {e}", target.display()));
        let building = self.path.join(".checkpoint");
        if building.exists() {
            fs::remove_dir_all(&building).map_err(failed)?;
        }
        fs::create_dir(&building).map_err(failed)?;
        fill(&building)?;
        fs::rename(&building, &target).map_err(failed)?;
        let all = checkpoints(&self.path).map_err(failed)?;
        for (_, old) in all.iter().rev().skip(KEEP) {
            fs::remove_dir_all(old).map_err(failed)?;
        }
        Ok(())
    }
}

/// Complete checkpoints by step.
fn checkpoints(path: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let step = name.and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        found.extend(step.map(|step| (step, path)));
    }
    found.sort();
    Ok(found)
}

fn last_checkpoint(path: &Path) -> std::io::Result<Option<Saved>> {
    let Some((step, folder)) = checkpoints(path)?.pop() else {
        return Ok(None);
    };
    let average = folder.join(RunFolder::AVERAGE);
    Ok(Some(Saved {
        model: folder.join(RunFolder::WEIGHTS),
        average: average.exists().then_some(average),
        step,
        optimizer: fs::read(folder.join(RunFolder::OPTIMIZER))?,
    }))
}

/// Removes what the log says about steps after `step`, and a half-written last line.
fn cut_log(path: &Path, step: u64) -> std::io::Result<()> {
    let Ok(file) = File::open(path) else {
        return Ok(());
    };
    let mut kept = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line?;
        let known = serde_json::from_str::<serde_json::Value>(&line).ok();
        let of = known.and_then(|value| value.get("step")?.as_u64());
        if of.is_some_and(|of| of <= step) {
            kept.extend_from_slice(line.as_bytes());
            kept.push(b'\n');
        }
    }
    fs::write(path, kept)
}
