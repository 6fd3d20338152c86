//! The folder of a training run.
//!
//! ```text
//! OUT/recipe.toml                  the recipe, with defaults written out
//! OUT/log.jsonl                    one line per step and per validation
//! OUT/curves.svg                   the log as an image
//! OUT/checkpoint-00000200/         weights, average, optimizer state and their checksums; the last two are kept
//! OUT/model.safetensors            the finished model
//! ```
//!
//! The log is cut to the step of the checkpoint when a run resumes, so that it has every step once.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use samara_image::FolderLock;
use serde::Serialize;
use serde_json::Value;

use crate::TrainError;
use crate::checkpoints::{self, Saved};
use crate::curves;
use crate::recipe::Recipe;
use crate::step::StepMetrics;
use crate::step::StepReport;

const RECIPE: &str = "recipe.toml";
const LOG: &str = "log.jsonl";

/// A run's folder.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    log: File,
    _lock: FolderLock,
}

impl RunFolder {
    pub(crate) const MODEL: &str = "model.safetensors";

    /// Looks whether a run with this recipe may be made there, without changing anything.
    ///
    /// # Errors
    /// The run that is there has another recipe.
    pub(crate) fn check(path: &Path, recipe: &Recipe) -> Result<(), TrainError> {
        let known = path.join(RECIPE);
        if let Ok(there) = fs::read_to_string(&known)
            && let Some(key) = difference(&there, recipe)?
        {
            let why = format!(
                "the run there has another recipe ({key} differs); choose another folder or \
                 remove this one"
            );
            return Err(TrainError::file(path, &why));
        }
        Ok(())
    }

    /// Looks for the last checkpoint that is whole, without changing anything.
    ///
    /// # Errors
    /// The run that is there has another recipe, or none of its checkpoints is whole.
    pub(crate) fn look(path: &Path, recipe: &Recipe) -> Result<Option<Saved>, TrainError> {
        if !path.exists() {
            return Ok(None);
        }
        Self::check(path, recipe)?;
        let saved = checkpoints::last(path)?;
        let known = path.join(RECIPE);
        if saved.is_some() && !known.exists() {
            return Err(TrainError::file(known, "is missing beside checkpoints"));
        }
        Ok(saved)
    }

    /// Opens or makes the folder for a run that resumes after `step`, and removes what is there of later steps.
    ///
    /// # Errors
    /// Another process trains there, or a file cannot be written.
    pub(crate) fn open(path: &Path, recipe: &Recipe, step: u64) -> Result<Self, TrainError> {
        let lock = FolderLock::acquire(path).map_err(|e| TrainError::file(path, &e))?;
        let known = path.join(RECIPE);
        if !known.exists() {
            samara_image::write_atomic(&known, text(recipe)?.as_bytes())?;
        }
        checkpoints::remove_after(path, step).map_err(|e| TrainError::file(path, &e))?;
        let log = path.join(LOG);
        cut_log(&log, step)?;
        let file = OpenOptions::new().create(true).append(true).open(&log);
        Ok(Self {
            path: path.into(),
            log: file.map_err(|e| TrainError::file(&log, &e))?,
            _lock: lock,
        })
    }

    /// Where the finished model is written.
    pub(crate) fn model(&self) -> PathBuf {
        self.path.join(Self::MODEL)
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
        let failed = |e| TrainError::file(self.path.join(LOG), &e);
        (&self.log).write_all(&line).map_err(failed)
    }

    /// Draws the log.
    pub(crate) fn draw(&self) -> Result<(), TrainError> {
        let log = self.path.join(LOG);
        let log = fs::read_to_string(&log).map_err(|e| TrainError::file(&log, &e))?;
        let chart = self.path.join("curves.svg");
        let svg = curves::draw(&log).map_err(|e| TrainError::file(&chart, &e))?;
        Ok(samara_image::write_atomic(chart, svg.as_bytes())?)
    }

    /// Whether the validation after `step` is in the log.
    pub(crate) fn is_validated(&self, step: u64) -> bool {
        let log = fs::read_to_string(self.path.join(LOG)).unwrap_or_default();
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.any(|line| line["step"] == step && line.get("validation").is_some())
    }

    /// Writes the checkpoint of `step`, once the disk has the log up to it; `fill` writes its files.
    pub(crate) fn save(
        &self,
        step: u64,
        fill: impl FnOnce(&Path) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let failed = |e| TrainError::file(self.path.join(LOG), &e);
        self.log.sync_data().map_err(failed)?;
        checkpoints::save(&self.path, step, fill)
    }
}

fn text(recipe: &Recipe) -> Result<String, TrainError> {
    toml::to_string(recipe).map_err(|e| TrainError::State(e.to_string()))
}

