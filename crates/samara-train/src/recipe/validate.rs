//! What a recipe's values may be.

use std::path::{Component, Path, PathBuf};

use samara_data::DataSpec;

use super::{OptimizerSpec, Recipe, Stage};
use crate::losses::{LossConfig, LossWeights};

/// More optimizer steps than any machine makes.
const STEPS: u64 = 100_000_000;
/// Images whose gradients are held at the same time.
const IMAGES_PER_STEP: u64 = 4096;
/// Objects of an image.
const MASKS: u64 = 1000;
/// Examples that are held for validation.
const EXAMPLES: u64 = 100_000;

impl Recipe {
    /// Says what is wrong with the first value that is out of range, beginning with its key.
    pub(super) fn validate(&self) -> Result<(), String> {
        self.optimizer.validate()?;
        self.losses.validate()?;
        if let Some(ema) = self.ema {
            above("ema", ema, 0.0, 0.999_999)?;
        }
        if let Some(share) = self.blend {
            above("blend", share, 0.0, 1.0)?;
        }
        within("ambiguous_clicks", self.ambiguous_clicks, 0.0, 1.0)?;
        for (i, group) in self.groups.iter().enumerate() {
            let key = format!("groups[{i}].lr_scale");
            within(&key, group.lr_scale, 0.0, 100.0)?;
        }
        if self.data.is_empty() {
            return Err("data is empty".into());
        }
        check_data("data", &self.data)?;
        if let Some(name) = &self.name {
            check_name(name)?;
        }
        self.check_cache()?;
        if self.stages.is_empty() && self.candidate_head.is_none() {
            return Err("there are neither stages nor a candidate_head to train".into());
        }
        if let Some(thresholds) = &self.everything {
            let valid = thresholds.check();
            valid.map_err(|why| format!("everything.{why}"))?;
        }
        if let Some(head) = &self.candidate_head {
            let valid = head.validate();
            valid.map_err(|why| format!("candidate_head.{why}"))?;
        }
        for (i, stage) in self.stages.iter().enumerate() {
            stage
                .validate()
                .map_err(|why| format!("stages[{i}].{why}"))?;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for (key, count) in [("workers", self.workers), ("replicas", self.replicas)] {
            if count == 0 || count > cores {
                return Err(format!(
                    "{key} = {count}, but this machine has 1 to {cores} cores to give"
                ));
            }
        }
        let steps = self.stages.iter().map(|stage| stage.steps);
        let steps = steps.fold(0, u64::saturating_add);
        if steps > STEPS {
            return Err(format!(
                "the steps of all stages are {steps}, and at most {STEPS} are possible"
            ));
        }
        count("checkpoint_every", self.checkpoint_every, STEPS)?;
        if let Some(validation) = &self.validation {
            count("validation.every", validation.every, STEPS)?;
            count("validation.examples", validation.examples as u64, EXAMPLES)?;
            if validation.data.is_empty() {
                return Err("validation.data is empty".into());
            }
            check_data("validation.data", &validation.data)?;
        }
        Ok(())
    }

    /// A cache beside the images of a data set would be taken for a part of it.
    fn check_cache(&self) -> Result<(), String> {
        let Some(cache) = &self.embedding_cache else {
            return Ok(());
        };
        let validation = self.validation.iter().flat_map(|v| &v.data);
        for data in self.data.iter().chain(validation) {
            let folder = data.path.is_dir().then_some(&data.path);
            let inside = |folder: &&PathBuf| plain(cache).starts_with(plain(folder));
            if let Some(folder) = folder.into_iter().chain(&data.images).find(inside) {
                return Err(format!(
                    "embedding_cache = {} lies inside of the data set {}; name a folder elsewhere",
                    cache.display(),
                    folder.display()
                ));
            }
        }
        Ok(())
    }
}

/// Checks data sets, naming the one that is wrong by its place in the list `key`.
fn check_data(key: &str, data: &[DataSpec]) -> Result<(), String> {
    for (i, spec) in data.iter().enumerate() {
        let valid = spec.check();
        valid.map_err(|why| format!("{key}[{i}].{why}"))?;
    }
    Ok(())
}

/// A model's name is shown, and may become the name of a file.
fn check_name(name: &str) -> Result<(), String> {
    let mut parts = Path::new(name).components();
    let is_file = matches!(parts.next(), Some(Component::Normal(part)) if part == name);
    if is_file && !name.contains('\\') && !name.contains(char::is_control) {
        return Ok(());
    }
    Err(format!(
        "name = {name:?} is not the name of a model: it has no folders in it"
    ))
}

/// A path without `.` and `..`, of the real folder where that exists.
fn plain(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (path.parent(), path.components().next_back()) {
        (Some(above), Some(Component::Normal(name))) => plain(above).join(name),
        (Some(above), Some(Component::ParentDir)) => plain(above)
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default(),
        _ => path.to_owned(),
    }
}

impl OptimizerSpec {
    fn validate(&self) -> Result<(), String> {
        // The learning rate of a mistake is large enough to be noticed in the loss.
        above("optimizer.lr", self.lr, 0.0, 1e6)?;
        within("optimizer.weight_decay", self.weight_decay, 0.0, 1.0)?;
        for beta in self.betas {
            above("optimizer.betas", beta, 0.0, 0.999_999)?;
        }
        if self.warmup > STEPS {
            let warmup = self.warmup;
            return Err(format!(
                "optimizer.warmup = {warmup} is not from 0 to {STEPS}"
            ));
        }
        if let Some(norm) = self.clip_norm {
            above("optimizer.clip_norm", norm, 0.0, 1e6)?;
        }
        if let Some(decay) = self.layer_decay {
            above("optimizer.layer_decay", decay, 0.0, 1.0)?;
        }
        Ok(())
    }
}

impl Stage {
    fn validate(&self) -> Result<(), String> {
        count("steps", self.steps, STEPS)?;
        count("masks_per_image", self.masks_per_image as u64, MASKS)?;
        count(
            "images_per_step",
            self.images_per_step as u64,
            IMAGES_PER_STEP,
        )?;
        let [least, most] = self.rounds;
        if least == 0 || least > most || most > 64 {
            return Err(format!(
                "rounds = [{least}, {most}] is not two rising numbers from 1 to 64"
            ));
        }
        if let Some([least, most]) = self.scale
            && !(0.05 <= least && least <= most && most <= 20.0)
        {
            return Err(format!(
                "scale = [{least}, {most}] is not two rising numbers from 0.05 to 20"
            ));
        }
        Ok(())
    }
}

impl LossConfig {
    fn validate(&self) -> Result<(), String> {
        let LossWeights {
            focal,
            dice,
            iou,
            iou_ranking,
            object_score,
            retention,
            checkerboard,
        } = self.weights;
        for (key, weight) in [
            ("focal", focal),
            ("dice", dice),
            ("iou", iou),
            ("iou_ranking", iou_ranking),
            ("object_score", object_score),
            ("retention", retention),
            ("checkerboard", checkerboard),
        ] {
            within(&format!("losses.weights.{key}"), weight.into(), 0.0, 1e6)?;
        }
        within("losses.relaxation", self.relaxation, 0.0, 1.0)?;
        if focal + dice + iou + iou_ranking + object_score == 0.0 {
            return Err("losses.weights are all 0".into());
        }
        if retention > 0.0 && focal + dice == 0.0 {
            return Err("losses.weights.retention needs focal or dice, which it is made of".into());
        }
        if retention > 0.0 && self.relaxation > 0.0 {
            return Err(
                "losses.relaxation and losses.weights.retention teach the same candidates: one is 0"
                    .into(),
            );
        }
        Ok(())
    }
}

fn above(key: &str, value: f64, low: f64, high: f64) -> Result<(), String> {
    if value > low && value <= high {
        return Ok(());
    }
    Err(format!(
        "{key} = {value} is not above {low} and at most {high}"
    ))
}

fn within(key: &str, value: f64, low: f64, high: f64) -> Result<(), String> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(format!("{key} = {value} is not from {low} to {high}"))
}

fn count(key: &str, value: u64, most: u64) -> Result<(), String> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{key} = {value} is not from 1 to {most}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::text;
    use super::*;

    #[test]
    fn cached_features_lie_outside_of_the_data() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::create_dir_all(folder.path().join("images/deep")).unwrap();
        let read = |cache: &str| {
            std::fs::write(&path, text(&format!("embedding_cache = '{cache}'"))).unwrap();
            Recipe::read(&path).map_err(|error| error.to_string())
        };
        for inside in [
            "images",
            "images/deep/new",
            "images/../images/new",
            "new/../images/a",
        ] {
            let error = read(inside).unwrap_err();
            assert!(
                error.contains("embedding_cache = ") && error.contains("inside"),
                "{error}"
            );
        }
        for outside in ["images2", "cache/images", "images/../cache"] {
            read(outside).unwrap();
        }
    }
}
