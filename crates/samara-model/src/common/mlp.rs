//! The feed-forward block of a transformer layer.

use burn::config::Config;
use burn::module::Module;

use burn::tensor::{Device, Tensor};

use crate::ops::{self, Activation, Linear, NormLayer};

/// Configuration of [`MlpBlock`].
#[derive(Config, Debug)]
pub struct MlpBlockConfig {
    /// Width of input and output.
    pub embedding_dim: usize,
    /// Width of the hidden layer.
    pub mlp_dim: usize,
}

impl MlpBlockConfig {
    /// A block whose hidden layer ends in `activation`.
    pub fn init(&self, activation: Activation, device: &Device) -> MlpBlock {
        MlpBlock {
            lin1: Linear::new(self.embedding_dim, self.mlp_dim, device),
            lin2: Linear::new(self.mlp_dim, self.embedding_dim, device),
            activation,
        }
    }
}

/// Two linear layers with an activation between them.
#[derive(Module, Debug)]
pub struct MlpBlock {
    lin1: Linear,
    lin2: Linear,
    #[module(skip)]
    activation: Activation,
}

impl MlpBlock {
    /// `[.., embedding_dim]` → the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let hidden = ops::linear(x, &self.lin1, self.activation);
        ops::linear(hidden, &self.lin2, Activation::Identity)
    }

    /// `x + forward(norm(x))`.
    pub fn forward_of_norm<const D: usize>(&self, x: Tensor<D>, norm: NormLayer<'_>) -> Tensor<D> {
        let layers = [&self.lin1, &self.lin2];
        ops::feed_forward(x.clone(), norm, layers, self.activation, x)
    }
}