/// The first key in which a recipe differs from the one that was written as `there`. Paths to the
/// same file or folder do not differ.
fn difference(there: &str, recipe: &Recipe) -> Result<Option<String>, TrainError> {
    let resolved = |mut recipe: Recipe| {
        recipe.paths(|path| {
            if let Ok(there) = fs::canonicalize(&*path) {
                *path = there;
            }
        });
        text(&recipe)
    };
    let here = resolved(recipe.clone())?;
    // Read and written, so that a key that is new since then has its default.
    let there = match toml::from_str(there) {
        Ok(there) => resolved(there)?,
        Err(_) => return Ok(Some("a key".into())),
    };
    if there == here {
        return Ok(None);
    }
    let value = |text: &str| toml::from_str::<toml::Value>(text).ok();
    let key = value(&there).zip(value(&here));
    let key = key.and_then(|(a, b)| first_difference(&a, &b));
    Ok(Some(key.unwrap_or_else(|| "a key".into())))
}

fn first_difference(a: &toml::Value, b: &toml::Value) -> Option<String> {
    let join = |key: &str, rest: String| match rest.as_str() {
        "" => key.to_owned(),
        rest if rest.starts_with('[') => format!("{key}{rest}"),
        rest => format!("{key}.{rest}"),
    };
    match (a, b) {
        (toml::Value::Table(a), toml::Value::Table(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            let mut different = keys.filter_map(|key| match (a.get(key), b.get(key)) {
                (Some(a), Some(b)) => first_difference(a, b).map(|rest| join(key, rest)),
                _ => Some(key.clone()),
            });
            different.next()
        }
        (toml::Value::Array(a), toml::Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(i, (a, b))| {
                first_difference(a, b).map(|rest| join(&format!("[{i}]"), rest))
            })
        }
        _ => (a != b).then(String::new),
    }
}

/// Removes what the log says about steps after `step`, and a half-written last line.
fn cut_log(path: &Path, step: u64) -> Result<(), TrainError> {
    let Ok(log) = fs::read(path) else {
        return Ok(());
    };
    let mut kept = Vec::with_capacity(log.len());
    for line in log.split_inclusive(|&byte| byte == b'\n') {
        let known = serde_json::from_slice::<Value>(line).ok();
        let of = known.and_then(|value| value.get("step")?.as_u64());
        if line.ends_with(b"\n") && of.is_some_and(|of| of <= step) {
            kept.extend_from_slice(line);
        }
    }
    if kept != log {
        samara_image::write_atomic(path, &kept)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::testing::{recipe, text};

    fn parsed(text: &str) -> Recipe {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_folder_has_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::open(folder.path(), &recipe(""), 0).unwrap();
        let error = RunFolder::open(folder.path(), &recipe(""), 0).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        drop(run);
        RunFolder::open(folder.path(), &recipe(""), 0).unwrap();
    }

    #[test]
    fn another_recipe_is_refused_with_the_key() {
        let folder = tempfile::tempdir().unwrap();
        drop(RunFolder::open(folder.path(), &recipe(""), 0).unwrap());
        RunFolder::look(folder.path(), &recipe("")).unwrap();
        for (from, to, key) in [
            ("lr = 0.001", "lr = 0.002", "optimizer.lr"),
            ("rounds = [1, 2]", "rounds = [1, 3]", "stages[0].rounds[1]"),
            ("path = 'images'", "path = 'p'\nsplit = 'a'", "data[0].path"),
        ] {
            let other = parsed(&text("").replace(from, to));
            let error = RunFolder::look(folder.path(), &other)
                .unwrap_err()
                .to_string();
            assert!(error.contains(&format!("({key} differs)")), "{error}");
        }
        let error = RunFolder::look(folder.path(), &parsed(&text("ema = 0.5"))).unwrap_err();
        assert!(error.to_string().contains("(ema differs)"), "{error}");
    }

    #[test]
    fn the_same_place_by_another_path_is_no_difference() {
        let folder = tempfile::tempdir().unwrap();
        let of = |path: &str| {
            let path = folder.path().join(path);
            let path = format!("path = '{}'", path.display());
            parsed(&text("").replace("path = 'images'", &path))
        };
        for name in ["images", "inner", "others"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let run = folder.path().join("run");
        drop(RunFolder::open(&run, &of("images"), 0).unwrap());
        RunFolder::look(&run, &of("inner/../images")).unwrap();
        let error = RunFolder::look(&run, &of("others")).unwrap_err();
        assert!(error.to_string().contains("(data[0].path differs)"));
    }

    #[test]
    fn the_log_is_cut_to_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join(LOG);
        let kept = "{\"step\":1,\"loss\":null}\n{\"step\":2}\n{\"step\":2,\"validation\":{}}\n";
        let rest = "{\"step\":3}\nnonsense\n{\"step\":1";
        fs::write(&log, format!("{kept}{rest}")).unwrap();
        cut_log(&log, 2).unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), kept);
        cut_log(&log, 0).unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "");
        cut_log(&folder.path().join("none"), 0).unwrap();
    }
}
