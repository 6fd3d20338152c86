//! Layer norms.

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::nn::LayerNorm;
use burn::tensor::Tensor;
use samara_kernels::layer_norm::Norm;

use super::observed::observe;
use super::values::Values;
#[cfg(feature = "flex")]
use super::{backend::is_cpu, fused};

/// A layer norm, and its epsilon, which the layer does not tell.
pub type NormLayer<'a> = (&'a LayerNorm, f64);

/// The epsilon of PyTorch's layer norm, and of Burn's.
pub const LAYER_NORM_EPSILON: f64 = 1e-5;

/// Layer norm over the last axis, any rank. `epsilon` must be the layer's own, which it does not
/// tell.
pub fn layer_norm<const D: usize>(x: Tensor<D>, layer: &LayerNorm, epsilon: f64) -> Tensor<D> {
    let normed = match &layer.beta {
        Some(beta) => normalise(x, layer.gamma.val(), beta.val(), epsilon),
        None => layer.forward(x),
    };
    observe(layer, || normed.clone());
    normed
}

/// `(x − mean) / √(variance + epsilon) · gamma + beta` over the last axis.
pub fn normalise<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if is_cpu(&x.device()) {
        let y = <Dispatch as fused::FusedOps>::fused_layer_norm(
            x.into_dispatch(),
            gamma.into_dispatch(),
            beta.into_dispatch(),
            epsilon,
        );
        return Tensor::from_dispatch(y);
    }
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = (centred.clone() * centred.clone()).mean_dim(D - 1);
    centred / (variance + epsilon).sqrt() * gamma.unsqueeze() + beta.unsqueeze()
}

/// The parameters of a layer norm as slices.
pub(super) struct NormValues {
    gamma: Values,
    beta: Values,
    epsilon: f32,
}

impl NormValues {
    pub(super) fn of((norm, epsilon): NormLayer<'_>) -> Option<Self> {
        Some(Self {
            gamma: Values::of(norm.gamma.val())?,
            beta: Values::of(norm.beta.as_ref()?.val())?,
            epsilon: epsilon as f32,
        })
    }

    pub(super) fn of_tensors(gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Option<Self> {
        Some(Self {
            gamma: Values::of(gamma)?,
            beta: Values::of(beta)?,
            epsilon: epsilon as f32,
        })
    }

    pub(super) fn norm(&self) -> Norm<'_> {
        Norm {
            gamma: self.gamma.as_slice(),
            beta: self.beta.as_slice(),
            epsilon: self.epsilon,
        }
    }
}
