//! `AdamW` over groups of parameters, each with its learning rate and weight decay.

use burn_optim::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn_optim::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use burn_optim::{AdamWConfig, GradientsParams, LearningRate, ModuleOptimizer};
use samara_model::Model;
use samara_model::burn::module::ParamGroup;
use samara_model::burn::tensor::Bytes;

use crate::TrainError;
use crate::groups::Groups;
use crate::recipe::OptimizerSpec;

/// The optimizer of a run.
pub struct Optimizer {
    inner: ModuleOptimizer,
    /// Parameters that learn at the same rate, and the factor of the rate.
    rates: Vec<(f64, ParamGroup)>,
}

impl Optimizer {
    /// An optimizer for the parameters of `groups`.
    pub fn new(spec: &OptimizerSpec, groups: &Groups) -> Self {
        let adamw = |decay: f64| {
            AdamWConfig::new()
                .with_beta_1(spec.betas[0] as f32)
                .with_beta_2(spec.betas[1] as f32)
                .with_epsilon(1e-8)
                .with_weight_decay(decay as f32)
        };
        let spared = ParamGroup::from_ids(groups.spared());
        let inner = adamw(spec.weight_decay).init();
        let inner = inner.with_group(spared, adamw(0.0).build(), None);
        let rates = groups.by_rate().into_iter();
        let rates = rates.filter(|(rate, _)| *rate != 1.0);
        let rates = rates.map(|(rate, ids)| (rate, ParamGroup::from_ids(ids)));
        Self {
            inner,
            rates: rates.collect(),
        }
    }

    /// Updates `model` at the learning rate `lr`. Parameters without a gradient stay as they are.
    pub fn step(&mut self, lr: f64, model: Model, gradients: GradientsParams) -> Model {
        let mut scheduler = ModuleLrScheduler::new(Fixed(lr));
        for (rate, group) in &self.rates {
            scheduler = scheduler.with_group(group.clone(), Fixed(lr * rate));
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
