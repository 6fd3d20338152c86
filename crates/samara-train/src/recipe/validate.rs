//! What a recipe's values may be.

use super::{OptimizerSpec, Recipe, Stage};
use crate::losses::{LossConfig, LossWeights};

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
        at_least_one("checkpoint_every", self.checkpoint_every)?;
        if let Some(validation) = &self.validation {
            at_least_one("validation.every", validation.every)?;
            at_least_one("validation.examples", validation.examples as u64)?;
            if validation.data.is_empty() {
                return Err("validation.data is empty".into());
            }
        }
        Ok(())
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
        at_least_one("steps", self.steps)?;
        at_least_one("masks_per_image", self.masks_per_image as u64)?;
        at_least_one("images_per_step", self.images_per_step as u64)?;
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

fn at_least_one(key: &str, value: u64) -> Result<(), String> {
    if value > 0 {
        return Ok(());
    }
    Err(format!("{key} = 0, expected at least 1"))
}
