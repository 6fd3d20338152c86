//! AdamW over groups of parameters, each with its learning rate and weight decay.

use burn_optim::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn_optim::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use burn_optim::{AdamWConfig, GradientsParams, LearningRate, ModuleOptimizer};
use samara_model::Model;
use samara_model::burn::module::ParamGroup;
use samara_model::burn::tensor::Bytes;

use crate::TrainError;
use crate::parameters::parameters;
use crate::recipe::{GroupSpec, OptimizerSpec};

/// The optimizer of a run.
pub struct Optimizer {
    inner: ModuleOptimizer,
    /// Parameters that learn at the same rate: their paths and the factor of the rate.
    rates: Vec<(Vec<String>, f64)>,
}

impl Optimizer {
    /// An optimizer for the parameters of `model`.
    pub fn new(model: &Model, spec: &OptimizerSpec, groups: &[GroupSpec]) -> Self {
        let all = parameters(model);
        let adamw = |decay: f64| {
            AdamWConfig::new()
                .with_beta_1(spec.betas[0] as f32)
                .with_beta_2(spec.betas[1] as f32)
                .with_epsilon(1e-8)
                .with_weight_decay(decay as f32)
        };
        let spared = all.iter().filter(|p| p.rank == 1);
        let spared = spared.map(|p| p.module_path.clone());
        let inner = adamw(spec.weight_decay).init().with_group(
            ParamGroup::from_paths(spared.collect()),
            adamw(0.0).build(),
            None,
        );
        let blocks = block_count(all.iter().map(|p| p.path.as_str()));
        let mut rates: Vec<(Vec<String>, f64)> = Vec::new();
        for parameter in &all {
            let mut rate = 1.0;
            for group in groups {
                if parameter.path.starts_with(&group.prefix) {
                    rate = group.lr_scale;
                }
            }
            if let Some(decay) = spec.layer_decay {
                rate *= decay.powi(depth_from_top(&parameter.path, blocks));
            }
            match rates.iter_mut().find(|(_, known)| *known == rate) {
                Some((paths, _)) => paths.push(parameter.module_path.clone()),
                None => rates.push((vec![parameter.module_path.clone()], rate)),
            }
        }
        Self { inner, rates }
    }

    /// Updates `model` at the learning rate `lr`.
    pub fn step(&mut self, lr: f64, model: Model, gradients: GradientsParams) -> Model {
        let mut scheduler = ModuleLrScheduler::new(Fixed(lr));
        for (paths, rate) in &self.rates {
            if *rate != 1.0 {
                let group = ParamGroup::from_paths(paths.clone());
                scheduler = scheduler.with_group(group, Fixed(lr * rate));
            }
        }
        self.inner.step(scheduler.step(), model, gradients)
    }

    /// The state, to be written to a checkpoint.
    ///
    /// # Errors
    /// The state cannot be encoded.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrainError> {
        let bytes = self.inner.into_bytes();
        let bytes = bytes.map_err(|e| TrainError::State(format!("optimizer: {e}")))?;
        Ok(bytes.to_vec())
    }

    /// Takes a state over.
    ///
    /// # Errors
    /// The bytes are no state of this optimizer.
    pub fn restore(mut self, bytes: Vec<u8>) -> Result<Self, TrainError> {
        let inner = self.inner.from_bytes(Bytes::from_bytes_vec(bytes));
        self.inner = inner.map_err(|e| TrainError::State(format!("optimizer: {e}")))?;
        Ok(self)
    }
}

/// A learning rate that someone else has computed.
#[derive(Clone)]
struct Fixed(f64);

impl LrScheduler for Fixed {
    fn step(&mut self) -> LearningRate {
        self.0
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new()
    }

    fn load_record(&mut self, _: LrSchedulerRecord) {}
}

/// The index after `image_encoder.blocks.`, of SAM's ViT.
fn block(path: &str) -> Option<i32> {
    let (_, rest) = path.split_once("image_encoder.")?;
    let (_, rest) = rest.split_once("blocks.")?;
    rest.split('.').next()?.parse().ok()
}

fn block_count<'a>(paths: impl Iterator<Item = &'a str>) -> i32 {
    paths.filter_map(block).max().map_or(0, |last| last + 1)
}

/// Blocks between a parameter and the top of the encoder: 0 outside of the encoder and in its
/// neck, the number of blocks plus one in the patch embedding.
fn depth_from_top(path: &str, blocks: i32) -> i32 {
    match block(path) {
        Some(index) => blocks - index,
        None if path.contains("image_encoder.") && !path.contains(".neck.") => blocks + 1,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_decay_counts_from_the_top() {
        let depth = |path| depth_from_top(path, 12);
        assert_eq!(depth("image_encoder.ViT.blocks.11.norm1.gamma"), 1);
        assert_eq!(depth("image_encoder.blocks.0.norm1.gamma"), 12);
        assert_eq!(depth("image_encoder.pos_embed"), 13);
        assert_eq!(depth("image_encoder.neck.conv1.weight"), 0);
        assert_eq!(depth("mask_decoder.iou_token.weight"), 0);
        assert_eq!(
            block_count(["image_encoder.blocks.3.x", "y"].into_iter()),
            4
        );
    }
}
